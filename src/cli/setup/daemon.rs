//! The daemon of an installation: reloads it after a change.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::{bare_command_line, command_line};
use crate::cli::client::{SocketArgs, reload, urls};
use crate::cli::unit::environment;
use crate::cli::{CliError, EX_NOPERM, print_text, runtime};
use crate::control::TokenDetail;
use crate::control::client::ControlClientError;
use crate::settings::Installation;

/// How long to wait for the outcome of a reload.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Reloads the daemon of `installation` and prints the outcome. `overrides` are those of the unit.
/// `unchanged` is printed if the configuration is the same as before. Returns whether there is a
/// daemon.
pub(super) fn reload_daemon(
    installation: &Installation,
    overrides: &BTreeMap<String, String>,
    unchanged: &str,
) -> Result<bool, CliError> {
    let runtime = runtime()?;
    let reloaded = runtime.block_on(async {
        let mut client =
            SocketArgs { socket: None }.client(installation, environment(overrides)).await;
        reload(&mut client, RELOAD_TIMEOUT, unchanged).await
    });
    runtime.shutdown_background();
    match reloaded {
        Ok(0) => Ok(true),
        Ok(status) => Err(CliError::AlreadyReported { status }),
        // Any other error is that of a daemon that does not respond.
        Err(CliError::Control(ControlClientError::NoDaemon { error, .. }))
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            print_text("no daemon is running\n").map(|()| false)
        }
        Err(CliError::Control(error)) if CliError::status_of(&error) == EX_NOPERM => {
            let line = bare_command_line(installation, "reload --wait");
            let sentence = format!("the daemon was not reloaded: {error}; run `sudo {line}`");
            Err(CliError::Failed { sentence, status: EX_NOPERM })
        }
        Err(error) => Err(error),
    }
}

/// The command that starts the daemon.
pub(super) fn start_command(installation: &Installation) -> String {
    let is_default = installation.config() == installation.default_config();
    if !is_default || !Path::new("/run/systemd/system").is_dir() {
        return command_line(installation, "run");
    }
    if installation.is_user() {
        "systemctl --user enable --now tokenkeep".to_owned()
    } else {
        "sudo systemctl enable --now tokenkeep".to_owned()
    }
}

/// The inventory that a running daemon has the token `name` from, if any. Only the daemon knows the
/// tokens of an inventory command.
pub(super) fn inventory_of(
    installation: &Installation,
    overrides: &BTreeMap<String, String>,
    name: &str,
) -> Option<String> {
    let runtime = runtime().ok()?;
    let detail = runtime.block_on(async {
        let (client, _) =
            SocketArgs { socket: None }.connect(installation, environment(overrides)).await;
        client.get::<TokenDetail>(&urls::token(name, &[])).await
    });
    runtime.shutdown_background();
    detail.ok()?.token.inventory
}
