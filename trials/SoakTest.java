package trials;

import module java.base;
import demo.DemoModel;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// Many short calls in one process, a few at a time: each is greeted and ended, and none leaves
/// a thread or a file open. How much memory a call leaves behind is measured. WebRTC's library is
/// known to keep some, so the bound for that is generous.
///
/// `-Dcalls=..` says how many. Linux only, because the test reads /proc. Not tried here: long
/// calls, and sound in both directions, which LiveTest and PhoneTest have.
public final class SoakTest extends Stage {
    private static final int CALLS = Integer.getInteger("calls", ALL ? 1_000 : 100), AT_A_TIME = 4;
    private static final int WARM_UP = 50, BATCH = 100;
    private static final Duration PATIENCE = Duration.ofMinutes(10);    // for a batch

    /// Of the program, when no call is up.
    private record Sample(int calls, int threads, int files, int rssKb, int pssKb) {}

    private final List<Integer> greetedMs = new ArrayList<>();

    @BeforeAll
    static void start() throws Exception {
        start(List.of(new DemoModel.Say("Hello.", 300)));
        model.keepMs = 0;
        program = worker(output, Map.of("MAX_CALLS", "" + 2 * AT_A_TIME), "dev");
    }

    @Test
    void shortCallsLeaveNothingBehind() throws Exception {
        System.out.println("   calls  threads  files  RSS/MB  PSS/MB");
        var samples = new ArrayList<Sample>();
        for (int made = 0; made < CALLS; ) {
            int some = Math.min(made == 0 ? WARM_UP : BATCH, CALLS - made);
            batch("soak-" + made, some);
            made += some;
            samples.add(sample(made));
        }
        judge();

        Sample first = samples.getFirst(), last = samples.getLast();
        greetedMs.sort(null);
        figure("in the room to greeting heard, median", greetedMs.get(CALLS / 2));
        figure("the same, 99 of 100 calls", greetedMs.get(CALLS * 99 / 100));
        // Pools give up idle threads after a minute, so the number goes up and down. With a leak it
        // only goes up.
        assertBetween(0, last.threads, first.threads + 20, "threads");
        assertBetween(0, last.files, first.files + 10, "files");
        if (samples.size() > 1) {
            double kb = (last.pssKb - first.pssKb) / (double) (last.calls - first.calls);
            System.out.printf(Locale.ROOT, "  %-50s %6.0f kB%n", "memory that a call leaves", kb);
            assertBetween(-600, kb, 600, "kB a call");
        }
    }

    private void batch(String prefix, int count) throws Exception {
        int before = ends();
        var run = new ProcessBuilder(python, "trials/soak.py", url, prefix, "" + count,
                "" + AT_A_TIME).redirectError(ProcessBuilder.Redirect.appendTo(output.toFile()));
        run.environment().putAll(Map.of("LIVEKIT_API_KEY", KEY, "LIVEKIT_API_SECRET", API_SECRET));
        Process calls = run.start();
        programs.add(calls);
        // The reports are read as they come: a pipe that is full would stop the calls.
        var reports = CompletableFuture.supplyAsync(() ->
                calls.inputReader().lines().map(Stand::json).toList());
        List<JsonObject> made = reports.get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        assertEquals(count, made.size(), "calls that came to their greeting or gave up");
        for (JsonObject call : made) {
            assertTrue(call.getBoolean("greeted"), () -> call + said(call.getString("room")));
            greetedMs.add(call.getInt("ms"));
        }
        await("the end of " + count + " calls", output, () -> ends() == before + count);
    }

    /// What the server has written about a call that went wrong.
    private static String said(String room) {
        try (var lines = Files.lines(serverLog)) {
            return lines.filter(line -> line.contains("\"" + room + "\""))
                    .collect(Collectors.joining("\n", "\n", ""));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static int ends() {
        return (int) crm.events().stream()
                .filter(event -> event.getString("event").equals("call.ended")).count();
    }

    /// Waits until nothing has been opened or closed for two seconds: at the CRM a call is over a
    /// little earlier than in the program.
    private static Sample sample(int calls) throws Exception {
        Sample sample = read(calls);
        for (int same = 0, looks = 0; same < 10; looks++) {
            assertTrue(looks < 150, "the program does not come to rest: " + sample);
            TimeUnit.MILLISECONDS.sleep(200);
            Sample now = read(calls);
            same = now.threads == sample.threads && now.files == sample.files ? same + 1 : 0;
            sample = now;
        }
        System.out.printf(Locale.ROOT, "  %6d  %7d  %5d  %6.1f  %6.1f%n", calls, sample.threads,
                sample.files, sample.rssKb / 1024.0, sample.pssKb / 1024.0);
        return sample;
    }

    private static Sample read(int calls) throws IOException {
        Path proc = Path.of("/proc/" + program.pid());
        String memory = Files.readString(proc.resolve("smaps_rollup"));
        try (var files = Files.list(proc.resolve("fd"))) {
            return new Sample(calls, number(Files.readString(proc.resolve("status")), "Threads"),
                    (int) files.count(), number(memory, "Rss"), number(memory, "Pss"));
        }
    }

    private static int number(String file, String name) {
        var found = Pattern.compile("(?m)^" + name + ":\\s+(\\d+)").matcher(file);
        assertTrue(found.find(), name);
        return Integer.parseInt(found.group(1));
    }

    /// Judges what came to the CRM of all calls. (`Stage.ended` looks at every request for each
    /// call, which is too slow here.)
    private static void judge() {
        Map<String, List<JsonObject>> byRoom = crm.events().stream()
                .collect(Collectors.groupingBy(event -> event.getString("room")));
        assertEquals(CALLS, byRoom.size());
        for (var events : byRoom.values()) {
            assertEquals(List.of("call.started", "call.ended"), events.stream()
                    .map(event -> event.getString("event")).toList());
            assertEquals("caller_hung_up", events.getLast().getString("reason"));
        }
        assertTrue(crm.requests().stream().allMatch(request -> request.verified()
                || !request.path().startsWith("/webhooks/")), "signatures");
    }
}
