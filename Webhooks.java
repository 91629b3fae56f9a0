import module java.base;
import module java.net.http;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import voice.Log;

/// Everything that travels to the CRM. Behind the conversation go the signed events, and the notes
/// and activities of a contact: a call hands them over and goes on; here they are sent, in order,
/// and sent again until the CRM has taken them. Only `ask`, for the look-up, is answered.
///
/// Agent and Tools send. Delivery is at least once: an `id` that comes a second time is the same
/// event.
///
/// Not handled: what is not delivered when the process ends is lost. It belongs on disk, and
/// `accept` is the place for it.
final class Webhooks {
    private static final Duration TIMEOUT = Duration.ofSeconds(5);
    private static final DateTimeFormatter MILLIS =
            new DateTimeFormatterBuilder().appendInstant(3).toFormatter();

    /// One request to come. Its bytes never change; only the attempt's timestamp does. What is in
    /// one lane is delivered in order; lanes do not wait for each other.
    private record Delivery(String lane, String id, String path, byte[] body, boolean event) {}

    // HTTP/1.1: otherwise every plain request asks to be upgraded, which some servers refuse.
    // No redirects: they would take signed bodies to wherever somebody points.
    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NEVER).connectTimeout(TIMEOUT).build();
    private final String crmUrl;
    private final String apiKey;
    private final Hmac hmac;
    private final Map<String, Deque<Delivery>> lanes = new HashMap<>();     // guarded by itself
    private boolean closing;                                                // these two too
    private boolean closed;

    /// `crmUrl` has no slash at its end; `apiKey` may be blank.
    Webhooks(String crmUrl, String apiKey, Hmac hmac) {
        this.crmUrl = crmUrl;
        this.apiKey = apiKey;
        this.hmac = hmac;
    }

    /// The events of one call: numbered, and each with what is known of the call by then.
    final class Call {
        private final String callId;
        private final String room;
        private int sequence;
        private String phone;
        private String contactId;
        private String sipCallId;

        private Call(String callId, String room) {
            this.callId = callId;
            this.room = room;
        }

        synchronized void phone(String phone, String sipCallId) {
            this.phone = phone;
            this.sipCallId = sipCallId;
        }

        synchronized String phone() {
            return phone;
        }

        synchronized void contact(String contactId) {
            this.contactId = contactId;
        }

        /// `event` is two words with a dot between them: the first names the CRM's end point.
        /// `fields` are names and values in turn. Returns at once.
        synchronized void send(String event, Object... fields) {
            String id = "evt_" + UUID.randomUUID();
            byte[] body = body(id, event, Instant.now(), fields).getBytes(StandardCharsets.UTF_8);
            Log.log(callId, "event " + event + " " + id);
            accept(new Delivery(callId, id,
                    "/webhooks/" + event.substring(0, event.indexOf('.')), body, true));
        }

        /// Adds to a contact of the CRM: `what` is `notes` or `activities`. Returns at once.
        void add(String contactId, String what, JsonObject body) {
            accept(new Delivery(callId + " " + what, "req_" + UUID.randomUUID(),
                    contactPath(contactId) + "/" + what,
                    body.toString().getBytes(StandardCharsets.UTF_8), false));
        }

        String body(String id, String event, Instant at, Object... fields) {
            var body = new LinkedHashMap<String, Object>();
            body.put("id", id);
            body.put("event", event);
            body.put("timestamp", MILLIS.format(at));
            body.put("call_id", callId);
            body.put("sequence", ++sequence);
            body.put("room", room);
            body.put("phone", phone);
            body.put("contact_id", contactId);
            if (sipCallId != null) {
                body.put("sip_call_id", sipCallId);
            }
            for (int i = 0; i < fields.length; i += 2) {
                body.put((String) fields[i], fields[i + 1]);
            }
            return Json.createObjectBuilder(body).build().toString();
        }
    }

    Call call(String callId, String room) {
        return new Call(callId, room);
    }

    /// A contact's address below CRM_URL. The id is the CRM's own and may hold anything.
    private static String contactPath(String contactId) {
        String encoded = URLEncoder.encode(contactId, StandardCharsets.UTF_8);
        return "/contacts/" + encoded.replace("+", "%20");
    }

    /// Ends the sending: what is waiting is tried until the bound, then given up with a line each.
    void close(Duration bound) throws InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        synchronized (lanes) {
            closing = true;
            lanes.notifyAll();
            while (!lanes.isEmpty() && System.nanoTime() < end) {
                TimeUnit.NANOSECONDS.timedWait(lanes, end - System.nanoTime());
            }
            closed = true;
            lanes.notifyAll();
            lanes.values().forEach(lane -> lane.forEach(delivery ->
                    Log.log(delivery.lane, "NOT DELIVERED: " + delivery.id + " to CRM_URL"
                            + delivery.path)));
        }
    }

    private void accept(Delivery delivery) {
        synchronized (lanes) {
            Deque<Delivery> lane = lanes.get(delivery.lane);
            if (lane != null) {
                lane.add(delivery);
                return;
            }
            lanes.put(delivery.lane, new ArrayDeque<>(List.of(delivery)));
        }
        Thread.ofVirtual().name("webhooks " + delivery.lane).start(() -> sendAll(delivery.lane));
    }

    /// Runs as long as there is something in the lane.
    private void sendAll(String lane) {
        while (true) {
            Delivery next;
            synchronized (lanes) {
                next = closed ? null : lanes.get(lane).peek();
                if (next == null) {
                    lanes.remove(lane);
                    lanes.notifyAll();
                    return;
                }
            }
            try {
                deliver(next);
            } catch (InterruptedException | RuntimeException | Error e) {
                Log.log(lane, "NOT DELIVERED: " + next.id + ": " + Log.reason(e));
            }
            synchronized (lanes) {
                lanes.get(lane).remove();
            }
        }
    }

    private void deliver(Delivery delivery) throws InterruptedException {
        for (int attempt = 1; ; attempt++) {
            String trouble;
            try {
                int status = post(delivery);
                if (status / 100 == 2) {
                    if (attempt > 1) {
                        Log.log(delivery.lane, "delivered " + delivery.id + " after all");
                    }
                    return;
                }
                trouble = "HTTP " + status + " from CRM_URL" + delivery.path;
                if (status != 408 && status != 425 && status != 429 && status < 500) {
                    Log.log(delivery.lane, "NOT DELIVERED: " + delivery.id + ": " + trouble);
                    return; // it would be refused again
                }
            } catch (IOException e) {
                trouble = "no answer from CRM_URL" + delivery.path + ": " + Log.reason(e);
            }
            if (!pause(attempt, "not delivered yet: " + delivery.id + ": " + trouble, delivery)) {
                return;
            }
        }
    }

    /// 0.5 s, 1, 2, 4 .. 30 s, each a fifth more or less, so that calls do not retry in step.
    /// False when there is no next attempt, because the sending has ended.
    private boolean pause(int attempt, String trouble, Delivery delivery)
            throws InterruptedException {
        double jitter = 0.8 + 0.4 * ThreadLocalRandom.current().nextDouble();
        double wait = Math.min(30_000, 250L << Math.min(attempt, 8)) * jitter;
        long end = System.nanoTime() + (long) (wait * 1_000_000);
        long soon = System.nanoTime() + 200_000_000; // while closing, there is no time for more
        synchronized (lanes) {
            if (!closing) {
                Log.log(delivery.lane, trouble + "; again in " + (long) wait + " ms");
            }
            while (!closed && System.nanoTime() < (closing ? soon : end)) {
                TimeUnit.NANOSECONDS.timedWait(lanes, (closing ? soon : end) - System.nanoTime());
            }
            return !closed;
        }
    }

    /// A POST to the CRM. `keyed` ones, which are those to its /contacts, carry its key.
    private HttpRequest.Builder request(String path, byte[] body, Duration timeout, boolean keyed) {
        var request = HttpRequest.newBuilder(URI.create(crmUrl + path)).timeout(timeout)
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofByteArray(body));
        return keyed && !apiKey.isBlank()
                ? request.header("Authorization", "Bearer " + apiKey) : request;
    }

    /// Whether there is a CRM at all: null, or what is wrong with the way to it. Blocks, 5 s at
    /// most. Any answer will do, but for one that refuses the key.
    String check() throws InterruptedException {
        try {
            // HEAD: nobody's contacts are to travel for this.
            int status = http.send(request("/contacts", new byte[0], TIMEOUT, true)
                    .HEAD().build(), HttpResponse.BodyHandlers.discarding()).statusCode();
            return status == 401 || status == 403
                    ? "refuses CRM_API_KEY (HTTP " + status + ")" : null;
        } catch (IOException e) {
            return "does not answer (" + Log.reason(e) + "); check CRM_URL";
        }
    }

    /// Asks the CRM now, once, and not behind the conversation: for Tools' look-up. Of the answer
    /// no more than `most` bytes are read.
    CompletableFuture<HttpResponse<String>> ask(String path, JsonObject body, Duration timeout,
            int most) {
        byte[] bytes = body.toString().getBytes(StandardCharsets.UTF_8);
        return http.sendAsync(request(path, bytes, timeout, true).build(),
                HttpResponse.BodyHandlers.limiting(HttpResponse.BodyHandlers.ofString(), most));
    }

    private int post(Delivery delivery) throws IOException, InterruptedException {
        var request = request(delivery.path, delivery.body, TIMEOUT, !delivery.event);
        if (delivery.event) {
            long now = Instant.now().getEpochSecond();
            request.header("X-Signature", hmac.sign(delivery.body))
                    .header("webhook-id", delivery.id)
                    .header("webhook-timestamp", Long.toString(now))
                    .header("webhook-signature", hmac.sign(delivery.id, now, delivery.body));
        } else {
            request.header("Idempotency-Key", delivery.id);
        }
        var response = http.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
        // The status is all we want. The body is not read: it could be endless, and the timeout
        // covers only what comes before it.
        response.body().close();
        return response.statusCode();
    }
}
