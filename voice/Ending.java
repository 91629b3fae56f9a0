package voice;

import module java.base;
import voice.Mailbox.Alarm;

/// Why a call ends, what is still done for a caller who is left alone or whose time is up, and when
/// the call began and was answered. Session makes one. Everything here runs on the call's thread.
final class Ending {
    private static final Duration OUTCOME = Duration.ofSeconds(3);  // for SIP's answer to come
    private static final Duration SHOWN = Duration.ofSeconds(2);
    static final Duration LAST_WORDS = Duration.ofSeconds(15);
    private static final Duration COMES_BACK = Duration.ofSeconds(15);
    private static final int MOST_CAUSE = 300;                      // characters
    private static final String SUPPORT = "support";    // what TRANSFER_SUPPORT sets
    private static final String TRUNK_FAILURE = "SIP_TRUNK_FAILURE";
    // Something was broken if a call has ended for one of these reasons, or without a model.
    private static final List<String> BROKEN =
            List.of("room_lost", "caller_lost", "bad_trunk", "error");

    private final Session session;
    private Instant joined;                         // null: we were never in a room
    private long joinedNanos;
    private Instant answered;
    private boolean left;                           // the caller has left
    private String leftBecause;                     // LiveKit's disconnect reason
    private boolean onlyLost;                       // `left` means no more than that
    private String lostBecause;                     // the caller's connection; null: it is there
    private boolean brokeOff;                       // that has broken off the conversation
    private String modelLost;                       // why, or null
    private String reason;                          // null as long as the call goes on
    private String cause;                           // in words
    private int sipCode;                            // what SIP said to a call that we made, or 0

    Ending(Session session) {
        this.session = session;
    }

    /// We are in the room.
    void joined() {
        joined = Instant.now();
        joinedNanos = session.mailbox.nanos();
    }

    /// The time, counted from `joined`. So it does not jump when somebody sets the clock in
    /// mid-call.
    Instant now() {
        return joined == null ? Instant.now()
                : joined.plusNanos(session.mailbox.nanos() - joinedNanos);
    }

    /// The phone was answered.
    void answered() {
        answered = answered == null ? now() : answered;
    }

    /// Have we called somebody who has not answered yet?
    boolean notYetAnswered() {
        return session.outbound && answered == null;
    }

    boolean callerHasLeft() {
        return left;
    }

    /// Why the model is lost, or null.
    String modelLost() {
        return modelLost;
    }

    // A call that cannot go on.

    /// The model is lost, so nobody can talk to the caller any more.
    void modelLost(String why) {
        Log.step(session.line.id(), "model", "NOT to be had any more: " + why);
        modelLost = why;
        session.modelAway = false;
        session.mailbox.cancel(Alarm.MODEL_AWAY);
        if (notYetAnswered()) {
            end("model_lost", why);             // nobody has to pick up for a goodbye
        } else if (session.talking) {
            apologize();
        } else if (session.begun) {
            session.pickUp.pickUp();
        }
    }

    /// Puts the caller through to a colleague, if that is possible. Otherwise a recording says
    /// goodbye, and the call ends. Nobody is left in silence.
    void apologize() {
        if (session.transfer.underWay()) {
            return;                             // the caller is on the way to somebody
        }
        // As long as the outcome of a transfer is unknown, the transfer may still work. So no
        // second REFER is sent. A caller who has been said goodbye to needs nobody.
        boolean colleague = session.transfer.canBegin() && session.line.onPhone()
                && !session.turn.saysGoodbye()
                && session.options.destinations().containsKey(SUPPORT)
                && !session.transfer.triedTo(SUPPORT);
        session.conversation.interrupt();       // what is left would delay the recording
        session.turn.play(colleague ? Clips.COLLEAGUE : Clips.GOODBYE);
        if (colleague) {
            session.transfer.begin(SUPPORT);
        } else {
            session.turn.whenHeard(() -> end("model_lost", modelLost));
        }
    }

