//! Reads refresh tokens, and stores them in their file, or in the state database if that fails.
//!
//! A new refresh token is stored before the value that came with it is used. A crash between the
//! two leaves a value and a refresh token that are both usable; the other order would lose the
//! session. But a disk that hangs must not let the token expire. Then the refresh token that was
//! read or received last counts, a new one is kept in memory, the value is used, and the write is
//! retried.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::blocking::{REFRESH_TOKENS, blocking_among};
use super::write_back::{FileLock, run_locked, write};
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

/// Time-out of a read after an earlier one has ended or hung. If it expires, what is known counts.
const REREAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of a read: warnings about the source, or why it has no refresh token.
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

    /// Reads the source. A read that hangs times out, but keeps the lock of its file, so that the
    /// next read starts no second thread.
    ///
    /// # Errors
    ///
    /// If the disk does not respond: what was read before still counts. Any other error is part of
    /// the result.
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
        let patience = if held.state().was_read() { REREAD_TIMEOUT } else { DISK_TIMEOUT };
        let read = move || read_source(&source);
        let read = async {
            match self.file_lock.clone() {
                Some(lock) => run_locked(&REFRESH_TOKENS, lock, move |_| read()).await,
                None => blocking_among(&REFRESH_TOKENS, read).await,
            }
        };
        let read = timeout(patience, read).await;
        held.state().set_hangs(read.is_err());
        match read {
            Ok(Ok(found)) => {
                held.note_source(Some(found.value));
                Ok(Ok(found.warnings))
            }
            Ok(Err(error)) => {
                held.note_source(None);
                Ok(Err(error.to_string()))
            }
            Err(_) => Err(CallError {
                local: true,
                ..CallError::new(format!(
                    "{described}: the refresh token cannot be read because the disk does not respond"
                ))
            }),
        }
    }

    /// The refresh token to send. `has_login`: a login can replace the value.
    ///
    /// # Errors
    ///
    /// The outcome without it: a misconfiguration if there is none, or if none can be read and a
    /// login does not need it.
    pub(super) async fn current(
        &self,
        held: &mut HeldCompanion,
        has_login: bool,
    ) -> Result<TokenValue, Outcome> {
        let read = self.read(held).await;
        match held.current() {
            Ok(Some(refresh)) => {
                // It is used at once.
                held.state().take_news();
                Ok(refresh)
            }
            Ok(None) => {
                let read = match read {
                    Ok(read) => read,
                    Err(fault) if has_login => return Err(Outcome::Misconfigured(fault)),
                    Err(fault) => return Err(Outcome::Unavailable(fault)),
                };
                let reason = read.err().unwrap_or_else(|| {
                    "the one in its source was spent, or a login has ended its session; put a new \
                     one there"
                        .to_owned()
                });
                Err(Outcome::Misconfigured(no_refresh_token(&reason)))
            }
            Err(Refusal { owner, is_passing: true }) => {
                let error = format!("{owner}, which was removed, is still renewing with it");
                Err(Outcome::Unavailable(no_refresh_token(&error)))
            }
            Err(Refusal { owner, is_passing: false }) => {
                // If the owner has spent it, that is known after a restart too.
                self.store(held, DISK_TIMEOUT).await;
                let error = format!(
                    "the one in its source belongs to {owner}; a refresh token can be spent once, so \
                     give each token its own"
                );
                let fault = CallError { is_alarming: true, ..no_refresh_token(&error) };
                Err(Outcome::Misconfigured(fault))
            }
        }
    }

    /// Stores the successor of a spent refresh token. `patience` limits each write: the one to the
    /// file, and the one to the state database.
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

    /// Drops the refresh token if the server has refused it and it was not replaced. For use after
    /// a command or an API key has opened a new session.
    pub(super) async fn drop_refused(&self) {
        let mut held = self.hold().await;
        drop(self.read(&mut held).await);
        if held.state().is_refused() {
            held.begin_session(None);
            self.store(&mut held, DISK_TIMEOUT).await;
        }
    }

    /// Writes the successor to its file.
    ///
    /// # Errors
    ///
    /// Why the file does not contain it; `None` if it must not be written there.
    async fn store_in_file(
        &self,
        held: &mut HeldCompanion,
        patience: Duration,
    ) -> Result<(), Option<PersistError>> {
        let (path, lock) = self.file().ok_or(None)?;
        if held.is_source_foreign() {
            // The file is a copy of, or a link to, that of another token, which needs its content.
            return Err(None);
        }
        if held.state().hangs() {
            // The read keeps the lock of the file.
            return Err(Some(PersistError::timed_out(path, "writing")));
        }
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

/// Retries the write of a refresh token that is in memory only, until it succeeds. If the daemon
/// stops, the next attempt comes sooner.
pub(super) async fn keep_storing(access: CompanionAccess) -> Completion {
    let (mut pause, mut is_stopping) = (FIRST_PAUSE, false);
    let report = loop {
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = access.companion.stopping(), if !is_stopping => {
                (is_stopping, pause) = (true, FIRST_PAUSE);
            }
        }
        let mut held = access.hold().await;
        if !held.state().is_unsaved() {
            break None;
        }
        held.state().set_hangs(false);
        match access.store(&mut held, DISK_TIMEOUT).await {
            Some(CompanionReport { event: CompanionEvent::Unsaved { .. }, .. }) => {}
            other => break other,
        }
    };
    access.companion.end_retries();
    Completion::Companion(report, None)
}

