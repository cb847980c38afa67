//! Re-auth attempts: how many run at once, and when a method admits none.

use super::*;

#[test]
fn running_hooks_stay_within_max_hooks() {
    let (mut fixture, _) = fixture_with_dead_tokens(10, ReauthRoute::Hook, 20);
    let running = attempts(&mut fixture);
    assert_eq!(running.len(), 4);
    end(&mut fixture, running[0], ReauthOutcome::NewValue { stored: true });
    assert_eq!(attempts(&mut fixture).len(), 1);
}

#[test]
fn login_requests_use_server_capacity_and_no_hook_slots() {
    let (mut fixture, _) = fixture_with_dead_tokens(10, ReauthRoute::Server, 20);
    assert_eq!(attempts(&mut fixture).len(), 10);
}

#[test]
fn method_that_fails_for_many_tokens_pauses_until_its_window_ends() {
    let (mut fixture, reauth) = fixture_with_dead_tokens(50, ReauthRoute::Hook, 6);
    let started = end_all(&mut fixture, &failed());
    assert_eq!(started, 6 + 3, "those under way when the sixth failed are not stopped");
    let told = fixture.scheduler.outputs.iter().filter(|output| {
        matches!(output, SchedulerOutput::ReauthExhausted { reauth: way, failures: 6, .. } if *way == reauth)
    });
    assert_eq!(told.count(), 1);
    fixture.advance(59 * MINUTE);
    assert_eq!(attempts(&mut fixture).len(), 0);
    fixture.advance(MINUTE);
    assert_eq!(attempts(&mut fixture).len(), 4);
}

#[test]
fn thousand_tokens_that_expire_together_are_all_reauthenticated() {
    let (mut fixture, _) = fixture_with_dead_tokens(1_000, ReauthRoute::Hook, 20);
    let served = end_all(&mut fixture, &ReauthOutcome::NewValue { stored: true });
    assert_eq!(served, 1_000);
}

#[test]
fn no_login_starts_in_a_maintenance_window() {
    for route in [ReauthRoute::Hook, ReauthRoute::Server] {
        let mut fixture = Fixture::new(1_000_000, 10);
        let spec = ReauthSpec { route, max_failures: number(20), window: 60 * MINUTE };
        let reauth = fixture.scheduler.add_reauth(spec);
        fixture.scheduler.pause_reauth(reauth, fixture.now + MINUTE);
        fixture.tokens(1, Some(reauth));
        fixture.wake();
        let (ticket, _) = fixture.actions()[0];
        fixture.answer(ticket, expired());
        assert_eq!(attempts(&mut fixture).len(), 0);
        assert_eq!(fixture.scheduler.next_wake(), Some(at(61_000)));
        fixture.now = at(61_000);
        fixture.wake();
        assert_eq!(attempts(&mut fixture).len(), 1);
    }
}

#[test]
fn next_attempt_is_after_the_pauses_of_the_method_and_of_the_server() {
    for (route, expected) in [(ReauthRoute::Hook, 61_000), (ReauthRoute::Server, 121_000)] {
        let mut fixture = Fixture::new(1_000_000, 10);
        let spec = ReauthSpec { route, max_failures: number(20), window: 60 * MINUTE };
        let reauth = fixture.scheduler.add_reauth(spec);
        fixture.scheduler.pause_reauth(reauth, fixture.now + MINUTE);
        let ids = fixture.tokens(2, Some(reauth));
        fixture.wake();
        let tickets = fixture.actions();
        assert_eq!(fixture.scheduler.next_reauth(ids[0]), None, "its check is in flight");
        fixture.answer(tickets[0].0, expired());
        let fault = CallError::new("busy");
        fixture.answer(tickets[1].0, Outcome::Throttled { retry_after: 2 * MINUTE, fault });
        assert_eq!(fixture.scheduler.next_reauth(tickets[0].0.token), Some(at(expected)));
    }
}

#[test]
fn restored_failures_of_a_method_count() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let spec =
        ReauthSpec { route: ReauthRoute::Hook, max_failures: number(3), window: 60 * MINUTE };
    let reauth = fixture.scheduler.add_reauth(spec);
    let window_end = fixture.now + MINUTE;
    fixture.scheduler.restore_reauth_failures(reauth, ReauthFailures { window_end, count: 3 });
    fixture.tokens(1, Some(reauth));
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, expired());
    assert_eq!(attempts(&mut fixture).len(), 0);
    fixture.advance(MINUTE);
    assert_eq!(attempts(&mut fixture).len(), 1);
}

