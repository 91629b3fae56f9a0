package voice;

import module java.base;

/// Phone numbers: how they are read, and which can be called. Session reads those of the line and
/// of the dispatch here, the tools those that the model writes, Settings those of `.env`.
///
/// Not handled: national numbers, which have no country code.
public final class Numbers {
    private static final String E164 = "\\+[1-9][0-9]{6,14}";

    private Numbers() {}

    /// Digits with or without a plus, or null when it is no phone number. What people and networks
    /// write between the digits is dropped. `written` may be null.
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
