//! Text for people: durations, and several lines as one.

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

/// The lines of `text` that are not blank, trimmed and joined with "; ".
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_lines_become_one() {
        let text = "a.toml:1:2: there is no key `b`\n    did you mean `c`?\n\n1 fault";
        assert_eq!(one_line(text), "a.toml:1:2: there is no key `b`; did you mean `c`?; 1 fault");
        assert_eq!(one_line("one"), "one");
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
