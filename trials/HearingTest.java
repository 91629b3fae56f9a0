package trials;

import module java.base;
import demo.DemoModel;
import demo.DemoModel.Say;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordingFile;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import voice.Event;
import voice.Model;
import voice.Realtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/: what we hear ourselves of the caller decides nothing. A model that hears more than we
/// do, or less, is asked whether it is there, and keeps its connection. A model that is stuck is
/// found, however quietly the caller speaks. StoppedTest has a process that was stopped, and
/// LostModelTest has more of a model that is stuck.
public final class HearingTest extends Stand {
    private static final Duration MS = SessionTest.MS;
    /// Amplitudes of a caller at -45 dBFS, of one whom we do not hear, and of hardly a sound.
    private static final int QUIET = 260, UNHEARD = 80, FAINT = 30;

    /// The model reports that the caller has finished, at this `audio_end_ms`.
    static String speechStopped(String atMs) {
        return "{'type':'input_audio_buffer.speech_stopped','item_id':'words'"
                + (atMs.isEmpty() ? "" : ",'audio_end_ms':" + atMs) + "}";
    }

    /// A call in which nobody is asked whether they are there.
    private Talk greeted(DemoModel.Step... answers) throws Exception {
        var model = model(Stream.concat(Stream.of(new Say("Hello.", 50)), Stream.of(answers))
                .toArray(DemoModel.Step[]::new));
        model.firstSoundMs = 10;
        var talk = Talk.begun(this, new TestLine(), model, SessionTest.patient(""));
        talk.heard(50);
        return talk;
    }

    // The model hears more than we do, or less.

    @Test
    void whatTheModelDoesNotTakeForSpeechCostsNothing() throws Exception {
        var talk = greeted();
        talk.model.onsetMs = 400;
        talk.lives(0, 16_000);
        talk.lives(300, 6_000);
        talk.heard(50);
        assertEquals(1, talk.model.sessions().size());
    }

    @Test
    void whatOnlyTheModelTakesForSpeechCostsNothing() throws Exception {
        var talk = greeted(new Say("Yes?", 50));
        talk.model.loud = 10;
        talk.line.volume = FAINT;
        talk.lives(0, 16_000);
        talk.line.live(300, 0);
        assertNotNull(session(talk.model, 1).awaitSent("input_audio_buffer.speech_started",
                _ -> true, SOON));
        talk.modelSends(1);
        talk.lives(0, 600);
        talk.heard(100);                    // the answer takes real time
        talk.lives(0, 5_400);
        assertEquals(100, talk.line.heardMs.get());
        assertEquals(1, talk.model.sessions().size());
    }

    @Test
    void whoSpeaksQuietlyForLongKeepsTheConnection() throws Exception {
        for (int volume : List.of(QUIET, UNHEARD)) {
            var talk = greeted();
            talk.line.volume = volume;
            talk.modelSends(1, SessionTest.SPEECH_STARTED);
            talk.lives(30_000, 0);
            talk.heard(50);
        }
    }

    /// So a model that has heard a breath in the silence gets as long as any other.
    @Test
    void theSilenceThatTheModelMayMissBeginsWhenItHearsSpeech() throws Exception {
        var talk = greeted();
        talk.lives(0, 16_000);
        talk.modelSends(1, SessionTest.SPEECH_STARTED);
        talk.lives(0, 15_000);
        talk.line.live(0, 20);
        session(talk.model, 2);
    }

    // A model that is stuck.

    /// 1.2 s after the first sound the model is asked whether it is there, and it has 2.4 s.
    @Test
    void aStuckModelIsFoundWithinFourSecondsOfAQuietCallersFirstSound() throws Exception {
        var talk = greeted();
        talk.line.volume = QUIET;
        session(talk.model, 1).getStuck();
        talk.isGivenUpAfter(600, 3_020);
    }

    @Test
    void aModelThatWasThereAMomentAgoIsFoundAsSoon() throws Exception {
        var talk = greeted();
        talk.model.onsetMs = 60_000;
        talk.line.live(300, 940);
        var session = session(talk.model, 1);
        assertNotNull(session.await("session.update",
                event -> event.getString("event_id").equals("probe"), SOON));
        talk.modelSends(1);                 // after its answer
        session.getStuck();
        talk.isGivenUpAfter(600, 3_020);
    }

