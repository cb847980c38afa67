//! The specification of the keeper: who is let through, when, and what is told of it.
//!
//! One token's rules are specified beside them; whole days of thousands of tokens are
//! simulated in `tests/simulation`.

mod changes;
mod logins;
mod outages;
mod room;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::lifecycle::{Effect, Policy, ReauthFault, ReauthPolicy, Renewal, Schedule, Standing};
use crate::outcome::Fault;

const MINUTE: Duration = Duration::from_secs(60);

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// A keeper with what it has put out since one last looked.
struct Desk {
    keeper: Keeper,
    server: ServerId,
    now: Moment,
    out: Vec<Output>,
}

impl Desk {
    fn new(rate_limit: u32, max_in_flight: u32) -> Self {
        let mut keeper = Keeper::new(number(4), 7);
        let limits =
            Limits { rate_limit: number(rate_limit), max_in_flight: number(max_in_flight) };
        let server = keeper.add_server(limits);
        Self { keeper, server, now: at(1_000), out: Vec::new() }
    }

    fn policy() -> Policy {
        Policy {
            schedule: Schedule::default(),
            timeout: Duration::from_secs(10),
            renewal: Renewal::Query,
            reauth: None,
            reauth_before: None,
        }
    }

    fn spec(&self, reauth: Option<ReauthId>) -> TokenSpec {
        let policy = Policy {
            reauth: reauth.map(|_| ReauthPolicy {
                delay: Duration::from_secs(1),
                delay_max: MINUTE,
                max_attempts: number(5),
                window: 60 * MINUTE,
            }),
            ..Self::policy()
        };
        TokenSpec { server: self.server, policy: Arc::new(policy), reauth }
    }

    fn tokens(&mut self, count: usize, reauth: Option<ReauthId>) -> Vec<TokenId> {
        let spec = self.spec(reauth);
        (0..count).map(|_| self.keeper.add_token(spec.clone(), true, self.now)).collect()
    }

    fn wake(&mut self) {
        self.keeper.wake(self.now, &mut self.out);
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.wake();
    }

    /// The effects put out since the last time.
    fn effects(&mut self) -> Vec<(Ticket, Effect)> {
        let effects = self.out.iter().filter_map(|output| match output {
            Output::Effect(ticket, effect) => Some((*ticket, *effect)),
            Output::Token(..) | Output::Server(..) | Output::ReauthExhausted { .. } => None,
        });
        let effects = effects.collect();
        self.out.retain(|output| !matches!(output, Output::Effect(..)));
        effects
    }

    /// Goes from wake-up to wake-up until effects are put out.
    fn next_effects(&mut self) -> Vec<(Ticket, Effect)> {
        for _ in 0..100 {
            self.now = self.keeper.next_wake().expect("somebody waits");
            self.wake();
            let effects = self.effects();
            if !effects.is_empty() {
                return effects;
            }
        }
        panic!("a hundred wake-ups, and nothing was done");
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        let answer = Answer { sent: self.now, received: self.now, outcome, replaced: false };
        self.keeper.answered(ticket, answer, self.now, &mut self.out);
    }

    fn server_notices(&self) -> Vec<ServerNotice> {
        let notices = self.out.iter().filter_map(|output| match output {
            Output::Server(_, notice) => Some(notice.clone()),
            Output::Effect(..) | Output::Token(..) | Output::ReauthExhausted { .. } => None,
        });
        notices.collect()
    }
}

fn alive(remaining: Duration) -> Outcome {
    Outcome::Alive { remaining }
}

fn unavailable() -> Outcome {
    Outcome::Unavailable(Fault::new("connection refused"))
}

/// The notice of a server that refuses connections.
fn down(tokens: usize) -> ServerNotice {
    ServerNotice::Unavailable { tokens, fault: Fault::new("connection refused") }
}

fn expired() -> Outcome {
    Outcome::Expired(Fault::new("expired").with_status(410))
}

/// A desk on which `count` tokens have expired, each with a way to a new value.
fn desk_of_the_dead(count: usize, route: ReauthRoute, max_failures: u32) -> (Desk, ReauthId) {
    let mut desk = Desk::new(1_000_000, 1_000);
    let spec = ReauthSpec { route, max_failures: number(max_failures), window: 60 * MINUTE };
    let reauth = desk.keeper.add_reauth(spec);
    desk.tokens(count, Some(reauth));
    desk.wake();
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, expired());
    }
    (desk, reauth)
}

/// The re-auth attempts that have started since one last looked.
fn attempts(desk: &mut Desk) -> Vec<Ticket> {
    let effects = desk.effects().into_iter();
    effects
        .filter(|(_, effect)| matches!(effect, Effect::Reauth { .. }))
        .map(|(ticket, _)| ticket)
        .collect()
}

fn end(desk: &mut Desk, ticket: Ticket, result: Reauthenticated) {
    let end = ReauthEnd { result, duration: Duration::from_millis(5) };
    desk.keeper.reauthenticated(ticket, end, desk.now, &mut desk.out);
}

/// Ends all attempts, those too that start meanwhile, with this result; how many there were.
fn end_all(desk: &mut Desk, result: &Reauthenticated) -> usize {
    let mut ended = 0;
    loop {
        let running = attempts(desk);
        if running.is_empty() {
            return ended;
        }
        ended += running.len();
        for ticket in running {
            end(desk, ticket, result.clone());
        }
    }
}

fn failed() -> Reauthenticated {
    Reauthenticated::Failed(ReauthFault::default())
}

/// Moves a token to another server.
fn move_token(desk: &mut Desk, id: TokenId) {
    let limits = Limits { rate_limit: number(1_000), max_in_flight: number(5) };
    let server = desk.keeper.add_server(limits);
    let spec = TokenSpec { server, ..desk.spec(None) };
    desk.keeper.change_token(id, spec, desk.now, &mut desk.out);
    desk.wake();
}

