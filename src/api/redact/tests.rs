//! What redaction hides, and what it leaves readable.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

fn clean(text: &str, secret: &str) -> String {
    super::clean(text, &[secret])
}

#[test]
fn each_of_several_secrets_is_hidden() {
    let secrets = ["abc-123", "", "refresh-456", "k3eper:s3cret"];
    let text = "no abc-123, REFRESH-456 or Basic azNlZXBlcjpzM2NyZXQ= here";
    let cleaned = super::clean(text, &secrets);
    assert_eq!(cleaned, "no [redacted], [redacted] or Basic [redacted] here");
}

#[test]
fn a_text_without_the_secret_stays_as_it_is() {
    assert_eq!(clean("Session token has expired", "abc-123"), "Session token has expired");
}

#[test]
fn every_occurrence_is_hidden() {
    assert_eq!(clean("abc-123 is not abc-123!", "abc-123"), "[redacted] is not [redacted]!");
}

#[test]
fn word_around_an_echo_is_redacted() {
    for (text, expected) in [
        ("no SessionToken=abc-123 here", "no [redacted] here"),
        ("{\"a\":\"abc-123\"} here", "[redacted] here"),
        ("(abc-123)", "([redacted])"),
        ("x\u{2003}abc-123\u{2003}y", "x\u{2003}[redacted]\u{2003}y"),
        ("\u{e9}abc-123\u{e9} \u{e9}", "[redacted] \u{e9}"),
    ] {
        assert_eq!(clean(text, "abc-123"), expected, "{text}");
    }
}

#[test]
fn a_percent_encoded_secret_is_hidden() {
    for echoed in ["a%2Bb%2Fc%3D", "a%2bb/c%3d", "%61+b/c=", "a+b/c=", "a%252Bb%252Fc%253D"] {
        assert_eq!(clean(&format!("no {echoed}."), "a+b/c="), "no [redacted].", "{echoed}");
    }
}

#[test]
fn a_secret_that_itself_looks_encoded_is_hidden_raw_encoded_and_decoded() {
    assert_eq!(clean("x%25y and x%2525y", "x%25y"), "[redacted] and [redacted]");
    assert_eq!(clean("it is a/b+c def.", "a%2Fb%2Bc%20def"), "it is [redacted].");
}

#[test]
fn a_secret_in_another_letter_case_is_hidden() {
    assert_eq!(clean("no ABC-123", "abc-123"), "no [redacted]");
}

#[test]
fn a_shortened_secret_is_hidden() {
    assert_eq!(clean("no 0123456789...", "0123456789abcdef"), "no [redacted]...");
    assert_eq!(clean("no ...456789abcdef", "0123456789abcdef"), "no ...[redacted]");
    assert_eq!(clean("no x3456789ax", "0123456789abcdef"), "no [redacted]");
    assert_eq!(clean("no 3456789", "0123456789abcdef"), "no 3456789");
}

#[test]
fn a_secret_split_by_invisible_characters_is_hidden() {
    for between in ["\u{0}", "\u{200b}", "\u{ad}", "\u{202e}", "%E2%80%8B", "&shy;", "\\u200b"] {
        let echoed: String =
            "abcdef-123456".chars().flat_map(|c| [c.to_string(), between.to_owned()]).collect();
        let cleaned = clean(&format!("no {echoed}\r\n x"), "abcdef-123456");
        assert_eq!(cleaned.replace(';', ""), "no [redacted] x");
    }
}

#[test]
fn hexadecimal_digits_are_found_wherever_their_pairs_begin() {
    let secret = "Zk3v9QpL";
    let pairs: Vec<String> = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    for between in ["", ":", "-", " ", ", ", "\\x", " 0x"] {
        for before in ["", "a", "ab", "abc", "x1x1", "fac ", "fac e", "1:", "0", "0x"] {
            let text = format!("no {before}{} here", pairs.join(between));
            let cleaned = clean(&text, secret);
            assert!(cleaned.contains(REDACTED), "{text}: {cleaned}");
            assert!(cleaned.ends_with(" here"), "{text}: {cleaned}");
        }
    }
}

#[test]
fn backslash_in_front_of_an_escaped_echo_does_not_take_its_first_character() {
    for echo in ["\\bTU4\\u005azN0ZmE=", "\\bTU4ZzN0\\u005amE="] {
        assert_eq!(clean(&format!("no {echo} here"), "m58g3tfa"), "no [redacted] here");
    }
    assert_eq!(clean("no \\n3ws\\u002dt0k3 here", "n3ws-t0k3"), "no [redacted] here");
}

#[test]
fn open_entity_in_front_of_an_escaped_echo_does_not_take_its_first_characters() {
    for open in ["&#", "&#x", "&lt"] {
        let text = format!("no {open}56STUVW&#x58; here");
        let cleaned = clean(&text, "56STUVWX");
        assert_eq!(cleaned.replace(';', ""), "no [redacted] here", "{text}");
    }
}

