package trials;

import module java.base;
import livekit.LivekitModels.DataPacket;
import livekit.LivekitModels.DataStream;
import org.junit.jupiter.api.Test;
import voice.Event;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// What the caller and the agent say, in writing: that a caption is complete when the caller has
/// heard what it says, and then has what they have heard; and how room/ sends it. SessionTest and
/// AnswersTest have more captions, and PhoneTest has those that LiveKit's own client shows.
public final class CaptionsTest extends Stand {
    private static final String WORDS = "0123456789012345678901234567890123456789";
    private static final String LOST = """
            {"type":"error","error":{"type":"x","code":"invalid_api_key","message":"no"}}""";

    private static String says(String words) {
        return "{'type':'response.output_audio_transcript.delta','item_id':'sentence','delta':'"
                + words + "'}";
    }

    private static String saidAll(String words) {
        return "{'type':'response.output_audio_transcript.done','item_id':'sentence',"
                + "'transcript':'" + words + "'}";
    }

    private static final String SOUND_DONE =
            "{'type':'response.output_audio.done','item_id':'sentence'}";

    /// A call in which the model has sent that after the greeting.
    private Talk answers(String... events) throws Exception {
        var talk = Talk.greeted(this, Map.of());
        eventually("the greeting", () -> talk.line.captions.contains("agent Hello.|"));
        talk.line.captions.clear();
        talk.modelSends(1, SessionTest.RESPONSE_CREATED);
        talk.modelSends(1, events);
        return talk;
    }

    /// Waits until the first caption is complete, and what it is then.
    private static void isComplete(Talk talk, Predicate<String> words) throws Exception {
        Supplier<Optional<String>> complete = () -> talk.line.captions.stream()
                .filter(each -> each.endsWith("|")).findFirst();
        eventually("it is complete", () -> complete.get().isPresent());
        String last = complete.get().orElseThrow();
        assertTrue(words.test(last.substring("agent ".length(), last.length() - 1)), last);
    }

    @Test
    void aCaptionIsCompleteWhenTheCallerHasHeardAllOfIt() throws Exception {
        var talk = answers(says(WORDS), Talk.sound("sentence", 300), saidAll(WORDS), SOUND_DONE,
                SessionTest.RESPONSE_DONE);
        isComplete(talk, WORDS::equals);
        assertEquals(350, talk.line.heardMs.get());
    }

    @Test
    void aCaptionWhoseSoundSeemedToBreakOffIsCompleteWhenItsEndComes() throws Exception {
        var talk = answers(says(WORDS), Talk.sound("sentence", 100), saidAll(WORDS));
        eventually("no more comes", () -> talk.line.heardMs.get() >= 150
                && !talk.line.speaker.speaking());
        session(talk.model).sendText(SOUND_DONE.replace('\'', '"'));
        isComplete(talk, WORDS::equals);
    }

    @Test
    void theCaptionOfAnAnswerThatIsBrokenOffHasTheWordsThatWereHeard() throws Exception {
        record Case(String what, List<String> before, List<String> after) {}
        String sound = Talk.sound("sentence", 1_000);
        for (Case each : List.of(
                new Case("more would come", List.of(says(WORDS), sound), List.of()),
                new Case("more comes", List.of(says(WORDS), sound), List.of(says(" And more."),
                        saidAll(WORDS + " And more."))),
                new Case("the model is done", List.of(says(WORDS), sound, saidAll(WORDS),
                        SOUND_DONE, SessionTest.RESPONSE_DONE), List.of()),
                new Case("the words come last", List.of(sound), List.of(saidAll(WORDS))),
                new Case("in pieces", List.of(sound), List.of(says("0123456789"),
                        says(WORDS.substring(10)), saidAll(WORDS))))) {
            for (String by : List.of("voice", "keys", "the model is lost", "hanging up")) {
                var talk = answers(each.before.toArray(String[]::new));
                eventually("some is heard", () -> talk.line.heardMs.get() >= 300);
                switch (by) {
                    case "voice" -> talk.modelSends(1, SessionTest.SPEECH_STARTED);
                    case "keys" -> talk.happens(new Event.CallerWrote("Stop."));
                    case "the model is lost" -> session(talk.model).sendText(LOST);
                    default -> talk.happens(new Event.CallerLeft("CLIENT_INITIATED"));
                }
                if (List.of("voice", "keys").contains(by)) {
                    talk.modelSends(1, each.after.toArray(String[]::new));
                } else if (each.before.size() == 1) {
                    continue;           // nobody knows the words
                }
                isComplete(talk, words -> words.length() >= 8 && words.length() < 40
                        && WORDS.startsWith(words));
            }
        }
    }

    @Test
    void theCaptionOfWhatALostCallerHasHeardIsComplete() throws Exception {
        var talk = answers(says(WORDS), Talk.sound("sentence", 1_000));
        eventually("some is heard", () -> talk.line.heardMs.get() >= 300);
        talk.happens(new Event.CallerLost("CONNECTION_TIMEOUT"));
        isComplete(talk, words -> words.length() >= 8 && words.length() < 40
                && WORDS.startsWith(words));
    }

    @Test
    void whatWasBrokenOffWhileTheCallerWasLostIsNeverShown() throws Exception {
        var talk = Talk.greeted(this, Talk.SALES);
        talk.happens(new Event.CallerLost("CONNECTION_TIMEOUT"));
        talk.line.captions.clear();
        talk.modelSends(1, "{'type':'response.created','response':{'id':'r1'}}", says(WORDS));
        session(talk.model).drop();
        session(talk.model, 2);
        talk.modelSends(2);
        talk.happens(new Event.CallerBack());
        assertFalse(talk.line.captions.toString().contains(WORDS), "" + talk.line.captions);

        talk.happens(new Event.CallerLost("CONNECTION_TIMEOUT"));
        talk.modelSends(2, "{'type':'response.created','response':{'id':'r2'}}", says(WORDS),
                Talk.sound("sentence", 50));
        talk.happens(new Event.CallerBack());
        talk.modelSends(2);
        assertFalse(talk.line.captions.toString().contains(WORDS), "" + talk.line.captions);
    }

