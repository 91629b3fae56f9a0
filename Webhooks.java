import module java.base;
import module java.net.http;
import delivery.Http;
import delivery.Outbox;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;
import start.Program;
import voice.End;
import voice.Event;
import voice.Log;
import voice.Party;
import voice.Usage;

/// Everything that travels to the CRM: the signed events of a call, the notes and activities of the
/// caller's contact, and the look-up. Agent and Tools report events, and Tools looks up contacts.
///
/// A method that reports an event writes it to the disk and returns. It does not wait for the CRM.
/// delivery.Outbox calls `post` until the CRM takes the event, or refuses it for good. When an
/// answer of the CRM is lost, the CRM gets the same event twice, with the same `id`.
final class Webhooks implements Program.Crm {
    private static final int MOST_SUMMARY = 4_000;      // characters
    private static final String USER_AGENT = "livekit-phone-agent/1";
    private static final String EVENT_VERSION = "1";    // of docs/openapi.yaml

    private final Http crm;
    private final String apiKey;
    private final boolean transcripts;
    private final List<Hmac> secrets;
    private final Outbox outbox;
    /// Calls that an earlier process has begun and not ended.
    final List<Call> orphans;

    /// Begins to send what an earlier process has left in the folder. `crmUrl` has no slash at its
    /// end. `apiKey` may be blank. `secrets` is the secret, or the new one and the old one, with a
    /// comma between them. If `transcripts` is true, the CRM also gets the transcript of each call.
    Webhooks(Path folder, String crmUrl, String apiKey, String secrets, boolean transcripts)
            throws Outbox.InUse {
        crm = new Http(crmUrl);
        this.apiKey = apiKey;
        this.transcripts = transcripts;
        this.secrets = Arrays.stream(secrets.split(",")).map(String::strip).map(Hmac::new).toList();
        outbox = new Outbox(folder, this::post);
        orphans = outbox.left(Call::new);
        outbox.start();
    }

    /// Sends what is waiting, for this time at most. The rest stays on disk.
    void close(Duration bound) throws InterruptedException {
        outbox.close(bound);
    }

    // Requests.

    /// One attempt to deliver. The body is the same in each attempt. The timestamp is not, so each
    /// attempt is signed anew (https://www.standardwebhooks.com).
    @Override
    public Outbox.Outcome post(Outbox.Delivery delivery) throws IOException, InterruptedException {
        String id = delivery.id(), path = delivery.path();
        byte[] body = delivery.body();
        if (!path.matches("/[^/].*")) {     // otherwise it could lead to another server
            return new Outbox.Refused("its path does not begin with one /", Duration.ZERO, true);
        }
        var request = request(path, body);
        if (path.startsWith("/webhooks/")) {
            long now = Instant.now().getEpochSecond();
            request.header("X-Event-Version", EVENT_VERSION).header("webhook-id", id)
                    .header("X-Signature", secrets.getFirst().signBody(body))
                    .header("webhook-timestamp", Long.toString(now))
                    .header("webhook-signature", secrets.stream()
                            .map(secret -> secret.signStandard(id, now, body))
                            .collect(Collectors.joining(" ")));
        } else {
            request.header("Idempotency-Key", id);
        }
        // The log must not have a contact's id.
        String where = path.replaceFirst("^/contacts/[^/]*", "/contacts/{id}");
        var answer = crm.send(delivery.lane().split(" ")[0], where, request.build());
        int status = answer.status();
        String why = "HTTP " + status + " from CRM_URL" + where;
        return status / 100 == 2 ? new Outbox.Taken()
                : List.of(407, 408, 425, 429).contains(status) || status >= 500    // 407: a proxy
                        ? new Outbox.Later(why, answer.asked())
                : new Outbox.Refused(why, answer.asked(), status == 410);
    }

    // The demo's CRM verifies events with these two, because demo/ cannot name Hmac.

    @Override
    public boolean verifyBody(byte[] body, String signature) {
        return secrets.getFirst().verifyBody(body, signature);
    }

    @Override
    public boolean verifyStandard(String id, long timestamp, byte[] body, String signatures,
            Instant now) {
        return secrets.getFirst().verifyStandard(id, timestamp, body, signatures, now);
    }

