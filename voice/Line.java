package voice;

import module java.base;

/// Where a call comes in: Room for those from LiveKit, WebPhone for the demo's page, its Console
/// for one that is typed. `Agent.answer` knows no more of a call than this.
///
/// Unless it says otherwise a method returns at once, does not throw, and is for the call's own
/// thread.
public interface Line {

    /// The call's id, known from the first moment to the last.
    String id();

    /// The name of the room the call takes place in.
    String room();

    /// The room's own id: there may be another of its name later.
    String roomSid();

    /// What the call was dispatched with: as written by whoever did it, "" for nothing.
    String metadata();

    /// Everything that happens on this call.
    Mailbox mailbox();

    /// What the caller hears.
    Speaker speaker();

    /// Comes into the room, while the phone still rings. Blocks, 20 s at most. `number` is whom we
    /// are going to dial (E.164) and nobody else is then the caller; null when we are called.
    void join(String number) throws IOException, InterruptedException;

    /// Dials the number that `join` was given, on that trunk of LiveKit's. CallerJoined and, when
    /// it is answered, CallerHears follow, or DialFailed.
    void dial(String trunk);

    /// The other party's number as the telephone network gives it, or null; known once
    /// CallerJoined has come.
    String number();

    /// The number that the caller has dialled, or null; known once CallerJoined has come.
    String calledNumber();

    /// The SIP Call-ID, or null; known once CallerJoined has come.
    String sipCallId();

    /// Is the caller on a phone? Nobody else can be transferred.
    boolean onPhone();

    /// Answers: from here on the caller can hear us, which `Event.CallerHears` confirms.
    void pickUp();

    /// Hands the caller's sound to `ear` from now on: 24 kHz, 16 bit little endian, mono, in
    /// pieces of 10 ms. `ear` runs on a thread of WebRTC's that all calls share: it must not wait.
    /// It is the same array each time: to be used at once.
    void listen(Consumer<byte[]> ear);

    /// Lets everybody in the room know something of us, by name: `lk.agent.state` is what
    /// LiveKit's clients look at.
    void show(Map<String, String> attributes);

    /// Writes along for whoever looks on: a piece of what the agent says or, when not `agents`,
    /// the caller; `last` completes the segment.
    void caption(boolean agents, String segment, String text, boolean last);

    /// Sends the caller's phone to a `tel:` or `sip:` address (a SIP REFER), once. The call goes
    /// on meanwhile; Transferred or TransferFailed follows, after 45 s at the latest.
    void transfer(String to);

    /// Ends the call for the caller too: at once for somebody we have dialled, otherwise as soon
    /// as `answer` returns. Merely leaving is not enough: a phone would stay connected, to silence.
    /// Completes when it is done; exceptionally when that could not be achieved within a minute.
    CompletableFuture<Void> hangUp();
}
