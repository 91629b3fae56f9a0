package room;

import module java.base;
import dev.onvoid.webrtc.*;
import dev.onvoid.webrtc.media.audio.*;
import voice.Log;
import voice.Speaker;

/// What every call's sound needs of libwebrtc (by webrtc-java): the two factories that its peer
/// connections are made by, their offers and answers, and the ear. Peers uses it for a room and
/// WebPhone for a browser; both on a platform thread of their own, because a virtual one that waits
/// in native code keeps its carrier.
public final class WebRtc {
    private static final Duration SDP = Duration.ofSeconds(5);

    // Two factories for the whole process. One that both sends pushed sound and receives aborts
    // the JVM: the device module it listens with also "records" into what it sends, from a second
    // thread. So one sends and has no device, the other plays what it receives into our sinks.
    // Neither is ever disposed: doing that with a call up is a segmentation fault.
    public static final PeerConnectionFactory SEND =
            new PeerConnectionFactory(new AudioDeviceModule(AudioLayer.kDummyAudio));
    public static final PeerConnectionFactory RECEIVE =
            new PeerConnectionFactory(new HeadlessAudioDeviceModule());

    private WebRtc() {}

    /// Loads the native library and makes the factories. Blocks, some 0.2 s; an Error when a
    /// library of the system's is missing.
    static void load() {
        SEND.hashCode(); // whatever touches this class
    }

    /// Runs through an offer and an answer once, so that the first call does not pay for it (130
    /// ms and more). Blocks, some 0.3 s.
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

    /// Of what it cannot read, webrtc-java 0.14 makes a message, and of the message a format for
    /// `printf`: a %s in it ends the process. Nothing that we need has a per cent sign in it.
    public static String harmless(String sdp) {
        return sdp.replace('%', '_');
    }

    public static RTCSessionDescription created(Consumer<CreateSessionDescriptionObserver> create)
            throws IOException {
        var result = new SdpResult();
        create.accept(result);
        return result.await();
    }

    public static void set(Consumer<SetSessionDescriptionObserver> set) throws IOException {
        var result = new SdpResult();
        set.accept(result);
        result.await();
    }

    /// What WebRTC says to either, as a future.
    private static final class SdpResult extends CompletableFuture<RTCSessionDescription>
            implements CreateSessionDescriptionObserver, SetSessionDescriptionObserver {
        @Override public void onSuccess() { complete(null); }
        @Override public void onSuccess(RTCSessionDescription it) { complete(it); }
        @Override public void onFailure(String why) { completeExceptionally(new IOException(why)); }

        RTCSessionDescription await() throws IOException {
            try {
                return WebRtc.await(this, SDP, "WebRTC does not answer");
            } catch (InterruptedException e) {
                throw new InterruptedIOException();
            }
        }
    }

    /// The result, or what has kept it from coming as an IOException. (Of a room's, too. If it
    /// were there, a start from source would have to compile the room first: 0.2 s.)
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

    /// What cannot be closed must not keep the rest from being closed. (0.14 throws Errors too.)
    public static void quietly(String call, Runnable close) {
        try {
            close.run();
        } catch (RuntimeException | Error e) {
            Log.log(call, "WebRTC did not close cleanly: " + Log.reason(e));
        }
    }

    /// One caller's sound: what WebRTC plays, at 48 kHz, goes on at 24 kHz to whoever listens at
    /// the time. It comes on WebRTC's playout thread, which all calls share.
    public static final class Ear {
        private final String call;
        private final Supplier<Consumer<byte[]>> listener;
        private final Consumer<String> unusable;
        private final Map<String, AudioTrack> heard = new HashMap<>();      // by mid
        private final AudioTrackSink sink = this::sound;
        private final AudioResampler resampler = new AudioResampler(48_000, Speaker.RATE, 1);
        private final byte[] resampled = new byte[Speaker.FRAME];
        private boolean deaf;                               // guarded by resampler

        /// `listener` may give null: nobody listens. `unusable` is told of sound that is not as
        /// it must be.
        public Ear(String call, Supplier<Consumer<byte[]>> listener, Consumer<String> unusable) {
            this.call = call;
            this.listener = listener;
            this.unusable = unusable;
        }

        /// Hears what comes in on this line of the connection.
        public void hear(RTCRtpTransceiver transceiver) {
            // After an unpublish and a publish the same line is used again and this is called
            // again, with another wrapper of the same track: a second sink would hear everything
            // twice.
            if (transceiver.getReceiver().getTrack() instanceof AudioTrack track
                    && heard.putIfAbsent(transceiver.getMid(), track) == null) {
                track.addSink(sink);
            }
        }

        private void sound(byte[] pcm, int bits, int rate, int channels, int frames) {
            Consumer<byte[]> ear = listener.get();
            if (ear == null) {
                return;
            }
            if (rate != 48_000 || channels != 1) { // webrtc-java 0.14 hands out nothing else
                unusable.accept("sound of " + rate + " Hz on " + channels + " channels");
                return;
            }
            synchronized (resampler) {
                if (deaf) {
                    return;
                }
                resampler.resample(pcm, frames, resampled, resampled.length / 2, 1);
            }
            ear.accept(resampled);
        }

        /// Before its connection is closed.
        public void close() {
            synchronized (resampler) {
                deaf = true;
                quietly(call, resampler::dispose);
            }
            heard.values().forEach(track -> quietly(call, () -> track.removeSink(sink)));
        }
    }
}
