package trials;

import module java.base;
import demo.DemoModel.Say;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Test;
import voice.Clips;
import voice.End;
import voice.Event;
import voice.Transcript;
import voice.Usage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/: what is left of a call when it is over: what was said in it, and what the model has
/// used. AgentTest has how Webhooks reports that.
public final class TranscriptTest extends Stand {
    private static final Event LEAVES = new Event.CallerLeft("CLIENT_INITIATED");

    /// The call, when the caller has hung up.
    private static List<String> said(Talk talk) throws Exception {
        talk.happens(LEAVES);
        End end = talk.ended();
        return said(end.transcript(), end.answered());
    }

    private static List<String> said(Transcript transcript, Instant answered) {
        return transcript.items(answered).getValuesAs(JsonObject.class).stream()
                .map(item -> item.getInt("at") + " " + item.getString("role") + " "
                        + (item.containsKey("name") ? "= " + item.getString("name")
                                : item.getString("text"))).toList();
    }

    private static String words(String item, String text) {
        return "{'type':'response.output_audio_transcript.done','item_id':'" + item
                + "','transcript':'" + text + "'}";
    }

    private static String caller(String what, String item) {
        return "{'type':'input_audio_buffer.speech_" + what + "','item_id':'" + item
                + "','audio_start_ms':0,'audio_end_ms':0}";
    }

    private static String transcribed(String item, String text) {
        return "{'type':'conversation.item.input_audio_transcription.completed','item_id':'" + item
                + "','content_index':0,'transcript':'" + text + "',"
                + "'usage':{'type':'duration','seconds':1}}";
    }

    private static String called(String tool) {
        return "{'type':'response.output_item.done','item':{'type':'function_call','id':'f-" + tool
                + "','call_id':'c-" + tool + "','name':'" + tool + "','arguments':'{}'}}";
    }

    @Test
    void whatWasSaidIsInItsOrderAndHasTheTimeAtWhichItBegan() throws Exception {
        var line = new TestLine();
        line.answers = false;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        line.pass(Duration.ofMillis(3_000));            // it rings; the greeting is there
        line.mailbox.post(new Event.CallerHears());
        talk.heard(50);
        talk.model.responds = false;                    // from now on the test does
        line.pass(Duration.ofMillis(1_000));
        talk.modelSends(1, caller("started", "u1"));
        line.pass(Duration.ofMillis(2_000));
        talk.modelSends(1, caller("stopped", "u1"), SessionTest.RESPONSE_CREATED, called("report"));
        line.pass(Duration.ofMillis(10));
        talk.modelSends(1, Talk.sound("a1", 20), Talk.sound("a2", 20));
        line.pass(Duration.ofMillis(500));              // and only now the two are written
        talk.modelSends(1, words("a1", " One. "), words("a2", "Two."),
                "{'type':'response.output_audio.done','item_id':'a2'}", SessionTest.RESPONSE_DONE,
                transcribed("u1", "Hello?"));
        talk.heard(90);
        talk.modelSends(1, caller("started", "u2"), caller("stopped", "u2"));
        line.pass(Duration.ofMillis(7));
        talk.happens(new Event.CallerWrote("in writing"), new Event.KeyPressed("1"),
                new Event.KeyPressed("2"));
        line.pass(Duration.ofMillis(1_500));
        talk.modelSends(1, transcribed("u2", "Nothing."), transcribed("u3", "  "));
        assertEquals(List.of("0 agent Hello.", "1000 caller Hello?", "3000 tool = report",
                "3010 agent One.", "3510 agent Two.", "3510 caller Nothing.",
                "3517 caller in writing", "3517 caller (pressed 2 keys)"), said(talk));
    }

    @Test
    void ofWhatTheAgentSaysItHasWhatTheCallerHasHeard() throws Exception {
        var talk = Talk.greeted(this, Map.of());
        talk.modelSends(1, SessionTest.RESPONSE_CREATED,
                "{'type':'response.output_text.done','item_id':'w','text':'In writing.'}",
                Talk.sound("a1", 1_000), words("a1", "0123456789"), Talk.sound("a2", 1_000),
                words("a2", "Nobody has heard that."));
        eventually("half of it", () -> talk.line.heardMs.get() >= 550);
        talk.modelSends(1, caller("started", "u1"));
        var said = said(talk);
        assertTrue(said.get(1).matches("0 agent 01234[5-9]{0,4}"), said.toString());
        assertEquals(2, said.size(), said.toString());      // and the greeting
    }

