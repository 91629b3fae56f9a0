package voice;

import module java.base;

/// Where a call comes in. room.Room is the line of a call from LiveKit, demo.WebPhone of a call
/// from the demo's page, and demo.Console of a call that is typed. Session knows no more of a call.
///
/// Unless a method says otherwise, it returns at once, does not throw, and is for the call's own
/// thread.
public interface Line {

    /// The call's id, known from the first moment to the last.
    String id();

    /// The name of the [room](https://docs.livekit.io/intro/basics/rooms-participants-tracks/) in
    /// which the call takes place.
    String room();

    /// The room's own id: another room may have the same name later.
    String roomSid();

    /// What the call was dispatched with, as its sender wrote it; "" for nothing.
    String metadata();

    /// Everything that happens on this call.
    Mailbox mailbox();

    /// What the caller hears.
    Speaker speaker();

    /// Comes into the room, while the phone still rings. Blocks, 20 s at most. `number` is whom we
    /// are going to dial (E.164): then nobody else is the caller. It is null when we are called.
    void join(String number) throws IOException, InterruptedException;

    /// Dials the number that `join` was given, on that outbound trunk of LiveKit's. CallerJoined
    /// follows and, when the phone is answered, CallerHears; or DialFailed follows.
    void dial(String trunk);

    /// The other party's number, as the telephone network gives it, or null. Known once
    /// CallerJoined has come.
    String number();

    /// The number that the caller has dialled, or null. Known once CallerJoined has come.
    String calledNumber();

    /// The SIP Call-ID, or null. Known once CallerJoined has come.
    String sipCallId();

    /// Is the caller on a phone? Nobody else can be transferred.
    boolean onPhone();

    /// Answers the phone. From now on the caller can hear us; `Event.CallerHears` confirms it.
    void pickUp();

    /// Hands the caller's sound to `ear` from now on: 24 kHz, 16 bit little endian, mono, in pieces
    /// of 10 ms. `ear` runs on a thread of WebRTC's that all calls share, so it must not wait. It
    /// gets the same array each time, so it must use the sound at once.
    void listen(Consumer<byte[]> ear);

    /// Shows everybody in the room something of us, by name: LiveKit's clients look at
    /// `lk.agent.state`.
    void show(Map<String, String> attributes);

    /// Writes along, for whoever looks on: a piece of what the agent says or, when not `agents`, of
    /// what the caller says. `last` completes the segment.
    void caption(boolean agents, String segment, String text, boolean last);

    /// Sends the caller's phone to a `tel:` or `sip:` address (a SIP REFER), once. The call goes on
    /// meanwhile. Transferred or TransferFailed follows, after 45 s at the latest.
    void transfer(String to);

    /// Ends the call for the caller too: at once for somebody whom we have dialled, otherwise as
    /// soon as `Program.takeCall` returns. Merely leaving is not enough: a phone would stay
    /// connected, to silence. Completes when it is done; fails when that takes more than a minute.
    CompletableFuture<Void> hangUp();
}