    @Test
    void whatANewConnectionDoesNotGoOnWithIsCompleteWhenItWasHeard() throws Exception {
        var talk = answers(says("Half a"), Talk.sound("sentence", 300));
        session(talk.model).drop();
        isComplete(talk, "Half a"::equals);
        assertTrue(talk.line.heardMs.get() >= 350);
    }

    /// The sound is broken off when a new connection is there already.
    @Test
    void whatWasSaidInAnEarlierConnectionCanBeBrokenOff() throws Exception {
        var talk = answers(says(WORDS), Talk.sound("sentence", 60_000));
        session(talk.model).drop();
        session(talk.model, 2);
        eventually("some is heard", () -> talk.line.heardMs.get() >= 250);
        talk.happens(new Event.CallerWrote("Stop."));
        isComplete(talk, words -> words.length() < 20 && WORDS.startsWith(words));
    }

    @Test
    void wordsWithoutSoundWereNotHeardIfTheAnswerIsBrokenOff() throws Exception {
        var talk = answers(says(WORDS), saidAll(WORDS));
        assertFalse(talk.line.captions.toString().contains("|"));
        session(talk.model).drop();
        isComplete(talk, String::isEmpty);

        var other = answers(says(WORDS));
        other.modelSends(1, SessionTest.SPEECH_STARTED, saidAll(WORDS),
                "{'type':'response.done','response':{'status':'cancelled'}}");
        isComplete(other, String::isEmpty);
    }

    // How it is sent.

    private final List<DataPacket> sent = new ArrayList<>();
    private final Object texts = FuzzTest.make("room.Texts",
            (Consumer<DataPacket.Builder>) packet -> sent.add(packet.build()));

    CaptionsTest() throws Exception {}

    private void caption(String track, String text, boolean last) throws Exception {
        FuzzTest.call(texts, "caption", "", track, "SG_1", text, last);
    }

    /// A line for each packet that was sent, with 1, 2, .. for the names of the streams.
    private List<String> sent() {
        var streams = new ArrayList<String>();
        var lines = new ArrayList<String>();
        for (DataPacket each : sent) {
            DataStream.Header header = each.getStreamHeader();
            String stream = header.getStreamId() + each.getStreamChunk().getStreamId()
                    + each.getStreamTrailer().getStreamId();
            if (!streams.contains(stream)) {
                streams.add(stream);
            }
            lines.add((streams.indexOf(stream) + 1) + switch (each.getValueCase()) {
                case STREAM_HEADER -> " header " + new TreeMap<>(header.getAttributesMap());
                case STREAM_CHUNK -> " " + each.getStreamChunk().getChunkIndex() + " "
                        + each.getStreamChunk().getContent().toStringUtf8();
                default -> " end " + each.getStreamTrailer().getAttributesMap();
            });
        }
        return lines;
    }

    private static String header(int stream, boolean complete) {
        return stream + " header {lk.segment_id=SG_1, lk.transcribed_track_id=TR_1, "
                + "lk.transcription_final=" + complete + "}";
    }

    private static String end(int stream, boolean complete) {
        return stream + " end {lk.transcription_final=" + complete + "}";
    }

    @Test
    void theWholeCompletesTheStreamThatHasShownIt() throws Exception {
        caption("TR_1", "Good", false);
        caption("TR_1", " day", false);
        caption("TR_1", "Good day.", true);
        assertEquals(List.of(header(1, false), "1 0 Good", "1 1  day", "1 2 .", end(1, true)),
                sent());
    }

    /// LiveKit's clients show the latest stream of a segment, from its first chunk on.
    @Test
    void aWholeThatIsLessThanWasShownIsAnotherStreamOfTheSegment() throws Exception {
        for (String heard : List.of("Good", "")) {
            sent.clear();
            caption("TR_1", "Good day.", false);
            caption("TR_1", heard, true);
            assertEquals(List.of(header(1, false), "1 0 Good day.", end(1, false),
                    header(2, true), "2 0 " + heard, end(2, true)), sent());
        }
    }

    /// The streams of a participant who leaves the room end there, for all others.
    @Test
    void aCaptionIsCompletedAlthoughWeHaveJoinedTheRoomAgainMeanwhile() throws Exception {
        caption("TR_1", "Good", false);
        FuzzTest.call(texts, "beginAnew");
        sent.clear();
        caption("TR_1", " day", false);
        caption("TR_1", "Good day.", true);
        assertEquals(List.of(header(1, false), "1 0  day", end(1, false),
                header(2, true), "2 0 Good day.", end(2, true)), sent());
    }

    @Test
    void noStreamStaysOpenHoweverManyBegin() throws Exception {
        for (int i = 0; i < 30; i++) {
            FuzzTest.call(texts, "caption", "", "TR_1", "SG_" + i, "Well", false);
        }
        assertEquals(20, sent.stream().filter(DataPacket::hasStreamHeader).count()
                - sent.stream().filter(DataPacket::hasStreamTrailer).count());
    }

    @Test
    void whatComesAtOnceIsOneStreamAndNothingIsNone() throws Exception {
        caption("TR_1", "", true);
        assertEquals(List.of(), sent());
        caption("", "Hello?", true);
        assertEquals(List.of("1 header {lk.segment_id=SG_1, lk.transcription_final=true}",
                "1 0 Hello?", end(1, true)), sent());
    }
}
