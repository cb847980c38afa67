//! Files of `conf.d` that could not be read at start.
//!
//! The daemon runs without them and reads the configuration again every [`RETRY`] until it is
//! complete. An attempt that fails changes nothing and is not logged.

use std::time::Duration;

use crate::clock;
use crate::control::ConfigRejection;
use crate::daemon::Daemon;
use crate::events::{Fields, Name, Severity};
use crate::settings::Fault;
use crate::time::Moment;

/// Time between two attempts to read the configuration.
const RETRY: Duration = Duration::from_secs(5);

/// When the configuration is read again, if a file of it was left out.
#[derive(Debug, Default)]
pub(crate) struct UnreadFiles {
    due: Option<Moment>,
    /// The reading under way is an attempt of ours.
    reading: bool,
}

impl UnreadFiles {
    pub(crate) const fn due(&self) -> Option<Moment> {
        self.due
    }

    /// The configuration was read; whether that was one of the attempts here.
    pub(crate) const fn take_attempt(&mut self) -> bool {
        std::mem::replace(&mut self.reading, false)
    }

    /// A complete configuration is applied.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Daemon {
    /// Reports the files that the configuration is incomplete without.
    pub fn report_unread(&mut self, unread: &[Fault]) {
        for fault in unread {
            let path = fault.place.to_string();
            let error = format!("{}; {}", fault.message, fault.remedy);
            let message = format!(
                "started without {path}, and its tokens are not checked: {error}; trying again \
                 every {} s",
                RETRY.as_secs()
            );
            let fields = Fields {
                path: Some(&path),
                error: Some(&error),
                retry_in_ms: u64::try_from(RETRY.as_millis()).ok(),
                ..Fields::default()
            };
            self.say(Name::ConfigRejected, Severity::Error, &message, fields);
        }
        if let Some(fault) = unread.first() {
            let error = format!("{}: {}", fault.place, fault.message);
            self.config_rejected = Some(ConfigRejection { at: clock::wall_clock(), error });
            self.unread.due = Some(clock::now() + RETRY);
        }
    }

    /// Reads the configuration again, if a file was left out of it and an attempt is due.
    pub(crate) fn retry_unread(&mut self, now: Moment) {
        if self.stopping || self.unread.due.is_none_or(|due| due > now) {
            return;
        }
        self.unread.due = Some(now + RETRY);
        if self.reloads.begin_if_idle() {
            self.unread.reading = true;
            self.read_configuration();
        }
    }
}