    /// The call is to end soon. If the caller is talking to us, they hear a goodbye before that.
    /// Returns the step for the program, or null.
    Step sayGoodbye(String reason, String why) {
        if (!session.talking || session.transfer.underWay() || modelLost != null) {
            return null;
        }
        session.conversation.interrupt();
        session.turn.whenHeard(LAST_WORDS, () -> end(reason, why));
        return new Step.TimeIsUp();
    }

    /// The agent wants to hang up. Returns null, or says why not now, in words for the model.
    String whenHeard(String reason, String why) {
        if (!session.transfer.canBegin()) {
            return "The caller may be on the way to " + session.transfer.destination() + ".";
        }
        if (!session.talking) {
            return "The caller does not hear you now. Wait until they do.";
        }
        if (callerIsBusy()) {
            return "The caller is speaking or pressing keys. Listen, answer, and call this again "
                    + "only if they need nothing more.";
        }
        if (!session.turn.endsSoon()) {     // or the call ends in any case, for another reason
            session.turn.whenHeardUnlessTheCallerSpeaks(() -> end(reason, why));
        }
        return null;
    }

    /// Is the caller saying something that the model has not answered yet?
    boolean callerIsBusy() {
        synchronized (session.conversation) {       // which guards the history
            return session.conversation.callerSpeaking() || !session.keys.isEmpty()
                    || session.conversation.history.callerUnanswered();
        }
    }

    boolean over() {
        return reason != null;
    }

    void end(String reason, String why) {
        this.reason = reason;
        cause = Log.cut(modelLost == null || BROKEN.contains(reason) ? why : modelLost, MOST_CAUSE);
        Log.step(session.line.id(), "call", "ends: " + reason + " (" + why + ")");
    }

    void failed(Throwable why) {
        cause = Log.cut(Log.reason(why), MOST_CAUSE);
        if (joined == null && session.mailbox.has(new Event.Stop())) {
            reason = "worker_stopped";      // which ended the waiting in `Line.join`
        }
    }

    /// Returns the step for the program, or null. `why` is LiveKit's disconnect reason.
    Step callerLeft(String why) {
        left = true;
        leftBecause = why;
        if (notYetAnswered()) {
            session.mailbox.alarm(Alarm.NO_OUTCOME, OUTCOME);   // SIP's answer may still come
            return null;
        }
        if (why.equals(TRUNK_FAILURE) && session.transfer.canBegin()) {
            end("bad_trunk", why);
            return null;
        }
        return session.transfer.callerLeft(why);
    }

    /// The phone that we have called has left the room, and SIP has not said why.
    void noOutcome() {
        // The phone was answered, if we have learned that since it has left.
        if (answered != null && onlyLost) {
            left = onlyLost = false;
            callerLost(leftBecause);                // so they may come back
            return;
        }
        end(answered != null ? "caller_hung_up" : switch (leftBecause) {
            case "USER_REJECTED" -> "declined";
            case TRUNK_FAILURE -> "bad_trunk";
            default -> "no_answer";
        }, leftBecause);
    }

    /// The caller's connection is lost. They have some time to come back, and the agent is silent
    /// until then: nobody would hear it. Returns the step for the program, or null.
    Step callerLost(String why) {
        session.transfer.callerLost();
        if (notYetAnswered() || !session.transfer.canBegin()) {
            onlyLost = true;            // and hardly comes back: they ring, or are on their way
            return callerLeft(why);
        }
        Log.step(session.line.id(), "caller", "is lost, and may come back: " + why);
        lostBecause = why;
        session.pickUp.stopWaiting();
        if (session.talking) {
            brokeOff = true;
            session.turn.callerSpeaks();    // so the call does not end now: they may come back
            session.conversation.interrupt();
            session.line.speaker().hold();
            session.talking = false;
        }
        session.mailbox.alarm(Alarm.CALLER_LOST, COMES_BACK);
        return null;
    }

