//! A disk that does not respond delays only what is on it: at the start and at a reload.

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;

use crate::support::{Hung, Stage, seconds, secret, server_table, simulator, token_table};

const IN_FOLDER: &str = "[token.first]\nserver = \"sarus\"\nfile = \"$DIR/c/first.token\"\n";

/// A server and a stage with the token `second`, and with `tables`; `c` contains the value of
/// `first`. `second` lives for `life` seconds without a check.
async fn staged(tables: &str, life: u64) -> (Simulator, Stage, String) {
    let server = simulator().await;
    server.add_token(&secret("first"), seconds(60));
    server.add_token(&secret("second"), seconds(life));
    let sarus = server_table("sarus", &server, "");
    let other = tables.contains("[server.other]").then(|| server_table("other", &server, ""));
    let tables = tables.replace("[server.other]\n", &other.unwrap_or_default());
    let all = sarus + &tables + &token_table("second", "sarus", "");
    let stage = Stage::new(&all);
    stage.token("second");
    stage.write("c/first.token", &secret("first"));
    (server, stage, all)
}

#[tokio::test]
async fn start_continues_without_a_source_that_hangs_and_reads_it_once_it_responds() {
    let (_server, stage, _) = staged(IN_FOLDER, 60).await;
    let Some(hung) = Hung::over(&stage.path("c")) else {
        return eprintln!("skipped: no disk that hangs can be made here");
    };
    let daemon = stage.start();
    let missing = daemon.event("token_missing", "first").await;
    assert!(missing.text("error").contains("c/first.token: the disk did not"), "{missing:?}");
    daemon.event("token_checked", "second").await;
    drop(hung);
    daemon.event("token_checked", "first").await;
    daemon.stop().await;
}

#[tokio::test]
async fn start_continues_without_a_ca_file_that_hangs() {
    let (_server, stage, _) = staged("[server.other]\nca_file = \"$DIR/c/ca.pem\"\n", 60).await;
    let Some(_hung) = Hung::over(&stage.path("c")) else {
        return eprintln!("skipped: no disk that hangs can be made here");
    };
    let daemon = stage.start();
    daemon.event("token_checked", "second").await;
    let unusable = daemon.event("server_unavailable", "").await;
    assert!(unusable.text("path").ends_with("c/ca.pem"), "{unusable:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn start_continues_without_an_inventory_that_hangs_and_reads_it_once_it_responds() {
    let (server, stage, _) =
        staged("[inventory.many]\nserver = \"sarus\"\nfile = \"$DIR/c/many\"\n", 60).await;
    server.add_token(&secret("third"), seconds(60));
    let line = |name| format!("{{\"name\": \"{name}\", \"token\": \"{}\"}}\n", secret(name));
    stage.write("c/many", &line("third"));
    let Some(hung) = Hung::over(&stage.path("c")) else {
        return eprintln!("skipped: no disk that hangs can be made here");
    };
    let daemon = stage.start();
    daemon.event("token_checked", "second").await;
    let unread = daemon.event("config_warning", "").await;
    assert!(unread.text("error").contains("c/many: the disk did not respond"), "{unread:?}");
    drop(hung);
    daemon.event("token_checked", "third").await;
    // It is watched from then on.
    server.add_token(&secret("fourth"), seconds(60));
    stage.write("c/many", &[line("third"), line("fourth")].concat());
    daemon.event("token_checked", "fourth").await;
    daemon.stop().await;
}

#[tokio::test]
async fn source_that_hangs_when_a_reload_adds_it_stops_no_check_and_is_watched_later() {
    let (server, stage, tables) = staged("", 4).await;
    let daemon = stage.start();
    daemon.event("token_checked", "second").await;
    let Some(hung) = Hung::over(&stage.path("c")) else {
        return eprintln!("skipped: no disk that hangs can be made here");
    };
    stage.configure(&(tables + IN_FOLDER));
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.more(2, "token_checked", "second").await;
    daemon.event("token_missing", "first").await;
    drop(hung);
    daemon.event("token_checked", "first").await;
    server.add_token(&secret("new"), seconds(60));
    stage.write("c/first.token", &secret("new"));
    daemon.event("token_replaced", "first").await;
    daemon.stop().await;
}