/// Reads the source of a refresh token that was not read yet, or may have changed. Reports a new
/// refresh token, and warnings about the source.
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::daemon::companions::Companions;

    fn value(text: &str) -> TokenValue {
        TokenValue::parse(text).unwrap()
    }

    /// Access to the refresh token of a token whose refresh token is in this file.
    fn access(
        path: &Path,
        locks: &mut KeyedLocks<Option<TokenValue>>,
    ) -> (Companions, CompanionAccess) {
        let mut companions = Companions::default();
        companions.set_source("a", CompanionSource::Own(Source::File(path.to_owned())));
        let companion = companions.of("a").unwrap();
        (companions, CompanionAccess::new(companion, locks))
    }

    #[tokio::test(start_paused = true)]
    async fn file_that_hangs_uses_one_thread_and_what_it_held_still_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refresh");
        fs::write(&path, "r-1").unwrap();
        let mut locks = KeyedLocks::default();
        let (_companions, access) = access(&path, &mut locks);
        let mut held = access.hold().await;
        let permits = REFRESH_TOKENS.available_permits();
        // What a read that hangs keeps.
        let hung = locks.get(&path).acquire().await;
        assert!(matches!(access.current(&mut held, false).await, Err(Outcome::Unavailable(_))));
        assert!(matches!(access.current(&mut held, true).await, Err(Outcome::Misconfigured(_))));
        drop(hung);
        assert_eq!(access.current(&mut held, false).await.unwrap(), value("r-1"));
        let _hung = locks.get(&path).acquire().await;
        assert_eq!(access.current(&mut held, false).await.unwrap(), value("r-1"));
        held.replace(Some(&value("r-1")), Some(value("r-2")));
        let stored = access.store(&mut held, DISK_TIMEOUT).now_or_never().expect("no wait");
        assert!(stored.is_some(), "it is in memory only");
        assert_eq!(access.current(&mut held, false).await.unwrap(), value("r-2"));
        assert_eq!(REFRESH_TOKENS.available_permits(), permits);
    }

    #[tokio::test(start_paused = true)]
    async fn refresh_token_that_could_not_be_stored_is_stored_at_once_when_the_daemon_stops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refresh");
        let (companions, access) = access(&path, &mut KeyedLocks::default());
        access.hold().await.replace(None, Some(value("r-2")));
        let mut storing = Box::pin(keep_storing(access));
        assert!(storing.as_mut().now_or_never().is_none(), "it waits");
        companions.stop();
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, storing).await.is_ok(), "it does not wait any more");
        assert_eq!(fs::read_to_string(path).unwrap().trim(), "r-2");
    }
}
