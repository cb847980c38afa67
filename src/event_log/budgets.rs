//! Line budgets: one token bucket for each kind of event, and a shared one for each group.
//!
//! A kind uses its own bucket first and then the shared bucket of its group, so that a flood of
//! one kind can never use up the budget of another. Alarms (events of level error, and
//! recoveries) do not share a bucket with anything else.
//!
//! In any 30 s a bucket admits at most one and a half times its size. All buckets together, with
//! the routine lines, stay below the 10,000 lines in 30 s at which journald drops.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{EventName, Severity};
use crate::time::Moment;

/// The time in which an empty bucket fills up, and after which left-out events are reported.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Lines per minute that all alarms share.
pub(super) const SHARED_ALARM_LINES: u32 = 1_000;

/// Additional lines per minute of each kind of alarm.
pub(super) const LINES_PER_ALARM: u32 = 20;

/// Lines per minute that all other events share.
pub(super) const SHARED_OTHER_LINES: u32 = 300;

/// Additional lines per minute of each kind of other event.
const LINES_PER_OTHER: u32 = 10;

/// Lines per minute of `check_failed` at level error, which each retry repeats.
pub(super) const REFUSED_CHECK_LINES: u32 = 150;

/// Lines per minute of each kind of event that clients of the control socket cause.
pub(super) const LINES_PER_CALLER: u32 = 120;

/// The group of an event, which decides its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventGroup {
    /// Always written. This includes reloads: each has one outcome, concurrent requests share a
    /// reload, and a client that waits for a reload expects its line.
    Always,
    /// `token_checked`.
    Check,
    /// `check_failed` at level warn.
    FailedCheck,
    /// `config_warning` at level warn: limited by message.
    Warning,
    /// Level error, or a recovery.
    Alarm,
    /// `check_failed` at level error.
    RefusedCheck,
    /// Caused by a client of the control socket.
    Caller,
    /// Everything else.
    Other,
}

impl EventGroup {
    /// The group of an event at this level.
    pub(super) const fn of(name: EventName, severity: Severity) -> Self {
        match (name, severity) {
            (
                EventName::DaemonStarted
                | EventName::StartFailed
                | EventName::DaemonReady
                | EventName::DaemonStopping
                | EventName::DaemonStopped
                | EventName::ConfigReloaded
                | EventName::ConfigRejected
                | EventName::ChecksSummary
                | EventName::EventsSuppressed,
                _,
            ) => Self::Always,
            (EventName::TokenChecked, _) => Self::Check,
            (EventName::CheckFailed, Severity::Error) => Self::RefusedCheck,
            (EventName::CheckFailed, _) => Self::FailedCheck,
            (EventName::ActionRequested | EventName::ActionRefused | EventName::ValueRead, _) => {
                Self::Caller
            }
            (
                EventName::TokenRecovered
                | EventName::ServerRecovered
                | EventName::ClusterRecovered,
                _,
            )
            | (_, Severity::Error) => Self::Alarm,
            (EventName::ConfigWarning, _) => Self::Warning,
            _ => Self::Other,
        }
    }
}

/// A token bucket, stored as the moment at which it is full again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    full_at: Moment,
}

impl Bucket {
    /// Takes one line from the bucket of this size. Returns false if the bucket is empty.
    pub(super) fn take(&mut self, now: Moment, size: u32) -> bool {
        let Some(each) = WINDOW.checked_div(size) else { return false };
        let full_at = self.full_at.max(now) + each;
        let admits = full_at.since(now) <= WINDOW;
        if admits {
            self.full_at = full_at;
        }
        admits
    }
}

/// The token buckets, for all groups that are not limited per second or by message.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    alarms: Bucket,
    others: Bucket,
    own: BTreeMap<(EventName, bool), Bucket>,
}

impl Budgets {
    /// Takes one line for an event of this group. Returns false if its budget is used up.
    pub(super) fn admit(&mut self, now: Moment, name: EventName, group: EventGroup) -> bool {
        let (size, shared) = match group {
            EventGroup::Alarm => (LINES_PER_ALARM, Some((&mut self.alarms, SHARED_ALARM_LINES))),
            EventGroup::RefusedCheck => (REFUSED_CHECK_LINES, None),
            EventGroup::Caller => (LINES_PER_CALLER, None),
            EventGroup::Always
            | EventGroup::Check
            | EventGroup::FailedCheck
            | EventGroup::Warning
            | EventGroup::Other => (LINES_PER_OTHER, Some((&mut self.others, SHARED_OTHER_LINES))),
        };
        let own = self.own.entry((name, group == EventGroup::Alarm)).or_default();
        own.take(now, size) || shared.is_some_and(|(bucket, size)| bucket.take(now, size))
    }
}

#[cfg(test)]
mod tests {
    use super::super::repeats::LINES_PER_MESSAGE;
    use super::*;

    const START: Moment = Moment::from_millis(5_000);

    fn taken(bucket: &mut Bucket, now: Moment, size: u32) -> u32 {
        (0..2 * size).map(|_| u32::from(bucket.take(now, size))).sum()
    }

    #[test]
    fn a_bucket_admits_its_size_at_once_and_refills_within_a_minute() {
        let mut bucket = Bucket::default();
        assert_eq!(taken(&mut bucket, START, 400), 400);
        assert_eq!(taken(&mut bucket, START + WINDOW / 2, 400), 200);
        assert_eq!(taken(&mut bucket, START + 3 * WINDOW, 400), 400);
        assert_eq!(taken(&mut Bucket::default(), START, 0), 0);
    }

    #[test]
    fn all_events_together_stay_below_the_rate_limit_of_journald() {
        let kinds = |group| {
            let own = EventName::ALL
                .iter()
                .filter(|name| EventGroup::of(**name, name.severity()) == group);
            u32::try_from(own.count()).unwrap()
        };
        // `config_warning` and `token_expiring` have a second level.
        let alarms = SHARED_ALARM_LINES + (kinds(EventGroup::Alarm) + 2) * LINES_PER_ALARM;
        let others = SHARED_OTHER_LINES + kinds(EventGroup::Other) * LINES_PER_OTHER;
        let warnings = 5 * LINES_PER_MESSAGE;
        let in_30_s =
            (alarms + others + warnings + 3 * LINES_PER_CALLER + REFUSED_CHECK_LINES) * 3 / 2;
        assert!(in_30_s + 2 * 31 * 100 < 10_000, "{in_30_s}");
    }
}
