package voice;

import module java.base;
import voice.Mailbox.Alarm;

/// Whose turn it is to speak in a Session, and what the call waits for meanwhile: that the caller
/// has heard a sentence, that the model answers, or that the caller says something. Session makes
/// one. Everything here runs on the call's thread.
///
/// What is not done here: the model decides when the caller has finished a turn (Realtime).
final class Turn {
    // The longest that the call waits for the first sound of a sentence, and from then on until the
    // caller has heard the sentence.
    private static final Duration SENTENCE_BEGINS = Duration.ofSeconds(8);
    private static final Duration SENTENCE = Duration.ofSeconds(20);
    // The agent's last words take so long, at most, from the Speaker to the caller's ear (measured:
    // 0.2 s to a phone).
    private static final Duration TAIL = Duration.ofMillis(300);
    // After a goodbye that a caller may still break off, they have this time in all: the model
    // notices late that they speak.
    private static final Duration AFTER_GOODBYE = Duration.ofMillis(1_200);
    // When it is the agent's turn and the caller hears nothing for so long, a recording plays. At
    // most WAITED of that time can be over when `look` first knows that it is the agent's turn.
    static final Duration CALLER_WAITS = Duration.ofSeconds(3);
    private static final Duration WAITED = Duration.ofMillis(2_700);
    // As long as the model gives signs of life, it may take its time. It is asked for one so often.
    // It has twice that time to give one.
    private static final Duration ASK_MODEL = Duration.ofMillis(1_200);
    private static final Duration NO_ANSWER = Duration.ofSeconds(10);

    private final Session session;
    private String shown = "";              // what LiveKit's clients see
    private int recordings;                 // that were played
    private boolean momentPlays;            // Clips.MOMENT, for those who wait, is being heard
    private boolean bridged;                // it was played since the agent has spoken last
    private long bridgedSince;              // by the call's clock; only if `bridged`
    private boolean inSentence;             // the caller hears the agent, or another recording
    private long sentenceSince;             // by the call's clock; only if `inSentence`
    private boolean greeted;                // the greeting's first sound has come
    private boolean callerWasSpeaking;      // when `look` ran last
    private final Deque<Integer> signs = new ArrayDeque<>();    // of the model's life; see askModel
    private boolean askedWhetherThere;
    private Runnable afterwards;            // for `heard` to run; or null
    private boolean firstSoundMovesBound;   // the bound of `afterwards`
    private boolean unlessTheCallerSpeaks;  // then `afterwards` is dropped

    Turn(Session session) {
        this.session = session;
    }

    /// Finds out what the agent is doing, shows it to LiveKit's clients (`lk.agent.state`), and
    /// sets the alarms for what the call waits for. Session calls this before every event.
    void look() {
        session.conversation.look();
        boolean talking = session.talking;
        boolean speaking = session.line.speaker().speaking();
        boolean thinking = session.conversation.thinking();
        boolean listening = session.conversation.callerSpeaking();
        String now = !talking ? "initializing" : speaking ? "speaking"
                : thinking ? "thinking" : "listening";
        if (!now.equals(shown)) {
            shown = now;
            session.line.show(Map.of("lk.agent.state", shown));
        }
        momentPlays &= speaking;
        long nanos = session.mailbox.nanos();
        boolean wasInSentence = inSentence;
        inSentence = speaking && !momentPlays;
        sentenceSince = wasInSentence && inSentence ? sentenceSince : nanos;
        if (inSentence && firstSoundMovesBound) {
            firstSoundMovesBound = false;       // a second sentence does not move it
            session.mailbox.alarm(
                    Alarm.HEARD_AT_LATEST, SENTENCE.minusNanos(nanos - sentenceSince));
        }
        wait(Alarm.HEARD, saysGoodbye() ? AFTER_GOODBYE : TAIL,
                afterwards != null && !speaking && !thinking && !listening);

        // The model notices late that the caller has finished. The caller has been waiting since
        // their last word, so that time counts.
        Duration quiet = callerWasSpeaking && !listening
                ? session.conversation.callerQuiet() : Duration.ZERO;
        callerWasSpeaking = listening;
        wait(Alarm.CALLER_WAITS, CALLER_WAITS.minus(quiet.compareTo(WAITED) < 0 ? quiet : WAITED),
                talking && (thinking || session.modelAway) && !speaking && !listening);
        boolean modelsTurn = !listening && session.conversation.answerIsDue()
                && (talking ? !speaking || momentPlays : !greeted);
        wait(Alarm.NO_ANSWER, NO_ANSWER, modelsTurn);
        wait(Alarm.ASK_MODEL, ASK_MODEL, modelsTurn);
        if (!modelsTurn) {
            signs.clear();
        }
        wait(Alarm.SILENCE, session.options.silence(),
                talking && !thinking && !speaking && !listening && afterwards == null
                && session.ending.modelLost() == null && session.transfer.canBegin());
    }

