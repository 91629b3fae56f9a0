package trials;

import module java.base;
import demo.DemoModel;
import demo.DemoModel.Say;
import voice.Clips;
import voice.End;
import voice.Event;
import voice.Model;
import voice.Numbers;
import voice.Options;
import voice.Session;
import voice.Speaker;
import voice.Step;

import static org.junit.jupiter.api.Assertions.assertEquals;

/// A call for the tests of voice/: the smallest program on a Session, its line and its model. The
/// program greets the caller, answers a tool at once, and writes down every step. It leaves the
/// tool `slow` without an answer, and the model need not speak about the answer of `report`.
/// Whatever else it is to do, the test has it do with `does`.
final class Talk {
    static final Duration SILENCE = Duration.ofSeconds(15);
    static final Duration LONGEST = Duration.ofMinutes(30);
    static final Map<String, String> SALES = Map.of("sales", "tel:+15550001111");
    static final Map<String, String> SUPPORT = Map.of("support", "tel:+15550003333");

    private static final int GREETING = 50;     // ms

    private record Act(Consumer<Session> what) {}

    final TestLine line;
    final DemoModel model;
    final List<Step> steps = new CopyOnWriteArrayList<>();
    final CompletableFuture<End> end = new CompletableFuture<>();
    volatile boolean ignoresKeys;
    volatile boolean started;           // as the program would report it
    private Session session;
    private int sentences;

    private Talk(TestLine line, DemoModel model) {
        this.line = line;
        this.model = model;
    }

    /// A call that begins. It is over when the test is.
    static Talk begun(Stand stand, TestLine line, DemoModel model, Options options) {
        return begun(stand, session(line, model, options), line, model);
    }

    /// The same, where `service` says how the model is asked, and `model` is what it asks.
    static Talk begun(Stand stand, TestLine line, Model service, DemoModel model) {
        return begun(stand, new Session(line, service, options(SALES)), line, model);
    }

    private static Talk begun(Stand stand, Session session, TestLine line, DemoModel model) {
        var talk = new Talk(line, model);
        talk.session = session;
        stand.take(line, _ -> talk.run(talk.session));
        return talk;
    }

    /// The same, with the trunk ST_1 and the destination sales.
    static Talk begun(Stand stand, TestLine line, DemoModel model) {
        return begun(stand, line, model, options(SALES));
    }

    static Session session(TestLine line, DemoModel model, Options options) {
        return new Session(line, new Model("sk-test", model.baseUrl(), "gpt-realtime", "marin",
                "gpt-transcribe", "server_vad", ""), options);
    }

    static Options options(Map<String, String> destinations) {
        return new Options("ST_1", List.of("+1"), destinations, SILENCE, LONGEST,
                new Numbers(""));
    }

    /// A call that we make: it has dialled, and nobody has answered yet. `subscribes`: somebody
    /// receives our sound.
    static Talk dialled(Stand stand, DemoModel model, Options options, boolean subscribes)
            throws Exception {
        var line = new TestLine();
        line.metadata = SessionTest.TO_CALL;
        line.answers = false;
        line.subscribes = subscribes;
        var talk = begun(stand, line, model, options);
        assertEquals("ST_1", line.dialled.get(Stand.SOON.toSeconds(), TimeUnit.SECONDS));
        line.settle();
        return talk;
    }

    /// A call in which the greeting was heard, and it is the caller's turn.
    static Talk greeted(Stand stand, Map<String, String> destinations) throws Exception {
        var talk = begun(stand, new TestLine(), greeting(stand), options(destinations));
        talk.heard(GREETING);
        return talk;
    }

    /// A model that greets, and has little to say after that.
    static DemoModel greeting(Stand stand) throws IOException {
        var model = stand.model(new Say("Hello.", GREETING));
        model.firstSoundMs = 10;
        model.afterScript = new Say("Yes.", 50);
        return model;
    }

    /// Waits until the caller has heard so much, and it is their turn.
    void heard(int ms) throws InterruptedException {
        Stand.eventually(ms + " ms", () -> line.heardMs.get() >= ms && line.listening());
        assertEquals(ms, line.heardMs.get());
        line.settle();
    }

    private void run(Session session) {
        try {
            session.join();
            started = true;
            while (session.next() instanceof Step step) {
                steps.add(step);
                take(session, step);
            }
        } catch (RuntimeException e) {
            session.fail(e);
            throw e;
        } finally {
            end.complete(session.finish());
            session.close();
        }
    }

    private void take(Session session, Step step) {
        switch (step) {
            case Step.Ringing() -> session.begin("Be brief.", "Nobody knows the caller.",
                    List.of("{\"type\":\"function\",\"name\":\"ask\"}"),
                    "Greet the caller: you speak first.");
            case Step.ToolCalled(_, var name, _) when name.equals("slow") -> { }
            case Step.ToolCalled(var id, var name, _) -> {
                if (name.equals("transfer")) {
                    session.transfer("sales");
                }
                session.answer(id, "{\"done\":true}", !name.equals("report"));
            }
            case Step.KeysPressed _ when ignoresKeys -> { }
            case Step.KeysPressed(var keys) -> session.callerSays("I press " + keys);
            case Step.Silent(var again) -> {
                session.tell("They are silent" + (again ? ": say goodbye." : ": ask."));
                if (again) {
                    session.endWhenHeard("silence", "silent");
                }
            }
            case Step.CallerBack() -> session.tell("They are back.");
            case Step.TimeIsUp() -> session.tell("Time is up: say goodbye.");
            case Step.Transferred _, Step.TransferFailed _, Step.TransferUnknown _ -> { }
            case Step.Posted(Act(var what)) -> {
                steps.removeLast();             // that is the test, and not the session
                what.accept(session);
            }
            case Step.Posted(var what) -> throw new IllegalStateException("not ours: " + what);
        }
    }

