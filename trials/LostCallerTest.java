package trials;

import module java.base;
import demo.DemoModel;
import demo.DemoModel.Say;
import org.junit.jupiter.api.Test;
import voice.Clips;
import voice.Event;
import voice.Numbers;
import voice.Options;
import voice.Step;
import trials.EndingTest.State;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/: callers whose connection is lost and who may come back, and calls whose time is up.
/// CallerTest has what LiveKit says about such callers.
public final class LostCallerTest extends Stand {
    private static final Duration MS = SessionTest.MS;
    private static final Event LOST = new Event.CallerLost("CONNECTION_TIMEOUT");
    private static final Event BACK = new Event.CallerBack();

    private Talk greeted() throws Exception {
        return Talk.greeted(this, Talk.SALES);
    }

    /// The call ends after so much time, and no millisecond before.
    private static void endsAfter(Talk talk, Duration time, String reason, String cause)
            throws Exception {
        talk.line.pass(time.minus(MS));
        assertFalse(talk.end.isDone());
        talk.line.leap(MS);
        assertEquals(reason, talk.ended().reason());
        assertEquals(cause, talk.ended().cause());
    }

    // Callers who are lost.

    @Test
    void aCallerWhoIsLostHasFifteenSecondsToComeBack() throws Exception {
        var talk = greeted();
        talk.happens(LOST);
        endsAfter(talk, Duration.ofSeconds(15), "caller_lost", "CONNECTION_TIMEOUT");
        assertEquals("caller", talk.ended().by());
        assertTrue(talk.line.hungUp, "whoever comes back later must not sit there with nobody");
    }

    /// LiveKit may wait for less than that.
    @Test
    void aRoomThatIsClosedMeanwhileIsTheSameEnd() throws Exception {
        var talk = greeted();
        talk.happens(LOST, new Event.RoomClosed("x"));
        assertEquals("caller_lost", talk.ended().reason());
        assertEquals("CONNECTION_TIMEOUT", talk.ended().cause());
    }

    @Test
    void aRoomThatIsClosedBecauseNobodyCameHadNobody() throws Exception {
        for (boolean comes : List.of(false, true)) {
            var line = new TestLine();
            line.comes = comes;
            var talk = Talk.begun(this, line, Talk.greeting(this));
            line.settle();                              // it has joined, and has seen who came
            talk.happens(new Event.RoomClosed("x"));
            assertEquals(comes ? "room_lost" : "no_answer", talk.ended().reason());
        }
    }

    /// They may come back, as after a reload, and LiveKit sends agents only to new rooms.
    @Test
    void whoLeavesWithABrowserLeavesNoRoomBehind() throws Exception {
        for (boolean onPhone : List.of(false, true)) {
            var line = new TestLine();
            line.onPhone = onPhone;
            var talk = Talk.begun(this, line, Talk.greeting(this));
            talk.heard(50);
            talk.happens(new Event.CallerLeft("CLIENT_INITIATED"));
            assertEquals("caller_hung_up", talk.ended().reason());
            assertEquals(!onPhone, line.hungUp);
        }
    }

    @Test
    void theConversationGoesOnWithACallerWhoComesBack() throws Exception {
        var talk = greeted();
        for (int times = 1; times <= 2; times++) {
            talk.happens(LOST);
            talk.line.pass(Duration.ofSeconds(15).minus(MS));
            int heard = talk.line.heardMs.get();
            talk.happens(BACK);
            assertEquals(Collections.nCopies(times, new Step.CallerBack()),
                    talk.steps(Step.CallerBack.class));
            talk.heard(heard + 50);                 // the model knows, and says something
            talk.line.pass(Duration.ofSeconds(2));
        }
        talk.callerSays(1, 600);
        assertEquals(2, session(talk.model, 1).received().stream()
                .filter(it -> it.toString().contains("They are back.")).count());
        talk.happens(new Event.CallerLeft("CLIENT_INITIATED"));
        assertEquals("caller_hung_up", talk.ended().reason());
        noMistakes(talk.model);
    }

    @Test
    void whoIsOnAnotherConnectionBeforeTheyWereMissedHasMissedSomethingToo() throws Exception {
        var talk = greeted();
        talk.agentSpeaks();
        talk.happens(BACK);
        assertEquals(List.of(new Step.CallerBack()), talk.steps(Step.CallerBack.class));
        talk.heard(talk.line.heardMs.get() + 50);
        talk.line.pass(Duration.ofSeconds(15));
        assertFalse(talk.end.isDone());
    }

