package trials;

import module java.base;

/// README, as the tests read it.
final class Docs {
    private Docs() {}

    /// The fenced blocks of a text whose fence is followed by exactly this.
    static List<String> blocks(String text, String mark) {
        return Pattern.compile("(?ms)^```" + Pattern.quote(mark) + "\n(.*?)^```").matcher(text)
                .results().map(block -> block.group(1)).toList();
    }

    /// The blocks of README.
    static List<String> readme(String mark) throws IOException {
        return blocks(Files.readString(Path.of("README.md")), mark);
    }
}
