//! The names that a reload has added, removed and changed.

/// Names of tokens, and of inventories as their tables are called.
#[derive(Debug, Default)]
pub(crate) struct ConfigDiff {
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) changed: Vec<String>,
}
