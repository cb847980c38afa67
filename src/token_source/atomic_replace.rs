//! Replaces files atomically: readers see the old content or the new one, never a part.
//!
//! The new content is written to a temporary file in the same directory, synced and renamed. On an
//! error, the file is unchanged and the temporary file is removed.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::symlinks::{MAX_LINKS, chain, parent};
use super::{PersistError, temporary_files};
use crate::secret::TokenValue;

/// Mode of a new file: only for the service's user.
const PRIVATE: u32 = 0o600;

/// Replaces the content of the file at `path` with `value` and a line break.
///
/// - Mode and owner of the file are kept. A new file is for the service's user only (0600).
/// - If `path` is a symbolic link, its target is replaced.
/// - After a successful return, the content survives a power failure.
///
/// # Errors
///
/// The file cannot be replaced; it is unchanged. Exception: if the last step fails, the sync of the
/// directory, the file has the new content. Repeating the call is harmless.
///
/// ```
/// use tokenkeep::secret::TokenValue;
/// use tokenkeep::token_source::replace;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("quotes.token");
/// replace(&path, &TokenValue::parse("abc-123").unwrap())?;
/// assert_eq!(std::fs::read_to_string(&path)?, "abc-123\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn replace(path: &Path, value: &TokenValue) -> Result<(), PersistError> {
    let value = value.expose().as_bytes();
    let mut content = Zeroizing::new(Vec::with_capacity(value.len() + 1));
    content.extend_from_slice(value);
    content.push(b'\n');
    let (target, old) = existing(path)?;
    replace_target(&target, old.as_ref(), &content, |new| match &old {
        Some(old) => copy_owner_and_mode(new, old, &target),
        None => Ok(()),
    })
}

/// The target of `path` after all symbolic links, and what is there; only a regular file may be.
pub(super) fn existing(path: &Path) -> Result<(PathBuf, Option<Metadata>), PersistError> {
    let target = follow_links(path)?;
    match fs::symlink_metadata(&target) {
        Ok(metadata) if !metadata.is_file() => Err(PersistError::NotAFile { path: target }),
        Ok(metadata) => Ok((target, Some(metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((target, None)),
        Err(error) => Err(PersistError::new(target, "examining it", error)),
    }
}

/// Replaces the file `target`, which is no link. The new file is for the service's user only, until
/// `set_access` sets its group and mode. `old` is the file whose owner leftovers may have.
pub(super) fn replace_target(
    target: &Path,
    old: Option<&Metadata>,
    content: &[u8],
    set_access: impl FnOnce(&File) -> Result<(), PersistError>,
) -> Result<(), PersistError> {
    let failed =
        |doing: &'static str| move |error: io::Error| PersistError::new(target, doing, error);
    let folder = parent(target);
    temporary_files::remove_stale_once(folder, old);

    let mut temporary = create_temporary(folder)?;
    let written = temporary.write_all(content).map_err(|error| without_path(&error));
    written.map_err(failed("writing"))?;
    set_access(temporary.as_file())?;
    temporary.as_file().sync_all().map_err(failed("syncing the file"))?;
    temporary.persist(target).map_err(|error| match error.error.kind() {
        io::ErrorKind::ResourceBusy => {
            PersistError::MountPoint { path: target.to_owned(), error: error.error.into() }
        }
        _ => failed("replacing")(error.error),
    })?;
    sync_folder(folder)
}

/// Creates the file at `path` atomically, with this content, owner and mode. If it exists,
/// `overwrite` decides whether it is replaced. Unlike [`replace`], replaces a symbolic link itself:
/// root must not follow a link in a directory that another user can write to.
///
/// # Errors
///
/// The file cannot be created or replaced; what was there is unchanged. Exception: if the last step
/// fails, the sync of the directory, the new file exists.
pub(crate) fn install(
    path: &Path,
    content: &[u8],
    owner: Option<(Uid, Gid)>,
    mode: u32,
    overwrite: bool,
) -> Result<(), PersistError> {
    let failed = |doing: &'static str| {
        move |error: io::Error| PersistError::new(path, doing, without_path(&error))
    };
    let folder = parent(path);
    temporary_files::remove_stale_once(folder, None);
    let mut temporary = create_temporary(folder)?;
    // Before the content: if this process is killed, the owner may remove the temporary file.
    if let Some((user, group)) = owner {
        let given = fchown(temporary.as_file(), Some(user), Some(group)).map_err(io::Error::from);
        given.map_err(failed("setting its owner"))?;
    }
    let permitted = temporary.as_file().set_permissions(Permissions::from_mode(mode));
    permitted.map_err(failed("setting its mode"))?;
    temporary.write_all(content).map_err(failed("writing"))?;
    temporary.as_file().sync_all().map_err(failed("syncing the file"))?;
    let persisted =
        if overwrite { temporary.persist(path) } else { temporary.persist_noclobber(path) };
    persisted.map_err(|error| failed("creating it")(error.error))?;
    sync_folder(folder)
}

/// Creates a temporary file in `folder`, for this user only.
fn create_temporary(folder: &Path) -> Result<NamedTempFile, PersistError> {
    temporary_files::create(folder, Permissions::from_mode(PRIVATE)).map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound => PersistError::NoFolder { folder: folder.to_owned() },
            _ => PersistError::new(folder, "creating a file", without_path(&error)),
        }
    })
}