    @Test
    void whatIsSaidWhileNobodyIsThereIsNotPlayed() throws Exception {
        var talk = greeted();
        talk.agentSpeaks();
        talk.happens(LOST);
        assertEquals(List.of(), talk.agentIsDone(), "what was being said is broken off");
        int heard = talk.line.heardMs.get();
        talk.modelSends(1, "{'type':'response.created','response':{'id':'r1'}}",
                Talk.sound("unheard", 50));
        talk.line.pass(Duration.ofSeconds(4));      // nobody waits, so no recording plays either
        assertTrue(talk.line.speaker.holds("unheard"));
        assertEquals(heard, talk.line.heardMs.get());
        talk.happens(BACK);
        assertFalse(talk.line.speaker.holds("unheard"), "it is of no use any more");
        session(talk.model, 1).await("conversation.item.truncate",
                it -> it.getString("item_id").equals("unheard")
                        && it.getInt("audio_end_ms") == 0, SOON);
    }

    @Test
    void theSilenceOfACallerWhoIsAwayDoesNotCount() throws Exception {
        var talk = Talk.begun(this, new TestLine(), Talk.greeting(this), new Options("ST_1",
                List.of("+1"), Talk.SALES, Duration.ofSeconds(5), Talk.LONGEST,
                new Numbers("")));
        talk.heard(50);
        talk.happens(LOST);
        talk.line.pass(Duration.ofSeconds(14));
        assertEquals(List.of(), talk.steps(Step.Silent.class));
    }

    @Test
    void whoIsLostBeforeTheyHearAnythingHearsTheGreetingFromItsBeginning() throws Exception {
        var line = new TestLine();
        line.answers = false;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        line.pickedUp.get(SOON.toSeconds(), TimeUnit.SECONDS);
        talk.happens(LOST, new Event.CallerHears());
        line.pass(Duration.ofSeconds(14));
        assertEquals(0, line.heardMs.get());
        talk.happens(BACK);
        assertEquals(List.of(), talk.steps(Step.CallerBack.class));
        line.pass(Duration.ofSeconds(3));
        talk.heard(50);
    }

    @Test
    void inATransferWhoIsLostHasLeft() throws Exception {
        record Case(State state, Event then, String reason) {}
        for (Case each : List.of(new Case(State.REFERRED, EndingTest.WORKED, "transferred"),
                new Case(State.REFERRED, EndingTest.REFUSED, "caller_hung_up"),
                new Case(State.UNKNOWN, LOST, "transferred"),
                new Case(State.DONE, LOST, "transferred"))) {
            var talk = greeted();
            EndingTest.bring(talk, each.state);
            talk.happens(LOST, each.then);
            assertEquals(each.reason, talk.ended().reason(), each.toString());
            assertTrue(talk.line.hungUp, "nobody has said that they have hung up");
        }
    }

    @Test
    void whoIsBackInTheMiddleOfATransferIsStillOnTheirWay() throws Exception {
        var talk = greeted();
        EndingTest.bring(talk, State.REFERRED);
        talk.happens(LOST);
        talk.line.pass(Duration.ofSeconds(2));
        talk.happens(BACK);
        talk.line.pass(Duration.ofSeconds(20));
        talk.happens(EndingTest.REFUSED);
        assertFalse(talk.end.isDone());
        talk.happens(new Event.CallerLeft("CLIENT_INITIATED"));
        assertEquals("caller_hung_up", talk.ended().reason());
        assertFalse(talk.line.hungUp);
    }

    @Test
    void aTransferDoesNotBeginWhileTheCallerIsAway() throws Exception {
        var talk = greeted();
        talk.happens(LOST);
        assertTrue(talk.says(session -> session.transfer("sales")).contains("is lost"));
        talk.happens(BACK);
        assertNull(talk.says(session -> session.transfer("sales")));
    }

    @Test
    void aTrunkThatFailsWhenTheTransferHasWorkedChangesNothing() throws Exception {
        var talk = greeted();
        EndingTest.bring(talk, State.DONE);
        talk.happens(new Event.CallerLeft("SIP_TRUNK_FAILURE"));
        assertEquals("transferred", talk.ended().reason());
    }

    @Test
    void whoIsLostDuringTheAnnouncementIsNotSentAnywhere() throws Exception {
        var talk = greeted();
        EndingTest.bring(talk, State.ANNOUNCED);
        talk.happens(LOST);
        talk.line.pass(Duration.ofSeconds(1));
        talk.happens(BACK);
        talk.line.pass(Duration.ofSeconds(25));
        assertEquals(List.of(), List.copyOf(talk.line.transfers));
        assertFalse(talk.end.isDone());
    }

