package voice;

import module java.base;
import com.google.i18n.phonenumbers.NumberParseException;
import com.google.i18n.phonenumbers.PhoneNumberUtil;
import com.google.i18n.phonenumbers.PhoneNumberUtil.MatchType;
import com.google.i18n.phonenumbers.PhoneNumberUtil.PhoneNumberFormat;
import com.google.i18n.phonenumbers.PhoneNumberUtil.ValidationResult;
import com.google.i18n.phonenumbers.Phonenumber.PhoneNumber;

/// Phone numbers: how they are read and compared, and which can be called. Session reads the
/// numbers of the line and of the dispatch here. Tools reads those that the model writes, and Start
/// the one of `call`.
///
/// People and networks write one number in many ways. What comes out of `read` is written in one:
/// a plus, the country code, and no more than digits
/// ([E.164](https://www.itu.int/rec/T-REC-E.164)). Google's
/// [libphonenumber](https://github.com/google/libphonenumber) knows how each country writes its
/// numbers, and which exist. The first of these rules that fits says what the number is:
///
/// 1. A number that begins with a plus or with 00 has its country code. A (0) behind that code is
///    left out, unless the country's numbers have it. A plus before a single 0 does not count,
///    because no country code begins with 0. Nor does a 00 that is only a part of the prefix for
///    calls abroad, as in Australia's 0011. Rule 2 reads those.
/// 2. A number that exists in `region`, and that people there write just so, is a number of that
///    country.
/// 3. A number that exists if a plus is put before it has its country code. Without `region` it
///    must have 11 digits, because 10 digits are more often national, as in the US and in India.
/// 4. A number that would be one of `region`, or one with a country code, by its length alone, is
///    one. But it must have 11 digits with the country code: shorter ones are more often
///    extensions.
/// 5. Any other number stays as it is: the extension of a PBX (1001), or a short number (112).
///
/// `region` is a country, as ISO 3166 writes it (US), or "". With "", only numbers that have a
/// country code are read as such. Rule 2 asks how people write a number, because the same digits
/// can be two numbers: 491711234567 is a mobile phone in Germany. Without the 0 that people write
/// there, it would also be a number of the town with the area code 0491.
public record Numbers(String region) {
    /// What a number in E.164 looks like: a pattern. That one has this form does not say that its
    /// country has numbers of that length.
    public static final String E164 = "\\+[1-9][0-9]{6,14}";
    private static final int LEAST_DIGITS = 11;
    private static final String NO_REGION = "ZZ";           // as libphonenumber writes it

    /// What people and networks write between the digits.
    private static final String BETWEEN = "[\\s\\p{Cf}\\p{Pd}./\\u2212\\u00b7]";

    /// A number, perhaps in an address (`tel:`, `sip:`), and perhaps with an extension. A
    /// `phone-context` is what a local number belongs behind. `BETWEEN` is gone.
    private static final Pattern WRITTEN = Pattern.compile("(?i)(?:.*<)?(?:(?:tel|sips?):)?"
            + "(?<number>[(]*+\\+?[\\p{Nd}()]++)(?:(?:ext(?:ensio)?n?|[x#]|,+)[:=]?\\p{Nd}+#?)?"
            + "(?:[;@>](?:.*phonecontext=(?<context>\\+\\p{Nd}+))?.*)?");

    /// For a number that is withheld, some networks send a word, and some send the keys of a phone
    /// that spell it: anonymous, blocked, private, restricted, unavailable, unknown, withheld. None
    /// of these exists as a number with a country code.
    private static final Set<String> WITHHELD = Set.of("266696687", "2562533", "7748283",
            "7378742833", "86282452253", "8656696", "94844353");

    /// Throws an IllegalArgumentException when that is no country.
    public Numbers {
        region = region.toUpperCase(Locale.ROOT);
        if (!region.isEmpty() && !library().getSupportedRegions().contains(region)) {
            throw new IllegalArgumentException("not the two letters of a country, like US or DE");
        }
    }

    private static PhoneNumberUtil library() {
        return PhoneNumberUtil.getInstance();   // when it is needed, because it takes time to load
    }

