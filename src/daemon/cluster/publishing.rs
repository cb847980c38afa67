//! Values of this replica, for the others. One that a spending has obtained is put into etcd with the end
//! of the spending; one that comes from a source or an operator once it is verified.

use std::sync::Arc;

use super::Cluster;
use crate::clock;
use crate::cluster::record::path;
use crate::cluster::replica::{Key, TokenKey};
use crate::cluster::seal::{Plain, Refresh};
use crate::daemon::tasks::{Completion, RefreshState};
use crate::daemon::tokens::{ReauthOutput, TokenEntry, Tokens};
use crate::lifecycle::{Notice, ReplacedBy};
use crate::scheduler::{Ticket, TokenId};
use crate::secret::TokenValue;
use crate::time::Moment;

/// A value that a spending has obtained.
#[derive(Debug)]
pub(crate) struct NewValue {
    value: TokenValue,
    /// Its token was there when the spending ended, and awaited its result.
    was_expected: bool,
}

/// The ticket of a completed spending, and the value that it has obtained.
pub(crate) fn obtained(
    completion: &Completion,
    tokens: &Tokens,
) -> Option<(Ticket, Option<NewValue>)> {
    let (ticket, value) = match completion {
        Completion::Checked(ticket, _, replaced) => {
            (*ticket, replaced.as_ref().map(|replaced| &replaced.to))
        }
        Completion::ReauthFinished { ticket, output, .. } => match output {
            ReauthOutput::NewValue(value) => (*ticket, Some(value)),
            ReauthOutput::InSource(found) => {
                (*ticket, found.as_ref().ok().map(|found| &found.value))
            }
            ReauthOutput::Failed(_) => (*ticket, None),
        },
        Completion::Revoked(ticket, _) => (*ticket, None),
        Completion::Companion(_, Some(inner)) => return obtained(inner, tokens),
        _ => return None,
    };
    let was_expected = tokens.scheduler.expects(ticket);
    Some((ticket, value.map(|value| NewValue { value: value.clone(), was_expected })))
}

impl Cluster {
    pub(super) fn path_of(&self, key: &TokenKey) -> String {
        path(&self.settings.prefix, &Key::Value(key.clone()))
    }

    /// No value waits any more for the one in the token's source to be verified here.
    pub(super) fn end_check(&mut self, id: TokenId, key: &TokenKey, tokens: &mut Tokens) {
        if self.asking.end_check(key.hash()) {
            tokens.scheduler.set_asked(id, self.replica.asks(key), clock::now());
        }
    }

    /// The sealed value that the end of a spending puts into etcd; `None` if it has obtained none, or
    /// one that is refused here. A new refresh token is stored whatever became of the value.
    pub(super) fn value_to_store(
        &mut self,
        key: &TokenKey,
        id: Option<TokenId>,
        obtained: Option<NewValue>,
        refresh: RefreshState,
        tokens: &mut Tokens,
    ) -> Option<Arc<[u8]>> {
        let RefreshState { current, is_new } = refresh;
        let obtained = obtained.filter(|NewValue { value, was_expected }| {
            id.is_none_or(|id| tokens.accepts_obtained(id, value, *was_expected))
        });
        let value = match obtained {
            Some(NewValue { value, .. }) => value,
            None if is_new => {
                id.and_then(|id| tokens.current_value(id)).or_else(|| self.last_known(key))?
            }
            None => return None,
        };
        self.seal(key, value, current)
    }

    /// The value in etcd of a token that is not configured here any more, if it has come since.
    fn last_known(&self, key: &TokenKey) -> Option<TokenValue> {
        let (_, sealed) = self.values.of_others.get(key)?;
        self.keys.open_value(sealed, &self.path_of(key)).ok().map(|plain| plain.value)
    }

    /// Seals a value for the other replicas.
    pub(super) fn seal(
        &self,
        key: &TokenKey,
        value: TokenValue,
        refresh: Refresh,
    ) -> Option<Arc<[u8]>> {
        let with = self.replica.seal_key()?;
        // The replica is suspended if it does not have this key.
        self.keys.seal(with, &Plain { value, refresh }, &self.path_of(key)).ok()
    }

    /// Puts a value that comes from a source or an operator into etcd once it is verified. The same
    /// holds for the current value if the one in etcd was found dead.
    pub(super) fn publish_if_due(
        &mut self,
        id: TokenId,
        notice: &Notice,
        now: Moment,
        tokens: &mut Tokens,
    ) {
        let mut wins = false;
        match notice {
            Notice::Replaced(by) if !is_stored_by_spending(id, *by, tokens) => {
                self.values.unpublished.insert(id);
                wins = true;
            }
            // Only the value of another replica: one of the source says nothing about that in etcd.
            Notice::Expired { candidate: true, .. } | Notice::Rejected { candidate: true, .. } => {
                let Some(key) = tokens.cluster_key(id) else { return };
                let candidate = tokens.candidate_value(id);
                if candidate.is_some_and(|value| self.values.is_in_etcd(key.hash(), &value)) {
                    self.values.unpublished.insert(id);
                }
                return self.values.retry_now(key, now);
            }
            Notice::Checked { .. } if self.values.unpublished.contains(&id) => {}
            Notice::Checked { .. } if self.is_lacked_by_others(id, tokens) => {
                self.values.unpublished.insert(id);
            }
            Notice::Expired { .. } | Notice::Rejected { .. } => {
                self.values.unpublished.remove(&id);
                return;
            }
            _ => return,
        }
        self.publish_if_newest(id, wins, now, tokens);
    }

