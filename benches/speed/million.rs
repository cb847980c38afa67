//! A million tokens: the start, cold and resumed, an idle minute, and how late checks are.
//!
//! One store goes through all of it: each scene resumes what the one before has left when it
//! was killed.

use std::time::Duration;

use serde_json::Value;

use super::memory::{an_hour, grouped, play};
use super::process::{now, pause};
use super::stage::{Daemon, Play, Server};
use super::table::Target;
use super::{Point, Run, peers};

pub(super) const MILLION: u64 = 1_000_000;
const MINUTE: Duration = Duration::from_secs(60);

/// What is said at most this long after the minute that it is of.
const SAID: Duration = Duration::from_secs(10);

/// How far a daemon has got when the minute in the middle of a lateness scene is half over.
const MIDDLE: f64 = 90.0;

/// All scenes, or those that are wanted, on one server: what is stored of a token holds for its
/// server only.
pub(super) fn all(run: &mut Run<'_>) {
    let mut server = Server::start(run.folder, "million", run.pinned);
    cold(run, &mut server);
    if run.wants("million") {
        idle(run, &mut server);
    }
    if run.wants("lateness") {
        run.table.part("Lateness: sent − due");
        scene(run, &mut server, 700.0, &[10_000, 100_000, MILLION], Target::AtMost(10.0));
        scene(run, &mut server, 5_000.0, &[MILLION], Target::None);
    }
}

/// The start, cold: until the first check, and until all tokens are there. It is killed then, and
/// one that begins as anew is measured for its memory.
fn cold(run: &mut Run<'_>, server: &mut Server) {
    run.table.part("A million tokens, cold");
    let play = play(run, "million", MILLION, server);
    super::stage::inventory(run.folder, MILLION);
    let began = now();
    let mut daemon = Daemon::start(run.folder, &Play { store: false, ..play });
    server.wait_for(1.0);
    run.table.tell("start to first check", began.elapsed().as_secs_f64(), "s", Target::None);
    daemon.wait_for("inventory_loaded");
    let loaded = began.elapsed().as_secs_f64();
    run.table.tell("start to all loaded", loaded, "s", Target::AtMost(1.0));
    daemon.process.kill();
    let bytes = an_hour(run, server, "million", MILLION, Target::AtMost(140.0));
    run.own.bytes = bytes;
    run.points.push(Point { tokens: MILLION, bytes, lateness_ms: None });
}

/// The start, resumed, after a `kill -9` in the midst of checks; then a minute with nothing due,
/// in which the peers are measured.
fn idle(run: &mut Run<'_>, server: &mut Server) {
    run.table.part("A million tokens, resumed");
    let play = play(run, "million", MILLION, server);
    let (before, began) = (server.requests(), now());
    let mut daemon = Daemon::start(run.folder, &play);
    daemon.wait_for("daemon_ready");
    let ready = began.elapsed().as_secs_f64();
    run.table.tell("`kill -9` to resumed", ready, "s", Target::AtMost(2.0));
    server.wait_for(before + 1.0);
    run.table.tell("`kill -9` to first check", began.elapsed().as_secs_f64(), "s", Target::None);
    pause(SAID);
    let (cpu, switches, watched) = (daemon.process.cpu(), daemon.process.switches(), now());
    if run.wants("peers") {
        peers::all(run);
    }
    pause((began + MINUTE).saturating_duration_since(now()));
    let asked = (server.requests() - before) * 100.0 / MILLION as f64;
    pause((watched + MINUTE).saturating_duration_since(now()));
    let seconds = watched.elapsed().as_secs_f64();
    let cpu = daemon.process.cpu().saturating_sub(cpu).as_secs_f64() * 100.0 / seconds;
    let switches = (daemon.process.switches() - switches) * 60.0 / seconds;
    run.table.part("A million tokens, resumed: the first minutes");
    run.table.tell("asked in the first minute", asked, "%", Target::AtMost(1.0));
    run.table.tell("CPU with nothing due", cpu, "%", Target::AtMost(0.1));
    run.table.tell("context switches in a minute with nothing due", switches, "", Target::None);
    if run.task_bytes > 0.0 && run.own.bytes > 0.0 {
        let ratio = run.task_bytes / run.own.bytes;
        run.table.tell(
            "memory of a task each in Rust ÷ a token's",
            ratio,
            "×",
            Target::AtLeast(6.0),
        );
    }
}

/// How late checks are with so many tokens side by side, each daemon at this rate.
fn scene(run: &mut Run<'_>, server: &mut Server, rate: f64, counts: &[u64], target: Target) {
    let names: Vec<_> = counts
        .iter()
        .map(|tokens| if *tokens == MILLION { "million".into() } else { format!("late{tokens}") })
        .collect();
    let mut daemons: Vec<_> = counts
        .iter()
        .zip(&names)
        .map(|(tokens, name)| {
            let schedule = schedule(*tokens as f64, rate);
            Daemon::start(run.folder, &Play { schedule, ..play(run, name, *tokens, server) })
        })
        .collect();
    for daemon in &mut daemons {
        daemon.wait_for("daemon_ready");
    }
    // The first minute has the start in it; the second one is measured.
    pause(MINUTE);
    let asked = server.requests();
    pause(MINUTE);
    let measured = (server.requests() - asked) / MINUTE.as_secs_f64() / counts.len() as f64;
    let what = format!("checks, {rate} wanted, mean of {} daemons", counts.len());
    run.table.tell(&what, measured, "/s", Target::None);
    pause(SAID);
    for (tokens, daemon) in counts.iter().zip(&daemons) {
        let what = format!("{} tokens at {rate}/s", grouped(*tokens));
        let summaries = daemon.events("checks_summary");
        let Some(summary) = summaries.get(1).or(summaries.last()) else {
            run.table.skip(&what, "the daemon does not tell");
            continue;
        };
        let field = |name: &str| summary.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let p99 = field("lateness_p99_ms");
        run.table.tell(&format!("{what}, p50"), field("lateness_p50_ms"), "ms", Target::None);
        run.table.tell(&format!("{what}, p99"), p99, "ms", target);
        run.table.tell(&format!("{what}, max"), field("lateness_max_ms"), "ms", Target::None);
        run.table.tell(&format!("{what}, failures"), field("failures"), "", Target::AtMost(0.0));
        if let Some(point) = run.points.iter_mut().find(|point| point.tokens == *tokens)
            && point.lateness_ms.is_none()
        {
            point.lateness_ms = Some(p99);
        }
    }
}

/// A schedule by which so many tokens, all asked at about the same time, are asked so often
/// in the second minute after. Waits are spread evenly from nothing to an interval; those who
/// have been asked again in between make up for the difference.
pub(super) fn schedule(tokens: f64, rate: f64) -> String {
    let at = |interval: f64| {
        let share = MIDDLE / interval;
        // Beyond an interval all are spread already, and wait half of it in the mean.
        if share < 1.0 { tokens / interval * share.exp() } else { tokens / interval * 2.0 }
    };
    let (mut low, mut high) = (1.0, 1e6);
    while high / low > 1.001 {
        let middle = f64::midpoint(low, high);
        if at(middle) > rate { low = middle } else { high = middle }
    }
    format!("max_interval = \"{}ms\"\njitter = 1.0\nmin_interval = \"1ms\"", (high * 1e3).round())
}
