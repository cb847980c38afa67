//! Values: those of other replicas, which this one uses, and its own, for the others.
//!
//! A value of another replica can come before its token is configured or its source was read, and
//! while a login is under way: then it waits. A value that was obtained by a spending is put into etcd
//! with the end of the spending; one that comes from a source or an operator once it is verified.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, notices};
use crate::clock;
use crate::cluster::record::path;
use crate::cluster::replica::{Key, TokenHash, TokenKey};
use crate::cluster::seal::Plain;
use crate::daemon::tasks::{AdoptedValue, Completion, RefreshState, Tasks};
use crate::daemon::tokens::{Adoption, ReauthOutput, TokenEntry, Tokens};
use crate::lifecycle::{Notice, ReplacedBy};
use crate::scheduler::{Ticket, TokenId};
use crate::secret::TokenValue;
use crate::time::Moment;

/// Time between two attempts to use a value that must wait.
const RETRY: Duration = Duration::from_millis(250);

/// A value that a spending has obtained.
#[derive(Debug)]
pub(crate) struct NewValue {
    value: TokenValue,
    /// Its token was there when the spending ended, and awaited its result.
    was_expected: bool,
}

/// A value of another replica.
struct Waiting {
    value: TokenValue,
    refresh: Option<TokenValue>,
    revision: u64,
    /// The refresh token is stored already.
    is_refresh_stored: bool,
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
    waiting: HashMap<TokenKey, Waiting>,
    /// Values in etcd that no key opens. They may be newer, so nothing is spent for their tokens.
    unopened: HashMap<TokenKey, Unopened>,
    /// Other keys are there: what could not be opened is tried again.
    is_reopening: bool,
    retry_at: Option<Moment>,
    /// Values whose refresh token is being stored, by revision.
    adopting: HashMap<TokenKey, u64>,
    /// Tags of the values that an earlier run knew, until etcd has said what it has.
    recalled: HashMap<u64, [Option<i64>; 2]>,
    /// Tokens whose current value is to be put into etcd once it is verified.
    unpublished: HashSet<TokenId>,
}

impl Values {
    /// With what an earlier run knew.
    pub(super) fn new(recalled: HashMap<u64, [Option<i64>; 2]>) -> Self {
        Self { recalled, ..Self::default() }
    }

