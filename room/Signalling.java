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
/// The first join is tried three times. Only the room of our job is joined, and no other one that
/// has its name by now.
///
/// A lost connection is first *resumed*: a new socket takes up the old session, and nothing else
/// changes. When the server refuses that, we *rejoin*: we join the room once more, under the same
/// identity. We do so only if LiveKit says that it is still the same room. A server that was
/// restarted may have given the room's name to another room, which has an agent of its own.
///
/// Sound takes another way than this connection, and LiveKit keeps a session whose sound goes on.
/// So as long as sound goes on, we have more time to come back. We also do not rejoin then, unless
/// LiveKit says that the session is gone: whoever rejoins breaks off the sound.
///
/// All methods are for the room's thread. OkHttp's threads only leave work for it.
///
/// Not handled: LiveKit Cloud moving a session to another region or server.
final class Signalling {
    private static final int[] JOIN_AFTER = {0, 500, 3_000};        // ms, since the first attempt
    private static final Duration COMING_BACK = Duration.ofSeconds(10);     // for all attempts
    private static final Duration WITH_SOUND = Duration.ofSeconds(60);      // the same
    private static final Duration ATTEMPT = Duration.ofSeconds(5);          // for one, with sound
    private static final Duration ASK_AGAIN = Duration.ofMillis(500);
    private static final Duration NO_PING = Duration.ofSeconds(10);         // without a session
    private static final int[] RESUME_AFTER = {0, 300, 1_000};              // ms
    private static final Duration RESUME_LATER = Duration.ofSeconds(2);
    private static final String NOT_TAKEN = "the room does not take us: ";
    // With one of these reasons, LiveKit does not let us in if we ask again.
    private static final Set<DisconnectReason> FOR_GOOD = EnumSet.of(
            DisconnectReason.CLIENT_INITIATED, DisconnectReason.DUPLICATE_IDENTITY,
            DisconnectReason.PARTICIPANT_REMOVED, DisconnectReason.ROOM_DELETED,
            DisconnectReason.ROOM_CLOSED);

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

    private long joinBegan;                                 // ns
    private int joins;                                      // that were tried, rejoins too
    private int unanswered;                                 // of them, and then given up

