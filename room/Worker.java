package room;

import module java.base;
import livekit.LivekitAgent.*;
import okhttp3.OkHttpClient;
import voice.Line;
import voice.Log;

/// Takes calls from LiveKit: it registers under an agent name, accepts the jobs that LiveKit
/// offers, runs each call on a virtual thread of its own, and reports how the call ended. The
/// program makes one Worker and calls `run`.
///
/// LiveKit calls such a program an
/// [agent server](https://docs.livekit.io/agents/server/lifecycle/), or a worker. The protocol is
/// the one that LiveKit's Python and Node SDKs speak. Its messages are defined in LiveKit's
/// [protocol](https://github.com/livekit/protocol/blob/main/protobufs/livekit_agent.proto).
///
/// To have an agent name means
/// [explicit dispatch](https://docs.livekit.io/agents/server/agent-dispatch/): LiveKit sends only
/// those calls whose dispatch rule, token or API request names this agent. If several workers have
/// the same name, LiveKit prefers those that report less load, and leaves out those that are full.
///
/// LiveKit may ask a worker to register elsewhere, because the server behind a connection is going
/// to stop. The worker then registers on a new connection. The old one stays until its calls are
/// over, or until LiveKit closes it: LiveKit and the worker speak of a job on the connection on
/// which LiveKit has offered it.
///
/// Not handled: regions. Not handled: load that is anything but the number of calls.
public final class Worker {
    private static final Duration REGISTERING = Duration.ofSeconds(10);
    private static final Duration STATUS = Duration.ofMillis(2_500);        // as LiveKit's SDKs
    private static final Duration STEADY = Duration.ofSeconds(10);          // then it has worked
    private static final Duration FENCE = Duration.ofSeconds(1);
    // LiveKit dispatches no job at all when every worker of a name reports 0.7 or more (the default
    // of agents.target_load in its configuration). So a full worker says by its status that it is
    // full, and not by its load.
    private static final float MOST_LOAD = 0.65f;

    /// The worker cannot work: LiveKit refuses our key, or WebRTC cannot be loaded.
    public static final class Refused extends Exception {
        private static final long serialVersionUID = 1;

        Refused(String message) {
            super(message);
        }
    }

    private final String url;                               // ws:// or wss://, no slash at its end
    private final String key;
    private final String secret;
    private final String agentName;
    private final int maxCalls;
    // The warm-up makes these two. If a call needs one earlier, that call makes it. In a start from
    // source, Java compiles their classes then, and the registration does not wait for that.
    private Rooms rooms;
    private Sip sip;

    /// For the worker's socket and the rooms' sockets. OkHttp closes a socket on which its pings
    /// are not answered.
    final OkHttpClient http = new OkHttpClient.Builder()
            .connectTimeout(Duration.ofSeconds(5)).pingInterval(Duration.ofSeconds(10))
            .followRedirects(false).build();
    {
        http.dispatcher().setMaxRequests(10_000); // an open socket counts as a request
    }

    private final Map<String, Room> calls = new ConcurrentHashMap<>();      // by job id
    private final Map<String, Connection> offeredOn = new ConcurrentHashMap<>(); // for each call
    private int taken;                                      // calls so far; guarded by `calls`
    private final Set<String> unreported = ConcurrentHashMap.newKeySet();   // ids of our jobs
    private final Map<String, WorkerMessage.Builder> unread =           // results, by job id
            new ConcurrentHashMap<>();
    // A fence is a ping that is sent after a result. Each fence has a number.
    private final Map<Long, CompletableFuture<Void>> fences = new ConcurrentHashMap<>();
    private final AtomicLong fenceNumber = new AtomicLong();
    private final CountDownLatch firstRegistration = new CountDownLatch(1);
    private final CountDownLatch stopped = new CountDownLatch(1);
    private final CompletableFuture<Void> webrtc = CompletableFuture.runAsync(WebRtc::load);
    private Consumer<Line> takeCall;                        // set by `run`
    private final Set<Connection> open = ConcurrentHashMap.newKeySet();
    private volatile Connection connection;                 // on which new calls come
    private volatile boolean stopping;                      // no more calls are accepted

    /// At most `maxCalls` calls run at the same time. WebRTC is loaded from now on, on another
    /// thread, because that takes 0.2 s.
    public Worker(String url, String key, String secret, String agentName, int maxCalls) {
        this.url = socket(url);
        this.key = key;
        this.secret = secret;
        this.agentName = agentName;
        this.maxCalls = maxCalls;
    }

