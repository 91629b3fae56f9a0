package voice;

import module java.base;
import com.openai.models.realtime.*;

/// One conversation with an [OpenAI Realtime](https://platform.openai.com/docs/guides/realtime)
/// model: what was said and done, whose turn it is, and when the model is asked for a response.
/// Each call has one.
///
/// The caller's sound goes through Hearing to the model. The agent's sound goes to the Speaker.
/// Whatever else happens is posted to the Mailbox as an Event.
///
/// Whose turn it is, the model decides, by
/// [server VAD](https://platform.openai.com/docs/guides/realtime-vad) (voice activity detection):
/// it notices that the caller has begun or finished to speak, breaks off its own response and gives
/// the next one. Two things are left to us: to stop the sound, and to tell the model how much of it
/// the caller has heard (`truncate`).
///
/// A connection (Link) may be refused, break, fail to respond, or report nothing any more. Then
/// another one takes its place within two seconds. The new one is told what the old one knew: the
/// instructions, what was said and done (in writing), and what the caller has said since they were
/// last answered (as sound). So the conversation goes on where it was. The model is lost when the
/// new connection fails too, before it was of any use.
///
/// What is not done here: the caller's sound is not kept after they were answered. So when no
/// transcription model is set, a new connection knows only the agent's half of the conversation.
///
/// Every method returns at once and may be called from any thread.
public final class Realtime implements AutoCloseable {
    private static final Duration AFTER_REFUSAL = Duration.ofMillis(300);

    private record Setup(String instructions, List<String> tools, String greeting) {}

    /// What a response has brought, now that the model is done with it.
    private enum Outcome { SOUND, TOOL_CALL, NOTHING, CANCELLED, FAILED }

    private final Model model;
    private final String phoneCall;                     // its id, for the log
    private final Mailbox mailbox;
    private final Speaker speaker;
    private final Hearing hearing;

    // All that follows is guarded by `this`; what is volatile is also read without the lock.
    private volatile Link link;
    private volatile boolean closed;
    private String earlierFault;                        // why the link before this one has failed
    private Setup setup;                                // null until `begin`
    private final History history = new History();

    // Whose turn it is.
    private boolean callerSpeaking;                     // so the model reports
    private volatile boolean turnUnanswered;            // what the caller says or has said last
    private boolean responseExpected;                   // they have finished; it has not begun yet
    private boolean responding;                         // it has begun a response and not ended it
    private boolean askWhenQuiet;                       // it was told something it shall respond to
    private String askedBy;                             // event id, until the response begins
    private int timesAsked;
    private boolean greeted;                            // it has sent sound
    private boolean responseHasSound;                   // this one, or the last
    private boolean responseHasToolCall;

    // Tool calls, by call id.
    private final Set<String> toolsCalled = new HashSet<>();
    private final Set<String> toolsRunning = new HashSet<>();

    // Items, by id.
    private String callersItem;                         // what the caller says or has said last
    private String unfinishedItem;                      // more of its sound is to come
    private String lastItemWithSound;
    private String itemBeingWritten;                    // its transcript comes in pieces

    /// Starts to connect. What is sent before there is a connection waits.
    public Realtime(Model model, String phoneCall, Mailbox mailbox, Speaker speaker) {
        this.model = model;
        this.phoneCall = phoneCall;
        this.mailbox = mailbox;
        this.speaker = speaker;
        this.hearing = new Hearing(phoneCall);
        connect(null);
    }

    /// Tells the model who it is (`instructions`), whom it talks to (`about`) and what it can do
    /// (`tools`: name, description, parameters, each a JSON object as text). Then the model speaks
    /// first, as `greeting` says.
    public synchronized void begin(String instructions, String about, List<String> tools,
            String greeting) {
        setup = new Setup(instructions, tools, greeting);
        link.configure(instructions, tools);
        about(about);
        ask();
    }

    /// Tells the model whom it talks to. This replaces what it was told of that before. A new
    /// connection is told it first, however long the conversation was.
    public synchronized void about(String caller) {
        link.add(history.about(caller));
    }

