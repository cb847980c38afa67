//! Why the daemon cannot run.

use std::io;

use crate::api::ClientError;
use crate::token_source::PersistError;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The client of a server cannot be built as it is configured.
    #[error("[server.{name}]: {error}")]
    Client {
        /// The server's name.
        name: String,
        /// Why.
        #[source]
        error: ClientError,
    },
    /// The cluster cannot be used as it is configured: why, and the remedy.
    #[error("{0}")]
    Cluster(String),
    /// Another replica of the cluster has this name.
    #[error(
        "[cluster]: another replica is named {name:?} and is alive; give each replica its own \
         `cluster.name`"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Another daemon uses the state directory.
    #[error(transparent)]
    Locked(PersistError),
    /// A system call failed that nothing works without.
    #[error("{doing}: {error}")]
    System {
        /// What failed.
        doing: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// The error of a system call that failed.
pub(super) const fn system(doing: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |error| DaemonError::System { doing, error }
}
