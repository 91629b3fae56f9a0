package demo;

import module java.base;
import module java.logging;
import jakarta.json.*;
import mockwebserver3.*;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okhttp3.internal.ws.RealWebSocket;

/// A scripted stand-in for OpenAI's Realtime service, over a real WebSocket
/// (https://developers.openai.com/api/docs/guides/realtime-conversations). It hears when the
/// caller speaks, and answers with the next step of its script: a tone, a recording or a function
/// call. The tests, the trials and Demo run it in their own process; `main` runs it alone, for a
/// first call without a key.
///
/// This file is the server, the steps of a script, and the connections: what each has received
/// and sent, for a test to read. ModelConversation is what the client's events do, ModelResponse
/// is one response.
///
/// The stand-in is strict where the service is strict: a client's mistake comes back as an `error`
/// event. So a test that finds no error in `sent()` has proved that the client made no mistake.
/// The stand-in deliberately does not understand speech: it knows only whether sound is loud. It
/// takes one input format (PCM, 16 bit, 24 kHz, mono), and only the client events that a phone
/// agent needs.
public final class DemoModel implements AutoCloseable {

    /// What one response does. Every connection starts the script from the beginning, so calls at
    /// the same time do not take each other's steps.
    public sealed interface Step {}

    /// Speaks: a tone of `ms` milliseconds, with `text` as its transcript.
    public record Say(String text, int ms) implements Step {}

    /// Speaks: a recording, 24 kHz, 16 bit little endian, mono, with `text` as its transcript.
    public record Play(String text, byte[] pcm) implements Step {}

    /// Calls a function, without thinking time. `arguments` is sent as it is: a test may put
    /// invalid JSON there.
    public record Tool(String name, String arguments) implements Step {}

    /// Answers in writing only: nobody on a phone hears that.
    public record Write(String text) implements Step {}

    /// Brings nothing at all. `status` is `completed` or `incomplete`.
    public record Nothing(String status) implements Step {}

    /// Does all of these in one response, as items one behind the other: Say, Play, Write and Tool.
    public record Together(List<Step> steps) implements Step {
        public Together(Step... steps) {
            this(List.of(steps));
        }
    }

    /// Fails, as the service does under a rate limit: `code` is the service's word for why, and
    /// `message` may say when to try again.
    public record Fail(String code, String message) implements Step {
        public Fail(String code) {
            this(code, null);
        }
    }

    /// Begins to speak and gets stuck: the first `ms` of a tone are sent, and nothing after them.
    public record Stall(int ms) implements Step {}

    public static final int TONE_HZ = 440;

    /// Milliseconds of sound in each audio event. This is not a multiple of 10 ms on purpose: the
    /// service does not promise whole frames either.
    public static final int DELTA_MS = 97;

    static final int RATE = 24_000; // Hz
    static final int BYTES_PER_MS = RATE / 1000 * 2;

    /// The library logs every request. We keep its logger in a field, because a logger that nobody
    /// holds is collected, and its level is lost.
    private static final Logger QUIET = Logger.getLogger(MockWebServer.class.getName());
    static {
        QUIET.setLevel(Level.WARNING);
    }

    public volatile int firstSoundMs = 300; // thinking time before the first audio of a response
    public volatile int createdMs = 0;      // from the question to `response.created`
    public volatile boolean answersUpdates = true;
    public volatile boolean minds = true;   // it calls no tool when it must not
    public volatile boolean responds = true;    // if not, a test sends what it responds
    public volatile String transcript;      // of each turn; null: how long it was
    public volatile int toolEndMs = 0;      // from the arguments of a call to the end of its item
    public volatile int loud = 500;         // speech: amplitude, root mean square, of 32,767
    public volatile int onsetMs = 60;       // so much of it in a row has to be heard
    public volatile String keyHeader = "Authorization";     // other services want another one
    public volatile int refuseWith = 0;     // HTTP status to refuse the handshake with, 0 = accept
    public volatile int keepMs = 600_000;   // so much of each caller's audio is kept for heard()

