package trials;

import module java.base;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

/// What the sample fetches from others is what it was tried with, or it is not used.
public final class SupplyTest {
    /// Without jackson-bom in pom.xml, Maven mixes the versions that two libraries ask for. The
    /// annotations of Jackson have no patches: their 2.21 belongs to 2.21.8, too.
    @Test
    void allOfJacksonHasOneVersion() throws IOException {
        try (var jars = Files.list(Path.of("lib")); var test = Files.list(Path.of("lib/test"))) {
            var versions = Stream.concat(jars, test).map(jar -> "" + jar.getFileName())
                    .map(Pattern.compile("jackson-(.*)-([0-9.]+)\\.jar")::matcher)
                    .filter(Matcher::matches)
                    .collect(Collectors.toMap(jar -> jar.group(1), jar -> jar.group(2)));
            String one = versions.get("core");
            versions.replace("annotations", one.replaceFirst("\\.\\d+$", ""), one);
            assertEquals(Set.of(one), Set.copyOf(versions.values()), versions.toString());
        }
    }

    @Test
    void mavenRefusesAJarWithAWrongChecksum() throws IOException {
        everyLine("run.sh", "mvn", ".*(command -v mvn|mvn .*-C ).*");
    }

    @Test
    void actionsAreNamedByCommit() throws IOException {
        try (var workflows = Files.list(Path.of(".github/workflows"))) {
            for (Path workflow : workflows.toList()) {
                everyLine("" + workflow, "uses:", ".*@[0-9a-f]{40} # v[0-9.]+");
            }
        }
    }

    @Test
    void pipTakesOnlyFilesWithAHash() throws IOException {
        everyLine("trials/install", "pip install", ".* --require-hashes .*");
        everyLine("trials/requirements.txt", "", "\\S+==\\S+( +--hash=sha256:[0-9a-f]{64})+");
    }

    /// Each line that has `part` must be like `regex`. Comments are left out. A line that ends with
    /// a backslash goes on in the next one.
    private static void everyLine(String file, String part, String regex) throws IOException {
        var lines = Files.readString(Path.of(file)).replace("\\\n", "").lines()
                .filter(line -> !line.startsWith("#") && line.contains(part)).toList();
        assertFalse(lines.isEmpty(), file);
        assertEquals(List.of(), lines.stream().filter(line -> !line.matches(regex)).toList(), file);
    }
}
