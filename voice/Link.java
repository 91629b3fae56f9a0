package voice;

import module java.base;
import com.openai.core.JsonField;
import com.openai.core.http.WebSocketWriteNotAttempted;
import com.openai.helpers.RealtimeConnection;
import com.openai.models.realtime.*;
import com.openai.models.realtime.RealtimeAudioFormats.AudioPcm;
import com.openai.models.realtime.RealtimeAudioConfigInput.NoiseReduction;
import com.openai.models.realtime.RealtimeAudioInputTurnDetection.SemanticVad;
import com.openai.models.realtime.RealtimeAudioInputTurnDetection.ServerVad;
import com.openai.models.responses.ToolChoiceOptions;
import voice.History.Item;
import voice.History.Message;
import voice.History.Role;
import voice.History.ToolCall;
import voice.History.ToolOutput;
import voice.Trouble.Fault;

/// One connection to the model: a
/// [WebSocket](https://developers.openai.com/api/docs/guides/realtime-websocket) on which both
/// sides send events, as JSON. Realtime opens a Link for each call, and another one when the first
/// has failed.
///
/// Link knows how each event that we send is written. The events wait in a queue until there is a
/// connection. Then one thread sends them in their order, and another thread hands each event that
/// the model sends to `Realtime.received`.
///
/// What is not done here: Link does not know what an event means for the conversation, and it does
/// not connect a second time. When it is of no use any more, it reports that to
/// `Realtime.linkFailed`.
///
/// Every method returns at once. Any thread may call one that sends.
final class Link {
    /// The id of the event that configures the session. An error about that event names the id.
    static final String SESSION_UPDATE = "session";
    /// The ids of further updates. Each is for one setting that the service may refuse. The
    /// conversation then goes on as if that setting were blank.
    static final Map<String, String> OPTIONAL_UPDATES = Map.of(
            "voice", "OPENAI_VOICE", "transcription", "OPENAI_TRANSCRIBE_MODEL",
            "noise_reduction", "OPENAI_NOISE_REDUCTION", "turn_detection", "OPENAI_TURN_DETECTION");
    /// A probe has an answer by then. On a slow network, each way takes a second.
    static final Duration PROBE_ANSWERED = Duration.ofMillis(2_400);
    /// When the caller has been silent for so long, the model takes them to have finished.
    static final Duration SILENCE = Duration.ofMillis(500);

    private static final Duration REPLACEMENT_CONNECTING = Duration.ofSeconds(2);
    private static final Duration NOTHING_TAKEN = Duration.ofSeconds(10);
    /// The most pieces of sound in the queue: a whole turn that is heard once more, and 5 s more.
    private static final int MOST_SOUND_WAITING = Hearing.MOST_KEPT + 5_000 / Hearing.PIECE_MS;

    /// An event, or a piece of sound that is made into an event when it is sent.
    private record Outgoing(RealtimeClientEvent event, byte[] sound) {}

    private final Realtime conversation;
    private final Model model;
    private final String phoneCall;                     // its id, for the log
    private final boolean replacement;
    private final long madeAt = System.nanoTime();
    private final BlockingQueue<Outgoing> outgoing = new LinkedBlockingQueue<>();
    private final AtomicInteger soundWaiting = new AtomicInteger();         // pieces in the queue
    private volatile RealtimeConnection connection;
    private volatile boolean closed;
    // Written under the lock of Realtime.
    private volatile int events;                        // that the model has sent
    private volatile boolean answersUpdates;

    // Guarded by the lock of Realtime, which holds that lock when it calls a method that uses
    // these.
    private Thread receiving;
    private final Map<String, Integer> soundBytes = new HashMap<>();        // received, by item

    /// `replacement`: a Link before this one has failed.
    Link(Realtime conversation, Model model, String phoneCall, boolean replacement) {
        this.conversation = conversation;
        this.model = model;
        this.phoneCall = phoneCall;
        this.replacement = replacement;
    }

