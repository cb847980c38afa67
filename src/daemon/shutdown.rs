//! Shutdown: what must not be lost is waited for while checks continue, and tokens that are not to outlive the
//! daemon are revoked, under the same limits as every other request to a server.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use signal_hook::consts::SIGHUP;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{Daemon, GRACE, Round};
use crate::clock::{self, Alarm};
use crate::daemon::tasks::Completion;
use crate::daemon::tokens::ServerHandle;
use crate::events::{Fields, Name, Severity};
use crate::keeper::ServerId;
use crate::lifecycle::Standing;
use crate::outcome::Fault;
use crate::secret::TokenValue;
use crate::systemd;

/// How long revoking may take: what came of it is to be told within the grace period.
const TIME: Duration = GRACE.saturating_sub(Duration::from_secs(1));

/// How long the last write to the store may take after the grace period.
const LAST_WRITE: Duration = Duration::from_secs(2);

impl Daemon {
    /// Stops within [`GRACE`]. Until what must not be lost has ended, checks continue: a token
    /// with a short life would not survive a pause of that length.
    pub(crate) async fn wind_down(mut self, mut alarm: Alarm) {
        self.say(Name::DaemonStopping, Severity::Info, "stopping", Fields::default());
        self.told(systemd::stopping());
        self.told(systemd::extend_timeout(GRACE + LAST_WRITE + Duration::from_secs(1)));
        self.stopping = true;
        self.stop_reload();
        self.tokens.scheduler.stop_reauth();
        self.rewrite_at_the_end();
        self.tokens.scheduler.end(clock::now(), &mut self.tokens.actions);
        self.revoke_all();
        self.perform();
        let mut deadline = pin!(sleep(GRACE));
        let mut closed = false;
        loop {
            if !closed && self.deeds.is_empty() && !self.tokens.scheduler.has_unkept_candidates() {
                closed = true;
                self.end_checks().await;
            }
            if closed && self.deeds.is_empty() && self.renewals.is_empty() {
                break;
            }
            match self.round(&mut alarm, &mut deadline).await {
                Ok(Round::Worked | Round::Signal(Some(SIGHUP))) => {}
                Ok(Round::Signal(_) | Round::Over) | Err(_) => break,
            }
        }
        self.tokens.scheduler.close();
        for tasks in [&mut self.queries, &mut self.renewals, &mut self.deeds] {
            self.open_actions -= tasks.abort_all().await.len();
        }
        self.close_store().await;
        self.say(Name::DaemonStopped, Severity::Info, "stopped", Fields::default());
    }

    /// Nothing is checked from now on. Only renewing calls in flight, and the last attempt to store
    /// what could not be stored, are still waited for.
    async fn end_checks(&mut self) {
        self.tokens.scheduler.close();
        for ticket in self.queries.abort_all().await {
            self.cancel(ticket);
        }
        self.tokens.scheduler.end(clock::now(), &mut self.tokens.actions);
        self.perform();
    }

    /// Has what was told last written down, if the disk takes it in time.
    async fn close_store(&mut self) {
        let Some(store) = self.store.take() else { return };
        if let Ok(Err(fault)) = timeout(LAST_WRITE, store.close()).await {
            let error = fault.to_string();
            let fields = Fields { error: Some(&error), ..Fields::default() };
            self.say(Name::StoreFailed, Severity::Error, "the last write failed", fields);
        }
    }

    /// Starts to revoke the tokens that are not to outlive the daemon: a task for each server.
    /// Nothing else is done with these tokens any more.
    fn revoke_all(&mut self) {
        let mut doomed: HashMap<ServerId, Vec<(Box<str>, TokenValue)>> = HashMap::new();
        let mut ids = Vec::new();
        for (id, kept) in
            self.tokens.registry.ids().filter(|(_, kept)| kept.terms().revoke_on_shutdown)
        {
            let Some(token) = self.tokens.scheduler.token(id) else { continue };
            let lives = match token.standing() {
                Standing::Unknown | Standing::Alive(_) | Standing::Unverified(_) => true,
                Standing::Missing | Standing::Expired | Standing::Rejected => false,
            };
            if lives && let Some(value) = kept.value(token.active_slot()) {
                let of_server = doomed.entry(kept.terms().server).or_default();
                of_server.push((kept.name().into(), value.to_value()));
                ids.push(id);
            }
        }
        let now = clock::now();
        for (server, tokens) in doomed {
            let remote = self.tokens.registry.remote(server).clone();
            let quiet = self.tokens.scheduler.quiet_until(server).since(now);
            self.deeds.spawn(revoke(remote, tokens, quiet));
        }
        for id in ids {
            self.let_go(id);
        }
    }

    pub(crate) fn revoked(&mut self, revoked: Vec<(Box<str>, Result<(), Fault>)>) {
        for (name, result) in revoked {
            let fields = Fields { token: Some(&name), ..Fields::default() };
            match &result {
                Ok(()) => {
                    if let Some(store) = &mut self.store {
                        store.forget(&name);
                        store.forget_value(&name);
                    }
                    self.say(Name::TokenRevoked, Severity::Info, "the token is revoked", fields);
                }
                Err(fault) => self.say(
                    Name::TokenRevoked,
                    Severity::Warn,
                    "the token could not be revoked; it ends by itself",
                    Fields {
                        status: fault.status,
                        detail: fault.detail.as_deref(),
                        error: Some(&fault.error),
                        ..fields
                    },
                ),
            }
        }
    }
}

/// Revokes `tokens` once the server's wish for quiet is over, and tells of each what came of it
/// before the grace period ends.
async fn revoke(
    remote: ServerHandle,
    tokens: Vec<(Box<str>, TokenValue)>,
    quiet: Duration,
) -> Completion {
    let mut end = pin!(sleep(TIME));
    sleep(quiet.min(TIME)).await;
    let limit = usize::try_from(remote.settings.max_in_flight.get()).unwrap_or(usize::MAX);
    let mut pace = interval(Duration::from_secs(1) / remote.settings.rate_limit.get());
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open: BTreeSet<Box<str>> = tokens.iter().map(|(name, _)| name.clone()).collect();
    let mut tokens = tokens.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut revoked = Vec::with_capacity(open.len());
    while !open.is_empty() {
        tokio::select! {
            biased;
            () = &mut end => break,
            Some((name, result)) = under_way.next() => {
                open.remove(&name);
                revoked.push((name, result));
            }
            _ = pace.tick(), if tokens.len() > 0 && under_way.len() < limit => {
                let client = remote.client.clone();
                under_way.extend(tokens.next().map(|(name, value)| async move {
                    (name, client.revoke(&value, remote.settings.timeout).await)
                }));
            }
        }
    }
    let too_late = || Fault::new("the daemon had to stop before the server confirmed it");
    revoked.extend(open.into_iter().map(|name| (name, Err(too_late()))));
    Completion::Revoked(revoked)
}
