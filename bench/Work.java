package bench;

import module java.base;
import module java.management;

import static java.nio.charset.StandardCharsets.UTF_8;

/// A fixed piece of work, timed, so that figures of two machines can be compared: `java
/// bench/Work.java`. It makes 40,000 events out of 20 ms of sound each, as Base64 in JSON, reads
/// the sound out of each event again, and hashes it with SHA-256. So it is what a call does with
/// the caller's sound, and needs nothing but the JDK.
///
/// It prints the processor time that one thread takes for the work, in ms: the shortest of five,
/// after a first time to warm up. Other work on the machine lengthens that time little.
final class Work {
    private static final int EVENTS = 40_000, TIMES = 5;
    private static final int PIECE = 960;                   // bytes: 20 ms, 24 kHz, 16 bit
    private static final String SUM =
            "59a6d838f36ff9b4ecd261ee344366f8465952be721b2f709ab203176ea2dc7f";

    static void main() throws Exception {
        work();
        double shortest = Double.MAX_VALUE;
        for (int i = 0; i < TIMES; i++) {
            shortest = Math.min(shortest, work());
        }
        System.out.printf(Locale.ROOT, "%.0f%n", shortest);
    }

    private static double work() throws Exception {
        long begun = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
        var digest = MessageDigest.getInstance("SHA-256");
        byte[] sound = new byte[PIECE];
        new Random(7).nextBytes(sound);
        for (int i = 0; i < EVENTS; i++) {
            sound[i % PIECE]++;
            String event = "{\"audio\":\"" + Base64.getEncoder().encodeToString(sound)
                    + "\",\"type\":\"input_audio_buffer.append\",\"event_id\":\"" + i + "\"}";
            byte[] sent = event.getBytes(UTF_8);
            String came = new String(sent, UTF_8);
            int from = came.indexOf(":\"") + 2;
            String audio = came.substring(from, came.indexOf('"', from));
            digest.update(Base64.getDecoder().decode(audio));
        }
        String sum = HexFormat.of().formatHex(digest.digest());
        if (!sum.equals(SUM)) {
            throw new IllegalStateException("this was other work: " + sum);
        }
        return (ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() - begun) / 1e6;
    }
}
