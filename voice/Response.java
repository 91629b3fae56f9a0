package voice;

import module java.base;
import voice.History.ToolCall;

/// One [response](https://developers.openai.com/api/docs/guides/realtime-conversations) of the
/// model while it is being given, and what it has brought so far. Responses makes one when the
/// model begins a response, and uses it while Realtime's lock is held.
final class Response {

    /// What a response has brought, now that the model is done with it. UNHEARD: nothing that the
    /// caller can hear, and no tool call. CANCELLED: the caller has overtaken it.
    enum Outcome { SOUND, TOOL_CALL, UNHEARD, CANCELLED, FAILED }

    final String id;                            // "" when the service does not say
    boolean overtaken;                          // the caller has spoken since it was asked for
    boolean toItems;                            // it is to answer what the model was told
    boolean sound;
    boolean text;                               // written words without sound
    final Set<String> calls = new HashSet<>();  // the ids of its tool calls
    // The outputs of some of these calls, by item id. They need an answer only if the response
    // says nothing.
    final Set<String> reports = new HashSet<>();
    private final Map<String, ToolCall> open = new LinkedHashMap<>();       // not complete yet

    Response(String id) {
        this.id = id;
    }

    /// Does what names this response belong to it? A service that leaves ids out means this one.
    boolean is(String responseId) {
        return id.isEmpty() || responseId.isEmpty() || id.equals(responseId);
    }

    /// The arguments of a tool call are whole. The model may still take it back: when somebody
    /// breaks off the response, its last item stays incomplete.
    void opened(ToolCall call) {
        open.put(call.callId(), call);
    }

    /// An item with this tool call is over, complete or not.
    void closed(String callId) {
        open.remove(callId);
    }

    /// The tool calls whose items were never said to be over. (OpenAI reports a call twice. Other
    /// services that speak its protocol send only one of the two events.)
    Collection<ToolCall> stillOpen() {
        return List.copyOf(open.values());
    }

    /// What this response has brought. `status` is the service's word for how it has ended. If the
    /// service has cancelled it, and nobody has overtaken it, nothing else will answer.
    Outcome outcome(String status) {
        return overtaken ? Outcome.CANCELLED
                : status.equals("failed") ? Outcome.FAILED
                : sound ? Outcome.SOUND
                : calls.isEmpty() ? Outcome.UNHEARD : Outcome.TOOL_CALL;
    }
}
