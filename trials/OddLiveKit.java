package trials;

import module java.base;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.UnknownFieldSet;
import livekit.LivekitAgent.*;
import livekit.LivekitModels.*;
import livekit.LivekitRoom.*;
import livekit.LivekitRtc.*;
import livekit.LivekitSip.SIPParticipantInfo;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okhttp3.internal.ws.RealWebSocket;
import okio.Buffer;
import okio.ByteString;
import voice.Event;
import voice.Line;
import voice.Mailbox.Alarm;

import static trials.FuzzTest.*;
import static java.nio.charset.StandardCharsets.UTF_8;

/// LiveKit's sockets and its API, with somebody behind them who has lost their mind; but for
/// the calls that are `honest`. FuzzTest runs a Worker against it.
final class OddLiveKit implements AutoCloseable {
    final MockWebServer server = new MockWebServer();
    final AtomicInteger sent = new AtomicInteger();         // to rooms
    final AtomicInteger registrations = new AtomicInteger();
    final Set<String> deleted = ConcurrentHashMap.newKeySet();
    final Map<String, Call> jobs = new ConcurrentHashMap<>();
    final Map<String, Integer> asked = new ConcurrentHashMap<>();
    final long seed;
    final Mutator odd;
    volatile boolean honest;
    private volatile WebSocket agent;

