package trials;

import module java.base;
import jakarta.json.Json;
import jakarta.json.JsonNumber;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;
import jakarta.json.JsonValue;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.stream.Collectors.joining;

/// A user's browser: starts Chromium without a window, on any page, and does there what a user
/// does: clicks, types, looks, speaks into the microphone. Trials of a web page use it, and so does
/// Browser, a caller of whom only the call matters, with a page of its own.
///
/// It speaks the DevTools protocol over two pipes and opens no port, so the browser may run where
/// the JVM has no network: `prefix` is what goes before its command, `ip netns exec NAME`. The
/// pipes are its input and output as Java knows them; a shell makes them fd 3 and 4, which
/// Chromium asks for. If the JVM dies they end, and Chromium with them.
///
/// All of it may be used by several threads. What does not happen within 20 s, and what the page or
/// Chromium refuses, is an AssertionError. Not tried here: other browsers, a camera, other windows
/// and frames of another origin, what workers complain of and request, touch, certificates; hosts
/// other than the page's own and localhost do not resolve. A click does not wait for its element,
/// nor for it to stand still: await() that first. A dialog is not answered, and the page waits.
final class Chromium implements AutoCloseable {
    private static final Path CHROMIUM = Path.of("/usr/bin/chromium");
    private static final Duration SOON = Duration.ofSeconds(20);

    /// A microphone that Chromium has itself: two beeps a second.
    static final Path BEEPS = Path.of("two beeps a second");

    private static final List<String> OPTIONS = List.of("--headless", "--disable-gpu",
            "--remote-debugging-pipe", "--no-startup-window", // its page is made when it answers
            "--no-sandbox", // which root cannot have, and which would hide the microphone's file
            "--use-fake-device-for-media-stream", // whatever there is on this machine
            "--autoplay-policy=no-user-gesture-required",
            // Without this there is no media where lo is the only network interface.
            "--allow-loopback-in-peer-connection",
            // Nothing is asked of the network: no name, neither by multicast nor of a server.
            "--disable-features=WebRtcHideLocalIpsWithMdns",
            "--disable-dev-shm-usage", // which is small in a container
            "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync");

    /// What Chromium wants to know of a key: the number that Windows has for it.
    private static final Map<String, Integer> KEYS = Map.of("Tab", 9, "Enter", 13, "Escape", 27,
            "Space", 32, "ArrowLeft", 37, "ArrowUp", 38, "ArrowRight", 39, "ArrowDown", 40);

    private final Path profile, log;
    private final Process chromium;
    private final ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
    private final AtomicInteger ids = new AtomicInteger();
    private final Map<Integer, CompletableFuture<JsonObject>> pending = new ConcurrentHashMap<>();
    private final CompletableFuture<JsonObject> ended = new CompletableFuture<>(); // with null
    private final List<String> complaints = new CopyOnWriteArrayList<>();
    private final List<String> requests = new CopyOnWriteArrayList<>();
    private volatile String session; // null until there is a page: the browser itself

    /// Null, or how to install what is missing.
    static String missing() {
        return Files.isExecutable(CHROMIUM) ? null
                : "no Chromium. This installs it: apt-get install chromium";
    }

