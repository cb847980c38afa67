//! The daemon's own pen: events under the limits on repeats.

use super::budgets::Group;
use super::limiter::{Limiter, Tally, Verdict};
use super::repeats::Repeat;
use super::ring::Ring;
use super::summary::{CheckEnd, Summary};
use super::{Fields, Name, Severity, emit, emit_summary, enabled};
use crate::clock;
use crate::time::Moment;

/// Writes events, leaves out what is too much, and says so.
#[derive(Debug)]
pub struct Journal {
    limiter: Limiter,
    summary: Summary,
    ring: Ring,
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal {
    /// A journal that has left nothing out yet.
    pub fn new() -> Self {
        Self { limiter: Limiter::default(), summary: Summary::new(), ring: Ring::default() }
    }

    /// Counts a check that has ended, for the summary that is written where there are too many
    /// for a line of each. What became of the token is still to be written.
    pub fn count_check(&mut self, now: Moment, end: &CheckEnd) {
        self.say_due(now);
        if self.limiter.is_summing() {
            self.summary.add(end);
        }
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
            self.say_due(now);
        }
        let enabled = enabled(severity);
        let verdict = if enabled {
            self.limiter.admit(now, name, severity, message)
        } else {
            Verdict::LeaveOut
        };
        // A flood that clients cause, or of one warning, must not evict what happened to tokens.
        let is_flood = match Group::of(name, severity) {
            Group::Caller => true,
            Group::Warning => enabled,
            _ => false,
        };
        if verdict != Verdict::LeaveOut || !is_flood {
            self.ring.add(clock::wall_clock(), name, severity, message, &fields);
        }
        match verdict {
            Verdict::Write { suppressed: 0 } => emit(name, severity, message, &fields),
            Verdict::Write { suppressed } => {
                emit(name, severity, message, &Fields { suppressed: Some(suppressed), ..fields });
            }
            Verdict::LeaveOut => {}
        }
    }

    /// The same for a `token_checked`, of which there are the most: the message is only made where
    /// the line is written.
    pub fn write_check(
        &mut self,
        now: Moment,
        severity: Severity,
        fields: Fields<'_>,
        message: impl FnOnce() -> String,
    ) {
        let name = Name::TokenChecked;
        self.say_due(now);
        if enabled(severity)
            && let Verdict::Write { suppressed } = self.limiter.admit(now, name, severity, "")
        {
            let suppressed = (suppressed > 0).then_some(suppressed);
            emit(name, severity, &message(), &Fields { suppressed, ..fields });
        }
    }

    /// What has happened lately, whether or not the filter and the limits let it through; of
    /// what callers have asked for, only what they let through.
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// When [`say_due`](Self::say_due) has something to say, if nothing is written before.
    pub fn due(&self) -> Option<Moment> {
        [self.limiter.due(), self.limiter.summary_due()].into_iter().flatten().min()
    }

    /// Says what was left out or summed up, where that is due. Too early or twice does no harm.
    pub fn say_due(&mut self, now: Moment) {
        say_repeats(&self.limiter.take_due_repeats(now));
        say(&self.limiter.take_due(now));
        if self.limiter.summary_due().is_some_and(|due| due <= now) {
            let suppressed = self.limiter.sum_up(now);
            emit_summary(&self.summary.take(), suppressed);
        }
    }

    /// Says what was left out and not said yet: at the latest before the process ends.
    /// Too early or twice does no harm.
    pub fn flush(&mut self) {
        if let Some(suppressed) = self.limiter.stop_summing() {
            emit_summary(&self.summary.take(), suppressed);
        }
        say_repeats(&self.limiter.take_all_repeats());
        say(&self.limiter.take_all());
    }
}

/// Summarises warnings whose message has been written often enough.
fn say_repeats(repeats: &[Repeat]) {
    for Repeat { message, count } in repeats {
        let message = format!("{message}: {count} more of these warnings were left out");
        let fields = Fields { suppressed: Some(*count), ..Fields::default() };
        emit(Name::ConfigWarning, Severity::Warn, &message, &fields);
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
