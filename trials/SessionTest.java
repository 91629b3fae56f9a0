package trials;

import module java.base;
import demo.DemoModel.Say;
import demo.DemoModel.Tool;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Test;
import voice.Clips;
import voice.End;
import voice.Event;
import voice.Mailbox;
import voice.Mailbox.Alarm;
import voice.Numbers;
import voice.Options;
import voice.Party;
import voice.Session;
import voice.Step;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/: what a telephone conversation does by itself, whatever the program on top of it is. Here
/// are who the caller is, how the phone is picked up, whose turn it is, and what the caller hears
/// meanwhile. EndingTest has transfers and ends, LostModelTest has a model that fails, and
/// AgentTest has this agent. The model is a stand-in over a real socket. The line is TestLine.
public final class SessionTest extends Stand {
    static final Duration MS = Duration.ofMillis(1);
    static final String SPEECH_STARTED =
            "{'type':'input_audio_buffer.speech_started','item_id':'words','audio_start_ms':0}";
    static final String SPEECH_STOPPED =
            "{'type':'input_audio_buffer.speech_stopped','item_id':'words','audio_end_ms':0}";
    static final String RESPONSE_CREATED = "{'type':'response.created'}";
    static final String RESPONSE_DONE =
            "{'type':'response.done','response':{'status':'completed'}}";
    static final String TO_CALL = "{\"phone_number\":\"+15550002222\"}";

    /// Options with which nobody is asked whether they are there.
    static Options patient(String trunk) {
        return new Options(
                trunk, List.of("+1"), Talk.SALES, Duration.ofHours(9), Talk.LONGEST,
                new Numbers(""));
    }

    private Talk greeted() throws Exception {
        return Talk.greeted(this, Talk.SALES);
    }

    // Who is on the line.

    @Test
    void whoIsOnTheLineIsKnownFromTheBeginningAsFarAsTheLineKnowsIt() throws Exception {
        var line = new TestLine();
        afterwards(line.speaker::close);
        var session = Talk.session(line, Talk.greeting(this), patient(""));
        assertEquals(new Party("AJ_test", "room-1", "RM_1", "+15550001111", null, "inbound",
                null, null), session.party());
        line.number = "+15550002222";
        session.join();
        assertEquals("+15550002222", session.party().phone());
        assertEquals(List.of(Map.of("lk.agent.state", "initializing")), List.copyOf(line.shown));
        session.finish();
        session.close();
    }

    @Test
    void whoIsOnTheLineIsLookedUpWhenSomebodyComes() throws Exception {
        var line = new TestLine();
        line.comes = false;
        line.number = null;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        var nobody = new Party("AJ_test", "room-1", "RM_1", null, null, "inbound", null, null);
        assertEquals(nobody, talk.says(Session::party));
        line.number = "+1 (555) 000-1111";
        line.calledNumber = "+15550100";
        line.sipCallId = "a@b";
        line.sipId = "SCL_1";
        assertEquals(nobody, talk.says(Session::party), "nobody has come");
        talk.happens(new Event.CallerJoined());
        assertEquals(new Party("AJ_test", "room-1", "RM_1", "+15550001111", "+15550100", "inbound",
                "a@b", "SCL_1"), talk.says(Session::party));
    }

