package trials;

import module java.base;
import demo.DemoModel;
import demo.DemoModel.Fail;
import demo.DemoModel.Say;
import demo.DemoModel.Stall;
import demo.DemoModel.Tool;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import trials.EndingTest.State;
import voice.Clips;
import voice.End;
import voice.Event;
import voice.Step;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/: a connection to the model that breaks, fails or gets stuck. It is replaced, and the new
/// connection is told what the old one knew. If that is of no use for 8 s, the model is lost: a
/// colleague or a recording takes over. SessionTest has the conversation with a model that works.
public final class LostModelTest extends Stand {
    private static final Duration MS = SessionTest.MS;
    private static final Event LOST = new Event.ModelLost("it is gone");
    private static final Map<String, String> BOTH = Map.of("sales", "tel:+15550001111",
            "support", "tel:+15550003333");

    /// A model whose first connection answers once, with `first`, and whose second connection
    /// answers once, with `second`. Both answer at once.
    private DemoModel quick(DemoModel.Step first, DemoModel.Step second) throws IOException {
        var model = replaced(first, second);
        model.firstSoundMs = 10;
        return model;
    }

    private Talk greeted(Map<String, String> destinations) throws Exception {
        return Talk.greeted(this, destinations);
    }

    // What a new connection is told.

    @Test
    void aLostModelIsReplacedAndToldWhatTheOldOneKnew() throws Exception {
        var model = model();
        model.scripts.add(List.of(new Say("Hello.", 200),
                new Tool("ask", "{\"question\":\"a refund\"}"), new Say("Noted.", 300)));
        model.scripts.add(List.of(new Say("Yes?", 400)));
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        talk.heard(200);
        talk.callerSays(1, 600);
        talk.heard(500);
        var old = session(model, 1);
        assertNotNull(old.awaitSent("conversation.item.input_audio_transcription.completed",
                _ -> true, SOON));
        talk.modelSends(1);         // it is taken
        old.drop();
        var next = session(model, 2);
        eventually("it is told all", () -> next.received().size() >= 9);
        var told = new ArrayList<>(told(next));
        assertEquals(told(old).get(3), told.remove(3)); // about the caller
        assertEquals(List.of("update", "update", "update", "assistant: Hello.",
                "user: (0.6 s of speech)", "call ask", "output {\"done\":true}",
                "assistant: Noted."), told);
        assertEquals(old.session().getString("instructions"),
                next.session().getString("instructions"));
        assertEquals(old.session().getJsonArray("tools"), next.session().getJsonArray("tools"));
        assertEquals(1, next.session().getJsonArray("tools").size());
        talk.callerSays(2, 600);
        talk.heard(900);
        assertFalse(loud(next.heard(), 700), "a turn was told in writing and as sound");
        noMistakes(model);
        assertEquals(1, talk.steps(Step.ToolCalled.class).size());
    }

    /// Is there more than so many ms of sound that is not silence?
    private static boolean loud(byte[] pcm, int ms) {
        int loud = 0;
        for (int i = 0; i < pcm.length; i += 480) {
            loud += Arrays.equals(pcm, i, Math.min(i + 480, pcm.length), new byte[480], 0,
                    Math.min(480, pcm.length - i)) ? 0 : 10;
        }
        return loud > ms;
    }

    @Test
    void whatTheCallerWasSayingIsHeardAgain() throws Exception {
        var model = quick(new Say("Hello.", 50), new Say("I see.", 50));
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        talk.heard(50);
        line.say(1_000, 0);
        // This service writes down what was said before the caller has finished.
        talk.modelSends(1, "{'type':'conversation.item.input_audio_transcription.completed',"
                + "'item_id':'" + callersItem(session(model, 1)) + "','transcript':'A secret'}");
        session(model, 1).drop();
        var next = session(model, 2);
        callersItem(next);
        talk.modelSends(2);
        line.say(500);
        talk.heard(100);
        var stopped = next.awaitSent("input_audio_buffer.speech_stopped", _ -> true, SOON);
        var started = next.awaitSent("input_audio_buffer.speech_started", _ -> true, SOON);
        int ms = stopped.getInt("audio_end_ms") - started.getInt("audio_start_ms") - 500;
        assertTrue(ms >= 1_400 && ms <= 1_600, ms + " ms of 1500 were heard in one turn");
        assertFalse(told(next).toString().contains("user: "), told(next).toString());
        noMistakes(model);
    }

    private static String callersItem(DemoModel.Session session) {
        return session.awaitSent("input_audio_buffer.speech_started", _ -> true, SOON)
                .getString("item_id");
    }

