package trials;

import module java.base;
import livekit.LivekitModels.DataPacket;
import livekit.LivekitModels.DisconnectReason;
import livekit.LivekitModels.ParticipantInfo;
import livekit.LivekitModels.ParticipantInfo.Kind;
import livekit.LivekitModels.ParticipantPermission;
import livekit.LivekitModels.TrackInfo;
import livekit.LivekitModels.TrackSource;
import org.junit.jupiter.api.Test;
import voice.Event;
import voice.Line;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static trials.TestLiveKit.who;

/// room/: who the caller is, and who else is in the room. LiveTest has the same with a real server
/// and with real callers.
public final class CallerTest extends RoomStand {
    CallerTest() throws IOException {}

    // Who the caller is.

    /// What the call's mailbox has had, before the room was lost.
    private List<String> events(Line line) throws InterruptedException {
        livekit.endRoom();
        var events = new ArrayList<String>();
        Event next;
        while (!((next = line.mailbox().next()) instanceof Event.LineLost)) {
            assertFalse(next instanceof Event.AlarmDue, "the room does not end after " + events);
            events.add(next.getClass().getSimpleName());
        }
        return events;
    }

    private static String known(Line line) {
        return line.number() + " " + line.calledNumber() + " " + line.sipCallId() + " "
                + line.sipId() + " " + line.onPhone();
    }

    private static final String NOBODY = "null null null null false";
    private static final String A_PHONE = PHONE + " " + CALLED + " a@b SCL_1 ";

    @Test
    void aWebClientThatWritesAPhonesAttributesOntoItselfIsNobody() throws Exception {
        livekit.there.add(who("sip_" + PHONE, "PA_1", Kind.STANDARD, ON_THE_PHONE)
                .putAttributes("sip.callStatus", "ringing"));
        Line line = joined("AJ_1");
        line.pickUp();
        livekit.update(who("sip_" + PHONE, "PA_1", Kind.STANDARD, ON_THE_PHONE));
        // Nor does a caller hear us because they say so.
        assertEquals(List.of("CallerJoined"), events(line));
        assertEquals(NOBODY, known(line));
    }

    @Test
    void aConnectorsPhoneIsAPhoneButOnlySipCanTransferOne() throws Exception {
        for (Kind kind : List.of(Kind.SIP, Kind.CONNECTOR)) {
            livekit.there.clear();
            livekit.there.add(who("somebody", "PA_1", Kind.STANDARD));
            livekit.there.add(who("phone", "PA_2", kind, ON_THE_PHONE));
            Line line = joined("AJ_" + kind);
            assertEquals(List.of("CallerJoined"), events(line));    // a phone goes before a person
            assertEquals(A_PHONE + (kind == Kind.SIP), known(line));
        }
    }

    @Test
    void theTrunksIdOfACallIsLeftOutWhereLiveKitNamesOnlyItsOwn() throws Exception {
        livekit.there.add(who("phone", "PA_1", Kind.SIP, "sip.callID", "SCL_1"));
        Line line = joined("AJ_1");
        assertEquals(List.of("CallerJoined"), events(line));
        assertEquals("null null null SCL_1 true", known(line));
    }

    @Test
    void aPhoneThatComesLaterIsTheCallerAndNotTheBrowser() throws Exception {
        livekit.there.add(who("somebody", "PA_1", Kind.STANDARD));
        Line line = joined("AJ_1");
        livekit.update(who("phone", "PA_2", Kind.CONNECTOR, ON_THE_PHONE));
        livekit.update(who("other phone", "PA_3", Kind.SIP, "sip.phoneNumber", "+15550111"));
        livekit.left("somebody", "PA_1");
        assertEquals(List.of("CallerJoined", "CallerJoined"), events(line));
        assertEquals(A_PHONE + false, known(line));
    }

