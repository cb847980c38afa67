//! A folder with all that a daemon needs: configuration, token files, re-auth commands.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokenkeep::simulator::Simulator;
use tokio::process::Command;

use super::{Daemon, secret};

/// Stands for the stage's folder in what is written there.
const FOLDER: &str = "$DIR";

/// A folder that is gone when this is dropped.
pub(crate) struct Stage(TempDir);

impl Stage {
    /// A stage with this configuration; `$DIR` in it is the stage's folder. The state
    /// directory is there too, unless the configuration begins with another, and so is the
    /// control socket, unless it has a `[control]` of its own.
    pub(crate) fn new(configuration: &str) -> Self {
        let stage = Self(tempfile::tempdir().expect("a folder"));
        stage.configure(configuration);
        stage
    }

    /// Puts another configuration in the place of the one that is there, in one step.
    pub(crate) fn configure(&self, configuration: &str) {
        let mut text = configuration.trim_start().to_owned();
        if !text.starts_with("state_dir") {
            text.insert_str(0, "state_dir = \"$DIR/state\"\n");
        }
        if !text.contains("[control]") {
            text.push_str("\n[control]\nsocket = \"$DIR/control.sock\"\n");
        }
        self.replace("tokenkeep.toml", &text);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file for its owner alone, in place, as `echo >` does.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        let open =
            || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let mut file = open()
            .or_else(|_| fs::create_dir_all(path.parent().expect("a folder")).and_then(|()| open()))
            .expect("a file");
        let content = content.replace(FOLDER, self.0.path().to_str().expect("UTF-8"));
        file.write_all(content.as_bytes()).expect("room");
        path
    }

    /// Puts a file in the place of another in one step, as careful tools do.
    pub(crate) fn replace(&self, name: &str, content: &str) {
        let new = self.write(&format!("{name}.new"), content);
        fs::rename(new, self.path(name)).expect("renamed");
    }

    /// Puts a pipe, which nobody writes to, in the place of a file.
    pub(crate) fn pipe(&self, name: &str) {
        let path = self.path(name);
        // It need not be there.
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.expect("mkfifo").success());
    }

    /// The file `NAME.token`, which holds [`secret`] of that name; returns that.
    pub(crate) fn token(&self, name: &str) -> String {
        let value = secret(name);
        self.write(&format!("{name}.token"), &format!("{value}\n"));
        value
    }

    /// An executable shell script.
    pub(crate) fn script(&self, name: &str, body: &str) {
        let path = self.write(name, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(path, Permissions::from_mode(0o700)).expect("executable");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// How many lines a script has written into a file so far.
    pub(crate) fn lines_in(&self, name: &str) -> usize {
        self.read(name).lines().count()
    }

    /// The program with this subcommand and this stage's configuration, and an environment
    /// of its own.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
        command
            .arg(subcommand)
            .arg("--config")
            .arg(self.path("tokenkeep.toml"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Starts the daemon.
    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(self.command("run"))
    }

    /// Starts the daemon with these environment variables as well.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) -> Daemon {
        let mut command = self.command("run");
        command.envs(variables.iter().copied());
        Daemon::start(command)
    }
}

/// A file's permission bits.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

/// The configuration of a server; `keys` are more of its keys.
pub(crate) fn server_table(name: &str, server: &Simulator, keys: &str) -> String {
    format!("[server.{name}]\nurl = \"{}\"\n{keys}\n", server.url())
}

/// The configuration of a token in `NAME.token`; `keys` are more of its keys.
pub(crate) fn token_table(name: &str, server: &str, keys: &str) -> String {
    format!("[token.{name}]\nserver = \"{server}\"\nfile = \"$DIR/{name}.token\"\n{keys}\n")
}
