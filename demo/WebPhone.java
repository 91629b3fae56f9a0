package demo;

import module java.base;
import dev.onvoid.webrtc.*;
import dev.onvoid.webrtc.media.audio.CustomAudioSource;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import room.WebRtc;
import voice.Event;
import voice.Line;
import voice.Log;
import voice.Mailbox;
import voice.Speaker;

/// A call from a web page on this machine. The browser's microphone and loudspeaker are connected
/// straight to the agent, without LiveKit and without a telephone. WebCalls makes one for each call
/// from the demo's page; the agent knows it as a Line.
///
/// There are two WebRTC peer connections, one for each direction. The browser offers both, with all
/// of its addresses (no trickle ICE). Everything else goes as JSON: the page is told of it through
/// `page`, and what the caller does comes in through `wrote`, `pressed` and `left`.
///
/// Deliberately not handled: browsers on other machines (they would need HTTPS, and perhaps TURN),
/// and the telephone network: a transfer always succeeds, and puts nobody through.
public final class WebPhone implements Line, AutoCloseable {
    private static final Duration GATHERING = Duration.ofSeconds(2);
    private static final Duration ANSWERING = Duration.ofSeconds(10);
    private static final Duration CONNECTING = Duration.ofSeconds(10);
    private static final Duration CLOSING = Duration.ofSeconds(2);

    /// The SDP of both connections: `up` brings the caller's sound, `down` takes the agent's.
    public record Sdp(String up, String down) {}

    private final String id;
    private final String number;
    private final Consumer<JsonObject> page;
    private final Mailbox mailbox = new Mailbox();
    private final CustomAudioSource microphone = new CustomAudioSource();
    private final Speaker speaker =
            new Speaker(this::push, () -> mailbox.post(new Event.TurnChanged()));
    private final WebRtc.Ear hearing;
    private volatile Consumer<byte[]> ear;
    private final CompletableFuture<Void> connected = new CompletableFuture<>();
    private final CompletableFuture<Void> hungUp = new CompletableFuture<>();

    // Only this thread uses the fields below. It is not a virtual one: see WebRtc.
    private final ExecutorService thread;
    private Peer up;
    private Peer down;
    private boolean closed;

    /// Loads WebRTC, so that the first call does not have to wait for it. Blocks, some 0.5 s. An
    /// Error says that a library of the operating system is missing.
    public static void warmUp() {
        WebRtc.warmUp();
    }

    /// `number` is the caller's (E.164), or null when it is withheld. `page` is told what happens,
    /// on any thread, and must not wait.
    public WebPhone(String id, String number, Consumer<JsonObject> page) {
        this.id = id;
        this.number = number;
        this.page = page;
        hearing = new WebRtc.Ear(id, () -> ear, this::lost);
        thread = new ThreadPoolExecutor(1, 1, 0, TimeUnit.SECONDS, new LinkedBlockingQueue<>(),
                Thread.ofPlatform().name("phone " + id).daemon().factory(),
                new ThreadPoolExecutor.DiscardPolicy()); // WebRTC still reports after the end
    }

    /// Takes the browser's two offers and returns the two answers to them. Blocks, 10 s at most. An
    /// IOException says what WebRTC does not like in the offers.
    public Sdp connect(Sdp offers) throws IOException, InterruptedException {
        return WebRtc.await(thread.submit(() -> {
            up = new Peer(WebRtc.RECEIVE);
            down = new Peer(WebRtc.SEND);
            down.connection.addTrack(
                    WebRtc.SEND.createAudioTrack("microphone", microphone), List.of("agent"));
            return new Sdp(up.answer(offers.up), down.answer(offers.down));
        }), ANSWERING, "WebRTC does not answer");
    }

    private void push(byte[] frame) {
        hearing.tick();
        microphone.pushAudio(frame, 16, Speaker.RATE, 1, frame.length / 2);
    }

    /// The caller has written something. Any thread, as `pressed`, `left` and `stop`.
    public void wrote(String text) {
        mailbox.post(new Event.CallerWrote(text));
    }

    /// The caller has pressed a key: 0-9, * or #.
    public void pressed(String key) {
        mailbox.post(new Event.KeyPressed(key));
    }

    /// The caller has hung up, or their page is gone.
    public void left(String why) {
        connected.completeExceptionally(new IOException(why));
        mailbox.post(new Event.CallerLeft(why));
    }

    /// The program stops and wants the call to end.
    public void stop() {
        connected.completeExceptionally(new IOException("the program is being stopped"));
        mailbox.post(new Event.Stop());
    }

    private void lost(String why) {
        connected.completeExceptionally(new IOException(why));
        mailbox.post(new Event.LineLost(why));
    }

