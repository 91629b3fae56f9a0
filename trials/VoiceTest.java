package trials;

import module java.base;
import com.openai.core.ObjectMappers;
import com.openai.models.realtime.SessionUpdateEvent;
import jakarta.json.JsonObject;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import voice.Event;
import voice.Log;
import voice.Mailbox.Alarm;
import voice.Mailbox;
import voice.Model;
import voice.Speaker;
import voice.Tool;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/, part by part: what the caller hears, alarms, the check of the model, a tool,
/// the log. The conversation that these parts make is tested by whole calls.
public final class VoiceTest extends Stand {
    // Speaker.

    private static final int STARVED = 30, MOST_QUEUED = 300_000 * Speaker.BYTES_PER_MS;

    private static byte[] tone(int ms) {
        return times(ms * 48, 0x11);
    }

    /// A speaker, and all that has gone out of it.
    private final class Heard {
        /// For each frame, how many of its bytes are sound.
        final List<Integer> frames = new CopyOnWriteArrayList<>();
        /// How many frames there were each time that `changed` ran, and whether it speaks then.
        final List<String> changes = new CopyOnWriteArrayList<>();
        final ByteArrayOutputStream sound = new ByteArrayOutputStream();    // without silence
        final Speaker speaker = opened(new Speaker(this::frame, this::changed));

        private void frame(byte[] frame) {
            assertEquals(480, frame.length);
            int loud = 0;
            for (byte each : frame) {
                loud += each != 0 ? 1 : 0;
            }
            if (loud > 0) {
                sound.writeBytes(frame);
            }
            frames.add(loud);
        }

        private void changed() {
            changes.add(frames.size() + " " + speaker.speaking());
        }

        /// The frames that are no silence.
        List<Integer> loud() {
            return frames.stream().filter(loud -> loud > 0).toList();
        }

        int firstLoud() {
            return frames.indexOf(loud().getFirst());
        }

        /// Waits for that many frames more.
        void wait(int more) throws InterruptedException {
            int now = frames.size();
            eventually(more + " frames", () -> frames.size() >= now + more);
        }

        Heard talks() {
            speaker.start();
            speaker.release();
            return this;
        }
    }

    /// In any stretch of these times, how many ms the frames were faster than real time.
    private static long madeUpFor(List<Long> at) {
        long slowest = Long.MAX_VALUE, most = 0;
        for (int i = 0; i < at.size(); i++) {
            long ahead = i * 10L - at.get(i) / 1_000_000;
            slowest = Math.min(slowest, ahead);
            most = Math.max(most, ahead - slowest);
        }
        return most;
    }

    /// Here the machine keeps the speaker waiting for 0.7 s. Of that, it makes up for 0.5 s.
    @Test
    @Tag(Runner.ALONE)
    void framesNeverComeInABurstAndAreMadeUpForAfterAPause() throws Exception {
        var at = new CopyOnWriteArrayList<Long>();
        long begun = System.nanoTime();
        try (var speaker = new Speaker(_ -> {
            at.add(System.nanoTime() - begun);
            if (at.size() == 20) {
                LockSupport.parkNanos(700_000_000);
            }
        }, () -> {})) {
            speaker.start();
            eventually("what was missed is made up for", () -> madeUpFor(at) > 450);
            int then = at.size();
            eventually("and no more than that", () -> at.size() > then + 50);
        }
        assertTrue(madeUpFor(at) < 550, madeUpFor(at) + " ms");
        for (int i = 1; i < at.size(); i++) {
            assertTrue(at.get(i) - at.get(i - 1) >= 4_500_000, "a burst at frame " + i);
            assertTrue(at.get(i) >= i * 10_000_000L - 50_000_000, "too fast at frame " + i);
        }
    }

    @Test
    void thereIsSilenceUntilTheCallerCanHear() throws Exception {
        var heard = new Heard();
        heard.speaker.play("one", tone(25));
        heard.speaker.end("one");
        heard.speaker.start();
        heard.wait(5);
        assertEquals(List.of(), heard.loud());
        assertFalse(heard.speaker.speaking());
        assertEquals(List.of(), heard.changes);

        heard.speaker.stop();                               // so that nothing goes out meanwhile
        heard.speaker.release();
        assertTrue(heard.speaker.speaking());
        heard.speaker.start();
        eventually("all of it", () -> heard.changes.size() == 2);
        // The last frame is filled up with silence.
        assertEquals(List.of(480, 480, 240), heard.loud());
        assertArrayEquals(Arrays.copyOf(tone(25), 3 * 480), heard.sound.toByteArray());
        assertEquals(List.of(), heard.speaker.clear());     // all of it was heard
    }

