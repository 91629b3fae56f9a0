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

/// A room's two WebRTC
/// [peer connections](https://docs.livekit.io/reference/internals/client-protocol/): our sound and
/// our data go out on the publisher, the caller's sound and data come in on the subscriber. Room
/// makes one Peers when it joins, and another when it joins the room again.
///
/// On the publisher we make the offers and the server answers them. On the subscriber the server
/// makes the offers and we answer. ("Offer" and "answer" are SDP descriptions in this class, and
/// never a telephone call.)
///
/// All methods are for the room's thread, unless they say otherwise. That thread may have to wait
/// for WebRTC in them, 5 s at most for each description. WebRTC's callbacks come on threads that
/// all calls share, so the callbacks only leave work for the room's thread.
///
/// Not handled: video. Not handled: sending data again that was on its way when a connection broke.
final class Peers {
    private static final int MOST_UNSENT = 500;             // packets
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
    private final Deque<byte[]> unsent = new ArrayDeque<>();
    private int sequence;                                   // of our last data packet
    private boolean publishing;
    private int offers;                                     // that we have made
    private boolean answerDue;                              // to our last offer
    private boolean offerAgain;                             // as soon as that answer has come

    // In.
    private final WebRtc.Ear ear;
    private final List<RTCDataChannel> channels = new ArrayList<>();

    boolean closed;                                         // what comes after that is dropped

    /// Makes both connections and our data channels. The channels must be part of our first offer:
    /// data can never be sent otherwise. They also give us something to offer before there is any
    /// sound, so that the connection stands when the phone is to be picked up.
    ///
    /// `relayOnly` means that LiveKit wants all sound to go through its TURN servers.
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

