package trials;

import module java.base;
import java.net.Proxy;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import start.Checks;
import start.Proxies;
import start.Settings;
import voice.Model;
import voice.Numbers;
import voice.Options;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// start/Settings and .env.example: defaults, what is refused and in which words, and how `.env` is
/// read.
public final class SettingsTest extends Stand {
    /// A pattern: what the name of a setting looks like.
    static final String A_SETTING = "(?:(?:LIVEKIT|CRM|WEBHOOK|OPENAI|MAX|TRANSFER|VOBIZ|OUTBOUND"
            + "|OUTBOX|SILENCE|DRAIN|RESTART|HEALTH|LOOKUP|LOG|PHONE|SEND)_[A-Z_]+"
            + "|HTTPS_PROXY|NO_PROXY)";

    /// What loading says when it refuses these settings: a line for each problem.
    private static List<String> refused(Map<String, String> more) {
        return problems(() -> settings(more));
    }

    private static List<String> problems(Executable load) {
        String said = assertThrows(IllegalArgumentException.class, load).getMessage();
        return said.lines().skip(1).map(String::strip).toList();
    }

    @Test
    void settingsHaveTheirDefaults() {
        var settings = settings(Map.of());
        var defaults = new TreeMap<>(Map.of("LIVEKIT_AGENT_NAME", "webhook-crm-agent",
                "OUTBOX_DIR", "outbox", "OPENAI_BASE_URL", "https://api.openai.com/v1",
                "OPENAI_REALTIME_MODEL", "gpt-realtime-2.1-mini",
                "OPENAI_TRANSCRIBE_MODEL", "gpt-transcribe", "MAX_CALL_MINUTES", "30",
                "MAX_CALLS", "20", "SILENCE_SECONDS", "15", "DRAIN_SECONDS", "600",
                "HEALTH_PORT", "8081"));
        defaults.put("OPENAI_TURN_DETECTION", "server_vad");
        defaults.put("RESTART_AFTER_CALLS", "5000");
        for (String name : List.of("CRM_API_KEY", "OPENAI_VOICE", "OPENAI_NOISE_REDUCTION",
                "VOBIZ_SIP_DOMAIN",
                "OUTBOUND_TRUNK_ID", "OUTBOUND_PREFIXES", "LOOKUP_ANYBODY", "LOG_WORDS",
                "SEND_TRANSCRIPT", "HTTPS_PROXY", "NO_PROXY", "HEALTH_HOST", "PHONE_REGION",
                "TRANSFER_SALES", "TRANSFER_BILLING", "TRANSFER_SUPPORT")) {
            defaults.put(name, "");
        }
        // A blank setting is as good as none, but for the one where blank means "none".
        defaults.forEach((name, value) -> {
            assertEquals(value, settings.get(name), name);
            assertEquals(name.equals("OPENAI_TRANSCRIBE_MODEL") ? "" : value,
                    settings(Map.of(name, " ")).get(name), name);
        });
        assertFalse(settings.toString().contains("secret-"), settings.toString());
    }

    @Test
    void theDocsNameTheDefaultsThatTheyName() throws Exception {
        String most = " (" + settings(Map.of()).get("MAX_CALLS") + ")";
        assertTrue(Docs.all().get(Path.of("docs/phone.md"))
                .contains("It takes `MAX_CALLS` calls at a time" + most));
        assertTrue(Docs.all().get(Path.of("docs/bench.md")).contains("`MAX_CALLS`" + most));
    }

    @Test
    void whatIsMissingIsSaidAtOnceAndSoIsWhatIsBlank() {
        var said = problems(() -> Settings.load(Map.of(), Path.of("no such file")));
        assertEquals(List.of("LIVEKIT_URL is missing: your LiveKit server's wss:// address, from "
                        + "the project's settings; ws://127.0.0.1:7880 for `livekit-server --dev`",
                "LIVEKIT_API_KEY is missing: from the same page; `devkey`",
                "LIVEKIT_API_SECRET is missing: from the same page; `secret`",
                "CRM_URL is missing: the https:// address that your CRM's end points are below",
                "WEBHOOK_SECRET is missing: what events are signed with: make one with "
                        + "`openssl rand -hex 32` and give it to your CRM",
                "OPENAI_API_KEY is missing: from platform.openai.com/api-keys"), said);
        for (String name : SIX.keySet()) {
            assertEquals(said.stream().filter(each -> each.startsWith(name + " ")).toList(),
                    refused(Map.of(name, " ")));
        }
    }