#[test]
fn token_with_a_new_method_does_not_wait_for_the_old_one() {
    let (mut fixture, closed) = fixture_with_dead_tokens(1, ReauthRoute::Hook, 1);
    let ticket = attempts(&mut fixture)[0];
    end(&mut fixture, ticket, failed());
    fixture.advance(MINUTE);
    assert_eq!(attempts(&mut fixture).len(), 0);
    let open = fixture.scheduler.add_reauth(ReauthSpec {
        route: ReauthRoute::Hook,
        max_failures: number(1),
        window: MINUTE,
    });
    assert_ne!(open, closed);
    let spec = fixture.spec(Some(open));
    fixture.scheduler.change_token(ticket.token, spec, fixture.now);
    fixture.wake();
    assert_eq!(attempts(&mut fixture).len(), 1);
}

#[test]
fn login_that_sent_no_request_says_nothing_about_the_server() {
    let (mut fixture, _) = fixture_with_dead_tokens(5, ReauthRoute::Server, 20);
    for ticket in attempts(&mut fixture) {
        end(&mut fixture, ticket, failed());
    }
    assert_eq!(fixture.server_notices(), []);
}

#[test]
fn logins_without_a_response_open_the_circuit_breaker() {
    let (mut fixture, _) = fixture_with_dead_tokens(5, ReauthRoute::Server, 20);
    for ticket in attempts(&mut fixture) {
        let error = "connection refused".into();
        let fault = ReauthError { error, unavailable: true, ..ReauthError::default() };
        end(&mut fixture, ticket, ReauthOutcome::Failed(fault));
    }
    assert_eq!(fixture.server_notices(), [down(5)]);
}

/// Adds dead tokens with a command method of their own.
fn more_dead(fixture: &mut Fixture, count: usize) -> ReauthId {
    let spec =
        ReauthSpec { route: ReauthRoute::Hook, max_failures: number(20), window: 60 * MINUTE };
    let reauth = fixture.scheduler.add_reauth(spec);
    fixture.tokens(count, Some(reauth));
    fixture.wake();
    for (ticket, action) in fixture.actions() {
        match action {
            Action::Check { .. } => fixture.answer(ticket, expired()),
            other => panic!("{other:?}"),
        }
    }
    reauth
}

fn method_of(fixture: &Fixture, ticket: Ticket) -> Option<ReauthId> {
    fixture.scheduler.spec(ticket.token).and_then(|spec| spec.reauth)
}

#[test]
fn hanging_commands_leave_a_slot_to_every_other_method() {
    let mut fixture = Fixture::new(1_000_000, 1_000);
    let spec =
        ReauthSpec { route: ReauthRoute::Hook, max_failures: number(20), window: 60 * MINUTE };
    let [hanging, good] = [0, 1].map(|_| fixture.scheduler.add_reauth(spec));
    fixture.tokens(8, Some(hanging));
    fixture.wake();
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, expired());
    }
    assert_eq!(attempts(&mut fixture).len(), 3, "of four slots");
    assert_eq!(fixture.scheduler.next_wake(), None, "nothing can start");
    fixture.tokens(1, Some(good));
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, expired());
    let started = attempts(&mut fixture);
    assert_eq!(started.len(), 1);
    assert_eq!(method_of(&fixture, started[0]), Some(good));
}

#[test]
fn free_slots_go_to_the_method_that_runs_the_fewest_commands() {
    let (mut fixture, first) = fixture_with_dead_tokens(10, ReauthRoute::Hook, 20);
    let under_way = attempts(&mut fixture);
    let second = more_dead(&mut fixture, 10);
    let mut methods = Vec::new();
    for ticket in under_way {
        end(&mut fixture, ticket, ReauthOutcome::NewValue { stored: true });
        methods.extend(attempts(&mut fixture).iter().map(|ticket| method_of(&fixture, *ticket)));
    }
    assert_eq!(methods, [Some(second), Some(second), Some(first), Some(first)]);
}

#[test]
fn removed_method_keeps_its_id_until_its_last_command_has_finished() {
    let (mut fixture, reauth) = fixture_with_dead_tokens(1, ReauthRoute::Hook, 20);
    let ticket = attempts(&mut fixture)[0];
    fixture.scheduler.remove_token(ticket.token);
    fixture.scheduler.remove_reauth(reauth);
    assert_eq!((fixture.scheduler.reauth_count(), fixture.scheduler.running_hooks()), (1, 1));
    let spec = ReauthSpec { route: ReauthRoute::Hook, max_failures: number(1), window: MINUTE };
    assert_ne!(fixture.scheduler.add_reauth(spec), reauth);
    end(&mut fixture, ticket, failed());
    assert_eq!((fixture.scheduler.reauth_count(), fixture.scheduler.running_hooks()), (1, 0));
    assert_eq!(fixture.scheduler.add_reauth(spec), reauth);
}

