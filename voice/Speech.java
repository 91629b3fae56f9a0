package voice;

import module java.base;

/// What the agent says, in writing, and how much of it the caller has heard. The model writes
/// faster than it speaks, and the caller may break it off. So an item is over when its sound was
/// heard to the end or broken off, and not when its text is there.
///
/// Nobody knows at which word a sound was broken off. The share of the text that counts as heard is
/// that of the sound.
///
/// Realtime has one Speech for each call, and holds its own lock when it calls a method.
final class Speech {

    /// An item that is not over yet.
    private static final class Item {
        String text = "";
        boolean written;                        // no more text will come
        int bytes;                              // of its sound, that have come
        boolean brokenOff;
        double heard = 1;                       // the share of it, if it was broken off

        String words() {
            return Log.cut(text, (int) (text.length() * heard));
        }
    }

    private final Mailbox mailbox;
    private final Speaker speaker;
    private final History history;
    private final Map<String, Item> items = new LinkedHashMap<>();          // by id
    private final Set<String> over = new HashSet<>();

    Speech(Mailbox mailbox, Speaker speaker, History history) {
        this.mailbox = mailbox;
        this.speaker = speaker;
        this.history = history;
    }

    private Item item(String id) {
        return items.computeIfAbsent(id, _ -> new Item());
    }

    /// So much more of the sound of an item waits in the Speaker.
    void soundCame(String id, int bytes) {
        if (!over.contains(id)) {
            item(id).bytes += bytes;
        }
    }

    /// The agent says more of an item. What comes after it was broken off is not heard.
    void says(String id, String text) {
        if (!over.contains(id)) {
            item(id).text += text;
            if (!item(id).brokenOff) {
                history.agentSays(id, text);
                mailbox.post(new Event.AgentSays(id, text));
            }
        }
    }

    /// This is the whole text of an item. Not every service sends it in pieces before.
    void written(String id, String text) {
        if (!over.contains(id)) {
            if (item(id).text.isEmpty()) {
                says(id, text);
            }
            item(id).written = true;
        }
    }

    /// The sound of an item was broken off.
    void brokenOff(Speaker.Cut cut) {
        Item item = items.get(cut.itemId());
        if (item != null) {                     // otherwise it is a recording
            heard(cut.itemId(), Math.min(1, (double) cut.ms() * Speaker.BYTES_PER_MS / item.bytes));
        }
    }

    /// Nothing of an item is played.
    void dropped(String id) {
        heard(id, 0);
    }

    private void heard(String id, double share) {
        Item item = item(id);
        item.brokenOff = true;
        item.heard = share;
        item.written |= !item.text.isEmpty();
        history.interrupted(id, item.words());
    }

    /// No more of these items will come. If that is because somebody or something has broken off
    /// the response (`brokenOff`), the caller does not hear what has come without sound.
    void noMoreComes(boolean brokenOff) {
        items.forEach((id, item) -> {
            item.written = true;
            if (brokenOff && item.bytes == 0) {
                heard(id, 0);
            }
        });
    }

    /// The items that are over now. `responding`: sound may still come to those that have none.
    List<Event.AgentSaid> over(boolean responding) {
        var now = new ArrayList<Event.AgentSaid>();
        items.forEach((id, item) -> {
            boolean silent = item.bytes > 0 ? !speaker.holds(id) : !responding;
            if (item.written && (silent || item.brokenOff)) {
                over.add(id);
                if (item.brokenOff) {
                    history.interrupted(id, item.words());
                }
                if (!item.text.isEmpty()) {
                    now.add(new Event.AgentSaid(id, item.words()));
                }
            }
        });
        items.keySet().removeAll(over);
        return now;
    }
}
