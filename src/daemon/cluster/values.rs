//! Values of other replicas, which this one uses.
//!
//! A value can come before its token is configured or its source was read, and while a login is under
//! way: then it waits.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, notices};
use crate::clock;
use crate::cluster::replica::{TokenHash, TokenKey};
use crate::cluster::seal::{Plain, Refresh};
use crate::daemon::companions::Companion;
use crate::daemon::tasks::{AdoptedRefresh, AdoptedValue, OwnRefresh, Tasks};
use crate::daemon::tokens::{Adoption, TokenEntry, Tokens};
use crate::lifecycle::ReplacedBy;
use crate::scheduler::TokenId;
use crate::secret::TokenValue;
use crate::time::Moment;

/// Time between two attempts to use a value that must wait.
const RETRY: Duration = Duration::from_millis(250);

/// How many values that wait a turn tries to use.
const RETRIES: usize = 64;

/// A value of another replica.
pub(super) struct Waiting {
    pub(super) value: TokenValue,
    refresh: Refresh,
    pub(super) revision: u64,
    /// The refresh token is stored already, unless the own one is kept.
    is_refresh_stored: bool,
    /// The own refresh token is newer.
    pub(super) is_own_refresh_kept: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// A value that cannot be opened.
#[derive(Debug)]
pub(super) struct Unopened {
    revision: u64,
    sealed: Arc<[u8]>,
    error: String,
}

/// What is known of the values in etcd.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// A hash of each value that etcd is known to have, and its revision.
    pub(super) known: HashMap<TokenHash, (u64, u64)>,
    hashes: RandomState,
    /// Sealed values of tokens that are not configured here, and their revisions.
    pub(super) of_others: HashMap<TokenKey, (u64, Arc<[u8]>)>,
    pub(super) waiting: BTreeMap<TokenKey, Waiting>,
    /// Values in etcd that no key opens. They may be newer, so nothing is spent for their tokens.
    pub(super) unopened: HashMap<TokenKey, Unopened>,
    /// Other keys are there: what could not be opened is tried again.
    is_reopening: bool,
    retry_at: Option<Moment>,
    /// The token up to which all that wait were tried, if there are more behind it.
    retried: Option<TokenKey>,
    /// Tokens whose reason to wait may be over: they are tried first.
    ready: Vec<TokenKey>,
    /// Values whose refresh token is being stored, by revision.
    pub(super) adopting: HashMap<TokenKey, u64>,
    /// Tags of the values that an earlier run knew, until etcd has said what it has.
    recalled: HashMap<u64, [Option<i64>; 2]>,
    /// Tokens whose current value is to be put into etcd once it is verified.
    pub(super) unpublished: HashSet<TokenId>,
    /// Spendings whose end may not be in etcd, and over which revision of the value they began.
    pub(super) unended: HashMap<TokenKey, u64>,
    /// Those of an earlier run that began when etcd had no value.
    pub(super) first: Vec<TokenKey>,
}

impl Values {
    /// With what an earlier run knew.
    pub(super) fn new(
        recalled: HashMap<u64, [Option<i64>; 2]>,
        spendings: &HashMap<String, u64>,
    ) -> Self {
        let unended =
            spendings.iter().filter_map(|(key, base)| Some((TokenKey::parse(key)?, *base)));
        let unended: HashMap<_, _> = unended.collect();
        let first = unended.iter().filter(|(_, base)| **base == 0).map(|(key, _)| key.clone());
        Self { recalled, first: first.collect(), unended, ..Self::default() }
    }

    /// Stores the refresh token that belongs to a value of this revision, unless the own one stays.
    pub(super) fn adopt(
        &mut self,
        companion: Arc<Companion>,
        refresh: (Option<TokenValue>, OwnRefresh),
        (key, value, revision): (TokenKey, TokenValue, u64),
        tasks: &mut Tasks,
    ) {
        self.adopting.insert(key.clone(), revision);
        tasks.adopt(companion, refresh, AdoptedValue { key, value, revision });
    }

