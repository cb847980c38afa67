//! What a terminal or a line of a log would not show as it is, in names, paths and details: none
//! of it reaches one raw, and JSON keeps it.

use std::process::Stdio;

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;
use tokio::process::Command;
use tokio::time::timeout;

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{
    Daemon, PATIENCE, Stage, Terminal, get, seconds, secret, server_table, simulator, until,
};

/// Of each kind: formats (bidirectional, zero-width, tags, ...), separators of lines and
/// paragraphs, and letters and marks that are displayed as nothing.
const HOSTILE: &str = "\u{ad}\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\
    \u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2061}\u{2064}\u{2066}\u{2067}\u{2068}\
    \u{2069}\u{206a}\u{feff}\u{fff9}\u{fffb}\u{110bd}\u{1d173}\u{e0001}\u{e0041}\u{e007f}\u{34f}\
    \u{115f}\u{1160}\u{17b4}\u{180e}\u{2800}\u{3164}\u{fe0f}\u{ffa0}\u{e0100}";

/// Controls of both sets, which no name may have.
const CONTROLS: &str =
    "\u{1}\u{7}\u{8}\t\r\n\u{b}\u{c}\u{e}\u{1b}[2J\u{7f}\u{80}\u{85}\u{9b}31m\u{9f}";

/// Names of tokens with all of [`HOSTILE`].
fn names() -> Vec<String> {
    let characters: Vec<_> = HOSTILE.chars().collect();
    let name = |(number, part): (usize, &[char])| format!("t{number}-{}x", String::from_iter(part));
    characters.chunks(8).enumerate().map(name).collect()
}

/// Fails if a terminal would not show `text` as it is. `styled`: sequences of ours are in it.
fn is_harmless(what: &str, text: &str, styled: bool) {
    let allowed: &[char] = if styled { &['\n', '\r', '\u{1b}'] } else { &['\n'] };
    let bad = |c: &char| HOSTILE.contains(*c) || (c.is_control() && !allowed.contains(c));
    assert_eq!(text.chars().find(bad), None, "{what}: {text:?}");
    assert!(!text.contains("\u{1b}[2J"), "{what}: {text:?}");
}

/// TOML's form of a text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Tokens of these names: the last one has no file, and all but the first expire with a hostile
/// explanation. The server's name is hostile too.
fn staged(server: &Simulator) -> (Stage, Vec<String>) {
    let names = names();
    let host = format!("s-{}x", &HOSTILE[..HOSTILE.len() / 2]);
    let table = server_table("x", server, "").replacen(
        "[server.x]",
        &format!("[server.{}]", quoted(&host)),
        1,
    );
    let tokens = names.iter().enumerate().map(|(number, name)| {
        format!(
            "[token.{}]\nserver = {}\nfile = \"$DIR/{number}\u{202e}.token\"\n",
            quoted(name),
            quoted(&host)
        )
    });
    let stage = Stage::new(&(table + &tokens.collect::<String>()));
    for number in 0..names.len() - 1 {
        let value = secret(&format!("value-{number}"));
        stage.write(&format!("{number}\u{202e}.token"), &value);
        server.add_token(&value, seconds(3_600));
        if number > 0 {
            let detail = format!("gone {HOSTILE} {CONTROLS} for ever");
            let trouble = Trouble::Error { status: 410, detail };
            server.plan_fault(Plan::once(trouble).for_token(&value));
        }
    }
    (stage, names)
}

async fn started(stage: &Stage, names: &[String]) -> Daemon {
    let daemon = stage.start();
    daemon.event("token_checked", &names[0]).await;
    for name in &names[1..names.len() - 1] {
        daemon.event("token_expired", name).await;
    }
    daemon.event("token_missing", &names[names.len() - 1]).await;
    daemon
}

/// What a command writes, standard error included.
async fn said(mut command: Command) -> String {
    let output = timeout(PATIENCE, command.output()).await.expect("an end").expect("it runs");
    String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8")
}

