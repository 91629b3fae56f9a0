package trials;

import module java.base;
import module java.net.http;
import demo.DemoCrm;
import jakarta.json.Json;
import jakarta.json.JsonObject;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// demo/: the CRM of the demo, which is also an example of a receiver, and what its page is told.
/// The events that come to it are signed here with the JDK alone. PageTest has the page in a
/// browser, and calls from it.
public final class DemoTest extends Stand {
    private static final byte[] KEY = utf8(SECRET);

    /// A CRM that checks both signatures, and shows its page.
    private DemoCrm demoCrm() throws IOException {
        var crm = opened(new DemoCrm(0, (body, signature) -> signature.equals(xSignature(body)),
                (id, at, body, signatures, now) -> signatures.equals(standard(KEY, id, at, body))
                        && Math.abs(now.getEpochSecond() - at) <= 300, _ -> {}));
        crm.people();
        crm.page("recorded");
        return crm;
    }

    /// An event that happened an hour ago: what a slow machine adds does not matter then.
    private static byte[] event(String id, String name) {
        return utf8(Json.createObjectBuilder().add("id", id).add("event", name).add("timestamp",
                Instant.now().minusSeconds(3_600).toString()).build().toString());
    }

    /// Sends an event with both signatures, and with a time that is so many seconds from now.
    /// Returns the status of the answer.
    private static int send(DemoCrm crm, String path, String id, byte[] body, int seconds)
            throws Exception {
        long at = Instant.now().getEpochSecond() + seconds;
        return post(crm.url() + path, body, "X-Signature", xSignature(body), "webhook-id", id,
                "webhook-timestamp", "" + at, "webhook-signature", standard(KEY, id, at, body));
    }

    private static int post(String url, byte[] body, String... headers) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url)).timeout(SOON)
                .POST(HttpRequest.BodyPublishers.ofByteArray(body));
        if (headers.length > 0) {
            request.headers(headers);
        }
        try (var http = HttpClient.newHttpClient()) {
            return http.send(request.build(), HttpResponse.BodyHandlers.discarding()).statusCode();
        }
    }

    @Test
    void theDemoCrmRefusesWhatIsForgedOldOrReplayed() throws Exception {
        var crm = demoCrm();
        assertEquals(409, post(crm.url() + "/page/replay", new byte[0])); // nothing has come yet
        byte[] body = event("evt_1", "call.started");
        assertEquals(204, send(crm, "/webhooks/call", "evt_1", body, 0));
        assertEquals(1, crm.events().size());

        assertEquals(204, post(crm.url() + "/page/forge", new byte[0]));
        assertEquals(204, post(crm.url() + "/page/replay", new byte[0]));
        assertEquals(List.of(204, 401, 409), statuses(crm));
        var requests = crm.requests();
        assertEquals(List.of(true, false, false),
                requests.stream().map(DemoCrm.Request::verified).toList());
        assertArrayEquals(requests.getFirst().body(), requests.getLast().body());
        assertTrue(requests.get(1).why().contains("forged"), requests.get(1).why());
        assertTrue(requests.get(2).why().contains("replay"), requests.get(2).why());

        // An event comes again when the agent could not be told that it was taken. It has another
        // time then, and is no replay.
        for (int[] each : new int[][] {{-60, 204}, {-240, 204}, {-400, 401}, {400, 401}}) {
            assertEquals(each[1], send(crm, "/webhooks/call", "evt_1", body, each[0]),
                    each[0] + " s");
        }
        assertEquals(401, post(crm.url() + "/webhooks/call", body, "X-Signature", xSignature(body),
                "webhook-timestamp", "soon", "webhook-signature", "v1,"));
        assertEquals(1, crm.events().size());
    }

    @Test
    void thePageIsForThisMachineOnly() throws Exception {
        var crm = demoCrm();
        String host = crm.url().substring("http://".length());
        for (String origin : List.of("https://evil.example", "null", "http://" + host)) {
            assertEquals(origin.endsWith(host) ? 204 : 403,
                    post(crm.url() + "/page/fail", new byte[0], "Origin", origin));
        }
        for (String name : List.of("evil.example", "127.0.0.1", "")) {
            try (var socket = new Socket("127.0.0.1", URI.create(crm.url()).getPort())) {
                socket.getOutputStream().write(utf8("GET / HTTP/1.1\r\nHost: " + name
                        + "\r\nConnection: close\r\n\r\n"));
                socket.setSoTimeout((int) SOON.toMillis());
                String answer = new String(socket.getInputStream().readAllBytes());
                assertTrue(answer.startsWith("HTTP/1.1 403"), answer);
            }
        }
    }

    @Test
    void thePageIsToldWhatComes() throws Exception {
        var crm = demoCrm();
        var http = HttpClient.newHttpClient();
        afterwards(http::shutdownNow); // close would wait for the stream to end
        var stream = http.send(HttpRequest.newBuilder(URI.create(crm.url() + "/page/stream"))
                .timeout(SOON).build(), HttpResponse.BodyHandlers.ofLines());
        assertEquals("text/event-stream", stream.headers().firstValue("content-type").get());
        var lines = stream.body().filter(line -> line.startsWith("data: "))
                .map(line -> json(line.substring("data: ".length()))).iterator();
        JsonObject hello = lines.next();
        assertEquals("recorded", hello.getString("model"));
        assertEquals("+15550100",
                hello.getJsonArray("contacts").getJsonObject(0).getString("phone"));

        send(crm, "/webhooks/call", "evt_1", event("evt_1", "call.started"), 0);
        JsonObject event = lines.next();
        assertEquals("call.started", event.getJsonObject("body").getString("event"));
        assertTrue(event.getBoolean("verified") && event.isNull("why"), event.toString());
        assertEquals(1, event.getInt("attempt"));
        assertEquals(3_600, event.getInt("ms") / 1_000, 60, event.toString());
        assertEquals(64, event.getString("x_signature").length());

        post(crm.url() + "/page/fail", new byte[0]);
        assertEquals("failing", lines.next().getString("kind"));
        byte[] body = event("evt_2", "intent.recorded");
        send(crm, "/webhooks/intent", "evt_2", body, 0);
        JsonObject failed = lines.next();
        assertEquals(503, failed.getInt("status"));
        assertTrue(failed.getString("why").contains("told to fail"), failed.toString());
        send(crm, "/webhooks/intent", "evt_2", body, 1);
        assertEquals(2, lines.next().getInt("attempt"));
    }
}
