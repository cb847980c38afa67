//! Inventories: tokens by the thousand, from JSON lines or from a folder with a file for each.
//!
//! Owns how they are read: as a stream, with one buffer of text at a time, each value put
//! straight into a type that hides it. What is bad is told by its place and its fault, never
//! by its content. What becomes of a token that is in an inventory, or no longer, is not
//! decided here. Everything here blocks on the file system, but for [`read_command`].

mod bundle;
mod fault;
mod feed;
mod folder;
mod line;
mod lines;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod read;

pub use crate::file::FileStamp;
pub use bundle::{Bundle, Bundles};
pub use fault::{Bad, BadLines, InventoryFault, LineFault, Place, TOLD_SINGLY};
pub use feed::read_command;
pub use folder::{is_passed_by, read_folder, read_names};
pub use lines::{MAX_BYTES, MAX_LINE_BYTES};
pub use read::{read_file, read_lines};

use std::ops::ControlFlow;

use crate::secret::ValueRef;
use crate::token_file::{SourceFault, SourceWarning};

/// One token of an inventory.
#[derive(Debug)]
pub struct Listed<'a> {
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
pub enum Repeats {
    /// It is bad. For that, a hash of every name is kept while the file is read.
    Bad,
    /// It is handed over as well: whoever takes it knows by himself what he has.
    HandedOver,
}

/// Takes what is read, one token after the other, until it has enough.
pub type Sink<'a> = &'a mut dyn FnMut(Listed<'_>) -> ControlFlow<()>;

/// What became of reading an inventory to its end.
#[derive(Debug, Default)]
pub struct Reading {
    /// Tokens that were handed over.
    pub good: u64,
    /// What was skipped.
    pub bad: BadLines,
    /// What should be mended all the same.
    pub warnings: Vec<SourceWarning>,
    /// What the file was like before it was read; `None` for a folder or a stream.
    pub stamp: Option<FileStamp>,
    /// Whether the file was written to while it was read, so that a part may be missing. One
    /// that was replaced meanwhile was not: what was opened is read to its end.
    pub changed: bool,
}
