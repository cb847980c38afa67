//! The facts of the status sentence, gathered in one scan: counts, and the most urgent tokens.

use std::collections::HashMap;

use jiff::Timestamp;

use super::top_k::TopK;
use super::views::{View, dead_since, life_basis};
use crate::clock;
use crate::control::summary::{
    Concern, ElsewhereFacts, Facts, NoEtcdFacts, OutageFacts, ReauthFacts, Summary, TokenFacts,
    ValueOrigin, When, summarize, summarize_token,
};
use crate::daemon::tokens::{Outage, TokenEntry};
use crate::event_log::{EventName, LoggedEvent, Severity};
use crate::lifecycle::{State, Token, TokenSummary};
use crate::scheduler::{Scheduler, ServerId, TokenId, TokenSpec};
use crate::settings::Source;
use crate::time::{Moment, whole_millis};
use crate::token_source;

/// Tokens that the sentence names.
const NAMED: usize = 3;

/// What a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disclosure {
    /// Names of tokens.
    pub(crate) names: bool,
    /// Error messages, paths of files, and names of other value sources.
    pub(crate) details: bool,
}

impl Disclosure {
    /// For clients of the control socket.
    pub(crate) const EVERYTHING: Self = Self { names: true, details: true };
}

/// Accumulates the tokens that a scan visits.
#[derive(Debug)]
pub(crate) struct Digest {
    now: Moment,
    counts: [usize; Concern::COUNT],
    urgent: TopK<(Concern, Moment, u32)>,
    /// The earliest due check of each server.
    next_checks: HashMap<ServerId, Moment>,
}

impl Digest {
    pub(crate) fn new() -> Self {
        Self {
            now: clock::now(),
            counts: [0; Concern::COUNT],
            urgent: TopK::new(NAMED),
            next_checks: HashMap::new(),
        }
    }

    pub(crate) fn visit(&mut self, summary: TokenSummary, spec: &TokenSpec, key: u32) {
        let concern = concern(summary, spec, self.now);
        self.counts[concern as usize] += 1;
        self.urgent.visit((concern, summary.expiry.unwrap_or(Moment::NEVER), key));
        if let Some(due) = summary.next_check {
            let earliest = self.next_checks.entry(spec.server).or_insert(due);
            *earliest = due.min(*earliest);
        }
    }

    /// When the next check of any token is due, after the pauses of the servers; `None` if each is in
    /// progress, or none is planned.
    pub(super) fn next_check(&self, view: &View<'_>) -> Option<Moment> {
        let scheduler = &view.tokens.scheduler;
        let next = self.next_checks.iter();
        next.map(|(server, due)| *due.max(&scheduler.next_request(*server))).min()
    }

    /// The sentence about all tokens.
    pub(super) fn summary(self, view: &View<'_>, disclosure: Disclosure) -> Summary {
        let next_check = self.next_check(view);
        let Self { mut counts, urgent, .. } = self;
        // Of more tokens than these it is not known how many have no attempt left.
        let are_all_known = counts[Concern::Dead as usize] <= NAMED;
        let mut first = Vec::with_capacity(NAMED);
        for (scanned, _, key) in urgent.in_order() {
            let id = view.tokens.scheduler.id_of(key);
            let Some(mut token) = id.and_then(|id| token_facts(view, id, disclosure)) else {
                continue;
            };
            // Without an attempt left, it needs an operator as much as without a `reauth`.
            let is_stopped = |reauth: ReauthFacts| reauth.attempts_left == 0 && !reauth.is_running;
            if are_all_known
                && token.concern == Concern::Dead
                && token.reauth.is_some_and(is_stopped)
            {
                token.concern = Concern::NeedsOperator;
            }
            // It may also have changed since it was scanned.
            let count = &mut counts[scanned as usize];
            *count = count.saturating_sub(1);
            counts[token.concern as usize] += 1;
            first.push(token);
        }
        first.sort_by_key(|token| token.concern);
        let now = clock::now();
        summarize(&Facts {
            counts,
            first,
            next_check_ms: next_check.map(|next| whole_millis(next.since(now))),
            outages: outages(view, disclosure),
            no_etcd: no_etcd(view, disclosure),
        })
    }
}

/// The sentence about one token.
pub(crate) fn token_summary(
    view: &View<'_>,
    id: TokenId,
    disclosure: Disclosure,
) -> Option<Summary> {
    token_facts(view, id, disclosure).map(|facts| summarize_token(&facts))
}

fn concern(summary: TokenSummary, spec: &TokenSpec, now: Moment) -> Concern {
    let has_reauth = spec.policy.reauth.is_some();
    match summary.state {
        State::Missing | State::Rejected | State::Expired if has_reauth => Concern::Dead,
        State::Missing | State::Rejected | State::Expired => Concern::NeedsOperator,
        State::Unverified if summary.expiry.is_some_and(|expiry| expiry <= now) => Concern::Lapsed,
        State::Unverified if summary.is_failing => Concern::Failing,
        State::Unverified => Concern::Unchecked,
        State::Paused => Concern::Paused,
        State::Elsewhere => Concern::Elsewhere,
        State::Retrying | State::Alive if summary.is_unrenewed && !has_reauth => Concern::RunsOut,
        State::Retrying => Concern::Retrying,
        State::Alive => Concern::Alive,
    }
}

