//! How the candidate databases handle a kill, a full disk and damaged files.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use super::engine::{Kind, Row};

/// Rows of one commit in the test of kills.
const IN_A_COMMIT: u64 = 100;

/// Number of kills, and of damaged files, for each candidate.
const ROUNDS: u64 = 20;

/// Rows of the database that is damaged.
const TO_DAMAGE: u64 = 5_000;

/// Commits the same rows with an increasing number, and prints the number after each commit.
pub(crate) fn commit_for_ever(kind: Option<Kind>, folder: &Path) {
    let mut store = kind.expect("a kind").open(folder).expect("opened");
    let mut last = 0;
    store.scan(&mut |_, _, bound, _| last = bound).ok();
    for generation in last + 1.. {
        let rows: Vec<_> = (0..IN_A_COMMIT).map(|n| Row::new(n, generation)).collect();
        store.write(&rows).expect("room");
        println!("{generation}");
    }
}

/// Kills a writer repeatedly; every commit that it reported must be there, and complete.
pub(crate) fn kills(kind: Kind) {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut lost, mut torn, mut refused) = (0, 0, 0);
    for round in 0..ROUNDS {
        let mut child = this("commit", kind, folder.path()).spawn().expect("started");
        let mut told = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let first = told.next().expect("a line").expect("text");
        std::thread::sleep(Duration::from_millis(20 + 17 * (round % 7)));
        child.kill().expect("killed");
        let last = told.map_while(Result::ok).last().unwrap_or(first);
        let told: u64 = last.parse().expect("a number");
        child.wait().expect("ended");
        let mut found = Vec::new();
        match kind.open(folder.path()) {
            Ok(mut store) => {
                store.scan(&mut |_, _, bound, _| found.push(bound)).expect("read");
                lost += u64::from(found.iter().any(|bound| *bound < told));
                torn += u64::from(found.iter().any(|bound| *bound != found[0]));
            }
            Err(_) => refused += 1,
        }
    }
    println!(
        "{:<14} {ROUNDS} kills amid commits: {lost} lost a commit, {torn} tore one, {refused} would not open",
        kind.name()
    );
}

/// Writes into a small file system until it is full, then makes room.
pub(crate) fn full_disk(kind: Kind) {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = |arguments: &[&str]| {
        let done = Command::new(arguments[0]).args(&arguments[1..]).arg(folder.path()).status();
        done.is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs"]) {
        println!("{:<14} full disk: skipped, mounting is not permitted", kind.name());
        return;
    }
    let ballast = folder.path().join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).expect("room");
    let mut store = kind.open(folder.path()).expect("opened");
    let mut committed = 0;
    let error = loop {
        let rows: Vec<_> = (committed..committed + 500).map(|n| Row::new(n, 1)).collect();
        match store.write(&rows) {
            Ok(()) => committed += 500,
            Err(error) => break error,
        }
    };
    let count = |store: &mut Box<dyn super::engine::Engine>| {
        let mut found = 0;
        store.scan(&mut |_, _, _, _| found += 1).map(|()| found)
    };
    let readable = count(&mut store);
    fs::remove_file(&ballast).expect("removed");
    let again = store.write(&[Row::new(committed, 2)]);
    drop(store);
    let mut store = kind.open(folder.path());
    let reopened = match &mut store {
        Ok(store) => count(store).map_err(|error| error.clone()),
        Err(error) => Err(error.clone()),
    };
    println!(
        "{:<14} full disk after {committed} rows: {error:?}; then readable: {readable:?}; with room \
         again, writes: {again:?}; reopened: {reopened:?}",
        kind.name()
    );
    drop(store);
    if !mount(&["umount"]) {
        eprintln!("{} is still mounted", folder.path().display());
    }
}

/// Overwrites or truncates the file at random; a child then reads it, writes to it, and exits.
pub(crate) fn damages(kind: Kind) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = kind.open(folder.path()).expect("opened");
    let rows: Vec<_> = (0..TO_DAMAGE).map(|n| Row::new(n, 1)).collect();
    store.write(&rows).expect("room");
    drop(store);
    let sound = fs::read(folder.path().join("store")).expect("a file");
    let mut chance = fastrand::Rng::with_seed(11);
    let mut ends = [0; 5];
    for round in 0..2 * ROUNDS {
        let mut damaged = sound.clone();
        if round % 2 == 0 {
            let at = chance.usize(..damaged.len() - 64);
            chance.fill(&mut damaged[at..at + 64]);
        } else {
            damaged.truncate(chance.usize(..damaged.len()));
        }
        let place = tempfile::tempdir().expect("a folder");
        File::create(place.path().join("store"))
            .and_then(|mut file| file.write_all(&damaged))
            .expect("room");
        let mut child = this("read", kind, place.path()).stderr(Stdio::null()).spawn().expect("it");
        let mut code = None;
        for _ in 0..200 {
            code = child.try_wait().expect("a child");
            if code.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        child.kill().ok();
        child.wait().ok();
        ends[match code.map(|status| status.code()) {
            Some(Some(0)) => 0,
            Some(Some(3)) => 1,
            Some(Some(4)) => 2,
            Some(_) => 3,
            None => 4,
        }] += 1;
    }
    let [sound, fault, wrong, panicked, hung] = ends;
    println!(
        "{:<14} {} damaged files: {sound} read as they were, {fault} refused with an error, {wrong} \
         read wrongly, {panicked} panicked, {hung} hung",
        kind.name(),
        2 * ROUNDS
    );
}

/// Reads a damaged database. Exit status: 0 if unharmed, 3 for an error, 4 for rows with other contents.
pub(crate) fn read_damaged(kind: Option<Kind>, folder: &Path) -> ExitCode {
    let read = || {
        let mut store = kind.expect("a kind").open(folder)?;
        let mut found = Vec::new();
        store.scan(&mut |name, value, bound, life| {
            found.push(Row { name: name.to_owned(), value: value.to_owned(), bound, life });
        })?;
        store.write(&[Row::new(TO_DAMAGE, 1)])?;
        Ok::<_, String>(found)
    };
    let Ok(mut found) = read() else { return ExitCode::from(3) };
    let mut expected: Vec<_> = (0..TO_DAMAGE).map(|n| Row::new(n, 1)).collect();
    expected.sort_by(|one, other| one.name.cmp(&other.name));
    found.sort_by(|one, other| one.name.cmp(&other.name));
    ExitCode::from(if found == expected { 0 } else { 4 })
}

fn this(mode: &str, kind: Kind, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([mode, kind.name()]).arg(folder).stdout(Stdio::piped());
    command
}
