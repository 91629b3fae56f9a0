package voice;

import module java.base;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;

/// A [function tool](https://developers.openai.com/api/docs/guides/function-calling). The model
/// reads its `name`, its `description`, and what its arguments mean. `does` gets the arguments by
/// their names, and gives the answer for the model, as JSON.
///
/// Not handled: an argument that is not a text, or that may be missing.
public record Tool(String name, String description,
                   Function<Map<String, String>, CompletableFuture<String>> does,
                   Argument... arguments) {
    private static final int MOST_TEXT = 2_000;             // characters

    /// A text. If there are `values`, it is one of them.
    public record Argument(String name, String meaning, Set<String> values) {
        public Argument(String name, String meaning) {
            this(name, meaning, Set.of());
        }
    }

    /// The model did not keep to the schema. The message is for the model.
    public static final class WrongArguments extends Exception {
        private static final long serialVersionUID = 1;

        WrongArguments(String message) {
            super(message);
        }
    }

    /// What the model is told of the tool: [JSON Schema](https://json-schema.org).
    public String schema() {
        var names = Json.createArrayBuilder();
        var texts = Json.createObjectBuilder();
        for (Argument each : arguments) {
            var text = Json.createObjectBuilder()
                    .add("type", "string").add("description", each.meaning);
            if (!each.values.isEmpty()) {
                text.add("enum", Json.createArrayBuilder(new TreeSet<>(each.values)));
            }
            names.add(each.name);
            texts.add(each.name, text);
        }
        return Json.createObjectBuilder().add("type", "function").add("name", name)
                .add("description", description)
                .add("parameters", Json.createObjectBuilder().add("type", "object")
                        .add("additionalProperties", false)
                        .add("required", names).add("properties", texts))
                .build().toString();
    }

    /// Returns the arguments by their names. `json` is what the model wrote: usually JSON, or
    /// nothing for a tool without arguments. Does not check whether a text is one of its `values`.
    /// `does` has to check that.
    public Map<String, String> read(String json) throws WrongArguments {
        JsonObject given;
        try (var reader = Json.createReader(new StringReader(json.isBlank() ? "{}" : json))) {
            given = reader.readObject();
        } catch (RuntimeException e) { // not only JsonException: JSON can be nested too deep
            throw new WrongArguments("The arguments are not a JSON object.");
        }
        var texts = new HashMap<String, String>();
        for (Argument each : arguments) {
            if (!(given.get(each.name) instanceof JsonString string)
                    || string.getString().isBlank()) {
                throw new WrongArguments("`" + each.name + "` is missing: it is a text.");
            }
            if (string.getString().length() > MOST_TEXT) {
                throw new WrongArguments("`" + each.name + "` is too long: say it in short.");
            }
            texts.put(each.name, string.getString().strip());
        }
        return texts;
    }
}