    @Test
    void cutOffInMidSentenceItGoesOnFromThere() throws Exception {
        var model = quick(new Say("A long sentence. ".repeat(40), 20_000),
                new Say("As I was saying.", 400));
        var line = new TestLine();
        Talk.begun(this, line, model);
        eventually("it is being said", () -> line.heardMs.get() > 100);
        session(model, 1).drop();
        var next = session(model, 2);
        assertNotNull(next.await("response.create", _ -> true, SOON));
        List<String> told = told(next);
        assertTrue(told.get(4).startsWith("assistant: A"), told.toString());
        assertTrue(told.get(5).contains("Go on where you stopped"), told.toString());
        int had = session(model, 1).spokenMs(itemSpoken(session(model, 1)));
        // Two pieces of sound may have been on their way when the connection was cut.
        eventually("it goes on",
                () -> line.heardMs.get() >= had - 2 * DemoModel.DELTA_MS + 400);
        noMistakes(model);
    }

    /// Of a sentence that was broken off, the new connection is told the part that was heard.
    @Test
    void whatTheCallerHasNotHeardIsNotTold() throws Exception {
        var talk = greeted(Talk.SALES);
        talk.modelSends(1, SessionTest.RESPONSE_CREATED,
                "{'type':'response.output_audio_transcript.delta','item_id':'sentence',"
                        + "'delta':'01234567890123456789'}",
                Talk.sound("sentence", 1_000));
        eventually("some of it is heard", () -> talk.line.heardMs.get() >= 250);
        talk.modelSends(1, SessionTest.SPEECH_STARTED);
        talk.modelSends(1,
                "{'type':'response.output_audio_transcript.delta','item_id':'sentence',"
                        + "'delta':' and this comes after it'}",
                "{'type':'response.done','response':{'status':'cancelled'}}",
                SessionTest.SPEECH_STOPPED);
        var old = session(talk.model, 1);
        var truncate = old.await("conversation.item.truncate", _ -> true, SOON);
        int heard = truncate.getInt("audio_end_ms");
        assertTrue(heard >= 200 && heard <= 1_000, truncate.toString());
        old.drop();
        var next = session(talk.model, 2);
        eventually("it is told", () -> next.received().size() >= 6);
        assertEquals("assistant: " + "01234567890123456789".substring(0, 20 * heard / 1_000)
                + " (interrupted)", told(next).get(5));
    }

    // A connection that does not answer.

    private static void assertAnswers(DemoModel.Session session) {
        assertNotNull(session.awaitSent("response.output_audio.delta", _ -> true, SOON));
    }

    /// 1.2 s after the caller has begun, the model is asked whether it is there. It has 2.4 s.
    @Test
    void aModelThatIsStuckIsNoticedWhenTheCallerHasSpoken() throws Exception {
        var model = quick(new Say("Hello.", 50), new Say("I see.", 50));
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        talk.heard(50);
        session(model, 1).getStuck();
        // It was told what the first one has not heard.
        assertAnswers(talk.isGivenUpAfter(600, 3_020));
        noMistakes(model);
    }

    @Test
    void aModelThatIsStuckIsNoticedWhileTheCallerSpeaks() throws Exception {
        var model = quick(new Say("Hello.", 50), new Say("I see.", 50));
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        talk.heard(50);
        line.say(500, 0);
        callersItem(session(model, 1));
        talk.modelSends(1);
        session(model, 1).getStuck();
        assertAnswers(talk.isGivenUpAfter(600, 3_440));
        noMistakes(model);
    }

    @Test
    void aModelThatSendsNothingWhileTheCallerSpeaksOnAndOnIsStuck() throws Exception {
        var talk = greeted(Talk.SALES);
        talk.line.say(500, 0);
        callersItem(session(talk.model, 1));
        talk.modelSends(1);
        session(talk.model, 1).getStuck();
        talk.isGivenUpAfter(10_440, 0);
    }

    @Test
    void aModelThatStillSendsSomethingIsNotGivenUp() throws Exception {
        var talk = greeted(Talk.SALES);
        session(talk.model, 1).getStuck();
        talk.line.live(600, 3_020);
        talk.modelSends(1);         // that is its answer
        talk.line.live(0, 5_000);
        talk.modelSends(1);
        talk.line.pass(Duration.ofSeconds(9));
        talk.modelSends(1);
        assertEquals(1, talk.model.sessions().size());
    }

    @Test
    void aModelThatDoesNotNoticeTheEndOfATurnIsGivenUp() throws Exception {
        var talk = greeted(Talk.SALES);
        talk.modelSends(1, SessionTest.SPEECH_STARTED);
        session(talk.model, 1).getStuck();
        talk.line.live(20, 0);
        for (int i = 0; i < 15; i++) {
            talk.line.live(0, 1_000);
            talk.modelSends(1);     // but it is there
        }
        talk.line.live(0, 20);
        session(talk.model, 2);
    }

