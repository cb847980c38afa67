//! Interning table of token configurations: each distinct [`TokenSpec`] is stored once and dropped
//! with its last token.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::types::{ReauthId, ServerId, TokenSpec};

/// A spec, and how many tokens use it.
#[derive(Debug)]
struct SharedSpec {
    spec: TokenSpec,
    tokens: u32,
}

/// Identity of a spec. A policy is identified by its address, which is stable as long as the spec
/// is stored.
type Key = (ServerId, usize, Option<ReauthId>);

fn key(spec: &TokenSpec) -> Key {
    (spec.server, Arc::as_ptr(&spec.policy).addr(), spec.reauth)
}

/// All specs, by number.
#[derive(Debug, Default)]
pub(super) struct SpecTable {
    list: Vec<Option<SharedSpec>>,
    known: BTreeMap<Key, u32>,
    free: Vec<u32>,
}

impl SpecTable {
    /// Returns the number of a spec for one more token.
    pub(super) fn acquire(&mut self, spec: TokenSpec) -> u32 {
        let key = key(&spec);
        if let Some(number) = self.known.get(&key)
            && let Some(shared) = &mut self.list[*number as usize]
        {
            shared.tokens += 1;
            return *number;
        }
        let shared = Some(SharedSpec { spec, tokens: 1 });
        let number = if let Some(number) = self.free.pop() {
            self.list[number as usize] = shared;
            number
        } else {
            self.list.push(shared);
            u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
        };
        self.known.insert(key, number);
        number
    }

    /// Releases a spec for one token.
    pub(super) fn release(&mut self, number: u32) {
        let place = &mut self.list[number as usize];
        let Some(shared) = place else { return };
        shared.tokens -= 1;
        if shared.tokens == 0 {
            self.known.remove(&key(&shared.spec));
            *place = None;
            self.free.push(number);
        }
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&TokenSpec> {
        self.list[number as usize].as_ref().map(|shared| &shared.spec)
    }
}
