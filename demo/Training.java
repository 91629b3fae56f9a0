package demo;

import module java.base;
import livekit.LivekitAgent.*;
import livekit.LivekitModels.DisconnectReason;
import livekit.LivekitModels.ParticipantInfo;
import livekit.LivekitModels.TrackInfo;
import livekit.LivekitModels.TrackSource;
import livekit.LivekitModels.TrackType;
import livekit.LivekitRtc.*;
import mockwebserver3.*;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okio.ByteString;
import room.Worker;
import voice.Line;

/// The training run for Java's AOT cache (https://openjdk.org/jeps/514): the program starts,
/// rehearses, takes one call and stops, and Java watches. Later starts find ready every class that
/// was loaded by then. run.sh runs this (`demo --train`) after it has built the jar. The run needs
/// no key and no server.
///
/// LiveKit is a stand-in on this machine, which says just enough for a call to begin and to end
/// (the messages are those of https://github.com/livekit/protocol). The call deliberately has no
/// sound: sound is native code, which the cache cannot hold.
final class Training extends Dispatcher {
    private static final String JOB = "AJ_training", CALLER = "sip_+15550100";
    private static final Duration CALL = Duration.ofSeconds(10), ENDING = Duration.ofSeconds(2);

    private final CountDownLatch over = new CountDownLatch(1);
    private volatile WebSocket workerSocket;

    private Training() {}

    /// Returns whether the call came to its end.
    static boolean run(Consumer<Line> takeCall, Runnable warmUp) throws Exception {
        var training = new Training();
        try (var livekit = new MockWebServer()) {
            livekit.setDispatcher(training);
            livekit.start(InetAddress.getByAddress(new byte[] {127, 0, 0, 1}), 0);
            var worker = new Worker("ws://127.0.0.1:" + livekit.getPort(), "key",
                    "a secret of thirty-two characters", "training", 1);
            worker.run(takeCall, () -> {
                warmUp.run();
                training.send(ServerMessage.newBuilder().setAvailability(
                        AvailabilityRequest.newBuilder().setJob(job())));
                try {
                    training.over.await(CALL.toMillis(), TimeUnit.MILLISECONDS);
                    worker.stop(ENDING);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            });
        }
        return training.over.getCount() == 0;
    }

    private static Job job() {
        return Job.newBuilder().setId(JOB).setRoom(livekit.LivekitModels.Room.newBuilder()
                .setName("training").setSid("RM_training")).build();
    }

    @Override
    public MockResponse dispatch(RecordedRequest request) {
        return switch (request.getUrl().encodedPath()) {
            case "/agent" -> new MockResponse.Builder().webSocketUpgrade(new Jobs()).build();
            case "/rtc" -> new MockResponse.Builder().webSocketUpgrade(new Room()).build();
            default -> new MockResponse.Builder().build(); // the server API: DeleteRoom and others
        };
    }

    private void send(ServerMessage.Builder message) {
        workerSocket.send(ByteString.of(message.build().toByteArray()));
    }

    /// LiveKit's side of a socket.
    private abstract static class Side extends WebSocketListener {
        abstract void take(WebSocket socket, byte[] message) throws IOException;

        @Override
        public void onMessage(WebSocket socket, ByteString bytes) {
            try {
                take(socket, bytes.toByteArray());
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        @Override
        public void onClosing(WebSocket socket, int code, String reason) {
            socket.close(1000, null);
        }
    }

    /// LiveKit's side of the worker's socket. It assigns the job to the worker that accepts it.
    private final class Jobs extends Side {
        @Override
        void take(WebSocket socket, byte[] bytes) throws IOException {
            var message = WorkerMessage.parseFrom(bytes);
            switch (message.getMessageCase()) {
                case REGISTER -> {
                    workerSocket = socket;
                    send(ServerMessage.newBuilder().setRegister(
                            RegisterWorkerResponse.newBuilder().setWorkerId("AW_training")));
                }
                case AVAILABILITY -> send(ServerMessage.newBuilder().setAssignment(
                        JobAssignment.newBuilder().setJob(job()).setToken("token")));
                case PING -> {
                    send(ServerMessage.newBuilder().setPong(WorkerPong.newBuilder()
                            .setLastTimestamp(message.getPing().getTimestamp())));
                    over.countDown(); // it pings after it has reported the job's result
                }
                default -> { }
            }
        }
    }

    /// LiveKit's side of the room's socket. A phone is in the room, and rings until the agent
    /// publishes its track. Then the phone is picked up, and the caller hangs up at once.
    private static final class Room extends Side {
        private final ParticipantInfo phone = ParticipantInfo.newBuilder()
                .setSid("PA_phone").setIdentity(CALLER).setKind(ParticipantInfo.Kind.SIP)
                .setState(ParticipantInfo.State.ACTIVE)
                .putAttributes("sip.phoneNumber", CALLER.substring(4))
                .putAttributes("sip.callStatus", "ringing")
                .addTracks(TrackInfo.newBuilder().setSid("TR_phone").setType(TrackType.AUDIO)
                        .setSource(TrackSource.MICROPHONE)).build();

        @Override
        public void onOpen(WebSocket socket, Response response) {
            send(socket, SignalResponse.newBuilder().setJoin(JoinResponse.newBuilder()
                    .setParticipant(ParticipantInfo.newBuilder().setSid("PA_agent"))
                    .addOtherParticipants(phone).setPingInterval(5)));
        }

        @Override
        void take(WebSocket socket, byte[] bytes) throws IOException {
            var request = SignalRequest.parseFrom(bytes);
            if (request.hasAddTrack()) {
                send(socket, SignalResponse.newBuilder().setTrackPublished(
                        TrackPublishedResponse.newBuilder().setCid(request.getAddTrack().getCid())
                                .setTrack(TrackInfo.newBuilder().setSid("TR_agent"))));
                send(socket, SignalResponse.newBuilder().setTrackSubscribed(
                        TrackSubscribed.newBuilder().setTrackSid("TR_agent")));
                update(socket, phone.toBuilder().setVersion(1)
                        .putAttributes("sip.callStatus", "active"));
                update(socket, phone.toBuilder().setVersion(2)
                        .setState(ParticipantInfo.State.DISCONNECTED)
                        .setDisconnectReason(DisconnectReason.CLIENT_INITIATED));
            }
        }

        private static void update(WebSocket socket, ParticipantInfo.Builder who) {
            send(socket, SignalResponse.newBuilder().setUpdate(
                    ParticipantUpdate.newBuilder().addParticipants(who)));
        }

        private static void send(WebSocket socket, SignalResponse.Builder message) {
            socket.send(ByteString.of(message.build().toByteArray()));
        }
    }
}
