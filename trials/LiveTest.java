package trials;

import module java.base;
import demo.DemoCrm;
import demo.DemoModel;
import io.livekit.server.AgentDispatchServiceClient;
import io.livekit.server.RoomServiceClient;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;
import org.junit.jupiter.api.extension.AfterTestExecutionCallback;
import org.junit.jupiter.api.extension.RegisterExtension;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

/// Whole calls, from outside: a real livekit-server, the program as a process, callers on LiveKit's
/// own client (caller.py), and between them nothing but sockets. Only the CRM and the model are
/// stand-ins. AgentTest runs it; without livekit-server or the Python SDK it is skipped and says
/// how to get them.
///
/// It calls no class of the program, and checks signatures with the JDK alone. Not tried here: SIP
/// itself (caller.py plays livekit-sip's part), networks that lose packets, the real model. All
/// traffic stays on the loopback interface; the ports are whichever are free.
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
public final class LiveTest {
    private static final String AGENT = "webhook-crm-agent", KEY = "devkey";
    private static final String API_SECRET = "a secret of livekit-server's own, 32 letters or more";
    private static final byte[] SIGNING_KEY = "twenty-four bytes, or so".getBytes(UTF_8);
    private static final String SECRET =
            "whsec_" + Base64.getEncoder().encodeToString(SIGNING_KEY);
    private static final String ADA = "+15550100", NOTE = "Wants the \"blue\" one.\nCall back.";
    private static final Duration SOON = Duration.ofSeconds(20);

    /// Each answer of the model follows the end of a turn of the caller's. A call that ends early
    /// has used only the beginning.
    private static final List<DemoModel.Step> SCRIPT = List.of(
            new DemoModel.Say("Hello Ada, how can I help?", 1000),
            new DemoModel.Tool("record_intent", "{\"intent\":\"wants a refund\"}"),
            new DemoModel.Say("Noted.", 600),
            new DemoModel.Tool("lookup_crm", "{\"phone\":\"+1 555 0101\"}"),
            new DemoModel.Say("Found.", 600),
            new DemoModel.Tool("update_crm_note",
                    Json.createObjectBuilder().add("note", NOTE).build().toString()),
            new DemoModel.Say("Written down.", 600),
            new DemoModel.Tool("transfer_call", "{\"destination\":\"sales\"}"),
            new DemoModel.Say("I cannot.", 600),
            new DemoModel.Say("A long story, which nobody will hear the end of.", 6000),
            new DemoModel.Say("As you like.", 600));

    private static Path output, serverLog;
    private static Process server, program;
    private static Proxy proxy;
    private static DemoCrm crm;
    private static DemoModel model;
    private static String url, python;
    private static AgentDispatchServiceClient dispatches;
    private static RoomServiceClient rooms;
    private static final List<Caller> callers = new CopyOnWriteArrayList<>();

    @RegisterExtension
    static final AfterTestExecutionCallback ON_FAILURE = test -> {
        if (test.getExecutionException().isPresent()) {
            System.out.println("What the program and the callers wrote:\n"
                    + Files.readString(output));
        }
    };

