//! Spendings: the actions that wait for a claim or have one, and the tokens that are held.

use std::collections::HashMap;
use std::time::Duration;

use crate::cluster::replica::{SpendId, TokenHash, TokenKey};
use crate::lifecycle::{Action, Notice};
use crate::scheduler::{Ticket, TokenId};
use crate::time::Moment;

/// An action that waits for a claim or has one.
#[derive(Debug, Clone)]
pub(crate) struct Spending {
    pub(crate) ticket: Ticket,
    pub(crate) action: Action,
    /// That the attempt starts: reported when it does.
    pub(crate) notice: Option<Notice>,
    pub(super) key: TokenKey,
    pub(super) id: SpendId,
    pub(super) limits: Limits,
    is_granted: bool,
}

/// The times of a spending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// It ends within this time of the take.
    pub(super) limit: Duration,
    /// It begins within this time of the take.
    pub(super) begin_within: Duration,
}

/// All spendings.
#[derive(Debug, Default)]
pub(super) struct Spendings {
    next: u64,
    /// As many as the limits of the scheduler admit.
    pending: Vec<Spending>,
    /// Attempts that the scheduler has just started, for the actions that follow.
    pub(super) started: HashMap<TokenId, Notice>,
    /// Tokens whose spending was held.
    held: HashMap<TokenHash, Held>,
    /// Since when tokens wait for a spending, and whether that was reported.
    pub(super) waits: HashMap<TokenHash, (Moment, bool)>,
    /// When the first claim of `held` is to be over, or earlier.
    overdue: Option<Moment>,
}

/// A token whose spending was held.
#[derive(Debug, Clone, Copy)]
struct Held {
    id: TokenId,
    /// etcd cannot be used.
    by_etcd: bool,
    is_reported: bool,
    /// When the claim that holds it is to be over, unless that was reported.
    overdue: Option<Moment>,
}

impl Spendings {
    /// Adds an action.
    pub(super) fn add(
        &mut self,
        ticket: Ticket,
        action: Action,
        key: TokenKey,
        limits: Limits,
    ) -> SpendId {
        self.next += 1;
        let id = SpendId(self.next);
        // An attempt whose action was cancelled has left its notice.
        let is_attempt = matches!(action, Action::Reauth { .. });
        let notice = self.started.remove(&ticket.token).filter(|_| is_attempt);
        let is_granted = false;
        self.pending.push(Spending { ticket, action, notice, key, id, limits, is_granted });
        id
    }

    /// The spending has its claim; `None` if it is not known any more.
    pub(super) fn grant(&mut self, id: SpendId) -> Option<Spending> {
        let granted = self.pending.iter_mut().find(|spending| spending.id == id)?;
        granted.is_granted = true;
        self.held.remove(&granted.key.hash());
        self.waits.remove(&granted.key.hash());
        Some(granted.clone())
    }

    /// Removes a spending.
    pub(super) fn take(&mut self, id: SpendId) -> Option<Spending> {
        let index = self.pending.iter().position(|spending| spending.id == id)?;
        Some(self.pending.swap_remove(index))
    }

    /// Removes the granted spending of this ticket.
    pub(super) fn take_of(&mut self, ticket: Ticket) -> Option<Spending> {
        let is_it = |spending: &Spending| spending.is_granted && spending.ticket == ticket;
        let index = self.pending.iter().position(is_it)?;
        Some(self.pending.swap_remove(index))
    }

    /// Removes those without a claim.
    pub(super) fn take_waiting(&mut self) -> Vec<Spending> {
        self.pending.extract_if(.., |spending| !spending.is_granted).collect()
    }

    /// The spending of a token is held: by etcd, or by a claim that is to be over at `overdue`.
    /// Returns whether that is to be reported: a hold by etcd, once until a spending is granted.
    pub(super) fn hold(
        &mut self,
        hash: TokenHash,
        id: TokenId,
        by_etcd: bool,
        overdue: Option<Moment>,
    ) -> bool {
        let new = Held { id, by_etcd: false, is_reported: false, overdue: None };
        let held = self.held.entry(hash).or_insert(new);
        held.id = id;
        held.by_etcd |= by_etcd;
        let is_new = by_etcd && !held.is_reported;
        held.is_reported |= by_etcd;
        held.overdue = overdue.filter(|_| !held.is_reported);
        if let Some(at) = held.overdue {
            self.overdue = Some(self.overdue.map_or(at, |first| first.min(at)));
        }
        is_new
    }

    /// The spending of a token has to wait. Returns whether it does so for longer than `patience`: once,
    /// until one is granted or none is needed.
    pub(super) fn waits_long(&mut self, hash: TokenHash, patience: Duration, now: Moment) -> bool {
        let (since, is_reported) = self.waits.entry(hash).or_insert((now, false));
        let is_long = !*is_reported && now.since(*since) > patience;
        *is_reported |= is_long;
        is_long
    }

