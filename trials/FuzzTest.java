package trials;

import module java.base;
import com.fasterxml.jackson.databind.JsonNode;
import com.google.protobuf.InvalidProtocolBufferException;
import com.openai.core.ObjectMappers;
import com.openai.models.realtime.RealtimeServerEvent;
import com.sun.management.HotSpotDiagnosticMXBean.ThreadDumpFormat;
import com.sun.management.HotSpotDiagnosticMXBean;
import com.sun.net.httpserver.HttpServer;
import delivery.Http;
import demo.DemoModel;
import jakarta.json.Json;
import java.lang.management.ManagementFactory;
import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.net.http.HttpHeaders;
import java.util.logging.Level;
import java.util.logging.Logger;
import livekit.LivekitAgent.*;
import livekit.LivekitModels.*;
import livekit.LivekitRoom.*;
import livekit.LivekitRtc.*;
import mockwebserver3.MockWebServer;
import okhttp3.WebSocket;
import okio.ByteString;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import room.Dispatch;
import room.Worker;
import start.Settings;
import voice.Event;
import voice.Line;
import voice.Mailbox;
import voice.Mailbox.Alarm;
import voice.Model;
import voice.Numbers;
import voice.Party;
import voice.Realtime;
import voice.Speaker;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;
import static trials.Stand.json;

/// Every byte from outside is distrusted. This test makes some 100,000 odd inputs from valid ones
/// and sends them in by every door that takes somebody else's bytes. Whatever they are, every
/// exception is caught, nothing hangs, no thread is left over, and each trouble is one clean line
/// in the log: in words, of bounded length, without control characters, secrets or whole phone
/// numbers.
///
/// The same seed makes the same inputs (`-Dseed=1`). Their order at the sockets differs from run to
/// run. Where a door is a socket, the inputs come through it, and the other end is a stand-in that
/// is wrong on purpose. Elsewhere the method behind the door is called.
///
/// What is done with valid input is judged by AgentTest and the tests of the floors. Not tried
/// here: sound and data over WebRTC itself, TLS, and broken WebSocket frames, which are the
/// libraries' part. Nothing leaves the loopback interface.
public final class FuzzTest {
    static final long SEED = Long.getLong("seed", 20_260_101);

    // The log may show none of these. The inputs are made with these phone numbers.
    static final String API_SECRET = "a secret of LiveKit's with 32 letters or more";
    static final String TOKEN = "eyJ-a-token-of-a-room-";
    static final String WEBHOOK_SECRET = "whsec_dHdlbnR5LWZvdXIgYnl0ZXMsIG9yIHNv";
    private static final String CRM_KEY = "crm-key-of-the-fuzz", MODEL_KEY = "sk-key-of-the-fuzz";
    static final String PHONE = "+15550002222", OTHER = "+4930901820";
    private static final List<String> NEVER_LOGGED = List.of(API_SECRET, TOKEN, WEBHOOK_SECRET,
            CRM_KEY, MODEL_KEY, PHONE.substring(1), OTHER.substring(1));
    private static final int LONGEST_LINE = 2_000;

    private static final Map<String, Integer> INPUTS = new ConcurrentSkipListMap<>();
    private static final PrintStream OUT = System.out, ERR = System.err;
    private static final List<Logger> QUIET = Stream.of(MockWebServer.class.getName())
            .map(Logger::getLogger).toList(); // held, because a logger nobody holds loses its level
    private static long began;

    private final Log log = new Log();
    private final List<AutoCloseable> open = new ArrayList<>();
    private Mutator odd;
    private String door;
    private long doorOpened;

    @BeforeAll
    static void begin() {
        began = System.nanoTime();
        QUIET.forEach(logger -> logger.setLevel(Level.OFF)); // they tell of all that we break
        OUT.println("fuzzing with -Dseed=" + SEED);
    }

    @BeforeEach
    void listen(TestInfo test) {
        door = test.getTestMethod().orElseThrow().getName();
        doorOpened = System.nanoTime();
        odd = new Mutator(SEED + door.hashCode());
        var checked = new PrintStream(log, true, UTF_8);
        System.setOut(checked);
        System.setErr(checked);
        Thread.setDefaultUncaughtExceptionHandler((thread, thrown) ->
                log.wrong("not caught in " + thread.getName(), "" + thrown
                        + Arrays.asList(thrown.getStackTrace()).stream().limit(6).toList()));
    }

    @AfterEach
    void allIsWell() throws Exception {
        try {
            for (AutoCloseable each : open.reversed()) {
                each.close();
            }
        } finally {
            System.setOut(OUT);
            System.setErr(ERR);
            Thread.setDefaultUncaughtExceptionHandler(null);
        }
        OUT.printf("  %-32s %6d inputs, %5d lines, %5.1f s%n", door, INPUTS.getOrDefault(door, 0),
                log.lines, (System.nanoTime() - doorOpened) / 1e9);
        assertEquals("", log.wrong());
    }

