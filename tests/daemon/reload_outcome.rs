//! What becomes of a configuration that cannot be used: at start only what depends on it goes
//! without, and the outcome of the last reload is shown everywhere.

use std::fs;

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;
use tokio::net::UnixStream;

use crate::listen::{control, exchange};
use crate::service_manager::Manager;
use crate::support::{Stage, free_port, get, read, seconds, server_table, simulator, token_table};

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
async fn ca_file_unusable_at_startup_affects_one_server_and_is_retried() {
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
async fn token_of_an_unusable_server_is_not_expired_past_its_life() {
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
async fn invalid_part_of_the_configuration_exits_78() {
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

/// What a command prints, and its exit status.
async fn output(stage: &Stage, arguments: &[&str]) -> (String, Option<i32>) {
    let (subcommand, more) = arguments.split_first().expect("a subcommand");
    let mut command = stage.command(subcommand);
    // The configuration that names the socket may be the one that is rejected.
    command.args(more).arg("--socket").arg(stage.path("control.sock"));
    let output = command.output().await.expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).expect("UTF-8"), output.status.code())
}

/// The value of the metric of the last reload.
async fn metric(stage: &Stage) -> String {
    let socket = UnixStream::connect(stage.path("control.sock")).await.expect("a socket");
    let page = read(socket, "GET", "/metrics", "").await.body;
    let name = "tokenkeep_config_last_reload_successful ";
    page.lines().find_map(|line| line.strip_prefix(name)).expect("the metric").to_owned()
}

#[tokio::test]
async fn rejected_reload_is_shown_by_status_line_status_page_and_metrics_until_one_succeeds() {
    let server = simulator().await;
    let port = free_port();
    let good =
        [server_table("sarus", &server, ""), token_table("quotes", "sarus", ""), control(port, "")]
            .concat();
    let stage = Stage::new(&good);
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let path = stage.path("notify");
    let manager = Manager::listening_at(&path);
    let daemon = stage.start_with(&[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))]);
    daemon.event("token_checked", "quotes").await;
    let stream = format!("GET /page/stream HTTP/1.1\r\nHost: localhost:{port}");
    let rejected = "configuration on disk rejected at ";
    let shown = |text: &str| text.contains(rejected);
    for (faulty, how) in [("nonsense = 1", "HUP"), ("[token.quotes", "command")] {
        assert_eq!(metric(&stage).await, "1");
        let (text, status) = output(&stage, &["status"]).await;
        assert_eq!((shown(&text), status), (false, Some(0)), "{text}");
        let counts = exchange(port, &stream, "\"next_check_ms\"").await;
        assert!(counts.contains("\"config_rejected_at_ms\":null"), "{counts}");

        stage.configure(&(good.clone() + faulty));
        let before = daemon.count("config_rejected", "");
        if how == "HUP" {
            daemon.signal(Signal::HUP);
        } else {
            let (text, status) = output(&stage, &["reload", "--wait"]).await;
            assert_eq!(status, Some(78), "{text}");
            assert!(text.contains("the previous configuration stays active"), "{text}");
        }
        daemon.nth(before + 1, "config_rejected", "").await;
        let is_it = |line: &str| line.starts_with("STATUS=1 token: 1 alive") && shown(line);
        manager.hears_line("status line", is_it).await;
        assert_eq!(metric(&stage).await, "0");
        let (text, status) = output(&stage, &["status"]).await;
        assert!(shown(&text) && text.contains("tokenkeep.toml"), "{text}");
        assert_eq!(status, Some(0), "all tokens are alive");
        let (text, status) = output(&stage, &["status", "--monitor"]).await;
        assert!(text.starts_with("TOKENKEEP WARNING") && shown(&text), "{text}");
        assert_eq!(status, Some(1));
        for path in ["/v1/health", "/v1/tokens"] {
            let rejection = get(&stage, path).await.json()["config_rejected"].clone();
            assert!(
                rejection["error"].as_str().is_some_and(|text| !text.is_empty()),
                "{rejection}"
            );
        }
        let counts = exchange(port, &stream, "\"next_check_ms\"").await;
        assert!(counts.contains("\"config_rejected_at_ms\":1"), "{counts}");

        stage.configure(&good);
        let (text, status) = output(&stage, &["reload", "--wait"]).await;
        assert_eq!((&*text, status), ("configuration reloaded: unchanged\n", Some(0)));
        let is_it = |line: &str| line.starts_with("STATUS=1 token: 1 alive") && !shown(line);
        manager.hears_line("status line", is_it).await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn reload_that_changes_nothing_says_so_and_one_that_changes_a_setting_does_not() {
    let server = simulator().await;
    let tables = |keys| server_table("sarus", &server, keys) + &token_table("quotes", "sarus", "");
    let stage = Stage::new(&tables(""));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    for (n, (keys, message)) in [
        ("", "configuration reloaded: unchanged"),
        ("# a comment", "configuration reloaded: unchanged"),
        ("timeout = \"5s\"", "configuration reloaded"),
        ("timeout = \"5s\"", "configuration reloaded: unchanged"),
    ]
    .into_iter()
    .enumerate()
    {
        stage.configure(&tables(keys));
        daemon.signal(Signal::HUP);
        let line = daemon.nth(n + 1, "config_reloaded", "").await;
        assert_eq!(line.text("message"), message, "{keys}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn listening_address_that_is_taken_at_start_is_served_once_it_is_free() {
    let server = simulator().await;
    let port = free_port();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    let tables =
        [server_table("sarus", &server, ""), token_table("quotes", "sarus", ""), control(port, "")]
            .concat();
    let stage = Stage::new(&tables);
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    let line = daemon.event("config_warning", "").await;
    assert_eq!(line.text("path"), format!("127.0.0.1:{port}"), "{line:?}");
    daemon.event("token_checked", "quotes").await;
    // A reload in the meantime ends no retry.
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    drop(taken);
    let is_served = |line: &crate::support::Line| {
        line.is("config_warning", "") && line.text("message").contains("are available now")
    };
    daemon.until("the address is served", |lines| lines.iter().any(is_served)).await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost:{port}");
    assert!(exchange(port, &request, "").await.starts_with("HTTP/1.1 200 "));
    let ended = daemon.stop().await;
    let warnings = ended.all("config_warning", "");
    let warnings: Vec<_> = warnings.iter().map(|line| line.text("level")).collect();
    assert_eq!(warnings, ["warn", "info"], "it is reported once");
}
