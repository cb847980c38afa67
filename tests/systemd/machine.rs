//! The machine inside: the package installed, a simulated server, and systemd's own tools.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokenkeep::clock;
use tokenkeep::simulator::{Behaviour, Endpoint, RenewsBy, Simulator};
use tokio::process::Command;

/// Long enough for the busiest machine; reached only on failure.
const PATIENCE: Duration = Duration::from_secs(40);

/// Between two looks at something that does not tell of its changes.
const GLANCE: Duration = Duration::from_millis(50);

/// Stands in every secret, so that one search finds them all.
pub(crate) const MARK: &str = "S3CR3T";

/// The life of the tokens. They are checked every two seconds, so that what is left at any
/// instant outlives a restart on a busy machine.
const LIFE: Duration = Duration::from_secs(12);

/// The life of what a login brings: longer than any test.
const LOGIN_LIFE: Duration = Duration::from_secs(300);

/// The value of the token `quotes`, which is in a file.
pub(crate) const QUOTES: &str = "S3CR3T/quotes+=";

/// The value of the token `orders`, which is a credential.
pub(crate) const ORDERS: &str = "S3CR3T/orders+=";

/// A machine with the package installed.
pub(crate) struct Machine {
    /// Its tokens are renewed by every query.
    pub(crate) server: Simulator,
    /// Its tokens are not renewed by anything; whoever has the key can log in.
    pub(crate) mortal: Simulator,
}

impl Machine {
    /// Installs the package, and writes no configuration yet.
    pub(crate) async fn installed() -> Self {
        let machine = Self::bare().await;
        run("dpkg", &["-i", &package("TOKENKEEP_DEB")]).await;
        machine
    }

    /// The servers, and nothing installed.
    pub(crate) async fn bare() -> Self {
        assert!(
            std::env::var_os("PRIVATE_SYSTEMD").is_some(),
            "this test changes the machine that it runs on; start it by tests/systemd/run"
        );
        let mortal = Behaviour {
            renews_by: RenewsBy::Neither,
            api_key: Some(key().into()),
            login_life: Some(LOGIN_LIFE),
            ..Behaviour::default()
        };
        Self {
            server: Simulator::start(Behaviour::default()).await.expect("a port"),
            mortal: Simulator::start(mortal).await.expect("a port"),
        }
    }

    /// Installs the package, and has it keep `quotes` and `orders`.
    pub(crate) async fn keeping() -> Self {
        Self::keeping_with("").await
    }

    /// The same with more to its configuration; `$MORTAL` in it is the mortal server.
    pub(crate) async fn keeping_with(more: &str) -> Self {
        let machine = Self::installed().await;
        machine.furnish();
        machine.configure(more);
        drop_in(
            "credentials",
            "[Service]\nLoadCredential=orders-token:/etc/tokenkeep/orders.token\n",
        );
        systemctl(&["daemon-reload"]).await;
        systemctl(&["restart", "tokenkeep"]).await;
        machine.checked_again().await;
        machine
    }

    /// Writes the tokens, the key and a command that logs in with it.
    pub(crate) fn furnish(&self) {
        self.server.add_token(QUOTES, LIFE);
        self.server.add_token(ORDERS, LIFE);
        write("/var/lib/tokenkeep/quotes.token", QUOTES, 0o600);
        write("/etc/tokenkeep/orders.token", ORDERS, 0o600);
        write("/etc/tokenkeep/api.key", &key(), 0o640);
        give("/var/lib/tokenkeep/quotes.token");
        give("/etc/tokenkeep/api.key");
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, more: &str) {
        let url = self.server.url();
        let text = format!(
            "[schedule]\nmax_interval = \"2s\"\n[server.sarus]\nurl = \"{url}\"\n\
             [token.quotes]\nserver = \"sarus\"\nfile = \"/var/lib/tokenkeep/quotes.token\"\n\
             [token.orders]\nserver = \"sarus\"\ncredential = \"orders-token\"\n{more}"
        );
        let text = text.replace("$MORTAL", &self.mortal.url());
        write("/etc/tokenkeep/tokenkeep.toml", &text, 0o644);
    }

