package trials;

import module java.base;
import demo.DemoCrm;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// The house itself: the sources compile without a warning, each floor compiles without those
/// above it, files are as short as README says, run.sh runs what the sources say now, and README
/// and docs/ name only what is there. README's commands are run as a reader would run them.
///
/// Compilers and programs need the processor, so these tests run one by one, beside those of the
/// other classes, which mostly wait. Those that wait for a command of run.sh come last.
@Execution(ExecutionMode.SAME_THREAD)
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
public final class HouseTest extends Stand {

    // The program, as a process.

    record Ran(int status, String output) {}

    /// What the commands leave: in the folder for temporary files, and in the outbox.
    private static Path temporary, outbox;

    private static ProcessBuilder program(Path temporary, Path outbox, String... command) {
        var builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("JAVA_HOME", System.getProperty("java.home"));
        builder.environment().merge("PATH", System.getProperty("java.home") + "/bin",
                (path, java) -> java + ":" + path);
        builder.environment().put("JDK_JAVA_OPTIONS", "-Djava.io.tmpdir=" + temporary);
        builder.environment().put("OUTBOX_DIR", "" + outbox);
        builder.environment().put("OPENAI_API_KEY", "none");
        return builder;
    }

    /// Runs a command to its end, 170 s at most. When `until` is not null, the command is stopped
    /// as soon as it has written that, and its status is then -1. It is not `nice`: on a busy
    /// machine its call would then wait too long for its model.
    static Ran run(List<String> command, String until) {
        try {
            var builder = program(temporary, outbox);
            builder.command().addAll(command);
            builder.environment().put("CRM_URL", "http://crm.example"); // whatever .env says
            Process process = builder.start();
            process.getOutputStream().close(); // nobody types
            CompletableFuture.delayedExecutor(170, TimeUnit.SECONDS)
                    .execute(process::destroyForcibly);
            var output = new StringBuilder();
            boolean stopped = false;
            try (var lines = process.inputReader(UTF_8)) {
                // The output ends when the last process that writes to it has ended.
                for (String line; (line = lines.readLine()) != null; ) {
                    output.append(line).append('\n');
                    if (until != null && !stopped && line.contains(until)) {
                        stopped = true;
                        process.descendants().forEach(ProcessHandle::destroy);
                        process.toHandle().destroy();
                    }
                }
            }
            int status = process.waitFor();
            return new Ran(stopped ? -1 : status, output.toString());
        } catch (IOException | InterruptedException e) {
            throw new AssertionError(command.toString(), e);
        }
    }

    private static void says(int status, String what, Ran ran, String line) {
        assertEquals(status, ran.status, line + ": " + ran.output);
        assertTrue(ran.output.contains(what), line + ": " + ran.output);
    }

    private static final int WAITS_FOR_BUILD = Integer.MAX_VALUE - 1;
    private static final int WAITS_FOR_COMMANDS = Integer.MAX_VALUE;
    private static CompletableFuture<Ran> build;
    /// A CRM of somebody's own, and the call that is to come into it.
    private static DemoCrm ownCrm;
    private static CompletableFuture<Ran> ownCall;
    /// The compilers that the calls wait for: beside them, a call's model would be too late.
    private static final CountDownLatch COMPILERS = new CountDownLatch(2);
    private static final Duration COMPILE = Duration.ofSeconds(30);     // at most
    private static final Map<String, CompletableFuture<Ran>> commands = new LinkedHashMap<>();

    /// Each command is a Java that starts, so they run one by one, beside the tests. Only the
    /// two that have a whole call, which is nearly all waiting, do not hold up the others.
    @BeforeAll
    static void startCommands() throws IOException {
        temporary = Files.createTempDirectory("agent-test-");
        outbox = Files.createTempDirectory("agent-test-");
        var beside = Executors.newVirtualThreadPerTaskExecutor();
        var oneByOne = Executors.newSingleThreadExecutor(Thread.ofVirtual().factory());
        build = CompletableFuture.supplyAsync(
                () -> run(List.of("./run.sh", "build"), null), oneByOne);
        ownCrm = new DemoCrm(0, (body, signature) -> signature.equals(xSignature(body)));
        ownCall = build.thenApplyAsync(_ ->
                runCall(withOwn(ownCrm.url(), "./run.sh console --own")), beside);
        for (String line : commandsOfReadme()) {
            boolean call = List.of("./run.sh", "./run.sh console").contains(line);
            // `demo --once` is what `./run.sh` is where there is no terminal: its first words do.
            String until = line.endsWith(" --once") ? "Hello. I am a recording."
                    : line.contains(" demo/") ? "=http://127.0.0.1:" : null;
            commands.put(line, build.thenApplyAsync(_ -> !call
                    ? run(List.of("bash", "-c", line), until)
                    : runCall(withOwn(ownCrm.url(), line)),
                    call ? beside : oneByOne));
        }
    }

