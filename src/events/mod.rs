//! What the daemon says: the log events, their fields and how a line of them looks.
//!
//! Owns the names and fields (a stable interface), the limits on repeats, the formats and the
//! way to standard output or the journal. It never decides that something has happened, never
//! waits for a reader of the log, and is never given a secret: callers hand over text that is
//! fit to print.
//!
//! Tracing carries the events of libraries to the same lines. Of our own events it only decides,
//! by the filter, which are written.
//!
//! ```text
//! Journal ── limiter        what is left out, and when that is said
//!    │          ├─ budgets   a token bucket for each kind of event
//!    │          └─ repeats   repeated warnings, summarised with a count
//!    └─ emit ── lines ── format      one event, one line
//!                 └─ queue           a writer thread
//! ```

mod budgets;
mod fields;
mod filter;
mod format;
mod given;
mod init;
mod journal;
mod journald;
mod limiter;
mod lines;
mod name;
mod queue;
mod record;
mod repeats;
mod ring;
mod summary;

pub use fields::Fields;
pub use filter::check_filter;
pub use given::Given;
pub use init::{Guard, InitError, StdoutKind, init};
pub use journal::Journal;
pub use name::Name;
pub use ring::{Happened, Ring};
pub use summary::CheckEnd;

use summary::Figures;
use tracing::Level;

use crate::secret::mask;

/// The tracing target of the events named here. A filter `tokenkeep=debug` covers it.
const TARGET: &str = "tokenkeep";

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// For those who look for an error in tokenkeep or in a server.
    Debug,
    /// All is as it should be.
    Info,
    /// Somebody should look at it some time.
    Warn,
    /// Somebody must act, or a token is lost.
    Error,
}

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

/// Says one event, without regard to limits: for what happens before and after the daemon's
/// loop. The loop itself writes through its [`Journal`].
pub fn emit(name: Name, severity: Severity, message: &str, fields: &Fields<'_>) {
    if enabled(severity) {
        lines::write(name, severity, message, fields.values());
    }
}

/// Logs that the daemon cannot start, and why, without what looks like a token in it.
pub fn emit_failed_start(error: &str) {
    let (name, message) = (Name::StartFailed, "tokenkeep cannot start");
    let error = mask(error);
    let fields = Fields { error: Some(&error), ..Fields::default() };
    emit(name, name.severity(), message, &fields);
}

/// Writes the summary of a minute of checks, and how many lines it stands for.
fn emit_summary(summary: &Figures, suppressed: u64) {
    let Figures { checks, failures, .. } = *summary;
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
    let message = format!("{checks} checks have ended, {failures} of them without a conclusion");
    if enabled(Severity::Info) {
        lines::write(Name::ChecksSummary, Severity::Info, &message, fields.collect());
    }
}

/// Whether the filter lets events of this severity through.
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
