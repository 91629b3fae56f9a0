import module java.base;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/// Signs the events that go to the CRM, and verifies such signatures. Each event has both of these:
///
/// - `X-Signature`: lower-case hex of HMAC-SHA256 over the body. The key is WEBHOOK_SECRET, in
///   UTF-8. Whoever records a request can send it again, and this signature is still right.
/// - `webhook-signature` of [Standard Webhooks](https://www.standardwebhooks.com): `v1,` and the
///   base64 of HMAC-SHA256 over `id.timestamp.body`. Because of the timestamp, a receiver refuses
///   requests that are more than five minutes old. If the secret begins with `whsec_`, the key is
///   what follows, base64-decoded. If it does not, the key is the same as above.
///
/// Webhooks signs. A receiver that is written in Java can copy this file, and verify.
/// A Hmac knows one secret. While two are valid, Webhooks has a Hmac for each.
final class Hmac {
    private static final int TOLERANCE = 300;   // seconds

    // Keys instead of strings, because a key does not show its bytes when somebody prints it.
    private final SecretKeySpec plain;
    private final SecretKeySpec standard;

    /// Throws IllegalArgumentException when the secret is empty, or when it begins with `whsec_`
    /// and the rest is not base64.
    Hmac(String secret) {
        plain = key(secret.getBytes(StandardCharsets.UTF_8));
        standard = secret.startsWith("whsec_")
                ? key(Base64.getDecoder().decode(secret.substring("whsec_".length()))) : plain;
    }

    /// The value of X-Signature for these bytes.
    String signBody(byte[] body) {
        return HexFormat.of().formatHex(mac(plain, body));
    }

    /// Is this the X-Signature of these bytes? The comparison takes the same time for a wrong
    /// signature, so nobody learns from the time how much of a guess is right.
    boolean verifyBody(byte[] body, String signature) {
        return signature != null && same(signBody(body), signature);
    }

    /// The value of webhook-signature. `timestamp` is the value of webhook-timestamp, in seconds.
    String signStandard(String id, long timestamp, byte[] body) {
        byte[] head = (id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8);
        return "v1," + Base64.getEncoder().encodeToString(mac(standard, head, body));
    }

    /// True if one of the signatures, which are separated by spaces, is right, and `timestamp` is
    /// at most five minutes away from `now`.
    boolean verifyStandard(String id, long timestamp, byte[] body, String signatures, Instant now) {
        long at = now.getEpochSecond();
        if (signatures == null || timestamp < at - TOLERANCE || timestamp > at + TOLERANCE) {
            return false;
        }
        String right = signStandard(id, timestamp, body);   // once, however many there are
        return Arrays.stream(signatures.split(" ")).anyMatch(each -> same(right, each));
    }

    static SecretKeySpec key(byte[] bytes) {
        return new SecretKeySpec(bytes, "HmacSHA256");
    }

    static byte[] mac(SecretKeySpec key, byte[]... parts) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(key);
            for (byte[] part : parts) {
                mac.update(part);
            }
            return mac.doFinal();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException("every JDK has HmacSHA256", e);
        }
    }

    private static boolean same(String a, String b) {
        return MessageDigest.isEqual(
                a.getBytes(StandardCharsets.UTF_8), b.getBytes(StandardCharsets.UTF_8));
    }
}
