package voice;

import module java.base;
import com.openai.core.http.WebSocketWriteNotAttempted;
import com.openai.helpers.RealtimeConnection;
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
/// A connection that is refused, breaks, fails to answer or says nothing any more (a `Link`) is
/// replaced by another, once, within two seconds. The new one is told what the old one knew: the
/// instructions, what was said and done in writing, and as sound what the caller has said since
/// they were last answered. So the conversation goes on where it was. When that fails too, or the
/// new one has the same trouble before it was of any use, the model is lost.
///
/// Not handled: what the caller says in sound is not kept for longer than that, so a conversation
/// without transcription (a setting) is remembered by the agent's half only.
///
/// Every method returns at once and may be called from any thread.
public final class Realtime implements AutoCloseable {
    private static final int PIECE_MS = 20;
    private static final int PIECE = PIECE_MS * Speaker.BYTES_PER_MS;
    private static final int MOST_OF_A_TURN = 15_000 / PIECE_MS;            // pieces
    private static final int MOST_WAITING = MOST_OF_A_TURN + 5_000 / PIECE_MS;
    private static final int BEFORE_A_TURN = 1_000 / PIECE_MS;              // VAD is late by less
    private static final int MOST_ITEMS = 200;
    private static final String SESSION = "session";                        // an event's id
    private static final String INTERRUPTED = " (interrupted)";
    private static final Duration CONNECTING_AGAIN = Duration.ofSeconds(2);
    private static final Duration AFTER_REFUSAL = Duration.ofMillis(300);
    private static final Duration STUCK = Duration.ofSeconds(10);
    private static final Duration PROVEN = Duration.ofSeconds(10);

    // Does the model hear? It is asked when it seems to hear something else than we do.
    private static final int LOUD = 500;                                    // RMS of 16 bit
    private static final int LOUD_MS = 200;
    private static final Duration ODD = Duration.ofSeconds(1);
    private static final Duration NO_WORD = Duration.ofSeconds(8);
    private static final Duration DEAF = Duration.ofSeconds(15);
    private static final Duration PROBE = Duration.ofMillis(1_300);
    private static final Duration PROBE_AGAIN = Duration.ofSeconds(5);

    /// What was said or done, for a connection that does not know it.
    private sealed interface Item {}

    private record Said(Role by, String text) implements Item {}

    private record Called(String callId, String name, String arguments) implements Item {}

    private record Answered(String callId, String json) implements Item {}

    private enum Role { CALLER, AGENT, NOBODY }

    private record Begun(String instructions, List<String> tools, String greeting) {}

    private record Outgoing(RealtimeClientEvent event, byte[] sound) {}

    private final Model model;
    private final String call;
    private final Mailbox mailbox;
    private final Speaker speaker;

    // All below is guarded by `this`, but for what says otherwise.
    private volatile Link link;
    private volatile boolean closed;
    private Begun begun;                                // or null: nobody knows yet who calls
    private Said about;                                 // the caller; set with `begun`
    private String trouble;                             // why the link before this one is gone
    private final Map<String, Item> soFar = new LinkedHashMap<>();          // by item

    // What the model is doing, so that no answer is asked for while one is being given.
    private final Set<String> toolsCalled = new HashSet<>();
    private final Set<String> toolsRunning = new HashSet<>();
    private boolean responding;
    private boolean callerSpeaking;
    private boolean callerWaits;                        // has finished, and no answer has begun
    private volatile boolean unanswered;                // the same, until it is heard
    private boolean answerOwed;                         // something it was told is to be answered
    private String asked;                               // for an answer, by an event of this id
    private int questions;
    private boolean greeted;
    private String turnItem;                            // what the caller says or has said last
    private String speakingItem;                        // of which more is to come
    private String spokenItem;                          // the last one
    private String writtenItem;                         // the one whose words are coming

    // The caller's sound; guarded by `ear`, which is never held for long.
    private final Object ear = new Object();
    private final byte[] piece = new byte[PIECE];
    private int pieceFilled;
    private long dropped;
    private final Deque<byte[]> turn = new ArrayDeque<>();      // what a new link has to hear
    private volatile boolean hears;                     // the model does: callerSpeaking
    private int loudMs;
    private long lastLoud = System.nanoTime();
    private long oddSince;                              // ns; 0 when it hears what we do
    private long heardFrom = System.nanoTime();         // the model, ns
    private long probed;                                // ns; 0 when none is on its way
    private long noProbeBefore = System.nanoTime();

