//! The commands that speak to a running daemon, on a terminal and off it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Output;

use rustix::process::{Signal, geteuid};
use tokenkeep::simulator::{Endpoint, Simulator};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{
    Daemon, Line, PATIENCE, Stage, Terminal, calls, free_port, mortal_simulator, on_a_terminal,
    prints_new, seconds, secret, server_table, simulator, token_table,
};

const UNAVAILABLE: i32 = 69;
const NOT_KNOWN: i32 = 75;
const NOT_PERMITTED: i32 = 77;

/// The program with these arguments, and the stage's configuration.
fn tokenkeep(stage: &Stage, arguments: &[&str]) -> Command {
    let (first, rest) = arguments.split_first().expect("a command");
    let mut command = stage.command(first);
    command.args(rest);
    command
}

async fn run(stage: &Stage, arguments: &[&str]) -> Output {
    timeout(PATIENCE, tokenkeep(stage, arguments).output()).await.expect("an end").expect("it runs")
}

/// What it prints, with the exit status before it.
async fn said(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let output = run(stage, arguments).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("a status"), String::from_utf8(text).expect("UTF-8"))
}

/// What changes from run to run, and its width with it: times, and the bars before them.
fn settled(text: &str) -> String {
    let mut settled = String::new();
    for line in text.replace('\r', "").lines() {
        const WEEK: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let words = line.split(' ').filter(|word| !WEEK.contains(word)).map(|word| {
            let number = word.trim_end_matches([';', ',', '.']);
            let is_time = |c: char| c.is_ascii_digit() || matches!(c, ':' | '-');
            if number.starts_with(|c: char| c.is_ascii_digit()) && number.chars().all(is_time) {
                format!("{}#{}", " ".repeat(number.len() - 1), &word[number.len()..])
            } else {
                word.to_owned()
            }
        });
        settled += words.collect::<Vec<_>>().join(" ").trim_end();
        settled.push('\n');
    }
    settled
}

/// A token of a day that has just been asked about, one that is dead and one that is paused.
async fn three(server: &Simulator) -> (Stage, Daemon) {
    let names = ["quotes", "orders-of-a-customer-with-a-very-long-name", "history"];
    let tables = names.map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(server_table("sarus", server, "") + &tables));
    server.add_token(&stage.token("quotes"), seconds(8 * 86_400));
    server.add_token(&stage.token(names[1]), seconds(0));
    server.add_token(&stage.token("history"), seconds(9 * 86_400));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    daemon.event("token_checked", "history").await;
    daemon.event("token_expired", names[1]).await;
    assert_eq!(run(&stage, &["pause", "history"]).await.status.code(), Some(0));
    (stage, daemon)
}

