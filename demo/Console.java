package demo;

import module java.base;
import voice.Event;
import voice.Line;
import voice.Log;
import voice.Mailbox;
import voice.Speaker;

/// A call that is typed: what is written counts as said, and what the agent says is read in the
/// log. Nobody hears it, but it takes its time as if somebody did. Demo makes one for `console`
/// and for its one scripted call; Agent knows it as a Line.
///
/// Not handled: sound. A transfer always works, and puts nobody through.
final class Console implements Line {
    private final String id;
    private final String number;
    private final Mailbox mailbox = new Mailbox();
    private final Speaker speaker =
            new Speaker(_ -> {}, () -> mailbox.post(new Event.TurnChanged()));
    private final CompletableFuture<Void> hungUp = new CompletableFuture<>();
    private String state = "initializing";                  // guarded by `this`, which is notified
    private boolean over;                                   // the same

    Console(String id, String number) {
        this.id = id;
        this.number = number;
    }

    /// Waits until the agent listens or, when not `heardOut`, may be interrupted. False when the
    /// call is over, or the bound.
    synchronized boolean awaitTurn(boolean heardOut, Duration bound) throws InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        while (!over && System.nanoTime() < end
                && !(heardOut ? state.equals("listening") : !state.equals("initializing"))) {
            TimeUnit.NANOSECONDS.timedWait(this, end - System.nanoTime());
        }
        return !over && System.nanoTime() < end;
    }

    /// Waits until the call is over, or for that long.
    synchronized void awaitEnd(Duration bound) throws InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        while (!over && System.nanoTime() < end) {
            TimeUnit.NANOSECONDS.timedWait(this, end - System.nanoTime());
        }
    }

    /// The caller's words.
    void type(String text) {
        soonThinking();
        mailbox.post(new Event.CallerWrote(text));
    }

    /// The agent only says so when it has read this.
    private synchronized void soonThinking() {
        state = "thinking";
    }

    /// Keys of the phone.
    void press(String keys) {
        if (!keys.isEmpty()) {
            soonThinking();
        }
        keys.chars().forEach(key -> mailbox.post(new Event.KeyPressed(Character.toString(key))));
    }

    void leave() {
        mailbox.post(new Event.CallerLeft("hung up"));
    }

    /// The program stops and wants the call to end.
    void stop() {
        mailbox.post(new Event.Stop());
    }

    /// `answer` has returned.
    void end() {
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
    @Override public boolean onPhone() { return true; }     // so that a transfer can be tried
    @Override public void dial(String trunk) { }
    @Override public void listen(Consumer<byte[]> ear) { }
    @Override public void caption(boolean agents, String segment, String text, boolean last) { }
    @Override public CompletableFuture<Void> hangUp() { return hungUp; }

    @Override
    public void join(String number) {
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
        Log.step(id, "transfer", "a phone would be put through to " + Log.speech(to) + " here");
        mailbox.post(new Event.Transferred());
        mailbox.post(new Event.CallerLeft("transferred"));
    }
}
