package voice;

import module java.base;

/// What the caller hears: the agent's sound, in frames of 10 ms. One frame goes out every 10 ms. A
/// frame is silence when there is nothing to say. Realtime queues the model's sound here. The
/// call's thread queues recordings, and breaks the sound off.
///
/// Frames go out without a pause from the first moment to the last, because the receiver's clock
/// advances with the frames. After a pause, everything would be heard that much later for the rest
/// of the call. Frames never go out in a burst either, because nothing behind `out` queues them.
///
/// What is not done here: Speaker does not know whose turn it is, nor what `out` does with a frame.
///
/// One thread serves the speakers of all calls. Any thread may call any method, and no method
/// waits.
public final class Speaker implements AutoCloseable {
    public static final int RATE = 24_000;                  // Hz; 16 bit little endian, mono
    public static final int BYTES_PER_MS = RATE / 1000 * 2;
    public static final int FRAME = 10 * BYTES_PER_MS;      // bytes
    private static final int MOST_QUEUED = 300_000 * BYTES_PER_MS;          // bytes: 5 minutes
    private static final int STARVED = 30;                  // frames: 300 ms of silence

    /// An item that was cut off after `ms` milliseconds of its sound. (The model's sound comes in
    /// [items](https://developers.openai.com/api/docs/guides/realtime-conversations); a recording
    /// is one, too.)
    public record Cut(String itemId, int ms) {}

    /// Some sound of an item, or (`end`) the mark that there is no more of it.
    private record Piece(String itemId, ByteBuffer pcm, boolean end) {}

    private final Consumer<byte[]> out;
    private final Runnable changed;
    private final byte[] frame = new byte[FRAME];
    private final Deque<Piece> queue = new ArrayDeque<>();
    private int queued;                                     // bytes in the queue
    private int ends;                                       // end marks in the queue
    private String playing;                                 // the item being heard, or null
    private final Map<String, Integer> played = new HashMap<>();            // bytes, by item
    private int starved;                // frames of silence since the rest of `playing` is missing
    private final Set<String> cut = new HashSet<>();        // items
    private boolean held = true;                            // until `release`
    private boolean toldSpeaking;                           // `speaking` when `changed` last ran
    private boolean running;                                // between `start` and `stop`
    private boolean closed;

    /// `out` takes each frame, 480 bytes. It gets the same array each time and must use it at once.
    /// `changed` is run when `speaking` has changed, and when an item is over. Both run on the
    /// thread that all calls share, so neither may wait.
    public Speaker(Consumer<byte[]> out, Runnable changed) {
        this.out = out;
        this.changed = changed;
    }

    /// Frames go out from now on. They are silence until `release`.
    public synchronized void start() {
        if (!closed) {
            running = true;
            Pacer.add(this);
        }
    }

    /// No frame goes out until `start` is called again, because there is nowhere to send it. The
    /// sound stays in the queue. When this returns, no frame is on its way any more, so `out` may
    /// be taken down.
    public synchronized void stop() {
        running = false;
        Pacer.remove(this);
    }

    /// Something is being said, or is about to be. This is false before `release`. It is also false
    /// when the rest of a sentence has not come for 300 ms.
    public synchronized boolean speaking() {
        return !held && (playing != null || !queue.isEmpty()) && starved < STARVED;
    }

    /// The caller can hear us now. What was queued meanwhile is played from its beginning.
    public synchronized void release() {
        held = false;
    }

    /// Nobody hears us for a while. What is queued waits until `release`.
    public synchronized void hold() {
        held = true;
    }

    /// Queues sound of an item: 24 kHz, 16 bit little endian, mono. The sound is dropped when that
    /// item has been cut off, or when more is waiting than anybody will listen to.
    public synchronized void play(String itemId, byte[] pcm) {
        int whole = pcm.length & ~1; // half a sample would shift all that follow
        if (whole > 0 && !cut.contains(itemId) && queued < MOST_QUEUED) {
            queue.add(new Piece(itemId, ByteBuffer.wrap(pcm, 0, whole), false));
            queued += whole;
            starved = 0;
        }
    }

    /// All sound of the item was queued. So what is left of it may be played even when it is less
    /// than a whole frame. Does nothing if there is no sound of it here, or if `itemId` is null.
    public synchronized void end(String itemId) {
        if (holds(itemId)) {
            queue.add(new Piece(itemId, ByteBuffer.allocate(0), true));
            ends++;
        }
    }

    /// Is this item being heard, or queued? `itemId` may be null.
    public synchronized boolean holds(String itemId) {
        return itemId != null && (itemId.equals(playing)
                || queue.stream().anyMatch(piece -> piece.itemId.equals(itemId)));
    }

    /// From the next frame on there is silence. Returns what was cut off: the item being heard, and
    /// any item queued behind it (0 ms). A frame that has gone out will be heard, so it counts.
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

    /// The same as `stop`, for good.
    @Override
    public synchronized void close() {
        closed = true;
        stop();
    }

    /// Sends the next frame. Runs on Pacer's thread.
    private synchronized void next() {
        if (!running) {
            return;
        }
        int filled = 0;
        String before = playing;
        // Less than a frame is not played while more of the sentence is to come: silence in
        // mid-word would be heard as a click.
        if (!held && (queued >= FRAME || ends > 0)) {
            filled = fill();
        }
        starved = filled == 0 && playing != null ? starved + 1 : 0;
        if (toldSpeaking != speaking() || before != null && playing == null) {
            toldSpeaking = speaking();
            changed.run();
        }
        Arrays.fill(frame, filled, FRAME, (byte) 0);
        out.accept(frame);
    }

    /// Takes sound from the queue into `frame`, and stops at the end of an item. Returns the bytes.
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
        // A platform thread. A virtual one would have to wait for a carrier thread, and a call may
        // keep all of them busy.
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
                        speakers.remove(speaker); // the other calls go on
                        Log.log("", "a speaker stopped: " + Log.reason(e));
                    }
                }
                // When the machine has kept this thread waiting, it catches up at double speed,
                // frame by frame. To catch up at once would be a burst. Not to catch up would be a
                // pause.
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
