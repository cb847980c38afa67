//! Endpoints of etcd, with TLS, user and password: what a reload can change.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Notify;
use url::Url;

use super::interpret::Context;
use crate::api::{
    CertificateWarning, ClientCertificateState, ClientError, HttpClientFactory, Section,
    http_clients,
};
use crate::settings::{Cluster, Server, ad_hoc_server};
use crate::token_source::{Variables, read_parameter};

/// Time for a connection with its TLS handshake. Shorter than [`REQUEST_TIMEOUT`], so that a
/// request which was never sent is known as such.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);

/// After this time without a response, an endpoint is given up.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Idle connections are closed after this time, which is longer than the longest pause of beats.
const IDLE: Duration = Duration::from_secs(30);

/// How etcd is reached, and as whom. Prints without secrets.
pub struct Access {
    pub(super) endpoints: Vec<Endpoint>,
    /// The endpoint that answered last.
    current: AtomicUsize,
    pub(super) prefix: String,
    /// Name of this replica.
    pub(super) name: Arc<str>,
    pub(super) user: Option<(String, SecretString)>,
    pub(super) failover: Duration,
    /// Why there are no endpoints, if a file cannot be used.
    pub(super) unusable: Option<String>,
}

/// One endpoint.
pub(super) struct Endpoint {
    url: Url,
    /// Host and port, for messages.
    pub(super) label: String,
    factory: Arc<HttpClientFactory>,
    keepalive: Duration,
    http: Mutex<reqwest::Client>,
    /// Notified when the endpoint does not answer.
    pub(super) failed: Notify,
    /// The last request has ended because a password or a certificate was not accepted.
    pub(super) rejected: AtomicBool,
}

impl Access {
    /// Reads the files and credentials that a configuration names. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// Which one cannot be read or used: a sentence with a remedy.
    pub fn open(cluster: &Cluster, variables: Variables<'_>) -> Result<Self, String> {
        let user = match &cluster.user {
            None => None,
            Some((user, source)) => {
                let found = read_parameter(&source.into(), variables)
                    .map_err(|error| format!("`password` of [cluster]: {error}"))?;
                Some((user.clone(), found.value))
            }
        };
        let keepalive = cluster.failover / 3;
        let endpoints = cluster.etcd.iter().map(|url| {
            let server = Server {
                ca_file: cluster.ca_file.clone(),
                client_certificate: cluster.client_certificate.clone(),
                timeout: REQUEST_TIMEOUT,
                connect_timeout: CONNECT_TIMEOUT,
                ..ad_hoc_server("cluster", url.as_str(), true, None)?
            };
            let factory = http_clients(&server, variables).map_err(|error| unusable(&error))?;
            Endpoint::new(url.clone(), Arc::new(factory), keepalive)
        });
        let endpoints = endpoints.collect::<Result<_, _>>()?;
        Ok(Self { endpoints, user, ..Self::without_endpoints(cluster, None) })
    }

    /// Without endpoints: each request fails with this error.
    pub fn unusable(cluster: &Cluster, error: String) -> Self {
        Self::without_endpoints(cluster, Some(error))
    }

    fn without_endpoints(cluster: &Cluster, unusable: Option<String>) -> Self {
        Self {
            endpoints: Vec::new(),
            current: AtomicUsize::new(0),
            prefix: cluster.prefix.clone(),
            name: cluster.name.as_str().into(),
            user: None,
            failover: cluster.failover,
            unusable,
        }
    }

    /// Whether it has no endpoints, because a file cannot be used.
    pub const fn is_unusable(&self) -> bool {
        self.unusable.is_some()
    }

