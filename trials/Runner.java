package trials;

import module java.base;
import java.lang.management.ManagementFactory;
import org.junit.platform.engine.DiscoverySelector;
import org.junit.platform.engine.Filter;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.engine.support.descriptor.ClassSource;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.TagFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/// Runs the tests for AgentTest.main, in several sizes, and prints one line for each test. The last
/// line is the sum: `N passed, N failed, N skipped`.
///
/// The floors' own tests (`./run.sh test`) spend most of their time waiting, so they run side by
/// side. A test with the tag ALONE comes before them, with nothing beside it. The trials start
/// servers, browsers and programs that need the processor for themselves; they run one by one.
public final class Runner {
    /// The tag of a test that measures time, or that replaces what all tests share (System.out).
    public static final String ALONE = "alone";

    private static final int SIDE_BY_SIDE = 8;
    private static final String USAGE = """
            usage: ./run.sh test              the ground floor and each floor below: a minute
                   ./run.sh test HttpTest     one class of tests: any of these
                   ./run.sh test trials       real servers, a browser, faults, odd input: minutes
                   ./run.sh test mutants      do the tests notice a fault? a quarter of an hour
                   ./run.sh test all          all that, with the trials at full length: an hour
            """;

    private final Map<String, Integer> counts = new HashMap<>();    // guarded by this
    private final Queue<String> failed = new ConcurrentLinkedQueue<>();
    private final Map<TestIdentifier, Long> started = new ConcurrentHashMap<>();

    private Runner() {}

    // Methods and no constants: from source Java compiles each class that it loads.

    private static List<Class<?>> floors() {
        // What takes longest begins first.
        return List.of(JoinTest.class, HouseTest.class, FolderTest.class, VoiceTest.class,
                AttackTest.class, AnswersTest.class, SessionTest.class, EndingTest.class,
                GoodbyeTest.class, HearingTest.class, LostModelTest.class, LostCallerTest.class,
                CaptionsTest.class, TranscriptTest.class, OutboxTest.class, HttpTest.class,
                NumbersTest.class, SettingsTest.class, LookUpTest.class, HealthTest.class,
                RoomTest.class, WorkerTest.class, CallerTest.class, DemoTest.class,
                ContractTest.class, SupplyTest.class);
    }

    /// The names of the test classes that are to notice the faults of MutantsTest: all of the
    /// floors, but for those of other parts and those that mostly run other programs.
    static Stream<String> fast() {
        return Stream.concat(Stream.of("AgentTest"), floors().stream()
                .filter(each -> !List.of(HealthTest.class, JoinTest.class, RoomTest.class,
                        WorkerTest.class, CallerTest.class, DemoTest.class, HouseTest.class,
                        SupplyTest.class, ContractTest.class).contains(each))
                .map(Class::getName));
    }

    private static List<Class<?>> trials() {
        return List.of(PageTest.class, LiveTest.class, PhoneTest.class, CopyTest.class,
                VerifierTest.class, ExercisesTest.class, ProxyTest.class, FaultTest.class,
                StoppedTest.class, KillTest.class, RestartTest.class, SoakTest.class,
                FuzzTest.class, BenchTest.class, LossTest.class, ContainerTest.class);
    }

    /// `args` are the words behind `./run.sh test`; `ground` are the test classes in no package,
    /// which cannot be named here. Ends the process: with 0 when at least one test has passed and
    /// none has failed, with 2 when the words make no sense, and otherwise with 1.
    public static void run(String[] args, Class<?>... ground) {
        String size = String.join(" ", args);
        var one = Stream.of(Stream.of(ground), floors().stream(), trials().stream())
                .flatMap(each -> each).filter(each -> each.getSimpleName().equals(size)).toList();
        if (one.isEmpty() && !List.of("", "trials", "mutants", "all").contains(size)) {
            System.err.print(USAGE);
            System.exit(2);
        }
        System.setProperty("slf4j.internal.verbosity", "ERROR");
        System.setProperty("trials", size.equals("all") ? "all" : "short");
        var runner = new Runner();
        if (!one.isEmpty()) {
            runner.run(one, 1);
        }
        if (size.isEmpty() || size.equals("all")) {
            var quick = Stream.concat(Stream.of(ground), floors().stream()).toList();
            runner.run(quick, 1, TagFilter.includeTags(ALONE));
            runner.run(quick, SIDE_BY_SIDE, TagFilter.excludeTags(ALONE));
        }
        if (size.equals("trials") || size.equals("all")) {
            runner.run(trials(), 1);
        }
        if (size.equals("mutants") || size.equals("all")) {
            runner.run(List.of(MutantsTest.class), 1);
        }
        System.exit(runner.sum());
    }

