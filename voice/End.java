package voice;

import module java.base;

/// How a call ended. docs/contract.md explains the words for `reason`. `cause` is what was broken,
/// or null. `by` is who ended the call: `caller`, `agent`, `model`, `room` or `worker`. `answered`
/// is null when nobody has answered.
///
/// `sipCode` is SIP's answer to a call that we made, or null. `transferredTo` is a destination's
/// name, or null. `model` is the name of the model that was to talk. `usage` is null when the
/// service has not reported any. `hungUp` completes when the caller is off the line.
public record End(String reason, String cause, String by, Instant started, Instant answered,
                  Instant ended, Integer sipCode, String transferredTo, String model, Usage usage,
                  Transcript transcript, CompletableFuture<Void> hungUp) {
    /// How a time is reported: in UTC, with milliseconds, also if these are .000.
    public static final DateTimeFormatter MILLIS =
            new DateTimeFormatterBuilder().appendInstant(3).toFormatter();

    private static final String DIED = "agent_died";

    /// Cuts the times to milliseconds. So a length is the difference of two times as they are
    /// reported.
    public End {
        started = started.truncatedTo(ChronoUnit.MILLIS);
        answered = answered == null ? null : answered.truncatedTo(ChronoUnit.MILLIS);
        ended = ended.truncatedTo(ChronoUnit.MILLIS);
    }

    /// The end of a call in which the process has died. `lastSeen` is its last sign of life. Nobody
    /// knows the rest: `answered`, `model`, `usage` and `transcript` are null.
    public static End died(Instant started, Instant lastSeen, CompletableFuture<Void> hungUp) {
        return new End(DIED, null, "worker", started, null, lastSeen.isBefore(started) ? started
                : lastSeen, null, null, null, null, null, hungUp);
    }

    /// The time since the agent joined the room, ringing included.
    public Duration length() {
        return Duration.between(started, ended);
    }

    /// The time since the answer. ZERO when nobody has answered, and null when that is not known.
    public Duration talk() {
        return answered != null ? Duration.between(answered, ended)
                : reason.equals(DIED) ? null : Duration.ZERO;
    }
}