    /// And meanwhile a recording asks the caller to wait.
    @Test
    void aModelThatIsStuckIsNoticedInMidSentence() throws Exception {
        var model = quick(new Stall(100), new Say("As I was saying.", 50));
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        eventually("it does not go on", () -> line.heardMs.get() == 100
                && "thinking".equals(line.shown.getLast().get("lk.agent.state")));
        session(model, 1).getStuck();
        line.pass(Duration.ofMillis(1_200));
        line.pass(Duration.ofMillis(1_200));
        line.pass(Duration.ofMillis(599));
        assertFalse(line.speaker.speaking());
        line.pass(MS);
        assertTrue(line.speaker.speaking());
        line.pass(Duration.ofMillis(599));
        assertEquals(1, model.sessions().size());
        line.pass(MS);
        var next = session(model, 2);
        assertNotNull(next.await("response.create", _ -> true, SOON));
        assertTrue(told(next).toString().contains("Go on where you stopped"));
        noMistakes(model);
    }

    /// So much time passes, and the model gives a sign of life whenever it is asked for one.
    private static void isSlow(Talk talk, int connection, int ms) throws Exception {
        talk.modelSends(connection);            // it has connected
        for (int passed = 0; passed < ms; passed += 1_200) {
            talk.line.pass(Duration.ofMillis(Math.min(1_200, ms - passed)));
            talk.modelSends(connection);
        }
    }

    @Test
    void aModelThatIsSlowTwiceIsNotDead() throws Exception {
        var model = model(new Say("Hello.", 50), new Say("I see.", 50));
        model.firstSoundMs = 60_000;
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        assertNotNull(session(model).awaitSent("response.created", _ -> true, SOON));
        for (int i = 1; i <= 2; i++) {
            isSlow(talk, 1, 9_999);
            talk.modelSends(1, Talk.sound("slow " + i, 50), SessionTest.RESPONSE_DONE);
            eventually("it is heard", line::listening);
            talk.modelSends(1, SessionTest.RESPONSE_CREATED);
        }
        assertEquals(1, model.sessions().size());
        noMistakes(model);
    }

    @Test
    void aModelThatHasNotBegunToAnswerAfterTenSecondsIsGivenUp() throws Exception {
        var talk = greeted(Talk.SALES);
        talk.modelSends(1, SessionTest.RESPONSE_CREATED);
        isSlow(talk, 1, 9_000);
        talk.modelSends(1, "{'type':'response.output_item.done','item':{'type':'function_call',"
                + "'call_id':'c-1','name':'ask','arguments':'{}'}}");       // that is an answer
        assertEquals(1, talk.steps(Step.ToolCalled.class).size());
        isSlow(talk, 1, 9_999);
        talk.line.pass(MS);
        session(talk.model, 2);
    }

    /// Some services answer no update, so they cannot be asked whether they are there.
    @Test
    void aServiceThatGivesNoSignsOfLifeHasTenSeconds() throws Exception {
        var model = model(new Say("Hello.", 50));
        model.answersUpdates = false;
        model.firstSoundMs = 60_000;
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        assertNotNull(session(model).awaitSent("response.created", _ -> true, SOON));
        talk.modelSends(1);
        line.pass(Duration.ofMillis(9_999));
        assertEquals(1, model.sessions().size());
        line.pass(MS);
        session(model, 2);
    }

    @Test
    void aModelThatDoesNotGreetWithinTenSecondsIsGivenUp() throws Exception {
        var model = model();
        var line = new TestLine();
        line.metadata = SessionTest.TO_CALL;     // it rings for a minute
        line.answers = false;
        model.firstSoundMs = 60_000;
        var talk = Talk.begun(this, line, model);
        line.dialled.get(SOON.toSeconds(), TimeUnit.SECONDS);
        assertNotNull(session(model).awaitSent("response.created", _ -> true, SOON));
        isSlow(talk, 1, 9_999);
        model.firstSoundMs = 10;
        line.pass(MS);
        assertAnswers(session(model, 2));
        talk.modelSends(2, SessionTest.RESPONSE_CREATED);
        line.pass(Duration.ofSeconds(30));
        talk.modelSends(2);         // the greeting is there, and nobody waits for anything
    }

