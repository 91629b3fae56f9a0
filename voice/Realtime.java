package voice;

import module java.base;
import com.openai.client.okhttp.OkHttpClient;
import com.openai.core.ClientOptions;
import com.openai.core.Timeout;
import com.openai.core.http.WebSocketWriteNotAttempted;
import com.openai.helpers.RealtimeConnection;
import com.openai.helpers.RealtimeWebSocketOptions;
import com.openai.models.realtime.*;
import com.openai.models.realtime.RealtimeAudioFormats.AudioPcm;
import com.openai.models.realtime.RealtimeAudioInputTurnDetection.ServerVad;

/// One conversation with an OpenAI Realtime model: the caller's sound in, the agent's sound out to
/// the Speaker, and what else happens as events to the Mailbox. Agent opens one for each call.
///
/// Turns are the model's business (server VAD): it notices that the caller has begun or finished,
/// breaks off its own answer and gives the next one. Ours is to stop the sound and to tell it how
/// much was heard.
///
/// Not handled: reconnecting (whatever ends the connection is one `ModelLost`), and a model that
/// is there but says nothing.
///
/// Every method returns at once and may be called from any thread.
public final class Realtime implements AutoCloseable {
    private static final int PIECE = 20 * Speaker.BYTES_PER_MS;
    private static final int MOST_WAITING = 500;                        // pieces: 10 s of sound
    private static final Duration CONNECTING = Duration.ofSeconds(5);
    private static final Duration STUCK = Duration.ofSeconds(10);

    /// Which model, and whose account: shared by all conversations of the process.
    public static final class Service {
        private final ClientOptions client;
        private final String model;
        private final String voice;
        private final String transcription;

        /// `voice` and `transcription` (a model) may be blank: the model's own voice; none.
        public Service(String key, String baseUrl, String model, String voice,
                String transcription) {
            var bounds = Timeout.builder().connect(CONNECTING).read(CONNECTING).build();
            this.client = ClientOptions.builder()
                    .httpClient(OkHttpClient.builder().timeout(bounds).build()).timeout(bounds)
                    .apiKey(key).baseUrl(baseUrl).build();
            this.model = model;
            this.voice = voice;
            this.transcription = transcription;
        }

        /// Connects as a call does and hangs up again: null, or why a call could not talk. Blocks,
        /// 10 s at most.
        public String check() throws InterruptedException {
            var result = new CompletableFuture<String>();
            var connected = new CompletableFuture<RealtimeConnection>();
            Thread checking = Thread.ofVirtual().name("check of the model").start(() -> {
                try (var c = RealtimeConnection.connect(client,
                        RealtimeWebSocketOptions.builder().model(model).build())) {
                    connected.complete(c);
                    RealtimeServerEvent first = c.receive();
                    result.complete(first.isError() ? hint(first.asError().error().message())
                            : null);
                } catch (Exception e) {
                    result.complete(hint(Log.reason(e)));
                }
            });
            try {
                return result.get(10, TimeUnit.SECONDS);
            } catch (ExecutionException | TimeoutException e) {
                checking.interrupt();
                if (connected.isDone()) {
                    connected.join().close();
                }
                return "no answer within 10 s";
            }
        }

        /// Starts to connect; what is sent meanwhile waits.
        public Realtime open(String call, Mailbox mailbox, Speaker speaker) {
            return new Realtime(this, call, mailbox, speaker);
        }
    }

    private record Outgoing(RealtimeClientEvent event, byte[] sound) {}

    private final Service service;
    private final String call;
    private final Mailbox mailbox;
    private final Speaker speaker;
    private final BlockingQueue<Outgoing> outgoing = new LinkedBlockingQueue<>();
    private final AtomicInteger soundWaiting = new AtomicInteger();
    private final Thread connecting;
    private volatile RealtimeConnection connection;
    private volatile boolean closed;

    private final byte[] piece = new byte[PIECE];       // the caller's sound, on its thread
    private int pieceFilled;
    private long dropped;

    // What the model is doing, so that no answer is asked for while one is being given.
    private final Set<String> toolsCalled = new HashSet<>();
    private final Set<String> toolsRunning = new HashSet<>();
    private boolean responding;
    private boolean callerSpeaking;
    private boolean callerWaits;                        // has finished, and no answer has begun
    private boolean answerOwed;                         // something it was told is to be answered
    private String speakingItem;
    private String writtenItem;                         // the one whose words are coming

