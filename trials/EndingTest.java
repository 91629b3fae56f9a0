package trials;

import module java.base;
import demo.DemoModel;
import demo.DemoModel.Say;
import demo.DemoModel.Tool;
import org.junit.jupiter.api.Test;
import voice.Clips;
import voice.End;
import voice.Event;
import voice.Event.Refusal;
import voice.Line;
import voice.Numbers;
import voice.Options;
import voice.Step;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/: how a telephone conversation goes on elsewhere, and how it ends. These are transfers,
/// calls that we make, and every end with what is reported of it. SessionTest has the rest.
public final class EndingTest extends Stand {
    private static final Duration MS = SessionTest.MS;
    static final Refusal BUSY = new Refusal(429, 486, "Busy Here");
    static final Event REFUSED = new Event.TransferFailed(BUSY);
    static final Event NOBODY_KNOWS = new Event.TransferFailed(new Refusal(408, 0, "timed out"));
    static final Event NO_REPLY = new Event.TransferFailed(new Refusal(0, 0, "no answer"));
    static final Event WORKED = new Event.Transferred();
    static final Event LEAVES = new Event.CallerLeft("CLIENT_INITIATED");
    static final Event SPEAKS = new Event.CallerSpeaks("i");

    // Transfers.

    /// How far a transfer has come. voice.Transfer has the same words.
    enum State { NONE, ANNOUNCED, REFERRED, UNKNOWN, DONE }

    private Talk transfer(DemoModel model, State state) throws Exception {
        return transfer(this, model, state);
    }

    /// A call in which the transfer to sales has come that far.
    static Talk transfer(Stand stand, DemoModel model, State state) throws Exception {
        var talk = Talk.begun(stand, new TestLine(), model, SessionTest.patient("ST_1"));
        talk.heard(50);
        bring(talk, state);
        return talk;
    }

    static void bring(Talk talk, State state) throws Exception {
        if (state == State.NONE) {
            return;
        }
        talk.agentSpeaks();
        assertNull(talk.says(session -> session.transfer("sales")));
        if (state == State.ANNOUNCED) {
            return;
        }
        talk.agentIsDone();
        talk.line.pass(Duration.ofMillis(300));
        assertEquals(List.of("tel:+15550001111"), List.copyOf(talk.line.transfers));
        if (state != State.REFERRED) {
            talk.happens(state == State.UNKNOWN ? NOBODY_KNOWS : WORKED);
            talk.steps.clear();
        }
    }

    @Test
    void theReferWaitsUntilTheAnnouncementWasHeard() throws Exception {
        var model = model(new Say("Hello.", 50), new Tool("transfer", "{}"),
                new Say("I am putting you through.", 200));
        model.firstSoundMs = 10;
        var line = new TestLine();
        var talk = Talk.begun(this, line, model);
        talk.heard(50);
        talk.callerSays(1, 600);
        talk.heard(250);
        line.pass(Duration.ofMillis(299));
        assertEquals(List.of(), List.copyOf(line.transfers));
        line.pass(MS);
        assertEquals(List.of("tel:+15550001111"), List.copyOf(line.transfers));
        noMistakes(model);
    }

    /// The REFER goes out when so much time has passed, and no millisecond before.
    private static void refersAfter(Talk talk, int ms) throws Exception {
        talk.line.pass(Duration.ofMillis(ms - 1));
        assertEquals(List.of(), List.copyOf(talk.line.transfers));
        talk.line.pass(MS);
        assertEquals(1, talk.line.transfers.size());
    }

    /// A call in which a transfer has begun. The model waits for a tool and has not said so yet.
    private Talk silentTransfer() throws Exception {
        var talk = transfer(model(new Say("Hello.", 50), new Tool("slow", "{}")), State.NONE);
        talk.callerSays(1, 600);
        eventually("it waits", () -> !talk.steps(Step.ToolCalled.class).isEmpty());
        assertNull(talk.says(session -> session.transfer("sales")));
        return talk;
    }

    private static void announces(Talk talk) throws Exception {
        talk.agentSpeaks();
        talk.happens(new Event.AgentSpeaks("i"));
    }

    @Test
    void theReferWaitsEightSecondsForAnAnnouncementThatDoesNotBegin() throws Exception {
        refersAfter(silentTransfer(), 8_000);
    }

