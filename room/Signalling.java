package room;

import module java.base;
import livekit.LivekitModels.*;
import livekit.LivekitRtc.*;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okio.ByteString;
import voice.Log;

/// The connection to one call's room: the socket over which room and agent tell each other what
/// they do, and how that connection comes back when it is lost. Room makes one for itself.
///
/// The protocol is LiveKit's
/// [client protocol](https://docs.livekit.io/reference/internals/client-protocol/) in version 15,
/// with two peer connections. Its messages are defined in
/// [livekit_rtc.proto](https://github.com/livekit/protocol/blob/main/protobufs/livekit_rtc.proto).
///
/// A lost connection is first *resumed*: a new socket takes up the old session, and nothing else
/// changes. When the server refuses that, we *rejoin*: we join the room once more, under the same
/// identity. We do so only if LiveKit says that it is still the same room. A server that was
/// restarted may have given the room's name to another room, which has an agent of its own.
///
/// All methods are for the room's thread. OkHttp's threads only leave work for it.
///
/// Not handled: LiveKit Cloud moving a session to another region or server.
final class Signalling {
    private static final Duration COMING_BACK = Duration.ofSeconds(10);     // for all attempts
    private static final Duration ATTEMPT = Duration.ofSeconds(5);          // for one, with sound
    private static final Duration ASK_AGAIN = Duration.ofMillis(500);
    private static final Duration NO_PING = Duration.ofSeconds(10);         // without a session
    private static final int[] RESUME_AFTER = {0, 300, 1_000};              // ms

    private final Room room;
    private final Worker worker;
    private String url;
    private String token;                                   // the newest that LiveKit has sent
    private String ourSid = "";                             // as a participant

    private Socket socket;                                  // null while there is none
    private boolean inSession;                              // the server takes requests
    private final List<SignalRequest> unsent = new ArrayList<>();
    private long pingEvery;                                 // ns
    private long nextPing;                                  // ns

    private long backBy;                                    // ns; 0: the connection is not lost
    private int resumesTried;                               // since the connection was lost
    private boolean rejoining;
    private boolean everRejoined;

    Signalling(Room room, Worker worker) {
        this.room = room;
        this.worker = worker;
    }

    /// Writes and reads the messages of a join once. Otherwise the first call would wait while
    /// protobuf builds its descriptions of the messages (30 ms). Any thread.
    static void warmUp() {
        try {
            SignalRequest.parseFrom(SignalRequest.newBuilder().setOffer(
                    SessionDescription.newBuilder().setType("offer")).build().toByteArray());
            SignalResponse.parseFrom(SignalResponse.newBuilder().setJoin(
                    JoinResponse.newBuilder().addOtherParticipants(ParticipantInfo.newBuilder()
                            .putAttributes("", "").addTracks(TrackInfo.getDefaultInstance())))
                    .build().toByteArray());
        } catch (IOException e) {
            throw new AssertionError(e); // it cannot read what it has just written
        }
    }

    // The socket.

    /// Joins the room: opens the first socket. `token` is the job's.
    void join(String url, String token) {
        this.url = url;
        this.token = token;
        open(false);
    }

    /// Throws an IllegalArgumentException for a bad address or token. There is no socket then.
    private void open(boolean resume) {
        String address = url + "/rtc?protocol=15&sdk=java&auto_subscribe=0"
                + (resume ? "&reconnect=1&reconnect_reason=1&sid=" + ourSid : "");
        var opened = new Socket();
        opened.webSocket = worker.http.newWebSocket(new Request.Builder().url(address)
                .header("Authorization", "Bearer " + token).build(), opened);
        socket = opened;
        room.workAfter(ATTEMPT, () -> {
            if (backBy != 0 && socket == opened) {
                comeBack(inSession ? "no sound comes through" : "it does not answer", inSession);
            }
        });
    }

    /// One socket to the room. What comes on it is dropped once there is a newer one.
    private final class Socket extends WebSocketListener {
        WebSocket webSocket;

        void send(SignalRequest.Builder request) {
            webSocket.send(ByteString.of(request.build().toByteArray()));
        }

        private void work(Runnable what) {
            room.work(() -> {
                if (socket == this) {
                    what.run();
                }
            });
        }

