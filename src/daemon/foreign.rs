//! Values that belong to another token: a source or a login that was mixed up must not replace the
//! value of a token with that of another one.
//!
//! A refused value of a source is remembered by the name of its owner. It is considered again when
//! the owner gets another value or is removed: then it was on its way from one token to the other.
//! Accepted are: the first value of a token, values that tokens share on purpose (see
//! [`Roster::owner_of`](super::roster::Roster::owner_of)), and a value whose owner's source
//! contains another one by now, as when two files are exchanged.

use std::collections::{BTreeMap, BTreeSet};

use super::Daemon;
use super::roster::Kept;
use crate::event_log::{EventName, Fields, Severity};
use crate::lifecycle::{ReauthError, Slot};
use crate::scheduler::TokenId;
use crate::secret::ValueRef;

/// Tokens whose sources contain the value of another token, which is not used.
#[derive(Debug, Default)]
pub(super) struct Refused {
    owners: BTreeMap<TokenId, TokenId>,
    /// The other way round.
    by_owner: BTreeMap<TokenId, BTreeSet<TokenId>>,
}

impl Refused {
    /// The value of `owner` was refused for the token `id`; whether that is new.
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

impl Daemon {
    /// Whether the value that the source of a token contains belongs to another token. It is then
    /// not used, which is logged once.
    pub(super) fn is_refused(&mut self, id: TokenId, value: ValueRef<'_>) -> bool {
        let owner = self.owner_of_new(id, value);
        let Some(owner) = owner.filter(|owner| !self.refused.contains(*owner)) else {
            self.refused.remove(id);
            return false;
        };
        if self.refused.add(id, owner)
            && let (Some(kept), Some(other)) = (self.roster.token(id), self.roster.token(owner))
        {
            let (name, other) = (kept.name().to_owned(), other.name().to_owned());
            let path = kept.file().map(|file| file.display().to_string());
            let error = format!(
                "the source of {name} contains the value of another token, {other}; put the value \
                 of {name} there"
            );
            self.say(
                EventName::ConfigWarning,
                Severity::Error,
                "a value that belongs to another token was refused; the current value stays",
                Fields {
                    token: Some(&name),
                    error: Some(&error),
                    path: path.as_deref(),
                    ..Fields::default()
                },
            );
        }
        true
    }

    /// The other token that a new value of a token belongs to. The first value of a token is its
    /// own, whoever else has it.
    fn owner_of_new(&mut self, id: TokenId, value: ValueRef<'_>) -> Option<TokenId> {
        let kept = self.roster.token(id)?;
        if [Slot::A, Slot::B].into_iter().all(|slot| kept.value(slot).is_none()) {
            self.roster.begins_with(value, id);
            return None;
        }
        self.roster.owner_of(value, id)
    }

    /// Why a value that a login returned cannot be used: it belongs to another token.
    pub(super) fn foreign_login(
        &mut self,
        id: TokenId,
        value: ValueRef<'_>,
    ) -> Option<ReauthError> {
        let owner = self.roster.owner_of(value, id)?;
        let (kept, owner) = (self.roster.token(id)?, self.roster.token(owner)?);
        let (name, other) = (kept.name(), owner.name());
        let error = if kept.has_hook() {
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
        let exit_status = kept.has_hook().then_some(0);
        Some(ReauthError { error: error.into(), exit_status, ..ReauthError::default() })
    }

    /// A token has another value than before, or is gone: values of its own that were refused for
    /// other tokens may be theirs.
    pub(super) fn reconsider_refused(&mut self, owner: TokenId) {
        for id in self.refused.of(owner) {
            let value = self.roster.token(id).and_then(Kept::in_source).map(ValueRef::to_value);
            let Some(value) = value else { continue };
            if !self.is_refused(id, value.by_ref()) {
                self.forget_superseded(id);
                self.offer(id, value.by_ref());
            }
        }
    }
}