    /// Starts to connect; what is sent meanwhile waits.
    public Realtime(Model model, String call, Mailbox mailbox, Speaker speaker) {
        this.model = model;
        this.call = call;
        this.mailbox = mailbox;
        this.speaker = speaker;
        connect(null);
    }

    /// Tells the model who it is (`instructions`), whom it talks to (`about`), what it can do
    /// (`tools`: name, description, parameters, each a JSON object as text) and lets it speak
    /// first, as `greeting` says.
    public synchronized void begin(String instructions, String about, List<String> tools,
            String greeting) {
        begun = new Begun(instructions, tools, greeting);
        configure(link);
        about(about);
        ask();
    }

    /// Tells the model whom it talks to, and replaces what it was told of that before. A new
    /// connection is told it first, however long the conversation was.
    public synchronized void about(String caller) {
        about = new Said(Role.NOBODY, caller);
        link.send(create(about));
    }

    private void configure(Link to) {
        var session = RealtimeSessionCreateRequest.builder()
                .instructions(begun.instructions)
                .addOutputModality(RealtimeSessionCreateRequest.OutputModality.AUDIO)
                .audio(RealtimeAudioConfig.builder()
                        .input(input().build()).output(output()).build());
        for (String tool : begun.tools) {
            try {
                session.addTool(
                        model.client.jsonMapper().readValue(tool, RealtimeFunctionTool.class));
            } catch (IOException e) {
                throw new IllegalArgumentException("not a tool's schema: " + tool, e);
            }
        }
        to.send(update(SESSION, session.build()));
        if (!model.transcription.isBlank()) {
            // On its own: one value that the service does not know voids the whole update, and
            // a conversation without a transcript is better than one without instructions.
            var input = input().transcription(
                    AudioTranscription.builder().model(model.transcription).build());
            to.send(update("transcription", RealtimeSessionCreateRequest.builder()
                    .audio(RealtimeAudioConfig.builder().input(input.build()).build()).build()));
        }
    }

    private static RealtimeClientEvent update(String id, RealtimeSessionCreateRequest session) {
        return RealtimeClientEvent.ofSessionUpdate(
                SessionUpdateEvent.builder().eventId(id).session(session).build());
    }

    private static RealtimeAudioConfigInput.Builder input() {
        return RealtimeAudioConfigInput.builder().format(pcm())
                .turnDetection(ServerVad.builder().silenceDurationMs(500)
                        .createResponse(true).interruptResponse(true).build());
    }

    private RealtimeAudioConfigOutput output() {
        var output = RealtimeAudioConfigOutput.builder().format(pcm());
        return model.voice.isBlank() ? output.build() : output.voice(model.voice).build();
    }

    private static AudioPcm pcm() {
        return AudioPcm.builder().type(AudioPcm.Type.AUDIO_PCM).rate(AudioPcm.Rate._24000).build();
    }

    /// Asks for an answer. The instructions of a response replace the session's, so with the
    /// greeting they are said again.
    private void ask() {
        asked = "ask-" + ++questions;
        var question = ResponseCreateEvent.builder().eventId(asked);
        if (!greeted) {
            question.response(RealtimeResponseCreateParams.builder()
                    .instructions(begun.instructions + "\n" + begun.greeting).build());
        }
        link.send(RealtimeClientEvent.ofResponseCreate(question.build()));
    }

    /// The caller's sound: 24 kHz, 16 bit, mono, in pieces of any size; one thread at a time.
    public void hear(byte[] pcm) {
        synchronized (ear) {
            for (int at = 0; at < pcm.length; ) {
                int some = Math.min(PIECE - pieceFilled, pcm.length - at);
                System.arraycopy(pcm, at, piece, pieceFilled, some);
                at += some;
                pieceFilled += some;
                if (pieceFilled == PIECE) {
                    pieceFilled = 0;
                    byte[] whole = piece.clone();
                    turn.add(whole);
                    boolean keep = unanswered || oddSince != 0;
                    while (turn.size() > (keep ? MOST_OF_A_TURN : BEFORE_A_TURN)) {
                        turn.remove();
                    }
                    // Sound is all that may be dropped: late it is of no use to anybody.
                    if (!link.hear(whole) && dropped++ % 50 == 0) {
                        Log.log(call, "the model does not take the caller's sound");
                    }
                    doubt(whole);
                }
            }
        }
    }

