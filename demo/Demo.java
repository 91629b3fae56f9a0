package demo;

import module java.base;
import com.sun.net.httpserver.HttpExchange;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import voice.Line;
import voice.Log;

import static java.nio.charset.StandardCharsets.UTF_8;

/// The sample to try out, on a laptop and with nothing else: the demo CRM with its page, a phone on
/// that page (or in the terminal), and where there is no key a stand-in for the model. The calls
/// are real ones, answered by the agent like any other; Agent hands in all of its own that is
/// needed here, and runs this for `demo` and `console`.
///
/// Not handled: callers from other machines, and more than a few calls at a time.
public final class Demo {
    private static final int PORT = 8080;                   // or another, if that one is taken
    private static final int MOST_CALLS = 4;
    private static final int MOST_BODY = 200_000;           // bytes; two descriptions in SDP
    private static final Duration PING = Duration.ofSeconds(2);
    private static final Duration TURN = Duration.ofSeconds(40);
    private static final Duration LINGERS = Duration.ofSeconds(3);
    private static final Duration DELIVERY = Duration.ofSeconds(15);
    private static final String ADA = "+15550100";

    /// What the scripted caller says, one after the other.
    private static final List<String> ONCE = List.of("I want to order a new table.",
            "Please look up +15550101.", "Make a note that I am at home after six.",
            "Now put me through to a human.");

    private final DemoCrm crm;
    private final DemoModel model;                          // null: the real one speaks
    private final String speaks;
    private final Map<String, WebPhone> phones = new ConcurrentHashMap<>();
    private final Map<String, Thread> calls = new ConcurrentHashMap<>();
    private volatile Console console;

    /// `verify` and `standard` check an event's two signatures. `speaks` is the model that will
    /// speak, or null for none: then the stand-in does.
    public Demo(BiPredicate<byte[], String> verify, DemoCrm.Standard standard, String speaks)
            throws IOException {
        this.speaks = speaks;
        crm = crm(verify, standard);
        crm.people();
        if (speaks == null) {
            model = new DemoModel(0, Script.TURNS);
            model.afterScript = Script.END;
            model.stepsForText = Script::written;
            model.keepMs = 0;
        } else {
            model = null;
        }
    }

    private static DemoCrm crm(BiPredicate<byte[], String> verify, DemoCrm.Standard standard)
            throws IOException {
        try {
            return new DemoCrm(PORT, verify, standard, Demo::log);
        } catch (BindException e) {
            return new DemoCrm(0, verify, standard, Demo::log);
        }
    }

    /// What the agent must know of the stand-ins. The destinations are nobody's numbers.
    public Map<String, String> settings() {
        var settings = new HashMap<>(Map.of("CRM_URL", crm.url(), "CRM_API_KEY", "",
                "TRANSFER_SALES", "+15550120", "TRANSFER_BILLING", "+15550121",
                "TRANSFER_SUPPORT", "+15550122", "VOBIZ_SIP_DOMAIN", ""));
        if (model != null) {
            settings.put("OPENAI_BASE_URL", model.baseUrl());
            settings.put("OPENAI_API_KEY", "none");
        }
        return settings;
    }

    /// `words` are a verb and its option. `answer` takes a call from its first ring to its end;
    /// `warmUp` spares the first caller from waiting for it. Returns the exit status when it is
    /// over, which with the page is when somebody stops the program.
    public int run(List<String> words, Consumer<Line> answer, Runnable warmUp) throws Exception {
        if (words.contains("--train")) {
            return Training.run(answer, warmUp) ? 0 : 1;
        }
        if (model != null) {
            System.out.println("No OPENAI_API_KEY is set, so a recording speaks. It understands no "
                    + "speech: the end of what you say takes the next step of a script.");
        }
        if (words.contains("console")) {
            System.out.println("Type what you would say. /keys 12# presses keys, /hangup (or "
                    + "Ctrl-D) hangs up." + (model == null ? ""
                            : " The recording knows these words: order, look up, note, human."));
            return talk(answer, typed(), !Log.TERMINAL);
        } else if (words.contains("--once") || !Log.TERMINAL && !words.contains("--page")) {
            return talk(answer, ONCE.iterator(), true);
        }
        crm.page(speaks == null ? "recorded" : speaks);
        crm.serve("/phone", exchange -> phone(exchange, answer));
        System.out.println("Open " + crm.url() + " and press Call. (Ctrl-C ends it.)");
        if (Log.TERMINAL) {
            open(crm.url());
        }
        try {
            WebPhone.warmUp();
        } catch (LinkageError e) {
            System.err.println("WebRTC cannot be loaded (" + Log.reason(e) + "): is a library "
                    + "missing? ./run.sh installs those it needs");
            return 2;
        }
        warmUp.run();
        new CountDownLatch(1).await(); // until somebody stops the program
        return 0;
    }

