package start;

import module java.base;
import delivery.Outbox;
import demo.Demo;
import voice.Log;

/// The verbs `demo` and `console`. They run the same program, with a CRM of the demo's own. The
/// calls come from a page or from the terminal instead of LiveKit. The demo cannot name the
/// program, so this class hands over what the demo needs of the program.
///
/// It is a class of its own, so that `dev` and `start` need not compile the demo when they start.
final class DemoRun {
    private DemoRun() {}

    /// `words` are the verb and its option. Returns the exit status when the demo is over.
    static int run(List<String> words, Start.Maker maker) throws Exception {
        var environment = new HashMap<>(System.getenv());
        environment.putAll(Map.of("LIVEKIT_URL", "ws://localhost", "LIVEKIT_API_KEY", "none",
                "LIVEKIT_API_SECRET", "none", "CRM_URL", "http://localhost",
                "WEBHOOK_SECRET", UUID.randomUUID().toString()));
        Settings given = Start.settings(environment, Map.of("OPENAI_API_KEY", ""));
        Log.words(true);
        boolean key = !given.get("OPENAI_API_KEY").matches("|none");
        // The demo's CRM starts before the program is made, because the program needs its address.
        var program = new CompletableFuture<Program>();
        var demo = new Demo(
                (body, signature) -> program.join().crm().verifyBody(body, signature),
                (id, timestamp, body, signatures, now) ->
                        program.join().crm().verifyStandard(id, timestamp, body, signatures, now),
                key ? given.get("OPENAI_REALTIME_MODEL") : null);
        String folder = given.get("OUTBOX_DIR") + "/demo";
        // If another demo is using that folder, this one has a folder of its own, until it ends.
        String own = folder + "-" + ProcessHandle.current().pid();
        Settings settings = given.with(demo.settings()).with(Map.of("OUTBOX_DIR", folder));
        try {
            program.complete(maker.make(settings));
        } catch (Outbox.InUse e) {
            settings = settings.with(Map.of("OUTBOX_DIR", own));
            program.complete(maker.make(settings));
        }
        Program made = program.join();
        Settings used = settings;
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                demo.stop(Start.ENDING);
                made.close(Start.SENDING);
                demo.close();
                if (used.get("OUTBOX_DIR").equals(own)) {
                    Start.delete(Path.of(own));
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
        return demo.run(words, made::takeCall, () -> Rehearsal.hold(used, maker));
    }
}
