//! Copies of databases that were of no use: set aside for who wants to look into them, and deleted
//! after [`KEPT`], because they still contain token values, those of removed tokens too.
//!
//! There is one copy at most. Its modification time says when it was set aside.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::clock;
use crate::token_source::PersistError;

/// How long a copy is kept.
pub(super) const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The end of the name of a damaged database.
pub(super) const DAMAGED: &str = "damaged";

/// The end of the name of a database of another version begins with this.
pub(super) const VERSION: &str = "version-";

/// What is added to the name of a database for its write-ahead log.
pub(super) const LOG: &str = "-wal";

/// Moves the database at `path` out of the way, together with its log, and then deletes earlier
/// copies. Returns where it is now.
pub(super) fn set_aside(path: &Path, suffix: &str) -> Result<PathBuf, PersistError> {
    let aside = with_suffix(path, &format!(".{suffix}"));
    let [log, log_aside] = [path, &aside].map(|path| with_suffix(path, LOG));
    let fault =
        |path: &Path, error| PersistError::new(path, "setting the damaged file aside", error);
    // The log is moved first: SQLite would apply it to the next database at `path`.
    let has_log = match fs::rename(&log, &log_aside) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(fault(&log, error)),
    };
    if let Err(error) = fs::rename(path, &aside) {
        if has_log {
            // The first error is reported.
            let _ = fs::rename(&log_aside, &log);
        }
        return Err(fault(path, error));
    }
    for copy in copies(path) {
        // A failure does not prevent the use of the new database.
        if copy == aside || (has_log && copy == log_aside) {
            let _ = fs::set_permissions(&copy, Permissions::from_mode(0o600));
            let _ = stamp(&copy, clock::wall_clock().into());
        } else {
            let _ = fs::remove_file(copy);
        }
    }
    Ok(aside)
}

/// `path` with `suffix` added to the name of the file.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Deletes the copies of the database at `path` that have been kept long enough. Returns how long
/// the next one is still to be kept.
pub(super) fn delete_expired(path: &Path, now: SystemTime) -> Option<Duration> {
    let left = copies(path).into_iter().filter_map(|copy| {
        let set_aside =
            fs::symlink_metadata(&copy).and_then(|metadata| metadata.modified()).ok()?;
        let Ok(age) = now.duration_since(set_aside) else {
            // The clock was ahead then: the time starts now.
            let _ = stamp(&copy, now);
            return Some(KEPT);
        };
        let left = KEPT.checked_sub(age).filter(|left| !left.is_zero());
        if left.is_none() {
            let _ = fs::remove_file(&copy);
        }
        left
    });
    left.min()
}

fn stamp(copy: &Path, now: SystemTime) -> io::Result<()> {
    File::open(copy)?.set_modified(now)
}

/// The copies of the database at `path`, with their logs.
fn copies(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|file| is_copy(file.file_name(), name)).collect()
}

fn is_copy(file: Option<&OsStr>, database: &OsStr) -> bool {
    let suffix = file
        .and_then(OsStr::to_str)
        .zip(database.to_str())
        .and_then(|(file, database)| file.strip_prefix(database)?.strip_prefix('.'));
    let suffix = suffix.map(|suffix| suffix.strip_suffix(LOG).unwrap_or(suffix));
    suffix.is_some_and(|suffix| suffix == DAMAGED || suffix.starts_with(VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state directory with the database and these files, and the path of the database.
    fn folder(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for file in ["tokenkeep.db"].iter().chain(files) {
            fs::write(folder.path().join(file), file).unwrap();
        }
        let path = folder.path().join("tokenkeep.db");
        (folder, path)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn new_copy_replaces_every_earlier_one_and_is_private() {
        let earlier =
            ["tokenkeep.db.damaged", "tokenkeep.db.damaged-wal", "tokenkeep.db.version-9"];
        let (folder, path) = folder(&earlier);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let aside = set_aside(&path, DAMAGED).unwrap();
        assert_eq!(names(folder.path()), ["tokenkeep.db.damaged"]);
        assert_eq!(fs::read_to_string(&aside).unwrap(), "tokenkeep.db");
        assert_eq!(fs::metadata(&aside).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn earlier_copy_and_the_log_stay_where_they_are_if_the_database_cannot_be_moved() {
        let (folder, path) = folder(&["tokenkeep.db-wal", "tokenkeep.db.version-9"]);
        fs::create_dir(folder.path().join("tokenkeep.db.damaged")).unwrap();
        let before = names(folder.path());
        set_aside(&path, DAMAGED).unwrap_err();
        assert_eq!(names(folder.path()), before);
    }

    #[test]
    fn copy_is_deleted_a_week_after_it_was_set_aside_and_nothing_else_is() {
        let others = ["lock", "tokenkeep.db-wal", "tokenkeep.db.backup"];
        let (folder, path) = folder(&others);
        set_aside(&path, "version-9").unwrap();
        let now: SystemTime = clock::wall_clock().into();
        let minute = Duration::from_secs(60);
        assert!(delete_expired(&path, now).unwrap() + minute > KEPT);
        assert_eq!(delete_expired(&path, now + KEPT + minute), None);
        assert_eq!(names(folder.path()), ["lock", "tokenkeep.db.backup"]);
    }

    #[test]
    fn copy_from_the_future_is_kept_for_a_week_from_now() {
        let (_folder, path) = folder(&[]);
        set_aside(&path, DAMAGED).unwrap();
        let now = SystemTime::from(clock::wall_clock()) - Duration::from_secs(365 * 24 * 3600);
        assert_eq!(delete_expired(&path, now), Some(KEPT));
        assert_eq!(delete_expired(&path, now + KEPT), None);
    }
}