    @BeforeAll
    static void start() throws Exception {
        String go = System.getProperty("user.home") + "/go/bin/";
        String livekit = firstThatRuns(List.of("lib/test/livekit-server", "livekit-server",
                go + "livekit-server", go + "server"), "--version");
        python = firstThatRuns(List.of("lib/test/venv/bin/python", "python3"),
                "-c", "import livekit.rtc, livekit.api");
        assumeTrue(livekit != null && python != null, (livekit != null ? "" : """
                no livekit-server. This installs it: GOBIN=$PWD/lib/test go install \
                github.com/livekit/livekit-server/cmd/server@v1.13.5 \
                && mv lib/test/server lib/test/livekit-server
                """) + (python != null ? "" : """
                no Python with LiveKit's SDK. This installs it: python3 -m venv lib/test/venv \
                && lib/test/venv/bin/pip install -r trials/requirements.txt
                """));

        int port, udpPort;
        try (var tcp = new ServerSocket(0); var udp = new DatagramSocket()) {
            port = tcp.getLocalPort();
            udpPort = udp.getLocalPort();
        }
        output = Files.createTempFile("live-test-", ".log");
        serverLog = Files.createTempFile("live-test-server-", ".log");
        // lo is included, and media listens there alone; clients ask nobody for their address.
        server = new ProcessBuilder(livekit, "--config-body", """
                port: %d
                bind_addresses: [127.0.0.1]
                keys: {%s: "%s"}
                logging: {level: info}
                rtc:
                  udp_port: %d
                  tcp_port: 0
                  node_ip: 127.0.0.1
                  use_external_ip: false
                  enable_loopback_candidate: true
                  interfaces: {includes: [lo]}
                  stun_servers: ["127.0.0.1:3478"]
                """.formatted(port, KEY, API_SECRET, udpPort))
                .redirectErrorStream(true).redirectOutput(serverLog.toFile()).start();
        url = "ws://127.0.0.1:" + port;
        String http = "http://127.0.0.1:" + port;
        dispatches = AgentDispatchServiceClient.createClient(http, KEY, API_SECRET);
        rooms = RoomServiceClient.createClient(http, KEY, API_SECRET);
        await("livekit-server to come up", serverLog, () -> {
            try {
                return rooms.listRooms().execute().isSuccessful();
            } catch (ConnectException e) {
                return false;
            }
        });

        crm = new DemoCrm(0, (body, signature) ->
                signature.equals(HexFormat.of().formatHex(hmac(SECRET.getBytes(UTF_8), body))));
        crm.contact(ADA, "{\"id\":\"c-1\",\"name\":\"Ada Byron\"}");
        crm.contact("+15550101", "{\"id\":17,\"name\":\"Charles Babbage\"}");
        model = new DemoModel(0, SCRIPT);
        // A process whose parent ignores SIGINT, as a shell's background jobs do, ignores it too.
        var run = new ProcessBuilder(python, "-c", """
                import os, signal
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.execv("./run.sh", ["./run.sh", "dev"])""").redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(output.toFile()));
        proxy = new Proxy(port);
        run.environment().putAll(Map.of("LIVEKIT_URL", proxy.url(), "LIVEKIT_API_KEY", KEY,
                "LIVEKIT_API_SECRET", API_SECRET, "LIVEKIT_AGENT_NAME", AGENT,
                "CRM_URL", crm.url(), "CRM_API_KEY", "crm-key", "WEBHOOK_SECRET", SECRET,
                "OPENAI_API_KEY", "sk-test", "OPENAI_BASE_URL", model.baseUrl()));
        program = run.start();
        await("the program to register", output,
                () -> Files.readString(output).contains("registered"));
    }

    @AfterAll
    static void stop() throws Exception {
        for (Process process : Stream.concat(callers.stream().map(caller -> caller.process),
                Stream.of(program, server).filter(Objects::nonNull)).toList()) {
            process.destroyForcibly(); // SIGTERM would let the server wait for its rooms to end
            process.waitFor(5, TimeUnit.SECONDS);
        }
        if (proxy != null) proxy.front.close();
        if (model != null) model.close();
        if (crm != null) crm.close();
        if (output != null) Files.deleteIfExists(output);
        if (serverLog != null) Files.deleteIfExists(serverLog);
    }

    @Test @Order(1)
    void oneWholeCall() throws Exception {
        var caller = Caller.onThePhone("whole", ADA);
        double joined = caller.at("joined"), published = caller.at("published");
        double active = caller.at("active"), loud = caller.at("loud");
        var session = model.sessions().getLast();
        double listenedMs = System.nanoTime() / 1e6 - active, heardMs = session.heard().length / 48;
        var started = webhook(caller.room, "call.started");
        var search = to("/contacts/search");
        figure("caller in the room to call.started at the CRM", ms(started) - joined);
        figure("active to greeting heard", loud - active);

        // Ringing: the caller is known before the phone is answered, and is not listened to yet.
        assertTrue(ms(search) < published, "the CRM is asked before the phone is answered");
        assertEquals("Bearer crm-key", search.headers().get("authorization"));
        assertEquals(ADA, search.json().getJsonObject("filter").getString("phone"));
        assertTrue(session.session().getString("instructions").contains("Ada Byron"));
        assertEquals(4, session.session().getJsonArray("tools").size());
        assertEquals("Bearer sk-test", session.authorization());
        assertBetween(0, loud - active, 1000, "ms from active to the greeting");
        assertBetween(0, heardMs, listenedMs + 40, "ms heard by the model since active");
        assertEquals(DemoModel.TONE_HZ, caller.next("tone").getInt("hz"));
        assertBetween(940, caller.next("silent").getInt("ms"), 1080, "ms of greeting");

        // Four turns, four tools. Each turn has a pitch of its own, to be found at the model.
        for (int hz : List.of(600, 700, 800, 900)) {
            if (hz == 800) { // with a new track on the line of the old one: not to be heard twice
                caller.command("republish");
                caller.next("republished");
                caller.say(0, 1000); // until it is subscribed
                caller.await("saying", report -> report.getInt("hz") == 0);
            }
            caller.turn(hz, 500);
            assertBetween(440, toneMs(session.heard(), hz), 560, "ms of " + hz + " Hz heard");
        }
        List<JsonObject> answers = session.received().stream()
                .map(event -> event.getJsonObject("item"))
                .filter(item -> item != null
                        && item.getString("type").equals("function_call_output"))
                .map(item -> json(item.getString("output"))).toList();
        assertEquals(4, answers.size());
        assertEquals("Charles Babbage", answers.get(1).getString("name"));
        assertTrue(answers.get(3).toString().contains("No destinations are configured"));
        assertEquals("wants a refund",
                webhook(caller.room, "intent.recorded").json().getString("intent"));
        assertEquals(NOTE, webhook(caller.room, "crm.updated").json().getString("note"));
        assertEquals(2, crm.requests().stream()
                .filter(request -> request.path().equals("/contacts/search")).count());
        assertEquals(Json.createObjectBuilder().add("text", NOTE).add("source", "ai-agent").build(),
                to("/contacts/c-1/notes").json());

        // Barge-in: the caller lets a long sentence run for a second, then talks over it.
        caller.say(950, 500);
        caller.next("loud");
        caller.say(0, 1000);
        caller.say(1000, 500);
        caller.await("saying", report -> report.getInt("hz") == 0);
        double onset = caller.at("saying");
        var silent = caller.next("silent");
        var truncate = session.await("conversation.item.truncate", _ -> true, SOON);
        double quiet = silent.getJsonNumber("last_loud").doubleValue() - onset;
        int apart = truncate.getInt("audio_end_ms") - silent.getInt("ms");
        figure("barge-in to silence, 80 of it the model's VAD", quiet);
        figure("truncated at, minus what the caller heard", apart);
        assertBetween(0, quiet, 400 + 80, "ms from barge-in to silence");
        assertBetween(-60, apart, 60, "ms between truncation and truth");
        caller.next("loud");
        caller.next("silent"); // the model has answered the interruption

        double hungUp = caller.hangUp();
        var ended = ended(caller, "caller_hung_up");
        var activity = to("/contacts/c-1/activities");
        figure("hang-up to call.ended at the CRM", ms(ended) - hungUp);
        // The agent came after the caller and before its own track.
        assertBetween(hungUp - published, ended.json().getInt("duration_ms"),
                hungUp - joined + 200, "duration_ms");
        assertEquals(Set.of("type", "duration_seconds", "intent", "summary", "transfer_to"),
                activity.json().keySet());
        assertEquals("wants a refund", activity.json().getString("intent"));
        for (JsonObject event : events(caller.room)) {
            assertEquals(ADA, event.getString("phone"));
            assertTrue(event.getString("sip_call_id").contains(caller.room));
            boolean known = !event.getString("event").equals("call.started");
            assertEquals(known ? "c-1" : null, string(event, "contact_id"));
        }
        assertEquals(Set.of(960), Set.copyOf(session.appendSizes()), "appends of 20 ms");
        assertEquals(1, count(session.received(), "conversation.item.truncate"));
        assertEquals(0, count(session.sent(), "error"), "mistakes that the model noticed");
    }

    @Test @Order(2)
    void somebodyWithABrowserDispatchedWithMetadataThatIsNotJson() throws Exception {
        var caller = new Caller("browser", "somebody", "--kind", "standard");
        caller.next("joined"); // and has made the room, without an agent
        dispatches.createDispatch(caller.room, AGENT, "not { JSON").execute();
        assertEquals(DemoModel.TONE_HZ, caller.next("tone").getInt("hz"));
        caller.hangUp();
        ended(caller, "caller_hung_up");
        for (JsonObject event : events(caller.room)) {
            assertNull(string(event, "phone"));
            assertNull(string(event, "contact_id"));
            assertNull(string(event, "sip_call_id"));
        }
    }

    @Test @Order(3)
    void whenSomebodyElseLeavesTheCallGoesOn() throws Exception {
        var caller = Caller.onThePhone("guest", ADA);
        caller.next("silent"); // the greeting is over
        var guest = new Caller(caller.room, "guest", "--kind", "standard");
        caller.await("published", report -> report.getString("identity").equals("guest"));
        guest.say(1100, 300);
        guest.next("said");
        guest.hangUp();
        caller.await("left", report -> report.getString("identity").equals("guest"));
        caller.turn(600, 500);
        assertEquals(0, toneMs(model.sessions().getLast().heard(), 1100), "ms of the guest heard");
        caller.hangUp();
        ended(caller, "caller_hung_up");
    }

    @Test @Order(4)
    void aWrongKeyIsSaidAtStart() throws Exception {
        var run = new ProcessBuilder("./run.sh", "dev").redirectErrorStream(true);
        run.environment().putAll(Map.of("LIVEKIT_URL", url, "LIVEKIT_API_KEY", KEY,
                "LIVEKIT_API_SECRET", "not " + API_SECRET, "CRM_URL", crm.url(),
                "WEBHOOK_SECRET", SECRET, "OPENAI_API_KEY", "sk-test"));
        var process = run.start();
        String said = new String(process.getInputStream().readAllBytes(), UTF_8);
        assertTrue(process.waitFor(5, TimeUnit.SECONDS) && process.exitValue() == 2, said);
        assertTrue(said.contains("check LIVEKIT_API_KEY and LIVEKIT_API_SECRET"), said);
        assertTrue(!said.contains(API_SECRET) && !said.contains("registered"), said);
    }

    @Test @Order(4)
    void theDispatchIsDeleted() throws Exception {
        var caller = new Caller("undispatched", "sip_" + ADA, "--phone", ADA);
        caller.next("joined");
        var dispatch = dispatches.createDispatch(caller.room, AGENT).execute().body();
        caller.next("tone");
        dispatches.deleteDispatch(caller.room, dispatch.getId()).execute();
        caller.next("disconnected"); // not left alone with silence
        ended(caller, "room_lost");
    }

    @Test @Order(4)
    void theWorkersConnectionIsCut() throws Exception {
        var caller = Caller.onThePhone("cut", ADA);
        caller.next("silent"); // the greeting is over
        proxy.cutWorker();
        await("the program to register again", output, () -> Files.readString(output)
                .split("registered", -1).length == 3);
        caller.turn(600, 500); // nothing of it was noticed here
        caller.hangUp();
        assertEquals("caller_hung_up",
                webhook(caller.room, "call.ended").json().getString("reason"));
        var next = Caller.onThePhone("next", ADA);
        next.next("tone");
        next.hangUp();
        ended(next, "caller_hung_up");
    }

    @Test @Order(4)
    void theRoomIsDeleted() throws Exception {
        var caller = Caller.onThePhone("deleted", ADA);
        caller.next("tone");
        rooms.deleteRoom(caller.room).execute();
        assertEquals("ROOM_DELETED", caller.next("disconnected").getString("reason"));
        ended(caller, "room_lost");
    }

    @Test @Order(5)
    void theModelIsLost() throws Exception {
        var caller = Caller.onThePhone("model", ADA);
        caller.next("tone");
        model.sessions().getLast().drop();
        caller.next("disconnected"); // not left alone with silence
        ended(caller, "model_lost");
        assertEquals(List.of(), rooms.listRooms(List.of(caller.room)).execute().body());
    }

    @Test @Order(6)
    void threeAtOnce() throws Exception {
        var three = List.of(Caller.onThePhone("first", ADA), Caller.onThePhone("second", ADA),
                Caller.onThePhone("third", "+15550999"));
        for (Caller caller : three) {
            assertEquals(DemoModel.TONE_HZ, caller.next("tone").getInt("hz"));
        }
        for (Caller caller : three) caller.hangUp();
        for (Caller caller : three) ended(caller, "caller_hung_up");
    }

    @Test @Order(7)
    void stoppedWithCtrlC() throws Exception {
        var caller = Caller.onThePhone("stopped", ADA);
        caller.next("tone");
        long stopped = System.nanoTime();
        new ProcessBuilder("kill", "-INT", "" + program.pid()).start();
        assertTrue(program.waitFor(3, TimeUnit.SECONDS), "the program has ended within 3 s");
        figure("Ctrl-C to the end of the process", (System.nanoTime() - stopped) / 1e6);
        caller.next("disconnected");
        ended(caller, "worker_stopped");

        // Looked at last of all, when nothing more can come.
        var ends = crm.events().stream()
                .filter(event -> event.getString("event").equals("call.ended")).toList();
        assertEquals(ends.size(),
                ends.stream().map(event -> event.getString("room")).distinct().count());
    }

    /// Waits until a call has ended for that reason, and holds all its events, and the job's end
    /// at the server, against what is promised of every call.
    private static DemoCrm.Request ended(Caller caller, String reason) throws Exception {
        var ended = webhook(caller.room, "call.ended");
        assertEquals(reason, ended.json().getString("reason"));
        List<JsonObject> events = events(caller.room);
        assertEquals("call.started", events.getFirst().getString("event"));
        assertEquals(ended.json(), events.getLast());
        assertEquals(events.size(), events.stream().map(event -> event.getString("id"))
                .distinct().count());
        String call = ended.json().getString("call_id");
        assertTrue(call.startsWith("AJ_"), call);
        for (int i = 0; i < events.size(); i++) {
            JsonObject event = events.get(i);
            assertEquals(i + 1, event.getInt("sequence"));
            assertEquals(call, event.getString("call_id"));
            String id = event.getString("id"), timestamp = event.getString("timestamp");
            assertTrue(id.matches("evt_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), id);
            assertTrue(timestamp.matches("....-..-..T..:..:..\\.[0-9]{3}Z"), timestamp);
            Instant.parse(timestamp);
        }
        for (var request : crm.requests()) {
            if (request.path().startsWith("/webhooks/")) {
                String id = request.json().getString("id");
                String signed = id + "." + request.headers().get("webhook-timestamp") + "."
                        + new String(request.body(), UTF_8);
                assertTrue(request.verified(), "X-Signature of " + id);
                assertEquals(id, request.headers().get("webhook-id"));
                assertEquals("v1," + Base64.getEncoder().encodeToString(
                        hmac(SIGNING_KEY, signed.getBytes(UTF_8))),
                        request.headers().get("webhook-signature"));
            }
        }
        // The server writes one line for each job. Deleting a room takes the agent out of it, and
        // that the server itself calls a failure, before anybody can report a success.
        Callable<String> end = () -> Files.readString(serverLog).lines()
                .filter(line -> line.contains("job ended") && line.contains(call))
                .findFirst().orElse("");
        await("the end of the job", serverLog, () -> !end.call().isEmpty());
        if (!reason.equals("room_lost")) {
            assertTrue(end.call().contains("\"JS_SUCCESS\""), end.call());
        }
        return ended;
    }

    private static DemoCrm.Request to(String path) {
        var found = crm.await(request -> request.path().equals(path), SOON);
        assertNotNull(found, "nothing came to " + path);
        return found;
    }

    private static DemoCrm.Request webhook(String room, String event) {
        var found = crm.await(request -> request.path().startsWith("/webhooks/")
                && request.json().getString("room").equals(room)
                && request.json().getString("event").equals(event), SOON);
        assertNotNull(found, "no " + event + " of room " + room + " at the CRM");
        return found;
    }

    private static List<JsonObject> events(String room) {
        return crm.events().stream().filter(event -> event.getString("room").equals(room)).toList();
    }

    /// How much of the sound is this tone, in windows of 20 ms: of a window that is nothing else,
    /// one bin of its Fourier transform holds all the energy.
    private static int toneMs(byte[] pcm, int hz) {
        var samples = ByteBuffer.wrap(pcm).order(ByteOrder.LITTLE_ENDIAN).asShortBuffer();
        int size = 480, windows = 0;
        for (int from = 0; from + size <= samples.limit(); from += size) {
            double re = 0, im = 0, energy = 0;
            for (int i = 0; i < size; i++) {
                double turn = 2 * Math.PI * hz * i / 24_000, sample = samples.get(from + i);
                re += sample * Math.cos(turn);
                im += sample * Math.sin(turn);
                energy += sample * sample;
            }
            boolean loud = Math.sqrt(energy / size) > 300;
            if (loud && (re * re + im * im) * 2 / (size * energy) > 0.7) windows++;
        }
        return windows * 20;
    }

    private static byte[] hmac(byte[] key, byte[] body) {
        try {
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            return mac.doFinal(body);
        } catch (GeneralSecurityException e) {
            throw new AssertionError(e);
        }
    }

    private static String firstThatRuns(List<String> programs, String... arguments)
            throws InterruptedException {
        for (String program : programs) {
            var command = Stream.concat(Stream.of(program), Stream.of(arguments)).toList();
            try {
                var process = new ProcessBuilder(command).redirectErrorStream(true)
                        .redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
                if (process.waitFor(20, TimeUnit.SECONDS) && process.exitValue() == 0) {
                    return program;
                }
                process.destroyForcibly();
            } catch (IOException e) {
                // there is no such program
            }
        }
        return null;
    }

    /// Looks every 20 ms, for 30 s, and then fails with what `log` says.
    private static void await(String what, Path log, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (!holds.call()) {
            if (System.nanoTime() > end) {
                fail("waited in vain for " + what + ":\n" + Files.readString(log));
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    private static void assertBetween(double least, double value, double most, String what) {
        assertTrue(least <= value && value <= most,
                what + ": " + value + " is not in " + least + " .. " + most);
    }

    private static void figure(String what, double ms) {
        System.out.printf(Locale.ROOT, "  %-50s %6.0f ms%n", what, ms);
    }

    private static double ms(DemoCrm.Request request) {
        return request.atNanos() / 1e6;
    }

    private static long count(List<JsonObject> events, String type) {
        return events.stream().filter(event -> event.getString("type").equals(type)).count();
    }

    private static String string(JsonObject from, String name) {
        return from.get(name) instanceof JsonString string ? string.getString() : null;
    }

    private static JsonObject json(String text) {
        try (var reader = Json.createReader(new StringReader(text))) {
            return reader.readObject();
        }
    }

    /// Stands between the program and LiveKit, to cut the worker's connection and no other.
    private static final class Proxy {
        final ServerSocket front = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        private final List<Socket> workers = new CopyOnWriteArrayList<>();

        Proxy(int port) throws IOException {
            Thread.ofVirtual().start(() -> {
                while (!front.isClosed()) {
                    try {
                        Socket client = front.accept();
                        Socket livekit = new Socket(InetAddress.getLoopbackAddress(), port);
                        Thread.ofVirtual().start(() -> pump(client, livekit));
                        Thread.ofVirtual().start(() -> pump(livekit, client));
                    } catch (IOException e) {
                        // closed
                    }
                }
            });
        }

        String url() {
            return "ws://127.0.0.1:" + front.getLocalPort();
        }

        void cutWorker() throws IOException {
            for (Socket worker : workers) worker.close();
            workers.clear();
        }

        private void pump(Socket from, Socket to) {
            byte[] some = new byte[16_384];
            try (from; to) {
                for (int n; (n = from.getInputStream().read(some)) >= 0; ) {
                    if (new String(some, 0, n, UTF_8).startsWith("GET /agent")) workers.add(from);
                    to.getOutputStream().write(some, 0, n);
                }
            } catch (IOException e) {
                // one of the two has gone, and the other goes with it
            }
        }
    }

    /// One caller.py: what it is told, and what it reports. Reports of a kind are taken in order,
    /// each once, also when they came before.
    private static final class Caller {
        final String room;
        final Process process;
        private final PrintWriter commands;
        private final Map<String, BlockingQueue<JsonObject>> reports = new ConcurrentHashMap<>();

        static Caller onThePhone(String room, String phone) throws IOException {
            return new Caller(room, "sip_" + phone, "--phone", phone, "--agent", AGENT);
        }

        Caller(String room, String identity, String... options) throws IOException {
            this.room = room;
            var command = new ArrayList<>(List.of(python, "trials/caller.py", url, room, identity));
            command.addAll(List.of(options));
            var builder = new ProcessBuilder(command)
                    .redirectError(ProcessBuilder.Redirect.appendTo(output.toFile()));
            builder.environment().putAll(
                    Map.of("LIVEKIT_API_KEY", KEY, "LIVEKIT_API_SECRET", API_SECRET));
            process = builder.start();
            commands = new PrintWriter(process.outputWriter(), true);
            callers.add(this);
            Thread.ofVirtual().start(() -> process.inputReader().lines()
                    .map(LiveTest::json).forEach(r -> reports(r.getString("event")).add(r)));
        }

        private BlockingQueue<JsonObject> reports(String event) {
            return reports.computeIfAbsent(event, _ -> new LinkedBlockingQueue<>());
        }

        JsonObject next(String event) throws InterruptedException {
            var report = reports(event).poll(SOON.toMillis(), TimeUnit.MILLISECONDS);
            assertNotNull(report, "no `" + event + "` from the caller in room " + room);
            return report;
        }

        JsonObject await(String event, Predicate<JsonObject> which) throws InterruptedException {
            while (true) {
                var report = next(event);
                if (which.test(report)) return report;
            }
        }

        double at(String event) throws InterruptedException {
            return next(event).getJsonNumber("at").doubleValue();
        }

        void command(String line) {
            commands.println(line);
        }

        void say(int hz, int ms) {
            command("say " + hz + " " + ms);
        }

        /// Speaks, and hears the answer to its end. What was heard before does not count.
        void turn(int hz, int ms) throws InterruptedException {
            reports("loud").clear();
            reports("silent").clear();
            say(hz, ms);
            next("loud");
            next("silent");
        }

        /// Returns when that was, in ms of `System.nanoTime()`.
        double hangUp() throws InterruptedException {
            command("hangup");
            return at("hangup");
        }
    }
}