    @Test
    void theDispatchMaySayWhomToCall() throws Exception {
        record Case(String metadata, String trunk, boolean calls, String phone) {}
        var model = Talk.greeting(this);
        for (Case each : List.of(
                new Case(TO_CALL, "ST_1", true, "+15550002222"),
                new Case(" {\"phone_number\": \"+1 (555) 000-2222\"}", "ST_1", true,
                        "+15550002222"),
                new Case(TO_CALL, "", false, null),     // a web client may have written that
                new Case("{\"phone_number\":\"001 555 0002222\"}", "ST_1", true, "+15550002222"),
                new Case("{\"phone_number\":\"555 000 2222\"}", "ST_1", false, null),
                new Case("{\"phone_number\":\"+1 011 44 2079460958\"}", "ST_1", false, null),
                new Case("{\"phone_number\":\"somebody\"}", "ST_1", false, null),
                new Case("{\"phone_number\":15550002222}", "ST_1", false, null),
                new Case("[\"+15550002222\"]", "ST_1", false, null),
                new Case("{\"a\":".repeat(9_000), "ST_1", false, null),
                new Case("no JSON", "ST_1", false, null),
                new Case(" ", "ST_1", false, null))) {
            var line = new TestLine();
            line.metadata = each.metadata;
            line.number = null;
            line.calledNumber = "+15550100";
            line.sipId = "SCL_1";
            var talk = Talk.begun(this, line, model, patient(each.trunk));
            String what = each.metadata.substring(0, Math.min(40, each.metadata.length()));
            assertEquals(new Party("AJ_test", "room-1", "RM_1", each.phone,
                    each.calls ? each.phone : "+15550100", each.calls ? "outbound" : "inbound",
                    null, "SCL_1"), talk.says(Session::party), what);
            assertEquals(each.calls, talk.says(Session::outbound), what);
            assertEquals(each.calls ? each.phone : null, line.calls, what);
            assertEquals(each.calls ? "ST_1" : "none", line.dialled.getNow("none"), what);
        }
    }

    @Test
    void theNumberOfTheLineCountsMoreThanThatOfTheDispatch() throws Exception {
        for (String trunk : List.of("", "ST_1")) {
            var line = new TestLine();
            line.metadata = TO_CALL;
            var talk = Talk.begun(this, line, Talk.greeting(this), patient(trunk));
            assertEquals("+15550001111", talk.says(Session::party).phone());
        }
    }

    /// Somebody may be in the room who has made the dispatch. The agent does not talk to them.
    @Test
    void aNumberWithoutOneOfThePrefixesIsNotDialled() throws Exception {
        record Case(String number, List<String> prefixes, boolean allowed) {}
        var model = Talk.greeting(this);
        for (Case each : List.of(new Case("+15550002222", List.of("+44", "+1"), true),
                new Case("+15550002222", List.of("+44", "+1555000222"), true),
                new Case("+15550002222", List.of("+44", "+15550003"), false),
                new Case("+15550002222", List.of("+155500022223"), false),
                new Case("+49 (1) 555 000", List.of("+1"), false),
                new Case("0044 (0)20 7946 0958", List.of("+1", "+20"), false),
                new Case("+15550002222", List.of(), false))) {
            for (boolean comes : List.of(true, false)) {
                var line = new TestLine();
                line.metadata = "{\"phone_number\":\"" + each.number + "\"}";
                line.comes = comes;
                var talk = Talk.begun(this, line, model, new Options("ST_1", each.prefixes,
                        Map.of(), Talk.SILENCE, Talk.LONGEST, new Numbers("")));
                if (each.allowed) {
                    assertEquals("ST_1", line.dialled.get(SOON.toSeconds(), TimeUnit.SECONDS));
                    continue;
                }
                assertEquals("outbound " + new Numbers("").read(each.number), direction(talk));
                End end = talk.ended();
                assertEquals("bad_trunk", end.reason());
                assertEquals("phone_number begins with none of OUTBOUND_PREFIXES", end.cause());
                assertTrue(line.hungUp && !line.dialled.isDone());
                assertEquals(List.of(), talk.steps);
            }
        }
    }

    private static String direction(Talk talk) throws ReflectiveOperationException {
        Party party = ((Session) Talk.field(talk, "session")).party();
        return party.direction() + " " + party.to();
    }

    /// Whoever has dispatched the call learns at once why nobody is called.
    @Test
    void aNumberThatNobodyCanReadIsNotWaitedForAndNobodyElseIsTheCaller() throws Exception {
        var model = Talk.greeting(this);
        for (String metadata : List.of("phone_number=+15550002222", "{'phone_number': '+1555000",
                "[{'phone_number':'+15550002222'}]", "'{\\'phone_number\\':\\'+15550002222\\'}'",
                "{phone_number: '+15550002222'}", "{'phone_number':'+15550002222'}}",
                "\ufeff{'phone_number':'+15550002222'}")) {
            for (boolean comes : List.of(true, false)) {
                var line = new TestLine();
                line.metadata = metadata.replace('\'', '"');
                line.comes = comes;
                var talk = Talk.begun(this, line, model);
                assertEquals("outbound null", direction(talk));
                End end = talk.ended();
                assertEquals("bad_trunk", end.reason(), metadata);
                assertEquals("there is a phone_number, but not in a JSON object", end.cause());
                assertTrue(line.hungUp && !line.dialled.isDone());
                assertEquals(List.of(), talk.steps);
            }
        }
    }

