package trials;

import module java.base;
import demo.DemoModel;
import io.livekit.server.AccessToken;
import io.livekit.server.RoomJoin;
import io.livekit.server.RoomName;
import jakarta.json.JsonObject;
import livekit.LivekitModels.ParticipantInfo;
import livekit.LivekitSip.CreateSIPParticipantRequest;
import livekit.LivekitSip.TransferSIPParticipantRequest;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

/// The whole phone, from outside, on a real livekit-server: transfers, calls that the agent makes,
/// keys, LiveKit's own JavaScript client, lost connections, and `start` with two workers.
///
/// Only LiveKit's SIP service is a stand-in (see Stage.Proxy). It answers in the way that was
/// measured with a real one. Not tried here: SIP itself, and networks that lose packets.
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
public final class PhoneTest extends Stage {
    private static final String BILL = "+15550102";
    private static final String ANNOUNCED = "I am putting you through.";

    private static final List<DemoModel.Step> SCRIPT = List.of(
            new DemoModel.Say("Hello, how can I help?", 600),
            new DemoModel.Tool("transfer_call", "{\"destination\":\"sales\"}"),
            new DemoModel.Say(ANNOUNCED, 1200),
            new DemoModel.Say("It has not worked, I am sorry.", 600),
            new DemoModel.Say("What else?", 600));

    private static Map<String, String> settings;
    private static int healthPort;

    @BeforeAll
    static void start() throws Exception {
        start(SCRIPT);
        try (var free = new ServerSocket(0)) {
            healthPort = free.getLocalPort();
        }
        settings = Map.of("TRANSFER_SALES", "+15550123", "TRANSFER_SUPPORT", "sip:help@x.example",
                "VOBIZ_SIP_DOMAIN", "1234.sip.example", "OUTBOUND_TRUNK_ID", "ST_trial",
                "OUTBOUND_PREFIXES", "+1555", "MAX_CALLS", "2", "DRAIN_SECONDS", "60",
                "HEALTH_PORT", "" + healthPort);
        program = worker(output, settings, "start");
        for (String line : List.of("OpenAI at ", "the CRM at ", "transferred to: sales, support")) {
            await(line, output, () -> Files.readString(output).contains(line));
        }
        assertTrue(!Files.readString(output).contains("NOT RIGHT"));
    }

    /// A caller who has asked for sales, and the REFER that followed.
    private record Asking(Caller caller, Proxy.SipRequest refer, double announced) {}

    private static Asking asking(String room, Function<Proxy.SipRequest, String> answer)
            throws Exception {
        proxy.sipRequests.clear();
        proxy.sip = answer;
        var caller = Caller.onThePhone(room, ADA);
        caller.next("silent"); // the greeting
        caller.turn(600, 500);
        double announced = caller.lastLoud;
        await("the REFER", output, () -> !proxy.sipRequests.isEmpty());
        return new Asking(caller, proxy.sipRequests.getFirst(), announced);
    }

    @Test @Order(1)
    void aCallerIsTransferredWhenTheyHaveHeardThatTheyWillBe() throws Exception {
        var asking = asking("transfer", _ -> Proxy.http(200, ""));
        var request = TransferSIPParticipantRequest.parseFrom(asking.refer.body());
        assertEquals("TransferSIPParticipant", asking.refer.method());
        assertEquals("transfer", request.getRoomName());
        assertEquals("sip_" + ADA, request.getParticipantIdentity());
        assertEquals("sip:+15550123@1234.sip.example", request.getTransferTo());
        double after = asking.refer.atNanos() / 1e6 - asking.announced;
        figure("announcement heard to the REFER", after);
        assertBetween(0, after, 1500, "ms from the last word heard to the REFER");
        assertEquals("sales", webhook("transfer", "call.transferred").json()
                .getString("destination"));
        asking.caller.hangUp(); // livekit-sip does that, a second later
        ended(asking.caller, "transferred");
        assertEquals("sales", to("/contacts/c-1/activities").json().getString("transfer_to"));
        assertEquals(1, proxy.sipRequests.size());
        var session = model.sessions().getLast();
        assertTrue(session.session().toString().contains("\"enum\":[\"sales\",\"support\"]"));
        assertEquals(0, count(session.sent(), "error"), "mistakes that the model noticed");
    }

