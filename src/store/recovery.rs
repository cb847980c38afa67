//! Recovery from a damaged state database: saves the values, refresh tokens and counters that can still be read, sets
//! the file aside, and starts a new one.

use rusqlite::{Connection, Error};

use super::commit::WriteBatch;
use super::database::{Database, damaged, fault};
use super::model::ClockReading;
use super::rows::{SELECT_COUNTERS, SELECT_VALUES, counter_in, scan, value_in};
use crate::time::Moment;
use crate::token_source::PersistError;

impl Database {
    /// Sets the database aside and starts a new one with the values, refresh tokens and
    /// counters that can still be read.
    pub(super) fn start_over(&mut self) -> Result<PersistError, PersistError> {
        let saved = self.salvage();
        // Close the file before it is renamed.
        self.connection = Connection::open_in_memory().map_err(|e| fault(&self.path, &e))?;
        let report = damaged(&self.path)?;
        let (new, _) = Self::open(&self.path)?;
        *self = new;
        self.restore(&saved).map_err(|error| fault(&self.path, &error))?;
        Ok(report)
    }

    /// What can still be read and cannot be requested again.
    fn salvage(&self) -> WriteBatch {
        let mut saved = WriteBatch::default();
        // Each scan stops at the damage; rows before it are saved.
        let _ = scan(self, SELECT_VALUES, |database, row| {
            if let Some(stored) = value_in(database, row)? {
                let name: Box<str> = row.get_ref(0)?.as_str()?.into();
                if let Some(until) = row.get(4)? {
                    saved.removed.insert(name.clone(), Some(until));
                }
                saved.values.insert(name, Some(stored));
            }
            Ok(())
        });
        let _ = self.companions(|name, row| {
            saved.companions.extend(row.map(|row| (name.into(), Some(row))));
        });
        let _ = scan(self, SELECT_COUNTERS, |_, row| {
            let (counted, count) = counter_in(row)?;
            saved.counts.insert(counted, count);
            Ok(())
        });
        saved
    }

    fn restore(&mut self, saved: &WriteBatch) -> Result<(), Error> {
        let now = Moment::from_millis(0);
        self.commit(saved, ClockReading { now, wall_ms: self.written_ms })
    }
}