    @Test
    void whoeverHasDialledTheCallIsLookedUpWhenTheyAnswer() throws Exception {
        var line = new TestLine();
        line.metadata = TO_CALL;
        line.number = null;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        assertNull(talk.says(Session::party).sipId());
        line.sipId = "SCL_1";
        talk.happens(new Event.CallerJoined());
        assertEquals("SCL_1", talk.says(Session::party).sipId());
        line.sipCallId = "a@b";         // this id comes with the answer
        talk.happens(new Event.CallerAnswered());
        assertEquals("a@b", talk.says(Session::party).sipCallId());
        assertEquals(List.of(new Step.Ringing()), talk.steps);
    }

    @Test
    void theProgramCanReadTheMetadataOfTheDispatch() throws Exception {
        String contact = "{\"contact\":{\"name\":\"Ada\"}}";
        var model = Talk.greeting(this);
        for (var each : Map.of(contact, contact, "", "{}", "\"Ada\"", "{}").entrySet()) {
            var line = new TestLine();
            line.metadata = each.getKey();
            var talk = Talk.begun(this, line, model);
            assertEquals(json(each.getValue()), talk.says(Session::metadata));
        }
    }

    /// A phone that comes after a browser is the caller, so the program asks again who it is.
    @Test
    void whoTheCallerIsCanBeToldAgain() throws Exception {
        var talk = greeted();
        talk.happens(new Event.CallerJoined());
        var session = session(talk.model);
        eventually("it is told twice", () -> told(session).stream()
                .filter(each -> each.equals("system: Nobody knows the caller.")).count() == 2);
        assertEquals(1, told(session).stream().filter(each -> each.equals("respond")).count());
        noMistakes(talk.model);
    }

    // The phone rings.

    @Test
    void aSilentModelDoesNotLetThePhoneRingOn() throws Exception {
        var silent = model(new Say("Hello.", 200));
        silent.firstSoundMs = 60_000;
        var line = new TestLine();
        Talk.begun(this, line, silent);
        line.pass(Duration.ofMillis(2_999));
        assertFalse(line.pickedUp.isDone());
        line.pass(MS);
        assertTrue(line.pickedUp.isDone());
    }

    @Test
    void theGreetingWaitsUntilTheCallerCanHear() throws Exception {
        for (boolean confirmed : List.of(true, false)) {
            var line = new TestLine();
            line.answers = false;
            var talk = Talk.begun(this, line, Talk.greeting(this));
            line.pickedUp.get(SOON.toSeconds(), TimeUnit.SECONDS);      // for the first sound
            line.pass(Duration.ofMillis(2_999));
            assertFalse(line.ear.isDone());
            assertFalse(line.speaker.speaking());
            assertEquals("initializing", line.shown.getLast().get("lk.agent.state"));
            if (confirmed) {
                talk.happens(new Event.CallerHears());
            } else {
                line.pass(MS);      // some phones send no sound before they hear ours
            }
            assertTrue(line.ear.isDone());
            talk.heard(50);
        }
    }

    /// The network may be slow, and the phone rings on.
    @Test
    void nobodyIsGreetedBeforeTheAgentsSoundComesToSomebody() throws Exception {
        var model = Talk.greeting(this);
        for (Event comes : List.of(new Event.Subscribed(), new Event.CallerHears(), LATE)) {
            var line = new TestLine();
            line.subscribes = line.answers = false;
            var talk = Talk.begun(this, line, model);
            line.pickedUp.get(SOON.toSeconds(), TimeUnit.SECONDS);
            line.pass(Duration.ofMillis(59_999));
            assertFalse(line.ear.isDone());
            assertFalse(talk.end.isDone());
            if (comes == LATE) {
                line.leap(MS);
                assertEquals("no_answer", talk.ended().reason());
                assertNull(talk.ended().answered());
                assertTrue(line.hungUp);
                continue;
            }
            talk.happens(comes);
            if (comes instanceof Event.Subscribed) {
                line.pass(Duration.ofMillis(1));
                talk.happens(comes);                // it may be said again
                line.pass(Duration.ofMillis(2_998));
                assertFalse(line.ear.isDone());
                line.pass(MS);
            }
            talk.heard(50);
            line.pass(Duration.ofMinutes(1));
            assertFalse(talk.end.isDone());
        }
    }

