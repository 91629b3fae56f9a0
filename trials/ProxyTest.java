package trials;

import module java.base;
import demo.DemoModel.Say;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import livekit.LivekitModels.ParticipantInfo;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// HTTPS_PROXY, in a running program: every client goes through the proxy. SettingsTest has which
/// addresses do.
public final class ProxyTest extends Stand {
    private static final String KEY = "changeit";

    /// Takes CONNECT to the hosts that it knows, and writes them down. It is also those hosts: with
    /// a certificate of its own it takes the TLS off, and hands on the rest to a port here.
    private final class Connecting {
        final List<String> asked = new CopyOnWriteArrayList<>();
        private final Map<String, Integer> ports;
        private final SSLContext tls = SSLContext.getInstance("TLS");
        private final ServerSocket server =
                opened(new ServerSocket(0, 50, InetAddress.getLoopbackAddress()));

        Connecting(Path store, Map<String, Integer> ports) throws Exception {
            this.ports = ports;
            var keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
            keys.init(KeyStore.getInstance(store.toFile(), KEY.toCharArray()), KEY.toCharArray());
            tls.init(keys.getKeyManagers(), null, null);
            Thread.ofVirtual().start(() -> {
                try {
                    while (true) {
                        Socket client = server.accept();
                        Thread.ofVirtual().start(() -> serve(client));
                    }
                } catch (IOException e) {
                    // closed: the test is over
                }
            });
        }

        private void serve(Socket client) {
            try (client) {
                var head = new StringBuilder();
                while (head.indexOf("\r\n\r\n") < 0) {
                    head.append((char) client.getInputStream().read());
                }
                String line = head.substring(0, head.indexOf("\r\n"));
                asked.add(line);
                Integer port = ports.get(line.replaceFirst("CONNECT (.*):443 HTTP/1.1", "$1"));
                if (port == null) {
                    client.getOutputStream().write(utf8("HTTP/1.1 403 Forbidden\r\n\r\n"));
                    return;
                }
                client.getOutputStream().write(utf8("HTTP/1.1 200 OK\r\n\r\n"));
                var inside = (SSLSocket) tls.getSocketFactory().createSocket(
                        client, null, client.getPort(), true);
                inside.setUseClientMode(false);
                try (inside; var host = new Socket(InetAddress.getLoopbackAddress(), port)) {
                    Thread back = Thread.ofVirtual().start(() -> pump(host, inside));
                    pump(inside, host);
                    back.join();
                }
            } catch (IOException | InterruptedException e) {
                // one of the two has gone
            }
        }

        private static void pump(Socket from, Socket to) {
            try (to) {
                from.getInputStream().transferTo(to.getOutputStream());
            } catch (IOException e) {
                // gone
            }
        }
    }

    /// A whole call: only through the proxy can these names be reached.
    @Test
    void livekitOpenAiAndTheCrmAreAllReachedThroughTheProxy() throws Exception {
        Path folder = folder(), log = folder.resolve("log"), store = folder.resolve("store");
        assertEquals(0, new ProcessBuilder(System.getProperty("java.home") + "/bin/keytool",
                "-genkeypair", "-alias", "all", "-keyalg", "EC", "-dname", "CN=all", "-ext",
                "san=dns:livekit.example,dns:openai.example,dns:crm.example", "-storetype",
                "PKCS12", "-keystore", "" + store, "-storepass", KEY)
                .redirectErrorStream(true).redirectOutput(log.toFile()).start().waitFor());
        var livekit = opened(new TestLiveKit());
        livekit.there.add(TestLiveKit.who("sip_1", "PA_1", ParticipantInfo.Kind.SIP,
                "sip.phoneNumber", "+15550001111", "sip.callStatus", "ringing"));
        var model = model(new Say("Hello.", 50));
        var crm = new CopyOnWriteArrayList<String>();
        String crmUrl = server(exchange -> {
            crm.add(exchange.getRequestMethod() + " " + exchange.getRequestURI());
            exchange.getRequestBody().readAllBytes();
            exchange.sendResponseHeaders(204, -1);
            exchange.close();
        });
        var proxy = new Connecting(store, Map.of(
                "livekit.example", URI.create(livekit.url()).getPort(),
                "openai.example", URI.create(model.baseUrl()).getPort(),
                "crm.example", URI.create(crmUrl).getPort()));

        var command = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java",
                "@lib/java.options", "-Djava.io.tmpdir=" + folder(),
                "-Djavax.net.ssl.trustStore=" + store, "-Djavax.net.ssl.trustStorePassword=" + KEY,
                "Agent.java", "call", "+15550001111"));
        var run = new ProcessBuilder(command).redirectErrorStream(true)
                .redirectOutput(log.toFile());
        run.environment().keySet().removeIf(name -> name.matches("(?i).*_proxy"));
        run.environment().putAll(Map.of("LIVEKIT_URL", "wss://livekit.example",
                "LIVEKIT_API_KEY", "devkey", "LIVEKIT_API_SECRET", "secret-1-that-is-long-enough-x",
                "CRM_URL", "https://crm.example", "WEBHOOK_SECRET", SECRET,
                "OPENAI_BASE_URL", "https://openai.example/v1", "OPENAI_API_KEY", "sk-1",
                "OUTBOX_DIR", folder() + "/outbox", "NO_PROXY", "other.example",
                "https_proxy", "http://127.0.0.1:" + proxy.server.getLocalPort()));
        assertEquals(3, run.start().waitFor(), "no agent is there yet, " + read(log));
        assertEquals(Set.of("CONNECT livekit.example:443 HTTP/1.1"), Set.copyOf(proxy.asked));
        command.removeLast();
        command.set(command.size() - 1, "dev");
        Process program = run.start();
        afterwards(() -> program.destroyForcibly().waitFor());
        eventually("it is registered", 60, () -> livekit.status().startsWith("WS_AVAILABLE"));
        livekit.offer("AJ_1");
        eventually("it takes the call", () -> livekit.answers().contains("AJ_1 yes"));
        livekit.assign("AJ_1");
        eventually("the call is reported, and looked up", () -> crm.containsAll(
                List.of("HEAD /contacts", "POST /webhooks/call", "POST /contacts/search")));
        eventually("the model is asked to greet", () -> model.sessions().stream()
                .anyMatch(session -> told(session).contains("respond")));
        eventually("the checks are done", () -> read(log).contains("takes the key and the model"));
        program.destroy();
        assertTrue(program.waitFor(60, TimeUnit.SECONDS), "SIGTERM ends it");
        assertEquals(Set.of("CONNECT livekit.example:443 HTTP/1.1",
                "CONNECT openai.example:443 HTTP/1.1", "CONNECT crm.example:443 HTTP/1.1"),
                Set.copyOf(proxy.asked));
        String said = read(log);
        assertTrue(said.contains("through the proxy at 127.0.0.1:" + proxy.server.getLocalPort()
                + ": LIVEKIT_URL, OPENAI_BASE_URL, CRM_URL; sound never goes through it\n"), said);
        assertTrue(said.contains("the CRM at https://crm.example answers"), said);
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
