package trials;

import module java.base;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import demo.DemoModel;
import io.livekit.server.RoomServiceClient;
import jakarta.json.Json;
import jakarta.json.JsonString;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

/// Dockerfile, .dockerignore and compose.yaml, without Docker. The Dockerfile is carried out line
/// by line in a bare Debian that mmdebstrap makes, in namespaces of its own, with the JDK that runs
/// this test. What comes of it takes a call. livekit-server gets what compose.yaml gives it.
///
/// Not tried here: Docker and its Compose themselves, the image eclipse-temurin (Ubuntu), and
/// livekit-sip.
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
public final class ContainerTest extends Stage {
    private static final String IMAGE = "eclipse-temurin:25-jdk", JAVA = "/opt/java/openjdk";

    @BeforeAll
    static void start() throws Exception {
        start(List.of(new DemoModel.Say("Hello from a container.", 800)));
    }

    private static String text(String file) throws IOException {
        return Files.readString(Path.of(file));
    }

    private static String first(String regex, String text) {
        var found = Pattern.compile(regex).matcher(text);
        assertTrue(found.find(), regex);
        return found.group(1);
    }

    @Test @Order(1)
    void theDocsQuoteTheFilesAndTheFilesAgree() throws Exception {
        int quotes = 0;
        for (String doc : Docs.all().values()) {
            for (var file : Map.of("dockerfile", "Dockerfile", "yaml", "compose.yaml").entrySet()) {
                for (String quoted : Docs.blocks(doc, file.getKey())) {
                    assertTrue(text(file.getValue()).contains(quoted), quoted);
                    quotes++;
                }
            }
        }
        assertTrue(quotes >= 2, "only " + quotes);

        String settings = text(".env.example"), compose = text("compose.yaml");
        var apt = Pattern.compile("install (.*?)&&").matcher(text("Dockerfile")
                .replaceAll("\\\\\n", "")).results().map(it -> it.group(1)).toList();
        assertEquals(first("(?s)<<'LIST'\n(.*?)LIST\n", text("run.sh")).lines()
                        .map(line -> line.split(" ")[1]).toList(),
                Stream.of(apt.getFirst().strip().split("\\s+"))
                        .filter(word -> !word.startsWith("-")).toList());
        String port = first("\nHEALTH_PORT=(.*)", settings);
        assertEquals(port, first("\nEXPOSE (.*)", text("Dockerfile")));
        assertEquals(port, first("HEALTH_PORT:-(\\d+)", text("Dockerfile")));
        assertEquals(Integer.parseInt(first("\nDRAIN_SECONDS=(.*)", settings)) + 10,
                Integer.parseInt(first("stop_grace_period: (\\d+)s", compose)));
        assertEquals(first("cmd/server@(v[0-9.]+)", text("trials/install")),
                first("livekit/livekit-server:(\\S+)", compose));
    }

    // compose.yaml

