//! The names of tokens, from the running daemon: quickly, or not at all.

use std::time::Duration;

use glob::Pattern;
use tokio::time::timeout;

use super::place::Place;
use crate::cli::remote::{Where, paths};
use crate::cli::{Failure, runtime};
use crate::control::{Listing, Order, Page};
use crate::text::is_hidden;

/// Nobody waits longer at a prompt. It covers the reading of the configuration too.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most names that are offered: as many as fit on a page of the control interface.
const MOST: usize = 1_000;

/// What may be typed at a place.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// Names that begin with what is typed.
    pub(super) names: Vec<String>,
    /// There are more of them.
    pub(super) more: bool,
}

/// What the daemon has to offer; nothing where none answers in time.
pub(super) fn ask(place: &Place) -> Result<Offer, Failure> {
    let runtime = runtime()?;
    let answer = runtime.block_on(async { timeout(PATIENCE, page(place)).await });
    // A configuration that hangs must not hold up the prompt.
    runtime.shutdown_background();
    let page = answer.ok().flatten();
    Ok(page.map_or_else(Offer::default, |page| offer(page, place)))
}

async fn page(place: &Place) -> Option<Page> {
    let socket = Where { socket: place.socket.clone() };
    let (mut client, _) = socket.find(&place.config).await;
    let filter = Some(format!("{}*", Pattern::escape(&place.prefix)));
    let listing = Listing { filter, order: Order::Any, limit: Some(MOST), ..Listing::default() };
    client.get(&paths::tokens(&listing)).await.ok()
}

fn offer(page: Page, place: &Place) -> Offer {
    // A name with characters that a terminal does not show cannot be told from another one.
    let fits = |name: &String| {
        (place.after_options || !name.starts_with('-')) && !name.contains(is_hidden)
    };
    let names = page.tokens.into_iter().map(|token| token.name).filter(fits).collect();
    Offer { names, more: page.next.is_some() }
}