    /// Ends the calls that are up; returns when they have ended, or at the bound.
    public void stop(Duration bound) throws InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        phones.values().forEach(WebPhone::stop);
        if (console != null) {
            console.stop();
        }
        for (Thread call : calls.values()) {
            call.join(Duration.ofNanos(Math.max(1, end - System.nanoTime())));
        }
    }

    /// The CRM and the model too.
    public void close() {
        crm.close();
        if (model != null) {
            model.close();
        }
    }

    /// A window with the page, where there is a desktop.
    private static void open(String url) {
        boolean mac = System.getProperty("os.name").startsWith("Mac");
        boolean desktop = mac || System.getenv("DISPLAY") != null
                || System.getenv("WAYLAND_DISPLAY") != null;
        if (desktop && System.getenv("SSH_CONNECTION") == null) {
            try {
                new ProcessBuilder(mac ? "open" : "xdg-open", url)
                        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                        .redirectError(ProcessBuilder.Redirect.DISCARD).start();
            } catch (IOException e) {
                // there is no such program; the address has been printed
            }
        }
    }

    private Thread take(Line line, Consumer<Line> answer, Runnable afterwards) {
        Thread call = Thread.ofVirtual().name("call " + line.id()).unstarted(() -> {
            try {
                answer.accept(line);
            } catch (RuntimeException | Error e) {
                Log.log(line.id(), "the call failed: " + Log.reason(e));
            } finally {
                afterwards.run();
                calls.remove(line.id());
            }
        });
        calls.put(line.id(), call);
        call.start();
        return call;
    }

    private static String newId(String kind) {
        return kind + "_" + UUID.randomUUID().toString().substring(0, 8);
    }

    // The phone on the page.

    /// POST /phone is a call, as long as it lasts: the answer to the browser's offers, and then
    /// what happens, one JSON object a line. POST /phone/ID/.. is what the caller does.
    private void phone(HttpExchange exchange, Consumer<Line> answer) throws IOException {
        String[] path = exchange.getRequestURI().getPath().split("/"); // "", "phone", id, what
        byte[] body = exchange.getRequestBody().readNBytes(MOST_BODY);
        if (!exchange.getRequestMethod().equals("POST")) {
            exchange.sendResponseHeaders(405, -1);
        } else if (path.length == 2) {
            call(exchange, body, answer);
        } else {
            WebPhone phone = phones.get(path[2]);
            String text = new String(body, UTF_8).strip();
            String what = path.length == 4 ? path[3] : "";
            boolean done = switch (what) {
                case "hangup" -> {
                    if (phone != null) { // or it is over already
                        phone.left("hung up");
                    }
                    yield true;
                }
                case "text" -> {
                    if (phone != null) {
                        phone.wrote(text);
                    }
                    yield phone != null;
                }
                case "keys" -> {
                    boolean key = phone != null && text.matches("[0-9*#]");
                    if (key) {
                        phone.pressed(text);
                    }
                    yield key;
                }
                default -> false;
            };
            exchange.sendResponseHeaders(done ? 204 : 404, -1);
        }
    }

    private void call(HttpExchange exchange, byte[] body, Consumer<Line> answer)
            throws IOException {
        if (phones.size() >= MOST_CALLS) {
            refuse(exchange, 503, "There are " + MOST_CALLS + " calls already.");
            return;
        }
        String id = newId("web");
        var told = new LinkedBlockingQueue<JsonObject>();
        WebPhone phone;
        WebPhone.Sdp answers;
        try (var reader = Json.createReader(new ByteArrayInputStream(body))) {
            JsonObject offer = reader.readObject();
            String number = offer.getString("phone", "");
            phone = new WebPhone(id, number.matches("\\+[0-9]{3,15}") ? number : null, told::add);
            phones.put(id, phone);
            answers = phone.connect(
                    new WebPhone.Sdp(offer.getString("up"), offer.getString("down")));
        } catch (IOException | RuntimeException | LinkageError e) {
            Log.log(id, "a call that cannot be taken: " + Log.reason(e));
            refuse(exchange, 400, "The call cannot be taken: " + Log.reason(e));
            drop(id);
            return;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // the program is being stopped
            drop(id);
            return;
        }
        take(phone, answer, () -> drop(id));
        try {
            exchange.getResponseHeaders().set("Content-Type", "application/x-ndjson");
            exchange.getResponseHeaders().set("Cache-Control", "no-store");
            exchange.sendResponseHeaders(200, 0);
            var out = exchange.getResponseBody();
            JsonObject next = Json.createObjectBuilder().add("kind", "answer").add("call", id)
                    .add("up", answers.up()).add("down", answers.down()).build();
            while (true) {
                out.write((next + "\n").getBytes(UTF_8));
                out.flush();
                if (next.getString("kind").equals("ended")) {
                    return;
                }
                next = told.poll(PING.toMillis(), TimeUnit.MILLISECONDS);
                if (next == null) { // is the page still there?
                    next = Json.createObjectBuilder().add("kind", "ping").build();
                }
            }
        } catch (IOException e) {
            phone.left("their page is gone");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void drop(String id) {
        WebPhone phone = phones.remove(id);
        if (phone != null) {
            phone.close();
        }
    }

    private static void refuse(HttpExchange exchange, int status, String why) throws IOException {
        byte[] text = why.getBytes(UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "text/plain; charset=utf-8");
        exchange.sendResponseHeaders(status, text.length);
        exchange.getResponseBody().write(text);
    }

    // The phone in the terminal.

    /// One call with these lines, and then what came of it. `patient` callers hear the agent out.
    private int talk(Consumer<Line> answer, Iterator<String> lines, boolean patient)
            throws InterruptedException {
        var phone = new Console(newId("con"), ADA);
        console = phone;
        Thread call = take(phone, answer, phone::end);
        Thread caller = Thread.ofPlatform().daemon().name("caller").start(() -> {
            try {
                while (phone.awaitTurn(patient, TURN) && lines.hasNext()) {
                    say(phone, lines.next());
                }
                phone.awaitEnd(LINGERS); // they may be put through in this moment
                phone.leave();
            } catch (InterruptedException e) {
                // the call is over
            }
        });
        call.join();
        caller.interrupt();
        return delivered(phone.id()) ? 0 : 1;
    }

    private static void say(Console phone, String line) {
        if (line.startsWith("/keys ")) {
            phone.press(line.substring("/keys ".length()).replaceAll("[^0-9*#]", ""));
        } else if (line.equals("/hangup")) {
            phone.leave();
        } else if (!line.isBlank()) {
            phone.type(line);
        }
    }

    private static Iterator<String> typed() {
        var charset = Charset.forName(System.getProperty("stdin.encoding", "UTF-8"));
        return new BufferedReader(new InputStreamReader(System.in, charset)).lines().iterator();
    }

    /// Did the CRM get all of that call, each signed as it must be?
    private boolean delivered(String call) {
        crm.await(request -> event(request, call).equals("call.ended"), DELIVERY);
        var events = crm.requests().stream().filter(request -> request.status() == 204)
                .filter(request -> !event(request, call).isEmpty()).toList();
        boolean all = !events.isEmpty()
                && event(events.getLast(), call).equals("call.ended")
                && events.stream().allMatch(DemoCrm.Request::verified);
        for (int i = 0; i < events.size(); i++) {
            all &= events.get(i).json().getInt("sequence") == i + 1;
        }
        System.out.println((all ? "The CRM has all " : "NOT all events have come; the CRM has ")
                + events.size() + " events of the call, verified and in order: "
                + events.stream().map(request -> event(request, call))
                        .collect(Collectors.joining(", ")));
        return all;
    }

    /// The event's name, or "" for what is none or another call's.
    private static String event(DemoCrm.Request request, String call) {
        if (request.path().startsWith("/webhooks/")) {
            try {
                JsonObject event = request.json();
                return event.getString("call_id").equals(call) ? event.getString("event") : "";
            } catch (RuntimeException e) {
                // not ours
            }
        }
        return "";
    }

    /// What comes to the CRM, as its operator would see it.
    private static void log(DemoCrm.Request request) {
        if (!request.method().equals("POST")) {
            return; // a browser that looks for an icon
        }
        String path = request.path(), call = "", event = "";
        try {
            call = request.json().getString("call_id", "");
            event = request.json().getString("event", "");
        } catch (RuntimeException e) {
            // no JSON
        }
        String what = path.startsWith("/webhooks/") ? event
                : path.equals("/contacts/search") ? "who is that?"
                : path.endsWith("/notes") ? "a note" : "the call is filed";
        Log.step(call, "crm", request.status() / 100 != 2
                ? "NOT taken: " + what + ": HTTP " + request.status()
                        + (request.why() == null ? "" : ", " + request.why())
                : "%-19s  %s".formatted(what, !request.verified()
                        ? Objects.requireNonNullElse(request.found(), "")
                        : "signature verified, attempt " + request.attempt()).stripTrailing());
    }
}
