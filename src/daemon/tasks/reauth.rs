//! Re-authentication attempts: by a command, or by a login request.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::blocking::{LOGINS, with_disk_timeout};
use super::companion::CompanionAccess;
use super::keyed_lock::{self, KeyedLock};
use super::login::{self, LoginRequest};
use super::write_back::{FileLock, run_locked};
use super::{Completion, Grant};
use crate::api::{LoginError, LoginErrorKind};
use crate::clock;
use crate::daemon::tokens::{
    DeathReason, ReauthOutput, ServerClient, ServerHandle, TokenEntry, ValueOwner, read_source,
};
use crate::hook::{self, HookOutput, Invocation};
use crate::lifecycle::{ReauthError, ReauthReason};
use crate::profile::Call;
use crate::scheduler::Ticket;
use crate::secret::TokenValue;
use crate::settings::{KeySource, Parameter, Reauth, ReauthMethod, Server, Source};
use crate::store::WriteReceipt;
use crate::token_source::{PersistError, read_key};

/// What an attempt needs to know about its token.
#[derive(Debug)]
pub(super) struct ReauthRequest {
    pub(super) name: Box<str>,
    pub(super) server: String,
    url: String,
    /// The file of the value, if its source is a file.
    pub(super) file: Option<PathBuf>,
    reason: ReauthReason,
    attempt: u32,
    status: Option<u16>,
    detail: Option<Box<str>>,
    /// Parameters of the server that its login needs. Those of the `reauth` method override them.
    with: BTreeMap<String, Parameter>,
}

impl ReauthRequest {
    pub(super) fn new(
        entry: TokenEntry<'_>,
        server: &ServerHandle,
        reason: ReauthReason,
        attempt: u32,
    ) -> Self {
        let death = match reason {
            ReauthReason::Expired | ReauthReason::Rejected => {
                entry.death_reason().cloned().unwrap_or_default()
            }
            // What the server said of an earlier value is not why this value is replaced.
            ReauthReason::Missing | ReauthReason::Expiring | ReauthReason::Requested => {
                DeathReason::default()
            }
        };
        Self {
            name: entry.name().into(),
            server: server.settings.name.clone(),
            url: server.settings.url.to_string(),
            file: entry.file(),
            reason,
            attempt,
            status: death.status,
            detail: death.detail,
            with: login_parameters(&server.settings),
        }
    }
}

fn login_parameters(server: &Server) -> BTreeMap<String, Parameter> {
    let login = server.profile.as_ref().and_then(|profile| profile.login.as_ref());
    let needed = login.map(Call::parameters).unwrap_or_default();
    let needed = server.with.iter().filter(|(name, _)| needed.contains(name.as_str()));
    needed.map(|(name, parameter)| (name.clone(), parameter.clone())).collect()
}

/// The locks of an attempt.
#[derive(Debug)]
pub(super) struct AttemptLocks {
    /// Held while the attempt runs.
    pub(super) attempt: KeyedLock<Option<TokenValue>>,
    /// The lock of the token's file, if it has one.
    pub(super) file: Option<FileLock>,
    /// The lock of the files that logins by this method on this server read.
    pub(super) login: KeyedLock,
}

/// An attempt that is to be made.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) ticket: Ticket,
    pub(super) owner: ValueOwner,
    pub(super) grant: Option<Grant>,
    pub(super) client: ServerClient,
    pub(super) reauth: Arc<Reauth>,
    pub(super) request: ReauthRequest,
    pub(super) locks: AttemptLocks,
}

/// Makes an attempt once its lock is free and it is persisted. If it cannot be persisted, the
/// store reports that, and the attempt is made all the same.
///
/// An attempt waits for another one only if its token was removed and added again meanwhile. If that
/// one obtains a value, it is the output of this one too.
pub(super) async fn attempt(
    attempt: Attempt,
    access: Option<CompanionAccess>,
    persisted: Option<WriteReceipt>,
) -> Completion {
    let Attempt { ticket, owner, grant, client, reauth, request, locks } = attempt;
    let mut held = locks.attempt.acquire().await;
    if let Some(value) = held.take() {
        let (duration, output) = (Duration::ZERO, ReauthOutput::NewValue(value));
        return Completion::ReauthFinished { ticket, owner, duration, output };
    }
    if let Some(persisted) = persisted {
        persisted.settled().await;
    }
    let (began, timeout) = (clock::now(), reauth.timeout);
    let is_profile = matches!(reauth.method, ReauthMethod::Login { .. });
    let mut report = None;
    let output = match &reauth.method {
        ReauthMethod::Command(_) if grant.is_some_and(Grant::is_over) => None,
        ReauthMethod::Command(command) => {
            Some(run_hook(command, timeout, &request, locks.file).await)
        }
        ReauthMethod::ApiKey { key, minutes } => {
            log_in(client, (key.clone(), locks.login), *minutes, timeout, grant).await
        }
        ReauthMethod::Login { with, minutes } => {
            let (of_server, own) = (request.with.iter(), with.iter());
            let with = of_server.chain(own).map(|(name, it)| (name.clone(), it.clone())).collect();
            let request = LoginRequest { with, minutes: *minutes, timeout };
            login::log_in(client, (request, locks.login), access.clone(), grant).await.map(
                |(output, new)| {
                    report = new;
                    output
                },
            )
        }
    };
    let Some(output) = output else { return Completion::NotBegun(ticket) };
    let is_new = !matches!(output, ReauthOutput::Failed(_));
    if let (true, false, Some(access)) = (is_new, is_profile, &access) {
        access.drop_refused().await;
    }
    if let ReauthOutput::NewValue(value) = &output
        && keyed_lock::is_awaited(&held)
    {
        *held = Some(value.clone());
    }
    let duration = clock::now_ceil().since(began);
    let finished = Completion::ReauthFinished { ticket, owner, duration, output };
    match report {
        Some(report) => Completion::Companion(Some(report), Some(Box::new(finished))),
        None => finished,
    }
}