    @Test
    void theMessageSaysWhereToSetThem() {
        String said = assertThrows(IllegalArgumentException.class, () -> Settings.load(
                Map.of(), Path.of("no such file"))).getMessage();
        assertEquals("Set these in the environment or in " + Path.of("no such file")
                .toAbsolutePath() + " (.env.example shows how):", said.lines().findFirst().get());
    }

    @Test
    void eachNumberIsTakenFromItsLeastToItsLargest() {
        for (String row : List.of("MAX_CALL_MINUTES 1 9999 minutes", "MAX_CALLS 1 10000 calls",
                "SILENCE_SECONDS 1 3600 seconds", "DRAIN_SECONDS 0 86400 seconds",
                "RESTART_AFTER_CALLS 0 99999 calls", "HEALTH_PORT 0 65535 a port")) {
            String[] parts = row.split(" ", 4);     // the name, from, to, of what
            String name = parts[0];
            int least = Integer.parseInt(parts[1]), most = Integer.parseInt(parts[2]);
            for (int right : List.of(least, most)) {
                assertEquals(right, settings(Map.of(name, "" + right)).number(name), name);
            }
            for (String wrong : List.of("" + (least - 1), "" + (most + 1), "1000000", "1.5", "soon",
                    "1 2", "\u0663")) {
                assertEquals(List.of(name + " is not a number from " + least + " to " + most + " ("
                        + parts[3] + ")"), refused(Map.of(name, wrong)), wrong);
            }
        }
    }

    @Test
    void anAddressIsAHostAndAPathAndNothingMore() {
        for (String name : List.of("LIVEKIT_URL", "CRM_URL", "OPENAI_BASE_URL")) {
            boolean livekit = name.equals("LIVEKIT_URL");
            for (String right : List.of("https://x.example", "https://x.example:1/a/b",
                    "http://localhost:1", "http://127.0.0.1:1/x", "http://[::1]:1")) {
                assertEquals(right, settings(Map.of(name, right)).get(name));
                assertEquals(right, settings(Map.of(name, right + "//")).get(name));
            }
            for (String wrong : List.of("x.example", "https:///x", "https://user:pw@x.example",
                    "https://x.example?a=b", "https://x.example#a", "ftp://x.example",
                    "https://x y", "https://x.example:0", "https://x.example:65536",
                    "https://x.example:99999999999",
                    livekit ? "sip://x.example" : "wss://x.example")) {
                assertEquals(List.of(name + " is not an address like " + (livekit ? "wss" : "https")
                        + "://host, with nothing but a path behind it"),
                        refused(Map.of(name, wrong)), wrong);
            }
            for (String open : List.of("http://x.example", "http://127.0.0.1.example",
                    "http://10.0.0.1", "http://localhost.example", "ws://x.example:7880")) {
                if (livekit || open.startsWith("http")) {
                    String safe = livekit ? "wss" : "https";
                    assertEquals(List.of(name + ": what callers say travels to it, so it must be "
                            + safe + ":// (" + safe.replaceFirst("s$", "") + ":// is allowed to "
                            + "localhost only)"), refused(Map.of(name, open)), open);
                }
            }
        }
        for (String right : List.of("ws://localhost:7880", "ws://[::1]", "wss://x.example")) {
            assertEquals(right, settings(Map.of("LIVEKIT_URL", right)).get("LIVEKIT_URL"));
        }
    }

    @Test
    void aKeyThatNoServiceCanHaveMadeIsNotQuoted() {
        for (String name : List.of("CRM_API_KEY", "OPENAI_API_KEY")) {
            for (String wrong : List.of("pasted\u2019", "pasted twice", "\u00fc")) {
                assertEquals(List.of(name + " holds something that no key does: a space, a quote "
                        + "from a text program, .."), refused(Map.of(name, wrong)));
            }
            assertEquals("!~sk-1", settings(Map.of(name, "!~sk-1")).get(name));
        }
    }

