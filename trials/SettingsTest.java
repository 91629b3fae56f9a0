package trials;

import module java.base;
import org.junit.jupiter.api.Test;
import start.Checks;
import start.Settings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// start/Settings and .env.example: defaults, what is refused and in which words, and how `.env` is
/// read.
public final class SettingsTest extends Stand {
    /// A pattern: what the name of a setting looks like.
    static final String A_SETTING = "(?:LIVEKIT|CRM|WEBHOOK|OPENAI|MAX|TRANSFER|VOBIZ|OUTBOUND"
            + "|OUTBOX|SILENCE|DRAIN|HEALTH)_[A-Z_]+";

    @Test
    void settingsHaveTheirDefaults() {
        var settings = settings(Map.of());
        assertEquals("webhook-crm-agent", settings.get("LIVEKIT_AGENT_NAME"));
        assertEquals("https://crm.example/api", settings.get("CRM_URL"));
        assertEquals("https://api.openai.com/v1", settings.get("OPENAI_BASE_URL"));
        assertEquals("gpt-realtime-2.1-mini", settings.get("OPENAI_REALTIME_MODEL"));
        assertEquals("gpt-transcribe", settings.get("OPENAI_TRANSCRIBE_MODEL"));
        var silent = settings(Map.of("OPENAI_TRANSCRIBE_MODEL", "", "OPENAI_REALTIME_MODEL", " "));
        assertEquals("", silent.get("OPENAI_TRANSCRIBE_MODEL"));
        assertEquals("gpt-realtime-2.1-mini", silent.get("OPENAI_REALTIME_MODEL"));
        assertEquals("30", settings.get("MAX_CALL_MINUTES"));
        assertFalse(settings.toString().contains("secret-"), settings.toString());
    }

    @Test
    void everythingThatIsWrongIsSaidAtOnce() {
        String said = assertThrows(IllegalArgumentException.class,
                () -> Settings.load(Map.of(), Path.of("no such file"))).getMessage();
        SIX.keySet().forEach(name -> assertTrue(said.contains(name + " is missing"), name));

        for (var wrong : Map.of("LIVEKIT_URL", "livekit.example", "MAX_CALL_MINUTES", "soon",
                "WEBHOOK_SECRET", "whsec_???", "OPENAI_BASE_URL", "http://x.example",
                "CRM_API_KEY", "pasted\u2019", "CRM_URL", "http://crm.example").entrySet()) {
            String reason = assertThrows(IllegalArgumentException.class,
                    () -> settings(Map.of(wrong.getKey(), wrong.getValue()))).getMessage();
            assertTrue(reason.contains(wrong.getKey()), reason);
            assertFalse(reason.contains("pasted"), reason);
        }
        for (String crm : List.of("https://user:pw@crm.example", "https://crm.example?a=b",
                "https:///x", "crm.example", "http://127.0.0.1.example")) {
            assertThrows(IllegalArgumentException.class,
                    () -> settings(Map.of("CRM_URL", crm)), crm);
        }
        for (String crm : List.of("http://localhost:1", "http://127.0.0.1:1/x", "http://[::1]:1")) {
            assertEquals(crm, settings(Map.of("CRM_URL", crm)).get("CRM_URL"));
        }
    }

    @Test
    void destinationsAreNumbersOrAddresses() {
        var numbers = Map.of("TRANSFER_SALES", "+15550001111", "TRANSFER_BILLING", "tel:+1555",
                "TRANSFER_SUPPORT", "sip:help@pbx.example;transport=tcp");
        assertEquals(Map.of("sales", "tel:+15550001111", "billing", "tel:+1555",
                "support", "sip:help@pbx.example;transport=tcp"),
                settings(numbers).destinations());
        assertEquals("sip:+15550001111@1234.sip.example", settings(Map.of("TRANSFER_SALES",
                "+15550001111", "VOBIZ_SIP_DOMAIN", "1234.sip.example")).destinations()
                .get("sales"));
        assertEquals(Map.of(), settings(Map.of()).destinations());
        for (var wrong : Map.of("TRANSFER_SALES", "5550001111", "TRANSFER_BILLING", "+1 555 0001",
                "TRANSFER_SUPPORT", "https://x.example", "VOBIZ_SIP_DOMAIN", "sip:x.example",
                "MAX_CALLS", "0", "HEALTH_PORT", "70000", "DRAIN_SECONDS", "-1").entrySet()) {
            String said = assertThrows(IllegalArgumentException.class,
                    () -> settings(Map.of(wrong.getKey(), wrong.getValue()))).getMessage();
            assertTrue(said.contains(wrong.getKey()), said);
        }
    }

    @Test
    void dotEnvIsReadAsShellsAndDotenvReadIt() throws Exception {
        Path file = folder().resolve(".env");
        Files.writeString(file, "\uFEFF" + """
                # comment = no

                LIVEKIT_URL=wss://x.livekit.cloud   # yours
                  export LIVEKIT_API_KEY = key
                LIVEKIT_API_SECRET="a # b"
                CRM_URL='https://crm.example'
                WEBHOOK_SECRET=se#cr=et
                OPENAI_API_KEY=from-file
                OPENAI_VOICE=   # blank
                LIVEKIT_AGENT_NAME=from-file
                """);
        var settings = Settings.load(
                Map.of("LIVEKIT_AGENT_NAME", "from-environment", "OPENAI_API_KEY", ""), file);
        var expected = Map.of("LIVEKIT_URL", "wss://x.livekit.cloud", "LIVEKIT_API_KEY", "key",
                "LIVEKIT_API_SECRET", "a # b", "CRM_URL", "https://crm.example",
                "WEBHOOK_SECRET", "se#cr=et", "OPENAI_API_KEY", "from-file", "OPENAI_VOICE", "",
                "LIVEKIT_AGENT_NAME", "from-environment");
        expected.forEach((name, value) -> assertEquals(value, settings.get(name), name));

        Files.writeString(file, "OPENAI_API_KEY sk-secret\n");
        String said = assertThrows(IllegalArgumentException.class,
                () -> Settings.load(SIX, file)).getMessage();
        assertTrue(said.contains("not NAME=value") && !said.contains("sk-secret"), said);
    }

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
