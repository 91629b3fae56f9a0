package voice;

/// What a Session leaves to the program on top of it: a decision, or something to report.
public sealed interface Step {

    /// Somebody is there, or is about to be dialled: who is it? `Session.begin` says so. After 3 s
    /// the phone is answered all the same. Comes again when a phone joins after somebody else.
    record Ringing() implements Step {}

    /// The model calls a function tool. `Session.answer` has the answer, at any later time.
    record ToolCalled(String id, String name, String arguments) implements Step {}

    /// The caller has pressed these keys of the phone. There is a space between two of them.
    record KeysPressed(String keys) implements Step {}

    /// It is the caller's turn, and they have said nothing for `Options.silence`. `again`: and they
    /// said nothing when this step came before.
    record Silent(boolean again) implements Step {}

    /// The caller has been put through to that destination.
    record Transferred(String to) implements Step {}

    /// The caller has not been put through, and the call goes on.
    record TransferFailed(String to, Event.Refusal why) implements Step {}

    /// Nobody knows whether the transfer works. Transferred follows when the caller leaves; nothing
    /// follows when they speak to the agent again.
    record TransferUnknown(String to) implements Step {}

    /// What the program on top has handed to `Session.post`.
    record Posted(Object what) implements Step {}
}
