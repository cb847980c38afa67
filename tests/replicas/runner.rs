//! Runs seeds on all cores, and reports the first that breaks an invariant.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{env, thread};

use crate::chance::SECOND;
use crate::invariants::{Invariant, Tally, Violation};
use crate::trace::Trace;
use crate::world::World;

/// Which worlds are run, and until how many checks each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seeds {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) checks_each: u64,
}

/// The checks after which a replay without a violation ends.
const CHECKS_OF_A_REPLAY: u64 = 1_000;

/// Runs the seeds, one for each core at a time, until one of them breaks an invariant; all of them
/// if `SIMULATION_ALL` is set.
///
/// # Panics
///
/// If one of them breaks an invariant; with the command that replays it.
pub(crate) fn simulate(seeds: Seeds) -> Tally {
    let next = AtomicU64::new(seeds.first);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((Tally::default(), Vec::<(u64, Violation)>::new()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.first + seeds.count {
                return;
            }
            let (tally, result) = run(seed, Trace::OFF, seeds.checks_each);
            let Ok(mut total) = total.lock() else { return };
            total.0 += tally;
            if let Err(violation) = result {
                stop.store(env::var_os("SIMULATION_ALL").is_none(), Ordering::Relaxed);
                total.1.push((seed, violation));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(work);
        }
    });
    let (tally, mut violations) = total.into_inner().unwrap_or_default();
    println!("{tally}");
    violations.sort_by_key(|(seed, _)| *seed);
    let told: Vec<_> = violations.iter().map(|(seed, violation)| tell(*seed, violation)).collect();
    assert!(told.is_empty(), "\n{}", told.join("\n"));
    tally
}

/// Runs one world.
fn run(seed: u64, trace: Trace, checks: u64) -> (Tally, Result<(), Violation>) {
    let mut world = World::new(seed, trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.run(checks)));
    let result = result.unwrap_or_else(|panic| {
        Err(world.violation(Invariant::NothingPanics, text_of(panic.as_ref())))
    });
    (world.tally, result)
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "a panic".to_owned())
}

fn tell(seed: u64, violation: &Violation) -> String {
    format!(
        "seed {seed}: {violation}\n  to read what led to it: \
         SIMULATION_SEED={seed} cargo test --profile sim --test replicas replay -- --nocapture"
    )
}

/// Runs the seed in `SIMULATION_SEED`, if it is set, and prints what happens; only about the token
/// in `SIMULATION_TOKEN`, and only from the second in `SIMULATION_FROM` on, if these are set.
///
/// # Panics
///
/// If the seed breaks an invariant.
pub(crate) fn replay_seed() {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let Some(seed) = number("SIMULATION_SEED") else { return };
    let only = number("SIMULATION_TOKEN").and_then(|only| usize::try_from(only).ok());
    let from = number("SIMULATION_FROM").unwrap_or(0) * SECOND;
    let (tally, result) = run(seed, Trace::on(only, from), CHECKS_OF_A_REPLAY);
    println!("{tally}");
    if let Err(violation) = result {
        panic!("\n{}", tell(seed, &violation));
    }
}
