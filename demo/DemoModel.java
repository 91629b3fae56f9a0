package demo;

import module java.base;
import module java.logging;
import jakarta.json.*;
import mockwebserver3.*;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okhttp3.internal.ws.RealWebSocket;

import static demo.DemoCrm.json;

/// A scripted stand-in for OpenAI's Realtime WebSocket, over a real socket: it hears when the
/// caller speaks, and answers with the next step of its script, a tone or a function call. The
/// tests and the trials run it in their own process; `main` runs it alone, for a first call
/// without a key.
///
/// It is strict where the service is: a client's mistake comes back as an `error` event, so a
/// test that ends with no error in `sent()` has proved that none was made. It does not
/// understand speech, and loudness is all it knows of it; it knows one input format (PCM16,
/// 24 kHz, mono), and of the client's events only those that a phone agent needs.
public final class DemoModel implements AutoCloseable {

    /// What one response does. Every connection starts the script from the beginning, so calls
    /// that run side by side do not take each other's steps.
    public sealed interface Step {}

    /// Speaks: a tone of that length, with `text` as its transcript.
    public record Say(String text, int ms) implements Step {}

    /// Speaks: a recording, 24 kHz, 16 bit little endian, mono, with `text` as its transcript.
    public record Play(String text, byte[] pcm) implements Step {}

    /// Calls a function, without thinking time. `arguments` goes out as it is and may be invalid
    /// JSON on purpose.
    public record Tool(String name, String arguments) implements Step {}

    /// Fails, as under a rate limit: `code` is the service's word for why.
    public record Fail(String code) implements Step {}

    /// Begins to speak and gets stuck: the first `ms` of a tone, and nothing after it.
    public record Stall(int ms) implements Step {}

    public static final int TONE_HZ = 440;

    /// The sound comes in pieces of this length. Not whole 10 ms frames: the service does not
    /// promise them.
    public static final int DELTA_MS = 97;

    private static final int RATE = 24_000;
    private static final int BYTES_PER_MS = RATE / 1000 * 2;
    // four times as fast as speech
    private static final int DELTA_EVERY_MS = 24;
    private static final int AMPLITUDE = 8000, FADE = RATE / 200; // samples; 5 ms against clicks
    private static final int WINDOW_MS = 20, ONSET_MS = 60, LOUD = 500;

    /// The library logs every request; a field, because a logger nobody holds loses its level.
    private static final Logger QUIET = Logger.getLogger(MockWebServer.class.getName());
    static {
        QUIET.setLevel(Level.WARNING);
    }

    public volatile int firstSoundMs = 300; // thinking time before the first audio of a response
    public volatile int refuseWith = 0;     // HTTP status to refuse the handshake with, 0 = accept
    public volatile int keepMs = 600_000;   // of each caller's audio for heard(), from the start

    /// Every further response, once the script is used up.
    public volatile Step end = new Say("That is all I know.", 800);

    /// What is answered to something written, by its words, in place of the script's next steps;
    /// with an empty list the script goes on. Instructions that come between are written too.
    public volatile Function<String, List<Step>> written = _ -> List.of();

    /// Is told of every event as it goes out, on its session's thread, and must not wait.
    public volatile BiConsumer<Session, JsonObject> watch = (_, _) -> {};

    /// Scripts for the next connections, one each; after that it is `script` again.
    public final Queue<List<Step>> scripts = new ConcurrentLinkedQueue<>();

    private final List<Step> script;
    private final Consumer<String> log;
    private final MockWebServer server = new MockWebServer();
    private final List<Session> sessions = new CopyOnWriteArrayList<>();
    // over all connections, so that an id kept from a lost one is noticed in the next
    private final AtomicInteger ids = new AtomicInteger();

    /// Listens on 127.0.0.1 only; port 0 takes any free one.
    public DemoModel(int port, List<Step> script) throws IOException {
        this(port, script, _ -> {});
    }

