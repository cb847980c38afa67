//! The daemon's handle on the event log: passes events to subscriptions, applies the rate limits and
//! keeps the history.

use jiff::Timestamp;

use super::budgets::EventGroup;
use super::check_summary::{CheckSummary, CompletedCheck};
use super::history::History;
use super::rate_limiter::{LogRateLimiter, SuppressedCounts, Verdict};
use super::repeats::SuppressedWarning;
use super::subscriptions::Subscriptions;
use super::{EventName, Fields, Severity, emit, emit_at, emit_summary, enabled};
use crate::clock;
use crate::time::Moment;

/// Writes events within the rate limits, and reports what was suppressed.
#[derive(Debug)]
pub struct EventLog {
    limiter: LogRateLimiter,
    summary: CheckSummary,
    history: History,
    started: Timestamp,
    subscriptions: Subscriptions,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog {
    /// An event log that has suppressed nothing yet.
    pub fn new() -> Self {
        Self {
            limiter: LogRateLimiter::default(),
            summary: CheckSummary::new(),
            history: History::default(),
            started: clock::wall_clock(),
            subscriptions: Subscriptions::default(),
        }
    }

    /// Counts a completed check for the summary, which replaces single lines if there are too many
    /// checks. The caller still writes the result of the check.
    pub fn count_check(&mut self, now: Moment, end: &CompletedCheck) {
        self.write_due_summaries(now);
        if self.limiter.is_summarizing() {
            self.summary.add(end);
        }
    }

    /// [Writes](Self::write) an event that happens now, at its documented level.
    pub fn event(&mut self, name: EventName, message: &str, fields: Fields<'_>) {
        self.event_at(name.severity(), name, message, fields);
    }

    /// As [`event`](Self::event), at another level.
    pub fn event_at(
        &mut self,
        severity: Severity,
        name: EventName,
        message: &str,
        fields: Fields<'_>,
    ) {
        self.write(clock::now(), name, severity, message, fields);
    }

    /// Writes a `config_warning` about the file, directory or address `path`.
    pub fn config_warning(&mut self, message: &str, path: Option<&str>, error: &str) {
        let fields = Fields { error: Some(error), path, ..Fields::default() };
        self.event(EventName::ConfigWarning, message, fields);
    }

    /// Writes an event that happens `now`, or counts it if it exceeds a rate limit.
    ///
    /// [`EventName::DaemonStopped`] is the last line: all reports of suppressed events precede it.
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
        let at = clock::wall_clock();
        self.subscriptions.add(at, name, severity, message, &fields);
        let enabled = enabled(severity);
        let verdict = if enabled {
            self.limiter.admit(now, name, severity, message)
        } else {
            Verdict::Suppress
        };
        // A flood of client requests or of one warning must not evict the history of tokens.
        let is_flood = match EventGroup::of(name, severity) {
            EventGroup::Caller => true,
            EventGroup::Warning => enabled,
            _ => false,
        };
        if verdict != Verdict::Suppress || !is_flood {
            self.history.add(at, name, severity, message, &fields);
        }
        match verdict {
            Verdict::Write { suppressed: 0 } => emit_at(at, name, severity, message, &fields),
            Verdict::Write { suppressed } => {
                let fields = Fields { suppressed: Some(suppressed), ..fields };
                emit_at(at, name, severity, message, &fields);
            }
            Verdict::Suppress => {}
        }
    }

    /// As [`write`](Self::write), for `token_checked`, the most frequent event: the message is
    /// formatted only if the line is written or delivered.
    pub fn write_check(
        &mut self,
        now: Moment,
        severity: Severity,
        fields: Fields<'_>,
        message: impl FnOnce() -> String,
    ) {
        let name = EventName::TokenChecked;
        self.write_due_summaries(now);
        let verdict = if enabled(severity) {
            self.limiter.admit(now, name, severity, "")
        } else {
            Verdict::Suppress
        };
        if verdict == Verdict::Suppress && !self.subscriptions.want(name, severity, &fields) {
            return;
        }
        let (at, message) = (clock::wall_clock(), message());
        self.subscriptions.add(at, name, severity, &message, &fields);
        if let Verdict::Write { suppressed } = verdict {
            let suppressed = (suppressed > 0).then_some(suppressed);
            emit_at(at, name, severity, &message, &Fields { suppressed, ..fields });
        }
    }

    /// The events that wait to be delivered to each `[notify.NAME]`.
    pub const fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// The subscriptions, to take events from them.
    pub const fn subscriptions_mut(&mut self) -> &mut Subscriptions {
        &mut self.subscriptions
    }

    /// The recent events, including those that the filter or the rate limits suppressed. Requests
    /// of clients are included only if they were written.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// When the log, and so the history, began.
    pub const fn started(&self) -> Timestamp {
        self.started
    }

    /// When to call [`write_due_summaries`](Self::write_due_summaries) next; `None` if nothing is
    /// pending.
    pub fn due(&self) -> Option<Moment> {
        [self.limiter.due(), self.limiter.summary_due()].into_iter().flatten().min()
    }

    /// Writes the reports and summaries that are due. Extra calls are harmless.
    pub fn write_due_summaries(&mut self, now: Moment) {
        emit_repeated_warnings(&self.limiter.take_due_repeats(now));
        emit_suppressed(&self.limiter.take_due(now));
        if self.limiter.summary_due().is_some_and(|due| due <= now) {
            let suppressed = self.limiter.start_next_summary(now);
            emit_summary(&self.summary.take(), suppressed);
        }
    }

    /// Writes all pending reports and summaries. Must be called before the process ends. Extra
    /// calls are harmless.
    pub fn flush(&mut self) {
        if let Some(suppressed) = self.limiter.finish_summary() {
            emit_summary(&self.summary.take(), suppressed);
        }
        emit_repeated_warnings(&self.limiter.take_all_repeats());
        emit_suppressed(&self.limiter.take_all());
    }
}

/// Writes one summary for each message whose repeats were suppressed.
fn emit_repeated_warnings(repeats: &[SuppressedWarning]) {
    for SuppressedWarning { message, count } in repeats {
        let message = format!("{message}: {count} more of these warnings were suppressed");
        let fields = Fields { suppressed: Some(*count), ..Fields::default() };
        emit(EventName::ConfigWarning, Severity::Warn, &message, &fields);
    }
}

fn emit_suppressed(tally: &SuppressedCounts) {
    if tally.is_empty() {
        return;
    }
    let total = tally.total();
    let message = format!("{total} repeated events were suppressed");
    emit(
        EventName::EventsSuppressed,
        EventName::EventsSuppressed.severity(),
        &message,
        &Fields { suppressed: Some(total), detail: Some(&tally.describe()), ..Fields::default() },
    );
}
