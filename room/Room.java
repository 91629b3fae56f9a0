package room;

import module java.base;
import livekit.LivekitAgent.Job;
import livekit.LivekitAgent.JobAssignment;
import livekit.LivekitModels.*;
import livekit.LivekitRtc.*;
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
    private static final Duration TERMINATION = Duration.ofMillis(500);
    private static final Duration DELETING = Duration.ofSeconds(4);
    private static final Duration CLOSING = Duration.ofSeconds(2);

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
    private final Signalling signalling;
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
        this.signalling = new Signalling(this, worker);
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
    Peers peers() { return peers; }
    Signalling signalling() { return signalling; }
    Caller caller() { return caller; }
    TrackInfo ourTrack() { return ourTrack; }
    boolean joining() { return !joined.isDone(); }
    boolean pickedUp() { return pickedUp; }
    boolean ended() { return ended; }

    /// Loads all that a room is made of, and builds the messages of a join once, so that the first
    /// call does not wait for that. When the program is started from source, Java compiles a class
    /// when it loads it, and that takes 0.1 s and more for each. Any thread.
    static void warmUp() {
        List.of(Caller.class, Peers.class, Texts.class);
        Signalling.warmUp();
    }

    /// Leaves something to do for the room's thread. Any thread.
    void work(Runnable what) { work.add(what); }

    /// Leaves something to do for the room's thread in a while. Any thread.
    void workAfter(Duration wait, Runnable what) {
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
        workAfter(TERMINATION, () -> {
            if (signalling.firstSessionStands()) {
                lost("LiveKit ended the job");
            }
        });
    }

    @Override
    public void join(String number) throws IOException, InterruptedException {
        caller.willBeDialled(number);
        JobAssignment mine =
                WebRtc.await(assignment, ASSIGNMENT, "LiveKit has not assigned the job");
        // Not a virtual one, because it waits inside WebRTC and would keep its carrier. With every
        // carrier in there nobody gets on, and WebRTC itself may wait for one who does not: its
        // callbacks need locks (of a jar, of the output) that are then never given back.
        thread = Thread.ofPlatform().name("room " + id()).daemon().start(this::run);
        work.add(() -> signalling.join(worker.socketUrl(mine.getUrl()), mine.getToken()));
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
                Runnable next = work.poll(signalling.untilPing(), TimeUnit.NANOSECONDS);
                if (next != null) {
                    next.run();
                } else {
                    signalling.ping();
                }
            } catch (InterruptedException | RuntimeException | Error e) {
                lost(Log.reason(e));
            }
        }
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
            signalling.leave();
            if (peers != null) {
                peers.close();
            }
            signalling.close();
        } finally {
            left.complete(null); // or our thread would stay for ever
        }
    }

    /// LiveKit has let us in. `again`: once more, after a lost connection.
    void joined(JoinResponse join, boolean again) throws IOException {
        peers = new Peers(this, join.getIceServersList(), join.getClientConfiguration()
                .getForceRelay() == ClientConfigSetting.ENABLED);
        peers.offer(false);
        caller.foundInRoom(join.getOtherParticipantsList());
        if (again) {
            caller.onlyTheseAreThere(join.getOtherParticipantsList());
            show(Map.of());
            publishIfPickedUp();
        }
        joined.complete(null);
    }

    /// What a server that resumes our session must know: what we publish and subscribe to.
    SyncState.Builder syncState() {
        var state = SyncState.newBuilder();
        if (!caller.track().isEmpty()) {
            state.setSubscription(UpdateSubscription.newBuilder()
                    .addTrackSids(caller.track()).setSubscribe(true));
        }
        if (!ourTrack.getSid().isEmpty()) {
            state.addPublishTracks(TrackPublishedResponse.newBuilder()
                    .setCid("microphone").setTrack(ourTrack));
        }
        return state;
    }

    /// The session is gone, and we are about to join the room again. Its sound and its tracks are
    /// gone too. The Speaker only pauses: it goes on where it was once `joined` has made new Peers.
    void dropConnections() {
        speaker.stop();
        peers.close();
        ourTrack = TrackInfo.getDefaultInstance();
        caller.noTrackIsSubscribed();
    }

    /// LiveKit has given our track a name.
    void published(TrackInfo track) {
        ourTrack = track;
    }

    /// Offers our sound on new peer connections, if we have picked up.
    void publishIfPickedUp() throws IOException {
        if (pickedUp && !peers.publishing()) {
            peers.publish();
        }
    }

    private void publish() {
        if (pickedUp || ended) {
            return;
        }
        pickedUp = true;
        caller.willBePickedUp();
        try {
            if (signalling.inSession()) {
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
            signalling.send(SignalRequest.newBuilder().setUpdateMetadata(
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
