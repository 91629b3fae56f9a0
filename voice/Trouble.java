package voice;

import module java.base;

/// A trouble with the model: how long to wait until the next try, and when the model is given up.
/// Realtime has one Trouble for each call, and holds its own lock when it calls a method.
///
/// Most troubles pass by themselves: a network that is away for a moment, a deploy, a rate limit.
/// So the model is tried again and again, for 8 s, with pauses that grow. Only what cannot pass is
/// given up at once: a key that is refused, an account without money, a model that does not exist.
///
/// What is not done here: Trouble does not wait. The call's thread does that (Event.TryAgainIn).
final class Trouble {
    private static final Duration GIVEN_UP_AFTER = Duration.ofSeconds(8);
    private static final Duration FIRST_PAUSE = Duration.ofMillis(300);
    private static final Duration LONGEST_PAUSE = Duration.ofSeconds(2);

    private static final Pattern TRY_AGAIN_IN = Pattern.compile("(?i)(?:try again|retry) "
            + "(?:in|after) (?:(\\d+)m(?!s) ?)?(?:(\\d+(?:\\.\\d+)?) ?(ms|s))?");

    /// What has gone wrong. `why` says it, for the log and for `cause`. It may pass by itself, or
    /// not (`passes`). The service asks us not to try again before `after` has passed.
    record Fault(String why, boolean passes, Duration after) {
        Fault(String why) {
            this(why, true, Duration.ZERO);
        }

        /// How long the service asks us to wait, in its words for people. Zero if it does not.
        static Duration tryAgainIn(String message) {
            var said = TRY_AGAIN_IN.matcher(message);
            double longest = 0;
            while (said.find()) {
                double ms = said.group(1) == null ? 0
                        : Double.parseDouble(said.group(1)) * 60_000;
                ms += said.group(2) == null ? 0 : Double.parseDouble(said.group(2))
                        * (said.group(3).equalsIgnoreCase("s") ? 1_000 : 1);
                longest = Math.max(longest, ms);
            }
            return Duration.ofMillis((long) longest);
        }
    }

    private boolean lasts;
    private long since;                         // nanoseconds of the call's clock
    private long latest;                        // the same, of the latest failure
    private Duration pause;                     // the next one
    private String first;                       // why the model has failed first

    /// Has the model failed, and been of no use since then?
    boolean lasts() {
        return lasts;
    }

    /// The model has been of use.
    void modelWorks() {
        lasts = false;
    }

    /// The model has worked since `then`, a time of the call's clock. So a trouble is over, unless
    /// the model has failed since then.
    void modelWorksSince(long then) {
        lasts &= latest - then > 0;
    }

    /// The model has failed. Returns how long to wait until the next try, or null: the model is to
    /// be given up. If it `worked` until now, it is tried again at once. `now` is a time of the
    /// call's clock, in nanoseconds.
    Duration next(Fault fault, boolean worked, long now) {
        if (!lasts) {
            lasts = true;
            since = now;
            first = fault.why;
            pause = worked ? Duration.ZERO : FIRST_PAUSE;
        }
        latest = now;
        Duration left = GIVEN_UP_AFTER.minusNanos(now - since);
        if (!fault.passes || !left.isPositive()) {
            return null;
        }
        // A little shorter or longer for each call, so that not all of them try in one instant.
        Duration wait = Collections.max(List.of(fault.after, pause.multipliedBy(
                ThreadLocalRandom.current().nextInt(80, 101)).dividedBy(100)));
        pause = pause.isZero() ? FIRST_PAUSE
                : Collections.min(List.of(pause.multipliedBy(2), LONGEST_PAUSE));
        return Collections.min(List.of(wait, left));
    }

    /// Why the model is given up, in words.
    String why(Fault fault) {
        return !lasts || fault.why.equals(first) ? fault.why
                : fault.why + "; before that: " + first;
    }
}