    @Test
    void aSecretThatSomebodyCouldGuessIsRefusedWithTheCommandThatMakesOne() {
        String make = ": make one with `openssl rand -hex 32`";
        var wrong = new HashMap<>(Map.of(
                "your-hmac-secret", "is still that of the example" + make,
                "your-hmac-secret-your-hmac-secret", "is still that of the example" + make,
                "whsec_???", "begins with whsec_, but what follows is not base64",
                "whsec_" + "YWFh".repeat(8) + "=", "begins with whsec_, but what follows is not "
                        + "base64"));
        for (String each : List.of("x".repeat(23), "ü".repeat(11) + "x", "whsec_",
                "whsec_" + "YWFh".repeat(7) + "YWE=")) {        // 24 characters, and 23 bytes
            wrong.put(each, "has fewer than 24 bytes, so somebody could guess it" + make);
        }
        String good = "g".repeat(24);
        wrong.forEach((secret, why) -> {
            for (String with : List.of(secret, good + "," + secret, secret + " ," + good)) {
                assertEquals(List.of("WEBHOOK_SECRET " + why),
                        refused(Map.of("WEBHOOK_SECRET", with)));
            }
        });
        for (String quoted : List.of("\"" + good + "\",\"" + good + "\"",
                "'" + good + "', " + good)) {
            assertEquals(List.of("WEBHOOK_SECRET has something behind its closing quote: put all "
                    + "of it into one pair of quotes"), refused(Map.of("WEBHOOK_SECRET", quoted)));
        }
        assertEquals(good + "," + good, settings(Map.of("WEBHOOK_SECRET",
                "\"" + good + "," + good + "\" # both", "PS1", "\"a\"b")).get("WEBHOOK_SECRET"));
        for (String comma : List.of(",", good + ",", "," + good, " , " + good)) {
            assertEquals(List.of("WEBHOOK_SECRET has a comma, but a secret is missing before it or "
                    + "behind it"), refused(Map.of("WEBHOOK_SECRET", comma)));
        }
        assertEquals(List.of("WEBHOOK_SECRET has more than one comma: set one secret, or NEW,OLD"),
                refused(Map.of("WEBHOOK_SECRET", good + "," + good + "," + good)));
        for (String right : List.of("x".repeat(24), "ü".repeat(12), "whsec_" + "YWFh".repeat(8),
                "WHSEC_" + "?".repeat(18), good + " , whsec_" + "YWFh".repeat(8))) {
            assertEquals(right, settings(Map.of("WEBHOOK_SECRET", right)).get("WEBHOOK_SECRET"));
        }
    }

    @Test
    void whoHasATrunkSaysWhomItMayCall() {
        assertEquals(List.of("OUTBOUND_PREFIXES is missing: OUTBOUND_TRUNK_ID is set, and the "
                + "agent calls only numbers that begin with one of these, like +1,+44"),
                refused(Map.of("OUTBOUND_TRUNK_ID", "ST_1", "OUTBOUND_PREFIXES", " , ")));
        for (String wrong : List.of("1", "+", "+0", "+1 555", "*", "+1;+44", "+1,44", "all",
                "+" + "1".repeat(16))) {
            assertEquals(List.of("OUTBOUND_PREFIXES has something that no number begins with: it "
                    + "looks like +1,+44"), refused(Map.of("OUTBOUND_TRUNK_ID", "ST_1",
                            "OUTBOUND_PREFIXES", wrong)), wrong);
        }
        assertEquals(List.of("+1", "+4420", "+33"), settings(Map.of("OUTBOUND_TRUNK_ID", "ST_1",
                "OUTBOUND_PREFIXES", "+1, +4420,,+33 ")).options().prefixes());
    }

    @Test
    void whatIsYesOrNoIsTrueOrFalse() {
        for (String name : List.of("LOOKUP_ANYBODY", "LOG_WORDS", "SEND_TRANSCRIPT")) {
            for (var each : Map.of("true", true, "false", false, " ", false).entrySet()) {
                assertEquals(each.getValue(), settings(Map.of(name, each.getKey())).yes(name));
            }
            for (String wrong : List.of("yes", "1", "TRUE", "truefalse")) {
                assertEquals(List.of(name + " is neither true nor false"),
                        refused(Map.of(name, wrong)));
            }
        }
        assertEquals(List.of("OPENAI_TURN_DETECTION is neither server_vad nor semantic_vad"),
                refused(Map.of("OPENAI_TURN_DETECTION", "none")));
        assertEquals(List.of("OPENAI_NOISE_REDUCTION is neither near_field nor far_field"),
                refused(Map.of("OPENAI_NOISE_REDUCTION", "NEAR_FIELD")));
    }

