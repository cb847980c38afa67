//! Event log: structured log events as JSON, logfmt, text or native systemd journal messages.
//!
//! Owns the event names and fields (a stable interface), rate limiting, the formats, and the
//! output to standard output or the journal. Logging never blocks the daemon. Callers never pass
//! a secret: every text must be fit to print.
//!
//! Events of libraries arrive through a `tracing` layer. The daemon's own events bypass tracing,
//! except for its level filter.
//!
//! ```text
//! EventLog
//!    ├─ subscriptions     what `[notify]` receives, before anything is left out
//!    ├─ limiter           what is left out, and when that is logged
//!    │          ├─ budgets   a token bucket for each kind of event
//!    │          └─ repeats   repeated warnings, summarised with a count
//!    └─ emit ── lines ── format      one event, one line
//!                 └─ queue           a writer thread
//! ```

mod budgets;
mod check_summary;
mod fields;
mod filter;
mod format;
mod history;
mod init;
mod journald;
mod layer;
mod log;
mod rate_limiter;
mod record;
mod repeats;
mod reported_warnings;
mod subscriptions;
mod writer;

pub use check_summary::CompletedCheck;
pub use fields::Fields;
pub use filter::check_filter;
pub use history::{History, LoggedEvent};
pub use init::{Guard, InitError, StdoutKind, init};
pub use log::EventLog;
pub use reported_warnings::ReportedWarnings;
pub use subscriptions::{MAX_WAITING, Subscriptions, WaitingEvent};

pub use crate::event::{EventName, Severity};

use check_summary::SummaryFields;
use jiff::Timestamp;
use tracing::Level;

use crate::secret::mask;

/// The tracing target of the events named here. A filter `tokenkeep=debug` covers it.
const TARGET: &str = "tokenkeep";

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Debug => Self::DEBUG,
            Severity::Info => Self::INFO,
            Severity::Warn => Self::WARN,
            Severity::Error => Self::ERROR,
        }
    }
}

/// Writes one event without rate limiting. For events before and after the main loop; the main
/// loop writes through its [`EventLog`].
pub fn emit(name: EventName, severity: Severity, message: &str, fields: &Fields<'_>) {
    if enabled(severity) {
        layer::write(None, name, severity, message, fields.values());
    }
}

/// As [`emit`], for an event that happened `at` this time.
fn emit_at(at: Timestamp, name: EventName, severity: Severity, message: &str, fields: &Fields<'_>) {
    if enabled(severity) {
        layer::write(Some(at), name, severity, message, fields.values());
    }
}

/// Logs that the daemon cannot start. Text in `error` that looks like a secret is masked.
pub fn emit_failed_start(error: &str) {
    let (name, message) = (EventName::StartFailed, "tokenkeep cannot start");
    let error = mask(error);
    let fields = Fields { error: Some(&error), ..Fields::default() };
    emit(name, name.severity(), message, &fields);
}

/// Writes the summary of one minute of checks, with the number of lines that it replaces.
fn emit_summary(summary: &SummaryFields, suppressed: u64) {
    let SummaryFields { checks, failures, .. } = *summary;
    let values = [
        ("checks", Some(checks)),
        ("failures", Some(failures)),
        ("lateness_p50_ms", Some(summary.lateness_p50_ms)),
        ("lateness_p99_ms", Some(summary.lateness_p99_ms)),
        ("lateness_max_ms", Some(summary.lateness_max_ms)),
        ("life_left_p1_ms", summary.life_left_p1_ms),
        ("suppressed", Some(suppressed)),
    ];
    let fields = values.into_iter().filter_map(|(key, value)| Some((key.into(), value?.into())));
    let message = format!("{checks} checks finished, {failures} of them failed");
    if enabled(Severity::Info) {
        layer::write(None, EventName::ChecksSummary, Severity::Info, &message, fields.collect());
    }
}

/// Whether the level filter accepts events of this severity.
pub(crate) fn enabled(severity: Severity) -> bool {
    match severity {
        Severity::Debug => tracing::enabled!(target: TARGET, tracing::Level::DEBUG),
        Severity::Info => tracing::enabled!(target: TARGET, tracing::Level::INFO),
        Severity::Warn => tracing::enabled!(target: TARGET, tracing::Level::WARN),
        Severity::Error => tracing::enabled!(target: TARGET, tracing::Level::ERROR),
    }
}

#[cfg(test)]
mod tests;
