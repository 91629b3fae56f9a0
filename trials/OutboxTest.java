package trials;

import module java.base;
import delivery.Outbox;
import delivery.Outbox.Delivery;
import delivery.Outbox.Outcome;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// delivery/: what was put into the outbox stays on disk until it is taken, in the order of its
/// lane, however often that takes. The other side is a script here; AgentTest has the real
/// requests.
public final class OutboxTest extends Stand {
    private static final Duration FIRST_WAIT = Duration.ofMillis(2);
    private static final Outcome TAKEN = new Outbox.Taken();
    private static final Outcome NO = new Outbox.Refused("no", Duration.ZERO, false);
    private static final Outcome NEVER = new Outbox.Refused("never", Duration.ZERO, true);
    private static final CompletableFuture<Void> DONE = CompletableFuture.completedFuture(null);
    private static final JsonObject STATE = json("{\"state\":1}"), NEXT = json("{\"state\":2}");

    /// The other side: it writes down every attempt, and answers as the script says. After the last
    /// answer of a delivery's script, the delivery is taken.
    private static final class Taker implements Outbox.Attempt {
        record Tried(Delivery it, long atNanos) {}

        final List<Tried> tried = new CopyOnWriteArrayList<>();
        final Map<String, Queue<Outcome>> script = new ConcurrentHashMap<>();    // by id

        Taker answers(String id, Outcome... outcomes) {
            script.put(id, new ConcurrentLinkedQueue<>(List.of(outcomes)));
            return this;
        }

        @Override
        public Outcome make(Delivery it) throws IOException {
            tried.add(new Tried(it, System.nanoTime()));
            Outcome next = script.getOrDefault(it.id(), new ArrayDeque<>()).poll();
            if (next instanceof Outbox.Later(var why, _) && why.equals("reset")) {
                throw new IOException("reset");
            }
            return next == null ? TAKEN : next;
        }

        List<String> ids() {
            return tried.stream().map(each -> each.it.id()).toList();
        }

        /// The attempts to deliver this one are at least so many first waits (ms) apart.
        void wereApart(String id, double firstWait, int... least) {
            var its = tried.stream().filter(each -> each.it.id().equals(id)).toList();
            for (int i = 0; i < least.length; i++) {
                double ms = (its.get(i + 1).atNanos - its.get(i).atNanos) / 1e6;
                assertTrue(ms >= least[i] * firstWait, "wait " + i + ": " + ms + " ms");
            }
        }
    }

    private static final Outbox.Attempt NOBODY = _ -> {
        throw new ConnectException("nobody is there");
    };

    private static Outcome later(int ms) {
        return new Outbox.Later("later", Duration.ofMillis(ms));
    }

    private Outbox outbox(Path folder, Outbox.Attempt attempt) throws Exception {
        return outbox(folder, attempt, FIRST_WAIT);
    }

    private Outbox outbox(Path folder, Outbox.Attempt attempt, Duration firstWait)
            throws Exception {
        var outbox = new Outbox(folder, attempt, firstWait);
        outbox.start();
        afterwards(() -> outbox.close(Duration.ZERO));
        return outbox;
    }

    private static Delivery delivery(String lane, String id) {
        return new Delivery(lane, id, "/to/" + id, utf8("{\"of\":\n\"" + id + "\"}"));
    }

    private static JsonObject state(Path folder, String entry) throws IOException {
        return json(Files.readString(folder.resolve(entry)));
    }

    private static String permissions(Path path) throws IOException {
        return PosixFilePermissions.toString(Files.getPosixFilePermissions(path));
    }

    // On disk.

    @Test
    void whatIsPutIsOnDiskWhenPutReturns() throws Exception {
        Path folder = folder().resolve("new/outbox");
        outbox(folder, NOBODY).begin().put(
                List.of(delivery("a", "one"), delivery("b", "two")), STATE);
        List<String> files = names(folder);
        assertEquals(List.of("000000000001.call", "000000000002-one.post",
                "000000000003-two.post"), files);
        for (String file : files) {
            assertEquals("rw-------", permissions(folder.resolve(file)));
        }
        assertEquals("rw-------", permissions(folder.resolve("lock")));
        for (Path each : List.of(folder.getParent(), folder, folder.resolve("failed"))) {
            assertEquals("rwx------", permissions(each));
        }
        assertEquals("{\"lane\":\"a\",\"id\":\"one\",\"path\":\"/to/one\"}\n{\"of\":\n\"one\"}",
                Files.readString(folder.resolve(files.get(1))));
        assertEquals(STATE, state(folder, "000000000001.call"));
    }

