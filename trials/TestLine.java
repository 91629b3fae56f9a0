package trials;

import module java.base;
import demo.DemoModel;
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
/// The call's clock stands still until the test moves it, with `pass`. So a test of a time needs no
/// waiting, and is right to the millisecond on a slow machine, too. Sound is not part of that: the
/// Speaker and the model take their real time.
///
/// Not here: WebRTC, LiveKit and a real telephone. LiveTest and PhoneTest have those.
public final class TestLine implements Line {
    // What the test sets, before the call is answered.
    /// The caller's number, or null for a number that is withheld.
    public String number = "+15550001111";
    /// The number that the caller has dialled, and the trunk's and LiveKit's id of the telephone
    /// call.
    public String calledNumber;
    public String sipCallId;
    public String sipId;
    /// What the call was dispatched with.
    public String metadata = "";
    /// Is the caller in the room when the agent joins it? If not, the test posts CallerJoined.
    public boolean comes = true;
    /// Does the agent's sound come to somebody as soon as the phone is picked up? If not, the test
    /// posts Subscribed.
    public boolean subscribes = true;
    /// Does the caller hear the agent then? If not, the test posts CallerHears.
    public boolean answers = true;
    /// What `join` throws, or null.
    public IOException noRoom;
    public volatile boolean onPhone = true;
    /// How loud the caller speaks: the amplitude of a sine, of 32,767.
    public volatile int volume = 8_000;

    // What the agent does. Any thread may read it.
    private final AtomicLong clock = new AtomicLong(Duration.ofHours(1).toNanos());
    private final CountDownLatch joined = new CountDownLatch(1);
    private final Map<String, CountDownLatch> marks = new ConcurrentHashMap<>();
    public final Mailbox mailbox = new Mailbox(clock::get);
    /// How many ms of sound that is not silence have gone out to the caller.
    public final AtomicInteger heardMs = new AtomicInteger();
    /// That sound, in frames of 10 ms.
    final Queue<byte[]> heard = new ConcurrentLinkedQueue<>();
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
    /// Each piece that is shown, with a | behind what completes a caption.
    public final Queue<String> captions = new ConcurrentLinkedQueue<>();

    private void frame(byte[] frame) {
        for (byte each : frame) {
            if (each != 0) {
                heard.add(frame.clone());
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
    @Override public String calledNumber() { return calledNumber; }
    @Override public String sipCallId() { return sipCallId; }
    @Override public String sipId() { return sipId; }
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
        CountDownLatch mark = marks.remove(segment);
        if (mark != null) {
            mark.countDown();
            return;
        }
        captions.add((agents ? "agent " : "caller ") + text + (last ? "|" : ""));
    }

    @Override
    public void join(String number, String identity) throws IOException {
        if (noRoom != null) {
            throw noRoom;
        }
        calls = number;
        if (number == null && identity != null && comes) {
            mailbox.post(new Event.CallerJoined());
        }
        joined.countDown();
    }

    @Override
    public void pickUp() {
        speaker.start();
        if (subscribes) {
            mailbox.post(new Event.Subscribed());
        }
        if (answers) {
            mailbox.post(new Event.CallerHears());
        }
        pickedUp.complete(System.nanoTime());       // whoever waits for it finds the events
    }

    /// The time passes. When this returns, the call has done all that is due by then.
    public void pass(Duration time) throws InterruptedException {
        settle();       // what is waiting may set alarms
        leap(time);
        settle();
    }

    /// The same, but does not wait for the call.
    public void leap(Duration time) {
        clock.addAndGet(time.toNanos());
        mailbox.post(new Event.TurnChanged());
    }

    /// Waits until the call has joined its room and taken every event that is in its mailbox then,
    /// and has looked whose turn it is. Returns when the call is over, too.
    public void settle() throws InterruptedException {
        await(joined);
        mailbox.post(new Event.TurnChanged());      // the call looks after it, before the mark
        settle(mark -> mailbox.post(new Event.AgentSays(mark, "")));
    }

    /// Waits until the mark has come that `send` is to send, or until the call is over. The mark is
    /// the id of a caption: it passes through the call and changes nothing there.
    void settle(Consumer<String> send) throws InterruptedException {
        String name = "mark " + UUID.randomUUID();
        var mark = new CountDownLatch(1);
        marks.put(name, mark);
        send.accept(name);
        await(mark);
    }

    private void await(CountDownLatch it) throws InterruptedException {
        long end = System.nanoTime() + Stand.SOON.toNanos();
        while (!it.await(5, TimeUnit.MILLISECONDS) && !over.isDone()) {
            if (System.nanoTime() > end) {
                throw new AssertionError(it == joined ? "the call does not join its room"
                        : "the mark does not come through the call");
            }
        }
    }

    /// Has the agent noticed that its own sentence is over? The frames of a sentence have all gone
    /// out up to 10 ms before the end mark of the sentence is taken. Who speaks in between
    /// interrupts a sentence that they have heard to its end.
    public boolean listening() {
        Map<String, String> last = shown.peekLast();
        return last != null && "listening".equals(last.get("lk.agent.state"));
    }

    /// The caller says something of so many ms to this connection, and is then silent until the
    /// model believes that they have finished. The silence comes when the call knows that the
    /// caller speaks. If all of it came at once, the call could break off the answer to it on a
    /// busy machine.
    public void say(DemoModel.Session model, int ms) throws Exception {
        LongSupplier turns = () -> model.sent().stream().filter(event ->
                event.getString("type").equals("input_audio_buffer.speech_started")).count();
        long before = turns.getAsLong();
        say(ms, 0);
        Stand.eventually("the model hears it", () -> turns.getAsLong() > before);
        settle(model);
        say(0, 700);
    }

    /// Waits until the call has taken every event that the model has sent on this connection.
    void settle(DemoModel.Session model) throws InterruptedException {
        settle(mark -> model.sendText("{\"type\":\"response.output_audio_transcript.delta\","
                + "\"item_id\":\"" + mark + "\",\"delta\":\"\"}"));
        settle();
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
                int sample = (int) (volume * Math.sin(2 * Math.PI * turns));
                frame[2 * i] = (byte) sample;
                frame[2 * i + 1] = (byte) (sample >> 8);
            }
            ear.accept(frame);
        }
    }

    /// The caller speaks for `ms` milliseconds and is then silent for `silence` ms, and the call's
    /// clock goes on with each piece of sound.
    public void live(int ms, int silence) throws Exception {
        for (int at = 0; at < ms + silence; at += 20) {
            say(at < ms ? 20 : 0, at < ms ? 0 : 20);
            leap(Duration.ofMillis(20));
        }
    }
}
