package delivery;

import module java.base;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import voice.Log;

/// The folder of an Outbox: a file for each delivery (`.post`) and for each entry (`.call`).
///
/// A file is never there in part: it is written under another name, forced to the disk, and
/// renamed. The first line of a delivery's file says where the delivery goes, as JSON. The rest is
/// the body, byte for byte. A name begins with a number, so the order of the names is the order of
/// the deliveries.
///
/// When the disk does not take something, the log says so, and the program goes on without the
/// disk. Not handled: a disk that loses what it has confirmed.
///
/// What lies here is signed and sent in our name. So a file that somebody else may have written is
/// not read, and no link is followed. Only the folder itself may be a link. Not handled: somebody
/// who may write the folder, and who exchanges a file between our look at it and our reading.
final class Folder {
    private static final FileAttribute<Set<PosixFilePermission>> OUR_FILE =
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));
    private static final FileAttribute<Set<PosixFilePermission>> OUR_FOLDER =
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
    private static final LinkOption NOFOLLOW = LinkOption.NOFOLLOW_LINKS;
    private static final Pattern NUMBER = Pattern.compile("([0-9]{1,18})\\b.*");
    private static final String ENTRY = ".call";
    private static final String DELIVERY = ".post";
    private static final String UNFINISHED = ".new";

    /// A delivery whose body is in this file. When the disk has not taken the body, `file` is null,
    /// and the body is in memory.
    record Stored(String file, Outbox.Delivery delivery) {}

    /// Somebody else may have written the file. The log has said so, and the file stays.
    static final class NotOurs extends IOException {
        private static final long serialVersionUID = 1;

        NotOurs(String file) {
            super("not read: " + file);
        }
    }

    final Path path;
    private final Path failed;
    private final AtomicLong numbers = new AtomicLong();
    private final Set<String> known = ConcurrentHashMap.newKeySet();    // files of deliveries
    private final Set<String> said = ConcurrentHashMap.newKeySet();     // files that are not read
    private volatile PosixFileAttributes ours;                          // null: not known yet
    private FileChannel lock;

    Folder(Path path) throws Outbox.InUse {
        this.path = path;
        failed = path.resolve("failed");
        boolean locked = false;
        try {
            Files.createDirectories(path, OUR_FOLDER);
            if (anybodyMayWrite(Files.readAttributes(path, PosixFileAttributes.class))) {
                Log.log("", "everybody on this machine may write in OUTBOX_DIR. This mends it:  "
                        + "chmod o-w " + word(path));
            }
            lock();
            locked = true;
            Files.createDirectories(failed, OUR_FOLDER);
        } catch (IOException e) {
            notOnDisk("OUTBOX_DIR " + path.toAbsolutePath(), e);
        }
        try {
            for (String each : names("")) {
                if (locked && each.endsWith(UNFINISHED)) {
                    remove(each);       // a crash came before it was complete
                }
                Matcher number = NUMBER.matcher(each);
                if (number.matches()) {
                    numbers.accumulateAndGet(Long.parseLong(number.group(1)), Math::max);
                }
            }
        } catch (IOException e) {
            // newDeliveries logs it.
        }
    }

    private void lock() throws IOException, Outbox.InUse {
        Path file = path.resolve("lock");
        lock = FileChannel.open(file, Set.of(StandardOpenOption.CREATE, StandardOpenOption.READ,
                StandardOpenOption.WRITE, NOFOLLOW), OUR_FILE);
        FileLock got = null;
        try {
            got = lock.tryLock();
        } catch (OverlappingFileLockException e) {
            // Another Outbox of this process has it.
        }
        if (got == null) {
            String by = "another process";
            try {
                if (isOurs("lock")) {
                    var pid = ByteBuffer.allocate(20);
                    lock.read(pid, 0);
                    by = "process " + new String(
                            pid.array(), 0, pid.position(), StandardCharsets.UTF_8).strip();
                }
            } catch (IOException e) {
                // It is in use all the same.
            }
            lock.close();
            throw new Outbox.InUse("OUTBOX_DIR " + path.toAbsolutePath() + " is in use by " + by
                    + ": two agents on one machine need an OUTBOX_DIR each");
        }
        ours = ours();
        // A file with two names may be one that belongs elsewhere. It locks all the same.
        if (isOurs("lock") && Files.getAttribute(file, "unix:nlink", NOFOLLOW).equals(1)) {
            lock.truncate(0);
            lock.write(ByteBuffer.wrap(("" + ProcessHandle.current().pid()).getBytes()), 0);
        }
    }

    void close() {
        try {
            if (lock != null) {
                lock.close();
            }
        } catch (IOException e) {
            // The end of the process gives the lock back, too.
        }
    }

    private static void notOnDisk(String what, IOException e) {
        Log.log("", "NOT ON DISK, a crash would lose it: " + what + ": " + Log.reason(e)
                + "; free the disk, make it writable, or set OUTBOX_DIR to another");
    }

    /// The names of all files with this ending, in order.
    private List<String> names(String suffix) throws IOException {
        try (var all = Files.list(path)) {
            return all.map(each -> each.getFileName().toString())
                    .filter(name -> name.endsWith(suffix)).sorted().toList();
        }
    }

    // Writing.

    /// Writes deliveries and an entry's file. They are on disk when this returns. They have come
    /// there in this order, so no crash leaves the entry's file there without the deliveries.
    List<Stored> put(List<Outbox.Delivery> deliveries, String entry, JsonObject state) {
        var files = new ArrayList<String>();
        var stored = new ArrayList<Stored>();
        try {
            for (Outbox.Delivery each : deliveries) {
                String file = "%012d-%s%s".formatted(
                        numbers.incrementAndGet(), each.id(), DELIVERY);
                files.add(file);
                known.add(file);        // before `newDeliveries` can see the file
                String head = Json.createObjectBuilder().add("lane", each.lane())
                        .add("id", each.id()).add("path", each.path()).build() + "\n";
                write(file, head.getBytes(StandardCharsets.UTF_8), each.body());
                stored.add(new Stored(file, each.without()));
            }
            files.add(entry);
            write(entry, state.toString().getBytes(StandardCharsets.UTF_8));
            for (String file : files) {
                appear(file);
            }
            forceNames();
            return stored;
        } catch (IOException e) {
            notOnDisk("the delivery " + deliveries.getLast().id(), e);
            // The unfinished files may be the ones that fill the disk.
            files.forEach(file -> remove(file + UNFINISHED));
            files.stream().filter(file -> !file.equals(entry)).forEach(this::remove);
            return deliveries.stream().map(each -> new Stored(null, each)).toList();
        }
    }

    /// Writes an entry's file anew.
    void keep(String entry, JsonObject state) {
        try {
            write(entry, state.toString().getBytes(StandardCharsets.UTF_8));
            appear(entry);
            forceNames();
        } catch (IOException e) {
            notOnDisk("the entry " + entry, e);
            remove(entry + UNFINISHED);
        }
    }

    /// All bytes are on disk when this returns, under a name that nobody reads.
    private void write(String file, byte[]... parts) throws IOException {
        try (var out = newFile(path.resolve(file + UNFINISHED))) {
            var all = Arrays.stream(parts).map(ByteBuffer::wrap).toArray(ByteBuffer[]::new);
            while (all[all.length - 1].hasRemaining()) {
                out.write(all);
            }
            out.force(true);
        }
    }

    /// What has this name already is not written to: it may lead elsewhere, or be somebody else's.
    private static FileChannel newFile(Path file) throws IOException {
        var options = Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        try {
            return FileChannel.open(file, options, OUR_FILE);
        } catch (FileAlreadyExistsException e) {
            if (Files.isDirectory(file, NOFOLLOW)) {
                throw e;
            }
            Files.delete(file);
            return FileChannel.open(file, options, OUR_FILE);
        }
    }

    private void appear(String file) throws IOException {
        Files.move(path.resolve(file + UNFINISHED), path.resolve(file),
                StandardCopyOption.ATOMIC_MOVE);
    }

    /// The names, too, are on disk when this returns.
    private void forceNames() throws IOException {
        try (var names = FileChannel.open(path)) {
            names.force(true);
        }
    }

    // Reading.

    /// The deliveries that are new in the folder, in their order, without their bodies.
    List<Stored> newDeliveries() {
        var found = new ArrayList<Stored>();
        try {
            for (String file : names(DELIVERY)) {
                if (known.add(file)) {
                    try {
                        JsonObject head = json(split(file)[0]);
                        found.add(new Stored(file, new Outbox.Delivery(head.getString("lane"),
                                head.getString("id"), head.getString("path"), null)));
                    } catch (NoSuchFileException | NotOurs e) {
                        known.remove(file); // it was delivered meanwhile, or may be mended
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

    byte[] body(String file) throws IOException {
        try {
            return split(file)[1];
        } catch (NoSuchFileException | NotOurs e) {
            known.remove(file);         // it may be moved back, or mended
            throw e;
        }
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

    private byte[] read(String file) throws IOException {
        if (!isOurs(file)) {
            throw new NotOurs(file);
        }
        try (var in = Files.newInputStream(path.resolve(file), NOFOLLOW)) {
            return in.readAllBytes();
        }
    }

    /// Is this a file of ours, which not everybody may write? If it is not, the log says so once. A
    /// disk that knows no permissions shows each file, and also ours, as one that everybody may
    /// write. There, only the owner counts.
    private boolean isOurs(String file) throws IOException {
        Path it = path.resolve(file);
        var its = Files.readAttributes(it, PosixFileAttributes.class, NOFOLLOW);
        if (ours == null) {
            try {
                ours = ours();
            } catch (IOException e) {
                return false;           // the disk takes nothing, as the log has said
            }
        }
        boolean owned = its.owner().equals(ours.owner());
        if (its.isRegularFile() && owned && (!anybodyMayWrite(its) || anybodyMayWrite(ours))) {
            return true;
        }
        if (said.add(file)) {
            String mend = (owned ? "" : "chown " + word(ours.owner()) + " " + word(it) + " && ")
                    + "chmod 600 " + word(it);
            String when = file.endsWith(DELIVERY) ? "" : ", before the next start";
            Log.log("", "NOT READ: " + it + (!its.isRegularFile() ? " is no regular file"
                    : ": somebody else may have written it. If you trust it" + when + ":  "
                    + mend));
        }
        return false;
    }

    private static boolean anybodyMayWrite(PosixFileAttributes its) {
        return its.permissions().contains(PosixFilePermission.OTHERS_WRITE);
    }

    /// What a file looks like that this process has just made. Its owner may have no name. A disk
    /// of another machine may know the owner by another number, or may know no permissions.
    private PosixFileAttributes ours() throws IOException {
        Path made = path.resolve("owner-" + System.nanoTime() + UNFINISHED);
        newFile(made).close();
        try {
            return Files.readAttributes(made, PosixFileAttributes.class, NOFOLLOW);
        } finally {
            Files.delete(made);
        }
    }

    /// One word for a shell. Somebody else may have chosen it.
    private static String word(Object it) {
        String text = it.toString();
        return text.matches("[\\w./@%+=:,-]+") ? text : "'" + text.replace("'", "'\\''") + "'";
    }

    static JsonObject json(byte[] bytes) {
        try (var reader = Json.createReader(new ByteArrayInputStream(bytes))) {
            return reader.readObject();
        }
    }

    // Entries.

    /// The name of a new entry's file. Nothing is on disk yet.
    String newEntry() {
        return "%012d%s".formatted(numbers.incrementAndGet(), ENTRY);
    }

    List<String> entries() {
        try {
            return names(ENTRY);
        } catch (IOException e) {
            return List.of();           // newDeliveries has logged it
        }
    }

    JsonObject state(String entry) throws IOException {
        return json(read(entry));
    }

    /// Gives an entry's file the present time: a sign of life.
    void touch(String entry) {
        Path file = path.resolve(entry);
        try {
            if (Files.isRegularFile(file, NOFOLLOW)) {  // to open a FIFO may take for ever
                Files.getFileAttributeView(file, BasicFileAttributeView.class, NOFOLLOW)
                        .setTimes(FileTime.from(Instant.now()), null, null);
            }
        } catch (IOException e) {
            // The entry has ended meanwhile, or it is not on disk, which the log has said.
        }
    }

    Instant lastSeen(String entry) throws IOException {
        return Files.getLastModifiedTime(path.resolve(entry), NOFOLLOW).toInstant();
    }

    // Taking away.

    void remove(String file) {
        try {
            Files.deleteIfExists(path.resolve(file));
            known.remove(file);
        } catch (IOException e) {
            Log.log("", "cannot be deleted, and comes again at the next start: "
                    + path.resolve(file) + ": " + Log.reason(e));
        }
    }

    /// Moves the file to `failed`, where it stays and nobody sends it.
    void putAside(String file, String what) {
        Path to = failed.resolve(file);
        try {
            if (!Files.isDirectory(failed, NOFOLLOW)) {
                Files.createDirectory(failed, OUR_FOLDER);      // not when a link has the name
            }
            Files.move(path.resolve(file), to, StandardCopyOption.ATOMIC_MOVE);
            known.remove(file);
            Log.log("", what + " is put aside. To send it again:  mv " + word(to) + " "
                    + word(path + File.separator));
        } catch (IOException e) {
            Log.log("", what + " cannot be put aside, and comes again at the next start: "
                    + Log.reason(e));
        }
    }
}