    @Test
    void whoeverListensIsToldWhenSomethingIsSaid() throws Exception {
        var heard = new Heard().talks();
        heard.wait(3);
        assertEquals(List.of(), heard.changes);
        heard.speaker.stop();
        heard.speaker.play("one", tone(20));
        heard.speaker.end("one");
        heard.speaker.start();
        eventually("it is over", () -> heard.changes.size() == 2);
        int first = heard.firstLoud();
        assertEquals(List.of(first + " true", first + 2 + " false"), heard.changes);
    }

    @Test
    void halfAFrameWaitsForItsOtherHalfOrForTheEnd() throws Exception {
        var heard = new Heard().talks();
        heard.speaker.play("before", new byte[480]);
        heard.speaker.end("before");
        eventually("it is over", () -> heard.changes.size() == 2);
        heard.speaker.play("one", tone(15));
        eventually("a whole one", () -> heard.loud().size() == 1);
        heard.wait(3);
        assertEquals(List.of(480), heard.loud());
        heard.speaker.play("one", tone(5));
        eventually("the other half", () -> heard.loud().size() == 2);
        heard.speaker.play("one", tone(1));
        heard.wait(3);
        assertEquals(List.of(480, 480), heard.loud());
        heard.speaker.end("one");
        eventually("the end", () -> heard.loud().size() == 3);
        assertEquals(List.of(480, 480, 48), heard.loud());
    }

    @Test
    void aFrameHoldsNoTwoItems() throws Exception {
        var heard = new Heard();
        for (String item : List.of("one", "two")) {
            heard.speaker.play(item, tone(3));
            heard.speaker.play(item, tone(12));
            heard.speaker.end(item);
        }
        heard.talks();
        eventually("all", () -> heard.loud().size() == 4);
        assertEquals(List.of(480, 240, 480, 240), heard.loud());
    }

    /// Otherwise all that follows would be noise.
    @Test
    void halfASampleIsDropped() throws Exception {
        var heard = new Heard();
        heard.speaker.play("none", times(1, 0x11));
        assertEquals(List.of(), heard.speaker.clear());
        heard.speaker.play("one", times(241, 0x11));
        heard.speaker.play("one", times(241, 0x22));
        heard.speaker.end("one");
        heard.talks();
        eventually("all", () -> heard.loud().size() == 1);
        byte[] frame = heard.sound.toByteArray();
        assertEquals(List.of(480, 0x11, 0x22), List.of(frame.length, (int) frame[239],
                (int) frame[240]));
    }

    /// The model may say that an item has no more sound, and have sent none of it.
    @Test
    void aSentenceWithoutSoundIsNotSpoken() throws Exception {
        var heard = new Heard();
        heard.speaker.release();
        heard.speaker.end("nothing");
        assertFalse(heard.speaker.speaking());
    }

    @Test
    void whatIsCutOffCountsInTheMillisecondsThatWereHeard() throws Exception {
        var heard = new Heard();
        heard.speaker.play("one", tone(10));
        heard.speaker.end("one");
        heard.speaker.play("two", tone(60_000));
        heard.speaker.play("three", tone(100));
        heard.speaker.play("two", tone(100));
        heard.talks();
        eventually("it plays", () -> heard.loud().size() >= 5);
        heard.speaker.stop();                               // nothing is on its way any more
        int frames = heard.loud().size();
        assertEquals(List.of(new Speaker.Cut("two", (frames - 1) * 10), new Speaker.Cut("three",
                0)), heard.speaker.clear());
        assertEquals(List.of(), heard.speaker.clear());
        assertFalse(heard.speaker.speaking());

        // What comes too late of them is dropped. The next sentence counts from its own beginning.
        heard.speaker.play("two", tone(100));
        heard.speaker.end("three");
        heard.speaker.play("four", tone(60_000));
        heard.speaker.start();
        eventually("the next", () -> heard.loud().size() >= frames + 2);
        heard.speaker.stop();
        assertEquals(List.of(new Speaker.Cut("four", (heard.loud().size() - frames) * 10)),
                heard.speaker.clear());
    }

