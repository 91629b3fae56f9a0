package voice;

import module java.base;
import javax.sound.sampled.AudioFormat;
import javax.sound.sampled.AudioSystem;
import javax.sound.sampled.UnsupportedAudioFileException;

/// What the caller hears when the model cannot speak: three recordings, each a file in voice/clips.
/// Session decides when one is played, and Speaker plays it.
///
/// A speech synthesiser (espeak-ng) has made the files. Replace them by your own voice and
/// language, under the same names: any WAV file that Java can read will do. This class looks for
/// the folder voice/clips in the working directory.
public enum Clips {
    /// "One moment, please."
    MOMENT,
    /// "I am sorry, I have a technical problem. I will put you through to a colleague."
    COLLEAGUE,
    /// "I am sorry, we have a technical problem. Please call again later. Goodbye."
    GOODBYE;

    private byte[] pcm = new byte[0];
    private String unreadable;                  // why; null when it was read

    Clips() {
        Path file = Path.of("voice", "clips", name().toLowerCase(Locale.ROOT) + ".wav");
        try {
            pcm = read(file);
        } catch (IOException e) {
            unreadable = file + " cannot be used: " + Log.reason(e);
        }
    }

    /// Reads a recording, and converts it to what `Speaker.play` takes: 24 kHz, 16 bit little
    /// endian, mono. Of a recording that is longer than 20 s, only the first 20 s are read.
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

    /// Returns null, or says which recording cannot be read and why. Where that recording is due,
    /// there is silence. The first use of this class reads all three, which takes 30 ms.
    public static String check() {
        return Arrays.stream(values()).map(clip -> clip.unreadable).filter(Objects::nonNull)
                .findFirst().orElse(null);
    }

    /// The recording as `Speaker.play` takes it; empty when it cannot be read.
    public byte[] pcm() {
        return pcm;
    }
}
