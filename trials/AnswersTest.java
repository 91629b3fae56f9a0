package trials;

import module java.base;
import demo.DemoModel;
import demo.DemoModel.Nothing;
import demo.DemoModel.Say;
import demo.DemoModel.Together;
import demo.DemoModel.Tool;
import demo.DemoModel.Write;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Test;
import voice.Clips;
import voice.End;
import voice.Event;
import voice.Step;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/: what the model answers, and what it is asked for. An answer may be one that nobody can
/// hear, come late, be overtaken by the caller, and bring tool calls. LostModelTest has a model
/// that does not answer at all.
public final class AnswersTest extends Stand {
    private static final String HEARD = "its answers cannot be heard";

    private static String created(String response) {
        return "{'type':'response.created','response':{'id':'" + response + "'}}";
    }

    private static String sound(String response, String item, int ms) {
        return Talk.sound(item, ms).replace("'item_id'",
                "'response_id':'" + response + "','item_id'");
    }

    private static String said(String item, String text) {
        return "{'type':'response.output_audio_transcript.delta','item_id':'" + item
                + "','delta':'" + text + "'}";
    }

    private static String done(String response, String status) {
        return "{'type':'response.done','response':{'id':'" + response + "','status':'" + status
                + "'}}";
    }

    private static String started(String item) {
        return SessionTest.SPEECH_STARTED.replace("words", item);
    }

    private static String stopped(String item) {
        return SessionTest.SPEECH_STOPPED.replace("words", item);
    }

    private static String call(String response, String callId, String name) {
        return "{'type':'response.function_call_arguments.done','response_id':'" + response
                + "','call_id':'" + callId + "','name':'" + name + "','arguments':'{}'}";
    }

    private static String item(String response, String callId, String status) {
        return "{'type':'response.output_item.done','response_id':'" + response + "','item':{"
                + "'type':'function_call','call_id':'" + callId + "','name':'report',"
                + "'arguments':'{}','status':'" + status + "'}}";
    }

    private static List<JsonObject> asked(DemoModel model) {
        return model.sessions().stream().flatMap(each -> each.received().stream())
                .filter(event -> event.getString("type").equals("response.create")).toList();
    }

    private DemoModel quick(DemoModel.Step... script) throws IOException {
        var model = model(script);
        model.firstSoundMs = 10;
        return model;
    }

    private Talk begun(DemoModel model) {
        return Talk.begun(this, new TestLine(), model);
    }

    // Answers that the caller cannot hear.

    @Test
    void anAnswerThatCannotBeHeardIsAskedForOnceMore() throws Exception {
        for (DemoModel.Step mute : List.of(new Write("Hello."), new Nothing("completed"),
                new Nothing("incomplete"))) {
            var model = quick(mute, new Say("Hello.", 50), mute, new Say("Yes?", 50));
            var talk = begun(model);
            talk.heard(50);
            assertEquals(2, asked(model).size());
            assertTrue(asked(model).stream().allMatch(each -> each.toString()
                    .contains("you speak first")), "both times it is the greeting");
            talk.callerSays(1, 600);
            talk.heard(100);
            assertEquals(3, asked(model).size());
            assertEquals(1, model.sessions().size());
            noMistakes(model);
        }
    }

    @Test
    void thenItIsAskedForInANewConnectionAndThenTheModelIsLost() throws Exception {
        for (DemoModel.Step mute : List.of(new Write("Hello."), new Nothing("completed"),
                new Nothing("incomplete"))) {
            var model = quick();
            model.afterScript = mute;
            var talk = begun(model);
            talk.hears(Clips.GOODBYE);
            talk.agentIsDone();
            talk.line.pass(Duration.ofMillis(300));
            End end = talk.ended();
            assertEquals("model_lost", end.reason());
            assertEquals(HEARD, end.cause());
            assertEquals(2, model.sessions().size());
            assertEquals(4, asked(model).size());
            noMistakes(model);
        }
    }

