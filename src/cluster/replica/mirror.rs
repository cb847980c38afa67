//! What this replica has seen of etcd: the revision of each key, and the content that decisions need.
//!
//! Each key changes only to a higher revision, so results of transactions, reads and the watch can
//! come in any order. Values stay with the caller: for a token, only revisions are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::token_key::{TokenHash, TokenKey};
use super::types::{Claim, Count, Entry, Key, Member, Meta, Record, Transaction};
use crate::time::Moment;

/// Assumed limit of a claim that cannot be read.
const UNREADABLE_CLAIM_LIMIT: Duration = Duration::from_secs(600);

/// What this replica has seen of etcd.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    pub(super) meta: Option<(Result<Meta, Arc<str>>, u64)>,
    /// Revision and content; no content if it is unreadable.
    pub(super) members: BTreeMap<Arc<str>, (u64, Option<Arc<Member>>)>,
    pub(super) claims: BTreeMap<TokenHash, SeenClaim>,
    values: HashMap<TokenHash, u64, BuildHasherDefault<Hashed>>,
    /// Revision, and the attempts that count.
    counts: HashMap<TokenHash, (u64, u32), BuildHasherDefault<Hashed>>,
    paused: BTreeMap<TokenHash, (TokenKey, u64)>,
    /// Deletions that the watch has not confirmed: older changes of these keys may still come.
    deleted: BTreeMap<Key, u64>,
    /// All changes up to this revision have been seen.
    watched: u64,
}

/// A claim in etcd.
#[derive(Debug, Clone)]
pub(super) struct SeenClaim {
    pub(super) token: TokenKey,
    pub(super) claim: Claim,
    pub(super) revision: u64,
    /// When it was seen first: not before it was put.
    pub(super) seen: Moment,
}

/// A difference to what was seen before.
#[derive(Debug)]
pub(super) enum Change {
    Meta,
    Member(Arc<str>),
    Value(TokenKey, u64, Arc<[u8]>),
    ClaimGone(TokenHash),
    Counted(TokenKey, Count),
    Paused(TokenKey, bool),
}

impl Mirror {
    /// Revision of a key's last change; 0 if it does not exist.
    pub(super) fn revision(&self, key: &Key) -> u64 {
        match key {
            Key::Meta => self.meta.as_ref().map(|(_, revision)| *revision),
            Key::Member(name) => self.members.get(name).map(|(revision, _)| *revision),
            Key::Paused(token) => self.paused.get(&token.hash()).map(|(_, revision)| *revision),
            Key::Value(token) => self.values.get(&token.hash()).copied(),
            Key::Claim(token) => self.claims.get(&token.hash()).map(|seen| seen.revision),
            Key::Count(token) => self.counts.get(&token.hash()).map(|(revision, _)| *revision),
        }
        .unwrap_or(0)
    }

    /// Whether the token is paused.
    pub(super) fn is_paused(&self, token: TokenHash) -> bool {
        self.paused.contains_key(&token)
    }

    /// The attempts of the token that count.
    pub(super) fn counted(&self, token: TokenHash) -> u32 {
        self.counts.get(&token).map_or(0, |(_, counted)| *counted)
    }

    /// Takes changes from the watch.
    pub(super) fn watch(&mut self, mut entries: Vec<Entry>, now: Moment) -> Vec<Change> {
        entries.retain(|entry| entry.revision > self.watched); // an earlier watch has shown the rest
        // The revision of a response may be ahead of the changes that have been delivered.
        let last = entries.iter().map(|entry| entry.revision).max().unwrap_or(0);
        let changes = entries.into_iter().filter_map(|e| self.apply(e, last, now)).collect();
        self.watched = self.watched.max(last);
        self.deleted.retain(|_, revision| *revision > last);
        changes
    }

    /// Takes what a transaction at revision `at` has read.
    pub(super) fn read(&mut self, entries: Vec<Entry>, at: u64, now: Moment) -> Vec<Change> {
        if at < self.watched {
            return Vec::new(); // Everything has been seen as it was later.
        }
        entries.into_iter().filter_map(|entry| self.apply(entry, at, now)).collect()
    }

    /// Takes what an own transaction has written at revision `at`.
    pub(super) fn written(&mut self, done: &Transaction, at: u64, now: Moment) -> Vec<Change> {
        if at <= self.watched {
            return Vec::new(); // The watch was faster.
        }
        let puts = done.puts.iter().map(|(key, record)| (key, Some(record)));
        let deletes = done.deletes.iter().map(|key| (key, None));
        let mut changes = Vec::new();
        for (key, record) in puts.chain(deletes) {
            let entry = Entry { key: key.clone(), record: record.cloned(), revision: at };
            changes.extend(self.apply(entry, at, now));
        }
        changes
    }

