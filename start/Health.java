package start;

import module java.base;
import com.sun.net.httpserver.HttpServer;
import voice.Log;

/// Tells a load balancer or an orchestrator whether this worker can take calls. `GET /` is answered
/// with 200 while the worker is registered, and otherwise with 503. LiveKit's own agent servers do
/// the same. The verb `start` opens it, and it lives as long as the process.
///
/// A worker that is draining still answers 200, because it has calls to finish.
public final class Health {

    private Health() {}

    /// Listens on all interfaces. If the port is taken, the log has a line about that, and the
    /// program goes on: calls do not need the health check. `registered` runs on a virtual thread.
    public static void open(int port, BooleanSupplier registered) {
        try {
            HttpServer server = HttpServer.create(new InetSocketAddress(port), 0);
            server.createContext("/", exchange -> {
                boolean found = exchange.getRequestURI().getPath().equals("/");
                boolean well = registered.getAsBoolean();
                byte[] answer = (!found ? "Not Found" : well ? "OK" : "not connected to LiveKit")
                        .getBytes(StandardCharsets.UTF_8);
                try (exchange) {
                    exchange.sendResponseHeaders(!found ? 404 : well ? 200 : 503, answer.length);
                    exchange.getResponseBody().write(answer);
                }
            });
            server.setExecutor(Executors.newVirtualThreadPerTaskExecutor());
            server.start();
        } catch (IOException e) {
            Log.log("", "no health check on port " + port + ": " + Log.reason(e)
                    + "; set HEALTH_PORT to another, or to 0 for none");
        }
    }
}
