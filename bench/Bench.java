package bench;

import module java.base;
import delivery.Outbox;
import demo.DemoCrm;
import demo.DemoModel;
import demo.DemoModel.Say;
import demo.DemoModel.Step;
import demo.DemoModel.Tool;
import io.livekit.server.AgentDispatchServiceClient;
import io.livekit.server.RoomServiceClient;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

import static java.nio.charset.StandardCharsets.UTF_8;

/// How fast and how small the sample is, as a caller hears it: `./run.sh bench`, and with
/// `--quick` within a minute. It starts a livekit-server on this machine, the program, and the
/// callers (callers.py, on LiveKit's Rust client, in processes of their own); the stand-ins for the
/// CRM and the model are in this one. It prints a table, and the same as a line of JSON.
///
/// With `--lossy` it measures calls on lines that lose packets instead. That needs a network of its
/// own, which root makes: `unshare --net ./run.sh bench --lossy`.
///
/// Times are no test, they depend on the machine. What is wrong in any case, a turn without an
/// answer, a gap or a click in the agent's speech, a lost event, ends it with status 1. (On a lossy
/// line, gaps and clicks are only counted.)
///
/// Linux only, because it reads /proc. There is no telephone network in it: a "phone" is a
/// participant that says it is one.
final class Bench {
    private static final String AGENT = "webhook-crm-agent", KEY = "devkey";
    private static final String WEBHOOK_SECRET = "the bench's own 24 bytes";
    private static final String API_SECRET = "a secret of livekit-server's own, 32 letters or more";
    private static final Duration SOON = Duration.ofSeconds(10);
    private static final int VAD_MS = 500;                  // silence, before the model answers
    private static final int THINKING_MS = 300;             // until the first sound of its answer
    private static final int PHONES = 10;                   // in a process
    private static final int WORDS_HZ = 600, WORDS_MS = 1_000;

    /// Loses so many of 1,000 packets of UDP on their way to the server, and on their way from it.
    private static final String LOSE = """
            add table inet line; flush table inet line;
            add chain inet line loses { type filter hook input priority 0; }
            add rule inet line loses meta l4proto udp numgen random mod 1000 < %d drop
            """;

    private static final String STOPPED = "input_audio_buffer.speech_stopped";
    private static final String SOUND = "response.output_audio.delta";

    /// The greeting and the answers. An answer ends before the caller speaks again.
    private static final List<Step> TALK = List.of(new Say("Hello.", 600));
    private static final Step ANSWER = new Say("Yes.", 400), LONG = new Say("Well, ..", 5_000);
    private static final Step SENTENCE = new Say("That is how it is.", 2_500);

    private final boolean quick, lossy;
    private final Random random = new Random(7);
    private final Path folder = Files.createTempDirectory("bench-");
    private final List<Process> processes = new CopyOnWriteArrayList<>();
    private final Map<String, Row> rows = new LinkedHashMap<>();
    private final List<String> wrong = new CopyOnWriteArrayList<>();
    private final DemoCrm crm = new DemoCrm(0, (body, signature) -> signature.equals(hmac(body)),
            null, this::arrived);
    private final DemoModel model = new DemoModel(0, TALK);
    private final Map<DemoModel.Session, List<Sent>> sent = new ConcurrentHashMap<>();
    private final Map<String, Phone> phones = new ConcurrentHashMap<>();
    private final String url;
    private final AgentDispatchServiceClient dispatches;
    private final List<PrintWriter> callers = new ArrayList<>();
    private Process agent;
    private volatile boolean slowCrm;
    private volatile String at = "";                        // the beginning of a row's name

    /// What the model has said, and when (ms of System.nanoTime).
    private record Sent(String type, double at) {}

    /// One line of the table. `load` is how busy the machine was, all told: 1.0 is all of it.
    private record Row(String unit, List<Double> values, List<Double> load) {
        double quantile(double part) {
            var sorted = values.stream().sorted().toList();
            return sorted.get((int) Math.min(sorted.size() - 1, sorted.size() * part));
        }
    }

