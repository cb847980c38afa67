//! Warnings that were given, so that a reload does not repeat them while nothing changed.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Two rounds of warnings, as hashes: this one and the one before.
#[derive(Debug, Default)]
pub struct ReportedWarnings {
    before: HashSet<u64>,
    now: HashSet<u64>,
}

impl ReportedWarnings {
    /// A round begins, in which everything is examined again: a warning that does not come up
    /// in it is new when it comes up later.
    pub fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Forgets everything: what comes next is new.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds a warning; whether it is new, in this round and the one before.
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
