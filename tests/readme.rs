//! What README.md and docs/ promise: examples load, commands and links exist, tables are true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokenkeep::event_log::EventName;
use tokenkeep::hook::{Invocation, run};
use tokenkeep::settings::{Warning, WarningKind, load};
use toml::Table;

const README: &str = include_str!("../README.md");
const CHECKS: &str = include_str!("../docs/checks.md");
const COMMANDS: &str = include_str!("../docs/commands.md");
const CONFIGURATION: &str = include_str!("../docs/configuration.md");
const EVENTS: &str = include_str!("../docs/events.md");
const HOOKS: &str = include_str!("../docs/hooks.md");
const INSTALLATION: &str = include_str!("../docs/installation.md");
const PROFILES: &str = include_str!("../docs/profiles.md");

/// A page of the documentation.
struct Page {
    path: PathBuf,
    text: String,
}

/// README.md, CHANGELOG.md and every page below docs/.
fn pages() -> Vec<Page> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    for folder in ["docs", "docs/development"] {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(entries.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    }
    let read = |path: PathBuf| Page { text: fs::read_to_string(&path).unwrap(), path };
    paths.into_iter().map(read).collect()
}

/// The pages for users: all but those for maintainers.
fn user_pages() -> impl Iterator<Item = Page> {
    pages().into_iter().filter(|page| !page.path.starts_with("docs/development"))
}

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

/// The lines outside code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        in_block ^= is_fence;
        !in_block && !is_fence
    })
}

/// The contents of the code spans of a text.
fn code_spans(text: &str) -> Vec<String> {
    let prose = prose(text).collect::<Vec<_>>().join("\n");
    prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
}

/// The anchors of a page's sections, as GitHub builds them.
fn anchors(text: &str) -> BTreeSet<String> {
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').strip_prefix(' ')?;
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
    };
    prose(text).filter(|line| line.starts_with('#')).filter_map(anchor).collect()
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

/// The plan that `check-config` prints for the example.
fn plan() -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenkeep.toml");
    fs::write(&path, &blocks(CONFIGURATION, "toml")[0]).unwrap();
    let output = tokenkeep(&["check-config", "--config", path.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The example with the servers, re-authentication methods, tokens and users of profiles that an
/// excerpt leaves out.
fn completed(example: &str) -> String {
    let parsed: Table = example.parse().unwrap_or_else(|error| panic!("{example}{error}"));
    let tables = |kind: &str| {
        let entries = parsed.get(kind).and_then(toml::Value::as_table).into_iter().flatten();
        entries.filter_map(|(name, entry)| Some((name.as_str(), entry.as_table()?)))
    };
    let named = |key: &'static str| {
        let users = tables("token").chain(tables("inventory"));
        users.filter_map(move |(_, entry)| entry.get(key)?.as_str()).collect::<BTreeSet<_>>()
    };
    let defined = |kind: &str| tables(kind).map(|(name, _)| name).collect::<BTreeSet<_>>();
    let mut text = example.to_owned();
    for name in named("server").difference(&defined("server")) {
        text += &format!("[server.{name}]\nurl = \"https://s.example\"\n");
    }
    for name in named("reauth").difference(&defined("reauth")) {
        text += &format!("[reauth.{name}]\ncommand = [\"/bin/true\"]\n");
    }
    let used: BTreeSet<_> =
        tables("server").filter_map(|(_, server)| server.get("profile")?.as_str()).collect();
    for name in defined("profile").difference(&used) {
        text += &format!(
            "[server.{name}]\nurl = \"https://s.example\"\nprofile = \"{name}\"\n\
             [token.{name}]\nserver = \"{name}\"\nenv = \"OF_PROFILE\"\n"
        );
    }
    let unused: Vec<_> = defined("reauth").difference(&named("reauth")).copied().collect();
    let patterns = tables("notify").filter_map(|(_, entry)| entry.get("tokens")?.as_array());
    let matching: BTreeSet<_> =
        patterns.flatten().filter_map(|name| Some(name.as_str()?.replace('*', "1"))).collect();
    let absent = matching.iter().filter(|name| !defined("token").contains(name.as_str()));
    let mut tokens: Vec<_> = absent.map(|name| (name.clone(), String::new())).collect();
    let user = |name: &str| (format!("{name}-user"), format!("reauth = \"{name}\"\n"));
    tokens.extend(unused.into_iter().map(user));
    if defined("token").is_empty() && tokens.is_empty() {
        tokens.push(("other".to_owned(), String::new()));
    }
    if !tokens.is_empty() {
        text += "[server.other]\nurl = \"https://s.example\"\n";
    }
    for (number, (name, keys)) in tokens.iter().enumerate() {
        text += &format!("[token.{name}]\nserver = \"other\"\nenv = \"T{number}\"\n{keys}");
    }
    text
}

#[test]
fn every_example_of_a_configuration_loads_without_an_unexpected_warning() {
    let examples: Vec<_> = user_pages().flat_map(|page| blocks(&page.text, "toml")).collect();
    assert!(examples.len() >= 12, "{}", examples.len());
    for example in examples {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenkeep.toml");
        let text = completed(&example);
        fs::write(&path, &text).unwrap();
        let loaded =
            load(&path, std::iter::empty()).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        // A life that a profile assumes is always a warning.
        let is_expected = |warning: &Warning| warning.kind == WarningKind::AssumedLife;
        assert!(loaded.warnings.iter().all(is_expected), "{text}\n{:?}", loaded.warnings);
    }
}

#[test]
fn page_of_profiles_names_each_profile() {
    let rows = rows(PROFILES, "| profile |");
    let listed: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(listed, tokenkeep::profile::BUILTIN.map(|profile| profile.name));
    for entry in fs::read_dir("contrib/profiles").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(PROFILES.contains(&format!("`{name}`")), "{name}");
        let text = fs::read_to_string(&path).unwrap();
        let untried = "# from the vendor's documentation, not tried on a server\n";
        assert!(text.starts_with(untried), "{name}");
        assert!(text.contains(&format!("\n[profile.{name}]\n")), "{name}");
    }
}