    private Realtime(Service service, String call, Mailbox mailbox, Speaker speaker) {
        this.service = service;
        this.call = call;
        this.mailbox = mailbox;
        this.speaker = speaker;
        connecting = Thread.ofVirtual().name("model " + call).start(this::run);
    }

    /// Tells the model who it is, what it can do (`tools`: name, description, parameters, each a
    /// JSON object as text) and lets it speak first, as `greeting` says.
    public void begin(String instructions, List<String> tools, String greeting) {
        var session = RealtimeSessionCreateRequest.builder()
                .instructions(instructions)
                .addOutputModality(RealtimeSessionCreateRequest.OutputModality.AUDIO)
                .audio(RealtimeAudioConfig.builder()
                        .input(input().build()).output(output()).build());
        for (String tool : tools) {
            try {
                session.addTool(
                        service.client.jsonMapper().readValue(tool, RealtimeFunctionTool.class));
            } catch (IOException e) {
                throw new IllegalArgumentException("not a tool's schema: " + tool, e);
            }
        }
        send(update(session.build()));
        if (!service.transcription.isBlank()) {
            // On its own: one value that the service does not know voids the whole update, and
            // a conversation without a transcript is better than one without instructions.
            var input = input().transcription(
                    AudioTranscription.builder().model(service.transcription).build());
            send(update(RealtimeSessionCreateRequest.builder()
                    .audio(RealtimeAudioConfig.builder().input(input.build()).build()).build()));
        }
        // The instructions of a response replace the session's, so they are said again.
        send(RealtimeClientEvent.ofResponseCreate(ResponseCreateEvent.builder()
                .response(RealtimeResponseCreateParams.builder()
                        .instructions(instructions + "\n" + greeting).build())
                .build()));
    }

    private static RealtimeClientEvent update(RealtimeSessionCreateRequest session) {
        return RealtimeClientEvent.ofSessionUpdate(
                SessionUpdateEvent.builder().session(session).build());
    }

    private static RealtimeAudioConfigInput.Builder input() {
        return RealtimeAudioConfigInput.builder().format(pcm())
                .turnDetection(ServerVad.builder().silenceDurationMs(500)
                        .createResponse(true).interruptResponse(true).build());
    }

    private RealtimeAudioConfigOutput output() {
        var output = RealtimeAudioConfigOutput.builder().format(pcm());
        return service.voice.isBlank() ? output.build() : output.voice(service.voice).build();
    }

    private static AudioPcm pcm() {
        return AudioPcm.builder().type(AudioPcm.Type.AUDIO_PCM).rate(AudioPcm.Rate._24000).build();
    }

    /// The caller's sound: 24 kHz, 16 bit, mono, in pieces of any size; one thread at a time.
    public void hear(byte[] pcm) {
        for (int at = 0; at < pcm.length; ) {
            int some = Math.min(PIECE - pieceFilled, pcm.length - at);
            System.arraycopy(pcm, at, piece, pieceFilled, some);
            at += some;
            pieceFilled += some;
            if (pieceFilled == PIECE) {
                pieceFilled = 0;
                // Sound is all that may be dropped: ten seconds late it is of no use to anybody.
                if (soundWaiting.get() >= MOST_WAITING) {
                    if (dropped++ % 50 == 0) {
                        Log.log(call, "the model does not take the caller's sound: 1 s dropped");
                    }
                    continue;
                }
                soundWaiting.incrementAndGet();
                outgoing.add(new Outgoing(null, piece.clone()));
            }
        }
    }

    /// The output of a tool, JSON. The model speaks of it as soon as nobody else is speaking.
    public synchronized void answer(String callId, String json) {
        send(RealtimeClientEvent.ofConversationItemCreate(ConversationItemCreateEvent.builder()
                .item(RealtimeConversationItemFunctionCallOutput.builder()
                        .callId(callId).output(json).build())
                .build()));
        toolsRunning.remove(callId);
        answerOwed = true;
        continueIfQuiet();
    }