    @Test @Order(2)
    void aTransferThatFailsIsToldAndTheCallGoesOn() throws Exception {
        var asking = asking("busy", _ -> Proxy.error(429, "resource_exhausted", "busy",
                "{\"sip_status_code\":\"486\",\"sip_status\":\"Busy Here\"}"));
        JsonObject failed = webhook("busy", "call.transfer_failed").json();
        assertEquals("sales", failed.getString("destination"));
        assertEquals(486, failed.getInt("sip_code"));
        assertEquals("Busy Here", failed.getString("sip_status"));
        asking.caller.next("loud"); // the model tells the caller
        asking.caller.next("silent");
        asking.caller.turn(700, 500);
        asking.caller.hangUp();
        ended(asking.caller, "caller_hung_up");
    }

    @Test @Order(3)
    void whatLiveKitDoesNotKnowIsDecidedByTheCallersLeaving() throws Exception {
        var asking = asking("unknown",
                _ -> Proxy.error(408, "deadline_exceeded", "request timed out", ""));
        asking.caller.next("loud");
        asking.caller.next("silent");
        assertEquals(1, proxy.sipRequests.size(), "one REFER, not repeated");
        asking.caller.hangUp();
        ended(asking.caller, "transferred");
        assertTrue(events("unknown").stream().noneMatch(
                event -> event.getString("event").equals("call.transfer_failed")));
    }

    @Test @Order(3)
    void aCallerWhoHangsUpOnTheWayWasNotTransferred() throws Exception {
        var hungUp = new CompletableFuture<Void>();
        var failed = new String(Proxy.outcome(1, 2, null), ISO_8859_1); // because the call ended
        var asking = asking("meanwhile", _ -> {
            hungUp.join();
            return Proxy.http(200, failed);
        });
        asking.caller.hangUp();
        await("the phone to leave", output, () -> rooms.listParticipants("meanwhile").execute()
                .body().stream().noneMatch(who -> who.getKind() == ParticipantInfo.Kind.SIP));
        hungUp.complete(null); // livekit-sip knows it a second later
        ended(asking.caller, "caller_hung_up");
        assertTrue(webhook("meanwhile", "call.transfer_failed").json().isNull("sip_code"));
        assertTrue(events("meanwhile").stream().noneMatch(
                event -> event.getString("event").equals("call.transferred")));
    }

    @Test @Order(3)
    void keysReachTheModelTogether() throws Exception {
        var caller = Caller.onThePhone("keys", ADA);
        caller.next("silent");
        caller.command("keys 12#d");
        var item = model.sessions().getLast().await("conversation.item.create",
                event -> event.toString().contains("pressed"), SOON);
        assertTrue(item.toString().contains("The caller pressed 1 2 # D\""), item.toString());
        caller.hangUp();
        ended(caller, "caller_hung_up");
    }

    // Calls that the agent makes: `./run.sh call`.

    private record Called(int status, String said, String room) {}

    private static Called call(Map<String, String> more, Function<Proxy.SipRequest, String> phone)
            throws Exception {
        Path log = Files.createTempFile("call-", ".log");
        try {
            proxy.sipRequests.clear();
            proxy.sip = phone;
            Process call = program(log, more, "call", "+1 (555) 0102",
                    "{\"contact\":{\"name\":\"Bill\"}}");
            assertTrue(call.waitFor(60, TimeUnit.SECONDS), "it has ended");
            String said = Files.readString(log);
            var room = Pattern.compile("in room (\\S+)").matcher(said);
            assertTrue(room.find(), said);
            return new Called(call.exitValue(), said, room.group(1));
        } finally {
            Files.delete(log);
        }
    }