    @Test
    void aNewConnectionMayHelp() throws Exception {
        var model = quick();
        model.scripts.add(List.of(new Say("Hello.", 50), new Nothing("completed"),
                new Nothing("completed")));
        model.scripts.add(List.of(new Nothing("completed"), new Say("I see.", 50)));
        var talk = begun(model);
        talk.heard(50);
        talk.callerSays(1, 600);
        talk.hears(Clips.MOMENT);
        eventually("the answer", () -> talk.line.captions.contains("agent I see."));
        eventually("it is heard", () -> talk.line.listening());
        assertEquals(2, model.sessions().size());
        noMistakes(model);
    }

    @Test
    void whatIsOnlyWrittenBelongsToTheConversation() throws Exception {
        var model = quick(new Say("Hello.", 50), new Write("In writing."), new Say("So.", 50));
        var talk = begun(model);
        talk.heard(50);
        talk.callerSays(1, 600);
        talk.heard(100);
        assertTrue(talk.line.captions.containsAll(List.of("agent In writing.",
                "agent In writing.|")), talk.line.captions.toString());
        session(model, 1).drop();
        var next = session(model, 2);
        eventually("it is told", () -> told(next).toString().contains(
                "assistant: In writing. (in writing: the caller has not heard it)"));
    }

    /// A noise has broken off the agent, and there is nothing to answer.
    @Test
    void anEmptyAnswerToANoiseIsLeftAlone() throws Exception {
        record Case(boolean agentSpeaks, String transcript, boolean late, int more) {}
        for (Case each : List.of(new Case(true, " ", true, 0), new Case(true, " ", false, 0),
                new Case(true, "Hello?", true, 1), new Case(true, "Hello?", false, 1),
                new Case(false, " ", false, 1))) {
            var model = quick(new Say("Hello.", 50));
            model.afterScript = new Nothing("completed");
            model.transcript = each.transcript;
            model.createdMs = each.late ? 0 : 400;      // the transcript takes 150 ms
            var talk = begun(model);
            talk.heard(50);
            if (each.agentSpeaks) {
                talk.agentSpeaks();
            }
            talk.callerSays(1, 600);
            var session = session(model, 1);
            assertNotNull(session.awaitSent(
                    "conversation.item.input_audio_transcription.completed", _ -> true, SOON));
            String first = session.awaitSent("response.done", _ -> true, SOON).toString();
            assertNotNull(session.awaitSent("response.done", event -> !event.toString()
                    .equals(first), SOON), "an answer to the turn");
            eventually(each.toString(), () -> asked(model).size() >= 1 + each.more);
            if (each.more == 0) {
                talk.modelSends(1);
                assertTrue(talk.line.listening(), "it is the caller's turn");
                talk.line.pass(Talk.SILENCE);
                eventually("they are asked whether they are there",
                        () -> !talk.steps(Step.Silent.class).isEmpty());
            }
        }
    }

    @Test
    void anAnswerThatTheServiceCancelsByItselfIsAskedForOnceMore() throws Exception {
        var talk = scripted();
        talk.modelSends(1, started("1"), stopped("1"), created("a"), done("a", "cancelled"));
        eventually("it is asked", () -> asked(talk.model).size() == 2);
        talk.modelSends(1, created("b"), sound("b", "i", 50), done("b", "cancelled"));
        talk.heard(100);            // that was an answer
    }

    private static String transcript(String item, String text) {
        return "{'type':'conversation.item.input_audio_transcription.completed','item_id':'" + item
                + "','transcript':'" + text + "'}";
    }

    /// The agent has greeted. From now on the model responds only what the test sends.
    private Talk scripted() throws Exception {
        var talk = Talk.greeted(this, Talk.SALES);
        talk.model.responds = false;
        return talk;
    }

    private static void assertState(String state, Talk talk, Object of) {
        assertEquals(state, talk.line.shown.getLast().get("lk.agent.state"), of.toString());
    }

