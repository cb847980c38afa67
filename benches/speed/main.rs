//! Benchmark for `docs/development/performance.md`: the daemon and its peers, in one run.
//!
//! `benches/run` installs the peers and starts this. Alone, `cargo bench --bench speed` skips missing
//! peers. Words after `--` select parts instead of all: `small`, `saturation`, `tls`, `memory`,
//! `million`, `lateness`, `storm`, `peers`. `watching` and `replicas` run only if they are
//! selected. With `free` the system chooses the cores; otherwise the server has one core and its
//! client another. `plot` also draws the plot.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod memory;
mod million;
mod peers;
mod plot;
mod process;
mod repeats;
mod replicas;
mod saturation;
mod small;
mod stage;
mod storm;
mod stub;
mod table;
mod tasks;
mod watching;

use std::path::Path;

use peers::Own;
use process::{is_installed, now};
use small::Small;
use table::Table;

/// Path of the plot.
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/development/performance.svg");

/// What every part needs, and results that later parts need from earlier ones.
struct Run<'a> {
    folder: &'a Path,
    pinned: bool,
    wanted: &'a [&'a str],
    table: Table,
    own: Own,
    /// Bytes of a daemon with almost no tokens, without its code.
    empty: f64,
    /// Bytes for each token of the peer in Rust with one task for each token.
    task_bytes: f64,
    points: Vec<Point>,
}

/// A point of the plot.
struct Point {
    tokens: u64,
    bytes: f64,
    lateness_ms: Option<f64>,
}

impl Run<'_> {
    /// Whether a part runs: it is selected, or no part is.
    fn wants(&self, part: &str) -> bool {
        let mut parts = self.wanted.iter().filter(|word| !["free", "plot"].contains(*word));
        parts.clone().next().is_none() || parts.any(|word| *word == part)
    }
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().expect("a number");
    match arguments.as_slice() {
        ["stub", certificate] => stub::run(Path::new(certificate)),
        ["tasks", url, tokens, checks] => tasks::run(url, number(tokens), number(checks)),
        ["look", word, listen, config] => {
            watching::look(word, listen.parse().expect("an address"), Path::new(config));
        }
        wanted => measure(wanted),
    }
}

fn measure(wanted: &[&str]) {
    let began = now();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pinned = cores > 1 && is_installed("taskset") && !wanted.contains(&"free");
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run {
        folder: folder.path(),
        pinned,
        wanted,
        table: Table::begin(),
        own: Own::default(),
        empty: 0.0,
        task_bytes: 0.0,
        points: Vec::new(),
    };
    let small = run.wants("small").then(|| Small::start(&run));
    if run.wants("saturation") {
        saturation::plain(&mut run);
    }
    if run.wants("tls") {
        saturation::tls(&mut run);
    }
    if run.wants("memory") || run.wants("million") {
        memory::smaller(&mut run);
    }
    if run.wants("million") || run.wants("lateness") {
        million::all(&mut run);
    }
    if run.wants("storm") {
        storm::all(&mut run);
    }
    // Only if selected: with these, all parts would take more than ten minutes.
    if wanted.contains(&"watching") {
        watching::all(&mut run);
    }
    if wanted.contains(&"replicas") {
        replicas::all(&mut run);
    }
    // Otherwise the peers run in the idle minute of the million tokens.
    if run.wants("peers") && !run.wants("million") {
        peers::all(&mut run);
    }
    if let Some(small) = small {
        small.finish(&mut run);
    }
    if wanted.contains(&"plot") {
        std::fs::write(PLOT, plot::draw(&run.points)).expect("a writable folder");
    }
    run.table.end(began.elapsed().as_secs_f64() / 60.0);
}