    @Test
    void aModelThatIsAwayForASecondIsBridgedByARecording() throws Exception {
        var talk = greeted(Talk.SALES);
        var line = talk.line;
        talk.happens(new Event.ModelAway("x", Duration.ZERO));
        line.pass(Duration.ofMillis(999));
        assertFalse(line.speaker.speaking());
        line.pass(MS);
        talk.hears(Clips.MOMENT);
        assertEquals(List.of("clip 1"), talk.agentIsDone());

        talk.happens(new Event.ModelAway("x", Duration.ZERO));
        line.pass(Duration.ofMillis(999));
        talk.happens(new Event.ModelBack());
        line.pass(Duration.ofMillis(999));
        assertEquals(List.of(), talk.agentIsDone());

        talk.happens(new Event.ModelAway("x", Duration.ZERO));
        talk.agentSpeaks();
        line.pass(Duration.ofSeconds(1));
        assertEquals(List.of("sentence 1"), talk.agentIsDone());
    }

    /// A connection that is found to be stuck was of no use for a while before.
    @Test
    void whoHasWaitedAlreadyHearsTheRecordingThatMuchSooner() throws Exception {
        for (var each : Map.of(2_000, 1_000, 2_400, 600, 3_000, 0, 3_400, 0).entrySet()) {
            var talk = greeted(Talk.SALES);
            talk.happens(new Event.ModelAway("x", Duration.ofMillis(each.getKey())));
            if (each.getValue() > 0) {
                talk.line.pass(Duration.ofMillis(each.getValue() - 1));
                assertFalse(talk.line.speaker.speaking(), each.toString());
                talk.line.pass(MS);
            }
            talk.hears(Clips.MOMENT);
        }
    }

    @Test
    void whoIsPutThroughToAColleagueIsNotAskedToWait() throws Exception {
        var talk = greeted(Talk.SUPPORT);
        talk.happens(new Event.ModelAway("x", Duration.ZERO), LOST);
        heard(talk, Clips.COLLEAGUE);
        talk.line.pass(Duration.ofSeconds(1));
        assertEquals(List.of(), talk.agentIsDone());
    }

    @Test
    void noRecordingIsHeardBeforeTheCallerCanHear() throws Exception {
        var line = new TestLine();
        line.answers = false;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        talk.happens(new Event.ModelAway("x", Duration.ZERO));
        line.pass(Duration.ofSeconds(1));
        talk.happens(new Event.CallerHears());
        talk.heard(50);
    }

    /// So a call leaves no connection behind.
    @Test
    void theConnectionIsClosedWhenTheCallIsOver() throws Exception {
        var talk = greeted(Talk.SALES);
        talk.happens(EndingTest.LEAVES);
        assertNull(talk.line.over.get(SOON.toSeconds(), TimeUnit.SECONDS));
        var session = session(talk.model);
        var tries = new AtomicInteger();
        eventually("the service can send nothing any more", () -> {
            String code = "try " + tries.incrementAndGet();
            session.fail("server_error", code);
            return session.awaitSent("error", e -> e.getJsonObject("error").getString("code")
                    .equals(code), Duration.ofMillis(100)) == null;
        });
        assertEquals(1, talk.model.sessions().size());
    }

    // Troubles that may pass.

    /// The time passes, quickly, until the recorded goodbye was heard.
    private static End lost(Talk talk) throws Exception {
        talk.later("the end", () -> {
            talk.line.speaker.clear();
            return talk.end.isDone();
        });
        return talk.ended();
    }

    /// The pauses are 0.3 s, 0.6 s, 1.2 s and then 2 s, or a fifth less.
    @Test
    void aModelThatCannotBeReachedIsTriedForEightSeconds() throws Exception {
        var refusing = model();
        refusing.refuseWith = 503;
        var line = new TestLine();
        line.metadata = SessionTest.TO_CALL;    // nobody hears recordings meanwhile
        line.answers = false;
        var talk = Talk.begun(this, line, refusing);
        line.settle();
        var tries = new ArrayList<Long>();
        talk.later("the end", () -> {
            if (refusing.refused() > tries.size()) {
                tries.add(line.mailbox.nanos() / 1_000_000);
            }
            return talk.end.isDone();
        });
        long ms = talk.ended().length().toMillis();
        assertEquals("model_lost", talk.ended().reason());
        assertTrue(talk.ended().cause().contains("HTTP 503"), talk.ended().cause());
        assertTrue(ms >= 8_000, ms + " ms");
        assertTrue(tries.size() >= 5 && tries.size() <= 8, tries.toString());
        for (int i = 1; i < 5; i++) {
            int least = List.of(240, 480, 960, 1_600).get(i - 1);
            // The counter is read up to one leap late.
            assertTrue(tries.get(i) - tries.get(i - 1) >= least - 50, tries.toString());
        }
    }

