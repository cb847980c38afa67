//! The tools that people use instead, on the same server: CPU for each check, memory for each token.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Run;
use super::process::{Core, Process, command, is_installed, measured};
use super::repeats::Repeats;
use super::stage::{MILLION, Server};
use super::table::Target;

/// Tokens that the shell checks once in each repeat.
const SHELL_TOKENS: u64 = 40;

/// Tokens with one task each in Python; each is checked once in each repeat.
const PYTHON_TOKENS: u64 = 5_000;

/// The same in Rust, for the CPU.
const RUST_TOKENS: u64 = 100_000;

/// Repeats of each measurement, as many as the daemon's.
const TURNS: u32 = 5;

/// The daemon's own measurements, for comparison.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    /// CPU for a check with the store, in µs; empty if it was not measured.
    pub(super) micros: Repeats,
    /// Bytes for each of a million tokens; 0 if they were not measured.
    pub(super) bytes: f64,
}

/// Measures all peers. The memory is compared later, when the daemon's is known.
pub(super) fn all(run: &mut Run<'_>) {
    run.table.part("Peers");
    let server = Server::start(run.folder, "peers", run.pinned);
    let url = server.plain_url();
    let scripts = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/speed/peers"));
    if is_installed("curl") && is_installed("jq") {
        let mut micros = Repeats::default();
        for _ in 0..TURNS {
            let mut shell = Command::new("sh");
            shell.arg(scripts.join("shell.sh")).arg(&url).arg(SHELL_TOKENS.to_string());
            let (_, cpu) = measured(&mut shell);
            micros.add(cpu.as_secs_f64() * 1e6 / SHELL_TOKENS as f64);
        }
        tell_cpu(run, "a shell loop with curl and jq", &micros, Target::AtLeast(100.0));
    } else {
        run.table.skip("a shell loop with curl and jq", "one of them is not installed");
    }
    match python() {
        Some(python) => {
            let (mut micros, mut bytes) = (Repeats::default(), Repeats::default());
            for _ in 0..TURNS {
                let mut peer = command(&python, Core::Client, run.pinned);
                let work = of_tasks(peer.arg(scripts.join("tasks.py")), &url, PYTHON_TOKENS);
                micros.add(work.0);
                bytes.add(work.1);
            }
            tell_cpu(run, "a task each in Python", &micros, Target::AtLeast(10.0));
            run.table.tell("memory of a task each in Python", bytes.median(), "B", Target::None);
        }
        None => run.table.skip("a task each in Python", "no Python with aiohttp"),
    }
    let this = std::env::current_exe().expect("this program");
    let task_each = |tokens| {
        let mut peer = command(&this, Core::Client, run.pinned);
        of_tasks(peer.arg("tasks"), &url, tokens)
    };
    let mut micros = Repeats::default();
    for _ in 0..TURNS {
        micros.add(task_each(RUST_TOKENS).0);
    }
    // As many tokens as the daemon whose memory is compared.
    let (_, bytes) = task_each(MILLION);
    tell_cpu(run, "a task each in Rust", &micros, Target::None);
    run.table.tell("memory of a task each in Rust", bytes, "B", Target::None);
    run.task_bytes = bytes;
}

/// Reports the CPU of a check, and compares it with the daemon's.
fn tell_cpu(run: &mut Run<'_>, who: &str, micros: &Repeats, target: Target) {
    run.table.tell(&format!("CPU for a check, {who}"), micros.median(), "µs", Target::None);
    let own = &run.own.micros;
    if !own.is_empty() {
        let what = format!("{who} ÷ the daemon with its store");
        run.table.compare(&what, micros, own, target);
    }
}

/// CPU for each check in µs, and bytes for each token, of a program with one task for each token that
/// checks it once.
fn of_tasks(peer: &mut Command, url: &str, tokens: u64) -> (f64, f64) {
    peer.args([url, &tokens.to_string(), "1"]);
    let mut child =
        peer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program that starts");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let process = Process(child);
    let mut after = |word: &str| {
        let line = said.next().expect("a word").expect("text");
        assert_eq!(line, word);
        (process.exact_cpu(), process.own_memory())
    };
    let (cpu, resident) = after("ready");
    let (cpu_after, resident_after) = after("done");
    let micros = cpu_after.saturating_sub(cpu).as_secs_f64() * 1e6 / tokens as f64;
    (micros, (resident_after - resident) / tokens as f64)
}

/// A Python with aiohttp: that of `benches/run`, or the machine's.
fn python() -> Option<PathBuf> {
    let own = std::env::var_os("PYTHON").map(PathBuf::from);
    own.into_iter().chain([PathBuf::from("python3")]).find(|python| {
        let tried =
            Command::new(python).args(["-c", "import aiohttp"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}
