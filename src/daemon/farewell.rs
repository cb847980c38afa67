//! Revoking tokens at the end, where the configuration asks for it, under the same limits as
//! every other request to a server.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{MissedTickBehavior, interval};

use super::deeds::Done;
use super::roster::Remote;
use super::{Daemon, GRACE};
use crate::events::{Fields, Name, Severity};
use crate::keeper::{ServerId, TokenId};
use crate::lifecycle::Standing;
use crate::outcome::Fault;
use crate::secret::TokenValue;

impl Daemon {
    /// Starts to revoke the tokens that are not to outlive the daemon: a task for each server.
    pub(super) fn revoke_all(&mut self) {
        let mut doomed: HashMap<ServerId, Vec<(TokenId, TokenValue)>> = HashMap::new();
        for (id, kept) in self.roster.ids().filter(|(_, kept)| kept.settings.revoke_on_shutdown) {
            let Some(token) = self.keeper.token(id) else { continue };
            let lives = match token.standing() {
                Standing::Unknown | Standing::Alive(_) | Standing::Unverified(_) => true,
                Standing::Missing | Standing::Expired | Standing::Rejected => false,
            };
            if lives && let Some(value) = kept.value(token.active_slot()) {
                doomed.entry(kept.server).or_default().push((id, value.clone()));
            }
        }
        for (server, tokens) in doomed {
            let remote = self.roster.remote(server).clone();
            self.deeds.spawn(revoke(remote, tokens));
        }
    }

    pub(super) fn revoked(&mut self, revoked: Vec<(TokenId, Result<(), Fault>)>) {
        for (id, result) in revoked {
            let Some(name) = self.roster.token(id).map(|kept| kept.settings.name.clone()) else {
                continue;
            };
            let fields = Fields { token: Some(&name), ..Fields::default() };
            match &result {
                Ok(()) => {
                    if let Some(store) = &self.store {
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

async fn revoke(remote: Remote, tokens: Vec<(TokenId, TokenValue)>) -> Done {
    let limit = usize::try_from(remote.settings.max_in_flight.get()).unwrap_or(usize::MAX);
    let timeout = remote.settings.timeout.min(GRACE);
    let mut pace = interval(Duration::from_secs(1) / remote.settings.rate_limit.get());
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = FuturesUnordered::new();
    let mut revoked = Vec::with_capacity(tokens.len());
    for (id, value) in tokens {
        pace.tick().await;
        if under_way.len() >= limit {
            revoked.extend(under_way.next().await);
        }
        let client = remote.client.clone();
        under_way.push(async move { (id, client.revoke(&value, timeout).await) });
    }
    revoked.extend(under_way.collect::<Vec<_>>().await);
    Done::Revoked(revoked)
}