    @Test
    void aFileOfSecretsThatOthersCanReadIsSaidWithTheCommandThatMendsIt() throws Exception {
        Path file = folder().resolve(".env");
        assertNull(Checks.secrets(file));
        Files.createFile(file);
        for (var each : Map.of("rw-------", false, "r--------", false, "rwx--x--x", false,
                "rw-r-----", true, "rw----r--", true, "rw--w----", true, "rw-----w-", true,
                "rw-rw-rw-", true).entrySet()) {
            Files.setPosixFilePermissions(file, PosixFilePermissions.fromString(each.getKey()));
            assertEquals(each.getValue() ? file + " holds secrets, and other users of this machine "
                    + "can read or change it: chmod 600 " + file : null, Checks.secrets(file));
        }
    }

    @Test
    void theHealthCheckIsOpenedOnAnAddress() {
        for (String right : List.of("127.0.0.1", "localhost", "::1", "[::1]", "my-pod.example")) {
            assertEquals(right, settings(Map.of("HEALTH_HOST", right)).get("HEALTH_HOST"));
        }
        for (String wrong : List.of("127.0.0.1:8081", "http://localhost", "a b", "/", "[::1")) {
            assertEquals(List.of("HEALTH_HOST is not an address of this machine, like 127.0.0.1"),
                    refused(Map.of("HEALTH_HOST", wrong)), wrong);
        }
    }

    @Test
    void theRegionOfNationalNumbersIsACountryOfTwoLetters() {
        assertEquals("+491711234567", settings(Map.of("PHONE_REGION", "DE")).options().numbers()
                .read("0171 1234567"));
        assertEquals("01711234567", settings(Map.of()).options().numbers().read("0171 1234567"));
        for (String wrong : List.of("USA", "49", "+1", "ZZ", "UK", "US,DE", "Germany")) {
            assertEquals(List.of("PHONE_REGION is not the two letters of a country, like US or DE"),
                    refused(Map.of("PHONE_REGION", wrong)));
        }
    }

    @Test
    void destinationsAreNumbersOrAddresses() {
        var all = Map.of("TRANSFER_SALES", "+15550001111", "TRANSFER_BILLING", "tel:+1555",
                "TRANSFER_SUPPORT", "sip:help@pbx.example;transport=tcp");
        assertEquals(Map.of("sales", "tel:+15550001111", "billing", "tel:+1555",
                "support", "sip:help@pbx.example;transport=tcp"), settings(all).destinations());
        // The domain is for numbers. An address is an address already.
        var vobiz = new HashMap<>(all);
        vobiz.put("VOBIZ_SIP_DOMAIN", "1234.sip.example:5060");
        assertEquals(Map.of("sales", "sip:+15550001111@1234.sip.example:5060",
                "billing", "tel:+1555", "support", "sip:help@pbx.example;transport=tcp"),
                settings(vobiz).destinations());
        assertEquals(Map.of(), settings(Map.of()).destinations());
        assertEquals(Map.of("sales", "sips:a@b"),
                settings(Map.of("TRANSFER_SALES", "sips:a@b")).destinations());

        for (String name : List.of("TRANSFER_SALES", "TRANSFER_BILLING", "TRANSFER_SUPPORT")) {
            for (String wrong : List.of("5550001111", "+1 555 0001", "https://x.example", "tel:",
                    "sip:a b", "sip:<a>", "sipp:a@b", "support")) {
                assertEquals(List.of(name + " is neither a number like +15551234567 nor an address "
                        + "that begins with tel: or sip:"), refused(Map.of(name, wrong)), wrong);
            }
        }
        for (String wrong : List.of("sip:x.example", "x.example/", "x@y")) {
            assertEquals(List.of("VOBIZ_SIP_DOMAIN is not a host like 1234.sip.vobiz.ai"),
                    refused(Map.of("VOBIZ_SIP_DOMAIN", wrong)), wrong);
        }
    }