    @Test
    void noOtherKindIsEverTheCaller() throws Exception {
        for (String number : new String[] {null, PHONE}) {
            dials = number;
            livekit.there.clear();
            for (int kind : new int[] {Kind.INGRESS_VALUE, Kind.EGRESS_VALUE, Kind.AGENT_VALUE,
                    Kind.BRIDGE_VALUE, 99}) {
                livekit.there.add(who("sip_" + PHONE, "PA_" + kind, Kind.AGENT, ON_THE_PHONE)
                        .setKindValue(kind));
            }
            Line line = joined("AJ_" + number);
            livekit.update(livekit.there.toArray(ParticipantInfo.Builder[]::new));
            assertEquals(List.of(), events(line));
            assertEquals(NOBODY, known(line));
        }
    }

    @Test
    void whoTakesTheIdentityOfAPhoneThatWeDialIsNotThatPhone() throws Exception {
        dials = PHONE;
        livekit.there.add(who("sip_" + PHONE, "PA_1", Kind.STANDARD, ON_THE_PHONE));
        Line line = joined("AJ_1");
        livekit.update(who("sip_" + PHONE, "PA_2", Kind.SIP, ON_THE_PHONE)
                .putAttributes("sip.callStatus", "ringing"));
        livekit.left("sip_" + PHONE, "PA_1");
        livekit.update(who("sip_" + PHONE, "PA_2", Kind.SIP, ON_THE_PHONE).setVersion(1));
        livekit.update(who("sip_" + PHONE, "PA_3", Kind.STANDARD, ON_THE_PHONE));
        livekit.left("sip_" + PHONE, "PA_2");
        assertEquals(List.of("CallerJoined", "CallerAnswered", "CallerLost"), events(line));
        assertEquals(A_PHONE + true, known(line));
    }

    @Test
    void whoTakesTheIdentityOfThePhoneIsNotTheCallerWhoHasComeBack() throws Exception {
        for (boolean leftFirst : new boolean[] {false, true}) {
            livekit.there.clear();
            livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
            Line line = joined("AJ_" + leftFirst);
            if (leftFirst) {
                livekit.left("phone", "PA_1");
            }
            livekit.update(who("phone", "PA_2", Kind.STANDARD, "sip.phoneNumber", "+15550111",
                    "sip.callID", "SCL_2"));
            if (!leftFirst) {
                livekit.left("phone", "PA_1");
            }
            assertEquals(List.of("CallerJoined", "CallerLost"), events(line));
            assertEquals(A_PHONE + true, known(line));
        }
    }

    @Test
    void thePhoneThatHasLeftIsMissedInTheListWhateverIsCalledLikeIt() throws Exception {
        livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        livekit.stillThere.add(who("phone", "PA_2", Kind.STANDARD, ON_THE_PHONE));
        Line line = joined("AJ_1");
        livekit.cutRoom();
        assertEquals(new Event.CallerJoined(), line.mailbox().next());
        assertEquals(new Event.CallerLost("DUPLICATE_IDENTITY"), line.mailbox().next());
        assertEquals(List.of(), events(line));
        assertEquals(A_PHONE + true, known(line));
    }

    @Test
    void aPhoneThatComesBackIsTheSameCaller() throws Exception {
        livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        Line line = joined("AJ_1");
        livekit.update(who("phone", "PA_2", Kind.SIP, ON_THE_PHONE));
        livekit.left("phone", "PA_1");
        assertEquals(List.of("CallerJoined", "CallerBack"), events(line));
        assertEquals(A_PHONE + true, known(line));
    }

    private static TrackInfo.Builder microphone(String sid, boolean muted) {
        return TrackInfo.newBuilder().setSid(sid).setSource(TrackSource.MICROPHONE)
                .setMuted(muted);
    }

