//! Benchmark of the embedded databases that the store could use, side by side in one run, and of the
//! store itself.
//!
//! `cargo bench --bench store` prints the tables of `docs/development/store.md`. A number sets the
//! count of rows instead of a million, as in `cargo bench --bench store -- 100000`. `journal`, alone
//! or before the number, measures only the store itself.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod engine;
mod journal;
mod trouble;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use engine::{Kind, Row};

/// Tokens of one daemon.
const ROWS: u64 = 1_000_000;

/// Checks a second, each of which updates a row.
const UPDATES: usize = 2_000;

/// Group commits that are measured; the daemon makes one a second.
const COMMITS: u64 = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let kind = |name: &str| Kind::ALL.into_iter().find(|kind| kind.name() == name);
    match arguments.as_slice() {
        [] => compare(ROWS),
        [rows] if rows.parse::<u64>().is_ok() => compare(rows.parse().unwrap_or(ROWS)),
        ["commit", name, folder] => trouble::commit_for_ever(kind(name), Path::new(folder)),
        ["read", name, folder] => return trouble::read_damaged(kind(name), Path::new(folder)),
        ["journal"] => journal::figures(ROWS),
        ["journal", rows] => journal::figures(rows.parse().unwrap_or(ROWS)),
        ["update", name, folder] => updates(kind(name), Path::new(folder)),
        other => eprintln!("what is {other:?}?"),
    }
    ExitCode::SUCCESS
}

fn compare(rows: u64) {
    println!("{rows} rows; {UPDATES} updates in each of {COMMITS} commits\n");
    println!("{:<38}{}", "", Kind::ALL.map(|kind| format!("{:>16}", kind.name())).concat());
    let figures = Kind::ALL.map(|kind| speed(kind, rows));
    for line in 0..figures[0].len() {
        let name = figures[0][line].0;
        let values = figures.each_ref().map(|figures| format!("{:>16}", figures[line].1));
        println!("{name:<38}{}", values.concat());
    }
    println!();
    journal::figures(rows);
    println!();
    for kind in [Kind::SqliteFull, Kind::Redb] {
        trouble::kills(kind);
        trouble::full_disk(kind);
        trouble::damages(kind);
    }
}

fn speed(kind: Kind, rows: u64) -> Vec<(&'static str, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = kind.open(folder.path()).expect("opened");
    let ((), filled, _) = measured(|| {
        for first in (0..rows).step_by(50_000) {
            let batch: Vec<_> = (first..rows.min(first + 50_000)).map(|n| Row::new(n, n)).collect();
            store.write(&batch).expect("room");
        }
    });
    drop(store);
    let fresh = size(folder.path());
    let (count, loaded, load_cpu) = measured(|| {
        let mut store = kind.open(folder.path()).expect("opened");
        let mut kept = Vec::new();
        let mut numbers = Vec::new();
        store
            .scan(&mut |name, value, bound, life| {
                kept.extend_from_slice(name.as_bytes());
                kept.extend_from_slice(value.as_bytes());
                numbers.push((bound, life));
            })
            .expect("read");
        numbers.len()
    });
    assert_eq!(count as u64, rows, "every row is found");
    let (cpu, slowest, written) = update(kind, folder.path(), rows);
    let updates = COMMITS as f64 * UPDATES as f64;
    vec![
        ("fill, s", format!("{:.2}", filled.as_secs_f64())),
        ("load of all rows in one scan, s", format!("{:.2}", loaded.as_secs_f64())),
        ("  of that CPU, s", format!("{:.2}", load_cpu.as_secs_f64())),
        ("CPU for each update, µs", format!("{:.2}", cpu.as_secs_f64() * 1e6 / updates)),
        ("slowest commit, ms", format!("{:.1}", slowest.as_secs_f64() * 1e3)),
        ("written to disk for each update, B", format!("{:.0}", written as f64 / updates)),
        ("syncs for each commit", syncs(kind, folder.path())),
        ("size after the fill, MB", megabytes(fresh)),
        ("size after the updates, MB", megabytes(size(folder.path()))),
    ]
}

/// Updates random rows; the CPU time, the slowest commit, and the bytes that were written.
fn update(kind: Kind, folder: &Path, rows: u64) -> (Duration, Duration, u64) {
    let mut store = kind.open(folder).expect("opened");
    let mut chance = fastrand::Rng::with_seed(7);
    let (mut cpu, mut slowest) = (Duration::ZERO, Duration::ZERO);
    let before = written();
    for commit in 0..COMMITS {
        let mut batch: Vec<_> =
            (0..UPDATES).map(|_| Row::new(chance.u64(0..rows), commit)).collect();
        batch.sort_by(|one, other| one.name.cmp(&other.name));
        let ((), took, worked) = measured(|| store.write(&batch).expect("room"));
        cpu += worked;
        slowest = slowest.max(took);
    }
    (cpu, slowest, written() - before)
}

/// Work of the traced child: the same updates, and nothing else.
fn updates(kind: Option<Kind>, folder: &Path) {
    let kind = kind.expect("a kind");
    let mut rows = 0;
    kind.open(folder).expect("opened").scan(&mut |_, _, _, _| rows += 1).expect("read");
    update(kind, folder, rows);
}

/// Syncs for each commit, as `strace` counts them.
fn syncs(kind: Kind, folder: &Path) -> String {
    let traced = std::process::Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o"])
        .arg(folder.join("trace"))
        .arg(std::env::current_exe().expect("this program"))
        .args(["update", kind.name()])
        .arg(folder)
        .status();
    let Ok(true) = traced.map(|status| status.success()) else {
        return "no strace".to_owned();
    };
    let trace = fs::read_to_string(folder.join("trace")).expect("a trace");
    fs::remove_file(folder.join("trace")).expect("removed");
    format!("{:.1}", trace.lines().count() as f64 / COMMITS as f64)
}

/// The result of `work`, its duration, and its CPU time.
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn measured<T>(work: impl FnOnce() -> T) -> (T, Duration, Duration) {
    let (began, cpu) = (Instant::now(), cpu_time());
    let result = work();
    (result, began.elapsed(), cpu_time().saturating_sub(cpu))
}

/// CPU time of this thread, the only one that works.
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

/// Bytes that this process has written to the disk, or will write from the page cache.
fn written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|bytes| bytes.parse().ok()).expect("a number")
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |file| file.len())).sum()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}
