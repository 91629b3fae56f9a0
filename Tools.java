import module java.base;
import jakarta.json.Json;
import jakarta.json.JsonNumber;
import jakarta.json.JsonObject;
import jakarta.json.JsonObjectBuilder;
import jakarta.json.JsonString;
import jakarta.json.JsonValue;
import voice.Log;
import voice.Numbers;
import voice.Tool;
import voice.Tool.Argument;

/// What the model can do during one call: the five function tools. This class also looks the caller
/// up in the CRM before the phone is answered. Agent makes one Tools for each call.
///
/// The model always gets a JSON answer, even when it calls a tool that does not exist or gives
/// wrong arguments. No tool makes the conversation wait. `record_intent` and `update_crm_note`
/// answer when their report is on disk, `lookup_crm` when the CRM does, and the others at once.
///
/// What the model may see and cause is decided here, and not by what it is told: a caller can talk
/// a model into anything. How a call is transferred or ended is voice.Session's.
final class Tools {
    private static final Duration LOOK_UP_BOUND = Duration.ofSeconds(5);
    private static final int MOST_ANSWER = 1_000_000;   // bytes of an answer of the CRM
    private static final int MOST_FIELD = 200;          // characters of a field, for the model
    private static final int MOST_ID = 200;             // characters of a contact's id
    private static final int MOST_LOOK_UPS = 3;         // by the model, in a call
    private static final int MOST_REPORTS = 50;         // events, and writes to the CRM, in a call
    private static final String ENOUGH = "That is enough for one call. Nothing more is taken.";

    /// A contact of the CRM, with the fields that this agent uses. Each of them may be null.
    record Contact(String id, String name, String company, String openTickets) {

        /// Reads one contact of the CRM's answer. Adapt this method to your own CRM.
        static Contact of(JsonObject result) {
            String id = text(result, "id");
            // An id becomes a part of a path, where . and .. would lead elsewhere.
            boolean odd = id == null || id.matches("\\.\\.?") || id.length() > MOST_ID;
            return new Contact(odd ? null : id, text(result, "name"), text(result, "company"),
                    text(result, "open_tickets"));
        }

        /// A string or a number as a text. Null for a blank text, and for anything else.
        private static String text(JsonObject from, String name) {
            String text = switch (from.get(name)) {
                case JsonString string -> string.getString().strip();
                case JsonNumber number -> number.toString();
                case null, default -> "";
            };
            return text.isEmpty() ? null : text;
        }

        /// The fields that are not null, 200 characters of each. What the model knows, it may tell
        /// the caller. Who calls from somebody's phone is not always that person, so nothing that
        /// is worth stealing belongs here. Add your fields here, and in `of`.
        JsonObject forModel() {
            var fields = Json.createObjectBuilder();
            String[] named = {"name", name, "company", company, "open_tickets", openTickets};
            for (int i = 0; i < named.length; i += 2) {
                if (named[i + 1] != null) {
                    fields.add(named[i], Log.cut(named[i + 1], MOST_FIELD));
                }
            }
            return fields.build();
        }
    }

    private final Webhooks crm;
    private final Webhooks.Call events;
    private final Set<String> destinations;
    private final UnaryOperator<String> transfer;
    private final UnaryOperator<String> hangUp;
    private final boolean lookUpAnybody;
    private final List<Tool> tools;
    private volatile Contact contact;       // the caller's own
    // Only the call's thread uses these two.
    private int lookUps;
    private int reports;

    /// `destinations` are the names of the departments, in lower case. The model sees these names,
    /// never a number, and can choose no other. `transfer` begins a transfer to one of them, and
    /// `hangUp` ends the call for a reason. Both return null, or say why not. With `lookUpAnybody`,
    /// the model gets the record of any number: that is for a line that only staff can call.
    Tools(Webhooks crm, Webhooks.Call events, Set<String> destinations,
            UnaryOperator<String> transfer, UnaryOperator<String> hangUp, boolean lookUpAnybody,
            Numbers numbers) {
        this.crm = crm;
        this.events = events;
        this.destinations = new TreeSet<>(destinations);
        this.transfer = transfer;
        this.hangUp = hangUp;
        this.lookUpAnybody = lookUpAnybody;
        tools = List.of(
                new Tool("record_intent",
                        "Log what the caller wants, once it is clear, and when it changes.",
                        given -> recordIntent(given.get("intent")),
                        new Argument("intent", "What the caller wants, in a few words of English")),
                new Tool("lookup_crm",
                        lookUpAnybody ? "Fetch a customer by phone number."
                                : "Fetch the caller's record, by the number that they call from.",
                        given -> lookupCrm(numbers.read(given.get("phone"))),
                        new Argument("phone", "The number with its country code: +15551234567")),
                new Tool("update_crm_note", "Append a note to the record of the caller.",
                        given -> updateCrmNote(given.get("note")),
                        new Argument("note", "One or two sentences, clear to a colleague")),
                new Tool("transfer_call",
                        "Transfer the caller to a human. First say that you will.",
                        given -> transferCall(given.get("destination")),
                        new Argument("destination", "The department", this.destinations)),
                new Tool("end_call",
                        "Hang up, when the caller needs nothing more. First say goodbye.",
                        _ -> endCall()));
    }

    List<String> schemas() {
        return tools.stream().map(Tool::schema).toList();
    }

    /// Does what the model asks for. The answer is JSON. The future never fails.
    CompletableFuture<String> call(String name, String arguments) {
        for (Tool tool : tools) {
            if (tool.name().equals(name)) {
                Log.step(events.party().call(), "tool", name);
                try {
                    return tool.does().apply(tool.read(arguments));
                } catch (Tool.WrongArguments e) {
                    Log.log(events.party().call(),
                            "the model called a tool wrongly: " + e.getMessage());
                    return error(e.getMessage());
                }
            }
        }
        Log.log(events.party().call(), "the model called a tool that does not exist");
        return error("There is no tool of that name.");
    }

