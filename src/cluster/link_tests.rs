//! The link on an engine whose operations end when the test says so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::task::yield_now;

use super::*;
use crate::cluster::replica::Key;

/// Counts what is under way.
#[derive(Debug)]
struct Fake {
    /// Numbers of the transactions that were started.
    started: Mutex<Vec<u64>>,
    /// A permit for each transaction or beat that may end.
    ends: Semaphore,
    beats: AtomicUsize,
    reads: AtomicU64,
    watches: AtomicUsize,
}

struct Watching<'a>(&'a AtomicUsize);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

const fn at(revision: u64) -> StoreRevision {
    StoreRevision { cluster: 1, revision }
}

impl Engine for Fake {
    async fn beat(&self, _: Option<(Arc<Member>, u64)>) -> BeatResult {
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.ends.acquire().await.unwrap().forget();
        Ok((at(1), true))
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, StoreError> {
        self.started.lock().unwrap().push(transaction.expected[0].1);
        self.ends.acquire().await.unwrap().forget();
        Ok(TransactionResult { succeeded: true, at: at(1), read: Vec::new() })
    }

    async fn read_with(&self, answered: &(dyn Fn() + Sync)) -> ReadResult {
        answered();
        Ok((at(self.reads.fetch_add(1, Ordering::Relaxed) + 1), Vec::new()))
    }

    async fn watch(&self, after: StoreRevision, changes: mpsc::Sender<Changes>) -> Arc<str> {
        self.watches.fetch_add(1, Ordering::Relaxed);
        let _watching = Watching(&self.watches);
        changes.send((at(after.revision + 100), Vec::new())).await.unwrap();
        std::future::pending().await
    }

    async fn reachable(&self) -> Vec<EndpointState> {
        Vec::new()
    }

    async fn leave(&self) {
        std::future::pending::<()>().await;
    }
}

fn link() -> Link<Fake> {
    Link::new(Arc::new(Fake {
        started: Mutex::default(),
        ends: Semaphore::new(0),
        beats: AtomicUsize::default(),
        reads: AtomicU64::default(),
        watches: AtomicUsize::default(),
    }))
}

/// Lets all tasks run until none can go on.
async fn settle() {
    for _ in 0..1_000 {
        yield_now().await;
    }
}

#[tokio::test]
async fn sixty_four_transactions_are_in_flight_and_the_rest_wait_in_order() {
    let mut link = link();
    for number in 0..200 {
        let expected = vec![(Key::Meta, number)];
        let transaction = Transaction { expected, ..Transaction::default() };
        assert_eq!(link.execute(Output::Commit(OperationId(number), transaction)), None);
    }
    settle().await;
    let started = || link.engine().started.lock().unwrap().clone();
    assert_eq!(started(), (0..64).collect::<Vec<_>>());
    link.engine().ends.add_permits(3);
    settle().await;
    assert_eq!(started(), (0..67).collect::<Vec<_>>());
    link.engine().ends.add_permits(197);
    for number in 0..200 {
        let event = link.next_event().await;
        assert!(matches!(event, LinkEvent::Committed(id, Ok(_)) if id == OperationId(number)));
    }
}

#[tokio::test]
async fn new_read_ends_the_watch_and_drops_the_events_of_the_one_before() {
    let mut link = link();
    for revision in 1..4 {
        assert_eq!(link.execute(Output::Read), None);
        // Its events wait in the channel.
        settle().await;
        assert_eq!(link.engine().reads.load(Ordering::Relaxed), revision);
        assert_eq!(link.engine().watches.load(Ordering::Relaxed), 1);
    }
    assert_eq!(link.next_event().await, LinkEvent::ReadContinues);
    assert_eq!(link.next_event().await, LinkEvent::Read(Ok((at(3), Vec::new()))));
    assert_eq!(link.next_event().await, LinkEvent::Changed(at(103), Vec::new()));
}

#[tokio::test]
async fn beats_are_sent_one_after_the_other() {
    let mut link = link();
    for _ in 0..3 {
        assert_eq!(link.execute(Output::Beat { put: None }), None);
    }
    for sent in 1..4 {
        settle().await;
        assert_eq!(link.engine().beats.load(Ordering::Relaxed), sent);
        link.engine().ends.add_permits(1);
        let event = link.next_event().await;
        assert!(matches!(event, LinkEvent::BeatFinished { result: Ok((_, true)), .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn leaving_does_not_wait_for_a_store_that_does_not_answer() {
    // Virtual time: without a limit this would never end.
    link().leave().await;
}
