package voice;

import module java.base;

/// The caller's sound on its way to the model, and the check whether the model hears it. Realtime
/// has one Hearing for each call. It outlives the connections (Link) of that call.
///
/// Hearing does three things with the sound. It cuts the sound into pieces of 20 ms and sends them.
/// It keeps the latest pieces, because a new connection has to hear what the caller has said since
/// they were last answered. And it compares how loud the caller is with what the model reports to
/// hear. A model that is stuck does not say so. But such a model does not notice either that the
/// caller has begun or finished.
///
/// The two may differ although nothing is wrong: the model knows better than a level what speech
/// is. So if they differ, the model is only asked whether it is there (`Link.probe`).
///
/// What is not done here: Hearing does not decide whose turn it is. The model does that
/// ([server VAD](https://developers.openai.com/api/docs/guides/realtime-vad)).
///
/// All sound is 24 kHz, 16 bit little endian, mono. Any thread may call any method. No method
/// waits, and the lock is never held for long.
final class Hearing {
    static final int PIECE_MS = 20;
    /// The most that is kept of a turn, in pieces: 15 s.
    static final int MOST_KEPT = 15_000 / PIECE_MS;
    private static final int PIECE = PIECE_MS * Speaker.BYTES_PER_MS;       // bytes
    /// What is kept while nobody waits for an answer, in pieces: 1 s. The model notices less than
    /// 1 s late that the caller has begun to speak. So the beginning is still there then.
    private static final int KEPT_BEFORE_A_TURN = 1_000 / PIECE_MS;

    // The RMS of 16 bit samples. LOUD is -50 dBFS, because a quiet caller has -45. If it was only
    // noise, it costs no more than a probe. SILENT is -61 dBFS: with less, nobody can be speaking.
    private static final int LOUD = 100, SILENT = 30;
    private static final int LOUD_MS = 200;             // so much loud sound counts as speech
    private static final Duration MISMATCH_BEFORE_PROBE = Duration.ofSeconds(1);
    private static final Duration NO_EVENT_BEFORE_PROBE = Duration.ofSeconds(8);
    private static final Duration END_NOT_NOTICED = Duration.ofSeconds(15);
    private static final int MOST_LATE = 5_000 / PIECE_MS;
    private static final int MOST_BETWEEN_MS = 40;      // between two pieces; more does not count

    /// A piece of sound, and when it was whole.
    private record Piece(byte[] pcm, long at) {}

    private final String phoneCall;                     // its id, for the log
    private final LongSupplier clock;

    // All that follows is guarded by `this`.
    private Link link;                                  // where the sound goes
    private final byte[] piece = new byte[PIECE];       // the next one, not yet whole
    private int pieceFilled;                            // bytes
    private final List<Piece> kept = new LinkedList<>();
    private long sent;                                  // pieces that the link has taken
    private long heardAgain;                            // of these, the first ones were kept
    private long dropped;                               // pieces that the link had no room for

    private boolean modelHearsSpeech;                   // it has reported a beginning, and no end
    private int loudMs;                                 // rises with loud sound, falls with silence
    private Duration callerQuiet = Duration.ZERO;
    private Duration callerWaited = Duration.ZERO;
    // Times, in nanoseconds. `now` goes on with each piece, by the time that has passed since the
    // one before, 40 ms at most. So no time passes while the process is stopped. Sound that comes
    // in a burst after that takes no time either. It begins at 1, because 0 stands for no time.
    private long now = 1;
    private long lastPiece;                             // by `clock`
    private long lastLoud = now;
    private long lastSound = now;                       // when it was last not quite silent
    private long lastEvent = now;                       // when the model has last sent anything
    private long mismatchSince;                         // 0 while the model hears what we hear
    private long probeSent;                             // 0 when no probe waits for its answer

    /// `clock` counts nanoseconds.
    Hearing(String phoneCall, LongSupplier clock) {
        this.phoneCall = phoneCall;
        this.clock = clock;
        lastPiece = clock.getAsLong();
    }

    /// The caller's sound, in pieces of any size, in their order. `turnUnanswered`: what the caller
    /// has said has no answer yet. So all of it is kept, 15 s at most.
    synchronized void hear(byte[] pcm, boolean turnUnanswered) {
        for (int at = 0; at < pcm.length; ) {
            int some = Math.min(PIECE - pieceFilled, pcm.length - at);
            System.arraycopy(pcm, at, piece, pieceFilled, some);
            at += some;
            pieceFilled += some;
            if (pieceFilled == PIECE) {
                pieceFilled = 0;
                pass(piece.clone(), turnUnanswered);
            }
        }
    }

    private void pass(byte[] whole, boolean turnUnanswered) {
        long clocked = clock.getAsLong();
        now += Math.min(clocked - lastPiece, MOST_BETWEEN_MS * 1_000_000L);
        lastPiece = clocked;
        kept.add(new Piece(whole, now));
        boolean all = turnUnanswered || mismatchSince != 0;
        while (kept.size() > (all ? MOST_KEPT : KEPT_BEFORE_A_TURN)) {
            kept.removeFirst();
        }
        // Sound is the only thing sent to the model that may be dropped, because sound that comes
        // late is of no use to anybody.
        if (link.hear(whole)) {
            sent++;
        } else if (dropped++ % 50 == 0) {           // once a second
            Log.log(phoneCall, "the model does not take the caller's sound");
        }
        compare(whole);
    }

