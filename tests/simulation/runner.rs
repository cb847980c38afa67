//! Runs seeds on all cores, and tells of the first that breaks a promise.

use std::env;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::invariants::{Tally, Violation};
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
const CHECKS_OF_A_REPLAY: u64 = 25_000;

/// Runs the seeds, one for each core at a time.
///
/// # Panics
///
/// When one of them breaks a promise; with the command that replays it.
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
            let mut world = World::new(seed, Trace::OFF);
            let result = world.run(seeds.checks_each);
            let Ok(mut total) = total.lock() else { return };
            total.0 += world.tally;
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

fn tell(seed: u64, violation: &Violation) -> String {
    format!(
        "seed {seed}: {violation}\n  to read what led to it: \
         SIMULATION_SEED={seed} cargo test --profile sim --test simulation replay -- --nocapture"
    )
}

/// Runs the seed that the environment names, if it names one, and prints what happens; only
/// of the token that it names, if it does.
///
/// # Panics
///
/// When the seed breaks a promise.
pub(crate) fn replay_seed() {
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    let Some(seed) = number("SIMULATION_SEED") else { return };
    let only = number("SIMULATION_TOKEN").and_then(|only| usize::try_from(only).ok());
    let mut world = World::new(seed, Trace::on(only));
    let result = world.run(CHECKS_OF_A_REPLAY);
    println!("{}", world.tally);
    if let Err(violation) = result {
        panic!("\n{}", tell(seed, &violation));
    }
}
