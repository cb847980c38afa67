//! Test bed: a stub server, inventories, and daemons with a configuration for each measurement.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokenkeep::profile::BUILTIN;

use super::process::{Core, Process, command, now, pause};
use super::stub::CHECK_AFTER;

/// The large number of tokens.
pub(super) const MILLION: u64 = 1_000_000;

/// Limit for waiting.
const PATIENCE: Duration = Duration::from_secs(600);

/// Polling interval while waiting.
const LOOK: Duration = Duration::from_millis(1);

/// The stub server, as a separate process.
#[derive(Debug)]
pub(super) struct Server {
    /// Terminated on drop.
    _process: Process,
    ask: ChildStdin,
    said: BufReader<ChildStdout>,
    pub(super) plain: u16,
    pub(super) secure: u16,
    /// TLS, without HTTP/2.
    pub(super) older: u16,
    pub(super) certificate: PathBuf,
}

/// What the stub server has counted since its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) requests: f64,
    /// TLS handshakes without and with a resumed session.
    pub(super) full: f64,
    pub(super) resumed: f64,
}

impl Server {
    pub(super) fn start(folder: &Path, name: &str, pinned: bool) -> Self {
        let certificate = folder.join(format!("{name}.pem"));
        let this = std::env::current_exe().expect("this program");
        let mut child = command(&this, Core::Server, pinned)
            .arg("stub")
            .arg(&certificate)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let ask = child.stdin.take().expect("a pipe");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).expect("its ports");
        let mut ports = line.split_whitespace().map(|port| port.parse().expect("a port"));
        let mut port = || ports.next().expect("three of them");
        let (plain, secure, older) = (port(), port(), port());
        Self { _process: Process(child), ask, said, plain, secure, older, certificate }
    }

    /// Requests so far.
    pub(super) fn requests(&mut self) -> f64 {
        self.execute("").requests
    }

    /// Sets the lives that the server reports, so that with the schedule [`EVENLY`] all tokens are
    /// checked once in this time, evenly spread; `None` for lives of a day.
    pub(super) fn spread_over(&mut self, period: Option<Duration>) {
        let period = period.map_or(0, |period| period.as_millis());
        self.execute(&format!("period {period}"));
    }

    /// Sets the lives that the server reports, so that each check of a token is followed by the next
    /// one after this time.
    pub(super) fn repeat_after(&mut self, period: Duration) {
        self.spread_over(None);
        let life = period.as_millis() * 100 / u128::from(CHECK_AFTER) + 1;
        self.execute(&format!("life {life}"));
    }

    /// Executes a line of the stub's input, and returns what it has counted so far.
    pub(super) fn execute(&mut self, line: &str) -> Counts {
        writeln!(self.ask, "{line}").expect("a stub that runs");
        let mut said = String::new();
        self.said.read_line(&mut said).expect("a stub that runs");
        let mut counts = said.split_whitespace().map(|count| count.parse().expect("a number"));
        let mut count = || counts.next().expect("three of them");
        Counts { requests: count(), full: count(), resumed: count() }
    }

    /// Waits until the server has received this many requests.
    pub(super) fn wait_for(&mut self, requests: f64) {
        let began = now();
        while self.requests() < requests {
            assert!(began.elapsed() < PATIENCE, "{requests} requests in {PATIENCE:?}");
            pause(LOOK);
        }
    }

    /// Waits until the server has received no request for this time.
    pub(super) fn wait_for_silence(&mut self, silence: Duration) {
        let began = now();
        let (mut before, mut last) = (self.requests(), began);
        while last.elapsed() < silence {
            assert!(began.elapsed() < PATIENCE, "no request for {silence:?} within {PATIENCE:?}");
            pause(LOOK * 100);
            let requests = self.requests();
            if requests > before {
                (before, last) = (requests, now());
            }
        }
    }

    pub(super) fn plain_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.plain)
    }

    pub(super) fn secure_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.secure)
    }

    pub(super) fn older_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.older)
    }
}