    /// Returns the number in the form that is described above, or null when this is no phone
    /// number, or a number that is withheld. An extension behind the number is left out. `written`
    /// may be null.
    public String read(String written) {
        Matcher parts = WRITTEN.matcher(
                Normalizer.normalize(written == null ? "" : written, Normalizer.Form.NFKC)
                        .replaceAll("(?i)%2b", "+").replaceAll(BETWEEN, "")
                        .replace('[', '(').replace(']', ')'));
        if (!parts.matches()) {
            return null;
        }
        String number = parts.group("number");
        if (!number.contains("+") && parts.group("context") != null) {
            number = parts.group("context") + number;
        }
        String digits = PhoneNumberUtil.normalizeDigitsOnly(number);
        String plus = number.contains("+") && !digits.matches("0[1-9].*") ? "+" : "";
        String behindPlus = digits.replaceFirst("^00", "");
        if (WITHHELD.contains(behindPlus) || behindPlus.matches("0*")) {
            return null;
        }
        // Not every country has a 0 there to leave out: +1 (0)555 ...
        String without0 = PhoneNumberUtil.normalizeDigitsOnly(number.replace("(0)", ""))
                .replaceFirst("^00", "");
        boolean with00 = !behindPlus.equals(digits), hasCode = with00 || !plus.isEmpty();
        PhoneNumber national = region.isEmpty() ? null : parse(plus + digits, region);
        var abroad = Stream.of(behindPlus, without0).map(each -> parse("+" + each, NO_REGION))
                .toList();
        // In some countries a carrier's number may stand behind 00. So the country goes first, if
        // all digits behind 00 belong to the number. If not, there is more than 00, as in 0011.
        var whole = abroad.stream().filter(each -> with00 && each != null
                && (isAllOf(behindPlus, each) || isAllOf(without0, each)));
        var readings = Stream.of(whole, Stream.ofNullable(national), abroad.stream())
                .flatMap(each -> each).filter(Objects::nonNull).toList();
        boolean usual = isUsual(plus + digits);
        var exist = readings.stream().filter(each -> (each != national || usual)
                && library().isValidNumber(each)).map(Numbers::e164)
                .filter(each -> hasCode || !region.isEmpty() || each.length() > LEAST_DIGITS);
        var possible = readings.stream()
                .filter(each -> library().isPossibleNumberWithReason(each)
                        == ValidationResult.IS_POSSIBLE).map(Numbers::e164)
                .filter(each -> hasCode || each.length() > LEAST_DIGITS);
        String asWritten = plus + digits;
        return Stream.concat(exist, possible).filter(each -> each.matches(E164)).findFirst()
                .orElse(asWritten.matches("\\+?[0-9]{3,15}") ? asWritten : null);
    }

    /// Do people in the region write it so? Where they must dial a 0 first, for example, it is
    /// written with one.
    private boolean isUsual(String digits) {
        return !region.isEmpty() && library().findNumbers(digits, region,
                PhoneNumberUtil.Leniency.VALID, 1).iterator().hasNext();
    }

    /// Are these all digits of the number? There may be a 0 behind the country code.
    private static boolean isAllOf(String digits, PhoneNumber number) {
        String code = "" + number.getCountryCode();
        String rest = e164(number).substring(1 + code.length());
        return digits.equals(code + rest) || digits.equals(code + "0" + rest);
    }

    private static String e164(PhoneNumber number) {
        return library().format(number, PhoneNumberFormat.E164);
    }

    private static PhoneNumber parse(String number, String region) {
        try {
            return library().parse(number, region);
        } catch (NumberParseException e) {
            return null;
        }
    }

    /// Are these two the same number? Both were read. One of them may lack its country code. `one`
    /// may be null.
    public static boolean same(String one, String other) {
        return one != null && (one.replace("+", "").equals(other.replace("+", ""))
                || List.of(MatchType.EXACT_MATCH, MatchType.NSN_MATCH)
                        .contains(library().isNumberMatch(one, other)));
    }

    /// Can this number be dialled? It must be in E.164, and its country must have numbers of that
    /// length. So nobody can hide another number behind an allowed country code: +1 011 44 ..
    /// `number` may be null.
    public static boolean callable(String number) {
        return number != null && number.matches(E164)
                && library().isPossibleNumber(number, NO_REGION);
    }
}
