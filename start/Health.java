package start;

import module java.base;
import voice.Log;

/// Tells a load balancer or an orchestrator whether this worker can take calls. `GET /` is answered
/// with 200 while the worker is registered, and otherwise with 503. LiveKit's own agent servers do
/// the same. The verb `start` opens it, and it lives as long as the process.
///
/// A worker that is draining still answers 200, because it has calls to finish.
///
/// Whoever reaches the port can open connections and say nothing. So a connection is for one
/// request, and has a few seconds for it. A connection too many closes the oldest one, so that the
/// load balancer is answered while others wait. This is not the JDK's HttpServer, because that
/// knows such bounds only as system properties for the whole process, and keeps them with timers
/// that are seconds late.
public final class Health {
    private static final int MOST_CONNECTIONS = 50;
    private static final int MOST_HEAD = 8_000;             // bytes
    private static final Duration REQUEST = Duration.ofSeconds(5);
    private static final Duration NO_CONNECTION = Duration.ofMillis(100);

    private Health() {}

    /// Listens on that address of this machine. A blank `host` means all of them. If that cannot
    /// be, the log has a line about it, and the program goes on: calls do not need the health
    /// check. `registered` runs on a virtual thread. Returns null, or what is to be closed.
    public static ServerSocket open(String host, int port, BooleanSupplier registered) {
        try {
            var server = new ServerSocket(port, MOST_CONNECTIONS,
                    host.isEmpty() ? null : InetAddress.getByName(host));
            // No virtual thread, because a flood of connections would never let it wait.
            Thread.ofPlatform().daemon().name("health").start(() -> accept(server, registered));
            return server;
        } catch (IOException e) {
            Log.log("", "no health check on port " + port + (host.isEmpty() ? "" : " of " + host)
                    + ": " + Log.reason(e) + "; set HEALTH_HOST or HEALTH_PORT to another, or "
                    + "HEALTH_PORT to 0 for none");
            return null;
        }
    }

    private static void accept(ServerSocket server, BooleanSupplier registered) {
        var open = new ArrayBlockingQueue<Socket>(MOST_CONNECTIONS);
        while (!server.isClosed()) {
            try {
                Socket socket = server.accept();
                while (!open.offer(socket)) {
                    Socket oldest = open.poll();
                    if (oldest != null) { // otherwise all have come to their end just now
                        oldest.close();
                    }
                }
                Thread.ofVirtual().start(() -> {
                    try (socket) {
                        answer(socket, registered);
                    } catch (IOException e) {
                        // The client has gone or was too slow, or there were too many.
                    } finally {
                        open.remove(socket);
                    }
                });
            } catch (IOException e) {
                // The process has too many files open. That may pass.
                LockSupport.parkNanos(NO_CONNECTION.toNanos());
            }
        }
    }

    private static void answer(Socket socket, BooleanSupplier registered) throws IOException {
        long end = System.nanoTime() + REQUEST.toNanos();
        var in = new BufferedInputStream(socket.getInputStream());
        var head = new StringBuilder();
        while (head.indexOf("\r\n\r\n", head.length() - 4) < 0) {
            int left = (int) TimeUnit.NANOSECONDS.toMillis(end - System.nanoTime());
            socket.setSoTimeout(Math.max(1, left));
            int next = in.read();
            if (next < 0 || left <= 0 || head.length() == MOST_HEAD) {
                return;
            }
            head.append((char) next);
        }
        boolean found = head.substring(0, head.indexOf("\r\n"))
                .matches("[A-Z]+ /(\\?\\S*)? HTTP/1\\.[01]");
        boolean well = registered.getAsBoolean();
        String body = !found ? "Not Found" : well ? "OK" : "not connected to LiveKit";
        // These few bytes have room in the socket, even if the client never reads them.
        socket.getOutputStream().write(("HTTP/1.1 "
                + (!found ? "404 Not Found" : well ? "200 OK" : "503 Service Unavailable")
                + "\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: "
                + body.length() + "\r\n\r\n" + (head.indexOf("HEAD ") == 0 ? "" : body))
                .getBytes(StandardCharsets.US_ASCII));
    }
}
