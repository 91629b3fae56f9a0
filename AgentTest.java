import module java.base;
import demo.DemoCrm;
import demo.DemoModel.Say;
import demo.DemoModel.Tool;
import demo.DemoModel;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import start.Rehearsal;
import trials.Runner;
import trials.Stand;
import trials.TestLine;
import voice.End;
import voice.Event;
import voice.Party;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// What README promises of the four classes of the ground floor: signatures, events, tools, and
/// what this agent does and reports in a whole call. `./run.sh test` runs this class and the tests
/// of the floors below, which are in trials/; trials/Runner says what else there is.
///
/// The CRM and the model are the stand-ins of demo/, over real sockets. The calls come in on a
/// TestLine. No keys are needed, and nothing comes from the network.
final class AgentTest extends Stand {
    static void main(String[] args) {
        Runner.run(args, AgentTest.class);
    }

    // Hmac. What is expected here was published by others.

    @Test
    void signsAsRfc4231Says() {
        record Vector(byte[] key, byte[] data, String hex) {}
        byte[] counting = new byte[25];
        for (int i = 0; i < counting.length; i++) {
            counting[i] = (byte) (i + 1);
        }
        // The keys of RFC 4231 are bytes and not texts, so Hmac is tried below its constructor.
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

    @Test
    void signsAsGitHubDocumentsIt() {
        assertEquals("757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
                new Hmac(SECRET).signBody(utf8("Hello, World!")));
        assertEquals("7673b0b981a2a7ceec01970e4ce91d17309c23721971d2b43a988462c442b738",
                new Hmac(SECRET).signBody(utf8("Grüße, мир! 👋")));
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
            assertEquals(v.signature, hmac.signStandard(v.id, v.at, utf8(v.body)));
            assertTrue(hmac.verifyStandard(
                    v.id, v.at, utf8(v.body), "v1,AAAA " + v.signature, then));
            assertFalse(hmac.verifyStandard(v.id, v.at, utf8(v.body + " "), v.signature, then));
            assertFalse(hmac.verifyStandard(v.id, v.at, utf8(v.body),
                    "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=", then));
            for (int seconds : new int[] {-301, 301}) {
                assertFalse(hmac.verifyStandard(v.id, v.at, utf8(v.body), v.signature,
                        then.plusSeconds(seconds)));
            }
            assertFalse(hmac.verifyStandard(v.id, Long.MAX_VALUE, utf8(v.body), v.signature, then));
            assertFalse(hmac.verifyStandard(v.id, v.at, utf8(v.body), null, then));
        }
    }

    @Test
    void refusesForgedSignaturesAndUnusableSecrets() {
        var hmac = new Hmac(SECRET);
        byte[] body = utf8("{}");
        assertTrue(hmac.verifyBody(body, hmac.signBody(body)));
        for (String forged : Arrays.asList(null, "", "0", hmac.signBody(utf8("{ }")),
                hmac.signBody(body).toUpperCase(Locale.ROOT), new Hmac("other").signBody(body))) {
            assertFalse(hmac.verifyBody(body, forged), "took " + forged);
        }
        for (String unusable : List.of("", "whsec_", "whsec_not base64")) {
            assertThrows(IllegalArgumentException.class, () -> new Hmac(unusable), unusable);
        }
    }

    // Webhooks: the contract. trials/OutboxTest has what survives a crash.

    private Webhooks webhooks(String url) throws Exception {
        return webhooks(folder(), url);
    }

    private Webhooks webhooks(Path outbox, String url) throws Exception {
        var webhooks = new Webhooks(outbox, url, "crm-key", new Hmac(SECRET));
        afterwards(() -> webhooks.close(Duration.ZERO));
        return webhooks;
    }

    private static Party party(String call, String phone) {
        return new Party(call, "room-1", "RM_1", phone, null, "inbound", null);
    }

    private static End end(String reason, int ms) {
        Instant started = Instant.now();
        return new End(reason, null, "caller", started, started, started.plusMillis(ms), false,
                null, null, CompletableFuture.completedFuture(null));
    }

