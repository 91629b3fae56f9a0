package voice;

import module java.base;
import com.openai.models.realtime.*;
import voice.History.ToolCall;
import voice.Trouble.Fault;

/// One conversation with an [OpenAI
/// Realtime](https://developers.openai.com/api/docs/guides/realtime) model: what is said on both
/// sides, and what happens when a connection fails. Each call has one Realtime.
///
/// The caller's sound goes through Hearing to the model. The agent's sound goes to the Speaker.
/// Everything else that happens is posted to the Mailbox, as an Event.
///
/// The model decides whose turn it is, by [voice activity
/// detection](https://developers.openai.com/api/docs/guides/realtime-vad): it notices that the
/// caller has begun or finished speaking, breaks off its own response, and gives the next one. Two
/// things are left to us: to stop the sound, and to tell it how much was heard (`silence`).
///
/// Responses asks the model for its answers, and asks once more when an answer fails or cannot be
/// heard. A connection (Link) may be refused, break, or go silent. Then a new one takes its place.
/// The new one is told what the old one knew: the instructions, what was said and done (History),
/// and, as sound, what the caller has said since they were last answered (Hearing). So the
/// conversation goes on where it was. Trouble says how long all of that is tried, before the model
/// is lost.
///
/// What is not done here: the caller's sound is not kept once they are answered. So when no
/// transcription model is set, a new connection knows only the agent's half of the conversation.
///
/// Every method returns at once and may be called from any thread.
public final class Realtime implements AutoCloseable {
    private static final Duration PROVEN_AFTER = Duration.ofSeconds(5);

    private record Setup(String instructions, List<String> tools, String greeting) {}

    final Model model;
    private final String phoneCall;             // its id, for the log
    final Mailbox mailbox;
    private final Speaker speaker;
    private final Hearing hearing;

    // All that follows is guarded by `this`. What is volatile is also read without the lock.
    final History history = new History();
    final Speech speech;
    private final Responses responses = new Responses(this);
    final Trouble trouble = new Trouble();
    volatile Link link;
    volatile Usage usage;                       // so far; null: no response has reported any
    private volatile boolean closed;
    private Setup setup;                        // null until `begin`
    private final Set<String> refusedSettings = new HashSet<>();
    private long connectedAt;                   // when `link` has received its first event, or 0
    private boolean pausing;                    // until `tryAgain`
    private boolean callerSpeaking;             // the model has noticed a beginning, and no end
    private volatile boolean turnUnanswered;    // the caller's latest turn has no answer yet

    // Ids of items.
    private String callersItem;                 // what the caller says or has said last
    private String unfinishedItem;              // what the agent says, when more sound is to come
    private String lastItemWithSound;

    /// Starts to connect. What is sent before there is a connection waits.
    public Realtime(Model model, String phoneCall, Mailbox mailbox, Speaker speaker) {
        this.model = model;
        this.phoneCall = phoneCall;
        this.mailbox = mailbox;
        this.speaker = speaker;
        this.hearing = new Hearing(phoneCall, mailbox::nanos);
        this.speech = new Speech(mailbox, speaker, history);
        connect(null);
    }

    /// Tells the model who it is (`instructions`), whom it talks to (`about`) and what it can do
    /// (`tools`: each a JSON object as text, with name, description and parameters). Then the model
    /// speaks first, as `greeting` says.
    public synchronized void begin(String instructions, String about, List<String> tools,
            String greeting) {
        setup = new Setup(instructions, tools, greeting);
        link.configure(instructions, tools, refusedSettings);
        about(about);
        responses.wantResponse();
    }

    /// Tells the model whom it talks to. A new connection is first told the latest of these texts.
    public synchronized void about(String caller) {
        history.about(caller, link);
    }

    /// Takes the output of a tool that the model has called, as JSON. With `speak`, the model
    /// responds to it as soon as nobody is speaking. Without `speak`, it does so only if it has
    /// said nothing in the response in which it called the tool.
    public synchronized void answer(String callId, String json, boolean speak) {
        responses.toolAnswered(callId, json, speak);
        mailbox.post(new Event.TurnChanged());
    }