    /// Started as the images start them: livekit-server has its configuration in the environment,
    /// and no argument. Only the ports are others.
    @Test @Order(2)
    void livekitServerAndRedisTakeWhatComposeGivesThem() throws Exception {
        // Debian's redis-tools has the server under the name of its checker.
        var redis = Stream.of("/usr/bin/redis-server", "/usr/bin/redis-check-rdb").map(Path::of)
                .filter(Files::isExecutable).findFirst();
        assumeTrue(redis.isPresent(), "no Redis: .ci/run installs redis-tools");
        JsonNode services = new YAMLMapper().readTree(text("compose.yaml")).get("services");
        var ports = new HashMap<String, String>();
        for (String port : List.of("6379", "7880", "7882")) {
            try (var free = new ServerSocket(0)) {
                ports.put(port, "" + free.getLocalPort());
            }
        }
        UnaryOperator<String> onFreePorts = given -> Pattern.compile("\\b(6379|788[02])\\b")
                .matcher(given).replaceAll(port -> ports.get(port.group()));

        Path folder = newFolder();
        Files.createSymbolicLink(folder.resolve("redis-server"), redis.get());
        var command = onFreePorts.apply(services.at("/redis/command").asText()).split(" ");
        command[0] = "./" + command[0];
        started(new ProcessBuilder(command).directory(folder.toFile()));
        int redisPort = Integer.parseInt(ports.get("6379"));
        await("Redis", output, () -> redis(redisPort, "PING").equals("+PONG"));

        var run = new ProcessBuilder(livekit);
        run.environment().put("LIVEKIT_CONFIG", onFreePorts.apply(filled(
                services.at("/livekit/environment/LIVEKIT_CONFIG").asText(),
                Map.of("LIVEKIT_API_KEY", "APImine", "LIVEKIT_API_SECRET", "7".repeat(64)))));
        started(run);
        String url = "http://127.0.0.1:" + ports.get("7880");
        await("livekit-server", output, () -> status(url) == 200);
        for (var each : Map.of("7".repeat(64), 200, API_SECRET, 401).entrySet()) {
            assertEquals(each.getValue(), RoomServiceClient.createClient(url, "APImine",
                    each.getKey()).listRooms().execute().code());
        }
        assertEquals(":1", redis(redisPort, "EXISTS nodes"), "it has written itself down");
        String sound = ":%04X".formatted(Integer.parseInt(ports.get("7882")));
        assertEquals(List.of("0100007F" + sound), (text("/proc/net/udp") + text("/proc/net/udp6"))
                .lines().map(line -> line.strip().split("\\s+")[1])
                .filter(address -> address.endsWith(sound)).toList(), "sound, on loopback alone");

        for (String address : List.of("/livekit/healthcheck/test",
                "/sip/environment/LIVEKIT_WS_URL", "/agent/environment/LIVEKIT_URL")) {
            assertTrue(services.at(address).asText().endsWith("//127.0.0.1:7880"), address);
        }
        JsonNode sip = new YAMLMapper().readTree(
                services.at("/sip/environment/SIP_CONFIG_BODY").asText());
        assertEquals("127.0.0.1:6379", sip.at("/redis/address").asText());
        for (String said : List.of("at " + sip.get("sip_port").asText() + " (SIP, UDP and TCP)",
                "at " + sip.get("rtp_port").asText().replace("-", " to ") + " (sound,")) {
            assertTrue(text("compose.yaml").contains(said), said);
        }
    }

