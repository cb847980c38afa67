//! The daemon's own pen: events under the limits on repeats.

use super::limiter::{Limiter, Tally, Verdict};
use super::ring::Ring;
use super::{Fields, Name, Severity, emit, enabled};
use crate::clock;
use crate::time::Moment;

/// Writes events, leaves out what is too much, and says so.
#[derive(Debug, Default)]
pub struct Journal {
    limiter: Limiter,
    ring: Ring,
}

impl Journal {
    /// A journal that has left nothing out yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes an event that happens `now`, or counts it where there are too many.
    ///
    /// [`Name::DaemonStopped`] is the last line: everything that was left out is said before it.
    pub fn write(
        &mut self,
        now: Moment,
        name: Name,
        severity: Severity,
        message: &str,
        fields: Fields<'_>,
    ) {
        if name == Name::DaemonStopped {
            self.flush();
        } else {
            say(&self.limiter.take_due(now));
        }
        self.ring.add(clock::wall_clock(), name, severity, message, &fields);
        if !enabled(severity) {
            return;
        }
        match self.limiter.admit(now, name) {
            Verdict::Write { suppressed: 0 } => emit(name, severity, message, &fields),
            Verdict::Write { suppressed } => {
                emit(name, severity, message, &Fields { suppressed: Some(suppressed), ..fields });
            }
            Verdict::LeaveOut => {}
        }
    }

    /// What has happened lately, whether or not the filter and the limits let it through.
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// When [`flush`](Self::flush) has something to say, if nothing is written before.
    pub fn due(&self) -> Option<Moment> {
        self.limiter.due()
    }

    /// Says what was left out and not said yet: at the latest before the process ends.
    /// Too early or twice does no harm.
    pub fn flush(&mut self) {
        say(&self.limiter.take_all());
    }
}

fn say(tally: &Tally) {
    if tally.is_empty() {
        return;
    }
    let total = tally.total();
    let message = format!("{total} events were left out to keep the log readable");
    emit(
        Name::EventsSuppressed,
        Name::EventsSuppressed.severity(),
        &message,
        &Fields { suppressed: Some(total), detail: Some(&tally.describe()), ..Fields::default() },
    );
}