    @Test
    void theReferWaitsTwentySecondsFromTheFirstSoundOfTheAnnouncement() throws Exception {
        var talk = silentTransfer();
        talk.line.pass(Duration.ofMillis(7_999));
        announces(talk);
        refersAfter(talk, 20_000);
        talk.agentIsDone();
        talk.agentSpeaks();             // and what is said after that changes nothing
        talk.line.pass(Duration.ofSeconds(30));
        assertEquals(1, talk.line.transfers.size());
    }

    @Test
    void anAnnouncementThatIsBeingHeardAlreadyCountsFromItsOwnFirstSound() throws Exception {
        var talk = transfer(Talk.greeting(this), State.NONE);
        talk.line.pass(Duration.ofMinutes(1));
        talk.agentSpeaks();
        talk.line.pass(Duration.ofSeconds(5));
        assertNull(talk.says(session -> session.transfer("sales")));
        refersAfter(talk, 15_000);
    }

    @Test
    void aSecondSentenceOfTheAnnouncementDoesNotGetMoreTime() throws Exception {
        var talk = silentTransfer();
        announces(talk);
        talk.line.pass(Duration.ofSeconds(4));
        talk.agentIsDone();
        talk.line.pass(Duration.ofSeconds(1));
        talk.agentSpeaks();
        refersAfter(talk, 15_000);
    }

    @Test
    void theRecordingForThoseWhoWaitIsNoAnnouncement() throws Exception {
        var talk = silentTransfer();
        talk.line.pass(Duration.ofSeconds(3));
        talk.hears(Clips.MOMENT);
        talk.agentIsDone();
        refersAfter(talk, 5_000);
    }

    @Test
    void theRecordingBeforeACallIsPutThroughIsHeardOut() throws Exception {
        var talk = Talk.greeted(this, Talk.SUPPORT);
        talk.agentSpeaks();
        talk.line.pass(Duration.ofSeconds(15));
        talk.happens(new Event.ModelLost("it is gone"));    // breaks off that sentence
        talk.hears(Clips.COLLEAGUE);
        talk.agentSpeaks();             // as if the recording were that long
        refersAfter(talk, 20_000);
    }

    @Test
    void whateverHappensInATransferHasItsConsequence() throws Exception {
        // `reason` is null when the call goes on; `free` says that another transfer can begin then.
        record Case(State state, Event then, Step step, String reason, boolean free) {}
        var model = Talk.greeting(this);
        for (Case each : List.of(
                new Case(State.NONE, SPEAKS, null, null, true),
                new Case(State.NONE, LEAVES, null, "caller_hung_up", false),
                new Case(State.ANNOUNCED, SPEAKS, null, null, true),
                new Case(State.ANNOUNCED, LEAVES, null, "caller_hung_up", false),
                new Case(State.REFERRED, SPEAKS, null, null, false),
                new Case(State.REFERRED, LEAVES, null, null, false),
                new Case(State.REFERRED, WORKED, new Step.Transferred("sales"), null, false),
                new Case(State.REFERRED, REFUSED, new Step.TransferFailed("sales", BUSY), null,
                        true),
                new Case(State.REFERRED, NOBODY_KNOWS, new Step.TransferUnknown("sales"), null,
                        false),
                new Case(State.REFERRED, NO_REPLY, new Step.TransferUnknown("sales"), null, false),
                new Case(State.UNKNOWN, SPEAKS, null, null, false),
                new Case(State.UNKNOWN, LEAVES, new Step.Transferred("sales"), "transferred",
                        false),
                new Case(State.DONE, SPEAKS, null, null, false),
                new Case(State.DONE, LEAVES, null, "transferred", false))) {
            var talk = transfer(model, each.state);
            talk.steps.clear();
            talk.happens(each.then);
            assertEquals(each.step == null ? List.of() : List.of(each.step), talk.steps,
                    each.toString());
            if (each.reason != null) {
                assertEquals(each.reason, talk.ended().reason(), each.toString());
                assertEquals(each.reason.equals("transferred") ? "sales" : null,
                        talk.ended().transferredTo());
                assertFalse(talk.line.hungUp);
            } else {
                assertFalse(talk.end.isDone(), each.toString());
                int refers = talk.line.transfers.size();
                assertEquals(each.free ? null
                        : "The caller is already being transferred to sales.",
                        talk.says(session -> session.transfer("sales")), each.toString());
                talk.agentIsDone();
                talk.line.pass(Duration.ofMillis(300));
                assertEquals(refers + (each.free ? 1 : 0), talk.line.transfers.size(),
                        each.toString());
            }
        }
    }

