//! Maintenance windows on ordinary days and at clock changes.

use super::*;

fn window(text: &str) -> MaintenanceWindow {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Checks the end of the window `text` for each instant; `None` means outside.
#[track_caller]
fn quiet(text: &str, table: &[(&str, Option<&str>)]) {
    let window = window(text);
    for (now, expected) in table {
        let end = window.until(instant(now));
        assert_eq!(end, expected.map(instant), "{text} at {now}");
    }
}

#[test]
fn the_start_is_included_and_the_end_is_not() {
    quiet(
        "01:00-02:30 UTC",
        &[
            ("2025-06-15T00:59:59.999999999Z", None),
            ("2025-06-15T01:00:00Z", Some("2025-06-15T02:30:00Z")),
            ("2025-06-15T02:29:59.999999999Z", Some("2025-06-15T02:30:00Z")),
            ("2025-06-15T02:30:00Z", None),
        ],
    );
}

#[test]
fn a_window_that_crosses_midnight_ends_on_the_next_day() {
    quiet(
        "23:45-00:15 America/New_York",
        &[
            ("2025-06-15T23:44:59-04:00", None),
            ("2025-06-15T23:45:00-04:00", Some("2025-06-16T00:15:00-04:00")),
            ("2025-06-16T00:00:00-04:00", Some("2025-06-16T00:15:00-04:00")),
            ("2025-06-16T00:15:00-04:00", None),
            ("2025-12-31T23:50:00-05:00", Some("2026-01-01T00:15:00-05:00")),
        ],
    );
}

#[test]
fn window_may_start_or_end_at_midnight() {
    quiet("22:00-00:00 UTC", &[("2025-06-15T23:59:59Z", Some("2025-06-16T00:00:00Z"))]);
    quiet("22:00-00:00 UTC", &[("2025-06-16T00:00:00Z", None)]);
    quiet("00:00-01:00 UTC", &[("2025-06-16T00:00:00Z", Some("2025-06-16T01:00:00Z"))]);
}

#[test]
fn window_of_23_h_59_min_ends_once_a_day() {
    quiet(
        "00:01-00:00 UTC",
        &[
            ("2025-06-15T00:00:30Z", None),
            ("2025-06-15T00:01:00Z", Some("2025-06-16T00:00:00Z")),
            ("2025-06-15T23:59:59Z", Some("2025-06-16T00:00:00Z")),
        ],
    );
}

#[test]
fn window_follows_the_local_time_of_its_zone_all_year() {
    quiet(
        "12:00-12:30 America/New_York",
        &[
            ("2025-07-01T16:10:00Z", Some("2025-07-01T16:30:00Z")),
            ("2025-01-01T16:10:00Z", None),
            ("2025-01-01T17:10:00Z", Some("2025-01-01T17:30:00Z")),
            ("2095-07-01T16:10:00Z", Some("2095-07-01T16:30:00Z")),
        ],
    );
}

// On 9 March 2025 the clocks of New York went from 02:00 EST (07:00Z) to 03:00 EDT.

#[test]
fn skipped_window_has_no_effect() {
    quiet(
        "02:15-02:45 America/New_York",
        &[("2025-03-09T06:59:59Z", None), ("2025-03-09T07:00:00Z", None)],
    );
    quiet("02:00-03:00 America/New_York", &[("2025-03-09T07:00:00Z", None)]);
}

#[test]
fn window_with_skipped_end_ends_when_clocks_go_forward() {
    let forward = Some("2025-03-09T07:00:00Z");
    for text in ["01:30-02:30 America/New_York", "01:30-02:00 America/New_York"] {
        quiet(text, &[("2025-03-09T06:45:00Z", forward), ("2025-03-09T07:00:00Z", None)]);
    }
}

#[test]
fn window_with_skipped_start_starts_when_clocks_go_forward() {
    let end = Some("2025-03-09T07:30:00Z");
    quiet(
        "02:30-03:30 America/New_York",
        &[("2025-03-09T06:59:59Z", None), ("2025-03-09T07:00:00Z", end)],
    );
}

#[test]
fn window_around_the_skipped_hour_is_an_hour_shorter() {
    quiet(
        "23:45-04:00 America/New_York",
        &[
            ("2025-03-09T04:45:00Z", Some("2025-03-09T08:00:00Z")),
            ("2025-03-09T07:59:59Z", Some("2025-03-09T08:00:00Z")),
            ("2025-03-09T08:00:00Z", None),
        ],
    );
}

// On 2 November 2025 they went from 02:00 EDT (06:00Z) back to 01:00 EST.

#[test]
fn repeated_window_applies_twice() {
    quiet(
        "01:15-01:45 America/New_York",
        &[
            ("2025-11-02T05:20:00Z", Some("2025-11-02T05:45:00Z")),
            ("2025-11-02T05:50:00Z", None),
            ("2025-11-02T06:10:00Z", None),
            ("2025-11-02T06:20:00Z", Some("2025-11-02T06:45:00Z")),
        ],
    );
}

#[test]
fn window_ends_when_clocks_go_back_out_of_it() {
    let back = Some("2025-11-02T06:00:00Z");
    for text in ["01:30-02:30 America/New_York", "01:30-02:00 America/New_York"] {
        quiet(text, &[("2025-11-02T05:40:00Z", back), ("2025-11-02T06:00:00Z", None)]);
    }
}

#[test]
fn window_around_the_repeated_hour_is_an_hour_longer() {
    quiet(
        "23:45-04:00 America/New_York",
        &[
            ("2025-11-02T03:45:00Z", Some("2025-11-02T09:00:00Z")),
            ("2025-11-02T05:59:59Z", Some("2025-11-02T09:00:00Z")),
            ("2025-11-02T09:00:00Z", None),
        ],
    );
    quiet(
        "00:30-02:00 America/New_York",
        &[("2025-11-02T05:59:59Z", Some("2025-11-02T07:00:00Z"))],
    );
}

// In Havana clocks change at midnight: on 9 March 2025 from 00:00 (05:00Z) to 01:00, on
// 2 November from 01:00 (05:00Z) back to 00:00.

#[test]
fn window_across_midnight_ends_when_clocks_change_at_midnight() {
    quiet(
        "23:45-00:15 America/Havana",
        &[
            ("2025-03-09T04:50:00Z", Some("2025-03-09T05:00:00Z")),
            ("2025-03-09T05:00:00Z", None),
            ("2025-11-02T03:50:00Z", Some("2025-11-02T04:15:00Z")),
            ("2025-11-02T04:30:00Z", None),
            ("2025-11-02T05:00:00Z", Some("2025-11-02T05:15:00Z")),
        ],
    );
}

#[test]
fn end_is_the_first_instant_outside_the_window_at_every_clock_change() {
    let minutes = |from: &str, days: i64| {
        let from = instant(from);
        (0..days * 24 * 60).map(move |minute| from + SignedDuration::from_mins(minute))
    };
    // Half-hour steps, a change at midnight, one by 30 minutes (Lord Howe), a day that
    // never was (Apia, 30 December 2011).
    for (zone, from) in [
        ("America/New_York", "2025-03-08T12:00:00Z"),
        ("America/New_York", "2025-11-01T12:00:00Z"),
        ("America/Havana", "2025-03-08T12:00:00Z"),
        ("Australia/Lord_Howe", "2025-04-04T12:00:00Z"),
        ("Australia/Lord_Howe", "2025-10-03T12:00:00Z"),
        ("Pacific/Apia", "2011-12-29T12:00:00Z"),
    ] {
        for times in ["23:45-00:15", "01:30-02:30", "01:45-02:15", "02:00-03:00", "00:00-23:59"] {
            let window = window(&format!("{times} {zone}"));
            for now in minutes(from, 2) {
                let Some(end) = window.until(now) else { continue };
                assert!(end > now, "{window} at {now} ends at {end}");
                assert_eq!(window.until(end), None, "{window} at {now} ends at {end}");
                let before = end - SignedDuration::from_secs(1);
                assert_eq!(window.until(before.max(now)), Some(end), "{window} at {now}");
            }
        }
    }
}

#[test]
fn first_and_last_timestamp_do_not_panic() {
    let always = window("00:01-00:00 UTC");
    for now in [Timestamp::MIN, Timestamp::MAX] {
        assert!(always.until(now).is_none_or(|end| end > now));
    }
}

#[test]
fn window_prints_as_parsed() {
    for text in ["23:45-00:15 America/New_York", "00:00-09:05 UTC", "05:00-06:00 Etc/GMT+5"] {
        assert_eq!(window(text).to_string(), text);
    }
}

#[test]
fn white_space_and_letter_case_of_the_zone_are_ignored() {
    for text in [" 23:45-00:15   America/New_York ", "23:45-00:15 america/new_york"] {
        assert_eq!(window(text), window("23:45-00:15 America/New_York"), "{text:?}");
    }
}

#[test]
fn zones_are_known_without_a_system_database() {
    let bundled = TimeZoneDatabase::bundled();
    for zone in ["America/New_York", "US/Eastern", "Europe/Berlin", "UTC"] {
        assert!(bundled.get(zone).is_ok(), "{zone}");
    }
}

#[test]
fn invalid_window_is_rejected_with_its_kind_of_error() {
    use MaintenanceWindowError::{Empty, Form, NoZone, Time};
    for (text, expected) in [
        ("", Form),
        ("UTC", Form),
        ("23:45 UTC", Form),
        ("23:45 - 00:15 UTC", Form),
        ("9:00-10:00 UTC", Form),
        ("09:00:00-10:00:00 UTC", Form),
        ("+9:00-10:00 UTC", Form),
        ("11:00PM-11:30PM UTC", Form),
        ("23:45-00:15 America/New York", Form),
        ("22:00-24:00 UTC", Time),
        ("22:00-22:60 UTC", Time),
        ("23:45-00:15", NoZone),
        ("23:45-23:45 UTC", Empty),
    ] {
        assert_eq!(text.parse::<MaintenanceWindow>(), Err(expected), "{text:?}");
    }
}

#[test]
fn only_iana_names_are_zones() {
    for zone in ["localtime", "posixrules", "Etc/Unknown", "EST5EDT4", "+02:00", "../UTC", "/UTC"] {
        let error = format!("23:45-00:15 {zone}").parse::<MaintenanceWindow>().expect_err(zone);
        assert!(matches!(error, MaintenanceWindowError::UnknownZone(_)), "{zone}: {error:?}");
    }
}

#[test]
fn misspelled_zone_gets_a_suggestion() {
    for (zone, meant) in [
        ("New_York", "America/New_York"),
        ("America/NewYork", "America/New_York"),
        ("Europe/Berln", "Europe/Berlin"),
    ] {
        let error = format!("23:45-00:15 {zone}").parse::<MaintenanceWindow>().expect_err(zone);
        assert_eq!(error, MaintenanceWindowError::UnknownZone(Some(meant.to_owned())));
    }
}
