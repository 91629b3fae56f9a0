package trials;

import module java.base;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.networknt.schema.SchemaLocation;
import com.networknt.schema.SchemaRegistry;
import com.networknt.schema.SpecificationVersion;
import jakarta.json.Json;
import org.junit.jupiter.api.Test;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// docs/openapi.yaml says the same as its own examples and as the docs; and Contract, which holds
/// the program's requests against it, notices every request that is not as it says.
public final class ContractTest {
    private static final JsonNode SCHEMAS = Contract.ROOT.at("/components/schemas");
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;
    /// The fields that may be null, in all events or in one request. All others may not.
    private static final Set<String> NULLABLE = Set.of("phone", "to", "direction", "contact_id",
            "sip_call_id", "sip_id", "call.transfer_failed sip_code", "call.ended cause",
            "call.ended answered_at", "call.ended talk_ms", "call.ended intent",
            "call.ended sip_code", "call.ended model", "call.ended usage",
            "contacts.activities intent", "contacts.activities transfer_to");

    /// An example of a request, by its name.
    private record Example(String name, String path, ObjectNode body) {
        List<String> violations(Map<String, String> headers) {
            return Contract.violations("POST", path, headers, body.toString().getBytes(UTF_8));
        }

        List<String> violations() {
            return violations(headers());
        }

        /// The headers with which the program would send it.
        Map<String, String> headers() {
            var headers = new TreeMap<>(Map.of("content-type", "application/json",
                    "user-agent", "livekit-phone-agent/1"));
            if (path.startsWith("/webhooks/")) {
                headers.putAll(Map.of("x-event-version", "1", "x-signature", "0a".repeat(32),
                        "webhook-id", "evt_" + UUID.randomUUID(),
                        "webhook-timestamp", "1764137507",
                        "webhook-signature", "v1," + "A".repeat(43) + "="));
            } else if (!path.endsWith("/search")) {
                headers.put("idempotency-key", "req_" + UUID.randomUUID());
            }
            return headers;
        }

        /// All objects in the body, and the body itself.
        List<ObjectNode> objects() {
            var objects = new ArrayList<ObjectNode>();
            for (var next = new ArrayDeque<JsonNode>(List.of(body)); !next.isEmpty(); ) {
                JsonNode each = next.pop();
                each.forEach(next::add);
                if (each instanceof ObjectNode object) {
                    objects.add(object);
                }
            }
            return objects;
        }
    }

    /// Those of all requests, in their order in the file.
    private static List<Example> examples() {
        return Contract.ROOT.path("paths").propertyStream().flatMap(path -> path.getValue()
                .at("/post/requestBody/content/application~1json/examples").propertyStream()
                .map(each -> new Example(each.getKey(), path.getKey().replace("{id}", "c-1"),
                        Contract.ROOT.at(each.getValue().path("$ref").asText().substring(1)
                                + "/value").deepCopy()))).toList();
    }

    @Test
    void everyExampleIsAsItsSchemaSays() {
        examples().forEach(example -> assertEquals(List.of(), example.violations(), example.name));
        for (String answer : List.of("contacts.found", "contacts.none")) {
            assertEquals(List.of(), Contract.errors(answer, "/components/schemas/ContactsFound",
                    Contract.ROOT.at("/components/examples/" + answer + "/value")));
        }
        var used = Stream.concat(examples().stream().map(Example::name),
                Stream.of("contacts.found", "contacts.none")).sorted().toList();
        assertEquals(used, Contract.ROOT.at("/components/examples").propertyStream()
                .map(Map.Entry::getKey).sorted().toList());
    }

    /// The names of examples lead to the places where a program without YAML finds them.
    @Test
    void everyExampleIsAlsoPlainJson() throws IOException {
        String file = Files.readString(Contract.FILE);
        for (Example example : examples()) {
            int at = file.indexOf("\n    " + example.name + ":\n");
            assertTrue(at > 0, example.name);
            try (var json = Json.createParser(new StringReader(file.substring(
                    file.indexOf('{', at))))) {
                json.next();
                assertEquals(Stand.json(example.body.toString()), json.getObject());
            }
        }
    }

    @Test
    void aChangedFieldIsNoticed() {
        int changes = 0;
        for (Example example : examples()) {
            for (ObjectNode object : example.objects()) {
                for (var field : List.copyOf(object.properties())) {
                    String name = field.getKey();
                    JsonNode value = field.getValue();
                    notices(example, object, List.of(name), Map.of());
                    notices(example, object, List.of(name), Map.of(name + "_", value));
                    notices(example, object, List.of(), Map.of(name, JSON.objectNode()));
                    notices(example, object, List.of(), Map.of(name, value.isNull()
                            ? JSON.booleanNode(true) : value.isTextual() ? JSON.numberNode(1)
                            : JSON.textNode("1")));
                    changes++;
                }
                notices(example, object, List.of(), Map.of("more", JSON.nullNode()));
            }
            assertEquals(List.of(), example.violations(), example.name);
        }
        assertTrue(changes > 100, changes + " changes");
    }