    private static final Map<String, String> BOTH = Map.of("sales", "tel:+15550001111",
            "support", "tel:+15550003333");
    private static final Event KEY = new Event.KeyPressed("1");
    private static final Event TYPES = new Event.CallerWrote("No, not to sales.");

    @Test
    void whoSaysSomethingDuringTheAnnouncementCallsTheTransferOff() throws Exception {
        var model = Talk.greeting(this);
        for (Event words : List.of(SPEAKS, TYPES, KEY)) {
            var talk = Talk.begun(this, new TestLine(), model, new Options("", List.of(), BOTH,
                    Duration.ofHours(9), Talk.LONGEST, new Numbers("")));
            talk.heard(50);
            bring(talk, State.ANNOUNCED);
            talk.happens(words);
            talk.agentIsDone();
            talk.line.pass(Duration.ofMillis(300));         // a key is told 1.5 s later
            for (int seconds : List.of(2, 20)) {
                eventually("it is the caller's turn", talk.line::listening);
                talk.line.pass(Duration.ofSeconds(seconds));
            }
            eventually("it is the caller's turn", talk.line::listening);
            assertEquals(List.of(), List.copyOf(talk.line.transfers), words.toString());

            assertNull(talk.says(session -> session.transfer("support")), words.toString());
            talk.agentIsDone();
            talk.line.pass(Duration.ofMillis(300));
            assertEquals(List.of("tel:+15550003333"), List.copyOf(talk.line.transfers));
        }
    }

    @Test
    void aTransferThatIsCalledOffBeforeItsAnnouncementLeavesNothingBehind() throws Exception {
        var talk = silentTransfer();
        talk.happens(SPEAKS);
        announces(talk);
        talk.line.pass(Duration.ofSeconds(21));
        assertFalse(talk.end.isDone());
        assertEquals(List.of(), List.copyOf(talk.line.transfers));
    }

    @Test
    void whatACallerHasCalledOffWasNotTried() throws Exception {
        var talk = Talk.greeted(this, Talk.SUPPORT);
        talk.agentSpeaks();
        assertNull(talk.says(session -> session.transfer("support")));
        talk.happens(SPEAKS, new Event.ModelLost("it is gone"));
        talk.hears(Clips.COLLEAGUE);
        talk.agentIsDone();
        refersAfter(talk, 300);
    }

    @Test
    void aLostModelHearsNobodyCallOffATransfer() throws Exception {
        var model = Talk.greeting(this);
        for (Event words : List.of(SPEAKS, TYPES, KEY)) {
            for (State state : List.of(State.NONE, State.ANNOUNCED)) {
                var talk = Talk.begun(this, new TestLine(), model, Talk.options(BOTH));
                talk.heard(50);
                bring(talk, state);
                talk.happens(new Event.ModelLost("it is gone"), words);
                talk.agentIsDone();
                refersAfter(talk, 300);
            }
        }
    }

    @Test
    void noTransferBeginsWhileTheCallerSpeaks() throws Exception {
        var talk = transfer(Talk.greeting(this), State.NONE);
        talk.modelSends(1, SessionTest.SPEECH_STARTED);
        assertEquals("The caller is speaking. Ask again if they still want to be transferred.",
                talk.says(session -> session.transfer("sales")));
        talk.modelSends(1, SessionTest.SPEECH_STOPPED);
        assertNull(talk.says(session -> session.transfer("sales")));
    }

    /// LiveKit's answer may come when the caller has left. That is 3 s later at the most.
    @Test
    void theCallWaitsForTheOutcomeOfATransferWhenTheCallerHasLeft() throws Exception {
        record Case(Event then, Step step, String reason) {}
        var model = Talk.greeting(this);
        for (Case each : List.of(
                new Case(WORKED, new Step.Transferred("sales"), "transferred"),
                new Case(NOBODY_KNOWS, new Step.Transferred("sales"), "transferred"),
                new Case(REFUSED, new Step.TransferFailed("sales", BUSY), "caller_hung_up"),
                new Case(null, new Step.Transferred("sales"), "transferred"))) {
            var talk = transfer(model, State.REFERRED);
            talk.happens(LEAVES);
            talk.line.pass(Duration.ofMillis(2_999));
            assertFalse(talk.end.isDone());
            if (each.then == null) {
                talk.line.pass(MS);
            } else {
                talk.happens(each.then);
            }
            assertEquals(each.reason, talk.ended().reason(), each.toString());
            assertEquals(List.of(new Step.Ringing(), each.step), talk.steps);
            assertFalse(talk.line.hungUp);
        }
    }