    /// LiveKit names the tracks of a participant in any order.
    @Test
    void ofTwoMicrophonesTheOneThatIsOnIsHeardAndOfTwoAlikeTheSameAsBefore() throws Exception {
        livekit.there.add(who("somebody", "PA_1", Kind.STANDARD)
                .addTracks(microphone("TR_1", true)).addTracks(microphone("TR_2", false)));
        Line line = joined("AJ_1");
        Object caller = FuzzTest.call(line, "caller");
        assertEquals("TR_2", FuzzTest.call(caller, "track"));
        for (var order : List.of(List.of("TR_1", "TR_2"), List.of("TR_2", "TR_1"))) {
            var news = who("somebody", "PA_1", Kind.STANDARD);
            order.forEach(sid -> news.addTracks(microphone(sid, false)));
            FuzzTest.call(caller, "update", news.build());
            assertEquals("TR_2", FuzzTest.call(caller, "track"), order.toString());
        }
    }

    // When the caller hears us.

    private static ParticipantInfo.Builder phone(String status) {
        return who("sip_" + PHONE, "PA_1", Kind.SIP, ON_THE_PHONE)
                .putAttributes("sip.callStatus", status);
    }

    private Line pickedUp(String call) throws Exception {
        Line line = joined(call);
        int before = livekit.tracks.get();
        line.pickUp();
        eventually("its track", () -> livekit.tracks.get() == before + 1);
        eventually("it has a name", () -> hasATrack(line));
        return line;
    }

