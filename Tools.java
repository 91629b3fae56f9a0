import module java.base;
import jakarta.json.Json;
import jakarta.json.JsonNumber;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;
import jakarta.json.JsonValue;
import voice.Log;
import voice.Numbers;

/// What the model can do during one call: the four function tools, and the CRM look-up that comes
/// before the call is answered. Agent makes one for each call.
///
/// The model always gets a JSON answer, also when it calls nonsense. Nothing here makes the
/// conversation wait: what only reports is handed to Webhooks and answered at once, and what asks
/// the CRM is answered when it is.
///
/// Not handled: hanging up (an exercise: `end_call`), and the transfer itself, which is Agent's.
final class Tools {

    /// JSON Schema by hand: this is what the model sees. Of the destinations it sees the names,
    /// never a number, and no other can be called.
    static List<String> schemas(Set<String> destinations) {
        var names = Json.createArrayBuilder(new TreeSet<>(destinations)).build();
        return SCHEMAS.stream().map(schema -> schema.replace("DESTINATIONS",
                destinations.isEmpty() ? "" : ", \"enum\": " + names)).toList();
    }

    private static final List<String> SCHEMAS = List.of("""
            {"type": "function", "name": "record_intent",
             "description": "Log what the caller wants, once it is clear, and when it changes.",
             "parameters": {"type": "object", "additionalProperties": false, "required": ["intent"],
              "properties": {"intent": {"type": "string",
                "description": "What the caller wants, in a few words of English"}}}}""", """
            {"type": "function", "name": "lookup_crm",
             "description": "Fetch a customer by phone number. The caller's own record is known.",
             "parameters": {"type": "object", "additionalProperties": false, "required": ["phone"],
              "properties": {"phone": {"type": "string",
                "description": "The number with its country code: +15551234567"}}}}""", """
            {"type": "function", "name": "update_crm_note",
             "description": "Append a note to the record of the caller.",
             "parameters": {"type": "object", "additionalProperties": false, "required": ["note"],
              "properties": {"note": {"type": "string",
                "description": "One or two sentences, clear to a colleague"}}}}""", """
            {"type": "function", "name": "transfer_call",
             "description": "Transfer the caller to a human. First say that you will.",
             "parameters": {"type": "object", "additionalProperties": false,
              "required": ["destination"], "properties": {"destination": {"type": "string",
                "description": "The department"DESTINATIONS}}}}""");

    private static final Duration LOOKUP = Duration.ofSeconds(5);
    private static final int MOST_ANSWER = 1_000_000;           // bytes of the CRM's
    private static final int MOST_FIELD = 200;                  // characters of one of its fields
    private static final int MOST_TEXT = 2_000;                 // characters of the model's

    /// A contact of the CRM, with the fields that the model may know. Each may be null.
    record Contact(String id, String name, String email, String company, String openTickets) {

        /// One contact of the CRM's answer. The method to adapt to your own CRM.
        static Contact of(JsonObject result) {
            String id = text(result, "id");
            return new Contact(id == null || id.matches("\\.\\.?") ? null : id, // not a path
                    text(result, "name"), text(result, "email"), text(result, "company"),
                    text(result, "open_tickets"));
        }

        /// The text of a string or a number, or null for anything else.
        private static String text(JsonObject from, String name) {
            String text = switch (from.get(name)) {
                case JsonString string -> string.getString().strip();
                case JsonNumber number -> number.toString();
                case null, default -> "";
            };
            return text.isEmpty() ? null : text;
        }

        /// For the model: the fields that are there, but for the id, which it has no use for.
        JsonObject forModel() {
            var fields = Json.createObjectBuilder();
            String[] named = {"name", name, "email", email, "company", company,
                "open_tickets", openTickets};
            for (int i = 0; i < named.length; i += 2) {
                if (named[i + 1] != null) {
                    String value = named[i + 1];
                    fields.add(named[i], value.substring(0, Math.min(value.length(), MOST_FIELD)));
                }
            }
            return fields.build();
        }
    }

