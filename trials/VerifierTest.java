package trials;

import module java.base;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

/// The verifiers in docs/contract.md, which are Python: receivers copy them. They get signatures
/// made with the JDK alone, as AgentTest holds Hmac against those that others have published.
public final class VerifierTest extends Stand {
    @Test
    void theVerifiersOfTheContractAgree() throws Exception {
        assumeTrue(Stream.of(System.getenv("PATH").split(File.pathSeparator))
                .anyMatch(folder -> Files.isExecutable(Path.of(folder, "python3"))),
                "no python3; this installs it: apt-get install python3");
        String verifiers = Docs.blocks(
                Files.readString(Path.of("docs", "contract.md")), "python").getFirst();
        var keys = Map.of(SECRET, utf8(SECRET), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                Base64.getDecoder().decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        for (String secret : keys.keySet()) {
            byte[] body = utf8("{\"note\": \"Grüße\"}");
            long now = Instant.now().getEpochSecond();
            String script = verifiers + """
                    import sys
                    secret, signature, standard, now = sys.argv[1:]
                    body = '{"note": "Grüße"}'.encode()
                    good = {"x-signature": signature, "webhook-id": "evt_1",
                            "webhook-timestamp": now, "webhook-signature": "v1,x " + standard}
                    late = dict(good, **{"webhook-timestamp": str(int(now) - 400)})
                    odd = {"x-signature": "é", "webhook-timestamp": "soon"}
                    long = dict(good, **{"webhook-timestamp": "9" * 5000})
                    print(x_signature_is_right(secret, good, body),
                          x_signature_is_right(secret, good, body + b" "),
                          standard_webhook_is_right(secret, good, body),
                          standard_webhook_is_right(secret, good, body + b" "),
                          standard_webhook_is_right(secret, late, body),
                          *[f(secret, h, body) for h in (odd, {}, long)
                            for f in (x_signature_is_right, standard_webhook_is_right)])
                    """;
            var ran = HouseTest.run(List.of("python3", "-c", script, secret,
                    xSignature(utf8(secret), body),
                    standard(keys.get(secret), "evt_1", now, body), Long.toString(now)), null);
            assertEquals("True False True False False" + " False".repeat(4)
                    + " True False", ran.output().strip());
        }
    }
}
