//! JSON lines from a file or a stream.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hashbrown::HashTable;

use super::batch::{Batches, expected};
use super::json_line::parse;
use super::line_reader::{Line, LineReader};
use super::{
    DuplicatePolicy, EntryLocation, EntrySink, InventoryEntry, InventoryError, LineError,
    ReadSummary,
};
use crate::file::{FileStamp, open};
use crate::token_source::SourceWarning;

/// After this many tokens the average line length is known well enough.
const SAMPLE: u64 = 1_024;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads the JSON lines of the file at `path` and passes every valid one to `sink`. If `strict`,
/// entries are passed on only after all lines were found valid, and duplicate names are always
/// invalid.
///
/// # Errors
///
/// If the file cannot be opened or read to its end, or is strict and contains invalid lines. Unless
/// `strict`, entries before the error have been passed on.
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
    let file = open(path).map_err(unreadable)?;
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
    reading.changed = !FileStamp::from(&after).is_unwritten_since(&stamp);
    reading.stamp = Some(stamp);
    reading.warnings.extend(SourceWarning::of(path, before.mode()));
    Ok(reading)
}

/// Reads JSON lines from `reader` to its end like [`read_file`]; `place` is the name in error
/// messages.
///
/// Blank lines, a byte-order mark and carriage returns are ignored. The first line with a name
/// counts.
///
/// # Errors
///
/// As for [`read_file`].
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
/// assert_eq!(reading.bad.first[0].to_string(), "line 2: it has no `token`");
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

/// `size`: the size in bytes, as far as known, if duplicate names are invalid.
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
                        let (refresh, warnings) = (entry.refresh(), Vec::new());
                        let entry = InventoryEntry { name, value, refresh, warnings, line: number };
                        if sink(entry).is_break() {
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

/// The names so far and their lines. Stores a keyed 64-bit hash instead of the name, which takes a
/// quarter of the memory. Among a million names two have the same hash once in thirty million
/// reads; the second one is then reported as a duplicate.
#[derive(Default)]
struct SeenNames {
    keys: RandomState,
    lines: HashTable<(u64, u32)>,
}

impl SeenNames {
    /// Reserves memory at once, because a growing table is rebuilt each time.
    fn reserve(&mut self, count: u64) {
        let more = usize::try_from(count).unwrap_or(0).saturating_sub(self.lines.len());
        self.lines.reserve(more, |(known, _)| *known);
    }

    /// The earlier line with `name`; `None` if `line` is the first.
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
