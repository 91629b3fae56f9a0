package trials;

import module java.base;
import jakarta.json.JsonNumber;
import jakarta.json.JsonString;
import javax.sound.sampled.AudioFileFormat;
import javax.sound.sampled.AudioFormat;
import javax.sound.sampled.AudioInputStream;
import javax.sound.sampled.AudioSystem;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;
import org.junit.jupiter.api.extension.AfterTestExecutionCallback;
import org.junit.jupiter.api.extension.RegisterExtension;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

/// The page of `./run.sh`, used as a new reader uses it: the program is a process, a real browser
/// shows its page, a voice speaks into the microphone, and the sound of the loudspeaker is
/// measured. For root, both run in a network namespace of their own from which nothing leads out:
/// whatever needed the network would fail.
///
/// It calls no class of the program. Not tried here: other browsers, and a model with a key.
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
public final class PageTest {
    private static final Duration SOON = Duration.ofSeconds(20);
    private static final List<String> EVENTS = List.of("call.started", "intent.recorded",
            "crm.updated", "call.transferred", "call.transcript", "call.ended");

    private static final String MARKUP = "<img src=x onerror=alert(1)>";

    private static final String NAMESPACE = "page-" + ProcessHandle.current().pid();
    private static List<String> inside = List.of();         // what goes before a command
    private static Path folder, log;
    private static Process program;
    private static String url;

    @RegisterExtension
    static final AfterTestExecutionCallback ON_FAILURE = test -> {
        if (test.getExecutionException().isPresent()) {
            System.out.println("What the program wrote:\n" + Files.readString(log));
        }
    };

    @BeforeAll
    static void start() throws Exception {
        assumeTrue(Chromium.missing() == null, Chromium.missing());
        folder = Files.createTempDirectory("page-test-");
        log = folder.resolve("log");
        Files.createFile(log);
        // The namespace has an interface that leads nowhere. A page that may not use the microphone
        // gets no address from Chromium but that of the default route.
        var enter = List.of("ip", "netns", "exec", NAMESPACE);
        boolean isolated = ran("ip", "netns", "add", NAMESPACE);
        for (String each : List.of("link set lo up", "link add out type veth peer name nowhere",
                "addr add 10.99.0.1/24 dev out", "link set out up", "link set nowhere up",
                "route add default via 10.99.0.2")) {
            isolated = isolated && ran(Stream.of(enter, List.of("ip"), List.of(each.split(" ")))
                    .flatMap(List::stream).toArray(String[]::new));
        }
        if (isolated) {
            inside = enter;
        } else {
            System.out.println("  not in a network namespace: `ip netns` is not allowed here");
        }
        program = program("./run.sh", "demo", "--page");
        Stage.await("the page's address", log, () -> address() != null);
        url = address();
    }

