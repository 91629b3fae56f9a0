package trials;

import module java.base;
import delivery.Outbox;
import delivery.Outbox.Delivery;
import delivery.Outbox.Outcome;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// delivery/: what was put into the outbox stays on disk until it is taken, in the order of its
/// lane, however often that takes. The other side is a script here; AgentTest has the real
/// requests.
public final class OutboxTest extends Stand {
    private static final Outcome TAKEN = new Outbox.Taken();
    private static final CompletableFuture<Void> DONE = CompletableFuture.completedFuture(null);
    private static final JsonObject STATE = json("{\"state\":1}");

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
            if (next instanceof Outbox.Later(var why, _) && why.equals("no answer")) {
                throw new IOException("no answer");
            }
            return next == null ? TAKEN : next;
        }

        List<String> ids() {
            return tried.stream().map(each -> each.it.id()).toList();
        }
    }

    private static final Outbox.Attempt NOBODY = _ -> {
        throw new ConnectException("nobody is there");
    };

    private static Outcome later(int ms) {
        return new Outbox.Later("later", Duration.ofMillis(ms));
    }

    private Outbox outbox(Path folder, Outbox.Attempt attempt) throws Exception {
        var outbox = new Outbox(folder, attempt);
        outbox.start();
        afterwards(() -> outbox.close(Duration.ZERO));
        return outbox;
    }

    private static Delivery delivery(String lane, String id) {
        return new Delivery(lane, id, "/to/" + id, utf8("{\"of\":\n\"" + id + "\"}"));
    }

    @Test
    void whatIsPutIsOnDiskWhenPutReturns() throws Exception {
        Path folder = folder();
        outbox(folder, NOBODY).begin().put(
                List.of(delivery("a", "one"), delivery("b", "two")), STATE);
        List<String> files = names(folder);
        assertEquals(List.of("000000000001.call", "000000000002-one.post",
                "000000000003-two.post"), files);
        for (String file : files) {
            assertEquals("rw-------", PosixFilePermissions.toString(
                    Files.getPosixFilePermissions(folder.resolve(file))));
        }
        assertEquals("rwx------",
                PosixFilePermissions.toString(Files.getPosixFilePermissions(folder)));
        assertEquals("{\"lane\":\"a\",\"id\":\"one\",\"path\":\"/to/one\"}\n{\"of\":\n\"one\"}",
                Files.readString(folder.resolve(files.get(1))));
        assertEquals(STATE, json(Files.readString(folder.resolve(files.get(0)))));
    }

    @Test
    void itIsTriedAgainUntilItIsTakenAndTheLaneKeepsItsOrder() throws Exception {
        Path folder = folder();
        var taker = new Taker().answers("one", later(0), new Outbox.Later("no answer", null),
                new Outbox.Refused("not now", Duration.ZERO, false));
        var outbox = outbox(folder, taker);
        var entry = outbox.begin();
        entry.put(List.of(delivery("a", "one")), STATE);
        entry.put(List.of(delivery("a", "two")), STATE);
        eventually("both are taken", () -> taker.tried.size() == 5);
        assertEquals(List.of("one", "one", "one", "one", "two"), taker.ids());
        for (var each : taker.tried.subList(0, 4)) {
            assertArrayEquals(utf8("{\"of\":\n\"one\"}"), each.it.body());
            assertEquals("/to/one", each.it.path());
        }
        eventually("only the entry stays", () -> names(folder).size() == 1);
        var hangingUp = new CompletableFuture<Void>();
        entry.over(hangingUp);
        assertEquals(1, names(folder).size());
        hangingUp.complete(null);
        assertEquals(List.of(), names(folder));
        var forTheNextProcess = outbox.begin();
        forTheNextProcess.keep(STATE);
        forTheNextProcess.over(CompletableFuture.failedFuture(new IOException("still there")));
        assertEquals(1, names(folder).size());
    }

    @Test
    void theWaitsGrow() throws Exception {
        var taker = new Taker().answers("one", later(0), later(0), later(0));
        outbox(folder(), taker).begin().put(List.of(delivery("a", "one")), STATE);
        eventually("it is taken", () -> taker.tried.size() == 4);
        long[] least = {400, 800, 1_600};
        for (int i = 0; i < least.length; i++) {
            long ms = (taker.tried.get(i + 1).atNanos - taker.tried.get(i).atNanos) / 1_000_000;
            assertTrue(ms >= least[i], "wait " + i + ": " + ms + " ms");
        }
    }

    @Test
    void theOtherSideMayAskForATime() throws Exception {
        for (Outcome asking : List.of(later(1_500),
                new Outbox.Refused("no", Duration.ofMillis(1_500), false))) {
            var taker = new Taker().answers("one", asking);
            outbox(folder(), taker).begin().put(List.of(delivery("a", "one")), STATE);
            eventually("it is taken", () -> taker.tried.size() == 2);
            long ms = (taker.tried.get(1).atNanos - taker.tried.get(0).atNanos) / 1_000_000;
            assertTrue(ms >= 1_500, asking + ": " + ms + " ms");
        }
    }

    @Test
    void whatIsRefusedForGoodIsPutAsideAndHoldsUpNothing() throws Exception {
        Path folder = folder();
        Outcome refused = new Outbox.Refused("no", Duration.ZERO, false);
        var taker = new Taker().answers("one", refused, refused, refused, refused)
                .answers("two", new Outbox.Refused("never", Duration.ZERO, true))
                .answers("three", later(0));
        outbox(folder, taker).begin().put(List.of(delivery("a", "one"), delivery("a", "two"),
                delivery("a", "three")), STATE);
        eventually("the last one is taken", () -> taker.tried.size() == 7);
        assertEquals(List.of("one", "one", "one", "one", "two", "three", "three"), taker.ids());
        List<String> aside = names(folder.resolve("failed"));
        assertEquals(List.of("000000000002-one.post", "000000000003-two.post"), aside);
        eventually("only the entry stays", () -> names(folder).size() == 1);

        // As the log says: whoever moves the file back sends it again.
        Files.move(folder.resolve("failed").resolve(aside.getFirst()),
                folder.resolve(aside.getFirst()));
        eventually("it is sent again", () -> taker.tried.size() == 8);
        assertArrayEquals(utf8("{\"of\":\n\"one\"}"), taker.tried.getLast().it.body());
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
        outbox(folder, taker);
        eventually("all are taken", () -> taker.tried.size() == 9);
        for (String lane : List.of("a", "b", "c")) {
            assertEquals(List.of(lane + 1, lane + 2, lane + 3),
                    taker.ids().stream().filter(id -> id.startsWith(lane)).toList());
        }
        eventually("nothing is left", () -> names(folder).isEmpty());
    }

    @Test
    void anEntryOfADeadProcessIsFoundWithItsLastSignOfLife() throws Exception {
        Path folder = folder();
        var outbox = outbox(folder, NOBODY);
        var lasting = outbox.begin();
        lasting.keep(STATE);
        lasting.put(List.of(delivery("a", "one"), delivery("b", "two"), new Delivery(
                "c", "three", "/", utf8("no JSON"))), json("{\"state\":2}"));
        var over = outbox.begin();
        over.keep(STATE);
        over.over(DONE);
        over.keep(STATE);       // a late answer does not bring it back
        Instant put = Instant.now();
        Path file = folder.resolve("000000000001.call");
        eventually("signs of life", () -> {
            try {
                return Files.getLastModifiedTime(file).toInstant().isAfter(put.plusMillis(1_500));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });

        // The lock of a dead process is nobody's. This process lives, so its files are copied.
        Path copy = folder();
        for (String name : names(folder)) {
            Files.copy(folder.resolve(name), copy.resolve(name),
                    StandardCopyOption.COPY_ATTRIBUTES);
        }
        Files.writeString(copy.resolve("000000000009-torn.post.new"), "{");
        Files.writeString(copy.resolve("000000000009-odd.post"), "odd");
        Files.writeString(copy.resolve("000000000008.call"), "odd");
        Files.writeString(copy.resolve("000000000009.call"), "{}");
        var next = new Outbox(copy, NOBODY);
        afterwards(() -> next.close(Duration.ZERO));
        var left = next.left(each -> {
            each.state().getInt("state");       // throws where there is none
            return each;
        });
        assertEquals(List.of(json("{\"state\":2}")),
                left.stream().map(Outbox.Left::state).toList());
        assertTrue(left.getFirst().lastSeen().isAfter(put.plusMillis(1_000)), "" + left);
        assertEquals(List.of(json("{\"of\":\"one\"}")), next.unsent("a"));
        assertEquals(List.of(), next.unsent("c"));
        assertEquals(List.of("000000000008.call", "000000000009-odd.post", "000000000009.call"),
                names(copy.resolve("failed")));
        left.getFirst().entry().over(DONE);
        assertEquals(List.of("000000000002-one.post", "000000000003-two.post",
                "000000000004-three.post"), names(copy));
    }

    @Test
    void oneFolderIsForOneProcess() throws Exception {
        Path folder = folder();
        var first = outbox(folder, NOBODY);
        String said = assertThrows(Outbox.InUse.class,
                () -> new Outbox(folder, NOBODY)).getMessage();
        assertTrue(said.contains("in use by process " + ProcessHandle.current().pid()), said);
        first.close(Duration.ZERO);
        outbox(folder, NOBODY);
    }

    @Test
    void withoutADiskItGoesOnFromMemory() throws Exception {
        Path file = Files.createFile(folder().resolve("file"));
        Path gone = folder();
        for (Path folder : List.of(file.resolve("outbox"), gone)) {
            var taker = new Taker().answers("one", later(0));
            var entry = outbox(folder, taker).begin();
            if (folder == gone) {
                delete(gone);
            }
            entry.put(List.of(delivery("a", "one")), STATE);
            entry.put(List.of(delivery("a", "two")), STATE);
            eventually("both are taken", () -> taker.tried.size() == 3);
            assertArrayEquals(utf8("{\"of\":\n\"two\"}"), taker.tried.getLast().it.body());
            entry.over(DONE);
        }
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
    void anAttemptThatFailsOddlyIsPutAside() throws Exception {
        Path folder = folder();
        var outbox = outbox(folder, _ -> {
            throw new IllegalStateException("odd");
        });
        outbox.begin().put(List.of(delivery("a", "one")), STATE);
        eventually("it is put aside", () -> names(folder.resolve("failed")).size() == 1);
    }

    @Test
    void closingDeliversWhatIsWaitingAndDoesNotWaitForLong() throws Exception {
        var taker = new Taker();
        var outbox = outbox(folder(), taker);
        for (String lane : List.of("a", "b", "c")) {
            taker.answers(lane + 1, later(60_000), later(60_000));
            outbox.begin().put(List.of(delivery(lane, lane + 1), delivery(lane, lane + 2)), STATE);
        }
        eventually("each was tried", () -> taker.tried.size() == 3);
        outbox.close(SOON);
        assertEquals(12, taker.tried.size());
    }
}
