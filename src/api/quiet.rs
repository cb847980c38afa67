//! The `Retry-After` header, in both of its forms.
//!
//! Owns the reading of it; how long a server is really left alone is `failure`'s to say.
//! Never reads a clock.

use std::time::{Duration, SystemTime};

use headers::{Date, Header, HeaderValue};

/// How long `retry_after` asks for, counted from `answered`: the answer's own `Date`, or
/// else the wall clock's. A date in the past asks for nothing; what is neither a number of
/// seconds nor an HTTP date is as good as no header.
pub(super) fn asked(retry_after: &HeaderValue, answered: SystemTime) -> Option<Duration> {
    if let Some(delay) = retry_after.to_str().ok().and_then(seconds) {
        return Some(delay);
    }
    let until = date(retry_after)?;
    Some(until.duration_since(answered).unwrap_or_default())
}

/// An HTTP date, in any of its three historical forms.
pub(super) fn date(value: &HeaderValue) -> Option<SystemTime> {
    Date::decode(&mut std::iter::once(value)).ok().map(SystemTime::from)
}

/// A number of seconds. A fraction is against the standard but clear; a number too large
/// to be kept is as good as the largest.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let seconds: f64 = text.parse().ok()?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";

    fn asked_at_noon(retry_after: &'static str) -> Option<Duration> {
        let noon = date(&HeaderValue::from_static(NOON)).expect("a date");
        asked(&HeaderValue::from_static(retry_after), noon)
    }

    #[test]
    fn a_number_is_seconds() {
        assert_eq!(asked_at_noon("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked_at_noon(" 0 "), Some(Duration::ZERO));
        assert_eq!(asked_at_noon("1.5"), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn a_number_beyond_every_clock_is_the_longest_time() {
        assert_eq!(asked_at_noon("99999999999999999999999"), Some(Duration::MAX));
    }

    #[test]
    fn a_date_counts_from_the_answers_own() {
        assert_eq!(asked_at_noon("Sun, 06 Nov 1994 12:02:00 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(asked_at_noon("Sunday, 06-Nov-94 12:00:30 GMT"), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_date_that_has_passed_asks_for_nothing() {
        assert_eq!(asked_at_noon("Sun, 06 Nov 1994 11:00:00 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_neither_is_no_header() {
        for value in ["", "-1", "soon", "1e3", "1.2.3", "Sun, 99 Nov 1994 12:00:00 GMT"] {
            assert_eq!(asked_at_noon(value), None, "{value:?}");
        }
    }
}