#[test]
fn word_with_escapes_of_two_kinds_is_redacted_whatever_it_stands_for() {
    for word in ["a%2Bb&lt;c", "a\\u0041&#65;x", "%41\\n", "&lt&#65;x", "a%20b\\\"c", "\\u00%341"] {
        let text = format!("no ({word}), here");
        assert_eq!(clean(&text, "n3ws-t0k3n"), "no ([redacted]), here", "{word}");
    }
}

#[test]
fn word_with_escapes_within_escapes_is_redacted_whatever_it_stands_for() {
    for word in
        ["%2541", "%2%35", "%4%E2%80%8B1", "\\\\u0041", "\\u005cu0041", "&amp;lt;x", "&#3&#56;;x"]
    {
        let text = format!("no ({word}), here");
        assert_eq!(clean(&text, "n3ws-t0k3n"), "no ([redacted]), here", "{word}");
    }
}

#[test]
fn word_with_an_escape_is_redacted_if_the_secret_contains_signs_of_escapes() {
    for secret in ["n3ws%t0k3n", "n3ws&t0k3n", "n3ws\\t0k3n", "n3ws\u{e9}t0k3n"] {
        assert_eq!(clean("a%20b is 50% of R&D", secret), "[redacted] is 50% of R&D");
    }
}

#[test]
fn echo_behind_a_stray_sign_of_an_escape_is_hidden() {
    for (secret, echo) in [
        ("41bcdefgh", "%41bcd%65fgh"),
        ("u0041bcd", "\\u0041bc\\u0064"),
        ("tdefghij", "\\tdefgh\\u0069j"),
        ("lt5defgh", "&lt5defgh"),
        ("ltdefghi", "&ltdefghi"),
        ("56STUVWX", "&#56STUVW&#x58"),
        ("2Fab+def", "%2Fab%2Bdef"),
        ("m58g3tfa", "\\bTU4\\u005azN0ZmE="),
        ("x41defghi", "\\x41def\\x67hi"),
        ("66666uru", "%36363636363675727%35"),
    ] {
        let cleaned = clean(&format!("no {echo} here"), secret);
        assert_eq!(cleaned.replace('=', ""), "no [redacted] here", "{secret} as {echo}");
    }
}

#[test]
fn escapes_of_programming_languages_are_read() {
    for echo in ["n3ws\\055t0k3n", "n3ws\\u{2d}t0k3n", "n3ws\\U0000002dt0k3n", "n3ws%u002dt0k3n"] {
        assert_eq!(clean(&format!("no {echo} here"), "n3ws-t0k3n"), "no [redacted] here", "{echo}");
    }
}

#[test]
fn secret_with_an_invisible_character_is_hidden_in_each_encoding() {
    let secret = "AAa\u{ad}aaA!0";
    for echo in [
        secret.to_owned(),
        STANDARD.encode(secret),
        STANDARD.encode("AAaaaA!0"),
        secret.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}")),
        secret.replace('\u{ad}', "&shy;"),
    ] {
        let cleaned = clean(&format!("no {echo} here"), secret);
        assert!(cleaned.contains(REDACTED) && cleaned.ends_with(" here"), "{echo}: {cleaned}");
    }
}

#[test]
fn ordinary_explanations_stay_readable() {
    for text in [
        "token expired",
        "50% of limit, 100%, 10%\u{2013}20%, 5%/day",
        "R&D at AT&T; A&B",
        "C:\\temp\\new and C:\\Users\\Administrator and \\\\server\\share",
        "see https://api.example.org/v1/session?user=a%20b&lang=de&page=2#top",
        "{\"error\":{\"code\":410,\"text\":\"gone\"}}",
        "{\\\"error\\\":{\\\"code\\\":410}}, https:\\/\\/example.org\\/",
        "don&#39;t use &quot;x&quot; &lt;b&gt;, R&amp;D",
        "session 123e4567-e89b-12d3-a456-426614174000 is unknown",
        "Sitzung ung\u{fc}ltig, ung&uuml;ltig, ung\\u00fcltig, ung%C3%BCltig",
        "\u{30bb}\u{30c3}\u{30b7}\u{30e7}\u{30f3}\u{306f}\u{671f}\u{9650}\u{5207}\u{308c}\u{3067}\u{3059}",
        "\u{421}\u{435}\u{441}\u{441}\u{438}\u{44f} \u{438}\u{441}\u{442}\u{435}\u{43a}\u{43b}\u{430} \u{1f600}",
        "line 1\\nline 2\\tend; a\\b",
    ] {
        for secret in ["Zk3v9QpL-77aB", "0123456789abcdef0123456789abcdef", "eyJhbGciOi.J9_x-Q"] {
            assert_eq!(clean(text, secret), text);
        }
    }
}

#[test]
fn a_secret_at_the_cut_is_hidden_before_the_cut() {
    let text = format!("{}abcdefghij", "x".repeat(195));
    assert!(!clean(&text, "abcdefghij").contains("abc"));
}

#[test]
fn a_long_text_is_cut_to_200_characters_whatever_their_width() {
    let cut = clean(&"\u{e9}".repeat(300), "abc");
    assert_eq!(cut, format!("{}...", "\u{e9}".repeat(200)));
}

