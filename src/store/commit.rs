//! Commits: what one transaction writes.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Error, params};

use super::cluster_batch::ClusterBatch;
use super::database::{Database, LifeLog};
use super::model::{ClockReading, CompanionRow, Counter, CounterKey, StoredValue, WriteContext};
use super::rows::{KIND_REAUTH, KIND_TOKEN, header_mac, renewal_method_mac, value_mac};
use crate::secret::TokenValue;

/// Encoded lives, one entry after the other.
#[derive(Debug, Default)]
pub(super) struct LifeBuffer {
    /// Each element becomes a row.
    pub(super) packed: Vec<Vec<u8>>,
    pub(super) marks: Vec<CompactionMark>,
}

/// Pause between two attempts to write to a failing disk. A new token value is written at once
/// regardless.
pub(super) const RETRY: Duration = Duration::from_secs(20);

/// Maximum size of a row of lives in bytes, approximately: what is copied and decoded at once.
const ROW: usize = 64 << 10;

/// Maximum size of an entry; a name has at most 255 bytes.
const ENTRY: usize = 512;

/// Start or end of a compaction pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompactionMark {
    /// This commit and later ones belong to the pass.
    Begin,
    /// The pass is complete: rows from before it can be deleted.
    End,
}

/// Maximum number of rows that one commit deletes, 16 MB: more would delay a waiting value. No
/// commit adds half as many.
const MAX_DELETED_ROWS: i64 = 256;

/// What is written next. The last write for a name replaces earlier ones.
#[derive(Default)]
pub(super) struct WriteBatch {
    pub(super) lives: LifeBuffer,
    /// `None`: delete the value.
    pub(super) values: BTreeMap<Box<str>, Option<StoredValue>>,
    /// Removed tokens, and until when their values are kept (wall clock). `None`: the token is
    /// configured again.
    pub(super) removed: BTreeMap<Box<str>, Option<i64>>,
    /// `None`: delete the refresh token.
    pub(super) companions: BTreeMap<Box<str>, Option<CompanionRow>>,
    pub(super) counts: BTreeMap<CounterKey, Counter>,
    /// For each server its URL, and whether the renewing call renews. `None`: the server is no
    /// longer configured.
    pub(super) renewal_methods: BTreeMap<Box<str>, Option<(String, bool)>>,
    pub(super) cluster: ClusterBatch,
    /// A stored value or refresh token is deleted or replaced.
    pub(super) erases: bool,
}

impl LifeBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.packed.is_empty() && self.marks.is_empty()
    }

    /// The row that the next entry is appended to.
    pub(super) fn open_row(&mut self) -> &mut Vec<u8> {
        let has_room = |row: &Vec<u8>| row.len() + ENTRY <= ROW;
        if !self.packed.last().is_some_and(has_room) {
            self.packed.push(Vec::new());
        }
        let last = self.packed.len() - 1;
        &mut self.packed[last]
    }

    /// Size in bytes, approximately.
    pub(super) fn size(&self) -> usize {
        self.packed.len() * ROW
    }
}

impl WriteBatch {
    /// Deletes the stored value of a token.
    pub(super) fn delete_value(&mut self, name: &str) {
        self.values.insert(name.into(), None);
        self.removed.insert(name.into(), None);
        self.erases = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lives.is_empty()
            && self.values.is_empty()
            && self.removed.is_empty()
            && self.companions.is_empty()
            && self.counts.is_empty()
            && self.renewal_methods.is_empty()
            && self.cluster.is_empty()
    }

    /// Returns unwritten changes to the batch. Newer changes have priority.
    pub(super) fn put_back(&mut self, unwritten: Self) {
        let LifeBuffer { mut packed, mut marks } = unwritten.lives;
        packed.append(&mut self.lives.packed);
        marks.append(&mut self.lives.marks);
        self.lives = LifeBuffer { packed, marks };
        put_under(&mut self.values, unwritten.values);
        self.erases |= unwritten.erases;
        put_under(&mut self.removed, unwritten.removed);
        put_under(&mut self.companions, unwritten.companions);
        put_under(&mut self.counts, unwritten.counts);
        put_under(&mut self.renewal_methods, unwritten.renewal_methods);
        self.cluster.put_under(unwritten.cluster);
    }
}

/// Adds `older` changes where there is no newer one.
fn put_under<K: Ord, V>(newer: &mut BTreeMap<K, V>, mut older: BTreeMap<K, V>) {
    older.append(newer);
    *newer = older;
}

