//! One interface for the two candidate databases, each used as its manual recommends for many small
//! rows.

use std::path::Path;

use redb::{ReadableTable as _, TableDefinition};
use rusqlite::{Connection, params};

/// One token: 12 bytes of name, 36 of value, two numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) bound: u64,
    pub(crate) life: u64,
}

impl Row {
    pub(crate) fn new(number: u64, bound: u64) -> Self {
        let name = format!("t{:011}", number.wrapping_mul(7_919) % 100_000_000_000);
        let value = format!("{:036}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { name, value, bound, life: 1_800_000 }
    }
}

/// Which database, and how it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `SQLite` with a write-ahead log; every commit is synced.
    SqliteFull,
    /// The same with pages of 1 KiB.
    SqliteSmall,
    /// `SQLite` with a write-ahead log; only checkpoints are synced.
    SqliteNormal,
    /// redb; every commit is synced.
    Redb,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] =
        [Self::SqliteFull, Self::SqliteSmall, Self::SqliteNormal, Self::Redb];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SqliteFull => "sqlite-full",
            Self::SqliteSmall => "sqlite-full-1k",
            Self::SqliteNormal => "sqlite-normal",
            Self::Redb => "redb",
        }
    }

    pub(crate) fn open(self, folder: &Path) -> Result<Box<dyn Engine>, String> {
        match self {
            Self::SqliteFull => Sqlite::open(folder, "FULL", 4_096),
            Self::SqliteSmall => Sqlite::open(folder, "FULL", 1_024),
            Self::SqliteNormal => Sqlite::open(folder, "NORMAL", 4_096),
            Self::Redb => Redb::open(folder),
        }
    }
}

/// An open database.
pub(crate) trait Engine {
    /// Writes all rows in one commit.
    fn write(&mut self, rows: &[Row]) -> Result<(), String>;

    /// Hands every row to `each`, in one scan.
    fn scan(&mut self, each: &mut dyn FnMut(&str, &str, u64, u64)) -> Result<(), String>;
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Sqlite(Connection);

impl Sqlite {
    fn open(folder: &Path, synchronous: &str, page: u32) -> Result<Box<dyn Engine>, String> {
        let open = || {
            let connection = Connection::open(folder.join("store"))?;
            connection.pragma_update(None, "page_size", page)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", synchronous)?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS token (name TEXT PRIMARY KEY, value TEXT NOT NULL, \
                 bound INTEGER NOT NULL, life INTEGER NOT NULL) STRICT, WITHOUT ROWID",
            )?;
            Ok::<_, rusqlite::Error>(connection)
        };
        Ok(Box::new(Self(open().map_err(told)?)))
    }
}

impl Engine for Sqlite {
    fn write(&mut self, rows: &[Row]) -> Result<(), String> {
        let mut write = || {
            let transaction = self.0.transaction()?;
            {
                let mut insert =
                    transaction.prepare_cached("REPLACE INTO token VALUES (?, ?, ?, ?)")?;
                for row in rows {
                    insert.execute(params![
                        row.name,
                        row.value,
                        row.bound.cast_signed(),
                        row.life.cast_signed()
                    ])?;
                }
            }
            transaction.commit()
        };
        write().map_err(told)
    }

    fn scan(&mut self, each: &mut dyn FnMut(&str, &str, u64, u64)) -> Result<(), String> {
        let mut scan = || {
            let mut select = self.0.prepare("SELECT name, value, bound, life FROM token")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let (name, value) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
                let [bound, life] = [row.get::<_, i64>(2)?, row.get::<_, i64>(3)?];
                each(name, value, bound.cast_unsigned(), life.cast_unsigned());
            }
            Ok::<_, rusqlite::Error>(())
        };
        scan().map_err(told)
    }
}

const TOKENS: TableDefinition<'_, &str, (&str, u64, u64)> = TableDefinition::new("token");

struct Redb(redb::Database);

impl Redb {
    fn open(folder: &Path) -> Result<Box<dyn Engine>, String> {
        let database = redb::Builder::new()
            .set_cache_size(8 << 20) // its default is 1 GiB, more than a daemon may take
            .create(folder.join("store"))
            .map_err(told)?;
        Ok(Box::new(Self(database)))
    }
}

impl Engine for Redb {
    fn write(&mut self, rows: &[Row]) -> Result<(), String> {
        let transaction = self.0.begin_write().map_err(told)?;
        {
            let mut table = transaction.open_table(TOKENS).map_err(told)?;
            for row in rows {
                let content = (row.value.as_str(), row.bound, row.life);
                table.insert(row.name.as_str(), content).map_err(told)?;
            }
        }
        transaction.commit().map_err(told)
    }

    fn scan(&mut self, each: &mut dyn FnMut(&str, &str, u64, u64)) -> Result<(), String> {
        let transaction = self.0.begin_read().map_err(told)?;
        let table = transaction.open_table(TOKENS).map_err(told)?;
        for entry in table.iter().map_err(told)? {
            let (name, content) = entry.map_err(told)?;
            let (value, bound, life) = content.value();
            each(name.value(), value, bound, life);
        }
        Ok(())
    }
}
