//! Input and output types of a replica.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::token_key::{SLOTS, TokenHash, TokenKey};
use crate::time::Moment;

/// A key in etcd, below the configured prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `meta`: the format, and which key seals the values.
    Meta,
    /// `member/NAME`: a living replica. Bound to its lease.
    Member(Arc<str>),
    /// `paused/TOKEN`
    Paused(TokenKey),
    /// `value/TOKEN`: the newest value, sealed. Only of tokens that ever got a new one.
    Value(TokenKey),
    /// `claim/TOKEN`: a replica spends. Has no lease.
    Claim(TokenKey),
    /// `count/TOKEN`: the login attempts of the current window.
    Count(TokenKey),
}

/// The content of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// See [`Key::Meta`].
    Meta(Meta),
    /// See [`Key::Member`].
    Member(Arc<Member>),
    /// See [`Key::Paused`].
    Paused,
    /// See [`Key::Value`]: the sealed bytes.
    Value(Arc<[u8]>),
    /// See [`Key::Claim`].
    Claim(Claim),
    /// See [`Key::Count`].
    Count(Count),
    /// The content cannot be read: why.
    Unreadable(Arc<str>),
}

/// What all replicas must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Format of all records.
    pub format: u32,
    /// Id of the key that seals new values.
    pub key: KeyId,
}

/// Id of a key for sealing: a digest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub u64);

/// A living replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Random number of this start of the process.
    pub incarnation: u64,
    /// The newest format that it can write.
    pub format: u32,
    /// Ids of the keys that it can open.
    pub keys: Vec<KeyId>,
    /// Digest of the tokens that it can ask about, for each slot.
    pub digests: Box<[u32; SLOTS]>,
    /// The servers that it does not reach, as in [`TokenKey`], sorted.
    pub unreachable: Vec<Arc<str>>,
    /// Its wall clock when this was written, in milliseconds since 1970.
    pub wall_ms: i64,
}

/// A replica spends for a token, or has until it is known to have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Name of the replica.
    pub replica: Arc<str>,
    /// Random number of this start of its process.
    pub incarnation: u64,
    /// Random number of this claim.
    pub nonce: u64,
    /// The spending ends within this time of the instant before the claim was sent.
    pub limit: Duration,
    /// Id of the boot, and the instant before the claim was sent on the clock of that boot.
    pub taken: (u64, Moment),
}

/// Login attempts of a token, as the scheduler counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// When their window ends (wall clock, milliseconds since 1970).
    pub window_end_ms: i64,
    /// Attempts that count in it.
    pub counted: u32,
    /// Attempts since a value last lived half of its reported life.
    pub in_a_row: u32,
}

/// A key with its content. Without content it was deleted, or does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// Its content.
    pub record: Option<Record>,
    /// Revision of the last change; 0 if it does not exist. For a deletion, the deletion's.
    pub revision: u64,
}

/// The state of etcd that a response belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreRevision {
    /// Id of the etcd cluster.
    pub cluster: u64,
    /// Its revision.
    pub revision: u64,
}

/// A transaction: if every key still has the expected revision, all writes are done at once.
/// Otherwise nothing is written, and `reads` are returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// Keys and the revision of their last change; 0: the key does not exist.
    pub expected: Vec<(Key, u64)>,
    /// Keys to write; those of `Member` get the replica's lease.
    pub puts: Vec<(Key, Record)>,
    /// Keys to delete.
    pub deletes: Vec<Key>,
    /// Keys to read if something has another revision.
    pub reads: Vec<Key>,
    /// All puts get the replica's lease. Only for [`ReplicaSettings::claim_on_lease`].
    pub leased: bool,
}

/// The result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionResult {
    /// Everything was written. Its revision is the one of `at`.
    pub succeeded: bool,
    /// The state of etcd.
    pub at: StoreRevision,
    /// What was read, if it did not succeed.
    pub read: Vec<Entry>,
}

/// Why etcd cannot be used: a text for operators, and its kind, which tells apart what must be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    text: Arc<str>,
    kind: Arc<str>,
}

impl Reason {
    /// An etcd that does not respond, or cannot answer at present. It has many texts and one kind:
    /// they change from attempt to attempt.
    pub fn silence(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), kind: "".into() }
    }

    /// The same kind with another text.
    #[must_use]
    pub fn with_text(self, text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), ..self }
    }

    /// What operators read, with the remedy.
    pub const fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Equal for reasons that differ only in numbers or endpoints. The kind of a silence is the least.
    pub(crate) const fn kind(&self) -> &Arc<str> {
        &self.kind
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A reason whose kind is its text without digits: some texts contain the time of the attempt.
impl<T: Into<Arc<str>>> From<T> for Reason {
    fn from(text: T) -> Self {
        let text = text.into();
        let kind: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        Self { text, kind: kind.into() }
    }
}

/// Why an operation has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// No response. The operation may have been executed, or may be later.
    Unanswered(Reason),
    /// etcd refused it, and it was not executed: rights, user or password, a request that it does
    /// not understand.
    Refused(Arc<str>),
}

impl StoreError {
    /// What operators read, with the remedy.
    pub const fn text(&self) -> &Arc<str> {
        match self {
            Self::Unanswered(reason) => &reason.text,
            Self::Refused(text) => text,
        }
    }
}

/// How many claims came to what, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClaimCounts {
    /// Spendings that were granted, the stolen ones included.
    pub granted: u64,
    /// Requests that were held.
    pub held: u64,
    /// Claims of silent replicas that were replaced.
    pub stolen: u64,
    /// Own claims that were gone when the spending ended.
    pub lost: u64,
}

