//! Parses and prints durations with units.

use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::{SpanParser, SpanPrinter};

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DurationError {
    /// A number without a unit.
    NoUnit,
    /// A negative duration.
    Negative,
    /// Not a duration.
    Unreadable,
}

/// Parses `"90s"`, `"2h 30m"`, `"1.5h"`, `"7d"`. A day has 24 hours.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if text.parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(DurationError::NoUnit);
    }
    // A time of day such as 01:30 would be parsed as a duration, but has no unit.
    if text.contains(':') {
        return Err(DurationError::Unreadable);
    }
    let span = SpanParser::new().parse_span(text).map_err(|_| DurationError::Unreadable)?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| DurationError::Unreadable)?;
    Duration::try_from(duration).map_err(|_| DurationError::Negative)
}

/// `duration` in the form that [`parse`] reads, without loss.
pub(crate) fn show(duration: Duration) -> String {
    SpanPrinter::new().unsigned_duration_to_string(&duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_with_units_are_parsed() {
        for (text, expected) in [
            ("90s", Duration::from_secs(90)),
            ("2h 30m", Duration::from_secs(9_000)),
            ("2h30m", Duration::from_secs(9_000)),
            ("1.5h", Duration::from_secs(5_400)),
            ("250ms", Duration::from_millis(250)),
            ("7 days", Duration::from_secs(7 * 86_400)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn number_without_unit_is_rejected() {
        for text in ["90", "1.5", " 3 ", "-1"] {
            assert_eq!(parse(text), Err(DurationError::NoUnit), "{text}");
        }
    }

    #[test]
    fn negative_duration_is_rejected() {
        for text in ["-5s", "5s ago"] {
            assert_eq!(parse(text), Err(DurationError::Negative), "{text}");
        }
    }

    #[test]
    fn calendar_units_and_other_text_are_rejected() {
        for text in ["", "soon", "1 month", "2y", "00:01:30", "5 s s", "99999999999999999999s"] {
            assert_eq!(parse(text), Err(DurationError::Unreadable), "{text}");
        }
    }

    #[test]
    fn shown_duration_parses_to_the_same_value() {
        for nanos in [0, 1, 999, 1_000_000, 1_500_000_000, 86_400_000_000_000, u64::MAX / 3] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse(&show(duration)), Ok(duration), "{}", show(duration));
        }
    }
}