    /// Whether etcd rejects what was read: the password or a certificate. Or its own certificate is
    /// rejected because of `ca_file`.
    pub fn is_rejected(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.rejected.load(Ordering::Relaxed))
    }

    /// Equal for equal contents of the files and credentials within this process.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        // All endpoints have the same ones.
        self.endpoints.first().map(|endpoint| endpoint.factory.fingerprint()).hash(&mut hasher);
        let user = self.user.as_ref().map(|(user, password)| (user, password.expose_secret()));
        user.hash(&mut hasher);
        hasher.finish()
    }

    /// Why etcd rejects the client certificate at this time. All endpoints have the same one.
    pub fn certificate_warning(&self) -> Option<CertificateWarning> {
        self.endpoints.first()?.certificate_warning()
    }

    /// All endpoints, the one that answered last first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Endpoint> {
        let first = self.current.load(Ordering::Relaxed).min(self.endpoints.len());
        let (others, rest) = self.endpoints.split_at(first);
        rest.iter().chain(others)
    }

    /// The endpoint has answered: it is the first for the next request.
    pub(super) fn answered(&self, endpoint: &Endpoint) {
        if let Some(at) = self.position(endpoint) {
            self.current.store(at, Ordering::Relaxed);
        }
    }

    /// The endpoint has not answered: the next one is the first for the next request, and this one
    /// gets new connections. Ends a watch there.
    pub(super) fn gave_up(&self, endpoint: &Endpoint) {
        endpoint.reconnect();
        endpoint.failed.notify_waiters();
        if let Some(at) = self.position(endpoint) {
            let next = (at + 1) % self.endpoints.len();
            // Unless another request has found one that answers.
            let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Ends a watch on any endpoint.
    pub(super) fn retire(&self) {
        for endpoint in &self.endpoints {
            endpoint.failed.notify_waiters();
        }
    }

    pub(super) fn context(&self) -> Context<'_> {
        let user = self.user.as_ref().map(|(user, _)| user.as_str());
        Context { prefix: &self.prefix, user }
    }

    fn position(&self, endpoint: &Endpoint) -> Option<usize> {
        self.endpoints.iter().position(|other| std::ptr::eq(other, endpoint))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.endpoints.iter().map(|endpoint| &endpoint.label).collect();
        f.debug_struct("Access").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

impl Endpoint {
    fn new(url: Url, factory: Arc<HttpClientFactory>, keepalive: Duration) -> Result<Self, String> {
        let host = url.host_str().unwrap_or_default();
        let label = match url.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let http = client(&factory, keepalive).map_err(|error| unusable(&error))?;
        let (http, failed, rejected) = (Mutex::new(http), Notify::new(), AtomicBool::new(false));
        Ok(Self { url, label, factory, keepalive, http, failed, rejected })
    }

    /// The client of this endpoint.
    pub(super) fn http(&self) -> reqwest::Client {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether its URL is https.
    pub(super) fn is_encrypted(&self) -> bool {
        self.url.scheme() != "http"
    }

    /// Why it rejects the client certificate at this time.
    pub(super) fn certificate_warning(&self) -> Option<CertificateWarning> {
        self.factory.warning(Section::Cluster)
    }

    /// What is known about its demand for a client certificate.
    pub(super) fn certificate(&self) -> ClientCertificateState {
        self.factory.certificate()
    }

    /// The URL of a path of the gateway.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url
    }

    /// Replaces the pool: the other connections may be as dead as the one that failed.
    fn reconnect(&self) {
        // It succeeded with the same settings before.
        if let Ok(new) = client(&self.factory, self.keepalive) {
            *self.http.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }
}

fn client(
    factory: &HttpClientFactory,
    keepalive: Duration,
) -> Result<reqwest::Client, ClientError> {
    factory.streaming(IDLE, keepalive)
}

/// The sentence for a client that cannot be built. A `[server.NAME]` has other keys.
fn unusable(error: &ClientError) -> String {
    match error {
        ClientError::Unreadable { key, path, source, .. } => format!(
            "`{key}` of [cluster], {}, cannot be read ({source}): check its path and mode",
            path.display()
        ),
        ClientError::CaFileInvalid { path, .. } => format!(
            "`ca_file` of [cluster], {}, contains no usable certificate: it must contain the \
             authority's certificate in PEM form (BEGIN CERTIFICATE)",
            path.display()
        ),
        ClientError::Invalid { key, place, reason, .. } => {
            format!("`{key}` of [cluster], {place}, cannot be used: {reason}")
        }
        // Neither a proxy nor a parameter is configured.
        ClientError::Proxy { reason, .. } | ClientError::Unusable { reason, .. } => format!(
            "no connections can be made to etcd ({reason}): install this system's certificate \
             authorities (the package is usually `ca-certificates`), or set `ca_file` of [cluster]"
        ),
        ClientError::Parameter { source, .. } => source.to_string(),
        // Its files have a timeout of their own.
        ClientError::TimedOut { .. } => error.to_string(),
    }
}