    /// Tells the model what has happened. The model responds as soon as nobody is speaking.
    public synchronized void tell(String what) {
        settle();
        history.told(History.Role.PROGRAM, what, link);
        responses.askIfQuiet();
    }

    /// The caller has written this, or has pressed keys. The model responds as soon as nobody is
    /// speaking.
    public synchronized void callerWrote(String text) {
        settle();
        responses.callerWrites();
        history.told(History.Role.CALLER, text, link);
        responses.askIfQuiet();
    }

    /// Breaks off what the agent is saying, and the response that is being given. (The caller's
    /// voice needs no such call: the model breaks off by itself.)
    public synchronized void interrupt() {
        silence();
        responses.breakOff();
    }

    /// The caller hears nothing more of what the agent is saying. Returns false when there was
    /// nothing to be heard. The model would believe that the caller has heard all of it, so it is
    /// told ([truncation](https://developers.openai.com/api/docs/guides/realtime-conversations)).
    /// It does not know recordings, nor what was said in an earlier connection.
    private boolean silence() {
        var cut = speaker.clear();
        for (var each : cut) {
            speech.brokenOff(each);
            if (link.soundBytes(each.itemId()) != null) {
                link.truncate(each.itemId(), each.ms());
            }
        }
        return !cut.isEmpty();
    }

    /// Posts AgentSaid for each item that the caller has heard to the end, or to where it was
    /// broken off.
    synchronized void look() {
        speech.over(responses.responding()).forEach(mailbox::post);
    }

    /// The call is over, and nobody reads the mailbox any more. Returns what the caller has heard
    /// of the last sentence.
    synchronized List<Event.AgentSaid> end() {
        silence();
        speech.noMoreComes(true);
        return speech.over(false);
    }

    /// The model has a response to give, and may not have begun to speak yet.
    public synchronized boolean thinking() {
        return !closed && (responses.pending() || toolRunning());
    }

    /// The same, and only the model is waited for: it is connected, and no tool runs.
    synchronized boolean answerIsDue() {
        return thinking() && !toolRunning() && !pausing && connectedAt != 0;
    }

    /// The model waits for the output of a tool.
    public synchronized boolean toolRunning() {
        return history.toolRunning();
    }

    /// The caller is speaking, as far as the model has noticed.
    public synchronized boolean callerSpeaking() {
        return !closed && callerSpeaking;
    }

    /// For how long the caller had been silent when the model noticed that they had finished.
    /// Zero with `semantic_vad`, because that waits on purpose.
    public synchronized Duration callerQuiet() {
        return takes("turn_detection", model.turnDetection.equals("semantic_vad"))
                ? Duration.ZERO : hearing.callerQuiet();
    }

    /// The caller's sound: 24 kHz, 16 bit, mono, in pieces of any size, in their order.
    public void hear(byte[] pcm) {
        hearing.hear(pcm, turnUnanswered);
    }

    /// Asks the model for a sign of life. Returns how many events it has sent in this connection so
    /// far. Returns -1 when it has never answered an update: its silence then means nothing.
    synchronized int probe() {
        link.probe();
        return link.answersUpdates() ? link.events() : -1;
    }

    /// The caller has waited too long for an answer, so the connection is at fault. An earlier
    /// trouble is not over then.
    synchronized void giveUpOn(String why) {
        if (!closed && !link.isClosed()) {
            replace(new Fault(why));
        }
    }

    @Override
    public synchronized void close() {
        closed = true;
        link.close();
    }

    // For Responses, which calls these while the lock is held.

    /// Can the model be asked for a response now?
    boolean isQuiet() {
        return setup != null && !callerSpeaking && !toolRunning() && !pausing && !closed;
    }

    String instructionsToGreet() {
        return setup.instructions + "\n" + setup.greeting;
    }