    /// Tells the model something that nobody said: what the caller has written instead, or, when
    /// not `callers`, what has happened. It answers as soon as nobody is speaking.
    public synchronized void tell(boolean callers, String text) {
        var event = ConversationItemCreateEvent.builder();
        if (callers) {
            event.item(RealtimeConversationItemUserMessage.builder()
                    .addContent(RealtimeConversationItemUserMessage.Content.builder()
                            .type(RealtimeConversationItemUserMessage.Content.Type.INPUT_TEXT)
                            .text(text).build()).build());
        } else {
            event.item(RealtimeConversationItemSystemMessage.builder()
                    .addContent(RealtimeConversationItemSystemMessage.Content.builder()
                            .type(RealtimeConversationItemSystemMessage.Content.Type.INPUT_TEXT)
                            .text(text).build()).build());
        }
        send(RealtimeClientEvent.ofConversationItemCreate(event.build()));
        answerOwed = true;
        continueIfQuiet();
    }

    /// Breaks off the answer that is being given, if any. The caller's voice does that by itself.
    public synchronized void interrupt() {
        if (responding) {
            send(RealtimeClientEvent.ofResponseCancel(ResponseCancelEvent.builder().build()));
        }
    }

    /// The model has an answer to give, and may not have begun to speak yet.
    public synchronized boolean thinking() {
        return responding || callerWaits || answerOwed || !toolsRunning.isEmpty();
    }

    /// As far as the model hears.
    public synchronized boolean callerSpeaking() {
        return callerSpeaking;
    }

    /// What the caller did not hear, the model has not said.
    public void truncate(Speaker.Cut cut) {
        send(RealtimeClientEvent.ofConversationItemTruncate(ConversationItemTruncateEvent.builder()
                .itemId(cut.itemId()).contentIndex(0).audioEndMs(cut.ms()).build()));
    }

    @Override
    public void close() {
        closed = true;
        connecting.interrupt();
        if (connection != null) {
            connection.close();
        }
    }

    private void send(RealtimeClientEvent event) {
        outgoing.add(new Outgoing(event, null));
    }

    /// Asking for a response while one is being given is an error, and while the caller speaks it
    /// is needless: the model answers of itself when they have finished.
    private void continueIfQuiet() {
        if (answerOwed && !responding && !callerSpeaking && toolsRunning.isEmpty()) {
            answerOwed = false;
            responding = true;
            send(RealtimeClientEvent.ofResponseCreate(ResponseCreateEvent.builder().build()));
        }
    }

    private void run() {
        Thread sending = null;
        try (var c = RealtimeConnection.connect(service.client,
                RealtimeWebSocketOptions.builder().model(service.model).build())) {
            connection = c;
            sending = Thread.ofVirtual().name("to model " + call).start(() -> sendAll(c));
            while (!closed) {
                RealtimeServerEvent event = c.receive();
                try {
                    take(event);
                } catch (RuntimeException e) {
                    Log.log(call, "the model sent something odd: " + Log.reason(e));
                }
            }
        } catch (Exception e) {
            lost(e);
        } finally {
            if (sending != null) {
                sending.interrupt();
            }
        }
    }

    private void lost(Exception e) {
        if (!closed) {
            closed = true;
            mailbox.post(new Event.ModelLost(hint(Log.reason(e))));
        }
    }

    private static String hint(String why) {
        return why + (why.contains("HTTP 401") ? "; check OPENAI_API_KEY" : "")
                + (why.contains("HTTP 404") ? "; check OPENAI_REALTIME_MODEL" : "");
    }

    /// `send` refuses a frame while the one before is still on its way, so one thread sends all
    /// of them, in order, and tries again.
    private void sendAll(RealtimeConnection c) {
        try {
            while (!closed) {
                Outgoing next = outgoing.poll(1, TimeUnit.MINUTES);
                if (next == null) {
                    continue;
                }
                RealtimeClientEvent event = next.event;
                if (next.sound != null) {
                    soundWaiting.decrementAndGet();
                    event = RealtimeClientEvent.ofInputAudioBufferAppend(
                            InputAudioBufferAppendEvent.builder()
                                    .audio(Base64.getEncoder().encodeToString(next.sound)).build());
                }
                long giveUp = System.nanoTime() + STUCK.toNanos();
                while (!closed) {
                    try {
                        c.send(event);
                        break;
                    } catch (WebSocketWriteNotAttempted.Busy e) {
                        if (System.nanoTime() > giveUp) {
                            throw new IOException("the model has taken nothing for 10 s", e);
                        }
                        LockSupport.parkNanos(300_000);
                    }
                }
            }
        } catch (InterruptedException e) {
            // closed
        } catch (Exception e) {
            lost(e);
            c.close();
        }
    }

