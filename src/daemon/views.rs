//! What the daemon shows of its tokens and servers; never a value.

use super::Daemon;
use crate::clock;
use crate::control::{Counts, EventView, ReauthView, ServerView, TokenDetail, TokenView};
use crate::event_log::{LoggedEvent, Severity};
use crate::lifecycle::{Method, State};
use crate::scheduler::{StateCounts, TokenId};
use crate::time::{Moment, whole_millis};
use crate::token_file;

/// Events in a token's story: more than anybody reads at once.
const EVENTS: usize = 100;

impl Daemon {
    pub(super) fn counts(&self) -> Counts {
        counted(&self.scheduler.state_counts())
    }

    pub(super) fn view(&self, id: TokenId) -> Option<TokenView> {
        let (token, kept) = (self.scheduler.token(id)?, self.roster.token(id)?);
        let now = clock::now();
        let stock = kept.stock().and_then(|stock| self.stocks.by_id.get(&stock));
        let reading = token.reading();
        let next_check = self.scheduler.next_check(id);
        Some(TokenView {
            name: kept.name().to_owned(),
            server: self.roster.remote(kept.terms().server).settings.name.clone(),
            inventory: stock.map(|stock| stock.settings.name.clone()),
            state: token.state().as_str().to_owned(),
            remaining_ms: token.expiry().map(|bound| signed(bound, now)),
            life_ms: Some(token.life_ms()).filter(|life| *life > 0),
            last_check_ms: reading.map(|reading| whole_millis(now.since(reading.received))),
            next_check_ms: next_check.map(|next| whole_millis(next.since(now))),
            busy: token.is_busy(),
            renews_by: renews_by(self.scheduler.renews_by(kept.terms().server)),
        })
    }

    pub(super) fn story(&self, id: TokenId) -> Option<TokenDetail> {
        let (token, kept) = (self.scheduler.token(id)?, self.roster.token(id)?);
        let now = clock::now();
        let policy = self.scheduler.spec(id).and_then(|spec| spec.policy.reauth);
        let reauth = kept.terms().reauth.as_ref().zip(policy).map(|(reauth, policy)| ReauthView {
            name: reauth.name.clone(),
            attempts_left: token.attempts_left(&policy, now),
            max_attempts: policy.max_attempts.get(),
            next_attempt_ms: token.next_attempt().map(|next| whole_millis(next.since(now))),
        });
        Some(TokenDetail {
            token: self.view(id)?,
            source: kept.source().as_ref().map(token_file::describe),
            retry_room_ms: token.retry_room().map(|(room, _)| whole_millis(room)),
            failures: token.failures(),
            reauth,
            events: self
                .event_log
                .history()
                .for_token(kept.name(), EVENTS)
                .into_iter()
                .map(event)
                .collect(),
        })
    }

    pub(super) fn server_views(&self) -> Vec<ServerView> {
        let now = clock::now();
        let servers = self.settings.servers.iter().filter_map(|server| {
            let id = self.roster.server_of(&server.name)?;
            Some(ServerView {
                name: server.name.clone(),
                tokens: self.scheduler.state_counts_of(id).total(),
                available: self.is_available(id),
                quiet_ms: whole_millis(self.scheduler.throttled_until(id).since(now)),
                renews_by: renews_by(self.scheduler.renews_by(id)),
            })
        });
        servers.collect()
    }
}

pub(super) fn counted(state_counts: &StateCounts) -> Counts {
    Counts {
        total: state_counts.total(),
        alive: state_counts.of(State::Alive),
        retrying: state_counts.of(State::Retrying),
        paused: state_counts.of(State::Paused),
        unverified: state_counts.of(State::Unverified),
        expired: state_counts.of(State::Expired),
        rejected: state_counts.of(State::Rejected),
        missing: state_counts.of(State::Missing),
    }
}

pub(super) const fn level(severity: Severity) -> &'static str {
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
    method.map(|method| method.as_str().to_owned())
}

fn event(event: &LoggedEvent) -> EventView {
    EventView {
        at: event.at.to_string(),
        level: level(event.severity).to_owned(),
        event: event.name.as_str().to_owned(),
        message: event.text.to_string(),
    }
}
