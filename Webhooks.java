import module java.base;
import module java.net.http;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;
import voice.Log;

/// Everything that travels to the CRM. Behind the conversation go the signed events, and the notes
/// and activities of a contact: a call hands them over and goes on; here they are written to disk
/// before anything else, sent in order, and sent again until the CRM has taken them. Only `ask`,
/// for the look-up, is answered.
///
/// Agent and Tools send. Delivery is at least once: an `id` that comes a second time is the same
/// event. What is in the outbox has not been delivered; a file goes away when the CRM has said 2xx,
/// and at the next start what was left is sent first. A call is a file there too, as long as it
/// lasts, so that the end of a call is reported also when the process was killed in it.
///
/// Not handled: several processes on one outbox (the second is refused), and a disk that loses what
/// it has confirmed.
final class Webhooks {
    private static final Duration TIMEOUT = Duration.ofSeconds(5);
    private static final Duration SIGN_OF_LIFE = Duration.ofSeconds(1);
    private static final Duration NOT_WORTH_A_LINE = Duration.ofMillis(200);
    private static final int MOST_AT_A_TIME = 32;           // requests; they are sockets
    private static final int REFUSALS = 4;                  // then it is put aside
    private static final Duration LONGEST_WAIT = Duration.ofSeconds(60);    // that the CRM may ask
    private static final DateTimeFormatter MILLIS =
            new DateTimeFormatterBuilder().appendInstant(3).toFormatter();

    /// Somebody else uses this outbox; the message says who.
    static final class InUse extends Exception {
        private static final long serialVersionUID = 1;

        InUse(String message) {
            super(message);
        }
    }

    /// One request to come. Its bytes never change; only the attempt's timestamp does. What is in
    /// one lane is delivered in order; lanes do not wait for each other. `event` is its name, or
    /// "" for a note or an activity. The body is in `file`, or here when the disk did not take it.
    private record Delivery(String file, String lane, String id, String path, String event,
                            int sequence, byte[] body) {

        Delivery in(String file) {
            return new Delivery(file, lane, id, path, event, sequence, null);
        }
    }

