//! The proof of renewal where single answers are lost or wrong: what was not seen is put down
//! to nobody, and the proof goes on.

use super::world::{Life, alive, asks, not_allowed, rejected, secs, throttled, timed_out};
use crate::lifecycle::{Method, Resource, Slot};

/// A token on a server whose renewing call is known to extend lives, with a check due.
fn renewing() -> Life {
    let mut life = Life::new();
    life.renews_by = Some(Method::Renew);
    let mut life = life.alive();
    life.advance(secs(67));
    life
}

/// Whether a call on the value in use is due now.
fn goes_on_at_once(life: &Life) -> bool {
    life.token.due_for(Resource::Server) == Some(life.now)
}

#[test]
fn a_renewal_whose_answer_was_lost_is_not_put_down_to_the_query_after_it() {
    let mut life = renewing();
    life.check(timed_out());
    life.check(not_allowed());
    assert_eq!(asks(Some(life.check(alive(99_000))), Slot::A), Some(Method::Query));
    assert_eq!(life.last_renewed(), Some(true));
    assert_eq!(life.count("renews by query"), 0);
}

#[test]
fn a_server_that_answers_nothing_is_not_taken_for_one_that_reports_the_life_from_before() {
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
fn after_a_life_from_before_another_call_is_judged_like_any_other() {
    let mut life = renewing();
    life.check(alive(33_000));
    life.check(alive(100_000));
    life.check(not_allowed());
    assert_eq!(asks(Some(life.check(alive(33_000))), Slot::A), Some(Method::Query));
    assert!(goes_on_at_once(&life));
}

#[test]
fn a_wrong_401_amid_the_proof_does_not_end_it() {
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
fn a_stage_is_told_once_though_the_proof_is_given_up_meanwhile() {
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
