import module java.base;
import module java.net.http;
import delivery.Outbox;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;
import start.Program;
import voice.End;
import voice.Event;
import voice.Log;
import voice.Party;

/// Everything that travels to the CRM: the signed events of a call, the notes and activities of its
/// contact, and the look-up. Agent makes the events, and Tools asks and notes.
///
/// A method that reports something returns when it is on disk, and the call goes on. Outbox keeps
/// the order of each call's events, and has `post` try until the CRM has taken an event or has
/// refused it for good. So an event may come twice, with the same `id`.
///
/// Not handled: several secrets at a time, to replace one without a gap.
final class Webhooks {
    private static final Duration TIMEOUT = Duration.ofSeconds(5);
    private static final Duration LONGEST_WAIT = Duration.ofSeconds(60);    // that the CRM may ask
    private static final DateTimeFormatter MILLIS =
            new DateTimeFormatterBuilder().appendInstant(3).toFormatter();

    // HTTP/1.1: with HTTP/2, the client asks in each plain request for an upgrade, and some servers
    // refuse that. No redirects: they would take signed bodies to wherever somebody points.
    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NEVER).connectTimeout(TIMEOUT).build();
    private final String crmUrl;
    private final String apiKey;
    final Hmac hmac;
    private final Outbox outbox;
    /// Calls that a process before this one has begun and not ended.
    final List<Call> orphans;

    /// Sends what is left in the folder, at once. `crmUrl` has no slash at its end. `apiKey` may be
    /// blank.
    Webhooks(Path folder, String crmUrl, String apiKey, Hmac hmac) throws Outbox.InUse {
        this.crmUrl = crmUrl;
        this.apiKey = apiKey;
        this.hmac = hmac;
        outbox = new Outbox(folder, this::post);
        orphans = outbox.left(Call::new);
        outbox.start();
    }

    /// Sends what is waiting, until the bound is over. The rest stays on disk.
    void close(Duration bound) throws InterruptedException {
        outbox.close(bound);
    }

    // Requests.

    /// One attempt to deliver. The body is the same in each attempt. The timestamp is not, so each
    /// attempt is signed anew (https://www.standardwebhooks.com).
    private Outbox.Outcome post(Outbox.Delivery it) throws IOException, InterruptedException {
        var request = request(it.path(), it.body(), TIMEOUT);
        if (it.path().startsWith("/webhooks/")) {
            long now = Instant.now().getEpochSecond();
            request.header("X-Signature", hmac.signBody(it.body()))
                    .header("webhook-id", it.id())
                    .header("webhook-timestamp", Long.toString(now))
                    .header("webhook-signature", hmac.signStandard(it.id(), now, it.body()));
        } else {
            request.header("Idempotency-Key", it.id());
        }
        var answer = http.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
        answer.body().close();  // the body could be endless, and TIMEOUT ends with the headers
        int status = answer.statusCode();
        String why = "HTTP " + status + " from CRM_URL" + it.path();
        if (status / 100 == 2) {
            return new Outbox.Taken();
        } else if (status == 408 || status == 425 || status == 429 || status >= 500) {
            return new Outbox.Later(why, retryAfter(answer.headers()));
        }
        return new Outbox.Refused(why, status == 410);      // Gone: it stays so
    }

    /// As the header says it, in seconds or as a date (RFC 9110, 10.2.3), within reason.
    static Duration retryAfter(HttpHeaders headers) {
        String value = headers.firstValue("Retry-After").orElse("").strip();
        try {
            long seconds = value.matches("[0-9]{1,9}") ? Long.parseLong(value)
                    : value.isEmpty() ? 0 : Duration.between(Instant.now(), Instant.from(
                            DateTimeFormatter.RFC_1123_DATE_TIME.parse(value))).toSeconds();
            return Duration.ofSeconds(Math.clamp(seconds, 0, LONGEST_WAIT.toSeconds()));
        } catch (DateTimeException e) {
            return Duration.ZERO;
        }
    }

    /// Asks the CRM now, and once: for the look-up. Reads `most` bytes of the answer at the most.
    CompletableFuture<HttpResponse<String>> ask(String path, JsonObject body, Duration timeout,
            int most) {
        return http.sendAsync(request(path, utf8(body.toString()), timeout).build(),
                HttpResponse.BodyHandlers.limiting(HttpResponse.BodyHandlers.ofString(), most));
    }

    /// A POST to the CRM. A request to /contacts carries the CRM's key; an event is signed instead.
    private HttpRequest.Builder request(String path, byte[] body, Duration timeout) {
        var request = HttpRequest.newBuilder(URI.create(crmUrl + path)).timeout(timeout)
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofByteArray(body));
        return path.startsWith("/contacts") && !apiKey.isBlank()
                ? request.header("Authorization", "Bearer " + apiKey) : request;
    }

    // Events.

    /// The events of a call. `who` says what is known of the caller at the time it is asked.
    Call call(Supplier<Party> who) {
        return new Call(outbox.begin(), who);
    }

    /// The events of one call, a method for each: README, "Webhook events", has them. The call is
    /// also a file, for the next process, which reports its end when this one dies in it.
    final class Call implements Program.Orphan {
        private final Outbox.Entry entry;
        private final Supplier<Party> who;
        private final List<String> intents = new ArrayList<>();
        private final List<String> notes = new ArrayList<>();
        private final List<Outbox.Delivery> withTheNext = new ArrayList<>();
        private Instant started = Instant.now();
        private Instant lastSeen;                       // of an orphan
        private int sequence;
        private boolean ended;
        private String contactId;

        private Call(Outbox.Entry entry, Supplier<Party> who) {
            this.entry = entry;
            this.who = who;
        }

        synchronized void started() {
            started = Instant.now();
            send("call.started", "direction", party().direction());
        }

        synchronized void intent(String intent) {
            intents.add(intent);
            send("intent.recorded", "intent", intent);
        }

        /// Reports the note, and files it when the caller has a record. Says whether they have one.
        synchronized boolean note(String note) {
            notes.add(note);
            if (contactId != null) {
                file("notes", fields("text", note, "source", "ai-agent"));
            }
            send("crm.updated", "note", note);
            return contactId != null;
        }

        void transferred(String to) {
            send("call.transferred", "destination", to);
        }

        void transferFailed(String to, Event.Refusal why) {
            send("call.transfer_failed", "destination", to,
                    "sip_code", why.code() == 0 ? null : why.code(), "sip_status", why.status());
        }

        /// Also files the call under the caller's record, as an activity. A call that has not
        /// started has no end to report, and nobody is told twice.
        synchronized void ended(End end) {
            if (sequence > 0 && !ended) {
                reportEnd(end);
            }
            end.hungUp().thenRun(entry::over);          // until then somebody has to hang up
        }

        private void reportEnd(End end) {
            String intent = intents.isEmpty() ? null : intents.getLast();
            String summary = summary(end.reason(), end.length());
            if (contactId != null) {
                file("activities", fields("type", "call",
                        "duration_seconds", end.length().toSeconds(), "intent", intent,
                        "summary", summary, "transfer_to", end.transferredTo()));
            }
            var more = new ArrayList<Object>(Arrays.asList("reason", end.reason(),
                    "duration_ms", end.length().toMillis(), "intent", intent, "summary", summary));
            if (end.cause() != null) {
                more.addAll(List.of("cause", end.cause()));
            }
            if (end.dialled()) {
                more.addAll(Arrays.asList("sip_code", end.sipCode()));
            }
            ended = true;
            send("call.ended", more.toArray());
        }

        /// The call in a few words, for people.
        private String summary(String reason, Duration length) {
            return "%d:%02d min, %s.".formatted(length.toMinutes(), length.toSecondsPart(),
                    reason.replace('_', ' '))
                    + (intents.isEmpty() ? "" : " Wanted: " + String.join("; ", intents) + ".")
                    + (notes.isEmpty() ? "" : " Noted: " + String.join(" ", notes));
        }

        /// The caller's record from here on, or null for a record without an id.
        synchronized void contact(String id) {
            contactId = id;
            if (sequence > 0 && !ended) {               // a look-up may take longer than the call
                entry.keep(state());
            }
        }

        /// Returns when the event is on disk, with the note or activity that belongs to it. The
        /// call's file is written with it: after the delivery, that file alone knows `sequence`.
        private synchronized void send(String event, Object... fields) {
            if (sequence == 0) {
                entry.keep(state());                    // no call is started without its file
            }
            Party party = party();
            String id = "evt_" + UUID.randomUUID();
            byte[] body = utf8(body(id, event, Instant.now(), fields));
            withTheNext.add(new Outbox.Delivery(party.call(), id,
                    "/webhooks/" + event.substring(0, event.indexOf('.')), body));
            entry.put(List.copyOf(withTheNext), state());
            withTheNext.clear();
            Log.step(party.call(), "event", "%-19s  %s".formatted(event, id));
        }

        /// A note or an activity of the contact. It is sent with the next event, and before it.
        private void file(String what, JsonObject body) {
            String id = URLEncoder.encode(contactId, StandardCharsets.UTF_8).replace("+", "%20");
            withTheNext.add(new Outbox.Delivery(party().call() + " contact",
                    "req_" + UUID.randomUUID(), "/contacts/" + id + "/" + what,
                    utf8(body.toString())));
        }

        String body(String id, String event, Instant at, Object... fields) {
            Party who = party();
            var body = Json.createObjectBuilder(fields("id", id, "event", event,
                    "timestamp", MILLIS.format(at), "call_id", who.call(), "sequence", ++sequence,
                    "room", who.room(), "phone", who.phone(), "contact_id", contactId));
            if (who.sipCallId() != null) {
                body.add("sip_call_id", who.sipCallId());
            }
            return body.addAll(Json.createObjectBuilder(fields(fields))).build().toString();
        }

        // The call's file, and what the next process makes of it.

        private JsonObject state() {
            Party who = party();
            return fields("call_id", who.call(), "room", who.room(), "room_sid", who.roomSid(),
                    "phone", who.phone(), "to", who.to(), "direction", who.direction(),
                    "sip_call_id", who.sipCallId(), "started", started.toString(),
                    "sequence", sequence, "ended", ended, "contact_id", contactId,
                    "intent", intents.isEmpty() ? null : intents.getLast());
        }

        private Call(Outbox.Left left) {
            JsonObject was = left.state();
            var party = new Party(was.getString("call_id"), was.getString("room"),
                    was.getString("room_sid"), text(was, "phone"), text(was, "to"),
                    text(was, "direction"), text(was, "sip_call_id"));
            this(left.entry(), () -> party);
            started = Instant.parse(was.getString("started"));
            lastSeen = left.lastSeen();
            sequence = was.getInt("sequence");
            ended = was.getBoolean("ended");
            contactId = text(was, "contact_id");
            if (text(was, "intent") != null) {
                intents.add(text(was, "intent"));
            }
            for (byte[] body : outbox.unsent(party.call())) {   // may be younger than the file
                JsonObject event = Json.createReader(new ByteArrayInputStream(body)).readObject();
                sequence = Math.max(sequence, event.getInt("sequence"));
                ended |= event.getString("event").equals("call.ended");
            }
        }

        @Override
        public Party party() {
            return who.get();
        }

        @Override
        public void died(CompletableFuture<Void> hungUp) {
            ended(End.died(started, lastSeen, hungUp));
        }
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /// Names and values in turn, as JSON. A value may be null.
    private static JsonObject fields(Object... namesAndValues) {
        var all = new LinkedHashMap<String, Object>();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            all.put((String) namesAndValues[i], namesAndValues[i + 1]);
        }
        return Json.createObjectBuilder(all).build();
    }

    private static String text(JsonObject from, String name) {
        return from.get(name) instanceof JsonString string ? string.getString() : null;
    }
}
