package voice;

/// What a Session leaves to the program: a decision, or something to report.
public sealed interface Step {

    /// A caller is there, or is about to be dialled. The program finds out who it is, and calls
    /// `Session.begin`. If it takes longer than 3 s, the session picks up before that. This step
    /// comes again when a phone joins after a browser.
    record Ringing() implements Step {}

    /// The model calls a function tool. The program gives the answer to `Session.answer`, at any
    /// time.
    record ToolCalled(String id, String name, String arguments) implements Step {}

    /// The caller has pressed these keys of the phone. There is a space between two of them.
    record KeysPressed(String keys) implements Step {}

    /// It is the caller's turn, and they have said nothing for `Options.silence`, and pressed no
    /// key. `again` means that this step has come before, and that nothing has come since then.
    record Silent(boolean again) implements Step {}

    /// The caller is here again, after their connection was lost. What the agent was saying then,
    /// and has said since, was broken off.
    record CallerBack() implements Step {}

    /// The call has lasted for as long as a call may, or the program is going to be stopped. The
    /// call ends when the caller has heard what the agent says now.
    record TimeIsUp() implements Step {}

    /// The caller has been put through to that destination.
    record Transferred(String to) implements Step {}

    /// The caller could not be put through. The call goes on, unless the caller has left.
    record TransferFailed(String to, Event.Refusal why) implements Step {}

    /// Nobody knows whether the transfer works. If the caller leaves within two minutes,
    /// Transferred follows. Nothing follows if they stay for longer, or if they say something, get
    /// an answer, and speak again.
    record TransferUnknown(String to) implements Step {}

    /// What the program on top has handed to `Session.post`.
    record Posted(Object what) implements Step {}
}
