//! Log events: the scheduler's notices as events, with their names, levels and messages.

use std::borrow::Cow;
use std::time::Duration;

use crate::control::{ApiError, Caller};
use crate::event_log::{CompletedCheck, EventLog, EventName, Fields, Severity};
use crate::lifecycle::{CheckResult, DeadlineStage, Notice, ReplacedBy};
use crate::outcome::{CallError, ENDLESS, Outcome};
use crate::scheduler::{ServerNotice, Ticket};
use crate::text::format_millis;
use crate::time::Moment;
use crate::token_source::SourceWarning;

/// Logs warnings about a source that has a value.
pub(crate) fn source_warnings<'a>(
    event_log: &mut EventLog,
    token: Option<&str>,
    warnings: impl IntoIterator<Item = &'a SourceWarning>,
) {
    for warning in warnings {
        let error = warning.to_string();
        let (message, path) = match warning {
            SourceWarning::OpenToAll { path, .. } => {
                ("token file is readable by other users", Some(path.display().to_string()))
            }
            SourceWarning::Mistaken { .. } => ("the value is probably not a token", None),
        };
        let path = path.as_deref();
        let fields = Fields { token, error: Some(&error), path, ..Fields::default() };
        event_log.event(EventName::ConfigWarning, message, fields);
    }
}

/// A check that has ended, whatever its outcome, for the summary of checks.
pub(crate) fn check_end(ticket: Ticket, answer: &CheckResult) -> CompletedCheck {
    let failed = match answer.outcome {
        Outcome::Alive { .. } | Outcome::Expired(_) | Outcome::Rejected(_) => false,
        Outcome::Throttled { .. } | Outcome::Misconfigured(_) | Outcome::Unavailable(_) => true,
    };
    CompletedCheck {
        lateness: answer.sent.since(ticket.due),
        life_left: ticket.expiry.map(|bound| bound.since(answer.sent)),
        failed,
    }
}

type Line<'a> = (EventName, Cow<'static, str>, Fields<'a>);

/// Whether a notice is about a value that another replica has put into etcd.
fn is_of_replica(names: &Fields<'_>) -> bool {
    names.by == Some(ReplacedBy::Replica.as_str())
}

