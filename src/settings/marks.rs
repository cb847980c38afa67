//! Where each key stands, for faults that only the whole configuration shows.

use std::collections::HashMap;

use super::source::Spot;

/// The place of every known key and table that was seen, a refused one too, by path.
#[derive(Default)]
pub(super) struct Marks {
    spots: HashMap<String, Spot>,
}

impl Marks {
    /// Notes a value; the last one counts, as it does in the layers.
    pub(super) fn value(&mut self, path: String, spot: Spot) {
        self.spots.insert(path, spot);
    }

    /// Notes a table; the first mention counts.
    pub(super) fn table(&mut self, path: &str, spot: Spot) {
        if !self.spots.contains_key(path) {
            self.spots.insert(path.to_owned(), spot);
        }
    }

    /// Where `path` stands, if anywhere.
    pub(super) fn get(&self, path: &str) -> Option<Spot> {
        self.spots.get(path).copied()
    }

    /// Where `key` of `table` stands; where it does not, the table; else the main file.
    pub(super) fn near(&self, table: &str, key: &str) -> Spot {
        let key = self.get(&join(table, key));
        key.or_else(|| self.get(table)).unwrap_or(Spot::MAIN)
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
