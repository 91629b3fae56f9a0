package trials;

import module java.base;
import livekit.LivekitAgent.*;
import livekit.LivekitModels;
import livekit.LivekitModels.DisconnectReason;
import livekit.LivekitModels.ParticipantInfo;
import livekit.LivekitRoom.*;
import livekit.LivekitRtc.*;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import mockwebserver3.SocketEffect;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okhttp3.internal.ws.RealWebSocket;
import okio.Buffer;
import okio.ByteString;

/// A small LiveKit, over real sockets: it does what a test says, and writes down what it is told.
/// RoomTest runs a Worker against it. It lets every agent into every room, but no sound is there.
/// LiveTest has a real server, and OddLiveKit one that sends nonsense.
final class TestLiveKit implements AutoCloseable {
    /// What the worker has sent on its sockets, all of it in order.
    final List<WorkerMessage> told = new CopyOnWriteArrayList<>();
    /// The same, for each connection on which it has registered, in order.
    final List<Agent> agents = new CopyOnWriteArrayList<>();
    /// The requests to the room API: `ListRooms`, or `DeleteRoom` and the name.
    final List<String> asked = new CopyOnWriteArrayList<>();
    /// The rooms that are there: sid by name.
    final Map<String, String> rooms = new ConcurrentHashMap<>();
    /// The room API answers when this is open.
    volatile CountDownLatch held = new CountDownLatch(0);
    /// The statuses of the next answers of the room API. With one of these, an answer says nothing;
    /// with 0 and after them, it is 200 and says what is there.
    final Queue<Integer> apiStatuses = new ConcurrentLinkedQueue<>();
    /// The statuses of the next answers to a worker that connects. After them, it may connect.
    final Queue<Integer> agentStatuses = new ConcurrentLinkedQueue<>();
    /// The tokens that the worker has sent, one for each connection.
    final List<String> tokens = new CopyOnWriteArrayList<>();
    /// How the next connections to a room fail: a status, NO_ANSWER, CUT, or the reason of a
    /// `leave` message. After them, it works.
    final Queue<Object> roomFailures = new ConcurrentLinkedQueue<>();
    static final int NO_ANSWER = 0, CUT = -1;
    /// How they all fail until this is null.
    volatile Object roomFailure;
    /// The connections to rooms that were tried: `join` or `resume`.
    final List<String> tried = new CopyOnWriteArrayList<>();
    /// What agents have sent in rooms.
    final List<SignalRequest> saidInRooms = new CopyOnWriteArrayList<>();
    /// Who is in the room before the agent joins it.
    final List<ParticipantInfo.Builder> there = new CopyOnWriteArrayList<>();
    /// Who is in the room as the list says that comes when the agent has lost the connection.
    final List<ParticipantInfo.Builder> stillThere = new CopyOnWriteArrayList<>();
    /// Does that list come in several updates, the agent first, with pauses of 0.2 s?
    volatile boolean listInParts;
    /// Where the agent is told to look for a way through to the room; "" for nowhere.
    volatile String iceServer = "";
    /// What `call` is told of: who is in the room, the agent too.
    final List<ParticipantInfo.Builder> listed = new CopyOnWriteArrayList<>();
    /// When the agent has joined, by LiveKit's clock, in ms.
    volatile long joinedAt = 1_000_000;
    /// So many of the next registrations are answered by `go_away`.
    final AtomicInteger turnedAway = new AtomicInteger();
    /// Does the worker get a pong for each ping?
    volatile boolean pongs = true;

    private final MockWebServer server = new MockWebServer();
    private volatile WebSocket room;
    /// How often an agent has joined a room, or come back to it.
    final AtomicInteger joins = new AtomicInteger();
    /// How often an agent has published its track.
    final AtomicInteger tracks = new AtomicInteger();