    @Test
    void aRecordingIsSomethingThatTheCallerHasHeard() throws Exception {
        var talk = Talk.greeted(this, Map.of());
        talk.model.responds = false;
        talk.modelSends(1, caller("started", "u1"), caller("stopped", "u1"));
        talk.later("it bridges the time", () -> talk.line.heardMs.get() > 50);
        talk.hears(Clips.MOMENT);
        var said = said(talk);
        assertTrue(said.getLast().endsWith(" agent (recording: MOMENT)"), said.toString());
    }

    @Test
    void whatAnotherConnectionHearsOnceMoreWasSaidOnce() throws Exception {
        var talk = Talk.greeted(this, Map.of());
        talk.model.responds = false;
        LongSupplier written = () -> talk.line.captions.stream()
                .filter(each -> each.contains("speech")).count();
        for (int sentences = 1; sentences <= 2; sentences++) {
            talk.callerSays(1, 600);
            int all = sentences;
            eventually("it is written down", () -> written.getAsLong() == all);
        }
        session(talk.model).drop();
        talk.later("another connection hears both", () -> written.getAsLong() == 4);
        var callers = said(talk).stream().filter(each -> each.contains(" caller ")).toList();
        assertEquals(2, callers.size(), callers.toString());
        assertTrue(callers.getFirst().startsWith("0 "), callers.toString());
    }

    /// The words of before stay until they are written down once more, and what has no id stays.
    @Test
    void nothingIsLostThatWasWrittenDown() throws Exception {
        var away = new Event.ModelAway("lost", Duration.ZERO);
        var speaks = new Event.CallerSpeaks("u1");
        var says = new Event.CallerSaid("u1", "One.");
        var again = new Event.CallerHeardAgain("u2");
        for (var events : List.of(List.of(speaks, says, away, again),
                List.of(speaks, says, away, again, new Event.CallerSaid("u2", " ")),
                List.of(speaks, away, again, new Event.CallerSaid("u2", "One.")),
                List.of(speaks, says, away, again, away, new Event.CallerHeardAgain("u3")),
                List.of(speaks, says, away, again, away, new Event.CallerHeardAgain("u3"),
                        new Event.CallerSaid("u3", "One.")),
                List.of(speaks, says, new Event.AgentSpeaks("a1"), away, again,
                        new Event.CallerSaid("u2", " ")),
                List.of(new Event.CallerSpeaks(""), new Event.CallerSaid("", "One."), away,
                        new Event.CallerHeardAgain(""), new Event.CallerSaid("", "")))) {
            var talk = Talk.greeted(this, Map.of());
            talk.happens(new Event.CallerWrote("Typed."));
            talk.happens(events.toArray(Event[]::new));
            talk.happens(new Event.KeyPressed("1"));        // and hangs up at once
            assertEquals(List.of("0 agent Hello.", "0 caller Typed.", "0 caller One.",
                    "0 caller (pressed 1 key)"), said(talk).stream()
                            .filter(each -> !each.contains("Yes.")).toList(), events.toString());
        }
    }

    @Test
    void nobodyHearsAGreetingBeforeTheAnswer() throws Exception {
        var line = new TestLine();
        line.answers = false;
        var talk = Talk.begun(this, line, Talk.greeting(this));
        eventually("the greeting is there", () -> line.pickedUp.isDone());
        talk.happens(LEAVES);
        assertNull(talk.ended().answered());
        assertEquals(List.of(), said(talk.ended().transcript(), Instant.now()));
    }

    /// In bytes, of which a letter has up to six in JSON.
    @Test
    void itHasAnEnd() throws Exception {
        for (String letter : List.of("x", "\u0001", "ü", "👋")) {
            var talk = Talk.greeted(this, Map.of());
            String text = letter.repeat(9_000 / letter.length());
            for (int i = 0; i < 60; i++) {
                talk.line.mailbox.post(new Event.CallerWrote(text));
            }
            talk.happens(LEAVES);
            var transcript = talk.ended().transcript();
            int size = utf8(transcript.items(talk.ended().answered()).toString()).length;
            assertTrue(size > 430_000 && size <= 490_000, size + " bytes");
            assertTrue(transcript.truncated());
        }
        var talk = Talk.greeted(this, Map.of());
        assertEquals(List.of("0 agent Hello."), said(talk));
        assertFalse(talk.ended().transcript().truncated());
    }

