//! Formatting for people: durations, counts, colors, and escapes for control and invisible
//! characters.

use std::borrow::Cow;
use std::str;
use std::time::Duration;

use crate::secret::mask;
use crate::time::whole_millis;

/// Escapes `text` for one line of a terminal or a log: characters that are invisible, end the line,
/// control the terminal, or reorder text become escapes such as `\u{202e}`.
///
/// These are the Unicode general categories Cc, Cf, Zl and Zp, characters without a standard
/// appearance (Co, Cn), and the remaining ones that Unicode says to display as nothing.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// As [`printable`], for a text of several lines.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n')
}

/// As [`printable`], but keeps the characters for which `keep` returns true.
pub(crate) fn escaped(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_kept = |c| keep(c) || !is_invisible(c);
    if text.chars().all(&is_kept) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_kept(c) {
            line.push(c);
        } else {
            line.extend(c.escape_default());
        }
    }
    line.into()
}

/// `text` in quotes, with secrets masked, shortened. The limit fits every valid value and is too
/// short for most tokens.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 24;
    let text = mask(text);
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let shown: String = text.chars().take(SHOWN).collect();
    format!("{shown:?} and more")
}

/// Whether a character is escaped by [`printable`].
pub(crate) fn is_invisible(c: char) -> bool {
    match c {
        _ if c.is_ascii() => c.is_ascii_control(),
        // White space that ends a line.
        '\u{85}' | '\u{2028}' | '\u{2029}'
        // Displayed as nothing, though letters, marks or symbols.
        | '\u{34f}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{1d159}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        _ => !c.is_alphanumeric() && !c.is_whitespace() && !is_printable(c),
    }
}

/// Whether the standard library's Unicode tables define the character as printable. Tested after a
/// letter, because a combining mark is printable only there.
fn is_printable(c: char) -> bool {
    let mut bytes = [b'a'; 5];
    let length = c.encode_utf8(&mut bytes[1..]).len();
    let text = str::from_utf8(&bytes[..=length]).unwrap_or_default();
    text.escape_debug().nth(1) == Some(c)
}

/// [`format_millis`] of a duration.
pub(crate) fn format_duration(duration: Duration) -> String {
    format_millis(whole_millis(duration))
}