    /// Of noises and words, and whichever is written down first.
    @Test
    void anEmptyAnswerIsLeftAloneIfAllThatTheCallerHasSaidIsNoise() throws Exception {
        record Case(List<String> transcripts, String state) {}
        String noise1 = transcript("1", " "), noise2 = transcript("2", "");
        for (Case each : List.of(
                new Case(List.of(transcript("0", "Hello"), noise1, noise2), "listening"),
                new Case(List.of(noise2, noise1, transcript("0", "Hello")), "listening"),
                new Case(List.of(noise1), "thinking"), new Case(List.of(noise2), "thinking"),
                new Case(List.of(transcript("1", "Stop."), noise2), "thinking"),
                new Case(List.of(noise1, transcript("2", "Stop.")), "thinking"))) {
            for (boolean first : List.of(true, false)) {
                var talk = scripted();
                talk.modelSends(1, started("0"), stopped("0"), created("a"), sound("a", "i", 50),
                        done("a", "completed"));
                talk.heard(100);
                talk.agentSpeaks();
                talk.modelSends(1, started("1"), stopped("1"), created("b"), started("2"),
                        done("b", "cancelled"), stopped("2"), created("c"));
                var events = new ArrayList<>(each.transcripts);
                events.add(first ? 0 : events.size(), done("c", "completed"));
                talk.modelSends(1, events.toArray(String[]::new));
                assertState(each.state, talk, each);
            }
        }
    }

    @Test
    void aNoiseDoesNotHideWhatTheModelWasTold() throws Exception {
        var talk = scripted();
        talk.agentSpeaks();
        talk.modelSends(1, started("1"));
        talk.does(call -> call.tell("The transfer has failed."));
        var session = session(talk.model, 1);
        eventually("it is told", () -> told(session).contains("system: The transfer has failed."));
        talk.modelSends(1, stopped("1"), transcript("1", ""), created("a"), done("a", "completed"));
        eventually("it is asked", () -> asked(talk.model).size() == 2);
    }

    /// The recording is no answer to the question.
    @Test
    void aNoiseThatBreaksOffTheRecordingLeavesTheQuestionBefore() throws Exception {
        var talk = scripted();
        talk.modelSends(1, started("1"), stopped("1"), transcript("1", "Hello?"), created("a"));
        talk.line.pass(Duration.ofSeconds(3));
        talk.hears(Clips.MOMENT);
        talk.modelSends(1, started("2"), done("a", "cancelled"), stopped("2"),
                transcript("2", ""), created("b"), done("b", "completed"));
        assertState("thinking", talk, "it is asked");
        eventually("it is asked", () -> asked(talk.model).size() == 2);
    }

    @Test
    void nobodyWaitsForATranscriptThatTheServiceHasRefusedToWrite() throws Exception {
        var model = Talk.greeting(this);
        model.transcriptionModels = List.of("one", "two");
        var talk = begun(model);
        talk.heard(50);
        model.responds = false;
        talk.agentSpeaks();
        talk.modelSends(1, started("1"), stopped("1"), created("a"), done("a", "completed"));
        eventually("it is asked", () -> asked(model).size() == 2);
    }

    // Events that other services leave out, or send twice.

    @Test
    void anAnswerIsKnownWithoutEventsThatAServiceMayLeaveOut() throws Exception {
        String said = sound("r", "i", 50), done = done("r", "completed");
        for (var answer : List.of(List.of(created("r"), said, done), List.of(said, done),
                List.of(said.replace("'response_id':'r',", ""), done.replace("'id':'r',", "")),
                List.of(created("r"), said, "{'type':'response.done','response':{}}"),
                List.of(created("r"), said, created("r"), done, done, created("r")),
                List.of(created("r"), said, stopped("1"), done))) {
            for (boolean turn : List.of(true, false)) {
                var talk = scripted();
                if (turn) {
                    talk.modelSends(1, started("1"), stopped("1"));
                } else {
                    talk.does(call -> call.tell("Something."));
                    eventually("it is asked", () -> asked(talk.model).size() == 2);
                }
                talk.modelSends(1, answer.toArray(String[]::new));
                talk.heard(100);
            }
        }
    }

    @Test
    void aResponseThatDidNotBeginIsAskedForOnceMoreIfItBringsNothing() throws Exception {
        for (String answer : List.of(done("r", "completed"), "{'type':'response.done','response':"
                + "{}}")) {
            var talk = scripted();
            talk.modelSends(1, started("1"), stopped("1"), answer);
            eventually("it is asked", () -> asked(talk.model).size() == 2);
        }
    }

