//! What is written in one commit, and what of a damaged database is carried over.

use std::collections::BTreeMap;

use rusqlite::{Error, params};

use super::database::Database;
use super::load::{
    COUNTS, OF_REAUTH, OF_TOKEN, VALUES, count_in, lesson_tag, scan, value_in, value_tag,
};
use super::row::{Count, Counted, KeptBound, Stored};
use crate::secret::TokenValue;

/// A row of what is known of a life, ready to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct LifeRow {
    pub(super) tag: i64,
    pub(super) bound: KeptBound,
    pub(super) remaining_ms: i64,
    pub(super) life_ms: i64,
    pub(super) flags: i64,
}

/// What is to be written next. The last word on each name counts.
#[derive(Default)]
pub(super) struct Batch {
    /// For each token what is known of its life; `None`: it is over.
    pub(super) lives: BTreeMap<Box<str>, Option<LifeRow>>,
    pub(super) values: BTreeMap<Box<str>, Stored>,
    pub(super) counts: BTreeMap<Counted, Count>,
    /// For each server its address, and whether the renewing call extends lives there.
    pub(super) lessons: BTreeMap<Box<str>, (String, bool)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.lives.is_empty()
            && self.values.is_empty()
            && self.counts.is_empty()
            && self.lessons.is_empty()
    }

    /// Puts what was not written back behind what has come since.
    pub(super) fn put_back(&mut self, unwritten: Self) {
        unwritten.lives.into_iter().for_each(|(name, row)| {
            self.lives.entry(name).or_insert(row);
        });
        unwritten.counts.into_iter().for_each(|(name, count)| {
            self.counts.entry(name).or_insert(count);
        });
        unwritten.lessons.into_iter().for_each(|(name, lesson)| {
            self.lessons.entry(name).or_insert(lesson);
        });
    }
}

impl Database {
    /// Writes `batch` whole, or not at all. When this returns, it outlives a power failure.
    pub(super) fn commit(&mut self, batch: &Batch, wall_ms: i64) -> Result<(), Error> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let written =
            self.insert(batch, wall_ms).and_then(|()| self.connection.execute_batch("COMMIT"));
        if written.is_err() && !self.connection.is_autocommit() {
            // The error is what counts; where even this fails, the next BEGIN tells.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        written
    }

    fn insert(&self, batch: &Batch, wall_ms: i64) -> Result<(), Error> {
        let prepare = |sql| self.connection.prepare_cached(sql);
        prepare("UPDATE meta SET written_ms = ?")?.execute([wall_ms])?;
        let mut put = prepare("REPLACE INTO token VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
        let mut remove = prepare("DELETE FROM token WHERE name = ?")?;
        for (name, row) in &batch.lives {
            let Some(LifeRow { tag, bound, remaining_ms, life_ms, flags }) = row else {
                remove.execute([name])?;
                continue;
            };
            let moment_ms = bound.moment_ms.cast_signed();
            let KeptBound { boot, wall_ms, .. } = bound;
            put.execute(params![
                name,
                tag,
                boot,
                moment_ms,
                wall_ms,
                remaining_ms,
                life_ms,
                flags
            ])?;
        }
        let mut put = prepare("REPLACE INTO value VALUES (?, ?, ?, ?)")?;
        for (name, Stored { value, replaces }) in &batch.values {
            let (value, replaces) = (value.expose(), replaces.as_ref().map(TokenValue::expose));
            let tag = value_tag(self, name, value, replaces);
            put.execute(params![name, tag, value, replaces])?;
        }
        let mut put = prepare("REPLACE INTO attempt VALUES (?, ?, ?, ?, ?)")?;
        let mut remove = prepare("DELETE FROM attempt WHERE kind = ? AND name = ?")?;
        for (counted, Count { window_end_ms, count, in_a_row }) in &batch.counts {
            let (kind, name) = match counted {
                Counted::Token(name) => (OF_TOKEN, name),
                Counted::Reauth(name) => (OF_REAUTH, name),
            };
            if *count == 0 {
                remove.execute(params![kind, name])?;
            } else {
                put.execute(params![kind, name, window_end_ms, count, in_a_row])?;
            }
        }
        let mut put = prepare("REPLACE INTO lesson VALUES (?, ?, ?)")?;
        for (server, (url, renewing)) in &batch.lessons {
            put.execute(params![server, lesson_tag(self, server, url), i64::from(*renewing)])?;
        }
        Ok(())
    }

    /// Removes what is known of lives that were over by `wall_ms`: of tokens that are not
    /// configured any more.
    pub(super) fn prune(&self, wall_ms: i64) -> Result<(), Error> {
        let sql = "DELETE FROM token WHERE bound_wall_ms < ?";
        self.connection.execute(sql, [wall_ms]).map(|_| ())
    }

    /// What can still be read of what cannot be asked for again.
    pub(super) fn salvage(&self) -> Batch {
        let mut saved = Batch::default();
        // Each scan ends where the damage begins; what came before it is kept.
        let _ = scan(self, VALUES, |database, row| {
            if let Some(stored) = value_in(database, row)? {
                saved.values.insert(row.get_ref(0)?.as_str()?.into(), stored);
            }
            Ok(())
        });
        let _ = scan(self, COUNTS, |_, row| {
            let (counted, count) = count_in(row)?;
            saved.counts.insert(counted, count);
            Ok(())
        });
        saved
    }

    pub(super) fn restore(&mut self, saved: &Batch) -> Result<(), Error> {
        self.commit(saved, self.written_ms)
    }
}
