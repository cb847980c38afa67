//! Decoders for the forms in which a server may echo what it was sent: percent-encoding, string
//! escapes, HTML entities, Base64 and hexadecimal digits.
//!
//! Each decoder keeps, for every decoded byte, the range of the original text that it came from.

use crate::secret::is_invisible;

/// Bytes read from a text, each with the range of the text that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    /// The range of each byte: first and one past the last.
    pub(super) ranges: Vec<(usize, usize)>,
}

/// A decoder of text: another view, or `None` if it changes nothing.
pub(super) type Decoder = fn(&View) -> Option<View>;

/// The decoders whose results may need decoding again.
pub(super) const ESCAPES: [Decoder; 6] =
    [percent, string, letters, entities, closed_entities, every_escape];

impl View {
    /// The text itself.
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let ranges = (0..bytes.len()).map(|at| (at, at + 1)).collect();
        Self { bytes, ranges }.without_invisible()
    }

    const fn new() -> Self {
        Self { bytes: Vec::new(), ranges: Vec::new() }
    }

    fn push(&mut self, byte: u8, range: (usize, usize)) {
        self.bytes.push(byte);
        self.ranges.push(range);
    }

    fn push_char(&mut self, c: char, range: (usize, usize)) {
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            self.push(byte, range);
        }
    }

    /// The range of the text that `count` bytes from `at` on stand for.
    pub(super) fn range(&self, at: usize, count: usize) -> (usize, usize) {
        (self.ranges[at].0, self.ranges[at + count - 1].1)
    }

    /// The same without invisible characters, and without replacement characters, which
    /// stand for bytes that are lost.
    fn without_invisible(self) -> Self {
        let invisible = |c: char| c.is_control() || is_invisible(c) || c == '\u{fffd}';
        if self.bytes.is_ascii() && !self.bytes.iter().any(u8::is_ascii_control) {
            return self;
        }
        let mut visible = Self::new();
        let mut at = 0;
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                let end = at + c.len_utf8();
                if !invisible(c) {
                    visible.bytes.extend_from_slice(&self.bytes[at..end]);
                    visible.ranges.extend_from_slice(&self.ranges[at..end]);
                }
                at = end;
            }
            // Not UTF-8: it may be a part of a text in another encoding.
            let end = at + chunk.invalid().len();
            visible.bytes.extend_from_slice(&self.bytes[at..end]);
            visible.ranges.extend_from_slice(&self.ranges[at..end]);
            at = end;
        }
        visible
    }
}

/// Reads escapes where `escape` finds one: what it stands for, and how many bytes it takes.
fn unescape(view: &View, escape: impl Fn(&[u8]) -> Option<(Escaped, usize)>) -> Option<View> {
    let mut decoded = View::new();
    let (mut at, mut found) = (0, false);
    while at < view.bytes.len() {
        let Some((escaped, width)) = escape(&view.bytes[at..]) else {
            decoded.push(view.bytes[at], view.ranges[at]);
            at += 1;
            continue;
        };
        let range = view.range(at, width);
        match escaped {
            Escaped::Byte(byte) => decoded.push(byte, range),
            Escaped::Char(c) => decoded.push_char(c, range),
            Escaped::Nothing => {}
        }
        (at, found) = (at + width, true);
    }
    found.then(|| decoded.without_invisible())
}

/// What an escape stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escaped {
    Byte(u8),
    Char(char),
    /// An invisible character.
    Nothing,
}

fn percent(view: &View) -> Option<View> {
    unescape(view, percent_escape)
}

fn string(view: &View) -> Option<View> {
    unescape(view, string_escape)
}

/// As [`string`], where a backslash in front of a letter belongs to the text before it: what would
/// be `\b` or `\n` may be the first character of an echo.
fn letters(view: &View) -> Option<View> {
    let is_control = |bytes: &[u8]| matches!(bytes, [b'\\', b'b' | b'f' | b'n' | b'r' | b't', ..]);
    if !view.bytes.windows(2).any(is_control) {
        return None;
    }
    unescape(view, |bytes| match bytes {
        [b'\\', letter, ..] if is_control(bytes) => Some((Escaped::Byte(*letter), 2)),
        _ => string_escape(bytes),
    })
}

