package trials;

import module java.base;
import delivery.Outbox;
import delivery.Outbox.Delivery;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

/// The folder of an outbox, in which another user of the machine has planted something: nothing of
/// theirs is sent in our name, nothing elsewhere is read or changed, and the outbox goes on.
public final class FolderTest extends Stand {
    private static final JsonObject STATE = json("{\"state\":1}"), NEXT = json("{\"state\":2}");
    private static final String ENTRY = "000000000001.call";    // of the first entry that begins
    private static final int STRANGER = 54_321;                 // a user

    private final List<String> sent = new CopyOnWriteArrayList<>();     // "ID BODY"

    private Outbox.Outcome take(Delivery it) {
        sent.add(it.id() + " " + new String(it.body(), StandardCharsets.UTF_8));
        return new Outbox.Taken();
    }

    private Outbox unstarted(Path folder) throws Exception {
        var outbox = new Outbox(folder, this::take, Duration.ofMillis(2));
        afterwards(() -> outbox.close(Duration.ZERO));
        return outbox;
    }

    private Outbox outbox(Path folder) throws Exception {
        Outbox outbox = unstarted(folder);
        outbox.start();
        return outbox;
    }

    private static Delivery delivery(String id) {
        return new Delivery("lane", id, "/to", utf8(id));
    }

    /// A delivery's file, as the outbox writes it.
    private static Path file(Path folder, String name, String id) throws IOException {
        Path file = folder.resolve(name);
        Files.writeString(file, "{\"lane\":\"lane\",\"id\":\"" + id + "\",\"path\":\"/to\"}\nbody");
        return chmod("rw-------", file);
    }

    private static Path chmod(String permissions, Path file) throws IOException {
        return Files.setPosixFilePermissions(file, PosixFilePermissions.fromString(permissions));
    }

    private static void giveAway(Path file) throws IOException {
        boolean given = true;
        try {
            Files.setAttribute(file, "unix:uid", STRANGER);
        } catch (FileSystemException e) {
            given = false;
        }
        assumeTrue(given, "only root can make a file that another user owns");
    }

    private static void fifo(Path file) throws Exception {
        assertEquals(0, new ProcessBuilder("mkfifo", file.toString()).start().waitFor());
    }

    /// What blocks on a FIFO can only be left behind.
    private static <T> T soon(Callable<T> call) throws Exception {
        var result = new CompletableFuture<T>();
        Thread.ofPlatform().daemon().start(() -> {
            try {
                result.complete(call.call());
            } catch (Throwable e) {
                result.completeExceptionally(e);
            }
        });
        return result.get(SOON.toSeconds(), TimeUnit.SECONDS);
    }

    private static boolean exists(Path file) {
        return Files.exists(file, LinkOption.NOFOLLOW_LINKS);
    }

    // Files of others.

    /// Nothing is sent before `mend`, although the outbox looks into the folder at its start and
    /// later. Then the same process sends it.
    private void isSentOnceItIsMended(Callable<?> spoil, Callable<?> mend, Path folder)
            throws Exception {
        Path old = file(folder, "000000000001-old.post", "old");
        spoil.call();
        outbox(folder);
        file(folder, "000000000002-good.post", "good");
        eventually("the outbox has looked", () -> sent.contains("good body"));
        assertEquals(List.of("good body"), sent);
        assertTrue(Files.exists(old));
        mend.call();
        eventually("it is sent", () -> sent.contains("old body"));
        eventually("it is away", () -> names(folder).isEmpty());
    }

    @Test
    void aDeliveryThatEverybodyMayWriteIsSentOnceThatIsMended() throws Exception {
        Path folder = folder(), file = folder.resolve("000000000001-old.post");
        isSentOnceItIsMended(() -> chmod("rw-----w-", file), () -> chmod("rw-------", file),
                folder);
    }

