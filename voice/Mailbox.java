package voice;

import module java.base;

/// The one queue that a call reads. Any thread may post to it. Only the call's own thread reads it
/// and sets alarms, so a call needs no locks.
public final class Mailbox {
    private static final Duration LOOK = Duration.ofMillis(500);
    private static final Duration STOPPED = Duration.ofSeconds(1);

    /// What a call waits for, besides events. Each comment says what is true when the alarm is due.
    public enum Alarm {
        /// Nobody has come into the room.
        NO_CALLER,
        /// The phone has rung for long enough, and the greeting is not there yet.
        PICK_UP,
        /// Our sound comes to somebody, and we do not know yet that the caller can hear us.
        CAN_HEAR,
        /// The phone that we have called has rung for long enough, and nobody has picked up. Or the
        /// phone was picked up, and our sound has come to nobody.
        NOT_PICKED_UP,
        /// The caller has pressed keys, and no other key for a while.
        KEYS,
        /// The last words of the agent have come to the caller's ear.
        HEARD,
        /// The agent may still be speaking, but the call waits no longer until that was heard.
        HEARD_AT_LATEST,
        /// It is the agent's turn, and the caller has heard nothing for a while.
        CALLER_WAITS,
        /// The connection to the model has been away for a while.
        MODEL_AWAY,
        /// The model is to be tried again.
        TRY_AGAIN,
        /// It is the model's turn, and the caller has heard nothing for a while: is it still there?
        ASK_MODEL,
        /// The model has not begun to answer.
        NO_ANSWER,
        /// It is the caller's turn, and they have said nothing for a while.
        SILENCE,
        /// The caller's connection was lost, and they have not come back.
        CALLER_LOST,
        /// The phone that we have called has left the room, and SIP has not said why.
        NO_OUTCOME,
        /// A transfer has worked, and the phone has not left by itself. Or the phone has left, and
        /// LiveKit has not said whether the transfer has worked.
        PUT_THROUGH,
        /// Nobody knows whether a transfer has worked, and the phone has stayed for a while.
        STILL_HERE,
        /// The call has lasted for as long as a call may.
        TOO_LONG,
        /// How the call ended has been visible in the room for a while.
        OUTCOME_SHOWN
    }

    private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();
    private final Map<Alarm, Long> alarms = new EnumMap<>(Alarm.class);     // when; by `clock`
    private final LongSupplier clock;
    private final boolean stops;                // a leap of `clock` is a stop of this process

    public Mailbox() {
        this(System::nanoTime, true);
    }

    /// With a clock of the caller's own, which counts nanoseconds: a test need not wait then.
    /// Whoever moves that clock posts an event, so that `next` looks at it again.
    public Mailbox(LongSupplier clock) {
        this(clock, false);
    }

    private Mailbox(LongSupplier clock, boolean stops) {
        this.clock = clock;
        this.stops = stops;
    }

    /// The time of this call, in nanoseconds. Only the difference of two times means something.
    /// Any thread.
    public long nanos() {
        return clock.getAsLong();
    }

    /// Never blocks; any thread.
    public void post(Event event) {
        events.add(event);
    }

    /// Does such an event wait to be taken?
    boolean has(Event event) {
        return events.contains(event);
    }

    /// Takes all events of that kind that wait.
    <T extends Event> List<T> rest(Class<T> kind) {
        var rest = events.stream().filter(kind::isInstance).map(kind::cast).toList();
        events.removeAll(rest);
        return rest;
    }

    /// Sets an alarm: `Event.AlarmDue(alarm)` comes after that time. Moves an alarm that is set
    /// already.
    public void alarm(Alarm alarm, Duration after) {
        alarms.put(alarm, nanos() + after.toNanos());
    }

    /// Sets an alarm, unless it is set already.
    public void alarmUnlessSet(Alarm alarm, Duration after) {
        alarms.putIfAbsent(alarm, nanos() + after.toNanos());
    }

    boolean isSet(Alarm alarm) {
        return alarms.containsKey(alarm);
    }

    public void cancel(Alarm alarm) {
        alarms.remove(alarm);
    }

    /// Waits until there is an event or until an alarm is due, and returns the event or an
    /// AlarmDue.
    ///
    /// If the process was stopped meanwhile (or the machine, or Java), then what has happened in
    /// that time is not here yet: it waits in sockets. An alarm would be false until it is here. So
    /// all alarms are then later, by the time of the stop and 0.5 s more.
    public Event next() throws InterruptedException {
        while (true) {
            long now = nanos();
            var first = alarms.entrySet().stream()
                    .min(Comparator.comparingLong(alarm -> alarm.getValue() - now));
            long wait = first.map(alarm -> alarm.getValue() - now)
                    .orElse(LOOK.toNanos());
            // An alarm that is due comes before the events that wait: a busy line must not delay
            // it.
            if (wait <= 0) {
                alarms.remove(first.get().getKey());
                return new Event.AlarmDue(first.get().getKey());
            }
            wait = Math.min(wait, LOOK.toNanos());
            Event event = events.poll(wait, TimeUnit.NANOSECONDS);
            long waited = nanos() - now;
            if (stops && waited > wait + STOPPED.toNanos()) {
                alarms.replaceAll((_, due) -> due + waited + LOOK.toNanos());
            }
            if (event != null) {
                return event;
            }
        }
    }
}
