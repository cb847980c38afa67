//! Positions of keys and tables, for errors that are found after the merge.

use std::collections::HashMap;

use super::position::Position;
pub(super) use crate::key_path::join;

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

    /// Position of the innermost known table, list or key that contains `path`, else of the main
    /// file.
    pub(super) fn innermost(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(position) = self.get(path) {
                return position;
            }
            let Some(end) = path.rfind(['.', '[']) else { return Position::MAIN };
            path = &path[..end];
        }
    }

    /// Position of `key` in `table`, else of the table, else of the main file.
    pub(super) fn nearest(&self, table: &str, key: &str) -> Position {
        let key = self.get(&join(table, key));
        key.or_else(|| self.get(table)).unwrap_or(Position::MAIN)
    }
}