    /// OpenAI says it twice, services that speak its protocol in one way or the other.
    private void toolCalled(String callId, String name, String arguments) {
        if (toolsCalled.add(callId)) {
            toolsRunning.add(callId);
            mailbox.post(new Event.ToolCalled(callId, name, arguments));
        }
    }

    private synchronized void take(RealtimeServerEvent event) {
        if (event.isResponseOutputAudioDelta()) {
            var delta = event.asResponseOutputAudioDelta();
            speaker.play(delta.itemId(), Base64.getDecoder().decode(delta.delta()));
            if (!delta.itemId().equals(speakingItem)) {
                speakingItem = delta.itemId();
                mailbox.post(new Event.AgentSpeaks());
            }
        } else if (event.isResponseOutputAudioDone()) {
            speaker.end(event.asResponseOutputAudioDone().itemId());
        } else if (event.isInputAudioBufferSpeechStarted()) {
            callerSpeaking = true;
            callerWaits = false;
            mailbox.post(new Event.CallerSpeaks());
        } else if (event.isInputAudioBufferSpeechStopped()) {
            callerSpeaking = false;
            callerWaits = true;
            mailbox.post(new Event.TurnChanged());
        } else if (event.isResponseCreated()) {
            responding = true;
            answerOwed = callerWaits = false;
            mailbox.post(new Event.TurnChanged());
        } else if (event.isResponseDone()) {
            var response = event.asResponseDone().response();
            response.status().filter(status -> status.asString().equals("failed")).ifPresent(_ ->
                    Log.log(call, "the model failed to answer: " + response.statusDetails()));
            responding = false;
            continueIfQuiet();
            mailbox.post(new Event.TurnChanged());
        } else if (event.isResponseFunctionCallArgumentsDone()) {
            var done = event.asResponseFunctionCallArgumentsDone();
            toolCalled(done.callId(), done.name(), done.arguments());
        } else if (event.isResponseOutputItemDone()
                && event.asResponseOutputItemDone().item().isFunctionCall()) {
            var tool = event.asResponseOutputItemDone().item().asFunctionCall();
            // One that was broken off by the caller's words may end in mid-argument.
            if (tool.status().filter(s -> s.asString().equals("incomplete")).isEmpty()) {
                toolCalled(tool.callId().orElseThrow(), tool.name(), tool.arguments());
            }
        } else if (event.isResponseOutputAudioTranscriptDelta()) {
            var delta = event.asResponseOutputAudioTranscriptDelta();
            writtenItem = delta.itemId();
            mailbox.post(new Event.AgentSays(delta.itemId(), delta.delta()));
        } else if (event.isResponseOutputAudioTranscriptDone()) {
            var done = event.asResponseOutputAudioTranscriptDone();
            if (!done.itemId().equals(writtenItem)) { // it came in one piece
                mailbox.post(new Event.AgentSays(done.itemId(), done.transcript()));
            }
            mailbox.post(new Event.AgentSaid(done.itemId(), done.transcript()));
        } else if (event.isConversationItemInputAudioTranscriptionCompleted()) {
            var said = event.asConversationItemInputAudioTranscriptionCompleted();
            mailbox.post(new Event.CallerSaid(said.itemId(), said.transcript()));
        } else if (event.isError()) {
            var error = event.asError().error();
            if (error.code().orElse("").equals("response_cancel_not_active")) {
                return; // it had ended as we broke it off
            }
            Log.log(call, "the model reports " + error.code().orElse(error.type()) + ": "
                    + error.message());
            // We asked for a response as it began one of its own: then after that. Any other error
            // may have been the answer to our asking; if not, asking again leads back here.
            responding = error.code().orElse("").equals("conversation_already_has_active_response");
            answerOwed |= responding;
        }
    }
}