    private static Process started(ProcessBuilder builder) throws IOException {
        Process process = builder.redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(output.toFile())).start();
        programs.add(process);
        return process;
    }

    /// Puts in what Compose takes from .env: `${NAME}`, and `${NAME:?what to say if it is blank}`.
    private static String filled(String text, Map<String, String> env) {
        return Pattern.compile("\\$\\{(\\w+)(:\\?[^}]+)?}").matcher(text)
                .replaceAll(name -> Objects.requireNonNull(env.get(name.group(1)), name.group()));
    }

    /// The first line of the answer, or "".
    private static String redis(int port, String command) throws IOException {
        try (var socket = new Socket("127.0.0.1", port)) {
            socket.getOutputStream().write((command + "\r\n").getBytes());
            return new BufferedReader(new InputStreamReader(socket.getInputStream())).readLine();
        } catch (ConnectException e) {
            return "";
        }
    }

    private static int status(String url) throws IOException {
        try {
            return ((HttpURLConnection) URI.create(url).toURL().openConnection()).getResponseCode();
        } catch (ConnectException e) {
            return 0;
        }
    }

    // Dockerfile

    @Test @Order(3)
    void whatTheDockerfileBuildsTakesACallWithoutBeingRoot() throws Exception {
        String trouble = trouble();
        assumeTrue(trouble.isEmpty(), "no bare Debian in namespaces of its own, which needs root "
                + "and mmdebstrap: " + trouble);
        Path house = Files.createTempDirectory("container-test-");
        Process container = null;
        try {
            Part image = build(house, context(house));
            String user = image.says.get("USER");
            shell("! grep -rlF A_KEY=of-somebody \"$1\"/part-*/agent", "" + house);
            for (String left : List.of("lib/test", "trials", "/usr/bin/mvn")) {
                assertFalse(Files.exists(image.at(left)), left);
            }
            shell("cd \"$1\" && find demo delivery room start voice -type f ! -name .env "
                    + "| (cd \"$2\" && xargs ls)", house + "/context", "" + image.at("."));
            assertEquals("/agent/outbox\n", said(0, inside(image, user, Map.of(),
                    List.of("find", "/agent", "-writable"))), "what the program may write");

            String port;
            try (var free = new ServerSocket(0)) {
                port = "" + free.getLocalPort();
            }
            var settings = new HashMap<>(Map.of("LIVEKIT_URL", proxy.url(), "LIVEKIT_API_KEY", KEY,
                    "LIVEKIT_API_SECRET", API_SECRET, "CRM_URL", crm.url(), "WEBHOOK_SECRET",
                    SECRET, "OPENAI_API_KEY", "sk-test", "OPENAI_BASE_URL", model.baseUrl()));
            settings.put("HEALTH_PORT", port);
            settings.put("JDK_JAVA_OPTIONS", "-XX:AOTMode=on");     // it must take the cache
            var health = new ArrayList<>(words(image.says.get("SHELL")));
            health.add(image.says.get("HEALTHCHECK").replaceFirst("(--\\S+ +)*CMD ", ""));
            said(1, inside(image, user, settings, health));         // it does not run yet

            long begun = System.nanoTime();
            container = started(inside(image, user, settings, words(image.says.get("ENTRYPOINT"))));
            await("the container to register", output, () -> text("" + output)
                    .contains("registered at"));
            figure("from the start of the container to registered",
                    (System.nanoTime() - begun) / 1e6);
            assertFalse(text("" + output).contains("compiling"));
            said(0, inside(image, user, settings, health));
            ProcessHandle first = container.children().findFirst().orElseThrow();
            String process = text("/proc/" + first.pid() + "/status");
            for (String line : List.of("Name:\tjava", "Uid:\t10001(\t10001)+",
                    "NSpid:\t\\d+\t1", "Groups:\t10001 ")) {
                assertTrue(Pattern.compile("(?m)^" + line + "$").matcher(process).find(), process);
            }

            var caller = Caller.onThePhone("container", ADA);
            caller.at("loud");
            caller.next("silent");
            caller.hangUp();
            ended(caller, "caller_hung_up");

            first.destroy();                                        // SIGTERM
            assertTrue(container.waitFor(20, TimeUnit.SECONDS), "SIGTERM ends it");
            assertEquals(0, container.exitValue());
        } finally {
            if (container != null) {
                container.destroyForcibly().waitFor();
            }
            shell("rm -rf --one-file-system \"$1\"", "" + house);
        }
    }

    /// Why no namespaces can be made, or no Debian in them; or nothing.
    private static String trouble() throws Exception {
        try {
            var attempt = new ProcessBuilder("unshare", "--mount", "--pid", "--fork", "sh", "-c",
                    "mount -t proc proc /proc && mmdebstrap --version").redirectErrorStream(true)
                    .start();
            String said = new String(attempt.getInputStream().readAllBytes()).strip();
            return attempt.waitFor() == 0 ? "" : said;
        } catch (IOException e) {
            return e.getMessage();
        }
    }

    /// What it prints until it ends with that status. It has ten minutes.
    private static String said(int status, ProcessBuilder builder) throws Exception {
        Process process = builder.start();
        CompletableFuture.delayedExecutor(10, TimeUnit.MINUTES).execute(process::destroyForcibly);
        String said = new String(process.getInputStream().readAllBytes());
        assertEquals(status, process.waitFor(), said);
        return said;
    }

    /// The name of an instruction, and what stands behind it.
    private record Line(String name, String rest) {}

    private static List<Line> lines(String dockerfile) {
        return dockerfile.replaceAll("(?m)^#.*\n", "").replace("\\\n", "").lines()
                .filter(line -> !line.isBlank()).map(line -> line.split(" +", 2))
                .map(words -> new Line(words[0], words[1].strip())).toList();
    }

    /// A JSON array, which such an instruction has.
    private static List<String> words(String json) {
        try (var reader = Json.createReader(new StringReader(json))) {
            return reader.readArray().getValuesAs(JsonString::getString);
        }
    }

    /// Does .dockerignore keep this out? A pattern that fits a folder fits all below it, too. The
    /// last pattern that fits counts.
    private static boolean ignored(List<String> patterns, Path path) {
        boolean ignored = false;
        for (String pattern : patterns) {
            String regex = pattern.replace("!", "").replace(".", "\\.").replace("**/", "(\0/)?")
                    .replace("*", "[^/]*").replace("\0", ".*");
            for (Path part = path; part != null; part = part.getParent()) {
                if (part.toString().matches(regex)) {
                    ignored = !pattern.startsWith("!");
                }
            }
        }
        return ignored;
    }

    /// What Docker would be given: this folder, without what was fetched, and with what may lie in
    /// somebody's folder and must not come into an image.
    private static Path context(Path house) throws Exception {
        Path context = Files.createDirectory(house.resolve("context"));
        shell("""
                for each in .[!.]* *; do
                  case $each in .git|.env|lib|outbox) ;; *) cp -a "$each" "$1" ;; esac
                done
                mkdir -p "$1/lib" && cp -a lib/*.java lib/*.xml lib/*.options "$1/lib"
                chmod -R go= "$1"           # as with the umask 077
                """, context.toString());
        for (String secret : SECRETS) {
            Files.createDirectories(context.resolve(secret).getParent());
            Files.writeString(context.resolve(secret), "A_KEY=of-somebody");
        }
        return context;
    }

    private static final List<String> SECRETS = List.of(".env", ".env.local", "own.pem",
            ".git/config", "outbox/1.post", "events/failed/1.post", "lib/old-1.jar", "lib/.fetched",
            "lib/jar.aot", "lib/app/1.jar", "lib/test/own.txt", "voice/.env", "lib/.env");

    /// A part of the Dockerfile, from FROM to FROM: the root, and what Docker keeps beside it.
    private record Part(Path root, Map<String, String> says) {
        Path at(String path) {
            Path folder = Path.of("/").relativize(Path.of(says.getOrDefault("WORKDIR", "/")));
            return root.resolve(path.startsWith("/") ? Path.of(path.substring(1))
                    : folder.resolve(path)).normalize();
        }
    }

    /// Carries out all lines, and returns the last part.
    private static Part build(Path house, Path context) throws Exception {
        var patterns = Files.readAllLines(context.resolve(".dockerignore")).stream()
                .filter(line -> !line.isBlank() && !line.startsWith("#")).toList();
        assertTrue(patterns.stream().allMatch(it -> it.matches("!?[\\w./*-]+")), "" + patterns);
        var parts = new HashMap<String, Part>();
        Part part = null;
        for (Line line : lines(Files.readString(context.resolve("Dockerfile")))) {
            String[] words = line.rest.split(" +");
            long begun = System.nanoTime();
            switch (line.name) {
                case "FROM" -> {
                    Part base = parts.get(words[0]);
                    part = new Part(house.resolve("part-" + parts.size()),
                            new HashMap<>(base == null ? Map.of() : base.says));
                    if (base == null) {
                        assertEquals(IMAGE, words[0]);
                        debian(part.root);
                    } else {
                        shell("cp -a \"$1\" \"$2\"", "" + base.root, "" + part.root);
                    }
                    parts.put(words.length == 3 ? words[2] : "", part);
                }
                case "COPY" -> copy(parts, part, context, patterns, words);
                case "RUN" -> said(0, inside(part, "root", Map.of(),
                        List.of("/bin/sh", "-c", line.rest)));
                case "WORKDIR", "USER", "VOLUME", "EXPOSE", "SHELL", "HEALTHCHECK", "ENTRYPOINT" ->
                        part.says.put(line.name, line.rest);
                default -> fail("not known here: " + line);
            }
            if (line.name.equals("WORKDIR")) {
                Files.createDirectories(part.at("."));
            }
            if (line.name.matches("FROM|RUN")) {
                figure(line.name + " " + line.rest.substring(0, Math.min(40, line.rest.length())),
                        (System.nanoTime() - begun) / 1e6);
            }
        }
        return part;
    }

    private static void copy(Map<String, Part> parts, Part part, Path context,
            List<String> patterns, String[] words) throws Exception {
        Path to = part.at(words[words.length - 1]);
        if (words[0].startsWith("--from=")) {
            Part from = parts.get(words[0].substring("--from=".length()));
            shell("cp -a \"$1\"/. \"$2\"", "" + from.at(words[1]), "" + to);
            return;
        }
        int copied = 0;
        for (String from : Arrays.copyOf(words, words.length - 1)) {
            Path source = context.resolve(from).normalize();
            try (var files = Files.walk(source)) {
                for (Path file : files.filter(Files::isRegularFile).toList()) {
                    if (!ignored(patterns, context.relativize(file))) {
                        Path copy = to.resolve(file.equals(source) ? file.getFileName()
                                : source.relativize(file));
                        Files.createDirectories(copy.getParent());
                        Files.copy(file, copy, StandardCopyOption.REPLACE_EXISTING,
                                StandardCopyOption.COPY_ATTRIBUTES);
                        copied++;
                    }
                }
            }
        }
        assertTrue(copied > 0, List.of(words) + " copies nothing");
    }

    /// A Debian with nothing in it but apt, from where this machine has its packages.
    private static void debian(Path root) throws Exception {
        String said = shell("""
                sources=()
                for each in sources.list sources.list.d/debian.sources \\
                    sources.list.d/ubuntu.sources; do
                  [ ! -s /etc/apt/$each ] || sources+=(/etc/apt/$each)
                done
                mmdebstrap --quiet --variant=apt '' "$1" "${sources[@]}" || exit 0
                cp -rL /etc/apt/apt.conf.d "$1/etc/apt/"
                cp -L /etc/resolv.conf "$1/etc/resolv.conf"
                # A JDK of Debian has the certificates elsewhere.
                certificates=$(readlink -f "$2/lib/security/cacerts")
                mkdir -p "$1$3" "$1${certificates%/*}" "$1/root/.m2"
                cp "$certificates" "$1$certificates"
                """, "" + root, System.getProperty("java.home"), JAVA);
        assumeTrue(Files.exists(root.resolve("root/.m2")), "no bare Debian: " + said);
    }

    /// Runs `command` in there, as that user, as process 1 of namespaces of its own. So all that it
    /// starts and all that is mounted ends with it. Maven finds its settings and its cache.
    private static ProcessBuilder inside(Part part, String user, Map<String, String> environment,
            List<String> command) throws IOException {
        String[] is = Files.readAllLines(part.root.resolve("etc/passwd")).stream()
                .map(line -> line.split(":"))
                .filter(line -> user.equals(line[0]) || user.equals(line[2]))   // name or uid
                .findFirst().orElseThrow();         // name, password, uid, gid, comment, home
        var all = new ArrayList<>(List.of("unshare", "--mount", "--pid", "--fork", "--kill-child",
                "sh", "-euc", """
                mount --bind "$2" "$1/opt/java/openjdk"
                mount -t proc proc "$1/proc"
                [ ! -d "$3" ] || mount --bind "$3" "$1/root/.m2"
                shift 3
                exec chroot "$@"
                """, "sh", "" + part.root, System.getProperty("java.home"),
                System.getProperty("user.home") + "/.m2"));
        all.addAll(List.of("--userspec=" + is[2] + ":" + is[3], "--groups=" + is[3],
                "" + part.root, "/usr/bin/env", "-i",
                "--chdir=" + part.says.getOrDefault("WORKDIR", "/"), "HOME=" + is[5],
                "JAVA_HOME=" + JAVA, "PATH=" + JAVA + "/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        for (String proxy : List.of("http_proxy", "https_proxy", "no_proxy")) {
            if (System.getenv(proxy) != null && user.equals("root")) {
                all.add(proxy + "=" + System.getenv(proxy));
            }
        }
        environment.forEach((name, value) -> all.add(name + "=" + value));
        all.addAll(command);
        return new ProcessBuilder(all).redirectErrorStream(true);
    }

    /// Returns what the lines print.
    private static String shell(String lines, String... arguments) throws Exception {
        var command = new ArrayList<>(List.of("bash", "-euc", lines, "bash"));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String said = new String(process.getInputStream().readAllBytes());
        assertEquals(0, process.waitFor(), lines + said);
        return said;
    }
}
