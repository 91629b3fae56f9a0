package trials;

import module java.base;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// docs/exercises: each patch applies to a copy of this folder, compiles without a warning, and
/// does in a whole call (ExerciseCalls) what its page says. So whoever changes the lines that a
/// patch stands on has to make the patch anew. The commands are those that the pages name.
public final class ExercisesTest {
    private static final Path FOLDER = Path.of("docs", "exercises");
    private static final String JARS = Stream.of("lib", "lib/test")
            .map(folder -> Path.of(folder).toAbsolutePath() + "/*")
            .collect(Collectors.joining(File.pathSeparator));
    private static final int LEAST_LINES = 10, MOST_LINES = 60;
    private static final Duration BOUND = Duration.ofMinutes(3);

    private static Path temporary;

    @BeforeAll
    static void begin() throws IOException {
        temporary = Files.createTempDirectory("exercises-");
    }

    @AfterAll
    static void end() throws IOException {
        Stand.delete(temporary);
    }

    static List<String> names() throws IOException {
        try (var files = Files.list(FOLDER)) {
            return files.map(file -> file.getFileName().toString())
                    .filter(name -> name.endsWith(".patch"))
                    .map(name -> name.replace(".patch", "")).sorted().toList();
        }
    }

    /// `4-voicemail` is `voicemail`.
    private static String method(String name) {
        return Pattern.compile("-(.)").matcher(name.replaceFirst("[0-9]-", ""))
                .replaceAll(letter -> letter.group(1).toUpperCase(Locale.ROOT));
    }

    @ParameterizedTest
    @MethodSource("names")
    void thePatchAppliesCompilesAndShowsItselfInACall(String name) throws Exception {
        Path copy = copy(name);
        Path patch = FOLDER.resolve(name + ".patch");
        run(copy, "git", "apply", "--whitespace=error", "" + patch);
        var added = Files.readString(patch).lines()
                .filter(line -> line.startsWith("+") && !line.startsWith("+++")).toList();
        assertTrue(added.size() >= LEAST_LINES && added.size() <= MOST_LINES,
                name + " adds " + added.size() + " lines");
        assertEquals(List.of(), added.stream()
                .filter(line -> line.length() > 101 && !line.startsWith("+|")).toList());
        compile(copy);
        assertEquals("", failed(copy, "trials.ExerciseCalls#" + method(name)));
        run(copy, "git", "apply", "-R", "" + patch);
        assertEquals(-1, Files.mismatch(Path.of("Tools.java"), copy.resolve("Tools.java")));
    }

    /// Otherwise a call would show nothing.
    @Test
    void withoutItsPatchNoCallShowsAnything() throws Exception {
        Path copy = copy("none");
        compile(copy);
        for (String name : names()) {
            assertTrue(failed(copy, "trials.ExerciseCalls#" + method(name))
                    .contains("AssertionFailedError"), name);
        }
    }

    @Test
    void eachPatchHasAPageAndAPlaceInTheReadme() throws Exception {
        String readme = Files.readString(Path.of("README.md"));
        assertEquals(5, names().size());
        for (String name : names()) {
            String page = Files.readString(FOLDER.resolve(name + ".md"));
            assertTrue(readme.contains("(docs/exercises/" + name + ".md)"), name);
            assertTrue(page.contains("```sh\ngit apply docs/exercises/" + name + ".patch\n"), name);
        }
    }

    /// All that git would take, from the folder in which this test runs.
    private static Path copy(String name) throws Exception {
        Path copy = Files.createDirectory(temporary.resolve(name));
        for (String folder : List.of("", "start", "delivery", "voice", "voice/clips", "room",
                "demo", "demo/clips", "bench", "trials", "docs", "docs/exercises")) {
            Path to = Files.createDirectories(copy.resolve(folder));
            try (var files = Files.list(Path.of(folder))) {
                for (Path file : files.filter(Files::isRegularFile).toList()) {
                    if (!file.endsWith(".env")) {
                        Files.copy(file, to.resolve(file.getFileName()));
                    }
                }
            }
        }
        return copy;
    }

    private static void compile(Path copy) throws Exception {
        run(copy, System.getProperty("java.home") + "/bin/javac", "-J-XX:TieredStopAtLevel=1",
                "-J-XX:+UseSerialGC", "-Xlint:all", "-Werror", "-proc:none", "-d", "classes",
                "-cp", JARS, "--source-path", ".", "AgentTest.java", "trials/ExerciseCalls.java");
    }

    /// Runs that test, in a process of its own, and returns what it has printed; "" if it passes.
    private static String failed(Path copy, String method) throws Exception {
        var ran = ran(copy, System.getProperty("java.home") + "/bin/java",
                "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dslf4j.internal.verbosity=ERROR",
                "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow",
                "-cp", "classes" + File.pathSeparator + JARS,
                "org.junit.platform.console.ConsoleLauncher", "execute", "--disable-banner",
                "--fail-if-no-tests", "--select-method=" + method);
        return ran.getKey() == 0 ? "" : ran.getValue();
    }

    private static void run(Path folder, String... command) throws Exception {
        var ran = ran(folder, command);
        assertEquals(0, ran.getKey(), String.join(" ", command) + "\n" + ran.getValue());
    }

    /// The exit status of a command, and what it has printed.
    private static Map.Entry<Integer, String> ran(Path folder, String... command)
            throws Exception {
        Path output = Files.createTempFile(temporary, "output-", ".txt");
        Process process = new ProcessBuilder(command).directory(folder.toFile())
                .redirectErrorStream(true).redirectOutput(output.toFile()).start();
        try {
            assertTrue(process.waitFor(BOUND.toSeconds(), TimeUnit.SECONDS),
                    () -> String.join(" ", command) + " does not end");
        } finally {
            process.destroyForcibly();
        }
        return Map.entry(process.exitValue(), Files.readString(output));
    }
}
