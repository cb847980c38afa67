//! Tokens that replicas share: who asks, and what is deferred.

use super::*;
use crate::lifecycle::{
    Method, OperatorRequest, PersistedLife, ReauthAttempts, ReplacedBy, RequestError, State,
};

const SECOND: Duration = Duration::from_secs(1);

fn persisted(fixture: &Fixture) -> PersistedLife {
    PersistedLife {
        expiry: fixture.now + 50 * MINUTE,
        remaining_ms: 3_600_000,
        life_ms: 3_600_000,
        by: Method::Query,
        proven: true,
        unrenewable: false,
        this_boot: true,
    }
}

fn notices(fixture: &Fixture) -> usize {
    let is_notice = |output: &&_| !matches!(output, SchedulerOutput::Action(..));
    fixture.scheduler.outputs.iter().filter(is_notice).count()
}

#[test]
fn token_that_is_added_for_another_replica_starts_nothing() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let here = fixture.tokens(1, None)[0];
    let elsewhere = fixture.tokens(1, None)[0];
    fixture.scheduler.set_asked(elsewhere, false, fixture.now);
    assert!(fixture.scheduler.is_asked(here) && !fixture.scheduler.is_asked(elsewhere));
    fixture.wake();
    let asked: Vec<_> = fixture.actions().iter().map(|(ticket, _)| ticket.token).collect();
    assert_eq!(asked, [here]);
    let counts = fixture.scheduler.state_counts();
    assert_eq!((counts.of(State::Elsewhere), counts.asked(), counts.total()), (1, 1, 2));
    let summary = fixture.scheduler.summary(elsewhere.key()).map(|(_, summary, _)| summary);
    assert!(summary.is_some_and(|s| s.state == State::Elsewhere && s.next_check.is_none()));
}

#[test]
fn token_that_waits_in_a_queue_is_left_without_a_request() {
    let (mut fixture, _) = fixture_with_dead_tokens(8, ReauthRoute::Hook, 20);
    let running: Vec<_> = attempts(&mut fixture);
    assert_eq!(running.len(), 4);
    let mut waiting = fixture.tokens(1, None);
    waiting.extend((0..8).filter_map(|key| fixture.scheduler.id_of(key)));
    for id in &waiting {
        fixture.scheduler.set_asked(*id, false, fixture.now);
    }
    for ticket in running {
        end(&mut fixture, ticket, failed());
    }
    fixture.advance(MINUTE);
    assert_eq!(fixture.actions().len(), 0);
    for id in waiting {
        fixture.scheduler.set_asked(id, true, fixture.now);
    }
    fixture.wake();
    assert_eq!(fixture.actions().len(), 5, "a check, and four commands");
}

#[test]
fn request_for_a_token_of_another_replica_is_refused() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let id = fixture.tokens(1, None)[0];
    fixture.scheduler.set_asked(id, false, fixture.now);
    let verdict = fixture.scheduler.request(id, OperatorRequest::Check, fixture.now);
    assert_eq!(verdict, Err(RequestError::Elsewhere));
    assert_eq!(fixture.actions().len(), 0);
}

#[test]
fn only_tokens_that_are_asked_about_can_open_the_circuit_breaker() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let ids = fixture.tokens(5, None);
    for id in &ids[1..] {
        fixture.scheduler.set_asked(*id, false, fixture.now);
    }
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, unavailable());
    assert_eq!(fixture.server_notices(), [down(5)], "the only one that is asked about failed");
}

#[test]
fn failure_of_a_token_that_was_left_says_nothing_about_the_server() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let ids = fixture.tokens(3, None);
    fixture.wake();
    let checks = fixture.actions();
    for id in ids {
        fixture.scheduler.set_asked(id, false, fixture.now);
    }
    for (ticket, _) in checks {
        fixture.answer(ticket, unavailable());
    }
    assert_eq!((fixture.server_notices(), fixture.scheduler.next_wake()), (vec![], None));
}

