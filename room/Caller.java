package room;

import module java.base;
import livekit.LivekitModels.*;
import livekit.LivekitRtc.*;
import voice.Event;

/// The caller of one call: which
/// [participant](https://docs.livekit.io/intro/basics/rooms-participants-tracks/participants/)
/// of the room it is, what LiveKit says about that participant, which of its
/// [tracks](https://docs.livekit.io/intro/basics/rooms-participants-tracks/tracks/) we listen to,
/// when it hears us, when it has left, and when its connection is lost. Each change is posted to
/// the call's mailbox. A person whom we have dialled is also called the caller. This class also
/// knows who else is there: other persons, or another agent that has the call.
///
/// Room makes one. Everything here runs on the room's thread, except what is marked for any thread.
///
/// A phone is a participant of
/// [kind](https://docs.livekit.io/intro/basics/rooms-participants-tracks/participants/) SIP or
/// CONNECTOR. What LiveKit knows about the telephone call stands in its
/// [attributes](https://docs.livekit.io/reference/telephony/sip-participant/): `sip.phoneNumber`,
/// `sip.trunkPhoneNumber`, `sip.callIDFull`, `sip.callID`, and `sip.callStatus`, which is `active`
/// once the phone is answered and sends sound. A web client can choose any identity and can write
/// any attribute onto itself, but it cannot choose its kind. So the kind decides who is a phone.
///
/// Not handled: a second caller in the same room.
final class Caller {
    private static final Duration REST_OF_LIST = Duration.ofSeconds(2);

    private final Room room;

    private volatile String dialledNumber;                  // null when we are called
    private volatile String named = "";                     // the caller's; "": any; null: nobody's
    private ParticipantInfo us = ParticipantInfo.getDefaultInstance();
    private volatile ParticipantInfo participant;           // null until the caller is there
    private boolean lost;                                   // reported as Event.CallerLost
    private volatile boolean hasLeft;                       // reported as Event.CallerLeft
    private final Map<String, ParticipantInfo> persons = new ConcurrentHashMap<>(); // by identity
    private String track = "";                              // sid of the one we listen to
    private int lastPacket;                                 // number of its last data packet
    private Map<String, ParticipantInfo> listed;            // by sid; null: no list is coming
    private boolean activeBeforePickUp;                     // the phone was active before pick-up
    private boolean answerReported;                         // as Event.CallerAnswered
    private boolean hearingReported;                        // as Event.CallerHears

    private volatile boolean onPhone;
    private volatile String number;
    private volatile String calledNumber;
    private volatile String sipCallId;
    private volatile String sipId;

    Caller(Room room) {
        this.room = room;
    }

    /// We are going to dial this number, so only the participant with it is the caller. It is null
    /// when somebody calls us. The caller is then the participant with this identity, or, if that
    /// is "", whoever comes, or, if that is null, nobody. Room calls this before it joins.
    void willBe(String number, String identity) {
        dialledNumber = number;
        named = identity;
    }

    /// The number that `willBe` was given, or null. Any thread.
    String dialledNumber() {
        return dialledNumber;
    }

    /// The identity that the dialled phone has in the room. It means something only when a number
    /// is to be dialled. Any thread.
    String dialledIdentity() {
        return "sip_" + dialledNumber;
    }

    // What Line has, too. Any thread.

    boolean onPhone() { return onPhone; }
    String number() { return number; }
    String calledNumber() { return calledNumber; }
    String sipCallId() { return sipCallId; }
    String sipId() { return sipId; }

    // Who is there.

    /// The caller's identity in the room, or "" when nobody has come yet. Any thread.
    String identity() {
        ParticipantInfo now = participant;
        return now == null ? "" : now.getIdentity();
    }

    /// Has the caller left because they, or somebody else, wanted that? Any thread.
    boolean hasLeft() {
        return hasLeft;
    }

    /// Is a person there who is not the caller? If the caller has not come, then a phone that is
    /// alone is with nobody, unless we have dialled for it. Any thread.
    boolean isWithSomebody() {
        return isWithSomebody(persons.values());
    }

