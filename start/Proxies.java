package start;

import module java.base;
import java.net.Proxy;

/// The way to LiveKit, OpenAI and the CRM, if HTTPS_PROXY is set: through that proxy, but for hosts
/// that NO_PROXY names. Start makes it the selector of the process before there is any client. All
/// clients ask it: OkHttp, openai-java, which uses OkHttp, and java.net.http. Sound does not go
/// through a proxy: it is UDP, and WebRTC does not ask.
///
/// NO_PROXY is read as curl, Go and Python read it: `example.com` and `.example.com` are that host
/// and all below it; `10.1.2.3` and `10.0.0.0/8` are addresses, as far as the host is written as
/// an address; all of these may have a port; `*` is every host. Not handled: HTTP_PROXY, because
/// only this machine may have an address that begins with http://, and ALL_PROXY.
public final class Proxies extends ProxySelector {
    private final Proxy proxy;
    private final String noProxy;

    /// HTTPS_PROXY must be set, as `host:port`.
    public Proxies(Settings settings) {
        String[] address = settings.get("HTTPS_PROXY").split(":(?=[0-9]+$)");
        proxy = new Proxy(Proxy.Type.HTTP, InetSocketAddress.createUnresolved(
                bare(address[0]), Integer.parseInt(address[1])));
        noProxy = settings.get("NO_PROXY");
    }

    /// From now on, every client that is made asks for the way. (Java would load this class for a
    /// start without a proxy, too, if Start made the selector.)
    static void use(Settings settings) {
        ProxySelector.setDefault(new Proxies(settings));
    }

    /// The names of the settings whose addresses are reached through the proxy.
    static List<String> through(Map<String, String> settings) {
        // Without a key, the demo asks nobody at OpenAI.
        boolean key = !settings.getOrDefault("OPENAI_API_KEY", "").matches("|none");
        return Stream.of("LIVEKIT_URL", key ? "OPENAI_BASE_URL" : "", "CRM_URL").filter(name -> {
            try {
                return isProxied(new URI(settings.getOrDefault(name, "")),
                        settings.get("NO_PROXY"));
            } catch (URISyntaxException e) {
                return false;                   // the list of problems has that already
            }
        }).toList();
    }

    @Override
    public List<Proxy> select(URI address) {
        return List.of(isProxied(address, noProxy) ? proxy : Proxy.NO_PROXY);
    }

    @Override
    public void connectFailed(URI address, SocketAddress proxy, IOException why) {
        // Whoever has asked for the address says why it cannot be had.
    }

    private static boolean isProxied(URI address, String noProxy) {
        if (address.getHost() == null || !Set.of("https", "wss").contains(address.getScheme())) {
            return false;                       // on this machine; or a socket
        }
        String host = bare(address.getHost().toLowerCase(Locale.ROOT));
        int port = address.getPort() < 0 ? 443 : address.getPort();
        InetAddress literal = literal(host);
        boolean here = host.equals("localhost") || literal != null && literal.isLoopbackAddress();
        return !here && Arrays.stream(noProxy.toLowerCase(Locale.ROOT).split("[\\s,]+"))
                .noneMatch(rule -> matches(rule, host, port, literal));
    }

    private static boolean matches(String rule, String host, int port, InetAddress literal) {
        Matcher parts = Pattern.compile("(\\[.*]|[^:]*):([0-9]+)").matcher(rule);
        boolean hasPort = parts.matches();
        String name = bare(hasPort ? parts.group(1) : rule).replaceFirst("^[*]?[.]", "");
        return (!hasPort || parts.group(2).equals("" + port)) && (name.equals("*")
                || (literal == null ? ("." + host).endsWith("." + name) : isIn(name, literal)));
    }

    /// Is the address this one, or in this network?
    private static boolean isIn(String network, InetAddress address) {
        String[] parts = network.split("/");    // its first address, and how many bits count
        InetAddress first = literal(bare(parts[0]));
        if (first == null || first.getClass() != address.getClass()) {
            return false;
        }
        int size = address.getAddress().length * 8;
        int counts = parts.length == 1 ? size
                : parts[1].matches("[0-9]{1,3}") ? Integer.parseInt(parts[1]) : size + 1;
        return counts <= size && new BigInteger(address.getAddress()).shiftRight(size - counts)
                .equals(new BigInteger(first.getAddress()).shiftRight(size - counts));
    }

    private static InetAddress literal(String host) {
        try {
            return InetAddress.ofLiteral(host);
        } catch (IllegalArgumentException e) {
            return null;                        // a name
        }
    }

    /// Without the brackets of an IPv6 address, and without the dot that may end a name.
    private static String bare(String host) {
        return host.replaceAll("^\\[|]$|[.]$", "");
    }
}