    /// The output of a tool, JSON. When it is to `speak`, the model speaks of it as soon as nobody
    /// else is speaking.
    public synchronized void answer(String callId, String json, boolean speak) {
        link.add(history.toolOutput(callId, json));
        toolsRunning.remove(callId);
        askWhenQuiet |= speak;
        askIfQuiet();
        mailbox.post(new Event.TurnChanged());
    }

    /// Tells the model what has happened. It responds as soon as nobody is speaking.
    public void tell(String what) {
        tell(History.Role.PROGRAM, what);
    }

    /// The caller has written this, instead of saying it. The model responds as soon as nobody is
    /// speaking.
    public void callerWrote(String text) {
        tell(History.Role.CALLER, text);
    }

    private synchronized void tell(History.Role by, String text) {
        link.add(history.told(by, text));
        askWhenQuiet = true;
        askIfQuiet();
    }

    /// Breaks off the response that is being given, if any. The caller's voice does that by itself.
    public synchronized void interrupt() {
        if (responding) {
            link.cancelResponse();
        }
    }

    /// The model has a response to give, and may not have begun to speak yet.
    public synchronized boolean thinking() {
        return !closed && (askedBy != null || responding || responseExpected || askWhenQuiet
                || toolRunning());
    }

    /// The model waits for the output of a tool.
    public synchronized boolean toolRunning() {
        return !toolsRunning.isEmpty();
    }

    /// The caller is speaking, as far as the model has noticed.
    public synchronized boolean callerSpeaking() {
        return !closed && callerSpeaking;
    }

    /// How long the caller has made no sound, as far as we hear: the model notices that later, on a
    /// slow connection much later.
    public Duration callerQuiet() {
        return hearing.callerQuiet();
    }

    /// The caller's sound: 24 kHz, 16 bit, mono, in pieces of any size; one thread at a time.
    public void hear(byte[] pcm) {
        hearing.hear(pcm, turnUnanswered);
    }

    /// What the caller has not heard, the model has not said. Sound that is not this model's own
    /// (of an earlier connection, or a recording) does not matter to it.
    ///
    /// The rule is the service's, for clients that play the sound themselves:
    /// "Interruption and truncation" in
    /// [its guide](https://platform.openai.com/docs/guides/realtime-conversations).
    public synchronized void truncate(Speaker.Cut cut) {
        Integer bytes = link.soundBytes(cut.itemId());
        if (bytes == null) {
            return;
        }
        history.interrupted(cut.itemId(),
                Math.min(1, (double) cut.ms() * Speaker.BYTES_PER_MS / bytes));
        link.truncate(cut.itemId(), cut.ms());
    }

    /// The caller has waited too long for an answer: something is wrong with the connection.
    public void giveUpOn(String why) {
        linkFailed(link, why);
    }

    @Override
    public synchronized void close() {
        closed = true;
        link.close();
    }

    // Asking for a response.

    /// The instructions of a response take the place of the session's. So the greeting comes with
    /// the session's instructions once more.
    private void ask() {
        askedBy = "ask-" + ++timesAsked;
        link.askForResponse(askedBy,
                greeted ? null : setup.instructions + "\n" + setup.greeting);
    }

    /// Asks for a response, when one is wanted and this is the moment. It is an error to ask while
    /// a response is being given. While the caller speaks it is needless: when they have finished,
    /// the model responds by itself.
    private void askIfQuiet() {
        if (setup != null && askWhenQuiet && askedBy == null && !responding && !callerSpeaking
                && !toolRunning()) {
            askWhenQuiet = false;
            ask();
        }
    }

    // Replacing a connection.

