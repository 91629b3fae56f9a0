package demo;

import module java.base;
import jakarta.json.JsonObject;
import voice.Line;
import voice.Log;

/// The sample to try out, on a laptop and with nothing else: the demo CRM with its page, a phone on
/// that page or in the terminal, and a stand-in for the model where there is no key. The agent
/// answers these calls as it answers any other. The program runs this class for `demo` and
/// `console`; it hands in the agent, which demo/ cannot name.
///
/// Deliberately not handled: callers from other machines, and more than a few calls at a time.
public final class Demo {
    private static final int PORT = 8080;                           // or any, if it is taken
    private static final Duration TURN = Duration.ofSeconds(40);    // the agent's turn, at most
    private static final Duration LINGERS = Duration.ofSeconds(3);  // who has no more to say
    private static final Duration DELIVERY = Duration.ofSeconds(15);
    private static final String ADA = "+15550100";

    /// What the scripted caller says, one line after the other.
    private static final List<String> ONCE = List.of("I want to order a new table.",
            "Please look up +15550101.", "Make a note that I am at home after six.",
            "Now put me through to a human.");

    private final DemoCrm crm;                              // null: that of CRM_URL is used
    private final DemoModel standIn;                        // null: the real model speaks
    private final String modelName;
    private final Map<String, Thread> callThreads = new ConcurrentHashMap<>(); // by call id
    private volatile WebCalls webCalls;
    private volatile Console console;

    /// `verify` and `standard` check the two signatures of an event. `modelName` is the model that
    /// will speak. It is null when there is no key: then the stand-in speaks.
    public Demo(BiPredicate<byte[], String> verify, DemoCrm.Standard standard, String modelName)
            throws IOException {
        this(crm(verify, standard), modelName);
    }

    /// The same, without a CRM: for typed and scripted calls whose events go to another CRM.
    public Demo(String modelName) throws IOException {
        this((DemoCrm) null, modelName);
    }

    private Demo(DemoCrm crm, String modelName) throws IOException {
        this.crm = crm;
        this.modelName = modelName;
        if (modelName == null) {
            standIn = new DemoModel(0, Script.TURNS);
            standIn.afterScript = Script.END;
            standIn.stepsForText = Script::forText;
            standIn.keepMs = 0;
        } else {
            standIn = null;
        }
    }

    private static DemoCrm crm(BiPredicate<byte[], String> verify, DemoCrm.Standard standard)
            throws IOException {
        DemoCrm crm;
        try {
            crm = new DemoCrm(PORT, verify, standard, Demo::log);
        } catch (BindException e) {
            crm = new DemoCrm(0, verify, standard, Demo::log);
        }
        crm.people();
        return crm;
    }

    /// The settings that lead the agent to the stand-ins. Nobody has the numbers that are the
    /// transfer destinations.
    public Map<String, String> settings() {
        var settings = new HashMap<>(Map.of(
                "TRANSFER_SALES", "+15550120", "TRANSFER_BILLING", "+15550121",
                "TRANSFER_SUPPORT", "+15550122", "VOBIZ_SIP_DOMAIN", ""));
        if (crm != null) {
            settings.putAll(Map.of("CRM_URL", crm.url(), "CRM_API_KEY", "",
                    "LOOKUP_ANYBODY", "true"));
        }
        if (standIn != null) {
            settings.put("OPENAI_BASE_URL", standIn.baseUrl());
            settings.put("OPENAI_API_KEY", "none");
            settings.put("OPENAI_VOICE", "");       // the stand-in has no such voice
            settings.put("OPENAI_TRANSCRIBE_MODEL", "gpt-transcribe");
        }
        return settings;
    }

