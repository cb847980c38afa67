//! What clients see of tokens and servers; never a value.

use jiff::Timestamp;

use super::cluster_view::ClusterView;
use crate::clock;
use crate::control::{
    ConfigRejection, Counts, EventView, LifeBasis, ReauthView, ServerView, TokenDetail, TokenView,
};
use crate::daemon::inventories::Inventories;
use crate::daemon::metrics::Metrics;
use crate::daemon::tokens::{Outage, TokenEntry, Tokens};
use crate::event_log::{LoggedEvent, Severity};
use crate::lifecycle::{Method, Policy, State, Token, Validity};
use crate::outcome::ENDLESS;
use crate::scheduler::{ServerId, StateCounts, TokenId};
use crate::settings::Settings;
use crate::time::{Moment, whole_millis};
use crate::token_source;

/// The last events of a token that are shown.
const EVENTS: usize = 100;

/// A read-only view of the daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) tokens: &'a Tokens,
    pub(crate) inventories: &'a Inventories,
    pub(crate) settings: &'a Settings,
    pub(crate) config_rejected: Option<&'a ConfigRejection>,
    pub(crate) metrics: &'a Metrics,
    /// The cluster, if this daemon is a replica.
    pub(crate) cluster: Option<ClusterView<'a>>,
    /// Lines that the log has dropped.
    pub(crate) dropped_lines: u64,
}

impl View<'_> {
    /// How many tokens are in each state.
    pub(crate) fn counts(&self) -> Counts {
        self.counted(&self.tokens.scheduler.state_counts())
    }

    pub(super) fn counted(&self, state_counts: &StateCounts) -> Counts {
        let elsewhere = self.cluster.map(|_| state_counts.of(State::Elsewhere));
        Counts { elsewhere, ..counted(state_counts) }
    }

    /// One token, as a row of a list.
    pub(super) fn token(&self, id: TokenId) -> Option<TokenView> {
        let Tokens { scheduler, registry, servers, .. } = self.tokens;
        let (token, entry) = (scheduler.token(id)?, registry.token(id)?);
        let now = clock::now();
        let inventory = entry.inventory().and_then(|inventory| self.inventories.get(inventory));
        let reading = token.reading();
        let basis = life_basis(&token, &scheduler.spec(id)?.policy);
        let next_check = scheduler.next_check(id);
        let server = &servers[entry.config().server].settings.name;
        let place = self.cluster.map(|cluster| cluster.place_of(server, entry.name()));
        Some(TokenView {
            name: entry.name().to_owned(),
            server: server.clone(),
            inventory: inventory.map(|inventory| inventory.settings.name.clone()),
            state: token.state().as_str().to_owned(),
            remaining_ms: known_expiry(&token).map(|bound| signed(bound, now)),
            life_ms: Some(token.life_ms()).filter(|life| *life > 0),
            last_check_ms: reading.map(|reading| whole_millis(now.since(reading.received))),
            next_check_ms: next_check.map(|next| whole_millis(next.since(now))),
            busy: token.is_busy(),
            renews_by: renews_by(scheduler.renews_by(entry.config().server)),
            assumed: basis == LifeBasis::Assumed,
            endless: basis == LifeBasis::Endless,
            replica: place.and_then(|place| place.replica).map(str::to_owned),
            claim: place.and_then(|place| place.claim).map(|claim| claim.view(now)),
        })
    }

    /// One token in detail, without the sentence about it.
    pub(crate) fn token_detail(&self, id: TokenId) -> Option<TokenDetail> {
        let Tokens { scheduler, registry, log, .. } = self.tokens;
        let (token, entry) = (scheduler.token(id)?, registry.token(id)?);
        let now = clock::now();
        let retry_room = token.retry_room().filter(|_| token.state() != State::Elsewhere);
        let policy = scheduler.spec(id).and_then(|spec| spec.policy.reauth);
        let reauth =
            entry.config().reauth.as_ref().zip(policy).map(|(reauth, policy)| ReauthView {
                name: reauth.name.clone(),
                attempts_left: token.attempts_left(&policy, now),
                max_attempts: policy.max_attempts.get(),
                next_attempt_ms: scheduler
                    .next_reauth(id)
                    .map(|next| whole_millis(next.since(now))),
            });
        Some(TokenDetail {
            token: self.token(id)?,
            summary: None,
            source: entry.source().as_ref().map(token_source::describe),
            retry_room_ms: retry_room.map(|(room, _)| whole_millis(room)),
            failures: token.failures(),
            reauth,
            events: log.history().for_token(entry.name(), EVENTS).into_iter().map(event).collect(),
        })
    }

    /// The outage of a server, if it has one.
    pub(crate) fn outage(&self, id: ServerId) -> Option<&Outage> {
        self.tokens.outages.get(id)
    }

    /// The configured servers.
    pub(crate) fn servers(&self) -> Vec<ServerView> {
        let now = clock::now();
        let Tokens { scheduler, servers, .. } = self.tokens;
        let views = self.settings.servers.iter().filter_map(|server| {
            let id = servers.id_of(&server.name)?;
            Some(ServerView {
                name: server.name.clone(),
                tokens: scheduler.state_counts_of(id).total(),
                available: self.tokens.is_available(id),
                quiet_ms: whole_millis(scheduler.throttled_until(id).since(now)),
                renews_by: renews_by(scheduler.renews_by(id)),
            })
        });
        views.collect()
    }
}

