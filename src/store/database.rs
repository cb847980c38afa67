//! The database file: its layout, how it is opened, and how a useless one is set aside.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Error, ErrorCode, OpenFlags, OptionalExtension as _};

use super::mac::Salt;
use super::model::UNKNOWN_BOOT;
use crate::token_file::StoreFault;

/// Says in the file's header whose it is: "tkkp".
const APPLICATION: i32 = 0x746b_6b70;

/// The layout below. It is raised with every change that an older program could not read.
const VERSION: i32 = 2;

/// The layout that [`upgrade`] knows.
const FIRST_VERSION: i32 = 1;

/// Opened for this process alone, which spares the shared memory file. A commit is on the disk
/// when it returns. What is deleted is overwritten. Hardly any page is read twice, so few are kept.
const SETTINGS: &str = "
    PRAGMA page_size = 4096;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 2000;
    PRAGMA cache_size = -512;
    PRAGMA secure_delete = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA trusted_schema = OFF;
";

const LAYOUT: &str = "
    CREATE TABLE meta (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        salt BLOB NOT NULL,
        written_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE boot (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE value (
        name TEXT PRIMARY KEY,
        tag INTEGER NOT NULL,
        value TEXT NOT NULL,
        replaces TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE attempt (
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        window_end_ms INTEGER NOT NULL,
        count INTEGER NOT NULL,
        in_a_row INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE lesson (
        server TEXT PRIMARY KEY,
        tag INTEGER NOT NULL,
        renewing INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// What the checks bring, a row or a few for each commit, with the clocks at that time; see
/// [`packed`](super::packed). Nothing in it is changed, and the oldest rows go first.
pub(super) const LIVES: &str = "
    CREATE TABLE lives (
        number INTEGER PRIMARY KEY,
        boot INTEGER NOT NULL,
        moment_ms INTEGER NOT NULL,
        wall_ms INTEGER NOT NULL,
        tag INTEGER NOT NULL,
        packed BLOB NOT NULL
    ) STRICT;
";

/// Tokens that are not configured any more, and until when their values are kept, on the wall
/// clock. An older program leaves the table alone, so it does not change the [`VERSION`].
const REMOVED: &str = "
    CREATE TABLE IF NOT EXISTS removed (
        name TEXT PRIMARY KEY,
        until_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// In its place where a full disk does not take it: what was kept can still be read.
const REMOVED_IN_MEMORY: &str = "
    CREATE TEMP TABLE removed (
        name TEXT PRIMARY KEY,
        until_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Where the table of lives is being written to.
#[derive(Debug, Clone, Copy)]
pub(super) struct LifeLog {
    /// The number of its next row.
    pub(super) next: i64,
    /// The first row of the round that is under way.
    pub(super) round: Option<i64>,
    /// The rows below this one are still to be taken away.
    pub(super) delete_below: Option<i64>,
}

/// The open database.
pub(super) struct Database {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) salt: Salt,
    /// The number of the present boot.
    pub(super) boot: i64,
    /// When something was last written by an earlier run, on the wall clock.
    pub(super) written_ms: i64,
    pub(super) life_log: LifeLog,
}

/// Why a file could not be used.
enum OpenError {
    Foreign(i32),
    Sqlite(Error),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Database {
    /// Opens the database at `path`, creating it if it is missing. One that is of no use is
    /// set aside, and a new one begun: the fault then tells of it.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<StoreFault>), StoreFault> {
        match Self::connect(path) {
            Ok(database) => Ok((database, None)),
            Err(OpenError::Sqlite(error)) if !is_damage(&error) => Err(fault(path, &error)),
            Err(refusal) => {
                let told = match refusal {
                    OpenError::Foreign(version) => {
                        let aside = set_aside(path, &format!("version-{version}"))?;
                        StoreFault::Foreign { path: path.to_owned(), aside, version }
                    }
                    OpenError::Sqlite(_) => damaged(path)?,
                };
                let again = Self::connect(path).map_err(|refusal| match refusal {
                    OpenError::Sqlite(error) => fault(path, &error),
                    OpenError::Foreign(_) => {
                        let error = io::Error::other("it is not as it was just written");
                        StoreFault::new(path, "creating it", error)
                    }
                })?;
                Ok((again, Some(told)))
            }
        }
    }

    /// Sets the database aside, keeps of it what can still be read of the values and counts,
    /// and begins a new one.
    pub(super) fn start_over(&mut self) -> Result<StoreFault, StoreFault> {
        let saved = self.salvage();
        // The file is let go of before it is moved.
        self.connection = Connection::open_in_memory().map_err(|e| fault(&self.path, &e))?;
        let told = damaged(&self.path)?;
        let (new, _) = Self::open(&self.path)?;
        *self = new;
        self.restore(&saved).map_err(|error| fault(&self.path, &error))?;
        Ok(told)
    }

    fn connect(path: &Path) -> Result<Self, OpenError> {
        // SQLite gives its other files the mode of this one.
        let created = File::options().create(true).append(true).mode(0o600).open(path);
        created.map_err(|_| Error::InvalidPath(path.to_owned()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.execute_batch(SETTINGS)?;
        let number = |connection: &Connection, name| {
            connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0))
        };
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let version = number(&connection, "user_version")?;
        if tables == 0 && version == 0 {
            create(&mut connection)?;
        } else if number(&connection, "application_id")? != APPLICATION {
            return Err(OpenError::Foreign(version));
        } else if version == FIRST_VERSION {
            upgrade(&mut connection)?;
        } else if version != VERSION {
            return Err(OpenError::Foreign(version));
        }
        match connection.execute_batch(REMOVED) {
            Err(error) if is_damage(&error) => return Err(error.into()),
            Err(_) => connection.execute_batch(REMOVED_IN_MEMORY)?,
            Ok(()) => {}
        }
        let (salt, written_ms) =
            connection.query_row("SELECT salt, written_ms FROM meta", [], |row| {
                Ok((Salt(row.get(0)?), row.get(1)?))
            })?;
        let boot = boot_number(&connection)?;
        let next = next_number(&connection)?;
        let life_log = LifeLog { next, round: None, delete_below: None };
        Ok(Self { path: path.to_owned(), connection, salt, boot, written_ms, life_log })
    }
}

fn create(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(LAYOUT)?;
    transaction.execute_batch(LIVES)?;
    let mut salt = [0; 16];
    if aws_lc_rs::rand::fill(&mut salt).is_err() {
        fastrand::fill(&mut salt);
    }
    transaction.execute("INSERT INTO meta VALUES (1, ?, 0)", [salt])?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// The number of the next row of [`LIVES`]. Damage to that table is left to whoever reads it:
/// values are carried over then.
fn next_number(connection: &Connection) -> Result<i64, Error> {
    let sql = "SELECT ifnull(max(number), 0) + 1 FROM lives";
    match connection.query_row(sql, [], |row| row.get(0)) {
        Err(error) if is_damage(&error) => Ok(1),
        number => number,
    }
}

/// The first layout had a row for each token in place of [`LIVES`]. Those cost a check of each;
/// what cannot be asked for again stays where it is.
fn upgrade(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction()?;
    transaction.execute_batch("DROP TABLE token;")?;
    transaction.execute_batch(LIVES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// The number by which rows name the present boot. A boot that cannot be told is a new one.
fn boot_number(connection: &Connection) -> Result<i64, Error> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_else(|_| format!("unknown-{:016x}", fastrand::u64(..)));
    let known = connection
        .query_row("SELECT number FROM boot WHERE id = ?", [id.trim()], |row| row.get(0))
        .optional()?;
    if let Some(number) = known {
        return Ok(number);
    }
    match connection.execute("INSERT INTO boot (id) VALUES (?)", [id.trim()]) {
        Ok(_) => Ok(connection.last_insert_rowid()),
        Err(error) if is_damage(&error) => Err(error),
        // On a full disk what was kept can still be read.
        Err(_) => Ok(UNKNOWN_BOOT),
    }
}

/// Whether `error` speaks of what the file holds, and not of the world around it.
pub(super) fn is_damage(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(failure, _) => !matches!(
            failure.code,
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::AuthorizationForStatementDenied
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted
                | ErrorCode::OperationAborted
        ),
        Error::InvalidPath(_) => false,
        _ => true,
    }
}

/// `error` as a fault of the file at `path`. Its text names no value: none is in a statement.
pub(super) fn fault(path: &Path, error: &Error) -> StoreFault {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => io::ErrorKind::StorageFull,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    StoreFault::new(path, "using the database", io::Error::new(kind, error.to_string()))
}

fn damaged(path: &Path) -> Result<StoreFault, StoreFault> {
    let aside = set_aside(path, "damaged")?;
    Ok(StoreFault::Damaged { path: path.to_owned(), aside })
}

/// Moves the database out of the way, together with its log.
fn set_aside(path: &Path, suffix: &str) -> Result<PathBuf, StoreFault> {
    let with = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = with(path, &format!(".{suffix}"));
    let log = with(path, "-wal");
    match fs::rename(&log, with(&aside, "-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreFault::new(log, "setting the damaged file aside", error));
        }
        _ => {}
    }
    fs::rename(path, &aside)
        .map_err(|error| StoreFault::new(path, "setting the damaged file aside", error))?;
    Ok(aside)
}
