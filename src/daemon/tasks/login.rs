//! Logins by a profile.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

use super::Grant;
use super::blocking::{LOGINS, with_disk_timeout};
use super::companion::CompanionAccess;
use super::keyed_lock::KeyedLock;
use super::write_back::run_locked;
use crate::api::{LoginError, LoginErrorKind, NewSession};
use crate::daemon::companions::{CompanionEvent, CompanionReport};
use crate::daemon::tokens::{ReauthOutput, ServerClient};
use crate::lifecycle::ReauthError;
use crate::settings::Parameter;
use crate::token_source::{DISK_TIMEOUT, read_parameter};

/// A login that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct LoginRequest {
    pub(super) with: BTreeMap<String, Parameter>,
    pub(super) minutes: u16,
    pub(super) timeout: Duration,
}

/// Logs in, and stores the refresh token of the new session before its value is used. No renewal
/// with the old refresh token runs meanwhile, and none is sent afterwards. `None`: it is too late to
/// begin.
pub(super) async fn log_in(
    client: ServerClient,
    (request, lock): (LoginRequest, KeyedLock),
    access: Option<CompanionAccess>,
    grant: Option<Grant>,
) -> Option<(ReauthOutput, Option<CompanionReport>)> {
    let LoginRequest { with, minutes, timeout } = request;
    // Nothing was sent, so the attempt says nothing about the login.
    let unsent = |error: String| {
        let error = ReauthError { error: error.into(), inconclusive: true, ..Default::default() };
        Some((ReauthOutput::Failed(error), None))
    };
    let parameters = match read_parameters(with, lock).await {
        Ok(parameters) => parameters,
        Err(error) => return unsent(error),
    };
    let client = match client {
        Ok(client) => client,
        Err(fault) => {
            let error = LoginError { kind: LoginErrorKind::Unavailable, fault };
            return Some((ReauthOutput::Failed(failed(error)), None));
        }
    };
    let mut held = None;
    if let Some(access) = &access {
        let mut companion = access.hold().await;
        // A login needs nothing from there: what was read before still counts.
        drop(access.read(&mut companion).await);
        held = Some(companion);
    }
    if grant.is_some_and(Grant::is_over) {
        return None;
    }
    let session = client.login_with(&parameters, minutes, timeout).await;
    let NewSession { value, refresh, refresh_error } = match session {
        Ok(session) => session,
        Err(error) => return Some((ReauthOutput::Failed(failed(error)), None)),
    };
    let mut report = None;
    if let (Some(access), Some(mut held)) = (access, held) {
        if let Some(owner) = refresh.as_ref().and_then(|refresh| held.owner_of(refresh)) {
            let error = format!(
                "the login returned the refresh token of another token, {owner}, and was refused; \
                 give each token a login of its own"
            );
            let error = ReauthError { error: error.into(), ..Default::default() };
            return Some((ReauthOutput::Failed(error), None));
        }
        held.begin_session(refresh);
        report = access.store(&mut held, DISK_TIMEOUT).await;
        if let Some(error) = refresh_error {
            report = Some(access.report(CompanionEvent::Unusable { error }));
        }
    }
    Some((ReauthOutput::NewValue(value), report))
}

/// Reads the parameters of a login from their sources.
async fn read_parameters(
    with: BTreeMap<String, Parameter>,
    lock: KeyedLock,
) -> Result<BTreeMap<String, SecretString>, String> {
    let read_all = move |(): &mut ()| {
        let read = |(name, parameter): (String, Parameter)| {
            let found = read_parameter(&parameter, &|name| std::env::var_os(name));
            let found = found.map_err(|error| format!("`with.{name}` cannot be read: {error}"))?;
            Ok((name, found.value))
        };
        with.into_iter().map(read).collect()
    };
    let hangs = || Err("`with` cannot be read because the disk does not respond".to_owned());
    with_disk_timeout(run_locked(&LOGINS, lock, read_all)).await.unwrap_or_else(hangs)
}

/// A failed login, as the error of an attempt.
pub(super) fn failed(LoginError { kind, fault }: LoginError) -> ReauthError {
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