    // What is made of them.

    @Test
    void eachSettingArrivesInItsPlace() throws Exception {
        var options = settings(Map.of("OUTBOUND_TRUNK_ID", "ST_1",
                "OUTBOUND_PREFIXES", "+1", "TRANSFER_SALES", "tel:+1",
                "SILENCE_SECONDS", "7", "MAX_CALL_MINUTES", "3", "PHONE_REGION", "de")).options();
        assertEquals(new Options("ST_1", List.of("+1"), Map.of("sales", "tel:+1"),
                Duration.ofSeconds(7), Duration.ofMinutes(3), new Numbers("DE")), options);

        var asked = new ConcurrentLinkedQueue<String>();
        String url = server(exchange -> {
            asked.add(exchange.getRequestURI() + " "
                    + exchange.getRequestHeaders().getFirst("Authorization"));
            exchange.sendResponseHeaders(404, -1);
            exchange.close();
        });
        var settings = settings(Map.of("OPENAI_BASE_URL", url + "/v1", "OPENAI_API_KEY", "sk-1",
                "OPENAI_REALTIME_MODEL", "a-model", "OPENAI_VOICE", "a-voice",
                "OPENAI_TRANSCRIBE_MODEL", "a-writer", "OPENAI_TURN_DETECTION", "semantic_vad",
                "OPENAI_NOISE_REDUCTION", "far_field"));
        Model model = settings.model();
        assertSame(model, settings.model());
        String wrong = model.check();
        assertEquals("HTTP 404 (check OPENAI_REALTIME_MODEL)", wrong);
        assertEquals(List.of("/v1/realtime?model=a-model Bearer sk-1"), List.copyOf(asked));
        assertEquals("a-voice a-writer semantic_vad far_field", Talk.field(model, "voice") + " "
                + Talk.field(model, "transcription") + " " + Talk.field(model, "turnDetection")
                + " " + Talk.field(model, "noiseReduction"));
    }

    @Test
    void theRehearsalHasTheSameSettingsButForItsAddressesItsOutboxAndAllKeys() {
        var real = settings(Map.of("OUTBOX_DIR", "/there", "MAX_CALLS", "7", "CRM_API_KEY", "k"));
        var there = real.at("http://127.0.0.1:9");
        assertEquals("/there/rehearsal http://127.0.0.1:9 http://127.0.0.1:9/v1 7",
                String.join(" ", there.get("OUTBOX_DIR"), there.get("CRM_URL"),
                        there.get("OPENAI_BASE_URL"), there.get("MAX_CALLS")));
        for (String key : List.of("OPENAI_API_KEY", "CRM_API_KEY", "WEBHOOK_SECRET",
                "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")) {
            assertNotEquals(real.get(key), there.get(key), key);
        }
        assertNotSame(real.model(), there.model());
        assertEquals("7 x", there.with(Map.of("OUTBOX_DIR", "x")).number("MAX_CALLS") + " "
                + there.with(Map.of("OUTBOX_DIR", "x")).get("OUTBOX_DIR"));
        assertEquals("/there https://crm.example/api",      // as before
                real.get("OUTBOX_DIR") + " " + real.get("CRM_URL"));
    }

    @Test
    void theDemoNeedsNoKey() {
        var five = new HashMap<>(SIX);
        five.remove("OPENAI_API_KEY");
        assertEquals("", Settings.load(five, Path.of("no such file"),
                Map.of("OPENAI_API_KEY", "")).get("OPENAI_API_KEY"));
        assertEquals("sk-secret-3", Settings.load(SIX, Path.of("no such file"),
                Map.of("OPENAI_API_KEY", "")).get("OPENAI_API_KEY"));
    }

    // The proxy.