    private static final Event LATE = new Event.TurnChanged();

    @Test
    void whatTheAgentDoesIsShownInTheRoom() throws Exception {
        var line = new TestLine();
        var talk = Talk.begun(this, line, Talk.greeting(this));
        talk.heard(50);
        assertEquals(List.of(Map.of("lk.agent.state", "initializing"),
                Map.of("lk.agent.state", "speaking")), line.shown.stream().limit(2).toList());
        line.shown.clear();
        talk.modelSends(1, RESPONSE_CREATED);
        talk.agentSpeaks();
        talk.agentIsDone();
        talk.modelSends(1, SPEECH_STARTED, "{'type':'response.done','response':{'status':"
                + "'cancelled'}}");
        assertEquals(List.of("thinking", "speaking", "thinking", "listening"), line.shown.stream()
                .map(each -> each.get("lk.agent.state")).toList());
    }

    @Test
    void whatIsSaidIsShownInTheRoom() throws Exception {
        var talk = greeted();
        talk.line.captions.clear();
        talk.happens(new Event.CallerSaid("i1", "Hello?"), new Event.AgentSays("i2", "Good"),
                new Event.AgentSays("i2", " day."), new Event.AgentSaid("i2", "Good day."));
        assertEquals(List.of("caller Hello?|", "agent Good", "agent  day.", "agent Good day.|"),
                List.copyOf(talk.line.captions));
    }

    // Turns.

    @Test
    void bargeInIsSilenceAtOnceAndTheModelLearnsWhatWasHeard() throws Exception {
        var model = model(new Say("A long sentence.", 5_000), new Say("Yes?", 200));
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        eventually("it is being said", () -> line.heardMs.get() > 200);
        talk.callerSays(1, 400);
        var session = session(model);
        JsonObject truncate = session.await("conversation.item.truncate", _ -> true, SOON);
        assertNotNull(truncate);
        int heard = truncate.getInt("audio_end_ms") / 10 * 10;
        eventually("the next answer", () -> session.received().size() > 3
                && line.heardMs.get() >= heard + 200 && line.listening());
        assertTrue(line.heardMs.get() <= heard + 210, line.heardMs + " ms");
        noMistakes(model);
    }

    @Test
    void typedWordsBreakOffWhatIsBeingSaid() throws Exception {
        var model = model(new Say("A long sentence.", 60_000), new Say("Yes?", 50));
        model.firstSoundMs = 10;
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        eventually("it is being said", () -> line.heardMs.get() > 50);
        talk.happens(new Event.CallerWrote("Stop that."));
        var session = session(model);
        eventually("it is asked for an answer", () -> session.received().size() == 9);
        assertEquals(List.of("conversation.item.truncate", "response.cancel",
                "conversation.item.create", "response.create"), session.received().stream()
                .map(each -> each.getString("type")).skip(5).toList());
        int heard = session.received().get(5).getInt("audio_end_ms");
        assertTrue(heard >= 50, heard + " ms");
        assertEquals("user: Stop that.", told(session).get(7));
        eventually("the answer", () -> line.heardMs.get() >= heard + 50 && line.listening());
        noMistakes(model);
    }

    @Test
    void nothingIsSaidForTheCallerBeforeTheyCanHear() throws Exception {
        var line = new TestLine();
        line.answers = false;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        talk.happens(new Event.CallerWrote("Hello?"));
        talk.happens(new Event.CallerHears());
        talk.heard(50);
        assertFalse(told(session(talk.model)).contains("user: Hello?"));
    }