#[tokio::test]
async fn table_fits_the_terminal_and_no_color_is_respected() {
    let server = mortal_simulator().await;
    let (stage, daemon) = three(&server).await;
    for columns in [80, 120] {
        for colours in [true, false] {
            let shown = on_a_terminal(tokenkeep(&stage, &["status"]), columns, colours).await;
            assert_eq!(shown.contains('\x1b'), colours);
            let name = format!("status_{columns}_{}", if colours { "coloured" } else { "plain" });
            // The sentence contains a path, whose length decides where it is wrapped.
            let (sentence, table) = shown.split_once("\r\n\r\n").expect("a blank line");
            assert!(sentence.contains("1 of 3 needs you: orders-of-"), "{sentence}");
            assert_eq!(sentence.starts_with("\x1b[31m"), colours, "{sentence}");
            insta::assert_snapshot!(name, settled(table).replace('\x1b', "^"));
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn status_exits_0_if_all_are_alive_1_if_not_69_without_a_daemon() {
    let server = mortal_simulator().await;
    let (stage, daemon) = three(&server).await;
    assert_eq!(run(&stage, &["status"]).await.status.code(), Some(1));
    assert_eq!(run(&stage, &["status", "quotes"]).await.status.code(), Some(0));
    assert_eq!(run(&stage, &["status", "quo*"]).await.status.code(), Some(0));
    let (status, text) = said(&stage, &["status", "nobody"]).await;
    assert_eq!(status, 1);
    assert!(text.contains("nobody"), "{text}");
    let (status, text) = said(&stage, &["status", "nobody*"]).await;
    assert_eq!(status, 1, "a pattern that is misspelt is no success: {text}");
    daemon.stop().await;
    let (status, text) = said(&stage, &["status"]).await;
    assert_eq!(status, UNAVAILABLE);
    assert!(text.contains("no daemon answers"), "{text}");
}

#[tokio::test]
async fn table_has_fifty_rows_and_counts_the_rest_unless_all() {
    let server = simulator().await;
    let tables: String = (0..60).map(|n| token_table(&format!("t{n:02}"), "sarus", "")).collect();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables));
    for n in 0..60 {
        server.add_token(&stage.token(&format!("t{n:02}")), seconds(3_600));
    }
    let daemon = stage.start();
    daemon
        .until("60 checks", |lines| {
            lines.iter().filter(|line| line.is("token_checked", "")).count() >= 60
        })
        .await;
    let (_, shown) = said(&stage, &["status"]).await;
    assert_eq!(shown.matches(" alive ").count(), 50, "{shown}");
    assert!(shown.starts_with("All 60 tokens are alive; the next check is in "), "{shown}");
    assert!(shown.contains("and 10 more") && shown.contains("60 tokens: 60 alive"), "{shown}");
    let (_, shown) = said(&stage, &["status", "--all"]).await;
    assert_eq!(shown.matches(" alive ").count(), 60, "{shown}");
    assert!(shown.starts_with("All 60 tokens are alive; the next check is in "), "{shown}");
    let (_, shown) = said(&stage, &["status", "--all", "--json"]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["tokens"].as_array().map(Vec::len), Some(60));
    daemon.stop().await;
}

#[tokio::test]
async fn status_of_one_token_shows_its_events_and_planned_actions() {
    let server = mortal_simulator().await;
    let stage = Stage::new(&crate::support::configuration(&server, ""));
    server.add_token(&stage.token("quotes"), seconds(0));
    server.add_token(&secret("new"), seconds(6 * 86_400));
    stage.script("hook", &prints_new());
    let daemon = stage.start();
    daemon.event("token_recovered", "quotes").await;
    let (status, story) = said(&stage, &["status", "quotes"]).await;
    assert_eq!(status, 0, "{story}");
    let events: Vec<_> = story.lines().skip_while(|line| !line.is_empty()).skip(1).collect();
    // A message may take several lines.
    let events = events.iter().filter(|line| !line.starts_with(' '));
    let told: Vec<_> = events.filter_map(|line| line.split(' ').nth(3)).collect();
    assert_eq!(
        told,
        [
            "token_expired",
            "reauth_started",
            "token_replaced",
            "reauth_succeeded",
            "token_recovered"
        ]
    );
    let story = story.replace(stage.path("").to_str().expect("UTF-8"), "DIR/");
    let facts = settled(story.split("\n\n").next().expect("facts"));
    insta::assert_snapshot!("story", facts.replace("check   #", "check  #"));
    daemon.stop().await;
}

#[tokio::test]
async fn monitor_output_is_one_line_with_plugin_exit_statuses() {
    let server = mortal_simulator().await;
    let (stage, daemon) = three(&server).await;
    let (status, line) = said(&stage, &["status", "--monitor"]).await;
    assert_eq!((status, line.lines().count()), (2, 1), "{line}");
    assert!(line.starts_with("TOKENKEEP CRITICAL - 3 tokens: "), "{line}");
    assert!(line.contains("|alive=1;;;0;3 "), "{line}");
    let (status, line) = said(&stage, &["status", "--monitor", "quotes"]).await;
    assert_eq!(status, 0, "only what is asked about counts: {line}");
    assert!(line.starts_with("TOKENKEEP OK - 1 token: 1 alive"), "{line}");
    let (status, line) = said(&stage, &["status", "--monitor", "nobody"]).await;
    assert_eq!(status, 3, "{line}");
    daemon.stop().await;
    let (status, line) = said(&stage, &["status", "--monitor"]).await;
    assert_eq!(status, 3);
    assert!(line.starts_with("TOKENKEEP UNKNOWN - no daemon answers"), "{line}");
}

#[tokio::test]
async fn watch_redraws_and_restores_the_terminal() {
    let server = mortal_simulator().await;
    let (stage, daemon) = three(&server).await;
    let mut command = tokenkeep(&stage, &["status", "--watch"]);
    let script = "\"$0\" \"$@\" & sleep 2.5; kill -INT $!; wait $!";
    let mut shell = Command::new("sh");
    let program = command.as_std();
    shell.arg("-c").arg(script).arg(program.get_program()).args(program.get_args());
    command = shell;
    let shown = on_a_terminal(command, 80, false).await;
    assert!(shown.starts_with("\x1b[?1049h\x1b[?25l"), "{shown:?}");
    assert!(shown.ends_with("\x1b[?25h\x1b[?1049l"), "{shown:?}");
    assert!(shown.matches("3 tokens: ").count() >= 2, "{shown:?}");
    let (status, text) = said(&stage, &["status", "--watch"]).await;
    assert_eq!(status, 64, "{text}");
    daemon.stop().await;
}

#[tokio::test]
async fn check_prints_the_outcome_for_every_matching_token() {
    let server = simulator().await;
    let names = ["quotes-1", "quotes-2", "orders"];
    let tables = names.map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables));
    for name in names {
        server.add_token(&stage.token(name), seconds(3_600));
    }
    let daemon = stage.start();
    for name in names {
        daemon.event("token_checked", name).await;
    }
    let before = calls(&server, Endpoint::Query);
    let (status, text) = said(&stage, &["check", "quotes-*"]).await;
    assert_eq!(status, 0, "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("quotes-1: alive, 5"), "{text}");
    assert_eq!(calls(&server, Endpoint::Query), before + 2);

    let (status, text) = said(&stage, &["check", "nobody", "orders"]).await;
    assert_eq!(status, 1);
    assert!(text.contains("orders: alive") && text.contains("nobody: there is no"), "{text}");
    let (status, _) = said(&stage, &["check", "nobody*"]).await;
    assert_eq!(status, 64);
    daemon.stop().await;
}

