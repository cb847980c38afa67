//! Connection pool of one server: when it is bypassed or replaced.
//!
//! Owns two HTTP clients: one keeps connections open, the other opens one for each request. A pool
//! is replaced as a whole when
//!
//! - a fresh connection gets a conclusive response after a pooled one did not,
//! - it has reached the maximum age of a connection, or
//! - it was unused for so long that none of its connections would be used again.
//!
//! Requests in flight finish on the pool on which they started, which is dropped after the last
//! one.

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::http::{Extensions, Version};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpInfo;
use roaring::RoaringBitmap;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::time::timeout;

use super::client_error::ClientError;
use super::http_client::HttpClientFactory;
use super::materials::Materials;
use crate::clock;
use crate::outcome::{Connection, Outcome};
use crate::settings::Server;
use crate::time::Moment;

/// How long connections are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// An idle connection is closed after this time, and reused for half of it.
    pub idle: Duration,
    /// The maximum age of a connection, apart from requests in flight.
    pub age: Duration,
}

impl ConnectionLimits {
    /// How long an idle connection is used again.
    fn reuse(self) -> Duration {
        self.idle / 2
    }
}

impl Default for ConnectionLimits {
    /// Half a minute of reuse covers the checks that follow each other closely, and is below the
    /// keep-alive time of most servers. The age limit bounds how long requests go to an address
    /// that the server's name no longer resolves to.
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), age: Duration::from_secs(10 * 60) }
    }
}

/// What a result says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A conclusive response of the API.
    Conclusive,
    /// The API's own 401. Wrong if a fresh connection finds the token alive.
    Denied,
    /// The token is alive.
    Alive,
    /// Inconclusive: the connection may be the reason.
    Inconclusive,
    /// The server asked for a pause: neither a failure nor a success.
    Throttled,
}

impl From<&Outcome> for Verdict {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Alive { .. } => Self::Alive,
            Outcome::Expired(_) => Self::Conclusive,
            Outcome::Rejected(_) => Self::Denied,
            Outcome::Throttled { .. } => Self::Throttled,
            // A misrouted gateway responds with 403 or 404 as well as 502.
            Outcome::Misconfigured(_) | Outcome::Unavailable(_) => Self::Inconclusive,
        }
    }
}

/// The connections to one server.
pub(super) struct Connections {
    factory: HttpClientFactory,
    limits: ConnectionLimits,
    fresh: reqwest::Client,
    pool: Mutex<Pool>,
    /// Whether one connection serves concurrent requests, as far as is known.
    is_multiplexed: AtomicBool,
}

/// A client that keeps connections open, and what is known about them.
struct Pool {
    http: reqwest::Client,
    /// Number of the pool, counted per server.
    number: u64,
    opened: Moment,
    last_used: Moment,
    /// Local ports of connections that have served a request: their failure is that of a reused
    /// connection. A new connection may get the port of an earlier one, and then counts as reused.
    served: RoaringBitmap,
    /// Locked by the first request until it has a response.
    opening: Arc<RwLock<()>>,
    doubt: Doubt,
}

/// Whether a conclusive response on a fresh connection retires the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    /// Each response was conclusive.
    None,
    /// A token was denied (401).
    Denied,
    /// A request was inconclusive.
    Failed,
}

/// The client of one request.
pub(super) struct Lease {
    pub(super) http: reqwest::Client,
    /// The number of the pool; `None` for a fresh connection.
    pool: Option<u64>,
}

impl Connections {
    pub(super) fn new(
        server: &Server,
        materials: Materials,
        limits: ConnectionLimits,
    ) -> Result<Self, ClientError> {
        let factory = HttpClientFactory::new(server, materials)?;
        let pool = Pool::new(factory.pooled(limits.reuse())?, 0, clock::now());
        let is_multiplexed = AtomicBool::new(server.url.scheme() == "https");
        let (fresh, pool) = (factory.fresh()?, Mutex::new(pool));
        Ok(Self { factory, limits, fresh, pool, is_multiplexed })
    }

    /// What creates the HTTP clients.
    pub(super) const fn factory(&self) -> &HttpClientFactory {
        &self.factory
    }

    /// The client for one request. Replaces a pool that is too old.
    pub(super) fn lease(&self, connection: Connection) -> Lease {
        let fresh = || Lease { http: self.fresh.clone(), pool: None };
        if connection == Connection::Fresh {
            return fresh();
        }
        let now = clock::now();
        let mut pool = self.pool();
        // A connection of the pool may be used until its very last moment, and is then idle.
        let longest = self.limits.age.saturating_sub(self.limits.idle);
        // The clock runs while the machine sleeps, the library's timers do not. And requests that
        // start on a new pool share one connection.
        let is_unused = now.since(pool.last_used) >= self.limits.reuse();
        if now.since(pool.opened) >= longest || is_unused {
            self.replace(&mut pool, now);
        }
        if let Connection::OpenedAfter(moment) = connection
            && pool.opened <= moment
        {
            return fresh();
        }
        pool.last_used = now;
        Lease { http: pool.http.clone(), pool: Some(pool.number) }
    }