    @Test
    void theKeysComeOnceAndTogetherAfterAPause() throws Exception {
        var talk = greeted();
        var line = talk.line;
        talk.happens(new Event.KeyPressed("1"), new Event.KeyPressed("#"));
        line.pass(Duration.ofMillis(1_499));
        talk.happens(new Event.KeyPressed("2"));
        line.pass(Duration.ofMillis(1_499));
        assertEquals(List.of(), talk.steps(Step.KeysPressed.class));
        line.pass(MS);
        assertEquals(List.of(new Step.KeysPressed("1 # 2")), talk.steps(Step.KeysPressed.class));
        talk.happens(new Event.KeyPressed("3"));
        line.pass(Duration.ofMillis(1_500));
        assertEquals(List.of(new Step.KeysPressed("1 # 2"), new Step.KeysPressed("3")),
                talk.steps(Step.KeysPressed.class));
        var session = session(talk.model);
        eventually("told", () -> told(session).contains("user: I press 3"));
    }

    /// So nobody can keep the keys from coming, or make them grow without end.
    @Test
    void moreThan64CharactersOfKeysDoNotWaitForAPause() throws Exception {
        var talk = greeted();
        for (int i = 0; i < 31; i++) {
            talk.line.mailbox.post(new Event.KeyPressed("7"));
        }
        talk.line.pass(Duration.ofMillis(1_000));
        talk.happens(new Event.KeyPressed("8"));
        talk.line.pass(Duration.ofMillis(499));
        assertEquals(List.of(), talk.steps(Step.KeysPressed.class));
        talk.line.pass(MS);
        assertEquals(List.of(new Step.KeysPressed("7 ".repeat(31) + "8")),
                talk.steps(Step.KeysPressed.class));
    }

    @Test
    void ofAFloodOfKeysTheModelIsToldAHundred() throws Exception {
        var talk = greeted();
        for (int i = 0; i < 2_000; i++) {
            talk.line.mailbox.post(new Event.KeyPressed("7"));
        }
        talk.line.pass(Duration.ofMillis(1_500));
        talk.happens(new Event.KeyPressed("8"));
        talk.line.pass(Duration.ofMillis(1_500));
        assertEquals(List.of(new Step.KeysPressed("7 ".repeat(99) + "7"),
                new Step.KeysPressed("8")), talk.steps(Step.KeysPressed.class));
    }

    @Test
    void nonsenseFromTheModelDoesNotEndTheCall() throws Exception {
        var model = model(new Say("Hello.", 50), new Tool("ask", "{\"question\":\"x\"}"));
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        talk.heard(50);
        talk.modelSends(1, "{'type':'no.such.event'}",
                "{'type':'response.output_audio.delta','item_id':'i','delta':'?'}",
                "{'type':'response.output_item.done','item':{'type':'function_call'}}",
                "{'type':'response.done'}", "{'type':'error'}");
        talk.callerSays(1, 600);
        eventually("the tool call", () -> talk.steps.stream().anyMatch(step ->
                step instanceof Step.ToolCalled(_, var name, var arguments)
                        && name.equals("ask") && arguments.equals("{\"question\":\"x\"}")));
        eventually("its answer", () -> line.heardMs.get() > 200);
    }

    // Silence.

    @Test
    void aSilentCallerIsAskedAndThenSaidGoodbyeTo() throws Exception {
        var model = model(new Say("Hello.", 50), new Say("Are you there?", 50),
                new Say("Good.", 50), new Say("Are you there?", 50), new Say("Goodbye.", 50));
        model.firstSoundMs = 10;
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        talk.heard(50);
        line.pass(Talk.SILENCE.minus(MS));
        assertEquals(List.of(), talk.steps(Step.Silent.class));
        line.pass(MS);
        talk.heard(100);
        talk.callerSays(1, 500);
        talk.heard(150);
        line.pass(Talk.SILENCE);
        talk.heard(200);
        line.pass(Talk.SILENCE);
        assertEquals(List.of(new Step.Silent(false), new Step.Silent(false),
                new Step.Silent(true)), talk.steps(Step.Silent.class));
        talk.heard(250);
        line.pass(Duration.ofMillis(1_199));
        assertFalse(talk.end.isDone());
        line.pass(MS);
        assertEquals("silence", talk.ended().reason());
        assertTrue(line.hungUp);
        assertEquals(3, told(session(model)).stream()
                .filter(each -> each.startsWith("system: They are silent")).count());
        noMistakes(model);
    }

