//! Conversion between rows of the state database and the model. A row whose MAC does not match is
//! not returned.

use std::collections::HashSet;

use rusqlite::{Error, OptionalExtension as _, Row};

use super::database::Database;
use super::encoding::LifeBatch;
use super::mac::Salt;
use super::model::{ClockContext, ClockReading, Counter, CounterKey, StoredValue, WriteContext};
use crate::clock;
use crate::secret::TokenValue;
use crate::time::Moment;

/// Kinds of counters, as stored.
pub(super) const KIND_TOKEN: i64 = 0;

pub(super) const KIND_REAUTH: i64 = 1;

pub(super) const SELECT_LIVES: &str =
    "SELECT boot, moment_ms, wall_ms, tag, packed, number FROM lives";
pub(super) const SELECT_VALUES: &str = "SELECT name, tag, value, replaces, until_ms \
                                 FROM value LEFT JOIN removed USING (name)";
pub(super) const SELECT_COUNTERS: &str =
    "SELECT kind, name, window_end_ms, count, in_a_row FROM attempt";

impl Database {
    /// The clocks of this run.
    pub(super) fn clocks(&self) -> ClockContext {
        let wall_ms = clock::wall_clock().as_millisecond();
        let present = ClockReading { now: clock::now(), wall_ms };
        ClockContext { boot: self.boot, present, written_ms: self.written_ms }
    }

    /// Tokens with a stored value, as far as they can be read.
    pub(super) fn names(&self) -> HashSet<Box<str>> {
        let mut names = HashSet::new();
        // The next write detects the damage and recovers.
        let _ = scan(self, "SELECT name FROM value", |_, row| {
            names.insert(row.get_ref(0)?.as_str()?.into());
            Ok(())
        });
        names
    }

    /// The newest batch of lives with a smaller row number, and its number.
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

/// The lives in a row of [`SELECT_LIVES`]; `None` if its clocks fail authentication.
pub(super) fn life_batch_in(
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

/// Passes every row of `sql` to `each`.
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

/// The value in a row of [`SELECT_VALUES`]; `None` if it fails authentication.
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
