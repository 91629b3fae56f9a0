import module java.base;
import demo.DemoCrm;
import demo.DemoModel.Say;
import demo.DemoModel.Tool;
import demo.DemoModel;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;
import start.Rehearsal;
import trials.Runner;
import trials.Stand;
import trials.TestLine;
import voice.Event;
import voice.Mailbox.Alarm;

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
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
final class AgentTest extends Stand {
    static void main(String[] args) {
        Runner.run(args, AgentTest.class, OutboxTest.class);
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

    // Webhooks. OutboxTest has how an event gets to the CRM.

    private Webhooks webhooks(String url) throws Exception {
        return webhooks(folder(), url);
    }

    private Webhooks webhooks(Path outbox, String url) throws Exception {
        var webhooks = new Webhooks(outbox, url, "crm-key", new Hmac(SECRET));
        afterwards(() -> webhooks.close(Duration.ZERO));
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
    void aWrongKeyOfTheCrmIsFoundBeforeTheFirstCallerFindsIt() throws Exception {
        assertNull(webhooks(crm().url()).check());
        assertTrue(webhooks("http://127.0.0.1:1").check().contains("check CRM_URL"));
        assertTrue(webhooks(server(exchange -> {
            exchange.sendResponseHeaders(401, -1);
            exchange.close();
        })).check().contains("CRM_API_KEY"));
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

    /// Before all others, as in the program: Java is slow at what it does for the first time, and
    /// the other tests are not about that.
    @Test
    @Order(1)
    @Tag(Runner.ALONE)
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
        afterwards(() -> agent.webhooks.close(Duration.ZERO));
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
        afterwards(() -> {
            line.mailbox.post(new Event.Stop());
            line.over.get(5, TimeUnit.SECONDS);
            line.speaker.close();
        });
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
        crm.delay("/contacts/search", 4_000);
        var model = model(new Say("Hello.", 200));
        var line = new TestLine();
        long began = System.nanoTime();
        call(line, crm, model);
        long waited = line.pickedUp.get(5, TimeUnit.SECONDS) - began;
        assertTrue(waited < 2_700_000_000L, "slow CRM: " + waited / 1_000_000 + " ms");
        assertTrue(session(model).received().toString().contains("cannot be asked"));
    }

    @Test
    void oneCallsTroubleIsNotAnothers() throws Exception {
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-1\",\"name\":\"" + "x".repeat(3_000_000) + "\"}");
        var model = model(new Say("Hello.", 200));
        var agent = new Agent(settings(Map.of("CRM_URL", crm.url(), "WEBHOOK_SECRET", SECRET,
                "OPENAI_BASE_URL", model.baseUrl(), "OUTBOX_DIR", folder().toString())));
        afterwards(() -> agent.webhooks.close(Duration.ZERO));
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
        var crm = crm();
        var line = transferring(crm);
        line.mailbox.post(new Event.TransferFailed(new Event.Refusal(429, 486, "Busy Here")));
        JsonObject failed = event(crm, "call.transfer_failed");
        assertEquals("sales", failed.getString("destination"));
        assertEquals(486, failed.getInt("sip_code"));
        assertEquals("Busy Here", failed.getString("sip_status"));

        transferring(crm).mailbox.post(new Event.Transferred());
        assertEquals("sales", event(crm, "call.transferred").getString("destination"));
    }

    /// A call in which the phone was just sent to sales.
    private TestLine transferring(DemoCrm crm) throws Exception {
        var line = new TestLine();
        call(line, crm, model(new Say("Hello.", 200),
                new Tool("transfer_call", "{\"destination\":\"sales\"}"),
                new Say("I am putting you through.", 600)));
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(600);
        eventually("the REFER", () -> !line.transfers.isEmpty());
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

    // ---- to trials/SessionTest when voice.Session is there
    // What a telephone conversation does by itself, whatever the program on top of it is.

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
    void aSilentModelDoesNotLetThePhoneRingOn() throws Exception {
        var silent = model(new Say("Hello.", 200));
        silent.firstSoundMs = 20_000;
        var line = new TestLine();
        line.number = null;
        long began = System.nanoTime();
        call(line, crm(), silent);
        long waited = line.pickedUp.get(5, TimeUnit.SECONDS) - began;
        assertTrue(waited < 3_700_000_000L, "silent model: " + waited / 1_000_000 + " ms");
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
        eventually("the greeting", () -> line.heardMs.get() >= 200 && line.listening());
        line.say(600);
        eventually("the answer", () -> line.heardMs.get() >= 500 && line.listening());
        var old = session(model, 1);
        assertNotNull(old.awaitSent("conversation.item.input_audio_transcription.completed",
                _ -> true, SOON));
        old.drop();
        var next = session(model, 2);
        eventually("it is told all", () -> next.received().size() >= 8);
        var told = new ArrayList<>(told(next));
        assertEquals(told(old).get(2), told.remove(2)); // about the caller
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
        // Two pieces of sound may have been on their way when the connection was cut.
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
    void aModelThatIsStuckIsNoticedWhenTheCallerHasSpoken() throws Exception {
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
    }

    @Test
    void aModelThatIsStuckIsNoticedWhileTheCallerSpeaks() throws Exception {
        var deaf = replaced(new Say("Hello.", 200), new Say("I see.", 300));
        var line = new TestLine();
        call(line, crm(), deaf);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(500, 0);
        assertNotNull(session(deaf, 1).awaitSent(
                "input_audio_buffer.speech_started", _ -> true, SOON));
        session(deaf, 1).getStuck();
        long end = line.live(600);
        eventually("it is answered", () -> line.heardMs.get() >= 500);
        long silence = (System.nanoTime() - end) / 1_000_000;
        assertTrue(silence < 4_000, silence + " ms of silence");
        noMistakes(deaf);
    }

    /// And meanwhile a recording asks the caller to wait.
    @Test
    void aModelThatIsStuckIsNoticedInMidSentence() throws Exception {
        var stalling = replaced(new DemoModel.Stall(300), new Say("As I was saying.", 2_000));
        var line = new TestLine();
        call(line, crm(), stalling);
        eventually("the recording", 10, () -> line.heardMs.get() >= 300 + 1_000);
        assertEquals(1, stalling.sessions().size());
        eventually("it goes on", 10, () -> line.heardMs.get() >= 300 + 1_000 + 2_000);
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

        session(failing, 2).fail("invalid_request_error", "some_code"); // only our mistake
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
        line.mailbox.post(new Event.CallerWrote("Hello?")); // which changes nothing now
        eventually("its end", 10, () -> crm.events().size() == 2);
        assertTrue(line.heardMs.get() >= 4_000, line.heardMs + " ms");
        JsonObject ended = event(crm, "call.ended");
        assertEquals("model_lost", ended.getString("reason"));
        assertTrue(ended.getString("cause").contains("HTTP 401"), ended.toString());
        assertNull(line.over.get(5, TimeUnit.SECONDS));
        assertTrue(line.hungUp);
    }

    @Test
    void whenTheModelStaysAwayAColleagueIsTriedAndThenComesTheGoodbye() throws Exception {
        var crm = crm();
        var model = model(new Say("Hello.", 300));
        var line = new TestLine();
        call(line, crm, model, Map.of("TRANSFER_SUPPORT", "+15550003333"));
        eventually("it speaks", () -> line.heardMs.get() > 100);
        model.refuseWith = 503;
        session(model, 1).drop();
        eventually("the REFER", 10, () -> !line.transfers.isEmpty());
        assertEquals(List.of("tel:+15550003333"), List.copyOf(line.transfers));
        int before = line.heardMs.get();
        assertTrue(before >= 3_000, before + " ms");
        line.mailbox.post(new Event.TransferFailed(new Event.Refusal(429, 486, "Busy Here")));
        eventually("the end", 10, () -> line.hungUp);
        assertTrue(line.heardMs.get() - before >= 4_000, "no goodbye");
        assertEquals("model_lost", event(crm, "call.ended").getString("reason"));
    }

    @Test
    void whenTheModelStaysAwayTheCallerIsPutThrough() throws Exception {
        var crm = crm();
        var gone = model();
        gone.refuseWith = 429;
        var line = new TestLine();
        call(line, crm, gone, Map.of("TRANSFER_SUPPORT", "+15550003333"));
        eventually("the REFER", 10, () -> !line.transfers.isEmpty());
        line.mailbox.post(new Event.Transferred());
        line.mailbox.post(new Event.CallerLeft("CLIENT_INITIATED"));
        JsonObject ended = event(crm, "call.ended");
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
    void everyEndHasItsReason() throws Exception {
        for (var end : Map.of(
                "room_lost", new Event.LineLost("x"), "worker_stopped", new Event.Stop(),
                "no_answer", new Event.AlarmDue(Alarm.NO_CALLER),
                "too_long", new Event.AlarmDue(Alarm.TOO_LONG),
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

    /// A call in which the agent says that it puts the caller through to sales.
    private TestLine puttingThrough(DemoCrm crm, boolean onPhone) throws Exception {
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
            var line = puttingThrough(crm, true);
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
        var line = puttingThrough(crm(), false);
        eventually("it is said", () -> line.heardMs.get() >= 800);
        assertEquals(List.of(), List.copyOf(line.transfers));
    }

    @Test
    void aCallThatWeMakeSaysWhyItWasNotAnswered() throws Exception {
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
}
