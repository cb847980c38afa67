//! A user's own service: its configuration, state and socket in the user's directories.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Stdio;

use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{Daemon, PATIENCE, mode, seconds, secret, simulator};

/// A user who is not root.
const USER: u32 = 65_534;

/// The home of a user. The program runs as that user if the test is root.
struct Home {
    folder: TempDir,
    /// Whether `$XDG_RUNTIME_DIR` is set.
    has_runtime_directory: bool,
    /// Whether the program runs as root, who has to choose with `--user`.
    is_root: bool,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if geteuid().is_root() {
            chown(folder.path(), Some(USER), Some(USER)).expect("given");
        }
        Self { folder, has_runtime_directory: true, is_root: false }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if self.has_runtime_directory {
            command.env("XDG_RUNTIME_DIR", self.path("run"));
        }
        if geteuid().is_root() && !self.is_root {
            command.uid(USER).gid(USER);
        }
        command
    }

    /// The exit status of a command that gets `input`, and everything that it prints.
    async fn run(&self, arguments: &[&str], input: &str) -> (i32, String) {
        let mut child = self.command(arguments).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A command that refuses its arguments does not read.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends");
        let output = output.expect("read");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        (output.status.code().expect("a status"), said)
    }

    /// Sets up a service, starts it, and sees that it keeps a token. `options` choose it.
    async fn keeps_a_token(&self, options: &[&str], socket: &str) {
        let server = simulator().await;
        server.add_token(&secret("quotes"), seconds(3_600));
        let with = |arguments: &[&'static str]| [options, arguments].concat();
        let url = server.url();
        let (status, said) = self.run(&["--user", "init", "--url", &url], "").await;
        assert_eq!(status, 0, "{said}");
        assert!(said.contains(".config/tokenkeep/tokenkeep.toml"), "{said}");
        let (status, said) = self.run(&with(&["add", "quotes"]), &secret("quotes")).await;
        assert_eq!(status, 0, "{said}");
        for (folder, expected) in [
            (".config/tokenkeep", 0o700),
            (".local/state/tokenkeep", 0o700),
            (".local/state/tokenkeep/quotes.token", 0o600),
        ] {
            assert_eq!(mode(&self.path(folder)), expected, "{folder}");
        }
        let daemon = Daemon::start(self.command(&with(&["run"])));
        daemon.event("token_checked", "quotes").await;
        assert!(self.path(socket).exists(), "{:#?}", daemon.lines());
        let (status, said) = self.run(&with(&["status"]), "").await;
        assert_eq!(status, 0, "{said}");
        assert!(said.contains("quotes"), "{said}");
        let ended = daemon.stop().await;
        assert_eq!(ended.count("config_warning", ""), 0, "{:#?}", ended.lines);
    }
}

#[tokio::test]
async fn a_user_with_a_configuration_of_their_own_uses_it_without_an_option() {
    let home = Home::new();
    fs::create_dir(home.path("run")).expect("created");
    if geteuid().is_root() {
        chown(home.path("run"), Some(USER), Some(USER)).expect("given");
    }
    home.keeps_a_token(&[], "run/tokenkeep/control.sock").await;
    assert_eq!(mode(&home.path("run/tokenkeep")), 0o700);
    let (status, said) = home.run(&["--system", "print-config"], "").await;
    assert!(status == 78 || !said.contains(".local/state"), "{said}");
    let (status, said) = home.run(&["--system", "--user", "print-config"], "").await;
    assert_eq!(status, 64, "{said}");
}

#[tokio::test]
async fn without_a_runtime_directory_the_socket_is_in_the_state_directory() {
    let home = Home { has_runtime_directory: false, ..Home::new() };
    home.keeps_a_token(&[], ".local/state/tokenkeep/control.sock").await;
    let config = home.path(".config/tokenkeep/tokenkeep.toml");
    let text = fs::read_to_string(&config).expect("it");
    fs::write(&config, format!("state_dir = \"/other\"\n{text}")).expect("written");
    let (_, said) = home.run(&["print-config"], "").await;
    assert!(said.contains("socket = \"/other/control.sock\""), "{said}");
}

#[tokio::test]
async fn root_uses_a_configuration_of_its_own_only_with_the_option() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be root");
    }
    let home = Home { is_root: true, ..Home::new() };
    chown(home.folder.path(), Some(0), Some(0)).expect("taken");
    fs::create_dir(home.path("run")).expect("created");
    fs::set_permissions(home.path("run"), Permissions::from_mode(0o700)).expect("permitted");
    home.keeps_a_token(&["--user"], "run/tokenkeep/control.sock").await;
    let (_, said) = home.run(&["add", "other"], "").await;
    assert!(!said.contains(".config"), "{said}");
    let (_, said) = home.run(&["--user", "remove", "quotes"], "").await;
    assert!(said.contains("removed ") && said.contains(".config/tokenkeep/conf.d"), "{said}");
}

#[tokio::test]
async fn the_systems_unit_never_reads_a_configuration_in_the_home_of_its_user() {
    let home = Home::new();
    let (status, said) =
        home.run(&["--user", "init", "--url", "https://home.example.net"], "").await;
    assert_eq!(status, 0, "{said}");
    let (_, said) = home.run(&["print-config"], "").await;
    assert!(said.contains("home.example.net"), "{said}");

    let unit = include_str!("../../systemd/tokenkeep.service");
    let commands = ["ExecStart=", "ExecReload="].map(|key| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)).expect("a command");
        line.split(' ').skip(1).collect::<Vec<_>>()
    });
    for command in commands {
        // The options of the unit, with a command that only reads.
        let command = command.into_iter().take_while(|word| !["run", "reload"].contains(word));
        let command = command.chain(["print-config"]).collect::<Vec<_>>();
        let (status, said) = home.run(&command, "").await;
        assert!(!said.contains("home.example.net"), "{said}");
        assert!(status == 0 || said.contains("/etc/tokenkeep/tokenkeep.toml"), "{said}");
    }
}

#[tokio::test]
async fn without_a_home_the_option_is_an_error_that_names_the_variables() {
    let home = Home::new();
    let mut command = home.command(&["--user", "status"]);
    command.env_remove("HOME");
    let output = command.output().await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("$HOME") && said.contains("$XDG_CONFIG_HOME"), "{said}");
}
