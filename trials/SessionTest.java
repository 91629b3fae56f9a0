package trials;

import module java.base;
import demo.DemoModel;
import demo.DemoModel.Say;
import demo.DemoModel.Tool;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Test;
import voice.End;
import voice.Event;
import voice.Mailbox.Alarm;
import voice.Model;
import voice.Options;
import voice.Session;
import voice.Step;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/: what a telephone conversation does by itself, whatever the program on top of it is. The
/// model is a stand-in over a real socket, and the line is TestLine. AgentTest has this agent.
public final class SessionTest extends Stand {
    private static final Map<String, String> SALES = Map.of("sales", "tel:+15550001111");
    private static final Map<String, String> SUPPORT = Map.of("support", "tel:+15550003333");
    private static final Duration SILENCE = Duration.ofSeconds(15);

    /// The smallest program on a Session. It has a tool that answers at once, one that takes 4 s,
    /// and one that transfers the caller to sales.
    private static final class Talk {
        final TestLine line;
        final List<Step> steps = new CopyOnWriteArrayList<>();
        final CompletableFuture<End> end = new CompletableFuture<>();

        Talk(TestLine line) {
            this.line = line;
        }

        void run(Session session) {
            try {
                session.join();
                while (session.next() instanceof Step step) {
                    steps.add(step);
                    take(session, step);
                }
            } catch (RuntimeException e) {
                session.fail(e);
                throw e;
            } finally {
                end.complete(session.finish());
                session.close();
            }
        }

        private void take(Session session, Step step) {
            switch (step) {
                case Step.Ringing() -> session.begin("Be brief.", "Nobody knows the caller.",
                        List.of("{\"type\":\"function\",\"name\":\"ask\"}"),
                        "Greet the caller: you speak first.");
                case Step.ToolCalled(var id, var name, _) when name.equals("slow") ->
                        CompletableFuture.delayedExecutor(4, TimeUnit.SECONDS)
                                .execute(() -> session.answer(id, "{}", true));
                case Step.ToolCalled(var id, var name, _) when name.equals("transfer") -> {
                    session.transfer("sales");
                    session.answer(id, "{}", true);
                }
                case Step.ToolCalled(var id, _, _) ->
                        session.answer(id, "{\"done\":true}", true);
                case Step.KeysPressed(var keys) -> session.callerSays("I press " + keys);
                case Step.Silent(var again) -> {
                    session.tell("They are silent" + (again ? ": say goodbye." : ": ask."));
                    if (again) {
                        session.endWhenHeard("silence", "silent", Duration.ofSeconds(8));
                    }
                }
                case Step.Transferred(_) -> { }
                case Step.TransferFailed(_, _) -> session.tell("The transfer has failed.");
                case Step.TransferUnknown(_) -> session.tell("Nobody knows about the transfer.");
                case Step.Posted(var what) -> throw new IllegalStateException("not ours: " + what);
            }
        }
    }

    private Talk talk(TestLine line, DemoModel model) {
        return talk(line, model, SALES, SILENCE);
    }

    private Talk talk(TestLine line, DemoModel model, Map<String, String> destinations,
            Duration silence) {
        var talk = new Talk(line);
        var session = new Session(line,
                new Model("sk-test", model.baseUrl(), "gpt-realtime", "marin", "gpt-transcribe"),
                new Options("ST_1", destinations, silence, Duration.ofMinutes(30)));
        take(line, _ -> talk.run(session));
        return talk;
    }

    @Test
    void bargeInIsSilenceAtOnceAndTheModelLearnsWhatWasHeard() throws Exception {
        var model = model(new Say("A long sentence.", 5_000), new Say("Yes?", 200));
        var line = new TestLine();
        talk(line, model);
        eventually("it is being said", () -> line.heardMs.get() > 400);
        line.say(400);
        var session = session(model);
        JsonObject truncate = session.await("conversation.item.truncate", _ -> true, SOON);
        assertNotNull(truncate);
        eventually("the next answer", () -> session.received().size() > 3 && line.heardMs.get()
                == truncate.getInt("audio_end_ms") / 10 * 10 + 200
                || line.heardMs.get() == truncate.getInt("audio_end_ms") / 10 * 10 + 210);
        assertEquals(List.of(), session.sent().stream()
                .filter(e -> e.getString("type").equals("error")).toList());
    }

