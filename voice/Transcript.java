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

    /// `id` is that of the service's item, or "".
    private record Item(String id, Begin began, String role, String text) {}

    private final Supplier<Instant> now;
    private final List<Item> items = new ArrayList<>();
    private final Map<String, Begin> began = new HashMap<>();       // by item id
    private Instant agentFinished = Instant.MIN;            // the last item of its own
    private int begun;
    private int bytes;

    Transcript(Supplier<Instant> now) {
        this.now = now;
    }

    void take(Event event) {
        switch (event) {
            case Event.AgentSpeaks(var item) -> began.put(item, begin());
            case Event.CallerSpeaks(var item) -> began.put(item, begin());
            case Event.CallerHeardAgain(var item, var before) -> {
                Begin first = items.stream().filter(each -> each.id.equals(before))
                        .map(Item::began).findFirst().orElse(began.get(before));
                began.put(item, first == null ? begin() : first);
                items.removeIf(each -> each.id.equals(before));
            }
            case Event.CallerSaid(var item, var text) -> {
                Begin spoke = began.remove(item);
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
            case Event.CallerWrote(var text) -> add("", begin(), CALLER, text);
            case Event.ToolCalled(_, var name, _) -> add("", begin(), TOOL, name);
            default -> { }
        }
    }

    void keysPressed(int keys) {
        add("", begin(), CALLER, "(pressed " + keys + (keys == 1 ? " key)" : " keys)"));
    }

    void recordingPlayed(Clips which) {
        add("", begin(), AGENT, "(recording: " + which + ")");
    }

    private Begin begin() {
        return new Begin(now.get(), begun++);
    }

    private void add(String id, Begin began, String role, String text) {
        if (text.isBlank() || truncated()) {
            return;
        }
        bytes += FRAME + Json.createValue(text).toString().getBytes(StandardCharsets.UTF_8).length;
        if (!truncated()) {
            items.add(new Item(id, began, role, text.strip()));
        }
    }

    /// The call has brought more than there is room for, and the rest is missing.
    public boolean truncated() {
        return bytes > MOST_BYTES;
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
