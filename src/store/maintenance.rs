//! Deletion of expired rows: values of removed tokens, attempts after their window, boots that no
//! row refers to, copies of damaged databases. Deleted and replaced values are also erased from the write-ahead log.

use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Error, params};

use super::aside::{KEPT, delete_expired};
use super::commit::{RETRY, WriteBatch};
use super::database::Database;
use super::model::{ClockReading, Counter};
use crate::time::Moment;

/// Minimum time between two runs.
const PACE: Duration = Duration::from_secs(1);

/// This many pages are copied in a few milliseconds: 8 MB.
const FEW_PAGES: i64 = 2_048;

/// When the next maintenance is due, and what it includes.
pub(super) struct Maintenance {
    due: Option<Moment>,
    /// The log may contain deleted or replaced values.
    erase: bool,
    /// Rows of earlier boots were not checked yet.
    boots: bool,
    last: Option<Moment>,
}

impl Maintenance {
    /// At startup everything is due, because an earlier run may have been killed.
    pub(super) const fn new() -> Self {
        Self { due: Some(Moment::from_millis(0)), erase: true, boots: true, last: None }
    }

    pub(super) const fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Plans the maintenance that a batch causes.
    pub(super) fn expect(&mut self, batch: &WriteBatch, at: ClockReading) {
        if batch.erases {
            self.erase = true;
            self.plan(at.now);
        }
        let companions = batch.companions.values().flatten().filter_map(|(_, until)| *until);
        let removed = batch.removed.values().flatten().copied().chain(companions);
        let windows = batch.counts.values().map(|Counter { window_end_ms, .. }| *window_end_ms);
        if let Some(end) = removed.chain(windows).min() {
            self.plan(after(at, end));
        }
    }

    /// The database was set aside.
    pub(super) fn expect_copy(&mut self, at: ClockReading) {
        self.plan(at.now + KEPT);
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
        let now = UNIX_EPOCH + Duration::from_millis(at.wall_ms.max(0).unsigned_abs());
        if let Some(left) = delete_expired(&database.path, now) {
            self.plan(at.now + left);
        }
        Ok(())
    }

    fn plan(&mut self, due: Moment) {
        let due = self.last.map_or(due, |last| due.max(last + PACE));
        self.due = Some(self.due.map_or(due, |planned| planned.min(due)));
    }
}

/// Converts a wall clock time to a moment.
fn after(at: ClockReading, wall_ms: i64) -> Moment {
    let left = wall_ms.saturating_sub(at.wall_ms).max(0).unsigned_abs();
    at.now + Duration::from_millis(left)
}

impl Database {
    /// Deletes expired values of removed tokens and counters. Returns whether a value or refresh
    /// token was deleted.
    fn delete_expired(&self, wall_ms: i64) -> Result<bool, Error> {
        let delete = |sql| self.connection.execute(sql, params![wall_ms]);
        let values =
            "DELETE FROM value WHERE name IN (SELECT name FROM removed WHERE until_ms <= ?)";
        let values = delete(values)?;
        delete("DELETE FROM removed WHERE until_ms <= ?")?;
        delete("DELETE FROM attempt WHERE window_end_ms <= ?")?;
        Ok(self.delete_expired_companions(wall_ms)? || values > 0)
    }

    /// When the next of them expires (wall clock).
    fn next_expiry(&self) -> Result<Option<i64>, Error> {
        let sql = "SELECT min(at) FROM (SELECT min(until_ms) AS at FROM removed \
                   UNION ALL SELECT min(window_end_ms) FROM attempt)";
        let next: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(next.into_iter().chain(self.next_companion_expiry()?).min())
    }

    /// Deletes earlier boots that no row refers to.
    fn delete_boots(&self) -> Result<(), Error> {
        let sql = "DELETE FROM boot WHERE number <> ? AND number NOT IN (SELECT boot FROM lives)";
        self.connection.execute(sql, [self.boot]).map(drop)
    }

    /// At shutdown: releases unused pages if the file is small.
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
}