    /// Must the model say something about this answer, also if it has spoken while it called the
    /// tool? A report needs no word, and neither does a transfer or an end that begins.
    static boolean needsWords(String tool, String json) {
        return !List.of("record_intent", "update_crm_note").contains(tool)
                && !json.matches("\\{\"(transferring|ending)\":true,.*");
    }

    private CompletableFuture<String> recordIntent(String intent) {
        if (isEnough(1)) {
            return answer("recorded", false, ENOUGH);
        }
        events.intent(intent);
        return answer("recorded", true, null);
    }

    private CompletableFuture<String> lookupCrm(String number) {
        if (++lookUps > MOST_LOOK_UPS) {
            return error(ENOUGH);
        }
        if (number == null) {
            return error("This is not a phone number. Ask for it, with the country code.");
        }
        // Whose number it is says the network, and never the caller. The CRM is not asked for
        // anybody else. So nobody learns, even from the time it takes, whether it knows them.
        String own = events.party().phone();
        boolean theirs = Numbers.same(own, number);
        if (!theirs && !lookUpAnybody) {
            return answer("found", false, "Only the record of the number that the caller calls "
                    + "from can be looked up. What they say about themselves belongs into a note.");
        }
        return find(theirs ? own : number).thenCompose(found -> {
            if (found.isEmpty()) {
                return answer("found", false, "The CRM has no contact with this number.");
            }
            if (theirs && contact == null) {
                callerIs(found.get());      // the look-up before the call has failed
            }
            return now(Json.createObjectBuilder(found.get().forModel()).add("found", true));
        }).exceptionallyCompose(_ -> error("The CRM does not answer. Go on without it."));
    }

    private CompletableFuture<String> updateCrmNote(String note) {
        if (isEnough(2)) {      // an event, and the note in the caller's record, now or later
            return answer("noted", false, ENOUGH);
        }
        boolean filed = events.note(note);
        return answer("noted", filed, filed ? null
                : "There is no record of this caller yet: the note was reported, but filed "
                + "under no name.");
    }

    private CompletableFuture<String> transferCall(String destination) {
        String name = destination.toLowerCase(Locale.ROOT);
        String refused = destinations.isEmpty() ? "No destinations are configured. Offer a note."
                : !destinations.contains(name) ? "There is no such destination. There are: "
                        + String.join(", ", destinations) + "."
                : isEnough(1) ? ENOUGH : transfer.apply(name);
        return answer("transferring", refused == null, refused != null ? refused : "If you have "
                + "not yet told the caller that you are putting them through, do so now, in one "
                + "short sentence. The transfer begins when they have heard it; say nothing more "
                + "until you are told that it has failed. If they speak or press keys before, it "
                + "is called off: answer them, and transfer them again if they still want it.");
    }

    private CompletableFuture<String> endCall() {
        String refused = hangUp.apply("agent_hung_up");
        return answer("ending", refused == null, refused != null ? refused : "If you have not yet "
                + "said goodbye, do so now, in one short sentence. The call ends when they have "
                + "heard it. If they speak or press keys before, it goes on: answer them.");
    }

    /// Has this call caused so much already that `more` would be too much? Otherwise, counts it.
    private boolean isEnough(int more) {
        boolean enough = reports + more > MOST_REPORTS;
        reports += enough ? 0 : more;
        return enough;
    }

    /// Has the CRM said who the caller is?
    boolean known() {
        return contact != null;
    }

    /// From now on, notes and the call itself are filed under this contact.
    void callerIs(Contact contact) {
        this.contact = contact;
        events.contact(contact.id());
    }

    /// Asks the CRM who has this number. The first contact in its answer counts, and status 204 (No
    /// Content) is an answer without one. Fails with an IOException when there is no good answer.
    CompletableFuture<Optional<Contact>> find(String phone) {
        var filter = Json.createObjectBuilder().add("phone", phone);
        return crm.ask(events.party().call(), "/contacts/search",
                Json.createObjectBuilder().add("filter", filter).build(),
                MOST_ANSWER, System.nanoTime() + LOOK_UP_BOUND.toNanos())
                .handle((response, trouble) -> {
                    if (trouble != null) {
                        throw failed(Log.reason(trouble));
                    }
                    if (response.statusCode() / 100 != 2) {
                        throw failed("HTTP " + response.statusCode());
                    }
                    return response.statusCode() == 204 ? Optional.empty() : first(response.body());
                });
    }

    private Optional<Contact> first(String body) {
        try (var reader = Json.createReader(new StringReader(body.replaceFirst("^\uFEFF", "")))) {
            return reader.readObject().getJsonArray("results").stream()
                    .findFirst().map(JsonValue::asJsonObject).map(Contact::of);
        } catch (RuntimeException e) { // a JsonException, or what other types lead to
            throw failed("its answer is not {\"results\": [{..}]}");
        }
    }

    private CompletionException failed(String why) {
        Log.log(events.party().call(), "no answer from CRM_URL/contacts/search: " + why);
        return new CompletionException(new IOException(why));
    }

    private static CompletableFuture<String> answer(String key, boolean value, String message) {
        var answer = Json.createObjectBuilder().add(key, value);
        return now(message == null ? answer : answer.add("message", message));
    }

    private static CompletableFuture<String> error(String message) {
        return now(Json.createObjectBuilder().add("error", message));
    }

    private static CompletableFuture<String> now(JsonObjectBuilder answer) {
        return CompletableFuture.completedFuture(answer.build().toString());
    }
}