#[test]
fn configurations_in_the_kubernetes_manifests_load_without_a_warning() {
    for name in ["sidecar", "standalone"] {
        let manifest = fs::read_to_string(format!("contrib/kubernetes/{name}.yaml")).unwrap();
        let after = manifest.split_once("  tokenkeep.toml: |\n").unwrap().1;
        let lines = after.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
        let text = lines.map(str::trim_start).collect::<Vec<_>>().join("\n");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenkeep.toml");
        fs::write(&path, &text).unwrap();
        let loaded =
            load(&path, std::iter::empty()).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
    }
}

/// The subcommand and options of each call of tokenkeep in a line of shell.
fn calls(line: &str) -> Vec<Vec<String>> {
    let words = |part: &str| {
        let part = part.trim().strip_prefix("sudo ").unwrap_or(part.trim());
        let rest = part.strip_prefix("tokenkeep ")?;
        Some(rest.split_whitespace().map(str::to_owned).collect())
    };
    line.split(['&', '|', ';']).filter_map(words).collect()
}

#[test]
fn every_command_and_option_of_the_documentation_exists() {
    let mut seen = BTreeSet::new();
    for Page { path, text } in user_pages().filter(|page| page.path != Path::new("CHANGELOG.md")) {
        let blocks = blocks(&text, "sh").join("\n");
        let lines = blocks.lines().map(str::to_owned).chain(code_spans(&text));
        for call in lines.flat_map(|line| calls(&line)) {
            let is_command =
                |word: &&String| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            let command =
                call.iter().find(|word| !word.starts_with('-')).filter(is_command).cloned();
            let help = match command.as_deref() {
                Some("help") => continue,
                Some(command) => tokenkeep(&["help", command]),
                None => tokenkeep(&["help"]),
            };
            assert!(help.status.success(), "{}: {call:?}", path.display());
            let help = String::from_utf8(help.stdout).unwrap();
            for option in call.iter().filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().unwrap();
                assert!(help.contains(option), "{}: {call:?}: {option}", path.display());
            }
            seen.extend(command);
        }
    }
    for command in ["check-config", "demo", "doctor", "status", "token"] {
        assert!(seen.contains(command), "{command}: {seen:?}");
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_section() {
    let mut dead = Vec::new();
    for Page { path, text } in pages() {
        let prose = prose(&text).collect::<Vec<_>>().join("\n");
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let found = match fs::read_to_string(&target) {
                Ok(text) => section.is_empty() || anchors(&text).contains(section),
                Err(_) => section.is_empty() && target.exists(),
            };
            if !found {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn readme_has_at_most_1000_words_and_links_every_page_for_users() {
    assert!(README.split_whitespace().count() <= 1000);
    for page in user_pages().filter(|page| page.path != Path::new("README.md")) {
        let path = page.path.to_str().unwrap();
        assert!(README.contains(&format!("]({path}")), "{path}");
    }
}

/// `.ci/run` runs both.
#[test]
fn readme_has_one_command_for_the_demo_and_one_for_the_tests() {
    assert_eq!(blocks(README, "sh")[0], "cargo run --release -- demo\ncargo test --locked\n");
}

#[test]
fn quick_start_configuration_has_eight_lines() {
    let example = &blocks(README, "toml")[0];
    assert_eq!(example.lines().count(), 8, "{example}");
}

#[test]
fn readme_and_installation_page_have_the_same_commands_for_the_package() {
    let of =
        |text: &str| blocks(text, "sh").into_iter().find(|block| block.contains(".ci/package"));
    assert!(of(README).is_some());
    assert_eq!(of(README), of(INSTALLATION));
    for path in ["systemd/tokenkeep.service", "systemd/tokenkeep.sysusers"] {
        assert!(INSTALLATION.contains(path) && Path::new(path).exists(), "{path}");
    }
}

#[test]
fn table_of_lives_agrees_with_check_config() {
    let plan = plan();
    let rows = rows(CHECKS, "| life |");
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
fn table_of_events_lists_every_event_with_its_level() {
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
fn table_of_exit_statuses_agrees_with_the_program() {
    let table: Vec<_> = rows(COMMANDS, "| status |").iter().map(|row| row[0]).collect();
    assert_eq!(table, ["0", "1", "2", "64", "69", "70", "75", "77", "78"]);
    assert_eq!(tokenkeep(&[]).status.code(), Some(64));
    let missing = ["run", "--config", "/there/is/no/such/file.toml"];
    assert_eq!(tokenkeep(&missing).status.code(), Some(78));
}

#[tokio::test(flavor = "current_thread")]
async fn table_of_variables_lists_the_environment_of_a_command() {
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
    .await
    .expect("it ends well");
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
fn example_of_a_command_is_a_shell_script() {
    let scripts = blocks(HOOKS, "sh");
    let script = scripts.iter().find(|block| block.starts_with("#!/bin/sh")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relogin");
    fs::write(&path, script).unwrap();
    let checked = Command::new("/bin/sh").arg("-n").arg(path).stdin(Stdio::null()).status();
    assert!(checked.unwrap().success());
}