    /// A value is tried again later.
    pub(super) fn wait(&mut self, key: TokenKey, value: Waiting) {
        self.waiting.insert(key, value);
        self.retry_at.get_or_insert(clock::now() + RETRY);
    }

    /// When a value that waits is to be tried again.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.retry_at
    }

    /// If a value of this token waits, it is tried again at once.
    pub(super) fn retry_now(&mut self, token: TokenKey, now: Moment) {
        if self.waiting.contains_key(&token) {
            self.ready.push(token);
            self.retry_at = Some(now);
        }
    }

    /// The tokens whose values are tried next: every one that waits in each pass.
    fn next_to_retry(&mut self) -> Vec<TokenKey> {
        if !self.ready.is_empty() {
            return self.ready.split_off(self.ready.len().saturating_sub(RETRIES));
        }
        let after = self.retried.take().map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.waiting.range((after, Bound::Unbounded));
        let tokens: Vec<_> = behind.map(|(token, _)| token.clone()).take(RETRIES).collect();
        self.retried = tokens.last().filter(|_| tokens.len() == RETRIES).cloned();
        tokens
    }

    /// The keys have changed.
    pub(super) fn reopen(&mut self, now: Moment) {
        self.is_reopening = !self.unopened.is_empty();
        if self.is_reopening {
            self.retry_at = Some(now);
        }
    }

    /// Why the value of this token in etcd cannot be opened; `None` if it can, or there is none.
    pub(super) fn unopened(&self, key: &TokenKey) -> Option<&str> {
        self.unopened.get(key).map(|unopened| &*unopened.error)
    }

    /// Whether there is a newer value of this token that is not used yet.
    pub(super) fn has_unused(&self, key: &TokenKey) -> bool {
        self.waiting.contains_key(key) || self.adopting.contains_key(key)
    }

    fn hash_of(&self, value: &TokenValue) -> u64 {
        self.hashes.hash_one(value.expose().as_bytes())
    }

    /// Etcd has this value.
    pub(super) fn note(
        &mut self,
        token: TokenHash,
        value: &TokenValue,
        revision: u64,
        tokens: &Tokens,
    ) {
        let hash = self.hash_of(value);
        if self.known.insert(token, (hash, revision)).is_none_or(|(known, _)| known != hash)
            && let Some(writer) = tokens.recorder.shared_writer()
        {
            let tag = writer.cluster_value_tag(token.0, value);
            if self.recalled.get(&token.0).is_none_or(|[last, _]| *last != Some(tag)) {
                writer.persist_cluster_value(token.0, tag);
            }
        }
    }

    /// Whether the source of a token was changed while no daemon ran here: it holds another value
    /// than those that an earlier run knew from etcd. Once for each token.
    fn is_source_changed(&mut self, id: TokenId, token: TokenHash, tokens: &Tokens) -> bool {
        let Some(tags) = self.recalled.remove(&token.0) else { return false };
        let known = tokens.unchecked_source_value(id).zip(tokens.recorder.shared_writer());
        known.is_some_and(|(value, writer)| {
            !tags.contains(&Some(writer.cluster_value_tag(token.0, &value)))
        })
    }

    pub(super) fn is_in_etcd(&self, token: TokenHash, value: &TokenValue) -> bool {
        self.known.get(&token).is_some_and(|(known, _)| *known == self.hash_of(value))
    }

    #[cfg(test)]
    pub(super) fn is_known(&self, key: &TokenKey, value: &TokenValue) -> bool {
        self.is_in_etcd(key.hash(), value)
    }

    #[cfg(test)]
    pub(super) fn is_unpublished(&self, id: TokenId) -> bool {
        self.unpublished.contains(&id)
    }

    /// The revision of the newest value that is known; 0 if none is.
    pub(super) fn revision(&self, token: TokenHash) -> u64 {
        self.known.get(&token).map_or(0, |(_, revision)| *revision)
    }
}

