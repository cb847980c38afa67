//! Inventories: tokens by the thousand, from JSON lines or from a folder with a file for each.
//!
//! Owns how they are read: as a stream, with one buffer of text at a time, each value put
//! straight into a type that hides it. What is bad is told by its place and its fault, never
//! by its content. What becomes of a token that is in an inventory, or no longer, is not
//! decided here. Everything here blocks on the file system, but for [`read_command`].

mod batch;
mod command;
mod directory;
mod error;
mod file;
mod json_line;
mod line_reader;

pub use batch::{Batch, Batches};
pub use command::read_command;
pub use directory::{is_ignored, read_directory, read_names};
pub use error::{BadEntries, BadEntry, EntryLocation, InventoryError, LineError, MAX_DETAILED};
pub use file::{FileStamp, read_file, read_lines};
pub use line_reader::{MAX_BYTES, MAX_LINE_BYTES};

use std::ops::ControlFlow;

use crate::secret::ValueRef;
use crate::token_file::{SourceFault, SourceWarning};

/// One token of an inventory.
#[derive(Debug)]
pub struct InventoryEntry<'a> {
    /// Its name, under the rules of [`crate::settings::name_fault`].
    pub name: &'a str,
    /// Its value; in a folder, a file may hold none.
    pub value: Result<ValueRef<'a>, SourceFault>,
    /// What should be mended all the same.
    pub warnings: Vec<SourceWarning>,
    /// The line that it stands on, counted from 1; 0 in a folder.
    pub line: u32,
}

/// What becomes of a line whose name an earlier one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicatePolicy {
    /// It is bad. For that, a hash of every name is kept while the file is read.
    Reject,
    /// It is handed over as well: whoever takes it knows by himself what he has.
    PassOn,
}

/// Takes what is read, one token after the other, until it has enough.
pub type EntrySink<'a> = &'a mut dyn FnMut(InventoryEntry<'_>) -> ControlFlow<()>;

/// What became of reading an inventory to its end.
#[derive(Debug, Default)]
pub struct ReadSummary {
    /// Tokens that were handed over.
    pub good: u64,
    /// What was skipped.
    pub bad: BadEntries,
    /// What should be mended all the same.
    pub warnings: Vec<SourceWarning>,
    /// What the file was like before it was read; `None` for a folder or a stream.
    pub stamp: Option<FileStamp>,
    /// Whether the file was written to while it was read, so that a part may be missing. One
    /// that was replaced meanwhile was not: what was opened is read to its end.
    pub changed: bool,
}