/// `error` without the name of the temporary file, which is random.
fn without_path(error: &io::Error) -> io::Error {
    let text = error.to_string();
    let said = text.split(" at path ").next().unwrap_or_default();
    io::Error::new(error.kind(), said)
}

/// Makes created, renamed and removed files in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), PersistError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| PersistError::new(folder, "syncing the directory", error))
}

/// The target of `path` after all symbolic links, whether it exists or not.
fn follow_links(path: &Path) -> Result<PathBuf, PersistError> {
    let steps: Vec<PathBuf> = chain(path).collect();
    if steps.len() > MAX_LINKS {
        let error = io::Error::from(Errno::LOOP);
        return Err(PersistError::new(path, "following its symbolic links", error));
    }
    Ok(steps.into_iter().next_back().unwrap_or_else(|| path.to_owned()))
}

/// Gives `new` the owner and mode of `old`, the file at `path`.
fn copy_owner_and_mode(new: &File, old: &Metadata, path: &Path) -> Result<(), PersistError> {
    let failed = |doing| move |error| PersistError::new(path, doing, error);
    let created = new.metadata().map_err(failed("examining the new file"))?;
    let mut mode = old.mode() & 0o777;
    if created.uid() != old.uid() {
        fchown(new, Some(Uid::from_raw(old.uid())), None)
            .map_err(|_| PersistError::Owner { path: path.to_owned(), owner: old.uid() })?;
    }
    if created.gid() != old.gid() {
        match fchown(new, None, Some(Gid::from_raw(old.gid()))) {
            Ok(()) => {}
            // The group that the file has instead gets no permissions.
            Err(Errno::PERM) => mode &= 0o707,
            Err(error) => return Err(failed("keeping the file's group")(error.into())),
        }
    }
    new.set_permissions(Permissions::from_mode(mode)).map_err(failed("keeping the file's mode"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::super::TEMPORARY_PREFIX;
    use super::*;

    fn value(text: &str) -> TokenValue {
        TokenValue::parse(text).unwrap()
    }

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quotes.token");
        (folder, path)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn new_file_contains_the_value_on_one_line_with_mode_0600() {
        let (folder, path) = folder();
        replace(&path, &value("new-1")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new-1\n");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(&folder), ["quotes.token"]);
    }

    #[test]
    fn a_replaced_file_keeps_its_mode() {
        let (folder, path) = folder();
        fs::write(&path, "old-1").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, &value("new-1")).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"new-1\n".to_vec(), 0o640));
        assert_eq!(names(&folder), ["quotes.token"]);
    }

    #[test]
    fn a_replaced_file_keeps_its_owner_if_permitted() {
        let (_folder, path) = folder();
        fs::write(&path, "old-1").unwrap();
        let other = (Uid::from_raw(12_345), Gid::from_raw(23_456));
        if rustix::fs::chown(&path, Some(other.0), Some(other.1)).is_err() {
            return; // only root may set this up
        }
        replace(&path, &value("new-1")).unwrap();
        let new = fs::metadata(&path).unwrap();
        assert_eq!((new.uid(), new.gid()), (12_345, 23_456));
    }

    #[test]
    fn open_reader_continues_to_read_the_old_content() {
        let (_folder, path) = folder();
        fs::write(&path, "old-1\n").unwrap();
        let old = File::open(&path).unwrap();
        replace(&path, &value("new-1")).unwrap();
        assert_eq!(io::read_to_string(old).unwrap(), "old-1\n");
    }

    #[test]
    fn target_of_a_symbolic_link_is_replaced() {
        let (folder, path) = folder();
        let target = folder.path().join("target");
        fs::write(&target, "old-1").unwrap();
        symlink("target", &path).unwrap();
        replace(&path, &value("new-1")).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new-1\n");
    }

    #[test]
    fn target_of_a_dangling_link_is_created() {
        let (folder, path) = folder();
        symlink("target", &path).unwrap();
        replace(&path, &value("new-1")).unwrap();
        assert_eq!(fs::read(folder.path().join("target")).unwrap(), b"new-1\n");
    }

    #[test]
    fn an_installed_file_replaces_a_link_and_not_its_target() {
        let (folder, path) = folder();
        let target = folder.path().join("target");
        fs::write(&target, "kept").unwrap();
        symlink("target", &path).unwrap();
        assert!(install(&path, b"new-1\n", None, 0o644, false).is_err());
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        install(&path, b"new-1\n", None, 0o644, true).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"new-1\n".to_vec(), 0o644));
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert_eq!(names(&folder), ["quotes.token", "target"]);
    }

    #[test]
    fn an_error_does_not_name_the_temporary_file() {
        let path = Path::new("/proc/self/quotes.token");
        let [first, second] =
            [(); 2].map(|()| replace(path, &value("new-1")).unwrap_err().to_string());
        assert!(!first.contains(TEMPORARY_PREFIX), "{first}");
        assert_eq!(first, second);
    }

    #[test]
    fn cycle_of_links_is_an_error() {
        let (folder, path) = folder();
        symlink("quotes.token", folder.path().join("other")).unwrap();
        symlink("other", &path).unwrap();
        let error = replace(&path, &value("new-1")).unwrap_err();
        assert!(matches!(error, PersistError::Failed { .. }), "{error}");
    }

    #[test]
    fn missing_directory_is_named_in_the_error() {
        let (folder, _) = folder();
        let missing = folder.path().join("missing");
        let error = replace(&missing.join("quotes.token"), &value("new-1")).unwrap_err();
        assert!(
            matches!(&error, PersistError::NoFolder { folder } if *folder == missing),
            "{error}"
        );
    }

    #[test]
    fn directory_that_rejects_files_is_named_in_the_error() {
        // Not even root may create a file here.
        let error = replace(Path::new("/proc/quotes.token"), &value("new-1")).unwrap_err();
        assert!(error.to_string().starts_with("/proc: "), "{error}");
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let (folder, path) = folder();
        fs::create_dir(&path).unwrap();
        for location in [&path, Path::new("/dev/null")] {
            let error = replace(location, &value("new-1")).unwrap_err();
            assert!(matches!(error, PersistError::NotAFile { .. }), "{error}");
        }
        assert_eq!(names(&folder), ["quotes.token"]);
    }

    #[test]
    fn a_failure_leaves_no_temporary_file_behind() {
        let (folder, _) = folder();
        // The name is too long, which causes an error only at the rename.
        let path = folder.path().join("n".repeat(256));
        let Err(error) = replace(&path, &value("new-1")) else { panic!("it was replaced") };
        assert!(matches!(error, PersistError::Failed { .. }), "{error}");
        assert_eq!(names(&folder), [""; 0]);
    }

    #[test]
    fn no_error_contains_the_value() {
        let (folder, path) = folder();
        fs::create_dir(&path).unwrap();
        for location in [path, folder.path().join("missing/quotes.token")] {
            let error = replace(&location, &value("new-1")).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("new-1"));
        }
    }
}