    @Test @Order(4)
    void whoIsCalledAndPicksUpIsGreeted() throws Exception {
        var phone = new CompletableFuture<Caller>();
        var called = call(Map.of(), request -> {
            try {
                var dial = CreateSIPParticipantRequest.parseFrom(request.body());
                assertEquals(BILL, dial.getSipCallTo());
                assertEquals("ST_trial", dial.getSipTrunkId());
                assertTrue(dial.getWaitUntilAnswered());
                var caller = new Caller(dial.getRoomName(), dial.getParticipantIdentity(),
                        "--phone", BILL, "--status", "dialing");
                phone.complete(caller);
                caller.next("subscribed"); // the phone rings, and the agent is there
                assertNull(caller.poll("loud", Duration.ofSeconds(1)),
                        "spoken to before it was answered");
                caller.command("pickup");
                double active = caller.at("active"), loud = caller.at("loud");
                figure("picked up to greeting heard, when we call", loud - active);
                assertBetween(0, loud - active, 1000, "ms from picked up to the greeting");
                caller.next("silent");
                caller.hangUp();
                return Proxy.http(200, "");
            } catch (Exception e) {
                throw new AssertionError(e);
            }
        });
        assertEquals(0, called.status, called.said);
        assertTrue(called.said.contains("the phone: active"), called.said);
        assertTrue(called.said.contains("the call is over: caller_hung_up"), called.said);
        var search = crm.await(request -> request.path().equals("/contacts/search")
                && request.json().toString().contains(BILL), SOON);
        assertTrue(search.atNanos() < proxy.sipRequests.getFirst().atNanos(), "the CRM first");
        assertEquals(1, proxy.sipRequests.size());
        assertEquals("outbound",
                webhook(called.room, "call.started").json().getString("direction"));
        assertTrue(model.sessions().getLast().received().toString().contains("Bill"),
                "the contact that came with the call");
        ended(phone.join(), "caller_hung_up");
        Docs.areReal("log call", called.said);
    }

    @Test @Order(5)
    void whoDoesNotPickUpIsReportedWithSipsCode() throws Exception {
        record Case(String reason, int code, String answer) {}
        for (Case each : List.of(
                new Case("busy", 486, Proxy.error(429, "resource_exhausted", "x",
                        "{\"sip_status_code\":\"486\",\"sip_status\":\"Busy Here\"}")),
                new Case("declined", 603, Proxy.error(403, "permission_denied", "x",
                        "{\"sip_status_code\":\"603\",\"sip_status\":\"Decline\"}")),
                new Case("no_answer", 0, Proxy.error(408, "canceled", "timed out", "")),
                new Case("bad_trunk", 0, Proxy.error(404, "not_found", "no such trunk", "")))) {
            var called = call(Map.of(), _ -> each.answer);
            assertEquals(1, called.status, called.said);
            assertTrue(called.said.contains("the call is over: " + each.reason), called.said);
            JsonObject ended = webhook(called.room, "call.ended").json();
            assertEquals(each.reason, ended.getString("reason"));
            assertEquals(each.code == 0 ? null : "" + each.code, ended.isNull("sip_code")
                    ? null : "" + ended.getInt("sip_code"));
            assertEquals(1, proxy.sipRequests.size(), "dialled once: " + each);
            // For two seconds the agent shows how the call went, and takes one of the two places.
            await("the agent to leave", output, () -> {
                var there = rooms.listParticipants(called.room).execute().body();
                return there == null || there.isEmpty();
            });
        }
        var nobody = call(Map.of("LIVEKIT_AGENT_NAME", "nobody"), _ -> "");
        assertEquals(3, nobody.status, nobody.said);
        assertTrue(nobody.said.contains("no worker named nobody"), nobody.said);
    }

    // LiveKit's own client.

