package voice;

import module java.base;
import com.openai.core.JsonField;
import com.openai.models.realtime.RealtimeResponse;

/// The tokens that a call has used at the model, as OpenAI
/// [bills](https://developers.openai.com/api/docs/guides/realtime-costs) them: text and sound that
/// the model has read, how much of these it had cached, and text and sound that it has made.
/// Responses adds up what each response reports; End has the sum.
///
/// Not here: what the transcription of the caller's words costs, and a response that the end of the
/// call breaks off, because the service then has no time to report it.
public record Usage(long inputText, long inputAudio, long cachedText, long cachedAudio,
                    long outputText, long outputAudio) {
    private static final int MOST_TOKENS = 1_000_000_000;   // a count that is higher is a mistake

    /// The sum, with what this response has used. `before` may be null. Returns `before` when the
    /// response does not say what it has used. What is not reported as sound counts as text.
    static Usage plus(Usage before, RealtimeResponse done) {
        var usage = done._usage().asKnown().orElse(null);
        if (usage == null) {
            return before;
        }
        var in = usage._inputTokenDetails().asKnown();
        var cached = in.flatMap(all -> all._cachedTokensDetails().asKnown());
        var out = usage._outputTokenDetails().asKnown();
        Usage sum = before == null ? new Usage(0, 0, 0, 0, 0, 0) : before;
        long audioIn = in.map(all -> count(all._audioTokens())).orElse(0L);
        long audioCached = cached.map(all -> count(all._audioTokens())).orElse(0L);
        long audioOut = out.map(all -> count(all._audioTokens())).orElse(0L);
        return new Usage(
                sum.inputText + text(in.map(all -> all._textTokens()),
                        Optional.of(usage._inputTokens()), audioIn),
                sum.inputAudio + audioIn,
                sum.cachedText + text(cached.map(all -> all._textTokens()),
                        in.map(all -> all._cachedTokens()), audioCached),
                sum.cachedAudio + audioCached,
                sum.outputText + text(out.map(all -> all._textTokens()),
                        Optional.of(usage._outputTokens()), audioOut),
                sum.outputAudio + audioOut);
    }

    /// If the service does not say how many tokens were text, they are the rest of `all`.
    private static long text(Optional<JsonField<Long>> text, Optional<JsonField<Long>> all,
            long audio) {
        var known = text.filter(field -> field.asKnown().isPresent());
        return known.map(Usage::count).orElse(
                Math.max(0, all.map(Usage::count).orElse(0L) - audio));
    }

    private static long count(JsonField<Long> tokens) {
        return Math.clamp(tokens.asKnown().orElse(0L), 0L, (long) MOST_TOKENS);
    }
}