    @Test
    void aResponseThatDidNotBeginMayCallATool() throws Exception {
        var talk = scripted();
        talk.modelSends(1, started("1"), stopped("1"), item("r", "c", "completed"),
                sound("r", "i", 50), done("r", "completed"));
        talk.heard(100);
        assertEquals(1, talk.steps(Step.ToolCalled.class).size());
    }

    /// So what breaks after that has not broken off a sentence.
    @Test
    void aSentenceEndsWithItsResponse() throws Exception {
        var talk = scripted();
        talk.modelSends(1, created("r"), sound("r", "i", 50), done("r", "completed"));
        talk.heard(100);
        session(talk.model, 1).drop();
        session(talk.model, 2);
        talk.modelSends(2);
        assertState("listening", talk, "nothing is to be said");
    }

    @Test
    void whoInterruptsIsHeardAlsoIfTheServiceGivesNoIds() throws Exception {
        var talk = scripted();
        talk.agentSpeaks();
        talk.modelSends(1, "{'type':'input_audio_buffer.speech_started'}");
        assertFalse(talk.line.speaker.speaking());
    }

    /// Neither the type of an error nor a code in words is there in every service.
    @Test
    void whoIsRefusedInOtherWordsAsksAgainToo() throws Exception {
        for (String refusal : List.of("{'type':'error','error':{'message':'x'}}",
                "{'type':'error','error':{'type':'x','code':429,'message':'x'}}",
                "{'type':'response.done','response':{'status':'failed'}}",
                "{'type':'response.done','response':{'status':'failed','status_details':{'error':{"
                        + "'type':1,'code':429,'message':null}}}}")) {
            var talk = scripted();
            talk.does(call -> call.tell("Something."));
            eventually("it is asked", () -> asked(talk.model).size() == 2);
            talk.modelSends(1, refusal);
            talk.line.pass(Duration.ofMillis(300));
            eventually("it is asked again", () -> asked(talk.model).size() == 3);
            talk.modelSends(1, created("r"), sound("r", "i", 50), done("r", "completed"),
                    "{'type':'error','error':{'message':'nobody waits for anything'}}");
            talk.heard(100);
            assertEquals(1, talk.model.sessions().size());
        }
    }

    /// The new connection cannot hear the question once more: 15 s of sound are kept.
    @Test
    void aQuestionThatIsLongAgoIsAskedInWriting() throws Exception {
        var talk = scripted();
        talk.callerSays(1, 600);
        var session = session(talk.model, 1);
        assertNotNull(session.awaitSent("conversation.item.input_audio_transcription.completed",
                _ -> true, SOON));
        talk.lives(0, 9_500);
        talk.model.refuseWith = 503;
        talk.line.live(0, 1_000);
        eventually("10 s without an answer", () -> talk.model.refused() > 0);
        talk.line.live(0, 5_500);
        talk.line.settle();
        // What began to connect before that has heard the question.
        eventually("it pauses", () -> !talk.connects());
        talk.model.refuseWith = 0;
        talk.later("it is back", () -> talk.model.sessions().size() == 2);
        var next = session(talk.model, 2);
        eventually("it is asked", () -> asked(talk.model).size() == 2);
        assertTrue(told(next).contains("user: (0.6 s of speech)"), told(next).toString());
    }

    /// Nobody waits for an answer, but the connection breaks as soon as it is there.
    @Test
    void theRecordingIsRepeatedAlsoIfTheModelIsBackNowAndThen() throws Exception {
        var talk = scripted();
        var away = new Event.ModelAway("x", Duration.ZERO);
        for (String clip : List.of("clip 1", "", "", "clip 2", "", "", "clip 3")) {
            talk.happens(away);
            talk.line.pass(Duration.ofSeconds(1));
            assertEquals(clip, String.join("", talk.agentIsDone()));
            talk.happens(new Event.ModelBack());
        }
    }

