//! Why there is no HTTP client for a server.

use std::io;
use std::path::{Path, PathBuf};

use crate::settings::Server;
use crate::token_source::{DISK_TIMEOUT, SourceError, sandbox_hint};

/// Why there is no client for a server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file cannot be read.
    #[error(
        "`{key}` of [server.{server}], {}, cannot be read: check its path and mode{}",
        path.display(),
        sandbox_hint(path).unwrap_or_default()
    )]
    Unreadable {
        /// The server's name.
        server: String,
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file has the wrong content or format.
    #[error("`{key}` of [server.{server}], {place}, cannot be used: {reason}")]
    Invalid {
        /// The server's name.
        server: String,
        /// The key that names the file.
        key: &'static str,
        /// The file, or the credential.
        place: String,
        /// The problem and the remedy.
        reason: String,
    },
    /// `ca_file` contains no usable certificate.
    #[error(
        "`ca_file` of [server.{server}], {}, contains no usable certificate: it must contain the \
         authority's certificate in PEM form (BEGIN CERTIFICATE)",
        path.display()
    )]
    CaFileInvalid {
        /// The server's name.
        server: String,
        /// The file.
        path: PathBuf,
    },
    /// A parameter of the profile's requests cannot be read.
    #[error("`with.{name}` of [server.{server}]: {source}")]
    Parameter {
        /// The server's name.
        server: String,
        /// The parameter's name.
        name: String,
        /// The problem and the remedy.
        source: Box<SourceError>,
    },
    /// The disk of a file did not respond in time.
    #[error(
        "the files of [server.{server}] cannot be read because the disk of one of them did not \
         respond within {} s: {}; check the disk, or the server of a network file system",
        DISK_TIMEOUT.as_secs(),
        files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    TimedOut {
        /// The server's name.
        server: String,
        /// All files that its settings name.
        files: Vec<PathBuf>,
    },
    /// `proxy` is not the URL of a proxy.
    #[error(
        "`proxy` of [server.{server}] cannot be used ({reason}): write it as \
    http://HOST:PORT"
    )]
    Proxy {
        /// The server's name.
        server: String,
        /// The problem.
        reason: String,
    },
    /// The TLS library cannot be set up, for example without any authority.
    #[error(
        "no connections can be made to [server.{server}] ({reason}): install this system's certificate authorities (the package is usually `ca-certificates`), or set `ca_file`"
    )]
    Unusable {
        /// The server's name.
        server: String,
        /// The library's error.
        reason: String,
    },
}

impl ClientError {
    /// The files that the settings of the server name did not respond in time.
    pub(crate) fn timed_out(server: &Server) -> Self {
        let files = server.files().into_iter().map(Path::to_path_buf).collect();
        Self::TimedOut { server: server.name.clone(), files }
    }

    pub(super) fn unusable(server: &str, reason: impl Into<String>) -> Self {
        Self::Unusable { server: server.to_owned(), reason: reason.into() }
    }

    /// Whether it can disappear without a configuration change: a file appears, or is completed.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Unreadable { .. }
            | Self::CaFileInvalid { .. }
            | Self::Parameter { .. }
            | Self::TimedOut { .. }
            | Self::Unusable { .. } => true,
            Self::Invalid { .. } | Self::Proxy { .. } => false,
        }
    }

    /// The affected file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unreadable { path, .. } | Self::CaFileInvalid { path, .. } => Some(path),
            Self::TimedOut { files, .. } => files.first().map(PathBuf::as_path),
            Self::Invalid { .. }
            | Self::Parameter { .. }
            | Self::Proxy { .. }
            | Self::Unusable { .. } => None,
        }
    }
}