    /// The next try was to tell it, and has failed, too.
    @Test
    void whatIsSaidWhileTheModelIsAwayIsHeardAlsoAfterMoreTries() throws Exception {
        var talk = greeted(new Say("I see.", 50));
        talk.model.refuseWith = 503;
        session(talk.model, 1).drop();
        eventually("the first try", () -> talk.model.refused() == 1);
        talk.line.say(500, 700);
        talk.later("two more", () -> talk.model.refused() == 3);
        talk.model.refuseWith = 0;
        talk.later("a model", () -> talk.model.sessions().size() == 2);
        assertNotNull(session(talk.model, 2).awaitSent("input_audio_buffer.speech_started",
                _ -> true, SOON));
    }

    @Test
    void whatIsHeardAgainBreaksOffTheAgentAndNotTheRecording() throws Exception {
        for (boolean agentSpeaks : List.of(true, false)) {
            var talk = greeted(new Say("I see.", 50));
            talk.model.refuseWith = 503;
            if (agentSpeaks) {
                talk.modelSends(1, Talk.sound("long", 10_000));
            }
            session(talk.model, 1).drop();
            eventually("the first try", () -> talk.model.refused() == 1);
            if (!agentSpeaks) {
                talk.agentSpeaks();             // like a recording: it is not the model's
            }
            talk.line.say(500, 0);
            talk.model.refuseWith = 0;
            talk.later("a model", () -> talk.model.sessions().size() == 2);
            assertNotNull(session(talk.model, 2).awaitSent("input_audio_buffer.speech_started",
                    _ -> true, SOON));
            talk.modelSends(2);
            assertEquals(agentSpeaks ? List.of() : List.of("sentence 1"), talk.agentIsDone());
        }
    }

    /// So the recording that bridges the time is not late.
    @Test
    @Timeout(60)
    void howLongTheCallerHasWaitedForAStuckModelIsKnown() throws Exception {
        // Somebody who has finished, and somebody who speaks on.
        for (var each : Map.of(600, 3_040, 3_640, 2_400).entrySet()) {
            var model = model();
            var line = new TestLine();
            var service = new Model("sk-test", model.baseUrl(), "any", "", "", "server_vad", "");
            var realtime = opened(
                    new Realtime(service, line.id(), line.mailbox, line.speaker));
            line.listen(realtime::hear);
            var session = session(model, 1);
            realtime.begin("Be brief.", "Nobody knows the caller.", List.of(), "Greet.");
            assertNotNull(session.awaitSent("response.done", _ -> true, SOON));
            session.sendText("{\"type\":\"response.output_audio_transcript.done\","
                    + "\"item_id\":\"i\",\"transcript\":\"The end.\"}");
            while (!next(line, Event.AgentSaid.class).text().equals("The end.")) { }
            session.getStuck();
            line.live(each.getKey(), 3_640 - each.getKey());
            assertEquals(new Event.ModelAway("the model says nothing any more",
                    Duration.ofMillis(each.getValue())), next(line, Event.ModelAway.class));
        }
    }

    private static <T extends Event> T next(TestLine line, Class<T> kind)
            throws InterruptedException {
        Event event;
        do {
            event = line.mailbox.next();
        } while (!kind.isInstance(event));
        return kind.cast(event);
    }

    // How long the caller has waited when the model notices that they have finished.

    @Test
    void aPlaceInTheSoundThatCannotBeRightDoesNotCount() throws Exception {
        for (String at : List.of("", "null", "'soon'", "0", "-20000", "20", "6101",
                "9000000000000000000", "-9000000000000000000")) {
            var talk = greeted();
            talk.modelSends(1, SessionTest.SPEECH_STARTED);
            talk.lives(40, 1_000);
            talk.modelSends(1, speechStopped("540"), SessionTest.SPEECH_STARTED);
            talk.lives(40, 5_000);
            talk.modelSends(1, speechStopped(at));
            talk.line.pass(Duration.ofMillis(2_999));
            assertFalse(talk.line.speaker.speaking(), at);
            talk.line.pass(MS);
            assertTrue(talk.line.speaker.speaking(), at);
        }
    }

