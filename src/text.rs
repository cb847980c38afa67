//! Text for people: durations, and what must not reach a terminal.

use crate::secret::is_invisible;

/// A duration in milliseconds, in its two largest units: `29 min 55 s`, `2 d 4 h`, `850 ms`.
/// Rounded down.
pub(crate) fn span(millis: u64) -> String {
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

/// `text` without characters that would change a terminal or could not be seen there: each
/// character stays one character. Tabs stay.
pub(crate) fn printable(text: &str) -> String {
    let printable = |c: char| match c {
        ' ' | '\t' => c,
        c if c.is_whitespace() => ' ',
        c if c.is_control() || is_invisible(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_change_a_terminal_are_replaced() {
        assert_eq!(printable("a\u{1b}[31m\u{9b}\u{202e}b"), "a\u{fffd}[31m\u{fffd}\u{fffd}b");
        assert_eq!(printable("a\r\n\u{2028}\u{85}b\tc"), "a    b\tc");
        assert_eq!(printable("größe `x` \u{1f600}"), "größe `x` \u{1f600}");
    }

    #[test]
    fn a_span_has_its_two_largest_units() {
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
            assert_eq!(span(millis), expected, "{millis}");
        }
    }
}
