//! Why there is no HTTP client for a server.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no client for a server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file cannot be read.
    #[error("`{key}` of [server.{server}], {}, cannot be read: check its path and mode", path.display())]
    Unreadable {
        /// The server's name.
        server: String,
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not contain what it must, or not in a form that can be used.
    #[error("`{key}` of [server.{server}], {place}, cannot be used: {reason}")]
    Invalid {
        /// The server's name.
        server: String,
        /// The key that names the file.
        key: &'static str,
        /// The file, or the credential.
        place: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// `ca_file` holds no certificate that can be used.
    #[error(
        "`ca_file` of [server.{server}], {}, holds no usable certificate: it must hold the authority's certificate in PEM form (BEGIN CERTIFICATE)",
        path.display()
    )]
    CaFileInvalid {
        /// The server's name.
        server: String,
        /// The file.
        path: PathBuf,
    },
    /// `proxy` is no address of a proxy.
    #[error("`proxy` of [server.{server}] cannot be used ({reason}): give it as http://HOST:PORT")]
    Proxy {
        /// The server's name.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library has nothing to trust, or the like.
    #[error(
        "no connections can be made to [server.{server}] ({reason}): install this system's certificate authorities (the package is usually `ca-certificates`), or set `ca_file`"
    )]
    Unusable {
        /// The server's name.
        server: String,
        /// What the library said.
        reason: String,
    },
}

impl ClientError {
    /// Whether it may pass without a change of the configuration: a file appears, or is complete.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::CaFileInvalid { .. } | Self::Unusable { .. } => true,
            Self::Invalid { .. } | Self::Proxy { .. } => false,
        }
    }

    /// The file that it is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unreadable { path, .. } | Self::CaFileInvalid { path, .. } => Some(path),
            Self::Invalid { .. } | Self::Proxy { .. } | Self::Unusable { .. } => None,
        }
    }
}
