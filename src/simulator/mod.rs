//! Simulated session API: a real HTTP server on a loopback port, in real time.
//!
//! For tests and for `tokenkeep demo`; the daemon does not use it. It implements the API's reference
//! independently of `api`, so that an error there is not repeated here.

mod behaviour;
mod envelope;
mod fault;
mod serve;
mod shared;
mod world;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::behaviour::{Behaviour, Endpoint, ErrorStyle, RenewsBy, Reports};
pub use self::fault::{Fault, Interceptor};
pub use self::shared::Recorded;
use self::shared::Shared;

/// Ports below the ephemeral range of Linux (`net.ipv4.ip_local_port_range`).
const LASTING_PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A running server. Dropping it stops the server and closes its connections.
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Simulator {
    /// Starts a server on a free loopback port. Needs a tokio runtime of any flavour.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub async fn start(behaviour: Behaviour) -> io::Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), behaviour).await
    }

    /// Starts a server that can go down and [come back](Self::come_back), on a port that the system
    /// does not assign to other sockets meanwhile.
    ///
    /// # Errors
    ///
    /// If no such port is free.
    pub async fn start_lasting(behaviour: Behaviour) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let address = (Ipv4Addr::LOCALHOST, fastrand::u16(LASTING_PORTS)).into();
            match Self::start_on(address, behaviour.clone()).await {
                Err(_) if tries < 100 => tries += 1,
                started => return started,
            }
        }
    }

    /// Starts a server on `address`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// If the address is in use or does not belong to this machine.
    pub async fn start_on(address: SocketAddr, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(behaviour));
        let accepting = tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// The base URL with the path prefix, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.shared.behaviour().path_prefix)
    }

    /// The listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds the token `value` with a full life of `life`.
    pub fn add_token(&self, value: &str, life: Duration) {
        self.shared.with_world(|world, now| world.add(value, life, now));
    }

    /// Makes `value` invalid (401), as `RevokeSessionToken` does.
    pub fn revoke(&self, value: &str) {
        self.shared.with_world(|world, _| world.revoke(value));
    }

    /// Lets `value` expire now (410).
    pub fn expire(&self, value: &str) {
        self.shared.with_world(|world, now| world.expire(value, now));
    }

    /// Makes `value` unknown (401).
    pub fn forget(&self, value: &str) {
        self.shared.with_world(|world, _| world.tokens.remove(value));
    }

    /// All known values, dead or alive, in no particular order.
    pub fn tokens(&self) -> Vec<String> {
        self.shared.with_world(|world, _| world.tokens.keys().cloned().collect())
    }

    /// Remaining life of `value`: zero if it has expired, `None` if it is unknown or revoked.
    pub fn remaining(&self, value: &str) -> Option<Duration> {
        self.shared.with_world(|world, now| world.remaining(value, now))
    }

    /// Changes the behaviour, from the next request.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.with_world(|world, _| world.behaviour = behaviour);
    }

    /// Adds an interceptor. For each request, the first one that returns a fault decides.
    pub fn intercept(&self, interceptor: Interceptor) {
        self.shared.with_world(|world, _| world.interceptors.push(interceptor));
    }

    /// Removes all interceptors.
    pub fn clear_interceptors(&self) {
        self.shared.with_world(|world, _| world.interceptors.clear());
    }

    /// All requests so far, in order of their responses.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.borrow().clone()
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Waits until the recorded requests satisfy `condition`.
    pub async fn until(&self, mut condition: impl FnMut(&[Recorded]) -> bool) {
        let mut requests = self.shared.requests.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = requests.wait_for(|requests| condition(requests)).await;
    }

    /// Stops listening and drops all connections. The tokens stay, and their lives continue.
    pub async fn go_down(&mut self) {
        self.accepting.abort();
        // The socket is closed when the task has ended; the abort error is expected.
        let _ = (&mut self.accepting).await;
    }

    /// Listens again on the same port after [`Simulator::go_down`]. Use [`Simulator::start_lasting`],
    /// because another process may take a port of [`Simulator::start`] meanwhile.
    ///
    /// # Errors
    ///
    /// If the port is in use.
    pub async fn come_back(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.accepting = tokio::spawn(serve::accept(listener, Arc::clone(&self.shared)));
        Ok(())
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
