//! What a scenario observes: deaths, recoveries and how long each took.

use std::time::Duration;

use tokenkeep::clock::Stopwatch;

use crate::support::{Daemon, Line, Stage, millis};

/// The events after which a token is not alive.
pub(crate) const DEATHS: &[&str] =
    &["token_expired", "token_rejected", "token_missing", "token_unverified"];

/// How often a condition is evaluated while it is waited for.
const POLL: Duration = millis(100);

/// Waits until `condition` is true, and returns how long that took. Panics with the daemon's log
/// if it takes longer than `within`.
pub(crate) async fn takes(
    daemon: &Daemon,
    within: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Duration {
    let began = Stopwatch::start();
    while !condition() {
        let elapsed = began.elapsed();
        assert!(elapsed < within, "not within {within:?}: {what}\n{}", story(daemon));
        tokio::time::sleep(POLL).await;
    }
    began.elapsed()
}

/// Waits until `condition` is true, for `within` at most: what did not happen by then is left to
/// the assertions that follow, which name all of it.
pub(crate) async fn settled(within: Duration, mut condition: impl FnMut() -> bool) {
    let began = Stopwatch::start();
    while !condition() && began.elapsed() < within {
        tokio::time::sleep(POLL).await;
    }
}

/// Has the daemon check a token, and returns the command's exit status. The command is repeated
/// while the control socket is not there yet.
pub(crate) async fn check(daemon: &Daemon, stage: &Stage, arguments: &[&str]) -> Option<i32> {
    /// No daemon answers.
    const UNAVAILABLE: Option<i32> = Some(69);
    let began = Stopwatch::start();
    loop {
        let output = stage.command("check").args(arguments).output().await.expect("it runs");
        if output.status.code() != UNAVAILABLE {
            return output.status.code();
        }
        let within = began.elapsed() < Duration::from_secs(20);
        assert!(within, "check {arguments:?}: {output:?}\n{}", story(daemon));
        tokio::time::sleep(POLL).await;
    }
}

/// The deaths so far of the tokens that `concerned` accepts.
pub(crate) fn deaths(daemon: &Daemon, concerned: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = daemon.lines().into_iter();
    let dead = lines.filter(|line| DEATHS.contains(&line.event()) && concerned(token(line)));
    dead.map(|line| format!("{}: {}", token(&line), line.event())).collect()
}

/// Fails if a token died that `concerned` accepts.
pub(crate) fn assert_no_death(daemon: &Daemon, concerned: impl Fn(&str) -> bool) {
    let dead = deaths(daemon, concerned);
    assert!(dead.is_empty(), "died although they could have lived: {dead:?}\n{}", story(daemon));
}

/// The token that a line is about, or nothing.
pub(crate) fn token(line: &Line) -> &str {
    line.0["token"].as_str().unwrap_or_default()
}

/// Whether the newest conclusion about this token is that it is alive.
pub(crate) fn is_alive(daemon: &Daemon, name: &str) -> bool {
    let lines = daemon.lines();
    let last = lines.iter().rev().find_map(|line| match line.event() {
        _ if token(line) != name => None,
        "token_checked" | "token_recovered" | "reauth_succeeded" => Some(true),
        event if DEATHS.contains(&event) => Some(false),
        _ => None,
    });
    last == Some(true)
}

/// The log without routine lines, for the message of a failure. The end of it if it is long.
pub(crate) fn story(daemon: &Daemon) -> String {
    const AT_MOST: usize = 60;
    let lines = daemon.lines();
    let told: Vec<_> = lines.iter().filter(|line| line.event() != "token_checked").collect();
    let left_out = told.len().saturating_sub(AT_MOST);
    let shown = told[left_out..].iter().map(|line| format!("  {}\n", line.0));
    format!("({left_out} lines left out)\n{}", shown.collect::<String>())
}

/// Seconds with one decimal.
pub(crate) fn secs(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