    @Test
    void aDeliveryOfAnotherOwnerIsSentOnceThatIsMended() throws Exception {
        Path folder = folder(), file = folder.resolve("000000000001-old.post");
        UserPrincipal we = Files.getOwner(folder);
        isSentOnceItIsMended(() -> {
            giveAway(file);
            return file;
        }, () -> Files.setOwner(file, we), folder);
    }

    @Test
    void anEntryThatEverybodyMayWriteIsLeftForTheNextStart() throws Exception {
        Path folder = folder(), file = folder.resolve("000000000007.call");
        Files.writeString(file, NEXT.toString());
        chmod("rw-rw-rw-", file);
        Outbox outbox = outbox(folder);
        assertEquals(List.of(), outbox.left(Outbox.Left::state));
        outbox.begin().keep(STATE);
        assertEquals(List.of("000000000007.call", "000000000008.call"), names(folder));
        assertEquals(List.of(), names(folder.resolve("failed")));
        outbox.close(Duration.ZERO);
        chmod("rw-r--r--", file);
        assertEquals(List.of(NEXT, STATE), outbox(folder).left(Outbox.Left::state));
    }

    @Test
    void anEntryOfAnotherOwnerIsNotRead() throws Exception {
        Path folder = folder(), file = folder.resolve("000000000007.call");
        Files.writeString(file, NEXT.toString());
        giveAway(file);
        assertEquals(List.of(), outbox(folder).left(Outbox.Left::state));
        assertTrue(Files.exists(file));
    }

    /// The outbox has looked at the file, and reads it when its turn comes.
    @Test
    void whatIsExchangedWhileItWaitsIsNotSentEither() throws Exception {
        Path folder = folder(), elsewhere = file(folder(), "elsewhere", "theirs");
        var release = new CountDownLatch(1);
        var outbox = new Outbox(folder, it -> {
            release.await();
            return take(it);
        });
        afterwards(() -> outbox.close(Duration.ZERO));
        outbox.start();
        outbox.begin().put(Stream.of("one", "two", "three", "four").map(FolderTest::delivery)
                .toList(), STATE);
        Path two = folder.resolve("000000000003-two.post");
        Path three = folder.resolve("000000000004-three.post");
        Files.delete(two);
        Files.createSymbolicLink(two, elsewhere);
        chmod("rw-rw-rw-", three);
        release.countDown();
        eventually("the lane goes on", () -> sent.contains("four four"));
        assertEquals(List.of("one one", "four four"), sent);
        assertTrue(exists(two) && exists(three));
        chmod("rw-------", three);
        eventually("it is mended", () -> sent.contains("three three"));
    }

    @Test
    void theLockOfOthersLocksButIsNotRead() throws Exception {
        Path folder = folder(), lock = folder.resolve("lock");
        Files.writeString(lock, "their words");
        chmod("rw-rw-rw-", lock);
        outbox(folder);
        assertEquals("their words", Files.readString(lock));
        String said = assertThrows(Outbox.InUse.class, () -> outbox(folder)).getMessage();
        assertEquals("OUTBOX_DIR " + folder + " is in use by another process: two agents on one "
                + "machine need an OUTBOX_DIR each", said);
    }

    // Links, and what is no file.

    /// Files elsewhere, which would be read, cut off, touched or moved if a link was followed. When
    /// the test is over, they are as they were.
    private Path elsewhere() throws Exception {
        Path elsewhere = folder();
        file(elsewhere, "post", "theirs");
        for (String name : List.of("call", "lock", "part")) {
            Files.writeString(elsewhere.resolve(name), NEXT.toString());
        }
        Files.createDirectory(elsewhere.resolve("failed"));
        for (String name : names(elsewhere)) {
            Files.setLastModifiedTime(elsewhere.resolve(name), FileTime.from(Instant.EPOCH));
        }
        Map<String, String> before = contents(elsewhere);
        afterwards(() -> assertEquals(before, contents(elsewhere)));
        return elsewhere;
    }

