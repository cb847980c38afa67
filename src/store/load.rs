//! Reading the store at the start, table by table, without holding any of it twice.

use std::collections::HashSet;

use rusqlite::{Error, OptionalExtension as _, Row};

use super::commit::Batch;
use super::database::{Database, fault, is_damage};
use super::open::Store;
use super::packed::{Part, Recalled};
use super::row::{Count, Counted, Present, Stored, Vantage, Written};
use super::tag::Salt;
use crate::clock;
use crate::secret::TokenValue;
use crate::time::Moment;
use crate::token_file::StoreFault;

/// The kinds of counts, as they stand on the disk.
pub(super) const OF_TOKEN: i64 = 0;
pub(super) const OF_REAUTH: i64 = 1;

impl Store {
    /// Hands what is known of lives to `some`, a few at a time, the newest first: of what is
    /// known of one token only what comes first counts.
    ///
    /// # Errors
    ///
    /// When it cannot be read. Where that is for damage it is no error: what follows the
    /// damage is not handed out, and [`Store::set_aside`] tells.
    pub fn lives(&mut self, mut some: impl FnMut(&[Recalled<'_>])) -> Result<(), StoreFault> {
        let vantage = self.database.vantage();
        let mut entries = 0;
        let sql = format!("{PARTS} ORDER BY number DESC");
        let read = self.scan(&sql, |database, row| {
            if let Some(part) = part_in(database, vantage, row)? {
                part.lives(|recalled| {
                    entries += recalled.len() as u64;
                    some(recalled);
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
        mut each: impl FnMut(&str, Stored, Option<i64>),
    ) -> Result<(), StoreFault> {
        let wall_ms = clock::wall_clock().as_millisecond();
        let mut stale = Batch::default();
        let read = self.scan(VALUES, |database, row| {
            let name = row.get_ref(0)?.as_str()?;
            let until_ms: Option<i64> = row.get(4)?;
            match value_in(database, row)? {
                Some(stored) if until_ms.is_none_or(|until| until > wall_ms) => {
                    each(name, stored, until_ms);
                }
                _ => stale.forget_value(name),
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
    pub fn counts(&mut self, mut each: impl FnMut(Counted, Count)) -> Result<(), StoreFault> {
        self.scan(COUNTS, |_, row| {
            let (counted, count) = count_in(row)?;
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
    pub fn lessons(
        &mut self,
        addresses: impl Fn(&str) -> Option<String>,
        mut each: impl FnMut(&str, bool),
    ) -> Result<(), StoreFault> {
        let mut stale = Batch::default();
        let read = self.scan("SELECT server, tag, renewing FROM lesson", |database, row| {
            let server = row.get_ref(0)?.as_str()?;
            let (tag, renewing): (i64, i64) = (row.get(1)?, row.get(2)?);
            if addresses(server).is_some_and(|url| lesson_tag(database, server, &url) == tag) {
                each(server, renewing != 0);
            } else {
                stale.lessons.insert(server.into(), None);
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
    pub(super) fn vantage(&self) -> Vantage {
        let wall_ms = clock::wall_clock().as_millisecond();
        let present = Present { now: clock::now(), wall_ms };
        Vantage { boot: self.boot, present, written_ms: self.written_ms }
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
    pub(super) fn part_before(&self, number: i64) -> Result<Option<(i64, Option<Part>)>, Error> {
        let sql = format!("{PARTS} WHERE number < ? ORDER BY number DESC LIMIT 1");
        let mut select = self.connection.prepare_cached(&sql)?;
        let found = select
            .query_row([number], |row| Ok((row.get(5)?, part_in(self, self.vantage(), row)?)));
        found.optional()
    }
}

const PARTS: &str = "SELECT boot, moment_ms, wall_ms, tag, packed, number FROM lives";

/// The part of a row of [`PARTS`]; `None` where its clocks are not as they were written.
fn part_in(database: &Database, vantage: Vantage, row: &Row<'_>) -> Result<Option<Part>, Error> {
    let now = Moment::from_millis(row.get::<_, i64>(1)?.cast_unsigned());
    let written = Written { boot: row.get(0)?, at: Present { now, wall_ms: row.get(2)? } };
    if row.get::<_, i64>(3)? != header_tag(&database.salt, &written) {
        return Ok(None);
    }
    let packed = row.get(4)?;
    Ok(Some(Part { vantage, salt: database.salt, written, packed }))
}

pub(super) fn header_tag(salt: &Salt, written: &Written) -> i64 {
    let Written { boot, at } = written;
    let [boot, wall] = [boot.to_le_bytes(), at.wall_ms.to_le_bytes()];
    salt.tag(&[&boot, &at.now.as_millis().to_le_bytes(), &wall])
}

pub(super) const VALUES: &str = "SELECT name, tag, value, replaces, until_ms \
                                 FROM value LEFT JOIN removed USING (name)";
pub(super) const COUNTS: &str = "SELECT kind, name, window_end_ms, count, in_a_row FROM attempt";

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

/// The value of a row of [`VALUES`]; `None` if it is not as it was written.
pub(super) fn value_in(database: &Database, row: &Row<'_>) -> Result<Option<Stored>, Error> {
    let name = row.get_ref(0)?.as_str()?;
    let (tag, value) = (row.get::<_, i64>(1)?, row.get_ref(2)?.as_str()?);
    let replaces = row.get_ref(3)?.as_str_or_null()?;
    if tag != value_tag(database, name, value, replaces) {
        return Ok(None);
    }
    let parse = |text| TokenValue::parse(text).ok();
    Ok(parse(value).map(|value| Stored { value, replaces: replaces.and_then(parse) }))
}

pub(super) fn value_tag(
    database: &Database,
    name: &str,
    value: &str,
    replaces: Option<&str>,
) -> i64 {
    let replaces = replaces.unwrap_or_default();
    database.salt.tag(&[name.as_bytes(), value.as_bytes(), replaces.as_bytes()])
}

pub(super) fn lesson_tag(database: &Database, server: &str, url: &str) -> i64 {
    database.salt.tag(&[server.as_bytes(), url.as_bytes()])
}

pub(super) fn count_in(row: &Row<'_>) -> Result<(Counted, Count), Error> {
    let name: String = row.get(1)?;
    let counted = match row.get::<_, i64>(0)? {
        OF_TOKEN => Counted::Token(name),
        _ => Counted::Reauth(name),
    };
    let [count, in_a_row] = [row.get(3)?, row.get(4)?];
    Ok((counted, Count { window_end_ms: row.get(2)?, count, in_a_row }))
}
