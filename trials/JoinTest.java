package trials;

import module java.base;
import livekit.LivekitAgent.JobAssignment;
import livekit.LivekitModels.DisconnectReason;
import livekit.LivekitModels.ParticipantInfo.Kind;
import livekit.LivekitRtc.SignalRequest;
import org.junit.jupiter.api.Test;
import room.Worker;
import voice.Event;
import voice.Line;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static trials.TestLiveKit.CUT;
import static trials.TestLiveKit.NO_ANSWER;
import static trials.TestLiveKit.who;

/// room/: how a call gets into its room, and back into it. TestLiveKit has no sound, so a test says
/// of a call that sound goes on. FaultTest tries that with sound, on a real server.
public final class JoinTest extends Stand {
    private final TestLiveKit livekit = opened(new TestLiveKit());
    private final Worker worker = new Worker(livekit.url(), "key",
            "secret of 32 letters, or of some more", "an-agent", 1);

    JoinTest() throws IOException {}

    /// A call whose job is ours. Its room is there.
    private Line assigned() throws Exception {
        Object room = FuzzTest.make("room.Room", worker, TestLiveKit.job("AJ_1"));
        FuzzTest.call(room, "assigned", JobAssignment.newBuilder()
                .setToken(TestLiveKit.TOKEN + "AJ_1").build());
        livekit.rooms.putIfAbsent("AJ_1", "RM_AJ_1");
        afterwards(() -> FuzzTest.call(room, "close"));
        return (Line) room;
    }

    private Line joined() throws Exception {
        Line line = assigned();
        line.join(null, "");
        return line;
    }

    /// The first connections fail like this.
    private void fail(Object... failures) {
        livekit.roomFailures.addAll(List.of(failures));
    }

    private String refused() throws Exception {
        Line line = assigned();
        return assertThrows(IOException.class, () -> line.join(null, "")).getMessage();
    }

    private void tried(String... connections) {
        assertEquals(List.of(connections), List.copyOf(livekit.tried));
    }

    // The first join.

    @Test
    void theFirstJoinIsTriedThreeTimesIfLiveKitFails() throws Exception {
        fail(503, DisconnectReason.JOIN_FAILURE);
        joined();
        tried("join", "join", "join");
    }

    @Test
    void theFirstJoinIsTriedThreeTimesIfTheNetworkFails() throws Exception {
        fail(CUT, CUT);
        joined();
        tried("join", "join", "join");
    }

    @Test
    void theFirstJoinIsTriedThreeTimesIfNobodyAnswers() throws Exception {
        fail(NO_ANSWER, NO_ANSWER);
        joined();
        tried("join", "join", "join");
    }

    @Test
    void aRoomThatDoesNotAnswerForTenSecondsIsNotDeletedIfItIsAnothersByNow() throws Exception {
        fail(NO_ANSWER, NO_ANSWER, NO_ANSWER);
        Line line = assigned();
        assertEquals("the room does not answer (10000 ms)",
                assertThrows(IOException.class, () -> line.join(null, "")).getMessage());
        livekit.rooms.put("AJ_1", "RM_of another call");
        line.hangUp();
        FuzzTest.call(line, "close");
        assertEquals(List.of("ListRooms"), livekit.asked);
    }

    @Test
    void afterThreeTimesTheRoomIsGivenUpAndDeletedIfItIsStillTheSame() throws Exception {
        fail(500, 429, 502);
        Line line = assigned();
        var why = assertThrows(IOException.class, () -> line.join(null, ""));
        assertEquals("the room does not take us: HTTP 502", why.getMessage());
        assertTrue(!(why instanceof Line.NotOurs));
        tried("join", "join", "join");
        line.hangUp();
        FuzzTest.call(line, "close");
        assertEquals(List.of("ListRooms", "DeleteRoom AJ_1"), livekit.asked);
    }

    @Test
    void aTokenThatLiveKitRefusesIsNotTriedAgain() throws Exception {
        for (int status : List.of(401, 403)) {
            livekit.tried.clear();
            fail(status);
            assertEquals("the room does not take us: HTTP " + status, refused());
            tried("join");
        }
    }

