//! Queries of the dashboard: the most urgent tokens as rows, and counts of the others.

use std::sync::Arc;

use super::digest::{Digest, Disclosure};
use super::top_k::{TopK, rank};
use super::views::{View, dead_since, known_expiry, level, life_basis};
use crate::clock;
use crate::control::Reply;
use crate::control::dashboard::{
    EventNote, MAX_ROWS, OutageRow, ReauthRow, ServerCounts, Snapshot, TokenRow,
};
use crate::daemon::tokens::{Tokens, UNUSABLE};
use crate::lifecycle::{Resource, State, Token, TokenSummary};
use crate::scheduler::{Scheduler, ServerId, TokenId, TokenSpec};

/// Rows that are written in one step: each copies a name.
const ROWS: usize = 1_024;

/// The last events that are shown: more than fit on a screen.
const NOTES: usize = 100;

/// A query of the dashboard.
#[derive(Debug)]
pub(crate) struct DashboardQuery {
    names: bool,
    reply: Reply<Snapshot>,
    digest: Digest,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Finding the tokens that are shown.
    Finding(TopK),
    /// Writing their rows.
    Writing {
        /// The keys without a row so far, the highest first.
        keys: Vec<u32>,
        rows: Vec<TokenRow>,
    },
}

impl DashboardQuery {
    /// A query that begins.
    pub(crate) fn new(names: bool, reply: Reply<Snapshot>) -> Self {
        let stage = Stage::Finding(TopK::new(MAX_ROWS));
        Self { names, reply, digest: Digest::new(), stage }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    pub(crate) fn visit(&mut self, summary: TokenSummary, spec: &TokenSpec, key: u32) {
        self.digest.visit(summary, spec, key);
        if let Stage::Finding(worst) = &mut self.stage {
            worst.visit(rank(summary, key));
        }
    }
}

impl DashboardQuery {
    /// Answers the query, or writes a part of its rows and returns the rest.
    pub(super) fn answer(self, view: &View<'_>) -> Option<Self> {
        let Self { names, reply, digest, stage } = self;
        let (mut keys, mut rows) = match stage {
            Stage::Finding(worst) => {
                let mut keys: Vec<_> = worst.found().into_iter().map(|(.., key)| key).collect();
                keys.sort_unstable_by(|a, b| b.cmp(a));
                let rows = Vec::with_capacity(keys.len());
                return Some(Self { names, reply, digest, stage: Stage::Writing { keys, rows } });
            }
            Stage::Writing { keys, rows } => (keys, rows),
        };
        let now = keys.split_off(keys.len().saturating_sub(ROWS));
        rows.extend(now.iter().rev().filter_map(|key| row(view, *key, names)));
        if !keys.is_empty() {
            return Some(Self { names, reply, digest, stage: Stage::Writing { keys, rows } });
        }
        // The client may be gone.
        let _ = reply.send(Ok(snapshot(view, rows, digest, names)));
        None
    }
}

fn row(view: &View<'_>, key: u32, names: bool) -> Option<TokenRow> {
    let Tokens { scheduler, registry, servers, .. } = view.tokens;
    let id = scheduler.id_of(key)?;
    let (token, entry) = (scheduler.token(id)?, registry.token(id)?);
    let server = entry.config().server;
    let cluster = view.cluster.filter(|_| names);
    let place =
        cluster.map(|cluster| cluster.place_of(&servers[server].settings.name, entry.name()));
    Some(TokenRow {
        id: key,
        name: names.then(|| Arc::from(entry.name())),
        server: server.index(),
        state: token.state().as_str(),
        until: known_expiry(&token),
        life_ms: Some(token.life_ms()).filter(|life| *life > 0),
        basis: life_basis(&token, &scheduler.spec(id)?.policy),
        next_check: scheduler.next_check(id),
        dead_since: dead_since(&token, entry),
        reauth: reauth(scheduler, id, &token),
        replica: place.and_then(|place| place.replica).map(Arc::from),
        claimed_by: place.and_then(|place| place.claim).map(|claim| claim.replica.clone()),
    })
}

/// The re-authentication of a token, if it needs a new value or an attempt is planned.
fn reauth(scheduler: &Scheduler, id: TokenId, token: &Token) -> Option<ReauthRow> {
    let policy = scheduler.spec(id)?.policy.reauth?;
    let next = token.due_for(Resource::Reauth).and_then(|_| scheduler.next_reauth(id));
    let running = token.is_reauthenticating();
    let needed = matches!(token.state(), State::Missing | State::Rejected | State::Expired);
    (needed || running || next.is_some()).then(|| ReauthRow {
        running,
        attempts_left: token.attempts_left(&policy, clock::now()),
        next,
    })
}

fn snapshot(view: &View<'_>, rows: Vec<TokenRow>, digest: Digest, names: bool) -> Snapshot {
    let states = view.counts();
    let rest = states.total.saturating_sub(rows.len());
    let next_check = digest.next_check(view);
    let disclosure = Disclosure { names, details: false };
    Snapshot {
        summary: digest.summary(view, disclosure),
        rows,
        rest,
        states,
        servers: server_counts(view),
        next_check,
        notes: notes(view, names),
        config_rejected: view.config_rejected.map(|rejection| rejection.at),
        cluster: view.cluster_status(disclosure),
    }
}

/// The servers by their numbers, as rows refer to them; without a name where a server is gone.
fn server_counts(view: &View<'_>) -> Vec<ServerCounts> {
    let mut counts = Vec::new();
    for server in &view.settings.servers {
        let Some(id) = view.tokens.servers.id_of(&server.name) else { continue };
        if counts.len() <= id.index() {
            counts.resize_with(id.index() + 1, ServerCounts::default);
        }
        counts[id.index()] = ServerCounts {
            name: server.name.as_str().into(),
            outage: (!view.tokens.is_available(id)).then(|| outage(view, id)),
            throttled_until: view.tokens.scheduler.throttled_until(id),
            states: view.counted(&view.tokens.scheduler.state_counts_of(id)),
        };
    }
    counts
}

/// The outage of a server that is unavailable: its circuit breaker is open, or it has no client.
fn outage(view: &View<'_>, id: ServerId) -> OutageRow {
    match view.outage(id) {
        Some(outage) => {
            OutageRow { reason: outage.error.class().into(), since: Some(outage.since) }
        }
        None => OutageRow { reason: UNUSABLE.into(), since: None },
    }
}

fn notes(view: &View<'_>, names: bool) -> Vec<EventNote> {
    let latest = view.tokens.log.history().latest(NOTES);
    let notes = latest.map(|(seq, event)| EventNote {
        seq,
        at_ms: event.at.as_millisecond(),
        event: event.name.as_str(),
        level: level(event.severity),
        token: (names && !event.token.is_empty()).then(|| Arc::from(&*event.token)),
        server: event.server.as_deref().map(Arc::from),
        replica: event.replica.as_deref().filter(|_| names).map(Arc::from),
    });
    notes.collect()
}
