package delivery;

import module java.base;
import jakarta.json.JsonObject;
import voice.Log;

/// Deliveries that survive a crash. What is put here is on disk before `put` returns. A delivery is
/// tried again and again until somebody has taken it. After a crash, the next process goes on with
/// it. Webhooks makes an outbox for the program.
///
/// Deliveries of one lane are made in order. Lanes do not wait for each other. A delivery that is
/// refused for good is put aside, in the folder `failed`, and those behind it go on.
///
/// An entry is something that lasts and whose end has to be reported: a call. It is a file as long
/// as it lasts, and the outbox touches that file every second. So the next process finds what a
/// dead process has begun and not ended, and when that process was last alive.
///
/// The outbox does not know what it delivers, nor how: an `Attempt` does that. Not handled: two
/// processes on one folder (the second one is refused).
public final class Outbox {
    private static final Duration SIGN_OF_LIFE = Duration.ofSeconds(1);
    private static final int LOOK_EVERY = 5;                // counted in signs of life
    private static final Duration NOT_WORTH_A_LINE = Duration.ofMillis(200);
    /// The wait after the first attempt, unless another one is handed in.
    public static final Duration FIRST_WAIT = Duration.ofMillis(500);
    private static final int LONGEST_WAIT = 60;             // counted in first waits: 30 s
    private static final Duration WHILE_CLOSING = Duration.ofMillis(200);   // between attempts
    private static final int MOST_AT_A_TIME = 32;           // attempts; each is a socket
    private static final int REFUSALS = 4;                  // then it is put aside

    /// Something to deliver: `body` to `path`, which only the Attempt understands. The bytes are
    /// the same in each attempt.
    public record Delivery(String lane, String id, String path, byte[] body) {
        Delivery without() { return new Delivery(lane, id, path, null); }
        Delivery with(byte[] body) { return new Delivery(lane, id, path, body); }
    }

    /// Makes one attempt to deliver, on a virtual thread. An IOException counts as `Later`. The
    /// attempt must end by itself after some time.
    public interface Attempt {
        Outcome make(Delivery delivery) throws IOException, InterruptedException;
    }

    /// What came of an attempt. `Later` is tried again. `Refused` is put aside: at once when it is
    /// `forGood`, otherwise after four refusals. The next attempt is not made before the time that
    /// the other side has `asked` for. `why` is for the log.
    public sealed interface Outcome {}

    public record Taken() implements Outcome {}

    public record Later(String why, Duration asked) implements Outcome {}

    public record Refused(String why, Duration asked, boolean forGood) implements Outcome {}

    /// Another process uses this folder. The message says which one.
    public static final class InUse extends Exception {
        private static final long serialVersionUID = 1;

        InUse(String message) {
            super(message);
        }
    }

    private final Folder folder;
    private final Attempt attempt;
    private final Duration firstWait;
    private final Semaphore attempts = new Semaphore(MOST_AT_A_TIME, true);
    private final Set<Entry> lasting = ConcurrentHashMap.newKeySet();
    // `lanes` guards itself, `closing` and `closed`.
    private final Map<String, Deque<Folder.Stored>> lanes = new HashMap<>();
    private boolean closing;
    private boolean closed;
    private final List<Folder.Stored> before;               // what an earlier process has left

    /// Reads the folder, and makes it if it is missing. Nothing is delivered before `start`.
    public Outbox(Path folder, Attempt attempt) throws InUse {
        this(folder, attempt, FIRST_WAIT);
    }

    /// The same, with another wait after the first attempt. The later waits grow or shrink
    /// with it, so a test need not wait for long.
    public Outbox(Path folder, Attempt attempt, Duration firstWait) throws InUse {
        this.folder = new Folder(folder);
        this.attempt = attempt;
        this.firstWait = firstWait;
        before = this.folder.newDeliveries();
    }

    /// Delivers at once what an earlier process has left, and from now on whatever comes.
    public void start() {
        if (!before.isEmpty()) {
            Log.log("", before.size() + " deliveries of before go first");
        }
        before.forEach(this::accept);
        Thread.ofVirtual().name("outbox").start(this::watch);
    }

    // Entries.

    /// Begins an entry. Nothing is on disk before `keep` or `put`.
    public Entry begin() {
        return new Entry(folder.newEntry());
    }

    /// An entry is for any thread.
    public final class Entry {
        private final String file;
        private boolean over;                               // guarded by `this`

        private Entry(String file) {
            this.file = file;
        }

        /// `state` is on disk when this returns.
        public synchronized void keep(JsonObject state) {
            if (!over) {
                lasting.add(this);
                folder.keep(file, state);
            }
        }

