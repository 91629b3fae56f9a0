package room;

import module java.base;
import io.livekit.server.CreateSipParticipantOptions;
import io.livekit.server.SipServiceClient;
import io.livekit.server.TransferSipParticipantOptions;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import okhttp3.ConnectionPool;
import okhttp3.OkHttpClient;
import retrofit2.Call;
import retrofit2.Response;
import voice.Event;
import voice.Log;

/// The two things that LiveKit's SIP service does for a call: dial a number into the room, and
/// transfer who is in it (REFER). Room asks for them; what became of it comes as an event.
///
/// Each is asked for once and never again: a phone that rings twice, or a caller who is put
/// through twice, is worse than a failure. So the HTTP client here must not repeat anything, and
/// OkHttp of itself repeats whatever is answered with 408, which is how LiveKit says that it does
/// not know the outcome.
///
/// Not handled: keys to dial after the answer, headers, choosing the number that is shown.
final class Sip {
    // LiveKit's own bounds are 30 s for a transfer and 80 s for a number to be dialled and
    // answered (livekit-server's sip.go); ours must not end before.
    private static final Duration TRANSFER = Duration.ofSeconds(45);
    private static final Duration DIAL = Duration.ofSeconds(95);
    private static final int MOST_ERROR = 10_000;           // bytes of an error that are read

    private final SipServiceClient transferring;
    private final SipServiceClient dialling;

    /// `http` is where LiveKit's API is, with a slash at its end.
    Sip(OkHttpClient client, String http, String key, String secret) {
        transferring = service(client, TRANSFER, http, key, secret);
        dialling = service(client, DIAL, http, key, secret);
    }

    private static SipServiceClient service(OkHttpClient client, Duration bound, String http,
            String key, String secret) {
        // No connection is kept for the next request: one that the server has closed meanwhile
        // would fail it, and there is no second try.
        var once = client.newBuilder().callTimeout(bound).readTimeout(bound)
                .retryOnConnectionFailure(false)
                .connectionPool(new ConnectionPool(0, 1, TimeUnit.SECONDS)).build();
        return SipServiceClient.createClient(http, key, secret, () -> once);
    }

    /// Sends the participant, who must be a phone, to a `tel:` or `sip:` address. Blocks until the
    /// phone has gone there or refused, 45 s at most; null is success. While it is being tried the
    /// caller hears ringing, and hears us again if it fails.
    Event.Refusal transfer(String room, String identity, String to) {
        return outcome(transferring.transferSipParticipant(
                room, identity, to, new TransferSipParticipantOptions(true)));
    }

    /// Dials. Blocks until it is answered, 95 s at most; null is success. The participant is in
    /// the room meanwhile, under that identity.
    Event.Refusal dial(String room, String identity, String trunk, String number) {
        var options = new CreateSipParticipantOptions(
                identity, "Phone " + number, null, null, null, null, null, true);
        return outcome(dialling.createSipParticipant(trunk, number, room, options));
    }

    private static Event.Refusal outcome(Call<?> call) {
        try {
            Response<?> response = call.execute();
            if (response.isSuccessful()) {
                return null;
            }
            try (var error = response.errorBody()) {
                return refusal(response.code(), error == null ? ""
                        : error.source().request(MOST_ERROR) ? "" : error.string());
            }
        } catch (ConnectException | UnknownHostException e) {
            return new Event.Refusal(503, 0, Log.reason(e)); // nothing was asked for
        } catch (IOException | RuntimeException e) {
            return new Event.Refusal(0, 0, Log.reason(e));
        }
    }

    /// Twirp's errors are {"code":..,"msg":..,"meta":{"sip_status_code":..,"sip_status":..}}, and
    /// `meta` is there when SIP had something to say.
    private static Event.Refusal refusal(int http, String body) {
        try (var reader = Json.createReader(new StringReader(body))) {
            JsonObject error = reader.readObject();
            JsonObject meta = error.containsKey("meta")
                    ? error.getJsonObject("meta") : JsonObject.EMPTY_JSON_OBJECT;
            String code = meta.getString("sip_status_code", "");
            if (code.matches("[1-6][0-9]{2}")) {
                return new Event.Refusal(
                        http, Integer.parseInt(code), meta.getString("sip_status", ""));
            }
            return new Event.Refusal(http, 0, error.getString("msg", error.getString("code", "")));
        } catch (RuntimeException e) { // not JSON, or not of that form
            return new Event.Refusal(http, 0, "no reason is given");
        }
    }
}
