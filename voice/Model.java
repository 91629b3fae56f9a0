package voice;

import module java.base;
import com.openai.client.okhttp.OkHttpClient;
import com.openai.core.ClientOptions;
import com.openai.core.Timeout;
import com.openai.helpers.RealtimeConnection;
import com.openai.helpers.RealtimeWebSocketOptions;
import com.openai.models.realtime.RealtimeError;
import com.openai.models.realtime.RealtimeServerEvent;
import com.openai.models.realtime.RealtimeSessionCreateRequest;
import okhttp3.Interceptor;
import okhttp3.Response;
import voice.Trouble.Fault;

/// Which [OpenAI Realtime](https://developers.openai.com/api/docs/guides/realtime) model talks, and
/// whose account pays. All calls of the process share one Model. Each call opens a Realtime on it.
/// When the program starts, start.Checks calls `check`, to find wrong settings before the first
/// call does. A Model also knows which setting to look at when the service refuses something.
///
/// What is not done here: a Model holds no connection.
public final class Model {
    static final Duration CONNECTING = Duration.ofSeconds(3);

    private static final Duration CHECK = Duration.ofSeconds(10);
    private static final Duration REFUSAL = Duration.ofSeconds(1);  // until its words are here
    private static final int MOST_REFUSAL = 10_000;         // bytes that are read of one
    private static final int MOST_WORDS = 300;              // characters of it
    private static final String SAMPLE_TOOL = """
            {"type":"function","name":"check","description":"Does nothing.",
            "parameters":{"type":"object","properties":{}}}""";

    final ClientOptions client;
    final String name;
    final String voice;
    final String transcription;
    final String turnDetection;
    final String noiseReduction;
    private final String key;

    /// The service has refused a connection.
    static final class Refused extends IOException {
        private static final long serialVersionUID = 1;

        final transient Fault fault;

        Refused(Fault fault) {
            super(fault.why());
            this.fault = fault;
        }
    }

    /// With a blank `voice`, the model speaks with its default voice. `transcription` names the
    /// model that writes down what the caller says. When it is blank, nobody writes that down.
    /// `turnDetection` is `server_vad` or `semantic_vad`
    /// (https://developers.openai.com/api/docs/guides/realtime-vad). `noiseReduction` is
    /// `near_field`, `far_field`, or blank for none.
    public Model(String key, String baseUrl, String name, String voice, String transcription,
            String turnDetection, String noiseReduction) {
        // With a timeout for writes, OkHttp would wake a thread for each piece of sound. Link
        // notices without it that the model takes nothing. A write ends when its connection is
        // closed.
        var bounds = Timeout.builder().connect(CONNECTING).read(CONNECTING).write(Duration.ZERO)
                .build();
        this.client = ClientOptions.builder()
                .httpClient(OkHttpClient.builder().timeout(bounds)
                        .addInterceptor(this::readRefusal).build())
                .timeout(bounds).apiKey(key).baseUrl(baseUrl).build();
        this.name = name;
        this.voice = voice;
        this.transcription = transcription;
        this.turnDetection = turnDetection;
        this.noiseReduction = noiseReduction;
        this.key = key;
    }

    /// Connects as a call does, sends what a call sends before the model speaks, and waits for the
    /// answers. Then it closes the connection again. Returns null, or all that is wrong, with the
    /// settings to look at. Blocks, 10 s at most.
    public String check() throws InterruptedException {
        Map<String, RealtimeSessionCreateRequest> unanswered = Collections.synchronizedMap(
                Link.updates(this, "This is a check.", List.of(SAMPLE_TOOL)));
        List<String> wrong = Collections.synchronizedList(new ArrayList<>());
        var connected = new CompletableFuture<RealtimeConnection>();
        Thread checking = Thread.ofVirtual().name("check of the model").start(() -> {
            try (var c = connect()) {
                connected.complete(c);
                for (var update : new LinkedHashMap<>(unanswered).entrySet()) {
                    Link.transmit(c, Link.update(update.getKey(), update.getValue()));
                }
                while (!unanswered.isEmpty()) {
                    answered(c.receive(), unanswered.keySet(), wrong);
                }
            } catch (Exception e) {
                wrong.add(Link.reason(e));
            }
        });
        boolean done = checking.join(CHECK);
        var all = new ArrayList<>(List.copyOf(wrong));
        if (!done) {
            all.add("no answer within " + CHECK.toSeconds() + " s to: "
                    + new LinkedHashMap<>(unanswered).keySet().stream().map(id ->
                            Link.OPTIONAL_UPDATES.getOrDefault(id, "the instructions and tools"))
                            .collect(Collectors.joining(", ")));
            checking.interrupt();
            if (connected.isDone()) {
                connected.join().close();
            }
        }
        return all.isEmpty() ? null : String.join("; ", all);
    }