    @Test
    void moreThanFiveMinutesAreNotQueued() {
        var speaker = new Heard().speaker;
        byte[] most = new byte[MOST_QUEUED - 2];
        for (int i = 0; i < 2; i++) {                       // after `clear`, as from new
            speaker.play("long " + i, most);
            speaker.play("just " + i, times(2, 0x11));      // now it is full
            speaker.play("more " + i, tone(1));
            assertEquals(List.of("long " + i, "just " + i),
                    speaker.clear().stream().map(Speaker.Cut::itemId).toList());
        }
    }

    @Test
    void whatHasBeenHeardMakesRoomInTheQueue() throws Exception {
        var heard = new Heard();
        heard.speaker.play("long", new byte[MOST_QUEUED]);
        heard.talks();
        heard.wait(3);
        heard.speaker.play("more", tone(1));
        assertEquals(2, heard.speaker.clear().size());
    }

    @Test
    void aSentenceWhoseRestDoesNotComeIsOver() throws Exception {
        var heard = new Heard().talks();
        heard.speaker.play("one", tone(20));
        eventually("it is over", () -> heard.changes.size() == 2);
        assertFalse(heard.speaker.speaking());
        int first = heard.firstLoud();
        // The 30th frame of silence makes it so.
        assertEquals(List.of(first + " true", first + 1 + STARVED + " false"), heard.changes);
        heard.speaker.stop();
        heard.speaker.play("one", tone(10));                // the rest comes after all
        assertTrue(heard.speaker.speaking());
        heard.speaker.start();
        eventually("the rest", () -> heard.loud().size() == 3);
        assertTrue(heard.changes.get(2).endsWith(" true"), heard.changes.toString());
    }

    @Test
    void aSpeakerThatIsStoppedGoesOnFromTheSamePlace() throws Exception {
        Heard heard = new Heard(), other = new Heard().talks();
        heard.talks();
        heard.speaker.play("one", tone(100));
        heard.speaker.end("one");
        eventually("it plays", () -> heard.loud().size() >= 2);
        heard.speaker.stop();
        int before = heard.frames.size();
        other.wait(5);                                      // it has the same clock
        assertEquals(before, heard.frames.size());
        heard.speaker.start();
        eventually("all of it", () -> heard.changes.size() == 2);
        assertArrayEquals(tone(100), heard.sound.toByteArray());

        heard.speaker.close();
        heard.speaker.start();                              // too late
        int last = heard.frames.size();
        other.wait(5);
        assertEquals(last, heard.frames.size());
    }

    @Test
    void aSpeakerThatFailsStopsAndTheOthersGoOn() throws Exception {
        var other = new Heard().talks();
        var frames = new AtomicInteger();
        var failing = opened(new Speaker(_ -> {
            frames.incrementAndGet();
            throw new IllegalStateException("this call is broken");
        }, () -> {}));
        failing.start();
        eventually("it fails", () -> frames.get() > 0);
        other.wait(5);
        assertEquals(1, frames.get());
    }

    // Mailbox.

    @Test
    void alarmsRingInTheirTimeAndBeforeTheEventsThatWait() throws Exception {
        var clock = new AtomicLong();
        var mailbox = new Mailbox(clock::get);
        mailbox.alarm(Alarm.NO_ANSWER, Duration.ofMillis(60));
        mailbox.alarm(Alarm.KEYS, Duration.ofMillis(20));
        mailbox.alarm(Alarm.SILENCE, Duration.ofMillis(40));
        mailbox.cancel(Alarm.SILENCE);
        for (int ms : List.of(19, 20, 59, 60)) {
            mailbox.post(new Event.CallerHears());
            clock.set(ms * 1_000_000L);
            assertEquals(switch (ms) {
                case 20 -> new Event.AlarmDue(Alarm.KEYS);
                case 60 -> new Event.AlarmDue(Alarm.NO_ANSWER);
                default -> new Event.CallerHears();
            }, mailbox.next());
        }
    }

    // Model.

    private static String check(String url, String voice, String writer) throws Exception {
        return new Model("sk-test", url, "any", voice, writer, "server_vad", "").check();
    }

