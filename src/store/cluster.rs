//! What a replica must know of its cluster after a restart: the newest state of etcd, as a lower
//! revision means that etcd was restored from a backup; and which value of each token it knew from
//! there, as another one in the token's source means that an operator has changed the source.

use std::collections::HashMap;

use rusqlite::{Connection, Error, OptionalExtension as _, params};

use super::cluster_batch::{ClusterBatch, ClusterSeen};
use super::commit::WriteBatch;
use super::database::{Database, fault};
use super::open::Store;
use super::writer::Writer;
use super::writer_thread::BATCH_DELAY;
use crate::secret::TokenValue;
use crate::token_source::PersistError;

/// Created with the first row, so that a daemon without a cluster has none. Older versions ignore
/// the tables. `SQLite` has no unsigned integers: the bits are stored.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS cluster_value (
        token INTEGER PRIMARY KEY,
        tag INTEGER NOT NULL,
        previous INTEGER
    ) STRICT;
    CREATE TABLE IF NOT EXISTS cluster_spending (
        token TEXT PRIMARY KEY,
        base INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS cluster_seen (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        cluster INTEGER NOT NULL,
        revision INTEGER NOT NULL
    ) STRICT;
";

impl Database {
    /// Writes what a batch contains of the cluster, within its transaction.
    pub(super) fn insert_cluster(&self, batch: &WriteBatch) -> Result<(), Error> {
        let ClusterBatch { seen, values, spendings } = &batch.cluster;
        if batch.cluster.is_empty() {
            return Ok(());
        }
        self.connection.execute_batch(TABLES)?;
        if let Some(ClusterSeen { cluster, revision }) = seen {
            let row = [cluster.cast_signed(), revision.cast_signed()];
            let sql = "REPLACE INTO cluster_seen VALUES (1, ?, ?)";
            self.connection.prepare_cached(sql)?.execute(row)?;
        }
        let sql = "INSERT INTO cluster_value VALUES (?, ?, NULL) ON CONFLICT (token) DO UPDATE \
                   SET previous = tag, tag = excluded.tag WHERE tag != excluded.tag";
        let mut put = self.connection.prepare_cached(sql)?;
        for (token, tag) in values {
            put.execute(params![token.cast_signed(), tag])?;
        }
        for (token, base) in spendings {
            if let Some(base) = base {
                let sql = "REPLACE INTO cluster_spending VALUES (?, ?)";
                self.connection.prepare_cached(sql)?.execute(params![token, base.cast_signed()])?;
            } else {
                let sql = "DELETE FROM cluster_spending WHERE token = ?";
                self.connection.prepare_cached(sql)?.execute([token])?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// The newest state of etcd that an earlier run has seen.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn cluster_seen(&self) -> Result<Option<ClusterSeen>, PersistError> {
        seen_in(&self.database.connection).map_err(|error| fault(&self.database.path, &error))
    }

    /// The values of the cluster that an earlier run knew: for the hash of each token the
    /// [tags](Writer::cluster_value_tag) of its last value, and of the one before, which a crash may
    /// have left in the token's source.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn cluster_values(&self) -> Result<HashMap<u64, [Option<i64>; 2]>, PersistError> {
        values_in(&self.database.connection).map_err(|error| fault(&self.database.path, &error))
    }

    /// The spendings of an earlier run whose end may not have reached etcd: for the key of each
    /// token the revision of the value that was in etcd when the spending began.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn cluster_spendings(&self) -> Result<HashMap<String, u64>, PersistError> {
        spendings_in(&self.database.connection).map_err(|error| fault(&self.database.path, &error))
    }
}

impl Writer {
    /// Stores the newest state of etcd. It is durable within a second.
    pub fn persist_cluster_seen(&self, seen: ClusterSeen) {
        let mut pending = self.queue.lock();
        pending.batch.cluster.seen = Some(seen);
        self.queue.announce(&mut pending, BATCH_DELAY);
    }

    /// Stores which value of a token the cluster has. It is durable within a second.
    pub fn persist_cluster_value(&self, token: u64, tag: i64) {
        let mut pending = self.queue.lock();
        pending.batch.cluster.values.insert(token, tag);
        self.queue.announce(&mut pending, BATCH_DELAY);
    }

    /// Stores that a spending begins for the token of this key, over revision `base` of its value in
    /// etcd; `None`: its end is in etcd, or it has obtained nothing. It is durable within a second.
    pub fn persist_cluster_spending(&self, token: &str, base: Option<u64>) {
        let mut pending = self.queue.lock();
        pending.batch.cluster.spendings.insert(token.to_owned(), base);
        self.queue.announce(&mut pending, BATCH_DELAY);
    }

    /// A MAC of a token's value, with the key of this database.
    pub fn cluster_value_tag(&self, token: u64, value: &TokenValue) -> i64 {
        let parts = [b"cluster".as_slice(), &token.to_le_bytes(), value.expose().as_bytes()];
        let (salt, _) = self.queue.lock().key;
        salt.mac(&parts)
    }
}

fn exists(connection: &Connection, table: &str) -> Result<bool, Error> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?";
    Ok(connection.query_row(sql, [table], |row| row.get::<_, i64>(0))? > 0)
}

