package trials;

import module java.base;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.TextNode;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import com.networknt.schema.Schema;
import com.networknt.schema.SchemaLocation;
import com.networknt.schema.SchemaRegistry;
import com.networknt.schema.SchemaRegistryConfig;
import com.networknt.schema.dialect.Dialect;
import com.networknt.schema.dialect.Dialects;
import com.networknt.schema.format.PatternFormat;
import demo.DemoCrm;
import voice.Log;

/// docs/openapi.yaml, and whether a request to the CRM is as that file says. Only the tests use it.
final class Contract {
    static final Path FILE = Path.of("docs/openapi.yaml");
    /// The file.
    static final JsonNode ROOT = root();

    private static final String AT = "urn:openapi.yaml";
    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS).build();
    // The schemas of OpenAPI 3.1 are JSON Schema 2020-12. A time always has milliseconds, and a Z.
    private static final SchemaRegistry SCHEMAS = SchemaRegistry.withDialect(
            Dialect.builder(Dialects.getDraft202012()).format(PatternFormat.of("date-time",
                    "^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}\\.\\d{3}Z$", "format")).build(),
            registry -> registry.schemas(Map.of(AT, ROOT.toString())).schemaRegistryConfig(
                    SchemaRegistryConfig.builder().formatAssertionsEnabled(true).build()));
    private static final Map<String, Schema> READ = new ConcurrentHashMap<>();    // by pointer

    private Contract() {}

    private static JsonNode root() {
        try {
            return YAMLMapper.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                    .build().readTree(FILE.toFile());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /// Holds each of these requests against the file, but for a HEAD, which asks whether the CRM is
    /// there.
    static void holds(List<DemoCrm.Request> requests) {
        requests.stream().filter(request -> !request.method().equals("HEAD"))
                .forEach(Contract::holds);
    }

    static void holds(DemoCrm.Request request) {
        holds(request.method(), request.path(), request.headers(), request.body());
    }

    /// Throws an AssertionError if this request is not as the file says. The names of `headers` are
    /// in lower case.
    static void holds(String method, String path, Map<String, String> headers, byte[] body) {
        var wrong = violations(method, path, headers, body);
        if (!wrong.isEmpty()) {
            throw new AssertionError("%s %s is not as %s says:%n  %s%n%s".formatted(method, path,
                    FILE, String.join("\n  ", wrong),
                    Log.cut(new String(body, StandardCharsets.UTF_8), 2_000)));
        }
    }

    /// What is wrong with the request, a line for each.
    static List<String> violations(String method, String path, Map<String, String> headers,
            byte[] body) {
        String template = ROOT.path("paths").propertyStream().map(Map.Entry::getKey)
                .filter(each -> matches(each, path)).findFirst().orElse("");
        JsonNode operation = ROOT.path("paths").path(template)
                .path(method.toLowerCase(Locale.ROOT));
        if (operation.isMissingNode()) {
            return List.of("there is no such operation");
        }
        var wrong = new ArrayList<String>();
        for (JsonNode reference : operation.path("parameters")) {
            String pointer = reference.path("$ref").asText().substring(1);
            JsonNode parameter = ROOT.at(pointer);
            String name = parameter.path("name").asText();
            String value = parameter.path("in").asText().equals("header")
                    ? headers.get(name.toLowerCase(Locale.ROOT)) : inPath(template, path, name);
            if (value != null) {
                wrong.addAll(errors(name, pointer + "/schema", TextNode.valueOf(value)));
            } else if (parameter.path("required").asBoolean()) {
                wrong.add(name + " is missing");
            }
        }
        var content = operation.at("/requestBody/content").properties().iterator().next();
        if (!content.getKey().equals(headers.get("content-type"))) {
            wrong.add("Content-Type is " + headers.get("content-type"));
        }
        try {
            String schema = content.getValue().at("/schema/$ref").asText().substring(1);
            wrong.addAll(errors("the body", schema, JSON.readTree(body)));
        } catch (IOException e) {
            wrong.add("the body is no JSON: " + e.getMessage());
        }
        return wrong;
    }

    /// What is wrong with `value`. `pointer` leads to its schema in the file.
    static List<String> errors(String what, String pointer, JsonNode value) {
        JsonNode either = ROOT.at(pointer).path("discriminator");
        if (!either.isMissingNode()) {  // `oneOf` would say what is wrong for each of the kinds
            String name = either.path("propertyName").asText(), kind = value.path(name).asText();
            String one = either.path("mapping").path(kind).asText();
            return one.isEmpty() ? List.of(what + "/" + name + ": there is no " + kind)
                    : errors(what, one.substring(1), value);
        }
        var schema = READ.computeIfAbsent(pointer,
                _ -> SCHEMAS.getSchema(SchemaLocation.of(AT + "#" + pointer)));
        return schema.validate(value).stream().map(error -> what + error).toList();
    }

    private static boolean matches(String template, String path) {
        return path.matches(template.replaceAll("\\{\\w+}", "[^/]+"));
    }

    /// The value of a parameter of the path, decoded.
    private static String inPath(String template, String path, String name) {
        int place = List.of(template.split("/")).indexOf("{" + name + "}");
        return URLDecoder.decode(path.split("/")[place].replace("+", "%2B"),
                StandardCharsets.UTF_8);
    }
}
