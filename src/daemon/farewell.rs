//! The end: what must not be lost is waited for, and tokens that are not to outlive the
//! daemon are revoked, under the same limits as every other request to a server.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use signal_hook::consts::SIGHUP;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::deeds::Done;
use super::roster::Remote;
use super::{Daemon, GRACE};
use crate::clock;
use crate::events::{Fields, Name, Severity};
use crate::keeper::{ServerId, Ticket, TokenId};
use crate::lifecycle::{Effect, Standing, Token};
use crate::outcome::Fault;
use crate::secret::TokenValue;
use crate::systemd;

/// How long revoking may take: what came of it is to be told within the grace period.
const TIME: Duration = GRACE.saturating_sub(Duration::from_secs(1));

/// How long the last write to the store may take after the grace period.
const LAST_WRITE: Duration = Duration::from_secs(2);

impl Daemon {
    /// Stops: nothing new is begun, and what may bring or keep a value gets until [`GRACE`].
    pub(super) async fn wind_down(mut self) {
        self.say(Name::DaemonStopping, Severity::Info, "stopping", Fields::default());
        self.told(systemd::stopping());
        self.told(systemd::extend_timeout(GRACE + LAST_WRITE + Duration::from_secs(1)));
        self.stopping = true;
        self.keeper.close();
        self.queries.abort_all();
        self.rewrite_at_the_end();
        self.keeper.end(clock::now(), &mut self.outputs);
        self.perform();
        self.revoke_all();
        let deadline = sleep(GRACE);
        let mut deadline = pin!(deadline);
        loop {
            tokio::select! {
                biased;
                () = &mut deadline => break,
                signal = self.signals.next() => if signal != Some(SIGHUP) { break },
                done = self.deeds.join_next() => match done {
                    Some(Ok(done)) => self.done(done),
                    Some(Err(_)) => {}
                    None => break,
                },
            }
        }
        self.deeds.shutdown().await;
        self.close_store().await;
        self.say(Name::DaemonStopped, Severity::Info, "stopped", Fields::default());
    }

    /// Whether something is begun even while the daemon stops, as a value would be lost.
    pub(super) fn is_worth_waiting_for(&self, ticket: Ticket, effect: Effect) -> bool {
        match effect {
            Effect::Store { .. } => true,
            Effect::Ask { slot, .. } => {
                let keeps = |token: Token| token.has_unkept_candidate();
                slot == self.keeper.spare_slot(ticket.token)
                    && self.keeper.token(ticket.token).is_some_and(keeps)
            }
            Effect::Reauth { .. } | Effect::Revoke { .. } => false,
        }
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
    fn revoke_all(&mut self) {
        let mut doomed: HashMap<ServerId, Vec<(TokenId, TokenValue)>> = HashMap::new();
        for (id, kept) in self.roster.ids().filter(|(_, kept)| kept.terms().revoke_on_shutdown) {
            let Some(token) = self.keeper.token(id) else { continue };
            let lives = match token.standing() {
                Standing::Unknown | Standing::Alive(_) | Standing::Unverified(_) => true,
                Standing::Missing | Standing::Expired | Standing::Rejected => false,
            };
            if lives && let Some(value) = kept.value(token.active_slot()) {
                doomed.entry(kept.terms().server).or_default().push((id, value.to_value()));
            }
        }
        let now = clock::now();
        for (server, tokens) in doomed {
            let remote = self.roster.remote(server).clone();
            let quiet = self.keeper.quiet_until(server).since(now);
            self.deeds.spawn(revoke(remote, tokens, quiet));
        }
    }

    pub(super) fn revoked(&mut self, revoked: Vec<(TokenId, Result<(), Fault>)>) {
        for (id, result) in revoked {
            let Some(name) = self.roster.token(id).map(|kept| kept.name().to_owned()) else {
                continue;
            };
            let fields = Fields { token: Some(&name), ..Fields::default() };
            match &result {
                Ok(()) => {
                    if let Some(store) = &mut self.store {
                        store.forget(&name);
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
async fn revoke(remote: Remote, tokens: Vec<(TokenId, TokenValue)>, quiet: Duration) -> Done {
    let mut end = pin!(sleep(TIME));
    sleep(quiet.min(TIME)).await;
    let limit = usize::try_from(remote.settings.max_in_flight.get()).unwrap_or(usize::MAX);
    let mut pace = interval(Duration::from_secs(1) / remote.settings.rate_limit.get());
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open: BTreeSet<TokenId> = tokens.iter().map(|(id, _)| *id).collect();
    let mut tokens = tokens.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut revoked = Vec::with_capacity(open.len());
    while !open.is_empty() {
        tokio::select! {
            biased;
            () = &mut end => break,
            Some((id, result)) = under_way.next() => {
                open.remove(&id);
                revoked.push((id, result));
            }
            _ = pace.tick(), if tokens.len() > 0 && under_way.len() < limit => {
                let client = remote.client.clone();
                under_way.extend(tokens.next().map(|(id, value)| async move {
                    (id, client.revoke(&value, remote.settings.timeout).await)
                }));
            }
        }
    }
    let too_late = || Fault::new("the daemon had to stop before the server confirmed it");
    revoked.extend(open.into_iter().map(|id| (id, Err(too_late()))));
    Done::Revoked(revoked)
}