    private static boolean hasATrack(Line line) {
        try {
            return !((TrackInfo) FuzzTest.call(line, "ourTrack")).getSid().isEmpty();
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }

    @Test
    void aPhoneThatStillRingsDoesNotHearUsAlthoughItsServiceReceivesOurSound() throws Exception {
        livekit.there.add(phone("ringing"));
        Line line = pickedUp("AJ_1");
        livekit.subscribed();
        livekit.update(phone("active"));
        assertEquals(List.of("CallerJoined", "Subscribed", "CallerHears"), events(line));
    }

    @Test
    void aPhoneThatWasAnsweredBeforeAndABrowserHearUsWhenTheyReceiveOurSound() throws Exception {
        for (var who : List.of(phone("active"), who("somebody", "PA_1", Kind.STANDARD))) {
            livekit.there.clear();
            livekit.there.add(who);
            Line line = pickedUp("AJ_" + who.getKind());
            livekit.update(who.setVersion(1));
            livekit.subscribed();
            assertEquals(List.of("CallerJoined", "CallerHears"), events(line));
        }
    }

    @Test
    void aPhoneThatRingsStillRingsWhenALostConnectionIsBack() throws Exception {
        livekit.there.add(phone("ringing"));
        livekit.stillThere.add(phone("ringing"));
        Line line = pickedUp("AJ_1");
        livekit.cutRoom();
        eventually("it comes back", () -> livekit.joins.get() == 2);
        assertEquals(List.of("CallerJoined"), events(line));
    }

    /// Not each phone has a status, and not each trunk tells that it has changed.
    @Test
    void aPhoneThatDoesNotSayThatItRingsDoesNotRingWhenALostConnectionIsBack() throws Exception {
        for (String call : List.of("AJ_connector", "AJ_no status", "AJ_dialled")) {
            dials = call.equals("AJ_dialled") ? PHONE : null;
            var phone = switch (call) {
                case "AJ_connector" -> who("phone", "PA_1", Kind.CONNECTOR);
                case "AJ_dialled" -> phone("dialing");
                default -> who("phone", "PA_1", Kind.SIP, "sip.phoneNumber", PHONE);
            };
            livekit.there.clear();
            livekit.there.add(phone);
            livekit.stillThere.clear();
            livekit.stillThere.add(phone);
            Line line = pickedUp(call);
            int before = livekit.joins.get();
            livekit.cutRoom();
            eventually("it comes back", () -> livekit.joins.get() == before + 1);
            assertEquals(List.of("CallerJoined", "Subscribed"), events(line), call);
            end(call);
            becomes("WS_AVAILABLE 0 0.0");
        }
    }

    /// LiveKit says only once that somebody receives our sound.
    @Test
    void whatWasSaidWhileTheConnectionWasLostIsNotWaitedFor() throws Exception {
        livekit.there.add(who("somebody", "PA_1", Kind.STANDARD));
        livekit.stillThere.add(who("somebody", "PA_1", Kind.STANDARD));
        Line line = pickedUp("AJ_1");
        livekit.cutRoom();
        eventually("it comes back", () -> livekit.joins.get() == 2);
        assertEquals(List.of("CallerJoined", "Subscribed"), events(line));
    }

    @Test
    void aPhoneThatWeDialIsAnsweredIfLiveKitsAnswerToTheRequestSaysSo() throws Exception {
        dials = PHONE;
        livekit.there.add(phone("dialing"));
        Line line = pickedUp("AJ_1");
        livekit.subscribed();           // somebody else in the room
        line.dial("ST_1");
        until(line, Event.CallerAnswered.class);
        livekit.update(phone("ringing").setVersion(1));
        livekit.update(phone("active").setVersion(2));
        assertEquals(List.of("CallerHears"), events(line));

        livekit.there.set(0, phone("dialing"));
        line = pickedUp("AJ_2");
        line.dial("ST_1");
        until(line, Event.CallerAnswered.class);
        livekit.subscribed();           // whatever its status says
        assertEquals(List.of("CallerHears"), events(line));
    }

    /// Clients look for a caption's track.
    @Test
    void theAgentsCaptionsWaitUntilItsTrackHasAName() throws Exception {
        livekit.there.add(phone("active"));
        Line line = joined("AJ_1");
        line.caption(true, "SG_1", "Hello.", true);
        line.pickUp();
        Object peers = FuzzTest.call(line, "peers");
        var waiting = peers.getClass().getDeclaredField("unsent");  // there is no channel here
        waiting.setAccessible(true);
        var sent = (Deque<?>) waiting.get(peers);
        eventually("the caption", () -> sent.size() == 3);
        var header = DataPacket.parseFrom((byte[]) sent.getFirst()).getStreamHeader();
        assertEquals("TR_agent", header.getAttributesMap().get("lk.transcribed_track_id"));
    }

    // Callers who are lost.

    private static final Set<DisconnectReason> WANTED = Set.of(DisconnectReason.CLIENT_INITIATED,
            DisconnectReason.PARTICIPANT_REMOVED, DisconnectReason.USER_UNAVAILABLE,
            DisconnectReason.USER_REJECTED, DisconnectReason.SIP_TRUNK_FAILURE);
    private static final Set<DisconnectReason> OF_THE_ROOM = Set.of(DisconnectReason.ROOM_DELETED,
            DisconnectReason.ROOM_CLOSED, DisconnectReason.SERVER_SHUTDOWN);

    @Test
    void whoseSessionIsLostOrReplacedHasNotHungUp() throws Exception {
        livekit.there.add(who("somebody", "PA_0", Kind.STANDARD));
        Line line = joined("AJ_1");
        var expected = new ArrayList<Event>(List.of(new Event.CallerJoined()));
        int sids = 0;
        for (DisconnectReason why : DisconnectReason.values()) {
            if (why == DisconnectReason.UNRECOGNIZED || OF_THE_ROOM.contains(why)
                    || WANTED.contains(why)) {
                continue;
            }
            livekit.left("somebody", "PA_" + sids, why);
            livekit.left("somebody", "PA_" + sids, why);    // said once more: once is enough
            livekit.update(who("nobody", "PA_nobody", Kind.STANDARD));
            livekit.update(who("somebody", "PA_" + ++sids, Kind.STANDARD));
            expected.addAll(List.of(new Event.CallerLost(why.name()), new Event.CallerBack()));
        }
        for (Event event : expected) {
            assertEquals(event, line.mailbox().next());
        }
        livekit.left("nobody", "PA_nobody");
        assertEquals(List.of(), events(line));
        assertEquals(9, sids);
    }

    @Test
    void whoWantedToLeaveHasHungUp() throws Exception {
        for (DisconnectReason why : WANTED) {
            livekit.there.clear();
            livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
            Line line = joined("AJ_" + why);
            livekit.left("phone", "PA_1", why);
            assertEquals(new Event.CallerJoined(), line.mailbox().next());
            assertEquals(new Event.CallerLeft(why.name()), line.mailbox().next());
            end("AJ_" + why);
        }
    }

    /// LiveKit does not tell every client that the identity of the one was taken by the other.
    @Test
    void whoseIdentityIsTakenBySomebodyOfAnotherKindIsLost() throws Exception {
        livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        Line line = joined("AJ_1");
        livekit.update(who("phone", "PA_2", Kind.STANDARD));
        livekit.update(who("phone", "PA_2", Kind.STANDARD).setVersion(1));
        livekit.update(who("phone", "PA_3", Kind.SIP, ON_THE_PHONE));
        assertEquals(List.of("CallerJoined", "CallerLost", "CallerBack"), events(line));
    }

    @Test
    void aPhoneThatComesInThePlaceOfALostBrowserIsThere() throws Exception {
        livekit.there.add(who("somebody", "PA_1", Kind.STANDARD));
        Line line = joined("AJ_1");
        livekit.left("somebody", "PA_1", DisconnectReason.CONNECTION_TIMEOUT);
        livekit.update(who("phone", "PA_2", Kind.SIP, ON_THE_PHONE));
        assertEquals(List.of("CallerJoined", "CallerLost", "CallerJoined", "CallerBack"),
                events(line));
    }

    @Test
    void aPhoneThatHasHungUpDoesNotComeBackWhateverTheReason() throws Exception {
        livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        Line line = joined("AJ_1");
        livekit.update(who("phone", "PA_1", Kind.SIP, "sip.callStatus", "hangup").setVersion(1));
        livekit.left("phone", "PA_1", DisconnectReason.UNKNOWN_REASON);
        assertEquals(List.of("CallerJoined", "CallerLeft"), events(line));
    }

    @Test
    void oldNewsOfACallerWhoIsLostIsNotTheirReturn() throws Exception {
        livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        Line line = joined("AJ_1");
        livekit.update(ParticipantInfo.newBuilder().setIdentity("phone").setSid("PA_1")
                .setVersion(7).setState(ParticipantInfo.State.DISCONNECTED)
                .setDisconnectReason(DisconnectReason.MIGRATION));
        livekit.update(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE).setVersion(6));
        assertEquals(List.of("CallerJoined", "CallerLost"), events(line));
    }