fn inconclusive() -> ReauthOutcome {
    let fault = ReauthError { inconclusive: true, ..ReauthError::default() };
    ReauthOutcome::Failed(fault)
}

#[test]
fn inconclusive_attempts_never_pause_the_method() {
    let (mut fixture, _) = fixture_with_dead_tokens(1, ReauthRoute::Server, 2);
    for _ in 0..20 {
        let ticket = attempts(&mut fixture)[0];
        end(&mut fixture, ticket, inconclusive());
        fixture.advance(MINUTE);
    }
    let told = |output: &SchedulerOutput| matches!(output, SchedulerOutput::ReauthExhausted { .. });
    assert!(!fixture.scheduler.outputs.iter().any(told));
}

#[test]
fn successful_login_starts_the_ones_that_were_inconclusive() {
    for route in [ReauthRoute::Hook, ReauthRoute::Server] {
        let (mut fixture, _) = fixture_with_dead_tokens(4, route, 20);
        for _ in 0..8 {
            for ticket in attempts(&mut fixture) {
                end(&mut fixture, ticket, inconclusive());
            }
            fixture.advance(2 * MINUTE);
        }
        let mut running = attempts(&mut fixture);
        let last = running.pop().expect("an attempt");
        for ticket in running {
            end(&mut fixture, ticket, inconclusive());
        }
        assert_eq!(attempts(&mut fixture).len(), 0);
        end(&mut fixture, last, ReauthOutcome::NewValue { stored: true });
        assert_eq!(attempts(&mut fixture).len(), 3, "{route:?}");
    }
}

#[test]
fn commands_for_dead_tokens_are_delayed_while_their_server_is_down() {
    let (mut fixture, reauth) = fixture_with_dead_tokens(1, ReauthRoute::Hook, 20);
    let ticket = attempts(&mut fixture)[0];
    fixture.tokens(1, None);
    fixture.wake();
    let (probe, _) = fixture.actions()[0];
    fixture.answer(probe, unavailable());
    assert_eq!(fixture.server_notices(), [down(2)]);
    end(&mut fixture, ticket, failed());
    fixture.advance(Duration::from_secs(10));
    let (probe, action) = fixture.actions()[0];
    assert!(matches!(action, Action::Check { .. }), "no command: {action:?}");
    assert_eq!(fixture.scheduler.running_hooks(), 0);
    fixture.answer(probe, alive(MINUTE));
    let started = attempts(&mut fixture);
    assert_eq!(method_of(&fixture, started[0]), Some(reauth));
}

#[test]
fn commands_are_delayed_for_delay_max_at_most() {
    let (mut fixture, _) = fixture_with_dead_tokens(1, ReauthRoute::Hook, 20);
    let ticket = attempts(&mut fixture)[0];
    fixture.tokens(1, None);
    fixture.wake();
    let (probe, _) = fixture.actions()[0];
    fixture.answer(probe, unavailable());
    end(&mut fixture, ticket, failed());
    let failed_at = fixture.now;
    loop {
        let (ticket, action) = fixture.next_actions()[0];
        match action {
            Action::Reauth { .. } => break,
            _ => fixture.answer(ticket, unavailable()),
        }
    }
    let waited = fixture.now.since(failed_at);
    assert!(waited >= MINUTE && waited <= MINUTE + Duration::from_secs(2), "{waited:?}");
}

#[test]
fn commands_start_at_once_if_no_check_could_notice_the_recovery() {
    let (mut fixture, _) = fixture_with_dead_tokens(2, ReauthRoute::Hook, 20);
    let under_way = attempts(&mut fixture);
    for ticket in under_way {
        end(&mut fixture, ticket, ReauthOutcome::NewValue { stored: true });
    }
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, unavailable());
    }
    let (probe, _) = fixture.next_actions()[0];
    fixture.answer(probe, expired());
    assert_eq!(fixture.scheduler.running_hooks(), 0, "after the delay");
    let found = std::iter::repeat_with(|| fixture.next_actions()).take(10).flatten();
    assert!(found.into_iter().any(|(_, action)| matches!(action, Action::Reauth { .. })));
}
