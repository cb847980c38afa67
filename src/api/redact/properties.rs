//! The property of redaction, for arbitrary input. See `crate::fuzzing`.
//!
//! The encoders and decoders here are written apart from those of the redaction, so that neither
//! shares a mistake of the other.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::{REDACTED, RUN, clean, fold};
use crate::secret::is_invisible;

const ALPHABETS: [&[u8]; 5] = [
    b"0123456789abcdef",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"abcdefghijklmnopqrstuvwxyz0123456789.",
    b"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~",
];

/// The most escapes within escapes.
const DEPTH: usize = 3;

/// For every `input`, read as a secret, a part of it, the forms in which a server writes that part,
/// and the text around it: no run of the secret survives in the redacted text.
///
/// A *run* is 8 characters of the secret in a row, in either letter case, with spaces for plus
/// signs. Eight times the same character is no run: a line of dashes is no secret.
///
/// A run *survives* if it is in a reading of what the server's text was left to be, between the
/// marks of the redaction. A reading is what percent-decoding, JSON and HTML unescaping make of the
/// text in any order, up to three in all, and then decoding Base64 or hexadecimal digits or not.
/// Reading begins anywhere, also within an escape. Invisible characters are ignored.
pub(in crate::api) fn property(input: &[u8]) {
    let mut input = Choices(input);
    let secret = input.secret();
    let echo = input.echo(&secret);
    let (before, after) = input.surroundings();
    let text = format!("{before}{echo}{after}");
    let cleaned = clean(&text, &[&secret]);
    let found = readable_run(&cleaned, &secret);
    assert!(found.is_none(), "{found:?} of {secret:?} in {cleaned:?}, which was {text:?}");
    assert!(cleaned.chars().count() <= 203, "{cleaned:?} is longer than a sentence");
    if echo == secret && before.len() + after.len() < 150 {
        assert!(cleaned.contains(REDACTED), "{text:?} has become {cleaned:?}");
    }
}

/// Arbitrary bytes as choices; behind their end every choice is the first one.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn secret(&mut self) -> String {
        let alphabet = ALPHABETS[self.below(ALPHABETS.len())];
        let length = RUN + self.below(57);
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }

    /// A part of the secret, in Base64 or the like, in up to three kinds of escapes.
    fn echo(&mut self, secret: &str) -> String {
        let from = self.below(secret.len() - RUN + 1);
        let to = from + RUN + self.below(secret.len() - from - RUN + 1);
        let part = &secret[from..to];
        let mut echo = match self.below(8) {
            0..3 => part.to_owned(),
            3 => part.to_ascii_uppercase(),
            4 => STANDARD.encode(part),
            5 => URL_SAFE_NO_PAD.encode(part),
            6 => part.bytes().fold(String::new(), |all, byte| format!("{all}{byte:02x}")),
            _ => {
                let separator = [":", "-", " "][self.below(3)];
                let pairs: Vec<_> = part.bytes().map(|byte| format!("{byte:02X}")).collect();
                pairs.join(separator)
            }
        };
        let depth = match self.byte() {
            255 => DEPTH,
            choice => usize::from(choice) % DEPTH,
        };
        for _ in 0..depth {
            echo = match self.below(5) {
                0 => self.percent(&echo),
                1 => self.percent(&echo).replace("%20", "+"),
                2 => self.json(&echo),
                3 => self.html(&echo),
                _ => echo.replace('+', " "),
            };
        }
        if self.flag() {
            let invisible = ['\u{200b}', '\u{ad}', '\u{2060}', '\u{0}'][self.below(4)];
            let with = |c: char| if self.flag() { vec![c, invisible] } else { vec![c] };
            echo = echo.chars().flat_map(with).collect();
        }
        echo
    }

    fn percent(&mut self, text: &str) -> String {
        text.bytes().fold(String::new(), |all, byte| match byte {
            b'%' | b'&' | b'+' => format!("{all}%{byte:02X}"),
            _ if !byte.is_ascii() || self.flag() => format!("{all}%{byte:02x}"),
            _ => all + &char::from(byte).to_string(),
        })
    }

    fn json(&mut self, text: &str) -> String {
        text.chars().fold(String::new(), |all, c| match (c, self.below(4)) {
            (_, 0) => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .fold(all, |all, unit| format!("{all}\\u{unit:04x}")),
            ('"' | '\\', _) | ('/', 1) => format!("{all}\\{c}"),
            _ => all + &c.to_string(),
        })
    }

    fn html(&mut self, text: &str) -> String {
        text.chars().fold(String::new(), |all, c| match (c, self.below(4)) {
            (_, 0) => format!("{all}&#{};", u32::from(c)),
            (_, 1) => format!("{all}&#x{:X};", u32::from(c)),
            ('&', _) => all + "&amp;",
            ('<', _) => all + "&lt;",
            ('>', _) => all + "&gt;",
            ('"', _) => all + "&quot;",
            ('\'', 2) => all + "&#39;",
            ('/', 2) => all + "&sol;",
            ('+', 2) => all + "&plus;",
            _ => all + &c.to_string(),
        })
    }

    /// What is left of the input, in two parts.
    fn surroundings(&mut self) -> (String, String) {
        let end = self.below(64).min(self.0.len());
        let (before, after) = self.0.split_at(end);
        (String::from_utf8_lossy(before).into_owned(), String::from_utf8_lossy(after).into_owned())
    }
}

