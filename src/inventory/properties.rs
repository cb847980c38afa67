//! Properties of how inventories are read, for arbitrary input. See `crate::fuzzing`.

use std::io::{self, Read};
use std::ops::ControlFlow;

use serde_json::Value;

use super::json_line::parse;
use super::line_reader::{Line, LineReader};
use super::{EntryLocation, read_lines};
use crate::secret::ValueRef;
use crate::settings::name_error;

/// Returns at most this many bytes for each read.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.1.min(buffer.len());
        self.0.read(&mut buffer[..most])
    }
}

/// For every `text`: it is cut into the same lines however it comes; each line is read as the
/// whole JSON parser reads it; an inventory is the sum of its lines; no error shows a value.
///
/// # Panics
///
/// If the property does not hold.
pub fn inventory(text: &[u8]) {
    let whole = lines(text, usize::MAX);
    for at_once in [1, 2, 7, 4_096] {
        assert_eq!(lines(text, at_once), whole, "{at_once} bytes at once");
    }
    for line in whole.iter().flatten() {
        check_line(line);
    }
    check_reading(text, &whole);
}

/// The lines of a text; `None` for one that is too long.
fn lines(text: &[u8], at_once: usize) -> Vec<Option<Vec<u8>>> {
    let mut lines = LineReader::new(Trickle(text, at_once));
    let mut all = Vec::new();
    while let Some((number, line)) = lines.next().expect("a slice can be read") {
        all.push(match line {
            Line::Text(text) => Some(text.to_vec()),
            Line::TooLong => None,
        });
        assert_eq!(number as usize, all.len());
    }
    assert_eq!(lines.used(), text.len() as u64);
    all
}

fn check_line(line: &[u8]) {
    let known = serde_json::from_slice::<Value>(line).ok();
    let known = known.as_ref().and_then(Value::as_object);
    match parse(line) {
        Ok(entry) => {
            let known = known.expect("a JSON object");
            let said = |key: &str| known[key].as_str().expect("a text");
            assert_eq!(known.len(), 2, "another key than `name` and `token`");
            assert_eq!(entry.name(), said("name"));
            assert_eq!(name_error(entry.name()), None);
            let value = ValueRef::parse(said("token")).expect("a value");
            assert_eq!(entry.value().expose(), value.expose());
        }
        Err(fault) => {
            let told = format!("{fault} {fault:?}");
            assert!(!told.contains(|c: char| c.is_control()), "{told:?}");
            let Some(known) = known else { return };
            // Of a key that stands twice the parser knows the last one only.
            let text = String::from_utf8_lossy(line);
            let once =
                text.matches("\"name\"").count() < 2 && text.matches("\"token\"").count() < 2;
            let name = known.get("name").and_then(Value::as_str);
            let value = known.get("token").and_then(Value::as_str).map(ValueRef::parse);
            if let (2, Some(name), Some(Ok(value)), true) = (known.len(), name, value, once) {
                let is_escaped = text.contains('\\');
                assert!(name_error(name).is_some() || is_escaped, "{told}: {text}");
                let shown = value.expose();
                assert!(shown.len() < 8 || !told.contains(shown), "the value is shown: {told}");
            }
        }
    }
}

fn check_reading(text: &[u8], lines: &[Option<Vec<u8>>]) {
    let (mut names, mut last) = (Vec::new(), 0);
    let reading = read_lines(text, "tokens.jsonl", false, &mut |listed| {
        assert!(listed.line > last, "line {} behind line {last}", listed.line);
        last = listed.line;
        names.push(listed.name.to_owned());
        ControlFlow::Continue(())
    });
    let reading = reading.expect("a slice can be read");
    assert_eq!(reading.good, names.len() as u64);
    let unique: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "a name twice");
    let is_blank = |(at, line): (usize, &Option<Vec<u8>>)| {
        let line = line.as_deref()?;
        let line = line.strip_prefix("\u{feff}".as_bytes()).filter(|_| at == 0).unwrap_or(line);
        line.trim_ascii().is_empty().then_some(())
    };
    let blank = lines.iter().enumerate().filter_map(is_blank).count();
    assert_eq!(reading.good + reading.bad.count, (lines.len() - blank) as u64);
    for bad in &reading.bad.first {
        assert!(matches!(bad.place, EntryLocation::Line(line) if (line as usize) <= lines.len()));
    }
    let mut strict = Vec::new();
    let read = read_lines(text, "tokens.jsonl", true, &mut |listed| {
        strict.push(listed.name.to_owned());
        ControlFlow::Continue(())
    });
    assert_eq!(read.is_ok(), reading.bad.count == 0, "strict: {read:?}");
    if read.is_ok() {
        assert_eq!(strict, names);
    } else {
        assert!(strict.is_empty(), "a strict inventory that is bad hands over nothing");
    }
}
