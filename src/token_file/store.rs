//! The state directory: values of tokens whose source cannot be written to, across restarts.
//!
//! One file for each token, so that a damaged one costs no other. Which of the kept value and
//! the source's value counts is not decided here.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::replace::{sync_folder, write_atomically};
use super::{StoreFault, TEMPORARY_PREFIX};
use crate::secret::TokenValue;

/// The folder of the values within the state directory.
const VALUES: &str = "values";

/// The file whose lock says that the directory is in use. It stays when the daemon ends; the
/// lock does not, however the daemon ends.
const LOCK: &str = "lock";

/// How often the lock is tried for, and the time between: half a second is long for a process
/// to start in, and short for who waits to hear of another daemon.
const TRIES: u32 = 11;
const PAUSE: Duration = Duration::from_millis(50);

/// A state directory, held for this process alone until it is dropped.
#[derive(Debug)]
pub struct StateDir {
    folder: PathBuf,
    values: PathBuf,
    /// The version of the ledger that was written last.
    ledger: Mutex<u64>,
    /// Holds the lock.
    _lock: File,
}

/// A value that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub value: TokenValue,
    /// What the token's source held when this value took its place, if it held one.
    pub replaces: Option<TokenValue>,
}

/// What a file of `values` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    replaces: Option<Cow<'a, str>>,
}

impl StateDir {
    /// Opens the state directory at `path`, creates what is missing (0700) and locks it.
    /// What an interrupted write left there is removed.
    ///
    /// # Errors
    ///
    /// [`StoreFault::Locked`] when another process has it; otherwise when it cannot be created
    /// or written to.
    pub fn open(path: &Path) -> Result<Self, StoreFault> {
        let values = path.join(VALUES);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&values)
            .map_err(|error| StoreFault::new(path, "creating it", error))?;
        let lock = path.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock)
            .map_err(|error| StoreFault::new(lock, "opening it", error))?;
        take(&lock).map_err(|error| match error {
            Errno::WOULDBLOCK => StoreFault::Locked { path: path.to_owned() },
            _ => StoreFault::new(path, "locking it", error.into()),
        })?;
        clean(&values).map_err(|error| StoreFault::new(&values, "cleaning it up", error))?;
        // Whether files can be created there is best known before there is a value to lose.
        tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempfile_in(&values)
            .map_err(|error| StoreFault::new(&values, "creating a file", error))?;
        let (folder, ledger) = (path.to_owned(), Mutex::default());
        Ok(Self { folder, values, ledger, _lock: lock })
    }

    /// Keeps `value` for the token `name`, in place of what was kept for it; `replaces` is what
    /// the token's source holds now. When this returns, it outlives a power failure.
    ///
    /// # Errors
    ///
    /// When it cannot be written; what was kept before is then kept still.
    pub fn save(
        &self,
        name: &str,
        value: &TokenValue,
        replaces: Option<&TokenValue>,
    ) -> Result<(), StoreFault> {
        let record = Record {
            value: value.expose().into(),
            replaces: replaces.map(|replaces| replaces.expose().into()),
        };
        let path = self.path(name);
        // Room for both values with every byte escaped: a buffer that grew would leave copies.
        let length = value.expose().len() + replaces.map_or(0, |value| value.expose().len());
        let mut content = Zeroizing::new(Vec::with_capacity(64 + 6 * length));
        serde_json::to_writer(&mut *content, &record)
            .map_err(|error| StoreFault::new(&path, "encoding", error.into()))?;
        content.push(b'\n');
        write_atomically(&path, &content)
    }

    /// What is kept for the token `name`.
    ///
    /// # Errors
    ///
    /// [`StoreFault::Damaged`] when the file makes no sense; it is set aside, so that the next
    /// call finds nothing. Otherwise when it cannot be read.
    pub fn load(&self, name: &str) -> Result<Option<Stored>, StoreFault> {
        let path = self.path(name);
        let content = match fs::read(&path) {
            Ok(content) => Zeroizing::new(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreFault::new(path, "reading it", error)),
        };
        if let Some(stored) = decode(&content) {
            return Ok(Some(stored));
        }
        Err(self.set_aside(path))
    }

    /// Moves a damaged file out of the way, and tells of it.
    #[expect(clippy::unused_self, reason = "only who holds the lock may move files")]
    pub(super) fn set_aside(&self, path: PathBuf) -> StoreFault {
        let aside = path.with_extension("json.damaged");
        match fs::rename(&path, &aside) {
            Ok(()) => StoreFault::Damaged { path, aside },
            Err(error) => StoreFault::new(path, "setting the damaged file aside", error),
        }
    }

    /// A file of the state directory itself.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The version of the ledger that was written last; held while one is written.
    pub(super) fn ledger_version(&self) -> MutexGuard<'_, u64> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what is kept for the token `name`, if anything is.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn forget(&self, name: &str) -> Result<(), StoreFault> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(&self.values),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreFault::new(path, "removing it", error)),
        }
    }

    /// The file of the token `name`: no name leads out of the folder, no two share a file.
    fn path(&self, name: &str) -> PathBuf {
        let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        self.values.join(encoded + ".json")
    }
}

/// Takes the lock, if need be with a few tries: a process that is being started has all that
/// its parent holds, for the moment until it becomes another program, and so keeps the lock of
/// one that has just let go of it.
fn take(lock: &File) -> Result<(), Errno> {
    for _ in 1..TRIES {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(PAUSE),
            done => return done,
        }
    }
    flock(lock, FlockOperation::NonBlockingLockExclusive)
}

fn decode(content: &[u8]) -> Option<Stored> {
    let record: Record<'_> = serde_json::from_slice(content).ok()?;
    let value = TokenValue::parse(&record.value).ok()?;
    let replaces = record.replaces.as_deref().map(TokenValue::parse).transpose().ok()?;
    Some(Stored { value, replaces })
}

