package start;

import module java.base;
import voice.Log;
import voice.Model;
import voice.Numbers;
import voice.Options;

/// The settings, under the names of .env.example. A setting comes from the environment. If it is
/// blank or missing there, it comes from the file .env. Start loads the settings, and makes the
/// program from them.
///
/// It is not a record, because a record would print its secrets.
public final class Settings {
    private static final String MAKE_A_SECRET = "make one with `openssl rand -hex 32`";
    private static final String[][] NEEDED = {
        {"LIVEKIT_URL", "your LiveKit server's wss:// address, from the project's settings; "
                + "ws://127.0.0.1:7880 for `livekit-server --dev`"},
        {"LIVEKIT_API_KEY", "from the same page; `devkey`"},
        {"LIVEKIT_API_SECRET", "from the same page; `secret`"},
        {"CRM_URL", "the https:// address that your CRM's end points are below"},
        {"WEBHOOK_SECRET", "what events are signed with: " + MAKE_A_SECRET
                + " and give it to your CRM"},
        {"OPENAI_API_KEY", "from platform.openai.com/api-keys"},
    };
    private static final Map<String, String> DEFAULTS = Map.of(
            "LIVEKIT_AGENT_NAME", "webhook-crm-agent",
            "OUTBOX_DIR", "outbox",
            "OPENAI_BASE_URL", "https://api.openai.com/v1",
            "OPENAI_REALTIME_MODEL", "gpt-realtime-2.1-mini",
            "OPENAI_TRANSCRIBE_MODEL", "gpt-transcribe",
            "OPENAI_TURN_DETECTION", "server_vad");
    private static final List<String> TRANSFERS =
            List.of("TRANSFER_SALES", "TRANSFER_BILLING", "TRANSFER_SUPPORT");
    private static final List<String> MAY_BE_BLANK = List.of("CRM_API_KEY", "OPENAI_VOICE",
            "OPENAI_NOISE_REDUCTION", "VOBIZ_SIP_DOMAIN", "OUTBOUND_TRUNK_ID", "OUTBOUND_PREFIXES",
            "HEALTH_HOST", "LOOKUP_ANYBODY", "LOG_WORDS", "SEND_TRANSCRIPT", "PHONE_REGION",
            "HTTPS_PROXY", "NO_PROXY");
    private static final Map<String, String> LOWER_CASE =   // other programs read these, too
            Map.of("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY");
    private static final Pattern PROXY = Pattern.compile(
            "(?i:http://)?([\\w.-]+|\\[[0-9A-Fa-f:]+])(?::([0-9]{1,5}))?/?");
    private static final Pattern AFTER_QUOTES =             // but for a comment
            Pattern.compile("\"[^\"]*\"\\s*[^\\s#].*|'[^']*'\\s*[^\\s#].*");
    private static final Map<String, List<String>> CHOICES = Map.of(
            "LOOKUP_ANYBODY", List.of("true", "false", ""),
            "LOG_WORDS", List.of("true", "false", ""),
            "SEND_TRANSCRIPT", List.of("true", "false", ""),
            "OPENAI_TURN_DETECTION", List.of("server_vad", "semantic_vad"),
            "OPENAI_NOISE_REDUCTION", List.of("near_field", "far_field", ""));
    private static final int LEAST_SECRET = 24;             // bytes, as Standard Webhooks has it
    private static final int MOST_SECRETS = 2;              // the new one and the old one
    private static final Map<String, Range> NUMBERS = Map.of(
            "MAX_CALL_MINUTES", new Range(1, 9_999, 30, "minutes"),
            "MAX_CALLS", new Range(1, 10_000, 20, "calls"),
            "SILENCE_SECONDS", new Range(1, 3_600, 15, "seconds"),
            "DRAIN_SECONDS", new Range(0, 86_400, 600, "seconds"),
            "RESTART_AFTER_CALLS", new Range(0, 99_999, 5_000, "calls"),
            "HEALTH_PORT", new Range(0, 65_535, 8_081, "a port"));

    /// `usual` is the default.
    private record Range(int least, int most, int usual, String what) {}

    private final Map<String, String> values;
    private Model model;                                    // once it was asked for

    private Settings(Map<String, String> values) {
        this.values = values;
    }

    public String get(String name) {
        return values.get(name);
    }

    public int number(String name) {
        return Integer.parseInt(values.get(name));
    }

