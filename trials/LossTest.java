package trials;

import module java.base;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

/// Calls on a line that loses packets: `./run.sh bench --lossy`, in a network namespace of its own.
/// livekit-server, the program and the callers are all in there, and packets of UDP are dropped at
/// random, also those of the joins. The machine's own network has no part in that. Where no
/// namespace can be made, this test is skipped and says why.
///
/// `./run.sh test trials` makes a few calls, and `./run.sh test all` more and longer ones.
public final class LossTest {
    @Test
    void theCallerHearsNothingOfLostPacketsAndNoTurnIsMissed() throws Exception {
        BenchTest.assumeInstalled();
        String trouble = trouble();
        assumeTrue(trouble.isEmpty(),
                "no network namespace, which needs root, iproute2 and nftables: " + trouble);

        var bench = inANamespace(
                ("./run.sh bench --lossy" + (Stage.ALL ? "" : " --quick")).split(" "));
        CompletableFuture.delayedExecutor(20, TimeUnit.MINUTES).execute(bench::destroy);
        List<String> said = bench.inputReader().lines().toList();
        // It is not 0 if a call did not come about, or if a turn or an event was missed.
        assertEquals(0, bench.waitFor(), String.join("\n", said));
        Map<String, JsonObject> rows = Stand.json(said.getLast()).getJsonArray("rows").stream()
                .map(row -> row.asJsonObject())
                .collect(Collectors.toMap(row -> row.getString("what"), row -> row));
        double db = rows.get("5 % lost: signal to noise").getJsonNumber("median").doubleValue();
        System.out.printf(Locale.ROOT, "  %-50s %6.0f dB%n", "5 % lost: signal to noise", db);
        assertTrue(db >= 39, db + " dB");
        assertEquals(0, rows.get("5 % lost: clicks, in each call").getInt("p95"));
    }

    /// Why no namespace can be made that loses packets, or nothing.
    private static String trouble() throws InterruptedException {
        try {
            var attempt = inANamespace("sh", "-c",
                    "ip link add eth0 type veth peer name eth1 && nft add table inet line");
            String said = new String(attempt.getInputStream().readAllBytes()).strip();
            return attempt.waitFor() == 0 ? "" : said;
        } catch (IOException e) {
            return e.getMessage();
        }
    }

    private static Process inANamespace(String... command) throws IOException {
        var all = Stream.concat(Stream.of("unshare", "--net"), Stream.of(command)).toList();
        return new ProcessBuilder(all).redirectErrorStream(true).start();
    }
}