        @Override
        public void onMessage(WebSocket webSocket, ByteString bytes) {
            SignalResponse message;
            try {
                message = SignalResponse.parseFrom(bytes.asByteBuffer());
            } catch (IOException e) {
                Log.log(room.id(), "unreadable message in the room: " + Log.reason(e));
                return;
            }
            work(() -> {
                try {
                    take(message);
                } catch (IOException e) {
                    room.lost(message.getMessageCase() + " from the room: " + Log.reason(e));
                }
            });
        }

        // The end of the socket goes through the queue too. So a `leave` message that came before
        // the end is also read before it.

        @Override
        public void onClosing(WebSocket webSocket, int code, String reason) {
            work(() -> comeBack("closed by the server (" + code + ")", false));
        }

        @Override
        public void onFailure(WebSocket webSocket, Throwable thrown, Response response) {
            int status = response == null || response.code() == 101 ? 0 : response.code();
            work(() -> comeBack(status == 0 ? Log.reason(thrown) : "HTTP " + status, status != 0));
        }
    }

    /// Does the server take requests now? If not, `send` keeps them.
    boolean inSession() {
        return inSession;
    }

    /// Sends a request, or keeps it until the connection is back.
    void send(SignalRequest.Builder request) {
        if (inSession) {
            socket.send(request);
        } else {
            unsent.add(request.build());
        }
    }

    /// Sends a request that belongs to these peer connections. It is dropped when the room has
    /// newer ones by now, or no socket.
    void send(Peers from, SignalRequest.Builder request) {
        if (from == room.peers() && socket != null) {
            socket.send(request);
        }
    }

    /// Tells the server that we leave, if there is a socket.
    void leave() {
        if (socket != null) {
            socket.send(SignalRequest.newBuilder().setLeave(LeaveRequest.newBuilder()
                    .setReason(DisconnectReason.CLIENT_INITIATED)
                    .setAction(LeaveRequest.Action.DISCONNECT)));
        }
    }

    void close() {
        if (socket != null) {
            socket.webSocket.close(1000, null);
        }
    }

    /// How long the room's thread may wait for work before it calls `ping`, in ns.
    long untilPing() {
        return inSession ? nextPing - System.nanoTime() : NO_PING.toNanos();
    }

    /// Sends the ping that LiveKit expects of its clients. It does not find out whether the socket
    /// is dead: OkHttp's own pings do.
    void ping() {
        if (inSession) {
            nextPing += pingEvery;
            send(SignalRequest.newBuilder()
                    .setPingReq(Ping.newBuilder().setTimestamp(System.currentTimeMillis())));
        }
    }

    // What the room tells us.

    private void take(SignalResponse message) throws IOException {
        Peers peers = room.peers();
        boolean joined = peers != null && !peers.closed;
        if (!message.hasLeave() && joined == message.hasJoin()) {
            Log.log(room.id(), message.getMessageCase() + " from the room, out of turn");
            return;
        }
        switch (message.getMessageCase()) {
            case JOIN -> joined(message.getJoin());
            case RECONNECT -> {
                if (!inSession) {
                    resumed(message.getReconnect());
                }
            }
            case OFFER -> peers.takeOffer(message.getOffer());
            case ANSWER -> {
                if (peers.takeAnswer(message.getAnswer())) {
                    // The Speaker must not start earlier: setting the answer adds a listener to the
                    // sound's source, whose list of listeners has no lock.
                    room.speaker().start();
                }
            }
            case TRICKLE -> {
                try {
                    peers.takeCandidate(message.getTrickle());
                } catch (RuntimeException e) {
                    Log.log(room.id(), "an unreadable candidate in the room: " + Log.reason(e));
                }
            }
            case UPDATE -> room.caller().update(
                    message.getUpdate().getParticipantsList(), ourSid);
            case TRACK_PUBLISHED -> room.published(message.getTrackPublished().getTrack());
            case TRACK_SUBSCRIBED -> {
                String subscribed = message.getTrackSubscribed().getTrackSid();
                if (subscribed.equals(room.ourTrack().getSid())) {
                    room.caller().trackSubscribed();
                }
            }
            case REFRESH_TOKEN -> token = message.getRefreshToken();
            case REQUEST_RESPONSE -> requestAnswered(message.getRequestResponse());
            case LEAVE -> {
                LeaveRequest leave = message.getLeave();
                switch (leave.getAction()) {
                    case RESUME -> comeBack("" + leave.getReason(), false);
                    case RECONNECT -> comeBack("" + leave.getReason(), true);
                    default -> left(leave.getReason());
                }
            }
            default -> { } // who speaks, how good the line is, pongs: a phone call needs none
        }
    }