    /// Has the program do this, on the call's thread. Returns when it is done.
    void does(Consumer<Session> what) throws InterruptedException {
        begins(what);
        line.settle();
    }

    /// The same, but returns at once.
    void begins(Consumer<Session> what) {
        session.post(new Act(what));
    }

    /// The same for what has a result.
    <T> T says(Function<Session, T> what) throws InterruptedException {
        var result = new AtomicReference<T>();
        does(session -> result.set(what.apply(session)));
        return result.get();
    }

    /// This happens. Returns when the call has taken it, or is over.
    void happens(Event... events) throws InterruptedException {
        for (Event event : events) {
            line.mailbox.post(event);
        }
        line.settle();
    }

    /// The agent begins to say something that takes longer than any test, without the model.
    void agentSpeaks() throws InterruptedException {
        String item = "sentence " + ++sentences;
        line.speaker.play(item, Stand.times(60_000 * Speaker.BYTES_PER_MS, 0x11));
        line.speaker.end(item);
        line.settle();
    }

    /// What the agent is saying is over. Returns what that was.
    List<String> agentIsDone() throws InterruptedException {
        var items = line.speaker.clear().stream().map(cut -> cut.itemId()).toList();
        line.settle();
        return items;
    }

    /// Waits until the caller hears that recording.
    void hears(Clips which) throws InterruptedException {
        byte[] silence = new byte[Speaker.FRAME], first = silence;
        for (int at = 0; Arrays.equals(first, silence); at += Speaker.FRAME) {
            first = Arrays.copyOfRange(which.pcm(), at, at + Speaker.FRAME);
        }
        byte[] begins = first;
        Stand.eventually("recording " + which, () -> line.heard.stream()
                .anyMatch(frame -> Arrays.equals(frame, begins)));
    }

    /// The model sends these events in its connection with that number (from 1), besides its
    /// script. A ' stands for a ". Returns when the call has taken them. That also proves that the
    /// connection has not been given up.
    void modelSends(int connection, String... events) throws Exception {
        var session = Stand.session(model, connection);
        for (String event : events) {
            session.sendText(event.replace('\'', '"'));
        }
        line.settle(session);
    }

    /// The caller says something of so many ms, to the connection of that number.
    void callerSays(int connection, int ms) throws Exception {
        line.say(Stand.session(model, connection), ms);
    }

    /// So much sound of an item, as `modelSends` takes it.
    static String sound(String item, int ms) {
        return "{'type':'response.output_audio.delta','item_id':'" + item + "','delta':'"
                + Base64.getEncoder().encodeToString(
                        Stand.times(ms * Speaker.BYTES_PER_MS, 0x11)) + "'}";
    }

    /// The caller speaks for `ms` milliseconds and is then silent for `silence` ms. The model, on
    /// its first connection, does not fall behind, and is still in use at the end.
    void lives(int ms, int silence) throws Exception {
        for (int at = 0; at < ms + silence; at += 500) {
            int speech = Math.clamp(ms - at, 0, 500);
            line.live(speech, Math.clamp(ms + silence - at - speech, 0, 500 - speech));
            modelSends(1);
        }
    }

    /// The caller does the same, and the first connection is given up with the next piece of their
    /// sound, and not before. Returns the second one.
    DemoModel.Session isGivenUpAfter(int ms, int silence) throws Exception {
        line.live(ms, silence);
        assertEquals(1, model.sessions().size());
        line.live(silence == 0 ? 20 : 0, silence == 0 ? 0 : 20);
        return Stand.session(model, 2);
    }

    /// The time passes until this holds: quickly, but not while the call connects to the model,
    /// which takes real time, and on a busy machine much of it.
    void later(String what, BooleanSupplier holds) throws InterruptedException {
        Stand.eventually(what, () -> {
            line.leap(Duration.ofMillis(connects() ? 5 : 50));
            return holds.getAsBoolean();
        });
    }

    /// Is an attempt to connect to the model under way?
    boolean connects() {
        try {
            Object conversation = field(session, "conversation");
            synchronized (conversation) {
                return field(conversation, "connectedAt").equals(0L)
                        && field(conversation, "pausing").equals(false)
                        && field(conversation, "closed").equals(false);
            }
        } catch (ReflectiveOperationException e) {
            throw new AssertionError(e);
        }
    }

    static Object field(Object of, String name) throws ReflectiveOperationException {
        var field = of.getClass().getDeclaredField(name);
        field.setAccessible(true);
        return field.get(of);
    }

    /// How the call has ended.
    End ended() throws Exception {
        return end.get(Stand.SOON.toSeconds(), TimeUnit.SECONDS);
    }

    /// Steps of that kind that the program has taken.
    <T extends Step> List<T> steps(Class<T> kind) {
        return steps.stream().filter(kind::isInstance).map(kind::cast).toList();
    }
}
