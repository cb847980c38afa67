//! Reading the store at the start, table by table, without holding any of it twice.

use std::collections::HashSet;

use rusqlite::{Error, OptionalExtension as _, Row};

use super::commit::WriteBatch;
use super::database::{Database, fault, is_damage};
use super::encoding::{LifeBatch, StoredLife};
use super::mac::Salt;
use super::model::{ClockContext, ClockReading, Counter, CounterKey, StoredValue, WriteContext};
use super::open::Store;
use crate::clock;
use crate::secret::TokenValue;
use crate::time::Moment;
use crate::token_file::StoreFault;

/// The kinds of counts, as they stand on the disk.
pub(super) const KIND_TOKEN: i64 = 0;
pub(super) const KIND_REAUTH: i64 = 1;

impl Store {
    /// Hands what is known of lives to `some`, a few at a time, the newest first: of what is
    /// known of one token only what comes first counts.
    ///
    /// # Errors
    ///
    /// When it cannot be read. Where that is for damage it is no error: what follows the
    /// damage is not handed out, and [`Store::set_aside`] tells.
    pub fn lives(&mut self, mut some: impl FnMut(&[StoredLife<'_>])) -> Result<(), StoreFault> {
        let clocks = self.database.clocks();
        let mut entries = 0;
        let sql = format!("{SELECT_LIVES} ORDER BY number DESC");
        let read = self.scan(&sql, |database, row| {
            if let Some(part) = life_batch_in(database, clocks, row)? {
                part.lives(|stored_lives| {
                    entries += stored_lives.len() as u64;
                    some(stored_lives);
                });
            }
            Ok(())
        });
        self.entries = entries;
        read
    }

    /// Hands every value that was kept, with its token's name, to `each`; of a token that was
    /// removed, also until when it is kept, in milliseconds since 1970. A value that is not as it
    /// was written, or that is kept no longer, is passed over, and deleted later.
    ///
    /// # Errors
    ///
    /// As for [`Store::lives`].
    pub fn values(
        &mut self,
        mut each: impl FnMut(&str, StoredValue, Option<i64>),
    ) -> Result<(), StoreFault> {
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

    /// Hands every count to `each`.
    ///
    /// # Errors
    ///
    /// As for [`Store::lives`].
    pub fn counters(
        &mut self,
        mut each: impl FnMut(CounterKey, Counter),
    ) -> Result<(), StoreFault> {
        self.scan(SELECT_COUNTERS, |_, row| {
            let (counted, count) = counter_in(row)?;
            each(counted, count);
            Ok(())
        })
    }

    /// Hands each server's name to `each`, with whether it is the renewing call that extends
    /// lives there. `addresses` gives the present address of a server: what another one has
    /// taught does not count, and is deleted later.
    ///
    /// # Errors
    ///
    /// As for [`Store::lives`].
    pub fn renewal_methods(
        &mut self,
        addresses: impl Fn(&str) -> Option<String>,
        mut each: impl FnMut(&str, bool),
    ) -> Result<(), StoreFault> {
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
    ) -> Result<(), StoreFault> {
        match scan(&self.database, sql, each) {
            Ok(()) => Ok(()),
            Err(error) if is_damage(&error) => self.start_over(),
            Err(error) => Err(fault(&self.database.path, &error)),
        }
    }
}

impl Database {
    /// From where what was kept is looked at now.
    fn clocks(&self) -> ClockContext {
        let wall_ms = clock::wall_clock().as_millisecond();
        let present = ClockReading { now: clock::now(), wall_ms };
        ClockContext { boot: self.boot, present, written_ms: self.written_ms }
    }

    /// The tokens whose value is kept, as far as they can be read.
    pub(super) fn names(&self) -> HashSet<Box<str>> {
        let mut names = HashSet::new();
        // Whoever writes next meets the damage and deals with it.
        let _ = scan(self, "SELECT name FROM value", |_, row| {
            names.insert(row.get_ref(0)?.as_str()?.into());
            Ok(())
        });
        names
    }

    /// The newest of the lives that were written before the row of this number, and its own.
    pub(super) fn life_batch_before(
        &self,
        number: i64,
    ) -> Result<Option<(i64, Option<LifeBatch>)>, Error> {
        let sql = format!("{SELECT_LIVES} WHERE number < ? ORDER BY number DESC LIMIT 1");
        let mut select = self.connection.prepare_cached(&sql)?;
        let found = select
            .query_row([number], |row| Ok((row.get(5)?, life_batch_in(self, self.clocks(), row)?)));
        found.optional()
    }
}

const SELECT_LIVES: &str = "SELECT boot, moment_ms, wall_ms, tag, packed, number FROM lives";

/// The part of a row of [`SELECT_LIVES`]; `None` where its clocks are not as they were written.
fn life_batch_in(
    database: &Database,
    clocks: ClockContext,
    row: &Row<'_>,
) -> Result<Option<LifeBatch>, Error> {
    let now = Moment::from_millis(row.get::<_, i64>(1)?.cast_unsigned());
    let written =
        WriteContext { boot: row.get(0)?, at: ClockReading { now, wall_ms: row.get(2)? } };
    if row.get::<_, i64>(3)? != header_mac(&database.salt, &written) {
        return Ok(None);
    }
    let packed = row.get(4)?;
    Ok(Some(LifeBatch { clocks, salt: database.salt, written, packed }))
}

pub(super) fn header_mac(salt: &Salt, written: &WriteContext) -> i64 {
    let WriteContext { boot, at } = written;
    let [boot, wall] = [boot.to_le_bytes(), at.wall_ms.to_le_bytes()];
    salt.mac(&[&boot, &at.now.as_millis().to_le_bytes(), &wall])
}

pub(super) const SELECT_VALUES: &str = "SELECT name, tag, value, replaces, until_ms \
                                 FROM value LEFT JOIN removed USING (name)";
pub(super) const SELECT_COUNTERS: &str =
    "SELECT kind, name, window_end_ms, count, in_a_row FROM attempt";

/// Goes through the rows of `sql`.
pub(super) fn scan(
    database: &Database,
    sql: &str,
    mut each: impl FnMut(&Database, &Row<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut select = database.connection.prepare(sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        each(database, row)?;
    }
    Ok(())
}

/// The value of a row of [`SELECT_VALUES`]; `None` if it is not as it was written.
pub(super) fn value_in(database: &Database, row: &Row<'_>) -> Result<Option<StoredValue>, Error> {
    let name = row.get_ref(0)?.as_str()?;
    let (tag, value) = (row.get::<_, i64>(1)?, row.get_ref(2)?.as_str()?);
    let replaces = row.get_ref(3)?.as_str_or_null()?;
    if tag != value_mac(database, name, value, replaces) {
        return Ok(None);
    }
    let parse = |text| TokenValue::parse(text).ok();
    Ok(parse(value).map(|value| StoredValue { value, replaces: replaces.and_then(parse) }))
}

pub(super) fn value_mac(
    database: &Database,
    name: &str,
    value: &str,
    replaces: Option<&str>,
) -> i64 {
    let replaces = replaces.unwrap_or_default();
    database.salt.mac(&[name.as_bytes(), value.as_bytes(), replaces.as_bytes()])
}

pub(super) fn renewal_method_mac(database: &Database, server: &str, url: &str) -> i64 {
    database.salt.mac(&[server.as_bytes(), url.as_bytes()])
}

pub(super) fn counter_in(row: &Row<'_>) -> Result<(CounterKey, Counter), Error> {
    let name: String = row.get(1)?;
    let counted = match row.get::<_, i64>(0)? {
        KIND_TOKEN => CounterKey::Token(name),
        _ => CounterKey::Reauth(name),
    };
    let [count, in_a_row] = [row.get(3)?, row.get(4)?];
    Ok((counted, Counter { window_end_ms: row.get(2)?, count, in_a_row }))
}
