//! `[notify.NAME]` with a command: what it gets, how often it runs, and when it is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokenkeep::clock;
use tokenkeep::daemon::GRACE;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Daemon, Line, Stage, configuration, expired, metric, millis, prints_new, running, seconds,
    secret, server_table, simulator, token_table, until, until_metric,
};

/// What an end may take beyond what is waited for, on a busy machine.
const SLACK: Duration = seconds(5);

/// A stage with an expired token, whose re-authentication succeeds, and with these tables.
async fn relogged(tables: &str) -> (Simulator, Stage) {
    let (server, stage) = expired("", &prints_new()).await;
    stage.configure(&(configuration(&server, "") + tables));
    (server, stage)
}

/// A server with tokens `t1` to `t9` that are missing: each is an event of level error.
async fn missing(tables: &str) -> (Simulator, Stage) {
    let server = simulator().await;
    let tokens: String = (1..=9).map(|n| token_table(&format!("t{n}"), "sarus", "")).collect();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tokens + tables));
    (server, stage)
}

/// A script that appends the token's name to `names` once the file `go` exists.
const GATED: &str =
    "while [ ! -e $DIR/go ]; do sleep 0.05; done\necho $TOKENKEEP_NAME >> $DIR/names";

/// The names `t1` to `t9` in the order of their events.
fn in_order(lines: &[Line]) -> String {
    let missing = lines.iter().filter(|line| line.is("token_missing", ""));
    missing.flat_map(|line| [line.text("token"), "\n"]).collect()
}

#[tokio::test]
async fn command_gets_the_event_of_the_log_on_its_input_after_the_file_was_replaced() {
    let (server, stage) = relogged(
        "[notify.app]\nevents = [\"token_replaced\"]\ncommand = [\"$DIR/app\", \"reload\"]\n",
    )
    .await;
    stage.script(
        "app",
        "cat > $DIR/input\ncat /proc/$$/environ > $DIR/environ\n\
         cp $TOKENKEEP_FILE $DIR/value\necho $@ > $DIR/arguments",
    );
    let daemon = stage.start_with(&[("LANG", "C.UTF-8"), ("QUOTES_PASSWORD", "not this")]);
    let logged = daemon.event("token_replaced", "quotes").await;
    until("the command has run", || stage.lines_in("arguments") == 1).await;
    daemon.stop().await;

    let input = stage.read("input");
    assert!(input.ends_with('\n') && input.lines().count() == 1, "{input}");
    let event: Value = serde_json::from_str(&input).expect("JSON");
    assert_eq!(event, logged.0);
    assert_eq!(stage.read("value").trim(), secret("new"));
    let environ = stage.read("environ");
    let given: BTreeMap<&str, &str> =
        environ.split_terminator('\0').filter_map(|pair| pair.split_once('=')).collect();
    let path = std::env::var("PATH").expect("PATH");
    let (file, url) = (stage.path("quotes.token"), format!("{}/", server.url()));
    let promised = BTreeMap::from([
        ("PATH", path.as_str()),
        ("LANG", "C.UTF-8"),
        ("TOKENKEEP_EVENT", "token_replaced"),
        ("TOKENKEEP_NAME", "quotes"),
        ("TOKENKEEP_SERVER", "sarus"),
        ("TOKENKEEP_URL", &url),
        ("TOKENKEEP_FILE", file.to_str().expect("UTF-8")),
    ]);
    assert_eq!(given, promised);
    for text in [&input, &environ] {
        assert!(!text.contains(crate::support::MARK), "{text}");
    }
}

#[tokio::test]
async fn event_that_the_log_leaves_out_is_delivered_with_its_status_and_detail() {
    let (_server, stage) = relogged(
        "[notify.app]\nevents = [\"token_expired\", \"token_replaced\"]\ncommand = [\"$DIR/app\"]\n\
         [log]\nlevel = \"off\"\n",
    )
    .await;
    stage.script("app", "echo $TOKENKEEP_EVENT $TOKENKEEP_STATUS $TOKENKEEP_DETAIL >> $DIR/events");
    let daemon = stage.start();
    until("both are delivered", || stage.lines_in("events") == 2).await;
    assert_eq!(
        stage.read("events"),
        "token_expired 410 The session token has expired\ntoken_replaced\n"
    );
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().await.lines.len(), 0);
}