    /// Gives everything back, once the agent has returned from the call. Blocks, 2 s at most.
    @Override
    public void close() {
        speaker.close();
        try {
            WebRtc.await(thread.submit(this::closePeers), CLOSING, "closing takes too long");
        } catch (IOException e) {
            Log.log(id, Log.reason(e));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        thread.shutdown();
        tell("ended", Map.of());
        hungUp.complete(null);
    }

    private void closePeers() {
        closed = true;
        hearing.close();
        for (Peer peer : new Peer[] {up, down}) {
            if (peer != null) {
                WebRtc.quietly(id, peer.connection::close);
            }
        }
        WebRtc.quietly(id, microphone::dispose);
    }

    private void tell(String kind, Map<String, Object> more) {
        page.accept(Json.createObjectBuilder(more).add("kind", kind).build());
    }

    @Override public String id() { return id; }
    @Override public String room() { return "web"; }
    @Override public String roomSid() { return ""; }
    @Override public String metadata() { return ""; }
    @Override public Mailbox mailbox() { return mailbox; }
    @Override public Speaker speaker() { return speaker; }
    @Override public String number() { return number; }
    @Override public String calledNumber() { return null; }
    @Override public String sipCallId() { return null; }
    @Override public String sipId() { return null; }
    @Override public void listen(Consumer<byte[]> ear) { this.ear = ear; }
    @Override public void dial(String trunk) { } // there is nobody to dial
    @Override public CompletableFuture<Void> hangUp() { return hungUp; }

    /// The caller is not on a phone. This says so all the same, so that you can try a transfer.
    @Override public boolean onPhone() { return true; }

    @Override
    public void join(String number, String identity) throws IOException, InterruptedException {
        WebRtc.await(connected, CONNECTING, "no sound gets through from the browser");
        mailbox.post(new Event.CallerJoined());
    }

    @Override
    public void pickUp() {
        tell("picked_up", Map.of());
        mailbox.post(new Event.CallerHears());
    }

    @Override
    public void show(Map<String, String> attributes) {
        if (attributes.containsKey("lk.agent.state")) {
            tell("state", Map.of("state", attributes.get("lk.agent.state")));
        }
    }

    @Override
    public void caption(boolean agents, String segment, String text, boolean last) {
        tell("caption", Map.of("who", agents ? "agent" : "caller", "segment", segment,
                "text", text, "last", last));
    }

    @Override
    public void transfer(String to) {
        tell("transferred", Map.of("to", to));
        mailbox.post(new Event.Transferred());
        mailbox.post(new Event.CallerLeft("transferred"));
    }

    private final class Peer implements PeerConnectionObserver {
        final RTCPeerConnection connection;
        final CompletableFuture<Void> gathered = new CompletableFuture<>();
        private volatile boolean open;

        Peer(PeerConnectionFactory factory) throws IOException {
            var config = new RTCConfiguration();
            // Without a network, neither we nor the browser have an address to offer. With this
            // setting we take the browser's packets on any address that they reach us on.
            config.portAllocatorConfig.setDisableAdapterEnumeration(!online());
            connection = factory.createPeerConnection(config, this);
        }

        String answer(String offer) throws IOException, InterruptedException {
            WebRtc.set(o -> connection.setRemoteDescription(
                    new RTCSessionDescription(RTCSdpType.OFFER, WebRtc.harmless(offer)), o));
            var answer = WebRtc.created(o -> connection.createAnswer(new RTCAnswerOptions(), o));
            WebRtc.set(o -> connection.setLocalDescription(answer, o));
            WebRtc.await(gathered, GATHERING, "WebRTC finds no address of this machine");
            return connection.getLocalDescription().sdp;
        }

        @Override public void onIceCandidate(RTCIceCandidate candidate) { } // the SDP has them

        @Override
        public void onIceGatheringChange(RTCIceGatheringState state) {
            if (state == RTCIceGatheringState.COMPLETE) {
                gathered.complete(null);
            }
        }

        @Override
        public void onConnectionChange(RTCPeerConnectionState state) {
            open = state == RTCPeerConnectionState.CONNECTED;
            thread.execute(() -> {
                if (closed) {
                    return;
                }
                if (state == RTCPeerConnectionState.FAILED) {
                    lost("the browser's connection has failed");
                } else if (up.open && down.open) {
                    speaker.start();
                    connected.complete(null);
                }
            });
        }

        @Override
        public void onTrack(RTCRtpTransceiver transceiver) {
            thread.execute(() -> {
                if (!closed) {
                    hearing.hear(transceiver);
                }
            });
        }
    }

    private static boolean online() throws IOException {
        return NetworkInterface.networkInterfaces().anyMatch(each -> {
            try {
                return each.isUp() && !each.isLoopback();
            } catch (SocketException e) {
                return false;
            }
        });
    }
}
