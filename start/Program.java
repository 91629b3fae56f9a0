package start;

import module java.base;
import voice.Line;
import voice.Party;

/// A program that takes calls: Agent is one, and Start runs it.
public interface Program {

    /// Takes one call, from its first ring to its end, on the calling thread, which is the call's.
    void takeCall(Line line);

    /// Calls that a process before this one died in.
    List<? extends Orphan> orphans();

    /// Is this the `X-Signature` of that event, as the receiver of an event asks it? (The demo's
    /// CRM asks the program's own code, which is the code that a reader copies.)
    boolean verifyBody(byte[] body, String signature);

    /// Is one of these the `webhook-signature` of that event? `timestamp` is in seconds.
    boolean verifyStandard(String id, long timestamp, byte[] body, String signatures, Instant now);

    /// No more calls come. What they have reported has that long to be delivered.
    void close(Duration bound) throws InterruptedException;

    /// A call whose process died in it.
    interface Orphan {
        Party party();

        /// Reports the end of the call. `hungUp` completes when its phone is off the line.
        void died(CompletableFuture<Void> hungUp);
    }
}