fn entities(view: &View) -> Option<View> {
    unescape(view, entity)
}

/// As [`entities`], where each must end in a semicolon: what would be one without it may be the
/// first characters of an echo.
fn closed_entities(view: &View) -> Option<View> {
    let closed = |bytes: &[u8]| entity(bytes).filter(|(_, width)| bytes[width - 1] == b';');
    let has_open = |at| entity(&view.bytes[at..]).is_some() && closed(&view.bytes[at..]).is_none();
    if !(0..view.bytes.len()).any(has_open) {
        return None;
    }
    unescape(view, closed)
}

fn every_escape(view: &View) -> Option<View> {
    unescape(view, |bytes| {
        percent_escape(bytes).or_else(|| string_escape(bytes)).or_else(|| entity(bytes))
    })
}

/// `%XX`.
fn percent_escape(bytes: &[u8]) -> Option<(Escaped, usize)> {
    let [b'%', high, low, ..] = bytes else { return None };
    Some((Escaped::Byte(digit(*high)? << 4 | digit(*low)?), 3))
}

/// An escape as JSON and programming languages write it in a string.
fn string_escape(bytes: &[u8]) -> Option<(Escaped, usize)> {
    let [b'\\', kind, rest @ ..] = bytes else { return None };
    match kind {
        b'u' => {
            let first = hex(rest.get(..4)?)?;
            let pair = matches!(first, 0xd800..=0xdbff)
                && rest.get(4..6) == Some(b"\\u")
                && rest.get(6..10).and_then(hex).is_some_and(|low| (0xdc00..0xe000).contains(&low));
            if pair {
                let low = rest.get(6..10).and_then(hex)?;
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00);
                return Some((Escaped::Char(char::from_u32(code)?), 12));
            }
            Some((char::from_u32(first).map_or(Escaped::Nothing, Escaped::Char), 6))
        }
        b'x' => Some((Escaped::Byte(u8::try_from(hex(rest.get(..2)?)?).ok()?), 4)),
        b'b' | b'f' | b'n' | b'r' | b't' => Some((Escaped::Nothing, 2)),
        other if other.is_ascii_punctuation() => Some((Escaped::Byte(*other), 2)),
        _ => None,
    }
}

/// An HTML entity, with or without its semicolon.
fn entity(bytes: &[u8]) -> Option<(Escaped, usize)> {
    let rest = bytes.strip_prefix(b"&")?;
    let (escaped, width) = match rest {
        [b'#', b'x' | b'X', digits @ ..] => {
            let count = run(digits, u8::is_ascii_hexdigit);
            (code_point(digits.get(..count)?, 16)?, count + 2)
        }
        [b'#', digits @ ..] => {
            let count = run(digits, u8::is_ascii_digit);
            (code_point(digits.get(..count)?, 10)?, count + 1)
        }
        _ => {
            let count = run(rest, u8::is_ascii_alphanumeric);
            // A name without a semicolon may be followed by letters.
            let names = (2..=count).rev().filter_map(|count| Some((rest.get(..count)?, count)));
            let semicolon = rest.get(count) == Some(&b';');
            names
                .filter(|(_, length)| semicolon && *length == count || *length <= 4)
                .find_map(|(name, length)| Some((named(name)?, length)))?
        }
    };
    let semicolon = usize::from(rest.get(width) == Some(&b';'));
    Some((escaped, 1 + width + semicolon))
}

fn run(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take(16).take_while(|byte| belongs(byte)).count()
}

fn code_point(digits: &[u8], radix: u32) -> Option<Escaped> {
    let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?;
    Some(char::from_u32(code).map_or(Escaped::Nothing, Escaped::Char))
}

