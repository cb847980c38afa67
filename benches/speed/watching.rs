//! Status requests and scrapes with a million tokens: their response times, and their effect on the
//! lateness of checks.
//!
//! The clients are separate processes on the server's core.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Run;
use super::memory::{EVENLY, play};
use super::process::{Core, Process, command, now, pause};
use super::stage::{Daemon, MILLION, Play, Server, program};
use super::table::Target;

/// Checks a second.
const RATE: f64 = 700.0;

/// Repetitions of each request; the median counts.
const TIMES: usize = 11;

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(200);

/// Duration of each scene.
const SCENE: Duration = Duration::from_secs(9);

/// Wait after the first check of all tokens, until the results are stored.
const STORING: Duration = Duration::from_secs(3);

/// Wait until the clients have started.
const SETTLE: Duration = Duration::from_secs(1);

/// As many clients as the daemon has connections for.
const SEARCHERS: usize = 16;

/// Each of their searches is answered within this time, in milliseconds.
const MOST_WAIT: f64 = 500.0;

/// The word for clients that search by name. They print the milliseconds of each response.
const SEARCH: &str = "search";

/// The clients of each scene, by the words that [`look`] knows.
const SCENES: [(&str, &[&str]); 6] = [
    ("no client", &[]),
    ("`status` in a loop", &["status"]),
    ("/metrics in a loop", &["metrics"]),
    ("the page open", &["page"]),
    ("16 clients that search by name", &[SEARCH]),
    ("all of these at once", &["status", "metrics", "page", SEARCH]),
];

/// Runs all measurements.
pub(super) fn all(run: &mut Run<'_>) {
    run.table.part("A million tokens at 700 checks a second, with status requests and scrapes");
    let mut server = Server::start(run.folder, "watching", run.pinned);
    let listen = free_port();
    server.spread_over(Some(Duration::from_secs_f64(MILLION as f64 / RATE)));
    let play = Play {
        schedule: EVENLY.into(),
        listen: Some(listen),
        ..play(run, "watching", MILLION, &server)
    };
    let daemon = Daemon::start(run.folder, &play);
    server.wait_for(MILLION as f64);
    pause(STORING);
    answers(run, &daemon, listen);
    for (what, who) in SCENES {
        scene(run, &mut server, &daemon, listen, what, who);
    }
}

/// Response times of single requests.
fn answers(run: &mut Run<'_>, daemon: &Daemon, listen: SocketAddr) {
    let (config, pinned) = (daemon.config(), run.pinned);
    for (arguments, target) in [
        (&["status"][..], Target::AtMost(100.0)),
        (&["status", "--json"], Target::AtMost(100.0)),
        (&["status", "t-0000123456"], Target::AtMost(100.0)),
        (&["status", "*0123456"], Target::AtMost(20.0)),
    ] {
        let what = format!("`{}`, the whole process", arguments.join(" "));
        told(run, &what, target, || {
            let mut status = status(&config, arguments, pinned);
            assert!(status.status().expect("a program").success(), "all tokens live");
        });
    }
    let socket = daemon.socket();
    let most = Target::AtMost(50.0);
    told(run, "/metrics on `control.listen`", most, || drop(get_tcp(listen, "/metrics")));
    told(run, "/metrics on the socket", most, || drop(get(dial(&socket), "/metrics")));
    told(run, "/healthz", Target::None, || drop(get_tcp(listen, "/healthz")));
    for filter in ["*99", "*9999*", "*9*", "t-?????????9"] {
        let path = format!("/v1/tokens?order=worst&filter={}", filter.replace('?', "%3F"));
        let what = format!("a search by name: `{filter}`");
        let target = if filter == "*99" { Target::AtMost(20.0) } else { Target::None };
        told(run, &what, target, || drop(get(dial(&socket), &path)));
    }
}

