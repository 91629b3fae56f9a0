package demo;

import module java.base;
import demo.DemoModel.Say;
import demo.DemoModel.Step;
import demo.DemoModel.Tool;
import jakarta.json.*;

import static demo.DemoModel.BYTES_PER_MS;
import static demo.DemoModel.RATE;
import static demo.DemoModel.json;

/// What the events of one client do: the conversation of one connection to DemoModel. It has the
/// session's configuration, the items, the script, and the ear that notices whether the caller
/// speaks. DemoModel.Session hands in each event, and sends what comes out.
///
/// The events and their fields are those of
/// https://developers.openai.com/api/docs/guides/realtime-conversations. Not here: what one
/// response does and sends (ModelResponse).
///
/// Only the thread of the session calls this class. `session()` and `spokenMs()` are for any
/// thread.
final class ModelConversation {
    private static final int WINDOW_MS = 20;
    private static final int TRANSCRIPTION_MS = 150;
    private static final int MOST_ID = 32; // letters of an item's id
    private static final int LETTERS_PER_TOKEN = 4;
    private static final int MS_PER_TOKEN_HEARD = 100, MS_PER_TOKEN_SPOKEN = 50;

    private final DemoModel model;
    private final DemoModel.Session connection;
    private final Iterator<Step> script;
    private final Map<String, Integer> spokenBytes = new ConcurrentHashMap<>(); // by item
    private volatile JsonObject session;

    private final Set<String> items = new HashSet<>();
    private final Set<String> openCalls = new HashSet<>(); // function calls without an output
    private String lastItem;
    private Deque<Step> textSteps = new ArrayDeque<>(); // they come before the script goes on
    private ModelResponse active; // the response being given, if any

    // The tokens of the items so far, and those that the response before this one has read.
    private int textTokens, audioTokens, readText, readAudio;

    // the ear
    private long samples, energy, startMs;
    private int loudMs, quietMs;
    private String speechItem; // while the caller speaks: the id of the item it will become

    ModelConversation(DemoModel model, DemoModel.Session connection, String id, String modelName,
                      List<Step> script) {
        this.model = model;
        this.connection = connection;
        this.script = script.iterator();
        session = json("type", "realtime", "object", "realtime.session", "id", id,
                "model", modelName, "output_modalities", List.of("audio"),
                "instructions", "", "tools", List.of(), "tool_choice", "auto",
                "audio", json(
                        "input", json("format", json("type", "audio/pcm", "rate", RATE),
                                "turn_detection", json("type", "server_vad",
                                        "threshold", 0.5, "prefix_padding_ms", 300,
                                        "silence_duration_ms", 500, "create_response", true,
                                        "interrupt_response", true)),
                        "output", json("format", json("type", "audio/pcm", "rate", RATE),
                                "voice", "alloy", "speed", 1)));
    }

    JsonObject session() {
        return session;
    }

    int spokenMs(String itemId) {
        return spokenBytes.getOrDefault(itemId, 0) / BYTES_PER_MS;
    }

    /// Does what a client event asks for, or reports the client's mistake.
    void take(JsonObject event) {
        String type = event.getString("type", "");
        if (!model.responds && type.startsWith("response.")) return;
        try {
            switch (type) {
                case "session.update" -> update(event);
                case "input_audio_buffer.append" ->
                        hear(Base64.getDecoder().decode(event.getString("audio")));
                case "conversation.item.create" -> create(event);
                case "conversation.item.truncate" -> truncate(event);
                case "response.create" -> {
                    JsonObject how = inside(event, "response");
                    if (active == null) {
                        respond(how == null || !how.getString("tool_choice", "").equals("none"));
                    }
                    else error(event, "conversation_already_has_active_response",
                            "response " + active.id + " is still active");
                }
                case "response.cancel" -> {
                    if (active != null && active.isCreated()
                            && event.getString("response_id", active.id).equals(active.id)) {
                        active.finish("client_cancelled");
                    }
                    else error(event, "response_cancel_not_active", "nothing to cancel");
                }
                default -> error(event, "unknown_event", "unknown event type: " + type);
            }
        } catch (NullPointerException | ClassCastException | IllegalArgumentException e) {
            error(event, "invalid_value", "a field is missing or of the wrong type: " + e);
        }
    }

