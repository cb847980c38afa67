//! The specification of the keeper: who is let through, when, and what is told of it.
//!
//! One token's rules are specified beside them; whole days of thousands of tokens are
//! simulated in `tests/simulation`.

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
            Output::Server(_, notice) => Some(*notice),
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

fn expired() -> Outcome {
    Outcome::Expired(Fault::new("expired").with_status(410))
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
fn an_answer_for_a_token_that_was_removed_frees_its_place_and_does_nothing_else() {
    let mut desk = Desk::new(1_000_000, 1);
    let tokens = desk.tokens(2, None);
    desk.wake();
    let (first, _) = desk.effects()[0];
    desk.keeper.remove_token(first.token);
    desk.out.clear();
    desk.answer(first, expired());
    let other = if first.token == tokens[0] { tokens[1] } else { tokens[0] };
    assert_eq!(desk.effects().iter().map(|(ticket, _)| ticket.token).collect::<Vec<_>>(), [other]);
    assert!(desk.out.is_empty());
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
fn a_failing_server_does_not_delay_another_servers_tokens() {
    let mut desk = Desk::new(1_000_000, 1);
    desk.tokens(5, None);
    let other =
        desk.keeper.add_server(Limits { rate_limit: number(1_000), max_in_flight: number(1) });
    let spec = TokenSpec { server: other, ..desk.spec(None) };
    let id = desk.keeper.add_token(spec, true, desk.now);
    desk.wake();
    assert!(desk.effects().iter().any(|(ticket, _)| ticket.token == id));
}

#[test]
fn a_wish_for_quiet_holds_for_every_token_of_the_server() {
    let mut desk = Desk::new(1_000_000, 1);
    desk.tokens(3, None);
    desk.wake();
    let (ticket, _) = desk.effects()[0];
    let retry_after = Duration::from_secs(3);
    desk.answer(ticket, Outcome::Throttled { retry_after, fault: Fault::new("429") });
    desk.advance(Duration::from_millis(2_999));
    assert_eq!(desk.effects().len(), 0);
    desk.advance(Duration::from_millis(1));
    assert_eq!(desk.effects().len(), 1);
}

#[test]
fn a_wish_for_quiet_past_a_bound_is_told_at_once_of_every_token_concerned() {
    let mut desk = Desk::new(1_000_000, 2);
    desk.tokens(2, None);
    desk.wake();
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, alive(MINUTE));
    }
    desk.advance(Duration::from_secs(41));
    let (ticket, _) = desk.effects()[0];
    desk.out.clear();
    let fault = Fault::new("429");
    desk.answer(ticket, Outcome::Throttled { retry_after: MINUTE, fault });
    let warned = desk
        .out
        .iter()
        .filter(|output| matches!(output, Output::Token(_, Notice::Expiring { .. })));
    assert_eq!(warned.count(), 2);
}

#[test]
fn a_server_that_is_down_is_told_of_once_and_probed_one_at_a_time() {
    let mut desk = Desk::new(1_000_000, 10);
    desk.tokens(10, None);
    desk.wake();
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, unavailable());
    }
    assert_eq!(desk.server_notices(), [ServerNotice::Unavailable { tokens: 10 }]);
    assert_eq!(desk.effects().len(), 0);
    for _ in 0..20 {
        let probes = desk.next_effects();
        assert_eq!(probes.len(), 1);
        desk.answer(probes[0].0, unavailable());
    }
    assert_eq!(desk.server_notices().len(), 1);
}

#[test]
fn when_a_server_is_back_everybody_who_waited_follows() {
    let mut desk = Desk::new(1_000_000, 10);
    desk.tokens(10, None);
    desk.wake();
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, unavailable());
    }
    let probes = desk.next_effects();
    assert_eq!(probes.len(), 1);
    desk.answer(probes[0].0, alive(MINUTE));
    assert_eq!(desk.effects().len(), 9);
    assert_eq!(desk.server_notices()[1..], [ServerNotice::Recovered { tokens: 10 }]);
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