    /// Is this setting `true`? It is not if it is blank.
    public boolean yes(String name) {
        return values.get(name).equals("true");
    }

    /// Where callers can be transferred to: `sales` -> `tel:+15551234567`.
    public Map<String, String> destinations() {
        var destinations = new TreeMap<String, String>();
        for (String name : TRANSFERS) {
            String to = values.get(name);
            if (!to.isEmpty()) {
                destinations.put(name.substring("TRANSFER_".length()).toLowerCase(Locale.ROOT),
                        !to.startsWith("+") ? to : get("VOBIZ_SIP_DOMAIN").isEmpty()
                                ? "tel:" + to : "sip:" + to + "@" + get("VOBIZ_SIP_DOMAIN"));
            }
        }
        return destinations;
    }

    /// The model that is set: the same object each time.
    public synchronized Model model() {
        if (model == null) {
            model = new Model(get("OPENAI_API_KEY"), get("OPENAI_BASE_URL"),
                    get("OPENAI_REALTIME_MODEL"), get("OPENAI_VOICE"),
                    get("OPENAI_TRANSCRIBE_MODEL"), get("OPENAI_TURN_DETECTION"),
                    get("OPENAI_NOISE_REDUCTION"));
        }
        return model;
    }

    /// The names of the addresses that are reached through HTTPS_PROXY. Some are, if it is set.
    public List<String> proxied() {
        return Proxies.through(values);
    }

    /// What is set for all calls.
    public Options options() {
        return new Options(get("OUTBOUND_TRUNK_ID"), prefixes(values), destinations(),
                Duration.ofSeconds(number("SILENCE_SECONDS")),
                Duration.ofMinutes(number("MAX_CALL_MINUTES")), new Numbers(get("PHONE_REGION")));
    }

    private static List<String> prefixes(Map<String, String> values) {
        return Arrays.stream(values.get("OUTBOUND_PREFIXES").split(","))
                .map(String::strip).filter(prefix -> !prefix.isEmpty()).toList();
    }

    /// The same settings, but the CRM and the model are at that address, the outbox is another
    /// folder, and the keys are none that anybody takes.
    public Settings at(String url) {
        return with(Map.of("OUTBOX_DIR", get("OUTBOX_DIR") + "/rehearsal", "CRM_URL", url,
                "OPENAI_BASE_URL", url + "/v1", "OPENAI_API_KEY", "none", "CRM_API_KEY", "none",
                "WEBHOOK_SECRET", UUID.randomUUID().toString(), "LIVEKIT_API_KEY", "none",
                "LIVEKIT_API_SECRET", "none"));
    }

    /// The same settings, but with these instead of its own. They are not checked.
    public Settings with(Map<String, String> others) {
        var all = new HashMap<>(values);
        all.putAll(others);
        return new Settings(all);
    }

    public static Settings load(Map<String, String> environment, Path file) {
        return load(environment, file, Map.of());
    }