/// The names of HTML for ASCII punctuation and for invisible characters.
fn named(name: &[u8]) -> Option<Escaped> {
    let c = match name {
        b"quot" | b"QUOT" => '"',
        b"amp" | b"AMP" => '&',
        b"lt" | b"LT" => '<',
        b"gt" | b"GT" => '>',
        b"apos" => '\'',
        b"nbsp" => ' ',
        b"excl" => '!',
        b"num" => '#',
        b"dollar" => '$',
        b"percnt" => '%',
        b"lpar" => '(',
        b"rpar" => ')',
        b"ast" | b"midast" => '*',
        b"plus" => '+',
        b"comma" => ',',
        b"period" => '.',
        b"sol" => '/',
        b"colon" => ':',
        b"semi" => ';',
        b"equals" => '=',
        b"quest" => '?',
        b"commat" => '@',
        b"lsqb" | b"lbrack" => '[',
        b"bsol" => '\\',
        b"rsqb" | b"rbrack" => ']',
        b"Hat" => '^',
        b"lowbar" | b"UnderBar" => '_',
        b"grave" | b"DiacriticalGrave" => '`',
        b"lcub" | b"lbrace" => '{',
        b"verbar" | b"vert" | b"VerticalLine" => '|',
        b"rcub" | b"rbrace" => '}',
        b"hyphen" | b"dash" => '-',
        b"Tab" | b"NewLine" | b"shy" | b"zwnj" | b"zwj" | b"lrm" | b"rlm" | b"ZeroWidthSpace"
        | b"NoBreak" => return Some(Escaped::Nothing),
        _ => return None,
    };
    Some(Escaped::Char(c))
}

/// The runs of Base64 in a view, decoded from each of the four places where a group may begin.
pub(super) fn base64(view: &View) -> Vec<View> {
    (0..4).map(|skip| base64_from(view, skip)).collect()
}

fn base64_from(view: &View, skip: usize) -> View {
    let mut decoded = View::new();
    let mut at = 0;
    while at < view.bytes.len() {
        let length = view.bytes[at..].iter().take_while(|byte| sextet(**byte).is_some()).count();
        let mut group = at + skip.min(length);
        let end = at + length;
        while group < end {
            let count = (end - group).min(4);
            let bits = view.bytes[group..group + count]
                .iter()
                .filter_map(|byte| sextet(*byte))
                .fold(0_u32, |bits, sextet| bits << 6 | u32::from(sextet));
            let [_, bytes @ ..] = (bits << (6 * (4 - count))).to_be_bytes();
            let range = view.range(group, count);
            for byte in &bytes[..count.saturating_sub(1)] {
                decoded.push(*byte, range);
            }
            group += count;
        }
        at = end;
        if at < view.bytes.len() {
            // Keeps apart what two runs stand for.
            decoded.push(0, view.ranges[at]);
            at += 1;
        }
    }
    decoded
}

/// What a digit of Base64 stands for, in either alphabet.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// The `count` bytes that the hexadecimal digits at the beginning of `text` stand for, and how many
/// bytes of it they take. Between two of them may stand what separates them where they are listed
/// (`41:42`, `0x41, 0x42`, `\x41\x42`).
pub(super) fn hexadecimal(text: &[u8], count: usize) -> Option<(Vec<u8>, usize)> {
    let mut rest = text;
    let mut decoded = Vec::with_capacity(count);
    while decoded.len() < count {
        if !decoded.is_empty() {
            let at = rest.iter().take(MOST_BETWEEN).take_while(|byte| separates(**byte)).count();
            rest = &rest[at..];
            // A zero is a digit too: it separates in front of an `x` only.
            rest = rest.strip_prefix(b"0x").or(rest.strip_prefix(b"0X")).unwrap_or(rest);
        }
        let [high, low, after @ ..] = rest else { return None };
        decoded.push(digit(*high)? << 4 | digit(*low)?);
        rest = after;
    }
    Some((decoded, text.len() - rest.len()))
}

/// The most signs that separate two bytes.
const MOST_BETWEEN: usize = 2;

const fn separates(byte: u8) -> bool {
    matches!(byte, b':' | b'-' | b' ' | b',' | b'.' | b'_' | b'\\' | b'x' | b'X')
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, byte| Some(value << 4 | u32::from(digit(*byte)?)))
}
