package voice;

import module java.base;
import com.openai.models.realtime.*;

/// One conversation with an [OpenAI
/// Realtime](https://developers.openai.com/api/docs/guides/realtime) model: whose turn it is, when
/// the model is asked for a response, and what happens when a connection fails. Each call has one
/// Realtime.
///
/// The caller's sound goes through Hearing to the model. The agent's sound goes to the Speaker.
/// Everything else that happens is posted to the Mailbox, as an Event.
///
/// The model decides whose turn it is, by voice activity detection ([server
/// VAD](https://developers.openai.com/api/docs/guides/realtime-vad)): it notices that the caller
/// has begun or finished speaking, breaks off its own response, and gives the next one. Two things
/// are left to us: to stop the sound, and to tell the model how much of it was heard (`truncate`).
///
/// A connection (Link) may be refused, break, fail to respond, or go silent. Then a new one takes
/// its place within two seconds. The new one is told what the old one knew: the instructions, what
/// was said and done (History), and, as sound, what the caller has said since they were last
/// answered (Hearing). So the conversation goes on where it was. If the new one also fails, before
/// it has been of any use, the model is lost.
///
/// What is not done here: the caller's sound is not kept once they are answered. So when no
/// transcription model is set, a new connection knows only the agent's half of the conversation.
///
/// Every method returns at once and may be called from any thread.
public final class Realtime implements AutoCloseable {
    private static final Duration AFTER_REFUSAL = Duration.ofMillis(300);

    private record Setup(String instructions, List<String> tools, String greeting) {}

    /// What a response has brought, now that the model is done with it.
    private enum Outcome { SOUND, TOOL_CALL, NOTHING, CANCELLED, FAILED }

    private final Model model;
    private final String phoneCall;             // its id, for the log
    private final Mailbox mailbox;
    private final Speaker speaker;
    private final Hearing hearing;

    // All that follows is guarded by `this`. What is volatile is also read without the lock.
    private final History history = new History();
    private volatile Link link;
    private volatile boolean closed;
    private Setup setup;                        // null until `begin`
    private String earlierFault;                // why the link before this one has failed

    private boolean callerSpeaking;             // the model has noticed a beginning, and no end
    private volatile boolean turnUnanswered;    // the caller's latest turn has no answer yet
    private boolean responseExpected;           // the caller has finished, the model must begin
    private boolean responding;                 // the model has begun a response, and not ended it
    private boolean responseHasSound;           // what the latest response has brought so far
    private boolean responseHasToolCall;
    private boolean greeted;                    // the model has sent sound
    private boolean askWhenQuiet;               // a response is to be asked for, at a quiet moment
    private String askedBy;                     // the event that asks for one; null once it begins
    private int timesAsked;

    // Ids of items.
    private String callersItem;                 // what the caller says or has said last
    private String unfinishedItem;              // what the agent says, when more sound is to come
    private String lastItemWithSound;
    private String itemBeingWritten;            // its transcript comes in pieces

    /// Starts to connect. What is sent before there is a connection waits.
    public Realtime(Model model, String phoneCall, Mailbox mailbox, Speaker speaker) {
        this.model = model;
        this.phoneCall = phoneCall;
        this.mailbox = mailbox;
        this.speaker = speaker;
        this.hearing = new Hearing(phoneCall, mailbox::nanos);
        connect(null);
    }

    /// Tells the model who it is (`instructions`), whom it talks to (`about`) and what it can do
    /// (`tools`: each a JSON object as text, with name, description and parameters). Then the model
    /// speaks first, as `greeting` says.
    public synchronized void begin(String instructions, String about, List<String> tools,
            String greeting) {
        setup = new Setup(instructions, tools, greeting);
        link.configure(instructions, tools);
        about(about);
        ask();
    }

    /// Tells the model whom it talks to. A new connection is told only the latest of these texts,
    /// and is told it first, however long the conversation was.
    public synchronized void about(String caller) {
        link.add(history.about(caller));
    }

    /// Takes the output of a tool that the model has called, as JSON. With `speak`, the model
    /// responds to it as soon as nobody is speaking.
    public synchronized void answer(String callId, String json, boolean speak) {
        link.add(history.toolOutput(callId, json));
        askWhenQuiet |= speak;
        askIfQuiet();
        mailbox.post(new Event.TurnChanged());
    }

    /// Tells the model what has happened. The model responds as soon as nobody is speaking.
    public void tell(String what) {
        tell(History.Role.PROGRAM, what);
    }

    /// The caller has written this, or has pressed keys. The model responds as soon as nobody is
    /// speaking.
    public void callerWrote(String text) {
        tell(History.Role.CALLER, text);
    }

    private synchronized void tell(History.Role by, String text) {
        link.add(history.told(by, text));
        askWhenQuiet = true;
        askIfQuiet();
    }