/// Logs a notice of a token. With `by` = `replica` in `names`, a candidate that is dead comes from
/// another replica.
#[expect(clippy::too_many_lines, reason = "a table, with a row for each notice")]
pub(crate) fn token(event_log: &mut EventLog, now: Moment, names: &Fields<'_>, notice: &Notice) {
    let (name, message, fields): Line<'_> = match notice {
        Notice::CheckFailed { fault, attempt, retry_in_ms, .. } => (
            EventName::CheckFailed,
            format!("check failed: {}; retry in {}", fault.error, format_millis(*retry_in_ms))
                .into(),
            Fields {
                attempt: Some(u32::from(*attempt)),
                retry_in_ms: Some(*retry_in_ms),
                ..with_fault(names, fault)
            },
        ),
        Notice::RenewalNotObserved { dies_in_ms } => (
            EventName::RenewalNotObserved,
            format!(
                "no permitted request renews this token; it expires in {}",
                format_millis(*dies_in_ms)
            )
            .into(),
            Fields { dies_in_ms: Some(*dies_in_ms), ..*names },
        ),
        Notice::Checked { remaining_ms, next_check_ms, renewed, is_step } => {
            let lives = (*remaining_ms, *next_check_ms);
            return check(event_log, now, names, lives, *renewed, *is_step);
        }
        Notice::Replaced(by) => {
            let message = match by {
                ReplacedBy::Reauth => "token value replaced by re-authentication",
                ReplacedBy::Renewal => "token value replaced by a renewal",
                ReplacedBy::Source => "token value replaced by the value in its source",
                ReplacedBy::Replica => "token value replaced by the value of another replica",
            };
            let fields = Fields { by: Some(by.as_str()), ..*names };
            (EventName::TokenReplaced, message.into(), fields)
        }
        Notice::RenewsBy(method) => (
            EventName::RenewalLearned,
            format!("renewal proven: {} requests renew this token", method.as_str()).into(),
            Fields { renews_by: Some(method.as_str()), ..*names },
        ),
        Notice::Expiring { stage, dies_in_ms } => (
            EventName::TokenExpiring,
            format!(
                "no response for {} of the time for retries; the token expires in {}",
                match stage {
                    DeadlineStage::NineTenths => "nine tenths",
                    DeadlineStage::Calm | DeadlineStage::Half => "half",
                },
                format_millis(*dies_in_ms)
            )
            .into(),
            Fields { dies_in_ms: Some(*dies_in_ms), ..*names },
        ),
        Notice::Expired { fault, candidate } => (
            EventName::TokenExpired,
            match (*candidate, is_of_replica(names)) {
                (false, _) => "the token has expired",
                (true, false) => {
                    "the new value in the source has expired; the current value stays in service"
                }
                (true, true) => {
                    "the value of another replica has expired; the current value stays in service"
                }
            }
            .into(),
            with_fault(names, fault),
        ),
        Notice::Rejected { fault, candidate } => (
            EventName::TokenRejected,
            match (*candidate, is_of_replica(names)) {
                (false, _) => "the server rejected the token twice",
                (true, false) => {
                    "the server rejected the new value in the source; the current value stays in \
                     service"
                }
                (true, true) => {
                    "the server rejected the value of another replica; the current value stays in \
                     service"
                }
            }
            .into(),
            with_fault(names, fault),
        ),
        Notice::Missing { error, in_use } => (
            EventName::TokenMissing,
            if *in_use {
                "the source has no value; the current value stays in service".into()
            } else {
                "the source has no value".into()
            },
            Fields { error: Some(error), ..*names },
        ),
        Notice::Recovered { remaining_ms } => (
            EventName::TokenRecovered,
            format!("alive again, {}", life(*remaining_ms, names)).into(),
            Fields { remaining_ms: Some(*remaining_ms), ..*names },
        ),
        Notice::Revoked => {
            (EventName::TokenRevoked, "the token was revoked on request".into(), *names)
        }
        Notice::RevokeFailed { fault } => (
            EventName::TokenRevoked,
            format!("token revocation failed; the token stays in service: {}", fault.error).into(),
            with_fault(names, fault),
        ),
        Notice::Unverified => (
            EventName::TokenUnverified,
            "no response before the token's last known expiry; still retrying".into(),
            *names,
        ),
        Notice::ReauthStarted { reason, attempt } => (
            EventName::ReauthStarted,
            format!("re-authentication started: {}, attempt {attempt}", reason.as_str()).into(),
            Fields { reason: Some(reason.as_str()), attempt: Some(*attempt), ..*names },
        ),
        Notice::ReauthSucceeded { attempt, duration_ms } => (
            EventName::ReauthSucceeded,
            format!("re-authentication succeeded after {}", format_millis(*duration_ms)).into(),
            Fields { attempt: Some(*attempt), duration_ms: Some(*duration_ms), ..*names },
        ),
        Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms } => (
            EventName::ReauthFailed,
            match retry_in_ms {
                0 => format!("re-authentication failed: {}", fault.error),
                ms => format!(
                    "re-authentication failed: {}; next attempt in {}",
                    fault.error,
                    format_millis(*ms)
                ),
            }
            .into(),
            Fields {
                status: fault.status,
                error: Some(&fault.error),
                exit_status: fault.exit_status,
                attempt: Some(*attempt),
                duration_ms: *duration_ms,
                retry_in_ms: Some(*retry_in_ms),
                ..*names
            },
        ),
        Notice::ReauthExhausted { attempt, retry_in_ms } => (
            EventName::ReauthExhausted,
            format!(
                "re-authentication stopped after {attempt} failed attempts, for {}; a new value in \
                 the source is used immediately",
                format_millis(*retry_in_ms)
            )
            .into(),
            Fields { attempt: Some(*attempt), retry_in_ms: Some(*retry_in_ms), ..*names },
        ),
        Notice::StoreFailed { error, retry_in_ms } => (
            EventName::StoreFailed,
            format!(
                "the new token value could not be stored; it is kept in memory, retry in {}",
                format_millis(*retry_in_ms)
            )
            .into(),
            Fields { error: Some(error), retry_in_ms: Some(*retry_in_ms), ..*names },
        ),
    };
    let severity = match notice {
        Notice::CheckFailed { misconfigured: true, .. }
        | Notice::Expiring { stage: DeadlineStage::NineTenths, .. } => Severity::Error,
        Notice::CheckFailed { fault, .. } if fault.is_alarming => Severity::Error,
        Notice::RevokeFailed { .. } => Severity::Warn,
        // No action is needed.
        Notice::Expired { candidate: true, .. } | Notice::Rejected { candidate: true, .. }
            if is_of_replica(names) =>
        {
            Severity::Warn
        }
        _ => name.severity(),
    };
    event_log.write(now, name, severity, &message, fields);
}

