//! A machine that is not as it should be: none of it is fatal, and all of it is said.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokenkeep::simulator::Simulator;

use crate::support::{
    PATIENCE, Stage, about, millis, seconds, secret, served, server_table, simulator, token_table,
    until,
};

fn configuration(server: &Simulator, state_dir: &str) -> String {
    let tables = [server_table("sarus", server, ""), token_table("quotes", "sarus", "")];
    format!("{state_dir}\n{}", tables.concat())
}

/// A server that knows the token `quotes`, and a stage whose file for it is still to be made.
async fn staged() -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, ""));
    server.add_token(&secret("quotes"), seconds(4));
    (server, stage)
}

#[tokio::test]
async fn daemon_without_a_state_dir_warns_and_runs() {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, "state_dir = \"/proc/tokenkeep\""));
    server.add_token(&stage.token("quotes"), seconds(4));
    let daemon = stage.start();
    let warning = daemon.event("config_warning", "").await;
    assert_eq!((warning.text("level"), warning.text("path")), ("warn", "/proc/tokenkeep"));
    daemon.nth(2, "token_checked", "quotes").await;
    daemon.stop().await;
}

#[tokio::test]
async fn closed_log_reader_does_not_stop_the_daemon() {
    let (server, stage) = staged().await;
    stage.token("quotes");
    let mut child = stage
        .command("run")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    drop(child.stderr.take());
    served(&server, |requests| requests.len() >= 4).await;
    let pid = Pid::from_raw(child.id().expect("running").cast_signed()).expect("a process");
    kill_process(pid, Signal::TERM).expect("it runs");
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends");
    assert_eq!(status.expect("a status").code(), Some(0));
}

