package room;

import module java.base;
import dev.onvoid.webrtc.*;
import dev.onvoid.webrtc.media.audio.*;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import livekit.LivekitModels.AudioTrackFeature;
import livekit.LivekitModels.DataPacket;
import livekit.LivekitModels.TrackSource;
import livekit.LivekitModels.TrackType;
import livekit.LivekitRtc.*;
import voice.Log;
import voice.Speaker;

/// A room's two peer connections: on the publisher our sound and our data go out, on the
/// subscriber the caller's come in. Room makes one, and another when it has to join anew.
///
/// We offer on the publisher, the server offers on the subscriber (livekit/protocol,
/// `livekit_rtc.proto`). All methods are for the room's thread, which may have to wait for WebRTC
/// in them; WebRTC's callbacks come on threads that all calls share and only leave work for it.
///
/// Not handled: video, and sending data again that was on its way when a connection broke.
final class Peers {
    private static final int MOST_WAITING = 500;            // packets, before data can be sent
    private static final int MOST_USERNAME = 509;           // bytes; WebRTC's bound (RFC 8489)
    private static final Pattern ICE_URL = Pattern.compile("(stun|turn)s?:"
            + "([\\w.-]+|\\[[0-9a-fA-F:.]+])(:([0-9]{1,5}))?(\\?transport=(udp|tcp))?");

    private final Room room;
    private final RTCConfiguration config = new RTCConfiguration();
    private final Peer publisher;
    private final Peer subscriber;

    // Out.
    private final CustomAudioSource microphone = new CustomAudioSource();
    private final RTCDataChannel reliable;
    private final Deque<byte[]> waiting = new ArrayDeque<>();
    private int sequence;
    private boolean publishing;
    boolean closed;                                         // what is still to come, is too late
    private int offers;
    private boolean offering;
    private boolean offerAgain;

    // In.
    private final WebRtc.Ear ear;
    private final List<RTCDataChannel> channels = new ArrayList<>();

    /// With data channels from the beginning: without those in the first offer no data could ever
    /// be sent. They also give us something to offer, so that the connection stands before the
    /// phone is picked up.
    Peers(Room room, List<ICEServer> iceServers, boolean relayOnly) {
        this.room = room;
        ear = new WebRtc.Ear(room.id(), room::ear, trouble -> {
            room.listen(null);
            room.work(() -> room.lost(trouble));
        });
        config.iceServers = usable(iceServers);
        if (relayOnly) {
            config.iceTransportPolicy = RTCIceTransportPolicy.RELAY;
        }
        publisher = new Peer(WebRtc.SEND, SignalTarget.PUBLISHER);
        subscriber = new Peer(WebRtc.RECEIVE, SignalTarget.SUBSCRIBER);
        var lossy = new RTCDataChannelInit();
        lossy.ordered = false;
        lossy.maxRetransmits = 0;
        reliable = publisher.connection.createDataChannel("_reliable", new RTCDataChannelInit());
        reliable.registerObserver(new Channel(() -> room.work(this::flush), null));
        channels.add(reliable);
        channels.add(publisher.connection.createDataChannel("_lossy", lossy));
    }

    /// Those that WebRTC will take. One that it refuses would be the end of the process: in its
    /// answer to that, webrtc-java 0.14 reads from address 12.
    private List<RTCIceServer> usable(List<ICEServer> given) {
        var usable = new ArrayList<RTCIceServer>();
        for (ICEServer from : given) {
            var server = new RTCIceServer();
            server.urls = from.getUrlsList().stream().filter(url -> usable(url, from)).toList();
            server.username = from.getUsername();
            server.password = from.getCredential();
            if (server.urls.size() < Math.max(1, from.getUrlsCount())) {
                Log.log(room.id(), "an ICE server is left out, it is none: " + from.getUrlsList());
            }
            if (!server.urls.isEmpty()) {
                usable.add(server);
            }
        }
        return usable;
    }

    private static boolean usable(String url, ICEServer from) {
        Matcher parts = ICE_URL.matcher(url);
        if (!parts.matches()) {
            return false;
        }
        int port = parts.group(4) == null ? 1 : Integer.parseInt(parts.group(4));
        boolean named = !from.getUsername().isEmpty() && !from.getCredential().isEmpty()
                && from.getUsernameBytes().size() <= MOST_USERNAME;
        return port > 0 && port < 65_536
                && (parts.group(1).equals("turn") ? named : parts.group(5) == null);
    }

