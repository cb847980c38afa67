//! Which events are left out when there are too many, and what must be said of them later.
//!
//! Pure: it is handed the time and a name, and answers. It never writes.

use std::time::Duration;

use super::Name;
use crate::time::Moment;

/// Lines of each of [`Name::TokenChecked`] and [`Name::CheckFailed`] in a second, at most.
/// Both together stay below the 10,000 in 30 s at which journald starts to drop.
pub(super) const ROUTINE_LINES: u64 = 100;

/// The span to which [`ROUTINE_LINES`] applies.
pub(super) const ROUTINE_WINDOW: Duration = Duration::from_secs(1);

/// Lines of all other events together in a minute, at most: more than anybody reads when a
/// thousand tokens die at once, and little enough for every log pipeline.
pub(super) const OTHER_LINES: u64 = 1_000;

/// The span to which [`OTHER_LINES`] applies, and after which what was left out is summed up.
pub(super) const OTHER_WINDOW: Duration = Duration::from_secs(60);

/// Lines of each of [`Name::ActionRequested`], [`Name::ActionRefused`] and [`Name::ValueRead`] in
/// [`OTHER_WINDOW`], at most. Whoever may open the control socket makes them at will, and so they
/// take no room from a death, or from one another. All lines together stay below what journald
/// takes even where two windows meet.
pub(super) const CALLERS_LINES: u64 = 300;

/// Seconds in a row in each of which lines of checks had to be left out, until such lines are
/// summed up: a start or a server that comes back brings a burst, which is over by then.
const SUSTAINED: u32 = 10;

/// The span of checks that a summary is about.
pub(super) const SUMMARY_WINDOW: Duration = Duration::from_secs(60);

/// Checks in [`SUMMARY_WINDOW`] that are few enough for a line of each again.
const FEW_CHECKS: u64 = ROUTINE_LINES * SUMMARY_WINDOW.as_secs();

/// What is to be done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it, and say that so many of its kind were left out before it.
    Write {
        /// Zero where none was.
        suppressed: u64,
    },
    /// Leave it out; it has been counted.
    LeaveOut,
}

/// How many events of each name were left out, in the order in which they were first met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally(Vec<(Name, u64)>);

impl Tally {
    fn add(&mut self, name: Name, count: u64) {
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

    /// Whether there is room for a line that is no routine; if not, when the window ends.
    fn admit_other(&mut self, now: Moment, most: u64) -> Result<(), Moment> {
        let room = self.admits(now, OTHER_WINDOW, most);
        if room { Ok(()) } else { Err(self.began.unwrap_or(now) + OTHER_WINDOW) }
    }
}

/// A kind of line with a limit of its own.
#[derive(Debug, Clone, Copy, Default)]
struct Routine {
    window: Window,
    left_out: u64,
    /// Windows in a row from which lines were left out.
    crowded: u32,
}

/// Checks are being summed up.
#[derive(Debug, Clone, Copy)]
struct Summing {
    since: Moment,
    checks: u64,
}

/// Keeps count of what was written and what was not.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    checked: Routine,
    summing: Option<Summing>,
    failed: Routine,
    others: Window,
    requested: Window,
    refused: Window,
    read: Window,
    left_out: Tally,
    /// When what was left out is to be said.
    due: Option<Moment>,
}