    @Test
    void anEntrysFileNeverKnowsOfADeliveryThatIsNotThere() throws Exception {
        Path folder = folder();
        var taker = new Taker().answers("one", later(0));
        var entry = outbox(folder, taker).begin();
        entry.keep(STATE);
        // The second delivery cannot get its name, because something else has it.
        Files.createDirectories(folder.resolve("000000000003-two.post/x"));
        entry.put(List.of(delivery("a", "one"), delivery("a", "two")), NEXT);
        assertEquals(STATE, state(folder, "000000000001.call"));
        assertEquals(List.of("000000000001.call"), names(folder));
        eventually("both are taken, from memory", () -> taker.tried.size() == 3);
        assertArrayEquals(utf8("{\"of\":\n\"one\"}"), taker.tried.get(1).it.body());
        entry.put(List.of(delivery("a", "three")), NEXT);
        assertEquals(NEXT, state(folder, "000000000001.call"));
        eventually("it is taken", () -> taker.tried.size() == 4);
    }

    @Test
    void whatTheDiskDoesNotTakeLeavesNoPartsBehind() throws Exception {
        Path folder = folder();
        var taker = new Taker();
        var entry = outbox(folder, taker).begin();
        Path inTheWay = folder.resolve("000000000001.call.new");
        Files.createDirectories(inTheWay.resolve("x"));
        entry.keep(STATE);
        entry.put(List.of(delivery("a", "one"), delivery("a", "two")), STATE);
        eventually("both are taken", () -> taker.tried.size() == 2);
        assertEquals(List.of(), names(folder));
        delete(inTheWay);
        inTheWay = folder.resolve("000000000001.call");
        Files.createDirectories(inTheWay.resolve("x"));
        entry.keep(STATE);
        assertEquals(List.of(), names(folder));
        delete(inTheWay);
        entry.keep(NEXT);
        assertEquals(NEXT, state(folder, "000000000001.call"));
    }

    @Test
    void withoutADiskItGoesOnFromMemory() throws Exception {
        Path file = Files.createFile(folder().resolve("file"));
        Path gone = folder();
        for (Path folder : List.of(file.resolve("outbox"), gone)) {
            var taker = new Taker().answers("one", later(0)).answers("two", NEVER);
            var outbox = outbox(folder, taker);
            var entry = outbox.begin();
            if (folder == gone) {
                delete(gone);
            }
            entry.keep(STATE);
            for (String id : List.of("one", "two", "three")) {
                entry.put(List.of(delivery("a", id)), STATE);
            }
            eventually("all are tried", () -> taker.tried.size() == 4);
            assertEquals(List.of("one", "one", "two", "three"), taker.ids());
            assertArrayEquals(utf8("{\"of\":\n\"three\"}"), taker.tried.getLast().it.body());
            entry.over(DONE);
            assertEquals(List.of(), outbox.left(each -> each));
        }
    }

    @Test
    void aNewNumberIsHigherThanAllThatAreThere() throws Exception {
        Path folder = folder();
        for (String name : List.of("000000000041-x.post", "000000000007.call", "99x.post", "notes",
                "9999999999999999999-y.txt")) {
            Files.writeString(folder.resolve(name), "{}");
        }
        Files.writeString(folder.resolve("000000000050-torn.post.new"), "{");
        outbox(folder, NOBODY).begin().put(List.of(delivery("a", "one")), STATE);
        assertEquals(List.of("000000000007.call", "000000000051.call", "000000000052-one.post",
                "9999999999999999999-y.txt", "notes"), names(folder));
    }

    @Test
    void whatCannotBeReadIsPutAside() throws Exception {
        Path folder = folder();
        var odd = Map.of("1-a.post", "one line", "2-b.post", "no JSON\n{}", "3-c.post", "[]\n{}",
                "4-d.post", "{\"lane\":\"a\",\"id\":\"d\"}\n{}", "5.call", "odd", "6.call", "{}");
        for (var each : odd.entrySet()) {
            Files.writeString(folder.resolve(each.getKey()), each.getValue());
        }
        var outbox = new Outbox(folder, NOBODY);
        afterwards(() -> outbox.close(Duration.ZERO));
        assertEquals(List.of(), outbox.left(each -> each.state().getInt("state")));
        assertEquals(List.of(), names(folder));
        assertEquals(odd.keySet(), Set.copyOf(names(folder.resolve("failed"))));
        for (var each : odd.entrySet()) {
            assertEquals(each.getValue(),
                    Files.readString(folder.resolve("failed", each.getKey())));
        }
    }

