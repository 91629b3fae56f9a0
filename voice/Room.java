package voice;

import module java.base;
import dev.onvoid.webrtc.*;
import dev.onvoid.webrtc.media.audio.*;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import livekit.LivekitAgent.Job;
import livekit.LivekitAgent.JobAssignment;
import livekit.LivekitModels.*;
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
            frame -> microphone.pushAudio(frame, 16, Speaker.RATE, 1, frame.length / 2));
    private final CompletableFuture<JobAssignment> assignment = new CompletableFuture<>();

    // The room's thread, and what only it touches.
    private Thread thread;
    private final BlockingQueue<Runnable> work = new LinkedBlockingQueue<>();
    private final CompletableFuture<Void> joined = new CompletableFuture<>();
    private final CompletableFuture<Void> left = new CompletableFuture<>();
    private WebSocket socket;
    private String token;                                   // the newest, for coming back
    private long pingEvery;                                 // ns, 0 before the join
    private long nextPing;
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
    private final byte[] resampled = new byte[Speaker.FRAME];
    private boolean deaf;                                   // guarded by resampler
    private volatile Consumer<byte[]> ear;

    Room(Worker worker, Job job) {
        this.worker = worker;
        this.job = job;
    }

    /// Loads the native library and makes the factories. Blocks, some 0.2 s; an Error when a
    /// library of the system's is missing.
    static void load() {
        SEND.hashCode(); // whatever touches this class
    }

    /// Runs through an offer and an answer once, so that the first call does not pay for it (130
    /// ms and more). Blocks, some 0.3 s.
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

    /// The job is ours. Any thread.
    void assigned(JobAssignment assignment) {
        this.assignment.complete(assignment);
    }

    /// The worker is being stopped: asks the call to end, and does not let it wait for its room.
    void stop() {
        mailbox.post(new Event.Stop());
        joined.completeExceptionally(new IOException("the worker is being stopped"));
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
        if (hangUp && assignment.isDone()) {
            worker.deleteRoom(job);
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
        while (!left.isDone()) {
            try {
                long wait = pingEvery == 0 ? JOINING.toNanos() : nextPing - System.nanoTime();
                Runnable next = work.poll(wait, TimeUnit.NANOSECONDS);
                if (next != null) {
                    next.run();
                } else if (pingEvery > 0) {
                    nextPing += pingEvery;
                    ping();
                }
            } catch (InterruptedException | RuntimeException | Error e) {
                lost(Log.reason(e));
            }
        }
    }

    /// What LiveKit expects of its clients. Whether the socket is dead, OkHttp's own pings tell.
    private void ping() {
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
        synchronized (resampler) {
            deaf = true;
            quietly(resampler::dispose);
        }
        heard.values().forEach(track -> quietly(() -> track.removeSink(sink)));
        for (Peer peer : new Peer[] {publisher, subscriber}) {
            if (peer != null) {
                quietly(peer.connection::close);
            }
        }
        quietly(microphone::dispose);
        if (socket != null) {
            socket.close(1000, null);
        }
        left.complete(null);
    }

    /// What cannot be closed must not keep the rest from being closed. (0.14 throws Errors too.)
    private void quietly(Runnable close) {
        try {
            close.run();
        } catch (RuntimeException | Error e) {
            Log.log(id(), "WebRTC did not close cleanly: " + Log.reason(e));
        }
    }

    // Signalling.

    private final class Signals extends WebSocketListener {
        @Override
        public void onMessage(WebSocket socket, ByteString bytes) {
            SignalResponse message;
            try {
                message = SignalResponse.parseFrom(bytes.asByteBuffer());
            } catch (IOException e) {
                Log.log(id(), "unreadable message in the room: " + Log.reason(e));
                return;
            }
            work.add(() -> {
                try {
                    take(message);
                } catch (IOException e) {
                    lost(message.getMessageCase() + " from the room: " + Log.reason(e));
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
                RequestResponse response = message.getRequestResponse();
                switch (response.getReason()) {
                    case OK, QUEUED -> { }
                    default -> {
                        Log.log(id(), "the room refuses a request: " + response.getReason());
                        if (response.hasAddTrack()) {
                            lost("our sound is refused: " + response.getReason());
                        }
                    }
                }
            }
            case LEAVE -> lost("the room ended: " + message.getLeave().getReason());
            default -> { } // speakers, quality, pongs: nothing that a phone call needs
        }
    }

    private void joined(JoinResponse join) {
        pingEvery = TimeUnit.SECONDS.toNanos(Math.max(1, join.getPingInterval()));
        nextPing = System.nanoTime() + pingEvery;
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

    /// We hear the caller's microphone and nothing else: the room sends us nothing unasked. Some
    /// clients do not say what their one track is.
    private void subscribe() {
        String wanted = caller.getTracksList().stream()
                .filter(track -> track.getType() == TrackType.AUDIO
                        && track.getSource() != TrackSource.SCREEN_SHARE_AUDIO)
                .min(Comparator.comparing(track -> track.getSource() != TrackSource.MICROPHONE))
                .map(TrackInfo::getSid).orElse("");
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
        if (ear == null) {
            return;
        }
        if (rate != 48_000 || channels != 1) { // webrtc-java 0.14 hands out nothing else
            this.ear = null;
            work.add(() -> lost("sound of " + rate + " Hz on " + channels + " channels"));
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
        var result = new SdpResult();
        create.accept(result);
        return result.await();
    }

    private static void set(Consumer<SetSessionDescriptionObserver> set) throws IOException {
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
                return Room.await(this, SDP, "WebRTC does not answer");
            } catch (InterruptedException e) {
                throw new InterruptedIOException();
            }
        }
    }

    private static <T> T await(Future<T> result, Duration bound, String otherwise)
            throws IOException, InterruptedException {
        try {
            return result.get(bound.toMillis(), TimeUnit.MILLISECONDS);
        } catch (TimeoutException e) {
            throw new IOException(otherwise + " (" + bound.toMillis() + " ms)");
        } catch (ExecutionException e) {
            throw e.getCause() instanceof IOException io ? io : new IOException(e.getCause());
        }
    }
}