    @AfterAll
    static void howMany() {
        OUT.printf("  %-32s %6d inputs, %17.1f s%n", "all",
                INPUTS.values().stream().mapToInt(all -> all).sum(),
                (System.nanoTime() - began) / 1e9);
    }

    private <T extends AutoCloseable> T opened(T it) {
        open.add(it);
        return it;
    }

    private void count(int inputs) {
        INPUTS.merge(door, inputs, Integer::sum);
    }

    // By reflection: these methods are private, or their class is in no package.

    static Object make(String type, Object... given) throws Exception {
        for (Constructor<?> each : Class.forName(type).getDeclaredConstructors()) {
            if (takes(each, given)) {
                each.setAccessible(true);
                return each.newInstance(given);
            }
        }
        throw new NoSuchMethodException(type);
    }

    /// `on` is an object or, for a static method, its class. Throws what the method throws.
    static Object call(Object on, String name, Object... given) throws Exception {
        for (Method each : (on instanceof Class<?> type ? type : on.getClass())
                .getDeclaredMethods()) {
            if (each.getName().equals(name) && takes(each, given)) {
                each.setAccessible(true);
                try {
                    return each.invoke(on, given);
                } catch (InvocationTargetException e) {
                    if (e.getCause() instanceof Exception why) {
                        throw why;
                    }
                    throw new AssertionError("an Error in " + name, e.getCause());
                }
            }
        }
        throw new NoSuchMethodException(on + "." + name);
    }

    private static boolean takes(Executable door, Object... given) {
        Class<?>[] types = door.getParameterTypes();
        return types.length == given.length && IntStream.range(0, given.length).allMatch(
                i -> given[i] == null || types[i].isInstance(given[i])
                        || types[i] == int.class && given[i] instanceof Integer
                        || types[i] == long.class && given[i] instanceof Long
                        || types[i] == boolean.class && given[i] instanceof Boolean);
    }

    // The CRM.

    private static final String CONTACTS = """
            {"results":[{"id":"c-1","name":"Ada Byron","email":"ada@example.com",\
            "company":"Engines & Co","open_tickets":3},{"id":17,"name":null}]}""";

    /// A CRM that answers searches with whatever `answer` says, and remembers its webhooks.
    private HttpServer crm(Supplier<byte[]> answer, List<String> webhooks) throws IOException {
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.setExecutor(Executors.newVirtualThreadPerTaskExecutor());
        server.createContext("/", exchange -> {
            try (exchange) {
                String path = exchange.getRequestURI().getPath();
                byte[] body = exchange.getRequestBody().readAllBytes();
                if (path.startsWith("/webhooks/")) {
                    webhooks.add(new String(body, UTF_8));
                }
                byte[] said = path.equals("/contacts/search") ? answer.get() : new byte[0];
                exchange.sendResponseHeaders(200, said.length == 0 ? -1 : said.length);
                exchange.getResponseBody().write(said);
            }
        });
        server.start();
        open.add(() -> server.stop(0));
        return server;
    }

    private static String url(HttpServer server) {
        return "http://127.0.0.1:" + server.getAddress().getPort();
    }

    private Path folder() throws IOException {
        Path folder = Files.createTempDirectory("fuzz-test-");
        open.add(() -> Stand.delete(folder));
        return folder;
    }

    private Object webhooks(String url) throws Exception {
        var webhooks = make("Webhooks", folder(), url, CRM_KEY, WEBHOOK_SECRET, false);
        open.add(() -> call(webhooks, "close", Duration.ofSeconds(5)));
        return webhooks;
    }

    private Object tools(Object webhooks) throws Exception {
        var party = new Party("AJ_fuzz", "room", "RM_1", null, null, "inbound", null, null);
        Object events = call(webhooks, "call", (Supplier<Party>) () -> party);
        return make("Tools", webhooks, events, Set.of("sales", "support"),
                (UnaryOperator<String>) _ -> null, (UnaryOperator<String>) _ -> null, true,
                new Numbers(""));
    }

