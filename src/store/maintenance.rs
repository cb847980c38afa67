//! Deletion of expired rows: values of removed tokens, attempts after their window, boots that no
//! row refers to. Deleted and replaced values are also erased from the write-ahead log.

use std::time::Duration;

use rusqlite::{Error, params};

use super::commit::WriteBatch;
use super::database::Database;
use super::model::{ClockReading, Counter};
use super::writer_thread::RETRY;
use crate::time::Moment;

/// Between two runs, at least: what expires in between waits.
const PACE: Duration = Duration::from_secs(1);

/// So many pages are copied in a few milliseconds: 8 MB.
const FEW_PAGES: i64 = 2_048;

/// When expired rows are deleted next, and what else is to be done then.
pub(super) struct Maintenance {
    due: Option<Moment>,
    /// The log may hold values that are deleted or replaced.
    erase: bool,
    /// The boots of earlier runs have not been looked at.
    boots: bool,
    last: Option<Moment>,
}

impl Maintenance {
    /// At the start everything is due: an earlier run may have been killed.
    pub(super) const fn new() -> Self {
        Self { due: Some(Moment::from_millis(0)), erase: true, boots: true, last: None }
    }

    pub(super) const fn due(&self) -> Option<Moment> {
        self.due
    }

    /// This batch is being written.
    pub(super) fn expect(&mut self, batch: &WriteBatch, at: ClockReading) {
        if batch.erases {
            self.erase = true;
            self.plan(at.now);
        }
        let removed = batch.removed.values().flatten().copied();
        let windows = batch.counts.values().map(|Counter { window_end_ms, .. }| *window_end_ms);
        if let Some(end) = removed.chain(windows).min() {
            self.plan(after(at, end));
        }
    }

    /// Deletes what has expired.
    pub(super) fn run(&mut self, database: &Database, at: ClockReading) -> Result<(), Error> {
        self.due = Some(at.now + RETRY);
        self.last = Some(at.now);
        let erased = database.delete_expired(at.wall_ms)?;
        if std::mem::take(&mut self.boots) {
            database.delete_boots()?;
        }
        if erased || self.erase {
            database.truncate_log()?;
            self.erase = false;
        }
        self.due = None;
        if let Some(end) = database.next_expiry()? {
            self.plan(after(at, end));
        }
        Ok(())
    }

    fn plan(&mut self, due: Moment) {
        let due = self.last.map_or(due, |last| due.max(last + PACE));
        self.due = Some(self.due.map_or(due, |planned| planned.min(due)));
    }
}

/// The moment of that time on the wall clock.
fn after(at: ClockReading, wall_ms: i64) -> Moment {
    let left = wall_ms.saturating_sub(at.wall_ms).max(0).unsigned_abs();
    at.now + Duration::from_millis(left)
}

impl Database {
    /// Deletes the values of removed tokens and the attempts whose time is over; whether there
    /// was such a value.
    fn delete_expired(&self, wall_ms: i64) -> Result<bool, Error> {
        let delete = |sql| self.connection.execute(sql, params![wall_ms]);
        let values =
            "DELETE FROM value WHERE name IN (SELECT name FROM removed WHERE until_ms <= ?)";
        let values = delete(values)?;
        delete("DELETE FROM removed WHERE until_ms <= ?")?;
        delete("DELETE FROM attempt WHERE window_end_ms <= ?")?;
        Ok(values > 0)
    }

    /// When the next of them expires, on the wall clock.
    fn next_expiry(&self) -> Result<Option<i64>, Error> {
        let sql = "SELECT min(at) FROM (SELECT min(until_ms) AS at FROM removed \
                   UNION ALL SELECT min(window_end_ms) FROM attempt)";
        self.connection.query_row(sql, [], |row| row.get(0))
    }

    /// Deletes earlier boots that no row refers to.
    fn delete_boots(&self) -> Result<(), Error> {
        let sql = "DELETE FROM boot WHERE number <> ? AND number NOT IN (SELECT boot FROM lives)";
        self.connection.execute(sql, [self.boot]).map(drop)
    }

    /// At the end: gives the pages back that are not used any more, if there are few pages.
    pub(super) fn shrink(&self) -> Result<(), Error> {
        let number = |name| self.connection.pragma_query_value(None, name, |row| row.get(0));
        let pages: i64 = number("page_count")?;
        if pages > FEW_PAGES {
            return Ok(());
        }
        self.connection.execute(
            "DELETE FROM lives WHERE number < ifnull(?, 0)",
            [self.life_log.delete_below],
        )?;
        let unused: i64 = number("freelist_count")?;
        if unused > 0 { self.connection.execute_batch("VACUUM") } else { Ok(()) }
    }

    /// Moves the log into the database and empties it: it still holds what was overwritten.
    fn truncate_log(&self) -> Result<(), Error> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}
