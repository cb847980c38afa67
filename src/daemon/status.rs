//! The line that `systemctl status` shows.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use super::Daemon;
use crate::clock;
use crate::control::ConfigRejection;
use crate::event_log::{EventName, Fields, Severity};
use crate::lifecycle::State;
use crate::scheduler::Scheduler;
use crate::systemd;
use crate::text::format_token_counts;
use crate::time::Moment;

/// Between two lines: often enough for a glance.
const PACE: Duration = Duration::from_secs(1);

/// Keeps systemd's status line current, without waking the daemon for it when nothing happens.
#[derive(Debug)]
pub(super) struct StatusLine {
    wanted: bool,
    told_at: Option<Moment>,
    pending: bool,
    last: String,
}

impl StatusLine {
    pub(super) fn new() -> Self {
        Self {
            wanted: std::env::var_os("NOTIFY_SOCKET").is_some(),
            told_at: None,
            pending: false,
            last: String::new(),
        }
    }

    /// Something may have happened: tells it now, or soon.
    pub(super) fn tell(
        &mut self,
        now: Moment,
        scheduler: &Scheduler,
        rejected: Option<&ConfigRejection>,
    ) {
        if !self.wanted {
            return;
        }
        if self.told_at.is_some_and(|told| now < told + PACE) {
            self.pending = true;
            return;
        }
        self.told_at = Some(now);
        self.pending = false;
        let line = sentence(now, scheduler, rejected);
        if line != self.last {
            // A status line that is lost is replaced by the next one.
            let _ = systemd::status(&line);
            self.last = line;
        }
    }

    /// When a line is due that could not be told at once.
    pub(super) fn due(&self) -> Option<Moment> {
        self.told_at.filter(|_| self.pending).map(|told| told + PACE)
    }
}

impl Daemon {
    pub(super) fn ready(&mut self) {
        let line = self.status_line();
        self.told(systemd::ready(&line));
        self.say(
            EventName::DaemonReady,
            Severity::Info,
            "the first checks are under way",
            Fields { tokens: u64::try_from(self.roster.len()).ok(), ..Fields::default() },
        );
    }

    /// The line for systemd as of now.
    pub(super) fn status_line(&self) -> String {
        sentence(clock::now(), &self.scheduler, self.config_rejected.as_ref())
    }

    /// systemd cannot be told something: it will notice; people are told once.
    pub(super) fn told(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            let error = error.to_string();
            let fields = Fields { error: Some(&error), ..Fields::default() };
            self.say(EventName::ConfigWarning, Severity::Warn, "systemd cannot be told", fields);
        }
    }
}

/// How all tokens are, in one line, and whether a restart may fail.
fn sentence(now: Moment, scheduler: &Scheduler, rejected: Option<&ConfigRejection>) -> String {
    let state_counts = scheduler.state_counts();
    let mut counts = State::ALL.map(|state| (state_counts.of(state), state.as_str()));
    counts.reverse();
    let mut line = format_token_counts(&counts);
    if let Some(next) = scheduler.next_wake() {
        let seconds = next.since(now).as_secs_f64().ceil();
        // Writing to a string cannot fail.
        let _ = write!(line, "; next check in {seconds} s");
    }
    if let Some(rejected) = rejected {
        let _ = write!(line, "; {rejected}");
    }
    line
}
