//! The page: how all tokens are, in a browser.
//!
//! Owns the page itself and the stream that it lives on. Read-only: nothing here can change a
//! token, and no token value ever comes here.
//!
//! ```text
//! daemon's loop ── broadcaster ─┬─ stream ── client     what differs from what it was sent last
//!   once a second, while └─ stream ── client
//!   anybody looks
//! ```

mod broadcaster;
mod html;
mod routes;
mod snapshot;
mod sse;

use self::broadcaster::Broadcaster;
use self::html::DashboardHtml;
pub(super) use self::routes::{routes, with_host_check};
pub use self::snapshot::{EventNote, MAX_ROWS, ServerCounts, Snapshot, TokenRow};
use self::sse::{Hello, stream};