    /// Each time a little sound comes. The agent would never end to begin.
    @Test
    void aModelThatFailsInEveryAnswerIsGivenUpAfterEightSeconds() throws Exception {
        for (boolean cut : List.of(true, false)) {
            var talk = scripted();
            long since = talk.line.mailbox.nanos();
            talk.does(call -> call.tell("Something."));
            for (int tries = 2; !talk.end.isDone(); tries++) {
                assertTrue(tries < 20, "it is asked again and again");
                int least = tries, before = talk.model.sessions().size();
                eventually("it is asked, or given up", () -> {
                    talk.line.speaker.clear();
                    if (talk.model.sessions().size() == before) {   // the call waits for the time
                        talk.line.leap(Duration.ofMillis(100));
                    }
                    return talk.end.isDone() || asked(talk.model).size() >= least;
                });
                if (!talk.end.isDone()) {
                    var sessions = talk.model.sessions();
                    talk.modelSends(sessions.size(), created("r" + tries),
                            sound("r" + tries, "i" + tries, 20));
                    if (cut) {
                        sessions.getLast().drop();
                    } else {
                        sessions.getLast().sendText(done("r" + tries, "failed").replace('\'',
                                '"'));
                    }
                }
            }
            long seconds = (talk.line.mailbox.nanos() - since) / 1_000_000_000;
            assertTrue(seconds >= 8, seconds + " s");
            assertEquals("model_lost", talk.ended().reason());
        }
    }

    // Tool calls.

    @Test
    void aToolRunsWhenItsItemOrItsResponseIsComplete() throws Exception {
        record Case(List<String> events, int runs) {}
        for (Case each : List.of(
                new Case(List.of(call("r", "c", "ask")), 0),
                new Case(List.of(call("r", "c", "ask"), item("r", "c", "completed")), 1),
                new Case(List.of(call("r", "c", "ask"), done("r", "completed")), 1),
                new Case(List.of(call("r", "c", "ask"),
                        done("r", "").replace(",'status':''", "")), 1),
                new Case(List.of(item("r", "c", "completed"), done("r", "cancelled")), 1),
                new Case(List.of(call("r", "c", "ask"), item("r", "c", "completed"),
                        done("r", "completed")), 1),
                new Case(List.of(call("r", "c", "ask"), item("r", "c", "incomplete"),
                        done("r", "cancelled")), 0),
                new Case(List.of(call("r", "c", "ask"), item("r", "c", "incomplete"),
                        done("r", "completed")), 0),
                new Case(List.of(call("r", "c", "ask"), done("r", "cancelled")), 0),
                new Case(List.of(call("r", "c", "ask"), done("r", "incomplete")), 0),
                new Case(List.of(call("r", "c", "ask"), done("r", "failed")), 0),
                new Case(List.of(done("r", "cancelled"), call("r", "c", "ask")), 0))) {
            var talk = Talk.greeted(this, Talk.SALES);
            session(talk.model, 1).getStuck();          // it says only what is said here
            talk.modelSends(1, created("r"));
            talk.modelSends(1, each.events.toArray(String[]::new));
            assertEquals(each.runs, talk.steps(Step.ToolCalled.class).size(), each.toString());
        }
    }

    @Test
    void aCallThatTheCallerTakesBackIsNotMade() throws Exception {
        var model = quick(new Say("Hello.", 50), new Tool("ask", "{}"), new Say("So.", 50));
        var talk = begun(model);
        talk.heard(50);
        model.toolEndMs = 60_000;
        talk.callerSays(1, 600);
        var session = session(model, 1);
        assertNotNull(session.awaitSent("response.function_call_arguments.done", _ -> true, SOON));
        talk.line.say(session, 600);
        talk.heard(100);
        assertEquals(List.of(), talk.steps(Step.ToolCalled.class));
        noMistakes(model);
    }

