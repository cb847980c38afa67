//! Who spends: the claim of a token in etcd, a key without a lease.
//!
//! A claim is taken if the value is the newest that this replica has seen and no claim exists. It is
//! stolen only after it has stood for its limit and a margin on this replica's own clock. A spending
//! ends in one transaction that needs the claim: it stores the value and releases the claim.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::mirror::{Mirror, SeenClaim};
use super::operations::{Operations, Purpose};
use super::token_key::{TokenHash, TokenKey};
use super::types::{
    Claim, ClaimCounts, Count, HeldReason, Key, Output, Record, ReplicaSettings, SpendId,
    SpendRequest, Spent, Transaction,
};
use crate::time::Moment;

/// How much longer than its limit a claim of another replica must have stood.
const STEAL_MARGIN: Duration = Duration::from_secs(30);
/// Clocks of replicas run at rates that differ by less than a tenth.
const CLOCK_RATE_SHARE: u32 = 8;
/// When to request a spending again whose reason may be gone.
const RETRY: Duration = Duration::from_secs(1);

/// The spendings of this replica.
#[derive(Debug)]
pub(super) struct Claims {
    spends: BTreeMap<TokenHash, Spend>,
    chance: fastrand::Rng,
    pub(super) counts: ClaimCounts,
}

/// One spending.
#[derive(Debug)]
struct Spend {
    request: SpendRequest,
    /// The instant before the claim was sent first.
    sent: Moment,
    nonce: u64,
    /// Revision of the value that is spent for; 0: etcd has none.
    base: u64,
    state: SpendState,
    /// The caller was told that it is held. If the claim is there, it is released.
    abandoned: bool,
}

/// How far a spending has come.
#[derive(Debug)]
enum SpendState {
    /// The claim was sent.
    Taking,
    /// The claim has this revision. The caller may spend.
    Granted(u64),
    /// The end of the spending was sent.
    Ending {
        /// The new value.
        value: Option<Arc<[u8]>>,
        /// Its revision, once it was seen in etcd.
        stored: Option<u64>,
    },
}

/// What [`Claims`] needs of the rest of the replica.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a ReplicaSettings,
    pub(super) mirror: &'a Mirror,
    pub(super) operations: &'a mut Operations,
    pub(super) out: &'a mut Vec<Output>,
    /// The newest revision seen.
    pub(super) floor: u64,
    pub(super) now: Moment,
}

/// A spending whose value could not be stored although no newer one is known.
pub(super) struct Unstored {
    pub(super) token: TokenKey,
    pub(super) value: Arc<[u8]>,
}

