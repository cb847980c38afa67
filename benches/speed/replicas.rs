//! A million tokens over three replicas on one etcd, compared with one daemon alone.
//!
//! All replicas run on the client's core, etcd on the server's. The times therefore include that
//! three daemons wait for one core; three machines would be faster.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::Run;
use super::memory::{EVENLY, play};
use super::process::{Core, Process, command, is_installed, now, pause};
use super::saturation::NOTHING_DUE;
use super::stage::{Daemon, MILLION, Play, Server, quoted};
use super::table::Target;
use super::watching::{free_port, get};

/// Names of the replicas.
const NAMES: [&str; 3] = ["replica-a", "replica-b", "replica-c"];

/// The shortest one that the configuration accepts, so that the time of a take-over shows the work.
const FAILOVER: Duration = Duration::from_secs(3);

/// Promise of docs/replicas.md: a take-over begins within this time after `failover`.
const TAKE_OVER: Duration = Duration::from_secs(3);

/// 25,000 checks a second of all tokens: half of what one core can do.
const PERIOD: Duration = Duration::from_secs(40);

/// The measured part of a period.
const STRETCH: Duration = Duration::from_secs(20);

/// Time in which every token is checked, and gets a life of a day.
const LULL: Duration = Duration::from_secs(60);

/// Wait for pending writes and for memory that is still being freed.
const SETTLE: Duration = Duration::from_secs(5);

/// Limit for waiting for the replicas.
const PATIENCE: Duration = Duration::from_secs(120);

/// Polling interval: each poll is a request to the daemon.
const LOOK: Duration = Duration::from_millis(20);

/// All measurements; needs `etcd`.
pub(super) fn all(run: &mut Run<'_>) {
    run.table.part("A million tokens over three replicas");
    let Some(etcd) = etcd() else {
        run.table.skip("replicas", "etcd is not installed");
        return;
    };
    let mut server = Server::start(run.folder, "replicas", run.pinned);
    server.spread_over(Some(PERIOD));
    let alone = Play { schedule: EVENLY.into(), ..play(run, "alone", MILLION, &server) };
    let empty = own_memory_without_tokens(run, &mut server);
    let one = one_daemon(run, &mut server, &alone, empty);

    let endpoint = free_port();
    let _etcd = start_etcd(&etcd, run, endpoint);
    let key = run.folder.join("cluster.key");
    fs::write(&key, "gz6FFpx/fR7Jpk5gB0+2l+Pe2YsT5hVfb6VPzmI+dzQ=").expect("room");
    let plays = NAMES.map(|name| Play {
        name,
        cluster: format!(
            "[cluster]\netcd = [\"http://{endpoint}\"]\nname = \"{name}\"\n\
             key = {{ file = {} }}\nfailover = \"{}s\"\n",
            quoted(&key),
            FAILOVER.as_secs()
        ),
        ..alone.clone()
    });

    let began = now();
    let mut daemons = plays.clone().map(|play| Daemon::start(run.folder, &play));
    for daemon in &mut daemons {
        daemon.wait_for("inventory_loaded");
    }
    let loaded = began.elapsed().as_secs_f64();
    run.table.tell("three replicas: start to all loaded", loaded, "s", Target::None);
    wait_until_divided(&daemons);
    let divided = began.elapsed().as_secs_f64();
    run.table.tell("three replicas: start to tokens divided", divided, "s", Target::None);

    // Every replica checks its share once, and a share that it had for a moment only.
    pause(PERIOD);
    let three = micros_of_a_check(&mut server, &daemons);
    run.table.tell("three replicas: CPU for a check", three, "µs", Target::None);
    run.table.tell("CPU for a check, three replicas ÷ one", three / one, "×", Target::None);
    for (name, daemon) in NAMES.iter().zip(&daemons) {
        let bytes = (daemon.process.own_memory() - empty) / MILLION as f64;
        let what = format!("{name}: memory for each of a million tokens");
        run.table.tell(&what, bytes, "B", Target::AtMost(140.0));
        run.table.tell(&format!("{name}: tokens checked"), asked(daemon) as f64, "", Target::None);
    }
    nothing_due(run, &mut server, &mut daemons, &plays);
    take_over(run, &mut server, daemons, &plays);
}

fn own_memory_without_tokens(run: &mut Run<'_>, server: &mut Server) -> f64 {
    if run.empty > 0.0 {
        return run.empty;
    }
    let before = server.requests();
    let few = Daemon::start(run.folder, &play(run, "few", 100, server));
    server.wait_for(before + 100.0);
    pause(SETTLE);
    few.process.own_memory()
}

/// The daemon alone: start, memory, and the CPU for a check in microseconds.
fn one_daemon(run: &mut Run<'_>, server: &mut Server, play: &Play<'_>, empty: f64) -> f64 {
    let (before, began) = (server.requests(), now());
    let mut daemon = Daemon::start(run.folder, play);
    daemon.wait_for("inventory_loaded");
    let loaded = began.elapsed().as_secs_f64();
    run.table.tell("one daemon: start to all loaded", loaded, "s", Target::None);
    server.wait_for(before + play.tokens as f64);
    let micros = micros_of_a_check(server, std::slice::from_ref(&daemon));
    run.table.tell("one daemon: CPU for a check", micros, "µs", Target::None);
    let bytes = (daemon.process.own_memory() - empty) / play.tokens as f64;
    run.table.tell("one daemon: memory for each token", bytes, "B", Target::None);
    micros
}