    @Test
    void aWrongKeyOfTheModelIsFoundBeforeTheFirstCallerFindsIt() throws Exception {
        var model = model();
        assertNull(check(model.baseUrl(), "", ""));
        assertNull(check(model.baseUrl(), "marin", "gpt-transcribe"));
        for (var each : Map.of(401, "OPENAI_API_KEY", 403, "OPENAI_API_KEY",
                404, "OPENAI_REALTIME_MODEL").entrySet()) {
            model.refuseWith = each.getKey();
            assertEquals("HTTP " + each.getKey() + " (check " + each.getValue() + "): refused",
                    check(model.baseUrl(), "", ""));
        }
        model.refuseWith = 503;
        assertEquals("HTTP 503: refused", check(model.baseUrl(), "", ""));
        assertNotNull(check("http://127.0.0.1:1/v1", "", ""));
    }

    @Test
    void theCheckSaysAllThatTheServiceRefuses() throws Exception {
        var model = model();
        model.transcriptionModels = List.of("a", "b", "c");
        String voice = "invalid_value (check OPENAI_VOICE): Invalid value: 'nova'. Supported "
                + "values are: 'alloy', 'ash', 'ballad', 'coral', 'echo', 'sage', 'shimmer', "
                + "'verse', 'marin', and 'cedar'.";
        assertEquals(voice, check(model.baseUrl(), "nova", "a"));
        assertEquals(voice + "; invalid_value (check OPENAI_TRANSCRIBE_MODEL): Invalid value: "
                + "'d'. Supported values are: 'a', 'b', and 'c'.",
                check(model.baseUrl(), "nova", "d"));
    }

    /// Whatever is set, the service takes all of it. So does OpenAI's library, which knows what
    /// the service knows.
    @Test
    void howTurnsAndNoiseAreTakenIsSetInUpdatesThatTheServiceTakes() throws Exception {
        for (String turns : List.of("server_vad", "semantic_vad")) {
            for (String noise : List.of("", "near_field", "far_field")) {
                var model = model();
                assertNull(new Model("sk-test", model.baseUrl(), "any", "marin", "gpt-transcribe",
                        turns, noise).check());
                var session = session(model, 1);
                JsonObject input = session.session().getJsonObject("audio").getJsonObject("input");
                JsonObject set = input.getJsonObject("turn_detection");
                assertEquals(turns, set.getString("type"));
                assertEquals(turns.equals("server_vad"), set.containsKey("silence_duration_ms"));
                assertTrue(set.getBoolean("create_response")
                        && set.getBoolean("interrupt_response"));
                assertEquals(noise.isEmpty() ? null : json("{\"type\":\"" + noise + "\"}"),
                        input.getJsonObject("noise_reduction"));
                assertEquals("gpt-transcribe",
                        input.getJsonObject("transcription").getString("model"));
                assertEquals(3 + (noise.isEmpty() ? 0 : 1) + (turns.equals("server_vad") ? 0 : 1),
                        session.received().size());
                for (JsonObject update : session.received()) {
                    ObjectMappers.jsonMapper().readValue(update.toString(),
                            SessionUpdateEvent.class).validate();
                }
            }
        }
    }

    @Test
    void theCheckNamesTheSettingOfTurnsAndOfNoiseThatIsRefused() throws Exception {
        var model = model();
        model.turnDetections = List.of("server_vad", "none");
        model.noiseReductions = List.of("far_field", "none");
        assertEquals("invalid_value (check OPENAI_NOISE_REDUCTION): Invalid value: 'near_field'. "
                + "Supported values are: 'far_field', and 'none'.; "
                + "invalid_value (check OPENAI_TURN_DETECTION): Invalid value: 'semantic_vad'. "
                + "Supported values are: 'server_vad', and 'none'.",
                new Model("sk-test", model.baseUrl(), "any", "", "", "semantic_vad", "near_field")
                        .check());
        assertEquals("server_vad", session(model, 1).session().getJsonObject("audio")
                .getJsonObject("input").getJsonObject("turn_detection").getString("type"));
    }