    /// When [`take_overdue`](Self::take_overdue) has something to do.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.overdue
    }

    /// The tokens whose claim is to be over by now. Each is returned once.
    pub(super) fn take_overdue(&mut self, now: Moment) -> Vec<(TokenHash, TokenId)> {
        if self.overdue.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let overdue = self.held.iter_mut().filter_map(|(hash, held)| {
            held.overdue.take_if(|at| *at <= now).map(|_| (*hash, held.id))
        });
        let overdue = overdue.collect();
        self.overdue = self.held.values().filter_map(|held| held.overdue).min();
        overdue
    }

    /// That a token is held was reported.
    pub(super) fn note_reported(&mut self, hash: TokenHash) {
        if let Some(held) = self.held.get_mut(&hash) {
            held.is_reported = true;
        }
    }

    /// What held the spendings of this token, or of all, is over.
    pub(super) fn take_held(&mut self, token: Option<TokenHash>) -> Vec<(TokenHash, TokenId)> {
        match token {
            Some(hash) => self.held.remove(&hash).map(|held| (hash, held.id)).into_iter().collect(),
            None => self.held.drain().map(|(hash, held)| (hash, held.id)).collect(),
        }
    }

    /// How many tokens are held because etcd cannot be used.
    pub(super) fn held_count(&self) -> usize {
        self.held.values().filter(|held| held.by_etcd).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Slot;

    const LIMITS: Limits = Limits { limit: Duration::ZERO, begin_within: Duration::ZERO };

    fn spendings() -> (Spendings, SpendId, TokenKey) {
        let mut spendings = Spendings::default();
        let key = TokenKey::new("sarus", "quotes");
        let action = Action::Revoke { slot: Slot::A, timeout: Duration::from_secs(1) };
        let id = spendings.add(Ticket::for_tests(), action, key.clone(), LIMITS);
        (spendings, id, key)
    }

    #[test]
    fn granted_spending_is_found_by_its_ticket_and_only_once() {
        let (mut spendings, id, _) = spendings();
        assert!(spendings.take_of(Ticket::for_tests()).is_none(), "it has no claim yet");
        assert!(spendings.grant(id).is_some());
        assert!(spendings.take_waiting().is_empty());
        assert!(spendings.take_of(Ticket::for_tests()).is_some());
        assert!(spendings.take_of(Ticket::for_tests()).is_none());
        assert!(spendings.grant(id).is_none());
    }

    #[test]
    fn spending_that_etcd_holds_is_reported_once_until_one_is_granted() {
        let (mut spendings, id, key) = spendings();
        let (hash, token) = (key.hash(), Ticket::for_tests().token);
        let mut hold = |by_etcd| {
            let is_new = spendings.hold(hash, token, by_etcd, None);
            (is_new, spendings.held_count())
        };
        assert_eq!([hold(false), hold(true), hold(true)], [(false, 0), (true, 1), (false, 1)]);
        spendings.grant(id);
        assert_eq!(spendings.held_count(), 0);
        assert!(spendings.hold(hash, token, true, None));
        assert_eq!(spendings.take_held(Some(hash)), [(hash, token)]);
        assert!(spendings.take_held(None).is_empty());
    }

    #[test]
    fn spending_that_waits_long_for_any_reason_is_reported_once_until_one_is_granted() {
        let (mut spendings, id, key) = spendings();
        let (patience, at) = (Duration::from_millis(15), Moment::from_millis);
        let reports = |spendings: &mut Spendings, times: [u64; 4]| {
            times.map(|time| spendings.waits_long(key.hash(), patience, at(time)))
        };
        assert_eq!(reports(&mut spendings, [100, 115, 116, 200]), [false, false, true, false]);
        spendings.grant(id);
        assert_eq!(reports(&mut spendings, [300, 315, 316, 317]), [false, false, true, false]);
    }

    #[test]
    fn claim_that_does_not_end_is_returned_once_when_it_should_have_ended() {
        let (mut spendings, id, key) = spendings();
        let (hash, token) = (key.hash(), Ticket::for_tests().token);
        let at = Moment::from_millis;
        assert!(!spendings.hold(hash, token, false, Some(at(70))));
        assert_eq!((spendings.due(), spendings.held_count()), (Some(at(70)), 0));
        assert!(spendings.take_overdue(at(69)).is_empty());
        assert_eq!(spendings.take_overdue(at(70)), [(hash, token)]);
        spendings.note_reported(hash);
        spendings.hold(hash, token, false, Some(at(80)));
        assert_eq!(spendings.due(), None, "it was reported");
        spendings.grant(id);
        spendings.hold(hash, token, false, Some(at(90)));
        assert_eq!(spendings.take_held(None), [(hash, token)]);
        assert!(spendings.take_overdue(at(90)).is_empty(), "it was released");
        assert_eq!(spendings.due(), None);
    }

    #[test]
    fn start_of_an_attempt_is_kept_for_its_action() {
        let mut spendings = Spendings::default();
        let ticket = Ticket::for_tests();
        let reason = crate::lifecycle::ReauthReason::Expired;
        let notice = Notice::ReauthStarted { reason, attempt: 1 };
        spendings.started.insert(ticket.token, notice.clone());
        let key = TokenKey::new("sarus", "quotes");
        let id = spendings.add(ticket, Action::Reauth { reason, attempt: 1 }, key, LIMITS);
        assert_eq!(spendings.take(id).and_then(|spending| spending.notice), Some(notice));
        assert!(spendings.started.is_empty());
    }

    #[test]
    fn start_of_a_cancelled_attempt_is_not_reported_with_another_spending() {
        let mut spendings = Spendings::default();
        let ticket = Ticket::for_tests();
        let reason = crate::lifecycle::ReauthReason::Expired;
        spendings.started.insert(ticket.token, Notice::ReauthStarted { reason, attempt: 1 });
        let action = Action::Revoke { slot: Slot::A, timeout: Duration::from_secs(1) };
        let id = spendings.add(ticket, action, TokenKey::new("sarus", "quotes"), LIMITS);
        assert_eq!(spendings.take(id).map(|spending| spending.notice), Some(None));
    }
}
