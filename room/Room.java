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

/// One call in its LiveKit
/// [room](https://docs.livekit.io/intro/basics/rooms-participants-tracks/rooms/): how the agent
/// joins it, picks up, writes in it, dials, transfers, hangs up and leaves. Worker makes one Room
/// for each [job](https://docs.livekit.io/agents/server/job/). The program that answers the call
/// knows it only as a Line.
///
/// A Room has four parts: Signalling keeps the connection to the room, Caller knows who is there,
/// Peers carries sound and data, and Texts sends captions and reads what the caller types. Sip and
/// Rooms belong to the Worker. They ask LiveKit's services for what the room itself cannot do.
///
/// One thread, the room's own, does all work on these parts, in order. Other threads only leave
/// work for it: the call's thread, OkHttp's and WebRTC's.
///
/// Not handled: video, recording, and what other participants than the caller do.
public final class Room implements Line {
    private static final Duration ASSIGNMENT = Duration.ofMillis(7_500);    // as LiveKit's SDKs
    private static final Duration JOINING = Duration.ofSeconds(10);
    private static final Duration TERMINATION = Duration.ofMillis(500);
    private static final Duration HANGING_UP = Duration.ofSeconds(4);
    private static final Duration LEAVING = Duration.ofSeconds(2);
    private static final int MOST_TYPED = 5;                // texts and odd keys, in a second
    private static final int MOST_KEYS = 100;               // in a second; a dialler presses 20

    private final Worker worker;
    private final Job job;
    private final Mailbox mailbox = new Mailbox();
    private final Speaker speaker = new Speaker(
            frame -> this.peers.push(frame), () -> mailbox.post(new Event.TurnChanged()));
    private final CompletableFuture<JobAssignment> assignment = new CompletableFuture<>();
    private final CompletableFuture<Void> joined = new CompletableFuture<>();
    private final CompletableFuture<Void> left = new CompletableFuture<>();
    private final CompletableFuture<Void> hungUp = new CompletableFuture<>();
    private final BlockingQueue<Runnable> work = new LinkedBlockingQueue<>();
    private Thread thread;                                  // null before `join`
    private volatile boolean hangUpAsked;
    private volatile Consumer<byte[]> ear;                  // null: nobody listens

    // Only the room's thread uses what follows, except what is volatile.
    private final Signalling signalling;
    private final Caller caller = new Caller(this);
    private volatile Peers peers;                           // null before LiveKit lets us in
    private final Texts texts = new Texts(packet -> peers.send(packet));
    private TrackInfo ourTrack = TrackInfo.getDefaultInstance();
    private final List<Runnable> unnamed = new ArrayList<>();   // captions; our track has no name
    private final Map<String, String> shown = new LinkedHashMap<>();
    private final Deque<Long> typed = new ArrayDeque<>();   // when, by the call's clock, in ns
    private final Deque<Long> keys = new ArrayDeque<>();
    private long dropLogged = mailbox.nanos() - TimeUnit.SECONDS.toNanos(1);
    private boolean pickedUp;                               // our sound belongs in the room
    private volatile boolean ended;
    private volatile boolean theirs;                        // others have the call now
    /// Whether they have, is being asked.
    private volatile CompletableFuture<Void> asking = CompletableFuture.completedFuture(null);

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
    @Override public String sipId() { return caller.sipId(); }
    @Override public boolean onPhone() { return caller.onPhone(); }
    @Override public void listen(Consumer<byte[]> ear) { this.ear = ear; }
    @Override public void pickUp() { work.add(this::publish); }

    // What the room's parts need to know of it and of each other.

    Consumer<byte[]> ear() { return ear; }
    Peers peers() { return peers; }
    Signalling signalling() { return signalling; }
    Caller caller() { return caller; }
    TrackInfo ourTrack() { return ourTrack; }
    boolean joining() { return peers == null; }
    boolean pickedUp() { return pickedUp; }
    boolean ended() { return ended; }
    String agentName() { return worker.agentName(); }