    @Test
    void whatTheModelCallsToolsWith() throws Exception {
        var answers = new Mutator(SEED);
        Object webhooks = webhooks(url(crm(() -> answers.json(CONTACTS).getBytes(UTF_8),
                new CopyOnWriteArrayList<>())));
        Object tools = null;
        var valid = Map.of("record_intent", "{\"intent\":\"a refund\"}",
                "lookup_crm", "{\"phone\":\"" + PHONE + "\"}",
                "update_crm_note", "{\"note\":\"Wants the \\\"blue\\\" one.\"}",
                "transfer_call", "{\"destination\":\"Sales\"}");
        var names = new ArrayList<>(new TreeSet<>(valid.keySet()));
        for (int i = 0; i < 6_000; i++) {
            tools = i % 10 == 0 ? tools(webhooks) : tools;  // those of one call take so many
            // Each intent or note that is taken is written to the disk three times, which is slow.
            // So most of those have broken arguments.
            String name = odd.once(20) ? odd.text(odd.one(names))
                    : odd.once(2) ? "transfer_call" : odd.one(names);
            String arguments = odd.json(valid.getOrDefault(name, "{}"));
            if ((name.startsWith("rec") || name.startsWith("up")) && !odd.once(5)) {
                arguments = odd.json(arguments.substring(arguments.length() / 2));
            }
            var answer = (CompletableFuture<?>) call(tools, "call", name, arguments);
            json((String) answer.get(7, TimeUnit.SECONDS)); // there is an answer, and it is JSON
        }
        count(6_000);
    }

    @Test
    void whatTheCrmAnswers() throws Exception {
        Object tools = tools(webhooks("http://127.0.0.1:1"));
        for (int i = 0; i < 15_000; i++) {
            try {
                var contact = (Optional<?>) call(tools, "first", odd.json(CONTACTS));
                if (contact.isPresent()) {
                    json(call(contact.get(), "forModel").toString());
                }
            } catch (CompletionException e) {
                // the look-up fails like this, and the call goes on without it
            }
        }
        count(15_000);
    }

