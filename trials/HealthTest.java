package trials;

import module java.base;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import start.Health;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// start/Health, over real sockets: what a load balancer is told, and what somebody else on the
/// network can and cannot do to it. PhoneTest asks a real worker.
public final class HealthTest extends Stand {
    private static final String ASKS = "GET / HTTP/1.1\r\nHost: health\r\n\r\n";

    private ServerSocket health(String host, BooleanSupplier registered) {
        return opened(Health.open(host, 0, registered));
    }

    /// A client that has sent this.
    private Socket client(ServerSocket health, String sends) throws IOException {
        var socket = opened(new Socket("127.0.0.1", health.getLocalPort()));
        socket.setSoTimeout((int) SOON.toMillis());
        socket.getOutputStream().write(utf8(sends));
        return socket;
    }

    /// All that the client gets until its connection is closed.
    private static String answer(Socket client) throws IOException {
        try {
            return new String(client.getInputStream().readAllBytes());
        } catch (SocketException e) {
            return "";                                      // closed before all of it was read
        }
    }

    private String answer(ServerSocket health, String sends) throws IOException {
        return answer(client(health, sends)).replaceAll("(?s)\r\n.*\r\n\r\n", " / ");
    }

    @Test
    void theAnswerIsWhetherTheWorkerIsRegistered() throws Exception {
        var registered = new AtomicBoolean();
        var health = health("", registered::get);
        assertEquals("HTTP/1.1 503 Service Unavailable / not connected to LiveKit",
                answer(health, ASKS));
        registered.set(true);
        assertEquals("HTTP/1.1 200 OK / OK", answer(health, ASKS));
        assertEquals("HTTP/1.1 200 OK / OK", answer(health, "GET /?from=lb HTTP/1.0\r\n\r\n"));
        assertEquals("HTTP/1.1 200 OK / OK", answer(health, ASKS + ASKS), "one request for each");
        assertEquals("HTTP/1.1 200 OK / ", answer(health, ASKS.replace("GET", "HEAD")));
        for (String each : List.of("GET /other HTTP/1.1", "GET //x/ HTTP/1.1", "/", "")) {
            assertEquals("HTTP/1.1 404 Not Found / Not Found", answer(health, each + "\r\n\r\n"));
        }
        assertEquals("", answer(health, "GET / HTTP/1.1\r\nX: " + "x".repeat(8_000) + "\r\n\r\n"));
        assertEquals("HTTP/1.1 200 OK / OK", answer(health,
                "GET / HTTP/1.1\r\nX: " + "x".repeat(7_900) + "\r\n\r\n"));
    }

    @Test
    void aConnectionIsOverAfterFiveSecondsWhateverCameOnIt() throws Exception {
        var health = health("127.0.0.1", () -> true);
        long before = System.nanoTime();
        var silent = client(health, "");
        var half = client(health, "GET / HTTP/1.1\r\nHost:");
        var drips = client(health, "GET / HTTP/1.1\r\nX: ");
        long end = before + SOON.toNanos();
        try {
            while (System.nanoTime() < end) {
                drips.getOutputStream().write('x');
                TimeUnit.MILLISECONDS.sleep(20);
            }
        } catch (SocketException e) {
            end = 0;                                        // it was closed
        }
        assertEquals(0, end, "a client may drip for ever");
        assertEquals("", answer(silent));
        assertEquals("", answer(half));
        assertTrue(System.nanoTime() - before > 4_990_000_000L, "a slow client gets its 5 s");
    }

    @Test
    void aConnectionTooManyClosesTheOldest() throws Exception {
        var asked = new AtomicInteger();
        var all = new CountDownLatch(1);
        var health = health("", () -> {
            asked.incrementAndGet();
            try {
                return all.await(SOON.toSeconds(), TimeUnit.SECONDS);
            } catch (InterruptedException e) {
                return false;
            }
        });
        var clients = new ArrayList<Socket>();
        for (int i = 1; i <= 60; i++) {
            int number = i;
            clients.add(client(health, ASKS));
            eventually("client " + i, () -> asked.get() == number);
        }
        for (Socket each : clients.subList(0, 10)) {
            assertEquals("", answer(each));
        }
        all.countDown();
        for (Socket each : clients.subList(10, 60)) {
            assertTrue(answer(each).startsWith("HTTP/1.1 200"));
        }
    }

    @Test
    void whoAsksIsAnsweredAlthoughOthersSayNothing() throws Exception {
        var health = health("", () -> true);
        for (int i = 0; i < 200; i++) {
            client(health, i % 2 == 0 ? "" : "GET /");
        }
        assertEquals("HTTP/1.1 200 OK / OK", answer(health, ASKS));
    }

    @Test
    void aConnectionThatIsOverDoesNotCount() throws Exception {
        var health = health("", () -> true);
        var slow = client(health, "GET / HTTP/1.1\r\n");
        for (int i = 0; i < 60; i++) {
            assertEquals("HTTP/1.1 200 OK / OK", answer(health, ASKS));
        }
        slow.getOutputStream().write(utf8("\r\n"));
        assertTrue(answer(slow).startsWith("HTTP/1.1 200"));
    }

    @Test
    void itListensWhereItIsSet() throws IOException {
        assertTrue(health("", () -> true).getInetAddress().isAnyLocalAddress());
        assertTrue(health("localhost", () -> true).getInetAddress().isLoopbackAddress());
        assertTrue(health("[::ffff:127.0.0.1]", () -> true).getInetAddress().isLoopbackAddress());
    }

    @Test
    @Tag(Runner.ALONE)
    void anAddressThatCannotBeHadIsALineInTheLog() {
        var taken = health("127.0.0.1", () -> true);
        var log = new Written();
        try (log) {
            for (String host : List.of("127.0.0.1", "192.0.2.1", "[1]", "")) {
                assertNull(Health.open(host, taken.getLocalPort(), () -> true), host);
            }
        }
        var lines = log.toString().lines().toList();
        assertEquals(4, lines.size(), log.toString());
        for (String each : lines) {
            assertTrue(each.contains("no health check on port " + taken.getLocalPort())
                    && each.contains("set HEALTH_HOST or HEALTH_PORT to another"), each);
        }
        assertTrue(lines.get(1).contains(" of 192.0.2.1: BindException"), lines.get(1));
        assertTrue(lines.get(2).contains(" of [1]: UnknownHostException"), lines.get(2));
    }
}
