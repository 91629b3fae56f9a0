package start;

import module java.base;
import voice.Log;

/// Takes Ctrl-C and SIGTERM. The verb `start` uses it, because the first signal lets calls go on to
/// their end, and the second one ends the calls at once. A shutdown hook would not notice the
/// second signal.
///
/// The JDK has this only in `sun.misc.Signal`. If a source names that class, the compiler warns at
/// every start, and no option switches the warning off. So this class uses reflection.
public final class Signals {

    private Signals() {}

    /// From now on, no such signal ends the process. Instead, it runs `each` with its number (1, 2,
    /// ..), on a thread of its own.
    public static void handle(IntConsumer each) {
        var count = new AtomicInteger();
        try {
            Class<?> signal = Class.forName("sun.misc.Signal");
            Class<?> handler = Class.forName("sun.misc.SignalHandler");
            InvocationHandler taking = (_, _, _) -> {
                int number = count.incrementAndGet();
                Thread.ofPlatform().name("signal " + number).start(() -> each.accept(number));
                return null;
            };
            Object proxy = java.lang.reflect.Proxy.newProxyInstance(
                    handler.getClassLoader(), new Class<?>[] {handler}, taking);
            for (String name : List.of("INT", "TERM")) {
                signal.getMethod("handle", signal, handler).invoke(
                        null, signal.getConstructor(String.class).newInstance(name), proxy);
            }
        } catch (ReflectiveOperationException | RuntimeException e) {
            Log.log("", "signals end the program at once: " + Log.reason(e));
        }
    }
}
