package trials;

import module java.base;
import demo.DemoCrm;
import demo.DemoModel;
import demo.DemoModel.Say;
import org.junit.jupiter.api.Test;
import start.Program;
import start.Settings;
import voice.Event;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// The look-up of the caller, in whole calls of the agent, when the CRM is late with its answer or
/// breaks the connection. AgentTest has what its answers mean.
public final class LookUpTest extends Stand {
    private static final String ADA = "+15550001111", GRACE = "+15550002222";
    private static final String SLOW = "The CRM has not said yet who they are.";

    private final CountDownLatch answers = new CountDownLatch(1);
    private final TestLine line = new TestLine();
    private DemoModel model;

    /// A CRM that knows two people, and answers a search when `answers` is open.
    private DemoCrm slow() throws IOException {
        var crm = crm();
        crm.contact(ADA, "{\"id\":\"id-ada\",\"name\":\"Ada\"}");
        crm.contact(GRACE, "{\"id\":\"id-grace\",\"name\":\"Grace\"}");
        crm.hold("/contacts/search", answers);
        return crm;
    }

    /// The agent takes a call, and greets. The model knows that it does not know yet who calls.
    private void call(DemoCrm crm) throws Exception {
        begin(crm, Map.of());
        assertEquals(List.of("system: # The caller\n" + SLOW + "\n"), callers());
    }

    private void begin(DemoCrm crm, Map<String, String> more) throws Exception {
        model = model(new Say("Hello.", 50));
        model.afterScript = new Say("Yes.", 10);
        // The program, by its name: a package cannot name a class that is in none.
        var constructor = Class.forName("Agent").getDeclaredConstructor(Settings.class);
        constructor.setAccessible(true);
        var all = new HashMap<>(Map.of("CRM_URL", crm.url(), "WEBHOOK_SECRET", SECRET,
                "OPENAI_BASE_URL", model.baseUrl(), "OUTBOX_DIR", folder().toString()));
        all.putAll(more);
        var agent = (Program) constructor.newInstance(settings(all));
        afterwards(() -> agent.close(Duration.ZERO));
        take(line, agent::takeCall);
        eventually("the greeting", () -> line.heardMs.get() >= 50 && line.listening());
    }

    /// What the model was told about the caller, each time.
    private List<String> callers() {
        return told(model.sessions().getFirst()).stream()
                .filter(each -> each.contains("# The caller")).toList();
    }

    private void knows(String what) throws InterruptedException {
        eventually(what, () -> callers().getLast().contains(what));
    }

    /// The model calls this tool, and gets its answer.
    private void called(String tool, String argument, String value) throws Exception {
        long before = outputs();
        session(model).sendText(("{'type':'response.function_call_arguments.done','item_id':'i"
                + before + "','response_id':'any','output_index':0,'call_id':'call " + before
                + "','name':'" + tool + "','arguments':'{\\'" + argument + "\\':\\'" + value
                + "\\'}'}").replace("\\'", "\\\"").replace('\'', '"'));
        eventually("the answer to " + tool, () -> outputs() > before);
    }

    private long outputs() {
        return told(model.sessions().getFirst()).stream()
                .filter(each -> each.startsWith("output ")).count();
    }

    private String lastOutput() {
        return told(model.sessions().getFirst()).stream()
                .filter(each -> each.startsWith("output ")).toList().getLast();
    }

    /// The statuses of the answers to searches.
    private static List<Integer> searches(DemoCrm crm) {
        return crm.requests().stream().filter(each -> each.path().equals("/contacts/search"))
                .map(DemoCrm.Request::status).toList();
    }

    private String contactAtTheEnd(DemoCrm crm) throws Exception {
        line.mailbox.post(new Event.CallerLeft("CLIENT_INITIATED"));
        return event(crm, "call.ended").get("contact_id").toString();
    }

    @Test
    void aRecordThatComesAfterTheGreetingIsTakenByTheNotesTheActivityAndTheModel()
            throws Exception {
        var crm = slow();
        call(crm);
        called("update_crm_note", "note", "before");
        answers.countDown();
        knows("<record>{\"name\":\"Ada\"}</record>");
        assertEquals(2, callers().size());
        called("update_crm_note", "note", "after");
        assertEquals("\"id-ada\"", contactAtTheEnd(crm));
        eventually("all of it", () -> crm.activities("id-ada").size() == 1
                && crm.notes("id-ada").size() == 2);
        assertEquals(List.of("before", "after"), crm.notes("id-ada"));
        assertEquals(List.of(200), searches(crm));
    }

