//! Applications that are reloaded after their token was replaced: the examples of docs/notify.md,
//! with the shipped unit.

use std::fs;
use std::path::Path;

use crate::machine::{Machine, QUOTES, entries, give, run, systemctl, until, write};

const NOTIFY: &str = include_str!("../../docs/notify.md");
const RELOADS: &str = "/run/quotes-reloads";

/// The first example in this language that contains `mark`.
fn example(language: &str, mark: &str) -> &'static str {
    let blocks = NOTIFY.split("```").skip(1).step_by(2);
    let mut examples = blocks.filter_map(|block| block.strip_prefix(language));
    examples.find(|example| example.contains(mark)).expect("the example").trim_start()
}

/// Starts an application that notes its reloads.
async fn start_application() {
    let unit = format!(
        "[Service]\nExecStart=/bin/sleep infinity\n\
         ExecReload=/bin/sh -c 'echo reloaded >>{RELOADS}'\n"
    );
    write("/etc/systemd/system/quotes-app.service", &unit, 0o644);
    systemctl(&["daemon-reload"]).await;
    systemctl(&["start", "quotes-app"]).await;
}

/// Puts a new value into the file of the token, as its owner does.
fn replace_value(machine: &Machine) {
    let new = format!("{QUOTES}-new");
    machine.server.add_token(&new, std::time::Duration::from_secs(300));
    write("/var/lib/tokenkeep/quotes.new", &new, 0o600);
    give("/var/lib/tokenkeep/quotes.new");
    fs::rename("/var/lib/tokenkeep/quotes.new", "/var/lib/tokenkeep/quotes.token")
        .expect("renamed");
}

async fn reloaded() {
    until("the application is reloaded", async || fs::metadata(RELOADS).is_ok()).await;
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn notify_reloads_an_application_by_the_polkit_rule_of_the_documentation() {
    if !Path::new("/usr/lib/polkit-1/polkitd").exists() {
        return eprintln!("skipped: polkit is not installed (Debian: polkitd)");
    }
    let rule = example("js\n", "polkit.addRule");
    write("/etc/polkit-1/rules.d/50-tokenkeep.rules", rule, 0o644);
    systemctl(&["start", "dbus.service", "polkit.service"]).await;
    start_application().await;
    let machine = Machine::keeping_with(example("toml\n", "quotes-app")).await;
    replace_value(&machine);
    reloaded().await;
    assert_eq!(entries("token_replaced").await.len(), 1);
    assert!(entries("notify_failed").await.is_empty());
    // The rule permits nothing else.
    let stop = ["--reuid=tokenkeep", "--regid=tokenkeep", "--clear-groups", "systemctl", "stop"];
    let refused = crate::machine::attempt("setpriv", &[&stop[..], &["quotes-app"]].concat()).await;
    assert!(!refused.status.success(), "{refused:?}");
    run("systemctl", &["is-active", "quotes-app"]).await;
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn path_unit_of_the_documentation_reloads_an_application() {
    start_application().await;
    let machine = Machine::keeping().await;
    for unit in ["quotes-app-reload.path", "quotes-app-reload.service"] {
        let path = format!("/etc/systemd/system/{unit}");
        write(&path, example("ini\n", &path), 0o644);
    }
    systemctl(&["daemon-reload"]).await;
    systemctl(&["enable", "--now", "quotes-app-reload.path"]).await;
    replace_value(&machine);
    reloaded().await;
}
