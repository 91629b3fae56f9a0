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

/// Takes calls from LiveKit: registers under an agent name, accepts what is offered, runs each
/// call on a virtual thread of its own and reports how it ended. Agent's `dev` and `start` run one.
///
/// The protocol is that of LiveKit's agent servers (livekit/protocol, `livekit_agent.proto`), as
/// its Python and Node SDKs speak it. An agent name means explicit dispatch: LiveKit sends only
/// the calls whose dispatch rule, token or API call names this agent. Among several workers of one
/// name it prefers those that report less load, and leaves out those that are full.
///
/// Not handled: regions, and load that is anything but the number of calls.
public final class Worker {
    private static final Duration REGISTERING = Duration.ofSeconds(10);
    private static final Duration STATUS = Duration.ofMillis(2_500);        // as LiveKit's SDKs
    private static final Duration STEADY = Duration.ofSeconds(10);          // a good connection
    private static final Duration FENCE = Duration.ofSeconds(1);
    // LiveKit gives no job at all when every worker of a name reports 0.7 or more (its default
    // agents.target_load); that a worker is full is said by its status.
    private static final float MOST_LOAD = 0.65f;

    /// It cannot work like this: LiveKit does not take our key, or WebRTC cannot be loaded.
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
    private final Consumer<Line> answer;
    private final Rooms rooms;
    final Sip sip;

    /// For the worker's socket and the rooms'. A peer that does not answer pings is dead.
    final OkHttpClient http = new OkHttpClient.Builder()
            .connectTimeout(Duration.ofSeconds(5)).pingInterval(Duration.ofSeconds(10)).build();
    {
        http.dispatcher().setMaxRequests(10_000); // a socket counts as long as it is open
    }

    private final Map<String, Room> calls = new ConcurrentHashMap<>();      // by job id
    private final Set<String> unfinished = ConcurrentHashMap.newKeySet();   // jobs to report on
    private final Map<String, WorkerMessage> results = new ConcurrentHashMap<>(); // not yet taken
    private final Map<Long, CompletableFuture<Void>> fences = new ConcurrentHashMap<>();
    private final AtomicLong fenceNumber = new AtomicLong();
    private final CountDownLatch stopped = new CountDownLatch(1);
    private volatile Connection connection;
    private volatile boolean stopping;

    /// `answer` is given each call as it is offered, on a thread that is the call's own, and
    /// keeps it until the call is over; `maxCalls` of them at a time.
    public Worker(String url, String key, String secret, String agentName, int maxCalls,
            Consumer<Line> answer) {
        this.url = socketUrl(url);
        this.key = key;
        this.secret = secret;
        this.agentName = agentName;
        this.maxCalls = maxCalls;
        this.answer = answer;
        String api = this.url.replaceFirst("^ws", "http") + "/";
        this.rooms = new Rooms(http, api, key, secret);
        this.sip = new Sip(http, api, key, secret);
    }

