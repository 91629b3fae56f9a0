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
import voice.Log;

/// One socket of a Worker to /agent of LiveKit's server. It registers the worker, and hands over to
/// the worker what LiveKit says. What OkHttp calls runs on the socket's own thread, and must not
/// wait.
final class Connection extends WebSocketListener {
    private static final Duration TOKEN = Duration.ofMinutes(1);

    final CountDownLatch registered = new CountDownLatch(1);    // or closed before that
    final CountDownLatch leave = new CountDownLatch(1);         // a new one has to replace it
    final CountDownLatch closed = new CountDownLatch(1);
    private final Worker worker;
    private volatile WebSocket socket;
    private volatile boolean up;                                // registered and not closed
    private volatile String why = "it does not answer";
    private volatile int httpStatus;

    Connection(Worker worker) {
        this.worker = worker;
    }

    void open(OkHttpClient http, String url, String key, String secret) {
        // LiveKit reads the token when the socket opens, and never again. A token that somebody
        // finds later is of no use to them.
        var token = new AccessToken(key, secret);
        token.setTtl(TOKEN.toMillis());
        token.addGrants(new Agent(true));
        socket = http.newWebSocket(new Request.Builder().url(url + "/agent")
                .header("Authorization", "Bearer " + token.toJwt()).build(), this);
    }

    /// Is the worker registered on it? Any thread.
    boolean up() {
        return up;
    }

    /// Why it is lost, or is to be left.
    String why() {
        return why;
    }

    /// The HTTP status with which LiveKit has refused it, or 0.
    int httpStatus() {
        return httpStatus;
    }

    /// Any thread.
    void send(WorkerMessage.Builder message) {
        socket.send(ByteString.of(message.build().toByteArray()));
    }

    /// LiveKit is told that we go. Any thread.
    void close() {
        socket.close(1000, null);
        over("we have closed it");
    }

    /// Any thread.
    void cancel() {
        socket.cancel();
        over(why);
    }

    @Override
    public void onOpen(WebSocket socket, Response response) {
        this.socket = socket;
        var register = RegisterWorkerRequest.newBuilder()
                .setType(JobType.JT_ROOM).setAgentName(worker.agentName()).setVersion("1.0.0")
                .setAllowedPermissions(LivekitModels.ParticipantPermission.newBuilder()
                        .setCanPublish(true).setCanSubscribe(true).setCanPublishData(true)
                        .setCanUpdateMetadata(true));
        // A registered worker gets calls. So the worker registers only when WebRTC is loaded.
        worker.webrtc().whenComplete((_, trouble) -> {
            if (trouble == null) {
                send(WorkerMessage.newBuilder().setRegister(register));
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
                up = true;
                worker.registered(this);
                registered.countDown();
            }
            case AVAILABILITY -> worker.offered(this, message.getAvailability().getJob());
            case ASSIGNMENT -> worker.assigned(this, message.getAssignment());
            case TERMINATION -> worker.terminated(message.getTermination().getJobId());
            case PONG -> worker.hasRead(message.getPong().getLastTimestamp());
            default -> {
                // go_away of livekit_agent.proto. The file of November 2026 has it. The jar
                // livekit-server-0.13.0 does not.
                if (message.getUnknownFields().hasField(6)) {
                    why = "it asks us to register elsewhere";
                    leave.countDown();
                    registered.countDown();
                }
            }
        }
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
        up = false;
        closed.countDown();
        leave.countDown();
        registered.countDown();
        worker.lost(this);
    }
}