    /// We are out of the room for good.
    private void left(DisconnectReason why) {
        if (why == DisconnectReason.PARTICIPANT_REMOVED) {
            room.takenOut("LiveKit has taken us out of the room");
        } else {
            room.lost("the room ended: " + why);
        }
    }

    private void joined(JoinResponse join) throws IOException {
        ourSid = join.getParticipant().getSid();
        pingEvery = TimeUnit.SECONDS.toNanos(Math.max(1, join.getPingInterval()));
        sessionBegins();
        if (rejoining) {
            everRejoined = true;
        }
        room.joined(join, rejoining);
    }

    /// The server takes requests from now on.
    private void sessionBegins() {
        inSession = true;
        nextPing = System.nanoTime() + pingEvery;
        unsent.forEach(request -> socket.send(request.toBuilder()));
        unsent.clear();
    }

    private void requestAnswered(RequestResponse response) {
        switch (response.getReason()) {
            case OK, QUEUED -> { }
            default -> {
                Log.log(room.id(), "the room refuses a request: " + response.getReason());
                if (response.hasAddTrack()) {
                    room.lost("our sound is refused: " + response.getReason());
                }
            }
        }
    }

    // Coming back.

    /// Is this the session that the call began with, and is its connection not lost?
    boolean firstSessionStands() {
        return backBy == 0 && !everRejoined;
    }

    /// The connection is lost, or an attempt to come back has failed. Begins the next attempt, or
    /// gives the room up. `rejoin` means that there is no session left to resume.
    private void comeBack(String why, boolean rejoin) {
        if (room.ended()) {
            return;
        }
        if (room.joining() || rejoining) {
            room.lost("the room does not take us: " + why);
            return;
        }
        if (socket != null) {
            socket.webSocket.cancel();
            socket = null;
        }
        inSession = false;
        long now = System.nanoTime();
        if (backBy == 0) {
            backBy = now + COMING_BACK.toNanos();
            resumesTried = 0;
            Log.log(room.id(), "the room's connection is lost, coming back: " + why);
        } else if (now >= backBy) {
            room.lost("the room's connection is lost: " + why);
            return;
        }
        // A resumed session must name our track. While the track is being published, LiveKit has
        // not told us its name yet.
        boolean resumable = !room.peers().publishing() || !room.ourTrack().getSid().isEmpty();
        if (!rejoin && resumable && resumesTried < RESUME_AFTER.length) {
            room.workAfter(Duration.ofMillis(RESUME_AFTER[resumesTried++]), () -> {
                if (!room.ended() && socket == null) {
                    open(true);
                }
            });
            return;
        }
        Thread.ofVirtual().name("room " + room.id() + " still there?").start(() -> {
            Boolean there = worker.rooms().isThere(room.room(), room.roomSid());
            room.work(() -> rejoin(there));
        });
    }

    /// `there` is whether the room is still the same one, or null when LiveKit does not say.
    private void rejoin(Boolean there) {
        if (room.ended()) {
            return;
        }
        if (there == null) {
            room.workAfter(ASK_AGAIN, () -> comeBack("LiveKit does not answer", true));
        } else if (!there) {
            room.lost("the room is gone");
        } else {
            Log.log(room.id(), "the connection cannot be resumed, joining the room again");
            rejoining = true;
            room.dropConnections();
            unsent.clear();
            open(false);
        }
    }

    /// The server has kept our session. Before anything else it must be told what we publish and
    /// what we subscribe to: it sends us nothing unasked.
    private void resumed(ReconnectResponse response) throws IOException {
        room.caller().listIsComing();
        room.peers().resume(response.getIceServersList(), room.syncState());
        sessionBegins();
        room.publishIfPickedUp();
        mediaChanged(room.peers(), null);
    }

    /// One of these two peer connections has changed its state. `failed` is null, or names the one
    /// that has found no way through to the server. The room's connection is back when both peer
    /// connections are connected again.
    void mediaChanged(Peers of, SignalTarget failed) {
        if (of != room.peers() || room.ended()) {
            return;
        }
        if (failed != null && backBy == 0) {
            comeBack("no way through to the server's media port (" + failed + ")", false);
        } else if (backBy != 0 && inSession && of.connected()) {
            backBy = 0;
            rejoining = false;
            Log.log(room.id(), "the room's connection is back");
        }
    }
}
