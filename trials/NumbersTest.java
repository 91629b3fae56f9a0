package trials;

import module java.base;
import org.junit.jupiter.api.Test;
import voice.Numbers;
import voice.Options;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

/// voice/Numbers: the rules of its doc comment, one after the other.
public final class NumbersTest {
    /// Each line is a PHONE_REGION (-- for none), what is written, and what is read, with | between
    /// them.
    private static void reads(String table) {
        for (String line : table.lines().toList()) {
            String[] cells = line.strip().split(" *\\| ?", 3);
            String region = cells[0].equals("--") ? "" : cells[0];
            String read = cells[2].strip();
            assertEquals(read.equals("null") ? null : read,
                    new Numbers(region).read(cells[1]), line);
        }
    }

    @Test
    void aNumberWithItsCountryCodeIsReadHoweverItIsWritten() {
        for (String region : List.of("--", "DE", "US", "AU", "IT", "JP")) {
            reads("""
                    +491711234567               | +491711234567
                    +49 (0)171 1234567          | +491711234567
                    +49 [0] 171-1234567         | +491711234567
                    (+49) 0171/12 34-567        | +491711234567
                    0049 171 1234567            | +491711234567
                    0049 (0)171-1234567         | +491711234567
                    +00491711234567             | +491711234567
                    491711234567                | +491711234567
                    49 (0) 171.1234567          | +491711234567
                    +49\u00a0171\u00a0123\u20114567 | +491711234567
                    +49\u202f171\u2009123\u20134567 | +491711234567
                    \u202a+49 171 1234567\u202c | +491711234567
                    \uff0b\uff14\uff19\uff08\uff10\uff09\uff11\uff17\uff111234567 | \
                    +491711234567
                    +\u0664\u0669 \u0661\u0667\u0661 1234567 | +491711234567
                    tel:+49-171-1234567         | +491711234567
                    TEL:0171-1234567;phone-context=+49 | +491711234567
                    sip:+491711234567@198.51.100.7;user=phone | +491711234567
                    sip:0171-1234567;phone-context=+49@x.example;user=phone | +491711234567
                    sip:+491711234567;npdi@x.example;user=phone | +491711234567
                    +49\u2212171\u00b71234567  | +491711234567
                    sips:00491711234567@pbx.example.com:5061 | +491711234567
                    "A. Lovelace" <sip:+491711234567@x.example>;tag=1 | +491711234567
                    sip:%2B491711234567@x.example | +491711234567
                    +491711234567;npdi;cpc=ordinary | +491711234567
                    +491711234567;phone-context=+1 | +491711234567
                    +491711234567@x.example     | +491711234567
                    +49 171 1234567 ext. 89     | +491711234567
                    +49 171 1234567 x89         | +491711234567
                    +49 171 1234567 Extension 89 | +491711234567
                    tel:+491711234567;ext=89    | +491711234567
                    +49 171 1234567,,89#        | +491711234567
                    +39 (0)6 6982               | +39066982
                    +34 (0)912 345 678          | +34912345678
                    +48 (0)22 123 45 67         | +48221234567
                    +47 (0)22 12 34 56          | +4722123456
                    +1 (0)555 123-4567          | +15551234567
                    +800 1234 5678              | +80012345678""".replaceAll("(?m)^",
                            region + " | "));
        }
    }

    /// The telephone network of the tests and of films has numbers that nobody has: +1 555 ..
    @Test
    void aNumberOfTheRightLengthNeedNotExist() {
        reads("""
                -- | +1 555 123-4567        | +15551234567
                -- | 1 (555) 123-4567       | +15551234567
                -- | 15551234567            | +15551234567
                US | 15551234567            | +15551234567
                US | 555 123 4567           | +15551234567
                US | (555) 123-4567         | +15551234567
                -- | 0015551234567          | +15551234567
                -- | 0047 1234 5678         | +4712345678
                US | 011 1 555 123 4567     | +15551234567
                -- | +15550100              | +15550100""");
    }

    @Test
    void aNationalNumberIsOneOfTheRegion() {
        reads("""
                DE | 0171 1234567           | +491711234567
                DE | (0171) 123 45 67       | +491711234567
                DE | 030/90 18 20           | +4930901820
                DE | 1711234567             | +491711234567
                DE | sip:01711234567@pbx;user=phone | +491711234567
                de | 01711234567            | +491711234567
                US | (650) 253-0000         | +16502530000
                US | 1-650-253-0000         | +16502530000
                US | 011 49 171 1234567     | +491711234567
                CA | 416 967 1111           | +14169671111
                GB | 020 7946 0958          | +442079460958
                FR | 06.12.34.56.78         | +33612345678
                IT | 06 6982                | +39066982
                IT | 347 123 4567           | +393471234567
                ES | 912 345 678            | +34912345678
                DK | 20 12 34 56            | +4520123456
                RU | 8 (916) 123-45-67      | +79161234567
                RU | 9161234567             | +79161234567
                IN | 98765 43210            | +919876543210
                CN | 138 1234 5678          | +8613812345678
                BR | (11) 91234-5678        | +5511912345678
                AU | 0011 49 171 1234567    | +491711234567
                AU | 0491 570 006           | +61491570006
                JP | 010 49 171 1234567     | +491711234567""");
    }

