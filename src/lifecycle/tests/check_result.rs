//! Results of checks, and when the next check is due.

use super::world::{
    Life, START, alive, answer, asks, expired, ms, not_allowed, rejected, secs, throttled,
    timed_out,
};
use crate::lifecycle::{
    Action, Event, Fraction, Method, Notice, Resource, Schedule, Slot, SourceChange, Validity,
};
use crate::outcome::Connection;

#[test]
fn token_is_checked_at_once() {
    let mut life = Life::new();
    let ask = Action::Check {
        method: Method::Query,
        slot: Slot::A,
        timeout: secs(10),
        connection: Connection::Pooled,
    };
    assert_eq!(life.admit(), Some(ask));
}

#[test]
fn next_check_is_due_at_check_after_of_the_reported_life() {
    let life = Life::new().alive();
    assert_eq!(life.token.due_for(Resource::Server), Some(START + secs(67)));
}

#[test]
fn waits_and_expiry_count_from_sending_not_from_receipt() {
    let mut life = Life::new();
    life.admit();
    life.advance(secs(8));
    life.answer(alive(100_000));
    assert_eq!(life.token.due_for(Resource::Server), Some(START + secs(67)));
    assert_eq!(life.token.expiry(), Some(START + secs(100)));
}

#[test]
fn response_that_took_longer_than_the_wait_makes_the_next_check_due_at_once() {
    let mut life = Life::new();
    life.admit();
    life.advance(secs(5));
    life.answer(alive(6_000));
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now));
}

#[test]
fn check_reports_the_reported_life_and_the_time_to_the_next_one() {
    let mut life = Life::new();
    life.check(alive(100_000));
    let checked = Notice::Checked {
        remaining_ms: 100_000,
        next_check_ms: 67_000,
        renewed: None,
        is_step: false,
    };
    assert_eq!(life.notices, [checked]);
}

#[test]
fn status_410_is_final_and_reported_once() {
    let mut life = Life::new().alive();
    life.check(expired());
    assert_eq!(life.token.validity(), Validity::Expired);
    assert_eq!(life.said(), ["expired"]);
    life.advance(secs(86_400));
    assert_eq!((life.admit(), life.said()), (None, vec![]));
}

#[test]
fn first_401_is_not_final() {
    let mut life = Life::new().alive();
    life.check(rejected());
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.said(), ["check failed"]);
}

#[test]
fn second_401_is_final_and_reported_once() {
    let mut life = Life::new().alive();
    life.check(rejected());
    let second = life.check(rejected());
    assert_eq!(asks(Some(second), Slot::A), Some(Method::Query));
    assert_eq!(life.token.validity(), Validity::Rejected);
    assert_eq!(life.said(), ["check failed", "rejected"]);
}

#[test]
fn status_401_that_the_second_query_contradicts_is_cleared() {
    let mut life = Life::new().alive();
    life.check(rejected());
    life.check(alive(90_000));
    life.check(rejected());
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.count("rejected"), 0);
}

#[test]
fn time_out_in_between_does_not_clear_a_401() {
    let mut life = Life::new().alive();
    life.check(rejected());
    life.check(timed_out());
    life.check(rejected());
    assert_eq!(life.token.validity(), Validity::Rejected);
    assert_eq!(life.said(), ["check failed", "check failed", "rejected"]);
}

#[test]
fn status_401_is_confirmed_by_another_401_only() {
    for outcome in [timed_out(), not_allowed(), throttled(1)] {
        let mut life = Life::new().alive();
        life.check(rejected());
        life.check(outcome.clone());
        assert!(matches!(life.token.validity(), Validity::Alive(_)), "{outcome:?}");
    }
}

#[test]
fn status_410_after_a_401_is_an_expiry() {
    let mut life = Life::new().alive();
    life.check(rejected());
    life.check(expired());
    assert_eq!(life.token.validity(), Validity::Expired);
    assert_eq!(life.said(), ["check failed", "expired"]);
}

#[test]
fn throttled_token_waits_as_long_as_the_server_asked() {
    let mut life = Life::new().alive();
    life.check(throttled(17));
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now + secs(17)));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert!(matches!(life.notices[..], [Notice::CheckFailed { retry_in_ms: 17_000, .. }]));
}

#[test]
fn misconfigured_server_is_retried_like_an_unavailable_one_but_distinguished() {
    let mut life = Life::new().alive();
    life.check(not_allowed());
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now + secs(1)));
    assert_eq!(life.said(), ["misconfigured"]);
    life.check(alive(90_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
}

#[test]
fn failures_never_kill_a_token() {
    for outcome in [timed_out(), not_allowed(), throttled(1)] {
        let mut life = Life::new().alive();
        for _ in 0..100 {
            life.check(outcome.clone());
        }
        assert!(matches!(life.token.validity(), Validity::Unverified(_)), "{outcome:?}");
        life.check(alive(100_000));
        assert!(matches!(life.token.validity(), Validity::Alive(_)), "{outcome:?}");
    }
}

#[test]
fn retries_back_off_by_doubling_while_nothing_is_known() {
    let mut life = Life::new();
    let pauses: Vec<_> = (0..11)
        .map(|_| {
            life.check(timed_out());
            life.token.due_for(Resource::Server).unwrap().since(life.now).as_secs()
        })
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn retry_waits_at_most_a_third_of_the_time_to_the_expiry() {
    let mut life = Life::new().alive();
    while life.now < START + secs(99) {
        life.check(timed_out());
        let left = life.token.expiry().unwrap().since(life.now);
        let pause = life.token.due_for(Resource::Server).unwrap().since(life.now);
        assert!(pause <= left / 3, "{pause:?} of {left:?}");
    }
}

#[test]
fn request_gets_at_most_a_quarter_of_the_time_to_the_expiry() {
    let mut life = Life::new();
    life.check(alive(20_000));
    let Action::Check { timeout, .. } = life.check(timed_out()) else { panic!("not a call") };
    assert_eq!(timeout, ms(1_650));
}

#[test]
fn attempts_of_failures_in_a_row_are_counted_and_restart_after_a_response() {
    let mut life = Life::new().alive();
    for outcome in [timed_out(), timed_out(), alive(90_000), timed_out()] {
        life.check(outcome);
    }
    let attempts: Vec<_> = life
        .notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::CheckFailed { attempt, .. } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2, 1]);
}

