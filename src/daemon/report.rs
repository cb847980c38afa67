//! The keeper's notices as log events: which name, which level, which words.

use std::borrow::Cow;

use crate::events::{Fields, Journal, Name, Severity};
use crate::keeper::ServerNotice;
use crate::lifecycle::{Method, Notice, ReplacedBy, Stage};
use crate::outcome::Fault;
use crate::time::Moment;

/// Writes what there is to tell of a token.
pub(super) fn token(journal: &mut Journal, now: Moment, names: &Fields<'_>, notice: &Notice) {
    let (name, severity, message, fields) = describe(names, notice);
    journal.write(now, name, severity, &message, fields);
}

type Line<'a> = (Name, Severity, Cow<'static, str>, Fields<'a>);

#[expect(clippy::too_many_lines, reason = "a table, with a row for each notice")]
fn describe<'a>(names: &Fields<'a>, notice: &'a Notice) -> Line<'a> {
    match notice {
        Notice::CheckFailed { fault, misconfigured, attempt, retry_in_ms } => (
            Name::CheckFailed,
            if *misconfigured || fault.is_alarming { Severity::Error } else { Severity::Warn },
            format!("the check came to no conclusion: {}", fault.error).into(),
            Fields {
                attempt: Some(u32::from(*attempt)),
                retry_in_ms: Some(*retry_in_ms),
                ..with_fault(names, fault)
            },
        ),
        Notice::RenewalNotObserved { dies_in_ms } => (
            Name::RenewalNotObserved,
            Severity::Warn,
            "no permitted call extends this token's life; it will be used up".into(),
            Fields { dies_in_ms: Some(*dies_in_ms), ..*names },
        ),
        Notice::Checked { remaining_ms, next_check_ms, renewed } => (
            Name::TokenChecked,
            Severity::Info,
            "the token is alive".into(),
            Fields {
                remaining_ms: Some(*remaining_ms),
                next_check_ms: Some(*next_check_ms),
                renewed: *renewed,
                ..*names
            },
        ),
        Notice::Replaced(by) => {
            let message = match by {
                ReplacedBy::Reauth => "the token has a new value, by re-authentication",
                ReplacedBy::Renewal => "the token has a new value, by renewal",
                ReplacedBy::Source => "the token has a new value, from its source",
            };
            let fields = Fields { by: Some(by.as_str()), ..*names };
            (Name::TokenReplaced, Severity::Info, message.into(), fields)
        }
        Notice::RenewsBy(method) => (
            Name::RenewalLearned,
            Severity::Info,
            "a reading proved that this call extends the token's life".into(),
            Fields { renews_by: Some(word(*method)), ..*names },
        ),
        Notice::Expiring { stage, dies_in_ms } => (
            Name::TokenExpiring,
            if *stage == Stage::NineTenths { Severity::Error } else { Severity::Warn },
            match stage {
                Stage::NineTenths => "nine tenths of the time to retry are gone without an answer",
                Stage::Calm | Stage::Half => "half of the time to retry is gone without an answer",
            }
            .into(),
            Fields { dies_in_ms: Some(*dies_in_ms), ..*names },
        ),
        Notice::Expired { fault, candidate } => (
            Name::TokenExpired,
            Severity::Error,
            if *candidate {
                "the new value in the source has expired; the one in use goes on".into()
            } else {
                "the token has expired".into()
            },
            with_fault(names, fault),
        ),
        Notice::Rejected { fault, candidate } => (
            Name::TokenRejected,
            Severity::Error,
            if *candidate {
                "the server does not know the new value in the source; the one in use goes on"
                    .into()
            } else {
                "the server does not know the token, and has said so twice".into()
            },
            with_fault(names, fault),
        ),
        Notice::Missing { error, in_use } => (
            Name::TokenMissing,
            Severity::Error,
            if *in_use {
                "the source has no value; the one read before goes on".into()
            } else {
                "the source has no value".into()
            },
            Fields { error: Some(error), ..*names },
        ),
        Notice::Recovered { remaining_ms } => (
            Name::TokenRecovered,
            Severity::Info,
            "the token is alive again".into(),
            Fields { remaining_ms: Some(*remaining_ms), ..*names },
        ),
        Notice::Revoked => (
            Name::TokenRevoked,
            Severity::Info,
            "the token is revoked, as was asked for".into(),
            *names,
        ),
        Notice::RevokeFailed { fault } => (
            Name::TokenRevoked,
            Severity::Warn,
            format!("the token could not be revoked and goes on: {}", fault.error).into(),
            with_fault(names, fault),
        ),
        Notice::Unverified => (
            Name::TokenUnverified,
            Severity::Error,
            "the reported life has passed without an answer; it is still being tried".into(),
            *names,
        ),
        Notice::ReauthStarted { reason, attempt } => (
            Name::ReauthStarted,
            Severity::Info,
            "obtaining a new token value".into(),
            Fields { reason: Some(reason.as_str()), attempt: Some(*attempt), ..*names },
        ),
        Notice::ReauthSucceeded { attempt, duration_ms } => (
            Name::ReauthSucceeded,
            Severity::Info,
            "the new token value is alive".into(),
            Fields { attempt: Some(*attempt), duration_ms: Some(*duration_ms), ..*names },
        ),
        Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms } => (
            Name::ReauthFailed,
            Severity::Error,
            format!("no new token value: {}", fault.error).into(),
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
            Name::ReauthExhausted,
            Severity::Error,
            "re-auth is given up until the window ends; a new value in the source is taken at once"
                .into(),
            Fields { attempt: Some(*attempt), retry_in_ms: Some(*retry_in_ms), ..*names },
        ),
        Notice::StoreFailed { error, retry_in_ms } => (
            Name::StoreFailed,
            Severity::Error,
            "the new token value could not be stored; it is used from memory".into(),
            Fields { error: Some(error), retry_in_ms: Some(*retry_in_ms), ..*names },
        ),
    }
}

