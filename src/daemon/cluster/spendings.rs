//! Spendings: actions that need a claim. An action waits for the answer of etcd, and then runs as
//! any other action; or its ticket is given back to the scheduler until later.

use std::collections::HashMap;
use std::time::Duration;

use super::values::NewValue;
use super::{Cluster, Start, put_off};
use crate::clock;
use crate::cluster::replica::{Count, SpendId, SpendRequest, Spent, TokenHash, TokenKey};
use crate::daemon::state::wall_ms;
use crate::daemon::tasks::RefreshState;
use crate::daemon::tokens::{TokenEntry, Tokens};
use crate::lifecycle::{Action, Method, Notice, ReauthAttempts};
use crate::profile::Profile;
use crate::scheduler::{Ticket, TokenId};
use crate::time::Moment;

/// A spending that came to nothing.
pub(super) const NOTHING: Spent = Spent { value: None, count: None };

/// When a spending is requested again that could not be requested, or was granted too late.
pub(super) const HELD_RETRY: Duration = Duration::from_secs(1);

/// How long after the take a login may begin: it waits for its lock and for the state database.
const LOGIN_BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// The same for a renewal with a refresh token, and for a revocation.
const REQUEST_BEGINS_WITHIN: Duration = Duration::from_secs(5);

/// An action that waits for a claim or has one.
#[derive(Debug, Clone)]
pub(crate) struct Spending {
    pub(crate) ticket: Ticket,
    pub(crate) action: Action,
    /// That the attempt starts: reported when it does.
    pub(crate) notice: Option<Notice>,
    pub(super) key: TokenKey,
    id: SpendId,
    limits: Limits,
    is_granted: bool,
}

/// The times of a spending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// It ends within this time of the take.
    limit: Duration,
    /// It begins within this time of the take.
    begin_within: Duration,
}

/// All spendings.
#[derive(Debug, Default)]
pub(super) struct Spendings {
    next: u64,
    /// As many as the limits of the scheduler admit.
    pending: Vec<Spending>,
    /// Attempts that the scheduler has just started, for the actions that follow.
    started: HashMap<TokenId, Notice>,
    /// Tokens whose spending was held, and whether that was reported.
    held: HashMap<TokenHash, (TokenId, bool)>,
}

impl Spendings {
    /// Adds an action.
    fn add(&mut self, ticket: Ticket, action: Action, key: TokenKey, limits: Limits) -> SpendId {
        self.next += 1;
        let id = SpendId(self.next);
        let notice = self.started.remove(&ticket.token);
        let is_granted = false;
        self.pending.push(Spending { ticket, action, notice, key, id, limits, is_granted });
        id
    }

    /// The spending has its claim; `None` if it is not known any more.
    pub(super) fn grant(&mut self, id: SpendId) -> Option<Spending> {
        let granted = self.pending.iter_mut().find(|spending| spending.id == id)?;
        granted.is_granted = true;
        self.held.remove(&granted.key.hash());
        Some(granted.clone())
    }

    /// Removes a spending.
    pub(super) fn take(&mut self, id: SpendId) -> Option<Spending> {
        let index = self.pending.iter().position(|spending| spending.id == id)?;
        Some(self.pending.swap_remove(index))
    }

    /// Removes the granted spending of this ticket.
    fn take_of(&mut self, ticket: Ticket) -> Option<Spending> {
        let is_it = |spending: &Spending| spending.is_granted && spending.ticket == ticket;
        let index = self.pending.iter().position(is_it)?;
        Some(self.pending.swap_remove(index))
    }

    /// Removes those without a claim.
    pub(super) fn take_waiting(&mut self) -> Vec<Spending> {
        self.pending.extract_if(.., |spending| !spending.is_granted).collect()
    }

    /// The spending of a token is held. Returns whether that is to be reported, if
    /// `is_reported`: once, until one is granted.
    pub(super) fn hold(&mut self, hash: TokenHash, id: TokenId, is_reported: bool) -> bool {
        let (held, was_reported) = self.held.entry(hash).or_insert((id, false));
        *held = id;
        let is_new = is_reported && !*was_reported;
        *was_reported |= is_reported;
        is_new
    }

    /// What held the spendings of this token, or of all, is over.
    pub(super) fn take_held(&mut self, token: Option<TokenHash>) -> Vec<(TokenHash, TokenId)> {
        match token {
            Some(hash) => self.held.remove(&hash).map(|(id, _)| (hash, id)).into_iter().collect(),
            None => self.held.drain().map(|(hash, (id, _))| (hash, id)).collect(),
        }
    }

    /// How many tokens are held because etcd cannot be used.
    pub(super) fn held_count(&self) -> usize {
        self.held.values().filter(|(_, is_reported)| *is_reported).count()
    }
}

/// Whether an action spends something, so that two replicas must not execute it.
pub(crate) fn is_spending(ticket: Ticket, action: &Action, tokens: &Tokens) -> bool {
    match action {
        Action::Reauth { .. } | Action::Revoke { .. } => true,
        Action::Check { method: Method::Renew, .. } => {
            let entry = tokens.registry.token(ticket.token);
            let server = entry.and_then(|entry| tokens.servers.get(entry.config().server));
            let profile = server.and_then(|server| server.settings.profile.as_deref());
            profile.is_some_and(Profile::renews_with_refresh_token)
        }
        Action::Check { method: Method::Query, .. } | Action::Persist { .. } => false,
    }
}

impl Cluster {
    /// An attempt starts: reported when it has its claim.
    pub(crate) fn stash_start(&mut self, id: TokenId, notice: Notice) {
        self.spendings.started.insert(id, notice);
    }

