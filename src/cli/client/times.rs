//! Times for people: time spans, and the local time of day.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use crate::clock;
use crate::control::summary::{Part, Summary};
use crate::control::{LifeBasis, TokenView};
use crate::text::printable;

/// Times of day closer than this are shown with seconds.
const CLOSE_MS: u64 = 120_000;

/// A time of day on another date is shown with the day of the week up to this distance.
const WEEK_MS: u64 = 6 * 86_400_000;

/// The present, in the local time zone.
#[derive(Debug, Clone)]
pub(in crate::cli) struct LocalTime {
    now: Zoned,
}

impl LocalTime {
    pub(in crate::cli) fn now() -> Self {
        Self { now: clock::wall_clock().to_zoned(TimeZone::system()) }
    }

    #[cfg(test)]
    pub(super) fn for_tests(now: &str) -> Self {
        Self { now: now.parse().expect("a time with a zone") }
    }

    /// The time of day that is this far from now: `14:05`, `14:05:12` if it is close, `Mon 14:05`
    /// within a week, `2026-12-24` beyond.
    pub(in crate::cli) fn after(&self, in_ms: i64) -> String {
        let span = Span::new().try_milliseconds(in_ms);
        let Ok(at) = span.and_then(|span| self.now.checked_add(span)) else {
            return "never".to_owned();
        };
        let is_today = at.date() == self.now.date();
        let format = match in_ms.unsigned_abs() {
            0..CLOSE_MS if is_today => "%H:%M:%S",
            _ if is_today => "%H:%M",
            0..WEEK_MS => "%a %H:%M",
            _ => "%F",
        };
        at.strftime(format).to_string()
    }

    /// As [`Self::after`], for a Unix time in milliseconds.
    pub(in crate::cli) fn at(&self, at_ms: i64) -> String {
        self.after(at_ms.saturating_sub(self.now.timestamp().as_millisecond()))
    }

    /// `2026-11-29 14:05:12`.
    pub(in crate::cli) fn date_and_time(&self, at: Timestamp) -> String {
        at.to_zoned(self.now.time_zone().clone()).strftime("%F %T").to_string()
    }

    /// `14:05:12`.
    pub(in crate::cli) fn seconds(&self, at: Timestamp) -> String {
        at.to_zoned(self.now.time_zone().clone()).strftime("%T").to_string()
    }

    /// The sentence as text.
    pub(in crate::cli) fn sentence(&self, summary: &Summary) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) | Part::Token { token: text } => printable(text).into_owned(),
            Part::At { at_ms } => self.at(*at_ms),
            Part::In { in_ms } => short_duration(*in_ms),
        };
        summary.parts.iter().map(part).collect()
    }
}

/// A duration in its largest unit, rounded down.
pub(in crate::cli) fn short_duration(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The remaining life of a token that was just checked: `29 min left`.
pub(super) fn life_left(token: &TokenView) -> String {
    let left = token.remaining_ms.unwrap_or_default();
    let left = short_duration(u64::try_from(left).unwrap_or_default());
    match token.life_basis() {
        LifeBasis::Reported => format!("{left} left"),
        LifeBasis::Assumed => format!("assumed {left} left"),
        LifeBasis::Endless => "does not expire".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn noon() -> LocalTime {
        LocalTime::for_tests("2026-11-29T12:00:00+01:00[Europe/Zurich]")
    }

    #[test]
    fn times_of_day_are_as_precise_as_they_are_close() {
        let shown = [
            0,
            119_999,
            -119_999,
            120_000,
            -HOUR,
            11 * HOUR,
            12 * HOUR,
            -13 * HOUR,
            143 * HOUR,
            144 * HOUR,
            -1_000 * HOUR,
            i64::MAX,
        ]
        .map(|in_ms| noon().after(in_ms));
        assert_eq!(
            shown,
            [
                "12:00:00",
                "12:01:59",
                "11:58:00",
                "12:02",
                "11:00",
                "23:00",
                "Mon 00:00",
                "Sat 23:00",
                "Sat 11:00",
                "2026-12-05",
                "2026-10-18",
                "never"
            ]
        );
    }

    #[test]
    fn durations_are_shown_in_their_largest_unit() {
        let formatted =
            [0, 119_999, 120_000, 7_199_000, 7_200_000, 200_000_000].map(short_duration);
        assert_eq!(formatted, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }

    #[test]
    fn a_sentence_has_local_times_and_no_control_characters() {
        let at_ms = noon().now.timestamp().as_millisecond() - HOUR;
        let parts = vec![
            Part::Token { token: "a\u{1b}b".to_owned() },
            Part::Text(" expired at ".to_owned()),
            Part::At { at_ms },
            Part::Text("; retry in ".to_owned()),
            Part::In { in_ms: 180_000 },
        ];
        let summary = Summary { parts, ..Summary::default() };
        assert_eq!(noon().sentence(&summary), "a\\u{1b}b expired at 11:00; retry in 3 min");
    }
}
