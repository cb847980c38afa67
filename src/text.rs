//! Text for people: durations, counts, and whether colours are wanted. Each form exists once.

use std::time::Duration;

use crate::time::whole_millis;

/// [`span`] of a duration.
pub(crate) fn words(duration: Duration) -> String {
    span(whole_millis(duration))
}

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

/// How many tokens are in which state, in one line; states without tokens are left out.
pub(crate) fn token_counts(counts: &[(usize, &str)]) -> String {
    let total = match counts.iter().map(|(count, _)| count).sum() {
        0 => return "no tokens".to_owned(),
        1 => "1 token".to_owned(),
        total => format!("{} tokens", grouped(total)),
    };
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> =
        counts.map(|(count, state)| format!("{} {state}", grouped(*count))).collect();
    format!("{total}: {}", counts.join(", "))
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: usize) -> String {
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

/// Whether a terminal may be written to in colours: it knows them, and `NO_COLOR` is unset or
/// empty (<https://no-color.org>).
pub(crate) fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_counts_leave_out_states_without_tokens() {
        let counts = |counts| token_counts(counts);
        assert_eq!(
            counts(&[(1_020, "alive"), (3, "retrying"), (0, "missing"), (1, "expired")]),
            "1,024 tokens: 1,020 alive, 3 retrying, 1 expired"
        );
        assert_eq!(counts(&[(0, "alive"), (1, "missing")]), "1 token: 1 missing");
        assert_eq!(counts(&[(0, "alive")]), "no tokens");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([grouped(7), grouped(1_000), grouped(1_234_567)], ["7", "1,000", "1,234,567"]);
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
