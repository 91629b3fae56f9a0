package delivery;

import module java.base;
import module java.net.http;
import java.net.http.HttpResponse.BodyHandlers;
import voice.Log;

/// POST requests to one server: what HTTP asks of whoever must never hang. Webhooks has one for the
/// CRM, builds the requests, and decides what an answer means.
///
/// Not handled: redirects, because they could send signed bodies to another server; and HTTP/2,
/// because some servers refuse the request for an upgrade to it.
///
/// All methods are for any thread.
public final class Http {
    private static final Duration TIMEOUT = Duration.ofSeconds(5);
    private static final Duration LONGEST_RETRY_AFTER = Duration.ofSeconds(60);

    private static volatile boolean logged;

    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NEVER).connectTimeout(TIMEOUT).build();
    private final String url;

    /// `url` has no slash at its end.
    public Http(String url) {
        this.url = url;
    }

    /// From now on, each answer has a line in the log: its status, and after how many ms it came.
    public static void logAnswers() {
        logged = true;
    }

    /// A POST of JSON to that path, which begins with a slash. The answer has 5 s to begin.
    public HttpRequest.Builder post(String path, byte[] body) {
        return HttpRequest.newBuilder(URI.create(url + path)).timeout(TIMEOUT)
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofByteArray(body));
    }

    /// An answer's status, and how long the server asks us to wait before the next attempt, 60 s at
    /// most. ZERO: it does not ask.
    public record Answer(int status, Duration asked) {}

    /// Blocks until the answer has begun, 5 s at most. Does not read the answer's body, because a
    /// body may be endless. `call` and `path` are for the log: the path without a contact's id.
    public Answer send(String call, String path, HttpRequest request)
            throws IOException, InterruptedException {
        long begun = System.nanoTime();
        try {
            var answer = http.send(request, BodyHandlers.ofInputStream());
            answer.body().close();
            log(call, path, begun, answer.statusCode(), null);
            return new Answer(answer.statusCode(), retryAfter(answer.headers()));
        } catch (IOException e) {
            log(call, path, begun, 0, e);
            throw e;
        }
    }

    /// How long the server asks us to wait, in seconds or by a date ([RFC
    /// 9110](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)). ZERO for none.
    public static Duration retryAfter(HttpHeaders headers) {
        String value = headers.firstValue("Retry-After").orElse("").strip();
        try {
            long seconds = value.matches("[0-9]{1,9}") ? Long.parseLong(value)
                    : value.isEmpty() ? 0 : Duration.between(Instant.now(), Instant.from(
                            DateTimeFormatter.RFC_1123_DATE_TIME.parse(value))).toSeconds();
            return Duration.ofSeconds(Math.clamp(seconds, 0, LONGEST_RETRY_AFTER.toSeconds()));
        } catch (DateTimeException e) {
            return Duration.ZERO;
        }
    }

    /// Asks, and reads the answer. It is an error if the whole answer is not here by `end`
    /// (System.nanoTime()), or if it has more than `mostBytes`. The server may just have closed a
    /// connection that was kept. So if no answer begins, this asks once more: use it only for what
    /// may be asked twice.
    public CompletableFuture<HttpResponse<String>> ask(String call, String path,
            HttpRequest request, int mostBytes, long end) {
        long begun = System.nanoTime();
        return attempt(request, mostBytes, end, true).whenComplete((answer, trouble) ->
                log(call, path, begun, answer == null ? 0 : answer.statusCode(), trouble));
    }

    private CompletableFuture<HttpResponse<String>> attempt(HttpRequest request, int mostBytes,
            long end, boolean again) {
        var answers = new AtomicBoolean();
        var exchange = http.sendAsync(request, head -> {
            answers.set(true);
            return BodyHandlers.limiting(BodyHandlers.ofString(), mostBytes).apply(head);
        });
        // The timeout of the request ends with the headers. `orTimeout` also bounds a slow body.
        return exchange.copy().orTimeout(end - System.nanoTime(), TimeUnit.NANOSECONDS)
                .exceptionallyCompose(trouble -> {
                    exchange.cancel(true);
                    return again && !answers.get() && System.nanoTime() < end
                            ? attempt(request, mostBytes, end, false)
                            : CompletableFuture.failedFuture(trouble);
                });
    }

    private static void log(String call, String path, long begun, int status, Throwable trouble) {
        if (logged) {
            long ms = (System.nanoTime() - begun) / 1_000_000;
            Throwable why = trouble instanceof CompletionException ? trouble.getCause() : trouble;
            Log.step(call, "crm", why == null
                    ? "HTTP %d after %d ms: POST CRM_URL%s".formatted(status, ms, path)
                    : "NOT answered, after %d ms: POST CRM_URL%s: %s".formatted(ms, path,
                            why.getClass().getSimpleName()));
        }
    }
}
