//! The sources of the configuration: the texts of files, and environment variables.
//!
//! Converts a [`Position`] to a [`Location`] that people can read. Does not parse the texts.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::excerpt::Excerpt;
use super::finding::Location;
use super::position::Position;

enum Origin {
    File(PathBuf),
    Variable(String),
}

struct ConfigSource {
    origin: Origin,
    text: String,
    line_starts: OnceCell<Vec<usize>>,
}

/// All sources. Later sources win.
#[derive(Default)]
pub(super) struct ConfigSources {
    list: Vec<ConfigSource>,
    read: Vec<usize>,
}

impl ConfigSources {
    /// Adds the file at `path`, without its text.
    pub(super) fn add_file(&mut self, path: PathBuf) -> Position {
        self.add(Origin::File(path))
    }

    /// Sets the text of the file at `position`, so that locations in it have lines.
    pub(super) fn set_text(&mut self, position: Position, text: String) {
        self.list[position.source].text = text;
    }

    /// Marks the file at `position` as read completely: [`Self::texts`] has its text.
    pub(super) fn mark_read(&mut self, position: Position) {
        self.read.push(position.source);
    }

    fn add(&mut self, origin: Origin) -> Position {
        let (text, line_starts) = (String::new(), OnceCell::new());
        self.list.push(ConfigSource { origin, text, line_starts });
        Position::whole(self.list.len() - 1)
    }

    /// Adds an environment variable and returns its position.
    pub(super) fn add_variable(&mut self, name: &str) -> Position {
        self.add(Origin::Variable(name.to_owned()))
    }

    /// Texts of the files that were read, with their source numbers.
    pub(super) fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        self.read.iter().map(|&source| (source, self.list[source].text.as_str()))
    }

    /// Paths of the files that were read.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let file = |&source: &usize| match &self.list[source].origin {
            Origin::File(path) => Some(path.clone()),
            Origin::Variable(_) => None,
        };
        self.read.iter().filter_map(file).collect()
    }

    /// `position` for people: file, line and column, or the name of a variable.
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

    /// The line at `position`, with possible secrets masked. `is_key`: a key or table name begins
    /// there.
    pub(super) fn excerpt(&self, position: Position, is_key: bool) -> Option<Excerpt> {
        let before =
            position.offset? - self.list[position.source].line_starts()[self.line(position) - 1];
        Some(Excerpt::of(self.line_text(position), before, is_key))
    }

    /// Line number of `position`, from 1.
    pub(super) fn line(&self, position: Position) -> usize {
        self.list[position.source].line_and_column(position.offset.unwrap_or(0)).0
    }

    /// Text of the line at `position`.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> ConfigSources {
        let mut sources = ConfigSources::default();
        let position = sources.add_file("a.toml".into());
        sources.set_text(position, text.to_owned());
        sources
    }

    #[test]
    fn lines_and_columns_count_from_one() {
        let sources = source("ä = 1\nöö = 2\n");
        let column = "ä = 1\nöö".len();
        let expected = Location::Text { file: "a.toml".into(), line: 2, column: 3 };
        assert_eq!(sources.location(Position::at(0, column)), expected);
    }

    #[test]
    fn end_of_a_text_has_a_location() {
        let expected = Location::Text { file: "a.toml".into(), line: 2, column: 1 };
        assert_eq!(source("a = 1\n").location(Position::at(0, 6)), expected);
    }
}
