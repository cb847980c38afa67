//! When what is known of lives is written anew, so that what was written before can go.
//!
//! Every check adds an entry, and none is ever changed. Once there are too many for the number
//! of tokens, a round begins: with every entry that a check adds, those of a few other tokens
//! are written again. When all have been, everything from before the round can go. So no page
//! is written at random, nothing is held for it in memory, and the work is where the checks
//! are. Pure: it counts, and never writes.

/// Entries for each token that a round is begun at: it writes one for each, so that half of
/// what is written is written anew.
const ENTRIES_A_TOKEN: u64 = 2;

/// Fewer entries are left alone: a few pages.
const FEW_ENTRIES: u64 = 1_000;

/// With so many tokens at the most, all are written anew at a start: a fifth of a megabyte.
const FEW_TOKENS: u64 = 5_000;

/// Tokens that are looked at in a round with each check: it is over before a quarter as many
/// entries have come on top, and a check never waits for more than microseconds.
const STEPS: u32 = 4;

/// Counts the entries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rolling {
    entries: u64,
    /// The entries from before the round that is under way.
    old: Option<u64>,
    /// Something has been lost: only a round makes it whole.
    wanting: bool,
}

/// What is to be done with an entry that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    Rest,
    /// A round begins with it.
    Begin,
    /// The round under way goes on.
    GoOn,
}

impl Rolling {
    /// With so many entries from earlier runs.
    pub(super) const fn new(entries: u64) -> Self {
        Self { entries, old: None, wanting: false }
    }

    /// An entry was added.
    pub(super) fn add(&mut self) {
        self.entries += 1;
    }

    /// What has gathered was lost, or what was written before.
    pub(super) fn lose(&mut self) {
        self.wanting = true;
        self.old = None;
    }

    /// What to do now that something was written, with so many tokens in all.
    pub(super) fn turn(&mut self, tokens: u64) -> Turn {
        if self.old.is_some() {
            Turn::GoOn
        } else if self.wanting || self.entries > FEW_ENTRIES.max(tokens * ENTRIES_A_TOKEN) {
            self.wanting = false;
            self.old = Some(self.entries);
            Turn::Begin
        } else {
            Turn::Rest
        }
    }

    /// Whether all of so many tokens are to be written anew at a start, at once: a daemon that is
    /// restarted more often than a round takes would never finish one.
    pub(super) fn begins_at_start(&mut self, tokens: u64) -> bool {
        let begins = tokens <= FEW_TOKENS && self.entries > tokens && self.old.is_none();
        if begins {
            self.old = Some(self.entries);
        }
        begins
    }

    /// All tokens have been written anew. Whether a round was under way.
    pub(super) fn end(&mut self) -> bool {
        let old = self.old.take();
        self.entries -= old.unwrap_or(0);
        old.is_some()
    }

    /// How many tokens are looked at with each check.
    pub(super) const fn steps() -> u32 {
        STEPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the entries of so many checks; in a round those of its steps too, and ends it when
    /// all are through. The most entries that there were, and how many were written in all.
    fn run(tokens: u64, checks: u64) -> (u64, u64) {
        let mut rolling = Rolling::new(0);
        let (mut most, mut written, mut cursor) = (0, 0, 0);
        for _ in 0..checks {
            rolling.add();
            written += 1;
            match rolling.turn(tokens) {
                Turn::Rest => {}
                Turn::Begin => cursor = 0,
                Turn::GoOn => {
                    for _ in 0..Rolling::steps() {
                        cursor += 1;
                        rolling.add();
                        written += 1;
                    }
                    if cursor >= tokens {
                        assert!(rolling.end());
                    }
                }
            }
            most = most.max(rolling.entries);
        }
        (most, written)
    }

    #[test]
    fn the_entries_stay_within_three_and_a_third_for_each_token() {
        let (most, _) = run(100_000, 2_000_000);
        assert!(most < 100_000 * 10 / 3, "{most}");
    }

    #[test]
    fn what_is_written_anew_is_about_as_much_as_what_the_checks_bring() {
        let (_, written) = run(100_000, 2_000_000);
        assert!((3_500_000..4_200_000).contains(&written), "{written}");
    }

    #[test]
    fn few_tokens_are_written_anew_at_a_start_if_there_are_outdated_entries() {
        for (entries, tokens, begins) in [(3, 3, false), (4, 3, true), (9_000, 5_001, false)] {
            assert_eq!(Rolling::new(entries).begins_at_start(tokens), begins);
        }
    }

    #[test]
    fn few_entries_are_left_alone() {
        let mut rolling = Rolling::new(FEW_ENTRIES);
        assert_eq!(rolling.turn(3), Turn::Rest);
        rolling.add();
        assert_eq!(rolling.turn(3), Turn::Begin);
    }

    #[test]
    fn what_was_lost_begins_a_round_and_ends_the_one_under_way() {
        let mut rolling = Rolling::new(FEW_ENTRIES + 1);
        assert_eq!([rolling.turn(3), rolling.turn(3)], [Turn::Begin, Turn::GoOn]);
        rolling.lose();
        assert!(!rolling.end(), "it does not count as whole");
        assert_eq!([rolling.turn(3), rolling.turn(3)], [Turn::Begin, Turn::GoOn]);
    }
}
