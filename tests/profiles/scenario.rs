//! What every server goes through: its tokens stay alive while the server restarts and the daemon is
//! killed.

use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::clock::Stopwatch;

use crate::observe::{DEATHS, is_alive, takes, token};
use crate::servers::Server;
use crate::support::{Line, Stage, millis, seconds};

/// The token of every scenario. Applications read it from `$DIR/app.token`.
pub(crate) const TOKEN: &str = "app";

const RESTART_AT: Duration = seconds(25);
const KILL_AT: Duration = seconds(50);

/// How often an application uses the value.
const USE: Duration = millis(250);

/// Runs the daemon for `length` beside an application that uses the value in the token's file. On the
/// way the server restarts, and the daemon is killed. Fails if the server ever refuses a value, or
/// the daemon reports a death. Returns the daemon's lines.
pub(crate) async fn survives(
    server: &mut impl Server,
    stage: &Stage,
    length: Duration,
) -> Vec<Line> {
    let mut daemon = stage.start();
    takes(&daemon, seconds(20), "the token is alive", || is_alive(&daemon, TOKEN)).await;
    let (began, mut lines, mut restarted) = (Stopwatch::start(), Vec::new(), false);
    while began.elapsed() < length {
        let value = stage.read("app.token");
        if server.is_alive(value.trim()).await == Some(false) {
            lines.extend(daemon.lines());
            panic!("the value died after {:?}\n{}", began.elapsed(), story(&lines));
        }
        if !restarted && began.elapsed() > RESTART_AT {
            server.restart().await;
            restarted = true;
        }
        if lines.is_empty() && began.elapsed() > KILL_AT {
            daemon.signal(Signal::KILL);
            lines = daemon.ended().await.lines;
            daemon = stage.start();
        }
        tokio::time::sleep(USE).await;
    }
    assert!(is_alive(&daemon, TOKEN), "not alive at the end\n{}", story(&daemon.lines()));
    lines.extend(daemon.stop().await.lines);
    let dead = lines.iter().any(|line| DEATHS.contains(&line.event()));
    assert!(!dead, "a death is reported\n{}", story(&lines));
    lines
}

/// How many lines have this event of the scenario's token, or of none.
pub(crate) fn count(lines: &[Line], event: &str) -> usize {
    let ours = |line: &&Line| line.is(event, "") && ["", TOKEN].contains(&token(line));
    lines.iter().filter(ours).count()
}

/// Fails unless the daemon has learned that only the renewing request renews.
pub(crate) fn assert_learned_renew(lines: &[Line]) {
    let learned: Vec<_> = lines.iter().filter(|line| line.is("renewal_learned", "")).collect();
    assert!(!learned.is_empty(), "nothing learned\n{}", story(lines));
    assert!(learned.iter().all(|line| line.text("renews_by") == "renew"), "{learned:#?}");
}

/// Fails if one of these texts is in a line.
pub(crate) fn assert_secret<'a>(lines: &[Line], secrets: impl IntoIterator<Item = &'a str>) {
    for secret in secrets {
        assert!(secret.len() > 4, "no secret: {secret:?}");
        let shown = lines.iter().find(|line| line.0.to_string().contains(secret));
        assert!(shown.is_none(), "a secret is logged: {shown:?}");
    }
}

/// The lines, for the message of a failure.
pub(crate) fn story(lines: &[Line]) -> String {
    let texts: Vec<_> = lines.iter().map(|line| line.0.to_string()).collect();
    texts.join("\n")
}