    /// Is there anybody at the other end? A model that is stuck does not say so, but it does not
    /// notice either that the caller has begun, or finished. The caller's sound is also the clock
    /// here: it never pauses.
    private void doubt(byte[] pcm) {
        long now = System.nanoTime();
        boolean loud = rms(pcm) > LOUD;
        loudMs = loud ? loudMs + PIECE_MS : Math.max(0, loudMs - PIECE_MS);
        lastLoud = loud ? now : lastLoud;
        if (hears && loud) {
            oddSince = 0;
        } else if (oddSince == 0 && (hears || loudMs >= LOUD_MS)) {
            oddSince = now;
        }
        if (probed != 0 && now - probed > PROBE.toNanos()) {
            probed = 0;
            suspect("the model says nothing any more");
        } else if (hears && now - lastLoud > DEAF.toNanos()) {
            lastLoud = now;
            suspect("the model does not notice that the caller has finished");
        } else if (probed == 0 && now > noProbeBefore
                && (oddSince != 0 && now - oddSince > ODD.toNanos()
                || hears && now - heardFrom > NO_WORD.toNanos())) {
            probed = now; // an update that changes nothing, to which there is always an answer
            link.send(update("probe", RealtimeSessionCreateRequest.builder().build()));
        }
    }

    /// On a thread of its own: this one is WebRTC's.
    private void suspect(String why) {
        Link suspected = link;
        Thread.ofVirtual().start(() -> fault(suspected, why));
    }

    private static double rms(byte[] pcm) {
        long energy = 0;
        for (int i = 0; i < pcm.length; i += 2) {
            int sample = pcm[i] & 0xff | pcm[i + 1] << 8;
            energy += sample * sample;
        }
        return Math.sqrt(energy / (pcm.length / 2.0));
    }

    /// The model has said something: it is there. `hearing`: also whether it hears the caller.
    private void heardFrom(boolean hearing) {
        synchronized (ear) {
            heardFrom = System.nanoTime();
            if (probed != 0) {
                probed = oddSince = 0;
                noProbeBefore = heardFrom + PROBE_AGAIN.toNanos();
            }
            if (hearing != hears) {
                hears = hearing;
                oddSince = loudMs = 0;
            }
        }
    }

    /// The output of a tool, JSON. When it is to `speak`, the model speaks of it as soon as nobody
    /// else is speaking.
    public synchronized void answer(String callId, String json, boolean speak) {
        remember("output " + callId, new Answered(callId, json));
        toolsRunning.remove(callId);
        answerOwed |= speak;
        continueIfQuiet();
        mailbox.post(new Event.TurnChanged());
    }

    /// Tells the model what has happened. It answers as soon as nobody is speaking.
    public void tell(String what) {
        tell(Role.NOBODY, what);
    }

    /// The caller has written this, instead of saying it. The model answers as soon as nobody is
    /// speaking.
    public void callerWrote(String text) {
        tell(Role.CALLER, text);
    }

    private synchronized void tell(Role by, String text) {
        remember("told " + UUID.randomUUID(), new Said(by, text));
        answerOwed = true;
        continueIfQuiet();
    }

    /// Also tells the model, which does not know it yet.
    private void remember(String id, Item item) {
        note(id, item);
        link.send(create(item));
    }

    private void note(String id, Item item) {
        soFar.put(id, item);
        if (soFar.size() > MOST_ITEMS) {
            soFar.remove(soFar.keySet().iterator().next());
        }
    }

    private static RealtimeClientEvent create(Item item) {
        var event = ConversationItemCreateEvent.builder();
        switch (item) {
            case Said(Role by, String text) when by == Role.CALLER ->
                    event.item(RealtimeConversationItemUserMessage.builder()
                            .addContent(RealtimeConversationItemUserMessage.Content.builder()
                                    .type(RealtimeConversationItemUserMessage.Content.Type
                                            .INPUT_TEXT).text(text).build()).build());
            case Said(Role by, String text) when by == Role.AGENT ->
                    event.item(RealtimeConversationItemAssistantMessage.builder()
                            .addContent(RealtimeConversationItemAssistantMessage.Content.builder()
                                    .type(RealtimeConversationItemAssistantMessage.Content.Type
                                            .OUTPUT_TEXT).text(text).build()).build());
            case Said(_, String text) ->
                    event.item(RealtimeConversationItemSystemMessage.builder()
                            .addContent(RealtimeConversationItemSystemMessage.Content.builder()
                                    .type(RealtimeConversationItemSystemMessage.Content.Type
                                            .INPUT_TEXT).text(text).build()).build());
            case Called(String callId, String name, String arguments) ->
                    event.item(RealtimeConversationItemFunctionCall.builder()
                            .callId(callId).name(name).arguments(arguments).build());
            case Answered(String callId, String json) ->
                    event.item(RealtimeConversationItemFunctionCallOutput.builder()
                            .callId(callId).output(json).build());
        }
        return RealtimeClientEvent.ofConversationItemCreate(event.build());
    }

