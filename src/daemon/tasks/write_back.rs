//! Keeping new values: in a token's file, or by its name in the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::daemon::Daemon;
use crate::daemon::tasks::blocking::{DISK, blocking_among, with_disk_timeout};
use crate::daemon::tasks::keyed_lock::KeyedLock;
use crate::daemon::tasks::{Completion, WriteOutcome, read_source};
use crate::keeper::{Ticket, TokenId};
use crate::secret::TokenValue;
use crate::settings::{InventorySource, Source};
use crate::store::Receipt;
use crate::token_file::{StoreFault, remove_leftovers, replace};

/// Writes a value to its token's file, durably; `in_source` is what that held when it was last
/// looked at: any other value there is a new one.
///
/// A write that hangs is given up, but not its turn: it may yet be made, and must not be when a
/// later value is there. The turn knows its value, which is then nobody else's.
pub(crate) async fn store_in_file(
    ticket: Ticket,
    turn: KeyedLock<Option<TokenValue>>,
    path: PathBuf,
    value: TokenValue,
    in_source: Option<TokenValue>,
) -> Completion {
    let result = write(turn, path, value.clone(), in_source).await;
    Completion::Stored(
        ticket,
        Ok(result.unwrap_or_else(|fault| WriteOutcome::NotInFile(value, fault))),
    )
}

/// Tries the file of a value again that is kept in the state directory.
pub(crate) async fn rewrite(
    (id, name): (TokenId, Box<str>),
    turn: KeyedLock<Option<TokenValue>>,
    path: PathBuf,
    value: TokenValue,
    in_source: Option<TokenValue>,
) -> Completion {
    Completion::Rewritten { id, name, result: write(turn, path, value, in_source).await }
}

async fn write(
    turn: KeyedLock<Option<TokenValue>>,
    path: PathBuf,
    value: TokenValue,
    in_source: Option<TokenValue>,
) -> Result<WriteOutcome, StoreFault> {
    let hangs = StoreFault::hangs(&path, "writing");
    let written = write_in_turn(turn.clone(), move |given_up| {
        let ours = [in_source, given_up.replace(value.clone())];
        write_to_file(&path, value, &ours)
    });
    let written = with_disk_timeout(written).await;
    if written.is_some() {
        turn.forget();
    }
    written.unwrap_or(Err(hangs))
}

/// Waits until a value whose file cannot be replaced is durable in the state directory.
pub(crate) async fn store_in_state_dir(
    ticket: Ticket,
    kept: Receipt,
    fault: StoreFault,
) -> Completion {
    let result = match kept.durable().await {
        Ok(()) => Ok(WriteOutcome::InStateDir(fault)),
        // It is in memory only: what is wrong with the file is what the operator can change.
        Err(_) => Err(fault),
    };
    Completion::Stored(ticket, result)
}

impl Daemon {
    /// Removes what an earlier run that was killed has left beside token files. Nothing waits
    /// for it.
    pub(crate) fn remove_leftovers(&self) {
        let settings = Arc::clone(&self.settings);
        drop(spawn_blocking(move || {
            let files = settings.tokens.iter().filter_map(|token| match &token.source {
                Source::File(path) => Some(path.clone()),
                _ => None,
            });
            let folders = settings.inventories.iter().filter_map(|inventory| {
                // A name that no token has: only its folder counts.
                match &inventory.source {
                    InventorySource::Dir(folder) => Some(folder.join("\u{1}")),
                    _ => None,
                }
            });
            remove_leftovers(files.chain(folders));
        }));
    }
}

async fn write_in_turn<T: Send + 'static, R: Send + 'static>(
    turn: KeyedLock<T>,
    write: impl FnOnce(&mut T) -> R + Send + 'static,
) -> R {
    let mut turn = turn.comes().await;
    blocking_among(&DISK, move || write(&mut turn)).await
}

/// `ours` are values that may be overwritten: that was looked at before, or was written here.
fn write_to_file(
    path: &Path,
    value: TokenValue,
    ours: &[Option<TokenValue>],
) -> Result<WriteOutcome, StoreFault> {
    if let Ok(found) = read_source(&Source::File(path.to_owned()))
        && found.value != value
        && !ours.iter().flatten().any(|ours| *ours == found.value)
    {
        return Ok(WriteOutcome::SourceChanged(found.value));
    }
    replace(path, &value)?;
    Ok(WriteOutcome::Written(value))
}

/// Waits until a value that was handed to the store is durable; `None`: there is no store.
pub(crate) async fn store_by_name(
    ticket: Ticket,
    value: TokenValue,
    kept: Option<Receipt>,
) -> Completion {
    let result = match kept {
        Some(kept) => kept.durable().await,
        None => Err(StoreFault::NoStateDir),
    };
    Completion::Stored(ticket, result.map(|()| WriteOutcome::Written(value)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::daemon::tasks::keyed_lock::KeyedLocks;
    use crate::token_file::DISK_PATIENCE;

    fn value(text: &str) -> TokenValue {
        TokenValue::parse(text).unwrap()
    }

    /// Stores "new" in a file that holds `there` and held `seen` when it was last looked at;
    /// tells what the file holds then.
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
    fn a_new_value_takes_the_place_of_the_one_that_it_replaces() {
        assert_eq!(stored(Some("old"), Some("old")), "new");
    }

    #[test]
    fn a_new_value_fills_a_source_that_had_none() {
        assert_eq!(stored(None, None), "new");
    }

    #[test]
    fn a_value_that_has_not_been_seen_in_the_source_yet_is_not_overwritten() {
        assert_eq!(stored(Some("operator's"), Some("old")), "operator's");
        assert_eq!(stored(Some("operator's"), None), "operator's");
    }

    #[test]
    fn what_a_write_that_was_given_up_has_left_is_overwritten() {
        assert_eq!(stored(Some("given-up"), Some("old")), "new");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_given_up_and_keeps_its_turn_until_it_ends() {
        let mut turns = KeyedLocks::<()>::default();
        let (end, ended) = mpsc::channel();
        let write = write_in_turn(turns.take("a"), move |()| ended.recv().expect("a sender"));
        let given_up = tokio::spawn(with_disk_timeout(write));
        // The clock does not run by itself while a thread is busy.
        tokio::task::yield_now().await;
        tokio::time::advance(DISK_PATIENCE).await;
        assert_eq!(given_up.await.unwrap(), None);

        let mut next = Box::pin(write_in_turn(turns.take("a"), |()| "next"));
        assert!(next.as_mut().now_or_never().is_none(), "the first may yet be made");
        end.send("first").unwrap();
        assert_eq!(next.await, "next");
    }
}
