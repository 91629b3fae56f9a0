package trials;

import module java.base;
import demo.DemoCrm;
import demo.DemoModel;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static trials.Stand.json;

/// The program is killed (SIGKILL) over and over, at random instants, and started again on the same
/// outbox. Then its promises are held against what came to the CRM: nothing that the program had
/// accepted is missing, every call that began has come to one end, and nobody is left on an open
/// line.
///
/// `-Dkills=..` says how often. `-Dseed=..` draws the same instants again, but they hit something
/// else in each run. Not tried here: a machine that loses its power, and with it what was not
/// forced to the disk. Nor are calls that are killed before they have begun: the CRM never hears of
/// those.
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
public final class KillTest extends Stage {
    private static final int KILLS = Integer.getInteger("kills", ALL ? 100 : 5);
    private static final long SEED = Long.getLong("seed", System.nanoTime());
    private static final int BURST = 20;                        // tools that the model calls

    /// What the kill is to hit: an offered call that may not have begun, many events, the start,
    /// the ends of calls, and a call in which nothing happens. The moments take turns.
    private enum Moment { OFFER, FLOOD, START, END, QUIET }

    private final Random random = new Random(SEED);
    private final NavigableSet<Long> starts = new TreeSet<>();  // of the program, System.nanoTime
    private final Map<Moment, Integer> died = new EnumMap<>(Moment.class);  // calls, by a kill then
    private long from;                                          // where its output begins
    private List<Caller> here = List.of();                      // whose call was offered to it
    private final List<Caller> dead = new ArrayList<>();        // whose call was up at a kill
    private static Path outbox;

    @BeforeAll
    static void start() throws Exception {
        start(List.of());
        outbox = newFolder();
    }

    @AfterEach
    void kill() throws InterruptedException {
        program.destroyForcibly();
        assertTrue(program.waitFor(5, TimeUnit.SECONDS));
    }

    @Test @Order(1)                             // it judges all that has come to the CRM
    void whatWasAcceptedArrivesAndWhatBeganEndsHoweverOftenItIsKilled() throws Exception {
        System.out.println("  seed " + SEED);
        int calls = 0;
        for (int kill = 0; kill < KILLS; kill++) {
            var moment = Moment.values()[kill % Moment.values().length];
            startProgram();
            if (moment == Moment.START) {
                if (random.nextBoolean()) said("callers can");  // the outbox was read by then
                pass(random.nextInt(2_000));
            } else {
                calls += calls(kill, moment);
                // run.sh has become java: what dies is the program and not a shell in front of it.
                assertTrue(program.info().command().orElse("").endsWith("/java"));
            }
            kill();
            assertEquals(128 + 9, program.exitValue());
            bury(moment);
        }

        crm.fail("/webhooks", 503, 0);
        crm.delay("/webhooks", 0);
        startProgram();
        said("registered at");
        theDeadAreGone();
        var caller = Caller.onThePhone("after-all", ADA);
        caller.next("tone");
        caller.hangUp();
        ended(caller, "caller_hung_up");
        await("an empty outbox", output, () -> left().isEmpty());
        judge(calls + 1);
    }

    @Test @Order(2)
    void aCallerWhoTalksWithSomebodyElseByThenIsNotHungUp() throws Exception {
        startProgram();
        said("registered at");
        var caller = Caller.onThePhone("not-alone", ADA);
        caller.next("tone");
        kill();
        var colleague = new Caller(caller.room, "colleague", "--kind", "standard");
        caller.await("published", report -> report.getString("identity").equals("colleague"));
        startProgram();
        assertEquals("agent_died", webhook(caller.room, "call.ended").json().getString("reason"));
        said("somebody else has the call by now");
        assertNull(caller.peek("disconnected"));
        assertEquals(1, rooms.listRooms(List.of(caller.room)).execute().body().size());
        colleague.hangUp();
        caller.hangUp();
    }

    private static void pass(int ms) throws InterruptedException {
        TimeUnit.MILLISECONDS.sleep(ms);
    }

    /// With a new model, because a model remembers all that was ever said.
    private void startProgram() throws Exception {
        model.close();
        model = new DemoModel(0, script(starts.size()));
        from = Files.size(output);
        starts.add(System.nanoTime());
        program = program(output, Map.of("OUTBOX_DIR", outbox.toString()), "dev");
    }

    /// The model makes events as fast as it and the program can: before the greeting, and again
    /// each time that the caller has spoken.
    private static List<DemoModel.Step> script(int round) {
        var script = new ArrayList<DemoModel.Step>();
        for (int i = 0; i < 3 * BURST; i++) {
            script.add(i % 2 == 0 ? new DemoModel.Tool("record_intent", "{\"intent\":\"a refund\"}")
                    : new DemoModel.Tool("update_crm_note",
                            "{\"note\":\"%d.%d\"}".formatted(round, i)));
            if (i % BURST == BURST - 1) script.add(new DemoModel.Say("Yes?", 200));
        }
        return script;
    }

    /// Waits until the program that was started last has written that (a regular expression).
    private void said(String what) throws Exception {
        var that = Pattern.compile(what);
        await("\"" + what + "\"", output, () -> {
            try (var file = FileChannel.open(output)) {
                var its = ByteBuffer.allocate((int) (file.size() - from));
                file.read(its, from);
                return that.matcher(new String(its.array(), UTF_8)).find();
            }
        });
    }

