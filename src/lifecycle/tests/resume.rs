//! A life that goes on after a restart.

use super::world::{Life, START, alive, asks, expired, ms, not_allowed, secs};
use crate::lifecycle::{
    Attempts, Effect, Event, Method, Need, Resumed, Slot, SourceChange, Standing, State, Token,
};
use crate::time::Moment;

/// A life of 100 s of which that much has passed, as of the start.
fn known(passed: u64) -> Resumed {
    Resumed {
        bound: START + ms(100_000 - passed),
        remaining_ms: 100_000,
        life_ms: 100_000,
        by: Method::Query,
        proven: true,
        unextendable: false,
        this_boot: true,
    }
}

fn resumed_with(resumed: Resumed, spot_check: bool) -> Life {
    let mut life = Life::new();
    life.token = Token::without_value(life.now);
    life.step(Event::Resumed { resumed, spot_check });
    life
}

fn resumed(passed: u64) -> Life {
    resumed_with(known(passed), false)
}

#[test]
fn its_bound_is_the_one_that_was_known_and_nothing_is_said() {
    let life = resumed(20_000);
    assert_eq!(life.token.bound(), Some(START + secs(80)));
    assert!(matches!(life.token.standing(), Standing::Alive(_)) && life.notices.is_empty());
}

#[test]
fn its_check_comes_when_it_would_have_come() {
    assert_eq!(resumed(20_000).token.due_for(Need::Server), Some(START + secs(47)));
}

#[test]
fn a_check_that_was_missed_comes_at_once() {
    assert_eq!(resumed(90_000).token.due_for(Need::Server), Some(START));
}

#[test]
fn a_spot_check_comes_at_once_about_the_value_that_was_found() {
    let mut life = resumed_with(known(20_000), true);
    let effect = life.step(Event::Admitted(Need::Server));
    assert_eq!(asks(effect, Slot::B), Some(Method::Query));
}

#[test]
fn a_bound_that_has_passed_is_a_value_of_which_nothing_is_known() {
    assert_eq!(resumed(100_000).token.standing(), Standing::Unknown);
}

#[test]
fn a_bound_before_which_the_clock_did_not_run_stays_where_it_was() {
    let bound = START + ms(1);
    let long = Resumed { bound, remaining_ms: 90_000_000, ..known(0) };
    let life = resumed_with(long, false);
    assert_eq!(life.token.bound(), Some(bound));
}

#[test]
fn the_first_reading_is_not_judged_but_the_next_is() {
    let mut life = resumed(60_000);
    life.advance(secs(20));
    life.check(alive(100_000));
    assert_eq!(life.last_renewed(), None);
    life.sleep();
    life.check(alive(100_000));
    assert_eq!(life.last_renewed(), Some(true));
}

#[test]
fn what_an_earlier_run_knew_is_known_until_the_first_answer() {
    let mut life = resumed(20_000);
    assert!(life.token.is_resumed());
    life.advance(secs(47));
    life.check(alive(100_000));
    assert!(!life.token.is_resumed());
}

#[test]
fn in_doubt_it_is_asked_about_at_once() {
    let mut life = resumed(20_000);
    life.step(Event::Doubted);
    assert_eq!(life.token.due_for(Need::Server), Some(START));
}

#[test]
fn doubt_does_not_hurry_an_attempt_past_its_budget() {
    let mut life = Life::with_reauth();
    life.token = Token::without_value(START);
    life.token.restore(Attempts { window_end: START + secs(3_600), counted: 3, in_a_row: 3 });
    life.step(Event::Resumed { resumed: known(10), spot_check: true });
    life.check(expired());
    assert_eq!(life.count("reauth exhausted"), 1);
    life.step(Event::Doubted);
    assert_eq!(life.token.due_for(Need::Reauth), Some(START + secs(3_600)));
}

#[test]
fn doubt_does_not_hurry_what_was_found_alive_by_this_run() {
    let mut life = Life::new().alive();
    let due = life.token.due_for(Need::Server);
    life.step(Event::Doubted);
    assert_eq!(life.token.due_for(Need::Server), due);
}

#[test]
fn a_life_that_nothing_extends_is_not_told_of_again() {
    let mut life = resumed_with(Resumed { unextendable: true, ..known(20_000) }, false);
    life.advance(secs(47));
    life.check(alive(33_000));
    assert_eq!(life.count("renewal_not_observed"), 0);
}

#[test]
fn where_a_value_is_in_use_already_it_is_a_candidate_like_any_other() {
    let mut life = Life::new().alive();
    let bound = life.token.bound();
    life.step(Event::Resumed { resumed: known(0), spot_check: false });
    assert_eq!((life.token.bound(), life.token.active_slot()), (bound, Slot::A));
    assert_eq!(life.token.due_for(Need::Server), Some(life.now));
}

#[test]
fn what_is_known_of_a_living_token_can_be_resumed_and_of_a_dead_one_not() {
    let mut life = Life::new().alive();
    let (slot, known) = life.token.resumable().unwrap();
    assert_eq!((slot, Some(known.bound)), (Slot::A, life.token.bound()));
    life.sleep();
    life.check(expired());
    assert_eq!(life.token.resumable(), None);
}

#[test]
fn a_source_that_is_lost_after_that_costs_nothing() {
    let mut life = resumed(20_000);
    life.source(SourceChange::Lost("gone".into()));
    assert_eq!(life.token.bound(), Some(Moment::from_millis(1_080_000)));
}

#[test]
fn a_refused_renewing_call_is_tried_again_after_a_query_that_cannot_be_judged() {
    let mut life = resumed(85_000);
    life.renews_by = Some(Method::Renew);
    assert_eq!(asks(Some(life.check(not_allowed())), Slot::B), Some(Method::Renew));
    assert_eq!(asks(Some(life.check(alive(12_000))), Slot::B), Some(Method::Query));
    assert_eq!(asks(Some(life.check(alive(100_000))), Slot::B), Some(Method::Renew));
}

#[test]
fn a_life_from_an_earlier_boot_postpones_no_check() {
    let life = resumed_with(Resumed { this_boot: false, ..known(10_000) }, false);
    assert_eq!(life.token.state(), State::Unverified);
    assert_eq!(life.token.due_for(Need::Server), Some(life.now));
    assert_eq!(life.token.bound(), Some(known(10_000).bound), "it orders the wait queue");
}

#[test]
fn a_life_from_an_earlier_boot_shortens_no_time_out_and_proves_nothing() {
    let soon = START + ms(400);
    let known = Resumed { this_boot: false, bound: soon, ..known(10_000) };
    let mut life = resumed_with(known, false);
    let effect = life.check(alive(100_000));
    assert!(matches!(effect, Effect::Ask { timeout, .. } if timeout == secs(10)), "{effect:?}");
    assert_eq!(life.last_renewed(), None);
    assert_eq!(life.token.state(), State::Alive);
}
