package room;

import module java.base;
import io.livekit.server.AgentDispatchServiceClient;
import io.livekit.server.RoomServiceClient;
import jakarta.json.JsonObject;
import livekit.LivekitModels.ParticipantInfo;
import okhttp3.OkHttpClient;
import retrofit2.Call;
import retrofit2.Response;
import voice.Log;

/// Asks a running worker to call somebody, and prints on standard output what becomes of it.
/// start.Start makes a Dispatch for the command `call`. Any other program that may use LiveKit's
/// API can do the same: it only needs to create an [agent
/// dispatch](https://docs.livekit.io/agents/server/agent-dispatch/).
///
/// This class does not join the room. Four times a second it asks LiveKit who is in the room. The
/// agent shows how the call went in attributes of its own participant, for two seconds after the
/// end.
///
/// Not handled: ending the call. After Ctrl-C the call goes on, and nobody watches it.
public final class Dispatch {
    private static final Duration AGENT = Duration.ofSeconds(3);            // until it has come
    private static final Duration NO_REPLY = Duration.ofSeconds(15);        // of LiveKit
    private static final int EVERY_MS = 250;

    private final String agentName;
    private final AgentDispatchServiceClient dispatches;
    private final RoomServiceClient rooms;
    private String printed = "";                            // what was printed last

    /// LiveKit has said no.
    private static final class Refused extends IOException {
        private static final long serialVersionUID = 1;

        Refused(String why) {
            super(why);
        }
    }

    public Dispatch(String url, String key, String secret, String agentName) {
        this.agentName = agentName;
        String http = url.replaceFirst("^ws", "http") + "/";
        // If there is no connection in time, nothing was sent.
        var client = new OkHttpClient.Builder().callTimeout(Duration.ofSeconds(5))
                .connectTimeout(Duration.ofSeconds(4)).build();
        // To dispatch twice would be to call twice.
        var once = Sip.once(client.newBuilder()).build();
        dispatches = AgentDispatchServiceClient.createClient(http, key, secret, () -> once);
        rooms = RoomServiceClient.createClient(http, key, secret, () -> client);
    }

    /// Dispatches an agent with this metadata, and watches until the call is over, `bound` at most.
    /// Returns the exit status: 0 when the phone was answered, 3 when no worker has taken the call,
    /// and 1 otherwise.
    public int call(JsonObject metadata, Duration bound) throws InterruptedException {
        String room = "call-" + UUID.randomUUID().toString().substring(0, 8);
        try {
            reply(dispatches.createDispatch(room, agentName, metadata.toString()));
        } catch (IOException e) {
            return notDone(room, e);
        }
        try {
            print("asked " + agentName + " to call, in room " + room);
            long begun = System.nanoTime();
            long lastReply = begun;
            boolean agentCame = false;
            while (System.nanoTime() - begun < bound.toNanos()) {
                TimeUnit.MILLISECONDS.sleep(EVERY_MS);
                List<ParticipantInfo> now;
                try {
                    now = reply(rooms.listParticipants(room));
                    lastReply = System.nanoTime();
                } catch (IOException e) {
                    if (System.nanoTime() - lastReply > NO_REPLY.toNanos()) {
                        throw e;
                    }
                    continue; // the call goes on, whether we can watch it or not
                }
                Optional<ParticipantInfo> agent = first(now, ParticipantInfo.Kind.AGENT);
                if (agent.isPresent()) {
                    agentCame = true;
                    String reason = agent.get().getAttributesOrDefault("call.reason", "");
                    if (!reason.isEmpty()) {
                        return ended(reason, agent.get().getAttributesMap());
                    }
                    print(first(now, ParticipantInfo.Kind.SIP).map(phone -> "the phone: "
                            + Log.foreign(phone.getAttributesOrDefault(
                                    "sip.callStatus", "dialing")))
                            .orElse("the agent is in the room"));
                } else if (agentCame) {
                    System.err.println("the agent has gone and has not said how the call ended");
                    return 1;
                } else if (System.nanoTime() - begun > AGENT.toNanos()) {
                    System.err.println("No agent came: no worker named " + agentName + " is "
                            + "connected there (./run.sh start, or dev), or all are full.");
                    // If the room stayed, a worker that registers later would still call.
                    delete(room);
                    return 3;
                }
            }
            System.err.println("still not over; no longer watching");
        } catch (IOException e) {
            System.err.println("no longer watching: " + Log.reason(e));
        }
        return 1;
    }

    /// LiveKit does not dispatch an agent. If it has not said so, it may do so all the same. If the
    /// room stayed, the agent would call, and whoever tries again here would call twice.
    private int notDone(String room, IOException why) {
        System.err.println("LiveKit does not do it: " + Log.reason(why));
        if (!(why instanceof Refused || why instanceof ConnectException)) {
            delete(room);
        }
        return 1;
    }

    private void delete(String room) {
        String trouble;
        try {
            int status = rooms.deleteRoom(room).execute().code();
            trouble = status < 300 || status == 404 ? "" : "HTTP " + status;    // 404: it is gone
        } catch (IOException | RuntimeException e) {
            trouble = Log.reason(e);
        }
        if (!trouble.isEmpty()) {
            System.err.println("An agent may still come and call: room " + room
                    + " could not be deleted: " + trouble);
        }
    }

    private int ended(String reason, Map<String, String> attributes) {
        String code = attributes.getOrDefault("call.sip_code", "");
        boolean answered = attributes.getOrDefault("call.answered", "").equals("true");
        print("the call is over: " + Log.foreign(
                reason + (code.isEmpty() ? "" : " (SIP " + code + ")")));
        return answered ? 0 : 1;
    }

    private void print(String what) {
        if (!what.equals(printed)) {
            printed = what;
            System.out.println(Log.clean(what)); // parts of it come from other people
        }
    }

    private static Optional<ParticipantInfo> first(List<ParticipantInfo> all,
            ParticipantInfo.Kind kind) {
        return all.stream().filter(one -> one.getKind() == kind).findFirst();
    }

    /// Sends a request to LiveKit's API. Returns LiveKit's reply, or throws when it refuses.
    private static <T> T reply(Call<T> request) throws IOException {
        Response<T> response;
        try {
            response = request.execute();
        } catch (RuntimeException e) { // the reply is no protobuf
            throw new IOException(e);
        }
        if (response.isSuccessful()) {
            return response.body();
        }
        String status = "HTTP " + response.code();
        throw response.code() >= 500 || response.code() == 408 ? new IOException(status)
                : new Refused(status + (response.code() == 401
                        ? ": check LIVEKIT_API_KEY and LIVEKIT_API_SECRET" : ""));
    }
}
