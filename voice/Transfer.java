package voice;

import module java.base;
import voice.Mailbox.Alarm;

/// Transfers the caller to somebody else, one transfer at a time. The agent announces it, LiveKit
/// sends the phone a [SIP REFER](https://docs.livekit.io/telephony/features/transfers/cold/), and
/// the transfer works or fails. Session makes one. Everything here runs on the call's thread.
///
/// LiveKit does not always know whether a transfer has worked (HTTP 408, or no answer at all).
/// Nothing is tried again then. If the caller leaves within two minutes, they were transferred.
/// They were not if they stay for longer, or if they talk with the agent: they say something, the
/// agent answers, and they speak again. Words alone settle nothing. A caller who is asked to stay
/// on the line says "okay", and is put through after that.
final class Transfer {
    private static final Duration PUT_THROUGH = Duration.ofSeconds(10);
    private static final Duration OUTCOME = Duration.ofSeconds(3);  // after the caller has left
    private static final Duration LEAVES = Duration.ofMinutes(2);

    /// ANNOUNCED: the agent is saying that it puts the caller through. REFERRED: LiveKit was asked
    /// to do it. UNKNOWN: LiveKit does not know the outcome. DONE: the phone has reached the
    /// destination, and is about to leave the room.
    private enum State { NONE, ANNOUNCED, REFERRED, UNKNOWN, DONE }

    private final Session session;
    private State state = State.NONE;
    private String destination;                     // its name; kept after a failure
    // Since the outcome is unknown:
    private boolean callerSpoke;
    private boolean agentAnswered;                  // after that

    Transfer(Session session) {
        this.session = session;
    }

    /// Is the caller on the way to somebody?
    boolean underWay() {
        return switch (state) {
            case ANNOUNCED, REFERRED, DONE -> true;
            case NONE, UNKNOWN -> false;
        };
    }

    /// No transfer is under way, and none has an unknown outcome.
    boolean canBegin() {
        return state == State.NONE;
    }

    boolean triedTo(String destination) {
        return destination.equals(this.destination);
    }

    String destination() {
        return destination;
    }

    /// Begins a transfer that the model has asked for. If the caller speaks before `refer`, the
    /// transfer is called off, and only the model can begin another. Returns null, or says why the
    /// transfer cannot begin, in words for the model.
    String ask(String destination) {
        if (!session.line.onPhone()) {
            return "The caller is not on a phone and cannot be transferred. Offer a note.";
        }
        if (session.ending.callerIsLost()) {
            return "The caller's connection is lost. Ask again when they are back.";
        }
        if (!canBegin()) {
            return "The caller is already being transferred to " + this.destination + ".";
        }
        if (session.turn.endsSoon()) {
            return "The call is about to end. Say goodbye.";
        }
        if (session.ending.callerIsBusy()) {
            return "The caller is speaking. Ask again if they still want to be transferred.";
        }
        begin(destination);
        return null;
    }

    /// The agent is saying that it puts the caller through. `refer` follows when they have heard
    /// that.
    void begin(String destination) {
        state = State.ANNOUNCED;
        this.destination = destination;
        session.turn.whenHeard(this::refer);
    }

    private void refer() {
        state = State.REFERRED;
        Log.step(session.line.id(), "transfer", "to " + destination);
        session.line.transfer(session.options.destinations().get(destination));
    }

    Step worked() {
        state = State.DONE;
        if (session.ending.callerHasLeft()) {
            session.ending.end("transferred", "to " + destination);
        } else {
            session.mailbox.alarm(Alarm.PUT_THROUGH, PUT_THROUGH);
        }
        return new Step.Transferred(destination);
    }

    /// Returns the step for the program, or null.
    Step failed(Event.Refusal why) {
        boolean modelLost = session.ending.modelLost() != null;
        if (why.unknown()) {
            Log.step(session.line.id(), "transfer", "nobody knows whether it works (" + why + ")");
            if (session.ending.callerHasLeft()) {
                return worked();
            }
            state = State.UNKNOWN;
            callerSpoke = agentAnswered = false;
            session.mailbox.alarm(Alarm.STILL_HERE, LEAVES);
            if (modelLost) {
                session.ending.apologize();
                return null;
            }
            return new Step.TransferUnknown(destination);
        }
        state = State.NONE;
        var step = new Step.TransferFailed(destination, why);   // before another one may begin
        Log.step(session.line.id(), "transfer", "NOT possible: " + why);
        if (session.ending.callerHasLeft()) {
            session.ending.end(modelLost ? "model_lost" : "caller_hung_up",
                    "while they were being transferred");
        } else if (modelLost) {
            session.ending.apologize();
        }
        return step;
    }

    /// The transfer has worked, and the phone has not left. Or the phone has left, and LiveKit has
    /// not said whether the transfer has worked.
    Step putThrough() {
        if (state == State.REFERRED) {
            return worked();
        }
        session.ending.end("transferred", "and the phone has not left by itself");
        return null;
    }

    /// The caller speaks or writes.
    void callerSpeaks() {
        callOff("the caller says something");
        if (agentAnswered) {
            stillHere();
        }
        callerSpoke = true;
    }

    /// The first sound of what the agent says has come. If the caller is speaking, the agent does
    /// not answer them yet.
    void agentSpeaks() {
        agentAnswered |= callerSpoke && !session.conversation.callerSpeaking();
    }

    /// The caller is still talking to us, or has stayed for too long. If the outcome of a
    /// transfer was unknown, that transfer has not worked.
    void stillHere() {
        if (state == State.UNKNOWN) {
            Log.step(session.line.id(), "transfer", "has not worked: the caller is still here");
            state = State.NONE;
        }
    }

    /// A caller who says something or presses a key during the announcement may have changed their
    /// mind. The model learns of it, and begins the transfer again if they still want it. A model
    /// that is lost hears nobody, so nothing that they say calls off the transfer to a colleague.
    void callOff(String why) {
        if (session.ending.modelLost() == null) {
            drop(why);
        }
    }

    /// Nobody hears the announcement to its end.
    void callerLost() {
        drop("the caller is lost");
    }

    private void drop(String why) {
        if (state == State.ANNOUNCED) {
            Log.step(session.line.id(), "transfer", "called off: " + why);
            state = State.NONE;
            destination = null;                 // which was not tried
            session.turn.dropWhatFollows();
        }
    }

    /// Returns the step for the program, or null. `why` is LiveKit's disconnect reason.
    Step callerLeft(String why) {
        switch (state) {
            case NONE, ANNOUNCED -> session.ending.end(session.ending.modelLost() == null
                    ? "caller_hung_up" : "model_lost", why);
            case REFERRED -> session.mailbox.alarm(Alarm.PUT_THROUGH, OUTCOME);
            case UNKNOWN -> {
                return worked();
            }
            case DONE -> session.ending.end("transferred", "to " + destination);
        }
        return null;
    }
}