    /// Waits for the first response of a pool, for `patience` at most: with HTTP/2 one connection is
    /// enough, and the library would open one for each request that starts before. Returns a guard if
    /// this is the first request; the others wait until the guard is dropped.
    pub(super) async fn wait_for_first(
        &self,
        lease: &Lease,
        patience: Duration,
    ) -> Option<OwnedRwLockWriteGuard<()>> {
        let number = lease.pool.filter(|_| self.is_multiplexed.load(Ordering::Relaxed))?;
        let opening = {
            let pool = self.pool();
            if pool.number != number || !pool.served.is_empty() {
                return None;
            }
            Arc::clone(&pool.opening)
        };
        if let Ok(guard) = Arc::clone(&opening).try_write_owned() {
            return Some(guard);
        }
        // A request that is late is worse than a connection too many.
        let _ = timeout(patience, opening.read()).await;
        None
    }

    /// Records that the connection of this response has served a request.
    pub(super) fn note_response(&self, lease: &Lease, response: &reqwest::Response) {
        let is_multiplexed = response.version() == Version::HTTP_2;
        self.is_multiplexed.store(is_multiplexed, Ordering::Relaxed);
        let Some(number) = lease.pool else { return };
        let Some(port) = local_port(response.extensions()) else { return };
        let mut pool = self.pool();
        if pool.number == number {
            pool.served.insert(port);
        }
    }

    /// Whether `error` is the end of a reused connection before the head of a response. The server
    /// may have closed it while the request was sent (RFC 9112, 9.3.1).
    pub(super) fn reused_connection_ended(&self, lease: &Lease, error: &reqwest::Error) -> bool {
        let Some(number) = lease.pool else { return false };
        let Some(error) = error.source().and_then(|source| source.downcast_ref::<legacy::Error>())
        else {
            return false;
        };
        let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
        // An unparsable response is a response.
        if error.is_connect() || cause.is_none_or(|cause| cause.is_parse() || cause.is_user()) {
            return false;
        }
        let mut extensions = Extensions::new();
        if let Some(connected) = error.connect_info() {
            connected.get_extras(&mut extensions);
        }
        let pool = self.pool();
        // Connections of a pool that was replaced meanwhile count as reused.
        pool.number != number
            || local_port(&extensions).is_some_and(|port| pool.served.contains(port))
    }

    /// Records what a result says about its connection. Retires the pool if a fresh connection
    /// contradicts it.
    pub(super) fn judge(&self, lease: &Lease, verdict: Verdict) {
        let doubt = match verdict {
            Verdict::Conclusive | Verdict::Alive | Verdict::Throttled => Doubt::None,
            Verdict::Denied => Doubt::Denied,
            Verdict::Inconclusive => Doubt::Failed,
        };
        match lease.pool {
            Some(_) if doubt == Doubt::None => {}
            Some(number) => {
                let mut pool = self.pool();
                if pool.number == number {
                    pool.doubt = pool.doubt.max(doubt);
                }
            }
            None => {
                let contradicted = match verdict {
                    Verdict::Alive => Doubt::Denied,
                    Verdict::Conclusive | Verdict::Denied => Doubt::Failed,
                    Verdict::Inconclusive | Verdict::Throttled => return,
                };
                let mut pool = self.pool();
                if pool.doubt >= contradicted {
                    self.replace(&mut pool, clock::now());
                }
            }
        }
    }

    fn replace(&self, pool: &mut Pool, now: Moment) {
        // The same settings have worked before. Without a pool, each request has its own
        // connection.
        let http = self.factory.pooled(self.limits.reuse());
        *pool = Pool::new(http.unwrap_or_else(|_| self.fresh.clone()), pool.number + 1, now);
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn new(http: reqwest::Client, number: u64, now: Moment) -> Self {
        Self {
            http,
            number,
            opened: now,
            last_used: now,
            served: RoaringBitmap::new(),
            opening: Arc::default(),
            doubt: Doubt::None,
        }
    }
}

/// The local port of the connection.
fn local_port(extensions: &Extensions) -> Option<u32> {
    extensions.get::<HttpInfo>().map(|info| info.local_addr().port().into())
}
