//! A server that reports no remaining life: it confirms nothing, and the renewing call is tried.

use super::world::{Life, START, alive, secs, timed_out};
use crate::lifecycle::{Action, Method, Notice, Renewal, State};

/// Checks for `span`; `remaining` gives the reported milliseconds by method.
fn run(
    life: &mut Life,
    span: std::time::Duration,
    remaining: impl Fn(Method) -> u64,
) -> Vec<Method> {
    let (until, mut calls) = (life.now + span, Vec::new());
    while life.now < until {
        life.sleep();
        while let Some(action) = life.admit() {
            let Action::Check { method, .. } = action else { continue };
            calls.push(method);
            assert!(calls.len() < 1_000, "a busy loop: {:?}", life.token);
            life.answer(alive(remaining(method)));
        }
    }
    calls
}

fn checked(life: &Life) -> impl Iterator<Item = (u64, Option<bool>)> {
    life.notices.iter().filter_map(|notice| match notice {
        Notice::Checked { remaining_ms, renewed, .. } => Some((*remaining_ms, *renewed)),
        _ => None,
    })
}

#[test]
fn token_without_remaining_life_is_unverified() {
    for renewal in [Renewal::Auto, Renewal::Query, Renewal::Renew] {
        let mut life = Life::with_renewal(renewal);
        life.check(alive(0));
        assert_eq!(life.token.state(), State::Unverified, "{renewal:?}");
        life.check(alive(60_000));
        assert_eq!(life.token.state(), State::Alive, "{renewal:?}");
        life.check(alive(0));
        assert_eq!(life.token.state(), State::Unverified, "{renewal:?}");
    }
}

#[test]
fn renewal_is_tried_and_its_absence_reported_once_if_nothing_is_left() {
    for (renewal, renews) in
        [(Renewal::Auto, true), (Renewal::Query, false), (Renewal::Renew, true)]
    {
        let mut life = Life::with_renewal(renewal);
        let calls = run(&mut life, secs(600), |_| 0);
        assert_eq!(calls.contains(&Method::Renew), renews, "{renewal:?}");
        assert_eq!(life.count("renewal not observed"), 1, "{renewal:?}");
        assert_eq!(life.count("recovered"), 0, "{renewal:?}");
        assert!(checked(&life).all(|(_, renewed)| renewed != Some(true)), "{renewal:?}");
        assert_eq!(life.token.state(), State::Unverified, "{renewal:?}");
        assert!(calls.len() < 200, "{renewal:?}: {} calls", calls.len());
    }
}

#[test]
fn renewal_that_gives_a_life_again_is_found() {
    let mut life = Life::new();
    let calls = run(&mut life, secs(5), |method| match method {
        Method::Query => 0,
        Method::Renew => 60_000,
    });
    assert!(calls.contains(&Method::Renew));
    assert_eq!(life.count("renews by renew"), 1);
    assert!(checked(&life).any(|(remaining, _)| remaining == 60_000));
}

#[test]
fn no_remaining_life_is_no_recovery() {
    let mut life = Life::new().alive();
    life.check(timed_out());
    life.check(alive(0));
    assert_eq!(life.count("recovered"), 0);
    assert_eq!(life.token.state(), State::Unverified);
    life.check(alive(100_000));
    assert_eq!(life.count("recovered"), 1);
    assert!(life.now > START);
}
