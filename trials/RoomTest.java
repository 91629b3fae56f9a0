package trials;

import module java.base;
import jakarta.json.JsonObject;
import javax.net.SocketFactory;
import javax.net.ssl.SSLHandshakeException;
import livekit.LivekitAgent.Job;
import livekit.LivekitAgent.WorkerMessage.MessageCase;
import livekit.LivekitModels.DataPacket;
import livekit.LivekitModels.DataStream;
import livekit.LivekitModels.ParticipantInfo;
import livekit.LivekitModels.ParticipantInfo.Kind;
import livekit.LivekitModels.SipDTMF;
import livekit.LivekitSip.SIPStatus;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import okhttp3.OkHttpClient;
import okio.Buffer;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import room.Dispatch;
import room.Rooms;
import room.WebRtc;
import room.Worker;
import voice.Event;
import voice.Line;
import voice.Mailbox;
import voice.Mailbox.Alarm;
import voice.Party;
import voice.Speaker;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static trials.TestLiveKit.who;

/// room/, as far as a LiveKit without sound will do: how the worker takes calls, how it reports
/// them, and which rooms it deletes. LiveTest has the sound of a room and a real server.
public final class RoomTest extends RoomStand {
    RoomTest() throws IOException {}

    private Dispatch dispatch() {
        return new Dispatch(livekit.url(), "key", SECRET_OF_LIVEKIT, "an-agent");
    }

    // The worker.

    @Test
    void theWorkerSaysWhoItIs() throws Exception {
        runs();
        var register = livekit.told.getFirst().getRegister();
        assertEquals("JT_ROOM an-agent", register.getType() + " " + register.getAgentName());
        var may = register.getAllowedPermissions();
        assertTrue(may.getCanPublish() && may.getCanSubscribe() && may.getCanPublishData()
                && may.getCanUpdateMetadata(), may.toString());
        assertTrue(worker.registered());
        assertEquals("Bearer", livekit.tokens.getFirst().split(" ")[0]);
        assertEquals("key", claims(livekit.tokens.getFirst()).getString("iss"));

        offered("AJ_1");
        var answer = livekit.told(MessageCase.AVAILABILITY).getFirst().getAvailability();
        assertEquals("agent-AJ_1", answer.getParticipantIdentity());
        assertEquals("an-agent", answer.getParticipantName());
        assertEquals(Map.of("lk.agent.name", "an-agent"), answer.getParticipantAttributesMap());
    }

    private static JsonObject claims(String token) {
        return json(new String(Base64.getUrlDecoder().decode(token.split("[.]")[1])));
    }

    /// Whoever finds one in a log can do nothing with it.
    @Test
    void eachConnectionHasATokenOfItsOwnThatLivesAMinuteAndMakesNothingButAnAgent()
            throws Exception {
        var made = new ArrayList<Long>();
        for (int connections = 1; connections <= 2; connections++) {
            long before = Instant.now().getEpochSecond();
            if (connections == 1) {
                runs();
            } else {
                TimeUnit.MILLISECONDS.sleep(1_001);     // the next token names another second
                livekit.cut();
            }
            int count = connections;
            eventually("a token", () -> livekit.tokens.size() == count);
            var claims = claims(livekit.tokens.getLast());
            long ends = claims.getJsonNumber("exp").longValue();
            assertTrue(before + 60 <= ends && ends <= Instant.now().getEpochSecond() + 60,
                    claims.toString());
            assertEquals(json("{\"agent\":true}"), claims.getJsonObject("video"));
            made.add(ends);
        }
        assertNotEquals(made.getFirst(), made.getLast());
    }

