import module java.base;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import trials.Runner;
import trials.Stand;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// How an event gets to the CRM: it is on disk until the CRM has taken it, it is tried in order and
/// as often as it takes, and the next process goes on with what is left. The CRM here refuses,
/// hangs, drips and dies.
///
/// ---- to trials/ when delivery.Outbox is there. What a status means, the headers and the requests
/// stay with Webhooks, whose contract they are: those assertions go to AgentTest.
final class OutboxTest extends Stand {
    private Webhooks webhooks(String url) throws Exception {
        return webhooks(folder(), url);
    }

    private Webhooks webhooks(Path outbox, String url) throws Exception {
        var webhooks = new Webhooks(outbox, url, "crm-key", new Hmac(SECRET));
        afterwards(() -> webhooks.close(Duration.ZERO));
        return webhooks;
    }

    /// The names of the files in an outbox, but for its lock.
    private static List<String> names(Path folder) {
        try (var all = Files.list(folder)) {
            return all.filter(Files::isRegularFile).map(path -> path.getFileName().toString())
                    .filter(name -> !name.equals("lock")).sorted().toList();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    void retriesUntilTheCrmAccepts() throws Exception {
        var crm = crm();
        crm.fail("/webhooks/call", 503, 2);
        var call = webhooks(crm.url()).call("AJ_1", "room", "RM_1");
        call.send("call.started", "direction", "inbound");
        call.send("intent.recorded", "intent", "x");
        eventually("both arrive", () -> crm.events().size() == 2);

        assertEquals(List.of(503, 503, 204, 204), statuses(crm));
        var attempts = crm.requests().subList(0, 3);
        for (var attempt : attempts) {
            assertArrayEquals(attempts.getFirst().body(), attempt.body());
            assertEquals(attempt.json().getString("id"), attempt.headers().get("webhook-id"));
            assertEquals("application/json", attempt.headers().get("content-type"));
            long at = Long.parseLong(attempt.headers().get("webhook-timestamp"));
            assertTrue(new Hmac(SECRET).verify(attempt.headers().get("webhook-id"), at,
                    attempt.body(), attempt.headers().get("webhook-signature"), Instant.now()));
            assertTrue(new Hmac(SECRET).verify(
                    attempt.body(), attempt.headers().get("x-signature")));
        }
        assertEquals("/webhooks/intent", crm.requests().get(3).path());
    }

    @Test
    void whatIsRefusedForGoodIsPutAsideAndHoldsUpNothing() throws Exception {
        var crm = crm();
        Path outbox = folder();
        crm.fail("/webhooks/call", 400, 4);
        crm.fail("/webhooks/intent", 410, 1);
        crm.fail("/webhooks/crm", 429, 1);
        var call = webhooks(outbox, crm.url()).call("AJ_1", "room", "RM_1");
        call.send("call.started");
        call.send("intent.recorded");
        call.send("crm.updated");
        eventually("one arrives", () -> crm.events().size() == 1);
        assertEquals(List.of(400, 400, 400, 400, 410, 429, 204), statuses(crm));
        List<String> aside = names(outbox.resolve("failed"));
        assertEquals(2, aside.size());
        eventually("only the call's file stays", () -> names(outbox).size() == 1);

        // The log has the command: whoever moves the file back sends it again.
        Files.move(outbox.resolve("failed").resolve(aside.getFirst()),
                outbox.resolve(aside.getFirst()));
        var again = crm.await(request -> request.status() == 204
                && request.path().equals("/webhooks/call"), Duration.ofSeconds(10));
        assertNotNull(again, "not sent again");
        assertArrayEquals(crm.requests().getFirst().body(), again.body());
    }

    @Test
    void whatIsLeftIsSentFirstWithItsOldIdAndANewTimestamp() throws Exception {
        Path outbox = folder();
        var before = webhooks(outbox, "http://127.0.0.1:1");
        for (int i = 0; i < 3; i++) {
            var call = before.call("AJ_" + i, "room", "RM_1");
            call.send("call.started");
            call.send("intent.recorded", "intent", "a refund");
            call.add("c-1", "notes", json("{\"text\":\"n" + i + "\"}"));
            call.send("call.ended");
            call.over();
        }
        before.close(Duration.ZERO);
        List<String> files = names(outbox);
        assertEquals(12, files.size());
        for (String file : files) {
            assertEquals("rw-------", PosixFilePermissions.toString(
                    Files.getPosixFilePermissions(outbox.resolve(file))));
        }
        var crm = crm();
        crm.contact("+15550001111", "{\"id\":\"c-1\"}");
        webhooks(outbox, crm.url());
        eventually("all arrive", () -> crm.requests().size() == 12);
        for (int i = 0; i < 3; i++) {
            String id = "AJ_" + i;
            assertEquals(List.of("call.started", "intent.recorded", "call.ended"),
                    crm.events().stream().filter(e -> e.getString("call_id").equals(id))
                            .map(e -> e.getString("event")).toList());
        }
        for (var request : crm.requests()) {
            String id = request.headers().getOrDefault("webhook-id",
                    request.headers().get("idempotency-key"));
            assertTrue(files.stream().anyMatch(file -> file.contains(id)), id);
            if (request.path().startsWith("/webhooks")) {
                assertTrue(request.verified());
                long age = Instant.now().getEpochSecond()
                        - Long.parseLong(request.headers().get("webhook-timestamp"));
                assertTrue(age >= 0 && age < 10, "timestamp is " + age + " s old");
            }
        }
        eventually("nothing is left", () -> names(outbox).isEmpty());
    }

    @Test
    void aCallOfADeadProcessIsEndedOnce() throws Exception {
        var crm = crm();
        Path outbox = folder();
        var webhooks = webhooks(outbox, crm.url());
        var call = webhooks.call("AJ_1", "room", "RM_1");
        call.phone("+15550001111", "SCL_1");
        call.send("call.started");
        call.contact("c-1");
        call.send("intent.recorded", "intent", "a refund");
        var over = webhooks.call("AJ_2", "room", "RM_1");
        over.send("call.started");
        over.send("call.ended");
        over.over();
        var onTheLine = webhooks.call("AJ_3", "room", "RM_1");
        onTheLine.send("call.started");
        onTheLine.send("call.ended");
        eventually("delivered", () -> crm.events().size() == 6 && names(outbox).size() == 2);
        TimeUnit.MILLISECONDS.sleep(2_200); // the length of the call, to its last sign of life

        // The lock of a dead process belongs to nobody. This process lives, so the test goes on
        // with copies of the files.
        Path copy = folder();
        for (String name : names(outbox)) {
            Files.copy(outbox.resolve(name), copy.resolve(name),
                    StandardCopyOption.COPY_ATTRIBUTES);
        }
        Files.writeString(copy.resolve("000000000009-evt_torn.post.new"), "{");
        Files.writeString(copy.resolve("000000000009-evt_odd.post"), "odd");
        Files.writeString(copy.resolve("000000000009.call"), "{}");
        var next = webhooks(copy, crm.url());
        assertEquals(List.of(true, false),
                next.dead().stream().map(Webhooks.Call::unfinished).toList());
        next.dead().getLast().over();
        var dead = next.dead().getFirst();
        assertEquals(List.of("AJ_1", "room", "RM_1", "c-1", "a refund"), List.of(dead.id(),
                dead.room(), dead.roomSid(), dead.contact(), dead.intent()));
        long lasted = dead.lasted().toMillis();
        assertTrue(lasted >= 1_000 && lasted < 4_000, lasted + " ms");
        dead.send("call.ended", "reason", "agent_died");
        dead.over();
        eventually("its end", () -> crm.events().size() == 7);
        JsonObject ended = crm.events().getLast();
        assertEquals(3, ended.getInt("sequence"));
        assertEquals("+15550001111", ended.getString("phone"));
        assertEquals("SCL_1", ended.getString("sip_call_id"));
        assertEquals("c-1", ended.getString("contact_id"));
        eventually("nothing is left", () -> names(copy).isEmpty());
        assertEquals(2, names(copy.resolve("failed")).size());
        next.close(SOON);
        assertEquals(List.of(), webhooks(copy, crm.url()).dead());
    }

    @Test
    void oneOutboxIsForOneProcess() throws Exception {
        Path outbox = folder();
        var first = webhooks(outbox, "http://localhost");
        String said = assertThrows(Webhooks.InUse.class,
                () -> webhooks(outbox, "http://localhost")).getMessage();
        assertTrue(said.contains("in use by process " + ProcessHandle.current().pid()), said);
        first.close(Duration.ZERO);
        webhooks(outbox, "http://localhost");
    }

    @Test
    void withoutADiskEventsGoOnFromMemory() throws Exception {
        var crm = crm();
        crm.fail("/webhooks", 503, 1);
        Path file = Files.createFile(folder().resolve("file"));
        Path gone = folder();
        for (Path outbox : List.of(file.resolve("outbox"), gone)) {
            var call = webhooks(outbox, crm.url()).call("AJ_" + outbox.hashCode(), "r", "RM_1");
            if (outbox == gone) {
                delete(gone);
            }
            int before = crm.events().size();
            call.send("call.started");
            call.send("call.ended");
            eventually("both arrive", () -> crm.events().size() == before + 2);
        }
    }

    @Test
    @Tag(Runner.ALONE)
    void anEventIsOnDiskWithinMilliseconds() throws Exception {
        var call = webhooks("http://127.0.0.1:1").call("AJ_1", "room", "RM_1");
        long[] took = new long[400];
        for (int i = -200; i < took.length; i++) {
            long before = System.nanoTime();
            call.send("intent.recorded", "intent", "x");
            took[Math.max(i, 0)] = System.nanoTime() - before;
        }
        Arrays.sort(took);
        System.out.printf(Locale.ROOT, "  an event to disk: p50 %.1f ms, p99 %.1f ms%n",
                took[took.length / 2] / 1e6, took[took.length * 99 / 100] / 1e6);
        assertTrue(took[took.length / 2] < 5_000_000, "p50 is " + took[took.length / 2] + " ns");
    }

    @Test
    void theCrmMayAskForATimeAndIsBelievedWithinReason() throws Exception {
        record Case(String header, long least, long most) {}
        for (Case each : List.of(new Case("2", 1_900, 2_900), new Case("soon", 300, 1_000),
                new Case("in 3 s, as a date", 1_900, 3_500),
                new Case("-5", 300, 1_000))) {
            var at = new ConcurrentLinkedQueue<Long>();
            String url = server(exchange -> {
                exchange.getRequestBody().readAllBytes();
                at.add(System.nanoTime());
                exchange.getResponseHeaders().add("Retry-After", !each.header.endsWith("date")
                        ? each.header : DateTimeFormatter.RFC_1123_DATE_TIME.format(
                                ZonedDateTime.now(ZoneOffset.UTC).plusSeconds(3)));
                exchange.sendResponseHeaders(at.size() == 1 ? 503 : 204, -1);
                exchange.close();
            });
            webhooks(url).call("AJ_1", "room", "RM_1").send("call.started");
            eventually("the second attempt", () -> at.size() == 2);
            long ms = (at.poll() - at.poll()) / -1_000_000;
            assertTrue(ms >= each.least && ms <= each.most, each.header + ": " + ms + " ms");
        }
    }

    @Test
    void aCrmThatDripsHangsOrResetsHoldsNothingForLong() throws Exception {
        var connections = new ConcurrentHashMap<String, AtomicInteger>();
        for (String how : List.of("drip", "hang", "reset")) {       // side by side
            var server = opened(new ServerSocket(0, 50, InetAddress.getLoopbackAddress()));
            var count = connections.computeIfAbsent(how, _ -> new AtomicInteger());
            Thread.ofVirtual().start(() -> {
                try {
                    while (true) {
                        Socket socket = server.accept();
                        count.incrementAndGet();
                        Thread.ofVirtual().start(() -> {
                            try (socket) {
                                socket.setSoLinger(true, 0);
                                for (char each : "HTTP/1.1 200 OK\r\nX: ".toCharArray()) {
                                    if (how.equals("drip")) {
                                        socket.getOutputStream().write(each);
                                    }
                                    TimeUnit.MILLISECONDS.sleep(how.equals("reset") ? 1 : 700);
                                }
                            } catch (IOException | InterruptedException e) {
                                // the other side has had enough
                            }
                        });
                    }
                } catch (IOException e) {
                    // closed
                }
            });
            webhooks("http://127.0.0.1:" + server.getLocalPort())
                    .call("AJ_1", "room", "RM_1").send("call.started");
        }
        for (var each : connections.entrySet()) {
            eventually(each.getKey() + ": a second attempt", 8, () -> each.getValue().get() >= 2);
        }
    }

    @Test
    @Tag(Runner.ALONE)
    void oneCallsStuckEventHoldsUpNobody() throws Exception {
        var crm = crm();
        crm.delay("/webhooks/call", 2_000);
        var webhooks = webhooks(crm.url());
        long before = System.nanoTime();
        webhooks.call("AJ_stuck", "room", "RM_1").send("call.started");
        assertTrue(System.nanoTime() - before < 100_000_000, "send waited");
        webhooks.call("AJ_other", "room", "RM_1").send("intent.recorded", "intent", "x");
        var other = crm.await(request -> request.path().equals("/webhooks/intent"),
                Duration.ofSeconds(1));
        assertNotNull(other, "the other call's event waited");
    }

    @Test
    void redirectsAreNotFollowedAndEndlessAnswersNotRead() throws Exception {
        var paths = new ConcurrentLinkedQueue<String>();
        String url = server(exchange -> {
            exchange.getRequestBody().readAllBytes();
            String path = exchange.getRequestURI().getPath();
            paths.add(path);
            if (path.equals("/crm/webhooks/call")) {
                exchange.getResponseHeaders().add("Location", "/elsewhere");
                exchange.sendResponseHeaders(307, -1);
            } else {
                exchange.sendResponseHeaders(200, 0);
                try (var out = exchange.getResponseBody()) {
                    while (true) {
                        out.write(new byte[65_536]);
                    }
                } catch (IOException e) {
                    paths.add("hung up");
                }
            }
            exchange.close();
        });
        var call = webhooks(url + "/crm").call("AJ_1", "room", "RM_1");
        call.send("call.started");
        call.send("intent.recorded", "intent", "x");
        eventually("the answer is not read to its end", () -> paths.contains("hung up"));
        assertEquals(Stream.concat(Collections.nCopies(4, "/crm/webhooks/call").stream(),
                Stream.of("/crm/webhooks/intent", "hung up")).toList(), List.copyOf(paths));
    }

    @Test
    void closingDeliversWhatIsWaiting() throws Exception {
        var crm = crm();
        crm.fail("/webhooks", 503, 3);
        var webhooks = webhooks(crm.url());
        for (int i = 0; i < 3; i++) {
            webhooks.call("AJ_" + i, "room", "RM_1").send("call.ended");
        }
        webhooks.close(SOON);
        assertEquals(3, crm.events().size());
    }
}
