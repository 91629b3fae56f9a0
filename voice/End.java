package voice;

import module java.base;

/// How a call ended. docs/contract.md explains the words for `reason`. `cause` is what was broken,
/// or null. `by` is who ended the call: `caller`, `agent`, `model`, `room` or `worker`. `answered`
/// is null when nobody has answered.
///
/// `dialled` says that the agent made the call, or was to make it. `sipCode` is SIP's answer to
/// such a call, or null. `transferredTo` is a destination's name, or null. `hungUp` completes when
/// the caller is off the line.
public record End(String reason, String cause, String by, Instant started, Instant answered,
                  Instant ended, boolean dialled, Integer sipCode, String transferredTo,
                  CompletableFuture<Void> hungUp) {

    /// The end of a call in which the process has died. `lastSeen` is its last sign of life.
    public static End died(Instant started, Instant lastSeen, CompletableFuture<Void> hungUp) {
        return new End("agent_died", null, "worker", started, null,
                lastSeen.isBefore(started) ? started : lastSeen, false, null, null, hungUp);
    }

    /// The time since the agent joined the room, ringing included.
    public Duration length() {
        return Duration.between(started, ended);
    }
}
