package trials;

import module java.base;
import livekit.LivekitAgent.WorkerMessage;
import org.junit.jupiter.api.Test;
import trials.TestLiveKit.Agent;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static trials.TestLiveKit.cancelled;
import static trials.TestLiveKit.job;

/// How a worker goes from one connection to the next, what it does with jobs that are over before
/// they begin, and when it retires. RoomTest has the rest of the worker.
public final class WorkerTest extends RoomStand {
    WorkerTest() throws IOException {}

    private Agent agent(int number) throws InterruptedException {
        eventually("connection " + number, () -> livekit.agents.size() > number
                && !statuses(livekit.agents.get(number)).isEmpty());
        return livekit.agents.get(number);
    }

    private static List<String> statuses(Agent agent) {
        return agent.told.stream().filter(WorkerMessage::hasUpdateWorker)
                .map(each -> "" + each.getUpdateWorker().getStatus()).toList();
    }

    /// What was said there of jobs: the answers to offers, and the updates.
    private static List<String> jobs(Agent agent) {
        return agent.told.stream().map(each -> switch (each.getMessageCase()) {
            case AVAILABILITY -> each.getAvailability().getJobId() + " "
                    + each.getAvailability().getAvailable();
            case UPDATE_JOB -> (each.getUpdateJob().getJobId() + " "
                    + each.getUpdateJob().getStatus() + " " + each.getUpdateJob().getError())
                    .strip();
            case MIGRATE_JOB -> each.getMigrateJob().getJobIdsList() + " are here";
            default -> "";
        }).filter(each -> !each.isEmpty()).toList();
    }

    /// LiveKit has told the worker to go away, and it has registered on another connection.
    private void sentAway() throws InterruptedException {
        Agent old = agent(0);
        old.goAway("a deploy");
        agent(1);
        eventually("no call comes on the old one",
                () -> statuses(old).getLast().equals("WS_FULL"));
        assertEquals("WS_AVAILABLE", statuses(agent(1)).getLast());
        assertTrue(worker.registered());
    }

    // A server that is going to stop.

    @Test
    void aWorkerThatIsSentAwayRegistersAnewAndItsCallsGoOn() throws Exception {
        joined("AJ_1");
        sentAway();
        Agent old = agent(0), now = agent(1);
        offered("AJ_2");
        assertEquals(List.of("AJ_2 true"), jobs(now));
        // The old connection stays for the call that came on it.
        assertFalse(old.closed.await(3 * 2_500, TimeUnit.MILLISECONDS));
        assertEquals("WS_FULL", statuses(old).getLast());
        end("AJ_1");
        eventually("its result, where LiveKit knows the job",
                () -> jobs(old).contains("AJ_1 JS_SUCCESS"));
        assertTrue(old.closed.await(SOON.toSeconds(), TimeUnit.SECONDS));
        assertEquals(List.of("AJ_1 true", "AJ_1 JS_RUNNING", "AJ_1 JS_SUCCESS"), jobs(old));
        assertEquals(List.of("AJ_2 true"), jobs(now));
        assertEquals(1, now.closed.getCount());
        assertEquals(2, livekit.agents.size());
        assertEquals(List.of("join"), livekit.tried);
    }

    @Test
    void untilTheNewConnectionIsThereTheOldOneTakesCalls() throws Exception {
        runs();
        Agent old = agent(0);
        livekit.agentStatuses.addAll(List.of(503, 503, 503, 503));     // for some seconds
        old.goAway("");
        eventually("it tries", () -> livekit.tokens.size() > 1);
        assertTrue(worker.registered());
        old.offer(job("AJ_1"));
        eventually("the answer", () -> livekit.answers().equals(List.of("AJ_1 yes")));
        assertEquals("WS_AVAILABLE", statuses(old).getLast());
        assertEquals(1, livekit.agents.size());
        agent(1);                               // after four refusals
        assertEquals(6, livekit.tokens.size());
        old.assign(job("AJ_1"));
        eventually("it runs", () -> jobs(old).contains("AJ_1 JS_RUNNING"));
        assertEquals(List.of(), jobs(agent(1)));
    }

    @Test
    void aServerThatSendsAwayAndDoesNotRegisterIsNotWaitedFor() throws Exception {
        livekit.turnedAway.set(1);
        run();
        // It would wait 10 s for the registration.
        eventually("another connection", 8, () -> livekit.agents.size() == 1);
        assertEquals(2, livekit.tokens.size());
    }

    @Test
    void anOfferOnTheOldConnectionIsTakenAndOnceMoreIfTheAnswerIsLost() throws Exception {
        runs();
        sentAway();
        Agent old = agent(0), now = agent(1);
        old.offer(job("AJ_1"));                 // it was on its way
        eventually("the answer", () -> jobs(old).equals(List.of("AJ_1 true")));
        old.cut();
        now.offer(job("AJ_1"));
        eventually("the answer", () -> jobs(now).equals(List.of("AJ_1 true")));
        now.assign(job("AJ_1"));
        eventually("it runs", () -> jobs(now).equals(List.of("AJ_1 true", "AJ_1 JS_RUNNING")));
        assertEquals(List.of("AJ_1"), begun);
    }

