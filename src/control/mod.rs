//! The control interface: how tokens are seen and steered, as HTTP with JSON on a Unix socket.
//!
//! Owns the socket, who may do what, and the shape of every answer (docs/openapi.json). It
//! holds nothing of a token: each request goes to the daemon's loop as a [`Command`], and only
//! that loop answers. A token's value leaves by [`Command::Value`] alone.
//!
//! ```text
//! socket ── serve ── routes ── Command ──> the daemon's loop
//!             ├─ connection_limit  evicts idle connections where there are too many
//!             ├─ socket_watch      makes the socket again when its file is removed
//!             └─ peer              what the kernel says of who is calling
//! client                           the other end, for the command line
//! page ── host                     what browsers see on the listening address
//! ```

pub mod client;
mod connection_activity;
mod connection_limit;
mod host;
mod id_map;
mod metrics;
pub mod page;
mod peer;
mod problem;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod routes;
mod serve;
mod socket;
mod socket_watch;
mod view;

use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};

pub use self::id_map::unmapped_readers;
pub use self::peer::{Caller, outsiders};
pub use self::problem::{Problem, ProblemKind};
pub use self::serve::{
    Interface, SocketReport, SocketState, listen, refuse, serve, serve_later, serve_public,
};
pub use self::socket::{Bound, Inherited, SocketFault, bind, inherited};
pub use self::socket_watch::POLLING as SOCKET_RETRY;
pub use self::view::{
    ConfigRejection, Counts, EventView, Health, Listing, Order, Page, ReauthView, Reloaded,
    Reloading, ServerView, Story, TokenView,
};

use self::page::Frame;
use crate::lifecycle::OperatorRequest;
use crate::secret::TokenValue;

/// Where an answer is awaited.
pub type Reply<T> = oneshot::Sender<Result<T, Problem>>;

/// A token's value on its way to whoever may have it. It is not known to be dead.
#[derive(Debug)]
pub struct Handed {
    /// The value.
    pub value: TokenValue,
    /// The last answer said that it lives, and its bound is ahead.
    pub verified: bool,
}

/// Requests that wait for the daemon's loop, all connections together. Further ones wait on their
/// connections.
const WAITING: usize = 16;

/// Something that the daemon's loop is asked for.
#[derive(Debug)]
pub enum Command {
    /// How the daemon is.
    Health(Reply<Health>),
    /// Tokens, a page at a time.
    List(Listing, Reply<Page>),
    /// What the page shows.
    Look {
        /// Whether with the tokens' names.
        names: bool,
        /// Where it is awaited.
        reply: Reply<Frame>,
    },
    /// One token in full.
    Token(String, Reply<Story>),
    /// Something to be done for one token.
    Act {
        /// The token's name.
        name: String,
        /// What.
        request: OperatorRequest,
        /// Who asks.
        caller: Caller,
        /// Told once it is accepted or refused, not when it is done.
        reply: Reply<()>,
    },
    /// A token's value.
    Value {
        /// The token's name.
        name: String,
        /// Who asks.
        caller: Caller,
        /// Where the value goes.
        reply: Reply<Handed>,
    },
    /// Something that happened to the socket, for the event log.
    Socket(SocketReport),
    /// Nothing but a sign of life from the loop.
    Alive(Reply<()>),
    /// The metrics.
    Metrics {
        /// Whether tokens may be named.
        names: bool,
        /// Where they go.
        reply: Reply<Registry>,
    },
    /// Read the configuration again.
    Reload {
        /// Who asks.
        caller: Caller,
        /// Told the reload's number at once.
        reply: Reply<u64>,
    },
    /// What came of a reload.
    Outcome {
        /// The reload's number.
        number: u64,
        /// Who asks.
        caller: Caller,
        /// Told once it has ended.
        reply: Reply<Reloaded>,
    },
}

/// The loop's end of the interface, and the requests' end.
pub fn channel() -> (mpsc::Sender<Command>, mpsc::Receiver<Command>) {
    mpsc::channel(WAITING)
}