    /// `cause` is the client's event that is wrong, or null when it cannot be read.
    void error(JsonObject cause, String code, String message) {
        error(cause, code, message, null);
    }

    /// `param` is the path of the field that is wrong, or null.
    private void error(JsonObject cause, String code, String message, String param) {
        connection.emit("error", "error", json("type", "invalid_request_error", "code", code,
                "message", message, "param", param,
                "event_id", cause == null ? null : cause.getString("event_id", null)));
    }

    private void update(JsonObject event) {
        JsonObject change = event.getJsonObject("session");
        if (!change.getString("type", "").equals("realtime")) {
            error(event, "invalid_value", "session.type must be realtime");
            return;
        }
        JsonObject turns = inside(change, "audio", "input", "turn_detection");
        JsonObject noise = inside(change, "audio", "input", "noise_reduction");
        if (turns != null && (isUnknown(event, turns.getString("type"), model.turnDetections,
                "session.audio.input.turn_detection.type") || isForTheOther(event, turns))
                || noise != null && isUnknown(event, noise.getString("type"),
                        model.noiseReductions, "session.audio.input.noise_reduction.type")) {
            return;
        }
        JsonObject merged = merge(session, change).asJsonObject();
        String voice = inside(merged, "audio", "output").getString("voice");
        JsonObject transcription = inside(merged, "audio", "input", "transcription");
        if (isUnknown(event, voice, model.voices, "session.audio.output.voice")
                || transcription != null && isUnknown(event, transcription.getString("model"),
                        model.transcriptionModels, "session.audio.input.transcription.model")) {
            return;
        }
        if (!spokenBytes.isEmpty()
                && !voice.equals(inside(session, "audio", "output").getString("voice"))) {
            error(event, "cannot_update_voice", "Cannot update a conversation's voice if assistant "
                    + "audio is present.", "session.audio.output.voice");
            return;
        }
        JsonObject format = inside(merged, "audio", "input", "format");
        if (!format.getString("type").equals("audio/pcm") || format.getInt("rate") != RATE) {
            error(event, "invalid_value", "this stand-in hears only 24 kHz audio/pcm");
            return;
        }
        session = merged;
        if (model.answersUpdates) connection.emit("session.updated", "session", session);
    }

    /// A field of `server_vad` is a mistake in `semantic_vad`, and the other way round.
    private boolean isForTheOther(JsonObject event, JsonObject turns) {
        boolean server = turns.getString("type").equals("server_vad");
        var wrong = Stream.of("threshold", "prefix_padding_ms", "silence_duration_ms",
                "idle_timeout_ms", "eagerness").filter(name -> turns.containsKey(name)
                        && server == name.equals("eagerness")).findFirst();
        wrong.ifPresent(name -> error(event, "unknown_parameter", "Unknown parameter: '" + name
                + "'.", "session.audio.input.turn_detection." + name));
        return wrong.isPresent();
    }

    /// Takes over the fields that `change` has, at every depth. An object of another type takes
    /// the place of the whole old one.
    private static JsonValue merge(JsonValue old, JsonValue change) {
        if (!(change instanceof JsonObject fields) || !(old instanceof JsonObject before)
                || fields.containsKey("type")
                        && !fields.get("type").equals(before.get("type"))) {
            return change;
        }
        var merged = Json.createObjectBuilder(before);
        fields.forEach((name, value) -> merged.add(name, merge(before.get(name), value)));
        return merged.build();
    }

    /// Reports a value that is not one of `known`, as the service does.
    private boolean isUnknown(JsonObject event, String value, List<String> known, String param) {
        boolean unknown = !known.contains(value);
        if (unknown) {
            error(event, "invalid_value", "Invalid value: '" + value + "'. Supported values are: '"
                    + String.join("', '", known.subList(0, known.size() - 1)) + "', and '"
                    + known.getLast() + "'.", param);
        }
        return unknown;
    }