    /// Whether another replica may have no value of this token, and etcd has none either: it would log
    /// in although this one lives.
    fn is_lacked_by_others(&self, id: TokenId, tokens: &Tokens) -> bool {
        tokens.cluster_key(id).is_some_and(|key| {
            let hash = key.hash();
            !self.replica.agrees(hash) && !self.values.known.contains_key(&hash)
        })
    }

    /// Puts the current value of a token into etcd now, or once it is verified.
    pub(super) fn publish_own(&mut self, id: TokenId, now: Moment, tokens: &mut Tokens) {
        self.values.unpublished.insert(id);
        self.publish(id, now, tokens);
    }

    /// Puts the current value of a token into etcd, if it is verified and etcd has another one.
    /// Otherwise it is tried again after the next check.
    fn publish(&mut self, id: TokenId, now: Moment, tokens: &mut Tokens) {
        self.publish_if_newest(id, false, now, tokens);
    }

    /// The same. `wins`: also over a value of another replica that waited for this one to be verified.
    fn publish_if_newest(&mut self, id: TokenId, wins: bool, now: Moment, tokens: &mut Tokens) {
        let Some(value) = tokens.verified_value(id) else { return };
        let Some(key) = tokens.cluster_key(id) else { return };
        // What is in etcd must have been found dead, or be older than this one.
        let waits = !wins && self.values.waiting.contains_key(&key);
        let is_in_doubt = || {
            let candidate = tokens.open_candidate(id);
            candidate.is_some_and(|value| self.values.is_in_etcd(key.hash(), &value))
        };
        let is_adopting = self.values.adopting.contains_key(&key);
        if waits || is_adopting || self.values.unopened.contains_key(&key) || is_in_doubt() {
            return;
        }
        let Some(name) = tokens.registry.token(id).map(TokenEntry::name) else { return };
        // Until then, the value in etcd that this one would replace is not known.
        if self.queue.has_news(key.hash()) {
            return;
        }
        if self.values.is_in_etcd(key.hash(), &value) {
            self.values.unpublished.remove(&id);
            return;
        }
        let companion = tokens.companions.of(name);
        // While a task uses it, it is tried again after the next check.
        let Ok(refresh) = companion.map_or(Ok(Refresh::Unknown), |it| it.counting_now()) else {
            return;
        };
        let Some(sealed) = self.seal(&key, value, refresh) else { return };
        self.values.unpublished.remove(&id);
        // The operator's value wins over one that waited for it to be verified.
        self.values.waiting.remove(&key);
        self.end_check(id, &key, tokens);
        self.replica.publish(self.values.revision(key.hash()), key, sealed, now);
    }

    /// etcd has a value of this replica.
    pub(super) fn on_published(
        &mut self,
        key: &TokenKey,
        revision: u64,
        sealed: &[u8],
        tokens: &Tokens,
    ) {
        // A newer one may have come first.
        if revision > self.values.revision(key.hash())
            && let Ok(Plain { value, .. }) = self.keys.open_value(sealed, &self.path_of(key))
        {
            self.values.unopened.remove(key);
            self.values.note(key.hash(), &value, revision, tokens);
        }
    }

    /// A value that was verified meanwhile may have been dropped for the one that etcd has now.
    pub(super) fn publish_after(&mut self, key: &TokenKey, now: Moment, tokens: &mut Tokens) {
        if let Some(id) = tokens.of_cluster_key(key)
            && self.values.unpublished.contains(&id)
        {
            self.publish(id, now, tokens);
        }
    }

    /// etcd does not get a value of this replica. If the token still has it after the next check, and
    /// the newer one was found dead, it is published again.
    pub(super) fn on_dropped(&mut self, key: &TokenKey, tokens: &Tokens) {
        self.values.unpublished.extend(tokens.of_cluster_key(key));
    }
}

/// Whether the replica stores a new value itself: it is another replica's, or comes from a
/// spending. If its claim was stolen meanwhile, a newer value may be in etcd.
fn is_stored_by_spending(id: TokenId, by: ReplacedBy, tokens: &Tokens) -> bool {
    match by {
        ReplacedBy::Replica | ReplacedBy::Reauth => true,
        ReplacedBy::Renewal => tokens.scheduler.spec(id).is_some_and(|spec| spec.policy.rotates),
        ReplacedBy::Source => false,
    }
}
