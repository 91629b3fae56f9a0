package voice;

import module java.base;

/// Phone numbers: how they are read, and which can be called. Session reads the numbers of the line
/// and of the dispatch here. Tools reads those that the model writes. Settings checks those of
/// `.env`, and Start the one of `call`.
///
/// Not handled: national numbers, which have no country code.
public final class Numbers {
    private static final String E164 = "\\+[1-9][0-9]{6,14}";

    private Numbers() {}

    /// Returns the digits, with the plus if there is one, and drops what people and networks write
    /// between the digits. Returns null when this is no phone number. `written` may be null.
    public static String read(String written) {
        String number = written == null ? "" : written.replaceAll("[\\s().-]", "");
        return number.matches("\\+?[0-9]{3,15}") ? number : null;
    }

    /// Can this number be dialled? It needs a plus and the country code
    /// ([E.164](https://www.itu.int/rec/T-REC-E.164)). `number` may be null.
    public static boolean callable(String number) {
        return number != null && number.matches(E164);
    }
}