impl Limiter {
    /// Decides on an event that happens `now`.
    pub(super) fn admit(&mut self, now: Moment, name: Name) -> Verdict {
        match name {
            Name::TokenChecked => self.admit_check(now),
            Name::CheckFailed => self.failed.admit(now),
            Name::DaemonStarted
            | Name::DaemonReady
            | Name::DaemonStopping
            | Name::DaemonStopped
            | Name::ChecksSummary
            | Name::EventsSuppressed => Verdict::Write { suppressed: 0 },
            Name::ConfigReloaded
            | Name::ConfigRejected
            | Name::ConfigWarning
            | Name::InventoryLoaded
            | Name::RenewalNotObserved
            | Name::RenewalLearned
            | Name::ServerUnavailable
            | Name::ServerRecovered
            | Name::TokenExpiring
            | Name::TokenExpired
            | Name::TokenRejected
            | Name::TokenMissing
            | Name::TokenUnverified
            | Name::TokenRecovered
            | Name::TokenRevoked
            | Name::ReauthStarted
            | Name::ReauthSucceeded
            | Name::ReauthFailed
            | Name::ReauthExhausted
            | Name::StoreFailed => {
                let verdict = self.others.admit_other(now, OTHER_LINES);
                self.count(name, verdict)
            }
            Name::ActionRequested => {
                let verdict = self.requested.admit_other(now, CALLERS_LINES);
                self.count(name, verdict)
            }
            Name::ActionRefused => {
                let verdict = self.refused.admit_other(now, CALLERS_LINES);
                self.count(name, verdict)
            }
            Name::ValueRead => {
                let verdict = self.read.admit_other(now, CALLERS_LINES);
                self.count(name, verdict)
            }
        }
    }

    fn admit_check(&mut self, now: Moment) -> Verdict {
        if self.summing.is_none() {
            let verdict = self.checked.admit(now);
            if self.checked.crowded < SUSTAINED {
                return verdict;
            }
            self.checked.crowded = 0;
            self.summing = Some(Summing { since: now, checks: 0 });
            if let Verdict::Write { suppressed } = verdict {
                self.checked.left_out = suppressed;
            }
        }
        if let Some(summing) = &mut self.summing {
            summing.checks += 1;
        }
        self.checked.left_out = self.checked.left_out.saturating_add(1);
        Verdict::LeaveOut
    }

    /// Whether checks are being summed up.
    pub(super) fn is_summing(&self) -> bool {
        self.summing.is_some()
    }

    /// When the next summary is due; `None` while every check has a line.
    pub(super) fn summary_due(&self) -> Option<Moment> {
        self.summing.map(|summing| summing.since + SUMMARY_WINDOW)
    }

    /// A summary is written now: how many lines it stands for. Where the checks have become
    /// few, each has a line again from now on.
    pub(super) fn sum_up(&mut self, now: Moment) -> u64 {
        let few = |summing: &Summing| summing.checks <= FEW_CHECKS;
        self.summing = self.summing.filter(|summing| !few(summing));
        if let Some(summing) = &mut self.summing {
            *summing = Summing { since: now, checks: 0 };
        }
        std::mem::take(&mut self.checked.left_out)
    }

    /// A last summary is written now: how many lines it stands for, if any.
    pub(super) fn stop_summing(&mut self) -> Option<u64> {
        self.summing.take().map(|_| std::mem::take(&mut self.checked.left_out))
    }

    /// Counts an event that has no room until its window ends.
    fn count(&mut self, name: Name, room: Result<(), Moment>) -> Verdict {
        match room {
            Ok(()) => Verdict::Write { suppressed: 0 },
            Err(end) => {
                self.left_out.add(name, 1);
                self.due = Some(self.due.map_or(end, |due| due.min(end)));
                Verdict::LeaveOut
            }
        }
    }

    /// When the sum of what was left out is to be said; `None` where there is nothing to say.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Hands over the sum once it is due; empty before.
    pub(super) fn take_due(&mut self, now: Moment) -> Tally {
        if self.due.take_if(|due| *due <= now).is_some() {
            std::mem::take(&mut self.left_out)
        } else {
            Tally::default()
        }
    }

    /// Hands over everything that has not been said yet.
    pub(super) fn take_all(&mut self) -> Tally {
        self.due = None;
        let mut all = std::mem::take(&mut self.left_out);
        all.add(Name::TokenChecked, std::mem::take(&mut self.checked.left_out));
        all.add(Name::CheckFailed, std::mem::take(&mut self.failed.left_out));
        all
    }
}