    /// A phone that comes after a browser is the caller, so the program asks again who it is.
    @Test
    void whoTheCallerIsCanBeToldAgain() throws Exception {
        var model = model(new Say("Hello.", 200));
        var line = new TestLine();
        talk(line, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.mailbox.post(new Event.CallerJoined());
        var session = session(model);
        eventually("it is told twice", () -> told(session).stream()
                .filter(each -> each.equals("system: Nobody knows the caller.")).count() == 2);
        assertEquals(1, told(session).stream().filter(each -> each.equals("respond")).count());
        noMistakes(model);
    }

    @Test
    void nonsenseFromTheModelDoesNotEndTheCall() throws Exception {
        var model = model(new Say("Hello.", 200), new Tool("ask", "{\"question\":\"x\"}"));
        var line = new TestLine();
        var talk = talk(line, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        var session = session(model);
        for (String nonsense : List.of("{\"type\":\"no.such.event\"}",
                "{\"type\":\"response.output_audio.delta\",\"item_id\":\"i\",\"delta\":\"?\"}",
                "{\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\"}}",
                "{\"type\":\"response.done\"}", "{\"type\":\"error\"}")) {
            session.sendText(nonsense);
        }
        line.say(600);
        eventually("the tool call", () -> talk.steps.stream().anyMatch(step ->
                step instanceof Step.ToolCalled(_, var name, var arguments)
                        && name.equals("ask") && arguments.equals("{\"question\":\"x\"}")));
        eventually("its answer", () -> line.heardMs.get() > 200);
    }

    @Test
    void aSilentModelDoesNotLetThePhoneRingOn() throws Exception {
        var silent = model(new Say("Hello.", 200));
        silent.firstSoundMs = 20_000;
        var line = new TestLine();
        long began = System.nanoTime();
        talk(line, silent);
        long waited = line.pickedUp.get(5, TimeUnit.SECONDS) - began;
        assertTrue(waited < 3_700_000_000L, "silent model: " + waited / 1_000_000 + " ms");
    }

    @Test
    void aLostModelIsReplacedAndToldWhatTheOldOneKnew() throws Exception {
        var model = model();
        model.scripts.add(List.of(new Say("Hello.", 200),
                new Tool("ask", "{\"question\":\"a refund\"}"), new Say("Noted.", 300)));
        model.scripts.add(List.of(new Say("Yes?", 400)));
        var line = new TestLine();
        var talk = talk(line, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200 && line.listening());
        line.say(600);
        eventually("the answer", () -> line.heardMs.get() >= 500 && line.listening());
        var old = session(model, 1);
        assertNotNull(old.awaitSent("conversation.item.input_audio_transcription.completed",
                _ -> true, SOON));
        old.drop();
        var next = session(model, 2);
        eventually("it is told all", () -> next.received().size() >= 8);
        var told = new ArrayList<>(told(next));
        assertEquals(told(old).get(2), told.remove(2)); // about the caller
        assertEquals(List.of("update", "update", "assistant: Hello.", "user: (0.6 s of speech)",
                "call ask", "output {\"done\":true}", "assistant: Noted."), told);
        assertEquals(old.session().getString("instructions"),
                next.session().getString("instructions"));
        assertEquals(old.session().getJsonArray("tools"), next.session().getJsonArray("tools"));
        assertEquals(1, next.session().getJsonArray("tools").size());
        line.say(600);
        eventually("the next answer", () -> line.heardMs.get() >= 900);
        noMistakes(model);
        assertEquals(1, talk.steps.stream()
                .filter(step -> step instanceof Step.ToolCalled).count());
    }

    @Test
    void cutOffInMidSentenceItGoesOnFromThere() throws Exception {
        var model = replaced(new Say("A long sentence that nobody hears the end of.", 5_000),
                new Say("As I was saying.", 400));
        var line = new TestLine();
        talk(line, model);
        eventually("it is being said", () -> line.heardMs.get() > 100);
        session(model, 1).drop();
        var next = session(model, 2);
        assertNotNull(next.await("response.create", _ -> true, SOON));
        List<String> told = told(next);
        assertTrue(told.get(3).startsWith("assistant: A"), told.toString());
        assertTrue(told.get(4).contains("Go on where you stopped"), told.toString());
        int had = session(model, 1).spokenMs(itemSpoken(session(model, 1)));
        // Two pieces of sound may have been on their way when the connection was cut.
        eventually("it goes on",
                () -> line.heardMs.get() >= had - 2 * DemoModel.DELTA_MS + 400);
        noMistakes(model);
    }

    @Test
    void whatTheCallerWasSayingIsHeardAgain() throws Exception {
        var model = replaced(new Say("Hello.", 200), new Say("I see.", 300));
        var line = new TestLine();
        talk(line, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(1_000, 0);
        assertNotNull(session(model, 1).awaitSent(
                "input_audio_buffer.speech_started", _ -> true, SOON));
        session(model, 1).drop();
        var next = session(model, 2);
        line.say(500);
        eventually("it is answered", () -> line.heardMs.get() >= 500);
        var stopped = next.awaitSent("input_audio_buffer.speech_stopped", _ -> true, SOON);
        var started = next.awaitSent("input_audio_buffer.speech_started", _ -> true, SOON);
        int ms = stopped.getInt("audio_end_ms") - started.getInt("audio_start_ms") - 500;
        assertTrue(ms >= 1_400 && ms <= 1_600, ms + " ms of 1500 were heard in one turn");
        noMistakes(model);
    }

    @Test
    void aModelThatIsStuckIsNoticedWhenTheCallerHasSpoken() throws Exception {
        var model = replaced(new Say("Hello.", 200), new Say("I see.", 300));
        var line = new TestLine();
        talk(line, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        session(model, 1).getStuck();
        long end = line.live(600);
        eventually("it is answered", () -> line.heardMs.get() >= 500);
        long silence = (System.nanoTime() - end) / 1_000_000;
        assertTrue(silence < 4_000, silence + " ms of silence");
        noMistakes(model);
    }

    @Test
    void aModelThatIsStuckIsNoticedWhileTheCallerSpeaks() throws Exception {
        var deaf = replaced(new Say("Hello.", 200), new Say("I see.", 300));
        var line = new TestLine();
        talk(line, deaf);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(500, 0);
        assertNotNull(session(deaf, 1).awaitSent(
                "input_audio_buffer.speech_started", _ -> true, SOON));
        session(deaf, 1).getStuck();
        long end = line.live(600);
        eventually("it is answered", () -> line.heardMs.get() >= 500);
        long silence = (System.nanoTime() - end) / 1_000_000;
        assertTrue(silence < 4_000, silence + " ms of silence");
        noMistakes(deaf);
    }

    /// And meanwhile a recording asks the caller to wait.
    @Test
    void aModelThatIsStuckIsNoticedInMidSentence() throws Exception {
        var stalling = replaced(new DemoModel.Stall(300), new Say("As I was saying.", 2_000));
        var line = new TestLine();
        talk(line, stalling);
        eventually("the recording", 10, () -> line.heardMs.get() >= 300 + 1_000);
        assertEquals(1, stalling.sessions().size());
        eventually("it goes on", 10, () -> line.heardMs.get() >= 300 + 1_000 + 2_000);
        noMistakes(stalling);
    }

    @Test
    void anErrorOrAFailedAnswerLeadsToAnotherConnection() throws Exception {
        var failing = model(new Say("Hello.", 200));
        failing.scripts.add(List.of(new DemoModel.Fail("rate_limit_exceeded")));
        var line = new TestLine();
        talk(line, failing);
        eventually("the greeting after all", () -> line.heardMs.get() == 200);
        assertEquals(2, failing.sessions().size());
        assertTrue(session(failing, 2).received().getLast().toString()
                .contains("you speak first"), "the greeting is asked for again");

        session(failing, 2).fail("invalid_request_error", "some_code"); // only our mistake
        session(failing, 2).fail("server_error", "down");
        session(failing, 3);
        line.live(600); // and it goes on
        eventually("the answer", () -> line.heardMs.get() >= 400);
        session(failing, 3).fail("invalid_request_error", "session_expired");
        session(failing, 4);
        assertEquals(4, failing.sessions().size());
    }

    @Test
    void aModelThatStaysAwayIsApologizedFor() throws Exception {
        var refusing = model();
        refusing.refuseWith = 401;
        var line = new TestLine();
        var talk = talk(line, refusing);
        line.pickedUp.get(3, TimeUnit.SECONDS);
        eventually("the recording", () -> line.heardMs.get() > 500);
        line.mailbox.post(new Event.CallerWrote("Hello?")); // which changes nothing now
        End end = talk.end.get(10, TimeUnit.SECONDS);
        assertTrue(line.heardMs.get() >= 4_000, line.heardMs + " ms");
        assertEquals("model_lost", end.reason());
        assertTrue(end.cause().contains("HTTP 401"), end.toString());
        assertNull(line.over.get(5, TimeUnit.SECONDS));
        assertTrue(line.hungUp);
    }

    @Test
    void whenTheModelStaysAwayAColleagueIsTriedAndThenComesTheGoodbye() throws Exception {
        var model = model(new Say("Hello.", 300));
        var line = new TestLine();
        var talk = talk(line, model, SUPPORT, SILENCE);
        eventually("it speaks", () -> line.heardMs.get() > 100);
        model.refuseWith = 503;
        session(model, 1).drop();
        eventually("the REFER", 10, () -> !line.transfers.isEmpty());
        assertEquals(List.of("tel:+15550003333"), List.copyOf(line.transfers));
        int before = line.heardMs.get();
        assertTrue(before >= 3_000, before + " ms");
        line.mailbox.post(new Event.TransferFailed(new Event.Refusal(429, 486, "Busy Here")));
        eventually("the end", 10, () -> line.hungUp);
        assertTrue(line.heardMs.get() - before >= 4_000, "no goodbye");
        assertEquals("model_lost", talk.end.get(5, TimeUnit.SECONDS).reason());
    }

    @Test
    void aTransferThatFailsIsToldByItsOwnNameAlsoWhenSupportIsTriedNext() throws Exception {
        var model = model(new Say("Hello.", 200), new Tool("transfer", "{}"),
                new Say("I am putting you through.", 600));
        var line = new TestLine();
        var both = new HashMap<>(SALES);
        both.putAll(SUPPORT);
        var talk = talk(line, model, both, SILENCE);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(600);
        eventually("the REFER", () -> !line.transfers.isEmpty());
        line.mailbox.post(new Event.ModelLost("it is gone"));
        var busy = new Event.Refusal(429, 486, "Busy Here");
        line.mailbox.post(new Event.TransferFailed(busy));
        eventually("the second REFER", 10, () -> line.transfers.size() == 2);
        assertEquals(List.of("tel:+15550001111", "tel:+15550003333"),
                List.copyOf(line.transfers));
        assertEquals(List.of(new Step.TransferFailed("sales", busy)), talk.steps.stream()
                .filter(step -> step instanceof Step.TransferFailed).toList());
    }

    @Test
    void whenTheModelStaysAwayTheCallerIsPutThrough() throws Exception {
        var gone = model();
        gone.refuseWith = 429;
        var line = new TestLine();
        var talk = talk(line, gone, SUPPORT, SILENCE);
        eventually("the REFER", 10, () -> !line.transfers.isEmpty());
        line.mailbox.post(new Event.Transferred());
        line.mailbox.post(new Event.CallerLeft("CLIENT_INITIATED"));
        End end = talk.end.get(5, TimeUnit.SECONDS);
        assertEquals("transferred", end.reason());
        assertEquals("support", end.transferredTo());
        assertTrue(end.cause().contains("HTTP 429"), end.toString());
    }

    @Test
    void aSilentCallerIsAskedAndThenSaidGoodbyeTo() throws Exception {
        var model = model(new Say("Hello.", 200), new Say("Are you there?", 300),
                new Say("Good.", 200), new Say("Are you there?", 300), new Say("Goodbye.", 400));
        var line = new TestLine();
        var talk = talk(line, model, SALES, Duration.ofSeconds(1));
        eventually("the question", () -> line.heardMs.get() >= 500);
        line.say(500);
        eventually("question and goodbye", 10, () -> line.heardMs.get() >= 1_400);
        assertEquals("silence", talk.end.get(5, TimeUnit.SECONDS).reason());
        assertEquals(1_400, line.heardMs.get());
        assertTrue(line.hungUp);
        assertEquals(3, told(session(model)).stream()
                .filter(each -> each.startsWith("system: They are silent")).count());
        assertEquals(List.of(false, false, true), talk.steps.stream()
                .filter(step -> step instanceof Step.Silent)
                .map(step -> ((Step.Silent) step).again()).toList());
        noMistakes(model);
    }

    @Test
    void aSlowToolIsBridgedByARecording() throws Exception {
        var model = model(new Say("Hello.", 200), new Tool("slow", "{}"), new Say("So.", 300));
        var line = new TestLine();
        talk(line, model);
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(500);
        eventually("the recording", () -> line.heardMs.get() >= 1_000);
        eventually("the answer", () -> line.heardMs.get() >= 200 + 1_200 + 300);
        assertEquals(1, model.sessions().size());
    }

    @Test
    void everyEndHasItsReason() throws Exception {
        for (var end : Map.of(
                "room_lost", new Event.LineLost("x"), "worker_stopped", new Event.Stop(),
                "no_answer", new Event.AlarmDue(Alarm.NO_CALLER),
                "too_long", new Event.AlarmDue(Alarm.TOO_LONG),
                "error", new Event.Posted("what nobody posts")).entrySet()) {
            var line = new TestLine();
            var talk = talk(line, model(new Say("Hello.", 200)));
            eventually("it has begun", () -> !talk.steps.isEmpty());
            line.mailbox.post(end.getValue());
            assertEquals(end.getKey(), talk.end.get(5, TimeUnit.SECONDS).reason());
            Throwable thrown = line.over.get(5, TimeUnit.SECONDS);
            assertEquals(end.getKey().equals("error"), thrown != null);
            assertTrue(line.hungUp, end.getKey());
        }
    }

    /// A call in which the agent says that it puts the caller through to sales.
    private Talk puttingThrough(boolean onPhone) throws Exception {
        var line = new TestLine();
        line.onPhone = onPhone;
        var talk = talk(line, model(new Say("Hello.", 200), new Tool("transfer", "{}"),
                new Say("I am putting you through.", 600), new Say("So it is.", 200)));
        eventually("the greeting", () -> line.heardMs.get() >= 200);
        line.say(600);
        return talk;
    }

    @Test
    void theReferWaitsForTheAnnouncementAndItsResultIsReported() throws Exception {
        var busy = new Event.Refusal(429, 486, "Busy Here");
        var unknown = new Event.Refusal(408, 0, "timed out");
        var gone = new Event.CallerLeft("CLIENT_INITIATED");
        record Case(List<Event> then, String reason, Step step) {}
        for (Case each : List.of(
                new Case(List.of(new Event.Transferred(), gone), "transferred",
                        new Step.Transferred("sales")),
                new Case(List.of(gone, new Event.Transferred()), "transferred",
                        new Step.Transferred("sales")),
                new Case(List.of(new Event.TransferFailed(busy), gone), "caller_hung_up",
                        new Step.TransferFailed("sales", busy)),
                new Case(List.of(gone, new Event.TransferFailed(busy)), "caller_hung_up",
                        new Step.TransferFailed("sales", busy)),
                new Case(List.of(new Event.TransferFailed(unknown), gone), "transferred",
                        new Step.Transferred("sales")),
                new Case(List.of(gone, new Event.TransferFailed(unknown)), "transferred",
                        new Step.Transferred("sales")),
                new Case(List.of(new Event.TransferFailed(unknown), new Event.CallerSpeaks(),
                        gone), "caller_hung_up", null))) {
            var talk = puttingThrough(true);
            var line = talk.line;
            eventually("the REFER", () -> !line.transfers.isEmpty());
            assertEquals(800, line.heardMs.get(), "heard before it");
            assertEquals(List.of("tel:+15550001111"), List.copyOf(line.transfers));
            each.then.forEach(line.mailbox::post);
            End end = talk.end.get(5, TimeUnit.SECONDS);
            assertEquals(each.reason, end.reason(), each.toString());
            assertEquals(each.reason.equals("transferred") ? "sales" : null, end.transferredTo());
            assertEquals(each.step == null ? List.of() : List.of(each.step),
                    talk.steps.stream().filter(step -> step instanceof Step.Transferred
                            || step instanceof Step.TransferFailed).toList());
            // Nobody knows, and the caller is still there: the model is told so.
            boolean untold = each.then.getFirst() instanceof Event.TransferFailed(var why)
                    && why.unknown();
            assertEquals(untold, talk.steps.contains(new Step.TransferUnknown("sales")));
        }
    }

    @Test
    void whoIsNotOnAPhoneIsNotTransferred() throws Exception {
        var line = puttingThrough(false).line;
        eventually("it is said", () -> line.heardMs.get() >= 800);
        assertEquals(List.of(), List.copyOf(line.transfers));
    }

    @Test
    void aCallThatWeMakeSaysWhyItWasNotAnswered() throws Exception {
        for (var each : Map.of(486, "busy", 603, "declined", 480, "no_answer", 404,
                "wrong_number", 503, "bad_trunk").entrySet()) {
            var unanswered = new TestLine();
            unanswered.metadata = "{\"phone_number\":\"+15550002222\"}";
            unanswered.answers = false;
            var talk = talk(unanswered, model(new Say("Hello.", 300)));
            unanswered.dialled.get(5, TimeUnit.SECONDS);
            unanswered.mailbox.post(new Event.CallerLeft("USER_REJECTED"));
            unanswered.mailbox.post(
                    new Event.DialFailed(new Event.Refusal(403, each.getKey(), "x")));
            End end = talk.end.get(5, TimeUnit.SECONDS);
            assertEquals(each.getValue(), end.reason());
            assertEquals(each.getKey(), end.sipCode());
            assertTrue(end.dialled());
            assertNull(end.answered());
        }
    }
}