/// CPU of all daemons for a check, evenly spread checks, in microseconds.
fn micros_of_a_check(server: &mut Server, daemons: &[Daemon]) -> f64 {
    let cpu = || daemons.iter().map(|daemon| daemon.process.cpu()).sum::<Duration>();
    let (requests, spent) = (server.requests(), cpu());
    pause(STRETCH);
    let spent = cpu().saturating_sub(spent).as_secs_f64();
    spent * 1e6 / (server.requests() - requests)
}

/// CPU and context switches of each replica while only the replicas watch each other.
fn nothing_due(run: &mut Run<'_>, server: &mut Server, daemons: &mut [Daemon], plays: &[Play<'_>]) {
    server.spread_over(None);
    for (daemon, play) in daemons.iter_mut().zip(plays) {
        daemon.reload(run.folder, &Play { schedule: NOTHING_DUE.into(), ..play.clone() });
    }
    pause(LULL);
    let before = daemons.iter().map(|daemon| (daemon.process.cpu(), daemon.process.switches()));
    let before: Vec<_> = before.collect();
    let requests = server.requests();
    pause(STRETCH);
    let seconds = STRETCH.as_secs_f64();
    for ((name, daemon), (cpu, switches)) in NAMES.iter().zip(daemons).zip(before) {
        let cpu = daemon.process.cpu().saturating_sub(cpu).as_secs_f64() * 100.0 / seconds;
        let switches = (daemon.process.switches() - switches) * 60.0 / seconds;
        run.table.tell(&format!("{name}: CPU with nothing due"), cpu, "%", Target::AtMost(0.1));
        let what = format!("{name}: context switches in a minute with nothing due");
        run.table.tell(&what, switches, "", Target::None);
    }
    let checks = (server.requests() - requests) / seconds;
    run.table.tell("checks with nothing due", checks, "/s", Target::AtMost(1.0));
}

/// `kill -9` of one replica while nothing is due: only its tokens are checked after that.
fn take_over(run: &mut Run<'_>, server: &mut Server, daemons: [Daemon; 3], plays: &[Play<'_>; 3]) {
    let [mut dead, first, second] = daemons;
    let (orphans, before) = (asked(&dead) as f64, server.requests());
    let began = now();
    dead.process.kill();
    let survivors = [first, second];
    wait_until_divided(&survivors);
    let divided = began.elapsed().as_secs_f64();
    let most = (FAILOVER + TAKE_OVER).as_secs_f64();
    run.table.tell("`kill -9` to all tokens taken", divided, "s", Target::AtMost(most));
    server.wait_for(before + orphans);
    let checked = began.elapsed().as_secs_f64();
    run.table.tell("`kill -9` to all of them checked", checked, "s", Target::None);
    run.table.tell("tokens of the killed replica", orphans, "", Target::None);
    pause(SETTLE);
    let more = server.requests() - before - orphans;
    run.table.tell("checks beyond one of each", more, "", Target::None);

    let began = now();
    let again = Daemon::start(run.folder, &plays[0]);
    let [first, second] = survivors;
    wait_until_divided(&[again, first, second]);
    let divided = began.elapsed().as_secs_f64();
    run.table.tell("killed replica: start to tokens divided again", divided, "s", Target::None);
}

/// Waits until every token is checked by exactly one of these replicas, and each has a part.
fn wait_until_divided(daemons: &[Daemon]) {
    let began = now();
    loop {
        let shares: Vec<_> = daemons.iter().map(asked).collect();
        if shares.iter().all(|share| *share > 0) && shares.iter().sum::<u64>() == MILLION {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "divided within {PATIENCE:?}: {shares:?}");
        pause(LOOK);
    }
}

/// Number of tokens that this replica checks; 0 while it does not answer.
fn asked(daemon: &Daemon) -> u64 {
    let Ok(stream) = UnixStream::connect(daemon.socket()) else { return 0 };
    let response = get(stream, "/v1/cluster");
    let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let cluster: Value = serde_json::from_str(body).unwrap_or_default();
    cluster["asked"].as_u64().unwrap_or_default()
}

/// The program: what `benches/run` has installed, or the system's.
fn etcd() -> Option<PathBuf> {
    let installed = std::env::var_os("TOKENKEEP_SERVERS").map(PathBuf::from);
    let installed = installed.map(|folder| folder.join("etcd/etcd")).filter(|path| path.exists());
    installed.or_else(|| is_installed("etcd").then(|| "etcd".into()))
}

/// A single node, with its data in the run's folder; returns when it is ready.
fn start_etcd(program: &Path, run: &Run<'_>, endpoint: SocketAddr) -> Process {
    let (client, peer) = (format!("http://{endpoint}"), format!("http://{}", free_port()));
    let child = command(program, Core::Server, run.pinned)
        .arg("--data-dir")
        .arg(run.folder.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .args(["--log-level", "error", "--log-outputs", "stderr"])
        .stderr(Stdio::null())
        .spawn();
    let (process, began) = (Process(child.expect("started")), now());
    let is_ready = || {
        let stream = TcpStream::connect(endpoint);
        stream.is_ok_and(|stream| get(stream, "/health").contains(r#""health":"true""#))
    };
    while !is_ready() {
        assert!(began.elapsed() < PATIENCE, "etcd is ready within {PATIENCE:?}");
        pause(LOOK);
    }
    process
}
