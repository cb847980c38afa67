//! The readings of a text: what a person or a program may take it for after decoding its escapes.
//!
//! A word is *ambiguous* if its escapes can be read in several ways:
//!
//! - It has escapes of two kinds.
//! - What its escapes stand for contains an escape again.
//! - It has an escape, and the secret itself contains `%`, `\`, `&` or a character outside ASCII.
//!
//! Ambiguous words are redacted, so their readings need not be known. For every other word, these
//! readings are complete:
//!
//! - The text itself.
//! - The text with each escape decoded.
//! - What follows the first sign of an escape, taken literally, and then decoded text. The sign may
//!   belong to the text before the echo: a stray `\` in front of `u0041`, or an entity that is none.
//!
//! Others do not matter: an escape that is taken literally contains `%`, `\` or `&`, the secret
//! does not, and so a run of the secret can only begin behind that sign.

use super::decode::{Escape, Kind, View, begins_escape};
use super::{AROUND, MAX_BYTES};

/// The bytes that are read on from within an escape: more than 8 bytes of a secret take in any
/// form. In hexadecimal digits (`0x41, 0x42`), they take 46.
const REACH: usize = 48;

/// The most bytes that are read from within all escapes of a text together. A text with more
/// escapes is no explanation, and searching it would delay the checks.
const MAX_FRAGMENTS: usize = 12 * MAX_BYTES;

/// The replacement character.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// How often a secret itself is decoded: a server may echo what it stands for.
const SECRET_DEPTH: usize = 2;

/// The readings of a text.
pub(super) struct Readings {
    /// What is to be searched.
    pub(super) views: Vec<View>,
    /// The ranges of the ambiguous words, without the punctuation around them.
    pub(super) ambiguous: Vec<(usize, usize)>,
}

impl Readings {
    /// The readings of `text` in which `secret` is to be searched for; `None` if they are too many.
    pub(super) fn of(text: &str, secret: &str) -> Option<Self> {
        let escapes_in_doubt = !secret.is_ascii() || secret.bytes().any(begins_escape);
        let mut ambiguous = Vec::new();
        let text_view = View::of(text);
        let mut decoded = Decoded::default();
        for (from, to) in split(text) {
            let word = Decoded::of(&text_view, from, to);
            if word.kinds.is_empty() || !escapes_in_doubt && word.is_certain() {
                decoded.append(word);
            } else {
                let start = to - text[from..to].trim_start_matches(AROUND).len();
                let end = start + text[start..to].trim_end_matches(AROUND).len();
                ambiguous.push((start, end));
                decoded.append(Decoded::of(&text_view, from, start));
                decoded.view.push(0, (start, end));
                decoded.append(Decoded::of(&text_view, end, to));
            }
        }
        let fragments = decoded.fragments(text)?;
        let raw = without_replacements(text);
        let views = if escapes_in_doubt { vec![raw] } else { vec![raw, decoded.view, fragments] };
        Some(Self { views, ambiguous })
    }
}

/// The ranges of the words of `text` and of the white space between them.
fn split(text: &str) -> Vec<(usize, usize)> {
    let mut from = 0;
    let mut parts = Vec::new();
    for part in text.split_inclusive(char::is_whitespace) {
        let word = part.trim_end_matches(char::is_whitespace).len();
        let end = from + part.len();
        parts.extend([(from, from + word), (from + word, end)].iter().filter(|(a, b)| a < b));
        from = end;
    }
    parts
}

/// `text` without replacement characters: they stand for bytes that are lost.
fn without_replacements(text: &str) -> View {
    let mut view = View::default();
    for (at, c) in text.char_indices().filter(|(_, c)| *c != char::REPLACEMENT_CHARACTER) {
        let end = at + c.len_utf8();
        text.as_bytes()[at..end].iter().for_each(|byte| view.push(*byte, (at, end)));
    }
    view
}

/// A text with its escapes decoded. What escapes stand for outside printable ASCII is left out.
#[derive(Default)]
struct Decoded {
    view: View,
    kinds: Vec<Kind>,
    tokens: Vec<Token>,
}

/// A decoded escape.
struct Token {
    /// Its range in the text.
    range: (usize, usize),
    /// Where the decoded text continues after it.
    next: usize,
}

impl Decoded {
    /// The bytes of `raw` in the given range, decoded.
    fn of(raw: &View, from: usize, to: usize) -> Self {
        let mut decoded = Self::default();
        let bytes = &raw.bytes[..to];
        let mut at = from;
        while at < to {
            let (byte, width) = match Escape::at(&bytes[at..]) {
                None if bytes[at..].starts_with(REPLACEMENT) => (None, REPLACEMENT.len()),
                None => (Some(bytes[at]), 1),
                Some(Escape { kind, byte, width }) => {
                    if !decoded.kinds.contains(&kind) {
                        decoded.kinds.push(kind);
                    }
                    let next = decoded.view.bytes.len() + usize::from(byte.is_some());
                    // An escaped sign reads the same from within (`\"`).
                    if byte.as_slice() != &bytes[at + 1..at + width] {
                        decoded.tokens.push(Token { range: (at, at + width), next });
                    }
                    (byte, width)
                }
            };
            if let Some(byte) = byte {
                decoded.view.push(byte, raw.range(at, width));
            }
            at += width;
        }
        decoded
    }

    /// Whether the escapes have one reading only.
    fn is_certain(&self) -> bool {
        let bytes = &self.view.bytes;
        self.kinds.len() < 2 && (0..bytes.len()).all(|at| Escape::at(&bytes[at..]).is_none())
    }

    fn append(&mut self, other: Self) {
        let shift = self.view.bytes.len();
        self.view.extend(&other.view, 0..other.view.bytes.len());
        let shifted = |token: Token| Token { next: token.next + shift, ..token };
        self.tokens.extend(other.tokens.into_iter().map(shifted));
    }

    /// What can be read from within the escapes on; `None` if that is too much.
    fn fragments(&self, text: &str) -> Option<View> {
        let mut fragments = View::default();
        for token in &self.tokens {
            let (from, to) = token.range;
            for at in (from + 1).max(to.saturating_sub(REACH))..to {
                fragments.push(text.as_bytes()[at], (at, at + 1));
            }
            let end = self.view.bytes.len().min(token.next + REACH);
            fragments.extend(&self.view, token.next..end);
            // Keeps apart what is read from two escapes.
            fragments.push(0, token.range);
            if fragments.bytes.len() > MAX_FRAGMENTS {
                return None;
            }
        }
        Some(fragments)
    }
}

/// The secret itself and what it stands for if it looks encoded.
pub(super) fn decoded_secrets(secret: &str) -> Vec<Vec<u8>> {
    let mut all = vec![View::of(secret)];
    let mut from = 0;
    for _ in 0..SECRET_DEPTH {
        let end = all.len();
        for at in from..end {
            let decoded = Decoded::of(&all[at], 0, all[at].bytes.len());
            if !decoded.kinds.is_empty() && !decoded.view.bytes.is_empty() {
                all.push(decoded.view);
            }
        }
        from = end;
    }
    all.into_iter().map(|view| view.bytes).collect()
}