impl Claims {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            spends: BTreeMap::new(),
            chance: fastrand::Rng::with_seed(seed),
            counts: ClaimCounts::default(),
        }
    }

    /// Sends a claim, or holds the request if it could not succeed.
    pub(super) fn request(&mut self, request: SpendRequest, parts: &mut Parts) {
        let hash = request.token.hash();
        let now = parts.now;
        if let Some(own) = self.spends.get(&hash) {
            let retry_at = (own.sent + own.request.limit).max(now + RETRY);
            let reason = HeldReason::Claimed { replica: parts.settings.name.clone() };
            return self.hold(request.id, reason, retry_at, parts.out);
        }
        let standing = parts.mirror.claims.get(&hash);
        if let Some(seen) = standing.filter(|seen| free_at(seen, parts.settings) > now) {
            let reason = HeldReason::Claimed { replica: seen.claim.replica.clone() };
            let retry_at = free_at(seen, parts.settings);
            return self.hold(request.id, reason, retry_at, parts.out);
        }
        let nonce = self.chance.u64(..);
        let transaction = take(&request, nonce, parts);
        let base = parts.mirror.revision(&Key::Value(request.token.clone()));
        parts.operations.start(Purpose::Take(hash), transaction, parts.floor, parts.out);
        let state = SpendState::Taking;
        self.spends
            .insert(hash, Spend { request, sent: now, nonce, base, state, abandoned: false });
    }

    /// A claim that was sent has a result. What was read or written is in the mirror.
    pub(super) fn taken(
        &mut self,
        hash: TokenHash,
        done: &Transaction,
        ok: bool,
        parts: &mut Parts,
    ) {
        let Some(spend) = self.spends.get_mut(&hash) else { return };
        let standing = parts.mirror.claims.get(&hash);
        if let Some(mine) = standing.filter(|seen| seen.claim.nonce == spend.nonce) {
            let stolen =
                done.expected.iter().any(|(key, rev)| matches!(key, Key::Claim(_)) && *rev > 0);
            spend.state = SpendState::Granted(mine.revision);
            return self.granted(hash, stolen, parts);
        }
        // It succeeded, and was stolen before the response came.
        let lost = ok.then_some(HeldReason::Outdated);
        let (reason, retry_at) = match standing {
            Some(other) if lost.is_none() => (
                HeldReason::Claimed { replica: other.claim.replica.clone() },
                free_at(other, parts.settings).max(parts.now + RETRY),
            ),
            _ => (HeldReason::Outdated, parts.now + RETRY),
        };
        if let Some(spend) = self.spends.remove(&hash).filter(|spend| !spend.abandoned) {
            self.hold(spend.request.id, reason, retry_at, parts.out);
        }
    }

    /// Whether etcd shows that a claim was taken whose response is missing. Then its result is known.
    pub(super) fn shows_own(&self, hash: TokenHash, mirror: &Mirror) -> bool {
        let nonce = mirror.claims.get(&hash).map(|seen| seen.claim.nonce);
        nonce.is_some() && self.spends.get(&hash).map(|spend| spend.nonce) == nonce
    }

    /// The claim was not executed, and never will be.
    pub(super) fn refused(&mut self, hash: TokenHash, why: &Arc<str>, parts: &mut Parts) {
        if let Some(spend) = self.spends.remove(&hash).filter(|spend| !spend.abandoned) {
            let retry_at = parts.now + parts.settings.failover;
            self.hold(spend.request.id, HeldReason::Unreachable(why.clone()), retry_at, parts.out);
        }
    }

    /// Holds a request without sending anything.
    pub(super) fn hold(
        &mut self,
        id: SpendId,
        reason: HeldReason,
        retry_at: Moment,
        out: &mut Vec<Output>,
    ) {
        self.counts.held += 1;
        out.push(Output::Held { id, reason, retry_at });
    }

    /// Holds everything that was requested and has no claim. What was sent is looked after.
    pub(super) fn hold_all(&mut self, reason: &HeldReason, parts: &mut Parts) {
        self.abandon(reason, parts, |_| true);
    }

    /// Holds what can no longer begin in time, without having been granted.
    pub(super) fn hold_late(&mut self, why: &Arc<str>, parts: &mut Parts) {
        let now = parts.now;
        let reason = HeldReason::Unreachable(why.clone());
        self.abandon(&reason, parts, |spend| now > spend.begin_by());
    }

    fn abandon(&mut self, reason: &HeldReason, parts: &mut Parts, which: impl Fn(&Spend) -> bool) {
        let retry_at = parts.now + parts.settings.failover;
        for spend in self.spends.values_mut() {
            if matches!(spend.state, SpendState::Taking) && !spend.abandoned && which(spend) {
                spend.abandoned = true;
                self.counts.held += 1;
                let id = spend.request.id;
                parts.out.push(Output::Held { id, reason: reason.clone(), retry_at });
            }
        }
    }

    /// Whether a granted spending may begin.
    pub(super) fn may_begin(&self, id: SpendId, mirror: &Mirror, now: Moment) -> bool {
        self.spends.iter().any(|(hash, spend)| {
            spend.request.id == id
                && matches!(spend.state, SpendState::Granted(_))
                && now <= spend.begin_by()
                && mirror.claims.get(hash).is_some_and(|seen| seen.claim.nonce == spend.nonce)
        })
    }

    /// The revision of the value that a spending replaces.
    pub(super) fn base(&self, id: SpendId) -> Option<u64> {
        self.spends.values().find(|spend| spend.request.id == id).map(|spend| spend.base)
    }

    /// A granted spending has ended.
    pub(super) fn spent(&mut self, id: SpendId, result: Spent, parts: &mut Parts) {
        let found = self.spends.iter().find(|(_, spend)| spend.request.id == id);
        if let Some(hash) = found.map(|(hash, _)| *hash) {
            self.end(hash, result, parts);
        }
    }

    /// A granted spending has not begun: its attempt does not count.
    pub(super) fn not_begun(&mut self, id: SpendId, parts: &mut Parts) {
        let found = self.spends.iter().find(|(_, spend)| spend.request.id == id);
        if let Some((hash, spend)) = found {
            let (hash, count) = (*hash, spend.count_before());
            self.end(hash, Spent { value: None, count }, parts);
        }
    }

    /// The end of a spending was written at revision `done`, or was not. What was read or written is
    /// in the mirror. Returns a value that etcd does not have although it has no newer one.
    pub(super) fn ended(
        &mut self,
        hash: TokenHash,
        done: Option<u64>,
        parts: &mut Parts,
    ) -> Option<Unstored> {
        let spend = self.spends.get_mut(&hash)?;
        let SpendState::Ending { value, stored } = &mut spend.state else { return None };
        let key = Key::Value(spend.request.token.clone());
        let value = value.take();
        let stored = done.filter(|_| value.is_some()).or(*stored);
        if let (Some(revision), Some(value)) = (stored, &value) {
            let (token, value) = (spend.request.token.clone(), value.clone());
            parts.out.push(Output::Published { token, revision, value });
        } else if done.is_none() && self.shows_own(hash, parts.mirror) {
            // The value in etcd has changed: only the claim is released.
            let revision = parts.mirror.claims[&hash].revision;
            self.spends.get_mut(&hash)?.state = SpendState::Granted(revision);
            self.end(hash, Spent { value: None, count: None }, parts);
            return None;
        } else if value.is_some() {
            self.counts.lost += 1;
        }
        let spend = self.spends.remove(&hash)?;
        parts.out.push(Output::Released(Some(hash)));
        let unstored = value.filter(|_| stored.is_none());
        let newest = parts.mirror.revision(&key) == spend.base;
        unstored.filter(|_| newest).map(|value| Unstored { token: spend.request.token, value })
    }

    /// A value was seen in etcd. Returns whether it comes from a spending of this replica.
    pub(super) fn recognize(&mut self, hash: TokenHash, seen: &[u8], revision: u64) -> bool {
        match self.spends.get_mut(&hash).map(|spend| &mut spend.state) {
            Some(SpendState::Ending { value: Some(value), stored }) if **value == *seen => {
                *stored = Some(revision);
                true
            }
            _ => false,
        }
    }

    /// Whether this count was written by a spending of this replica.
    pub(super) fn has_counted(&self, hash: TokenHash, count: Count) -> bool {
        self.spends.get(&hash).is_some_and(|spend| spend.request.count == Some(count))
    }

    /// Whether a spending for the token has not ended.
    pub(super) fn is_spending(&self, hash: TokenHash) -> bool {
        self.spends.contains_key(&hash)
    }

    /// Whether the value of a spending that has ended is not known to be in etcd.
    pub(super) fn has_unstored(&self) -> bool {
        self.spends
            .values()
            .any(|spend| matches!(spend.state, SpendState::Ending { value: Some(_), stored: None }))
    }

    /// Whether no spending is under way. What was given up counts, unless etcd is silent.
    pub(super) fn is_idle(&self, is_silent: bool) -> bool {
        self.spends.values().all(|spend| spend.abandoned && is_silent)
    }

    /// Forgets all spendings: their claims are in another etcd. None may begin any more.
    pub(super) fn clear(&mut self) {
        self.spends.clear();
    }

    /// Releases claims of this replica's name that no spending uses, once they are free. Only to be
    /// called while the name is known to be this replica's: the claim may be another living one's.
    pub(super) fn release_unused(&self, parts: &mut Parts) {
        let due = |seen: &&SeenClaim| {
            self.is_unused(seen, parts.settings) && free_at(seen, parts.settings) <= parts.now
        };
        for seen in parts.mirror.claims.values().filter(due) {
            let purpose = Purpose::Release(seen.token.hash());
            if !parts.operations.has(&purpose) {
                let key = Key::Claim(seen.token.clone());
                let transaction = Transaction {
                    expected: vec![(key.clone(), seen.revision)],
                    deletes: vec![key.clone()],
                    reads: vec![key],
                    ..Transaction::default()
                };
                parts.operations.start(purpose, transaction, parts.floor, parts.out);
            }
        }
    }

    /// When [`Claims::hold_late`] has something to do.
    pub(super) fn next_late(&self) -> Option<Moment> {
        let late = self
            .spends
            .values()
            .filter(|spend| matches!(spend.state, SpendState::Taking) && !spend.abandoned);
        late.map(|spend| spend.begin_by() + Duration::from_millis(1)).min()
    }

    /// When [`Claims::release_unused`] has something to do.
    pub(super) fn next_unused(
        &self,
        mirror: &Mirror,
        operations: &Operations,
        settings: &ReplicaSettings,
    ) -> Option<Moment> {
        let unused = mirror.claims.values().filter(|seen| {
            self.is_unused(seen, settings) && !operations.has(&Purpose::Release(seen.token.hash()))
        });
        unused.map(|seen| free_at(seen, settings)).min()
    }

    /// Whether a claim has the name of this replica, and no spending uses it.
    fn is_unused(&self, seen: &SeenClaim, settings: &ReplicaSettings) -> bool {
        let spend = self.spends.get(&seen.token.hash());
        seen.claim.replica == settings.name
            && spend.is_none_or(|spend| spend.nonce != seen.claim.nonce)
    }

    /// The claim is there: grants the spending, unless it is too late or the caller has gone.
    fn granted(&mut self, hash: TokenHash, stolen: bool, parts: &mut Parts) {
        let Some(spend) = self.spends.get(&hash) else { return };
        let begin_by = spend.begin_by();
        let id = spend.request.id;
        if !spend.abandoned && parts.now <= begin_by {
            self.counts.granted += 1;
            self.counts.stolen += u64::from(stolen);
            return parts.out.push(Output::Granted { id, begin_by });
        }
        // The attempt does not take place, so it does not count.
        let count = spend.count_before();
        if !spend.abandoned {
            self.hold(id, HeldReason::Outdated, parts.now + RETRY, parts.out);
        }
        self.end(hash, Spent { value: None, count }, parts);
    }

    /// Sends the end of a spending.
    fn end(&mut self, hash: TokenHash, result: Spent, parts: &mut Parts) {
        let Some(spend) = self.spends.get_mut(&hash) else { return };
        let SpendState::Granted(revision) = spend.state else { return };
        let token = &spend.request.token;
        let [claim, value] = [Key::Claim(token.clone()), Key::Value(token.clone())];
        let mut transaction = Transaction {
            expected: vec![(claim.clone(), revision)],
            deletes: vec![claim.clone()],
            reads: vec![claim, value.clone()],
            ..Transaction::default()
        };
        if let Some(new) = &result.value {
            transaction.expected.push((value.clone(), spend.base));
            transaction.puts.push((value, Record::Value(new.clone())));
        }
        if let Some(count) = result.count {
            spend.request.count = Some(count);
            transaction.puts.push((Key::Count(token.clone()), Record::Count(count)));
        }
        spend.state = SpendState::Ending { value: result.value, stored: None };
        parts.operations.start(Purpose::End(hash), transaction, parts.floor, parts.out);
    }
}

