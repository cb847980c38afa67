//! `reload`: has the daemon read its configuration again, and tells what came of it.

use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use tokio::time::timeout;

use super::progress::Progress;
use super::{Errand, Where};
use crate::cli::{EX_CONFIG, EX_TEMPFAIL, Failure, complain, print_text};
use crate::control::Reloaded;
use crate::control::client::{Client, ClientFault, Wanted};
use crate::text::words;

/// Have the daemon read its configuration again
#[derive(Debug, Args)]
pub(in crate::cli) struct Reload {
    /// Wait until it has, and tell what came of it
    #[arg(long)]
    wait: bool,
    /// How long to wait; the exit status is 75 if what came of it is not known by then
    #[arg(long, value_name = "DURATION", default_value = "2min", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    place: Where,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration =
        text.parse().map_err(|_| "write it with its unit, like 90s".to_owned())?;
    duration.try_into().map_err(|_| "it must not be negative".to_owned())
}

impl Errand for Reload {
    fn place(&self) -> &Where {
        &self.place
    }

    async fn run(self, client: &mut Client) -> Result<u8, Failure> {
        if !self.wait {
            drop(client.reload(Wanted::Another { wait: false }).await?);
            return Ok(0);
        }
        let progress = Progress::waiting();
        let waited = progress.during(timeout(self.timeout, ended(client))).await;
        drop(progress);
        let Ok(outcome) = waited else {
            complain(&format!(
                "the reload has not ended in {}: what comes of it is not known, but will be in \
                 the daemon's log",
                words(self.timeout)
            ));
            return Ok(EX_TEMPFAIL);
        };
        match outcome? {
            Reloaded { applied: false, error, .. } => {
                let error = error.unwrap_or_default();
                complain(&format!(
                    "configuration reload failed; the previous configuration stays active: {error}"
                ));
                Ok(EX_CONFIG)
            }
            outcome => print_text(&told(&outcome)).map(|()| 0),
        }
    }
}

/// Asks for a reload and waits for its end, for as long as it takes.
async fn ended(client: &mut Client) -> Result<Reloaded, ClientFault> {
    let mut wanted = Wanted::Another { wait: true };
    loop {
        match client.reload(wanted).await? {
            Ok(outcome) => return Ok(outcome),
            Err(reloading) => wanted = Wanted::EndOf(reloading),
        }
    }
}

fn told(outcome: &Reloaded) -> String {
    let Reloaded { added, removed, changed, needs_restart, unchanged, .. } = outcome;
    let parts = [
        ("added", added),
        ("removed", removed),
        ("changed", changed),
        ("needs a restart", needs_restart),
    ];
    let mut text = "configuration reloaded".to_owned();
    text += if *unchanged { ": unchanged\n" } else { "\n" };
    for (what, names) in parts {
        if let Some(names) = names {
            text += &format!("{what}: {}\n", names.replace(',', ", "));
        }
    }
    text
}