    @Test
    void aFullWorkerRefusesCallsAndTakesTheNextOneWhenACallHasEnded() throws Exception {
        runs();
        becomes("WS_AVAILABLE 0 0.0");
        offered("AJ_1");
        becomes("WS_AVAILABLE 1 0.325");
        offered("AJ_2");
        becomes("WS_FULL 2 0.65");
        offered("AJ_3");
        assertEquals(List.of("AJ_1 yes", "AJ_2 yes", "AJ_3 no"), livekit.answers());

        end("AJ_1");
        becomes("WS_AVAILABLE 1 0.325");
        offered("AJ_4");
        becomes("WS_FULL 2 0.65");
        assertEquals("AJ_4 yes", livekit.answers().getLast());
        eventually("three calls", () -> begun.size() == 3);
        assertEquals(Set.of("AJ_1", "AJ_2", "AJ_4"), Set.copyOf(begun));
        // With 0.7, LiveKit would not even offer calls to a worker that is free again.
        livekit.told(MessageCase.UPDATE_WORKER).forEach(
                each -> assertTrue(each.getUpdateWorker().getLoad() < 0.7, each.toString()));
    }

    @Test
    void aJobThatIsOfferedTwiceIsOneCall() throws Exception {
        runs();
        offered("AJ_1");
        livekit.offer("AJ_1");
        offered("AJ_2");                // the worker reads its socket in order
        eventually("two calls", () -> begun.size() == 2);
        assertEquals(List.of("AJ_1 yes", "AJ_2 yes"), livekit.answers());
        assertEquals(Set.of("AJ_1", "AJ_2"), Set.copyOf(begun));
    }

    @Test
    void aWorkerThatDrainsRefusesCallsAndWaitsForThoseThatRun() throws Exception {
        runs();
        offered("AJ_1");
        var drained = drain();
        becomes("WS_FULL 1 0.325");
        offered("AJ_2");
        assertEquals("AJ_2 no", livekit.answers().getLast());
        assertFalse(drained.isDone());
        end("AJ_1");
        drained.get(60, TimeUnit.SECONDS);
        assertEquals(List.of("AJ_1"), begun);
        assertFalse(ran.isDone());
        assertTrue(worker.registered());

        worker.stop(ENOUGH);
        ran.get(60, TimeUnit.SECONDS);
        eventually("the connection is closed", () -> !worker.registered());
    }

