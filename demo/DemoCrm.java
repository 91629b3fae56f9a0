package demo;

import module java.base;
import module java.net.http;
import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import voice.End;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.stream.Collectors.toMap;

/// A CRM to try the sample against: contacts, notes, activities and the receiving end of the
/// webhooks. The tests and the trials run it in their own process and read back what arrived. Demo
/// shows its page (crm.html) beside a call. `main` runs it alone, for a first call without a CRM.
///
/// This file is the HTTP server and the page. Receiver is what happens to a request: who is known,
/// which webhook is refused, what is kept.
///
/// Everything is in memory and gone with the process. The server listens on 127.0.0.1 only, answers
/// no other web page than its own, and does not check the bearer token. It cannot sign or verify by
/// itself: the check is handed in, so that a test checks signatures with the very function that a
/// reader would copy.
public final class DemoCrm implements AutoCloseable {

    /// One request as it came. `verified` is true for a webhook whose signature was checked and
    /// found right; requests to other paths carry no signature. `why` it was not taken, or null.
    /// `attempt` is 1 the first time that this event, note or activity came, and counts on from
    /// there. `found` is whom a search has found, or null.
    public record Request(long atNanos, Instant at, String method, String path,
                          Map<String, String> headers, byte[] body, boolean verified, int status,
                          String why, int attempt, String found) {
        public JsonObject json() {
            return Receiver.json(body);
        }
    }

    /// The check of the Standard Webhooks headers (https://www.standardwebhooks.com). With
    /// `timestamp` and `now` it refuses old requests.
    public interface Standard {
        boolean verify(String id, long timestamp, byte[] body, String signatures, Instant now);
    }

    private static final List<String> SIGNATURES = List.of(
            "x-signature", "webhook-id", "webhook-timestamp", "webhook-signature");
    private static final Duration FAILING = Duration.ofSeconds(20);
    private static final Duration KEEP_ALIVE = Duration.ofSeconds(15);
    private static final int MOST_BODY = 600_000;           // bytes; a transcript has 500,000
    private static final Path PAGE = Path.of("demo", "crm.html");

    private final Receiver receiver;
    private final String run = UUID.randomUUID().toString(); // the page notices a restart by it
    private final HttpServer server;
    private final ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
    private final Map<String, Integer> delays = new ConcurrentHashMap<>(); // ms, by path prefix
    private final Map<String, CountDownLatch> held = new ConcurrentHashMap<>(); // by path prefix

    /// Port 0 takes any free one. `verify` gets the exact body and the X-Signature header; with
    /// null, every webhook is accepted unchecked.
    public DemoCrm(int port, BiPredicate<byte[], String> verify) throws IOException {
        this(port, verify, null, _ -> {});
    }

    /// The same. With `standard`, this CRM also checks the Standard Webhooks headers, and takes no
    /// request twice. `log` is told of each request, and must not wait.
    public DemoCrm(int port, BiPredicate<byte[], String> verify, Standard standard,
            Consumer<Request> log) throws IOException {
        receiver = new Receiver(verify, standard, log);
        var loopback = InetAddress.getByAddress(new byte[] {127, 0, 0, 1});
        server = HttpServer.create(new InetSocketAddress(loopback, port), 0);
        server.setExecutor(threads);
        serve("/", this::handle);
        server.start();
    }

    public String url() {
        return "http://127.0.0.1:" + server.getAddress().getPort();
    }

    /// Makes this contact known, as JSON. A search for `phone` answers exactly this.
    public void contact(String phone, String json) {
        receiver.contact(phone, json);
    }

    /// Makes two people known, to try the sample with.
    public void people() {
        contact("+15550100", """
                {"id": "c-1", "name": "Ada Byron", "email": "ada@example.com",
                 "company": "Analytical Engines", "open_tickets": 2}""");
        contact("+15550101", """
                {"id": 17, "name": "Charles Babbage", "company": "Difference Ltd"}""");
    }