    @Test
    void whoSpeaksAndReportsDoesNotSpeakTwice() throws Exception {
        var say = new Say("Noted.", 50);
        var report = new Tool("report", "{}");
        for (var each : Map.of(new Together(say, report), 0, new Together(report, say), 0,
                new Together(report, report), 1, report, 1,
                new Together(say, new Tool("ask", "{}")), 1).entrySet()) {
            var model = quick(new Say("Hello.", 50), each.getKey());
            model.afterScript = new Say("More.", 50);
            var talk = begun(model);
            talk.heard(50);
            talk.callerSays(1, 600);
            talk.heard(each.getKey() instanceof Together(var parts) && parts.contains(say)
                    ? 100 + 50 * each.getValue() : 100);
            assertEquals(1 + each.getValue(), asked(model).size(), each.toString());
            noMistakes(model);
        }
    }

    @Test
    void aModelThatCallsToolsAgainAndAgainIsAskedForAnAnswerWithoutTools() throws Exception {
        var model = quick(new Say("Hello.", 50));
        model.afterScript = new Tool("ask", "{}");
        var talk = begun(model);
        talk.heard(50);
        for (int turn = 1; turn <= 2; turn++) {
            talk.callerSays(1, 600);
            talk.heard(50 + 800 * turn);
            assertEquals(5 * turn, talk.steps(Step.ToolCalled.class).size());
            assertEquals(turn, asked(model).stream().filter(each -> each.toString()
                    .contains("\"tool_choice\":\"none\"")).count());
        }
        noMistakes(model);
    }

    /// What it calls then is not done, so it has answered nothing.
    @Test
    void aModelThatCallsToolsAllTheSameIsLost() throws Exception {
        var model = quick();
        model.scripts.add(List.of(new Say("Hello.", 50)));
        model.afterScript = new Tool("ask", "{}");
        model.minds = false;
        var talk = begun(model);
        talk.heard(50);
        talk.happens(new Event.CallerWrote("Hello?"));
        talk.hears(Clips.GOODBYE);
        assertEquals(5, talk.steps(Step.ToolCalled.class).size());
        talk.agentIsDone();
        talk.line.pass(Duration.ofMillis(300));
        assertEquals(HEARD, talk.ended().cause());
        noMistakes(model);
    }

    // What is told while a question is on its way.

    @Test
    void anAnswerThatTheCallerHasOvertakenIsCancelledAsItIsCreated() throws Exception {
        var model = quick(new Say("Hello.", 50), new Say("A stale answer.", 5_000),
                new Say("The answer.", 70));
        var talk = begun(model);
        talk.heard(50);
        model.createdMs = 300;
        talk.happens(new Event.CallerWrote("Hello?"));
        var session = session(model, 1);
        assertNotNull(session.await("response.create", e -> asked(model).size() == 2, SOON));
        talk.line.say(session, 600);            // they say more, before the answer is created
        talk.heard(120);
        noMistakes(model);
    }

    @Test
    void whatIsNotConfirmedBeforeAnAnswerIsCreatedIsAskedForAfterIt() throws Exception {
        record Case(String what, Consumer<voice.Session> act, boolean confirmed) {}
        Consumer<voice.Session> tell = session -> session.tell("The transfer has failed.");
        Consumer<voice.Session> say = session -> session.callerSays("Stop.");
        for (Case each : List.of(
                new Case("the program", tell, true), new Case("the program", tell, false),
                new Case("the caller", say, true), new Case("the caller", say, false),
                new Case("a tool", call -> call.answer("call", "{}", true), false))) {
            var talk = Talk.greeted(this, Talk.SALES);
            var session = session(talk.model, 1);
            talk.model.responds = false;                // this test does
            talk.does(call -> call.tell("Something else."));
            eventually("it is asked", () -> asked(talk.model).size() == 2);
            talk.modelSends(1);
            if (!each.confirmed) {
                session.getStuck();
            }
            talk.does(each.act);
            if (each.confirmed) {
                eventually("it stands there", () -> told(session).stream()
                        .filter(one -> one.endsWith(" failed.") || one.endsWith("Stop."))
                        .count() == 1);
                talk.modelSends(1);
            }
            int heard = talk.line.heardMs.get();
            talk.modelSends(1, created("r"), sound("r", "i", 50), done("r", "completed"));
            boolean spoken = each.confirmed || !each.what.equals("the caller");
            eventually("the answer", () -> talk.line.heardMs.get() == heard + (spoken ? 50 : 0)
                    && !talk.line.speaker.speaking());
            talk.line.settle();
            assertEquals(each.confirmed ? "listening" : "thinking",
                    talk.line.shown.getLast().get("lk.agent.state"), each.toString());
        }
    }

