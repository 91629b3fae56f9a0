package voice;

/// Everything that can happen to a call: on the line, at the model, in time.
///
/// Whoever notices it (Room, Realtime, an alarm) posts it to the call's Mailbox; the call's own
/// thread takes it from there. Sound is not an event: it takes the short way, past the mailbox.
public sealed interface Event {

    // On the line.

    /// The caller is in the room: a phone that rings, or somebody with a browser.
    record CallerJoined() implements Event {}

    /// The caller can hear us: the phone was answered, or the browser has our track.
    record CallerHears() implements Event {}

    /// The caller left; `why` is LiveKit's disconnect reason.
    record CallerLeft(String why) implements Event {}

    /// The room is gone, or our connection to it.
    record LineLost(String why) implements Event {}

    /// The worker is being stopped and wants the call to end.
    record Stop() implements Event {}

    // At the model.

    /// The first sound of a sentence has arrived and waits in the Speaker.
    record AgentSpeaks() implements Event {}

    /// What the agent has said, in writing. It may have been interrupted before the end.
    record AgentSaid(String text) implements Event {}

    /// The model hears that the caller has begun to speak.
    record CallerSpeaks() implements Event {}

    /// What the caller has said, in writing; only when a transcription model is set.
    record CallerSaid(String text) implements Event {}

    /// The model calls a function tool. `arguments` is what the model wrote: usually JSON.
    record ToolCalled(String callId, String name, String arguments) implements Event {}

    /// The conversation cannot go on: refused, cut off, unreachable.
    record ModelLost(String why) implements Event {}

    // In time, and from the call itself.

    /// An alarm set with `Mailbox.alarm` rings.
    record Alarm(String name) implements Event {}

    /// What the program on top posts to itself: work it has had done elsewhere comes back so.
    record Own(Object what) implements Event {}
}