    /// Breaks off the answer that is being given, if any. The caller's voice does that by itself.
    public synchronized void interrupt() {
        if (responding) {
            link.send(RealtimeClientEvent.ofResponseCancel(ResponseCancelEvent.builder().build()));
        }
    }

    /// The model has an answer to give, and may not have begun to speak yet.
    public synchronized boolean thinking() {
        return !closed && (asked != null || responding || callerWaits || answerOwed
                || toolRunning());
    }

    /// It waits for the output of a tool.
    public synchronized boolean toolRunning() {
        return !toolsRunning.isEmpty();
    }

    /// As far as the model hears.
    public synchronized boolean callerSpeaking() {
        return !closed && callerSpeaking;
    }

    /// How long the caller has made no sound, as far as we hear: the model notices that later, on a
    /// slow connection much later.
    public Duration callerQuiet() {
        synchronized (ear) {
            return Duration.ofNanos(System.nanoTime() - lastLoud);
        }
    }

    /// What the caller did not hear, the model has not said. Sound that is not this model's own (of
    /// a connection before, a recording) does not matter to it.
    public synchronized void truncate(Speaker.Cut cut) {
        Integer bytes = link.spoken.get(cut.itemId());
        if (bytes == null) {
            return;
        }
        if (soFar.get(cut.itemId()) instanceof Said(Role by, String text)) {
            double heard = Math.min(1, (double) cut.ms() * Speaker.BYTES_PER_MS / bytes);
            soFar.put(cut.itemId(), new Said(by, text.substring(0, (int) (text.length() * heard))
                    + INTERRUPTED));
        }
        link.send(RealtimeClientEvent.ofConversationItemTruncate(
                ConversationItemTruncateEvent.builder().itemId(cut.itemId()).contentIndex(0)
                        .audioEndMs(cut.ms()).build()));
    }

    /// The caller has waited too long for an answer: something is wrong with the connection.
    public void giveUpOn(String why) {
        fault(link, why);
    }

    @Override
    public synchronized void close() {
        closed = true;
        link.close();
    }

    /// Asking for a response while one is being given is an error, and while the caller speaks it
    /// is needless: the model answers of itself when they have finished.
    private void continueIfQuiet() {
        if (begun != null && answerOwed && asked == null && !responding && !callerSpeaking
                && !toolRunning()) {
            answerOwed = false;
            ask();
        }
    }

    /// A connection is of no use any more. Another one takes its place, unless this one already
    /// was the other.
    private synchronized void fault(Link from, String why) {
        if (closed || from != link || from.closed) {
            return;
        }
        from.close();
        if (speakingItem != null) {
            speaker.end(speakingItem); // no more of it will come
        }
        if (trouble != null && !from.proven()) {
            closed = true;
            mailbox.post(new Event.ModelLost(why.equals(trouble) ? why
                    : why + "; before that: " + trouble));
            return;
        }
        trouble = why;
        Log.log(call, "the model is lost, connecting again: " + why);
        mailbox.post(new Event.ModelAway(why));
        // A service that has just refused us is not asked again in the same instant.
        Duration wait = from.alive ? Duration.ZERO : AFTER_REFUSAL;
        CompletableFuture.delayedExecutor(wait.toMillis(), TimeUnit.MILLISECONDS)
                .execute(() -> connect(from));
    }

    private synchronized void connect(Link before) {
        if (closed || link != before) {
            return;
        }
        var next = new Link(before != null);
        boolean broken = speakingItem != null;
        boolean owed = responding || asked != null || answerOwed || broken;
        responding = callerSpeaking = callerWaits = answerOwed = false;
        asked = speakingItem = null;
        if (before != null && begun != null) {
            configure(next);
            recall(next, broken);
        }
        synchronized (ear) {
            // What nobody has answered is heard once more; the model then answers of itself.
            boolean again = before != null && (unanswered || oddSince != 0);
            if (again) {
                turn.forEach(next::hear);
            }
            hears = false;
            probed = oddSince = loudMs = 0;
            link = next;
        }
        if (unanswered) {
            callerWaits = true;
        } else if (owed) {
            answerOwed = true;
            continueIfQuiet();
        }
        next.start();
    }

