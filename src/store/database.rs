//! The database file: its layout, and how it is opened.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Error, ErrorCode, OpenFlags, OptionalExtension as _, ffi};

use super::aside::{self, LOG, set_aside, with_suffix};
use super::encoding::LifeKey;
use super::mac::Salt;
use super::model::UNKNOWN_BOOT;
use crate::clock;
use crate::token_source::PersistError;

/// Identifies the application in the file's header: "tkkp".
const APPLICATION: i32 = 0x746b_6b70;

/// Version of the layout below. It is incremented with every change that an older version could not
/// read.
const VERSION: i32 = 2;

/// The layout that [`upgrade`] knows.
const FIRST_VERSION: i32 = 1;

/// Exclusive locking avoids the shared memory file. A commit is durable when it returns. Deleted
/// content is overwritten. Hardly any page is read twice, so the cache is small.
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

/// Results of checks: one or a few rows per commit, with the clocks at that time; see
/// [`encoding`](super::encoding). Rows are never changed, and the oldest are deleted first.
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

/// Removed tokens, and until when their values are kept (wall clock). Older versions ignore the
/// table, so it does not change [`VERSION`].
const REMOVED: &str = "
    CREATE TABLE IF NOT EXISTS removed (
        name TEXT PRIMARY KEY,
        until_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Replaces the table if the disk is full, so that stored values can still be read.
const REMOVED_IN_MEMORY: &str = "
    CREATE TEMP TABLE removed (
        name TEXT PRIMARY KEY,
        until_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Write position in the table of lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct LifeLog {
    /// Number of the next row.
    pub(super) next: i64,
    /// First row of the current compaction pass.
    pub(super) round: Option<i64>,
    /// Rows below this one are to be deleted.
    pub(super) delete_below: Option<i64>,
}

/// Device and inode of a file.
pub(super) type FileId = (u64, u64);

/// An open database.
pub(super) struct Database {
    pub(super) path: PathBuf,
    /// The open file and its log. Another file may be at `path` by now.
    pub(super) files: [Option<FileId>; 2],
    pub(super) connection: Connection,
    pub(super) salt: Salt,
    /// Number of the current boot.
    pub(super) boot: i64,
    /// Last write of an earlier run (wall clock).
    pub(super) written_ms: i64,
    pub(super) life_log: LifeLog,
}

/// Why a file cannot be used.
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
    /// Opens or creates the database at `path`. An unusable one is set aside and replaced; then the
    /// error says why.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<PersistError>), PersistError> {
        adopt_replacement(path)?;
        match Self::connect(path) {
            Ok(database) => Ok((database, None)),
            Err(OpenError::Sqlite(error)) if !is_damage(&error) => Err(fault(path, &error)),
            Err(refusal) => {
                let report = match refusal {
                    OpenError::Foreign(version) => {
                        let aside = set_aside(path, &format!("{}{version}", aside::VERSION))?;
                        PersistError::Foreign { path: path.to_owned(), aside, version }
                    }
                    OpenError::Sqlite(_) => damaged(path)?,
                };
                Ok((Self::connect_new(path)?, Some(report)))
            }
        }
    }

    /// Creates the database at `path`, or opens one that was just created.
    pub(super) fn connect_new(path: &Path) -> Result<Self, PersistError> {
        Self::connect(path).map_err(|refusal| match refusal {
            OpenError::Sqlite(error) => fault(path, &error),
            OpenError::Foreign(_) => {
                let error = io::Error::other("it is not as it was just written");
                PersistError::new(path, "creating it", error)
            }
        })
    }

    fn connect(path: &Path) -> Result<Self, OpenError> {
        // SQLite creates its other files with the mode of this one.
        let created = File::options().create(true).append(true).mode(0o600).open(path);
        created.map_err(|_| Error::InvalidPath(path.to_owned()))?;
        if has_unknown_format(path) {
            let corrupt = ffi::Error::new(ffi::SQLITE_CORRUPT);
            return Err(Error::SqliteFailure(corrupt, None).into());
        }
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
        let (path, files) = (path.to_owned(), files_at(path));
        Ok(Self { path, files, connection, salt, boot, written_ms, life_log })
    }

    /// Key of the MACs of lives.
    pub(super) const fn life_key(&self) -> LifeKey {
        (self.salt, self.boot)
    }

    /// Moves the log into the database and truncates it, because it still contains overwritten
    /// values.
    pub(super) fn truncate_log(&self) -> Result<(), Error> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

/// The database and its log at `path`; `None` if there is none.
pub(super) fn files_at(path: &Path) -> [Option<FileId>; 2] {
    [path.to_owned(), with_suffix(path, LOG)]
        .map(|file| fs::metadata(file).ok().map(|metadata| (metadata.dev(), metadata.ino())))
}

/// Where the replacement of a damaged database at `path` is built.
pub(super) fn replacement_of(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

/// Deletes a replacement, which contains values, and its log.
pub(super) fn delete_replacement(path: &Path) {
    let new = replacement_of(path);
    for file in [with_suffix(&new, LOG), new] {
        // If it stays, the next attempt to write it reports the error.
        let _ = fs::remove_file(file);
    }
}

/// Completes a recovery that was interrupted. The damaged database is moved only after its
/// replacement is complete, so a replacement beside it is incomplete.
fn adopt_replacement(path: &Path) -> Result<(), PersistError> {
    let new = replacement_of(path);
    if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        match fs::rename(&new, path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PersistError::new(new, "moving it to its place", error));
            }
            _ => {}
        }
    }
    delete_replacement(path);
    Ok(())
}

