package start;

import module java.base;
import voice.Log;

/// Ctrl-C and SIGTERM, one after the other. The verb `start` listens to them, because the first one
/// lets calls go on to their end, and the second one ends the program at once. A shutdown hook
/// would not even see the second one.
///
/// The JDK has this only in `sun.misc.Signal`. When a source names that class, the compiler warns
/// at every start, and nothing switches that off. So the class is reached by reflection.
public final class Signals {

    private Signals() {}

    /// From now on every such signal runs `each` with its number, 1, 2, .. on a thread of its own,
    /// instead of ending the process.
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
