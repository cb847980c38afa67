//! Creates the HTTP clients of one server: settings, trusted authorities, proxy.
//!
//! Owns all settings of the HTTP library, and converts its errors. Which client a request uses is
//! decided in `connections`.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Proxy;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use super::client_error::ClientError;
use super::context::{ClientCertificateState, Section};
use super::materials::{
    CERT_KEYS, CertificateDates, CertificateWarning, KEY_KEYS, Materials, place,
};
use super::tls_sessions::TlsSessions;
use super::transport_error::reason;
use super::tunnel::Tunnel;
use crate::settings::Server;

/// Factory of the HTTP clients of one server. They share one TLS configuration: a session that one
/// client has established is resumed by the others.
pub(crate) struct HttpClientFactory {
    server: String,
    tls: ClientConfig,
    proxy: Option<Proxy>,
    connect_timeout: Duration,
    max_idle: usize,
    /// Whether the URL is plain HTTP, so that no request uses HTTP/2.
    plain: bool,
    /// Fingerprint of all files that were read for it.
    fingerprint: u64,
    certificate: Option<CertificateDates>,
    certificate_request: Arc<CertificateRequest>,
    has_certificate: bool,
    /// The tunnel through the proxy to an encrypted server.
    tunnel: Option<Tunnel>,
}

impl HttpClientFactory {
    /// Combines what was read for `server`.
    pub(super) fn new(server: &Server, mut materials: Materials) -> Result<Self, ClientError> {
        let certificate_request = Arc::default();
        Ok(Self {
            server: server.name.clone(),
            tls: tls(server, &mut materials, &certificate_request)?,
            proxy: proxy(server, &materials)?,
            tunnel: Tunnel::to(server, &materials),
            has_certificate: server.client_certificate.is_some(),
            fingerprint: materials.fingerprint,
            certificate: materials.certificate,
            certificate_request,
            connect_timeout: server.connect_timeout.min(server.timeout),
            max_idle: usize::try_from(server.max_in_flight.get()).unwrap_or(usize::MAX),
            plain: server.url.scheme() == "http",
        })
    }

    /// The fingerprint of the files that were read.
    pub(crate) const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Why servers reject the client certificate at this time.
    pub(crate) fn warning(&self, section: Section<'_>) -> Option<CertificateWarning> {
        self.certificate.as_ref()?.warning(section)
    }

    /// Whether the server asks for a client certificate.
    pub(crate) fn certificate(&self) -> ClientCertificateState {
        if self.has_certificate {
            ClientCertificateState::Configured
        } else if self.certificate_request.seen() {
            ClientCertificateState::Lacking
        } else {
            ClientCertificateState::NotAskedFor
        }
    }

    /// The tunnel of each connection, if there is one.
    pub(super) const fn tunnel(&self) -> Option<&Tunnel> {
        self.tunnel.as_ref()
    }

    /// A client that opens a connection for each request and closes it afterwards.
    pub(super) fn fresh(&self) -> Result<reqwest::Client, ClientError> {
        // Without a pool, an HTTP/2 connection is not shared by concurrent requests either.
        self.build(0, None)
    }

    /// A client that keeps connections open. A connection that is idle for `idle` is not reused; it
    /// is closed after twice that time, when the library checks.
    pub(super) fn pooled(&self, idle: Duration) -> Result<reqwest::Client, ClientError> {
        self.build(self.max_idle, Some(idle))
    }

    /// The same for responses that last: the kernel notices within about three times `keepalive`
    /// that the other end of a silent connection is gone.
    pub(crate) fn streaming(
        &self,
        idle: Duration,
        keepalive: Duration,
    ) -> Result<reqwest::Client, ClientError> {
        let builder = self.builder(self.max_idle, Some(idle));
        let builder = builder.tcp_keepalive(keepalive).tcp_keepalive_interval(keepalive);
        self.finish(builder.tcp_keepalive_retries(2))
    }

    fn build(
        &self,
        max_idle: usize,
        idle: Option<Duration>,
    ) -> Result<reqwest::Client, ClientError> {
        self.finish(self.builder(max_idle, idle))
    }

    fn finish(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::Client, ClientError> {
        builder.build().map_err(|error| ClientError::unusable(&self.server, reason(&error)))
    }

    fn builder(&self, max_idle: usize, idle: Option<Duration>) -> reqwest::ClientBuilder {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tokenkeep/", env!("CARGO_PKG_VERSION")))
            .default_headers(default_headers())
            .tls_backend_preconfigured(self.tls.clone())
            // A redirect would carry the token to the host that it names, and the Referer as well.
            .redirect(Policy::none())
            .referer(false)
            // Proxies from the environment would see every token: only a configured one is used.
            .no_proxy()
            .connect_timeout(self.connect_timeout)
            .pool_max_idle_per_host(max_idle)
            .pool_idle_timeout(idle)
            // A request has a time-out and an idle connection is closed soon: neither needs
            // keep-alive probes of TCP or HTTP/2, whose timers would wake an idle daemon.
            .tcp_nodelay(true);
        // The library repeats a request that an HTTP/2 server refused unread. Without HTTP/2 this
        // only costs a copy of each request, and a request on a fresh connection is sent once.
        if self.plain || max_idle == 0 {
            builder = builder.retry(reqwest::retry::never().max_retries_per_request(0));
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder
    }
}

fn default_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        // Without this header a server may send any encoding (RFC 9110, 12.5.3).
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        // A cached `Remaining` would be wrong.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ])
}

/// TLS for `server`. Only its authorities are trusted, and its client certificate is presented if
/// the server asks for one.
fn tls(
    server: &Server,
    materials: &mut Materials,
    certificate_request: &Arc<CertificateRequest>,
) -> Result<ClientConfig, ClientError> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::unusable(&server.name, error.to_string()))?
        .with_root_certificates(mem::replace(&mut materials.authorities, RootCertStore::empty()));
    let mut config = match (materials.identity.take(), &server.client_certificate) {
        (Some((chain, key)), Some(sources)) => {
            let cert_key = CERT_KEYS.of(&sources.cert);
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let reason = match error {
                    rustls::Error::InconsistentKeys(_) => format!(
                        "the key does not belong to the certificate in `{cert_key}` ({}): \
                         name the two parts of one pair, with the client's own certificate first",
                        place(&sources.cert)
                    ),
                    error => format!("{error}: is it the key of `{cert_key}`?"),
                };
                KEY_KEYS.invalid(server, &sources.key, reason)
            })?
        }
        _ => builder.with_client_cert_resolver(Arc::clone(certificate_request) as _),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::store(Arc::<TlsSessions>::default());
    Ok(config)
}

/// Whether a server has asked for a client certificate and got none.
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
    // The library accepts other schemes and would then fail with each request.
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable(format!("its scheme is {}", url.scheme())));
    }
    let proxy = Proxy::all(url.clone()).map_err(|error| unusable(reason(&error)))?;
    Ok(Some(match &materials.proxy {
        Some((user, password)) => proxy.basic_auth(user, password),
        None => proxy,
    }))
}
