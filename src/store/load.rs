//! Reading the store at the start, table by table, without holding any of it twice.

use rusqlite::{Error, Row};

use super::database::{Database, fault, is_damage};
use super::open::Store;
use super::row::{Count, Counted, KeptBound, Life, Present, Stored};
use super::tag::Salt;
use crate::clock;
use crate::secret::TokenValue;
use crate::token_file::StoreFault;

/// The flags of a row, as they stand on the disk.
pub(super) const BY_RENEWING: i64 = 1;
pub(super) const PROVEN: i64 = 2;
pub(super) const UNEXTENDABLE: i64 = 4;

/// The kinds of counts, as they stand on the disk.
pub(super) const OF_TOKEN: i64 = 0;
pub(super) const OF_REAUTH: i64 = 1;

/// One row of what is known of lives, as the scan comes by it.
#[derive(Clone, Copy)]
pub struct Recalled<'a> {
    /// The token's name.
    pub name: &'a str,
    pub(super) database: &'a Database,
    pub(super) present: Present,
    pub(super) tag: i64,
    pub(super) bound: KeptBound,
    pub(super) remaining_ms: i64,
    pub(super) life_ms: i64,
    pub(super) flags: i64,
}

impl std::fmt::Debug for Recalled<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recalled").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Recalled<'_> {
    /// What is certainly left of the life of `value` on the server at `url`; `None` where the
    /// row is about another value or server, or nothing is.
    pub fn life_of(&self, url: &str, value: &TokenValue) -> Option<Life> {
        let remaining_ms = u64::try_from(self.remaining_ms).ok()?;
        let Database { salt, boot, written_ms, .. } = self.database;
        let bound = self.bound.at(*boot, self.present, *written_ms, remaining_ms)?;
        let numbers = life_numbers(&self.bound, self.remaining_ms, self.life_ms, self.flags);
        let tag = life_tag(salt, [self.name, url], value, &numbers);
        (tag == self.tag).then_some(Life {
            bound,
            remaining_ms,
            life_ms: u64::try_from(self.life_ms).ok()?,
            by_renewing: self.flags & BY_RENEWING != 0,
            proven: self.flags & PROVEN != 0,
            unextendable: self.flags & UNEXTENDABLE != 0,
        })
    }
}

/// The numbers of a row, as its tag covers them.
pub(super) fn life_numbers(bound: &KeptBound, remaining: i64, life: i64, flags: i64) -> [u8; 48] {
    let moment = bound.moment_ms.cast_signed();
    let mut bytes = [0; 48];
    let numbers = [bound.boot, moment, bound.wall_ms, remaining, life, flags];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

pub(super) fn life_tag(
    salt: &Salt,
    [name, url]: [&str; 2],
    value: &TokenValue,
    numbers: &[u8; 48],
) -> i64 {
    salt.tag(&[name.as_bytes(), url.as_bytes(), value.expose().as_bytes(), numbers])
}

impl Store {
    /// Hands what is known of each token's life to `each`.
    ///
    /// # Errors
    ///
    /// When it cannot be read. Where that is for damage it is no error: what follows the
    /// damage is not handed out, and [`Store::set_aside`] tells.
    pub fn lives(&mut self, mut each: impl FnMut(Recalled<'_>)) -> Result<(), StoreFault> {
        let present = Present { now: clock::now(), wall_ms: clock::wall_clock().as_millisecond() };
        let sql = "SELECT name, tag, boot, bound_ms, bound_wall_ms, remaining_ms, life_ms, flags \
                   FROM token";
        self.scan(sql, |database, row| {
            let bound = KeptBound {
                boot: row.get(2)?,
                moment_ms: row.get::<_, i64>(3)?.cast_unsigned(),
                wall_ms: row.get(4)?,
            };
            each(Recalled {
                name: row.get_ref(0)?.as_str()?,
                database,
                present,
                tag: row.get(1)?,
                bound,
                remaining_ms: row.get(5)?,
                life_ms: row.get(6)?,
                flags: row.get(7)?,
            });
            Ok(())
        })
    }

    /// Hands every value that was kept, with its token's name, to `each`. One that is not as
    /// it was written is passed over.
    ///
    /// # Errors
    ///
    /// As for [`Store::lives`].
    pub fn values(&mut self, mut each: impl FnMut(&str, Stored)) -> Result<(), StoreFault> {
        self.scan(VALUES, |database, row| {
            if let Some(stored) = value_in(database, row)? {
                each(row.get_ref(0)?.as_str()?, stored);
            }
            Ok(())
        })
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
    /// taught does not count.
    ///
    /// # Errors
    ///
    /// As for [`Store::lives`].
    pub fn lessons(
        &mut self,
        addresses: impl Fn(&str) -> Option<String>,
        mut each: impl FnMut(&str, bool),
    ) -> Result<(), StoreFault> {
        self.scan("SELECT server, tag, renewing FROM lesson", |database, row| {
            let server = row.get_ref(0)?.as_str()?;
            let (tag, renewing): (i64, i64) = (row.get(1)?, row.get(2)?);
            if addresses(server).is_some_and(|url| lesson_tag(database, server, &url) == tag) {
                each(server, renewing != 0);
            }
            Ok(())
        })
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

pub(super) const VALUES: &str = "SELECT name, tag, value, replaces FROM value";
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