    /// Runs until `stop`: connects, and connects again for ever; calls go on meanwhile. `warmUp`
    /// is run once, on a thread of its own, while the worker waits for its first call.
    public void run(Runnable warmUp) throws Refused, InterruptedException {
        // A worker that is registered gets calls, so it registers only when it can take them.
        var webrtc = CompletableFuture.runAsync(WebRtc::load);
        boolean everRegistered = false;
        for (int failures = 0; stopped.getCount() > 0; ) { // also while calls come to their end
            var attempt = new Connection(webrtc);
            long opened = System.nanoTime();
            attempt.open();
            connection = attempt;
            attempt.registered.await(REGISTERING.toMillis(), TimeUnit.MILLISECONDS);
            if (attempt.workerId != null) {
                if (!everRegistered) {
                    Thread.ofPlatform().name("warm-up").daemon().start(() -> {
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
                        + "LIVEKIT_API_KEY and LIVEKIT_API_SECRET");
            }
            // Not longer: who calls meanwhile is answered by nobody.
            Duration delay = Duration.ofMillis(Math.min(1_000L * failures++, 3_000)
                    + ThreadLocalRandom.current().nextLong(200));
            Log.log("", "no connection to LiveKit at " + url + ": " + attempt.why
                    + "; next try in " + delay.toMillis() + " ms");
            stopped.await(delay.toMillis(), TimeUnit.MILLISECONDS);
        }
    }

    /// What LiveKit's room API does for this worker's calls, and for whoever else needs it.
    public Rooms rooms() {
        return rooms;
    }

    /// Is it registered, so that calls can come?
    public boolean registered() {
        Connection current = connection;
        return current != null && current.workerId != null;
    }

    /// Takes no more calls from now on, and waits until those that are up have ended by
    /// themselves, or the bound is over.
    public void drain(Duration bound) throws InterruptedException {
        stopping = true;
        report();
        long end = System.nanoTime() + bound.toNanos();
        synchronized (calls) {
            while (!calls.isEmpty() && System.nanoTime() < end) {
                TimeUnit.NANOSECONDS.timedWait(calls, end - System.nanoTime());
            }
        }
    }

    /// Takes no more calls, asks those that are up to end, waits for that, and lets `run` return.
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

    /// An address of LiveKit's as its sockets need it; ours when `other` is empty.
    String socketUrl(String other) {
        return other.isEmpty() ? url
                : other.replaceFirst("^http", "ws").replaceFirst("/+$", "");
    }

    /// Reports how a job ended, once, however often it is called, and waits (1 s at most) until
    /// LiveKit has read it: a job whose agent leaves the room before that counts as failed. An
    /// `error` of "" is success.
    void finish(String jobId, String error) {
        if (!unfinished.remove(jobId)) {
            return;
        }
        WorkerMessage result = result(jobId, error);
        results.put(jobId, result);
        Connection current = connection;
        if (current.workerId == null) {
            return; // reconnecting: it goes out with the next registration
        }
        var fence = new CompletableFuture<Void>();
        long number = fenceNumber.incrementAndGet();
        fences.put(number, fence);
        try {
            current.send(result);
            // The server reads one socket in order, so its pong says that the result was read.
            current.send(WorkerMessage.newBuilder()
                    .setPing(WorkerPing.newBuilder().setTimestamp(number)).build());
            fence.get(FENCE.toMillis(), TimeUnit.MILLISECONDS);
            results.remove(jobId);
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

    /// What LiveKit goes by when it has a call to give. Calls count from their offer on, or a
    /// burst of them would all go to one worker.
    private WorkerMessage status() {
        int count = calls.size();
        return WorkerMessage.newBuilder().setUpdateWorker(UpdateWorkerStatus.newBuilder()
                .setStatus(full() ? WorkerStatus.WS_FULL : WorkerStatus.WS_AVAILABLE)
                .setLoad(Math.min(MOST_LOAD, MOST_LOAD * count / maxCalls))
                .setJobCount(count)).build();
    }

    private void report() {
        Connection current = connection;
        if (current != null && current.workerId != null) {
            current.send(status());
        }
    }

    private void run(Room room) {
        String error = "";
        try {
            answer.accept(room);
        } catch (RuntimeException | Error e) {
            error = Log.reason(e);
            Log.log(room.id(), "the call failed: " + error);
        } finally {
            finish(room.id(), error);
            room.close();
            synchronized (calls) {
                calls.remove(room.id());
                calls.notifyAll();
            }
            report();
            finish(room.id(), "the assignment came too late"); // if it has come since
        }
    }

    /// One socket to LiveKit's /agent. Its methods run on the socket's thread and do not wait.
    private final class Connection extends WebSocketListener {
        final CountDownLatch registered = new CountDownLatch(1);
        final CountDownLatch closed = new CountDownLatch(1);
        volatile WebSocket socket;
        volatile String workerId;
        volatile String why = "it does not answer";
        volatile int httpStatus;
        private final CompletableFuture<Void> webrtc;

        Connection(CompletableFuture<Void> webrtc) {
            this.webrtc = webrtc;
        }

        void open() {
            var token = new AccessToken(key, secret);
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
            webrtc.whenComplete((_, trouble) -> {
                if (trouble == null) {
                    send(WorkerMessage.newBuilder().setRegister(register).build());
                } else {
                    ended("WebRTC cannot be loaded");
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
                    registered.countDown();
                    Log.log("", "registered at " + url + " as " + agentName);
                    send(status());
                    results.values().removeIf(result -> {
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
            // When it is not available, LiveKit asks the next worker.
            var reply = AvailabilityResponse.newBuilder().setJobId(job.getId());
            if (!full()) {
                // The call begins here and not at the assignment, so that the model is reached
                // meanwhile; Room.join waits for the assignment.
                var room = new Room(Worker.this, job);
                if (calls.putIfAbsent(job.getId(), room) != null) {
                    return; // the same, once more
                }
                if (stopping) { // since we looked: `drain` or `stop` may not have seen this one
                    calls.remove(job.getId());
                    send(WorkerMessage.newBuilder().setAvailability(reply).build());
                    return;
                }
                Thread.ofVirtual().name(job.getId()).start(() -> run(room));
                // The identity must be unique in the room, or it would evict its namesake.
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
            unfinished.add(jobId);
            send(WorkerMessage.newBuilder().setUpdateJob(UpdateJobStatus.newBuilder()
                    .setJobId(jobId).setStatus(JobStatus.JS_RUNNING)).build());
            room.assigned(assignment);
        }

        @Override
        public void onClosing(WebSocket socket, int code, String reason) {
            ended("closed by the server (" + code + ")");
        }

        @Override
        public void onFailure(WebSocket socket, Throwable thrown, Response response) {
            httpStatus = response == null ? 0 : response.code();
            ended(response == null ? Log.reason(thrown) : "HTTP " + response.code());
        }

        private void ended(String reason) {
            why = reason;
            workerId = null;
            closed.countDown();
            registered.countDown();
        }
    }
}
