package trials;

import module java.base;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import demo.DemoCrm;
import demo.DemoModel;
import io.livekit.server.AgentDispatchServiceClient;
import io.livekit.server.RoomServiceClient;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;
import livekit.LivekitSip.SIPStatus;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.extension.AfterTestExecutionCallback;
import org.junit.jupiter.api.extension.RegisterExtension;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static trials.Stand.delete;
import static trials.Stand.hmac;
import static trials.Stand.json;

/// What the trials stand on: a real livekit-server, the program as a process, stand-ins for the CRM
/// and the model, a proxy between the program and LiveKit that can break things, and callers on
/// LiveKit's own client (caller.py). Each trial extends this class and starts what it needs of it.
/// Where livekit-server or the Python SDK is missing, the trial is skipped and says how to get
/// them.
///
/// This class calls no class of the program, and checks signatures with the JDK alone. All traffic
/// stays on the loopback interface. The ports are whichever are free.
abstract class Stage {
    static final String AGENT = "webhook-crm-agent", KEY = "devkey";
    static final String API_SECRET = "a secret of livekit-server's own, 32 letters or more";
    static final byte[] SIGNING_KEY = "twenty-four bytes, or so".getBytes(UTF_8);
    static final String SECRET =
            "whsec_" + Base64.getEncoder().encodeToString(SIGNING_KEY);
    static final String ADA = "+15550100", NOTE = "Wants the \"blue\" one.\nCall back.";
    static final Duration SOON = Duration.ofSeconds(20);
    /// `./run.sh test all`: a trial that has a long form takes it.
    static final boolean ALL = "all".equals(System.getProperty("trials"));

    static Path output, serverLog;
    static Process server, program;
    static final List<Process> programs = new CopyOnWriteArrayList<>();
    static final List<Path> folders = new CopyOnWriteArrayList<>();
    static String livekit, serverConfig;
    static Proxy proxy;
    static DemoCrm crm;
    static DemoModel model;
    static String url, python;
    static AgentDispatchServiceClient dispatches;
    static RoomServiceClient rooms;
    static final List<Caller> callers = new CopyOnWriteArrayList<>();

    @RegisterExtension
    static final AfterTestExecutionCallback ON_FAILURE = test -> {
        if (test.getExecutionException().isPresent()) {
            System.out.println("What the program and the callers wrote:\n"
                    + Files.readString(output));
        }
    };

    /// Everything but the program. `script` is what the model does in each call.
    static void start(List<DemoModel.Step> script) throws Exception {
        String go = System.getProperty("user.home") + "/go/bin/";
        livekit = firstThatRuns(List.of("lib/test/livekit-server", "livekit-server",
                go + "livekit-server", go + "server"), "--version");
        python = firstThatRuns(List.of("lib/test/venv/bin/python", "python3"),
                "-c", "import livekit.rtc");
        assumeTrue(livekit != null && python != null, (livekit != null ? "" : "no livekit-server; ")
                + (python != null ? "" : "no Python with LiveKit's SDK; ")
                + "trials/install installs both");

        int port, udpPort;
        try (var tcp = new ServerSocket(0); var udp = new DatagramSocket()) {
            port = tcp.getLocalPort();
            udpPort = udp.getLocalPort();
        }
        output = Files.createTempFile("live-test-", ".log");
        serverLog = Files.createTempFile("live-test-server-", ".log");
        serverConfig = Files.readString(Path.of("trials/livekit.yaml"))
                .formatted(port, KEY, API_SECRET, "info", udpPort);
        url = "ws://127.0.0.1:" + port;
        String http = "http://127.0.0.1:" + port;
        dispatches = AgentDispatchServiceClient.createClient(http, KEY, API_SECRET);
        rooms = RoomServiceClient.createClient(http, KEY, API_SECRET);
        startServer();
        proxy = new Proxy(port);
        crm = new DemoCrm(0, (body, signature) ->
                signature.equals(HexFormat.of().formatHex(hmac(SECRET.getBytes(UTF_8), body))));
        crm.contact(ADA, "{\"id\":\"c-1\",\"name\":\"Ada Byron\"}");
        crm.contact("+15550101", "{\"id\":17,\"name\":\"Charles Babbage\"}");
        model = new DemoModel(0, script);
    }

