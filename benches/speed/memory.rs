//! Resident bytes for each token: after the start, after an hour's checks, while all tokens are
//! overdue, and after that overload.
//!
//! The hour is simulated with lives of seconds: each token is checked as often as in an hour with
//! lives of 30 minutes, evenly spread, and none of the checks is late.

use std::time::Duration;

use super::process::{now, pause};
use super::saturation::{ALWAYS_DUE, NOTHING_DUE};
use super::stage::{Daemon, Play, Server};
use super::table::Target;
use super::{Point, Run};

/// Checks of a token in an hour, with a life of 30 min and the default schedule: 3600 s by
/// 30 min times 0.67, and a tenth sooner at the most. The first of them is the start's.
const CHECKS_AN_HOUR: u32 = 3;

/// Maximum checks a second in that hour: two thirds of what one core can do. A slower machine makes fewer
/// checks of each token than intended, which the output shows.
const PACE: f64 = 33_000.0;

/// Minimum time between two checks of a token in that hour.
const LEAST: Duration = Duration::from_secs(5);

/// With this schedule only the reported lives decide when a token is checked.
pub(super) const EVENLY: &str = "jitter = 0.0\nmin_interval = \"1ms\"";

/// So few tokens that their memory is negligible: the rest is the daemon itself, with its
/// connections.
const FEW: u64 = 100;

/// Wait for pending writes and for memory that is still being freed.
const SETTLE: Duration = Duration::from_secs(2);

/// Within this time after an overload the memory must have been returned.
const CALM: Duration = Duration::from_secs(60);

/// Time between two readings of the memory until then.
const LOOK: Duration = Duration::from_secs(5);

/// The maximum for a token of a million.
pub(super) const MOST_BYTES: f64 = 140.0;

/// 10,000 and 100,000 tokens; the million is measured separately.
pub(super) fn smaller(run: &mut Run<'_>) {
    run.table.part("Memory for each token, store included");
    let mut server = Server::start(run.folder, "memory", run.pinned);
    let few = Daemon::start(run.folder, &play(run, "few", FEW, &server));
    server.wait_for(FEW as f64);
    pause(SETTLE);
    run.empty = few.process.own_memory();
    run.table.tell("the daemon itself", few.process.resident() / 1e6, "MB", Target::None);
    drop(few);
    for tokens in [10_000, 100_000] {
        let name = format!("m{tokens}");
        let play = play(run, &name, tokens, &server);
        let (_, bytes) = an_hour(run, &mut server, &play, Target::None);
        run.points.push(Point { tokens, bytes, lateness_ms: None });
    }
}

/// A daemon that checks all its tokens once and then for an hour, and the bytes for each token after
/// that.
pub(super) fn an_hour(
    run: &mut Run<'_>,
    server: &mut Server,
    play: &Play<'_>,
    target: Target,
) -> (Daemon, f64) {
    let period = Duration::from_secs_f64(play.tokens as f64 / PACE).max(LEAST);
    server.spread_over(Some(period));
    let before = server.requests();
    let daemon = Daemon::start(run.folder, &Play { schedule: EVENLY.into(), ..play.clone() });
    server.wait_for(before + play.tokens as f64);
    pause(SETTLE);
    told(run, &daemon, play.tokens, "after start", target);
    pause(period * (CHECKS_AN_HOUR - 1));
    let bytes = told(run, &daemon, play.tokens, "after an hour's checks", target);
    let checks = (server.requests() - before) / play.tokens as f64;
    let wanted = Target::AtLeast(f64::from(CHECKS_AN_HOUR));
    run.table.tell("checks of each by then", checks, "", wanted);
    (daemon, bytes)
}

/// A daemon that checks its tokens, all of them overdue, as fast as it can; then the same daemon with
/// nothing due.
pub(super) fn a_crowd(
    run: &mut Run<'_>,
    server: &mut Server,
    daemon: &mut Daemon,
    play: &Play<'_>,
) {
    server.spread_over(None);
    let before = server.requests();
    daemon.reload(run.folder, &Play { schedule: ALWAYS_DUE.into(), ..play.clone() });
    server.wait_for(before + play.tokens as f64);
    told(run, daemon, play.tokens, "all overdue, a check later", Target::None);
    daemon.reload(run.folder, &Play { schedule: NOTHING_DUE.into(), ..play.clone() });
    // What was overdue is checked once more before the new schedule applies to it.
    let mut seen = -1.0;
    while server.requests() > seen {
        seen = server.requests();
        pause(SETTLE);
    }
    let began = now();
    while began.elapsed() < CALM && bytes(run, daemon, play.tokens) > MOST_BYTES {
        pause(LOOK);
    }
    let when = format!("{:.0} s after the overload", began.elapsed().as_secs_f64());
    told(run, daemon, play.tokens, &when, Target::AtMost(MOST_BYTES));
}

/// A daemon that checks each token once, as fast as it can.
pub(super) fn play<'a>(run: &Run<'_>, name: &'a str, tokens: u64, server: &Server) -> Play<'a> {
    Play {
        name,
        tokens,
        url: server.plain_url(),
        profile: false,
        certificate: None,
        store: true,
        schedule: NOTHING_DUE.into(),
        listen: None,
        cluster: String::new(),
        pinned: run.pinned,
    }
}

/// The bytes for each token, without those of an empty daemon.
fn bytes(run: &Run<'_>, daemon: &Daemon, tokens: u64) -> f64 {
    (daemon.process.own_memory() - run.empty) / tokens as f64
}

fn told(run: &mut Run<'_>, daemon: &Daemon, tokens: u64, when: &str, target: Target) -> f64 {
    let bytes = bytes(run, daemon, tokens);
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
