//! Rate limiter of the event log: decides which events are written, and when suppressed events are
//! reported.
//!
//! Pure: the time is an argument, and nothing is written here.

use std::time::Duration;

use super::budgets::{Budgets, EventGroup, WINDOW};
use super::repeats::RepeatedWarnings;
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
    pub(super) repeats: RepeatedWarnings,
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
mod tests;
