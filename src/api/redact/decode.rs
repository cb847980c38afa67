//! Decoders for the forms in which a server may echo what it was sent: percent-encoding, string
//! escapes, HTML entities, Base64 and hexadecimal digits.
//!
//! Each decoder keeps, for every decoded byte, the range of the original text that it came from.

/// Bytes read from a text, each with the range of the text that it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    /// The range of each byte: first and one past the last.
    pub(super) ranges: Vec<(usize, usize)>,
}

impl View {
    /// The text itself.
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let ranges = (0..bytes.len()).map(|at| (at, at + 1)).collect();
        Self { bytes, ranges }
    }

    pub(super) fn push(&mut self, byte: u8, range: (usize, usize)) {
        self.bytes.push(byte);
        self.ranges.push(range);
    }

    /// Adds the bytes of another view.
    pub(super) fn extend(&mut self, other: &Self, part: std::ops::Range<usize>) {
        self.bytes.extend_from_slice(&other.bytes[part.clone()]);
        self.ranges.extend_from_slice(&other.ranges[part]);
    }

    /// The range of the text that `count` bytes from `at` on stand for.
    pub(super) fn range(&self, at: usize, count: usize) -> (usize, usize) {
        (self.ranges[at].0, self.ranges[at + count - 1].1)
    }
}

/// Whether a byte is an ASCII character that is shown.
const fn is_printable(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

/// An escape at the beginning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Escape {
    pub(super) kind: Kind,
    /// The printable ASCII character that it stands for. `None` for every other one: no ASCII
    /// secret contains it, and it may be invisible.
    pub(super) byte: Option<u8>,
    /// The bytes that it takes, at least 2.
    pub(super) width: usize,
}

/// A kind of escapes. A word with two kinds has no certain reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Percent,
    String,
    Entity,
    /// An entity without its semicolon, which only some decoders read.
    OpenEntity,
}

impl Escape {
    /// The escape that `bytes` begin with, as the most lenient decoder reads it.
    pub(super) fn at(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? {
            b'%' => percent(bytes),
            b'\\' => string(bytes),
            b'&' => entity(bytes),
            _ => None,
        }
    }

    fn new(kind: Kind, code: u32, width: usize) -> Self {
        let byte = u8::try_from(code).ok().filter(|byte| is_printable(*byte));
        Self { kind, byte, width }
    }
}

/// Whether a byte begins escapes.
pub(super) const fn begins_escape(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'&')
}

/// `%XX`, or `%uXXXX`.
fn percent(bytes: &[u8]) -> Option<Escape> {
    match bytes {
        [_, b'u' | b'U', rest @ ..] => Some(Escape::new(Kind::Percent, hex(rest.get(..4)?)?, 6)),
        _ => Some(Escape::new(Kind::Percent, hex(bytes.get(1..3)?)?, 3)),
    }
}

/// An escape as JSON and programming languages write it in a string.
fn string(bytes: &[u8]) -> Option<Escape> {
    let [_, kind, rest @ ..] = bytes else { return None };
    let (code, width) = match kind {
        b'u' if rest.first() == Some(&b'{') => {
            let count = run(&rest[1..], u8::is_ascii_hexdigit);
            rest.get(1 + count).filter(|end| **end == b'}' && count > 0)?;
            // A number that is too large is no character.
            (hex(&rest[1..=count]).unwrap_or_default(), 4 + count)
        }
        b'u' => (hex(rest.get(..4)?)?, 6),
        b'U' => (hex(rest.get(..8)?)?, 10),
        b'x' => (hex(rest.get(..2)?)?, 4),
        b'0'..=b'3' => {
            let digits = std::str::from_utf8(bytes.get(1..4)?).ok()?;
            (u32::from_str_radix(digits, 8).ok()?, 4)
        }
        b'b' | b'f' | b'n' | b'r' | b't' => (0, 2),
        other if other.is_ascii_punctuation() => (u32::from(*other), 2),
        _ => return None,
    };
    Some(Escape::new(Kind::String, code, width))
}

/// An HTML entity. One of an unknown name stands for no ASCII character.
fn entity(bytes: &[u8]) -> Option<Escape> {
    let rest = &bytes[1..];
    let (code, width) = match rest {
        [b'#', b'x' | b'X', digits @ ..] => {
            let count = run(digits, u8::is_ascii_hexdigit);
            (number(&digits[..count], 16)?, count + 2)
        }
        [b'#', digits @ ..] => {
            let count = run(digits, u8::is_ascii_digit);
            (number(&digits[..count], 10)?, count + 1)
        }
        _ => {
            let count = run(&rest[..rest.len().min(32)], u8::is_ascii_alphanumeric);
            let closed = count > 1 && rest.get(count) == Some(&b';');
            // A name without a semicolon may be followed by letters.
            let open = || (2..=count.min(4)).rev().find_map(|n| Some((named(&rest[..n])?, n)));
            match named(&rest[..count]).filter(|_| closed) {
                Some(code) => (code, count),
                None => open().or(closed.then_some((0, count)))?,
            }
        }
    };
    match rest.get(width) {
        Some(b';') => Some(Escape::new(Kind::Entity, code, width + 2)),
        _ => Some(Escape::new(Kind::OpenEntity, code, width + 1)),
    }
}

fn run(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| belongs(byte)).count()
}

/// The number that digits stand for: no character's if it is too large, `None` without digits.
fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.is_empty())?;
    Some(u32::from_str_radix(text, radix).unwrap_or_default())
}

/// The code points of HTML's names for ASCII punctuation; 0 for those of invisible characters.
fn named(name: &[u8]) -> Option<u32> {
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
        | b"NoBreak" => return Some(0),
        _ => return None,
    };
    Some(u32::from(c))
}

/// The runs of Base64 in a view, decoded from each of the four places where a group may begin.
/// If `only_printable`, other bytes are dropped: an ASCII secret may have been encoded with
/// invisible characters in it.
pub(super) fn base64(view: &View, only_printable: bool) -> impl Iterator<Item = View> {
    (0..4).map(move |skip| base64_from(view, skip, only_printable))
}

fn base64_from(view: &View, skip: usize, only_printable: bool) -> View {
    let mut decoded = View::default();
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
            for (index, byte) in bytes[..count.saturating_sub(1)].iter().enumerate() {
                if is_printable(*byte) || !only_printable {
                    decoded.push(*byte, view.range(group + index, 2));
                }
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

/// Reads `bytes` from the hexadecimal digits at the beginning of `text`, and returns how many bytes
/// of it they take. Between two of them may stand what separates them where they are listed
/// (`41:42`, `0x41, 0x42`, `\x41\x42`).
pub(super) fn hexadecimal(text: &[u8], bytes: &mut [u8]) -> Option<usize> {
    let mut rest = text;
    for (count, byte) in bytes.iter_mut().enumerate() {
        if count > 0 {
            let at = rest.iter().take(MOST_BETWEEN).take_while(|byte| separates(**byte)).count();
            rest = &rest[at..];
            // A zero is a digit too: it separates in front of an `x` only.
            rest = rest.strip_prefix(b"0x").or(rest.strip_prefix(b"0X")).unwrap_or(rest);
        }
        let [high, low, after @ ..] = rest else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
        rest = after;
    }
    Some(text.len() - rest.len())
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
