//! SIGHUP: the configuration is read again, and put into force whole or not at all.

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;

use crate::support::{self, Hung, Stage, about, seconds, secret, served, simulator};

fn server_table(server: &Simulator) -> String {
    support::server_table("sarus", server, "")
}

fn token_table(name: &str, keys: &str) -> String {
    support::token_table(name, "sarus", keys)
}

/// A server and a stage with these tokens, all of them alive for `life` seconds.
async fn staged(names: &[&str], life: u64) -> (Simulator, Stage) {
    let server = simulator().await;
    let tables: String = names.iter().map(|name| token_table(name, "")).collect();
    let stage = Stage::new(&(server_table(&server) + &tables));
    for name in names {
        server.add_token(&stage.token(name), seconds(life));
    }
    (server, stage)
}

#[tokio::test]
async fn config_reloaded_names_added_removed_and_changed_tokens() {
    let (server, stage) = staged(&["kept", "gone", "tuned"], 60).await;
    server.add_token(&stage.token("fresh"), seconds(60));
    let daemon = stage.start();
    daemon.nth(3, "token_checked", "").await;
    stage.configure(
        &[
            server_table(&server),
            token_table("kept", ""),
            token_table("fresh", ""),
            token_table("tuned", "schedule = { check_after = 0.01, min_interval = \"10ms\" }"),
        ]
        .concat(),
    );
    daemon.signal(Signal::HUP);
    let line = daemon.event("config_reloaded", "").await;
    assert_eq!(
        ["added", "removed", "changed"].map(|key| line.text(key)),
        ["fresh", "gone", "tuned"]
    );
    assert!(!line.has("needs_restart"));
    daemon.event("token_checked", "fresh").await;
    daemon.nth(3, "token_checked", "tuned").await;
    daemon.stop().await;
    assert_eq!(about(&server, &secret("gone")).len(), 1, "it is asked about no more");
}

#[tokio::test]
async fn reload_does_not_move_the_check_of_an_unchanged_token() {
    let (server, stage) = staged(&["kept"], 6).await;
    let daemon = stage.start();
    let planned = daemon.event("token_checked", "kept").await.number("next_check_ms");
    tokio::time::sleep(seconds(1)).await;
    server.add_token(&stage.token("fresh"), seconds(60));
    stage.configure(
        &[server_table(&server), token_table("kept", ""), token_table("fresh", "")].concat(),
    );
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.nth(2, "token_checked", "kept").await;
    daemon.stop().await;
    let asked: Vec<_> = about(&server, &secret("kept")).iter().map(|request| request.at).collect();
    let gap = u64::try_from(asked[1].saturating_sub(asked[0]).as_millis()).expect("few");
    assert!((planned - 100..planned + 1_000).contains(&gap), "{planned} planned, {gap} waited");
}

#[tokio::test]
async fn invalid_configuration_is_rejected_and_the_previous_one_stays() {
    let (server, stage) = staged(&["kept"], 2).await;
    server.add_token(&stage.token("fresh"), seconds(60));
    let daemon = stage.start();
    daemon.event("token_checked", "kept").await;
    stage.configure(
        &[
            server_table(&server),
            token_table("fresh", "jitter = 0.2"),
            token_table("b", "nonsense = 3"),
        ]
        .concat(),
    );
    daemon.signal(Signal::HUP);
    let line = daemon.event("config_rejected", "").await;
    assert_eq!(line.text("level"), "error");
    for wanted in ["tokenkeep.toml:8:1", "tokenkeep.toml:12:1", "nonsense"] {
        assert!(line.text("error").contains(wanted), "{wanted}: {}", line.text("error"));
    }
    daemon.more(2, "token_checked", "kept").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_reloaded", ""), 0);
    assert!(about(&server, &secret("fresh")).is_empty(), "not even the good part of it holds");
}

#[tokio::test]
async fn truncated_configuration_removes_no_token() {
    let (_server, stage) = staged(&["kept"], 2).await;
    let daemon = stage.start();
    daemon.event("token_checked", "kept").await;
    stage.configure("[log]\n");
    daemon.signal(Signal::HUP);
    let error = daemon.event("config_rejected", "").await;
    for wanted in ["tokenkeep.toml: contains no server and no token", "stop the service"] {
        assert!(error.text("error").contains(wanted), "{}", error.text("error"));
    }
    daemon.more(2, "token_checked", "kept").await;
    daemon.stop().await;
}

#[tokio::test]
async fn the_last_token_may_be_removed_while_its_server_stays() {
    let (server, stage) = staged(&["kept"], 2).await;
    let daemon = stage.start();
    daemon.event("token_checked", "kept").await;
    stage.configure(&server_table(&server));
    daemon.signal(Signal::HUP);
    assert_eq!(daemon.event("config_reloaded", "").await.text("removed"), "kept");
    daemon.stop().await;
}

#[tokio::test]
async fn valid_configuration_is_applied_after_an_invalid_one() {
    let (server, stage) = staged(&["kept"], 60).await;
    let daemon = stage.start();
    daemon.event("token_checked", "kept").await;
    stage.configure("this is not TOML");
    daemon.signal(Signal::HUP);
    daemon.event("config_rejected", "").await;
    server.add_token(&stage.token("fresh"), seconds(60));
    stage.configure(
        &[server_table(&server), token_table("kept", ""), token_table("fresh", "")].concat(),
    );
    daemon.signal(Signal::HUP);
    daemon.event("token_checked", "fresh").await;
    daemon.stop().await;
}

