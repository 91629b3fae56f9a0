package voice;

import module java.base;

/// The one queue that a call reads. Any thread may post to it. Only the call's own thread reads it
/// and sets alarms, so a call needs no locks.
public final class Mailbox {

    /// What a call waits for, besides events. The comment says what is true when the alarm is due.
    public enum Alarm {
        /// Nobody has come into the room.
        NO_CALLER,
        /// The phone has rung for long enough, and the greeting is not there yet.
        PICK_UP,
        /// The phone was picked up, and has not said that the caller can hear us.
        CAN_HEAR,
        /// Whom we have called does not pick up.
        NOT_PICKED_UP,
        /// The caller has not pressed another key.
        KEYS,
        /// What the agent has said has come to the caller's ear.
        HEARD,
        /// The same, at the latest.
        HEARD_AT_LATEST,
        /// It is the agent's turn, and the caller has heard nothing for a while.
        CALLER_WAITS,
        /// The connection to the model has been away for a while.
        MODEL_AWAY,
        /// The model has not begun to answer.
        NO_ANSWER,
        /// It is the caller's turn, and they have said nothing for a while.
        SILENCE,
        /// SIP has not said what became of a call that we made, or of a transfer.
        NO_OUTCOME,
        /// The phone was put through, and has not left by itself.
        PUT_THROUGH,
        /// The call has lasted for as long as a call may.
        TOO_LONG,
        /// How the call ended has been visible in the room for a while.
        OUTCOME_SHOWN
    }

    private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();
    private final Map<Alarm, Long> alarms = new EnumMap<>(Alarm.class);     // System.nanoTime()

    /// Never blocks; any thread.
    public void post(Event event) {
        events.add(event);
    }

    /// Lets `Event.AlarmDue(alarm)` come after that time. Setting an alarm again moves it.
    public void alarm(Alarm alarm, Duration after) {
        alarms.put(alarm, System.nanoTime() + after.toNanos());
    }

    /// The same, but an alarm that is set already stays when it is.
    public void alarmUnlessSet(Alarm alarm, Duration after) {
        alarms.putIfAbsent(alarm, System.nanoTime() + after.toNanos());
    }

    public void cancel(Alarm alarm) {
        alarms.remove(alarm);
    }

    /// The next event, or the first alarm that is due; waits for whichever comes first.
    public Event next() throws InterruptedException {
        while (true) {
            var first = alarms.entrySet().stream()
                    .min(Comparator.comparingLong(alarm -> alarm.getValue() - System.nanoTime()));
            long wait = first.map(alarm -> alarm.getValue() - System.nanoTime())
                    .orElse(TimeUnit.MINUTES.toNanos(1));
            // An alarm that is due goes before what is queued: a busy line must not delay it.
            Event event = wait > 0 ? events.poll(wait, TimeUnit.NANOSECONDS) : null;
            if (event != null) {
                return event;
            }
            if (first.isPresent()) {
                alarms.remove(first.get().getKey());
                return new Event.AlarmDue(first.get().getKey());
            }
        }
    }
}