/// Logs that a check found a token alive. The message is built only if the line is written: there
/// can be tens of thousands of checks a second.
fn check(
    event_log: &mut EventLog,
    now: Moment,
    names: &Fields<'_>,
    (remaining_ms, next_check_ms): (u64, u64),
    renewed: Option<bool>,
    is_step: bool,
) {
    // A check that is due at once has not been made yet.
    let next = (!is_step).then(|| next_check_ms.max(1));
    let fields =
        Fields { remaining_ms: Some(remaining_ms), next_check_ms: next, renewed, ..*names };
    let severity = if is_step { Severity::Debug } else { Severity::Info };
    event_log.write_check(now, severity, fields, || {
        let renewal = match renewed {
            Some(true) => ", renewed",
            Some(false) => ", not renewed",
            None => "",
        };
        let life = life(remaining_ms, names);
        match next {
            None => format!("alive, {life}{renewal}; checking how it is renewed"),
            Some(next) => {
                format!("alive, {life}{renewal}; next check in {}", format_millis(next))
            }
        }
    });
}

/// The remaining life of a token, as text.
fn life(remaining_ms: u64, names: &Fields<'_>) -> String {
    if Duration::from_millis(remaining_ms) >= ENDLESS {
        return "does not expire".to_owned();
    }
    let left = format_millis(remaining_ms);
    if names.assumed.is_some() { format!("assumed {left} left") } else { format!("{left} left") }
}

/// The fields with what a server, or the connection to it, has said.
pub(crate) fn with_fault<'a>(names: &Fields<'a>, fault: &'a CallError) -> Fields<'a> {
    let CallError { status, detail, error, .. } = fault;
    Fields { status: *status, detail: detail.as_deref(), error: Some(error), ..*names }
}

/// Logs that a `[reauth]` method has failed too often.
pub(crate) fn reauth(event_log: &mut EventLog, name: &str, failures: u32, retry_in_ms: u64) {
    let message = format!(
        "[reauth.{name}] stopped after {failures} failed attempts of all its tokens, for {}",
        format_millis(retry_in_ms)
    );
    let (attempt, retry_in_ms) = (Some(failures), Some(retry_in_ms));
    let fields = Fields { reauth: Some(name), attempt, retry_in_ms, ..Fields::default() };
    event_log.event(EventName::ReauthExhausted, &message, fields);
}

/// Logs a notice of a server.
pub(crate) fn server(event_log: &mut EventLog, server: &str, notice: &ServerNotice) {
    let names = Fields { server: Some(server), ..Fields::default() };
    let count = |tokens: &usize| u64::try_from(*tokens).ok();
    let (name, message, fields) = match notice {
        // No response has come, and none is waited for.
        ServerNotice::Untried => return,
        ServerNotice::RenewalLearned(method) => {
            let renews_by = method.as_str();
            (
                EventName::RenewalLearned,
                format!("renewal proven: {renews_by} requests renew tokens of this server"),
                Fields { renews_by: Some(renews_by), ..names },
            )
        }
        ServerNotice::Unavailable { tokens, fault } => (
            EventName::ServerUnavailable,
            format!("server unavailable: {}; probing with single requests", fault.error),
            Fields { tokens: count(tokens), ..with_fault(&names, fault) },
        ),
        ServerNotice::Recovered { tokens } => (
            EventName::ServerRecovered,
            format!("server available again, {tokens} tokens"),
            Fields { tokens: count(tokens), ..names },
        ),
    };
    event_log.event(name, &message, fields);
}

/// Logs a command of a client: that it was accepted, or why not.
pub(crate) fn operator_action(
    event_log: &mut EventLog,
    (token, action): (Option<&str>, &str),
    caller: Caller,
    error: Option<&ApiError>,
) {
    let uid = Some(caller.uid);
    let fields = Fields { token, action: Some(action), uid, ..Fields::default() };
    match error {
        None => {
            let message = format!("control command: {action} (uid {})", caller.uid);
            event_log.event(EventName::ActionRequested, &message, fields);
        }
        Some(error) => {
            let fields = Fields { error: Some(&error.message), ..fields };
            let message = format!("user {} was refused: {action}", caller.uid);
            event_log.event(EventName::ActionRefused, &message, fields);
        }
    }
}