    static void startServer() throws Exception {
        server = new ProcessBuilder(livekit, "--config-body", serverConfig)
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(serverLog.toFile())).start();
        await("livekit-server to come up", serverLog, () -> {
            try {
                return rooms.listRooms().execute().isSuccessful();
            } catch (ConnectException e) {
                return false;
            }
        });
    }

    /// Starts the program with that verb and `more` settings. Its output is added to `log`.
    static Process program(Path log, Map<String, String> more, String... verb) throws Exception {
        // A shell's background jobs ignore SIGINT, and so does every process that they start. This
        // one must not.
        var run = new ProcessBuilder(python, "-c", """
                import os, signal, sys
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.execv("./run.sh", ["./run.sh"] + sys.argv[1:])""").redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile()));
        run.command().addAll(List.of(verb));
        run.environment().putAll(Map.of("LIVEKIT_URL", proxy.url(), "LIVEKIT_API_KEY", KEY,
                "LIVEKIT_API_SECRET", API_SECRET, "LIVEKIT_AGENT_NAME", AGENT,
                "CRM_URL", crm.url(), "CRM_API_KEY", "crm-key", "WEBHOOK_SECRET", SECRET,
                "OPENAI_API_KEY", "sk-test", "OPENAI_BASE_URL", model.baseUrl()));
        // The docs show the log of a terminal. AttackTest has the log without words.
        run.environment().putAll(Map.of("OUTBOX_DIR", newFolder().toString(), "LOG_WORDS", "true"));
        run.environment().putAll(more);
        Process started = run.start();
        programs.add(started);
        return started;
    }

    /// An empty folder, which goes when the trial is over.
    static Path newFolder() throws IOException {
        Path folder = Files.createTempDirectory("live-test-");
        folders.add(folder);
        return folder;
    }

    /// Starts the program as above, and waits until it takes calls.
    static Process worker(Path log, Map<String, String> more, String verb) throws Exception {
        Process started = program(log, more, verb);
        await("the program to register", log,
                () -> Files.readString(log).contains("registered"));
        return started;
    }

    @AfterAll
    static void stop() throws Exception {
        for (Process process : Stream.concat(callers.stream().map(caller -> caller.process),
                Stream.concat(programs.stream(),
                        Stream.ofNullable(server))).toList()) {
            process.destroyForcibly(); // SIGTERM would let the server wait for its rooms to end
            process.waitFor(5, TimeUnit.SECONDS);
        }
        programs.clear();
        callers.clear();
        if (proxy != null) proxy.front.close();
        if (model != null) model.close();
        if (crm != null) crm.close();
        if (output != null) Files.deleteIfExists(output);
        if (serverLog != null) Files.deleteIfExists(serverLog);
        for (Path folder : folders) delete(folder);
        folders.clear();
    }

    /// Waits until a call has ended for that reason. Then it holds all events of the call, and the
    /// job's end at the server, against what is promised of every call.
    static DemoCrm.Request ended(Caller caller, String reason) throws Exception {
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
        Contract.holds(crm.requests());
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
        // The server writes one line for each job. When a room is deleted, the agent is taken out
        // of it, and the server calls the job a failure before anybody can report a success.
        Callable<String> end = () -> Files.readString(serverLog).lines()
                .filter(line -> line.contains("job ended") && line.contains(call))
                .findFirst().orElse("");
        await("the end of the job", serverLog, () -> !end.call().isEmpty());
        if (!List.of("room_lost", "taken_over").contains(reason)) {
            assertTrue(end.call().contains("\"JS_SUCCESS\""), end.call());
        }
        return ended;
    }

    static DemoCrm.Request to(String path) {
        var found = crm.await(request -> request.path().equals(path), SOON);
        assertNotNull(found, "nothing came to " + path);
        return found;
    }

    static DemoCrm.Request webhook(String room, String event) {
        var found = crm.await(request -> request.path().startsWith("/webhooks/")
                && request.json().getString("room").equals(room)
                && request.json().getString("event").equals(event), SOON);
        assertNotNull(found, "no " + event + " of room " + room + " at the CRM");
        return found;
    }

    static List<JsonObject> events(String room) {
        return crm.events().stream().filter(event -> event.getString("room").equals(room)).toList();
    }

    /// How many ms of the sound are this tone, in windows of 20 ms. When a window is nothing but
    /// the tone, one bin of its Fourier transform holds all the energy.
    static int toneMs(byte[] pcm, int hz) {
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

    static String firstThatRuns(List<String> programs, String... arguments)
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
    static void await(String what, Path log, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (!holds.call()) {
            if (System.nanoTime() > end) {
                fail("waited in vain for " + what + ":\n" + Files.readString(log));
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    static void assertBetween(double least, double value, double most, String what) {
        assertTrue(least <= value && value <= most,
                what + ": " + value + " is not in " + least + " .. " + most);
    }

    static void figure(String what, double ms) {
        System.out.printf(Locale.ROOT, "  %-50s %6.0f ms%n", what, ms);
    }

    static double ms(DemoCrm.Request request) {
        return request.atNanos() / 1e6;
    }

    static long count(List<JsonObject> events, String type) {
        return events.stream().filter(event -> event.getString("type").equals(type)).count();
    }

    static String string(JsonObject from, String name) {
        return from.get(name) instanceof JsonString string ? string.getString() : null;
    }

    /// Stands between the program and LiveKit. It cuts connections, refuses to resume one, and
    /// answers for LiveKit's SIP service, in the way that was measured with a real one.
    static final class Proxy {
        final ServerSocket front = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        private final List<Socket> workers = new CopyOnWriteArrayList<>();
        private final List<Socket> roomSockets = new CopyOnWriteArrayList<>();
        final List<SipRequest> sipRequests = new CopyOnWriteArrayList<>();
        volatile Function<SipRequest, String> sip = _ -> error(500, "internal", "no test", "");
        volatile boolean refuseResume;

        /// A request to the SIP service: its method, its body, and when it came (System.nanoTime).
        record SipRequest(String method, byte[] body, long atNanos) {}

        /// An HTTP answer in the form that Twirp gives it. `meta` is JSON or "".
        static String error(int status, String code, String msg, String meta) {
            return http(status, "{\"code\":\"" + code + "\",\"msg\":\"" + msg + "\""
                    + (meta.isEmpty() ? "" : ",\"meta\":" + meta) + "}");
        }

        static String http(int status, String body) {
            return "HTTP/1.1 " + status + " x\r\nContent-Type: application/json\r\n"
                    + "Content-Length: " + body.length() + "\r\nConnection: close\r\n\r\n" + body;
        }

        /// What a newer server says with a 200 to a transfer: TransferSIPParticipantResponse, in
        /// protobuf. livekit/protocol's livekit_sip.proto has the numbers. `sip` may be null.
        static byte[] outcome(int status, int reason, SIPStatus sip) {
            var fields = UnknownFieldSet.newBuilder()
                    .mergeLengthDelimitedField(1, ByteString.copyFromUtf8("STR_1"));
            if (status != 0) fields.mergeVarintField(2, status);
            if (reason != 0) fields.mergeVarintField(3, reason);
            if (sip != null) fields.mergeLengthDelimitedField(4, sip.toByteString());
            return fields.build().toByteArray();
        }

        Proxy(int port) throws IOException {
            Thread.ofVirtual().start(() -> {
                while (!front.isClosed()) {
                    try {
                        Socket client = front.accept();
                        Thread.ofVirtual().start(() -> {
                            try {
                                var livekit = new Socket(InetAddress.getLoopbackAddress(), port);
                                Thread.ofVirtual().start(() -> pump(livekit, client));
                                pump(client, livekit);
                            } catch (IOException e) {
                                close(client); // as the server refuses it
                            }
                        });
                    } catch (IOException e) {
                        // closed
                    }
                }
            });
        }

        private static void close(Socket socket) {
            try {
                socket.close();
            } catch (IOException e) {
                // it is of no use any more either way
            }
        }

        String url() {
            return "ws://127.0.0.1:" + front.getLocalPort();
        }

        void cutWorker() throws IOException {
            for (Socket worker : workers) worker.close();
            workers.clear();
        }

        void cutRooms() throws IOException {
            for (Socket room : roomSockets) room.close();
            roomSockets.clear();
        }

        private void pump(Socket from, Socket to) {
            byte[] some = new byte[16_384];
            try (from; to) {
                for (int n; (n = from.getInputStream().read(some)) >= 0; ) {
                    String text = new String(some, 0, n, UTF_8);
                    if (text.startsWith("GET /agent")) workers.add(from);
                    if (text.startsWith("GET /rtc?")) {
                        if (refuseResume && text.contains("reconnect=1")) {
                            from.getOutputStream().write(http(403, "no").getBytes(UTF_8));
                            return;
                        }
                        roomSockets.add(from);
                    }
                    if (text.startsWith("POST /twirp/livekit.SIP/")) {
                        answerSip(from, Arrays.copyOf(some, n));
                        return;
                    }
                    to.getOutputStream().write(some, 0, n);
                }
            } catch (IOException e) {
                // one of the two sides has gone, and the other goes with it
            }
        }

        private void answerSip(Socket client, byte[] begun) throws IOException {
            var all = new ByteArrayOutputStream();
            all.writeBytes(begun);
            int head;
            while ((head = all.toString(ISO_8859_1).indexOf("\r\n\r\n")) < 0) {
                all.write(client.getInputStream().read());
            }
            var length = Pattern.compile("(?i)content-length: *(\\d+)")
                    .matcher(all.toString(ISO_8859_1));
            length.find();
            int size = head + 4 + Integer.parseInt(length.group(1));
            while (all.size() < size) all.write(client.getInputStream().read());
            String path = all.toString(ISO_8859_1).split(" ", 3)[1];
            var request = new SipRequest(path.substring(path.lastIndexOf('/') + 1),
                    Arrays.copyOfRange(all.toByteArray(), head + 4, size), System.nanoTime());
            sipRequests.add(request);
            String answer = sip.apply(request);
            client.getOutputStream().write(answer.getBytes(ISO_8859_1)); // a body may be binary
        }
    }

    /// One caller.py: what it is told, and what it reports. Reports of one kind are taken in their
    /// order, each of them once. A report may have come before somebody asks for it.
    static final class Caller {
        final String room;
        final Process process;
        double lastLoud;                // when the answer to the last turn ended, in ms
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
            Thread.ofVirtual().start(() -> {
                try {
                    process.inputReader().lines()
                            .map(Stand::json).forEach(r -> reports(r.getString("event")).add(r));
                } catch (UncheckedIOException e) {
                    // it was killed
                }
            });
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

        /// The next report, or null when none comes in that time.
        JsonObject poll(String event, Duration bound) throws InterruptedException {
            long end = System.nanoTime() + bound.toNanos();
            while (System.nanoTime() < end && peek("disconnected") == null) {
                var report = reports(event).poll(50, TimeUnit.MILLISECONDS);
                if (report != null) return report;
            }
            return reports(event).poll();
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

        /// A report that has come already and was not taken, or null.
        JsonObject peek(String event) {
            return reports(event).peek();
        }

        /// Speaks, and hears the answer to its end. Earlier sound does not count.
        void turn(int hz, int ms) throws InterruptedException {
            reports("loud").clear();
            reports("silent").clear();
            say(hz, ms);
            next("loud");
            lastLoud = next("silent").getJsonNumber("last_loud").doubleValue();
        }

        /// Returns when the caller hung up, in ms of `System.nanoTime()`.
        double hangUp() throws InterruptedException {
            command("hangup");
            return at("hangup");
        }
    }
}