    // Whom the dispatch names, and who comes later.

    @Test
    void theIdentityThatTheDispatchNamesIsTheCaller() throws Exception {
        for (Kind kind : List.of(Kind.SIP, Kind.STANDARD, Kind.CONNECTOR)) {
            named = "the one";
            livekit.there.clear();
            livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
            livekit.there.add(who("somebody", "PA_2", Kind.STANDARD));
            Line line = joined("AJ_" + kind);
            assertEquals(NOBODY, known(line));
            livekit.update(who("the one", "PA_3", kind));
            livekit.update(who("later phone", "PA_4", Kind.SIP, ON_THE_PHONE));
            assertEquals(List.of("CallerJoined"), events(line));
            assertEquals(kind == Kind.SIP, line.onPhone());
            end(line.id());
            becomes("WS_AVAILABLE 0 0.0");
        }
    }

    @Test
    void aPhoneThatComesAfterAPersonIsTheCallerUntilWeListenToThePerson() throws Exception {
        for (boolean listens : List.of(false, true)) {
            livekit.there.clear();
            livekit.there.add(who("somebody", "PA_1", Kind.STANDARD));
            Line line = joined("AJ_" + listens);
            line.pickUp();
            if (listens) {
                line.listen(_ -> {});
            }
            livekit.update(who("phone", "PA_2", Kind.SIP, "sip.phoneNumber", PHONE));
            events(line);
            assertEquals(listens ? null : PHONE, line.number());
            end(line.id());
        }
    }

