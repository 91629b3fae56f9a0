package room;

import module java.base;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.UnknownFieldSet;
import io.livekit.server.CreateSipParticipantOptions;
import io.livekit.server.SipServiceClient;
import io.livekit.server.TransferSipParticipantOptions;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import livekit.LivekitSip.SIPStatus;
import livekit.LivekitSip.SIPTransferStatus;
import okhttp3.ConnectionPool;
import okhttp3.Interceptor;
import okhttp3.OkHttpClient;
import retrofit2.Call;
import retrofit2.Response;
import voice.Event;
import voice.Log;

/// The two things that LiveKit's
/// [SIP service](https://docs.livekit.io/reference/telephony/sip-api/) does for a call: it
/// [dials](https://docs.livekit.io/telephony/making-calls/outbound-calls/) a number into the room,
/// and it [transfers](https://docs.livekit.io/telephony/features/transfers/cold/) a phone to
/// another number, by SIP's REFER. Room asks for both, and posts the outcome to the call's mailbox.
///
/// Each request is sent once and never again. A phone that rings twice, or a caller who is
/// transferred twice, is worse than a failure. So the HTTP client here must not repeat anything
/// (`once`).
///
/// Not handled: keys to dial after the answer, SIP headers, choosing the number that is shown.
final class Sip {
    // LiveKit gives up a transfer after 30 s, and a dialled number that nobody answers after 80 s
    // (livekit-server's sip.go). Our own bounds must be longer.
    private static final Duration TRANSFER = Duration.ofSeconds(45);
    private static final Duration DIAL = Duration.ofSeconds(95);
    private static final int MOST_ERROR = 10_000;           // bytes; a longer one is not read

    private final SipServiceClient transferring;
    private final SipServiceClient dialling;

    /// `api` is the address of LiveKit's API, with a slash at its end.
    Sip(OkHttpClient http, String api, String key, String secret) {
        var reading = http.newBuilder().addInterceptor(Sip::readOutcome).build();
        transferring = service(reading, TRANSFER, api, key, secret);
        dialling = service(http, DIAL, api, key, secret);
    }

    private static SipServiceClient service(OkHttpClient http, Duration bound, String api,
            String key, String secret) {
        var once = once(http.newBuilder()).callTimeout(bound).readTimeout(bound).build();
        return SipServiceClient.createClient(api, key, secret, () -> once);
    }

    /// A client that sends each request once. By default, OkHttp sends it again after status 408,
    /// which LiveKit sends when it does not know the outcome. It also does so after a redirect, and
    /// after status 503 with `Retry-After: 0`.
    static OkHttpClient.Builder once(OkHttpClient.Builder http) {
        // No connection is kept for the next request. The server may close a kept connection, and
        // then the next request would fail, for which there is no second try.
        return http.retryOnConnectionFailure(false).followRedirects(false)
                .connectionPool(new ConnectionPool(0, 1, TimeUnit.SECONDS))
                .addInterceptor(Sip::sayIfNotSent)
                .addNetworkInterceptor(request -> {
                    request.request().tag(AtomicBoolean.class).set(true);
                    return request.proceed(request.request()).newBuilder()
                            .removeHeader("Retry-After").build();
                });
    }

    /// Fails with a ConnectException if the request was not sent. OkHttp calls the network
    /// interceptor when the connection stands.
    private static okhttp3.Response sayIfNotSent(Interceptor.Chain request) throws IOException {
        var sent = new AtomicBoolean();
        try {
            return request.proceed(request.request().newBuilder()
                    .tag(AtomicBoolean.class, sent).build());
        } catch (IOException e) {
            throw sent.get() || e instanceof ConnectException ? e
                    : new ConnectException(Log.reason(e));
        }
    }

    /// Transfers the participant, which must be a phone, to a `tel:` or `sip:` address. Blocks
    /// until the phone has gone there or LiveKit reports a failure, 45 s at most. Returns null for
    /// success. Until then the caller hears ringing. After a failure the caller hears us again.
    Event.Refusal transfer(String room, String identity, String to) {
        return outcome(transferring.transferSipParticipant(
                room, identity, to, new TransferSipParticipantOptions(true)));
    }

    /// Dials a number. Blocks until the phone is answered or LiveKit reports a failure, 95 s at
    /// most. Returns null for success. The phone is a participant of the room, under this identity,
    /// as soon as it is dialled.
    Event.Refusal dial(String room, String identity, String trunk, String number) {
        var options = new CreateSipParticipantOptions(
                identity, "Phone " + number, null, null, null, null, null, true);
        return outcome(dialling.createSipParticipant(trunk, number, room, options));
    }

