//! Values that belong to another token: a source or a login that was mixed up must not replace the
//! value of a token with that of another.
//!
//! A refused value of a source is remembered by its owner. It is considered again when the owner
//! gets another value or is removed. Accepted are: the first value of a token, values that tokens
//! share on purpose (see [`TokenRegistry::owner_of`](super::TokenRegistry::owner_of)), and a value
//! whose owner's source contains another value by now, as when two files are exchanged.

use std::collections::{BTreeMap, BTreeSet};

use super::{TokenEntry, Tokens};
use crate::event_log::{EventName, Fields, Severity};
use crate::lifecycle::{ReauthError, Slot};
use crate::scheduler::TokenId;
use crate::secret::ValueRef;

/// Tokens whose sources contain the value of another token, which is not used.
#[derive(Debug, Default)]
pub(super) struct RefusedValues {
    owners: BTreeMap<TokenId, TokenId>,
    by_owner: BTreeMap<TokenId, BTreeSet<TokenId>>,
}

impl RefusedValues {
    /// The value of `owner` was refused for the token `id`. Returns whether that is new.
    fn add(&mut self, id: TokenId, owner: TokenId) -> bool {
        let is_new = self.owners.get(&id) != Some(&owner);
        if is_new {
            self.remove(id);
            self.owners.insert(id, owner);
            self.by_owner.entry(owner).or_default().insert(id);
        }
        is_new
    }

    /// The source of `id` contains no value of another token.
    pub(super) fn remove(&mut self, id: TokenId) {
        let Some(owner) = self.owners.remove(&id) else { return };
        if let Some(ids) = self.by_owner.get_mut(&owner) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
    }

    pub(super) fn contains(&self, id: TokenId) -> bool {
        self.owners.contains_key(&id)
    }

    /// The tokens that were refused a value of `owner`.
    fn of(&self, owner: TokenId) -> Vec<TokenId> {
        self.by_owner.get(&owner).into_iter().flatten().copied().collect()
    }
}

impl Tokens {
    /// Whether the source of a token contains the value of another token.
    pub(crate) fn has_refused_value(&self, id: TokenId) -> bool {
        self.refused.contains(id)
    }

    /// Whether the value that the source of a token contains belongs to another token. It is then
    /// not used, which is logged once.
    pub(super) fn is_refused(&mut self, id: TokenId, value: ValueRef<'_>) -> bool {
        let owner = self.owner_of_new(id, value);
        let has_kept = |owner: &TokenId| {
            !self.refused.contains(*owner) && !self.file_has_another(*owner, value)
        };
        let Some(owner) = owner.filter(has_kept) else {
            self.refused.remove(id);
            return false;
        };
        if self.refused.add(id, owner)
            && let (Some(entry), Some(other)) =
                (self.registry.token(id), self.registry.token(owner))
        {
            let (name, other) = (entry.name(), other.name());
            let path = entry.file().map(|file| file.display().to_string());
            let error = format!(
                "the source of {name} contains the value of another token, {other}; put the value \
                 of {name} there, or give both the same source if they are to share one value"
            );
            let (token, error, path) = (Some(name), Some(&*error), path.as_deref());
            let fields = Fields { token, error, path, ..Fields::default() };
            let message =
                "a value that belongs to another token was refused; the current value stays";
            self.log.event_at(Severity::Error, EventName::ConfigWarning, message, fields);
        }
        true
    }

    /// Whether the file of a token contains another value than this one, so that the value may have
    /// been moved to another token. A file that could not be written says nothing.
    fn file_has_another(&self, id: TokenId, value: ValueRef<'_>) -> bool {
        let Some(entry) = self.registry.token(id) else { return false };
        entry.file().is_some()
            && !self.file_retries.has(id)
            && entry.in_source().is_some_and(|own| own != value)
    }

    /// The other token that a new value of a token belongs to. The first value of a token is its
    /// own, even if another token has it.
    pub(super) fn owner_of_new(&mut self, id: TokenId, value: ValueRef<'_>) -> Option<TokenId> {
        let entry = self.registry.token(id)?;
        if [Slot::A, Slot::B].into_iter().all(|slot| entry.value(slot).is_none()) {
            self.registry.begins_with(value, id);
            return None;
        }
        self.registry.owner_of(value, id)
    }

    /// The error if a value that a login returned belongs to another token.
    pub(super) fn foreign_login(
        &mut self,
        id: TokenId,
        value: ValueRef<'_>,
    ) -> Option<ReauthError> {
        let owner = self.registry.owner_of(value, id)?;
        let (entry, owner) = (self.registry.token(id)?, self.registry.token(owner)?);
        let (name, other) = (entry.name(), owner.name());
        let error = if entry.has_hook() {
            format!(
                "the re-auth command returned the value of another token, {other}, which was \
                 refused; it must return a value of its own for each $TOKENKEEP_NAME"
            )
        } else {
            format!(
                "the login for {name} returned the value of another token, {other}, which was \
                 refused; give each token an API key of its own"
            )
        };
        let exit_status = entry.has_hook().then_some(0);
        Some(ReauthError { error: error.into(), exit_status, ..ReauthError::default() })
    }

    /// A token has another value than before, or is removed: values of it that were refused for
    /// other tokens are considered again.
    pub(super) fn reconsider_refused(&mut self, owner: TokenId) {
        for id in self.refused.of(owner) {
            let entry = self.registry.token(id);
            let value = entry.and_then(TokenEntry::in_source).map(ValueRef::to_value);
            let Some(value) = value else { continue };
            // Considered when the login has ended.
            if self.scheduler.token(id).is_some_and(|token| token.is_reauthenticating()) {
                self.deferred.defer_during_reauth(id, value);
                continue;
            }
            if !self.is_refused(id, value.by_ref()) {
                self.forget_superseded(id);
                self.offer_candidate(id, value.by_ref());
            }
        }
    }
}
