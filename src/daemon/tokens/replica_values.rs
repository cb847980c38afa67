//! Values that another replica of the cluster has obtained: a source change for this replica.

use super::Tokens;
use crate::clock;
use crate::lifecycle::{Notice, ReplacedBy, Slot, SourceChange, State, Token, Validity};
use crate::scheduler::TokenId;
use crate::secret::TokenValue;
use crate::time::Moment;

/// What became of a value of another replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Adoption {
    /// It is the current value.
    IsCurrent,
    /// The scheduler has it.
    Offered,
    /// It belongs to this other token, and is refused.
    Foreign(Box<str>),
}

impl Tokens {
    /// Whether a value of another replica must wait: until a login has ended, until the token's own
    /// source was read and its persisted state restored, or until a candidate of its source was
    /// verified.
    pub(crate) fn defers_replica_value(&self, id: TokenId) -> bool {
        let (Some(token), Some(entry)) = (self.scheduler.token(id), self.registry.token(id)) else {
            return false;
        };
        let candidate = entry.value(self.scheduler.spare_slot(id));
        let is_from_source = || candidate.is_some() && candidate == entry.in_source();
        token.is_reauthenticating()
            || token.has_candidate() && is_from_source()
            || token.awaits_source()
            || entry.has_restored_value()
            || self.awaits_restore(id)
    }

    /// The current value of a token, if it comes from its source and was not checked yet. Where a
    /// check would spend a refresh token, there is none.
    pub(crate) fn unchecked_source_value(&self, id: TokenId) -> Option<TokenValue> {
        let (token, entry) = (self.scheduler.token(id)?, self.registry.token(id)?);
        let rotates = self.scheduler.spec(id)?.policy.rotates;
        let value = entry.value(token.active_slot())?;
        let is_it = token.validity() == Validity::Unknown
            && !rotates
            && token.state() != State::Paused
            && entry.in_source() == Some(value);
        is_it.then(|| value.to_value())
    }

    /// The candidate of a token that was not verified yet.
    pub(crate) fn open_candidate(&self, id: TokenId) -> Option<TokenValue> {
        self.scheduler.token(id).filter(Token::has_candidate)?;
        self.candidate_value(id)
    }

    /// Whether the current value of a token was not confirmed or refused yet, as far as is known.
    pub(crate) fn is_unverified(&self, id: TokenId) -> bool {
        self.scheduler.token(id).is_some_and(|token| {
            matches!(token.validity(), Validity::Unknown | Validity::Unverified(_))
        })
    }

    /// The candidate of a token.
    pub(crate) fn candidate_value(&self, id: TokenId) -> Option<TokenValue> {
        let slot = self.scheduler.spare_slot(id);
        Some(self.registry.token(id)?.value(slot)?.to_value())
    }

    /// The field `by` of a notice: `replica` if it says that a candidate is dead which comes from
    /// another replica. That one is not in the token's source.
    pub(crate) fn origin_of_dead_candidate(
        &self,
        id: TokenId,
        notice: &Notice,
    ) -> Option<&'static str> {
        let (Notice::Expired { candidate: true, .. } | Notice::Rejected { candidate: true, .. }) =
            notice
        else {
            return None;
        };
        // Without a cluster each candidate comes from the source.
        self.listing.as_ref()?;
        let entry = self.registry.token(id)?;
        let value = entry.value(self.scheduler.spare_slot(id))?;
        (entry.in_source() != Some(value)).then_some(ReplacedBy::Replica.as_str())
    }

    /// Another replica has obtained this value for a token, or an action that began before the token
    /// was removed and added again.
    pub(crate) fn adopt_value(
        &mut self,
        id: TokenId,
        value: &TokenValue,
        by: ReplacedBy,
    ) -> Adoption {
        let spare = self.scheduler.spare_slot(id);
        let Some(entry) = self.registry.token(id) else { return Adoption::IsCurrent };
        if entry.value(spare.other()) == Some(value.by_ref()) && !self.scheduler.is_missing(id) {
            return Adoption::IsCurrent;
        }
        if let Some(owner) = self.owner_of_new(id, value.by_ref())
            && let Some(owner) = self.registry.token(owner)
        {
            return Adoption::Foreign(owner.name().into());
        }
        self.registry.put(id, spare, value.by_ref());
        self.env_files.note_change(id, false);
        self.scheduler.source_changed(id, SourceChange::Obtained(by), clock::now());
        self.note_listing(id);
        Adoption::Offered
    }

    /// Whether a value that a spending has obtained is used here: unless it was refused. If its token
    /// did not await it any more, it is only known whether it belongs to another token.
    pub(crate) fn accepts_obtained(
        &mut self,
        id: TokenId,
        value: &TokenValue,
        was_expected: bool,
    ) -> bool {
        if !was_expected {
            return self.owner_of_new(id, value.by_ref()).is_none();
        }
        let entry = self.registry.token(id);
        entry.is_some_and(|entry| {
            [Slot::A, Slot::B].into_iter().any(|slot| entry.value(slot) == Some(value.by_ref()))
        })
    }

    /// What is known about the current value of a token that is not known to be dead: alive,
    /// unverified, or checked elsewhere.
    pub(crate) fn value_state(&self, id: TokenId, now: Moment) -> State {
        let expiry = self.scheduler.token(id).and_then(|token| token.expiry());
        match expiry {
            Some(expiry) if expiry > now => State::Alive,
            _ if self.scheduler.is_asked(id) => State::Unverified,
            _ => State::Elsewhere,
        }
    }

    /// The current value of a token.
    pub(crate) fn current_value(&self, id: TokenId) -> Option<TokenValue> {
        let slot = self.scheduler.spare_slot(id).other();
        Some(self.registry.token(id)?.value(slot)?.to_value())
    }

    /// The current value of a token, if the last response reports it alive by now. What was known
    /// before another replica asked about the token proves nothing.
    pub(crate) fn verified_value(&self, id: TokenId) -> Option<TokenValue> {
        let token = self.scheduler.token(id)?;
        let Validity::Alive(reading) = token.validity() else { return None };
        if reading.expiry() <= clock::now() || token.is_taken_over() {
            return None;
        }
        Some(self.registry.token(id)?.value(token.active_slot())?.to_value())
    }
}
