package trials;

import module java.base;
import voice.Event;
import voice.Line;
import voice.Mailbox;
import voice.Speaker;

/// A call for tests that need no room: AgentTest answers it, and so do the tests of voice/.
///
/// The test is the caller. It hears by counting (`heardMs`), speaks with `say`, and posts to
/// `mailbox` what a telephone network would report. What the agent asks of the line (to dial, to
/// transfer, to hang up) is only written down; the test posts what comes of it.
///
/// Not here: WebRTC, LiveKit and a real telephone. LiveTest and PhoneTest have those.
public final class TestLine implements Line {
    // What the test sets, before the call is answered.
    /// The caller's number, or null for a number that is withheld.
    public String number = "+15550001111";
    /// What the call was dispatched with.
    public String metadata = "";
    /// Does the caller hear the agent as soon as the phone is picked up? If not, the test posts
    /// CallerHears.
    public boolean answers = true;
    /// What `join` throws, or null.
    public IOException noRoom;
    public volatile boolean onPhone = true;

    // What the agent does. Any thread may read it.
    public final Mailbox mailbox = new Mailbox();
    /// How many ms of sound that is not silence have gone out to the caller.
    public final AtomicInteger heardMs = new AtomicInteger();
    public final Speaker speaker = new Speaker(this::frame,
            () -> mailbox.post(new Event.TurnChanged()));
    /// When the phone was picked up (System.nanoTime()).
    public final CompletableFuture<Long> pickedUp = new CompletableFuture<>();
    /// Takes the caller's sound; complete when the agent listens.
    public final CompletableFuture<Consumer<byte[]>> ear = new CompletableFuture<>();
    /// Whoever answers the call completes it when the call is over: with null, or with what was
    /// thrown.
    public final CompletableFuture<Throwable> over = new CompletableFuture<>();
    public volatile boolean hungUp;
    /// Whom the agent calls; null when it is called itself.
    public volatile String calls = "nobody yet";
    /// The trunk on which the agent has dialled.
    public final CompletableFuture<String> dialled = new CompletableFuture<>();
    /// Where the agent has sent the phone.
    public final Queue<String> transfers = new ConcurrentLinkedQueue<>();
    public final Deque<Map<String, String>> shown = new ConcurrentLinkedDeque<>();
    public final Queue<String> captions = new ConcurrentLinkedQueue<>();

    private void frame(byte[] frame) {
        for (byte each : frame) {
            if (each != 0) {
                heardMs.addAndGet(10);
                return;
            }
        }
    }

    @Override public String id() { return "AJ_test"; }
    @Override public String room() { return "room-1"; }
    @Override public String roomSid() { return "RM_1"; }
    @Override public String metadata() { return metadata; }
    @Override public Mailbox mailbox() { return mailbox; }
    @Override public Speaker speaker() { return speaker; }
    @Override public String number() { return number; }
    @Override public String calledNumber() { return null; }
    @Override public String sipCallId() { return null; }
    @Override public void listen(Consumer<byte[]> ear) { this.ear.complete(ear); }
    @Override public boolean onPhone() { return onPhone; }
    @Override public void dial(String trunk) { dialled.complete(trunk); }
    @Override public void transfer(String to) { transfers.add(to); }
    @Override public void show(Map<String, String> attributes) { shown.add(attributes); }

    @Override
    public CompletableFuture<Void> hangUp() {
        hungUp = true;
        return CompletableFuture.completedFuture(null);
    }

    @Override
    public void caption(boolean agents, String segment, String text, boolean last) {
        captions.add((agents ? "agent " : "caller ") + text + (last ? "." : ""));
    }

    @Override
    public void join(String number) throws IOException {
        if (noRoom != null) {
            throw noRoom;
        }
        calls = number;
        if (number == null) {
            mailbox.post(new Event.CallerJoined());
        }
    }

    @Override
    public void pickUp() {
        pickedUp.complete(System.nanoTime());
        speaker.start();
        if (answers) {
            mailbox.post(new Event.CallerHears());
        }
    }

    /// Has the agent noticed that its own sentence is over? The frames of a sentence have all gone
    /// out up to 10 ms before the end mark of the sentence is taken. Who speaks in between
    /// interrupts a sentence that they have heard to its end.
    public boolean listening() {
        Map<String, String> last = shown.peekLast();
        return last != null && "listening".equals(last.get("lk.agent.state"));
    }

    /// The caller speaks for `ms` milliseconds and is then silent for 700 ms, all of it at once:
    /// the model counts sound and does not look at the clock.
    public void say(int ms) throws Exception {
        say(ms, 700);
    }

    /// The same, with a silence of `silence` ms.
    public void say(int ms, int silence) throws Exception {
        Consumer<byte[]> ear = this.ear.get(5, TimeUnit.SECONDS);
        for (int at = 0; at < ms + silence; at += 10) {
            byte[] frame = new byte[480];
            for (int i = 0; at < ms && i < 240; i++) {
                double turns = 660.0 * (at * 24 + i) / 24_000;
                int sample = (int) (8_000 * Math.sin(2 * Math.PI * turns));
                frame[2 * i] = (byte) sample;
                frame[2 * i + 1] = (byte) (sample >> 8);
            }
            ear.accept(frame);
        }
    }

    /// The caller speaks for `ms` milliseconds at the pace of people, and is silent from then on.
    /// Returns when the words ended (System.nanoTime()).
    public long live(int ms) throws Exception {
        Consumer<byte[]> ear = this.ear.get(5, TimeUnit.SECONDS);
        for (int at = 0; at < ms; at += 10) {
            say(10, 0);
            TimeUnit.MILLISECONDS.sleep(10);
        }
        long end = System.nanoTime();
        Thread.ofVirtual().start(() -> {
            try {
                while (!over.isDone()) {
                    ear.accept(new byte[480]);
                    TimeUnit.MILLISECONDS.sleep(10);
                }
            } catch (InterruptedException e) {
                // nobody does that
            }
        });
        return end;
    }
}