    /// Runs a command that has a call, when the compilers are done.
    private static Ran runCall(List<String> command) {
        try {
            COMPILERS.await(COMPILE.toMillis(), TimeUnit.MILLISECONDS);
            return run(command, null);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    @AfterAll
    static void deleteFolders() throws IOException {
        ownCrm.close();
        delete(temporary);
        delete(outbox);
    }

    /// And three that a reader may mistype. The tests and the bench are left out.
    private static List<String> commandsOfReadme() throws IOException {
        var lines = new ArrayList<String>();
        for (String block : Docs.readme("sh")) {
            if (block.contains("$COPY")) {
                continue;   // CopyTest runs these
            }
            String before = "";
            for (String line : block.lines().toList()) {
                if (line.startsWith("export ")) {
                    before += line + "; ";
                } else if (!line.matches("./run.sh (test|bench).*")) {
                    // Port 0 is any that is free.
                    lines.add(before + line.replaceFirst("( demo/.*) [0-9]+$", "$1 0"));
                }
            }
        }
        lines.addAll(List.of("./run.sh fly", "./run.sh demo --fly",
                "java @lib/java.options Agent.java"));
        return lines;
    }

    /// Last, because the commands run meanwhile.
    @Test
    @Order(WAITS_FOR_COMMANDS)
    void theReadmesCommandsSayWhatIsWrong() throws Exception {
        assertEquals(13, commands.size(), commands.keySet().toString());
        assertEquals("./run.sh", commands.keySet().iterator().next());
        for (var command : commands.entrySet()) {
            Ran ran = command.getValue().get(180, TimeUnit.SECONDS);
            String line = command.getKey();
            switch (line.replaceFirst(".*(Agent|DemoCrm|DemoModel).java", "$1")) {
                case "./run.sh" -> {
                    assertEquals(0, ran.status, line + ": " + ran.output);
                    // A line of the CRM may come after it: the activity has a lane of its own.
                    assertTrue(ran.output.contains("The CRM has all 5 events of the call, verified "
                            + "and in order: call.started, intent.recorded, crm.updated, "
                            + "call.transferred, call.ended\n"), line + ": " + ran.output);
                    assertTrue(ran.output.contains("Hello. I am a recording."), ran.output);
                    assertFalse(ran.output.contains("\u001b"), "colours are for a terminal");
                }
                case "./run.sh demo --once" -> says(-1, "Hello. I am a recording.", ran, line);
                case "./run.sh console" -> {
                    assertEquals(0, ran.status, line + ": " + ran.output);
                    assertTrue(ran.output.contains(": call.started, call.ended\n"), ran.output);
                }
                case "./run.sh fly", "./run.sh demo --fly", "Agent" ->
                        says(1, "usage: ", ran, line);
                case "DemoCrm 0", "DemoModel 0" -> says(-1, "=http://127.0.0.1:", ran, line);
                default -> says(2, "CRM_URL: what callers say travels to it", ran, line);
            }
        }
        assertEquals(List.of(), names(temporary), "temporary files");
        try (var left = Files.walk(outbox)) {
            assertEquals(List.of(), left.filter(Files::isRegularFile)
                    .filter(file -> !file.endsWith("lock")).toList(), "in the outbox");
        }
    }

    /// A CRM that gives each event this status.
    private String own(int status, List<String> came) throws IOException {
        return server(exchange -> {
            try (exchange) {
                byte[] body = exchange.getRequestBody().readAllBytes();
                boolean signed = xSignature(body).equals(
                        exchange.getRequestHeaders().getFirst("X-Signature"));
                came.add(exchange.getRequestURI() + " " + (signed
                        ? json(new String(body, UTF_8)).getString("event") : "forged"));
                exchange.sendResponseHeaders(status, -1);
            }
        });
    }

    private static List<String> withOwn(String url, String command) {
        return Stream.concat(Stream.of("env", "CRM_URL=" + url, "CRM_API_KEY=crm-key",
                "WEBHOOK_SECRET=" + SECRET), Stream.of(command.split(" "))).toList();
    }

    @Test
    @Order(WAITS_FOR_COMMANDS)
    void aTestCallComesIntoOnesOwnCrmIfOneSaysSoAndNeverOtherwise() throws Exception {
        Ran call = ownCall.get(180, TimeUnit.SECONDS);
        String line = "./run.sh console --own";
        says(0, "This call is reported to CRM_URL: " + ownCrm.url(), call, line);
        for (String came : List.of("200 after [0-9]+ ms: POST CRM_URL/contacts/search",
                "204 after [0-9]+ ms: POST CRM_URL/webhooks/call")) {
            assertTrue(Pattern.compile("HTTP " + came).matcher(call.output).find(), call.output);
        }
        assertTrue(call.output.endsWith("The CRM has taken all of it.\n"), call.output);
        commands.get("./run.sh console").get(180, TimeUnit.SECONDS);    // comes into none
        assertEquals(List.of("Bearer crm-key", "true", "true"), ownCrm.requests().stream()
                .map(it -> it.headers().getOrDefault("authorization", "" + it.verified()))
                .sorted().toList());
        Contract.holds(ownCrm.requests());
    }

    @Test
    @Order(WAITS_FOR_BUILD)
    void oneSignedExampleIsSentAndWhatComesBackIsSaid() throws Exception {
        assertEquals(0, build.get(180, TimeUnit.SECONDS).status);
        var came = new CopyOnWriteArrayList<String>();
        for (var each : Map.of(204, "HTTP 204 after", 410, "the agent would put it aside.", 404,
                "after three attempts more", 503, "send it again until it is taken").entrySet()) {
            came.clear();
            says(each.getKey() == 204 ? 0 : 1, each.getValue(),
                    run(withOwn(own(each.getKey(), came), "./run.sh event intent.recorded"),
                            null), "event");
            assertEquals(List.of("/webhooks/intent intent.recorded"), came);
        }
        says(1, "NOT taken: no answer",
                run(withOwn("http://127.0.0.1:1", "./run.sh event call.ended"), null), "no CRM");
        says(2, "There are: call.ended, call.started, call.transcript, call.transfer_failed, "
                + "call.transferred, crm.updated, intent.recorded\n",
                run(withOwn("http://127.0.0.1:1", "./run.sh event call.over"), null), "no event");
    }

    /// `./run.sh dev`, in which WebRTC is loaded. It finds its LiveKit, and no CRM and no model.
    private Process dev(TestLiveKit livekit, Path temporary, Path log) throws Exception {
        assertEquals(0, build.get(180, TimeUnit.SECONDS).status);
        var builder = program(temporary, folder(), "./run.sh", "dev");
        builder.environment().putAll(Map.of("CRM_URL", "http://127.0.0.1:1", "LIVEKIT_URL",
                livekit.url(), "LIVEKIT_API_KEY", "key", "LIVEKIT_API_SECRET", "secret",
                "WEBHOOK_SECRET", SECRET, "OPENAI_BASE_URL", "http://127.0.0.1:1"));
        return builder.redirectOutput(log.toFile()).start();
    }

    private static void stop(Process program) throws InterruptedException {
        program.destroy();
        assertTrue(program.waitFor(60, TimeUnit.SECONDS), "SIGTERM ends it");
    }

    /// webrtc-java puts a copy of its library, 23 MB, into the temporary folder for 0.1 s.
    @Test
    @Order(WAITS_FOR_BUILD)
    void aProgramThatIsStoppedWhileItLoadsItsLibraryLeavesNoCopy() throws Exception {
        Path temporary = folder(), log = folder().resolve("log");
        var livekit = opened(new TestLiveKit());
        Process program = dev(livekit, temporary, log);
        eventually("the copy is there, or was", 60,
                () -> !names(temporary).isEmpty() || !livekit.told.isEmpty());
        stop(program);
        assertEquals(List.of(), names(temporary), Files.readString(log));
    }

    @Test
    @Order(WAITS_FOR_BUILD)
    void theCopyThatAKilledProgramHasLeftIsDeletedByTheNext() throws Exception {
        Path temporary = folder(), log = folder().resolve("log");
        Path dead = Files.createFile(temporary.resolve("libwebrtc-java-dead.so"));
        Path young = Files.createFile(temporary.resolve("libwebrtc-java-young.so"));
        Files.setLastModifiedTime(dead, FileTime.from(Instant.now().minusSeconds(61)));
        Files.setLastModifiedTime(young, FileTime.from(Instant.now().plusSeconds(3_600)));
        Process program = dev(opened(new TestLiveKit()), temporary, log);
        eventually("it is gone", 60, () -> Files.notExists(dead));
        stop(program);
        assertTrue(Files.exists(young), "another process may be loading it");
    }

    /// In a copy of the folder; the jars and the AOT caches are those of this one.
    @Test
    @Order(WAITS_FOR_BUILD)
    void runShRunsWhatTheSourcesSayNow() throws Exception {
        Path copy = folder();
        Ran built = build.get(180, TimeUnit.SECONDS);
        assertEquals(0, built.status, built.output);
        run(List.of("bash", "-c", "cp -a run.sh *.java " + String.join(" ", sourceFolders())
                + " \"$0\" && mkdir \"$0/lib\" && "
                + "cp -a lib/*.* lib/.fetched lib/.trained \"$0/lib\"", copy.toString()), null);
        var fly = List.of("bash", "-c", "JDK_JAVA_OPTIONS=-XX:AOTMode=on \"$0/run.sh\" fly",
                copy.toString()); // "on": it must find the cache, and take it
        Path agent = copy.resolve("start/Start.java");
        String source = Files.readString(agent);

        Files.writeString(agent, source.replace("usage: ./run.sh", "changed: ./run.sh"));
        Ran first = run(fly, null), second = run(fly, null);
        says(1, "compiling", first, "after a change");
        says(1, "changed: ./run.sh VERB", first, "after a change");
        says(1, "changed: ./run.sh VERB", second, "after no change");
        assertFalse(second.output.contains("compiling"), second.output);

        Files.writeString(agent, source + "mistake");
        says(1, "Start.java:", run(fly, null), "with a mistake");
        says(1, "mistake", run(fly, null), "with the same mistake");
        Files.writeString(agent, source);
        says(1, "usage: ./run.sh VERB", run(fly, null), "without it");
        try (var left = Files.list(copy.resolve("lib/app"))) {
            assertEquals(1, left.count(), "in lib/app");
        }
    }

    /// The folders that the program is made of: all with sources but for the tests and the bench.
    private static List<String> sourceFolders() throws IOException {
        try (var sources = Files.find(Path.of(""), 2,
                (path, _) -> path.getNameCount() == 2 && path.toString().endsWith(".java"))) {
            return sources.map(path -> path.getParent().toString())
                    .filter(folder -> !List.of("lib", "trials", "bench").contains(folder))
                    .distinct().sorted().toList();
        }
    }

    /// run.sh compiles again when it sees a change, so it has to look into every folder. Java
    /// itself is not needed for that: this JDK does nothing but print what it was called with.
    @Test
    void runShSeesAChangeInEveryFolder() throws Exception {
        Path copy = folder(), jdk = folder();
        Files.copy(Path.of("run.sh"), copy.resolve("run.sh"),
                StandardCopyOption.COPY_ATTRIBUTES);
        var files = new ArrayList<>(List.of("lib/pom.xml", "lib/livekit-server-0.jar",
                "lib/libraries.jar", "lib/.fetched"));
        for (Path source : sources()) {
            files.add(source.toString());
        }
        for (String file : files) {
            Files.createDirectories(copy.resolve(file).getParent());
            Files.createFile(copy.resolve(file));
        }
        Files.setLastModifiedTime(copy.resolve("lib/pom.xml"), FileTime.fromMillis(0));
        String all = "while [ $# -gt 0 ]; do %s; shift; done";
        program(jdk, "javac", all.formatted("[ \"$1\" != -d ] || mkdir -p \"$2\""));
        program(jdk, "jar", all.formatted("[ \"$1\" != --file ] || : >\"$2\""));
        program(jdk, "java", "echo \"$@\"");
        Files.writeString(jdk.resolve("release"), "JAVA_VERSION=\"25\"\n");
        var run = List.of("env", "JAVA_HOME=" + jdk, copy.resolve("run.sh").toString());

        Ran first = run(run, null);
        says(0, "compiling", first, "at first");
        assertTrue(first.output.endsWith(" Agent demo\n"), first.output);
        assertFalse(run(run, null).output.contains("compiling"), "without a change");
        var test = Stream.concat(run.stream(), Stream.of("test", "trials")).toList();
        says(0, "compiling", run(test, null), "the tests at first");
        var folders = sources().stream().map(source -> Objects.toString(source.getParent(), ""))
                .filter(folder -> !folder.equals("lib")).distinct().toList();
        assertTrue(folders.containsAll(List.of("", "trials", "voice")), folders.toString());
        for (String folder : folders) {
            String changed = files.stream().filter(file -> file.endsWith(".java")
                    && Objects.toString(Path.of(file).getParent(), "").equals(folder))
                    .findFirst().orElseThrow();
            Files.writeString(copy.resolve(changed), "// changed\n");
            boolean ofProgram = folder.isEmpty() || sourceFolders().contains(folder);
            assertEquals(ofProgram, run(run, null).output.contains("compiling"), changed);
            Ran tests = run(test, null);
            says(0, "compiling", tests, changed + " was changed");
            assertTrue(tests.output.endsWith(".jar AgentTest trials\n"), tests.output);
        }
        assertFalse(run(test, null).output.contains("compiling"), "without a change");
        Path own = copy.resolve("crm/hub/Own.java");        // of whoever adapts the sample
        Files.createDirectories(own.getParent());
        for (String text : List.of("", "// changed\n")) {
            Files.writeString(own, text);
            says(0, "compiling", run(run, null), own + " was written");
        }
    }

    private static void program(Path jdk, String name, String script) throws IOException {
        Path file = Files.createDirectories(jdk.resolve("bin")).resolve(name);
        Files.writeString(file, "#!/bin/sh\n" + script + "\n");
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    // The sources.

    static List<Path> sources() throws IOException {
        try (var all = Files.find(Path.of(""), 2, (path, _) -> path.toString().endsWith(".java"))) {
            return all.sorted().toList();
        }
    }

    static final JavaCompiler COMPILER = ToolProvider.getSystemJavaCompiler();

    private static String compile(StandardJavaFileManager files, List<Path> sources,
            String... options) throws IOException {
        Path out = Files.createTempDirectory("agent-test-");
        try {
            return compile(out, files, sources, options);
        } finally {
            delete(out);
        }
    }

    /// Compiles with the jars alone: a class path may hold classes of ours as well. Returns what
    /// the compiler says, or "".
    static String compile(Path out, StandardJavaFileManager files, List<Path> sources,
            String... options) throws IOException {
        String jars = Stream.of(System.getProperty("java.class.path").split(File.pathSeparator))
                .filter(each -> each.endsWith(".jar"))
                .collect(Collectors.joining(File.pathSeparator));
        var said = new StringWriter();
        boolean passed = COMPILER.getTask(said, files, null,
                Stream.concat(Stream.of("-d", out.toString(), "-cp", jars),
                        Stream.of(options)).toList(),
                null, files.getJavaFileObjectsFromPaths(sources)).call();
        return passed ? "" : "it does not compile:\n" + said;
    }

    @Test
    @Order(1)
    void theSourcesCompileWithoutAWarning() throws Exception {
        try (var files = COMPILER.getStandardFileManager(null, null, null)) {
            var sources = sources();
            assertEquals("", compile(files, sources, "-Xlint:all", "-Werror"));
            assertTrue(sources.size() >= 12, "only " + sources);
        } finally {
            COMPILERS.countDown();
        }
    }

    /// Each floor, and what is below it: folders, or single files of a folder.
    private static final Map<String, List<String>> FLOORS = Map.of(
            "voice", List.of(),
            "delivery", List.of("voice/Log.java"),
            "room", List.of("voice"),
            "demo", List.of("room", "voice"),
            "start", List.of("demo", "delivery", "room", "voice"));

    @Test
    @Order(1)
    void eachFloorCompilesWithoutThoseAboveIt() throws Exception {
        try (var files = COMPILER.getStandardFileManager(null, null, null)) {
            for (var floor : FLOORS.entrySet()) {
                Path house = folder();
                for (String below : floor.getValue()) {
                    copy(house, below);
                }
                String said = compile(files, copy(house, floor.getKey()),
                        "-proc:none", "-implicit:none", "-sourcepath", house.toString());
                assertEquals("", said, floor.getKey() + " with " + floor.getValue());
            }
        } finally {
            COMPILERS.countDown();
        }
        var known = new TreeSet<>(FLOORS.keySet());
        assertEquals(known, new TreeSet<>(sourceFolders()));
    }

    /// Returns the copies of the sources of that floor, of which there is at least one.
    private static List<Path> copy(Path house, String floor) throws IOException {
        var copies = new ArrayList<Path>();
        for (Path source : sources()) {
            if (source.startsWith(floor)) {
                Path copy = house.resolve(source);
                Files.createDirectories(copy.getParent());
                copies.add(Files.copy(source, copy));
            }
        }
        assertFalse(copies.isEmpty(), "there is no " + floor);
        return copies;
    }

    // Sizes, in lines.

    private static final Map<String, Integer> GROUND_FLOOR = Map.of(
            "Agent.java", 260, "Tools.java", 270, "Webhooks.java", 330, "Hmac.java", 80);
    private static final int WHOLE_GROUND_FLOOR = 940;
    private static final Map<String, Integer> ELSEWHERE = Map.of("start", 500, "delivery", 500,
            "voice", 500, "room", 500, "demo", 500, "trials", 900, "bench", 900);

    @Test
    void noFileIsLongerThanPromised() throws Exception {
        var limits = new TreeMap<Path, Integer>();
        GROUND_FLOOR.forEach((file, limit) -> limits.put(Path.of(file), limit));
        limits.put(Path.of("AgentTest.java"), 1_000);
        limits.put(Path.of("README.md"), 240);
        limits.put(Path.of("AGENTS.md"), 40);
        for (Path source : sources()) {
            if (source.getNameCount() > 1) {
                limits.putIfAbsent(source, ELSEWHERE.getOrDefault(
                        source.getParent().toString(), Integer.MAX_VALUE));
            }
        }
        var tooLong = new ArrayList<String>();
        int ground = 0;
        for (var each : limits.entrySet()) {
            int lines = Files.readAllLines(each.getKey()).size();
            if (lines > each.getValue()) {
                tooLong.add(each.getKey() + ": " + lines + " of " + each.getValue());
            }
            ground += GROUND_FLOOR.containsKey(each.getKey().toString()) ? lines : 0;
        }
        if (ground > WHOLE_GROUND_FLOOR) {
            tooLong.add("the ground floor: " + ground + " of " + WHOLE_GROUND_FLOOR);
        }
        assertEquals(List.of(), tooLong);
    }

    /// But for tables and links, which Markdown cannot break.
    @Test
    void noLineIsWiderThan100Columns() throws Exception {
        var files = new ArrayList<>(sources());
        files.addAll(Docs.all().keySet());
        Stream.of("run.sh", ".ci/run", "trials/install", "Dockerfile", "compose.yaml")
                .map(Path::of).forEach(files::add);
        var tooWide = new ArrayList<String>();
        for (Path file : files) {
            List<String> lines = Files.readAllLines(file);
            for (int i = 0; i < lines.size(); i++) {
                String line = lines.get(i);
                boolean free = file.toString().endsWith(".md")
                        && (line.startsWith("|") || line.contains("](") || line.contains("://"));
                if (line.codePointCount(0, line.length()) > 100 && !free) {
                    tooWide.add(file + ":" + (i + 1));
                }
            }
        }
        assertEquals(List.of(), tooWide);
    }

    // Bounds.

    private static final Pattern A_CONSTANT = Pattern.compile("static final "
            + "(?:Duration|int|long|float|int\\[\\]) ([A-Z][A-Z_]*) =\\s*([^;]+);"
            + "(?: *// *(\\w+))?");

    /// What sound and JSON are made of, and a column of the log.
    private static final Set<String> NO_BOUNDS = Set.of("Speaker.RATE", "Speaker.BYTES_PER_MS",
            "Speaker.FRAME", "Speaker.FRAME_NANOS", "Hearing.PIECE_MS", "Hearing.PIECE",
            "Hearing.LOUD", "Log.SHORT", "Transcript.FRAME");

    /// The bounds in the code: `1.5 s` by `Agent.LOOK_UP_BOUND`.
    private static Map<String, String> bounds() throws IOException {
        var bounds = new TreeMap<String, String>();
        for (Path source : sources()) {
            if (!Pattern.matches("[A-Z].*|(start|delivery|voice|room)/.*", source.toString())) {
                continue;
            }
            String file = source.getFileName().toString().replace(".java", ".");
            A_CONSTANT.matcher(Files.readString(source)).results().forEach(it -> bounds.put(
                    file + it.group(1), bound(it.group(1), it.group(2), "" + it.group(3))));
        }
        bounds.keySet().removeAll(NO_BOUNDS);
        return bounds;
    }

    private static String bound(String name, String value, String comment) {
        // Where a number is turned into bytes or pieces of sound, the number itself is in ms.
        String ms = value.contains("ofMinutes") ? "60000"
                : value.contains("ofSeconds") || comment.equals("seconds") ? "1000"
                : value.contains("ofMillis") || (name + value).contains("_MS")
                        || comment.equals("ms") ? "1" : null;
        return Pattern.compile("[0-9][0-9_.]*").matcher(value).results()
                .map(number -> new BigDecimal(number.group().replace("_", "")))
                .map(number -> ms == null ? String.format(Locale.ROOT, "%,f", number)
                        : String.format(Locale.ROOT, "%f s",
                                number.multiply(new BigDecimal(ms)).movePointLeft(3)))
                .map(written -> written.replaceFirst("\\.?0+(?= s$|$)", ""))
                .collect(Collectors.joining(", "));
    }

    @Test
    void theTableOfBoundsIsWhatTheCodeHas() throws Exception {
        var table = new TreeMap<String, String>();
        Pattern.compile("(?m)^\\| .+ \\| (.+) \\| `(\\w+\\.\\w+)` \\|$")
                .matcher(Files.readString(Path.of("docs/bounds.md"))).results()
                .forEach(row -> assertNull(table.put(row.group(2), row.group(1)
                        .replaceFirst("^([0-9.,]+) (?!s\\b).*", "$1")), row.group()));  // no unit
        var bounds = bounds();
        var names = new TreeSet<>(table.keySet());
        names.addAll(bounds.keySet());
        assertEquals(List.of(), names.stream()
                .filter(name -> !Objects.equals(bounds.get(name), table.get(name)))
                .map(name -> name + ": " + bounds.get(name) + " in the code, "
                        + table.get(name) + " in the table").toList());
        assertTrue(names.size() >= 80, "only " + names);
    }

    /// Sentences of README and docs/ with a bound in braces, and the constant that it is.
    private static final String SENTENCES = """
            README.md: the CRM is asked; the greeting waits {1.5 s} for it = Agent.LOOK_UP_BOUND
            README.md: when the greeting begins, after {3 s} at the latest = PickUp.PICK_UP
            README.md: a model that is away for up to {8 s} = Trouble.GIVEN_UP_AFTER
            README.md: connection is lost has {15 s} to come back = Ending.COMES_BACK
            README.md: the agent says goodbye in the last {20 s} = Start.GOODBYE
            README.md: that takes up to {10 s} for an answer = Turn.NO_ANSWER
            docs/guarantees.md: gives one every {second} = Outbox.SIGN_OF_LIFE
            docs/guarantees.md: tries again and again for {8 s} = Trouble.GIVEN_UP_AFTER
            docs/guarantees.md: may take {10 s} for an answer = Turn.NO_ANSWER
            docs/guarantees.md: if the connection is away for {a second} = Session.MODEL_AWAY
            docs/guarantees.md: have heard nothing for {three seconds} = Turn.CALLER_WAITS
            docs/guarantees.md: waits for the look-up for {1.5 s} = Agent.LOOK_UP_BOUND
            docs/guarantees.md: The CRM has {5 s} in all to answer it = Tools.LOOK_UP_BOUND
            docs/guarantees.md: picked up after {3 s} at the latest = PickUp.PICK_UP
            docs/guarantees.md: three times to join the room, within {10 s} = Room.JOINING
            docs/guarantees.md: tries to come back for {60 s} = Signalling.WITH_SOUND
            docs/guarantees.md: is not back after {10 s} = Signalling.COMING_BACK
            docs/guarantees.md: the same identity, for {15 s} at most = Ending.COMES_BACK
            docs/guarantees.md: In the last {20 s} of that it says goodbye = Start.GOODBYE
            docs/guarantees.md: goodbye, for {8 s} until its first sound = Turn.SENTENCE_BEGINS
            docs/guarantees.md: and for {20 s} from there to its end = Turn.SENTENCE
            docs/guarantees.md: gives the caller {1.2 s} more = Turn.AFTER_GOODBYE
            docs/contract.md: they did not come back within {15 s} = Ending.COMES_BACK
            docs/guarantees.md: The CRM then has {8 s} to take = Start.SENDING
            docs/guarantees.md: of {1,000} characters at most = Log.LONGEST
            docs/faults.md: has not reported that after {a second} = Hearing.MISMATCH_BEFORE_PROBE
            docs/faults.md: no answer after {2.4 s} more = Link.PROBE_ANSWERED
            docs/faults.md: and the caller hears nothing for {3 s} = Turn.CALLER_WAITS
            docs/faults.md: it has {10 s} to begin an answer = Turn.NO_ANSWER
            docs/faults.md: The greeting waits for it for {1.5 s} = Agent.LOOK_UP_BOUND
            docs/faults.md: in the conversation takes {5 s} at the most = Tools.LOOK_UP_BOUND
            docs/contract.md: Answer within {5 s} = Http.TIMEOUT
            docs/contract.md: the agent waits {0.5 s}, then 1 s, 2 s = Outbox.FIRST_WAIT
            docs/contract.md: for that time, but at most {60 s} = Http.LONGEST_RETRY_AFTER
            docs/contract.md: the greeting waits for {1.5 s} of that = Agent.LOOK_UP_BOUND
            docs/contract.md: You have {5 s} to answer a search = Tools.LOOK_UP_BOUND
            docs/phone.md: if no agent took the call within {3 s} = Dispatch.AGENT
            docs/phone.md: rings for {a minute} at most = PickUp.RINGS
            docs/phone.md: and is closed after {5 s} at the latest = Health.REQUEST
            docs/phone.md: There are {50} at most = Health.MOST_CONNECTIONS
            docs/contract.md: {4,000} characters at most = Webhooks.MOST_SUMMARY
            docs/contract.md: what was broken, in {300} characters at most = Ending.MOST_CAUSE
            docs/contract.md: it gives one every {second} = Outbox.SIGN_OF_LIFE
            docs/crm.md: The greeting waits for {1.5 s} = Agent.LOOK_UP_BOUND
            docs/contract.md: An `id` of more than {200} characters = Tools.MOST_ID
            docs/contract.md: the tools take {50} events and requests = Tools.MOST_REPORTS
            docs/contract.md: `lookup_crm` takes {3} look-ups = Tools.MOST_LOOK_UPS
            docs/guarantees.md: if the text has {7} digits or more = Log.A_NUMBER
            docs/phone.md: A turn ends after {0.5 s} of silence = Link.SILENCE
            docs/phone.md: the CRM has {8 s} to take the last events = Start.SENDING
            """;
    private static final Map<String, String> IN_WORDS = Map.of("second", "1 s", "a second", "1 s",
            "three seconds", "3 s", "a minute", "60 s");

    @Test
    void theBoundsInTheSentencesAreThoseOfTheCode() throws Exception {
        var bounds = bounds();
        for (String line : SENTENCES.lines().toList()) {
            String[] parts = line.split(": | = |[{}]");     // file, before, bound, after, constant
            String doc = Docs.all().get(Path.of(parts[0])).replaceAll("\\s+", " ");
            assertTrue(doc.contains(parts[1] + parts[2] + parts[3]), line);
            assertEquals(bounds.get(parts[4]), IN_WORDS.getOrDefault(parts[2], parts[2]), line);
        }
        assertTrue(Docs.all().get(Path.of("docs/contract.md")).contains("and so on up to 30 s"));
        assertEquals(30, seconds(bounds, "Outbox.FIRST_WAIT")
                * Integer.parseInt(bounds.get("Outbox.LONGEST_WAIT")));
        // phone.md: an orchestrator has to wait 10 s for the end.
        assertTrue(seconds(bounds, "Start.ENDING") + seconds(bounds, "Start.SENDING") < 10);
    }

    private static double seconds(Map<String, String> bounds, String constant) {
        return Double.parseDouble(bounds.get(constant).replace(" s", ""));
    }

    // README and docs/.

    @Test
    void theExercisesStartWhereTheirPagesSay() throws Exception {
        String readme = Files.readString(Path.of("README.md"));
        String exercises = readme.substring(readme.indexOf("## Exercises")) + Docs.all().entrySet()
                .stream().filter(page -> page.getKey().startsWith("docs/exercises"))
                .map(Map.Entry::getValue).collect(Collectors.joining());
        var places = Pattern.compile("`([A-Z]\\w+)\\.(\\w+)`").matcher(exercises).results()
                .filter(place -> !place.group(2).equals("java")).toList();
        assertTrue(places.size() >= 20, places.toString());
        var patches = new StringBuilder();      // a page also names what its patch adds
        for (String name : ExercisesTest.names()) {
            patches.append(Files.readString(Path.of("docs/exercises", name + ".patch")));
        }
        for (var place : places) {
            String file = Map.of("Call", "Agent", "Contact", "Tools")
                    .getOrDefault(place.group(1), place.group(1));
            Path source = Stream.concat(Stream.of(""), sourceFolders().stream())
                    .map(folder -> Path.of(folder, file + ".java"))
                    .filter(Files::exists).findFirst().orElseThrow();
            assertTrue(Pattern.compile("\\b" + place.group(2) + "( =|\\()")
                    .matcher(Files.readString(source) + patches).find(), place.group());
        }
    }

    @Test
    void theReadmesCodeIsTheSources() throws Exception {
        String tools = Files.readString(Path.of("Tools.java"));
        // The other block is the Main of a copy, which CopyTest runs.
        var code = Docs.readme("java").stream()
                .filter(each -> !each.startsWith("package ")).toList();
        code.forEach(each -> assertTrue(tools.contains(each), each));
        assertFalse(code.isEmpty());
    }

    private static final Pattern A_CLASS =
            Pattern.compile("(\\w+/)?[A-Z]\\w*[a-z]\\w*(\\.\\w+)*(\\(\\))?");

    /// `Worker`, `Tools.Contact.of` and `Agent.java` between backticks are classes, members and
    /// files of ours.
    @Test
    void theClassesInTheDocsExist() throws Exception {
        var texts = new HashMap<Path, String>();
        for (Path source : sources()) {
            texts.put(source, Files.readString(source));
        }
        var wrong = new ArrayList<String>();
        int seen = 0;
        for (var doc : Docs.all().entrySet()) {
            for (String name : new TreeSet<>(Docs.quoted(doc.getValue()))) {
                if (!A_CLASS.matcher(name).matches()) {
                    continue;
                }
                seen++;
                String[] parts = name.replaceFirst("\\(\\)$", "").split("[.]");
                String type = parts[0].substring(parts[0].indexOf('/') + 1);
                boolean exists = name.endsWith(".java") ? texts.keySet().stream()
                                .anyMatch(source -> source.endsWith(name))
                        : texts.values().stream().anyMatch(text -> text.contains(type)
                                && declares(text, type)
                                && Stream.of(parts).skip(1).allMatch(each -> has(text, each)));
                if (!exists) {
                    wrong.add(doc.getKey() + ": " + name);
                }
            }
        }
        assertEquals(List.of(), wrong);
        assertTrue(seen >= 40, "only " + seen);
    }

    private static boolean declares(String text, String type) {
        return Pattern.compile("\\b(class|interface|record|enum) " + type + "\\b")
                .matcher(text).find();
    }

    private static boolean has(String text, String member) {
        return declares(text, member) || Pattern.compile("\\b" + member + "( =|[(;,])")
                .matcher(text).find();
    }

    @Test
    void theSettingsInTheDocsExist() throws Exception {
        String example = Files.readString(Path.of(".env.example"));
        var wrong = new ArrayList<String>();
        for (var doc : Docs.all().entrySet()) {
            Pattern.compile("\\b" + SettingsTest.A_SETTING + "\\b").matcher(doc.getValue())
                    .results().filter(name -> !example.contains("\n" + name.group() + "="))
                    .forEach(name -> wrong.add(doc.getKey() + ": " + name.group()));
        }
        assertEquals(List.of(), wrong);
    }

    /// This is how LiveTest, PhoneTest and the demo find the lines that the docs show.
    @Test
    void aLineOfTheLogIsKnownByItsWords() {
        for (var each : Map.of(
                "06:20:04.284  181bf0  event     call.started         evt_3a375e1f-e349-473b",
                "AJ_...  event call.started evt_...",
                "06:20:04.284                    registered at ws://127.0.0.1:7880 as an-agent",
                "registered at wss://your-project.livekit.cloud as an-agent",
                "06:20:04.284  181bf0  call      from a number ending in 0100",
                "12:00:00.000  x7Yk2m  call      from a number ending in 4567",
                "asked an-agent to call, in room call-66b08fc2",
                "asked an-agent to call, in room call-0123abcd").entrySet()) {
            assertEquals(Docs.normal(each.getKey()), Docs.normal(each.getValue()));
        }
        assertNotEquals(Docs.normal("agent  Hello."), Docs.normal("caller  Hello."));
    }

    /// Every `./run.sh ..` and `java ..`, on a line of its own or between backticks. The usage,
    /// which the program prints, says which verbs there are.
    @Test
    @Order(WAITS_FOR_BUILD)
    void theVerbsInTheDocsExist() throws Exception {
        String usage = commands.get("./run.sh fly").get(180, TimeUnit.SECONDS).output;
        var wrong = new ArrayList<String>();
        int seen = 0;
        for (var doc : Docs.all().entrySet()) {
            var lines = Stream.concat(doc.getValue().lines(),
                    Docs.quoted(doc.getValue()).stream());
            for (String line : lines.toList()) {
                var command = Pattern.compile("(?:\\w+=\\S+ )?(\\./run\\.sh|java "
                        + "(?:[@-]\\S+ )*(\\S+\\.java))(?: ([a-z]+)\\b.*| [0-9]+)?").matcher(line);
                if (!command.matches()) {
                    continue;
                }
                seen++;
                String file = command.group(2), verb = command.group(3);
                boolean exists = (file == null || Files.exists(Path.of(file))) && (verb == null
                        || Pattern.compile("(?m)^ *" + verb + " |\\(.*\\b" + verb + "\\b.*\\)")
                                .matcher(usage).find());
                if (!exists) {
                    wrong.add(doc.getKey() + ": " + line);
                }
            }
        }
        assertEquals(List.of(), wrong);
        assertTrue(seen >= 20, "only " + seen);
    }
}