    /// A connection is of no use any more. Another one takes its place, unless this one has taken
    /// another's place and has not been of any use.
    synchronized void linkFailed(Link failed, String why) {
        if (closed || failed != link || failed.isClosed()) {
            return;
        }
        failed.close();
        if (unfinishedItem != null) {
            speaker.end(unfinishedItem); // no more of it will come
        }
        if (earlierFault != null && !failed.hasProvedItself()) {
            closed = true;
            mailbox.post(new Event.ModelLost(why.equals(earlierFault) ? why
                    : why + "; before that: " + earlierFault));
            return;
        }
        earlierFault = why;
        Log.log(phoneCall, "the model is lost, connecting again: " + why);
        mailbox.post(new Event.ModelAway(why));
        // A service that has just refused us is not asked again in the same instant.
        Duration wait = failed.hasReceived() ? Duration.ZERO : AFTER_REFUSAL;
        CompletableFuture.delayedExecutor(wait.toMillis(), TimeUnit.MILLISECONDS)
                .execute(() -> connect(failed));
    }

    private synchronized void connect(Link before) {
        if (closed || link != before) {
            return;
        }
        var next = new Link(this, model, phoneCall, before != null);
        boolean brokeOff = unfinishedItem != null;
        boolean responseOwed = responding || askedBy != null || askWhenQuiet || brokeOff;
        responding = callerSpeaking = responseExpected = askWhenQuiet = false;
        askedBy = unfinishedItem = null;
        if (before != null && setup != null) {
            next.configure(setup.instructions, setup.tools);
            history.tell(next, turnUnanswered ? callersItem : null, brokeOff);
        }
        hearing.moveTo(next, turnUnanswered);
        link = next;
        if (turnUnanswered) {
            responseExpected = true; // `next` hears their turn once more, and responds by itself
        } else if (responseOwed) {
            askWhenQuiet = true;
            askIfQuiet();
        }
        next.start();
    }

    // What the model sends.

    /// An event from the model. `from` calls this on its own thread.
    synchronized void received(Link from, RealtimeServerEvent event) {
        if (from != link || from.isClosed() || closed) {
            return;
        }
        if (from.eventCame() && from.isReplacement()) {
            Log.log(phoneCall, "the model is back, after " + from.ageMs() + " ms");
            mailbox.post(new Event.ModelBack());
        }
        hearing.eventCame(event.isInputAudioBufferSpeechStarted()
                || callerSpeaking && !event.isInputAudioBufferSpeechStopped());
        if (event.isResponseOutputAudioDelta()) {
            var delta = event.asResponseOutputAudioDelta();
            byte[] sound = Base64.getDecoder().decode(delta.delta());
            speaker.play(delta.itemId(), sound);
            from.soundCame(delta.itemId(), sound.length);
            greeted = responseHasSound = true;
            turnAnswered();
            unfinishedItem = delta.itemId();
            if (!delta.itemId().equals(lastItemWithSound)) {
                lastItemWithSound = delta.itemId();
                mailbox.post(new Event.AgentSpeaks());
            }
        } else if (event.isResponseOutputAudioDone()) {
            speaker.end(event.asResponseOutputAudioDone().itemId());
            unfinishedItem = null;
        } else if (event.isInputAudioBufferSpeechStarted()) {
            callerSpeaking = turnUnanswered = true;
            responseExpected = false;
            callersItem = event.asInputAudioBufferSpeechStarted().itemId();
            history.callerSays(callersItem, "");
            mailbox.post(new Event.CallerSpeaks());
        } else if (event.isInputAudioBufferSpeechStopped()) {
            callerSpeaking = false;
            responseExpected = true;
            mailbox.post(new Event.TurnChanged());
        } else if (event.isResponseCreated()) {
            responding = true;
            askedBy = null;
            askWhenQuiet = responseExpected = false;
            responseHasSound = responseHasToolCall = false;
            mailbox.post(new Event.TurnChanged());
        } else if (event.isResponseDone()) {
            responseDone(from, event.asResponseDone().response());
        } else if (event.isResponseFunctionCallArgumentsDone()) {
            var done = event.asResponseFunctionCallArgumentsDone();
            toolCalled(done.callId(), done.name(), done.arguments());
        } else if (event.isResponseOutputItemDone()
                && event.asResponseOutputItemDone().item().isFunctionCall()) {
            var tool = event.asResponseOutputItemDone().item().asFunctionCall();
            // One that was broken off by the caller's words may end in mid-argument.
            if (tool.status().filter(s -> s.asString().equals("incomplete")).isEmpty()) {
                toolCalled(tool.callId().orElseThrow(() -> new IllegalArgumentException(
                        "a tool call without a call_id")), tool.name(), tool.arguments());
            }
        } else if (event.isResponseOutputAudioTranscriptDelta()) {
            var delta = event.asResponseOutputAudioTranscriptDelta();
            itemBeingWritten = delta.itemId();
            says(delta.itemId(), delta.delta());
        } else if (event.isResponseOutputAudioTranscriptDone()) {
            var done = event.asResponseOutputAudioTranscriptDone();
            if (!done.itemId().equals(itemBeingWritten)) { // it came in one piece
                says(done.itemId(), done.transcript());
            }
            mailbox.post(new Event.AgentSaid(done.itemId(), done.transcript()));
        } else if (event.isConversationItemInputAudioTranscriptionCompleted()) {
            var said = event.asConversationItemInputAudioTranscriptionCompleted();
            history.callerSays(said.itemId(), said.transcript());
            mailbox.post(new Event.CallerSaid(said.itemId(), said.transcript()));
        } else if (event.isError()) {
            failed(from, event.asError().error());
        }
    }