    /// The same, if these participants are in the room.
    boolean isWithSomebody(Collection<ParticipantInfo> all) {
        String caller = identity();
        var others = all.stream().filter(Caller::isCompany)
                .filter(one -> !one.getIdentity().equals(caller)).toList();
        return others.size() > 1 || others.size() == 1 && (!caller.isEmpty()
                || dialledNumber != null || !isPhone(others.getFirst()));
    }

    /// We are in the room, as this participant.
    void weAre(ParticipantInfo agent) {
        us = agent;
    }

    /// These participants were in the room when we joined it. A phone goes before anybody else.
    void foundInRoom(List<ParticipantInfo> others) {
        others.stream().sorted(Comparator.comparing(other -> !isPhone(other)))
                .forEach(this::update);
    }

    /// LiveKit has news of these participants. `ourSid` is the agent's own sid.
    void update(List<ParticipantInfo> participants, String ourSid) {
        participants.forEach(this::update);
        if (listed == null) {
            return;
        }
        participants.forEach(one -> listed.put(one.getSid(), one));
        if (participants.stream().anyMatch(one -> one.getSid().equals(ourSid))) {
            var all = listed;
            room.workAfter(REST_OF_LIST, () -> {
                if (listed == all && room.signalling().inSession()) {
                    onlyTheseAreThere(all.values().stream().filter(one ->
                            one.getState() != ParticipantInfo.State.DISCONNECTED).toList());
                }
            });
        }
    }

    /// The connection was lost, and is back. A list of all participants comes, with us among them.
    /// It may come in several updates, and other news may come between these. So whoever is named
    /// from now on counts as listed, until a moment after we were named. What LiveKit says only
    /// once is lost: that somebody has subscribed to our track.
    void listIsComing() {
        listed = new HashMap<>();
        boolean rings = dialledNumber == null && isPhone(participant)
                && !List.of("", "active").contains(callStatus());
        if (!room.ourTrack().getSid().isEmpty() && !rings) {
            room.mailbox().post(new Event.Subscribed());
        }
    }

    /// Only these participants are in the room. If the caller is not one of them, the caller has
    /// left while our connection was lost.
    void onlyTheseAreThere(List<ParticipantInfo> all) {
        listed = null;
        persons.keySet().retainAll(all.stream().map(one -> one.getIdentity()).toList());
        if (participant != null && all.stream().noneMatch(this::isCaller)) {
            left(DisconnectReason.UNKNOWN_REASON, participant);
        }
    }

    /// LiveKit has news of this participant.
    void update(ParticipantInfo news) {
        count(news);
        if (hasTheCall(news)) {
            room.leaveToOthers("another agent of this name is in the room, and was first");
            return;
        }
        boolean known = isCaller(news);
        boolean same = participant != null && news.getSid().equals(participant.getSid());
        if (news.getState() == ParticipantInfo.State.DISCONNECTED) {
            // With another sid it is an older connection of the caller, who has come back under the
            // same identity before LiveKit took the older one out of the room. The sid alone says
            // so: when somebody else has taken the identity, LiveKit leaves out the kind here.
            if (same && !room.ended()) {
                left(news.getDisconnectReason(), news);
                participant = participant.toBuilder().setVersion(news.getVersion()).build();
            }
            return;
        }
        if (same && news.getVersion() < participant.getVersion()) {
            return; // later news has come before this
        }
        if (!known && !becomesCaller(news)) {
            if (participant != null && news.getIdentity().equals(identity())) {
                left(DisconnectReason.DUPLICATE_IDENTITY, news); // LiveKit need not say it to us
            }
            return;
        }
        participant = news;
        lastPacket = same ? lastPacket : 0;
        onPhone = news.getKind() == ParticipantInfo.Kind.SIP;
        number = attribute("sip.phoneNumber");
        calledNumber = attribute("sip.trunkPhoneNumber");
        sipCallId = attribute("sip.callIDFull");
        sipId = attribute("sip.callID");
        if (!known) {
            room.mailbox().post(new Event.CallerJoined());
        }
        if (lost || known && !same) {
            room.mailbox().post(new Event.CallerBack());    // or another caller, in their place
        }
        lost = false;
        subscribe();
        if (dialledNumber != null && callStatus().equals("active")) {
            answered();
        }
        if (room.pickedUp() && !activeBeforePickUp && callStatus().equals("active")) {
            reportHearing();
        }
    }