    private void create(JsonObject event) {
        JsonObject item = event.getJsonObject("item");
        String type = item.getString("type", "");
        if (!List.of("message", "function_call", "function_call_output").contains(type)) {
            error(event, "invalid_value", "unknown item type: " + type);
        } else if (type.equals("message") && !item.getJsonArray("content").getJsonObject(0)
                .getString("type").equals(item.getString("role").equals("assistant")
                        ? "output_text" : "input_text")) {
            error(event, "invalid_value", "not what " + item.getString("role") + " can say");
        } else if (item.getString("id", "").length() > MOST_ID) {
            error(event, "string_above_max_length",
                    "item.id has more than " + MOST_ID + " letters");
        } else if (items.contains(item.getString("id", ""))) {
            error(event, "item_id_already_exists", "there is an item " + item.getString("id"));
        } else if (type.equals("function_call_output")
                && !openCalls.remove(item.getString("call_id"))) {
            error(event, "invalid_tool_call_id", "no such call is waiting for its output: "
                    + item.getString("call_id"));
        } else {
            if (type.equals("function_call")) called(item.getString("call_id"));
            if (type.equals("message")) {
                textSteps = new ArrayDeque<>(model.stepsForText.apply(item.getJsonArray("content")
                        .getJsonObject(0).getString("text")));
            }
            JsonObject whole = Json.createObjectBuilder(item).add("object", "realtime.item")
                    .add("id", item.getString("id", model.newId("item")))
                    .add("status", "completed").build();
            textTokens += tokens(whole.toString());
            added(whole);
            done(whole);
        }
    }

    private void truncate(JsonObject event) {
        String item = event.getString("item_id");
        int ms = event.getInt("audio_end_ms");
        if (!items.contains(item)) {
            error(event, "item_not_found", "no item " + item);
        } else if (!spokenBytes.containsKey(item)) {
            // The service says this too when no sound of the response has been sent yet.
            error(event, null, "Only model output audio messages can be truncated");
        } else if (ms > spokenMs(item)) {
            error(event, null, "Audio content of " + spokenMs(item)
                    + "ms is already shorter than " + ms + "ms");
        } else {
            connection.emit("conversation.item.truncated", "item_id", item,
                    "content_index", event.getInt("content_index"), "audio_end_ms", ms);
        }
    }

    /// Cuts the audio into windows of 20 ms, whatever the sizes of the appends are.
    private void hear(byte[] pcm) {
        if (pcm.length % 2 != 0) throw new IllegalArgumentException("half a sample");
        connection.keep(pcm);
        for (int i = 0; i < pcm.length; i += 2) {
            int sample = pcm[i] & 0xff | pcm[i + 1] << 8;
            energy += sample * sample;
            if (++samples % (WINDOW_MS * RATE / 1000) == 0) {
                window(Math.sqrt(energy / (WINDOW_MS * RATE / 1000.0)) > model.loud);
                energy = 0;
            }
        }
    }

    /// Detects turns by silence, as the service's `server_vad` does
    /// (https://developers.openai.com/api/docs/guides/realtime-vad). All times are positions in
    /// the received audio, so a client that sends late or in bursts changes nothing.
    private void window(boolean loud) {
        JsonObject turn = inside(session, "audio", "input", "turn_detection");
        if (turn == null) return; // the client has switched it off
        long nowMs = samples * 1000 / RATE;
        if (speechItem == null) {
            loudMs = loud ? loudMs + WINDOW_MS : 0;
            if (loudMs < model.onsetMs) return;
            startMs = nowMs - loudMs;
            speechItem = model.newId("item");
            quietMs = loudMs = 0;
            connection.emit("input_audio_buffer.speech_started",
                    "audio_start_ms", startMs, "item_id", speechItem);
            if (active != null && active.isCreated()
                    && turn.getBoolean("interrupt_response", true)) {
                active.finish("turn_detected");
            }
        } else {
            quietMs = loud ? 0 : quietMs + WINDOW_MS;
            if (quietMs < (turn.getString("type").equals("semantic_vad") ? model.semanticMs
                    : turn.getInt("silence_duration_ms", 500))) return;
            String item = speechItem;
            speechItem = null;
            connection.emit("input_audio_buffer.speech_stopped",
                    "audio_end_ms", nowMs, "item_id", item);
            addSpeech(item, nowMs - quietMs - startMs);
            if (active == null && model.responds && turn.getBoolean("create_response", true)) {
                respond(true);
            }
        }
    }

