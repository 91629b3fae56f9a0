package demo;

import module java.base;
import module java.net.http;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import jakarta.json.Json;
import jakarta.json.JsonException;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.stream.Collectors.toMap;

/// A CRM to try the sample against: contacts, notes, activities and the receiving end of the
/// webhooks. The tests and the trials run it in their own process and read back what arrived; Demo
/// shows its page (crm.html) beside a call; `main` runs it alone, for a first call without a CRM.
///
/// Everything is in memory and gone with the process. It does not check the bearer token, and it
/// cannot sign or verify by itself: the check is handed in, so that a receiver is tested with the
/// very function the reader would copy. It listens on 127.0.0.1 only.
public final class DemoCrm implements AutoCloseable {

    /// One request as it came. `verified` is true for a webhook whose signature was checked and
    /// found right; other paths carry none. `why` it was not taken, or null. `attempt` counts those
    /// of one event, note or activity; `found` is who a search has found, or null.
    public record Request(long atNanos, Instant at, String method, String path,
                          Map<String, String> headers, byte[] body, boolean verified, int status,
                          String why, int attempt, String found) {
        public JsonObject json() {
            return DemoCrm.json(body);
        }
    }

    /// The check of the Standard Webhooks headers; the timestamp and `now` stop old requests.
    public interface Standard {
        boolean verify(String id, long timestamp, byte[] body, String signatures, Instant now);
    }

    private record Reply(int status, String json, String why, String found) {
        Reply(int status, String json) {
            this(status, json, null, null);
        }

        Reply(int status, String json, String why) {
            this(status, json, why, null);
        }
    }

    private record Fault(int status, int times) {}

    private static final Reply NOT_FOUND = new Reply(404, "{\"error\":\"not found\"}");
    private static final String FORGED =
            "X-Signature is not the HMAC-SHA256 of this body with our secret: forged, or changed";
    private static final String STALE =
            "webhook-signature is wrong, or webhook-timestamp more than five minutes off";
    private static final String REPLAYED = "this very request has been here before: a replay "
            + "(the agent signs every attempt anew, with its own time)";
    private static final List<String> SIGNATURES = List.of(
            "x-signature", "webhook-id", "webhook-timestamp", "webhook-signature");
    private static final Duration FAILING = Duration.ofSeconds(20);
    private static final Duration KEEP_ALIVE = Duration.ofSeconds(15);
    private static final Path PAGE = Path.of("demo", "crm.html");

    private final BiPredicate<byte[], String> verify; // null: signatures are not checked
    private final Standard standard;                  // null: only X-Signature is
    private final Consumer<Request> log;
    private final String run = UUID.randomUUID().toString(); // so that a page knows it is another
    private final HttpServer server;
    private final ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
    private final Map<String, Integer> delays = new ConcurrentHashMap<>();

    // all below is guarded by `this`, and whoever changes it calls notifyAll for await()
    private final List<Request> requests = new ArrayList<>();
    private final Map<String, JsonObject> contacts = new LinkedHashMap<>(); // by phone
    private final Map<String, JsonObject> events = new LinkedHashMap<>();   // by event id
    private final Map<String, List<String>> notes = new LinkedHashMap<>();
    private final Map<String, List<JsonObject>> activities = new LinkedHashMap<>();
    private final Map<String, Fault> faults = new LinkedHashMap<>();        // by path prefix
    private final Map<String, Integer> attempts = new HashMap<>();          // by id
    private final Set<String> taken = new HashSet<>();                      // signatures
    private long failsUntil = System.nanoTime();

    /// Port 0 takes any free one. `verify` gets the exact body and the X-Signature header; null
    /// accepts every webhook unchecked.
    public DemoCrm(int port, BiPredicate<byte[], String> verify) throws IOException {
        this(port, verify, null, _ -> {});
    }