    private CompletableFuture<Void> drain() {
        return CompletableFuture.runAsync(() -> {
            try {
                worker.drain(ENOUGH);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }, task -> Thread.ofVirtual().start(task));
    }

    @Test
    void aWorkerThatStopsAsksItsCallsToEndAndWaitsNoLongerThanItMust() throws Exception {
        runs();
        offered("AJ_1");
        eventually("the call", () -> lines.containsKey("AJ_1"));
        worker.stop(Duration.ofMillis(50));     // the call takes its time
        assertEquals(new Event.Stop(), lines.get("AJ_1").mailbox().next());
        ran.get(60, TimeUnit.SECONDS);
    }

    // Jobs.

    @Test
    void howACallEndedIsReportedOnce() throws Exception {
        runs();
        for (String job : List.of("AJ_1", "AJ_2")) {
            offered(job);
            livekit.assign(job);
        }
        eventually("both run", () -> livekit.updates().size() == 2);
        ends("AJ_1").complete("");
        becomes("WS_AVAILABLE 1 0.325");
        ends("AJ_2").complete("a mistake");
        becomes("WS_AVAILABLE 0 0.0");
        livekit.cut();
        eventually("it registers again", () -> livekit.told(MessageCase.REGISTER).size() == 2);
        offered("AJ_3");
        assertEquals(List.of("AJ_1 JS_RUNNING", "AJ_1 JS_SUCCESS", "AJ_2 JS_FAILED "
                + "IllegalStateException: a mistake", "AJ_2 JS_RUNNING"),
                livekit.updates().stream().sorted().toList());
        // LiveKit has read the result when it answers a ping that comes after it.
        assertTrue(kinds().lastIndexOf(MessageCase.UPDATE_JOB)
                < kinds().lastIndexOf(MessageCase.PING), kinds().toString());
    }

    @Test
    void aResultThatLiveKitHasNotReadIsSentAgainAfterAReconnect() throws Exception {
        runs();
        livekit.pongs = false;
        offered("AJ_1");
        livekit.assign("AJ_1");
        eventually("it runs", () -> livekit.updates().size() == 1);
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        livekit.pongs = true;
        livekit.cut();
        eventually("the result comes again", () -> livekit.updates().size() == 3);
        livekit.cut();
        eventually("it registers", () -> livekit.told(MessageCase.REGISTER).size() == 3);
        offered("AJ_2");
        assertEquals(List.of("AJ_1 JS_RUNNING", "AJ_1 JS_SUCCESS", "AJ_1 JS_SUCCESS"),
                livekit.updates());
    }

    @Test
    void anAssignmentThatComesTooLateIsAFailedJob() throws Exception {
        runs();
        offered("AJ_1");
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        assertEquals(List.of(), livekit.updates());
        livekit.assign("AJ_1");
        eventually("the report", () -> !livekit.updates().isEmpty());
        assertEquals(List.of("AJ_1 JS_FAILED the assignment came too late"), livekit.updates());
    }

    @Test
    void callsGoOnWhileTheWorkerConnectsAgain() throws Exception {
        runs();
        offered("AJ_1");
        livekit.agentStatuses.add(401);         // by now, this is no reason to give up
        livekit.cut();
        eventually("it registers again", () -> livekit.told(MessageCase.REGISTER).size() == 2);
        becomes("WS_AVAILABLE 1 0.325");
        livekit.assign("AJ_1");
        eventually("its job", () -> livekit.updates().contains("AJ_1 JS_RUNNING"));
        assertEquals(List.of("AJ_1"), begun);
    }

    @Test
    void aKeyThatLiveKitRefusesEndsTheWorkerWithTheNamesOfTheSettings() {
        livekit.agentStatuses.add(401);
        run();
        var why = assertThrows(ExecutionException.class, () -> ran.get(60, TimeUnit.SECONDS));
        assertEquals("LiveKit at " + livekit.url() + " refuses the key (HTTP 401): check "
                + "LIVEKIT_API_KEY and LIVEKIT_API_SECRET, and this machine's clock",
                why.getCause().getMessage());
        assertEquals(Worker.Refused.class, why.getCause().getClass());
    }

    // The rooms of calls.

    @Test
    void theRoomOfACallThatHangsUpIsDeletedAtOnce() throws Exception {
        joined("AJ_1");
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        assertEquals(List.of("DeleteRoom AJ_1"), livekit.asked);
    }

    @Test
    void aJobThatLiveKitEndsHasLostItsRoomWhichMayBeAnothersByNow() throws Exception {
        Line line = joined("AJ_1");
        livekit.rooms.put("AJ_1", "RM_of another call");
        livekit.terminate("AJ_1");
        assertEquals(new Event.LineLost("LiveKit ended the job"), line.mailbox().next());
        end("AJ_1");
        becomes("WS_AVAILABLE 0 0.0");
        assertEquals(List.of("ListParticipants", "ListRooms"), livekit.asked);
    }

    // The caller's sound.

    /// Otherwise a model would wait on and on for the end of what they were saying. StoppedTest has
    /// that with a track that goes.
    @Test
    void whereNoSoundComesFromTheCallerSilenceTakesItsPlace() {
        WebRtc.SEND.hashCode();                 // loads the library, which an ear needs
        var heard = new ArrayList<byte[]>();
        var ear = new WebRtc.Ear("AJ_1", () -> heard::add, Assertions::fail);
        afterwards(ear::close);
        for (int frames = 0; frames < 20; frames++) {
            ear.tick();
        }
        assertEquals(0, heard.size());
        ear.tick();
        assertArrayEquals(new byte[Speaker.FRAME], heard.getFirst());
    }

    // What the caller types and presses.

    private static DataPacket.Builder packet() {
        return DataPacket.newBuilder().setParticipantIdentity("caller");
    }

    private static DataPacket.Builder key(String key) {
        return packet().setSipDtmf(SipDTMF.newBuilder().setDigit(key));
    }

    private static List<DataPacket.Builder> text(String text) {
        return List.of(packet().setStreamHeader(DataStream.Header.newBuilder().setStreamId("s")
                        .setTopic("lk.chat").setTextHeader(DataStream.TextHeader.newBuilder())),
                packet().setStreamChunk(DataStream.Chunk.newBuilder().setStreamId("s").setContent(
                        com.google.protobuf.ByteString.copyFromUtf8(text))),
                packet().setStreamTrailer(DataStream.Trailer.newBuilder().setStreamId("s")));
    }

    private static final class Data {
        final Object room;
        final Mailbox mailbox;
        long begun = System.nanoTime();

        Data(Worker worker) throws Exception {
            room = FuzzTest.make("room.Room", worker, Job.newBuilder().setId("AJ_data").build());
            mailbox = ((Line) room).mailbox();
            FuzzTest.call(FuzzTest.call(room, "caller"), "update",
                    who("caller", "PA_1", Kind.STANDARD).build());
        }

        void comes(Iterable<DataPacket.Builder> packets) throws Exception {
            for (var packet : packets) {
                FuzzTest.call(room, "received", packet.build());
            }
        }

        /// How many of such events the call has had, since the last time that this was asked.
        long events(Class<? extends Event> kind) throws InterruptedException {
            return all(kind).size();
        }

        List<Event> all(Class<? extends Event> kind) throws InterruptedException {
            mailbox.post(new Event.Stop());
            var all = new ArrayList<Event>();
            for (Event next; !((next = mailbox.next()) instanceof Event.Stop); all.add(next)) { }
            return all.stream().filter(kind::isInstance).toList();
        }

        /// How many seconds have begun. On a fast machine, it is the first.
        long seconds() {
            return 1 + Duration.ofNanos(System.nanoTime() - begun).toSeconds();
        }
    }

    @Test
    void textsAndKeysThatNoPhoneHasAreTakenFiveTimesInASecond() throws Exception {
        var data = new Data(worker);
        data.comes(List.of(key("a whole sentence"), key("**"), key("")));
        for (int i = 0; i < 50; i++) {
            data.comes(text("hello " + i));
        }
        long written = data.events(Event.CallerWrote.class);
        assertTrue(2 <= written && written <= 5 * data.seconds() - 3, written + " texts");
        TimeUnit.MILLISECONDS.sleep(1_001);
        data.comes(text("hello again"));
        assertEquals(1, data.events(Event.CallerWrote.class));
    }

    @Test
    void noKeyIsLostOfSomebodyWhoDialsFastAndAFloodOfThemDoesNotPileUp() throws Exception {
        var data = new Data(worker);
        data.comes(Collections.nCopies(80, key("7")));      // four seconds of an auto-dialler's
        assertEquals(81, data.events(Event.class));         // and CallerJoined
        data.comes(Collections.nCopies(5_000, key("7")));
        long pressed = data.events(Event.KeyPressed.class);
        assertTrue(pressed <= 100 * data.seconds() - 80, pressed + " keys");
    }

    /// LiveKit's SIP service sends a to d in lower case, and its clients send what they like.
    @Test
    void aKeyIsTheSameInUpperAndInLowerCase() throws Exception {
        var data = new Data(worker);
        var pressed = "0123456789*#abcdABCD".chars().mapToObj(Character::toString).toList();
        data.comes(pressed.stream().map(RoomTest::key).toList());
        assertEquals(pressed.stream().map(key -> new Event.KeyPressed(key.toUpperCase()))
                .toList(), data.all(Event.KeyPressed.class));
    }

    @Test
    void whoHasTakenTheCallersIdentityDoesNotTypeForThem() throws Exception {
        var data = new Data(worker);
        data.comes(List.of(key("1").setParticipantSid("PA_1"), key("2").setParticipantSid("PA_2"),
                key("3")));
        assertEquals(2, data.events(Event.KeyPressed.class));
    }

    // What others write.

    @Test
    @Tag(Runner.ALONE)
    void aNumberThatOthersHaveWrittenDoesNotComeIntoTheLog() throws Exception {
        var log = new Written();
        long seconds;
        try (log) {
            livekit.listed.add(who("agent", "PA_1", Kind.AGENT));
            livekit.listed.add(who("phone", "PA_2", Kind.SIP, "sip.callStatus", "to 555 0142"));
            var called = new FutureTask<>(() -> dispatch().call(json("{}"), ENOUGH));
            Thread.ofVirtual().start(called);
            eventually("it is said", () -> log.toString().contains("the phone: to ### ####"));
            livekit.listed.set(0, who("agent", "PA_1", Kind.AGENT, "call.reason", "not 5550142",
                    "call.sip_code", "5550142"));
            called.get();

            livekit.iceServer = "tel:5550142";
            joined("AJ_1");
            var data = new Data(worker);
            data.comes(Collections.nCopies(50, key("my number is 5550142")));
            seconds = data.seconds();
        }
        String said = log.toString();
        for (String line : List.of("the call is over: not ####### (SIP #######)",
                "an ICE server is left out, it is none: [tel:#######]",
                "a key that no phone has\n", "some of it is dropped")) {
            assertTrue(said.contains(line), said);
        }
        assertFalse(said.contains("0142"), said);
        assertTrue(said.split("is dropped", -1).length - 1 <= seconds, said);
    }

    /// TestLiveKit invites to ask again. It would say yes then.
    @Test
    void whatDialsOrTransfersIsAskedForOnce() throws Exception {
        var statuses = List.of(307, 308, 408, 421, 429, 500, 503);
        for (int status : statuses) {
            livekit.asked.clear();
            livekit.apiStatuses.addAll(List.of(status, 200, 200));
            assertEquals(1, dispatch().call(JsonObject.EMPTY_JSON_OBJECT, ENOUGH));
            // Who has not said no may do it all the same.
            assertEquals(List.of(408, 500, 503).contains(status) ? "CreateDispatch DeleteRoom"
                    : "CreateDispatch", livekit.asked.stream().map(each -> each.split(" ")[0])
                    .collect(Collectors.joining(" ")), "" + status);
            livekit.apiStatuses.clear();
        }
        dials = PHONE;
        livekit.there.add(who("sip_" + PHONE, "PA_1", Kind.SIP, ON_THE_PHONE));
        Line line = joined("AJ_1");
        for (int status : statuses) {
            livekit.asked.clear();
            livekit.apiStatuses.addAll(List.of(status, 200, 200));
            line.dial("ST_1");
            eventually("it is refused", () -> livekit.apiStatuses.size() == 2);
            until(line, Event.DialFailed.class);
            line.transfer("tel:+15550111");
            until(line, Event.Transferred.class);   // the second status is 200
            assertEquals(List.of("CreateSIPParticipant", "TransferSIPParticipant"), livekit.asked,
                    "" + status);
            livekit.apiStatuses.clear();
        }
    }

    @Test
    void aTransferHasFailedIfLiveKitSaysSoAlthoughItAnswers200() throws Exception {
        var server = opened(new MockWebServer());
        server.start();
        var sip = FuzzTest.make("room.Sip", new OkHttpClient(),
                server.url("/").toString(), "key", SECRET_OF_LIVEKIT);
        var busy = SIPStatus.newBuilder().setCodeValue(486).setStatus("Busy Here").build();
        var odd = SIPStatus.newBuilder().setCodeValue(4860).setStatus("5550142").build();
        var endless = SIPStatus.newBuilder().setStatus("x".repeat(20_000)).build();
        byte[] worked = Stage.Proxy.outcome(2, 1, null);
        byte[] hungUp = Stage.Proxy.outcome(1, 2, null);
        var ended = new Event.Refusal(200, 0, "the call ended before the transfer was complete");
        var noReason = new Event.Refusal(200, 0, "no reason is given");
        record Case(String what, byte[] body, Event.Refusal told) {}
        for (Case each : List.of(
                new Case("an older server", new byte[0], null),
                new Case("it has worked", worked, null),
                new Case("the caller hung up", hungUp, ended),
                new Case("busy", Stage.Proxy.outcome(1, 3, busy),
                        new Event.Refusal(200, 486, "Busy Here")),
                new Case("no SIP code", Stage.Proxy.outcome(1, 0, odd), noReason),
                new Case("a new reason", Stage.Proxy.outcome(1, 99, null), noReason),
                new Case("still under way", Stage.Proxy.outcome(0, 0, null), UNKNOWN),
                new Case("a new status", Stage.Proxy.outcome(99, 1, null), UNKNOWN),
                new Case("cut off", Arrays.copyOf(worked, worked.length - 1), UNKNOWN),
                new Case("no protobuf", utf8("<html>"), UNKNOWN),
                new Case("too long", Stage.Proxy.outcome(2, 1, endless), UNKNOWN))) {
            server.enqueue(new MockResponse.Builder().body(new Buffer().write(each.body)).build());
            var told = (Event.Refusal) FuzzTest.call(sip, "transfer", "a room", "phone", "tel:+1");
            if (each.told == UNKNOWN) {
                assertTrue(told != null && told.unknown(), each.what + ": " + told);
            } else {
                assertEquals(each.told, told, each.what);
            }
        }
    }

    /// A gateway in front of LiveKit gives up sooner than LiveKit does. LiveKit itself answers with
    /// neither of these.
    @Test
    void nobodyKnowsWhatComesOfARequestThatAGatewayGivesUp() throws Exception {
        dials = PHONE;
        livekit.there.add(who("sip_" + PHONE, "PA_1", Kind.SIP, ON_THE_PHONE));
        Line line = joined("AJ_1");
        for (int status : List.of(502, 504)) {
            livekit.apiStatuses.addAll(List.of(status, status));
            line.transfer("tel:+15550111");
            line.dial("ST_1");
            for (int both = 0; both < 2; both++) {
                Event next;
                do {
                    next = line.mailbox().next();
                } while (!(next instanceof Event.TransferFailed)
                        && !(next instanceof Event.DialFailed));
                assertTrue(next instanceof Event.TransferFailed(var why) && why.unknown()
                        || next instanceof Event.DialFailed(var no) && no.unknown(), "" + next);
            }
        }
    }

    @Test
    void whatWasNeverSentHasNotHappened() throws Exception {
        for (IOException why : List.of(new SocketTimeoutException("connect timed out"),
                new NoRouteToHostException("no route"), new ConnectException("refused"),
                new SSLHandshakeException("no"))) {
            var http = new OkHttpClient.Builder().socketFactory(new SocketFactory() {
                @Override public Socket createSocket() throws IOException { throw why; }
                @Override public Socket createSocket(String host, int port) { return null; }
                @Override public Socket createSocket(InetAddress host, int port) { return null; }
                @Override public Socket createSocket(String host, int port, InetAddress from,
                        int fromPort) { return null; }
                @Override public Socket createSocket(InetAddress host, int port, InetAddress from,
                        int fromPort) { return null; }
            }).build();
            var sip = FuzzTest.make("room.Sip", http, livekit.url().replace("ws", "http") + "/",
                    "key", SECRET_OF_LIVEKIT);
            for (var told : List.of(FuzzTest.call(sip, "transfer", "a room", "phone", "tel:+1"),
                    FuzzTest.call(sip, "dial", "a room", "phone", "ST_1", PHONE))) {
                assertEquals(503, ((Event.Refusal) told).http(), why + ": " + told);
            }
        }
        assertEquals(List.of(), livekit.asked);
    }

    private static final Event.Refusal UNKNOWN = new Event.Refusal(0, 0, "nobody can say");

    @Test
    void aJobsTokenDoesNotTravelInTheOpen() throws Exception {
        var safe = new Worker("wss://x.example/", "key", "secret", "an-agent", MAX_CALLS);
        for (var each : Map.of("", "wss://x.example", "ws://y.example", "wss://x.example",
                "http://y.example/", "wss://x.example", "wss://y.example/", "wss://y.example",
                "https://y.example/a", "wss://y.example/a").entrySet()) {
            assertEquals(each.getValue(), FuzzTest.call(safe, "socketUrl", each.getKey()));
        }
        assertEquals("ws://y.example", FuzzTest.call(worker, "socketUrl", "http://y.example"));
    }

    // Rooms.

    private void deleted(boolean sure) throws Exception {
        Rooms rooms = worker.rooms();
        assertNull(rooms.delete("AJ_1", "a room", "RM_1", sure).get(60, TimeUnit.SECONDS));
    }

    @Test
    void aRoomIsDeletedIfItIsStillTheSame() throws Exception {
        livekit.rooms.put("a room", "RM_1");
        deleted(false);
        assertEquals(List.of("ListRooms", "DeleteRoom a room"), livekit.asked);
    }

    @Test
    void aRoomThatIsGoneOrAnothersByNowIsNotDeleted() throws Exception {
        deleted(false);
        livekit.rooms.put("a room", "RM_2");
        deleted(false);
        assertEquals(List.of("ListRooms", "ListRooms"), livekit.asked);
    }

    @Test
    void aRoomThatSomebodyElseHasDeletedIsGone() throws Exception {
        livekit.apiStatuses.add(404);
        deleted(true);
        assertEquals(List.of("DeleteRoom a room"), livekit.asked);
    }

    @Test
    void aRoomThatCouldNotBeDeletedIsTriedAgainButNoLongerWithoutAsking() throws Exception {
        livekit.rooms.put("a room", "RM_1");
        livekit.apiStatuses.addAll(List.of(500, 200));      // 200: no rooms
        deleted(true);
        assertEquals(List.of("DeleteRoom a room", "ListRooms"), livekit.asked);
    }

    @Test
    void aServerThatDoesNotSayWhichRoomsThereAreIsAskedAgain() throws Exception {
        livekit.rooms.put("a room", "RM_1");
        livekit.apiStatuses.add(500);
        deleted(false);
        assertEquals(List.of("ListRooms", "ListRooms", "DeleteRoom a room"), livekit.asked);
    }

    // A call whose process has died.

    private static final Party OF_THE_DEAD = new Party("AJ_1", "a room", "RM_1", PHONE, CALLED,
            "inbound", null, null);

    private static ParticipantInfo.Builder otherAgent(String identity, String name) {
        return who(identity, "PA_" + identity, Kind.AGENT, "lk.agent.name", name);
    }

    @Test
    void aCallerWhomADeadProcessHasLeftAloneIsHungUp() throws Exception {
        livekit.rooms.put("a room", "RM_1");
        livekit.apiStatuses.addAll(List.of(0, 500));        // it does not say who is there
        livekit.listed.addAll(List.of(who("phone", "PA_1", Kind.SIP), who("rec", "", Kind.EGRESS),
                CallerTest.hidden("monitor"),
                who("sip_2", "PA_2", Kind.SIP, "sip.callStatus", "dialing"),
                otherAgent("agent-AJ_1", "an-agent"), otherAgent("agent-AJ_2", "a recorder")));
        worker.rooms().deleteAbandoned(OF_THE_DEAD).get(60, TimeUnit.SECONDS);
        assertEquals(List.of("ListRooms", "ListParticipants", "ListRooms", "ListParticipants",
                "DeleteRoom a room"), livekit.asked);

        livekit.asked.clear();
        livekit.rooms.put("a room", "RM_2");
        worker.rooms().deleteAbandoned(OF_THE_DEAD).get(60, TimeUnit.SECONDS);
        assertEquals(List.of("ListRooms"), livekit.asked, "a room of another call");
    }

    @Test
    void aCallerWhoIsNotAloneAfterOurDeathIsLeftToWhoIsThere() throws Exception {
        livekit.rooms.put("a room", "RM_1");
        for (var other : List.of(who("colleague", "PA_2", Kind.STANDARD),
                who("sip_2", "PA_2", Kind.SIP), otherAgent("agent-AJ_2", "an-agent"))) {
            livekit.asked.clear();
            livekit.listed.clear();
            livekit.listed.addAll(List.of(who("phone", "PA_1", Kind.SIP), other));
            worker.rooms().deleteAbandoned(OF_THE_DEAD).get(60, TimeUnit.SECONDS);
            assertEquals(List.of("ListRooms", "ListParticipants"), livekit.asked, "" + other);
        }
    }
}
