package start;

import module java.base;
import delivery.Outbox;
import voice.Event;
import voice.Line;
import voice.Log;
import voice.Mailbox;
import voice.Speaker;

/// A call with nobody on the phone. In it, Java loads and compiles what a call needs, which takes
/// more than a second, so the first caller does not wait for that. Start holds one rehearsal, after
/// the worker has registered. The demo's page holds one, too.
///
/// A Rehearsal is the Line of that call. It also runs a server on this machine. To a WebSocket, the
/// server is the model. To an HTTP request, it always gives the same answer. Nothing of the
/// rehearsal leaves the machine, and nothing of it reaches the log. There is no WebRTC in it:
/// `WebRtc.warmUp` does that part.
public final class Rehearsal implements Line, AutoCloseable {
    private static final String ID = Log.SILENT;

    /// What the model sends in a call, one event of each kind.
    private static final String EVENTS = """
            {"type":"session.created","event_id":"1","session":{"type":"realtime"}}
            {"type":"session.updated","event_id":"2","session":{"type":"realtime"}}
            {"type":"response.created","event_id":"3","response":{"id":"r","status":"in_progress"}}
            {"type":"response.output_audio.delta","event_id":"4","response_id":"r","item_id":"i",\
            "output_index":0,"content_index":0,"delta":"AAAAAAAAAAAAAAAA"}
            {"type":"response.output_audio.done","event_id":"5","response_id":"r","item_id":"i",\
            "output_index":0,"content_index":0}
            {"type":"response.output_audio_transcript.delta","event_id":"12","response_id":"r",\
            "item_id":"i","output_index":0,"content_index":0,"delta":"Hel"}
            {"type":"response.output_audio_transcript.done","event_id":"6","response_id":"r",\
            "item_id":"i","output_index":0,"content_index":0,"transcript":"Hello."}
            {"type":"response.output_item.done","event_id":"7","response_id":"r","output_index":1,\
            "item":{"type":"function_call","id":"f","status":"completed","call_id":"c",\
            "name":"record_intent","arguments":"{\\"intent\\":\\"nothing\\"}"}}
            {"type":"response.done","event_id":"8","response":{"id":"r","status":"completed",\
            "usage":{"input_tokens":1,"output_tokens":1}}}
            {"type":"input_audio_buffer.speech_started","event_id":"9","item_id":"u",\
            "audio_start_ms":0}
            {"type":"input_audio_buffer.speech_stopped","event_id":"10","item_id":"u",\
            "audio_end_ms":0}
            {"type":"conversation.item.input_audio_transcription.completed","event_id":"11",\
            "item_id":"u","content_index":0,"transcript":"Hello.",\
            "usage":{"type":"duration","seconds":1}}
            """;

    private final Mailbox mailbox = new Mailbox();
    private final Speaker speaker = new Speaker(_ -> {}, () -> {});
    private final String answer;
    private final ServerSocket server;

    /// `answer` is the body that every HTTP request gets.
    public Rehearsal(String answer) throws IOException {
        this.answer = answer;
        server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        Thread.ofVirtual().name(ID).start(() -> {
            while (!server.isClosed()) {
                try {
                    Socket socket = server.accept();
                    Thread.ofVirtual().name(ID).start(() -> serve(socket));
                } catch (IOException e) {
                    return; // closed
                }
            }
        });
    }

    /// The address of the model and of everything else.
    public String url() {
        return "http://127.0.0.1:" + server.getLocalPort();
    }

    /// Makes a program only for this call, and the program takes the call. The log has a line only
    /// if that fails. Blocks, some seconds at most.
    static void hold(Settings settings, Start.Maker maker) {
        try (var rehearsal = new Rehearsal("{\"results\":[{\"id\":\"1\",\"name\":\"Nobody\"}]}")) {
            Settings there = settings.at(rehearsal.url());
            Path outbox = Path.of(there.get("OUTBOX_DIR"));
            Start.delete(outbox);       // a process may have been killed in its rehearsal
            Program program = maker.make(there);
            program.takeCall(rehearsal);
            program.close(Start.SENDING);
            Start.delete(outbox);
        } catch (IOException | InterruptedException | RuntimeException | Outbox.InUse e) {
            Log.log("", "the rehearsal failed, the first call may begin late: " + Log.reason(e));
        }
    }

    private void serve(Socket socket) {
        try (socket) {
            socket.setSoTimeout(1_000);
            var in = new BufferedInputStream(socket.getInputStream());
            var out = socket.getOutputStream();
            var head = new StringBuilder();
            while (head.indexOf("\r\n\r\n") < 0) {
                int next = in.read();
                if (next < 0) {
                    return;
                }
                head.append((char) next);
            }
            Matcher key = Pattern.compile("(?i)sec-websocket-key: *(\\S+)").matcher(head);
            if (key.find()) {
                beModel(in, out, key.group(1));
            } else {
                out.write(("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: "
                        + answer.length() + "\r\n\r\n" + answer).getBytes());
            }
        } catch (IOException | NoSuchAlgorithmException e) {
            // A rehearsal that fails costs the first caller a second, and nobody else anything.
        }
    }

    /// Is the model on a WebSocket (RFC 6455): sends the events, and reads until nothing more
    /// comes.
    private void beModel(InputStream in, OutputStream out, String key)
            throws IOException, NoSuchAlgorithmException {
        byte[] proof = MessageDigest.getInstance("SHA-1").digest(
                (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").getBytes());
        out.write(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                + "Connection: Upgrade\r\nSec-WebSocket-Accept: "
                + Base64.getEncoder().encodeToString(proof) + "\r\n\r\n").getBytes());
        try {
            in.read(); // now the client is there
            for (String event : EVENTS.lines().toList()) {
                byte[] text = event.getBytes();
                out.write(0x81); // one whole text frame
                if (text.length < 126) {
                    out.write(text.length);
                } else {
                    out.write(126); // the length is in the next two bytes
                    out.write(text.length >> 8);
                    out.write(text.length);
                }
                out.write(text);
            }
            in.transferTo(OutputStream.nullOutputStream());
        } catch (SocketTimeoutException e) {
            mailbox.post(new Event.CallerLeft("the rehearsal is over"));
        }
    }

    @Override public String id() { return ID; }
    @Override public String room() { return ID; }
    @Override public String roomSid() { return ID; }
    @Override public String metadata() { return "{}"; }
    @Override public Mailbox mailbox() { return mailbox; }
    @Override public Speaker speaker() { return speaker; }
    @Override public String number() { return "+15550100"; }
    @Override public String calledNumber() { return null; }
    @Override public String sipCallId() { return null; }
    @Override public String sipId() { return null; }
    @Override public void join(String number, String identity) {
        mailbox.post(new Event.CallerJoined());
    }

    @Override public void pickUp() { mailbox.post(new Event.CallerHears()); }
    @Override public void listen(Consumer<byte[]> ear) { ear.accept(new byte[960]); }
    @Override public boolean onPhone() { return false; }
    @Override public void dial(String trunk) { }
    @Override public void transfer(String to) { }
    @Override public void show(Map<String, String> attributes) { }
    @Override public void caption(boolean agents, String id, String text, boolean last) { }
    @Override public CompletableFuture<Void> hangUp() {
        return CompletableFuture.completedFuture(null);
    }

    @Override
    public void close() throws IOException {
        speaker.close();
        server.close();
    }
}