    /// `usual` has values for settings that are missing otherwise. Throws an
    /// IllegalArgumentException that names everything that is missing or wrong.
    public static Settings load(Map<String, String> environment, Path file,
            Map<String, String> usual) {
        var problems = new ArrayList<String>();
        var values = new HashMap<>(DEFAULTS);
        values.putAll(usual);
        TRANSFERS.forEach(name -> values.put(name, ""));
        MAY_BE_BLANK.forEach(name -> values.put(name, ""));
        NUMBERS.forEach((name, range) -> values.put(name, Integer.toString(range.usual)));
        set(problems, values, parse(problems, file));
        set(problems, values, environment);

        for (String[] each : NEEDED) {
            if (!values.containsKey(each[0])) {
                problems.add(each[0] + " is missing: " + each[1]);
            }
        }
        address(problems, values, "LIVEKIT_URL", "http", "https", "ws", "wss");
        address(problems, values, "CRM_URL", "http", "https");
        address(problems, values, "OPENAI_BASE_URL", "http", "https");
        for (String name : List.of("CRM_API_KEY", "OPENAI_API_KEY")) {
            if (!values.getOrDefault(name, "").matches("[!-~]*")) {
                problems.add(name + " holds something that no key does: a space, a quote "
                        + "from a text program, ..");
            }
        }
        if (values.containsKey("WEBHOOK_SECRET")) {
            secrets(problems, values.get("WEBHOOK_SECRET"));
        }
        NUMBERS.forEach((name, range) -> {
            String value = values.get(name);
            if (!value.matches("[0-9]{1,5}") || Integer.parseInt(value) < range.least
                    || Integer.parseInt(value) > range.most) {
                problems.add("%s is not a number from %d to %d (%s)".formatted(
                        name, range.least, range.most, range.what));
            }
        });
        CHOICES.forEach((name, choices) -> {
            if (!choices.contains(values.get(name))) {
                problems.add(name + " is neither " + choices.get(0) + " nor " + choices.get(1));
            }
        });
        try {
            new Numbers(values.get("PHONE_REGION"));
        } catch (IllegalArgumentException e) {
            problems.add("PHONE_REGION is " + e.getMessage());
        }
        List<String> prefixes = prefixes(values);
        for (String prefix : prefixes) {
            if (!prefix.matches("\\+[1-9][0-9]{0,14}")) {
                problems.add("OUTBOUND_PREFIXES has something that no number begins with: it looks "
                        + "like +1,+44");
            }
        }
        if (!values.get("OUTBOUND_TRUNK_ID").isEmpty() && prefixes.isEmpty()) {
            problems.add("OUTBOUND_PREFIXES is missing: OUTBOUND_TRUNK_ID is set, and the agent "
                    + "calls only numbers that begin with one of these, like +1,+44");
        }
        for (String name : TRANSFERS) {
            String value = values.get(name);
            if (!value.isEmpty()
                    && !value.matches(Numbers.E164 + "|(tel|sips?):[!-;=?-~]+")) {
                problems.add(name + " is neither a number like +15551234567 nor an address "
                        + "that begins with tel: or sip:");
            }
        }
        if (!values.get("VOBIZ_SIP_DOMAIN").matches("[\\w.:-]*")
                || values.get("VOBIZ_SIP_DOMAIN").startsWith("sip:")) {
            problems.add("VOBIZ_SIP_DOMAIN is not a host like 1234.sip.vobiz.ai");
        }
        if (!values.get("HEALTH_HOST").matches("[\\w.-]*|[0-9A-Fa-f:]+|\\[[0-9A-Fa-f:]+]")) {
            problems.add("HEALTH_HOST is not an address of this machine, like 127.0.0.1");
        }
        proxy(problems, values);
        if (!problems.isEmpty()) {
            throw new IllegalArgumentException("Set these in the environment or in "
                    + file.toAbsolutePath() + " (.env.example shows how):\n  "
                    + String.join("\n  ", new LinkedHashSet<>(problems)));
        }
        return new Settings(values);
    }

    private static void secrets(List<String> problems, String secrets) {
        if (secrets.contains("your-hmac-secret")) {
            problems.add("WEBHOOK_SECRET is still that of the example: " + MAKE_A_SECRET);
            return;
        }
        String[] all = secrets.split(",", -1);
        if (all.length > MOST_SECRETS) {
            problems.add("WEBHOOK_SECRET has more than one comma: set one secret, or NEW,OLD");
        } else {
            Arrays.stream(all).map(String::strip).forEach(each -> secret(problems, each));
        }
    }

    /// A secret that begins with `whsec_` goes on with base64. Then the bytes of that count.
    private static void secret(List<String> problems, String secret) {
        if (secret.isEmpty()) {
            problems.add("WEBHOOK_SECRET has a comma, but a secret is missing before it or behind "
                    + "it");
            return;
        }
        try {
            byte[] key = secret.startsWith("whsec_")
                    ? Base64.getDecoder().decode(secret.substring("whsec_".length()))
                    : secret.getBytes(StandardCharsets.UTF_8);
            if (key.length < LEAST_SECRET) {
                problems.add("WEBHOOK_SECRET has fewer than " + LEAST_SECRET
                        + " bytes, so somebody could guess it: " + MAKE_A_SECRET);
            }
        } catch (IllegalArgumentException e) {
            problems.add("WEBHOOK_SECRET begins with whsec_, but what follows is not base64");
        }
    }