#[tokio::test]
async fn attempts_are_repeated_until_one_succeeds() {
    let (_server, stage) =
        relogged("[notify.app]\nevents = [\"token_replaced\"]\ncommand = [\"$DIR/app\"]\n").await;
    stage.script("app", "echo >> $DIR/runs\n[ $(wc -l < $DIR/runs) = 3 ] && echo > $DIR/done");
    let daemon = stage.start();
    until("the third attempt has succeeded", || stage.lines_in("done") == 1).await;
    let ended = daemon.stop().await;
    assert_eq!((stage.lines_in("runs"), ended.count("notify_failed", "")), (3, 0));
}

#[tokio::test]
async fn command_that_hangs_is_killed_with_its_children_and_given_up_after_three_attempts() {
    let (_server, stage) = relogged(
        "[notify.app]\nevents = [\"token_replaced\"]\ncommand = [\"$DIR/app\"]\n\
         timeout = \"300ms\"\n",
    )
    .await;
    stage.script("app", "echo $$ >> $DIR/groups\nsleep 1000 &\nsleep 1000");
    let daemon = stage.start();
    let failed = daemon.event("notify_failed", "quotes").await;
    assert_eq!([failed.text("level"), failed.text("notify")], ["error", "app"]);
    assert_eq!(failed.text("undelivered_event"), "token_replaced");
    assert_eq!(failed.number("attempt"), 3);
    assert!(failed.text("error").contains("after 300 ms"), "{failed:?}");
    let groups = stage.read("groups");
    let groups: Vec<u32> = groups.lines().map(|group| group.parse().expect("a number")).collect();
    assert_eq!(groups.len(), 3);
    until("every group is gone", || groups.iter().all(|group| running(*group).is_empty())).await;
    assert_eq!(metric(&stage, "tokenkeep_notify_failed_total{notify=\"app\"}").await, Some(1));
    daemon.stop().await;
}

#[tokio::test]
async fn program_that_does_not_exist_is_an_error_and_the_next_event_is_tried() {
    let (_server, stage) = missing("[notify.app]\ncommand = [\"$DIR/app\"]\n").await;
    let daemon = stage.start();
    let failed = daemon.event("notify_failed", "").await;
    assert!(failed.text("error").contains("/app does not exist"), "{failed:?}");
    stage.script("app", "echo $TOKENKEEP_NAME >> $DIR/names");
    until("the other events are delivered", || stage.lines_in("names") == 8).await;
    let order = in_order(&daemon.stop().await.lines);
    assert_eq!(Some(&*stage.read("names")), order.split_once('\n').map(|(_, rest)| rest));
}

#[tokio::test]
async fn command_that_ignores_its_input_and_prints_much_succeeds() {
    let (_server, stage) = missing("[notify.app]\ncommand = [\"$DIR/app\"]\n").await;
    stage.script("app", "head -c 1000000 /dev/zero && echo $TOKENKEEP_NAME >> $DIR/names");
    let daemon = stage.start();
    until("all are delivered", || stage.lines_in("names") == 9).await;
    assert_eq!(daemon.stop().await.count("notify_failed", ""), 0);
}

/// A daemon with a receiver that waits for the file `go`, and nine events for it.
async fn gated() -> (Simulator, Stage, Daemon) {
    let (server, stage) = missing("[notify.app]\ncommand = [\"$DIR/app\"]\n").await;
    stage.script("app", GATED);
    let daemon = stage.start();
    daemon.nth(9, "token_missing", "").await;
    daemon.event("daemon_ready", "").await;
    (server, stage, daemon)
}

#[tokio::test]
async fn events_that_wait_are_delivered_in_order_before_the_daemon_stops() {
    let (_server, stage, daemon) = gated().await;
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    stage.write("go", "");
    let ended = daemon.ended().await;
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(stage.read("names"), in_order(&ended.lines));
    assert_eq!(ended.count("notify_failed", ""), 0);
}

