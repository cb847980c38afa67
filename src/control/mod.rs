//! Control interface: an HTTP API with JSON on a Unix socket, and the dashboard.
//!
//! Owns the socket, permissions, and the types of all responses (docs/openapi.json). It has no token
//! state: each request is sent to the main loop as a [`Command`], and the main loop responds. Only
//! [`Command::Value`] returns a token value.
//!
//! ```text
//! socket ── server ── routes ── Command ──> main loop
//!              ├─ connection_limit  evicts idle connections if there are too many
//!              ├─ socket_watch      detects that the socket file was removed
//!              └─ peer              user and group of the client, from the kernel
//! dashboard ── host_check           what browsers see on the public listener
//! client                            client side, for the command line
//! ```

pub mod client;
mod cluster;
mod connection_activity;
mod connection_limit;
pub mod dashboard;
mod error;
mod events;
mod host_check;
mod id_map;
mod metrics_format;
mod peer;
mod process_metrics;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod routes;
mod server;
mod socket;
mod socket_watch;
pub mod summary;
mod types;

use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};

pub use self::cluster::{
    ClaimOf, ClaimView, ClusterDetail, ClusterStatus, EndpointView, RekeyView, ReplicaView,
};
pub use self::error::{ApiError, ApiErrorKind};
pub use self::events::{
    Coverage, EventCursor, EventPage, EventParams, EventScan, EventScanResult, MAX_EVENTS,
    RecordedEvent,
};
pub use self::id_map::unmapped_readers;
pub use self::peer::{Caller, unusable_readers};
pub use self::server::{
    ControlServer, SocketReport, SocketState, listen, serve, serve_public, serve_startup_error,
    serve_when_available,
};
pub use self::socket::{BoundSocket, InheritedSockets, SocketError, bind, inherited};
pub use self::socket_watch::POLL_INTERVAL as SOCKET_RETRY;
pub use self::types::{
    ConfigRejection, Counts, EventView, Health, ListParams, Order, ReauthView, Reloaded, Reloading,
    ServerView, TokenDetail, TokenPage, TokenView,
};
pub use summary::LifeBasis;

use self::dashboard::Snapshot;
use crate::lifecycle::{OperatorRequest, State};
use crate::secret::TokenValue;

/// The channel for the response to a command.
pub type Reply<T> = oneshot::Sender<Result<T, ApiError>>;

/// A token value for a client that may read it. The token is not known to be dead.
#[derive(Debug)]
pub struct IssuedValue {
    /// The value.
    pub value: TokenValue,
    /// Alive: the last response reported the token as alive, and its expiry is in the future.
    /// Elsewhere: another replica checks it. Unverified: otherwise.
    pub state: State,
}

/// Capacity of the command queue. Further requests wait on their connections.
const COMMAND_QUEUE_LEN: usize = 16;

/// A command for the main loop. This enum is the whole control interface.
#[derive(Debug)]
pub enum Command {
    /// Health of the daemon and its servers.
    Health(Reply<Health>),
    /// One page of tokens.
    List(ListParams, Reply<TokenPage>),
    /// A snapshot for the dashboard.
    Dashboard {
        /// Whether to include token names.
        names: bool,
        /// Receives the snapshot.
        reply: Reply<Snapshot>,
    },
    /// Details of one token.
    Token(String, Reply<TokenDetail>),
    /// A step of a search in the recorded events.
    Events(EventScan, Reply<EventScanResult>),
    /// An operator's request for one token.
    Act {
        /// The token's name.
        name: String,
        /// The request.
        request: OperatorRequest,
        /// The client.
        caller: Caller,
        /// Receives whether the request was accepted. Does not wait until it is done.
        reply: Reply<()>,
    },
    /// A token's value.
    Value {
        /// The token's name.
        name: String,
        /// The client.
        caller: Caller,
        /// Receives the value.
        reply: Reply<IssuedValue>,
    },
    /// A change of the socket file, for the event log.
    Socket(SocketReport),
    /// Liveness probe of the main loop.
    Ping(Reply<()>),
    /// The metrics.
    Metrics {
        /// Whether to include token names.
        names: bool,
        /// Receives the metrics.
        reply: Reply<Registry>,
    },
    /// Ask the endpoints of etcd for their state. The reply is sent once they have answered or not.
    AskEndpoints(Reply<()>),
    /// The cluster in detail, with the endpoints as they were asked last.
    Cluster(Reply<ClusterDetail>),
    /// Encrypt all values of the cluster with the configured key.
    Rekey {
        /// The client.
        caller: Caller,
        /// Receives whether it has started. Does not wait until it has ended.
        reply: Reply<()>,
    },
    /// Reload the configuration.
    Reload {
        /// The client.
        caller: Caller,
        /// Receives the number of the reload at once.
        reply: Reply<u64>,
    },
    /// Wait for the outcome of a reload.
    ReloadOutcome {
        /// The reload's number.
        number: u64,
        /// The client.
        caller: Caller,
        /// Receives the outcome when the reload has ended.
        reply: Reply<Reloaded>,
    },
}

/// Creates the command queue.
pub fn channel() -> (mpsc::Sender<Command>, mpsc::Receiver<Command>) {
    mpsc::channel(COMMAND_QUEUE_LEN)
}