    /// Has the transfer whose outcome nobody knew come to nothing? Ends the call.
    private static void assertSettled(boolean settled, Talk talk, String what) throws Exception {
        talk.happens(LEAVES);
        assertEquals(settled ? "caller_hung_up" : "transferred", talk.ended().reason(), what);
        assertEquals(settled ? List.of() : List.of(new Step.Transferred("sales")), talk.steps,
                what);
    }

    private static final Event ANSWERS = new Event.AgentSpeaks("i");

    @Test
    void onlyASecondTurnAfterTheAgentsAnswerSettlesThatATransferHasNotWorked() throws Exception {
        var model = Talk.greeting(this);
        for (var each : Map.<List<Event>, Boolean>of(
                List.of(), false,
                List.of(SPEAKS), false,
                List.of(SPEAKS, SPEAKS), false,
                List.of(SPEAKS, ANSWERS), false,
                List.of(SPEAKS, ANSWERS, SPEAKS), true,
                List.of(SPEAKS, SPEAKS, ANSWERS, ANSWERS, SPEAKS), true,
                List.of(ANSWERS, SPEAKS, SPEAKS), false,        // to stay on the line
                List.of(ANSWERS, SPEAKS, ANSWERS, SPEAKS), true).entrySet()) {
            var talk = transfer(model, State.UNKNOWN);
            talk.happens(each.getKey().toArray(Event[]::new));
            assertSettled(each.getValue(), talk, each.toString());
        }
    }

    @Test
    void whatWasSaidBeforeTheOutcomeWasUnknownSettlesNothing() throws Exception {
        var talk = transfer(Talk.greeting(this), State.REFERRED);
        talk.happens(SPEAKS, ANSWERS, NOBODY_KNOWS, ANSWERS, SPEAKS);
        talk.steps.clear();
        assertSettled(false, talk, "");
    }

    @Test
    void whatTheAgentSaysWhileTheCallerSpeaksIsNoAnswerToThem() throws Exception {
        var talk = transfer(Talk.greeting(this), State.UNKNOWN);
        talk.modelSends(1, SessionTest.SPEECH_STARTED);
        talk.happens(ANSWERS);
        talk.modelSends(1, SessionTest.SPEECH_STOPPED, SessionTest.SPEECH_STARTED);
        assertSettled(false, talk, "");
    }

    @Test
    void typedWordsAndKeysAreTurnsLikeSpokenOnes() throws Exception {
        var model = Talk.greeting(this);
        for (Event words : List.of(TYPES, KEY)) {
            var talk = transfer(model, State.UNKNOWN);
            for (boolean settled : List.of(false, true)) {
                talk.happens(words);
                talk.line.pass(Duration.ofMillis(1_500));
                eventually("the agent has answered", talk.line::listening);
                assertEquals(settled, talk.says(session -> session.transfer("sales")) == null);
            }
        }
    }

    @Test
    void whoStaysForTwoMinutesWasNotTransferred() throws Exception {
        var model = Talk.greeting(this);
        for (Event before : List.of(SPEAKS, ANSWERS)) {
            for (boolean over : List.of(false, true)) {
                var talk = transfer(model, State.UNKNOWN);
                talk.happens(before);
                talk.line.pass(Duration.ofMillis(over ? 120_000 : 119_999));
                assertSettled(over, talk, before.toString());
            }
        }
    }

    @Test
    void theTwoMinutesOfAnEarlierTransferAreNotThoseOfTheNextOne() throws Exception {
        var model = Talk.greeting(this);
        for (int seconds : List.of(59, 61)) {
            var talk = transfer(model, State.UNKNOWN);
            talk.line.pass(Duration.ofSeconds(60));
            talk.happens(SPEAKS, ANSWERS, SPEAKS);
            assertNull(talk.says(session -> session.transfer("sales")));
            talk.line.pass(Duration.ofMillis(300));
            talk.line.pass(Duration.ofSeconds(seconds));
            assertEquals("The caller is already being transferred to sales.",
                    talk.says(session -> session.transfer("sales")));
            talk.happens(NOBODY_KNOWS);
            talk.steps.clear();
            talk.line.pass(Duration.ofMillis(119_999));
            assertSettled(false, talk, "after " + seconds);
        }
    }

