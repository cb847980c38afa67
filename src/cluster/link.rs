//! The connection of a replica to its store: executes its operations, one watch and one beat at a
//! time, and reports their results as [`LinkEvent`]s.
//!
//! Decides nothing, and repeats nothing. What the store is, is behind [`Engine`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::join;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::replica::{
    Entry, Member, OperationId, Output, StoreError, StoreRevision, Transaction, TransactionResult,
};
use crate::clock;
use crate::time::Moment;

/// Transactions that are sent at the same time. Further ones wait in order.
const MAX_IN_FLIGHT: usize = 64;

/// Time to end the lease at the end.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Results that wait for [`Link::next_event`]. A watch is read no further until there is room.
const MAX_EVENTS: usize = 64;

/// All keys below the prefix, and the state of the store that they belong to.
pub type ReadResult = Result<(StoreRevision, Vec<Entry>), StoreError>;

/// The state of the store, and whether this replica has its lease and its key.
pub type BeatResult = Result<(StoreRevision, bool), StoreError>;

/// Keys that have changed, and the state of the store after the last change.
pub type Changes = (StoreRevision, Vec<Entry>);

/// A store with revisions, transactions, leases and watches, such as etcd. All keys are below one
/// prefix, which the engine knows.
///
/// Every operation ends within a few seconds if the store does not answer, but for
/// [`watch`](Self::watch). No error contains a value, a password or a token.
pub trait Engine: Send + Sync + 'static {
    /// Renews the lease. With `put`: gets a lease first if there is none, then writes the member's
    /// record with it, unless the key exists and has another revision than the one in `put`.
    ///
    /// `Ok((_, false))`: the lease has expired, or the key has another revision.
    fn beat(&self, put: Option<(Arc<Member>, u64)>) -> impl Future<Output = BeatResult> + Send;

    /// Executes a transaction, at most once.
    fn commit(
        &self,
        transaction: Transaction,
    ) -> impl Future<Output = Result<TransactionResult, StoreError>> + Send;

    /// Reads all keys at one revision, which is not older than the call. Calls `answered` each time
    /// that a part has come, which needs a quorum like a beat.
    fn read_with(&self, answered: &(dyn Fn() + Sync)) -> impl Future<Output = ReadResult> + Send;

    /// Reads all keys at one revision, which is not older than the call.
    fn read(&self) -> impl Future<Output = ReadResult> + Send {
        self.read_with(&|| ())
    }

    /// Sends what changes after the revision `after`, in the order of the revisions, without gaps;
    /// all changes of a revision at once. Connects again as long as it can continue without a gap.
    /// Returns why it cannot.
    fn watch(
        &self,
        after: StoreRevision,
        changes: mpsc::Sender<Changes>,
    ) -> impl Future<Output = Arc<str>> + Send;

    /// Asks each endpoint for its state.
    fn reachable(&self) -> impl Future<Output = Vec<EndpointState>> + Send;

    /// Ends the lease, and with it the key of this replica. Without a result: a lease that is not
    /// ended expires.
    fn leave(&self) -> impl Future<Output = ()> + Send;
}

/// What an endpoint says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// Host and port.
    pub endpoint: String,
    /// The version of its program and its state, or why it is not available.
    pub state: Result<(String, StoreRevision), Arc<str>>,
}

/// The result of an operation, for the method of [`Replica`](super::replica::Replica) of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// For `read_continues`.
    ReadContinues,
    /// For `read_finished`. If it succeeded, the watch has begun.
    Read(ReadResult),
    /// For `changed`.
    Changed(StoreRevision, Vec<Entry>),
    /// For `watch_ended`.
    WatchEnded(Arc<str>),
    /// For `beat_finished`.
    BeatFinished {
        /// The moment before the beat was sent.
        sent: Moment,
        /// Its result.
        result: BeatResult,
    },
    /// For `committed`.
    Committed(OperationId, Result<TransactionResult, StoreError>),
}

/// An event, and the number of the read that it belongs to, if it belongs to one.
type Numbered = (Option<u64>, LinkEvent);

