//! Metrics and health, on the socket and on `control.listen`.

use std::collections::BTreeMap;
use std::net::TcpListener as Std;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use crate::support::{
    Answer, Daemon, Stage, configuration, free_port, get, mortal_simulator, prints_new, read,
    seconds, secret, server_table, simulator, token_table,
};

const OPENMETRICS: &str = "Accept: application/openmetrics-text; version=1.0.0\r\n";

/// A daemon with one token that lives and one that is dead, which listens on the port.
async fn listening(keys: &str) -> (Stage, Daemon, u16) {
    let server = mortal_simulator().await;
    let port = free_port();
    let tokens =
        [token_table("quotes", "sarus", "metrics = true"), token_table("dead", "sarus", "")];
    let control = format!(
        "[control]\nsocket = \"$DIR/control.sock\"\nlisten = \"127.0.0.1:{port}\"\n{keys}\n"
    );
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tokens.concat() + &control));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    server.add_token(&stage.token("dead"), seconds(0));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    daemon.event("token_expired", "dead").await;
    (stage, daemon, port)
}

async fn at(port: u16, path: &str, headers: &str) -> Answer {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    read(stream, "GET", path, headers).await
}

/// The samples of a page, by their names with labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            (name, value.parse().expect("a number"))
        })
        .collect()
}

#[tokio::test]
async fn metrics_report_states_and_work_done() {
    let (stage, daemon, port) = listening("").await;
    let page = at(port, "/metrics", OPENMETRICS).await;
    assert!(page.head.contains("application/openmetrics-text"), "{}", page.head);
    assert!(page.body.ends_with("# EOF\n"));
    let found = samples(&page.body);
    for (name, value) in [
        ("tokenkeep_tokens{server=\"sarus\",state=\"alive\"}", 1.0),
        ("tokenkeep_tokens{server=\"sarus\",state=\"expired\"}", 1.0),
        ("tokenkeep_tokens{server=\"sarus\",state=\"missing\"}", 0.0),
        ("tokenkeep_server_available{server=\"sarus\"}", 1.0),
        ("tokenkeep_checks_total{server=\"sarus\",outcome=\"expired\"}", 1.0),
        ("tokenkeep_remaining_life_seconds_count{server=\"sarus\"}", 1.0),
        ("tokenkeep_remaining_life_seconds_bucket{le=\"1800.0\",server=\"sarus\"}", 0.0),
        ("tokenkeep_remaining_life_seconds_bucket{le=\"3600.0\",server=\"sarus\"}", 1.0),
        ("tokenkeep_token_alive{token=\"quotes\"}", 1.0),
        ("tokenkeep_log_lines_dropped_total", 0.0),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name} in\n{}", page.body);
    }
    let least = found["tokenkeep_remaining_life_min_seconds{server=\"sarus\"}"];
    assert!((3_500.0..=3_600.0).contains(&least), "{least}");
    let on_the_socket = get(&stage, "/metrics").await;
    assert!(on_the_socket.head.contains("text/plain; version=0.0.4"), "{}", on_the_socket.head);
    assert!(!on_the_socket.body.contains("dead"), "only tokens that ask for it are named");
    daemon.stop().await;
}

#[tokio::test]
async fn logins_and_their_commands_are_counted() {
    let server = mortal_simulator().await;
    let stage = Stage::new(&configuration(&server, ""));
    server.add_token(&stage.token("quotes"), seconds(0));
    server.add_token(&secret("new"), seconds(3_600));
    stage.script("hook", &prints_new());
    let daemon = stage.start();
    daemon.event("reauth_succeeded", "quotes").await;
    let page = get(&stage, "/metrics").await.body;
    let found = samples(&page);
    let name = "tokenkeep_reauths_total{reauth=\"relogin\",outcome=\"succeeded\"}";
    assert_eq!(found.get(name), Some(&1.0), "{page}");
    let name = "tokenkeep_hook_duration_seconds_count{reauth=\"relogin\"}";
    assert_eq!(found.get(name), Some(&1.0), "{page}");
    daemon.stop().await;
}

#[tokio::test]
async fn promtool_accepts_the_prometheus_text_format() {
    if Command::new("promtool").arg("--version").output().await.is_err() {
        return eprintln!("skipped: promtool is not installed (Debian: prometheus)");
    }
    let (stage, daemon, _) = listening("").await;
    let page = get(&stage, "/metrics").await.body;
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tool = tool.spawn().expect("it runs");
    let mut stdin = tool.stdin.take().expect("a pipe");
    stdin.write_all(page.as_bytes()).await.expect("read");
    drop(stdin);
    let output = tool.wait_with_output().await.expect("an end");
    assert!(output.status.success(), "{output:?}\n{page}");
    daemon.stop().await;
}

#[tokio::test]
async fn health_and_readiness_send_no_request_to_a_server() {
    let (stage, daemon, port) = listening("").await;
    for path in ["/healthz", "/readyz"] {
        let answer = at(port, path, "").await;
        assert_eq!((answer.status, &*answer.body), (200, "ok\n"));
        assert_eq!(get(&stage, path).await.status, 200);
    }
    assert_eq!(daemon.count("token_checked", ""), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn listening_address_serves_metrics_and_health_only() {
    let (_stage, daemon, port) = listening("").await;
    for path in ["/v1/tokens", "/v1/health", "/v1/tokens/quotes/value", "/v1/tokens/quotes/check"] {
        assert_eq!(at(port, path, "").await.status, 404, "{path}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn listen_names_false_hides_names_in_metrics() {
    let (stage, daemon, port) = listening("listen_names = false").await;
    let page = at(port, "/metrics", "").await.body;
    assert!(page.contains("tokenkeep_tokens{") && !page.contains("quotes"), "{page}");
    assert!(get(&stage, "/metrics").await.body.contains("token=\"quotes\""));
    daemon.stop().await;
}

#[tokio::test]
async fn listening_address_in_use_is_a_warning() {
    let server = simulator().await;
    let taken = Std::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address");
    let control = format!("[control]\nsocket = \"$DIR/control.sock\"\nlisten = \"{listen}\"\n");
    let stage = Stage::new(
        &(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "") + &control),
    );
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    assert_eq!(daemon.event("config_warning", "").await.text("path"), listen.to_string());
    daemon.event("token_checked", "quotes").await;
    daemon.stop().await;
}

#[tokio::test]
async fn handed_over_socket_is_served_and_not_removed() {
    let server = simulator().await;
    let table = server_table("sarus", &server, "") + &token_table("quotes", "sarus", "");
    let stage = Stage::new(&(table + "[control]\nsocket = \"/nonexistent/control.sock\"\n"));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    // What systemd does: the socket as descriptor 3, and the process's own number beside it.
    let script = "import os, socket, sys\n\
                  s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n\
                  os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n\
                  os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n\
                  os.execv(sys.argv[2], sys.argv[2:])\n";
    let program = stage.command("run");
    let program = program.as_std();
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).arg(stage.path("control.sock"));
    command.arg(program.get_program()).args(program.get_args()).kill_on_drop(true);
    let daemon = Daemon::start(command);
    daemon.event("token_checked", "quotes").await;
    assert_eq!(get(&stage, "/v1/health").await.json()["pid"], daemon.pid());
    assert_eq!(daemon.count("config_warning", ""), 0);
    daemon.stop().await;
    assert!(stage.path("control.sock").exists(), "it is systemd's");
    assert!(UnixStream::connect(stage.path("control.sock")).await.is_err());
}
