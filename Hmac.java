import module java.base;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/// Signs what goes to the CRM and checks such signatures, in both forms that every event carries:
///
/// - `X-Signature`: lower-case hex of HMAC-SHA256 over the body. The key is WEBHOOK_SECRET as it
///   is written.
/// - `webhook-signature`: Standard Webhooks 1.0, `v1,` and the base64 of HMAC-SHA256 over
///   `id.timestamp.body`, so that an old request cannot be sent again. With a secret that begins
///   `whsec_` the key is what follows, base64-decoded; otherwise the same bytes as above.
///
/// Webhooks signs; a receiver written in Java can copy this file and verify.
/// Not handled: several secrets at a time, to replace one without a gap.
final class Hmac {
    private static final int TOLERANCE = 300; // seconds

    // Not the strings: a key object does not show what it holds when it gets printed.
    private final SecretKeySpec plain;
    private final SecretKeySpec standard;

    /// Throws IllegalArgumentException for a secret that is empty or not what it claims to be.
    Hmac(String secret) {
        plain = key(secret.getBytes(StandardCharsets.UTF_8));
        standard = secret.startsWith("whsec_")
                ? key(Base64.getDecoder().decode(secret.substring("whsec_".length()))) : plain;
    }

    /// The value of X-Signature for these bytes.
    String signBody(byte[] body) {
        return HexFormat.of().formatHex(mac(plain, body));
    }

    /// Is this the X-Signature of these bytes? Takes as long for a wrong one as for a right one.
    boolean verifyBody(byte[] body, String signature) {
        return signature != null && same(signBody(body), signature);
    }

    /// The value of webhook-signature. `timestamp` is that of webhook-timestamp: seconds.
    String signStandard(String id, long timestamp, byte[] body) {
        byte[] head = (id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8);
        return "v1," + Base64.getEncoder().encodeToString(mac(standard, head, body));
    }

    /// Is one of the space-separated signatures right, and the request no older (or newer) than
    /// five minutes?
    boolean verifyStandard(String id, long timestamp, byte[] body, String signatures, Instant now) {
        long seconds = now.getEpochSecond();
        return signatures != null && timestamp >= seconds - TOLERANCE
                && timestamp <= seconds + TOLERANCE && Arrays.stream(signatures.split(" "))
                        .anyMatch(signature -> same(signStandard(id, timestamp, body), signature));
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