    private static Map<String, String> contents(Path folder) throws IOException {
        var contents = new TreeMap<String, String>();
        try (var all = Files.walk(folder)) {
            for (Path each : all.filter(Files::isRegularFile).toList()) {
                contents.put(each.toString(),
                        Files.readString(each) + " " + Files.getLastModifiedTime(each));
            }
        }
        return contents;
    }

    private static void link(Path folder, String name, Path to) throws IOException {
        Files.createSymbolicLink(folder.resolve(name), to);
    }

    @Test
    void noLinkThatLiesThereAtTheStartIsFollowed() throws Exception {
        Path folder = folder(), elsewhere = elsewhere();
        link(folder, "1-x.post", elsewhere.resolve("post"));
        link(folder, "000000000041.call", elsewhere.resolve("call"));
        link(folder, "lock", elsewhere.resolve("lock"));
        link(folder, "failed", elsewhere.resolve("failed"));
        var outbox = new Outbox(folder, it -> it.id().equals("bad")
                ? new Outbox.Refused("never", Duration.ZERO, true) : take(it));
        afterwards(() -> outbox.close(Duration.ZERO));
        assertEquals(List.of(), outbox.left(Outbox.Left::state));
        outbox.start();
        outbox.begin().put(List.of(delivery("bad"), delivery("good")), STATE);
        eventually("the lane goes on", () -> sent.contains("good good"));
        assertEquals(List.of("good good"), sent);
        // The link has kept its name and number; what was refused is not in the other folder.
        eventually("it is away", () -> names(folder).size() == 4);
        assertEquals(List.of("000000000041.call", "000000000042.call", "000000000043-bad.post",
                "1-x.post"), names(folder));
        assertTrue(Files.isSymbolicLink(folder.resolve("000000000041.call")));
    }

    @Test
    void whatHasTheNameOfAnUnfinishedFileIsReplaced() throws Exception {
        Path folder = folder(), elsewhere = elsewhere();
        Outbox outbox = outbox(folder);
        Path[] parts = IntStream.rangeClosed(1, 4).mapToObj(
                i -> folder.resolve("00000000000" + i + ".call.new")).toArray(Path[]::new);
        Files.createSymbolicLink(parts[0], elsewhere.resolve("part"));
        Files.createLink(parts[1], elsewhere.resolve("part"));
        fifo(parts[2]);
        Files.writeString(parts[3], "theirs");
        chmod("rw-rw-rw-", parts[3]);
        for (int i = 0; i < parts.length; i++) {
            var entry = outbox.begin();
            soon(() -> {
                entry.keep(STATE);
                return entry;
            });
            Path call = folder.resolve("00000000000" + (i + 1) + ".call");
            assertTrue(Files.isRegularFile(call, LinkOption.NOFOLLOW_LINKS), call.toString());
            assertEquals(STATE, json(Files.readString(call)));
            assertEquals("rw-------",
                    PosixFilePermissions.toString(Files.getPosixFilePermissions(call)));
        }
    }

    @Test
    void whatIsNoFileNeverBlocks() throws Exception {
        Path folder = folder();
        for (String name : List.of("1-x.post", "000000000041.call", "5.call.new")) {
            fifo(folder.resolve(name));
        }
        Files.createDirectories(folder.resolve("2-y.post/x"));
        Files.createDirectories(folder.resolve("0.call.new/x"));
        file(folder, "3-good.post", "good");
        Outbox outbox = soon(() -> outbox(folder));
        assertEquals(List.of(), soon(() -> outbox.left(Outbox.Left::state)));
        eventually("the good one is sent", () -> sent.equals(List.of("good body")));
        outbox.begin().keep(STATE);
        assertEquals(List.of("000000000042.call"), names(folder));
        for (String name : List.of("1-x.post", "000000000041.call", "2-y.post")) {
            assertTrue(exists(folder.resolve(name)), name);
        }
    }

