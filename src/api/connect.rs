//! Builds the HTTP clients of one server: settings, trusted authorities, proxy.
//!
//! Owns every setting of the HTTP library. Never lets an error of it out unread. Which client a
//! request uses is decided in `connections`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Proxy;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::transport::reason;
use crate::settings::Server;

/// Why there is no client for a server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// `ca_file` cannot be read.
    #[error("`ca_file` of [server.{server}], {}, cannot be read: check its path and mode", path.display())]
    CaFileUnreadable {
        /// The server's name.
        server: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
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
            Self::CaFileUnreadable { .. } | Self::CaFileInvalid { .. } | Self::Unusable { .. } => {
                true
            }
            Self::Proxy { .. } => false,
        }
    }

    /// The file that it is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::CaFileUnreadable { path, .. } | Self::CaFileInvalid { path, .. } => Some(path),
            Self::Proxy { .. } | Self::Unusable { .. } => None,
        }
    }
}

/// What the HTTP clients of one server are built from. All of them share one TLS configuration:
/// a session that one client has established is resumed by the others.
pub(super) struct Blueprint {
    server: String,
    tls: ClientConfig,
    proxy: Option<Proxy>,
    connect_timeout: Duration,
    max_idle: usize,
    /// Whether the URL is plain HTTP, so that no request uses HTTP/2.
    plain: bool,
}

impl Blueprint {
    /// Reads the authorities that `server` is verified with.
    pub(super) fn new(server: &Server) -> Result<Self, ClientError> {
        Ok(Self {
            server: server.name.clone(),
            tls: tls(server)?,
            proxy: proxy(server)?,
            connect_timeout: server.connect_timeout.min(server.timeout),
            max_idle: usize::try_from(server.max_in_flight.get()).unwrap_or(usize::MAX),
            plain: server.url.scheme() == "http",
        })
    }

    /// A client that opens a connection for each request and closes it afterwards.
    pub(super) fn fresh(&self) -> Result<reqwest::Client, ClientError> {
        // Without a pool, an HTTP/2 connection is not shared by concurrent requests either.
        self.build(0, None)
    }

    /// A client that keeps connections open. One that is idle for `idle` is not used again; it
    /// is closed after twice that time at the latest, which is when the library looks for it.
    pub(super) fn pooled(&self, idle: Duration) -> Result<reqwest::Client, ClientError> {
        self.build(self.max_idle, Some(idle))
    }

    fn build(
        &self,
        max_idle: usize,
        idle: Option<Duration>,
    ) -> Result<reqwest::Client, ClientError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tokenkeep/", env!("CARGO_PKG_VERSION")))
            .default_headers(default_headers())
            .tls_backend_preconfigured(self.tls.clone())
            // A redirect would carry the token to whoever it names, and the Referer as well.
            .redirect(Policy::none())
            .referer(false)
            // The environment's proxies would see every token: one is used by configuration only.
            .no_proxy()
            .connect_timeout(self.connect_timeout)
            .pool_max_idle_per_host(max_idle)
            .pool_idle_timeout(idle)
            // A request has a time-out and an idle connection is closed soon: neither needs
            // keep-alive probes of TCP or HTTP/2, whose timers would wake an idle daemon.
            .tcp_nodelay(true);
        // The library repeats a request that an HTTP/2 server refused unread. Where no HTTP/2 is
        // spoken, the copy of each request that this takes is wasted; on a fresh connection, a
        // request is sent once.
        if self.plain || max_idle == 0 {
            builder = builder.retry(reqwest::retry::never().max_retries_per_request(0));
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder.build().map_err(|error| ClientError::Unusable {
            server: self.server.clone(),
            reason: reason(&error),
        })
    }
}

fn default_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        // Without this header a server may send any encoding (RFC 9110, 12.5.3).
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        // A cached `Remaining` would be a lie about the life that is left.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ])
}

/// TLS for `server`: with a `ca_file` its authorities alone are trusted, otherwise the system's.
fn tls(server: &Server) -> Result<ClientConfig, ClientError> {
    let unusable = |error: rustls::Error| ClientError::Unusable {
        server: server.name.clone(),
        reason: error.to_string(),
    };
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let encrypted = [Some(&server.url), server.proxy.as_ref()]
        .iter()
        .flatten()
        .any(|url| url.scheme() != "http");
    let builder = match &server.ca_file {
        Some(path) => builder.with_root_certificates(authorities(server, path)?),
        None if encrypted => builder.with_platform_verifier().map_err(unusable)?,
        // Without TLS nothing needs to be trusted, and a machine without authorities will do.
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities in the file at `path`, which is `ca_file` of `server`.
fn authorities(server: &Server, path: &Path) -> Result<RootCertStore, ClientError> {
    let (server, path) = (server.name.clone(), path.to_owned());
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(source) => return Err(ClientError::CaFileUnreadable { server, path, source }),
    };
    let mut store = RootCertStore::empty();
    let read = CertificateDer::pem_slice_iter(&pem)
        .try_for_each(|certificate| store.add(certificate.ok()?).ok());
    match read {
        Some(()) if !store.is_empty() => Ok(store),
        Some(()) | None => Err(ClientError::CaFileInvalid { server, path }),
    }
}

fn proxy(server: &Server) -> Result<Option<Proxy>, ClientError> {
    let Some(url) = &server.proxy else { return Ok(None) };
    let unusable = |reason| ClientError::Proxy { server: server.name.clone(), reason };
    // The library would take other schemes, and fail with each request.
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable(format!("its scheme is {}", url.scheme())));
    }
    Proxy::all(url.clone()).map(Some).map_err(|error| unusable(reason(&error)))
}
