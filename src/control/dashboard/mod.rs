//! Dashboard: a web page with the state of all tokens, updated by server-sent events (SSE).
//!
//! Read-only: nothing here can change a token, and no token value reaches this module.
//!
//! ```text
//! main loop ── broadcaster ─┬─ sse ── browser     the changes since the last snapshot
//!   one snapshot a second,  └─ sse ── browser
//!   while a client listens
//! ```

mod broadcaster;
mod html;
mod routes;
mod snapshot;
mod sse;

use self::broadcaster::Broadcaster;
use self::html::DashboardHtml;
pub(super) use self::routes::{routes, with_host_check};
pub use self::snapshot::{
    EventNote, MAX_ROWS, OutageRow, ReauthRow, ServerCounts, Snapshot, TokenRow,
};
use self::sse::{Hello, stream};