/// What a server, or the way to it, has said, in the fields of a line.
fn with_fault<'a>(names: &Fields<'a>, fault: &'a Fault) -> Fields<'a> {
    Fields {
        status: fault.status,
        detail: fault.detail.as_deref(),
        error: Some(&fault.error),
        ..*names
    }
}

const fn word(method: Method) -> &'static str {
    match method {
        Method::Query => "query",
        Method::Renew => "renew",
    }
}

/// Writes that a way to new values has failed too often.
pub(super) fn reauth(
    journal: &mut Journal,
    now: Moment,
    name: &str,
    failures: u32,
    retry_in_ms: u64,
) {
    let message = format!(
        "[reauth.{name}] has failed too often for all its tokens together; nothing logs in by it \
         until the window ends"
    );
    journal.write(
        now,
        Name::ReauthExhausted,
        Severity::Error,
        &message,
        Fields {
            reauth: Some(name),
            attempt: Some(failures),
            retry_in_ms: Some(retry_in_ms),
            ..Fields::default()
        },
    );
}

/// Writes what there is to tell of a server.
pub(super) fn server(journal: &mut Journal, now: Moment, server: &str, notice: &ServerNotice) {
    let names = Fields { server: Some(server), ..Fields::default() };
    let count = |tokens: &usize| u64::try_from(*tokens).ok();
    let (name, severity, message, fields) = match notice {
        ServerNotice::RenewalLearned(method) => {
            let renews_by = word(*method);
            (
                Name::RenewalLearned,
                Severity::Info,
                format!("a reading proved that tokens of this server are extended by: {renews_by}"),
                Fields { renews_by: Some(renews_by), ..names },
            )
        }
        ServerNotice::Unavailable { tokens, fault } => (
            Name::ServerUnavailable,
            Severity::Error,
            format!("server unavailable: {}; probing with single requests", fault.error),
            Fields { tokens: count(tokens), ..with_fault(&names, fault) },
        ),
        ServerNotice::Recovered { tokens } => (
            Name::ServerRecovered,
            Severity::Info,
            "the server answers again".into(),
            Fields { tokens: count(tokens), ..names },
        ),
    };
    journal.write(now, name, severity, &message, fields);
}