#[test]
fn a_secret_of_wide_characters_is_hidden_whole() {
    assert_eq!(clean("<\u{e9}\u{e8}\u{ea}>", "\u{e9}\u{e8}\u{ea}"), "<[redacted]>");
}

/// Names a form in which a server may echo a secret, and writes a secret in it.
type Form = (&'static str, fn(&str) -> String);

fn forms() -> Vec<Form> {
    fn percent(text: &str) -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect()
    }
    fn html(text: &str) -> String {
        text.chars()
            .map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("&#{};", c as u32) })
            .collect()
    }
    fn json(text: &str) -> String {
        text.encode_utf16().fold(String::new(), |all, unit| format!("{all}\\u{unit:04x}"))
    }
    fn hex(text: &str) -> String {
        text.bytes().fold(String::new(), |all, byte| format!("{all}{byte:02x}"))
    }
    vec![
        ("raw", |text| text.to_owned()),
        ("upper case", |text| text.to_ascii_uppercase()),
        ("percent", percent),
        ("percent twice", |text| percent(&percent(text))),
        ("plus as space", |text| text.replace('+', " ")),
        ("html", html),
        ("html names", |text| {
            text.replace('&', "&amp;").replace('+', "&plus;").replace('/', "&sol;")
        }),
        ("html of percent", |text| html(&percent(text))),
        ("json", json),
        ("json slashes", |text| text.replace('\\', "\\\\").replace('/', "\\/")),
        ("json of html", |text| json(&html(text))),
        ("base64", |text| STANDARD.encode(text)),
        ("base64 for URLs", |text| URL_SAFE_NO_PAD.encode(text)),
        ("base64, percent-encoded", |text| percent(&STANDARD.encode(text))),
        ("hex", hex),
        ("hex with colons", |text| {
            text.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
        }),
        ("zero-width", |text| text.chars().flat_map(|c| [c, '\u{200b}']).collect()),
    ]
}

fn secrets() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f]{9,80}",
        "[A-Za-z0-9+/]{9,200}={0,2}",
        "[A-Za-z0-9_-]{9,40}\\.[A-Za-z0-9_-]{9,40}",
        "[!-~]{9,120}",
        "[!-~\u{a1}-\u{ff}]{9,60}",
    ]
}

proptest! {
    /// No form of a part of a secret gets through: what remains of the text is the same
    /// whatever the secret was.
    #[test]
    fn no_form_of_a_part_of_a_secret_gets_through(
        secret in secrets(),
        from in any::<prop::sample::Index>(),
        length in any::<prop::sample::Index>(),
    ) {
        // The dash before the echo ends in the same byte as this character, and a plus sign reads as
        // a space: the text around the echo would be a part of the secret.
        prop_assume!(!secret.contains("\u{d4}+"));
        let chars: Vec<char> = secret.chars().collect();
        // Of a secret that is cut at both ends, a form of Base64 may lose two characters.
        let length = 12.min(chars.len()) + length.index(chars.len() - 12.min(chars.len()) + 1);
        let from = from.index(chars.len() - length + 1);
        let part: String = chars[from..from + length].iter().collect();
        for (form, echo) in forms() {
            let text = format!("Unknown token \u{2014} {} \u{2014} was sent", echo(&part));
            let cleaned = clean(&text, &secret);
            prop_assert!(
                cleaned.starts_with("Unknown token \u{2014} ") && cleaned.contains(REDACTED)
                    && cleaned.ends_with(" \u{2014} was sent"),
                "{}: {} of {}: {}", form, part, secret, cleaned
            );
            let left = &cleaned["Unknown token \u{2014} ".len()..cleaned.len() - " \u{2014} was sent".len()];
            let left = left.replace(REDACTED, "");
            prop_assert!(left.len() < RUN, "{}: {} of {}: {}", form, part, secret, cleaned);
        }
    }

    #[test]
    fn no_choice_of_echo_and_text_around_it_lets_a_run_through(
        choices in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        properties::property(&choices);
    }

    #[test]
    fn any_text_is_cleaned_in_time(text in "\\PC{0,300}", secret in "\\PC{1,40}") {
        clean(&text, &secret);
    }
}

#[test]
fn each_word_with_escapes_of_every_kind_within_each_other_is_redacted() {
    let text = "%25252541\\u005cu0026amp;amp;%5cu0025&#37;41 ".repeat(400);
    let secret: String = (0..4096_u32).map(|n| char::from(b'!' + (n * 7 % 94) as u8)).collect();
    assert_eq!(clean(&text, &secret).split(' ').next(), Some(REDACTED));
}

#[test]
fn text_with_too_many_escapes_to_be_searched_is_redacted_whole() {
    assert_eq!(clean(&format!("no {}", "%20".repeat(2700)), "n3ws-t0k3n"), REDACTED);
}

#[test]
fn a_secret_of_4096_characters_is_hidden_in_a_text_of_64_kib() {
    let secret: String = (0..4096_u32).map(|n| char::from(b'!' + (n * 7 % 94) as u8)).collect();
    for text in [secret.repeat(16), secret.replace('%', "%25").repeat(10)] {
        assert_eq!(clean(&text, &secret).replace(REDACTED, ""), "");
    }
}