impl Database {
    /// Writes `batch` in one transaction. After it returns, the changes survive a power failure.
    pub(super) fn commit(&mut self, batch: &WriteBatch, at: ClockReading) -> Result<(), Error> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let written =
            self.insert(batch, at.wall_ms).and_then(|()| self.append_lives(&batch.lives, at));
        let written = written.and_then(|life_log| {
            self.connection.execute_batch("COMMIT")?;
            Ok(life_log)
        });
        if written.is_err() && !self.connection.is_autocommit() {
            // The first error is reported; if the rollback fails too, the next BEGIN reports it.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.life_log = written?;
        Ok(())
    }

    /// Appends the lives of one commit in rows of limited size, and deletes some obsolete rows. The
    /// oldest are deleted first, so that no older entry for a token reappears.
    fn append_lives(&self, lives: &LifeBuffer, at: ClockReading) -> Result<LifeLog, Error> {
        let mut life_log = self.life_log;
        let prepare = |sql| self.connection.prepare_cached(sql);
        if life_log.delete_below.is_some() {
            let sql = "DELETE FROM lives WHERE number IN \
                       (SELECT number FROM lives WHERE number < ? ORDER BY number LIMIT ?)";
            // These rows contain no secret, and overwriting megabytes would delay a waiting value.
            self.connection.execute_batch("PRAGMA secure_delete = FAST")?;
            let cleared = prepare(sql)?.execute(params![life_log.delete_below, MAX_DELETED_ROWS]);
            self.connection.execute_batch("PRAGMA secure_delete = ON")?;
            let cleared = cleared?;
            if i64::try_from(cleared).is_ok_and(|cleared| cleared < MAX_DELETED_ROWS) {
                life_log.delete_below = None;
            }
        }
        for mark in &lives.marks {
            match mark {
                CompactionMark::Begin => life_log.round = Some(life_log.next),
                CompactionMark::End => {
                    life_log.delete_below = life_log.round.take().or(life_log.delete_below);
                }
            }
        }
        let written = WriteContext { boot: self.boot, at };
        let (moment, tag) = (at.now.as_millis().cast_signed(), header_mac(&self.salt, &written));
        let mut insert = prepare("INSERT INTO lives VALUES (?, ?, ?, ?, ?, ?)")?;
        for packed in &lives.packed {
            insert.execute(params![life_log.next, self.boot, moment, at.wall_ms, tag, packed])?;
            life_log.next += 1;
        }
        Ok(life_log)
    }

    fn insert(&self, batch: &WriteBatch, wall_ms: i64) -> Result<(), Error> {
        let prepare = |sql| self.connection.prepare_cached(sql);
        prepare("UPDATE meta SET written_ms = ?")?.execute([wall_ms])?;
        let mut put = prepare("REPLACE INTO value VALUES (?, ?, ?, ?)")?;
        let mut remove = prepare("DELETE FROM value WHERE name = ?")?;
        for (name, stored) in &batch.values {
            let Some(StoredValue { value, replaces }) = stored else {
                remove.execute([name])?;
                continue;
            };
            let (value, replaces) = (value.expose(), replaces.as_ref().map(TokenValue::expose));
            let tag = value_mac(self, name, value, replaces);
            put.execute(params![name, tag, value, replaces])?;
        }
        let mut put = prepare("REPLACE INTO removed VALUES (?, ?)")?;
        let mut remove = prepare("DELETE FROM removed WHERE name = ?")?;
        for (name, until) in &batch.removed {
            match until {
                Some(until) => put.execute(params![name, until])?,
                None => remove.execute([name])?,
            };
        }
        self.insert_companions(batch)?;
        self.insert_cluster(batch)?;
        let mut put = prepare("REPLACE INTO attempt VALUES (?, ?, ?, ?, ?)")?;
        let mut remove = prepare("DELETE FROM attempt WHERE kind = ? AND name = ?")?;
        for (counted, Counter { window_end_ms, count, in_a_row }) in &batch.counts {
            let (kind, name) = match counted {
                CounterKey::Token(name) => (KIND_TOKEN, name),
                CounterKey::Reauth(name) => (KIND_REAUTH, name),
            };
            if *count == 0 {
                remove.execute(params![kind, name])?;
            } else {
                put.execute(params![kind, name, window_end_ms, count, in_a_row])?;
            }
        }
        let mut put = prepare("REPLACE INTO lesson VALUES (?, ?, ?)")?;
        let mut remove = prepare("DELETE FROM lesson WHERE server = ?")?;
        for (server, renewal_method) in &batch.renewal_methods {
            let Some((url, renewing)) = renewal_method else {
                remove.execute([server])?;
                continue;
            };
            put.execute(params![
                server,
                renewal_method_mac(self, server, url),
                i64::from(*renewing)
            ])?;
        }
        Ok(())
    }
}
