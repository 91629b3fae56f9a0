package room;

import module java.base;
import dev.onvoid.webrtc.*;
import dev.onvoid.webrtc.media.audio.*;
import voice.Log;
import voice.Speaker;

/// What every call's sound needs of WebRTC: the two factories that make its peer connections, the
/// making of offers and answers, and the ear that hears a caller. It stands on
/// [webrtc-java](https://github.com/devopvoid/webrtc-java), which loads Google's native library.
///
/// Peers uses this class for a room, and the demo's WebPhone for a browser. Each does so on a
/// platform thread of its own: a virtual thread that waits in native code keeps its carrier thread.
///
/// Not handled: video.
public final class WebRtc {
    private static final Duration SDP = Duration.ofSeconds(5);

    static {
        Copies.leaveNone();             // before the factories, which load the library
    }

    // One factory that receives sound and also sends the sound that we push would abort the JVM:
    // its device module plays, and it also "records", from a second thread, into the sound that we
    // send. So there are two factories for the whole process. SEND has no device, and RECEIVE plays
    // what it receives into our sinks. Neither is ever disposed, because disposing a factory during
    // a call is a segmentation fault.
    public static final PeerConnectionFactory SEND =
            new PeerConnectionFactory(new AudioDeviceModule(AudioLayer.kDummyAudio));
    public static final PeerConnectionFactory RECEIVE =
            new PeerConnectionFactory(new HeadlessAudioDeviceModule());

    private WebRtc() {}

    /// webrtc-java copies its native library, 23 MB, from the jar into the temporary folder, and
    /// deletes the copy as soon as the library is loaded. A process that ends before that would
    /// leave the copy there.
    private static final class Copies {
        private static final Duration IN_USE = Duration.ofMinutes(1);       // 0.1 s is usual

        /// From now on this process does not end while it loads the library. A process that was
        /// killed has left its copy: on a thread of its own, this deletes the copies that nobody
        /// can be loading any more.
        static void leaveNone() {
            Runtime.getRuntime().addShutdownHook(
                    new Thread(new FutureTask<>(WebRtc::load, null), "WebRTC is loaded"));
            Thread.ofVirtual().name("old copies").start(() -> {
                Instant old = Instant.now().minus(IN_USE);
                try (var copies = Files.newDirectoryStream(
                        Path.of(System.getProperty("java.io.tmpdir")), "libwebrtc-java-*")) {
                    for (Path copy : copies) {
                        if (Files.getLastModifiedTime(copy).toInstant().isBefore(old)) {
                            Files.deleteIfExists(copy);
                        }
                    }
                } catch (IOException | DirectoryIteratorException e) {
                    // Another user's, or another process has deleted it. It can stay.
                }
            });
        }
    }

    /// Loads the native library and makes the factories. Blocks, some 0.2 s. Throws an Error when a
    /// library of the operating system is missing.
    static void load() {
        SEND.hashCode(); // any use makes Java initialize this class
    }

    /// Makes an offer and an answer once. Otherwise the first call would wait for what WebRTC
    /// prepares then (130 ms or more). Blocks, some 0.3 s.
    public static void warmUp() {
        var config = new RTCConfiguration();
        RTCPeerConnection from = SEND.createPeerConnection(config, _ -> {});
        RTCPeerConnection to = RECEIVE.createPeerConnection(config, _ -> {});
        try {
            from.addTransceiver(SEND.createAudioTrack("warm", new CustomAudioSource()),
                    new RTCRtpTransceiverInit());
            var offer = created(o -> from.createOffer(new RTCOfferOptions(), o));
            set(o -> from.setLocalDescription(offer, o));
            set(o -> to.setRemoteDescription(offer, o));
            var answer = created(o -> to.createAnswer(new RTCAnswerOptions(), o));
            set(o -> to.setLocalDescription(answer, o));
            set(o -> from.setRemoteDescription(answer, o));
        } catch (IOException e) {
            Log.log("", "WebRTC did not warm up: " + Log.reason(e));
        } finally {
            from.close();
            to.close();
        }
    }

    /// Replaces every per cent sign. When webrtc-java 0.14 cannot read a description or a
    /// candidate, it quotes it in a message, and uses that message as a format for `printf`: a `%s`
    /// in it ends the process. Nothing that we need contains a per cent sign.
    public static String harmless(String sdp) {
        return sdp.replace('%', '_');
    }

    /// Waits for an offer or an answer that WebRTC creates. Blocks, 5 s at most.
    public static RTCSessionDescription created(Consumer<CreateSessionDescriptionObserver> create)
            throws IOException {
        var result = new SdpResult();
        create.accept(result);
        return result.await();
    }

    /// Waits until WebRTC has taken a local or remote description. Blocks, 5 s at most.
    public static void set(Consumer<SetSessionDescriptionObserver> set) throws IOException {
        var result = new SdpResult();
        set.accept(result);
        result.await();
    }

