//! Redacts secrets from the text of a server, before it is logged or passed on.
//!
//! Owns the form in which foreign text enters an error. A run of 8 characters of a secret that was
//! sent does not get through, be it as it was sent, in another letter case, percent-encoded,
//! escaped, as HTML entities, in Base64 or in hexadecimal digits.

mod decode;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod properties;

use std::collections::HashSet;

use self::decode::{ESCAPES, View, base64, hexadecimal};
use crate::secret::is_invisible;

/// The longest foreign text that is kept, in characters: a sentence, not a page.
const MAX_CHARS: usize = 200;

/// The longest foreign text that is searched, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// What stands in for a word with a secret in it.
const REDACTED: &str = "[redacted]";

/// Bytes of a secret that give it away, wherever in it they stand.
const RUN: usize = 8;

/// Secrets shorter than this are not searched for in Base64 and hexadecimal digits: other text
/// would contain them by chance.
const SHORTEST_ENCODED: usize = 4;

/// Escapes within escapes that are decoded.
const DEPTH: usize = 3;

/// The most bytes of all readings of a text together that are searched. Text that is escaped in
/// this many ways is no explanation, and searching it would delay the checks.
const MAX_VIEWED_BYTES: usize = 96 * 1024;

/// Punctuation that stays when the word within it is redacted.
const AROUND: &[char] = &['.', ',', ';', ':', '!', '?', '(', ')', '[', ']', '<', '>', '"', '\''];

/// `text` on one line, without `secret`, cut to a sentence's length.
pub(super) fn clean(text: &str, secret: &str) -> String {
    // Invisible characters go first: one within an echoed secret would hide it from the search.
    let text: String =
        text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(MAX_BYTES).collect();
    let hidden = hide(beginning(&text), secret);
    let hidden = hidden.trim();
    match hidden.char_indices().nth(MAX_CHARS) {
        None => hidden.to_owned(),
        Some((end, _)) => format!("{}...", &hidden[..end]),
    }
}

/// As many whole words of `text` as are searched.
fn beginning(text: &str) -> &str {
    if text.len() <= MAX_BYTES {
        return text;
    }
    let cut = &text[..boundary(text, MAX_BYTES)];
    cut.rfind(char::is_whitespace).map_or(cut, |end| &cut[..end])
}

/// `text` with each word replaced that contains a part of `secret`.
fn hide(text: &str, secret: &str) -> String {
    let needles = Needles::of(secret);
    let mut found: Vec<(usize, usize)> = Vec::new();
    let Some(views) = views(View::of(text)) else { return REDACTED.to_owned() };
    for view in views {
        needles.find(&view, &mut found);
        if secret.len() >= SHORTEST_ENCODED {
            for decoded in base64(&view) {
                needles.find(&decoded, &mut found);
            }
            needles.find_hexadecimal(&view, &mut found);
        }
    }
    for range in &mut found {
        *range = words(text, *range);
    }
    found.sort_unstable();
    let mut shown = String::with_capacity(text.len());
    let mut end = 0;
    for (from, to) in found {
        if from >= end {
            shown.push_str(&text[end..from]);
            shown.push_str(REDACTED);
        }
        end = end.max(to);
    }
    shown.push_str(&text[end..]);
    shown
}

/// The view itself and what its escapes stand for, in each order in which they may be nested;
/// `None` if that is too much to be searched.
fn views(text: View) -> Option<Vec<View>> {
    let mut viewed = text.bytes.len();
    let mut views = vec![text];
    let mut from = 0;
    for _ in 0..DEPTH {
        let end = views.len();
        for at in from..end {
            for decode in ESCAPES {
                if let Some(decoded) = decode(&views[at])
                    && views.iter().all(|known| known.bytes != decoded.bytes)
                {
                    viewed += decoded.bytes.len();
                    if viewed > MAX_VIEWED_BYTES {
                        return None;
                    }
                    views.push(decoded);
                }
            }
        }
        from = end;
    }
    Some(views)
}