    private final String call;
    private final Webhooks crm;
    private final Webhooks.Call events;
    private final Set<String> destinations;
    private final UnaryOperator<String> transfer;
    private volatile Contact contact;
    private final List<String> intents = new CopyOnWriteArrayList<>();
    private final List<String> notes = new CopyOnWriteArrayList<>();

    /// `destinations` are where the caller can be transferred to, in lower case; `transfer` begins
    /// that and says null, or why it cannot be.
    Tools(String call, Webhooks crm, Webhooks.Call events, Set<String> destinations,
            UnaryOperator<String> transfer) {
        this.call = call;
        this.crm = crm;
        this.events = events;
        this.destinations = destinations;
        this.transfer = transfer;
    }

    /// Does what the model asks for. The answer is JSON; it never completes exceptionally.
    CompletableFuture<String> call(String name, String arguments) {
        try {
            JsonObject given = parse(arguments);
            return switch (name) {
                case "record_intent" -> now(recordIntent(text(given, "intent")));
                case "lookup_crm" -> lookupCrm(text(given, "phone"));
                case "update_crm_note" -> now(updateCrmNote(text(given, "note")));
                case "transfer_call" -> now(transferCall(text(given, "destination")));
                default -> now(error("There is no tool of that name."));
            };
        } catch (BadArguments e) {
            Log.log(call, "the model called a tool wrongly: " + e.getMessage());
            return now(error(e.getMessage()));
        }
    }

    /// Its message is for the model.
    private static final class BadArguments extends Exception {
        private static final long serialVersionUID = 1;

        BadArguments(String message) {
            super(message);
        }
    }

    private JsonObject recordIntent(String intent) {
        intents.add(intent);
        events.send("intent.recorded", "intent", intent);
        return answer("recorded", true, null);
    }

    private CompletableFuture<String> lookupCrm(String phone) {
        String number = Numbers.read(phone);
        if (number == null) {
            return now(error("This is not a phone number. Ask for it, with the country code."));
        }
        return find(number, LOOKUP).handle((found, trouble) -> {
            if (trouble != null) {
                return error("The CRM does not answer. Go on without it.").toString();
            }
            if (found.isEmpty()) {
                return answer("found", false, "The CRM has no contact with this number.")
                        .toString();
            }
            // A caller with a withheld number has said who they are. With one that the CRM does
            // not know they ask for somebody else, whose record must not get this call's notes.
            if (contact == null && (events.phone() == null || events.phone().equals(number))) {
                know(found.get());
            }
            return Json.createObjectBuilder(found.get().forModel()).add("found", true)
                    .build().toString();
        });
    }

    private JsonObject updateCrmNote(String note) {
        notes.add(note);
        boolean filed = contact != null && contact.id() != null;
        if (filed) {
            events.add(contact.id(), "notes", Json.createObjectBuilder()
                    .add("text", note).add("source", "ai-agent").build());
        }
        events.send("crm.updated", "note", note);
        return answer("noted", filed, filed ? null
                : "This caller has no record: the note was reported, but filed under no name.");
    }

    private JsonObject transferCall(String destination) {
        if (destinations.isEmpty()) {
            return answer("transferred", false, "No destinations are configured: the caller "
                    + "cannot be transferred. Offer a note.");
        }
        String name = destination.toLowerCase(Locale.ROOT);
        String refused = destinations.contains(name) ? transfer.apply(name)
                : "There is no such destination. There are: "
                        + String.join(", ", new TreeSet<>(destinations)) + ".";
        return refused != null ? answer("transferring", false, refused)
                : answer("transferring", true, "If you have not yet told the caller that you are "
                        + "putting them through, do so now, in one short sentence. The transfer "
                        + "begins when they have heard it; say nothing more until you are told "
                        + "that it has failed.");
    }

