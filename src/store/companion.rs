//! Refresh tokens whose sources cannot store them, in a table of their own.
//!
//! A value and its refresh token may live in different places, and are written one after the other.
//! So they are independent rows.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Error, Row, params};
use tokio::sync::{mpsc, oneshot};

use super::commit::WriteBatch;
use super::database::Database;
use super::model::{CompanionRow, StoredCompanion};
use super::rows::scan;
use super::writer_thread::{BATCH_DELAY, StoreReport, WriteQueue, WriteReceipt};
use crate::secret::TokenValue;

/// Created with the first row, so that a full disk does not prevent the startup. Older versions
/// ignore the table. Without a value, what the row replaces is void.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS companion (
        name TEXT PRIMARY KEY,
        tag INTEGER NOT NULL,
        value TEXT,
        replaces TEXT,
        until_ms INTEGER
    ) STRICT, WITHOUT ROWID;
";

pub(super) const SELECT: &str = "SELECT name, tag, value, replaces, until_ms FROM companion";

/// Writes refresh tokens to the state database. Clones write to the same one.
#[derive(Clone)]
pub struct CompanionWriter {
    pub(super) queue: Arc<WriteQueue>,
    pub(super) reports: mpsc::UnboundedSender<StoreReport>,
    pub(super) path: PathBuf,
}

impl std::fmt::Debug for CompanionWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompanionWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl CompanionWriter {
    /// Stores the refresh token of the token `name` in place of the stored one. `until_ms`: the
    /// token was removed, and the row is kept until then, in milliseconds since 1970.
    pub fn persist(
        &self,
        name: &str,
        stored: StoredCompanion,
        until_ms: Option<i64>,
    ) -> WriteReceipt {
        let (sender, written) = oneshot::channel();
        let mut pending = self.queue.lock();
        pending.batch.companions.insert(name.into(), Some((stored, until_ms)));
        pending.batch.erases = true;
        pending.receipts.push(sender);
        self.queue.announce(&mut pending, Duration::ZERO);
        WriteReceipt { written, reports: self.reports.clone(), path: self.path.clone() }
    }

    /// Deletes and overwrites the row of the token `name` within about two seconds.
    pub fn delete(&self, name: &str) {
        let mut pending = self.queue.lock();
        pending.batch.delete_companion(name);
        self.queue.announce(&mut pending, BATCH_DELAY);
    }
}

impl WriteBatch {
    pub(super) fn delete_companion(&mut self, name: &str) {
        self.companions.insert(name.into(), None);
        self.erases = true;
    }
}

impl Database {
    /// Writes the refresh tokens of a batch, within its transaction.
    pub(super) fn insert_companions(&self, batch: &WriteBatch) -> Result<(), Error> {
        if batch.companions.is_empty() {
            return Ok(());
        }
        self.connection.execute_batch(TABLE)?;
        let prepare = |sql| self.connection.prepare_cached(sql);
        let mut put = prepare("REPLACE INTO companion VALUES (?, ?, ?, ?, ?)")?;
        let mut remove = prepare("DELETE FROM companion WHERE name = ?")?;
        for (name, row) in &batch.companions {
            let Some((StoredCompanion { value, replaces }, until_ms)) = row else {
                remove.execute([name])?;
                continue;
            };
            let [value, replaces] =
                [value, replaces].map(|text| text.as_ref().map(TokenValue::expose));
            put.execute(params![
                name,
                mac(self, name, value, replaces),
                value,
                replaces,
                until_ms
            ])?;
        }
        Ok(())
    }

    /// Passes each row to `each`, with the name of its token; `None` if it fails authentication.
    pub(super) fn companions(
        &self,
        mut each: impl FnMut(&str, Option<CompanionRow>),
    ) -> Result<(), Error> {
        if !has_companions(&self.connection)? {
            return Ok(());
        }
        scan(self, SELECT, |database, row| {
            each(row.get_ref(0)?.as_str()?, row_in(database, row)?);
            Ok(())
        })
    }

    /// Deletes refresh tokens of removed tokens whose time is over. Returns whether there was one.
    pub(super) fn delete_expired_companions(&self, wall_ms: i64) -> Result<bool, Error> {
        if !has_companions(&self.connection)? {
            return Ok(false);
        }
        let sql = "DELETE FROM companion WHERE until_ms <= ?";
        Ok(self.connection.execute(sql, [wall_ms])? > 0)
    }

    /// When the next of them expires (wall clock).
    pub(super) fn next_companion_expiry(&self) -> Result<Option<i64>, Error> {
        if !has_companions(&self.connection)? {
            return Ok(None);
        }
        self.connection.query_row("SELECT min(until_ms) FROM companion", [], |row| row.get(0))
    }
}

