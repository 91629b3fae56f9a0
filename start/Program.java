package start;

import module java.base;
import delivery.Outbox;
import voice.Line;
import voice.Party;

/// A program that takes calls: Agent is one, and Start runs it.
public interface Program {

    /// Takes one call, from its first ring to its end, on the thread that calls this: the call's
    /// own thread.
    void takeCall(Line line);

    /// Calls in which an earlier process has died.
    List<? extends Orphan> orphans();

    /// What it sends to the CRM, and how a receiver verifies that.
    Crm crm();

    /// No more calls come. Delivers what the calls have reported, for `bound` at most.
    void close(Duration bound) throws InterruptedException;

    /// Sends to the CRM, and verifies what was sent. The demo's CRM and the verb `event` use this.
    /// So they run the code that a reader copies.
    interface Crm {

        /// Is this the `X-Signature` of that body?
        boolean verifyBody(byte[] body, String signature);

        /// Is one of these the `webhook-signature` of that body? `timestamp` is in seconds.
        boolean verifyStandard(String id, long timestamp, byte[] body, String signatures,
                Instant now);

        /// Sends this once, signed if it is an event. Blocks for 5 s at most. Throws an IOException
        /// when no answer comes.
        Outbox.Outcome post(Outbox.Delivery delivery) throws IOException, InterruptedException;
    }

    /// A call in which an earlier process has died.
    interface Orphan {
        Party party();

        /// Reports the end of the call. `hungUp` completes when the phone is off the line.
        void died(CompletableFuture<Void> hungUp);
    }
}
