package trials;

import module java.base;
import module java.net.http;
import delivery.Http;
import java.net.http.HttpResponse;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// delivery/Http, and servers that never answer. AgentTest has what the CRM's statuses lead to.
public final class HttpTest extends Stand {
    private static final long BOUND = 5_000_000_000L;       // ns

    /// A server that says this to everybody, slowly, and then nothing more.
    private record Odd(String says, int byteMs, List<Socket> came) {}

    private String url(Odd odd) throws IOException {
        var server = opened(new ServerSocket(0, 50, InetAddress.getLoopbackAddress()));
        Thread.ofVirtual().start(() -> {
            try {
                while (true) {
                    Socket client = server.accept();
                    odd.came.add(client);
                    for (byte each : utf8(odd.says)) {
                        client.getOutputStream().write(each);
                        TimeUnit.MILLISECONDS.sleep(odd.byteMs);
                    }
                }
            } catch (IOException | InterruptedException e) {
                // the test is over
            }
        });
        return "http://127.0.0.1:" + server.getLocalPort();
    }

    @Test
    void aServerThatHangsOrNeverEndsItsAnswerHoldsNothingForLong() throws Exception {
        var neverEnds = new Odd("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 0,
                new CopyOnWriteArrayList<>());
        var http = new Http(url(neverEnds));
        var request = http.post("/", utf8("{}")).build();
        long begun = System.nanoTime();
        var asked = http.ask("", "/", request, 100, begun + BOUND);
        var answers = new ArrayList<Future<Http.Answer>>();
        try (var beside = Executors.newVirtualThreadPerTaskExecutor()) {
            for (String says : List.of("", "HTTP/1.1 2")) {
                var hangs = new Http(url(new Odd(says, 200, new CopyOnWriteArrayList<>())));
                answers.add(beside.submit(() ->
                        hangs.send("", "/", hangs.post("/", utf8("{}")).build())));
            }
            assertEquals(200, http.send("", "/", request).status());    // its body is not read
            for (var answer : answers) {
                var failed = assertThrows(ExecutionException.class,
                        () -> answer.get(5 + SOON.toSeconds(), TimeUnit.SECONDS));
                assertInstanceOf(HttpTimeoutException.class, failed.getCause());
                assertTrue(System.nanoTime() - begun >= BOUND, "5 s for an answer");
            }
        }
        var failed = assertThrows(ExecutionException.class,
                () -> asked.get(SOON.toSeconds(), TimeUnit.SECONDS));
        assertInstanceOf(TimeoutException.class, failed.getCause());
        assertTrue(System.nanoTime() - begun >= BOUND, "5 s for the whole answer");
        assertEquals(2, neverEnds.came.size());             // an answer had begun: not once more
        for (Socket hungUp : neverEnds.came) {
            hungUp.setSoTimeout((int) SOON.toMillis());
            assertTrue(hungUp.getInputStream().readAllBytes().length > 0);
        }
    }

    @Test
    void aServerMayAskForATimeAndIsBelievedWithinReason() {
        Map.of("2", 2, " 3 ", 3, "60", 60, "61", 60, "100000", 60, "soon", 0, "", 0, "-5", 0,
                "1.5", 0, "Wed, 26 Nov 1997 06:11:47 GMT", 0)
                .forEach((value, seconds) -> assertEquals((long) seconds, asked(value), value));
        var date = DateTimeFormatter.RFC_1123_DATE_TIME;
        assertEquals(60, asked(date.format(ZonedDateTime.now(ZoneOffset.UTC).plusHours(1))));
        long asked = asked(date.format(ZonedDateTime.now(ZoneOffset.UTC).plusSeconds(30)));
        assertTrue(asked > 15 && asked <= 30, "" + asked);
    }

    private static long asked(String retryAfter) {
        return Http.retryAfter(java.net.http.HttpHeaders.of(
                Map.of("Retry-After", List.of(retryAfter)), (_, _) -> true)).toSeconds();
    }
}
