package voice;

import module java.base;
import com.openai.models.realtime.*;
import voice.History.ToolCall;
import voice.Trouble.Fault;

/// When the model is asked for a response, and what each
/// [response](https://developers.openai.com/api/docs/guides/realtime-conversations) brings: sound,
/// tool calls, or nothing that the caller can hear. Realtime has one Responses for each call, hands
/// in what the model sends, and holds its own lock when it calls a method.
///
/// What is not done here: the caller's turns and the connections are Realtime's.
final class Responses {
    private static final int MOST_ROUNDS = 5;   // of tool calls, between two turns of the caller
    private static final int MOST_UNHEARD = 2;  // answers without sound, from one connection

    private final Realtime conversation;
    private Response response;                  // the one that is being given, or null
    private final Set<String> finished = new HashSet<>();       // responses, by id
    private boolean comesByItself;              // the caller has finished, the model must begin one
    private boolean wanted;                     // one is to be asked for, at a quiet moment
    private String request;                     // the event that asks for one; null once it begins
    private boolean overtaken;                  // the caller has spoken since it was asked for
    private int timesAsked;
    private int rounds;                         // of tool calls, since the caller's last turn
    private boolean greeted;                    // the model has sent sound
    private int unheard;                        // answers without sound, since there was sound
    private boolean transcriptDecides;          // whether an empty answer is asked for once more
    // The turn of the caller that has broken off the agent, and those after it, as long as none has
    // an answer: by item id, whether it was written down.
    private final Map<String, Boolean> maybeNoise = new HashMap<>();
    // The tool calls of responses that have spoken, too, by call id.
    private final Set<String> spokenBeside = new HashSet<>();

    Responses(Realtime conversation) {
        this.conversation = conversation;
    }

    /// The model has a response to give, and may not be done with it yet.
    boolean pending() {
        return response != null || comesByItself || wanted || request != null || transcriptDecides
                || conversation.history.unanswered();
    }

    /// The model is giving a response.
    boolean responding() {
        return response != null;
    }

    // Asking.

    /// A response is to be asked for, beside those that items in the conversation want.
    void wantResponse() {
        wanted = true;
        askIfQuiet();
    }

    /// Asks for a response, if one is to be asked for and this is a quiet moment. The service takes
    /// it for an error when it is asked while it gives a response. While the caller speaks, asking
    /// is needless: the model responds by itself when they have finished.
    void askIfQuiet() {
        if ((wanted || conversation.history.unanswered()) && request == null && response == null
                && conversation.isQuiet()) {
            request = "ask-" + ++timesAsked;
            overtaken = false;
            conversation.history.responseAskedFor();
            // The instructions of a response take the place of the session's. So the session's are
            // sent again together with the greeting.
            conversation.link.askForResponse(request,
                    greeted ? null : conversation.instructionsToGreet(), rounds < MOST_ROUNDS);
        }
    }

    /// Takes the output of a tool: see `Realtime.answer`.
    void toolAnswered(String callId, String json, boolean speak) {
        String item = conversation.history.toolOutput(callId, json, conversation.link);
        if (!speak && response != null && response.calls.contains(callId)) {
            response.reports.add(item);         // this response may still say something
        } else if (speak || !spokenBeside.contains(callId)) {
            conversation.history.wantsAnswer(item);
        }
        askIfQuiet();
    }

    /// The service has refused to begin a response, because it is giving another one. That one may
    /// not answer everything. What is left is asked for after it.
    void alreadyResponding() {
        request = null;
        response = response == null ? new Response("") : response;
    }

    /// Is that the event that asks for a response now?
    boolean isRequest(String eventId) {
        return eventId.equals(request);
    }

    /// The model is to give a response, and nothing of it has been heard yet.
    boolean awaited() {
        return request != null || comesByItself || response != null && !response.sound;
    }

    // The caller's turns.