impl Routine {
    fn admit(&mut self, now: Moment) -> Verdict {
        let began = self.window.began;
        let admits = self.window.admits(now, ROUTINE_WINDOW, ROUTINE_LINES);
        if self.window.began != began {
            // What is left out of a window is said with the first line of the next.
            let crowded = self.left_out > 0;
            let next = began.is_some_and(|began| now.since(began) < 2 * ROUTINE_WINDOW);
            self.crowded = if crowded && next { self.crowded + 1 } else { 0 };
        }
        if admits {
            Verdict::Write { suppressed: std::mem::take(&mut self.left_out) }
        } else {
            self.left_out = self.left_out.saturating_add(1);
            Verdict::LeaveOut
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_millis(5_000);
    const WRITE: Verdict = Verdict::Write { suppressed: 0 };

    fn fill(limiter: &mut Limiter, now: Moment, name: Name, times: u64) {
        for _ in 0..times {
            limiter.admit(now, name);
        }
    }

    #[test]
    fn a_hundred_checks_a_second_are_all_written() {
        let mut limiter = Limiter::default();
        for _ in 0..ROUTINE_LINES {
            assert_eq!(limiter.admit(START, Name::TokenChecked), WRITE);
        }
    }

    #[test]
    fn the_next_line_says_how_many_were_left_out_and_only_once() {
        let mut limiter = Limiter::default();
        fill(&mut limiter, START, Name::TokenChecked, ROUTINE_LINES + 7);
        let later = START + ROUTINE_WINDOW;
        assert_eq!(limiter.admit(later, Name::TokenChecked), Verdict::Write { suppressed: 7 });
        assert_eq!(limiter.admit(later, Name::TokenChecked), WRITE);
    }

    /// So many checks, evenly in each of so many seconds; tells how many had lines.
    fn check(limiter: &mut Limiter, from: Moment, seconds: u64, each: u64) -> u64 {
        let mut written = 0;
        for n in 0..seconds * each {
            let now = from + Duration::from_millis(n * 1_000 / each);
            written += u64::from(limiter.admit(now, Name::TokenChecked) != Verdict::LeaveOut);
        }
        written
    }

    #[test]
    fn ten_crowded_seconds_in_a_row_have_checks_summed_up() {
        let mut limiter = Limiter::default();
        assert_eq!(check(&mut limiter, START, 10, 150), 10 * ROUTINE_LINES);
        assert!(!limiter.is_summing());
        let then = START + Duration::from_secs(10);
        assert_eq!(check(&mut limiter, then, 60, 150), 0);
        assert_eq!(limiter.summary_due(), Some(then + SUMMARY_WINDOW));
        let last = 150 - ROUTINE_LINES;
        assert_eq!(limiter.sum_up(then + SUMMARY_WINDOW), last + 60 * 150, "and none is lost");
    }

    #[test]
    fn a_burst_or_a_rate_that_has_room_is_not_summed_up() {
        for (seconds, each) in [(9, 5_000), (100, ROUTINE_LINES)] {
            let mut limiter = Limiter::default();
            check(&mut limiter, START, seconds, each);
            // A calm second in between.
            check(&mut limiter, START + Duration::from_secs(seconds + 2), 9, 5_000);
            assert!(!limiter.is_summing(), "{seconds} s of {each}");
        }
    }

    #[test]
    fn a_calm_minute_gives_every_check_its_line_again() {
        let mut limiter = Limiter::default();
        check(&mut limiter, START, 70, 150);
        limiter.sum_up(START + Duration::from_secs(70));
        assert!(limiter.is_summing());
        check(&mut limiter, START + Duration::from_secs(70), 60, ROUTINE_LINES);
        limiter.sum_up(START + Duration::from_secs(130));
        assert!(!limiter.is_summing());
        let line = limiter.admit(START + Duration::from_secs(131), Name::TokenChecked);
        assert_eq!(line, WRITE);
    }

    #[test]
    fn failed_checks_have_a_limit_of_their_own() {
        let mut limiter = Limiter::default();
        fill(&mut limiter, START, Name::TokenChecked, ROUTINE_LINES + 1);
        assert_eq!(limiter.admit(START, Name::CheckFailed), WRITE);
    }

    #[test]
    fn routine_lines_take_no_room_from_the_others() {
        let mut limiter = Limiter::default();
        fill(&mut limiter, START, Name::TokenChecked, OTHER_LINES * 2);
        assert_eq!(limiter.admit(START, Name::TokenExpired), WRITE);
    }

    #[test]
    fn whoever_calls_the_daemon_takes_no_room_from_a_death_or_from_other_callers() {
        let callers = [Name::ActionRefused, Name::ValueRead, Name::ActionRequested];
        let mut limiter = Limiter::default();
        for name in callers {
            assert_eq!(limiter.admit(START, name), WRITE);
            fill(&mut limiter, START, name, OTHER_LINES);
        }
        assert_eq!(limiter.admit(START, Name::TokenExpired), WRITE);
        let left_out = OTHER_LINES + 1 - CALLERS_LINES;
        assert_eq!(limiter.take_due(START + OTHER_WINDOW).total(), 3 * left_out);
    }

    #[test]
    fn the_daemon_s_own_events_are_never_left_out() {
        let mut limiter = Limiter::default();
        fill(&mut limiter, START, Name::TokenExpired, OTHER_LINES + 1);
        for name in Name::ALL.iter().filter(|name| name.as_str().starts_with("daemon_")) {
            assert_eq!(limiter.admit(START, *name), WRITE);
        }
    }

    #[test]
    fn other_events_beyond_a_thousand_a_minute_are_summed_up_by_name() {
        let mut limiter = Limiter::default();
        fill(&mut limiter, START, Name::TokenExpired, OTHER_LINES + 12);
        fill(&mut limiter, START + Duration::from_secs(59), Name::ReauthFailed, 3);
        let tally = limiter.take_due(START + OTHER_WINDOW);
        assert_eq!(tally.describe(), "token_expired 12, reauth_failed 3");
    }

    #[test]
    fn the_sum_is_due_when_its_minute_ends() {
        let mut limiter = Limiter::default();
        fill(&mut limiter, START, Name::TokenExpired, OTHER_LINES);
        assert_eq!(limiter.due(), None);
        limiter.admit(START, Name::TokenExpired);
        assert_eq!(limiter.due(), Some(START + OTHER_WINDOW));
        assert!(limiter.take_due(START + Duration::from_secs(59)).is_empty());
    }

    proptest! {
        /// Whatever comes when: nothing disappears without being counted, and no second
        /// and no minute holds more lines than allowed.
        #[test]
        fn every_event_is_written_or_counted(
            steps in prop::collection::vec((0_u64..400, 0_usize..25), 1..4_000),
        ) {
            let mut limiter = Limiter::default();
            let (mut now, mut written, mut said) = (START, 0_u64, 0_u64);
            let total = steps.len() as u64;
            for (wait, index) in steps {
                now = now + Duration::from_millis(wait / 20);
                said += limiter.take_due(now).total();
                match limiter.admit(now, Name::ALL[index % Name::ALL.len()]) {
                    Verdict::Write { suppressed } => {
                        written += 1;
                        said += suppressed;
                    }
                    Verdict::LeaveOut => {}
                }
            }
            said += limiter.take_all().total();
            prop_assert_eq!(written + said, total);
            prop_assert!(limiter.take_all().is_empty());
        }

        /// A window never lets more through than its limit.
        #[test]
        fn no_window_holds_more_lines_than_its_limit(
            waits in prop::collection::vec(0_u64..30, 1..2_000),
        ) {
            let mut limiter = Limiter::default();
            let mut now = START;
            let (mut began, mut lines) = (START, 0);
            for wait in waits {
                now = now + Duration::from_millis(wait);
                if now.since(began) >= ROUTINE_WINDOW {
                    (began, lines) = (now, 0);
                }
                if limiter.admit(now, Name::CheckFailed) != Verdict::LeaveOut {
                    lines += 1;
                }
                prop_assert!(lines <= ROUTINE_LINES);
            }
        }
    }
}