impl Cluster {
    /// etcd has a newer value.
    pub(super) fn on_new_value(
        &mut self,
        key: TokenKey,
        revision: u64,
        sealed: Arc<[u8]>,
        tokens: &mut Tokens,
        tasks: &mut Tasks,
    ) {
        if let Some(id) = tokens.of_cluster_key(&key) {
            self.open_value(id, key, revision, &sealed, tokens, tasks);
        } else {
            self.values.of_others.insert(key, (revision, sealed));
        }
    }

    fn open_value(
        &mut self,
        id: TokenId,
        key: TokenKey,
        revision: u64,
        sealed: &Arc<[u8]>,
        tokens: &mut Tokens,
        tasks: &mut Tasks,
    ) {
        self.values.unopened.remove(&key);
        // Whatever waits is older, and the operator's value did not compete with this one.
        self.values.waiting.remove(&key);
        self.end_check(id, &key, tokens);
        if !self.is_overtaken(&key, revision) {
            self.unmark(&key, tokens);
        }
        match self.keys.open_value(sealed, &self.path_of(&key)) {
            Ok(Plain { value, refresh }) => {
                self.values.note(key.hash(), &value, revision, tokens);
                if self.values.is_source_changed(id, key.hash(), tokens) {
                    self.asking.check_once(key.hash());
                    tokens.scheduler.set_asked(id, true, clock::now());
                }
                let value = Waiting {
                    value,
                    refresh,
                    revision,
                    is_refresh_stored: false,
                    is_own_refresh_kept: false,
                };
                self.use_value(id, key, value, tokens, tasks);
            }
            Err(error) => {
                let error = error.to_string();
                notices::unusable_value(id, &error, tokens);
                let sealed = Arc::clone(sealed);
                self.values.unopened.insert(key, Unopened { revision, sealed, error });
            }
        }
    }

    /// Uses a value of another replica, or keeps it until that is possible. Its refresh token is
    /// stored first.
    fn use_value(
        &mut self,
        id: TokenId,
        key: TokenKey,
        value: Waiting,
        tokens: &mut Tokens,
        tasks: &mut Tasks,
    ) {
        let is_overtaken = self.is_overtaken(&key, value.revision);
        let is_unchecked =
            tokens.unchecked_source_value(id).is_some() || is_overtaken && tokens.is_unverified(id);
        if !is_unchecked && self.asking.end_check(key.hash()) {
            let (now, asked) = (clock::now(), self.replica.asks(&key));
            let lives = tokens.verified_value(id).is_some();
            if lives {
                // The operator's value wins.
                self.publish_own(id, now, tokens);
            }
            tokens.scheduler.set_asked(id, asked, now);
            if lives {
                return;
            }
        }
        if tokens.defers_replica_value(id) || self.asking.is_checked_once(key.hash()) {
            return self.values.wait(key, value);
        }
        let Some(name) = tokens.registry.token(id).map(TokenEntry::name) else { return };
        let refresh = match &value.refresh {
            Refresh::Token(refresh) => Some(Some(refresh.clone())),
            Refresh::None => Some(None),
            // The own one stays.
            Refresh::Unknown => None,
        };
        let companion = tokens.companions.of(name).filter(|_| !value.is_refresh_stored);
        if let Some((companion, refresh)) = companion.zip(refresh) {
            let Waiting { value, revision, .. } = value;
            let keeps_own = if is_overtaken { OwnRefresh::IsNewer } else { OwnRefresh::IsOlder };
            let of_etcd = (key, value, revision);
            return self.values.adopt(companion, (refresh, keeps_own), of_etcd, tasks);
        }
        let used = if is_overtaken {
            self.unless_own_is_newer(id, &key, value, tokens)
        } else {
            Some(value)
        };
        if let Some(used) = used {
            offer(id, &used.value, tokens);
        }
    }