/// The runs of a secret.
fn runs(secret: &str) -> HashSet<Vec<u8>> {
    let folded: Vec<u8> = secret.bytes().map(fold).collect();
    let runs = folded.windows(RUN).filter(|run| run.iter().any(|byte| *byte != run[0]));
    runs.map(<[u8]>::to_vec).collect()
}

/// A run of the secret that survives in `cleaned`, in any of the forms.
fn readable_run(cleaned: &str, secret: &str) -> Option<String> {
    let runs = runs(secret);
    // What the redaction itself has written is not the server's.
    let cleaned = match cleaned.strip_suffix("...") {
        Some(cut) if cleaned.chars().count() > 200 => cut,
        _ => cleaned,
    };
    cleaned.split(REDACTED).find_map(|left| run_in(left.as_bytes(), &runs))
}

/// A run in any reading of `text`.
fn run_in(text: &[u8], runs: &HashSet<Vec<u8>>) -> Option<String> {
    let mut texts = vec![visible(text)];
    let mut from = 0;
    for _ in 0..DEPTH {
        let end = texts.len();
        for at in from..end {
            for decode in [from_percent, from_json, from_html] {
                let decoded = visible(&decode(&texts[at]));
                if !texts.contains(&decoded) {
                    texts.push(decoded);
                }
                for rest in within_escapes(&texts[at], decode) {
                    if !texts.contains(&rest) {
                        texts.push(rest);
                    }
                }
            }
        }
        from = end;
    }
    let encoded: Vec<_> =
        texts.iter().flat_map(|text| [from_base64(text), from_hex(text)]).collect();
    let all = texts.into_iter().chain(encoded.into_iter().flatten());
    for text in all {
        let folded: Vec<u8> = visible(&text).iter().map(|byte| fold(*byte)).collect();
        if let Some(run) = folded.windows(RUN).find(|window| runs.contains(*window)) {
            return Some(String::from_utf8_lossy(run).into_owned());
        }
    }
    None
}

/// What is read from behind the first sign of an escape on: of each of the first few escapes, so
/// that a text of nothing else is read in time.
fn within_escapes(text: &[u8], decode: fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    const MOST: usize = 4;
    const REACH: usize = 64;
    (0..text.len())
        .filter(|at| b"%\\&".contains(&text[*at]))
        .map(|at| &text[at..text.len().min(at + REACH)])
        .filter(|rest| decode(rest) != *rest)
        .take(MOST)
        .map(|rest| visible(&decode(&rest[1..])))
        .collect()
}