    /// What is not one of these is refused.
    public volatile List<String> voices = List.of("alloy", "ash", "ballad", "coral", "echo",
            "sage", "shimmer", "verse", "marin", "cedar");
    public volatile List<String> turnDetections = List.of("server_vad", "semantic_vad");
    public volatile List<String> noiseReductions = List.of("near_field", "far_field");
    public volatile List<String> transcriptionModels = List.of("whisper-1", "gpt-transcribe",
            "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-realtime-whisper");

    /// How long `semantic_vad` waits after the last word. The service goes by the words, and waits
    /// 4 s at most.
    public volatile int semanticMs = 500;

    /// What every further response does, once the script is used up.
    public volatile Step afterScript = new Say("That is all I know.", 800);

    /// What every response does while this is set, or null. The script waits meanwhile, so an
    /// outage (Fail, Nothing) does not use it up.
    public volatile Step instead;

    /// The steps that answer a text message, before the script goes on. For an empty list the
    /// script itself answers. The text may be the caller's, or the program's: an instruction
    /// between two turns is a text message too.
    public volatile Function<String, List<Step>> stepsForText = _ -> List.of();

    /// Is told of every event just before it is sent, on its session's thread. It must not wait.
    public volatile BiConsumer<Session, JsonObject> watch = (_, _) -> {};

    /// Scripts for the next connections, one each. When this is empty, a connection gets `script`.
    public final Queue<List<Step>> scripts = new ConcurrentLinkedQueue<>();

    private final List<Step> script;
    private final Consumer<String> log;
    private final AtomicInteger refused = new AtomicInteger();
    private final MockWebServer server = new MockWebServer();
    private final List<Session> sessions = new CopyOnWriteArrayList<>();
    // One counter for all connections: a client that uses an id of a lost connection is noticed.
    private final AtomicInteger ids = new AtomicInteger();

    /// Listens on 127.0.0.1 only; port 0 takes any free one.
    public DemoModel(int port, List<Step> script) throws IOException {
        this(port, script, _ -> {});
    }