/// A duration in milliseconds, in its two largest units: `29 min 55 s`, `2 d 4 h`, `850 ms`.
/// Rounded down.
pub(crate) fn format_millis(millis: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    if millis < 1_000 {
        return format!("{millis} ms");
    }
    if millis < 10_000 && !millis.is_multiple_of(1_000) {
        return format!("{}.{} s", millis / 1_000, millis % 1_000 / 100);
    }
    let mut parts = Vec::new();
    let mut rest = millis;
    for (size, unit) in UNITS {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            parts.push(format!("{count} {unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    parts.join(" ")
}

/// The lines of `text` that are not blank, trimmed and joined with "; ".
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// Wraps `text` between words, to `first` and then `others` characters per line; lines after the
/// first begin with `indent` spaces. A word with more room on the next line goes there. Longer words,
/// such as paths, are not broken, so that they can be copied.
pub(crate) fn wrap(text: &str, first: usize, others: usize, indent: usize) -> String {
    let mut lines = String::with_capacity(text.len() + 16);
    let (mut used, mut room) = (0, first);
    for word in text.split(' ') {
        let length = word.chars().count();
        let is_too_long = if used > 0 { used + 1 + length > room } else { length > room };
        if is_too_long && (used > 0 || room < others) {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            (used, room) = (0, others);
        } else if used > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines
}

/// Number of tokens by state, in one line; omits states without tokens.
pub(crate) fn format_token_counts(counts: &[(usize, &str)]) -> String {
    let total = match counts.iter().map(|(count, _)| count).sum() {
        0 => return "no tokens".to_owned(),
        1 => "1 token".to_owned(),
        total => format!("{} tokens", group_digits(total)),
    };
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> =
        counts.map(|(count, state)| format!("{} {state}", group_digits(*count))).collect();
    format!("{total}: {}", counts.join(", "))
}

/// `1234567` as `1,234,567`.
pub(crate) fn group_digits(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Whether to use colors on a terminal: it supports them, and `NO_COLOR` is unset or empty
/// (<https://no-color.org>).
pub(crate) fn colors_enabled() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The general categories Cc, Cf, Zl and Zp, and the rest of `Default_Ignorable_Code_Point`, as
    /// of Unicode 16.
    const HIDDEN: [(u32, u32); 41] = [
        (0x00, 0x1f),
        (0x7f, 0x9f),
        (0xad, 0xad),
        (0x34f, 0x34f),
        (0x600, 0x605),
        (0x61c, 0x61c),
        (0x6dd, 0x6dd),
        (0x70f, 0x70f),
        (0x890, 0x891),
        (0x8e2, 0x8e2),
        (0x115f, 0x1160),
        (0x17b4, 0x17b5),
        (0x180b, 0x180f),
        (0x200b, 0x200f),
        (0x2028, 0x202e),
        (0x2060, 0x206f),
        (0x3164, 0x3164),
        (0xfe00, 0xfe0f),
        (0xfeff, 0xfeff),
        (0xffa0, 0xffa0),
        (0xfff0, 0xfffb),
        (0x110bd, 0x110bd),
        (0x110cd, 0x110cd),
        (0x13430, 0x1343f),
        (0x1bca0, 0x1bca3),
        (0x1d173, 0x1d17a),
        (0xe0000, 0xe0fff),
        // Private use.
        (0xe000, 0xf8ff),
        (0xf_0000, 0xf_fffd),
        (0x10_0000, 0x10_fffd),
        // Noncharacters.
        (0xfdd0, 0xfdef),
        (0xfffe, 0xffff),
        (0x1_fffe, 0x1_ffff),
        (0x2_fffe, 0x2_ffff),
        (0x3_fffe, 0x3_ffff),
        (0xe_fffe, 0xe_ffff),
        (0xf_fffe, 0xf_ffff),
        (0x10_fffe, 0x10_ffff),
        // Unassigned.
        (0x378, 0x379),
        (0x2_fe20, 0x2_fffd),
        (0xe_1000, 0xe_fffd),
    ];

    #[test]
    fn invisible_and_control_characters_are_escaped() {
        for (first, last) in HIDDEN {
            for c in (first..=last).filter_map(char::from_u32) {
                let line = printable(&format!("a{c}b")).into_owned();
                assert!(
                    line.is_ascii() && line.starts_with("a\\") && line.ends_with('b'),
                    "{line}"
                );
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn visible_text_is_unchanged() {
        for text in [
            "quotes-1 \\ \"x\" 'y' ~",
            "G\u{fc}lden \u{4e2d}\u{6587} \u{440}\u{443} \u{5e9} \u{645} \u{1f511}",
            "e\u{301} \u{a0}\u{2003}\u{3000} \u{2026} \u{2713} \u{2500}\u{2588}",
        ] {
            assert!(matches!(printable(text), Cow::Borrowed(_)), "{:?}", printable(text));
        }
    }

    #[test]
    fn only_printable_lines_keeps_line_breaks() {
        assert_eq!(printable("a\nb\r\u{202e}\u{1b}[2J"), "a\\nb\\r\\u{202e}\\u{1b}[2J");
        assert_eq!(printable_lines("a\nb\r"), "a\nb\\r");
    }

    #[test]
    fn several_lines_become_one() {
        let text = "a.toml:1:2: there is no key `b`\n    did you mean `c`?\n\n1 fault";
        assert_eq!(one_line(text), "a.toml:1:2: there is no key `b`; did you mean `c`?; 1 fault");
        assert_eq!(one_line("one"), "one");
    }

    #[test]
    fn a_long_message_is_wrapped_between_words_and_nothing_is_cut() {
        let text = "the source has no value: /a/very/long/path/to/the.token: it is empty";
        assert_eq!(
            wrap(text, 12, 20, 4),
            "the source\n    has no value:\n    /a/very/long/path/to/the.token:\n    it is empty"
        );
        assert_eq!(wrap("short", 20, 20, 4), "short");
        assert_eq!(wrap("longer word", 5, 20, 4), "\n    longer word");
        assert_eq!(wrap("too-long-anywhere", 5, 5, 4), "too-long-anywhere");
    }

    #[test]
    fn token_counts_omit_states_without_tokens() {
        let counts = |counts| format_token_counts(counts);
        assert_eq!(
            counts(&[(1_020, "alive"), (3, "retrying"), (0, "missing"), (1, "expired")]),
            "1,024 tokens: 1,020 alive, 3 retrying, 1 expired"
        );
        assert_eq!(counts(&[(0, "alive"), (1, "missing")]), "1 token: 1 missing");
        assert_eq!(counts(&[(0, "alive")]), "no tokens");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(
            [group_digits(7), group_digits(1_000), group_digits(1_234_567)],
            ["7", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn durations_have_their_two_largest_units() {
        for (millis, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (2_345, "2.3 s"),
            (12_345, "12 s"),
            (1_795_400, "29 min 55 s"),
            (1_200_000, "20 min"),
            (7_200_000, "2 h"),
            (7_205_000, "2 h"),
            (7_500_000, "2 h 5 min"),
            (187_200_000, "2 d 4 h"),
        ] {
            assert_eq!(format_millis(millis), expected, "{millis}");
        }
    }
}
