//! The API client of one server, or the error that keeps it from being built.
//!
//! If a file that a server needs cannot be read at startup, the daemon runs without a client for
//! this server. Every call then fails as if the server were unavailable, so no token is taken for
//! dead.

use std::collections::BTreeMap;
use std::error::Error as _;

use crate::api::{Client, ClientError};
use crate::outcome::CallError;

/// The class of the error of a server without a client.
pub(crate) const UNUSABLE: &str = "a file of its configuration cannot be used";

/// The client of a server, or the error of every call while there is none.
pub(crate) type ServerClient = Result<Client, CallError>;

/// Clients by the names of their servers.
pub(crate) type ServerClients = BTreeMap<String, ServerClient>;

/// The error of calls to a server whose client cannot be built.
pub(crate) fn unusable(error: &ClientError) -> CallError {
    CallError { no_response: Some(UNUSABLE), ..CallError::new(error_text(error)) }
}

/// An error with its cause.
pub(crate) fn error_text(error: &ClientError) -> String {
    match error.source() {
        Some(source) => format!("{error} ({source})"),
        None => error.to_string(),
    }
}
