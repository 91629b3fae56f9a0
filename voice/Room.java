package voice;

import module java.base;
import dev.onvoid.webrtc.*;
import dev.onvoid.webrtc.media.audio.*;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import livekit.LivekitAgent.Job;
import livekit.LivekitAgent.JobAssignment;
import livekit.LivekitModels.AudioTrackFeature;
import livekit.LivekitModels.ClientConfigSetting;
import livekit.LivekitModels.DisconnectReason;
import livekit.LivekitModels.ParticipantInfo;
import livekit.LivekitModels.TrackInfo;
import livekit.LivekitModels.TrackSource;
import livekit.LivekitModels.TrackType;
import livekit.LivekitRtc.*;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okio.ByteString;

/// One call's LiveKit room: the signalling socket, the two peer connections, who is there, and
/// hanging up. Worker makes one for each job; Agent knows it as a Line.
///
/// The protocol is LiveKit's client protocol 15 with two peer connections (livekit/protocol,
/// `livekit_rtc.proto`): we offer on the publisher, the server offers on the subscriber.
///
/// Everything here is done in order by one virtual thread, the room's own. WebRTC's callbacks
/// come on threads that all calls share, so they only leave work for it.
///
/// Not handled: video, data packets, and coming back after a lost connection (`LineLost`).
public final class Room implements Line {
    private static final Duration ASSIGNMENT = Duration.ofMillis(7_500);    // as LiveKit's SDKs
    private static final Duration JOINING = Duration.ofSeconds(10);
    private static final Duration SDP = Duration.ofSeconds(5);
    private static final Duration CLOSING = Duration.ofSeconds(2);

    // Two factories for the whole process. One that both sends pushed sound and receives aborts
    // the JVM: the device module it listens with also "records" into what it sends, from a second
    // thread. So one sends and has no device, the other plays what it receives into our sinks.
    // Neither is ever disposed: doing that with a call up is a segmentation fault.
    private static final PeerConnectionFactory SEND =
            new PeerConnectionFactory(new AudioDeviceModule(AudioLayer.kDummyAudio));
    private static final PeerConnectionFactory RECEIVE =
            new PeerConnectionFactory(new HeadlessAudioDeviceModule());

    private final Worker worker;
    private final Job job;
    private final Mailbox mailbox = new Mailbox();
    private final CustomAudioSource microphone = new CustomAudioSource();
    private final Speaker speaker = new Speaker(
            frame -> microphone.pushAudio(frame, 16, Speaker.RATE, 1, Speaker.RATE / 100));
    private final CompletableFuture<JobAssignment> assignment = new CompletableFuture<>();

    // The room's thread, and what only it touches.
    private Thread thread;
    private final BlockingQueue<Runnable> work = new LinkedBlockingQueue<>();
    private final CompletableFuture<Void> joined = new CompletableFuture<>();
    private final CompletableFuture<Void> left = new CompletableFuture<>();
    private WebSocket socket;
    private String token;
    private long lastHeard = System.nanoTime();
    private long pingEvery;                                 // ns, 0 before the join
    private long pingTimeout;
    private Peer publisher;
    private Peer subscriber;
    private int offers;
    private boolean offering;
    private boolean offerAgain;
    private final Map<String, AudioTrack> heard = new HashMap<>();  // by mid
    private ParticipantInfo caller;
    private String callersTrack = "";
    private String ourTrack = "";
    private boolean publishing;
    private boolean activeBefore;                           // the phone was, before we picked up
    private boolean hears;
    private boolean ended;

    private volatile boolean hangUp;
    private volatile String number;
    private volatile String sipCallId;

    // The caller's sound, on WebRTC's playout thread.
    private final AudioTrackSink sink = this::sound;
    private final AudioResampler resampler = new AudioResampler(48_000, Speaker.RATE, 1);
    private final byte[] resampled = new byte[Speaker.RATE / 100 * 2];
    private boolean deaf;                                   // guarded by resampler
    private volatile Consumer<byte[]> ear;

    Room(Worker worker, Job job) {
        this.worker = worker;
        this.job = job;
    }