#[test]
fn no_more_hooks_run_at_once_than_there_are_places() {
    let (mut desk, _) = desk_of_the_dead(10, ReauthRoute::Hook, 20);
    let running = attempts(&mut desk);
    assert_eq!(running.len(), 4);
    end(&mut desk, running[0], Reauthenticated::NewValue { stored: true });
    assert_eq!(attempts(&mut desk).len(), 1);
}

#[test]
fn logins_by_the_server_take_its_places_and_not_the_hooks() {
    let (mut desk, _) = desk_of_the_dead(10, ReauthRoute::Server, 20);
    assert_eq!(attempts(&mut desk).len(), 10);
}

#[test]
fn a_way_that_fails_for_many_tokens_is_left_alone_until_its_window_ends() {
    let (mut desk, reauth) = desk_of_the_dead(50, ReauthRoute::Hook, 6);
    let started = end_all(&mut desk, &failed());
    assert_eq!(started, 6 + 3, "those under way when the sixth failed are not stopped");
    let told = desk.out.iter().filter(|output| {
        matches!(output, Output::ReauthExhausted { reauth: way, failures: 6, .. } if *way == reauth)
    });
    assert_eq!(told.count(), 1);
    desk.advance(59 * MINUTE);
    assert_eq!(attempts(&mut desk).len(), 0);
    desk.advance(MINUTE);
    assert_eq!(attempts(&mut desk).len(), 4);
}

#[test]
fn a_thousand_tokens_that_expire_together_are_all_served() {
    let (mut desk, _) = desk_of_the_dead(1_000, ReauthRoute::Hook, 20);
    let served = end_all(&mut desk, &Reauthenticated::NewValue { stored: true });
    assert_eq!(served, 1_000);
}

#[test]
fn nothing_logs_in_while_it_is_quiet() {
    for route in [ReauthRoute::Hook, ReauthRoute::Server] {
        let mut desk = Desk::new(1_000_000, 10);
        let spec = ReauthSpec { route, max_failures: number(20), window: 60 * MINUTE };
        let reauth = desk.keeper.add_reauth(spec);
        desk.keeper.close_reauth(reauth, desk.now + MINUTE);
        desk.tokens(1, Some(reauth));
        desk.wake();
        let (ticket, _) = desk.effects()[0];
        desk.answer(ticket, expired());
        assert_eq!(attempts(&mut desk).len(), 0);
        assert_eq!(desk.keeper.next_wake(), Some(at(61_000)));
        desk.now = at(61_000);
        desk.wake();
        assert_eq!(attempts(&mut desk).len(), 1);
    }
}

#[test]
fn failures_that_an_earlier_run_has_seen_still_count() {
    let mut desk = Desk::new(1_000_000, 10);
    let spec =
        ReauthSpec { route: ReauthRoute::Hook, max_failures: number(3), window: 60 * MINUTE };
    let reauth = desk.keeper.add_reauth(spec);
    let window_end = desk.now + MINUTE;
    desk.keeper.restore_failures(reauth, Failures { window_end, count: 3 });
    desk.tokens(1, Some(reauth));
    desk.wake();
    let (ticket, _) = desk.effects()[0];
    desk.answer(ticket, expired());
    assert_eq!(attempts(&mut desk).len(), 0);
    desk.advance(MINUTE);
    assert_eq!(attempts(&mut desk).len(), 1);
}