    /// The item of the caller's latest turn, if it has no answer yet; otherwise null.
    String unansweredTurn() {
        return turnUnanswered ? callersItem : null;
    }

    /// The caller's turn has an answer, unless they are saying more already.
    void turnAnswered() {
        if (!callerSpeaking) {
            turnUnanswered = false;
        }
    }

    /// No more sound of what the agent says will come. (Not every service says so itself.)
    void soundIsOver() {
        speaker.end(unfinishedItem);
        unfinishedItem = null;
    }

    /// Does somebody write down what the caller says?
    boolean transcribes() {
        return takes("transcription", !model.transcription.isBlank());
    }

    private boolean takes(String update, boolean sent) {
        return sent && !refusedSettings.contains(Link.OPTIONAL_UPDATES.get(update));
    }

    // Troubles. A method that is not synchronized is called while the lock is held.

    /// A connection is of no use any more. A new one takes its place.
    synchronized void linkFailed(Link failed, Fault fault) {
        if (closed || failed != link || failed.isClosed()) {
            return;
        }
        settle();
        replace(fault);
    }

    /// This connection has been there for a while. So what was wrong with the last one is over.
    private void settle() {
        long now = mailbox.nanos();
        if (connectedAt != 0 && now - connectedAt > PROVEN_AFTER.toNanos() && !thinking()) {
            trouble.modelWorksSince(connectedAt);
        }
    }

    /// Closes the connection. Makes another one, unless the model is given up.
    void replace(Fault fault) {
        boolean worked = connectedAt != 0;
        closeLink();
        if (tryLater(fault, worked)) {
            Log.log(phoneCall, "the connection to the model is lost, trying again: " + fault.why());
            mailbox.post(new Event.ModelAway(fault.why(), hearing.callerWaited()));
        }
    }

    /// The model has refused to answer. It is asked once more here, and then in a new connection.
    void notAnswered(Fault fault) {
        responses.willNotCome();
        if (trouble.lasts()) {
            replace(fault);
        } else if (tryLater(fault, false)) {
            Log.log(phoneCall, "the model does not answer, asking again: " + fault.why());
        }
    }

    /// Has the call's thread try the model again, after a pause. Returns false when the model is
    /// given up instead. `worked`: the connection that has failed was of use.
    private boolean tryLater(Fault fault, boolean worked) {
        Duration wait = trouble.next(fault, worked, mailbox.nanos());
        if (wait == null) {
            lose(fault);
            return false;
        }
        pausing = true;
        mailbox.post(new Event.TryAgainIn(wait));
        return true;
    }

    /// Gives the model up. The call goes on without it.
    void lose(Fault fault) {
        closed = true;
        closeLink();
        mailbox.post(new Event.ModelLost(trouble.why(fault)));
    }

    private void closeLink() {
        link.close();
        speech.noMoreComes(true);
        speaker.end(unfinishedItem);
    }

    /// The time has passed that Event.TryAgainIn has named.
    public synchronized void tryAgain() {
        pausing = false;
        if (!closed && link.isClosed()) {
            connect(link);
        } else {
            responses.askIfQuiet();
            mailbox.post(new Event.TurnChanged());
        }
    }

    private void connect(Link before) {
        link = new Link(this, model, phoneCall, before != null);
        boolean brokeOff = unfinishedItem != null;
        callerSpeaking = false;
        turnUnanswered &= hearing.keepsSpeech();    // or else it is told, and asked about
        unfinishedItem = null;
        connectedAt = 0;
        if (before != null && setup != null) {
            link.configure(setup.instructions, setup.tools, refusedSettings);
            history.tell(link, unansweredTurn(), brokeOff);
        }
        hearing.moveTo(link, turnUnanswered);
        responses.moved(turnUnanswered, brokeOff);
        link.start();
    }

    // What the model sends.

