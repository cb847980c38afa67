//! Rate limiter of the event log: decides which events are written, and when suppressed events are
//! reported.
//!
//! Pure: the time is an argument, and nothing is written here.

use std::time::Duration;

use super::budgets::{Budgets, EventGroup, WINDOW};
use super::repeats::{RepeatedWarnings, SuppressedWarning};
use super::{EventName, Severity};
use crate::time::Moment;

/// Maximum lines per second, for [`EventName::TokenChecked`] and [`EventName::CheckFailed`] each.
/// Both together stay below 10,000 lines in 30 s, the limit above which journald drops lines.
pub(super) const ROUTINE_LINES: u64 = 100;

/// The window that [`ROUTINE_LINES`] applies to.
pub(super) const ROUTINE_WINDOW: Duration = Duration::from_secs(1);

/// Number of consecutive windows with suppressed lines after which checks are summarized. The
/// burst after a start or an outage is shorter.
const MAX_FULL_WINDOWS: u32 = 10;

/// The time that one summary covers.
pub(super) const SUMMARY_WINDOW: Duration = Duration::from_secs(60);

/// Up to this number of checks in a [`SUMMARY_WINDOW`], each check gets a line again.
const MAX_CHECKS_WITH_LINES: u64 = ROUTINE_LINES * SUMMARY_WINDOW.as_secs();

/// Decision on one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write the event.
    Write {
        /// Number of events of this kind that were suppressed before it and not reported yet.
        suppressed: u64,
    },
    /// Do not write the event; it has been counted.
    Suppress,
}

/// Number of suppressed events by name, in order of first occurrence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SuppressedCounts(Vec<(EventName, u64)>);

impl SuppressedCounts {
    fn add(&mut self, name: EventName, count: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None if count > 0 => self.0.push((name, count)),
            None => {}
        }
    }

    /// Whether no event was suppressed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of suppressed events of all names.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// `token_expired 12, reauth_failed 3`
    pub(super) fn describe(&self) -> String {
        let parts: Vec<_> =
            self.0.iter().map(|(name, count)| format!("{} {count}", name.as_str())).collect();
        parts.join(", ")
    }
}

/// Fixed window: counts the lines since it began. The first line after its end begins the next.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: Option<Moment>,
    written: u64,
}

impl Window {
    fn admits(&mut self, now: Moment, span: Duration, most: u64) -> bool {
        if self.began.is_none_or(|began| now.since(began) >= span) {
            *self = Self { began: Some(now), written: 0 };
        }
        let room = self.written < most;
        if room {
            self.written += 1;
        }
        room
    }
}

/// Rate limit of one kind of routine line.
#[derive(Debug, Clone, Copy, Default)]
struct RoutineLimit {
    window: Window,
    suppressed: u64,
    /// Consecutive windows with suppressed lines.
    full_windows: u32,
}

/// State while checks are summarized instead of logged one by one.
#[derive(Debug, Clone, Copy)]
struct SummaryMode {
    since: Moment,
    checks: u64,
}

/// Rate limiter for all events.
#[derive(Debug, Default)]
pub(super) struct LogRateLimiter {
    checked: RoutineLimit,
    summary_mode: Option<SummaryMode>,
    failed: RoutineLimit,
    budgets: Budgets,
    repeats: RepeatedWarnings,
    suppressed: SuppressedCounts,
    /// When the suppressed events are reported.
    due: Option<Moment>,
}

impl LogRateLimiter {
    /// Decides on an event that happens `now`.
    pub(super) fn admit(
        &mut self,
        now: Moment,
        name: EventName,
        severity: Severity,
        message: &str,
    ) -> Verdict {
        let group = EventGroup::of(name, severity);
        match group {
            EventGroup::Always => Verdict::Write { suppressed: 0 },
            EventGroup::Check => self.admit_check(now),
            EventGroup::FailedCheck => self.failed.admit(now),
            EventGroup::Warning if self.repeats.admit(now, message) => {
                Verdict::Write { suppressed: 0 }
            }
            EventGroup::Warning => Verdict::Suppress,
            EventGroup::Alarm
            | EventGroup::RefusedCheck
            | EventGroup::Caller
            | EventGroup::Other => {
                if self.budgets.admit(now, name, group) {
                    return Verdict::Write { suppressed: 0 };
                }
                self.suppressed.add(name, 1);
                self.due.get_or_insert(now + WINDOW);
                Verdict::Suppress
            }
        }
    }