    /// Starts to connect. What is in the queue already will be sent first.
    void start() {
        receiving = Thread.ofVirtual().name("model " + phoneCall).start(this::run);
        Duration bound = replacement ? REPLACEMENT_CONNECTING : Model.CONNECTING;
        CompletableFuture.delayedExecutor(bound.toMillis(), TimeUnit.MILLISECONDS).execute(() -> {
            if (events == 0) {
                fail("no answer within " + bound.toSeconds() + " s");
            }
        });
    }

    /// Reports that this connection is of no use any more. This takes Realtime's lock.
    void fail(String why) {
        fail(new Fault(why));
    }

    private void fail(Fault fault) {
        conversation.linkFailed(this, fault);
    }

    void close() {
        closed = true;
        if (receiving != null) {
            receiving.interrupt();
        }
        RealtimeConnection current = connection;
        if (current != null) {
            Thread.ofVirtual().start(current::close); // closing may have to wait
        }
    }

    boolean isClosed() {
        return closed;
    }

    boolean isReplacement() {
        return replacement;
    }

    long ageMs() {
        return (System.nanoTime() - madeAt) / 1_000_000;
    }

    /// The model has sent an event, which may be the answer to an update (`update`). Returns true
    /// the first time.
    boolean eventCame(boolean update) {
        answersUpdates |= update;
        return ++events == 1;
    }

    /// The model has answered an update in this connection. Some services never do. Their silence
    /// after a probe means nothing.
    boolean answersUpdates() {
        return answersUpdates;
    }

    /// How many events the model has sent.
    int events() {
        return events;
    }

    /// The model has sent so much of the sound of an item.
    void soundCame(String itemId, int bytes) {
        soundBytes.merge(itemId, bytes, Integer::sum);
    }

    /// How much sound of an item this connection has received; null for none.
    Integer soundBytes(String itemId) {
        return soundBytes.get(itemId);
    }

    // What we send.

    /// Sends a piece of the caller's sound. Returns false when too much is waiting already. The
    /// piece is then dropped.
    boolean hear(byte[] piece) {
        boolean room = soundWaiting.get() < MOST_SOUND_WAITING;
        if (room && !closed) {
            soundWaiting.incrementAndGet();
            outgoing.add(new Outgoing(null, piece));
        }
        return room;
    }

    /// Tells the model who it is and what it can do. A tool is a
    /// [function](https://developers.openai.com/api/docs/guides/realtime-conversations): a JSON
    /// object as text, with name, description and parameters.
    ///
    /// Throws IllegalArgumentException when a tool is not a JSON object.
    ///
    /// `refused` are the optional updates that the service has refused in an earlier connection.
    void configure(String instructions, List<String> tools, Set<String> refused) {
        updates(model, instructions, tools).forEach((eventId, session) -> {
            if (!refused.contains(OPTIONAL_UPDATES.get(eventId))) {
                send(update(eventId, session));
            }
        });
    }

    /// What `configure` sends: the ids of the events, in their order, each with its update.
    ///
    /// The service refuses a whole update for one value that it does not know. So what may be such
    /// a value is in an update of its own: a conversation with another voice, or without a
    /// transcript, is better than one without instructions.
    static Map<String, RealtimeSessionCreateRequest> updates(Model model, String instructions,
            List<String> tools) {
        var all = new LinkedHashMap<String, RealtimeSessionCreateRequest>();
        var session = RealtimeSessionCreateRequest.builder()
                .instructions(instructions)
                .addOutputModality(RealtimeSessionCreateRequest.OutputModality.AUDIO)
                .audio(RealtimeAudioConfig.builder()
                        .input(input().build()).output(output().build()).build());
        for (String tool : tools) {
            try {
                session.addTool(
                        model.client.jsonMapper().readValue(tool, RealtimeFunctionTool.class));
            } catch (IOException e) {
                throw new IllegalArgumentException("not a tool's schema: " + tool, e);
            }
        }
        all.put(SESSION_UPDATE, session.build());
        if (!model.voice.isBlank()) {
            all.put("voice", audio(RealtimeAudioConfig.builder()
                    .output(output().voice(model.voice).build())));
        }
        if (!model.transcription.isBlank()) {
            all.put("transcription", audio(RealtimeAudioConfig.builder()
                    .input(input().transcription(AudioTranscription.builder()
                            .model(model.transcription).build()).build())));
        }
        if (!model.noiseReduction.isBlank()) {
            all.put("noise_reduction", audio(RealtimeAudioConfig.builder()
                    .input(input().noiseReduction(NoiseReduction.builder()
                            .type(NoiseReductionType.of(model.noiseReduction)).build()).build())));
        }
        if (model.turnDetection.equals("semantic_vad")) {   // last: `input` sets server_vad
            all.put("turn_detection", audio(RealtimeAudioConfig.builder()
                    .input(input().turnDetection(SemanticVad.builder()
                            .createResponse(true).interruptResponse(true).build()).build())));
        }
        return all;
    }