/// Whether the header names a file format that the library cannot write. It would open the file
/// read-only, which looks like a missing permission.
fn has_unknown_format(path: &Path) -> bool {
    /// The place of the version that a writer must know, and the newest one there is (WAL).
    const WRITE_VERSION: (usize, u8) = (18, 2);
    let mut header = [0; WRITE_VERSION.0 + 1];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header[WRITE_VERSION.0] > WRITE_VERSION.1
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

/// Number of the next row of [`LIVES`]. Damage in that table is handled by its readers, which save
/// the values.
fn next_number(connection: &Connection) -> Result<i64, Error> {
    let sql = "SELECT ifnull(max(number), 0) + 1 FROM lives";
    match connection.query_row(sql, [], |row| row.get(0)) {
        Err(error) if is_damage(&error) => Ok(1),
        number => number,
    }
}

/// The first layout had one row per token instead of [`LIVES`]. Dropping them costs one check per
/// token; everything that cannot be requested again is kept.
fn upgrade(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction()?;
    transaction.execute_batch("DROP TABLE token;")?;
    transaction.execute_batch(LIVES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Number of the current boot. An unidentifiable boot counts as a new one.
fn boot_number(connection: &Connection) -> Result<i64, Error> {
    let id = clock::boot_id().unwrap_or_else(|| format!("unknown{:016x}", fastrand::u64(..)));
    // Earlier versions have stored it with hyphens.
    let sql = "SELECT number FROM boot WHERE replace(id, '-', '') = ?";
    let known = connection.query_row(sql, [&id], |row| row.get(0)).optional()?;
    if let Some(number) = known {
        return Ok(number);
    }
    match connection.execute("INSERT INTO boot (id) VALUES (?)", [&id]) {
        Ok(_) => Ok(connection.last_insert_rowid()),
        Err(error) if is_damage(&error) => Err(error),
        // With a full disk, stored values can still be read.
        Err(_) => Ok(UNKNOWN_BOOT),
    }
}

/// Whether `error` is caused by the content of the file and not by its environment.
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

/// Converts `error` to an error that names the file. Its text contains no value, because no
/// statement does.
pub(super) fn fault(path: &Path, error: &Error) -> PersistError {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => io::ErrorKind::StorageFull,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    PersistError::new(path, "using the database", io::Error::new(kind, error.to_string()))
}

pub(super) fn damaged(path: &Path) -> Result<PersistError, PersistError> {
    let aside = set_aside(path, aside::DAMAGED)?;
    Ok(PersistError::Damaged { path: path.to_owned(), aside })
}