    /// How the CRM answers, not what: endless, dripping, broken off, not HTTP at all.
    @Test
    void howTheCrmAnswers() throws Exception {
        String ok = "HTTP/1.1 200 OK\r\n", hundredMb = ok + "Content-Length: 104857600\r\n\r\n";
        var answers = List.of("", "\r\n\r\n", "not HTTP", "HTTP/1.1 999 \u001b[2J\r\n\r\n",
                ok + "Content-Length: -1\r\n\r\n{}", ok + "Content-Length: 99\r\n\r\n{}",
                ok + "Content-Length: 9\r\nContent-Type: text/\u0001;charset=no\r\n\r\n[[[[[[[[[",
                ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", ok + "A".repeat(500_000),
                ok + "Content-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}",
                "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
                "HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000), hundredMb, ok + "drip: ");
        var server = opened(new ServerSocket(0, 50, InetAddress.getLoopbackAddress()));
        var now = new AtomicReference<String>();
        Thread.ofVirtual().name("odd CRM").start(() -> {
            while (!server.isClosed()) {
                try (Socket socket = server.accept()) {     // a search may be asked once more
                    String answer = now.get();
                    socket.getInputStream().read();
                    var out = socket.getOutputStream();
                    out.write(answer.getBytes(UTF_8));
                    for (int i = 0; i < 100 && answer.equals(hundredMb); i++) {
                        out.write(new byte[1 << 20]);
                    }
                    for (int i = 0; i < 100 && answer.endsWith("drip: "); i++) {
                        out.write('.');
                        TimeUnit.MILLISECONDS.sleep(20);
                    }
                } catch (IOException | InterruptedException e) {
                    // the program has hung up, or the test is over
                }
            }
        });
        Object tools = tools(webhooks("http://127.0.0.1:" + server.getLocalPort()));
        for (String each : answers) {
            now.set(each);
            var found = (CompletableFuture<?>) call(tools, "find", PHONE);
            try {
                found.get(7, TimeUnit.SECONDS);
                fail("found somebody in: " + each.substring(0, Math.min(80, each.length())));
            } catch (ExecutionException e) {
                assertTrue(e.getCause() instanceof IOException, "" + e.getCause());
            }
        }
        count(answers.size());
    }

    @Test
    void retryAfterAndSignatures() throws Exception {
        Object hmac = make("Hmac", WEBHOOK_SECRET);
        byte[] body = "{\"id\":\"evt_1\"}".getBytes(UTF_8);
        Instant now = Instant.now();
        long at = now.getEpochSecond();
        String plain = (String) call(hmac, "signBody", (Object) body);
        String standard = (String) call(hmac, "signStandard", "evt_1", at, body);
        for (int i = 0; i < 3_000; i++) {
            String wait = odd.text(odd.one(List.of("120", "Wed, 21 Oct 2026 07:28:00 GMT", "-1")));
            var headers = HttpHeaders.of(Map.of("Retry-After", List.of(wait)), (_, _) -> true);
            var pause = Http.retryAfter(headers);
            assertTrue(!pause.isNegative() && pause.toSeconds() <= 60, wait + " -> " + pause);

            String other = odd.text(plain), others = odd.text(standard);
            assertEquals(other.equals(plain), call(hmac, "verifyBody", body, other));
            boolean among = Arrays.asList(others.split(" ")).contains(standard);
            assertEquals(among,
                    call(hmac, "verifyStandard", "evt_1", at, body, others, now), others);
        }
        count(9_000);
    }

    // Phone numbers, and what a call was dispatched with.

    @Test
    void phoneNumbers() throws Exception {
        for (int i = 0; i < 20_000; i++) {
            String written = odd.text(odd.one(List.of(PHONE, "+49 (30) 90-18.20", "anonymous",
                    "0015550100", "sip:+15550100@example.com")));
            String number = new Numbers(odd.one(List.of("", "US", "DE"))).read(written);
            assertTrue(number == null || number.matches("\\+?[0-9]{3,15}"), number);
        }
        count(20_000);
    }

    private static final String METADATA = """
            {"phone_number":"%s","contact":{"id":"c-1","name":"Grace","email":"g@example.com",\
            "open_tickets":2},"other":[1,{"a":null}]}""".formatted(PHONE);

    private Object agent(String crm, String model) throws Exception {
        var settings = Settings.load(Map.ofEntries(
                Map.entry("LIVEKIT_URL", "ws://127.0.0.1:1"), Map.entry("LIVEKIT_API_KEY", "key"),
                Map.entry("LIVEKIT_API_SECRET", API_SECRET), Map.entry("CRM_URL", crm),
                Map.entry("CRM_API_KEY", CRM_KEY), Map.entry("WEBHOOK_SECRET", WEBHOOK_SECRET),
                Map.entry("OPENAI_API_KEY", MODEL_KEY), Map.entry("OPENAI_BASE_URL", model),
                Map.entry("OUTBOUND_TRUNK_ID", "ST_1"), Map.entry("OUTBOUND_PREFIXES", "+1,+49"),
                Map.entry("TRANSFER_SALES", OTHER),
                Map.entry("OUTBOX_DIR", folder().toString())), Path.of("no such file"));
        Object agent = make("Agent", settings);
        open.add(() -> call(agent, "close", Duration.ofSeconds(5)));
        return agent;
    }

    /// A call that cannot join its room: the metadata was read before that.
    @Test
    void metadataOfADispatch() throws Exception {
        Object agent = agent("http://127.0.0.1:1", "http://127.0.0.1:1/v1");
        int dialled = 0;
        for (int i = 0; i < 3_000; i++) {
            var line = new OddLine("AJ_" + i, odd);
            line.metadata = odd.json(METADATA);
            line.noRoom = true;
            try {
                call(agent, "takeCall", line);
                fail("there was no room");
            } catch (UncheckedIOException e) {
                assertEquals("no room", e.getCause().getMessage());
            }
            if (line.dialled != null) {
                dialled++;
                assertTrue(line.dialled.matches("\\+[1-9][0-9]{6,14}"), line.dialled);
            }
        }
        assertTrue(dialled > 100, "some are still numbers");
        count(3_000);
    }

    /// A line whose other side is odd.
    private static final class OddLine implements Line {
        final String id;
        final Mutator odd;
        final Mailbox mailbox = new Mailbox();
        final Speaker speaker = new Speaker(_ -> {}, () -> {});
        String metadata = "";
        boolean noRoom;
        String dialled;

        OddLine(String id, Mutator odd) {
            this.id = id;
            this.odd = odd;
        }

        @Override public String id() { return id; }
        @Override public String room() { return "call-_" + PHONE + "_" + id; }
        @Override public String roomSid() { return "RM_1"; }
        @Override public String metadata() { return metadata; }
        @Override public Mailbox mailbox() { return mailbox; }
        @Override public Speaker speaker() { return speaker; }
        @Override public String number() { return odd.once(3) ? null : odd.text(PHONE); }
        @Override public String calledNumber() { return odd.once(3) ? null : odd.text(PHONE); }
        @Override public String sipCallId() { return odd.once(3) ? null : odd.text("a@b"); }
        @Override public String sipId() { return odd.once(3) ? null : odd.text("SCL_1"); }
        @Override public boolean onPhone() { return true; }
        @Override public void pickUp() { mailbox.post(new Event.CallerHears()); }
        @Override public void listen(Consumer<byte[]> ear) { ear.accept(new byte[960]); }
        @Override public void show(Map<String, String> attributes) { }
        @Override public void caption(boolean agents, String id, String text, boolean last) { }
        @Override public CompletableFuture<Void> hangUp() {
            return CompletableFuture.completedFuture(null);
        }

        @Override
        public void join(String number, String identity) throws IOException {
            dialled = number;
            if (noRoom) {
                throw new NotOurs("no room");
            }
            if (identity != null) {
                mailbox.post(new Event.CallerJoined());
            }
        }

        @Override
        public void dial(String trunk) {
            mailbox.post(odd.once(2) ? new Event.CallerHears()
                    : new Event.DialFailed(odd.refusal()));
        }

        @Override
        public void transfer(String to) {
            mailbox.post(odd.once(2) ? new Event.Transferred()
                    : new Event.TransferFailed(odd.refusal()));
        }
    }

    /// Whole calls with an odd caller, CRM, telephone network and model: each has its two events.
    @Test
    void wholeCalls() throws Exception {
        int calls = 60, each = 30;
        var webhooks = new CopyOnWriteArrayList<String>();
        var answers = new Mutator(SEED);
        var model = opened(new DemoModel(0, List.of(new DemoModel.Say("Hello.", 300))));
        Object agent = agent(url(crm(() -> answers.json(CONTACTS).getBytes(UTF_8), webhooks)),
                model.baseUrl());
        var ends = new ArrayList<CompletableFuture<Void>>();
        for (int n = 0; n < calls; n++) {
            var line = new OddLine("AJ_" + n, new Mutator(SEED + n));
            line.metadata = line.odd.once(2) ? "" : line.odd.json(METADATA);
            for (int i = 0; i < each; i++) {
                line.mailbox.post(line.odd.event());
            }
            line.mailbox.post(new Event.CallerLeft(line.odd.text("CLIENT_INITIATED")));
            ends.add(CompletableFuture.runAsync(() -> {
                try {
                    call(agent, "takeCall", line);
                } catch (Exception e) {
                    throw new CompletionException(e);
                }
            }, task -> Thread.ofVirtual().name(line.id).start(task)));
        }
        for (var end : ends) {
            end.get(20, TimeUnit.SECONDS);
        }
        eventually("all is reported", () -> webhooks.stream()
                .filter(body -> body.contains("\"event\":\"call.ended\"")).count() == calls);
        var events = webhooks.stream().map(Stand::json).collect(Collectors.groupingBy(
                event -> event.getString("call_id")));
        assertEquals(calls, events.size());
        events.values().forEach(of -> {
            assertEquals("call.started", of.getFirst().getString("event"));
            assertEquals("call.ended", of.getLast().getString("event"));
        });
        count(calls * each);
    }

    // The model.

    /// What the model sends: one event of each kind that the program looks at.
    private static final List<String> SERVER_EVENTS = """
            {"type":"session.created","event_id":"1","session":{"type":"realtime"}}
            {"type":"response.created","event_id":"3","response":{"id":"r","status":"in_progress"}}
            {"type":"response.output_audio.delta","event_id":"4","response_id":"r","item_id":"i",\
            "output_index":0,"content_index":0,"delta":"AAAAAAAAAAAAAAAA"}
            {"type":"response.output_audio.done","event_id":"5","response_id":"r","item_id":"i",\
            "output_index":0,"content_index":0}
            {"type":"response.output_audio_transcript.delta","event_id":"12","response_id":"r",\
            "item_id":"i","output_index":0,"content_index":0,"delta":"Hel"}
            {"type":"response.output_audio_transcript.done","event_id":"6","response_id":"r",\
            "item_id":"i","output_index":0,"content_index":0,"transcript":"Hello."}
            {"type":"response.function_call_arguments.done","event_id":"7","response_id":"r",\
            "item_id":"f","output_index":0,"call_id":"c1","name":"lookup_crm",\
            "arguments":"{\\"phone\\":\\"+15550002222\\"}"}
            {"type":"response.output_item.done","event_id":"7","response_id":"r","output_index":1,\
            "item":{"type":"function_call","id":"f","status":"completed","call_id":"c",\
            "name":"lookup_crm","arguments":"{\\"phone\\":\\"+15550002222\\"}"}}
            {"type":"response.done","event_id":"8","response":{"id":"r","status":"failed",\
            "status_details":{"type":"failed","error":{"type":"server_error","code":"x"}}}}
            {"type":"input_audio_buffer.speech_started","event_id":"9","item_id":"u",\
            "audio_start_ms":0}
            {"type":"input_audio_buffer.speech_stopped","event_id":"10","item_id":"u",\
            "audio_end_ms":0}
            {"type":"conversation.item.input_audio_transcription.completed","event_id":"11",\
            "item_id":"u","content_index":0,"transcript":"Hello.",\
            "usage":{"type":"duration","seconds":1}}
            {"type":"error","event_id":"13","error":{"type":"invalid_request_error",\
            "code":"invalid_value","message":"Not that one.","param":"x","event_id":"e"}}
            {"type":"rate_limits.updated","event_id":"14","rate_limits":[{"name":"requests",\
            "limit":1000,"remaining":999,"reset_seconds":60}]}
            """.lines().toList();

    /// Through a real connection, and only what the library itself can read. What the library
    /// refuses ends the connection, so the test below sends such events one at a time. An event may
    /// say that the model has failed. Then another connection is made, or the model is lost.
    @Test
    void whatTheModelSends() throws Exception {
        var model = opened(new DemoModel(0, List.of()));
        var service = new Model(MODEL_KEY, model.baseUrl(), "any", "", "", "server_vad", "");
        Mailbox mailbox = null;
        Realtime realtime = null;
        for (int batch = 0; batch < 60; batch++) {
            if (mailbox == null) {
                mailbox = new Mailbox();
                int before = model.sessions().size();
                realtime = opened(new Realtime(service, "AJ_fuzz", mailbox,
                        new Speaker(_ -> {}, () -> {})));
                eventually("it is connected", () -> model.sessions().size() > before);
            }
            for (int i = 0; i < 200; ) {
                String event = odd.json(odd.one(SERVER_EVENTS));
                if (readable(event)) {
                    model.sessions().getLast().sendText(event);
                    i++;
                }
            }
            // One more event, which shows that all before it were taken.
            String last = "the end of " + batch;
            String end = Json.createObjectBuilder(json(SERVER_EVENTS.get(11)))
                    .add("item_id", last).add("transcript", last).build().toString();
            model.sessions().getLast().sendText(end);
            mailbox.alarm(Alarm.NO_ANSWER, Duration.ofSeconds(20));
            for (boolean over = false; !over && mailbox != null; ) {
                switch (mailbox.next()) {
                    case Event.CallerSaid(_, var text) when text.equals(last) -> over = true;
                    case Event.TryAgainIn _ -> realtime.tryAgain();
                    case Event.ModelBack() -> model.sessions().getLast().sendText(end);
                    case Event.ModelLost _ -> mailbox = null;
                    case Event.AlarmDue _ -> fail("the conversation does not go on");
                    default -> { }
                }
            }
            count(200);
        }
    }

    /// Does the library take this for an event? It has to be an object with a type, and nothing may
    /// follow it.
    private static boolean readable(String event) {
        var mapper = ObjectMappers.jsonMapper();
        try (var parser = mapper.createParser(event)) {
            JsonNode tree = parser.readValueAsTree();
            return tree != null && tree.path("type").isTextual() && parser.nextToken() == null
                    && mapper.readValue(event, RealtimeServerEvent.class) != null;
        } catch (IOException e) {
            return false;
        }
    }

    /// What the library refuses: the conversation goes on, or the model is lost and that is said.
    @Test
    void whatIsNotEvenReadable() throws Exception {
        for (int n = 0; n < 40; n++) {
            String event;
            do {
                event = odd.json(odd.one(SERVER_EVENTS));
            } while (readable(event));
            try (var model = new DemoModel(0, List.of())) {
                var mailbox = new Mailbox();
                var service = new Model(
                        MODEL_KEY, model.baseUrl(), "any", "", "", "server_vad", "");
                try (var realtime = new Realtime(service, "AJ_" + n, mailbox,
                        new Speaker(_ -> {}, () -> {}))) {
                    eventually("it is connected", () -> model.sessions().size() == 1);
                    model.sessions().getFirst().sendText(event);
                    model.sessions().getFirst().sendText(SERVER_EVENTS.get(11));
                    mailbox.alarm(Alarm.NO_ANSWER, Duration.ofSeconds(20));
                    Event next;
                    do {
                        next = mailbox.next();
                        assertTrue(!(next instanceof Event.AlarmDue), "silence after " + event);
                        if (next instanceof Event.TryAgainIn) {
                            realtime.tryAgain();
                        }
                    } while (!(next instanceof Event.ModelLost || next instanceof Event.ModelBack
                            || next instanceof Event.CallerSaid));
                }
            }
            count(1);
        }
    }

    // LiveKit: data, and what its SIP service answers.

    @Test
    void dataFromTheCaller() throws Exception {
        var worker = new Worker("ws://127.0.0.1:1", "key", API_SECRET, "agent", 1);
        List<DataPacket> valid = List.of(
                packet().setSipDtmf(SipDTMF.newBuilder().setCode(5).setDigit("5")).build(),
                packet().setStreamHeader(DataStream.Header.newBuilder().setStreamId("s")
                        .setTopic("lk.chat").setTextHeader(DataStream.TextHeader.newBuilder()))
                        .build(),
                packet().setStreamChunk(DataStream.Chunk.newBuilder().setStreamId("s")
                        .setContent(com.google.protobuf.ByteString.copyFromUtf8("Grüße")))
                        .build(),
                packet().setStreamTrailer(DataStream.Trailer.newBuilder().setStreamId("s"))
                        .build(),
                packet().setUser(UserPacket.newBuilder().setTopic("x")).build());
        int keys = 0, texts = 0;
        Object room = null;
        Mailbox mailbox = null;
        for (int i = 0; i < 20_000; i++) {
            if (i % 50 == 0) { // a room takes only so many in a second
                room = make("room.Room", worker, Job.newBuilder().setId("AJ_data").build());
                mailbox = ((Line) room).mailbox();
                call(call(room, "caller"), "update", ParticipantInfo.newBuilder()
                        .setIdentity("caller").setSid("PA_1").build());
            }
            var packet = odd.once(4) ? odd.fill(packet(), 3).setParticipantIdentity("caller")
                    : odd.one(valid).toBuilder();
            if (packet.hasSipDtmf() && odd.once(2)) {
                packet.setSipDtmf(SipDTMF.newBuilder().setDigit(utf8(odd.text("5#"))));
            }
            try {
                byte[] bytes = packet.build().toByteArray();
                call(room, "received",
                        DataPacket.parseFrom(odd.once(2) ? bytes : odd.bytes(bytes)));
            } catch (InvalidProtocolBufferException e) {
                continue; // Peers writes a line about it
            }
            mailbox.post(new Event.Stop());
            for (Event event; !((event = mailbox.next()) instanceof Event.Stop); ) {
                switch (event) {
                    case Event.KeyPressed(var key) -> {
                        assertTrue(key.matches("[0-9*#A-D]"), key);
                        keys++;
                    }
                    case Event.CallerWrote(var text) -> {
                        assertTrue(text.length() <= 10_000, "" + text.length());
                        texts++;
                    }
                    default -> { }
                }
            }
        }
        assertTrue(keys > 100 && texts > 100, keys + " keys and " + texts + " texts");
        count(20_000);
    }

    private static DataPacket.Builder packet() {
        return DataPacket.newBuilder().setParticipantIdentity("caller");
    }

    static final String TWIRP_ERROR = """
            {"code":"unavailable","msg":"sip:%s@example.com is busy","meta":\
            {"sip_status_code":"486","sip_status":"Busy Here"}}""".formatted(PHONE);

    @Test
    void whatTheSipServiceRefusesWith() throws Exception {
        for (int i = 0; i < 10_000; i++) {
            var why = (Event.Refusal) call(Class.forName("room.Sip"), "refusal", 503,
                    odd.json(TWIRP_ERROR));
            assertTrue(why.code() == 0 || why.code() >= 100 && why.code() < 700, "" + why.code());
            System.out.println(Mutator.clean(why.toString())); // as the log would say it
        }
        count(10_000);
    }

    /// `call` from the command line, when LiveKit answers nonsense.
    @Test
    void aDispatchThatIsWatched() throws Exception {
        var livekit = opened(new OddLiveKit(SEED));
        var ends = new ArrayList<CompletableFuture<Integer>>();
        for (int i = 0; i < 60; i++) {
            var dispatch = new Dispatch(livekit.url(), "key", API_SECRET, "agent");
            ends.add(CompletableFuture.supplyAsync(() -> {
                try {
                    return dispatch.call(json(METADATA), Duration.ofSeconds(2));
                } catch (InterruptedException e) {
                    throw new CompletionException(e);
                }
            }, task -> Thread.ofVirtual().name("dispatch").start(task)));
        }
        for (var end : ends) {
            int status = end.get(20, TimeUnit.SECONDS);
            assertTrue(status == 0 || status == 1 || status == 3, "" + status);
        }
        count(livekit.server.getRequestCount());
    }

    // LiveKit: signalling.

    private static final int CALLS = 300, AT_A_TIME = 40;

    @Test
    void signalling() throws Exception {
        var livekit = opened(new OddLiveKit(SEED));
        var live = new AtomicInteger(); // calls, with those whose offer was odd itself
        var longest = new AtomicLong();
        var worker = new Worker(livekit.url(), "key", API_SECRET, "agent", 5_000);
        Consumer<Line> takeCall = line -> {
            long begun = System.nanoTime();
            live.incrementAndGet();
            try {
                livekit.of(line.id()).answer(line);
            } finally {
                live.decrementAndGet();
                livekit.of(line.id()).over = true;
                longest.accumulateAndGet(System.nanoTime() - begun, Math::max);
            }
        };
        Thread running = Thread.ofPlatform().name("worker").start(() -> {
            try {
                worker.run(takeCall, () -> {});
            } catch (Worker.Refused | InterruptedException e) {
                log.wrong("the worker", "" + e);
            }
        });
        eventually("it registers", worker::registered);
        aValidCall(livekit, "AJ_first");
        var threads = threads();

        var offered = new ArrayList<OddLiveKit.Call>();
        for (int n = 0; n < CALLS; n++) {
            if (n == CALLS / 3 || n == CALLS * 2 / 3) {
                int before = livekit.registrations.get();
                livekit.connectAgain();
                eventually("it registers again", () -> livekit.registrations.get() > before
                        && worker.registered());
            }
            offered.add(livekit.of("AJ_" + n));
            livekit.offer("AJ_" + n);
            for (int i = 0; i < 10; i++) {
                livekit.somethingOdd();
            }
            count(11);
            eventually("calls end", () -> {
                offered.removeIf(job -> job.over);
                return offered.size() < AT_A_TIME;
            });
        }
        eventually("all calls end", () -> live.get() == 0);
        livekit.honest = true;
        aValidCall(livekit, "AJ_last");
        worker.stop(Duration.ofSeconds(10));
        running.join(Duration.ofSeconds(10));
        assertTrue(!running.isAlive(), "the worker has stopped");
        assertTrue(longest.get() < Duration.ofSeconds(25).toNanos(),
                "a call of " + longest.get() / 1_000_000 + " ms");
        livekit.close();
        count(livekit.sent.get());
        try {
            eventually("all threads end", () -> leftOver(threads).isEmpty());
        } catch (AssertionError e) {
            fail("left over: " + leftOver(threads));
        }
    }

    /// A call as it should be, from its offer to its result.
    private void aValidCall(OddLiveKit livekit, String id) throws Exception {
        OddLiveKit.Call job = livekit.of(id);
        job.honest = true;
        livekit.offer(id);
        assertEquals("", job.result.get(20, TimeUnit.SECONDS), "its result");
        assertTrue(job.heard, "the caller heard us");
        eventually("its room is deleted", () -> livekit.deleted.contains(id));
    }

    /// How many threads the process has, by their name without its numbers. Virtual threads count.
    /// Threads of a pool do not, because a pool keeps its threads for a while.
    private static Map<String, Long> threads() {
        try {
            Path file = Files.createTempDirectory("fuzz-test-").resolve("threads");
            ManagementFactory.getPlatformMXBean(HotSpotDiagnosticMXBean.class)
                    .dumpThreads(file.toString(), ThreadDumpFormat.TEXT_PLAIN);
            try (var lines = Files.lines(file)) {
                return lines.filter(line -> line.startsWith("#"))
                        .map(line -> line.replaceAll("#[0-9]+ \"(.*)\" .*", "$1"))
                        .filter(name -> !name.matches("(.*Poller|pacer|OkHttp|MockWebServer|Okio"
                                + "|ForkJoinPool|CompletableFuture|HttpClient|Thread-|HTTP-).*"))
                        .map(name -> name.replaceAll("[0-9]+", "#"))
                        .collect(Collectors.groupingBy(name -> name, Collectors.counting()));
            } finally {
                Files.delete(file);
                Files.delete(file.getParent());
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static Map<String, Long> leftOver(Map<String, Long> before) {
        var now = new TreeMap<>(threads());
        now.entrySet().removeIf(each -> each.getKey().isEmpty()
                || each.getValue() <= before.getOrDefault(each.getKey(), 0L));
        return now;
    }

    // What odd inputs are made of.

    /// The text in the form in which protobuf delivers it: without halves of letters.
    static String utf8(String text) {
        return new String(text.getBytes(UTF_8), UTF_8);
    }

    static void eventually(String what, BooleanSupplier holds) throws InterruptedException {
        long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (!holds.getAsBoolean()) {
            assertTrue(System.nanoTime() < end, "not within 30 s: " + what);
            TimeUnit.MILLISECONDS.sleep(5);
        }
    }

    /// Takes what is written during a test, and holds each line against what a log may hold.
    static final class Log extends OutputStream {
        static final Pattern NOT_CLEAN = Pattern.compile(
                "[\\p{Cc}\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]");
        // A stack trace, an Error, or an exception that shows a mistake of ours and not odd input.
        private static final Pattern NOT_CLEAR = Pattern.compile("^\\s+at [\\w.$]+\\(|Exception in|"
                + "StackOverflow|OutOfMemory|AssertionError|NullPointer|ClassCast|OutOfBounds|"
                + "NoSuchElement");

        private final ByteArrayOutputStream line = new ByteArrayOutputStream();
        private final Map<String, String> wrong = new LinkedHashMap<>();
        private int lines;

        @Override
        public synchronized void write(int letter) {
            if (letter != '\n') {
                line.write(letter);
                return;
            }
            lines++;
            String text = line.toString(UTF_8);
            line.reset();
            if (Boolean.getBoolean("show")) {
                OUT.println(text);
            }
            if (text.length() > LONGEST_LINE) {
                wrong("a line of more than " + LONGEST_LINE + " characters", text);
            }
            if (NOT_CLEAN.matcher(text).find()) {
                wrong("a line with control characters", text);
            }
            Matcher unclear = NOT_CLEAR.matcher(text);
            if (unclear.find()) {
                wrong("a line with " + unclear.group().strip(), text);
            }
            for (String secret : NEVER_LOGGED) {
                if (text.contains(secret)) {
                    wrong("a line with " + secret, text);
                }
            }
        }

        /// One example of each is enough.
        synchronized void wrong(String what, String example) {
            wrong.putIfAbsent(what, example.length() + " characters: "
                    + example.substring(0, Math.min(example.length(), 500)));
        }

        synchronized String wrong() {
            return wrong.entrySet().stream().map(each -> each.getKey() + ": " + each.getValue())
                    .collect(Collectors.joining("\n"));
        }
    }
}
