package room;

import module java.base;
import com.google.protobuf.ByteString;
import livekit.LivekitModels.DataPacket;
import livekit.LivekitModels.DataStream;

/// LiveKit's text streams, which are data packets: a header, chunks, a trailer. Out go captions,
/// what agent and caller say (topic `lk.transcription`); in comes what a caller types (`lk.chat`).
/// Room makes one for itself, and everything here runs on its thread.
///
/// Topics and attributes are those of LiveKit's agent SDKs, so that its clients' own components
/// show them. Not handled: the older transcription packets, compressed streams (we tell LiveKit
/// that we cannot read them), files.
final class Texts {
    private static final int MOST_TEXT = 10_000;            // bytes of one message that comes in
    private static final int MOST_STREAMS = 20;             // at a time, out and in
    private static final int CHUNK = 15_000;                // bytes; a packet must stay below 64 kB

    /// A caption on its way out: LiveKit's stream of it, and how many chunks that has.
    private static final class Caption {
        final String stream = UUID.randomUUID().toString();
        long chunks;
    }

    private final Consumer<DataPacket.Builder> out;
    private final Map<String, Caption> captions = new LinkedHashMap<>();            // by segment
    private final Map<String, ByteArrayOutputStream> typed = new LinkedHashMap<>(); // by stream

    Texts(Consumer<DataPacket.Builder> out) {
        this.out = out;
    }

    /// Sends a piece of what somebody says; after the one that is `last` the segment is complete.
    /// `identity` is whose words they are, "" for ours, and `track` that participant's sound.
    void caption(String identity, String track, String segment, String text, boolean last) {
        Caption caption = captions.get(segment);
        if (caption == null) {
            caption = new Caption();
            captions.put(segment, caption);
            if (captions.size() > MOST_STREAMS) {
                captions.remove(captions.keySet().iterator().next()); // never to be completed
            }
            var header = DataStream.Header.newBuilder().setStreamId(caption.stream)
                    .setTimestamp(System.currentTimeMillis()).setTopic("lk.transcription")
                    .setMimeType("text/plain").setTextHeader(DataStream.TextHeader.newBuilder())
                    // The model's own name for it, in JSON, which can hold half a letter. Protobuf
                    // cannot, and says so with a stack trace.
                    .putAttributes("lk.segment_id", new String(
                            segment.getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8))
                    .putAttributes("lk.transcribed_track_id", track)
                    .putAttributes("lk.transcription_final", Boolean.toString(last));
            out.accept(packet(identity).setStreamHeader(header));
        }
        ByteString bytes = ByteString.copyFromUtf8(text);
        for (int at = 0; at < bytes.size(); at += CHUNK) {
            out.accept(packet(identity).setStreamChunk(DataStream.Chunk.newBuilder()
                    .setStreamId(caption.stream).setChunkIndex(caption.chunks++)
                    .setContent(bytes.substring(at, Math.min(bytes.size(), at + CHUNK)))));
        }
        if (last) {
            captions.remove(segment);
            out.accept(packet(identity).setStreamTrailer(DataStream.Trailer.newBuilder()
                    .setStreamId(caption.stream).putAttributes("lk.transcription_final", "true")));
        }
    }

    private static DataPacket.Builder packet(String identity) {
        return DataPacket.newBuilder().setParticipantIdentity(identity);
    }

    /// Takes a packet of the caller's. The text that it completes, or null.
    String received(DataPacket packet) {
        switch (packet.getValueCase()) {
            case STREAM_HEADER -> {
                DataStream.Header header = packet.getStreamHeader();
                if (header.getTopic().equals("lk.chat") && header.hasTextHeader()) {
                    typed.put(header.getStreamId(), new ByteArrayOutputStream());
                    if (typed.size() > MOST_STREAMS) {
                        typed.remove(typed.keySet().iterator().next()); // never to be completed
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
                // A trailer with a reason is a sender's giving up.
                if (text != null && trailer.getReason().isEmpty() && text.size() > 0) {
                    return text.toString(StandardCharsets.UTF_8);
                }
            }
            default -> { }
        }
        return null;
    }
}