    private long lostAt;                                    // ns
    private long backBy;                                    // ns; 0: the connection is not lost
    private boolean sound;                                  // goes on meanwhile
    private String lostBecause;
    private long backSince;                                 // ns
    private int resumesTried;                               // since the connection was lost
    private boolean rejoining;

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
        joinBegan = System.nanoTime();
        open(false);
    }

    /// Throws an IllegalArgumentException for a bad address or token. There is no socket then.
    private void open(boolean resume) {
        String address = url + "/rtc?protocol=15&sdk=java&auto_subscribe=0"
                + (resume ? "&reconnect=1&reconnect_reason=1&sid=" + ourSid : "");
        joins += resume ? 0 : 1;
        var opened = new Socket();
        opened.webSocket = worker.http.newWebSocket(new Request.Builder().url(address)
                .header("Authorization", "Bearer " + token).build(), opened);
        socket = opened;
        // The second attempt of the first join has half of that time, and the third has the rest.
        room.workAfter(ATTEMPT.dividedBy(room.joining() ? joins : 1), () -> {
            boolean waits = room.joining() ? joins < JOIN_AFTER.length : backBy != 0;
            if (waits && socket == opened) {
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
            work(() -> {
                if (room.joining() && (status == 401 || status == 403)) {
                    room.lost(NOT_TAKEN + "HTTP " + status);    // nor will it take this token later
                } else {
                    comeBack(status == 0 ? Log.reason(thrown) : "HTTP " + status,
                            status == 403 || status == 404);
                }
            });
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

    /// LiveKit does not let us in, or has ended our session.
    private void left(DisconnectReason why) {
        if (why == DisconnectReason.DUPLICATE_IDENTITY && unanswered > 0) {
            unanswered--;   // an attempt that we had given up has come to LiveKit after all
            comeBack("an older attempt to join has replaced it", true);
        } else if (joinIsUnderWay() && !FOR_GOOD.contains(why)) {
            comeBack("" + why, false);
        } else if (why == DisconnectReason.PARTICIPANT_REMOVED) {
            room.takenOut("LiveKit has taken us out of the room");
        } else if (why == DisconnectReason.ROOM_CLOSED) {
            room.closed("the room ended: " + why);
        } else {
            room.lost("the room ended: " + why);
        }
    }

    private boolean joinIsUnderWay() {
        return !inSession && (room.joining() || rejoining);
    }

    private void joined(JoinResponse join) throws IOException {
        String sid = join.getRoom().getSid();               // LiveKit may not know it yet
        if (!sid.isBlank() && !room.roomSid().isBlank() && !sid.equals(room.roomSid())) {
            leave();
            close();
            socket = null;
            room.lost("another room has the name of the call's room by now");
            return;
        }
        ourSid = join.getParticipant().getSid();
        pingEvery = TimeUnit.SECONDS.toNanos(Math.max(1, join.getPingInterval()));
        sessionBegins();
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

    /// Is this the only session that LiveKit can have of us, and is its connection not lost?
    boolean firstSessionStands() {
        return joins == 1 && (backBy == 0 || room.peers().connected());
    }

    /// The connection is lost, or an attempt to come back or to join has failed. Begins the next
    /// attempt, or gives the room up. `gone` means that there is no session left to resume.
    private void comeBack(String why, boolean gone) {
        if (room.ended()) {
            return;
        }
        if (socket != null) {
            socket.webSocket.cancel();
            socket = null;
            unanswered += joinIsUnderWay() ? 1 : 0;
        }
        inSession = false;
        if (room.joining()) {
            joinAgain(why, gone);
            return;
        }
        lostBecause = why;
        if (backBy == 0) {
            lostAt = System.nanoTime();
            // A server that resumes the session again and again, and then drops it, is asked less
            // often, too.
            resumesTried = lostAt - backSince < ATTEMPT.toNanos() ? resumesTried : 0;
            Log.log(room.id(), "the room's connection is lost, coming back: " + why);
        }
        setBound();
        // A resumed session must name our track. While the track is being published, LiveKit has
        // not told us its name yet.
        boolean resumable = !room.peers().publishing() || !room.ourTrack().getSid().isEmpty();
        if (gone || rejoining || !resumable) {
            ask(rejoining ? ASK_AGAIN : Duration.ZERO, true);
        } else if (resumesTried < RESUME_AFTER.length || sound) {
            Duration pause = resumesTried < RESUME_AFTER.length
                    ? Duration.ofMillis(RESUME_AFTER[resumesTried]) : RESUME_LATER;
            resumesTried++;
            room.workAfter(pause, () -> {
                if (!room.ended() && socket == null) {
                    open(true);
                }
            });
        } else {
            ask(Duration.ZERO, false);
        }
    }

    /// The first join has failed. Tries it again, or gives the room up.
    private void joinAgain(String why, boolean gone) {
        if (joins == JOIN_AFTER.length) {
            room.lost(NOT_TAKEN + why);
            return;
        }
        Log.log(room.id(), "the room does not take us, trying again: " + why);
        Duration pause = Duration.ofNanos(Math.max(0,
                joinBegan + JOIN_AFTER[joins] * 1_000_000L - System.nanoTime()));
        if (gone) {
            ask(pause, true);
        } else {
            room.workAfter(pause, () -> rejoin(null, true));
        }
    }

    /// Asks LiveKit whether the room is still the same one, and then goes on with `rejoin`.
    private void ask(Duration pause, boolean gone) {
        room.workAfter(pause, () ->
                Thread.ofVirtual().name("room " + room.id() + " still there?").start(() -> {
                    Boolean there = worker.rooms().isThere(room.room(), room.roomSid());
                    room.work(() -> rejoin(there, gone));
                }));
    }

    /// `there` is whether the room is still the same one, or null when LiveKit does not say.
    private void rejoin(Boolean there, boolean gone) {
        if (room.ended()) {
            return;
        }
        if (there != null && !there) {
            room.lost("the room is gone");
        } else if (room.joining()) {
            open(false);
        } else if (!gone && room.peers().connected()) {
            comeBack(lostBecause, false);
        } else if (there == null) {
            lostBecause = "LiveKit does not answer";
            ask(ASK_AGAIN, gone);
        } else {
            Log.log(room.id(), "the connection cannot be resumed, joining the room again");
            rejoining = true;
            room.dropConnections();
            setBound();
            unsent.clear();
            open(false);
        }
    }

    /// Sets how long we may still try to come back. Without sound, the time counts from when the
    /// sound was lost.
    private void setBound() {
        boolean goesOn = room.peers().connected();
        if (backBy == 0 || goesOn != sound) {
            long now = System.nanoTime();
            long by = goesOn ? lostAt + WITH_SOUND.toNanos() : now + COMING_BACK.toNanos();
            sound = goesOn;
            backBy = by;
            room.workAfter(Duration.ofNanos(by - now), () -> {
                if (backBy == by) {
                    room.lost("the room's connection is lost: " + lostBecause);
                }
            });
        }
    }

    /// The server has kept our session. Before anything else it must be told what we publish and
    /// what we subscribe to: it sends us nothing unasked.
    private void resumed(ReconnectResponse response) throws IOException {
        room.caller().listIsComing();
        room.peers().resume(response.getIceServersList(), room.syncState());
        sessionBegins();
        room.publishIfPickedUp();
        room.show(Map.of());        // what we sent last may have been lost with the connection
        mediaChanged(room.peers(), null);
    }

    /// One of these two peer connections has changed its state. `failed` is null, or names the one
    /// that has found no way through to the server. The room's connection is back when both peer
    /// connections are connected again.
    void mediaChanged(Peers of, SignalTarget failed) {
        if (of != room.peers() || room.ended()) {
            return;
        }
        if (backBy == 0) {
            if (failed != null) {
                comeBack("no way through to the server's media port (" + failed + ")", false);
            }
        } else if (inSession && of.connected()) {
            backBy = 0;
            backSince = System.nanoTime();
            rejoining = false;
            Log.log(room.id(), "the room's connection is back");
        } else {
            setBound();
        }
    }
}