    /// Breaks off the response that is being given, if there is one. (The caller's voice needs no
    /// such call: the model breaks off by itself.)
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
        return history.toolRunning();
    }

    /// The caller is speaking, as far as the model has noticed.
    public synchronized boolean callerSpeaking() {
        return !closed && callerSpeaking;
    }

    /// How long the caller has made no sound, as we hear it. The model notices that later.
    public Duration callerQuiet() {
        return hearing.callerQuiet();
    }

    /// The caller's sound: 24 kHz, 16 bit, mono, in pieces of any size. One thread at a time.
    public void hear(byte[] pcm) {
        hearing.hear(pcm, turnUnanswered);
    }

    /// Tells the model how much of a sentence the caller has heard. Otherwise the model would
    /// believe that the caller has heard the rest, too. The service calls this
    /// [truncation](https://developers.openai.com/api/docs/guides/realtime-conversations). Does
    /// nothing for sound of an earlier connection, and nothing for a recording.
    public synchronized void truncate(Speaker.Cut cut) {
        Integer bytes = link.soundBytes(cut.itemId());
        if (bytes == null) {
            return;
        }
        history.interrupted(cut.itemId(),
                Math.min(1, (double) cut.ms() * Speaker.BYTES_PER_MS / bytes));
        link.truncate(cut.itemId(), cut.ms());
    }

    /// The caller has waited too long for an answer, so the connection must be at fault.
    public void giveUpOn(String why) {
        linkFailed(link, why);
    }

    @Override
    public synchronized void close() {
        closed = true;
        link.close();
    }

    // Asking for a response.

    /// The instructions of a response take the place of the session's. So the session's are sent
    /// again together with the greeting.
    private void ask() {
        askedBy = "ask-" + ++timesAsked;
        link.askForResponse(askedBy,
                greeted ? null : setup.instructions + "\n" + setup.greeting);
    }

    /// Asks for a response, if one is to be asked for and this is a quiet moment. The service takes
    /// it for an error when it is asked while it gives a response. While the caller speaks, asking
    /// is needless: the model responds by itself when they have finished.
    private void askIfQuiet() {
        if (setup != null && askWhenQuiet && askedBy == null && !responding && !callerSpeaking
                && !toolRunning()) {
            askWhenQuiet = false;
            ask();
        }
    }

    // Replacing a connection.

    /// A connection is of no use any more. A new one takes its place. But if this one has replaced
    /// another and has been of no use itself, the model is lost.
    synchronized void linkFailed(Link failed, String why) {
        if (closed || failed != link || failed.isClosed()) {
            return;
        }
        failed.close();
        if (unfinishedItem != null) {
            speaker.end(unfinishedItem); // no more of its sound will come
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
        // The service may just have refused us, so it is not asked again in the same instant.
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
            responseExpected = true; // the model hears the turn once more, and responds by itself
        } else if (responseOwed) {
            askWhenQuiet = true;
            askIfQuiet();
        }
        next.start();
    }

    // What the model sends.

    /// An event from the model. The thread on which `from` receives calls this.
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
            // If the caller's words have broken off a tool call, it may end in mid-argument.
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
            if (!done.itemId().equals(itemBeingWritten)) { // all of it comes in this event
                says(done.itemId(), done.transcript());
            }
            mailbox.post(new Event.AgentSaid(done.itemId(), done.transcript()));
        } else if (event.isConversationItemInputAudioTranscriptionCompleted()) {
            var said = event.asConversationItemInputAudioTranscriptionCompleted();
            history.callerSays(said.itemId(), said.transcript());
            mailbox.post(new Event.CallerSaid(said.itemId(), said.transcript()));
        } else if (event.isError()) {
            errorReported(from, event.asError().error());
        }
    }

    private void says(String itemId, String text) {
        history.agentSays(itemId, text);
        mailbox.post(new Event.AgentSays(itemId, text));
    }

    /// OpenAI reports a call in two events. Other services that speak its protocol send only one of
    /// them, either the one or the other.
    private void toolCalled(String callId, String name, String arguments) {
        responseHasToolCall = true;
        if (history.toolCalled(callId, name, arguments)) {
            turnAnswered();
            mailbox.post(new Event.ToolCalled(callId, name, arguments));
        }
    }

    /// The caller's turn has an answer, unless they are saying more already.
    private void turnAnswered() {
        if (!callerSpeaking) {
            turnUnanswered = false;
        }
    }

    private void responseDone(Link from, RealtimeResponse response) {
        responding = false;
        switch (outcome(response)) {
            case SOUND, TOOL_CALL, NOTHING -> turnAnswered();
            case CANCELLED -> { } // the model still answers what has broken it off
            case FAILED -> {
                responding = true; // so `connect` sees that a response is still owed
                linkFailed(from, "it failed to answer: " + Log.foreign(response.statusDetails()
                        .flatMap(RealtimeResponseStatus::error)
                        .map(e -> e.code().orElse("") + " " + e.type().orElse("")).orElse("")));
                return;
            }
        }
        askIfQuiet();
        mailbox.post(new Event.TurnChanged());
    }

    /// Nothing else decides what a response has brought.
    private Outcome outcome(RealtimeResponse response) {
        return switch (response.status().map(status -> status.asString()).orElse("")) {
            case "failed" -> Outcome.FAILED;
            case "cancelled" -> Outcome.CANCELLED;
            default -> responseHasSound ? Outcome.SOUND
                    : responseHasToolCall ? Outcome.TOOL_CALL : Outcome.NOTHING;
        };
    }

    /// Most errors are about one event that we have sent. The conversation goes on without it.
    private void errorReported(Link from, RealtimeError error) {
        String code = error.code().orElse("");
        if (code.equals("response_cancel_not_active")) {
            return; // the response had ended before we broke it off
        }
        String said = Log.foreign(
                (code.isEmpty() ? error.type() : code) + ": " + error.message());
        String cause = error.eventId().orElse("");
        if (code.equals("conversation_already_has_active_response")) {
            // We asked while the model began a response by itself. So we ask again after that one.
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
