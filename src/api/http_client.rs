//! Builds the HTTP clients of one server: settings, trusted authorities, proxy.
//!
//! Owns every setting of the HTTP library. Never lets an error of it out unread. Which client a
//! request uses is decided in `connections`.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Proxy;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use super::materials::{CertificateWarning, Materials};
use super::transport_error::reason;
use super::tunnel::Tunnel;
use crate::settings::Server;

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

/// What the HTTP clients of one server are built from. All of them share one TLS configuration:
/// a session that one client has established is resumed by the others.
pub(super) struct HttpClientFactory {
    server: String,
    tls: ClientConfig,
    proxy: Option<Proxy>,
    connect_timeout: Duration,
    max_idle: usize,
    /// Whether the URL is plain HTTP, so that no request uses HTTP/2.
    plain: bool,
    /// Of all that was read for it.
    fingerprint: u64,
    warning: Option<CertificateWarning>,
    certificate_request: Arc<CertificateRequest>,
    has_certificate: bool,
    /// Where a tunnel through the proxy begins and ends, for an encrypted server.
    tunnel: Option<Tunnel>,
}

impl HttpClientFactory {
    /// Puts together what was read for `server`.
    pub(super) fn new(server: &Server, mut materials: Materials) -> Result<Self, ClientError> {
        let certificate_request = Arc::default();
        Ok(Self {
            server: server.name.clone(),
            tls: tls(server, &mut materials, &certificate_request)?,
            proxy: proxy(server, &materials)?,
            tunnel: Tunnel::to(server, &materials),
            has_certificate: server.client_certificate.is_some(),
            fingerprint: materials.fingerprint,
            warning: materials.warning,
            certificate_request,
            connect_timeout: server.connect_timeout.min(server.timeout),
            max_idle: usize::try_from(server.max_in_flight.get()).unwrap_or(usize::MAX),
            plain: server.url.scheme() == "http",
        })
    }

    /// The fingerprint of the files that it was built from.
    pub(super) const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// What is wrong with the client certificate although it can be used.
    pub(super) const fn warning(&self) -> Option<&CertificateWarning> {
        self.warning.as_ref()
    }

    /// What the server is known to want of client certificates.
    pub(super) fn certificate(&self) -> ClientCertificateState {
        if self.has_certificate {
            ClientCertificateState::Configured
        } else if self.certificate_request.seen() {
            ClientCertificateState::Lacking
        } else {
            ClientCertificateState::NotAskedFor
        }
    }

    /// The tunnel that each connection goes through, if one does.
    pub(super) const fn tunnel(&self) -> Option<&Tunnel> {
        self.tunnel.as_ref()
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
            // A redirect would carry the token to the host that it names, and the Referer as well.
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

/// TLS for `server`: its authorities alone are trusted, and its client certificate is presented
/// if the server asks for one.
fn tls(
    server: &Server,
    materials: &mut Materials,
    certificate_request: &Arc<CertificateRequest>,
) -> Result<ClientConfig, ClientError> {
    let unusable = |error: rustls::Error| ClientError::Unusable {
        server: server.name.clone(),
        reason: error.to_string(),
    };
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(mem::replace(&mut materials.authorities, RootCertStore::empty()));
    let mut config = match (materials.identity.take(), &server.client_certificate) {
        (Some((chain, key)), Some(files)) => {
            builder.with_client_auth_cert(chain, key).map_err(|error| ClientError::Invalid {
                server: server.name.clone(),
                key: "client_key_file",
                place: files.key_file.display().to_string(),
                reason: match error {
                    rustls::Error::InconsistentKeys(_) => format!(
                        "the key does not belong to the certificate in `client_cert_file` ({}): \
                         name the two files of one pair, with the client's own certificate first",
                        files.cert_file.display()
                    ),
                    error => format!("{error}: is it the key of `client_cert_file`?"),
                },
            })?
        }
        _ => builder.with_client_cert_resolver(Arc::clone(certificate_request) as _),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What is known of TLS client authentication with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientCertificateState {
    /// A certificate is configured.
    Configured,
    /// None is configured, and the server has asked for one.
    Lacking,
    /// None is configured, and the server has not asked for one.
    NotAskedFor,
}

/// Whether a server has asked for a client certificate, and got none.
#[derive(Debug, Default)]
pub(super) struct CertificateRequest(AtomicBool);

impl CertificateRequest {
    pub(super) fn seen(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for CertificateRequest {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

fn proxy(server: &Server, materials: &Materials) -> Result<Option<Proxy>, ClientError> {
    let Some(url) = &server.proxy else { return Ok(None) };
    let unusable = |reason| ClientError::Proxy { server: server.name.clone(), reason };
    // The library would take other schemes, and fail with each request.
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable(format!("its scheme is {}", url.scheme())));
    }
    let proxy = Proxy::all(url.clone()).map_err(|error| unusable(reason(&error)))?;
    Ok(Some(match &materials.proxy {
        Some((user, password)) => proxy.basic_auth(user, password),
        None => proxy,
    }))
}