    private void says(String itemId, String text) {
        history.agentSays(itemId, text);
        mailbox.post(new Event.AgentSays(itemId, text));
    }

    /// OpenAI says it twice, services that speak its protocol in one way or the other.
    private void toolCalled(String callId, String name, String arguments) {
        responseHasToolCall = true;
        if (toolsCalled.add(callId)) {
            history.toolCalled(callId, name, arguments);
            toolsRunning.add(callId);
            turnAnswered();
            mailbox.post(new Event.ToolCalled(callId, name, arguments));
        }
    }

    /// There is an answer to what the caller has said, if they are not saying more already.
    private void turnAnswered() {
        if (!callerSpeaking) {
            turnUnanswered = false;
        }
    }

    private void responseDone(Link from, RealtimeResponse response) {
        responding = false;
        switch (outcome(response)) {
            case SOUND, TOOL_CALL, NOTHING -> turnAnswered();
            case CANCELLED -> { }
            case FAILED -> {
                responding = true; // the response is owed still
                linkFailed(from, "it failed to answer: " + response.statusDetails()
                        .flatMap(RealtimeResponseStatus::error)
                        .map(e -> e.code().orElse("") + " " + e.type().orElse("")).orElse(""));
                return;
            }
        }
        askIfQuiet();
        mailbox.post(new Event.TurnChanged());
    }

    /// This alone decides what a response has brought.
    private Outcome outcome(RealtimeResponse response) {
        return switch (response.status().map(status -> status.asString()).orElse("")) {
            case "failed" -> Outcome.FAILED;
            case "cancelled" -> Outcome.CANCELLED;
            default -> responseHasSound ? Outcome.SOUND
                    : responseHasToolCall ? Outcome.TOOL_CALL : Outcome.NOTHING;
        };
    }

    /// Most errors are about one thing that we have sent, and the conversation goes on without it.
    private void failed(Link from, RealtimeError error) {
        String code = error.code().orElse("");
        if (code.equals("response_cancel_not_active")) {
            return; // it had ended as we broke it off
        }
        String said = (code.isEmpty() ? error.type() : code) + ": " + error.message();
        String cause = error.eventId().orElse("");
        if (code.equals("conversation_already_has_active_response")) {
            // We asked for a response as it began one of its own: then after that.
            askedBy = null;
            responding = askWhenQuiet = true;
        } else if (cause.equals(Link.SESSION_UPDATE) || cause.equals(askedBy)
                || code.equals("session_expired")
                || !error.type().equals("invalid_request_error")) {
            linkFailed(from, "it reports " + said);
            return;
        }
        Log.log(phoneCall, "the model reports " + said);
    }
}
