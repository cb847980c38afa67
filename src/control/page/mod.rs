//! The page: how all tokens are, in a browser.
//!
//! Owns the page itself and the stream that it lives on. Read-only: nothing here can change a
//! token, and no token value ever comes here.
//!
//! ```text
//! daemon's loop ── feed ─┬─ stream ── browser     what differs from what it was sent last
//!   once a second, while └─ stream ── browser
//!   anybody looks
//! ```

mod document;
mod feed;
mod frame;
mod routes;
mod stream;

use self::document::Document;
use self::feed::Feed;
pub use self::frame::{Frame, MOST_ROWS, Note, Row, ServerCounts};
pub(super) use self::routes::{guarded, routes};
use self::stream::{Greeting, stream};
