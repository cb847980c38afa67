//! New values: how many attempts at once, and when a way to them is left alone.

use super::*;

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
        let error = "connection refused".into();
        let fault = ReauthFault { error, unavailable: true, ..ReauthFault::default() };
        end(&mut desk, ticket, Reauthenticated::Failed(fault));
    }
    assert_eq!(desk.server_notices(), [down(5)]);
}

/// Adds dead tokens with a command method of their own.
fn more_dead(desk: &mut Desk, count: usize) -> ReauthId {
    let spec =
        ReauthSpec { route: ReauthRoute::Hook, max_failures: number(20), window: 60 * MINUTE };
    let reauth = desk.keeper.add_reauth(spec);
    desk.tokens(count, Some(reauth));
    desk.wake();
    for (ticket, effect) in desk.effects() {
        match effect {
            Effect::Ask { .. } => desk.answer(ticket, expired()),
            other => panic!("{other:?}"),
        }
    }
    reauth
}

fn method_of(desk: &Desk, ticket: Ticket) -> Option<ReauthId> {
    desk.keeper.spec(ticket.token).and_then(|spec| spec.reauth)
}

#[test]
fn commands_that_hang_leave_a_slot_to_every_other_method() {
    let mut desk = Desk::new(1_000_000, 1_000);
    let spec =
        ReauthSpec { route: ReauthRoute::Hook, max_failures: number(20), window: 60 * MINUTE };
    let [hanging, good] = [0, 1].map(|_| desk.keeper.add_reauth(spec));
    desk.tokens(8, Some(hanging));
    desk.wake();
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, expired());
    }
    assert_eq!(attempts(&mut desk).len(), 3, "of four slots");
    assert_eq!(desk.keeper.next_wake(), None, "nothing can start");
    desk.tokens(1, Some(good));
    desk.wake();
    let (ticket, _) = desk.effects()[0];
    desk.answer(ticket, expired());
    let started = attempts(&mut desk);
    assert_eq!(started.len(), 1);
    assert_eq!(method_of(&desk, started[0]), Some(good));
}

#[test]
fn free_slots_go_to_the_method_that_runs_the_fewest_commands() {
    let (mut desk, first) = desk_of_the_dead(10, ReauthRoute::Hook, 20);
    let under_way = attempts(&mut desk);
    let second = more_dead(&mut desk, 10);
    let mut methods = Vec::new();
    for ticket in under_way {
        end(&mut desk, ticket, Reauthenticated::NewValue { stored: true });
        methods.extend(attempts(&mut desk).iter().map(|ticket| method_of(&desk, *ticket)));
    }
    assert_eq!(methods, [Some(second), Some(second), Some(first), Some(first)]);
}

#[test]
fn a_method_that_is_removed_keeps_its_number_until_its_last_command_has_ended() {
    let (mut desk, reauth) = desk_of_the_dead(1, ReauthRoute::Hook, 20);
    let ticket = attempts(&mut desk)[0];
    desk.keeper.remove_token(ticket.token);
    desk.keeper.remove_reauth(reauth);
    assert_eq!((desk.keeper.reauths_known(), desk.keeper.hooks_in_flight()), (1, 1));
    let spec = ReauthSpec { route: ReauthRoute::Hook, max_failures: number(1), window: MINUTE };
    assert_ne!(desk.keeper.add_reauth(spec), reauth);
    end(&mut desk, ticket, failed());
    assert_eq!((desk.keeper.reauths_known(), desk.keeper.hooks_in_flight()), (1, 0));
    assert_eq!(desk.keeper.add_reauth(spec), reauth);
}

fn inconclusive() -> Reauthenticated {
    let fault = ReauthFault { inconclusive: true, ..ReauthFault::default() };
    Reauthenticated::Failed(fault)
}

#[test]
fn attempts_without_a_conclusion_never_close_the_method() {
    let (mut desk, _) = desk_of_the_dead(1, ReauthRoute::Server, 2);
    for _ in 0..20 {
        let ticket = attempts(&mut desk)[0];
        end(&mut desk, ticket, inconclusive());
        desk.advance(MINUTE);
    }
    let told = |output: &Output| matches!(output, Output::ReauthExhausted { .. });
    assert!(!desk.out.iter().any(told));
}

#[test]
fn a_login_that_succeeds_is_followed_by_those_that_came_to_no_conclusion() {
    for route in [ReauthRoute::Hook, ReauthRoute::Server] {
        let (mut desk, _) = desk_of_the_dead(4, route, 20);
        for _ in 0..8 {
            for ticket in attempts(&mut desk) {
                end(&mut desk, ticket, inconclusive());
            }
            desk.advance(2 * MINUTE);
        }
        let mut running = attempts(&mut desk);
        let last = running.pop().expect("an attempt");
        for ticket in running {
            end(&mut desk, ticket, inconclusive());
        }
        assert_eq!(attempts(&mut desk).len(), 0);
        end(&mut desk, last, Reauthenticated::NewValue { stored: true });
        assert_eq!(attempts(&mut desk).len(), 3, "{route:?}");
    }
}

#[test]
fn commands_for_dead_tokens_wait_while_their_server_is_down() {
    let (mut desk, reauth) = desk_of_the_dead(1, ReauthRoute::Hook, 20);
    let ticket = attempts(&mut desk)[0];
    desk.tokens(1, None);
    desk.wake();
    let (probe, _) = desk.effects()[0];
    desk.answer(probe, unavailable());
    assert_eq!(desk.server_notices(), [down(2)]);
    end(&mut desk, ticket, failed());
    desk.advance(Duration::from_secs(10));
    let (probe, effect) = desk.effects()[0];
    assert!(matches!(effect, Effect::Ask { .. }), "no command: {effect:?}");
    assert_eq!(desk.keeper.hooks_in_flight(), 0);
    desk.answer(probe, alive(MINUTE));
    let started = attempts(&mut desk);
    assert_eq!(method_of(&desk, started[0]), Some(reauth));
}

#[test]
fn commands_wait_for_their_server_no_longer_than_the_longest_delay() {
    let (mut desk, _) = desk_of_the_dead(1, ReauthRoute::Hook, 20);
    let ticket = attempts(&mut desk)[0];
    desk.tokens(1, None);
    desk.wake();
    let (probe, _) = desk.effects()[0];
    desk.answer(probe, unavailable());
    end(&mut desk, ticket, failed());
    let failed_at = desk.now;
    loop {
        let (ticket, effect) = desk.next_effects()[0];
        match effect {
            Effect::Reauth { .. } => break,
            _ => desk.answer(ticket, unavailable()),
        }
    }
    let waited = desk.now.since(failed_at);
    assert!(waited >= MINUTE && waited <= MINUTE + Duration::from_secs(2), "{waited:?}");
}

#[test]
fn commands_start_at_once_where_no_check_could_find_the_server_back() {
    let (mut desk, _) = desk_of_the_dead(2, ReauthRoute::Hook, 20);
    let under_way = attempts(&mut desk);
    for ticket in under_way {
        end(&mut desk, ticket, Reauthenticated::NewValue { stored: true });
    }
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, unavailable());
    }
    let (probe, _) = desk.next_effects()[0];
    desk.answer(probe, expired());
    assert_eq!(desk.keeper.hooks_in_flight(), 0, "after the delay");
    let found = std::iter::repeat_with(|| desk.next_effects()).take(10).flatten();
    assert!(found.into_iter().any(|(_, effect)| matches!(effect, Effect::Reauth { .. })));
}