    /// Is this participant the caller, perhaps on a new connection? A web client that takes a
    /// phone's identity is not. LiveKit then takes the phone out of the room.
    private boolean isCaller(ParticipantInfo one) {
        return participant != null && one.getIdentity().equals(identity())
                && one.getKind() == participant.getKind();
    }

    /// Is this participant the caller from now on? When we dial, only the dialled phone is. When
    /// somebody calls us, the dispatch may have named the caller. Otherwise a browser becomes the
    /// caller if nobody is the caller yet. A phone becomes the caller even if a browser is it
    /// already, until we listen to that browser.
    private boolean becomesCaller(ParticipantInfo other) {
        if (dialledNumber != null) {
            return isPhone(other) && other.getIdentity().equals(dialledIdentity());
        }
        if (named == null) {
            return false;
        }
        if (!named.isEmpty()) {
            return participant == null && other.getIdentity().equals(named);
        }
        return participant == null
                ? isPhone(other) || other.getKind() == ParticipantInfo.Kind.STANDARD
                : isPhone(other) && !isPhone(participant) && room.ear() == null;
    }

    /// The caller is not in the room any more. Some reasons say that they, or somebody else, wanted
    /// that. All others mean that their connection was lost, or that the same person has another
    /// one now, as after a reload of their browser. They may come back under the same identity. A
    /// phone that has hung up does not come back, whatever the reason is.
    private void left(DisconnectReason why, ParticipantInfo news) {
        switch (why) {
            case ROOM_DELETED, ROOM_CLOSED, SERVER_SHUTDOWN -> room.lost("the room ended: " + why);
            case CLIENT_INITIATED, PARTICIPANT_REMOVED, USER_UNAVAILABLE, USER_REJECTED,
                    SIP_TRUNK_FAILURE -> reportLeft(why);
            default -> {
                if (isPhone(participant) && news.getAttributesOrDefault(
                        "sip.callStatus", callStatus()).equals("hangup")) {
                    reportLeft(why);
                } else if (!lost) {
                    lost = true;
                    room.mailbox().post(new Event.CallerLost(why.name()));
                }
            }
        }
    }

    private void reportLeft(DisconnectReason why) {
        hasLeft = true;
        room.mailbox().post(new Event.CallerLeft(why.name()));
    }

    // Who else is there.

    /// Remembers who of the participants is a person.
    private void count(ParticipantInfo news) {
        boolean there = news.getState() != ParticipantInfo.State.DISCONNECTED;
        persons.compute(news.getIdentity(), (_, known) -> there
                ? isCompany(news) ? news : null
                : known == null || known.getSid().equals(news.getSid()) ? null : known);
    }

    /// Is this a person with whom a caller can talk? A phone that still rings is not, and neither
    /// is somebody whom nobody in the room can see.
    static boolean isCompany(ParticipantInfo one) {
        boolean rings = isPhone(one) && List.of("dialing", "ringing").contains(
                one.getAttributesOrDefault("sip.callStatus", ""));
        return !rings && !one.getPermission().getHidden()
                && (isPhone(one) || one.getKind() == ParticipantInfo.Kind.STANDARD);
    }

    /// A room that was dispatched twice has two agents of our name. Is this the other one, and was
    /// it here before us? (A session of our own from before a lost connection has our identity.)
    private boolean hasTheCall(ParticipantInfo other) {
        return other.getKind() == ParticipantInfo.Kind.AGENT
                && other.getState() != ParticipantInfo.State.DISCONNECTED
                && !other.getIdentity().equals(us.getIdentity())
                && other.getAttributesOrDefault("lk.agent.name", "").equals(room.agentName())
                && other.getAttributesOrDefault("call.reason", "").isEmpty()    // its call goes on
                && Comparator.comparingLong(ParticipantInfo::getJoinedAt)
                        .thenComparingLong(ParticipantInfo::getJoinedAtMs)
                        .thenComparing(ParticipantInfo::getSid).compare(other, us) < 0;
    }

