package voice;

import module java.base;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;

/// A [function tool](https://developers.openai.com/api/docs/guides/function-calling) that takes one
/// text. The model reads its `name` and its `description`, and `meaning` says what the text is. If
/// there are `values`, the text is one of them. `does` gets the text, and gives the answer for the
/// model, as JSON.
public record Tool(String name, String description, String argument, String meaning,
                   Set<String> values, Function<String, CompletableFuture<String>> does) {
    private static final int MOST_TEXT = 2_000;             // characters

    /// The model did not keep to the schema. The message is for the model.
    public static final class WrongArguments extends Exception {
        private static final long serialVersionUID = 1;

        WrongArguments(String message) {
            super(message);
        }
    }

    /// What the model is told of the tool: [JSON Schema](https://json-schema.org).
    public String schema() {
        var text = Json.createObjectBuilder().add("type", "string").add("description", meaning);
        if (!values.isEmpty()) {
            text.add("enum", Json.createArrayBuilder(new TreeSet<>(values)));
        }
        return Json.createObjectBuilder().add("type", "function").add("name", name)
                .add("description", description)
                .add("parameters", Json.createObjectBuilder().add("type", "object")
                        .add("additionalProperties", false)
                        .add("required", Json.createArrayBuilder().add(argument))
                        .add("properties", Json.createObjectBuilder().add(argument, text)))
                .build().toString();
    }

    /// Returns the text in `arguments`, which the model wrote: usually JSON. Does not check whether
    /// the text is one of `values`. `does` has to check that.
    public String text(String arguments) throws WrongArguments {
        JsonObject given;
        try (var reader = Json.createReader(new StringReader(arguments))) {
            given = reader.readObject();
        } catch (RuntimeException e) { // not only JsonException: JSON can be nested too deep
            throw new WrongArguments("The arguments are not a JSON object.");
        }
        if (!(given.get(argument) instanceof JsonString string) || string.getString().isBlank()) {
            throw new WrongArguments("`" + argument + "` is missing: it is a text.");
        }
        if (string.getString().length() > MOST_TEXT) {
            throw new WrongArguments("`" + argument + "` is too long: say it in short.");
        }
        return string.getString().strip();
    }
}