    @Test
    void theSilenceOfACallerCountsAgainWhenTheyHaveStayedForTwoMinutes() throws Exception {
        var talk = Talk.greeted(this, Talk.SALES);
        bring(talk, State.UNKNOWN);
        talk.line.pass(Duration.ofMillis(120_000));
        talk.line.pass(Talk.SILENCE.minus(MS));
        assertEquals(List.of(), talk.steps);
        talk.line.pass(MS);
        assertEquals(List.of(new Step.Silent(false)), talk.steps);
    }

    @Test
    void whoLeavesDuringTheGoodbyeOfALostModelWasTransferredIfNobodyKnows() throws Exception {
        var talk = transfer(Talk.greeting(this), State.UNKNOWN);
        talk.happens(SPEAKS, new Event.ModelLost("it is gone"));
        talk.hears(Clips.GOODBYE);
        assertSettled(false, talk, "");
        assertEquals("it is gone", talk.ended().cause());
    }

    @Test
    void aTransferredPhoneThatDoesNotLeaveIsHungUp() throws Exception {
        var talk = transfer(Talk.greeting(this), State.DONE);
        talk.line.pass(Duration.ofMillis(9_999));
        assertFalse(talk.end.isDone());
        talk.line.pass(MS);
        assertEquals("transferred", talk.ended().reason());
        assertEquals("sales", talk.ended().transferredTo());
        assertTrue(talk.line.hungUp);
    }

    @Test
    void aCallerOnTheWayToSomebodyIsNotAskedWhetherTheyAreThere() throws Exception {
        var model = Talk.greeting(this);
        var silence = Duration.ofSeconds(5);
        for (var each : Map.of(State.NONE, 1, State.REFERRED, 0, State.UNKNOWN, 0, State.DONE, 0)
                .entrySet()) {
            var talk = Talk.begun(this, new TestLine(), model,
                    new Options("", List.of(), Talk.SALES, silence, Talk.LONGEST,
                            new Numbers("")));
            talk.heard(50);
            bring(talk, each.getKey());
            talk.line.pass(silence);
            assertEquals(each.getValue(), talk.steps(Step.Silent.class).size(), each.toString());
        }
    }

    @Test
    void whoIsNotOnAPhoneIsNotTransferred() throws Exception {
        var talk = transfer(Talk.greeting(this), State.NONE);
        talk.line.onPhone = false;
        assertEquals("The caller is not on a phone and cannot be transferred. Offer a note.",
                talk.says(session -> session.transfer("sales")));
        talk.line.pass(Duration.ofSeconds(8));
        assertEquals(List.of(), List.copyOf(talk.line.transfers));
    }

    // Ends.

    @Test
    void everyEndHasItsReasonAndItsCause() throws Exception {
        record Case(List<Event> events, String reason, String by, String cause, boolean hungUp) {}
        var model = Talk.greeting(this);
        String x400 = "x".repeat(400);
        for (Case each : List.of(
                new Case(List.of(LEAVES), "caller_hung_up", "caller", null, false),
                new Case(List.of(new Event.Stop()), "worker_stopped", "worker", null, true),
                new Case(List.of(new Event.LineLost("x")), "room_lost", "room", "x", true),
                new Case(List.of(new Event.LineLost(x400)), "room_lost", "room",
                        "x".repeat(300), true),
                new Case(List.of(new Event.Posted(x400)), "error", "worker",
                        "IllegalStateException: not ours: " + "x".repeat(267), true),
                new Case(List.of(new Event.ModelLost("it is gone"), LEAVES), "model_lost", "model",
                        "it is gone", false),
                new Case(List.of(new Event.ModelLost(x400), LEAVES), "model_lost", "model",
                        "x".repeat(300), false),
                new Case(List.of(new Event.ModelLost("it is gone"), new Event.LineLost("x")),
                        "room_lost", "room", "x", true),
                new Case(List.of(new Event.TakenOver("x")), "taken_over", "room", null, false),
                new Case(List.of(new Event.CallerLeft("SIP_TRUNK_FAILURE")), "bad_trunk", "agent",
                        "SIP_TRUNK_FAILURE", false),
                new Case(List.of(new Event.ModelLost("it is gone"), new Event.Stop()),
                        "worker_stopped", "worker", "it is gone", true))) {
            var talk = transfer(model, State.NONE);
            talk.happens(each.events.toArray(Event[]::new));
            End end = talk.ended();
            assertEquals(each.reason, end.reason());
            assertEquals(each.by, end.by(), end.toString());
            assertEquals(each.cause, end.cause());
            assertEquals(each.hungUp, talk.line.hungUp, end.toString());
            assertTrue(end.hungUp().isDone());
            assertNull(end.sipCode());
            assertNull(end.transferredTo());
            Throwable thrown = talk.line.over.get(SOON.toSeconds(), TimeUnit.SECONDS);
            assertEquals(each.reason.equals("error"), thrown != null);
            assertFalse(talk.line.shown.getLast().containsKey("call.reason"));
        }
    }

