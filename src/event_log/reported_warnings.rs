//! Deduplicates warnings across reloads: a warning that was reported before is not repeated.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Hashes of the warnings of the current and the previous round.
#[derive(Debug, Default)]
pub struct ReportedWarnings {
    before: HashSet<u64>,
    now: HashSet<u64>,
}

impl ReportedWarnings {
    /// Begins a round, in which all warnings are added again. A warning that is missing from a round
    /// counts as new when it recurs later.
    pub fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Forgets all warnings.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds a warning. Returns whether it is in neither this round nor the previous one.
    pub fn add(&mut self, warning: impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        warning.hash(&mut hasher);
        let hash = hasher.finish();
        self.now.insert(hash) && !self.before.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_new_once_and_again_after_a_round_without_it() {
        let mut reported = ReportedWarnings::default();
        let mut round = |warnings: &[&str]| -> Vec<bool> {
            reported.begin();
            warnings.iter().map(|warning| reported.add(warning)).collect()
        };
        assert_eq!(round(&["one", "one", "two"]), [true, false, true]);
        assert_eq!(round(&["two", "three"]), [false, true]);
        assert_eq!(round(&["one", "three"]), [true, false]);
        reported.clear();
        assert!(reported.add("three"));
    }
}
