//! The history of events: `tokenkeep events` and `/v1/events`.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tokenkeep::simulator::Simulator;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::support::{
    Daemon, PATIENCE, Stage, get, mortal_simulator, seconds, server_table, token_table,
};

/// Tokens that expire when [`expire`] says so, and a daemon that has checked them.
async fn running(names: &[&str]) -> (Simulator, Stage, Daemon) {
    let server = mortal_simulator().await;
    let tokens: String = names.iter().map(|name| token_table(name, "sarus", "")).collect();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tokens));
    for name in names {
        server.add_token(&stage.token(name), seconds(3_600));
    }
    let daemon = stage.start();
    for name in names {
        daemon.event("token_checked", name).await;
    }
    (server, stage, daemon)
}

/// Lets a token expire, and waits for the event.
async fn expire(server: &Simulator, stage: &Stage, daemon: &Daemon, name: &str) {
    server.expire(&crate::support::secret(name));
    let path = format!("/v1/tokens/{name}/check");
    assert_eq!(crate::support::post(stage, &path).await.status, 202);
    daemon.event("token_expired", name).await;
}

/// The status, output and errors of `events` with these arguments.
async fn events(stage: &Stage, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = stage.command("events");
    let output = command.args(arguments).output().await.expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The sequence numbers and names of the events of a page.
fn listed(page: &Value) -> Vec<(u64, &str)> {
    let events = page["events"].as_array().expect("a list").iter();
    events
        .map(|event| {
            (event["seq"].as_u64().expect("a number"), event["event"].as_str().expect("text"))
        })
        .collect()
}

#[tokio::test]
async fn history_is_shown_in_words_newest_last_with_what_it_covers() {
    let (server, stage, daemon) = running(&["quotes", "orders"]).await;
    expire(&server, &stage, &daemon, "quotes").await;
    let (status, text, errors) = events(&stage, &[]).await;
    assert_eq!((status, &*errors), (Some(0), ""));
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("since 20") && lines[0].ends_with(", the start of the daemon"),
        "{text}"
    );
    assert!(lines[1].contains("  -       info   tokenkeep has started"), "{text}");
    let last = lines.last().expect("a line");
    assert!(last.contains("  quotes  error  the token has expired: "), "{text}");
    assert!(!text.contains("alive"), "routine checks are not recorded: {text}");
    daemon.stop().await;
}

#[tokio::test]
async fn name_or_pattern_selects_tokens_and_n_limits_the_lines() {
    let (server, stage, daemon) = running(&["quotes", "quotes-1", "orders"]).await;
    for name in ["quotes", "quotes-1", "orders"] {
        expire(&server, &stage, &daemon, name).await;
    }
    let (_, text, _) = events(&stage, &["quotes-?"]).await;
    assert!(text.contains("quotes-1") && !text.contains("orders"), "{text}");
    let (_, text, _) = events(&stage, &["quotes"]).await;
    assert!(text.contains("expired") && !text.contains("quotes-1"), "{text}");
    let (_, text, errors) = events(&stage, &["quotes", "-n", "0"]).await;
    assert_eq!((text.lines().count(), &*errors), (1, ""), "there are events: {text}");
    let (_, text, _) = events(&stage, &["quo*", "-n", "1"]).await;
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains("; the last event (-n shows more)\n") && text.contains("quotes-1"),
        "{text}"
    );
    let (status, text, errors) = events(&stage, &["nothing*"]).await;
    assert_eq!((status, text.lines().count()), (Some(0), 1));
    assert!(errors.contains("no event of a token that matches \"nothing*\" is"), "{errors}");
    let (status, text, errors) = events(&stage, &["nothing"]).await;
    assert_eq!((status, &*text), (Some(1), ""));
    assert!(errors.contains("there is no token named \"nothing\""), "{errors}");
    daemon.stop().await;
}

#[tokio::test]
async fn json_is_one_event_for_each_line() {
    let (server, stage, daemon) = running(&["quotes"]).await;
    expire(&server, &stage, &daemon, "quotes").await;
    let (_, text, _) = events(&stage, &["--json"]).await;
    let events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = events.last().expect("an event");
    assert_eq!((&last["token"], &last["level"]), (&"quotes".into(), &"error".into()));
    assert_eq!(last["event"], "token_expired");
    let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=events.len() as u64).map(Some).collect::<Vec<_>>());
    daemon.stop().await;
}

