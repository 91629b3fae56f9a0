package room;

import module java.base;
import io.livekit.server.RoomServiceClient;
import livekit.LivekitModels.ParticipantInfo;
import okhttp3.OkHttpClient;
import retrofit2.Call;
import voice.Log;
import voice.Party;

/// What [LiveKit's room API](https://docs.livekit.io/intro/basics/rooms-participants-tracks/rooms/)
/// does for a call: it deletes the call's room, it says whether the room still exists, and it
/// removes one participant. Room asks for the first and for the third, and Signalling for the
/// second. The program asks for the first when it finds a call in which an earlier process has
/// died. The room then stays if somebody else has the call by now.
///
/// A room's name may be used again as soon as the room is gone. A room's sid never is: so this
/// class compares sids before it does harm.
///
/// Rooms are not created here: LiveKit creates one when it dispatches a call.
public final class Rooms {
    private static final Duration REQUEST = Duration.ofSeconds(2);
    private static final long FIRST_PAUSE = 500;            // ms; each is twice the last one;
    private static final long LAST_PAUSE = 32_000;          // ms; all take 63.5 s together

    private final RoomServiceClient service;
    private final String agentName;

    /// `api` is the address of LiveKit's API, with a slash at its end.
    Rooms(OkHttpClient http, String api, String key, String secret, String agentName) {
        this.agentName = agentName;
        var impatient = http.newBuilder().callTimeout(REQUEST).build();
        service = RoomServiceClient.createClient(api, key, secret, () -> impatient);
    }

    /// Deletes a room. LiveKit then disconnects everybody in it, which hangs up a phone.
    ///
    /// `callId` is for the log. `sure` means: the caller of this method knows that the room of
    /// this name is still the one with this `sid`. Otherwise LiveKit is asked first, because a
    /// room of another call may have the name by now.
    ///
    /// Returns at once. The attempts go on for a minute, on a thread of their own. The future
    /// completes when the room is gone. It fails when the room is still there after that minute.
    public CompletableFuture<Void> delete(String callId, String room, String sid, boolean sure) {
        return untilDone(callId, room, sid, sure, "the room could not be deleted",
                () -> service.deleteRoom(room));
    }

    /// Deletes the room of a call in which our process has died: the caller hears nobody there. But
    /// the room stays if somebody else has the call by now. That is a person who is with the
    /// caller, or another agent of our name. The rest is as in `delete`.
    public CompletableFuture<Void> deleteAbandoned(Party call) {
        return deleteUnless(call.call(), call.room(), call.roomSid(),
                all -> all.stream().filter(Caller::isCompany).count() > 1);
    }

    /// Deletes a room that our agent has left, or is about to leave, unless its participants fulfil
    /// `isTaken`, or another agent of our name is there. The rest is as in `delete`.
    CompletableFuture<Void> deleteUnless(String callId, String room, String sid,
            Predicate<List<ParticipantInfo>> isTaken) {
        return untilDone(callId, room, sid, false, "the room could not be deleted", () -> {
            var all = participants(room);
            if (!isTaken.test(all) && !haveAgent(all, callId)) {
                return service.deleteRoom(room);
            }
            Log.log(callId, "somebody else has the call by now, so its room stays");
            return null;
        });
    }

    /// All who are in the room, also persons whom LiveKit has not named to the agent yet. Blocks, 2
    /// s at most. Throws an IOException when LiveKit does not say.
    List<ParticipantInfo> participants(String room) throws IOException {
        var all = service.listParticipants(room).execute().body();
        if (all == null) {
            throw new IOException("LiveKit does not say who is in the room");
        }
        return all;
    }

    /// Is another agent of our name among them? LiveKit keeps an agent that has died in the room,
    /// for some 15 s.
    boolean haveAgent(List<ParticipantInfo> all, String callId) {
        return all.stream().anyMatch(one -> one.getKind() == ParticipantInfo.Kind.AGENT
                && !one.getIdentity().equals("agent-" + callId)
                && one.getAttributesOrDefault("lk.agent.name", "").equals(agentName));
    }

    /// Takes one participant out of the room, which hangs up a phone. The rest is as in `delete`.
    /// An `identity` of "" is nobody's.
    CompletableFuture<Void> remove(
            String callId, String room, String sid, boolean sure, String identity) {
        return identity.isEmpty() ? CompletableFuture.completedFuture(null)
                : untilDone(callId, room, sid, sure, "the caller could not be hung up",
                        () -> service.removeParticipant(room, identity));
    }

    /// Tries `request` until it has worked, or there is nothing to do because it returns null.
    private CompletableFuture<Void> untilDone(String callId, String room, String sid,
            boolean sure, String otherwise, Callable<Call<Void>> request) {
        var result = new CompletableFuture<Void>();
        Thread.ofVirtual().name("hang up " + callId).start(() -> {
            boolean done = done(callId, room, sid, sure, otherwise, request);
            for (long ms = FIRST_PAUSE; !done && ms <= LAST_PAUSE; ms *= 2) {
                LockSupport.parkNanos(ms * 1_000_000);
                done = done(callId, room, sid, false, otherwise, request);
            }
            if (done) {
                result.complete(null);
            } else {
                result.completeExceptionally(new IOException(otherwise));
            }
        });
        return result;
    }

    /// One attempt. Blocks, 6 s at most. Returns whether nothing is left to do.
    private boolean done(String callId, String room, String sid, boolean sure, String otherwise,
            Callable<Call<Void>> request) {
        try {
            if (!sure) {
                Boolean there = isThere(room, sid);
                if (there == null || !there) {
                    return there != null;
                }
            }
            Call<Void> call = request.call();
            int status = call == null ? 204 : call.execute().code();
            if (status < 300 || status == 404) { // 404: somebody else has done it
                return true;
            }
            Log.log(callId, otherwise + ": HTTP " + status);
        } catch (Exception e) { // a RuntimeException, too: a reply that is no protobuf
            Log.log(callId, otherwise + ": " + Log.reason(e));
        }
        return false;
    }

    /// Returns whether the room of this name is the one with this `sid`, or null when LiveKit does
    /// not say. Blocks, 2 s at most.
    Boolean isThere(String room, String sid) {
        try {
            var rooms = service.listRooms(List.of(room)).execute().body();
            return rooms == null ? null : rooms.stream().anyMatch(one -> one.getSid().equals(sid));
        } catch (IOException | RuntimeException e) {
            return null;
        }
    }
}
