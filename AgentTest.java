import module java.base;
import module java.net.http;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import demo.DemoCrm;
import demo.DemoModel.Say;
import demo.DemoModel.Tool;
import demo.DemoModel;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import start.Rehearsal;
import start.Settings;
import voice.Event;
import voice.Line;
import voice.Mailbox;
import voice.Mailbox.Alarm;
import voice.Model;
import voice.Speaker;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;

/// What the README promises, as tests: `./run.sh test`, and with `all` the trials in their long
/// form. No keys and nothing from the network: the
/// CRM and the model are the stand-ins of demo/, over real sockets. The calls here come in on a
/// line made for the purpose; trials/LiveTest has a real LiveKit server and an independent caller.
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
final class AgentTest {

    static void main(String[] args) {
        System.setProperty("slf4j.internal.verbosity", "ERROR");
        System.setProperty("trials", args.length > 0 ? args[0] : "short");
        var counts = new HashMap<>(Map.of("passed", 0, "failed", 0, "skipped", 0));
        var started = new ConcurrentHashMap<TestIdentifier, Long>();
        var request = LauncherDiscoveryRequestBuilder.request()
                .selectors(selectClass(AgentTest.class), selectClass(trials.PageTest.class),
                        selectClass(trials.LiveTest.class), selectClass(trials.PhoneTest.class),
                        selectClass(trials.FaultTest.class),
                        selectClass(trials.KillTest.class), selectClass(trials.SoakTest.class),
                        selectClass(trials.FuzzTest.class),
                        selectClass(trials.BenchTest.class)).build();
        LauncherFactory.create().execute(request, new TestExecutionListener() {
            @Override
            public void executionStarted(TestIdentifier test) {
                started.put(test, System.nanoTime());
            }

            @Override
            public void executionSkipped(TestIdentifier test, String why) {
                count("skipped", test, why);
            }

            @Override
            public void executionFinished(TestIdentifier test, TestExecutionResult result) {
                switch (result.getStatus()) {
                    case SUCCESSFUL -> {
                        if (test.isTest()) {
                            count("passed", test, "");
                        }
                    }
                    case ABORTED -> count("skipped", test, result.getThrowable()
                            .map(Throwable::getMessage).orElse(""));
                    case FAILED -> {
                        count("failed", test, "");
                        result.getThrowable().ifPresent(why -> why.printStackTrace(System.out));
                    }
                }
            }

            private void count(String what, TestIdentifier test, String why) {
                counts.merge(what, 1, Integer::sum);
                long now = System.nanoTime();
                long ms = (now - started.getOrDefault(test, now)) / 1_000_000;
                System.out.println("%-8s%6d ms  %s %s".formatted(
                        what, ms, test.getDisplayName(), why));
            }
        });
        System.out.println("%d passed, %d failed, %d skipped".formatted(
                counts.get("passed"), counts.get("failed"), counts.get("skipped")));
        System.out.close(); // the last line: webrtc-java has one of its own when a JVM ends
        // A search that finds nothing is no success.
        System.exit(counts.get("failed") == 0 && counts.get("passed") > 0 ? 0 : 1);
    }

    private static final String SECRET = "It's a Secret to Everybody";
    private static final Duration SOON = Duration.ofSeconds(15); // four refusals take 4 s already
    private final List<AutoCloseable> open = new ArrayList<>();

    @AfterEach
    void closeAll() throws Exception {
        for (AutoCloseable each : open.reversed()) {
            each.close();
        }
    }

    private <T extends AutoCloseable> T opened(T it) {
        open.add(it);
        return it;
    }

    /// An empty one, which goes when the test is over.
    private Path folder() throws IOException {
        Path folder = Files.createTempDirectory("agent-test-");
        open.add(() -> eventually("nothing is written there", () -> {
            try {
                Agent.delete(folder);
                return true;
            } catch (IOException | UncheckedIOException e) {
                return false;           // a request that was on its way has removed its file
            }
        }));
        return folder;
    }

    private DemoCrm crm() throws IOException {
        return opened(new DemoCrm(0, new Hmac(SECRET)::verify));
    }

    /// Where there is a server that answers like this.
    private String server(HttpHandler handler) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.setExecutor(Executors.newVirtualThreadPerTaskExecutor());
        server.createContext("/", handler);
        server.start();
        open.add(() -> server.stop(0));
        return "http://127.0.0.1:" + server.getAddress().getPort();
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void eventually(String what, BooleanSupplier holds) throws InterruptedException {
        long end = System.nanoTime() + SOON.toNanos();
        while (!holds.getAsBoolean()) {
            assertTrue(System.nanoTime() < end, "not within " + SOON + ": " + what);
            TimeUnit.MILLISECONDS.sleep(5);
        }
    }

    // Hmac: other people's answers.

