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
        var ours = new AudioFormat(Speaker.RATE, 16, 1, true, false);
        try (var in = AudioSystem.getAudioInputStream(file.toFile());
                var converted = AudioSystem.getAudioInputStream(ours, in)) {
            pcm = converted.readNBytes(20_000 * Speaker.BYTES_PER_MS); // the longest that we play
        } catch (IOException | UnsupportedAudioFileException | RuntimeException e) {
            wrong = file + " cannot be used: " + Log.reason(e);
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