    private void wait(Alarm alarm, Duration after, boolean holds) {
        if (holds) {
            session.mailbox.alarmUnlessSet(alarm, after);
        } else {
            session.mailbox.cancel(alarm);
        }
    }

    /// The first sound of an answer has come.
    void agentSpeaks() {
        momentPlays = bridged = false;
        greeted = true;
    }

    /// The caller has been asked to wait less than 3 s ago. So they are not asked again, although
    /// another connection is away.
    boolean bridged() {
        return bridged && session.mailbox.nanos() - bridgedSince < CALLER_WAITS.toNanos();
    }

    /// Plays a recording.
    void play(Clips which) {
        Log.step(session.line.id(), "agent", "recording: " + which);
        session.transcript.recordingPlayed(which);
        momentPlays = bridged = which == Clips.MOMENT;
        bridgedSince = session.mailbox.nanos();
        inSentence = false;                     // nothing that was said before goes on
        String item = "clip " + ++recordings;
        session.line.speaker().play(item, which.pcm());
        session.line.speaker().end(item);
    }

    /// Runs `what` when the caller has heard all that the agent is saying or is about to say. At
    /// the latest, that is 20 s after its first sound, or after 8 s without a sound. (A recording
    /// for those who wait for the agent is no such sound.)
    void whenHeard(Runnable what) {
        afterwards = what;
        unlessTheCallerSpeaks = false;
        firstSoundMovesBound = true;
        session.mailbox.alarm(Alarm.HEARD_AT_LATEST, SENTENCE_BEGINS);
    }

    /// The same, but after `bound` at the latest.
    void whenHeard(Duration bound, Runnable what) {
        whenHeard(what);
        firstSoundMovesBound = false;
        session.mailbox.alarm(Alarm.HEARD_AT_LATEST, bound);
    }

    /// The same as `whenHeard(what)`, unless the caller speaks before.
    void whenHeardUnlessTheCallerSpeaks(Runnable what) {
        whenHeard(what);
        unlessTheCallerSpeaks = true;
    }

    /// Is something to be done when the caller has heard the agent? If no transfer has begun, that
    /// is the end of the call.
    boolean endsSoon() {
        return afterwards != null;
    }

    /// The same, and a caller who speaks can still keep the call from ending.
    boolean saysGoodbye() {
        return afterwards != null && unlessTheCallerSpeaks;
    }

    /// The caller has heard all that the agent was saying, or has had enough time for it.
    void heard() {
        Runnable what = afterwards;
        dropWhatFollows();
        what.run();
    }

    /// What was to be done when the caller has heard the agent is not to be done any more.
    void dropWhatFollows() {
        afterwards = null;
        firstSoundMovesBound = false;
        session.mailbox.cancel(Alarm.HEARD);
        session.mailbox.cancel(Alarm.HEARD_AT_LATEST);
    }

    /// The caller speaks, writes, or presses a key.
    void callerSpeaks() {
        askedWhetherThere = false;
        session.mailbox.cancel(Alarm.SILENCE);  // `look` sets it anew
        if (saysGoodbye()) {
            dropWhatFollows();
        }
    }

    /// The caller has been silent for as long as `Options.silence`.
    Step silent() {
        boolean again = askedWhetherThere;
        askedWhetherThere = true;
        return new Step.Silent(again);
    }

    /// The model has called a tool, which is an answer. The time for the next one begins anew.
    void modelAnswers() {
        session.mailbox.cancel(Alarm.NO_ANSWER);
        session.mailbox.cancel(Alarm.ASK_MODEL);
        signs.clear();
    }

    /// It is the model's turn, and the model may be slow, or dead. Asks it for a sign of life.
    /// Gives the connection up when nothing at all has come since the last question but one.
    void askModel() {
        int seen = session.conversation.probe();
        if (seen >= 0) {
            signs.add(seen);
        }
        if (signs.size() > 2 && signs.remove() == seen) {
            session.conversation.giveUpOn("the model says nothing any more");
        }
    }

    /// The model has had enough time to begin its answer. Gives the connection up.
    void noAnswer() {
        if (session.conversation.thinking()) {  // an answer may have come in this instant
            session.conversation.giveUpOn("no answer within " + NO_ANSWER.toSeconds() + " s");
        }
    }
}