#[tokio::test]
async fn exact_name_is_not_a_pattern() {
    let server = simulator().await;
    let stage = Stage::new(
        &(server_table("sarus", &server, "")
            + &["[token.\"q*\"]", "[token.quotes]"]
                .map(|table| format!("{table}\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\n"))
                .concat()),
    );
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    assert_eq!(said(&stage, &["pause", "q*"]).await, (0, "q*: paused\n".to_owned()));
    let (_, story) = said(&stage, &["status", "q*"]).await;
    assert!(story.starts_with("token       q*\n"), "{story}");
    let (_, text) = said(&stage, &["pause", "q*s"]).await;
    assert_eq!(text, "quotes: paused\n");
    daemon.stop().await;
}

#[tokio::test]
async fn check_of_a_token_found_expired_exits_1() {
    let server = simulator().await;
    let stage = Stage::new(
        &[server_table("sarus", &server, ""), token_table("quotes", "sarus", "")].concat(),
    );
    let value = stage.token("quotes");
    server.add_token(&value, seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    server.add_token(&value, seconds(0));
    let (status, text) = said(&stage, &["check", "quotes"]).await;
    assert_eq!((status, text.contains("expired")), (1, true), "{text}");
    daemon.stop().await;
}

#[tokio::test]
async fn check_without_an_outcome_in_time_exits_75() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = silent.local_addr().expect("an address");
    let table = format!("[server.sarus]\nurl = \"http://{url}\"\ntimeout = \"60s\"\n");
    let stage = Stage::new(&(table + &token_table("quotes", "sarus", "")));
    stage.token("quotes");
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    let seen = on_a_terminal(tokenkeep(&stage, &["check", "quotes"]), 80, false);
    let ((status, text), seen) = tokio::join!(said(&stage, &["check", "quotes"]), seen);
    assert_eq!((status, text.contains("in progress")), (NOT_KNOWN, true), "{text}");
    assert!(seen.contains(" 50 %") && seen.contains("in progress"), "{seen:?}");
    assert!(!text.contains('%'), "off a terminal nothing is drawn: {text}");
    daemon.stop().await;
}

