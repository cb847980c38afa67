//! Batch of inventory entries in one allocation.
//!
//! Two allocations per thousand tokens instead of two per token. The buffer never grows, so that no
//! copy of a value is left behind, and it is cleared on drop.

use std::ops::ControlFlow;

use zeroize::Zeroizing;

use super::{EntrySink, InventoryEntry};
use crate::secret::{MAX_VALUE_BYTES, ValueRef};
use crate::token_source::{SourceError, SourceWarning};

/// Size of the text in bytes: about a thousand tokens, which take a millisecond to process.
const ROOM: usize = 64 * 1024;

/// Minimum bytes of a JSON line besides name and value. An estimate that is too low would move all
/// tokens.
const JSON_OVERHEAD: u64 = 23;

/// The longest file name.
const LONGEST_NAME: usize = 255;

/// Entries of an inventory.
pub struct Batch {
    text: Zeroizing<String>,
    tokens: Vec<BatchEntry>,
    /// Entries without a value or with warnings.
    others: Vec<Result<Vec<SourceWarning>, SourceError>>,
}

/// An entry. Its name follows the text of the previous entry, then its value, then its refresh token.
#[derive(Clone, Copy)]
struct BatchEntry {
    line: u32,
    name: u16,
    value: u16,
    refresh: u16,
    is_other: bool,
}

