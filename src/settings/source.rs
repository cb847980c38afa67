//! Where the configuration comes from: files, each read once, and environment variables.
//!
//! Owns the texts and turns a position in one into a [`Location`]. It never looks into a text.

use std::cell::OnceCell;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::collector::Collector;
use super::excerpt::Excerpt;
use super::finding::Location;
use crate::file::open;

/// The largest file that is read: some forty times the 10,000 tokens that a folder is
/// meant for, and a device or a wrong file named by mistake does not fill the memory.
const LARGEST_FILE: u64 = 64 << 20;

/// A position: which source, and where in it; `None` for the source as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    source: usize,
    offset: Option<usize>,
}

impl Position {
    /// The configuration's main file as a whole.
    pub(super) const MAIN: Self = Self::whole(0);

    pub(super) const fn whole(source: usize) -> Self {
        Self { source, offset: None }
    }

    pub(super) const fn at(source: usize, offset: usize) -> Self {
        Self { source, offset: Some(offset) }
    }

    pub(super) const fn source(self) -> usize {
        self.source
    }
}

enum Origin {
    File(PathBuf),
    Variable(String),
}

struct ConfigSource {
    origin: Origin,
    text: String,
    line_starts: OnceCell<Vec<usize>>,
}

/// All sources, in the order in which later ones win.
#[derive(Default)]
pub(super) struct ConfigSources {
    list: Vec<ConfigSource>,
    read: Vec<usize>,
}

impl ConfigSources {
    /// Reads the file at `main`, then `conf.d/*.toml` beside it in the order of their
    /// names, except what `skipped` names. What cannot be read is reported, and the rest is
    /// read all the same.
    pub(super) fn read(main: &Path, skipped: &[PathBuf], collector: &mut Collector) -> Self {
        let mut sources = Self::default();
        sources.read_file(main.to_owned(), collector);
        let folder = main.with_file_name("conf.d");
        if skipped.contains(&folder) {
            return sources;
        }
        match drop_ins(&folder) {
            Ok(files) => {
                let files = files.into_iter().filter(|file| !skipped.contains(file));
                files.for_each(|file| sources.read_file(file, collector));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let position = sources.add(Origin::File(folder), String::new());
                collector.unreadable(
                    position,
                    format!("the folder of further configuration cannot be read: {error}"),
                    "make it a folder that the service's user may read, or remove it",
                );
            }
        }
        sources
    }