    @Test
    void eventsHaveTheirDocumentedJson() throws Exception {
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-7\"}");
        var who = new AtomicReference<>(new Party("AJ_1", "room-1", "RM_1", "+15550001111",
                "+15550100", "inbound", "SCL_1"));
        var call = webhooks(crm.url()).call(who::get);
        call.started();
        call.contact("c-7");
        call.intent("\",\"event\":\"call.ended\n");
        who.set(party("AJ_1", null));
        call.note("Grüße");
        call.transferFailed("sales", new Event.Refusal(429, 486, "Busy Here"));
        call.transferFailed("sales", new Event.Refusal(500, 0, "no"));
        call.transferred("support");
        Instant started = Instant.now();
        call.ended(new End("transferred", "it failed", "agent", started, started,
                started.plusMillis(61_234), true, 486, "support",
                CompletableFuture.completedFuture(null)));
        call.ended(end("error", 1));            // nobody is told twice
        eventually("all come", () -> crm.events().size() == 7 && !crm.activities("c-7").isEmpty());

        String known = ",\"room\":\"room-1\",\"phone\":\"+15550001111\",\"contact_id\":";
        String withheld = ",\"room\":\"room-1\",\"phone\":null,\"contact_id\":\"c-7\"";
        String wanted = "\"\\\",\\\"event\\\":\\\"call.ended\\n\"";
        String summary = "\"1:01 min, transferred. Wanted: " + wanted.substring(1,
                wanted.length() - 1) + ". Noted: Grüße\"";
        var expected = List.of(
                "call.started 1" + known + "null,\"sip_call_id\":\"SCL_1\","
                        + "\"direction\":\"inbound\"}",
                "intent.recorded 2" + known + "\"c-7\",\"sip_call_id\":\"SCL_1\","
                        + "\"intent\":" + wanted + "}",
                "crm.updated 3" + withheld + ",\"note\":\"Grüße\"}",
                "call.transfer_failed 4" + withheld + ",\"destination\":\"sales\","
                        + "\"sip_code\":486,\"sip_status\":\"Busy Here\"}",
                "call.transfer_failed 5" + withheld + ",\"destination\":\"sales\","
                        + "\"sip_code\":null,\"sip_status\":\"no\"}",
                "call.transferred 6" + withheld + ",\"destination\":\"support\"}",
                "call.ended 7" + withheld + ",\"reason\":\"transferred\",\"duration_ms\":61234,"
                        + "\"intent\":" + wanted + ",\"summary\":" + summary
                        + ",\"cause\":\"it failed\",\"sip_code\":486}");
        var head = Pattern.compile("\\{\"id\":\"evt_[0-9a-f-]{36}\",\"event\":\"([a-z._]+)\","
                + "\"timestamp\":\"[-0-9T:]{19}\\.[0-9]{3}Z\",\"call_id\":\"AJ_1\","
                + "\"sequence\":([0-9])");
        assertEquals(expected, crm.requests().stream()
                .filter(request -> request.path().startsWith("/webhooks/"))
                .map(request -> head.matcher(new String(request.body(), StandardCharsets.UTF_8))
                        .replaceFirst("$1 $2")).toList());
        assertEquals(json("{\"type\":\"call\",\"duration_seconds\":61,\"intent\":" + wanted
                + ",\"summary\":" + summary + ",\"transfer_to\":\"support\"}"),
                crm.activities("c-7").getFirst());
        assertEquals(List.of("Grüße"), crm.notes("c-7"));
    }

    @Test
    void everyAttemptHasTheSameBytesAndIsSignedAnew() throws Exception {
        var crm = crm();
        crm.fail("/webhooks/call", 503, 2);
        var call = webhooks(crm.url()).call(() -> party("AJ_1", null));
        call.started();
        call.intent("x");
        eventually("both arrive", () -> crm.events().size() == 2);

        assertEquals(List.of(503, 503, 204, 204), statuses(crm));
        var attempts = crm.requests().subList(0, 3);
        for (var attempt : attempts) {
            assertArrayEquals(attempts.getFirst().body(), attempt.body());
            assertEquals(attempt.json().getString("id"), attempt.headers().get("webhook-id"));
            assertEquals("application/json", attempt.headers().get("content-type"));
            long at = Long.parseLong(attempt.headers().get("webhook-timestamp"));
            assertTrue(new Hmac(SECRET).verifyStandard(attempt.headers().get("webhook-id"), at,
                    attempt.body(), attempt.headers().get("webhook-signature"), Instant.now()));
            assertTrue(new Hmac(SECRET).verifyBody(
                    attempt.body(), attempt.headers().get("x-signature")));
        }
        assertEquals("/webhooks/intent", crm.requests().get(3).path());
    }

    @Test
    void theStatusSaysWhetherItComesAgain() throws Exception {
        var crm = crm();
        Path outbox = folder();
        crm.fail("/webhooks/call", 400, 4);
        crm.fail("/webhooks/intent", 410, 1);
        crm.fail("/webhooks/crm", 429, 1);
        var call = webhooks(outbox, crm.url()).call(() -> party("AJ_1", null));
        call.started();
        call.intent("x");
        call.note("x");
        eventually("one arrives", () -> crm.events().size() == 1);
        assertEquals(List.of(400, 400, 400, 400, 410, 429, 204), statuses(crm));
        assertEquals(2, names(outbox.resolve("failed")).size());
        eventually("only the call's file stays", () -> names(outbox).size() == 1);
    }

    @Test
    void whatIsLeftIsSentFirstWithItsOldIdAndANewTimestamp() throws Exception {
        Path outbox = folder();
        var before = webhooks(outbox, "http://127.0.0.1:1");
        for (int i = 0; i < 3; i++) {
            String id = "AJ_" + i;
            var call = before.call(() -> party(id, null));
            call.started();
            call.contact("c-1");
            call.note("a refund");
            call.ended(end("caller_hung_up", 1_000));
        }
        before.close(Duration.ZERO);
        List<String> files = names(outbox);
        assertEquals(15, files.size());
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-1\"}");
        webhooks(outbox, crm.url());
        eventually("all arrive", () -> crm.requests().size() == 15);
        for (int i = 0; i < 3; i++) {
            String id = "AJ_" + i;
            assertEquals(List.of("call.started", "crm.updated", "call.ended"),
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

    /// The files were written by the version before this one. In the first of its two calls the
    /// process died; of the second one only the caller was still on the line.
    @Test
    void whatAnOlderVersionHasLeftIsDeliveredAndItsCallIsEnded() throws Exception {
        Path outbox = folder();
        for (String file : names(Path.of("trials", "outbox-before"))) {
            Files.copy(Path.of("trials", "outbox-before", file), outbox.resolve(file));
        }
        Instant seen = Instant.parse("2026-11-26T06:13:44.472Z");
        Files.setLastModifiedTime(outbox.resolve("000000000001.call"), FileTime.from(seen));
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-1\"}");
        var webhooks = webhooks(outbox, crm.url());
        assertEquals(List.of(
                new Party("AJ_before", "call-before", "RM_before", "+15550001111", null, null,
                        "SCL_before"),
                new Party("AJ_over", "call-over", "RM_over", null, null, null, null)),
                webhooks.orphans.stream().map(Webhooks.Call::party).toList());
        var hungUp = new CompletableFuture<Void>();
        webhooks.orphans.forEach(orphan -> orphan.died(hungUp));
        eventually("all arrive", () -> crm.events().size() == 6
                && !crm.activities("c-1").isEmpty() && !crm.notes("c-1").isEmpty());
        assertEquals(List.of("call.started 1", "intent.recorded 2", "crm.updated 3",
                "call.ended 4"), crm.events().stream()
                        .filter(e -> e.getString("call_id").equals("AJ_before"))
                        .map(e -> e.getString("event") + " " + e.getInt("sequence")).toList());
        JsonObject ended = crm.events().stream().filter(e -> e.getString("event")
                .equals("call.ended") && e.getInt("sequence") == 4).findFirst().orElseThrow();
        assertEquals("agent_died", ended.getString("reason"));
        assertEquals(2_499, ended.getInt("duration_ms"));
        assertEquals("a refund", ended.getString("intent"));
        assertEquals("c-1", ended.getString("contact_id"));
        assertEquals("SCL_before", ended.getString("sip_call_id"));
        assertEquals("0:02 min, agent died. Wanted: a refund.", ended.getString("summary"));
        eventually("the calls' files stay until the callers are off the line",
                () -> names(outbox).size() == 2);
        hungUp.complete(null);
        eventually("nothing is left", () -> names(outbox).isEmpty());
    }

    @Test
    void aCallOfADeadProcessIsEndedOnce() throws Exception {
        var crm = crm();
        Path outbox = folder();
        var dying = webhooks(outbox, crm.url());
        var call = dying.call(() -> party("AJ_1", "+15550001111"));
        call.started();
        call.contact("c-1");
        call.intent("a refund");
        var onTheLine = dying.call(() -> party("AJ_2", null));
        onTheLine.started();
        var hungUp = new CompletableFuture<Void>();
        Instant now = Instant.now();
        onTheLine.ended(new End(
                "silence", null, "agent", now, now, now, false, null, null, hungUp));
        dying.call(() -> party("AJ_3", null)).contact("c-3");   // never started
        eventually("delivered", () -> crm.events().size() == 4 && names(outbox).size() == 2);

        // The lock of a dead process is nobody's. This process lives, so its files are copied.
        Path copy = folder();
        for (String name : names(outbox)) {
            Files.copy(outbox.resolve(name), copy.resolve(name));
        }
        Files.writeString(copy.resolve("000000000009.call"), "{}");
        var next = webhooks(copy, crm.url());
        assertEquals(List.of("AJ_1", "AJ_2"),
                next.orphans.stream().map(orphan -> orphan.party().call()).toList());
        next.orphans.forEach(orphan -> orphan.died(CompletableFuture.completedFuture(null)));
        eventually("its end", () -> crm.events().size() == 5);
        JsonObject ended = crm.events().getLast();
        assertEquals("agent_died", ended.getString("reason"));
        assertEquals(3, ended.getInt("sequence"));
        assertEquals("+15550001111", ended.getString("phone"));
        eventually("nothing is left", () -> names(copy).isEmpty());
        assertEquals(List.of("000000000009.call"), names(copy.resolve("failed")).stream()
                .filter(name -> name.endsWith(".call")).toList());
        next.close(SOON);
        assertEquals(List.of(), webhooks(copy, crm.url()).orphans);
    }

    @Test
    void theCrmMayAskForATimeAndIsBelievedWithinReason() throws Exception {
        record Case(String header, long least, long most) {}
        for (Case each : List.of(new Case("2", 2, 2), new Case("soon", 0, 0), new Case("", 0, 0),
                new Case("-5", 0, 0), new Case("100000", 60, 60),
                new Case("in 3 s, as a date", 1, 3))) {
            String value = !each.header.endsWith("date") ? each.header
                    : DateTimeFormatter.RFC_1123_DATE_TIME.format(
                            ZonedDateTime.now(ZoneOffset.UTC).plusSeconds(3));
            long seconds = Webhooks.retryAfter(java.net.http.HttpHeaders.of(
                    Map.of("Retry-After", List.of(value)), (_, _) -> true)).toSeconds();
            assertTrue(seconds >= each.least && seconds <= each.most, value + ": " + seconds);
        }
        for (int status : new int[] {503, 403}) {
            var at = new ConcurrentLinkedQueue<Long>();
            String url = server(exchange -> {
                exchange.getRequestBody().readAllBytes();
                at.add(System.nanoTime());
                exchange.getResponseHeaders().add("Retry-After", "2");
                exchange.sendResponseHeaders(at.size() == 1 ? status : 204, -1);
                exchange.close();
            });
            webhooks(url).call(() -> party("AJ_1", null)).started();
            eventually("the second attempt", () -> at.size() == 2);
            long ms = (at.poll() - at.poll()) / -1_000_000;
            assertTrue(ms >= 1_900, status + ": " + ms + " ms");
        }
    }

    @Test
    void aCrmThatDripsHangsOrResetsHoldsNothingForLong() throws Exception {
        var connections = new ConcurrentHashMap<String, AtomicInteger>();
        for (String how : List.of("drip", "hang", "reset")) {       // side by side
            var server = opened(new ServerSocket(0, 50, InetAddress.getLoopbackAddress()));
            var count = connections.computeIfAbsent(how, _ -> new AtomicInteger());
            Thread.ofVirtual().start(() -> {
                try {
                    while (true) {
                        Socket socket = server.accept();
                        count.incrementAndGet();
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
                    .call(() -> party("AJ_1", null)).started();
        }
        for (var each : connections.entrySet()) {
            eventually(each.getKey() + ": a second attempt", 8, () -> each.getValue().get() >= 2);
        }
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
        var call = webhooks(url + "/crm").call(() -> party("AJ_1", null));
        call.started();
        call.intent("x");
        eventually("the answer is not read to its end", () -> paths.contains("hung up"));
        assertEquals(Stream.concat(Collections.nCopies(4, "/crm/webhooks/call").stream(),
                Stream.of("/crm/webhooks/intent", "hung up")).toList(), List.copyOf(paths));
    }

    // Tools.

    private Tools tools(DemoCrm crm, String contact) throws Exception {
        var webhooks = webhooks(crm.url());
        var tools = new Tools(webhooks, webhooks.call(() -> party("AJ_1", null)), Set.of(),
                    _ -> "no");
        if (contact != null) {
            crm.contact("+15550001111", contact);
            tools.callerIs(tools.find("+15550001111", SOON).get().orElseThrow());
        }
        return tools;
    }

    private static JsonObject answer(Tools tools, String name, String arguments) throws Exception {
        return json(tools.call(name, arguments).get(6, TimeUnit.SECONDS));
    }

    @Test
    void everyToolHasAStrictSchema() throws Exception {
        var names = new ArrayList<String>();
        for (String schema : tools(crm(), null).schemas()) {
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
        var tools = new Tools(webhooks, webhooks.call(() -> party("AJ_1", null)),
                Set.of("sales", "support"), name -> begun.add(name) ? null : "no");
        String schema = tools.schemas().getLast();
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
                "{\"note\": \"intent\"}"); // also the name of a field
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
            var tools = new Tools(webhooks, webhooks.call(() -> party("AJ_1", null)), Set.of(),
                    _ -> "no");
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
            var events = webhooks.call(() -> party("AJ_" + own, own));
            var tools = new Tools(webhooks, events, Set.of(), _ -> "no");
            assertTrue(answer(tools, "lookup_crm", "{\"phone\":\"+15550002222\"}")
                    .getBoolean("found"));
            assertEquals(own == null, // whose number is withheld has said who they are
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

    // Whole calls.

    /// Alone and so before all others, as in the program: Java is slow at what it does for the
    /// first time, and the other tests are not about that.
    @Test
    @Tag(Runner.ALONE)
    void theRehearsalIsAWholeCall() throws Exception {
        var rehearsal = opened(new Rehearsal("{\"results\":[]}"));
        Path outbox = folder();
        var agent = new Agent(settings(Map.of("OUTBOX_DIR", outbox.toString()))
                .at(rehearsal.url()));
        var over = CompletableFuture.runAsync(() -> agent.takeCall(rehearsal));
        over.get(SOON.toSeconds(), TimeUnit.SECONDS);
        agent.close(SOON);
        assertEquals(List.of(), names(outbox.resolve("rehearsal")), "its events were not taken");
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
        afterwards(() -> agent.close(Duration.ZERO));
        take(line, agent::takeCall);
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

        // The greeting has come. As long as the caller cannot hear, the agent neither speaks to
        // them nor listens to them.
        eventually("the whole greeting", () -> session.spokenMs(itemSpoken(session)) >= 300);
        assertEquals(0, line.heardMs.get());
        assertFalse(line.ear.isDone());
        line.mailbox.post(new Event.CallerHears());
        eventually("it is heard from its beginning", () -> line.heardMs.get() == 300);
        assertNull(event(crm, "call.started").get("contact_id").getValueType()
                == jakarta.json.JsonValue.ValueType.NULL ? null : "contact_id is known too early");
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
    void aSlowCrmDoesNotLetThePhoneRingOn() throws Exception {
        var crm = crm();
        crm.delay("/contacts/search", 60_000);
        var model = model(new Say("Hello.", 200));
        var line = new TestLine();      // its clock stands still: the session picks up by itself
        call(line, crm, model);
        long asked = System.nanoTime();
        assertTrue(line.pickedUp.get(SOON.toSeconds(), TimeUnit.SECONDS) - asked > 1_400_000_000L);
        assertEquals("system: # The caller\n" + Agent.CRM_AWAY + "\n", told(session(model)).get(2));
    }

    @Test
    void oneCallsTroubleIsNotAnothers() throws Exception {
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-1\",\"name\":\"" + "x".repeat(3_000_000) + "\"}");
        var model = model(new Say("Hello.", 200));
        var agent = new Agent(settings(Map.of("CRM_URL", crm.url(), "WEBHOOK_SECRET", SECRET,
                "OPENAI_BASE_URL", model.baseUrl(), "OUTBOX_DIR", folder().toString())));
        afterwards(() -> agent.close(Duration.ZERO));
        var failing = new TestLine();
        take(failing, agent::takeCall);
        eventually("the greeting", () -> failing.heardMs.get() >= 200);
        var other = new TestLine();
        other.number = "+15550009999";
        take(other, agent::takeCall);
        eventually("the greeting", () -> other.heardMs.get() >= 200);
        failing.mailbox.post(new Event.Posted("nobody knows what this is"));
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
    }

    @Test
    void aTransferIsReportedWithWhatBecameOfIt() throws Exception {
        record Case(Event.Refusal why, Object code, String told) {}
        String failed = "system: " + Agent.TRANSFER_FAILED, to = "sales";
        for (Case each : List.of(
                new Case(new Event.Refusal(429, 486, "Busy Here"), 486,
                        failed.formatted(to, " (SIP 486)")),
                new Case(new Event.Refusal(500, 0, "no"), null, failed.formatted(to, "")),
                new Case(new Event.Refusal(408, 0, "no"), "unknown",
                        "system: " + Agent.TRANSFER_UNKNOWN.formatted(to)))) {
            var crm = crm();
            var model = transferModel();
            transferring(crm, model).mailbox.post(new Event.TransferFailed(each.why));
            var session = session(model);
            eventually("it is told", () -> told(session).contains(each.told));
            if (!"unknown".equals(each.code)) {
                JsonObject event = event(crm, "call.transfer_failed");
                assertEquals(to, event.getString("destination"));
                assertEquals(each.code, event.isNull("sip_code") ? null : event.getInt("sip_code"));
                assertEquals(each.why.status(), event.getString("sip_status"));
            }
        }
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-1\"}");
        var line = transferring(crm, transferModel());
        line.mailbox.post(new Event.Transferred());
        line.mailbox.post(new Event.CallerLeft("CLIENT_INITIATED"));
        assertEquals(to, event(crm, "call.transferred").getString("destination"));
        assertEquals("transferred", event(crm, "call.ended").getString("reason"));
        eventually("it is filed", () -> !crm.activities("c-1").isEmpty());
        assertEquals(to, crm.activities("c-1").getFirst().getString("transfer_to"));
    }

    private DemoModel transferModel() throws IOException {
        return model(new Say("Hello.", 100),
                new Tool("transfer_call", "{\"destination\":\"sales\"}"),
                new Say("I am putting you through.", 100));
    }

    /// A call in which the phone was just sent to sales.
    private TestLine transferring(DemoCrm crm, DemoModel model) throws Exception {
        var line = greeted(crm, model);
        line.say(600);
        eventually("it is said", () -> line.heardMs.get() >= 200 && line.listening());
        line.pass(Duration.ofMillis(300));
        assertEquals(List.of("tel:+15550001111"), List.copyOf(line.transfers));
        return line;
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

    @Test
    void theModelIsToldWhoCallsAndHowToBegin() throws Exception {
        record Case(String number, String metadata, String caller, String greeting) {}
        String record = Agent.RECORD.formatted("{\"name\":\"%s\"}");
        String grace = ",\"contact\":{\"name\":\"Grace\",\"id\":\"c-2\"}}";
        for (Case each : List.of(
                new Case("+15550001111", "", record.formatted("Ada"), Agent.GREETING),
                new Case("+15550001111", "{\"x\":1" + grace, record.formatted("Ada"),
                        Agent.GREETING),
                new Case("+15550009999", "", Agent.UNKNOWN, Agent.GREETING),
                new Case("+15550009999", "{\"x\":1" + grace, record.formatted("Grace"),
                        Agent.GREETING),
                new Case(null, "{\"contact\":\"Grace\"}", Agent.NO_NUMBER, Agent.GREETING),
                new Case(null, "{\"phone_number\":\"+15550002222\"" + grace,
                        record.formatted("Grace"), Agent.GREETING_CALLED))) {
            var crm = crm();
            crm.contact("+15550001111", "{\"id\":\"c-1\",\"name\":\"Ada\"}");
            var line = new TestLine();
            line.number = each.number;
            line.metadata = each.metadata;
            var model = model(new Say("Hello.", 100));
            call(line, crm, model);
            eventually("the greeting is asked for", () -> !model.sessions().isEmpty()
                    && told(model.sessions().getFirst()).contains("respond"));
            assertEquals("system: " + Agent.CALLER.formatted(each.caller),
                    told(session(model)).get(2));
            assertEquals(Agent.INSTRUCTIONS + "\n" + each.greeting, session(model).received().get(3)
                    .getJsonObject("response").getString("instructions"));
        }
    }

    @Test
    void whoIsSilentIsAskedAndThenSaidGoodbyeTo() throws Exception {
        var crm = crm();
        var model = model(new Say("Hello.", 100), new Say("Are you there?", 100),
                new Say("Goodbye.", 60_000));
        var line = greeted(crm, model);
        var session = session(model);
        for (String told : List.of(Agent.SILENT, Agent.STILL_SILENT)) {
            eventually("the agent listens", line::listening);
            line.pass(Duration.ofMillis(14_999));
            assertTrue(line.listening(), "too early");
            line.pass(Duration.ofMillis(1));
            assertFalse(line.listening(), "the model has something to say");
            eventually("it is told", () -> told(session).contains("system: " + told));
        }
        eventually("the goodbye", () -> line.heardMs.get() > 200);
        line.pass(Duration.ofMillis(7_999));
        assertFalse(line.hungUp);
        line.pass(Duration.ofMillis(1));
        assertEquals("silence", event(crm, "call.ended").getString("reason"));
        assertTrue(line.hungUp);
    }

    /// A call in which the caller was just greeted, with a greeting of 100 ms.
    private TestLine greeted(DemoCrm crm, DemoModel model) throws Exception {
        var line = new TestLine();
        call(line, crm, model);
        eventually("the greeting", () -> line.heardMs.get() >= 100 && line.listening());
        return line;
    }

    @Test
    void keysAreToldToTheModelAsTheCallersWords() throws Exception {
        var model = model(new Say("Hello.", 100), new Say("I see.", 100));
        var line = greeted(crm(), model);
        line.mailbox.post(new Event.KeyPressed("1"));
        line.mailbox.post(new Event.KeyPressed("#"));
        line.pass(Duration.ofMillis(1_500));
        var session = session(model);
        eventually("it is told",
                () -> told(session).contains("user: " + Agent.KEYS.formatted("1 #")));
    }
}