    /// `microphone` is BEEPS or a WAV file of 16 bits, which begins again when it ends, and for
    /// every stream that is opened. With null the user refuses: NotAllowedError, and no device has
    /// a name. Returns when the page has come, but not all that it loads.
    Chromium(List<String> prefix, Path microphone, String url)
            throws IOException, InterruptedException {
        boolean file = microphone != null && microphone != BEEPS;
        if (file && !Files.isReadable(microphone)) { // Chromium would be silent
            throw new NoSuchFileException(microphone.toString());
        }
        profile = Files.createTempDirectory("chromium-");
        log = profile.resolve("log");
        var command = new ArrayList<>(prefix);
        command.addAll(List.of("bash", "-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "bash",
                CHROMIUM.toString(), "--user-data-dir=" + profile));
        command.addAll(OPTIONS);
        String host = URI.create(url).getHost();
        command.add("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
                + (host == null ? "" : ", EXCLUDE " + host));
        if (microphone != null) {
            command.add("--use-fake-ui-for-media-stream"); // nobody is there to allow it
        }
        if (file) {
            command.add("--use-file-for-fake-audio-capture=" + microphone.toAbsolutePath());
        }
        var start = new ProcessBuilder(command).redirectError(log.toFile());
        for (String name : List.of("HOME", "TMPDIR")) { // where it leaves things, too
            start.environment().put(name, profile.toString());
        }
        chromium = start.start();
        threads.execute(this::read);
        chromium.onExit().thenRun(() -> ended.complete(null));
        try {
            if (microphone == null) {
                call("Browser.setPermission", Map.of("setting", "denied",
                        "permission", Map.of("name", "microphone")));
            }
            String page = call("Target.createTarget", Map.of("url", "about:blank"))
                    .getString("targetId");
            session = call("Target.attachToTarget", Map.of("targetId", page, "flatten", true))
                    .getString("sessionId");
            for (String domain : List.of("Runtime", "Log", "Network", "Page", "Inspector")) {
                call(domain + ".enable", Map.of());
            }
            call("Emulation.setFocusEmulationEnabled", Map.of("enabled", true));
            String failure = call("Page.navigate", Map.of("url", url)).getString("errorText", "");
            if (!failure.isEmpty()) throw failed(url + ": " + failure);
        } catch (Throwable e) {
            close();
            throw e;
        }
    }

    boolean alive() {
        return chromium.isAlive();
    }

    /// What the page wrote to the console as an error or a warning, what it threw and did not
    /// catch, and what Chromium holds against it.
    List<String> complaints() {
        return List.copyOf(complaints);
    }

    /// Every URL that the page asked for, in order, also that of a WebSocket.
    List<String> requests() {
        return List.copyOf(requests);
    }

    /// The value of an expression, or what its promise comes to. Null is also undefined; a number
    /// that JSON does not have is its name, "NaN".
    JsonValue evaluate(String js) throws IOException, InterruptedException {
        JsonObject result = run(js, true, System.nanoTime() + SOON.toNanos());
        return result.getOrDefault("value",
                result.getOrDefault("unserializableValue", JsonValue.NULL));
    }

    /// Waits until the expression, or what its promise comes to, is true as JavaScript sees it. As
    /// long as it throws it is not.
    void await(String what, String js) throws IOException, InterruptedException {
        await(what, SOON, js);
    }

