//! Benchmark of the scheduler: memory and CPU for a token, and how they grow with the number of
//! tokens. Nothing may grow faster than a logarithm.
//!
//! `cargo bench --bench growth` prints the table. There is no server and no socket: responses are
//! generated 20 ms after their requests, in virtual time, so only scheduling and the lifecycle rules
//! are measured.
//!
//! A cost that has not grown by more than the logarithm of the number of tokens since the row before
//! is within log n. Larger data also leaves the CPU's caches, which no algorithm prevents. So each row
//! measures a random read in an array of the scheduler's size, too, and states how many such reads
//! the growth beyond the logarithm is worth. A number of reads that does not grow with the rows is
//! latency of the memory, not of the algorithm.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep::lifecycle::{CheckResult, Method, PersistedLife, Policy, Renewal, Schedule};
use tokenkeep::outcome::Outcome;
use tokenkeep::scheduler::{Scheduler, SchedulerOutput, ServerId, ServerLimits, Ticket, TokenSpec};
use tokenkeep::time::Moment;

/// From a small installation to four times the largest that is intended for one daemon.
const COUNTS: [u32; 5] = [1_000, 10_000, 100_000, 1_000_000, 4_000_000];

/// Every token's life.
const LIFE: Duration = Duration::from_secs(1_800);

/// Time from a request to its response.
const LATENCY: Duration = Duration::from_millis(20);

/// Checks that are measured for each count: at least one for each token.
const CHECKS: u32 = 1_000_000;

/// Random reads of the yardstick.
const READS: u32 = 4_000_000;

/// Repetitions of an operation that takes almost no time.
const CALLS: u32 = 20_000_000;

/// Figures of one measurement vary by this factor between runs.
const NOISE: f64 = 1.15;

/// What is measured: bytes for a token, and times in nanoseconds.
const FIGURES: [&str; 6] =
    ["bytes a token", "after checks", "add, ns", "check, ns", "next wake, ns", "census, ns"];

/// The figures with one number of tokens.
struct Row {
    tokens: u32,
    figures: [f64; FIGURES.len()],
    /// A random read in an array of the scheduler's size, in ns.
    read: f64,
}

fn main() {
    print!("{:>9} {:>6}", "tokens", "log n");
    for figure in FIGURES {
        print!(" {figure:>22}");
    }
    println!(" {:>8}", "read, ns");
    let mut before: Option<Row> = None;
    let mut beyond = 0;
    for tokens in COUNTS {
        let row = Row::measure(tokens);
        // What a cost of order log n grows by.
        let log =
            before.as_ref().map(|before| f64::from(tokens).ln() / f64::from(before.tokens).ln());
        print!("{tokens:>9} {:>6}", log.map_or(String::new(), |log| format!("×{log:.2}")));
        for (n, value) in row.figures.into_iter().enumerate() {
            let growth = before.as_ref().zip(log).map_or(String::new(), |(before, log)| {
                let earlier = before.figures[n];
                let verdict = if value <= earlier * log * NOISE {
                    "ok".into()
                } else {
                    beyond += 1;
                    format!("+{:.1} reads", (value - earlier * log) / row.read)
                };
                format!("×{:.2} {verdict}", value / earlier)
            });
            print!(" {:>22}", format!("{value:.1} {growth:<14}"));
        }
        println!(" {:>8.1}", row.read);
        before = Some(row);
    }
    println!("\n{beyond} figures grew by more than log n × {NOISE} since the row before.");
}

impl Row {
    fn measure(tokens: u32) -> Self {
        let mut shop = Shop::new();
        let added = cpu(|| shop.open(tokens));
        let at_first = shop.bytes_a_token(tokens);
        shop.run(tokens);
        let checks = CHECKS.max(tokens);
        let checked = cpu(|| shop.run(checks));
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
        let nanos = |time: Duration, times: u32| time.as_secs_f64() * 1e9 / f64::from(times);
        Self {
            tokens,
            figures: [
                at_first,
                shop.bytes_a_token(tokens),
                nanos(added, tokens),
                nanos(checked, checks),
                nanos(woken, CALLS),
                nanos(counted, CALLS),
            ],
            read: random_read(shop.scheduler.footprint()),
        }
    }
}

/// Time of one random read in an array of `size` bytes, in ns. The place of each read depends on the
/// read before, so that the CPU cannot start two of them at once.
fn random_read(size: usize) -> f64 {
    // Not zero: the kernel would map one page of zeros everywhere.
    let array = vec![1_u64; size.div_ceil(8)];
    let mut random = 7_u64;
    let spent = cpu(|| {
        for _ in 0..READS {
            // The high bits of a linear congruential generator, scaled to the array.
            let at = (u128::from(random) * array.len() as u128) >> 64;
            let read = array[usize::try_from(at).expect("an index")];
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(read);
        }
    });
    black_box(random);
    spent.as_secs_f64() * 1e9 / f64::from(READS)
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
