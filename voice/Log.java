package voice;

import module java.base;

/// One line per thing that happens, on standard output: time, call, what.
///
/// Not java.util.logging: its own shutdown hook may silence it before our last calls have ended.
/// Not handled: levels, files. Never hand it a secret, a token or a body.
public final class Log {
    private static final DateTimeFormatter TIME =
            DateTimeFormatter.ofPattern("HH:mm:ss.SSS").withZone(ZoneId.systemDefault());

    private static final int LONGEST = 1_000;               // characters

    // Also what turns the direction of writing, and halves of characters.
    private static final Pattern CONTROL = Pattern.compile("[\\p{C}\\p{Zl}\\p{Zp}]");
    private static final Pattern NUMBER = Pattern.compile("\\+?[0-9][0-9 ()/.-]{5,}[0-9]");

    private Log() {}

    /// `call` is a call's id, or "" for the worker itself. Any thread.
    public static void log(String call, String what) {
        if (call.startsWith(Rehearsal.ID)) {
            return;
        }
        System.out.println(clean(
                TIME.format(Instant.now()) + "  " + "%-16s".formatted(call) + "  " + what));
    }

    /// One line, whatever is in it: what callers, CRMs and servers send may hold line breaks or
    /// terminal codes, or be without end.
    static String clean(String text) {
        String line = CONTROL.matcher(cut(text)).replaceAll(
                found -> "\\\\u%04x".formatted(found.group().codePointAt(0)));
        return cut(line); // it may have become longer
    }

    private static String cut(String text) {
        return text.length() <= LONGEST ? text : text.substring(0, LONGEST) + " ..";
    }

    /// A phone number as it may be logged: its last four digits.
    public static String tail(String number) {
        if (number == null) {
            return "an unknown number";
        }
        return "a number ending in " + number.substring(Math.max(0, number.length() - 4));
    }

    /// Words of the caller's or the agent's as they may be logged: of each number that could be a
    /// phone's, the last four digits.
    public static String speech(String words) {
        return NUMBER.matcher(words.strip()).replaceAll(found -> {
            String digits = found.group().replaceAll("[^0-9]", "");
            return digits.length() < 7 ? Matcher.quoteReplacement(found.group())
                    : ".." + digits.substring(digits.length() - 4);
        });
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
