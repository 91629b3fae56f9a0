package voice;

import module java.base;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;
import voice.Mailbox.Alarm;

/// One call, as a conversation between the caller on a Line and a Realtime model. It is what
/// LiveKit's [AgentSession](https://docs.livekit.io/agents/logic/sessions/) is in Python.
///
/// The program calls `next` again and again. `next` waits until there is a Step for the program to
/// take. The session does everything else by itself: it picks up when the greeting is there
/// (PickUp), lets the caller interrupt (Turn), plays a recording while the model is slow or away,
/// sees a transfer through (Transfer), dials, and finds out why a call has ended (Ending). Realtime
/// replaces a lost connection to the model.
///
/// All of that runs on the thread that calls `next`, which is the call's own. So there are no locks
/// here, and no callbacks from other threads. Sound takes another way: the model's sound goes
/// straight to the Speaker, and the caller's sound goes straight to the model. A method is only for
/// the call's thread, unless it says "any thread".
///
/// Not handled: more than one caller in a call.
public final class Session implements AutoCloseable {
    private static final Duration NO_CALLER = Duration.ofSeconds(60);
    private static final Duration NOBODY_TO_DIAL = Duration.ofSeconds(5);
    private static final Duration MODEL_AWAY = Duration.ofSeconds(1);
    private static final Duration KEYS_PAUSE = Duration.ofMillis(1_500);
    private static final int MOST_KEYS = 64;    // characters; later keys do not move the alarm
    private static final int LAST_KEY = 200;    // characters; later keys are dropped
    private static final String TOO_LONG = "MAX_CALL_MINUTES are over";
    private static final String FORBIDDEN = "phone_number begins with none of OUTBOUND_PREFIXES";
    private static final String UNREADABLE = "there is a phone_number, but not in a JSON object";

    record Caption(boolean agents, String item, String text, boolean last) {}

    final Line line;
    final Mailbox mailbox;
    final Options options;
    final Realtime conversation;
    final PickUp pickUp = new PickUp(this);
    final Turn turn = new Turn(this);
    final Transfer transfer = new Transfer(this);
    final Ending ending = new Ending(this);
    final Transcript transcript = new Transcript(ending::now);
    final boolean outbound;
    private final JsonObject metadata;
    private final String given;                 // the number in the metadata, or null
    private final String notDialled;            // why we do not call it, or null
    final StringBuilder keys = new StringBuilder();
    final List<Caption> captions = new ArrayList<>();   // of what nobody has heard yet
    private IOException notJoined;              // why we are not in the room, or null
    private boolean dialling;                   // the program was asked whom we are to dial
    private volatile Party party;               // as it was at the join, or when somebody came
    boolean begun;                              // the model knows whom it talks to
    boolean talking;                            // the caller hears us, and we hear them
    boolean modelAway;                          // there is no connection to the model

    /// Begins at once to connect to the model, because that takes longest.
    public Session(Line line, Model model, Options options) {
        this.line = line;
        this.mailbox = line.mailbox();
        this.options = options;
        conversation = new Realtime(model, line.id(), mailbox, line.speaker());
        metadata = metadata(line);
        given = metadata.get("phone_number") instanceof JsonString number
                ? options.numbers().read(number.getString()) : null;
        notDialled = metadata.isEmpty() && line.metadata().contains("phone_number") ? UNREADABLE
                : !Numbers.callable(given) ? "phone_number is not +15551234567"
                : options.trunk().isEmpty()
                        ? "OUTBOUND_TRUNK_ID is not set, so nobody can be called"
                : !options.mayCall(given) ? FORBIDDEN : null;
        outbound = notDialled == null;
        if (toBeDialled() && !outbound) {
            Log.log(line.id(), "NOT dialled: " + notDialled);
        }
        lookWhoItIs();
    }

    /// Whoever dispatches a call may say whom to call: {"phone_number": "+15551234567"}. That can
    /// be a web client, which writes what it likes. So the number is somebody to dial, if that is
    /// allowed, and it never says who the person in the room is.
    private static JsonObject metadata(Line line) {
        if (!line.metadata().isBlank()) {
            try (var parser = Json.createParser(new StringReader(line.metadata()))) {
                parser.next();
                JsonObject object = parser.getObject();
                parser.hasNext();           // throws if anything stands behind it
                return object;
            } catch (RuntimeException e) { // not only JsonException: JSON can be nested too deep
                Log.log(line.id(), "the job's metadata is not a JSON object; going on without");
            }
        }
        return JsonObject.EMPTY_JSON_OBJECT;
    }

