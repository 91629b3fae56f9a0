package voice;

import module java.base;

/// What was said and done in one conversation, in writing. A new connection to the model knows
/// nothing of it, so Realtime tells it what is kept here. History also knows what the model was
/// told and has not answered yet. Realtime has one History for each call, and holds its own lock
/// when a method is called.
///
/// What is not done here: no sound is kept (Hearing keeps it), and only the last 200 items are.
final class History {
    private static final int MOST_ITEMS = 200;
    private static final String OURS = "ours_";             // with it, an id of ours begins
    private static final String INTERRUPTED = " (interrupted)";
    private static final String NOT_HEARD = " (in writing: the caller has not heard it)";

    /// One thing in the conversation. OpenAI calls it an
    /// [item](https://developers.openai.com/api/docs/guides/realtime-conversations), too.
    sealed interface Item {}

    record Message(Role by, String text) implements Item {}

    record ToolCall(String callId, String name, String arguments) implements Item {}

    record ToolOutput(String callId, String json) implements Item {}

    /// Whose words a message holds. PROGRAM is this program, which is neither of the two who talk:
    /// it tells the model what cannot be heard.
    enum Role { CALLER, AGENT, PROGRAM }

    private final Map<String, Item> items = new LinkedHashMap<>();          // by item id
    private final Set<String> toolsCalled = new HashSet<>();                // by call id
    private final Set<String> toolsRunning = new HashSet<>();               // by call id
    private Message about;
    private int ids;

    // What wants an answer. An item of ours has an id of ours, and the service confirms that id
    // when the item stands in the conversation.
    private final Map<String, Item> unanswered = new LinkedHashMap<>();     // by item id
    private final Map<String, Integer> timesAsked = new HashMap<>();        // about these
    private final Set<String> confirmed = new HashSet<>();                  // some of these
    private boolean confirms;                   // this service confirms our ids at all

    /// Whom the model talks to. A new connection is told this first, however old this text is.
    void about(String caller, Link to) {
        about = new Message(Role.PROGRAM, caller);
        add(about, to);
    }

    /// What the model is told in writing, by the program or the caller. It wants an answer.
    void told(Role by, String text, Link to) {
        var message = new Message(by, text);
        String id = add(message, to);
        note(id, message);
        unanswered.put(id, message);
    }

    private String add(Item item, Link to) {
        String id = OURS + ++ids;
        to.add(id, item);
        return id;
    }

    /// The model has called a tool ([function
    /// calling](https://developers.openai.com/api/docs/guides/realtime-conversations)). Returns
    /// false when this call is known already.
    boolean toolCalled(ToolCall call) {
        boolean first = toolsCalled.add(call.callId);
        if (first) {
            note("call " + call.callId, call);
            toolsRunning.add(call.callId);
        }
        return first;
    }

    /// A tool was called and has no output yet.
    boolean toolRunning() {
        return !toolsRunning.isEmpty();
    }

    /// Returns the item's id, for `wantsAnswer`.
    String toolOutput(String callId, String json, Link to) {
        toolsRunning.remove(callId);
        var output = new ToolOutput(callId, json);
        String id = add(output, to);
        note(id, output);
        return id;
    }

    // What has no answer yet.

    /// The model is to say something about this item of ours.
    void wantsAnswer(String id) {
        if (items.get(id) instanceof Item item) {
            unanswered.put(id, item);
        }
    }

    boolean unanswered() {
        return !unanswered.isEmpty();
    }

    /// The caller has written something, or pressed keys, and the model has not answered that yet.
    boolean callerUnanswered() {
        return unanswered.values().stream()
                .anyMatch(item -> item instanceof Message(Role by, _) && by == Role.CALLER);
    }

    /// The service has this item in its conversation. `id` may be an id of its own.
    void confirmed(String id) {
        confirms |= id.startsWith(OURS);
        confirmed.add(id);
    }

    /// The model is asked for a response to all of these items.
    void responseAskedFor() {
        unanswered.keySet().forEach(id -> timesAsked.merge(id, 1, Integer::sum));
    }

    /// The model begins a response. It answers what the service had confirmed before that. An item
    /// that comes later was on its way then, so the response cannot be about it. (The service has
    /// refused an item that the model was asked about twice, if it is not confirmed.) Returns
    /// whether the response answers any item of ours.
    boolean responseBegins() {
        boolean answers = unanswered.keySet().removeIf(id -> !confirms || confirmed.contains(id)
                || timesAsked.getOrDefault(id, 0) > 1);
        confirmed.clear();
        return answers;
    }

    /// What the caller says. The text is "" while only the sound is known. The transcript may come
    /// later, or not at all.
    void callerSays(String itemId, String text) {
        note(itemId, new Message(Role.CALLER, text));
    }

    /// What the caller has said in that item, in writing; "" as long as nobody has written it down.
    String callersWords(String itemId) {
        return items.get(itemId) instanceof Message(_, String text) ? text : "";
    }

    /// The agent has answered in writing only.
    void agentWrites(String itemId, String text) {
        note(itemId, new Message(Role.AGENT, text + NOT_HEARD));
    }

    /// The agent says more of an item.
    void agentSays(String itemId, String text) {
        String before = items.get(itemId) instanceof Message(_, String said) ? said : "";
        note(itemId, new Message(Role.AGENT, before + text));
    }

    /// The caller has heard only these first words of an item.
    void interrupted(String itemId, String words) {
        note(itemId, new Message(Role.AGENT, words + INTERRUPTED));
    }

    /// Adds an item at the end. An item that has this id already is replaced where it stands.
    private void note(String id, Item item) {
        items.put(id, item);
        if (items.size() > MOST_ITEMS) {
            items.remove(items.keySet().iterator().next());
        }
    }

    /// Tells all of it to a new connection, except for the item `heardAgain` (null for none): the
    /// model hears that one once more and need not read it. `brokeOff`: the connection before it
    /// has failed while the agent was speaking.
    void tell(Link to, String heardAgain, boolean brokeOff) {
        confirms = false;
        confirmed.clear();
        unanswered.keySet().retainAll(items.keySet());      // only what is told can be answered
        add(about, to);
        var calls = new HashSet<String>();
        items.forEach((id, item) -> {
            boolean useful = switch (item) {
                case Message(_, String text) ->
                        !text.isBlank() && !text.equals(INTERRUPTED) && !id.equals(heardAgain);
                case ToolCall(String callId, _, _) -> calls.add(callId);
                // The service refuses the output of a call that it does not know.
                case ToolOutput(String callId, _) -> calls.contains(callId);
            };
            if (useful) {
                to.add(id.startsWith(OURS) ? id : null, item);
            }
        });
        if (brokeOff) {
            add(new Message(Role.PROGRAM, "The connection broke while you were speaking. "
                    + "Go on where you stopped; do not greet again or repeat yourself."), to);
        }
    }
}