    /// Requests a claim for an action that spends. The scheduler still awaits its ticket.
    pub(crate) fn request(
        &mut self,
        ticket: Ticket,
        action: Action,
        now: Moment,
        tokens: &mut Tokens,
    ) {
        let Some(key) = tokens.cluster_key(ticket.token).filter(|_| {
            // The token may have been removed meanwhile, and its number be another token's.
            tokens.scheduler.expects(ticket)
        }) else {
            self.spendings.started.remove(&ticket.token);
            return tokens.cancel(ticket);
        };
        let limits = limits(ticket, &action, tokens);
        let count = matches!(action, Action::Reauth { .. }).then(|| count_of(ticket.token, tokens));
        let id = self.spendings.add(ticket, action, key.clone(), limits);
        // A newer value than the one that is dead may make it unnecessary.
        if self.is_stopping || self.values.has_unused(&key) {
            if let Some(spending) = self.spendings.take(id) {
                put_off(&spending, now, tokens);
            }
            return;
        }
        let count = count.flatten();
        let Limits { limit, begin_within } = limits;
        let request = SpendRequest { id, token: key, limit, begin_within, count };
        self.replica.request(request, now);
    }

    /// The spending has its claim. It is put off if the configuration meanwhile permits it to take
    /// longer than the claim says.
    pub(super) fn on_granted(
        &mut self,
        id: SpendId,
        begin_by: Moment,
        now: Moment,
        tokens: &mut Tokens,
    ) -> Option<Start> {
        let Some(spending) = self.spendings.grant(id) else {
            self.replica.spent(id, NOTHING, now);
            return None;
        };
        if limits(spending.ticket, &spending.action, tokens) != spending.limits {
            self.ended(&spending, NOTHING);
            put_off(&spending, now, tokens);
            return None;
        }
        self.mark(id, &spending.key, &spending.action, tokens);
        Some(Start { spending, begin_by })
    }

    /// A granted spending has ended with this result, for etcd.
    pub(super) fn ended(&mut self, spending: &Spending, result: Spent) {
        self.spendings.take(spending.id);
        self.replica.spent(spending.id, result, crate::clock::now());
    }

    /// A granted spending has not begun, or will never complete.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        if let Some(spending) = self.spendings.take_of(ticket) {
            self.ended(&spending, NOTHING);
        }
    }

    /// A granted spending has not begun, as it was too late: it is requested again.
    pub(crate) fn on_not_begun(&mut self, ticket: Ticket, now: Moment, tokens: &mut Tokens) {
        if let Some(spending) = self.spendings.take_of(ticket) {
            self.unmark(&spending.key, tokens);
            self.ended(&spending, NOTHING);
            put_off(&spending, now, tokens);
        }
    }

    /// A granted spending has ended, and its result was handled. The value that it has obtained is
    /// put into etcd even if the token is not configured here any more.
    pub(crate) fn on_spent(
        &mut self,
        ticket: Ticket,
        obtained: Option<NewValue>,
        refresh: RefreshState,
        tokens: &mut Tokens,
    ) {
        let Some(spending) = self.spendings.take_of(ticket) else { return };
        let key = &spending.key;
        let id = tokens.of_cluster_key(key).filter(|id| *id == ticket.token);
        if obtained.is_none() && !refresh.is_new {
            self.unmark(key, tokens);
        }
        let value = self.value_to_store(key, id, obtained, refresh, tokens);
        let is_counted = matches!(spending.action, Action::Reauth { .. });
        let count = id.filter(|_| is_counted).and_then(|id| count_of(id, tokens));
        self.counted.extend(id.filter(|_| count.is_some()));
        self.ended(&spending, Spent { value, count });
    }
}

/// How long a spending may take from the take on, and how late it may begin.
fn limits(ticket: Ticket, action: &Action, tokens: &Tokens) -> Limits {
    let of = |timeout, begin_within| Limits { limit: timeout + begin_within, begin_within };
    let config = tokens.registry.token(ticket.token).map(TokenEntry::config);
    if let Action::Reauth { .. } = action {
        let reauth = config.and_then(|config| config.reauth.as_ref());
        let timeout = reauth.map(|reauth| reauth.timeout).unwrap_or_default();
        return of(timeout, LOGIN_BEGINS_WITHIN);
    }
    let server = config.and_then(|config| tokens.servers.get(config.server));
    let timeout = server.map(|server| server.settings.timeout).unwrap_or_default();
    of(timeout, REQUEST_BEGINS_WITHIN)
}

/// The login attempts of a token, for the other replicas.
pub(super) fn count_of(id: TokenId, tokens: &Tokens) -> Option<Count> {
    let none = || ReauthAttempts { window_end: clock::now(), counted: 0, in_a_row: 0 };
    let attempts = tokens.scheduler.token(id)?.attempts().unwrap_or_else(none);
    Some(Count {
        window_end_ms: wall_ms(attempts.window_end),
        counted: attempts.counted,
        in_a_row: attempts.in_a_row,
    })
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
        let mut hold = |is_reported| {
            let is_new = spendings.hold(hash, token, is_reported);
            (is_new, spendings.held_count())
        };
        assert_eq!([hold(false), hold(true), hold(true)], [(false, 0), (true, 1), (false, 1)]);
        spendings.grant(id);
        assert_eq!(spendings.held_count(), 0);
        assert!(spendings.hold(hash, token, true));
        assert_eq!(spendings.take_held(Some(hash)), [(hash, token)]);
        assert!(spendings.take_held(None).is_empty());
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
}