    /// The model is lost, and a recording says that a colleague takes over.
    @Test
    void whoIsLostOnTheWayToAColleagueHasNotLeftEither() throws Exception {
        for (boolean comesBack : List.of(true, false)) {
            var talk = Talk.greeted(this, Talk.SUPPORT);
            talk.happens(new Event.ModelLost("it is gone"));
            talk.hears(Clips.COLLEAGUE);
            talk.happens(LOST);
            if (!comesBack) {
                endsAfter(talk, Duration.ofSeconds(15), "caller_lost", "CONNECTION_TIMEOUT");
                continue;
            }
            talk.line.pass(Duration.ofSeconds(14));
            talk.line.heard.clear();
            talk.happens(BACK);
            talk.hears(Clips.COLLEAGUE);
            talk.agentIsDone();
            talk.line.pass(Duration.ofMillis(300));
            assertEquals(List.of("tel:+15550003333"), List.copyOf(talk.line.transfers));
        }
    }

    @Test
    void keysThatWerePressedBeforeTheConnectionWasLostAreToldWhenItIsBack() throws Exception {
        var talk = greeted();
        talk.happens(new Event.KeyPressed("1"), new Event.KeyPressed("2"), LOST);
        talk.line.pass(Duration.ofSeconds(2));
        talk.line.pass(Duration.ofSeconds(2));
        assertEquals(List.of(), talk.steps(Step.KeysPressed.class));
        talk.happens(BACK, new Event.KeyPressed("3"));
        talk.line.pass(Duration.ofMillis(1_500));
        assertEquals(List.of(new Step.KeysPressed("1 2 3")), talk.steps(Step.KeysPressed.class));
        session(talk.model, 1).await("conversation.item.create",
                it -> it.toString().contains("I press 1 2 3"), SOON);
    }

    @Test
    void aModelThatIsLostMeanwhileSaysGoodbyeToACallerWhoComesBack() throws Exception {
        var talk = greeted();
        talk.happens(LOST, new Event.ModelLost("it is gone"));
        talk.line.pass(Duration.ofSeconds(10));
        talk.happens(BACK);
        talk.hears(Clips.GOODBYE);
        talk.agentIsDone();
        endsAfter(talk, Duration.ofMillis(300), "model_lost", "it is gone");
    }

    @Test
    void theGoodbyeOfALostModelIsPlayedAgainToWhoIsOnAnotherConnection() throws Exception {
        var talk = greeted();
        talk.happens(new Event.ModelLost("it is gone"));
        talk.hears(Clips.GOODBYE);
        talk.happens(BACK);
        talk.line.pass(Duration.ofMillis(300));
        assertFalse(talk.end.isDone());
        talk.agentIsDone();
        endsAfter(talk, Duration.ofMillis(300), "model_lost", "it is gone");
    }

    @Test
    void aCallerWhoStaysAwayIsTheReasonWhateverElseIsLost() throws Exception {
        var talk = greeted();
        talk.happens(LOST, new Event.ModelLost("it is gone"));
        endsAfter(talk, Duration.ofSeconds(15), "caller_lost", "CONNECTION_TIMEOUT");
    }

    @Test
    void aPhoneThatRingsAndHasAnotherConnectionRingsOn() throws Exception {
        var talk = Talk.dialled(this, Talk.greeting(this), Talk.options(Talk.SALES), true);
        talk.happens(new Event.CallerJoined(), LOST, BACK);
        talk.line.pass(Duration.ofSeconds(20));
        assertFalse(talk.end.isDone());
        talk.happens(new Event.CallerAnswered(), new Event.CallerHears());
        talk.heard(50);
    }

    /// LiveKit's answer to our request to dial comes after the connection is lost.
    @Test
    void whoHasAnsweredMeanwhileMayComeBack() throws Exception {
        for (boolean comesBack : List.of(true, false)) {
            var talk = Talk.dialled(this, Talk.greeting(this), Talk.options(Talk.SALES), true);
            talk.happens(new Event.CallerJoined(), LOST, new Event.CallerAnswered());
            talk.line.pass(Duration.ofSeconds(3));
            assertFalse(talk.end.isDone());
            if (comesBack) {
                talk.line.pass(Duration.ofSeconds(14));
                talk.happens(BACK, new Event.CallerHears());
                talk.heard(50);
            } else {
                endsAfter(talk, Duration.ofSeconds(15), "caller_lost", "CONNECTION_TIMEOUT");
            }
        }
    }

    @Test
    void aPhoneThatRingsDoesNotComeBack() throws Exception {
        record Case(String why, String reason, String cause) {}
        for (Case each : List.of(new Case("CONNECTION_TIMEOUT", "no_answer", null),
                new Case("SIP_TRUNK_FAILURE", "bad_trunk", "SIP_TRUNK_FAILURE"))) {
            var talk = Talk.dialled(this, Talk.greeting(this), Talk.options(Talk.SALES), true);
            talk.happens(new Event.CallerJoined(), new Event.CallerLost(each.why));
            endsAfter(talk, Duration.ofSeconds(3), each.reason, each.cause);
        }
    }

