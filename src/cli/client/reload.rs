//! `reload`: reloads the daemon's configuration and prints the outcome.

use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use tokio::time::timeout;

use super::progress::Progress;
use super::{DaemonCommand, SocketArgs};
use crate::cli::{CliError, EX_CONFIG, EX_TEMPFAIL, eprint_message, print_text};
use crate::control::Reloaded;
use crate::control::client::{Client, ControlClientError, ReloadRequest};
use crate::text::format_duration;

/// Reload the daemon's configuration
#[derive(Debug, Args)]
pub(in crate::cli) struct Reload {
    /// Wait for the reload and show its result
    #[arg(long)]
    wait: bool,
    /// How long to wait; exits 75 if the result is not known by then
    #[arg(long, value_name = "DURATION", default_value = "2min", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    socket_args: SocketArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration =
        text.parse().map_err(|_| "add a unit, for example 90s".to_owned())?;
    duration.try_into().map_err(|_| "it must not be negative".to_owned())
}

impl DaemonCommand for Reload {
    fn socket_args(&self) -> &SocketArgs {
        &self.socket_args
    }

    async fn run(self, client: &mut Client) -> Result<u8, CliError> {
        if !self.wait {
            drop(client.reload(ReloadRequest::New { wait: false }).await?);
            return Ok(0);
        }
        reload(client, self.timeout, UNCHANGED).await
    }
}

/// The outcome of a reload without a change.
pub(in crate::cli) const UNCHANGED: &str = "configuration reloaded: unchanged";

/// Reloads the daemon's configuration, prints the outcome and returns the exit status. `unchanged`
/// is printed if the configuration is the same as before.
pub(in crate::cli) async fn reload(
    client: &mut Client,
    limit: Duration,
    unchanged: &str,
) -> Result<u8, CliError> {
    let progress = Progress::waiting();
    let waited = progress.during(timeout(limit, reload_and_wait(client))).await;
    drop(progress);
    let Ok(outcome) = waited else {
        eprint_message(&format!(
            "the reload has not finished within {}; see the daemon's log for its result",
            format_duration(limit)
        ));
        return Ok(EX_TEMPFAIL);
    };
    match outcome? {
        Reloaded { applied: false, error, .. } => {
            let error = error.unwrap_or_default();
            eprint_message(&format!(
                "configuration reload failed; the previous configuration stays active: {error}"
            ));
            Ok(EX_CONFIG)
        }
        Reloaded { unchanged: true, .. } => print_text(&format!("{unchanged}\n")).map(|()| 0),
        outcome => print_text(&describe(&outcome)).map(|()| 0),
    }
}

/// Starts a reload and waits for its outcome, without a timeout.
async fn reload_and_wait(client: &mut Client) -> Result<Reloaded, ControlClientError> {
    let mut request = ReloadRequest::New { wait: true };
    loop {
        match client.reload(request).await? {
            Ok(outcome) => return Ok(outcome),
            Err(reloading) => request = ReloadRequest::Wait(reloading),
        }
    }
}

fn describe(outcome: &Reloaded) -> String {
    let Reloaded { added, removed, changed, needs_restart, .. } = outcome;
    let parts = [
        ("added", added),
        ("removed", removed),
        ("changed", changed),
        ("needs a restart", needs_restart),
    ];
    let mut text = "configuration reloaded\n".to_owned();
    for (what, names) in parts {
        if let Some(names) = names {
            text += &format!("{what}: {}\n", names.replace(',', ", "));
        }
    }
    text
}
