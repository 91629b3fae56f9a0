package voice;

import module java.base;

/// What was said and done in one conversation, in writing. A new connection to the model knows
/// nothing of it, so Realtime tells it what is kept here. Only Realtime uses a History, and holds
/// its own lock then.
///
/// What is not done here: no sound is kept (Hearing keeps it), and only the last 200 items are.
final class History {
    private static final int MOST_ITEMS = 200;
    private static final String INTERRUPTED = " (interrupted)";

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

    /// Whom the model talks to. A new connection is told this first, however old this text is.
    Item about(String caller) {
        about = new Message(Role.PROGRAM, caller);
        return about;
    }

    /// What the model is told in writing, by the program or the caller.
    Item told(Role by, String text) {
        return note("told " + UUID.randomUUID(), new Message(by, text));
    }

    /// The model has called a tool ([function
    /// calling](https://developers.openai.com/api/docs/guides/realtime-conversations)). Returns
    /// false when this call is known already.
    boolean toolCalled(String callId, String name, String arguments) {
        boolean first = toolsCalled.add(callId);
        if (first) {
            note("call " + callId, new ToolCall(callId, name, arguments));
            toolsRunning.add(callId);
        }
        return first;
    }

    /// A tool was called and has no output yet.
    boolean toolRunning() {
        return !toolsRunning.isEmpty();
    }

    Item toolOutput(String callId, String json) {
        toolsRunning.remove(callId);
        return note("output " + callId, new ToolOutput(callId, json));
    }

    /// What the caller says. The text is "" while only the sound is known. The transcript may come
    /// later, or not at all.
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

    /// The caller has heard only the first part of an item's sound: `share` of it, 0 to 1. Nobody
    /// knows at which word that part ends. So the same share of the text is kept.
    void interrupted(String itemId, double share) {
        if (items.get(itemId) instanceof Message(Role by, String text)) {
            items.put(itemId, new Message(by,
                    text.substring(0, (int) (text.length() * share)) + INTERRUPTED));
        }
    }

    /// Adds an item at the end. An item that has this id already is replaced where it stands.
    private Item note(String id, Item item) {
        items.put(id, item);
        if (items.size() > MOST_ITEMS) {
            items.remove(items.keySet().iterator().next());
        }
        return item;
    }

    /// Tells all of it to a new connection, except for the item `heardAgain` (null for none): the
    /// model hears that one once more and need not read it. `brokeOff`: the connection before it
    /// has failed while the agent was speaking.
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