    /// Makes an item of what the caller has said, which took `ms` milliseconds.
    private void addSpeech(String item, long ms) {
        connection.emit("input_audio_buffer.committed",
                "previous_item_id", lastItem, "item_id", item);
        JsonObject whole = json("id", item, "object", "realtime.item", "type", "message",
                "status", "completed", "role", "user",
                "content", List.of(json("type", "input_audio", "transcript", null)));
        audioTokens += (int) (ms / MS_PER_TOKEN_HEARD);
        added(whole);
        done(whole);
        if (inside(session, "audio", "input", "transcription") == null) return;
        // At the service another model transcribes, beside the conversation: its text comes late.
        connection.later(TRANSCRIPTION_MS, () -> connection.emit(
                "conversation.item.input_audio_transcription.completed",
                "item_id", item, "content_index", 0,
                "transcript", model.transcript != null ? model.transcript
                        : String.format(Locale.ROOT, "(%.1f s of speech)", ms / 1000.0),
                "usage", json("type", "duration", "seconds", ms / 1000.0)));
    }

    /// Begins a response with the next step. Without `tools`, a step that calls one is only spoken
    /// of.
    private void respond(boolean tools) {
        Step instead = model.instead;
        Step next = instead != null ? instead : !textSteps.isEmpty() ? textSteps.remove()
                : script.hasNext() ? script.next() : model.afterScript;
        active = new ModelResponse(model, connection, this, tools || !model.minds
                || !(next instanceof Tool)
                ? next : new Say("I can do no more at the moment.", 800));
        connection.later(model.createdMs, active::begin);
    }

    // For ModelResponse.

    boolean isActive(ModelResponse response) {
        return active == response;
    }

    /// The response being given is over: the next one may begin.
    void over() {
        active = null;
    }

    /// The usage of a response that has written this and spoken so long. Each response reads the
    /// whole conversation, and finds in the cache what the one before it has read
    /// (https://developers.openai.com/api/docs/guides/realtime-costs).
    JsonObject usage(String written, int spokenMs) {
        int text = tokens(session.getString("instructions")) + textTokens, audio = audioTokens;
        int textOut = tokens(written), audioOut = spokenMs / MS_PER_TOKEN_SPOKEN;
        JsonObject usage = json("total_tokens", text + audio + textOut + audioOut,
                "input_tokens", text + audio, "output_tokens", textOut + audioOut,
                "input_token_details", json("text_tokens", text, "audio_tokens", audio,
                        "image_tokens", 0, "cached_tokens", readText + readAudio,
                        "cached_tokens_details", json("text_tokens", readText,
                                "audio_tokens", readAudio, "image_tokens", 0)),
                "output_token_details", json("text_tokens", textOut, "audio_tokens", audioOut));
        readText = text;
        readAudio = audio;
        textTokens += textOut;
        audioTokens += audioOut;
        return usage;
    }

    private static int tokens(String text) {
        return (text.length() + LETTERS_PER_TOKEN - 1) / LETTERS_PER_TOKEN;
    }

    /// A function call waits for its output from now on.
    void called(String callId) {
        openCalls.add(callId);
    }

    /// So much audio has been sent for that item, from its beginning.
    void spoken(String itemId, int bytes) {
        spokenBytes.put(itemId, bytes);
    }

    void added(JsonObject item) {
        connection.emit("conversation.item.added", "previous_item_id", lastItem, "item", item);
        lastItem = item.getString("id");
        items.add(lastItem);
    }

    void done(JsonObject item) {
        connection.emit("conversation.item.done", "previous_item_id", null, "item", item);
    }

    /// The object at the end of a path, or null where the path ends early.
    private static JsonObject inside(JsonObject from, String... path) {
        JsonValue at = from;
        for (String name : path) at = at instanceof JsonObject o ? o.get(name) : null;
        return at instanceof JsonObject o ? o : null;
    }
}
