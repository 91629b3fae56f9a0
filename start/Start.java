package start;

import module java.base;
import delivery.Outbox;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import room.Dispatch;
import room.Worker;
import voice.Log;
import voice.Numbers;

/// Runs a Program that takes calls. It is what `cli.run_app` is in LiveKit's Python SDK.
/// `Agent.main` hands its arguments over to `run`, which does all that surrounds a call: verbs and
/// usage, settings, checks, the rehearsal, calls that a dead process has left, draining, the health
/// check and the end.
///
/// It must stay small, because a start from source compiles it before the worker can register. For
/// the same reason DemoRun is another class: `dev` and `start` never load it.
public final class Start {
    // The shutdown takes ENDING and SENDING at most. Together they are below the 10 s that
    // container engines allow by default.
    static final Duration ENDING = Duration.ofMillis(1_250);
    static final Duration SENDING = Duration.ofSeconds(8);
    // In the last part of DRAIN_SECONDS, those who are still talking to us hear a goodbye.
    private static final Duration GOODBYE = Duration.ofSeconds(20);
    private static final Duration REGISTERS = Duration.ofSeconds(1);
    private static final Duration ROOM_OF_THE_DEAD = Duration.ofSeconds(2);

    /// Makes a program: for calls, for the demo or for the rehearsal, each with its own settings.
    public interface Maker {
        Program make(Settings settings) throws Outbox.InUse;
    }

    private Start() {}

    /// Returns when the worker has stopped. In all other cases it ends the process: with 1 after
    /// printing the usage, with 2 when a setting is wrong, and after `call` or the demo with their
    /// status.
    public static void run(String[] args, Maker maker) throws Exception {
        // This comes before any library is loaded. It keeps slf4j from printing that it has no
        // logger.
        System.setProperty("slf4j.internal.verbosity", "ERROR");
        String verb = args.length > 0 ? args[0] : "";
        boolean options = args.length > 1
                && Arrays.stream(args).skip(1).allMatch(each -> each.startsWith("--"));
        // The verb and its options, or the verb and how many words follow it.
        switch (options ? String.join(" ", args) : verb + "/" + (args.length - 1)) {
            case "dev/0", "start/0" -> work(settings(), maker, verb.equals("start"));
            case "call/1" -> System.exit(call(settings(), args[1], "{}"));
            case "call/2" -> System.exit(call(settings(), args[1], args[2]));
            case "event/1" -> System.exit(Example.run(args[1], maker));
            case "demo/0", "demo --once", "demo --once --own", "demo --page", "demo --train",
                    "console/0", "console --own" ->
                    System.exit(DemoRun.run(List.of(args), maker));
            default -> {
                System.err.println("""
                        usage: ./run.sh VERB         or: java @lib/java.options Agent.java VERB
                          dev     take calls from LiveKit until Ctrl-C, which ends them
                          start   the same for good: SIGTERM lets calls go on to their end, and
                                  HEALTH_PORT tells whether it can take any
                          call +15551234567 ['{"contact": {"name": "Ada"}}']
                                  have a running worker call that number
                          demo [--once [--own] | --page]
                                  try it without LiveKit, CRM and keys, on a page with a phone;
                                  --once, and where there is no terminal: one scripted call
                          console [--own]
                                  the same, typed; --own: the events go to your own CRM_URL
                          event call.ended
                                  send one signed example of this or another event to CRM_URL
                        (./run.sh alone is demo; it also has test, bench and build)""");
                System.exit(1);
            }
        }
    }

    private static Settings settings() {
        return settings(System.getenv(), Map.of());
    }

    /// `usual` has values for settings that are missing otherwise. Exits when something is wrong.
    /// There is no client yet: each one takes the proxy when it is made.
    static Settings settings(Map<String, String> environment, Map<String, String> usual) {
        try {
            Settings settings = Settings.load(environment, Path.of(".env"), usual);
            if (!settings.get("HTTPS_PROXY").isEmpty()) {
                Proxies.use(settings);
            }
            return settings;
        } catch (IllegalArgumentException e) {
            throw exit(e);
        }
    }

    private static IllegalStateException exit(Exception why) {
        System.err.println(why.getMessage());
        System.exit(2);
        return new IllegalStateException(why);
    }

