//! Redacts secrets from the text of a server, before it is logged or passed on.
//!
//! No run of 8 characters of a secret that was sent gets through: as it was sent, in another letter
//! case, percent-encoded, escaped, as HTML entities, in Base64 or in hexadecimal digits.
//!
//! Redaction fails safe. Only words whose escapes have exactly one reading are searched and shown.
//! Each other word is redacted whole, whatever it contains (see [`readings`]). So a decoder must be
//! right for uniform escapes only, and a new way to nest or break escapes needs no new code.
//!
//! This is for secrets that are known. Texts that only look like one are masked by `secret::shape`.

mod decode;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod properties;
mod readings;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use self::decode::{View, base64, hexadecimal};
use self::readings::{Readings, decoded_secrets};
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

/// Punctuation that stays when the word within it is redacted.
const AROUND: &[char] = &['.', ',', ';', ':', '!', '?', '(', ')', '[', ']', '<', '>', '"', '\''];

/// `text` on one line, without `secrets`, cut to a sentence's length.
pub(super) fn clean(text: &str, secrets: &[&str]) -> String {
    // Invisible characters go first: one within an echoed secret would hide it from the search.
    let text: String =
        text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(MAX_BYTES).collect();
    let text = beginning(&text).to_owned();
    let hidden = secrets.iter().fold(text, |text, secret| hide(&text, secret));
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

/// `text` with each word replaced that contains a part of `secret`, or may contain one.
fn hide(text: &str, secret: &str) -> String {
    if secret.is_empty() {
        return text.to_owned();
    }
    let Some(readings) = Readings::of(text, secret) else { return REDACTED.to_owned() };
    let needles = Needles::of(secret);
    let mut found = readings.ambiguous;
    for view in &readings.views {
        needles.find(view, &mut found);
        if secret.len() >= SHORTEST_ENCODED {
            for decoded in base64(view, secret.is_ascii()) {
                needles.find(&decoded, &mut found);
            }
            needles.find_hexadecimal(view, &mut found);
        }
    }
    replace(text, found)
}

/// `text` with [`REDACTED`] for the words that each range belongs to.
fn replace(text: &str, mut found: Vec<(usize, usize)>) -> String {
    // Sorted and joined first, so that a word with many ranges is looked up once.
    found.sort_unstable();
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for range in found {
        add(range, &mut joined);
    }
    let mut shown = String::with_capacity(text.len());
    let mut end = 0;
    for range in joined {
        if range.1 <= end {
            continue;
        }
        let (from, to) = words(text, range);
        if from >= end {
            shown.push_str(&text[end..from]);
            shown.push_str(REDACTED);
        }
        end = end.max(to);
    }
    shown.push_str(&text[end..]);
    shown
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

/// The parts of a secret that are searched for, each packed into a number.
struct Needles {
    length: usize,
    runs: HashSet<u64>,
}

impl Needles {
    fn of(secret: &str) -> Self {
        let visible: String = secret.chars().filter(|c| !is_invisible(*c)).collect();
        let visible = if visible.is_empty() { secret.to_owned() } else { visible };
        let length = RUN.min(visible.len());
        // A secret may be echoed with or without its invisible characters, and decoded.
        let mut forms = decoded_secrets(secret);
        forms.push(visible.into_bytes());
        let mut needles = Self { length, runs: HashSet::new() };
        for form in forms {
            let runs: Vec<u64> = needles.windows(&form).map(|(_, run)| run).collect();
            needles.runs.extend(runs);
        }
        needles
    }

    /// Each window of a needle's length: where it begins, and what it is packed into.
    fn windows(&self, bytes: &[u8]) -> impl Iterator<Item = (usize, u64)> {
        let length = self.length;
        let mask = u64::MAX >> (64 - 8 * length);
        let packed = bytes.iter().scan(0, move |packed, byte| {
            *packed = (*packed << 8 | u64::from(fold(*byte))) & mask;
            Some(*packed)
        });
        packed.skip(length - 1).enumerate()
    }

    /// Adds to `found` the ranges of the text that contain a run of the secret.
    fn find(&self, view: &View, found: &mut Vec<(usize, usize)>) {
        for (at, run) in self.windows(&view.bytes) {
            if self.runs.contains(&run) {
                add(view.range(at, self.length), found);
            }
        }
    }

    /// The same for runs that are written in hexadecimal digits, wherever these begin.
    fn find_hexadecimal(&self, view: &View, found: &mut Vec<(usize, usize)>) {
        for at in 0..view.bytes.len() {
            let mut bytes = [0; RUN];
            let bytes = &mut bytes[..self.length];
            let Some(width) = hexadecimal(&view.bytes[at..], bytes) else { continue };
            if self.windows(bytes).any(|(_, run)| self.runs.contains(&run)) {
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