    /// What WebRTC reports to either observer, as a future.
    private static final class SdpResult extends CompletableFuture<RTCSessionDescription>
            implements CreateSessionDescriptionObserver, SetSessionDescriptionObserver {
        @Override public void onSuccess() { complete(null); }
        @Override public void onSuccess(RTCSessionDescription made) { complete(made); }
        @Override public void onFailure(String why) { completeExceptionally(new IOException(why)); }

        RTCSessionDescription await() throws IOException {
            try {
                return WebRtc.await(this, SDP, "WebRTC does not answer");
            } catch (InterruptedException e) {
                throw new InterruptedIOException();
            }
        }
    }

    /// Waits for a result, `bound` at most. Throws an IOException when there is none, whatever the
    /// cause. `otherwise` says what it means that the time is over.
    ///
    /// Room uses it for futures that have nothing to do with WebRTC. It does not stand in Room,
    /// because a start from source would then compile Room before the worker registers (0.2 s).
    public static <T> T await(Future<T> result, Duration bound, String otherwise)
            throws IOException, InterruptedException {
        try {
            return result.get(bound.toMillis(), TimeUnit.MILLISECONDS);
        } catch (TimeoutException e) {
            throw new IOException(otherwise + " (" + bound.toMillis() + " ms)");
        } catch (ExecutionException e) {
            throw e.getCause() instanceof IOException io ? io : new IOException(e.getCause());
        }
    }

    /// Closes something. A failure is only logged, so that whoever calls this can go on and close
    /// the rest. `callId` is for the log.
    public static void quietly(String callId, Runnable close) {
        try {
            close.run();
        } catch (RuntimeException | Error e) { // webrtc-java 0.14 throws Errors, too
            Log.log(callId, "WebRTC did not close cleanly: " + Log.reason(e));
        }
    }

    /// The ear for one caller. It takes the sound that WebRTC plays, 48 kHz, and passes it on at
    /// 24 kHz, 16 bit, mono, 10 ms at a time, to the listener of the moment. It does so on WebRTC's
    /// playout thread, which all calls share. (Silence in place of sound comes on the thread that
    /// calls `tick`.)
    ///
    /// When the caller has no track, WebRTC plays nothing. The caller is silent then, and the
    /// listener must hear that: a model waits for silence to know that the caller has finished, and
    /// the caller may have lost their track in mid-word. So the listener hears silence instead.
    public static final class Ear {
        private static final int MISSING = 20;              // frames: 200 ms
        private static final byte[] SILENCE = new byte[Speaker.FRAME];

        private final String callId;
        private final Supplier<Consumer<byte[]>> listener;
        private final Consumer<String> unusable;
        private final Map<String, AudioTrack> tracks = new HashMap<>();     // by mid
        private final AudioTrackSink sink = this::sound;
        private final AudioResampler resampler = new AudioResampler(48_000, Speaker.RATE, 1);
        private final byte[] resampled = new byte[Speaker.FRAME];
        private boolean closed;                             // guarded by resampler
        private final AtomicInteger missing = new AtomicInteger();  // frames in a row

        /// `listener` returns who listens now, or null for nobody. `unusable` is told why, when the
        /// sound does not have the form that it must have. Both run on the threads that bring the
        /// sound.
        public Ear(String callId, Supplier<Consumer<byte[]>> listener, Consumer<String> unusable) {
            this.callId = callId;
            this.listener = listener;
            this.unusable = unusable;
        }

        /// Listens to the sound of this transceiver.
        public void hear(RTCRtpTransceiver transceiver) {
            // When a caller unpublishes a track and publishes another, WebRTC reports the same
            // transceiver again, with a new Java object for the same native track. A second sink
            // on it would pass everything on twice.
            if (transceiver.getReceiver().getTrack() instanceof AudioTrack track
                    && tracks.putIfAbsent(transceiver.getMid(), track) == null) {
                track.addSink(sink);
            }
        }

        private void sound(byte[] pcm, int bits, int rate, int channels, int frames) {
            missing.set(0);
            Consumer<byte[]> ear = listener.get();
            if (ear == null) {
                return;
            }
            if (rate != 48_000 || channels != 1) { // webrtc-java 0.14 hands out nothing else
                unusable.accept("sound of " + rate + " Hz on " + channels + " channels");
                return;
            }
            synchronized (resampler) {
                if (closed) {
                    return;
                }
                resampler.resample(pcm, frames, resampled, resampled.length / 2, 1);
            }
            ear.accept(resampled);
        }

        /// Another 10 ms have passed. The Speaker's thread calls this, because its frames never
        /// pause.
        public void tick() {
            Consumer<byte[]> ear = listener.get();
            if (missing.incrementAndGet() > MISSING && ear != null) {
                ear.accept(SILENCE);
            }
        }

        /// Stops listening. Call this before the peer connection is closed.
        public void close() {
            synchronized (resampler) {
                closed = true;
                quietly(callId, resampler::dispose);
            }
            tracks.values().forEach(track -> quietly(callId, () -> track.removeSink(sink)));
        }
    }
}