    @Test
    void aLockThatIsNoFileNeverBlocks() throws Exception {
        Path folder = folder();
        Files.writeString(folder.resolve("000000000041.call"), NEXT.toString());
        fifo(folder.resolve("lock"));
        Outbox outbox = soon(() -> outbox(folder));
        outbox.begin().keep(STATE);
        assertEquals(List.of(NEXT, STATE), outbox.left(Outbox.Left::state));
    }

    @Test
    void aLockThatIsAFileElsewhereStaysAsItIs() throws Exception {
        Path folder = folder();
        Files.createLink(folder.resolve("lock"), elsewhere().resolve("lock"));
        outbox(folder);
        assertThrows(Outbox.InUse.class, () -> outbox(folder));
    }

    @Test
    void signsOfLifeBlockOnNothingAndTouchNothingElsewhere() throws Exception {
        Path folder = folder();
        Outbox outbox = outbox(folder);
        for (int i = 0; i < 3; i++) {
            outbox.begin().keep(STATE);
        }
        Path one = folder.resolve("000000000001.call"), two = folder.resolve("000000000002.call");
        Files.delete(one);
        Files.createSymbolicLink(one, elsewhere().resolve("call"));
        Files.delete(two);
        fifo(two);
        Path three = folder.resolve("000000000003.call");
        for (int i = 0; i < 3; i++) {       // with the second sign, the others have had one, too
            Files.setLastModifiedTime(three, FileTime.from(Instant.EPOCH));
            eventually("a sign of life", () -> three.toFile().lastModified() > 0);
        }
    }

    @Test
    void theFolderItselfMayBeALink() throws Exception {
        Path folder = folder(), link = folder().resolve("link");
        Files.createSymbolicLink(link, folder);
        file(folder, "1-old.post", "old");
        outbox(link).begin().put(List.of(delivery("new")), STATE);
        eventually("both are sent", () -> sent.equals(List.of("old body", "new new")));
        assertTrue(Files.isDirectory(folder.resolve("failed")));
    }

    // The log.

    @Test
    @Tag(Runner.ALONE)
    void theLogSaysOnceWhatMendsIt() throws Exception {
        Path folder = folder();
        chmod("rwxrwxrwx", folder);
        chmod("rw-----w-", file(folder, "000000000001-x.post", "x"));
        chmod("rw-----w-", file(folder, "2; rm -r x'.post", "y"));
        chmod("rw-----w-", file(folder, "3.call", "z"));
        Files.createDirectory(folder.resolve("4.call"));
        var log = new Written();
        try (log) {
            Outbox outbox = unstarted(folder);
            outbox.left(Outbox.Left::state);
            outbox.left(Outbox.Left::state);        // it looks again
        }
        String unread = "NOT READ: F/%s: somebody else may have written it. If you trust it%s:  "
                + "chmod 600 %s\n";
        assertEquals("everybody on this machine may write in OUTBOX_DIR. This mends it:  chmod o-w "
                + "F\n" + unread.formatted("000000000001-x.post", "", "F/000000000001-x.post")
                + unread.formatted("2; rm -r x'.post", "", "'F/2; rm -r x'\\''.post'")
                + unread.formatted("3.call", ", before the next start", "F/3.call")
                + "NOT READ: F/4.call is no regular file\n",
                log.toString().replaceAll("\033\\[[0-9;]*m", "").replaceAll("(?m)^.{32}", "")
                        .replace("" + folder, "F"));
    }

    @Test
    @Tag(Runner.ALONE)
    void theLogSaysWhoHasToOwnIt() throws Exception {
        Path folder = folder(), file = file(folder, "1-x.post", "x");
        giveAway(file);
        var log = new Written();
        try (log) {
            unstarted(folder);
        }
        assertTrue(log.toString().contains("  chown " + Files.getOwner(folder).getName() + " "
                + file + " && chmod 600 " + file), log.toString());
    }
}
