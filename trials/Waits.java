package trials;

import module java.base;
import voice.Event;
import voice.Mailbox;

/// A program that waits for an event, and has an alarm. StoppedTest runs it as a process, and stops
/// that process for a while. The event comes when a line comes in. What comes is written out.
final class Waits {
    private Waits() {}

    public static void main(String[] args) throws Exception {
        var mailbox = new Mailbox();
        mailbox.alarm(Mailbox.Alarm.SILENCE, Duration.ofSeconds(2));
        Thread waiting = Thread.currentThread();
        Thread.ofPlatform().start(() -> {
            while (waiting.getState() != Thread.State.TIMED_WAITING) {
                Thread.onSpinWait();
            }
            IO.println("waits");                // not before it does
            IO.readln();
            mailbox.post(new Event.CallerHears());
        });
        IO.println(mailbox.next());
        IO.println(mailbox.next());
    }
}