fn seen_in(connection: &Connection) -> Result<Option<ClusterSeen>, Error> {
    if !exists(connection, "cluster_seen")? {
        return Ok(None);
    }
    let sql = "SELECT cluster, revision FROM cluster_seen";
    let row = connection.query_row(sql, [], |row| {
        let [cluster, revision] = [row.get::<_, i64>(0)?, row.get::<_, i64>(1)?];
        let [cluster, revision] = [cluster, revision].map(i64::cast_unsigned);
        Ok(ClusterSeen { cluster, revision })
    });
    row.optional()
}

fn values_in(connection: &Connection) -> Result<HashMap<u64, [Option<i64>; 2]>, Error> {
    if !exists(connection, "cluster_value")? {
        return Ok(HashMap::new());
    }
    let mut rows = connection.prepare("SELECT token, tag, previous FROM cluster_value")?;
    let rows = rows.query_map([], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), [row.get(1)?, row.get(2)?]))
    })?;
    rows.collect()
}

fn spendings_in(connection: &Connection) -> Result<HashMap<String, u64>, Error> {
    if !exists(connection, "cluster_spending")? {
        return Ok(HashMap::new());
    }
    let mut rows = connection.prepare("SELECT token, base FROM cluster_spending")?;
    let rows =
        rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_state_of_etcd_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.cluster_seen().unwrap(), None);
        let writer = store.into_writer().unwrap();
        let seen = |revision| ClusterSeen { cluster: u64::MAX - 1, revision };
        writer.persist_cluster_seen(seen(7));
        writer.persist_cluster_seen(seen(8));
        writer.flush().written.blocking_recv().unwrap().unwrap();
        drop(writer);
        assert_eq!(Store::open(folder.path()).unwrap().cluster_seen().unwrap(), Some(seen(8)));
    }

    #[test]
    fn known_values_of_the_cluster_survive_a_restart_as_macs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(store.cluster_values().unwrap().is_empty());
        let writer = store.into_writer().unwrap();
        let value = |text| TokenValue::parse(text).unwrap();
        let tag = |token, text| writer.cluster_value_tag(token, &value(text));
        assert_ne!(tag(1, "abc-1"), tag(2, "abc-1"));
        let tags = ["abc-0", "abc-1", "abc-2"].map(|text| tag(u64::MAX, text));
        for tag in [tags[0], tags[1], tags[2], tags[2]] {
            writer.persist_cluster_value(u64::MAX, tag);
            writer.flush().written.blocking_recv().unwrap().unwrap();
        }
        drop(writer);
        let known = Store::open(folder.path()).unwrap().cluster_values().unwrap();
        assert_eq!(known, HashMap::from([(u64::MAX, [Some(tags[2]), Some(tags[1])])]));
    }

    #[test]
    fn spending_without_an_end_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(store.cluster_spendings().unwrap().is_empty());
        let writer = store.into_writer().unwrap();
        let flush = || writer.flush().written.blocking_recv().unwrap().unwrap();
        writer.persist_cluster_spending("sarus/quotes", Some(u64::MAX));
        writer.persist_cluster_spending("sarus/orders", Some(7));
        flush();
        writer.persist_cluster_spending("sarus/quotes", Some(8));
        writer.persist_cluster_spending("sarus/orders", None);
        flush();
        drop(writer);
        let begun = Store::open(folder.path()).unwrap().cluster_spendings().unwrap();
        assert_eq!(begun, HashMap::from([("sarus/quotes".to_owned(), 8)]));
    }
}