    static void main(String[] args) throws Exception {
        var words = new ArrayList<>(List.of(args));
        boolean lossy = words.remove("--lossy"), quick = words.remove("--quick");
        if (!words.isEmpty()) {
            System.err.println("usage: ./run.sh bench [--lossy] [--quick]");
            System.exit(1);
        }
        var missing = Stream.of("lib/test/livekit-server", "lib/test/venv/bin/python", "/proc/stat")
                .filter(file -> !Files.exists(Path.of(file))).toList();
        if (!missing.isEmpty()) {
            System.err.println("Missing: " + String.join(", ", missing)
                    + ". trials/install installs the first two; there is no /proc but on Linux.");
            System.exit(3);
        }
        if (lossy) {
            ownNetwork();
        }
        var bench = new Bench(quick, lossy);
        Runtime.getRuntime().addShutdownHook(new Thread(bench::close));
        try {
            if (lossy) {
                bench.lines();
            } else {
                bench.run();
            }
        } catch (Exception e) {
            e.printStackTrace();
            bench.wrong.add("it ended early: " + e);
        }
        bench.print();
        System.exit(bench.wrong.isEmpty() ? 0 : 1);
    }

    private void run() throws Exception {
        load("the fixed work", () -> work("before"));
        load("the disk", this::disk);
        load("starts", this::starts);
        talk(quick ? 3 : 30);
        interrupt("in an answer", quick ? 1 : 10, List.of(TALK.getFirst(), LONG));
        interrupt("in the greeting", quick ? 1 : 10, List.of(LONG));
        report(quick ? 1 : 5);
        for (int count : quick ? new int[] {10} : new int[] {1, 5, 10, 20}) {
            crowd(count + (count == 1 ? " call: " : " calls at once: "), count, quick ? 3 : 8);
        }
        if (!quick) {
            silent(20);
            silent(40);
            each("memory of each further call, of 20", "MB", "20 calls at once: memory");
            each("processor for each further call, of 20", "core", "20 calls at once: processor");
        }
        load("the fixed work again", () -> work("after"));
    }

    /// Calls on lines that lose so many of 100 packets between the agent and the caller, in both
    /// directions. The sentences are long enough to hear what that does to them.
    private void lines() throws Exception {
        run("./run.sh", "build");
        startAgent("start to registered, ./run.sh dev", "./run.sh", "dev");
        if (!quick) {
            idle();
        }
        model.afterScript = SENTENCE;
        for (int lost : quick ? new int[] {5, 20} : new int[] {0, 5, 10, 20}) {
            double onEachHop = 1 - Math.sqrt(1 - lost / 100.0);
            run("nft", LOSE.formatted(Math.round(onEachHop * 1_000)));
            crowd(lost + " % lost: ", quick ? 2 : 4, quick ? 3 : 10);
        }
    }

    /// Sets up the network of this process, which is a new one. Exits if it is the machine's.
    private static void ownNetwork() throws Exception {
        if (Files.readAllLines(Path.of("/proc/net/route")).size() > 1) { // there is a title
            System.err.println("This needs a network of its own. So, as root: unshare --net"
                    + " ./run.sh bench --lossy");
            System.exit(3);
        }
        // WebRTC looks for an interface that is not the loopback one.
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1");
        run("ip", "address", "add", "10.0.0.1/24", "dev", "eth0");
        for (String each : List.of("lo", "eth0", "eth1")) {
            run("ip", "link", "set", each, "up");
        }
    }

    private void each(String what, String unit, String of20) {
        double all = rows.get(of20).values.getFirst();
        double first = rows.get(of20.replaceFirst(".*:", "1 call:")).values.getFirst();
        add(what, unit, (all - first) / 19);
    }

