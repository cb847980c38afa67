//! Shutdown: what is waited for and for how long, revocations of tokens that are not to outlive the
//! daemon, and the last writes to the state database.
//!
//! Revocations keep the limits of every other request to a server.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::notices;
use super::tokens::{ServerHandle, Tokens};
use crate::clock;
use crate::event_log::{EventName, Fields, Severity};
use crate::lifecycle::Validity;
use crate::outcome::CallError;
use crate::scheduler::ServerId;
use crate::secret::TokenValue;

/// How long after a signal to stop the daemon waits for what must not be lost: a value that
/// is being obtained, renewed or written. Well within the unit's `TimeoutStopSec`.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long revocations may take: their results are logged within the grace period.
const REVOCATION_TIME: Duration = GRACE.saturating_sub(Duration::from_secs(1));

/// How long the last write to the state database may take after the grace period.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// The longest that a shutdown takes, for the service manager.
pub(crate) const LONGEST: Duration = GRACE.saturating_add(LAST_WRITE);

/// How long checks may continue if they can spend refresh tokens: a renewal that is in flight at the
/// end of the grace period loses its session.
pub(super) const LAST_ROTATION: Duration = Duration::from_secs(GRACE.as_secs() / 2);

/// The results of revoking the tokens of one server, by name.
pub(crate) type Revoked = Vec<(Box<str>, Result<(), CallError>)>;

/// The revocations that are running: one task for each server.
#[derive(Debug, Default)]
pub(crate) struct Revocations(JoinSet<Revoked>);

impl Revocations {
    /// Starts to revoke the tokens that are not to outlive the daemon, and removes them: nothing
    /// else is done with these tokens any more.
    pub(crate) fn begin(&mut self, tokens: &mut Tokens) {
        let mut doomed: HashMap<ServerId, Vec<(Box<str>, TokenValue)>> = HashMap::new();
        let mut ids = Vec::new();
        let Tokens { scheduler, registry, servers, .. } = &*tokens;
        for (id, entry) in registry.ids().filter(|(_, entry)| entry.config().revoke_on_shutdown) {
            let Some(token) = scheduler.token(id) else { continue };
            let is_alive = match token.validity() {
                Validity::Unknown | Validity::Alive(_) | Validity::Unverified(_) => true,
                Validity::Missing | Validity::Expired | Validity::Rejected => false,
            };
            if is_alive && let Some(value) = entry.value(token.active_slot()) {
                let of_server = doomed.entry(entry.config().server).or_default();
                of_server.push((entry.name().into(), value.to_value()));
                ids.push(id);
            }
        }
        let now = clock::now();
        for (server, values) in doomed {
            let handle = servers[server].clone();
            let throttled = scheduler.throttled_until(server).since(now);
            self.0.spawn(revoke(handle, values, throttled));
        }
        for id in ids {
            tokens.remove(id);
        }
    }

    /// Whether no revocation is running.
    pub(crate) fn are_complete(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for the next revocations to end; `None` if there are none. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Revoked> {
        Some(self.0.join_next().await?.unwrap_or_default())
    }
}

/// Logs the results of revocations, and deletes the persisted state of revoked tokens.
pub(crate) fn on_revoked(revoked: Revoked, tokens: &mut Tokens) {
    for (name, result) in revoked {
        let fields = Fields { token: Some(&name), ..Fields::default() };
        match &result {
            Ok(()) => {
                if let Some(writer) = tokens.recorder.writer() {
                    writer.delete_life(&name);
                    writer.delete_value(&name);
                }
                tokens.log.event(EventName::TokenRevoked, "token revoked", fields);
            }
            Err(fault) => {
                let message = "token revocation failed; the token remains valid until it expires";
                let fields = notices::with_fault(&fields, fault);
                tokens.log.event_at(Severity::Warn, EventName::TokenRevoked, message, fields);
            }
        }
    }
}

/// Writes what is left to the state database, if the disk takes it in time. That includes refresh
/// tokens that could not be stored before; what cannot be written now is lost.
pub(super) async fn close_store(tokens: &mut Tokens) {
    let refresh_tokens = tokens.companions.save_all();
    if let Some(writer) = tokens.recorder.take_writer()
        && let Ok(Err(error)) = timeout(LAST_WRITE, writer.close()).await
    {
        let error = error.to_string();
        let fields = Fields { error: Some(&error), ..Fields::default() };
        let message = "the last write to the state database failed";
        tokens.log.event(EventName::StoreFailed, message, fields);
    }
    for (name, receipt) in refresh_tokens {
        let written = receipt.and_then(|receipt| receipt.durable().now_or_never());
        if let Some(Ok(())) = written {
            continue;
        }
        let error = "it could be written neither to its file nor to the state database";
        let fields = Fields { token: Some(&name), error: Some(error), ..Fields::default() };
        let message = "the new refresh token is lost; a new login is needed after the restart";
        tokens.log.event(EventName::StoreFailed, message, fields);
    }
}

/// Revokes `tokens` once the server's pause is over. Returns a result for each within
/// [`REVOCATION_TIME`].
async fn revoke(
    server: ServerHandle,
    tokens: Vec<(Box<str>, TokenValue)>,
    throttled: Duration,
) -> Revoked {
    let mut end = pin!(sleep(REVOCATION_TIME));
    sleep(throttled.min(REVOCATION_TIME)).await;
    let limit = usize::try_from(server.settings.max_in_flight.get()).unwrap_or(usize::MAX);
    let mut pace = interval(Duration::from_secs(1) / server.settings.rate_limit.get());
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open: BTreeSet<Box<str>> = tokens.iter().map(|(name, _)| name.clone()).collect();
    let mut tokens = tokens.into_iter();
    let mut in_flight = FuturesUnordered::new();
    let mut revoked = Vec::with_capacity(open.len());
    while !open.is_empty() {
        tokio::select! {
            biased;
            () = &mut end => break,
            Some((name, result)) = in_flight.next() => {
                open.remove(&name);
                revoked.push((name, result));
            }
            _ = pace.tick(), if tokens.len() > 0 && in_flight.len() < limit => {
                let client = server.client.clone();
                in_flight.extend(tokens.next().map(|(name, value)| async move {
                    let result = match client {
                        Ok(client) => client.revoke(&value, server.settings.timeout).await,
                        Err(fault) => Err(fault),
                    };
                    (name, result)
                }));
            }
        }
    }
    let too_late =
        || CallError::new("the daemon stopped before the server confirmed the revocation");
    revoked.extend(open.into_iter().map(|name| (name, Err(too_late()))));
    revoked
}
