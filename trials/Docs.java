package trials;

import module java.base;

import static org.junit.jupiter.api.Assertions.assertEquals;

/// README.md, SECURITY.md, AGENTS.md and docs/, as the tests read them: fenced blocks, words
/// between backticks, and lines of the log. HouseTest compares them with the sources and the demo,
/// LiveTest and PhoneTest with what the program really writes in a call from LiveKit.
final class Docs {
    // What differs from run to run, and what stands for it in the docs and in the output alike.
    private static final List<Map.Entry<Pattern, String>> PLACEHOLDERS = List.of(
            placeholder("^[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3} *", ""),
            // The id of a call, in front of the kind of step.
            placeholder("^\\S{1,6} +(?=(agent|call|caller|crm|event|model|tool|transfer) )", ""),
            placeholder("\\b(https?|wss?)://\\S*[^\\s.,;:)]", "URL"),
            placeholder("\\b(evt|req|web|con|AJ|RM|ST|SCL|call)[_-](?=\\S*[0-9.])\\S+", "ID"),
            placeholder("\\b[0-9a-f]{8}-[0-9a-f-]{27}\\b", "ID"),
            placeholder("\\+?[0-9]+([.:,][0-9]+)*", "N"),
            placeholder("\\s+", " "));

    private Docs() {}

    private static Map.Entry<Pattern, String> placeholder(String what, String instead) {
        return Map.entry(Pattern.compile(what), instead);
    }

    /// README.md, SECURITY.md, AGENTS.md and all of docs/, by their path.
    static Map<Path, String> all() throws IOException {
        var all = new TreeMap<Path, String>();
        try (var docs = Files.walk(Path.of("docs"))) {
            for (Path file : Stream.concat(Stream.of("README.md", "SECURITY.md", "AGENTS.md")
                    .map(Path::of), docs).toList()) {
                if (file.toString().endsWith(".md")) {
                    all.put(file, Files.readString(file));
                }
            }
        }
        return all;
    }

    /// The fenced blocks of a text whose fence is followed by exactly this.
    static List<String> blocks(String text, String mark) {
        return Pattern.compile("(?ms)^```" + Pattern.quote(mark) + "\n(.*?)^```").matcher(text)
                .results().map(block -> block.group(1)).toList();
    }

    /// The blocks of README.
    static List<String> readme(String mark) throws IOException {
        return blocks(Files.readString(Path.of("README.md")), mark);
    }

    /// What stands between backticks, outside of fenced blocks.
    static List<String> quoted(String text) {
        return Pattern.compile("`([^`\n]+)`").matcher(text.replaceAll("(?ms)^```.*?^```", ""))
                .results().map(quoted -> quoted.group(1)).toList();
    }

    /// Each line of the blocks with this mark has to be in the output, with other times, ids,
    /// numbers and addresses. Not looked at: `..` for lines that were left out, and the command.
    ///
    /// The marks: `log` is for a call in LiveTest, `log phone` for one in PhoneTest, `log call`
    /// for what `./run.sh call` prints there.
    static void areReal(String mark, String output) throws IOException {
        var real = output.lines().map(Docs::normal).collect(Collectors.toSet());
        var invented = new ArrayList<String>();
        for (var doc : all().entrySet()) {
            blocks(doc.getValue(), mark).stream().flatMap(String::lines)
                    .filter(line -> !line.isBlank() && !line.matches(" *\\.\\.|\\./run\\.sh .*")
                            && !real.contains(normal(line)))
                    .forEach(line -> invented.add(doc.getKey() + ": " + line));
        }
        assertEquals(List.of(), invented, "lines that the program does not write");
    }

    /// A line of the log without what differs from run to run.
    static String normal(String line) {
        String normal = line.strip();
        for (var each : PLACEHOLDERS) {
            normal = each.getKey().matcher(normal).replaceAll(each.getValue());
        }
        return normal.strip();
    }
}