    /// Loads the classes of a room's parts, and builds the messages of a join once. Otherwise the
    /// first call would wait for both. In a program that is started from source, Java compiles each
    /// class when it loads it, which takes 0.1 s or more. Any thread.
    static void warmUp() {
        List.of(Caller.class, Peers.class, Texts.class);
        Signalling.warmUp();
    }

    /// Leaves something to do for the room's thread. Any thread.
    void work(Runnable what) { work.add(what); }

    /// Leaves something to do for the room's thread, once this time has passed. Any thread.
    void workAfter(Duration wait, Runnable what) {
        CompletableFuture.delayedExecutor(wait.toMillis(), TimeUnit.MILLISECONDS)
                .execute(() -> work.add(what));
    }

    /// LiveKit has assigned the job to us: `join` may go on. Any thread.
    void assigned(JobAssignment assignment) {
        this.assignment.complete(assignment);
    }

    /// The worker is going to be stopped. Any thread.
    void timeIsUp() {
        mailbox.post(new Event.TimeIsUp());
    }

    /// The worker is being stopped. Asks the call to end, and ends the waiting in `join`. Any
    /// thread.
    void stop() {
        mailbox.post(new Event.Stop());
        joined.completeExceptionally(new IOException("the worker is being stopped"));
    }

    /// LiveKit has ended the job. Any thread.
    ///
    /// LiveKit also says so when it removes a session of ours whose connection is lost, although we
    /// are coming back to the room with another. The session's own socket tells the two apart, half
    /// a second later at the latest. The call ends only if nothing has happened to its first
    /// session by then.
    void terminated() {
        assignment.completeExceptionally(new IOException("LiveKit has ended the job"));
        workAfter(TERMINATION, () -> {
            if (signalling.firstSessionStands()) {
                takenOut("LiveKit ended the job");
            }
        });
    }

    @Override
    public void join(String number, String identity) throws IOException, InterruptedException {
        caller.willBe(number, identity);
        JobAssignment mine;
        try {
            mine = WebRtc.await(assignment, ASSIGNMENT, "LiveKit has not assigned the job");
        } catch (IOException e) {
            throw new NotOurs(e.getMessage());
        }
        // A platform thread, because it waits inside WebRTC's native code. A virtual thread that
        // waits there keeps its carrier thread. When all carriers wait there, no other virtual
        // thread can run, not even one that holds a lock (of a jar, of the output). WebRTC's
        // callbacks may need that lock, and WebRTC waits for its callbacks: nothing goes on.
        thread = Thread.ofPlatform().name("room " + id()).daemon().start(this::run);
        work.add(() -> signalling.join(worker.socketUrl(mine.getUrl()), mine.getToken()));
        try {
            WebRtc.await(joined, JOINING, "the room does not answer");
        } catch (IOException e) {
            ended = true;                       // we try no more, and are not sure of the room
            throw e;
        }
    }

    /// Hangs up if that was asked for, leaves the room and gives everything back. Blocks, 8 s at
    /// most. The call's thread calls it, after LiveKit has read the job's result: a job whose agent
    /// leaves before that counts as failed.
    void close() {
        waitFor(asking, HANGING_UP, "LiveKit does not say who is in the room");
        if (hangUpAsked && ours()) {
            var gone = endForTheCaller();
            gone.whenComplete((_, trouble) -> {
                if (trouble == null) {
                    hungUp.complete(null);
                } else {
                    hungUp.completeExceptionally(trouble);
                }
            });
            waitFor(gone, HANGING_UP, "the caller is not hung up yet");
        } else {
            hungUp.complete(null); // nobody is to be hung up, or the job never was ours
        }
        speaker.close();
        if (thread == null) {
            return; // we have never begun to join
        }
        work.add(this::leave);
        waitFor(left, LEAVING, "leaving the room takes too long");
    }

    /// Were we given the call, and has nobody else got it since? Any thread.
    private boolean ours() {
        return assignment.state() == Future.State.SUCCESS && !theirs;
    }