#[tokio::test]
async fn commands_escape_unprintable_characters() {
    let server = simulator().await;
    let (stage, names) = staged(&server);
    let daemon = started(&stage, &names).await;
    let with = |arguments: &[&str]| {
        let mut command = stage.command(arguments[0]);
        command.args(&arguments[1..]);
        command
    };
    for arguments in [
        &["status"][..],
        &["status", "--all"],
        &["status", "--monitor"],
        &["status", "--monitor", "t*"],
        &["status", "no-such\u{202e}"],
        &["check", "t*"],
        &["pause", "t0*"],
        &["resume", "t0*"],
        &["revoke", "t*"],
        &["token", &names[1]],
        &["check-config"],
        &["doctor"],
        &["reload", "--wait"],
    ] {
        let text = said(with(arguments)).await;
        assert!(!text.is_empty(), "{arguments:?}");
        is_harmless(&arguments.join(" "), &text, false);
    }
    for name in &names {
        let text = said(with(&["status", name])).await;
        assert!(text.contains(r"\u{"), "{text}");
        is_harmless("status NAME", &text, false);
    }
    let story = said(with(&["status", &names[1]])).await;
    assert!(story.contains(r"1\u{202e}.token"), "{story}");
    assert!(story.contains("token_expired"), "{story}");

    for arguments in [&["status"][..], &["status", &names[1]]] {
        let mut watching = with(arguments);
        watching.arg("--watch").env("TERM", "xterm");
        let terminal = Terminal::start(watching);
        terminal.until(|text| text.matches("\u{1b}[H").count() > 1 && text.contains(r"\u{")).await;
        is_harmless("--watch", &terminal.written(), true);
    }
    let terminal = Terminal::start(with(&["revoke", "t*"]));
    terminal.until(|text| text.contains("[y/N]")).await;
    is_harmless("the question", &terminal.written(), true);
    terminal.write("n\n");

    // Programs get everything as it is.
    let page = get(&stage, "/v1/tokens?limit=100").await.json();
    let shown = page["tokens"].as_array().expect("a list").iter();
    let shown: Vec<_> = shown.filter_map(|token| token["name"].as_str()).collect();
    assert!(names.iter().all(|name| shown.contains(&name.as_str())), "{shown:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn completions_omit_names_with_unprintable_characters() {
    let server = simulator().await;
    let (stage, names) = staged(&server);
    let text = stage.read("tokenkeep.toml");
    let plain = text.replacen(&quoted(&names[0]), "t-plain", 1);
    stage.write("tokenkeep.toml", &plain);
    let daemon = stage.start();
    daemon.event("token_checked", "t-plain").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    let config = stage.path("tokenkeep.toml");
    let line = format!("tokenkeep --config {} status t", config.display());
    command.env_clear().args(["complete-names", "--", &line]);
    let offered = said(command).await;
    assert!(offered.contains("t-plain"), "{offered:?}");
    is_harmless("completions", &offered, false);
    daemon.stop().await;
}

#[tokio::test]
async fn configuration_errors_escape_unprintable_characters() {
    let server = simulator().await;
    let (stage, names) = staged(&server);
    let daemon = started(&stage, &names).await;
    let good = stage.read("tokenkeep.toml");
    for wrong in [
        "\"k\u{202e}\u{200b}\u{2028}\" = 1\n".to_owned(),
        format!("[token.\"a{HOSTILE}\"]\nserver = \"no\u{202e}where\"\nfile = \"/x\"\n"),
        "[log]\nlevel = \"in\u{202e}fo\u{200b}\"\n".to_owned(),
        "x = \u{202e}\u{200b}\u{85}\u{9b}31m \u{7f}\n".to_owned(),
    ] {
        stage.write("tokenkeep.toml", &format!("{good}\n{wrong}"));
        for arguments in [&["check-config"][..], &["reload", "--wait"], &["status"], &["doctor"]] {
            let mut command = stage.command(arguments[0]);
            command.args(&arguments[1..]);
            let text = said(command).await;
            is_harmless(arguments[0], &text, false);
            let terminal = {
                let mut command = stage.command(arguments[0]);
                command.args(&arguments[1..]);
                crate::support::on_a_terminal(command, 100, true).await
            };
            is_harmless(arguments[0], &terminal, true);
        }
    }
    let told = said(stage.command("check-config")).await;
    assert!(told.contains("tokenkeep.toml:"), "{told}");
    daemon.stop().await;
}

#[tokio::test]
async fn log_lines_escape_unprintable_characters() {
    for format in ["text", "logfmt"] {
        let server = simulator().await;
        let (stage, names) = staged(&server);
        let log = std::fs::File::create(stage.path("log")).expect("a file");
        let mut command = stage.command("run");
        command.env("TOKENKEEP__LOG__FORMAT", format).stdout(log).stderr(Stdio::null());
        let mut child = command.spawn().expect("it runs");
        until("all is logged", || {
            let log = stage.read("log");
            log.matches("token_expired").count() >= names.len() - 2 && log.contains("token_missing")
        })
        .await;
        let pid = rustix::process::Pid::from_raw(child.id().expect("running").cast_signed());
        rustix::process::kill_process(pid.expect("a process"), Signal::TERM).expect("it runs");
        timeout(PATIENCE, child.wait()).await.expect("an end").expect("a status");
        let log = stage.read("log");
        is_harmless(format, &log, false);
        assert!(log.contains(r"\u{202e}"), "{log}");
        let begins = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit() || c == 't');
        assert_eq!(log.lines().find(|line| !begins(line)), None, "each record is one line");
    }
}
