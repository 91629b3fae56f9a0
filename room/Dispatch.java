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

/// Has a running worker call somebody, and tells on standard output what becomes of it. Agent's
/// `call` is all of it; any program that may talk to LiveKit's API can do the same.
///
/// It is not in the room: it asks LiveKit who is, a few times a second. The agent shows how the
/// call went by attributes of its own, for two seconds after the end. Not handled: ending the call
/// (with Ctrl-C only the watching ends).
public final class Dispatch {
    private static final Duration AGENT = Duration.ofSeconds(3);
    private static final Duration NO_WORD = Duration.ofSeconds(15);         // from LiveKit
    private static final int EVERY_MS = 250;

    private final String agentName;
    private final AgentDispatchServiceClient dispatches;
    private final RoomServiceClient rooms;
    private String said = "";

    public Dispatch(String url, String key, String secret, String agentName) {
        this.agentName = agentName;
        String http = url.replaceFirst("^ws", "http") + "/";
        var client = new OkHttpClient.Builder().callTimeout(Duration.ofSeconds(5)).build();
        dispatches = AgentDispatchServiceClient.createClient(http, key, secret, () -> client);
        rooms = RoomServiceClient.createClient(http, key, secret, () -> client);
    }

    /// Dispatches with that metadata and watches until the call is over, at most for the bound.
    /// 0: it was answered. 1: it was not, or LiveKit does not do it. 3: no worker took it.
    public int call(JsonObject metadata, Duration bound) throws InterruptedException {
        String room = "call-" + UUID.randomUUID().toString().substring(0, 8);
        try {
            asked(dispatches.createDispatch(room, agentName, metadata.toString()));
            say("asked " + agentName + " to call, in room " + room);
            long begun = System.nanoTime();
            long heard = begun;
            boolean there = false;
            while (System.nanoTime() - begun < bound.toNanos()) {
                TimeUnit.MILLISECONDS.sleep(EVERY_MS);
                List<ParticipantInfo> now;
                try {
                    now = asked(rooms.listParticipants(room));
                    heard = System.nanoTime();
                } catch (IOException e) {
                    if (System.nanoTime() - heard > NO_WORD.toNanos()) {
                        throw e;
                    }
                    continue; // the call does not depend on our watching
                }
                Optional<ParticipantInfo> agent = with(now, ParticipantInfo.Kind.AGENT);
                if (agent.isPresent()) {
                    there = true;
                    String reason = agent.get().getAttributesOrDefault("call.reason", "");
                    if (!reason.isEmpty()) {
                        return ended(reason, agent.get().getAttributesMap());
                    }
                    say(with(now, ParticipantInfo.Kind.SIP).map(phone -> "the phone: "
                            + phone.getAttributesOrDefault("sip.callStatus", "dialing"))
                            .orElse("the agent is in the room"));
                } else if (there) {
                    System.err.println("the agent has gone and has not said how the call ended");
                    return 1;
                } else if (System.nanoTime() - begun > AGENT.toNanos()) {
                    System.err.println("No agent came: no worker named " + agentName + " is "
                            + "connected there (./run.sh start, or dev), or all are full.");
                    asked(rooms.deleteRoom(room)); // or one that comes later would still call
                    return 3;
                }
            }
            System.err.println("still not over; no longer watching");
        } catch (IOException e) {
            System.err.println("LiveKit does not do it: " + Log.reason(e));
        }
        return 1;
    }

    private int ended(String reason, Map<String, String> attributes) {
        String code = attributes.getOrDefault("call.sip_code", "");
        boolean answered = attributes.getOrDefault("call.answered", "").equals("true");
        say("the call is over: " + reason + (code.isEmpty() ? "" : " (SIP " + code + ")"));
        return answered ? 0 : 1;
    }

    private void say(String what) {
        if (!what.equals(said)) {
            said = what;
            System.out.println(Log.clean(what)); // some of it is other people's
        }
    }

    private static Optional<ParticipantInfo> with(List<ParticipantInfo> all,
            ParticipantInfo.Kind kind) {
        return all.stream().filter(one -> one.getKind() == kind).findFirst();
    }

    private static <T> T asked(Call<T> call) throws IOException {
        Response<T> response;
        try {
            response = call.execute();
        } catch (RuntimeException e) { // the answer is no protobuf
            throw new IOException(e);
        }
        if (response.isSuccessful()) {
            return response.body();
        }
        throw new IOException("HTTP " + response.code() + (response.code() == 401
                ? ": check LIVEKIT_API_KEY and LIVEKIT_API_SECRET" : ""));
    }
}
