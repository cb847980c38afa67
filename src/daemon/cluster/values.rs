//! Values: those of other replicas, which this one uses, and its own, for the others.
//!
//! A value of another replica can come before its token is configured or its source was read, and
//! while a login is under way: then it waits. A value that was obtained by a spending is put into etcd
//! with the end of the spending; one that comes from a source or an operator once it is verified.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, notices};
use crate::clock;
use crate::cluster::record::path;
use crate::cluster::replica::{Key, TokenHash, TokenKey};
use crate::cluster::seal::{Plain, Refresh};
use crate::daemon::companions::Companion;
use crate::daemon::tasks::{
    AdoptedRefresh, AdoptedValue, Completion, OwnRefresh, RefreshState, Tasks,
};
use crate::daemon::tokens::{Adoption, ReauthOutput, TokenEntry, Tokens};
use crate::lifecycle::{Notice, ReplacedBy};
use crate::scheduler::{Ticket, TokenId};
use crate::secret::TokenValue;
use crate::time::Moment;

/// Time between two attempts to use a value that must wait.
const RETRY: Duration = Duration::from_millis(250);

/// How many values that wait a turn tries to use.
const RETRIES: usize = 64;

/// A value that a spending has obtained.
#[derive(Debug)]
pub(crate) struct NewValue {
    value: TokenValue,
    /// Its token was there when the spending ended, and awaited its result.
    was_expected: bool,
}

/// A value of another replica.
pub(super) struct Waiting {
    pub(super) value: TokenValue,
    refresh: Refresh,
    revision: u64,
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
struct Unopened {
    revision: u64,
    sealed: Arc<[u8]>,
    error: String,
}

/// What is known of the values in etcd.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// A hash of each value that etcd is known to have, and its revision.
    known: HashMap<TokenHash, (u64, u64)>,
    hashes: RandomState,
    /// Sealed values of tokens that are not configured here, and their revisions.
    of_others: HashMap<TokenKey, (u64, Arc<[u8]>)>,
    waiting: BTreeMap<TokenKey, Waiting>,
    /// Values in etcd that no key opens. They may be newer, so nothing is spent for their tokens.
    unopened: HashMap<TokenKey, Unopened>,
    /// Other keys are there: what could not be opened is tried again.
    is_reopening: bool,
    retry_at: Option<Moment>,
    /// The token up to which all that wait were tried, if there are more behind it.
    retried: Option<TokenKey>,
    /// Tokens whose reason to wait may be over: they are tried first.
    ready: Vec<TokenKey>,
    /// Values whose refresh token is being stored, by revision.
    adopting: HashMap<TokenKey, u64>,
    /// Tags of the values that an earlier run knew, until etcd has said what it has.
    recalled: HashMap<u64, [Option<i64>; 2]>,
    /// Tokens whose current value is to be put into etcd once it is verified.
    unpublished: HashSet<TokenId>,
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
    fn revision(&self, token: TokenHash) -> u64 {
        self.known.get(&token).map_or(0, |(_, revision)| *revision)
    }
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
    fn path_of(&self, key: &TokenKey) -> String {
        path(&self.settings.prefix, &Key::Value(key.clone()))
    }

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

    /// No value waits any more for the one in the token's source to be verified here.
    fn end_check(&mut self, id: TokenId, key: &TokenKey, tokens: &mut Tokens) {
        if self.asking.end_check(key.hash()) {
            tokens.scheduler.set_asked(id, self.replica.asks(key.hash()), clock::now());
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
            let (now, asked) = (clock::now(), self.replica.asks(key.hash()));
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
        self.replica.publish_over(self.values.revision(key.hash()), key, sealed, now);
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

/// Gives a value of another replica to the scheduler.
fn offer(id: TokenId, value: &TokenValue, tokens: &mut Tokens) {
    match tokens.adopt_value(id, value) {
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