    /// What [`read`](Self::read) would find in files with these contents.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn of_contents(
        files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>,
        collector: &mut Collector,
    ) -> Self {
        let mut sources = Self::default();
        files.into_iter().for_each(|(path, bytes)| sources.take(path, decode(bytes), collector));
        sources
    }

    fn read_file(&mut self, path: PathBuf, collector: &mut Collector) {
        let result = read_text(&path);
        self.take(path, result, collector);
    }

    fn take(
        &mut self,
        path: PathBuf,
        result: Result<String, Unreadable>,
        collector: &mut Collector,
    ) {
        let position = self.add(Origin::File(path), String::new());
        let text = &mut self.list[position.source].text;
        match result {
            Ok(content) => {
                *text = content;
                self.read.push(position.source);
            }
            Err(Unreadable::NotUtf8 { valid }) => {
                let at = Position::at(position.source, valid.len());
                *text = valid;
                collector.unreadable(at, "the file is not UTF-8 text", "save it as UTF-8");
            }
            Err(Unreadable::NotRegular) => collector.unreadable(
                position,
                "it is a pipe, which cannot be read again at a reload",
                "put the configuration into a regular file",
            ),
            Err(Unreadable::TooLarge) => collector.unreadable(
                position,
                format!("the file is larger than {} MiB", LARGEST_FILE >> 20),
                "is it the right file? If so, split it up",
            ),
            Err(Unreadable::Io(error)) => {
                let (message, remedy) = explain(&error, position == Position::MAIN);
                collector.unreadable(position, message, remedy);
            }
        }
    }

    fn add(&mut self, origin: Origin, text: String) -> Position {
        self.list.push(ConfigSource { origin, text, line_starts: OnceCell::new() });
        Position::whole(self.list.len() - 1)
    }

    /// Adds an environment variable, and says where it now stands.
    pub(super) fn add_variable(&mut self, name: &str) -> Position {
        self.add(Origin::Variable(name.to_owned()), String::new())
    }

    /// The texts that could be read, with the number of their source.
    pub(super) fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        self.read.iter().map(|&source| (source, self.list[source].text.as_str()))
    }

    /// The files that could be read.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let file = |&source: &usize| match &self.list[source].origin {
            Origin::File(path) => Some(path.clone()),
            Origin::Variable(_) => None,
        };
        self.read.iter().filter_map(file).collect()
    }

    /// What people call `position`.
    pub(super) fn location(&self, position: Position) -> Location {
        let source = &self.list[position.source];
        match (&source.origin, position.offset) {
            (Origin::Variable(name), _) => Location::Variable(name.clone()),
            (Origin::File(file), None) => Location::File(file.clone()),
            (Origin::File(file), Some(offset)) => {
                let (line, column) = source.line_and_column(offset);
                Location::Text { file: file.clone(), line, column }
            }
        }
    }

    /// The line that `position` stands on, without what may be a secret; `is_key`: a key or a
    /// table's name begins there.
    pub(super) fn excerpt(&self, position: Position, is_key: bool) -> Option<Excerpt> {
        let before =
            position.offset? - self.list[position.source].line_starts()[self.line(position) - 1];
        Some(Excerpt::of(self.line_text(position), before, is_key))
    }

    /// The number of the line, from 1, that `position` stands on.
    pub(super) fn line(&self, position: Position) -> usize {
        self.list[position.source].line_and_column(position.offset.unwrap_or(0)).0
    }

    /// The text of the line that `position` stands on.
    pub(super) fn line_text(&self, position: Position) -> &str {
        let source = &self.list[position.source];
        let start = source.line_starts()[self.line(position) - 1];
        source.text[start..].lines().next().unwrap_or("")
    }
}

impl ConfigSource {
    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            let after_breaks = self.text.match_indices('\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(after_breaks).collect()
        })
    }

    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let starts = self.line_starts();
        let line = starts.partition_point(|&start| start <= offset).max(1);
        let before = self.text.get(starts[line - 1]..offset).unwrap_or("");
        (line, before.chars().count() + 1)
    }
}

enum Unreadable {
    Io(io::Error),
    NotRegular,
    TooLarge,
    NotUtf8 { valid: String },
}

fn read_text(path: &Path) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    // A reload that waits for a FIFO's writer would be the last one.
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

/// `*.toml` in `folder`, sorted by name; hidden files (an editor's, say) are passed over.
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
                "copy the commented config/tokenkeep.toml to this path, or name another with --config",
            );
        }
        io::ErrorKind::NotFound => "a link to nowhere? Mend or remove it",
        io::ErrorKind::PermissionDenied => "let the service's user read it (chown, chmod)",
        io::ErrorKind::IsADirectory => "a file belongs here: name a file, or move the folder away",
        _ => "make it a file that the service's user may read",
    };
    (format!("the file cannot be read: {error}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> ConfigSources {
        let mut sources = ConfigSources::default();
        sources.add(Origin::File("a.toml".into()), text.to_owned());
        sources
    }

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let sources = source("ä = 1\nöö = 2\n");
        let column = "ä = 1\nöö".len();
        let expected = Location::Text { file: "a.toml".into(), line: 2, column: 3 };
        assert_eq!(sources.location(Position::at(0, column)), expected);
    }

    #[test]
    fn the_end_of_a_text_has_a_place_too() {
        let expected = Location::Text { file: "a.toml".into(), line: 2, column: 1 };
        assert_eq!(source("a = 1\n").location(Position::at(0, 6)), expected);
    }
}