    @Test
    void signsAsRfc4231Says() {
        record Vector(byte[] key, byte[] data, String hex) {}
        byte[] counting = new byte[25];
        for (int i = 0; i < counting.length; i++) {
            counting[i] = (byte) (i + 1);
        }
        // The secrets of RFC 4231 are bytes; ours is a text, so they come in as base64.
        for (Vector v : List.of(
                new Vector(times(20, 0x0b), utf8("Hi There"),
                        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
                new Vector(utf8("Jefe"), utf8("what do ya want for nothing?"),
                        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
                new Vector(times(20, 0xaa), times(50, 0xdd),
                        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
                new Vector(counting, times(50, 0xcd),
                        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
                new Vector(times(131, 0xaa),
                        utf8("Test Using Larger Than Block-Size Key - Hash Key First"),
                        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"))) {
            assertEquals(v.hex, HexFormat.of().formatHex(Hmac.mac(Hmac.key(v.key), v.data)));
        }
    }

    private static byte[] times(int count, int value) {
        byte[] bytes = new byte[count];
        Arrays.fill(bytes, (byte) value);
        return bytes;
    }

    @Test
    void signsAsGitHubDocumentsIt() {
        assertEquals("757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
                new Hmac(SECRET).sign(utf8("Hello, World!")));
        assertEquals("7673b0b981a2a7ceec01970e4ce91d17309c23721971d2b43a988462c442b738",
                new Hmac(SECRET).sign(utf8("Grüße, мир! 👋")));
    }

    @Test
    void signsAsStandardWebhooksPublishes() {
        record Vector(String secret, String id, long at, String body, String signature) {}
        for (Vector v : List.of(
                new Vector("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek",
                        1614265330, "{\"test\": 2432232314}",
                        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
                new Vector("whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf",
                        1731705121, "{\"event_type\":\"ping\",\"data\":{\"success\":true}}",
                        "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="),
                new Vector("whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c=",
                        "wh_685c059ae39c8190af8c71ed1022a24d", 1750861210,
                        "{\"id\": \"evt_685c059ae3a481909bdc86819b066fb6\", \"object\": \"event\", "
                        + "\"created_at\": 1750861210, \"type\": \"response.completed\", "
                        + "\"data\": {\"id\": \"resp_123\"}}",
                        "v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY="))) {
            var hmac = new Hmac(v.secret);
            Instant then = Instant.ofEpochSecond(v.at);
            assertEquals(v.signature, hmac.sign(v.id, v.at, utf8(v.body)));
            assertTrue(hmac.verify(v.id, v.at, utf8(v.body), "v1,AAAA " + v.signature, then));
            assertFalse(hmac.verify(v.id, v.at, utf8(v.body + " "), v.signature, then));
            assertFalse(hmac.verify(v.id, v.at, utf8(v.body), "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/"
                    + "WavXrAFQ/9tdO6mc=", then));
            assertFalse(hmac.verify(v.id, v.at, utf8(v.body), v.signature, then.plusSeconds(301)));
            assertFalse(hmac.verify(v.id, v.at, utf8(v.body), v.signature, then.minusSeconds(301)));
            assertFalse(hmac.verify(v.id, Long.MAX_VALUE, utf8(v.body), v.signature, then));
            assertFalse(hmac.verify(v.id, v.at, utf8(v.body), null, then));
        }
    }

    @Test
    void refusesForgedSignaturesAndUnusableSecrets() {
        var hmac = new Hmac(SECRET);
        byte[] body = utf8("{}");
        assertTrue(hmac.verify(body, hmac.sign(body)));
        for (String forged : Arrays.asList(null, "", "0", hmac.sign(utf8("{ }")),
                hmac.sign(body).toUpperCase(Locale.ROOT), new Hmac("other").sign(body))) {
            assertFalse(hmac.verify(body, forged), "took " + forged);
        }
        for (String unusable : List.of("", "whsec_", "whsec_not base64")) {
            assertThrows(IllegalArgumentException.class, () -> new Hmac(unusable), unusable);
        }
    }

    // Webhooks.

    private Webhooks webhooks(String url) throws Exception {
        return webhooks(folder(), url);
    }

    private Webhooks webhooks(Path outbox, String url) throws Exception {
        var webhooks = new Webhooks(outbox, url, "crm-key", new Hmac(SECRET));
        open.add(() -> webhooks.close(Duration.ZERO));
        return webhooks;
    }

    @Test
    void eventsHaveTheirDocumentedJson() throws Exception {
        var call = webhooks("http://localhost").call("AJ_1", "room-1", "RM_1");
        call.phone("+15550001111", "SCL_1");
        Instant at = Instant.parse("2026-11-23T10:00:00.5Z");
        assertEquals("""
                {"id":"evt_1","event":"call.started","timestamp":"2026-11-23T10:00:00.500Z",\
                "call_id":"AJ_1","sequence":1,"room":"room-1","phone":"+15550001111",\
                "contact_id":null,"sip_call_id":"SCL_1","direction":"inbound"}""",
                call.body("evt_1", "call.started", at, "direction", "inbound"));
        call.contact("c-7");
        assertEquals("""
                {"id":"evt_2","event":"intent.recorded","timestamp":"2026-11-23T10:00:00.500Z",\
                "call_id":"AJ_1","sequence":2,"room":"room-1","phone":"+15550001111",\
                "contact_id":"c-7","sip_call_id":"SCL_1",\
                "intent":"\\",\\"event\\":\\"call.ended\\u000a"}""".replace("\\u000a", "\\n"),
                call.body("evt_2", "intent.recorded", at, "intent", "\",\"event\":\"call.ended\n"));
        call.phone(null, null);
        assertEquals("""
                {"id":"evt_3","event":"crm.updated","timestamp":"2026-11-23T10:00:00.500Z",\
                "call_id":"AJ_1","sequence":3,"room":"room-1","phone":null,\
                "contact_id":"c-7","note":"Grüße"}""",
                call.body("evt_3", "crm.updated", at, "note", "Grüße"));
        assertEquals("""
                {"id":"evt_4","event":"call.ended","timestamp":"2026-11-23T10:00:00.500Z",\
                "call_id":"AJ_1","sequence":4,"room":"room-1","phone":null,\
                "contact_id":"c-7","reason":"caller_hung_up","duration_ms":1234,\
                "intent":null,"summary":"s"}""",
                call.body("evt_4", "call.ended", at, "reason", "caller_hung_up",
                        "duration_ms", 1234L, "intent", null, "summary", "s"));
    }

    @Test
    void retriesUntilTheCrmAccepts() throws Exception {
        var crm = crm();
        crm.fail("/webhooks/call", 503, 2);
        var call = webhooks(crm.url()).call("AJ_1", "room", "RM_1");
        call.send("call.started", "direction", "inbound");
        call.send("intent.recorded", "intent", "x");
        eventually("both arrive", () -> crm.events().size() == 2);

        assertEquals(List.of(503, 503, 204, 204), statuses(crm));
        var attempts = crm.requests().subList(0, 3);
        for (var attempt : attempts) {
            assertArrayEquals(attempts.getFirst().body(), attempt.body());
            assertEquals(attempt.json().getString("id"), attempt.headers().get("webhook-id"));
            assertEquals("application/json", attempt.headers().get("content-type"));
            long at = Long.parseLong(attempt.headers().get("webhook-timestamp"));
            assertTrue(new Hmac(SECRET).verify(attempt.headers().get("webhook-id"), at,
                    attempt.body(), attempt.headers().get("webhook-signature"), Instant.now()));
            assertTrue(new Hmac(SECRET).verify(
                    attempt.body(), attempt.headers().get("x-signature")));
        }
        assertEquals("/webhooks/intent", crm.requests().get(3).path());
    }

    private static List<Integer> statuses(DemoCrm crm) {
        return crm.requests().stream().map(DemoCrm.Request::status).toList();
    }

    @Test
    void whatIsRefusedForGoodIsPutAsideAndHoldsUpNothing() throws Exception {
        var crm = crm();
        Path outbox = folder();
        crm.fail("/webhooks/call", 400, 4);
        crm.fail("/webhooks/intent", 410, 1);
        crm.fail("/webhooks/crm", 429, 1);
        var call = webhooks(outbox, crm.url()).call("AJ_1", "room", "RM_1");
        call.send("call.started");
        call.send("intent.recorded");
        call.send("crm.updated");
        eventually("one arrives", () -> crm.events().size() == 1);
        assertEquals(List.of(400, 400, 400, 400, 410, 429, 204), statuses(crm));
        List<String> aside = names(outbox.resolve("failed"));
        assertEquals(2, aside.size());
        eventually("only the call's file stays", () -> names(outbox).size() == 1);

        // As the log says: moving it back sends it again.
        Files.move(outbox.resolve("failed").resolve(aside.getFirst()),
                outbox.resolve(aside.getFirst()));
        var again = crm.await(request -> request.status() == 204
                && request.path().equals("/webhooks/call"), Duration.ofSeconds(10));
        assertNotNull(again, "not sent again");
        assertArrayEquals(crm.requests().getFirst().body(), again.body());
    }

    /// The files of an outbox, but for its lock.
    private static List<String> names(Path folder) {
        try (var all = Files.list(folder)) {
            return all.filter(Files::isRegularFile).map(path -> path.getFileName().toString())
                    .filter(name -> !name.equals("lock")).sorted().toList();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    void whatIsLeftIsSentFirstWithItsOldIdAndANewTimestamp() throws Exception {
        Path outbox = folder();
        var before = webhooks(outbox, "http://127.0.0.1:1");
        for (int i = 0; i < 3; i++) {
            var call = before.call("AJ_" + i, "room", "RM_1");
            call.send("call.started");
            call.send("intent.recorded", "intent", "a refund");
            call.add("c-1", "notes", json("{\"text\":\"n" + i + "\"}"));
            call.send("call.ended");
            call.over();
        }
        before.close(Duration.ZERO);
        List<String> files = names(outbox);
        assertEquals(12, files.size());
        for (String file : files) {
            assertEquals("rw-------", PosixFilePermissions.toString(
                    Files.getPosixFilePermissions(outbox.resolve(file))));
        }
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-1\"}");
        webhooks(outbox, crm.url());
        eventually("all arrive", () -> crm.requests().size() == 12);
        for (int i = 0; i < 3; i++) {
            String id = "AJ_" + i;
            assertEquals(List.of("call.started", "intent.recorded", "call.ended"),
                    crm.events().stream().filter(e -> e.getString("call_id").equals(id))
                            .map(e -> e.getString("event")).toList());
        }
        for (var request : crm.requests()) {
            String id = request.headers().getOrDefault("webhook-id",
                    request.headers().get("idempotency-key"));
            assertTrue(files.stream().anyMatch(file -> file.contains(id)), id);
            if (request.path().startsWith("/webhooks")) {
                assertTrue(request.verified());
                long age = Instant.now().getEpochSecond()
                        - Long.parseLong(request.headers().get("webhook-timestamp"));
                assertTrue(age >= 0 && age < 10, "timestamp is " + age + " s old");
            }
        }
        eventually("nothing is left", () -> names(outbox).isEmpty());
    }

    @Test
    void aCallOfADeadProcessIsEndedOnce() throws Exception {
        var crm = crm();
        Path outbox = folder();
        var webhooks = webhooks(outbox, crm.url());
        var call = webhooks.call("AJ_1", "room", "RM_1");
        call.phone("+15550001111", "SCL_1");
        call.send("call.started");
        call.contact("c-1");
        call.send("intent.recorded", "intent", "a refund");
        var over = webhooks.call("AJ_2", "room", "RM_1");
        over.send("call.started");
        over.send("call.ended");
        over.over();
        var onTheLine = webhooks.call("AJ_3", "room", "RM_1");
        onTheLine.send("call.started");
        onTheLine.send("call.ended");
        eventually("delivered", () -> crm.events().size() == 6 && names(outbox).size() == 2);
        TimeUnit.MILLISECONDS.sleep(2_200); // two signs of life: what is measured is this time

        // The lock of a dead process is nobody's; this one lives, so its files are copied.
        Path copy = folder();
        for (String name : names(outbox)) {
            Files.copy(outbox.resolve(name), copy.resolve(name),
                    StandardCopyOption.COPY_ATTRIBUTES);
        }
        Files.writeString(copy.resolve("000000000009-evt_torn.post.new"), "{");
        Files.writeString(copy.resolve("000000000009-evt_odd.post"), "odd");
        Files.writeString(copy.resolve("000000000009.call"), "{}");
        var next = webhooks(copy, crm.url());
        assertEquals(List.of(true, false),
                next.dead().stream().map(Webhooks.Call::unfinished).toList());
        next.dead().getLast().over();
        var dead = next.dead().getFirst();
        assertEquals(List.of("AJ_1", "room", "RM_1", "c-1", "a refund"), List.of(dead.id(),
                dead.room(), dead.roomSid(), dead.contact(), dead.intent()));
        long lasted = dead.lasted().toMillis();
        assertTrue(lasted >= 1_000 && lasted < 4_000, lasted + " ms");
        dead.send("call.ended", "reason", "agent_died");
        dead.over();
        eventually("its end", () -> crm.events().size() == 7);
        JsonObject ended = crm.events().getLast();
        assertEquals(3, ended.getInt("sequence"));
        assertEquals("+15550001111", ended.getString("phone"));
        assertEquals("SCL_1", ended.getString("sip_call_id"));
        assertEquals("c-1", ended.getString("contact_id"));
        eventually("nothing is left", () -> names(copy).isEmpty());
        assertEquals(2, names(copy.resolve("failed")).size());
        next.close(SOON);
        assertEquals(List.of(), webhooks(copy, crm.url()).dead());
    }

    @Test
    void oneOutboxIsForOneProcess() throws Exception {
        Path outbox = folder();
        var first = webhooks(outbox, "http://localhost");
        String said = assertThrows(Webhooks.InUse.class,
                () -> webhooks(outbox, "http://localhost")).getMessage();
        assertTrue(said.contains("in use by process " + ProcessHandle.current().pid()), said);
        first.close(Duration.ZERO);
        webhooks(outbox, "http://localhost");
    }

    @Test
    void withoutADiskEventsGoOnFromMemory() throws Exception {
        var crm = crm();
        crm.fail("/webhooks", 503, 1);
        Path file = Files.createFile(folder().resolve("file"));
        Path gone = folder();
        for (Path outbox : List.of(file.resolve("outbox"), gone)) {
            var call = webhooks(outbox, crm.url()).call("AJ_" + outbox.hashCode(), "r", "RM_1");
            if (outbox == gone) {
                Agent.delete(gone);
            }
            int before = crm.events().size();
            call.send("call.started");
            call.send("call.ended");
            eventually("both arrive", () -> crm.events().size() == before + 2);
        }
    }

    @Test
    void anEventIsOnDiskWithinMilliseconds() throws Exception {
        var call = webhooks("http://127.0.0.1:1").call("AJ_1", "room", "RM_1");
        long[] took = new long[400];
        for (int i = -200; i < took.length; i++) {
            long before = System.nanoTime();
            call.send("intent.recorded", "intent", "x");
            took[Math.max(i, 0)] = System.nanoTime() - before;
        }
        Arrays.sort(took);
        System.out.printf(Locale.ROOT, "  an event to disk: p50 %.1f ms, p99 %.1f ms%n",
                took[took.length / 2] / 1e6, took[took.length * 99 / 100] / 1e6);
        assertTrue(took[took.length / 2] < 5_000_000, "p50 is " + took[took.length / 2] + " ns");
    }

    @Test
    void theCrmMayAskForATimeAndIsBelievedWithinReason() throws Exception {
        record Case(String header, long least, long most) {}
        for (Case each : List.of(new Case("2", 1_900, 2_900), new Case("soon", 300, 1_000),
                new Case("in 3 s, as a date", 1_900, 3_500),
                new Case("-5", 300, 1_000))) {
            var at = new ConcurrentLinkedQueue<Long>();
            String url = server(exchange -> {
                exchange.getRequestBody().readAllBytes();
                at.add(System.nanoTime());
                exchange.getResponseHeaders().add("Retry-After", !each.header.endsWith("date")
                        ? each.header : DateTimeFormatter.RFC_1123_DATE_TIME.format(
                                ZonedDateTime.now(ZoneOffset.UTC).plusSeconds(3)));
                exchange.sendResponseHeaders(at.size() == 1 ? 503 : 204, -1);
                exchange.close();
            });
            webhooks(url).call("AJ_1", "room", "RM_1").send("call.started");
            eventually("the second attempt", () -> at.size() == 2);
            long ms = (at.poll() - at.poll()) / -1_000_000;
            assertTrue(ms >= each.least && ms <= each.most, each.header + ": " + ms + " ms");
        }
    }

    @Test
    void aCrmThatDripsHangsOrResetsHoldsNothingForLong() throws Exception {
        var connections = new ConcurrentLinkedQueue<Long>();
        for (String how : List.of("drip", "hang", "reset")) {
            connections.clear();
            var server = opened(new ServerSocket(0, 50, InetAddress.getLoopbackAddress()));
            Thread.ofVirtual().start(() -> {
                try {
                    while (true) {
                        Socket socket = server.accept();
                        connections.add(System.nanoTime());
                        Thread.ofVirtual().start(() -> {
                            try (socket) {
                                socket.setSoLinger(true, 0);
                                for (char each : "HTTP/1.1 200 OK\r\nX: ".toCharArray()) {
                                    if (how.equals("drip")) {
                                        socket.getOutputStream().write(each);
                                    }
                                    TimeUnit.MILLISECONDS.sleep(how.equals("reset") ? 1 : 700);
                                }
                            } catch (IOException | InterruptedException e) {
                                // the other side has had enough
                            }
                        });
                    }
                } catch (IOException e) {
                    // closed
                }
            });
            webhooks("http://127.0.0.1:" + server.getLocalPort())
                    .call("AJ_1", "room", "RM_1").send("call.started");
            long end = System.nanoTime() + 8_000_000_000L;
            while (connections.size() < 2 && System.nanoTime() < end) {
                TimeUnit.MILLISECONDS.sleep(20);
            }
            assertTrue(connections.size() >= 2, how + ": no second attempt within 8 s");
        }
    }

    @Test
    void oneCallsStuckEventHoldsUpNobody() throws Exception {
        var crm = crm();
        crm.delay("/webhooks/call", 2_000);
        var webhooks = webhooks(crm.url());
        long before = System.nanoTime();
        webhooks.call("AJ_stuck", "room", "RM_1").send("call.started");
        assertTrue(System.nanoTime() - before < 100_000_000, "send waited");
        webhooks.call("AJ_other", "room", "RM_1").send("intent.recorded", "intent", "x");
        var other = crm.await(request -> request.path().equals("/webhooks/intent"),
                Duration.ofSeconds(1));
        assertNotNull(other, "the other call's event waited");
    }

    @Test
    void redirectsAreNotFollowedAndEndlessAnswersNotRead() throws Exception {
        var paths = new ConcurrentLinkedQueue<String>();
        String url = server(exchange -> {
            exchange.getRequestBody().readAllBytes();
            String path = exchange.getRequestURI().getPath();
            paths.add(path);
            if (path.equals("/crm/webhooks/call")) {
                exchange.getResponseHeaders().add("Location", "/elsewhere");
                exchange.sendResponseHeaders(307, -1);
            } else {
                exchange.sendResponseHeaders(200, 0);
                try (var out = exchange.getResponseBody()) {
                    while (true) {
                        out.write(new byte[65_536]);
                    }
                } catch (IOException e) {
                    paths.add("hung up");
                }
            }
            exchange.close();
        });
        var call = webhooks(url + "/crm").call("AJ_1", "room", "RM_1");
        call.send("call.started");
        call.send("intent.recorded", "intent", "x");
        eventually("the answer is not read to its end", () -> paths.contains("hung up"));
        assertEquals(Stream.concat(Collections.nCopies(4, "/crm/webhooks/call").stream(),
                Stream.of("/crm/webhooks/intent", "hung up")).toList(), List.copyOf(paths));
    }

    @Test
    void closingDeliversWhatIsWaiting() throws Exception {
        var crm = crm();
        crm.fail("/webhooks", 503, 3);
        var webhooks = webhooks(crm.url());
        for (int i = 0; i < 3; i++) {
            webhooks.call("AJ_" + i, "room", "RM_1").send("call.ended");
        }
        webhooks.close(SOON);
        assertEquals(3, crm.events().size());
    }

    // Tools.

    private Tools tools(DemoCrm crm, String contact) throws Exception {
        var webhooks = webhooks(crm.url());
        var tools = new Tools("AJ_1", webhooks, webhooks.call("AJ_1", "room", "RM_1"),
                Set.of(), _ -> "no");
        if (contact != null) {
            crm.contact("+15550001111", contact);
            tools.know(tools.find("+15550001111", SOON).get().orElseThrow());
        }
        return tools;
    }

    private static JsonObject json(String text) {
        try (var reader = Json.createReader(new StringReader(text))) {
            return reader.readObject();
        }
    }

    private static JsonObject answer(Tools tools, String name, String arguments) throws Exception {
        return json(tools.call(name, arguments).get(6, TimeUnit.SECONDS));
    }

    @Test
    void everyToolHasAStrictSchema() {
        var names = new ArrayList<String>();
        for (String schema : Tools.schemas(Set.of())) {
            JsonObject parameters = json(schema).getJsonObject("parameters");
            names.add(json(schema).getString("name"));
            assertFalse(parameters.getBoolean("additionalProperties"));
            assertEquals(parameters.getJsonObject("properties").keySet(),
                    parameters.getJsonArray("required").stream()
                            .map(name -> ((jakarta.json.JsonString) name).getString())
                            .collect(Collectors.toSet()));
        }
        assertEquals(
                List.of("record_intent", "lookup_crm", "update_crm_note", "transfer_call"), names);
    }

    @Test
    void theModelCanNameADestinationButNeverANumber() throws Exception {
        var begun = new ArrayList<String>();
        var webhooks = webhooks("http://localhost");
        var tools = new Tools("AJ_1", webhooks, webhooks.call("AJ_1", "room", "RM_1"),
                Set.of("sales", "support"), name -> begun.add(name) ? null : "no");
        String schema = Tools.schemas(Set.of("support", "sales")).getLast();
        assertTrue(json(schema).toString().contains("\"enum\":[\"sales\",\"support\"]"));
        assertTrue(answer(tools, "transfer_call", "{\"destination\":\"Sales\"}")
                .getBoolean("transferring"));
        for (String other : List.of("billing", "+15550001111", "tel:+15550001111")) {
            JsonObject refused = answer(tools, "transfer_call",
                    "{\"destination\":\"" + other + "\"}");
            assertFalse(refused.getBoolean("transferring"));
            assertTrue(refused.getString("message").contains("sales, support"));
        }
        assertEquals(List.of("sales"), begun);
    }

    @Test
    void recordIntentReportsAndAnswersAtOnce() throws Exception {
        var crm = crm();
        crm.delay("/webhooks", 1_000);
        var tools = tools(crm, null);
        long before = System.nanoTime();
        assertTrue(answer(tools, "record_intent", "{\"intent\": \"a refund\"}")
                .getBoolean("recorded"));
        assertTrue(System.nanoTime() - before < 500_000_000, "waited for the CRM");
        eventually("the event", () -> crm.events().size() == 1);
        assertEquals("a refund", crm.events().getFirst().getString("intent"));
    }

    @Test
    void notesAreFiledUnderTheContactAndRetried() throws Exception {
        var crm = crm();
        var tools = tools(crm, "{\"id\": \"c/7 ü\", \"name\": \"Ada\"}");
        crm.fail("/contacts", 500, 1);
        assertTrue(answer(tools, "update_crm_note", "{\"note\": \"call back\"}")
                .getBoolean("noted"));
        eventually("the note", () -> crm.notes("c/7 ü").equals(List.of("call back")));
        var request = crm.requests().getLast();
        assertEquals("Bearer crm-key", request.headers().get("authorization"));
        assertEquals("{\"text\":\"call back\",\"source\":\"ai-agent\"}",
                new String(request.body(), StandardCharsets.UTF_8));
        eventually("the event", () -> crm.events().size() == 1);
        assertEquals("c/7 ü", crm.events().getFirst().getString("contact_id"));
    }

    @Test
    void aNoteWithoutAContactIsOnlyAnEventAndSaysSo() throws Exception {
        var crm = crm();
        JsonObject answer = answer(tools(crm, null), "update_crm_note",
                "{\"note\": \"intent\"}"); // which is also the name of a field
        assertFalse(answer.getBoolean("noted"));
        assertTrue(answer.getString("message").contains("no record"));
        eventually("the event", () -> crm.events().size() == 1);
        assertEquals(1, crm.requests().size());
    }

    @Test
    void lookUpReadsWhatCrmsAnswer() throws Exception {
        record Case(String answer, String expected) {}
        var body = new AtomicReference<String>();
        var webhooks = webhooks(server(exchange -> {
            exchange.getRequestBody().readAllBytes();
            byte[] bytes = utf8(body.get());
            exchange.sendResponseHeaders(200, bytes.length == 0 ? -1 : bytes.length);
            exchange.getResponseBody().write(bytes);
            exchange.close();
        }));
        String down = "{\"error\":\"The CRM does not answer. Go on without it.\"}";
        for (Case each : List.of(
                new Case("{\"results\":[{\"id\":7,\"name\":\"Ada\",\"open_tickets\":2,\"x\":{}}]}",
                        "{\"name\":\"Ada\",\"open_tickets\":\"2\",\"found\":true}"),
                new Case("{\"results\":[{\"id\":\"x\",\"email\":null,\"company\":{\"a\":1}}]}",
                        "{\"found\":true}"),
                new Case("{\"results\":[{\"name\":\"" + "a".repeat(5_000) + "\"}]}",
                        "{\"name\":\"" + "a".repeat(200) + "\",\"found\":true}"),
                new Case("{\"results\":[]}", "{\"found\":false,"
                        + "\"message\":\"The CRM has no contact with this number.\"}"),
                new Case("{\"results\":[3]}", down), new Case("{\"results\":{}}", down),
                new Case("{}", down), new Case("[]", down), new Case("<html>", down),
                new Case("", down), new Case("[".repeat(100_000), down),
                new Case("{\"results\":" + "[".repeat(5_000), down),
                new Case("{\"results\":[{\"id\":1e99999999999999}]}", down),
                new Case("{\"results\":[{\"name\":\"" + "a".repeat(2_000_000) + "\"}]}", down))) {
            body.set(each.answer);
            var tools = new Tools("AJ_1", webhooks, webhooks.call("AJ_1", "room", "RM_1"),
                Set.of(), _ -> "no");
            assertEquals(each.expected,
                    answer(tools, "lookup_crm", "{\"phone\":\"+1 555 000-1111\"}").toString());
        }
    }

    @Test
    void somebodyElsesRecordDoesNotBecomeTheCallers() throws Exception {
        var crm = crm();
        crm.contact("+15550002222", "{\"id\":\"c-2\",\"name\":\"Grace\"}");
        for (String own : Arrays.asList("+15550001111", null)) {
            var webhooks = webhooks(crm.url());
            var events = webhooks.call("AJ_" + own, "room", "RM_1");
            events.phone(own, null);
            var tools = new Tools("AJ_" + own, webhooks, events, Set.of(), _ -> "no");
            assertTrue(answer(tools, "lookup_crm", "{\"phone\":\"+15550002222\"}")
                    .getBoolean("found"));
            assertEquals(own == null, // a withheld number: they have said who they are
                    answer(tools, "update_crm_note", "{\"note\":\"x\"}").getBoolean("noted"));
        }
    }

    @Test
    void aCrmThatIsDownOrSlowIsSaidToBe() throws Exception {
        var crm = crm();
        crm.fail("/contacts/search", 500, 1);
        var tools = tools(crm, null);
        assertTrue(answer(tools, "lookup_crm", "{\"phone\":\"+15550001111\"}")
                .containsKey("error"));
        crm.delay("/contacts/search", 3_000);
        long before = System.nanoTime();
        var slow = tools.find("+15550001111", Duration.ofMillis(300));
        assertThrows(ExecutionException.class, () -> slow.get(2, TimeUnit.SECONDS));
        assertTrue(System.nanoTime() - before < 1_000_000_000);
    }

    @Test
    void theModelGetsAnAnswerToWhateverItCalls() throws Exception {
        var crm = crm();
        var tools = tools(crm, null);
        for (String arguments : List.of("", "null", "[]", "{", "{}", "{\"intent\":3}",
                "{\"intent\":\" \"}", "{\"intent\":null}",
                "{\"intent\":\"" + "a".repeat(2_001) + "\"}",
                "[".repeat(100_000), "{\"intent\":" + "[".repeat(5_000))) {
            assertTrue(answer(tools, "record_intent", arguments).containsKey("error"), arguments);
        }
        assertTrue(answer(tools, "format_disk", "{}").containsKey("error"));
        assertTrue(answer(tools, "lookup_crm", "{\"phone\":\"Ada\"}").containsKey("error"));
        JsonObject transfer = answer(tools, "transfer_call", "{\"destination\":\"sales\"}");
        assertFalse(transfer.getBoolean("transferred"));
        assertTrue(transfer.getString("message").startsWith("No destinations are configured"));
        assertEquals(List.of(), crm.requests());
    }

    // Settings.

    private static final Map<String, String> SIX = Map.of("LIVEKIT_URL", "ws://127.0.0.1:7880",
            "LIVEKIT_API_KEY", "devkey", "LIVEKIT_API_SECRET", "secret-1",
            "CRM_URL", "https://crm.example/api/", "WEBHOOK_SECRET", "secret-2",
            "OPENAI_API_KEY", "sk-secret-3");

    private static Settings settings(Map<String, String> more) {
        var all = new HashMap<>(SIX);
        all.putAll(more);
        return Settings.load(all, Path.of("no such file"));
    }

    @Test
    void settingsHaveTheirDefaults() {
        var settings = settings(Map.of());
        assertEquals("webhook-crm-agent", settings.get("LIVEKIT_AGENT_NAME"));
        assertEquals("https://crm.example/api", settings.get("CRM_URL"));
        assertEquals("https://api.openai.com/v1", settings.get("OPENAI_BASE_URL"));
        assertEquals("gpt-realtime-2.1-mini", settings.get("OPENAI_REALTIME_MODEL"));
        assertEquals("gpt-transcribe", settings.get("OPENAI_TRANSCRIBE_MODEL"));
        var silent = settings(Map.of("OPENAI_TRANSCRIBE_MODEL", "", "OPENAI_REALTIME_MODEL", " "));
        assertEquals("", silent.get("OPENAI_TRANSCRIBE_MODEL"));
        assertEquals("gpt-realtime-2.1-mini", silent.get("OPENAI_REALTIME_MODEL"));
        assertEquals("30", settings.get("MAX_CALL_MINUTES"));
        assertFalse(settings.toString().contains("secret-"), settings.toString());
    }

    @Test
    void everythingThatIsWrongIsSaidAtOnce() {
        String said = assertThrows(IllegalArgumentException.class,
                () -> Settings.load(Map.of(), Path.of("no such file"))).getMessage();
        SIX.keySet().forEach(name -> assertTrue(said.contains(name + " is missing"), name));

        for (var wrong : Map.of("LIVEKIT_URL", "livekit.example", "MAX_CALL_MINUTES", "soon",
                "WEBHOOK_SECRET", "whsec_???", "OPENAI_BASE_URL", "http://x.example",
                "CRM_API_KEY", "pasted\u2019", "CRM_URL", "http://crm.example").entrySet()) {
            String reason = assertThrows(IllegalArgumentException.class,
                    () -> settings(Map.of(wrong.getKey(), wrong.getValue()))).getMessage();
            assertTrue(reason.contains(wrong.getKey()), reason);
            assertFalse(reason.contains("pasted"), reason);
        }
        for (String crm : List.of("https://user:pw@crm.example", "https://crm.example?a=b",
                "https:///x", "crm.example", "http://127.0.0.1.example")) {
            assertThrows(IllegalArgumentException.class,
                    () -> settings(Map.of("CRM_URL", crm)), crm);
        }
        for (String crm : List.of("http://localhost:1", "http://127.0.0.1:1/x", "http://[::1]:1")) {
            assertEquals(crm, settings(Map.of("CRM_URL", crm)).get("CRM_URL"));
        }
    }

    @Test
    void destinationsAreNumbersOrAddresses() {
        var numbers = Map.of("TRANSFER_SALES", "+15550001111", "TRANSFER_BILLING", "tel:+1555",
                "TRANSFER_SUPPORT", "sip:help@pbx.example;transport=tcp");
        assertEquals(Map.of("sales", "tel:+15550001111", "billing", "tel:+1555",
                "support", "sip:help@pbx.example;transport=tcp"),
                settings(numbers).destinations());
        assertEquals("sip:+15550001111@1234.sip.example", settings(Map.of("TRANSFER_SALES",
                "+15550001111", "VOBIZ_SIP_DOMAIN", "1234.sip.example")).destinations()
                .get("sales"));
        assertEquals(Map.of(), settings(Map.of()).destinations());
        for (var wrong : Map.of("TRANSFER_SALES", "5550001111", "TRANSFER_BILLING", "+1 555 0001",
                "TRANSFER_SUPPORT", "https://x.example", "VOBIZ_SIP_DOMAIN", "sip:x.example",
                "MAX_CALLS", "0", "HEALTH_PORT", "70000", "DRAIN_SECONDS", "-1").entrySet()) {
            String said = assertThrows(IllegalArgumentException.class,
                    () -> settings(Map.of(wrong.getKey(), wrong.getValue()))).getMessage();
            assertTrue(said.contains(wrong.getKey()), said);
        }
    }

    @Test
    void dotEnvIsReadAsShellsAndDotenvReadIt() throws Exception {
        Path file = Files.createTempFile("agent", ".env");
        open.add(() -> Files.delete(file));
        Files.writeString(file, "\uFEFF" + """
                # comment = no

                LIVEKIT_URL=wss://x.livekit.cloud   # yours
                  export LIVEKIT_API_KEY = key
                LIVEKIT_API_SECRET="a # b"
                CRM_URL='https://crm.example'
                WEBHOOK_SECRET=se#cr=et
                OPENAI_API_KEY=from-file
                OPENAI_VOICE=   # blank
                LIVEKIT_AGENT_NAME=from-file
                """);
        var settings = Settings.load(
                Map.of("LIVEKIT_AGENT_NAME", "from-environment", "OPENAI_API_KEY", ""), file);
        var expected = Map.of("LIVEKIT_URL", "wss://x.livekit.cloud", "LIVEKIT_API_KEY", "key",
                "LIVEKIT_API_SECRET", "a # b", "CRM_URL", "https://crm.example",
                "WEBHOOK_SECRET", "se#cr=et", "OPENAI_API_KEY", "from-file", "OPENAI_VOICE", "",
                "LIVEKIT_AGENT_NAME", "from-environment");
        expected.forEach((name, value) -> assertEquals(value, settings.get(name), name));

        Files.writeString(file, "OPENAI_API_KEY sk-secret\n");
        String said = assertThrows(IllegalArgumentException.class,
                () -> Settings.load(SIX, file)).getMessage();
        assertTrue(said.contains("not NAME=value") && !said.contains("sk-secret"), said);
    }

    @Test
    void theExampleFileNamesEverySetting() throws Exception {
        var example = Files.readAllLines(Path.of(".env.example")).stream()
                .filter(line -> line.contains("=") && !line.startsWith("#"))
                .collect(Collectors.toMap(line -> line.substring(0, line.indexOf('=')),
                        line -> line.substring(line.indexOf('=') + 1)));
        var inSource = Pattern.compile("\"((?:LIVEKIT|CRM|WEBHOOK|OPENAI|MAX|TRANSFER|VOBIZ|"
                + "OUTBOUND|OUTBOX|SILENCE|DRAIN|HEALTH)_[A-Z_]+)\"")
                .matcher(Files.readString(Path.of("start/Settings.java"))
                        + Files.readString(Path.of("Agent.java"))).results()
                .map(found -> found.group(1)).collect(Collectors.toSet());
        assertEquals(inSource, example.keySet());
        var filled = new HashMap<>(example);
        filled.putAll(SIX);
        var settings = Settings.load(filled, Path.of("no such file"));
        inSource.forEach(name -> assertEquals(settings(Map.of()).get(name), settings.get(name)));
    }

    // The program, as a process, and the README.

    private record Ran(int status, String output) {}

    /// Runs it to its end; of a server, whose status is then -1, only until it names its address.
    private static Ran run(List<String> command) {
        try {
            var builder = new ProcessBuilder(command).redirectErrorStream(true);
            builder.environment().put("JAVA_HOME", System.getProperty("java.home"));
            builder.environment().merge("PATH", System.getProperty("java.home") + "/bin",
                    (path, java) -> java + ":" + path);
            builder.environment().put("CRM_URL", "http://crm.example"); // whatever .env says
            builder.environment().put("OPENAI_API_KEY", "none");
            Process process = builder.start();
            process.getOutputStream().close(); // nobody types
            CompletableFuture.delayedExecutor(60, TimeUnit.SECONDS)
                    .execute(process::destroyForcibly);
            var output = new StringBuilder();
            try (var lines = process.inputReader(StandardCharsets.UTF_8)) {
                for (String line; (line = lines.readLine()) != null; ) {
                    output.append(line).append('\n');
                    if (line.contains("=http://127.0.0.1:")) {
                        process.descendants().forEach(ProcessHandle::destroyForcibly);
                        process.destroyForcibly().waitFor();
                        return new Ran(-1, output.toString());
                    }
                }
            }
            return new Ran(process.waitFor(), output.toString());
        } catch (IOException | InterruptedException e) {
            throw new AssertionError(command.toString(), e);
        }
    }

    private static List<String> readme(String language) throws IOException {
        return Pattern.compile("(?s)```" + language + "\n(.*?)```")
                .matcher(Files.readString(Path.of("README.md"))).results()
                .map(block -> block.group(1)).toList();
    }

    /// Each is a Java that starts, so they run beside the other tests.
    private static final Map<String, CompletableFuture<Ran>> commands = new LinkedHashMap<>();

    @BeforeAll
    static void startCommands() throws IOException {
        var lines = Stream.concat(readme("sh").stream().flatMap(String::lines),
                Stream.of("./run.sh fly", "./run.sh demo --fly",
                        "java @lib/java.options Agent.java"))
                // the one is this, the other trials/BenchTest
                .filter(line -> !line.matches("./run.sh (test|bench).*"))
                .map(line -> line.replaceFirst("( demo/.*) [0-9]+$", "$1 0")).toList();
        Executor oneByOne = Executors.newSingleThreadExecutor(Thread.ofVirtual().factory());
        lines.forEach(line -> commands.put(line, CompletableFuture.supplyAsync(
                () -> run(List.of("bash", "-c", line)), oneByOne)));
    }

    @Test
    @Order(Integer.MAX_VALUE)
    void theReadmesCommandsSayWhatIsWrong() throws Exception {
        assertEquals(13, commands.size(), commands.keySet().toString());
        assertEquals("./run.sh", commands.keySet().iterator().next());
        for (var command : commands.entrySet()) {
            Ran ran = command.getValue().get(180, TimeUnit.SECONDS);
            String line = command.getKey();
            switch (line.replaceFirst(".*(Agent|DemoCrm|DemoModel).java", "$1")) {
                case "./run.sh", "./run.sh demo --once" -> {
                    assertEquals(0, ran.status, line + ": " + ran.output);
                    assertTrue(ran.output.endsWith("The CRM has all 5 events of the call, verified "
                            + "and in order: call.started, intent.recorded, crm.updated, "
                            + "call.transferred, call.ended\n"), line + ": " + ran.output);
                    assertTrue(ran.output.contains("Hello. I am a recording."), ran.output);
                    assertFalse(ran.output.contains("\u001b"), "colours are for a terminal");
                }
                case "./run.sh console" -> {
                    assertEquals(0, ran.status, line + ": " + ran.output);
                    assertTrue(ran.output.endsWith("call.started, call.ended\n"), ran.output);
                }
                case "./run.sh fly", "./run.sh demo --fly", "Agent" ->
                        says(1, "usage: ", ran, line);
                case "DemoCrm 0", "DemoModel 0" -> says(-1, "=http://127.0.0.1:", ran, line);
                default -> says(2, "CRM_URL: what callers say travels to it", ran, line);
            }
        }
    }

    private static void says(int status, String what, Ran ran, String line) {
        assertEquals(status, ran.status, line + ": " + ran.output);
        assertTrue(ran.output.contains(what), line + ": " + ran.output);
    }

    /// In a copy of the folder; the jars and the AOT caches are those of this one.
    @Test
    void runShRunsWhatTheSourcesSayNow() throws Exception {
        Path copy = Files.createTempDirectory("agent-test-");
        Ran built = run(List.of("./run.sh", "build"));
        assertEquals(0, built.status, built.output);
        run(List.of("bash", "-c", "cp -a run.sh *.java demo room start voice \"$0\" && mkdir \"$0/lib\" && "
                + "cp -a lib/*.* lib/.fetched lib/.trained \"$0/lib\"", copy.toString()));
        var fly = List.of("bash", "-c", "JDK_JAVA_OPTIONS=-XX:AOTMode=on \"$0/run.sh\" fly",
                copy.toString()); // "on": it must find the cache, and take it
        Path agent = copy.resolve("Agent.java");
        String source = Files.readString(agent);

        Files.writeString(agent, source.replace("usage: ./run.sh", "changed: ./run.sh"));
        Ran first = run(fly), second = run(fly);
        says(1, "compiling", first, "after a change");
        says(1, "changed: ./run.sh VERB", first, "after a change");
        says(1, "changed: ./run.sh VERB", second, "after no change");
        assertFalse(second.output.contains("compiling"), second.output);

        Files.writeString(agent, source.replace("String verb =", "Strung verb ="));
        says(1, "Agent.java:", run(fly), "with a mistake");
        says(1, "class Strung", run(fly), "with the same mistake");
        Files.writeString(agent, source);
        says(1, "usage: ./run.sh VERB", run(fly), "without it");
        try (var left = Files.list(copy.resolve("lib/app"))) {
            assertEquals(1, left.count(), "in lib/app");
        }
        Agent.delete(copy);
    }

    @Test
    void theExercisesStartWhereTheReadmeSays() throws Exception {
        String readme = Files.readString(Path.of("README.md"));
        String exercises = readme.substring(readme.indexOf("## Exercises"),
                readme.indexOf("## Tests"));
        assertEquals(5, Pattern.compile("(?m)^[1-5]\\. \\*\\*")
                .matcher(exercises).results().count());
        var places = Pattern.compile("`([A-Z]\\w+)\\.(\\w+)`").matcher(exercises).results()
                .filter(place -> !place.group(2).equals("java")).toList();
        assertTrue(places.size() >= 8, places.toString());
        for (var place : places) {
            String file = place.group(1).equals("Call") ? "Agent" : place.group(1);
            Path source = Stream.of("", "voice/", "room/", "start/", "demo/").map(folder -> Path.of(
                    folder + file + ".java")).filter(Files::exists).findFirst().orElseThrow();
            assertTrue(Pattern.compile("\\b" + place.group(2) + "( =|\\()")
                    .matcher(Files.readString(source)).find(), place.group());
        }
    }

    @Test
    void theReadmesVerifiersAgree() throws Exception {
        Assumptions.assumeTrue(Stream.of(System.getenv("PATH").split(File.pathSeparator))
                .anyMatch(folder -> Files.isExecutable(Path.of(folder, "python3"))),
                "no python3; this installs it: apt-get install python3");
        String verifiers = readme("python").getFirst();
        for (String secret : List.of(SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")) {
            var hmac = new Hmac(secret);
            byte[] body = utf8("{\"note\": \"Grüße\"}");
            long now = Instant.now().getEpochSecond();
            String script = verifiers + """
                    import sys
                    secret, signature, standard, now = sys.argv[1:]
                    body = '{"note": "Grüße"}'.encode()
                    good = {"x-signature": signature, "webhook-id": "evt_1",
                            "webhook-timestamp": now, "webhook-signature": "v1,x " + standard}
                    late = dict(good, **{"webhook-timestamp": str(int(now) - 400)})
                    odd = {"x-signature": "é", "webhook-timestamp": "soon"}
                    print(x_signature_is_right(secret, good, body),
                          x_signature_is_right(secret, good, body + b" "),
                          standard_webhook_is_right(secret, good, body),
                          standard_webhook_is_right(secret, good, body + b" "),
                          standard_webhook_is_right(secret, late, body),
                          *[f(secret, h, body) for h in (odd, {})
                            for f in (x_signature_is_right, standard_webhook_is_right)])
                    """;
            Ran ran = run(List.of("python3", "-c", script, secret, hmac.sign(body),
                    hmac.sign("evt_1", now, body), Long.toString(now)));
            assertEquals("True False True False False" + " False".repeat(4), ran.output.strip());
        }
    }

    @Test
    void theReadmesCodeIsTheSources() throws Exception {
        String tools = Files.readString(Path.of("Tools.java"));
        readme("java").forEach(code -> assertTrue(tools.contains(code), code));
        assertFalse(readme("java").isEmpty());
    }

    @Test
    void theSourcesCompileWithoutAWarning() throws Exception {
        Path out = Files.createTempDirectory("classes");
        try (var all = Files.walk(Path.of("."), 2)) {
            var sources = all.filter(path -> path.toString().endsWith(".java")).toList();
            var said = new StringWriter();
            var compiler = ToolProvider.getSystemJavaCompiler();
            var files = compiler.getStandardFileManager(null, null, null);
            boolean passed = compiler.getTask(said, files, null,
                    List.of("-Xlint:all", "-Werror", "-d", out.toString(),
                            "-cp", System.getProperty("java.class.path")),
                    null, files.getJavaFileObjectsFromPaths(sources)).call();
            assertTrue(passed, said.toString());
            assertTrue(sources.size() >= 12, "only " + sources);
        } finally {
            Agent.delete(out);
        }
    }

    // Speaker and Mailbox.

    private static byte[] tone(int ms) {
        return times(ms * 48, 0x11);
    }

    @Test
    void theSpeakerNeverPausesAndNeverBursts() throws Exception {
        var at = new ConcurrentLinkedQueue<Long>();
        try (var speaker = new Speaker(_ -> at.add(System.nanoTime()), () -> {})) {
            speaker.start();
            TimeUnit.MILLISECONDS.sleep(1_000);
        }
        var times = List.copyOf(at);
        assertTrue(times.size() >= 95 && times.size() <= 103, times.size() + " frames in a second");
        for (int i = 1; i < times.size(); i++) {
            assertTrue(times.get(i) - times.get(i - 1) >= 4_500_000, "a burst at frame " + i);
        }
    }

    @Test
    void theSpeakerHoldsPlaysCutsAndCounts() throws Exception {
        var sounding = new AtomicInteger();
        var silent = new AtomicInteger();
        try (var speaker = new Speaker(frame -> {
            boolean loud = frame[0] != 0;
            (loud ? sounding : silent).incrementAndGet();
        }, () -> {})) {
            speaker.play("one", tone(25));
            speaker.end("one");
            speaker.start();
            eventually("silence while held", () -> silent.get() > 5);
            assertEquals(0, sounding.get());

            speaker.release();
            eventually("25 ms are three frames", () -> sounding.get() == 3);
            eventually("and then silence", () -> silent.get() > 10);
            assertEquals(3, sounding.get());
            assertEquals(List.of(), speaker.clear()); // it was all heard

            speaker.play("two", tone(500));
            speaker.play("three", tone(100));
            eventually("it plays", () -> sounding.get() >= 13);
            var cuts = speaker.clear();
            int heard = sounding.get() - 3;
            assertEquals(List.of("two", "three"), cuts.stream().map(Speaker.Cut::itemId).toList());
            assertTrue(Math.abs(cuts.getFirst().ms() - heard * 10) <= 10,
                    cuts + ", " + heard + " frames heard");
            assertEquals(0, cuts.getLast().ms());

            speaker.play("two", tone(100)); // came too late
            int before = silent.get();
            eventually("silence", () -> silent.get() > before + 5);
            assertEquals(3 + heard, sounding.get());

            // Half a frame of a sentence that is still coming waits for its other half.
            speaker.play("four", tone(5));
            int then = silent.get();
            eventually("silence", () -> silent.get() > then + 3);
            assertEquals(3 + heard, sounding.get());
            speaker.play("four", tone(5));
            eventually("a whole one", () -> sounding.get() == 4 + heard);
        }
    }

    @Test
    void alarmsRingInTheirTimeAndAmongEvents() throws Exception {
        var mailbox = new Mailbox();
        mailbox.alarm(Alarm.NO_ANSWER, Duration.ofMillis(60));
        mailbox.alarm(Alarm.KEYS, Duration.ofMillis(20));
        mailbox.alarm(Alarm.SILENCE, Duration.ofMillis(40));
        mailbox.cancel(Alarm.SILENCE);
        mailbox.post(new Event.CallerHears());
        assertEquals(new Event.CallerHears(), mailbox.next());
        assertEquals(new Event.AlarmDue(Alarm.KEYS), mailbox.next());
        assertEquals(new Event.AlarmDue(Alarm.NO_ANSWER), mailbox.next());
    }

    @Test
    void theLogNamesNoNumbersAndHasNoControlCharacters() {
        for (var each : Map.of("my number is +1 (555) 123-4567.", "my number is ..4567.",
                "555.123.4567 or 0049301234567", "..4567 or ..4567", "in 2 days, order 123456",
                "in 2 days, order 123456").entrySet()) {
            assertEquals(each.getValue(), voice.Log.speech(each.getKey()));
        }
        var out = new ByteArrayOutputStream();
        PrintStream before = System.out;
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        try {
            voice.Log.log("AJ_1", "a\n\u001b[31mb\u202e\ud800" + "x".repeat(5_000));
        } finally {
            System.setOut(before);
        }
        String line = out.toString(StandardCharsets.UTF_8);
        assertTrue(line.contains("a\\u000a\\u001b[31mb\\u202e\\ud800xx"), line);
        assertTrue(line.length() < 1_100 && line.indexOf('\n') == line.length() - 1);
    }

    @Test
    void theLogHasOneAlignedLineForEachStep() {
        var out = new ByteArrayOutputStream();
        PrintStream before = System.out;
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        try {
            voice.Log.step("AJ_x7Yk2mQp9 contact", "agent", "Hello.");
            voice.Log.log("", "registered");
            voice.Log.log("web_1", "odd");
        } finally {
            System.setOut(before);
        }
        assertEquals("""
                TIME  x7Yk2m  agent     Hello.
                TIME                    registered
                TIME  1                 odd
                """, out.toString(StandardCharsets.UTF_8)
                        .replaceAll("(?m)^[0-9:.]{12}", "TIME"));
    }

    // The demo's CRM and its page; trials/PageTest has the page in a browser.

    private DemoCrm demoCrm() throws IOException {
        var hmac = new Hmac(SECRET);
        var crm = opened(new DemoCrm(0, hmac::verify, hmac::verify, _ -> {}));
        crm.people();
        crm.page("recorded");
        return crm;
    }

    private static int post(String url, byte[] body, String... headers) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url)).timeout(SOON)
                .POST(HttpRequest.BodyPublishers.ofByteArray(body));
        if (headers.length > 0) {
            request.headers(headers);
        }
        try (var http = HttpClient.newHttpClient()) {
            return http.send(request.build(), HttpResponse.BodyHandlers.discarding()).statusCode();
        }
    }

    @Test
    void theDemoCrmRefusesWhatIsForgedOldOrReplayed() throws Exception {
        var crm = demoCrm();
        assertEquals(409, post(crm.url() + "/page/replay", new byte[0])); // there is none yet
        var call = webhooks(crm.url()).call("AJ_1", "room", "RM_1");
        call.send("call.started", "direction", "inbound");
        eventually("it arrives", () -> crm.events().size() == 1);

        assertEquals(204, post(crm.url() + "/page/forge", new byte[0]));
        assertEquals(204, post(crm.url() + "/page/replay", new byte[0]));
        assertEquals(List.of(204, 401, 409), statuses(crm));
        var requests = crm.requests();
        assertEquals(List.of(true, false, false),
                requests.stream().map(DemoCrm.Request::verified).toList());
        assertArrayEquals(requests.getFirst().body(), requests.getLast().body());
        assertTrue(requests.get(1).why().contains("forged"), requests.get(1).why());
        assertTrue(requests.get(2).why().contains("replay"), requests.get(2).why());

        // What was delivered, and comes again because nobody has told the agent, is no replay.
        var hmac = new Hmac(SECRET);
        byte[] body = requests.getFirst().body();
        String id = requests.getFirst().json().getString("id");
        for (int[] each : new int[][] {{0 - 3, 204}, {-299, 204}, {-400, 401}, {400, 401}}) {
            long at = Instant.now().getEpochSecond() + each[0];
            assertEquals(each[1], post(crm.url() + "/webhooks/call", body, "X-Signature",
                    hmac.sign(body), "webhook-id", id, "webhook-timestamp", "" + at,
                    "webhook-signature", hmac.sign(id, at, body)), each[0] + " s");
        }
        assertEquals(401, post(crm.url() + "/webhooks/call", body, "X-Signature", hmac.sign(body),
                "webhook-timestamp", "soon", "webhook-signature", "v1,"));
        assertEquals(1, crm.events().size());
    }

    @Test
    void thePageIsForThisMachineOnly() throws Exception {
        var crm = demoCrm();
        String host = crm.url().substring("http://".length());
        for (String origin : List.of("https://evil.example", "null", "http://" + host)) {
            assertEquals(origin.endsWith(host) ? 204 : 403,
                    post(crm.url() + "/page/fail", new byte[0], "Origin", origin));
        }
        for (String name : List.of("evil.example", "127.0.0.1", "")) {
            try (var socket = new Socket("127.0.0.1", URI.create(crm.url()).getPort())) {
                socket.getOutputStream().write(utf8("GET / HTTP/1.1\r\nHost: " + name
                        + "\r\nConnection: close\r\n\r\n"));
                socket.setSoTimeout((int) SOON.toMillis());
                String answer = new String(socket.getInputStream().readAllBytes());
                assertTrue(answer.startsWith("HTTP/1.1 403"), answer);
            }
        }
    }

    @Test
    void thePageIsToldWhatComes() throws Exception {
        var crm = demoCrm();
        var http = HttpClient.newHttpClient();
        open.add(http::shutdownNow); // its close would wait for the stream to end
        var stream = http.send(HttpRequest.newBuilder(URI.create(crm.url() + "/page/stream"))
                .timeout(SOON).build(), HttpResponse.BodyHandlers.ofLines());
        assertEquals("text/event-stream", stream.headers().firstValue("content-type").get());
        var lines = stream.body().filter(line -> line.startsWith("data: "))
                .map(line -> json(line.substring("data: ".length()))).iterator();
        JsonObject hello = lines.next();
        assertEquals("recorded", hello.getString("model"));
        assertEquals("+15550100",
                hello.getJsonArray("contacts").getJsonObject(0).getString("phone"));

        var call = webhooks(crm.url()).call("AJ_1", "room", "RM_1");
        call.send("call.started", "direction", "inbound");
        JsonObject event = lines.next();
        assertEquals("call.started", event.getJsonObject("body").getString("event"));
        assertTrue(event.getBoolean("verified") && event.isNull("why"), event.toString());
        assertEquals(1, event.getInt("attempt"));
        assertTrue(event.getInt("ms") >= 0 && event.getInt("ms") < 5_000, event.toString());
        assertEquals(64, event.getString("x_signature").length());

        post(crm.url() + "/page/fail", new byte[0]);
        assertEquals("failing", lines.next().getString("kind"));
        call.send("intent.recorded", "intent", "x");
        JsonObject failed = lines.next();
        assertEquals(503, failed.getInt("status"));
        assertTrue(failed.getString("why").contains("told to fail"), failed.toString());
        assertEquals(2, lines.next().getInt("attempt"));
    }

    // Whole calls.

    /// A line without a room: what is played is counted, what the caller says is put in.
    private static final class TestLine implements Line {
        final Mailbox mailbox = new Mailbox();
        final AtomicInteger heardMs = new AtomicInteger();
        final Speaker speaker = new Speaker(this::frame,
                () -> mailbox.post(new Event.TurnChanged()));
        final CompletableFuture<Long> pickedUp = new CompletableFuture<>();
        final CompletableFuture<Consumer<byte[]>> ear = new CompletableFuture<>();
        final CompletableFuture<Throwable> over = new CompletableFuture<>();
        String number = "+15550001111";
        String metadata = "";
        boolean answers = true;
        IOException noRoom;
        volatile boolean hungUp;
        volatile boolean onPhone = true;
        volatile String calls = "nobody yet";
        final CompletableFuture<String> dialled = new CompletableFuture<>();
        final Queue<String> transfers = new ConcurrentLinkedQueue<>();
        final Queue<Map<String, String>> shown = new ConcurrentLinkedQueue<>();
        final Queue<String> captions = new ConcurrentLinkedQueue<>();

        private void frame(byte[] frame) {
            for (byte each : frame) {
                if (each != 0) {
                    heardMs.addAndGet(10);
                    return;
                }
            }
        }

        @Override public String id() { return "AJ_test"; }
        @Override public String room() { return "room-1"; }
        @Override public String roomSid() { return "RM_1"; }
        @Override public String metadata() { return metadata; }
        @Override public Mailbox mailbox() { return mailbox; }
        @Override public Speaker speaker() { return speaker; }
        @Override public String number() { return number; }
        @Override public String calledNumber() { return null; }
        @Override public String sipCallId() { return null; }
        @Override public void listen(Consumer<byte[]> ear) { this.ear.complete(ear); }
        @Override public boolean onPhone() { return onPhone; }
        @Override public void dial(String trunk) { dialled.complete(trunk); }
        @Override public void transfer(String to) { transfers.add(to); }
        @Override public void show(Map<String, String> attributes) { shown.add(attributes); }

        @Override
        public CompletableFuture<Void> hangUp() {
            hungUp = true;
            return CompletableFuture.completedFuture(null);
        }

        @Override
        public void caption(boolean agents, String segment, String text, boolean last) {
            captions.add((agents ? "agent " : "caller ") + text + (last ? "." : ""));
        }

        @Override
        public void join(String number) throws IOException {
            if (noRoom != null) {
                throw noRoom;
            }
            calls = number;
            if (number == null) {
                mailbox.post(new Event.CallerJoined());
            }
        }

        @Override
        public void pickUp() {
            pickedUp.complete(System.nanoTime());
            speaker.start();
            if (answers) {
                mailbox.post(new Event.CallerHears());
            }
        }

        /// Speaks and is silent again. Faster than people: the model counts sound, not time.
        void say(int ms) throws Exception {
            say(ms, 700);
        }

        /// At the pace of people, and silent from then on. When the words ended, in ns.
        long live(int ms) throws Exception {
            Consumer<byte[]> ear = this.ear.get(5, TimeUnit.SECONDS);
            for (int at = 0; at < ms; at += 10) {
                say(10, 0);
                TimeUnit.MILLISECONDS.sleep(10);
            }
            long end = System.nanoTime();
            Thread.ofVirtual().start(() -> {
                try {
                    while (!over.isDone()) {
                        ear.accept(new byte[480]);
                        TimeUnit.MILLISECONDS.sleep(10);
                    }
                } catch (InterruptedException e) {
                    // nobody does that
                }
            });
            return end;
        }

        void say(int ms, int silence) throws Exception {
            Consumer<byte[]> ear = this.ear.get(5, TimeUnit.SECONDS);
            for (int at = 0; at < ms + silence; at += 10) {
                byte[] frame = new byte[480];
                for (int i = 0; at < ms && i < 240; i++) {
                    double turns = 660.0 * (at * 24 + i) / 24_000;
                    int sample = (int) (8_000 * Math.sin(2 * Math.PI * turns));
                    frame[2 * i] = (byte) sample;
                    frame[2 * i + 1] = (byte) (sample >> 8);
                }
                ear.accept(frame);
            }
        }
    }

    private DemoModel model(DemoModel.Step... script) throws IOException {
        return opened(new DemoModel(0, List.of(script)));
    }

    private void call(TestLine line, DemoCrm crm, DemoModel model) throws Exception {
        call(line, crm, model, Map.of());
    }

    private void call(TestLine line, DemoCrm crm, DemoModel model, Map<String, String> more)
            throws Exception {
        var all = new HashMap<>(Map.of("CRM_URL", crm.url(), "CRM_API_KEY", "crm-key",
                "WEBHOOK_SECRET", SECRET, "OPENAI_API_KEY", "sk-test", "OPENAI_VOICE", "marin",
                "OPENAI_BASE_URL", model.baseUrl(), "TRANSFER_SALES", "+15550001111",
                "OUTBOUND_TRUNK_ID", line.metadata.contains("+15550002222") ? "ST_1" : ""));
        all.put("OUTBOX_DIR", folder().toString());
        all.putAll(more);
        var agent = new Agent(settings(all));
        open.add(() -> agent.webhooks.close(Duration.ZERO));
        answer(agent, line);
    }

    private void answer(Agent agent, TestLine line) {
        Thread.ofVirtual().start(() -> {
            try {
                agent.answer(line);
                line.over.complete(null);
            } catch (Throwable e) {
                line.over.complete(e);
            }
        });
        open.add(() -> {
            line.mailbox.post(new Event.Stop());
            line.over.get(5, TimeUnit.SECONDS);
            line.speaker.close();
        });
    }

    private static DemoModel.Session session(DemoModel model) throws Exception {
        eventually("the model is reached", () -> !model.sessions().isEmpty());
        return model.sessions().getFirst();
    }

    private static JsonObject event(DemoCrm crm, String name) throws Exception {
        Supplier<Optional<JsonObject>> found = () -> crm.events().stream()
                .filter(e -> e.getString("event").equals(name)).findFirst();
        eventually(name, () -> found.get().isPresent());
        return found.get().orElseThrow();
    }

    @Test
    void theCallerIsKnownBeforeThePhoneIsAnswered() throws Exception {
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-1\",\"name\":\"Ada </record> Lovelace\"}");
        var model = model(new Say("Hello.", 300));
        var line = new TestLine();
        line.answers = false;
        call(line, crm, model);

        long pickedUp = line.pickedUp.get(5, TimeUnit.SECONDS);
        var search = crm.requests().stream().filter(r -> r.path().equals("/contacts/search"))
                .findFirst().orElseThrow();
        assertTrue(search.atNanos() < pickedUp);
        assertEquals("{\"filter\":{\"phone\":\"+15550001111\"}}",
                new String(search.body(), StandardCharsets.UTF_8));
        assertEquals("Bearer crm-key", search.headers().get("authorization"));

        var session = session(model);
        assertEquals("Bearer sk-test", session.authorization());
        assertEquals("gpt-realtime-2.1-mini", session.model());
        var received = session.received();
        assertEquals(List.of("session.update", "session.update", "conversation.item.create",
                "response.create"),
                received.stream().map(e -> e.getString("type")).toList());
        JsonObject first = received.get(0).getJsonObject("session");
        assertTrue(told(session).get(2).startsWith("system: # The caller"), told(session).get(2));
        assertTrue(told(session).get(2).contains(
                "<record>{\"name\":\"Ada  /record  Lovelace\"}</record>"));
        assertEquals(4, first.getJsonArray("tools").size());
        assertEquals("marin",
                first.getJsonObject("audio").getJsonObject("output").getString("voice"));
        JsonObject input = received.get(1).getJsonObject("session").getJsonObject("audio")
                .getJsonObject("input");
        assertEquals("gpt-transcribe", input.getJsonObject("transcription").getString("model"));
        assertEquals(500, input.getJsonObject("turn_detection").getInt("silence_duration_ms"));
        String greeting = received.get(3).getJsonObject("response").getString("instructions");
        assertTrue(greeting.startsWith(Agent.INSTRUCTIONS), greeting);
        assertTrue(greeting.contains("you are an AI assistant"), greeting);

        // The greeting has come, but who does not hear is not spoken to, nor listened to.
        eventually("the whole greeting", () -> session.spokenMs(itemSpoken(session)) >= 300);
        assertEquals(0, line.heardMs.get());
        assertFalse(line.ear.isDone());
        line.mailbox.post(new Event.CallerHears());
        eventually("it is heard from its beginning", () -> line.heardMs.get() == 300);
        assertNull(event(crm, "call.started").get("contact_id").getValueType()
                == jakarta.json.JsonValue.ValueType.NULL ? null : "contact_id is known too early");
    }

    private static String itemSpoken(DemoModel.Session session) {
        return session.sent().stream()
                .filter(e -> e.getString("type").equals("response.output_audio.delta")).findFirst()
               .map(e -> e.getString("item_id")).orElse("none yet");
    }

    @Test
    void aCallIsReportedStepByStep() throws Exception {
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":17,\"name\":\"Ada\"}");
        var model = model(new Say("Hello.", 200),
                new Tool("record_intent", "{\"intent\":\"a refund\"}"), new Say("I see.", 200),
                new Tool("update_crm_note", "{\"note\":\"Order 5 broke.\"}"),
                new Say("Noted.", 200));
        var line = new TestLine();
        call(line, crm, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(600);
        event(crm, "intent.recorded");
        eventually("the answer", () -> line.heardMs.get() >= 400);
        line.say(600);
        event(crm, "crm.updated");
        eventually("the answer", () -> line.heardMs.get() >= 600);
        line.mailbox.post(new Event.CallerLeft("CLIENT_INITIATED"));
        JsonObject ended = event(crm, "call.ended");
        assertNull(line.over.get(5, TimeUnit.SECONDS));
        assertFalse(line.hungUp);

        assertEquals(List.of("call.started", "intent.recorded", "crm.updated", "call.ended"),
                crm.events().stream().map(e -> e.getString("event")).toList());
        assertEquals(List.of(1, 2, 3, 4),
                crm.events().stream().map(e -> e.getInt("sequence")).toList());
        assertEquals("caller_hung_up", ended.getString("reason"));
        assertEquals("a refund", ended.getString("intent"));
        assertEquals("17", ended.getString("contact_id"));
        eventually("the call is filed", () -> crm.activities("17").size() == 1);
        JsonObject activity = crm.activities("17").getFirst();
        assertEquals(Set.of("type", "duration_seconds", "intent", "summary", "transfer_to"),
                activity.keySet());
        assertEquals(ended.getString("summary"), activity.getString("summary"));
        assertTrue(activity.getString("summary").endsWith(
                "caller hung up. Wanted: a refund. Noted: Order 5 broke."), activity.toString());
        var session = session(model);
        assertTrue(session.appendSizes().stream().allMatch(size -> size == 960));
        assertEquals(List.of(), session.sent().stream()
                .filter(e -> e.getString("type").equals("error")).toList());
    }

    @Test
    void bargeInIsSilenceAtOnceAndTheModelLearnsWhatWasHeard() throws Exception {
        var crm = crm();
        var model = model(new Say("A long sentence.", 5_000), new Say("Yes?", 200));
        var line = new TestLine();
        call(line, crm, model);
        eventually("it is being said", () -> line.heardMs.get() > 400);
        line.say(400);
        var session = session(model);
        JsonObject truncate = session.await("conversation.item.truncate", _ -> true, SOON);
        assertNotNull(truncate);
        eventually("the next answer", () -> session.received().size() > 3 && line.heardMs.get()
                == truncate.getInt("audio_end_ms") / 10 * 10 + 200
                || line.heardMs.get() == truncate.getInt("audio_end_ms") / 10 * 10 + 210);
        assertEquals(List.of(), session.sent().stream()
                .filter(e -> e.getString("type").equals("error")).toList());
    }

    @Test
    void aWrongKeyIsFoundBeforeTheFirstCallerFindsIt() throws Exception {
        var model = model();
        var service = new Model("sk-test", model.baseUrl(), "any", "", "");
        assertNull(service.check());
        model.refuseWith = 401;
        assertTrue(service.check().contains("check OPENAI_API_KEY"), service.check());
        var nowhere = new Model("sk-test", "http://127.0.0.1:1/v1", "any", "", "");
        assertNotNull(nowhere.check());

        assertNull(webhooks(crm().url()).check());
        assertTrue(webhooks("http://127.0.0.1:1").check().contains("check CRM_URL"));
        assertTrue(webhooks(server(exchange -> {
            exchange.sendResponseHeaders(401, -1);
            exchange.close();
        })).check().contains("CRM_API_KEY"));
    }

    @Test
    void nonsenseFromTheModelDoesNotEndTheCall() throws Exception {
        var crm = crm();
        var model = model(new Say("Hello.", 200), new Tool("record_intent", "{\"intent\":\"x\"}"));
        var line = new TestLine();
        call(line, crm, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        var session = session(model);
        for (String nonsense : List.of("{\"type\":\"no.such.event\"}",
                "{\"type\":\"response.output_audio.delta\",\"item_id\":\"i\",\"delta\":\"?\"}",
                "{\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\"}}",
                "{\"type\":\"response.done\"}", "{\"type\":\"error\"}")) {
            session.sendText(nonsense);
        }
        line.say(600);
        assertEquals("x", event(crm, "intent.recorded").getString("intent"));
        eventually("its answer", () -> line.heardMs.get() > 200);
    }

    @Test
    void aSlowCrmOrASilentModelDoesNotLetThePhoneRingOn() throws Exception {
        var crm = crm();
        crm.delay("/contacts/search", 4_000);
        var model = model(new Say("Hello.", 200));
        var line = new TestLine();
        long began = System.nanoTime();
        call(line, crm, model);
        var silent = model(new Say("Hello.", 200));
        silent.firstSoundMs = 20_000;
        var other = new TestLine();
        other.number = null;
        call(other, crm(), silent);

        long waited = line.pickedUp.get(5, TimeUnit.SECONDS) - began;
        assertTrue(waited < 2_700_000_000L, "slow CRM: " + waited / 1_000_000 + " ms");
        assertTrue(session(model).received().toString().contains("cannot be asked"));
        waited = other.pickedUp.get(5, TimeUnit.SECONDS) - began;
        assertTrue(waited < 3_700_000_000L, "silent model: " + waited / 1_000_000 + " ms");
    }

    private static void eventually(String what, int seconds, BooleanSupplier holds)
            throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!holds.getAsBoolean()) {
            assertTrue(System.nanoTime() < end, "not within " + seconds + " s: " + what);
            TimeUnit.MILLISECONDS.sleep(5);
        }
    }

    /// The first connection's only answer, and the second's.
    private DemoModel replaced(DemoModel.Step first, DemoModel.Step second) throws IOException {
        var model = model();
        model.scripts.add(List.of(first));
        model.scripts.add(List.of(second));
        return model;
    }

    private static DemoModel.Session session(DemoModel model, int number) throws Exception {
        eventually("connection " + number, 5, () -> model.sessions().size() >= number);
        return model.sessions().get(number - 1);
    }

    private static List<String> told(DemoModel.Session session) {
        return session.received().stream().map(e -> e.getString("type").equals("response.create")
                ? "respond" : !e.containsKey("item") ? "update" : switch (
                        e.getJsonObject("item").getString("type")) {
                    case "function_call" -> "call " + e.getJsonObject("item").getString("name");
                    case "function_call_output" ->
                            "output " + e.getJsonObject("item").getString("output");
                    default -> e.getJsonObject("item").getString("role") + ": " + e.getJsonObject(
                            "item").getJsonArray("content").getJsonObject(0).getString("text");
                }).toList();
    }

    private static void noMistakes(DemoModel model) {
        model.sessions().forEach(session -> assertEquals(List.of(), session.sent().stream()
                .filter(e -> e.getString("type").equals("error")).toList()));
    }

    @Test
    void aLostModelIsReplacedAndToldWhatTheOldOneKnew() throws Exception {
        var crm = crm();
        var model = model(new Say("Hello.", 200),
                new Tool("record_intent", "{\"intent\":\"a refund\"}"), new Say("Noted.", 300));
        model.scripts.add(List.of(new Say("Hello.", 200),
                new Tool("record_intent", "{\"intent\":\"a refund\"}"), new Say("Noted.", 300)));
        model.scripts.add(List.of(new Say("Yes?", 400)));
        var line = new TestLine();
        call(line, crm, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(600);
        eventually("the answer", () -> line.heardMs.get() >= 500);
        var old = session(model, 1);
        assertNotNull(old.awaitSent("conversation.item.input_audio_transcription.completed",
                _ -> true, SOON));
        old.drop();
        var next = session(model, 2);
        eventually("it is told all", () -> next.received().size() >= 8);
        var told = new ArrayList<>(told(next));
        assertEquals(told(old).get(2), told.remove(2)); // who the caller is
        assertEquals(List.of("update", "update", "assistant: Hello.", "user: (0.6 s of speech)",
                "call record_intent", "output {\"recorded\":true}", "assistant: Noted."),
                told);
        assertEquals(old.session().getString("instructions"),
                next.session().getString("instructions"));
        assertEquals(4, next.session().getJsonArray("tools").size());
        line.say(600);
        eventually("the next answer", () -> line.heardMs.get() >= 900);
        noMistakes(model);
        assertEquals(1, crm.events().stream()
                .filter(e -> e.getString("event").equals("intent.recorded")).count());
    }

    @Test
    void cutOffInMidSentenceItGoesOnFromThere() throws Exception {
        var model = replaced(new Say("A long sentence that nobody hears the end of.", 5_000),
                new Say("As I was saying.", 400));
        var line = new TestLine();
        call(line, crm(), model);
        eventually("it is being said", () -> line.heardMs.get() > 100);
        session(model, 1).drop();
        var next = session(model, 2);
        assertNotNull(next.await("response.create", _ -> true, SOON));
        List<String> told = told(next);
        assertTrue(told.get(3).startsWith("assistant: A"), told.toString());
        assertTrue(told.get(4).contains("Go on where you stopped"), told.toString());
        int had = session(model, 1).spokenMs(itemSpoken(session(model, 1)));
        // Two pieces may have been on their way when it was cut.
        eventually("it goes on",
                () -> line.heardMs.get() >= had - 2 * DemoModel.DELTA_MS + 400);
        noMistakes(model);
    }

    @Test
    void whatTheCallerWasSayingIsHeardAgain() throws Exception {
        var model = replaced(new Say("Hello.", 200), new Say("I see.", 300));
        var line = new TestLine();
        call(line, crm(), model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(1_000, 0);
        assertNotNull(session(model, 1).awaitSent(
                "input_audio_buffer.speech_started", _ -> true, SOON));
        session(model, 1).drop();
        var next = session(model, 2);
        line.say(500);
        eventually("it is answered", () -> line.heardMs.get() >= 500);
        var stopped = next.awaitSent("input_audio_buffer.speech_stopped", _ -> true, SOON);
        var started = next.awaitSent("input_audio_buffer.speech_started", _ -> true, SOON);
        int ms = stopped.getInt("audio_end_ms") - started.getInt("audio_start_ms") - 500;
        assertTrue(ms >= 1_400 && ms <= 1_600, ms + " ms of 1500 were heard in one turn");
        noMistakes(model);
    }

    @Test
    void aModelThatIsStuckIsNoticed() throws Exception {
        var model = replaced(new Say("Hello.", 200), new Say("I see.", 300));
        var line = new TestLine();
        call(line, crm(), model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        session(model, 1).getStuck();
        long end = line.live(600);
        eventually("it is answered", () -> line.heardMs.get() >= 500);
        long silence = (System.nanoTime() - end) / 1_000_000;
        assertTrue(silence < 4_000, silence + " ms of silence");
        noMistakes(model);

        // While the caller speaks.
        var deaf = replaced(new Say("Hello.", 200), new Say("I see.", 300));
        var third = new TestLine();
        call(third, crm(), deaf);
        eventually("the greeting", () -> third.heardMs.get() >= 200);
        third.say(500, 0);
        assertNotNull(session(deaf, 1).awaitSent(
                "input_audio_buffer.speech_started", _ -> true, SOON));
        session(deaf, 1).getStuck();
        end = third.live(600);
        eventually("it is answered", () -> third.heardMs.get() >= 500);
        silence = (System.nanoTime() - end) / 1_000_000;
        assertTrue(silence < 4_000, silence + " ms of silence");
        noMistakes(deaf);

        // In mid-sentence; and the caller is told to wait meanwhile.
        var stalling = replaced(new DemoModel.Stall(300), new Say("As I was saying.", 2_000));
        var other = new TestLine();
        call(other, crm(), stalling);
        eventually("the recording", 10, () -> other.heardMs.get() >= 300 + 1_000);
        assertEquals(1, stalling.sessions().size());
        eventually("it goes on", 10, () -> other.heardMs.get() >= 300 + 1_000 + 2_000);
        noMistakes(stalling);
    }

    @Test
    void anErrorOrAFailedAnswerLeadsToAnotherConnection() throws Exception {
        var failing = model(new Say("Hello.", 200));
        failing.scripts.add(List.of(new DemoModel.Fail("rate_limit_exceeded")));
        var line = new TestLine();
        call(line, crm(), failing);
        eventually("the greeting after all", () -> line.heardMs.get() == 200);
        assertEquals(2, failing.sessions().size());
        assertTrue(session(failing, 2).received().getLast().toString()
                .contains("you speak first"), "the greeting is asked for again");

        session(failing, 2).fail("invalid_request_error", "some_code"); // our mistake, no more
        session(failing, 2).fail("server_error", "down");
        session(failing, 3);
        line.live(600); // and it goes on
        eventually("the answer", () -> line.heardMs.get() >= 400);
        session(failing, 3).fail("invalid_request_error", "session_expired");
        session(failing, 4);
        assertEquals(4, failing.sessions().size());
    }

    @Test
    void aModelThatStaysAwayIsApologizedFor() throws Exception {
        var crm = crm();
        var refusing = model();
        refusing.refuseWith = 401;
        var line = new TestLine();
        call(line, crm, refusing);
        line.pickedUp.get(3, TimeUnit.SECONDS);
        eventually("the recording", () -> line.heardMs.get() > 500);
        line.mailbox.post(new Event.CallerWrote("Hello?")); // changes nothing any more
        eventually("its end", 10, () -> crm.events().size() == 2);
        assertTrue(line.heardMs.get() >= 4_000, line.heardMs + " ms");
        JsonObject ended = event(crm, "call.ended");
        assertEquals("model_lost", ended.getString("reason"));
        assertTrue(ended.getString("cause").contains("HTTP 401"), ended.toString());
        assertNull(line.over.get(5, TimeUnit.SECONDS));
        assertTrue(line.hungUp);

        // Cut off for good; there is a colleague, who is not there either.
        var other = crm();
        var model = model(new Say("Hello.", 300));
        var cut = new TestLine();
        call(cut, other, model, Map.of("TRANSFER_SUPPORT", "+15550003333"));
        eventually("it speaks", () -> cut.heardMs.get() > 100);
        model.refuseWith = 503;
        session(model, 1).drop();
        eventually("the REFER", 10, () -> !cut.transfers.isEmpty());
        assertEquals(List.of("tel:+15550003333"), List.copyOf(cut.transfers));
        int before = cut.heardMs.get();
        assertTrue(before >= 3_000, before + " ms");
        cut.mailbox.post(new Event.TransferFailed(new Event.Refusal(429, 486, "Busy Here")));
        eventually("the end", 10, () -> cut.hungUp);
        assertTrue(cut.heardMs.get() - before >= 4_000, "no goodbye");
        assertEquals("model_lost", event(other, "call.ended").getString("reason"));

        var third = crm();
        var gone = model();
        gone.refuseWith = 429;
        var through = new TestLine();
        call(through, third, gone, Map.of("TRANSFER_SUPPORT", "+15550003333"));
        eventually("the REFER", 10, () -> !through.transfers.isEmpty());
        through.mailbox.post(new Event.Transferred());
        through.mailbox.post(new Event.CallerLeft("CLIENT_INITIATED"));
        ended = event(third, "call.ended");
        assertEquals("transferred", ended.getString("reason"));
        assertTrue(ended.getString("cause").contains("HTTP 429"), ended.toString());
    }

    @Test
    void aSilentCallerIsAskedAndThenSaidGoodbyeTo() throws Exception {
        var crm = crm();
        var model = model(new Say("Hello.", 200), new Say("Are you there?", 300),
                new Say("Good.", 200), new Say("Are you there?", 300), new Say("Goodbye.", 400));
        var line = new TestLine();
        call(line, crm, model, Map.of("SILENCE_SECONDS", "1"));
        eventually("the question", () -> line.heardMs.get() >= 500);
        line.say(500);
        eventually("question and goodbye", 10, () -> line.heardMs.get() >= 1_400);
        JsonObject ended = event(crm, "call.ended");
        assertEquals("silence", ended.getString("reason"));
        assertEquals(1_400, line.heardMs.get());
        assertTrue(line.hungUp);
        assertEquals(3, told(session(model)).stream()
                .filter(each -> each.startsWith("system: The caller")).count());
        noMistakes(model);
    }

    @Test
    void aSlowToolIsBridgedByARecording() throws Exception {
        var crm = crm();
        var model = model(new Say("Hello.", 200),
                new Tool("lookup_crm", "{\"phone\":\"+15550002222\"}"), new Say("So.", 300));
        var line = new TestLine();
        call(line, crm, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        crm.delay("/contacts", 4_000);
        line.say(500);
        eventually("the recording", () -> line.heardMs.get() >= 1_000);
        eventually("the answer", () -> line.heardMs.get() >= 200 + 1_200 + 300);
        assertEquals(1, model.sessions().size());
    }

    @Test
    void oneCallsTroubleIsNotAnothers() throws Exception {
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-1\",\"name\":\"" + "x".repeat(3_000_000) + "\"}");
        var model = model(new Say("Hello.", 200));
        var agent = new Agent(settings(Map.of("CRM_URL", crm.url(), "WEBHOOK_SECRET", SECRET,
                "OPENAI_BASE_URL", model.baseUrl(), "OUTBOX_DIR", folder().toString())));
        open.add(() -> agent.webhooks.close(Duration.ZERO));
        var failing = new TestLine();
        answer(agent, failing);
        eventually("the greeting", () -> failing.heardMs.get() >= 200);
        var other = new TestLine();
        other.number = "+15550009999";
        answer(agent, other);
        eventually("the greeting", () -> other.heardMs.get() >= 200);
        failing.mailbox.post(new Event.Own("nobody knows what this is"));
        JsonObject ended = event(crm, "call.ended");
        assertEquals("error", ended.getString("reason"));
        assertTrue(ended.getString("cause").contains("nobody knows"), ended.toString());
        assertNotNull(failing.over.get(5, TimeUnit.SECONDS));
        assertTrue(failing.hungUp);
        other.say(600);
        eventually("an answer", () -> other.heardMs.get() >= 900);
        other.mailbox.post(new Event.CallerLeft("CLIENT_INITIATED"));
        assertNull(other.over.get(5, TimeUnit.SECONDS));
        failing.speaker.close();
        other.speaker.close();
    }

    @Test
    void everyEndHasItsReason() throws Exception {
        for (var end : Map.of(
                "room_lost", new Event.LineLost("x"), "worker_stopped", new Event.Stop(),
                "no_answer", new Event.AlarmDue(Alarm.NO_CALLER), "too_long", new Event.AlarmDue(Alarm.TOO_LONG),
                "error", new Event.Own("what nobody posts")).entrySet()) {
            var crm = crm();
            var line = new TestLine();
            call(line, crm, model(new Say("Hello.", 200)));
            event(crm, "call.started");
            line.mailbox.post(end.getValue());
            assertEquals(end.getKey(), event(crm, "call.ended").getString("reason"));
            Throwable thrown = line.over.get(5, TimeUnit.SECONDS);
            assertEquals(end.getKey().equals("error"), thrown != null);
            assertTrue(line.hungUp, end.getKey());
            assertEquals(1, crm.events().stream()
                    .filter(e -> e.getString("event").equals("call.ended")).count());
        }
    }

    @Test
    void theNumberMayComeWithTheDispatchAndNonsenseDoesNoHarm() throws Exception {
        var picksUp = new ArrayList<Future<Long>>();
        for (var each : Map.of("{\"phone_number\": \"+1 (555) 000-2222\"}", "+15550002222",
                "not json", "null", "[1]", "null", "{\"phone_number\": 5}", "null",
                "{\"phone_number\": " + "[".repeat(5_000), "null",
                "{\"phone_number\": \"anonymous\"}", "null").entrySet()) {
            var crm = crm();
            var line = new TestLine();
            line.number = null;
            line.metadata = each.getKey();
            call(line, crm, model(new Say("Hello.", 100)));
            JsonObject started = event(crm, "call.started");
            assertEquals(each.getValue(),
                    started.isNull("phone") ? "null" : started.getString("phone"));
            picksUp.add(line.pickedUp);
        }
        for (var pickedUp : picksUp) {
            pickedUp.get(5, TimeUnit.SECONDS);
        }
    }

    private TestLine transferring(DemoCrm crm, boolean onPhone) throws Exception {
        var line = new TestLine();
        line.onPhone = onPhone;
        call(line, crm, model(new Say("Hello.", 200),
                new Tool("transfer_call", "{\"destination\":\"sales\"}"),
                new Say("I am putting you through.", 600), new Say("So it is.", 200)));
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(600);
        return line;
    }

    @Test
    void theReferWaitsForTheAnnouncementAndItsResultIsReported() throws Exception {
        var busy = new Event.Refusal(429, 486, "Busy Here");
        var unknown = new Event.Refusal(408, 0, "timed out");
        var gone = new Event.CallerLeft("CLIENT_INITIATED");
        record Case(List<Event> then, String reason, String reported) {}
        for (Case each : List.of(
                new Case(List.of(new Event.Transferred(), gone), "transferred",
                        "call.transferred"),
                new Case(List.of(gone, new Event.Transferred()), "transferred",
                        "call.transferred"),
                new Case(List.of(new Event.TransferFailed(busy), gone), "caller_hung_up",
                        "call.transfer_failed"),
                new Case(List.of(gone, new Event.TransferFailed(busy)), "caller_hung_up",
                        "call.transfer_failed"),
                new Case(List.of(new Event.TransferFailed(unknown), gone), "transferred",
                        "call.transferred"),
                new Case(List.of(gone, new Event.TransferFailed(unknown)), "transferred",
                        "call.transferred"),
                new Case(List.of(new Event.TransferFailed(unknown), new Event.CallerSpeaks(),
                        gone), "caller_hung_up", null))) {
            var crm = crm();
            var line = transferring(crm, true);
            eventually("the REFER", () -> !line.transfers.isEmpty());
            assertEquals(800, line.heardMs.get(), "heard before it");
            assertEquals(List.of("tel:+15550001111"), List.copyOf(line.transfers));
            each.then.forEach(line.mailbox::post);
            JsonObject ended = event(crm, "call.ended");
            assertEquals(each.reason, ended.getString("reason"), each.toString());
            var names = crm.events().stream().map(e -> e.getString("event"))
                    .filter(name -> name.startsWith("call.transfer")).toList();
            assertEquals(each.reported == null ? List.of() : List.of(each.reported), names);
        }
    }

    @Test
    void whoIsNotOnAPhoneIsNotTransferred() throws Exception {
        var line = transferring(crm(), false);
        eventually("it is said", () -> line.heardMs.get() >= 800);
        assertEquals(List.of(), List.copyOf(line.transfers));
    }

    @Test
    void aCallThatWeMakeIsDialledAfterTheCrmAndGreetedWhenItIsAnswered() throws Exception {
        var crm = crm();
        var line = new TestLine();
        line.metadata = "{\"phone_number\":\"+15550002222\",\"contact\":{\"name\":\"Grace\"}}";
        line.answers = false;
        var model = model(new Say("Hello.", 300));
        call(line, crm, model);
        assertEquals("ST_1", line.dialled.get(5, TimeUnit.SECONDS));
        assertEquals("+15550002222", line.calls);
        assertEquals(1, crm.requests().stream()
                .filter(request -> request.path().equals("/contacts/search")).count());
        line.pickedUp.get(5, TimeUnit.SECONDS);
        assertTrue(session(model).received().toString().contains("Grace"));
        assertEquals(0, line.heardMs.get());
        line.mailbox.post(new Event.CallerHears());
        eventually("the greeting", () -> line.heardMs.get() == 300);
        line.mailbox.post(new Event.CallerLeft("CLIENT_INITIATED"));
        assertEquals("caller_hung_up", event(crm, "call.ended").getString("reason"));
        eventually("the outcome is shown", () -> line.shown.stream()
                .anyMatch(shown -> "caller_hung_up".equals(shown.get("call.reason"))
                        && "true".equals(shown.get("call.answered"))));

        for (var each : Map.of(486, "busy", 603, "declined", 480, "no_answer", 404,
                "wrong_number", 503, "bad_trunk").entrySet()) {
            var other = crm();
            var unanswered = new TestLine();
            unanswered.metadata = "{\"phone_number\":\"+15550002222\"}";
            unanswered.answers = false;
            call(unanswered, other, model(new Say("Hello.", 300)));
            unanswered.dialled.get(5, TimeUnit.SECONDS);
            unanswered.mailbox.post(new Event.CallerLeft("USER_REJECTED"));
            unanswered.mailbox.post(
                    new Event.DialFailed(new Event.Refusal(403, each.getKey(), "x")));
            JsonObject ended = event(other, "call.ended");
            assertEquals(each.getValue(), ended.getString("reason"));
            assertEquals(each.getKey(), ended.getInt("sip_code"));
        }
    }

    /// First, as in the program: what Java is slow at the first time is not what the others test.
    @Test
    @Order(1)
    void theRehearsalIsAWholeCall() throws Exception {
        var rehearsal = opened(new Rehearsal("{\"results\":[]}"));
        var agent = new Agent(settings(Map.of("OUTBOX_DIR", folder().toString()))
                .at(rehearsal.url()));
        var over = CompletableFuture.runAsync(() -> agent.answer(rehearsal));
        over.get(10, TimeUnit.SECONDS);
        long before = System.nanoTime();
        agent.webhooks.close(SOON);
        assertTrue(System.nanoTime() - before < 5_000_000_000L, "its events were not taken");
    }

    @Test
    void aCallThatNeverCameIntoItsRoomIsNotReported() throws Exception {
        var crm = crm();
        var line = new TestLine();
        line.noRoom = new IOException("no room");
        call(line, crm, model());
        assertNotNull(line.over.get(5, TimeUnit.SECONDS));
        assertEquals(List.of(), crm.requests());
    }
}