#[test]
fn first_checks_start_at_once_within_the_places_in_flight() {
    let mut desk = Desk::new(1_000_000, 3);
    desk.tokens(10, None);
    desk.wake();
    assert_eq!(desk.effects().len(), 3);
}

#[test]
fn the_end_of_a_request_makes_room_for_the_next_one() {
    let mut desk = Desk::new(1_000_000, 1);
    desk.tokens(2, None);
    desk.wake();
    let (first, _) = desk.effects()[0];
    desk.answer(first, alive(MINUTE));
    let (second, _) = desk.effects()[0];
    assert_ne!(first.token, second.token);
}

#[test]
fn an_answer_that_comes_twice_does_nothing_the_second_time() {
    let mut desk = Desk::new(1_000_000, 4);
    desk.tokens(1, None);
    desk.wake();
    let (ticket, _) = desk.effects()[0];
    desk.answer(ticket, alive(MINUTE));
    desk.out.clear();
    desk.answer(ticket, expired());
    assert!(desk.out.is_empty());
}

#[test]
fn what_one_token_has_taught_of_a_server_is_told_once() {
    let mut desk = Desk::new(1_000_000, 10);
    let spec = TokenSpec {
        policy: Arc::new(Policy { renewal: Renewal::Auto, ..Desk::policy() }),
        ..desk.spec(None)
    };
    for _ in 0..3 {
        desk.keeper.add_token(spec.clone(), true, desk.now);
    }
    for _ in 0..3 {
        desk.wake();
        for (ticket, _) in desk.effects() {
            desk.answer(ticket, alive(MINUTE));
        }
        desk.now = desk.now + Duration::from_secs(41);
    }
    assert_eq!(desk.server_notices(), [ServerNotice::RenewalLearned(Method::Query)]);
    assert_eq!(desk.keeper.renews_by(desk.server), Some(Method::Query));
}

#[test]
fn with_nothing_to_do_nobody_is_woken() {
    let mut desk = Desk::new(1_000_000, 10);
    assert_eq!(desk.keeper.next_wake(), None);
    desk.tokens(1, None);
    desk.wake();
    let (ticket, _) = desk.effects()[0];
    assert_eq!(desk.keeper.next_wake(), None);
    desk.answer(ticket, expired());
    assert_eq!(desk.keeper.next_wake(), None);
}

#[test]
fn a_place_goes_to_the_most_urgent_of_all_that_have_come_due_by_then() {
    let mut desk = Desk::new(1_000_000, 1);
    let tokens = desk.tokens(3, None);
    desk.wake();
    for life in [100, 160, 150] {
        let (ticket, _) = desk.effects()[0];
        desk.answer(ticket, alive(Duration::from_secs(life)));
    }
    // The first is asked about when its check is due; the others come due while it is.
    let (first, _) = desk.next_effects()[0];
    assert_eq!(first.token, tokens[0]);
    desk.now = desk.now + Duration::from_secs(60);
    desk.answer(first, alive(Duration::from_secs(100)));
    assert_eq!(desk.effects()[0].0.token, tokens[2]);
}

#[test]
fn once_closed_it_begins_nothing_and_says_so_of_nothing() {
    let (mut desk, _) = desk_of_the_dead(8, ReauthRoute::Hook, 20);
    let under_way = attempts(&mut desk);
    desk.keeper.close();
    desk.out.clear();
    for ticket in under_way {
        end(&mut desk, ticket, failed());
    }
    let begun = |output: &Output| {
        matches!(output, Output::Effect(..) | Output::Token(_, Notice::ReauthStarted { .. }))
    };
    assert!(!desk.out.iter().any(begun), "{:?}", desk.out);
}

/// The census, counted one by one.
fn counted(desk: &Desk) -> Census {
    let mut census = Census::default();
    for token in (0..200).filter_map(|key| desk.keeper.token(desk.keeper.id_of(key)?)) {
        census.add(&token);
    }
    census
}

#[test]
fn the_census_is_what_a_count_would_give_whatever_happens() {
    let mut desk = Desk::new(1_000_000, 50);
    let ids = desk.tokens(100, None);
    desk.keeper.source_changed(ids[0], SourceChange::NewValue, desk.now, &mut desk.out);
    let outcomes = [alive(MINUTE), expired(), alive(MINUTE), unavailable(), alive(MINUTE)];
    for round in 0..100 {
        desk.now = desk.now.max(desk.keeper.next_wake().unwrap_or(desk.now));
        desk.wake();
        for (nth, (ticket, _)) in desk.effects().into_iter().enumerate() {
            desk.answer(ticket, outcomes[(nth + round) % outcomes.len()].clone());
        }
        match round {
            2 => desk.keeper.remove_token(ids[7]),
            4 => move_token(&mut desk, ids[8]),
            6 => drop(desk.tokens(5, None)),
            _ => {}
        }
        assert_eq!(desk.keeper.census(), counted(&desk), "round {round}");
    }
    let sum = desk.keeper.census_of(desk.server).total();
    assert_eq!(desk.keeper.census().total() - sum, 1, "the one that was moved");
}

#[test]
fn retries_leave_no_trail_in_the_schedule() {
    let mut desk = Desk::new(1_000_000, 2_000);
    desk.tokens(1_000, None);
    desk.wake();
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, alive(60 * MINUTE));
    }
    for _ in 0..5_000 {
        for (ticket, _) in desk.next_effects() {
            desk.answer(ticket, Outcome::Misconfigured(Fault::new("not found").with_status(404)));
        }
    }
    assert!(!desk.keeper.agenda.is_overfull(1_000));
}