    @Test
    void anEndKnowsWhenTheCallBeganAndWasAnswered() throws Exception {
        var line = new TestLine();
        line.answers = false;
        Instant before = Instant.now();
        var talk = Talk.begun(this, line, Talk.greeting(this));
        line.settle();
        Instant after = Instant.now();
        line.pass(Duration.ofMillis(1_500));
        talk.happens(new Event.CallerHears());
        line.pass(Duration.ofMillis(2_845));
        talk.happens(LEAVES);
        End end = talk.ended();
        assertFalse(end.started().isBefore(before.truncatedTo(ChronoUnit.MILLIS))
                || end.started().isAfter(after));
        assertEquals(end.started().plusMillis(1_500), end.answered());
        assertEquals(end.started().plusMillis(4_345), end.ended());
        assertEquals(Duration.ofMillis(4_345), end.length());
    }

    @Test
    void nobodyWhoNeverCameIsWaitedForLongerThanAMinute() throws Exception {
        record Case(String metadata, int seconds, String reason, String by, String cause) {}
        for (Case each : List.of(new Case("", 60, "no_answer", "caller", null),
                new Case(SessionTest.TO_CALL, 5, "bad_trunk", "agent",
                        "OUTBOUND_TRUNK_ID is not set, so nobody can be called"),
                new Case("{\"phone_number\":\"nobody\"}", 5, "bad_trunk", "agent",
                        "phone_number is not +15551234567"))) {
            for (boolean comes : List.of(false, true)) {
                var line = new TestLine();
                line.comes = false;
                line.metadata = each.metadata;
                var talk = Talk.begun(this, line, Talk.greeting(this), SessionTest.patient(""));
                line.pass(Duration.ofSeconds(each.seconds).minus(MS));
                assertFalse(talk.end.isDone());
                if (comes) {
                    talk.happens(new Event.CallerJoined());
                }
                line.leap(MS);
                if (comes) {
                    line.settle();
                    assertFalse(talk.end.isDone());
                    continue;
                }
                End end = talk.ended();
                assertEquals(each.reason, end.reason());
                assertEquals(each.by, end.by());
                assertNull(end.answered());
                assertEquals(each.cause, end.cause());
                if (each.seconds == 5) {
                    eventually("it is shown", () -> line.shown.contains(
                            outcome("bad_trunk", false, "")));
                } else {
                    assertNull(line.over.get(SOON.toSeconds(), TimeUnit.SECONDS));
                    assertFalse(line.shown.getLast().containsKey("call.reason"));
                }
            }
        }
    }

    @Test
    void aRoomThatCannotBeJoinedIsAnError() throws Exception {
        var line = new TestLine();
        line.metadata = SessionTest.TO_CALL;
        line.noRoom = new IOException("no room");
        var talk = Talk.begun(this, line, Talk.greeting(this));
        End end = talk.ended();
        assertTrue(talk.started);
        assertTrue(line.hungUp);
        assertEquals("error", end.reason());
        assertEquals("IOException: no room", end.cause());
        assertNull(end.answered());
        assertFalse(end.length().isNegative());
        assertEquals("IOException: no room",
                line.over.get(SOON.toSeconds(), TimeUnit.SECONDS).getCause().toString()
                        .replace("java.io.", ""));
        assertEquals(List.of(), List.copyOf(line.shown));
    }

    @Test
    void aWorkerThatIsStoppedWhileACallJoinsItsRoomIsNoError() throws Exception {
        var line = new TestLine();
        line.noRoom = new IOException("the worker is being stopped");
        line.mailbox.post(new Event.Stop());
        End end = Talk.begun(this, line, Talk.greeting(this)).ended();
        assertEquals("worker_stopped", end.reason());
        assertNull(end.cause());
    }

