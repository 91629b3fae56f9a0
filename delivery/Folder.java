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
final class Folder {
    private static final FileAttribute<Set<PosixFilePermission>> OUR_FILE =
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));
    private static final FileAttribute<Set<PosixFilePermission>> OUR_FOLDER =
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
    private static final Pattern NUMBER = Pattern.compile("([0-9]{1,18})\\b.*");
    private static final String ENTRY = ".call";
    private static final String DELIVERY = ".post";
    private static final String UNFINISHED = ".new";

    /// A delivery whose body is in this file. When the disk has not taken the body, `file` is null,
    /// and the body is in memory.
    record Stored(String file, Outbox.Delivery delivery) {}

    final Path path;
    private final Path failed;
    private final AtomicLong numbers = new AtomicLong();
    private final Set<String> known = ConcurrentHashMap.newKeySet();    // files of deliveries
    private FileChannel lock;

    Folder(Path path) throws Outbox.InUse {
        this.path = path;
        failed = path.resolve("failed");
        try {
            Files.createDirectories(failed, OUR_FOLDER);
            lock = FileChannel.open(path.resolve("lock"), Set.of(StandardOpenOption.CREATE,
                    StandardOpenOption.READ, StandardOpenOption.WRITE), OUR_FILE);
            lock();
            for (String each : names("")) {
                if (each.endsWith(UNFINISHED)) {
                    Files.delete(path.resolve(each));   // a crash came before it was complete
                }
                Matcher number = NUMBER.matcher(each);
                if (number.matches()) {
                    numbers.accumulateAndGet(Long.parseLong(number.group(1)), Math::max);
                }
            }
        } catch (IOException e) {
            notOnDisk("OUTBOX_DIR " + path.toAbsolutePath(), e);
        }
    }

    private void lock() throws IOException, Outbox.InUse {
        var pid = ByteBuffer.allocate(20);
        FileLock ours = null;
        try {
            ours = lock.tryLock();
        } catch (OverlappingFileLockException e) {
            // Another Outbox of this process has it.
        }
        if (ours == null) {
            lock.read(pid, 0);
            lock.close();
            throw new Outbox.InUse("OUTBOX_DIR " + path.toAbsolutePath() + " is in use by process "
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
        try (var out = FileChannel.open(path.resolve(file + UNFINISHED), Set.of(
                StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING,
                StandardOpenOption.WRITE), OUR_FILE)) {
            var all = Arrays.stream(parts).map(ByteBuffer::wrap).toArray(ByteBuffer[]::new);
            while (all[all.length - 1].hasRemaining()) {
                out.write(all);
            }
            out.force(true);
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
                    } catch (NoSuchFileException e) {
                        known.remove(file); // it was delivered meanwhile
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
        return split(file)[1];
    }

    private byte[][] split(String file) throws IOException {
        byte[] all = Files.readAllBytes(path.resolve(file));
        for (int i = 0; i < all.length; i++) {
            if (all[i] == '\n') {
                return new byte[][] {
                    Arrays.copyOf(all, i), Arrays.copyOfRange(all, i + 1, all.length)};
            }
        }
        throw new IOException("it has only one line");
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
        return json(Files.readAllBytes(path.resolve(entry)));
    }

    /// Gives an entry's file the present time: a sign of life.
    void touch(String entry) {
        try {
            Files.setLastModifiedTime(path.resolve(entry), FileTime.from(Instant.now()));
        } catch (IOException e) {
            // The entry has ended meanwhile, or it is not on disk, which the log has said.
        }
    }

    Instant lastSeen(String entry) throws IOException {
        return Files.getLastModifiedTime(path.resolve(entry)).toInstant();
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
            Files.move(path.resolve(file), to, StandardCopyOption.ATOMIC_MOVE);
            known.remove(file);
            Log.log("", what + " is put aside. To send it again:  mv " + to + " " + path
                    + File.separator);
        } catch (IOException e) {
            Log.log("", what + " cannot be put aside, and comes again at the next start: "
                    + Log.reason(e));
        }
    }
}
