package voice;

import module java.base;
import voice.Mailbox.Alarm;

/// From the first ring until the caller can hear us: when the phone is picked up, and how long the
/// call waits until then and after that. Session makes one. Everything here runs on the call's
/// thread.
final class PickUp {
    private static final Duration PICK_UP = Duration.ofSeconds(3);
    private static final Duration CAN_HEAR = Duration.ofSeconds(3);
    private static final Duration RINGS = Duration.ofSeconds(60);

    private final Session session;
    private boolean pickedUp;                       // by us: our sound belongs in the room
    private boolean subscribed;                     // our sound has come to somebody

    PickUp(Session session) {
        this.session = session;
    }

    /// The caller's phone rings, or ours is to be answered by whom we call.
    void rings() {
        session.mailbox.alarm(Alarm.PICK_UP, PICK_UP);
    }

    /// We dial now.
    void dials() {
        session.mailbox.alarm(Alarm.NOT_PICKED_UP, RINGS);
    }

    void pickUp() {
        if (!pickedUp) {
            pickedUp = true;
            session.mailbox.cancel(Alarm.PICK_UP);
            if (!session.outbound) {
                answered();
            }
            session.line.pickUp();
        }
    }

    /// The phone is answered, by us or by whom we have called. A phone that we answer rings on for
    /// a moment. If the network is slow, that takes longer. So nothing is said before our sound
    /// comes to somebody.
    void answered() {
        if (!session.talking) {
            session.mailbox.alarm(Alarm.NOT_PICKED_UP, RINGS);
            soonHeard();
        }
    }

    /// Our sound comes to somebody. If we have called, that may be somebody who is in the room
    /// while the phone rings.
    void subscribed() {
        subscribed = true;
        soonHeard();
    }

    private void soonHeard() {
        if (subscribed && !session.talking && !session.ending.notYetAnswered()) {
            session.mailbox.cancel(Alarm.NOT_PICKED_UP);
            session.mailbox.alarmUnlessSet(Alarm.CAN_HEAR, CAN_HEAR);
        }
    }

    /// The caller is here again, and does not hear us yet.
    void waitAgain() {
        if (pickedUp) {
            answered();
        }
    }

    /// The caller can hear us. Or they are lost, and nobody waits until they can.
    void stopWaiting() {
        session.mailbox.cancel(Alarm.CAN_HEAR);
        session.mailbox.cancel(Alarm.NOT_PICKED_UP);
    }
}
