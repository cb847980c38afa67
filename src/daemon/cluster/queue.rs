//! What the replica reports about single tokens, until it is handled: after a read there may be a value
//! for each of a million tokens. Kept in order, so that a value comes before the release of its claim.

use std::collections::{HashMap, VecDeque};

use crate::cluster::replica::{Output, TokenHash};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    outputs: VecDeque<Output>,
    /// How many of them say something new about a token.
    news: HashMap<TokenHash, u32>,
}

impl Queue {
    /// Adds an output behind all others.
    pub(super) fn push(&mut self, output: Output) {
        if let Some(token) = subject(&output) {
            *self.news.entry(token).or_default() += 1;
        }
        self.outputs.push_back(output);
    }

    /// Removes the first output.
    pub(super) fn pop(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        if self.outputs.is_empty() {
            // Gives the memory back.
            *self = Self::default();
        } else if let Some(token) = subject(&output)
            && let Some(count) = self.news.get_mut(&token)
        {
            *count -= 1;
            if *count == 0 {
                self.news.remove(&token);
            }
        }
        Some(output)
    }

    /// Whether something new about a token waits: its value, its attempts, a pause.
    pub(super) fn has_news(&self, token: TokenHash) -> bool {
        self.news.contains_key(&token)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }
}

fn subject(output: &Output) -> Option<TokenHash> {
    match output {
        Output::NewValue { token, .. }
        | Output::Published { token, .. }
        | Output::Dropped(token)
        | Output::Counted(token, _)
        | Output::Paused(token, _) => Some(token.hash()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::replica::TokenKey;

    #[test]
    fn token_has_news_until_the_last_output_about_it_is_taken() {
        let key = TokenKey::new("s", "t");
        let other = TokenKey::new("s", "u");
        let outputs = [
            Output::Paused(key.clone(), true),
            Output::Paused(key.clone(), false),
            Output::Released(Some(key.hash())),
            Output::Paused(other.clone(), true),
        ];
        let mut queue = Queue::default();
        outputs.iter().cloned().for_each(|output| queue.push(output));
        let mut news = Vec::new();
        for output in outputs {
            assert_eq!(queue.pop(), Some(output));
            news.push((queue.has_news(key.hash()), queue.has_news(other.hash())));
        }
        assert_eq!(news, [(true, true), (false, true), (false, true), (false, false)]);
        assert!(queue.is_empty());
    }
}