    @Test
    void whatWaitsIsOnlyOnDiskSoThatItCanBeRemovedThere() throws Exception {
        Path folder = folder();
        var release = new CountDownLatch(1);
        var tried = new ConcurrentLinkedQueue<String>();
        outbox(folder, it -> {
            release.await();
            tried.add(new String(it.body(), StandardCharsets.UTF_8));
            return TAKEN;
        }).begin().put(List.of(delivery("a", "one"), delivery("a", "two"), delivery("a", "three")),
                STATE);
        Files.delete(folder.resolve("000000000003-two.post"));
        Files.writeString(folder.resolve("000000000004-three.post"), "{}\nchanged");
        release.countDown();
        eventually("only the entry stays", () -> names(folder).size() == 1);
        assertEquals(List.of("{\"of\":\n\"one\"}", "changed"), List.copyOf(tried));
    }

    // Attempts.

    @Test
    void itIsTriedAgainUntilItIsTakenAndTheLaneKeepsItsOrder() throws Exception {
        Path folder = folder();
        var taker = new Taker().answers("one", later(0), new Outbox.Later("reset", null), NO);
        var entry = outbox(folder, taker).begin();
        entry.put(List.of(delivery("a", "one")), STATE);
        entry.put(List.of(delivery("a", "two")), STATE);
        eventually("only the entry stays", () -> names(folder).size() == 1);
        assertEquals(List.of("one", "one", "one", "one", "two"), taker.ids());
        for (var each : taker.tried.subList(0, 4)) {
            assertArrayEquals(utf8("{\"of\":\n\"one\"}"), each.it.body());
            assertEquals("/to/one", each.it.path());
            assertEquals("a", each.it.lane());
        }
    }

    @Test
    void theWaitsDoubleUpToHalfAMinute() {
        int[] seconds = {1, 2, 4, 8, 16, 30, 30, 30};
        for (int i = 0; i < seconds.length; i++) {
            assertEquals(seconds[i] * 1_000, wait(i + 2, 0, 0.5));
            assertEquals(seconds[i] * 800, wait(i + 2, 0, 0));
            assertEquals(seconds[i] * 1_200, wait(i + 2, 0, 1));
        }
        assertEquals(500, wait(1, 0, 0.5));
        assertEquals(30_000, wait(1_000_000, 0, 0.5));
        assertEquals(8_000, wait(4, 8_000, 0.5));
        assertEquals(4_000, wait(4, 3_999, 0.5));
    }

    private static long wait(int number, int asked, double random) {
        return Outbox.waitAfter(number, Outbox.FIRST_WAIT, Duration.ofMillis(asked), random)
                .toMillis();
    }

    @Test
    void eachAttemptWaitsItsTime() throws Exception {
        var taker = new Taker().answers("one", NO, later(0), later(0), NO, later(0), later(0),
                new Outbox.Later("reset", null), later(0));
        outbox(folder(), taker).begin().put(List.of(delivery("a", "one")), STATE);
        var slow = new Taker().answers("one", later(0));
        var unless = new Outbox(folder(), slow);
        afterwards(() -> unless.close(Duration.ZERO));
        unless.begin().put(List.of(delivery("a", "one")), STATE);
        eventually("it is taken", () -> taker.tried.size() == 9);
        taker.wereApart("one", 0.8 * FIRST_WAIT.toMillis(), 1, 2, 4, 8, 16, 32, 60, 60);
        eventually("it is taken", () -> slow.tried.size() == 2);
        slow.wereApart("one", 0.8 * 500, 1);
    }

    @Test
    void theOtherSideMayAskForATime() throws Exception {
        var taker = new Taker().answers("one", later(150),
                new Outbox.Refused("no", Duration.ofMillis(250), false));
        outbox(folder(), taker).begin().put(List.of(delivery("a", "one")), STATE);
        eventually("it is taken", () -> taker.tried.size() == 3);
        taker.wereApart("one", 1, 150, 250);
    }

