package trials;

import module java.base;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import voice.Event;
import voice.Log;
import voice.Mailbox.Alarm;
import voice.Mailbox;
import voice.Model;
import voice.Numbers;
import voice.Speaker;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/, part by part: what the caller hears, alarms, the check of the model, numbers, the log.
/// The conversation that these parts make is tested by whole calls.
public final class VoiceTest extends Stand {
    // Speaker.

    private static byte[] tone(int ms) {
        return times(ms * 48, 0x11);
    }

    @Test
    @Tag(Runner.ALONE)
    void theSpeakerNeverPausesAndNeverBursts() throws Exception {
        var at = new ConcurrentLinkedQueue<Long>();
        try (var speaker = new Speaker(_ -> at.add(System.nanoTime()), () -> {})) {
            speaker.start();
            TimeUnit.MILLISECONDS.sleep(1_000);
        }
        var times = List.copyOf(at);
        assertTrue(times.size() >= 95 && times.size() <= 103, times.size() + " frames in a second");
        for (int i = 1; i < times.size(); i++) {
            assertTrue(times.get(i) - times.get(i - 1) >= 4_500_000, "a burst at frame " + i);
        }
    }

    @Test
    void theSpeakerHoldsPlaysCutsAndCounts() throws Exception {
        var sounding = new AtomicInteger();
        var silent = new AtomicInteger();
        try (var speaker = new Speaker(frame -> {
            boolean loud = frame[0] != 0;
            (loud ? sounding : silent).incrementAndGet();
        }, () -> {})) {
            speaker.play("one", tone(25));
            speaker.end("one");
            speaker.start();
            eventually("silence while held", () -> silent.get() > 5);
            assertEquals(0, sounding.get());

            speaker.release();
            eventually("25 ms are three frames", () -> sounding.get() == 3);
            eventually("and then silence", () -> silent.get() > 10);
            assertEquals(3, sounding.get());
            assertEquals(List.of(), speaker.clear()); // all of it was heard

            speaker.play("two", tone(500));
            speaker.play("three", tone(100));
            eventually("it plays", () -> sounding.get() >= 13);
            var cuts = speaker.clear();
            int heard = sounding.get() - 3;
            assertEquals(List.of("two", "three"), cuts.stream().map(Speaker.Cut::itemId).toList());
            assertTrue(Math.abs(cuts.getFirst().ms() - heard * 10) <= 10,
                    cuts + ", " + heard + " frames heard");
            assertEquals(0, cuts.getLast().ms());

            speaker.play("two", tone(100)); // this comes too late
            int before = silent.get();
            eventually("silence", () -> silent.get() > before + 5);
            assertEquals(3 + heard, sounding.get());

            // Half a frame waits for its other half, as long as the sentence is still coming.
            speaker.play("four", tone(5));
            int then = silent.get();
            eventually("silence", () -> silent.get() > then + 3);
            assertEquals(3 + heard, sounding.get());
            speaker.play("four", tone(5));
            eventually("a whole one", () -> sounding.get() == 4 + heard);
        }
    }

    // Mailbox.

    @Test
    void alarmsRingInTheirTimeAndAmongEvents() throws Exception {
        var mailbox = new Mailbox();
        mailbox.alarm(Alarm.NO_ANSWER, Duration.ofMillis(60));
        mailbox.alarm(Alarm.KEYS, Duration.ofMillis(20));
        mailbox.alarm(Alarm.SILENCE, Duration.ofMillis(40));
        mailbox.cancel(Alarm.SILENCE);
        mailbox.post(new Event.CallerHears());
        assertEquals(new Event.CallerHears(), mailbox.next());
        assertEquals(new Event.AlarmDue(Alarm.KEYS), mailbox.next());
        assertEquals(new Event.AlarmDue(Alarm.NO_ANSWER), mailbox.next());
    }

    // Model.

    @Test
    void aWrongKeyOfTheModelIsFoundBeforeTheFirstCallerFindsIt() throws Exception {
        var model = model();
        var service = new Model("sk-test", model.baseUrl(), "any", "", "");
        assertNull(service.check());
        model.refuseWith = 401;
        assertTrue(service.check().contains("check OPENAI_API_KEY"), service.check());
        var nowhere = new Model("sk-test", "http://127.0.0.1:1/v1", "any", "", "");
        assertNotNull(nowhere.check());
    }

    // Numbers.

    @Test
    void numbersAreReadAsPeopleAndNetworksWriteThem() {
        assertEquals("+15550001111", Numbers.read("+1 (555) 000-1111"));
        assertEquals("15550001111", Numbers.read(" 1.555.000.1111 "));
        for (String none : Arrays.asList(null, "", "anonymous", "+", "12", "sip:+15550001111@x")) {
            assertNull(Numbers.read(none), none);
        }
        assertTrue(Numbers.callable("+15550001111"));
        for (String not : Arrays.asList(null, "15550001111", "+0555000111", "+1 555 000 1111")) {
            assertFalse(Numbers.callable(not), not);
        }
    }

    // Log.

    @Test
    @Tag(Runner.ALONE)
    void theLogNamesNoNumbersAndHasNoControlCharacters() {
        for (var each : Map.of("my number is +1 (555) 123-4567.", "my number is ..4567.",
                "555.123.4567 or 0049301234567", "..4567 or ..4567", "in 2 days, order 123456",
                "in 2 days, order 123456").entrySet()) {
            assertEquals(each.getValue(), Log.speech(each.getKey()));
        }
        var out = new ByteArrayOutputStream();
        PrintStream before = System.out;
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        try {
            Log.log("AJ_1", "a\n\u001b[31mb\u202e\ud800" + "x".repeat(5_000));
        } finally {
            System.setOut(before);
        }
        String line = out.toString(StandardCharsets.UTF_8);
        assertTrue(line.contains("a\\u000a\\u001b[31mb\\u202e\\ud800xx"), line);
        assertTrue(line.length() < 1_100 && line.indexOf('\n') == line.length() - 1);
    }

    @Test
    @Tag(Runner.ALONE)
    void theLogHasOneAlignedLineForEachStep() {
        var out = new ByteArrayOutputStream();
        PrintStream before = System.out;
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        try {
            Log.step("AJ_x7Yk2mQp9 contact", "agent", "Hello.");
            Log.log("", "registered");
            Log.log("web_1", "odd");
        } finally {
            System.setOut(before);
        }
        assertEquals("""
                TIME  x7Yk2m  agent     Hello.
                TIME                    registered
                TIME  1                 odd
                """, out.toString(StandardCharsets.UTF_8)
                        .replaceAll("(?m)^[0-9:.]{12}", "TIME"));
    }
}
