package demo;

import module java.base;
import demo.DemoModel.*;
import jakarta.json.JsonObject;

import static demo.DemoModel.DELTA_MS;
import static demo.DemoModel.RATE;
import static demo.DemoModel.TONE_HZ;
import static demo.DemoModel.json;

/// One response of the stand-in for the model: it does one step of the script, with an item for
/// each part of that step. ModelConversation begins it, and finishes it early when the caller or
/// the client interrupts.
///
/// It sends the events that the service sends for a response, in the service's order
/// (https://developers.openai.com/api/docs/guides/realtime-conversations). Not here: which step
/// comes next, and when. Only the thread of the session calls this class.
final class ModelResponse {
    private static final int DELTA_EVERY_MS = 24; // so sound is sent four times as fast as speech
    private static final int AMPLITUDE = 8000;
    private static final int FADE = RATE / 200; // samples: 5 ms, or the tone would click

    final String id;
    private final DemoModel model;
    private final DemoModel.Session connection;
    private final ModelConversation conversation;
    private final Step step;
    private final Iterator<Step> parts;
    private final List<JsonObject> output = new ArrayList<>(); // the items that are over
    private boolean created;
    private final StringBuilder allWritten = new StringBuilder();
    private int allSamples;

    // the item being made
    private Step part;
    private String itemId, callId;
    private int samplesSent, lettersSent;

    ModelResponse(DemoModel model, DemoModel.Session connection, ModelConversation conversation,
                  Step step) {
        this.model = model;
        this.connection = connection;
        this.conversation = conversation;
        this.step = step;
        parts = (step instanceof Together(List<Step> steps) ? steps : List.of(step)).iterator();
        id = model.newId("resp");
    }

    /// Has `response.created` been sent? Before that, nothing can break the response off.
    boolean isCreated() {
        return created;
    }

    void begin() {
        created = true;
        connection.emit("response.created", "response", response("in_progress", null));
        switch (step) {
            case Fail(String code, String message) -> {
                conversation.over();
                connection.emit("response.done", "response", response("failed",
                        json("type", "failed", "error", json("type", "server_error", "code", code,
                                "message", message))));
            }
            case Nothing(String status) -> {
                conversation.over();
                connection.emit("response.done", "response", response(status,
                        status.equals("completed") ? null
                                : json("type", status, "reason", "max_output_tokens")));
            }
            default -> item();
        }
    }