    /// The voice is marin, and gpt-transcribe writes.
    @Test
    @Tag(Runner.ALONE)
    void aVoiceOrAWriterThatTheServiceRefusesCostsOnlyThat() throws Exception {
        var model = Talk.greeting(this);
        model.voices = List.of("alloy", "ash");
        model.transcriptionModels = List.of("whisper-1", "gpt-4o-transcribe");
        var log = new Written();
        try (log) {
            var talk = Talk.begun(this, new TestLine(), model);
            talk.heard(50);
            talk.callerSays(1, 600);
            talk.heard(100);
        }
        var session = session(model, 1);
        assertEquals(List.of("voice", "transcription"), session.sent().stream()
                .filter(e -> e.getString("type").equals("error"))
                .map(e -> e.getJsonObject("error").getString("event_id")).toList());
        assertEquals("Be brief.", session.session().getString("instructions"));
        assertEquals(1, session.session().getJsonArray("tools").size());
        assertEquals(1, model.sessions().size());
        for (String line : List.of(
                "(check OPENAI_VOICE): Invalid value: 'marin'. Supported values are: 'alloy', and "
                        + "'ash'.; the call goes on with the default",
                "(check OPENAI_TRANSCRIBE_MODEL): Invalid value: 'gpt-transcribe'.")) {
            assertTrue(log.toString().contains("the model reports invalid_value " + line),
                    log.toString());
        }
        session.drop();                     // a new connection is not asked for them again
        var next = session(model, 2);
        eventually("it is told", () -> told(next).size() > 3);
        assertEquals(1, told(next).stream().filter("update"::equals).count());
    }

    /// Other services of this protocol may not say which event an error is about.
    @Test
    void anErrorAboutTheVoiceIsKnownByItsFieldToo() throws Exception {
        var talk = greeted(Talk.SALES);
        talk.modelSends(1, "{'type':'error','error':{'type':'server_error','code':'no_voice',"
                + "'message':'no','param':'session.audio.output.voice'}}");
        talk.modelSends(1);
        session(talk.model, 1).sendText(("{'type':'error','error':{'type':"
                + "'invalid_request_error','code':'x','message':'no','event_id':'session',"
                + "'param':'session.audio.output.voice'}}").replace('\'', '"'));
        session(talk.model, 2);
    }

    /// OpenAI refuses a wrong key in an event, and may quote the key.
    @Test
    void aRefusedKeyIsNamedInTheCauseAndNotQuoted() throws Exception {
        var talk = greeted(Talk.SALES);
        session(talk.model, 1).sendText(("{'type':'error','error':{'type':"
                + "'invalid_request_error','code':'invalid_api_key','message':"
                + "'Incorrect key: sk-test, that is sk-**st. Sorry.'}}").replace('\'', '"'));
        assertEquals("it reports invalid_api_key (check OPENAI_API_KEY): Incorrect key: .. that is "
                + ".. Sorry.", lost(talk).cause());
    }

    @Test
    void aModelThatIsAwayForTwoSecondsIsThereAgain() throws Exception {
        for (int status : List.of(429, 500, 503)) {
            var talk = greeted(Talk.SALES);
            talk.model.refuseWith = status;
            session(talk.model, 1).drop();
            eventually("the first try", () -> talk.model.refused() == 1);   // at once
            talk.later("two more", () -> talk.model.refused() == 3);
            talk.model.refuseWith = 0;
            talk.later("it is back", () -> talk.model.sessions().size() == 2);
            talk.agentIsDone();
            talk.callerSays(2, 600);
            int heard = talk.line.heardMs.get();
            eventually("it answers", () -> talk.line.heardMs.get() > heard);
            assertFalse(talk.end.isDone());
            noMistakes(talk.model);
        }
    }

    @Test
    void whatCannotPassIsNotTriedTwice() throws Exception {
        for (int status : List.of(401, 403, 404)) {
            var refusing = model();
            refusing.refuseWith = status;
            var talk = Talk.begun(this, new TestLine(), refusing);
            talk.hears(Clips.GOODBYE);
            assertEquals(1, refusing.refused());
        }
        for (String code : List.of("insufficient_quota", "billing_hard_limit_reached",
                "invalid_api_key", "model_not_found")) {
            var failing = model(new Fail(code));
            var talk = Talk.begun(this, new TestLine(), failing);
            talk.hears(Clips.GOODBYE);
            talk.agentIsDone();
            talk.line.pass(Duration.ofMillis(300));
            assertTrue(talk.ended().cause().startsWith("it failed to answer: " + code + " (check"),
                    talk.ended().cause());

            var refusing = Talk.greeted(this, Talk.SALES);
            session(refusing.model, 1).fail("invalid_request_error", code);
            refusing.hears(Clips.GOODBYE);
            assertEquals(1, failing.sessions().size() * refusing.model.sessions().size());
        }
    }

