package voice;

import module java.base;
import com.openai.client.okhttp.OkHttpClient;
import com.openai.core.ClientOptions;
import com.openai.core.Timeout;
import com.openai.helpers.RealtimeConnection;
import com.openai.helpers.RealtimeWebSocketOptions;
import com.openai.models.realtime.RealtimeError;
import com.openai.models.realtime.RealtimeServerEvent;

/// Which [OpenAI Realtime](https://developers.openai.com/api/docs/guides/realtime) model talks, and
/// whose account pays. All calls of the process share one Model. Each call opens a Realtime on it.
/// When the program starts, start.Checks calls `check`, to find wrong settings before the first
/// call does. A Model also knows which setting to look at when the service refuses something.
///
/// What is not done here: a Model holds no connection. It is a small file of its own, because Agent
/// names it: when Java starts from source, it compiles the whole file of each class that it meets.
public final class Model {
    static final Duration CONNECTING = Duration.ofSeconds(3);

    private static final int MOST_WORDS = 300;              // characters of a refusal

    final ClientOptions client;
    final String name;
    final String voice;
    final String transcription;
    private final String key;

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
        this.key = key;
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

    /// What an error says, in one line for the log, with the setting to look at if one is known.
    String said(RealtimeError error) {
        return said("", error);
    }

    private String said(String status, RealtimeError error) {
        String code = error._code().asKnown().or(error._type()::asKnown).orElse("");
        String setting = setting(status, error);
        // Some services quote the key, whole or with stars in it.
        String words = Log.cut(error._message().asKnown().orElse("").replace(key, "**"),
                MOST_WORDS).replaceAll("\\S*\\*\\*\\S*", "..");
        return Stream.of(status, Log.foreign(Log.cut(code, MOST_WORDS)),
                setting.isEmpty() ? "" : "(check " + setting + ")").filter(each -> !each.isEmpty())
                .collect(Collectors.joining(" "))
                + (words.isEmpty() ? "" : ": " + Log.foreign(words));
    }

    /// Which setting is wrong, so that a second attempt is of no use. Empty if none is known to be.
    static String setting(RealtimeError error) {
        return setting("", error);
    }

    private static String setting(String status, RealtimeError error) {
        String about = error._eventId().asKnown().or(error._param()::asKnown).orElse("");
        for (var update : Link.OPTIONAL_UPDATES.entrySet()) {
            if (about.contains(update.getKey())) {
                return update.getValue();
            }
        }
        String kind = String.join(" ", status, error._type().asKnown().orElse(""),
                error._code().asKnown().orElse(""));
        return has(kind, "insufficient_quota|billing|credit") ? "the account's credit"
                : has(kind, "model_not_found|invalid_model") ? "OPENAI_REALTIME_MODEL"
                : has(kind, "HTTP 40[13]|api_key|authentication") ? "OPENAI_API_KEY"
                : has(kind, "HTTP 404") ? "OPENAI_REALTIME_MODEL" : "";
    }

    private static boolean has(String text, String pattern) {
        return Pattern.compile(pattern).matcher(text).find();
    }
}