    /// Waits until both tokens are checked once more, and sees that neither has ever died.
    pub(crate) async fn checked_again(&self) {
        let before = self.checks();
        until("both tokens are checked again", async || {
            self.checks().iter().zip(before).all(|(now, before)| *now > before)
        })
        .await;
        self.nobody_died();
    }

    /// How often `quotes` and `orders` were checked so far.
    fn checks(&self) -> [usize; 2] {
        let requests = self.server.requests();
        [QUOTES, ORDERS].map(|value| {
            let ours = |request: &&tokenkeep::simulator::Recorded| {
                request.value.as_ref().is_some_and(|seen| seen.expose() == value)
            };
            requests.iter().filter(ours).count()
        })
    }

    /// Neither token has ended, and no check was ever answered by anything but success.
    pub(crate) fn nobody_died(&self) {
        for value in [QUOTES, ORDERS] {
            let left = self.server.remaining(value).expect("it is known");
            assert!(left > Duration::ZERO, "a token has ended");
        }
        let refused: Vec<_> = self
            .server
            .requests()
            .into_iter()
            .filter(|request| request.status.is_some_and(|status| status != 200))
            .map(|request| request.status)
            .collect();
        assert!(refused.is_empty(), "{refused:?}");
    }

    /// How often somebody logged in at the mortal server.
    pub(crate) fn logins(&self) -> usize {
        let requests = self.mortal.requests();
        requests.iter().filter(|request| request.endpoint == Some(Endpoint::Login)).count()
    }
}

/// A `[token.relogged]` on the mortal server that a command logs in for.
pub(crate) const RELOGGED: &str = r#"
[server.mortal]
url = "$MORTAL"
[reauth.login]
command = ["/usr/bin/tokenkeep", "demo-login", "--key-file", "/etc/tokenkeep/api.key"]
[token.relogged]
server = "mortal"
file = "/var/lib/tokenkeep/relogged.token"
reauth = "login"
"#;

/// The API key of the mortal server.
fn key() -> String {
    format!("{MARK}-key")
}

/// The path of a package that the runner has built.
pub(crate) fn package(variable: &str) -> String {
    std::env::var(variable).expect("the runner names the packages")
}

/// Puts a drop-in beside the unit.
pub(crate) fn drop_in(name: &str, text: &str) {
    write(&format!("/etc/systemd/system/tokenkeep.service.d/{name}.conf"), text, 0o644);
}

/// Writes a file with this mode, in a folder that is made if need be.
pub(crate) fn write(path: &str, text: &str, mode: u32) {
    let path = Path::new(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("room");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Makes a file the service's own.
pub(crate) fn give(path: &str) {
    let status = std::process::Command::new("chown").args(["tokenkeep:tokenkeep", path]).status();
    assert!(status.expect("chown").success());
}

/// Runs a program, whatever comes of it.
pub(crate) async fn attempt(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().await;
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Runs a program that must succeed, and gives what it printed.
pub(crate) async fn run(program: &str, arguments: &[&str]) -> String {
    let output = attempt(program, arguments).await;
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `systemctl`, which must succeed.
pub(crate) async fn systemctl(arguments: &[&str]) -> String {
    run("systemctl", arguments).await
}

/// One of the service's properties, as systemd has it.
pub(crate) async fn property(name: &str) -> String {
    systemctl(&["show", "tokenkeep", "--value", "-p", name]).await.trim().to_owned()
}

/// One of the service's properties that is a number.
pub(crate) async fn number(name: &str) -> u64 {
    let text = property(name).await;
    text.parse().unwrap_or_else(|_| panic!("{name}: {text}"))
}

/// The journal's entries of the service with this event.
pub(crate) async fn entries(event: &str) -> Vec<Value> {
    run("journalctl", &["--sync"]).await;
    let event = format!("EVENT={event}");
    let text = run("journalctl", &["-u", "tokenkeep", "--all", "-o", "json", &event]).await;
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = clock::now() + PATIENCE;
    while !condition().await {
        assert!(clock::now() < end, "out of patience before: {what}");
        tokio::time::sleep(GLANCE).await;
    }
}

/// Waits until the service is active with another process than `before`.
pub(crate) async fn restarted(before: u64) -> u64 {
    until("the service is active again", async || {
        number("MainPID").await != before && property("SubState").await == "running"
    })
    .await;
    number("MainPID").await
}
