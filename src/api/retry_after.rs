//! `Retry-After` in both forms, and the headers that some servers send instead.
//!
//! Only parses them; the limits of a pause are those of `status`. Never reads a clock.

use std::time::{Duration, SystemTime};

use headers::{Date, Header, HeaderValue};
use hyper::http::HeaderMap;
use hyper::http::header::RETRY_AFTER;

/// Sent by some servers instead of `Retry-After`: a number of milliseconds.
const IN_MILLISECONDS: [&str; 2] = ["retry-after-ms", "x-ms-retry-after-ms"];

/// When the request quota is renewed, in seconds from now or since 1970.
const RESETS: [&str; 3] = ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"];

/// The same as a parameter: `"name";r=0;t=30`, or `limit=10, remaining=0, reset=30`.
const POLICY: &str = "ratelimit";

/// From here on a number is a point in time and not a duration: 10^9 s are the year 2001.
const FIRST_TIME: f64 = 1e9;

/// From here on a point in time is in milliseconds.
const FIRST_TIME_MS: f64 = 1e12;

/// The pause that a response asks for, from `answered`: its own `Date`, or else the wall clock.
pub(super) fn pause(headers: &HeaderMap, answered: SystemTime) -> Option<Duration> {
    let asked_for = headers.get(RETRY_AFTER).and_then(|value| asked(value, answered));
    asked_for.or_else(|| {
        let millis = IN_MILLISECONDS.iter().find_map(|name| seconds(text(headers, name)?))?;
        Some(millis / 1_000)
    })
}

/// Time until the request quota is renewed. Servers send it with each response, so it asks for a
/// pause only with a 429.
pub(super) fn quota_reset(headers: &HeaderMap, answered: SystemTime) -> Option<Duration> {
    let from_now = |number: Duration| {
        if number.as_secs_f64() < FIRST_TIME {
            return Some(number);
        }
        let in_ms = number.as_secs_f64() >= FIRST_TIME_MS;
        let since_1970 = if in_ms { number / 1_000 } else { number };
        let until = SystemTime::UNIX_EPOCH.checked_add(since_1970)?;
        Some(until.duration_since(answered).unwrap_or_default())
    };
    let reset = RESETS.iter().find_map(|name| from_now(seconds(text(headers, name)?)?));
    reset.or_else(|| seconds(parameter(text(headers, POLICY)?)?))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The reset time of a `RateLimit` header.
fn parameter(text: &str) -> Option<&str> {
    text.split([';', ',']).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        matches!(name.trim(), "t" | "reset").then(|| value.trim())
    })
}

/// The duration of `retry_after`, from `answered`. A date in the past is no pause; anything but a
/// number of seconds or an HTTP date is ignored.
fn asked(retry_after: &HeaderValue, answered: SystemTime) -> Option<Duration> {
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

/// A number of seconds. A fraction violates the standard but is unambiguous; a number that is too
/// large counts as the largest.
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
    use hyper::http::HeaderName;

    use super::*;

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";

    fn asked_at_noon(retry_after: &'static str) -> Option<Duration> {
        asked(&HeaderValue::from_static(retry_after), noon())
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        headers.collect()
    }

    fn noon() -> SystemTime {
        date(&HeaderValue::from_static(NOON)).expect("a date")
    }

    #[test]
    fn headers_in_milliseconds_replace_retry_after() {
        let pause = |pairs: &[_]| pause(&headers(pairs), noon()).map(|pause| pause.as_millis());
        assert_eq!(pause(&[("retry-after-ms", "1500")]), Some(1_500));
        assert_eq!(pause(&[("x-ms-retry-after-ms", "20")]), Some(20));
        assert_eq!(pause(&[("retry-after", "2"), ("retry-after-ms", "1500")]), Some(2_000));
        assert_eq!(pause(&[("retry-after", "soon"), ("retry-after-ms", "1500")]), Some(1_500));
        assert_eq!(pause(&[("retry-after-ms", "soon")]), None);
        assert_eq!(pause(&[("ratelimit-reset", "30")]), None);
    }

    #[test]
    fn quota_reset_is_parsed_in_each_form() {
        for (name, value, seconds) in [
            ("ratelimit-reset", "30", 30),
            ("ratelimit-reset", " 0 ", 0),
            ("x-ratelimit-reset", "90", 90),
            ("x-rate-limit-reset", "7", 7),
            ("ratelimit", "\"default\";r=0;t=45", 45),
            ("ratelimit", "limit=100, remaining=0, reset=12", 12),
        ] {
            let reset = quota_reset(&headers(&[(name, value)]), noon());
            assert_eq!(reset, Some(Duration::from_secs(seconds)), "{name}: {value}");
        }
        for (name, value) in [
            ("ratelimit-reset", "soon"),
            ("ratelimit-reset", ""),
            ("x-ratelimit-reset", "-5"),
            ("ratelimit", "\"default\";r=0"),
            ("ratelimit", "30"),
        ] {
            assert_eq!(quota_reset(&headers(&[(name, value)]), noon()), None, "{name}: {value}");
        }
    }

    #[test]
    fn large_reset_is_a_point_in_time_in_seconds_or_milliseconds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for (value, seconds) in
            [("1800000060", 60), ("1800000060000", 60), ("1799999999", 0), ("1000000000", 0)]
        {
            let reset = quota_reset(&headers(&[("x-ratelimit-reset", value)]), now);
            assert_eq!(reset, Some(Duration::from_secs(seconds)), "{value}");
        }
        let absurd = headers(&[("x-ratelimit-reset", "99999999999999999999999999")]);
        assert!(quota_reset(&absurd, now).is_some_and(|reset| reset > Duration::from_secs(900)));
    }

    #[test]
    fn a_number_is_seconds() {
        assert_eq!(asked_at_noon("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked_at_noon(" 0 "), Some(Duration::ZERO));
        assert_eq!(asked_at_noon("1.5"), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn number_out_of_range_is_the_longest_time() {
        assert_eq!(asked_at_noon("99999999999999999999999"), Some(Duration::MAX));
    }

    #[test]
    fn date_counts_from_the_date_of_the_response() {
        assert_eq!(asked_at_noon("Sun, 06 Nov 1994 12:02:00 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(asked_at_noon("Sunday, 06-Nov-94 12:00:30 GMT"), Some(Duration::from_secs(30)));
    }

    #[test]
    fn past_date_is_no_pause() {
        assert_eq!(asked_at_noon("Sun, 06 Nov 1994 11:00:00 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn header_in_another_form_is_ignored() {
        for value in ["", "-1", "soon", "1e3", "1.2.3", "Sun, 99 Nov 1994 12:00:00 GMT"] {
            assert_eq!(asked_at_noon(value), None, "{value:?}");
        }
    }
}