    /// Takes an event of the service in a check. The answer to an update has no id, but updates are
    /// answered in their order. An error says which update it is about. If it names none, the
    /// service refuses all of them.
    private void answered(RealtimeServerEvent event, Set<String> unanswered, List<String> wrong) {
        if (event.isSessionUpdated()) {
            unanswered.remove(unanswered.iterator().next());
        } else if (event.isError()) {
            RealtimeError error = event.asError().error();
            wrong.add(said(error));
            String setting = setting(error);
            if (!unanswered.remove(error._eventId().asKnown().orElse("")) && !unanswered.removeIf(
                    id -> setting.equals(Link.OPTIONAL_UPDATES.get(id)))) {
                unanswered.clear();
            }
        }
    }

    /// Opens a new connection, a
    /// [WebSocket](https://developers.openai.com/api/docs/guides/realtime-websocket). Blocks for 3
    /// s at most.
    RealtimeConnection connect() throws Exception {
        try {
            return RealtimeConnection.connect(
                    client, RealtimeWebSocketOptions.builder().model(name).build());
        } catch (RuntimeException e) {
            for (Throwable each = e; each != null; each = each.getCause()) {
                if (each instanceof Refused refused) {
                    throw refused;
                }
            }
            throw e;
        }
    }

    /// Reads why the service refuses a connection. The library would throw that away.
    private Response readRefusal(Interceptor.Chain chain) throws IOException {
        Response response = chain.proceed(chain.request());
        if (response.code() == 101) {                       // a WebSocket
            return response;
        }
        RealtimeError error = null;
        try (response) {
            response.body().source().timeout().deadline(REFUSAL.toNanos(), TimeUnit.NANOSECONDS);
            error = client.jsonMapper().treeToValue(client.jsonMapper()
                    .readTree(response.peekBody(MOST_REFUSAL).string()).path("error"),
                    RealtimeError.class);
        } catch (IOException | RuntimeException e) {
            // It has no words, or none that a service of this protocol uses.
        }
        throw new Refused(fault("HTTP " + response.code(), error != null ? error
                : RealtimeError.builder().type("").message("").build(),
                response.header("Retry-After", "")));
    }

    /// What has gone wrong at the service, by its own words. `what` says in ours what it has done:
    /// "it reports". A wrong setting does not pass.
    Fault fault(String what, RealtimeError error) {
        return fault(what, error, "");
    }

    /// `retryAfter`: HTTP's header, in seconds, or "".
    private Fault fault(String what, RealtimeError error, String retryAfter) {
        return new Fault(said(what, error), setting(what, error).isEmpty(), Fault.tryAgainIn(
                error._message().asKnown().orElse("") + " Retry after " + retryAfter + " s"));
    }

    /// What an error says, in one line for the log, with the setting to look at if one is known.
    String said(RealtimeError error) {
        return said("", error);
    }

    private String said(String what, RealtimeError error) {
        String code = error._code().asKnown().or(error._type()::asKnown).orElse("");
        String setting = setting(what, error);
        // Some services quote the key, whole or with stars in it.
        String words = Log.cut(error._message().asKnown().orElse("").replace(key, "**"),
                MOST_WORDS).replaceAll("\\S*\\*\\*\\S*", "..");
        return Stream.of(what, Log.foreign(Log.cut(code, MOST_WORDS)),
                setting.isEmpty() ? "" : "(check " + setting + ")").filter(each -> !each.isEmpty())
                .collect(Collectors.joining(" "))
                + (words.isEmpty() ? "" : ": " + Log.foreign(words));
    }

    /// Which setting is wrong, so that a second attempt is of no use. Empty if none is known to be.
    static String setting(RealtimeError error) {
        return setting("", error);
    }

    private static String setting(String what, RealtimeError error) {
        String about = error._eventId().asKnown().or(error._param()::asKnown).orElse("");
        for (var update : Link.OPTIONAL_UPDATES.entrySet()) {
            if (about.contains(update.getKey())) {
                return update.getValue();
            }
        }
        String kind = String.join(" ", what, error._type().asKnown().orElse(""),
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
