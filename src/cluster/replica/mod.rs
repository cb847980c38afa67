//! One replica: which tokens it asks about, and when it may spend for one.
//!
//! Pure: takes what etcd says and the time, and adds [`Output`]s to its [`outputs`](Replica::outputs).
//! Between two calls it must be woken at [`Replica::next_wake`].
//!
//! From top to bottom; a file calls only files below it:
//!
//! ```text
//! mod         inputs
//! queries     what a replica knows
//! results     what follows the result of a transaction
//! steps       what follows an input, and in which order
//! join        reading, the name, beats, whether etcd can be used
//! values      puts verified values into etcd
//! claims      takes, steals and releases claims; stores new values
//! operations  transactions whose result is awaited
//! mirror      what was seen of etcd
//! view        who asks: slots, digests
//! reach       who reaches which server
//! reasons     which reasons why etcd cannot be used are logged
//! types
//! token_key   how a token is named in the cluster
//! ```

mod claims;
mod join;
mod mirror;
mod operations;
mod queries;
mod reach;
mod reasons;
mod results;
mod steps;
mod token_key;
mod types;
mod values;
mod view;

#[cfg(test)]
mod tests;

pub use self::claims::stolen_after;
pub use self::token_key::{SLOTS, TokenHash, TokenKey};
pub use self::types::{
    Claim, ClaimCounts, ClusterNotice, Count, Entry, HeldReason, Key, KeyId, Member, Meta,
    OperationId, Output, Overdue, Reason, Record, ReplicaSettings, SpendId, SpendRequest, Spent,
    StoreError, StoreRevision, Transaction, TransactionResult,
};

use std::sync::Arc;
use std::time::Duration;

use self::claims::Claims;
use self::join::{Membership, Phase, Trouble};
use self::mirror::Mirror;
use self::operations::{Operations, Purpose};
use self::reasons::Reasons;
use self::values::Publications;
use self::view::View;
use crate::time::Moment;

/// The newest format of the records.
pub const FORMAT: u32 = 1;

/// Pause before a transaction without a response is sent again.
const RETRY: Duration = Duration::from_secs(1);
/// The newest revision is reported at most once in this time.
const SEEN_EVERY: Duration = Duration::from_secs(1);
/// Wall clocks that differ by more are reported, in milliseconds.
const CLOCK_TOLERANCE_MS: u64 = 10_000;

/// The state machine of one replica.
#[derive(Debug)]
pub struct Replica {
    /// What the calls since the last look want done and report, in order. The caller takes it.
    pub outputs: Vec<Output>,
    settings: ReplicaSettings,
    view: View,
    mirror: Mirror,
    operations: Operations,
    claims: Claims,
    publications: Publications,
    membership: Membership,
    reasons: Reasons,
    /// The newest state of etcd that was seen, and whether it is to be reported.
    seen: Option<StoreRevision>,
    seen_unreported: bool,
    seen_report_at: Moment,
    /// Replicas whose wall clock was reported.
    clocks_reported: std::collections::BTreeSet<Arc<str>>,
}

impl Replica {
    /// A replica that has not joined. Its first output is to read everything.
    pub fn new(settings: ReplicaSettings, now: Moment) -> Self {
        let mut replica = Self {
            outputs: Vec::new(),
            view: View::new(settings.name.clone(), settings.failover),
            mirror: Mirror::default(),
            operations: Operations::default(),
            claims: Claims::new(settings.seed),
            publications: Publications::default(),
            membership: Membership::new(settings.failover, now),
            reasons: Reasons::new(settings.failover),
            seen: settings.seen,
            seen_unreported: false,
            seen_report_at: now,
            clocks_reported: std::collections::BTreeSet::new(),
            settings,
        };
        replica.advance(now);
        replica
    }

    /// A token that this replica can ask about: it is configured and has a value. Once for each
    /// token, until it is [unlisted](Replica::unlist).
    pub fn list(&mut self, token: TokenHash, now: Moment) {
        if self.view.list(token, now) {
            self.outputs.push(Output::SlotsChanged);
        }
    }

    /// A listed token was removed, or has no value any more.
    pub fn unlist(&mut self, token: TokenHash, now: Moment) {
        if self.view.unlist(token, now) {
            self.outputs.push(Output::SlotsChanged);
        }
    }

    /// Takes all servers of this replica by name, and whether each is reached. The tokens of one that is
    /// not are soon checked by another replica as well.
    pub fn set_servers(&mut self, servers: Vec<(&str, bool)>, now: Moment) {
        let servers = servers.into_iter().map(|(name, is)| (TokenKey::encode_server(name), is));
        self.view.set_servers(servers.collect(), now);
        self.advance(now);
    }

    /// The keys that this replica can open are others by now.
    pub fn set_keys(&mut self, keys: Vec<KeyId>, now: Moment) {
        self.observe(now);
        if self.settings.keys != keys {
            self.settings.keys = keys;
            self.membership.write_again(now);
            if self.membership.is_suspended() {
                self.membership.read_again(now);
            } else {
                self.check_meta(now);
            }
        }
        self.advance(now);
    }

