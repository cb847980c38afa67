//! Errors in an inventory or in one of its lines. They contain no content.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::line_reader::{MAX_BYTES, MAX_LINE_BYTES};
use crate::secret::TokenValueError;
use crate::settings::Inventory;
use crate::systemd::advice;
use crate::token_source::{DISK_TIMEOUT, sandbox_hint};

/// How many invalid lines are listed individually. A file of another format consists of invalid
/// lines.
pub const MAX_DETAILED: usize = 20;

/// Why a line is invalid. Continues "line 7: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("it is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    NotUtf8,
    /// Not JSON, or truncated.
    #[error(
        "it is not JSON, from column {column} on; write {{\"name\": \"...\", \"token\": \"...\"}}"
    )]
    NotJson {
        /// The byte of the syntax error, counted from 1.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("it is not a JSON object; write {{\"name\": \"...\", \"token\": \"...\"}}")]
    NotAnObject,
    /// A key other than `name` and `token`; shown only if it cannot be a secret.
    #[error("it has {}; the known keys are `name` and `token`", key(.0.as_deref()))]
    UnknownKey(Option<Box<str>>),
    /// A missing key.
    #[error("it has no `{0}`")]
    Lacks(&'static str),
    /// A duplicate key.
    #[error("it has `{0}` twice")]
    Twice(&'static str),
    /// Not a string.
    #[error("its `{0}` must be text in quotes")]
    NotText(&'static str),
    /// An invalid name.
    #[error("it {0}")]
    Name(&'static str),
    /// An invalid value.
    #[error("its `token` is not a token: {0}")]
    Value(TokenValueError),
    /// A name of an earlier line.
    #[error("its name is already used on line {line}")]
    Duplicate {
        /// The earlier line.
        line: u32,
    },
}

fn key(key: Option<&str>) -> String {
    match key {
        Some(key) => format!("the unknown key `{key}`"),
        None => "an unknown key (not shown because it may be a secret)".to_owned(),
    }
}

/// Location of an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryLocation {
    /// A line, counted from 1.
    Line(u32),
    /// A file of a directory, as printable text.
    File(String),
}

impl EntryLocation {
    /// The location in this inventory, with the path or program.
    pub fn within(&self, inventory: &Inventory) -> String {
        match self {
            Self::Line(line) => inventory.location("", *line),
            Self::File(name) => inventory.location(name, 0),
        }
    }
}

impl fmt::Display for EntryLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::File(name) => write!(f, "file {name}"),
        }
    }
}

/// An entry that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// Its location.
    pub place: EntryLocation,
    /// The error.
    pub fault: LineError,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)
    }
}

/// The skipped entries: the first ones, and their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadEntries {
    /// At most [`MAX_DETAILED`], in order.
    pub first: Vec<BadEntry>,
    /// Number of all of them, including the first.
    pub count: u64,
}

impl BadEntries {
    /// Adds a skipped entry.
    pub fn add(&mut self, place: EntryLocation, fault: LineError) {
        self.count += 1;
        if self.first.len() < MAX_DETAILED {
            self.first.push(BadEntry { place, fault });
        }
    }

    /// Adds other skipped entries in order.
    pub fn append(&mut self, others: Self) {
        self.count += others.count;
        self.first.extend(others.first);
        self.first.sort_by(|one, other| one.place.cmp(&other.place));
        self.first.truncate(MAX_DETAILED);
    }

    /// How many are not among the first.
    pub fn further(&self) -> u64 {
        self.count - self.first.len() as u64
    }
}

/// Why an inventory could not be read completely.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// No such file or directory.
    #[error(
        "{}: there is no such file or directory; create the inventory there{}",
        .0.display(),
        sandbox_hint(.0).unwrap_or_default()
    )]
    Missing(PathBuf),
    /// No permission to open or read it.
    #[error(
        "{}: it cannot be read ({error}); check that {} may read it and enter its folders{}",
        path.display(),
        advice("the service's user", "the user of this process"),
        sandbox_hint(path).unwrap_or_default()
    )]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Its disk did not respond in time.
    #[error(
        "{}: the disk did not respond within {} s; check the disk, or the server of a network file \
         system",
        .0.display(),
        DISK_TIMEOUT.as_secs()
    )]
    Unresponsive(PathBuf),
    /// A directory, pipe, socket or device instead of a file.
    #[error("{}: it is not a regular file; for a directory with a file for each token, use `dir`", .0.display())]
    NotAFile(PathBuf),
    /// Not a directory.
    #[error("{}: it is not a directory; for a file of JSON lines, use `file`", .0.display())]
    NotAFolder(PathBuf),
    /// Longer than [`MAX_BYTES`].
    #[error("{place}: it is longer than {MAX_BYTES} bytes")]
    TooLarge {
        /// The file, or the command's program.
        place: String,
    },
    /// It is `strict`, and contains invalid lines.
    #[error("{place}: the whole inventory is refused because `strict` is set and {} of its lines \
    are invalid", .bad.count)]
    Refused {
        /// The file, or the command's program.
        place: String,
        /// The invalid lines.
        bad: BadEntries,
    },
    /// The command did not start.
    #[error("{program}: it cannot be started ({error}); check the path and that it is executable")]
    NotStarted {
        /// The program.
        program: String,
        /// The system's error.
        error: io::Error,
    },
    /// The command timed out and was killed.
    #[error(
        "{program}: it was still running after {timeout:?} and was killed with its child \
    processes"
    )]
    TimedOut {
        /// The program.
        program: String,
        /// The time-out.
        timeout: Duration,
    },
    /// The command failed; its output is not used.
    #[error("{program}: it failed ({how}); its output is not used")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status, its signal, or the system's error.
        how: String,
    },
    /// The caller has cancelled.
    #[error("it is no longer needed")]
    Cancelled,
}

impl InventoryError {
    /// The invalid lines of a strict inventory; `None` for any other error.
    pub fn bad(&self) -> Option<&BadEntries> {
        match self {
            Self::Refused { bad, .. } => Some(bad),
            _ => None,
        }
    }
}
