//! Bugs planted on purpose: the simulation must catch each of them, for a check that cannot
//! fail is worth nothing.
//!
//! Production code holds no hooks for this. Each mutant is one replacement in the text of one
//! source file, in a scratch copy of the pure modules and the simulations; if the text does
//! not occur exactly once any more, its table is out of date, and that is a failure as well.

mod replicas;
mod scheduler;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// One planted bug.
pub(crate) struct Mutant {
    name: &'static str,
    file: &'static str,
    text: &'static str,
    becomes: &'static str,
    /// The invariants that may be the first to break.
    caught_by: &'static [&'static str],
}

/// The manifest of the scratch crate. Hardly optimised: most mutants are caught at once, and
/// building them is what takes the time.
const MANIFEST: &str = r#"
[package]
name = "tokenkeep"
version = "0.2.0"
edition = "2024"
[dependencies]
fastrand = "2"
roaring = { version = "0.11", default-features = false }
siphasher = { version = "1", default-features = false }
thiserror = "2"
[profile.sim]
inherits = "dev"
opt-level = 1
incremental = true
[workspace]
"#;

const LIBRARY: &str = "
pub mod scheduler;
pub mod lifecycle;
pub mod cluster { pub mod replica; }
pub mod outcome;
pub mod time;
";

/// A copy of the pure modules and the simulation, to be spoilt.
struct Scratch {
    origin: PathBuf,
    folder: PathBuf,
}

impl Scratch {
    fn new() -> io::Result<Self> {
        let origin = PathBuf::from(option_env!("SIM_ORIGIN").unwrap_or(env!("CARGO_MANIFEST_DIR")));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
        for part in ["src", "tests"] {
            if let Err(error) = fs::remove_dir_all(folder.join(part))
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        let modules = ["src/lifecycle", "src/scheduler", "src/cluster/replica"];
        for part in modules.into_iter().chain(["tests/simulation", "tests/replicas"]) {
            copy(&origin.join(part), &folder.join(part))?;
        }
        for file in ["src/outcome.rs", "src/time.rs", "Cargo.lock"] {
            fs::copy(origin.join(file), folder.join(file))?;
        }
        fs::write(folder.join("src/lib.rs"), LIBRARY)?;
        fs::write(folder.join("Cargo.toml"), MANIFEST)?;
        Ok(Self { origin, folder })
    }

    fn plant(&self, mutant: &Mutant) -> Result<(), String> {
        let Mutant { name, file, text, becomes, .. } = mutant;
        let path = self.folder.join(file);
        let source = fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
        match source.matches(text).count() {
            1 => fs::write(&path, source.replace(text, becomes)).map_err(|error| error.to_string()),
            count => Err(format!("{name}: the text occurs {count} times in {file}: {text}")),
        }
    }

    fn heal(&self, mutant: &Mutant) -> io::Result<()> {
        fs::copy(self.origin.join(mutant.file), self.folder.join(mutant.file)).map(drop)
    }

    /// Runs a test of a simulation; what it printed, and whether it passed.
    fn simulate(&self, simulation: &str, test: &str) -> io::Result<(String, bool)> {
        let output = Command::new(env!("CARGO"))
            .args(["test", "--offline", "--profile", "sim", "--test", simulation])
            .args(["--", "--include-ignored", test])
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTFLAGS")
            .output()?;
        let told =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok((told.concat(), output.status.success()))
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The invariant that the first violation names.
fn caught_by(told: &str) -> Option<&str> {
    let line =
        told.lines().find(|line| line.starts_with("seed ") && line.contains("(invariant "))?;
    line.split_once(": ")?.1.split_once(' ').map(|(invariant, _)| invariant)
}

/// Builds each mutant and lets a simulation find it; without the bugs it must find nothing.
/// `MUTANT=WORD` picks those with that word in their name.
#[test]
#[ignore = "builds a score of scratch crates; .ci/run runs it"]
fn every_planted_bug_is_caught() {
    let scratch = Scratch::new().unwrap();
    let wanted = env::var("MUTANT").unwrap_or_default();
    let is_wanted = |mutant: &&Mutant| wanted.split(',').any(|word| mutant.name.contains(word));
    let mut failures = Vec::new();
    for (simulation, few, many, mutants) in [
        ("simulation", "a_few_worlds", "ten_million", scheduler::MUTANTS),
        ("replicas", "a_few_clusters", "two_million", replicas::MUTANTS),
    ] {
        let (told, passed) = scratch.simulate(simulation, few).unwrap();
        assert!(passed, "without any planted bug it fails:\n{told}");
        for mutant in mutants.iter().filter(is_wanted) {
            scratch.plant(mutant).unwrap_or_else(|fault| panic!("{fault}"));
            let (told, passed) = scratch.simulate(simulation, many).unwrap();
            scratch.heal(mutant).unwrap();
            let caught = caught_by(&told);
            println!("{:<60} {}", mutant.name, caught.unwrap_or("NOT CAUGHT"));
            if passed || !caught.is_some_and(|caught| mutant.caught_by.contains(&caught)) {
                let end = told.lines().rev().take(30).collect::<Vec<_>>();
                let end: Vec<_> = end.into_iter().rev().collect();
                failures.push(format!("{}: caught by {caught:?}\n{}", mutant.name, end.join("\n")));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