    /// A part of all keys was read: etcd answers.
    pub fn read_continues(&mut self, now: Moment) {
        self.membership.read_answered(now);
        self.observe(now);
        self.advance(now);
    }

    /// All keys were read.
    pub fn read_finished(
        &mut self,
        result: Result<(StoreRevision, Vec<Entry>), StoreError>,
        now: Moment,
    ) {
        self.observe(now);
        match result {
            Ok((at, entries)) => {
                let floor = self.membership.read_ended(None, now);
                if self.accepts(at, floor, now) {
                    self.take_snapshot(at, entries, now);
                }
            }
            Err(StoreError::Unanswered(why)) => {
                self.membership.read_ended(Some(&why), now);
                self.report_reason(self.settings.failover, now);
            }
            Err(StoreError::Refused(why)) => {
                let why = Reason::from(why);
                self.membership.read_ended(Some(&why), now);
                self.enter(Trouble::Suspended, why, now);
            }
        }
        self.advance(now);
    }

    /// Keys have changed, in the order of their revisions. `wall_ms` is this machine's wall clock.
    pub fn changed(&mut self, at: StoreRevision, entries: Vec<Entry>, wall_ms: i64, now: Moment) {
        self.observe(now);
        if self.membership.takes_changes() && self.has_view() && self.accepts(at, 0, now) {
            if self.membership.is_current(now) {
                self.compare_clocks(&entries, wall_ms);
            }
            let changes = self.mirror.watch(entries, now);
            self.take_changes(changes, now);
        }
        self.advance(now);
    }

    /// The watch has ended, or cannot continue from where it was: everything is read again.
    pub fn watch_ended(&mut self, _error: &str, now: Moment) {
        self.observe(now);
        if self.membership.takes_changes() {
            self.membership.read_again(now);
        }
        self.advance(now);
    }

    /// A beat that was sent at `sent` has ended. `Ok(false)`: the lease has expired, or the key
    /// belongs to another replica.
    pub fn beat_finished(
        &mut self,
        sent: Moment,
        result: Result<(StoreRevision, bool), StoreError>,
        now: Moment,
    ) {
        let was_joined = self.is_joined();
        let floor = self.membership.beat_floor();
        let answered = result.is_ok();
        let wrote = match result {
            Ok((at, done)) => {
                let accepted = self.accepts(at, floor, now);
                let wrote = self.membership.beat_answered(sent, done && accepted, now);
                wrote.then_some(at.revision)
            }
            Err(StoreError::Unanswered(why)) => {
                self.membership.beat_unanswered(&why, now);
                self.report_reason(self.settings.failover, now);
                None
            }
            Err(StoreError::Refused(why)) => {
                let why = Reason::from(why);
                self.membership.beat_unanswered(&why, now);
                self.enter(Trouble::Suspended, why, now);
                None
            }
        };
        self.observe(now);
        self.recover(wrote, answered, now);
        if self.is_joined() && !was_joined {
            self.outputs.push(Output::Released(None));
        }
        self.advance(now);
    }

    /// A transaction has ended.
    pub fn committed(
        &mut self,
        id: OperationId,
        result: Result<TransactionResult, StoreError>,
        now: Moment,
    ) {
        self.observe(now);
        if let Some(operation) = self.operations.take(id) {
            match result {
                Ok(result) => {
                    if self.accepts(result.at, operation.floor, now) {
                        self.finish(id, operation, result, now);
                    }
                }
                Err(StoreError::Unanswered(_)) => self.finish_unanswered(id, operation, now),
                Err(StoreError::Refused(why)) => self.finish_refused(id, operation, &why, now),
            }
        }
        self.advance(now);
    }

    /// Requests a claim for a spending. Ends in [`Output::Granted`] or [`Output::Held`].
    ///
    /// The caller has dealt with every [`Output::NewValue`] before: what it wants to spend for is
    /// the newest value that it could get.
    pub fn request(&mut self, request: SpendRequest, now: Moment) {
        self.observe(now);
        if let Some(reason) = self.membership.hold_reason() {
            let retry_at = now + self.settings.failover;
            self.claims.hold(request.id, reason, retry_at, &mut self.outputs);
        } else if self.publications.is_under_way(request.token.hash()) {
            let reason = HeldReason::Outdated;
            self.claims.hold(request.id, reason, now + RETRY, &mut self.outputs);
        } else {
            let (claims, mut parts) = self.claims_with_parts(now);
            claims.request(request, &mut parts);
        }
    }

    /// A granted spending has ended: the value is put into etcd, and the claim is released.
    pub fn spent(&mut self, id: SpendId, result: Spent, now: Moment) {
        let (claims, mut parts) = self.claims_with_parts(now);
        claims.spent(id, result, &mut parts);
    }

