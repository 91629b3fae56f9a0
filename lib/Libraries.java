import module java.base;

/// Runs the program with a class loader of its own, for the training run of run.sh. An AOT cache
/// keeps the classes of the class path: with this one, which is on it as lib/libraries.jar, those
/// of the libraries, and not the program's, which change.
final class Libraries {
    /// The program's jar, and what its `main` is given.
    static void main(String[] args) throws Exception {
        var program = new URLClassLoader(new URL[] {Path.of(args[0]).toUri().toURL()});
        var main = program.loadClass("Agent").getDeclaredMethod("main", String[].class);
        main.setAccessible(true);
        main.invoke(null, (Object) Arrays.copyOfRange(args, 1, args.length));
    }
}