/// Writes an inventory of this many tokens. Names have 12 bytes, values have 36 bytes. The daemon
/// watches the directory of its inventory, so nothing else is in it.
pub(super) fn inventory(folder: &Path, tokens: u64) -> PathBuf {
    let own = folder.join("inventories");
    fs::create_dir_all(&own).expect("a writable folder");
    let path = own.join(format!("{tokens}.jsonl"));
    if path.exists() {
        return path;
    }
    let mut file = BufWriter::new(File::create(&path).expect("a writable folder"));
    for n in 0..tokens {
        let value = format!(
            "{n:08x}-5ca1-4b1e-8000-{:012x}",
            n.wrapping_mul(0x9e37_79b9_7f4a) >> 4 & 0xffff_ffff_ffff
        );
        writeln!(file, r#"{{"name":"t-{n:010}","token":"{value}"}}"#).expect("room");
    }
    file.flush().expect("room");
    path
}

/// Configuration of a daemon.
#[derive(Debug, Clone)]
pub(super) struct Play<'a> {
    pub(super) name: &'a str,
    pub(super) tokens: u64,
    pub(super) url: String,
    /// The servers have a profile that declares their API.
    pub(super) profile: bool,
    /// With a certificate to trust.
    pub(super) certificate: Option<&'a Path>,
    /// Without a state directory nothing is stored.
    pub(super) store: bool,
    /// The rules under `[schedule]`.
    pub(super) schedule: String,
    /// Address of metrics and page; `None` if they are not served.
    pub(super) listen: Option<SocketAddr>,
    /// The section `[cluster]`; empty for a daemon alone.
    pub(super) cluster: String,
    pub(super) pinned: bool,
}

/// The real daemon with one of the inventories.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) process: Process,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon in `folder`; it restores the state of an earlier daemon with this name.
    pub(super) fn start(folder: &Path, play: &Play<'_>) -> Self {
        Self::run(&configure(folder, play), play.pinned)
    }

    /// Starts a daemon with this configuration. Its log is beside it.
    pub(super) fn run(config: &Path, pinned: bool) -> Self {
        let log = config.with_file_name("log");
        let child = command(&program(), Core::Client, pinned)
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(File::create(&log).expect("room"))
            .spawn()
            .expect("started");
        Self { process: Process(child), log }
    }

    /// Where its configuration is.
    pub(super) fn config(&self) -> PathBuf {
        self.log.with_file_name("tokenkeep.toml")
    }

    /// Its control socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.log.with_file_name("control.sock")
    }

    /// Reloads another configuration, and waits until it is applied.
    pub(super) fn reload(&self, folder: &Path, play: &Play<'_>) {
        configure(folder, play);
        let mut reload = command(&program(), Core::Server, play.pinned);
        reload.args(["reload", "--wait", "--config"]).arg(self.config()).stdout(Stdio::null());
        assert!(reload.status().expect("started").success());
    }

    /// Waits for an event in the log.
    pub(super) fn wait_for(&mut self, event: &str) {
        let began = now();
        while self.events(event).is_empty() {
            assert!(began.elapsed() < PATIENCE, "{event} within {PATIENCE:?}");
            assert!(self.process.0.try_wait().expect("a child").is_none(), "it has ended");
            pause(LOOK);
        }
    }

    /// All events of this name in the log.
    pub(super) fn events(&self, event: &str) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let marked = format!("\"{event}\"");
        let lines = log.lines().filter(|line| line.contains(&marked));
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|line| line["event"] == event).collect()
    }
}

/// The program under measurement; the environment variable `TOKENKEEP` can select another build.
pub(super) fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_tokenkeep"));
    std::env::var_os("TOKENKEEP").map_or(built.to_owned(), PathBuf::from)
}

/// Writes the configuration, and returns its path.
fn configure(folder: &Path, play: &Play<'_>) -> PathBuf {
    let own = folder.join(play.name);
    fs::create_dir_all(&own).expect("a writable folder");
    // An impossible state directory: the daemon logs a warning, and runs without a store.
    let state = if play.store { own.join("state") } else { PathBuf::from("/dev/null/state") };
    let trust =
        play.certificate.map_or(String::new(), |path| format!("ca_file = {}\n", quoted(path)));
    let listen = play.listen.map_or(String::new(), |address| format!("listen = \"{address}\"\n"));
    let mut text = format!(
        "state_dir = {}\n[log]\nformat = \"json\"\n[control]\nsocket = {}\n{listen}\
         [schedule]\n{}\n{}",
        quoted(&state),
        quoted(&own.join("control.sock")),
        play.schedule,
        play.cluster,
    );
    let profile = if play.profile {
        // The name of the native API is reserved.
        let sarus = BUILTIN.iter().find(|builtin| builtin.name == "sarus").expect("built in");
        text += &sarus.toml.replace("[profile.sarus", "[profile.declared");
        "profile = \"declared\"\n"
    } else {
        ""
    };
    text += &format!(
        "[server.stub]\nurl = \"{}\"\n{trust}{profile}max_in_flight = 64\n\
         rate_limit = 1000000\n[inventory.all]\nserver = \"stub\"\nfile = {}\n",
        play.url,
        quoted(&inventory(folder, play.tokens)),
    );
    let config = own.join("tokenkeep.toml");
    fs::write(&config, text).expect("room");
    config
}

/// A path as TOML has it; temporary folders have no quotes in their names.
pub(super) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