    private Bench(boolean quick, boolean lossy) throws Exception {
        this.quick = quick;
        this.lossy = lossy;
        model.keepMs = 0;
        model.firstSoundMs = THINKING_MS;
        model.afterScript = ANSWER;
        model.watch = (session, event) -> {
            String type = event.getString("type");
            if (type.equals(STOPPED) || type.equals(SOUND)) {
                sent.computeIfAbsent(session, _ -> new CopyOnWriteArrayList<>())
                        .add(new Sent(type, now()));
            }
        };
        int port, udpPort;
        try (var tcp = new ServerSocket(0); var udp = new DatagramSocket()) {
            port = tcp.getLocalPort();
            udpPort = udp.getLocalPort();
        }
        url = "ws://127.0.0.1:" + port;
        String config = Files.readString(Path.of("trials/livekit.yaml"))
                .formatted(port, KEY, API_SECRET, "warn", udpPort);
        start("server", new ProcessBuilder("lib/test/livekit-server", "--config-body", config)
                .redirectOutput(folder.resolve("server.out").toFile()));
        String http = "http://127.0.0.1:" + port;
        dispatches = AgentDispatchServiceClient.createClient(http, KEY, API_SECRET);
        var rooms = RoomServiceClient.createClient(http, KEY, API_SECRET);
        for (long end = System.nanoTime() + SOON.toNanos(); ; TimeUnit.MILLISECONDS.sleep(20)) {
            try {
                rooms.listRooms().execute();
                break;
            } catch (ConnectException e) {
                if (System.nanoTime() > end) {
                    throw e;
                }
            }
        }
        dispatches.createDispatch("nowhere", "nobody", "").execute(); // the first takes 0.1 s here
    }

    /// A process of callers. Their client takes in what all calls of its process hear in one queue,
    /// so it stands a few only.
    private PrintWriter startCallers() throws IOException {
        Process callers = start("callers", new ProcessBuilder(
                "lib/test/venv/bin/python", "bench/callers.py", url));
        Thread.ofPlatform().daemon().start(() -> { // to wait for a process keeps a carrier
            try {
                callers.inputReader().lines().map(Bench::json)
                        .forEach(report -> phones.get(report.getString("call")).reported(report));
            } catch (UncheckedIOException e) {
                // it was ended
            }
        });
        return new PrintWriter(callers.outputWriter(), true);
    }

    /// A process whose errors go to a file.
    private Process start(String name, ProcessBuilder builder) throws IOException {
        builder.environment().putAll(Map.of("LIVEKIT_URL", url, "LIVEKIT_API_KEY", KEY,
                "LIVEKIT_API_SECRET", API_SECRET, "LIVEKIT_AGENT_NAME", AGENT,
                "CRM_URL", crm.url(), "WEBHOOK_SECRET", WEBHOOK_SECRET, "OPENAI_API_KEY", "none",
                "OPENAI_BASE_URL", model.baseUrl(), "MAX_CALLS", "50",
                "OUTBOX_DIR", folder.resolve("outbox").toString()));
        builder.environment().putAll(Map.of("HEALTH_PORT", "0", "SILENCE_SECONDS", "600"));
        Path log = folder.resolve(name + ".log");
        Process process = builder.redirectError(ProcessBuilder.Redirect.appendTo(log.toFile()))
                .start();
        processes.add(process);
        return process;
    }

    private void close() {
        processes.forEach(Process::destroyForcibly);
        crm.close();
        model.close();
        if (!wrong.isEmpty()) {
            System.err.println("What they have written is in " + folder);
            return;
        }
        try (var all = Files.walk(folder)) {
            all.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
        } catch (IOException e) {
            System.err.println("left behind: " + e.getMessage());
        }
    }

    // What is measured.

    /// How fast this machine is. The program's own options must not change that figure, so it has
    /// its own. With Java's second compiler it would say how fast SHA-256 is in hardware.
    private void work(String when) throws Exception {
        Process work = start("work", new ProcessBuilder(java(), "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC", "bench/Work.java"));
        add("the fixed work, " + when, "ms", Double.parseDouble(work.inputReader().readLine()));
        work.waitFor();
    }

    private static String java() {
        return ProcessHandle.current().info().command().orElse("java");
    }

    /// How long a tool that reports waits for the disk.
    private void disk() throws Exception {
        var outbox = new Outbox(folder.resolve("disk"), _ -> new Outbox.Taken());
        var entry = outbox.begin();
        var state = Json.createObjectBuilder().add("sequence", 1).build();
        byte[] body = new byte[400];
        for (int i = quick ? -50 : -200; i < (quick ? 100 : 1_000); i++) {
            var event = new Outbox.Delivery("call", "event-" + i, "/webhooks/call", body);
            double begun = now();
            entry.put(List.of(event), state);
            if (i >= 0) {                                   // Java has warmed up
                add("an event to the disk", "ms", now() - begun);
            }
        }
        outbox.close(SOON);
    }

