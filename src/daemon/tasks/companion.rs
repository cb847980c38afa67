//! Reads and stores refresh tokens: to their file, or else to the state database.
//!
//! A new refresh token is stored before the value that came with it is used. A crash between the
//! two leaves a value and a refresh token that are both usable; the other order would lose the
//! session. A disk that hangs must not let the token expire, though: then the refresh token is kept
//! in memory, the value is used, and storing is tried again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::blocking::{DISK, blocking_among, with_disk_timeout};
use super::write_back::{FileLock, write};
use super::{Completion, KeyedLocks};
use crate::daemon::companions::{
    Companion, CompanionEvent, CompanionReport, CompanionSource, HeldCompanion, Refusal,
};
use crate::daemon::tokens::{WriteOutcome, read_source};
use crate::outcome::{CallError, Outcome};
use crate::secret::TokenValue;
use crate::settings::Source;
use crate::token_source::{DISK_TIMEOUT, PersistError, SourceWarning, describe};

/// Pauses between attempts to store a refresh token.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The least time that a write gets, however short the life of the value is.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Warnings about a source that holds a refresh token, or why it holds none.
type SourceRead = Result<Vec<SourceWarning>, String>;

/// What a task needs to read and store a refresh token.
#[derive(Debug, Clone)]
pub(super) struct CompanionAccess {
    companion: Arc<Companion>,
    /// `None`: its token was removed.
    source: Option<CompanionSource>,
    /// The lock of its file, if the source is a file.
    file_lock: Option<FileLock>,
}

impl CompanionAccess {
    /// Access to a companion as it is configured now.
    pub(super) fn new(
        companion: Arc<Companion>,
        locks: &mut KeyedLocks<Option<TokenValue>>,
    ) -> Self {
        let source = companion.source();
        let file_lock = match &source {
            Some(CompanionSource::Own(Source::File(path))) => Some(locks.get(path)),
            Some(CompanionSource::Own(_) | CompanionSource::Line(_)) | None => None,
        };
        Self { companion, source, file_lock }
    }

    /// Waits until no other task uses the companion.
    pub(super) async fn hold(&self) -> HeldCompanion {
        Arc::clone(&self.companion).hold().await
    }

    /// Reads the source.
    ///
    /// # Errors
    ///
    /// If the disk does not respond. Any other error is part of the result.
    pub(super) async fn read(&self, held: &mut HeldCompanion) -> Result<SourceRead, CallError> {
        let source = match &self.source {
            Some(CompanionSource::Line(value)) => {
                held.note_source(Some(value.clone()));
                return Ok(Ok(Vec::new()));
            }
            Some(CompanionSource::Own(source)) => source.clone(),
            None => return Ok(Err("the token was removed".to_owned())),
        };
        let described = describe(&source);
        let read = with_disk_timeout(blocking_among(&DISK, move || read_source(&source))).await;
        match read {
            Some(Ok(found)) => {
                held.note_source(Some(found.value));
                Ok(Ok(found.warnings))
            }
            Some(Err(error)) => {
                held.note_source(None);
                Ok(Err(error.to_string()))
            }
            None => Err(CallError {
                local: true,
                ..CallError::new(format!(
                    "{described}: the refresh token cannot be read because the disk does not respond"
                ))
            }),
        }
    }

    /// The refresh token to send.
    ///
    /// # Errors
    ///
    /// The outcome without it: a misconfiguration if there is none.
    pub(super) async fn current(&self, held: &mut HeldCompanion) -> Result<TokenValue, Outcome> {
        let read = self.read(held).await.map_err(Outcome::Unavailable)?;
        match held.current() {
            Ok(Some(refresh)) => {
                // It is used at once.
                held.state().take_news();
                Ok(refresh)
            }
            Ok(None) => {
                let reason = read.err().unwrap_or_else(|| {
                    "the last login returned none, and the one in its source is not valid any more; \
                     put a new one there"
                        .to_owned()
                });
                Err(Outcome::Misconfigured(no_refresh_token(&reason)))
            }
            Err(Refusal { owner, is_passing: true }) => {
                let error = format!("{owner}, which was removed, is still renewing with it");
                Err(Outcome::Unavailable(no_refresh_token(&error)))
            }
            Err(Refusal { owner, is_passing: false }) => {
                let error = format!(
                    "the one in its source belongs to {owner}; a refresh token can be spent once, so \
                     give each token its own"
                );
                let fault = CallError { is_alarming: true, ..no_refresh_token(&error) };
                Err(Outcome::Misconfigured(fault))
            }
        }
    }