    OddLiveKit(long seed) throws IOException {
        this.seed = seed;
        odd = new Mutator(seed);
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                String path = request.getUrl().encodedPath();
                return path.equals("/agent") ? upgrade(new AgentSocket())
                        : path.equals("/rtc") ? room(request) : api(path, request);
            }
        });
        server.start(InetAddress.getByAddress(new byte[] {127, 0, 0, 1}), 0);
    }

    String url() {
        return "ws://127.0.0.1:" + server.getPort();
    }

    Call of(String id) {
        return jobs.computeIfAbsent(id, _ -> new Call(id));
    }

    @Override
    public void close() {
        server.close();
    }

    private static MockResponse upgrade(WebSocketListener listener) {
        return new MockResponse.Builder().webSocketUpgrade(listener).build();
    }

    private static MockResponse answer(int status, byte[] body) {
        return new MockResponse.Builder().code(status).body(new Buffer().write(body)).build();
    }

    private static void cut(WebSocket socket) {
        // cancel() is for the client's end
        ((RealWebSocket) socket).failWebSocket(new IOException("cut"), null, false);
    }

    // Its API. The first answer of a kind is odd, so that a second try has a chance.

    private MockResponse api(String path, RecordedRequest request) {
        String method = path.substring(path.lastIndexOf('/') + 1);
        byte[] asks = request.getBody() == null ? new byte[0]
                : request.getBody().toByteArray();
        if (method.equals("DeleteRoom")) {
            try {
                deleted.add(DeleteRoomRequest.parseFrom(asks).getRoom());
            } catch (InvalidProtocolBufferException e) {
                throw new UncheckedIOException(e);
            }
        }
        int times = asked.merge(method + " " + Arrays.hashCode(asks), 1, Integer::sum);
        synchronized (odd) {
            Message valid = switch (method) {
                case "ListRooms" -> odd.fill(ListRoomsResponse.newBuilder(), 2).build();
                case "ListParticipants" -> ListParticipantsResponse.newBuilder()
                        .addParticipants(ParticipantInfo.newBuilder()
                                .setKind(ParticipantInfo.Kind.AGENT)
                                .putAttributes(odd.once(3) ? "call.reason" : "x",
                                        utf8(odd.text("busy")))
                                .putAttributes("call.sip_code", utf8(odd.text("486"))))
                        .addParticipants(ParticipantInfo.newBuilder()
                                .setKind(ParticipantInfo.Kind.SIP).setIdentity(PHONE)
                                .putAttributes("sip.callStatus", utf8(odd.text("ringing"))))
                        .build();
                default -> odd.fill(SIPParticipantInfo.newBuilder(), 2).build();
            };
            if (honest || !odd.once(3) || times > 2) {
                return answer(200, method.startsWith("ListP") ? valid.toByteArray()
                        : new byte[0]);
            }
            return switch (odd.random.nextInt(5)) {
                case 0 -> answer(200, odd.bytes(valid.toByteArray()));
                case 1 -> answer(200, odd.text("<html>").getBytes(UTF_8));
                case 2 -> answer(200, new byte[] {-1, -1, -1});
                case 3 -> answer(500, odd.json(TWIRP_ERROR).getBytes(UTF_8));
                default -> answer(408, odd.json(TWIRP_ERROR).getBytes(UTF_8));
            };
        }
    }

    // The worker.

    void offer(String id) {
        of(id).offered = true;
        agent.send(ByteString.of(ServerMessage.newBuilder().setAvailability(
                AvailabilityRequest.newBuilder().setJob(job(id))).build().toByteArray()));
    }

    private static Job job(String id) {
        return Job.newBuilder().setId(id).setRoom(livekit.LivekitModels.Room.newBuilder()
                .setName(id).setSid("RM_" + id)).build();
    }

    /// Has the worker connect again: cuts its connection, or tells it to go away, in turn. Nobody
    /// knows what `go_away` (6) may bring.
    void connectAgain() {
        if (registrations.get() % 2 == 1) {
            cut(agent);
            return;
        }
        synchronized (odd) {
            agent.send(ByteString.of(UnknownFieldSet.newBuilder().mergeLengthDelimitedField(6,
                    com.google.protobuf.ByteString.copyFrom(odd.bytes(new byte[20])))
                    .build().toByteArray()));
        }
    }

    void somethingOdd() {
        synchronized (odd) {
            if (odd.once(10)) {
                agent.send(odd.text("{\"register\":{}}"));
                return;
            }
            var message = ServerMessage.newBuilder();
            odd.one(odd.fieldOf(message), message, 4);
            byte[] bytes = message.build().toByteArray();
            agent.send(ByteString.of(odd.once(2) ? bytes : odd.bytes(bytes)));
        }
    }

    private final class AgentSocket extends WebSocketListener {
        @Override
        public void onMessage(WebSocket socket, ByteString bytes) {
            WorkerMessage message;
            try {
                message = WorkerMessage.parseFrom(bytes.toByteArray());
            } catch (InvalidProtocolBufferException e) {
                throw new UncheckedIOException(e);
            }
            switch (message.getMessageCase()) {
                case REGISTER -> {
                    agent = socket;
                    registrations.incrementAndGet();
                    send(socket, ServerMessage.newBuilder().setRegister(
                            RegisterWorkerResponse.newBuilder().setWorkerId("AW_1")));
                }
                case AVAILABILITY -> {
                    Call job = of(message.getAvailability().getJobId());
                    if (job.offered && message.getAvailability().getAvailable()) {
                        job.assign(socket);
                    }
                }
                case UPDATE_JOB -> {
                    var update = message.getUpdateJob();
                    if (update.getStatus() != JobStatus.JS_RUNNING) {
                        of(update.getJobId()).result.complete(update.getError());
                    }
                }
                case PING -> send(socket, ServerMessage.newBuilder().setPong(WorkerPong
                        .newBuilder().setLastTimestamp(message.getPing().getTimestamp())));
                default -> { }
            }
        }

        @Override
        public void onClosing(WebSocket socket, int code, String reason) {
            socket.close(1000, null);
        }
    }

    private static void send(WebSocket socket, ServerMessage.Builder message) {
        socket.send(ByteString.of(message.build().toByteArray()));
    }

    // Its rooms.

    private MockResponse room(RecordedRequest request) {
        String authorization = request.getHeaders().get("Authorization");
        Call job = of(authorization == null ? "?" : authorization.replaceFirst(".*-", ""));
        boolean resume = request.getUrl().queryParameter("reconnect") != null;
        synchronized (job) {
            return job.honest || !job.odd.once(resume ? 3 : 20) ? upgrade(new RoomSocket(job,
                    resume)) : answer(job.odd.one(List.of(401, 403, 404, 500, 503)),
                    job.odd.text("no such room").getBytes(UTF_8));
        }
    }

    /// One job, at both ends.
    final class Call {
        final String id;
        final Mutator odd, callers;
        final CompletableFuture<String> result = new CompletableFuture<>();
        volatile boolean offered, honest, heard, over;

        Call(String id) {
            this.id = id;
            odd = new Mutator(seed + id.hashCode());
            callers = new Mutator(seed - id.hashCode());
        }

        void assign(WebSocket socket) {
            synchronized (this) {
                for (int times = honest ? 1 : odd.once(20) ? 0 : odd.once(20) ? 2 : 1;
                        times > 0; times--) {
                    send(socket, ServerMessage.newBuilder().setAssignment(
                            JobAssignment.newBuilder().setJob(job(id))
                                    .setUrl(honest || !odd.once(15) ? "" : utf8(odd.url(url())))
                                    .setToken(honest || !odd.once(15) ? TOKEN + id
                                            : utf8(odd.text(TOKEN + id)))));
                }
            }
        }

        /// Our end: what an agent does, within a bound. The room's end is RoomSocket.
        void answer(Line line) {
            try {
                boolean dials = !honest && callers.once(5);
                line.join(dials ? PHONE : null, "");
                line.mailbox().alarm(Alarm.TOO_LONG, honest ? Duration.ofSeconds(10)
                        : Duration.ofMillis(callers.once(20) ? 6_000
                                : 50 + callers.random.nextInt(300)));
                line.listen(_ -> {});
                line.show(Map.of("lk.agent.state", "speaking"));
                if (dials) {
                    line.dial("ST_1");
                }
                Event event;
                do {
                    event = line.mailbox().next();
                    if (event instanceof Event.CallerJoined) {
                        line.pickUp();
                    }
                    heard |= event instanceof Event.CallerHears;
                    if (event instanceof Event.LineLost(var why)) {
                        System.out.println(Mutator.clean(id + " is lost: " + why)); // as Agent
                    }
                    if (line.onPhone() && callers.once(10)) {
                        line.transfer("tel:" + OTHER);
                    }
                    line.caption(callers.once(2), callers.text("segment"),
                            callers.text("Hello."), callers.once(2));
                } while (!(event instanceof Event.AlarmDue) && !(event instanceof Event.LineLost)
                        && !(event instanceof Event.CallerLeft && (honest || callers.once(3))));
                if (honest || callers.once(2)) {
                    line.hangUp();
                }
            } catch (IOException e) {
                line.hangUp();
                throw new UncheckedIOException(e);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    private final class RoomSocket extends WebSocketListener {
        final Call job;
        final boolean resume;
        final Mutator odd;
        volatile boolean over;
        volatile String sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

        RoomSocket(Call job, boolean resume) {
            this.job = job;
            this.resume = resume;
            odd = new Mutator(job.odd.random.nextLong());
        }

        @Override
        public void onOpen(WebSocket socket, Response response) {
            Thread.ofVirtual().name("odd room").start(() -> {
                if (job.honest) {
                    beHonest(socket);
                } else {
                    beOdd(socket);
                }
            });
        }

        private void beHonest(WebSocket socket) {
            send(socket, join());
            send(socket, SignalResponse.newBuilder().setUpdate(
                    ParticipantUpdate.newBuilder().addParticipants(caller())));
        }

        private void beOdd(WebSocket socket) {
            if (!odd.once(20)) {
                var first = SignalResponse.newBuilder();
                if (resume) {
                    first.setReconnect(ReconnectResponse.newBuilder());
                } else {
                    first = join();
                }
                send(socket, first);
            }
            for (int i = 0; i < 60 && !over; i++) {
                var message = SignalResponse.newBuilder();
                // Those that may end the call are few, or nothing else would be tried.
                FieldDescriptor field = odd.fieldOf(message);
                boolean ends = List.of("join", "reconnect", "leave", "offer", "answer")
                        .contains(field.getName());
                if (ends && !odd.once(4)) {
                    field = message.getDescriptorForType().findFieldByName(
                            odd.one(List.of("update", "trickle", "track_published",
                                    "track_subscribed", "request_response")));
                }
                odd.sdp = sdp;
                odd.one(field, message, 4);
                byte[] bytes = message.build().toByteArray();
                // Of addresses no other is made: nothing is to be sent there.
                boolean addresses = message.hasOffer() || message.hasAnswer()
                        || message.hasTrickle() || message.hasJoin() || message.hasReconnect();
                socket.send(ByteString.of(addresses || odd.once(2) ? bytes : odd.bytes(bytes)));
                if (odd.once(30)) {
                    socket.send(odd.text("{}"));
                }
                sent.incrementAndGet();
                LockSupport.parkNanos(odd.once(4) ? 2_000_000 : 1);
            }
            switch (odd.random.nextInt(4)) {
                case 0 -> cut(socket);
                case 1 -> socket.close(odd.one(List.of(1000, 1001, 1011, 4000)), "");
                case 2 -> send(socket, SignalResponse.newBuilder().setLeave(
                        LeaveRequest.newBuilder().setActionValue(odd.random.nextInt(4))));
                default -> { }
            }
        }

        private SignalResponse.Builder join() {
            var join = JoinResponse.newBuilder().setParticipant(ParticipantInfo.newBuilder()
                    .setSid("PA_agent").setIdentity("agent-" + job.id)).setPingInterval(1);
            if (!job.honest && odd.once(4)) {
                odd.fill(join, 3);
            } else if (!job.honest) {
                join.addOtherParticipants(caller());
            }
            return SignalResponse.newBuilder().setJoin(join);
        }

        private static ParticipantInfo.Builder caller() {
            return ParticipantInfo.newBuilder().setIdentity("sip_" + PHONE).setSid("PA_me")
                    .setKind(ParticipantInfo.Kind.SIP)
                    .putAttributes("sip.phoneNumber", PHONE)
                    .putAttributes("sip.callID", "SCL_1")
                    .putAttributes("sip.callIDFull", "a@b")
                    .addTracks(TrackInfo.newBuilder().setSid("TR_1"));
        }

        private void send(WebSocket socket, SignalResponse.Builder message) {
            socket.send(ByteString.of(message.build().toByteArray()));
        }

        @Override
        public void onMessage(WebSocket socket, ByteString bytes) {
            SignalRequest message;
            try {
                message = SignalRequest.parseFrom(bytes.toByteArray());
            } catch (InvalidProtocolBufferException e) {
                throw new UncheckedIOException(e);
            }
            switch (message.getMessageCase()) {
                case OFFER -> {
                    sdp = message.getOffer().getSdp();
                    if (job.honest || !job.odd.once(3)) {
                        send(socket, SignalResponse.newBuilder().setAnswer(
                                SessionDescription.newBuilder().setType("answer")
                                        .setId(message.getOffer().getId())
                                        .setSdp(sdp.replace("setup:actpass", "setup:active")
                                                .replace("a=sendonly", "a=recvonly"))));
                    }
                }
                case ADD_TRACK -> {
                    send(socket, SignalResponse.newBuilder().setTrackPublished(
                            TrackPublishedResponse.newBuilder().setCid("microphone")
                                    .setTrack(TrackInfo.newBuilder().setSid("TR_agent"))));
                    send(socket, SignalResponse.newBuilder().setTrackSubscribed(
                            TrackSubscribed.newBuilder().setTrackSid("TR_agent")));
                    if (job.honest) {
                        send(socket, SignalResponse.newBuilder().setUpdate(ParticipantUpdate
                                .newBuilder().addParticipants(caller().setState(
                                        ParticipantInfo.State.DISCONNECTED))));
                    }
                }
                case LEAVE -> over = true;
                default -> { }
            }
        }

        @Override
        public void onClosing(WebSocket socket, int code, String reason) {
            socket.close(1000, null);
            over = true;
        }

        @Override
        public void onFailure(WebSocket socket, Throwable thrown, Response response) {
            over = true;
        }
    }
}