    /// Loads the native library and runs through an offer and an answer once, so that the first
    /// call does not pay for it (130 ms and more). Blocks, some 0.5 s.
    static void warmUp() {
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
            SignalResponse.parseFrom(SignalResponse.newBuilder()
                    .setOffer(describe(offer, 1)).build().toByteArray());
        } catch (IOException e) {
            Log.log("", "WebRTC did not warm up: " + Log.reason(e));
        } finally {
            from.close();
            to.close();
        }
    }

    @Override public String id() { return job.getId(); }
    @Override public String room() { return job.getRoom().getName(); }
    @Override public String metadata() { return job.getMetadata(); }
    @Override public Mailbox mailbox() { return mailbox; }
    @Override public Speaker speaker() { return speaker; }
    @Override public String number() { return number; }
    @Override public String sipCallId() { return sipCallId; }
    @Override public void listen(Consumer<byte[]> ear) { this.ear = ear; }
    @Override public void pickUp() { work.add(this::publish); }
    @Override public void hangUp() { hangUp = true; }

    /// The job is ours. Worker's thread.
    void assigned(JobAssignment assignment) {
        this.assignment.complete(assignment);
    }

    @Override
    public void join() throws IOException, InterruptedException {
        JobAssignment mine = await(assignment, ASSIGNMENT, "LiveKit has not assigned the job");
        token = mine.getToken();
        String url = worker.socketUrl(mine.getUrl()) + "/rtc?protocol=15&sdk=java&auto_subscribe=0";
        var request = new Request.Builder().url(url).header("Authorization", "Bearer " + token);
        thread = Thread.ofVirtual().name("room " + id()).start(this::run);
        work.add(() -> socket = worker.http.newWebSocket(request.build(), new Signals()));
        await(joined, JOINING, "the room does not answer");
    }

    /// Leaves the room and gives everything back. Blocks, 4 s at most. Worker calls it, when the
    /// job's result has been read: a job whose agent leaves before that counts as failed.
    void close() {
        if (hangUp) {
            worker.deleteRoom(id(), room());
        }
        speaker.close();
        if (thread == null) {
            leave(); // it never came to a join
            return;
        }
        work.add(this::leave);
        try {
            await(left, CLOSING, "leaving the room takes too long");
        } catch (IOException e) {
            Log.log(id(), Log.reason(e));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void run() {
        long nextPing = Long.MAX_VALUE;
        while (!left.isDone()) {
            try {
                if (pingEvery > 0 && nextPing == Long.MAX_VALUE) {
                    nextPing = System.nanoTime() + pingEvery;
                }
                long wait = Math.min(nextPing - System.nanoTime(), TimeUnit.SECONDS.toNanos(5));
                Runnable next = work.poll(wait, TimeUnit.NANOSECONDS);
                if (next != null) {
                    next.run();
                } else if (System.nanoTime() >= nextPing) {
                    nextPing += pingEvery;
                    ping();
                }
            } catch (InterruptedException | RuntimeException | Error e) {
                lost(Log.reason(e));
            }
        }
    }

    private void ping() {
        if (System.nanoTime() - lastHeard > pingTimeout) {
            lost("nothing heard of the server for " + pingTimeout / 1_000_000_000 + " s");
        }
        send(SignalRequest.newBuilder()
                .setPingReq(Ping.newBuilder().setTimestamp(System.currentTimeMillis())));
    }

    private void lost(String why) {
        if (!ended) {
            ended = true;
            joined.completeExceptionally(new IOException(why));
            mailbox.post(new Event.LineLost(why));
        }
    }

    private void leave() {
        ended = true;
        if (socket != null) {
            send(SignalRequest.newBuilder().setLeave(LeaveRequest.newBuilder()
                    .setReason(DisconnectReason.CLIENT_INITIATED)
                    .setAction(LeaveRequest.Action.DISCONNECT)));
        }
        try {
            heard.values().forEach(track -> track.removeSink(sink));
            for (Peer peer : new Peer[] {publisher, subscriber}) {
                if (peer != null) {
                    peer.connection.close();
                }
            }
            microphone.dispose();
            synchronized (resampler) {
                deaf = true;
                resampler.dispose();
            }
        } catch (RuntimeException | Error e) { // 0.14 throws Error for "still referenced"
            Log.log(id(), "WebRTC did not close cleanly: " + Log.reason(e));
        }
        if (socket != null) {
            socket.close(1000, null);
        }
        left.complete(null);
    }

    // Signalling.

    private final class Signals extends WebSocketListener {
        @Override
        public void onMessage(WebSocket socket, ByteString bytes) {
            work.add(() -> {
                lastHeard = System.nanoTime();
                try {
                    take(SignalResponse.parseFrom(bytes.asByteBuffer()));
                } catch (IOException e) {
                    Log.log(id(), "unreadable message in the room: " + Log.reason(e));
                }
            });
        }

        // Both go through the queue too: a `leave` that came before the end is read before it.
        @Override
        public void onClosing(WebSocket socket, int code, String reason) {
            work.add(() -> lost("the server closed the room's connection (" + code + ")"));
        }

        @Override
        public void onFailure(WebSocket socket, Throwable thrown, Response response) {
            String status = response == null ? "" : "HTTP " + response.code() + ", ";
            work.add(() -> lost("room connection lost: " + status + Log.reason(thrown)));
        }
    }

    private void send(SignalRequest.Builder request) {
        socket.send(ByteString.of(request.build().toByteArray()));
    }

    private void take(SignalResponse message) throws IOException {
        switch (message.getMessageCase()) {
            case JOIN -> joined(message.getJoin());
            case OFFER -> answer(message.getOffer());
            case ANSWER -> answered(message.getAnswer());
            case TRICKLE -> candidate(message.getTrickle());
            case UPDATE -> message.getUpdate().getParticipantsList().forEach(this::update);
            case TRACK_PUBLISHED -> ourTrack = message.getTrackPublished().getTrack().getSid();
            case TRACK_SUBSCRIBED -> {
                if (message.getTrackSubscribed().getTrackSid().equals(ourTrack)
                        && (!phone(caller) || activeBefore || callStatus().isEmpty())) {
                    hears();
                }
            }
            case REFRESH_TOKEN -> token = message.getRefreshToken();
            case REQUEST_RESPONSE -> {
                if (message.getRequestResponse().getReason() != RequestResponse.Reason.OK) {
                    lost("the room refuses a request: " + message.getRequestResponse().getReason());
                }
            }
            case LEAVE -> lost("the room ended: " + message.getLeave().getReason());
            default -> { } // speakers, quality, pongs: nothing that a phone call needs
        }
    }

    private void joined(JoinResponse join) {
        pingEvery = TimeUnit.SECONDS.toNanos(Math.max(1, join.getPingInterval()));
        pingTimeout = TimeUnit.SECONDS.toNanos(Math.max(5, join.getPingTimeout()));
        var config = new RTCConfiguration();
        config.iceServers = join.getIceServersList().stream().map(Room::iceServer).toList();
        if (join.getClientConfiguration().getForceRelay() == ClientConfigSetting.ENABLED) {
            config.iceTransportPolicy = RTCIceTransportPolicy.RELAY;
        }
        publisher = new Peer(SEND, config, SignalTarget.PUBLISHER);
        subscriber = new Peer(RECEIVE, config, SignalTarget.SUBSCRIBER);
        // Without these in the first offer no data can ever be sent. They also give us something
        // to offer, so that the connection stands before the phone is picked up.
        var reliable = new RTCDataChannelInit();
        var lossy = new RTCDataChannelInit();
        lossy.ordered = false;
        lossy.maxRetransmits = 0;
        publisher.connection.createDataChannel("_reliable", reliable);
        publisher.connection.createDataChannel("_lossy", lossy);
        offer();
        // A phone goes before anybody else who is there.
        join.getOtherParticipantsList().stream()
                .sorted(Comparator.comparing(participant -> !phone(participant)))
                .forEach(this::update);
        joined.complete(null);
    }

    private static RTCIceServer iceServer(ICEServer from) {
        var server = new RTCIceServer();
        server.urls = from.getUrlsList();
        server.username = from.getUsername();
        server.password = from.getCredential();
        return server;
    }

    // Who is there.

    private static boolean phone(ParticipantInfo participant) {
        return participant != null && participant.getKind() == ParticipantInfo.Kind.SIP;
    }

    private void update(ParticipantInfo participant) {
        boolean known = caller != null && participant.getIdentity().equals(caller.getIdentity());
        if (participant.getState() == ParticipantInfo.State.DISCONNECTED) {
            // The same identity may have come back under a new sid before the old one is gone.
            if (known && participant.getSid().equals(caller.getSid()) && !ended) {
                gone(participant.getDisconnectReason());
            }
            return;
        }
        if (known && participant.getSid().equals(caller.getSid())
                && participant.getVersion() < caller.getVersion()) {
            return; // overtaken by a newer one
        }
        boolean somebody = phone(participant)
                || participant.getKind() == ParticipantInfo.Kind.STANDARD;
        boolean first = caller == null && somebody;
        boolean better = phone(participant) && !phone(caller) && !publishing;
        if (known || first || better) {
            caller = participant;
            number = attribute("sip.phoneNumber");
            sipCallId = attribute("sip.callID");
            if (!known) {
                mailbox.post(new Event.CallerJoined());
            }
            subscribe();
            if (publishing && !activeBefore && callStatus().equals("active")) {
                hears();
            }
        }
    }

    private void gone(DisconnectReason why) {
        switch (why) {
            case ROOM_DELETED, ROOM_CLOSED, SERVER_SHUTDOWN -> lost("the room ended: " + why);
            default -> mailbox.post(new Event.CallerLeft(why.name()));
        }
    }

    private String attribute(String name) {
        String value = caller.getAttributesMap().get(name);
        return value == null || value.isBlank() ? null : value;
    }

    private String callStatus() {
        return caller == null ? "" : caller.getAttributesMap().getOrDefault("sip.callStatus", "");
    }

    private void hears() {
        if (!hears) {
            hears = true;
            mailbox.post(new Event.CallerHears());
        }
    }

    /// We hear the caller's microphone and nobody else's: the room sends us nothing unasked.
    private void subscribe() {
        String wanted = caller.getTracksList().stream()
                .filter(track -> track.getType() == TrackType.AUDIO
                        && track.getSource() == TrackSource.MICROPHONE)
                .map(TrackInfo::getSid).findFirst().orElse("");
        if (!wanted.equals(callersTrack)) {
            if (!callersTrack.isEmpty()) {
                subscription(callersTrack, false);
            }
            if (!wanted.isEmpty()) {
                subscription(wanted, true);
            }
            callersTrack = wanted;
        }
    }

    private void subscription(String track, boolean subscribe) {
        send(SignalRequest.newBuilder().setSubscription(
                UpdateSubscription.newBuilder().addTrackSids(track).setSubscribe(subscribe)));
    }

    // Sound.

    private void publish() {
        if (publishing || ended) {
            return;
        }
        publishing = true;
        activeBefore = callStatus().equals("active");
        var direction = new RTCRtpTransceiverInit();
        direction.direction = RTCRtpTransceiverDirection.SEND_ONLY;
        direction.streamIds = List.of("agent");
        publisher.connection.addTransceiver(
                SEND.createAudioTrack("microphone", microphone), direction);
        // Clients look for an agent's voice by its source. No DTX: sound that comes back after a
        // pause in the packets is late at some phones.
        send(SignalRequest.newBuilder().setAddTrack(AddTrackRequest.newBuilder()
                .setCid("microphone").setName("agent").setType(TrackType.AUDIO)
                .setSource(TrackSource.MICROPHONE).setStream("agent").setDisableRed(true)
                .addAudioFeatures(AudioTrackFeature.TF_NO_DTX)));
        offer();
    }

    private void hear(RTCRtpTransceiver transceiver) {
        // After an unpublish and a publish the same line is used again and this is called again,
        // with another wrapper of the same track: a second sink would hear everything twice.
        if (transceiver.getReceiver().getTrack() instanceof AudioTrack track
                && heard.putIfAbsent(transceiver.getMid(), track) == null) {
            track.addSink(sink);
        }
    }

    private void sound(byte[] pcm, int bits, int rate, int channels, int frames) {
        Consumer<byte[]> ear = this.ear;
        if (ear == null || rate != 48_000 || channels != 1) { // it is always 48 kHz, mono
            return;
        }
        byte[] piece;
        synchronized (resampler) {
            if (deaf) {
                return;
            }
            resampler.resample(pcm, frames, resampled, resampled.length / 2, 1);
            piece = resampled.clone();
        }
        ear.accept(piece);
    }

    // The two peer connections.

    private final class Peer implements PeerConnectionObserver {
        final SignalTarget target;
        final RTCPeerConnection connection;
        List<RTCIceCandidate> early = new ArrayList<>();    // null once they can be added

        Peer(PeerConnectionFactory factory, RTCConfiguration config, SignalTarget target) {
            this.target = target;
            this.connection = factory.createPeerConnection(config, this);
        }

        void remote(RTCSessionDescription description) throws IOException {
            set(o -> connection.setRemoteDescription(description, o));
            if (early != null) {
                early.forEach(connection::addIceCandidate);
                early = null;
            }
        }

        @Override
        public void onIceCandidate(RTCIceCandidate candidate) {
            String init = Json.createObjectBuilder().add("candidate", candidate.sdp)
                    .add("sdpMid", candidate.sdpMid).add("sdpMLineIndex", candidate.sdpMLineIndex)
                    .build().toString();
            work.add(() -> send(SignalRequest.newBuilder().setTrickle(
                    TrickleRequest.newBuilder().setTarget(target).setCandidateInit(init))));
        }

        @Override
        public void onConnectionChange(RTCPeerConnectionState state) {
            if (state == RTCPeerConnectionState.FAILED) {
                work.add(() -> lost("no way through to the server's media port (" + target + ")"));
            }
        }

        @Override
        public void onTrack(RTCRtpTransceiver transceiver) {
            work.add(() -> hear(transceiver));
        }
    }

    /// One offer at a time; what changes meanwhile is offered when the answer has come.
    private void offer() {
        if (offering) {
            offerAgain = true;
            return;
        }
        offering = true;
        try {
            var offer = created(o -> publisher.connection.createOffer(new RTCOfferOptions(), o));
            set(o -> publisher.connection.setLocalDescription(offer, o));
            send(SignalRequest.newBuilder().setOffer(describe(offer, ++offers)));
        } catch (IOException e) {
            lost("could not offer our sound: " + Log.reason(e));
        }
    }

    private void answered(SessionDescription answer) throws IOException {
        if (answer.getId() != 0 && answer.getId() < offers) {
            return; // to an offer that has been replaced
        }
        publisher.remote(new RTCSessionDescription(RTCSdpType.ANSWER, answer.getSdp()));
        offering = false;
        if (offerAgain) {
            offerAgain = false;
            offer();
        } else if (publishing) {
            // Not before: the source's list of listeners has no lock, and the answer adds one.
            speaker.start();
        }
    }

    private void answer(SessionDescription offer) throws IOException {
        subscriber.remote(new RTCSessionDescription(RTCSdpType.OFFER, offer.getSdp()));
        var answer = created(o -> subscriber.connection.createAnswer(new RTCAnswerOptions(), o));
        set(o -> subscriber.connection.setLocalDescription(answer, o));
        send(SignalRequest.newBuilder().setAnswer(describe(answer, offer.getId())));
    }

    private void candidate(TrickleRequest trickle) {
        JsonObject init;
        try (var reader = Json.createReader(new StringReader(trickle.getCandidateInit()))) {
            init = reader.readObject();
        }
        var candidate = new RTCIceCandidate(init.getString("sdpMid", ""),
                init.getInt("sdpMLineIndex", 0), init.getString("candidate", ""));
        Peer peer = trickle.getTarget() == SignalTarget.PUBLISHER ? publisher : subscriber;
        if (peer.early != null) {
            peer.early.add(candidate);
        } else {
            peer.connection.addIceCandidate(candidate);
        }
    }

    private static SessionDescription describe(RTCSessionDescription description, int id) {
        return SessionDescription.newBuilder().setId(id).setSdp(description.sdp)
                .setType(description.sdpType.name().toLowerCase(Locale.ROOT)).build();
    }

    private static RTCSessionDescription created(Consumer<CreateSessionDescriptionObserver> create)
            throws IOException {
        var result = new CompletableFuture<RTCSessionDescription>();
        create.accept(new CreateSessionDescriptionObserver() {
            @Override public void onSuccess(RTCSessionDescription it) { result.complete(it); }
            @Override public void onFailure(String error) {
                result.completeExceptionally(new IOException(error));
            }
        });
        return sdp(result);
    }

    private static void set(Consumer<SetSessionDescriptionObserver> set) throws IOException {
        var result = new CompletableFuture<Void>();
        set.accept(new SetSessionDescriptionObserver() {
            @Override public void onSuccess() { result.complete(null); }
            @Override public void onFailure(String error) {
                result.completeExceptionally(new IOException(error));
            }
        });
        sdp(result);
    }

    private static <T> T sdp(Future<T> result) throws IOException {
        try {
            return await(result, SDP, "WebRTC does not answer");
        } catch (InterruptedException e) {
            throw new InterruptedIOException();
        }
    }

    private static <T> T await(Future<T> result, Duration bound, String otherwise)
            throws IOException, InterruptedException {
        try {
            return result.get(bound.toMillis(), TimeUnit.MILLISECONDS);
        } catch (TimeoutException e) {
            throw new IOException(otherwise + " (" + bound.toMillis() + " ms)");
        } catch (ExecutionException e) {
            throw new IOException(e.getCause().getMessage(), e.getCause());
        }
    }
}