    // HTTP/1.1: otherwise every plain request asks to be upgraded, which some servers refuse.
    // No redirects: they would take signed bodies to wherever somebody points.
    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NEVER).connectTimeout(TIMEOUT).build();
    private final Outbox outbox;
    private final String crmUrl;
    private final String apiKey;
    private final Hmac hmac;
    private final Semaphore requests = new Semaphore(MOST_AT_A_TIME, true);
    private final Set<Call> calls = ConcurrentHashMap.newKeySet();          // that are up
    private final List<Call> dead = new ArrayList<>();
    private final Map<String, Deque<Delivery>> lanes = new HashMap<>();     // guarded by itself
    private boolean closing;                                                // these two too
    private boolean closed;

    /// Sends what is left in the outbox, at once. `crmUrl` has no slash at its end; `apiKey` may
    /// be blank.
    Webhooks(Path outbox, String crmUrl, String apiKey, Hmac hmac) throws InUse {
        this.outbox = new Outbox(outbox);
        this.crmUrl = crmUrl;
        this.apiKey = apiKey;
        this.hmac = hmac;
        List<Delivery> left = this.outbox.deliveries();
        for (String file : this.outbox.calls()) {
            remember(file, left);
        }
        if (!left.isEmpty()) {
            Log.log("", left.size() + " events and notes of before go to the CRM first");
        }
        left.forEach(this::accept);
        Thread.ofVirtual().name("outbox").start(this::watch);
    }

    /// The events of one call: numbered, and each with what is known of the call by then. All of
    /// it is also in the call's file, for the case that somebody else has to report the end.
    final class Call {
        private final String file;
        private final String callId;
        private final String room;
        private final String roomSid;
        private int sequence;
        private String phone;
        private String contactId;
        private String sipCallId;
        private String intent;
        private Instant started;
        private boolean ended;
        private Instant lastSeen;               // of a dead one
        private final List<Delivery> withTheNext = new ArrayList<>();

        private Call(String file, String callId, String room, String roomSid) {
            this.file = file;
            this.callId = callId;
            this.room = room;
            this.roomSid = roomSid;
        }

        String id() { return callId; }
        String room() { return room; }
        String roomSid() { return roomSid; }

        synchronized void phone(String phone, String sipCallId) {
            this.phone = phone;
            this.sipCallId = sipCallId;
        }

        synchronized String phone() {
            return phone;
        }

        synchronized void contact(String contactId) {
            this.contactId = contactId;
            if (started != null && !ended) { // a look-up may take longer than the call
                outbox.keep(file, state());
            }
        }

        synchronized String contact() {
            return contactId;
        }

        /// What the caller wanted last, or null.
        synchronized String intent() {
            return intent;
        }

        /// The CRM knows that a dead call had begun, and not yet that it is over.
        boolean unfinished() {
            return sequence > 0 && !ended;
        }

        /// How long a dead call lasted, as far as anybody knows.
        Duration lasted() {
            var lasted = Duration.between(started, lastSeen);
            return lasted.isNegative() ? Duration.ZERO : lasted;
        }

        /// `event` is two words with a dot between them: the first names the CRM's end point.
        /// `fields` are names and values in turn. Returns when it is on disk.
        synchronized void send(String event, Object... fields) {
            if (started == null) {
                started = Instant.now();
                outbox.keep(file, state());     // first: there is no started call without a file
                calls.add(this);
            }
            for (int i = 0; i < fields.length; i += 2) {
                intent = fields[i].equals("intent") ? (String) fields[i + 1] : intent;
            }
            String id = "evt_" + UUID.randomUUID();
            byte[] body = body(id, event, Instant.now(), fields).getBytes(StandardCharsets.UTF_8);
            ended = event.equals("call.ended");
            // The call's file with it, and before it is sent: once it is delivered, that file
            // alone knows the next number.
            var all = new ArrayList<>(withTheNext);
            withTheNext.clear();
            all.add(new Delivery(null, callId, id, "/webhooks/"
                    + event.substring(0, event.indexOf('.')), event, sequence, body));
            List<Delivery> put = outbox.put(all, file, state());
            if (ended) {
                calls.remove(this);
            }
            Log.step(callId, "event", "%-19s  %s".formatted(event, id));
            put.forEach(Webhooks.this::accept);
        }

        /// Adds to a contact of the CRM: `what` is `notes` or `activities`. It comes to the disk
        /// with the event that is sent next, and before it: there is no event without it.
        synchronized void add(String contactId, String what, JsonObject body) {
            withTheNext.add(new Delivery(null, callId + " contact", "req_" + UUID.randomUUID(),
                    contactPath(contactId) + "/" + what, "", 0,
                    body.toString().getBytes(StandardCharsets.UTF_8)));
        }

        /// Its end is reported, and the caller is off the line: nothing is left to do for it.
        void over() {
            outbox.remove(file);
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

        private JsonObject state() {
            var state = new LinkedHashMap<String, Object>();
            state.put("call_id", callId);
            state.put("room", room);
            state.put("room_sid", roomSid);
            state.put("started", started.toString());
            state.put("sequence", sequence);
            state.put("phone", phone);
            state.put("sip_call_id", sipCallId);
            state.put("contact_id", contactId);
            state.put("intent", intent);
            state.put("ended", ended);
            return Json.createObjectBuilder(state).build();
        }
    }

    /// `roomSid` is the room's own id at LiveKit: there may be another of that name later.
    Call call(String callId, String room, String roomSid) {
        return new Call(outbox.callFile(), callId, room, roomSid);
    }

    /// Calls that were up, or whose caller was still on the line, when the process before this one
    /// died.
    List<Call> dead() {
        return dead;
    }

    private void remember(String file, List<Delivery> left) {
        try {
            JsonObject state = json(outbox.read(file));
            String callId = state.getString("call_id");
            var call = new Call(file, callId, state.getString("room"), state.getString("room_sid"));
            call.started = Instant.parse(state.getString("started"));
            call.lastSeen = outbox.lastModified(file);
            call.phone = text(state, "phone");
            call.sipCallId = text(state, "sip_call_id");
            call.contactId = text(state, "contact_id");
            call.intent = text(state, "intent");
            // The last event may have come to the disk, and the file not any more.
            var events = left.stream().filter(event -> event.lane.equals(callId)).toList();
            call.sequence = events.stream().mapToInt(Delivery::sequence)
                    .reduce(state.getInt("sequence"), Math::max);
            call.ended = state.getBoolean("ended")
                    || events.stream().anyMatch(event -> event.event.equals("call.ended"));
            dead.add(call);
        } catch (IOException | RuntimeException e) {
            outbox.putAside(file, file + " (" + Log.reason(e) + ")");
        }
    }

    private static JsonObject json(byte[] bytes) {
        try (var reader = Json.createReader(new ByteArrayInputStream(bytes))) {
            return reader.readObject();
        }
    }

    private static String text(JsonObject from, String name) {
        return from.get(name) instanceof JsonString string ? string.getString() : null;
    }

    /// A contact's address below CRM_URL. The id is the CRM's own and may hold anything.
    private static String contactPath(String contactId) {
        String encoded = URLEncoder.encode(contactId, StandardCharsets.UTF_8);
        return "/contacts/" + encoded.replace("+", "%20");
    }

    /// Ends the sending: what is waiting is tried until the bound. The rest stays on disk.
    void close(Duration bound) throws InterruptedException {
        long end = System.nanoTime() + bound.toNanos();
        synchronized (lanes) {
            closing = true;
            lanes.notifyAll();
            awaitEmpty(Math.min(end, System.nanoTime() + NOT_WORTH_A_LINE.toNanos()));
            if (!lanes.isEmpty() && bound.isPositive()) {
                Log.log("", "the CRM has " + bound.toSeconds() + " s for what is still to be sent");
            }
            awaitEmpty(end);
            closed = true;
            lanes.notifyAll();
            var waiting = lanes.values().stream().flatMap(Deque::stream).toList();
            long kept = waiting.stream().filter(each -> each.file != null).count();
            if (kept > 0) {
                Log.log("", kept + " events and notes stay in " + outbox.folder
                        + " and are sent at the next start");
            }
            waiting.stream().filter(each -> each.file == null).forEach(each ->
                    Log.log(each.lane, "NOT DELIVERED, and not on disk: " + each.id));
        }
        outbox.close();
    }

    private void awaitEmpty(long until) throws InterruptedException {
        while (!lanes.isEmpty() && System.nanoTime() < until) {
            TimeUnit.NANOSECONDS.timedWait(lanes, until - System.nanoTime());
        }
    }

    /// Every second, as long as it is open: a sign of life of each call; and files that somebody
    /// has moved back into the outbox are sent.
    private void watch() {
        try {
            for (int seconds = 1; ; seconds++) {
                synchronized (lanes) {
                    TimeUnit.NANOSECONDS.timedWait(lanes, SIGN_OF_LIFE.toNanos());
                    if (closed) {
                        return;
                    }
                }
                calls.forEach(call -> outbox.touch(call.file));
                if (seconds % 5 == 0) {
                    outbox.deliveries().forEach(this::accept);
                }
            }
        } catch (InterruptedException e) {
            // nobody does that
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
                putAside(next, Log.reason(e));
            }
            synchronized (lanes) {
                lanes.get(lane).remove();
            }
        }
    }

    /// Returns when the CRM has taken it, when it never will, or when the sending has ended.
    private void deliver(Delivery delivery) throws InterruptedException {
        int refusals = 0;
        for (int attempt = 1; ; attempt++) {
            String trouble;
            Duration asked = Duration.ZERO;             // to wait, by the CRM
            try {
                HttpResponse<InputStream> answer = post(delivery);
                int status = answer.statusCode();
                if (status / 100 == 2) {
                    outbox.remove(delivery.file);
                    if (attempt > 1) {
                        Log.log(delivery.lane, "delivered " + delivery.id + " after all");
                    }
                    return;
                }
                trouble = "HTTP " + status + " from CRM_URL" + delivery.path;
                if (status != 408 && status != 425 && status != 429 && status < 500
                        && (status == 410 || ++refusals == REFUSALS)) {
                    putAside(delivery, trouble); // it would be refused again
                    return;
                }
                asked = retryAfter(answer.headers());
            } catch (NoSuchFileException e) {
                Log.log(delivery.lane, "not sent, somebody has removed it: " + e.getMessage());
                return;
            } catch (IOException e) {
                trouble = "no answer from CRM_URL" + delivery.path + ": " + Log.reason(e);
            }
            if (!pause(attempt, asked, "not delivered yet: " + delivery.id + ": " + trouble,
                    delivery.lane)) {
                return;
            }
        }
    }

    private void putAside(Delivery delivery, String why) {
        Log.log(delivery.lane, "NOT DELIVERED: " + delivery.id + ": " + why);
        if (delivery.file != null) {
            outbox.putAside(delivery.file, delivery.id);
        }
    }

    /// As the header says it, seconds or a date (RFC 9110, 10.2.3), within reason.
    private static Duration retryAfter(HttpHeaders headers) {
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

    /// 0.5 s, 1, 2, 4 .. 30 s, each a fifth more or less, so that calls do not retry in step; or
    /// as long as the CRM has asked for. False when there is no next attempt, because the sending
    /// has ended.
    private boolean pause(int attempt, Duration asked, String trouble, String lane)
            throws InterruptedException {
        double jitter = 0.8 + 0.4 * ThreadLocalRandom.current().nextDouble();
        double ms = Math.max(Math.min(30_000, 250L << Math.min(attempt, 8)) * jitter,
                asked.toMillis());
        long end = System.nanoTime() + (long) (ms * 1_000_000);
        long soon = System.nanoTime() + 200_000_000; // while closing, there is no time for more
        synchronized (lanes) {
            // 1, 2, 4, 8 ..: a CRM that is down for an hour is no news every time
            if (!closing && Integer.bitCount(attempt) == 1) {
                Log.log(lane, trouble + "; again in " + (long) ms + " ms");
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

    private HttpResponse<InputStream> post(Delivery delivery)
            throws IOException, InterruptedException {
        byte[] body = delivery.body != null ? delivery.body : outbox.body(delivery.file);
        boolean event = !delivery.event.isEmpty();
        requests.acquire();
        try {
            var request = request(delivery.path, body, TIMEOUT, !event);
            if (event) {
                long now = Instant.now().getEpochSecond();
                request.header("X-Signature", hmac.sign(body))
                        .header("webhook-id", delivery.id)
                        .header("webhook-timestamp", Long.toString(now))
                        .header("webhook-signature", hmac.sign(delivery.id, now, body));
            } else {
                request.header("Idempotency-Key", delivery.id);
            }
            var response = http.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
            // The status is all we want. The body is not read: it could be endless, and the
            // timeout covers only what comes before it.
            response.body().close();
            return response;
        } finally {
            requests.release();
        }
    }

    /// A folder, a file for each delivery and each call. A file is there whole or not at all: it
    /// is written under another name, forced to the disk, and renamed.
    ///
    /// A delivery's first line says where it goes, as JSON; the rest is the body, to the byte.
    /// Names begin with a number, so that their order is that of the deliveries.
    ///
    /// A disk that does not take something is said in the log, and the caller goes on without.
    private static final class Outbox {
        private static final FileAttribute<Set<PosixFilePermission>> OURS =
                PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));
        private static final FileAttribute<Set<PosixFilePermission>> OUR_FOLDER =
                PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
        private static final Pattern NUMBER = Pattern.compile("([0-9]{1,18})\\b.*");
        private static final String CALL = ".call";
        private static final String DELIVERY = ".post";

        final Path folder;
        private final Path aside;
        private final AtomicLong numbers = new AtomicLong();
        private final Set<String> known = ConcurrentHashMap.newKeySet();    // deliveries' files
        private FileChannel lock;

        Outbox(Path folder) throws InUse {
            this.folder = folder;
            aside = folder.resolve("failed");
            try {
                Files.createDirectories(aside, OUR_FOLDER);
                lock = FileChannel.open(folder.resolve("lock"), Set.of(StandardOpenOption.CREATE,
                        StandardOpenOption.READ, StandardOpenOption.WRITE), OURS);
                lock();
                for (String each : files("")) {
                    if (each.endsWith(".new")) {
                        Files.delete(folder.resolve(each)); // was not there yet
                    }
                    Matcher number = NUMBER.matcher(each);
                    if (number.matches()) {
                        numbers.accumulateAndGet(Long.parseLong(number.group(1)), Math::max);
                    }
                }
            } catch (IOException e) {
                trouble("OUTBOX_DIR " + folder.toAbsolutePath(), e);
            }
        }

        private void lock() throws IOException, InUse {
            var pid = ByteBuffer.allocate(20);
            FileLock ours = null;
            try {
                ours = lock.tryLock();
            } catch (OverlappingFileLockException e) {
                // the same, in this very process
            }
            if (ours == null) {
                lock.read(pid, 0);
                lock.close();
                throw new InUse("OUTBOX_DIR " + folder.toAbsolutePath() + " is in use by process "
                        + new String(pid.array(), 0, pid.position(), StandardCharsets.UTF_8).strip()
                        + ": two agents on one machine need an OUTBOX_DIR each");
            }
            lock.truncate(0);
            lock.write(ByteBuffer.wrap(("" + ProcessHandle.current().pid()).getBytes()), 0);
        }

        void close() {
            try {
                if (lock != null) {
                    lock.close();
                }
            } catch (IOException e) {
                // the process's end does it too
            }
        }

        private static void trouble(String what, IOException e) {
            Log.log("", "NOT ON DISK, a crash would lose it: " + what + ": " + Log.reason(e)
                    + "; free the disk, make it writable, or set OUTBOX_DIR to another");
        }

        /// In their order.
        private List<String> files(String suffix) throws IOException {
            try (var all = Files.list(folder)) {
                return all.map(path -> path.getFileName().toString())
                        .filter(name -> name.endsWith(suffix)).sorted().toList();
            }
        }

        /// Writes them down, and with them a call's file. Returns the deliveries that are in files
        /// or, if that cannot be, as they were.
        List<Delivery> put(List<Delivery> all, String callFile, JsonObject state) {
            var files = new ArrayList<String>();
            var put = new ArrayList<Delivery>();
            try {
                for (Delivery it : all) {
                    String file = "%012d-%s%s".formatted(
                            numbers.incrementAndGet(), it.id, DELIVERY);
                    files.add(file);
                    known.add(file); // before `deliveries` can see it
                    String head = Json.createObjectBuilder().add("lane", it.lane).add("id", it.id)
                            .add("path", it.path).add("event", it.event)
                            .add("sequence", it.sequence).build() + "\n";
                    write(file, head.getBytes(StandardCharsets.UTF_8), it.body);
                    put.add(it.in(file));
                }
                files.add(callFile);
                write(callFile, state.toString().getBytes(StandardCharsets.UTF_8));
                for (String file : files) {
                    appear(file);
                }
                force();
                return put;
            } catch (IOException e) {
                trouble(all.getLast().event + " " + all.getLast().id, e);
                files.forEach(this::discard);
                files.stream().filter(file -> !file.equals(callFile)).forEach(this::remove);
                return all;
            }
        }

        /// All of it is on disk when this returns, under a name that does not count yet.
        private void write(String file, byte[]... parts) throws IOException {
            Path unfinished = folder.resolve(file + ".new");
            try (var out = FileChannel.open(unfinished, Set.of(StandardOpenOption.CREATE,
                    StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE), OURS)) {
                var all = Arrays.stream(parts).map(ByteBuffer::wrap).toArray(ByteBuffer[]::new);
                while (all[all.length - 1].hasRemaining()) {
                    out.write(all);
                }
                out.force(true);
            }
        }

        /// What could not be finished may be what fills the disk.
        private void discard(String file) {
            remove(file + ".new");
        }

        private void appear(String file) throws IOException {
            Files.move(folder.resolve(file + ".new"), folder.resolve(file),
                    StandardCopyOption.ATOMIC_MOVE);
        }

        /// The names, too, are on disk.
        private void force() throws IOException {
            try (var names = FileChannel.open(folder)) {
                names.force(true);
            }
        }

        /// Those that are new here, in their order.
        List<Delivery> deliveries() {
            var found = new ArrayList<Delivery>();
            try {
                for (String file : files(DELIVERY)) {
                    if (known.add(file)) {
                        try {
                            byte[] head = split(file)[0];
                            JsonObject it = json(head);
                            found.add(new Delivery(file, it.getString("lane"), it.getString("id"),
                                    it.getString("path"), it.getString("event"),
                                    it.getInt("sequence"), null));
                        } catch (NoSuchFileException e) {
                            known.remove(file); // delivered since we looked
                        } catch (IOException | RuntimeException e) {
                            putAside(file, file + " (" + Log.reason(e) + ")");
                        }
                    }
                }
            } catch (IOException e) {
                Log.log("", "OUTBOX_DIR cannot be read: " + Log.reason(e));
            }
            return found;
        }

        private byte[][] split(String file) throws IOException {
            byte[] all = read(file);
            for (int i = 0; i < all.length; i++) {
                if (all[i] == '\n') {
                    return new byte[][] {
                        Arrays.copyOf(all, i), Arrays.copyOfRange(all, i + 1, all.length)};
                }
            }
            throw new IOException("it has only one line");
        }

        byte[] body(String file) throws IOException {
            return split(file)[1];
        }

        byte[] read(String file) throws IOException {
            return Files.readAllBytes(folder.resolve(file));
        }

        /// `file` may be null.
        void remove(String file) {
            if (file == null) {
                return;
            }
            try {
                Files.deleteIfExists(folder.resolve(file));
                known.remove(file);
            } catch (IOException e) {
                Log.log("", "cannot be deleted, and comes again at the next start: "
                        + folder.resolve(file) + ": " + Log.reason(e));
            }
        }

        /// It stays on disk, where nobody sends it.
        void putAside(String file, String what) {
            Path to = aside.resolve(file);
            try {
                Files.move(folder.resolve(file), to, StandardCopyOption.ATOMIC_MOVE);
                known.remove(file);
                Log.log("", what + " is put aside. To send it again:  mv " + to + " " + folder
                        + File.separator);
            } catch (IOException e) {
                Log.log("", what + " cannot be put aside, and comes again at the next start: "
                        + Log.reason(e));
            }
        }

        // Calls.

        String callFile() {
            return "%012d%s".formatted(numbers.incrementAndGet(), CALL);
        }

        List<String> calls() {
            try {
                return files(CALL);
            } catch (IOException e) {
                return List.of(); // has been said
            }
        }

        void keep(String file, JsonObject state) {
            try {
                write(file, state.toString().getBytes(StandardCharsets.UTF_8));
                appear(file);
                force();
            } catch (IOException e) {
                trouble("the call " + state.getString("call_id"), e);
                discard(file);
            }
        }

        /// A sign of life.
        void touch(String file) {
            try {
                Files.setLastModifiedTime(folder.resolve(file), FileTime.from(Instant.now()));
            } catch (IOException e) {
                // ended meanwhile; or not on disk, which has been said
            }
        }

        Instant lastModified(String file) throws IOException {
            return Files.getLastModifiedTime(folder.resolve(file)).toInstant();
        }
    }
}
