//! State shared by the connections of the simulated server and its handle: the tokens behind a lock,
//! the server's clock, and the recorded requests.

use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::behaviour::{Behaviour, Endpoint};
use super::fault::Fault;
use super::world::{Call, World};
use crate::secret::TokenValue;

/// A recorded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The endpoint; `None` if the path is not one of the API's.
    pub endpoint: Option<Endpoint>,
    /// The token value or API key, if it was valid.
    pub value: Option<TokenValue>,
    /// Time of arrival, since the start of the server.
    pub at: Duration,
    /// The HTTP status of the response; `None` if there was no response.
    pub status: Option<u16>,
}

pub(super) struct Shared {
    started: Instant,
    world: Mutex<World>,
    /// The requests so far.
    pub(super) requests: watch::Sender<Vec<Recorded>>,
    /// Number of connections so far.
    pub(super) connections: AtomicUsize,
}

impl Shared {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self {
            started: instant(),
            world: Mutex::new(World::new(behaviour)),
            requests: watch::Sender::new(Vec::new()),
            connections: AtomicUsize::new(0),
        }
    }

    /// The time since the server started.
    pub(super) fn now(&self) -> Duration {
        instant().saturating_duration_since(self.started)
    }

    /// The time of the server's clock, which may be wrong.
    pub(super) fn server_time(&self) -> Timestamp {
        let ahead = self.world().behaviour.clock_offset;
        let now = wall_clock();
        now.checked_add(ahead).unwrap_or(now)
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        self.world().behaviour.clone()
    }

    /// The fault to inject for `call`, if any.
    pub(super) fn fault(&self, call: &Call<'_>) -> Option<Fault> {
        let mut world = self.world();
        let mut interceptors = world.interceptors.iter_mut();
        interceptors.find_map(|fault| fault(call.endpoint, call.value(), call.server_time))
    }

    pub(super) fn with_world<T>(&self, act: impl FnOnce(&mut World, Duration) -> T) -> T {
        let now = self.now();
        act(&mut self.world(), now)
    }

    pub(super) fn record(&self, call: &Call<'_>, at: Duration, status: Option<u16>) {
        let value = call.value().and_then(|value| TokenValue::parse(value).ok());
        let recorded = Recorded { endpoint: call.endpoint, value, at, status };
        self.requests.send_modify(|requests| requests.push(recorded));
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic cannot leave the state inconsistent: no change spans two steps.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the simulator plays the remote side, with its own clock"
)]
fn instant() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the simulator plays the remote side, with its own clock"
)]
fn wall_clock() -> Timestamp {
    Timestamp::now()
}
