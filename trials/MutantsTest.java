package trials;

import module java.base;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// Do the tests notice a fault? [PIT](https://pitest.org) changes one instruction of a class at a
/// time: it turns a comparison round, or leaves a call out. Such a class is a mutant. If a test
/// fails, it has killed the mutant. A mutant that survives is a fault that nobody would notice.
///
/// `./run.sh test mutants` runs this. It prints how many mutants of each class were killed, how
/// many have survived, and how many no test has reached. Behind that come the survivors that
/// trials/mutants.md does not explain. lib/test/mutants/index.html shows all of them in the
/// sources.
///
/// Only the fast tests take part, and of them only those that run no other program. As PIT does
/// with other loggers, it leaves calls of Log in place.
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
public final class MutantsTest {
    private static final Path REPORT = Path.of("lib", "test", "mutants");
    private static final Path EXPLAINED = Path.of("trials", "mutants.md");
    private static final List<String> GROUND = List.of("Agent", "Tools", "Webhooks", "Hmac",
            "delivery.Outbox", "delivery.Folder");
    private static final List<String> REST = List.of("voice.Session", "voice.Turn",
            "voice.Transfer", "voice.Ending", "voice.Mailbox", "voice.Speaker", "voice.Numbers",
            "voice.Tool", "voice.Log", "start.Settings");
    private static final String JARS = System.getProperty("java.class.path");
    private static final int GROUND_PERCENT = 85;
    private static final int REST_PERCENT = 80;
    /// Most tests wait for something, so more of them run at a time than there are processors.
    private static final int AT_A_TIME = 3 * Runtime.getRuntime().availableProcessors();

    /// A line of PIT's report. `what` is PIT's name for the kind of change.
    private record Mutant(String file, String name, String what, String method, int line,
                          String status) {
        static Mutant of(String row) {
            String[] cells = row.split(",");
            return new Mutant(cells[0], cells[1].replaceFirst("\\$.*", ""),
                    cells[2].replaceFirst(".*\\.", "").replaceFirst("Mutator.*", ""),
                    cells[3], Integer.parseInt(cells[4]), cells[5]);
        }

        boolean killed() {
            return !survived() && !unreached();
        }

        boolean survived() {
            return status.equals("SURVIVED");
        }

        boolean unreached() {
            return status.equals("NO_COVERAGE");
        }

        /// As trials/mutants.md names it: without the line, which moves.
        String key() {
            return file + " " + method.replaceFirst("lambda\\$(.*)\\$[0-9]+", "$1") + " " + what;
        }
    }

    private List<Mutant> mutants;

    @BeforeAll
    void plantFaults() throws Exception {
        Path classes = Files.createTempDirectory("mutants-");
        try {
            compile(classes);
            Path temporary = Files.createDirectory(classes.resolve("tmp"));
            var targets = Stream.concat(GROUND.stream(), REST.stream())
                    .flatMap(name -> Stream.of(name, name + "$*")).collect(Collectors.joining(","));
            var pit = new ProcessBuilder(System.getProperty("java.home") + "/bin/java",
                    "-Djava.io.tmpdir=" + temporary,
                    "-cp", classes + File.pathSeparator + JARS,
                    "org.pitest.mutationtest.commandline.MutationCoverageReport",
                    "--reportDir", REPORT.toString(), "--timestampedReports=false",
                    "--outputFormats", "CSV,HTML", "--sourceDirs", ".",
                    "--mutableCodePaths", classes.toString(), "--classPath", classes.toString(),
                    "--targetClasses", targets,
                    "--targetTests", Runner.fast().collect(Collectors.joining(",")),
                    "--avoidCallsTo", "voice.Log", "--threads", "" + AT_A_TIME,
                    "--mutationUnitSize", "10", "--timeoutConst", "10000",
                    "--jvmArgs", "-XX:TieredStopAtLevel=1,-XX:+UseSerialGC,-Dtrials=mutants,"
                            + "--enable-native-access=ALL-UNNAMED,"
                            + "--sun-misc-unsafe-memory-access=allow,"
                            + "-Dslf4j.internal.verbosity=ERROR,-Djava.io.tmpdir=" + temporary)
                    .redirectErrorStream(true)
                    .redirectOutput(REPORT.resolveSibling("mutants.log").toFile()).start();
            try {
                assertTrue(pit.waitFor(60, TimeUnit.MINUTES), "PIT does not come to its end");
                assertEquals(0, pit.exitValue(), "lib/test/mutants.log says why");
            } finally {
                pit.descendants().forEach(ProcessHandle::destroyForcibly);
                pit.destroyForcibly();
            }
            mutants = Files.readAllLines(REPORT.resolve("mutations.csv")).stream()
                    .map(Mutant::of).toList();
            print();
        } finally {
            Stand.delete(classes);
        }
    }

    /// With the numbers of the lines, which PIT needs.
    private static void compile(Path classes) throws IOException {
        try (var files = HouseTest.COMPILER.getStandardFileManager(null, null, UTF_8)) {
            assertEquals("", HouseTest.compile(
                    classes, files, HouseTest.sources(), "-g", "-proc:none"));
        }
    }

    private void print() throws IOException {
        System.out.printf("%n%-20s %7s %9s %12s%n", "", "killed", "survived", "not covered");
        for (String name : Stream.concat(GROUND.stream(), REST.stream()).toList()) {
            var its = mutants.stream().filter(it -> it.name.equals(name)).toList();
            System.out.printf("%-20s %7d %9d %12d   %d %%%n", name,
                    its.stream().filter(Mutant::killed).count(),
                    its.stream().filter(Mutant::survived).count(),
                    its.stream().filter(Mutant::unreached).count(), percent(List.of(name)));
        }
        String explained = Files.readString(EXPLAINED);
        System.out.println("\nnot explained in " + EXPLAINED + ":");
        mutants.stream().filter(it -> !it.killed() && !explained.contains(it.key()))
                .forEach(it -> System.out.printf("%-12s %4d  %s%n",
                        it.unreached() ? "not covered" : "survived", it.line, it.key()));
        System.out.println();
    }

    /// How many of the mutants of these classes were killed, in percent.
    private int percent(List<String> names) {
        var its = mutants.stream().filter(it -> names.contains(it.name)).toList();
        return (int) (100 * its.stream().filter(Mutant::killed).count() / Math.max(1, its.size()));
    }

    @Test
    void theGroundFloorAndTheOutboxAreWellTested() {
        GROUND.forEach(name -> assertTrue(percent(List.of(name)) > 0, name + " has no mutants"));
        assertTrue(percent(GROUND) >= GROUND_PERCENT, percent(GROUND) + " %");
    }

    @Test
    void theConversationAndTheSettingsAreWellTested() {
        REST.forEach(name -> assertTrue(percent(List.of(name)) > 0, name + " has no mutants"));
        assertTrue(percent(REST) >= REST_PERCENT, percent(REST) + " %");
    }
}