    /// Trunks leave out the plus of a foreign number as well. Its digits may then be those of a
    /// number at home, which people would write with a 0.
    @Test
    void whatIsWrittenAsNobodyAtHomeWritesItHasACountryCode() {
        reads("""
                DE | 491711234567           | +491711234567
                DE | 4917112345678          | +4917112345678
                DE | 33612345678            | +33612345678
                DE | 033612345678           | +4933612345678
                GB | 491711234567           | +491711234567
                US | 442079460958           | +442079460958
                DK | 4520123456             | +4520123456
                IT | 393471234567           | +393471234567
                RU | 79161234567            | +79161234567
                -- | 442079460958           | +442079460958
                -- | 4520123456             | 4520123456
                -- | 6462123456             | 6462123456
                US | 6462123456             | +16462123456
                US | 011 65 6212 3456       | +6562123456
                IN | 9595012345             | +919595012345
                IN | 9614345678             | +919614345678
                RU | 9595012345             | +79595012345""");
    }

    @Test
    void whatHasNoCountryCodeAndIsNotNationalStaysAsItIs() {
        for (String region : List.of("--", "DE", "US", "GB", "IT", "CN")) {
            reads("""
                    1001                    | 1001
                    10 01                   | 1001
                    sip:1001@pbx.example    | 1001
                    1001;phone-context=pbx.example.com | 1001
                    112                     | 112
                    911                     | 911
                    +112                    | +112
                    +1001                   | +1001
                    491711                  | 491711
                    200100                  | 200100
                    4711234                 | 4711234""".replaceAll("(?m)^", region + " | "));
        }
        reads("""
                -- | 0171 1234567           | 01711234567
                -- | 555 123 4567           | 5551234567
                -- | 011 49 171 1234567     | 011491711234567
                DE | 012345                 | 012345
                US | 555 1234               | 5551234""");
    }

    @Test
    void whatIsNoNumberIsNull() {
        for (String region : List.of("", "US", "DE")) {
            for (String none : Arrays.asList(null, "", " ", "Ada", "+", "()", "12", "(12)",
                    "1".repeat(16), "+" + "1".repeat(16), "+" + "49".repeat(8), "9".repeat(1_000),
                    "1+23", "++4930123456", "123x", "x123", "sip:", "sip:ada@x.example",
                    "sip:+@x.example", "4711desk", "2ndfloor", "1-800-FLOWERS",
                    "+1 650 253 0000 or +1 650 253 0001", "*21#", "#31#01711234567", "1:30:00",
                    "1,234.56", "http://1234567", "N/A", "-", "@", "<".repeat(9_000), "\0",
                    "\ud800")) {
                assertNull(new Numbers(region).read(none), none);
            }
        }
    }

    /// As Twilio lists them, too: 266696687 is what an anonymous call has as its number there.
    @Test
    void aNumberThatIsWithheldIsUnknownHoweverThatIsWritten() {
        for (String region : List.of("", "US", "DE", "LS", "CN")) {
            var numbers = new Numbers(region);
            for (String word : List.of("anonymous", "restricted", "unavailable", "private",
                    "unknown", "withheld", "blocked")) {
                String keys = word.chars().mapToObj(letter -> "" + "22233344455566677778889999"
                        .charAt(letter - 'a')).collect(Collectors.joining());
                String title = word.substring(0, 1).toUpperCase(Locale.ROOT) + word.substring(1);
                for (String written : List.of(word, title, word.toUpperCase(Locale.ROOT), keys,
                        "+" + keys, "00" + keys, "tel:" + keys, "sip:" + keys + "@x.example",
                        "sip:" + word + "@anonymous.invalid", "\"" + title + "\" <sip:" + word
                                + "@anonymous.invalid>")) {
                    assertNull(numbers.read(written), written);
                }
            }
            for (String none : List.of("0", "000", "+0", "0000000000", "+266696687")) {
                assertNull(numbers.read(none), none);
            }
        }
        reads("""
                -- | +1 737 874 2833        | +17378742833
                US | 1 737 874 2833         | +17378742833
                -- | +266 2669 6687         | +26626696687
                -- | 266696688              | 266696688""");
    }

    /// In these countries the number of a carrier may stand behind 00. What is left is another
    /// country's number then.
    @Test
    void behind00StandsACountryAlsoWhereCarriersHaveNumbers() {
        reads("""
                KR | 00819012345678         | +819012345678
                HK | 00819012345678         | +819012345678
                TH | 0081 90 1234 5678      | +819012345678
                SG | 0033612345678          | +33612345678
                TW | 0033612345678          | +33612345678
                BR | 00556436123456         | +556436123456
                KR | 00165 025 30000        | +16502530000
                KR | 001 44 20 7946 0958    | +442079460958
                BR | 00 21 44 20 7946 0958  | +442079460958
                SG | 001 44 20 7946 0958    | +442079460958
                KR | 0049 (0)171 1234567    | +491711234567
                KR | 0082 010 1234 5678     | +821012345678
                KR | 0086 010 6552 9988     | +861065529988
                AU | 0011 64 6 350 1234     | +6463501234
                AU | 0011 47 22 34 56 78    | +4722345678
                AU | 0011 36 1 234 5678     | +3612345678
                AU | 0011 1 650 253 0000    | +16502530000
                AU | 00 1 650 253 0000      | +16502530000""");
    }