    private static Event.Refusal outcome(Call<?> call) {
        try {
            Response<?> response = call.execute();
            if (response.isSuccessful()) {
                return response.raw().request().tag(Event.Refusal.class); // from `readOutcome`
            }
            if (List.of(502, 504).contains(response.code())) {
                return new Event.Refusal(0, 0, "a gateway answers HTTP " + response.code());
            }
            try (var error = response.errorBody()) {
                return refusal(response.code(), error == null ? ""
                        : error.source().request(MOST_ERROR) ? "" : error.string());
            }
        } catch (ConnectException e) {
            return new Event.Refusal(503, 0, Log.reason(e)); // the request was not sent
        } catch (IOException | RuntimeException e) {
            return new Event.Refusal(0, 0, Log.reason(e));
        }
    }

    /// Reads what the SDK throws away: newer servers say with a 200 how a transfer has ended. If it
    /// has not worked, the answer's request is tagged with the refusal.
    private static okhttp3.Response readOutcome(Interceptor.Chain request) throws IOException {
        var answer = request.proceed(request.request());
        var refusal = answer.isSuccessful()
                ? refusal(answer.code(), answer.peekBody(MOST_ERROR).bytes()) : null;
        return answer.newBuilder().request(answer.request().newBuilder()
                .tag(Event.Refusal.class, refusal).build()).build();
    }

    /// The body of such a 200 is a TransferSIPParticipantResponse: see livekit_sip.proto in
    /// [livekit/protocol](https://github.com/livekit/protocol). The SDK does not have that message
    /// yet, so its fields are read by their numbers. Returns null for success. An older server says
    /// nothing, and that means success, too.
    ///
    /// Nobody knows the outcome if the body cannot be read, or says neither "successful" nor
    /// "failed". If we took that for a success that it is not, we would hang up on the caller.
    private static Event.Refusal refusal(int http, byte[] body) {
        try {
            var answer = UnknownFieldSet.parseFrom(body);
            int status = number(answer, 2);
            if (body.length == 0 || status == SIPTransferStatus.STS_TRANSFER_SUCCESSFUL_VALUE) {
                return null;
            }
            if (status != SIPTransferStatus.STS_TRANSFER_FAILED_VALUE) {
                return new Event.Refusal(0, 0, "LiveKit does not say how the transfer has ended");
            }
            var sip = SIPStatus.newBuilder();
            for (var part : answer.getField(4).getLengthDelimitedList()) {
                sip.mergeFrom(part);
            }
            return refusal(http, "" + sip.getCodeValue(), sip.getStatus(),
                    switch (number(answer, 3)) { // SIPTransferReason
                        case 2 -> "the call ended before the transfer was complete";
                        case 3 -> "the transfer was rejected";
                        case 4 -> "nobody picked up in time";
                        case 5 -> "the provider no longer reports on the transfer";
                        case 6 -> "the transfer was cancelled";
                        default -> "no reason is given";
                    });
        } catch (InvalidProtocolBufferException e) {
            return new Event.Refusal(0, 0, "LiveKit's answer cannot be read");
        }
    }

    private static int number(UnknownFieldSet fields, int field) {
        var values = fields.getField(field).getVarintList();
        return values.isEmpty() ? 0 : values.getLast().intValue();
    }

    /// `code` and `words` are SIP's, if `code` is a status code of SIP.
    private static Event.Refusal refusal(int http, String code, String words, String otherwise) {
        return code.matches("[1-6][0-9]{2}")
                ? new Event.Refusal(http, Integer.parseInt(code), words)
                : new Event.Refusal(http, 0, otherwise);
    }

    /// An error of LiveKit's API is
    /// {"code":..,"msg":..,"meta":{"sip_status_code":..,"sip_status":..}}. The other side's SIP
    /// status stands in `meta`, which is left out when the other side has not answered.
    private static Event.Refusal refusal(int http, String body) {
        try (var reader = Json.createReader(new StringReader(body))) {
            JsonObject error = reader.readObject();
            JsonObject meta = error.containsKey("meta")
                    ? error.getJsonObject("meta") : JsonObject.EMPTY_JSON_OBJECT;
            return refusal(http, meta.getString("sip_status_code", ""),
                    meta.getString("sip_status", ""),
                    error.getString("msg", error.getString("code", "")));
        } catch (RuntimeException e) { // not JSON, or not of that form
            return new Event.Refusal(http, 0, "no reason is given");
        }
    }
}
