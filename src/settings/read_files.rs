//! Reads the configuration files from disk: the main file, then `conf.d/*.toml`.
//!
//! A file that cannot be read is reported, and the others are read nevertheless.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::collector::Collector;
use super::position::Position;
use super::source::ConfigSources;
use crate::file::open;

/// Maximum size of a configuration file: about forty times the size of a file with 10,000
/// tokens. Protects the memory if a device or a wrong file is named.
const LARGEST_FILE: u64 = 64 << 20;

/// A change of one file that is not on disk yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChange<'a> {
    /// The file gets this text. It is the main file, or a `*.toml` in `conf.d`.
    Write(&'a Path, &'a str),
    /// The file is removed.
    Remove(&'a Path),
}

/// Reads the file at `main`, then `conf.d/*.toml` beside it in the order of their names, except
/// those in `skipped`, as if `change` had been made.
pub(super) fn read_files(
    main: &Path,
    skipped: &[PathBuf],
    change: Option<FileChange<'_>>,
    collector: &mut Collector,
) -> ConfigSources {
    let mut sources = ConfigSources::default();
    let mut add = |path: PathBuf| {
        let text = match change {
            Some(FileChange::Write(file, text)) if file == path => Ok(text.to_owned()),
            _ => read_text(&path),
        };
        add_file(&mut sources, path, text, collector);
    };
    add(main.to_owned());
    let folder = main.with_file_name("conf.d");
    if skipped.contains(&folder) {
        return sources;
    }
    let files = match drop_ins(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        files => files,
    };
    match files {
        Ok(mut files) => {
            match change {
                Some(FileChange::Write(file, _)) if file != main => {
                    files.push(file.to_owned());
                    files.sort();
                    files.dedup();
                }
                Some(FileChange::Remove(removed)) => files.retain(|file| file != removed),
                Some(FileChange::Write(..)) | None => {}
            }
            files.into_iter().filter(|file| !skipped.contains(file)).for_each(add);
        }
        Err(error) => {
            let position = sources.add_file(folder);
            collector.unreadable(
                position,
                format!("the configuration directory cannot be read: {error}"),
                "make it a directory that the service's user may read, or remove it",
            );
        }
    }
    sources
}

/// The sources that [`read_files`] would return for files with these contents.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn sources_of_contents(
    files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>,
    collector: &mut Collector,
) -> ConfigSources {
    let mut sources = ConfigSources::default();
    for (path, bytes) in files {
        add_file(&mut sources, path, decode(bytes), collector);
    }
    sources
}

fn add_file(
    sources: &mut ConfigSources,
    path: PathBuf,
    text: Result<String, Unreadable>,
    collector: &mut Collector,
) {
    let position = sources.add_file(path);
    match text {
        Ok(text) => {
            sources.set_text(position, text);
            sources.mark_read(position);
        }
        Err(Unreadable::NotUtf8 { valid }) => {
            let end = Position::at(position.source(), valid.len());
            sources.set_text(position, valid);
            collector.unreadable(end, "the file is not UTF-8 text", "save it as UTF-8");
        }
        Err(Unreadable::NotRegular) => collector.unreadable(
            position,
            "it is a pipe, which cannot be read again at a reload",
            "put the configuration into a regular file",
        ),
        Err(Unreadable::TooLarge) => collector.unreadable(
            position,
            format!("the file is larger than {} MiB", LARGEST_FILE >> 20),
            "check that it is the right file; if it is, split it",
        ),
        Err(Unreadable::Io(error)) => {
            let (message, remedy) = explain(&error, position == Position::MAIN);
            collector.unreadable(position, message, remedy);
        }
    }
}

/// Why a file has no usable text.
enum Unreadable {
    Io(io::Error),
    NotRegular,
    TooLarge,
    /// `valid` is the text before the first invalid byte.
    NotUtf8 {
        valid: String,
    },
}

fn read_text(path: &Path) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    // `open` does not wait for the writer of a FIFO: a reload would wait forever.
    let file = open(path).map_err(Unreadable::Io)?;
    if file.metadata().map_err(Unreadable::Io)?.file_type().is_fifo() {
        return Err(Unreadable::NotRegular);
    }
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(Unreadable::Io)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Unreadable::TooLarge);
    }
    decode(bytes)
}

fn decode(bytes: Vec<u8>) -> Result<String, Unreadable> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let valid = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        Unreadable::NotUtf8 { valid }
    })
}

/// `*.toml` in `folder`, sorted by name; without hidden files, such as those of an editor.
fn drop_ins(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn explain(error: &io::Error, is_main: bool) -> (String, &'static str) {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound if is_main => {
            return (
                "there is no such configuration file".to_owned(),
                "create it with `tokenkeep init`, or name another with --config",
            );
        }
        io::ErrorKind::NotFound => "it may be a broken link: correct or remove it",
        io::ErrorKind::PermissionDenied => "let the service's user read it (chown, chmod)",
        io::ErrorKind::IsADirectory => {
            "it is a directory: name a file instead, or move the \
        directory away"
        }
        _ => "make it a file that the service's user may read",
    };
    (format!("the file cannot be read: {error}"), remedy)
}
