//! A million tokens: the start (cold and restored), an hour's checks, an overload, an idle minute, and
//! the lateness of checks.

use std::time::Duration;

use serde_json::Value;

use super::memory::{EVENLY, MOST_BYTES, a_crowd, an_hour, grouped, play};
use super::process::{now, pause};
use super::stage::{Daemon, MILLION, Play, Server};
use super::table::Target;
use super::{Point, Run, peers};

const MINUTE: Duration = Duration::from_secs(60);

/// Without a request for this time, the checks that were due at the restore have ended, and so have
/// the threads that end after ten idle seconds: the switches of an ended thread are no longer counted.
const SILENCE: Duration = Duration::from_secs(12);

/// Checks a second of each daemon whose lateness is measured: each token of a million is
/// checked every 24 minutes.
const RATE: f64 = 700.0;

/// After this time the expiries are on the disk.
const WRITTEN: Duration = Duration::from_secs(2);

/// All measurements, or the selected ones.
pub(super) fn all(run: &mut Run<'_>) {
    let mut server = Server::start(run.folder, "million", run.pinned);
    let play = play(run, "million", MILLION, &server);
    if run.wants("million") {
        cold(run, &mut server, &play);
        run.table.part("A million tokens: memory for each, store included");
        let (mut daemon, bytes) = an_hour(run, &mut server, &play, Target::AtMost(MOST_BYTES));
        run.own.bytes = bytes;
        run.points.push(Point { tokens: MILLION, bytes, lateness_ms: None });
        a_crowd(run, &mut server, &mut daemon, &play);
        daemon.process.kill();
        idle(run, &mut server, &play);
    }
    if run.wants("lateness") {
        run.table.part("Lateness: sent − due");
        lateness(run);
    }
}

/// Cold start: time until the first check, and until all tokens are loaded.
fn cold(run: &mut Run<'_>, server: &mut Server, play: &Play<'_>) {
    run.table.part("A million tokens, cold");
    super::stage::inventory(run.folder, MILLION);
    let before = server.requests();
    let began = now();
    let mut daemon = Daemon::start(run.folder, &Play { store: false, ..play.clone() });
    server.wait_for(before + 1.0);
    run.table.tell("start to first check", began.elapsed().as_secs_f64(), "s", Target::None);
    daemon.wait_for("inventory_loaded");
    let loaded = began.elapsed().as_secs_f64();
    run.table.tell("start to all loaded", loaded, "s", Target::AtMost(1.0));
}

/// Start with restored state after a `kill -9`, and the checks that are due then; after these a minute
/// with nothing due, in which the peers are measured.
fn idle(run: &mut Run<'_>, server: &mut Server, play: &Play<'_>) {
    run.table.part("A million tokens, restored");
    let (before, began) = (server.requests(), now());
    let mut daemon = Daemon::start(run.folder, play);
    daemon.wait_for("daemon_ready");
    let ready = began.elapsed().as_secs_f64();
    run.table.tell("`kill -9` to restored", ready, "s", Target::AtMost(2.0));
    server.wait_for(before + 1.0);
    run.table.tell("`kill -9` to first check", began.elapsed().as_secs_f64(), "s", Target::None);
    server.wait_for_silence(SILENCE);
    let caught_up = began.elapsed().saturating_sub(SILENCE).as_secs_f64();
    let (cpu, switches, watched) = (daemon.process.cpu(), daemon.process.switches(), now());
    if run.wants("peers") {
        peers::all(run);
    }
    pause((began + MINUTE).saturating_duration_since(now()));
    let asked = (server.requests() - before) * 100.0 / MILLION as f64;
    pause((watched + MINUTE).saturating_duration_since(now()));
    let seconds = watched.elapsed().as_secs_f64();
    let cpu = daemon.process.cpu().saturating_sub(cpu).as_secs_f64() * 100.0 / seconds;
    let later = (daemon.process.switches() - switches) * 60.0 / seconds;
    run.table.part("A million tokens, restored: the first minutes");
    run.table.tell("`kill -9` to the last check that was due", caught_up, "s", Target::None);
    run.table.tell("context switches until then", switches, "", Target::None);
    run.table.tell("checked in the first minute", asked, "%", Target::AtMost(1.0));
    run.table.tell("CPU with nothing due", cpu, "%", Target::AtMost(0.1));
    run.table.tell(
        "context switches in a minute with nothing due",
        later,
        "",
        Target::AtMost(10.0),
    );
    if run.task_bytes > 0.0 && run.own.bytes > 0.0 {
        let ratio = run.task_bytes / run.own.bytes;
        let target = Target::AtLeast(6.0);
        run.table.tell("memory of a task each in Rust ÷ a token's, a million", ratio, "×", target);
    }
}

/// Lateness of checks in a whole minute, by number of tokens; each daemon checks at [`RATE`], evenly
/// spread. Each daemon has checked all its tokens once, is killed, and restores its state, so that
/// the checks of the start are not part of the measurement. The three run side by side: none of them
/// is earlier than alone, and together they take two minutes less.
fn lateness(run: &mut Run<'_>) {
    let counts = [10_000, 100_000, MILLION];
    let names = counts.map(|tokens| format!("late{tokens}"));
    let mut ready = Vec::new();
    for (tokens, name) in counts.iter().zip(&names) {
        let period = Duration::from_secs_f64(*tokens as f64 / RATE);
        let mut server = Server::start(run.folder, name, run.pinned);
        server.spread_over(Some(period));
        let play = Play { schedule: EVENLY.into(), ..play(run, name, *tokens, &server) };
        let mut crowd = Daemon::start(run.folder, &play);
        server.wait_for(*tokens as f64);
        pause(WRITTEN);
        crowd.process.kill();
        if *tokens == MILLION {
            // A life that is shorter than the restored one would make the daemon check all tokens
            // again. Fewer tokens have lives so short that most are overdue after the restart, and
            // the server spreads them again.
            server.repeat_after(period);
        }
        ready.push((server, play));
    }
    let mut daemons: Vec<_> =
        ready.iter().map(|(_, play)| Daemon::start(run.folder, play)).collect();
    for (daemon, tokens) in daemons.iter_mut().zip(&counts) {
        daemon.wait_for("checks_summary");
        let what = format!("{} tokens at {RATE}/s", grouped(*tokens));
        let Some(summary) = daemon.events("checks_summary").into_iter().next() else { continue };
        let field = |name: &str| summary.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let measured = field("checks") / MINUTE.as_secs_f64();
        run.table.tell(&format!("{what}: checks"), measured, "/s", Target::None);
        let p99 = field("lateness_p99_ms");
        run.table.tell(&format!("{what}, p50"), field("lateness_p50_ms"), "ms", Target::None);
        run.table.tell(&format!("{what}, p99"), p99, "ms", Target::AtMost(10.0));
        run.table.tell(&format!("{what}, max"), field("lateness_max_ms"), "ms", Target::None);
        run.table.tell(&format!("{what}, failures"), field("failures"), "", Target::AtMost(0.0));
        if let Some(point) = run.points.iter_mut().find(|point| point.tokens == *tokens) {
            point.lateness_ms = Some(p99);
        }
    }
}