/// The whole words that the bytes of `range` belong to, without the punctuation around them.
fn words(text: &str, (from, to): (usize, usize)) -> (usize, usize) {
    let (from, to) = (boundary(text, from), boundary(text, to));
    // A space that stands for a plus sign at either end belongs to no word.
    let found = &text[from..to];
    let to = from + found.trim_end().len();
    let from = to - text[from..to].trim_start().len();
    let (before, after) = (&text[..from], &text[to..]);
    let before = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let after = after.split(char::is_whitespace).next().unwrap_or_default();
    (from - before.trim_start_matches(AROUND).len(), to + after.trim_end_matches(AROUND).len())
}

/// The last boundary of a character at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// The parts of a secret that are searched for.
struct Needles {
    length: usize,
    runs: HashSet<Box<[u8]>>,
}

impl Needles {
    fn of(secret: &str) -> Self {
        let length = RUN.min(secret.len());
        let mut runs = HashSet::new();
        // A server may echo what the secret itself stands for.
        let view = View::of(secret);
        for view in views(view.clone()).unwrap_or_else(|| vec![view]) {
            let bytes: Vec<u8> = view.bytes.iter().map(|byte| fold(*byte)).collect();
            if length > 0 {
                runs.extend(bytes.windows(length).map(Into::into));
            }
        }
        Self { length, runs }
    }

    /// Adds to `found` the ranges of the text that contain a run of the secret.
    fn find(&self, view: &View, found: &mut Vec<(usize, usize)>) {
        if self.length == 0 {
            return;
        }
        let bytes: Vec<u8> = view.bytes.iter().map(|byte| fold(*byte)).collect();
        for (at, window) in bytes.windows(self.length).enumerate() {
            if self.runs.contains(window) {
                add(view.range(at, self.length), found);
            }
        }
    }

    /// The same for runs that are written in hexadecimal digits, wherever these begin.
    fn find_hexadecimal(&self, view: &View, found: &mut Vec<(usize, usize)>) {
        for at in 0..view.bytes.len() {
            let Some((bytes, width)) = hexadecimal(&view.bytes[at..], self.length) else {
                continue;
            };
            let bytes: Vec<u8> = bytes.into_iter().map(fold).collect();
            if self.runs.contains(&*bytes) {
                add(view.range(at, width), found);
            }
        }
    }
}

/// Adds a range, to the last one if that reaches so far.
fn add(range: (usize, usize), found: &mut Vec<(usize, usize)>) {
    match found.last_mut() {
        Some(last) if last.0 <= range.0 && range.0 <= last.1 => last.1 = last.1.max(range.1),
        _ => found.push(range),
    }
}

/// What a byte is compared as: in either letter case, and a plus sign as the space that it
/// stands for in a query.
const fn fold(byte: u8) -> u8 {
    match byte {
        b'+' | b'\t' => b' ',
        _ => byte.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

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
        for between in ["\u{0}", "\u{200b}", "\u{ad}", "\u{202e}", "%E2%80%8B", "&shy;", "\\u200b"]
        {
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
            assert_eq!(clean(&text, "56STUVWX"), "no [redacted] here", "{text}");
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
                .map(
                    |c| {
                        if c.is_alphanumeric() { c.to_string() } else { format!("&#{};", c as u32) }
                    },
                )
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
        fn any_text_is_cleaned_in_time(text in "\\PC{0,300}", secret in "\\PC{1,40}") {
            clean(&text, &secret);
        }
    }

    #[test]
    fn text_with_escapes_of_every_kind_within_each_other_is_redacted_whole() {
        let text = "%25252541\\u005cu0026amp;amp;%5cu0025&#37;41 ".repeat(400);
        let secret: String = (0..4096_u32).map(|n| char::from(b'!' + (n * 7 % 94) as u8)).collect();
        assert_eq!(clean(&text, &secret), REDACTED);
    }

    #[test]
    fn a_secret_of_4096_characters_is_hidden_in_a_text_of_64_kib() {
        let secret: String = (0..4096_u32).map(|n| char::from(b'!' + (n * 7 % 94) as u8)).collect();
        for text in [secret.repeat(16), secret.replace('%', "%25").repeat(10)] {
            assert_eq!(clean(&text, &secret).replace(REDACTED, ""), "");
        }
    }
}