    private static void notices(Example example, ObjectNode object, List<String> without,
            Map<String, JsonNode> with) {
        var before = fields(object);
        object.remove(without);
        object.setAll(with);
        assertFalse(example.violations().isEmpty(), () -> "not noticed: " + example);
        object.removeAll();
        object.setAll(before);
    }

    private static Map<String, JsonNode> fields(ObjectNode object) {
        var fields = new LinkedHashMap<String, JsonNode>();
        object.properties().forEach(field -> fields.put(field.getKey(), field.getValue()));
        return fields;
    }

    @Test
    void onlySomeFieldsMayBeNull() {
        var nullable = new TreeSet<String>();
        for (Example example : examples()) {
            for (ObjectNode object : example.objects()) {
                fields(object).forEach((field, value) -> {
                    boolean inAll = example.body.has("sequence") && NULLABLE.contains(field);
                    String name = inAll ? field : example.name + " " + field;
                    object.putNull(field);
                    if (example.violations().isEmpty()) {
                        nullable.add(name);
                    } else {
                        assertFalse(NULLABLE.contains(name), example.name + " " + name);
                    }
                    object.set(field, value);
                });
            }
        }
        assertEquals(new TreeSet<>(NULLABLE), nullable);
    }

    @Test
    void aWrongHeaderIsNoticed() {
        for (Example example : examples()) {
            for (String header : example.headers().keySet()) {
                var headers = example.headers();
                headers.put(header, "?");
                assertEquals(1, example.violations(headers).size(), example.name + ": " + header);
                headers.remove(header);
                assertEquals(1, example.violations(headers).size(), example.name + ": " + header);
            }
            if (example.path.startsWith("/webhooks/")) {    // two secrets at a time
                var headers = example.headers();
                headers.merge("webhook-signature", headers.get("webhook-signature"),
                        (one, other) -> one + " " + other);
                assertEquals(List.of(), example.violations(headers));
            }
        }
    }

    @Test
    void anotherRequestIsNoticed() {
        Example ended = example("call.ended");
        byte[] body = ended.body.toString().getBytes(UTF_8);
        for (String other : List.of("GET /webhooks/call", "POST /webhooks", "POST /webhooks/intent",
                "POST /webhooks/call/", "POST /contacts/c-1/2/notes", "POST /contacts//notes",
                "POST /contacts/" + "9".repeat(201) + "/notes")) {
            String[] words = other.split(" ");
            assertFalse(Contract.violations(words[0], words[1], ended.headers(), body).isEmpty(),
                    other);
        }
        assertFalse(Contract.violations("POST", ended.path, ended.headers(), new byte[] {'{'})
                .isEmpty());
        for (Example example : examples()) {
            if (example.body.has("event")) {
                example.body.put("event", "call.over");
                assertFalse(example.violations().isEmpty(), example.name);
            }
        }
        ended.body.put("event", "call.over");
        var error = assertThrows(AssertionError.class,
                () -> Contract.holds("POST", ended.path, ended.headers(),
                        ended.body.toString().getBytes(UTF_8)));
        assertTrue(error.getMessage().contains("there is no call.over"), error.getMessage());
    }

    /// The times and lengths of the example fit together, as those of a real call do.
    @Test
    void theExampleOfTheEndAddsUp() {
        JsonNode ended = example("call.ended").body;
        assertEquals(ms(ended, "ended_at") - ms(ended, "started_at"),
                ended.get("duration_ms").asLong());
        assertEquals(ms(ended, "ended_at") - ms(ended, "answered_at"),
                ended.get("talk_ms").asLong());
        assertEquals(ms(ended, "ended_at"), ms(ended, "timestamp"), 10);
    }

    private static long ms(JsonNode event, String field) {
        return Instant.parse(event.get(field).asText()).toEpochMilli();
    }

    private static Example example(String name) {
        return examples().stream().filter(each -> each.name.equals(name)).findFirst().orElseThrow();
    }

    /// All schemas of what the agent sends are closed, and no field of them is optional.
    @Test
    void everySchemaSaysAll() {
        var answer = Set.of("ContactsFound", "Contact");
        int objects = 0;
        for (var schema : SCHEMAS.properties()) {
            for (JsonNode each : schema.getValue().findParents("properties")) {
                if (!each.has("type")) {
                    continue;               // it only says more of a field of another one
                }
                String name = schema.getKey();
                objects++;
                assertTrue(answer.contains(name)
                        || !each.path("unevaluatedProperties").asBoolean(true), name);
                var required = new TreeSet<String>();
                each.path("required").forEach(field -> required.add(field.asText()));
                each.get("properties").properties().forEach(field -> {
                    assertTrue(name.equals("Contact") || required.remove(field.getKey()),
                            name + " " + field.getKey());
                    assertTrue(field.getValue().has("description") || field.getValue().has("$ref"),
                            name + " " + field.getKey());
                });
                assertEquals(Set.of(), required, name);
            }
            assertTrue(schema.getValue().has("description"), schema.getKey());
        }
        assertTrue(objects > 10, objects + " objects");
    }