    /// From the command to `registered`, the memory of a program that has nothing to do, and its
    /// first call. The last one that is started stays.
    private void starts() throws Exception {
        run("./run.sh", "build");
        for (int i = 0; i < (quick ? 1 : 5); i++) {
            startAgent("start to registered, java Agent.java dev (from source)",
                    java(), "@lib/java.options", "Agent.java", "dev");
        }
        for (int i = 0; i < (quick ? 1 : 5); i++) {
            startAgent("start to registered, ./run.sh start", "./run.sh", "start");
        }
        for (int i = 0; i < (quick ? 1 : 5); i++) {
            startAgent("start to registered, ./run.sh dev", "./run.sh", "dev");
            idle();
            add("memory, idle", "MB", pss());
            Phone phone = ring(0, 10);
            phone.dispatch();
            phone.greeted("dispatch to greeting heard, first call");
            phone.hangUp();
        }
    }

    private void startAgent(String what, String... command) throws Exception {
        if (agent != null) {
            agent.destroy();
            agent.waitFor(SOON.toMillis(), TimeUnit.MILLISECONDS);
        }
        double begun = now();
        agent = start("agent", new ProcessBuilder(command));
        var registered = new CompletableFuture<Double>();
        var output = agent.inputReader();
        Thread.ofPlatform().daemon().start(() -> {
            try (var log = new PrintWriter(new FileWriter(folder.resolve("agent.log").toFile(),
                    UTF_8, true), true)) {
                for (String line; (line = output.readLine()) != null; ) {
                    if (line.contains("registered at")) {
                        registered.complete(now());
                    }
                    log.println(line);
                }
            } catch (IOException e) {
                // it was ended
            }
        });
        add(what, "ms", registered.get(SOON.toMillis(), TimeUnit.MILLISECONDS) - begun);
    }

    private static void run(String... command) throws Exception {
        if (new ProcessBuilder(command).inheritIO().start().waitFor() != 0) {
            throw new IOException(String.join(" ", command) + " has failed");
        }
    }

    /// Waits until it has warmed up: in two seconds it took next to nothing of the processor.
    private void idle() throws Exception {
        for (double before = -1, spent; (spent = cpu()) - before > 0.03; before = spent) {
            TimeUnit.SECONDS.sleep(2);
        }
    }

    /// One call after the other.
    private void talk(int turns) throws Exception {
        load("one call after the other", () -> {
            for (int done = 0; done < turns; done += 3) {
                Phone phone = ring(0, 10);
                double dispatched = phone.dispatch();
                phone.greeted("dispatch to greeting heard, later calls");
                add("dispatch to agent in the room", "ms",
                        phone.take("participant").at - dispatched);
                add("picked up to greeting heard", "ms", phone.loud - phone.take("active").at);
                for (int i = 0; i < 3; i++) {
                    phone.turn("end of words to reply, beyond VAD and model");
                }
                phone.hangUp();
            }
        });
    }

    /// The caller speaks over the agent.
    private void interrupt(String where, int times, List<Step> script) throws Exception {
        load("the caller speaks " + where, () -> {
            for (int i = 0; i < times; i++) {
                model.scripts.add(script);
                Phone phone = ring(0, 10);
                phone.dispatch();
                if (script.size() > 1) {
                    phone.greeted(null);
                    phone.say();
                }
                phone.take("loud");
                TimeUnit.MILLISECONDS.sleep(500 + random.nextInt(500));
                Report begins = phone.say();
                Report silent = phone.take("silent");
                add("caller speaks " + where + ", to silence", "ms",
                        silent.json.getJsonNumber("last_loud").doubleValue() - begins.at);
                JsonObject truncate = phone.session().await(
                        "conversation.item.truncate", _ -> true, SOON);
                if (truncate == null) {
                    wrong.add("the model was not told what was heard, " + phone.room);
                } else {
                    add("truncate told minus heard", "ms", truncate.getInt("audio_end_ms")
                            - silent.json.getInt("ms"));
                }
                phone.take("loud");                         // the answer to that
                phone.take("silent");
                phone.hangUp();
            }
        });
    }

