//! Where each key stands, for faults that only the whole configuration shows.

use std::collections::HashMap;

use super::position::Position;

/// The place of every known key and table that was seen, a refused one too, by path.
#[derive(Default)]
pub(super) struct KeyPositions {
    positions: HashMap<String, Position>,
}

impl KeyPositions {
    /// Notes a value; the last one counts, as it does in the layers.
    pub(super) fn record_value(&mut self, path: String, position: Position) {
        self.positions.insert(path, position);
    }

    /// Notes a table; the first mention counts.
    pub(super) fn record_table(&mut self, path: &str, position: Position) {
        if !self.positions.contains_key(path) {
            self.positions.insert(path.to_owned(), position);
        }
    }

    /// Where `path` stands, if anywhere.
    pub(super) fn get(&self, path: &str) -> Option<Position> {
        self.positions.get(path).copied()
    }

    /// Where `key` of `table` stands; where it does not, the table; else the main file.
    pub(super) fn nearest(&self, table: &str, key: &str) -> Position {
        let key = self.get(&join(table, key));
        key.or_else(|| self.get(table)).unwrap_or(Position::MAIN)
    }
}

/// The path of `key` in the table at `path`, as it is written in TOML.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let dot = if path.is_empty() { "" } else { "." };
    if !key.is_empty() && key.chars().all(bare) {
        format!("{path}{dot}{key}")
    } else {
        format!("{path}{dot}{key:?}")
    }
}