    // Calls whose time is up.

    /// The caller has talked to the agent for so long, and neither is speaking.
    private Talk afterLong(DemoModel model) throws Exception {
        var talk = Talk.begun(this, new TestLine(), model, SessionTest.patient("ST_1"));
        talk.heard(50);
        talk.line.pass(Talk.LONGEST.minus(MS));
        assertEquals(List.of(), talk.steps(Step.TimeIsUp.class));
        return talk;
    }

    @Test
    void aCallWhoseTimeIsUpEndsWhenTheCallerHasHeardAGoodbye() throws Exception {
        var talk = afterLong(Talk.greeting(this));
        talk.agentSpeaks();                         // which is broken off
        talk.line.pass(MS);
        assertEquals(List.of(new Step.TimeIsUp()), talk.steps(Step.TimeIsUp.class));
        int before = talk.line.heardMs.get();
        eventually("the goodbye", () -> talk.line.heardMs.get() > before && talk.line.listening());
        endsAfter(talk, Duration.ofMillis(300), "too_long", null);
        assertEquals("agent", talk.ended().by());
        assertTrue(talk.line.hungUp);
    }

    @Test
    void aGoodbyeTakesFifteenSecondsAtMostWhateverTheCallerDoes() throws Exception {
        var model = Talk.greeting(this);
        var talk = afterLong(model);
        talk.line.pass(MS);
        talk.agentSpeaks();
        talk.happens(EndingTest.SPEAKS, new Event.CallerWrote("No, wait."));
        talk.agentSpeaks();
        endsAfter(talk, Duration.ofSeconds(15), "too_long", null);
    }

    @Test
    void noTransferBeginsInAGoodbye() throws Exception {
        var talk = afterLong(Talk.greeting(this));
        talk.line.pass(MS);
        talk.agentSpeaks();
        assertEquals("The call is about to end. Say goodbye.",
                talk.says(session -> session.transfer("sales")));
        talk.agentIsDone();
        talk.line.pass(Duration.ofSeconds(15));
        assertEquals("too_long", talk.ended().reason());
    }

    @Test
    void whoIsBeingPutThroughIsNotHungUpOn() throws Exception {
        var talk = afterLong(Talk.greeting(this));
        EndingTest.bring(talk, State.ANNOUNCED);
        talk.line.pass(MS);
        talk.agentIsDone();
        talk.line.pass(Duration.ofMillis(300));
        assertEquals(1, talk.line.transfers.size());
        talk.line.pass(Duration.ofSeconds(15));
        assertEquals(List.of(), talk.steps(Step.TimeIsUp.class));
        talk.happens(EndingTest.REFUSED);
        talk.line.pass(Duration.ofSeconds(15));
        assertEquals(List.of(new Step.TimeIsUp()), talk.steps(Step.TimeIsUp.class));
    }

    @Test
    void aCallThatRingsForTooLongEndsWithoutAWord() throws Exception {
        var talk = Talk.dialled(this, Talk.greeting(this), new Options("ST_1", List.of("+1"),
                Talk.SALES, Talk.SILENCE, Duration.ofSeconds(20), new Numbers("")), true);
        endsAfter(talk, Duration.ofSeconds(20), "too_long", null);
        assertEquals(List.of(), talk.steps(Step.TimeIsUp.class));
    }

    @Test
    void aProgramThatIsGoingToBeStoppedSaysGoodbyeToThoseWhoTalk() throws Exception {
        var talk = greeted();
        talk.happens(new Event.TimeIsUp());
        assertEquals(List.of(new Step.TimeIsUp()), talk.steps(Step.TimeIsUp.class));
        talk.heard(100);
        endsAfter(talk, Duration.ofMillis(300), "worker_stopped", null);
        assertEquals("worker", talk.ended().by());
    }

    @Test
    void itDoesNotDisturbThoseWhoDoNotTalk() throws Exception {
        var line = new TestLine();
        line.answers = false;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        line.pickedUp.get(SOON.toSeconds(), TimeUnit.SECONDS);
        talk.happens(new Event.TimeIsUp());
        assertFalse(talk.end.isDone());
        talk.happens(new Event.CallerHears());
        talk.heard(50);
        assertEquals(List.of(), talk.steps(Step.TimeIsUp.class));
        talk.happens(new Event.Stop());
        assertEquals("worker_stopped", talk.ended().reason());
    }
}
