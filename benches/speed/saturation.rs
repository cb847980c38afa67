//! CPU for a check when only the CPU is the limit, compared with the CPU that the leanest clients
//! need for a request to the same server.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Run;
use super::process::{Core, command, is_installed, measured, now, pause};
use super::repeats::Repeats;
use super::stage::{Daemon, Play, Server};
use super::table::Target;

/// Tokens that are due more often than they can be checked.
const TOKENS: u64 = 100_000;

/// Duration of each measurement: more than 100,000 checks. Five of them fit into ten minutes with
/// everything else.
const STRETCH: Duration = Duration::from_secs(2);

/// Wait after a reload until all tokens are due.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measurements of each client, in turn, so that other load of the machine affects all equally. The
/// median of five is that of undisturbed ones if two are disturbed.
const TURNS: u32 = 5;

/// Each token is due again a second after its check. Not usable at startup: tokens with a known
/// expiry go first, and some tokens would never be checked.
pub(super) const ALWAYS_DUE: &str = "max_interval = \"1s\"";

/// Nothing is due for hours: the API reports lives of a day.
pub(super) const NOTHING_DUE: &str = "max_interval = \"6h\"";

/// One measurement of a client.
#[derive(Debug, Clone, Copy)]
struct Sample {
    requests: f64,
    seconds: f64,
    cpu: Duration,
}

/// All measurements of a client.
#[derive(Debug, Clone, Default)]
struct Work {
    /// CPU for a request in µs.
    micros: Repeats,
    /// Requests a second.
    rate: Repeats,
}

impl Work {
    fn add(&mut self, sample: Sample) {
        let Sample { requests, seconds, cpu } = sample;
        self.micros.add(cpu.as_secs_f64() * 1e6 / requests);
        self.rate.add(requests / seconds);
    }
}

/// Plain HTTP/1.1 on 64 connections, against wrk with as many; and the same API declared by a
/// profile.
pub(super) fn plain(run: &mut Run<'_>) {
    run.table.part("Saturation, HTTP/1.1, 64 connections");
    let mut server = Server::start(run.folder, "saturation", run.pinned);
    let [mut peer, mut bare, mut stored, mut declared]: [Work; 4] = Default::default();
    let has_peer = is_installed("wrk");
    let url = server.plain_url();
    for _ in 0..TURNS {
        if has_peer {
            let target = format!(
                "{url}/QuerySessionToken?SessionToken=00000000-5ca1-4b1e-8000-000000000000"
            );
            let mut wrk = command(Path::new("wrk"), Core::Client, run.pinned);
            wrk.args(["-t1", "-c64"]).arg(format!("-d{}s", STRETCH.as_secs())).arg(target);
            peer.add(of_peer(&mut wrk, "requests in"));
        }
        let play = |name, store| play(name, url.clone(), store);
        bare.add(of_daemon(run, &mut server, &play("bare", false)));
        stored.add(of_daemon(run, &mut server, &play("stored", true)));
        let play = Play { profile: true, ..play("declared", false) };
        declared.add(of_daemon(run, &mut server, &play));
    }
    if !has_peer {
        run.table.skip("wrk", "it is not installed");
    }
    tell(run, "wrk", &peer, [("no store", &bare, 2.0), ("with the store", &stored, 2.2)]);
    let table = &mut run.table;
    let median = declared.micros.median();
    table.tell("CPU for a check, no store, API of a profile", median, "µs", Target::None);
    let target = Target::AtMost(1.5);
    table.compare("CPU by a profile ÷ native", &declared.micros, &bare.micros, target);
    run.own.micros = stored.micros;
}

/// TLS with HTTP/2, against h2load.
pub(super) fn tls(run: &mut Run<'_>) {
    run.table.part("Saturation, TLS, 64 at once");
    let mut server = Server::start(run.folder, "tls", run.pinned);
    let [mut peer, mut bare]: [Work; 2] = Default::default();
    let has_peer = is_installed("h2load");
    let url = server.secure_url();
    let certificate = server.certificate.clone();
    for _ in 0..TURNS {
        if has_peer {
            let target = format!(
                "{url}/QuerySessionToken?SessionToken=00000000-5ca1-4b1e-8000-000000000000"
            );
            let mut h2load = command(Path::new("h2load"), Core::Client, run.pinned);
            h2load.args(["-c1", "-m64", "-D"]).arg(STRETCH.as_secs().to_string()).arg(target);
            peer.add(of_peer(&mut h2load, "total,"));
        }
        let play = Play { certificate: Some(&certificate), ..play("tls", url.clone(), false) };
        bare.add(of_daemon(run, &mut server, &play));
    }
    if !has_peer {
        run.table.skip("h2load", "it is not installed");
    }
    tell(run, "h2load", &peer, [("HTTP/2", &bare, 5.0)]);
}

fn play(name: &str, url: String, store: bool) -> Play<'_> {
    Play {
        name,
        tokens: TOKENS,
        url,
        profile: false,
        certificate: None,
        store,
        schedule: NOTHING_DUE.into(),
        listen: None,
        cluster: String::new(),
        pinned: true,
    }
}

/// One measurement of the daemon's steady state: every token has been checked once before.
fn of_daemon(run: &Run<'_>, server: &mut Server, play: &Play<'_>) -> Sample {
    let before = server.requests();
    let play = Play { pinned: run.pinned, ..play.clone() };
    // The daemon would restore the state of the previous measurement, and check few tokens.
    let _ = fs::remove_dir_all(run.folder.join(play.name).join("state"));
    let daemon = Daemon::start(run.folder, &play);
    server.wait_for(before + TOKENS as f64);
    daemon.reload(run.folder, &Play { schedule: ALWAYS_DUE.into(), ..play });
    pause(WARM_UP);
    let (requests, cpu, began) = (server.requests(), daemon.process.exact_cpu(), now());
    pause(STRETCH);
    let cpu = daemon.process.exact_cpu().saturating_sub(cpu);
    let seconds = began.elapsed().as_secs_f64();
    Sample { requests: server.requests() - requests, seconds, cpu }
}

/// One measurement of a load generator, which prints its number of requests before this `mark`.
fn of_peer(command: &mut Command, mark: &str) -> Sample {
    let (told, cpu) = measured(command);
    let line = told.lines().find(|line| line.contains(mark)).expect("its requests");
    let words: Vec<&str> = line.split_whitespace().collect();
    let first = mark.split(' ').next().expect("a word");
    let at = words.iter().position(|word| *word == first).expect("the mark");
    let requests = words[at - 1].parse().expect("a number");
    Sample { requests, seconds: STRETCH.as_secs_f64(), cpu }
}

fn tell<const N: usize>(run: &mut Run<'_>, peer: &str, its: &Work, own: [(&str, &Work, f64); N]) {
    let table = &mut run.table;
    let has_peer = !its.micros.is_empty();
    if has_peer {
        table.tell(&format!("{peer}: CPU for a request"), its.micros.median(), "µs", Target::None);
        table.tell(&format!("{peer}: requests"), its.rate.median(), "/s", Target::None);
    }
    for (how, work, most) in own {
        let what = format!("CPU for a check, {how}");
        table.tell(&what, work.micros.median(), "µs", Target::None);
        table.tell(&format!("checks, {how}"), work.rate.median(), "/s", Target::None);
        if has_peer {
            let what = format!("CPU ÷ {peer}'s, {how}");
            table.compare(&what, &work.micros, &its.micros, Target::AtMost(most));
        }
    }
}