    /// Connects to LiveKit, and connects again whenever the connection is lost. Calls go on while
    /// it is lost. Blocks until `stop`.
    ///
    /// `takeCall` is given each call as soon as LiveKit has offered it, on a thread that is only
    /// for this call. It returns when the call is over. `warmUp` runs once, on a thread of its own,
    /// while the worker waits for its first call. Refused is thrown only before the worker has
    /// registered for the first time.
    public void run(Consumer<Line> takeCall, Runnable warmUp)
            throws Refused, InterruptedException {
        this.takeCall = takeCall;
        boolean everRegistered = false;
        // This goes on while the last calls end: `stop` counts `stopped` down after them.
        for (int failures = 0; stopped.getCount() > 0; ) {
            var attempt = new Connection(this);
            long opened = System.nanoTime();
            attempt.open(http, url, key, secret);
            open.add(attempt);
            attempt.registered.await(REGISTERING.toMillis(), TimeUnit.MILLISECONDS);
            if (attempt.up()) {
                if (!everRegistered) {
                    Thread.ofPlatform().name("warm-up").daemon().start(() -> {
                        rooms();
                        sip();
                        Room.warmUp();
                        WebRtc.warmUp();
                        warmUp.run();
                    });
                }
                everRegistered = true;
                while (stopped.getCount() > 0
                        && !attempt.leave.await(STATUS.toMillis(), TimeUnit.MILLISECONDS)) {
                    sendStatus(attempt);
                }
                if (System.nanoTime() - opened > STEADY.toNanos()) {
                    failures = 0;
                }
            }
            if (stopped.getCount() == 0) {
                attempt.close();
                break;
            }
            boolean sentAway = attempt.up();
            String why = attempt.why();
            if (sentAway) {
                Thread.ofVirtual().name("leaving").start(() -> leave(attempt));
            } else {
                attempt.cancel();
            }
            if (webrtc.isCompletedExceptionally()) {
                throw new Refused("WebRTC cannot be loaded (" + Log.reason(webrtc.exceptionNow())
                        + "): is a library missing? ./run.sh installs those it needs");
            }
            if (attempt.httpStatus() == 401 && !everRegistered) {
                throw new Refused("LiveKit at " + url + " refuses the key (HTTP 401): check "
                        + "LIVEKIT_API_KEY and LIVEKIT_API_SECRET, and this machine's clock");
            }
            // The delay is short, because nobody answers those who call in the meantime.
            Duration delay = Duration.ofMillis(Math.min(1_000L * failures++, 3_000)
                    + ThreadLocalRandom.current().nextLong(200));
            Log.log("", (sentAway ? "" : "no connection to ") + "LiveKit at " + url + ": "
                    + why + "; next try in " + delay.toMillis() + " ms");
            stopped.await(delay.toMillis(), TimeUnit.MILLISECONDS);
        }
    }

    /// Closes a connection that LiveKit has told to go away, when another one has replaced it and
    /// no call is left on it. What LiveKit offers on it meanwhile, the worker takes.
    private void leave(Connection old) {
        try {
            // Twice, because an offer may be on its way.
            for (int without = 0; without < 2
                    && !old.closed.await(STATUS.toMillis(), TimeUnit.MILLISECONDS); ) {
                without = old == connection || offeredOn.containsValue(old) ? 0 : without + 1;
                sendStatus(old);
            }
        } catch (InterruptedException e) {
            // nobody interrupts this thread
        }
        old.close();
    }

    /// What LiveKit's room API does, for this worker's calls and for calls of a dead process. Any
    /// thread.
    public synchronized Rooms rooms() {
        rooms = rooms != null ? rooms : new Rooms(http, api(), key, secret, agentName);
        return rooms;
    }

    /// What LiveKit's SIP service does for calls. Any thread.
    synchronized Sip sip() {
        sip = sip != null ? sip : new Sip(http, api(), key, secret);
        return sip;
    }

    String agentName() {
        return agentName;
    }

    private String api() {
        return url.replaceFirst("^ws", "http") + "/";
    }

    /// Blocks until the worker has registered for the first time, `bound` at most.
    public void awaitRegistration(Duration bound) throws InterruptedException {
        firstRegistration.await(bound.toMillis(), TimeUnit.MILLISECONDS);
    }

    /// Is the worker registered, so that calls can come? Any thread.
    public boolean registered() {
        Connection current = connection;
        return current != null && current.up();
    }

