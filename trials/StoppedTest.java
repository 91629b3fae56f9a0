package trials;

import module java.base;
import demo.DemoModel;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;

/// Sound that stops, with a real livekit-server and callers on LiveKit's own client: the whole
/// program is stopped for a while with calls up (SIGSTOP), or a caller's track goes in mid-word.
public final class StoppedTest extends Stage {
    private static final int SILENCE = 5;           // seconds until the caller is asked
    private static final int TIMES = ALL ? 10 : 2;

    @BeforeAll
    static void start() throws Exception {
        start(List.of(new DemoModel.Say("Hello.", 600)));
        model.firstSoundMs = 1_000;
        model.afterScript = new DemoModel.Say("I see.", 1_000);
        program = worker(output, Map.of("SILENCE_SECONDS", "120"), "dev");
        await("the check of the model", output,
                () -> Files.readString(output).contains("OpenAI at"));
    }

    private static void signal(String which, Process to) throws Exception {
        assertEquals(0, new ProcessBuilder("kill", which, "" + to.pid()).start().waitFor());
    }

    /// What has happened meanwhile waits in sockets. So an alarm that was due must wait for it.
    @Test
    void anAlarmThatWasDueWhileTheProcessWasStoppedIsLater() throws Exception {
        String java = System.getProperty("java.home") + "/bin/java";
        Process waits = new ProcessBuilder(java, "-cp", System.getProperty("java.class.path"),
                "trials/Waits.java").redirectError(ProcessBuilder.Redirect.INHERIT).start();
        try {
            var said = waits.inputReader();
            assertEquals("waits", said.readLine());
            signal("-STOP", waits);
            TimeUnit.SECONDS.sleep(3);
            signal("-CONT", waits);
            TimeUnit.SECONDS.sleep(1);          // it comes out of its socket late
            waits.outputWriter().append("go\n").flush();
            assertEquals("CallerHears[]", said.readLine());
            assertEquals("AlarmDue[which=SILENCE]", said.readLine());
        } finally {
            waits.destroyForcibly();
        }
    }

    /// How many responses the model has ended on each of five connections.
    private static List<Long> answers(int first) {
        return model.sessions().stream().skip(first).limit(5)
                .map(session -> count(session.sent(), "response.done")).toList();
    }

    /// Has each of the first `calls` calls another answer now?
    private static boolean all(int calls, List<Long> before, List<Long> now) {
        return IntStream.range(0, calls).allMatch(i -> now.get(i) > before.get(i));
    }

    /// When the process is stopped, one agent speaks, one thinks, one caller has just finished, one
    /// is in mid-word, and one listens.
    @Test
    void aProgramThatWasStoppedForThreeSecondsGoesOnWithItsCalls() throws Exception {
        var calls = new ArrayList<Caller>();
        int first = model.sessions().size();
        for (int i = 0; i < 5; i++) {
            int connections = first + i;
            calls.add(Caller.onThePhone("stopped-" + i, ADA));
            await("the call", output, () -> model.sessions().size() > connections);
        }
        for (Caller caller : calls) {
            caller.next("silent");                  // the greeting is over
        }
        for (int time = 0; time < TIMES; time++) {
            var before = answers(first);
            int[] thenPass = {1_000, 600, 800, 200};
            for (int i = 0; i < 4; i++) {
                calls.get(i).say(600 + 100 * i, 500);
                TimeUnit.MILLISECONDS.sleep(thenPass[i]);
            }
            signal("-STOP", program);
            TimeUnit.SECONDS.sleep(3);
            signal("-CONT", program);
            await("four answers", output, () -> all(4, before, answers(first)));
            TimeUnit.MILLISECONDS.sleep(1_500);     // so long they speak
            var then = answers(first);
            calls.forEach(caller -> caller.say(700, 500));
            await("five answers", output, () -> all(5, then, answers(first)));
            TimeUnit.MILLISECONDS.sleep(1_500);
        }
        String log = Files.readString(output);
        assertFalse(log.contains("model is lost") || log.contains("recording"), log);
        assertEquals(first + 5, model.sessions().size());
        for (Caller caller : calls) {
            caller.hangUp();
            ended(caller, "caller_hung_up");
        }
    }

    @Test
    void whoLosesTheirTrackInMidWordIsAnsweredAndThenAskedWhetherTheyAreThere() throws Exception {
        Path log = newFolder().resolve("log");
        worker(log, Map.of("SILENCE_SECONDS", "" + SILENCE, "LIVEKIT_AGENT_NAME", "asks"), "dev");
        await("the check of the model", log, () -> Files.readString(log).contains("OpenAI at"));
        var caller = new Caller("untracked", "sip_" + ADA, "--phone", ADA, "--agent", "asks");
        caller.next("silent");                      // the greeting is over
        var session = model.sessions().getLast();
        caller.say(600, 10_000);
        assertNotNull(session.awaitSent("input_audio_buffer.speech_started", _ -> true, SOON));
        long gone = System.nanoTime();
        caller.command("unpublish");
        assertNotNull(session.awaitSent("input_audio_buffer.speech_stopped", _ -> true, SOON));
        figure("track gone to the end of the turn", (System.nanoTime() - gone) / 1e6);
        caller.next("silent");                      // an answer
        await("the question", log, () -> Files.readString(log).contains("caller    is silent"));
        double asked = (System.nanoTime() - gone) / 1e9;
        assertBetween(SILENCE, asked, SILENCE + 7, "s until the caller is asked");
        caller.hangUp();
        ended(caller, "caller_hung_up");
    }
}
