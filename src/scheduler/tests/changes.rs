//! Tokens that are moved, reconfigured or removed, and completions that arrive afterwards.

use super::*;
use crate::scheduler::token_slot::ActiveToken;

#[test]
fn completion_for_a_removed_token_releases_its_permit_only() {
    let mut fixture = Fixture::new(1_000_000, 1);
    let tokens = fixture.tokens(2, None);
    fixture.wake();
    let (first, _) = fixture.actions()[0];
    fixture.scheduler.remove_token(first.token);
    fixture.scheduler.outputs.clear();
    fixture.answer(first, expired());
    let other = if first.token == tokens[0] { tokens[1] } else { tokens[0] };
    assert_eq!(
        fixture.actions().iter().map(|(ticket, _)| ticket.token).collect::<Vec<_>>(),
        [other]
    );
    assert!(fixture.scheduler.outputs.is_empty());
}

#[test]
fn token_called_dead_by_a_wrong_server_is_checked_at_the_right_one() {
    let mut fixture = Fixture::new(1_000_000, 5);
    let id = fixture.tokens(1, None)[0];
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, expired());
    move_token(&mut fixture, id);
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, alive(MINUTE));
    assert!(matches!(
        fixture.scheduler.token(id).map(|token| token.validity()),
        Some(Validity::Alive(_))
    ));
}

#[test]
fn response_of_the_previous_server_is_ignored() {
    let mut fixture = Fixture::new(1_000_000, 5);
    let id = fixture.tokens(1, None)[0];
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    move_token(&mut fixture, id);
    assert_eq!(fixture.actions().len(), 0, "never two at once");
    fixture.answer(ticket, expired());
    assert_eq!(fixture.scheduler.token(id).map(|token| token.validity()), Some(Validity::Unknown));
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, alive(MINUTE));
    assert!(matches!(
        fixture.scheduler.token(id).map(|token| token.validity()),
        Some(Validity::Alive(_))
    ));
}

#[test]
fn reload_starts_no_action_before_all_tokens_are_reconfigured() {
    let (mut fixture, reauth) = fixture_with_dead_tokens(8, ReauthRoute::Hook, 20);
    let ids: Vec<_> = attempts(&mut fixture).into_iter().map(|ticket| ticket.token).collect();
    assert_eq!(ids.len(), 4);
    fixture.scheduler.set_max_hooks(number(8));
    let spec = fixture.spec(Some(reauth));
    fixture.scheduler.change_token(ids[0], spec, fixture.now);
    assert_eq!(attempts(&mut fixture).len(), 0);
    fixture.wake();
    assert_eq!(attempts(&mut fixture).len(), 4);
}

#[test]
fn failed_probe_of_a_removed_token_does_not_count_for_the_token_that_reuses_its_id() {
    let mut fixture = Fixture::new(1_000, 100);
    fixture.tokens(1, None);
    fixture.wake();
    let (check, _) = fixture.actions().remove(0);
    fixture.answer(check, unavailable());
    assert_eq!(fixture.server_notices(), [down(1)]);
    let (probe, _) = fixture.next_actions().remove(0);
    fixture.scheduler.remove_token(probe.token);
    fixture.scheduler.outputs.clear();
    let slow =
        Schedule { retry_initial: 60 * MINUTE, retry_max: 60 * MINUTE, ..Schedule::default() };
    let policy = Arc::new(Policy { schedule: slow, ..Fixture::policy() });
    let other = fixture
        .scheduler
        .add_server(ServerLimits { rate_limit: number(1_000), max_in_flight: number(100) });
    let spec = TokenSpec { server: other, policy, reauth: None };
    assert_eq!(fixture.scheduler.add_token(spec, true, fixture.now), probe.token);
    let waiting = fixture.tokens(1, None)[0];
    fixture.answer(probe, unavailable());
    fixture.advance(Duration::from_secs(1));
    let asked: Vec<_> = fixture.actions().iter().map(|(ticket, _)| ticket.token).collect();
    assert!(asked.contains(&waiting), "its own rules count: {asked:?}");
}

#[test]
fn removed_server_keeps_its_id_until_its_last_request_has_finished() {
    let mut fixture = Fixture::new(1_000, 5);
    let ids = fixture.tokens(2, None);
    fixture.wake();
    let calls = fixture.actions();
    for id in ids {
        fixture.scheduler.remove_token(id);
    }
    fixture.scheduler.remove_server(fixture.server);
    let limits = ServerLimits { rate_limit: number(1), max_in_flight: number(1) };
    assert_ne!(fixture.scheduler.add_server(limits), fixture.server);
    fixture.answer(calls[0].0, alive(MINUTE));
    fixture.answer(calls[1].0, unavailable());
    assert_eq!(fixture.server_notices(), []);
    assert_eq!(fixture.scheduler.server_count(), 1);
    assert_eq!(fixture.scheduler.add_server(limits), fixture.server);
    assert_eq!(fixture.scheduler.in_flight(fixture.server), 0);
}

#[test]
fn repeatedly_renamed_servers_leak_no_ids() {
    let mut fixture = Fixture::new(1_000, 5);
    let id = fixture.tokens(1, None)[0];
    for _ in 0..200 {
        fixture.advance(Duration::from_secs(1));
        let earlier = fixture.server;
        let limits = ServerLimits { rate_limit: number(1_000), max_in_flight: number(5) };
        fixture.server = fixture.scheduler.add_server(limits);
        let spec = fixture.spec(None);
        fixture.scheduler.change_token(id, spec, fixture.now);
        fixture.scheduler.remove_server(earlier);
        for (ticket, _) in fixture.actions() {
            fixture.answer(ticket, alive(MINUTE));
        }
    }
    assert!(fixture.scheduler.server_count() <= 2, "{}", fixture.scheduler.server_count());
}

#[test]
fn cancelled_action_releases_its_permit() {
    let mut fixture = Fixture::new(1_000_000, 1);
    fixture.tokens(2, None);
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.scheduler.remove_token(ticket.token);
    fixture.scheduler.cancel(ticket, fixture.now);
    let next = fixture.actions();
    assert_eq!(next.len(), 1, "the other token's check");
    fixture.scheduler.cancel(next[0].0, fixture.now);
    assert_eq!(fixture.scheduler.in_flight(fixture.server), 0);
    fixture.advance(Duration::from_secs(1));
    assert_eq!(fixture.actions().len(), 1, "it is repeated");
}

#[test]
fn attempt_without_a_reauth_method_sets_no_timer() {
    let (fixture, reauth) = fixture_with_dead_tokens(5, ReauthRoute::Hook, 20);
    let mut tokens =
        (0..5).filter_map(|key| fixture.scheduler.token(fixture.scheduler.id_of(key)?));
    let waits = tokens.find(|token| !token.is_busy()).expect("there are four slots");
    let active = ActiveToken::new(0, &waits, 0);
    assert_eq!(active.next_deadline(&fixture.spec(Some(reauth))), Some(fixture.now));
    assert_eq!(active.next_deadline(&fixture.spec(None)), None);
}
