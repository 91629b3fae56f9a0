package trials;

import module java.base;
import livekit.LivekitAgent.WorkerMessage.MessageCase;
import org.junit.jupiter.api.BeforeAll;
import room.Worker;
import voice.Event;
import voice.Line;
import voice.Mailbox.Alarm;
import voice.Party;

import static org.junit.jupiter.api.Assertions.assertFalse;

/// A Worker that runs against TestLiveKit, and its calls: what RoomTest and CallerTest share. Each
/// of their tests has an instance of its own.
abstract class RoomStand extends Stand {
    static final int MAX_CALLS = 2;
    static final String SECRET_OF_LIVEKIT = "secret of 32 letters, or of some more";
    static final Duration ENOUGH = Duration.ofSeconds(60);

    static final String PHONE = "+15550100", CALLED = "+15550199";
    static final String[] ON_THE_PHONE = {"sip.phoneNumber", PHONE,
            "sip.trunkPhoneNumber", CALLED, "sip.callID", "SCL_1", "sip.callIDFull", "a@b",
            "sip.callStatus", "active"};

    final TestLiveKit livekit;
    final Worker worker;
    final CompletableFuture<Void> ran = new CompletableFuture<>();
    final List<String> begun = new CopyOnWriteArrayList<>();
    final Map<String, CompletableFuture<String>> ends = new ConcurrentHashMap<>();
    final Map<String, Line> lines = new ConcurrentHashMap<>();
    /// Does a call join its room and hang up in the end?
    boolean joins;
    /// Whom such a call is to dial, or null.
    String dials;
    /// The identity that the dispatch names, or "". Null: nobody can be the caller.
    String named = "";
    final Set<String> inTheirRooms = ConcurrentHashMap.newKeySet();

    RoomStand() throws IOException {
        livekit = opened(new TestLiveKit());
        worker = worker(livekit);
    }

    static Worker worker(TestLiveKit livekit) {
        return new Worker(livekit.url() + "/", "key", SECRET_OF_LIVEKIT, "an-agent", MAX_CALLS);
    }

    /// The first requests of a process load many classes. On a busy machine that takes longer than
    /// the 2 s that a request may take, and then it is tried again. So no test makes those.
    @BeforeAll
    static void firstRequests() throws Exception {
        try (var livekit = new TestLiveKit()) {
            for (boolean sure : new boolean[] {true, false}) {
                worker(livekit).rooms().delete("", "a room", "RM_1", sure)
                        .get(60, TimeUnit.SECONDS);
            }
            livekit.rooms.put("a room", "RM_1");
            worker(livekit).rooms().deleteAbandoned(new Party("", "a room", "RM_1", null, null,
                    "inbound", null, null)).get(60, TimeUnit.SECONDS);
        }
    }

    /// The worker runs from now on, on a thread of its own.
    void run() {
        Thread.ofVirtual().start(() -> {
            try {
                worker.run(this::takeCall, () -> {});
                ran.complete(null);
            } catch (Worker.Refused | InterruptedException e) {
                ran.completeExceptionally(e);
            }
        });
        afterwards(() -> {
            lines.keySet().forEach(this::end);
            worker.stop(Duration.ofSeconds(1));
        });
    }

    void runs() throws InterruptedException {
        run();
        eventually("it is registered", () -> livekit.status().startsWith("WS_AVAILABLE"));
    }

    /// Every call lasts until the test ends it.
    void takeCall(Line line) {
        line.mailbox().alarm(Alarm.TOO_LONG, SOON);     // no test waits longer for an event
        begun.add(line.id());
        lines.put(line.id(), line);
        try {
            if (joins) {
                line.join(dials, named);
                inTheirRooms.add(line.id());
            }
            String error = ends(line.id()).join();
            if (joins) {
                line.hangUp();
            }
            if (!error.isEmpty()) {
                throw new IllegalStateException(error);
            }
        } catch (IOException | InterruptedException e) {
            line.hangUp();                      // as Session does, whatever has happened
            throw new IllegalStateException(e);
        }
    }

    CompletableFuture<String> ends(String call) {
        return ends.computeIfAbsent(call, _ -> new CompletableFuture<>());
    }

    void end(String call) {
        ends(call).complete("");
    }

    /// Offers a call, and waits for the answer and for the status behind it.
    void offered(String call) throws InterruptedException {
        int before = livekit.answers().size();
        livekit.offer(call);
        eventually("the answer", () -> livekit.answers().size() > before
                && kinds().lastIndexOf(MessageCase.UPDATE_WORKER)
                        > kinds().lastIndexOf(MessageCase.AVAILABILITY));
    }

    List<MessageCase> kinds() {
        return livekit.told.stream().map(each -> each.getMessageCase()).toList();
    }

    void becomes(String status) throws InterruptedException {
        eventually(status, () -> livekit.status().equals(status));
    }

    /// A call that has joined its room.
    Line joined(String call) throws Exception {
        joins = true;
        if (lines.isEmpty()) {
            runs();
        }
        offered(call);
        livekit.assign(call);
        eventually("it runs", () -> livekit.updates().contains(call + " JS_RUNNING"));
        eventually("it is in the room", () -> inTheirRooms.contains(call));
        return lines.get(call);
    }

    /// Waits for an event of that kind.
    static void until(Line line, Class<? extends Event> kind) throws InterruptedException {
        for (Event next; !kind.isInstance(next = line.mailbox().next()); ) {
            assertFalse(next instanceof Event.AlarmDue, "no " + kind);
        }
    }
}
