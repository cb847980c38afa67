//! From the installed package to a token that is kept: the system's service, and a user's own.

use std::fs;
use std::time::Duration;

use crate::machine::{
    MARK, Machine, ORDERS, QUOTES, attempt, entries, number, package, property, restarted, run,
    systemctl, until, write,
};

/// Long enough for the whole test.
const LIFE: Duration = Duration::from_secs(3_600);

/// Runs a shell script as root; it must succeed. Returns what it printed: no secret.
async fn shell(script: &str) -> String {
    let output = attempt("sh", &["-ec", script]).await;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{script}: {text}");
    assert!(!text.contains(MARK), "a secret in {text}");
    text
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn init_and_add_make_the_installed_service_keep_a_token_until_it_is_purged() {
    let machine = Machine::installed().await;
    machine.server.add_token(QUOTES, LIFE);
    let shipped = fs::read("/etc/tokenkeep/tokenkeep.toml").expect("installed");
    let said = shell(&format!("tokenkeep init --url {}", machine.server.url())).await;
    assert!(said.contains("wrote /etc/tokenkeep/conf.d/server.toml"), "{said}");
    write("/root/quotes", QUOTES, 0o600);
    let said = shell("tokenkeep add quotes </root/quotes").await;
    for wanted in [
        "wrote /var/lib/tokenkeep/quotes.token\n",
        "wrote /etc/tokenkeep/conf.d/quotes.toml\n",
        "added: quotes\n",
        "Next: tokenkeep status quotes\n",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let owner = run("stat", &["-c", "%U:%G %a", "/var/lib/tokenkeep/quotes.token"]).await;
    assert_eq!(owner.trim(), "tokenkeep:tokenkeep 600");
    until("the token is checked", async || !entries("token_checked").await.is_empty()).await;
    shell("tokenkeep status && tokenkeep doctor && tokenkeep check-config").await;
    systemctl(&["reload", "tokenkeep"]).await;
    assert_eq!(property("SubState").await, "running");
    assert_eq!(fs::read("/etc/tokenkeep/tokenkeep.toml").expect("it"), shipped);

    let process = number("MainPID").await;
    run("dpkg", &["-i", &package("TOKENKEEP_NEWER_DEB")]).await;
    restarted(process).await;
    let alive = async || {
        let said = attempt("tokenkeep", &["status", "quotes", "--json"]).await;
        String::from_utf8_lossy(&said.stdout).contains("\"state\": \"alive\"")
    };
    until("the token is alive after the upgrade", alive).await;

    write("/root/orders", ORDERS, 0o600);
    machine.server.add_token(ORDERS, LIFE);
    shell("tokenkeep add orders </root/orders && tokenkeep remove orders --delete-token").await;
    assert!(!fs::exists("/var/lib/tokenkeep/orders.token").expect("seen"));
    assert!(entries("token_missing").await.is_empty());

    run("dpkg", &["--purge", "tokenkeep"]).await;
    let left = run("find", &["/etc", "/usr", "/var/lib", "/run", "-name", "*tokenkeep*"]).await;
    assert_eq!(left, "");
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_user_runs_a_service_of_their_own_beside_the_system_s() {
    let machine = Machine::installed().await;
    machine.server.add_token(QUOTES, LIFE);
    shell("useradd --create-home --uid 4321 trader && install -d -m 0700 -o trader /run/user/4321")
        .await;
    // What `user@4321.service` does where there is a login manager.
    write(
        "/etc/systemd/system/trader.service",
        "[Service]\nUser=trader\nType=notify\nDelegate=yes\n\
         Environment=XDG_RUNTIME_DIR=/run/user/4321\nExecStart=/lib/systemd/systemd --user\n",
        0o644,
    );
    systemctl(&["daemon-reload"]).await;
    systemctl(&["start", "trader"]).await;
    let token = "/home/trader/quotes";
    write(token, QUOTES, 0o600);
    shell(&format!("chown trader: {token}")).await;
    let as_trader = async |script: &str| {
        let program = "setpriv --reuid=trader --regid=trader --init-groups \
                       env HOME=/home/trader XDG_RUNTIME_DIR=/run/user/4321 sh -ec";
        shell(&format!("cd / && {program} '{script}'")).await
    };
    as_trader(&format!("tokenkeep --user init --url {}", machine.server.url())).await;
    let said = as_trader(&format!("tokenkeep add quotes <{token}")).await;
    assert!(said.contains("Next: systemctl --user enable --now tokenkeep"), "{said}");
    as_trader("systemctl --user enable --now tokenkeep").await;
    let status = async || as_trader("tokenkeep status quotes --json || :").await;
    until("the token is alive", async || status().await.contains("\"state\": \"alive\"")).await;
    as_trader("systemctl --user reload tokenkeep").await;
    as_trader("tokenkeep doctor").await;
    let said = as_trader("systemctl --user show tokenkeep -p StatusText").await;
    assert!(said.contains("1 token: 1 alive"), "{said}");
    // The system's service knows nothing of it.
    let said = attempt("tokenkeep", &["status"]).await;
    assert!(!String::from_utf8_lossy(&said.stdout).contains("quotes"), "{said:?}");
    as_trader("systemctl --user stop tokenkeep").await;
}
