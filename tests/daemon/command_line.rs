//! The command line: what each command says, and with which status it ends.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{
    ISSUED, Line, PATIENCE, Stage, millis, seconds, server_table, simulator, token_table,
};

const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;
const CONFIGURATION: i32 = 78;

/// A configuration that is good; nothing listens there.
const GOOD: &str = r#"
[schedule]
jitter = 0.05
[server.sarus]
url = "http://127.0.0.1:9/api/"
[reauth.relogin]
command = ["/usr/local/libexec/relogin", "--profile", "quotes"]
[token.quotes]
server = "sarus"
file = "$DIR/quotes.token"
reauth = "relogin"
[token.orders]
server = "sarus"
env = "ORDERS"
"#;

async fn run(mut command: Command) -> Output {
    timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[tokio::test]
async fn wrong_usage_exits_64_and_help_exits_0() {
    for (arguments, status) in [
        (&[][..], USAGE),
        (&["frobnicate"], USAGE),
        (&["run", "--nonsense"], USAGE),
        (&["run", "--config"], USAGE),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["run", "--help"], 0),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
        command.args(arguments);
        let output = run(command).await;
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        let said = if status == 0 { &output.stdout } else { &output.stderr };
        assert!(!said.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn all_configuration_errors_are_reported_at_once_with_place_and_remedy() {
    let stage = Stage::new(
        "[schedule]\njitter = 3\ncheck_after = \"x\"\n[server.sarus]\nurl = \"http://api.example.net\"\n\
         timeout = \"10\"\nrate_limit = 3.7\n[token.quotes]\nserver = \"sarsu\"\nunknown = 1\n",
    );
    stage.write("conf.d/10-more.toml", "[token.orders]\nserver = \"sarus\"\n");
    for subcommand in ["run", "check-config", "print-config"] {
        let output = run(stage.command(subcommand)).await;
        assert_eq!(output.status.code(), Some(CONFIGURATION), "{subcommand}");
        if subcommand != "run" {
            assert!(output.stdout.is_empty(), "{subcommand}: {}", text(&output.stdout));
        }
        let said = text(&output.stderr);
        for wanted in [
            "tokenkeep.toml:3:1:",
            "tokenkeep.toml:4:1:",
            "tokenkeep.toml:6:1:",
            "tokenkeep.toml:7:1:",
            "tokenkeep.toml:8:1:",
            "did you mean \"sarus\"",
            "tokenkeep.toml:11:1:",
            "allow_http",
            "10-more.toml:1:8:",
        ] {
            assert!(said.contains(wanted), "{subcommand} does not say {wanted}:\n{said}");
        }
    }
}

#[tokio::test]
async fn missing_configuration_exits_78() {
    let stage = Stage::new(GOOD);
    fs::remove_file(stage.path("tokenkeep.toml")).expect("removed");
    let output = run(stage.command("run")).await;
    assert_eq!(output.status.code(), Some(CONFIGURATION));
    let path = stage.path("tokenkeep.toml");
    assert!(text(&output.stderr).contains(path.to_str().expect("UTF-8")));
}

#[tokio::test]
async fn second_daemon_with_the_same_state_dir_exits_69() {
    let server = simulator().await;
    let stage = Stage::new(
        &[server_table("sarus", &server, ""), token_table("quotes", "sarus", "")].concat(),
    );
    server.add_token(&stage.token("quotes"), seconds(4));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let second = stage.start().ended().await;
    assert_eq!(second.status.code(), Some(UNAVAILABLE));
    assert!(second.stderr.contains("state"), "{}", second.stderr);
    daemon.more(1, "token_checked", "quotes").await;
    daemon.stop().await;
}

#[tokio::test]
async fn check_config_prints_the_plan_of_every_token() {
    let stage = Stage::new(GOOD);
    let output = run(stage.command("check-config")).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for wanted in ["token quotes", "token orders", "first check", "environment variable ORDERS"] {
        assert!(said.contains(wanted), "{wanted}:\n{said}");
    }
    for life in ["1 min", "30 min", "24 h"] {
        let plans = said.lines().filter(|line| line.contains(&format!("life {life}")));
        assert_eq!(
            plans.filter(|line| line.contains("survives any outage of")).count(),
            2,
            "{said}"
        );
    }
    assert!(said.contains("relogin runs /usr/local/libexec/relogin"), "{said}");
}

#[tokio::test]
async fn output_of_print_config_is_a_configuration_with_the_same_output() {
    let stage = Stage::new(GOOD);
    let first = run(stage.command("print-config")).await;
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert!(text(&first.stdout).contains("jitter = 0.05"));
    stage.configure(text(&first.stdout));
    let second = run(stage.command("print-config")).await;
    assert_eq!(text(&second.stdout), text(&first.stdout), "{}", text(&second.stderr));
}

#[tokio::test]
async fn print_config_shows_what_the_environment_overrides() {
    let stage = Stage::new(GOOD);
    let mut command = stage.command("print-config");
    command.env("TOKENKEEP__SCHEDULE__JITTER", "0.25");
    let output = run(command).await;
    assert!(text(&output.stdout).contains("jitter = 0.25"), "{}", text(&output.stdout));
}

#[tokio::test]
async fn demo_shows_every_feature_and_no_token_value() {
    let stage = Stage::new("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.arg("demo").env("TMPDIR", stage.path("")).kill_on_drop(true);
    let (output, secrets) = tokio::join!(timeout(seconds(25), command.output()), secrets(&stage));
    let output = output.expect("it ends in time").expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(secrets.len() >= 6, "tokens, a key and a new token: {}", secrets.len());
    for secret in secrets.iter().map(String::as_str).chain([ISSUED]) {
        assert!(!said.contains(secret), "a secret in:\n{said}");
    }
    let lines: Vec<_> =
        said.lines().filter(|line| line.starts_with('{')).map(Line::parse).collect();
    let shown = |event: &str, token: &str| lines.iter().any(|line| line.is(event, token));
    let renewed = |line: &&Line| line.is("token_checked", "queried") && line.0["renewed"] == true;
    assert!(lines.iter().filter(renewed).count() >= 5, "a renewal");
    assert!(lines.iter().any(|line| line.0["renews_by"] == "renew"), "a renewal by renewing");
    assert!(shown("token_expired", "relogged"), "an expiry");
    assert!(shown("reauth_succeeded", "relogged"), "a re-auth");
    assert!(shown("token_rejected", "rejected"), "a rejection");
    assert!(!shown("token_expired", "queried") && !shown("token_expired", "renewed"));
    assert!(said.contains("What the servers saw"), "a table at the end");
}

/// The contents of all files with tokens and keys that the demo ever has.
async fn secrets(stage: &Stage) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let end = tokenkeep::clock::now() + seconds(18);
    while tokenkeep::clock::now() < end {
        let folders = fs::read_dir(stage.path("")).expect("a folder").flatten();
        for file in
            folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten().flatten()
        {
            let path = file.path();
            if path.extension().is_some_and(|extension| extension == "token" || extension == "key")
            {
                let content = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
                if !content.is_empty() {
                    found.insert(content);
                }
            }
        }
        tokio::time::sleep(millis(100)).await;
    }
    found
}