    private static Process program(String... command) throws IOException {
        var all = Stream.concat(inside.stream(), Stream.of(command)).toList();
        return started(new ProcessBuilder(all)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile())));
    }

    private static Process started(ProcessBuilder run) throws IOException {
        run.environment().putAll(Map.of("OPENAI_API_KEY", "none",
                "JAVA_HOME", System.getProperty("java.home"),
                "OUTBOX_DIR", folder.resolve("outbox").toString()));
        return run.redirectErrorStream(true).start();
    }

    private static String address() throws IOException {
        var open = Pattern.compile("Open (http://127.0.0.1:\\d+) and press Call")
                .matcher(Files.readString(log));
        return open.find() ? open.group(1) : null;
    }

    private static boolean ran(String... command) throws InterruptedException {
        try {
            var process = new ProcessBuilder(command).redirectErrorStream(true)
                    .redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
            return process.waitFor(10, TimeUnit.SECONDS) && process.exitValue() == 0;
        } catch (IOException e) {
            return false;
        }
    }

    @AfterAll
    static void stop() throws Exception {
        if (program != null) {
            program.destroy();
            assertTrue(program.waitFor(15, TimeUnit.SECONDS), "it does not end");
            program.destroyForcibly();
        }
        ran("ip", "netns", "del", NAMESPACE);
        if (folder != null) Stand.delete(folder);
    }

    /// A caller who says "Are you still there?" and then listens for some seconds, again and again.
    private static Path microphone() throws Exception {
        var format = new AudioFormat(48_000, 16, 1, true, false);
        byte[] speech;
        try (var in = AudioSystem.getAudioInputStream(Path.of("demo/clips/there.wav").toFile())) {
            var plain = AudioSystem.getAudioInputStream(
                    new AudioFormat(16_000, 16, 1, true, false), in);
            speech = AudioSystem.getAudioInputStream(format, plain).readAllBytes();
        }
        var all = new ByteArrayOutputStream();
        all.writeBytes(new byte[96 * 3_000]);
        all.writeBytes(speech);
        all.writeBytes(new byte[96 * 3_500]);
        Path wav = folder.resolve("microphone.wav");
        AudioSystem.write(new AudioInputStream(new ByteArrayInputStream(all.toByteArray()), format,
                all.size() / 2), AudioFileFormat.Type.WAVE, wav.toFile());
        return wav;
    }

    private static String card(String event, String verdict) {
        return "document.querySelector('#events [data-event=\"" + event + "\"][data-verdict="
                + verdict + "]')";
    }

    private static String text(Chromium page, String js) throws Exception {
        return page.evaluate(js) instanceof JsonString text ? text.getString() : "";
    }

    private static int number(Chromium page, String js) throws Exception {
        return ((JsonNumber) page.evaluate(js)).intValue();
    }

    /// How many windows of 20 ms are loud in what comes out of the loudspeaker.
    private static final String EAR = """
            (() => {
                const sound = new AudioContext(), ear = new AnalyserNode(sound, {fftSize: 1024});
                sound.createMediaStreamSource(document.querySelector("#agent-audio").srcObject)
                    .connect(ear);
                const wave = new Float32Array(ear.fftSize);
                window.heardMs = 0;
                setInterval(() => {
                    ear.getFloatTimeDomainData(wave);
                    if (Math.hypot(...wave) / Math.sqrt(wave.length) > 0.01) window.heardMs += 20;
                }, 20);
            })()""";

    private static void noComplaints(Chromium page) {
        assertEquals(List.of(), page.complaints());
        assertEquals(List.of(), page.requests().stream()
                .filter(request -> !request.startsWith(url + "/")
                        && !request.startsWith("data:") && !request.startsWith("blob:")).toList());
    }

    @Test @Order(1)
    void somebodyCallsTalksAndSeesTheEvents() throws Exception {
        try (var page = new Chromium(inside, microphone(), url + "/")) {
            page.look(1280, 800, false);
            page.await("the page", "!document.querySelector('#call').disabled");
            screenshot(page, "idle");
            assertTrue(text(page, "document.querySelector('#model').textContent")
                    .contains("cannot understand speech"));
            long began = System.nanoTime();
            page.click("#call");
            page.await("the agent to pick up",
                    "document.querySelector('#status').textContent.includes('In the call')");
            figure("Call clicked to picked up", began);
            page.evaluate(EAR);
            page.await("the agent to be heard", "window.heardMs > 1000");
            for (String event : EVENTS) {
                page.await(event, Duration.ofSeconds(45), card(event, "verified"));
                if (event.equals("crm.updated")) screenshot(page, "call");
            }
            figure("Call clicked to the last event", began);
            assertTrue(number(page, "window.heardMs") > 5_000, "heard");
            page.await("the end", "document.querySelector('#status').textContent"
                    + ".includes('Call over: transferred')");
            String said = text(page, "document.querySelector('#transcript').textContent");
            for (String words : List.of("Hello. I am a recording.", "I have recorded what you want",
                    "of speech)", "I will put you through", "Transferred by SIP REFER to tel:+1")) {
                assertTrue(said.contains(words), words + " is not in " + said);
            }
            assertTrue(text(page, "document.querySelector('#contact').textContent")
                    .contains("Ada Byron"));
            assertTrue(text(page, "document.querySelector('#notes').textContent")
                    .contains("after six"));
            assertTrue(text(page, "document.querySelector('#calls').textContent")
                    .contains("transferred"));
            String ended = text(page, card("call.ended", "verified") + ".innerText");
            for (String words : List.of("ended by: agent", "talked: 00:", "answered: ",
                    "model: gpt-", "tokens: in [0-9,]+ text and [0-9,]+ sound \\([0-9,]+ cached")) {
                assertTrue(Pattern.compile(words).matcher(ended).find(), words + ": " + ended);
            }
            String transcript = card("call.transcript", "verified") + ".querySelector('.said')";
            assertEquals(0, number(page, transcript + ".querySelectorAll('li').length"));
            page.evaluate(transcript + ".querySelector('summary').click()");
            page.await("the transcript", transcript + ".querySelectorAll('li').length > 8");
            String items = text(page, transcript + ".innerText");
            for (String words : List.of("00:00\\s+agent\\s+Hello. I am a recording",
                    "caller\\s+\\([0-9.]+ s of speech", "tool\\s+record_intent")) {
                assertTrue(Pattern.compile(words).matcher(items).find(), words + ": " + items);
            }
            String id = text(page, card("call.started", "verified") + ".dataset.id");
            assertTrue(id.matches("evt_[0-9a-f-]{36}"), id);
            assertEquals("1", text(page, card("call.started", "verified") + ".dataset.attempt"));
            screenshot(page, "over");
            noComplaints(page);
        }
    }

    @Test @Order(2)
    void whatIsForgedOrReplayedIsRefusedAndSaysWhy() throws Exception {
        try (var page = new Chromium(inside, null, url + "/")) {
            page.await("the events of before", card("call.ended", "verified"));
            String genuine = "document.querySelectorAll('[data-verdict=verified]').length";
            int before = number(page, genuine);
            page.click("#forge");
            page.await("the forged one", "document.querySelector("
                    + "'#events [data-verdict=refused][data-status=\"401\"]')");
            page.click("#replay");
            page.await("the replayed one", "document.querySelector("
                    + "'#events [data-verdict=refused][data-status=\"409\"]')");
            String list = text(page, "document.querySelector('#events').innerText");
            assertTrue(list.contains("401: X-Signature is not the HMAC-SHA256"), list);
            assertTrue(list.contains("409: this very request has been here before"), list);
            assertEquals(before, number(page, genuine));
            noComplaints(page);
        }
    }

    @Test @Order(3)
    void withoutAMicrophoneOneTypesAndAFailingCrmGetsEverythingLater() throws Exception {
        try (var page = new Chromium(inside, null, url + "/")) {
            page.look(390, 844, true);
            page.await("the page", "!document.querySelector('#call').disabled");
            page.evaluate("document.querySelector('#from').value = '+15550101'");
            page.click("#call");
            page.await("the agent to pick up",
                    "document.querySelector('#status').textContent.includes('In the call')");
            page.evaluate(EAR);
            page.await("the agent to be heard", "window.heardMs > 1000");
            assertTrue(text(page, "document.querySelector('#status').textContent")
                    .contains("No microphone: type instead"));
            String id = call();
            page.click("#fail");
            page.await("the banner", "!document.querySelector('#failing').hidden");
            page.click("#text");
            page.type("I want to order a table");
            page.key("Enter");
            page.await("the attempt that fails", card("intent.recorded", "failed"));
            page.click("#text");
            page.type(MARKUP);
            page.key("Enter");
            screenshot(page, "failing");
            for (String key : List.of("1", "2", "#")) {
                page.click("#keypad [data-key='" + key + "']");
            }
            page.await("the keys to be understood", Duration.ofSeconds(30),
                    "document.querySelector('#transcript').textContent"
                            + ".includes('I have got the keys')");
            // The attempts are 0.5, 1, 2 .. s apart: the first after the 20 s may come 16 s later.
            page.await("the event after all", Duration.ofSeconds(60),
                    "!" + card("intent.recorded", "failed") + " && [...document.querySelectorAll("
                            + "'#events [data-event=\"intent.recorded\"]')]"
                            + ".some(card => card.dataset.attempt > 2)");
            page.await("the end of the banner", "document.querySelector('#failing').hidden");
            page.click("#call");
            Stage.await("the end of the call", log,
                    () -> log("event +call.ended", id) && log("crm +call.ended", id));
            page.await("the reason", "document.querySelector('#status').textContent"
                    + ".includes('Call over: caller hung up')");
            page.evaluate(card("call.transcript", "verified") + ".querySelector('.said').open = 1");
            page.await("what the caller has typed, as a text", card("call.transcript", "verified")
                    + ".querySelector('.said ol').innerText.includes('" + MARKUP + "')");
            assertEquals(0, number(page, "document.querySelectorAll('img').length"));
            noComplaints(page);
        }
    }

    /// Anybody can send it, as it is not signed. So the page shows it as refused.
    @Test @Order(3)
    void aLongTranscriptIsTakenAndFolded() throws Exception {
        try (var page = new Chromium(inside, null, url + "/")) {
            page.await("the events of before", card("call.ended", "verified"));
            assertEquals(401, number(page, """
                    fetch("/webhooks/call", {method: "POST", body: JSON.stringify({id: "evt_long",
                        event: "call.transcript", truncated: true, items: Array.from({length: 8000},
                            (_, i) => ({at: i * 1000, role: "caller", text: "x".repeat(12)}))})
                    }).then(answer => answer.status)"""));
            String long_ = "document.querySelector('#events [data-id=evt_long]')";
            page.await("its card", long_);
            assertEquals("transcript, 8000 items, and the rest is missing",
                    text(page, long_ + ".querySelector('.said summary').innerText"));
            assertEquals(0, number(page, long_ + ".querySelectorAll('li').length"));
            page.evaluate(long_ + ".querySelector('.said').open = true");
            page.await("all of it", long_ + ".querySelectorAll('li').length === 8000");
            page.evaluate(long_ + ".querySelector('.raw').open = true");
            page.await("the body", long_ + ".querySelector('.body').textContent.length > 490000");
        }
    }

    /// The short id of the newest call.
    private static String call() throws IOException {
        return Pattern.compile("(?m)  (\\S{6})  call +is up").matcher(Files.readString(log))
                .results().reduce((_, last) -> last).orElseThrow().group(1);
    }

    private static boolean log(String what, String call) throws IOException {
        return Pattern.compile("  " + call + "  " + what).matcher(Files.readString(log)).find();
    }

    @Test @Order(4)
    void whoClosesThePageHasHungUp() throws Exception {
        String id;
        try (var page = new Chromium(inside, microphone(), url + "/")) {
            page.await("the page", "!document.querySelector('#call').disabled");
            page.click("#call");
            page.await("the agent to pick up",
                    "document.querySelector('#status').textContent.includes('In the call')");
            id = call();
        } // the browser was killed: it cannot say goodbye
        Stage.await("the end of the call", log, () -> log("call +ends: caller_hung_up", id));
    }

    @Test @Order(5)
    void itFitsEveryScreenAndIsOperableByKeyboard() throws Exception {
        try (var page = new Chromium(inside, null, url + "/")) {
            page.await("the events of before", card("call.ended", "verified"));
            for (int[] size : new int[][] {{1280, 800}, {1024, 700}, {390, 844}, {360, 640}}) {
                for (boolean dark : new boolean[] {false, true}) {
                    page.look(size[0], size[1], dark);
                    int over = number(page, "document.documentElement.scrollWidth - innerWidth");
                    assertTrue(over <= 0, size[0] + " wide: " + over + " px too much");
                    screenshot(page, size[0] + (dark ? "-dark" : "-light"));
                }
            }
            // Everything that can be operated has a name and is reached by the Tab key.
            assertEquals("", text(page, """
                    [...document.querySelectorAll("button, input, select, audio[controls]")]
                        .filter(it => !it.textContent.trim() && !it.ariaLabel && !it.labels?.length)
                        .map(it => it.outerHTML).join()"""));
            var reached = new HashSet<String>();
            for (int i = 0; i < 40; i++) {
                page.key("Tab");
                reached.add(text(page, "document.activeElement.id"));
            }
            assertTrue(reached.containsAll(List.of("from", "call", "forge", "replay", "fail")),
                    reached.toString());
            page.evaluate("document.querySelector('#call').focus()");
            page.key("Enter");
            page.await("the agent to pick up",
                    "document.querySelector('#status').textContent.includes('In the call')");
            page.key("Enter");
            page.await("the end of the call",
                    "document.querySelector('#status').textContent.includes('Call over')");
            noComplaints(page);
        }
    }

    /// What no browser would send ends no process, and the log has a sentence about it.
    @Test @Order(6)
    void nonsenseIsRefusedInWords() throws Exception {
        String odd = "{\"phone\":\"%s%n\",\"up\":\"v=0 %s%n%p\",\"down\":\"\"}";
        try (var page = new Chromium(inside, null, url + "/")) {
            for (String body : List.of("", "[]", "{}", odd, "x".repeat(700_000))) {
                assertEquals(body.length() > 600_000 ? "413 " : "400 The call cannot be taken",
                        text(page, """
                        fetch("/phone", {method: "POST", body: %s}).then(async answer =>
                            answer.status + " " + (await answer.text()).split(":")[0])"""
                        .formatted(jakarta.json.Json.createValue(body))));
            }
            assertEquals("404 404 404 204", text(page, """
                    Promise.all(["/phone/none/text", "/phone/none/keys", "/phone/none/dance",
                        "/phone/none/hangup"].map(path => fetch(path, {method: "POST"})))
                        .then(answers => answers.map(answer => answer.status).join(" "))"""));
        }
        assertTrue(program.isAlive());
    }

    /// At a terminal the program needs no option, and opens a browser where there is a desktop.
    @Test @Order(7)
    void inATerminalItOpensThePageAndCtrlCEndsIt() throws Exception {
        assumeTrue(ran("script", "--version"), "no `script`, which makes a terminal");
        Path opened = folder.resolve("opened"), bin = Files.createDirectory(folder.resolve("bin"));
        Files.writeString(bin.resolve("xdg-open"), "#!/bin/sh\necho \"$1\" >" + opened + "\n");
        bin.resolve("xdg-open").toFile().setExecutable(true);
        // A shell's background jobs ignore SIGINT, and so does every process that they start. This
        // one must not.
        var run = new ProcessBuilder("script", "-qec", "env --default-signal=INT ./run.sh",
                "/dev/null");
        run.environment().remove("SSH_CONNECTION");
        run.environment().putAll(Map.of("DISPLAY", ":0", "TERM", "xterm",
                "PATH", bin + ":" + System.getenv("PATH")));
        Process terminal = started(run);
        try {
            Stage.await("a browser", log,
                    () -> Files.exists(opened) && Files.size(opened) > 0);
            assertTrue(Files.readString(opened).startsWith("http://127.0.0.1:"));
            terminal.getOutputStream().write(3); // Ctrl-C
            terminal.getOutputStream().flush();
            assertTrue(terminal.waitFor(SOON), "Ctrl-C does not end it");
            String output = new String(terminal.getInputStream().readAllBytes(), UTF_8);
            assertTrue(output.contains("and press Call"), output);
        } finally {
            terminal.descendants().forEach(ProcessHandle::destroyForcibly);
            terminal.destroyForcibly();
        }
    }

    /// For somebody to look at: -Dscreenshots=FOLDER.
    private static void screenshot(Chromium page, String name) throws Exception {
        String to = System.getProperty("screenshots");
        if (to != null) page.screenshot(Path.of(to, name + ".png"));
    }

    private static void figure(String what, long since) {
        System.out.printf(Locale.ROOT, "  %-50s %6d ms%n", what,
                (System.nanoTime() - since) / 1_000_000);
    }
}
