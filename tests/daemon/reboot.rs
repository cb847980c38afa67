//! A reboot: nothing that is remembered of a life postpones a check, and nothing else is lost.

use rusqlite::Connection;
use tokenkeep::simulator::Simulator;

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{
    Daemon, Stage, about, get, seconds, secret, server_table, simulator, token_table, until,
};

const TOKENS: usize = 20;

fn names() -> impl Iterator<Item = String> {
    (0..TOKENS).map(|n| format!("t{n}"))
}

/// A stage on which a daemon has found all tokens alive for five minutes, and was stopped.
async fn remembered(server: &Simulator, tables: &str) -> Stage {
    let tokens: String = names().map(|name| token_table(&name, "sarus", "")).collect();
    let stage = Stage::new(&(server_table("sarus", server, "") + &tokens + tables));
    for name in names() {
        server.add_token(&stage.token(&name), seconds(300));
    }
    let daemon = stage.start();
    all_alive(&daemon).await;
    daemon.stop().await;
    stage
}

async fn all_alive(daemon: &Daemon) {
    for name in names() {
        daemon.event("token_checked", &name).await;
    }
}

/// What the state database has is of another boot from now on; the wall clock stands still.
pub(crate) fn reboot(stage: &Stage) {
    let database = Connection::open(stage.path("state/tokenkeep.db")).expect("a database");
    let changed = database.execute("UPDATE boot SET id = 'another-' || number", []);
    assert_eq!(changed, Ok(1));
}

#[tokio::test]
async fn every_token_is_checked_at_once_after_a_reboot_with_a_stopped_clock() {
    let server = simulator().await;
    let stage = remembered(&server, "").await;
    reboot(&stage);
    for name in names() {
        server.add_token(&secret(&name), seconds(20));
    }
    let asked = |name: &String| about(&server, &secret(name)).len();
    let before: Vec<_> = names().map(|name| asked(&name)).collect();
    let daemon = stage.start();
    let again = || names().zip(&before).all(|(name, before)| asked(&name) > *before);
    until("all are checked", again).await;
    let alive = |name: &String| server.remaining(&secret(name)).is_some_and(|left| !left.is_zero());
    assert_eq!(names().filter(alive).count(), TOKENS);
    daemon.stop().await;
}

#[tokio::test]
async fn tokens_are_unverified_after_a_reboot_until_a_response_confirms_them() {
    let server = simulator().await;
    let stage = remembered(&server, "").await;
    reboot(&stage);
    server.plan_fault(Plan::always(Trouble::Html { status: 502 }));
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    let counts = get(&stage, "/v1/health").await.json()["counts"].clone();
    assert_eq!((&counts["alive"], &counts["unverified"]), (&0.into(), &TOKENS.into()), "{counts}");
    let status = stage.command("status").output().await.expect("it runs");
    assert_eq!(status.status.code(), Some(1));
    server.clear_faults();
    all_alive(&daemon).await;
    daemon.stop().await;
}

#[tokio::test]
async fn new_values_and_budgets_survive_a_reboot() {
    let server = simulator().await;
    let hook = "[reauth.relogin]\ncommand = [\"$DIR/hook\"]\nmax_attempts = 1\n";
    let tokens = token_table("spent", "sarus", "reauth = \"relogin\"")
        + "[token.named]\nserver = \"sarus\"\nenv = \"NAMED\"\nreauth = \"relogin\"\n";
    let stage = Stage::new(&(server_table("sarus", &server, "") + hook + &tokens));
    for name in ["spent", "named"] {
        server.add_token(&secret(name), seconds(300));
        server.expire(&secret(name));
    }
    server.add_token(&secret("new"), seconds(300));
    stage.token("spent");
    let new = secret("new");
    let body = format!("echo >> $DIR/runs; [ $TOKENKEEP_NAME = named ] || exit 1; echo '{new}'");
    stage.script("hook", &body);
    let start = || stage.start_with(&[("NAMED", &secret("named"))]);
    let daemon = start();
    daemon.event("token_checked", "named").await;
    daemon.event("reauth_exhausted", "spent").await;
    daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 2);

    reboot(&stage);
    let daemon = start();
    daemon.event("token_checked", "named").await;
    daemon.event("token_expired", "spent").await;
    daemon.event("reauth_exhausted", "spent").await;
    daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 2, "no attempt is made twice");
}
