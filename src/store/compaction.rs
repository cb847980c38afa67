//! When what is known of lives is written anew, so that what was written before can go.
//!
//! Every check adds an entry, and none is ever changed. Once there are too many for the number
//! of tokens, a round begins: with every entry that a check adds, those of a few other tokens
//! are written again. When all have been, everything from before the round can go. So no page
//! is written at random, nothing is held for it in memory, and the work is where the checks
//! are. Pure: it counts, and never writes.

/// Entries for each token that a round is begun at: it writes one for each, so that half of
/// what is written is written anew.
const ENTRIES_PER_TOKEN: u64 = 2;

/// Fewer entries are left alone: a few pages.
const FEW_ENTRIES: u64 = 1_000;

/// With so many tokens at the most, all are written anew at a start: a fifth of a megabyte.
const FEW_TOKENS: u64 = 5_000;

/// Tokens that are looked at in a round with each check: it is over before a quarter as many
/// entries have come on top, and a check never waits for more than microseconds.
const STEPS: u32 = 4;

/// Counts the entries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Compaction {
    entries: u64,
    /// The entries from before the round that is under way.
    entries_before_pass: Option<u64>,
    /// Something has been lost: only a round makes it whole.
    is_incomplete: bool,
}

/// What is to be done with an entry that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompactionStep {
    /// Nothing.
    None,
    /// A round begins with it.
    Begin,
    /// The round under way goes on.
    Continue,
}

impl Compaction {
    /// With so many entries from earlier runs.
    pub(super) const fn new(entries: u64) -> Self {
        Self { entries, entries_before_pass: None, is_incomplete: false }
    }

    /// An entry was added.
    pub(super) fn add(&mut self) {
        self.entries += 1;
    }

    /// What has gathered was lost, or what was written before.
    pub(super) fn lose(&mut self) {
        self.is_incomplete = true;
        self.entries_before_pass = None;
    }

    /// What to do now that something was written, with so many tokens in all.
    pub(super) fn step(&mut self, tokens: u64) -> CompactionStep {
        if self.entries_before_pass.is_some() {
            CompactionStep::Continue
        } else if self.is_incomplete || self.entries > FEW_ENTRIES.max(tokens * ENTRIES_PER_TOKEN) {
            self.is_incomplete = false;
            self.entries_before_pass = Some(self.entries);
            CompactionStep::Begin
        } else {
            CompactionStep::None
        }
    }

    /// Whether all of so many tokens are to be written anew at a start, at once: a daemon that is
    /// restarted more often than a round takes would never finish one.
    pub(super) fn starts_at_open(&mut self, tokens: u64) -> bool {
        let begins =
            tokens <= FEW_TOKENS && self.entries > tokens && self.entries_before_pass.is_none();
        if begins {
            self.entries_before_pass = Some(self.entries);
        }
        begins
    }

    /// All tokens have been written anew. Whether a round was under way.
    pub(super) fn end(&mut self) -> bool {
        let entries_before_pass = self.entries_before_pass.take();
        self.entries -= entries_before_pass.unwrap_or(0);
        entries_before_pass.is_some()
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
        let mut compaction = Compaction::new(0);
        let (mut most, mut written, mut cursor) = (0, 0, 0);
        for _ in 0..checks {
            compaction.add();
            written += 1;
            match compaction.step(tokens) {
                CompactionStep::None => {}
                CompactionStep::Begin => cursor = 0,
                CompactionStep::Continue => {
                    for _ in 0..Compaction::steps() {
                        cursor += 1;
                        compaction.add();
                        written += 1;
                    }
                    if cursor >= tokens {
                        assert!(compaction.end());
                    }
                }
            }
            most = most.max(compaction.entries);
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
            assert_eq!(Compaction::new(entries).starts_at_open(tokens), begins);
        }
    }

    #[test]
    fn few_entries_are_left_alone() {
        let mut compaction = Compaction::new(FEW_ENTRIES);
        assert_eq!(compaction.step(3), CompactionStep::None);
        compaction.add();
        assert_eq!(compaction.step(3), CompactionStep::Begin);
    }

    #[test]
    fn what_was_lost_begins_a_round_and_ends_the_one_under_way() {
        let mut compaction = Compaction::new(FEW_ENTRIES + 1);
        assert_eq!(
            [compaction.step(3), compaction.step(3)],
            [CompactionStep::Begin, CompactionStep::Continue]
        );
        compaction.lose();
        assert!(!compaction.end(), "it does not count as whole");
        assert_eq!(
            [compaction.step(3), compaction.step(3)],
            [CompactionStep::Begin, CompactionStep::Continue]
        );
    }
}
