//! Opening the state directory: for this process alone, and for its user alone.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::commit::WriteBatch;
use super::database::Database;
use super::writer::Writer;
use crate::token_file::StoreFault;

/// The database in the state directory.
const DATABASE: &str = "tokenkeep.db";

/// The file whose lock says that the directory is in use. It stays when the daemon ends; the
/// lock does not, however the daemon ends.
const LOCK: &str = "lock";

/// How often the lock is tried for, and the time between: half a second is long for a process
/// to start in, and short for who waits to hear of another daemon.
const LOCK_ATTEMPTS: u32 = 11;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The store of one state directory, held for this process alone, to be read.
pub struct Store {
    pub(super) database: Database,
    /// Entries of the lives, once they have been read.
    pub(super) entries: u64,
    /// What was read and is not needed any more.
    pub(super) stale: WriteBatch,
    set_aside: Option<StoreFault>,
    pub(super) lock: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.database.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `state_dir`, and creates what is missing (0700, its files 0600).
    /// One that is damaged or of another version is set aside and begun anew.
    ///
    /// # Errors
    ///
    /// [`StoreFault::Locked`] when another process has it; otherwise when it cannot be created
    /// or written to.
    pub fn open(state_dir: &Path) -> Result<Self, StoreFault> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|error| StoreFault::new(state_dir, "creating it", error))?;
        let path = state_dir.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreFault::new(path, "opening it", error))?;
        take(&lock).map_err(|error| match error {
            Errno::WOULDBLOCK => StoreFault::Locked { path: state_dir.to_owned() },
            _ => StoreFault::new(state_dir, "locking it", error.into()),
        })?;
        let (database, set_aside) = Database::open(&state_dir.join(DATABASE))?;
        let stale = WriteBatch::default();
        Ok(Self { database, entries: 0, stale, set_aside, lock })
    }

    /// What was of no use and has been set aside, since this was last asked.
    pub fn set_aside(&mut self) -> Option<StoreFault> {
        self.set_aside.take()
    }

    pub(super) fn start_over(&mut self) -> Result<(), StoreFault> {
        self.set_aside = Some(self.database.start_over()?);
        Ok(())
    }

    /// Ends the reading, and begins to write.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn into_writer(self) -> Result<Writer, StoreFault> {
        Writer::start(self)
    }
}

/// Takes the lock, if need be with a few tries: a process that is being started has all that
/// its parent holds, for the moment until it becomes another program, and so keeps the lock of
/// one that has just let go of it.
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
    fn a_lock_that_is_let_go_of_a_moment_later_is_waited_for() {
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
