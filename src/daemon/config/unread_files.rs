//! Files of `conf.d` that could not be read at startup.
//!
//! The daemon runs without them and reads the configuration again every [`RETRY`] until it is
//! complete. An attempt that fails changes nothing and is not logged.

use std::time::Duration;

use crate::time::Moment;

/// Time between two attempts to read the configuration.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// When the configuration is read again, if a file was left out.
#[derive(Debug, Default)]
pub(super) struct UnreadFiles {
    due: Option<Moment>,
    /// The current read of the configuration is one of these attempts.
    is_attempt: bool,
}

impl UnreadFiles {
    /// When the next attempt is due.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Schedules the next attempt.
    pub(super) fn schedule(&mut self, now: Moment) {
        self.due = Some(now + RETRY);
    }

    /// Whether an attempt is due; schedules the next one then.
    pub(super) fn take_due(&mut self, now: Moment) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.schedule(now);
        }
        is_due
    }

    /// The current read of the configuration is an attempt.
    pub(super) const fn begin_attempt(&mut self) {
        self.is_attempt = true;
    }

    /// The configuration was read. Returns whether that was an attempt.
    pub(super) const fn end_attempt(&mut self) -> bool {
        std::mem::replace(&mut self.is_attempt, false)
    }

    /// A complete configuration is applied.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_repeat_until_the_configuration_is_complete() {
        let at = |seconds: u64| Moment::from_millis(seconds * 1_000);
        let mut unread = UnreadFiles::default();
        assert!(!unread.take_due(at(100)));
        unread.schedule(at(100));
        let due: Vec<_> = (100..112).filter(|second| unread.take_due(at(*second))).collect();
        assert_eq!(due, [105, 110]);
        unread.clear();
        assert_eq!(unread.due(), None);
    }
}