    private static void work(Settings settings, Maker maker, boolean drains) throws Exception {
        Log.words(settings.get("LOG_WORDS").isEmpty() ? Log.TERMINAL : settings.yes("LOG_WORDS"));
        var worker = new Worker(settings.get("LIVEKIT_URL"),
                settings.get("LIVEKIT_API_KEY"), settings.get("LIVEKIT_API_SECRET"),
                settings.get("LIVEKIT_AGENT_NAME"), settings.number("MAX_CALLS"));
        Program program;
        try {
            program = maker.make(settings);
        } catch (Outbox.InUse e) {
            throw exit(e);
        }
        Runtime.getRuntime().addShutdownHook(
                new Thread(() -> shutDown(program, worker), "shutdown"));
        if (drains) {
            Signals.handle(number -> stopped(worker, number, settings.number("DRAIN_SECONDS")));
            if (settings.number("RESTART_AFTER_CALLS") > 0) {
                Thread.ofVirtual().name("retire").start(() -> retire(worker, settings));
            }
            if (settings.number("HEALTH_PORT") > 0) {
                Health.open(settings.get("HEALTH_HOST"), settings.number("HEALTH_PORT"),
                        worker::registered);
            }
        }
        program.orphans().forEach(orphan ->
                Thread.ofVirtual().name("end " + orphan.party().call()).start(() ->
                        bury(orphan, worker.rooms().deleteAbandoned(orphan.party()))));
        Thread.ofVirtual().name("checks").start(() -> {
            try {
                // A start from source has to compile Checks, and the worker is to register before
                // that.
                worker.awaitRegistration(REGISTERS);
                Checks.start(settings);
            } catch (InterruptedException e) {
                // nobody interrupts this thread
            }
        });
        try {
            worker.run(program::takeCall, () -> Rehearsal.hold(settings, maker));
        } catch (Worker.Refused e) {
            throw exit(e);
        }
    }

    /// Reports the end of a call in which an earlier process has died. `hungUp`: the caller, who
    /// hears nothing, is off the line, unless somebody else has the call.
    static void bury(Program.Orphan orphan, CompletableFuture<Void> hungUp) {
        String call = orphan.party().call();
        Log.log(call, "was up when the program died");
        try {
            hungUp.get(ROOM_OF_THE_DEAD.toMillis(), TimeUnit.MILLISECONDS);
        } catch (ExecutionException | TimeoutException e) {
            Log.log(call, "LiveKit has not deleted its room yet");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // the CRM learns it all the same
        }
        orphan.died(hungUp);
    }

    /// webrtc-java never frees 0.2 MB of each call. So `start` ends after many calls, and whatever
    /// has started it is to start it again.
    private static void retire(Worker worker, Settings settings) {
        int calls = settings.number("RESTART_AFTER_CALLS");
        // Some more, so that workers that share the calls do not drain at the same time.
        int most = 2 * calls + ThreadLocalRandom.current().nextInt(calls / 5 + 1);
        try {
            worker.retire(calls, most);
        } catch (InterruptedException e) {
            return; // nobody interrupts this thread
        }
        Log.log("", "ends after so many calls (RESTART_AFTER_CALLS=" + calls + "), because WebRTC "
                + "never frees 0.2 MB of each: let something always start it again");
        stopped(worker, 1, settings.number("DRAIN_SECONDS"));
    }

    /// `start` was told to stop, for the first or the second time. The shutdown hook does the rest.
    private static void stopped(Worker worker, int number, int drainSeconds) {
        if (number == 1) {
            try {
                Log.log("", "no new calls; running ones have " + drainSeconds + " s to their end");
                var all = Duration.ofSeconds(drainSeconds);
                var goodbye = all.compareTo(GOODBYE) < 0 ? all : GOODBYE;
                worker.drain(all.minus(goodbye));
                worker.sayGoodbye();
                worker.drain(goodbye);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }
        System.exit(0);
    }

    /// The end. The worker takes no new calls, and ends the running ones. Then what they have
    /// reported is delivered. What cannot be delivered in that time stays on disk.
    private static void shutDown(Program program, Worker worker) {
        try {
            worker.stop(ENDING);
            program.close(SENDING);
            Log.log("", "stopped");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } finally {
            System.out.close(); // webrtc-java would print a complaint that means nothing
        }
    }

    /// The verb `call`: asks a worker to dial, and prints how that goes. Returns the exit status.
    private static int call(Settings settings, String written, String more) throws Exception {
        JsonObject metadata = json(more);
        String number = settings.options().numbers().read(written);
        if (!Numbers.callable(number) || metadata == null) {
            System.err.println(metadata == null
                    ? "The last argument is not a JSON object: " + more
                    : "Not a number that can be called: it looks like +15551234567. Without the "
                            + "country code, it needs PHONE_REGION");
            return 2;
        }
        // The worker decides whom it calls. This only says earlier what it would say.
        if (!settings.get("OUTBOUND_PREFIXES").isEmpty() && !settings.options().mayCall(number)) {
            System.err.println("The number begins with none of OUTBOUND_PREFIXES, "
                    + settings.get("OUTBOUND_PREFIXES"));
            return 2;
        }
        return new Dispatch(settings.get("LIVEKIT_URL"), settings.get("LIVEKIT_API_KEY"),
                settings.get("LIVEKIT_API_SECRET"), settings.get("LIVEKIT_AGENT_NAME"))
                .call(Json.createObjectBuilder(metadata).add("phone_number", number).build(),
                        Duration.ofMinutes(settings.number("MAX_CALL_MINUTES") + 5));
    }

    /// The JSON object, or null.
    private static JsonObject json(String text) {
        try (var reader = Json.createReader(new StringReader(text))) {
            return reader.readObject();
        } catch (RuntimeException e) { // not only JsonException: JSON can be nested too deep
            return null;
        }
    }

    static void delete(Path folder) throws IOException {
        if (Files.exists(folder)) {
            try (var all = Files.walk(folder)) {
                all.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
            }
        }
    }
}