#[test]
fn a_token_that_gets_another_way_does_not_wait_for_the_old_one() {
    let (mut desk, closed) = desk_of_the_dead(1, ReauthRoute::Hook, 1);
    let ticket = attempts(&mut desk)[0];
    end(&mut desk, ticket, failed());
    desk.advance(MINUTE);
    assert_eq!(attempts(&mut desk).len(), 0);
    let open = desk.keeper.add_reauth(ReauthSpec {
        route: ReauthRoute::Hook,
        max_failures: number(1),
        window: MINUTE,
    });
    assert_ne!(open, closed);
    let spec = desk.spec(Some(open));
    desk.keeper.change_token(ticket.token, spec, desk.now, &mut desk.out);
    desk.wake();
    assert_eq!(attempts(&mut desk).len(), 1);
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

/// Moves a token to another server.
fn move_token(desk: &mut Desk, id: TokenId) {
    let limits = Limits { rate_limit: number(1_000), max_in_flight: number(5) };
    let server = desk.keeper.add_server(limits);
    let spec = TokenSpec { server, ..desk.spec(None) };
    desk.keeper.change_token(id, spec, desk.now, &mut desk.out);
    desk.wake();
}

#[test]
fn a_token_that_a_wrong_server_called_dead_is_asked_about_at_the_right_one() {
    let mut desk = Desk::new(1_000_000, 5);
    let id = desk.tokens(1, None)[0];
    desk.wake();
    let (ticket, _) = desk.effects()[0];
    desk.answer(ticket, expired());
    move_token(&mut desk, id);
    let (ticket, _) = desk.effects()[0];
    desk.answer(ticket, alive(MINUTE));
    assert!(matches!(
        desk.keeper.token(id).map(|token| token.standing()),
        Some(Standing::Alive(_))
    ));
}

#[test]
fn what_the_server_before_still_answers_does_not_count() {
    let mut desk = Desk::new(1_000_000, 5);
    let id = desk.tokens(1, None)[0];
    desk.wake();
    let (ticket, _) = desk.effects()[0];
    move_token(&mut desk, id);
    assert_eq!(desk.effects().len(), 0, "never two at once");
    desk.answer(ticket, expired());
    assert_eq!(desk.keeper.token(id).map(|token| token.standing()), Some(Standing::Unknown));
    let (ticket, _) = desk.effects()[0];
    desk.answer(ticket, alive(MINUTE));
    assert!(matches!(
        desk.keeper.token(id).map(|token| token.standing()),
        Some(Standing::Alive(_))
    ));
}

#[test]
fn a_change_starts_nothing_before_every_token_has_its_new_rules() {
    let (mut desk, reauth) = desk_of_the_dead(8, ReauthRoute::Hook, 20);
    let ids: Vec<_> = attempts(&mut desk).into_iter().map(|ticket| ticket.token).collect();
    assert_eq!(ids.len(), 4);
    desk.keeper.set_max_hooks(number(8));
    let spec = desk.spec(Some(reauth));
    desk.keeper.change_token(ids[0], spec, desk.now, &mut desk.out);
    assert_eq!(attempts(&mut desk).len(), 0);
    desk.wake();
    assert_eq!(attempts(&mut desk).len(), 4);
}

#[test]
fn a_login_that_never_asked_the_server_says_nothing_of_it() {
    let (mut desk, _) = desk_of_the_dead(5, ReauthRoute::Server, 20);
    for ticket in attempts(&mut desk) {
        end(&mut desk, ticket, failed());
    }
    assert_eq!(desk.server_notices(), []);
}

#[test]
fn logins_that_the_server_does_not_answer_show_that_it_is_down() {
    let (mut desk, _) = desk_of_the_dead(5, ReauthRoute::Server, 20);
    for ticket in attempts(&mut desk) {
        let fault = ReauthFault { unavailable: true, ..ReauthFault::default() };
        end(&mut desk, ticket, Reauthenticated::Failed(fault));
    }
    assert_eq!(desk.server_notices(), [ServerNotice::Unavailable { tokens: 5 }]);
}

#[test]
fn a_server_that_is_down_does_not_hurry_a_write_that_fails() {
    let (mut desk, _) = desk_of_the_dead(1, ReauthRoute::Hook, 20);
    let ticket = attempts(&mut desk)[0];
    end(&mut desk, ticket, Reauthenticated::NewValue { stored: false });
    let mut writes = 0;
    for _ in 0..20 {
        for (ticket, effect) in desk.effects() {
            match effect {
                Effect::Store { .. } => {
                    writes += 1;
                    let full = Err("disk full".into());
                    desk.keeper.stored(ticket, full, desk.now, &mut desk.out);
                }
                Effect::Ask { .. } | Effect::Reauth { .. } | Effect::Revoke { .. } => {
                    desk.answer(ticket, unavailable());
                }
            }
        }
    }
    assert_eq!(desk.server_notices(), [ServerNotice::Unavailable { tokens: 1 }]);
    assert_eq!(writes, 1, "at one instant");
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

#[test]
fn probes_come_often_enough_for_the_shortest_life_that_waits() {
    let mut desk = Desk::new(1_000_000, 4);
    let start = desk.now;
    desk.tokens(4, None);
    desk.wake();
    let mut effects = desk.effects();
    let (short, _) = effects.remove(0);
    for (ticket, _) in effects {
        desk.answer(ticket, alive(Duration::from_secs(100)));
    }
    // Its check is due after 81 to 86 s, its bound comes after 105 s: the others' come first.
    desk.now = start + Duration::from_secs(45);
    desk.answer(short, alive(MINUTE));
    let mut probes = Vec::new();
    while desk.now < start + Duration::from_secs(97) {
        for (ticket, _) in desk.next_effects() {
            probes.push(desk.now);
            desk.answer(ticket, unavailable());
        }
    }
    probes.retain(|probe| *probe > start + Duration::from_secs(87));
    assert!(probes.len() >= 2, "{probes:?}");
    for pair in probes.windows(2) {
        assert!(pair[1].since(pair[0]) <= MINUTE / 20, "{probes:?}");
    }
}

#[test]
fn the_failed_probe_of_a_removed_token_says_nothing_of_the_one_that_has_its_number() {
    let mut desk = Desk::new(1_000, 100);
    desk.tokens(1, None);
    desk.wake();
    let (check, _) = desk.effects().remove(0);
    desk.answer(check, unavailable());
    assert_eq!(desk.server_notices(), [ServerNotice::Unavailable { tokens: 1 }]);
    let (probe, _) = desk.next_effects().remove(0);
    desk.keeper.remove_token(probe.token);
    desk.out.clear();
    let slow =
        Schedule { retry_initial: 60 * MINUTE, retry_max: 60 * MINUTE, ..Schedule::default() };
    let policy = Arc::new(Policy { schedule: slow, ..Desk::policy() });
    let other =
        desk.keeper.add_server(Limits { rate_limit: number(1_000), max_in_flight: number(100) });
    let spec = TokenSpec { server: other, policy, reauth: None };
    assert_eq!(desk.keeper.add_token(spec, true, desk.now), probe.token);
    let waiting = desk.tokens(1, None)[0];
    desk.answer(probe, unavailable());
    desk.advance(Duration::from_secs(1));
    let asked: Vec<_> = desk.effects().iter().map(|(ticket, _)| ticket.token).collect();
    assert!(asked.contains(&waiting), "its own rules count: {asked:?}");
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

#[test]
fn tokens_whose_own_calls_fail_are_not_asked_again_each_time_that_the_server_recovers() {
    let mut desk = Desk::new(1_000, 100);
    let tokens = desk.tokens(4, None);
    let (healthy, poisoned) = (tokens[0], &tokens[1..]);
    desk.wake();
    let mut asked = 0;
    let mut recoveries = 0;
    let end = desk.now + MINUTE;
    while desk.now < end {
        for (ticket, _) in desk.effects() {
            if ticket.token == healthy {
                // So short a life that it shows again and again that the server is well.
                desk.answer(ticket, alive(Duration::from_millis(500)));
            } else {
                assert!(poisoned.contains(&ticket.token));
                asked += 1;
                desk.answer(ticket, unavailable());
            }
        }
        recoveries += desk.server_notices().len();
        desk.out.retain(|output| matches!(output, Output::Effect(..)));
        let next = desk.keeper.next_wake().expect("somebody waits").max(desk.now);
        desk.now = next.max(desk.now + Duration::from_millis(1));
        desk.wake();
    }
    assert!(recoveries >= 2, "{recoveries}");
    assert!(asked < 40, "{asked} requests in a minute for three tokens");
}
