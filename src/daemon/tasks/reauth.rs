//! Attempts at new values: by a command, or with an API key.

use std::path::PathBuf;
use std::time::Duration;

use crate::api::{LoginFault, LoginFaultKind};
use crate::clock;
use crate::daemon::tasks::blocking::{DISK, blocking_among, with_disk_timeout};
use crate::daemon::tasks::keyed_lock::KeyedLock;
use crate::daemon::tasks::{Completion, ReauthOutput, read_source};
use crate::daemon::tokens::server_client::ServerClient;
use crate::daemon::tokens::{DeathReason, ServerHandle, TokenEntry};
use crate::hook::{self, HookResult, Invocation};
use crate::keeper::Ticket;
use crate::lifecycle::{Reason, ReauthFault};
use crate::settings::{KeySource, ReauthMethod, Source};
use crate::store::Receipt;
use crate::token_file::{StoreFault, read_key};

/// What a re-auth attempt needs to know, besides how it is made.
#[derive(Debug)]
pub(crate) struct ReauthRequest {
    pub(crate) name: Box<str>,
    pub(crate) server: String,
    pub(crate) url: String,
    /// The file that the value is kept in, if its source is one.
    pub(crate) file: Option<PathBuf>,
    pub(crate) reason: Reason,
    pub(crate) attempt: u32,
    pub(crate) status: Option<u16>,
    pub(crate) detail: Option<Box<str>>,
}

impl ReauthRequest {
    pub(crate) fn of(
        kept: TokenEntry<'_>,
        remote: &ServerHandle,
        reason: Reason,
        attempt: u32,
    ) -> Self {
        let words = match reason {
            Reason::Expired | Reason::Rejected => kept.last_words().cloned().unwrap_or_default(),
            // What was said of an earlier value is not why this one is to be replaced.
            Reason::Missing | Reason::Expiring | Reason::Requested => DeathReason::default(),
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
pub(crate) async fn reauth(
    ticket: Ticket,
    client: ServerClient,
    method: ReauthMethod,
    timeout: Duration,
    need: ReauthRequest,
    (turn, counted): (KeyedLock, Option<Receipt>),
) -> Completion {
    let _turn = turn.comes().await;
    if let Some(counted) = counted {
        counted.settled().await;
    }
    let began = clock::now();
    let obtained = match method {
        ReauthMethod::Command(command) => run_hook(&command, timeout, &need).await,
        ReauthMethod::ApiKey { key, minutes } => log_in(&client, key, minutes, timeout).await,
    };
    Completion::Reauthenticated { ticket, duration: clock::now_ceil().since(began), obtained }
}

async fn run_hook(command: &[String], timeout: Duration, need: &ReauthRequest) -> ReauthOutput {
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
        (HookResult::NewValue(value), _) => ReauthOutput::Value(value),
        (HookResult::WroteFile, Some(file)) => {
            let source = Source::File(file.clone());
            match with_disk_timeout(blocking_among(&DISK, move || read_source(&source))).await {
                Some(found) => ReauthOutput::SourceMatch(found),
                None => {
                    nothing(&StoreFault::hangs(file, "reading what the command wrote").to_string())
                }
            }
        }
        (HookResult::WroteFile, None) => nothing(
            "the re-auth command printed nothing; only for a token that has a file of its own \
             may it write that itself, otherwise it is to print the new token",
        ),
        (HookResult::Failed(fault), _) => ReauthOutput::Nothing(ReauthFault {
            exit_status: fault.exit_status(),
            inconclusive: fault.is_inconclusive(),
            error: fault.to_string().into(),
            ..ReauthFault::default()
        }),
    }
}

fn nothing(error: &str) -> ReauthOutput {
    ReauthOutput::Nothing(ReauthFault { error: error.into(), ..ReauthFault::default() })
}

async fn log_in(
    client: &ServerClient,
    key: KeySource,
    minutes: u16,
    timeout: Duration,
) -> ReauthOutput {
    let key = blocking_among(&DISK, move || read_key(&key, &|name| std::env::var_os(name)));
    // Nothing was sent, so the attempt says nothing about the key.
    let no_key = |error: &str| {
        let error = format!("the API key cannot be read: {error}").into();
        ReauthOutput::Nothing(ReauthFault { error, inconclusive: true, ..ReauthFault::default() })
    };
    let key = match with_disk_timeout(key).await {
        Some(Ok(found)) => found.value,
        Some(Err(fault)) => return no_key(&fault.to_string()),
        None => return no_key("its file cannot be read, the disk hangs"),
    };
    match client.login(&key, minutes, timeout).await {
        Ok(value) => ReauthOutput::Value(value),
        Err(fault) => ReauthOutput::Nothing(failed_login(fault)),
    }
}

fn failed_login(LoginFault { kind, fault }: LoginFault) -> ReauthFault {
    ReauthFault {
        status: fault.status,
        error: fault.error,
        exit_status: None,
        unavailable: kind == LoginFaultKind::Unavailable && !fault.local,
        inconclusive: kind.is_inconclusive(),
        retry_after: match kind {
            LoginFaultKind::Throttled { retry_after } => Some(retry_after),
            LoginFaultKind::Refused
            | LoginFaultKind::Misconfigured
            | LoginFaultKind::Useless
            | LoginFaultKind::Unavailable => None,
        },
    }
}
