package voice;

import module java.base;
import javax.sound.sampled.AudioFormat;
import javax.sound.sampled.AudioSystem;
import javax.sound.sampled.UnsupportedAudioFileException;

/// What the caller hears when the model cannot speak: recordings, in voice/clips. Agent says them.
///
/// They are three files, made once with a speech synthesiser (espeak-ng). Put your own voice and
/// language there, under the same names: any WAV file that Java can read will do.
public enum Clips {
    /// "One moment, please."
    MOMENT,
    /// "I am sorry, I have a technical problem. I will put you through to a colleague."
    COLLEAGUE,
    /// "I am sorry, we have a technical problem. Please call again later. Goodbye."
    GOODBYE;

    private byte[] pcm = new byte[0];
    private String wrong;

    Clips() {
        Path file = Path.of("voice", "clips", name().toLowerCase(Locale.ROOT) + ".wav");
        try {
            pcm = read(file);
        } catch (IOException e) {
            wrong = file + " cannot be used: " + Log.reason(e);
        }
    }

    /// A recording as `Speaker.play` takes it: 24 kHz, 16 bit little endian, mono; 20 s at most.
    public static byte[] read(Path wav) throws IOException {
        try (var in = AudioSystem.getAudioInputStream(wav.toFile())) {
            var its = in.getFormat();
            var plain = AudioSystem.getAudioInputStream(new AudioFormat(
                    its.getSampleRate(), 16, its.getChannels(), true, false), in);
            return AudioSystem.getAudioInputStream(
                    new AudioFormat(Speaker.RATE, 16, 1, true, false), plain)
                    .readNBytes(20_000 * Speaker.BYTES_PER_MS);
        } catch (UnsupportedAudioFileException | RuntimeException e) {
            throw new IOException(e);
        }
    }

    /// null, or which of them cannot be read and why: there is silence instead of it. The first
    /// use of this class reads them, which takes 30 ms.
    public static String check() {
        return Arrays.stream(values()).map(clip -> clip.wrong).filter(Objects::nonNull)
                .findFirst().orElse(null);
    }

    /// 24 kHz, 16 bit little endian, mono: for `Speaker.play`.
    public byte[] pcm() {
        return pcm;
    }
}
