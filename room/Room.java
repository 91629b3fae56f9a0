package room;

import module java.base;
import livekit.LivekitAgent.Job;
import livekit.LivekitAgent.JobAssignment;
import livekit.LivekitModels.*;
import livekit.LivekitRtc.*;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okio.ByteString;
import voice.Event;
import voice.Line;
import voice.Log;
import voice.Mailbox;
import voice.Speaker;

/// One call's LiveKit room: the signalling socket, who is there, coming back when the connection
/// is lost, and hanging up. Worker makes one for each job; Agent knows it as a Line. Peers is its
/// sound and data, Texts what is written in it, Sip what the telephone network does for it.
///
/// The protocol is LiveKit's client protocol 15 with two peer connections (livekit/protocol,
/// `livekit_rtc.proto`).
///
/// Everything here is done in order by one thread, the room's own. What comes on other
/// threads only leaves work for it.
///
/// A lost connection is resumed: a new socket to the same session, nothing else changes. Where the
/// server does not take that, the room is joined once more, under the same identity. Only if it
/// is still the same room, though: a server that was restarted may have given its name to another,
/// with an agent of its own.
public final class Room implements Line {
    private static final Duration ASSIGNMENT = Duration.ofMillis(7_500);    // as LiveKit's SDKs
    private static final Duration JOINING = Duration.ofSeconds(10);
    private static final Duration COMING_BACK = Duration.ofSeconds(10);     // to signalling
    private static final Duration MEDIA_BACK = Duration.ofSeconds(5);       // to sound, after that
    private static final Duration TERMINATION = Duration.ofMillis(500);
    private static final Duration DELETING = Duration.ofSeconds(4);
    private static final Duration CLOSING = Duration.ofSeconds(2);
    private static final int[] RESUME_AFTER = {0, 300, 1_000};              // ms

    private final Worker worker;
    private final Job job;
    private final Mailbox mailbox = new Mailbox();
    private final Speaker speaker = new Speaker(
            frame -> this.peers.push(frame), () -> mailbox.post(new Event.TurnChanged()));
    private final CompletableFuture<JobAssignment> assignment = new CompletableFuture<>();
    private final CompletableFuture<Void> joined = new CompletableFuture<>();
    private final CompletableFuture<Void> left = new CompletableFuture<>();
    private Thread thread;
    private final BlockingQueue<Runnable> work = new LinkedBlockingQueue<>();

    // All below is the room's thread's, but for what is volatile.
    private volatile Peers peers;
    private String url;
    private String token;                                   // the newest, for coming back
    private String sid = "";                                // ours
    private Signals signals;                                // what other sockets bring is too late
    private boolean up;                                     // requests may be sent
    private final List<SignalRequest> later = new ArrayList<>();
    private long pingEvery;                                 // ns
    private long nextPing;

    private long backBy;                                    // ns; 0 when no connection is lost
    private int resumes;                                    // tried since it was lost
    private boolean rejoining;
    private boolean rejoined;                               // ever

    private final Caller caller = new Caller(this);
    private TrackInfo ourTrack = TrackInfo.getDefaultInstance();
    private final Map<String, String> shown = new LinkedHashMap<>();
    private final Texts texts = new Texts(packet -> peers.send(packet));
    private boolean pickedUp;                               // our sound is to be in the room
    private volatile boolean ended;

    private volatile boolean hangUp;
    private final CompletableFuture<Void> hungUp = new CompletableFuture<>();
    private volatile Consumer<byte[]> ear;

    Room(Worker worker, Job job) {
        this.worker = worker;
        this.job = job;
    }