    /// Begins the next item.
    private void item() {
        int thinking = part == null ? model.firstSoundMs : 0;
        part = parts.next();
        itemId = model.newId("item");
        callId = model.newId("call");
        samplesSent = lettersSent = 0;
        event("response.output_item.added", "item", item("in_progress"));
        conversation.added(item("in_progress"));
        switch (part) {
            case Say _, Play _ -> {
                event("response.content_part.added", "content_index", 0, "part", content());
                connection.later(thinking, this::speak);
            }
            case Stall _ -> connection.later(thinking, this::speak);
            case Write _ -> {
                event("response.content_part.added", "content_index", 0, "part", content());
                connection.later(thinking, this::write);
            }
            case Tool(String name, String arguments) -> {
                conversation.called(callId);
                event("response.function_call_arguments.delta", "call_id", callId,
                        "delta", arguments);
                event("response.function_call_arguments.done", "call_id", callId,
                        "name", name, "arguments", arguments);
                if (model.toolEndMs == 0) complete();
                else connection.later(model.toolEndMs, this::complete);
            }
            case Fail _, Nothing _, Together _ -> throw new IllegalStateException("no item");
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
        event("response.output_audio.delta", "content_index", 0,
                "delta", Base64.getEncoder().encodeToString(pcm.array()));
        int letters = samplesSent == all ? text.length()
                : (int) ((long) text.length() * samplesSent / all);
        if (letters > lettersSent) {
            event("response.output_audio_transcript.delta", "content_index", 0,
                    "delta", text.substring(lettersSent, letters));
            lettersSent = letters;
        }
        if (samplesSent == all && part instanceof Stall) return;
        if (samplesSent == all) complete();
        else connection.later(DELTA_EVERY_MS, this::speak);
    }

    private void write() {
        if (!conversation.isActive(this)) return; // it was interrupted
        lettersSent = text().length();
        event("response.output_text.delta", "content_index", 0, "delta", text());
        complete();
    }

    private String text() {
        return switch (part) {
            case Say say -> say.text();
            case Play play -> play.text();
            case Write write -> write.text();
            case Stall _, Tool _, Fail _, Nothing _, Together _ -> "";
        };
    }

    private int samples() {
        return switch (part) {
            case Say(_, int ms) -> ms * RATE / 1000;
            case Stall(int ms) -> ms * RATE / 1000;
            case Play(_, byte[] pcm) -> pcm.length / 2;
            case Write _, Tool _, Fail _, Nothing _, Together _ -> 0;
        };
    }

    private short sample(int i, int all) {
        if (part instanceof Play(_, byte[] pcm)) {
            return (short) (pcm[2 * i] & 0xff | pcm[2 * i + 1] << 8);
        }
        double fade = Math.min(1, Math.min(i, all - i) / (double) FADE);
        return (short) (AMPLITUDE * fade * Math.sin(2 * Math.PI * TONE_HZ * i / RATE));
    }

    /// The item is complete. The next one begins, or the response is complete, too.
    private void complete() {
        if (!conversation.isActive(this)) return; // it was interrupted
        if (!parts.hasNext()) conversation.over();
        end("completed");
        if (parts.hasNext()) item();
        else connection.emit("response.done", "response", response("completed", null));
    }

    /// Finishes the response early, for the reason `cut`. It keeps what was sent of it.
    void finish(String cut) {
        conversation.over();
        end("incomplete");
        connection.emit("response.done", "response",
                response("cancelled", json("type", "cancelled", "reason", cut)));
    }

    /// Sends the closing events of the item.
    private void end(String status) {
        JsonObject done = item(status);
        switch (part) {
            case Say _, Play _ -> {
                event("response.output_audio.done", "content_index", 0);
                event("response.output_audio_transcript.done", "content_index", 0,
                        "transcript", written());
                event("response.content_part.done", "content_index", 0, "part", content());
            }
            case Write _ -> {
                event("response.output_text.done", "content_index", 0, "text", written());
                event("response.content_part.done", "content_index", 0, "part", content());
            }
            case Stall _, Tool _, Fail _, Nothing _, Together _ -> { }
        }
        allWritten.append(part instanceof Tool(_, String arguments) ? arguments : written());
        allSamples += samplesSent;
        event("response.output_item.done", "item", done);
        conversation.done(done);
        output.add(done);
    }

    /// Sends an event about the item. An event that carries the whole item does not name its id a
    /// second time.
    private void event(String type, Object... fields) {
        var event = new ArrayList<Object>(List.of("response_id", id,
                "output_index", output.size()));
        if (!type.contains("output_item")) event.addAll(List.of("item_id", itemId));
        event.addAll(List.of(fields));
        connection.emit(type, event.toArray());
    }

    private JsonObject response(String status, JsonObject details) {
        return json("object", "realtime.response", "id", id, "status", status,
                "status_details", details, "output_modalities", List.of("audio"),
                "output", List.copyOf(output), "usage", status.equals("in_progress") ? null
                        : conversation.usage("" + allWritten, allSamples * 1000 / RATE));
    }

    private JsonObject item(String status) {
        boolean begun = status.equals("in_progress");
        if (part instanceof Tool(String name, String arguments)) {
            return json("id", itemId, "object", "realtime.item", "type", "function_call",
                    "status", status, "call_id", callId, "name", name,
                    "arguments", begun ? "" : arguments);
        }
        return json("id", itemId, "object", "realtime.item", "type", "message", "status", status,
                "role", "assistant", "content", begun ? List.of() : List.of(
                        part instanceof Write ? json("type", "output_text", "text", written())
                                : json("type", "output_audio", "transcript", written())));
    }

    private JsonObject content() {
        return part instanceof Write ? json("type", "text", "text", written())
                : json("type", "audio", "transcript", written());
    }

    private String written() {
        return text().substring(0, lettersSent);
    }
}