    /// Gives everything back. The Speaker must have been stopped.
    void close() {
        closed = true;
        ear.close();
        channels.forEach(channel -> WebRtc.quietly(room.id(), channel::unregisterObserver));
        WebRtc.quietly(room.id(), publisher.connection::close);
        WebRtc.quietly(room.id(), subscriber.connection::close);
        WebRtc.quietly(room.id(), microphone::dispose);
    }

    /// Both ways are open.
    boolean connected() {
        return publisher.connected && subscriber.connected;
    }

    // Sound.

    /// Our sound is offered to the room, or in it.
    boolean publishing() {
        return publishing;
    }

    /// Our sound: a frame of 10 ms. The pacer's thread, between `Speaker.start` and `stop`.
    void push(byte[] frame) {
        microphone.pushAudio(frame, 16, Speaker.RATE, 1, frame.length / 2);
    }

    /// Offers our sound to the room. The Speaker is started when the answer has come.
    void publish() throws IOException {
        publishing = true;
        var direction = new RTCRtpTransceiverInit();
        direction.direction = RTCRtpTransceiverDirection.SEND_ONLY;
        direction.streamIds = List.of("agent");
        publisher.connection.addTransceiver(
                WebRtc.SEND.createAudioTrack("microphone", microphone), direction);
        // Clients look for an agent's voice by its source. No DTX: sound that comes back after a
        // pause in the packets is late at some phones.
        room.signalling().send(SignalRequest.newBuilder().setAddTrack(AddTrackRequest.newBuilder()
                .setCid("microphone").setName("agent").setType(TrackType.AUDIO)
                .setSource(TrackSource.MICROPHONE).setStream("agent").setDisableRed(true)
                .addAudioFeatures(AudioTrackFeature.TF_NO_DTX)));
        offer(false);
    }

    // Data.

    /// Sends a packet to the room, in order, as soon as that is possible. What has been waiting
    /// too long for that is dropped.
    void send(DataPacket.Builder packet) {
        if (waiting.size() < MOST_WAITING) {
            // The server drops what does not come in the order of its numbers.
            waiting.add(packet.setSequence(++sequence).build().toByteArray());
        }
        flush();
    }

    private void flush() {
        while (!closed && !waiting.isEmpty() && reliable.getState() == RTCDataChannelState.OPEN) {
            try {
                reliable.send(new RTCDataChannelBuffer(ByteBuffer.wrap(waiting.remove()), true));
            } catch (Exception e) {
                Log.log(room.id(), "a data packet was not sent: " + Log.reason(e));
            }
        }
    }

    /// What happens on one channel: `opened` may be null, and `taken` gets a copy of each message.
    private record Channel(Runnable opened, Consumer<byte[]> taken)
            implements RTCDataChannelObserver {

        @Override public void onBufferedAmountChange(long before) { }

        @Override
        public void onStateChange() {
            if (opened != null) {
                opened.run();
            }
        }

        @Override
        public void onMessage(RTCDataChannelBuffer message) {
            if (taken != null) {
                byte[] bytes = new byte[message.data.remaining()]; // it is ours only in here
                message.data.get(bytes);
                taken.accept(bytes);
            }
        }
    }

    private void received(byte[] bytes) {
        try {
            if (!closed) {
                room.received(DataPacket.parseFrom(bytes));
            }
        } catch (IOException e) {
            Log.log(room.id(), "unreadable data in the room: " + Log.reason(e));
        }
    }

    // The connections themselves.

    private final class Peer implements PeerConnectionObserver {
        final SignalTarget target;
        final RTCPeerConnection connection;
        volatile boolean connected;
        List<RTCIceCandidate> early = new ArrayList<>();    // null once they can be added

        Peer(PeerConnectionFactory factory, SignalTarget target) {
            this.target = target;
            this.connection = factory.createPeerConnection(config, this);
        }

        void remote(RTCSessionDescription description) throws IOException {
            WebRtc.set(o -> connection.setRemoteDescription(description, o));
            if (early != null) {
                early.forEach(this::add);
                early = null;
            }
        }

        void add(RTCIceCandidate candidate) {
            try {
                connection.addIceCandidate(candidate);
            } catch (RuntimeException | Error e) { // 0.14 throws Errors at what it cannot read
                Log.log(room.id(), "an unreadable candidate in the room: " + Log.reason(e));
            }
        }

        @Override
        public void onIceCandidate(RTCIceCandidate candidate) {
            room.work(() -> tell(SignalRequest.newBuilder().setTrickle(
                    TrickleRequest.newBuilder().setTarget(target).setCandidateInit(
                            Json.createObjectBuilder().add("candidate", candidate.sdp)
                                    .add("sdpMid", candidate.sdpMid)
                                    .add("sdpMLineIndex", candidate.sdpMLineIndex)
                                    .build().toString()))));
        }