    private void run(List<Class<?>> classes, int parallelism,
            Filter<?>... filters) {
        var selectors = classes.stream().map(each -> (DiscoverySelector)
                DiscoverySelectors.selectClass(each)).toList();
        // The thread pool: JUnit's ForkJoinPool starts more tests while a test waits for a future.
        var request = LauncherDiscoveryRequestBuilder.request().selectors(selectors)
                .filters(filters).configurationParameters(Map.of(
                        "junit.jupiter.execution.parallel.enabled", "" + (parallelism > 1),
                        "junit.jupiter.execution.parallel.mode.default", "concurrent",
                        "junit.jupiter.execution.parallel.config.executor-service",
                        "worker_thread_pool",
                        "junit.jupiter.execution.parallel.config.strategy", "fixed",
                        "junit.jupiter.execution.parallel.config.fixed.parallelism",
                        "" + parallelism)).build();
        LauncherFactory.create().execute(request, new TestExecutionListener() {
            @Override
            public void executionStarted(TestIdentifier test) {
                started.put(test, System.nanoTime());
            }

            @Override
            public void executionSkipped(TestIdentifier test, String why) {
                count("skipped", test, why);
            }

            @Override
            public void executionFinished(TestIdentifier test, TestExecutionResult result) {
                switch (result.getStatus()) {
                    case SUCCESSFUL -> {
                        if (test.isTest()) {
                            count("passed", test, "");
                        }
                    }
                    case ABORTED -> count("skipped", test, result.getThrowable()
                            .map(Throwable::getMessage).orElse(""));
                    case FAILED -> {
                        count("failed", test, "");
                        failed.add(name(test));
                        result.getThrowable().ifPresent(why -> why.printStackTrace(System.out));
                    }
                }
            }
        });
    }

    private synchronized void count(String what, TestIdentifier test, String why) {
        counts.merge(what, 1, Integer::sum);
        long now = System.nanoTime();
        long ms = (now - started.getOrDefault(test, now)) / 1_000_000;
        System.out.println("%-8s%6d ms  %s %s".formatted(what, ms, name(test), why));
    }

    private static String name(TestIdentifier test) {
        return switch (test.getSource().orElse(null)) {
            case MethodSource method -> method.getJavaClass().getSimpleName() + "."
                    + method.getMethodName() + (test.getDisplayName().endsWith("()") ? ""
                            : " " + test.getDisplayName());
            case ClassSource all -> all.getJavaClass().getSimpleName();
            case null, default -> test.getDisplayName();
        };
    }

    /// Prints it and returns the exit status. A search that finds no test is no success.
    private synchronized int sum() {
        int passed = counts.getOrDefault("passed", 0);
        failed.forEach(name -> System.out.println("failed: " + name));
        long ms = System.currentTimeMillis()
                - ManagementFactory.getRuntimeMXBean().getStartTime();
        System.out.printf(Locale.ROOT, "%.1f s, with the time that Java took to start%n", ms / 1e3);
        System.out.printf("%d passed, %d failed, %d skipped%n",
                passed, failed.size(), counts.getOrDefault("skipped", 0));
        System.out.close(); // the last line: webrtc-java has one of its own when a JVM ends
        return failed.isEmpty() && passed > 0 ? 0 : 1;
    }
}