    /// All but the texts.
    @Test
    void theCheckSendsWhatACallSends() throws Exception {
        var talk = Talk.greeted(this, Talk.SALES);
        var call = session(talk.model, 1).received().stream().limit(3).toList();
        assertNull(check(talk.model.baseUrl(), "marin", "gpt-transcribe"));
        var check = session(talk.model, 2).received();
        assertEquals(call.subList(1, 3), check.subList(1, 3));
        assertEquals(3, check.size());
        JsonObject says = check.getFirst().getJsonObject("session");
        for (String field : call.getFirst().getJsonObject("session").keySet()) {
            assertTrue(says.containsKey(field), says.toString());
        }
        assertEquals(1, says.getJsonArray("tools").size());
        assertEquals(call.getFirst().getJsonObject("session").get("audio"), says.get("audio"));
    }

    /// Here the service answers the first of the three updates, and then nothing more.
    @Test
    void theCheckSaysWhatWasNotAnswered() throws Exception {
        var model = model();
        model.watch = (session, event) -> {
            if (event.getString("type").equals("session.updated")) {
                session.getStuck();
            }
        };
        assertEquals("no answer within 10 s to: OPENAI_VOICE, OPENAI_TRANSCRIBE_MODEL",
                check(model.baseUrl(), "nova", "gpt-transcribe"));
    }

    /// What the check says of a service that sends this error first. A ' stands for a ".
    private static String checkOf(String error) throws Exception {
        try (var server = new MockWebServer()) {
            server.enqueue(new MockResponse.Builder().webSocketUpgrade(new WebSocketListener() {
                @Override
                public void onOpen(WebSocket socket, Response response) {
                    socket.send("{'type':'error','event_id':'1','error':{%s}}".formatted(error)
                            .replace('\'', '"'));
                }
            }).build());
            server.start(InetAddress.getByAddress(new byte[] {127, 0, 0, 1}), 0);
            return check("http://127.0.0.1:" + server.getPort() + "/v1", "", "");
        }
    }

    @Test
    void whatTheModelRefusesWithIsSaid() throws Exception {
        for (var each : Map.of(
                "'type':'x','message':'no money, 555 0142'", "x: no money, ### ####",
                "'type':'x','code':'model_not_found','message':'no'",
                "model_not_found (check OPENAI_REALTIME_MODEL): no",
                "'type':'x','code':'invalid_model','message':'no'",
                "invalid_model (check OPENAI_REALTIME_MODEL): no",
                "'code':'invalid_api_key','message':'not sk-test, not s**t, no'",
                "invalid_api_key (check OPENAI_API_KEY): not .. not .. no",
                "'type':'insufficient_quota','code':'credit_balance_exhausted','message':'no'",
                "credit_balance_exhausted (check the account's credit): no",
                "'type':'x','code':'billing_hard_limit_reached'",
                "billing_hard_limit_reached (check the account's credit)",
                "'code':500,'message':[],'param':{}", "").entrySet()) {
            assertEquals(each.getValue(), checkOf(each.getKey()));
        }
    }

    /// The body of an answer in HTTP says more than its status, if it can be read at all.
    @Test
    void whatTheServiceAnswersInsteadOfConnectingIsSaid() throws Exception {
        for (var each : Map.of(
                "{'error':{'type':'insufficient_quota','code':'insufficient_quota',"
                        + "'message':'You exceeded your quota'}}",
                "HTTP 429 insufficient_quota (check the account's credit): You exceeded your quota",
                "{'error':{'type':'requests','code':'rate_limit_exceeded','message':'try again "
                        + "in 1.3s'}}", "HTTP 429 rate_limit_exceeded: try again in 1.3s",
                "{'error':{'code':'model_not_found','message':'" + "x".repeat(400) + "'}}",
                "HTTP 429 model_not_found (check OPENAI_REALTIME_MODEL): " + "x".repeat(300),
                "{'error':'no'}", "HTTP 429", "<html>555 0142</html>", "HTTP 429", "", "HTTP 429")
                .entrySet()) {
            String url = server(exchange -> {
                byte[] body = utf8(each.getKey().replace('\'', '"'));
                exchange.sendResponseHeaders(429, body.length == 0 ? -1 : body.length);
                exchange.getResponseBody().write(body);
                exchange.close();
            });
            assertEquals(each.getValue(), check(url + "/v1", "nova", ""));
        }
    }