/// How many tokens are in each state of a daemon alone.
fn counted(state_counts: &StateCounts) -> Counts {
    Counts {
        total: state_counts.total(),
        alive: state_counts.of(State::Alive),
        retrying: state_counts.of(State::Retrying),
        paused: state_counts.of(State::Paused),
        unverified: state_counts.of(State::Unverified),
        expired: state_counts.of(State::Expired),
        rejected: state_counts.of(State::Rejected),
        missing: state_counts.of(State::Missing),
        elsewhere: None,
    }
}

/// What the remaining life of a token is based on.
pub(super) fn life_basis(token: &Token, policy: &Policy) -> LifeBasis {
    if policy.assumed {
        LifeBasis::Assumed
    } else if token.reading().is_some_and(|reading| reading.remaining() >= ENDLESS) {
        LifeBasis::Endless
    } else {
        LifeBasis::Reported
    }
}

/// When the token expires, as far as this replica knows: what it was told before another replica
/// checks the token proves nothing.
pub(super) fn known_expiry(token: &Token) -> Option<Moment> {
    token.expiry().filter(|_| token.state() != State::Elsewhere)
}

/// When the server reported the current value as expired or rejected; `None` in other states.
pub(super) fn dead_since(token: &Token, entry: TokenEntry<'_>) -> Option<Timestamp> {
    let is_dead = matches!(token.validity(), Validity::Expired | Validity::Rejected);
    entry.death_reason().filter(|_| is_dead).map(|death| death.at)
}

pub(super) const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Debug => "debug",
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
    }
}

/// Milliseconds from `now` to `bound`: negative if that has passed.
fn signed(bound: Moment, now: Moment) -> i64 {
    let whole = |later: Moment, earlier| i64::try_from(whole_millis(later.since(earlier)));
    if bound >= now {
        whole(bound, now).unwrap_or(i64::MAX)
    } else {
        whole(now, bound).map_or(i64::MIN, |passed| -passed)
    }
}

fn renews_by(method: Option<Method>) -> Option<String> {
    method.map(|method| method.as_str().to_owned())
}

/// An event without what it is about.
pub(super) fn event(event: &LoggedEvent) -> EventView {
    EventView {
        at: event.at.to_string(),
        level: level(event.severity).to_owned(),
        event: event.name.as_str().to_owned(),
        message: event.text.to_string(),
    }
}
