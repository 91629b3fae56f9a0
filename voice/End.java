package voice;

import module java.base;

/// How a call ended. `reason` is one of README's words. `cause` is what was broken, or null. `by`
/// is who ended the call: `caller`, `agent`, `model`, `room` or `worker`. `answered` is null when
/// nobody has answered.
///
/// `dialled` says that the agent made the call, or was to make it; `sipCode` is what SIP said to
/// that, or null. `transferredTo` is a destination's name, or null. `hungUp` completes when the
/// caller is off the line.
public record End(String reason, String cause, String by, Instant started, Instant answered,
                  Instant ended, boolean dialled, Integer sipCode, String transferredTo,
                  CompletableFuture<Void> hungUp) {

    /// The end of a call whose process died in it. `lastSeen` is the last sign of life.
    public static End died(Instant started, Instant lastSeen, CompletableFuture<Void> hungUp) {
        return new End("agent_died", null, "worker", started, null,
                lastSeen.isBefore(started) ? started : lastSeen, false, null, null, hungUp);
    }

    /// From the join on, ringing included.
    public Duration length() {
        return Duration.between(started, ended);
    }
}