fn visible(text: &[u8]) -> Vec<u8> {
    let is_shown = |c: &char| !c.is_control() && !is_invisible(*c);
    let mut shown = Vec::new();
    for chunk in text.utf8_chunks() {
        shown.extend(chunk.valid().chars().filter(is_shown).collect::<String>().into_bytes());
        shown.extend_from_slice(chunk.invalid());
    }
    shown
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    // A sign in front of them is none of the digits.
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u32::from_str_radix(digits, radix).ok()
}

fn from_percent(mut text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let Some(first) = text.split_off_first() {
        let digits = text.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        match digits.and_then(|digits| number(digits, 16)).filter(|_| *first == b'%') {
            Some(byte) => {
                decoded.extend(u8::try_from(byte));
                text = &text[2..];
            }
            None => decoded.push(*first),
        }
    }
    decoded
}

fn from_json(mut text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let Some(first) = text.split_off_first() {
        match (first, text) {
            (b'\\', [b'u', digits @ ..])
                if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) =>
            {
                let c = number(&digits[..4], 16).and_then(char::from_u32).unwrap_or('\u{ad}');
                decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                text = &digits[4..];
            }
            (b'\\', [sign @ (b'"' | b'\\' | b'/'), rest @ ..]) => {
                decoded.push(*sign);
                text = rest;
            }
            _ => decoded.push(*first),
        }
    }
    decoded
}

fn from_html(mut text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let Some(first) = text.split_off_first() {
        let end = text.iter().take(8).position(|byte| *byte == b';');
        let name = end.map(|end| &text[..end]).filter(|_| *first == b'&').unwrap_or_default();
        let c = match name {
            b"amp" => Some('&'),
            b"lt" => Some('<'),
            b"gt" => Some('>'),
            b"quot" => Some('"'),
            b"sol" => Some('/'),
            b"plus" => Some('+'),
            [b'#', b'x', digits @ ..] => number(digits, 16).and_then(char::from_u32),
            [b'#', digits @ ..] => number(digits, 10).and_then(char::from_u32),
            _ => None,
        };
        match c {
            Some(c) => {
                decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                text = &text[name.len() + 1..];
            }
            None => decoded.push(*first),
        }
    }
    decoded
}

/// What every run of Base64 stands for, from each place where a group may begin.
fn from_base64(text: &[u8]) -> Vec<Vec<u8>> {
    let in_alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let mut decoded = Vec::new();
    for run in text.split(|byte| !in_alphabet(byte)).filter(|run| run.len() > RUN) {
        for from in 0..4 {
            let run: Vec<u8> = run[from..]
                .iter()
                .map(|byte| match byte {
                    b'+' => b'-',
                    b'/' => b'_',
                    other => *other,
                })
                .collect();
            let whole = &run[..run.len() - usize::from(run.len() % 4 == 1)];
            let engine = base64::engine::GeneralPurpose::new(
                &base64::alphabet::URL_SAFE,
                base64::engine::GeneralPurposeConfig::new()
                    .with_decode_allow_trailing_bits(true)
                    .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
            );
            decoded.extend(engine.decode(whole));
        }
    }
    decoded
}

/// What the pairs of hexadecimal digits stand for, those with a sign between them too.
fn from_hex(text: &[u8]) -> Vec<Vec<u8>> {
    let mut decoded = Vec::new();
    for from in 0..text.len() {
        let starts = from == 0 || !text[from - 1].is_ascii_hexdigit();
        let second = from == 1 || (from > 1 && !text[from - 2].is_ascii_hexdigit());
        if !starts && !second {
            continue;
        }
        for separated in [false, true] {
            let (mut bytes, mut rest) = (Vec::new(), &text[from..]);
            while let Some(pair) = rest.get(..2).filter(|p| p.iter().all(u8::is_ascii_hexdigit)) {
                bytes.extend(number(pair, 16).and_then(|byte| u8::try_from(byte).ok()));
                let sign =
                    usize::from(separated && rest.get(2).is_some_and(|c| b":- ".contains(c)));
                rest = &rest[2 + sign..];
            }
            if bytes.len() >= RUN {
                decoded.push(bytes);
            }
        }
    }
    decoded
}