    private static long asked(DemoModel.Session session) {
        return told(session).stream().filter(each -> each.equals("respond")).count();
    }

    /// The connection is alive, so it is not given up. The service may say when to ask again.
    @Test
    void aModelThatRefusesToAnswerIsAskedAgainInTheSameConnection() throws Exception {
        for (var each : Map.of("Rate limit reached. Please try again in 1.3s. Visit us.", 1_300,
                "Retry in a moment: try again in 820ms", 820, "Please retry after 2 sec.", 2_000,
                "try again in 0m1.5s", 1_500, "Too fast.", 300).entrySet()) {
            var failing = model(new Fail("rate_limit_exceeded", each.getKey()),
                    new Say("Hello.", 50));
            failing.firstSoundMs = 10;
            var talk = Talk.begun(this, new TestLine(), failing);
            var session = session(failing);
            assertNotNull(session.awaitSent("response.done", _ -> true, SOON));
            talk.modelSends(1);                 // it is taken
            talk.line.pass(Duration.ofMillis(each.getValue() * 4 / 5 - 1));
            if (each.getValue() > 300) {
                talk.line.pass(Duration.ofMillis(each.getValue() / 5));
            }
            talk.modelSends(1);
            assertEquals(1, asked(session), each.toString());
            talk.line.pass(Duration.ofMillis(61));
            talk.heard(50);
            assertEquals(2, asked(session));
            assertTrue(session.received().getLast().toString().contains("you speak first"),
                    "the greeting is asked for again");
            noMistakes(failing);
        }
    }

    @Test
    void whoIsRefusedAgainAsksInANewConnection() throws Exception {
        var failing = replaced(new Fail("server_error"), new Say("Hello.", 50));
        failing.firstSoundMs = 10;
        failing.afterScript = new Fail("server_error");
        var talk = Talk.begun(this, new TestLine(), failing);
        talk.later("a new connection", () -> failing.sessions().size() == 2);
        assertEquals(2, asked(session(failing, 1)));
        eventually("the greeting", () -> talk.line.heardMs.get() == 50);
    }

    @Test
    void anErrorLeadsToAnotherConnectionUnlessItIsOnlyOurMistake() throws Exception {
        var talk = greeted(Talk.SALES);
        var model = talk.model;
        session(model, 1).fail("invalid_request_error", "some_code");
        session(model, 1).fail("tokens", "rate_limit_exceeded");    // nobody waits for an answer
        talk.modelSends(1);
        session(model, 1).fail("server_error", "down");
        session(model, 2);
        talk.callerSays(2, 600);        // and it goes on
        eventually("it answers", () -> talk.line.heardMs.get() >= 100);
        session(model, 2).fail("invalid_request_error", "session_expired");
        session(model, 3);
        assertEquals(3, model.sessions().size());
    }

    /// A trouble is over when the connection has been there for 5 s, and nobody has waited for it.
    @Test
    void aConnectionThatBreaksNowAndThenIsReplacedAtOnceEachTime() throws Exception {
        var talk = Talk.begun(this, new TestLine(), Talk.greeting(this),
                SessionTest.patient("ST_1"));
        talk.heard(50);
        for (int connection = 1; connection <= 3; connection++) {
            session(talk.model, connection).drop();
            session(talk.model, connection + 1);
            talk.modelSends(connection + 1);
            talk.line.pass(Duration.ofMillis(5_001));
        }
        session(talk.model, 4).drop();
        session(talk.model, 5);
        talk.modelSends(5);
        int before = talk.model.sessions().size();
        session(talk.model, 5).drop();          // too soon: this is the same trouble
        assertThrows(AssertionError.class, () -> eventually("not at once", 1,
                () -> talk.model.sessions().size() > before));
        talk.later("but soon", () -> talk.model.sessions().size() > before);
    }

    @Test
    void theRecordingIsRepeatedAsLongAsTheModelIsAway() throws Exception {
        var talk = greeted(Talk.SALES);
        talk.happens(new Event.ModelAway("x", Duration.ZERO));
        talk.line.pass(Duration.ofSeconds(1));
        assertEquals(List.of("clip 1"), talk.agentIsDone());
        for (int clip = 2; clip <= 3; clip++) {
            talk.line.pass(Duration.ofMillis(1_500));
            talk.happens(new Event.ModelAway("x", Duration.ZERO));     // a try has failed
            talk.line.pass(Duration.ofMillis(1_499));
            assertEquals(List.of(), talk.agentIsDone());
            talk.line.pass(MS);
            assertEquals(List.of("clip " + clip), talk.agentIsDone());
        }
        talk.happens(new Event.ModelBack());
        talk.line.pass(Duration.ofSeconds(10));
        talk.happens(new Event.ModelAway("x", Duration.ZERO));     // it comes and goes
        talk.line.pass(Duration.ofMillis(999));
        assertEquals(List.of(), talk.agentIsDone());
        talk.line.pass(MS);
        assertEquals(List.of("clip 4"), talk.agentIsDone());
    }