#[test]
fn circuit_breaker_closes_once_no_token_that_failed_is_asked_about() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let ids = fixture.tokens(2, None);
    let server = fixture.scheduler.spec(ids[0]).unwrap().server;
    fixture.scheduler.set_asked(ids[1], false, fixture.now);
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, unavailable());
    assert!(!fixture.scheduler.is_reached(server) && !fixture.scheduler.is_available(server));
    fixture.scheduler.set_asked(ids[0], false, fixture.now);
    assert!(fixture.scheduler.is_reached(server) && fixture.scheduler.is_available(server));
    assert_eq!(fixture.server_notices(), [down(2), ServerNotice::Untried]);
    // A probe that is in flight when the token is left ends without evidence.
    fixture.scheduler.set_asked(ids[0], true, fixture.now);
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, unavailable());
    fixture.advance(6 * SECOND);
    let (probe, _) = fixture.actions()[0];
    fixture.scheduler.set_asked(ids[0], false, fixture.now);
    assert!(!fixture.scheduler.is_available(server));
    fixture.answer(probe, unavailable());
    assert!(fixture.scheduler.is_available(server));
}

#[test]
fn server_is_in_doubt_from_the_first_failure_to_the_next_response() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let ids = fixture.tokens(4, None);
    let server = fixture.scheduler.spec(ids[0]).unwrap().server;
    fixture.wake();
    let checks = fixture.actions();
    fixture.answer(checks[0].0, unavailable());
    assert!(!fixture.scheduler.is_reached(server) && fixture.scheduler.is_available(server));
    fixture.answer(checks[1].0, alive(MINUTE));
    assert!(fixture.scheduler.is_reached(server));
}

#[test]
fn restored_tokens_of_another_replica_are_not_tested() {
    let mut fixture = Fixture::new(1_000_000, 10_000);
    let spec = fixture.spec(None);
    let ids: Vec<_> = (0..2_000)
        .map(|_| {
            let id = fixture.scheduler.add_token(spec.clone(), false, fixture.now);
            fixture.scheduler.set_asked(id, false, fixture.now);
            fixture.scheduler.restore(id, persisted(&fixture), fixture.now);
            id
        })
        .collect();
    assert_eq!(fixture.actions().len(), 0);
    for id in ids {
        fixture.scheduler.set_asked(id, true, fixture.now);
    }
    fixture.wake();
    let tested = fixture.actions().len();
    assert!((1..100).contains(&tested), "{tested} tested; the others keep their schedule");
}

#[test]
fn death_of_a_token_that_was_taken_over_does_not_refute_what_was_restored() {
    let mut fixture = Fixture::new(1_000_000, 10_000);
    let taken = fixture.tokens(1, None)[0];
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, alive(60 * MINUTE));
    let spec = fixture.spec(None);
    for _ in 0..20 {
        let id = fixture.scheduler.add_token(spec.clone(), false, fixture.now);
        fixture.scheduler.restore(id, persisted(&fixture), fixture.now);
    }
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, alive(50 * MINUTE));
    }
    fixture.scheduler.set_asked(taken, false, fixture.now);
    fixture.scheduler.set_asked(taken, true, fixture.now);
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, expired());
    fixture.wake();
    assert_eq!(fixture.actions().len(), 0, "no other token is checked for it");
}

#[test]
fn deferred_login_releases_its_slot_and_starts_at_that_moment() {
    let (mut fixture, _) = fixture_with_dead_tokens(5, ReauthRoute::Hook, 20);
    let running = attempts(&mut fixture);
    assert_eq!((running.len(), fixture.scheduler.running_hooks()), (4, 4));
    let said = notices(&fixture);
    let until = fixture.now + 20 * SECOND;
    fixture.scheduler.defer(running[0], until, fixture.now);
    let next = attempts(&mut fixture);
    assert!(next.len() == 1 && next[0].token != running[0].token, "its slot is used");
    assert_eq!(notices(&fixture), said + 1, "the start of that");
    for ticket in running[1..].iter().chain(&next) {
        end(&mut fixture, *ticket, ReauthOutcome::NewValue { stored: true });
    }
    fixture.now = until;
    fixture.wake();
    assert!(attempts(&mut fixture).iter().any(|ticket| ticket.token == running[0].token));
}