    /// Shows the sample. `words` are the verb (`demo` or `console`) and its options. `takeCall`
    /// takes a call from its first ring to its end, and returns then. `warmUp` does beforehand what
    /// the first caller would have to wait for. Returns the exit status when it is over; with the
    /// page it is never over, until somebody stops the program.
    public int run(List<String> words, Consumer<Line> takeCall, Runnable warmUp) throws Exception {
        if (words.contains("--train")) {
            return Training.run(takeCall, warmUp) ? 0 : 1;
        }
        if (standIn != null) {
            System.out.println("No OPENAI_API_KEY is set, so a recording speaks. It does not "
                    + "understand speech: each time you stop talking, it takes the next step of "
                    + "its script.");
        }
        System.out.println(crm == null ? "The caller's number is " + ADA + "."
                + (standIn == null ? "" : " The tokens in `usage` are made up, as no model talks.")
                : "In the demo, the model may look up anybody (LOOKUP_ANYBODY=true). On your own "
                        + "line, a caller gets their own record, and no other.");
        if (words.contains("console")) {
            System.out.println("Type what you would say. /keys 12# presses keys, /hangup (or "
                    + "Ctrl-D) hangs up." + (standIn == null ? ""
                            : " The recording knows these words: order, look up, note, human, "
                                    + "goodbye."));
            return talk(takeCall, typedLines(), !Log.TERMINAL);
        } else if (!shows(words)) {
            return talk(takeCall, ONCE.iterator(), true);
        }
        webCalls = new WebCalls((line, afterwards) -> startCall(line, takeCall, afterwards));
        crm.page(modelName == null ? "recorded" : modelName);
        crm.serve("/phone", webCalls::handle);
        System.out.println("Open " + crm.url() + " and press Call. (Ctrl-C ends it.)");
        if (Log.TERMINAL) {
            openBrowser(crm.url());
        }
        try {
            WebPhone.warmUp();
        } catch (LinkageError e) {
            System.err.println("WebRTC cannot be loaded (" + Log.reason(e) + "): is a library "
                    + "missing? ./run.sh installs those it needs");
            return 2;
        }
        warmUp.run();
        new CountDownLatch(1).await(); // nobody counts it down
        return 0;
    }

    /// Does the page show the calls? `words` are those of `run`.
    public static boolean shows(List<String> words) {
        return words.contains("--page")
                || words.getFirst().equals("demo") && words.size() == 1 && Log.TERMINAL;
    }