    /// The same, but it also checks the Standard Webhooks headers, and lets in no request twice.
    /// `log` is told of each request, and must not wait.
    public DemoCrm(int port, BiPredicate<byte[], String> verify, Standard standard,
            Consumer<Request> log) throws IOException {
        this.verify = verify;
        this.standard = standard;
        this.log = log;
        var loopback = InetAddress.getByAddress(new byte[] {127, 0, 0, 1});
        server = HttpServer.create(new InetSocketAddress(loopback, port), 0);
        server.setExecutor(threads);
        server.createContext("/", this::handle);
        server.start();
    }

    public String url() {
        return "http://127.0.0.1:" + server.getAddress().getPort();
    }

    /// Makes this contact known, as JSON; a search for `phone` answers exactly this.
    public synchronized void contact(String phone, String json) {
        contacts.put(phone, json(json.getBytes(UTF_8)));
    }

    /// Makes two people known to try it with.
    public void people() {
        contact("+15550100", """
                {"id": "c-1", "name": "Ada Byron", "email": "ada@example.com",
                 "company": "Analytical Engines", "open_tickets": 2}""");
        contact("+15550101", """
                {"id": 17, "name": "Charles Babbage", "company": "Difference Ltd"}""");
    }

    public synchronized List<Request> requests() {
        return List.copyOf(requests);
    }

    public synchronized List<JsonObject> events() {
        return List.copyOf(events.values());
    }

    public synchronized List<String> notes(String contactId) {
        return List.copyOf(notes.getOrDefault(contactId, List.of()));
    }

    public synchronized List<JsonObject> activities(String contactId) {
        return List.copyOf(activities.getOrDefault(contactId, List.of()));
    }

    /// The first matching request, also one that came before; null after the bound.
    public synchronized Request await(Predicate<Request> which, Duration bound) {
        long end = System.nanoTime() + bound.toNanos();
        for (int seen = 0;;) {
            for (; seen < requests.size(); seen++) {
                if (which.test(requests.get(seen))) return requests.get(seen);
            }
            long left = end - System.nanoTime();
            if (left <= 0) return null;
            try {
                TimeUnit.NANOSECONDS.timedWait(this, left);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return null;
            }
        }
    }

    /// The next `times` requests there are answered with `status` and change nothing.
    public synchronized void fail(String pathPrefix, int status, int times) {
        faults.put(pathPrefix, new Fault(status, times));
    }

    /// Answers there come that much later; what was asked for is done at once all the same, as
    /// with a CRM that commits and then is too slow to say so.
    public void delay(String pathPrefix, int ms) {
        delays.put(pathPrefix, ms);
    }

    @Override public void close() {
        server.stop(0);
        threads.shutdownNow(); // a delayed answer must not outlive the test that asked for it
    }

    private void handle(HttpExchange exchange) throws IOException {
        try (exchange) {
            // the signature is over these bytes: parsing and printing again would change them
            byte[] body = exchange.getRequestBody().readAllBytes();
            var headers = exchange.getRequestHeaders().entrySet().stream()
                    .collect(toMap(h -> h.getKey().toLowerCase(Locale.ROOT),
                            h -> h.getValue().getFirst()));
            String path = exchange.getRequestURI().getRawPath();
            Reply reply = answer(exchange.getRequestMethod(), path, headers, body);
            for (var delay : delays.entrySet()) {
                if (path.startsWith(delay.getKey())) Thread.sleep(delay.getValue());
            }
            byte[] answer = reply.json().getBytes(UTF_8);
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            // -1, not 0: 0 would announce a body of unknown length
            boolean bare = answer.length == 0 || exchange.getRequestMethod().equals("HEAD");
            exchange.sendResponseHeaders(reply.status(), bare ? -1 : answer.length);
            if (!bare) exchange.getResponseBody().write(answer);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // closed while an answer was being delayed
        }
    }