    fn admit_check(&mut self, now: Moment) -> Verdict {
        if self.summary_mode.is_none() {
            let verdict = self.checked.admit(now);
            if self.checked.full_windows < MAX_FULL_WINDOWS {
                return verdict;
            }
            self.checked.full_windows = 0;
            self.summary_mode = Some(SummaryMode { since: now, checks: 0 });
            if let Verdict::Write { suppressed } = verdict {
                self.checked.suppressed = suppressed;
            }
        }
        if let Some(summary_mode) = &mut self.summary_mode {
            summary_mode.checks += 1;
        }
        self.checked.suppressed = self.checked.suppressed.saturating_add(1);
        Verdict::Suppress
    }

    /// Whether checks are summarized.
    pub(super) fn is_summarizing(&self) -> bool {
        self.summary_mode.is_some()
    }

    /// When the next summary is due; `None` while each check has its own line.
    pub(super) fn summary_due(&self) -> Option<Moment> {
        self.summary_mode.map(|summary_mode| summary_mode.since + SUMMARY_WINDOW)
    }

    /// Starts the next summary, and returns the number of lines that the current one replaces. If
    /// checks have become rare, leaves summary mode.
    pub(super) fn start_next_summary(&mut self, now: Moment) -> u64 {
        let few = |summary_mode: &SummaryMode| summary_mode.checks <= MAX_CHECKS_WITH_LINES;
        self.summary_mode = self.summary_mode.filter(|summary_mode| !few(summary_mode));
        if let Some(summary_mode) = &mut self.summary_mode {
            *summary_mode = SummaryMode { since: now, checks: 0 };
        }
        std::mem::take(&mut self.checked.suppressed)
    }

    /// Leaves summary mode. Returns the number of lines that the last summary replaces; `None` if
    /// checks were not summarized.
    pub(super) fn finish_summary(&mut self) -> Option<u64> {
        self.summary_mode.take().map(|_| std::mem::take(&mut self.checked.suppressed))
    }

    /// When a report of suppressed events is due; `None` if there is nothing to report.
    pub(super) fn due(&self) -> Option<Moment> {
        [self.due, self.repeats.due()].into_iter().flatten().min()
    }

    /// Takes the summaries of repeated warnings that are due.
    pub(super) fn take_due_repeats(&mut self, now: Moment) -> Vec<SuppressedWarning> {
        self.repeats.take_due(now)
    }

    /// Takes all pending summaries of repeated warnings.
    pub(super) fn take_all_repeats(&mut self) -> Vec<SuppressedWarning> {
        self.repeats.take_all()
    }

    /// Takes the counts of suppressed events if their report is due; else returns empty counts.
    pub(super) fn take_due(&mut self, now: Moment) -> SuppressedCounts {
        if self.due.take_if(|due| *due <= now).is_some() {
            std::mem::take(&mut self.suppressed)
        } else {
            SuppressedCounts::default()
        }
    }

    /// Takes all counts of suppressed events that were not reported yet.
    pub(super) fn take_all(&mut self) -> SuppressedCounts {
        self.due = None;
        let mut all = std::mem::take(&mut self.suppressed);
        all.add(EventName::TokenChecked, std::mem::take(&mut self.checked.suppressed));
        all.add(EventName::CheckFailed, std::mem::take(&mut self.failed.suppressed));
        all
    }
}

impl RoutineLimit {
    fn admit(&mut self, now: Moment) -> Verdict {
        let began = self.window.began;
        let admits = self.window.admits(now, ROUTINE_WINDOW, ROUTINE_LINES);
        if self.window.began != began {
            // The first line of a window reports what the previous window suppressed.
            let full_windows = self.suppressed > 0;
            let next = began.is_some_and(|began| now.since(began) < 2 * ROUTINE_WINDOW);
            self.full_windows = if full_windows && next { self.full_windows + 1 } else { 0 };
        }
        if admits {
            Verdict::Write { suppressed: std::mem::take(&mut self.suppressed) }
        } else {
            self.suppressed = self.suppressed.saturating_add(1);
            Verdict::Suppress
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::budgets::{LINES_PER_ALARM, LINES_PER_CALLER, SHARED_ALARM_LINES};
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
                logged += limiter.take_due(now).total() + count(&limiter.take_due_repeats(now));
                match admit(&mut limiter, now, EventName::ALL[index % EventName::ALL.len()]) {
                    Verdict::Write { suppressed } => {
                        written += 1;
                        logged += suppressed;
                    }
                    Verdict::Suppress => {}
                }
            }
            logged += limiter.take_all().total() + count(&limiter.take_all_repeats());
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
}