    @Test
    void aRoomThatIsOverIsNotTriedAgain() throws Exception {
        fail(DisconnectReason.ROOM_DELETED);
        assertEquals("the room ended: ROOM_DELETED", refused());
        tried("join");
    }

    @Test
    void aRoomThatIsNotFoundIsTriedAgainIfLiveKitSaysThatItIsThere() throws Exception {
        fail(404);
        joined();
        tried("join", "join");
        livekit.rooms.put("AJ_1", "RM_of another call");
        fail(404);
        assertEquals("the room is gone", refused());
        tried("join", "join", "join");
    }

    @Test
    void anotherRoomOfThatNameIsLeftAtOnceAndNotDeleted() throws Exception {
        livekit.rooms.put("AJ_1", "RM_of another call");
        Line line = assigned();
        assertEquals("another room has the name of the call's room by now",
                assertThrows(IOException.class, () -> line.join(null, "")).getMessage());
        eventually("we leave",
                () -> livekit.saidInRooms.stream().anyMatch(SignalRequest::hasLeave));
        line.hangUp();
        FuzzTest.call(line, "close");
        assertEquals(List.of("ListRooms"), livekit.asked);
        tried("join");
    }

    @Test
    void aRoomWhoseIdIsNotKnownYetIsJoined() throws Exception {
        livekit.rooms.put("AJ_1", "");
        joined();
        tried("join");
    }

    /// LiveKit has at most one session of one identity, the one that came last.
    @Test
    void anOlderAttemptThatComesLateDoesNotEndTheCall() throws Exception {
        fail(NO_ANSWER);
        Line line = joined();
        for (String each : List.of("that attempt", "somebody else")) {
            assertEquals(false, FuzzTest.call(FuzzTest.call(line, "signalling"),
                    "firstSessionStands"), "so the end of another session is not the job's");
            livekit.leave(DisconnectReason.DUPLICATE_IDENTITY);
            if (each.equals("that attempt")) {
                eventually("it joins again", () -> livekit.joins.get() == 2);
            }
        }
        assertEquals(new Event.LineLost("the room ended: DUPLICATE_IDENTITY"),
                line.mailbox().next());
        tried("join", "join", "join");
    }

    @Test
    void aCallThatIsNeverOursSaysSo() throws Exception {
        var line = (Line) FuzzTest.make("room.Room", worker, TestLiveKit.job("AJ_1"));
        afterwards(() -> FuzzTest.call(line, "close"));
        assertThrows(Line.NotOurs.class, () -> line.join(null, ""));
        tried();
    }

    // The connection is lost.

    /// Sound goes on from now on, or it does not.
    private static void sound(Line line, boolean goesOn) throws Exception {
        Object peers = FuzzTest.call(line, "peers");
        for (String name : List.of("publisher", "subscriber")) {
            Field peer = peers.getClass().getDeclaredField(name);
            peer.setAccessible(true);
            Field connected = peer.get(peers).getClass().getDeclaredField("connected");
            connected.setAccessible(true);
            connected.set(peer.get(peers), goesOn);
        }
    }

    /// The connection to the room is lost, and the first attempts to come back fail like this.
    private void lose(Object... failures) {
        fail(failures);
        livekit.cutRoom();
    }

    private void awayFor(Object failure, Duration time) throws Exception {
        livekit.roomFailure = failure;
        livekit.cutRoom();
        TimeUnit.NANOSECONDS.sleep(time.toNanos());
        livekit.roomFailure = null;
    }

    private void back() throws Exception {
        eventually("it is back", () -> livekit.joins.get() == 2);
    }

    @Test
    void asLongAsSoundGoesOnALostConnectionIsResumedAlsoAfterTwelveSeconds() throws Exception {
        Line line = joined();
        sound(line, true);
        awayFor(500, Duration.ofSeconds(12));
        back();
        assertEquals(Set.of("resume"), Set.copyOf(livekit.tried.subList(1, livekit.tried.size())));
        assertTrue(livekit.tried.size() <= 10, livekit.tried.toString());
        livekit.endRoom();
        assertEquals(new Event.LineLost("the room ended: SERVER_SHUTDOWN"), line.mailbox().next());
    }