    /// The process could die before the next event.
    @Test
    void earlierNotesAreFiledAsSoonAsTheRecordIsThere() throws Exception {
        var crm = slow();
        call(crm);
        called("update_crm_note", "note", "before");
        assertEquals(List.of(), crm.notes("id-ada"));
        answers.countDown();
        eventually("it is filed", () -> crm.notes("id-ada").equals(List.of("before")));
        assertEquals(List.of("call.started", "crm.updated"), crm.events().stream()
                .map(event -> event.getString("event")).toList());
    }

    @Test
    void aLateAnswerWithoutARecordIsToldToTheModel() throws Exception {
        var crm = slow();
        line.number = "+15550009999";
        call(crm);
        answers.countDown();
        knows("The CRM does not know their number.");
        assertEquals("null", contactAtTheEnd(crm));
    }

    @Test
    void aLookUpThatFailsLateIsToldToTheModel() throws Exception {
        var crm = slow();
        crm.fail("/contacts/search", 500, 1);
        call(crm);
        answers.countDown();
        knows("The CRM cannot be asked at the moment.");
        called("lookup_crm", "phone", ADA);                 // which works again
        assertEquals("\"id-ada\"", contactAtTheEnd(crm));
    }

    @Test
    void aLookUpThatFailsLateTakesNothingBackThatTheToolHasFound() throws Exception {
        var crm = slow();
        crm.fail("/contacts/search", 500, 1);
        call(crm);
        crm.hold("/contacts/search", new CountDownLatch(0));    // the first one stays held
        called("lookup_crm", "phone", ADA);
        answers.countDown();
        assertThrows(AssertionError.class, () -> eventually("it is told", 1,
                () -> callers().size() > 1));
        called("record_intent", "intent", "a refund");      // on the thread that tells it
        assertEquals(1, callers().size(), callers().toString());
        assertEquals(List.of(500, 200), searches(crm));
        assertEquals("\"id-ada\"", contactAtTheEnd(crm));
    }

    /// What cannot be on disk waits in memory.
    @Test
    void aDiskThatTakesNothingDoesNotEndTheCallsOfThoseWhomTheCrmKnows() throws Exception {
        var crm = slow();
        answers.countDown();
        Path file = Files.createFile(folder().resolve("file"));
        begin(crm, Map.of("OUTBOX_DIR", file.resolve("outbox").toString()));
        knows("<record>{\"name\":\"Ada\"}</record>");
        assertEquals("\"id-ada\"", contactAtTheEnd(crm));
        assertEquals("caller_hung_up", event(crm, "call.ended").getString("reason"));
    }

    @Test
    void whoeverIsTheCallerNowDoesNotGetTheRecordOfWhoeverWasBefore() throws Exception {
        var crm = slow();
        call(crm);
        crm.hold("/contacts/search", new CountDownLatch(0));
        line.number = GRACE;
        line.mailbox.post(new Event.CallerJoined());
        knows("Grace");
        answers.countDown();
        called("lookup_crm", "phone", GRACE);
        called("lookup_crm", "phone", GRACE);               // and by now the first answer is here
        assertFalse(callers().toString().contains("Ada"));
        assertEquals("\"id-grace\"", contactAtTheEnd(crm));
    }

    @Test
    void aSearchWhoseKeptConnectionWasJustClosedIsAskedOnceMore() throws Exception {
        var crm = slow();
        line.number = null;
        answers.countDown();
        begin(crm, Map.of("LOOKUP_ANYBODY", "true"));
        called("lookup_crm", "phone", GRACE);               // this leaves a connection
        crm.fail("/contacts/search", DemoCrm.NO_ANSWER, 1);
        called("lookup_crm", "phone", ADA);
        assertTrue(lastOutput().contains("Ada"), lastOutput());
        assertEquals(List.of(200, 0, 200), searches(crm));
        crm.fail("/contacts/search", DemoCrm.NO_ANSWER, 3);
        called("lookup_crm", "phone", ADA);
        assertTrue(lastOutput().contains("The CRM does not answer"), lastOutput());
        assertEquals(List.of(200, 0, 200, 0, 0), searches(crm));
    }
}