    // What the model has used.

    private static String uses(String usage) {
        return "{'type':'response.done','response':{'status':'completed','usage':" + usage + "}}";
    }

    private static Usage soFar(Talk talk) throws ReflectiveOperationException {
        return (Usage) Talk.field(Talk.field(Talk.field(talk, "session"), "conversation"), "usage");
    }

    private static Usage used(Talk talk) throws Exception {
        talk.happens(LEAVES);
        return talk.ended().usage();
    }

    @Test
    void whatTheResponsesHaveUsedIsAddedUp() throws Exception {
        var talk = Talk.greeted(this, Map.of());
        Usage first = soFar(talk);
        assertTrue(first.inputText() > 0 && first.outputAudio() == 1, first.toString());
        String whole = "{'total_tokens':9,'input_tokens':7,'output_tokens':8,"
                + "'input_token_details':{'text_tokens':1,'audio_tokens':20,'cached_tokens':700,"
                + "'cached_tokens_details':{'text_tokens':300,'audio_tokens':4000}},"
                + "'output_token_details':{'text_tokens':50000,'audio_tokens':600000}}";
        talk.modelSends(1, uses(whole), uses(whole).replace("completed", "cancelled"));
        session(talk.model).drop();                     // what it has used is not forgotten
        session(talk.model, 2);
        talk.modelSends(2, uses(whole));
        assertEquals(new Usage(first.inputText() + 3, first.inputAudio() + 60,
                first.cachedText() + 900, first.cachedAudio() + 12_000,
                first.outputText() + 150_000, first.outputAudio() + 1_800_000), used(talk));
    }

    @Test
    void whatIsNotReportedAsSoundCountsAsTextAndWhatMakesNoSenseAsNothing() throws Exception {
        record Case(String usage, Usage added) {}
        for (Case each : List.of(
                new Case("{'input_tokens':5,'output_tokens':7}", new Usage(5, 0, 0, 0, 7, 0)),
                new Case("{'input_token_details':{'audio_tokens':3,'cached_tokens':2}}",
                        new Usage(0, 3, 2, 0, 0, 0)),
                new Case("{}", new Usage(0, 0, 0, 0, 0, 0)),
                new Case("{'input_tokens':10,'input_token_details':{'audio_tokens':3,"
                        + "'cached_tokens':4,'cached_tokens_details':{'audio_tokens':1}},"
                        + "'output_tokens':2,'output_token_details':{}}",
                        new Usage(7, 3, 3, 1, 2, 0)),
                new Case("{'input_tokens':1,'input_token_details':{'audio_tokens':3}}",
                        new Usage(0, 3, 0, 0, 0, 0)),
                new Case("{'input_tokens':-5,'output_tokens':99999999999999999}",
                        new Usage(0, 0, 0, 0, 1_000_000_000, 0)),
                new Case("{'input_tokens':'many','output_token_details':[1],"
                        + "'input_token_details':'x'}", new Usage(0, 0, 0, 0, 0, 0)),
                new Case("null", null), new Case("'x'", null), new Case("[]", null))) {
            var model = model(new Say("Hello.", 50));
            model.firstSoundMs = 10;
            var talk = Talk.begun(this, new TestLine(), model);
            talk.heard(50);
            Usage first = soFar(talk);
            talk.modelSends(1, uses(each.usage));
            Usage sum = used(talk);
            assertEquals(each.added == null ? first : new Usage(
                    first.inputText() + each.added.inputText(),
                    first.inputAudio() + each.added.inputAudio(),
                    first.cachedText() + each.added.cachedText(),
                    first.cachedAudio() + each.added.cachedAudio(),
                    first.outputText() + each.added.outputText(),
                    first.outputAudio() + each.added.outputAudio()), sum, each.usage);
        }
    }
}
