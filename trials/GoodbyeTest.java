package trials;

import module java.base;
import org.junit.jupiter.api.Test;
import trials.EndingTest.State;
import voice.Clips;
import voice.Event;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static trials.EndingTest.SPEAKS;

/// voice/: the agent hangs up when its goodbye was heard, unless the caller wants something else.
/// EndingTest has all other ends.
public final class GoodbyeTest extends Stand {
    private static final Duration MS = SessionTest.MS;

    /// The agent wants to hang up. Returns why it cannot, or null.
    private static String goodbye(Talk talk) throws Exception {
        return talk.says(session -> session.endWhenHeard("agent_hung_up", "it has said goodbye"));
    }

    @Test
    void theCallEndsWhenTheGoodbyeWasHeardOrHasHadItsTime() throws Exception {
        var model = Talk.greeting(this);
        for (boolean heard : List.of(true, false)) {
            var talk = EndingTest.transfer(this, model, State.NONE);
            talk.agentSpeaks();
            assertNull(goodbye(talk));
            assertNull(goodbye(talk), "asking again changes nothing");
            if (heard) {
                talk.agentIsDone();
            }
            talk.line.pass(Duration.ofMillis(heard ? 1_200 : 20_000).minus(MS));
            assertFalse(talk.end.isDone());
            talk.line.pass(MS);
            assertEquals("agent_hung_up agent", talk.ended().reason() + " " + talk.ended().by());
            assertNull(talk.ended().cause());
            assertTrue(talk.line.hungUp);
        }
    }

    /// Nobody says goodbye to somebody who does not hear it, or who has something to say.
    @Test
    void theAgentCannotHangUpOnACallerWhoIsBusy() throws Exception {
        var model = Talk.greeting(this);
        var ringing = new TestLine();
        ringing.answers = false;
        var talks = new LinkedHashMap<Talk, String>();
        for (String why : List.of("is speaking", "is speaking", "does not hear you",
                "may be on the way to sales", "is speaking")) {
            talks.put(EndingTest.transfer(this, model, State.NONE), why);
        }
        var some = new ArrayList<>(talks.keySet());
        some.get(0).modelSends(1, SessionTest.SPEECH_STARTED);
        some.get(1).happens(new Event.KeyPressed("1"));
        some.get(2).happens(new Event.CallerLost("x"));
        assertNull(some.get(3).says(session -> session.transfer("sales")));
        model.responds = false;                     // to what they write
        some.get(4).happens(new Event.CallerWrote("wait"));
        talks.put(Talk.begun(this, ringing, model), "does not hear you");
        for (var each : talks.entrySet()) {
            String why = goodbye(each.getKey());
            assertTrue(why.startsWith("The caller " + each.getValue()), why);
            each.getKey().line.pass(Duration.ofSeconds(9));
            assertFalse(each.getKey().end.isDone(), each.getValue());
        }
    }

    /// Their time is up in any case, and a caller who is lost in the goodbye may come back.
    @Test
    void aGoodbyeIsNoReasonToForgetWhatElseHappens() throws Exception {
        var model = Talk.greeting(this);
        var talk = EndingTest.transfer(this, model, State.NONE);
        talk.agentSpeaks();
        talk.happens(new Event.TimeIsUp());
        assertNull(goodbye(talk));
        talk.happens(SPEAKS);
        talk.line.pass(Duration.ofSeconds(15));
        assertEquals("worker_stopped", talk.ended().reason());

        talk = EndingTest.transfer(this, model, State.NONE);
        talk.agentSpeaks();
        assertNull(goodbye(talk));
        talk.happens(new Event.CallerLost("x"));
        talk.line.pass(Duration.ofSeconds(9));
        assertFalse(talk.end.isDone(), "nobody has heard the goodbye");
        for (boolean again : List.of(false, true)) {
            talk.happens(new Event.CallerBack());
            talk.line.pass(Duration.ofSeconds(9));
            assertFalse(talk.end.isDone(), "they were told nothing of an end");
            eventually("they are told where it goes on", talk.line::listening);
            if (!again) {                   // then they come back before anybody misses them
                talk.agentSpeaks();
                assertNull(goodbye(talk));
            }
        }
    }

    @Test
    void whoHasBeenSaidGoodbyeToIsNotSentToAColleague() throws Exception {
        var talk = Talk.greeted(this, Talk.SUPPORT);
        talk.agentSpeaks();
        assertNull(goodbye(talk));
        talk.happens(new Event.ModelLost("gone"));
        talk.hears(Clips.GOODBYE);
        assertEquals(List.of(), List.copyOf(talk.line.transfers));
    }

    @Test
    void whoSpeaksAgainStopsTheGoodbye() throws Exception {
        var talk = EndingTest.transfer(this, Talk.greeting(this), State.NONE);
        for (Event each : List.of(SPEAKS, new Event.KeyPressed("1"),
                new Event.CallerWrote("wait"))) {
            talk.agentSpeaks();
            goodbye(talk);
            talk.agentIsDone();
            talk.happens(each);
            talk.line.pass(Duration.ofSeconds(9));
            eventually("the answer, if there is one", talk.line::listening);
            assertFalse(talk.end.isDone(), "the call has ended");
        }
        goodbye(talk);                      // and the next one counts
        talk.line.pass(Duration.ofMillis(1_200));
        assertEquals("agent_hung_up", talk.ended().reason());
    }

    @Test
    void nobodySaysGoodbyeToACallerOnTheWayToSomebody() throws Exception {
        var model = Talk.greeting(this);
        for (State each : State.values()) {
            var talk = EndingTest.transfer(this, model, each);
            talk.does(session -> session.endWhenHeard("x", "x"));
            talk.agentIsDone();
            talk.line.pass(Duration.ofMillis(1_200));
            assertEquals(each == State.NONE, talk.end.isDone(), each.toString());
            assertEquals(each == State.NONE ? 0 : 1, talk.line.transfers.size());
        }
    }
}