/// Number of an operation, to match its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(pub u64);

/// Number of a spending, given by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpendId(pub u64);

/// What does not change while a replica runs.
#[derive(Debug, Clone)]
pub struct ReplicaSettings {
    /// Its name.
    pub name: Arc<str>,
    /// How long a silent replica still counts.
    pub failover: Duration,
    /// Random number of this start of the process.
    pub incarnation: u64,
    /// Id of this boot.
    pub boot: u64,
    /// The newest state of etcd that an earlier run has seen.
    pub seen: Option<StoreRevision>,
    /// Ids of the keys that it can open; the first is the configured `key`, the second `old_key`.
    pub keys: Vec<KeyId>,
    /// For random numbers.
    pub seed: u64,
    /// Puts claims on the lease, and takes whenever no claim exists. Unsafe: for tests that must see
    /// two spendings at once.
    pub claim_on_lease: bool,
}

/// A request to spend.
#[derive(Debug, Clone)]
pub struct SpendRequest {
    /// Its number.
    pub id: SpendId,
    /// The token.
    pub token: TokenKey,
    /// The spending ends within this time of the instant before the claim is sent.
    pub limit: Duration,
    /// It must begin within this time of that instant, so that it can end within `limit`.
    pub begin_within: Duration,
    /// The attempts with this one, if it is counted.
    pub count: Option<Count>,
}

/// What a spending came to.
#[derive(Debug, Clone)]
pub struct Spent {
    /// The new value, sealed; `None` if there is none.
    pub value: Option<Arc<[u8]>>,
    /// The attempts now, if they are counted.
    pub count: Option<Count>,
}

/// What a replica wants done, and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Read all keys, then watch from the next revision on. Ends a watch before.
    Read,
    /// Renew the lease, or get one of the length of `failover` and write the record of this replica
    /// with it. The key must not exist, or have `expected` as revision. [`Member::wall_ms`] is filled
    /// in when the record is sent. One beat is under way at most.
    Beat {
        /// The record and `expected`; `None`: only the lease is renewed.
        put: Option<(Arc<Member>, u64)>,
    },
    /// Execute a transaction.
    Commit(OperationId, Transaction),
    /// The slots about which this replica asks have changed; see [`Replica::asks`](super::Replica::asks).
    SlotsChanged,
    /// The spending may begin until `begin_by`; see [`Replica::may_begin`](super::Replica::may_begin).
    /// It must be followed by [`Replica::spent`](super::Replica::spent).
    Granted {
        /// Which.
        id: SpendId,
        /// The latest moment.
        begin_by: Moment,
    },
    /// The spending may not begin. The request is forgotten.
    Held {
        /// Which.
        id: SpendId,
        /// Why.
        reason: HeldReason,
        /// When to request it again. Sooner if [`Output::Released`] names the token.
        retry_at: Moment,
    },
    /// What held spendings of this token (`None`: of all tokens) is over.
    Released(Option<TokenHash>),
    /// etcd has a newer value for this token, sealed.
    NewValue {
        /// The token.
        token: TokenKey,
        /// Revision of the value.
        revision: u64,
        /// Sealed value.
        value: Arc<[u8]>,
    },
    /// A value of this replica is in etcd.
    Published {
        /// The token.
        token: TokenKey,
        /// Its revision.
        revision: u64,
        /// Sealed value.
        value: Arc<[u8]>,
    },
    /// A value that was to be published is not in etcd, and will not be: a newer one came first, or it
    /// is another etcd.
    Dropped(TokenKey),
    /// Another replica has counted attempts of this token.
    Counted(TokenKey, Count),
    /// The token was paused for the whole cluster, or resumed.
    Paused(TokenKey, bool),
    /// The newest state of etcd, to be persisted.
    Seen(StoreRevision),
    /// Report this.
    Notice(ClusterNotice),
    /// The process must end: another replica has this name.
    NameTaken,
    /// A request of an operator has ended: a pause, a resumption, a step of a key rotation.
    Answered(OperationId, Result<(), Arc<str>>),
    /// This replica has left the cluster.
    Left,
}

/// When a claim of another replica is to be over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    /// The name of the replica.
    pub replica: Arc<str>,
    /// Its spending has ended by then, if the replica lives and can use etcd.
    pub since: Moment,
    /// When this replica may take the claim.
    pub free_at: Moment,
}

/// Why a spending may not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldReason {
    /// Another replica spends.
    Claimed {
        /// Its name.
        replica: Arc<str>,
    },
    /// etcd cannot be reached, or this replica may not use it.
    Unreachable(Arc<str>),
    /// The value or the attempts have changed; it may not be necessary any more.
    Outdated,
    /// The replica has not joined yet, or is about to leave.
    NotJoined,
}

/// Something to report. Each is emitted once, when it becomes true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterNotice {
    /// This replica has joined.
    Joined {
        /// Living replicas, this one included.
        members: usize,
    },
    /// Another replica has joined.
    ReplicaJoined(Arc<str>),
    /// Another replica has left or is silent.
    ReplicaLeft(Arc<str>),
    /// etcd does not answer, or this replica may not use it.
    Unreachable(Arc<str>),
    /// etcd answers again.
    Recovered,
    /// The wall clock of another replica differs by this many milliseconds.
    ClockDiffers(Arc<str>, i64),
}