    private DemoModel(int port, List<Step> script, Consumer<String> log) throws IOException {
        this.script = List.copyOf(script);
        this.log = log;
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

    /// One per WebSocket connection, in order of arrival.
    public List<Session> sessions() {
        return List.copyOf(sessions);
    }

    @Override public void close() {
        sessions.forEach(Session::drop);
        server.close();
    }

    private MockResponse handshake(RecordedRequest request) {
        String authorization = request.getHeaders().get("Authorization");
        boolean keyed = authorization != null && authorization.matches("Bearer \\S+");
        int refusal = refuseWith != 0 ? refuseWith
                : !request.getUrl().encodedPath().equals("/v1/realtime") ? 404
                : !keyed ? 401 : 0;
        if (refusal != 0) {
            log.accept("refused with " + refusal);
            return new MockResponse.Builder().code(refusal)
                    .body("{\"error\":{\"message\":\"refused\"}}").build();
        }
        String model = request.getUrl().queryParameter("model");
        return new MockResponse.Builder()
                .webSocketUpgrade(new Session(authorization, model)).build();
    }

    /// One connection. Whatever changes or sends something runs on `clock`, one thread per
    /// session: that is what keeps its events in order, and the reader and callers of `send`
    /// from waiting.
    public final class Session extends WebSocketListener {
        private final String id = newId("sess"), authorization, model;
        private final Iterator<Step> steps =
                Objects.requireNonNullElse(scripts.poll(), script).iterator();
        private final ScheduledExecutorService clock = new ScheduledThreadPoolExecutor(1,
                Thread.ofVirtual().factory(),
                new ThreadPoolExecutor.DiscardPolicy()); // after the end: nobody left to answer
        private final List<JsonObject> received = Collections.synchronizedList(new ArrayList<>());
        private final List<JsonObject> sent = Collections.synchronizedList(new ArrayList<>());
        private final List<Integer> appendSizes = Collections.synchronizedList(new ArrayList<>());
        private final Map<String, Integer> spokenBytes = new ConcurrentHashMap<>(); // by item
        private final ByteArrayOutputStream heard = new ByteArrayOutputStream();
        private volatile WebSocket socket;
        private volatile JsonObject session;
        private volatile boolean stuck;

        // the conversation; only `clock` touches it
        private final Set<String> items = new HashSet<>();
        private final Set<String> openCalls = new HashSet<>();
        private String lastItem;
        private Deque<Step> toSay = new ArrayDeque<>(); // before the script goes on
        private Reply active; // the response being given, if any

        // the ear; only `clock` touches it
        private long samples, energy, startMs;
        private int loudMs, quietMs;
        private String speaking; // the id the user's item will have, while the caller speaks

        private Session(String authorization, String model) {
            this.authorization = authorization;
            this.model = model;
            session = json("type", "realtime", "object", "realtime.session", "id", id,
                    "model", model, "output_modalities", List.of("audio"),
                    "instructions", "", "tools", List.of(), "tool_choice", "auto",
                    "audio", json(
                            "input", json("format", json("type", "audio/pcm", "rate", RATE),
                                    "turn_detection", json("type", "server_vad",
                                            "threshold", 0.5, "prefix_padding_ms", 300,
                                            "silence_duration_ms", 500, "create_response", true,
                                            "interrupt_response", true)),
                            "output", json("format", json("type", "audio/pcm", "rate", RATE),
                                    "voice", "alloy", "speed", 1)));
        }

        /// Every client event except `input_audio_buffer.append`, in order.
        public List<JsonObject> received() {
            return List.copyOf(received);
        }

        /// Every server event, with the base64 of audio deltas replaced by its length.
        public List<JsonObject> sent() {
            return List.copyOf(sent);
        }

        /// The caller's audio, 24 kHz mono s16le, up to `keepMs` of it.
        public byte[] heard() {
            return heard.toByteArray();
        }

        /// Bytes of each append.
        public List<Integer> appendSizes() {
            return List.copyOf(appendSizes);
        }

        /// Milliseconds of audio sent for that item so far.
        public int spokenMs(String itemId) {
            return spokenBytes.getOrDefault(itemId, 0) / BYTES_PER_MS;
        }

        /// The session as the client's updates have left it: tools, instructions, audio.
        public JsonObject session() {
            return session;
        }

        public String authorization() { return authorization; }

        public String model() { return model; }

        /// The first such client event, also one that came before; null after the bound.
        public JsonObject await(String type, Predicate<JsonObject> which, Duration bound) {
            return first(received, type, which, bound);
        }

        /// The same for server events, to wait for an error, say.
        public JsonObject awaitSent(String type, Predicate<JsonObject> which, Duration bound) {
            return first(sent, type, which, bound);
        }

        /// Sends anything at all, between two events of its own.
        public void send(JsonObject event) {
            sendText(event.toString());
        }

        /// Sends raw text, which may be invalid JSON.
        public void sendText(String raw) {
            clock.execute(() -> socket.send(raw));
        }

        /// From now on it does not react to anything, and keeps the connection.
        public void getStuck() {
            stuck = true;
        }

        /// Cuts the connection without a word, as a network does.
        public void drop() {
            clock.shutdownNow();
            // internal, but WebSocket.cancel() is written for the client's end and fails here
            ((RealWebSocket) socket).failWebSocket(new IOException("dropped"), null, false);
        }

        @Override public void onOpen(WebSocket webSocket, Response response) {
            socket = webSocket;
            sessions.add(this);
            log("connected, model " + model);
            clock.execute(() -> emit("session.created", "session", session));
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

        private void note(List<JsonObject> list, JsonObject event) {
            synchronized (list) {
                list.add(event);
                list.notifyAll(); // for await
            }
        }

        private void take(String text) {
            if (stuck) return;
            JsonObject event;
            try (var reader = Json.createReader(new StringReader(text))) {
                event = reader.readObject();
            } catch (JsonException e) {
                error(null, "invalid_json", "not a JSON object: " + e.getMessage());
                return;
            }
            String type = event.getString("type", "");
            if (!type.equals("input_audio_buffer.append")) {
                note(received, event);
                log("<- " + event);
            }
            try {
                switch (type) {
                    case "session.update" -> update(event);
                    case "input_audio_buffer.append" ->
                            hear(Base64.getDecoder().decode(event.getString("audio")));
                    case "conversation.item.create" -> create(event);
                    case "conversation.item.truncate" -> truncate(event);
                    case "response.create" -> {
                        if (active == null) respond();
                        else error(event, "conversation_already_has_active_response",
                                "response " + active.id + " is still active");
                    }
                    case "response.cancel" -> {
                        if (active != null) active.end("client_cancelled");
                        else error(event, "response_cancel_not_active", "nothing to cancel");
                    }
                    default -> error(event, "unknown_event", "unknown event type: " + type);
                }
            } catch (NullPointerException | ClassCastException | IllegalArgumentException e) {
                error(event, "invalid_value", "a field is missing or of the wrong type: " + e);
            }
        }

        private void update(JsonObject event) {
            JsonObject change = event.getJsonObject("session");
            if (!change.getString("type", "").equals("realtime")) {
                error(event, "invalid_value", "session.type must be realtime");
                return;
            }
            JsonObject merged = Json.createMergePatch(change).apply(session).asJsonObject();
            JsonObject format = inside(merged, "audio", "input", "format");
            if (!format.getString("type").equals("audio/pcm") || format.getInt("rate") != RATE) {
                error(event, "invalid_value", "this stand-in hears only 24 kHz audio/pcm");
                return;
            }
            session = merged;
            emit("session.updated", "session", session);
        }

        private void create(JsonObject event) {
            JsonObject item = event.getJsonObject("item");
            String type = item.getString("type", "");
            if (!List.of("message", "function_call", "function_call_output").contains(type)) {
                error(event, "invalid_value", "unknown item type: " + type);
            } else if (type.equals("message") && !item.getJsonArray("content").getJsonObject(0)
                    .getString("type").equals(item.getString("role").equals("assistant")
                            ? "output_text" : "input_text")) {
                error(event, "invalid_value", "not what " + item.getString("role") + " can say");
            } else if (type.equals("function_call_output")
                    && !openCalls.remove(item.getString("call_id"))) {
                error(event, "invalid_tool_call_id", "no such call is waiting for its output: "
                        + item.getString("call_id"));
            } else {
                if (type.equals("function_call")) openCalls.add(item.getString("call_id"));
                if (type.equals("message")) {
                    toSay = new ArrayDeque<>(written.apply(item.getJsonArray("content")
                            .getJsonObject(0).getString("text")));
                }
                JsonObject whole = Json.createObjectBuilder(item).add("object", "realtime.item")
                        .add("id", item.getString("id", newId("item"))).add("status", "completed")
                        .build();
                added(whole);
                done(whole);
            }
        }

        private void truncate(JsonObject event) {
            String item = event.getString("item_id");
            int ms = event.getInt("audio_end_ms");
            if (!items.contains(item)) {
                error(event, "item_not_found", "no item " + item);
            } else if (!spokenBytes.containsKey(item)) {
                // also for an answer whose first sound had not been sent, as in the service
                error(event, null, "Only model output audio messages can be truncated");
            } else if (ms > spokenMs(item)) {
                error(event, null, "Audio content of " + spokenMs(item)
                        + "ms is already shorter than " + ms + "ms");
            } else {
                emit("conversation.item.truncated", "item_id", item,
                        "content_index", event.getInt("content_index"), "audio_end_ms", ms);
            }
        }

        /// Cuts the audio into windows of 20 ms, whatever the sizes it comes in.
        private void hear(byte[] pcm) {
            if (pcm.length % 2 != 0) throw new IllegalArgumentException("half a sample");
            appendSizes.add(pcm.length);
            if (heard.size() < (long) keepMs * BYTES_PER_MS) heard.writeBytes(pcm);
            for (int i = 0; i < pcm.length; i += 2) {
                int sample = pcm[i] & 0xff | pcm[i + 1] << 8;
                energy += sample * sample;
                if (++samples % (WINDOW_MS * RATE / 1000) == 0) {
                    window(Math.sqrt(energy / (WINDOW_MS * RATE / 1000.0)) > LOUD);
                    energy = 0;
                }
            }
        }

        /// All times are positions in the received audio: a client that sends late or in bursts
        /// is understood the same.
        private void window(boolean loud) {
            JsonObject turn = inside(session, "audio", "input", "turn_detection");
            if (turn == null) return; // switched off
            long nowMs = samples * 1000 / RATE;
            if (speaking == null) {
                loudMs = loud ? loudMs + WINDOW_MS : 0;
                if (loudMs < ONSET_MS) return;
                startMs = nowMs - loudMs;
                speaking = newId("item");
                quietMs = loudMs = 0;
                emit("input_audio_buffer.speech_started",
                        "audio_start_ms", startMs, "item_id", speaking);
                if (active != null && turn.getBoolean("interrupt_response", true)) {
                    active.end("turn_detected");
                }
            } else {
                quietMs = loud ? 0 : quietMs + WINDOW_MS;
                if (quietMs < turn.getInt("silence_duration_ms", 500)) return;
                String item = speaking;
                speaking = null;
                emit("input_audio_buffer.speech_stopped", "audio_end_ms", nowMs, "item_id", item);
                understood(item, nowMs - quietMs - startMs);
                if (active == null && turn.getBoolean("create_response", true)) respond();
            }
        }

        private void understood(String item, long ms) {
            emit("input_audio_buffer.committed", "previous_item_id", lastItem, "item_id", item);
            JsonObject whole = json("id", item, "object", "realtime.item", "type", "message",
                    "status", "completed", "role", "user",
                    "content", List.of(json("type", "input_audio", "transcript", null)));
            added(whole);
            done(whole);
            if (inside(session, "audio", "input", "transcription") == null) return;
            // another model does this beside the conversation: it comes when it comes
            clock.schedule(() -> emit("conversation.item.input_audio_transcription.completed",
                    "item_id", item, "content_index", 0,
                    "transcript", String.format(Locale.ROOT, "(%.1f s of speech)", ms / 1000.0),
                    "usage", json("type", "duration", "seconds", ms / 1000.0)),
                    150, TimeUnit.MILLISECONDS);
        }

        private void added(JsonObject item) {
            emit("conversation.item.added", "previous_item_id", lastItem, "item", item);
            lastItem = item.getString("id");
            items.add(lastItem);
        }

        private void done(JsonObject item) {
            emit("conversation.item.done", "previous_item_id", null, "item", item);
        }

        private void respond() {
            active = new Reply(!toSay.isEmpty() ? toSay.remove()
                    : steps.hasNext() ? steps.next() : end);
            active.begin();
        }

        /// Reports trouble of its own: `type` is the service's word for whose fault it is.
        public void fail(String type, String code) {
            clock.execute(() -> emit("error", "error", json("type", type, "code", code,
                    "message", "it is so", "param", null, "event_id", null)));
        }

        private void error(JsonObject cause, String code, String message) {
            emit("error", "error", json("type", "invalid_request_error", "code", code,
                    "message", message, "param", null,
                    "event_id", cause == null ? null : cause.getString("event_id", null)));
        }

        private void emit(String type, Object... fields) {
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

        /// One response and its only item.
        private final class Reply {
            final String id = newId("resp"), item = newId("item"), call = newId("call");
            final Step step;
            int samplesSent, lettersSent;

            Reply(Step step) {
                this.step = step;
            }

            void begin() {
                emit("response.created", "response", response("in_progress", null));
                part("response.output_item.added", "item", item("in_progress"));
                added(item("in_progress"));
                switch (step) {
                    case Say _, Play _ -> {
                        part("response.content_part.added", "content_index", 0, "part", content());
                        clock.schedule(this::speak, firstSoundMs, TimeUnit.MILLISECONDS);
                    }
                    case Stall _ -> clock.schedule(this::speak, firstSoundMs,
                            TimeUnit.MILLISECONDS);
                    case Fail(String code) -> {
                        active = null;
                        emit("response.done", "response", json("object", "realtime.response",
                                "id", id, "status", "failed", "status_details",
                                json("type", "failed", "error", json("type", "server_error",
                                        "code", code)), "output", List.of()));
                    }
                    case Tool(_, String arguments) -> {
                        openCalls.add(call);
                        part("response.function_call_arguments.delta", "call_id", call,
                                "delta", arguments);
                        end(null);
                    }
                }
            }

            void speak() {
                if (active != this) return; // cancelled
                String text = text();
                int all = samples();
                int count = Math.min(DELTA_MS * RATE / 1000, all - samplesSent);
                var pcm = ByteBuffer.allocate(count * 2).order(ByteOrder.LITTLE_ENDIAN);
                for (int i = samplesSent; i < samplesSent + count; i++) {
                    pcm.putShort(sample(i, all));
                }
                samplesSent += count;
                spokenBytes.put(item, samplesSent * 2); // before it is sent: it may be cut at once
                part("response.output_audio.delta", "content_index", 0,
                        "delta", Base64.getEncoder().encodeToString(pcm.array()));
                int letters = samplesSent == all ? text.length()
                        : (int) ((long) text.length() * samplesSent / all);
                if (letters > lettersSent) {
                    part("response.output_audio_transcript.delta", "content_index", 0,
                            "delta", text.substring(lettersSent, letters));
                    lettersSent = letters;
                }
                if (samplesSent == all && step instanceof Stall) return;
                if (samplesSent == all) end(null);
                else clock.schedule(this::speak, DELTA_EVERY_MS, TimeUnit.MILLISECONDS);
            }

            private String text() {
                return switch (step) {
                    case Say say -> say.text();
                    case Play play -> play.text();
                    case Stall _, Tool _, Fail _ -> "";
                };
            }

            private int samples() {
                return switch (step) {
                    case Say(_, int ms) -> ms * RATE / 1000;
                    case Stall(int ms) -> ms * RATE / 1000;
                    case Play(_, byte[] pcm) -> pcm.length / 2;
                    case Tool _, Fail _ -> 0;
                };
            }

            private short sample(int i, int all) {
                if (step instanceof Play(_, byte[] pcm)) {
                    return (short) (pcm[2 * i] & 0xff | pcm[2 * i + 1] << 8);
                }
                double fade = Math.min(1, Math.min(i, all - i) / (double) FADE);
                return (short) (AMPLITUDE * fade * Math.sin(2 * Math.PI * TONE_HZ * i / RATE));
            }

            /// Ends the response, cut short for `reason` or, with none, complete. The closing
            /// events are the same: a cancelled answer keeps what was sent of it.
            void end(String reason) {
                active = null;
                JsonObject done = item(reason == null ? "completed" : "incomplete");
                switch (step) {
                    case Say _, Play _ -> {
                        part("response.output_audio.done", "content_index", 0);
                        part("response.output_audio_transcript.done", "content_index", 0,
                                "transcript", transcript());
                        part("response.content_part.done", "content_index", 0, "part", content());
                    }
                    case Tool(String name, String arguments) ->
                            part("response.function_call_arguments.done", "call_id", call,
                                    "name", name, "arguments", arguments);
                    case Stall _, Fail _ -> { }
                }
                part("response.output_item.done", "item", done);
                done(done);
                emit("response.done", "response", response(
                        reason == null ? "completed" : "cancelled", reason, done));
            }

            /// An event about this response's item. Those that carry the item itself do not
            /// name it a second time.
            void part(String type, Object... fields) {
                var event = new ArrayList<Object>(List.of("response_id", id, "output_index", 0));
                if (!type.contains("output_item")) event.addAll(List.of("item_id", item));
                event.addAll(List.of(fields));
                emit(type, event.toArray());
            }

            JsonObject response(String status, String reason, JsonObject... output) {
                return json("object", "realtime.response", "id", id, "status", status,
                        "status_details", reason == null ? null
                                : json("type", "cancelled", "reason", reason),
                        "output_modalities", List.of("audio"), "output", List.of(output));
            }

            JsonObject item(String status) {
                boolean begun = status.equals("in_progress");
                return switch (step) {
                    case Say _, Play _, Stall _, Fail _ -> json("id", item,
                            "object", "realtime.item", "type", "message", "status", status,
                            "role", "assistant", "content", begun ? List.of() : List.of(json(
                                    "type", "output_audio", "transcript", transcript())));
                    case Tool(String name, String arguments) -> json("id", item,
                            "object", "realtime.item", "type", "function_call",
                            "status", status, "call_id", call, "name", name,
                            "arguments", begun ? "" : arguments);
                };
            }

            JsonObject content() {
                return json("type", "audio", "transcript", transcript());
            }

            String transcript() {
                return text().substring(0, lettersSent);
            }
        }
    }

    private String newId(String kind) {
        return kind + "_" + ids.incrementAndGet();
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

    /// The object at the end of a path, or null where the path ends early.
    private static JsonObject inside(JsonObject from, String... path) {
        JsonValue at = from;
        for (String name : path) at = at instanceof JsonObject o ? o.get(name) : null;
        return at instanceof JsonObject o ? o : null;
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
        System.out.println("OPENAI_BASE_URL=" + model.baseUrl() + "  OPENAI_API_KEY=any");
        Thread.currentThread().join(); // until killed
    }
}