    @Test
    void whatIsRefusedForGoodIsPutAsideAndHoldsUpNothing() throws Exception {
        Path folder = folder();
        var taker = new Taker().answers("one", NO, NO, later(0), NO, NO).answers("two", NEVER)
                .answers("three", NO, NO, NO);
        outbox(folder, taker).begin().put(List.of(delivery("a", "one"), delivery("a", "two"),
                delivery("a", "three")), STATE);
        eventually("only the entry stays", () -> names(folder).size() == 1);
        assertEquals(List.of("one", "one", "one", "one", "one", "two", "three", "three", "three",
                "three"), taker.ids());
        assertEquals(List.of("000000000002-one.post", "000000000003-two.post"),
                names(folder.resolve("failed")));
        assertEquals("{\"lane\":\"a\",\"id\":\"two\",\"path\":\"/to/two\"}\n{\"of\":\n\"two\"}",
                Files.readString(folder.resolve("failed/000000000003-two.post")));
    }

    /// As the log says: whoever moves the file back sends it again.
    @Test
    void whatIsMovedBackIsSentAndNothingElse() throws Exception {
        Path folder = folder();
        var release = new CountDownLatch(1);
        var tried = new ConcurrentLinkedQueue<String>();
        var outbox = outbox(folder, it -> {
            tried.add(it.id());
            if (it.lane().equals("stuck")) {
                release.await();
            }
            return tried.size() <= 2 ? NEVER : TAKEN;
        });
        outbox.begin().put(List.of(delivery("a", "one")), STATE);
        eventually("it is put aside", () -> names(folder.resolve("failed")).size() == 1);
        outbox.begin().put(List.of(delivery("stuck", "two")), STATE);
        eventually("it is tried", () -> tried.size() == 2);
        Files.move(folder.resolve("failed/000000000002-one.post"),
                folder.resolve("000000000002-one.post"));
        eventually("it is taken", () -> names(folder).size() == 3);
        release.countDown();
        eventually("only the entries stay", () -> names(folder).size() == 2);
        assertEquals(List.of("one", "two", "one"), List.copyOf(tried));
    }

    @Test
    void anAttemptThatFailsOddlyIsPutAsideAndHoldsUpNothing() throws Exception {
        Path folder = folder();
        outbox(folder, it -> switch (it.id()) {
            case "one" -> throw new IllegalStateException("odd");
            case "two" -> throw new InterruptedException("odd");
            case "three" -> throw new AssertionError("odd");
            default -> TAKEN;
        }).begin().put(Stream.of("one", "two", "three", "four").map(id -> delivery("a", id))
                .toList(), STATE);
        eventually("only the entry stays", () -> names(folder).size() == 1);
        assertEquals(List.of("000000000002-one.post", "000000000003-two.post",
                "000000000004-three.post"), names(folder.resolve("failed")));
    }

    @Test
    void oneLaneDoesNotWaitForAnother() throws Exception {
        var release = new CountDownLatch(1);
        var taken = new ConcurrentLinkedQueue<String>();
        var entry = outbox(folder(), it -> {
            if (it.lane().equals("stuck")) {
                release.await();
            }
            taken.add(it.id());
            return TAKEN;
        }).begin();
        entry.put(List.of(delivery("stuck", "one")), STATE);    // returns all the same
        entry.put(List.of(delivery("other", "two")), STATE);
        eventually("the other one is taken", () -> taken.contains("two"));
        assertEquals(List.of("two"), List.copyOf(taken));
        release.countDown();
        eventually("both are taken", () -> taken.size() == 2);
    }

    @Test
    void thirtyTwoAttemptsAreMadeAtATime() throws Exception {
        var running = new AtomicInteger();
        var most = new AtomicInteger();
        var mayEnd = new Semaphore(0);
        var ended = new AtomicInteger();
        var entry = outbox(folder(), _ -> {
            most.accumulateAndGet(running.incrementAndGet(), Math::max);
            mayEnd.acquire();
            running.decrementAndGet();
            ended.incrementAndGet();
            return TAKEN;
        }).begin();
        entry.put(IntStream.range(0, 50).mapToObj(i -> delivery("lane " + i, "d" + i)).toList(),
                STATE);
        for (int i = 0; i < 18; i++) {
            int before = i;
            eventually("as many as may", () -> {
                assertTrue(running.get() <= 32);
                return running.get() == 32 && ended.get() == before;
            });
            mayEnd.release();
        }
        mayEnd.release(32);
        eventually("all are taken", () -> ended.get() == 50);
        assertEquals(32, most.get());
    }

