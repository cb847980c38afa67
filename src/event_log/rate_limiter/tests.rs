use proptest::prelude::*;

use super::super::budgets::{LINES_PER_ALARM, LINES_PER_CALLER, SHARED_ALARM_LINES};
use super::super::repeats::SuppressedWarning;
use super::*;

/// Maximum lines per minute of one kind of alarm.
const ALARM_LINES: u64 = (SHARED_ALARM_LINES + LINES_PER_ALARM) as u64;

const START: Moment = Moment::from_millis(5_000);
const WRITE: Verdict = Verdict::Write { suppressed: 0 };

fn admit(limiter: &mut LogRateLimiter, now: Moment, name: EventName) -> Verdict {
    limiter.admit(now, name, name.severity(), "it happened")
}

fn fill(limiter: &mut LogRateLimiter, now: Moment, name: EventName, times: u64) {
    for _ in 0..times {
        admit(limiter, now, name);
    }
}

#[test]
fn a_hundred_checks_a_second_are_all_written() {
    let mut limiter = LogRateLimiter::default();
    for _ in 0..ROUTINE_LINES {
        assert_eq!(admit(&mut limiter, START, EventName::TokenChecked), WRITE);
    }
}

#[test]
fn the_next_line_reports_the_number_of_suppressed_lines_once() {
    let mut limiter = LogRateLimiter::default();
    fill(&mut limiter, START, EventName::TokenChecked, ROUTINE_LINES + 7);
    let later = START + ROUTINE_WINDOW;
    assert_eq!(
        admit(&mut limiter, later, EventName::TokenChecked),
        Verdict::Write { suppressed: 7 }
    );
    assert_eq!(admit(&mut limiter, later, EventName::TokenChecked), WRITE);
}

/// Spreads `each` checks evenly over each of `seconds` seconds; returns the number of lines.
fn check(limiter: &mut LogRateLimiter, from: Moment, seconds: u64, each: u64) -> u64 {
    let mut written = 0;
    for n in 0..seconds * each {
        let now = from + Duration::from_millis(n * 1_000 / each);
        written += u64::from(admit(limiter, now, EventName::TokenChecked) != Verdict::Suppress);
    }
    written
}

#[test]
fn checks_are_summarized_after_ten_consecutive_full_windows() {
    let mut limiter = LogRateLimiter::default();
    assert_eq!(check(&mut limiter, START, 10, 150), 10 * ROUTINE_LINES);
    assert!(!limiter.is_summarizing());
    let then = START + Duration::from_secs(10);
    assert_eq!(check(&mut limiter, then, 60, 150), 0);
    assert_eq!(limiter.summary_due(), Some(then + SUMMARY_WINDOW));
    let last = 150 - ROUTINE_LINES;
    assert_eq!(
        limiter.start_next_summary(then + SUMMARY_WINDOW),
        last + 60 * 150,
        "and none is lost"
    );
}

#[test]
fn a_short_burst_or_a_rate_within_the_limit_is_not_summarized() {
    for (seconds, each) in [(9, 5_000), (100, ROUTINE_LINES)] {
        let mut limiter = LogRateLimiter::default();
        check(&mut limiter, START, seconds, each);
        // A calm second in between.
        check(&mut limiter, START + Duration::from_secs(seconds + 2), 9, 5_000);
        assert!(!limiter.is_summarizing(), "{seconds} s of {each}");
    }
}

#[test]
fn checks_get_single_lines_again_after_a_calm_minute() {
    let mut limiter = LogRateLimiter::default();
    check(&mut limiter, START, 70, 150);
    limiter.start_next_summary(START + Duration::from_secs(70));
    assert!(limiter.is_summarizing());
    check(&mut limiter, START + Duration::from_secs(70), 60, ROUTINE_LINES);
    limiter.start_next_summary(START + Duration::from_secs(130));
    assert!(!limiter.is_summarizing());
    let line = admit(&mut limiter, START + Duration::from_secs(131), EventName::TokenChecked);
    assert_eq!(line, WRITE);
}

#[test]
fn failed_checks_have_a_separate_limit() {
    let mut limiter = LogRateLimiter::default();
    fill(&mut limiter, START, EventName::TokenChecked, ROUTINE_LINES + 1);
    assert_eq!(admit(&mut limiter, START, EventName::CheckFailed), WRITE);
}