    /// Two or three calls, up to the instant of the kill. Returns how many.
    private int calls(int kill, Moment moment) throws Exception {
        here = new ArrayList<>();
        for (int i = 0; i < 2 + random.nextInt(2); i++) { // Python starts while Java does
            here.add(new Caller("killed-" + kill + "-" + i, "sip_" + ADA, "--phone", ADA));
        }
        said("registered at");
        theDeadAreGone();
        boolean backlog = random.nextBoolean();
        crm.fail("/webhooks", 503, backlog ? 10 : 0);
        crm.delay("/webhooks", random.nextInt(3) * 10); // the CRM takes it and says so later
        for (Caller caller : here) caller.next("joined");
        for (Caller caller : here) {
            dispatches.createDispatch(caller.room, AGENT).execute();
            for (int i = 0; i < 4; i++) {
                caller.say(0, 600 + random.nextInt(300));
                caller.say(600, 100);
            }
        }
        switch (moment) {
            case OFFER -> pass(random.nextInt(1_500));
            case FLOOD -> {
                said("event +call.started|the call failed"); // on a machine that is too busy
                pass(random.nextInt(2_500));
            }
            case END -> {
                said("call +is up|the call failed");
                if (kill % 2 == 0) {
                    here.forEach(caller -> caller.command("hangup"));
                } else { // the agent says that it is sorry, and then hangs up
                    model.refuseWith = 503;
                    model.sessions().forEach(DemoModel.Session::drop);
                }
                said("call +ends|the call failed");
                pass(random.nextInt(50));
            }
            case QUIET -> {
                said("call +is up|the call failed");
                pass(3_500 + random.nextInt(500));
            }
            case START -> throw new IllegalArgumentException();
        }
        return here.size();
    }

    /// The disk says which calls were up, or not hung up yet. All other calls had ended or had not
    /// begun. Nobody knows of those, and their callers hang up by themselves.
    private void bury(Moment moment) throws IOException {
        var up = new HashSet<String>();
        for (String file : left()) {
            if (file.endsWith(".call")) {
                up.add(json(Files.readString(outbox.resolve(file))).getString("room"));
            }
        }
        for (Caller caller : here) {
            if (up.contains(caller.room)) {
                dead.add(caller);
                died.merge(moment, 1, Integer::sum);
            } else {
                caller.process.destroyForcibly();
            }
        }
        here = List.of();
    }

    /// The files that count: deliveries and calls.
    private static List<String> left() throws IOException {
        try (var files = Files.list(outbox)) {
            return files.map(file -> file.getFileName().toString())
                    .filter(name -> name.endsWith(".post") || name.endsWith(".call")).toList();
        }
    }

    private void theDeadAreGone() throws Exception {
        for (Caller caller : dead) {
            caller.next("disconnected");
            await("the end of room " + caller.room, output, () ->
                    rooms.listRooms(List.of(caller.room)).execute().body().isEmpty());
        }
        dead.clear();
    }

    /// What is promised, held against what came.
    private void judge(int calls) throws IOException {
        String said = Files.readString(output);
        for (String never : List.of("NOT DELIVERED", "NOT ON DISK", "put aside", "not sent, ")) {
            assertTrue(!said.contains(never), never);
        }
        var accepted = Pattern.compile("event +[a-z_.]+ +(evt_[0-9a-f-]{36})").matcher(said)
                .results().map(found -> found.group(1)).collect(Collectors.toSet());

        var ids = new HashSet<String>();                        // of all requests below
        var byCall = new LinkedHashMap<String, List<DemoCrm.Request>>();
        int events = 0, duplicates = 0, notes = 0, activities = 0;
        for (DemoCrm.Request request : crm.requests()) {
            boolean event = request.path().startsWith("/webhooks/");
            String id = request.headers().get(event ? "webhook-id" : "idempotency-key");
            if (request.status() / 100 != 2 || id == null) {
                continue; // refused, or a look-up
            }
            if (!ids.add(id)) {
                duplicates++;
            } else if (event) {
                assertTrue(request.verified(), id);
                events++;
                byCall.computeIfAbsent(request.json().getString("call_id"),
                        _ -> new ArrayList<>()).add(request);
            } else if (request.path().endsWith("/notes")) {
                notes++;
            } else {
                activities++;
            }
        }

        int agentDied = 0, noted = 0, known = 0;
        double longest = 0;
        for (var call : byCall.values()) {
            for (int i = 0; i < call.size(); i++) {
                JsonObject event = call.get(i).json();
                String name = event.getString("event");
                assertEquals(i + 1, event.getInt("sequence"), "of " + event);
                assertEquals(i == 0, name.equals("call.started"), "" + event);
                assertEquals(i == call.size() - 1, name.equals("call.ended"), "" + event);
                if (name.equals("crm.updated")) noted++;
            }
            var last = call.getLast();
            if (!last.json().isNull("contact_id")) known++;
            if (last.json().getString("reason").equals("agent_died")) {
                agentDied++;
                longest = Math.max(longest, (last.atNanos() - starts.lower(last.atNanos())) / 1e6);
            }
        }
        System.out.println("  of kills, calls that were up: " + died);
        count("kills", KILLS);
        count("calls", calls);
        count("of them begun", byCall.size());
        count("of them ended as agent_died", agentDied);
        count("events accepted", accepted.size());
        count("events received", events);
        count("events, notes and activities received once more", duplicates);
        count("notes that are missing to their event", noted - notes);
        count("activities that are missing to their call", known - activities);
        figure("longest time from a start to a call.ended", longest);

        accepted.removeAll(ids);
        assertEquals(Set.of(), accepted, "accepted, and never received");
        // The two appear on the disk one right after the other, and a kill may come between.
        assertBetween(-1, noted - notes, 1, "notes missing");
        assertBetween(-1, known - activities, 1, "activities missing");
    }

    private static void count(String what, int number) {
        System.out.printf(Locale.ROOT, "  %-50s %6d%n", what, number);
    }
}