    /// The caller is back, perhaps before anybody has missed them. If they were talking with the
    /// agent, what it has said meanwhile is dropped. Returns the step for the program, or null.
    Step callerBack() {
        Log.step(session.line.id(), "caller", "is back");
        boolean goesOn = (brokeOff || session.talking) && session.transfer.canBegin();
        if (onlyLost) {
            left = onlyLost = false;
            session.mailbox.cancel(Alarm.NO_OUTCOME);
            session.mailbox.cancel(Alarm.PUT_THROUGH);
        }
        lostBecause = null;
        brokeOff = false;
        session.mailbox.cancel(Alarm.CALLER_LOST);
        if (!goesOn) {
            session.pickUp.waitAgain();
            return null;
        }
        session.turn.callerSpeaks();    // so the call does not end after what they have missed
        session.conversation.interrupt();
        session.captions.clear();   // nobody has heard what was said meanwhile
        if (session.talking && modelLost != null) {
            apologize();                // the recording that says so was broken off
        }
        session.talk();
        return modelLost == null ? new Step.CallerBack() : null;
    }

    boolean callerIsLost() {
        return lostBecause != null;
    }

    /// LiveKit has closed the room, because the caller has been away from it for too long.
    void roomClosed(String why) {
        if (callerIsLost()) {
            callerStaysAway();
        } else {
            end("room_lost", why);
        }
    }

    /// The caller has not come back.
    void callerStaysAway() {
        end("caller_lost", lostBecause);
    }

    /// Nobody has answered our call. The codes are
    /// [SIP's](https://www.rfc-editor.org/rfc/rfc3261#section-21).
    void dialFailed(Event.Refusal why) {
        if (answered != null || why.http() == 0) {
            return;     // it was answered after all, or nobody knows
        }
        sipCode = why.code();
        end(switch (why.code()) {
            case 486, 600 -> "busy";
            case 603, 607, 608 -> "declined";
            case 408, 480, 487 -> "no_answer";
            case 404, 410, 484, 604 -> "wrong_number";
            default -> why.http() == 408 ? "no_answer" : "bad_trunk";
        }, why.toString());
    }

    End finish() {
        reason = reason == null ? "error" : reason;
        // A browser that has left may come back at once, as after a reload. LiveKit sends an agent
        // only to a new room. So the old one has to go.
        boolean gone = left && !onlyLost && session.line.onPhone();
        var hungUp = gone || reason.equals("taken_over")
                ? CompletableFuture.<Void>completedFuture(null) : session.line.hangUp();
        boolean broken = modelLost != null || BROKEN.contains(reason);
        Instant ended = now();
        return new End(reason, broken ? cause : null, by(), joined == null ? ended : joined,
                answered, ended, sipCode == 0 ? null : sipCode,
                reason.equals("transferred") ? session.transfer.destination() : null,
                session.conversation.model.name, session.conversation.usage, session.transcript,
                hungUp);
    }

    private String by() {
        return switch (reason) {
            case "caller_hung_up", "caller_lost", "no_answer", "busy", "declined" -> "caller";
            case "model_lost" -> "model";
            case "room_lost", "taken_over" -> "room";
            case "worker_stopped", "error" -> "worker";
            default -> "agent";
        };
    }

    /// Have we made this call, or were we to make it?
    private boolean dialled() {
        return session.outbound || reason.equals("bad_trunk") && session.toBeDialled();
    }

    /// If we have made the call, shows in the room how it has ended. Blocks, 2 s at most.
    void show() {
        if (joined == null || !dialled()
                || List.of("room_lost", "taken_over", "worker_stopped").contains(reason)) {
            return;
        }
        session.mailbox.alarm(Alarm.OUTCOME_SHOWN, SHOWN);
        session.line.show(Map.of("call.reason", reason,
                "call.answered", Boolean.toString(answered != null),
                "call.sip_code", sipCode == 0 ? "" : Integer.toString(sipCode)));
        try {
            Event event;
            do {
                event = session.mailbox.next();
            } while (!event.equals(new Event.AlarmDue(Alarm.OUTCOME_SHOWN))
                    && !(event instanceof Event.Stop) && !(event instanceof Event.LineLost));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