#[tokio::test]
async fn api_pages_the_history_in_both_directions() {
    let (server, stage, daemon) = running(&["quotes", "orders"]).await;
    expire(&server, &stage, &daemon, "quotes").await;
    expire(&server, &stage, &daemon, "orders").await;
    let all = get(&stage, "/v1/events").await.json();
    let all = listed(&all);
    let newest = all.last().expect("an event").0;
    assert_eq!(all.first(), Some(&(1, "daemon_started")));
    let last = get(&stage, "/v1/events?limit=2").await.json();
    assert_eq!(listed(&last), all[all.len() - 2..]);
    assert_eq!(last["next"], newest);
    let before = get(&stage, &format!("/v1/events?limit=2&before={newest}")).await.json();
    assert_eq!(listed(&before), all[all.len() - 3..all.len() - 1]);
    let after = get(&stage, "/v1/events?after=1&limit=2").await.json();
    assert_eq!((listed(&after), &after["next"]), (all[1..3].to_vec(), &3.into()));
    let filtered = get(&stage, "/v1/events?token=quo*&after=0").await.json();
    assert!(
        filtered["events"].as_array().expect("a list").iter().all(|it| it["token"] == "quotes")
    );
    assert_eq!(filtered["next"], newest, "all were examined");
    let ended = get(&stage, &format!("/v1/events?after={newest}")).await.json();
    assert_eq!((listed(&ended), &ended["next"]), (vec![], &newest.into()));
    for query in ["limit=0", "limit=1001", "after=1&before=3", "after=x", "other=1"] {
        assert_eq!(get(&stage, &format!("/v1/events?{query}")).await.status, 400, "{query}");
    }
    daemon.stop().await;
}

/// `events --follow` with these arguments, and its lines.
fn follow(stage: &Stage, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = stage.command("events");
    command.arg("--follow").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    (child, lines)
}

async fn line_with(lines: &mut Lines<BufReader<ChildStdout>>, wanted: &str) -> String {
    let search = async {
        loop {
            let line = lines.next_line().await.expect("text").expect("another line");
            if line.contains(wanted) {
                return line;
            }
        }
    };
    timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no line with {wanted}"))
}

#[tokio::test]
async fn follow_shows_new_events_and_continues_after_a_restart() {
    let (server, stage, daemon) = running(&["quotes", "orders"]).await;
    let (mut child, mut lines) = follow(&stage, &["-n", "0"]);
    line_with(&mut lines, "since ").await;
    expire(&server, &stage, &daemon, "quotes").await;
    line_with(&mut lines, "quotes  error  the token has expired").await;
    daemon.stop().await;
    let daemon = stage.start();
    line_with(&mut lines, "tokenkeep has started").await;
    daemon.event("daemon_ready", "").await;
    expire(&server, &stage, &daemon, "orders").await;
    line_with(&mut lines, "orders  error  the token has expired").await;
    // Its reader is gone: the next event ends it.
    drop(lines);
    daemon.signal(Signal::HUP);
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").expect("a status");
    assert_eq!(status.code(), Some(0));
    daemon.stop().await;
}

#[tokio::test]
async fn events_without_a_daemon_is_unavailable() {
    let server = mortal_simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    for arguments in [&[][..], &["--follow"]] {
        let (status, text, errors) = events(&stage, arguments).await;
        assert_eq!((status, &*text), (Some(69), ""));
        assert!(errors.contains("no daemon answers on"), "{errors}");
    }
}

#[tokio::test]
async fn pattern_longer_than_256_bytes_is_rejected_at_once() {
    let (_server, stage, daemon) = running(&["quotes"]).await;
    let class = format!("%5B{}%5D", "x".repeat(60_000));
    for (parameter, path) in [("token", "/v1/events?token="), ("filter", "/v1/tokens?filter=")] {
        let response = get(&stage, &format!("{path}{class}")).await;
        assert_eq!(response.status, 400, "{response:?}");
        let expected = format!("{parameter}: must be a name or pattern of at most 256 bytes");
        assert_eq!(response.json()["error"]["message"], *expected, "{response:?}");
        assert_eq!(get(&stage, &format!("{path}{}", "*a".repeat(128))).await.status, 200);
    }
    let (status, _, errors) = events(&stage, &[&"q".repeat(257)]).await;
    assert!(status == Some(64) && errors.contains("at most 256 bytes"), "{status:?} {errors}");
    daemon.stop().await;
}
