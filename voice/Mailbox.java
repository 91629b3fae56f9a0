package voice;

import module java.base;

/// The one queue that a call reads. Anybody may post; only the call's own thread reads and sets
/// alarms, so that a call needs no locks.
public final class Mailbox {
    private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();
    private final Map<String, Long> alarms = new HashMap<>(); // name -> System.nanoTime()

    /// Never blocks; any thread.
    public void post(Event event) {
        events.add(event);
    }

    /// Lets `Event.Alarm(name)` come after that time. Setting it again moves it.
    public void alarm(String name, Duration after) {
        alarms.put(name, System.nanoTime() + after.toNanos());
    }

    /// The same, but one that is set stays when it is.
    public void alarmUnlessSet(String name, Duration after) {
        alarms.putIfAbsent(name, System.nanoTime() + after.toNanos());
    }

    public void cancel(String name) {
        alarms.remove(name);
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
                return new Event.Alarm(first.get().getKey());
            }
        }
    }
}