    /// If another person is with the caller, only the caller is taken out of the room, if they have
    /// come. Otherwise the room is deleted. If we have lost the room, a room of another call may
    /// have its name by now.
    private CompletableFuture<Void> endForTheCaller() {
        if (caller.hasLeft()) {                         // and may be back by now
            return worker.rooms().deleteUnless(id(), room(), roomSid(), caller::isWithSomebody);
        }
        return caller.isWithSomebody()
                ? worker.rooms().remove(id(), room(), roomSid(), !ended, caller.identity())
                : worker.rooms().delete(id(), room(), roomSid(), !ended);
    }

    /// Waits, `bound` at most. A failure is only logged: leaving goes on.
    private void waitFor(Future<?> until, Duration bound, String otherwise) {
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

    /// The room is lost for good. That ends the call.
    void lost(String why) {
        if (!ended) {
            over(new IOException(why), new Event.LineLost(why));
        }
    }

    /// LiveKit has closed the room, because nobody but us has been in it for a while.
    void closed(String why) {
        if (!ended) {
            over(new IOException(why), new Event.RoomClosed(why));
        }
    }

    /// Somebody else has the call from now on. Nobody is hung up, and the room stays.
    void leaveToOthers(String why) {
        if (!ended) {
            theirs = true;
            over(new NotOurs(why), new Event.TakenOver(why));
        }
    }

    /// LiveKit has taken us out of the room. That ends the call for the caller, too, unless a
    /// person is with them. LiveKit is asked for such a person if we do not know of one: it names
    /// somebody who publishes nothing up to 3 s later.
    void takenOut(String why) {
        if (ended || caller.isWithSomebody()) {
            leaveToOthers(why);
            return;
        }
        ended = true;                                   // so we do not come back
        asking = CompletableFuture.supplyAsync(() -> {
            try {
                var all = worker.rooms().participants(room());
                return caller.isWithSomebody(all) || worker.rooms().haveAgent(all, id());
            } catch (IOException | RuntimeException e) {
                return false;
            }
        }, Thread.ofVirtual().name("room " + id() + " taken?")::start)
                .thenAccept(taken -> {
                    theirs = taken;
                    over(taken ? new NotOurs(why) : new IOException(why),
                            taken ? new Event.TakenOver(why) : new Event.LineLost(why));
                });
    }

    /// Any thread.
    private void over(IOException why, Event event) {
        ended = true;
        joined.completeExceptionally(why);
        mailbox.post(event);
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
            left.complete(null); // this ends the room's thread
        }
    }

    // What Signalling asks for.

    /// LiveKit has let us into the room. `again` means that we have been in it before, and have
    /// lost the connection.
    void joined(JoinResponse join, boolean again) throws IOException {
        peers = new Peers(this, join.getIceServersList(), join.getClientConfiguration()
                .getForceRelay() == ClientConfigSetting.ENABLED);
        peers.offer(false);
        caller.weAre(join.getParticipant());
        caller.foundInRoom(join.getOtherParticipantsList());
        if (again) {
            caller.onlyTheseAreThere(join.getOtherParticipantsList());
            show(Map.of());
            publishIfPickedUp();
        }
        joined.complete(null);
    }

    /// What a server that resumes our session must be told: what we publish and subscribe to.
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

    /// The session is gone, with its sound and its tracks, and we are about to join the room again.
    /// The Speaker pauses. It goes on from the same place when new peer connections can send.
    void dropConnections() {
        speaker.stop();
        peers.close();
        ourTrack = TrackInfo.getDefaultInstance();
        caller.noTrackIsSubscribed();
        texts.beginAnew();
    }

    /// LiveKit has given our track a name.
    void published(TrackInfo track) {
        ourTrack = track;
        unnamed.forEach(Runnable::run);
        unnamed.clear();
    }

    /// Publishes our sound if we have picked up and these peer connections do not know of it yet.
    void publishIfPickedUp() throws IOException {
        if (pickedUp && !peers.publishing()) {
            peers.publish();
        }
    }

    /// Picks up: LiveKit's SIP service answers the phone once our track is published.
    private void publish() {
        if (pickedUp || ended) {
            return;
        }
        pickedUp = true;
        caller.willBePickedUp();
        try {
            if (signalling.inSession()) {
                peers.publish(); // otherwise `publishIfPickedUp` does, when we are back
            }
        } catch (IOException e) {
            lost("could not offer our sound: " + Log.reason(e));
        }
    }