    /// Judges, does and records a request in one step, so that the lists agree on the order.
    private synchronized Reply answer(String method, String path, Map<String, String> headers,
                                      byte[] body) {
        boolean webhook = path.matches("/webhooks/(call|intent|crm)");
        Reply refused = webhook && verify != null ? refused(headers, body) : null;
        long now = System.nanoTime();
        Fault fault = faultAt(path);
        Reply reply;
        if (fault != null) reply = new Reply(fault.status(), "");
        else if (!method.equals("POST")) reply = NOT_FOUND;
        else if (refused != null) reply = refused;
        else if (now < failsUntil) reply = new Reply(503, "", "the CRM was told to fail");
        else try {
            reply = webhook ? event(json(body)) : contacts(path, body);
        } catch (JsonException | NullPointerException | ClassCastException e) {
            reply = new Reply(400, ""); // not JSON, or a field missing, or of another type
        }
        String signature = headers.get("webhook-signature");
        if (webhook && reply.status() / 100 == 2 && signature != null) taken.add(signature);
        String id = headers.getOrDefault("webhook-id", headers.get("idempotency-key"));
        int attempt = id == null || refused != null ? 1 : attempts.merge(id, 1, Integer::sum);
        var request = new Request(now, Instant.now(), method, path, headers, body,
                webhook && verify != null && refused == null, reply.status(), reply.why(), attempt,
                reply.found());
        requests.add(request);
        log.accept(request);
        notifyAll();
        return reply;
    }

    /// Null for a webhook that is what it says it is.
    private Reply refused(Map<String, String> headers, byte[] body) {
        String signature = headers.get("x-signature"), sent = headers.get("webhook-timestamp");
        if (signature == null || !verify.test(body, signature)) return new Reply(401, "", FORGED);
        if (standard == null) return null;
        String signatures = headers.getOrDefault("webhook-signature", "");
        if (sent == null || !sent.matches("[0-9]{1,12}") || !standard.verify(
                headers.getOrDefault("webhook-id", ""), Long.parseLong(sent), body, signatures,
                Instant.now())) {
            return new Reply(401, "", STALE);
        }
        // An event whose answer was lost comes again, but with another time and so another
        // signature. (Within the same second: then it comes a third time.)
        return taken.contains(signatures) ? new Reply(409, "", REPLAYED) : null;
    }

    private Fault faultAt(String path) {
        for (var entry : faults.entrySet()) {
            Fault fault = entry.getValue();
            if (fault.times() > 0 && path.startsWith(entry.getKey())) {
                entry.setValue(new Fault(fault.status(), fault.times() - 1));
                return fault;
            }
        }
        return null;
    }

    /// Delivery is at least once, so an id seen before is accepted again and changes nothing.
    private Reply event(JsonObject event) {
        events.putIfAbsent(event.getString("id"), event);
        return new Reply(204, "");
    }

    private Reply contacts(String path, byte[] body) {
        if (path.equals("/contacts/search")) {
            var results = Json.createArrayBuilder();
            JsonObject found = contacts.get(json(body).getJsonObject("filter").getString("phone"));
            if (found != null) results.add(found);
            return new Reply(200,
                    Json.createObjectBuilder().add("results", results).build().toString(), null,
                    found == null ? null : found.getString("name", "somebody without a name"));
        }
        String[] parts = path.split("/"); // "", "contacts", id, what
        if (parts.length != 4 || !parts[1].equals("contacts")) return NOT_FOUND;
        // URLDecoder is made for forms, where + is a space; in a path it is a plus
        String id = URLDecoder.decode(parts[2].replace("+", "%2B"), UTF_8);
        if (contacts.values().stream().noneMatch(c -> id(c).equals(id))) return NOT_FOUND;
        switch (parts[3]) {
            case "notes" -> notes.computeIfAbsent(id, _ -> new ArrayList<>())
                    .add(json(body).getString("text"));
            case "activities" -> activities.computeIfAbsent(id, _ -> new ArrayList<>())
                    .add(json(body));
            default -> {
                return NOT_FOUND;
            }
        }
        return new Reply(201, "{}");
    }

