package voice;

import module java.base;

/// Everything that can happen to a call: on the line, at the model, or because a time has come.
///
/// Whoever notices an event (the Line, Realtime, the program) posts it to the call's Mailbox. The
/// call's own thread takes it from there. The Mailbox itself makes the event of an alarm. Sound is
/// not an event, and does not go through the mailbox.
public sealed interface Event {

    // On the line.

    /// The caller is in the room: a phone that rings, or a person with a browser.
    record CallerJoined() implements Event {}

    /// Somebody in the room receives our sound. It may be LiveKit's SIP service, whose phone still
    /// rings.
    record Subscribed() implements Event {}

    /// The caller can hear us: the phone was answered, or the browser has subscribed to our track.
    record CallerHears() implements Event {}

    /// The person whom we have called has picked up.
    record CallerAnswered() implements Event {}

    /// The caller left. `why` is LiveKit's word for the reason:
    /// https://docs.livekit.io/reference/client-sdk-node/enums/DisconnectReason.html
    record CallerLeft(String why) implements Event {}

    /// The connection of the caller to the room was lost, or another one takes its place. That is
    /// not to say that they have hung up: they may come back, with CallerBack. `why` as above.
    record CallerLost(String why) implements Event {}

    /// The caller is in the room again, on another connection. CallerLost need not have come
    /// before.
    record CallerBack() implements Event {}

    /// The caller pressed a key of the phone: 0-9, *, # or A-D.
    record KeyPressed(String key) implements Event {}

    /// The caller wrote something, instead of saying it.
    record CallerWrote(String text) implements Event {}

    /// `Line.dial` came to nothing.
    record DialFailed(Refusal why) implements Event {}

    /// `Line.transfer` has worked: the caller's phone is where it was sent, and leaves the room.
    record Transferred() implements Event {}

    /// `Line.transfer` has not worked; or, if `why.unknown()`, nobody knows whether it has.
    record TransferFailed(Refusal why) implements Event {}

    /// Why LiveKit did not do what we asked for. `http` is LiveKit's HTTP status, or 0 for no
    /// answer at all. If the other side has refused, `code` and `status` are SIP's status code and
    /// its words. Otherwise `code` is 0, and `status` says what is known.
    record Refusal(int http, int code, String status) {

        /// Nobody can say: it may have happened, and it may still happen.
        public boolean unknown() {
            return http == 0 || http == 408;
        }

        @Override
        public String toString() {
            return (code != 0 ? "SIP " + code + " " : http != 0 ? "HTTP " + http + " " : "")
                    + Log.foreign(status);
        }
    }

    /// LiveKit has closed the room, because nobody but us has been in it for a while.
    record RoomClosed(String why) implements Event {}

    /// The room, or our connection to it, is gone for good.
    record LineLost(String why) implements Event {}

    /// LiveKit has taken us out of the room. Somebody else is there with the caller, and has the
    /// call now.
    record TakenOver(String why) implements Event {}

    /// The program is going to be stopped. A caller who is talking to us is to hear a goodbye.
    record TimeIsUp() implements Event {}

    /// The program is being stopped, and wants the call to end.
    record Stop() implements Event {}

    // At the model.

    /// The first sound of an item has arrived, and waits in the Speaker.
    record AgentSpeaks(String itemId) implements Event {}

    /// A piece of what the agent says, in writing. It often comes before the caller hears the
    /// sound.
    record AgentSays(String itemId, String text) implements Event {}

    /// What the caller has heard of one item, in writing; "" for nothing. It comes when they have
    /// heard the item to its end, or to where it was broken off. (An item without sound is whole.)
    record AgentSaid(String itemId, String text) implements Event {}

    /// The model hears that the caller has begun to speak.
    record CallerSpeaks(String itemId) implements Event {}

    /// Another connection to the model hears once more what the caller has said before it.
    record CallerHeardAgain(String itemId) implements Event {}

    /// What the caller has said, in writing. It comes only when a transcription model is set.
    record CallerSaid(String itemId, String text) implements Event {}

    /// The model calls a function tool. `arguments` is what the model wrote: usually JSON.
    record ToolCalled(String callId, String name, String arguments) implements Event {}

    /// Somebody has begun or stopped to speak or to think. Speaker and Realtime know who.
    record TurnChanged() implements Event {}

    /// The connection to the model is of no use any more. Realtime is going to make another one.
    /// For the time `waited` the caller has had no answer already, because the model did not notice
    /// that they have spoken. It is zero if the connection has failed in another way.
    record ModelAway(String why, Duration waited) implements Event {}

    /// The model has failed. Whoever reads the mailbox calls `Realtime.tryAgain` after that time.
    record TryAgainIn(Duration pause) implements Event {}

    /// The other connection is there, and the conversation goes on.
    record ModelBack() implements Event {}

    /// There is no other connection: the conversation cannot go on.
    record ModelLost(String why) implements Event {}

    // In time, and from the call itself.

    /// The time of an alarm has come that was set with `Mailbox.alarm`.
    record AlarmDue(Mailbox.Alarm which) implements Event {}

    /// What the program on top posts to itself: the result of work that was done elsewhere.
    record Posted(Object what) implements Event {}
}
