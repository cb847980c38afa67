//! Attempts at new values: by a command, or with an API key.

use std::path::PathBuf;
use std::time::Duration;

use super::beside::{DISK, blocking_among, in_time};
use super::deeds::{Done, Obtained, read_source};
use super::roster::{Kept, LastWords, Remote};
use super::server_client::ServerClient;
use super::turns::Turn;
use crate::api::{LoginError, LoginErrorKind};
use crate::clock;
use crate::hook::{self, HookResult, Invocation};
use crate::lifecycle::{ReauthError, ReauthReason};
use crate::scheduler::Ticket;
use crate::settings::{KeySource, ReauthMethod, Source};
use crate::store::WriteReceipt;
use crate::token_file::{StoreFault, read_key};

/// What a re-auth attempt needs to know, besides how it is made.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) name: Box<str>,
    pub(super) server: String,
    pub(super) url: String,
    /// The file that the value is kept in, if its source is one.
    pub(super) file: Option<PathBuf>,
    pub(super) reason: ReauthReason,
    pub(super) attempt: u32,
    pub(super) status: Option<u16>,
    pub(super) detail: Option<Box<str>>,
}

impl Need {
    pub(super) fn of(kept: Kept<'_>, remote: &Remote, reason: ReauthReason, attempt: u32) -> Self {
        let words = match reason {
            ReauthReason::Expired | ReauthReason::Rejected => {
                kept.last_words().cloned().unwrap_or_default()
            }
            // What was said of an earlier value is not why this one is to be replaced.
            ReauthReason::Missing | ReauthReason::Expiring | ReauthReason::Requested => {
                LastWords::default()
            }
        };
        Self {
            name: kept.name().into(),
            server: remote.settings.name.clone(),
            url: remote.settings.url.to_string(),
            file: kept.file(),
            reason,
            attempt,
            status: words.status,
            detail: words.detail,
        }
    }
}

/// Obtains a new value, once its turn has come and the attempt is counted; where that cannot be
/// written down, the store tells of it, and the attempt is made all the same.
pub(super) async fn reauth(
    ticket: Ticket,
    client: ServerClient,
    method: ReauthMethod,
    timeout: Duration,
    need: Need,
    (turn, counted): (Turn, Option<WriteReceipt>),
) -> Done {
    let _turn = turn.comes().await;
    if let Some(counted) = counted {
        counted.settled().await;
    }
    let began = clock::now();
    let obtained = match method {
        ReauthMethod::Command(command) => run_hook(&command, timeout, &need).await,
        ReauthMethod::ApiKey { key, minutes } => log_in(&client, key, minutes, timeout).await,
    };
    Done::ReauthFinished { ticket, duration: clock::now_ceil().since(began), obtained }
}

async fn run_hook(command: &[String], timeout: Duration, need: &Need) -> Obtained {
    let end = hook::run(Invocation {
        command,
        timeout,
        name: &need.name,
        server: &need.server,
        url: &need.url,
        reason: need.reason.as_str(),
        status: need.status,
        detail: need.detail.as_deref(),
        attempt: need.attempt,
        file: need.file.as_deref(),
    })
    .await;
    match (end.interpret(), &need.file) {
        (HookResult::NewValue(value), _) => Obtained::Value(value),
        (HookResult::WroteFile, Some(file)) => {
            let source = Source::File(file.clone());
            match in_time(blocking_among(&DISK, move || read_source(&source))).await {
                Some(found) => Obtained::InSource(found),
                None => {
                    nothing(&StoreFault::hangs(file, "reading what the command wrote").to_string())
                }
            }
        }
        (HookResult::WroteFile, None) => nothing(
            "the re-auth command printed nothing; only for a token that has a file of its own \
             may it write that itself, otherwise it is to print the new token",
        ),
        (HookResult::Failed(fault), _) => Obtained::Nothing(ReauthError {
            exit_status: fault.exit_status(),
            inconclusive: fault.is_inconclusive(),
            error: fault.to_string().into(),
            ..ReauthError::default()
        }),
    }
}

fn nothing(error: &str) -> Obtained {
    Obtained::Nothing(ReauthError { error: error.into(), ..ReauthError::default() })
}

async fn log_in(
    client: &ServerClient,
    key: KeySource,
    minutes: u16,
    timeout: Duration,
) -> Obtained {
    let key = blocking_among(&DISK, move || read_key(&key, &|name| std::env::var_os(name)));
    // Nothing was sent, so the attempt says nothing about the key.
    let no_key = |error: &str| {
        let error = format!("the API key cannot be read: {error}").into();
        Obtained::Nothing(ReauthError { error, inconclusive: true, ..ReauthError::default() })
    };
    let key = match in_time(key).await {
        Some(Ok(found)) => found.value,
        Some(Err(fault)) => return no_key(&fault.to_string()),
        None => return no_key("its file cannot be read, the disk hangs"),
    };
    match client.login(&key, minutes, timeout).await {
        Ok(value) => Obtained::Value(value),
        Err(fault) => Obtained::Nothing(failed_login(fault)),
    }
}

fn failed_login(LoginError { kind, fault }: LoginError) -> ReauthError {
    ReauthError {
        status: fault.status,
        error: fault.error,
        exit_status: None,
        unavailable: kind == LoginErrorKind::Unavailable && !fault.local,
        inconclusive: kind.is_inconclusive(),
        retry_after: match kind {
            LoginErrorKind::Throttled { retry_after } => Some(retry_after),
            LoginErrorKind::Refused
            | LoginErrorKind::Misconfigured
            | LoginErrorKind::Useless
            | LoginErrorKind::Unavailable => None,
        },
    }
}