    // Another agent, and other people.

    /// The end of a call that was not ours after all: the job's result, once the call is over.
    private void leavesAlone(String call) throws Exception {
        if (lines.isEmpty()) {
            runs();
        }
        joins = true;
        offered(call);
        livekit.assign(call);
        eventually("it leaves", () -> livekit.updates().stream()
                .anyMatch(update -> update.startsWith(call + " JS_FAILED")));
        eventually("it is over", () -> livekit.status().startsWith("WS_AVAILABLE 0"));
        assertEquals(List.of(), livekit.asked, "the room is the other agent's");
        assertFalse(inTheirRooms.contains(call));
    }

    @Test
    void theAgentThatCameLaterLeavesARoomThatWasDispatchedTwice() throws Exception {
        livekit.there.add(who("somebody", "PA_1", Kind.STANDARD));
        livekit.there.add(livekit.agent("agent-AJ_0", "PA_a", "an-agent", -1));
        leavesAlone("AJ_1");
        livekit.there.set(1, livekit.agent("agent-AJ_0", "PA_a", "an-agent", 0));
        leavesAlone("AJ_2");                        // at the same moment: the smaller sid stays
        dials = PHONE;
        livekit.there.add(who("sip_" + PHONE, "PA_2", Kind.SIP, ON_THE_PHONE));
        leavesAlone("AJ_3");                        // the phone that the other one has dialled, too
    }

    @Test
    void nobodyElseIsTheAgentThatCameFirst() throws Exception {
        for (var other : List.of(livekit.agent("agent-AJ_0", "PA_a", "an-agent", 1),
                livekit.agent("agent-AJ_0", "PA_z", "an-agent", 0),
                livekit.agent("agent-AJ_0", "PA_a", "another-agent", -1),
                livekit.agent("agent-AJ_3", "PA_a", "an-agent", -1), // ours, before a rejoin
                livekit.agent("agent-AJ_0", "PA_a", "an-agent", -1)
                        .setState(ParticipantInfo.State.DISCONNECTED),
                livekit.agent("agent-AJ_0", "PA_a", "an-agent", -1)
                        .setKind(Kind.STANDARD),
                livekit.agent("agent-AJ_0", "PA_a", "an-agent", -1)     // its call is over
                        .putAttributes("call.reason", "busy"))) {
            livekit.there.clear();
            livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
            livekit.there.add(other);
            Line line = joined("AJ_" + lines.size());
            assertEquals(List.of("CallerJoined"), events(line), other.toString());
            end(line.id());
        }
    }

    @Test
    void anAgentOfAnEarlierMomentThatIsSeenLateHasTheCall() throws Exception {
        livekit.there.add(who("somebody", "PA_1", Kind.STANDARD));
        Line line = joined("AJ_1");
        livekit.update(livekit.agent("agent-AJ_0", "PA_a", "an-agent", -1));
        assertEquals(new Event.CallerJoined(), line.mailbox().next());
        assertEquals(Event.TakenOver.class, line.mailbox().next().getClass());
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        assertEquals(List.of(), livekit.asked);
    }

    @Test
    void whoTakesTheAgentOutOfTheRoomHasTheCallIfAPersonIsThere() throws Exception {
        for (boolean terminated : List.of(false, true)) {
            for (boolean withPerson : List.of(true, false)) {
                String call = "AJ_" + terminated + withPerson;
                livekit.there.clear();
                livekit.asked.clear();
                livekit.rooms.put(call, "RM_" + call);
                livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
                livekit.there.add(who("guest", "PA_2", Kind.STANDARD));
                livekit.there.add(who("recorder", "PA_3", Kind.EGRESS));
                Line line = joined(call);
                assertEquals(new Event.CallerJoined(), line.mailbox().next());
                if (!withPerson) {
                    livekit.left("guest", "PA_2", DisconnectReason.CLIENT_INITIATED);
                }
                if (terminated) {
                    livekit.terminate(call);
                } else {
                    livekit.leave(DisconnectReason.PARTICIPANT_REMOVED);
                }
                Event next = line.mailbox().next();
                assertEquals(withPerson ? Event.TakenOver.class : Event.LineLost.class,
                        next.getClass(), next.toString());
                end(call);
                becomes("WS_AVAILABLE 0 0.0");
                assertEquals(withPerson ? List.of()
                        : List.of("ListParticipants", "ListRooms", "DeleteRoom " + call),
                        livekit.asked);
            }
        }
    }

