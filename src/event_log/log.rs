//! The daemon's own pen: events under the limits on repeats.

use super::budgets::EventGroup;
use super::check_summary::{CheckSummary, CompletedCheck};
use super::history::History;
use super::rate_limiter::{LogRateLimiter, SuppressedCounts, Verdict};
use super::repeats::SuppressedWarning;
use super::{EventName, Fields, Severity, emit, emit_summary, enabled};
use crate::clock;
use crate::time::Moment;

/// Writes events, leaves out what is too much, and says so.
#[derive(Debug)]
pub struct EventLog {
    limiter: LogRateLimiter,
    summary: CheckSummary,
    history: History,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog {
    /// A journal that has left nothing out yet.
    pub fn new() -> Self {
        Self {
            limiter: LogRateLimiter::default(),
            summary: CheckSummary::new(),
            history: History::default(),
        }
    }

    /// Counts a check that has ended, for the summary that is written where there are too many
    /// for a line of each. What became of the token is still to be written.
    pub fn count_check(&mut self, now: Moment, end: &CompletedCheck) {
        self.write_due_summaries(now);
        if self.limiter.is_summarizing() {
            self.summary.add(end);
        }
    }

    /// Writes an event that happens `now`, or counts it where there are too many.
    ///
    /// [`EventName::DaemonStopped`] is the last line: everything that was left out is said before it.
    pub fn write(
        &mut self,
        now: Moment,
        name: EventName,
        severity: Severity,
        message: &str,
        fields: Fields<'_>,
    ) {
        if name == EventName::DaemonStopped {
            self.flush();
        } else {
            self.write_due_summaries(now);
        }
        let enabled = enabled(severity);
        let verdict = if enabled {
            self.limiter.admit(now, name, severity, message)
        } else {
            Verdict::Suppress
        };
        // A flood that clients cause, or of one warning, must not evict what happened to tokens.
        let is_flood = match EventGroup::of(name, severity) {
            EventGroup::Caller => true,
            EventGroup::Warning => enabled,
            _ => false,
        };
        if verdict != Verdict::Suppress || !is_flood {
            self.history.add(clock::wall_clock(), name, severity, message, &fields);
        }
        match verdict {
            Verdict::Write { suppressed: 0 } => emit(name, severity, message, &fields),
            Verdict::Write { suppressed } => {
                emit(name, severity, message, &Fields { suppressed: Some(suppressed), ..fields });
            }
            Verdict::Suppress => {}
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
        let name = EventName::TokenChecked;
        self.write_due_summaries(now);
        if enabled(severity)
            && let Verdict::Write { suppressed } = self.limiter.admit(now, name, severity, "")
        {
            let suppressed = (suppressed > 0).then_some(suppressed);
            emit(name, severity, &message(), &Fields { suppressed, ..fields });
        }
    }

    /// What has happened lately, whether or not the filter and the limits let it through; of
    /// what callers have asked for, only what they let through.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// When [`write_due_summaries`](Self::say_due) has something to say, if nothing is written before.
    pub fn due(&self) -> Option<Moment> {
        [self.limiter.due(), self.limiter.summary_due()].into_iter().flatten().min()
    }

    /// Says what was left out or summed up, where that is due. Too early or twice does no harm.
    pub fn write_due_summaries(&mut self, now: Moment) {
        emit_repeated_warnings(&self.limiter.take_due_repeats(now));
        emit_suppressed(&self.limiter.take_due(now));
        if self.limiter.summary_due().is_some_and(|due| due <= now) {
            let suppressed = self.limiter.start_next_summary(now);
            emit_summary(&self.summary.take(), suppressed);
        }
    }

    /// Says what was left out and not said yet: at the latest before the process ends.
    /// Too early or twice does no harm.
    pub fn flush(&mut self) {
        if let Some(suppressed) = self.limiter.finish_summary() {
            emit_summary(&self.summary.take(), suppressed);
        }
        emit_repeated_warnings(&self.limiter.take_all_repeats());
        emit_suppressed(&self.limiter.take_all());
    }
}

/// Summarises warnings whose message has been written often enough.
fn emit_repeated_warnings(repeats: &[SuppressedWarning]) {
    for SuppressedWarning { message, count } in repeats {
        let message = format!("{message}: {count} more of these warnings were left out");
        let fields = Fields { suppressed: Some(*count), ..Fields::default() };
        emit(EventName::ConfigWarning, Severity::Warn, &message, &fields);
    }
}

fn emit_suppressed(tally: &SuppressedCounts) {
    if tally.is_empty() {
        return;
    }
    let total = tally.total();
    let message = format!("{total} events were left out to keep the log readable");
    emit(
        EventName::EventsSuppressed,
        EventName::EventsSuppressed.severity(),
        &message,
        &Fields { suppressed: Some(total), detail: Some(&tally.describe()), ..Fields::default() },
    );
}