    /// Makes the contact the one of this call.
    void know(Contact contact) {
        this.contact = contact;
        events.contact(contact.id());
    }

    /// Asks the CRM who has this number: the first it names counts. Fails with an IOException, at
    /// the latest at the bound.
    CompletableFuture<Optional<Contact>> find(String phone, Duration bound) {
        var exchange = crm.ask("/contacts/search", Json.createObjectBuilder()
                .add("filter", Json.createObjectBuilder().add("phone", phone)).build(),
                bound, MOST_ANSWER);
        // The request's own timeout ends with the headers; a body that drips is ended by this.
        return exchange.copy().orTimeout(bound.toMillis(), TimeUnit.MILLISECONDS)
                .handle((response, trouble) -> {
                    if (trouble != null) {
                        exchange.cancel(true);
                        throw failed(Log.reason(trouble));
                    }
                    if (response.statusCode() != 200) {
                        throw failed("HTTP " + response.statusCode());
                    }
                    return first(response.body());
                });
    }

    private Optional<Contact> first(String body) {
        try (var reader = Json.createReader(new StringReader(body))) {
            return reader.readObject().getJsonArray("results").stream()
                    .findFirst().map(JsonValue::asJsonObject).map(Contact::of);
        } catch (RuntimeException e) { // JsonException and what else wrong types lead to
            throw failed("its answer is not {\"results\": [{..}]}");
        }
    }

    private CompletionException failed(String why) {
        Log.log(call, "no answer from CRM_URL/contacts/search: " + why);
        return new CompletionException(new IOException(why));
    }

    /// The call in a few words, for people.
    String summary(String reason, Duration length) {
        return summary(reason, length, intents, notes);
    }

    static String summary(String reason, Duration length, List<String> intents,
            List<String> notes) {
        var summary = new StringBuilder("%d:%02d min, %s.".formatted(
                length.toMinutes(), length.toSecondsPart(), reason.replace('_', ' ')));
        if (!intents.isEmpty()) {
            summary.append(" Wanted: ").append(String.join("; ", intents)).append('.');
        }
        if (!notes.isEmpty()) {
            summary.append(" Noted: ").append(String.join(" ", notes));
        }
        return summary.toString();
    }

    /// Files a call under its contact, when there is one, together with its `call.ended`, which
    /// comes next. `transferTo` may be null.
    static void file(Webhooks.Call call, String summary, Duration length, String transferTo) {
        if (call.contact() != null) {
            var activity = new LinkedHashMap<String, Object>();
            activity.put("type", "call");
            activity.put("duration_seconds", length.toSeconds());
            activity.put("intent", call.intent());
            activity.put("summary", summary);
            activity.put("transfer_to", transferTo);
            call.add(call.contact(), "activities", Json.createObjectBuilder(activity).build());
        }
    }

    private static JsonObject parse(String arguments) throws BadArguments {
        try (var reader = Json.createReader(new StringReader(arguments))) {
            return reader.readObject();
        } catch (RuntimeException e) { // not always a JsonException: nested too deep, for one
            throw new BadArguments("The arguments are not a JSON object.");
        }
    }

    private static String text(JsonObject given, String name) throws BadArguments {
        if (!(given.get(name) instanceof JsonString string) || string.getString().isBlank()) {
            throw new BadArguments("`" + name + "` is missing: it is a text.");
        }
        if (string.getString().length() > MOST_TEXT) {
            throw new BadArguments("`" + name + "` is too long: say it in short.");
        }
        return string.getString().strip();
    }

    private static CompletableFuture<String> now(JsonObject answer) {
        return CompletableFuture.completedFuture(answer.toString());
    }

    private static JsonObject answer(String key, boolean value, String message) {
        var answer = Json.createObjectBuilder().add(key, value);
        return (message == null ? answer : answer.add("message", message)).build();
    }

    private static JsonObject error(String message) {
        return Json.createObjectBuilder().add("error", message).build();
    }
}
