//! Resident bytes for each token: after the start, after an hour's worth of checks, while
//! everything is overdue, and when that is over.
//!
//! The hour is made of lives of seconds: each token is asked about as often as in an hour with
//! lives of 30 minutes, evenly spread, and none of them late.

use std::time::Duration;

use super::process::pause;
use super::saturation::{ALWAYS_DUE, NOTHING_DUE};
use super::stage::{Daemon, Play, Server};
use super::table::Target;
use super::{Point, Run};

/// Checks of a token in an hour, with a life of 30 min and the default schedule: 3600 s by
/// 30 min times 0.67, and a tenth sooner at the most. The first of them is the start's.
const CHECKS_AN_HOUR: u32 = 3;

/// Checks a second by which that hour goes: two thirds of what one core can do.
const PACE: f64 = 30_000.0;

/// By this schedule the server's lives decide alone when a token is asked about.
pub(super) const EVENLY: &str = "jitter = 0.0\nmin_interval = \"1ms\"";

/// So many tokens cost next to nothing: what the daemon takes then is its own, connections
/// included.
const FEW: u64 = 100;

/// What is still being freed, or written, gets this long.
const SETTLE: Duration = Duration::from_secs(2);

/// A change of the schedule is through after this, and what it freed has been given back.
const CALM: Duration = Duration::from_secs(10);

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
        let play = play(run, &name, tokens, &server);
        let (_, bytes) = an_hour(run, &mut server, &play, Target::None);
        run.points.push(Point { tokens, bytes, lateness_ms: None });
    }
}

/// A daemon that asks all its tokens once and then goes on for an hour, and the bytes that each
/// of them takes then.
pub(super) fn an_hour(
    run: &mut Run<'_>,
    server: &mut Server,
    play: &Play<'_>,
    target: Target,
) -> (Daemon, f64) {
    let period = Duration::from_secs_f64(play.tokens as f64 / PACE);
    server.spread_over(Some(period));
    let before = server.requests();
    let daemon = Daemon::start(run.folder, &Play { schedule: EVENLY.into(), ..play.clone() });
    server.wait_for(before + play.tokens as f64);
    pause(SETTLE);
    told(run, &daemon, play.tokens, "after start", target);
    pause(period * (CHECKS_AN_HOUR - 1));
    let bytes = told(run, &daemon, play.tokens, "after an hour's checks", target);
    let checks = (server.requests() - before) / play.tokens as f64;
    run.table.tell("checks of each by then", checks, "", Target::None);
    (daemon, bytes)
}

/// A daemon that asks its tokens, all of them overdue, as fast as it can; then one of which
/// nobody wants anything.
pub(super) fn a_crowd(
    run: &mut Run<'_>,
    server: &mut Server,
    daemon: &mut Daemon,
    play: &Play<'_>,
) {
    server.spread_over(None);
    let before = server.requests();
    daemon.reload(run.folder, &Play { schedule: ALWAYS_DUE.into(), ..play.clone() });
    server.wait_for(before + play.tokens as f64 * f64::from(CHECKS_AN_HOUR - 1));
    told(run, daemon, play.tokens, "all overdue, two checks later", Target::None);
    daemon.reload(run.folder, &Play { schedule: NOTHING_DUE.into(), ..play.clone() });
    pause(CALM);
    told(run, daemon, play.tokens, "when the crowd has passed", Target::AtMost(140.0));
}

/// A daemon that asks about each token once, as fast as it can.
pub(super) fn play<'a>(run: &Run<'_>, name: &'a str, tokens: u64, server: &Server) -> Play<'a> {
    Play {
        name,
        tokens,
        url: server.plain_url(),
        servers: 1,
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