#[tokio::test]
async fn reauth_waits_for_the_outcome_and_prints_failures() {
    let server = mortal_simulator().await;
    let stage = Stage::new(&crate::support::configuration(&server, ""));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    server.add_token(&secret("new"), seconds(3_600));
    stage.script("hook", "exit 3");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let (status, text) = said(&stage, &["reauth", "quotes"]).await;
    assert_eq!((status, text.contains("re-authentication failed")), (1, true), "{text}");
    stage.script("hook", &prints_new());
    let (status, text) = said(&stage, &["reauth", "quotes"]).await;
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("quotes: re-authentication succeeded after "), "{text}");
    let (status, text) = said(&stage, &["token", "quotes"]).await;
    assert_eq!((status, text), (0, format!("{}\n", secret("new"))));
    daemon.stop().await;
}

#[tokio::test]
async fn a_command_that_waits_for_an_unavailable_server_says_so_at_once() {
    let unused_port = format!("[server.sarus]\nurl = \"http://127.0.0.1:{}\"\n", free_port());
    let reauth = "[reauth.relogin]\ncommand = [\"$DIR/hook\"]\n";
    let table = token_table("quotes", "sarus", "reauth = \"relogin\"");
    let stage = Stage::new(&[&*unused_port, reauth, &table].concat());
    stage.token("quotes");
    stage.script("hook", &prints_new());
    let daemon = stage.start();
    daemon.event("server_unavailable", "").await;
    let terminal = Terminal::start(tokenkeep(&stage, &["reauth", "quotes"]));
    let notice = "tokenkeep: quotes: waiting, because server sarus is unavailable\r\n";
    terminal.until(|text| text.contains(notice)).await;
    drop(terminal);
    daemon.stop().await;
}

#[tokio::test]
async fn token_prints_nothing_for_an_expired_value() {
    let server = mortal_simulator().await;
    let (stage, daemon) = three(&server).await;
    let dead = "orders-of-a-customer-with-a-very-long-name";
    let output = run(&stage, &["token", dead]).await;
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &[][..]));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(said, "tokenkeep: the token has expired\n");
    daemon.stop().await;
}

#[tokio::test]
async fn token_prints_an_unverified_value_with_a_warning() {
    let unused_port = format!("[server.sarus]\nurl = \"http://127.0.0.1:{}\"\n", free_port());
    let stage = Stage::new(&(unused_port + &token_table("quotes", "sarus", "")));
    let value = stage.token("quotes");
    let daemon = stage.start();
    daemon.event("check_failed", "quotes").await;
    let output = run(&stage, &["token", "quotes"]).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, format!("{value}\n").into_bytes());
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.starts_with("tokenkeep: warning: quotes: this value is unverified"), "{said}");
    daemon.stop().await;
}