#[tokio::test]
async fn config_reloaded_names_what_needs_a_restart() {
    let (server, stage) = staged(&["kept"], 60).await;
    let daemon = stage.start();
    daemon.event("token_checked", "kept").await;
    stage.configure(
        &[
            "state_dir = \"$DIR/elsewhere\"\n[log]\nformat = \"logfmt\"\n",
            "[control]\nsocket = \"$DIR/other.sock\"\nlisten = \"127.0.0.1:9\"\n\
             listen_hosts = [\"keep.example\"]\n",
            &server_table(&server),
            &token_table("kept", ""),
        ]
        .concat(),
    );
    daemon.signal(Signal::HUP);
    let line = daemon.event("config_reloaded", "").await;
    let named = "state_dir,log.format,control.socket,control.listen,control.listen_hosts";
    assert_eq!(line.text("needs_restart"), named);
    daemon.stop().await;
}

#[tokio::test]
async fn changed_log_level_applies_at_once() {
    let (server, stage) = staged(&["kept"], 4).await;
    let tables = [server_table(&server), token_table("kept", "")].concat();
    stage.configure(&format!("[log]\nlevel = \"error\"\n{tables}"));
    let daemon = stage.start();
    served(&server, |requests| requests.len() >= 2).await;
    assert!(daemon.lines().is_empty(), "{:?}", daemon.lines());
    stage.configure(&tables);
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.event("token_checked", "kept").await;
    daemon.stop().await;
}

#[tokio::test]
async fn later_configuration_of_two_concurrent_reloads_wins() {
    let (server, stage) = staged(&["kept"], 60).await;
    for name in ["first", "second"] {
        server.add_token(&stage.token(name), seconds(60));
    }
    let daemon = stage.start();
    daemon.event("token_checked", "kept").await;
    for name in ["first", "second"] {
        stage.configure(
            &[server_table(&server), token_table("kept", ""), token_table(name, "")].concat(),
        );
        daemon.signal(Signal::HUP);
    }
    daemon.event("token_checked", "second").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_rejected", ""), 0);
    assert_eq!(about(&server, &secret("kept")).len(), 1);
}

#[tokio::test]
async fn hung_configuration_read_is_rejected_after_its_timeout_and_a_later_one_is_applied() {
    let (_server, stage) = staged(&["kept"], 2).await;
    let daemon = stage.start();
    daemon.event("token_checked", "kept").await;
    let Some(hung) = Hung::over(&stage.path("conf.d")) else {
        return eprintln!("skipped: no disk that hangs can be made here");
    };
    let socket = stage.path("control.sock");
    let waiting = stage.command("reload").arg("--wait").arg("--socket").arg(socket).output();
    let (waited, asked, ()) = tokio::join!(waiting, stage.command("status").output(), async {
        daemon.more(5, "token_checked", "kept").await;
    });
    let said = |output: std::io::Result<std::process::Output>| {
        let output = output.expect("it runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let (status, text) = said(waited);
    assert_eq!(
        (status, text.contains("could not be read within 30 s")),
        (Some(78), true),
        "{text}"
    );
    let (status, text) = said(asked);
    assert_eq!(status, Some(69), "{text}");
    assert!(
        text.contains("tokenkeep.toml could not be read in time; trying the daemon at /run/"),
        "{text}"
    );
    let error = daemon.event("config_rejected", "").await;
    assert!(error.text("error").contains("a network disk that does not respond"), "{error:?}");
    daemon.signal(Signal::HUP);
    drop(hung);
    std::fs::remove_dir(stage.path("conf.d")).expect("an empty folder");
    // The one that was just told to read may still have met what was there.
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.stop().await;
}

#[tokio::test]
async fn hung_source_prevents_no_read_of_the_source_that_a_reload_adds() {
    let server = simulator().await;
    server.add_token(&secret("first"), seconds(4));
    // It is read after the timeout only.
    server.add_token(&secret("second"), seconds(60));
    let hung_token = "[token.first]\nserver = \"sarus\"\nfile = \"$DIR/c/first.token\"\n";
    let stage = Stage::new(&(server_table(&server) + hung_token));
    stage.write("c/first.token", &secret("first"));
    stage.token("second");
    let daemon = stage.start();
    daemon.event("token_checked", "first").await;
    let Some(hung) = Hung::over(&stage.path("c")) else {
        return eprintln!("skipped: no disk that hangs can be made here");
    };
    let tables = [server_table(&server), hung_token.to_owned(), token_table("second", "")];
    stage.configure(&tables.concat());
    daemon.signal(Signal::HUP);
    daemon.event("token_checked", "second").await;
    let missing = daemon.event("token_missing", "first").await;
    assert!(missing.text("error").contains("the disk did not respond"), "{missing:?}");
    // Neither are values in service given up, nor is a read repeated that hangs.
    daemon.more(2, "token_checked", "first").await;
    drop(hung);
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_missing", ""), 1);
}

#[tokio::test]
async fn hung_ca_file_delays_no_check() {
    let (server, stage) = staged(&["kept"], 2).await;
    let daemon = stage.start();
    daemon.event("token_checked", "kept").await;
    stage.pipe("ca.pem");
    let other = support::server_table("other", &server, "ca_file = \"$DIR/ca.pem\"");
    stage.configure(&[server_table(&server), token_table("kept", ""), other].concat());
    daemon.signal(Signal::HUP);
    daemon.more(3, "token_checked", "kept").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_reloaded", ""), 0);
}

#[tokio::test]
async fn new_url_of_a_server_is_used_after_a_reload() {
    let (_server, stage) = staged(&["kept"], 4).await;
    let other = simulator().await;
    other.add_token(&secret("kept"), seconds(4));
    let daemon = stage.start();
    daemon.event("token_checked", "kept").await;
    stage.configure(&[server_table(&other), token_table("kept", "")].concat());
    daemon.signal(Signal::HUP);
    served(&other, |requests| requests.len() >= 2).await;
    let ended = daemon.stop().await;
    assert!(ended.story("kept").is_empty());
}
