//! What can be wrong with an inventory, and with a line of it. Nothing here holds any content.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::line_reader::{MAX_BYTES, MAX_LINE_BYTES};
use crate::secret::ValueFault;

/// How many bad lines are told one by one; a file of another kind has nothing but bad lines.
pub const MAX_DETAILED: usize = 20;

/// What is wrong with a line. Reads on after "line 7: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("it is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// Not text.
    #[error("it is not UTF-8 text")]
    NotUtf8,
    /// Not JSON, or cut off.
    #[error(
        "it is not JSON, from column {column} on; write {{\"name\": \"...\", \"token\": \"...\"}}"
    )]
    NotJson {
        /// The byte where it stops making sense, counted from 1.
        column: usize,
    },
    /// Something else than an object.
    #[error("it is no JSON object; write {{\"name\": \"...\", \"token\": \"...\"}}")]
    NotAnObject,
    /// A key that is neither `name` nor `token`; shown where it cannot be a secret.
    #[error("it has {}; known are `name` and `token`", key(.0.as_deref()))]
    UnknownKey(Option<Box<str>>),
    /// A key that is not there.
    #[error("it lacks `{0}`")]
    Lacks(&'static str),
    /// A key that is there twice.
    #[error("it has `{0}` twice")]
    Twice(&'static str),
    /// Another type than text.
    #[error("its `{0}` must be text in quotes")]
    NotText(&'static str),
    /// A name that cannot be one.
    #[error("it {0}")]
    Name(&'static str),
    /// A value that cannot be one.
    #[error("its `token` is no token: {0}")]
    Value(ValueFault),
    /// A name that an earlier line has.
    #[error("its name stands on line {line} already")]
    Duplicate {
        /// The earlier line.
        line: u32,
    },
}

fn key(key: Option<&str>) -> String {
    match key {
        Some(key) => format!("the unknown key `{key}`"),
        None => "an unknown key, which is not shown as it could be a secret".to_owned(),
    }
}

/// Where in an inventory something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryLocation {
    /// A line, counted from 1.
    Line(u32),
    /// A file of a folder, as text that can be printed.
    File(String),
}

impl fmt::Display for EntryLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::File(name) => write!(f, "file {name}"),
        }
    }
}

/// Something that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// Where.
    pub place: EntryLocation,
    /// Why.
    pub fault: LineError,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)
    }
}

/// What was skipped: the first of it, and how much in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadEntries {
    /// At most [`MAX_DETAILED`], in their order.
    pub first: Vec<BadEntry>,
    /// All of them, these included.
    pub count: u64,
}

impl BadEntries {
    /// Adds something that was skipped.
    pub fn add(&mut self, place: EntryLocation, fault: LineError) {
        self.count += 1;
        if self.first.len() < MAX_DETAILED {
            self.first.push(BadEntry { place, fault });
        }
    }

    /// Adds what else was found to be bad, each in its place.
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

/// Why an inventory could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// There is no such file or folder.
    #[error("{}: there is no such file or folder; put the inventory there", .0.display())]
    Missing(PathBuf),
    /// It may not be opened or read.
    #[error(
        "{}: it cannot be read ({error}); check that the service's user may read it and enter its folders",
        path.display()
    )]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A folder, a pipe, a socket or a device in the place of a file.
    #[error("{}: it is not a regular file; for a folder with a file for each token, write `dir`", .0.display())]
    NotAFile(PathBuf),
    /// Something else than a folder.
    #[error("{}: it is not a folder; for a file of JSON lines, write `file`", .0.display())]
    NotAFolder(PathBuf),
    /// Longer than [`MAX_BYTES`].
    #[error("{place}: it is longer than {MAX_BYTES} bytes")]
    TooLarge {
        /// The file, or the command's program.
        place: String,
    },
    /// It is `strict`, and not all of it is good.
    #[error("{place}: it is refused whole, as it is `strict` and {} of its lines are bad", .bad.count)]
    Refused {
        /// The file, or the command's program.
        place: String,
        /// What is bad.
        bad: BadEntries,
    },
    /// The command did not start.
    #[error("{program}: it cannot be started ({error}); check the path and that it is executable")]
    NotStarted {
        /// The program.
        program: String,
        /// What the system said.
        error: io::Error,
    },
    /// The command took too long and was killed.
    #[error("{program}: it did not end within {timeout:?} and was killed, and what it started too")]
    TimedOut {
        /// The program.
        program: String,
        /// What it was given.
        timeout: Duration,
    },
    /// The command failed; what it printed is not used.
    #[error("{program}: it failed ({how}); what it printed is not used")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status, its signal, or what the system said.
        how: String,
    },
    /// Whoever asked for it does not want it any more.
    #[error("it is not wanted any more")]
    Cancelled,
}

impl InventoryError {
    /// What makes a strict inventory unusable; nothing for any other fault.
    pub fn bad(&self) -> Option<&BadEntries> {
        match self {
            Self::Refused { bad, .. } => Some(bad),
            _ => None,
        }
    }
}