/// Executes operations on an engine. Dropping it aborts all of them.
#[derive(Debug)]
pub struct Link<E> {
    engine: Arc<E>,
    events: mpsc::Receiver<Numbered>,
    sender: mpsc::Sender<Numbered>,
    beats: mpsc::UnboundedSender<Option<(Arc<Member>, u64)>>,
    in_flight: Arc<Semaphore>,
    tasks: JoinSet<()>,
    /// Number of the newest read, with its watch. Events of earlier ones are dropped.
    read: u64,
    reading: Option<AbortHandle>,
}

impl<E: Engine> Link<E> {
    /// A link that does nothing yet. Must be called within a tokio runtime.
    pub fn new(engine: Arc<E>) -> Self {
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let (beats, waiting) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(run_beats(Arc::clone(&engine), waiting, sender.clone()));
        let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        Self { engine, events, sender, beats, in_flight, tasks, read: 0, reading: None }
    }

    /// The engine, to reconfigure it or to ask for its state.
    pub const fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// Starts the operation of an output. Returns an output that is none.
    #[must_use]
    pub fn execute(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Read => self.read(),
            Output::Beat { put } => self.beat(put),
            Output::Commit(id, transaction) => self.commit(id, transaction),
            other => return Some(other),
        }
        None
    }

    /// The next result. Cancel-safe.
    pub async fn next_event(&mut self) -> LinkEvent {
        loop {
            match self.events.recv().await {
                Some((Some(read), _)) if read != self.read => {}
                Some((_, event)) => return event,
                // There is a sender in `self`.
                None => std::future::pending().await,
            }
        }
    }

    /// Aborts all operations, and ends the lease.
    pub async fn leave(mut self) {
        self.tasks.abort_all();
        // The lease expires if it is not ended in time.
        let _ = timeout(LEAVE_TIMEOUT, self.engine.leave()).await;
    }

    fn read(&mut self) {
        if let Some(earlier) = self.reading.take() {
            earlier.abort();
        }
        self.read += 1;
        let task = read_and_watch(Arc::clone(&self.engine), self.read, self.sender.clone());
        self.reading = Some(self.spawn(task));
    }

    fn beat(&self, put: Option<(Arc<Member>, u64)>) {
        // The task ends with `self` only.
        let _ = self.beats.send(put);
    }

    fn commit(&mut self, id: OperationId, transaction: Transaction) {
        let (engine, sender) = (Arc::clone(&self.engine), self.sender.clone());
        let in_flight = Arc::clone(&self.in_flight);
        self.spawn(async move {
            // In the order of the calls: the semaphore is fair, and is never closed.
            let Ok(permit) = in_flight.acquire_owned().await else { return };
            let result = engine.commit(transaction).await;
            drop(permit);
            let _ = sender.send((None, LinkEvent::Committed(id, result))).await;
        });
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(task)
    }
}

/// Sends beats one after the other.
async fn run_beats<E: Engine>(
    engine: Arc<E>,
    mut waiting: mpsc::UnboundedReceiver<Option<(Arc<Member>, u64)>>,
    events: mpsc::Sender<Numbered>,
) {
    while let Some(put) = waiting.recv().await {
        let put = put.map(|(member, expected)| {
            let wall_ms = clock::wall_clock().as_millisecond();
            (Arc::new(Member { wall_ms, ..Member::clone(&member) }), expected)
        });
        let sent = clock::now();
        let result = engine.beat(put).await;
        let _ = events.send((None, LinkEvent::BeatFinished { sent, result })).await;
    }
}

/// Reads everything, then watches from the next revision on.
async fn read_and_watch<E: Engine>(engine: Arc<E>, read: u64, events: mpsc::Sender<Numbered>) {
    let send = async |event| {
        let _ = events.send((Some(read), event)).await;
    };
    // If there is no room, the receiver is behind: then no answer is waited for.
    let answered = || {
        let _ = events.try_send((Some(read), LinkEvent::ReadContinues));
    };
    let result = engine.read_with(&answered).await;
    let after = result.as_ref().ok().map(|(at, _)| *at);
    send(LinkEvent::Read(result)).await;
    let Some(after) = after else { return };
    let (sender, mut changes) = mpsc::channel(1);
    let forward = async {
        while let Some((at, entries)) = changes.recv().await {
            send(LinkEvent::Changed(at, entries)).await;
        }
    };
    let (error, ()) = join!(engine.watch(after, sender), forward);
    send(LinkEvent::WatchEnded(error)).await;
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
