//! The HTTP client of one server: how connections are made, kept and trusted.
//!
//! Owns every setting of the HTTP library. Never lets an error of it out unread.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Proxy};

use super::transport::reason;
use crate::settings::Server;

/// An idle connection is kept this long. Checks of a token are minutes to hours apart, and
/// a new TLS connection costs a request many times over; servers that want their sockets
/// back close them, which is noticed at once. A connection that died unseen costs no check
/// either: the probes below find it first, and a request that was never sent on it goes
/// out on a new one.
const KEEP_IDLE: Duration = Duration::from_secs(2 * 3600);

/// How often an idle connection is probed: below the 350 s after which common gateways
/// forget it, and three lost probes still find a dead one within three minutes.
const PROBE: Duration = Duration::from_secs(45);

/// How long an HTTP/2 ping may stay unanswered.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

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

/// The client that all requests to `server` go through.
pub(super) fn client(server: &Server) -> Result<reqwest::Client, ClientError> {
    let builder = retries(trust(connections(server), server)?, server);
    let builder = match proxy(server)? {
        Some(proxy) => builder.proxy(proxy),
        None => builder,
    };
    builder.build().map_err(|error| match &server.ca_file {
        Some(path) => {
            ClientError::CaFileInvalid { server: server.name.clone(), path: path.clone() }
        }
        None => ClientError::Unusable { server: server.name.clone(), reason: reason(&error) },
    })
}

fn connections(server: &Server) -> ClientBuilder {
    let idle = usize::try_from(server.max_in_flight.get()).unwrap_or(usize::MAX);
    reqwest::Client::builder()
        .user_agent(concat!("tokenkeep/", env!("CARGO_PKG_VERSION")))
        .default_headers(default_headers())
        // A redirect would carry the token to whoever it names, and the Referer as well.
        .redirect(Policy::none())
        .referer(false)
        // The environment's proxies would see every token: one is used by configuration only.
        .no_proxy()
        .connect_timeout(server.connect_timeout.min(server.timeout))
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(KEEP_IDLE)
        .tcp_nodelay(true)
        .tcp_keepalive(PROBE)
        .tcp_keepalive_interval(PROBE)
        .http2_keep_alive_interval(PROBE)
        .http2_keep_alive_timeout(PROBE_TIMEOUT)
        .http2_keep_alive_while_idle(true)
}

/// Only HTTP/2 has requests that a server refuses unread, which the library then repeats. Where
/// it is not spoken, keeping a copy of each request for that is in vain.
fn retries(builder: ClientBuilder, server: &Server) -> ClientBuilder {
    match server.url.scheme() {
        "http" => builder.retry(reqwest::retry::never().max_retries_per_request(0)),
        _ => builder,
    }
}

fn default_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        // A cached `Remaining` would be a lie about the life that is left.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ])
}

fn trust(builder: ClientBuilder, server: &Server) -> Result<ClientBuilder, ClientError> {
    let Some(path) = &server.ca_file else {
        let encrypted = [Some(&server.url), server.proxy.as_ref()]
            .iter()
            .flatten()
            .any(|url| url.scheme() != "http");
        // Without TLS nothing needs to be trusted, and a machine without authorities will do.
        return Ok(if encrypted { builder } else { builder.tls_certs_only([]) });
    };
    let pem = std::fs::read(path).map_err(|source| ClientError::CaFileUnreadable {
        server: server.name.clone(),
        path: path.clone(),
        source,
    })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(authorities) if !authorities.is_empty() => Ok(builder.tls_certs_only(authorities)),
        Ok(_) | Err(_) => {
            Err(ClientError::CaFileInvalid { server: server.name.clone(), path: path.clone() })
        }
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
