//! The package: what the README says, upgrade, removal.

use std::fs;
use std::path::Path;

use crate::machine::{
    MARK, Machine, attempt, drop_in, number, package, property, restarted, run, systemctl, until,
};

const README: &str = include_str!("../../README.md");

/// The README's commands for an installation.
fn installation() -> Vec<&'static str> {
    let blocks = README.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.into_iter().find(|block| block.starts_with(".ci/package"));
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
async fn upgrade_with_a_faulty_configuration_leaves_the_old_process_running_and_says_so() {
    let machine = Machine::keeping().await;
    let process = number("MainPID").await;
    let newer = package("TOKENKEEP_NEWER_DEB");
    machine.configure("[token.quotes]\n");
    let upgrade = attempt("dpkg", &["-i", &newer]).await;
    let text = [upgrade.stdout, upgrade.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(upgrade.status.success(), "{text}");
    for wanted in ["tokenkeep.toml:", "NOT restarted", "systemctl restart tokenkeep"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains(MARK), "{text}");
    let installed = run("dpkg-query", &["-W", "-f", "${Status} ${Version}", "tokenkeep"]).await;
    assert!(installed.starts_with("install ok installed 9999"), "{installed}");
    assert_eq!(number("MainPID").await, process);
    assert_eq!(property("SubState").await, "running");
    machine.checked_again().await;

    // The same package once more, with a good configuration.
    machine.configure("");
    run("dpkg", &["-i", &newer]).await;
    let process = restarted(process).await;
    machine.checked_again().await;

    // A configuration elsewhere, which only the running process knows of.
    let file = "/etc/tokenkeep/other.toml";
    fs::copy("/etc/tokenkeep/tokenkeep.toml", file).expect("a copy");
    drop_in(
        "other",
        &format!("[Service]\nExecStart=\nExecStart=/usr/bin/tokenkeep run --config {file}\n"),
    );
    systemctl(&["daemon-reload"]).await;
    systemctl(&["restart", "tokenkeep"]).await;
    let process = restarted(process).await;
    fs::write(file, "nonsense = 1\n").expect("room");
    run("dpkg", &["-i", &newer]).await;
    assert_eq!(number("MainPID").await, process);
    machine.checked_again().await;
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn image_build_without_a_running_systemd_has_a_state_directory_for_tokens() {
    let _machine = Machine::bare().await;
    let install =
        format!("mount -t tmpfs tmpfs /run/systemd && dpkg -i {}", package("TOKENKEEP_DEB"));
    run("unshare", &["--mount", "sh", "-ec", &install]).await;
    let owner = run("stat", &["-c", "%U:%G %a", "/var/lib/tokenkeep"]).await;
    assert_eq!(owner.trim(), "tokenkeep:tokenkeep 700");
    assert_eq!(property("ActiveState").await, "inactive", "nothing was started");
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn removing_keeps_configuration_and_tokens_and_purging_takes_them() {
    let _machine = Machine::keeping().await;
    let kept = [
        "/etc/tokenkeep/tokenkeep.toml",
        "/etc/tokenkeep/api.key",
        "/etc/tokenkeep/orders.token",
        "/var/lib/tokenkeep/quotes.token",
    ];
    run("dpkg", &["--remove", "tokenkeep"]).await;
    assert_eq!(property("ActiveState").await, "inactive");
    assert!(kept.iter().all(|path| Path::new(path).exists()));
    run("dpkg", &["--purge", "tokenkeep"]).await;
    assert!(kept.iter().all(|path| !Path::new(path).exists()));
    for folder in ["/etc/tokenkeep", "/var/lib/tokenkeep", "/run/tokenkeep"] {
        assert!(!Path::new(folder).exists(), "{folder} is left");
    }
}
