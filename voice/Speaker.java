package voice;

import module java.base;

/// What the caller hears: the agent's sound, cut into 10 ms frames, one every 10 ms, silence when
/// there is nothing to say.
///
/// Frames go out without a pause from the first moment to the last, because the receiver's clock
/// advances with the frames: after a pause everything would be heard that much later, for the
/// rest of the call. And never in a burst, because nothing behind `out` queues them.
///
/// One thread serves the speakers of all calls. Every method may be called from any thread, and
/// none waits.
public final class Speaker implements AutoCloseable {
    public static final int RATE = 24_000;                  // Hz; 16 bit little endian, mono
    public static final int BYTES_PER_MS = RATE / 1000 * 2;
    public static final int FRAME = 10 * BYTES_PER_MS;
    private static final int LONGEST = 300_000 * BYTES_PER_MS;
    private static final int STARVED = 30;                  // frames: 300 ms of silence

    /// A sentence that was cut off after `ms` milliseconds.
    public record Cut(String itemId, int ms) {}

    private record Piece(String itemId, ByteBuffer pcm, boolean end) {}

    private final Consumer<byte[]> out;
    private final Runnable changed;
    private final byte[] frame = new byte[FRAME];
    private final Deque<Piece> queue = new ArrayDeque<>();
    private int queued;                                     // bytes in the queue
    private int ends;                                       // end marks in the queue
    private String playing;                                 // the item being heard, or null
    private final Map<String, Integer> played = new HashMap<>();            // bytes of each item
    private int starved;                                    // frames that it was waited for
    private final Set<String> cut = new HashSet<>();
    private boolean held = true;
    private boolean told;                                   // what `changed` last stood for
    private boolean running;
    private boolean closed;

    /// `out` takes a frame of 480 bytes. It is the same array each time: to be used at once.
    /// `changed` is run when `speaking` has become another. Neither may wait.
    public Speaker(Consumer<byte[]> out, Runnable changed) {
        this.out = out;
        this.changed = changed;
    }

    /// The frames begin: silence as long as the sound is held.
    public synchronized void start() {
        if (!closed) {
            running = true;
            Pacer.add(this);
        }
    }

    /// There is nowhere to send them: no frame goes out, and the sound stays where it is, until
    /// `start`. The last frame is out when this returns, so that `out` may be taken down.
    public synchronized void stop() {
        running = false;
        Pacer.remove(this);
    }

    /// Something is being said, or about to be: not when it is only waiting to be released, or for
    /// a rest of the sentence that does not come.
    public synchronized boolean speaking() {
        return !held && (playing != null || !queue.isEmpty()) && starved < STARVED;
    }

    /// The caller hears us now: what was queued meanwhile is played from its beginning.
    public synchronized void release() {
        held = false;
    }

    /// Queues sound of one of the model's items; dropped when that item has been cut, or when more
    /// is waiting than anybody will listen to.
    public synchronized void play(String itemId, byte[] pcm) {
        int whole = pcm.length & ~1; // half a sample would shift all that follow
        if (whole > 0 && !cut.contains(itemId) && queued < LONGEST) {
            queue.add(new Piece(itemId, ByteBuffer.wrap(pcm, 0, whole), false));
            queued += whole;
            starved = 0;
        }
    }

    /// The item is all there: what is left of it at the end may be less than a whole frame.
    public synchronized void end(String itemId) {
        if (!cut.contains(itemId)) {
            queue.add(new Piece(itemId, ByteBuffer.allocate(0), true));
            ends++;
        }
    }

    /// Silence, from the next frame on. Returns what was cut off: the sentence being heard and
    /// any queued behind it (0 ms). A frame that is out will be heard, so it counts.
    public synchronized List<Cut> clear() {
        var items = new LinkedHashMap<String, Integer>();
        if (playing != null) {
            items.put(playing, played.getOrDefault(playing, 0) / BYTES_PER_MS);
        }
        queue.forEach(piece -> items.putIfAbsent(piece.itemId, 0));
        cut.addAll(items.keySet());
        queue.clear();
        queued = ends = starved = 0;
        playing = null;
        played.clear();
        return items.entrySet().stream().map(e -> new Cut(e.getKey(), e.getValue())).toList();
    }

    /// As `stop`, for good.
    @Override
    public synchronized void close() {
        closed = true;
        stop();
    }

    private synchronized void next() {
        if (!running) {
            return;
        }
        int filled = 0;
        // Less than a frame of a sentence that is still coming waits for the rest of it: silence
        // in mid-word would be heard as a click.
        if (!held && (queued >= FRAME || ends > 0)) {
            filled = fill();
        }
        starved = filled == 0 && playing != null ? starved + 1 : 0;
        if (told != speaking()) {
            told = !told;
            changed.run();
        }
        Arrays.fill(frame, filled, FRAME, (byte) 0);
        out.accept(frame);
    }

    private int fill() {
        int filled = 0;
        while (filled < FRAME && !queue.isEmpty()) {
            Piece piece = queue.peek();
            if (piece.end) {
                queue.remove();
                ends--;
                playing = null;
                played.remove(piece.itemId);
                break;
            }
            playing = piece.itemId;
            int some = Math.min(FRAME - filled, piece.pcm.remaining());
            piece.pcm.get(frame, filled, some);
            filled += some;
            played.merge(playing, some, Integer::sum);
            queued -= some;
            if (!piece.pcm.hasRemaining()) {
                queue.remove();
            }
        }
        return filled;
    }

    /// The thread that gives every speaker its next frame, every 10 ms.
    private static final class Pacer {
        private static final long FRAME_NANOS = 10_000_000;
        private static final Set<Speaker> speakers = ConcurrentHashMap.newKeySet();
        // A platform thread: it must not wait for a carrier that a call keeps busy.
        private static final Thread thread =
                Thread.ofPlatform().name("pacer").daemon().priority(Thread.MAX_PRIORITY)
                        .start(Pacer::run);

        static void add(Speaker speaker) {
            speakers.add(speaker);
            LockSupport.unpark(thread);
        }

        static void remove(Speaker speaker) {
            speakers.remove(speaker);
        }

        private static void run() {
            long due = System.nanoTime();
            while (true) {
                if (speakers.isEmpty()) {
                    LockSupport.park();
                    due = System.nanoTime();
                }
                for (Speaker speaker : speakers) {
                    try {
                        speaker.next();
                    } catch (RuntimeException | Error e) {
                        speakers.remove(speaker); // one call's trouble is not the others'
                        Log.log("", "a speaker stopped: " + Log.reason(e));
                    }
                }
                // When the machine has kept us waiting, we catch up frame by frame at double
                // speed. Catching up at once would be a burst; not at all, a pause.
                due += FRAME_NANOS;
                long now = System.nanoTime();
                due = Math.max(due, now - 50 * FRAME_NANOS);
                long wake = Math.max(due, now + FRAME_NANOS / 2);
                while (System.nanoTime() < wake) {
                    LockSupport.parkNanos(wake - System.nanoTime());
                }
            }
        }
    }
}
