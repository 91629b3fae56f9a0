package demo;

import module java.base;
import demo.DemoModel.*;
import jakarta.json.JsonObject;

import static demo.DemoModel.DELTA_MS;
import static demo.DemoModel.RATE;
import static demo.DemoModel.TONE_HZ;
import static demo.DemoModel.json;

/// One response of the stand-in for the model, with its only item: it does one step of the script.
/// ModelConversation begins it, and finishes it early when the caller or the client interrupts.
///
/// It sends the events that the service sends for a response, in the service's order
/// (https://developers.openai.com/api/docs/guides/realtime-conversations). Not here: which step
/// comes next, and when. Only the thread of the session calls this class.
final class ModelResponse {
    private static final int DELTA_EVERY_MS = 24; // so sound is sent four times as fast as speech
    private static final int AMPLITUDE = 8000;
    private static final int FADE = RATE / 200; // samples: 5 ms, or the tone would click

    final String id;
    private final String itemId, callId;
    private final DemoModel model;
    private final DemoModel.Session connection;
    private final ModelConversation conversation;
    private final Step step;
    private int samplesSent, lettersSent;

    ModelResponse(DemoModel model, DemoModel.Session connection, ModelConversation conversation,
                  Step step) {
        this.model = model;
        this.connection = connection;
        this.conversation = conversation;
        this.step = step;
        id = model.newId("resp");
        itemId = model.newId("item");
        callId = model.newId("call");
    }

    void begin() {
        connection.emit("response.created", "response", response("in_progress", null));
        part("response.output_item.added", "item", item("in_progress"));
        conversation.added(item("in_progress"));
        switch (step) {
            case Say _, Play _ -> {
                part("response.content_part.added", "content_index", 0, "part", content());
                connection.later(model.firstSoundMs, this::speak);
            }
            case Stall _ -> connection.later(model.firstSoundMs, this::speak);
            case Fail(String code) -> {
                conversation.over();
                connection.emit("response.done", "response", json("object", "realtime.response",
                        "id", id, "status", "failed", "status_details",
                        json("type", "failed", "error", json("type", "server_error",
                                "code", code)), "output", List.of()));
            }
            case Tool(_, String arguments) -> {
                conversation.called(callId);
                part("response.function_call_arguments.delta", "call_id", callId,
                        "delta", arguments);
                finish(null);
            }
        }
    }

    /// Sends the next piece of sound, and of the transcript as many letters as belong to it.
    private void speak() {
        if (!conversation.isActive(this)) return; // it was interrupted
        String text = text();
        int all = samples();
        int count = Math.min(DELTA_MS * RATE / 1000, all - samplesSent);
        var pcm = ByteBuffer.allocate(count * 2).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = samplesSent; i < samplesSent + count; i++) {
            pcm.putShort(sample(i, all));
        }
        samplesSent += count;
        // Before the sound is sent: the client may truncate the item at once.
        conversation.spoken(itemId, samplesSent * 2);
        part("response.output_audio.delta", "content_index", 0,
                "delta", Base64.getEncoder().encodeToString(pcm.array()));
        int letters = samplesSent == all ? text.length()
                : (int) ((long) text.length() * samplesSent / all);
        if (letters > lettersSent) {
            part("response.output_audio_transcript.delta", "content_index", 0,
                    "delta", text.substring(lettersSent, letters));
            lettersSent = letters;
        }
        if (samplesSent == all && step instanceof Stall) return;
        if (samplesSent == all) finish(null);
        else connection.later(DELTA_EVERY_MS, this::speak);
    }

    private String text() {
        return switch (step) {
            case Say say -> say.text();
            case Play play -> play.text();
            case Stall _, Tool _, Fail _ -> "";
        };
    }

    private int samples() {
        return switch (step) {
            case Say(_, int ms) -> ms * RATE / 1000;
            case Stall(int ms) -> ms * RATE / 1000;
            case Play(_, byte[] pcm) -> pcm.length / 2;
            case Tool _, Fail _ -> 0;
        };
    }

    private short sample(int i, int all) {
        if (step instanceof Play(_, byte[] pcm)) {
            return (short) (pcm[2 * i] & 0xff | pcm[2 * i + 1] << 8);
        }
        double fade = Math.min(1, Math.min(i, all - i) / (double) FADE);
        return (short) (AMPLITUDE * fade * Math.sin(2 * Math.PI * TONE_HZ * i / RATE));
    }

    /// Finishes the response: it is complete, or was cut short for the reason `cut`. Both send the
    /// same closing events, because a cancelled response keeps what was sent of it.
    void finish(String cut) {
        conversation.over();
        JsonObject done = item(cut == null ? "completed" : "incomplete");
        switch (step) {
            case Say _, Play _ -> {
                part("response.output_audio.done", "content_index", 0);
                part("response.output_audio_transcript.done", "content_index", 0,
                        "transcript", transcript());
                part("response.content_part.done", "content_index", 0, "part", content());
            }
            case Tool(String name, String arguments) ->
                    part("response.function_call_arguments.done", "call_id", callId,
                            "name", name, "arguments", arguments);
            case Stall _, Fail _ -> { }
        }
        part("response.output_item.done", "item", done);
        conversation.done(done);
        connection.emit("response.done", "response", response(
                cut == null ? "completed" : "cancelled", cut, done));
    }

    /// Sends an event about this response's item. An event that carries the whole item does not
    /// name its id a second time.
    private void part(String type, Object... fields) {
        var event = new ArrayList<Object>(List.of("response_id", id, "output_index", 0));
        if (!type.contains("output_item")) event.addAll(List.of("item_id", itemId));
        event.addAll(List.of(fields));
        connection.emit(type, event.toArray());
    }

    private JsonObject response(String status, String cut, JsonObject... output) {
        return json("object", "realtime.response", "id", id, "status", status,
                "status_details", cut == null ? null : json("type", "cancelled", "reason", cut),
                "output_modalities", List.of("audio"), "output", List.of(output));
    }

    private JsonObject item(String status) {
        boolean begun = status.equals("in_progress");
        return switch (step) {
            case Say _, Play _, Stall _, Fail _ -> json("id", itemId,
                    "object", "realtime.item", "type", "message", "status", status,
                    "role", "assistant", "content", begun ? List.of() : List.of(json(
                            "type", "output_audio", "transcript", transcript())));
            case Tool(String name, String arguments) -> json("id", itemId,
                    "object", "realtime.item", "type", "function_call",
                    "status", status, "call_id", callId, "name", name,
                    "arguments", begun ? "" : arguments);
        };
    }

    private JsonObject content() {
        return json("type", "audio", "transcript", transcript());
    }

    private String transcript() {
        return text().substring(0, lettersSent);
    }
}