    @Test
    void theProxyIsAHostAndAPort() {
        for (var each : Map.of("http://proxy.example:3128", "proxy.example:3128",
                "HTTP://10.0.0.1:1/", "10.0.0.1:1", "proxy:65535", "proxy:65535",
                "http://proxy.example", "proxy.example:80", "http://[::1]:3128", "[::1]:3128",
                " ", "").entrySet()) {
            assertEquals(each.getValue(),
                    settings(Map.of("HTTPS_PROXY", each.getKey())).get("HTTPS_PROXY"));
        }
        for (String wrong : List.of("https://proxy.example:3128", "socks5://proxy.example:1080",
                "http://proxy.example:0", "http://proxy.example:65536", "http://proxy.example:x",
                "http://proxy.example/path", "http://", ":3128", "a b", "http://[::1:3128")) {
            assertEquals(List.of("HTTPS_PROXY is not an address like http://proxy.example:3128"),
                    refused(Map.of("HTTPS_PROXY", wrong)), wrong);
        }
        for (String secret : List.of("http://user:pw@proxy.example:3128", "user@proxy.example")) {
            assertEquals(List.of("HTTPS_PROXY has a user and a password, which the agent cannot "
                    + "give to a proxy: use one that takes it without them"),
                    refused(Map.of("HTTPS_PROXY", secret)));
        }
    }

    /// Many machines have it set for other programs.
    @Test
    void aProxyThatNothingNeedsIsNotLookedAt() {
        for (String any : List.of("http://proxy.example:3128", "socks5://x", "http://u:p@x:1")) {
            var local = new HashMap<>(Map.of("HTTPS_PROXY", any, "LIVEKIT_URL", "ws://localhost",
                    "CRM_URL", "http://localhost", "OPENAI_API_KEY", "none"));
            assertEquals("", settings(local).get("HTTPS_PROXY"), "the demo without a key");
            local.put("OPENAI_API_KEY", "sk-1");
            local.put("NO_PROXY", "openai.com");
            assertEquals("", settings(local).get("HTTPS_PROXY"));
        }
    }

    @Test
    void theAddressesThatGoThroughTheProxyAreNamed() {
        assertEquals(List.of("LIVEKIT_URL", "OPENAI_BASE_URL", "CRM_URL"), settings(Map.of(
                "HTTPS_PROXY", "x:1", "LIVEKIT_URL", "wss://livekit.example")).proxied());
        assertEquals(List.of("OPENAI_BASE_URL"), settings(Map.of(
                "HTTPS_PROXY", "x:1", "NO_PROXY", "crm.example")).proxied());
        assertEquals(2, refused(Map.of("HTTPS_PROXY", "a b", "LIVEKIT_URL", "wss://a b")).size());
    }

    @Test
    void theProxyMayBeSetInLowerCaseAsForOtherPrograms() throws Exception {
        assertEquals("a:1 x", proxy(settings(Map.of("https_proxy", "a:1", "no_proxy", "x"))));
        assertEquals("b:1 y", proxy(settings(Map.of("https_proxy", "a:1", "no_proxy", "x",
                "HTTPS_PROXY", "b:1", "NO_PROXY", "y"))));
        assertEquals("a:1 x", proxy(settings(Map.of("https_proxy", "a:1", "no_proxy", "x",
                "HTTPS_PROXY", "", "NO_PROXY", " "))));
        assertEquals("a:1 x", proxy(settings(Map.of("https_proxy", "a:1", "no_proxy", "x",
                "HTTPS_PROXY", "\"\"", "NO_PROXY", " # none"))), "blank in other ways");
        Path file = folder().resolve(".env");
        Files.writeString(file, "HTTPS_PROXY=b:1\nno_proxy='y'\n");
        assertEquals("b:1 y", proxy(Settings.load(SIX, file)));
        var both = new HashMap<>(SIX);
        both.put("https_proxy", "a:1");
        assertEquals("a:1 y", proxy(Settings.load(both, file)));
    }

    private static String proxy(Settings settings) {
        return settings.get("HTTPS_PROXY") + " " + settings.get("NO_PROXY");
    }

    private static boolean isProxied(String noProxy, String address) {
        var way = new Proxies(settings(Map.of("HTTPS_PROXY", "http://proxy.example:3128"))
                .with(Map.of("NO_PROXY", noProxy))).select(URI.create(address)).getFirst();
        if (way == Proxy.NO_PROXY) {
            return false;
        }
        assertEquals(Proxy.Type.HTTP, way.type());
        var to = (InetSocketAddress) way.address();
        assertEquals("proxy.example:3128", to.getHostString() + ":" + to.getPort());
        assertTrue(to.isUnresolved(), "each connection looks its name up");
        return true;
    }

