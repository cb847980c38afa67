//! Proof of renewal when responses are lost or wrong: nothing is concluded from what was not seen,
//! and the proof continues.

use super::world::{Life, alive, asks, not_allowed, rejected, secs, throttled, timed_out};
use crate::lifecycle::{Method, Resource, Slot};

/// A token on a server where the renewing call is known to renew, with a check due.
fn renewing() -> Life {
    let mut life = Life::new();
    life.renews_by = Some(Method::Renew);
    let mut life = life.alive();
    life.advance(secs(67));
    life
}

/// Whether a check of the current value is due now.
fn goes_on_at_once(life: &Life) -> bool {
    life.token.due_for(Resource::Server) == Some(life.now)
}

#[test]
fn renewal_with_a_lost_response_is_not_credited_to_the_next_query() {
    let mut life = renewing();
    life.check(timed_out());
    life.check(not_allowed());
    assert_eq!(asks(Some(life.check(alive(99_000))), Slot::A), Some(Method::Query));
    assert_eq!(life.last_renewed(), Some(true));
    assert_eq!(life.count("renews by query"), 0);
}

#[test]
fn server_that_answers_nothing_is_not_taken_for_one_that_reports_the_previous_life() {
    let mut life = Life::new().alive();
    life.check(alive(33_000));
    life.check(alive(33_000));
    life.check(timed_out());
    life.check(alive(99_000));
    assert_eq!(life.count("renews by renew"), 1);
    life.check(alive(33_000));
    assert!(goes_on_at_once(&life), "the next reading is judged like any other");
}

#[test]
fn after_a_life_from_before_another_call_is_evaluated_like_any_other() {
    let mut life = renewing();
    life.check(alive(33_000));
    life.check(alive(100_000));
    life.check(not_allowed());
    assert_eq!(asks(Some(life.check(alive(33_000))), Slot::A), Some(Method::Query));
    assert!(goes_on_at_once(&life));
}

#[test]
fn wrong_401_amid_the_proof_does_not_end_it() {
    let mut life = Life::new().alive();
    life.check(alive(33_000));
    life.check(rejected());
    life.check(alive(32_000));
    assert!(goes_on_at_once(&life));
    life.check(alive(32_000));
    assert_eq!(asks(Some(life.check(alive(100_000))), Slot::A), Some(Method::Renew));
    assert_eq!(life.count("renews by renew"), 1);
}

#[test]
fn stage_is_reported_once_although_the_proof_is_abandoned_meanwhile() {
    let mut life = Life::new().alive();
    life.check(alive(33_000));
    life.check(alive(33_000));
    life.check(throttled(20));
    life.check(timed_out());
    life.sleep();
    while life.count("unverified") == 0 {
        match life.admit() {
            Some(_) => life.answer(not_allowed()),
            None => life.sleep(),
        }
    }
    assert!(life.count("expiring: half") <= 1 && life.count("expiring: nine tenths") <= 1);
}