    @Test
    void soundOfAResponseThatIsOverIsNotPlayed() throws Exception {
        for (String status : List.of("cancelled", "completed")) {
            var talk = Talk.greeted(this, Talk.SALES);
            talk.modelSends(1, created("r1"), sound("r1", "i1", 50));
            eventually("it is heard", () -> talk.line.heardMs.get() == 100);
            talk.modelSends(1, done("r1", status), sound("r1", "i2", 500), created("r2"),
                    sound("r1", "i3", 500), sound("r2", "i4", 70), done("r2", "completed"));
            talk.heard(170);
        }
    }

    /// Interrupted before the first sound of the answer, and nothing of it is played.
    @Test
    void soundThatComesAfterTheCallersWordsIsNotPlayed() throws Exception {
        var talk = Talk.greeted(this, Talk.SALES);
        talk.modelSends(1, created("r1"), SessionTest.SPEECH_STARTED, sound("r1", "i1", 500),
                done("r1", "cancelled"), SessionTest.SPEECH_STOPPED, created("r2"),
                sound("r2", "i2", 70), done("r2", "completed"));
        talk.heard(120);
    }

    /// Neither in this connection nor in the next one.
    @Test
    void theModelDoesNotBelieveThatTheCallerHasHeardWhatIsNotPlayed() throws Exception {
        var talk = scripted();
        talk.modelSends(1, started("1"), created("r1"), said("i1", "A stale"),
                sound("r1", "i1", 97), said("i1", " answer."), sound("r1", "i1", 97),
                sound("r1", "i2", 97),
                said("i2", "More."), done("r1", "cancelled"), stopped("1"), created("r2"),
                said("i3", "Yes."), sound("r2", "i3", 50), done("r2", "completed"));
        talk.heard(100);
        var session = session(talk.model, 1);
        for (String item : List.of("i1", "i2")) {
            assertNotNull(session.await("conversation.item.truncate", e -> e.getString("item_id")
                    .equals(item) && e.getInt("audio_end_ms") == 0, SOON));
        }
        session.drop();
        var next = session(talk.model, 2);
        eventually("it is told", () -> told(next).contains("assistant: Yes."));
        assertEquals(List.of("assistant: Hello.", "assistant: Yes."), told(next).stream()
                .filter(each -> each.startsWith("assistant")).toList());
        assertEquals(2, session.received().stream().filter(e -> e.getString("type")
                .equals("conversation.item.truncate")).count());
    }

    /// The call's thread has other things to do, too.
    @Test
    void aBargeInThatIsTakenLateDoesNotBreakOffTheNextAnswer() throws Exception {
        var talk = Talk.greeted(this, Talk.SALES);
        var busy = new CountDownLatch(1);
        var released = new CountDownLatch(1);
        talk.agentSpeaks();
        talk.begins(_ -> {
            busy.countDown();
            try {
                released.await(SOON.toSeconds(), TimeUnit.SECONDS);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        });
        assertTrue(busy.await(SOON.toSeconds(), TimeUnit.SECONDS));
        var session = session(talk.model, 1);
        session.sendText(SessionTest.SPEECH_STARTED.replace('\'', '"'));
        eventually("the sentence is broken off", () -> !talk.line.speaker.speaking());
        int before = talk.line.heardMs.get();
        for (String event : List.of(SessionTest.SPEECH_STOPPED, created("r"),
                sound("r", "i", 2_000), done("r", "completed"))) {
            session.sendText(event.replace('\'', '"'));
        }
        eventually("the answer begins", () -> talk.line.heardMs.get() > before);
        released.countDown();
        talk.line.settle();
        eventually("all of it is heard", () -> talk.line.listening());
        assertEquals(before + 2_000, talk.line.heardMs.get());
    }
}
