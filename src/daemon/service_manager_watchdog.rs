//! The pings that keep systemd's watchdog quiet: the loop's own proof that it gets on.

use std::time::Duration;

use crate::systemd;
use crate::time::Moment;

/// Pings systemd from the daemon's loop, as often as the unit's `WatchdogSec` asks for.
///
/// A loop that merely goes round is not enough: while work is left undone that was due an
/// interval ago, no ping is sent, and systemd restarts the daemon.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Half of the unit's limit; `None` without one.
    interval: Option<Duration>,
    pinged: Option<Moment>,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        Self { interval: systemd::watchdog_interval(), pinged: None }
    }

    /// The loop has gone round at `now`; the oldest work that is left is due at `left`.
    pub(crate) fn gone_round(&mut self, now: Moment, left: Option<Moment>) {
        if self.deserves_ping(now, left) {
            self.pinged = Some(now);
            // A ping that is lost is made good by the next one, or by a restart.
            let _ = systemd::watchdog();
        }
    }

    /// When the loop has to go round at the latest.
    pub(crate) fn due(&self) -> Option<Moment> {
        Some(self.pinged? + self.interval?)
    }

    fn deserves_ping(&self, now: Moment, left: Option<Moment>) -> bool {
        let Some(interval) = self.interval else { return false };
        let with_disk_timeout = left.is_none_or(|due| now < due + interval);
        with_disk_timeout && self.due().is_none_or(|due| due <= now)
    }
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
    fn it_is_pinged_at_once_and_then_once_in_an_interval() {
        let mut watchdog = watchdog();
        let mut pings = Vec::new();
        for second in 100..140 {
            if watchdog.deserves_ping(at(second), None) {
                pings.push(second);
            }
            watchdog.gone_round(at(second), None);
        }
        assert_eq!(pings, [100, 115, 130]);
        assert_eq!(watchdog.due(), Some(at(145)));
    }

    #[test]
    fn a_loop_that_leaves_its_work_undone_is_not_vouched_for() {
        let watchdog = watchdog();
        assert!(watchdog.deserves_ping(at(100), Some(at(86))));
        assert!(!watchdog.deserves_ping(at(100), Some(at(85))));
    }

    #[test]
    fn without_a_limit_nothing_is_due() {
        let mut watchdog = Watchdog { interval: None, pinged: None };
        watchdog.gone_round(at(100), None);
        assert_eq!(watchdog.due(), None);
    }
}