    /// A tool that only reports, with a CRM that takes no time and one that takes two seconds.
    private void report(int times) throws Exception {
        load("tools that report", () -> {
            for (boolean slow : new boolean[] {false, true}) {
                slowCrm = slow;
                crm.delay("/contacts/b-", slow ? 2_000 : 0);
                crm.delay("/webhooks/", slow ? 2_000 : 0);
                for (int i = 0; i < times; i++) {
                    model.scripts.add(List.of(TALK.getFirst(),
                            new Tool("record_intent", "{\"intent\":\"a table\"}"),
                            new Tool("update_crm_note", "{\"note\":\"a table\"}")));
                    Phone phone = ring(0, 10);
                    phone.dispatch();
                    phone.greeted(null);
                    phone.say();
                    double said = phone.take("said").at;
                    add("end of words to reply after two tools, " + (slow ? "CRM 2 s slow"
                            : "fast CRM"), "ms", phone.take("loud").at - said);
                    phone.take("silent");
                    phone.hangUp();
                }
            }
            crm.delay("/contacts/b-", 0);
            crm.delay("/webhooks/", 0);
            slowCrm = false;
        });
    }

    /// So many calls at the same instant, who then all talk. `name` is for the rows.
    private void crowd(String name, int count, int turns) throws Exception {
        at = name;
        load(at, () -> {
            var all = new CopyOnWriteArrayList<Phone>();
            for (int i = 0; i < count; i++) {
                all.add(ring(i, count > 10 ? 20 : 10));
            }
            together(all, phone -> {
                phone.dispatch();
                phone.greeted(at + "dispatch to greeting heard");
            });
            cost(() -> together(all, phone -> {
                for (int i = 0; i < turns; i++) {
                    TimeUnit.MILLISECONDS.sleep(200 + random.nextInt(1_000));
                    phone.turn(at + "end of words to reply, beyond VAD and model");
                }
            }));
            together(all, Phone::hangUp);
        });
        at = "";
    }

    /// So many calls, and nobody says or hears anything: for as many callers who do there is no
    /// room on a small machine. What the agent sends and takes is the same.
    private void silent(int count) throws Exception {
        at = count + " calls, silent: ";
        load(at, () -> {
            var all = new CopyOnWriteArrayList<Phone>();
            for (int i = 0; i < count; i++) {
                all.add(ring(i, 0));
                all.getLast().dispatch();
                all.getLast().take("active");
            }
            cost(() -> TimeUnit.SECONDS.sleep(15));
            together(all, Phone::hangUp);
        });
        at = "";
    }

    private void cost(Steps meanwhile) throws Exception {
        double cpu = cpu(), begun = now();
        meanwhile.go();
        add(at + "processor", "core", (cpu() - cpu) / (now() - begun) * 1_000);
        add(at + "memory", "MB", pss());
    }

    private interface Steps {
        void go() throws Exception;
    }

    private interface ForPhone {
        void go(Phone phone) throws Exception;
    }

