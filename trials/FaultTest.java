package trials;

import module java.base;
import demo.DemoModel;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// The fault table: CRM, model and LiveKit are each broken in eight ways, in four moments of a
/// call, and the model in three more ways. The table says how long the caller heard nothing
/// meanwhile. Whatever happens, no silence is longer than four seconds, every event arrives, and
/// the next call is answered. The call itself goes on, unless the model cannot come back: it
/// refuses the key, or it answers nothing, in a new connection, too.
///
/// A proxy between the program and one of the three makes the fault, for six seconds. So what is
/// broken at LiveKit is its signalling and its API: sound travels by UDP, past the proxy (PhoneTest
/// has more on that). As long as sound goes on, the program waits longer for LiveKit, so LiveKit is
/// also broken for twelve seconds. A model that is rate-limited or answers nothing is no fault of
/// the network, so the stand-in does that. `./run.sh test trials` tries a part of the table and
/// `./run.sh test all` the whole. With `-Dcells='model SLOW.*'` the latter tries what matches.
///
/// Three programs run at once. Each has one of the three to break. So the program whose model is
/// broken has a stand-in of its own.
public final class FaultTest extends Stage {
    private static final Duration LASTS = Duration.ofSeconds(6);
    private static final Duration LONG = Duration.ofSeconds(12);    // so long only LiveKit
    private static final Duration SHORT = Duration.ofSeconds(2);    // so long is the model AWAY
    private static final Duration CALL = Duration.ofSeconds(15);
    private static final Duration AFTERWARDS = Duration.ofSeconds(4);   // of the call, at least
    private static final double MOST_SILENCE = 4_000;

    private enum Fault {
        REFUSE, HANG, SLOW, CUT, HTTP_401, HTTP_429, HTTP_500, GARBAGE,
        AWAY, RATE_LIMITED, NOTHING                                 // only the model
    }

    private enum Moment { GREETING, LISTENING, SPEAKING, TOOL }

    private record Cell(Fault fault, Moment moment, Duration lasts) {
        Cell(Fault fault, Moment moment) {
            this(fault, moment, fault == Fault.AWAY ? SHORT : LASTS);
        }

        /// Of this fault, the same for a longer time.
        Stream<Cell> longer() {
            return fault == Fault.CUT ? Stream.of() : Stream.of(new Cell(fault, moment, LONG));
        }

        @Override
        public String toString() {
            return fault + " " + moment + (lasts == LONG ? " " + LONG.toSeconds() + " s" : "");
        }
    }

    private static final List<DemoModel.Step> SCRIPT = List.of(
            new DemoModel.Say("Hello, how can I help?", 1000),
            new DemoModel.Say("I see.", 600),
            new DemoModel.Say("That is a long story, which I am going to tell you now.", 4000),
            // The caller's own number: the CRM is asked for nobody else.
            new DemoModel.Tool("lookup_crm", "{\"phone\":\"" + ADA + "\"}"),
            new DemoModel.Say("Found.", 600),
            new DemoModel.Tool("update_crm_note", "{\"note\":\"Has called.\"}"),
            new DemoModel.Say("Written down.", 600));

    private static DemoModel brokenModel;

    @BeforeAll
    static void start() throws Exception {
        start(SCRIPT);
        brokenModel = new DemoModel(0, SCRIPT);
        model.keepMs = brokenModel.keepMs = 0;
    }

    @AfterAll
    static void stopBrokenModel() {
        if (brokenModel != null) brokenModel.close();
    }