    @Test
    void asLongAsSoundGoesOnTheRoomIsJoinedAgainOnlyIfTheSessionIsGone() throws Exception {
        sound(joined(), true);
        lose(CUT, 401, 429, 500, 404);
        back();
        tried("join", "resume", "resume", "resume", "resume", "resume", "join");
    }

    @Test
    void withoutSoundTheRoomIsJoinedAgainAfterThreeAttempts() throws Exception {
        joined();
        lose(CUT, 500, 429);
        back();
        tried("join", "resume", "resume", "resume", "join");
    }

    @Test
    void toJoinAgainIsTriedAgain() throws Exception {
        joined();
        lose(403, 500, 401, DisconnectReason.JOIN_FAILURE);
        back();
        tried("join", "resume", "join", "join", "join", "join");
    }

    @Test
    void aConnectionWithoutSoundIsGivenUpAfterTenSeconds() throws Exception {
        Line line = joined();
        livekit.roomFailure = CUT;
        livekit.apiStatuses.addAll(Collections.nCopies(1_000, 503));
        long cut = System.nanoTime();
        livekit.cutRoom();
        assertEquals(new Event.LineLost("the room's connection is lost: LiveKit does not answer"),
                line.mailbox().next());
        assertTrue(System.nanoTime() - cut >= 10_000_000_000L);
    }

    @Test
    void theTenSecondsCountFromWhenTheSoundIsLost() throws Exception {
        Line line = joined();
        sound(line, true);
        livekit.roomFailure = CUT;
        livekit.apiStatuses.addAll(Collections.nCopies(1_000, 503));
        livekit.cutRoom();
        TimeUnit.SECONDS.sleep(5);
        long lost = System.nanoTime();
        sound(line, false);
        FuzzTest.call(line, "work", (Runnable) () -> {
            try {
                FuzzTest.call(FuzzTest.call(line, "signalling"), "mediaChanged",
                        FuzzTest.call(line, "peers"), null);
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        assertTrue(line.mailbox().next() instanceof Event.LineLost);
        assertTrue(System.nanoTime() - lost >= 10_000_000_000L);
    }

    /// What is shown while the connection is away, or was lost with it, is shown when it is back.
    @Test
    void whatTheAgentShowsIsShownAgainWhenTheConnectionIsBack() throws Exception {
        Line line = joined();
        sound(line, true);
        line.show(Map.of("lk.agent.state", "speaking", "call.reason", ""));
        eventually("it is shown", () -> shown().size() == 1);
        livekit.roomFailure = 500;
        lose();
        eventually("it tries", () -> livekit.tried.size() >= 2);
        line.show(Map.of("lk.agent.state", "listening"));
        livekit.roomFailure = null;
        eventually("it is shown again", () -> shown().size() == 2);
        assertEquals(Map.of("lk.agent.state", "listening", "call.reason", ""), shown().getLast());
    }

    private List<Map<String, String>> shown() {
        return livekit.saidInRooms.stream().filter(SignalRequest::hasUpdateMetadata)
                .map(each -> each.getUpdateMetadata().getAttributesMap()).toList();
    }

    // Who is there after that.

    @Test
    void theListOfAllMayComeInSeveralUpdates() throws Exception {
        livekit.there.add(who("caller", "PA_1", Kind.STANDARD));
        livekit.stillThere.addAll(List.of(who("other", "PA_2", Kind.STANDARD),
                who("caller", "PA_1", Kind.STANDARD)));
        livekit.listInParts = true;
        Line line = joined();
        lose();
        back();
        TimeUnit.MILLISECONDS.sleep(2_500);     // then the list counts as complete
        livekit.left("caller", "PA_1");
        assertEquals(new Event.CallerJoined(), line.mailbox().next());
        assertEquals(new Event.CallerLost("DUPLICATE_IDENTITY"), line.mailbox().next());
    }

    @Test
    void whoIsMissingInTheWholeListHasLeft() throws Exception {
        livekit.there.add(who("caller", "PA_1", Kind.STANDARD));
        livekit.stillThere.add(who("other", "PA_2", Kind.STANDARD));
        livekit.listInParts = true;
        Line line = joined();
        lose();
        assertEquals(new Event.CallerJoined(), line.mailbox().next());
        assertEquals(new Event.CallerLost("UNKNOWN_REASON"), line.mailbox().next());
    }
}