impl Default for Batch {
    fn default() -> Self {
        let text = Zeroizing::new(String::with_capacity(ROOM));
        Self { text, tokens: Vec::new(), others: Vec::new() }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

impl Batch {
    /// Adds an entry.
    ///
    /// # Panics
    ///
    /// If the batch is full.
    pub fn add(&mut self, listed: InventoryEntry<'_>) {
        assert!(!self.is_full());
        let InventoryEntry { name, value, refresh, warnings, line } = listed;
        let text = value.as_ref().map_or("", |value| value.expose());
        self.text.push_str(name);
        let refresh = refresh.map_or("", ValueRef::expose);
        self.text.push_str(text);
        self.text.push_str(refresh);
        let other = match value {
            Err(fault) => Some(Err(fault)),
            Ok(_) => (!warnings.is_empty()).then_some(Ok(warnings)),
        };
        let is_other = other.is_some();
        self.others.extend(other);
        let short = |text: &str| u16::try_from(text.len()).unwrap_or(u16::MAX);
        let (name, value, refresh) = (short(name), short(text), short(refresh));
        self.tokens.push(BatchEntry { line, name, value, refresh, is_other });
    }

    /// Whether another entry might not fit.
    pub fn is_full(&self) -> bool {
        self.text.len() + LONGEST_NAME + 2 * MAX_VALUE_BYTES > ROOM
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let mut at = 0;
        self.tokens.iter().map(move |row| {
            let name = &self.text[at..at + usize::from(row.name)];
            at += name.len() + usize::from(row.value) + usize::from(row.refresh);
            name
        })
    }

    /// Estimates the number of tokens in a file of JSON lines of that size.
    pub fn estimate(&self, file_bytes: u64) -> u64 {
        let tokens = self.tokens.len() as u64;
        expected(tokens, self.text.len() as u64 + tokens * JSON_OVERHEAD, file_bytes)
    }

    /// Passes every entry to `sink`, in order.
    pub fn pass_on(mut self, sink: EntrySink<'_>) -> ControlFlow<()> {
        let (mut at, mut others) = (0, self.others.drain(..));
        self.tokens.iter().try_for_each(|row| {
            let value_at = at + usize::from(row.name);
            let refresh_at = value_at + usize::from(row.value);
            let end = refresh_at + usize::from(row.refresh);
            let (name, value) = (&self.text[at..value_at], &self.text[value_at..refresh_at]);
            let refresh = &self.text[refresh_at..end];
            let refresh = (!refresh.is_empty()).then(|| ValueRef::from_parsed(refresh));
            at = end;
            let other = if row.is_other { others.next() } else { None };
            let (value, warnings) = match other.unwrap_or(Ok(Vec::new())) {
                Ok(warnings) => (Ok(ValueRef::from_parsed(value)), warnings),
                Err(fault) => (Err(fault), Vec::new()),
            };
            sink(InventoryEntry { name, value, refresh, warnings, line: row.line })
        })
    }
}

/// Any number of entries.
#[derive(Debug, Default)]
pub struct Batches(Vec<Batch>);

impl Batches {
    /// Adds an entry.
    pub fn add(&mut self, listed: InventoryEntry<'_>) {
        match self.0.last_mut() {
            Some(batch) if !batch.is_full() => batch.add(listed),
            Some(_) | None => {
                let mut batch = Batch::default();
                batch.add(listed);
                self.0.push(batch);
            }
        }
    }

    pub(super) fn pass_on(self, sink: EntrySink<'_>) -> ControlFlow<()> {
        self.0.into_iter().try_for_each(|batch| batch.pass_on(sink))
    }
}

impl IntoIterator for Batches {
    type Item = Batch;
    type IntoIter = std::vec::IntoIter<Batch>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Estimates the number of tokens in `size` bytes if `used` bytes contain `tokens`.
pub(super) fn expected(tokens: u64, used: u64, size: u64) -> u64 {
    let product = u128::from(tokens) * u128::from(size) / u128::from(used.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_source::SourceErrorKind;

    #[test]
    fn batches_return_their_entries_unchanged_and_in_order() {
        let value = "v".repeat(MAX_VALUE_BYTES);
        let mut bundles = Batches::default();
        for line in 0..100 {
            let name = format!("t{line}");
            let value = match line % 3 {
                0 => Ok(ValueRef::from_parsed(&value)),
                1 => Ok(ValueRef::from_parsed("short")),
                _ => Err(SourceError {
                    location: "x".into(),
                    kind: SourceErrorKind::Empty,
                    hint: "".into(),
                }),
            };
            let warning = SourceWarning::OpenToAll { path: "x".into(), mode: line };
            let warnings = if line % 5 == 0 { vec![warning] } else { Vec::new() };
            let refresh = (line % 2 == 0).then(|| ValueRef::from_parsed("refresh"));
            bundles.add(InventoryEntry { name: &name, value, refresh, warnings, line });
        }
        let mut line = 0;
        let _ = bundles.pass_on(&mut |listed| {
            assert_eq!((listed.name, listed.line), (&*format!("t{line}"), line));
            match line % 3 {
                0 => assert_eq!(listed.value.unwrap().expose(), value),
                1 => assert_eq!(listed.value.unwrap().expose(), "short"),
                _ => assert!(listed.value.is_err()),
            }
            let refresh = listed.refresh.map(ValueRef::expose);
            assert_eq!(refresh, (line % 2 == 0).then_some("refresh"));
            assert_eq!(listed.warnings.len(), usize::from(line % 5 == 0 && line % 3 != 2));
            line += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(line, 100);
    }

    #[test]
    fn batch_estimates_the_number_of_tokens_in_a_file() {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        for line in 0..500 {
            let name = format!("t{line}");
            bytes += format!("{{\"name\": \"{name}\", \"token\": \"abc-123\"}}\n").len() as u64;
            let value = Ok(ValueRef::from_parsed("abc-123"));
            let (refresh, warnings) = (None, Vec::new());
            batch.add(InventoryEntry { name: &name, value, refresh, warnings, line });
        }
        assert!(
            (1_000..=1_120).contains(&batch.estimate(2 * bytes)),
            "{}",
            batch.estimate(2 * bytes)
        );
    }

    #[test]
    fn debug_output_of_a_batch_contains_no_value() {
        let mut batch = Batch::default();
        let value = Ok(ValueRef::from_parsed("S3CR3T"));
        let refresh = Some(ValueRef::from_parsed("S3CR3T"));
        batch.add(InventoryEntry { name: "a", value, refresh, warnings: Vec::new(), line: 1 });
        assert!(!format!("{batch:?}").contains("S3CR3T"));
    }
}