    @Test
    void aRefusalWhoseBodyDoesNotComeIsARefusal() throws Exception {
        String url = server(exchange -> {
            exchange.sendResponseHeaders(401, 100);
            exchange.getResponseBody().flush();
        });
        assertEquals("HTTP 401 (check OPENAI_API_KEY)", check(url + "/v1", "", ""));
    }

    // Tool.

    private static Tool tool(String... values) {
        return new Tool("send", "Sends it.",
                given -> CompletableFuture.completedFuture(given.get("where")),
                new Tool.Argument("where", "To whom.", Set.of(values)));
    }

    @Test
    void theModelIsToldWhatAToolTakes() {
        assertEquals(json("""
                {"type": "function", "name": "send", "description": "Sends it.",
                 "parameters": {"type": "object", "additionalProperties": false,
                  "required": ["where"], "properties": {
                   "where": {"type": "string", "description": "To whom."}}}}
                """), json(tool().schema()));
        assertEquals("[\"billing\",\"sales\",\"support\"]",
                json(tool("support", "sales", "billing").schema()).getJsonObject("parameters")
                        .getJsonObject("properties").getJsonObject("where").get("enum").toString());
        assertEquals(json("""
                {"type": "function", "name": "send", "description": "",
                 "parameters": {"type": "object", "additionalProperties": false,
                  "required": ["b", "a"], "properties": {
                   "b": {"type": "string", "description": "2"},
                   "a": {"type": "string", "description": "1"}}}}
                """), json(two().schema()));
    }

    private static Tool two() {
        return new Tool("send", "", given -> CompletableFuture.completedFuture("" + given),
                new Tool.Argument("b", "2"), new Tool.Argument("a", "1"));
    }

    @Test
    void aToolTakesItsTextsAndSaysWhatIsWrong() throws Exception {
        assertEquals(Map.of("where", "sales"),
                tool("support").read("{\"where\": \" sales\\n\", \"more\": 1}"));
        assertEquals(Map.of("a", "1", "b", "2"),
                two().read("{\"a\": \"1\", \"b\": \"2\"}"));
        assertEquals("`a` is missing: it is a text.", assertThrows(Tool.WrongArguments.class,
                () -> two().read("{\"b\": \"2\"}")).getMessage());
        for (String nothing : List.of("{}", "", "\n")) {     // models send all of these
            assertEquals(Map.of(), new Tool("none", "", null).read(nothing));
        }
        String longest = "x".repeat(2_000);
        assertEquals(Map.of("where", longest),
                tool().read("{\"where\": \"" + longest + "\"}"));
        var wrong = new LinkedHashMap<String, String>();
        wrong.put("{\"where\": \"" + longest + "x\"}", "`where` is too long: say it in short.");
        for (String none : List.of("{}", "", " ", "{\"where\": \" \"}", "{\"where\": 1}",
                "{\"where\": null}", "{\"here\": \"x\"}")) {
            wrong.put(none, "`where` is missing: it is a text.");
        }
        for (String odd : List.of("sales", "[\"sales\"]", "{\"where\": ", "\"x\"",
                "{\"where\":".repeat(100_000))) {
            wrong.put(odd, "The arguments are not a JSON object.");
        }
        wrong.forEach((arguments, why) -> assertEquals(why, assertThrows(Tool.WrongArguments.class,
                () -> tool().read(arguments)).getMessage()));
    }

    // Log.

    @Test
    void ofANumberFourDigitsRemain() {
        assertEquals("an unknown number", Log.tail(null));
        assertEquals("a number ending in 1234", Log.tail("+15550001234"));
        assertEquals("a number ending in 112", Log.tail("112"));
    }

    @Test
    void ofATextThatMayHoldANumberNoDigitRemains() {
        for (var each : Map.of("my number is +1 (555) 123-4567.", "my number is +# (###) ###-####.",
                "5 or 5, 5 and 0, then 1 2 3", "# or #, # and #, then # # #",
                "1.2.3.4:567", "#.#.#.#:###", "in 2 days, order 12345", "in 2 days, order 12345",
                "$1 \\ 1 2 3 4 5 6", "$# \\ # # # # # #",
                "٠١٢٣٤٥٦", "#######", "१२३४५६७", "#######", "１２３４５６７", "#######",
                "𝟏𝟐𝟑𝟒𝟓𝟔𝟕²①Ⅷ", "##########", "五五五零一二三", "#######").entrySet()) {
            assertEquals(each.getValue(), Log.foreign(each.getKey()));
        }
        assertEquals("1\u200b2\n3\u00004", Log.foreign("1\u200b2\n3\u00004"));
        assertEquals("#\u200b#\n#\u0000####", Log.foreign("1\u200b2\n3\u00004567"));
    }

