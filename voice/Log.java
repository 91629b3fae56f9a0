package voice;

import module java.base;

/// Writes one line for each thing that happens, to standard output: the time, the call, the kind of
/// step, and what has happened. All floors use it. The lines have colours on a terminal, unless
/// NO_COLOR is set.
///
/// It does not use java.util.logging, because that has a shutdown hook, which may silence the log
/// before our last calls have ended. Not handled: levels, files. Never hand it a secret, a token or
/// a body.
public final class Log {
    private static final DateTimeFormatter TIME =
            DateTimeFormatter.ofPattern("HH:mm:ss.SSS").withZone(ZoneId.systemDefault());

    private static final int LONGEST = 1_000;               // characters
    private static final int SHORT = 6;                     // characters of a call's id

    /// The log leaves out a call whose id begins with this. The rehearsal has such an id.
    public static final String SILENT = "rehearsal";

    /// Does somebody read this at a terminal?
    public static final boolean TERMINAL =
            System.console() != null && System.console().isTerminal();

    private static final boolean COLOURS = TERMINAL && System.getenv("NO_COLOR") == null
            && !"dumb".equals(System.getenv("TERM"));
    private static final String DIM = "2";
    private static final String TROUBLE = "1;31";           // bold red
    private static final Map<String, String> BY_STEP = Map.of("agent", "36", "caller", "33",
            "event", "32", "tool", "35", "crm", "34", "call", "1");

    // Control characters, among them those that turn the direction of writing, and halves of
    // characters.
    private static final Pattern CONTROL = Pattern.compile("[\\p{C}\\p{Zl}\\p{Zp}]");
    private static final Pattern DIGIT = Pattern.compile("[\\p{N}〇零一二三四五六七八九]");
    private static final int A_NUMBER = 7;                  // digits, from which on it may be one

    private static volatile boolean words = TERMINAL;

    private Log() {}

    /// `call` is a call's id, or "" for what belongs to no call. The line has the first letters of
    /// the id. Any thread.
    public static void log(String call, String what) {
        step(call, "", what);
    }

    /// The same, for a step of a call: `kind` is a word for it, 8 letters at most.
    public static void step(String call, String kind, String what) {
        if (call.startsWith(SILENT)) {
            return;
        }
        String before = TIME.format(Instant.now()) + "  " + "%-6s".formatted(shortened(call));
        String line = clean("%-8s  %s".formatted(kind, what));
        System.out.println(!COLOURS ? before + "  " + line
                : coloured(DIM, before) + "  " + coloured(what.startsWith("NOT ") ? TROUBLE
                        : BY_STEP.getOrDefault(kind, "0"), line));
    }

    /// From now on, what callers and the agent say is logged, or is not. Before anybody calls this,
    /// it is logged on a terminal and nowhere else.
    public static void words(boolean logged) {
        words = logged;
    }

    /// The log has what has happened, and not what was said, unless `words` allows that. `who` is
    /// `caller` or `agent`, and `verb` is `says` or `writes`. Any thread.
    public static void said(String call, String who, String verb, String text) {
        step(call, who, !words ? verb + " something (" + text.length() + " characters)"
                : (verb.equals("says") ? "" : verb + ": ") + foreign(text.strip()));
    }

    private static String coloured(String how, String text) {
        return "\033[" + how + "m" + text + "\033[0m";
    }

    /// The first letters of a call's id, without its prefix: x7Yk2m for AJ_x7Yk2mQp9.
    private static String shortened(String call) {
        String name = clean(call.substring(call.indexOf('_') + 1)).split(" ")[0];
        return name.substring(0, Math.min(SHORT, name.length()));
    }

    /// Makes one line of any text. What callers, CRMs and servers send may hold line breaks or
    /// terminal codes, or may be very long.
    public static String clean(String text) {
        String line = CONTROL.matcher(shorter(text)).replaceAll(
                found -> "\\\\u%04x".formatted(found.group().codePointAt(0)));
        return shorter(line); // it may have become longer
    }

    private static String shorter(String text) {
        return text.length() <= LONGEST ? text : cut(text, LONGEST) + " ..";
    }

    /// The first `most` characters of a text. Does not cut a character that consists of two (a
    /// surrogate pair) in half.
    public static String cut(String text, int most) {
        return text.length() <= most ? text : text.substring(0,
                most > 0 && Character.isHighSurrogate(text.charAt(most - 1)) ? most - 1 : most);
    }

    /// A phone number as it may be logged: its last four digits.
    public static String tail(String number) {
        if (number == null) {
            return "an unknown number";
        }
        return "a number ending in " + number.substring(Math.max(0, number.length() - 4));
    }

    /// A text that is not ours, as it may be logged: words, a reason that SIP or a server gives,
    /// the name of a room. If it has seven digits or more, of any script and wherever they stand,
    /// they may be somebody's number, and each digit becomes #.
    public static String foreign(String text) {
        return DIGIT.matcher(text).results().limit(A_NUMBER).count() < A_NUMBER ? text
                : DIGIT.matcher(text).replaceAll("#");
    }

    /// An exception in one line, with its causes, because many exceptions say little themselves.
    /// An exception may quote the other side, so its digits may become #. A FileSystemException
    /// names only a file, and a ConnectException only an address: there, the digits stay.
    public static String reason(Throwable thrown) {
        var reasons = new LinkedHashSet<String>();
        boolean ours = true;
        for (Throwable each = thrown; each != null && reasons.size() < 3; each = each.getCause()) {
            boolean wrapper = each.getCause() != null && (each instanceof ExecutionException
                    || each instanceof CompletionException || each instanceof UncheckedIOException);
            if (!wrapper) {
                String name = each.getClass().getSimpleName();
                reasons.add(each.getMessage() == null ? name : name + ": " + each.getMessage());
                ours &= each instanceof ConnectException || each instanceof FileSystemException;
            }
        }
        String all = String.join(", from ", reasons);
        return ours ? all : foreign(all);
    }
}