    private static boolean isPhone(ParticipantInfo participant) {
        return participant != null && (participant.getKind() == ParticipantInfo.Kind.SIP
                || participant.getKind() == ParticipantInfo.Kind.CONNECTOR);
    }

    /// What LiveKit says about the telephone call, or null.
    private String attribute(String name) {
        String value = isPhone(participant) ? participant.getAttributesMap().get(name) : null;
        return value == null || value.isBlank() ? null : value;
    }

    private String callStatus() {
        return Objects.requireNonNullElse(attribute("sip.callStatus"), "");
    }

    // When the caller hears us.

    /// The phone that we have dialled is answered. Its `sip.callStatus` says so, or the answer to
    /// our request to dial.
    void answered() {
        if (!answerReported) {
            answerReported = true;
            room.mailbox().post(new Event.CallerAnswered());
        }
    }

    /// We are about to publish our track. When we do that, LiveKit's SIP service answers a phone.
    void willBePickedUp() {
        activeBeforePickUp = callStatus().equals("active");
    }

    /// Somebody has subscribed to our track. LiveKit does not say who, so we take them for the
    /// caller. But if a phone still rings, that was LiveKit's SIP service, which subscribes before
    /// the answer, too.
    void trackSubscribed() {
        boolean rings = dialledNumber != null ? !answerReported
                : isPhone(participant) && !activeBeforePickUp && !callStatus().isEmpty();
        if (rings) {
            room.mailbox().post(new Event.Subscribed());
        } else {
            reportHearing();
        }
    }

    private void reportHearing() {
        if (!hearingReported) {
            hearingReported = true;
            room.mailbox().post(new Event.CallerHears());
        }
    }

    // What we hear of the caller.

    /// The sid of the caller's track that we listen to, or "" for none.
    String track() {
        return track;
    }

    /// We have left the room and join it again: no track is subscribed any more.
    void noTrackIsSubscribed() {
        track = "";
    }

    /// Subscribes to the caller's microphone, and to nothing else: we have joined the room without
    /// [automatic subscription](https://docs.livekit.io/transport/media/subscribe/). Some clients
    /// do not say what their only track is, so any audio track will do when none is a microphone.
    /// LiveKit names the tracks in any order. So of two that are alike, it stays the one it is.
    private void subscribe() {
        String wanted = participant.getTracksList().stream()
                .filter(one -> one.getType() == TrackType.AUDIO
                        && one.getSource() != TrackSource.SCREEN_SHARE_AUDIO)
                .min(Comparator.comparing((TrackInfo one) ->
                                one.getSource() != TrackSource.MICROPHONE)
                        .thenComparing(TrackInfo::getMuted)
                        .thenComparing(one -> !one.getSid().equals(track)))
                .map(TrackInfo::getSid).orElse("");
        if (!wanted.equals(track)) {
            if (!track.isEmpty()) {
                subscription(track, false);
            }
            if (!wanted.isEmpty()) {
                subscription(wanted, true);
            }
            track = wanted;
        }
    }

    private void subscription(String sid, boolean wanted) {
        room.signalling().send(SignalRequest.newBuilder().setSubscription(
                UpdateSubscription.newBuilder().addTrackSids(sid).setSubscribe(wanted)));
    }

    /// Is this data packet to be read? It must be the caller's, and not of somebody who has taken
    /// their identity. It must also be new, because a packet may come again after a lost
    /// connection. Its number says whether it is new.
    boolean accepts(DataPacket packet) {
        String sid = packet.getParticipantSid();            // older servers leave it out
        if (participant == null || !packet.getParticipantIdentity().equals(identity())
                || !sid.isEmpty() && !sid.equals(participant.getSid())
                || packet.getSequence() != 0 && packet.getSequence() <= lastPacket) {
            return false;
        }
        lastPacket = packet.getSequence();
        return true;
    }
}