#[tokio::test]
async fn world_readable_token_file_is_warned_of_once() {
    let (_server, stage) = staged().await;
    stage.token("quotes");
    let path = stage.path("quotes.token");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
    let daemon = stage.start();
    let warning = daemon.event("config_warning", "quotes").await;
    assert_eq!(warning.text("path"), path.to_str().expect("UTF-8"));
    assert!(warning.text("error").contains("chmod 600"));
    daemon.nth(2, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_warning", ""), 1);
}

#[tokio::test]
async fn source_without_a_value_is_logged_and_used_once_it_has_one() {
    type Prepare = fn(&Stage);
    let cases: [(&str, Prepare); 8] = [
        ("missing", |_| {}),
        ("empty", |stage| drop(stage.write("quotes.token", ""))),
        ("white space", |stage| drop(stage.write("quotes.token", " \n\n"))),
        ("a directory", |stage| fs::create_dir(stage.path("quotes.token")).expect("made")),
        ("unreadable", |stage| {
            symlink("quotes.token", stage.path("quotes.token")).expect("a loop");
        }),
        ("two lines", |stage| drop(stage.write("quotes.token", "S3CR3T-1\nS3CR3T-2\n"))),
        ("control", |stage| drop(stage.write("quotes.token", "S3CR3T\u{7}\n"))),
        ("a pipe", |stage| stage.pipe("quotes.token")),
    ];
    for (case, prepare) in cases {
        let (_server, stage) = staged().await;
        prepare(&stage);
        let daemon = stage.start();
        let missing = daemon.event("token_missing", "quotes").await;
        assert_eq!(missing.text("level"), "error", "{case}");
        let path = stage.path("quotes.token");
        assert!(missing.text("error").starts_with(path.to_str().expect("UTF-8")), "{missing:?}");
        daemon.event("daemon_ready", "").await;

        if path.is_dir() {
            fs::remove_dir(&path).expect("removed");
        }
        stage.replace("quotes.token", &secret("quotes"));
        daemon.event("token_recovered", "quotes").await;
        let ended = daemon.stop().await;
        assert_eq!(ended.story("quotes"), ["token_missing", "token_recovered"], "{case}");
    }
}

#[tokio::test]
async fn token_in_a_directory_that_is_created_later_is_used() {
    let (server, stage) = staged().await;
    let text = configuration(&server, "").replace("$DIR/quotes", "$DIR/later/deep/quotes");
    stage.configure(&text);
    let daemon = stage.start();
    daemon.event("token_missing", "quotes").await;
    stage.write("later/deep/quotes.token", &secret("quotes"));
    daemon.event("token_recovered", "quotes").await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_second_source_without_a_value_is_an_event_with_its_path() {
    let (server, stage) = staged().await;
    let daemon = stage.start();
    let good = configuration(&server, "");
    let mut last = daemon.event("token_missing", "quotes").await;
    daemon.event("daemon_ready", "").await;
    let path = |name: &str| stage.path(name).to_str().expect("UTF-8").to_owned();
    assert_eq!(last.text("path"), path("quotes.token"));
    stage.write("empty.token", "\n");
    // The third one is as bad as the second, and the last one is the first again.
    for (n, name) in [(2, "empty.token"), (3, "none.token"), (4, "quotes.token")] {
        stage.configure(&good.replace("quotes.token", name));
        daemon.signal(Signal::HUP);
        last = daemon.nth(n, "token_missing", "quotes").await;
        assert_eq!(last.text("path"), path(name));
        assert!(last.text("error").starts_with(&path(name)), "{last:?}");
        assert_eq!(last.text("level"), "error");
    }
    // A reload that leaves the source as it is says nothing again.
    stage.configure(&(good.clone() + "[schedule]\ncheck_after = 0.5\n"));
    daemon.signal(Signal::HUP);
    daemon.nth(4, "config_reloaded", "").await;
    stage.token("quotes");
    daemon.event("token_recovered", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_missing", "quotes"), 4);
}

#[tokio::test]
async fn status_shows_the_whole_reason_and_the_path_of_the_source() {
    let (server, stage) = staged().await;
    let long = format!("{}/quotes.token", "a-long-name-of-a-directory".repeat(3));
    stage.configure(&configuration(&server, "").replace("quotes.token", &long));
    let daemon = stage.start();
    let missing = daemon.event("token_missing", "quotes").await;
    for columns in [60, 200] {
        let mut status = stage.command("status");
        status.arg("quotes");
        let shown = crate::support::on_a_terminal(status, columns, false).await;
        let path = stage.path(&long);
        let path = path.to_str().expect("UTF-8");
        let source = shown.lines().find(|line| line.starts_with("source ")).expect("a line");
        assert!(source.contains(path), "{shown}");
        let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(missing.text("error")), "{shown}");
        let too_wide = shown
            .lines()
            .filter(|line| line.chars().count() > usize::from(columns) && !line.contains(path));
        assert_eq!(too_wide.count(), 0, "{shown}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn removed_source_leaves_the_current_value_in_service() {
    let (server, stage) = staged().await;
    stage.token("quotes");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    fs::remove_file(stage.path("quotes.token")).expect("removed");
    daemon.event("token_missing", "quotes").await;
    daemon.more(2, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.story("quotes"), ["token_missing"]);
    assert!(about(&server, &secret("quotes")).len() >= 3);
}

#[tokio::test]
async fn value_that_cannot_be_stored_is_used_and_stored_later() {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        r#"
[schedule]
retry_initial = "100ms"
retry_max = "200ms"
[server.sarus]
url = "{}"
[reauth.relogin]
command = ["$DIR/hook"]
[token.quotes]
server = "sarus"
file = "$DIR/disk/quotes.token"
reauth = "relogin"
"#,
        server.url()
    ));
    server.add_token(&secret("new"), seconds(4));
    stage.script("hook", &format!("echo >> $DIR/runs; echo '{}'", secret("new")));
    let daemon = stage.start();
    let failed = daemon.event("store_failed", "quotes").await;
    let folder = stage.path("disk");
    assert!(failed.text("error").contains(folder.to_str().expect("UTF-8")), "{failed:?}");
    assert!(failed.number("retry_in_ms") <= 200);
    daemon.nth(3, "token_checked", "quotes").await;
    fs::create_dir(&folder).expect("made");
    until("it is stored", || stage.read("disk/quotes.token").trim() == secret("new")).await;
    daemon.more(1, "token_checked", "quotes").await;
    daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 1);
}

#[tokio::test]
async fn configuration_without_tokens_warns_and_waits_for_a_reload() {
    let server = simulator().await;
    let stage = Stage::new(&server_table("sarus", &server, ""));
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    assert!(daemon.all("config_warning", "")[0].text("message").contains("no tokens"));
    server.add_token(&stage.token("quotes"), millis(60_000));
    stage.configure(&configuration(&server, ""));
    daemon.signal(Signal::HUP);
    daemon.event("token_checked", "quotes").await;
    daemon.stop().await;
}
