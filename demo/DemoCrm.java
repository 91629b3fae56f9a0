package demo;

import module java.base;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import jakarta.json.Json;
import jakarta.json.JsonException;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.stream.Collectors.toMap;

/// A CRM to try the sample against: contacts, notes, activities and the receiving end of the
/// webhooks. The tests and the trials run it in their own process and read back what arrived;
/// `main` runs it alone, for a first call without a CRM.
///
/// Everything is in memory and gone with the process. It does not check the bearer token, and it
/// cannot sign or verify by itself: the check is handed in, so that a receiver is tested with the
/// very function the reader would copy. It listens on 127.0.0.1 only.
public final class DemoCrm implements AutoCloseable {

    /// One request as it came. `verified` is true for a webhook whose signature was checked and
    /// found right; other paths carry none.
    public record Request(long atNanos, String method, String path, Map<String, String> headers,
                          byte[] body, boolean verified, int status) {
        public JsonObject json() {
            return DemoCrm.json(body);
        }
    }

    private record Reply(int status, String json) {}

    private record Fault(int status, int times) {}

    private static final Reply NOT_FOUND = new Reply(404, "{\"error\":\"not found\"}");

    private final BiPredicate<byte[], String> verify; // null: signatures are not checked
    private final Consumer<Request> log;
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

    /// Port 0 takes any free one. `verify` gets the exact body and the X-Signature header; null
    /// accepts every webhook unchecked.
    public DemoCrm(int port, BiPredicate<byte[], String> verify) throws IOException {
        this(port, verify, _ -> {});
    }

    private DemoCrm(int port, BiPredicate<byte[], String> verify, Consumer<Request> log)
            throws IOException {
        this.verify = verify;
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
        String signature = headers.get("x-signature");
        boolean verified = webhook && verify != null && signature != null
                && verify.test(body, signature);
        long now = System.nanoTime();
        Fault fault = faultAt(path);
        Reply reply;
        if (fault != null) reply = new Reply(fault.status(), "");
        else if (!method.equals("POST")) reply = NOT_FOUND;
        else if (webhook && verify != null && !verified) reply = new Reply(401, "");
        else try {
            reply = webhook ? event(json(body)) : contacts(path, body);
        } catch (JsonException | NullPointerException | ClassCastException e) {
            reply = new Reply(400, ""); // not JSON, or a field missing, or of another type
        }
        var request = new Request(now, method, path, headers, body, verified, reply.status());
        requests.add(request);
        log.accept(request);
        notifyAll();
        return reply;
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
                    Json.createObjectBuilder().add("results", results).build().toString());
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
                r -> System.out.println(r.method() + " " + r.path() + " -> " + r.status()
                        + (r.path().startsWith("/webhooks/") ? "  signature not checked" : "")
                        + "  " + new String(r.body(), UTF_8)));
        crm.contact("+15550100", """
                {"id":"c-1","name":"Ada Byron","company":"Analytical Engines","tier":"gold"}""");
        crm.contact("+15550101", """
                {"id":17,"name":"Charles Babbage","company":"Difference Ltd"}""");
        System.out.println("CRM_URL=" + crm.url() + "  knows +15550100 and +15550101");
        Thread.currentThread().join(); // until killed
    }
}
