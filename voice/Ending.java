package voice;

import module java.base;
import voice.Mailbox.Alarm;

/// Why a call ends, and when it began and was answered. Session makes one. Everything here runs on
/// the call's thread.
final class Ending {
    private static final Duration OUTCOME = Duration.ofSeconds(3);  // for SIP's answer to come
    private static final Duration SHOWN = Duration.ofSeconds(2);
    private static final int MOST_CAUSE = 300;                      // characters

    private final Session session;
    private Instant joined;                         // null: we were never in a room
    private long joinedNanos;
    private Instant answered;
    private boolean left;                           // the caller has left
    private String leftBecause;                     // LiveKit's disconnect reason
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
    private Instant now() {
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

    void modelLost(String why) {
        modelLost = why;
    }

    boolean over() {
        return reason != null;
    }

    void end(String reason, String why) {
        this.reason = reason;
        cause = Log.cut(modelLost == null || reason.equals("room_lost") ? why : modelLost,
                MOST_CAUSE);
        Log.step(session.line.id(), "call", "ends: " + reason + " (" + why + ")");
    }

    void failed(Throwable why) {
        cause = Log.cut(Log.reason(why), MOST_CAUSE);
    }

    /// Returns the step for the program, or null. `why` is LiveKit's disconnect reason.
    Step callerLeft(String why) {
        left = true;
        leftBecause = why;
        if (notYetAnswered()) {
            session.mailbox.alarm(Alarm.NO_OUTCOME, OUTCOME);   // SIP's answer may still come
            return null;
        }
        return session.transfer.callerLeft(why);
    }

    /// The phone that we have called has left the room, and SIP has not said why.
    void noOutcome() {
        end(leftBecause.equals("USER_REJECTED") ? "declined" : "no_answer", leftBecause);
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
        var hungUp = left ? CompletableFuture.<Void>completedFuture(null) : session.line.hangUp();
        boolean broken = modelLost != null
                || List.of("room_lost", "bad_trunk", "error").contains(reason);
        return new End(reason, broken ? cause : null, by(), joined == null ? now() : joined,
                answered, now(), dialled(), sipCode == 0 ? null : sipCode,
                reason.equals("transferred") ? session.transfer.destination() : null, hungUp);
    }

    private String by() {
        return switch (reason) {
            case "caller_hung_up", "no_answer", "busy", "declined" -> "caller";
            case "model_lost" -> "model";
            case "room_lost" -> "room";
            case "worker_stopped", "error" -> "worker";
            default -> "agent";
        };
    }

    /// Have we made this call, or were we to make it?
    private boolean dialled() {
        return session.outbound || reason.equals("bad_trunk");
    }

    /// If we have made the call, shows in the room how it has ended. Blocks, 2 s at most.
    void show() {
        if (joined == null || !dialled() || reason.equals("room_lost")
                || reason.equals("worker_stopped")) {
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
