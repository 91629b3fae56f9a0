package trials;

import module java.base;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import demo.DemoCrm;
import demo.DemoModel;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import start.Settings;
import voice.Event;
import voice.Model;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

/// What AgentTest and the tests of the floors share: a CRM, a model, a server and a folder for one
/// test, which go when the test is over; and what the tests read from them. A test class extends
/// this class. Every test has an instance of its own, so tests can run side by side.
///
/// This class names no class of the ground floor, because a package cannot. It checks signatures
/// with the JDK alone. The tests from outside, with a real LiveKit server, stand on Stage instead.
public abstract class Stand {
    protected static final String SECRET = "It's a Secret to Everybody";
    /// Does MutantsTest run this test, in one of PIT's processes?
    private static final boolean MUTANTS = "mutants".equals(System.getProperty("trials"));
    /// How long a test waits for what has to come: long enough for a slow machine. It is less where
    /// a mutant may keep it from coming.
    protected static final Duration SOON = Duration.ofSeconds(MUTANTS ? 6 : 30);
    /// The settings that have no default.
    protected static final Map<String, String> SIX = Map.of("LIVEKIT_URL", "ws://127.0.0.1:7880",
            "LIVEKIT_API_KEY", "devkey", "LIVEKIT_API_SECRET", "secret-1",
            "CRM_URL", "https://crm.example/api/",
            "WEBHOOK_SECRET", "secret-2 of 24 bytes or more", "OPENAI_API_KEY", "sk-secret-3");

    private final List<AutoCloseable> open = new ArrayList<>();

    /// PIT's plugin for JUnit runs every test of a class only to find the tests. Each of PIT's
    /// processes that plant faults begins with that, and would take a minute for it.
    @BeforeEach
    protected final void onlyFound() {
        if (MUTANTS) {
            var callers = Arrays.stream(Thread.currentThread().getStackTrace())
                    .map(frame -> frame.getClassName().replaceFirst(".*[.]", "")).toList();
            assumeFalse(callers.contains("JUnit5TestUnitFinder")
                    && callers.contains("MutationTestMinion"), "only looked for");
        }
    }

    @AfterEach
    protected final void closeAll() throws Throwable {
        Throwable first = null;
        for (AutoCloseable each : open.reversed()) {
            try {
                each.close();
            } catch (Throwable e) {         // the others are to be closed all the same
                first = first == null ? e : first;
            }
        }
        if (first != null) {
            throw first;
        }
    }

    /// Closes `it` when the test is over. What was opened last is closed first.
    protected final <T extends AutoCloseable> T opened(T it) {
        open.add(it);
        return it;
    }

    /// The same, for what is no object of its own.
    protected final void afterwards(AutoCloseable close) {
        open.add(close);
    }

    /// An empty folder.
    protected final Path folder() throws IOException {
        Path folder = Files.createTempDirectory("agent-test-");
        afterwards(() -> eventually("nothing is written there", () -> {
            try {
                delete(folder);
                return true;
            } catch (IOException | UncheckedIOException e) {
                return false;           // a request that was on its way has removed its file
            }
        }));
        return folder;
    }

    /// With all that is in it. Nothing happens when it is not there.
    public static void delete(Path folder) throws IOException {
        if (Files.exists(folder)) {
            try (var all = Files.walk(folder)) {
                all.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
            }
        }
    }