    @Override public String id() { return job.getId(); }
    @Override public String room() { return job.getRoom().getName(); }
    @Override public String roomSid() { return job.getRoom().getSid(); }
    @Override public String metadata() { return job.getMetadata(); }
    @Override public Mailbox mailbox() { return mailbox; }
    @Override public Speaker speaker() { return speaker; }
    @Override public String number() { return caller.number(); }
    @Override public String calledNumber() { return caller.calledNumber(); }
    @Override public String sipCallId() { return caller.sipCallId(); }
    @Override public boolean onPhone() { return caller.onPhone(); }
    @Override public void listen(Consumer<byte[]> ear) { this.ear = ear; }
    @Override public void pickUp() { work.add(this::publish); }

    Consumer<byte[]> ear() { return ear; }
    Caller caller() { return caller; }
    boolean pickedUp() { return pickedUp; }
    boolean ended() { return ended; }

    /// Leaves something to do for the room's thread. Any thread.
    void work(Runnable what) { work.add(what); }

    /// Writes and reads what a room is joined with, once, so that the first call does not wait
    /// while protobuf builds its descriptions of the messages (30 ms).
    static void warmUp() {
        try {
            SignalRequest.parseFrom(SignalRequest.newBuilder().setOffer(
                    SessionDescription.newBuilder().setType("offer")).build().toByteArray());
            SignalResponse.parseFrom(SignalResponse.newBuilder().setJoin(
                    JoinResponse.newBuilder().addOtherParticipants(ParticipantInfo.newBuilder()
                            .putAttributes("", "").addTracks(TrackInfo.getDefaultInstance())))
                    .build().toByteArray());
        } catch (IOException e) {
            throw new AssertionError(e); // what was just written
        }
    }

    private void after(Duration wait, Runnable what) {
        CompletableFuture.delayedExecutor(wait.toMillis(), TimeUnit.MILLISECONDS)
                .execute(() -> work.add(what));
    }

    /// The job is ours. Any thread.
    void assigned(JobAssignment assignment) {
        this.assignment.complete(assignment);
    }

    /// The worker is being stopped: asks the call to end, and does not let it wait for its room.
    void stop() {
        mailbox.post(new Event.Stop());
        joined.completeExceptionally(new IOException("the worker is being stopped"));
    }

    /// LiveKit has ended the job. Any thread. It also does so when it takes our lost session out
    /// of the room while we are on our way back: the session's own socket tells which it was.
    void terminated() {
        after(TERMINATION, () -> {
            if (backBy == 0 && !rejoined) {
                lost("LiveKit ended the job");
            }
        });
    }

    @Override
    public void join(String number) throws IOException, InterruptedException {
        caller.willBeDialled(number);
        JobAssignment mine =
                WebRtc.await(assignment, ASSIGNMENT, "LiveKit has not assigned the job");
        token = mine.getToken();
        url = worker.socketUrl(mine.getUrl());
        // Not a virtual one, because it waits inside WebRTC and would keep its carrier. With every
        // carrier in there nobody gets on, and WebRTC itself may wait for one who does not: its
        // callbacks need locks (of a jar, of the output) that are then never given back.
        thread = Thread.ofPlatform().name("room " + id()).daemon().start(this::run);
        work.add(() -> open(false));
        WebRtc.await(joined, JOINING, "the room does not answer");
    }

    /// Leaves the room and gives everything back. Blocks, 6 s at most. Worker calls it, when the
    /// job's result has been read: a job whose agent leaves before that counts as failed.
    void close() {
        if (hangUp && assignment.isDone()) {
            // A lost room's name may be another's by now.
            var deleted = worker.rooms().delete(id(), room(), roomSid(), !ended);
            deleted.whenComplete((_, trouble) -> {
                if (trouble == null) {
                    hungUp.complete(null);
                } else {
                    hungUp.completeExceptionally(trouble);
                }
            });
            pause(deleted, DELETING, "the room is not deleted yet");
        } else {
            hungUp.complete(null); // it never was ours
        }
        speaker.close();
        if (thread == null) {
            return; // it never came to a join
        }
        work.add(this::leave);
        pause(left, CLOSING, "leaving the room takes too long");
    }

