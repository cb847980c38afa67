//! A set of tokens as a bit set: one bit for each number that a token has or had.

use crate::scheduler::TokenId;

/// A set of tokens.
#[derive(Debug, Default)]
pub(crate) struct TokenBitSet {
    words: Vec<u64>,
    len: u64,
}

impl TokenBitSet {
    pub(crate) fn insert(&mut self, id: TokenId) {
        let (word, bit) = (id.index() / 64, 1 << (id.index() % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.len += u64::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    pub(crate) fn remove(&mut self, id: TokenId) {
        if self.contains(id) {
            self.words[id.index() / 64] &= !(1 << (id.index() % 64));
            self.len -= 1;
        }
    }

    pub(crate) fn contains(&self, id: TokenId) -> bool {
        self.words.get(id.index() / 64).is_some_and(|word| word & (1 << (id.index() % 64)) != 0)
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }
}
