//! Benchmark of the scheduler: memory and CPU for a token, and how they grow with the number of
//! tokens. Nothing may grow faster than a logarithm.
//!
//! `cargo bench --bench growth` prints the table. There is no server and no socket: responses are
//! generated 20 ms after their requests, in virtual time, so only scheduling and the lifecycle rules
//! are measured.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep::lifecycle::{CheckResult, Method, PersistedLife, Policy, Renewal, Schedule};
use tokenkeep::outcome::Outcome;
use tokenkeep::scheduler::{Scheduler, SchedulerOutput, ServerId, ServerLimits, Ticket, TokenSpec};
use tokenkeep::time::Moment;

/// From a small installation to the largest for one daemon.
const COUNTS: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Every token's life.
const LIFE: Duration = Duration::from_secs(1_800);

/// Time from a request to its response.
const LATENCY: Duration = Duration::from_millis(20);

/// Checks that are measured for each count; at the largest, at least one for each token.
const CHECKS: u32 = 2_000_000;

/// Repetitions of an operation that takes almost no time.
const CALLS: u32 = 100_000;

fn main() {
    println!(
        "{:>9} {:>9} {:>10} {:>9} {:>12} {:>10} {:>10}",
        "tokens", "bytes", "after", "add", "check", "next wake", "census"
    );
    println!(
        "{:>9} {:>9} {:>10} {:>9} {:>12} {:>10} {:>10}",
        "", "a token", "checks", "ns", "ns", "ns", "ns"
    );
    for count in COUNTS {
        let mut shop = Shop::new();
        let added = cpu(|| shop.open(count)) / count;
        let at_first = shop.bytes_a_token(count);
        shop.run(count);
        let checked = cpu(|| shop.run(CHECKS)) / CHECKS;
        let woken = cpu(|| {
            (0..CALLS).for_each(|_| {
                black_box(shop.scheduler.next_wake());
            });
        });
        let counted = cpu(|| {
            (0..CALLS).for_each(|_| {
                black_box(shop.scheduler.state_counts());
            });
        });
        println!(
            "{count:>9} {at_first:>9.1} {:>10.1} {:>9} {:>12} {:>10} {:>10}",
            shop.bytes_a_token(count),
            added.as_nanos(),
            checked.as_nanos(),
            (woken / CALLS).as_nanos(),
            (counted / CALLS).as_nanos(),
        );
    }
}

/// A scheduler with one server, and the requests in flight.
struct Shop {
    scheduler: Scheduler,
    server: ServerId,
    now: Moment,
    calls: Vec<Ticket>,
}

impl Shop {
    fn new() -> Self {
        let mut scheduler = Scheduler::new(NonZeroU32::MIN, 7);
        let (rate_limit, max_in_flight) = (NonZeroU32::MAX, NonZeroU32::MAX);
        let server = scheduler.add_server(ServerLimits { rate_limit, max_in_flight });
        scheduler.restore_renewal_method(server, Method::Query);
        let now = Moment::from_millis(10_000_000);
        Self { scheduler, server, now, calls: Vec::new() }
    }

    /// Adds tokens whose lives began evenly spread over the time that passed.
    fn open(&mut self, count: u32) {
        let policy = Arc::new(Policy {
            schedule: Schedule::default(),
            timeout: Duration::from_secs(10),
            renewal: Renewal::Auto,
            reauth: None,
            reauth_before: None,
            assumed: false,
            rotates: false,
        });
        for token in 0..count {
            let spec = TokenSpec { server: self.server, policy: Arc::clone(&policy), reauth: None };
            let id = self.scheduler.add_token(spec, false, self.now);
            let passed = LIFE.mul_f64(0.6) * token / count;
            let life_ms = u64::try_from(LIFE.as_millis()).expect("a short life");
            let resumed = PersistedLife {
                expiry: self.now + LIFE.saturating_sub(passed),
                remaining_ms: life_ms,
                life_ms,
                by: Method::Query,
                proven: true,
                unrenewable: false,
                this_boot: true,
            };
            self.scheduler.restore(id, resumed, self.now);
        }
        self.note();
    }

    /// Advances from wake-up to wake-up, until this many requests are completed.
    fn run(&mut self, checks: u32) {
        let mut answered = 0;
        while answered < checks {
            let sent = self.now;
            self.now = self.now + LATENCY;
            for ticket in std::mem::take(&mut self.calls) {
                let outcome = Outcome::Alive { remaining: LIFE };
                let answer = CheckResult {
                    sent,
                    received: self.now,
                    outcome,
                    replaced: false,
                    cannot_renew: false,
                };
                self.scheduler.check_finished(ticket, answer, self.now);
                answered += 1;
            }
            if let Some(next) = self.scheduler.next_wake() {
                self.now = self.now.max(next);
                self.scheduler.wake(self.now);
            }
            self.note();
        }
    }

    fn note(&mut self) {
        let tickets = self.scheduler.outputs.drain(..).filter_map(|output| match output {
            SchedulerOutput::Action(ticket, _) => Some(ticket),
            SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ServerNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => None,
        });
        self.calls.extend(tickets);
    }

    fn bytes_a_token(&self, count: u32) -> f64 {
        self.scheduler.footprint() as f64 / f64::from(count)
    }
}

/// The CPU time that `work` takes.
fn cpu(work: impl FnOnce()) -> Duration {
    let before = cpu_time();
    work();
    cpu_time().saturating_sub(before)
}

/// CPU time of this thread, the only one that works.
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a clock that runs forwards")
}
