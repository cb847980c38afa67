//! Compaction of the append-only log of lives: when live entries are written again, so that older
//! rows can be deleted.
//!
//! Every check appends an entry, and no entry is ever changed. Once there are too many for the
//! number of tokens, a pass starts: with every entry of a check, the entries of a few other tokens
//! are written again. After all tokens, everything from before the pass can be deleted. So writes
//! are sequential, no memory is needed, and the work is proportional to the checks. Pure: it only
//! counts.

/// Entries per token at which a pass starts. A pass writes one entry per token, so half of all
/// writes are rewrites.
const ENTRIES_PER_TOKEN: u64 = 2;

/// Fewer entries are not compacted: they take a few pages.
const FEW_ENTRIES: u64 = 1_000;

/// Up to this many tokens, all are rewritten at startup: a fifth of a megabyte.
const FEW_TOKENS: u64 = 5_000;

/// Tokens that are rewritten with each check. A pass ends before the entries have grown by a
/// quarter, and a check waits only for microseconds.
const STEPS: u32 = 4;

/// Counts entries and passes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Compaction {
    entries: u64,
    /// The entries from before the current pass.
    entries_before_pass: Option<u64>,
    /// Entries were lost: only a complete pass restores them.
    is_incomplete: bool,
}

/// What to do after an entry was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompactionStep {
    /// Nothing.
    None,
    /// A pass starts.
    Begin,
    /// The current pass continues.
    Continue,
}

impl Compaction {
    /// Starts with the entries of earlier runs.
    pub(super) const fn new(entries: u64) -> Self {
        Self { entries, entries_before_pass: None, is_incomplete: false }
    }

    /// An entry was appended.
    pub(super) fn add(&mut self) {
        self.entries += 1;
    }

    /// Queued or written entries were lost.
    pub(super) fn lose(&mut self) {
        self.is_incomplete = true;
        self.entries_before_pass = None;
    }

    /// The next step after a write, with `tokens` tokens in all.
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

    /// Whether all tokens are rewritten at startup. A daemon that restarts more often than a pass
    /// takes would never finish one.
    pub(super) fn starts_at_open(&mut self, tokens: u64) -> bool {
        let begins =
            tokens <= FEW_TOKENS && self.entries > tokens && self.entries_before_pass.is_none();
        if begins {
            self.entries_before_pass = Some(self.entries);
        }
        begins
    }

    /// Ends the current pass. Returns whether there was one.
    pub(super) fn end(&mut self) -> bool {
        let entries_before_pass = self.entries_before_pass.take();
        self.entries -= entries_before_pass.unwrap_or(0);
        entries_before_pass.is_some()
    }

    /// How many tokens are rewritten with each check.
    pub(super) const fn steps() -> u32 {
        STEPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `checks` checks and all passes. Returns the maximum number of entries, and the number
    /// of writes.
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
    fn entries_stay_within_three_and_a_third_per_token() {
        let (most, _) = run(100_000, 2_000_000);
        assert!(most < 100_000 * 10 / 3, "{most}");
    }

    #[test]
    fn compaction_writes_about_as_much_as_the_checks() {
        let (_, written) = run(100_000, 2_000_000);
        assert!((3_500_000..4_200_000).contains(&written), "{written}");
    }

    #[test]
    fn few_tokens_are_compacted_at_startup_if_entries_are_obsolete() {
        for (entries, tokens, begins) in [(3, 3, false), (4, 3, true), (9_000, 5_001, false)] {
            assert_eq!(Compaction::new(entries).starts_at_open(tokens), begins);
        }
    }

    #[test]
    fn few_entries_are_not_compacted() {
        let mut compaction = Compaction::new(FEW_ENTRIES);
        assert_eq!(compaction.step(3), CompactionStep::None);
        compaction.add();
        assert_eq!(compaction.step(3), CompactionStep::Begin);
    }

    #[test]
    fn lost_entries_start_a_new_pass_and_end_the_current_one() {
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
