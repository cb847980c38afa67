//! Recovery from a damaged or moved state database: saves the values, refresh tokens and counters
//! that can still be read to a new file, and sets the damaged one aside.

use std::fs;

use rusqlite::Error;

use super::aside::{LOG, with_suffix};
use super::commit::WriteBatch;
use super::database::{Database, damaged, delete_replacement, fault, files_at, replacement_of};
use super::model::ClockReading;
use super::rows::{SELECT_COUNTERS, SELECT_VALUES, counter_in, scan, value_in};
use crate::time::Moment;
use crate::token_source::PersistError;

impl Database {
    /// Sets the database aside and starts a new one with the values, refresh tokens and
    /// counters that can still be read. After an error, this object still reads the damaged file, so
    /// that the next attempt loses nothing.
    pub(super) fn start_over(&mut self) -> Result<PersistError, PersistError> {
        let saved = self.salvage();
        // The damaged file stays in place until its replacement is durable.
        let report = self
            .build_replacement(&saved)
            .and_then(|()| damaged(&self.path))
            .inspect_err(|_| delete_replacement(&self.path))?;
        let new = replacement_of(&self.path);
        fs::rename(&new, &self.path)
            .map_err(|error| PersistError::new(new, "moving it to its place", error))?;
        *self = Self::connect_new(&self.path)?;
        Ok(report)
    }

    /// Opens the file at the path if another one is open: an operator has moved it, or the last step
    /// of [`start_over`](Self::start_over) failed. What the open file contains replaces rows of the
    /// same name. Returns the report if another file is open now.
    pub(super) fn follow_path(&mut self) -> Result<Option<PersistError>, PersistError> {
        let [file, log] = files_at(&self.path);
        if file == self.files[0] {
            return Ok(None);
        }
        let saved = self.salvage();
        if log.is_some() && log == self.files[1] {
            // The log of the open file. SQLite would apply it to the other one. The moved file gets
            // its content; if it cannot, the values are still in `saved`.
            let _ = self.truncate_log();
            let path = with_suffix(&self.path, LOG);
            fs::remove_file(&path)
                .map_err(|error| PersistError::new(path, "deleting it", error))?;
        }
        let (mut new, report) = Self::open(&self.path)?;
        new.restore(&saved).map_err(|error| fault(&self.path, &error))?;
        *self = new;
        Ok(Some(report.unwrap_or_else(|| PersistError::Moved { path: self.path.clone() })))
    }

    fn build_replacement(&self, saved: &WriteBatch) -> Result<(), PersistError> {
        delete_replacement(&self.path);
        let mut new = Self::connect_new(&replacement_of(&self.path))?;
        new.restore(saved)
            .and_then(|()| new.truncate_log())
            .map_err(|error| fault(&new.path, &error))
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