    private DemoModel(int port, List<Step> script, Consumer<String> log) throws IOException {
        this.script = List.copyOf(script);
        this.log = log;
        // Loads what a response needs. From source, Java compiles a class when it loads it, and the
        // first caller would wait for that.
        List.of(ModelConversation.class, ModelResponse.class);
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                return handshake(request);
            }
        });
        server.start(InetAddress.getByAddress(new byte[] {127, 0, 0, 1}), port);
    }

    /// The value for OPENAI_BASE_URL.
    public String baseUrl() {
        return "http://127.0.0.1:" + server.getPort() + "/v1";
    }

    /// One session for each WebSocket connection, in order of arrival.
    public List<Session> sessions() {
        return List.copyOf(sessions);
    }

    /// How many connections were refused.
    public int refused() {
        return refused.get();
    }

    @Override public void close() {
        sessions.forEach(Session::drop);
        server.close();
    }

    private MockResponse handshake(RecordedRequest request) {
        String authorization = request.getHeaders().get(keyHeader);
        boolean keyed = authorization != null && authorization.matches(
                keyHeader.equals("Authorization") ? "Bearer \\S+" : "\\S+");
        int refusal = refuseWith != 0 ? refuseWith
                : !request.getUrl().encodedPath().equals("/v1/realtime") ? 404
                : !keyed ? 401 : 0;
        if (refusal != 0) {
            refused.incrementAndGet();
            log.accept("refused with " + refusal);
            return new MockResponse.Builder().code(refusal)
                    .body("{\"error\":{\"message\":\"refused\"}}").build();
        }
        String model = request.getUrl().queryParameter("model");
        return new MockResponse.Builder()
                .webSocketUpgrade(new Session(authorization, model)).build();
    }

    /// `kind` and a number that no other id of this server has.
    String newId(String kind) {
        return kind + "_" + ids.incrementAndGet();
    }

    /// One connection. Whatever changes the conversation or sends something runs on `clock`, which
    /// is one thread for each session. This keeps the events in order, and neither the socket's
    /// reader nor a caller of `send` ever waits.
    public final class Session extends WebSocketListener {
        private final String id = newId("sess"), authorization, model;
        private final ModelConversation conversation;
        private final ScheduledExecutorService clock = new ScheduledThreadPoolExecutor(1,
                Thread.ofVirtual().factory(),
                new ThreadPoolExecutor.DiscardPolicy()); // after the end nobody waits for an answer
        private final List<JsonObject> received = Collections.synchronizedList(new ArrayList<>());
        private final List<JsonObject> sent = Collections.synchronizedList(new ArrayList<>());
        private final List<Integer> appendSizes = Collections.synchronizedList(new ArrayList<>());
        private final ByteArrayOutputStream heard = new ByteArrayOutputStream();
        private volatile WebSocket socket;
        private volatile boolean stuck;

        private Session(String authorization, String model) {
            this.authorization = authorization;
            this.model = model;
            conversation = new ModelConversation(DemoModel.this, this, id, model,
                    Objects.requireNonNullElse(scripts.poll(), script));
        }

        /// Every client event except `input_audio_buffer.append`, in order.
        public List<JsonObject> received() {
            return List.copyOf(received);
        }

        /// Every server event. In an audio delta the base64 is replaced by its length.
        public List<JsonObject> sent() {
            return List.copyOf(sent);
        }

        /// The caller's audio, 24 kHz, 16 bit little endian, mono: the first `keepMs` of it.
        public byte[] heard() {
            return heard.toByteArray();
        }

        /// The size of each append, in bytes of PCM.
        public List<Integer> appendSizes() {
            return List.copyOf(appendSizes);
        }

        /// Milliseconds of audio sent for that item so far.
        public int spokenMs(String itemId) {
            return conversation.spokenMs(itemId);
        }

        /// The session object as the client's updates have left it: tools, instructions, audio.
        public JsonObject session() {
            return conversation.session();
        }

        public String authorization() { return authorization; }

        public String model() { return model; }

        /// The first such client event, even if it came before this call; null after `bound`.
        public JsonObject await(String type, Predicate<JsonObject> which, Duration bound) {
            return first(received, type, which, bound);
        }

        /// The same for server events; a test can wait for an error with it.
        public JsonObject awaitSent(String type, Predicate<JsonObject> which, Duration bound) {
            return first(sent, type, which, bound);
        }

        /// Sends any event, between two events of the session's own.
        public void send(JsonObject event) {
            sendText(event.toString());
        }

        /// Sends raw text, which may be invalid JSON.
        public void sendText(String raw) {
            clock.execute(() -> socket.send(raw));
        }

        /// Reports an error of the service's own: `type` is its word for whose fault the error is.
        public void fail(String type, String code) {
            clock.execute(() -> emit("error", "error", json("type", type, "code", code,
                    "message", "it is so", "param", null, "event_id", null)));
        }

        /// From now on the session does not react to anything, but keeps the connection.
        public void getStuck() {
            stuck = true;
        }

        /// Cuts the connection without a word, as a broken network does.
        public void drop() {
            clock.shutdownNow();
            // An internal class. WebSocket.cancel() is for the client's side; it fails here.
            ((RealWebSocket) socket).failWebSocket(new IOException("dropped"), null, false);
        }

        @Override public void onOpen(WebSocket webSocket, Response response) {
            socket = webSocket;
            sessions.add(this);
            log("connected, model " + model);
            clock.execute(() -> emit("session.created", "session", session()));
        }

        @Override public void onMessage(WebSocket webSocket, String text) {
            clock.execute(() -> take(text));
        }

        @Override public void onClosing(WebSocket webSocket, int code, String reason) {
            webSocket.close(1000, null);
        }

        @Override public void onClosed(WebSocket webSocket, int code, String reason) {
            over("closed " + code);
        }

        @Override public void onFailure(WebSocket webSocket, Throwable t, Response response) {
            over("lost: " + t);
        }

        private void over(String how) {
            clock.shutdownNow();
            log(how);
        }

        private void log(String what) {
            log.accept(id + " " + what);
        }

        private void take(String text) {
            if (stuck) return;
            JsonObject event;
            try (var reader = Json.createReader(new StringReader(text))) {
                event = reader.readObject();
            } catch (JsonException e) {
                conversation.error(null, "invalid_json", "not a JSON object: " + e.getMessage());
                return;
            }
            if (!event.getString("type", "").equals("input_audio_buffer.append")) {
                note(received, event);
                log("<- " + event);
            }
            conversation.take(event);
        }

        // For ModelConversation and ModelResponse, on `clock`.

        /// Keeps a piece of the caller's audio for the tests.
        void keep(byte[] pcm) {
            appendSizes.add(pcm.length);
            if (heard.size() < (long) keepMs * BYTES_PER_MS) heard.writeBytes(pcm);
        }

        /// Runs `task` on `clock`, after `ms` milliseconds.
        void later(int ms, Runnable task) {
            clock.schedule(task, ms, TimeUnit.MILLISECONDS);
        }

        /// Sends an event. `fields` are names and values in turn.
        void emit(String type, Object... fields) {
            if (stuck) return;
            var event = Json.createObjectBuilder().add("type", type).add("event_id", newId("event"))
                    .addAll(Json.createObjectBuilder(json(fields))).build();
            watch.accept(this, event);
            socket.send(event.toString());
            boolean audio = type.equals("response.output_audio.delta");
            JsonObject noted = !audio ? event : Json.createObjectBuilder(event)
                    .add("delta", event.getString("delta").length() + " letters").build();
            note(sent, noted);
            if (!audio) log("-> " + noted);
        }

        private void note(List<JsonObject> list, JsonObject event) {
            synchronized (list) {
                list.add(event);
                list.notifyAll(); // somebody may wait in first()
            }
        }
    }

    private static JsonObject first(List<JsonObject> events, String type,
                                    Predicate<JsonObject> which, Duration bound) {
        long end = System.nanoTime() + bound.toNanos();
        synchronized (events) {
            for (int seen = 0;;) {
                for (; seen < events.size(); seen++) {
                    JsonObject event = events.get(seen);
                    if (event.getString("type", "").equals(type) && which.test(event)) return event;
                }
                long left = end - System.nanoTime();
                if (left <= 0) return null;
                try {
                    TimeUnit.NANOSECONDS.timedWait(events, left);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    return null;
                }
            }
        }
    }

    /// A JSON object. `fields` are names and values in turn. Unlike `Map.of`, this keeps their
    /// order and takes null.
    static JsonObject json(Object... fields) {
        var map = new LinkedHashMap<String, Object>();
        for (int i = 0; i < fields.length; i += 2) map.put((String) fields[i], fields[i + 1]);
        return Json.createObjectBuilder(map).build();
    }

    public static void main(String[] args) throws Exception {
        List<Step> script = List.of(
                new Say("Hello, this is the demo agent. How can I help you?", 2500),
                new Tool("record_intent", "{\"intent\":\"wants to know about an order\"}"),
                new Say("I have noted that. Anything else?", 1500),
                new Tool("lookup_crm", "{\"phone\":\"+15550100\"}"),
                new Say("I have your record here.", 1200),
                new Tool("update_crm_note", "{\"note\":\"Asked about an order.\"}"),
                new Say("I have written that down.", 1200),
                new Tool("transfer_call", "{\"destination\":\"support\"}"),
                new Say("I am putting you through.", 1200));
        var model = new DemoModel(args.length > 0 ? Integer.parseInt(args[0]) : 8090, script,
                line -> System.out.println(line.substring(0, Math.min(line.length(), 240))));
        model.keepMs = 0;
        System.out.println("OPENAI_BASE_URL=" + model.baseUrl() + "\nOPENAI_API_KEY=any");
        Thread.currentThread().join(); // until killed
    }
}
