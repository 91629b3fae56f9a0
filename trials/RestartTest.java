package trials;

import module java.base;
import demo.DemoModel;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// RESTART_AFTER_CALLS, with a real livekit-server and the program as a process: `start` ends by
/// itself, loses nothing, and whatever has started it starts it again. WorkerTest has the moments
/// at which it may end.
public final class RestartTest extends Stage {
    private static final String WHY = "RESTART_AFTER_CALLS";

    // Each test has its own.
    private final Path log = Files.createFile(newFolder().resolve("log")), outbox = newFolder();

    RestartTest() throws IOException {}

    @BeforeAll
    static void start() throws Exception {
        start(List.of(new DemoModel.Say("Hello.", 300)));
    }

    private Map<String, String> after(int calls) {
        return Map.of("RESTART_AFTER_CALLS", "" + calls, "HEALTH_PORT", "0",
                "OUTBOX_DIR", outbox.toString());
    }

    private static Caller greeted(String room) throws Exception {
        var caller = Caller.onThePhone(room, ADA);
        caller.next("tone");
        return caller;
    }

    private List<String> logged(String what) throws IOException {
        try (var lines = Files.lines(log)) {
            return lines.filter(line -> line.contains(what)).toList();
        }
    }

    /// It has ended by itself, with status 0, and said why. Nothing is left to deliver.
    private void retired(Process program) throws Exception {
        assertTrue(program.waitFor(SOON.toSeconds(), TimeUnit.SECONDS), "it has not ended");
        assertEquals(0, program.exitValue());
        assertEquals(1, logged(WHY).size());
        assertTrue(logged(WHY).getLast().endsWith("let something always start it again"));
        try (var left = Files.list(outbox)) {
            assertEquals(List.of(), left.filter(file -> ("" + file).endsWith(".post")).toList());
        }
    }

    @Test
    void itEndsWithItsLastCallAndTheNextProcessTakesTheNextCall() throws Exception {
        Process first = worker(log, after(2), "start");
        var one = greeted("one");
        one.hangUp();
        ended(one, "caller_hung_up");
        var two = greeted("two");
        var three = greeted("three");           // a call is up, so it takes another one
        two.hangUp();
        ended(two, "caller_hung_up");
        assertEquals(List.of(), logged(WHY));
        assertTrue(first.isAlive());
        crm.fail("/webhooks", 503, 1);
        three.hangUp();
        retired(first);
        ended(three, "caller_hung_up");         // what was refused once has come, too

        int registered = logged("registered at").size();
        Process second = program(log, after(2), "start");
        await("it to register", log, () -> logged("registered at").size() > registered);
        var four = greeted("four");
        four.hangUp();
        ended(four, "caller_hung_up");
        second.destroy();
        assertTrue(second.waitFor(SOON.toSeconds(), TimeUnit.SECONDS));
        assertEquals(0, second.exitValue());
    }

    @Test
    void afterTwiceAsManyItEndsAlthoughCallsCome() throws Exception {
        Process program = worker(log, after(1), "start");
        var one = greeted("twice-1");
        var two = greeted("twice-2");
        await("it to say so", log, () -> !logged(WHY).isEmpty());
        assertTrue(program.isAlive());
        var three = Caller.onThePhone("twice-3", ADA);  // it is asked, and does not take the call
        three.next("joined");
        one.hangUp();
        ended(one, "caller_hung_up");
        assertTrue(program.isAlive(), "one call is left");
        two.hangUp();
        retired(program);
        ended(two, "caller_hung_up");
        assertEquals(List.of(), events("twice-3"));
        three.hangUp();
    }

    @Test
    void neverMeansNeverAndDevNeverEnds() throws Exception {
        for (String verb : List.of("start", "dev")) {
            int registered = logged("registered at").size();
            Process program = program(log, after(verb.equals("dev") ? 1 : 0), verb);
            await("it to register", log, () -> logged("registered at").size() > registered);
            for (int call = 1; call <= 3; call++) {
                var caller = greeted(verb + call);
                caller.hangUp();
                ended(caller, "caller_hung_up");
            }
            assertTrue(program.isAlive());
            assertEquals(List.of(), logged(WHY));
            program.destroy();
            assertTrue(program.waitFor(SOON.toSeconds(), TimeUnit.SECONDS));
        }
    }
}