    @Test
    void aCallThatIsNotOursDoesNotStart() throws Exception {
        var line = new TestLine();
        line.noRoom = new Line.NotOurs("nobody has given it to us");
        var talk = Talk.begun(this, line, Talk.greeting(this));
        assertEquals("error", talk.ended().reason());
        assertFalse(talk.started);
    }

    // Calls that we make.

    /// A call that we make: it has dialled, and nobody has answered yet.
    private Talk dialled(DemoModel model) throws Exception {
        return dialled(model, true);
    }

    private Talk dialled(DemoModel model, boolean subscribes) throws Exception {
        return Talk.dialled(this, model, SessionTest.patient("ST_1"), subscribes);
    }

    private static Map<String, String> outcome(String reason, boolean answered, Object code) {
        return Map.of("call.reason", reason, "call.answered", "" + answered,
                "call.sip_code", "" + code);
    }

    @Test
    void aCallThatWeMakeSaysWhyItWasNotAnswered() throws Exception {
        record Case(int http, int code, String reason, String by) {}
        var all = new ArrayList<Case>();
        for (int code : List.of(486, 600)) {
            all.add(new Case(403, code, "busy", "caller"));
        }
        for (int code : List.of(603, 607, 608)) {
            all.add(new Case(403, code, "declined", "caller"));
        }
        for (int code : List.of(408, 480, 487)) {
            all.add(new Case(403, code, "no_answer", "caller"));
        }
        for (int code : List.of(404, 410, 484, 604)) {
            all.add(new Case(403, code, "wrong_number", "agent"));
        }
        for (int code : List.of(400, 403, 500, 503, 606)) {
            all.add(new Case(403, code, "bad_trunk", "agent"));
        }
        all.add(new Case(408, 0, "no_answer", "caller"));
        all.add(new Case(500, 0, "bad_trunk", "agent"));
        all.add(new Case(401, 0, "bad_trunk", "agent"));
        var model = Talk.greeting(this);
        for (Case each : all) {
            var talk = dialled(model);
            talk.line.mailbox.post(
                    new Event.DialFailed(new Refusal(each.http, each.code, "words")));
            End end = talk.ended();
            assertEquals(each.reason, end.reason(), each.toString());
            assertEquals(each.by, end.by(), each.toString());
            assertEquals(each.code == 0 ? null : each.code, end.sipCode());
            assertNull(end.answered());
            assertEquals(!each.reason.equals("bad_trunk") ? null
                    : (each.code == 0 ? "HTTP " + each.http : "SIP " + each.code) + " words",
                    end.cause());
            var shown = outcome(each.reason, false, each.code == 0 ? "" : each.code);
            eventually("it is shown: " + shown, () -> shown.equals(talk.line.shown.getLast()));
        }
    }

    @Test
    void sipHasThreeSecondsToSayWhyThePhoneHasLeft() throws Exception {
        var model = Talk.greeting(this);
        for (var each : Map.of("USER_REJECTED", "declined", "USER_UNAVAILABLE", "no_answer",
                "CLIENT_INITIATED", "no_answer").entrySet()) {
            for (boolean said : List.of(true, false)) {
                var talk = dialled(model);
                talk.happens(new Event.CallerLeft(each.getKey()));
                talk.line.pass(Duration.ofMillis(2_999));
                assertFalse(talk.end.isDone());
                if (said) {
                    talk.line.mailbox.post(new Event.DialFailed(BUSY));
                } else {
                    talk.line.leap(MS);
                }
                assertEquals(said ? "busy" : each.getValue(), talk.ended().reason());
                assertEquals(said ? 486 : null, talk.ended().sipCode());
                assertFalse(talk.line.hungUp);
            }
        }
    }

    @Test
    void aPhoneThatNobodyPicksUpRingsForAMinute() throws Exception {
        var talk = dialled(Talk.greeting(this));
        talk.happens(new Event.DialFailed(new Refusal(0, 0, "LiveKit has not said")));
        talk.line.pass(Duration.ofSeconds(60).minus(MS));
        assertFalse(talk.end.isDone());
        talk.line.leap(MS);
        assertEquals("no_answer", talk.ended().reason());
        assertTrue(talk.line.hungUp);
        assertNull(talk.ended().sipCode());
        assertNull(talk.ended().answered());
    }