async fn run_hook(
    command: &[String],
    timeout: Duration,
    request: &ReauthRequest,
    file_lock: Option<FileLock>,
) -> ReauthOutput {
    let end = hook::run(Invocation {
        command,
        timeout,
        name: &request.name,
        server: &request.server,
        url: &request.url,
        reason: request.reason.as_str(),
        status: request.status,
        detail: request.detail.as_deref(),
        attempt: request.attempt,
        file: request.file.as_deref(),
    })
    .await;
    match (end, request.file.as_ref().zip(file_lock)) {
        (Ok(HookOutput::NewValue(value)), _) => ReauthOutput::NewValue(value),
        (Ok(HookOutput::WroteFile), Some((file, lock))) => {
            let source = Source::File(file.clone());
            match with_disk_timeout(run_locked(&LOGINS, lock, move |_| read_source(&source))).await
            {
                Some(found) => ReauthOutput::InSource(found),
                None => no_value(
                    &PersistError::timed_out(file, "reading the output of the command").to_string(),
                ),
            }
        }
        (Ok(HookOutput::WroteFile), None) => no_value(
            "the re-auth command printed nothing; it must print the new token, unless the token \
             has a `file` that the command writes itself",
        ),
        (Err(fault), _) => ReauthOutput::Failed(ReauthError {
            exit_status: fault.exit_status(),
            inconclusive: fault.is_inconclusive(),
            error: fault.to_string().into(),
            ..ReauthError::default()
        }),
    }
}

fn no_value(error: &str) -> ReauthOutput {
    ReauthOutput::Failed(ReauthError { error: error.into(), ..ReauthError::default() })
}

/// `None`: it is too late to begin.
async fn log_in(
    client: ServerClient,
    (key, lock): (KeySource, KeyedLock),
    minutes: u16,
    timeout: Duration,
    grant: Option<Grant>,
) -> Option<ReauthOutput> {
    let read = move |(): &mut ()| read_key(&key, &|name| std::env::var_os(name));
    let key = run_locked(&LOGINS, lock, read);
    // Nothing was sent, so the attempt says nothing about the key.
    let no_key = |error: &str| {
        let error = format!("the API key cannot be read: {error}").into();
        ReauthOutput::Failed(ReauthError { error, inconclusive: true, ..ReauthError::default() })
    };
    let key = match with_disk_timeout(key).await {
        Some(Ok(found)) => found.value,
        Some(Err(fault)) => return Some(no_key(&fault.to_string())),
        None => return Some(no_key("its file cannot be read because the disk does not respond")),
    };
    if grant.is_some_and(Grant::is_over) {
        return None;
    }
    let result = match client {
        Ok(client) => client.login(&key, minutes, timeout).await,
        Err(fault) => Err(LoginError { kind: LoginErrorKind::Unavailable, fault }),
    };
    Some(match result {
        Ok(value) => ReauthOutput::NewValue(value),
        Err(fault) => ReauthOutput::Failed(login::failed(fault)),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::keyed_lock::KeyedLocks;
    use super::*;
    use crate::outcome::CallError;
    use crate::token_source::DISK_TIMEOUT;

    /// The error of a login by the API key in this file, without a client.
    async fn login_error(path: &std::path::Path, locks: &mut KeyedLocks) -> String {
        let key = (KeySource::File(path.to_owned()), locks.get("login"));
        let client = Err(CallError::new("no client".to_owned()));
        let output = log_in(client, key, 60, DISK_TIMEOUT, None).await;
        let Some(ReauthOutput::Failed(error)) = output else { panic!("{output:?}") };
        error.error.into()
    }

    #[tokio::test(start_paused = true)]
    async fn reads_of_keys_have_permits_of_their_own_and_one_key_that_hangs_uses_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "k-1").unwrap();
        let mut locks = KeyedLocks::default();
        // What a read that hangs keeps.
        let hung = locks.get("login").acquire().await;
        let permits = LOGINS.available_permits();
        let error = login_error(&path, &mut locks).await;
        assert!(error.contains("the disk does not respond"), "{error}");
        assert_eq!(LOGINS.available_permits(), permits);
        drop(hung);
        let others = LOGINS.acquire_many(64).await.unwrap();
        let error = login_error(&path, &mut locks).await;
        assert!(error.contains("the disk does not respond"), "{error}");
        drop(others);
        assert_eq!(login_error(&path, &mut locks).await, "no client");
    }
}
