package voice;

import module java.base;
import com.openai.client.okhttp.OkHttpClient;
import com.openai.core.ClientOptions;
import com.openai.core.Timeout;
import com.openai.helpers.RealtimeConnection;
import com.openai.helpers.RealtimeWebSocketOptions;
import com.openai.models.realtime.RealtimeServerEvent;

/// Which [OpenAI Realtime](https://platform.openai.com/docs/guides/realtime) model talks, and whose
/// account pays: one for all calls of the process. A call opens a Realtime on it; `check` tries it
/// at the start of the program.
///
/// It is a file of its own because Agent names it at once, and a start from source compiles whole
/// files.
public final class Model {
    static final Duration CONNECTING = Duration.ofSeconds(3);

    final ClientOptions client;
    final String name;
    final String voice;
    final String transcription;

    /// `voice` and `transcription` (a model) may be blank: the model's own voice; none.
    public Model(String key, String baseUrl, String name, String voice, String transcription) {
        var bounds = Timeout.builder().connect(CONNECTING).read(CONNECTING).build();
        this.client = ClientOptions.builder()
                .httpClient(OkHttpClient.builder().timeout(bounds).build()).timeout(bounds)
                .apiKey(key).baseUrl(baseUrl).build();
        this.name = name;
        this.voice = voice;
        this.transcription = transcription;
    }

    /// Connects as a call does and hangs up again: null, or why a call could not talk. Blocks,
    /// 10 s at most.
    public String check() throws InterruptedException {
        var result = new CompletableFuture<String>();
        var connected = new CompletableFuture<RealtimeConnection>();
        Thread checking = Thread.ofVirtual().name("check of the model").start(() -> {
            try (var c = connect()) {
                connected.complete(c);
                RealtimeServerEvent first = c.receive();
                result.complete(first.isError() ? hint(first.asError().error().message()) : null);
            } catch (Exception e) {
                result.complete(hint(Log.reason(e)));
            }
        });
        try {
            return result.get(10, TimeUnit.SECONDS);
        } catch (ExecutionException | TimeoutException e) {
            checking.interrupt();
            if (connected.isDone()) {
                connected.join().close();
            }
            return "no answer within 10 s";
        }
    }

    /// A new connection. Blocks, 3 s at most.
    RealtimeConnection connect() throws Exception {
        return RealtimeConnection.connect(
                client, RealtimeWebSocketOptions.builder().model(name).build());
    }

    /// Why it does not work, and the setting to look at.
    static String hint(String why) {
        return why + (why.contains("HTTP 401") ? "; check OPENAI_API_KEY" : "")
                + (why.contains("HTTP 404") ? "; check OPENAI_REALTIME_MODEL" : "");
    }
}
