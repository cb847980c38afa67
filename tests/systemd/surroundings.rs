//! What the service leaves behind in the journal, and what it cannot reach.

use std::collections::BTreeMap;
use std::fs;

use tokenkeep::event_log::EventName;

use crate::machine::{
    MARK, Machine, QUOTES, RELOGGED, attempt, entries, property, run, systemctl, until, write,
};

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn the_journal_has_fields_priority_id_and_an_explanation() {
    let machine = Machine::keeping().await;
    machine.server.expire(QUOTES);
    until("its end is told of", async || !entries("token_expired").await.is_empty()).await;
    let entry = entries("token_expired").await.swap_remove(0);
    let id = EventName::TokenExpired.message_id();
    for (field, value) in [
        ("TOKEN", "quotes"),
        ("SERVER", "sarus"),
        ("STATUS", "410"),
        ("PRIORITY", "3"),
        ("MESSAGE_ID", id),
        ("SYSLOG_IDENTIFIER", "tokenkeep"),
    ] {
        assert_eq!(entry[field], value, "{entry}");
    }
    let explained =
        run("journalctl", &["-u", "tokenkeep", "-x", "TOKEN=quotes", "EVENT=token_expired"]).await;
    assert!(explained.contains("Subject: Token quotes has expired"), "{explained}");
    assert!(explained.contains("put a new token into its source"), "{explained}");

    let priorities: BTreeMap<_, _> = [("daemon_ready", "6"), ("token_checked", "6")].into();
    for (event, priority) in priorities {
        let entry = entries(event).await.swap_remove(0);
        assert_eq!(entry["PRIORITY"], priority, "{entry}");
    }
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn no_secret_is_in_the_journal_the_manager_or_proc() {
    // A command that goes on, so that its process can be looked at.
    const LASTING: &str = "[reauth.lasting]\ncommand = [\"/bin/sleep\", \"1000\"]\n\
                           [token.lasting]\nserver = \"sarus\"\nreauth = \"lasting\"\n\
                           file = \"/var/lib/tokenkeep/lasting.token\"\n";
    let machine = Machine::keeping_with(&format!("{RELOGGED}{LASTING}")).await;
    until("a login has been made", async || !entries("reauth_succeeded").await.is_empty()).await;
    machine.server.expire(QUOTES);
    until("its end is told of", async || !entries("token_expired").await.is_empty()).await;
    let issued = fs::read_to_string("/var/lib/tokenkeep/relogged.token").expect("stored");
    let processes = processes().await;
    assert!(processes.iter().any(|text| text.contains("sleep")), "{processes:?}");
    let places = [
        run("journalctl", &["--all", "-o", "export"]).await,
        systemctl(&["show", "tokenkeep"]).await,
        systemctl(&["status", "--no-pager", "--full", "tokenkeep"]).await,
    ];
    for text in places.into_iter().chain(processes) {
        assert!(!text.is_empty());
        assert!(!text.contains(MARK) && !text.contains(issued.trim()), "a secret in: {text}");
    }
}

/// Arguments and environment of each of the service's processes.
async fn processes() -> Vec<String> {
    let group = format!("/sys/fs/cgroup{}/cgroup.procs", property("ControlGroup").await);
    let processes = fs::read_to_string(group).expect("it runs");
    let read = |process: &str, name| fs::read(format!("/proc/{process}/{name}")).ok();
    let both = processes
        .lines()
        .filter_map(|process| Some([read(process, "cmdline")?, read(process, "environ")?]));
    both.map(|both| String::from_utf8_lossy(&both.concat()).into_owned()).collect()
}

/// Tries what a malicious command would; prints what it achieved.
const PROBE: &str = r#"#!/bin/sh
out="$1"
: >"$out"
touch /usr/probe/file && echo "writes to /usr" >>"$out"
touch /etc/probe/file && echo "writes to /etc" >>"$out"
cat /home/probe/file && echo "reads /home" >>"$out"
ls /tmp/probe && echo "sees /tmp" >>"$out"
[ "$(/usr/local/bin/set-user-id -u)" = 0 ] && echo "becomes root" >>"$out"
[ -d /proc/1 ] && echo "sees other processes" >>"$out"
unshare --user true && echo "makes namespaces" >>"$out"
echo end >>"$out"
"#;

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn what_the_sandbox_forbids_is_really_forbidden() {
    write("/usr/local/libexec/probe", PROBE, 0o755);
    for folder in ["/usr/probe", "/etc/probe", "/tmp/probe"] {
        write(&format!("{folder}/file"), "", 0o666);
    }
    write("/home/probe/file", "private", 0o644);
    run("chmod", &["0777", "/usr/probe", "/etc/probe", "/tmp/probe", "/home/probe"]).await;
    run("cp", &["/usr/bin/id", "/usr/local/bin/set-user-id"]).await;
    run("chmod", &["4755", "/usr/local/bin/set-user-id"]).await;
    let machine = Machine::installed().await;
    // Outside of the sandbox all of it works for the same user: else the rest proves nothing.
    let outside = "/var/lib/tokenkeep/outside";
    let user = ["--reuid=tokenkeep", "--clear-groups", "--regid=tokenkeep"];
    attempt("setpriv", &[&user[..], &["/usr/local/libexec/probe", outside]].concat()).await;
    assert_eq!(
        fs::read_to_string(outside).expect("written").lines().collect::<Vec<_>>(),
        [
            "writes to /usr",
            "writes to /etc",
            "reads /home",
            "sees /tmp",
            "becomes root",
            "sees other processes",
            "makes namespaces",
            "end"
        ]
    );

    let inside = "/var/lib/tokenkeep/inside";
    machine.furnish();
    machine.configure(&format!(
        "[reauth.probe]\ncommand = [\"/usr/local/libexec/probe\", \"{inside}\"]\n\
         [token.probe]\nserver = \"sarus\"\nenv = \"NOT_THERE\"\nreauth = \"probe\"\n"
    ));
    systemctl(&["restart", "tokenkeep"]).await;
    until("the command has tried it all", async || {
        fs::read_to_string(inside).is_ok_and(|text| text.ends_with("end\n"))
    })
    .await;
    assert_eq!(fs::read_to_string(inside).expect("written"), "end\n");
}