    /// Joins the room, before anybody has picked up. Blocks, 20 s at most. Throws an
    /// UncheckedIOException when the call is not ours. If it is ours and the room cannot be joined,
    /// `next` throws one, so that the call has a beginning and an end.
    public void join() {
        try {
            line.join(outbound ? given : null, nobodyIsTheCaller() ? null
                    : metadata.get("caller_identity") instanceof JsonString identity
                            ? identity.getString() : "");
        } catch (Line.NotOurs e) {
            throw new UncheckedIOException(e);
        } catch (IOException e) {
            notJoined = e;
            return;
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        ending.joined();
        lookWhoItIs();
        turn.look();
        Log.step(line.id(), "call", line.id());     // once, the whole id
        mailbox.alarm(Alarm.TOO_LONG, options.longest());
        if (!outbound) {
            // If we cannot call the person whom we were to call, whoever has asked for it learns
            // that soon.
            mailbox.alarm(Alarm.NO_CALLER, nobodyIsTheCaller() ? Duration.ZERO
                    : toBeDialled() ? NOBODY_TO_DIAL : NO_CALLER);
        }
    }

    /// We must not call the person whom we were to call, or nobody can read who that is. So nobody
    /// else in the room becomes the caller, and the call ends at once.
    private boolean nobodyIsTheCaller() {
        return FORBIDDEN.equals(notDialled) || UNREADABLE.equals(notDialled);
    }

    boolean toBeDialled() {
        return metadata.containsKey("phone_number") || UNREADABLE.equals(notDialled);
    }

    /// Who is on the line, as far as it is known by now. Any thread.
    public Party party() {
        return party;
    }

    /// Looks who is on the line. Only at certain moments: who the caller is does not change while
    /// the program asks the CRM about them.
    private void lookWhoItIs() {
        String number = options.numbers().read(line.number());
        boolean ours = outbound || nobodyIsTheCaller();     // or it must not be made
        party = new Party(line.id(), line.room(), line.roomSid(),
                number != null ? number : ours ? given : null,
                ours ? given : options.numbers().read(line.calledNumber()),
                ours ? "outbound" : "inbound", line.sipCallId(), line.sipId());
    }

    /// Do we make this call? We do if the dispatch names a number and a trunk is set. Any thread.
    public boolean outbound() {
        return outbound;
    }

    /// The metadata of the dispatch; an empty object when there is none. Any thread.
    public JsonObject metadata() {
        return metadata;
    }

    // What the program reads.

    /// The next step, or null when the call is over. Throws an UncheckedIOException when the room
    /// could not be joined.
    public Step next() {
        if (notJoined != null) {
            throw new UncheckedIOException(notJoined);
        }
        if (outbound && !dialling) {
            dialling = true;
            return ringing();
        }
        try {
            while (!ending.over()) {
                turn.look();
                Step step = take(mailbox.next());
                if (step != null) {
                    return step;                // the last one, too; null comes after it
                }
            }
            return null;
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /// Does what the session does by itself. Returns the step that is left for the program, or
    /// null.
    private Step take(Event event) {
        transcript.take(event);
        switch (event) {
            case Event.CallerJoined() when outbound -> lookWhoItIs();   // whom we have dialled
            case Event.CallerJoined() -> {
                return ringing();
            }
            case Event.AgentSpeaks _ -> {
                turn.agentSpeaks();
                transfer.agentSpeaks();
                pickUp.pickUp();                // the first sound of the greeting is here
            }
            case Event.CallerHears() -> {
                pickUp.subscribed();            // if they are lost, this counts when they are back
                talk();
            }
            case Event.CallerAnswered() -> {
                answered();
                pickUp.answered();
            }
            case Event.Subscribed() -> pickUp.subscribed();
            case Event.CallerSpeaks _ -> bargeIn();
            // `turn` looks before every event.
            case Event.TurnChanged _, Event.CallerHeardAgain _ -> { }
            case Event.KeyPressed(var key) -> {
                // Nothing of that waits for the pause after the keys.
                transfer.callOff("the caller presses keys");
                turn.callerSpeaks();
                if (keys.length() < LAST_KEY) {
                    keys.append(key).append(' ');
                }
                if (keys.length() < MOST_KEYS) {
                    mailbox.alarm(Alarm.KEYS, KEYS_PAUSE);
                }
            }
            case Event.CallerWrote(var text) -> {
                Log.said(line.id(), "caller", "writes", text);
                callerSays(text);
            }
            case Event.ToolCalled(var id, var name, var arguments) -> {
                turn.modelAnswers();                    // a tool call counts as an answer
                return new Step.ToolCalled(id, name, arguments);
            }
            case Event.CallerSaid(var item, var text) -> {
                Log.said(line.id(), "caller", "says", text);
                caption(false, item, text, true);
            }
            case Event.AgentSays(var item, var text) -> caption(true, item, text, false);
            case Event.AgentSaid(var item, var text) -> {
                if (!text.isEmpty()) {
                    Log.said(line.id(), "agent", "says", text);
                }
                caption(true, item, text, true);
            }
            case Event.DialFailed(var why) -> ending.dialFailed(why);
            case Event.Transferred() -> {
                return transfer.worked();
            }
            case Event.TransferFailed(var why) -> {
                return transfer.failed(why);
            }
            case Event.AlarmDue(var which) -> {
                return alarm(which);
            }
            case Event.CallerLeft(var why) -> {
                return ending.callerLeft(why);
            }
            case Event.CallerLost(var why) -> {
                return ending.callerLost(why);
            }
            case Event.CallerBack() -> {
                return ending.callerBack();
            }
            case Event.RoomClosed _ when mailbox.isSet(Alarm.NO_CALLER) -> {
                return alarm(Alarm.NO_CALLER);
            }
            case Event.RoomClosed(var why) -> ending.roomClosed(why);
            case Event.LineLost(var why) -> ending.end("room_lost", why);
            case Event.TakenOver(var why) -> ending.end("taken_over", why);
            case Event.ModelAway(_, var waited) -> {
                if (!modelAway) {
                    modelAway = true;
                    mailbox.alarm(Alarm.MODEL_AWAY, Collections.min(
                            List.of(MODEL_AWAY, Turn.CALLER_WAITS.minus(waited))));
                }
            }
            case Event.ModelBack() -> {
                modelAway = false;
                mailbox.cancel(Alarm.MODEL_AWAY);
            }
            case Event.TryAgainIn(var pause) -> mailbox.alarm(Alarm.TRY_AGAIN, pause);
            case Event.ModelLost(var why) -> ending.modelLost(why);
            case Event.TimeIsUp() -> {
                return ending.sayGoodbye("worker_stopped", "the worker is going to be stopped");
            }
            case Event.Stop() -> ending.end("worker_stopped", "the worker is being stopped");
            case Event.Posted(var what) -> {
                return new Step.Posted(what);
            }
        }
        return null;
    }

    private Step alarm(Alarm which) {
        switch (which) {
            case PICK_UP -> pickUp.pickUp();    // without a greeting: more ringing would be worse
            case CAN_HEAR -> talk();            // some phones send no sound before they hear ours
            case KEYS -> {
                if (ending.callerIsLost()) {
                    mailbox.alarm(Alarm.KEYS, KEYS_PAUSE);      // the model would say it to nobody
                    return null;
                }
                // The log does not say which keys, because they may be a PIN.
                Log.step(line.id(), "caller", "presses " + keys.length() / 2 + " keys");
                transcript.keysPressed();
                var pressed = new Step.KeysPressed(keys.toString().strip());
                keys.setLength(0);
                return pressed;
            }
            case HEARD, HEARD_AT_LATEST -> turn.heard();
            case CALLER_WAITS, MODEL_AWAY -> {
                if (talking && !line.speaker().speaking()
                        && (which == Alarm.CALLER_WAITS || !turn.bridged())) {
                    turn.play(Clips.MOMENT);
                }
            }
            case TRY_AGAIN -> conversation.tryAgain();
            case ASK_MODEL -> turn.askModel();
            case NO_ANSWER -> turn.noAnswer();
            case SILENCE -> {
                Log.step(line.id(), "caller", "is silent");
                return turn.silent();
            }
            case NO_CALLER -> ending.end(toBeDialled() ? "bad_trunk" : "no_answer",
                    toBeDialled() ? notDialled : "nobody came");
            case NOT_PICKED_UP -> ending.end("no_answer", ending.notYetAnswered()
                    ? "nobody picks up" : "our sound comes to nobody");
            case NO_OUTCOME -> ending.noOutcome();
            case PUT_THROUGH -> {
                return transfer.putThrough();
            }
            case STILL_HERE -> transfer.stillHere();
            case CALLER_LOST -> ending.callerStaysAway();
            case TOO_LONG -> {
                if (transfer.underWay()) {      // which has an end of its own
                    mailbox.alarm(Alarm.TOO_LONG, Ending.LAST_WORDS);
                } else if (!talking) {
                    ending.end("too_long", TOO_LONG);
                }
                return ending.sayGoodbye("too_long", TOO_LONG);
            }
            case OUTCOME_SHOWN -> { }           // `Ending.show` takes it
        }
        return null;
    }

    /// The phone rings, or we are about to dial it. This comes a second time when a phone joins
    /// after a browser.
    private Step ringing() {
        lookWhoItIs();
        mailbox.cancel(Alarm.NO_CALLER);
        pickUp.rings();
        Log.step(line.id(), "call", (outbound ? "to " : "from ") + Log.tail(party().phone()));
        return new Step.Ringing();
    }

    /// Shows in the room what is said. The greeting may hold what the CRM knows of the caller. So
    /// nobody in the room can read it before the caller can hear it. (A piece without text has
    /// nothing to read.) While the caller is lost, only what is whole is shown: it has no more than
    /// they have heard.
    private void caption(boolean agents, String item, String text, boolean last) {
        boolean whole = last && ending.callerIsLost();
        if (whole) {
            captions.removeIf(piece -> piece.item.equals(item));
        }
        if (talking || whole || text.isEmpty() && !last) {
            line.caption(agents, item, text, last);
        } else {
            captions.add(new Caption(agents, item, text, last));
        }
    }

    private void answered() {
        ending.answered();
        if (outbound) {
            lookWhoItIs();                      // the trunk's Call-ID comes with the answer
        }
    }

    /// The caller can hear us now. The greeting has waited for this moment, and begins. From now on
    /// the model hears the caller.
    void talk() {
        if (!talking && !ending.callerIsLost()) {
            talking = true;
            answered();
            pickUp.stopWaiting();
            line.speaker().release();
            line.listen(conversation::hear);
            captions.forEach(each ->
                    line.caption(each.agents, each.item, each.text, each.last));
            captions.clear();
            Log.step(line.id(), "call", "is up");
            if (ending.modelLost() != null) {
                ending.apologize();
            } else if (modelAway) {
                mailbox.alarm(Alarm.MODEL_AWAY, MODEL_AWAY);
            }
        }
    }

    /// The caller speaks, writes, or presses keys. (Realtime has already broken off the sound.)
    private void bargeIn() {
        transfer.callerSpeaks();
        turn.callerSpeaks();
    }

    // What the program calls.

    /// Tells the model who it is (`instructions`), whom it talks to (`about`) and what it can do
    /// (`tools`). The model then prepares the greeting. The session picks up the phone when the
    /// first sound of the greeting is there. If we make the call, the session dials now. When this
    /// is called again, only `about` counts, and the model is told it anew.
    public void begin(String instructions, String about, List<String> tools, String greeting) {
        if (begun) {
            conversation.about(about);
            return;
        }
        begun = true;
        if (outbound) {
            pickUp.dials();
            line.dial(options.trunk());
        }
        conversation.begin(instructions, about, tools, greeting);
        if (ending.modelLost() != null) {
            pickUp.pickUp();                    // so that the caller hears the recording
        }
    }

    /// Gives the model the answer to a tool call, as JSON. With `speak`, the model then says
    /// something about it. Without `speak`, it does so only if it said nothing when it called the
    /// tool. Any thread.
    public void answer(String toolCall, String json, boolean speak) {
        conversation.answer(toolCall, json, speak);
    }

    /// Comes back as Step.Posted: work that was done elsewhere. Any thread.
    public void post(Object what) {
        mailbox.post(new Event.Posted(what));
    }

    /// Tells the model what has happened. The model speaks of it as soon as nobody is speaking.
    /// Does nothing once the model is lost or the call is over.
    public void tell(String what) {
        if (ending.modelLost() == null && !ending.over()) {
            conversation.tell(what);
        }
    }

    /// The caller has written this, or has pressed keys. The agent stops speaking and answers, just
    /// as if the caller had spoken. Does nothing before the caller can hear us, and nothing after
    /// the model is lost.
    public void callerSays(String text) {
        if (talking && ending.modelLost() == null) {
            conversation.interrupt();
            bargeIn();
            conversation.callerWrote(text);
        }
    }

    /// Transfers the caller to a destination of `Options`. The transfer begins when the caller has
    /// heard the agent say so, unless the caller says something before that. Returns null, or says
    /// why the transfer cannot begin, in words for the model.
    public String transfer(String destination) {
        return transfer.ask(destination);
    }

    /// Ends the call when the caller has heard what the agent is saying or is about to say, unless
    /// the caller speaks or presses a key before. Returns null, or says why the call cannot end
    /// now, in words for the model.
    public String endWhenHeard(String reason, String why) {
        return ending.whenHeard(reason, why);
    }

    /// The program has failed. The call ends with the reason `error`.
    public void fail(Throwable why) {
        ending.failed(why);
    }

    /// The call is over, or the agent could not join the room. Hangs up, unless the caller's phone
    /// has left or somebody else has the call. Returns how the call ended.
    public End finish() {
        mailbox.rest(Event.AgentSaid.class).forEach(this::take);
        mailbox.rest(Event.CallerSaid.class).forEach(this::take);
        transcript.keysPressed();
        conversation.end().forEach(this::take);
        return ending.finish();
    }

    /// Closes the connection to the model. If we have made the call, then shows in the room for two
    /// seconds how it ended. Whoever has dispatched the call reads it there.
    @Override
    public void close() {
        conversation.close();
        ending.show();
    }
}
