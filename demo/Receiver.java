package demo;

import module java.base;
import demo.DemoCrm.Request;
import demo.DemoCrm.Standard;
import jakarta.json.Json;
import jakarta.json.JsonException;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;

import static java.nio.charset.StandardCharsets.UTF_8;

/// What DemoCrm knows, and what it does with a request: it judges whether a webhook is genuine,
/// keeps contacts, notes, activities and events, and records every request. On demand it fails.
///
/// DemoCrm hands in each request and sends the reply; this class knows nothing of HTTP servers and
/// of the page. Everything is in memory. All methods are for any thread: the object's lock guards
/// all state, and whoever changes `requests` or `failsUntil` calls notifyAll.
final class Receiver {

    /// What is sent back. `why` the request was not taken, or null. `found` is whom a search has
    /// found, or null.
    record Reply(int status, String json, String why, String found) {
        Reply(int status, String json) {
            this(status, json, null, null);
        }

        Reply(int status, String json, String why) {
            this(status, json, why, null);
        }
    }

    /// What a reader of the requests does not know yet. The CRM fails until `failsUntil`
    /// (System.nanoTime()).
    record News(List<Request> requests, long failsUntil) {}

    private record Fault(int status, int times) {}

    private static final Reply NOT_FOUND = new Reply(404, "{\"error\":\"not found\"}");
    private static final String FORGED =
            "X-Signature is not the HMAC-SHA256 of this body with our secret: forged, or changed";
    private static final String STALE =
            "webhook-signature is wrong, or webhook-timestamp more than five minutes off";
    private static final String REPLAYED = "this very request has been here before: a replay "
            + "(the agent signs every attempt anew, with its own time)";

    private final BiPredicate<byte[], String> verify; // null: no signature is checked
    private final Standard standard;                  // null: only X-Signature is checked
    private final Consumer<Request> log;

    private final List<Request> requests = new ArrayList<>();
    private final Map<String, JsonObject> contacts = new LinkedHashMap<>(); // by phone
    private final Map<String, JsonObject> events = new LinkedHashMap<>();   // by event id
    private final Map<String, List<String>> notes = new LinkedHashMap<>();  // by contact id
    private final Map<String, List<JsonObject>> activities = new LinkedHashMap<>(); // the same
    private final Map<String, Fault> faults = new LinkedHashMap<>();        // by path prefix
    private final Map<String, Integer> attempts = new HashMap<>();          // by id
    private final Set<String> takenSignatures = new HashSet<>();
    private long failsUntil = System.nanoTime();

    Receiver(BiPredicate<byte[], String> verify, Standard standard, Consumer<Request> log) {
        this.verify = verify;
        this.standard = standard;
        this.log = log;
    }

    synchronized void contact(String phone, String json) {
        contacts.put(phone, json(json.getBytes(UTF_8)));
    }

    /// All contacts, each with its phone number.
    synchronized List<JsonObject> contacts() {
        return contacts.entrySet().stream().map(contact -> Json.createObjectBuilder(
                contact.getValue()).add("phone", contact.getKey()).build()).toList();
    }

    synchronized List<Request> requests() {
        return List.copyOf(requests);
    }

    synchronized List<JsonObject> events() {
        return List.copyOf(events.values());
    }

    synchronized List<String> notes(String contactId) {
        return List.copyOf(notes.getOrDefault(contactId, List.of()));
    }

    synchronized List<JsonObject> activities(String contactId) {
        return List.copyOf(activities.getOrDefault(contactId, List.of()));
    }

    /// The first such request, even if it came before this call; null after `bound`.
    synchronized Request await(Predicate<Request> which, Duration bound) {
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

    /// The requests after the first `seen`. When there is none, and the CRM has not been told to
    /// fail for longer than until `failsUntil`, this waits for either, `bound` at most.
    synchronized News awaitNews(int seen, long failsUntil, Duration bound)
            throws InterruptedException {
        if (seen == requests.size() && failsUntil >= this.failsUntil) {
            TimeUnit.NANOSECONDS.timedWait(this, bound.toNanos());
        }
        return new News(List.copyOf(requests.subList(seen, requests.size())), this.failsUntil);
    }

    synchronized void fail(String pathPrefix, int status, int times) {
        faults.put(pathPrefix, new Fault(status, times));
    }

    /// From now on the CRM answers 503 and changes nothing, for so long.
    synchronized void failFor(Duration time) {
        failsUntil = System.nanoTime() + time.toNanos();
        notifyAll();
    }

    /// Judges, does and records a request in one step, so that all lists agree on the order. The
    /// names of `headers` are in lower case; `body` are the exact bytes that came.
    synchronized Reply take(String method, String path, Map<String, String> headers, byte[] body) {
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
            reply = new Reply(400, ""); // not JSON, or a field is missing or of another type
        }
        String signature = headers.get("webhook-signature");
        if (webhook && reply.status() / 100 == 2 && signature != null) {
            takenSignatures.add(signature);
        }
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

    /// Null for a webhook that is genuine; otherwise the reply that refuses it. It is refused when
    /// one of its two signatures is wrong, when it is old, or when it was taken before.
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
        // The agent sends an event again when the answer to it was lost. That attempt carries
        // another time and so another signature: it is not taken for a replay. (Two attempts
        // within the same second have the same signature. The agent then makes a third one.)
        return takenSignatures.contains(signatures) ? new Reply(409, "", REPLAYED) : null;
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

    /// The agent delivers every event at least once. So an event whose id was seen before is
    /// accepted again, and changes nothing.
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
        // URLDecoder is made for forms, where + means a space; in a path it means a plus.
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

    /// CRMs use both kinds of id: {"id":"c-1"} and {"id":17}.
    private static String id(JsonObject contact) {
        return contact.get("id") instanceof JsonString s ? s.getString() : "" + contact.get("id");
    }

    /// A JsonException when these bytes are no JSON object.
    static JsonObject json(byte[] utf8) {
        try (var reader = Json.createReader(new StringReader(new String(utf8, UTF_8)))) {
            return reader.readObject();
        }
    }
}
