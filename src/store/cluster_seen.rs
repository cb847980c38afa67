//! The newest state of etcd that this replica has seen: a lower revision later means that etcd was
//! restored from a backup.

use rusqlite::{Connection, Error, OptionalExtension as _};

use super::commit::WriteBatch;
use super::database::{Database, fault};
use super::open::Store;
use super::writer::Writer;
use super::writer_thread::BATCH_DELAY;
use crate::token_source::PersistError;

/// A state of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterSeen {
    /// Id of the etcd cluster.
    pub cluster: u64,
    /// Its revision.
    pub revision: u64,
}

/// Created with the first row, so that a daemon without a cluster has none. Older versions ignore
/// the table. `SQLite` has no unsigned integers: the bits are stored.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS cluster_seen (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        cluster INTEGER NOT NULL,
        revision INTEGER NOT NULL
    ) STRICT;
";

impl Database {
    /// Writes the state of a batch, within its transaction.
    pub(super) fn insert_cluster_seen(&self, batch: &WriteBatch) -> Result<(), Error> {
        let Some(ClusterSeen { cluster, revision }) = batch.cluster_seen else { return Ok(()) };
        self.connection.execute_batch(TABLE)?;
        let sql = "REPLACE INTO cluster_seen VALUES (1, ?, ?)";
        let row = [cluster.cast_signed(), revision.cast_signed()];
        self.connection.prepare_cached(sql)?.execute(row).map(drop)
    }
}

impl Store {
    /// The newest state of etcd that an earlier run has seen.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn cluster_seen(&self) -> Result<Option<ClusterSeen>, PersistError> {
        read(&self.database.connection).map_err(|error| fault(&self.database.path, &error))
    }
}

impl Writer {
    /// Stores the newest state of etcd. It is durable within a second.
    pub fn persist_cluster_seen(&self, seen: ClusterSeen) {
        let mut pending = self.queue.lock();
        pending.batch.cluster_seen = Some(seen);
        self.queue.announce(&mut pending, BATCH_DELAY);
    }
}

fn read(connection: &Connection) -> Result<Option<ClusterSeen>, Error> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'cluster_seen'";
    if connection.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
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
}
