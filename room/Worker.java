package room;

import module java.base;
import io.livekit.server.AccessToken;
import io.livekit.server.Agent;
import livekit.LivekitAgent.*;
import livekit.LivekitModels;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okio.ByteString;
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
/// Not handled: regions. Not handled: load that is anything but the number of calls.
public final class Worker {
    private static final Duration REGISTERING = Duration.ofSeconds(10);
    private static final Duration STATUS = Duration.ofMillis(2_500);        // as LiveKit's SDKs
    private static final Duration STEADY = Duration.ofSeconds(10);          // then it has worked
    private static final Duration FENCE = Duration.ofSeconds(1);
    private static final Duration TOKEN = Duration.ofMinutes(1);
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
    private final Set<String> unreported = ConcurrentHashMap.newKeySet();   // ids of our jobs
    private final Map<String, WorkerMessage> unread = new ConcurrentHashMap<>(); // results, by job
    // A fence is a ping that is sent after a result. Each fence has a number.
    private final Map<Long, CompletableFuture<Void>> fences = new ConcurrentHashMap<>();
    private final AtomicLong fenceNumber = new AtomicLong();
    private final CountDownLatch firstRegistration = new CountDownLatch(1);
    private final CountDownLatch stopped = new CountDownLatch(1);
    private final CompletableFuture<Void> webrtc = CompletableFuture.runAsync(WebRtc::load);
    private Consumer<Line> takeCall;                        // set by `run`
    private volatile Connection connection;
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
            var attempt = new Connection();
            long opened = System.nanoTime();
            attempt.open();
            connection = attempt;
            attempt.registered.await(REGISTERING.toMillis(), TimeUnit.MILLISECONDS);
            if (attempt.workerId != null) {
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
                        && !attempt.closed.await(STATUS.toMillis(), TimeUnit.MILLISECONDS)) {
                    attempt.send(status());
                }
                if (System.nanoTime() - opened > STEADY.toNanos()) {
                    failures = 0;
                }
            }
            attempt.socket.cancel();
            if (stopped.getCount() == 0) {
                break;
            }
            if (webrtc.isCompletedExceptionally()) {
                throw new Refused("WebRTC cannot be loaded (" + Log.reason(webrtc.exceptionNow())
                        + "): is a library missing? ./run.sh installs those it needs");
            }
            if (attempt.httpStatus == 401 && !everRegistered) {
                throw new Refused("LiveKit at " + url + " refuses the key (HTTP 401): check "
                        + "LIVEKIT_API_KEY and LIVEKIT_API_SECRET, and this machine's clock");
            }
            // The delay is short, because nobody answers those who call in the meantime.
            Duration delay = Duration.ofMillis(Math.min(1_000L * failures++, 3_000)
                    + ThreadLocalRandom.current().nextLong(200));
            Log.log("", "no connection to LiveKit at " + url + ": " + attempt.why
                    + "; next try in " + delay.toMillis() + " ms");
            stopped.await(delay.toMillis(), TimeUnit.MILLISECONDS);
        }
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
        return current != null && current.workerId != null;
    }

    /// Accepts no more calls from now on. Blocks until all running calls have ended by themselves,
    /// `bound` at most.
    public void drain(Duration bound) throws InterruptedException {
        stopping = true;
        sendStatus();
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
        if (connection != null) {
            connection.socket.close(1000, null);
            connection.closed.countDown();
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
        WorkerMessage result = result(jobId, error);
        unread.put(jobId, result);
        Connection current = connection;
        if (current.workerId == null) {
            return; // no connection: the result is sent after the next registration
        }
        var fence = new CompletableFuture<Void>();
        long number = fenceNumber.incrementAndGet();
        fences.put(number, fence);
        try {
            current.send(result);
            // LiveKit reads one socket in order. So its pong says that it has read the result.
            current.send(WorkerMessage.newBuilder()
                    .setPing(WorkerPing.newBuilder().setTimestamp(number)).build());
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

    private static WorkerMessage result(String jobId, String error) {
        return WorkerMessage.newBuilder().setUpdateJob(UpdateJobStatus.newBuilder()
                .setJobId(jobId).setError(error)
                .setStatus(error.isEmpty() ? JobStatus.JS_SUCCESS : JobStatus.JS_FAILED)).build();
    }

    private boolean full() {
        return stopping || calls.size() >= maxCalls;
    }

    /// LiveKit chooses the worker for a call by this status. A call counts as soon as LiveKit has
    /// offered it. Otherwise many calls that come at the same moment would all go to one worker.
    private WorkerMessage status() {
        int count = calls.size();
        return WorkerMessage.newBuilder().setUpdateWorker(UpdateWorkerStatus.newBuilder()
                .setStatus(full() ? WorkerStatus.WS_FULL : WorkerStatus.WS_AVAILABLE)
                .setLoad(Math.min(MOST_LOAD, MOST_LOAD * count / maxCalls))
                .setJobCount(count)).build();
    }

    private void sendStatus() {
        Connection current = connection;
        if (current != null && current.workerId != null) {
            current.send(status());
        }
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
                calls.notifyAll();
            }
            sendStatus();
            // This reports a job that LiveKit has assigned after the first report above.
            reportResult(room.id(), "the assignment came too late");
        }
    }

    /// One socket to /agent of LiveKit's server. What OkHttp calls runs on the socket's own thread,
    /// and must not wait.
    private final class Connection extends WebSocketListener {
        final CountDownLatch registered = new CountDownLatch(1);
        final CountDownLatch closed = new CountDownLatch(1);
        volatile WebSocket socket;
        volatile String workerId;
        volatile String why = "it does not answer";
        volatile int httpStatus;

        void open() {
            // LiveKit reads the token when the socket opens, and never again. A token that somebody
            // finds later is of no use to them.
            var token = new AccessToken(key, secret);
            token.setTtl(TOKEN.toMillis());
            token.addGrants(new Agent(true));
            socket = http.newWebSocket(new Request.Builder().url(url + "/agent")
                    .header("Authorization", "Bearer " + token.toJwt()).build(), this);
        }

        void send(WorkerMessage message) {
            socket.send(ByteString.of(message.toByteArray()));
        }

        @Override
        public void onOpen(WebSocket socket, Response response) {
            this.socket = socket;
            var register = RegisterWorkerRequest.newBuilder()
                    .setType(JobType.JT_ROOM).setAgentName(agentName).setVersion("1.0.0")
                    .setAllowedPermissions(LivekitModels.ParticipantPermission.newBuilder()
                            .setCanPublish(true).setCanSubscribe(true).setCanPublishData(true)
                            .setCanUpdateMetadata(true));
            // A registered worker gets calls. So the worker registers only when WebRTC is loaded.
            webrtc.whenComplete((_, trouble) -> {
                if (trouble == null) {
                    send(WorkerMessage.newBuilder().setRegister(register).build());
                } else {
                    over("WebRTC cannot be loaded");
                }
            });
        }

        @Override
        public void onMessage(WebSocket socket, ByteString bytes) {
            ServerMessage message;
            try {
                message = ServerMessage.parseFrom(bytes.asByteBuffer());
            } catch (IOException e) {
                Log.log("", "unreadable message from LiveKit: " + Log.reason(e));
                return;
            }
            switch (message.getMessageCase()) {
                case REGISTER -> {
                    workerId = message.getRegister().getWorkerId();
                    Log.log("", "registered at " + url + " as " + agentName);
                    registered.countDown();
                    firstRegistration.countDown();
                    send(status());
                    unread.values().removeIf(result -> {
                        send(result);
                        return true;
                    });
                }
                case AVAILABILITY -> offered(message.getAvailability().getJob());
                case ASSIGNMENT -> assigned(message.getAssignment());
                case TERMINATION -> {
                    Room room = calls.get(message.getTermination().getJobId());
                    if (room != null) {
                        room.terminated();
                    }
                }
                case PONG -> {
                    var fence = fences.get(message.getPong().getLastTimestamp());
                    if (fence != null) {
                        fence.complete(null);
                    }
                }
                default -> { }
            }
        }

        private void offered(Job job) {
            // When we reply that we are not available, LiveKit asks the next worker.
            var reply = AvailabilityResponse.newBuilder().setJobId(job.getId());
            if (!full()) {
                // The call begins at the offer, so that it connects to the model while LiveKit
                // assigns the job. Room.join waits for the assignment.
                var room = new Room(Worker.this, job);
                if (calls.putIfAbsent(job.getId(), room) != null) {
                    return; // LiveKit has offered this job before
                }
                // `drain` or `stop` was called since `full` above, and may not know of this call.
                if (stopping) {
                    calls.remove(job.getId());
                    send(WorkerMessage.newBuilder().setAvailability(reply).build());
                    return;
                }
                Thread.ofVirtual().name(job.getId()).start(() -> runCall(room));
                // The identity must be unique in the room: LiveKit removes an older participant
                // of the same identity.
                reply.setAvailable(true).setParticipantIdentity("agent-" + job.getId())
                        .setParticipantName(agentName)
                        .putParticipantAttributes("lk.agent.name", agentName);
            }
            send(WorkerMessage.newBuilder().setAvailability(reply).build());
            send(status());
        }

        private void assigned(JobAssignment assignment) {
            String jobId = assignment.getJob().getId();
            Room room = calls.get(jobId);
            if (room == null) {
                send(result(jobId, "the assignment came too late"));
                return;
            }
            unreported.add(jobId);
            send(WorkerMessage.newBuilder().setUpdateJob(UpdateJobStatus.newBuilder()
                    .setJobId(jobId).setStatus(JobStatus.JS_RUNNING)).build());
            room.assigned(assignment);
        }

        @Override
        public void onClosing(WebSocket socket, int code, String reason) {
            over("closed by the server (" + code + ")");
        }

        @Override
        public void onFailure(WebSocket socket, Throwable thrown, Response response) {
            httpStatus = response == null ? 0 : response.code();
            over(response == null ? Log.reason(thrown) : "HTTP " + response.code());
        }

        private void over(String reason) {
            why = reason;
            workerId = null;
            closed.countDown();
            registered.countDown();
        }
    }
}
