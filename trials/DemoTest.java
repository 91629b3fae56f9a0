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

    /// The head of the answer to a request that is sent as it is written here.
    private static String raw(DemoCrm crm, String head, byte[] body) throws IOException {
        try (var socket = new Socket("127.0.0.1", URI.create(crm.url()).getPort())) {
            socket.setSoTimeout((int) SOON.toMillis());
            var out = new ByteArrayOutputStream();
            out.writeBytes(utf8(head.strip().replace("\n", "\r\n") + "\r\n\r\n"));
            out.writeBytes(body);
            out.writeTo(socket.getOutputStream());
            var answer = new StringBuilder();
            while (answer.indexOf("\r\n\r\n") < 0) {
                int next = socket.getInputStream().read();
                assertTrue(next >= 0, head + " was answered with " + answer);
                answer.append((char) next);
            }
            return answer.toString();
        }
    }

    /// What the requests of other pages have, and of names that lead here. HERE is the port.
    private static final List<String> OTHERS = List.of("", "Host:", "Host: evil.example:HERE",
            "Host: evil.example", "Host: 127.0.0.1.evil.example:HERE", "Host: 127.0.0.1.:HERE",
            "Host: evil.localhost:HERE", "Host: localhost.:HERE", "Host: 0.0.0.0:HERE",
            "Host: 127.0.0.1:HERE@evil.example", "Host: 127x0.0.1:HERE",
            "Host: 127.0.0.1:HERE\nHost: evil.example",
            "Host: localhost:HERE\nHost: localhost:HERE",
            "Host: localhost:HERE\nOrigin: https://evil.example",
            "Host: localhost:HERE\nOrigin: null", "Host: localhost:HERE\nOrigin:",
            "Host: localhost:HERE\nOrigin: http://localhost:1",
            "Host: localhost:HERE\nOrigin: http://127.0.0.1:HERE",
            "Host: localhost:HERE\nOrigin: https://localhost:HERE", "Host: localhost:HERE\n"
                    + "Origin: http://localhost:HERE\nOrigin: https://evil.example");
    private static final List<String> OURS = List.of("Host: 127.0.0.1:HERE", "Host: localhost:1",
            "Host: LocalHost:HERE", "Host: 127.0.0.1",
            "Host: localhost:1\nOrigin: http://localhost:1\nSec-Fetch-Site: same-origin",
            "Host: 127.0.0.1:HERE\nSec-Fetch-Site: none");

    @Test
    void noOtherWebPageReachesAnything() throws Exception {
        byte[] search = utf8("{\"filter\":{\"phone\":\"+15550100\"}}");
        for (var crm : List.of(demoCrm(), anyCrm())) {         // with its page, and alone
            crm.serve("/phone", exchange -> exchange.sendResponseHeaders(200, -1));
            String here = "" + URI.create(crm.url()).getPort();
            for (String path : List.of("/", "/page/stream", "/page/fail", "/page/none", "/phone",
                    "/phone/web_1/hangup", "/contacts/search", "/contacts/c-1/notes",
                    "/webhooks/call", "/none")) {
                for (String method : List.of("GET", "POST", "OPTIONS")) {
                    String line = method + " " + path + " HTTP/1.1\nContent-Length: 0\n";
                    for (String each : OTHERS) {
                        String head = line + each.replace("HERE", here);
                        assertTrue(raw(crm, head, new byte[0]).startsWith("HTTP/1.1 403"), head);
                    }
                    for (String site : List.of("cross-site", "same-site")) {
                        String head = line + "Host: localhost\nSec-Fetch-Site: " + site;
                        assertEquals(!path.equals("/"), raw(crm, head, new byte[0])
                                .startsWith("HTTP/1.1 403"), head);
                    }
                }
            }
            assertTrue(crm.requests().stream().allMatch(each -> each.path().equals("/")));
            for (String each : OURS) {
                String head = "POST /contacts/search HTTP/1.1\nContent-Length: " + search.length
                        + "\n" + each.replace("HERE", here);
                assertTrue(raw(crm, head, search).startsWith("HTTP/1.1 200"), head);
            }
        }
    }

    @Test
    void aBodyThatIsTooLongIsRefusedAndNotRead() throws Exception {
        var crm = demoCrm();
        crm.serve("/phone", exchange -> exchange.sendResponseHeaders(200, -1));
        String host = " HTTP/1.1\nHost: localhost\n";
        byte[] most = times(600_000, ' ');
        byte[] search = utf8("{\"filter\":{\"phone\":\"+15550100\"}}");
        System.arraycopy(search, 0, most, 0, search.length);
        assertTrue(raw(crm, "POST /contacts/search" + host + "Content-Length: 600000", most)
                .startsWith("HTTP/1.1 200"));
        for (String path : List.of("/", "/contacts/search", "/webhooks/call", "/phone",
                "/phone/web_1/text", "/page/fail", "/none")) {
            // The rest never comes, so nobody waits for it.
            String answer = raw(crm, "POST " + path + host + "Content-Length: 900000000",
                    times(600_001, 'x'));
            assertTrue(answer.startsWith("HTTP/1.1 413"), path + " " + answer);
            answer = raw(crm, "POST " + path + host + "Transfer-Encoding: chunked",
                    utf8("FFFFFFF\r\n" + "x".repeat(600_001)));
            assertTrue(answer.startsWith("HTTP/1.1 413"), path + " " + answer);
        }
        assertEquals(List.of(200), statuses(crm));
    }

    @Test
    void noOtherPageCanShowThePageInAFrame() throws Exception {
        var crm = demoCrm();
        String answer = raw(crm, "GET / HTTP/1.1\nHost: localhost", new byte[0]);
        String policy = answer.lines().filter(line -> line.toLowerCase(Locale.ROOT)
                .startsWith("content-security-policy: ")).findFirst().orElseThrow();
        for (String each : List.of("frame-ancestors", "base-uri", "form-action", "default-src")) {
            assertTrue(policy.matches(".*[ ;]" + each + " 'none'(;.*|$)"), each + ": " + policy);
        }
        for (String each : List.of("GET /", "POST /contacts/search", "GET /none")) {
            assertTrue(raw(crm, each + " HTTP/1.1\nHost: localhost", new byte[0])
                    .toLowerCase(Locale.ROOT).contains("x-content-type-options: nosniff"), each);
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
