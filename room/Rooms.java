package room;

import module java.base;
import io.livekit.server.RoomServiceClient;
import okhttp3.OkHttpClient;
import retrofit2.Call;
import voice.Log;

/// What [LiveKit's room API](https://docs.livekit.io/intro/basics/rooms-participants-tracks/rooms/)
/// does for a call: it deletes the call's room, it says whether the room still exists, and it
/// removes one participant. Room asks for the first and for the third, and Signalling for the
/// second. The program asks for the first when it finds a call in which an earlier process has
/// died.
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

    /// `api` is the address of LiveKit's API, with a slash at its end.
    Rooms(OkHttpClient http, String api, String key, String secret) {
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
        return done(callId, room, sid, sure, "the room could not be deleted",
                () -> service.deleteRoom(room));
    }

    /// Takes one participant out of the room, which hangs up a phone. The rest is as in `delete`.
    /// An `identity` of "" is nobody's.
    CompletableFuture<Void> remove(
            String callId, String room, String sid, boolean sure, String identity) {
        return identity.isEmpty() ? CompletableFuture.completedFuture(null)
                : done(callId, room, sid, sure, "the caller could not be hung up",
                        () -> service.removeParticipant(room, identity));
    }

    private CompletableFuture<Void> done(String callId, String room, String sid, boolean sure,
            String otherwise, Supplier<Call<Void>> request) {
        var result = new CompletableFuture<Void>();
        Thread.ofVirtual().name("hang up " + callId).start(() -> {
            boolean done = done(callId, room, sid, sure, otherwise, request.get());
            for (long ms = FIRST_PAUSE; !done && ms <= LAST_PAUSE; ms *= 2) {
                LockSupport.parkNanos(ms * 1_000_000);
                done = done(callId, room, sid, false, otherwise, request.get());
            }
            if (done) {
                result.complete(null);
            } else {
                result.completeExceptionally(new IOException(otherwise));
            }
        });
        return result;
    }

    /// One attempt. Blocks, 4 s at most. Returns whether it has worked, or the room is gone.
    private boolean done(String callId, String room, String sid, boolean sure, String otherwise,
            Call<Void> request) {
        try {
            if (!sure) {
                Boolean there = isThere(room, sid);
                if (there == null || !there) {
                    return there != null;
                }
            }
            int status = request.execute().code();
            if (status < 300 || status == 404) { // 404: somebody else has done it
                return true;
            }
            Log.log(callId, otherwise + ": HTTP " + status);
        } catch (IOException | RuntimeException e) { // RuntimeException: a reply of no protobuf
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
