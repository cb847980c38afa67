//! Logins outside the sandbox: the shipped units with the scripts of docs/hooks.md.

use std::fs;

use crate::machine::{Machine, attempt, entries, run, systemctl, until, write};

const HOOKS: &str = include_str!("../../docs/hooks.md");
const LOGIN: &str = "/usr/local/libexec/privileged-login";
const COMMAND: &str = "/usr/local/libexec/outside-login";

/// Installs the units and the script that contains `mark`, with a login that does `first` and then
/// logs in at the mortal server, or fails.
async fn install(machine: &Machine, mark: &str, first: &str) {
    machine.furnish();
    let mut scripts = HOOKS.split("```sh\n").filter_map(|block| block.split("```").next());
    let script = scripts.find(|script| script.contains(mark)).expect("the script");
    write(COMMAND, script, 0o755);
    let login = format!(
        "#!/bin/sh\nid -u >/run/login-by\n{first}\nTOKENKEEP_URL={} exec /usr/bin/tokenkeep demo-login \
         --key-file /etc/tokenkeep/api.key\n",
        machine.mortal.url()
    );
    write(LOGIN, &login, 0o700);
    for unit in ["tokenkeep-hook.socket", "tokenkeep-hook@.service"] {
        let example = format!("/usr/share/doc/tokenkeep/examples/{unit}");
        fs::copy(example, format!("/etc/systemd/system/{unit}")).expect(unit);
    }
    // What the login leaves behind for the tests.
    let visible = "[Service]\nReadWritePaths=/run\n";
    write("/etc/systemd/system/tokenkeep-hook@.service.d/test.conf", visible, 0o644);
    systemctl(&["daemon-reload"]).await;
    systemctl(&["enable", "--now", "tokenkeep-hook.socket"]).await;
}

/// Has tokens of these names, which have no value yet, log in by the command.
async fn keep(machine: &Machine, names: &[&str]) {
    let tokens = names.iter().map(|name| {
        format!(
            "[token.{name}]\nserver = \"mortal\"\nreauth = \"privileged\"\n\
             file = \"/var/lib/tokenkeep/{name}.token\"\n"
        )
    });
    let tokens: String = tokens.collect();
    machine.configure(&format!(
        "[server.mortal]\nurl = \"$MORTAL\"\n[reauth.privileged]\ncommand = [\"{COMMAND}\"]\n\
         max_attempts = 1\nmax_failures_all = 1\n{tokens}"
    ));
    systemctl(&["reload", "tokenkeep"]).await;
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_login_outside_the_sandbox_that_takes_half_a_minute_is_not_lost() {
    let machine = Machine::installed().await;
    install(&machine, "socat -u", "sleep 30").await;
    keep(&machine, &["privileged"]).await;
    until("the login has begun", async || fs::metadata("/run/login-by").is_ok()).await;
    until("its value is in use", async || !entries("reauth_succeeded").await.is_empty()).await;
    assert_eq!(fs::read_to_string("/run/login-by").expect("it ran").trim(), "0");
    assert_eq!(machine.logins(), 1);
    assert!(entries("reauth_failed").await.is_empty());
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn tokens_that_need_a_login_outside_the_sandbox_together_lose_no_attempt() {
    let names = ["first", "second", "third"];
    let machine = Machine::installed().await;
    // The name that the script sends, and longer than `socat` waits by default.
    install(&machine, "socat -t", "read -r name; echo \"$name\" >>/run/names; sleep 3").await;
    keep(&machine, &names).await;
    until("all have a value", async || entries("reauth_succeeded").await.len() == 3).await;
    assert!(entries("reauth_exhausted").await.is_empty());
    let failed = entries("reauth_failed").await;
    assert!(!failed.is_empty(), "no two met");
    for entry in failed {
        assert_eq!(entry["EXIT_STATUS"], "75", "{entry}");
    }
    assert_eq!(machine.logins(), 3);
    let seen = fs::read_to_string("/run/names").expect("names");
    let mut seen: Vec<_> = seen.lines().collect();
    seen.sort_unstable();
    assert_eq!(seen, names);
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_login_outside_the_sandbox_that_fails_uses_up_its_attempt() {
    let machine = Machine::installed().await;
    install(&machine, "socat -u", "sleep 1; exit 3").await;
    // The unit limits a login to 45 s: too long to wait for here.
    let unit = "/etc/systemd/system/tokenkeep-hook@.service";
    let text = fs::read_to_string(unit).expect("the unit");
    assert!(text.contains("timeout 45 "), "{text}");
    keep(&machine, &["privileged"]).await;
    until("the attempt is used up", async || !entries("reauth_exhausted").await.is_empty()).await;
    assert_eq!(entries("reauth_failed").await[0]["EXIT_STATUS"], "1");

    write(unit, &text.replace("timeout 45 ", "timeout 1 "), 0o644);
    write(LOGIN, "#!/bin/sh\nsleep 1000\n", 0o700);
    systemctl(&["daemon-reload"]).await;
    let script = ["--reuid=tokenkeep", "--regid=tokenkeep", "--clear-groups", COMMAND];
    assert_eq!(attempt("setpriv", &script).await.status.code(), Some(1), "a login that hangs");
    systemctl(&["stop", "tokenkeep-hook.socket"]).await;
    assert_eq!(attempt("setpriv", &script).await.status.code(), Some(75), "no socket");
    run("systemctl", &["is-active", "tokenkeep"]).await;
}
