//! Search by name: a pattern, compiled so that a name that does not match costs about a nanosecond.
//!
//! Most names are rejected by two comparisons of integers, which are shared by all filters of a
//! scan: the ends of the name, and a Bloom filter of its pairs of bytes. What is left is compared
//! as text.

use memchr::{memchr, memmem::Finder};

use crate::settings::NamePattern;

/// A name as filters read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SearchedName<'a> {
    name: &'a [u8],
    first: u64,
    last: u64,
    pairs: u64,
}

/// A compiled [`NamePattern`]: matches the same names.
#[derive(Debug)]
pub(super) struct NameFilter {
    pattern: NamePattern,
    /// The literal text before the first wildcard and after the last one.
    first: End,
    last: End,
    /// Pairs of bytes that each matching name contains.
    pairs: u64,
    /// Bytes of the shortest matching name.
    least: usize,
    rest: Rest,
}

/// The end of a name as an integer: up to eight bytes.
#[derive(Debug, Clone, Copy)]
struct End {
    mask: u64,
    value: u64,
}

/// What decides about a name that passed the integer comparisons.
#[derive(Debug)]
enum Rest {
    /// Nothing: the integer comparisons are exact for this pattern.
    Nothing,
    /// The pieces between the `*`s, in order: the first at the start, the last at the end.
    Pieces { first: Box<[u8]>, middle: Box<[Finder<'static>]>, last: Box<[u8]> },
    /// The pattern.
    Pattern,
}

impl<'a> SearchedName<'a> {
    /// `with_pairs`: whether a filter [reads pairs](NameFilter::reads_pairs).
    pub(super) fn new(name: &'a [u8], with_pairs: bool) -> Self {
        let pairs = if with_pairs { pairs(name) } else { u64::MAX };
        Self { name, first: first(name), last: last(name), pairs }
    }
}

impl NameFilter {
    pub(super) fn new(pattern: NamePattern) -> Self {
        let text = pattern.as_str();
        let mut pieces: Vec<_> = text.split(['*', '?', '[']).collect();
        // After a `[`, a wildcard may be a character. A `/` after `**` may not be in the name.
        let is_plain = !text.contains('[') && !text.contains("**");
        if !is_plain {
            pieces.truncate(1);
            pieces.push("");
        }
        let (prefix, suffix) = (pieces[0], pieces[pieces.len() - 1]);
        let is_one_name = pieces.len() == 1;
        let least = if is_one_name { text.len() } else { prefix.len() + suffix.len() };
        let middle = pieces.iter().take(pieces.len() - 1).skip(1).filter(|piece| !piece.is_empty());
        let pairs = middle.clone().fold(0, |all, piece| all | pairs(piece.as_bytes()));
        let middle: Box<_> = middle.map(|piece| Finder::new(piece).into_owned()).collect();
        let (first, last) = (End::first(prefix.as_bytes()), End::last(suffix.as_bytes()));
        let is_short = prefix.len().max(suffix.len()) <= size_of::<u64>();
        let rest = if is_one_name || !is_plain || text.contains('?') {
            Rest::Pattern
        } else if middle.is_empty() && is_short {
            Rest::Nothing
        } else {
            Rest::Pieces { first: prefix.as_bytes().into(), middle, last: suffix.as_bytes().into() }
        };
        Self { pattern, first, last, pairs, least, rest }
    }

    /// Whether it compares pairs of bytes.
    pub(super) const fn reads_pairs(&self) -> bool {
        self.pairs != 0
    }

    /// Whether the pattern matches `name`. Adds the time to `work`, in nanoseconds at a rough
    /// estimate.
    pub(super) fn matches(&self, name: &SearchedName<'_>, work: &mut usize) -> bool {
        *work += 1;
        name.name.len() >= self.least
            && self.first.matches(name.first)
            && self.last.matches(name.last)
            && name.pairs & self.pairs == self.pairs
            && self.decide(name.name, work)
    }

    fn decide(&self, name: &[u8], work: &mut usize) -> bool {
        match &self.rest {
            Rest::Nothing => true,
            Rest::Pieces { first, middle, last } => {
                *work += PIECE * middle.len() + name.len();
                let between = name.strip_prefix(&**first).and_then(|it| it.strip_suffix(&**last));
                let Some(mut left) = between else { return false };
                middle.iter().all(|piece| {
                    let found = match piece.needle() {
                        [byte] => memchr(*byte, left),
                        _ => piece.find(left),
                    };
                    left = found.map_or(&[], |at| &left[at + piece.needle().len()..]);
                    found.is_some()
                })
            }
            Rest::Pattern => {
                *work += self.pattern.as_str().len() * name.len();
                str::from_utf8(name).is_ok_and(|name| self.pattern.matches(name))
            }
        }
    }
}

/// Nanoseconds to search a short name for a piece.
const PIECE: usize = 16;

impl End {
    fn first(text: &[u8]) -> Self {
        Self { mask: mask(text.len()), value: first(text) }
    }

    fn last(text: &[u8]) -> Self {
        Self { mask: mask(text.len()), value: last(text) }
    }

    const fn matches(self, end: u64) -> bool {
        end & self.mask == self.value
    }
}

/// The first eight bytes, the first one lowest.
fn first(text: &[u8]) -> u64 {
    text.first_chunk().map_or_else(|| packed(text.iter().rev()), |end| u64::from_le_bytes(*end))
}

/// The last eight bytes, the last one lowest.
fn last(text: &[u8]) -> u64 {
    text.last_chunk().map_or_else(|| packed(text.iter()), |end| u64::from_be_bytes(*end))
}

/// Less than eight bytes, the last one lowest.
fn packed<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// The bits of this number of bytes, eight at most.
const fn mask(bytes: usize) -> u64 {
    if bytes >= size_of::<u64>() { u64::MAX } else { (1 << (8 * bytes)) - 1 }
}

/// A Bloom filter of the pairs of neighbouring bytes.
fn pairs(text: &[u8]) -> u64 {
    let hash = |pair: &[u8]| (pair[0] ^ pair[1] << 3) & 63;
    text.windows(2).fold(0, |all, pair| all | 1 << hash(pair))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let filter = NameFilter::new(NamePattern::parse(pattern).unwrap());
        [true, false]
            .map(|pairs| filter.matches(&SearchedName::new(name.as_bytes(), pairs), &mut 0))
            == [true; 2]
    }

    #[test]
    fn wildcards_match_any_text_and_any_character() {
        for pattern in [
            "quotes-eu-17",
            "*",
            "quotes*",
            "*17",
            "quotes-*-17",
            "quotes-e*",
            "*quotes-eu-17*",
            "*-eu-*",
            "q*-*-*7",
            "*e*e*",
            "quotes-eu-1?",
            "*-??-*",
            "[pq]uotes-*",
            "*7*",
            "*u-*1*",
        ] {
            assert!(matches(pattern, "quotes-eu-17"), "{pattern}");
        }
        for pattern in [
            "quotes-eu-1",
            "quotes-eu-177",
            "*18",
            "quotez*",
            "*-eu-eu-*",
            "*eu-17-*",
            "quotes-eu-17*7",
            "*e*e*e*",
            "quotes-eu-17?",
            "*8*",
            "*1*u*",
            "[!q]*",
            "quotes-eu-*eu-17",
            "",
        ] {
            assert!(!matches(pattern, "quotes-eu-17"), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn filter_matches_what_its_pattern_matches(
            pattern in "[ab/ä*?\\[\\]!-]{0,12}", tail in "[ab]{0,10}", name in "[ab/äb]{0,12}[ab]{0,10}",
        ) {
            for text in [format!("{pattern}{tail}"), format!("{tail}{pattern}"), pattern] {
                let Ok(parsed) = NamePattern::parse(&text) else { continue };
                prop_assert_eq!(matches(&text, &name), parsed.matches(&name), "{} {}", text, name);
                let literal = name.replace(['a', 'ä'], "*");
                let starred = NamePattern::parse(&literal).unwrap();
                prop_assert_eq!(matches(&literal, &name), starred.matches(&name), "{}", literal);
            }
        }
    }

    #[test]
    fn slow_patterns_are_counted_as_more_work() {
        let work = |pattern: &str| {
            let (filter, mut work) = (NameFilter::new(NamePattern::parse(pattern).unwrap()), 0);
            filter.matches(&SearchedName::new("a".repeat(200).as_bytes(), true), &mut work);
            work
        };
        assert_eq!(work("*b"), 1);
        assert!(work(&format!("*[{}]", "b".repeat(250))) > 40_000);
    }
}