    /// For each of them on a thread of its own; waits for all.
    private void together(List<Phone> all, ForPhone work) throws Exception {
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            for (Phone phone : List.copyOf(all)) {
                threads.submit(() -> {
                    try {
                        work.go(phone);
                    } catch (Exception e) {
                        wrong.add(at + e.getMessage());
                        all.remove(phone);
                    }
                    return null;
                });
            }
        }
    }

    /// Rows that are added meanwhile come with the load of the machine.
    private void load(String what, Steps work) throws Exception {
        System.err.println(what.replaceFirst(": $", ""));
        var before = new HashMap<String, Integer>();
        rows.forEach((name, row) -> before.put(name, row.values.size()));
        long[] begun = machine();
        work.go();
        long[] ended = machine();
        double load = 1 - (double) (ended[1] - begun[1]) / (ended[0] - begun[0]);
        rows.forEach((name, row) -> {
            if (row.values.size() > before.getOrDefault(name, 0)) {
                row.load.add(load);
            }
        });
    }

    // The callers.

    private record Report(JsonObject json, double at) {}

    /// One more phone that rings, in a room of its own, beside so many others.
    private Phone ring(int others, int hearsMs) throws Exception {
        while (callers.size() <= others / PHONES) {
            callers.add(startCallers());
        }
        var phone = new Phone(callers.get(others / PHONES), hearsMs);
        phone.take("ready");
        return phone;
    }

    /// At the CRM, which waits for this.
    private void arrived(DemoCrm.Request request) {
        if (request.path().equals("/webhooks/call")) {
            JsonObject event = request.json();
            if (event.getString("event").equals("call.ended")) {
                phones.get(event.getString("room").substring("bench-".length()))
                        .ended.complete(request.atNanos() / 1e6);
            }
        }
    }

    private final class Phone {
        final String id = "" + (phones.size() + 1), room = "bench-" + id;
        final String number = "+1555" + (1_000_000 + Integer.parseInt(id));
        final PrintWriter commands;
        final Map<String, BlockingQueue<Report>> reports = new ConcurrentHashMap<>();
        final CompletableFuture<Double> ended = new CompletableFuture<>();
        double dispatched, loud;

        Phone(PrintWriter commands, int hearsMs) {
            this.commands = commands;
            phones.put(id, this);
            // By the name the model's session is found: it was told who calls.
            crm.contact(number, "{\"id\":\"b-" + id + "\",\"name\":\"Caller " + id + ".\"}");
            commands.println(id + " join " + room + " " + number + " " + hearsMs);
        }

        void reported(JsonObject json) {
            reports(json.getString("event"))
                    .add(new Report(json, json.getJsonNumber("at").doubleValue()));
        }

        BlockingQueue<Report> reports(String event) {
            return reports.computeIfAbsent(event, _ -> new LinkedBlockingQueue<>());
        }

        Report take(String event) throws Exception {
            Report report = reports(event).poll(SOON.toMillis(), TimeUnit.MILLISECONDS);
            if (report == null) {
                throw new IOException("no `" + event + "` in " + room);
            }
            return report;
        }

        DemoModel.Session session() {
            return model.sessions().reversed().stream()
                    .filter(one -> one.received().toString().contains("Caller " + id + "."))
                    .findFirst().orElseThrow();
        }

        double dispatch() throws Exception {
            dispatched = now();
            if (!dispatches.createDispatch(room, AGENT, "").execute().isSuccessful()) {
                throw new IOException("no dispatch to " + room);
            }
            return dispatched;
        }

        /// Hears the greeting to its end. Then the agent hears this phone, too.
        void greeted(String row) throws Exception {
            loud = take("loud").at;
            if (row != null) {
                add(row, "ms", loud - dispatched);
            }
            take("silent");
            take("heard");
        }

        /// Returns as the words begin.
        Report say() throws Exception {
            commands.println(id + " say " + WORDS_HZ + " " + WORDS_MS);
            return take("saying");
        }

        /// Speaks, and hears the answer to its end.
        void turn(String row) throws Exception {
            reports("loud").clear();                        // a sentence may have come in parts
            reports("silent").clear();
            say();
            double said = take("said").at;
            double heard = take("loud").at;
            take("silent");
            var events = sent.get(session());
            double stopped = first(events, STOPPED, said);
            double delta = first(events, SOUND, stopped);
            add(row, "ms", heard - said - VAD_MS - THINKING_MS);
            add(row + ": way to the model", "ms", stopped - said - VAD_MS);
            add(row + ": way to the ear", "ms", heard - delta);
        }

        private double first(List<Sent> events, String type, double after) throws IOException {
            return events.stream()
                    .filter(one -> one.type.equals(type) && one.at > after).findFirst()
                    .orElseThrow(() -> new IOException("no " + type + " in " + room)).at;
        }

        /// And looks whether all was well.
        void hangUp() throws Exception {
            commands.println(id + " hangup");
            double hungUp = take("hangup").at;
            double ended;
            try {
                ended = this.ended.get(SOON.toMillis(), TimeUnit.MILLISECONDS);
            } catch (TimeoutException e) {
                throw new IOException("no call.ended of " + room);
            }
            if (!slowCrm) {
                add(at + "hang-up to call.ended at the CRM", "ms", ended - hungUp);
            }
            var events = crm.events().stream()
                    .filter(event -> event.getString("room").equals(room)).toList();
            var numbers = events.stream().map(event -> event.getInt("sequence")).toList();
            if (!numbers.equals(IntStream.rangeClosed(1, events.size()).boxed().toList())
                    || !events.getFirst().getString("event").equals("call.started")
                    || !events.getLast().getString("reason").equals("caller_hung_up")) {
                wrong.add("not all events of " + room + ": " + events);
            }
            JsonObject sound = take("sound").json;
            if (sound.getInt("ms") == 0) {
                return; // a silent one
            }
            String line = lossy ? at : "";
            add(line + "gaps over 20 ms, in each call", "", sound.getInt("gaps"));
            add(line + "clicks, in each call", "", sound.getInt("clicks"));
            add(line + "signal to noise", "dB", sound.getJsonNumber("db").doubleValue());
            if (!lossy && sound.getInt("gaps") + sound.getInt("clicks") > 0) {
                wrong.add("gaps and clicks in " + room + ": " + sound);
            }
        }
    }

    // What it costs; all of it is in proc(5).

    /// The agent's share of the memory, MB.
    private double pss() throws IOException {
        return Files.readAllLines(Path.of("/proc/" + agent.pid() + "/smaps_rollup")).stream()
                .filter(line -> line.startsWith("Pss:"))
                .mapToDouble(line -> Double.parseDouble(line.split(" +")[1]) / 1024).sum();
    }

    /// The processor's time that the agent has taken, s. (The kernel counts in 10 ms.)
    private double cpu() throws IOException {
        String[] stat = Files.readString(Path.of("/proc/" + agent.pid() + "/stat"))
                .replaceFirst(".*\\) ", "").split(" ");
        return (Long.parseLong(stat[11]) + Long.parseLong(stat[12])) / 100.0;
    }

    /// The machine's time, and how much of it was idle.
    private static long[] machine() throws IOException {
        long[] times = Arrays.stream(Files.readAllLines(Path.of("/proc/stat")).getFirst()
                .replaceFirst("cpu +", "").split(" ")).mapToLong(Long::parseLong).toArray();
        return new long[] {Arrays.stream(times).limit(8).sum(), times[3] + times[4]};
    }

    // What comes of it.

    private synchronized void add(String what, String unit, double value) {
        rows.computeIfAbsent(what, _ -> new Row(unit, new ArrayList<>(), new ArrayList<>()))
                .values.add(value);
    }

    private void print() throws IOException {
        var json = Json.createArrayBuilder();
        System.out.printf(Locale.ROOT, "%n%-80s%8s%8s%5s%6s%n", "", "median", "p95", "n", "load");
        rows.forEach((what, row) -> {
            double load = row.load.stream().mapToDouble(d -> d).average().orElse(0);
            String format = row.unit.equals("core") ? "%.3f"
                    : what.matches(".*(further|disk).*") ? "%.1f" : "%.0f";
            System.out.printf(Locale.ROOT, "%-80s%8s%8s%5d%6.2f%n",
                    what + (row.unit.isEmpty() ? "" : ", " + row.unit),
                    format.formatted(row.quantile(0.5)), format.formatted(row.quantile(0.95)),
                    row.values.size(), load);
            json.add(Json.createObjectBuilder().add("what", what).add("unit", row.unit)
                    .add("median", row.quantile(0.5)).add("p95", row.quantile(0.95))
                    .add("n", row.values.size()).add("load", load));
        });
        wrong.forEach(what -> System.out.println("WRONG: " + what));
        String cpu = Files.readAllLines(Path.of("/proc/cpuinfo")).stream()
                .filter(line -> line.startsWith("model name")).findFirst().orElse("?: ?");
        System.out.println(Json.createObjectBuilder()
                .add("machine", cpu.replaceFirst(".*: ", ""))
                .add("cores", Runtime.getRuntime().availableProcessors())
                .add("java", Runtime.version().toString()).add("rows", json)
                .add("wrong", Json.createArrayBuilder(wrong)).build());
    }

    private static double now() {
        return System.nanoTime() / 1e6;
    }

    private static JsonObject json(String text) {
        try (var reader = Json.createReader(new StringReader(text))) {
            return reader.readObject();
        }
    }

    private static String hmac(byte[] body) {
        try {
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(WEBHOOK_SECRET.getBytes(UTF_8), "HmacSHA256"));
            return HexFormat.of().formatHex(mac.doFinal(body));
        } catch (GeneralSecurityException e) {
            throw new AssertionError(e);
        }
    }
}
