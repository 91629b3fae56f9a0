package demo;

import module java.base;
import voice.Event;
import voice.Line;
import voice.Log;
import voice.Mailbox;
import voice.Speaker;

/// A call that is typed. What the caller types counts as said, and what the agent says is in the
/// log. The agent's sound goes nowhere, but it takes as long as if somebody heard it. Demo makes
/// such a call for `console` and for its one scripted call; the agent knows it as a Line.
///
/// Deliberately not handled: sound. A transfer always succeeds, and puts nobody through.
final class Console implements Line {
    private final String id;
    private final String number;
    private final Mailbox mailbox = new Mailbox();
    private final Speaker speaker =
            new Speaker(_ -> {}, () -> mailbox.post(new Event.TurnChanged()));
    private final CompletableFuture<Void> hungUp = new CompletableFuture<>();
    // Both are guarded by `this`, which is notified when they change.
    private String state = "initializing";                  // the agent's, as `show` has told it
    private boolean over;

    Console(String id, String number) {
        this.id = id;
        this.number = number;
    }

    /// Waits until the caller may speak: a `patient` caller waits until the agent listens, another
    /// one only until the agent has begun. Returns false when the call is over, or after `bound`.
    synchronized boolean awaitTurn(boolean patient, Duration bound) throws InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        while (!over && System.nanoTime() < end
                && !(patient ? state.equals("listening") : !state.equals("initializing"))) {
            TimeUnit.NANOSECONDS.timedWait(this, end - System.nanoTime());
        }
        return !over && System.nanoTime() < end;
    }

    /// Waits until the call is over, `bound` at most.
    synchronized void awaitEnd(Duration bound) throws InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        while (!over && System.nanoTime() < end) {
            TimeUnit.NANOSECONDS.timedWait(this, end - System.nanoTime());
        }
    }

    /// The caller types this text. Any thread, as `press`, `leave` and `stop`.
    void type(String text) {
        expectThinking();
        mailbox.post(new Event.CallerWrote(text));
    }

    /// The agent shows "thinking" only when it has read the message. Until then awaitTurn must not
    /// take the old "listening" for the caller's turn.
    private synchronized void expectThinking() {
        state = "thinking";
    }

    /// The caller presses these keys of the phone.
    void press(String keys) {
        if (!keys.isEmpty()) {
            expectThinking();
        }
        keys.chars().forEach(key -> mailbox.post(new Event.KeyPressed(Character.toString(key))));
    }

    /// The caller hangs up.
    void leave() {
        mailbox.post(new Event.CallerLeft("hung up"));
    }

    /// The program stops and wants the call to end.
    void stop() {
        mailbox.post(new Event.Stop());
    }

    /// The agent has returned from the call: gives everything back.
    void close() {
        speaker.close();
        hungUp.complete(null);
        synchronized (this) {
            over = true;
            notifyAll();
        }
    }

    @Override public String id() { return id; }
    @Override public String room() { return "console"; }
    @Override public String roomSid() { return ""; }
    @Override public String metadata() { return ""; }
    @Override public Mailbox mailbox() { return mailbox; }
    @Override public Speaker speaker() { return speaker; }
    @Override public String number() { return number; }
    @Override public String calledNumber() { return null; }
    @Override public String sipCallId() { return null; }
    @Override public String sipId() { return null; }
    @Override public boolean onPhone() { return true; }     // so that you can try a transfer
    @Override public void dial(String trunk) { }
    @Override public void listen(Consumer<byte[]> ear) { }
    @Override public void caption(boolean agents, String segment, String text, boolean last) { }
    @Override public CompletableFuture<Void> hangUp() { return hungUp; }

    @Override
    public void join(String number, String identity) {
        mailbox.post(new Event.CallerJoined());
    }

    @Override
    public void pickUp() {
        speaker.start();
        mailbox.post(new Event.CallerHears());
    }

    @Override
    public synchronized void show(Map<String, String> attributes) {
        state = attributes.getOrDefault("lk.agent.state", state);
        notifyAll();
    }

    @Override
    public void transfer(String to) {
        Log.step(id, "transfer", "a phone would be put through to " + Log.foreign(to) + " here");
        mailbox.post(new Event.Transferred());
        mailbox.post(new Event.CallerLeft("transferred"));
    }
}
