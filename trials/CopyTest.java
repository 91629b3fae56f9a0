package trials;

import module java.base;
import demo.DemoModel;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// README, "Copy it into your project": what stands there is done to the letter, in an empty
/// folder, and the copy answers a call.
public final class CopyTest extends Stage {
    @BeforeAll
    static void start() throws Exception {
        start(List.of(new DemoModel.Say("Hello from a copy.", 800)));
    }

    @Test
    void theCopyAnswersACall() throws Exception {
        Path copy = newFolder();
        var blocks = Docs.readme("sh").stream().filter(block -> block.contains("$COPY")).toList();
        assertEquals(2, blocks.size(), "what to copy; how to compile and start it");
        shell(copy, blocks.getFirst());
        String main = Docs.readme("java").stream().filter(block -> block.startsWith("package "))
                .findFirst().orElseThrow();
        Path folder = copy.resolve("src").resolve(main.lines().findFirst().orElseThrow()
                .replaceAll("package |;", "").replace('.', '/'));
        Files.writeString(folder.resolve("Main.java"), main);

        List<String> lines = blocks.getLast().lines().toList();
        String java = lines.getLast();
        assertTrue(java.startsWith("java "), java);
        shell(copy, String.join("\n", lines.subList(0, lines.size() - 1)));
        var run = new ProcessBuilder("bash", "-c", "exec " + java).directory(copy.toFile())
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(output.toFile()));
        run.environment().putAll(jdk(Map.of("LIVEKIT_URL", proxy.url(), "LIVEKIT_API_KEY", KEY,
                "LIVEKIT_API_SECRET", API_SECRET, "CRM_URL", crm.url(), "WEBHOOK_SECRET", SECRET,
                "OPENAI_API_KEY", "sk-test", "OPENAI_BASE_URL", model.baseUrl())));
        programs.add(run.start());
        await("the copy to register", output,
                () -> Files.readString(output).contains("registered"));

        var caller = Caller.onThePhone("copy", ADA);
        caller.at("loud");
        caller.next("silent");
        caller.hangUp();
        ended(caller, "caller_hung_up");
        assertTrue(Files.exists(copy.resolve("outbox")), "its outbox is its own");
    }

    /// Runs these lines in the project's folder, with `$COPY` and the JDK that runs this test.
    private static void shell(Path copy, String lines) throws Exception {
        var shell = new ProcessBuilder("bash", "-euc", lines).redirectErrorStream(true);
        shell.environment().putAll(jdk(Map.of("COPY", copy.toString())));
        Process process = shell.start();
        String said = new String(process.getInputStream().readAllBytes());
        assertEquals(0, process.waitFor(), said);
    }

    private static Map<String, String> jdk(Map<String, String> environment) {
        var all = new HashMap<>(environment);
        all.put("PATH", System.getProperty("java.home") + "/bin:" + System.getenv("PATH"));
        return all;
    }
}
