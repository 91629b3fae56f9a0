package trials;

import module java.base;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import jakarta.json.Json;
import jakarta.json.JsonArray;
import jakarta.json.JsonObject;
import jakarta.json.JsonString;
import jakarta.json.JsonValue;
import livekit.LivekitAgent.*;
import livekit.LivekitModels.*;
import livekit.LivekitRoom.*;
import livekit.LivekitRtc.*;
import okio.ByteString;
import voice.Event;

import static trials.FuzzTest.*;

/// Makes odd inputs from valid ones, always the same ones for a seed. FuzzTest and OddLiveKit use
/// it, from one thread at a time.
final class Mutator {
    private static final List<String> ODD = List.of("\0", "\n", "\r\n2026 all is well", "\t",
            "\u001b[2J\u001b]0;x\u0007", "\u009b31m", "\u0085", "\u2028", "\u202e", "\ud800",
            "\udc00\ud800", "\ufeff", "\uffff", "\"", "\\", "'", "{", "}", "[", "</record>",
            "<", "../", "%s%n%x", "${jndi:ldap://127.0.0.1}", "\u0665", "-1", "1e999999999",
            "9".repeat(400), "x".repeat(3_000), "\u001b".repeat(2_000), "é", "👋", " ", "");
    private static final List<String> ODD_JSON = List.of("null", "true", "0", "-1", "1e999",
            "1e999999999", "-1e-999999999", "9".repeat(2_000), "2147483648", "0.1", "\"\"",
            "[]", "{}", "[[]]", "[null]", "\"\\ud800\"", "\"\\u0000\\u001b[2J\"", "NaN",
            "{\"a\":1,\"a\":2}", "[".repeat(900) + "]".repeat(900), "[".repeat(50_000),
            "{\"a\":".repeat(5_000), "\"" + "x".repeat(50_000) + "\"", "'x'", "//", "\"\\",
            "{\"results\":[{\"id\":\"..\"}]}", "\"486\"", "486", "[1" + ",1".repeat(500) + "]");
    private static final List<String> WORDS = List.of("", "sip.phoneNumber", "sip.callStatus",
            "active", "ringing", "sip.callID", "sip.callIDFull", PHONE, "sip_" + PHONE, "PA_me",
            "PA_agent", "TR_1", "TR_agent", "microphone", "caller", "lk.chat", "AJ_1", "AJ_2",
            "AJ_77");
    private static final List<String> ICE = List.of("", "stun:", "stun:127.0.0.1:9", "turn:",
            "turn:127.0.0.1:9?transport=tcp", "stun:127.0.0.1:99999", "http://127.0.0.1", "\0",
            "turns:127.0.0.1:9", "stun:[::1]:9", "stun:127.0.0.1:-1", "x".repeat(5_000));
    private static final String CANDIDATE = """
            {"candidate":"candidate:1 1 udp 2130706431 127.0.0.1 9 typ host generation 0",\
            "sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}""";
    private static final JsonValue HERE = Json.createValue("@odd@");

    final Random random;
    String sdp = "";

    Mutator(long seed) {
        random = new Random(seed);
    }

    boolean once(int in) {
        return random.nextInt(in) == 0;
    }

    <T> T one(List<T> of) {
        return of.get(random.nextInt(of.size()));
    }

    /// A place in something of that length; it may be the place behind the end.
    private int at(int length) {
        return random.nextInt(length + 1);
    }

    byte[] bytes(byte[] valid) {
        byte[] it = valid.clone();
        for (int times = 1 + random.nextInt(3); times > 0 && it.length > 0; times--) {
            int from = random.nextInt(it.length);
            int some = Math.min(1 + random.nextInt(8), it.length - from);
            switch (random.nextInt(6)) {
                case 0 -> it[from] ^= (byte) (1 << random.nextInt(8));
                case 1 -> it[from] = (byte) random.nextInt(256);
                case 2 -> Arrays.fill(it, from, from + some, (byte) 0xff);
                case 3 -> it = joined(it, from, it, from + some);           // without some
                case 4 -> it = joined(it, from + some, it, from);           // some twice
                default -> it = Arrays.copyOf(it, from);
            }
        }
        return it;
    }

