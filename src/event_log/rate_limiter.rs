//! Which events are left out when there are too many, and what must be said of them later.
//!
//! Pure: it is handed the time and a name, and answers. It never writes.

use std::time::Duration;

use super::budgets::{Budgets, EventGroup, WINDOW};
use super::repeats::{RepeatedWarnings, SuppressedWarning};
use super::{EventName, Severity};
use crate::time::Moment;

/// Lines of each of [`EventName::TokenChecked`] and [`EventName::CheckFailed`] in a second, at most.
/// Both together stay below the 10,000 in 30 s at which journald starts to drop.
pub(super) const ROUTINE_LINES: u64 = 100;

/// The span to which [`ROUTINE_LINES`] applies.
pub(super) const ROUTINE_WINDOW: Duration = Duration::from_secs(1);

/// Seconds in a row in each of which lines of checks had to be left out, until such lines are
/// summed up: a start or a server that comes back brings a burst, which is over by then.
const MAX_FULL_WINDOWS: u32 = 10;

/// The span of checks that a summary is about.
pub(super) const SUMMARY_WINDOW: Duration = Duration::from_secs(60);

/// Checks in [`SUMMARY_WINDOW`] that are few enough for a line of each again.
const MAX_CHECKS_WITH_LINES: u64 = ROUTINE_LINES * SUMMARY_WINDOW.as_secs();

/// What is to be done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it, and say that so many of its kind were left out before it.
    Write {
        /// Zero where none was.
        suppressed: u64,
    },
    /// Leave it out; it has been counted.
    Suppress,
}

/// How many events of each name were left out, in the order in which they were first met.
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

    /// Whether nothing was left out.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them together.
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

/// Lines written since the window began. The first line after a window's end begins the next.
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

/// A kind of line with a limit of its own.
#[derive(Debug, Clone, Copy, Default)]
struct RoutineLimit {
    window: Window,
    suppressed: u64,
    /// Windows in a row from which lines were left out.
    full_windows: u32,
}

/// Checks are being summed up.
#[derive(Debug, Clone, Copy)]
struct SummaryMode {
    since: Moment,
    checks: u64,
}

/// Keeps count of what was written and what was not.
#[derive(Debug, Default)]
pub(super) struct LogRateLimiter {
    checked: RoutineLimit,
    summary_mode: Option<SummaryMode>,
    failed: RoutineLimit,
    budgets: Budgets,
    repeats: RepeatedWarnings,
    suppressed: SuppressedCounts,
    /// When what was left out is to be said.
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

    /// Whether checks are being summed up.
    pub(super) fn is_summarizing(&self) -> bool {
        self.summary_mode.is_some()
    }

    /// When the next summary is due; `None` while every check has a line.
    pub(super) fn summary_due(&self) -> Option<Moment> {
        self.summary_mode.map(|summary_mode| summary_mode.since + SUMMARY_WINDOW)
    }

    /// A summary is written now: how many lines it stands for. Where the checks have become
    /// few, each has a line again from now on.
    pub(super) fn start_next_summary(&mut self, now: Moment) -> u64 {
        let few = |summary_mode: &SummaryMode| summary_mode.checks <= MAX_CHECKS_WITH_LINES;
        self.summary_mode = self.summary_mode.filter(|summary_mode| !few(summary_mode));
        if let Some(summary_mode) = &mut self.summary_mode {
            *summary_mode = SummaryMode { since: now, checks: 0 };
        }
        std::mem::take(&mut self.checked.suppressed)
    }

    /// A last summary is written now: how many lines it stands for, if any.
    pub(super) fn finish_summary(&mut self) -> Option<u64> {
        self.summary_mode.take().map(|_| std::mem::take(&mut self.checked.suppressed))
    }

    /// When a report of left-out events is due; `None` if there is nothing to report.
    pub(super) fn due(&self) -> Option<Moment> {
        [self.due, self.repeats.due()].into_iter().flatten().min()
    }

    /// The summaries of repeated warnings that are due.
    pub(super) fn take_due_repeats(&mut self, now: Moment) -> Vec<SuppressedWarning> {
        self.repeats.take_due(now)
    }

    /// The summaries of repeated warnings that have not been written yet.
    pub(super) fn take_all_repeats(&mut self) -> Vec<SuppressedWarning> {
        self.repeats.take_all()
    }

    /// Hands over the sum once it is due; empty before.
    pub(super) fn take_due(&mut self, now: Moment) -> SuppressedCounts {
        if self.due.take_if(|due| *due <= now).is_some() {
            std::mem::take(&mut self.suppressed)
        } else {
            SuppressedCounts::default()
        }
    }

    /// Hands over everything that has not been said yet.
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
            // What is left out of a window is said with the first line of the next.
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

    /// Lines of one kind of alarm in a minute, at most.
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
    fn the_next_line_says_how_many_were_left_out_and_only_once() {
        let mut limiter = LogRateLimiter::default();
        fill(&mut limiter, START, EventName::TokenChecked, ROUTINE_LINES + 7);
        let later = START + ROUTINE_WINDOW;
        assert_eq!(
            admit(&mut limiter, later, EventName::TokenChecked),
            Verdict::Write { suppressed: 7 }
        );
        assert_eq!(admit(&mut limiter, later, EventName::TokenChecked), WRITE);
    }

    /// So many checks, evenly in each of so many seconds; tells how many had lines.
    fn check(limiter: &mut LogRateLimiter, from: Moment, seconds: u64, each: u64) -> u64 {
        let mut written = 0;
        for n in 0..seconds * each {
            let now = from + Duration::from_millis(n * 1_000 / each);
            written += u64::from(admit(limiter, now, EventName::TokenChecked) != Verdict::Suppress);
        }
        written
    }

    #[test]
    fn ten_crowded_seconds_in_a_row_have_checks_summed_up() {
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
    fn a_burst_or_a_rate_that_has_room_is_not_summed_up() {
        for (seconds, each) in [(9, 5_000), (100, ROUTINE_LINES)] {
            let mut limiter = LogRateLimiter::default();
            check(&mut limiter, START, seconds, each);
            // A calm second in between.
            check(&mut limiter, START + Duration::from_secs(seconds + 2), 9, 5_000);
            assert!(!limiter.is_summarizing(), "{seconds} s of {each}");
        }
    }

    #[test]
    fn a_calm_minute_gives_every_check_its_line_again() {
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
    fn failed_checks_have_a_limit_of_their_own() {
        let mut limiter = LogRateLimiter::default();
        fill(&mut limiter, START, EventName::TokenChecked, ROUTINE_LINES + 1);
        assert_eq!(admit(&mut limiter, START, EventName::CheckFailed), WRITE);
    }

    #[test]
    fn no_flood_uses_up_the_budget_of_another_kind() {
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
    fn floods_of_all_other_kinds_together_leave_room_for_a_death() {
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
    fn clients_of_the_control_socket_are_limited_by_event() {
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
    fn the_report_is_due_a_minute_after_the_first_left_out_event() {
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