#[tokio::test]
async fn events_that_are_not_delivered_before_the_stop_are_counted_and_the_command_is_killed() {
    let (_server, stage) = missing(
        "[notify.app]\ncommand = [\"$DIR/app\"]\n[notify.idle]\ncommand = [\"/bin/true\"]\n\
         tokens = [\"t1\"]\n",
    )
    .await;
    stage.script("app", "echo $$ > $DIR/group\nsleep 1000");
    let daemon = stage.start();
    daemon.nth(9, "token_missing", "").await;
    until("the command runs", || stage.lines_in("group") == 1).await;
    let group = stage.read("group").trim().parse().expect("a number");
    let asked_to_stop = clock::now();
    let ended = daemon.stop().await;
    let took = clock::now().since(asked_to_stop);
    assert!(took >= GRACE && took < GRACE + SLACK, "{took:?}");
    let failed = ended.all("notify_failed", "");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((failed[0].text("notify"), failed[0].number("dropped")), ("app", 9));
    until("the group is gone", || running(group).is_empty()).await;
}

#[tokio::test]
async fn reload_keeps_events_that_wait_and_uses_the_new_command() {
    let (server, stage, daemon) = gated().await;
    stage.script("other", "echo $TOKENKEEP_NAME >> $DIR/others");
    let tokens: String = (1..=9).map(|n| token_table(&format!("t{n}"), "sarus", "")).collect();
    let tables = server_table("sarus", &server, "") + &tokens;
    stage.configure(&format!(
        "{tables}[notify.app]\ncommand = [\"$DIR/other\"]\n\
         [notify.new]\nevents = [\"config_reloaded\"]\ncommand = [\"$DIR/new\"]\n"
    ));
    stage.script("new", "echo $TOKENKEEP_EVENT >> $DIR/reloads");
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    stage.write("go", "");
    until("all are delivered", || stage.lines_in("others") == 8).await;
    until("the new receiver gets its event", || stage.lines_in("reloads") >= 1).await;
    let order = in_order(&daemon.lines());
    assert_eq!(stage.read("names") + &stage.read("others"), order);

    let name = "tokenkeep_notify_delivered_total{notify=\"app\"}";
    until_metric(&stage, name, Some(9)).await;
    stage.configure(&tables);
    daemon.signal(Signal::HUP);
    until_metric(&stage, name, None).await;
    daemon.stop().await;
}

#[tokio::test]
async fn token_is_checked_in_time_while_receivers_hang() {
    // Shorter than the grace period, in which the token would expire without checks.
    let life = seconds(8);
    assert!(life < GRACE);
    let server = simulator().await;
    let hanging: Vec<_> = (0..20)
        .map(|n| format!("[notify.n{n}]\nevents = [\"token_checked\"]\ncommand = [\"$DIR/app\"]\n"))
        .collect();
    let tables = server_table("sarus", &server, "")
        + &token_table("quotes", "sarus", "")
        + &hanging.concat();
    let stage =
        Stage::new(&("max_hooks = 1\n[schedule]\ncheck_after = 0.2\n".to_owned() + &tables));
    stage.script("app", "echo >> $DIR/runs\nsleep 1000");
    server.add_token(&stage.token("quotes"), life);
    let daemon = stage.start();
    until("all hang", || stage.lines_in("runs") >= 20).await;
    daemon.more(5, "token_checked", "quotes").await;
    let asked_to_stop = clock::now();
    let ended = daemon.stop().await;
    assert!(clock::now().since(asked_to_stop) < GRACE + SLACK);
    assert!(ended.story("quotes").is_empty(), "{:?}", ended.story("quotes"));
    let last = ended.all("token_checked", "quotes").last().expect("a check").timestamp();
    let stopped = ended.lines.last().expect("a line").timestamp();
    assert!(stopped.duration_since(last).unsigned_abs() < life, "checks end with the stop");
    assert!(server.remaining(&secret("quotes")).is_some_and(|left| left > millis(0)));
}