    /// All requests, in the order in which they came.
    public List<Request> requests() { return receiver.requests(); }

    /// The webhook events that were taken, each once.
    public List<JsonObject> events() { return receiver.events(); }

    public List<String> notes(String contactId) { return receiver.notes(contactId); }

    public List<JsonObject> activities(String contactId) { return receiver.activities(contactId); }

    /// The first such request, even if it came before this call; null after `bound`.
    public Request await(Predicate<Request> which, Duration bound) {
        return receiver.await(which, bound);
    }

    /// As a status: the connection is closed, and there is no answer.
    public static final int NO_ANSWER = 0;

    /// The next `times` requests to paths with this prefix are answered with `status` and change
    /// nothing.
    public void fail(String pathPrefix, int status, int times) {
        receiver.fail(pathPrefix, status, times);
    }

    /// Answers to requests there come so many ms later. What was asked for is still done at once:
    /// a slow CRM may commit, and be too late with its answer.
    public void delay(String pathPrefix, int ms) {
        delays.put(pathPrefix, ms);
    }

    /// Answers to requests there, from now on, wait until `until` is open, however long that is.
    public void hold(String pathPrefix, CountDownLatch until) {
        held.put(pathPrefix, until);
    }

    @Override public void close() {
        server.stop(0);
        threads.shutdownNow(); // a delayed answer must not outlive the test that delayed it
    }

    private void handle(HttpExchange exchange) throws IOException {
        try {
            // The signature covers exactly these bytes. Parsed and printed again, they differ.
            byte[] body = exchange.getRequestBody().readAllBytes();
            var headers = exchange.getRequestHeaders().entrySet().stream()
                    .collect(toMap(h -> h.getKey().toLowerCase(Locale.ROOT),
                            h -> h.getValue().getFirst()));
            String path = exchange.getRequestURI().getRawPath();
            Receiver.Reply reply = receiver.take(exchange.getRequestMethod(), path, headers, body);
            for (var hold : held.entrySet()) {
                if (path.startsWith(hold.getKey())) hold.getValue().await();
            }
            for (var delay : delays.entrySet()) {
                if (path.startsWith(delay.getKey())) Thread.sleep(delay.getValue());
            }
            if (reply.status() == NO_ANSWER) return;
            byte[] json = reply.json().getBytes(UTF_8);
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            // For HttpServer -1 means no body. 0 would announce a body of unknown length.
            boolean bare = json.length == 0 || exchange.getRequestMethod().equals("HEAD");
            exchange.sendResponseHeaders(reply.status(), bare ? -1 : json.length);
            if (!bare) exchange.getResponseBody().write(json);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // closed while an answer was being delayed
        }
    }

    // The page.

    /// From now on serves crm.html at `/`, what the page shows of the CRM, and its three buttons.
    /// The page shows `model`, the name of the model that speaks; "recorded" when none does.
    public void page(String model) {
        server.removeContext("/");
        serve("/", exchange -> {
            if (exchange.getRequestURI().getPath().equals("/")) html(exchange);
            else handle(exchange);
        });
        serve("/page/", exchange -> {
            try {
                String path = exchange.getRequestURI().getPath();
                if (path.equals("/page/stream")) {
                    stream(exchange, model);
                    return;
                }
                int status = !exchange.getRequestMethod().equals("POST") ? 405 : switch (path) {
                    case "/page/forge" -> forge();
                    case "/page/replay" -> replay();
                    case "/page/fail" -> fail();
                    default -> 404;
                };
                exchange.sendResponseHeaders(status, -1);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt(); // the server is being closed
            }
        });
    }

