//! Attempts at re-auth outlive the daemon: who restarts it does not get more of them.

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;

use crate::support::{Daemon, Stage, seconds, secret, simulator, until};

/// A token that has expired, and a way to a new value with more `keys`.
async fn expired(keys: &str, hook: &str) -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        "[server.sarus]\nurl = \"{}\"\n\
         [reauth.relogin]\ncommand = [\"$DIR/hook\"]\ndelay = \"50ms\"\n{keys}\n\
         [token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\nreauth = \"relogin\"\n",
        server.url()
    ));
    let value = stage.token("quotes");
    server.add_token(&value, seconds(60));
    server.expire(&value);
    stage.script("hook", hook);
    (server, stage)
}

/// Ends a daemon without a chance to write anything down.
async fn crash(daemon: Daemon) {
    daemon.signal(Signal::KILL);
    daemon.ended().await;
}

#[tokio::test]
async fn attempt_that_a_crash_interrupts_counts() {
    let (_server, stage) = expired("max_attempts = 2", "echo >> $DIR/runs; exec sleep 5").await;
    for attempt in 1..=2 {
        let daemon = stage.start();
        let started = daemon.event("reauth_started", "quotes").await;
        assert_eq!(started.number("attempt"), attempt);
        until("the command runs", || stage.lines_in("runs") as u64 == attempt).await;
        crash(daemon).await;
    }
    let daemon = stage.start();
    let exhausted = daemon.event("reauth_exhausted", "quotes").await;
    assert_eq!(exhausted.number("attempt"), 2);
    daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 2);
}

#[tokio::test]
async fn exhausted_limit_for_all_tokens_is_restored_after_a_restart() {
    let (_server, stage) = expired("max_failures_all = 2", "echo >> $DIR/runs; exit 1").await;
    for _ in 0..3 {
        let daemon = stage.start();
        let exhausted = daemon.event("reauth_exhausted", "").await;
        assert_eq!((exhausted.text("reauth"), exhausted.number("attempt")), ("relogin", 2));
        daemon.event("token_expired", "quotes").await;
        daemon.stop().await;
    }
    assert_eq!(stage.lines_in("runs"), 2);
}

#[tokio::test]
async fn returned_attempt_stays_returned_after_a_restart() {
    let server = simulator().await;
    let (_, stage) = expired("max_attempts = 1", &format!("echo '{}'", secret("new"))).await;
    stage.configure(&format!(
        "[server.sarus]\nurl = \"{}\"\n\
         [reauth.relogin]\ncommand = [\"$DIR/hook\"]\nmax_attempts = 1\n\
         [token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\nreauth = \"relogin\"\n",
        server.url()
    ));
    server.add_token(&secret("quotes"), seconds(60));
    server.expire(&secret("quotes"));
    server.add_token(&secret("new"), seconds(4));
    let daemon = stage.start();
    daemon.event("reauth_succeeded", "quotes").await;
    daemon.more(2, "token_checked", "quotes").await;
    daemon.stop().await;
    server.expire(&secret("new"));
    stage.script("hook", "exit 1");
    let daemon = stage.start();
    let started = daemon.event("reauth_started", "quotes").await;
    assert_eq!(started.number("attempt"), 1);
    daemon.stop().await;
}
