package voice;

import module java.base;

/// What was said and done in one conversation, in writing. A connection to the model that takes the
/// place of another one is told it. Only Realtime uses it, and holds its own lock when it does.
///
/// What is not done here: no sound is kept, and no more than the last 200 items.
final class History {
    private static final int MOST_ITEMS = 200;
    private static final String INTERRUPTED = " (interrupted)";

    /// An entry of the conversation. OpenAI calls it an
    /// [item](https://platform.openai.com/docs/guides/realtime-conversations), too.
    sealed interface Item {}

    record Message(Role by, String text) implements Item {}

    record ToolCall(String callId, String name, String arguments) implements Item {}

    record ToolOutput(String callId, String json) implements Item {}

    /// Whose words a message holds. PROGRAM is neither of the two who talk to each other: it tells
    /// the model what cannot be heard.
    enum Role { CALLER, AGENT, PROGRAM }

    private final Map<String, Item> items = new LinkedHashMap<>();          // by item id
    private Message about;

    /// Whom the model talks to. A new connection is told this first, and it is never too old.
    Item about(String caller) {
        about = new Message(Role.PROGRAM, caller);
        return about;
    }

    /// What the model is told in writing.
    Item told(Role by, String text) {
        return note("told " + UUID.randomUUID(), new Message(by, text));
    }

    void toolCalled(String callId, String name, String arguments) {
        note("call " + callId, new ToolCall(callId, name, arguments));
    }

    Item toolOutput(String callId, String json) {
        return note("output " + callId, new ToolOutput(callId, json));
    }

    /// What the caller says; "" as long as it is not written down.
    void callerSays(String itemId, String text) {
        note(itemId, new Message(Role.CALLER, text));
    }

    /// The agent says more of an item. What comes after an interruption was not heard.
    void agentSays(String itemId, String text) {
        String before = items.get(itemId) instanceof Message(_, String said) ? said : "";
        if (!before.endsWith(INTERRUPTED)) {
            note(itemId, new Message(Role.AGENT, before + text));
        }
    }

    /// The caller has heard only the first part of an item's sound: `share` of it, 0 to 1. Which
    /// word that is, nobody knows. So the same share of the text is kept.
    void interrupted(String itemId, double share) {
        if (items.get(itemId) instanceof Message(Role by, String text)) {
            items.put(itemId, new Message(by,
                    text.substring(0, (int) (text.length() * share)) + INTERRUPTED));
        }
    }

    /// An item that is known by the same id is replaced, where it stands.
    private Item note(String id, Item item) {
        items.put(id, item);
        if (items.size() > MOST_ITEMS) {
            items.remove(items.keySet().iterator().next());
        }
        return item;
    }

    /// Tells all of it to a new connection, but for the item `heardAgain` (or null): that one is
    /// heard there once more and need not be read. `brokeOff`: the last connection failed while the
    /// agent was speaking.
    void tell(Link to, String heardAgain, boolean brokeOff) {
        to.add(about);
        var calls = new HashSet<String>();
        items.forEach((id, item) -> {
            boolean useful = switch (item) {
                case Message(_, String text) -> !text.isBlank() && !id.equals(heardAgain);
                case ToolCall(String callId, _, _) -> calls.add(callId);
                // The service refuses the output of a call that it does not know.
                case ToolOutput(String callId, _) -> calls.contains(callId);
            };
            if (useful) {
                to.add(item);
            }
        });
        if (brokeOff) {
            to.add(new Message(Role.PROGRAM, "The connection broke while you were speaking. "
                    + "Go on where you stopped; do not greet again or repeat yourself."));
        }
    }
}