    private static byte[] joined(byte[] head, int to, byte[] tail, int from) {
        byte[] both = Arrays.copyOf(head, to + tail.length - from);
        System.arraycopy(tail, from, both, to, tail.length - from);
        return both;
    }

    String text(String valid) {
        String it = valid;
        for (int times = random.nextInt(4); times > 0; times--) {
            int from = at(it.length()), to = Math.min(it.length(), from + random.nextInt(6));
            String head = it.substring(0, from);
            it = switch (random.nextInt(7)) {
                case 0, 1 -> head + one(ODD) + it.substring(from);
                case 2 -> head + one(ODD) + it.substring(to);
                case 3 -> head + it.substring(to);
                case 4 -> it.substring(0, to) + it.substring(from);
                case 5 -> head + (char) random.nextInt(0x250) + it.substring(from);
                default -> once(4) ? head : it;
            };
        }
        return once(1_000) ? it + one(ODD).repeat(50) : it;
    }

    /// Something like that JSON, which may not be JSON any more.
    String json(String valid) {
        String it = valid;
        try {
            if (!once(3)) {
                it = changed(Stand.json(valid)).toString()
                        .replace(HERE.toString(), one(ODD_JSON));
            }
        } catch (RuntimeException e) {
            // it was no JSON to begin with
        }
        it = once(3) ? text(it) : it;
        // Halves of letters do not survive UTF-8, but this does.
        return once(2) ? it : Pattern.compile("\\p{Cs}").matcher(it).replaceAll(
                half -> "\\\\u%04x".formatted((int) half.group().charAt(0)));
    }

    private JsonValue changed(JsonValue it) {
        if (it instanceof JsonObject object && !object.isEmpty() && !once(8)) {
            var fields = new LinkedHashMap<String, JsonValue>(object);
            String name = one(List.copyOf(fields.keySet()));
            switch (random.nextInt(8)) {
                case 0 -> fields.remove(name);
                case 1 -> fields.put(text(name), fields.remove(name));
                default -> fields.put(name, changed(fields.get(name)));
            }
            var changed = Json.createObjectBuilder();
            fields.forEach(changed::add);
            return changed.build();
        }
        if (it instanceof JsonArray array && !array.isEmpty() && !once(4)) {
            int at = random.nextInt(array.size());
            return Json.createArrayBuilder(array).set(at, changed(array.get(at))).build();
        }
        return it instanceof JsonString string && !once(3)
                ? Json.createValue(text(string.getString()))
                : once(4) ? Json.createArrayBuilder().add(it).build() : HERE;
    }

    FieldDescriptor fieldOf(Message.Builder message) {
        return one(message.getDescriptorForType().getFields());
    }

    /// Gives some fields of the message odd values, and some fields of those, down to that depth.
    <B extends Message.Builder> B fill(B message, int depth) {
        for (FieldDescriptor field : message.getDescriptorForType().getFields()) {
            if (once(3) || field.getName().matches("participants|attributes|sdp|candidate.*")) {
                one(field, message, depth);
            }
        }
        return message;
    }

