//! The service manager (systemd): readiness, the status line, the watchdog.
//!
//! Owns when systemd was notified last. Without `NOTIFY_SOCKET` nothing is sent.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use crate::clock;
use crate::control::ConfigRejection;
use crate::event_log::EventLog;
use crate::lifecycle::State;
use crate::scheduler::Scheduler;
use crate::systemd;
use crate::text::format_token_counts;
use crate::time::Moment;

/// Time between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Notifies systemd after each turn of the loop.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    status: StatusNotifier,
    watchdog: Watchdog,
}

impl ServiceManager {
    pub(crate) fn new() -> Self {
        Self { status: StatusNotifier::new(), watchdog: Watchdog::new() }
    }

    /// A turn of the loop has ended: sends the status line and the ping of the watchdog, if due.
    pub(crate) fn turn_ended(
        &mut self,
        now: Moment,
        scheduler: &Scheduler,
        rejected: Option<&ConfigRejection>,
    ) {
        self.status.notify(now, scheduler, rejected);
        self.watchdog.turn_ended(now, scheduler.next_wake());
    }

    /// When a turn is needed.
    pub(crate) fn due(&self) -> Option<Moment> {
        [self.status.due(), self.watchdog.due()].into_iter().flatten().min()
    }
}

/// Keeps the status line current, without a timer of its own while nothing happens.
#[derive(Debug)]
struct StatusNotifier {
    is_wanted: bool,
    sent_at: Option<Moment>,
    is_pending: bool,
    last: String,
}

impl StatusNotifier {
    fn new() -> Self {
        Self {
            is_wanted: std::env::var_os("NOTIFY_SOCKET").is_some(),
            sent_at: None,
            is_pending: false,
            last: String::new(),
        }
    }

    /// Something may have changed: sends the status line now, or when the interval is over.
    fn notify(&mut self, now: Moment, scheduler: &Scheduler, rejected: Option<&ConfigRejection>) {
        if !self.is_wanted {
            return;
        }
        if self.sent_at.is_some_and(|sent| now < sent + STATUS_INTERVAL) {
            self.is_pending = true;
            return;
        }
        self.sent_at = Some(now);
        self.is_pending = false;
        let line = status_line(now, scheduler, rejected);
        if line != self.last {
            // One that was dropped is sent again, and with it a READY that was dropped.
            if systemd::status(&line).is_ok() {
                self.last = line;
            }
        }
    }

    /// When a pending status line is due.
    fn due(&self) -> Option<Moment> {
        self.sent_at.filter(|_| self.is_pending).map(|sent| sent + STATUS_INTERVAL)
    }
}

/// Pings the watchdog as often as the unit's `WatchdogSec` asks for.
///
/// A loop that runs is not enough: while work is left undone that was due an interval ago, no
/// ping is sent, and systemd restarts the daemon.
#[derive(Debug)]
struct Watchdog {
    /// Half of the unit's limit; `None` without a limit.
    interval: Option<Duration>,
    pinged: Option<Moment>,
}

impl Watchdog {
    fn new() -> Self {
        Self { interval: systemd::watchdog_interval(), pinged: None }
    }

    /// A turn has ended; the oldest work that is left is due at `left`.
    fn turn_ended(&mut self, now: Moment, left: Option<Moment>) {
        if self.deserves_ping(now, left) {
            self.pinged = Some(now);
            // A ping that is lost is followed by the next one, or by a restart.
            let _ = systemd::watchdog();
        }
    }

    /// When a turn is needed.
    fn due(&self) -> Option<Moment> {
        Some(self.pinged? + self.interval?)
    }

    fn deserves_ping(&self, now: Moment, left: Option<Moment>) -> bool {
        let Some(interval) = self.interval else { return false };
        let in_time = left.is_none_or(|due| now < due + interval);
        in_time && self.due().is_none_or(|due| due <= now)
    }
}

/// Notifies systemd that the daemon is ready, or has reloaded its configuration.
pub(crate) fn ready(scheduler: &Scheduler, rejected: Option<&ConfigRejection>, log: &mut EventLog) {
    report_error(systemd::ready(&status_line(clock::now(), scheduler, rejected)), log);
}

/// Logs that systemd could not be notified.
pub(crate) fn report_error(result: io::Result<()>, log: &mut EventLog) {
    if let Err(error) = result {
        log.config_warning("systemd could not be notified", None, &error.to_string());
    }
}

/// The states of all tokens in one line, and whether a restart may fail.
fn status_line(now: Moment, scheduler: &Scheduler, rejected: Option<&ConfigRejection>) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    fn watchdog() -> Watchdog {
        Watchdog { interval: Some(INTERVAL), pinged: None }
    }

    #[test]
    fn watchdog_is_pinged_at_once_and_then_once_in_an_interval() {
        let mut watchdog = watchdog();
        let mut pings = Vec::new();
        for second in 100..140 {
            if watchdog.deserves_ping(at(second), None) {
                pings.push(second);
            }
            watchdog.turn_ended(at(second), None);
        }
        assert_eq!(pings, [100, 115, 130]);
        assert_eq!(watchdog.due(), Some(at(145)));
    }

    #[test]
    fn watchdog_is_not_pinged_while_work_is_overdue() {
        let watchdog = watchdog();
        assert!(watchdog.deserves_ping(at(100), Some(at(86))));
        assert!(!watchdog.deserves_ping(at(100), Some(at(85))));
    }

    #[test]
    fn watchdog_without_a_limit_is_never_due() {
        let mut watchdog = Watchdog { interval: None, pinged: None };
        watchdog.turn_ended(at(100), None);
        assert_eq!(watchdog.due(), None);
    }
}
