//! The ledger of re-auth attempts: what a restart must not forget, or a daemon that is
//! restarted in a loop would log in until the account is locked.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StoreFault;
use super::replace::write_atomically;
use super::store::StateDir;

/// The file in the state directory. It holds names and numbers, no secret.
const LEDGER: &str = "reauth.json";

/// All attempts and failures that still count, by the names of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// For each token.
    pub tokens: BTreeMap<String, Count>,
    /// For each way to new values.
    pub reauths: BTreeMap<String, Count>,
}

/// What counts in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// When the window ends.
    pub window_end: Timestamp,
    /// Attempts or failures that count in it.
    pub count: u32,
    /// Attempts since a value last lived half of its reported life.
    #[serde(default)]
    pub in_a_row: u32,
}

impl StateDir {
    /// Keeps `ledger` in place of the one before, unless one with a higher `version` has been
    /// kept already. When this returns, it outlives a power failure.
    ///
    /// # Errors
    ///
    /// When it cannot be written; what was kept before is then kept still.
    pub fn save_ledger(&self, ledger: &Ledger, version: u64) -> Result<(), StoreFault> {
        let path = self.path_of(LEDGER);
        let mut kept = self.ledger_version();
        if version <= *kept {
            return Ok(());
        }
        let content = serde_json::to_vec(ledger)
            .map_err(|error| StoreFault::new(&path, "encoding", error.into()))?;
        write_atomically(&path, &content)?;
        *kept = version;
        Ok(())
    }

    /// The ledger that was kept; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreFault::Damaged`] when the file makes no sense; it is set aside. Otherwise when it
    /// cannot be read.
    pub fn load_ledger(&self) -> Result<Ledger, StoreFault> {
        let path = self.path_of(LEDGER);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
            Err(error) => return Err(StoreFault::new(path, "reading it", error)),
        };
        serde_json::from_slice(&content).map_err(|_| self.set_aside(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(count: u32) -> Ledger {
        let window_end = Timestamp::UNIX_EPOCH;
        let counted = Count { window_end, count, in_a_row: count };
        Ledger {
            tokens: BTreeMap::from([("quotes".to_owned(), counted)]),
            reauths: BTreeMap::default(),
        }
    }

    #[test]
    fn a_ledger_is_found_again_as_it_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        StateDir::open(folder.path()).unwrap().save_ledger(&ledger(3), 1).unwrap();
        assert_eq!(StateDir::open(folder.path()).unwrap().load_ledger().unwrap(), ledger(3));
    }

    #[test]
    fn without_one_nothing_has_been_tried() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        assert_eq!(state.load_ledger().unwrap(), Ledger::default());
    }

    #[test]
    fn an_older_one_that_comes_late_does_not_replace_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        state.save_ledger(&ledger(2), 2).unwrap();
        state.save_ledger(&ledger(1), 1).unwrap();
        assert_eq!(state.load_ledger().unwrap(), ledger(2));
    }

    #[test]
    fn a_damaged_one_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        fs::write(folder.path().join(LEDGER), "{\"tokens\":").unwrap();
        assert!(matches!(state.load_ledger(), Err(StoreFault::Damaged { .. })));
        assert_eq!(state.load_ledger().unwrap(), Ledger::default());
    }
}
