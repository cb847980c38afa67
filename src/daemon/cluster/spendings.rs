//! Spendings: actions that need a claim. An action waits for the answer of etcd, and then runs as
//! any other action; or its ticket is given back to the scheduler until later.

use std::collections::HashMap;
use std::time::Duration;

use super::publishing::NewValue;
use super::{Cluster, Start, notices, put_off};
use crate::clock;
use crate::cluster::LOGIN_BEGINS_WITHIN;
use crate::cluster::replica::{Count, SpendId, SpendRequest, Spent, TokenHash, TokenKey};
use crate::daemon::state::wall_ms;
use crate::daemon::tasks::RefreshState;
use crate::daemon::tokens::{TokenEntry, Tokens};
use crate::lifecycle::{Action, Method, Notice, ReauthAttempts, State};
use crate::profile::Profile;
use crate::scheduler::{Ticket, TokenId};
use crate::time::Moment;

/// A spending that came to nothing.
pub(super) const NOTHING: Spent = Spent { value: None, count: None };

/// When a spending is requested again that could not be requested, or was granted too late.
pub(super) const HELD_RETRY: Duration = Duration::from_secs(1);

/// How much longer than `failover` a spending waits before that is reported.
const LONG_WAIT_MARGIN: Duration = Duration::from_secs(5);

/// How long after the take a renewal with a refresh token, or a revocation, may begin.
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
    /// Tokens whose spending was held.
    held: HashMap<TokenHash, Held>,
    /// Since when tokens wait for a spending, and whether that was reported.
    waits: HashMap<TokenHash, (Moment, bool)>,
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
    fn add(&mut self, ticket: Ticket, action: Action, key: TokenKey, limits: Limits) -> SpendId {
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
    fn take_of(&mut self, ticket: Ticket) -> Option<Spending> {
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
    fn waits_long(&mut self, hash: TokenHash, patience: Duration, now: Moment) -> bool {
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
        let is_login = matches!(action, Action::Reauth { .. });
        let count = is_login.then(|| count_of(ticket.token, tokens));
        let id = self.spendings.add(ticket, action, key.clone(), limits);
        // A newer value than the one that is dead may make it unnecessary.
        let sealed = self.values.unopened(&key);
        if let Some(error) = sealed
            && self.spendings.hold(key.hash(), ticket.token, true, None)
        {
            notices::held_by_sealed_value(ticket.token, error, tokens);
        }
        let has_news = self.queue.has_news(key.hash());
        // A login here would probably fail, and its attempt would count for all.
        let is_helped = is_login && self.replica.is_helped(&key);
        let has_newer = has_news || sealed.is_some() || self.values.has_unused(&key);
        if self.is_stopping || has_newer || is_helped {
            if let Some(spending) = self.spendings.take(id) {
                if sealed.is_none() && !is_helped {
                    let why = "a newer value of another replica cannot be used yet: a source or the \
                               state database was not read, or the server has not verified a value";
                    self.report_long_wait(&spending, why, now, tokens);
                }
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
            self.replica.not_begun(id, now);
            return None;
        };
        if limits(spending.ticket, &spending.action, tokens) != spending.limits {
            self.end_unbegun(&spending);
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

    /// A granted spending has not begun, and will not.
    pub(super) fn end_unbegun(&mut self, spending: &Spending) {
        self.spendings.take(spending.id);
        self.replica.not_begun(spending.id, crate::clock::now());
    }

    /// A granted spending cannot begin: its ticket is not awaited any more.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) {
        if let Some(spending) = self.spendings.take_of(ticket) {
            self.end_unbegun(&spending);
        }
    }

    /// A granted spending will never complete. It may have begun, so its attempt counts.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        if let Some(spending) = self.spendings.take_of(ticket) {
            self.ended(&spending, NOTHING);
        }
    }

    /// A granted spending has not begun, as it was too late: it is requested again.
    pub(crate) fn on_not_begun(&mut self, ticket: Ticket, now: Moment, tokens: &mut Tokens) {
        if let Some(spending) = self.spendings.take_of(ticket) {
            self.unmark(&spending.key, tokens);
            self.end_unbegun(&spending);
            put_off(&spending, now, tokens);
        } else {
            tokens.cancel(ticket);
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

    /// Reports a spending that waits for longer than a take-over takes.
    pub(super) fn report_long_wait(
        &mut self,
        spending: &Spending,
        why: &str,
        now: Moment,
        tokens: &mut Tokens,
    ) {
        let patience = self.settings.failover + LONG_WAIT_MARGIN;
        let hash = spending.key.hash();
        if !self.is_stopping && self.spendings.waits_long(hash, patience, now) {
            notices::held_long(spending.ticket.token, why, patience, tokens);
        }
    }

    /// A token has a new value or a living one: nothing waits for it any more.
    pub(super) fn end_wait(&mut self, id: TokenId, tokens: &Tokens) {
        if !self.spendings.waits.is_empty()
            && let Some(key) = tokens.cluster_key(id)
        {
            self.spendings.waits.remove(&key.hash());
        }
    }

    /// Reports tokens whose spending waits for a claim that another replica does not end, as when it
    /// was killed.
    pub(super) fn report_overdue(&mut self, now: Moment, tokens: &mut Tokens) {
        for (hash, id) in self.spendings.take_overdue(now) {
            let is_it = tokens.cluster_key(id).is_some_and(|key| key.hash() == hash);
            let state = tokens.scheduler.token(id).map(|token| token.state());
            let is_needed = state.is_some_and(|it| !matches!(it, State::Paused | State::Elsewhere));
            // Without etcd, the claim may have ended. That is reported when it is requested again.
            let is_known = is_it && is_needed && self.replica.unreachable().is_none();
            let Some(overdue) = self.replica.overdue(hash).filter(|_| is_known) else { continue };
            if overdue.since > now {
                // It is another claim.
                self.spendings.hold(hash, id, false, Some(overdue.since));
            } else {
                self.spendings.note_reported(hash);
                notices::overdue(id, &overdue, now, tokens);
            }
        }
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
