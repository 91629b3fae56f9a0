package demo;

import module java.base;
import com.sun.net.httpserver.HttpExchange;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import voice.Line;
import voice.Log;

import static java.nio.charset.StandardCharsets.UTF_8;

/// The page's calls as it sees them: POST /phone, and what is below that path. Each call is a
/// WebPhone. Demo lets the CRM's server hand in the requests, once it is known that they come from
/// the page itself, and that they are not too long.
///
/// Deliberately not here: what the agent does in a call. `start` begins that.
final class WebCalls {
    private static final int MOST_CALLS = 4;
    private static final Duration PING = Duration.ofSeconds(2);

    private final BiConsumer<Line, Runnable> start;
    private final Map<String, WebPhone> phones = new ConcurrentHashMap<>(); // by call id

    /// `start` begins a call on a thread of its own, and runs the Runnable when the call is over.
    WebCalls(BiConsumer<Line, Runnable> start) {
        this.start = start;
    }

    /// Wants every call to end. Does not wait for that.
    void stop() {
        phones.values().forEach(WebPhone::stop);
    }

    /// POST /phone is a call, for as long as it lasts: its response is the answer to the browser's
    /// offers, and then what happens in the call, one JSON object a line. POST /phone/ID/WHAT is
    /// what the caller does: `hangup`, `text` or `keys`.
    void handle(HttpExchange exchange) throws IOException {
        String[] path = exchange.getRequestURI().getPath().split("/"); // "", "phone", id, what
        byte[] body = exchange.getRequestBody().readAllBytes();
        if (!exchange.getRequestMethod().equals("POST")) {
            exchange.sendResponseHeaders(405, -1);
        } else if (path.length == 2) {
            call(exchange, body);
        } else {
            WebPhone phone = phones.get(path[2]);
            String text = new String(body, UTF_8).strip();
            String what = path.length == 4 ? path[3] : "";
            boolean done = switch (what) {
                case "hangup" -> {
                    if (phone != null) { // otherwise the call is over already
                        phone.left("hung up");
                    }
                    yield true;
                }
                case "text" -> {
                    if (phone != null) {
                        phone.wrote(text);
                    }
                    yield phone != null;
                }
                case "keys" -> {
                    boolean key = phone != null && text.matches("[0-9*#]");
                    if (key) {
                        phone.pressed(text);
                    }
                    yield key;
                }
                default -> false;
            };
            exchange.sendResponseHeaders(done ? 204 : 404, -1);
        }
    }

    private void call(HttpExchange exchange, byte[] body) throws IOException {
        if (phones.size() >= MOST_CALLS) {
            refuse(exchange, 503, "There are " + MOST_CALLS + " calls already.");
            return;
        }
        String id = Demo.newId("web");
        var events = new LinkedBlockingQueue<JsonObject>();
        WebPhone phone;
        WebPhone.Sdp answers;
        try (var reader = Json.createReader(new ByteArrayInputStream(body))) {
            JsonObject offer = reader.readObject();
            String number = offer.getString("phone", "");
            phone = new WebPhone(id, number.matches("\\+[0-9]{3,15}") ? number : null, events::add);
            phones.put(id, phone);
            answers = phone.connect(
                    new WebPhone.Sdp(offer.getString("up"), offer.getString("down")));
        } catch (IOException | RuntimeException | LinkageError e) {
            Log.log(id, "a call that cannot be taken: " + Log.reason(e));
            refuse(exchange, 400, "The call cannot be taken: " + Log.reason(e));
            drop(id);
            return;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // the program is being stopped
            drop(id);
            return;
        }
        start.accept(phone, () -> drop(id));
        try {
            exchange.getResponseHeaders().set("Content-Type", "application/x-ndjson");
            exchange.getResponseHeaders().set("Cache-Control", "no-store");
            exchange.sendResponseHeaders(200, 0);
            var out = exchange.getResponseBody();
            JsonObject next = Json.createObjectBuilder().add("kind", "answer").add("call", id)
                    .add("up", answers.up()).add("down", answers.down()).build();
            while (true) {
                out.write((next + "\n").getBytes(UTF_8));
                out.flush();
                if (next.getString("kind").equals("ended")) {
                    return;
                }
                next = events.poll(PING.toMillis(), TimeUnit.MILLISECONDS);
                if (next == null) { // writing this fails when the page has gone
                    next = Json.createObjectBuilder().add("kind", "ping").build();
                }
            }
        } catch (IOException e) {
            phone.left("their page is gone");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void drop(String id) {
        WebPhone phone = phones.remove(id);
        if (phone != null) {
            phone.close();
        }
    }

    private static void refuse(HttpExchange exchange, int status, String why) throws IOException {
        byte[] text = why.getBytes(UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "text/plain; charset=utf-8");
        exchange.sendResponseHeaders(status, text.length);
        exchange.getResponseBody().write(text);
    }
}