    @Test
    void nothingThatBreaksLeavesACallerInSilence() throws Exception {
        record Broken(String what, List<Cell> some, Map<String, String> settings,
                Breaker breaker) {}
        var crmBreaker = new Breaker(URI.create(crm.url()).getPort());
        var modelBreaker = new Breaker(URI.create(brokenModel.baseUrl()).getPort());
        var livekitBreaker = new Breaker(URI.create(url).getPort());
        var all = List.of(
                new Broken("CRM", List.of(new Cell(Fault.HANG, Moment.GREETING),
                        new Cell(Fault.SLOW, Moment.TOOL), new Cell(Fault.HTTP_500, Moment.TOOL)),
                        Map.of("CRM_URL", crmBreaker.url("http")), crmBreaker),
                new Broken("model", List.of(new Cell(Fault.HTTP_401, Moment.GREETING),
                        new Cell(Fault.HANG, Moment.LISTENING),
                        new Cell(Fault.CUT, Moment.SPEAKING),
                        new Cell(Fault.RATE_LIMITED, Moment.LISTENING)),
                        Map.of("OPENAI_BASE_URL", modelBreaker.url("http") + "/v1"), modelBreaker),
                new Broken("LiveKit", List.of(new Cell(Fault.CUT, Moment.SPEAKING),
                        new Cell(Fault.HTTP_500, Moment.LISTENING, LONG),
                        new Cell(Fault.GARBAGE, Moment.TOOL)),
                        Map.of("LIVEKIT_URL", livekitBreaker.url("ws")), livekitBreaker));
        var table = Collections.synchronizedList(new ArrayList<String>());
        var failures = Collections.synchronizedList(new ArrayList<String>());
        var running = new ArrayList<Future<?>>();
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            for (Broken each : all) {
                String agent = "agent-" + each.what;
                var settings = new HashMap<>(each.settings);
                Path outbox = newFolder();
                settings.put("OUTBOX_DIR", outbox.toString());
                settings.put("LIVEKIT_AGENT_NAME", agent);
                Path log = Files.createTempFile("fault-" + each.what, ".log");
                folders.add(log);
                worker(log, settings, "dev");
                await("its rehearsal", log, () -> Files.readString(log).contains("OpenAI at"));
                running.add(threads.submit(() -> {
                    var cells = ALL ? Arrays.stream(Moment.values()).flatMap(moment ->
                            Arrays.stream(Fault.values()).map(f -> new Cell(f, moment)))
                            .filter(cell -> cell.fault.compareTo(Fault.GARBAGE) <= 0
                                    || each.breaker == modelBreaker)
                            .flatMap(cell -> Stream.concat(Stream.of(cell),
                                    each.breaker == livekitBreaker ? cell.longer() : Stream.of()))
                            .toList() : each.some;
                    for (Cell cell : cells) {
                        String name = each.what + " " + cell;
                        if (!name.matches(System.getProperty("cells", ".*"))) continue;
                        try {
                            await("the agent to be there", log, () -> registered(log));
                            table.add(tryOut(name, agent, cell, each.breaker, outbox));
                        } catch (Exception | AssertionError e) {
                            failures.add(name + ": " + e + "\n" + Files.readString(log).lines()
                                    .skip(Math.max(0, Files.readString(log).lines().count() - 60))
                                    .collect(Collectors.joining("\n")));
                        }
                        each.breaker.repair();
                    }
                    return null;
                }));
            }
            for (Future<?> each : running) each.get();
        }
        System.out.printf("  %-34s %9s  %s%n", "what was broken, how and when", "silence", "ended");
        table.stream().sorted().forEach(System.out::println);
        assertEquals(List.of(), failures);
    }

    private static boolean registered(Path log) throws IOException {
        return Files.readString(log).lines()
                .filter(line -> line.contains("registered at") || line.contains("no connection to"))
                .reduce((_, last) -> last).orElse("").contains("registered at");
    }

    /// One call with the fault in it. Returns its line of the printed table.
    private static String tryOut(String name, String agent, Cell cell, Breaker breaker,
            Path outbox) throws Exception {
        String room = name.replace(' ', '-');
        long broken = 0;
        // LiveKit has to bring the call first, so there the fault begins with the greeting.
        boolean before = cell.moment == Moment.GREETING && !agent.endsWith("LiveKit");
        if (before) {
            breaker.breakDown(cell);
            broken = System.nanoTime();
        }
        var caller = new Caller(room, "sip_" + ADA, "--phone", ADA, "--agent", agent);
        double turn = caller.at("active");          // since when it is the agent's turn
        double longest = 0;
        int answers = 0;
        long end = System.nanoTime() + CALL.toNanos();
        while (System.nanoTime() < Math.max(end, broken + cell.lasts.plus(AFTERWARDS).toNanos())) {
            JsonObject loud = caller.poll("loud", Duration.ofSeconds(8));
            boolean over = caller.peek("disconnected") != null;
            longest = Math.max(longest, (loud != null ? loud.getJsonNumber("at").doubleValue()
                    : over ? caller.at("disconnected") : System.nanoTime() / 1e6) - turn);
            if (over || loud == null) break;
            Moment now = answers == 0 ? Moment.GREETING
                    : answers == 2 ? Moment.SPEAKING : null;
            if (broken == 0 && now == cell.moment) {
                breaker.breakDown(cell);
                broken = System.nanoTime();
            }
            JsonObject silent = caller.poll("silent", Duration.ofSeconds(12));
            if (silent == null) break;
            answers++;
            // No turn of the caller is needed: more comes by itself.
            if (caller.peek("loud") != null) {
                turn = silent.getJsonNumber("last_loud").doubleValue();
                continue;
            }
            now = answers == 1 ? Moment.LISTENING : answers == 3 ? Moment.TOOL : null;
            if (broken == 0 && now == cell.moment) {
                breaker.breakDown(cell);
                broken = System.nanoTime();
            }
            caller.say(600, 500);
            JsonObject said = caller.poll("said", Duration.ofSeconds(3));
            if (said == null) break;
            turn = said.getJsonNumber("at").doubleValue();
        }
        breaker.repair();
        caller.command("hangup"); // if the call is still up
        assertTrue(broken != 0, "the moment never came");
        JsonObject ended = webhook(room, "call.ended").json();
        String reason = ended.getString("reason");
        // What was refused for good was put aside. It is moved back here, and sent again.
        List<Path> aside;
        try (var all = Files.list(outbox.resolve("failed"))) {
            aside = all.toList();
        }
        for (Path file : aside) {
            Files.move(file, outbox.resolve(file.getFileName()));
        }
        await("an empty outbox", output, () -> {
            try (var all = Files.list(outbox)) {
                return all.noneMatch(file -> file.toString().endsWith(".post"));
            }
        });
        List<JsonObject> events = new ArrayList<>(events(room));
        if (!aside.isEmpty()) {
            events.sort(Comparator.comparing(event -> event.getInt("sequence")));
        }
        for (int i = 0; i < events.size(); i++) {
            assertEquals(i + 1, events.get(i).getInt("sequence"));
        }
        assertEquals("call.started", events.getFirst().getString("event"));
        boolean lost = name.matches("model (HTTP_401|NOTHING) .*");     // see the class comment
        assertEquals(lost ? "model_lost" : "caller_hung_up", reason);
        String line = String.format(Locale.ROOT, "  %-34s %6.0f ms  %s", name, longest, reason);
        assertTrue(longest <= MOST_SILENCE, line);
        return line;
    }

    /// Stands between the program and a server, and breaks the connection for a while. Two faults
    /// are the stand-in's own: then it lets everything through.
    private static final class Breaker {
        private static final int LATENCY_MS = 1_000;        // each way, when slow
        private final ServerSocket front =
                new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        private final Set<Socket> open = ConcurrentHashMap.newKeySet();
        private volatile Fault fault;
        private Future<?> repairing = CompletableFuture.completedFuture(null);

        Breaker(int port) throws IOException {
            Thread.ofVirtual().start(() -> {
                while (true) {
                    try {
                        Socket client = front.accept();
                        Thread.ofVirtual().start(() -> serve(client, port));
                    } catch (IOException e) {
                        return; // the proxy is closed
                    }
                }
            });
        }

        String url(String scheme) {
            return scheme + "://127.0.0.1:" + front.getLocalPort();
        }

        /// Lasts until `repair`, which comes by itself when the fault is over.
        void breakDown(Cell cell) {
            repairing = CompletableFuture.runAsync(this::repair, CompletableFuture.delayedExecutor(
                    cell.lasts.toMillis(), TimeUnit.MILLISECONDS));
            fault = cell.fault;
            switch (fault) {
                case HANG, SLOW -> { }                      // `pump` does it
                case GARBAGE -> open.forEach(each -> send(each, garbage()));
                case RATE_LIMITED -> brokenModel.instead = new DemoModel.Fail(
                        "rate_limit_exceeded", "Rate limit reached. Please try again in 1.3s.");
                case NOTHING -> brokenModel.instead = new DemoModel.Nothing("completed");
                default -> closeAll();
            }
        }

        /// New connections work from here on. Those that were broken stay broken.
        void repair() {
            repairing.cancel(false);
            switch (fault) {
                case HANG -> closeAll();
                case RATE_LIMITED, NOTHING -> brokenModel.instead = null;
                case null, default -> { }
            }
            fault = null;
        }

        private void closeAll() {
            for (Socket each : open) {
                try {
                    each.close();
                } catch (IOException e) {
                    // gone already
                }
            }
        }

        private static byte[] garbage() {
            byte[] garbage = new byte[1_000];
            new Random(1).nextBytes(garbage);
            return garbage;
        }

        private static void send(Socket to, byte[] bytes) {
            try {
                to.getOutputStream().write(bytes);
            } catch (IOException e) {
                // gone meanwhile
            }
        }

        private void serve(Socket client, int port) {
            open.add(client);
            try (client) {
                switch (fault) {
                    case REFUSE, AWAY -> client.setSoLinger(true, 0);
                    case HTTP_401, HTTP_429, HTTP_500 -> {
                        client.getInputStream().read(new byte[16_384]);
                        send(client, Proxy.http(Integer.parseInt(fault.name().substring(5)), "{}")
                                .getBytes());
                    }
                    case GARBAGE -> {
                        client.getInputStream().read(new byte[16_384]);
                        send(client, garbage());
                    }
                    case null, default -> {
                        try (var server = new Socket(InetAddress.getLoopbackAddress(), port)) {
                            Thread back = Thread.ofVirtual().start(() -> pump(server, client));
                            pump(client, server);
                            back.join();
                        }
                    }
                }
            } catch (IOException | InterruptedException e) {
                // one of the two has gone
            } finally {
                open.remove(client);
            }
        }

        /// Hands on what comes in: at once, later, or never.
        private void pump(Socket from, Socket to) {
            record Chunk(long due, byte[] bytes) {}
            var chunks = new LinkedBlockingQueue<Chunk>();
            Thread.ofVirtual().start(() -> {
                try (to) {
                    for (Chunk next; (next = chunks.take()).bytes.length > 0; ) {
                        TimeUnit.NANOSECONDS.sleep(next.due - System.nanoTime());
                        while (fault == Fault.HANG) TimeUnit.MILLISECONDS.sleep(20);
                        to.getOutputStream().write(next.bytes);
                    }
                } catch (IOException | InterruptedException e) {
                    // gone
                }
            });
            byte[] some = new byte[16_384];
            try {
                for (int n; (n = from.getInputStream().read(some)) >= 0; ) {
                    long wait = fault == Fault.SLOW ? LATENCY_MS * 1_000_000L : 0;
                    chunks.add(new Chunk(System.nanoTime() + wait, Arrays.copyOf(some, n)));
                }
            } catch (IOException e) {
                // gone
            } finally {
                chunks.add(new Chunk(System.nanoTime(), new byte[0]));
            }
        }
    }
}
