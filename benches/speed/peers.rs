//! The tools that people use instead, on the same server: CPU for each check, memory for each token.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Run;
use super::process::{Core, Process, command, is_installed, measured};
use super::stage::Server;
use super::table::Target;

/// Tokens that the shell checks once.
const SHELL_TOKENS: u64 = 200;

/// Tokens with one task each in Python, and the number of checks of each.
const IN_PYTHON: (u64, u64) = (5_000, 2);

/// The same in Rust: as many tokens as the daemon whose memory is compared.
const IN_RUST: (u64, u64) = (super::stage::MILLION, 1);

/// The daemon's own measurements, for comparison.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Own {
    /// CPU for a check with the store, in µs; 0 if it was not measured.
    pub(super) micros: f64,
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
        let mut shell = Command::new("sh");
        shell.arg(scripts.join("shell.sh")).arg(&url).arg(SHELL_TOKENS.to_string());
        let (_, cpu) = measured(&mut shell);
        let micros = cpu.as_secs_f64() * 1e6 / SHELL_TOKENS as f64;
        tell_cpu(run, "a shell loop with curl and jq", micros, 100.0);
    } else {
        run.table.skip("a shell loop with curl and jq", "one of them is not installed");
    }
    match python() {
        Some(python) => {
            let mut peer = command(&python, Core::Client, run.pinned);
            peer.arg(scripts.join("tasks.py"));
            let (micros, bytes) = of_tasks(&mut peer, &url, IN_PYTHON);
            tell_cpu(run, "a task each in Python", micros, 10.0);
            run.table.tell("memory of a task each in Python", bytes, "B", Target::None);
        }
        None => run.table.skip("a task each in Python", "no Python with aiohttp"),
    }
    let this = std::env::current_exe().expect("this program");
    let mut peer = command(&this, Core::Client, run.pinned);
    let (micros, bytes) = of_tasks(peer.arg("tasks"), &url, IN_RUST);
    tell_cpu(run, "a task each in Rust", micros, 0.0);
    run.table.tell("memory of a task each in Rust", bytes, "B", Target::None);
    run.task_bytes = bytes;
}

/// Compares the CPU of a check; the target is at least `least` times the daemon's, unless it is 0.
fn tell_cpu(run: &mut Run<'_>, who: &str, micros: f64, least: f64) {
    run.table.tell(&format!("CPU for a check, {who}"), micros, "µs", Target::None);
    let own = run.own.micros;
    if own > 0.0 {
        let target = if least > 0.0 { Target::AtLeast(least) } else { Target::None };
        run.table.tell(&format!("{who} ÷ the daemon with its store"), micros / own, "×", target);
    }
}

/// CPU for each check in µs, and bytes for each token, of a program with one task for each token.
fn of_tasks(peer: &mut Command, url: &str, (tokens, checks): (u64, u64)) -> (f64, f64) {
    peer.args([url, &tokens.to_string(), &checks.to_string()]);
    let mut child =
        peer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program that starts");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let process = Process(child);
    let mut after = |word: &str| {
        let line = said.next().expect("a word").expect("text");
        assert_eq!(line, word);
        (process.cpu().as_secs_f64(), process.own_memory())
    };
    let (cpu, resident) = after("ready");
    let (cpu_after, resident_after) = after("done");
    let micros = (cpu_after - cpu) * 1e6 / (tokens * checks) as f64;
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
