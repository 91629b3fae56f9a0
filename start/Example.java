package start;

import module java.base;
import delivery.Http;
import delivery.Outbox;
import jakarta.json.Json;
import jakarta.json.JsonException;
import jakarta.json.JsonObject;
import voice.End;
import voice.Log;

/// The verb `event`: sends one event to the CRM that is set, signed as in a call, and says what has
/// come back. So whoever writes a receiver can try it without a call. The events are the examples
/// of docs/openapi.yaml. Start calls this.
///
/// It is a class of its own, so that `dev` and `start` need not compile it when they start.
final class Example {
    private static final Path CONTRACT = Path.of("docs", "openapi.yaml");
    /// An example of an event, up to its JSON.
    private static final Pattern EXAMPLE = Pattern.compile(
            "(?m)^ +([a-z]+\\.[a-z_]+):\\s+summary: .*\\s+value:\\s+(?=\\{\\s*\"id\")");

    private Example() {}

    /// Returns the exit status: 0 when the CRM has taken the event.
    static int run(String name, Start.Maker maker) throws Exception {
        if (Files.notExists(CONTRACT)) {
            System.err.println("There is no " + CONTRACT + ", which has the events: start this in "
                    + "the folder of the project");
            return 2;
        }
        Map<String, JsonObject> examples = examples(Files.readString(CONTRACT));
        if (!examples.containsKey(name)) {
            System.err.println("There is no event " + Log.clean(name) + ". There are: "
                    + String.join(", ", examples.keySet()));
            return 2;
        }
        Settings given = Start.settings(System.getenv(), Map.of("LIVEKIT_URL", "ws://localhost",
                "LIVEKIT_API_KEY", "none", "LIVEKIT_API_SECRET", "none",
                "OPENAI_API_KEY", "none"));
        // Another process may be using the outbox.
        String folder = given.get("OUTBOX_DIR") + "/event-" + UUID.randomUUID();
        Program program = maker.make(given.with(Map.of("OUTBOX_DIR", folder)));
        Http.logAnswers();
        try {
            return send(name, examples.get(name), program.crm());
        } finally {
            program.close(Duration.ZERO);
            Start.delete(Path.of(folder));
        }
    }

    static Map<String, JsonObject> examples(String contract) {
        var examples = new TreeMap<String, JsonObject>();
        EXAMPLE.matcher(contract).results().forEach(found -> {
            try (var parser = Json.createParser(
                    new StringReader(contract.substring(found.end())))) {
                parser.next();
                examples.put(found.group(1), parser.getObject());
            } catch (JsonException e) {
                throw new IllegalStateException(CONTRACT + ", " + found.group(1), e);
            }
        });
        return examples;
    }

    /// With an id and a time of its own: a receiver refuses what it has had before.
    private static int send(String name, JsonObject example, Program.Crm crm)
            throws InterruptedException {
        String id = "evt_" + UUID.randomUUID(), call = "example_" + id.substring(4, 10);
        String body = Json.createObjectBuilder(example).add("id", id).add("call_id", call)
                .add("timestamp", End.MILLIS.format(Instant.now()))
                .build().toString();
        Log.step(call, "event", "%-19s  %s".formatted(name, id));
        try {
            switch (crm.post(new Outbox.Delivery(call, id, "/webhooks/" + name.split("[.]")[0],
                    body.getBytes(StandardCharsets.UTF_8)))) {
                case Outbox.Taken() -> {
                    System.out.println("The CRM has taken it.");
                    return 0;
                }
                case Outbox.Later _ -> System.out.println(
                        "NOT taken. In a call, the agent would send it again until it is taken.");
                case Outbox.Refused(_, _, var forGood) -> System.out.println(
                        "NOT taken. In a call, the agent would put it aside"
                                + (forGood ? "." : ", after three attempts more."));
            }
        } catch (IOException e) {
            System.out.println("NOT taken: no answer (" + Log.reason(e) + "). In a call, the agent "
                    + "would send it again until it is taken.");
        }
        return 1;
    }
}