    /// When a value that waits is to be tried again.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.retry_at
    }

    /// What waits is tried again at once.
    pub(super) fn retry_now(&mut self, now: Moment) {
        if self.retry_at.is_some() {
            self.retry_at = Some(now);
        }
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
    fn note(&mut self, token: TokenHash, value: &TokenValue, revision: u64, tokens: &Tokens) {
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

    fn is_in_etcd(&self, token: TokenHash, value: &TokenValue) -> bool {
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
        match self.keys.open_value(sealed, &self.path_of(&key)) {
            Ok(Plain { value, refresh }) => {
                self.values.note(key.hash(), &value, revision, tokens);
                if self.values.is_source_changed(id, key.hash(), tokens) {
                    self.asking.check_once(key.hash());
                    tokens.scheduler.set_asked(id, true, clock::now());
                }
                let value = Waiting { value, refresh, revision, is_refresh_stored: false };
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
        let is_unchecked = tokens.unchecked_source_value(id).is_some();
        if !is_unchecked && self.asking.end_check(key.hash()) {
            let (now, asked) = (clock::now(), self.replica.asks(key.hash()));
            let lives = tokens.verified_value(id).is_some();
            if lives {
                // The operator's value wins.
                self.values.unpublished.insert(id);
                self.publish(id, now, tokens);
            }
            tokens.scheduler.set_asked(id, asked, now);
            if lives {
                return;
            }
        }
        if tokens.defers_replica_value(id) || self.asking.is_checked_once(key.hash()) {
            self.values.waiting.insert(key, value);
            self.values.retry_at.get_or_insert(clock::now() + RETRY);
            return;
        }
        let Some(name) = tokens.registry.token(id).map(TokenEntry::name) else { return };
        let Waiting { value, refresh, revision, is_refresh_stored } = value;
        match tokens.companions.of(name).filter(|_| !is_refresh_stored) {
            Some(companion) => {
                self.values.adopting.insert(key.clone(), revision);
                tasks.adopt(companion, refresh, AdoptedValue { key, value, revision });
            }
            None => offer(id, &value, tokens),
        }
    }

    /// The refresh token of another replica's value is stored.
    pub(crate) fn on_adopted(
        &mut self,
        adopted: AdoptedValue,
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
        let value = Waiting { value, refresh: None, revision, is_refresh_stored: true };
        self.use_value(id, key, value, tokens, tasks);
    }

    /// Tries again to use the values that wait.
    pub(super) fn retry_values(&mut self, now: Moment, tokens: &mut Tokens, tasks: &mut Tasks) {
        if self.values.retry_at.is_none_or(|due| due > now) {
            return;
        }
        self.values.retry_at = None;
        if std::mem::take(&mut self.values.is_reopening) {
            for (key, unopened) in std::mem::take(&mut self.values.unopened) {
                self.on_new_value(key, unopened.revision, unopened.sealed, tokens, tasks);
            }
        }
        for (key, value) in std::mem::take(&mut self.values.waiting) {
            if let Some(id) = tokens.of_cluster_key(&key) {
                self.use_value(id, key, value, tokens, tasks);
            } else {
                self.asking.end_check(key.hash());
            }
        }
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
        }
    }

    /// The sealed value that the end of a spending puts into etcd; `None` if it has obtained none, or
    /// one that is refused here.
    pub(super) fn value_to_store(
        &mut self,
        key: &TokenKey,
        id: Option<TokenId>,
        obtained: Option<NewValue>,
        refresh: RefreshState,
        tokens: &mut Tokens,
    ) -> Option<Arc<[u8]>> {
        let RefreshState { current, is_new } = refresh;
        let value = match (obtained, id) {
            (Some(NewValue { value, was_expected }), Some(id)) => {
                tokens.accepts_obtained(id, &value, was_expected).then_some(value)?
            }
            (Some(NewValue { value, .. }), None) => value,
            // Only the refresh token has changed.
            (None, Some(id)) if is_new && current.is_some() => tokens.current_value(id)?,
            (None, _) => return None,
        };
        self.seal(key, value, current)
    }

    /// Seals a value for the other replicas.
    pub(super) fn seal(
        &self,
        key: &TokenKey,
        value: TokenValue,
        refresh: Option<TokenValue>,
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
            Notice::Replaced(by) if !Self::is_stored_by_spending(id, *by, tokens) => {
                self.values.unpublished.insert(id);
                wins = true;
            }
            // Only the value of another replica: one of the source says nothing about that in etcd.
            Notice::Expired { candidate: true, .. } | Notice::Rejected { candidate: true, .. } => {
                let candidate = tokens.candidate_value(id).zip(tokens.cluster_key(id));
                if candidate.is_some_and(|(value, key)| self.values.is_in_etcd(key.hash(), &value))
                {
                    self.values.unpublished.insert(id);
                }
                return self.values.retry_now(now);
            }
            Notice::Checked { .. } if self.values.unpublished.contains(&id) => {}
            Notice::Expired { .. } | Notice::Rejected { .. } => {
                self.values.unpublished.remove(&id);
                return;
            }
            _ => return,
        }
        self.publish_if_newest(id, wins, now, tokens);
    }

    /// Whether the replica stores a new value itself: it is another replica's, or comes from a
    /// spending. If its claim was stolen meanwhile, a newer value may be in etcd.
    fn is_stored_by_spending(id: TokenId, by: ReplacedBy, tokens: &Tokens) -> bool {
        match by {
            ReplacedBy::Replica | ReplacedBy::Reauth => true,
            ReplacedBy::Renewal => {
                tokens.scheduler.spec(id).is_some_and(|spec| spec.policy.rotates)
            }
            ReplacedBy::Source => false,
        }
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
        if self.values.is_in_etcd(key.hash(), &value) {
            self.values.unpublished.remove(&id);
            return;
        }
        let companion = tokens.companions.of(name);
        // While a task uses it, it is tried again after the next check.
        let Ok(refresh) = companion.map(|companion| companion.current_now()).transpose() else {
            return;
        };
        let refresh = refresh.flatten();
        let Some(sealed) = self.seal(&key, value, refresh) else { return };
        self.values.unpublished.remove(&id);
        // The operator's value wins over one that waited for it to be verified.
        self.values.waiting.remove(&key);
        self.end_check(id, &key, tokens);
        self.replica.publish_over(self.values.revision(key.hash()), key, sealed, now);
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