#[tokio::test]
async fn pause_resume_and_revoke_work_by_name() {
    let server = simulator().await;
    let stage = Stage::new(
        &[server_table("sarus", &server, ""), token_table("quotes", "sarus", "")].concat(),
    );
    let value = stage.token("quotes");
    server.add_token(&value, seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    assert_eq!(said(&stage, &["pause", "quotes"]).await, (0, "quotes: paused\n".to_owned()));
    let (status, text) = said(&stage, &["check", "quotes"]).await;
    assert_eq!((status, text.contains("paused")), (1, true), "{text}");
    assert_eq!(said(&stage, &["resume", "quotes"]).await, (0, "quotes: alive\n".to_owned()));
    let (status, text) = said(&stage, &["revoke", "quotes"]).await;
    assert_eq!((status, text.contains("revoked")), (0, true), "{text}");
    assert_eq!(server.remaining(&value), None);
    daemon.stop().await;
}

#[tokio::test]
async fn reload_wait_prints_the_outcome() {
    let server = simulator().await;
    let table = server_table("sarus", &server, "");
    let stage = Stage::new(&(table.clone() + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let tables = ["quotes", "orders"].map(|name| token_table(name, "sarus", "")).concat();
    stage.configure(&(table + &tables));
    let (status, text) = said(&stage, &["reload", "--wait"]).await;
    assert_eq!((status, &*text), (0, "configuration reloaded\nadded: orders\n"));
    stage.configure("[server.sarus]\n");
    let socket = stage.path("control.sock");
    let socket = socket.to_str().expect("UTF-8");
    let (status, text) = said(&stage, &["reload", "--wait", "--socket", socket]).await;
    assert_eq!((status, text.contains("configuration reload failed")), (78, true), "{text}");
    daemon.stop().await;
}

#[tokio::test]
async fn reload_without_an_outcome_in_time_exits_75() {
    let server = simulator().await;
    let (stage, daemon) = three(&server).await;
    daemon.signal(Signal::STOP);
    let (status, text) = said(&stage, &["reload", "--wait", "--timeout", "300ms"]).await;
    assert_eq!((status, text.contains("has not finished")), (NOT_KNOWN, true), "{text}");
    let reload = tokenkeep(&stage, &["reload", "--wait", "--timeout", "3s"]);
    let seen = on_a_terminal(reload, 80, false).await;
    assert!(seen.contains("in progress for "), "{seen:?}");
    daemon.signal(Signal::CONT);
    let (status, text) = said(&stage, &["reload", "--wait", "--timeout", "5"]).await;
    assert_eq!((status, text.contains("add a unit")), (64, true), "{text}");
    daemon.stop().await;
}

/// The program as another user, who is in the socket's group.
async fn as_another(stage: &Stage, uid: u32, arguments: &[&str]) -> (Option<i32>, String, String) {
    const GROUP: u32 = 61_234;
    fs::set_permissions(stage.path(""), Permissions::from_mode(0o711)).expect("a mode");
    fs::set_permissions(stage.path("tokenkeep.toml"), Permissions::from_mode(0o644))
        .expect("a mode");
    chown(stage.path("control.sock"), None, Some(GROUP)).expect("root");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.args(arguments).arg("--config").arg(stage.path("tokenkeep.toml"));
    command.uid(uid).gid(GROUP);
    let output = tokio::process::Command::from(command).output().await.expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn group_members_may_read_status_but_not_command_or_read_values() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let server = simulator().await;
    let token = token_table("quotes", "sarus", "readers = [\"4321\"]");
    let stage = Stage::new(&(server_table("sarus", &server, "") + &token));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let (status, shown, _) = as_another(&stage, 1_234, &["status"]).await;
    assert_eq!(status, Some(0));
    assert!(shown.contains("quotes"), "{shown}");
    for arguments in [
        &["check", "quotes"][..],
        &["reauth", "quotes"],
        &["pause", "quotes"],
        &["resume", "quotes"],
        &["revoke", "quotes"],
        &["token", "quotes"],
        &["reload", "--wait"],
    ] {
        let (status, shown, said) = as_another(&stage, 1_234, arguments).await;
        assert_eq!((status, &*shown), (Some(NOT_PERMITTED), ""), "{arguments:?}: {said}");
    }
    daemon.nth(7, "action_refused", "").await;
    let refused: Vec<Line> = daemon.all("action_refused", "");
    assert!(refused.iter().all(|line| line.number("uid") == 1_234));

    let (status, value, _) = as_another(&stage, 4_321, &["token", "quotes"]).await;
    assert_eq!((status, value), (Some(0), format!("{}\n", secret("quotes"))));
    assert_eq!(daemon.event("value_read", "quotes").await.number("uid"), 4_321);
    daemon.stop().await;
}

#[tokio::test]
async fn client_finds_the_daemon_with_a_broken_configuration_and_names_the_line() {
    let server = simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let good = stage.read("tokenkeep.toml");
    for (from, to, line) in [
        ("[token.quotes]", "[token.quotes", 5),
        ("server = ", "sever = ", 6),
        ("[control]", "[control", 10),
        ("state_dir = ", "state_dir == ", 1),
    ] {
        assert!(good.contains(from), "{good}");
        stage.write("tokenkeep.toml", &good.replacen(from, to, 1));
        let (status, text) = said(&stage, &["status"]).await;
        assert_eq!(status, 0, "{to}: {text}");
        assert!(text.contains(&format!("tokenkeep.toml:{line}:")), "{to}: {text}");
        assert!(text.contains("1 token: 1 alive"), "{to}: {text}");
    }
    // Where no socket is legible, the broken line is named beside the failure.
    stage.write("tokenkeep.toml", "[control\nsockt = 1\n");
    let (status, text) = said(&stage, &["status"]).await;
    assert_eq!(status, UNAVAILABLE, "{text}");
    assert!(text.contains("tokenkeep.toml:1:") && text.contains("/run/tokenkeep"), "{text}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_narrow_terminal_shows_the_time_left_instead_of_the_bar() {
    let server = mortal_simulator().await;
    let (stage, daemon) = three(&server).await;
    for columns in [60, 50] {
        let shown = on_a_terminal(tokenkeep(&stage, &["status"]), columns, false).await;
        let row = |state: &str| {
            shown.lines().rfind(|line| line.contains(&format!(" {state} "))).expect("a row")
        };
        assert!(row("alive").contains("7 d ") && row("paused").contains("8 d "), "{shown}");
        assert!(!shown.contains(['█', '░']), "{shown}");
        let table = shown.lines().skip_while(|line| !line.trim().is_empty());
        let widest = table.map(|line| line.chars().count()).max();
        assert!(widest <= Some(usize::from(columns) + 1), "{shown}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_pattern_is_revoked_only_after_a_confirmation() {
    let server = simulator().await;
    let names = ["quotes-1", "quotes-2", "orders"];
    let tables = names.map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables));
    for name in names {
        server.add_token(&stage.token(name), seconds(3_600));
    }
    let daemon = stage.start();
    for name in names {
        daemon.event("token_checked", name).await;
    }
    for pattern in ["*", "quotes-?", "quotes-[1]"] {
        let (status, text) = said(&stage, &["revoke", pattern]).await;
        assert_eq!(status, 64, "{pattern}: {text}");
        assert!(text.contains("--yes") && text.contains("quotes-1"), "{text}");
    }
    for (answer, question) in [("\n", "revoke 3 tokens"), ("n\n", "orders, quotes-1, quotes-2")] {
        let terminal = Terminal::start(tokenkeep(&stage, &["revoke", "*"]));
        terminal.until(|text| text.contains(question) && text.contains("[y/N]")).await;
        terminal.write(answer);
        terminal.until(|text| text.contains("nothing was done")).await;
    }
    assert_eq!(calls(&server, Endpoint::Revoke), 0);

    let terminal = Terminal::start(tokenkeep(&stage, &["revoke", "quotes-[1]"]));
    terminal.until(|text| text.contains("revoke 1 token (quotes-1)? [y/N]")).await;
    terminal.write("y\n");
    terminal.until(|text| text.contains("quotes-1: ")).await;
    assert_eq!(calls(&server, Endpoint::Revoke), 1);
    // Exact names and --yes are for scripts.
    let (status, text) = said(&stage, &["revoke", "quotes-2"]).await;
    assert_eq!(status, 0, "{text}");
    let (status, text) = said(&stage, &["revoke", "--yes", "ord*"]).await;
    assert_eq!((status, calls(&server, Endpoint::Revoke)), (0, 3), "{text}");
    daemon.stop().await;
}