    /// An event from the model. The thread on which `from` receives calls this.
    synchronized void received(Link from, RealtimeServerEvent event) {
        if (from != link || from.isClosed() || closed) {
            return;
        }
        if (from.eventCame(event.isSessionUpdated())) {
            connectedAt = mailbox.nanos();
            if (from.isReplacement()) {
                Log.log(phoneCall, "the model is back, after " + from.ageMs() + " ms");
                mailbox.post(new Event.ModelBack());
            }
        }
        hearing.eventCame(event.isInputAudioBufferSpeechStarted()
                || callerSpeaking && !event.isInputAudioBufferSpeechStopped());
        if (event.isResponseOutputAudioDelta()) {
            var delta = event.asResponseOutputAudioDelta();
            byte[] sound = Base64.getDecoder().decode(delta.delta());
            String item = delta.itemId();
            if (sound.length == 0) {
                return;
            }
            if (responses.soundCame(delta._responseId().asString().orElse(""))) {
                soundCame(from, item, sound);
            } else if (from.soundBytes(item) == null) {
                from.soundCame(item, sound.length);
                speech.dropped(item);
                from.truncate(item, 0);
            }
        } else if (event.isResponseOutputAudioDone()) {
            if (event.asResponseOutputAudioDone().itemId().equals(unfinishedItem)) {
                soundIsOver();                      // and nothing of it was dropped
            }
        } else if (event.isInputAudioBufferSpeechStarted()) {
            callerBegins(event.asInputAudioBufferSpeechStarted());
        } else if (event.isInputAudioBufferSpeechStopped()) {
            hearing.callerFinished(event.asInputAudioBufferSpeechStopped()._audioEndMs().asKnown()
                    .orElse(0L));
            if (callerSpeaking) {
                responses.callerHasSpoken();
            }
            callerSpeaking = false;
            mailbox.post(new Event.TurnChanged());
        } else if (event.isConversationItemAdded()) {
            confirmed(event.asConversationItemAdded().item());
        } else if (event.isConversationItemCreated()) { // the name in older versions
            confirmed(event.asConversationItemCreated().item());
        } else if (event.isResponseCreated()) {
            responses.created(event.asResponseCreated()._response().asKnown()
                    .flatMap(created -> created.id()).orElse(""));
            mailbox.post(new Event.TurnChanged());
        } else if (event.isResponseDone()) {
            responses.done(event.asResponseDone().response());
            mailbox.post(new Event.TurnChanged());
        } else if (event.isResponseFunctionCallArgumentsDone()) {
            var done = event.asResponseFunctionCallArgumentsDone();
            responses.argumentsCame(done._responseId().asString().orElse(""),
                    new ToolCall(done.callId(), done.name(), done.arguments()));
        } else if (event.isResponseOutputItemDone()
                && event.asResponseOutputItemDone().item().isFunctionCall()) {
            var done = event.asResponseOutputItemDone();
            var tool = done.item().asFunctionCall();
            responses.itemCame(done._responseId().asString().orElse(""),
                    new ToolCall(tool.callId().orElseThrow(() ->
                            new IllegalArgumentException("a tool call without a call_id")),
                            tool.name(), tool.arguments()),
                    tool.status().filter(s -> s.asString().equals("incomplete")).isPresent());
        } else if (event.isResponseOutputAudioTranscriptDelta()) {
            var delta = event.asResponseOutputAudioTranscriptDelta();
            speech.says(delta.itemId(), delta.delta());
        } else if (event.isResponseOutputAudioTranscriptDone()) {
            var done = event.asResponseOutputAudioTranscriptDone();
            speech.written(done.itemId(), done.transcript());
            look();
        } else if (event.isResponseOutputTextDone()) {
            writes(event.asResponseOutputTextDone());
        } else if (event.isConversationItemInputAudioTranscriptionCompleted()) {
            var said = event.asConversationItemInputAudioTranscriptionCompleted();
            history.callerSays(said.itemId(), said.transcript());
            mailbox.post(new Event.CallerSaid(said.itemId(), said.transcript()));
            transcribed(said.itemId());
        } else if (event.isConversationItemInputAudioTranscriptionFailed()) {
            transcribed(event.asConversationItemInputAudioTranscriptionFailed().itemId());
        } else if (event.isError()) {
            errorReported(from, event.asError().error());
        }
    }