    private static RealtimeSessionCreateRequest audio(RealtimeAudioConfig.Builder audio) {
        return RealtimeSessionCreateRequest.builder().audio(audio.build()).build();
    }

    /// Says in which form the caller's sound comes, and that the model decides whose turn it is, by
    /// [server VAD](https://developers.openai.com/api/docs/guides/realtime-vad).
    private static RealtimeAudioConfigInput.Builder input() {
        return RealtimeAudioConfigInput.builder().format(pcm())
                .turnDetection(ServerVad.builder().silenceDurationMs(SILENCE.toMillis())
                        .createResponse(true).interruptResponse(true).build());
    }

    private static RealtimeAudioConfigOutput.Builder output() {
        return RealtimeAudioConfigOutput.builder().format(pcm());
    }

    private static AudioPcm pcm() {
        return AudioPcm.builder().type(AudioPcm.Type.AUDIO_PCM).rate(AudioPcm.Rate._24000).build();
    }

    /// Sends an update that changes nothing. The model always answers an update. So a model that
    /// has not sent anything by PROBE_ANSWERED is stuck.
    void probe() {
        send(update("probe", RealtimeSessionCreateRequest.builder().build()));
    }

    static RealtimeClientEvent update(String eventId, RealtimeSessionCreateRequest session) {
        return RealtimeClientEvent.ofSessionUpdate(
                SessionUpdateEvent.builder().eventId(eventId).session(session).build());
    }

    /// Adds an item to the conversation, under this id (32 characters at most; null: the service
    /// chooses one). The model does not respond to it by itself.
    void add(String id, Item item) {
        var event = ConversationItemCreateEvent.builder();
        var ours = JsonField.ofNullable(id);
        switch (item) {
            case Message(Role by, String text) when by == Role.CALLER ->
                    event.item(RealtimeConversationItemUserMessage.builder().id(ours)
                            .addContent(RealtimeConversationItemUserMessage.Content.builder()
                                    .type(RealtimeConversationItemUserMessage.Content.Type
                                            .INPUT_TEXT).text(text).build()).build());
            case Message(Role by, String text) when by == Role.AGENT ->
                    event.item(RealtimeConversationItemAssistantMessage.builder()
                            .addContent(RealtimeConversationItemAssistantMessage.Content.builder()
                                    .type(RealtimeConversationItemAssistantMessage.Content.Type
                                            .OUTPUT_TEXT).text(text).build()).build());
            case Message(_, String text) ->
                    event.item(RealtimeConversationItemSystemMessage.builder().id(ours)
                            .addContent(RealtimeConversationItemSystemMessage.Content.builder()
                                    .type(RealtimeConversationItemSystemMessage.Content.Type
                                            .INPUT_TEXT).text(text).build()).build());
            case ToolCall(String callId, String name, String arguments) ->
                    event.item(RealtimeConversationItemFunctionCall.builder()
                            .callId(callId).name(name).arguments(arguments).build());
            case ToolOutput(String callId, String json) ->
                    event.item(RealtimeConversationItemFunctionCallOutput.builder().id(ours)
                            .callId(callId).output(json).build());
        }
        send(RealtimeClientEvent.ofConversationItemCreate(event.build()));
    }

