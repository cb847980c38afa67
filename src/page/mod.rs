//! The page: how all tokens are, in a browser.
//!
//! Owns the page itself, the stream that it lives on, and the check that the browser means this
//! machine. Read-only: nothing here can change a token, and no token value ever comes here.
//!
//! ```text
//! daemon ── feed ──┬─ stream      what differs from what this browser was sent last
//!   (once a second,└─ stream      (one for each browser)
//!    while anybody looks)
//! ```

mod document;
mod feed;
mod frame;
mod host;
mod stream;

pub use self::document::Document;
pub use self::feed::Feed;
pub use self::frame::{Frame, MOST_ROWS, Note, Row, ServerCounts, States};
pub use self::host::Hosts;
pub use self::stream::{Greeting, stream};
