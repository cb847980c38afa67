//! What the daemon says: the log events, their fields and how a line of them looks.
//!
//! Owns the names and fields (a stable interface), the limits on repeats, the formats and the
//! way to standard output or the journal. It never decides that something has happened, never
//! waits for a reader of the log, and is never given a secret: callers hand over text that is
//! fit to print.
//!
//! ```text
//! Journal ── limiter        what is left out, and when that is said
//!    │          ├─ budgets   a token bucket for each kind of event
//!    │          └─ repeats   repeated warnings, summarised with a count
//!    └─ emit ── tracing ── layer ── format      one event, one line
//!                            └─ queue           a thread of its own does the writing
//! ```

mod budgets;
mod filter;
mod format;
mod given;
mod init;
mod journal;
mod journald;
mod layer;
mod limiter;
mod name;
mod queue;
mod record;
mod repeats;
mod ring;
mod summary;

pub use filter::check_filter;
pub use given::Given;
pub use init::{Guard, InitError, StdoutKind, init};
pub use journal::Journal;
pub use name::Name;
pub use ring::{Happened, Ring};
pub use summary::CheckEnd;

use summary::Figures;

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

/// What an event tells besides its message. What is `None` is left out of the line.
///
/// ```
/// use tokenkeep::events::{Fields, Name, Severity, emit};
///
/// let fields = Fields { token: Some("quotes"), status: Some(410), ..Fields::default() };
/// emit(Name::TokenExpired, Severity::Error, "the token has expired", &fields);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The token's name.
    pub token: Option<&'a str>,
    /// The server's name.
    pub server: Option<&'a str>,
    /// Life left, as reported.
    pub remaining_ms: Option<u64>,
    /// Time until the next check.
    pub next_check_ms: Option<u64>,
    /// The status that decided: the API's, else that of HTTP.
    pub status: Option<u16>,
    /// The other side's own words.
    pub detail: Option<&'a str>,
    /// What went wrong, in a sentence.
    pub error: Option<&'a str>,
    /// Which attempt this was, counted from 1.
    pub attempt: Option<u32>,
    /// Time until the next attempt.
    pub retry_in_ms: Option<u64>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// Whether the check extended the token's life; `None` where that cannot be judged.
    pub renewed: Option<bool>,
    /// Time until the token dies if nothing changes.
    pub dies_in_ms: Option<u64>,
    /// Which call renews: `query` or `renew`.
    pub renews_by: Option<&'a str>,
    /// How many tokens are concerned.
    pub tokens: Option<u64>,
    /// A way to new token values, by the name of its `[reauth.NAME]`.
    pub reauth: Option<&'a str>,
    /// Why it was done.
    pub reason: Option<&'a str>,
    /// A command's exit status.
    pub exit_status: Option<i32>,
    /// Where tokens come from, by the name of their `[inventory.NAME]`.
    pub inventory: Option<&'a str>,
    /// How many tokens an inventory brings that were not there before.
    pub tokens_added: Option<u64>,
    /// How many it brings no longer.
    pub tokens_removed: Option<u64>,
    /// How many have another value in it.
    pub tokens_changed: Option<u64>,
    /// A file or folder.
    pub path: Option<&'a str>,
    /// Names that a reload added, separated by commas; the caller bounds the list.
    pub added: Option<&'a str>,
    /// Names that a reload removed, likewise.
    pub removed: Option<&'a str>,
    /// Names that a reload changed, likewise.
    pub changed: Option<&'a str>,
    /// Settings that only a restart can change, likewise.
    pub needs_restart: Option<&'a str>,
    /// What a person has asked for.
    pub action: Option<&'a str>,
    /// Who that was, by the user's number.
    pub uid: Option<u32>,
    /// The program's version.
    pub version: Option<&'a str>,
    /// Where a new value comes from; for [`Name::TokenReplaced`] only.
    pub by: Option<&'a str>,
    /// Lines of this kind left out before this one.
    pub suppressed: Option<u64>,
}

/// Says one event, without regard to limits: for what happens before and after the daemon's
/// loop. The loop itself writes through its [`Journal`].
pub fn emit(name: Name, severity: Severity, message: &str, fields: &Fields<'_>) {
    // An event of tracing has no room for all fields of the contract.
    if let Some(by) = fields.by {
        let Fields { token, server, suppressed, .. } = *fields;
        return tracing::event!(
            target: TARGET,
            tracing::Level::INFO,
            event = name.as_str(),
            token,
            server,
            by,
            suppressed,
            "{message}"
        );
    }
    /// A tracing call site has a fixed level, so there is one for each.
    macro_rules! at {
        ($level:ident) => {
            tracing::event!(
                target: TARGET,
                tracing::Level::$level,
                event = name.as_str(),
                token = fields.token,
                server = fields.server,
                remaining_ms = fields.remaining_ms,
                next_check_ms = fields.next_check_ms,
                renewed = fields.renewed,
                status = fields.status,
                detail = fields.detail,
                error = fields.error,
                attempt = fields.attempt,
                retry_in_ms = fields.retry_in_ms,
                duration_ms = fields.duration_ms,
                exit_status = fields.exit_status,
                reauth = fields.reauth,
                reason = fields.reason,
                dies_in_ms = fields.dies_in_ms,
                renews_by = fields.renews_by,
                tokens = fields.tokens,
                inventory = fields.inventory,
                tokens_added = fields.tokens_added,
                tokens_removed = fields.tokens_removed,
                tokens_changed = fields.tokens_changed,
                path = fields.path,
                added = fields.added,
                removed = fields.removed,
                changed = fields.changed,
                needs_restart = fields.needs_restart,
                action = fields.action,
                uid = fields.uid,
                version = fields.version,
                suppressed = fields.suppressed,
                "{message}"
            )
        };
    }
    match severity {
        Severity::Debug => at!(DEBUG),
        Severity::Info => at!(INFO),
        Severity::Warn => at!(WARN),
        Severity::Error => at!(ERROR),
    }
}

/// Logs that the daemon cannot start, and why, without what looks like a token in it.
pub fn emit_failed_start(error: &str) {
    let (name, message) = (Name::StartFailed, "tokenkeep cannot start");
    let error = mask(error);
    let fields = Fields { error: Some(&error), ..Fields::default() };
    emit(name, name.severity(), message, &fields);
}

/// Says what a minute of checks came to, and how many lines that stands for. On its own, as an
/// event of tracing has no room for all fields of the contract.
fn emit_summary(figures: &Figures, suppressed: u64) {
    let Figures { checks, failures, .. } = *figures;
    tracing::event!(
        target: TARGET,
        tracing::Level::INFO,
        event = Name::ChecksSummary.as_str(),
        checks,
        failures,
        lateness_p50_ms = figures.lateness_p50_ms,
        lateness_p99_ms = figures.lateness_p99_ms,
        lateness_max_ms = figures.lateness_max_ms,
        life_left_p1_ms = figures.life_left_p1_ms,
        suppressed,
        "{checks} checks have ended, {failures} of them without a conclusion"
    );
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