    private static void html(HttpExchange exchange) throws IOException {
        byte[] html = Files.readAllBytes(PAGE);
        var headers = exchange.getResponseHeaders();
        headers.set("Content-Type", "text/html; charset=utf-8");
        headers.set("Cache-Control", "no-store");
        // The page may use only what is in this file and on this server. No other page may show it
        // in a frame, where somebody might press its buttons without knowing.
        headers.set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; "
                + "base-uri 'none'; form-action 'none'; "
                + "script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                + "connect-src 'self'; media-src 'self' blob: mediastream:; img-src data:");
        exchange.sendResponseHeaders(200, html.length);
        exchange.getResponseBody().write(html);
    }

    /// Lets `handler` answer the requests to that path and below it, except for those that another
    /// web page has made, and for those with a body that is too long.
    public void serve(String path, HttpHandler handler) {
        server.createContext(path, exchange -> {
            try (exchange) {
                exchange.getResponseHeaders().set("X-Content-Type-Options", "nosniff");
                if (!ours(exchange)) {
                    exchange.sendResponseHeaders(403, -1);
                    return;
                }
                byte[] body = exchange.getRequestBody().readNBytes(MOST_BODY + 1);
                if (body.length > MOST_BODY) {
                    exchange.sendResponseHeaders(413, -1);
                    return;
                }
                exchange.setStreams(new ByteArrayInputStream(body), null);
                handler.handle(exchange);
            }
        });
    }

    /// Does this request come from our own page, or from a program? Any page in the world can make
    /// a browser send a request to this port, and can let a host name of its own lead here (DNS
    /// rebinding). Such a request could begin a call, which may cost money, or file something.
    private static boolean ours(HttpExchange exchange) {
        Headers headers = exchange.getRequestHeaders();
        String host = String.join(",", headers.getOrDefault("Host", List.of())); // one, not more
        // A browser sets these headers, and no page can change them. A request without an Origin,
        // as for an image, has the third one. So has a link that leads here, and it may.
        return host.matches("(?i)(127[.]0[.]0[.]1|localhost)(:[0-9]+)?")
                && headers.getOrDefault("Origin", List.of("http://" + host))
                        .equals(List.of("http://" + host))
                && (exchange.getRequestURI().getPath().equals("/")
                        || headers.getOrDefault("Sec-Fetch-Site", List.of()).stream()
                                .allMatch(site -> site.matches("same-origin|none")));
    }

    /// Sends, as server-sent events: who is known, every request that has come, and then each
    /// request when it comes. Returns, with an exception, when the page has gone.
    private void stream(HttpExchange exchange, String model)
            throws IOException, InterruptedException {
        exchange.getResponseHeaders().set("Content-Type", "text/event-stream");
        exchange.getResponseHeaders().set("Cache-Control", "no-store");
        exchange.sendResponseHeaders(200, 0);
        var out = exchange.getResponseBody();
        tell(out, Json.createObjectBuilder().add("kind", "hello").add("run", run)
                .add("model", model)
                .add("contacts", Json.createArrayBuilder(receiver.contacts())).build());
        int seen = 0;
        long failsUntil = System.nanoTime();
        while (true) {
            Receiver.News news = receiver.awaitNews(seen, failsUntil, KEEP_ALIVE);
            if (failsUntil < news.failsUntil()) {
                failsUntil = news.failsUntil();
                long ms = Math.max(0, (failsUntil - System.nanoTime()) / 1_000_000);
                tell(out, Json.createObjectBuilder().add("kind", "failing")
                        .add("seconds", (ms + 999) / 1_000).build());
            }
            for (Request request : news.requests()) {
                if (request.method().equals("POST")) tell(out, forPage(seen, request));
                seen++;
            }
            out.write(":\n\n".getBytes(UTF_8)); // a comment; writing fails when the page has gone
            out.flush();
        }
    }

    private static void tell(OutputStream out, JsonObject what) throws IOException {
        out.write(("data: " + what + "\n\n").getBytes(UTF_8));
        out.flush();
    }