    private static void set(List<String> problems, Map<String, String> values,
            Map<String, String> found) {
        found.forEach((given, written) -> {
            String name = LOWER_CASE.getOrDefault(given, given);
            boolean known = values.containsKey(name)
                    || Arrays.stream(NEEDED).anyMatch(each -> each[0].equals(name));
            if (known && AFTER_QUOTES.matcher(written.strip()).matches()) {
                problems.add(name + " has something behind its closing quote: put all of it into "
                        + "one pair of quotes");
            }
            boolean alsoInCapitals = !name.equals(given)
                    && !value(found.getOrDefault(name, "").strip()).isBlank();
            String value = value(written.strip()).strip();
            // A blank setting counts as missing, except for the one where blank means "none".
            if (!alsoInCapitals
                    && (!value.isEmpty() || name.equals("OPENAI_TRANSCRIBE_MODEL"))) {
                values.put(name, value);
            }
        });
    }

    /// Is this an address, and nobody can listen on the way there? Also puts it into `values`
    /// without a slash at its end. The last of `schemes` is the one for the message.
    private static void address(List<String> problems, Map<String, String> values, String name,
            String... schemes) {
        String value = values.getOrDefault(name, "").replaceFirst("/+$", "");
        if (value.isEmpty()) {
            return; // the list of problems has that already
        }
        values.put(name, value);
        String safe = schemes[schemes.length - 1];
        String open = safe.replaceFirst("s$", "");
        try {
            URI address = new URI(value);
            if (address.getHost() != null && List.of(schemes).contains(address.getScheme())
                    && address.getRawUserInfo() == null && address.getRawQuery() == null
                    && address.getRawFragment() == null
                    && address.getPort() != 0 && address.getPort() <= 65_535) {
                if (List.of("http", "ws").contains(address.getScheme()) && !List.of(
                        "localhost", "127.0.0.1", "[::1]").contains(address.getHost())) {
                    problems.add(name + ": what callers say travels to it, so it must be " + safe
                            + ":// (" + open + ":// is allowed to localhost only)");
                }
                return;
            }
        } catch (URISyntaxException e) {
            // The message below fits this mistake, too.
        }
        problems.add(name + " is not an address like " + safe
                + "://host, with nothing but a path behind it");
    }

    /// Puts the address of the proxy into `values` as `host:port`; or as blank, if nothing is
    /// reached through it. No message quotes it, because it may hold a password.
    private static void proxy(List<String> problems, Map<String, String> values) {
        String address = values.get("HTTPS_PROXY");
        if (address.isEmpty() || Proxies.through(values).isEmpty()) {
            values.put("HTTPS_PROXY", "");
            return;
        }
        Matcher parts = PROXY.matcher(address);
        int port = !parts.matches() ? 0 : parts.group(2) == null ? 80      // that of http://
                : Integer.parseInt(parts.group(2));
        if (port >= 1 && port <= 65_535) {
            values.put("HTTPS_PROXY", parts.group(1) + ":" + port);
        } else {
            problems.add(address.contains("@") ? "HTTPS_PROXY has a user and a password, which the "
                    + "agent cannot give to a proxy: use one that takes it without them"
                    : "HTTPS_PROXY is not an address like http://proxy.example:3128");
        }
    }

    /// Reads the lines NAME=value, as shells and dotenv do, with a leading `export` or without.
    private static Map<String, String> parse(List<String> problems, Path file) {
        var values = new HashMap<String, String>();
        try {
            for (String line : Files.notExists(file) ? List.<String>of()
                    : Files.readAllLines(file)) {
                line = line.replace("\uFEFF", "").strip();
                int equals = line.indexOf('=');
                String name = line.substring(0, Math.max(equals, 0))
                        .replaceFirst("^export ", "").strip();
                if (name.matches("\\w+")) {
                    values.put(name, line.substring(equals + 1));
                } else if (!line.isEmpty() && !line.startsWith("#")) {
                    // The message does not quote the line, because it may be a secret.
                    problems.add(file + " has a line that is not NAME=value");
                }
            }
        } catch (IOException e) {
            problems.add(file + " cannot be read: " + Log.reason(e));
        }
        return values;
    }

    /// The value without its quotes, and without a comment (#). `docker run --env-file` and others
    /// leave these in the environment. So they mean the same there as in the file.
    private static String value(String written) {
        int end = written.isEmpty() ? -1 : written.indexOf(written.charAt(0), 1);
        if (end > 0 && "\"'".indexOf(written.charAt(0)) >= 0) {
            return written.substring(1, end);
        }
        int comment = written.startsWith("#") ? 0 : written.indexOf(" #");
        return comment < 0 ? written : written.substring(0, comment).strip();
    }
}