        @Override
        public void onConnectionChange(RTCPeerConnectionState state) {
            connected = state == RTCPeerConnectionState.CONNECTED;
            boolean failed = state == RTCPeerConnectionState.FAILED;
            room.work(() -> room.signalling().mediaChanged(Peers.this, failed ? target : null));
        }

        @Override
        public void onTrack(RTCRtpTransceiver transceiver) {
            room.work(() -> {
                if (!closed) {
                    ear.hear(transceiver);
                }
            });
        }

        @Override
        public void onDataChannel(RTCDataChannel channel) {
            channel.registerObserver(
                    new Channel(null, bytes -> room.work(() -> received(bytes))));
            room.work(() -> {
                if (!closed) {
                    channels.add(channel);
                }
            });
        }
    }

    /// One offer at a time; what changes meanwhile is offered when the answer has come.
    /// `iceRestart` looks for a new way through to the server.
    void offer(boolean iceRestart) throws IOException {
        if (offering && !iceRestart) {
            offerAgain = true;
            return;
        }
        offering = true;
        var options = new RTCOfferOptions();
        options.iceRestart = iceRestart;
        var offer = WebRtc.created(o -> publisher.connection.createOffer(options, o));
        WebRtc.set(o -> publisher.connection.setLocalDescription(offer, o));
        tell(SignalRequest.newBuilder().setOffer(describe(offer, ++offers)));
    }

    /// The server's answer to our offer. True when our sound can go out from now on.
    boolean answered(SessionDescription answer) throws IOException {
        if (answer.getId() != 0 && answer.getId() < offers) {
            return false; // to an offer that has been replaced
        }
        // Our sound in packets of 10 ms instead of 20 ms: it is heard 10 ms sooner.
        String sdp = WebRtc.harmless(answer.getSdp())
                .replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=ptime:10\r\n");
        publisher.remote(new RTCSessionDescription(RTCSdpType.ANSWER, sdp));
        offering = false;
        if (offerAgain) {
            offerAgain = false;
            offer(false);
            return false;
        }
        return publishing;
    }

    /// The server's offer.
    void answer(SessionDescription offer) throws IOException {
        subscriber.remote(new RTCSessionDescription(
                RTCSdpType.OFFER, WebRtc.harmless(offer.getSdp())));
        var answer = WebRtc.created(
                o -> subscriber.connection.createAnswer(new RTCAnswerOptions(), o));
        WebRtc.set(o -> subscriber.connection.setLocalDescription(answer, o));
        tell(SignalRequest.newBuilder().setAnswer(describe(answer, offer.getId())));
    }

    /// A way that the server knows of.
    void candidate(TrickleRequest trickle) {
        JsonObject init;
        try (var reader = Json.createReader(new StringReader(trickle.getCandidateInit()))) {
            init = reader.readObject();
        }
        var candidate = new RTCIceCandidate(WebRtc.harmless(init.getString("sdpMid", "")),
                init.getInt("sdpMLineIndex", 0),
                WebRtc.harmless(init.getString("candidate", "")));
        Peer peer = trickle.getTarget() == SignalTarget.PUBLISHER ? publisher : subscriber;
        if (peer.early != null) {
            peer.early.add(candidate);
        } else {
            peer.add(candidate);
        }
    }

    /// The signalling is back, on a new socket: what the server must know first (`sync_state`),
    /// and then a new way through.
    void resume(List<ICEServer> iceServers, SyncState.Builder state) throws IOException {
        config.iceServers = usable(iceServers);
        for (Peer peer : new Peer[] {publisher, subscriber}) {
            peer.connection.setConfiguration(config);
            peer.early = new ArrayList<>(); // what comes now belongs to descriptions still to come
        }
        RTCSessionDescription answer = subscriber.connection.getCurrentLocalDescription();
        RTCSessionDescription offer = subscriber.connection.getCurrentRemoteDescription();
        if (answer != null && offer != null) {
            state.setAnswer(describe(answer, 0)).setOffer(describe(offer, 0));
        }
        tell(SignalRequest.newBuilder().setSyncState(state));
        offer(true);
    }

    /// Tells the server something that belongs to these connections.
    private void tell(SignalRequest.Builder request) {
        room.signalling().send(this, request);
    }

    private static SessionDescription describe(RTCSessionDescription description, int id) {
        return SessionDescription.newBuilder().setId(id).setSdp(description.sdp)
                .setType(description.sdpType.name().toLowerCase(Locale.ROOT)).build();
    }
}
