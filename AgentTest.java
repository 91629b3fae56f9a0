import module java.base;
import com.sun.net.httpserver.HttpExchange;
import demo.DemoCrm;
import demo.DemoModel.Say;
import demo.DemoModel.Together;
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
import voice.Line;
import voice.Numbers;
import voice.Party;
import voice.Usage;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
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
        // The keys of RFC 4231 are bytes and not texts, so Hmac is tried below its constructor.
        for (Vector v : List.of(
                new Vector(times(20, 0x0b), utf8("Hi There"),
                        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
                new Vector(utf8("Jefe"), utf8("what do ya want for nothing?"),
                        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
                new Vector(times(20, 0xaa), times(50, 0xdd),
                        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
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
            byte[] body = utf8(v.body);
            Instant then = Instant.ofEpochSecond(v.at);
            assertEquals(v.signature, hmac.signStandard(v.id, v.at, body));
            for (int seconds : new int[] {-301, -300, 0, 300, 301}) {
                assertEquals(Math.abs(seconds) <= 300, hmac.verifyStandard(v.id, v.at, body,
                        v.signature, then.plusSeconds(seconds)));
            }
            for (String other : Arrays.asList(null, "", "v1,AAAA", v.signature.substring(3),
                    v.signature.replace("v1", "v2"), v.signature.replace("v1", "v1a"),
                    "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=")) {
                assertFalse(hmac.verifyStandard(v.id, v.at, body, other, then), other);
                assertTrue(hmac.verifyStandard(
                        v.id, v.at, body, other + " " + v.signature + " v2,A", then));
            }
            assertFalse(hmac.verifyStandard(v.id, v.at, utf8(v.body + " "), v.signature, then));
            assertFalse(hmac.verifyStandard(v.id + "x", v.at, body, v.signature, then));
            for (long at : new long[] {v.at + 1, Long.MIN_VALUE, Long.MAX_VALUE}) {
                assertFalse(hmac.verifyStandard(v.id, at, body, v.signature, then));
            }
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
        // One HMAC is computed, however many signatures there are.
        assertTimeoutPreemptively(SOON, () -> assertFalse(hmac.verifyStandard("id", 0,
                new byte[1_000_000], "v1,AAAA ".repeat(200_000), Instant.EPOCH)));
        for (String unusable : List.of("", "whsec_", "whsec_not base64")) {
            assertThrows(IllegalArgumentException.class, () -> new Hmac(unusable), unusable);
        }
    }

    // Webhooks: the contract. trials/OutboxTest has what survives a crash.

    private static final CompletableFuture<Void> HUNG_UP = CompletableFuture.completedFuture(null);

    private Webhooks webhooks(String url) throws Exception {
        return webhooks(folder(), url);
    }

    private Webhooks webhooks(Path outbox, String url) throws Exception {
        return webhooks(outbox, url, SECRET, false);
    }

    private Webhooks webhooks(Path outbox, String url, String secrets, boolean transcripts)
            throws Exception {
        var webhooks = new Webhooks(outbox, url, "crm-key", secrets, transcripts);
        afterwards(() -> webhooks.close(Duration.ZERO));
        return webhooks;
    }

    private interface Answer {
        int status(HttpExchange request, JsonObject body) throws Exception;
    }

    /// A CRM that answers with this status and no body.
    private String answering(Answer answer) throws IOException {
        return server(exchange -> {
            try (exchange) {
                byte[] body = exchange.getRequestBody().readAllBytes();
                exchange.sendResponseHeaders(answer.status(exchange,
                        json(new String(body, StandardCharsets.UTF_8))), -1);
            } catch (Exception e) {
                throw new IOException(e);
            }
        });
    }

    private static Party party(String call, String phone) {
        return new Party(call, "room-1", "RM_1", phone, null, "inbound", null, null);
    }

    private static End end(String reason) {
        Instant now = Instant.now();
        return new End(reason, null, "agent", now, now, now, null, null, "x", null, null, HUNG_UP);
    }

    /// JSON is easier to read with ' than with \".
    private static String q(String json) {
        return json.replace('\'', '"');
    }

    @Test
    void eventsHaveTheirDocumentedJson() throws Exception {
        var crm = crm();
        crm.contact("+15550001111", q("{'id':'c-7'}"));
        var who = new AtomicReference<>(new Party("AJ_1", "room-1", "RM_1", "+15550001111",
                "+15550100", "inbound", "a@b", "SCL_1"));
        var call = webhooks(crm.url()).call(who::get);
        call.started();
        call.contact("c-7");
        call.intent("a table");
        call.intent(q("','event':'call.ended\n"));
        who.set(party("AJ_1", null));
        call.note("Grüße");
        call.note("an");
        call.transferFailed("sales", new Event.Refusal(429, 486, "Busy Here"));
        call.transferFailed("sales", new Event.Refusal(500, 0, "no"));
        call.transferred("support");
        Instant started = Instant.parse("2026-11-26T06:11:27.940999Z");
        call.ended(new End("transferred", "it failed", "agent", started, started.plusMillis(1_200),
                started.plusMillis(61_234), 486, "support", "gpt-1", new Usage(1, 2, 3, 4, 5, 6),
                null, HUNG_UP));
        call.ended(end("error"));       // nobody is told twice
        eventually("all come", () -> crm.events().size() == 9 && !crm.activities("c-7").isEmpty());

        String known = ",'room':'room-1','phone':'+15550001111','to':'+15550100','direction':"
                + "'inbound','contact_id':";
        String ids = ",'sip_call_id':'a@b','sip_id':'SCL_1'";
        String withheld = ",'room':'room-1','phone':null,'to':null,'direction':'inbound',"
                + "'contact_id':'c-7','sip_call_id':null,'sip_id':null";
        String wanted = "\\',\\'event\\':\\'call.ended\\n";
        String more = ",'intent':'" + wanted + "','summary':'1:01 min, transferred. Wanted: "
                + "a table; " + wanted + ". Noted: Grüße an'";
        var head = Pattern.compile(q("\\{'id':'evt_[0-9a-f-]{36}','event':'([a-z._]+)',"
                + "'timestamp':'[-0-9T:]{19}\\.[0-9]{3}Z','call_id':'AJ_1','sequence':([0-9])"));
        assertEquals(Stream.of(
                "call.started 1" + known + "null" + ids + "}",
                "intent.recorded 2" + known + "'c-7'" + ids + ",'intent':'a table'}",
                "intent.recorded 3" + known + "'c-7'" + ids + ",'intent':'" + wanted + "'}",
                "crm.updated 4" + withheld + ",'note':'Grüße'}",
                "crm.updated 5" + withheld + ",'note':'an'}",
                "call.transfer_failed 6" + withheld + ",'destination':'sales',"
                        + "'sip_code':486,'sip_status':'Busy Here'}",
                "call.transfer_failed 7" + withheld + ",'destination':'sales',"
                        + "'sip_code':null,'sip_status':'no'}",
                "call.transferred 8" + withheld + ",'destination':'support'}",
                "call.ended 9" + withheld + ",'reason':'transferred','cause':'it failed',"
                        + "'ended_by':'agent','started_at':'2026-11-26T06:11:27.940Z',"
                        + "'answered_at':'2026-11-26T06:11:29.140Z',"
                        + "'ended_at':'2026-11-26T06:12:29.174Z','duration_ms':61234,"
                        + "'talk_ms':60034" + more + ",'sip_code':486,'model':'gpt-1','usage':{"
                        + "'input_text_tokens':1,'input_audio_tokens':2,'cached_text_tokens':3,"
                        + "'cached_audio_tokens':4,'output_text_tokens':5,'output_audio_tokens':6}}"
                        ).map(AgentTest::q).toList(),
                bodies(crm, "/webhooks/").stream()
                        .map(body -> head.matcher(body).replaceFirst("$1 $2")).toList());
        assertEquals(List.of(q("{'type':'call','duration_seconds':61" + more
                + ",'transfer_to':'support'}")), bodies(crm, "/contacts/c-7/activities"));
        assertEquals(List.of("Grüße", "an"), crm.notes("c-7"));
    }

    private static List<String> bodies(DemoCrm crm, String path) {
        return crm.requests().stream().filter(request -> request.path().startsWith(path))
                .map(request -> new String(request.body(), StandardCharsets.UTF_8)).toList();
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
        var times = new ArrayList<Long>();
        for (var attempt : crm.requests().subList(0, 3)) {
            var headers = attempt.headers();
            assertArrayEquals(crm.requests().getFirst().body(), attempt.body());
            assertEquals(attempt.json().getString("id"), headers.get("webhook-id"));
            assertEquals("application/json", headers.get("content-type"));
            assertEquals("livekit-phone-agent/1 1",
                    headers.get("user-agent") + " " + headers.get("x-event-version"));
            assertFalse(headers.containsKey("authorization"));
            times.add(Long.parseLong(headers.get("webhook-timestamp")));
            assertTrue(new Hmac(SECRET).verifyStandard(headers.get("webhook-id"), times.getLast(),
                    attempt.body(), headers.get("webhook-signature"), Instant.now()));
            assertTrue(attempt.verified());     // that is X-Signature
        }
        assertTrue(times.getLast() > times.getFirst(), "1.2 s later, the time is another one");
        assertEquals("/webhooks/intent", crm.requests().get(3).path());
    }

    /// While a receiver changes its secret, it takes what one of the two has signed.
    @Test
    void twoSecretsAtATimeBothSign() throws Exception {
        String old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        var crm = crm();
        webhooks(folder(), crm.url(), SECRET + " , " + old, false)
                .call(() -> party("AJ_1", null)).started();
        eventually("it comes", () -> !crm.events().isEmpty());
        var event = crm.requests().getFirst();
        assertTrue(event.verified(), "X-Signature is that of the new one");
        long at = Long.parseLong(event.headers().get("webhook-timestamp"));
        assertEquals(Stream.of(SECRET, old).map(secret -> new Hmac(secret).signStandard(
                event.json().getString("id"), at, event.body())).toList(),
                List.of(event.headers().get("webhook-signature").split(" ")));
        assertThrows(IllegalArgumentException.class,
                () -> webhooks(folder(), crm.url(), SECRET + ", ,x", false));
    }

    /// Each status has a call of its own. What is tried again is taken the fifth time.
    @Test
    void theStatusSaysWhetherItComesAgainAndNoRedirectIsFollowed() throws Exception {
        var expected = new TreeMap<>(Map.of("410", 1));     // attempts by status
        List.of(200, 201, 202, 204, 206, 299).forEach(s -> expected.put("" + s, 1));
        List.of(407, 408, 425, 429, 500, 502, 503, 504, 599).forEach(s -> expected.put("" + s, 5));
        List.of(300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 409, 411, 413, 415,
                422, 426, 451, 499).forEach(s -> expected.put("" + s, 4));
        var attempts = new ConcurrentHashMap<String, List<Long>>();     // and when they came
        Path outbox = folder();
        var webhooks = webhooks(outbox, answering((request, event) -> {
            assertEquals("/crm/webhooks/call", request.getRequestURI().getPath());
            String status = event.getString("phone");
            var all = attempts.computeIfAbsent(status, _ -> new CopyOnWriteArrayList<>());
            all.add(System.nanoTime());
            request.getResponseHeaders().add("Location", "/elsewhere");
            if (status.matches("403|429|503")) {
                request.getResponseHeaders().add("Retry-After", "1");
            }
            return all.size() == 5 ? 204 : Integer.parseInt(status);
        }) + "/crm");
        expected.keySet().forEach(
                status -> webhooks.call(() -> party("AJ_" + status, status)).started());
        for (String status : List.of("403", "429", "503")) {
            eventually("again", () -> attempts.getOrDefault(status, List.of()).size() > 1);
            long ms = (attempts.get(status).get(1) - attempts.get(status).get(0)) / 1_000_000;
            assertTrue(ms >= 1_000, status + " has asked for a second: " + ms + " ms");
        }
        webhooks.close(SOON);                               // the waits are short now
        assertEquals(expected.size(), names(outbox).size());        // only the calls' files
        assertEquals(expected, attempts.keySet().stream().collect(Collectors.toMap(
                status -> status, status -> attempts.get(status).size())));
        assertEquals(21, names(outbox.resolve("failed")).size());
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
        var crm = anyCrm();
        crm.contact("+15550001111", q("{'id':'c-1'}"));
        var webhooks = webhooks(outbox, crm.url());
        assertEquals(List.of(
                new Party("AJ_before", "call-before", "RM_before", "+15550001111", null, null,
                        "SCL_before", null),
                new Party("AJ_over", "call-over", "RM_over", null, null, null, null, null)),
                webhooks.orphans.stream().map(Webhooks.Call::party).toList());
        var hungUp = new CompletableFuture<Void>();
        webhooks.orphans.forEach(orphan -> orphan.died(hungUp));
        eventually("all arrive", () -> crm.events().size() == 6
                && !crm.activities("c-1").isEmpty() && !crm.notes("c-1").isEmpty());
        assertEquals(List.of("call.started 1", "intent.recorded 2", "crm.updated 3",
                "call.ended 4"), crm.events().stream()
                        .filter(e -> e.getString("call_id").equals("AJ_before"))
                        .map(e -> e.getString("event") + " " + e.getInt("sequence")).toList());
        String summary = ",'intent':'a refund','summary':'0:02 min, agent died. Wanted: a refund.'";
        String ended = q("'sequence':4,'room':'call-before','phone':'+15550001111','to':null,"
                + "'direction':null,'contact_id':'c-1','sip_call_id':'SCL_before','sip_id':null,"
                + "'reason':'agent_died','cause':null,'ended_by':'worker','started_at':"
                + "'2026-11-26T06:13:41.972Z','answered_at':null,'ended_at':"
                + "'2026-11-26T06:13:44.472Z','duration_ms':2500,'talk_ms':null" + summary
                + ",'sip_code':null,'model':null,'usage':null}");
        assertTrue(bodies(crm, "/webhooks/call").stream().anyMatch(e -> e.endsWith(ended)), ended);
        assertEquals(6, crm.requests().stream().filter(DemoCrm.Request::verified).count());
        assertEquals(List.of(q("{'type':'call','duration_seconds':2" + summary
                + ",'transfer_to':null}")), bodies(crm, "/contacts/c-1/activities"));
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
        var who = new Party("AJ_1", "room", "RM_1", "+15550001111", "+1", "outbound", "a@b", "S");
        var call = dying.call(() -> who);
        call.started();
        call.intent("a refund");
        call.contact("c-1");                    // the look-up was slow
        var onTheLine = dying.call(() -> party("AJ_2", null));
        onTheLine.started();
        Instant now = Instant.now();
        onTheLine.ended(new End("room_lost", "away", "room", now, null, now.plusMillis(3_723_999),
                null, null, null, null, null, new CompletableFuture<>()));
        dying.call(() -> party("AJ_3", null)).contact("c-3");   // it never started
        dying.close(SOON);
        assertEquals(4, crm.events().size());

        // Another process dies when the end of its call is on disk, but not yet in the call's file.
        var dies = webhooks(outbox, "http://127.0.0.1:1");
        var ending = dies.call(() -> party("AJ_4", null));
        ending.started();
        Path file = outbox.resolve("000000000005.call");
        byte[] before = Files.readAllBytes(file);
        ending.ended(end("too_long"));
        Files.write(file, before);
        dies.close(Duration.ZERO);
        Files.writeString(outbox.resolve("000000000099.call"), "{}");
        var next = webhooks(outbox, crm.url());
        assertEquals(List.of(who, onTheLine.party(), ending.party()),
                next.orphans.stream().map(Webhooks.Call::party).toList());
        next.orphans.forEach(orphan -> orphan.died(HUNG_UP));
        next.close(SOON);
        String nobody = ",'room':'room-1','phone':null,'to':null,'direction':'inbound',"
                + "'contact_id':null,'sip_call_id':null,'sip_id':null,'reason':";
        assertEquals(Stream.of(
                ":'AJ_1','sequence':3,'room':'room','phone':'+15550001111','to':'+1','direction':"
                        + "'outbound','contact_id':'c-1','sip_call_id':'a@b','sip_id':'S',"
                        + "'reason':'agent_died','cause':null,'ended_by':'worker'",
                ":'AJ_2','sequence':2" + nobody + "'room_lost','cause':'away','ended_by':'room'",
                ":'AJ_4','sequence':2" + nobody + "'too_long','cause':null,'ended_by':'agent'"
                ).map(AgentTest::q).toList(),
                bodies(crm, "/webhooks/call").stream().filter(body -> body.contains("reason"))
                        .map(body -> body.replaceAll(q(".*'call_id'|,'started_at'.*"), ""))
                        .sorted().toList());
        assertEquals("62:03 min, room lost.", crm.events().stream()
                .filter(event -> event.getString("call_id").equals("AJ_2")).toList().getLast()
                .getString("summary"));
        assertTrue(names(outbox.resolve("failed")).contains("000000000099.call"));
        assertEquals(List.of(), names(outbox));
    }

    /// The id is the CRM's own, and a part of the path to which the note goes.
    @Test
    void aContactsIdNeverLeadsToAnotherPath() throws Exception {
        var paths = new LinkedHashMap<String, String>();       // by the id, as JSON
        List.of("'..'", "'.'", "' .. '", "''", "' '", "null", "true", "{}", "[1]")
                .forEach(id -> paths.put(id, "none"));
        paths.putAll(Map.of("'/'", "%2F", "'a/../b'", "a%2F..%2Fb", "'...'", "...", "'\\\\'", "%5C",
                "'%2e%2E'", "%252e%252E", "'c/7 ü'", "c%2F7%20%C3%BC", "' c-1\\n'", "c-1",
                "'a+?#;:@'", "a%2B%3F%23%3B%3A%40", "17", "17", "1e400", "1E%2B400"));
        paths.put("'" + "x".repeat(200) + "'", "x".repeat(200));
        paths.put("'" + "x".repeat(201) + "'", "none");     // cut, it would be somebody else's
        var filed = new ConcurrentHashMap<String, String>();
        var webhooks = new Webhooks(folder(), answering((request, body) -> {
            if (body.containsKey("text")) {
                assertNull(request.getRequestHeaders().get("Authorization"));   // no key, no header
                filed.put(body.getString("text"), request.getRequestURI().getRawPath());
            }
            return 204;
        }), " ", SECRET, false);
        paths.forEach((id, path) -> {
            var call = webhooks.call(() -> party("AJ_" + id, null));
            call.contact(Tools.Contact.of(json(q("{'id':" + id + "}"))).id());
            assertEquals(!path.equals("none"), call.note(id), id);
        });
        webhooks.close(SOON);
        paths.values().removeIf("none"::equals);
        paths.replaceAll((_, path) -> "/contacts/" + path + "/notes");
        assertEquals(paths, filed);
    }

    // Tools.

    private static final String REFUSED = "{'found':false,'message':'Only the record of the number "
            + "that the caller calls from can be looked up. What they say about themselves belongs "
            + "into a note.'}";
    private static final String DOWN = q("{'error':'The CRM does not answer. Go on without it.'}");

    private Tools tools(String url) throws Exception {
        return tools(webhooks(url), null, false);
    }

    private static Tools tools(Webhooks webhooks, String phone, boolean anybody) {
        return new Tools(webhooks, webhooks.call(() -> party("AJ_1", phone)), Set.of(), _ -> "no",
                _ -> "no", anybody, new Numbers(""));
    }

    private static String answer(Tools tools, String name, String arguments) throws Exception {
        return tools.call(name, q(arguments)).get(SOON.toSeconds(), TimeUnit.SECONDS);
    }

    @Test
    void everyToolHasAStrictSchema() throws Exception {
        String strict = q(".*'name':'(\\w+)'.*'additionalProperties':false,'required':\\['?(\\w*)"
                + "'?],'properties':\\{('(\\w+)':\\{'type':'string','description':'[^']+'})?}}}");
        assertEquals(List.of("record_intent intent intent", "lookup_crm phone phone",
                "update_crm_note note note", "transfer_call destination destination", "end_call  "),
                tools("http://localhost").schemas().stream()
                        .map(schema -> schema.replaceAll(strict, "$1 $2 $4")).toList());
        for (boolean anybody : new boolean[] {true, false}) {
            assertEquals(anybody, tools(webhooks("http://localhost"), null, anybody).schemas()
                    .get(1).contains("Fetch a customer by phone number."));
        }
    }

    @Test
    void theModelCanNameADestinationButNeverANumber() throws Exception {
        var begun = new ArrayList<String>();
        var webhooks = webhooks("http://localhost");
        var tools = new Tools(webhooks, webhooks.call(() -> party("AJ_1", null)),
                Set.of("support", "sales"), name -> begun.add(name) && begun.size() == 1 ? null
                        : "One is under way.", _ -> null, false, new Numbers(""));
        String schema = tools.schemas().get(3);
        assertTrue(json(schema).toString().contains(q("'enum':['sales','support']")));
        String begins = answer(tools, "transfer_call", "{'destination':'Sales '}");
        assertTrue(begins.startsWith(
                q("{'transferring':true,'message':'If you have not yet told the caller")));
        assertFalse(Tools.needsWords("transfer_call", begins));     // it may have told them
        String refused = answer(tools, "transfer_call", "{'destination':'support'}");
        assertEquals(q("{'transferring':false,'message':'One is under way.'}"), refused);
        assertTrue(Tools.needsWords("transfer_call", refused));
        for (String other : List.of("billing", "+15550001111", "tel:+15550001111")) {
            assertEquals(q("{'transferring':false,'message':'There is no such destination. "
                    + "There are: sales, support.'}"),
                    answer(tools, "transfer_call", "{'destination':'" + other + "'}"));
        }
        assertEquals(List.of("sales", "support"), begun);
    }

    @Test
    void whatOnlyReportsDoesNotWaitForTheCrm() throws Exception {
        var mayAnswer = new CountDownLatch(1);
        var seen = new ConcurrentLinkedQueue<String>();
        var tools = tools(answering((request, event) -> {
            mayAnswer.await();
            seen.add(request.getRequestURI() + " " + event.get("intent") + event.get("note"));
            return 204;
        }));
        assertEquals(q("{'recorded':true}"),
                answer(tools, "record_intent", "{'intent': ' a refund '}"));
        assertEquals(q("{'noted':false,'message':'There is no record of this caller yet: the note "
                + "was reported, but filed under no name.'}"),
                answer(tools, "update_crm_note", "{'note':'intent'}"));
        mayAnswer.countDown();
        eventually("both events", () -> seen.size() == 2);
        assertEquals(q("[/webhooks/intent 'a refund'null, /webhooks/crm null'intent']"), "" + seen);
    }

    @Test
    void notesAreFiledUnderTheContactAndRetried() throws Exception {
        var crm = crm();
        crm.contact("+15550001111", q("{'id':'c/7 ü'}"));
        crm.fail("/contacts/c", 500, 1);
        var webhooks = webhooks(crm.url());
        var tools = tools(webhooks, null, false);
        tools.callerIs(tools.find("+15550001111").get().orElseThrow());
        assertEquals(q("{'noted':true}"), answer(tools, "update_crm_note", "{'note':'x'}"));
        webhooks.close(SOON);
        var filed = crm.requests().stream().filter(r -> r.path().endsWith("/notes")).toList();
        assertEquals(List.of(500, 201), filed.stream().map(DemoCrm.Request::status).toList());
        for (var request : filed) {
            var headers = request.headers();
            assertEquals("/contacts/c%2F7%20%C3%BC/notes", request.path());
            assertEquals("Bearer crm-key", headers.get("authorization"));
            assertTrue(headers.get("idempotency-key").matches("req_[0-9a-f-]{36}"));
            assertFalse(headers.containsKey("x-signature")
                    || headers.containsKey("x-event-version"));
            assertEquals("livekit-phone-agent/1", headers.get("user-agent"));
            assertEquals(q("{'text':'x','source':'ai-agent'}"),
                    new String(request.body(), StandardCharsets.UTF_8));
        }
        assertEquals(List.of(1, 2), filed.stream().map(DemoCrm.Request::attempt).toList());
        assertEquals("c/7 ü", crm.events().getFirst().getString("contact_id"));
    }

    @Test
    void lookUpReadsWhatCrmsAnswer() throws Exception {
        record Case(int status, String answer, String expected) {}
        var next = new AtomicReference<Case>();
        var asked = new ConcurrentLinkedQueue<String>();
        String url = server(exchange -> {
            var headers = exchange.getRequestHeaders();
            asked.add(exchange.getRequestMethod() + " " + exchange.getRequestURI()
                    + headers.get("Authorization") + headers.get("Content-Type")
                    + headers.get("Idempotency-Key")
                    + new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8));
            byte[] bytes = utf8(next.get().answer);
            exchange.getResponseHeaders().add("Location", "/contacts/search");
            exchange.sendResponseHeaders(next.get().status, bytes.length == 0 ? -1 : bytes.length);
            exchange.getResponseBody().write(bytes);
            exchange.close();
        });
        String a200 = "a".repeat(200), empty = "{'results':[]}", most = " ".repeat(999_986) + empty;
        String nobody = "{'found':false,'message':'The CRM has no contact with this number.'}";
        var cases = new ArrayList<>(List.of(
                new Case(200, "{'results':[{'id':7,'name':'Ada','open_tickets':2,'x':{}}]}",
                        "{'name':'Ada','open_tickets':'2','found':true}"),
                new Case(200, "{'results':[{'company':' B C ','email':'a@b','name':' '},4]}",
                        "{'company':'B C','found':true}"),
                new Case(200, "{'results':[{'id':'x','name':null,'company':{'a':1}}]}",
                        "{'found':true}"),
                new Case(200, "{'results':[{'name':'" + a200 + "','company':'" + a200 + "b'}]}",
                        "{'name':'" + a200 + "','company':'" + a200 + "','found':true}"),
                new Case(200, "\uFEFF" + empty, nobody), new Case(200, most, nobody)));
        for (String odd : List.of(most + " ", "{'results':[3]}", "{'results':{}}", "{}", "[]",
                "<html>", "", "[".repeat(100_000), "{'results':" + "[".repeat(5_000),
                "{'results':[{'id':1e99999999999999}]}")) {
            cases.add(new Case(200, odd, DOWN));
        }
        cases.addAll(List.of(new Case(204, "", nobody), new Case(202, "", DOWN)));
        List.of(201, 206, 299).forEach(status -> cases.add(new Case(status, empty, nobody)));
        List.of(301, 307, 400, 401, 404, 429, 500, 503)
                .forEach(status -> cases.add(new Case(status, empty, DOWN)));
        var webhooks = webhooks(url);
        for (Case each : cases) {
            next.set(new Case(each.status, q(each.answer), null));
            assertEquals(q(each.expected), answer(tools(webhooks, "+15550001111", false),
                    "lookup_crm", "{'phone':'1 (555) 000-1111'}"));
        }
        assertEquals(DOWN, answer(tools(webhooks("http://127.0.0.1:1"), null, true), "lookup_crm",
                "{'phone':'+49123'}"));
        assertEquals(cases.size(), asked.size());   // it asks once, and follows nothing
        assertEquals(Set.of("POST /contacts/search[Bearer crm-key][application/json]null"
                + q("{'filter':{'phone':'+15550001111'}}")), Set.copyOf(asked));
    }

    /// The network says who the caller is, and nobody else does.
    @Test
    void aCallerGetsTheirOwnRecordAndNoOther() throws Exception {
        record Case(String own, boolean anybody, String number, boolean found, String filedUnder) {}
        var crm = crm();
        crm.contact("+15550002222", q("{'id':'c-2','name':'Grace','email':'g@example.com'}"));
        int asked = 0;
        for (Case each : List.of(
                new Case("+15550002222", false, "1 (555) 000-2222", true, "'c-2'"),
                new Case("+15550001111", false, "+15550002222", false, "null"),
                new Case("+15550001111", false, "+15550009999", false, "null"),     // is unknown
                new Case(null, false, "+15550002222", false, "null"),
                new Case("+15550001111", true, "+15550002222", true, "null"),
                new Case(null, true, "+15550002222", true, "null"))) {
            var webhooks = webhooks(crm.url());
            var tools = tools(webhooks, each.own, each.anybody);
            assertEquals(q(each.found ? "{'name':'Grace','found':true}" : REFUSED),
                    answer(tools, "lookup_crm", "{'phone':'" + each.number + "'}"));
            answer(tools, "update_crm_note", "{'note':'x'}");
            webhooks.close(SOON);
            assertEquals(q(each.filedUnder), "" + crm.events().getLast().get("contact_id"));
            asked += each.found ? 1 : 0;
        }
        assertEquals(asked, bodies(crm, "/contacts/search").size());    // else it is not asked
    }

    /// 50 events and writes to the CRM; a note is both. And three look-ups.
    @Test
    void whatTheModelCausesInACallHasAnEnd() throws Exception {
        var crm = crm();
        crm.contact("+15550002222", q("{'id':'c-2'}"));
        var webhooks = webhooks(crm.url());
        for (String own : Arrays.asList(null, "+15550002222")) {
            var tools = tools(webhooks, own, false);
            for (int i = 1; i <= 4; i++) {
                String answer = answer(tools, "lookup_crm", "{'phone':'+15550002222'}");
                assertEquals(i == 4, answer.contains("That is enough"), answer);
            }
            for (int i = 1; i <= 60; i++) {
                String tool = i == 5 ? "record_intent" : "update_crm_note";
                answer(tools, tool, "{'intent':'x','note':'x'}");
            }
        }
        webhooks.close(SOON);
        assertEquals(25 + 25, bodies(crm, "/webhooks/").size());
        assertEquals(24, crm.notes("c-2").size());
    }

    @Test
    void theModelGetsAnAnswerToWhateverItCalls() throws Exception {
        var crm = crm();
        var tools = tools(crm.url());
        String a2000 = "a".repeat(2_000), noJson = "The arguments are not a JSON object.";
        String missing = "`intent` is missing: it is a text.";
        for (var each : Map.of("", missing, "null", noJson, "[]", noJson, "{", noJson,
                "[".repeat(100_000), noJson, "{'intent':" + "[".repeat(5_000), noJson,
                "{}", missing, "{'intent':3}", missing, "{'intent':' '}", missing,
                "{'intent':'" + a2000 + "a'}", "`intent` is too long: say it in short."
                ).entrySet()) {
            assertEquals(q("{'error':'" + each.getValue() + "'}"),
                    answer(tools, "record_intent", each.getKey()));
        }
        assertEquals(q("{'error':'There is no tool of that name.'}"),
                answer(tools, "format_disk", "{}"));
        for (String odd : List.of("Ada", "12", "1".repeat(16))) {
            assertEquals(q("{'error':'This is not a phone number. Ask for it, with the country "
                    + "code.'}"), answer(tools, "lookup_crm", "{'phone':'" + odd + "'}"));
        }
        assertEquals(q("{'transferring':false,'message':'No destinations are configured. Offer a "
                + "note.'}"), answer(tools, "transfer_call", "{'destination':'sales'}"));
        assertEquals(q("{'ending':false,'message':'no'}"), answer(tools, "end_call", "{}"));
        assertEquals(List.of(), crm.requests());
        assertEquals(q("{'recorded':true}"),
                answer(tools, "record_intent", "{'intent':'" + a2000 + "'}"));
    }

    // Whole calls.

    /// Alone and so before all others, as in the program: Java is slow at what it does for the
    /// first time, and the other tests are not about that.
    @Test
    @Tag(Runner.ALONE)
    void theRehearsalIsAWholeCall() throws Exception {
        var rehearsal = opened(new Rehearsal("{\"results\":[]}"));
        Path outbox = folder();
        var settings = settings(Map.of("OUTBOX_DIR", "" + outbox)).at(rehearsal.url());
        var agent = new Agent(settings);
        CompletableFuture.runAsync(() -> agent.takeCall(rehearsal)).get(60, TimeUnit.SECONDS);
        agent.close(SOON);
        assertEquals(List.of(), names(outbox.resolve("rehearsal")), "its events were not taken");

        var hmac = new Hmac(settings.get("WEBHOOK_SECRET"));    // the demo's CRM asks the agent
        for (String body : List.of("{}", "[]")) {
            boolean same = body.equals("{}");
            assertEquals(same, agent.crm().verifyBody(utf8(body), hmac.signBody(utf8("{}"))));
            assertEquals(same, agent.crm().verifyStandard("id", 1, utf8(body),
                    hmac.signStandard("id", 1, utf8("{}")), Instant.EPOCH));
        }
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
        all.put("OUTBOUND_PREFIXES", "+1");
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
        assertEquals(List.of("session.update", "session.update", "session.update",
                "conversation.item.create", "response.create"),
                received.stream().map(e -> e.getString("type")).toList());
        JsonObject first = received.get(0).getJsonObject("session");
        assertTrue(told(session).get(3).startsWith("system: # The caller"), told(session).get(3));
        assertTrue(told(session).get(3).contains(
                "<record>{\"name\":\"Ada  /record  Lovelace\"}</record>"));
        assertEquals(5, first.getJsonArray("tools").size());
        assertEquals("marin", received.get(1).getJsonObject("session").getJsonObject("audio")
                .getJsonObject("output").getString("voice"));
        JsonObject input = received.get(2).getJsonObject("session").getJsonObject("audio")
                .getJsonObject("input");
        assertEquals("gpt-transcribe", input.getJsonObject("transcription").getString("model"));
        assertEquals(500, input.getJsonObject("turn_detection").getInt("silence_duration_ms"));
        String greeting = received.get(4).getJsonObject("response").getString("instructions");
        assertTrue(greeting.startsWith(Agent.INSTRUCTIONS), greeting);
        assertTrue(greeting.contains("you are an AI assistant"), greeting);

        // The greeting has come. As long as the caller cannot hear, the agent neither speaks to
        // them nor listens to them.
        eventually("the whole greeting", () -> session.spokenMs(itemSpoken(session)) >= 300);
        assertEquals(0, line.heardMs.get());
        assertFalse(line.ear.isDone());
        line.mailbox.post(new Event.CallerHears());
        eventually("it is heard from its beginning", () -> line.heardMs.get() == 300);
        assertTrue(event(crm, "call.started").isNull("contact_id"), "it is known too early");
    }

    @Test
    void aCallIsReportedStepByStep() throws Exception {
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":17,\"name\":\"Ada\"}");
        var model = model(new Say("Hello.", 200),
                new Tool("record_intent", "{\"intent\":\"a refund\"}"), new Say("I see.", 200),
                new Together(new Say("Noted.", 200),
                        new Tool("update_crm_note", "{\"note\":\"Order 5 broke.\"}")),
                new Together(new Say("Goodbye.", 200), new Tool("end_call", "{}")));
        var line = new TestLine();
        call(line, crm, model, Map.of("SEND_TRANSCRIPT", "true"));
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(session(model), 600);
        event(crm, "intent.recorded");
        eventually("the answer", () -> line.heardMs.get() >= 400);
        line.say(session(model), 600);
        event(crm, "crm.updated");
        eventually("the answer", () -> line.heardMs.get() >= 600);
        line.say(session(model), 600);
        eventually("the goodbye", () -> line.heardMs.get() >= 800 && line.listening());
        line.pass(Duration.ofMillis(1_200));
        JsonObject ended = event(crm, "call.ended");
        assertNull(line.over.get(5, TimeUnit.SECONDS));
        assertTrue(line.hungUp);

        assertEquals(List.of("call.started 1", "intent.recorded 2", "crm.updated 3",
                "call.transcript 4", "call.ended 5"), crm.events().stream()
                        .map(e -> e.getString("event") + " " + e.getInt("sequence")).toList());
        JsonObject transcript = event(crm, "call.transcript");
        assertFalse(transcript.getBoolean("truncated"));
        assertEquals(List.of("agent Hello.", "caller (0.6 s of speech)", "tool = record_intent",
                "agent I see.", "caller (0.6 s of speech)", "agent Noted.",
                "tool = update_crm_note", "caller (0.6 s of speech)", "agent Goodbye.",
                "tool = end_call"), transcript.getJsonArray("items")
                        .getValuesAs(JsonObject.class).stream().map(item -> item.getString("role")
                        + " " + item.getString("text", "= " + item.getString("name", "")))
                        .toList());
        assertEquals(List.of("agent_hung_up", "agent", "a refund", "17", "gpt-realtime-2.1-mini"),
                Stream.of("reason", "ended_by", "intent", "contact_id", "model")
                        .map(ended::getString).toList());
        assertTrue(ended.getJsonObject("usage").getInt("output_audio_tokens") >= 4 + 4 + 4 + 4);
        Instant answered = Instant.parse(ended.getString("answered_at"));
        assertEquals(ended.getInt("talk_ms"), Duration.between(answered,
                Instant.parse(ended.getString("ended_at"))).toMillis());
        eventually("the call is filed", () -> crm.activities("17").size() == 1);
        JsonObject activity = crm.activities("17").getFirst();
        assertEquals(Set.of("type", "duration_seconds", "intent", "summary", "transfer_to"),
                activity.keySet());
        assertEquals(ended.getString("summary"), activity.getString("summary"));
        assertTrue(activity.getString("summary").endsWith(
                "agent hung up. Wanted: a refund. Noted: Order 5 broke."), activity.toString());
        var session = session(model);
        assertEquals(2, told(session).stream().filter("respond"::equals).count());  // not again
        assertTrue(session.appendSizes().stream().allMatch(size -> size == 960));
        noMistakes(model);
    }

    @Test
    void aSlowCrmDoesNotLetThePhoneRingOn() throws Exception {
        var crm = crm();
        crm.delay("/contacts/search", 60_000);
        var model = model(new Say("Hello.", 200));
        var line = new TestLine();      // its clock stands still: the session picks up by itself
        long began = System.nanoTime();
        call(line, crm, model);
        assertTrue(line.pickedUp.get(SOON.toSeconds(), TimeUnit.SECONDS) - began > 1_400_000_000L);
        assertEquals("system: # The caller\n" + Agent.CRM_SLOW + "\n", told(session(model)).get(3));
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
        assertEquals(1, bodies(crm, "/contacts/search").size());
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
        line.say(session(model), 600);
        eventually("it is said", () -> line.heardMs.get() >= 200 && line.listening());
        line.pass(Duration.ofMillis(300));
        assertEquals(List.of("tel:+15550001111"), List.copyOf(line.transfers));
        return line;
    }

    @Test
    void aCallThatNeverCameIntoItsRoomIsReportedIfItWasOurs() throws Exception {
        var crm = crm();
        for (IOException why : List.of(new Line.NotOurs("not ours"), new IOException("no room"))) {
            var line = new TestLine();
            line.noRoom = why;
            call(line, crm, model(), Map.of("SEND_TRANSCRIPT", "true"));    // of nothing
            assertNotNull(line.over.get(5, TimeUnit.SECONDS));
        }
        assertEquals("error", event(crm, "call.ended").getString("reason"));
        assertEquals(List.of("call.started", "call.ended"),
                crm.events().stream().map(each -> each.getString("event")).toList());
    }

    @Test
    void theModelIsToldWhoCallsAndHowToBegin() throws Exception {
        record Case(String number, String metadata, String caller, String greeting) {}
        String called = Agent.CALLED.formatted("+15550000100");
        String record = Agent.RECORD.formatted(Agent.OF_THE_CRM, "{\"name\":\"Ada\"}");
        String name = " " + Agent.RECORD.formatted(Agent.OF_THE_DISPATCH,
                "{\"name\":\"Grace\"}");
        String grace = ",\"contact\":{\"name\":\"Grace\",\"id\":\"c-2\"}}";
        for (Case each : List.of(
                new Case("+15550001111", "", record + called, Agent.GREETING),
                new Case("+15550001111", "{\"x\":1" + grace, record + called,
                        Agent.GREETING),
                new Case("+15550009999", "", Agent.UNKNOWN + called, Agent.GREETING),
                new Case("+15550009999", "{\"x\":1" + grace, Agent.UNKNOWN + name + called,
                        Agent.GREETING),
                new Case(null, "{\"contact\":\"Grace\"}", Agent.NO_NUMBER, Agent.GREETING),
                new Case(null, "{\"phone_number\":\"+15550002222\"" + grace,
                        Agent.UNKNOWN + name, Agent.GREETING_CALLED))) {
            var crm = crm();
            crm.contact("+15550001111", "{\"id\":\"c-1\",\"name\":\"Ada\"}");
            var line = new TestLine();
            line.number = each.number;
            line.metadata = each.metadata;
            line.calledNumber = each.number == null ? null : "1 (555) 000-0100";
            var model = model(new Say("Hello.", 100));
            call(line, crm, model);
            eventually("the greeting is asked for", () -> !model.sessions().isEmpty()
                    && told(model.sessions().getFirst()).contains("respond"));
            assertEquals("system: " + Agent.CALLER.formatted(each.caller),
                    told(session(model)).get(3));
            assertEquals(Agent.INSTRUCTIONS + "\n" + each.greeting, session(model).received().get(4)
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
        line.pass(Duration.ofSeconds(20));
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