    /// Ends the calls that are up. Returns when they have ended, or after `bound`.
    public void stop(Duration bound) throws InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        if (webCalls != null) {
            webCalls.stop();
        }
        if (console != null) {
            console.stop();
        }
        for (Thread call : callThreads.values()) {
            call.join(Duration.ofNanos(Math.max(1, end - System.nanoTime())));
        }
    }

    /// Closes the CRM and, where there is one, the stand-in for the model. Call `stop` before.
    public void close() {
        if (crm != null) {
            crm.close();
        }
        if (standIn != null) {
            standIn.close();
        }
    }

    /// Opens the page in a browser, where there is a desktop.
    private static void openBrowser(String url) {
        boolean mac = System.getProperty("os.name").startsWith("Mac");
        boolean desktop = mac || System.getenv("DISPLAY") != null
                || System.getenv("WAYLAND_DISPLAY") != null;
        if (desktop && System.getenv("SSH_CONNECTION") == null) {
            try {
                new ProcessBuilder(mac ? "open" : "xdg-open", url)
                        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                        .redirectError(ProcessBuilder.Redirect.DISCARD).start();
            } catch (IOException e) {
                // There is no such program. The user has the address: it was printed.
            }
        }
    }

    /// Runs a call on a thread of its own, and `afterwards` on the same thread.
    private Thread startCall(Line line, Consumer<Line> takeCall, Runnable afterwards) {
        Thread call = Thread.ofVirtual().name("call " + line.id()).unstarted(() -> {
            try {
                takeCall.accept(line);
            } catch (RuntimeException | Error e) {
                Log.log(line.id(), "the call failed: " + Log.reason(e));
            } finally {
                afterwards.run();
                callThreads.remove(line.id());
            }
        });
        callThreads.put(line.id(), call);
        call.start();
        return call;
    }

    /// An id for a call; `kind` says where the call comes from.
    static String newId(String kind) {
        return kind + "_" + UUID.randomUUID().toString().substring(0, 8);
    }

    // The phone in the terminal.

    /// Makes one call in which the caller says `lines`, and then prints what the CRM has of it. A
    /// `patient` caller hears the agent out; another one may interrupt. Returns the exit status.
    private int talk(Consumer<Line> takeCall, Iterator<String> lines, boolean patient)
            throws InterruptedException {
        var phone = new Console(newId("con"), ADA);
        console = phone;
        var taken = new AtomicBoolean();
        Thread call = startCall(phone, line -> {
            takeCall.accept(line);
            taken.set(true);                // it has not failed
        }, phone::close);
        Thread caller = Thread.ofPlatform().daemon().name("caller").start(() -> {
            try {
                while (phone.awaitTurn(patient, TURN) && lines.hasNext()) {
                    say(phone, lines.next());
                }
                // At this moment the agent may be putting the caller through: do not hang up yet.
                phone.awaitEnd(LINGERS);
                phone.leave();
            } catch (InterruptedException e) {
                // the call is over
            }
        });
        call.join();
        caller.interrupt();
        return crm == null ? taken.get() ? 0 : 1 : delivered(phone.id()) ? 0 : 1;
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

    private static Iterator<String> typedLines() {
        var charset = Charset.forName(System.getProperty("stdin.encoding", "UTF-8"));
        return new BufferedReader(new InputStreamReader(System.in, charset)).lines().iterator();
    }

    /// Waits for the end of that call to reach the CRM, and prints which events it has. Returns
    /// whether it has all of them, in order, each with a signature that is right.
    private boolean delivered(String callId) {
        crm.await(request -> eventName(request, callId).equals("call.ended"), DELIVERY);
        var events = crm.requests().stream().filter(request -> request.status() == 204)
                .filter(request -> !eventName(request, callId).isEmpty()).toList();
        boolean all = !events.isEmpty()
                && eventName(events.getLast(), callId).equals("call.ended")
                && events.stream().allMatch(DemoCrm.Request::verified);
        for (int i = 0; i < events.size(); i++) {
            all &= events.get(i).json().getInt("sequence") == i + 1;
        }
        String names = events.stream().map(request -> eventName(request, callId))
                .collect(Collectors.joining(", "));
        System.out.println(all
                ? "The CRM has all " + events.size() + " events of the call, verified and in "
                        + "order: " + names
                : "The CRM does NOT have all events of the call, verified and in order. It has "
                        + events.size() + ": " + names);
        return all;
    }

    /// The name of the event that this request is. It is "" when the request is no event, or an
    /// event of another call.
    private static String eventName(DemoCrm.Request request, String callId) {
        if (request.path().startsWith("/webhooks/")) {
            try {
                JsonObject event = request.json();
                return event.getString("call_id").equals(callId) ? event.getString("event") : "";
            } catch (RuntimeException e) {
                // It is not one of ours.
            }
        }
        return "";
    }

    /// Logs a request to the CRM, as the CRM's operator would see it.
    private static void log(DemoCrm.Request request) {
        if (!request.method().equals("POST")) {
            return; // a browser that asks for an icon
        }
        String path = request.path(), callId = "", event = "";
        try {
            callId = request.json().getString("call_id", "");
            event = request.json().getString("event", "");
        } catch (RuntimeException e) {
            // The body is no JSON: there is less to log.
        }
        String what = path.startsWith("/webhooks/") ? event
                : path.equals("/contacts/search") ? "who is that?"
                : path.endsWith("/notes") ? "a note" : "the call is filed";
        Log.step(callId, "crm", request.status() / 100 != 2
                ? "NOT taken: " + what + ": HTTP " + request.status()
                        + (request.why() == null ? "" : ", " + request.why())
                : "%-19s  %s".formatted(what, !request.verified()
                        ? Objects.requireNonNullElse(request.found(), "")
                        : "signature verified, attempt " + request.attempt()).stripTrailing());
    }
}
