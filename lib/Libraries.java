import module java.base;

/// Runs the program for the training run of run.sh. An AOT cache keeps only the classes of the
/// class path. The libraries are on that path, and so is this class, in lib/libraries.jar. The
/// program's own classes change, so the cache must not have them: another class loader loads them.
final class Libraries {
    /// The arguments are the program's jar and what the program's `main` is given.
    static void main(String[] args) throws Exception {
        var program = new URLClassLoader(new URL[] {Path.of(args[0]).toUri().toURL()});
        var main = program.loadClass("Agent").getDeclaredMethod("main", String[].class);
        main.setAccessible(true);
        main.invoke(null, (Object) Arrays.copyOfRange(args, 1, args.length));
    }
}
