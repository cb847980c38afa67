//! JSON lines, from a file or from a stream.

use std::collections::hash_map::RandomState;
use std::fs::{File, Metadata};
use std::hash::BuildHasher as _;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use hashbrown::HashTable;
use rustix::fs::OFlags;

use super::batch::Batches;
use super::json_line::parse;
use super::line_reader::{Line, LineReader};
use super::{
    DuplicatePolicy, EntryLocation, EntrySink, InventoryEntry, InventoryError, LineError,
    ReadSummary,
};
use crate::token_file::SourceWarning;

/// After so many tokens it is known well enough how long a line is.
const SAMPLE: u64 = 1_024;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileStamp {
    /// The stamp of the file at `path` now; `None` if there is none to be seen.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::from)
    }
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Reads the JSON lines of the file at `path`, and hands every good one to `sink`; with
/// `strict`, only once all of them were found good: names that repeat are always bad then.
///
/// # Errors
///
/// When the file cannot be opened or read to its end, or is strict and not good. Without
/// `strict`, what came before the fault has been handed over.
pub fn read_file(
    path: &Path,
    strict: bool,
    repeats: DuplicatePolicy,
    sink: EntrySink<'_>,
) -> Result<ReadSummary, InventoryError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => InventoryError::Missing(path.to_owned()),
        _ => InventoryError::Unreadable { path: path.to_owned(), error },
    };
    // Without NONBLOCK, opening a pipe would wait for somebody to write to it.
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let before = file.metadata().map_err(unreadable)?;
    if !before.is_file() {
        return Err(InventoryError::NotAFile(path.to_owned()));
    }
    let stamp = FileStamp::from(&before);
    let place = path.display().to_string();
    let mut reading = if strict || repeats == DuplicatePolicy::Reject {
        read(&file, &place, Some(before.len()), strict, sink)?
    } else {
        scan(&file, &place, None, sink)?
    };
    let after = file.metadata().map_err(unreadable)?;
    reading.changed = FileStamp::from(&after) != stamp;
    reading.stamp = Some(stamp);
    reading.warnings.extend(SourceWarning::of(path, before.mode()));
    Ok(reading)
}

/// Reads JSON lines from `reader` to its end, in the way of [`read_file`]; `place` is what it
/// is called in faults.
///
/// Blank lines are passed by, and so are a byte-order mark and carriage returns. A name counts
/// where it stands first.
///
/// # Errors
///
/// As [`read_file`].
///
/// ```
/// use std::ops::ControlFlow;
/// use tokenkeep::inventory::read_lines;
///
/// let text = "{\"name\": \"quotes\", \"token\": \"abc-123\"}\n{\"name\": \"orders\"}\n";
/// let mut names = Vec::new();
/// let reading = read_lines(text.as_bytes(), "tokens.jsonl", false, &mut |listed| {
///     names.push(listed.name.to_owned());
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!((&*names[0], reading.good, reading.bad.count), ("quotes", 1, 1));
/// assert_eq!(reading.bad.first[0].to_string(), "line 2: it lacks `token`");
/// # Ok::<(), tokenkeep::inventory::InventoryError>(())
/// ```
pub fn read_lines(
    reader: impl Read,
    place: &str,
    strict: bool,
    sink: EntrySink<'_>,
) -> Result<ReadSummary, InventoryError> {
    read(reader, place, Some(0), strict, sink)
}

fn read(
    reader: impl Read,
    place: &str,
    size: Option<u64>,
    strict: bool,
    sink: EntrySink<'_>,
) -> Result<ReadSummary, InventoryError> {
    if !strict {
        return scan(reader, place, size, sink);
    }
    let mut held = Batches::default();
    let reading = scan(reader, place, size, &mut |listed| {
        held.add(listed);
        ControlFlow::Continue(())
    })?;
    if reading.bad.count > 0 {
        return Err(InventoryError::Refused { place: place.to_owned(), bad: reading.bad });
    }
    match held.pass_on(sink) {
        ControlFlow::Continue(()) => Ok(reading),
        ControlFlow::Break(()) => Err(InventoryError::Cancelled),
    }
}

/// `size`: how many bytes there are, as far as that is known, where names that repeat are bad.
fn scan(
    reader: impl Read,
    place: &str,
    size: Option<u64>,
    sink: EntrySink<'_>,
) -> Result<ReadSummary, InventoryError> {
    let mut lines = LineReader::new(reader);
    let mut reading = ReadSummary::default();
    let mut names = size.map(|_| SeenNames::default());
    loop {
        if reading.good == SAMPLE
            && let (Some(size), Some(names)) = (size, &mut names)
        {
            names.reserve(expected(SAMPLE, lines.used(), size));
        }
        let next = lines
            .next()
            .map_err(|error| InventoryError::Unreadable { path: place.into(), error })?;
        let Some((number, line)) = next else { break };
        let parsed = match line {
            Line::Text(text) => {
                let text =
                    text.strip_prefix(BYTE_ORDER_MARK).filter(|_| number == 1).unwrap_or(text);
                if text.trim_ascii().is_empty() {
                    continue;
                }
                parse(text)
            }
            Line::TooLong => Err(LineError::TooLong),
        };
        let fault = match parsed {
            Ok(entry) => {
                match names.as_mut().and_then(|names| names.first_line_of(entry.name(), number)) {
                    None => {
                        reading.good += 1;
                        let (name, value) = (entry.name(), Ok(entry.value()));
                        if sink(InventoryEntry { name, value, warnings: Vec::new(), line: number })
                            .is_break()
                        {
                            return Err(InventoryError::Cancelled);
                        }
                        continue;
                    }
                    Some(line) => LineError::Duplicate { line },
                }
            }
            Err(fault) => fault,
        };
        reading.bad.add(EntryLocation::Line(number), fault);
    }
    if lines.is_too_large() {
        return Err(InventoryError::TooLarge { place: place.to_owned() });
    }
    Ok(reading)
}

/// The names so far, with their lines: by a keyed hash of 64 bits rather than by themselves,
/// which takes a quarter of the memory. Among a million names two have the same hash once in
/// thirty million readings; the second of them is then called a duplicate.
#[derive(Default)]
struct SeenNames {
    keys: RandomState,
    lines: HashTable<(u64, u32)>,
}

/// How many tokens `size` bytes hold, if they are like those that the first `used` bytes held.
pub(super) fn expected(tokens: u64, used: u64, size: u64) -> u64 {
    let product = u128::from(tokens) * u128::from(size) / u128::from(used.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

impl SeenNames {
    /// Makes room for so many names: a table that grows is built anew each time.
    fn reserve(&mut self, count: u64) {
        let more = usize::try_from(count).unwrap_or(0).saturating_sub(self.lines.len());
        self.lines.reserve(more, |(known, _)| *known);
    }

    /// The line that has `name` already; `None` if it is `line`, from now on.
    fn first_line_of(&mut self, name: &str, line: u32) -> Option<u32> {
        let hash = self.keys.hash_one(name);
        match self.lines.entry(hash, |(known, _)| *known == hash, |(known, _)| *known) {
            hashbrown::hash_table::Entry::Occupied(known) => Some(known.get().1),
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert((hash, line));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