fn token_facts(view: &View<'_>, id: TokenId, disclosure: Disclosure) -> Option<TokenFacts> {
    let scheduler = &view.tokens.scheduler;
    let (token, entry) = (scheduler.token(id)?, view.tokens.registry.token(id)?);
    let spec = scheduler.spec(id)?;
    let (now, wall) = (clock::now(), clock::wall_clock());
    let next_check = scheduler.next_check(id);
    let death = death(view, &token, entry);
    Some(TokenFacts {
        name: disclosure.names.then(|| entry.name().to_owned()),
        concern: concern(token.summary(), spec, now),
        state: token.state(),
        expiry: token.expiry().map(|expiry| when(expiry, now, wall)),
        basis: life_basis(&token, &spec.policy),
        died_at_ms: death.at.map(Timestamp::as_millisecond),
        was_revoked: death.was_revoked,
        was_alive: token.life_ms() > 0,
        is_unrenewed: token.is_unrenewed(),
        is_failing: token.is_failing(),
        next_check_ms: next_check.map(|next| whole_millis(next.since(now))),
        source: if disclosure.details { value_origin(view, entry) } else { ValueOrigin::Hidden },
        reauth: reauth(scheduler, id, &token, spec, now, wall),
        elsewhere: elsewhere(view, &token, entry, disclosure),
    })
}

fn reauth(
    scheduler: &Scheduler,
    id: TokenId,
    token: &Token,
    spec: &TokenSpec,
    now: Moment,
    wall: Timestamp,
) -> Option<ReauthFacts> {
    let policy = spec.policy.reauth?;
    let next = scheduler.next_reauth(id).map(|next| next.max(now));
    Some(ReauthFacts {
        is_running: token.is_reauthenticating(),
        next: next.map(|next| when(next, now, wall)),
        attempts_left: token.attempts_left(&policy, now),
        max_attempts: policy.max_attempts.get(),
    })
}

/// Which replica checks the token, if that is another one.
fn elsewhere(
    view: &View<'_>,
    token: &Token,
    entry: TokenEntry<'_>,
    disclosure: Disclosure,
) -> Option<ElsewhereFacts> {
    let cluster = view.cluster.filter(|_| token.state() == State::Elsewhere)?;
    let server = &view.tokens.servers[entry.config().server].settings.name;
    let place = cluster.place_of(server, entry.name());
    let failover = Some(whole_millis(cluster.settings.failover));
    Some(ElsewhereFacts {
        replica: place.replica.filter(|_| disclosure.names).map(str::to_owned),
        take_over_ms: failover.filter(|_| cluster.unreachable().is_none()),
    })
}

fn no_etcd(view: &View<'_>, disclosure: Disclosure) -> Option<NoEtcdFacts> {
    let status = view.cluster_status(disclosure).filter(|status| !status.reachable)?;
    Some(NoEtcdFacts {
        since_ms: status.unreachable_since.map(Timestamp::as_millisecond),
        reason: status.error,
        held: status.held,
    })
}

fn value_origin(view: &View<'_>, entry: TokenEntry<'_>) -> ValueOrigin {
    let inventory = entry.inventory().and_then(|inventory| view.inventories.get(inventory));
    match (entry.source(), inventory) {
        (Some(source @ Source::File(_)), _) => ValueOrigin::File(token_source::describe(&source)),
        (Some(source), _) => ValueOrigin::Service(token_source::describe(&source)),
        (None, Some(inventory)) => ValueOrigin::Inventory(inventory.settings.name.clone()),
        (None, None) => ValueOrigin::Hidden,
    }
}

/// What is known about the end of a token.
#[derive(Debug, Clone, Copy, Default)]
struct Death {
    /// When the token was found dead or missing.
    at: Option<Timestamp>,
    was_revoked: bool,
}

fn death(view: &View<'_>, token: &Token, entry: TokenEntry<'_>) -> Death {
    let latest = |is_end: fn(&&LoggedEvent) -> bool| {
        let events = view.tokens.log.history().for_token(entry.name(), RECENT);
        events.into_iter().rfind(is_end).map(|event| event.at)
    };
    let reported = Death { at: dead_since(token, entry), was_revoked: false };
    match token.state() {
        State::Rejected if reported.at.is_none() => {
            // A revocation that failed is logged at warning level.
            let at = latest(|event| {
                event.name == EventName::TokenRevoked && event.severity == Severity::Info
            });
            Death { at, was_revoked: at.is_some() }
        }
        State::Expired | State::Rejected => reported,
        State::Missing => {
            Death { at: latest(|event| event.name == EventName::TokenMissing), was_revoked: false }
        }
        State::Unverified | State::Retrying | State::Paused | State::Elsewhere | State::Alive => {
            Death::default()
        }
    }
}

/// Events of a token among which its end is looked for.
const RECENT: usize = 50;

/// The unavailable servers that have tokens.
fn outages(view: &View<'_>, disclosure: Disclosure) -> Vec<OutageFacts> {
    let scheduler = &view.tokens.scheduler;
    let servers =
        view.settings.servers.iter().filter_map(|server| {
            let id = view.tokens.servers.id_of(&server.name)?;
            let tokens = scheduler.state_counts_of(id).total();
            if tokens == 0 || view.tokens.is_available(id) {
                return None;
            }
            let outage = view.outage(id);
            let reason = outage.map(|Outage { error, .. }| {
                if disclosure.details { error.error.to_string() } else { error.class() }
            });
            Some(OutageFacts {
                server: server.name.clone(),
                since_ms: outage.map(|outage| outage.since.as_millisecond()),
                reason,
                tokens,
            })
        });
    servers.collect()
}

fn when(moment: Moment, now: Moment, wall: Timestamp) -> When {
    let ahead = i64::try_from(whole_millis(moment.since(now))).unwrap_or(i64::MAX);
    let ago = i64::try_from(whole_millis(now.since(moment))).unwrap_or(i64::MAX);
    let in_ms = ahead - ago;
    When { at_ms: wall.as_millisecond().saturating_add(in_ms), in_ms }
}