    TestLiveKit() throws IOException {
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                String path = request.getUrl().encodedPath();
                return switch (path) {
                    case "/agent" -> {
                        tokens.add(request.getHeaders().get("Authorization"));
                        Integer status = agentStatuses.poll();
                        yield status == null ? socket(new Agent()) : answer(status, new byte[0]);
                    }
                    case "/rtc" -> room(request);
                    default -> api(path.substring(path.lastIndexOf('/') + 1), request);
                };
            }
        });
        server.start(InetAddress.getByAddress(new byte[] {127, 0, 0, 1}), 0);
    }

    String url() {
        return "ws://127.0.0.1:" + server.getPort();
    }

    @Override
    public void close() {
        server.close();
    }

    private static MockResponse socket(WebSocketListener listener) {
        return new MockResponse.Builder().webSocketUpgrade(listener).build();
    }

    private MockResponse room(RecordedRequest request) {
        boolean again = request.getUrl().queryParameter("reconnect") != null;
        tried.add(again ? "resume" : "join");
        Object failure = Objects.requireNonNullElse(roomFailures.poll(), roomFailure == null ? ""
                : roomFailure);
        if (failure instanceof Integer status) {
            return status > 0 ? answer(status, new byte[0]) : new MockResponse.Builder()
                    .onResponseStart(status == NO_ANSWER ? SocketEffect.Stall.INSTANCE
                            : new SocketEffect.CloseSocket()).build();
        }
        String token = request.getHeaders().get("Authorization");
        return socket(new Room(again, token.replaceFirst(".*" + TOKEN, ""),
                failure instanceof DisconnectReason reason ? reason : null));
    }

    private static MockResponse answer(int status, byte[] body) {
        var answer = new MockResponse.Builder().code(status).body(new Buffer().write(body));
        // Clients may take this for an invitation to ask again.
        return (status == 200 ? answer : answer.addHeader("Retry-After", "0")
                .addHeader("Location", "/elsewhere")).build();
    }

    private MockResponse api(String method, RecordedRequest request) {
        try {
            byte[] body = request.getBody().toByteArray();
            asked.add(method + switch (method) {
                case "DeleteRoom" -> " " + DeleteRoomRequest.parseFrom(body).getRoom();
                case "RemoveParticipant" -> {
                    var whom = RoomParticipantIdentity.parseFrom(body);
                    yield " " + whom.getRoom() + " " + whom.getIdentity();
                }
                default -> "";
            });
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        try {
            held.await(Stand.SOON.toSeconds(), TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
        Integer status = apiStatuses.poll();
        if (status != null && status != 0) {
            return answer(status, new byte[0]);
        }
        var list = ListRoomsResponse.newBuilder();
        rooms.forEach((room, sid) -> list.addRooms(
                LivekitModels.Room.newBuilder().setName(room).setSid(sid)));
        var people = ListParticipantsResponse.newBuilder();
        listed.forEach(people::addParticipants);
        return answer(200, switch (method) {
            case "ListRooms" -> list.build().toByteArray();
            case "ListParticipants" -> people.build().toByteArray();
            default -> new byte[0];
        });
    }

    static final String TOKEN = "a token for ";

    // To the worker, on the connection that was registered last. A job's room has its id as its
    // name, and RM_ and its id as its sid.

    void offer(String job) {
        agents.getLast().offer(job(job));
    }

    void assign(String job) {
        agents.getLast().assign(job(job));
    }

    void terminate(String job) {
        agents.getLast().send(ServerMessage.newBuilder().setTermination(
                JobTermination.newBuilder().setJobId(job)));
    }

    /// Breaks the worker's connection.
    void cut() {
        agents.getLast().cut();
    }

    /// A job that has ended before anybody was assigned. The status is one that the messages in the
    /// jar do not know.
    static Job cancelled(String id) {
        return job(id).toBuilder().setState(JobState.newBuilder().setStatusValue(4)).build();
    }

    static Job job(String id) {
        return Job.newBuilder().setId(id).setRoom(
                LivekitModels.Room.newBuilder().setName(id).setSid("RM_" + id)).build();
    }

    // To the agent in the room that was joined last.

    /// Somebody in a room. `attributes` are names, each with its value behind it.
    static ParticipantInfo.Builder who(
            String identity, String sid, ParticipantInfo.Kind kind, String... attributes) {
        var who = ParticipantInfo.newBuilder().setIdentity(identity).setSid(sid).setKind(kind);
        for (int i = 0; i < attributes.length; i += 2) {
            who.putAttributes(attributes[i], attributes[i + 1]);
        }
        return who;
    }

    /// There is news of these participants.
    void update(ParticipantInfo.Builder... news) {
        var update = ParticipantUpdate.newBuilder();
        List.of(news).forEach(update::addParticipants);
        sendTo(room, SignalResponse.newBuilder().setUpdate(update));
    }

    /// Somebody has left, and another one may have taken their identity. LiveKit does not say here
    /// what kind the one who has left was of.
    void left(String identity, String sid) {
        left(identity, sid, LivekitModels.DisconnectReason.DUPLICATE_IDENTITY);
    }

    /// Somebody has left for that reason.
    void left(String identity, String sid, LivekitModels.DisconnectReason why) {
        update(ParticipantInfo.newBuilder().setIdentity(identity).setSid(sid)
                .setState(ParticipantInfo.State.DISCONNECTED).setDisconnectReason(why));
    }

    /// Another agent in a room, which has joined it so many ms after ours.
    ParticipantInfo.Builder agent(String identity, String sid, String name, long later) {
        long at = joinedAt + later;
        return who(identity, sid, ParticipantInfo.Kind.AGENT, "lk.agent.name", name)
                .setJoinedAt(at / 1_000).setJoinedAtMs(at);
    }

    /// Somebody receives the agent's sound. LiveKit says so once for a track, and not who it is.
    void subscribed() {
        sendTo(room, SignalResponse.newBuilder().setTrackSubscribed(
                TrackSubscribed.newBuilder().setTrackSid("TR_agent")));
    }

    /// Breaks the connection to the room. The agent comes back.
    void cutRoom() {
        ((RealWebSocket) room).failWebSocket(new IOException("cut"), null, false);
    }

    /// The room is over.
    void endRoom() {
        leave(room, DisconnectReason.SERVER_SHUTDOWN);
    }

    /// The agent has to leave the room.
    void leave(DisconnectReason why) {
        leave(room, why);
    }

    private static void leave(WebSocket room, DisconnectReason why) {
        sendTo(room, SignalResponse.newBuilder().setLeave(
                LeaveRequest.newBuilder().setReason(why)));
    }

    private static void sendTo(WebSocket room, SignalResponse.Builder message) {
        room.send(ByteString.of(message.build().toByteArray()));
    }

    // What the worker has told.

    List<WorkerMessage> told(WorkerMessage.MessageCase kind) {
        return told.stream().filter(each -> each.getMessageCase() == kind).toList();
    }

    /// For each offer that was answered: the job, and whether the worker takes it.
    List<String> answers() {
        return told(WorkerMessage.MessageCase.AVAILABILITY).stream()
                .map(WorkerMessage::getAvailability)
                .map(it -> it.getJobId() + (it.getAvailable() ? " yes" : " no")).toList();
    }

    /// For each update of a job: the job, its status and its error.
    List<String> updates() {
        return told(WorkerMessage.MessageCase.UPDATE_JOB).stream().map(WorkerMessage::getUpdateJob)
                .map(it -> (it.getJobId() + " " + it.getStatus() + " " + it.getError()).strip())
                .toList();
    }

    /// The worker's last status: the status, how many calls, and the load. "" if there is none yet.
    String status() {
        var all = told(WorkerMessage.MessageCase.UPDATE_WORKER);
        if (all.isEmpty()) {
            return "";
        }
        UpdateWorkerStatus last = all.getLast().getUpdateWorker();
        return last.getStatus() + " " + last.getJobCount() + " " + last.getLoad();
    }

    /// One connection of the worker.
    final class Agent extends WebSocketListener {
        final List<WorkerMessage> told = new CopyOnWriteArrayList<>();
        final CountDownLatch closed = new CountDownLatch(1);
        private volatile WebSocket socket;

        private void send(ServerMessage.Builder message) {
            socket.send(ByteString.of(message.build().toByteArray()));
        }

        void offer(Job job) {
            send(ServerMessage.newBuilder().setAvailability(
                    AvailabilityRequest.newBuilder().setJob(job)));
        }

        void assign(Job job) {
            send(ServerMessage.newBuilder().setAssignment(JobAssignment.newBuilder()
                    .setJob(job).setToken(TOKEN + job.getId())));
        }

        /// `go_away`, a message that those in the jar do not know: field 6, and the reason is its
        /// field 1.
        void goAway(String reason) {
            byte[] text = reason.getBytes(StandardCharsets.UTF_8);
            var bytes = new Buffer().writeByte(6 << 3 | 2).writeByte(text.length + 2)
                    .writeByte(1 << 3 | 2).writeByte(text.length).write(text);
            socket.send(bytes.readByteString());
        }

        void cut() {
            ((RealWebSocket) socket).failWebSocket(new IOException("cut"), null, false);
        }

        @Override
        public void onMessage(WebSocket socket, ByteString bytes) {
            WorkerMessage message;
            try {
                message = WorkerMessage.parseFrom(bytes.toByteArray());
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            if (message.hasRegister()) {
                this.socket = socket;
                if (turnedAway.getAndUpdate(left -> Math.max(0, left - 1)) > 0) {
                    goAway("not here");
                    return;
                }
                agents.add(this);
                send(ServerMessage.newBuilder().setRegister(
                        RegisterWorkerResponse.newBuilder().setWorkerId("AW_1")));
            } else if (message.hasPing() && pongs) {
                send(ServerMessage.newBuilder().setPong(WorkerPong.newBuilder()
                        .setLastTimestamp(message.getPing().getTimestamp())));
            }
            told.add(message);
            TestLiveKit.this.told.add(message);
        }

        @Override
        public void onClosing(WebSocket socket, int code, String reason) {
            closed.countDown();
            socket.close(1000, null);
        }
    }

    private final class Room extends WebSocketListener {
        private final boolean again;
        private final String name;
        private final DisconnectReason failure;

        Room(boolean again, String name, DisconnectReason failure) {
            this.again = again;
            this.name = name;
            this.failure = failure;
        }

        @Override
        public void onOpen(WebSocket socket, Response response) {
            room = socket;
            var agent = agent("agent-" + name, "PA_agent", "an-agent", 0);
            if (failure != null) {
                leave(socket, failure);
                return;
            }
            if (again) {
                sendTo(socket, SignalResponse.newBuilder().setReconnect(
                        ReconnectResponse.getDefaultInstance()));
                var all = ParticipantUpdate.newBuilder().addParticipants(agent);
                for (ParticipantInfo.Builder one : stillThere) {
                    if (listInParts) {
                        sendTo(socket, SignalResponse.newBuilder().setUpdate(all));
                        LockSupport.parkNanos(200_000_000);
                        all.clear();
                    }
                    all.addParticipants(one);
                }
                sendTo(socket, SignalResponse.newBuilder().setUpdate(all));
            } else {
                var join = JoinResponse.newBuilder().setPingInterval(10).setParticipant(agent)
                        .setRoom(LivekitModels.Room.newBuilder().setName(name)
                                .setSid(rooms.getOrDefault(name, "RM_" + name)));
                there.forEach(join::addOtherParticipants);
                if (!iceServer.isEmpty()) {
                    join.addIceServers(ICEServer.newBuilder().addUrls(iceServer));
                }
                sendTo(socket, SignalResponse.newBuilder().setJoin(join));
            }
            joins.incrementAndGet();
        }

        /// Names the agent's track.
        @Override
        public void onMessage(WebSocket socket, ByteString bytes) {
            try {
                var request = SignalRequest.parseFrom(bytes.toByteArray());
                saidInRooms.add(request);
                if (request.hasAddTrack()) {
                    sendTo(socket, SignalResponse.newBuilder().setTrackPublished(
                            TrackPublishedResponse.newBuilder().setCid("microphone").setTrack(
                                    LivekitModels.TrackInfo.newBuilder().setSid("TR_agent"))));
                    tracks.incrementAndGet();
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        @Override
        public void onClosing(WebSocket socket, int code, String reason) {
            socket.close(1000, null);
        }
    }
}