impl Spend {
    /// The latest moment to begin, so that the spending ends within the limit of the claim.
    fn begin_by(&self) -> Moment {
        self.sent + self.request.begin_within
    }

    /// The attempts without this one.
    fn count_before(&self) -> Option<Count> {
        self.request.count.map(|count| Count {
            counted: count.counted.saturating_sub(1),
            in_a_row: count.in_a_row.saturating_sub(1),
            ..count
        })
    }
}

/// The transaction that takes a claim, or replaces one that is free.
fn take(request: &SpendRequest, nonce: u64, parts: &Parts) -> Transaction {
    let [claim, value, count] = [
        Key::Claim(request.token.clone()),
        Key::Value(request.token.clone()),
        Key::Count(request.token.clone()),
    ];
    let record = Claim {
        replica: parts.settings.name.clone(),
        incarnation: parts.settings.incarnation,
        nonce,
        limit: request.limit,
        taken: (parts.settings.boot, parts.now),
    };
    let mut transaction = Transaction {
        expected: vec![(claim.clone(), parts.mirror.revision(&claim))],
        puts: vec![(claim.clone(), Record::Claim(record))],
        leased: parts.settings.claim_on_lease,
        ..Transaction::default()
    };
    if !parts.settings.claim_on_lease {
        transaction.expected.push((value.clone(), parts.mirror.revision(&value)));
    }
    if let Some(new) = request.count {
        if !parts.settings.claim_on_lease {
            transaction.expected.push((count.clone(), parts.mirror.revision(&count)));
        }
        transaction.puts.push((count.clone(), Record::Count(new)));
    }
    transaction.reads = vec![claim, value, count];
    transaction
}

/// The time after which another replica may replace a claim with this limit, from when it has seen it.
pub fn stolen_after(limit: Duration) -> Duration {
    limit + STEAL_MARGIN.max(limit / CLOCK_RATE_SHARE)
}

/// When a claim may be replaced: its spending has ended by then, whatever became of its replica.
///
/// One of this boot is exactly known. Another machine may have had this replica's name until now, so
/// one of another boot stands as long as that of another replica.
pub(super) fn free_at(seen: &SeenClaim, settings: &ReplicaSettings) -> Moment {
    let SeenClaim { claim, seen, .. } = seen;
    let (boot, taken) = claim.taken;
    if claim.replica == settings.name && claim.incarnation == settings.incarnation {
        *seen
    } else if claim.replica == settings.name && boot == settings.boot {
        taken.min(*seen) + claim.limit
    } else {
        *seen + stolen_after(claim.limit)
    }
}
