//! The scheduler in a world of its own: thousands of tokens, virtual time, a server's double and
//! faults from a seed, with the promises of the program checked at every step.

mod actions;
mod api;
mod chance;
mod connections;
mod daemon;
mod deaths;
mod families;
mod faults;
mod hooks;
mod incidents;
mod invariants;
mod plan;
mod restarts;
mod runner;
mod subject;
mod trace;
mod watching;
mod world;

use crate::invariants::Tally;
use crate::runner::{Seeds, replay_seed, simulate};

/// The usual test run: a few seconds, unoptimised.
const FEW: Seeds = Seeds { first: 0, count: 100, checks_each: 4_000 };

/// The run that every change must pass: twenty million checks, in less than a minute on two cores
/// with the `sim` profile. Lives are short on even seeds: one more of these than of others.
const MANY: Seeds = Seeds { first: 0, count: 801, checks_each: 25_000 };

/// A hundred times as many, on other seeds.
const LONG: Seeds = Seeds { first: 10_000, count: 80_000, checks_each: 25_000 };

#[test]
fn a_few_worlds_keep_every_promise() {
    simulate(FEW);
}

#[test]
#[ignore = "needs the `sim` profile to be quick; .ci/run runs it"]
fn ten_million_checks_keep_every_promise() {
    let tally = simulate(MANY);
    assert!(tally.checks >= 10_000_000, "{tally}");
    assert!(tally.checks_on_short_lives * 2 >= tally.checks, "{tally}");
}

#[test]
#[ignore = "takes most of an hour, with the `sim` profile"]
fn a_long_run_keeps_every_promise() {
    simulate(LONG);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let tally = |seed| -> Tally { simulate(Seeds { first: seed, count: 1, checks_each: 500 }) };
    assert_eq!(tally(7), tally(7));
}

/// Runs one seed with a trace: the way to read what led to a violation.
#[test]
fn replay() {
    replay_seed();
}