    @Test
    void whatIsEncryptedAndElsewhereGoesThroughTheProxy() {
        for (String there : List.of("https://crm.example/x", "wss://livekit.example",
                "https://10.0.0.1:8443", "https://[2001:db8::1]/", "https://localhost.example",
                "https://128.0.0.1")) {
            assertTrue(isProxied("", there), there);
        }
        for (String here : List.of("https://localhost:8443", "wss://127.0.0.1", "https://[::1]:1",
                "https://LOCALHOST", "https://127.1.2.3", "http://crm.example",
                "ws://livekit.example", "socket://crm.example:443")) {
            assertEquals(false, isProxied("", here), here);
        }
    }

    @Test
    void noProxyNamesHostsDomainsNetworksAndPorts() {
        var rules = new LinkedHashMap<String, String>();    // rule: hosts that it is for / is not
        rules.put("*", "a.example 10.0.0.1 [2001:db8::1] /");
        rules.put("crm.example", "crm.example CRM.example a.crm.example crm.example. / "
                + "xcrm.example example crm.example.org");
        for (String same : List.of(".crm.example", "*.crm.example", " CRM.example ",
                "x, crm.example", "x crm.example,,", "crm.example.")) {
            rules.put(same, rules.get("crm.example"));
        }
        rules.put("crm.example:443", "crm.example a.crm.example:443 / crm.example:8443");
        rules.put("crm.example:8443", "crm.example:8443 / crm.example crm.example:443");
        rules.put("10.1.2.3", "10.1.2.3 / 10.1.2.30 10.1.2.2 a.10.1.2.3.example");
        rules.put("10.1.2.3:8443", "10.1.2.3:8443 / 10.1.2.3");
        rules.put("10.0.0.0/8", "10.1.2.3 10.255.255.255:1 / 11.0.0.1 9.255.255.255 ten.example");
        rules.put("192.168.4.0/22", "192.168.4.1 192.168.7.255 / 192.168.3.255 192.168.8.0");
        rules.put("200.0.0.0/5", "200.1.1.1 207.1.1.1 / 199.1.1.1 208.1.1.1");
        rules.put("0.0.0.0/0", "1.2.3.4 / [2001:db8::1] crm.example");
        rules.put("2001:db8::/32", "[2001:db8::1] [2001:db8:ffff::] / [2001:db9::] 32.1.13.184");
        rules.put("[2001:db8::1]", "[2001:db8::1] [2001:db8:0::1]:8443 / [2001:db8::2]");
        rules.put("[2001:db8::1]:8443", "[2001:db8::1]:8443 / [2001:db8::1]");
        for (String nothing : List.of("", ",", ".", "10.0.0.0/x", "10.0.0.0/33", "10.0.0.0/",
                "/8", "a/b", ":443", "[")) {
            rules.put(nothing, "/ crm.example crm.example. 10.0.0.1 [::2]");
        }
        rules.forEach((rule, hosts) -> {
            String[] direct = hosts.split("/");
            for (String host : direct[0].strip().split(" +")) {
                assertEquals(false, !host.isEmpty() && isProxied(rule, "https://" + host),
                        rule + " is for " + host);
            }
            for (String host : direct.length < 2 ? new String[0] : direct[1].strip().split(" +")) {
                assertTrue(isProxied(rule, "https://" + host), rule + " is not for " + host);
            }
        });
    }

    // .env.

    @Test
    void dotEnvIsReadAsShellsAndDotenvReadItAndTheEnvironmentMeansTheSame() throws Exception {
        Path file = folder().resolve(".env");
        var written = new LinkedHashMap<String, String>();      // the value, by how it is written
        written.put("x   # yours", "x");
        written.put("se#cr=et", "se#cr=et");
        written.put("\"a # b\"", "a # b");
        written.put("'a b' # c", "a b");
        written.put("'a\"b'", "a\"b");
        written.put("\"open", "\"open");
        written.put("a'b'", "a'b'");
        written.put("\"\"", "webhook-crm-agent");                  // blank
        written.put("# c", "webhook-crm-agent");
        written.put("", "webhook-crm-agent");
        for (var each : written.entrySet()) {
            var all = new HashMap<>(SIX);
            all.put("LIVEKIT_AGENT_NAME", " " + each.getKey() + "\r");
            assertEquals(each.getValue(), Settings.load(all, Path.of("no such file"))
                    .get("LIVEKIT_AGENT_NAME"), each.getKey());
            for (String before : List.of("LIVEKIT_AGENT_NAME=", "  export LIVEKIT_AGENT_NAME = ",
                    "\uFEFF# a comment = no\n\nLIVEKIT_AGENT_NAME=first\nLIVEKIT_AGENT_NAME=")) {
                Files.writeString(file, before + each.getKey() + "\r\n");
                assertEquals(each.getValue(), Settings.load(SIX, file).get("LIVEKIT_AGENT_NAME"),
                        before + each.getKey());
            }
        }
    }