        /// The deliveries and `state` are on disk when this returns. Then the deliveries are tried.
        public synchronized void put(List<Delivery> deliveries, JsonObject state) {
            if (deliveries.isEmpty()) {
                keep(state);
                return;
            }
            lasting.add(this);
            folder.put(deliveries, file, state).forEach(Outbox.this::accept);
        }

        /// Nothing comes any more. When `done` completes, nothing is left to do, and the file is
        /// deleted. When `done` fails, the file stays, for the next process.
        public void over(CompletableFuture<Void> done) {
            done.whenComplete((_, trouble) -> {
                synchronized (this) {
                    over = true;
                    lasting.remove(this);
                    if (trouble == null) {
                        folder.remove(file);
                    }
                }
            });
        }
    }

    /// An entry that an earlier process has begun and not ended, with its last state and its last
    /// sign of life.
    public record Left(Entry entry, JsonObject state, Instant lastSeen) {}

    /// Returns what `read` makes of each such entry. If `read` throws a RuntimeException, the file
    /// is put aside. A file that somebody else may have written is not read, and stays. Call this
    /// before `start`.
    public <T> List<T> left(Function<Left, T> read) {
        var left = new ArrayList<T>();
        for (String file : folder.entries()) {
            try {
                left.add(read.apply(
                        new Left(new Entry(file), folder.state(file), folder.lastSeen(file))));
            } catch (Folder.NotOurs e) {
                // The log has said so. The file stays for the next start.
            } catch (IOException | RuntimeException e) {
                folder.putAside(file, file + " (" + Log.reason(e) + ")");
            }
        }
        return left;
    }

    /// The bodies that are left in one lane, in order, as far as they are JSON. An entry's last
    /// delivery may be on disk without the state that belongs to it. To be asked before `start`,
    /// which delivers them.
    public List<JsonObject> unsent(String lane) {
        var bodies = new ArrayList<JsonObject>();
        for (Folder.Stored each : before) {
            if (each.delivery().lane().equals(lane)) {
                try {
                    bodies.add(Folder.json(folder.body(each.file())));
                } catch (IOException | RuntimeException e) {
                    Log.log(lane, "cannot be read: " + each.file() + ": " + Log.reason(e));
                }
            }
        }
        return bodies;
    }

    // The end.