    /// The caller speaks. `answered`: they do not wait for the answer to an earlier turn.
    /// `brokeOff`: the agent was speaking, or a recording.
    void callerSpeaks(String item, boolean answered, boolean brokeOff) {
        comesByItself = transcriptDecides = false;
        overtaken = request != null;
        rounds = 0;
        if (answered) {
            maybeNoise.clear();
        }
        if (answered ? brokeOff : !maybeNoise.isEmpty()) {
            maybeNoise.put(item, false);
        }
        if (response != null) {
            response.overtaken = true;          // the model breaks it off by itself
        }
    }

    /// The caller has finished. The model responds to that by itself.
    void callerHasSpoken() {
        comesByItself = true;
    }

    /// The caller has written something. That is a turn of theirs, too.
    void callerWrites() {
        rounds = 0;
    }

    /// Breaks off the response that is being given.
    void breakOff() {
        if (response != null && !response.overtaken) {
            response.overtaken = true;
            conversation.link.cancelResponse(response.id);
        }
    }

    // What the model sends.

    /// The model begins a response.
    void created(String id) {
        if (finished.contains(id) || response != null && !id.isEmpty() && id.equals(response.id)) {
            return;                             // it was said already
        }
        response = new Response(id);
        boolean stale = overtaken && request != null;
        comesByItself &= stale;                 // if this one is stale, that one is still to come
        request = null;
        wanted = overtaken = transcriptDecides = false;
        response.toItems = conversation.history.responseBegins();
        // It may have been on its way while the caller said more: then it is not an answer.
        if (stale || conversation.callerSpeaking() || conversation.history.callerUnanswered()) {
            breakOff();
        }
    }

    /// Something of a response has come. Not every service says before that that one begins.
    private void begins(String id) {
        if (response == null && (request != null || comesByItself) && !finished.contains(id)) {
            created(id);
        }
    }

    /// Sound of this response has come. Returns false when it is not to be played: it was on its
    /// way when the response was over, or when the caller had overtaken it.
    boolean soundCame(String responseId) {
        begins(responseId);
        if (finished.contains(responseId)
                || response != null && (!response.is(responseId) || response.overtaken)) {
            return false;
        }
        if (response != null) {
            response.sound = true;
        }
        greeted = true;
        unheard = 0;
        return true;
    }

    /// The response has brought words in writing.
    void textCame() {
        if (response != null) {
            response.text = true;
        }
    }

    /// The arguments of a tool call are whole. The call is complete with its item, or with the
    /// response. If the service has told us of no such response, the call is complete at once.
    void argumentsCame(String responseId, ToolCall call) {
        if (response != null && response.is(responseId)) {
            response.opened(call);
        } else if (!finished.contains(responseId)) {
            toolCalled(call, null);
        }
    }

    /// The item of a tool call is over. If somebody has broken off the response, the item may be
    /// `incomplete`, and end in mid-argument.
    void itemCame(String responseId, ToolCall call, boolean incomplete) {
        begins(responseId);
        if (response != null) {
            response.closed(call.callId());
        }
        if (!incomplete) {
            toolCalled(call, response);
        }
    }

    /// A tool call is complete, and is made unless it comes too late or is one too many. `in`: the
    /// response that has brought the call, or null.
    private void toolCalled(ToolCall call, Response in) {
        History history = conversation.history;
        if (!history.toolCalled(call)) {
            return;
        }
        String whyNot = in != null && in.overtaken ? "Not done: the caller has spoken since."
                : rounds >= MOST_ROUNDS ? "Not done: too many calls at once. Answer the caller now."
                : null;
        if (whyNot != null) {
            history.toolOutput(call.callId(), "{\"error\":\"" + whyNot + "\"}", conversation.link);
            return;
        }
        if (in != null) {
            in.calls.add(call.callId());
        }
        conversation.turnAnswered();
        conversation.mailbox.post(
                new Event.ToolCalled(call.callId(), call.name(), call.arguments()));
    }