    @Test
    void aKeyIsASignOfLifeAtOnce() throws Exception {
        var talk = greeted();
        talk.line.pass(Talk.SILENCE.minus(MS));
        talk.happens(new Event.KeyPressed("1"));
        talk.line.pass(Duration.ofMillis(1_499));
        assertEquals(List.of(), talk.steps(Step.Silent.class));
        talk.line.pass(MS);
        talk.heard(100);                // it is answered
        talk.line.pass(Talk.SILENCE);
        talk.heard(150);                // they are asked
        talk.line.pass(Talk.SILENCE.minus(MS));
        talk.happens(new Event.KeyPressed("2"));
        talk.line.pass(Duration.ofMillis(1_500));
        talk.heard(200);
        talk.line.pass(Talk.SILENCE);
        talk.heard(250);
        talk.line.pass(Talk.SILENCE);
        talk.heard(300);                // they are said goodbye to
        talk.line.pass(Duration.ofMillis(299));
        talk.happens(new Event.KeyPressed("3"));
        talk.line.pass(MS);
        assertFalse(talk.end.isDone());
        assertEquals(Stream.of(false, false, true).map(Step.Silent::new).toList(),
                talk.steps(Step.Silent.class));
    }

    /// There may be no answer to a key, because the program need not pass it on.
    @Test
    void aKeyThatNobodyAnswersIsASignOfLife() throws Exception {
        var talk = greeted();
        talk.ignoresKeys = true;
        for (int i = 0; i < 3; i++) {
            talk.line.pass(Talk.SILENCE.minus(MS));
            talk.happens(new Event.KeyPressed("1"));
            assertEquals(List.of(), talk.steps(Step.Silent.class));
        }
        talk.line.pass(Talk.SILENCE.minus(MS));
        assertEquals(List.of(), talk.steps(Step.Silent.class));
        talk.line.pass(MS);
        assertEquals(List.of(new Step.Silent(false)), talk.steps(Step.Silent.class));
    }

    @Test
    void onlyTheCallersTurnCountsAsTheirSilence() throws Exception {
        record Case(String what, Act begins) {}
        for (Case each : List.of(
                new Case("it speaks", Talk::agentSpeaks),
                new Case("it thinks", talk -> talk.modelSends(1, RESPONSE_CREATED)),
                new Case("they speak", talk -> talk.modelSends(1, SPEECH_STARTED)),
                new Case("it says goodbye", talk -> {
                    talk.agentSpeaks();
                    talk.does(session -> session.endWhenHeard("x", "x"));
                    talk.agentIsDone();
                }))) {
            var talk = greeted();
            talk.line.pass(Talk.SILENCE.minus(MS));
            each.begins.on(talk);
            talk.line.pass(MS);
            assertEquals(List.of(), talk.steps(Step.Silent.class), each.what);
        }
    }

    private interface Act {
        void on(Talk talk) throws Exception;
    }

    // The caller waits.

    /// The time since the caller was silent counts, 2.7 s of it at most. The model says where in
    /// the sound that was; HearingTest has more on that.
    @Test
    void whoWaitsThreeSecondsForAnAnswerHearsARecording() throws Exception {
        for (var each : Map.of(0, 3_000, 1_000, 2_000, 2_700, 300, 5_400, 300).entrySet()) {
            var talk = greeted();
            talk.modelSends(1, SPEECH_STARTED);
            talk.lives(40, each.getKey());
            talk.modelSends(1, HearingTest.speechStopped("540"));       // with 500 ms of silence
            talk.line.pass(Duration.ofMillis(each.getValue() - 1));
            assertFalse(talk.line.speaker.speaking(), each.toString());
            talk.line.pass(MS);
            assertTrue(talk.line.speaker.speaking(), each.toString());
            talk.hears(Clips.MOMENT);
            assertEquals(List.of("clip 1"), talk.agentIsDone());
            talk.line.pass(Duration.ofMillis(3_000));       // and again
            assertEquals(List.of("clip 2"), talk.agentIsDone());
        }
    }

