//! The figures of `docs/development/performance.md`: the daemon beside its peers, in one run.
//!
//! `benches/run` installs the peers and starts this. Alone, `cargo bench --bench speed` skips
//! those that are missing. Words after `--` name the parts that are wanted, in place of all:
//! `saturation`, `tls`, `memory`, `million`, `lateness`, `peers`; and `watching`, which is not among
//! all. With `free` the system chooses the cores, where otherwise the server has one and whoever
//! asks it another; with `plot` the plot is written anew.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod memory;
mod million;
mod peers;
mod plot;
mod process;
mod saturation;
mod stage;
mod stub;
mod table;
mod tasks;
mod watching;

use std::path::Path;

use peers::Own;
use process::{is_installed, now};
use table::Table;

/// Where the plot goes.
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/development/performance.svg");

/// What every part needs, and what later parts need of earlier ones.
struct Run<'a> {
    folder: &'a Path,
    pinned: bool,
    wanted: &'a [&'a str],
    table: Table,
    own: Own,
    /// Bytes of a daemon with next to no tokens, its code left out.
    empty: f64,
    /// Bytes for each token of the peer with a task each in Rust.
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
    /// Whether a part is wanted: it is named, or none is.
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
    // On demand only: with it, all of them would take more than ten minutes.
    if wanted.contains(&"watching") {
        watching::all(&mut run);
    }
    // Otherwise they have the idle minute of the million.
    if run.wants("peers") && !run.wants("million") {
        peers::all(&mut run);
    }
    if wanted.contains(&"plot") {
        std::fs::write(PLOT, plot::draw(&run.points)).expect("a writable folder");
    }
    run.table.end(began.elapsed().as_secs_f64() / 60.0);
}