/// Repeats a request; reports the median and the slowest.
fn told(run: &mut Run<'_>, what: &str, target: Target, ask: impl Fn()) {
    let mut times: Vec<_> = (0..TIMES)
        .map(|_| {
            let began = now();
            ask();
            let taken = began.elapsed();
            pause(PAUSE);
            taken.as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    run.table.tell(what, times[TIMES / 2], "ms", target);
    run.table.tell(
        &format!("{what}, the slowest of {TIMES}"),
        times[TIMES - 1],
        "ms",
        Target::None,
    );
}

/// Lateness of checks and CPU of the daemon while these clients run.
fn scene(
    run: &mut Run<'_>,
    server: &mut Server,
    daemon: &Daemon,
    listen: SocketAddr,
    what: &str,
    who: &[&str],
) {
    let this = std::env::current_exe().expect("this program");
    let printed = run.folder.join("waits");
    let start = |word: &&str| {
        let mut look = command(&this, Core::Server, run.pinned);
        look.args(["look", word, &listen.to_string()]).arg(daemon.config());
        if *word == SEARCH {
            look.stdout(File::create(&printed).expect("room"));
        }
        Process(look.spawn().expect("started"))
    };
    let looking: Vec<_> = who.iter().map(start).collect();
    pause(SETTLE);
    let (asked, cpu, began) = (server.requests(), daemon.process.cpu(), now());
    let before = Lateness::read(listen);
    pause(SCENE);
    let late = Lateness::read(listen).since(&before);
    let seconds = began.elapsed().as_secs_f64();
    let rate = (server.requests() - asked) / seconds;
    let cpu = daemon.process.cpu().saturating_sub(cpu).as_secs_f64() * 100.0 / seconds;
    drop(looking);
    run.table.tell(&format!("{what}: checks"), rate, "/s", Target::None);
    let [half, most] = [0.5, 0.99].map(|share| late.quantile(share));
    run.table.tell(&format!("{what}: lateness p50"), half, "ms", Target::None);
    run.table.tell(&format!("{what}: lateness p99"), most, "ms", Target::AtMost(10.0));
    run.table.tell(&format!("{what}: the latest, at most"), late.most(), "ms", Target::None);
    run.table.tell(&format!("{what}: CPU"), cpu, "%", Target::None);
    if who.contains(&SEARCH) {
        let text = fs::read_to_string(&printed).expect("what it printed");
        let mut waits: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        waits.sort_by(f64::total_cmp);
        let [half, most] = [waits.len() / 2, waits.len() - 1].map(|at| waits[at]);
        run.table.tell(&format!("{what}: a search, median"), half, "ms", Target::None);
        run.table.tell(
            &format!("{what}: a search, slowest of {}", waits.len()),
            most,
            "ms",
            Target::AtMost(MOST_WAIT),
        );
    }
}

/// The daemon's own histogram of lateness: upper bounds in milliseconds, with counts.
#[derive(Debug)]
struct Lateness(Vec<(f64, f64)>);

impl Lateness {
    fn read(listen: SocketAddr) -> Self {
        let text = get_tcp(listen, "/metrics");
        let lines = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("tokenkeep_check_lateness_seconds_bucket{")?;
            let (labels, count) = rest.split_once("} ")?;
            let bound = labels.split("le=\"").nth(1)?.split('"').next()?.parse::<f64>().ok()?;
            Some((bound * 1e3, count.parse().ok()?))
        });
        Self(lines.collect())
    }

    fn since(&self, before: &Self) -> Self {
        let more = |((bound, now), (_, was)): (&(f64, f64), &(f64, f64))| (*bound, now - was);
        Self(self.0.iter().zip(&before.0).map(more).collect())
    }

    /// The lateness that this share of the checks did not exceed; interpolated linearly between two
    /// bounds.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = self.0.last().map_or(0.0, |last| last.1) * share;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= wanted {
                return low + (bound - low) * (wanted - below) / (count - below).max(1.0);
            }
            (low, below) = (*bound, *count);
        }
        f64::NAN
    }

    /// A lateness that no check exceeded.
    fn most(&self) -> f64 {
        let all = self.0.last().map_or(0.0, |last| last.1);
        self.0.iter().find(|(_, count)| *count >= all).map_or(f64::NAN, |(bound, _)| *bound)
    }
}

/// Sends requests of this kind until it is killed.
pub(super) fn look(word: &str, listen: SocketAddr, config: &Path) {
    let socket = config.with_file_name("control.sock");
    match word {
        "status" => loop {
            // It reports an error at the end, if the daemon exits first.
            let _ = status(config, &["status"], false).stderr(Stdio::null()).status();
        },
        "metrics" => loop {
            get_tcp(listen, "/metrics");
        },
        "page" => loop {
            get_tcp(listen, "/page/stream");
        },
        _ => thread::scope(|scope| {
            for n in 0..SEARCHERS {
                let path = format!("/v1/tokens?order=worst&filter=*{n}");
                let socket = &socket;
                scope.spawn(move || {
                    loop {
                        let began = now();
                        let is_answer = get(dial(socket), &path).starts_with("HTTP/1.1 200");
                        let taken = began.elapsed().as_secs_f64() * 1e3;
                        println!("{}", if is_answer { taken } else { f64::INFINITY });
                    }
                });
            }
        }),
    }
}

fn status(config: &Path, arguments: &[&str], pinned: bool) -> Command {
    let mut status = command(&program(), Core::Server, pinned);
    status.args(arguments).arg("--config").arg(config).stdout(Stdio::null());
    status
}

pub(super) fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

fn dial(socket: &Path) -> UnixStream {
    UnixStream::connect(socket).expect("a daemon")
}

fn get_tcp(listen: SocketAddr, path: &str) -> String {
    get(TcpStream::connect(listen).expect("a daemon"), path)
}

/// The whole response; a truncated one as far as it was received.
pub(super) fn get(mut stream: impl Read + Write, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a daemon");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