    /// It goes by what they say, and may let them think for seconds. If the service has refused to
    /// do that, the silence counts as before.
    @Test
    void thatAModelWaitsOnPurposeIsNoTimeThatTheCallerHasWaited() throws Exception {
        for (boolean refused : List.of(false, true)) {
            var model = model(new Say("Hello.", 50));
            model.responds = false;
            model.turnDetections = List.of("server_vad", refused ? "none" : "semantic_vad");
            var talk = Talk.begun(this, new TestLine(), new Model("sk-test", model.baseUrl(),
                    "any", "", "", "semantic_vad", ""), model);
            talk.line.settle();
            talk.modelSends(1, "{'type':'response.created','response':{'id':'r'}}",
                    Talk.sound("i", 50).replace("'item_id'", "'response_id':'r','item_id'"),
                    "{'type':'response.done','response':{'id':'r','status':'completed'}}");
            talk.heard(50);
            talk.modelSends(1, SessionTest.SPEECH_STARTED);
            talk.lives(40, 2_000);
            talk.modelSends(1, speechStopped("540"));
            talk.line.pass(Duration.ofMillis(refused ? 999 : 2_999));
            assertFalse(talk.line.speaker.speaking());
            talk.line.pass(MS);
            assertTrue(talk.line.speaker.speaking());
        }
    }

    /// Its sound begins anew.
    @Test
    void theModelsPlacesAreThoseOfItsOwnConnection() throws Exception {
        var talk = greeted();
        talk.lives(0, 5_000);
        session(talk.model, 1).drop();
        session(talk.model, 2);
        talk.modelSends(2, SessionTest.SPEECH_STARTED);
        talk.line.live(40, 1_000);
        talk.modelSends(2, speechStopped("540"));
        talk.line.pass(Duration.ofMillis(1_999));
        assertFalse(talk.line.speaker.speaking());
        talk.line.pass(MS);
        assertTrue(talk.line.speaker.speaking());
    }

    // The process was stopped for 3 s. After that, all sound comes at once.

    private static void stopped(Talk talk) throws Exception {
        talk.line.leap(Duration.ofSeconds(3));
        talk.line.say(0, 3_000);
    }

    @Test
    void aModelThatCouldNotBeHeardWhileTheProcessWasStoppedIsNotStuck() throws Exception {
        var talk = greeted();
        session(talk.model, 1).getStuck();
        talk.line.live(600, 640);           // it is asked
        stopped(talk);
        talk.line.live(0, 2_300);
        talk.modelSends(1);                 // that is its answer
        assertEquals(1, talk.model.sessions().size());
    }

    /// But for the 40 ms that may pass between two pieces of sound.
    @Test
    void theTimeOfTheStopIsNoTimeThatTheCallerHasWaited() throws Exception {
        var talk = greeted();
        talk.modelSends(1, SessionTest.SPEECH_STARTED);
        talk.lives(40, 200);
        stopped(talk);
        talk.modelSends(1, speechStopped("540"));
        talk.line.pass(Duration.ofMillis(3_000 - 240 - 1));
        assertFalse(talk.line.speaker.speaking());
        talk.line.pass(MS);
        assertTrue(talk.line.speaker.speaking());
    }

    // A way to the model that is stalled.

    /// Every try costs an exception. At 0.3 ms there were more than 2,000 in a second.
    @Test
    void aStalledWayToTheModelIsTriedLessAndLessOften() throws Exception {
        var begun = new CountDownLatch(1);
        var over = new CountDownLatch(1);
        var server = opened(new MockWebServer());
        afterwards(over::countDown);
        server.enqueue(new MockResponse.Builder().webSocketUpgrade(new WebSocketListener() {
            @Override
            public void onMessage(WebSocket socket, String text) {
                begun.countDown();
                try {
                    over.await();               // it reads nothing more
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            }
        }).build());
        server.start(InetAddress.getByAddress(new byte[] {127, 0, 0, 1}), 0);
        Path file = folder().resolve("exceptions");
        double seconds;
        try (var exceptions = new Recording()) {
            exceptions.enable("jdk.JavaExceptionThrow").with("throttle", "off");
            exceptions.start();
            long start = System.nanoTime();
            var line = new TestLine();
            String url = "http://127.0.0.1:" + server.getPort() + "/v1";
            var service = new Model("sk-test", url, "any", "", "", "server_vad", "");
            var realtime = opened(new Realtime(service, "stalled", line.mailbox, line.speaker));
            for (String text : List.of("a", "b".repeat(9_000_000), "c", "d")) {
                realtime.about(text);
            }
            begun.await();
            TimeUnit.SECONDS.sleep(2);
            exceptions.dump(file);
            seconds = (System.nanoTime() - start) / 1e9;
        }
        long tries = RecordingFile.readAllEvents(file).stream()
                .filter(event -> event.getEventType().getName().equals("jdk.JavaExceptionThrow")
                        && event.getThread().getJavaName().equals("to model stalled")
                        && event.getClass("thrownClass").getName().endsWith("$Busy")).count();
        assertTrue(tries > 5 && tries <= 20 + seconds / 0.005, tries + " in " + seconds + " s");
    }
}