    /// Compares what the model hears with what we hear, once for each piece. The caller's sound is
    /// also the clock here, because it never pauses.
    ///
    /// A probe is sent when the two have differed for 1 s. It is also sent when the model believes
    /// that the caller is speaking, and has sent nothing for 8 s. A model that does not answer the
    /// probe is stuck, and the connection is given up. The connection is also given up when the
    /// model has believed for 15 s of complete silence that the caller is speaking.
    private void compare(byte[] whole) {
        double level = rms(whole);
        boolean loud = level > LOUD;
        loudMs = loud ? loudMs + PIECE_MS : Math.max(0, loudMs - PIECE_MS);
        lastLoud = loud ? now : lastLoud;
        lastSound = level > SILENT ? now : lastSound;
        if (modelHearsSpeech && loud) {
            mismatchSince = 0;
        } else if (mismatchSince == 0 && (modelHearsSpeech || loudMs >= LOUD_MS)) {
            mismatchSince = now;
        }
        if (probeSent != 0 && now - probeSent > Link.PROBE_ANSWERED.toNanos()) {
            probeSent = 0;
            if (link.answersUpdates()) {
                giveUp("the model says nothing any more");
            }
        } else if (modelHearsSpeech && now - lastSound > END_NOT_NOTICED.toNanos()) {
            lastSound = now;
            giveUp("the model does not notice that the caller has finished");
        } else if (probeSent == 0 && (mismatchSince != 0
                && now - mismatchSince > MISMATCH_BEFORE_PROBE.toNanos()
                || modelHearsSpeech && now - lastEvent > NO_EVENT_BEFORE_PROBE.toNanos())) {
            probeSent = now;
            link.probe();
        }
    }

    /// This runs on a thread of its own. The present thread is WebRTC's, and must not wait for
    /// Realtime's lock.
    private void giveUp(String why) {
        Link suspected = link;
        // The caller may have finished before the probe was sent.
        callerWaited = Duration.ofNanos(
                Math.max(now - lastLoud, Link.PROBE_ANSWERED.toNanos()));
        Thread.ofVirtual().start(() -> suspected.fail(why));
    }

    private static double rms(byte[] pcm) {
        long energy = 0;
        for (int i = 0; i < pcm.length; i += 2) {
            int sample = pcm[i] & 0xff | pcm[i + 1] << 8;
            energy += sample * sample;
        }
        return Math.sqrt(energy / (pcm.length / 2.0));
    }

    /// The model has sent an event, so it is there. `hearsSpeech` says whether the caller is
    /// speaking, by what the model has reported so far.
    synchronized void eventCame(boolean hearsSpeech) {
        lastEvent = now;
        if (probeSent != 0) {
            probeSent = mismatchSince = 0;
        }
        if (hearsSpeech != modelHearsSpeech) {
            modelHearsSpeech = hearsSpeech;
            mismatchSince = loudMs = 0;
            lastSound = now;            // the model may hear what is too quiet for us
            callerQuiet = Duration.ZERO;
        }
    }

    /// The model has noticed that the caller has finished: at `endMs` of the sound of this
    /// connection. That includes the silence by which it has noticed. An `endMs` that cannot be
    /// right does not count.
    synchronized void callerFinished(long endMs) {
        long since = sent - endMs / PIECE_MS;                               // pieces
        if (endMs > 0 && since >= 0 && since <= MOST_LATE && !kept.isEmpty()) {
            long silent = since + Link.SILENCE.toMillis() / PIECE_MS;
            Piece last = kept.get((int) Math.max(0, kept.size() - 1 - silent));
            callerQuiet = Duration.ofNanos(now - last.at);
        }
    }

    /// For how long the caller had been silent when the model noticed that they had finished. On a
    /// slow connection the model notices that late.
    synchronized Duration callerQuiet() {
        return callerQuiet;
    }

    /// Is what begins at `startMs` of the sound of this connection a turn that the caller has begun
    /// in an earlier connection?
    synchronized boolean isHeardAgain(long startMs) {
        return startMs < heardAgain * PIECE_MS;
    }

    /// For how long the caller has waited in vain, now that the connection was given up here.
    synchronized Duration callerWaited() {
        return callerWaited;
    }

    /// What is kept may be too long ago for the caller's turn: then it is all silence.
    synchronized boolean keepsSpeech() {
        return !kept.isEmpty() && kept.getFirst().at <= lastSound;
    }

    /// From now on the sound goes to `next`. When the caller's turn has no answer yet, or the model
    /// may not have heard it, `next` first hears it once more.
    synchronized void moveTo(Link next, boolean turnUnanswered) {
        boolean again = turnUnanswered || mismatchSince != 0;
        if (again) {
            kept.forEach(each -> next.hear(each.pcm));
        }
        sent = heardAgain = again ? kept.size() : 0;
        modelHearsSpeech = false;
        // Until `next` reports it. If `next` fails before, the one after that has to hear it.
        mismatchSince = again ? now : 0;
        probeSent = loudMs = 0;
        callerQuiet = callerWaited = Duration.ZERO;
        link = next;
    }
}
