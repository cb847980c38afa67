//! Temporary files of [`replace`](super::replace): creates them, and removes stale ones of
//! processes that were killed before the rename.
//!
//! A file in use is locked, so no other process removes it.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;
use tempfile::NamedTempFile;

use super::TEMPORARY_PREFIX;
use crate::secret::TokenValue;

/// Lengths of the random part of a name, earlier versions first.
const RANDOM_LENGTHS: [usize; 2] = [6, 10];

/// Beginning of the configuration files that tokenkeep writes.
pub(crate) const CONFIG_PREFIX: &str = "# tokenkeep";

/// Maximum length of a token value with its line break.
const MAX_LEFTOVER_BYTES: u64 = 4_097;

/// Maximum number of attempts if another process removes the file before it is locked.
const CREATE_ATTEMPTS: usize = 8;

/// Directories that this process has already searched.
static SEARCHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Creates and locks a temporary file in `folder`.
pub(super) fn create(folder: &Path, permissions: Permissions) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX).rand_bytes(RANDOM_LENGTHS[1]).permissions(permissions);
    for _ in 1..CREATE_ATTEMPTS {
        let file = builder.tempfile_in(folder)?;
        // Without support for locks in the file system, other processes get none either.
        let _ = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
        if file.as_file().metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
    builder.tempfile_in(folder)
}

/// Removes stale temporary files in `folder`, once per process. `old` is the file to be replaced.
pub(super) fn remove_stale_once(folder: &Path, old: Option<&Metadata>) {
    let mut searched = SEARCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = searched.insert(folder.to_owned());
    drop(searched);
    if is_new {
        remove(folder, old);
    }
}

/// Removes stale temporary files in the directories of these token files.
pub fn remove_stale_temporary_files(files: impl IntoIterator<Item = PathBuf>) {
    for file in files {
        if let Ok(target) = fs::canonicalize(&file).or_else(|_| std::path::absolute(&file))
            && let Some(folder) = target.parent()
        {
            remove_stale_once(folder, fs::metadata(&file).ok().as_ref());
        }
    }
}

fn remove(folder: &Path, old: Option<&Metadata>) {
    // In a directory that cannot be read, nothing can be removed.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_ours_by_name) {
            remove_leftover(&entry.path(), old);
        }
    }
}

/// Whether [`create`] could have made this name. A word such as `backup` is not random.
fn is_ours_by_name(name: &str) -> bool {
    name.strip_prefix(TEMPORARY_PREFIX).is_some_and(|random| {
        RANDOM_LENGTHS.contains(&random.len())
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && random.bytes().skip(1).any(|byte| !byte.is_ascii_lowercase())
    })
}

/// Removes the file if [`replace`](super::replace) created it as this user, no process is writing
/// it, and it contains a token value, the beginning of one, or a configuration of tokenkeep's.
fn remove_leftover(path: &Path, old: Option<&Metadata>) {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let Ok(file) = File::options().read(true).custom_flags(flags).open(path) else { return };
    let Ok(found) = file.metadata() else { return };
    let user = geteuid().as_raw();
    // Root gives the new file to the owner of the file to be replaced.
    let is_own =
        found.uid() == user || user == 0 && old.is_some_and(|old| old.uid() == found.uid());
    let is_leftover =
        found.is_file() && is_own && found.nlink() == 1 && found.len() <= MAX_LEFTOVER_BYTES;
    if is_leftover
        && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        && io::read_to_string(&file).is_ok_and(|text| is_content(text.trim_end_matches('\n')))
    {
        // Another process may have removed it already.
        let _ = fs::remove_file(path);
    }
}

fn is_content(text: &str) -> bool {
    text.is_empty() || text.starts_with(CONFIG_PREFIX) || TokenValue::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> =
            names.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn stale_temporary_files_of_all_versions_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            (".tokenkeep-aB3dEf", "abc-123\n"),
            (".tokenkeep-ab1defghij", "abc-123"),
            (".tokenkeep-ABCDEFGHIJ", ""),
            (".tokenkeep-ABCDEFGHI1", "# tokenkeep add\n[token.a]\nserver = \"s\"\n"),
        ] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        remove(folder.path(), None);
        assert_eq!(found(folder.path()), [""; 0]);
    }

    #[test]
    fn other_files_and_temporary_files_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let long = "x".repeat(5_000);
        for (name, content) in [
            (".tokenkeep-backup", "abc-123"),
            (".tokenkeep-Backup", "abc-123"),
            (".tokenkeep-aB3dEf.bak", "abc-123"),
            (".tokenkeep-aB3dE", "abc-123"),
            (".tokenkeep-aB3dE1", "two words are no token"),
            (".tokenkeep-aB3dE2", "two\nlines"),
            (".tokenkeep-aB3dE3", &long),
            ("tokenkeep-aB3dEf", "abc-123"),
            ("other", "abc-123"),
        ] {
            fs::write(path(name), content).unwrap();
        }
        symlink(path("other"), path(".tokenkeep-aB3dE4")).unwrap();
        fs::hard_link(path("other"), path(".tokenkeep-aB3dE5")).unwrap();
        fs::create_dir(path(".tokenkeep-aB3dE6")).unwrap();
        let before = found(folder.path());
        let used = create(folder.path(), fs::metadata(path("other")).unwrap().permissions());
        let used = used.unwrap();
        remove(folder.path(), None);
        assert!(used.path().exists());
        drop(used);
        assert_eq!(found(folder.path()), before);
    }

    #[test]
    fn file_of_another_user_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".tokenkeep-aB3dEf");
        fs::write(&path, "abc-123").unwrap();
        let other = Some(rustix::fs::Uid::from_raw(12_345));
        if rustix::fs::chown(&path, other, None).is_ok() {
            remove(folder.path(), None);
            assert!(path.exists());
            remove(folder.path(), Some(&fs::metadata(&path).unwrap()));
            assert!(!path.exists(), "it was given to the owner of the file that it replaces");
        }
    }
}