#[test]
fn a_flood_of_one_kind_never_uses_the_budget_of_another() {
    let levels = [Severity::Info, Severity::Warn, Severity::Error];
    let kinds = || EventName::ALL.iter().flat_map(|name| levels.map(|level| (*name, level)));
    for (name, level) in kinds() {
        let mut limiter = LogRateLimiter::default();
        for _ in 0..100_000 {
            limiter.admit(START, name, level, "flood");
        }
        for (other, level) in kinds().filter(|(other, _)| *other != name) {
            let verdict = limiter.admit(START, other, level, "other");
            assert_eq!(verdict, WRITE, "{other:?} at {level:?} after {name:?}");
        }
    }
}

#[test]
fn token_expired_is_written_during_floods_of_all_other_kinds() {
    let mut limiter = LogRateLimiter::default();
    for name in EventName::ALL.iter().filter(|name| **name != EventName::TokenExpired) {
        for level in [Severity::Info, Severity::Warn, Severity::Error] {
            for _ in 0..10_000 {
                limiter.admit(START, *name, level, "flood");
            }
        }
    }
    assert_eq!(admit(&mut limiter, START, EventName::TokenExpired), WRITE);
    assert_eq!(admit(&mut limiter, START, EventName::DaemonStopping), WRITE);
}

#[test]
fn events_caused_by_clients_are_limited_by_kind() {
    let callers = [EventName::ActionRefused, EventName::ValueRead, EventName::ActionRequested];
    let mut limiter = LogRateLimiter::default();
    for name in callers {
        fill(&mut limiter, START, name, u64::from(LINES_PER_CALLER) + 7);
    }
    assert_eq!(limiter.take_due(START + WINDOW).total(), 3 * 7);
}

#[test]
fn alarms_beyond_their_budget_are_counted_by_name() {
    let mut limiter = LogRateLimiter::default();
    fill(&mut limiter, START, EventName::TokenExpired, ALARM_LINES + 12);
    fill(&mut limiter, START, EventName::ReauthFailed, u64::from(LINES_PER_ALARM) + 3);
    let tally = limiter.take_due(START + WINDOW);
    assert_eq!(tally.describe(), "token_expired 12, reauth_failed 3");
}

#[test]
fn a_budget_refills_while_a_flood_lasts() {
    let mut limiter = LogRateLimiter::default();
    fill(&mut limiter, START, EventName::TokenExpired, 10 * ALARM_LINES);
    let verdict = admit(&mut limiter, START + Duration::from_secs(3), EventName::TokenExpired);
    assert_eq!(verdict, WRITE);
}

#[test]
fn the_report_is_due_a_minute_after_the_first_suppressed_event() {
    let mut limiter = LogRateLimiter::default();
    fill(&mut limiter, START, EventName::TokenExpired, ALARM_LINES);
    assert_eq!(limiter.due(), None);
    admit(&mut limiter, START, EventName::TokenExpired);
    assert_eq!(limiter.due(), Some(START + WINDOW));
    assert!(limiter.take_due(START + Duration::from_secs(59)).is_empty());
}

fn count(repeats: &[SuppressedWarning]) -> u64 {
    repeats.iter().map(|repeat| repeat.count).sum()
}

proptest! {
    /// Whatever comes when: nothing disappears without being counted, and no second
    /// and no minute holds more lines than allowed.
    #[test]
    fn every_event_is_written_or_counted(
        steps in prop::collection::vec((0_u64..400, 0_usize..25), 1..4_000),
    ) {
        let mut limiter = LogRateLimiter::default();
        let (mut now, mut written, mut logged) = (START, 0_u64, 0_u64);
        let total = steps.len() as u64;
        for (wait, index) in steps {
            now = now + Duration::from_millis(wait / 20);
            logged += limiter.take_due(now).total() + count(&limiter.repeats.take_due(now));
            match admit(&mut limiter, now, EventName::ALL[index % EventName::ALL.len()]) {
                Verdict::Write { suppressed } => {
                    written += 1;
                    logged += suppressed;
                }
                Verdict::Suppress => {}
            }
        }
        logged += limiter.take_all().total() + count(&limiter.repeats.take_all());
        prop_assert_eq!(written + logged, total);
        prop_assert!(limiter.take_all().is_empty());
    }

    /// A window never lets more through than its limit.
    #[test]
    fn no_window_holds_more_lines_than_its_limit(
        waits in prop::collection::vec(0_u64..30, 1..2_000),
    ) {
        let mut limiter = LogRateLimiter::default();
        let mut now = START;
        let (mut began, mut lines) = (START, 0);
        for wait in waits {
            now = now + Duration::from_millis(wait);
            if now.since(began) >= ROUTINE_WINDOW {
                (began, lines) = (now, 0);
            }
            if admit(&mut limiter, now, EventName::CheckFailed) != Verdict::Suppress {
                lines += 1;
            }
            prop_assert!(lines <= ROUTINE_LINES);
        }
    }
}
