package trials;

import module java.base;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

/// `./run.sh bench --quick`. The bench itself looks for what is wrong: a turn without an answer, a
/// gap or a click, a lost event. This test looks whether all figures are there, and judges none.
public final class BenchTest {
    /// The bench's own ear: a tone of a second, the same with 30 ms of it missing, with half a turn
    /// of it left out, and with noise that is 40 dB below it.
    @Test
    void gapsClicksAndNoiseAreHeard() throws Exception {
        assumeInstalled();
        var python = new ProcessBuilder("lib/test/venv/bin/python", "-c", """
                import sys; sys.path.append("bench")
                import numpy, callers
                def tone(n): return 8000 * numpy.sin(2 * numpy.pi * callers.TONE_HZ / 8000 * n)
                n = numpy.arange(8000)
                quiet = numpy.zeros(2000)
                noise = numpy.random.default_rng(7).normal(0, 8000 / 2 ** 0.5 / 100, 8000)
                for speech in (tone(n), tone(n) * ((n < 4000) | (n >= 4240)),
                               numpy.append(tone(n[:4000]), tone(n[4000:] + 9)), tone(n) + noise):
                    sound = numpy.concatenate([quiet, speech, quiet]).astype(numpy.int16)
                    gaps, clicks, db = callers.judge(sound)
                    print(gaps, clicks, round(db), end=", ")
                """).redirectErrorStream(true).start();
        assertEquals("0 0 84, 1 0 84, 0 1 18, 0 0 40,",
                new String(python.getInputStream().readAllBytes()).strip());
        assertEquals(0, python.waitFor());
    }

    static void assumeInstalled() {
        var missing = Stream.of("livekit-server", "venv/bin/python")
                .filter(name -> !Files.exists(Path.of("lib/test", name))).toList();
        assumeTrue(missing.isEmpty(), "not in lib/test: " + missing
                + "; trials/install installs both");
    }

    @Test
    void theBenchFindsNothingWrong() throws Exception {
        assumeInstalled();
        var bench = new ProcessBuilder("./run.sh", "bench", "--quick").redirectErrorStream(true)
                .start();
        CompletableFuture.delayedExecutor(3, TimeUnit.MINUTES).execute(bench::destroy);
        List<String> said = bench.inputReader().lines().toList();
        assertEquals(0, bench.waitFor(), String.join("\n", said));
        var json = Stand.json(said.getLast());
        assertEquals(0, json.getJsonArray("wrong").size(), said.getLast());
        var rows = json.getJsonArray("rows").getValuesAs(row -> row.asJsonObject());
        for (String row : List.of("the fixed work, before", "the fixed work, after",
                "an event to the disk", "start to registered, ./run.sh dev",
                "memory, idle", "picked up to greeting heard",
                "end of words to reply, beyond VAD and model",
                "caller speaks in the greeting, to silence", "truncate told minus heard",
                "10 calls at once: processor", "hang-up to call.ended at the CRM")) {
            assertTrue(rows.stream().anyMatch(it -> it.getString("what").equals(row)
                    && it.getInt("n") > 0), row + " is not in " + said.getLast());
        }
    }
}
