//! Which refresh token belongs to which token: one that two tokens have, through a copy or a link,
//! would be spent twice.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Weak};

use super::Companion;
use crate::secret::TokenValue;

/// The companion of each known refresh token. The first one that reads it owns it.
#[derive(Debug, Default)]
pub(super) struct Claims {
    keys: RandomState,
    owners: HashMap<u64, Weak<Companion>>,
}

impl Claims {
    /// A number in place of a refresh token; equal ones have the same.
    pub(super) fn fingerprint(&self, value: &TokenValue) -> u64 {
        self.keys.hash_one(value.expose())
    }

    /// Another companion that one of these belongs to.
    pub(super) fn other_owner(
        &self,
        companion: &Arc<Companion>,
        fingerprints: impl IntoIterator<Item = u64>,
    ) -> Option<Arc<Companion>> {
        let mut owners = fingerprints.into_iter().filter_map(|it| self.owners.get(&it)?.upgrade());
        owners.find(|owner| !Arc::ptr_eq(owner, companion))
    }

    /// These belong to the companion, except those of another one that is used.
    pub(super) fn claim(
        &mut self,
        companion: &Arc<Companion>,
        fingerprints: impl IntoIterator<Item = u64>,
    ) {
        for fingerprint in fingerprints {
            if self.other_owner(companion, [fingerprint]).is_none_or(|other| !other.is_used()) {
                self.owners.insert(fingerprint, Arc::downgrade(companion));
            }
        }
    }

    /// These belong to the companion no longer.
    pub(super) fn release(
        &mut self,
        companion: &Arc<Companion>,
        fingerprints: impl IntoIterator<Item = u64>,
    ) {
        for fingerprint in fingerprints {
            let owner = self.owners.get(&fingerprint);
            if owner.is_some_and(|owner| std::ptr::eq(owner.as_ptr(), Arc::as_ptr(companion))) {
                self.owners.remove(&fingerprint);
            }
        }
    }

    /// How many refresh tokens have an owner.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// Nothing belongs to the companion any longer.
    pub(super) fn forget(&mut self, companion: &Arc<Companion>) {
        self.owners.retain(|_, owner| {
            owner.strong_count() > 0 && !std::ptr::eq(owner.as_ptr(), Arc::as_ptr(companion))
        });
    }
}
