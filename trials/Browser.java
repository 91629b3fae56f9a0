package trials;

import module java.base;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import jakarta.json.Json;
import jakarta.json.JsonObject;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.stream.Collectors.joining;

/// A caller who is a real browser: starts Chromium without a window, on a page (client.html) that
/// joins a room with LiveKit's JavaScript client. The trials use it to see a call as a web frontend
/// sees it; a caller whose words and timing matter is caller.py.
///
/// The page reports, and the trial decides. A report is a JSON object with `event`, and `at`: when
/// it came here, in ms of `System.nanoTime()`, a few ms after it happened.
///
/// - `joined`: `identity`, `room`
/// - `agent`: `identity`, `attributes`; once for each agent in the room
/// - `state`: `value` of the agent's `lk.agent.state`, the one it came with and every change
/// - `attributes`: `attributes`, what else of the agent's has changed
/// - `heard`: the agent has become loud; `silent`: has been quiet for 300 ms, after `ms` of sound
/// - `transcription`, when its stream has ended: `identity` of who spoke, `text`, the `chunks` that
///   are not empty, the attributes of the `header`, and those with the stream's end, `attributes`
/// - `disconnected`: `reason`
/// - `error`: `text`, of any mistake in the page
///
/// It speaks what Chromium's fake microphone speaks, two beeps a second. Not tried here: other
/// browsers, video, devices, and networks: everything stays on the loopback interface.
final class Browser implements AutoCloseable {
    private static final Path PAGE = Path.of("trials/client.html");
    private static final Path CLIENT =
            Path.of("lib/test/node_modules/livekit-client/dist/livekit-client.umd.js");
    private static final Duration SOON = Duration.ofSeconds(20);
    private static final Duration LOOK = Duration.ofSeconds(1); // whether Chromium is alive

    private final byte[] config; // as JSON, and so are the commands
    private final HttpServer server;
    private final ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
    private final BlockingQueue<byte[]> commands = new LinkedBlockingQueue<>();
    private final Chromium chromium;

    // both guarded by `this`, and whoever changes the first calls notifyAll for await()
    private final List<JsonObject> reports = new ArrayList<>();
    private final Map<String, Integer> taken = new HashMap<>(); // by event, how far

    /// Null, or how to install what is missing.
    static String missing() {
        var missing = new StringJoiner("; ").setEmptyValue("");
        if (Chromium.missing() != null) missing.add(Chromium.missing());
        if (!Files.isReadable(CLIENT)) {
            missing.add("no JavaScript client of LiveKit's. This installs it: npm install"
                    + " --no-audit --no-fund --prefix lib/test livekit-client@2.23.0");
        }
        return missing.length() == 0 ? null : missing.toString();
    }

    /// `url` is livekit-server's, ws://...; the token says which room, and who the caller is there.
    Browser(String url, String token) throws IOException, InterruptedException {
        config = json(Map.of("url", url, "token", token));
        server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.setExecutor(threads);
        server.createContext("/", this::answer);
        server.start();
        try {
            chromium = new Chromium(List.of(), Chromium.BEEPS,
                    "http://127.0.0.1:" + server.getAddress().getPort() + "/");
        } catch (Throwable e) { // nobody else would stop it
            server.stop(0);
            throw e;
        }
    }

    JsonObject await(String event) throws InterruptedException, IOException {
        return await(event, _ -> true);
    }

    /// The next such report. Those of an event are taken in order, each once, also when they came
    /// before; what is passed over on the way is gone.
    synchronized JsonObject await(String event, Predicate<JsonObject> which)
            throws InterruptedException, IOException {
        long end = System.nanoTime() + SOON.toNanos();
        while (true) {
            for (int i = taken.getOrDefault(event, 0); i < reports.size(); i++) {
                taken.put(event, i + 1);
                JsonObject report = reports.get(i);
                if (report.getString("event").equals(event) && which.test(report)) return report;
            }
            long left = end - System.nanoTime();
            if (left <= 0 || !chromium.alive()) {
                throw chromium.failed("no such `" + event + "` from the browser, which reported:\n"
                        + reports.stream().map(JsonObject::toString).collect(joining("\n")));
            }
            TimeUnit.NANOSECONDS.timedWait(this, Math.min(left, LOOK.toNanos()));
        }
    }

    /// All that came so far, taken or not.
    synchronized List<JsonObject> reports() {
        return List.copyOf(reports);
    }

    /// `chat` and a text. client.html knows what else there is.
    void command(String name, String value) {
        commands.add(json(Map.of("name", name, "value", value)));
    }

    /// Leaves the room, and returns when that was, in ms of `System.nanoTime()`.
    double hangUp() throws InterruptedException, IOException {
        command("hangup", "");
        return await("disconnected").getJsonNumber("at").doubleValue();
    }

    @Override public void close() throws IOException {
        chromium.close();
        server.stop(0);
        threads.shutdownNow(); // somebody waits for a command there
    }

    private void answer(HttpExchange exchange) throws IOException {
        try (exchange) {
            byte[] body = exchange.getRequestBody().readAllBytes();
            switch (exchange.getRequestURI().getPath()) {
                case "/" -> reply(exchange, "text/html", Files.readAllBytes(PAGE));
                case "/livekit-client.js" ->
                        reply(exchange, "text/javascript", Files.readAllBytes(CLIENT));
                case "/config" -> reply(exchange, "application/json", config);
                case "/command" -> reply(exchange, "application/json", commands.take());
                case "/report" -> {
                    add(new String(body, UTF_8));
                    exchange.sendResponseHeaders(204, -1);
                }
                default -> exchange.sendResponseHeaders(404, -1);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // closed
        }
    }

    private static byte[] json(Map<String, Object> fields) {
        return Json.createObjectBuilder(fields).build().toString().getBytes(UTF_8);
    }

    private synchronized void add(String report) {
        double at = System.nanoTime() / 1e6;
        try (var reader = Json.createReader(new StringReader(report))) {
            reports.add(Json.createObjectBuilder(reader.readObject()).add("at", at).build());
        }
        notifyAll();
    }

    private static void reply(HttpExchange exchange, String type, byte[] body) throws IOException {
        exchange.getResponseHeaders().set("Content-Type", type);
        exchange.sendResponseHeaders(200, body.length);
        exchange.getResponseBody().write(body);
    }
}
