//! Positions of keys and tables, for errors that are found after the merge.

use std::collections::HashMap;

use super::position::Position;

/// Position of every known key and table by path, including keys with rejected values.
#[derive(Default)]
pub(super) struct KeyPositions {
    positions: HashMap<String, Position>,
}

impl KeyPositions {
    /// Records a key. The last occurrence counts, as in the merge.
    pub(super) fn record_value(&mut self, path: String, position: Position) {
        self.positions.insert(path, position);
    }

    /// Records a table. The first occurrence counts.
    pub(super) fn record_table(&mut self, path: &str, position: Position) {
        if !self.positions.contains_key(path) {
            self.positions.insert(path.to_owned(), position);
        }
    }

    /// Position of `path`; `None` if no source contains it.
    pub(super) fn get(&self, path: &str) -> Option<Position> {
        self.positions.get(path).copied()
    }

    /// Position of `key` in `table`, else of the table, else of the main file.
    pub(super) fn nearest(&self, table: &str, key: &str) -> Position {
        let key = self.get(&join(table, key));
        key.or_else(|| self.get(table)).unwrap_or(Position::MAIN)
    }
}

/// Path of `key` in the table at `path`, in TOML notation.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let dot = if path.is_empty() { "" } else { "." };
    if !key.is_empty() && key.chars().all(bare) {
        format!("{path}{dot}{key}")
    } else {
        format!("{path}{dot}{key:?}")
    }
}
