//! Fetches token names from the running daemon, with a short timeout.

use std::time::Duration;

use glob::Pattern;
use tokio::time::timeout;

use super::cursor::CursorContext;
use crate::cli::client::{SocketArgs, urls};
use crate::cli::{CliError, runtime};
use crate::control::{ListParams, Order, TokenPage};
use crate::text::is_invisible;

/// Timeout, including reading the configuration.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of names: one page of the control interface.
const MAX_NAMES: usize = 1_000;

/// Candidate names.
#[derive(Debug, Default)]
pub(super) struct NameCandidates {
    /// Names that begin with the typed prefix.
    pub(super) names: Vec<String>,
    /// Whether there are more names.
    pub(super) more: bool,
}

/// Fetches the candidates; none if the daemon does not respond in time.
pub(super) fn fetch(cursor: &CursorContext) -> Result<NameCandidates, CliError> {
    let runtime = runtime()?;
    let answer = runtime.block_on(async { timeout(TIMEOUT, page(cursor)).await });
    // A hung configuration file must not block the prompt.
    runtime.shutdown_background();
    let page = answer.ok().flatten();
    Ok(page.map_or_else(NameCandidates::default, |page| candidates(page, cursor)))
}

async fn page(cursor: &CursorContext) -> Option<TokenPage> {
    let socket = SocketArgs { socket: cursor.socket.clone() };
    let installation = cursor.installation.clone().choose().ok()?;
    let (client, _) = socket.connect(&installation, std::env::vars_os()).await;
    let filter = Some(format!("{}*", Pattern::escape(&cursor.prefix)));
    let params =
        ListParams { filter, order: Order::Any, limit: Some(MAX_NAMES), ..ListParams::default() };
    client.get(&urls::tokens(&params)).await.ok()
}

fn candidates(page: TokenPage, cursor: &CursorContext) -> NameCandidates {
    // Names with invisible characters cannot be distinguished on a terminal.
    let fits = |name: &String| {
        (cursor.after_options || !name.starts_with('-')) && !name.contains(is_invisible)
    };
    let names = page.tokens.into_iter().map(|token| token.name).filter(fits).collect();
    NameCandidates { names, more: page.next.is_some() }
}