    @Test @Order(6)
    void liveKitsJavaScriptClientSeesTheAgentAtWork() throws Exception {
        assumeTrue(Browser.missing() == null, Browser.missing());
        var token = new AccessToken(KEY, API_SECRET);
        token.setIdentity("somebody");
        token.addGrants(new RoomJoin(true), new RoomName("page"));
        try (var browser = new Browser(url, token.toJwt())) {
            browser.await("joined");
            dispatches.createDispatch("page", AGENT).execute();
            browser.await("agent");
            for (String state : List.of("thinking", "speaking", "listening")) {
                if (!state.equals("thinking")) {
                    browser.await("state", e -> e.getString("value").equals(state));
                }
            }
            browser.await("heard");
            JsonObject greeting = browser.await("transcription");
            assertEquals("Hello, how can I help?", greeting.getString("text"));
            assertEquals("true", greeting.getJsonObject("attributes")
                    .getString("lk.transcription_final"));
            assertTrue(greeting.getJsonObject("header").getString("lk.transcribed_track_id")
                    .startsWith("TR_"), greeting.toString());
            browser.command("chat", "Sales, please.");
            var session = model.sessions().getLast();
            var item = session.await("conversation.item.create",
                    event -> event.toString().contains("Sales, please."), SOON);
            assertEquals("user", item.getJsonObject("item").getString("role"));
            browser.await("state", e -> e.getString("value").equals("speaking"));
            assertTrue(session.await("conversation.item.create", event ->
                    event.toString().contains("not on a phone"), SOON) != null);
            browser.command("microphone", "on");
            session.awaitSent("input_audio_buffer.speech_started", _ -> true, SOON);
            browser.command("microphone", "off");
            browser.await("transcription", e -> e.getString("identity").equals("somebody"));
            browser.hangUp();
            assertEquals("caller_hung_up",
                    webhook("page", "call.ended").json().getString("reason"));
            assertTrue(browser.reports().stream()
                    .noneMatch(report -> report.getString("event").equals("error")),
                    browser.reports().toString());
        }
    }

    // Lost connections.

    @Test @Order(7)
    void aLostConnectionIsResumedAndOneThatCannotBeIsMadeAnew() throws Exception {
        proxy.sip = _ -> Proxy.error(500, "internal", "nobody is to be transferred here", "");
        var caller = Caller.onThePhone("lost", ADA);
        caller.next("silent");
        int conversations = model.sessions().size();
        for (boolean refuse : new boolean[] {false, true}) {
            int before = said("connection is back");
            proxy.refuseResume = refuse;
            proxy.cutRooms();
            await("the way back", output, () -> said("connection is back") > before);
            assertEquals(refuse ? 1 : 0, said("joining the room again"));
            caller.say(600, 500); // the caller is heard, and is answered
            caller.next("loud");
            caller.next("silent");
            assertEquals(1, rooms.listParticipants("lost").execute().body().stream()
                    .filter(who -> who.getKind() == ParticipantInfo.Kind.AGENT).count());
        }
        proxy.refuseResume = false;
        assertEquals(conversations, model.sessions().size(), "the conversation is the same");
        caller.hangUp();
        assertEquals("caller_hung_up", webhook("lost", "call.ended").json().getString("reason"));
        for (String once : List.of("call.started", "call.ended")) {
            assertEquals(1, events("lost").stream()
                    .filter(event -> event.getString("event").equals(once)).count(), once);
        }
    }

    private static int said(String what) throws IOException {
        return Files.readString(output).split(what, -1).length - 1;
    }

    @Test @Order(8)
    void aServerThatIsKilledEndsTheCallAndTheNextOneWorks() throws Exception {
        var caller = Caller.onThePhone("killed", ADA);
        caller.next("silent");
        int before = said("registered at");
        server.destroyForcibly().waitFor();
        startServer();
        assertEquals("room_lost", webhook("killed", "call.ended").json().getString("reason"));
        await("another registration", output, () -> said("registered at") > before);
        caller.process.destroyForcibly();
        var next = Caller.onThePhone("after", ADA);
        next.next("tone");
        next.hangUp();
        ended(next, "caller_hung_up");
    }

