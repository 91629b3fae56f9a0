package demo;

import module java.base;
import demo.DemoModel.Play;
import demo.DemoModel.Step;
import demo.DemoModel.Tool;
import jakarta.json.Json;
import voice.Clips;

/// What the stand-in for the model says and does in a demo, where there is no key. Its lines are
/// recordings (demo/clips, made with the speech synthesiser flite, voice slt). Demo hands this
/// script to DemoModel.
///
/// It deliberately does not understand speech: when the caller stops speaking, DemoModel takes the
/// next step of `TURNS`, whatever was said. The steps call four tools, one after the other. In a
/// text message this class looks for the words that it knows.
final class Script {
    static final List<Step> TURNS;
    static final Step END = line("end", "That was my whole script.");

    private static final Step INTENT = line("intent",
            "I have recorded what you want. The CRM knows it already. What else?");
    private static final Step LOOKUP = line("lookup",
            "I have looked up a customer in the CRM. Anything else?");
    private static final Step NOTE = line("note",
            "I have written a note into your record. And now?");
    private static final Step TRANSFER = line("transfer",
            "I will put you through to a colleague. Goodbye.");
    private static final Step BYE = line("bye", "Thank you for your call. Goodbye.");
    private static final Step KEYS = line("keys", "I have got the keys that you pressed.");
    private static final Step THERE = line("there", "Are you still there?");
    private static final Step GOODBYE = line("goodbye", "I hear nothing, so I say goodbye.");
    private static final Step UNKNOWN = line("unknown",
            "I only know five words: order, look up, note, human, and goodbye.");

    static {
        var turns = new ArrayList<Step>();
        turns.add(line("greeting", "Hello. I am a recording. I do not understand speech, I follow"
                + " a script. What can I do for you?"));
        turns.addAll(intent("Wants a delivery to come on Friday (so says the script)"));
        turns.addAll(lookUp("+15550101"));
        turns.addAll(note("Can be reached after six (so says the script)."));
        turns.addAll(transfer("support"));
        TURNS = List.copyOf(turns);
    }

    private Script() {}

    /// The steps that answer a text message. The caller has written it, or the agent: who the
    /// caller is, that keys were pressed, that the caller is silent. The first four conditions
    /// below know the agent's texts by how they begin.
    static List<Step> forText(String text) {
        String words = text.toLowerCase(Locale.ROOT);
        if (words.startsWith("# the caller")) {
            return List.of(); // the record of the caller: nobody has said that
        } else if (words.startsWith("the caller pressed")) {
            return List.of(KEYS);
        } else if (words.startsWith("the caller has said nothing")) {
            return List.of(THERE);
        } else if (words.startsWith("the caller still says nothing")) {
            return List.of(GOODBYE);
        } else if (has(words, "human|person|somebody|colleague|transfer|sales|billing|support")) {
            return transfer(has(words, "sales") ? "sales" : has(words, "bill") ? "billing"
                    : "support");
        } else if (has(words, "bye|goodbye|hang up|nothing")) {
            return List.of(new Tool("end_call", "{}"), BYE);
        } else if (has(words, "look|find|search|who is")) {
            Matcher number = Pattern.compile("\\+[0-9 -]{6,}").matcher(words);
            return lookUp(number.find() ? number.group().strip() : "+15550101");
        } else if (has(words, "note|write|remember|remind")) {
            return note(text);
        } else if (has(words, "order|want|need|like|buy|deliver|refund|price|question")) {
            return intent(text);
        }
        return List.of(UNKNOWN);
    }

    private static boolean has(String words, String some) {
        return Pattern.compile("\\b(" + some + ")").matcher(words).find();
    }

    private static List<Step> intent(String intent) {
        return List.of(tool("record_intent", "intent", intent), INTENT);
    }

    private static List<Step> lookUp(String phone) {
        return List.of(tool("lookup_crm", "phone", phone), LOOKUP);
    }

    private static List<Step> note(String note) {
        return List.of(tool("update_crm_note", "note", note), NOTE);
    }

    private static List<Step> transfer(String destination) {
        return List.of(tool("transfer_call", "destination", destination), TRANSFER);
    }

    private static Step tool(String name, String argument, String value) {
        return new Tool(name, Json.createObjectBuilder().add(argument, value).build().toString());
    }

    private static Step line(String clip, String text) {
        try {
            return new Play(text, Clips.read(Path.of("demo", "clips", clip + ".wav")));
        } catch (IOException e) {
            throw new UncheckedIOException("demo/clips/" + clip + ".wav cannot be read", e);
        }
    }
}