    @Test
    void aCallWhoseConnectionIsLostBelongsToTheNewOne() throws Exception {
        joined("AJ_1");
        sentAway();
        Agent now = agent(1);
        agent(0).cut();
        eventually("LiveKit is told", () -> jobs(now).equals(List.of("[AJ_1] are here")));
        now.cut();
        Agent next = agent(2);
        eventually("LiveKit is told", () -> jobs(next).equals(List.of("[AJ_1] are here")));
        end("AJ_1");
        eventually("its result", () -> jobs(next).equals(
                List.of("[AJ_1] are here", "AJ_1 JS_SUCCESS")));
        assertEquals(List.of("join"), livekit.tried);
    }

    @Test
    void aWorkerThatStopsClosesAllItsConnections() throws Exception {
        joined("AJ_1");
        sentAway();
        worker.stop(Duration.ofMillis(50));     // the call takes its time, on the old connection
        ran.get(60, TimeUnit.SECONDS);
        for (Agent each : livekit.agents) {
            assertTrue(each.closed.await(SOON.toSeconds(), TimeUnit.SECONDS));
        }
    }

    // Jobs that are over before they begin.

    @Test
    void aJobThatIsCancelledIsNotTaken() throws Exception {
        runs();
        agent(0).offer(cancelled("AJ_1"));
        eventually("the answer", () -> livekit.answers().size() == 1);
        offered("AJ_2");
        assertEquals(List.of("AJ_1 no", "AJ_2 yes"), livekit.answers());
        eventually("one call", () -> begun.equals(List.of("AJ_2")));
    }

    @Test
    void aCallThatIsCancelledBeforeItBeginsIsOverAtOnce() throws Exception {
        joins = true;
        runs();
        offered("AJ_1");
        offered("AJ_2");
        becomes("WS_FULL 2 0.65");
        long before = System.nanoTime();
        agent(0).assign(cancelled("AJ_1"));
        livekit.terminate("AJ_2");
        becomes("WS_AVAILABLE 0 0.0");
        // Without that, it would wait 7.5 s for an assignment.
        assertTrue(System.nanoTime() - before < 5_000_000_000L);
        assertEquals(List.of(), livekit.updates());
        assertEquals(List.of(), livekit.tried);
        assertEquals(List.of(), livekit.asked);     // the rooms are not ours, so they stay
    }

    // The worker retires.

    private CompletableFuture<Void> retire(int many) {
        return CompletableFuture.runAsync(() -> {
            try {
                worker.retire(many, 2 * many);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }, task -> Thread.ofVirtual().start(task));
    }

    @Test
    void afterSoManyCallsItRetiresWhenNoneIsLeft() throws Exception {
        runs();
        var retired = retire(2);
        offered("AJ_1");
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        assertFalse(retired.isDone());          // one call is not enough
        offered("AJ_2");
        offered("AJ_3");
        end("AJ_2");
        becomes("WS_AVAILABLE 1 0.325");
        assertFalse(retired.isDone());
        end("AJ_3");
        retired.get(60, TimeUnit.SECONDS);
        offered("AJ_4");
        assertEquals(List.of("AJ_1 yes", "AJ_2 yes", "AJ_3 yes", "AJ_4 no"), livekit.answers());
    }

    @Test
    void afterTwiceAsManyCallsItTakesNoMoreAndThoseThatRunGoOn() throws Exception {
        runs();
        var retired = retire(2);
        offered("AJ_1");
        offered("AJ_2");
        end("AJ_1");
        becomes("WS_AVAILABLE 1 0.325");
        offered("AJ_3");
        end("AJ_2");
        becomes("WS_AVAILABLE 1 0.325");
        assertFalse(retired.isDone());
        offered("AJ_4");
        retired.get(60, TimeUnit.SECONDS);
        end("AJ_3");
        becomes("WS_FULL 1 0.325");
        offered("AJ_5");
        assertEquals("AJ_5 no", livekit.answers().getLast());
        end("AJ_4");
        worker.drain(ENOUGH);
        assertEquals(List.of("AJ_1", "AJ_2", "AJ_3", "AJ_4"), begun.stream().sorted().toList());
    }

    /// LiveKit offers calls all the time, and each is short. So the last one ends while the next
    /// one comes. Whatever was accepted has run when the worker has drained.
    @Test
    void noCallIsLostThatComesWhenItRetires() throws Exception {
        runs();
        var retired = retire(50);
        for (int call = 1; !retired.isDone(); call++) {
            String id = "AJ_" + call;
            end(id);
            livekit.offer(id);
            int sent = call;
            eventually("the answer", () -> livekit.answers().size() == sent);
        }
        worker.drain(ENOUGH);
        var accepted = livekit.answers().stream().filter(each -> each.endsWith(" yes"))
                .map(each -> each.replace(" yes", "")).collect(Collectors.toSet());
        assertTrue(accepted.size() >= 50 && accepted.size() <= 100, "" + accepted.size());
        assertEquals(accepted, Set.copyOf(begun));
    }
}