    private void pause(Future<?> until, Duration bound, String otherwise) {
        try {
            WebRtc.await(until, bound, otherwise);
        } catch (IOException e) {
            Log.log(id(), Log.reason(e));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void run() {
        while (!left.isDone()) {
            try {
                long wait = up ? nextPing - System.nanoTime() : JOINING.toNanos();
                Runnable next = work.poll(wait, TimeUnit.NANOSECONDS);
                if (next != null) {
                    next.run();
                } else if (up) {
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

    /// The room is lost for good, and with it the call.
    void lost(String why) {
        if (!ended) {
            ended = true;
            joined.completeExceptionally(new IOException(why));
            mailbox.post(new Event.LineLost(why));
        }
    }

    private void leave() {
        ended = true;
        try {
            if (signals != null) {
                signals.send(SignalRequest.newBuilder().setLeave(LeaveRequest.newBuilder()
                        .setReason(DisconnectReason.CLIENT_INITIATED)
                        .setAction(LeaveRequest.Action.DISCONNECT)));
            }
            if (peers != null) {
                peers.close();
            }
            if (signals != null) {
                signals.socket.close(1000, null);
            }
        } finally {
            left.complete(null); // or our thread would stay for ever
        }
    }

    // Signalling.

    private void open(boolean resume) {
        String address = url + "/rtc?protocol=15&sdk=java&auto_subscribe=0"
                + (resume ? "&reconnect=1&reconnect_reason=1&sid=" + sid : "");
        var opened = new Signals(resume);
        // Throws what is no address or no token; then there are no signals.
        opened.socket = worker.http.newWebSocket(new Request.Builder().url(address)
                .header("Authorization", "Bearer " + token).build(), opened);
        signals = opened;
        after(MEDIA_BACK, () -> {
            if (backBy != 0 && signals == opened) {
                comeBack(up ? "no sound comes through" : "it does not answer", up);
            }
        });
    }

    /// One socket to the room.
    private final class Signals extends WebSocketListener {
        final boolean resume;
        WebSocket socket;

        Signals(boolean resume) {
            this.resume = resume;
        }

        void send(SignalRequest.Builder request) {
            socket.send(ByteString.of(request.build().toByteArray()));
        }

        private void work(Runnable what) {
            work.add(() -> {
                if (signals == this) {
                    what.run();
                }
            });
        }

        @Override
        public void onMessage(WebSocket socket, ByteString bytes) {
            SignalResponse message;
            try {
                message = SignalResponse.parseFrom(bytes.asByteBuffer());
            } catch (IOException e) {
                Log.log(id(), "unreadable message in the room: " + Log.reason(e));
                return;
            }
            work(() -> {
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
            work(() -> comeBack("closed by the server (" + code + ")", false));
        }

        @Override
        public void onFailure(WebSocket socket, Throwable thrown, Response response) {
            int status = response == null || response.code() == 101 ? 0 : response.code();
            work(() -> comeBack(status == 0 ? Log.reason(thrown) : "HTTP " + status, status != 0));
        }
    }

    /// Sends a request, or keeps it until the connection is back.
    void send(SignalRequest.Builder request) {
        if (up) {
            signals.send(request);
        } else {
            later.add(request.build());
        }
    }

    /// Sends what belongs to these peer connections, as long as they are the room's.
    void send(Peers from, SignalRequest.Builder request) {
        if (from == peers && signals != null) {
            signals.send(request);
        }
    }

    private void take(SignalResponse message) throws IOException {
        boolean in = peers != null && !peers.closed;
        if (!message.hasLeave() && in == message.hasJoin()) {
            Log.log(id(), message.getMessageCase() + " from the room, out of turn");
            return;
        }
        switch (message.getMessageCase()) {
            case JOIN -> joined(message.getJoin());
            case RECONNECT -> {
                if (!up) {
                    resumed(message.getReconnect());
                }
            }
            case OFFER -> peers.answer(message.getOffer());
            case ANSWER -> {
                if (peers.answered(message.getAnswer())) {
                    // Not before: the source's list of listeners has no lock, and the answer
                    // adds one.
                    speaker.start();
                }
            }
            case TRICKLE -> {
                try {
                    peers.candidate(message.getTrickle());
                } catch (RuntimeException e) {
                    Log.log(id(), "an unreadable candidate in the room: " + Log.reason(e));
                }
            }
            case UPDATE -> caller.update(message.getUpdate().getParticipantsList(), sid);
            case TRACK_PUBLISHED -> ourTrack = message.getTrackPublished().getTrack();
            case TRACK_SUBSCRIBED -> {
                if (message.getTrackSubscribed().getTrackSid().equals(ourTrack.getSid())) {
                    caller.trackSubscribed();
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
            case LEAVE -> {
                LeaveRequest leave = message.getLeave();
                switch (leave.getAction()) {
                    case RESUME -> comeBack("" + leave.getReason(), false);
                    case RECONNECT -> comeBack("" + leave.getReason(), true);
                    default -> lost("the room ended: " + leave.getReason());
                }
            }
            default -> { } // speakers, quality, pongs: nothing that a phone call needs
        }
    }

    private void joined(JoinResponse join) throws IOException {
        sid = join.getParticipant().getSid();
        pingEvery = TimeUnit.SECONDS.toNanos(Math.max(1, join.getPingInterval()));
        isUp();
        peers = new Peers(this, join.getIceServersList(), join.getClientConfiguration()
                .getForceRelay() == ClientConfigSetting.ENABLED);
        peers.offer(false);
        caller.foundInRoom(join.getOtherParticipantsList());
        if (rejoining) {
            rejoined = true;
            caller.onlyTheseAreThere(join.getOtherParticipantsList());
            show(Map.of());
            if (pickedUp) {
                peers.publish();
            }
        }
        joined.complete(null);
    }

    private void isUp() {
        up = true;
        nextPing = System.nanoTime() + pingEvery;
        later.forEach(request -> signals.send(request.toBuilder()));
        later.clear();
    }

    // Coming back.

    /// The connection is lost, or the way back has failed: the next step back. `anew` when there
    /// is nothing left to resume.
    private void comeBack(String why, boolean anew) {
        if (ended) {
            return;
        }
        if (!joined.isDone() || rejoining) {
            lost("the room does not take us: " + why);
            return;
        }
        if (signals != null) {
            signals.socket.cancel();
            signals = null;
        }
        up = false;
        long now = System.nanoTime();
        if (backBy == 0) {
            backBy = now + COMING_BACK.toNanos();
            resumes = 0;
            Log.log(id(), "the room's connection is lost, coming back: " + why);
        } else if (now >= backBy) {
            lost("the room's connection is lost: " + why);
            return;
        }
        // A track that is being published has no name yet by which it could be resumed.
        boolean resumable = !peers.publishing() || !ourTrack.getSid().isEmpty();
        if (!anew && resumable && resumes < RESUME_AFTER.length) {
            after(Duration.ofMillis(RESUME_AFTER[resumes++]), () -> {
                if (!ended && signals == null) {
                    open(true);
                }
            });
            return;
        }
        Thread.ofVirtual().name("room " + id() + " still there?").start(() -> {
            Boolean there = worker.rooms().isThere(room(), roomSid());
            work.add(() -> rejoin(there));
        });
    }

    /// `there`: is it still the same room? null when LiveKit does not answer.
    private void rejoin(Boolean there) {
        if (ended) {
            return;
        }
        if (there == null) {
            after(Duration.ofMillis(500), () -> comeBack("LiveKit does not answer", true));
        } else if (!there) {
            lost("the room is gone");
        } else {
            Log.log(id(), "the connection cannot be resumed, joining the room again");
            rejoining = true;
            speaker.stop(); // it goes on where it was, when there is somewhere to send it
            peers.close();
            ourTrack = TrackInfo.getDefaultInstance();
            caller.noTrackIsSubscribed();
            later.clear();
            open(false);
        }
    }

    /// The server knows us still. Of what we do it is told before anything else, and of what we
    /// hear, because the room sends us nothing unasked.
    private void resumed(ReconnectResponse response) throws IOException {
        var state = SyncState.newBuilder();
        if (!caller.track().isEmpty()) {
            state.setSubscription(UpdateSubscription.newBuilder()
                    .addTrackSids(caller.track()).setSubscribe(true));
        }
        if (!ourTrack.getSid().isEmpty()) {
            state.addPublishTracks(TrackPublishedResponse.newBuilder()
                    .setCid("microphone").setTrack(ourTrack));
        }
        caller.listIsComing();
        peers.resume(response.getIceServersList(), state);
        isUp();
        if (pickedUp && !peers.publishing()) {
            peers.publish();
        }
        mediaChanged(peers, null);
    }

    /// A peer connection of these has changed; `failed` is null or the one that has no way through.
    void mediaChanged(Peers of, SignalTarget failed) {
        if (of != peers || ended) {
            return;
        }
        if (failed != null && backBy == 0) {
            comeBack("no way through to the server's media port (" + failed + ")", false);
        } else if (backBy != 0 && up && peers.connected()) {
            backBy = 0;
            rejoining = false;
            Log.log(id(), "the room's connection is back");
        }
    }

    private void publish() {
        if (pickedUp || ended) {
            return;
        }
        pickedUp = true;
        caller.willBePickedUp();
        try {
            if (up) {
                peers.publish(); // otherwise when we are back
            }
        } catch (IOException e) {
            lost("could not offer our sound: " + Log.reason(e));
        }
    }

    // What is said in writing.

    @Override
    public void show(Map<String, String> attributes) {
        work.add(() -> {
            shown.putAll(attributes);
            send(SignalRequest.newBuilder().setUpdateMetadata(
                    UpdateParticipantMetadata.newBuilder().putAllAttributes(
                            attributes.isEmpty() ? shown : attributes))); // empty: all of them
        });
    }

    @Override
    public void caption(boolean agents, String segment, String text, boolean last) {
        work.add(() -> texts.caption(agents ? "" : caller.identity(),
                agents ? ourTrack.getSid() : caller.track(), segment, text, last));
    }

    /// A data packet from the room. The caller's count, and nobody else's.
    void received(DataPacket packet) {
        if (!caller.accepts(packet)) {
            return;
        }
        if (packet.hasSipDtmf()) {
            String key = packet.getSipDtmf().getDigit();
            if (key.matches("[0-9*#A-D]")) {
                mailbox.post(new Event.KeyPressed(key));
            } else {
                Log.log(id(), "a key that no phone has: " + key);
            }
            return;
        }
        String text = texts.received(packet);
        if (text != null) {
            mailbox.post(new Event.CallerWrote(text));
        }
    }

    // On the telephone network.

    @Override
    public void dial(String trunk) {
        Thread.ofVirtual().name("dial " + id()).start(() -> {
            var refusal = worker.sip.dial(
                    room(), caller.dialledIdentity(), trunk, caller.dialledNumber());
            if (refusal != null) {
                mailbox.post(new Event.DialFailed(refusal));
            }
        });
    }

    @Override
    public void transfer(String to) {
        work.add(() -> {
            String identity = caller.identity();
            Thread.ofVirtual().name("transfer " + id()).start(() -> {
                var refusal = worker.sip.transfer(room(), identity, to);
                mailbox.post(refusal == null ? new Event.Transferred()
                        : new Event.TransferFailed(refusal));
            });
        });
    }

    @Override
    public CompletableFuture<Void> hangUp() {
        hangUp = true;
        if (caller.dialledNumber() != null) {
            // The room has to stay for a moment, for whoever wants to know how it ended.
            Thread.ofVirtual().name("hang up " + id())
                    .start(() -> worker.rooms().remove(id(), room(), caller.dialledIdentity()));
        }
        return hungUp;
    }
}