    @Test
    void everySchemaIsJsonSchemaAndEveryReferenceLeadsSomewhere() {
        var draft = SchemaRegistry.withDefaultDialect(SpecificationVersion.DRAFT_2020_12)
                .getSchema(SchemaLocation.of("https://json-schema.org/draft/2020-12/schema"));
        SCHEMAS.properties().forEach(schema -> assertEquals(List.of(),
                draft.validate(schema.getValue()), schema.getKey()));
        Contract.ROOT.findValuesAsText("$ref").forEach(reference -> assertFalse(
                Contract.ROOT.at(reference.substring(1)).isMissingNode(), reference));
    }

    /// A program that reads `oneOf`, and one that reads `discriminator`, read the same.
    @Test
    void whatTheDiscriminatorNamesIsWhatTheSchemasSay() {
        int kinds = 0;
        for (JsonNode schema : SCHEMAS) {
            JsonNode either = schema.path("discriminator");
            var mapped = new HashSet<String>();
            for (var kind : either.path("mapping").properties()) {
                mapped.add(kind.getValue().asText());
                String name = either.get("propertyName").asText();
                JsonNode names = Contract.ROOT.at(kind.getValue().asText().substring(1))
                        .at("/dependentSchemas/" + name + "/properties/" + name);
                assertTrue(names.path("const").asText().equals(kind.getKey())
                        || names.path("enum") instanceof ArrayNode all && all.valueStream()
                                .anyMatch(each -> each.asText().equals(kind.getKey())),
                        kind.getKey());
                kinds++;
            }
            if (!mapped.isEmpty()) {
                assertEquals(new HashSet<>(schema.path("oneOf").findValuesAsText("$ref")), mapped);
            }
        }
        assertTrue(kinds > 7, kinds + " kinds");
    }

    /// The same events, at the same paths, in the file, in its examples and in docs/contract.md.
    @Test
    void theEventsAreThoseOfTheDocs() throws IOException {
        var docs = Pattern.compile("(?m)^\\| `([a-z_.]+)` \\|.*\\| `(/webhooks/\\w+)` \\|")
                .matcher(Files.readString(Path.of("docs/contract.md"))).results()
                .collect(Collectors.toMap(row -> row.group(1), row -> row.group(2)));
        assertEquals(docs, examples().stream().filter(each -> each.path.startsWith("/webhooks/"))
                .collect(Collectors.toMap(Example::name, Example::path)));
        assertEquals(docs.keySet(), SCHEMAS.valueStream()
                .map(schema -> schema.at("/dependentSchemas/event/properties/event/const").asText())
                .filter(name -> !name.isEmpty()).collect(Collectors.toSet()));
    }

    @Test
    void everyFieldIsInTheDocs() throws IOException {
        String docs = Files.readString(Path.of("docs/contract.md"));
        for (Example example : examples()) {
            example.objects().forEach(object -> object.properties().forEach(field ->
                    assertTrue(docs.contains("`" + field.getKey() + "`")
                            || docs.contains("{\"" + field.getKey() + "\":")
                            || docs.contains(", \"" + field.getKey() + "\":"),
                            example.name + " " + field.getKey())));
        }
    }

    /// The key, id, time and body are those that Standard Webhooks has published.
    @Test
    void theSignatureInTheExampleIsRight() throws IOException {
        String docs = Files.readString(Contract.FILE);
        byte[] key = Base64.getDecoder().decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        String body = "{\"test\": 2432232314}";
        for (String part : List.of("whsec_" + Base64.getEncoder().encodeToString(key), "1614265330",
                "msg_p5jXN8AQM9LWM0D4loKWxJek", body, Stand.standard(key,
                        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, Stand.utf8(body)))) {
            assertTrue(docs.contains("`" + part + "`"), part);
        }
    }

    @Test
    void theReadmeShowsTheExampleOfTheEnd() throws IOException {
        assertEquals(List.of(Stand.json(example("call.ended").body.toString())),
                Docs.readme("json").stream().map(Stand::json)
                        .filter(block -> block.containsKey("event")).toList());
    }

    @Test
    void theReasonsAreThoseOfTheDocs() throws IOException {
        String docs = Files.readString(Path.of("docs/contract.md"));
        String table = docs.substring(docs.indexOf("| Reason |"));
        table = table.substring(0, table.indexOf("\n\n"));
        var reasons = new TreeSet<String>();
        var by = new TreeSet<String>();
        table.lines().skip(2).map(row -> row.split("\\|")).forEach(row -> {
            reasons.addAll(Docs.quoted(row[1]));
            by.addAll(Docs.quoted(row[3]));
        });
        assertEquals(reasons, allOf("reason"));
        assertEquals(by, allOf("ended_by"));
    }

    /// What this field of `call.ended` may be.
    private static Set<String> allOf(String field) {
        return SCHEMAS.at("/CallEnded/properties/" + field + "/enum").valueStream()
                .map(JsonNode::asText).collect(Collectors.toCollection(TreeSet::new));
    }
}
