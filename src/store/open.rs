//! Opens the state directory for this process and its user alone.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::commit::WriteBatch;
use super::database::Database;
use crate::token_source::PersistError;

/// The database in the state directory.
const DATABASE: &str = "tokenkeep.db";

/// The lock file. The file stays when the daemon ends; the lock is always released.
const LOCK: &str = "lock";

/// Attempts to lock, and the pause between them. Half a second is enough for a child process to
/// start, and short for an operator who waits for the error about another daemon.
const LOCK_ATTEMPTS: u32 = 11;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The state database of one directory, open for reading and locked by this process.
pub struct Store {
    pub(super) database: Database,
    /// Number of life entries, once they have been read.
    pub(super) entries: u64,
    /// Obsolete rows that were read.
    pub(super) stale: WriteBatch,
    set_aside: Option<PersistError>,
    pub(super) lock: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.database.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database in `state_dir`, and creates what is missing (directory 0700, files 0600).
    /// A database that is damaged or of another version is set aside and replaced.
    ///
    /// # Errors
    ///
    /// [`PersistError::Locked`] if another process uses it; other errors if it cannot be created or
    /// written.
    pub fn open(state_dir: &Path) -> Result<Self, PersistError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|error| PersistError::new(state_dir, "creating it", error))?;
        let path = state_dir.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| PersistError::new(path, "opening it", error))?;
        take(&lock).map_err(|error| match error {
            Errno::WOULDBLOCK => PersistError::Locked { path: state_dir.to_owned() },
            _ => PersistError::new(state_dir, "locking it", error.into()),
        })?;
        let (database, set_aside) = Database::open(&state_dir.join(DATABASE))?;
        let stale = WriteBatch::default();
        Ok(Self { database, entries: 0, stale, set_aside, lock })
    }

    /// Takes the report about a database that was set aside.
    pub fn set_aside(&mut self) -> Option<PersistError> {
        self.set_aside.take()
    }

    pub(super) fn start_over(&mut self) -> Result<(), PersistError> {
        self.set_aside = Some(self.database.start_over()?);
        Ok(())
    }
}

/// Takes the lock, with retries. A child process inherits the parent's lock until it executes its
/// program, so a released lock can stay locked for a moment.
fn take(lock: &File) -> Result<(), Errno> {
    for _ in 1..LOCK_ATTEMPTS {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(LOCK_PAUSE),
            done => return done,
        }
    }
    flock(lock, FlockOperation::NonBlockingLockExclusive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_that_is_released_soon_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let other = std::thread::spawn(move || {
            sleep(LOCK_PAUSE);
            drop(store);
        });
        assert!(Store::open(folder.path()).is_ok());
        other.join().unwrap();
    }
}
