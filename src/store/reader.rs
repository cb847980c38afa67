//! Reads the state database at startup, table by table, without a second copy in memory.

use rusqlite::{Error, Row};

use super::commit::WriteBatch;
use super::database::{Database, fault, is_damage};
use super::encoding::StoredLife;
use super::model::{Counter, CounterKey, StoredCompanion, StoredValue};
use super::open::Store;
use super::rows::{
    SELECT_COUNTERS, SELECT_LIVES, SELECT_VALUES, counter_in, life_batch_in, renewal_method_mac,
    scan, value_in,
};
use crate::clock;
use crate::token_source::PersistError;

impl Store {
    /// Passes the lives to `some`, a few at a time, newest first. Only the first entry of a token
    /// counts.
    ///
    /// # Errors
    ///
    /// If it cannot be read. Damage is not an error: rows after the damage are skipped, and
    /// [`Store::set_aside`] reports it.
    pub fn lives(&mut self, mut some: impl FnMut(&[StoredLife<'_>])) -> Result<(), PersistError> {
        let clocks = self.database.clocks();
        let mut entries = 0;
        let sql = format!("{SELECT_LIVES} ORDER BY number DESC");
        let read = self.scan(&sql, |database, row| {
            if let Some(batch) = life_batch_in(database, clocks, row)? {
                batch.lives(|stored_lives| {
                    entries += stored_lives.len() as u64;
                    some(stored_lives);
                });
            }
            Ok(())
        });
        self.entries = entries;
        read
    }

    /// Passes every stored value and its token's name to `each`; for a removed token also until
    /// when it is kept, in milliseconds since 1970. Values that fail authentication or have expired
    /// are skipped, and deleted later.
    ///
    /// # Errors
    ///
    /// As for [`Store::lives`].
    pub fn values(
        &mut self,
        mut each: impl FnMut(&str, StoredValue, Option<i64>),
    ) -> Result<(), PersistError> {
        let wall_ms = clock::wall_clock().as_millisecond();
        let mut stale = WriteBatch::default();
        let read = self.scan(SELECT_VALUES, |database, row| {
            let name = row.get_ref(0)?.as_str()?;
            let until_ms: Option<i64> = row.get(4)?;
            match value_in(database, row)? {
                Some(stored) if until_ms.is_none_or(|until| until > wall_ms) => {
                    each(name, stored, until_ms);
                }
                _ => stale.delete_value(name),
            }
            Ok(())
        });
        self.stale.put_back(stale);
        read
    }

    /// Passes every stored refresh token and its token's name to `each`; for a removed token also
    /// until when it is kept, in milliseconds since 1970. Rows that fail authentication or have
    /// expired are skipped, and deleted later.
    ///
    /// # Errors
    ///
    /// As for [`Store::lives`].
    pub fn companions(
        &mut self,
        mut each: impl FnMut(&str, StoredCompanion, Option<i64>),
    ) -> Result<(), PersistError> {
        let wall_ms = clock::wall_clock().as_millisecond();
        let mut stale = WriteBatch::default();
        let read = self.database.companions(|name, row| match row {
            Some((stored, until_ms)) if until_ms.is_none_or(|until| until > wall_ms) => {
                each(name, stored, until_ms);
            }
            _ => stale.delete_companion(name),
        });
        self.stale.put_back(stale);
        self.recover(read)
    }

    /// Passes every counter to `each`.
    ///
    /// # Errors
    ///
    /// As for [`Store::lives`].
    pub fn counters(
        &mut self,
        mut each: impl FnMut(CounterKey, Counter),
    ) -> Result<(), PersistError> {
        self.scan(SELECT_COUNTERS, |_, row| {
            let (counted, count) = counter_in(row)?;
            each(counted, count);
            Ok(())
        })
    }

    /// Passes each server's name to `each`, with whether the renewing call renews there.
    /// `addresses` returns the current URL of a server. Rows for another URL are skipped, and
    /// deleted later.
    ///
    /// # Errors
    ///
    /// As for [`Store::lives`].
    pub fn renewal_methods(
        &mut self,
        addresses: impl Fn(&str) -> Option<String>,
        mut each: impl FnMut(&str, bool),
    ) -> Result<(), PersistError> {
        let mut stale = WriteBatch::default();
        let read = self.scan("SELECT server, tag, renewing FROM lesson", |database, row| {
            let server = row.get_ref(0)?.as_str()?;
            let (tag, renewing): (i64, i64) = (row.get(1)?, row.get(2)?);
            if addresses(server)
                .is_some_and(|url| renewal_method_mac(database, server, &url) == tag)
            {
                each(server, renewing != 0);
            } else {
                stale.renewal_methods.insert(server.into(), None);
            }
            Ok(())
        });
        self.stale.put_back(stale);
        read
    }

    fn scan(
        &mut self,
        sql: &str,
        each: impl FnMut(&Database, &Row<'_>) -> Result<(), Error>,
    ) -> Result<(), PersistError> {
        let read = scan(&self.database, sql, each);
        self.recover(read)
    }

    fn recover(&mut self, read: Result<(), Error>) -> Result<(), PersistError> {
        match read {
            Ok(()) => Ok(()),
            Err(error) if is_damage(&error) => self.start_over(),
            Err(error) => Err(fault(&self.database.path, &error)),
        }
    }
}