    /// A granted spending has not begun, and will not: the claim is released, and the attempt does
    /// not count.
    pub fn not_begun(&mut self, id: SpendId, now: Moment) {
        let (claims, mut parts) = self.claims_with_parts(now);
        claims.not_begun(id, &mut parts);
    }

    /// Puts a verified value into etcd that does not come from a spending, over the value at revision
    /// `base` only; 0: over none. That is the newest one that the caller has dealt with. Ends in
    /// [`Output::Published`] or [`Output::Dropped`].
    pub fn publish(&mut self, base: u64, token: TokenKey, value: Arc<[u8]>, now: Moment) {
        // An operator may have deleted the value.
        let is_gone = self.mirror.revision(&Key::Value(token.clone())) == 0;
        self.publications.add(token, value, if is_gone { 0 } else { base });
        self.send_publications(now);
    }

    /// Lowers the attempts in etcd: the value of one has lived long enough, so it does not count any
    /// more. Not repeated without a response, and left to the end of a spending that is under way.
    pub fn refund(&mut self, token: &TokenKey, count: Count) {
        let hash = token.hash();
        let purpose = Purpose::Refund(hash);
        if !self.is_joined() || self.claims.is_spending(hash) || self.operations.has(&purpose) {
            return;
        }
        let [claim, key] = [Key::Claim(token.clone()), Key::Count(token.clone())];
        let transaction = Transaction {
            expected: vec![(key.clone(), self.mirror.revision(&key)), (claim, 0)],
            puts: vec![(key.clone(), Record::Count(count))],
            reads: vec![key],
            ..Transaction::default()
        };
        let floor = self.floor();
        self.operations.start(purpose, transaction, floor, &mut self.outputs);
    }

    /// An operator pauses a token for all replicas, or resumes it. Ends in [`Output::Answered`].
    pub fn set_paused(&mut self, token: TokenKey, paused: bool, _now: Moment) -> OperationId {
        let transaction = self.pause(&token, paused);
        self.operate(Purpose::Pause(token, paused), transaction)
    }

    /// A step of a key rotation: replaces the value at `revision` by the same one, sealed with
    /// another key. Fails while a replica spends for the token. Ends in [`Output::Answered`].
    pub fn rekey_value(&mut self, token: TokenKey, revision: u64, value: Arc<[u8]>) -> OperationId {
        let [claim, key] = [Key::Claim(token.clone()), Key::Value(token)];
        let transaction = Transaction {
            expected: vec![(key.clone(), revision), (claim, 0)],
            puts: vec![(key.clone(), Record::Value(value))],
            reads: vec![key],
            ..Transaction::default()
        };
        self.operate(Purpose::Rekey, transaction)
    }

    /// The last step of a key rotation: names the key that seals new values. Ends in
    /// [`Output::Answered`].
    pub fn set_meta_key(&mut self, key: KeyId) -> OperationId {
        let transaction = Transaction {
            expected: vec![(Key::Meta, self.mirror.revision(&Key::Meta))],
            puts: vec![(Key::Meta, Record::Meta(Meta { format: FORMAT, key }))],
            reads: vec![Key::Meta],
            ..Transaction::default()
        };
        self.operate(Purpose::Rekey, transaction)
    }

    /// Takes values from the current etcd cluster again, although it has an older revision or is
    /// another one. The next [`Output::Seen`] is then older than the one before.
    pub fn accept_store(&mut self, now: Moment) {
        if self.membership.is_foreign() {
            self.membership.trouble = Some(Trouble::Suspended);
            self.seen = None;
            self.mirror = Mirror::default();
        }
        if self.membership.is_suspended() {
            self.membership.read_again(now);
        }
        self.advance(now);
    }

    /// Does what is due at `now`.
    pub fn wake(&mut self, now: Moment) {
        self.observe(now);
        self.advance(now);
    }

    /// When [`Replica::wake`] has something to do.
    pub fn next_wake(&self) -> Option<Moment> {
        let usable =
            self.membership.trouble.is_none() && self.membership.phase != join::Phase::Left;
        let joined = self.is_joined();
        let owns_name = usable && self.membership.phase == Phase::Joined;
        let Self { mirror, settings, operations, .. } = self;
        [
            self.membership.next_wake(&self.view),
            self.view.next_wake(),
            operations.next_wake().filter(|_| usable),
            self.claims.next_late().filter(|_| usable),
            self.claims.next_unused(mirror, operations, settings).filter(|_| owns_name),
            self.publications.next_wake(&self.claims, mirror, settings).filter(|_| joined),
            self.seen_unreported.then_some(self.seen_report_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Leaves the cluster once no spending is under way. Ends in [`Output::Left`].
    pub fn leave(&mut self, now: Moment) {
        self.observe(now);
        self.membership.leaving = true;
        let (claims, mut parts) = self.claims_with_parts(now);
        claims.hold_all(&HeldReason::NotJoined, &mut parts);
        self.advance(now);
    }
}
