//! What becomes of a configuration that cannot be used: at start only what depends on it goes
//! without, and the outcome of the last reload is shown everywhere.

use std::fs;

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;

use crate::support::{Stage, get, seconds, server_table, simulator, token_table};

/// A certificate authority of its own, in PEM form.
fn authority() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.self_signed(&key).expect("a certificate").pem()
}

/// A stage with a token on a server without `ca_file`, and one on a server with it.
async fn with_ca_file() -> (Simulator, Stage) {
    let server = simulator().await;
    let tables = [
        server_table("good", &server, ""),
        server_table("private", &server, "ca_file = \"$DIR/ca.pem\""),
        token_table("healthy", "good", ""),
        token_table("waiting", "private", ""),
    ];
    let stage = Stage::new(&tables.concat());
    server.add_token(&stage.token("healthy"), seconds(3));
    server.add_token(&stage.token("waiting"), seconds(600));
    (server, stage)
}

#[tokio::test]
async fn ca_file_unusable_at_start_leaves_other_servers_at_work_and_is_retried_until_it_works() {
    for content in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nMIIB")] {
        let (_server, stage) = with_ca_file().await;
        if let Some(content) = content {
            stage.write("ca.pem", content);
        }
        let daemon = stage.start();
        let line = daemon.event("server_unavailable", "").await;
        assert_eq!((line.text("server"), line.text("level")), ("private", "error"));
        assert!(line.text("path").ends_with("/ca.pem"), "{line:?}");
        assert!(line.text("error").contains("`ca_file` of [server.private]"), "{line:?}");
        daemon.nth(3, "token_checked", "healthy").await;
        daemon.event("check_failed", "waiting").await;
        let status = get(&stage, "/v1/health").await.json();
        let servers = status["servers"].as_array().expect("servers");
        let private = servers.iter().find(|server| server["name"] == "private");
        assert_eq!(private.expect("it is listed")["available"], false);
        stage.replace("ca.pem", &authority());
        daemon.event("server_recovered", "").await;
        daemon.event("token_checked", "waiting").await;
        let ended = daemon.stop().await;
        assert_eq!(ended.count("server_unavailable", ""), 1, "one outage");
        assert_eq!(ended.count("server_recovered", ""), 1, "one outage");
        for dead in ["token_expired", "token_rejected", "token_missing", "reauth_started"] {
            assert_eq!(ended.count(dead, ""), 0, "{content:?}");
        }
    }
}

#[tokio::test]
async fn token_of_a_server_without_a_client_is_not_called_dead_even_past_its_life() {
    let (server, stage) = with_ca_file().await;
    let reauth = "[reauth.new]\ncommand = [\"$DIR/login\"]\n";
    stage.script("login", "echo run >> \"${0%/*}/runs\"; echo new-value");
    let tables = [
        server_table("private", &server, "ca_file = \"$DIR/ca.pem\""),
        reauth.to_owned(),
        token_table("waiting", "private", "reauth = \"new\""),
    ];
    stage.configure(&tables.concat());
    stage.write("ca.pem", &authority());
    server.add_token(&stage.token("waiting"), seconds(2));
    let daemon = stage.start();
    daemon.event("token_checked", "waiting").await;
    daemon.stop().await;
    fs::remove_file(stage.path("ca.pem")).expect("it is there");
    let daemon = stage.start();
    daemon.event("token_unverified", "waiting").await;
    let ended = daemon.stop().await;
    for dead in ["token_expired", "token_rejected", "reauth_started"] {
        assert_eq!(ended.count(dead, ""), 0, "{dead}");
    }
    assert_eq!(stage.lines_in("runs"), 0);
}

#[tokio::test]
async fn reload_is_rejected_as_long_as_a_ca_file_is_unusable() {
    let (server, stage) = with_ca_file().await;
    server.add_token(&stage.token("fresh"), seconds(600));
    let daemon = stage.start();
    daemon.event("token_checked", "healthy").await;
    let tables = stage.read("tokenkeep.toml") + &token_table("fresh", "good", "");
    stage.configure(&tables);
    daemon.signal(Signal::HUP);
    let line = daemon.event("config_rejected", "").await;
    assert!(line.text("error").contains("/ca.pem"), "{line:?}");
    stage.write("ca.pem", &authority());
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.event("token_checked", "waiting").await;
    daemon.event("token_checked", "fresh").await;
    daemon.stop().await;
}

#[tokio::test]
async fn part_of_the_configuration_that_cannot_be_read_at_start_is_left_out_and_retried() {
    let (server, stage) = with_ca_file().await;
    stage.configure(
        &[server_table("good", &server, ""), token_table("healthy", "good", "")].concat(),
    );
    // A link to nowhere cannot be read by root either.
    fs::create_dir(stage.path("conf.d")).expect("a folder");
    std::os::unix::fs::symlink("nowhere", stage.path("conf.d/more.toml")).expect("a link");
    let daemon = stage.start();
    let line = daemon.event("config_rejected", "").await;
    assert!(line.text("path").ends_with("conf.d/more.toml"), "{line:?}");
    assert_eq!(line.text("level"), "error");
    daemon.nth(3, "token_checked", "healthy").await;
    stage.write("conf.d/nowhere", &token_table("waiting", "good", ""));
    assert_eq!(daemon.event("config_reloaded", "").await.text("added"), "waiting");
    daemon.event("token_checked", "waiting").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_rejected", ""), 1, "it is reported once");
}

#[tokio::test]
async fn faulty_part_of_the_configuration_still_ends_a_start_with_78() {
    let (server, stage) = with_ca_file().await;
    stage.configure(
        &[server_table("good", &server, ""), token_table("healthy", "good", "")].concat(),
    );
    stage.write("conf.d/more.toml", "nonsense = 1");
    let output = stage.command("run").output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(78));
    // The main file has no substitute.
    fs::remove_file(stage.path("tokenkeep.toml")).expect("it is there");
    fs::remove_file(stage.path("conf.d/more.toml")).expect("it is there");
    let output = stage.command("run").output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(78));
}