    /// Tells a new connection what has been said and done.
    private void recall(Link next, boolean broken) {
        next.send(create(about));
        var calls = new HashSet<String>();
        soFar.forEach((id, item) -> {
            boolean useful = switch (item) {
                // What is heard again need not be read.
                case Said(_, String text) -> !text.isBlank()
                        && !(unanswered && id.equals(turnItem));
                case Called(String callId, _, _) -> calls.add(callId);
                case Answered(String callId, _) -> calls.contains(callId);
            };
            if (useful) {
                next.send(create(item));
            }
        });
        if (broken) {
            next.send(create(new Said(Role.NOBODY, "The connection broke while you were speaking. "
                    + "Go on where you stopped; do not greet again or repeat yourself.")));
        }
    }

    /// Without what was "received": that may be anything, a phone number too.
    private static String reason(Throwable thrown) {
        return Log.reason(thrown).replaceAll("(?s), received .*", "");
    }

    /// One connection.
    private final class Link {
        private final BlockingQueue<Outgoing> outgoing = new LinkedBlockingQueue<>();
        private final AtomicInteger soundWaiting = new AtomicInteger();
        final Map<String, Integer> spoken = new HashMap<>();    // bytes of each item; for `this`
        private final boolean again;
        private final long since = System.nanoTime();
        private Thread thread;
        private volatile RealtimeConnection connection;
        volatile boolean alive;                                 // it has said something
        private boolean useful;                                 // it spoke
        volatile boolean closed;

        Link(boolean again) {
            this.again = again;
        }

        void start() {
            thread = Thread.ofVirtual().name("model " + call).start(this::run);
            Duration bound = again ? CONNECTING_AGAIN : Model.CONNECTING;
            CompletableFuture.delayedExecutor(bound.toMillis(), TimeUnit.MILLISECONDS)
                    .execute(() -> {
                        if (!alive) {
                            fault(this, "no answer within " + bound.toSeconds() + " s");
                        }
                    });
        }

        /// Whatever is wrong now has nothing to do with the trouble before.
        boolean proven() {
            return useful || alive && System.nanoTime() - since > PROVEN.toNanos();
        }

        void send(RealtimeClientEvent event) {
            outgoing.add(new Outgoing(event, null));
        }

        /// False when too much is waiting already.
        boolean hear(byte[] sound) {
            boolean room = soundWaiting.get() < MOST_WAITING;
            if (room && !closed) {
                soundWaiting.incrementAndGet();
                outgoing.add(new Outgoing(null, sound));
            }
            return room;
        }

        void close() {
            closed = true;
            if (thread != null) {
                thread.interrupt();
            }
            RealtimeConnection current = connection;
            if (current != null) {
                Thread.ofVirtual().start(current::close); // which may have to wait
            }
        }

        private void run() {
            Thread sending = null;
            try (var c = model.connect()) {
                connection = c;
                sending = Thread.ofVirtual().name("to model " + call).start(() -> sendAll(c));
                while (!closed) {
                    RealtimeServerEvent event = c.receive();
                    try {
                        take(this, event);
                    } catch (RuntimeException e) {
                        Log.log(call, "the model sent something odd: " + reason(e));
                    }
                }
            } catch (Exception e) {
                fault(this, Model.hint(reason(e)));
            } finally {
                if (sending != null) {
                    sending.interrupt();
                }
            }
        }

