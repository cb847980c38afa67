//! One replica: which tokens it asks about, and when it may spend for one.
//!
//! Pure: takes what etcd says and the time, and adds [`Output`]s to its [`outputs`](Replica::outputs).
//! Between two calls it must be woken at [`Replica::next_wake`].

mod types;

pub use self::types::{
    Claim, ClusterNotice, Count, Entry, HeldReason, Key, KeyId, Member, Meta, OperationId, Output,
    Record, ReplicaSettings, SLOTS, SpendId, SpendRequest, Spent, StoreError, StoreRevision,
    TokenHash, TokenKey, Transaction, TransactionResult,
};

use std::sync::Arc;

use crate::time::Moment;

/// The newest format of the records.
pub const FORMAT: u32 = 1;

/// The state machine of one replica.
#[derive(Debug)]
pub struct Replica {
    /// What the calls since the last look want done and report, in order. The caller takes it.
    pub outputs: Vec<Output>,
}

impl Replica {
    /// A replica that has not joined. Its first output is to read everything.
    pub fn new(_settings: ReplicaSettings, _now: Moment) -> Self {
        todo!()
    }

    /// A token that this replica can ask about: it is configured and has a value.
    pub fn list(&mut self, _token: TokenHash, _now: Moment) {
        todo!()
    }

    /// The token was removed, or has no value any more.
    pub fn unlist(&mut self, _token: TokenHash, _now: Moment) {
        todo!()
    }

    /// Whether this replica asks about the token.
    pub fn asks(&self, _token: TokenHash) -> bool {
        todo!()
    }

    /// Whether this replica knows who asks about what. Before that, it asks about everything.
    pub fn has_view(&self) -> bool {
        todo!()
    }

    /// The replica that asks about the token by computation; `None` before there is a view.
    pub fn asker(&self, _token: TokenHash) -> Option<&Arc<str>> {
        todo!()
    }

    /// The names of the living replicas, sorted, this one included.
    pub fn members(&self) -> Vec<Arc<str>> {
        todo!()
    }

    /// Who spends for the token, and since when, as far as this replica has seen.
    pub fn claim_of(&self, _token: TokenHash) -> Option<(&Arc<str>, Moment)> {
        todo!()
    }

    /// The claims under way, as far as this replica has seen: which token, who, and since when.
    pub fn claims(&self) -> impl Iterator<Item = (&TokenKey, &Arc<str>, Moment)> {
        std::iter::empty()
    }

    /// How many of the tokens that this replica lists each living replica asks about, by name.
    pub fn shares(&self) -> Vec<(Arc<str>, usize)> {
        todo!()
    }

    /// What a living replica says about itself.
    pub fn member(&self, _name: &str) -> Option<&Member> {
        todo!()
    }

    /// What all replicas must agree on, as last seen.
    pub fn meta(&self) -> Option<&Meta> {
        todo!()
    }

    /// Why etcd cannot be used; `None` if it can.
    pub fn unreachable(&self) -> Option<&str> {
        todo!()
    }

    /// All keys were read.
    pub fn read_finished(
        &mut self,
        _result: Result<(StoreRevision, Vec<Entry>), StoreError>,
        _now: Moment,
    ) {
        todo!()
    }

    /// Keys have changed, in the order of their revisions.
    pub fn changed(
        &mut self,
        _at: StoreRevision,
        _entries: Vec<Entry>,
        _wall_ms: i64,
        _now: Moment,
    ) {
        todo!()
    }

    /// The watch has ended, or cannot continue from where it was: everything is read again.
    pub fn watch_ended(&mut self, _error: &str, _now: Moment) {
        todo!()
    }

    /// A beat that was sent at `sent` has ended. `Ok(false)`: the lease has expired, or the key
    /// belongs to another replica.
    pub fn beat_finished(
        &mut self,
        _sent: Moment,
        _result: Result<(StoreRevision, bool), StoreError>,
        _now: Moment,
    ) {
        todo!()
    }

    /// A transaction has ended.
    pub fn committed(
        &mut self,
        _id: OperationId,
        _result: Result<TransactionResult, StoreError>,
        _now: Moment,
    ) {
        todo!()
    }

    /// Requests a claim for a spending. Ends in [`Output::Granted`] or [`Output::Held`].
    pub fn request(&mut self, _request: SpendRequest, _now: Moment) {
        todo!()
    }

    /// Whether a granted spending may still begin at `now`. If not, [`Replica::spent`] follows
    /// without a value.
    pub fn may_begin(&self, _id: SpendId, _now: Moment) -> bool {
        todo!()
    }

    /// A granted spending has ended: the value is put into etcd, and the claim is released.
    pub fn spent(&mut self, _id: SpendId, _result: Spent, _now: Moment) {
        todo!()
    }

    /// Puts a verified value into etcd that does not come from a spending, unless a newer one is
    /// there or comes first.
    pub fn publish(&mut self, _token: TokenKey, _value: Arc<[u8]>, _now: Moment) {
        todo!()
    }

    /// An operator pauses a token for all replicas, or resumes it. Ends in [`Output::Answered`].
    pub fn set_paused(&mut self, _token: TokenKey, _paused: bool, _now: Moment) -> OperationId {
        todo!()
    }

    /// Takes values from the current etcd cluster again, although it has an older revision or is
    /// another one.
    pub fn accept_store(&mut self, _now: Moment) {
        todo!()
    }

    /// Does what is due at `now`.
    pub fn wake(&mut self, _now: Moment) {
        todo!()
    }

    /// When [`Replica::wake`] has something to do.
    pub fn next_wake(&self) -> Option<Moment> {
        todo!()
    }

    /// Leaves the cluster once no spending is under way. Ends in [`Output::Left`].
    pub fn leave(&mut self, _now: Moment) {
        todo!()
    }
}
