package voice;

import module java.base;
import voice.Mailbox.Alarm;

/// Whose turn it is to speak in a Session, and what is waited for meanwhile: the end of a sentence,
/// an answer of the model's, a word of the caller's. Session calls it, on the call's thread.
///
/// Not handled: when the caller has finished a turn. The model decides that (Realtime).
final class Turn {
    /// The longest sentence that somebody waits for.
    static final Duration SENTENCE = Duration.ofSeconds(8);
    // The agent's last words are this long on their way to the ear (measured: 0.2 s to a phone).
    private static final Duration TAIL = Duration.ofMillis(300);
    // When it is the agent's turn, the caller hears nothing for so long.
    private static final Duration CALLER_WAITS = Duration.ofSeconds(3);
    private static final Duration WAITED = Duration.ofMillis(2_700);        // of it, at the most
    private static final Duration NO_ANSWER = Duration.ofSeconds(6);

    private final Session session;
    private String shown = "";              // what LiveKit's clients are shown
    private int recordings;                 // played
    private boolean recording;              // a recording is being heard
    private boolean greeted;                // the greeting's first sound has come
    private boolean callerSpoke;            // when we looked last
    private boolean askedWhetherThere;
    private Runnable afterwards;            // when what is being said has been heard; or null
    private boolean unlessTheCallerSpeaks;  // that

    Turn(Session session) {
        this.session = session;
    }

    /// What is the agent doing? LiveKit's clients are shown it (`lk.agent.state`), and it decides
    /// what is waited for. Session asks before every event.
    void look() {
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
        recording &= speaking;
        wait(Alarm.HEARD, TAIL, afterwards != null && !speaking && !thinking && !listening);

        // The model notices the end of the caller's words later than we do.
        Duration quiet = callerSpoke && !listening
                ? session.conversation.callerQuiet() : Duration.ZERO;
        callerSpoke = listening;
        wait(Alarm.CALLER_WAITS, CALLER_WAITS.minus(quiet.compareTo(WAITED) < 0 ? quiet : WAITED),
                talking && thinking && !speaking && !listening);
        wait(Alarm.NO_ANSWER, NO_ANSWER,
                thinking && !listening && !session.conversation.toolRunning()
                && (talking ? !speaking || recording : !greeted));
        wait(Alarm.SILENCE, session.options.silence(),
                talking && !thinking && !speaking && !listening && afterwards == null
                && session.ending.modelLost() == null && !session.transfer.underWay());
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
        recording = false;
        greeted = true;
    }

    /// Plays a recording.
    void play(Clips which) {
        Log.step(session.line.id(), "agent", "recording: " + which);
        recording = true;
        String item = "clip " + ++recordings;
        session.line.speaker().play(item, which.pcm());
        session.line.speaker().end(item);
    }

    /// Does it when the agent has been heard out, at the latest after `bound`.
    void whenHeard(Duration bound, Runnable what) {
        afterwards = what;
        unlessTheCallerSpeaks = false;
        session.mailbox.alarm(Alarm.HEARD_AT_LATEST, bound);
    }

    void whenHeardUnlessTheCallerSpeaks(Duration bound, Runnable what) {
        whenHeard(bound, what);
        unlessTheCallerSpeaks = true;
    }

    /// The agent has been heard out.
    void heard() {
        session.mailbox.cancel(Alarm.HEARD);
        session.mailbox.cancel(Alarm.HEARD_AT_LATEST);
        Runnable what = afterwards;
        afterwards = null;
        what.run();
    }

    void callerSpeaks() {
        askedWhetherThere = false;
        if (afterwards != null && unlessTheCallerSpeaks) {
            afterwards = null;
            session.mailbox.cancel(Alarm.HEARD_AT_LATEST);
        }
    }

    Step silent() {
        boolean again = askedWhetherThere;
        askedWhetherThere = true;
        return new Step.Silent(again);
    }

    void noAnswer() {
        if (session.conversation.thinking()) {  // an answer may have come in this instant
            session.conversation.giveUpOn("no answer within " + NO_ANSWER.toSeconds() + " s");
        }
    }
}
