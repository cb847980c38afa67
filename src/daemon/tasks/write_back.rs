//! Writes new values back: to a token's file and `env_file`, or by its name to the state database.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Completion;
use super::blocking::{DISK, ENV_FILES, blocking, blocking_among, with_disk_timeout};
use super::keyed_lock::KeyedLock;
use crate::daemon::tokens::{EnvFileWrite, FileWrite, WriteOutcome, read_source};
use crate::scheduler::Ticket;
use crate::secret::TokenValue;
use crate::settings::{InventorySource, Settings, Source};
use crate::store::WriteReceipt;
use crate::token_source::{PersistError, replace, write_env_file};

pub(super) type FileLock = KeyedLock<Option<TokenValue>>;

/// Writes a value to its token's file, durably. `in_source` is what the file held when it was last
/// read: any other value there is a new one, and is left as it is.
///
/// A write that hangs times out, but keeps its lock: it may still be made, and must not replace a
/// later value. The lock keeps its value, which the next write may overwrite.
pub(super) async fn store_in_file(
    ticket: Ticket,
    lock: FileLock,
    path: PathBuf,
    value: TokenValue,
    in_source: Option<TokenValue>,
) -> Completion {
    let result = write(lock, path.clone(), value.clone(), in_source).await;
    let outcome = result.unwrap_or_else(|error| WriteOutcome::NotInFile(value, error));
    Completion::Stored { ticket, file: Some(path), result: Ok(outcome) }
}

/// Retries to write the file of a value that is kept in the state directory.
pub(super) async fn rewrite(file: FileWrite, lock: FileLock) -> Completion {
    let FileWrite { id, name, path, value, in_source } = file;
    let result = write(lock, path.clone(), value, in_source).await;
    Completion::FileWritten { id, name, file: path, result }
}

/// Maximum time to wait for other writes of `env_file`s, so that disks that hang are reported.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);

/// Writes a value to its token's `env_file`. A write that hangs times out, but keeps its lock. The
/// time in the queue does not count: it says nothing about this file's disk.
pub(super) async fn export(write: EnvFileWrite, lock: FileLock) -> Completion {
    let (file, gid, value) = (write.file.clone(), write.gid, write.value.clone());
    let result = match timeout(QUEUE_TIMEOUT, ENV_FILES.acquire()).await {
        Ok(permit) => {
            let written = async {
                let held = lock.acquire().await;
                let write = move || write_env_file(&file, gid, &value);
                blocking(move || (write(), held, permit).0).await
            };
            let hangs = || Err(PersistError::timed_out(&write.file.path, "writing"));
            with_disk_timeout(written).await.unwrap_or_else(hangs)
        }
        Err(_) => Err(PersistError::queued(&write.file.path, QUEUE_TIMEOUT)),
    };
    Completion::EnvFileWritten(write, result)
}

pub(super) async fn write(
    lock: FileLock,
    path: PathBuf,
    value: TokenValue,
    in_source: Option<TokenValue>,
) -> Result<WriteOutcome, PersistError> {
    let hangs = PersistError::timed_out(&path, "writing");
    let written = run_locked(&DISK, lock.clone(), move |timed_out| {
        let ours = [in_source, timed_out.replace(value.clone())];
        write_to_file(&path, value, &ours)
    });
    let written = with_disk_timeout(written).await;
    if written.is_some() {
        lock.reset();
    }
    written.unwrap_or(Err(hangs))
}

/// Waits until a value whose file cannot be replaced is durable in the state directory.
pub(super) async fn store_in_state_dir(
    ticket: Ticket,
    file: Option<PathBuf>,
    receipt: WriteReceipt,
    error: PersistError,
) -> Completion {
    let result = match receipt.durable().await {
        Ok(()) => Ok(WriteOutcome::InStateDir(error)),
        // The value is in memory only. The operator can correct the file, so its error is reported.
        Err(_) => Err(error),
    };
    Completion::Stored { ticket, file, result }
}

/// Removes temporary files that an earlier run that was killed has left beside token files. Nothing
/// waits for it.
pub(crate) fn remove_stale_temporary_files(settings: &Arc<Settings>) {
    let settings = Arc::clone(settings);
    drop(spawn_blocking(move || {
        let sources =
            settings.tokens.iter().flat_map(|token| [Some(&token.source), token.refresh.as_ref()]);
        let files = sources.flatten().filter_map(|source| match source {
            Source::File(path) => Some(path.clone()),
            Source::Credential(_) | Source::Env(_) => None,
        });
        let folders = settings.inventories.iter().filter_map(|inventory| {
            // A name that no token has: only its folder counts.
            match &inventory.source {
                InventorySource::Dir(folder) => Some(folder.join("\u{1}")),
                _ => None,
            }
        });
        let env_files = settings.tokens.iter().filter_map(|token| token.env_file.as_ref());
        let env_files = env_files.map(|file| file.path.clone());
        let files = files.chain(folders).chain(env_files);
        crate::token_source::remove_stale_temporary_files(files);
    }));
}