    @Test
    void whoIsPickedUpWithoutAModelHearsARecordingAfterASecond() throws Exception {
        var line = new TestLine();
        line.answers = false;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        talk.happens(new Event.ModelAway("x", Duration.ZERO));
        line.pass(Duration.ofSeconds(3));
        talk.agentIsDone();
        talk.happens(new Event.CallerHears());
        line.pass(Duration.ofMillis(999));
        assertEquals(List.of(), talk.agentIsDone());
        line.pass(MS);
        assertEquals(List.of("clip 1"), talk.agentIsDone());
    }

    /// What a service reports may quote what was said to it.
    @Test
    void aNumberInWhatTheModelReportsIsNotInTheCause() throws Exception {
        var failing = model();
        failing.afterScript = new Fail("not 5550142");
        var talk = Talk.begun(this, new TestLine(), failing);
        assertEquals("it failed to answer: not #######", lost(talk).cause());

        var other = greeted(Talk.SALES);
        session(other.model, 1).fail("invalid_request_error", "billing 555 0142");
        assertEquals("it reports billing ### #### (check the account's credit): it is so",
                lost(other).cause());
    }

    @Test
    void aModelThatStaysAwayIsApologizedFor() throws Exception {
        var refusing = model();
        refusing.refuseWith = 401;
        var line = new TestLine();
        var talk = Talk.begun(this, line, refusing);
        eventually("the recording", () -> line.heardMs.get() > 0);
        talk.happens(new Event.CallerWrote("Hello?"));  // which changes nothing now
        talk.does(session -> session.tell("Nobody reads this."));
        line.pass(Duration.ofMillis(19_999));
        assertFalse(talk.end.isDone());
        line.pass(MS);
        End end = talk.ended();
        assertEquals("model_lost", end.reason());
        assertEquals("model", end.by());
        assertTrue(end.cause().contains("HTTP 401"), end.toString());
        assertTrue(end.cause().contains("check OPENAI_API_KEY"), end.toString());
        assertNull(line.over.get(SOON.toSeconds(), TimeUnit.SECONDS));
        assertTrue(line.hungUp);
    }

    // The model is lost.

    /// A call in which a transfer to sales has come that far, and then the model is lost.
    private Talk lost(DemoModel model, Map<String, String> destinations, State state)
            throws Exception {
        var talk = Talk.begun(this, new TestLine(), model, Talk.options(destinations));
        talk.heard(50);
        EndingTest.bring(talk, state);
        if (state == State.NONE) {
            talk.agentSpeaks();
        }
        talk.happens(LOST);
        return talk;
    }

    /// That recording was heard, and nothing else is being said.
    private static void heard(Talk talk, Clips recording) throws Exception {
        talk.hears(recording);
        var items = talk.agentIsDone();
        assertTrue(items.size() == 1 && items.getFirst().startsWith("clip "), items.toString());
        talk.line.pass(Duration.ofMillis(300));
    }

    private static final String SALES = "tel:+15550001111";
    private static final String COLLEAGUE = "tel:+15550003333";

    private static void assertTransfers(Talk talk, String... to) {
        assertEquals(List.of(to), List.copyOf(talk.line.transfers));
    }

    @Test
    void whoCannotBePutThroughHearsAGoodbye() throws Exception {
        var model = Talk.greeting(this);
        for (var talk : List.of(lost(model, Talk.SALES, State.NONE),
                lost(model, BOTH, State.UNKNOWN))) {
            int before = talk.line.transfers.size();
            talk.line.pass(Duration.ofMillis(299));
            assertFalse(talk.end.isDone());
            heard(talk, Clips.GOODBYE);
            assertEquals("model_lost", talk.ended().reason());
            assertEquals("it is gone", talk.ended().cause());
            assertEquals(before, talk.line.transfers.size());
        }
    }

    @Test
    void whoIsNotOnAPhoneHearsAGoodbye() throws Exception {
        var line = new TestLine();
        line.onPhone = false;
        var talk = Talk.begun(this, line, Talk.greeting(this), Talk.options(Talk.SUPPORT));
        talk.heard(50);
        talk.happens(LOST);
        heard(talk, Clips.GOODBYE);
        assertEquals("model_lost", talk.ended().reason());
        assertTransfers(talk);
    }