    /// Ends the delivering. What is waiting is tried for as long as `bound`. The rest stays on
    /// disk, for the next start.
    public void close(Duration bound) throws InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        synchronized (lanes) {
            closing = true;
            lanes.notifyAll();
            awaitEmpty(Math.min(end, System.nanoTime() + NOT_WORTH_A_LINE.toNanos()));
            if (!lanes.isEmpty() && bound.isPositive()) {
                Log.log("", "what is still to be delivered has " + bound.toSeconds() + " s");
            }
            awaitEmpty(end);
            closed = true;
            lanes.notifyAll();
            var waiting = lanes.values().stream().flatMap(Deque::stream).toList();
            long kept = waiting.stream().filter(each -> each.file() != null).count();
            if (kept > 0) {
                Log.log("", kept + " deliveries stay in " + folder.path
                        + " and go at the next start");
            }
            waiting.stream().filter(each -> each.file() == null).map(Folder.Stored::delivery)
                    .forEach(each -> Log.log(each.lane(),
                            "NOT DELIVERED, and not on disk: " + each.id()));
        }
        folder.close();
    }

    private void awaitEmpty(long until) throws InterruptedException {
        while (!lanes.isEmpty() && System.nanoTime() < until) {
            TimeUnit.NANOSECONDS.timedWait(lanes, until - System.nanoTime());
        }
    }

    /// Every second, gives each entry a sign of life. Every five seconds, looks for files that
    /// somebody has moved back into the folder, or that may be read by now.
    private void watch() {
        try {
            for (int signs = 1; ; signs++) {
                synchronized (lanes) {
                    TimeUnit.NANOSECONDS.timedWait(lanes, SIGN_OF_LIFE.toNanos());
                    if (closed) {
                        return;
                    }
                }
                lasting.forEach(entry -> folder.touch(entry.file));
                if (signs % LOOK_EVERY == 0) {
                    folder.newDeliveries().forEach(this::accept);
                }
            }
        } catch (InterruptedException e) {
            // nobody interrupts this thread
        }
    }

    // Delivering.

    private void accept(Folder.Stored stored) {
        String lane = stored.delivery().lane();
        synchronized (lanes) {
            Deque<Folder.Stored> waiting = lanes.get(lane);
            if (waiting != null) {
                waiting.add(stored);
                return;
            }
            lanes.put(lane, new ArrayDeque<>(List.of(stored)));
        }
        Thread.ofVirtual().name("lane " + lane).start(() -> deliverAll(lane));
    }

    /// Runs as long as there is something in the lane.
    private void deliverAll(String lane) {
        while (true) {
            Folder.Stored next;
            synchronized (lanes) {
                next = closed ? null : lanes.get(lane).peek();
                if (next == null) {
                    lanes.remove(lane);
                    lanes.notifyAll();
                    return;
                }
            }
            try {
                deliver(next);
            } catch (InterruptedException | RuntimeException | Error e) {
                putAside(next, reason(e, next.delivery()));
            }
            synchronized (lanes) {
                lanes.get(lane).remove();
            }
        }
    }

    /// Returns when somebody has taken the delivery, when it has been put aside, or when the outbox
    /// is closed.
    private void deliver(Folder.Stored stored) throws InterruptedException {
        Delivery it = stored.delivery();
        int refusals = 0;
        for (int number = 1; ; number++) {
            String why;
            Duration asked = Duration.ZERO;
            try {
                switch (attempt(stored)) {
                    case Taken() -> {
                        if (stored.file() != null) {
                            folder.remove(stored.file());
                        }
                        if (number > 1) {
                            Log.log(it.lane(), "delivered " + it.id() + " after all");
                        }
                        return;
                    }
                    case Refused(var reason, var time, var forGood) -> {
                        why = reason;
                        asked = time;
                        if (forGood || ++refusals == REFUSALS) {
                            putAside(stored, why);
                            return;
                        }
                    }
                    case Later(var reason, var time) -> {
                        why = reason;
                        asked = time;
                    }
                }
            } catch (NoSuchFileException e) {
                Log.log(it.lane(), "not sent, somebody has removed it: " + e.getMessage());
                return;
            } catch (Folder.NotOurs e) {
                return;                 // the log has said so, and `watch` finds it when mended
            } catch (IOException e) {
                why = "no answer: " + reason(e, it);
            }
            if (!pause(number, asked, "not delivered yet: " + it.id() + ": " + why, it.lane())) {
                return;
            }
        }
    }

    /// An exception that quotes the path is logged by its name alone: in the path may stand who it
    /// is about.
    private static String reason(Throwable thrown, Delivery it) {
        return Stream.iterate(thrown, Objects::nonNull, Throwable::getCause).limit(9)
                .anyMatch(each -> ("" + each.getMessage()).contains(it.path()))
                ? thrown.getClass().getSimpleName() : Log.reason(thrown);
    }

    private Outcome attempt(Folder.Stored stored) throws IOException, InterruptedException {
        Delivery whole = stored.file() == null ? stored.delivery()
                : stored.delivery().with(folder.body(stored.file()));
        attempts.acquire();
        try {
            return attempt.make(whole);
        } finally {
            attempts.release();
        }
    }

    private void putAside(Folder.Stored stored, String why) {
        String id = stored.delivery().id();
        Log.log(stored.delivery().lane(), "NOT DELIVERED: " + id + ": " + why);
        if (stored.file() != null) {
            folder.putAside(stored.file(), id);
        }
    }

    /// Waits before the next attempt. Returns false when there is none, because the outbox is
    /// closed.
    private boolean pause(int number, Duration asked, String trouble, String lane)
            throws InterruptedException {
        long now = System.nanoTime();
        Duration wait = waitAfter(
                number, firstWait, asked, ThreadLocalRandom.current().nextDouble());
        long due = now + wait.toNanos();
        long soon = now + WHILE_CLOSING.toNanos();
        synchronized (lanes) {
            // A CRM may be down for an hour. So the log has only the attempts 1, 2, 4, 8 ..
            if (!closing && Integer.bitCount(number) == 1) {
                Log.log(lane, trouble + "; again in " + wait.toMillis() + " ms");
            }
            while (!closed && System.nanoTime() < (closing ? soon : due)) {
                TimeUnit.NANOSECONDS.timedWait(lanes, (closing ? soon : due) - System.nanoTime());
            }
            return !closed;
        }
    }

    /// The wait after attempt `number`: 1 first wait, 2, 4, 8 .. 60, or the time that the other
    /// side has asked for if that is longer. `random` is from 0 to 1. It makes the wait up to a
    /// fifth shorter or longer, so that lanes do not try in step.
    public static Duration waitAfter(int number, Duration firstWait, Duration asked,
            double random) {
        double grown = firstWait.toNanos() * Math.min(LONGEST_WAIT, Math.pow(2, number - 1))
                * (0.8 + 0.4 * random);
        return Duration.ofNanos((long) Math.max(grown, asked.toNanos()));
    }
}
