package voice;

import module java.base;

/// One line per thing that happens, on standard output: time, call, what.
///
/// Not java.util.logging: its own shutdown hook may silence it before our last calls have ended.
/// Not handled: levels, files. Never hand it a secret, a token or a body.
public final class Log {
    private static final DateTimeFormatter TIME =
            DateTimeFormatter.ofPattern("HH:mm:ss.SSS").withZone(ZoneId.systemDefault());

    private static final Pattern CONTROL = Pattern.compile("\\p{Cntrl}");

    private Log() {}

    /// `call` is a call's id, or "" for the worker itself. Any thread.
    public static void log(String call, String what) {
        if (call.startsWith(Rehearsal.ID)) {
            return;
        }
        String line = TIME.format(Instant.now()) + "  " + "%-16s".formatted(call) + "  " + what;
        // What callers, CRMs and servers send may hold line breaks or terminal codes.
        System.out.println(CONTROL.matcher(line).replaceAll(
                found -> "\\\\u%04x".formatted((int) found.group().charAt(0))));
    }

    /// A phone number as it may be logged: its last four digits.
    public static String tail(String number) {
        if (number == null) {
            return "an unknown number";
        }
        return "a number ending in " + number.substring(Math.max(0, number.length() - 4));
    }

    /// An exception in one line, with what caused it: many say little of themselves.
    public static String reason(Throwable thrown) {
        var reasons = new ArrayList<String>();
        for (Throwable each = thrown; each != null && reasons.size() < 3; each = each.getCause()) {
            boolean wrapper = each.getCause() != null && (each instanceof ExecutionException
                    || each instanceof CompletionException || each instanceof UncheckedIOException);
            if (!wrapper) {
                String name = each.getClass().getSimpleName();
                reasons.add(each.getMessage() == null ? name : name + ": " + each.getMessage());
            }
        }
        return String.join(", from ", new LinkedHashSet<>(reasons));
    }
}
