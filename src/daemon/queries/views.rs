//! What the daemon shows of its tokens and servers; never a value.

use crate::clock;
use crate::control::{Counts, EventView, ReauthView, ServerView, Story, TokenView};
use crate::daemon::Daemon;
use crate::events::{Happened, Severity};
use crate::keeper::{Census, TokenId};
use crate::lifecycle::{Method, State};
use crate::time::{Moment, whole_millis};

/// Events in a token's story: more than anybody reads at once.
const EVENTS: usize = 100;

impl Daemon {
    pub(crate) fn counts(&self) -> Counts {
        counted(&self.tokens.scheduler.census())
    }

    pub(crate) fn view(&self, id: TokenId) -> Option<TokenView> {
        let (token, kept) = (self.tokens.scheduler.token(id)?, self.tokens.registry.token(id)?);
        let now = clock::now();
        let stock = kept.stock().and_then(|stock| self.stocks.by_id.get(&stock));
        let reading = token.reading();
        let next_check = self.tokens.scheduler.next_check(id);
        Some(TokenView {
            name: kept.name().to_owned(),
            server: self.tokens.registry.remote(kept.terms().server).settings.name.clone(),
            inventory: stock.map(|stock| stock.settings.name.clone()),
            state: token.state().as_str().to_owned(),
            remaining_ms: token.bound().map(|bound| signed(bound, now)),
            life_ms: Some(token.life_ms()).filter(|life| *life > 0),
            last_check_ms: reading.map(|reading| whole_millis(now.since(reading.received))),
            next_check_ms: next_check.map(|next| whole_millis(next.since(now))),
            busy: token.is_busy(),
            renews_by: renews_by(self.tokens.scheduler.renews_by(kept.terms().server)),
        })
    }

    pub(crate) fn story(&self, id: TokenId) -> Option<Story> {
        let (token, kept) = (self.tokens.scheduler.token(id)?, self.tokens.registry.token(id)?);
        let now = clock::now();
        let policy = self.tokens.scheduler.spec(id).and_then(|spec| spec.policy.reauth);
        let reauth = kept.terms().reauth.as_ref().zip(policy).map(|(reauth, policy)| ReauthView {
            name: reauth.name.clone(),
            attempts_left: token.attempts_left(&policy, now),
            max_attempts: policy.max_attempts.get(),
            next_attempt_ms: token.next_attempt().map(|next| whole_millis(next.since(now))),
        });
        Some(Story {
            token: self.view(id)?,
            retry_room_ms: token.retry_room().map(|(room, _)| whole_millis(room)),
            failures: token.failures(),
            reauth,
            events: self.journal.ring().of(kept.name(), EVENTS).into_iter().map(event).collect(),
        })
    }

    pub(crate) fn server_views(&self) -> Vec<ServerView> {
        let now = clock::now();
        let servers = self.settings.servers.iter().filter_map(|server| {
            let id = self.tokens.registry.server_of(&server.name)?;
            Some(ServerView {
                name: server.name.clone(),
                tokens: self.tokens.scheduler.census_of(id).total(),
                available: self.is_available(id),
                quiet_ms: whole_millis(self.tokens.scheduler.quiet_until(id).since(now)),
                renews_by: renews_by(self.tokens.scheduler.renews_by(id)),
            })
        });
        servers.collect()
    }
}

pub(crate) fn counted(census: &Census) -> Counts {
    Counts {
        total: census.total(),
        alive: census.of(State::Alive),
        retrying: census.of(State::Retrying),
        paused: census.of(State::Paused),
        unverified: census.of(State::Unverified),
        expired: census.of(State::Expired),
        rejected: census.of(State::Rejected),
        missing: census.of(State::Missing),
    }
}

pub(crate) const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Debug => "debug",
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
    }
}

/// Milliseconds from `now` to `bound`, negative once that has passed.
fn signed(bound: Moment, now: Moment) -> i64 {
    let whole = |later: Moment, earlier| i64::try_from(whole_millis(later.since(earlier)));
    if bound >= now {
        whole(bound, now).unwrap_or(i64::MAX)
    } else {
        whole(now, bound).map_or(i64::MIN, |passed| -passed)
    }
}

fn renews_by(method: Option<Method>) -> Option<String> {
    method.map(|method| match method {
        Method::Query => "query".to_owned(),
        Method::Renew => "renew".to_owned(),
    })
}

fn event(event: &Happened) -> EventView {
    EventView {
        at: event.at.to_string(),
        level: level(event.severity).to_owned(),
        event: event.name.as_str().to_owned(),
        message: event.text.to_string(),
    }
}
