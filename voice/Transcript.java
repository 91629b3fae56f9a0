package voice;

import module java.base;
import jakarta.json.Json;
import jakarta.json.JsonArray;

/// What was said in one call, in writing: what the caller has said, how much of the agent's words
/// they have heard, and which tools the model has called. Session makes one, and hands in each
/// event that it takes. End has it when the call is over.
///
/// Not here: the caller's words when no transcription model is set, because nobody writes them down
/// then; words of theirs that are not yet written down when the call ends; and which keys they have
/// pressed, because those may be a PIN.
///
/// Everything here runs on the call's thread. When the call is over, any thread may call `items`.
public final class Transcript {
    private static final int MOST_BYTES = 490_000;          // of JSON, in UTF-8
    private static final int FRAME = 60;                    // bytes of an item, without its text
    private static final String AGENT = "agent", CALLER = "caller", TOOL = "tool";

    /// When something began. `number` gives the order of two things in the same instant.
    private record Begin(Instant at, int number) {}

    /// `id` is that of the service's item, or null. `bytes` is the size in JSON.
    private record Item(String id, Begin began, String role, String text, int bytes) {}

    private final Supplier<Instant> now;
    private final List<Item> items = new ArrayList<>();
    private final Map<String, Begin> began = new HashMap<>();       // by item id
    private Instant agentFinished = Instant.MIN;            // the last item of its own
    private int begun;
    private int bytes;
    private boolean truncated;
    private Begin keysBegan;                                // null: no keys are to be added
    private int keys;

    // What the caller has said since they were last answered, by item id. If the connection to the
    // model breaks, another one may hear it again, and write it down again.
    private final Set<String> turn = new LinkedHashSet<>();
    private final Set<String> heardBefore = new LinkedHashSet<>();      // on earlier connections
    private final Map<String, Set<String>> insteadOf = new HashMap<>(); // by the id of the new item

    Transcript(Supplier<Instant> now) {
        this.now = now;
    }

    void take(Event event) {
        switch (event) {
            case Event.AgentSpeaks(var item) -> {
                answered();
                began.put(item, begin());
            }
            case Event.CallerSpeaks(var item) -> {
                heard(item);
                began.put(item, begin());
            }
            case Event.ModelAway _ -> {
                heardBefore.addAll(turn);
                turn.clear();
            }
            case Event.CallerHeardAgain(var item) -> {
                heard(item);
                var old = new HashSet<>(heardBefore);
                heardBefore.forEach(id -> old.addAll(insteadOf.getOrDefault(id, Set.of())));
                heardBefore.clear();            // whatever is heard again after this is new
                insteadOf.put(item, old);
                began.put(item, Stream.concat(items.stream()
                                .filter(each -> old.contains(each.id)).map(Item::began),
                        old.stream().map(began::get).filter(Objects::nonNull))
                        .min(Comparator.comparing(Begin::number)).orElseGet(this::begin));
            }
            case Event.CallerSaid(var item, var text) -> {
                Begin spoke = began.remove(item);
                if (!text.isBlank() && !truncated) {
                    forget(insteadOf.getOrDefault(item, new HashSet<>()));
                }
                add(item, spoke == null ? begin() : spoke, CALLER, text);
            }
            case Event.AgentSaid(var item, var text) -> {
                Begin spoke = began.remove(item);
                if (spoke != null) {        // an answer without sound is heard by nobody
                    add(item, spoke.at.isAfter(agentFinished) ? spoke
                            : new Begin(agentFinished, spoke.number), AGENT, text);
                    agentFinished = now.get();
                }
            }
            case Event.CallerWrote(var text) -> add(null, begin(), CALLER, text);
            case Event.ToolCalled(_, var name, _) -> {
                answered();
                add(null, begin(), TOOL, name);
            }
            case Event.KeyPressed _ -> {
                keysBegan = keysBegan == null ? begin() : keysBegan;
                keys++;
            }
            default -> { }
        }
    }

    /// The caller is heard in this item. Not every service gives it an id.
    private void heard(String item) {
        if (!item.isEmpty()) {
            turn.add(item);
        }
    }

    /// The words of these items are written down once more, in another one.
    private void forget(Set<String> ids) {
        items.stream().filter(each -> ids.contains(each.id)).forEach(each -> bytes -= each.bytes);
        items.removeIf(each -> ids.contains(each.id));
    }

    /// The caller's turn has an answer, so nobody hears it again.
    private void answered() {
        turn.clear();
        heardBefore.clear();
    }

    /// The keys that the caller has pressed so far belong together.
    void keysPressed() {
        if (keysBegan != null) {
            add(null, keysBegan, CALLER, "(pressed " + keys + (keys == 1 ? " key)" : " keys)"));
        }
        keysBegan = null;
        keys = 0;
    }

    void recordingPlayed(Clips which) {
        add(null, begin(), AGENT, "(recording: " + which + ")");
    }

    private Begin begin() {
        return new Begin(now.get(), begun++);
    }

    private void add(String id, Begin began, String role, String text) {
        String json = Json.createValue(text).toString();
        int size = FRAME + json.getBytes(StandardCharsets.UTF_8).length;
        truncated |= bytes + size > MOST_BYTES;
        if (!truncated && !text.isBlank()) {
            items.add(new Item(id, began, role, text.strip(), size));
            bytes += size;
        }
    }

    /// The call has brought more than there is room for, and the rest is missing.
    public boolean truncated() {
        return truncated;
    }

    /// What was said and done, in order, 490,000 bytes at most. `at` is ms from the answer, and 0
    /// for what was before it.
    public JsonArray items(Instant answered) {
        var all = Json.createArrayBuilder();
        var byBegin = Comparator.comparing((Item item) -> item.began.at)
                .thenComparing(item -> item.began.number);
        items.stream().sorted(byBegin).forEach(item -> all.add(Json.createObjectBuilder()
                .add("at", Math.max(0, Duration.between(answered, item.began.at).toMillis()))
                .add("role", item.role)
                .add(item.role.equals(TOOL) ? "name" : "text", item.text)));
        return all.build();
    }
}