#[test]
fn server_that_always_reports_zero_causes_no_busy_loop() {
    let mut life = Life::new();
    // Each check is followed at once by the three calls of a proof.
    for _ in 0..200 {
        life.check(alive(0));
    }
    assert!(life.now.since(START) > secs(9_000), "{:?}", life.now);
    assert_eq!(life.count("renews by query"), 0);
}

#[test]
fn new_schedule_counts_from_the_last_reading() {
    let mut life = Life::new().alive();
    life.advance(secs(10));
    life.policy.schedule = Schedule::try_new(
        Fraction::try_new(0.5).unwrap(),
        Fraction::try_new(0.0).unwrap(),
        (secs(1), secs(3_600)),
        (secs(1), secs(300)),
    )
    .unwrap();
    life.step(Event::PolicyChanged);
    assert_eq!(life.token.due_for(Resource::Server), Some(START + secs(50)));
}

#[test]
fn late_response_is_an_ordinary_reading() {
    let mut life = Life::new().alive();
    life.advance(secs(67));
    life.admit();
    let sent = life.now;
    life.advance(secs(60));
    life.step(answer(sent, life.now, alive(100_000)));
    assert_eq!(life.token.expiry(), Some(sent + secs(100)));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
}

fn connection(action: Action) -> Connection {
    match action {
        Action::Check { connection, .. } => connection,
        other => panic!("not a call: {other:?}"),
    }
}

#[test]
fn attempt_after_an_inconclusive_one_uses_a_fresh_connection() {
    for outcome in [timed_out(), throttled(5), not_allowed()] {
        let mut life = Life::new().alive();
        assert_eq!(connection(life.check(outcome.clone())), Connection::Pooled);
        assert_eq!(connection(life.check(outcome)), Connection::Fresh);
        assert_eq!(connection(life.check(alive(100_000))), Connection::Fresh);
        assert_eq!(connection(life.check(alive(100_000))), Connection::Pooled);
    }
}

#[test]
fn second_query_after_a_401_uses_a_fresh_connection() {
    let mut life = Life::new().alive();
    life.check(rejected());
    assert_eq!(connection(life.check(rejected())), Connection::Fresh);
}

#[test]
fn check_past_the_expiry_uses_a_connection_opened_after_it() {
    let mut life = Life::new().alive();
    life.advance(secs(200));
    let after = Connection::OpenedAfter(START + secs(100));
    assert_eq!(connection(life.check(timed_out())), after);
    assert_eq!(connection(life.check(alive(100_000))), Connection::Fresh);
}

#[test]
fn second_query_about_a_candidate_uses_a_fresh_connection() {
    for outcome in [timed_out(), rejected()] {
        let mut life = Life::new().alive();
        life.source(SourceChange::NewValue);
        assert_eq!(connection(life.check(outcome)), Connection::Pooled);
        assert_eq!(connection(life.check(alive(100_000))), Connection::Fresh);
    }
}

#[test]
fn check_that_was_cancelled_is_due_again_shortly() {
    let mut life = Life::new();
    life.admit().expect("a check");
    life.step(Event::Cancelled);
    assert_eq!(life.admit(), None);
    let due = life.token.due_for(Resource::Server).expect("a check to come");
    assert_eq!(due.since(life.now), secs(1));
}

#[test]
fn second_query_after_a_401_follows_soon_however_long_the_server_was_away() {
    let mut life = Life::new();
    for _ in 0..12 {
        life.check(timed_out());
    }
    life.check(rejected());
    let due = life.token.due_for(Resource::Server).expect("a second query");
    assert_eq!(due.since(life.now), Schedule::default().retry_initial);
}

#[test]
fn candidate_that_failed_and_replaces_a_dead_value_uses_a_fresh_connection() {
    let mut life = Life::new().alive();
    life.source(SourceChange::NewValue);
    assert_eq!(connection(life.check(timed_out())), Connection::Pooled);
    loop {
        let action = life.admit();
        match action {
            Some(Action::Check { slot: Slot::A, .. }) => break life.answer(expired()),
            Some(_) => life.answer(timed_out()),
            None => life.sleep(),
        }
    }
    assert_eq!(life.token.active_slot(), Slot::B);
    assert_eq!(connection(life.check(alive(100_000))), Connection::Fresh);
}
