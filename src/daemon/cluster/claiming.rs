//! Requests a claim for an action that spends, and ends it. Until the answer of etcd the action waits;
//! then it runs as any other, or its ticket is given back to the scheduler until later.

use std::time::Duration;

use super::publishing::NewValue;
use super::spendings::{Limits, Spending};
use super::{Cluster, Start, notices};
use crate::clock;
use crate::cluster::LOGIN_BEGINS_WITHIN;
use crate::cluster::replica::{Count, HeldReason, SpendId, SpendRequest, Spent, TokenHash};
use crate::daemon::state::wall_ms;
use crate::daemon::tasks::RefreshState;
use crate::daemon::tokens::{TokenEntry, Tokens};
use crate::lifecycle::{Action, Method, Notice, ReauthAttempts, State};
use crate::profile::Profile;
use crate::scheduler::{Ticket, TokenId};
use crate::time::Moment;

/// A spending that came to nothing.
const NOTHING: Spent = Spent { value: None, count: None };

/// When a spending is requested again that could not be requested, or was granted too late.
const HELD_RETRY: Duration = Duration::from_secs(1);

/// How much longer than `failover` a spending waits before that is reported.
const LONG_WAIT_MARGIN: Duration = Duration::from_secs(5);

/// How long after the take a renewal with a refresh token, or a revocation, may begin.
const REQUEST_BEGINS_WITHIN: Duration = Duration::from_secs(5);

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
        self.replica.spent(spending.id, result, clock::now());
    }

    /// A granted spending has not begun, and will not.
    pub(super) fn end_unbegun(&mut self, spending: &Spending) {
        self.spendings.take(spending.id);
        self.replica.not_begun(spending.id, clock::now());
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

    pub(super) fn release(&mut self, token: Option<TokenHash>, now: Moment, tokens: &mut Tokens) {
        for (hash, id) in self.spendings.take_held(token) {
            if tokens.cluster_key(id).is_some_and(|key| key.hash() == hash) {
                tokens.scheduler.release_deferred(id, now);
            }
        }
    }

    pub(super) fn on_held(
        &mut self,
        spending: Spending,
        reason: &HeldReason,
        retry_at: Moment,
        now: Moment,
        tokens: &mut Tokens,
    ) {
        let why = match reason {
            HeldReason::Claimed { replica } if **replica == *self.settings.name => {
                Some("the end of an earlier login or renewal of this replica is not in etcd")
            }
            HeldReason::NotJoined => Some("this replica has not joined the cluster"),
            HeldReason::Outdated => Some("the value or the attempts in etcd have changed"),
            // Reported otherwise.
            HeldReason::Claimed { .. } | HeldReason::Unreachable(_) => None,
        };
        if let Some(why) = why.filter(|_| tokens.scheduler.expects(spending.ticket)) {
            self.report_long_wait(&spending, why, now, tokens);
        }
        let Spending { ticket, key, .. } = spending;
        if !tokens.scheduler.expects(ticket) {
            return tokens.cancel(ticket);
        }
        let by_etcd = matches!(reason, HeldReason::Unreachable(_));
        let overdue = self.replica.overdue(key.hash()).map(|overdue| overdue.since);
        let is_new = self.spendings.hold(key.hash(), ticket.token, by_etcd, overdue);
        if let HeldReason::Unreachable(error) = reason
            && is_new
        {
            notices::held(ticket.token, error, retry_at.since(now), tokens);
        }
        tokens.scheduler.defer(ticket, retry_at, now);
        self.values.retry_now(key, now);
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

/// Gives a spending that may not begin now back to the scheduler.
pub(super) fn put_off(spending: &Spending, now: Moment, tokens: &mut Tokens) {
    if tokens.scheduler.expects(spending.ticket) {
        tokens.scheduler.defer(spending.ticket, now + HELD_RETRY, now);
    } else {
        tokens.cancel(spending.ticket);
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