    // Entries, and what is left.

    @Test
    void anEntrysFileStaysUntilNothingIsLeftToDo() throws Exception {
        Path folder = folder();
        var outbox = outbox(folder, new Taker());
        var entry = outbox.begin();
        assertEquals(List.of(), names(folder));
        entry.keep(STATE);
        assertEquals(STATE, state(folder, "000000000001.call"));
        entry.keep(NEXT);
        assertEquals(NEXT, state(folder, "000000000001.call"));
        var done = new CompletableFuture<Void>();
        entry.over(done);
        assertEquals(List.of("000000000001.call"), names(folder));
        done.complete(null);
        assertEquals(List.of(), names(folder));
        entry.keep(STATE);      // a late answer does not bring it back
        assertEquals(List.of(), names(folder));
        var forTheNextProcess = outbox.begin();
        forTheNextProcess.keep(STATE);
        forTheNextProcess.over(CompletableFuture.failedFuture(new IOException("still there")));
        assertEquals(List.of("000000000002.call"), names(folder));
    }

    @Test
    void anEntryGivesSignsOfLifeUntilItIsOver() throws Exception {
        Path folder = folder();
        var outbox = outbox(folder, NOBODY);
        var kept = outbox.begin();
        kept.keep(STATE);
        outbox.begin().put(List.of(delivery("a", "one")), STATE);
        var over = outbox.begin();
        over.keep(STATE);
        over.over(CompletableFuture.failedFuture(new IOException("still there")));
        for (int sign = 0; sign < 2; sign++) {
            Instant before = Instant.now().truncatedTo(ChronoUnit.SECONDS);
            for (int file : new int[] {1, 2, 4}) {
                Files.setLastModifiedTime(folder.resolve("00000000000" + file + ".call"),
                        FileTime.from(Instant.EPOCH));
            }
            eventually("signs of life", () -> !seen(folder, 1).isBefore(before)
                    && !seen(folder, 2).isBefore(before));
        }
        assertEquals(Instant.EPOCH, seen(folder, 4));
    }