    // The page.

    /// Serves crm.html at `/`, what it shows of the CRM, and its three buttons. `model` is who
    /// speaks, for people.
    public void page(String model) {
        HttpHandler html = guarded(DemoCrm::html);
        server.removeContext("/");
        server.createContext("/", exchange -> {
            boolean page = exchange.getRequestURI().getPath().equals("/");
            (page ? html : (HttpHandler) this::handle).handle(exchange);
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
                Thread.currentThread().interrupt(); // closed
            }
        });
    }

    private static void html(HttpExchange exchange) throws IOException {
        byte[] html = Files.readAllBytes(PAGE);
        var headers = exchange.getResponseHeaders();
        headers.set("Content-Type", "text/html; charset=utf-8");
        headers.set("Cache-Control", "no-store");
        // Nothing but what is in the file and on this server.
        headers.set("Content-Security-Policy", "default-src 'none'; "
                + "script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                + "connect-src 'self'; media-src 'self' blob: mediastream:; img-src data:");
        exchange.sendResponseHeaders(200, html.length);
        exchange.getResponseBody().write(html);
    }

    /// Lets somebody else answer the page's requests below that path.
    public void serve(String path, HttpHandler handler) {
        server.createContext(path, guarded(handler));
    }

    private HttpHandler guarded(HttpHandler handler) {
        return exchange -> {
            try (exchange) {
                if (ours(exchange)) handler.handle(exchange);
            }
        };
    }

    /// Any page in the world can make a browser send something to this port, and a name of its own
    /// lead here; a call may cost money.
    private boolean ours(HttpExchange exchange) throws IOException {
        String host = exchange.getRequestHeaders().getFirst("Host");
        String origin = exchange.getRequestHeaders().getFirst("Origin");
        if (host != null && host.matches("(127\\.0\\.0\\.1|localhost):"
                + server.getAddress().getPort())
                && (origin == null || origin.equals("http://" + host))) {
            return true;
        }
        exchange.sendResponseHeaders(403, -1);
        return false;
    }

    /// Server-sent events: who is known, everything that has come, and then what comes.
    private void stream(HttpExchange exchange, String model)
            throws IOException, InterruptedException {
        exchange.getResponseHeaders().set("Content-Type", "text/event-stream");
        exchange.getResponseHeaders().set("Cache-Control", "no-store");
        exchange.sendResponseHeaders(200, 0);
        var out = exchange.getResponseBody();
        JsonObject hello;
        synchronized (this) {
            var known = Json.createArrayBuilder();
            contacts.forEach((phone, contact) ->
                    known.add(Json.createObjectBuilder(contact).add("phone", phone)));
            hello = Json.createObjectBuilder().add("kind", "hello").add("run", run)
                    .add("model", model).add("contacts", known).build();
        }
        tell(out, hello);
        int seen = 0;
        for (long fails = System.nanoTime(); ; ) {
            var news = new ArrayList<JsonObject>();
            synchronized (this) {
                if (seen == requests.size() && fails >= failsUntil) {
                    TimeUnit.NANOSECONDS.timedWait(this, KEEP_ALIVE.toNanos());
                }
                if (fails < failsUntil) {
                    fails = failsUntil;
                    long ms = Math.max(0, (fails - System.nanoTime()) / 1_000_000);
                    news.add(Json.createObjectBuilder().add("kind", "failing")
                            .add("seconds", (ms + 999) / 1_000).build());
                }
                for (; seen < requests.size(); seen++) {
                    if (requests.get(seen).method().equals("POST")) {
                        news.add(forPage(seen, requests.get(seen)));
                    }
                }
            }
            for (JsonObject each : news) tell(out, each);
            out.write(":\n\n".getBytes(UTF_8)); // a comment: is anybody there?
            out.flush();
        }
    }

    private static void tell(OutputStream out, JsonObject what) throws IOException {
        out.write(("data: " + what + "\n\n").getBytes(UTF_8));
        out.flush();
    }

    private static JsonObject forPage(int n, Request request) {
        JsonObject body = null;
        Long ms = null;
        try {
            body = request.json();
            ms = Duration.between(Instant.parse(body.getString("timestamp")), request.at())
                    .toMillis();
        } catch (RuntimeException e) {
            // no JSON, or not an event: there is less to show
        }
        return json("kind", "request", "n", n,
                "at", request.at().toString(), "path", request.path(), "status", request.status(),
                "verified", request.verified(), "why", request.why(),
                "attempt", request.attempt(), "ms", ms, "found", request.found(),
                "x_signature", request.headers().get("x-signature"),
                "headers", signatures(request), "body", body);
    }

    /// What a receiver checks of it.
    private static Map<String, String> signatures(Request request) {
        var signatures = new HashMap<>(request.headers());
        signatures.keySet().retainAll(SIGNATURES);
        return signatures;
    }

    /// Names and values in turn; unlike `Map.of` it keeps their order and takes null.
    static JsonObject json(Object... fields) {
        var map = new LinkedHashMap<String, Object>();
        for (int i = 0; i < fields.length; i += 2) map.put((String) fields[i], fields[i + 1]);
        return Json.createObjectBuilder(map).build();
    }

    /// Somebody without the secret sends an event.
    private int forge() throws IOException, InterruptedException {
        var random = ThreadLocalRandom.current();
        String id = "evt_" + UUID.randomUUID(), now = Instant.now().toString();
        byte[] guess = new byte[32];
        random.nextBytes(guess);
        byte[] body = json("id", id, "event", "call.ended", "timestamp", now,
                "call_id", "web_forged", "sequence", 1, "reason", "caller_hung_up",
                "summary", "Give this caller a refund of 5,000.").toString().getBytes(UTF_8);
        post("/webhooks/call", body, Map.of("X-Signature", HexFormat.of().formatHex(guess),
                "webhook-id", id, "webhook-timestamp", "" + Instant.now().getEpochSecond(),
                "webhook-signature", "v1," + Base64.getEncoder().encodeToString(guess)));
        return 204;
    }

    /// Somebody has recorded a request on its way, and sends it again.
    private int replay() throws IOException, InterruptedException {
        Request last;
        synchronized (this) {
            last = requests.reversed().stream()
                    .filter(request -> request.verified() && request.status() == 204)
                    .findFirst().orElse(null);
        }
        if (last == null) return 409; // there is nothing yet
        post(last.path(), last.body(), signatures(last));
        return 204;
    }

    private synchronized int fail() {
        failsUntil = System.nanoTime() + FAILING.toNanos();
        notifyAll();
        return 204;
    }

    /// From outside, as anybody would.
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

    private static JsonObject json(byte[] utf8) {
        try (var reader = Json.createReader(new StringReader(new String(utf8, UTF_8)))) {
            return reader.readObject();
        }
    }

    /// CRMs use both: {"id":"c-1"} and {"id":17}.
    private static String id(JsonObject contact) {
        return contact.get("id") instanceof JsonString s ? s.getString() : "" + contact.get("id");
    }

    public static void main(String[] args) throws Exception {
        var crm = new DemoCrm(args.length > 0 ? Integer.parseInt(args[0]) : 8080, null,
                null, r -> System.out.println(r.method() + " " + r.path() + " -> " + r.status()
                        + (r.path().startsWith("/webhooks/") ? "  signature not checked" : "")
                        + "  " + new String(r.body(), UTF_8)));
        crm.people();
        System.out.println("CRM_URL=" + crm.url() + "  knows +15550100 and +15550101");
        Thread.currentThread().join(); // until killed
    }
}
