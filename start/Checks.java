package start;

import module java.base;
import module java.net.http;
import voice.Clips;
import voice.Log;

/// Looks for mistakes in the settings that the first caller would otherwise find. Each check is a
/// line in the log, with `NOT RIGHT` if something is wrong. Start runs the checks when the worker
/// has registered, or after a second. Nothing waits for them, and calls are taken whatever they
/// find. There is no check of LiveKit, because the worker's registration shows whether LiveKit
/// answers.
public final class Checks {
    private static final Duration TIMEOUT = Duration.ofSeconds(5);

    private Checks() {}

    static void start(Settings settings) {
        var names = new TreeSet<>(settings.destinations().keySet());
        Log.log("", names.isEmpty() ? "callers cannot be transferred: no TRANSFER_.. is set"
                : "callers can be transferred to: " + String.join(", ", names));
        if (!settings.get("HTTPS_PROXY").isEmpty()) {
            Log.log("", "through the proxy at " + settings.get("HTTPS_PROXY") + ": "
                    + String.join(", ", settings.proxied()) + "; sound never goes through it");
        }
        Stream.of(Clips.check(), secrets(Path.of(".env"))).filter(Objects::nonNull)
                .forEach(wrong -> Log.log("", "NOT RIGHT: " + wrong));
        String crm = settings.get("CRM_URL");
        Thread.ofVirtual().name("check of the CRM").start(() -> say("the CRM at " + crm,
                "answers", () -> crm(crm, settings.get("CRM_API_KEY"))));
        model(settings);
    }

    static void model(Settings settings) {
        Thread.ofVirtual().name("check of OpenAI").start(() -> say(
                "OpenAI at " + settings.get("OPENAI_BASE_URL"), "takes the key and the model "
                        + settings.get("OPENAI_REALTIME_MODEL"), settings.model()::check));
    }

    private static void say(String who, String well, Callable<String> check) {
        try {
            String wrong = check.call();
            Log.log("", wrong == null ? who + " " + well : "NOT RIGHT: " + who + ": " + wrong);
        } catch (Exception e) {
            Log.log("", who + " could not be asked: " + Log.reason(e));
        }
    }

    /// Can others read this file of secrets, or change it? Returns null, or says what is wrong. A
    /// file that is not there is right, too.
    public static String secrets(Path file) {
        try {
            String mode = PosixFilePermissions.toString(Files.getPosixFilePermissions(file));
            return mode.matches("...--.--.") ? null : file + " holds secrets, and other users of "
                    + "this machine can read or change it: chmod 600 " + file;
        } catch (IOException | UnsupportedOperationException e) {
            return null;
        }
    }

    /// Does the CRM answer? Returns null, or says what is wrong. Blocks, 5 s at most. Any answer
    /// will do, except one that refuses the key.
    public static String crm(String url, String key) throws InterruptedException {
        // HEAD, so that no contact is sent for this check. HTTP/1.1, as in Webhooks.
        var request = HttpRequest.newBuilder(URI.create(url + "/contacts")).timeout(TIMEOUT)
                .version(HttpClient.Version.HTTP_1_1).HEAD();
        if (!key.isBlank()) {
            request.header("Authorization", "Bearer " + key);
        }
        try (var http = HttpClient.newBuilder().connectTimeout(TIMEOUT).build()) {
            int status = http.send(request.build(), HttpResponse.BodyHandlers.discarding())
                    .statusCode();
            return status == 401 || status == 403
                    ? "refuses CRM_API_KEY (HTTP " + status + ")"
                    : status == 407 ? "HTTPS_PROXY wants a user and a password" : null;
        } catch (IOException e) {
            return "does not answer (" + Log.reason(e) + "); check CRM_URL";
        }
    }
}