    @Test
    void whoHearsTheAgentOrSpeaksDoesNotWait() throws Exception {
        for (String who : List.of("the agent", "the caller")) {
            var talk = greeted();
            talk.modelSends(1, RESPONSE_CREATED);
            talk.line.pass(Duration.ofMillis(2_999));
            if (who.equals("the agent")) {
                talk.agentSpeaks();
            } else {
                talk.modelSends(1, SPEECH_STARTED);
            }
            talk.line.pass(Duration.ofMillis(3_001));
            assertFalse(talk.agentIsDone().contains("clip 1"), who);
            talk.modelSends(1);         // the model is not to blame
        }
    }

    @Test
    void aSlowToolIsBridgedByARecordingAndTheModelIsNotToBlame() throws Exception {
        var model = model(new Say("Hello.", 50), new Tool("slow", "{}"), new Say("So.", 50));
        model.firstSoundMs = 10;
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        talk.heard(50);
        talk.callerSays(1, 500);
        eventually("the tool", () -> !talk.steps(Step.ToolCalled.class).isEmpty());
        line.pass(Duration.ofMillis(3_000));
        eventually("one moment, please", () -> line.heardMs.get() > 1_000
                && !line.speaker.speaking());
        assertEquals(List.of(), talk.agentIsDone(), "the recording is over");
        int heard = line.heardMs.get();
        line.pass(Duration.ofMinutes(1));
        talk.agentIsDone();
        talk.modelSends(1);         // this connection is still in use
        String call = talk.steps(Step.ToolCalled.class).getFirst().id();
        int before = line.heardMs.get();
        assertTrue(before <= heard + 1_000);
        talk.does(session -> session.answer(call, "{}", true));
        eventually("the answer", () -> line.heardMs.get() == before + 50 && line.listening());
        assertEquals(1, model.sessions().size());
        noMistakes(model);
    }

    // Mailbox.

    @Test
    void anAlarmThatIsDueComesBeforeAFullQueueOfEvents() throws Exception {
        var clock = new AtomicLong();
        var mailbox = new Mailbox(clock::get);
        for (int i = 0; i < 1_000; i++) {
            mailbox.post(new Event.TurnChanged());
        }
        mailbox.alarm(Alarm.SILENCE, Duration.ofMillis(3));
        mailbox.alarm(Alarm.KEYS, Duration.ofMillis(2));
        mailbox.alarm(Alarm.TOO_LONG, Duration.ofMillis(4));
        clock.set(1_999_999);
        assertEquals(new Event.TurnChanged(), mailbox.next());
        clock.set(3_000_000);
        assertEquals(new Event.AlarmDue(Alarm.KEYS), mailbox.next());
        assertEquals(new Event.AlarmDue(Alarm.SILENCE), mailbox.next());
        assertEquals(new Event.TurnChanged(), mailbox.next());
    }

    @Test
    void anAlarmCanBeMovedAndCancelled() throws Exception {
        var clock = new AtomicLong(Long.MAX_VALUE - 1_500_000);     // it may overflow
        var mailbox = new Mailbox(clock::get);
        mailbox.alarm(Alarm.NO_ANSWER, Duration.ofMillis(6));
        mailbox.alarm(Alarm.PICK_UP, Duration.ofMillis(1));
        mailbox.alarm(Alarm.KEYS, Duration.ofMillis(2));
        mailbox.alarm(Alarm.KEYS, Duration.ofMillis(5));
        mailbox.alarmUnlessSet(Alarm.KEYS, Duration.ofMillis(9));
        mailbox.alarmUnlessSet(Alarm.SILENCE, Duration.ofMillis(4));
        mailbox.alarm(Alarm.HEARD, Duration.ofMillis(1));
        mailbox.cancel(Alarm.HEARD);
        clock.addAndGet(1_000_000);
        assertEquals(new Event.AlarmDue(Alarm.PICK_UP), mailbox.next());
        mailbox.post(new Event.TurnChanged());
        clock.addAndGet(2_999_999);
        assertEquals(new Event.TurnChanged(), mailbox.next());
        clock.addAndGet(1);
        assertEquals(new Event.AlarmDue(Alarm.SILENCE), mailbox.next());
        clock.addAndGet(1_000_000);
        assertEquals(new Event.AlarmDue(Alarm.KEYS), mailbox.next());
    }
}