    @Test
    void aPhoneThatWasAnsweredIsGreetedAndDoesNotRing() throws Exception {
        var model = Talk.greeting(this);
        for (boolean confirmed : List.of(true, false)) {
            var talk = dialled(model);
            var line = talk.line;
            line.pass(Duration.ofSeconds(58));
            talk.happens(new Event.CallerAnswered());
            talk.happens(new Event.DialFailed(new Refusal(403, 486, "too late")));
            line.pass(Duration.ofMillis(2_999));
            assertFalse(line.ear.isDone());
            if (confirmed) {
                talk.happens(new Event.CallerHears());
            } else {
                line.pass(MS);
            }
            talk.heard(50);
            line.mailbox.post(LEAVES);
            End end = talk.ended();
            assertEquals("caller_hung_up", end.reason());
            assertEquals(end.started().plusSeconds(58), end.answered());
            assertNull(end.sipCode());
            var shown = outcome("caller_hung_up", true, "");
            eventually("it is shown", () -> shown.equals(line.shown.getLast()));
        }
    }

    /// Somebody else in the room may have heard it since long before that.
    @Test
    void whoHasAnsweredIsGreetedWhenTheAgentsSoundComesToSomebody() throws Exception {
        var model = Talk.greeting(this);
        for (boolean before : List.of(true, false)) {
            var talk = dialled(model, false);
            talk.line.pickedUp.get(SOON.toSeconds(), TimeUnit.SECONDS);
            if (before) {
                talk.happens(new Event.Subscribed());
            }
            talk.line.pass(Duration.ofSeconds(58));
            talk.happens(new Event.CallerAnswered());
            talk.line.pass(Duration.ofMillis(before ? 2_999 : 59_999));
            assertFalse(talk.line.ear.isDone());
            talk.line.leap(MS);
            if (!before) {
                assertEquals("no_answer", talk.ended().reason());
                continue;
            }
            talk.heard(50);
            talk.line.pass(Duration.ofMinutes(2));
            talk.happens(new Event.CallerAnswered());       // too late to change anything
            talk.line.pass(Duration.ofMinutes(2));
            assertFalse(talk.end.isDone());
        }
    }

    /// LiveKit says on two ways that a phone has left, and that it was answered.
    @Test
    void aPhoneThatHasAnsweredAndLeftAtOnceHasHungUp() throws Exception {
        var talk = dialled(Talk.greeting(this));
        talk.happens(LEAVES, new Event.CallerAnswered());
        talk.line.leap(Duration.ofSeconds(3));
        assertEquals("caller_hung_up", talk.ended().reason());
    }

    @Test
    void whoHearsUsHasAnswered() throws Exception {
        var talk = dialled(Talk.greeting(this));
        talk.happens(new Event.CallerHears());
        talk.heard(50);
        talk.line.pass(Duration.ofMinutes(2));
        assertFalse(talk.end.isDone());
    }

    @Test
    void howACallThatWeMadeHasEndedIsShownForTwoSeconds() throws Exception {
        var talk = dialled(Talk.greeting(this));
        talk.line.mailbox.post(new Event.DialFailed(BUSY));
        var shown = outcome("busy", false, 486);
        eventually("it is shown", () -> shown.equals(talk.line.shown.getLast()));
        talk.line.leap(Duration.ofMillis(1_999));
        assertThrows(TimeoutException.class,
                () -> talk.line.over.get(30, TimeUnit.MILLISECONDS));
        talk.line.leap(MS);
        assertNull(talk.line.over.get(SOON.toSeconds(), TimeUnit.SECONDS));
    }

    @Test
    void whatIsShownGoesWithTheProcessOrTheRoom() throws Exception {
        var model = Talk.greeting(this);
        for (Event end : List.of(new Event.Stop(), new Event.LineLost("x"))) {
            var shown = dialled(model);
            shown.line.mailbox.post(new Event.DialFailed(BUSY));
            shown.ended();
            shown.line.mailbox.post(end);
            assertNull(shown.line.over.get(SOON.toSeconds(), TimeUnit.SECONDS));

            var talk = dialled(model);          // and there is no use in showing it
            talk.line.mailbox.post(end);
            talk.ended();
            assertNull(talk.line.over.get(SOON.toSeconds(), TimeUnit.SECONDS));
            assertFalse(talk.line.shown.getLast().containsKey("call.reason"));
        }
    }
}