        /// `send` refuses a frame while the one before is still on its way, so one thread sends
        /// all of them, in order, and tries again.
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
                                InputAudioBufferAppendEvent.builder().audio(Base64.getEncoder()
                                        .encodeToString(next.sound)).build());
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
                fault(this, reason(e));
            }
        }
    }

    /// OpenAI says it twice, services that speak its protocol in one way or the other.
    private void toolCalled(String callId, String name, String arguments) {
        if (toolsCalled.add(callId)) {
            note("call " + callId, new Called(callId, name, arguments));
            toolsRunning.add(callId);
            answered();
            mailbox.post(new Event.ToolCalled(callId, name, arguments));
        }
    }

    /// There is an answer to what the caller has said, if they are not saying more already.
    private void answered() {
        if (!callerSpeaking) {
            unanswered = false;
        }
    }

    private void says(String itemId, String text) {
        String before = soFar.get(itemId) instanceof Said(_, String said) ? said : "";
        if (!before.endsWith(INTERRUPTED)) {
            note(itemId, new Said(Role.AGENT, before + text));
        }
        mailbox.post(new Event.AgentSays(itemId, text));
    }

    private synchronized void take(Link from, RealtimeServerEvent event) {
        if (from != link || from.closed || closed) {
            return;
        }
        if (!from.alive) {
            from.alive = true;
            if (from.again) {
                Log.log(call, "the model is back, after "
                        + (System.nanoTime() - from.since) / 1_000_000 + " ms");
                mailbox.post(new Event.ModelBack());
            }
        }
        heardFrom(event.isInputAudioBufferSpeechStarted()
                || callerSpeaking && !event.isInputAudioBufferSpeechStopped());
        if (event.isResponseOutputAudioDelta()) {
            var delta = event.asResponseOutputAudioDelta();
            byte[] sound = Base64.getDecoder().decode(delta.delta());
            speaker.play(delta.itemId(), sound);
            from.spoken.merge(delta.itemId(), sound.length, Integer::sum);
            greeted = from.useful = true;
            answered();
            speakingItem = delta.itemId();
            if (!delta.itemId().equals(spokenItem)) {
                spokenItem = delta.itemId();
                mailbox.post(new Event.AgentSpeaks());
            }
        } else if (event.isResponseOutputAudioDone()) {
            speaker.end(event.asResponseOutputAudioDone().itemId());
            speakingItem = null;
        } else if (event.isInputAudioBufferSpeechStarted()) {
            callerSpeaking = unanswered = true;
            callerWaits = false;
            turnItem = event.asInputAudioBufferSpeechStarted().itemId();
            note(turnItem, new Said(Role.CALLER, ""));
            mailbox.post(new Event.CallerSpeaks());
        } else if (event.isInputAudioBufferSpeechStopped()) {
            callerSpeaking = false;
            callerWaits = true;
            mailbox.post(new Event.TurnChanged());
        } else if (event.isResponseCreated()) {
            responding = true;
            asked = null;
            answerOwed = callerWaits = false;
            mailbox.post(new Event.TurnChanged());
        } else if (event.isResponseDone()) {
            var response = event.asResponseDone().response();
            responding = false;
            String status = response.status().map(one -> one.asString()).orElse("");
            if (status.equals("failed")) {
                responding = true; // it is owed still
                fault(from, "it failed to answer: " + response.statusDetails()
                        .flatMap(RealtimeResponseStatus::error)
                        .map(e -> e.code().orElse("") + " " + e.type().orElse("")).orElse(""));
                return;
            }
            if (!status.equals("cancelled")) {
                answered(); // be it with nothing
            }
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
                toolCalled(tool.callId().orElseThrow(() -> new IllegalArgumentException(
                        "a tool call without a call_id")), tool.name(), tool.arguments());
            }
        } else if (event.isResponseOutputAudioTranscriptDelta()) {
            var delta = event.asResponseOutputAudioTranscriptDelta();
            writtenItem = delta.itemId();
            says(delta.itemId(), delta.delta());
        } else if (event.isResponseOutputAudioTranscriptDone()) {
            var done = event.asResponseOutputAudioTranscriptDone();
            if (!done.itemId().equals(writtenItem)) { // it came in one piece
                says(done.itemId(), done.transcript());
            }
            mailbox.post(new Event.AgentSaid(done.itemId(), done.transcript()));
        } else if (event.isConversationItemInputAudioTranscriptionCompleted()) {
            var said = event.asConversationItemInputAudioTranscriptionCompleted();
            note(said.itemId(), new Said(Role.CALLER, said.transcript()));
            mailbox.post(new Event.CallerSaid(said.itemId(), said.transcript()));
        } else if (event.isError()) {
            failed(from, event.asError().error());
        }
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
            asked = null;
            responding = answerOwed = true;
        } else if (cause.equals(SESSION) || cause.equals(asked) || code.equals("session_expired")
                || !error.type().equals("invalid_request_error")) {
            fault(from, "it reports " + said);
            return;
        }
        Log.log(call, "the model reports " + said);
    }
}
