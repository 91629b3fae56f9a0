package room;

import module java.base;
import com.google.protobuf.ByteString;
import livekit.LivekitModels.DataPacket;
import livekit.LivekitModels.DataStream;

/// What is written in a room, as LiveKit's [text
/// streams](https://docs.livekit.io/transport/data/text-streams/). A stream is a series of data
/// packets: a header, chunks and a trailer. Captions go out, in the topic `lk.transcription`: they
/// are what the agent and the caller say. What a caller types comes in, in the topic `lk.chat`.
/// Room makes one Texts, and everything here runs on the room's thread.
///
/// The topics and attributes are those of LiveKit's
/// [agent SDKs](https://docs.livekit.io/agents/multimodality/text/), so that the ready-made parts
/// of LiveKit's clients show them.
///
/// Not handled: the older transcription packets, and files. Not handled: compressed streams; when
/// we join a room we tell LiveKit that we cannot read them.
final class Texts {
    private static final int MOST_TEXT = 10_000;            // bytes of a text that comes in
    private static final int MOST_STREAMS = 20;             // unfinished ones, in each direction
    private static final int CHUNK = 15_000;                // bytes; a packet must stay below 64 kB

    /// A caption that is not complete yet.
    private static final class Caption {
        final String stream = UUID.randomUUID().toString();
        String shown = "";
        long chunks;                                        // that were sent
    }

    private final Consumer<DataPacket.Builder> out;
    private final Map<String, Caption> captions = new LinkedHashMap<>();            // by segment
    private final Map<String, ByteArrayOutputStream> typed = new LinkedHashMap<>(); // by stream

    Texts(Consumer<DataPacket.Builder> out) {
        this.out = out;
    }

    /// Sends a piece of what somebody says. What is `last` completes the segment, and is the whole
    /// of it. `identity` is the participant who says it, or "" for the agent. `track` is the sid of
    /// that participant's audio track, or "" for none.
    ///
    /// A stream cannot take back what it has said. If the whole is not what was shown, it goes out
    /// as another stream of the same segment. Clients then show that one instead of the first, as
    /// they do with the interim and the final text of a caller in LiveKit's agents.
    void caption(String identity, String track, String segment, String text, boolean last) {
        Caption caption = captions.get(segment);
        boolean replaces = caption != null && last && !text.startsWith(caption.shown);
        if (replaces) {
            end(identity, caption, "false");
            caption = null;
        }
        if (caption == null) {
            if (last && text.isEmpty() && !replaces) {
                return;                                     // nothing was shown
            }
            caption = new Caption();
            captions.put(segment, caption);
            if (captions.size() > MOST_STREAMS) {           // the oldest one
                end(identity, captions.remove(captions.keySet().iterator().next()), "false");
            }
            var header = DataStream.Header.newBuilder().setStreamId(caption.stream)
                    .setTimestamp(System.currentTimeMillis()).setTopic("lk.transcription")
                    .setMimeType("text/plain").setTextHeader(DataStream.TextHeader.newBuilder())
                    // The segment's name is the model's, and comes in JSON. JSON can hold half of a
                    // letter (one surrogate), and protobuf prints a stack trace for that. So this
                    // replaces such halves.
                    .putAttributes("lk.segment_id", new String(
                            segment.getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8))
                    .putAttributes("lk.transcription_final", Boolean.toString(last));
            if (!track.isEmpty()) {
                header.putAttributes("lk.transcribed_track_id", track);
            }
            out.accept(packet(identity).setStreamHeader(header));
        }
        String more = last ? text.substring(caption.shown.length()) : text;
        caption.shown += more;
        ByteString bytes = ByteString.copyFromUtf8(more);
        for (int at = 0; at < bytes.size() || replaces && at == 0; at += CHUNK) {
            out.accept(packet(identity).setStreamChunk(DataStream.Chunk.newBuilder()
                    .setStreamId(caption.stream).setChunkIndex(caption.chunks++)
                    .setContent(bytes.substring(at, Math.min(bytes.size(), at + CHUNK)))));
        }
        if (last) {
            captions.remove(segment);
            end(identity, caption, "true");
        }
    }

    /// We are a new participant of the room. To all others, what we had not completed is broken
    /// off. What comes of it from now on is a stream of its own, and the whole of it another.
    void beginAnew() {
        captions.clear();
    }

    private void end(String identity, Caption caption, String complete) {
        out.accept(packet(identity).setStreamTrailer(DataStream.Trailer.newBuilder()
                .setStreamId(caption.stream).putAttributes("lk.transcription_final", complete)));
    }

    private static DataPacket.Builder packet(String identity) {
        return DataPacket.newBuilder().setParticipantIdentity(identity);
    }

    /// Takes a packet of the caller's. Returns the text that this packet completes, or null.
    String received(DataPacket packet) {
        switch (packet.getValueCase()) {
            case STREAM_HEADER -> {
                DataStream.Header header = packet.getStreamHeader();
                if (header.getTopic().equals("lk.chat") && header.hasTextHeader()) {
                    typed.put(header.getStreamId(), new ByteArrayOutputStream());
                    if (typed.size() > MOST_STREAMS) {
                        typed.remove(typed.keySet().iterator().next()); // the oldest one
                    }
                }
            }
            case STREAM_CHUNK -> {
                var text = typed.get(packet.getStreamChunk().getStreamId());
                if (text != null) {
                    ByteString content = packet.getStreamChunk().getContent();
                    content.substring(0, Math.min(content.size(), MOST_TEXT - text.size()))
                            .forEach(text::write);
                }
            }
            case STREAM_TRAILER -> {
                DataStream.Trailer trailer = packet.getStreamTrailer();
                var text = typed.remove(trailer.getStreamId());
                // A trailer that gives a reason means that the sender has given up.
                if (text != null && trailer.getReason().isEmpty() && text.size() > 0) {
                    return text.toString(StandardCharsets.UTF_8);
                }
            }
            default -> { }
        }
        return null;
    }
}