    @Test
    void anExceptionIsLoggedWithoutTheNumbersThatTheOtherSideHasSent() {
        assertEquals("IOException: Invalid status line: ####, from IOException: ####, from "
                + "ConnectException: #", Log.reason(new IOException("Invalid status line: 1555",
                        new IOException("1234", new ConnectException("1")))));
        assertEquals("ConnectException: Failed to connect to /127.0.0.1:7880",
                Log.reason(new ConnectException("Failed to connect to /127.0.0.1:7880")));
        assertEquals("NoSuchFileException: outbox/000000000001.call",
                Log.reason(new NoSuchFileException("outbox/000000000001.call")));
    }

    @Test
    void aTextIsCutBetweenTwoCharacters() {
        assertEquals("ab", Log.cut("abc", 2));
        assertEquals("abc", Log.cut("abc", 3));
        assertEquals("a", Log.cut("a😀", 2));
        assertEquals("a😀", Log.cut("a😀b", 3));
    }

    @Test
    void aLineIsOneLineOf1000CharactersAtMost() {
        assertEquals("a\\u000a\\u001b[31mb\\u202e\\ud800", Log.clean("a\n\u001b[31mb\u202e\ud800"));
        assertEquals("\\u0000\\u007f\\u0085\\u2028\\u2029\\u200b\\ue000",
                Log.clean("\0\u007f\u0085\u2028\u2029\u200b\ue000"));
        for (String kept : List.of("Gr\u00fc\u00dfe", "\u6f22\u5b57", "\ud83d\ude00", "\u00a0",
                "a b.c")) {
            assertEquals(kept, Log.clean(kept));
        }
        assertEquals("x".repeat(1_000), Log.clean("x".repeat(1_000)));
        assertEquals("x".repeat(1_000) + " ..", Log.clean("x".repeat(1_001)));
        assertEquals("\\u000a".repeat(167).substring(0, 1_000) + " ..",
                Log.clean("\n".repeat(167)));
    }

    @Test
    void anExceptionIsSaidWithItsCausesAndWithoutItsWrappers() {
        var inner = new IOException("refused");
        for (Exception wrapper : List.of(new ExecutionException(inner),
                new CompletionException(inner), new UncheckedIOException(inner))) {
            assertEquals("IOException: refused", Log.reason(wrapper));
        }
        assertEquals("IllegalStateException: broken, from IOException: refused",
                Log.reason(new IllegalStateException("broken", inner)));
        assertEquals("CompletionException: alone",
                Log.reason(new CompletionException("alone", null)));
        assertEquals("TimeoutException", Log.reason(new TimeoutException()));
        assertEquals("IOException: 1, from IOException: 2, from IOException: 3",
                Log.reason(new IOException("1", new IOException("2",
                        new IOException("3", new IOException("4"))))));
        assertEquals("IOException: 1, from IOException: 2",
                Log.reason(new IOException("1", new IOException("1", new IOException("2")))));
    }

    @Test
    @Tag(Runner.ALONE)
    void theLogHasOneAlignedLineForEachStep() {
        var out = new Written();
        try (out) {
            Log.step("AJ_x7Yk2mQp9 contact", "agent", "Hello.");
            Log.log("", "registered");
            Log.log("web_1", "odd");
            Log.step("A\nJ", "call", "two\nlines");
            Log.log("12345678", "NOT right");               // no colours: it is no terminal
            Log.log("rehearsal", "nothing of it");
            Log.step("rehearsal-1", "agent", "nothing of it");
        }
        assertEquals("""
                TIME  x7Yk2m  agent     Hello.
                TIME                    registered
                TIME  1                 odd
                TIME  A\\u000  call      two\\u000alines
                TIME  123456            NOT right
                """, out.toString().replaceAll(
                        "(?m)^[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}", "TIME"));
    }
}
