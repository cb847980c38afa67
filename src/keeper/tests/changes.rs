//! Tokens that are moved, changed or removed: what was known of them, and what still comes.

use super::*;

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
fn the_failed_probe_of_a_removed_token_says_nothing_of_the_one_that_has_its_number() {
    let mut desk = Desk::new(1_000, 100);
    desk.tokens(1, None);
    desk.wake();
    let (check, _) = desk.effects().remove(0);
    desk.answer(check, unavailable());
    assert_eq!(desk.server_notices(), [down(1)]);
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

#[test]
fn a_server_that_is_removed_keeps_its_number_until_its_last_request_has_ended() {
    let mut desk = Desk::new(1_000, 5);
    let ids = desk.tokens(2, None);
    desk.wake();
    let calls = desk.effects();
    for id in ids {
        desk.keeper.remove_token(id);
    }
    desk.keeper.remove_server(desk.server);
    let limits = Limits { rate_limit: number(1), max_in_flight: number(1) };
    assert_ne!(desk.keeper.add_server(limits), desk.server);
    desk.answer(calls[0].0, alive(MINUTE));
    desk.answer(calls[1].0, unavailable());
    assert_eq!(desk.server_notices(), []);
    assert_eq!(desk.keeper.servers_known(), 1);
    assert_eq!(desk.keeper.add_server(limits), desk.server);
    assert_eq!(desk.keeper.in_flight(desk.server), 0);
}

#[test]
fn servers_renamed_again_and_again_leave_nothing_behind() {
    let mut desk = Desk::new(1_000, 5);
    let id = desk.tokens(1, None)[0];
    for _ in 0..200 {
        desk.advance(Duration::from_secs(1));
        let earlier = desk.server;
        let limits = Limits { rate_limit: number(1_000), max_in_flight: number(5) };
        desk.server = desk.keeper.add_server(limits);
        let spec = desk.spec(None);
        desk.keeper.change_token(id, spec, desk.now, &mut desk.out);
        desk.keeper.remove_server(earlier);
        for (ticket, _) in desk.effects() {
            desk.answer(ticket, alive(MINUTE));
        }
    }
    assert!(desk.keeper.servers_known() <= 2, "{}", desk.keeper.servers_known());
}

#[test]
fn a_cancelled_action_gives_back_what_it_occupied() {
    let mut desk = Desk::new(1_000_000, 1);
    desk.tokens(2, None);
    desk.wake();
    let (ticket, _) = desk.effects()[0];
    desk.keeper.remove_token(ticket.token);
    desk.keeper.cancel(ticket, desk.now, &mut desk.out);
    let next = desk.effects();
    assert_eq!(next.len(), 1, "the other token's check");
    desk.keeper.cancel(next[0].0, desk.now, &mut desk.out);
    assert_eq!(desk.keeper.in_flight(desk.server), 0);
    desk.advance(Duration::from_secs(1));
    assert_eq!(desk.effects().len(), 1, "it is repeated");
}
