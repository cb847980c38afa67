//! Spendings whose end may not have reached etcd: what they have obtained is newer than what etcd has.
//!
//! A mark in the state database says so: from before the spending begins until its end is in etcd.
//! After a restart, a value in etcd that the spending was to replace does not replace the own one.

use super::Cluster;
use super::values::Waiting;
use crate::clock;
use crate::cluster::replica::{SpendId, TokenKey};
use crate::cluster::seal::Refresh;
use crate::daemon::tasks::{OwnRefresh, Tasks};
use crate::daemon::tokens::{TokenEntry, Tokens};
use crate::lifecycle::Action;
use crate::scheduler::TokenId;

impl Cluster {
    /// A spending is about to begin. The task waits until the mark is durable.
    pub(super) fn mark(&mut self, id: SpendId, key: &TokenKey, action: &Action, tokens: &Tokens) {
        // A revocation obtains nothing.
        if let Action::Reauth { .. } | Action::Check { .. } = action
            && let Some(base) = self.replica.spends_over(id)
        {
            self.values.unended.insert(key.clone(), base);
            if let Some(writer) = tokens.recorder.shared_writer() {
                writer.persist_cluster_spending(key.as_str(), Some(base));
            }
        }
    }

    /// The end of a spending is in etcd, or it has obtained nothing, or a later value is there.
    pub(super) fn unmark(&mut self, key: &TokenKey, tokens: &Tokens) {
        if self.values.unended.remove(key).is_some()
            && let Some(writer) = tokens.recorder.shared_writer()
        {
            writer.persist_cluster_spending(key.as_str(), None);
        }
    }

    /// Whether a spending of this replica that may not have ended was to replace this value of etcd.
    pub(super) fn is_overtaken(&self, key: &TokenKey, revision: u64) -> bool {
        self.values.unended.get(key).is_some_and(|base| revision <= *base)
    }

    /// A spending that may not have ended was to put the first value of its token into etcd. Without a
    /// value there, the own one is put there.
    pub(super) fn publish_first_values(&mut self, tokens: &mut Tokens, tasks: &mut Tasks) {
        if self.values.first.is_empty() || !self.replica.has_view() {
            return;
        }
        for key in std::mem::take(&mut self.values.first) {
            // A value in etcd has ended that.
            let Some(id) = tokens.of_cluster_key(&key).filter(|_| self.is_overtaken(&key, 0))
            else {
                continue;
            };
            let is_read = !tokens.scheduler.is_missing(id) && !tokens.defers_replica_value(id);
            let Some(value) = tokens.current_value(id).filter(|_| is_read) else {
                self.values.first.push(key);
                continue;
            };
            let name = tokens.registry.token(id).map(TokenEntry::name);
            if let Some(companion) = name.and_then(|name| tokens.companions.of(name)) {
                // As if etcd had it without the refresh token.
                self.values.adopt(companion, (None, OwnRefresh::IsNewer), (key, value, 0), tasks);
            } else {
                self.publish_own(id, clock::now(), tokens);
            }
        }
    }

    /// Decides between the own value and refresh token of a token and the older ones of etcd. Returns
    /// those of etcd if they are used.
    pub(super) fn unless_own_is_newer(
        &mut self,
        id: TokenId,
        key: &TokenKey,
        of_etcd: Waiting,
        tokens: &mut Tokens,
    ) -> Option<Waiting> {
        let own = tokens.current_value(id).filter(|_| !tokens.scheduler.is_missing(id));
        let is_other = own.as_ref().is_some_and(|own| *own != of_etcd.value);
        let rotates = tokens.scheduler.spec(id).is_some_and(|spec| spec.policy.rotates);
        if of_etcd.is_own_refresh_kept || is_other && rotates {
            // A check would spend the refresh token.
            let is_missing = own.is_none();
            let value = own.unwrap_or_else(|| of_etcd.value.clone());
            let name = tokens.registry.token(id).map(TokenEntry::name);
            let companion = name.and_then(|name| tokens.companions.of(name));
            let refresh = companion.map_or(Ok(Refresh::Unknown), |it| it.counting_now());
            let sealed = refresh.ok().and_then(|it| self.seal(key, value.clone(), it));
            let Some(sealed) = sealed else {
                // A task uses the refresh token.
                self.values.wait(key.clone(), of_etcd);
                return None;
            };
            self.replica.publish(of_etcd.revision, key.clone(), sealed, clock::now());
            return is_missing.then_some(of_etcd);
        }
        if is_other && tokens.is_unverified(id) {
            let now = clock::now();
            self.asking.check_once(key.hash());
            tokens.scheduler.set_asked(id, true, now);
            self.values.wait(key.clone(), of_etcd);
            return None;
        }
        if is_other && tokens.verified_value(id).is_some() {
            self.publish_own(id, clock::now(), tokens);
            return None;
        }
        self.unmark(key, tokens);
        Some(of_etcd)
    }
}