    void one(FieldDescriptor field, Message.Builder message, int depth) {
        for (int times = field.isRepeated() ? 1 + random.nextInt(3) : 1; times > 0; times--) {
            Object value = switch (field.getJavaType()) {
                case STRING -> string(field.getName());
                case BYTE_STRING -> com.google.protobuf.ByteString.copyFromUtf8(text("x"));
                case BOOLEAN -> once(2);
                case INT -> one(List.of(0, 1, -1, 5, Integer.MAX_VALUE, Integer.MIN_VALUE));
                case LONG -> one(List.of(0L, 1L, -1L, Long.MAX_VALUE, Long.MIN_VALUE));
                case FLOAT -> one(List.of(0f, -1f, Float.NaN));
                case DOUBLE -> one(List.of(0d, -1d, Double.NaN));
                case ENUM -> once(5)
                        ? field.getEnumType().findValueByNumberCreatingIfUnknown(999)
                        : one(field.getEnumType().getValues());
                case MESSAGE -> {
                    var inner = message.newBuilderForField(field);
                    yield depth == 0 ? inner.build() : fill(inner, depth - 1).build();
                }
            };
            if (field.isRepeated()) {
                message.addRepeatedField(field, value);
            } else {
                message.setField(field, value);
            }
        }
    }

    private String string(String field) {
        return utf8(switch (field) {
            case "sdp" -> local(sdp());
            case "candidate_init" -> local(json(CANDIDATE));
            case "urls" -> one(ICE);
            case "url", "alternative_url" -> url("ws://127.0.0.1:1");
            case "id", "job_id" -> text(one(List.of("AJ_1", "AJ_2", "AJ_77", "AJ_x")));
            default -> once(4) ? text(one(WORDS)) : one(WORDS);
        });
    }

    /// Some lines are there twice, some are missing, some are odd.
    private String sdp() {
        var lines = new ArrayList<>(List.of(sdp.split("\r\n")));
        lines.add("a=" + text("candidate:1 1 udp 2130706431 127.0.0.1 9 typ host"));
        for (int times = random.nextInt(4); times > 0; times--) {
            int at = random.nextInt(lines.size());
            switch (random.nextInt(4)) {
                case 0 -> lines.add(at, one(lines));
                case 1 -> lines.set(at, text(lines.get(at)));
                case 2 -> Collections.swap(lines, at, random.nextInt(lines.size()));
                default -> {
                    if (lines.size() > 1) {
                        lines.remove(at);
                    }
                }
            }
        }
        return String.join("\r\n", lines) + "\r\n";
    }

    /// Whatever else is odd in a candidate, its address stays on this machine.
    private static String local(String candidate) {
        return candidate.replaceAll("(?<head>candidate:([^ ]* ){4})[^ \\r\\n]*",
                "${head}127.0.0.1");
    }

    String url(String valid) {
        return one(List.of("http://", "not an address", "ws://[", "ws://127.0.0.1:99999",
                "ws://127.0.0.1:1", "\u001b", valid + "/x y\n", valid + "///",
                "x".repeat(9_000)));
    }

    Event.Refusal refusal() {
        return new Event.Refusal(one(List.of(0, 200, 408, 503)), one(List.of(0, 486, 603, 999)),
                text("Busy Here: " + PHONE));
    }

    /// What a caller or a model can do, in some order that makes no sense.
    Event event() {
        return switch (random.nextInt(10)) {
            case 0 -> new Event.CallerWrote(text("Hello?"));
            case 1 -> new Event.CallerSaid(text("item"), text("Hello?"));
            case 2 -> new Event.AgentSays(text("item"), text("Hello."));
            case 3 -> new Event.AgentSaid(text("item"), text("Hello."));
            case 4 -> new Event.KeyPressed(one(List.of("1", "#", "A")));
            case 5 -> new Event.ToolCalled(text("call"), text("record_intent"),
                    json("{\"intent\":\"x\"}"));
            case 6 -> new Event.ToolCalled(text("call"), "transfer_call",
                    json("{\"destination\":\"sales\"}"));
            case 7 -> new Event.CallerSpeaks("i");
            case 8 -> one(List.of(new Event.CallerJoined(), new Event.CallerHears(),
                    new Event.Subscribed(), new Event.CallerAnswered(),
                    new Event.AgentSpeaks("i")));
            default -> new Event.TurnChanged();
        };
    }

    static String clean(String text) {
        String line = FuzzTest.Log.NOT_CLEAN.matcher(text).replaceAll("?");
        return line.substring(0, Math.min(line.length(), 1_000));
    }
}
