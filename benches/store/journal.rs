//! Benchmark of the store as the daemon uses it: cost of a check, and time to read a million
//! expiries.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokenkeep::clock;
use tokenkeep::lifecycle::{Method, PersistedLife};
use tokenkeep::secret::TokenValue;
use tokenkeep::store::{Store, Writer};

use super::{COMMITS, UPDATES, measured, megabytes, size, written};

const URL: &str = "https://api.example.net/";

/// The name and the value of a token: 12 bytes and 36.
fn token(number: u64) -> (String, TokenValue) {
    let name = format!("t{:011}", number.wrapping_mul(7_919) % 100_000_000_000);
    let value = format!("{:036}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (name, TokenValue::parse(&value).expect("digits"))
}

fn life() -> PersistedLife {
    PersistedLife {
        expiry: clock::now() + Duration::from_secs(1_800),
        remaining_ms: 1_800_000,
        life_ms: 1_800_000,
        by: Method::Query,
        proven: true,
        unrenewable: false,
        this_boot: true,
    }
}

/// The daemon's part: persists a token, and other tokens if compaction requests them.
struct Checks {
    writer: Writer,
    tokens: Vec<(String, TokenValue)>,
    next: usize,
}

impl Checks {
    fn open(folder: &Path, tokens: Vec<(String, TokenValue)>) -> Self {
        let mut store = Store::open(folder).expect("opened");
        store.lives(|_| {}).expect("read");
        Self { writer: store.into_writer().expect("a thread"), tokens, next: 0 }
    }

    fn check(&mut self, number: usize) {
        self.remember(number);
        let (steps, from_the_first) = self.writer.compaction_step(self.tokens.len());
        if from_the_first {
            self.next = 0;
        }
        for _ in 0..steps {
            if self.next == self.tokens.len() {
                return self.writer.finish_compaction_pass();
            }
            self.remember(self.next);
            self.next += 1;
        }
    }

    fn remember(&mut self, number: usize) {
        let (name, value) = &self.tokens[number];
        self.writer.persist_life(name, URL, value.by_ref(), &life());
    }

    fn flush(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(self.writer.flush().durable()).expect("room");
    }
}

/// Prints the cost of the append-only log with this many tokens.
pub(crate) fn figures(rows: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let mut checks = Checks::open(&path, (0..rows).map(token).collect());
    for number in 0..checks.tokens.len() {
        checks.check(number);
        if number.is_multiple_of(50_000) {
            checks.flush();
        }
    }
    checks.flush();
    let load = |checks: Checks| {
        let Checks { writer, tokens, .. } = checks;
        drop(writer);
        // The writer thread closes the file soon.
        while Store::open(&path).is_err() {}
        let by_name: std::collections::HashMap<_, _> =
            tokens.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let ((), _, read) = measured(|| {
            let mut store = Store::open(&path).expect("opened");
            store.lives(|_| {}).expect("read");
        });
        let ((found, entries), took, cpu) = measured(|| {
            let mut store = Store::open(&path).expect("opened");
            let (mut found, mut entries) = (std::collections::HashSet::new(), 0_u64);
            store
                .lives(|recalled| {
                    entries += recalled.len() as u64;
                    for life in recalled {
                        let (name, value) = by_name.get_key_value(life.name).expect("its name");
                        if found.insert(name.as_ptr()) {
                            assert!(life.life_of(URL, value.by_ref()).is_some());
                        }
                    }
                })
                .expect("read");
            (found.len(), entries)
        });
        assert_eq!(found as u64, rows, "every token is found");
        println!("  load of {entries} entries");
        println!("    CPU to read them, s                {:.2}", read.as_secs_f64());
        println!("    and with every tag compared, s     {:.2}", cpu.as_secs_f64());
        println!("    that took, s                       {:.2}", took.as_secs_f64());
        tokens
    };
    println!("journal, {rows} tokens");
    let tokens = load(checks);
    let mut checks = Checks::open(&path, tokens);
    let mut chance = fastrand::Rng::with_seed(7);
    // A whole compaction cycle: half of it without compaction, half of it with.
    let cycle = 5 * rows / 2;
    let commits = (cycle / UPDATES as u64).max(COMMITS);
    let (before, busy) = (written(), process_cpu());
    let (mut most, mut slowest) = (0, Duration::ZERO);
    for _ in 0..commits {
        for _ in 0..UPDATES {
            let number = chance.usize(..checks.tokens.len());
            checks.check(number);
        }
        let ((), took, _) = measured(|| checks.flush());
        slowest = slowest.max(took);
        most = most.max(size(&path));
    }
    let updates = commits as f64 * UPDATES as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / updates;
    let cpu = process_cpu().saturating_sub(busy);
    println!("  CPU for each check, µs               {:.2}", micros(cpu));
    println!("  written for each check, B            {:.0}", (written() - before) as f64 / updates);
    println!("  slowest commit, ms                   {:.1}", slowest.as_secs_f64() * 1e3);
    println!("  files at their largest, MB           {}", megabytes(most));
    load(checks);
}

/// CPU time of all threads.
fn process_cpu() -> Duration {
    let threads = fs::read_dir("/proc/self/task").expect("Linux");
    let nanos = threads.map(|thread| {
        let path = thread.expect("a thread").path().join("schedstat");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}