    /// Accepts no more calls from now on. Blocks until all running calls have ended by themselves,
    /// `bound` at most.
    public void drain(Duration bound) throws InterruptedException {
        stopping = true;
        open.forEach(this::sendStatus);
        long deadline = System.nanoTime() + bound.toNanos();
        synchronized (calls) {
            while (!calls.isEmpty() && System.nanoTime() < deadline) {
                TimeUnit.NANOSECONDS.timedWait(calls, deadline - System.nanoTime());
            }
        }
    }

    /// Has the running calls say goodbye and end, if their callers are talking to us. Returns at
    /// once.
    public void sayGoodbye() {
        calls.values().forEach(Room::timeIsUp);
    }

    /// Accepts no more calls from now on, and asks the running calls to end. Blocks until they
    /// have, `bound` at most. Then `run` returns.
    public void stop(Duration bound) throws InterruptedException {
        stopping = true;
        calls.values().forEach(Room::stop);
        drain(bound);
        stopped.countDown();
        open.forEach(Connection::close);
    }

    /// Blocks until the worker has taken `many` calls and none is left, or until it has taken
    /// `most`. Accepts no more calls from then on.
    public void retire(int many, int most) throws InterruptedException {
        synchronized (calls) {
            while (taken < many || !calls.isEmpty() && taken < most) {
                calls.wait();
            }
            stopping = true;
        }
    }

    /// Returns `other`, an http or ws address of LiveKit's, as a ws address without a slash at its
    /// end. If `other` is empty, returns LiveKit's address that this worker was given. It also does
    /// that if only the way to that address is encrypted: a token must not travel in the open.
    String socketUrl(String other) {
        String socket = socket(other);
        boolean open = url.startsWith("wss:") && !socket.startsWith("wss:");
        return socket.isEmpty() || open ? url : socket;
    }

    private static String socket(String address) {
        return address.replaceFirst("^http", "ws").replaceFirst("/+$", "");
    }

    /// Reports how a job ended; an `error` of "" is success. Does nothing for a job that LiveKit
    /// has not assigned to us, or that was reported before. Blocks until LiveKit has read the
    /// result, 1 s at most: a job whose agent leaves the room before that counts as failed.
    private void reportResult(String jobId, String error) {
        if (!unreported.remove(jobId)) {
            return;
        }
        WorkerMessage.Builder result = result(jobId, error);
        unread.put(jobId, result);
        Connection its = offeredOn.get(jobId);
        Connection current = its != null && its.up() ? its : connection;
        if (!current.up()) {
            return; // no connection: the result is sent after the next registration
        }
        var fence = new CompletableFuture<Void>();
        long number = fenceNumber.incrementAndGet();
        fences.put(number, fence);
        try {
            current.send(result);
            // LiveKit reads one socket in order. So its pong says that it has read the result.
            current.send(WorkerMessage.newBuilder()
                    .setPing(WorkerPing.newBuilder().setTimestamp(number)));
            fence.get(FENCE.toMillis(), TimeUnit.MILLISECONDS);
            unread.remove(jobId);
        } catch (TimeoutException | ExecutionException e) {
            Log.log(jobId, "LiveKit has not taken the job's result; it is sent after a reconnect");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } finally {
            fences.remove(number);
        }
    }

    private static WorkerMessage.Builder result(String jobId, String error) {
        return WorkerMessage.newBuilder().setUpdateJob(UpdateJobStatus.newBuilder()
                .setJobId(jobId).setError(error)
                .setStatus(error.isEmpty() ? JobStatus.JS_SUCCESS : JobStatus.JS_FAILED));
    }

    private boolean full() {
        return stopping || calls.size() >= maxCalls;
    }

    /// LiveKit chooses the worker for a call by this status. A call counts as soon as LiveKit has
    /// offered it. Otherwise many calls that come at the same moment would all go to one worker.
    private void sendStatus(Connection to) {
        if (!to.up()) {
            return;
        }
        int count = calls.size();
        to.send(WorkerMessage.newBuilder().setUpdateWorker(UpdateWorkerStatus.newBuilder()
                .setStatus(full() || to != connection ? WorkerStatus.WS_FULL
                        : WorkerStatus.WS_AVAILABLE)
                .setLoad(Math.min(MOST_LOAD, MOST_LOAD * count / maxCalls))
                .setJobCount(count)));
    }

