//! Inventories: thousands of tokens from JSON lines, a command, or a directory with one file per
//! token.
//!
//! Reads them as a stream with one buffer, and puts each value directly into a type that hides it.
//! Errors name a location and a reason, never any content. What follows for the tokens is decided
//! elsewhere. Everything except [`read_command`] blocks on the file system.

mod batch;
mod command;
mod directory;
mod error;
mod file;
mod json_line;
mod line_reader;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

pub use crate::file::FileStamp;
pub use batch::{Batch, Batches};
pub use command::read_command;
pub use directory::{is_ignored, read_directory, read_names};
pub use error::{BadEntries, BadEntry, EntryLocation, InventoryError, LineError, MAX_DETAILED};
pub use file::{read_file, read_lines};
pub use line_reader::{MAX_BYTES, MAX_LINE_BYTES};

use std::ops::ControlFlow;

use crate::secret::ValueRef;
use crate::token_source::{SourceError, SourceWarning};

/// One token of an inventory.
#[derive(Debug)]
pub struct InventoryEntry<'a> {
    /// Its name, which follows the rules of [`crate::settings::name_error`].
    pub name: &'a str,
    /// Its value; a file of a directory may contain none.
    pub value: Result<ValueRef<'a>, SourceError>,
    /// Its refresh token, if its line contains one.
    pub refresh: Option<ValueRef<'a>>,
    /// Problems that do not prevent its use.
    pub warnings: Vec<SourceWarning>,
    /// Its line, counted from 1; 0 in a directory.
    pub line: u32,
}

/// How a name is handled that an earlier line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicatePolicy {
    /// As invalid. This stores a hash of every name while the file is read.
    Reject,
    /// The entry is passed on; the receiver detects duplicates.
    PassOn,
}

/// Receives entries one after the other, and may cancel.
pub type EntrySink<'a> = &'a mut dyn FnMut(InventoryEntry<'_>) -> ControlFlow<()>;

/// Summary of a complete read.
#[derive(Debug, Default)]
pub struct ReadSummary {
    /// Entries that were passed on.
    pub good: u64,
    /// Entries that were skipped.
    pub bad: BadEntries,
    /// Problems that do not prevent its use.
    pub warnings: Vec<SourceWarning>,
    /// The state of the file before the read; `None` for a directory or a stream.
    pub stamp: Option<FileStamp>,
    /// Whether the file was written to during the read, so that a part may be missing. A file that
    /// was replaced meanwhile does not count: the opened one was read to its end.
    pub changed: bool,
}
