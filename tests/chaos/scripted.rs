//! The scripted server of `tests/wire`, with the time of each request.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokenkeep::clock::Stopwatch;

pub(crate) use self::server::{DENIED, Reaction};
use self::server::{Protocol, Server};

#[path = "../wire/server.rs"]
#[allow(dead_code, reason = "tests/wire uses all of it, these scenarios a part")]
mod server;

/// Below the ports of clients, which the firewall tells apart.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// A request that came in.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) connection: usize,
    pub(crate) value: String,
    pub(crate) at: Duration,
    /// Whether it got the API's own response.
    pub(crate) served: bool,
}

/// A running server. It stops when this is dropped.
pub(crate) struct Scripted {
    server: Server,
    clock: Stopwatch,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    /// Plain HTTP/1.1. `script` decides about a request by its connection and its number on that
    /// connection, both counted from 1.
    pub(crate) async fn http1(
        script: impl Fn(usize, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::start(Protocol::Http1, script).await
    }

    /// The same with HTTP/2 over TLS.
    pub(crate) async fn http2(
        script: impl Fn(usize, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::start(Protocol::Http2, script).await
    }

    async fn start(
        protocol: Protocol,
        script: impl Fn(usize, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let address = format!("127.0.0.1:{}", NEXT_PORT.fetch_add(1, Ordering::Relaxed));
        let (clock, asked) = (Stopwatch::start(), Arc::new(Mutex::new(Vec::new())));
        let record = Arc::clone(&asked);
        let server = Server::start_on(&address, protocol, move |visit| {
            let reaction = script(visit.connection, visit.request);
            record.lock().unwrap_or_else(PoisonError::into_inner).push(Asked {
                connection: visit.connection,
                value: visit.value.clone(),
                at: clock.elapsed(),
                served: matches!(reaction, Reaction::Api | Reaction::ApiAfter(_)),
            });
            reaction
        })
        .await;
        Self { server, clock, asked }
    }

    /// The configuration of this server.
    pub(crate) fn table(&self, name: &str) -> String {
        let url = self.server.url();
        let ca_file = self.server.ca_file().map(|path| format!("ca_file = \"{}\"", path.display()));
        format!("[server.{name}]\nurl = \"{url}\"\n{}\n", ca_file.unwrap_or_default())
    }

    pub(crate) fn add_token(&self, value: &str, life: Duration) {
        self.server.add_token(value, life);
    }

    /// The time since the server started.
    pub(crate) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests about this value that the API itself answered after `since`.
    pub(crate) fn served(&self, value: &str, since: Duration) -> Vec<Asked> {
        let asked = self.asked().into_iter();
        asked.filter(|asked| asked.served && asked.value == value && asked.at > since).collect()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.server.connections()
    }
}