    /// The refresh token of another replica's value is stored.
    pub(crate) fn on_adopted(
        &mut self,
        (adopted, outcome): (AdoptedValue, AdoptedRefresh),
        tokens: &mut Tokens,
        tasks: &mut Tasks,
    ) {
        let AdoptedValue { key, value, revision } = adopted;
        // A newer one may be there already.
        if self.values.adopting.get(&key) != Some(&revision) {
            return;
        }
        self.values.adopting.remove(&key);
        let Some(id) = tokens.of_cluster_key(&key) else { return };
        let is_own_refresh_kept = matches!(outcome, AdoptedRefresh::OwnKept);
        let (refresh, is_refresh_stored) = match outcome {
            AdoptedRefresh::Unread(refresh) => {
                (refresh.map_or(Refresh::None, Refresh::Token), false)
            }
            AdoptedRefresh::Stored | AdoptedRefresh::OwnKept => (Refresh::Unknown, true),
        };
        let value = Waiting { value, refresh, revision, is_refresh_stored, is_own_refresh_kept };
        if is_refresh_stored {
            self.use_value(id, key, value, tokens, tasks);
        } else {
            self.values.wait(key, value);
        }
    }

    /// Tries again to use the values that wait.
    pub(super) fn retry_values(&mut self, now: Moment, tokens: &mut Tokens, tasks: &mut Tasks) {
        if self.values.retry_at.is_none_or(|due| due > now) {
            return;
        }
        if std::mem::take(&mut self.values.is_reopening) {
            for (key, unopened) in std::mem::take(&mut self.values.unopened) {
                self.on_new_value(key, unopened.revision, unopened.sealed, tokens, tasks);
            }
        }
        for key in self.values.next_to_retry() {
            let Some(value) = self.values.waiting.remove(&key) else { continue };
            if let Some(id) = tokens.of_cluster_key(&key) {
                self.use_value(id, key, value, tokens, tasks);
            } else {
                self.asking.end_check(key.hash());
            }
        }
        let has_more = self.values.retried.is_some() || !self.values.ready.is_empty();
        let pause = if has_more { Duration::ZERO } else { RETRY };
        self.values.retry_at = (!self.values.waiting.is_empty()).then(|| now + pause);
    }

    /// A token is new, or something of it has changed: a value that was there before it is used.
    pub(super) fn on_token_seen(
        &mut self,
        id: TokenId,
        key: TokenKey,
        now: Moment,
        tokens: &mut Tokens,
        tasks: &mut Tasks,
    ) {
        if self.answers.is_paused(&key) {
            super::set_paused(id, true, now, tokens);
        }
        if let Some((revision, sealed)) = self.values.of_others.remove(&key) {
            self.open_value(id, key, revision, &sealed, tokens, tasks);
        } else {
            self.values.retry_now(key, now);
        }
    }
}

/// Gives a value of another replica to the scheduler.
fn offer(id: TokenId, value: &TokenValue, tokens: &mut Tokens) {
    match tokens.adopt_value(id, value, ReplacedBy::Replica) {
        Adoption::IsCurrent | Adoption::Offered => {}
        Adoption::Foreign(owner) => {
            let error = format!("it is the value of another token, {owner}, here");
            notices::unusable_value(id, &error, tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_wait_are_tried_some_at_a_time_and_each_once_in_a_pass() {
        let mut values = Values::default();
        let key = |number| TokenKey::new("s", &format!("{number:03}"));
        let value = || Waiting {
            value: TokenValue::parse("value").unwrap(),
            refresh: Refresh::None,
            revision: 1,
            is_refresh_stored: false,
            is_own_refresh_kept: false,
        };
        values.waiting.extend((0..150).map(|number| (key(number), value())));
        assert_eq!(values.next_to_retry().len(), RETRIES);
        values.retry_now(key(140), Moment::default());
        values.retry_now(key(999), Moment::default());
        assert_eq!(values.next_to_retry(), [key(140)]);
        let rest: Vec<_> = (64..150).map(key).collect();
        let tried: Vec<_> = [values.next_to_retry(), values.next_to_retry()].concat();
        assert_eq!(tried, rest);
        assert_eq!(values.next_to_retry()[0], key(0));
    }
}
