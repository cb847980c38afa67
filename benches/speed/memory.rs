//! Resident bytes for each token, after the start and after an hour's worth of checks.
//!
//! The hour is made of lives of seconds: each token is asked about as often as in an hour with
//! lives of 30 minutes, one check after the other.

use super::process::pause;
use super::saturation::{ALWAYS_DUE, NOTHING_DUE};
use super::stage::{Daemon, Play, Server};
use super::table::Target;
use super::{Point, Run};
use std::time::Duration;

/// Checks of a token in an hour, with a life of 30 min and the default schedule: 3600 s by
/// 30 min times 0.67, and a tenth sooner at the most.
const CHECKS_AN_HOUR: u64 = 3;

/// So many tokens cost next to nothing: what the daemon takes then is its own, connections
/// included.
const FEW: u64 = 100;

/// What is still being freed, or written, gets this long.
const SETTLE: Duration = Duration::from_secs(2);

/// 10,000 and 100,000 tokens; the million has a part of its own.
pub(super) fn smaller(run: &mut Run<'_>) {
    run.table.part("Memory for each token, store included");
    let mut server = Server::start(run.folder, "memory", run.pinned);
    let few = Daemon::start(run.folder, &play(run, "few", FEW, &server));
    server.wait_for(FEW as f64);
    pause(SETTLE);
    run.empty = few.process.resident();
    drop(few);
    run.table.tell("the daemon itself", run.empty / 1e6, "MB", Target::None);
    for tokens in [10_000, 100_000] {
        let name = format!("m{tokens}");
        let bytes = an_hour(run, &mut server, &name, tokens, Target::None);
        run.points.push(Point { tokens, bytes, lateness_ms: None });
    }
}

/// Bytes for each token of a daemon that asks all of them once, and of another that goes on
/// from there with an hour's checks.
pub(super) fn an_hour(
    run: &mut Run<'_>,
    server: &mut Server,
    name: &str,
    tokens: u64,
    target: Target,
) -> f64 {
    let before = server.requests();
    let first = play(run, name, tokens, server);
    let daemon = Daemon::start(run.folder, &first);
    server.wait_for(before + tokens as f64);
    pause(SETTLE);
    told(run, &daemon, tokens, "after start", target);
    drop(daemon);
    let before = server.requests();
    let then = Play { schedule: ALWAYS_DUE.into(), ..first };
    let daemon = Daemon::start(run.folder, &then);
    server.wait_for(before + (tokens * CHECKS_AN_HOUR) as f64);
    pause(SETTLE);
    told(run, &daemon, tokens, "after an hour's checks", target)
}

/// A daemon that asks about each token once, as fast as it can.
pub(super) fn play<'a>(run: &Run<'_>, name: &'a str, tokens: u64, server: &Server) -> Play<'a> {
    Play {
        name,
        tokens,
        url: server.plain_url(),
        certificate: None,
        store: true,
        schedule: NOTHING_DUE.into(),
        listen: None,
        pinned: run.pinned,
    }
}

/// Tells the bytes of each token, beyond what an empty daemon takes.
fn told(run: &mut Run<'_>, daemon: &Daemon, tokens: u64, when: &str, target: Target) -> f64 {
    let bytes = (daemon.process.resident() - run.empty) / tokens as f64;
    run.table.tell(&format!("{} tokens, {when}", grouped(tokens)), bytes, "B", target);
    bytes
}

/// `1000000` as `1,000,000`.
pub(super) fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}
