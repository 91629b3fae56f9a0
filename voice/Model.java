package voice;

import module java.base;
import com.openai.client.okhttp.OkHttpClient;
import com.openai.core.ClientOptions;
import com.openai.core.Timeout;
import com.openai.helpers.RealtimeConnection;
import com.openai.helpers.RealtimeWebSocketOptions;
import com.openai.models.realtime.RealtimeServerEvent;

/// Which [OpenAI Realtime](https://developers.openai.com/api/docs/guides/realtime) model talks, and
/// whose account pays. All calls of the process share one Model. Each call opens a Realtime on it.
/// When the program starts, start.Checks calls `check`, to find wrong settings before the first
/// call does.
///
/// What is not done here: a Model holds no connection. It is a small file of its own, because Agent
/// names it: when Java starts from source, it compiles the whole file of each class that it meets.
public final class Model {
    static final Duration CONNECTING = Duration.ofSeconds(3);

    final ClientOptions client;
    final String name;
    final String voice;
    final String transcription;

    /// With a blank `voice`, the model speaks with its default voice. `transcription` names the
    /// model that writes down what the caller says. When it is blank, nobody writes that down.
    public Model(String key, String baseUrl, String name, String voice, String transcription) {
        var bounds = Timeout.builder().connect(CONNECTING).read(CONNECTING).build();
        this.client = ClientOptions.builder()
                .httpClient(OkHttpClient.builder().timeout(bounds).build()).timeout(bounds)
                .apiKey(key).baseUrl(baseUrl).build();
        this.name = name;
        this.voice = voice;
        this.transcription = transcription;
    }

    /// Connects as a call does, and closes the connection again. Returns null, or says why a call
    /// could not talk. Blocks, 10 s at most.
    public String check() throws InterruptedException {
        var result = new CompletableFuture<String>();
        var connected = new CompletableFuture<RealtimeConnection>();
        Thread checking = Thread.ofVirtual().name("check of the model").start(() -> {
            try (var c = connect()) {
                connected.complete(c);
                RealtimeServerEvent first = c.receive();
                result.complete(first.isError() ? hint(Log.foreign(
                        first.asError().error().message())) : null);
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

    /// Opens a new connection, a
    /// [WebSocket](https://developers.openai.com/api/docs/guides/realtime-websocket). Blocks for 3
    /// s at most.
    RealtimeConnection connect() throws Exception {
        return RealtimeConnection.connect(
                client, RealtimeWebSocketOptions.builder().model(name).build());
    }

    /// Why the connection failed, and, when this is known, which setting to look at.
    static String hint(String why) {
        return why + (why.contains("HTTP 401") ? "; check OPENAI_API_KEY" : "")
                + (why.contains("HTTP 404") ? "; check OPENAI_REALTIME_MODEL" : "");
    }
}