    /// Asks for a response. An error about this event names `eventId`. If `instructions` are not
    /// null, they take the place of the session's for this one response. Without `tools`, the model
    /// must not call any.
    void askForResponse(String eventId, String instructions, boolean tools) {
        var event = ResponseCreateEvent.builder().eventId(eventId);
        if (instructions != null || !tools) {
            var response = RealtimeResponseCreateParams.builder();
            if (instructions != null) {
                response.instructions(instructions);
            }
            if (!tools) {
                response.toolChoice(ToolChoiceOptions.NONE);
            }
            event.response(response.build());
        }
        send(RealtimeClientEvent.ofResponseCreate(event.build()));
    }

    /// Breaks off the response with that id; "" for any.
    void cancelResponse(String id) {
        var event = ResponseCancelEvent.builder();
        if (!id.isEmpty()) {
            event.responseId(id);
        }
        send(RealtimeClientEvent.ofResponseCancel(event.build()));
    }

    /// Tells the model that the caller has heard only the first `ms` milliseconds of an item.
    void truncate(String itemId, int ms) {
        send(RealtimeClientEvent.ofConversationItemTruncate(
                ConversationItemTruncateEvent.builder().itemId(itemId).contentIndex(0)
                        .audioEndMs(ms).build()));
    }

    private void send(RealtimeClientEvent event) {
        outgoing.add(new Outgoing(event, null));
    }

    // The two threads.

    private void run() {
        Thread sending = null;
        try (var c = model.connect()) {
            connection = c;
            sending = Thread.ofVirtual().name("to model " + phoneCall).start(() -> sendAll(c));
            while (!closed) {
                RealtimeServerEvent event = c.receive();
                try {
                    conversation.received(this, event);
                } catch (RuntimeException e) {
                    Log.log(phoneCall, "the model sent something odd: " + reason(e));
                }
            }
        } catch (Model.Refused e) {
            fail(e.fault);
        } catch (Exception e) {
            fail(reason(e));
        } finally {
            if (sending != null) {
                sending.interrupt();
            }
        }
    }

    private void sendAll(RealtimeConnection c) {
        try {
            while (!closed) {
                // Without a timeout: a virtual thread would set a timer for each piece of sound.
                Outgoing next = outgoing.take();
                RealtimeClientEvent event = next.event;
                if (next.sound != null) {
                    soundWaiting.decrementAndGet();
                    event = RealtimeClientEvent.ofInputAudioBufferAppend(
                            InputAudioBufferAppendEvent.builder().audio(Base64.getEncoder()
                                    .encodeToString(next.sound)).build());
                }
                transmit(c, event);
            }
        } catch (InterruptedException e) {
            // The connection was closed.
        } catch (Exception e) {
            fail(reason(e));
        }
    }

    /// Sends an event now. The library refuses it while the one before is still on its way. So one
    /// thread sends all events of a connection, and tries again. That is soon, because most are on
    /// their way for less than a millisecond. But each try costs an exception, so the pauses grow.
    static void transmit(RealtimeConnection to, RealtimeClientEvent event)
            throws IOException, InterruptedException {
        long giveUp = System.nanoTime() + NOTHING_TAKEN.toNanos();
        long pause = 300_000;                           // nanoseconds
        while (true) {
            try {
                to.send(event);
                return;
            } catch (WebSocketWriteNotAttempted.Busy e) {
                if (System.nanoTime() > giveUp) {
                    throw new IOException("the model has taken nothing for "
                            + NOTHING_TAKEN.toSeconds() + " s", e);
                }
                TimeUnit.NANOSECONDS.sleep(pause);
                pause = Math.min(2 * pause, 5_000_000);
            }
        }
    }

    /// The library quotes what it has "received". This is left out here, because it may hold
    /// anything, a phone number too.
    static String reason(Throwable thrown) {
        return thrown instanceof Model.Refused ? thrown.getMessage()
                : Log.reason(thrown).replaceAll("(?s), received .*", "");
    }
}
