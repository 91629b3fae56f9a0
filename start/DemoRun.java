package start;

import module java.base;
import delivery.Http;
import delivery.Outbox;
import demo.Demo;
import voice.Log;

/// The verbs `demo` and `console`. They run the same program, with a CRM of the demo's own; or with
/// the CRM that is set, if the option --own says so. The calls come from a page or from the
/// terminal instead of LiveKit. The demo cannot name the program, so this class hands over what the
/// demo needs of the program.
///
/// It is a class of its own, so that `dev` and `start` need not compile the demo when they start.
final class DemoRun {
    private static final Duration DELIVERY = Duration.ofSeconds(15);

    private DemoRun() {}

    /// `words` are the verb and its options. Returns the exit status when the demo is over.
    static int run(List<String> words, Start.Maker maker) throws Exception {
        boolean own = words.contains("--own");
        var environment = new HashMap<>(System.getenv());
        environment.putAll(Map.of("LIVEKIT_URL", "ws://localhost", "LIVEKIT_API_KEY", "none",
                "LIVEKIT_API_SECRET", "none"));
        if (own) {
            Http.logAnswers();
        } else {        // whatever is set: a test call must not come into a real CRM by accident
            environment.putAll(Map.of("CRM_URL", "http://localhost", "CRM_API_KEY", "none",
                    "WEBHOOK_SECRET", UUID.randomUUID().toString()));
        }
        Settings given = Start.settings(environment, Map.of("OPENAI_API_KEY", ""));
        Log.words(true);
        boolean key = !given.get("OPENAI_API_KEY").matches("|none");
        // The demo's CRM, if it takes part, starts before the program is made, because the program
        // needs its address.
        var program = new CompletableFuture<Program>();
        var demo = own ? new Demo(key ? given.get("OPENAI_REALTIME_MODEL") : null) : new Demo(
                (body, signature) -> program.join().crm().verifyBody(body, signature),
                (id, timestamp, body, signatures, now) ->
                        program.join().crm().verifyStandard(id, timestamp, body, signatures, now),
                key ? given.get("OPENAI_REALTIME_MODEL") : null);
        if (Demo.shows(words)) {            // the page shows it, and it stays on this machine
            given = given.with(Map.of("SEND_TRANSCRIPT", "true"));
        }
        String folder = given.get("OUTBOX_DIR") + "/demo";
        // If another demo is using that folder, this one has a folder of its own, until it ends.
        // Nothing that a call has left is ever sent to another CRM.
        String alone = folder + "-" + UUID.randomUUID();
        Settings settings = given.with(demo.settings())
                .with(Map.of("OUTBOX_DIR", own ? alone : folder));
        try {
            program.complete(maker.make(settings));
        } catch (Outbox.InUse e) {
            settings = settings.with(Map.of("OUTBOX_DIR", alone));
            program.complete(maker.make(settings));
        }
        Program made = program.join();
        Settings used = settings;
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                demo.stop(Start.ENDING);
                made.close(Start.SENDING);
                demo.close();
                if (used.get("OUTBOX_DIR").equals(alone)) {
                    Start.delete(Path.of(alone));
                }
            } catch (IOException | InterruptedException e) {
                Log.log("", "the demo did not end cleanly: " + Log.reason(e));
            } finally {
                System.out.close();
            }
        }, "shutdown"));
        var hungUp = CompletableFuture.<Void>completedFuture(null);     // no phone is on the line
        made.orphans().forEach(orphan -> Start.bury(orphan, hungUp));
        if (key) {
            Checks.model(used);
        }
        if (own) {
            System.out.println("This call is reported to CRM_URL: " + used.get("CRM_URL"));
        }
        int status = demo.run(words, made::takeCall, () -> Rehearsal.hold(used, maker));
        return own ? Math.max(status, delivered(made, Path.of(alone))) : status;
    }

    /// Waits until the CRM has taken or refused all that is in the outbox, 15 s at most. Prints
    /// whether it has taken all. Returns the exit status.
    private static int delivered(Program program, Path outbox)
            throws InterruptedException, IOException {
        boolean kept = Files.exists(outbox);    // otherwise the call was only in memory, if at all
        long end = System.nanoTime() + DELIVERY.toNanos();
        while (count(outbox) > 0 && System.nanoTime() < end) {
            TimeUnit.MILLISECONDS.sleep(20);
        }
        program.close(Duration.ZERO);           // nothing is tried after it was counted
        long missing = count(outbox) + count(outbox.resolve("failed"));
        System.out.println(kept && missing == 0 ? "The CRM has taken all of it."
                : "The CRM has NOT taken all of it. Requests that are deleted now: " + missing);
        return kept && missing == 0 ? 0 : 1;
    }

    private static long count(Path folder) throws IOException {
        try (var files = Files.list(folder)) {
            return files.filter(file -> file.toString().endsWith(".post")).count();
        } catch (NoSuchFileException e) {
            return 0;
        }
    }
}