fn has_companions(connection: &Connection) -> Result<bool, Error> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'companion'";
    connection.query_row(sql, [], |row| Ok(row.get::<_, i64>(0)? > 0))
}

fn row_in(database: &Database, row: &Row<'_>) -> Result<Option<CompanionRow>, Error> {
    let name = row.get_ref(0)?.as_str()?;
    let value = row.get_ref(2)?.as_str_or_null()?;
    let replaces = row.get_ref(3)?.as_str_or_null()?;
    if row.get::<_, i64>(1)? != mac(database, name, value, replaces) {
        return Ok(None);
    }
    let [value, replaces] =
        [value, replaces].map(|text| text.and_then(|text| TokenValue::parse(text).ok()));
    Ok(Some((StoredCompanion { value, replaces }, row.get(4)?)))
}

/// The MAC of a row. It differs from that of a value.
fn mac(database: &Database, name: &str, value: Option<&str>, replaces: Option<&str>) -> i64 {
    let [value, replaces] = [value, replaces].map(Option::unwrap_or_default);
    let parts = [b"refresh".as_slice(), name.as_bytes(), value.as_bytes(), replaces.as_bytes()];
    database.salt.mac(&parts)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::clock;
    use crate::store::Store;

    type Rows = BTreeMap<String, (StoredCompanion, Option<i64>)>;

    fn stored(value: Option<&str>, replaces: Option<&str>) -> StoredCompanion {
        let [value, replaces] =
            [value, replaces].map(|text| text.map(|text| TokenValue::parse(text).unwrap()));
        StoredCompanion { value, replaces }
    }

    fn done(receipt: WriteReceipt) {
        receipt.written.blocking_recv().unwrap().unwrap();
    }

    fn opened(path: &Path) -> Store {
        Store::open(path).unwrap()
    }

    /// What a run that ends with these writes leaves to the next one.
    fn after(path: &Path, write: impl FnOnce(&CompanionWriter)) -> Rows {
        let writer = opened(path).into_writer().unwrap();
        write(&writer.companions());
        done(writer.flush());
        drop(writer);
        rows(&mut opened(path))
    }

    fn rows(store: &mut Store) -> Rows {
        let mut rows = BTreeMap::new();
        let each = |name: &str, stored, until| {
            rows.insert(name.to_owned(), (stored, until));
        };
        store.companions(each).unwrap();
        rows
    }

    #[test]
    fn refresh_token_survives_a_restart_beside_the_value_of_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(rows(&mut opened(path)), Rows::new());
        let until = clock::wall_clock().as_millisecond() + 60_000;
        let (a, void) = (stored(Some("r-2"), Some("r-1")), stored(None, Some("r-9")));
        let found = after(path, |writer| {
            done(writer.persist("a", a.clone(), None));
            done(writer.persist("void", stored(Some("r-8"), Some("r-9")), None));
            done(writer.persist("void", void.clone(), Some(until)));
        });
        let expected = [("a", (a, None)), ("void", (void.clone(), Some(until)))];
        assert_eq!(found, expected.map(|(name, row)| (name.to_owned(), row)).into());
        let found = after(path, |writer| writer.delete("a"));
        assert_eq!(found, Rows::from([("void".to_owned(), (void, Some(until)))]));
    }

    #[test]
    fn refresh_token_of_a_removed_token_is_deleted_when_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let past = clock::wall_clock().as_millisecond() - 1;
        let row = stored(Some("r-2"), None);
        let found = after(folder.path(), |writer| done(writer.persist("a", row, Some(past))));
        assert_eq!(found, Rows::new());
    }

    #[test]
    fn tampered_refresh_token_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        for change in ["value = 'r-3'", "replaces = 'r-3'", "replaces = NULL", "name = 'b'"] {
            let row = stored(Some("r-2"), Some("r-1"));
            after(folder.path(), |writer| done(writer.persist("a", row, None)));
            let mut store = opened(folder.path());
            let sql = format!("UPDATE companion SET {change}");
            store.database.connection.execute(&sql, []).unwrap();
            assert_eq!(rows(&mut store), Rows::new(), "{change}");
        }
    }

    #[test]
    fn refresh_tokens_are_saved_from_a_damaged_database() {
        let folder = tempfile::tempdir().unwrap();
        let row = stored(Some("r-2"), Some("r-1"));
        after(folder.path(), |writer| done(writer.persist("a", row.clone(), None)));
        let mut store = opened(folder.path());
        store.start_over().unwrap();
        assert_eq!(rows(&mut store), Rows::from([("a".to_owned(), (row, None))]));
    }
}