    void await(String what, Duration bound, String js) throws IOException, InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        String last = "";
        while (true) {
            try {
                if (truthy(run(js, false, end))) return;
            } catch (AssertionError e) {
                if (System.nanoTime() < end) { // otherwise it is only that
                    last = ": " + e.getMessage().lines().findFirst().orElse("");
                }
            }
            if (System.nanoTime() >= end || ended.isDone()) {
                throw failed("waited in vain for " + what + last);
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    /// With the mouse, in the middle of the element, wherever it is on the page.
    void click(String selector) throws IOException, InterruptedException {
        JsonValue at = evaluate("""
                (selector => {
                  const element = document.querySelector(selector);
                  if (!element) return 'is not there';
                  element.scrollIntoView({behavior: 'instant', block: 'center', inline: 'center'});
                  const box = element.getBoundingClientRect();
                  if (!box.width || !box.height) return 'has no size';
                  const x = box.x + box.width / 2, y = box.y + box.height / 2;
                  const top = document.elementFromPoint(x, y);
                  if (element.contains(top)) return {x, y};
                  return top ? 'is covered by ' + top.cloneNode().outerHTML : 'is out of sight';
                })(%s)""".formatted(Json.createValue(selector)));
        if (!(at instanceof JsonObject point)) {
            throw failed(selector + " " + ((JsonString) at).getString());
        }
        for (String type : List.of("mouseMoved", "mousePressed", "mouseReleased")) {
            boolean moved = type.equals("mouseMoved");
            call("Input.dispatchMouseEvent", Map.of("type", type, "x", point.get("x"),
                    "y", point.get("y"), "button", moved ? "none" : "left",
                    "clickCount", moved ? 0 : 1));
        }
    }

    /// Where the focus is, all at once: no key goes down.
    void type(String text) throws IOException, InterruptedException {
        call("Input.insertText", Map.of("text", text));
    }

    /// Tab, Enter, Escape, Space, ArrowLeft, ArrowUp, ArrowRight or ArrowDown.
    void key(String key) throws IOException, InterruptedException {
        if (!KEYS.containsKey(key)) throw new IllegalArgumentException(key);
        String text = // without it, buttons are not pressed
                key.equals("Enter") ? "\r" : key.equals("Space") ? " " : "";
        for (String type : List.of(text.isEmpty() ? "rawKeyDown" : "keyDown", "keyUp")) {
            call("Input.dispatchKeyEvent", Map.of("type", type, "code", key, "key",
                    key.equals("Space") ? " " : key, "windowsVirtualKeyCode", KEYS.get(key),
                    "text", type.equals("keyUp") ? "" : text));
        }
    }

    /// The size of the page, as a window on a desktop has it: a small one is no phone.
    void look(int width, int height, boolean dark) throws IOException, InterruptedException {
        call("Emulation.setDeviceMetricsOverride", Map.of("width", width, "height", height,
                "deviceScaleFactor", 1, "mobile", false));
        call("Emulation.setEmulatedMedia", Map.of("features", List.of(
                Map.of("name", "prefers-color-scheme", "value", dark ? "dark" : "light"))));
    }

    /// Of what is in sight.
    void screenshot(Path png) throws IOException, InterruptedException {
        Files.write(png, Base64.getDecoder().decode(
                call("Page.captureScreenshot", Map.of("format", "png")).getString("data")));
    }

    @Override public void close() throws IOException {
        var processes = new HashSet<>(chromium.descendants().toList()); // while they are
        // before its children, which it would start again
        chromium.destroyForcibly().onExit().orTimeout(5, TimeUnit.SECONDS).join();
        threads.shutdownNow();
        long end = System.nanoTime() + SOON.toNanos();
        do {
            // Those which are no descendants name the profile. Who has ended has no command line,
            // long before process 1 asks after them.
            ProcessHandle.allProcesses().filter(process -> process.info().commandLine().orElse("")
                    .contains("=" + profile)).forEach(processes::add);
            processes.removeIf(process -> process.info().commandLine().isEmpty());
            processes.forEach(ProcessHandle::destroyForcibly);
            if (!Files.exists(profile)) continue;
            try (var walk = Files.walk(profile).sorted(Comparator.reverseOrder())) {
                for (Path file : walk.toList()) Files.delete(file);
            } catch (IOException | UncheckedIOException e) {
                if (System.nanoTime() > end) throw e; // otherwise one of them was still writing
            }
        } while ((!processes.isEmpty() || Files.exists(profile)) && System.nanoTime() < end);
    }

    private JsonObject run(String js, boolean user, long end)
            throws IOException, InterruptedException {
        // Only what a trial does counts as a user's gesture, not that it looks at the page.
        JsonObject answer = call("Runtime.evaluate", Map.of("expression", js,
                "awaitPromise", true, "returnByValue", user, "userGesture", user), end);
        if (answer.containsKey("exceptionDetails")) {
            throw failed(thrown(answer.getJsonObject("exceptionDetails")));
        }
        return answer.getJsonObject("result");
    }

    private static boolean truthy(JsonObject result) {
        return switch (result.get("value")) {
            case null -> !result.getString("type").equals("undefined")
                    && !Set.of("NaN", "-0", "0n").contains(
                            result.getString("unserializableValue", ""));
            case JsonString string -> !string.getString().isEmpty();
            case JsonNumber number -> number.doubleValue() != 0;
            case JsonValue value -> value != JsonValue.FALSE && value != JsonValue.NULL;
        };
    }

    private JsonObject call(String method, Map<String, ?> params)
            throws IOException, InterruptedException {
        return call(method, params, System.nanoTime() + SOON.toNanos());
    }

    private JsonObject call(String method, Map<String, ?> params, long end)
            throws IOException, InterruptedException {
        int id = ids.incrementAndGet();
        var message = Json.createObjectBuilder().add("id", id).add("method", method)
                .add("params", Json.createObjectBuilder(params));
        if (session != null) message.add("sessionId", session);
        String text = message.build() + "\0";
        var answer = new CompletableFuture<JsonObject>();
        pending.put(id, answer);
        try {
            threads.execute(() -> write(text)); // which a full pipe would block
            var came = (JsonObject) CompletableFuture.anyOf(answer, ended)
                    .get(end - System.nanoTime(), TimeUnit.NANOSECONDS);
            if (came == null) throw failed("no answer to " + method);
            if (!came.containsKey("error")) return came.getJsonObject("result");
            throw failed(method + ": " + came.getJsonObject("error").getString("message"));
        } catch (TimeoutException | ExecutionException e) {
            throw failed("no answer to " + method + " in time");
        } finally {
            pending.remove(id);
        }
    }

    private void write(String text) {
        OutputStream to = chromium.getOutputStream();
        synchronized (to) {
            try {
                to.write(text.getBytes(UTF_8));
                to.flush();
            } catch (IOException e) {
                ended.complete(null);
            }
        }
    }

    private void read() {
        var message = new ByteArrayOutputStream();
        try (InputStream from = chromium.getInputStream()) {
            for (int next; (next = from.read()) >= 0; ) {
                if (next != 0) {
                    message.write(next);
                    continue;
                }
                try (var reader = Json.createReader(new StringReader(message.toString(UTF_8)))) {
                    take(reader.readObject());
                }
                message.reset();
            }
        } catch (IOException e) {
            // it was killed
        } finally {
            ended.complete(null);
        }
    }

    private void take(JsonObject message) {
        if (message.containsKey("id")) {
            var answer = pending.get(message.getInt("id"));
            if (answer != null) answer.complete(message);
            return;
        }
        JsonObject event = message.getJsonObject("params");
        switch (message.getString("method")) {
            case "Network.requestWillBeSent" ->
                    requests.add(event.getJsonObject("request").getString("url"));
            case "Network.webSocketCreated", "Network.webTransportCreated" ->
                    requests.add(event.getString("url"));
            case "Runtime.exceptionThrown" ->
                    complaints.add(thrown(event.getJsonObject("exceptionDetails")));
            case "Runtime.consoleAPICalled" ->
                    complain(event.getString("type"), event.getJsonArray("args")
                            .getValuesAs(JsonObject.class).stream().map(Chromium::text)
                            .collect(joining(" ")));
            case "Log.entryAdded" -> {
                JsonObject entry = event.getJsonObject("entry");
                complain(entry.getString("level"),
                        entry.getString("text") + " " + entry.getString("url", ""));
            }
            case "Page.javascriptDialogOpening" ->
                    complaints.add("a dialog that nobody answers: " + event.getString("message"));
            case "Inspector.targetCrashed" -> complaints.add("the page has crashed");
            default -> {}
        }
    }

    private void complain(String level, String text) {
        if (Set.of("error", "warning", "assert").contains(level)) {
            complaints.add(level + ": " + text);
        }
    }

    private static String thrown(JsonObject details) {
        return details.getString("text") + (details.containsKey("exception")
                ? " " + text(details.getJsonObject("exception")) : "")
                + " (" + details.getString("url", "evaluated") + ":"
                + (details.getInt("lineNumber") + 1) + ")";
    }

    /// A value as the console shows it: a string without quotes, an error with where it was thrown,
    /// and of another object what is in it.
    private static String text(JsonObject value) {
        if (value.get("value") instanceof JsonString string) return string.getString();
        if (value.containsKey("value")) return value.get("value").toString();
        if (value.containsKey("preview") && !value.getString("subtype", "").equals("error")) {
            return value.getJsonObject("preview").getJsonArray("properties")
                    .getValuesAs(JsonObject.class).stream().map(property ->
                            property.getString("name") + ": " + property.getString("value", "..."))
                    .collect(joining(", ", "{", "}"));
        }
        return value.getString("description", value.getString("type"));
    }

    /// What is wrong, with what the page and Chromium have to say of it.
    AssertionError failed(String what) throws IOException, InterruptedException {
        boolean gone = ended.isDone() && chromium.waitFor(1, TimeUnit.SECONDS);
        return new AssertionError(what + (gone ? "; Chromium has ended, with "
                + chromium.exitValue() : "") + "\nThe page complained of:\n"
                + String.join("\n", complaints) + "\nChromium wrote, last of all:\n"
                + new String(Files.readAllBytes(log), UTF_8).lines()
                .filter(line -> !line.contains("dbus"))
                .collect(Collectors.collectingAndThen(Collectors.toList(), lines -> String.join(
                        "\n", lines.subList(Math.max(0, lines.size() - 20), lines.size())))));
    }
}
