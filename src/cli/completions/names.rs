//! The names of tokens, from the running daemon: quickly, or not at all.

use std::time::Duration;

use glob::Pattern;
use tokio::time::timeout;

use super::cursor::CursorContext;
use crate::cli::client::{SocketArgs, urls};
use crate::cli::{CliError, runtime};
use crate::control::{ListParams, Order, TokenPage};
use crate::text::is_invisible;

/// Nobody waits longer at a prompt. It covers the reading of the configuration too.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The most names that are offered: as many as fit on a page of the control interface.
const MAX_NAMES: usize = 1_000;

/// What may be typed at a place.
#[derive(Debug, Default)]
pub(super) struct NameCandidates {
    /// Names that begin with what is typed.
    pub(super) names: Vec<String>,
    /// There are more of them.
    pub(super) more: bool,
}

/// What the daemon has to offer; nothing where none answers in time.
pub(super) fn fetch(cursor: &CursorContext) -> Result<NameCandidates, CliError> {
    let runtime = runtime()?;
    let answer = runtime.block_on(async { timeout(TIMEOUT, page(cursor)).await });
    // A configuration that hangs must not hold up the prompt.
    runtime.shutdown_background();
    let page = answer.ok().flatten();
    Ok(page.map_or_else(NameCandidates::default, |page| candidates(page, cursor)))
}

async fn page(cursor: &CursorContext) -> Option<TokenPage> {
    let socket = SocketArgs { socket: cursor.socket.clone() };
    let (mut client, _) = socket.connect(&cursor.config).await;
    let filter = Some(format!("{}*", Pattern::escape(&cursor.prefix)));
    let params =
        ListParams { filter, order: Order::Any, limit: Some(MAX_NAMES), ..ListParams::default() };
    client.get(&urls::tokens(&params)).await.ok()
}

fn candidates(page: TokenPage, cursor: &CursorContext) -> NameCandidates {
    // A name with characters that a terminal does not show cannot be told from another one.
    let fits = |name: &String| {
        (cursor.after_options || !name.starts_with('-')) && !name.contains(is_invisible)
    };
    let names = page.tokens.into_iter().map(|token| token.name).filter(fits).collect();
    NameCandidates { names, more: page.next.is_some() }
}