    /// Asks the CRM, for the look-up of Tools. It is an error if the whole answer is not here by
    /// `end` (System.nanoTime()), or has more than `mostBytes`.
    CompletableFuture<HttpResponse<String>> ask(String call, String path, JsonObject body,
            int mostBytes, long end) {
        return crm.ask(call, path, request(path, utf8(body.toString())).build(), mostBytes, end);
    }

    /// A POST to the CRM. Only a request to /contacts carries the CRM's key: events are signed.
    private HttpRequest.Builder request(String path, byte[] body) {
        var request = crm.post(path, body).header("User-Agent", USER_AGENT);
        return path.startsWith("/contacts") && !apiKey.isBlank()
                ? request.header("Authorization", "Bearer " + apiKey) : request;
    }

    // Events.

    /// The events of a new call. `who` returns what is known of the caller by then.
    Call call(Supplier<Party> who) {
        return new Call(outbox.begin(), who);
    }

    /// The events of one call, a method for each; docs/contract.md describes them. Each call also
    /// has a file on disk. When this process dies in the call, the next process reads the file: the
    /// call is its orphan, and it reports the end.
    ///
    /// The call's thread and the thread of a look-up come here.
    final class Call implements Program.Orphan {
        private final Outbox.Entry entry;
        private final Supplier<Party> who;
        private final List<String> intents = new ArrayList<>();
        private final List<String> notes = new ArrayList<>();
        private int filed;                              // of the notes
        private final List<Outbox.Delivery> waiting = new ArrayList<>();    // for `put`
        private final List<String> unlogged = new ArrayList<>();            // the same
        private Instant started = Instant.now();
        private Instant lastSeen;                       // of an orphan
        private int sequence;                           // of the last event; 0 for none
        private boolean ended;
        private String contactId;

        private Call(Outbox.Entry entry, Supplier<Party> who) {
            this.entry = entry;
            this.who = who;
        }

        synchronized void started() {
            started = Instant.now();
            send("call.started");
        }

        synchronized void intent(String intent) {
            intents.add(intent);
            send("intent.recorded", "intent", intent);
        }

        /// Reports the note. Returns whether the caller has a record, in which `put` files it.
        synchronized boolean note(String note) {
            notes.add(note);
            send("crm.updated", "note", note);
            return contactId != null;
        }

        synchronized void transferred(String to) {
            send("call.transferred", "destination", to);
        }

        synchronized void transferFailed(String to, Event.Refusal why) {
            send("call.transfer_failed", "destination", to,
                    "sip_code", why.code() == 0 ? null : why.code(), "sip_status", why.status());
        }

        /// Reports the end, once. Reports nothing of a call whose start was not reported. The file
        /// stays until the caller is off the line: otherwise the next process has to hang up.
        synchronized void ended(End end) {
            if (sequence > 0 && !ended) {
                reportEnd(end);
            }
            entry.over(end.hungUp());
        }

        private void reportEnd(End end) {
            if (transcripts && end.answered() != null) {
                add("call.transcript", "items", end.transcript().items(end.answered()),
                        "truncated", end.transcript().truncated());
            }
            String intent = intents.isEmpty() ? null : intents.getLast();
            String summary = summary(end.reason(), end.length());
            if (contactId != null) {
                file("activities", fields("type", "call",
                        "duration_seconds", end.length().toSeconds(), "intent", intent,
                        "summary", summary, "transfer_to", end.transferredTo()));
            }
            ended = true;
            send("call.ended", "reason", end.reason(), "cause", end.cause(), "ended_by", end.by(),
                    "started_at", End.MILLIS.format(end.started()),
                    "answered_at",
                    end.answered() == null ? null : End.MILLIS.format(end.answered()),
                    "ended_at", End.MILLIS.format(end.ended()),
                    "duration_ms", end.length().toMillis(),
                    "talk_ms", end.talk() == null ? null : end.talk().toMillis(),
                    "intent", intent, "summary", summary, "sip_code", end.sipCode(),
                    "model", end.model(), "usage", usage(end.usage()));
        }

        private static JsonObject usage(Usage used) {
            return used == null ? null : fields("input_text_tokens", used.inputText(),
                    "input_audio_tokens", used.inputAudio(), "cached_text_tokens",
                    used.cachedText(), "cached_audio_tokens", used.cachedAudio(),
                    "output_text_tokens", used.outputText(),
                    "output_audio_tokens", used.outputAudio());
        }