    private void runCall(Room room) {
        String error = "";
        try {
            takeCall.accept(room);
        } catch (RuntimeException | Error e) {
            error = Log.reason(e);
            Log.log(room.id(), "the call failed: " + error);
        } finally {
            reportResult(room.id(), error);
            room.close();
            synchronized (calls) {
                calls.remove(room.id());
                offeredOn.remove(room.id());
                calls.notifyAll();
            }
            open.forEach(this::sendStatus);
            // This reports a job that LiveKit has assigned after the first report above.
            reportResult(room.id(), "the assignment came too late");
        }
    }

    // What a Connection has heard. Its own thread calls these, and must not wait.

    CompletableFuture<Void> webrtc() {
        return webrtc;
    }

    void registered(Connection now) {
        Connection before = connection;
        connection = now;
        if (before != null) {
            sendStatus(before);         // if it is still there: no more calls are to come on it
        }
        Log.log("", "registered at " + url + " as " + agentName);
        firstRegistration.countDown();
        sendStatus(now);
        adopt(now);
    }

    void lost(Connection gone) {
        open.remove(gone);
        Connection current = connection;
        if (current != null && current.up()) {
            adopt(current);
        }
    }

    /// Tells LiveKit of our jobs whose connection is lost: they belong to this one from now on.
    /// Sends the results that LiveKit may not have read.
    private void adopt(Connection now) {
        var jobs = MigrateJobRequest.newBuilder();
        for (String job : unreported) {
            Connection before = offeredOn.get(job);
            if (before != null && !before.up() && offeredOn.replace(job, before, now)) {
                jobs.addJobIds(job);
            }
        }
        if (jobs.getJobIdsCount() > 0) {
            now.send(WorkerMessage.newBuilder().setMigrateJob(jobs));
        }
        unread.values().removeIf(result -> {
            now.send(result);
            return true;
        });
    }

    void offered(Connection on, Job job) {
        // When we reply that we are not available, LiveKit asks the next worker.
        var reply = AvailabilityResponse.newBuilder().setJobId(job.getId());
        Connection before = offeredOn.replace(job.getId(), on);
        if (before == on) {
            return; // LiveKit has offered this job before
        }
        // A job that was offered on another connection is offered again if our answer is lost.
        if (before != null || begin(on, job)) {
            // The identity must be unique in the room: LiveKit removes an older participant of the
            // same identity.
            reply.setAvailable(true).setParticipantIdentity("agent-" + job.getId())
                    .setParticipantName(agentName)
                    .putParticipantAttributes("lk.agent.name", agentName);
        }
        on.send(WorkerMessage.newBuilder().setAvailability(reply));
        sendStatus(on);
    }

    /// The call begins at the offer, so that it connects to the model while LiveKit assigns the
    /// job. Room.join waits for the assignment. Returns false if the worker does not take the call.
    private boolean begin(Connection on, Job job) {
        Room room;
        synchronized (calls) {
            if (full() || cancelled(job)) {
                return false;
            }
            room = new Room(this, job);
            calls.put(job.getId(), room);
            offeredOn.put(job.getId(), on);
            taken++;
            calls.notifyAll();
        }
        Thread.ofVirtual().name(job.getId()).start(() -> runCall(room));
        return true;
    }

    void assigned(Connection on, JobAssignment assignment) {
        String jobId = assignment.getJob().getId();
        Room room = calls.get(jobId);
        if (room == null) {
            on.send(result(jobId, "the assignment came too late"));
            return;
        }
        if (cancelled(assignment.getJob())) {
            room.terminated();
            return;
        }
        unreported.add(jobId);
        on.send(WorkerMessage.newBuilder().setUpdateJob(UpdateJobStatus.newBuilder()
                .setJobId(jobId).setStatus(JobStatus.JS_RUNNING)));
        room.assigned(assignment);
    }

    /// Has the job ended before anybody was assigned? This is JS_CANCELLED of livekit_agent.proto.
    /// The file of November 2026 has it. The jar livekit-server-0.13.0 does not.
    private static boolean cancelled(Job job) {
        return job.getState().getStatusValue() == 4;
    }

    void terminated(String jobId) {
        Room room = calls.get(jobId);
        if (room != null) {
            room.terminated();
        }
    }

    /// LiveKit has read what was sent before this fence.
    void hasRead(long fence) {
        var waiting = fences.get(fence);
        if (waiting != null) {
            waiting.complete(null);
        }
    }
}