    private void callerBegins(InputAudioBufferSpeechStartedEvent begun) {
        settle();
        boolean answered = !turnUnanswered;
        boolean again = hearing.isHeardAgain(begun._audioStartMs().asKnown().orElse(0L));
        callerSpeaking = turnUnanswered = true;
        callersItem = begun._itemId().asString().orElse("");
        history.callerSays(callersItem, "");
        // The sound ends here, and not on the call's thread, which may be late. What is heard again
        // does not break off the recording that bridges the time.
        responses.callerSpeaks(callersItem, answered,
                (!again || speaker.holds(lastItemWithSound)) && silence());
        mailbox.post(again && !answered ? new Event.CallerHeardAgain(callersItem)
                : new Event.CallerSpeaks(callersItem));
    }

    private void soundCame(Link from, String itemId, byte[] sound) {
        speaker.play(itemId, sound);
        from.soundCame(itemId, sound.length);
        speech.soundCame(itemId, sound.length);
        trouble.modelWorksSince(mailbox.nanos() - PROVEN_AFTER.toNanos());
        turnAnswered();
        unfinishedItem = itemId;
        if (!itemId.equals(lastItemWithSound)) {
            lastItemWithSound = itemId;
            mailbox.post(new Event.AgentSpeaks(itemId));
        }
    }

    /// The service has this item in its conversation. Only the kinds that we send may be ours.
    private void confirmed(ConversationItem item) {
        Stream.of(item.realtimeConversationItemSystemMessage().flatMap(each -> each.id()),
                item.realtimeConversationItemUserMessage().flatMap(each -> each.id()),
                item.functionCallOutput().flatMap(each -> each.id()))
                .flatMap(Optional::stream).forEach(history::confirmed);
    }

    /// An answer in writing. The caller cannot read it, but it belongs to the conversation.
    private void writes(ResponseTextDoneEvent done) {
        responses.textCame();
        history.agentWrites(done.itemId(), done.text());
        mailbox.post(new Event.AgentSays(done.itemId(), done.text()));
        mailbox.post(new Event.AgentSaid(done.itemId(), done.text()));
    }

    private void transcribed(String itemId) {
        responses.transcribed(itemId);
        mailbox.post(new Event.TurnChanged());
    }

    /// Most errors are about one event that we have sent. The conversation goes on without it.
    private void errorReported(Link from, RealtimeError error) {
        String code = error._code().asKnown().orElse("");
        if (code.equals("response_cancel_not_active")) {
            return; // the response had ended before we broke it off
        }
        String said = model.said(error);
        String setting = Model.setting(error);
        String about = error.eventId().orElse("");      // an event of ours
        String type = error._type().asKnown().orElse("");
        boolean ourMistake = type.equals("invalid_request_error");
        var fault = model.fault("it reports", error);
        if (Link.OPTIONAL_UPDATES.containsValue(setting)) {
            refusedSettings.add(setting);
            Log.log(phoneCall, "the model reports " + said + "; the call goes on with the default");
        } else if (!fault.passes()) {
            lose(fault);
        } else if (code.equals("conversation_already_has_active_response")) {
            responses.alreadyResponding();
            Log.log(phoneCall, "the model reports " + said);
        } else if (about.equals(Link.SESSION_UPDATE) || code.equals("session_expired")) {
            linkFailed(from, fault);
        } else if (responses.isRequest(about) || !ourMistake && responses.awaited()) {
            notAnswered(fault);
        } else if (ourMistake || type.isEmpty() || code.equals("rate_limit_exceeded")) {
            Log.log(phoneCall, "the model reports " + said);
        } else {
            linkFailed(from, fault);
        }
    }
}