    private static Instant seen(Path folder, int file) {
        try {
            return Files.getLastModifiedTime(folder.resolve("00000000000" + file + ".call"))
                    .toInstant();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    void anEntryOfADeadProcessIsFound() throws Exception {
        Path folder = folder();
        var dead = outbox(folder, NOBODY);
        dead.begin().put(List.of(delivery("a", "one"), delivery("b", "two"),
                new Delivery("c", "three", "/", utf8("no JSON"))), NEXT);
        dead.begin().keep(STATE);
        dead.close(Duration.ZERO);
        Instant seen = Instant.parse("2026-11-26T06:11:47.753Z");
        Files.setLastModifiedTime(folder.resolve("000000000001.call"), FileTime.from(seen));

        var next = new Outbox(folder, NOBODY);
        afterwards(() -> next.close(Duration.ZERO));
        var left = next.left(each -> each);
        assertEquals(List.of(NEXT, STATE), left.stream().map(Outbox.Left::state).toList());
        assertEquals(seen, left.getFirst().lastSeen());
        assertEquals(List.of(json("{\"of\":\"one\"}")), next.unsent("a"));
        assertEquals(List.of(json("{\"of\":\"two\"}")), next.unsent("b"));
        assertEquals(List.of(), next.unsent("c"));
        left.getFirst().entry().put(List.of(delivery("a", "four")), STATE);
        assertEquals(STATE, state(folder, "000000000001.call"));
        left.forEach(each -> each.entry().over(DONE));
        assertEquals(List.of("000000000002-one.post", "000000000003-two.post",
                "000000000004-three.post", "000000000006-four.post"), names(folder));
    }

    @Test
    void whatIsLeftGoesFirstAndInItsOrder() throws Exception {
        Path folder = folder();
        var before = outbox(folder, NOBODY);
        for (String lane : List.of("a", "b", "c")) {
            var entry = before.begin();
            entry.put(List.of(delivery(lane, lane + 1), delivery(lane, lane + 2)), STATE);
            entry.put(List.of(delivery(lane, lane + 3)), STATE);
            entry.over(DONE);
        }
        before.close(Duration.ZERO);
        assertEquals(9, names(folder).size());
        var taker = new Taker();
        var next = new Outbox(folder, taker, FIRST_WAIT);
        afterwards(() -> next.close(Duration.ZERO));
        assertEquals(List.of(), taker.tried);       // not before it is started
        next.start();
        next.begin().put(List.of(delivery("a", "a4"), delivery("b", "b4"), delivery("c", "c4")),
                STATE);
        eventually("only the entry stays", () -> names(folder).size() == 1);
        for (String lane : List.of("a", "b", "c")) {
            assertEquals(List.of(lane + 1, lane + 2, lane + 3, lane + 4),
                    taker.ids().stream().filter(id -> id.startsWith(lane)).toList());
        }
        assertEquals(12, taker.tried.size());
    }

    @Test
    void oneFolderIsForOneProcess() throws Exception {
        Path folder = folder();
        var first = outbox(folder, NOBODY);
        first.begin().put(List.of(delivery("a", "one")), STATE);
        String said = assertThrows(Outbox.InUse.class,
                () -> new Outbox(folder, NOBODY)).getMessage();
        assertEquals("OUTBOX_DIR " + folder.toAbsolutePath() + " is in use by process "
                + ProcessHandle.current().pid()
                + ": two agents on one machine need an OUTBOX_DIR each", said);
        first.close(Duration.ZERO);
        Files.writeString(folder.resolve("lock"), "a longer number than that of any process");
        outbox(folder, NOBODY);
        assertEquals("" + ProcessHandle.current().pid(),
                Files.readString(folder.resolve("lock")));
        assertEquals(2, names(folder).size());
    }

    // The end.

    @Test
    void theWaitsAreShortWhileItCloses() throws Exception {
        var taker = new Taker();
        var outbox = outbox(folder(), taker);
        for (String lane : List.of("a", "b", "c")) {
            taker.answers(lane + 1, later(60_000), later(60_000), later(60_000), later(60_000));
            outbox.begin().put(List.of(delivery(lane, lane + 1), delivery(lane, lane + 2)), STATE);
        }
        eventually("each was tried", () -> taker.tried.size() == 3);
        outbox.close(SOON);
        assertEquals(18, taker.tried.size());
        for (String id : List.of("a1", "b1", "c1")) {
            taker.wereApart(id, 200, 1, 1, 1, 1);
        }
    }

    @Test
    void closingEndsAtItsBoundAndTheRestStaysOnDisk() throws Exception {
        Path folder = folder();
        var release = new CountDownLatch(1);
        var tried = new ConcurrentLinkedQueue<String>();
        var outbox = outbox(folder, it -> {
            tried.add(it.id());
            if (it.lane().equals("asks")) {
                return later(60_000);
            }
            release.await();
            return TAKEN;
        });
        var entry = outbox.begin();
        entry.put(List.of(delivery("a", "one"), delivery("a", "two")), STATE);
        entry.put(List.of(delivery("asks", "four")), STATE);
        eventually("both are tried", () -> tried.containsAll(List.of("one", "four")));
        long before = System.nanoTime();
        outbox.close(Duration.ofMillis(400));
        assertTrue(System.nanoTime() - before >= 400_000_000);
        int until = tried.size();
        release.countDown();
        eventually("what was being sent is taken", () -> names(folder).size() == 3);
        entry.put(List.of(delivery("b", "three")), NEXT);
        entry.over(DONE);
        assertEquals(List.of("000000000003-two.post", "000000000004-four.post",
                "000000000005-three.post"), names(folder));
        var taker = new Taker();
        outbox(folder, taker);
        eventually("the next one sends the rest", () -> taker.tried.size() == 3);
        assertTrue(tried.size() <= until + 1, "it was tried after the end");  // 1: just begun
        assertEquals(Set.of("one", "four"), Set.copyOf(tried));
    }

    @Test
    void closingEndsWhenNothingWaits() throws Exception {
        var idle = outbox(folder(), NOBODY);
        var taker = new Taker().answers("one", later(0), later(0), later(0));
        var busy = outbox(folder(), taker, Duration.ofMillis(200));
        busy.begin().put(List.of(delivery("a", "one")), STATE);
        long before = System.nanoTime();
        idle.close(Duration.ofSeconds(20));
        busy.close(Duration.ofSeconds(20));
        assertTrue(System.nanoTime() - before < SOON.toNanos(), "waited for its bound");
        assertEquals(4, taker.tried.size());
    }

    /// The log of an hour without a CRM is short. Other lines say what somebody has to do. No line
    /// has a delivery's path, which may hold somebody's id.
    @Test
    @Tag(Runner.ALONE)
    void theLogSaysWhatIsInTheWayAndWhatToDo() throws Exception {
        Path folder = folder();
        var before = outbox(folder, new Taker().answers("log-0", later(60_000)));
        before.begin().put(List.of(delivery("a", "log-0")), STATE);
        before.close(Duration.ZERO);
        var taker = new Taker().answers("log-0", Collections.nCopies(9, later(0))
                .toArray(Outcome[]::new)).answers("log-1", NEVER).answers("log-2", later(7_000))
                .answers("log-3", new Outbox.Later("reset", null), NEVER);
        var log = new Written();
        try (log) {
            var quotes = new AtomicInteger();
            var outbox = outbox(folder, it -> {
                if (!it.id().equals("log-7")) {
                    return taker.make(it);
                }
                var quoting = new IOException("POST https://crm.example" + it.path());
                if (quotes.incrementAndGet() == 1) {
                    throw quoting;
                }
                throw new IllegalStateException(quoting);
            });
            for (String each : List.of("6-log-3", "7-log-4")) {     // they do not come to the disk
                Files.createDirectory(folder.resolve("00000000000" + each + ".post.new"));
            }
            eventually("log-0", () -> log.toString().contains("after all"));
            var entry = outbox.begin();
            entry.put(List.of(delivery("a", "log-1")), STATE);
            eventually("log-1", () -> log.toString().contains("mv "));
            entry.put(List.of(delivery("c", "log-2")), STATE);
            eventually("log-2", () -> log.toString().contains(" 7000 ms"));
            entry.put(List.of(delivery("b", "log-3")), STATE);
            eventually("log-3", () -> log.toString().contains("NOT DELIVERED: log-3"));
            entry.put(List.of(delivery("c", "log-4")), STATE);
            entry.put(List.of(delivery("c", "log-5"), delivery("d", "log-6")), STATE);
            eventually("log-6", () -> taker.ids().contains("log-6"));   // has no line
            entry.put(List.of(delivery("e", "log-7")), STATE);
            eventually("log-7", () -> log.toString().contains("log-7.post"));
            taker.answers("log-2", Collections.nCopies(9_999, later(0)).toArray(Outcome[]::new));
            outbox.close(Duration.ofSeconds(1));
            var noDisk = outbox(folder.resolve("lock/outbox"), taker);      // "lock" is a file
            noDisk.begin().keep(STATE);
            noDisk.close(SOON);                             // nothing is waiting: no line
        }
        // Without the times, the calls and the colours.
        assertEquals("""
                1 deliveries of before go first
                not delivered yet: log-0: later; ..
                not delivered yet: log-0: later; ..
                not delivered yet: log-0: later; ..
                not delivered yet: log-0: later; ..
                delivered log-0 after all
                NOT DELIVERED: log-1: never
                log-1 is put aside. To send it again:  mv F/failed/000000000004-log-1.post F/
                not delivered yet: log-2: later; again in 7000 ms
                NOT ON DISK, a crash would lose it: the delivery log-3: ..
                not delivered yet: log-3: no answer: IOException: reset; ..
                NOT DELIVERED: log-3: never
                NOT ON DISK, a crash would lose it: the delivery log-4: ..
                not delivered yet: log-7: no answer: IOException; ..
                NOT DELIVERED: log-7: IllegalStateException
                log-7 is put aside. To send it again:  mv F/failed/000000000010-log-7.post F/
                what is still to be delivered has 1 s
                2 deliveries stay in F and go at the next start
                NOT DELIVERED, and not on disk: log-4
                NOT ON DISK, a crash would lose it: OUTBOX_DIR F/lock/outbox: ..
                OUTBOX_DIR cannot be read: ..
                NOT ON DISK, a crash would lose it: the entry 000000000001.call: ..
                cannot be deleted, and comes again at the next start: ..
                """, log.toString().replaceAll("\033\\[[0-9;]*m", "")
                        .replaceAll("(?m)^.{32}", "").replace("" + folder, "F")
                        .replaceAll("again in [0-9]{1,3} ms", "..")
                        .replaceAll(": (F/lock.*call.new: )?[A-Z]\\w+Exception: F.*", ": .."));
    }
}