    /// A trunk may put a plus before whatever it has.
    @Test
    void aPlusBeforeANationalNumberDoesNotCount() {
        reads("""
                DE | +0171 1234567          | +491711234567
                DE | +(0171) 1234567        | +491711234567
                FR | +0612345678            | +33612345678
                -- | +01711234567           | 01711234567
                DE | +0049 171 1234567      | +491711234567""");
    }

    @Test
    void noTextTakesLongToRead() {
        var numbers = new Numbers("DE");
        for (String each : List.of("(", ")", "+", "1", "0", "<", "@", ";", ":", ",", "x", "#", "-",
                "()", "(0)", "1(", "1;", "1x", "1,", ",1", "<1", "tel:", ";phone-context=+1")) {
            for (String end : List.of("", "!", "1", ">", ";phone-context=+1")) {
                String text = each.repeat(100_000 / each.length()) + end;
                assertTimeoutPreemptively(Duration.ofSeconds(3), () -> numbers.read(text),
                        each + " .. " + end);
            }
        }
    }

    @Test
    void aRegionIsACountryOfTwoLetters() {
        assertEquals(new Numbers("US"), new Numbers("us"));
        for (String wrong : List.of("USA", "U", "ZZ", "UK", "001", "49", "+1", "Germany", "U S")) {
            assertEquals("not the two letters of a country, like US or DE", assertThrows(
                    IllegalArgumentException.class, () -> new Numbers(wrong)).getMessage());
        }
    }

    @Test
    void numbersAreComparedAsNumbers() {
        for (String pair : List.of("+15551234567 +15551234567", "15551234567 +15551234567",
                "5551234567 +15551234567", "01711234567 +491711234567", "1001 1001", "112 +112",
                "+15550100 15550100")) {
            String[] two = pair.split(" ");
            assertTrue(Numbers.same(two[0], two[1]) && Numbers.same(two[1], two[0]), pair);
        }
        for (String pair : List.of("+15551234567 +15551234568", "+15551234567 +445551234567",
                "1234567 +15551234567", "1001 10011", "1001 001", "+491711234567 171")) {
            String[] two = pair.split(" ");
            assertFalse(Numbers.same(two[0], two[1]) || Numbers.same(two[1], two[0]), pair);
        }
        assertFalse(Numbers.same(null, "1001"));
    }

    @Test
    void aNumberThatCanBeCalledHasACountryCodeAndALengthThatIsInUseThere() {
        for (String right : List.of("+15550001111", "+15550100", "+491711234567", "+4930123456",
                "+80012345678", "+3726001234")) {
            assertTrue(Numbers.callable(right), right);
        }
        for (String wrong : Arrays.asList(null, "", "+", "+123456", "+1234567",
                "+1234567890123456", "15550001111", "+0555000111", "+1 555 000 1111",
                "+1555000111x", "tel:+15550001111", "+999123456", "+155500011112",
                "+1555000111\u0661", "\uff0b15550001111", "1001", "01711234567")) {
            assertFalse(Numbers.callable(wrong), wrong);
        }
    }

    /// What is dialled is what was read, so the prefix is that of the number that is dialled.
    @Test
    void nothingHidesAnotherNumberBehindAPrefixThatMayBeCalled() {
        for (String region : List.of("", "US", "DE")) {
            var options = new Options("ST_1", List.of("+1555", "+4930"), Map.of(),
                    Duration.ofSeconds(15), Duration.ofMinutes(30), new Numbers(region));
            for (String written : List.of("+1 (555) 123-4567", "0049 (0)30 90 18 20",
                    "tel:+1-555-123-4567;ext=0044", "\uff0b15551234567", "+1555123456\u0667")) {
                String number = options.numbers().read(written);
                assertTrue(options.mayCall(number) && number.matches("\\+(1555|4930)[0-9]+"),
                        written);
            }
            for (String written : Arrays.asList(null, "+1 (0)900 555 1234", "+1 900 555 1234",
                    "00 1 900 555 1234", "+1555 011 44 20 7946 0958", "+1 555 123 4567 890",
                    "+15551234567,+19005551234", "+1\u0669005551234", "+44 555 123 4567",
                    "sip:+19005551234@+15551234567", "+15551234567;phone-context=+44 900",
                    "tel:900-555-1234;phone-context=+1", "+493", "1001", "+1555",
                    "<+15551234567>+19005551234")) {
                String number = options.numbers().read(written);
                assertTrue(!options.mayCall(number) || number.equals("+15551234567"),
                        written + " is dialled as " + number);
            }
            for (String raw : List.of("+1 5551234567", "+1555\u0661234567", "+15551234567;x",
                    "+1555\n1234567", "+155501144207946")) {
                assertFalse(options.mayCall(raw), raw);
            }
        }
    }
}
