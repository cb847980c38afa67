//! Hours in which nothing logs in.

use jiff::tz::TimeZone;
use rustix::process::Signal;
use tokenkeep::clock;
use tokenkeep::simulator::Simulator;

use crate::support::{Stage, seconds, secret, simulator};

/// From an hour and a half before now to an hour and a half after, or from then on.
fn window(covers_now: bool) -> String {
    let at = |minutes: i64| {
        let time = clock::wall_clock() + jiff::SignedDuration::from_mins(minutes);
        let time = time.to_zoned(TimeZone::UTC);
        format!("{:02}:{:02}", time.hour(), time.minute())
    };
    let (start, end) = if covers_now { (-90, 90) } else { (90, 180) };
    format!("{}-{} UTC", at(start), at(end))
}

fn configuration(server: &Simulator, quiet: &str) -> String {
    format!(
        "[server.sarus]\nurl = \"{}\"\n\
         [reauth.relogin]\ncommand = [\"$DIR/hook\"]\ndelay = \"50ms\"\nquiet = [{quiet}]\n\
         [token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\nreauth = \"relogin\"\n\
         [token.orders]\nserver = \"sarus\"\nfile = \"$DIR/orders.token\"\nreauth = \"relogin\"\n",
        server.url()
    )
}

/// A token that has expired and one that is missing.
async fn staged(quiet: &str) -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, quiet));
    let value = stage.token("quotes");
    server.add_token(&value, seconds(60));
    server.expire(&value);
    stage.script("hook", "echo >> $DIR/runs\necho \"S3CR3T/new-$TOKENKEEP_NAME\"");
    for name in ["quotes", "orders"] {
        server.add_token(&format!("S3CR3T/new-{name}"), seconds(60));
    }
    (server, stage)
}

#[tokio::test]
async fn maintenance_window_prevents_logins() {
    let (_server, stage) = staged(&format!("\"{}\"", window(true))).await;
    let daemon = stage.start();
    daemon.event("token_expired", "quotes").await;
    daemon.event("token_missing", "orders").await;
    // Many times what an attempt takes to start.
    tokio::time::sleep(seconds(1)).await;
    let ended = daemon.stop().await;
    assert_eq!((stage.lines_in("runs"), ended.count("reauth_started", "")), (0, 0));
}

#[tokio::test]
async fn logins_run_outside_the_maintenance_window() {
    let (_server, stage) = staged(&format!("\"{}\"", window(false))).await;
    let daemon = stage.start();
    daemon.nth(2, "reauth_succeeded", "").await;
    daemon.stop().await;
}

#[tokio::test]
async fn operators_value_is_used_during_a_maintenance_window() {
    let (server, stage) = staged(&format!("\"{}\"", window(true))).await;
    let daemon = stage.start();
    daemon.event("token_expired", "quotes").await;
    server.add_token(&secret("brought"), seconds(60));
    stage.replace("quotes.token", &secret("brought"));
    daemon.event("token_recovered", "quotes").await;
    daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 0);
}

#[tokio::test]
async fn reload_that_removes_a_maintenance_window_starts_the_logins() {
    let (server, stage) = staged(&format!("\"{}\"", window(true))).await;
    let daemon = stage.start();
    daemon.event("token_expired", "quotes").await;
    stage.configure(&configuration(&server, ""));
    daemon.signal(Signal::HUP);
    daemon.nth(2, "reauth_succeeded", "").await;
    daemon.stop().await;
}

#[tokio::test]
async fn maintenance_window_of_a_new_reauth_method_applies_at_once() {
    let (server, stage) = staged(&format!("\"{}\"", window(true))).await;
    let with = configuration(&server, &format!("\"{}\"", window(true)));
    stage.configure(&with.replace("reauth = \"relogin\"\n", ""));
    let daemon = stage.start();
    daemon.event("token_expired", "quotes").await;
    stage.configure(&with);
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    tokio::time::sleep(seconds(1)).await;
    daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 0);
}