    @Test
    void theEnvironmentGoesBeforeDotEnvUnlessItIsBlank() throws Exception {
        Path file = folder().resolve(".env");
        Files.writeString(file, "LIVEKIT_AGENT_NAME=of-the-file\nOPENAI_VOICE=of-the-file\n"
                + "OPENAI_TRANSCRIBE_MODEL=of-the-file\nMAX_CALLS=7\n");
        var environment = new HashMap<>(SIX);
        environment.putAll(Map.of("LIVEKIT_AGENT_NAME", " of-the-environment ", "OPENAI_VOICE", "",
                "OPENAI_TRANSCRIBE_MODEL", ""));
        var settings = Settings.load(environment, file);
        assertEquals("of-the-environment", settings.get("LIVEKIT_AGENT_NAME"));
        assertEquals("of-the-file", settings.get("OPENAI_VOICE"));
        assertEquals("", settings.get("OPENAI_TRANSCRIBE_MODEL"));
        assertEquals(7, settings.number("MAX_CALLS"));
    }

    @Test
    void aLineOrAFileThatCannotBeReadIsSaidWithoutQuotingIt() throws Exception {
        Path file = folder().resolve(".env");
        for (String line : List.of("OPENAI_API_KEY sk-secret", "=sk-secret", "a-b=sk-secret")) {
            Files.writeString(file, line + "\n");
            assertEquals(List.of(file + " has a line that is not NAME=value"),
                    problems(() -> Settings.load(SIX, file)));
        }
        Path noFile = folder();
        assertEquals(List.of(noFile + " cannot be read: IOException: Is a directory"),
                problems(() -> Settings.load(SIX, noFile)));
    }

    // What is asked at the start.

    @Test
    void aWrongKeyOfTheCrmIsFoundBeforeTheFirstCallerFindsIt() throws Exception {
        assertNull(Checks.crm(crm().url(), "crm-key"));
        assertTrue(Checks.crm("http://127.0.0.1:1", "").contains("check CRM_URL"));
        assertTrue(Checks.crm(server(exchange -> {
            boolean key = "Bearer crm-key".equals(
                    exchange.getRequestHeaders().getFirst("Authorization"));
            exchange.sendResponseHeaders(key ? 401 : 200, -1);
            exchange.close();
        }), "crm-key").contains("CRM_API_KEY"));
        assertEquals("HTTPS_PROXY wants a user and a password", Checks.crm(server(exchange -> {
            exchange.sendResponseHeaders(407, -1);
            exchange.close();
        }), ""));
    }

    @Test
    void theExampleFileNamesEverySetting() throws Exception {
        var example = Files.readAllLines(Path.of(".env.example")).stream()
                .filter(line -> line.contains("=") && !line.startsWith("#"))
                .collect(Collectors.toMap(line -> line.substring(0, line.indexOf('=')),
                        line -> line.substring(line.indexOf('=') + 1)));
        var inSource = Pattern.compile("\"(" + A_SETTING + ")\"")
                .matcher(Files.readString(Path.of("start/Settings.java"))
                        + Files.readString(Path.of("Agent.java"))).results()
                .map(found -> found.group(1)).collect(Collectors.toSet());
        assertEquals(inSource, example.keySet());
        var filled = new HashMap<>(example);
        filled.putAll(SIX);
        var settings = Settings.load(filled, Path.of("no such file"));
        inSource.forEach(name -> assertEquals(settings(Map.of()).get(name), settings.get(name)));
    }
}