    /// The request as the page gets it; `n` is its place in the order of arrival.
    private static JsonObject forPage(int n, Request request) {
        JsonObject body = null;
        Long ms = null;
        try {
            body = request.json();
            ms = Duration.between(Instant.parse(body.getString("timestamp")), request.at())
                    .toMillis();
        } catch (RuntimeException e) {
            // The body is no JSON, or no event: the page shows less of it.
        }
        var told = new LinkedHashMap<String, Object>(); // unlike the builder it takes null
        told.put("kind", "request");
        told.put("n", n);
        told.put("at", request.at().toString());
        told.put("path", request.path());
        told.put("status", request.status());
        told.put("verified", request.verified());
        told.put("why", request.why());
        told.put("attempt", request.attempt());
        told.put("ms", ms);
        told.put("found", request.found());
        told.put("x_signature", request.headers().get("x-signature"));
        told.put("headers", signatures(request));
        told.put("body", body);
        return Json.createObjectBuilder(told).build();
    }

    /// The headers that a receiver checks.
    private static Map<String, String> signatures(Request request) {
        var signatures = new HashMap<>(request.headers());
        signatures.keySet().retainAll(SIGNATURES);
        return signatures;
    }

    // The three buttons: each returns the HTTP status that its request gets.

    /// Plays somebody who does not have the secret and sends an event.
    private int forge() throws IOException, InterruptedException {
        var random = ThreadLocalRandom.current();
        String id = "evt_" + UUID.randomUUID();
        Instant now = Instant.now();
        byte[] guess = new byte[32];
        random.nextBytes(guess);
        byte[] body = """
                {"id":"%1$s","event":"call.ended","timestamp":"%2$s","call_id":"web_forged",\
                "sequence":1,"room":"web","phone":"+15550100","to":null,"direction":"inbound",\
                "contact_id":"c-1","sip_call_id":null,"sip_id":null,"reason":"caller_hung_up",\
                "cause":null,"ended_by":"caller","started_at":"%2$s","answered_at":"%2$s",\
                "ended_at":"%2$s","duration_ms":0,"talk_ms":0,"intent":"a refund",\
                "summary":"Give this caller a refund of 5,000.","sip_code":null,"model":null,\
                "usage":null}""".formatted(id, End.MILLIS.format(now)).getBytes(UTF_8);
        post("/webhooks/call", body, Map.of("X-Signature", HexFormat.of().formatHex(guess),
                "webhook-id", id, "webhook-timestamp", "" + now.getEpochSecond(),
                "webhook-signature", "v1," + Base64.getEncoder().encodeToString(guess)));
        return 204;
    }

    /// Plays somebody who has recorded a request on its way and sends it again.
    private int replay() throws IOException, InterruptedException {
        Request last = requests().reversed().stream()
                .filter(request -> request.verified() && request.status() == 204)
                .findFirst().orElse(null);
        if (last == null) return 409; // no webhook has come yet
        post(last.path(), last.body(), signatures(last));
        return 204;
    }

    private int fail() {
        receiver.failFor(FAILING);
        return 204;
    }

    /// Sends it over the network, as anybody outside would.
    private void post(String path, byte[] body, Map<String, String> headers)
            throws IOException, InterruptedException {
        var request = HttpRequest.newBuilder(URI.create(url() + path))
                .timeout(Duration.ofSeconds(5)).header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofByteArray(body));
        headers.forEach(request::header);
        try (var http = HttpClient.newHttpClient()) {
            http.send(request.build(), HttpResponse.BodyHandlers.discarding());
        }
    }

    public static void main(String[] args) throws Exception {
        var crm = new DemoCrm(args.length > 0 ? Integer.parseInt(args[0]) : 8080, null,
                null, r -> System.out.println(r.method() + " " + r.path() + " -> " + r.status()
                        + (r.path().startsWith("/webhooks/") ? "  signature not checked" : "")
                        + "  " + new String(r.body(), UTF_8)));
        crm.people();
        System.out.println("CRM_URL=" + crm.url() + "    # it knows +15550100 and +15550101");
        Thread.currentThread().join(); // until killed
    }
}