    /// Leaves out the servers that WebRTC would refuse. One refused server would end the process:
    /// when webrtc-java 0.14 reports the refusal, it reads from address 12.
    private List<RTCIceServer> usable(List<ICEServer> given) {
        var usable = new ArrayList<RTCIceServer>();
        for (ICEServer from : given) {
            var server = new RTCIceServer();
            server.urls = from.getUrlsList().stream().filter(url -> usable(url, from)).toList();
            server.username = from.getUsername();
            server.password = from.getCredential();
            if (server.urls.size() < Math.max(1, from.getUrlsCount())) {
                Log.log(room.id(), "an ICE server is left out, it is none: "
                        + Log.foreign(from.getUrlsList().toString()));
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

    /// Closes both connections and frees what they hold. The Speaker must have been stopped before,
    /// because its thread calls `push`.
    void close() {
        if (closed) {
            return;
        }
        closed = true;
        ear.close();
        channels.forEach(channel -> WebRtc.quietly(room.id(), channel::unregisterObserver));
        WebRtc.quietly(room.id(), publisher.connection::close);
        WebRtc.quietly(room.id(), subscriber.connection::close);
        WebRtc.quietly(room.id(), microphone::dispose);
    }

    /// Are both connections connected? Not while WebRTC says `disconnected`: sound does not get
    /// through then, although it may do so again before WebRTC says `failed`.
    boolean connected() {
        return !closed && publisher.connected && subscriber.connected;
    }

    // Sound.

    /// Has `publish` been called on these connections?
    boolean publishing() {
        return publishing;
    }

    /// Sends 10 ms of our sound: 24 kHz, 16 bit little endian, mono. For the Speaker's thread,
    /// between `Speaker.start` and `Speaker.stop`.
    void push(byte[] frame) {
        ear.tick();
        microphone.pushAudio(frame, 16, Speaker.RATE, 1, frame.length / 2);
    }

    /// Publishes our sound: tells LiveKit about the track, and offers it. `takeAnswer` says when
    /// the Speaker may be started.
    void publish() throws IOException {
        publishing = true;
        var direction = new RTCRtpTransceiverInit();
        direction.direction = RTCRtpTransceiverDirection.SEND_ONLY;
        direction.streamIds = List.of("agent");
        var encoding = new RTCRtpEncodingParameters();
        encoding.active = true;
        encoding.maxBitrate = 48_000;               // as in LiveKit's SDKs; WebRTC takes 32,000
        direction.sendEncodings = List.of(encoding);
        publisher.connection.addTransceiver(
                WebRtc.SEND.createAudioTrack("microphone", microphone), direction);
        // The source is MICROPHONE, because clients find an agent's voice by its source. We ask for
        // no DTX: DTX pauses the packets in silence, and after a pause some phones play sound late.
        // RED (RFC 2198) stays on: each packet also has the sound of the one before it, so that
        // nobody misses a single packet that is lost.
        room.signalling().send(SignalRequest.newBuilder().setAddTrack(AddTrackRequest.newBuilder()
                .setCid("microphone").setName("agent").setType(TrackType.AUDIO)
                .setSource(TrackSource.MICROPHONE).setStream("agent")
                .addAudioFeatures(AudioTrackFeature.TF_NO_DTX)));
        offer(false);
    }

    // Data.

    /// Sends a packet to the room. Packets are sent in order, as soon as the data channel is open.
    /// Until then 500 packets are kept. Further ones are dropped.
    void send(DataPacket.Builder packet) {
        if (unsent.size() < MOST_UNSENT) {
            // The server drops packets whose numbers do not rise.
            unsent.add(packet.setSequence(++sequence).build().toByteArray());
        }
        flush();
    }

    private void flush() {
        while (!closed && !unsent.isEmpty() && reliable.getState() == RTCDataChannelState.OPEN) {
            try {
                reliable.send(new RTCDataChannelBuffer(ByteBuffer.wrap(unsent.remove()), true));
            } catch (Exception e) {
                Log.log(room.id(), "a data packet was not sent: " + Log.reason(e));
            }
        }
    }

    /// Says what is done when something happens on a channel. Either may be null. `received` is
    /// given a copy of each message. Both run on a thread of WebRTC's.
    private record Channel(Runnable stateChanged, Consumer<byte[]> received)
            implements RTCDataChannelObserver {

        @Override public void onBufferedAmountChange(long before) { }

        @Override
        public void onStateChange() {
            if (stateChanged != null) {
                stateChanged.run();
            }
        }

        @Override
        public void onMessage(RTCDataChannelBuffer message) {
            if (received != null) {
                // WebRTC takes its buffer back when this method returns.
                byte[] bytes = new byte[message.data.remaining()];
                message.data.get(bytes);
                received.accept(bytes);
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
        /// Candidates that came before the description they belong to. Null after it has come.
        List<RTCIceCandidate> early = new ArrayList<>();

        Peer(PeerConnectionFactory factory, SignalTarget target) {
            this.target = target;
            this.connection = factory.createPeerConnection(config, this);
        }

        void setRemote(RTCSessionDescription description) throws IOException {
            WebRtc.set(o -> connection.setRemoteDescription(description, o));
            if (early != null) {
                early.forEach(this::add);
                early = null;
            }
        }

        void add(RTCIceCandidate candidate) {
            try {
                connection.addIceCandidate(candidate);
            } catch (RuntimeException | Error e) { // webrtc-java 0.14 throws Errors, too
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

    /// Tells the server something that belongs to these connections.
    private void tell(SignalRequest.Builder request) {
        room.signalling().send(this, request);
    }

    /// Offers the server what we send on the publisher. There is one offer at a time: what changes
    /// before its answer has come is offered after that. With `iceRestart` the offer is made at
    /// once, and WebRTC looks for a new way through to the server.
    void offer(boolean iceRestart) throws IOException {
        if (answerDue && !iceRestart) {
            offerAgain = true;
            return;
        }
        answerDue = true;
        var options = new RTCOfferOptions();
        options.iceRestart = iceRestart;
        var offer = WebRtc.created(o -> publisher.connection.createOffer(options, o));
        WebRtc.set(o -> publisher.connection.setLocalDescription(offer, o));
        tell(SignalRequest.newBuilder().setOffer(describe(offer, ++offers)));
    }

    /// Takes the server's answer to our offer. Returns whether our sound can go out from now on.
    boolean takeAnswer(SessionDescription answer) throws IOException {
        if (answer.getId() != 0 && answer.getId() < offers) {
            return false; // it answers an offer that a newer one has replaced
        }
        // WebRTC then sends our sound in packets of 10 ms instead of 20 ms, and the caller hears it
        // 10 ms sooner. With RED that matters twice: what they hear begins one packet late.
        String sdp = WebRtc.harmless(answer.getSdp())
                .replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=ptime:10\r\n");
        publisher.setRemote(new RTCSessionDescription(RTCSdpType.ANSWER, sdp));
        answerDue = false;
        if (offerAgain) {
            offerAgain = false;
            offer(false);
            return false;
        }
        return publishing;
    }

    /// Takes the server's offer, and answers it.
    void takeOffer(SessionDescription offer) throws IOException {
        subscriber.setRemote(new RTCSessionDescription(
                RTCSdpType.OFFER, WebRtc.harmless(offer.getSdp())));
        var answer = WebRtc.created(
                o -> subscriber.connection.createAnswer(new RTCAnswerOptions(), o));
        WebRtc.set(o -> subscriber.connection.setLocalDescription(answer, o));
        tell(SignalRequest.newBuilder().setAnswer(describe(answer, offer.getId())));
    }

    /// Takes a candidate of the server's: an address at which it may be reached. Throws a
    /// RuntimeException when the candidate cannot be read.
    void takeCandidate(TrickleRequest trickle) {
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

    /// The signalling is back, on a new socket. First the server must be told our state. Then we
    /// look for a new way through to it. `state` is what the room's `sync_state` message says
    /// about tracks; this method adds the descriptions.
    void resume(List<ICEServer> iceServers, SyncState.Builder state) throws IOException {
        config.iceServers = usable(iceServers);
        for (Peer peer : new Peer[] {publisher, subscriber}) {
            peer.connection.setConfiguration(config);
            peer.early = new ArrayList<>(); // candidates of descriptions that are yet to come
        }
        RTCSessionDescription answer = subscriber.connection.getCurrentLocalDescription();
        RTCSessionDescription offer = subscriber.connection.getCurrentRemoteDescription();
        if (answer != null && offer != null) {
            state.setAnswer(describe(answer, 0)).setOffer(describe(offer, 0));
        }
        tell(SignalRequest.newBuilder().setSyncState(state));
        offer(true);
    }

    private static SessionDescription describe(RTCSessionDescription description, int id) {
        return SessionDescription.newBuilder().setId(id).setSdp(description.sdp)
                .setType(description.sdpType.name().toLowerCase(Locale.ROOT)).build();
    }
}
