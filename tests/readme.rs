//! What README.md and docs/ promise: examples load, commands exist, tables are true.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokenkeep::event_log::EventName;
use tokenkeep::hook::{Invocation, run};
use tokenkeep::settings::load;

const README: &str = include_str!("../README.md");
const HOOKS: &str = include_str!("../docs/hooks.md");
const EVENTS: &str = include_str!("../docs/events.md");
const METRICS: &str = include_str!("../docs/metrics.md");
const RELEASING: &str = include_str!("../docs/development/releasing.md");

/// The contents of all code blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("```") {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            if found == language {
                blocks.push(block.join("\n") + "\n");
            }
        }
    }
    blocks
}

/// The cells of a table's rows, below its header.
fn rows<'a>(text: &'a str, header: &str) -> Vec<Vec<&'a str>> {
    let table = text.lines().skip_while(|line| !line.starts_with(header)).skip(2);
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect();
    table.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn tokenkeep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tokenkeep")).args(arguments).output().unwrap()
}

/// The plan that `check-config` tells for the README's example.
fn plan() -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenkeep.toml");
    fs::write(&path, &blocks(README, "toml")[0]).unwrap();
    let output = tokenkeep(&["check-config", "--config", path.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_example_of_a_configuration_loads_without_a_warning() {
    let examples = [blocks(README, "toml"), blocks(HOOKS, "toml")].concat();
    assert_eq!(examples.len(), 7);
    for example in examples {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenkeep.toml");
        let text = match example.strip_prefix("[reauth.").and_then(|rest| rest.split(']').next()) {
            // Excerpts: what they need around them.
            None if example.starts_with("[inventory.") || example.starts_with("[token.") => {
                format!("[server.sarus]\nurl = \"https://s.example\"\n{example}")
            }
            None if example.starts_with("[control]") => {
                let token = "[token.t]\nserver = \"s\"\nenv = \"T\"\n";
                format!("[server.s]\nurl = \"https://s.example\"\n{token}{example}")
            }
            Some(name) => format!(
                "[server.s]\nurl = \"https://s.example\"\n\
                 [token.t]\nserver = \"s\"\nenv = \"T\"\nreauth = \"{name}\"\n{example}"
            ),
            None => example.clone(),
        };
        fs::write(&path, text).unwrap();
        let loaded = load(&path, std::iter::empty()).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(loaded.warnings.is_empty(), "{example}{:?}", loaded.warnings);
    }
}

#[test]
fn every_command_that_is_told_to_be_run_exists() {
    let lines = [blocks(README, "sh"), blocks(HOOKS, "sh")].concat().join("\n");
    let commands: Vec<_> = lines
        .lines()
        .filter_map(|line| line.strip_prefix("tokenkeep ")?.split(' ').next())
        .chain(["run", "print-config"])
        .collect();
    assert!(commands.contains(&"check-config") && commands.contains(&"demo"), "{commands:?}");
    for command in commands {
        assert!(tokenkeep(&["help", command]).status.success(), "{command}");
    }
}

#[test]
fn every_file_that_is_named_exists() {
    let texts = [
        ("", README),
        ("docs", HOOKS),
        ("docs", EVENTS),
        ("docs", METRICS),
        ("docs/development", RELEASING),
    ];
    for (folder, text) in texts {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            match link.split_once('#') {
                Some(("", section)) => {
                    let anchor = |line: &str| Some(line.strip_prefix("## ")?.to_lowercase());
                    assert!(text.lines().filter_map(anchor).any(|line| line == section), "{link}");
                }
                Some((path, _)) => assert!(Path::new(folder).join(path).exists(), "{link}"),
                None => assert!(Path::new(folder).join(link).exists(), "{folder}: {link}"),
            }
        }
    }
    for path in ["systemd/tokenkeep.service", "systemd/tokenkeep.sysusers", ".ci/run"] {
        assert!(README.contains(path) && Path::new(path).exists(), "{path}");
    }
}

#[test]
fn the_table_of_lives_says_what_check_config_says() {
    let plan = plan();
    let rows = rows(README, "| life |");
    assert_eq!(rows.len(), 3);
    for row in rows {
        let [life, checked, _, survived] = row[..] else { panic!("{row:?}") };
        let told = plan
            .lines()
            .find(|told| told.trim_start().starts_with(&format!("life {life} ")))
            .unwrap_or_else(|| panic!("{life}: {plan}"));
        assert!(told.contains(&format!("a check every {checked};")), "{row:?}: {told}");
        assert!(told.contains(&format!("any outage of {survived} that")), "{row:?}: {told}");
    }
}

#[test]
fn the_table_of_events_holds_every_event_with_its_level_and_no_other() {
    let rows = rows(EVENTS, "| event |");
    let mut told: Vec<_> = rows.iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
    let contracted = |name: &EventName| {
        (format!("`{}`", name.as_str()), format!("{:?}", name.severity()).to_lowercase())
    };
    let mut contract: Vec<_> = EventName::ALL.iter().map(contracted).collect();
    contract.sort();
    told.sort();
    assert_eq!(told, contract);
}

#[test]
fn the_exit_statuses_of_the_table_that_a_mistake_leads_to_are_true() {
    let table: Vec<_> = rows(README, "| status |").iter().map(|row| row[0]).collect();
    assert_eq!(table, ["0", "1", "2", "64", "69", "70", "75", "77", "78"]);
    assert_eq!(tokenkeep(&[]).status.code(), Some(64));
    let missing = ["run", "--config", "/there/is/no/such/file.toml"];
    assert_eq!(tokenkeep(&missing).status.code(), Some(78));
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_gets_the_environment_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("environment");
    let command = ["/bin/sh", "-c", "/usr/bin/env > \"$0\"", seen.to_str().unwrap()];
    run(Invocation {
        command: &command.map(str::to_owned),
        timeout: Duration::from_secs(10),
        name: "quotes",
        server: "sarus",
        url: "https://api.example.net/",
        reason: "expired",
        status: Some(410),
        detail: Some("gone"),
        attempt: 1,
        file: Some(Path::new("/var/lib/tokenkeep/quotes.token")),
    })
    .await;
    let told = rows(HOOKS, "| variable |");
    let told: Vec<_> = told.iter().flat_map(|row| row[0].split(", ")).collect();
    let seen = fs::read_to_string(seen).unwrap();
    let names = seen.lines().filter_map(|line| line.split('=').next());
    // What a shell sets by itself.
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let given: Vec<_> = names.filter(|name| !own.contains(name)).collect();
    assert!(given.len() >= 9, "{given:?}");
    for name in given {
        assert!(told.contains(&format!("`{name}`").as_str()), "{name}: {told:?}");
    }
}

#[test]
fn the_example_of_a_command_is_a_shell_script() {
    let scripts = blocks(HOOKS, "sh");
    let script = scripts.iter().find(|block| block.starts_with("#!/bin/sh")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relogin");
    fs::write(&path, script).unwrap();
    let checked = Command::new("/bin/sh").arg("-n").arg(path).stdin(Stdio::null()).status();
    assert!(checked.unwrap().success());
}
