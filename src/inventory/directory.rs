//! Directory with one file per token, named like the token.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;

use super::{EntryLocation, EntrySink, InventoryEntry, InventoryError, LineError, ReadSummary};
use crate::settings::{Source, name_error};
use crate::token_source::{SourceErrorKind, read};

/// Whether a file of this name is ignored: hidden files, such as temporary ones, and backup copies
/// of editors (`NAME~`).
pub fn is_ignored(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.ends_with(b"~")
}

/// Reads every file of the directory at `path` and passes each to `sink`, including files without a
/// value. Subdirectories, pipes and the like are ignored, and so are the names of [`is_ignored`].
///
/// # Errors
///
/// If the directory cannot be opened or read to its end. Entries before the error have been passed
/// on.
pub fn read_directory(path: &Path, sink: EntrySink<'_>) -> Result<ReadSummary, InventoryError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => InventoryError::Missing(path.to_owned()),
        io::ErrorKind::NotADirectory => InventoryError::NotAFolder(path.to_owned()),
        _ => InventoryError::Unreadable { path: path.to_owned(), error },
    };
    let mut reading = ReadSummary::default();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        take(path, &entry.map_err(unreadable)?.file_name(), &mut reading, sink)?;
    }
    Ok(reading)
}

/// Reads the files `names` of the directory at `path` like [`read_directory`]. Missing files are
/// ignored.
///
/// # Errors
///
/// If `sink` cancels.
pub fn read_names<'a>(
    path: &Path,
    names: impl IntoIterator<Item = &'a OsString>,
    sink: EntrySink<'_>,
) -> Result<ReadSummary, InventoryError> {
    let mut reading = ReadSummary::default();
    for name in names {
        take(path, name, &mut reading, sink)?;
    }
    Ok(reading)
}

fn take(
    folder: &Path,
    name: &OsStr,
    reading: &mut ReadSummary,
    sink: EntrySink<'_>,
) -> Result<(), InventoryError> {
    if is_ignored(name) {
        return Ok(());
    }
    let source = Source::File(folder.join(name));
    let found = read(&source, &|_| None);
    if let Err(fault) = &found
        && matches!(
            fault.kind,
            SourceErrorKind::Missing | SourceErrorKind::IsDirectory | SourceErrorKind::NotRegular
        )
    {
        return Ok(());
    }
    let fault = match name.to_str() {
        None => Some(LineError::Name("has a name that is not UTF-8")),
        Some(name) => name_error(name).map(LineError::Name),
    };
    if let Some(fault) = fault {
        let shown = name.to_string_lossy().escape_debug().to_string();
        reading.bad.add(EntryLocation::File(shown), fault);
        return Ok(());
    }
    reading.good += 1;
    let (held, value, warnings);
    (value, warnings) = match found {
        Ok(found) => {
            held = found.value;
            (Ok(held.by_ref()), found.warnings)
        }
        Err(fault) => (Err(fault), Vec::new()),
    };
    if sink(InventoryEntry {
        name: &name.to_string_lossy(),
        value,
        refresh: None,
        warnings,
        line: 0,
    })
    .is_break()
    {
        return Err(InventoryError::Cancelled);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::os::unix::ffi::OsStringExt as _;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn listed(folder: &Path) -> (Vec<(String, Option<String>)>, ReadSummary) {
        let mut all = Vec::new();
        let reading = read_directory(folder, &mut |listed| {
            let value = listed.value.ok().map(|value| value.expose().to_owned());
            all.push((listed.name.into(), value));
            ControlFlow::Continue(())
        });
        all.sort();
        (all, reading.unwrap())
    }

    #[test]
    fn each_file_is_a_token_with_its_name() {
        let folder = folder(&[("quotes", "abc-1\n"), ("orders.eu", "abc-2")]);
        let (all, reading) = listed(folder.path());
        let expected = [("orders.eu", "abc-2"), ("quotes", "abc-1")];
        assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))));
        assert_eq!((reading.good, reading.bad.count), (2, 0));
    }

    #[test]
    fn files_that_are_no_tokens_are_ignored() {
        let folder = folder(&[(".hidden", "x"), (".tokenkeep-1", "x"), ("quotes~", "x")]);
        fs::create_dir(folder.path().join("sub")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("sock")).unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        symlink("sub", folder.path().join("link")).unwrap();
        let (all, reading) = listed(folder.path());
        assert_eq!((all.len(), reading.bad.count), (0, 0), "{all:?}");
    }

    #[test]
    fn symbolic_link_to_a_file_is_followed() {
        let folder = folder(&[(".data", "abc-1")]);
        symlink(".data", folder.path().join("quotes")).unwrap();
        assert_eq!(listed(folder.path()).0, [("quotes".to_owned(), Some("abc-1".to_owned()))]);
    }

    #[test]
    fn file_without_a_value_is_a_token_without_a_value() {
        let folder = folder(&[("quotes", "")]);
        assert_eq!(listed(folder.path()).0, [("quotes".to_owned(), None)]);
    }

    #[test]
    fn invalid_name_is_reported() {
        let folder = folder(&[("a\nb", "x")]);
        fs::write(folder.path().join(OsString::from_vec(vec![b'a', 0xff])), "x").unwrap();
        let (all, reading) = listed(folder.path());
        assert!(all.is_empty(), "{all:?}");
        let mut told: Vec<_> = reading.bad.first.iter().map(ToString::to_string).collect();
        told.sort();
        assert_eq!(told[0], "file a\\nb: it has a control character in its name");
        assert!(told[1].ends_with("it has a name that is not UTF-8"), "{told:?}");
    }

    #[test]
    fn only_the_named_files_are_read() {
        let folder = folder(&[("quotes", "abc-1"), ("orders", "abc-2")]);
        let mut names = Vec::new();
        let wanted = ["quotes", "gone", ".x"].map(OsString::from);
        let reading = read_names(folder.path(), &wanted, &mut |listed| {
            names.push(listed.name.to_owned());
            ControlFlow::Continue(())
        });
        assert_eq!((&*names[0], reading.unwrap().good), ("quotes", 1));
    }

    #[test]
    fn path_that_is_no_directory_is_an_error_with_a_remedy() {
        let folder = folder(&[("quotes", "abc-1")]);
        let fault = |name: &str| {
            read_directory(&folder.path().join(name), &mut |_| ControlFlow::Continue(()))
                .unwrap_err()
        };
        assert!(matches!(fault("missing"), InventoryError::Missing(_)));
        assert!(fault("quotes").to_string().contains("use `file`"));
    }
}