    // What is said in writing.

    /// Sets attributes of our participant. LiveKit's clients look at `lk.agent.state`, the
    /// [agent's state](https://docs.livekit.io/frontends/build/agent-state/).
    @Override
    public void show(Map<String, String> attributes) {
        work.add(() -> {
            shown.putAll(attributes);
            if (signalling.inSession()) {       // when it comes back, all are sent
                signalling.send(SignalRequest.newBuilder().setUpdateMetadata(
                        UpdateParticipantMetadata.newBuilder().putAllAttributes(
                                attributes.isEmpty() ? shown : attributes)));
            }
        });
    }

    /// A caption names the track on which it is said. So the agent's wait until LiveKit has given
    /// our track a name.
    @Override
    public void caption(boolean agents, String segment, String text, boolean last) {
        work.add(() -> {
            if (agents && ourTrack.getSid().isEmpty()) {
                unnamed.add(() -> texts.caption("", ourTrack.getSid(), segment, text, last));
            } else {
                texts.caption(agents ? "" : caller.identity(),
                        agents ? ourTrack.getSid() : caller.track(), segment, text, last);
            }
        });
    }

    /// Takes a data packet from the room: a key, or a piece of a text. Only the caller's are read.
    /// For keys see [DTMF](https://docs.livekit.io/telephony/features/dtmf/).
    void received(DataPacket packet) {
        if (!caller.accepts(packet)) {
            return;
        }
        if (packet.hasSipDtmf()) {
            // LiveKit's SIP service sends a to d in lower case.
            String key = packet.getSipDtmf().getDigit().toUpperCase(Locale.ROOT);
            if (key.matches("[0-9*#A-D]")) {
                if (!tooFast(keys, MOST_KEYS)) {
                    mailbox.post(new Event.KeyPressed(key));
                }
            } else if (!tooFast(typed, MOST_TYPED)) {
                Log.log(id(), "a key that no phone has"); // which may be a whole sentence
            }
            return;
        }
        String text = texts.received(packet);
        if (text != null && !tooFast(typed, MOST_TYPED)) {
            mailbox.post(new Event.CallerWrote(text));
        }
    }

    /// Is this one more than `most` in a second? If not, its time is added to `latest`. The caller
    /// may be a program, and what it types and presses is not to pile up here or at the model.
    private boolean tooFast(Deque<Long> latest, int most) {
        long second = TimeUnit.SECONDS.toNanos(1), now = mailbox.nanos();
        if (latest.size() < most || now - latest.peek() >= second) {
            latest.add(now);
            if (latest.size() > most) {
                latest.remove();
            }
            return false;
        }
        if (now - dropLogged >= second) {
            dropLogged = now;
            Log.log(id(), "the caller types or presses too fast, and some of it is dropped");
        }
        return true;
    }

    // On the telephone network.

    @Override
    public void dial(String trunk) {
        Thread.ofVirtual().name("dial " + id()).start(() -> {
            var refusal = worker.sip().dial(
                    room(), caller.dialledIdentity(), trunk, caller.dialledNumber());
            if (refusal != null) {
                mailbox.post(new Event.DialFailed(refusal));
            } else {
                work.add(caller::answered);
            }
        });
    }

    @Override
    public void transfer(String to) {
        work.add(() -> {
            String identity = caller.identity();
            Thread.ofVirtual().name("transfer " + id()).start(() -> {
                var refusal = worker.sip().transfer(room(), identity, to);
                mailbox.post(refusal == null ? new Event.Transferred()
                        : new Event.TransferFailed(refusal));
            });
        });
    }

    @Override
    public CompletableFuture<Void> hangUp() {
        hangUpAsked = true;
        if (caller.dialledNumber() != null && ours() && asking.isDone()) {
            // Only the phone is removed at once. `close` deletes the room a little later, so that
            // whoever watches it can still read there how the call has ended.
            worker.rooms().remove(id(), room(), roomSid(), !ended, caller.dialledIdentity());
        }
        return hungUp;
    }
}
