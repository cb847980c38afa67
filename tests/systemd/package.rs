//! The package: what the README says, upgrade, removal.

use std::fs;
use std::path::Path;

use crate::machine::{Machine, number, package, property, restarted, run, systemctl, until};

const README: &str = include_str!("../../README.md");

/// The README's commands for an installation.
fn installation() -> Vec<&'static str> {
    let section = README.split("## Install it as a service").nth(1).expect("the section");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("a block").lines().collect()
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn the_readme_s_three_commands_install_a_service_that_is_active_in_a_second() {
    let commands = installation();
    assert_eq!(commands.len(), 3);
    assert_eq!(commands[0], ".ci/package", "the runner has done so for a trial build");
    let machine = Machine::bare().await;
    let install = commands[1].replace("./target/debian/tokenkeep_*.deb", &package("TOKENKEEP_DEB"));
    let install = install.strip_prefix("sudo ").expect("as root");
    run("sh", &["-ec", &format!("{install} --assume-yes </dev/null")]).await;
    let status = run("sh", &["-ec", commands[2]]).await;
    assert!(status.contains("Active: active (running)"), "{status}");
    assert!(status.contains("Status: \"no tokens\""), "{status}");
    assert_eq!(property("UnitFileState").await, "enabled");

    machine.furnish();
    fs::remove_file("/etc/tokenkeep/orders.token").expect("it was there");
    machine.configure("");
    systemctl(&["restart", "tokenkeep"]).await;
    let started = number("InactiveExitTimestampMonotonic").await;
    let took = number("ActiveEnterTimestampMonotonic").await - started;
    assert!(took < 1_000_000, "{took} µs");
    until("the status line tells of the tokens", async || {
        let status = systemctl(&["status", "--no-pager", "tokenkeep"]).await;
        status.contains("Status: \"2 tokens: 1 alive, 1 missing; next check in ")
    })
    .await;

    // What a shell does that completes `tokenkeep check or`.
    let complete = "source /usr/share/bash-completion/completions/tokenkeep
        COMP_LINE='tokenkeep check or' COMP_POINT=18 COMP_WORDS=(tokenkeep check or) COMP_CWORD=2
        _tokenkeep_or_names tokenkeep or check
        echo \"${COMPREPLY[@]}\"";
    assert_eq!(run("bash", &["-c", complete]).await.trim(), "orders");
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn an_upgrade_restarts_the_service_and_no_token_dies() {
    let machine = Machine::keeping().await;
    let process = number("MainPID").await;
    run("dpkg", &["-i", &package("TOKENKEEP_NEWER_DEB")]).await;
    restarted(process).await;
    let installed = run("dpkg-query", &["-W", "-f", "${Version}", "tokenkeep"]).await;
    assert!(installed.starts_with("9999"), "{installed}");
    assert_eq!(property("Result").await, "success");
    machine.checked_again().await;
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn removing_keeps_configuration_and_tokens_and_purging_takes_them() {
    let _machine = Machine::keeping().await;
    let kept = ["/etc/tokenkeep/tokenkeep.toml", "/var/lib/tokenkeep/quotes.token"];
    run("dpkg", &["--remove", "tokenkeep"]).await;
    assert_eq!(property("ActiveState").await, "inactive");
    assert!(kept.iter().all(|path| Path::new(path).exists()));
    run("dpkg", &["--purge", "tokenkeep"]).await;
    assert!(kept.iter().all(|path| !Path::new(path).exists()));
}
