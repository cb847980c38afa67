//! Several replicas with their schedulers in a world of its own: virtual time, a model of etcd, a
//! model of the API and errors from a seed, with the invariants of the cluster checked at every
//! step.

mod api;
#[path = "../simulation/chance.rs"]
mod chance;
mod etcd;
mod faults;
mod flights;
mod glue;
mod host;
mod invariants;
mod link;
mod plan;
mod runner;
mod spendings;
mod trace;
mod world;

use crate::invariants::Tally;
use crate::runner::{Seeds, replay_seed, simulate};

/// The usual test run: a few seconds, unoptimised.
const FEW: Seeds = Seeds { first: 0, count: 60, checks_each: 150 };

/// The run that every change must pass.
const MANY: Seeds = Seeds { first: 0, count: 4_700, checks_each: 1_000 };

/// A hundred times as many, on other seeds.
const LONG: Seeds = Seeds { first: 100_000, count: 400_000, checks_each: 1_000 };

#[test]
fn a_few_clusters_keep_every_promise() {
    simulate(FEW);
}

#[test]
#[ignore = "needs the `sim` profile to be quick; .ci/run runs it"]
fn two_million_checks_of_replicas_keep_every_promise() {
    let tally = simulate(MANY);
    assert!(tally.checks >= 2_000_000, "{tally}");
}

#[test]
#[ignore = "takes hours, with the `sim` profile"]
fn a_long_run_of_replicas_keeps_every_promise() {
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