    /// Takes everything that exists at revision `at`.
    pub(super) fn snapshot(&mut self, entries: Vec<Entry>, at: u64, now: Moment) -> Vec<Change> {
        let mut listed = Listed::default();
        for entry in &entries {
            listed.add(&entry.key);
        }
        self.values.retain(|token, revision| *revision > at || listed.values.contains(token));
        self.counts.retain(|token, (revision, _)| *revision > at || listed.counts.contains(token));
        let gone: Vec<Key> = self
            .claims
            .values()
            .map(|seen| (Key::Claim(seen.token.clone()), seen.revision))
            .chain(self.paused.values().map(|(token, rev)| (Key::Paused(token.clone()), *rev)))
            .chain(self.members.iter().map(|(name, (rev, _))| (Key::Member(name.clone()), *rev)))
            .chain(self.meta.as_ref().map(|(_, revision)| (Key::Meta, *revision)))
            .filter(|(key, revision)| *revision <= at && !listed.others.contains(key))
            .map(|(key, _)| key)
            .collect();
        let mut changes: Vec<Change> =
            entries.into_iter().filter_map(|entry| self.apply(entry, at, now)).collect();
        changes.extend(gone.into_iter().filter_map(|key| self.remove(&key)));
        self.deleted.retain(|_, revision| *revision > at);
        self.watched = at;
        changes
    }

    /// Takes one key as it was at revision `at`, unless it is known as it was later.
    fn apply(&mut self, entry: Entry, at: u64, now: Moment) -> Option<Change> {
        let Entry { key, record, revision } = entry;
        let known = self.revision(&key).max(self.deleted.get(&key).copied().unwrap_or(0));
        let Some(record) = record else {
            let revision = if revision == 0 { at } else { revision };
            if revision <= known {
                return None;
            }
            let change = self.remove(&key);
            if revision > self.watched {
                self.deleted.insert(key, revision);
            }
            return change;
        };
        if revision <= known {
            return None;
        }
        self.deleted.remove(&key);
        self.put(key, record, revision, now)
    }

    fn put(&mut self, key: Key, record: Record, revision: u64, now: Moment) -> Option<Change> {
        match (key, record) {
            (Key::Meta, record) => {
                self.meta = Some((readable_meta(record), revision));
                Some(Change::Meta)
            }
            (Key::Member(name), record) => {
                let member = if let Record::Member(member) = record { Some(member) } else { None };
                self.members.insert(name.clone(), (revision, member));
                Some(Change::Member(name))
            }
            (Key::Paused(token), _) => {
                let before = self.paused.insert(token.hash(), (token.clone(), revision));
                before.is_none().then_some(Change::Paused(token, true))
            }
            (Key::Value(token), record) => {
                self.values.insert(token.hash(), revision);
                let Record::Value(value) = record else { return None };
                Some(Change::Value(token, revision, value))
            }
            (Key::Claim(token), record) => {
                let hash = token.hash();
                let claim = readable_claim(record);
                self.claims.insert(hash, SeenClaim { token, claim, revision, seen: now });
                None
            }
            (Key::Count(token), record) => {
                let counted = if let Record::Count(count) = &record { count.counted } else { 0 };
                self.counts.insert(token.hash(), (revision, counted));
                let Record::Count(count) = record else { return None };
                Some(Change::Counted(token, count))
            }
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Change> {
        match key {
            Key::Meta => self.meta.take().map(|_| Change::Meta),
            Key::Member(name) => self.members.remove(name).map(|_| Change::Member(name.clone())),
            Key::Paused(token) => {
                self.paused.remove(&token.hash()).map(|(token, _)| Change::Paused(token, false))
            }
            Key::Claim(token) => {
                let hash = token.hash();
                self.claims.remove(&hash).map(|_| Change::ClaimGone(hash))
            }
            Key::Value(token) => {
                self.values.remove(&token.hash());
                None
            }
            Key::Count(token) => {
                self.counts.remove(&token.hash());
                None
            }
        }
    }
}

/// The keys of a snapshot. Those of all tokens as hashes: there may be a million.
#[derive(Default)]
struct Listed {
    values: HashSet<TokenHash, BuildHasherDefault<Hashed>>,
    counts: HashSet<TokenHash, BuildHasherDefault<Hashed>>,
    others: BTreeSet<Key>,
}

impl Listed {
    fn add(&mut self, key: &Key) {
        match key {
            Key::Value(token) => self.values.insert(token.hash()),
            Key::Count(token) => self.counts.insert(token.hash()),
            key => self.others.insert(key.clone()),
        };
    }
}

/// Hasher of a [`TokenHash`], which is a hash.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

fn readable_meta(record: Record) -> Result<Meta, Arc<str>> {
    match record {
        Record::Meta(meta) => Ok(meta),
        Record::Unreadable(why) => Err(why),
        _ => Err("it has the content of another key".into()),
    }
}

/// The claim. An unreadable one becomes a claim that no replica can release.
fn readable_claim(record: Record) -> Claim {
    if let Record::Claim(claim) = record {
        return claim;
    }
    Claim {
        replica: "unknown".into(),
        incarnation: 0,
        nonce: 0,
        limit: UNREADABLE_CLAIM_LIMIT,
        taken: (0, Moment::NEVER),
    }
}