        /// The call in a few words, for people.
        private String summary(String reason, Duration length) {
            return Log.cut("%d:%02d min, %s.".formatted(length.toMinutes(), length.toSecondsPart(),
                    reason.replace('_', ' '))
                    + (intents.isEmpty() ? "" : " Wanted: " + String.join("; ", intents) + ".")
                    + (notes.isEmpty() ? "" : " Noted: " + String.join(" ", notes)), MOST_SUMMARY);
        }

        /// Sets the id of the caller's record, or null when the record has none.
        synchronized void contact(String id) {
            contactId = id;
            if (sequence > 0 && !ended) {               // the look-up may end after the call
                put();
            }
        }

        /// Returns when the event is on disk. The call's file is written with the event: an event
        /// that is delivered is deleted, and then only the call's file knows its sequence.
        private void send(String event, Object... more) {
            add(event, more);
            put();
        }

        /// `put` brings it to the disk.
        private void add(String event, Object... more) {
            if (sequence == 0) {
                entry.keep(state());    // no call is started without its file
            }
            sequence++;
            Party party = party();
            String id = "evt_" + UUID.randomUUID();
            var body = Json.createObjectBuilder(fields("id", id, "event", event,
                    "timestamp", End.MILLIS.format(Instant.now()), "call_id", party.call(),
                    "sequence", sequence, "room", party.room(), "phone", party.phone(),
                    "to", party.to(), "direction", party.direction(), "contact_id", contactId,
                    "sip_call_id", party.sipCallId(), "sip_id", party.sipId()))
                    .addAll(Json.createObjectBuilder(fields(more)));
            waiting.add(new Outbox.Delivery(party.call(), id, "/webhooks/"
                    + event.substring(0, event.indexOf('.')), utf8(body.build().toString())));
            unlogged.add("%-19s  %s".formatted(event, id));
        }

        /// Files notes that have a record by now. What waits comes to the disk, then into the log.
        private void put() {
            for (; contactId != null && filed < notes.size(); filed++) {
                file("notes", fields("text", notes.get(filed), "source", "ai-agent"));
            }
            entry.put(List.copyOf(waiting), state());
            waiting.clear();
            unlogged.forEach(line -> Log.step(party().call(), "event", line));
            unlogged.clear();
        }

        /// A note or an activity of the caller's contact, which has a lane of its own.
        private void file(String what, JsonObject body) {
            String id = URLEncoder.encode(contactId, StandardCharsets.UTF_8).replace("+", "%20");
            waiting.add(new Outbox.Delivery(party().call() + " contact",
                    "req_" + UUID.randomUUID(), "/contacts/" + id + "/" + what,
                    utf8(body.toString())));
        }

        // The call's file, and what the next process makes of it.

        private JsonObject state() {
            Party party = party();
            return fields("call_id", party.call(), "room", party.room(),
                    "room_sid", party.roomSid(), "phone", party.phone(), "to", party.to(),
                    "direction", party.direction(), "sip_call_id", party.sipCallId(),
                    "sip_id", party.sipId(), "contact_id", contactId,
                    "started", started.toString(), "sequence", sequence, "ended", ended,
                    "intent", intents.isEmpty() ? null : intents.getLast());
        }

        private Call(Outbox.Left left) {
            JsonObject was = left.state();
            var party = new Party(was.getString("call_id"), was.getString("room"),
                    was.getString("room_sid"), text(was, "phone"), text(was, "to"),
                    text(was, "direction"), text(was, "sip_call_id"), text(was, "sip_id"));
            this(left.entry(), () -> party);
            started = Instant.parse(was.getString("started"));
            lastSeen = left.lastSeen();
            sequence = was.getInt("sequence");
            ended = was.getBoolean("ended");
            contactId = text(was, "contact_id");
            Optional.ofNullable(text(was, "intent")).ifPresent(intents::add);
            for (JsonObject event : outbox.unsent(party.call())) {  // may be newer than the file
                sequence = Math.max(sequence, event.getInt("sequence", 0));
                ended |= event.getString("event", "").equals("call.ended");
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

    /// JSON of names and values, which come in turn. A value may be null.
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
