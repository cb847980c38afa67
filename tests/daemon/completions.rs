//! Completions as people meet them: the scripts in real shells, beside a running daemon.

use std::fs;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{Daemon, PATIENCE, Stage, Terminal, server_table, simulator};

/// Names that are hard on shells, one of them twice as a beginning.
const NAMES: [&str; 7] =
    ["quotes", "quotes-2", "a b", "it's \"$HOME\" `x`!", "c:d=e", "f*g", "ö~(h)"];

/// A daemon that keeps tokens of these names.
async fn keeping(names: &[String]) -> (Stage, Daemon) {
    let server = simulator().await;
    let inventory = "[inventory.crowd]\nserver = \"sarus\"\nfile = \"$DIR/crowd.jsonl\"\n";
    let stage = Stage::new(&(server_table("sarus", &server, "") + inventory));
    let line = |name| serde_json::json!({ "name": name, "token": "v" }).to_string() + "\n";
    stage.write("crowd.jsonl", &names.iter().map(line).collect::<String>());
    let daemon = stage.start();
    daemon.event("inventory_loaded", "").await;
    (stage, daemon)
}

async fn named() -> (Stage, Daemon) {
    keeping(&NAMES.map(str::to_owned)).await
}

fn is_there(shell: &str) -> bool {
    let status = std::process::Command::new(shell)
        .args(["-c", "exit"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// A shell in which the program is found, and its completions for that shell are in a file.
fn shell(stage: &Stage, shell: &str, arguments: &[&str]) -> Command {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_tokenkeep"));
    let script = std::process::Command::new(program).args(["completions", shell]).output();
    let script = String::from_utf8(script.expect("it runs").stdout).expect("UTF-8");
    fs::write(stage.path("completions"), script).expect("written");
    let folder = program.parent().expect("a folder").display();
    let mut command = Command::new(shell);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", format!("{folder}:/usr/local/bin:/usr/bin:/bin"))
        .env("HOME", stage.path(""))
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "dumb")
        .current_dir(stage.path(""))
        .kill_on_drop(true);
    command
}

/// Types lines with tabs into a shell, each after what makes it be run: a stand-in that tells
/// the arguments that have come of it. A line is typed anew until it has come to what it is to
/// come to: on a busy machine the names may be too late for a prompt.
async fn typed(terminal: Terminal, setup: &str, lines: &[(String, &[&str])]) {
    // What is typed is shown as well: the words that are waited for do not stand in it.
    terminal.write(&format!(
        "{setup}\nPS1='rea''dy> '\ntokenkeep() {{ printf '<%s>' \"$@\"; echo '<end''>'; }}\ntokenkeep\n"
    ));
    let is_ready =
        |text: &str| text.rsplit_once("<end>").is_some_and(|(_, after)| after.contains("ready> "));
    for (line, wanted) in lines {
        let wanted = format!("<{}><end>", wanted.join("><"));
        let come = async {
            loop {
                terminal.until(is_ready).await;
                let before = terminal.written().len();
                terminal.write(&format!("{line}\n"));
                terminal.until(|text| text[before..].contains("<end>")).await;
                if terminal.written()[before..].contains(&wanted) {
                    break;
                }
            }
        };
        let come = timeout(PATIENCE, come).await;
        assert!(come.is_ok(), "{line:?} does not come to {wanted}:\n{}", terminal.written());
    }
}

/// What is typed, and what is to come of it.
fn lines(stage: &Stage) -> Vec<(String, &'static [&'static str])> {
    let config = format!("tokenkeep --config {}", stage.path("tokenkeep.toml").display());
    let socket = format!("--socket {}", stage.path("control.sock").display());
    vec![
        (format!("{config} check qu\t"), &["check", "quotes"]),
        (format!("{config} token quotes-\t"), &["token", "quotes-2"]),
        (format!("{config} pause a\t"), &["pause", "a b"]),
        (format!("{config} pause 'a \t"), &["pause", "a b"]),
        (format!("{config} resume a\\ \t"), &["resume", "a b"]),
        (format!("{config} revoke it\t"), &["revoke", NAMES[3]]),
        (format!("{config} reauth c\t f\t"), &["reauth", "c:d=e", "f*g"]),
        (format!("{config} status ö\t"), &["status", "ö~(h)"]),
        (format!("{config} completions \tba\t"), &["completions", "bash"]),
        (format!("tokenkeep check {socket} a\t"), &["a b"]),
        ("tokenkeep --config ~/tokenkeep.toml check a\t".to_owned(), &["check", "a b"]),
    ]
}

#[tokio::test]
async fn bash_completes_names_of_the_running_daemon() {
    let (stage, daemon) = named().await;
    let bash = shell(&stage, "bash", &["--norc", "--noprofile", "-i"]);
    let mut more = lines(&stage);
    let config = format!("tokenkeep --config {}", stage.path("tokenkeep.toml").display());
    more.push((format!("{config} check \"it\t"), &["check", NAMES[3]]));
    more.push((format!("{config} check 'it\t"), &["check", NAMES[3]]));
    more.push((format!("{config} check c:\t"), &["check", "c:d=e"]));
    typed(Terminal::start(bash), "source ./completions", &more).await;
    daemon.stop().await;
}

#[tokio::test]
async fn zsh_completes_names_of_the_running_daemon() {
    if !is_there("zsh") {
        return eprintln!("skipped: there is no zsh");
    }
    let (stage, daemon) = named().await;
    let zsh = shell(&stage, "zsh", &["-f", "-i"]);
    let setup = "autoload -U compinit && compinit -u -D && source ./completions";
    typed(Terminal::start(zsh), setup, &lines(&stage)).await;
    daemon.stop().await;
}

#[tokio::test]
async fn fish_completes_names_of_the_running_daemon() {
    if !is_there("fish") {
        return eprintln!("skipped: there is no fish");
    }
    let (stage, daemon) = named().await;
    let config = format!("tokenkeep --config {}", stage.path("tokenkeep.toml").display());
    for (line, wanted) in [
        ("check qu", &["quotes", "quotes-2"][..]),
        ("check quotes a\\ ", &["a b"]),
        ("check 'it", &[NAMES[3]]),
        ("token f", &["f*g"]),
    ] {
        let offered = async {
            loop {
                let command = "source ./completions; complete -C \"$argv[1]\"";
                let line = format!("{config} {line}");
                let mut fish = shell(&stage, "fish", &["--no-config", "-c", command, &line]);
                let output = fish.output().await.expect("it runs");
                let said = String::from_utf8(output.stdout).expect("UTF-8");
                if said.lines().collect::<Vec<_>>() == wanted {
                    break;
                }
            }
        };
        assert!(timeout(PATIENCE, offered).await.is_ok(), "{line}");
    }
    daemon.stop().await;
}

/// What the hidden command says at the end of this line, and its exit status.
async fn said(stage: &Stage, line: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.args(["complete-names", "--", line]).args(more).current_dir(stage.path(""));
    let output = timeout(PATIENCE, command.output()).await.expect("an end").expect("it runs");
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

#[tokio::test]
async fn completion_without_a_daemon_is_empty_and_silent() {
    let stage = Stage::new("");
    for line in [
        "tokenkeep --config nowhere.toml check ",
        "tokenkeep --config tokenkeep.toml check ",
        "tokenkeep check --socket control.sock ",
    ] {
        assert_eq!(said(&stage, line, &[]).await, (Some(0), String::new()), "{line}");
    }
    let listener = std::os::unix::net::UnixListener::bind(stage.path("control.sock"));
    let line = "tokenkeep check --socket control.sock ";
    let (status, text) = said(&stage, line, &[]).await;
    assert_eq!((status, &*text), (Some(0), ""), "one that is silent is not waited for");
    drop(listener);
    assert_eq!(said(&stage, "tokenkeep run ", &[]).await.0, Some(1));
}

#[tokio::test]
async fn completion_offers_a_bounded_number_of_names() {
    let names: Vec<_> = (0..1_500).map(|number| format!("client-{number}")).collect();
    let (stage, daemon) = keeping(&names).await;
    let offered = async {
        loop {
            let line = "tokenkeep check --socket control.sock cli";
            let (_, text) = said(&stage, line, &["cli"]).await;
            if !text.is_empty() {
                break text;
            }
        }
    };
    let offered = timeout(PATIENCE, offered).await.expect("names in time");
    assert_eq!(offered.lines().count(), 1_001);
    assert_eq!(offered.lines().next(), Some("cli"), "all that is common to them for sure");
    daemon.stop().await;
}
