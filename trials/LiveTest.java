package trials;

import module java.base;
import demo.DemoModel;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static trials.Stand.json;

/// Whole calls, from outside: a real livekit-server, the program as a process, callers on LiveKit's
/// own client (caller.py), and between them nothing but sockets. Only the CRM and the model are
/// stand-ins. Without livekit-server or the Python SDK this test is skipped and says how to get
/// them.
///
/// It calls no class of the program, and checks signatures with the JDK alone. Not tried here: SIP
/// itself (caller.py plays livekit-sip's part), networks that lose packets (LossTest has those),
/// the real model. All traffic stays on the loopback interface. The ports are whichever are free.
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
public final class LiveTest extends Stage {
    /// The model takes the next step each time that the caller has ended a turn. A call that ends
    /// early has used only the first steps.
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

    private static Path outbox;

    @BeforeAll
    static void start() throws Exception {
        start(SCRIPT);
        outbox = newFolder();
        program = worker(output, Map.of("OUTBOX_DIR", outbox.toString(),
                "SEND_TRANSCRIPT", "true"), "dev");
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

        // Ringing: the agent knows the caller before it answers the phone, and does not listen yet.
        assertTrue(ms(search) < published, "the CRM is asked before the phone is answered");
        assertEquals("Bearer crm-key", search.headers().get("authorization"));
        assertEquals(ADA, search.json().getJsonObject("filter").getString("phone"));
        assertTrue(session.received().toString().contains("Ada Byron"));
        assertEquals(5, session.session().getJsonArray("tools").size());
        assertEquals("Bearer sk-test", session.authorization());
        assertBetween(0, loud - active, 1000, "ms from active to the greeting");
        assertBetween(0, heardMs, listenedMs + 40, "ms heard by the model since active");
        assertEquals(DemoModel.TONE_HZ, caller.next("tone").getInt("hz"));
        assertBetween(940, caller.next("silent").getInt("ms"), 1080, "ms of greeting");

        // Four turns, four tools. Each turn has a pitch of its own, which has to arrive at the
        // model.
        for (int hz : List.of(600, 700, 800, 900)) {
            if (hz == 800) { // a new track takes the place of the old one; nothing is heard twice
                caller.command("republish");
                caller.next("republished");
                caller.say(0, 1000); // until the agent has subscribed to it
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
        assertFalse(answers.get(1).getBoolean("found"), "Charles Babbage does not call");
        assertTrue(answers.get(3).toString().contains("No destinations are configured"));
        assertEquals("wants a refund",
                webhook(caller.room, "intent.recorded").json().getString("intent"));
        assertEquals(NOTE, webhook(caller.room, "crm.updated").json().getString("note"));
        assertEquals(1, crm.requests().stream()
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

        // In writing: what was said, on which track, and of the long story what was heard.
        String story = "A long story, which nobody will hear the end of.";
        var captions = new ArrayList<JsonObject>();
        captions.add(caller.await("caption", caption -> {
            captions.add(caption);
            return story.startsWith(caption.getString("text")) && caption.getJsonObject(
                    "attributes").getString("lk.transcription_final").equals("true");
        }));
        assertEquals("Hello Ada, how can I help?", captions.getFirst().getString("text"));
        assertBetween(4, captions.getLast().getString("text").length(), 20, "letters of " + story);
        for (JsonObject caption : captions) {
            assertTrue(caption.getJsonObject("attributes").getString("lk.transcribed_track_id", "")
                    .startsWith("TR_"), caption.toString());
        }

        double hungUp = caller.hangUp();
        var ended = ended(caller, "caller_hung_up");
        var activity = to("/contacts/c-1/activities");
        figure("hang-up to call.ended at the CRM", ms(ended) - hungUp);
        // The agent joined after the caller and before it published its track.
        assertBetween(hungUp - published, ended.json().getInt("duration_ms"),
                hungUp - joined + 200, "duration_ms");
        assertBetween(hungUp - active - 100, ended.json().getInt("talk_ms"),
                hungUp - published + 200, "talk_ms");
        assertEquals("caller", ended.json().getString("ended_by"));
        assertEquals(ended.json().getString("model"), session.model());
        JsonObject last = session.sent().stream()
                .filter(event -> event.getString("type").equals("response.done"))
                .map(event -> event.getJsonObject("response").getJsonObject("usage"))
                .toList().getLast();
        assertTrue(ended.json().getJsonObject("usage").getInt("input_audio_tokens")
                > last.getJsonObject("input_token_details").getInt("audio_tokens"), "all of them");
        assertEquals("wants a refund", activity.json().getString("intent"));
        written(webhook(caller.room, "call.transcript").json(), story,
                captions.getLast().getString("text"), (int) (onset - active));
        for (JsonObject event : events(caller.room)) {
            assertEquals(ADA, event.getString("phone"));
            assertEquals(caller.room + "@127.0.0.1", event.getString("sip_call_id"));
            assertEquals("SCL_" + caller.room, event.getString("sip_id"));
            assertEquals("+15550199 inbound",
                    event.getString("to") + " " + event.getString("direction"));
            boolean known = !event.getString("event").equals("call.started");
            assertEquals(known ? "c-1" : null, string(event, "contact_id"));
        }
        assertEquals(Set.of(960), Set.copyOf(session.appendSizes()), "appends of 20 ms");
        assertEquals(1, count(session.received(), "conversation.item.truncate"));
        assertEquals(0, count(session.sent(), "error"), "mistakes that the model noticed");
    }

    /// The transcript of that call. `heard` is what the caller has heard of the long story, and
    /// `interruptedMs` is when they have interrupted it.
    private static void written(JsonObject transcript, String story, String heard,
            int interruptedMs) {
        var items = transcript.getJsonArray("items").getValuesAs(JsonObject.class);
        var said = items.stream().map(item -> item.getString("role") + " "
                + item.getString("text", "= " + item.getString("name", ""))
                        .replaceFirst("\\(0.[0-9] s of speech\\)", "speaks")).toList();
        assertEquals(List.of("agent Hello Ada, how can I help?", "caller speaks",
                "tool = record_intent", "agent Noted.", "caller speaks", "tool = lookup_crm",
                "agent Found.", "caller speaks", "tool = update_crm_note", "agent Written down.",
                "caller speaks", "tool = transfer_call", "agent I cannot.", "caller speaks",
                "agent " + heard, "caller speaks", "agent As you like."), said);
        int before = 0;
        for (JsonObject item : items) {
            assertTrue(before <= item.getInt("at"), items.toString());
            before = item.getInt("at");
        }
        assertBetween(interruptedMs - 200, items.get(15).getInt("at"), interruptedMs + 700,
                "at which ms the caller interrupts");
        assertTrue(story.startsWith(heard));
    }

    /// The goodbye is 1.5 s long. Who speaks in it keeps the line.
    @Test @Order(2)
    void theAgentHangsUpWhenItsGoodbyeWasHeard() throws Exception {
        var bye = new DemoModel.Together(new DemoModel.Say("Goodbye, Ada.", 1_500),
                new DemoModel.Tool("end_call", "{}"));
        model.scripts.add(List.of(SCRIPT.getFirst(), bye, new DemoModel.Say("Yes?", 600), bye));
        var caller = Caller.onThePhone("goodbye", ADA);
        caller.next("loud");
        caller.next("silent"); // the greeting is over
        caller.say(600, 500);
        caller.next("loud");
        caller.say(700, 500); // over the goodbye, which is broken off
        assertBetween(0, caller.next("silent").getInt("ms"), 1_400, "ms of the first goodbye");
        caller.next("loud");
        caller.next("silent"); // the agent has said "Yes?"
        caller.say(800, 500);
        caller.next("loud");
        var silent = caller.next("silent");
        assertBetween(1_440, silent.getInt("ms"), 1_580, "ms of the second goodbye");
        double after = caller.at("disconnected") - silent.getJsonNumber("last_loud").doubleValue();
        figure("goodbye heard to hung up", after);
        assertBetween(1_000, after, 2_000, "ms from the end of the goodbye to the hang-up");
        JsonObject ended = ended(caller, "agent_hung_up").json();
        assertEquals("agent", ended.getString("ended_by"));
        isDeleted(caller.room);
    }

    @Test @Order(2)
    void somebodyWithABrowserDispatchedWithMetadataThatIsNotJson() throws Exception {
        var caller = new Caller("browser", "somebody", "--kind", "standard");
        caller.next("joined"); // the caller has made the room, without an agent
        dispatches.createDispatch(caller.room, AGENT, "not { JSON").execute();
        assertEquals(DemoModel.TONE_HZ, caller.next("tone").getInt("hz"));
        caller.hangUp();
        ended(caller, "caller_hung_up");
        for (JsonObject event : events(caller.room)) {
            assertNull(string(event, "phone"));
            assertNull(string(event, "contact_id"));
            assertNull(string(event, "sip_call_id"));
            assertNull(string(event, "sip_id"));
        }
    }

    /// LiveKit sends an agent to a room when the room begins, and keeps a room for 20 s after the
    /// last person has left.
    @Test @Order(2)
    void aBrowserThatIsLoadedAgainGetsAnAgentAgain() throws Exception {
        for (int times = 0; times < 2; times++) {
            var caller = new Caller("reload", "somebody", "--kind", "standard", "--agent", AGENT);
            caller.next("tone");
            double hungUp = caller.hangUp();
            isDeleted("reload");
            assertBetween(0, System.nanoTime() / 1e6 - hungUp, 10_000, "ms until it is deleted");
        }
    }

    /// Whoever makes tokens for web clients may let them choose their identity, their attributes
    /// and the room's agents, as LiveKit's standard token endpoint does.
    @Test @Order(2)
    void aBrowserThatPosesAsAPhoneIsNobody() throws Exception {
        long asked = asked();
        model.scripts.add(List.of(SCRIPT.getFirst(), new DemoModel.Tool("update_crm_note",
                Json.createObjectBuilder().add("note", NOTE).build().toString()),
                new DemoModel.Say("Written down.", 600)));
        var caller = new Caller("posing", "sip_" + ADA, "--kind", "standard", "--phone", ADA,
                "--agent", AGENT, "--metadata", "{\"phone_number\":\"" + ADA
                        + "\",\"contact\":{\"id\":\"c-1\",\"name\":\"Ada\"}}");
        caller.next("silent"); // the greeting is over
        assertTrue(!model.sessions().getLast().received().toString().contains("Byron"));
        caller.turn(600, 500);
        caller.hangUp();
        ended(caller, "caller_hung_up");
        for (JsonObject event : events(caller.room)) {
            for (String who : List.of("phone", "to", "contact_id", "sip_call_id", "sip_id")) {
                assertNull(string(event, who), event.toString());
            }
        }
        assertEquals(asked, asked(), "the CRM is asked about nobody, and nothing is filed there");
    }

    private static long asked() {
        return crm.requests().stream().filter(request -> request.path().startsWith("/contacts/"))
                .count();
    }

    /// No more than a person can type, but all that a dialler can press.
    @Test @Order(3)
    void aBrowserThatFloodsTheCallIsHeardInPart() throws Exception {
        var caller = new Caller("flood", "somebody", "--kind", "standard", "--agent", AGENT);
        caller.next("silent"); // the greeting is over
        var session = model.sessions().getLast();
        long begun = System.nanoTime();
        caller.command("type 100 five");
        caller.command("odd 50 my number is 15550142");
        caller.command("keys " + "7".repeat(60));
        session.await("conversation.item.create",
                item -> said(item).startsWith("The caller pressed"), SOON);
        assertEquals(60, pressed(session));
        long seconds = 1 + Duration.ofNanos(System.nanoTime() - begun).toSeconds();
        long texts = session.received().stream().filter(it -> said(it).equals("five")).count();
        assertTrue(texts >= 5 && texts <= 5 * seconds, texts + " texts in " + seconds + " s");

        caller.command("keys " + "8".repeat(3_000));
        caller.command("type 1 over");
        session.await("conversation.item.create", item -> said(item).equals("over"), SOON);
        caller.turn(600, 500); // the call goes on
        caller.hangUp();
        ended(caller, "caller_hung_up");
        seconds = 1 + Duration.ofNanos(System.nanoTime() - begun).toSeconds();
        assertTrue(pressed(session) <= 60 + 100 * seconds, pressed(session) + " keys");
        String log = Files.readString(output);
        assertTrue(log.contains("too fast") && !log.contains("my number"), log);
        assertTrue(log.split("too fast", -1).length - 1 <= seconds, log);
    }

    private static String said(JsonObject event) {
        return event.containsKey("item") && event.getJsonObject("item").containsKey("content")
                ? event.getJsonObject("item").getJsonArray("content").getJsonObject(0)
                        .getString("text", "") : "";
    }

    /// How many keys the model was told.
    private static long pressed(DemoModel.Session session) {
        return session.received().stream().map(LiveTest::said)
                .filter(text -> text.startsWith("The caller pressed"))
                .mapToLong(text -> text.chars().filter(key -> key == '7' || key == '8').count())
                .sum();
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
    void anOutboxIsForOneProcess() throws Exception {
        Path log = Files.createTempFile("second-", ".log");
        var second = program(log, Map.of("OUTBOX_DIR", outbox.toString()), "dev");
        assertTrue(second.waitFor(20, TimeUnit.SECONDS), "it ends");
        String said = Files.readString(log);
        Files.delete(log);
        assertEquals(2, second.exitValue(), said);
        assertTrue(said.contains("in use by process " + program.pid()), said);
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
        caller.turn(600, 500); // this call has noticed nothing
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

    @Test @Order(4)
    void theAgentIsRemoved() throws Exception {
        var caller = Caller.onThePhone("removed", ADA);
        caller.next("tone");
        String agent = "agent-" + webhook("removed", "call.started").json().getString("call_id");
        rooms.removeParticipant("removed", agent).execute();
        caller.next("disconnected"); // not left alone with silence
        ended(caller, "room_lost");
    }

    // Callers who are lost, and people who come.

    /// The caller's process dies. LiveKit notices some 20 s later that the connection is gone.
    private static void dies(Caller caller) throws Exception {
        String call = webhook(caller.room, "call.started").json().getString("call_id");
        caller.process.destroyForcibly();
        await("LiveKit to notice", output, () -> Files.readString(output).matches("(?s).* "
                + call.substring(3, 9) + "  caller +is lost, and may come back: CONN.*"));
    }

    @Test @Order(4)
    void aCallerWhoComesBackGoesOnTalking() throws Exception {
        var caller = new Caller("back", "somebody", "--kind", "standard", "--agent", AGENT);
        caller.next("silent"); // the greeting is over
        for (boolean died : List.of(false, true)) {
            var before = caller;
            if (died) {
                dies(before);
            } // otherwise LiveKit takes the older connection out of the room, as after a reload
            caller = new Caller("back", "somebody", "--kind", "standard");
            caller.next("tone"); // the model was told
            caller.next("silent");
            before.process.destroyForcibly();
        }
        assertEquals(2, model.sessions().getLast().received().stream().map(LiveTest::said)
                .filter(text -> text.startsWith("The caller's connection was lost")).count());
        caller.turn(600, 500);
        caller.hangUp();
        ended(caller, "caller_hung_up");
    }

    @Test @Order(4)
    void aCallerWhoDoesNotComeBackIsLostAndTheRoomIsDeleted() throws Exception {
        var caller = new Caller("away", "somebody", "--kind", "standard", "--agent", AGENT);
        caller.next("silent"); // the greeting is over
        dies(caller);
        assertEquals("CONNECTION_TIMEOUT", ended(caller, "caller_lost").json().getString("cause"));
        isDeleted(caller.room);
    }

    /// LiveKit does not name somebody who is mute to the agent at once.
    @Test @Order(4)
    void whoTakesTheAgentOutHasTheCall() throws Exception {
        for (String how : List.of("dispatch", "removal", "dispatch mute", "removal mute")) {
            var caller = new Caller("taken-" + how, "sip_" + ADA, "--phone", ADA);
            caller.next("joined");
            var dispatch = dispatches.createDispatch(caller.room, AGENT).execute().body();
            caller.next("silent"); // the greeting is over
            Caller human;
            if (how.endsWith("mute")) {
                human = new Caller(caller.room, "human", "--kind", "standard", "--mute");
                human.next("joined");
            } else {
                human = new Caller(caller.room, "human", "--kind", "standard");
                caller.await("published", report -> report.getString("identity").equals("human"));
            }
            if (how.startsWith("dispatch")) {
                dispatches.deleteDispatch(caller.room, dispatch.getId()).execute();
            } else {
                rooms.removeParticipant(caller.room, "agent-" + webhook(caller.room,
                        "call.started").json().getString("call_id")).execute();
            }
            ended(caller, "taken_over");
            assertEquals(Set.of("sip_" + ADA, "human"), there(caller.room));
            assertNull(caller.peek("disconnected"));
            human.hangUp();
            caller.hangUp();
        }
    }

    /// LiveKit has read how the job ended before the program deletes the room.
    private static void isDeleted(String room) throws Exception {
        await("room " + room + " to be deleted", output,
                () -> rooms.listRooms(List.of(room)).execute().body().isEmpty());
    }

    private static Set<String> there(String room) throws IOException {
        return rooms.listParticipants(room).execute().body().stream()
                .map(one -> one.getIdentity()).collect(Collectors.toSet());
    }

    @Test @Order(4)
    void aRoomThatIsDispatchedTwiceHasOneAgent() throws Exception {
        var caller = Caller.onThePhone("twice", ADA);
        caller.next("joined");
        for (int more = 0; more < 2; more++) {
            dispatches.createDispatch(caller.room, AGENT).execute();
        }
        caller.next("silent"); // the greeting is over
        await("the others to leave", output,
                () -> Files.readString(output).split("and was first", -1).length >= 3
                        && there(caller.room).size() == 2);
        caller.turn(600, 500);
        caller.hangUp();
        ended(caller, "caller_hung_up");
        assertEquals(1, events(caller.room).stream()
                .filter(event -> event.getString("event").equals("call.started")).count());
    }

    @Test @Order(4)
    void theDispatchNamesTheCaller() throws Exception {
        var phone = new Caller("named", "sip_" + ADA, "--phone", ADA);
        phone.next("joined");
        dispatches.createDispatch(phone.room, AGENT,
                "{\"caller_identity\":\"somebody\"}").execute();
        webhook(phone.room, "call.started");
        var named = new Caller(phone.room, "somebody", "--kind", "standard");
        named.next("silent"); // the greeting is over
        named.turn(600, 500);
        named.hangUp();
        assertNull(string(ended(named, "caller_hung_up").json(), "phone"));
        phone.hangUp();
    }

    @Test @Order(5)
    void theModelIsLostAndReplacedAndLostForGood() throws Exception {
        var caller = Caller.onThePhone("model", ADA);
        caller.next("tone");
        model.sessions().getLast().drop();
        caller.next("silent");
        caller.turn(600, 500); // the second connection answers
        model.refuseWith = 503;
        model.sessions().getLast().drop();
        caller.next("loud"); // the recording
        caller.next("disconnected"); // not left alone with silence
        var ended = ended(caller, "model_lost");
        model.refuseWith = 0;
        assertTrue(ended.json().getString("cause").contains("HTTP 503"), ended.toString());
        isDeleted(caller.room);
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
        String last = Files.readString(output).lines().toList().getLast();
        assertTrue(last.endsWith(" stopped"), last);

        // The last test looks at this, because nothing more can come.
        var ends = crm.events().stream()
                .filter(event -> event.getString("event").equals("call.ended")).toList();
        assertEquals(ends.size(),
                ends.stream().map(event -> event.getString("call_id")).distinct().count());
        Docs.areReal("log", Files.readString(output));
    }
}