/// Removes the temporary files of a daemon that was killed while it wrote.
fn clean(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tempfile::TempDir;

    use super::*;

    fn value(text: &str) -> TokenValue {
        TokenValue::parse(text).unwrap()
    }

    fn opened() -> (TempDir, StateDir) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(&folder.path().join("state")).unwrap();
        (folder, state)
    }

    #[test]
    fn what_was_saved_is_found_after_a_restart() {
        let (folder, state) = opened();
        state.save("quotes", &value("new-1"), Some(&value("old-1"))).unwrap();
        state.save("orders", &value("new-2"), None).unwrap();
        drop(state);
        let state = StateDir::open(&folder.path().join("state")).unwrap();
        assert_eq!(
            state.load("quotes").unwrap(),
            Some(Stored { value: value("new-1"), replaces: Some(value("old-1")) })
        );
        let orders = state.load("orders").unwrap().unwrap();
        assert_eq!(orders, Stored { value: value("new-2"), replaces: None });
    }

    #[test]
    fn for_a_token_that_was_never_saved_nothing_is_found() {
        let (_folder, state) = opened();
        assert_eq!(state.load("quotes").unwrap(), None);
    }

    #[test]
    fn the_last_save_counts() {
        let (_folder, state) = opened();
        state.save("quotes", &value("new-1"), Some(&value("old-1"))).unwrap();
        state.save("quotes", &value("new-2"), None).unwrap();
        let expected = Stored { value: value("new-2"), replaces: None };
        assert_eq!(state.load("quotes").unwrap(), Some(expected));
    }

    #[test]
    fn what_is_forgotten_is_not_found_and_may_be_forgotten_again() {
        let (_folder, state) = opened();
        state.save("quotes", &value("new-1"), None).unwrap();
        state.forget("quotes").unwrap();
        state.forget("quotes").unwrap();
        assert_eq!(state.load("quotes").unwrap(), None);
    }

    #[test]
    fn directories_and_files_are_for_the_user_alone() {
        let (folder, state) = opened();
        state.save("quotes", &value("new-1"), None).unwrap();
        for (path, mode) in [
            ("state", 0o700),
            ("state/values", 0o700),
            ("state/lock", 0o600),
            ("state/values/quotes.json", 0o600),
        ] {
            let metadata = fs::metadata(folder.path().join(path)).unwrap();
            assert_eq!(metadata.mode() & 0o777, mode, "{path}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_directory_or_meets_another() {
        let (folder, state) = opened();
        let names = ["..", ".", "a/b", "a%2Fb", "/etc/passwd", "a b", "a+b", "é", "nul\0"];
        for name in names {
            state.save(name, &value("new-1"), Some(&value(&name.len().to_string()))).unwrap();
        }
        for name in names {
            let stored = state.load(name).unwrap().unwrap();
            assert_eq!(stored.replaces.unwrap().expose(), name.len().to_string(), "{name:?}");
        }
        let values = folder.path().join("state/values");
        assert_eq!(fs::read_dir(values).unwrap().count(), names.len());
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_costs_no_other() {
        let damages: [&[u8]; 5] =
            [b"", b"{\"value\":\"new", b"\0\0\0\0", b"{\"value\":\"a b\"}", b"[]"];
        for damage in damages {
            let (folder, state) = opened();
            state.save("orders", &value("new-2"), None).unwrap();
            let path = folder.path().join("state/values/quotes.json");
            fs::write(&path, damage).unwrap();
            let fault = state.load("quotes").unwrap_err();
            let aside = path.with_file_name("quotes.json.damaged");
            assert!(matches!(&fault, StoreFault::Damaged { .. }), "{fault}");
            assert_eq!(fs::read(aside).unwrap(), damage);
            assert_eq!(state.load("quotes").unwrap(), None);
            assert!(state.load("orders").unwrap().is_some());
        }
    }

    #[test]
    fn a_second_daemon_on_the_same_directory_is_refused() {
        let (folder, state) = opened();
        let path = folder.path().join("state");
        let fault = StateDir::open(&path).unwrap_err();
        assert!(matches!(&fault, StoreFault::Locked { path: locked } if *locked == path));
        drop(state);
        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn what_an_interrupted_write_left_is_removed() {
        let (folder, state) = opened();
        drop(state);
        let left = folder.path().join("state/values/.tokenkeep-abc");
        fs::write(&left, "new-1").unwrap();
        StateDir::open(&folder.path().join("state")).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_created_is_a_fault_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.join("state"), PathBuf::from("/proc/tokenkeep")] {
            let fault = StateDir::open(&path).unwrap_err();
            assert!(fault.to_string().starts_with(path.to_str().unwrap()), "{fault}");
        }
    }

    #[test]
    fn neither_a_fault_nor_what_was_stored_prints_a_value() {
        let (folder, state) = opened();
        state.save("quotes", &value("new-1"), Some(&value("old-1"))).unwrap();
        let stored = state.load("quotes").unwrap();
        fs::write(folder.path().join("state/values/orders.json"), "{\"value\":\"new-1\"").unwrap();
        let fault = state.load("orders").unwrap_err();
        let printed = format!("{stored:?} {fault} {fault:?} {state:?}");
        assert!(!printed.contains("new-1") && !printed.contains("old-1"), "{printed}");
    }

    #[test]
    fn a_lock_that_is_let_go_of_a_moment_later_is_waited_for() {
        let (folder, state) = opened();
        let other = std::thread::spawn(move || {
            sleep(PAUSE);
            drop(state);
        });
        assert!(StateDir::open(&folder.path().join("state")).is_ok());
        other.join().unwrap();
    }
}