#[test]
fn deferred_check_says_nothing_about_the_server() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let id = fixture.tokens(1, None)[0];
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, unavailable());
    let (probe, _) = fixture.next_actions()[0];
    assert!(fixture.scheduler.is_probing(fixture.server));
    let until = fixture.now + MINUTE;
    fixture.scheduler.defer(probe, until, fixture.now);
    assert!(!fixture.scheduler.is_probing(fixture.server));
    assert!(!fixture.scheduler.is_available(fixture.server));
    assert_eq!(fixture.scheduler.next_check(id), Some(until));
    fixture.scheduler.release_deferred(id, fixture.now);
    assert_eq!(fixture.next_actions()[0].0.token, id);
    assert!(fixture.now < until);
}

#[test]
fn recovery_does_not_bring_a_deferred_login_forward() {
    let (mut fixture, _) = fixture_with_dead_tokens(3, ReauthRoute::Server, 20);
    let running = attempts(&mut fixture);
    let until = fixture.now + 10 * MINUTE;
    for ticket in &running[1..] {
        fixture.scheduler.defer(*ticket, until, fixture.now);
    }
    end(&mut fixture, running[0], ReauthOutcome::NewValue { stored: true });
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, alive(60 * MINUTE));
    }
    while fixture.now < until {
        assert_eq!(attempts(&mut fixture).len(), 0);
        fixture.advance(SECOND);
    }
    assert_eq!(attempts(&mut fixture).len(), 2);
}

#[test]
fn attempts_of_other_replicas_move_the_attempt_that_waits() {
    let (mut fixture, _) = fixture_with_dead_tokens(5, ReauthRoute::Hook, 20);
    let running = attempts(&mut fixture);
    let waits = (0..5).filter_map(|key| fixture.scheduler.id_of(key));
    let waits = waits.filter(|id| running.iter().all(|ticket| ticket.token != *id));
    let waits = waits.collect::<Vec<_>>()[0];
    let window_end = fixture.now + 30 * MINUTE;
    let attempts_made = ReauthAttempts { window_end, counted: 5, in_a_row: 5 };
    fixture.scheduler.restore_reauth_attempts(waits, attempts_made, fixture.now);
    for ticket in running {
        end(&mut fixture, ticket, failed());
    }
    fixture.advance(29 * MINUTE);
    let early = attempts(&mut fixture);
    assert!(early.iter().all(|ticket| ticket.token != waits));
    for ticket in early {
        end(&mut fixture, ticket, ReauthOutcome::NewValue { stored: true });
    }
    fixture.actions();
    fixture.advance(MINUTE);
    assert!(attempts(&mut fixture).iter().any(|ticket| ticket.token == waits));
}

#[test]
fn tokens_of_other_replicas_and_those_that_come_back_take_no_more_memory() {
    const COUNT: usize = 20_000;
    let mut fixture = Fixture::new(1_000_000, 64);
    fixture.scheduler.reserve(COUNT);
    let ids = fixture.tokens(COUNT, None);
    for id in &ids {
        fixture.scheduler.set_asked(*id, false, fixture.now);
    }
    let elsewhere = fixture.scheduler.footprint() / COUNT;
    assert!(elsewhere < 46, "{elsewhere}");
    for id in &ids {
        fixture.scheduler.set_asked(*id, true, fixture.now);
    }
    fixture.wake();
    let queued = fixture.scheduler.footprint() / COUNT;
    assert!(queued < 80, "{queued}");
}

#[test]
fn value_of_another_replica_is_written_even_if_it_asks() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let id = fixture.tokens(1, None)[0];
    fixture.scheduler.set_asked(id, false, fixture.now);
    let slot = fixture.scheduler.spare_slot(id);
    fixture.scheduler.source_changed(id, SourceChange::Obtained(ReplacedBy::Replica), fixture.now);
    let actions = fixture.actions();
    assert!(matches!(actions[..], [(_, Action::Persist { slot: written })] if written == slot));
    fixture.scheduler.persist_finished(actions[0].0, Ok(()), fixture.now);
    fixture.advance(60 * MINUTE);
    assert_eq!(fixture.actions().len(), 0);
    assert_eq!(fixture.scheduler.next_wake(), None);
}