    /// LiveKit names a participant who publishes nothing to the others up to 3 s later.
    @Test
    void whoTakesTheAgentOutHasTheCallAlsoIfLiveKitHasNotNamedThemYet() throws Exception {
        livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        livekit.listed.addAll(List.of(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE),
                who("colleague", "PA_2", Kind.STANDARD)));
        for (boolean answers : List.of(true, false)) {
            String call = "AJ_" + answers;
            livekit.asked.clear();
            Line line = joined(call);
            assertEquals(new Event.CallerJoined(), line.mailbox().next());
            livekit.apiStatuses.addAll(answers ? List.of() : List.of(500));
            livekit.leave(DisconnectReason.PARTICIPANT_REMOVED);
            assertEquals(answers ? Event.TakenOver.class : Event.LineLost.class,
                    line.mailbox().next().getClass());
            end(call);
            becomes("WS_AVAILABLE 0 0.0");
            assertEquals(answers ? List.of("ListParticipants")
                    : List.of("ListParticipants", "ListRooms"), livekit.asked);
        }
    }

    /// The caller's phone may be no company itself: they are lost, or it still says that it rings.
    @Test
    void aColleagueWhoTakesTheAgentOutNeedNotBeThereWithTheCaller() throws Exception {
        livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        livekit.listed.add(who("colleague", "PA_2", Kind.STANDARD));
        Line line = joined("AJ_1");
        livekit.left("phone", "PA_1");
        until(line, Event.CallerLost.class);
        livekit.leave(DisconnectReason.PARTICIPANT_REMOVED);
        until(line, Event.TakenOver.class);
    }

    @Test
    void aCallThatEndsWhileLiveKitIsAskedWhoIsThereWaitsForTheAnswer() throws Exception {
        dials = PHONE;
        livekit.there.add(phone("active"));
        livekit.listed.addAll(List.of(phone("active"), who("colleague", "PA_2", Kind.STANDARD)));
        livekit.held = new CountDownLatch(1);
        Line line = joined("AJ_1");
        livekit.leave(DisconnectReason.PARTICIPANT_REMOVED);
        eventually("it asks", () -> livekit.asked.contains("ListParticipants"));
        end("AJ_1");
        eventually("its result", () -> livekit.updates().contains("AJ_1 JS_SUCCESS"));
        livekit.held.countDown();
        until(line, Event.TakenOver.class);
        becomes("WS_AVAILABLE 0 0.0");
        assertEquals(List.of("ListParticipants"), livekit.asked);
    }

    static ParticipantInfo.Builder hidden(String identity) {
        return who(identity, "PA_" + identity, Kind.STANDARD).setPermission(
                ParticipantPermission.newBuilder().setHidden(true));
    }

    @Test
    void aPhoneThatRingsAndSomebodyWhomNobodySeesAreNoCompany() throws Exception {
        livekit.there.addAll(List.of(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE),
                hidden("monitor"), who("colleague", "PA_2", Kind.SIP, "sip.callStatus", "active")));
        Line line = joined("AJ_1");
        livekit.update(who("colleague", "PA_2", Kind.SIP, "sip.callStatus", "ringing"));
        livekit.left("phone", "PA_1");
        until(line, Event.CallerLost.class);                // and all that came before
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        assertEquals(List.of("DeleteRoom AJ_1"), livekit.asked);
    }

    /// They may be back before the request to delete the room is there.
    @Test
    void whoHasLeftAndIsBackIsNotTakenFromWhomTheyTalkTo() throws Exception {
        livekit.there.add(who("somebody", "PA_1", Kind.STANDARD));
        livekit.rooms.putAll(Map.of("AJ_alone", "RM_AJ_alone", "AJ_two", "RM_AJ_two"));
        for (String call : List.of("AJ_alone", "AJ_two")) {
            livekit.asked.clear();
            livekit.listed.clear();
            livekit.listed.add(who("somebody", "PA_2", Kind.STANDARD));
            if (call.equals("AJ_two")) {
                livekit.listed.add(who("colleague", "PA_3", Kind.STANDARD));
            }
            Line line = joined(call);
            livekit.left("somebody", "PA_1", DisconnectReason.CLIENT_INITIATED);
            until(line, Event.CallerLeft.class);
            end(call);
            becomes("WS_AVAILABLE 0 0.0");
            var asked = List.of("ListRooms", "ListParticipants", "DeleteRoom " + call);
            assertEquals(call.equals("AJ_two") ? asked.subList(0, 2) : asked, livekit.asked);
        }
    }

    @Test
    void aRoomThatLiveKitClosesBecauseNobodyIsThereSaysSo() throws Exception {
        Line line = joined("AJ_1");
        livekit.leave(DisconnectReason.ROOM_CLOSED);
        assertEquals(new Event.RoomClosed("the room ended: ROOM_CLOSED"), line.mailbox().next());
    }

    @Test
    void whereTheCallerNeverCameNobodyIsLeftInTheRoom() throws Exception {
        named = "the one";
        livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        joined("AJ_1");
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        assertEquals(List.of("DeleteRoom AJ_1"), livekit.asked);
    }

    @Test
    void peopleWhoTalkWhileTheCallerDoesNotComeAreLeftAlone() throws Exception {
        livekit.there.addAll(List.of(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE),
                who("colleague", "PA_2", Kind.STANDARD)));
        for (String nobody : new String[] {"the one", null}) {
            named = nobody;
            Line line = joined("AJ_" + nobody);
            assertEquals(NOBODY, known(line));
            end(line.id());
            becomes("WS_AVAILABLE 0 0.0");
        }
        assertEquals(List.of(), livekit.asked);
    }

    /// The number that we were to dial must not be dialled.
    @Test
    void ifNobodyCanBeTheCallerOnlyAPhoneThatIsLeftAloneIsHungUp() throws Exception {
        named = null;
        livekit.there.add(who("somebody", "PA_1", Kind.STANDARD));
        joined("AJ_1");
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        livekit.there.set(0, who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        joined("AJ_2");
        end("AJ_2");
        becomes("WS_AVAILABLE 0 0.0");
        assertEquals(List.of("DeleteRoom AJ_2"), livekit.asked);
    }

    @Test
    void onlyTheCallerIsHungUpWhereAPersonIsWithThem() throws Exception {
        livekit.there.add(who("phone", "PA_1", Kind.SIP, ON_THE_PHONE));
        Line line = joined("AJ_1");
        livekit.update(who("guest", "PA_2", Kind.STANDARD));
        livekit.update(who("colleague", "PA_3", Kind.SIP));
        livekit.left("guest", "PA_2", DisconnectReason.CLIENT_INITIATED);
        livekit.rooms.put("AJ_1", "RM_AJ_1");
        livekit.apiStatuses.add(500);
        livekit.left("phone", "PA_1");
        for (var seen : List.of(new Event.CallerJoined(),
                new Event.CallerLost("DUPLICATE_IDENTITY"))) {
            assertEquals(seen, line.mailbox().next());      // and all that came before
        }
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        assertEquals(List.of("RemoveParticipant AJ_1 phone", "ListRooms",
                "RemoveParticipant AJ_1 phone"), livekit.asked);
    }
}