/// Runs blocking work on a file. Work that hangs keeps the lock of the file, so that a hung file uses
/// one thread, however many attempts there are.
pub(super) async fn run_locked<T: Send + 'static, R: Send + 'static>(
    permits: &'static Semaphore,
    lock: KeyedLock<T>,
    work: impl FnOnce(&mut T) -> R + Send + 'static,
) -> R {
    let mut held = lock.acquire().await;
    blocking_among(permits, move || work(&mut held)).await
}

/// `ours` are values that may be overwritten: values that were read before, or written here.
fn write_to_file(
    path: &Path,
    value: TokenValue,
    ours: &[Option<TokenValue>],
) -> Result<WriteOutcome, PersistError> {
    if let Ok(found) = read_source(&Source::File(path.to_owned()))
        && found.value != value
        && !ours.iter().flatten().any(|ours| *ours == found.value)
    {
        return Ok(WriteOutcome::SourceChanged(found.value));
    }
    replace(path, &value)?;
    Ok(WriteOutcome::Written(value))
}

/// Waits until a value that was handed to the state database is durable; `None`: there is none.
pub(super) async fn store_by_name(
    ticket: Ticket,
    value: TokenValue,
    receipt: Option<WriteReceipt>,
) -> Completion {
    let result = match receipt {
        Some(receipt) => receipt.durable().await,
        None => Err(PersistError::NoStateDir),
    };
    let result = result.map(|()| WriteOutcome::Written(value));
    Completion::Stored { ticket, file: None, result }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::super::keyed_lock::KeyedLocks;
    use super::*;
    use crate::settings::EnvFile;
    use crate::token_source::DISK_TIMEOUT;

    fn value(text: &str) -> TokenValue {
        TokenValue::parse(text).unwrap()
    }

    /// Stores "new" in a file that holds `there` and held `seen` when it was last read. Returns
    /// what the file holds then.
    fn stored(there: Option<&str>, seen: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quotes.token");
        if let Some(there) = there {
            fs::write(&path, there).unwrap();
        }
        write_to_file(&path, value("new"), &[seen.map(value), Some(value("given-up"))]).unwrap();
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    #[test]
    fn new_value_replaces_the_value_that_was_read_before() {
        assert_eq!(stored(Some("old"), Some("old")), "new");
    }

    #[test]
    fn new_value_is_written_to_a_source_that_had_none() {
        assert_eq!(stored(None, None), "new");
    }

    #[test]
    fn value_that_was_not_read_yet_is_not_overwritten() {
        assert_eq!(stored(Some("operator's"), Some("old")), "operator's");
        assert_eq!(stored(Some("operator's"), None), "operator's");
    }

    #[test]
    fn value_of_a_write_that_timed_out_is_overwritten() {
        assert_eq!(stored(Some("given-up"), Some("old")), "new");
    }

    #[tokio::test(start_paused = true)]
    async fn write_that_hangs_times_out_and_keeps_its_lock_until_it_ends() {
        let mut locks = KeyedLocks::<()>::default();
        let (end, ended) = mpsc::channel();
        let write = run_locked(&DISK, locks.get("a"), move |()| ended.recv().expect("a sender"));
        let given_up = tokio::spawn(with_disk_timeout(write));
        // The clock does not run by itself while a thread is busy.
        tokio::task::yield_now().await;
        tokio::time::advance(DISK_TIMEOUT).await;
        assert_eq!(given_up.await.unwrap(), None);

        let mut next = Box::pin(run_locked(&DISK, locks.get("a"), |()| "next"));
        assert!(next.as_mut().now_or_never().is_none(), "the first may yet be made");
        end.send("first").unwrap();
        assert_eq!(next.await, "next");
    }
    #[tokio::test(start_paused = true)]
    async fn time_in_the_queue_is_not_time_of_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.env");
        let file = EnvFile { path: path.clone(), variable: "QUOTES".to_owned(), group: None };
        let write = || EnvFileWrite {
            id: Ticket::for_tests().token,
            name: "quotes".into(),
            file: file.clone(),
            gid: None,
            value: value("new"),
        };
        let result = |completion| match completion {
            Completion::EnvFileWritten(_, result) => result,
            _ => unreachable!("it exports"),
        };
        let mut locks = KeyedLocks::default();
        let others = ENV_FILES.acquire_many(16).await.unwrap();
        let mut queued = Box::pin(export(write(), locks.get("a")));
        assert!(timeout(DISK_TIMEOUT * 2, &mut queued).await.is_err(), "it waits");
        let error = result(export(write(), locks.get("b")).await).unwrap_err().to_string();
        assert!(error.contains("other `env_file`s are being written"), "{error}");
        assert!(!path.exists());
        drop(others);
        tokio::time::resume();
        assert!(result(export(write(), locks.get("c")).await).is_ok());
        assert!(path.exists());
    }
}