    /// Stores the successor of a spent refresh token. Each of the two places gets this time.
    pub(super) async fn store(
        &self,
        held: &mut HeldCompanion,
        patience: Duration,
    ) -> Option<CompanionReport> {
        if !held.state().is_changed() {
            return None;
        }
        if held.state().successor().is_none() {
            // A crash before it is durable costs one request that is refused.
            drop(self.companion.persist(held.state()));
            held.state().is_in_database();
            return None;
        }
        let file_error = match self.store_in_file(held, patience).await {
            Ok(()) => return None,
            Err(error) => error,
        };
        let receipt = self.companion.persist(held.state());
        let error = match receipt {
            Some(receipt) => match timeout(patience, receipt.durable()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the disk of the state database does not respond".to_owned()),
            },
            None => Some(PersistError::NoStateDir.to_string()),
        };
        match (error, file_error) {
            (None, error) => {
                held.state().is_in_database();
                let error = error?.to_string();
                let event = CompanionEvent::InStateDir { error: error.clone() };
                held.state().report(&error).then(|| self.report(event))
            }
            (Some(error), file_error) => {
                let error = match file_error {
                    Some(file_error) => format!("{file_error}; {error}"),
                    None => error,
                };
                held.state().report(&error);
                Some(self.report(CompanionEvent::Unsaved { error }))
            }
        }
    }

    /// A command or an API key has opened a new session: the refresh token before is not sent any
    /// more if the server has refused it, and it was not replaced.
    pub(super) async fn drop_refused(&self) {
        let mut held = self.hold().await;
        if self.read(&mut held).await.is_ok() && held.state().is_refused() {
            held.begin_session(None);
            self.store(&mut held, DISK_TIMEOUT).await;
        }
    }

    /// Writes the successor to its file.
    ///
    /// # Errors
    ///
    /// Why it is not there; `None` if the source is no file.
    async fn store_in_file(
        &self,
        held: &mut HeldCompanion,
        patience: Duration,
    ) -> Result<(), Option<PersistError>> {
        let (path, lock) = self.file().ok_or(None)?;
        let mut in_source = held.state().in_source().cloned();
        // A spent refresh token that was put back meanwhile is replaced too.
        loop {
            let Some(value) = held.state().successor().cloned() else { return Err(None) };
            let written = write(lock.clone(), path.clone(), value, in_source.clone());
            match timeout(patience, written).await {
                Ok(Ok(WriteOutcome::SourceChanged(found))) => {
                    held.note_source(Some(found.clone()));
                    if !held.state().is_source_spent() || in_source.as_ref() == Some(&found) {
                        return Ok(());
                    }
                    in_source = Some(found);
                }
                Ok(Ok(WriteOutcome::Written(_))) => {
                    held.is_in_source();
                    return Ok(());
                }
                Ok(
                    Ok(WriteOutcome::NotInFile(_, error) | WriteOutcome::InStateDir(error))
                    | Err(error),
                ) => return Err(Some(error)),
                Err(_) => return Err(Some(PersistError::timed_out(path, "writing"))),
            }
        }
    }

    fn file(&self) -> Option<(PathBuf, FileLock)> {
        match &self.source {
            Some(CompanionSource::Own(Source::File(path))) => {
                Some((path.clone(), self.file_lock.clone()?))
            }
            Some(CompanionSource::Own(_) | CompanionSource::Line(_)) | None => None,
        }
    }

    pub(super) fn report(&self, event: CompanionEvent) -> CompanionReport {
        let path = self.file().map(|(path, _)| path);
        CompanionReport { name: self.companion.name().into(), path, event }
    }
}

/// How long a write may delay a value that lives for this long.
pub(super) fn patience(remaining: Duration) -> Duration {
    (remaining / 4).clamp(LEAST_PATIENCE, DISK_TIMEOUT)
}

/// The error if there is no refresh token to send: nothing was sent.
fn no_refresh_token(reason: &str) -> CallError {
    CallError { local: true, ..CallError::new(format!("no refresh token: {reason}")) }
}

/// Stores a refresh token that is in memory only, again and again until that succeeds.
pub(super) async fn keep_storing(access: CompanionAccess) -> Completion {
    let mut pause = FIRST_PAUSE;
    let report = loop {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let mut held = access.hold().await;
        if !held.state().is_unsaved() {
            break None;
        }
        match access.store(&mut held, DISK_TIMEOUT).await {
            Some(CompanionReport { event: CompanionEvent::Unsaved { .. }, .. }) => {}
            other => break other,
        }
    };
    access.companion.end_retries();
    Completion::Companion(report, None)
}

/// The source of a refresh token was not read yet, or may have changed: reports a new refresh token,
/// and warnings about the source.
pub(super) async fn check_source(access: CompanionAccess) -> Completion {
    let mut held = access.hold().await;
    let mut warnings = match access.read(&mut held).await {
        Ok(Ok(warnings)) => warnings,
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    if held.state().set_warned(!warnings.is_empty()) {
        warnings.clear();
    }
    let is_new = held.state().take_news();
    let report = if is_new || !warnings.is_empty() {
        Some(access.report(CompanionEvent::SourceRead { is_new, warnings }))
    } else {
        // If an old copy was put back.
        access.store(&mut held, DISK_TIMEOUT).await
    };
    Completion::Companion(report, None)
}
