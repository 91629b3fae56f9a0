package voice;

import module java.base;

/// What a Session can do with a call: join it, pick up, dial, transfer, hang up, and so on.
/// room.Room is the Line of a call from LiveKit. demo.WebPhone is that of a call from the demo's
/// page, demo.Console that of a typed call, and start.Rehearsal that of a call with nobody.
///
/// A method returns at once, does not throw, and is for the call's own thread, unless it says
/// otherwise.
public interface Line {

    /// The call's id, known from the first moment to the last.
    String id();

    /// The name of the [room](https://docs.livekit.io/intro/basics/rooms-participants-tracks/) in
    /// which the call takes place.
    String room();

    /// The room's own id: another room may have the same name later.
    String roomSid();

    /// The metadata of the dispatch, as its sender wrote it; "" for none.
    String metadata();

    /// Everything that happens on this call.
    Mailbox mailbox();

    /// What the caller hears.
    Speaker speaker();

    /// Nobody has given us this call, or another agent has it.
    final class NotOurs extends IOException {
        private static final long serialVersionUID = 1;

        public NotOurs(String why) {
            super(why);
        }
    }

    /// Joins the room, before anybody has picked up. Blocks, 20 s at most. `number` is whom we are
    /// going to dial (E.164): only that phone is then the caller. It is null when somebody calls
    /// us. The caller is then the participant with this `identity`. If that is "", whoever comes
    /// is the caller. If it is null, nobody is. Throws a NotOurs when the call is not ours, and
    /// another IOException when its room cannot be joined.
    void join(String number, String identity) throws IOException, InterruptedException;

    /// Dials the number that `join` was given, on that outbound trunk of LiveKit's. CallerJoined
    /// follows. When the phone is answered, CallerAnswered follows, and then what `pickUp` says. If
    /// it is not, DialFailed follows.
    void dial(String trunk);

    /// The other party's number, as the telephone network gives it, or null. Known once
    /// CallerJoined has come.
    String number();

    /// The number that the caller has dialled, or null. Known once CallerJoined has come.
    String calledNumber();

    /// The Call-ID that the trunk has given to the telephone call (`sip.callIDFull`), or null.
    /// Known once CallerJoined has come; if we have dialled, once CallerAnswered has come.
    String sipCallId();

    /// LiveKit's own id of the telephone call (`sip.callID`), or null. Known once CallerJoined has
    /// come.
    String sipId();

    /// Is the caller on a phone? Only a phone can be transferred.
    boolean onPhone();

    /// Answers the phone. Subscribed follows if our sound comes to somebody. CallerHears follows as
    /// soon as the line knows that the caller can hear us.
    void pickUp();

    /// Hands the caller's sound to `ear` from now on: 24 kHz, 16 bit little endian, mono, in pieces
    /// of 10 ms. Where there is sound at all, it never pauses: silence is handed on, too. `ear`
    /// runs on threads that all calls share, so it must not wait. It gets the same array each time,
    /// so it must use the sound at once.
    void listen(Consumer<byte[]> ear);

    /// Sets attributes of the agent that everybody in the room can read. LiveKit's clients look at
    /// `lk.agent.state`.
    void show(Map<String, String> attributes);

    /// Shows everybody in the room, in writing, a piece of what is said: by the agent (`agents`) or
    /// by the caller. What is `last` completes the segment, and is the whole of it. That may be
    /// less than what was shown before, because the caller has not heard the rest.
    void caption(boolean agents, String segment, String text, boolean last);

    /// Sends the caller's phone to a `tel:` or `sip:` address, by one SIP REFER. The call goes on
    /// meanwhile. Transferred or TransferFailed follows, after 45 s at the latest.
    void transfer(String to);

    /// Ends the call for the caller, too. A phone that we have dialled is hung up at once, and
    /// anybody else as soon as `Program.takeCall` returns. To leave the room is not enough: a phone
    /// would stay connected, and its caller would hear nothing. The future completes when the
    /// caller is off the line. It fails when that takes more than a minute.
    CompletableFuture<Void> hangUp();
}