    @Test
    void aColleagueIsTriedOnceAndThenComesTheGoodbye() throws Exception {
        record Case(Event outcome, List<Step> steps) {}
        var model = Talk.greeting(this);
        for (Case each : List.of(
                new Case(EndingTest.REFUSED, List.of(new Step.Ringing(),
                        new Step.TransferFailed("support", EndingTest.BUSY))),
                new Case(EndingTest.NOBODY_KNOWS, List.of(new Step.Ringing())))) {
            var talk = lost(model, Talk.SUPPORT, State.NONE);
            assertTransfers(talk);
            heard(talk, Clips.COLLEAGUE);
            assertTransfers(talk, COLLEAGUE);
            talk.happens(each.outcome);
            assertFalse(talk.end.isDone());
            heard(talk, Clips.GOODBYE);
            End end = talk.ended();
            assertEquals("model_lost", end.reason());
            assertEquals("it is gone", end.cause());
            assertEquals("model", end.by());
            assertTransfers(talk, COLLEAGUE);
            assertEquals(each.steps, talk.steps);
            assertTrue(talk.line.hungUp);
        }
    }

    @Test
    void whenTheModelStaysAwayTheCallerIsPutThrough() throws Exception {
        var gone = model();
        gone.refuseWith = 403;
        var line = new TestLine();
        var talk = Talk.begun(this, line, gone, Talk.options(Talk.SUPPORT));
        eventually("the recording", () -> line.speaker.speaking());
        heard(talk, Clips.COLLEAGUE);
        assertTransfers(talk, COLLEAGUE);
        talk.happens(new Event.Transferred(), new Event.CallerLeft("CLIENT_INITIATED"));
        End end = talk.ended();
        assertEquals("transferred", end.reason());
        assertEquals("support", end.transferredTo());
        assertTrue(end.cause().contains("HTTP 403"), end.toString());
    }

    @Test
    void aCallerOnTheWayToSomebodyIsLeftAlone() throws Exception {
        var model = Talk.greeting(this);
        for (State state : List.of(State.ANNOUNCED, State.REFERRED, State.DONE)) {
            var talk = lost(model, BOTH, state);
            assertEquals(state == State.ANNOUNCED ? List.of("sentence 1") : List.of(),
                    talk.agentIsDone());
            talk.line.pass(Duration.ofMillis(300));
            assertTransfers(talk, SALES);
            if (state != State.DONE) {
                talk.happens(EndingTest.WORKED);
            }
            talk.happens(EndingTest.LEAVES);
            assertEquals("transferred", talk.ended().reason());
            assertEquals("sales", talk.ended().transferredTo());
        }
    }

    @Test
    void aTransferThatFailsIsToldByItsOwnNameAlsoWhenSupportIsTriedNext() throws Exception {
        var talk = lost(Talk.greeting(this), BOTH, State.REFERRED);
        talk.happens(EndingTest.REFUSED);
        heard(talk, Clips.COLLEAGUE);
        assertTransfers(talk, SALES, COLLEAGUE);
        assertEquals(List.of(new Step.TransferFailed("sales", EndingTest.BUSY)),
                talk.steps(Step.TransferFailed.class));
    }

    @Test
    void whoLeavesWithoutAModelWasLostByIt() throws Exception {
        var model = Talk.greeting(this);
        var referred = lost(model, BOTH, State.REFERRED);
        referred.happens(EndingTest.LEAVES, EndingTest.REFUSED);
        var announced = lost(model, BOTH, State.ANNOUNCED);
        announced.happens(EndingTest.LEAVES);
        for (var talk : List.of(referred, announced)) {
            assertEquals("model_lost", talk.ended().reason());
            assertFalse(talk.line.hungUp);
        }
    }

    @Test
    void nobodyHasToPickUpForAGoodbye() throws Exception {
        var line = new TestLine();
        line.metadata = SessionTest.TO_CALL;
        line.answers = false;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        line.dialled.get(SOON.toSeconds(), TimeUnit.SECONDS);
        line.mailbox.post(LOST);
        assertEquals("model_lost", talk.ended().reason());
        assertTrue(line.hungUp);
    }

    @Test
    void whoComesWhenTheModelIsLostHearsTheGoodbye() throws Exception {
        var line = new TestLine();
        line.comes = false;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        talk.happens(LOST);
        line.pass(Duration.ofSeconds(9));
        assertFalse(line.pickedUp.isDone());
        assertFalse(talk.end.isDone());
        talk.happens(new Event.CallerJoined());
        assertTrue(line.pickedUp.isDone());
        line.settle();
        eventually("goodbye", () -> line.heardMs.get() > 0);
        line.pass(Duration.ofSeconds(20));
        assertEquals("model_lost", talk.ended().reason());
    }
}