    // start.

    @Test @Order(9)
    void twoWorkersShareTheCallsAndOneThatIsStoppedLetsItsCallsEnd() throws Exception {
        assertEquals(200, health());
        // The client of the call whose server was killed may have come back to the new server. It
        // has made a room there and so another call, which would wait a minute for its caller.
        await("every call so far to be over", output, () -> {
            rooms.deleteRoom("killed").execute();
            return seen("call.started") == seen("call.ended");
        });
        Path log = Files.createTempFile("second-", ".log");
        try {
            Process second = worker(log, Map.of("MAX_CALLS", "2", "DRAIN_SECONDS", "60",
                    "HEALTH_PORT", "" + healthPort), "start");
            assertTrue(Files.readString(log).contains("no health check on port"));
            int before = said("event +call.started");
            var four = new ArrayList<Caller>();
            for (int i = 0; i < 4; i++) { // a worker is full when it has two calls
                four.add(Caller.onThePhone("shared-" + i, ADA));
                four.getLast().next("silent");
            }
            assertEquals(2, said("event +call.started") - before);
            String first = Files.readString(output);
            var its = four.stream().filter(caller -> first.contains(
                    webhook(caller.room, "call.started").json().getString("call_id"))).toList();
            var others = new ArrayList<>(four);
            others.removeAll(its);

            program.destroy(); // SIGTERM
            await("it to say so", output, () -> said("no new calls") == 1);
            others.getFirst().hangUp();
            ended(others.getFirst(), "caller_hung_up");
            var next = Caller.onThePhone("shared-next", ADA);
            next.next("tone");
            assertTrue(!Files.readString(output).contains(
                    webhook("shared-next", "call.started").json().getString("call_id")));
            for (Caller caller : its) {
                assertTrue(program.isAlive());
                caller.say(600, 500);
                caller.next("loud"); // the call has not noticed
                caller.hangUp();
                ended(caller, "caller_hung_up");
            }
            long last = System.nanoTime();
            assertTrue(program.waitFor(5, TimeUnit.SECONDS), "it ends with its last call");
            figure("last call to the end of the process", (System.nanoTime() - last) / 1e6);
            assertEquals(0, program.exitValue());

            second.destroy();
            await("it to say so", log, () -> Files.readString(log).contains("no new calls"));
            assertTrue(second.isAlive(), "it has a call still");
            second.destroy(); // a second SIGTERM does not wait for the call
            next.next("disconnected");
            ended(next, "worker_stopped");
            assertTrue(second.waitFor(5, TimeUnit.SECONDS));
            Docs.areReal("log phone", Files.readString(output));
        } finally {
            Files.delete(log);
        }
    }

    @Test @Order(10)
    void whoStillTalksNearTheEndOfTheDrainHearsAGoodbye() throws Exception {
        Path log = Files.createTempFile("third-", ".log");
        try {
            Process third = worker(log, Map.of("DRAIN_SECONDS", "15", "HEALTH_PORT", "0"), "start");
            model.scripts.add(List.of(SCRIPT.getFirst(), new DemoModel.Say("Goodbye.", 600)));
            var caller = Caller.onThePhone("drained", ADA);
            caller.next("silent"); // the greeting is over
            long stopped = System.nanoTime();
            third.destroy();
            caller.next("loud");
            caller.next("silent");
            caller.next("disconnected");
            ended(caller, "worker_stopped");
            assertTrue(third.waitFor(5, TimeUnit.SECONDS), "nobody waits for longer");
            figure("SIGTERM to the end, with a goodbye", (System.nanoTime() - stopped) / 1e6);
        } finally {
            Files.delete(log);
        }
    }

    private static long seen(String event) {
        return crm.events().stream().filter(e -> e.getString("event").equals(event)).count();
    }

    private static int health() throws Exception {
        var connection = (HttpURLConnection) URI.create("http://127.0.0.1:" + healthPort + "/")
                .toURL().openConnection();
        return connection.getResponseCode();
    }
}
