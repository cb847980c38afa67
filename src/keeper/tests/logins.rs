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