    /// The model is done with the response.
    void done(RealtimeResponse done) {
        conversation.usage = Usage.plus(conversation.usage, done);
        begins(done.id().orElse(""));
        if (response == null || !response.is(done.id().orElse(""))) {
            return;
        }
        String status = done.status().map(s -> s.asString()).orElse("completed");
        if (status.equals("completed")) {
            response.stillOpen().forEach(call -> toolCalled(call, response));
        }
        var whole = response;
        forget();
        conversation.soundIsOver();
        conversation.speech.noMoreComes(whole.overtaken || status.equals("cancelled"));
        rounds += whole.calls.isEmpty() ? 0 : 1;
        if (whole.sound) {
            spokenBeside.addAll(whole.calls);
        } else {
            whole.reports.forEach(conversation.history::wantsAnswer);
        }
        switch (whole.outcome(status)) {
            case SOUND, TOOL_CALL -> {
                conversation.turnAnswered();
                conversation.trouble.modelWorks();
            }
            case CANCELLED -> {
                if (whole.sound) {
                    conversation.trouble.modelWorks();
                }
                // The model answers by itself what has broken it off. But it does not answer words
                // that have come before this response was created.
                wanted |= comesByItself;
                comesByItself = false;
            }
            case UNHEARD -> cannotBeHeard(whole.text || whole.toItems);
            case FAILED -> {
                var said = done.statusDetails().flatMap(RealtimeResponseStatus::error);
                var error = RealtimeError.builder()
                        .code(said.flatMap(one -> one._code().asKnown()))
                        .type(said.flatMap(one -> one._type().asKnown()).orElse(""))
                        .message(said.flatMap(one -> one._message().asKnown()).orElse("")).build();
                conversation.notAnswered(conversation.model.fault("it failed to answer:", error));
            }
        }
        askIfQuiet();
    }

    // Answers that the caller cannot hear.

    /// Some noise may have broken off the agent. The model then has nothing to answer, and answers
    /// nothing. Only the transcript says that it was noise. `certain`: the model has something to
    /// answer in any case.
    private void cannotBeHeard(boolean certain) {
        String turn = conversation.unansweredTurn();
        if (certain || turn == null || !maybeNoise.containsKey(turn)
                || !conversation.transcribes()) {
            askOnceMore();
        } else if (maybeNoise.containsValue(false)) {
            transcriptDecides = true;
        } else if (maybeNoise.keySet().stream()
                .allMatch(item -> conversation.history.callersWords(item).isBlank())) {
            conversation.turnAnswered();
            conversation.trouble.modelWorks();
        } else {
            askOnceMore();
        }
    }

    /// What the caller has said in this item was written down, or cannot be.
    void transcribed(String item) {
        maybeNoise.replace(item, true);
        if (transcriptDecides) {
            transcriptDecides = false;
            cannotBeHeard(false);
        }
    }

    /// The model is asked once more. After that, a new connection is tried in the same way, and
    /// then the model is lost.
    private void askOnceMore() {
        unheard++;
        wanted = true;
        var fault = new Fault("its answers cannot be heard");
        if (unheard >= 2 * MOST_UNHEARD) {      // from two connections
            conversation.lose(fault);
        } else if (unheard == MOST_UNHEARD) {
            // The caller has waited for two answers, so the recording comes at once.
            conversation.mailbox.post(new Event.ModelAway(fault.why(), Turn.CALLER_WAITS));
            conversation.replace(fault);
        } else {
            askIfQuiet();
        }
    }

    /// The response that was to be given will not come. Another one is to be asked for.
    void willNotCome() {
        wanted = true;
        request = null;
        if (response != null) {
            forget();
        }
    }

    private void forget() {
        if (!response.id.isEmpty()) {
            finished.add(response.id);
        }
        response = null;
    }

    /// There is a new connection. If the model hears the caller's turn once more (`again`), it
    /// responds by itself. Otherwise a response is asked for, if there was one to come, or if the
    /// old connection has failed while the agent was speaking (`brokeOff`).
    void moved(boolean again, boolean brokeOff) {
        wanted = !again && (pending() || brokeOff);
        comesByItself = again;
        transcriptDecides = false;
        request = null;
        response = null;
        finished.clear();
        maybeNoise.clear();                     // what is heard again has another id
        askIfQuiet();
    }
}