    /// The names of the files in an outbox, but for its lock.
    protected static List<String> names(Path folder) {
        try (var all = Files.list(folder)) {
            return all.filter(Files::isRegularFile).map(path -> path.getFileName().toString())
                    .filter(name -> !name.equals("lock")).sorted().toList();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /// What `.env` and the environment would set: the six, and `more`.
    protected static Settings settings(Map<String, String> more) {
        var all = new HashMap<>(SIX);
        all.putAll(more);
        return Settings.load(all, Path.of("no such file"));
    }

    /// Has somebody take a call, on a thread of the call's own, which is over when the test is.
    protected final void take(TestLine line, Consumer<TestLine> takeCall) {
        Thread.ofVirtual().start(() -> {
            try {
                takeCall.accept(line);
                line.over.complete(null);
            } catch (Throwable e) {
                line.over.complete(e);
            }
        });
        afterwards(() -> {
            line.mailbox.post(new Event.Stop());
            line.over.get(5, TimeUnit.SECONDS);
            line.speaker.close();
        });
    }

    // The CRM.

    /// A CRM that checks X-Signature with SECRET. When the test is over, all that came has to be as
    /// docs/openapi.yaml says.
    protected final DemoCrm crm() throws IOException {
        var crm = anyCrm();
        afterwards(() -> Contract.holds(crm.requests()));
        return crm;
    }

    /// The same, for a test in which other requests come: of an older version, or its own ones.
    protected final DemoCrm anyCrm() throws IOException {
        return opened(new DemoCrm(0, (body, signature) -> signature.equals(xSignature(body))));
    }

    /// The value that X-Signature has to have for this body, with SECRET.
    protected static String xSignature(byte[] body) {
        return xSignature(utf8(SECRET), body);
    }

    static String xSignature(byte[] key, byte[] body) {
        return HexFormat.of().formatHex(hmac(key, body));
    }

    /// The value that webhook-signature has to have. `at` is webhook-timestamp: seconds.
    static String standard(byte[] key, String id, long at, byte[] body) {
        var signed = new ByteArrayOutputStream();
        signed.writeBytes(utf8(id + "." + at + "."));
        signed.writeBytes(body);
        return "v1," + Base64.getEncoder().encodeToString(hmac(key, signed.toByteArray()));
    }

    static byte[] hmac(byte[] key, byte[] body) {
        try {
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            return mac.doFinal(body);
        } catch (GeneralSecurityException e) {
            throw new AssertionError(e);
        }
    }

    /// Starts a server that answers like this, and returns its address.
    protected final String server(HttpHandler handler) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.setExecutor(Executors.newVirtualThreadPerTaskExecutor());
        server.createContext("/", handler);
        server.start();
        afterwards(() -> server.stop(0));
        return "http://127.0.0.1:" + server.getAddress().getPort();
    }

    protected static List<Integer> statuses(DemoCrm crm) {
        return crm.requests().stream().map(DemoCrm.Request::status).toList();
    }

    /// Waits for the first event of that name.
    protected static JsonObject event(DemoCrm crm, String name) throws Exception {
        Supplier<Optional<JsonObject>> found = () -> crm.events().stream()
                .filter(e -> e.getString("event").equals(name)).findFirst();
        eventually(name, () -> found.get().isPresent());
        return found.get().orElseThrow();
    }

    // The model.

    protected final DemoModel model(DemoModel.Step... script) throws IOException {
        FirstConnection.isMade();
        return opened(new DemoModel(0, List.of(script)));
    }

    /// The first connection of a process to a model loads many classes. On a busy machine that
    /// takes longer than the 3 s for which a call waits. So no call makes that one.
    private static final class FirstConnection {
        static {
            try (var model = new DemoModel(0, List.of())) {
                new Model("sk-test", model.baseUrl(), "any", "", "", "server_vad", "").check();
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        static void isMade() {}         // by the first who calls this; others wait for it
    }

    /// A model whose first connection answers once, with `first`, and whose second connection
    /// answers once, with `second`.
    protected final DemoModel replaced(DemoModel.Step first, DemoModel.Step second)
            throws IOException {
        var model = model();
        model.scripts.add(List.of(first));
        model.scripts.add(List.of(second));
        return model;
    }

    protected static DemoModel.Session session(DemoModel model) throws Exception {
        eventually("the model is reached", () -> !model.sessions().isEmpty());
        return model.sessions().getFirst();
    }

    /// `number` counts the connections to this model from 1.
    protected static DemoModel.Session session(DemoModel model, int number) throws Exception {
        eventually("connection " + number, 5, () -> model.sessions().size() >= number);
        return model.sessions().get(number - 1);
    }

    /// What the model was told in this connection, a line for each.
    protected static List<String> told(DemoModel.Session session) {
        return session.received().stream().map(e -> e.getString("type").equals("response.create")
                ? "respond" : !e.containsKey("item") ? "update" : switch (
                        e.getJsonObject("item").getString("type")) {
                    case "function_call" -> "call " + e.getJsonObject("item").getString("name");
                    case "function_call_output" ->
                            "output " + e.getJsonObject("item").getString("output");
                    default -> e.getJsonObject("item").getString("role") + ": " + e.getJsonObject(
                            "item").getJsonArray("content").getJsonObject(0).getString("text");
                }).toList();
    }

    /// The id of the first item that the model has spoken.
    protected static String itemSpoken(DemoModel.Session session) {
        return session.sent().stream()
                .filter(e -> e.getString("type").equals("response.output_audio.delta")).findFirst()
                .map(e -> e.getString("item_id")).orElse("none yet");
    }

    /// The model has found no mistake in what it was told.
    protected static void noMistakes(DemoModel model) {
        model.sessions().forEach(session -> assertEquals(List.of(), session.sent().stream()
                .filter(e -> e.getString("type").equals("error")).toList()));
    }

    // The rest.

    /// Looks every 5 ms whether it holds, for SOON, and then fails.
    protected static void eventually(String what, BooleanSupplier holds)
            throws InterruptedException {
        eventually(what, (int) SOON.toSeconds(), holds);
    }

    protected static void eventually(String what, int seconds, BooleanSupplier holds)
            throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!holds.getAsBoolean()) {
            assertTrue(System.nanoTime() < end, "not within " + seconds + " s: " + what);
            TimeUnit.MILLISECONDS.sleep(5);
        }
    }

    /// What the process writes to standard output, until this is closed. A test that has one runs
    /// ALONE.
    protected static final class Written implements AutoCloseable {
        private final PrintStream before = System.out;
        private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

        protected Written() {
            System.setOut(new PrintStream(bytes, true, UTF_8));
        }

        @Override public String toString() { return bytes.toString(UTF_8); }
        @Override public void close() { System.setOut(before); }
    }

    protected static JsonObject json(String text) {
        try (var reader = Json.createReader(new StringReader(text))) {
            return reader.readObject();
        }
    }

    protected static byte[] utf8(String text) {
        return text.getBytes(UTF_8);
    }

    /// So many bytes of that value.
    protected static byte[] times(int count, int value) {
        byte[] bytes = new byte[count];
        Arrays.fill(bytes, (byte) value);
        return bytes;
    }
}
