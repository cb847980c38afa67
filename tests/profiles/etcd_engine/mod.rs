//! The engine on a real etcd: each assumption that the simulation of replicas makes.

pub(crate) mod node;

use std::sync::Arc;

use rustix::process::Signal;
use serde_json::json;
use tokenkeep::clock::{self, Stopwatch};
use tokenkeep::cluster::etcd::{Access, Etcd};
use tokenkeep::cluster::link::{Changes, Engine as _, Link, LinkEvent};
use tokenkeep::cluster::replica::{
    Claim, Count, Entry, Key, KeyId, Member, Meta, OperationId, Output, Record, SLOTS, StoreError,
    StoreRevision, TokenKey, Transaction,
};
use tokenkeep::time::Moment;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::node::{Nodes, Proxy, engine};
use crate::support::tls::Authority;
use crate::support::{PATIENCE, millis, seconds};

fn token(number: usize) -> TokenKey {
    TokenKey::new("sarus", &format!("t{number:05}"))
}

fn claim(nonce: u64) -> Record {
    Record::Claim(Claim {
        replica: "keeper-a".into(),
        incarnation: 1,
        nonce,
        limit: seconds(40),
        taken: (1, Moment::from_millis(2)),
    })
}

fn value(text: &str) -> Record {
    Record::Value(text.as_bytes().into())
}

fn member() -> Arc<Member> {
    let digests = Box::new([7; SLOTS]);
    Arc::new(Member {
        incarnation: 1,
        format: 1,
        keys: vec![KeyId(1)],
        digests,
        unreachable: Vec::new(),
        wall_ms: 5,
    })
}

/// Writes one value, whatever is there.
fn put(number: usize, text: &str) -> Transaction {
    Transaction { puts: vec![(Key::Value(token(number)), value(text))], ..Transaction::default() }
}

/// Takes a claim, and counts it.
fn take(nonce: u64) -> Transaction {
    let (claimed, counted) = (Key::Claim(token(1)), Key::Count(token(1)));
    let count = Count { window_end_ms: 1, counted: 1, in_a_row: 1 };
    Transaction {
        expected: vec![(claimed.clone(), 0), (Key::Value(token(1)), 0)],
        puts: vec![(claimed.clone(), claim(nonce)), (counted.clone(), Record::Count(count))],
        deletes: Vec::new(),
        reads: vec![claimed, Key::Value(token(1)), counted],
        leased: false,
    }
}

async fn write(engine: &Etcd, transaction: Transaction) -> StoreRevision {
    let result = engine.commit(transaction).await.expect("an answer");
    assert!(result.succeeded);
    result.at
}

/// A watch in the background.
fn watch(
    engine: &Arc<Etcd>,
    after: StoreRevision,
) -> (mpsc::Receiver<Changes>, JoinHandle<Arc<str>>) {
    let (sender, receiver) = mpsc::channel(1);
    let engine = Arc::clone(engine);
    (receiver, tokio::spawn(async move { engine.watch(after, sender).await }))
}

async fn next(changes: &mut mpsc::Receiver<Changes>) -> Vec<Entry> {
    let next = timeout(PATIENCE, changes.recv()).await;
    next.expect("a change in time").expect("the watch lives").1
}

fn refused<T>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why.to_string(),
        Err(StoreError::Unanswered(why)) => panic!("unanswered: {why}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn failed_compare_writes_nothing_and_returns_what_is_there() {
    let nodes = Nodes::start(1).await;
    let engine = nodes.engine("keeper-a");
    let first = engine.commit(take(7)).await.expect("an answer");
    assert!(first.succeeded && first.read.is_empty());
    let second = engine.commit(take(8)).await.expect("an answer");
    assert!(!second.succeeded);
    assert_eq!(second.at, first.at, "nothing was written");
    let revision = first.at.revision;
    let count = Count { window_end_ms: 1, counted: 1, in_a_row: 1 };
    assert_eq!(
        second.read,
        [
            Entry { key: Key::Claim(token(1)), record: Some(claim(7)), revision },
            Entry { key: Key::Value(token(1)), record: None, revision: 0 },
            Entry { key: Key::Count(token(1)), record: Some(Record::Count(count)), revision },
        ]
    );
    // Storing the value and releasing the claim is one change.
    let store = Transaction {
        expected: vec![(Key::Claim(token(1)), revision), (Key::Value(token(1)), 0)],
        puts: vec![(Key::Value(token(1)), value("new"))],
        deletes: vec![Key::Claim(token(1))],
        ..Transaction::default()
    };
    let (mut changes, _watch) = watch(&engine, first.at);
    let stored = write(&engine, store).await.revision;
    assert_eq!(stored, revision + 1);
    let mut changed = next(&mut changes).await;
    changed.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(
        changed,
        [
            Entry { key: Key::Value(token(1)), record: Some(value("new")), revision: stored },
            Entry { key: Key::Claim(token(1)), record: None, revision: stored },
        ]
    );
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn one_of_many_takes_succeeds() {
    let nodes = Nodes::start(3).await;
    let engines = [nodes.engine("a"), nodes.engine("b"), nodes.engine("c")];
    let takes = (0..96_u64).map(|nonce| {
        let engine = Arc::clone(&engines[usize::try_from(nonce % 3).expect("small")]);
        tokio::spawn(async move { engine.commit(take(nonce)).await.expect("an answer") })
    });
    let mut won = 0;
    for take in takes.collect::<Vec<_>>() {
        won += usize::from(take.await.expect("it ends").succeeded);
    }
    assert_eq!(won, 1);
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn all_pages_are_read_at_one_revision() {
    const KEYS: usize = 24_000; // enough for several ranges
    let nodes = Nodes::start(1).await;
    let engine = nodes.engine("keeper-a");
    let (at, entries) = engine.read().await.expect("an answer");
    assert!(at.cluster != 0 && entries.is_empty());
    for chunk in 0..KEYS / 100 {
        let puts = (chunk * 100..chunk * 100 + 100)
            .map(|number| (Key::Value(token(number)), value(&"v".repeat(500))));
        write(&engine, Transaction { puts: puts.collect(), ..Transaction::default() }).await;
    }
    // What is written while the pages are read is in none of them.
    let busy = Arc::clone(&engine);
    let writer = tokio::spawn(async move {
        for number in 0.. {
            write(&busy, put(number % KEYS, "later")).await;
        }
    });
    for _ in 0..5 {
        let (at, entries) = engine.read().await.expect("an answer");
        assert_eq!(entries.len(), KEYS);
        let newest = entries.iter().map(|entry| entry.revision).max();
        assert_eq!(newest, Some(at.revision));
    }
    writer.abort();
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn end_of_a_lease_deletes_the_key_and_the_watch_says_so() {
    let nodes = Nodes::start(1).await;
    let (engine, other) = (nodes.engine("keeper-a"), nodes.engine("keeper-b"));
    let (at, owns) = engine.beat(None).await.expect("an answer");
    assert!(!owns, "there is no lease yet");
    let (mut changes, _watch) = watch(&other, at);
    let (_, owns) = engine.beat(Some((member(), 0))).await.expect("an answer");
    assert!(owns);
    let joined = next(&mut changes).await.remove(0);
    assert_eq!(joined.key, Key::Member("keeper-a".into()));
    assert_eq!(joined.record, Some(Record::Member(member())));
    // Beats keep it for longer than the lease.
    let started = Stopwatch::start();
    while started.elapsed() < seconds(5) {
        assert!(engine.beat(None).await.expect("an answer").1);
        tokio::time::sleep(millis(500)).await;
    }
    let silent = Stopwatch::start();
    let left = next(&mut changes).await.remove(0);
    assert_eq!((left.key, left.record), (Key::Member("keeper-a".into()), None));
    assert!(left.revision > joined.revision);
    let silent = silent.elapsed();
    assert!(seconds(2) < silent && silent < seconds(10), "{silent:?}");
    assert!(!engine.beat(None).await.expect("an answer").1);
    // It joins again with a new lease, and leaves at once.
    assert!(engine.beat(Some((member(), 0))).await.expect("an answer").1);
    next(&mut changes).await;
    engine.leave().await;
    assert_eq!(next(&mut changes).await[0].record, None);
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn member_is_written_again_with_an_outdated_revision_but_not_over_another_lease() {
    let nodes = Nodes::start(1).await;
    let (engine, twin) = (nodes.engine("keeper-a"), nodes.engine("keeper-a"));
    // As after a write whose response was lost.
    for expected in [0, 0, 999] {
        assert!(engine.beat(Some((member(), expected))).await.expect("an answer").1);
    }
    assert!(!twin.beat(Some((member(), 0))).await.expect("an answer").1);
    assert!(!twin.beat(None).await.expect("an answer").1);
    assert!(engine.beat(None).await.expect("an answer").1);
    engine.leave().await;
    // The key that is expected has vanished.
    assert!(twin.beat(Some((member(), 999))).await.expect("an answer").1);
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn watch_continues_without_a_gap_over_a_kill_of_etcd() {
    let mut nodes = Nodes::start(1).await;
    let engine = nodes.engine("keeper-a");
    let start = write(&engine, put(0, "0")).await;
    let (mut changes, watching) = watch(&engine, start);
    let mut expected = start.revision;
    for round in 0..3 {
        for number in 0..50 {
            write(&engine, put(number, "before")).await;
        }
        nodes.kill(0).await;
        nodes.restart(0).await;
        let mut last = 0;
        while last < start.revision + 50 * (round + 1) {
            for entry in next(&mut changes).await {
                expected += 1;
                assert_eq!(entry.revision, expected);
                last = entry.revision;
            }
        }
    }
    assert!(!watching.is_finished());
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn watch_ends_where_etcd_has_compacted_or_was_restored() {
    let mut nodes = Nodes::start(1).await;
    let engine = nodes.engine("keeper-a");
    let start = write(&engine, put(0, "0")).await;
    for number in 0..10 {
        write(&engine, put(number, "1")).await;
    }
    let now = engine.read().await.expect("an answer").0;
    nodes.post("/v3/kv/compaction", json!({ "revision": now.revision.to_string() }), None).await;
    let (_changes, watching) = watch(&engine, start);
    let why = timeout(PATIENCE, watching).await.expect("it ends").expect("no panic");
    assert!(why.contains("compacted"), "{why}");
    // A watch from the newest state is not concerned.
    let (mut changes, watching) = watch(&engine, now);
    write(&engine, put(5, "2")).await;
    assert_eq!(next(&mut changes).await.len(), 1);
    // As from a backup: the revision is lower.
    nodes.kill(0).await;
    nodes.erase(0);
    nodes.restart(0).await;
    let why = timeout(PATIENCE, watching).await.expect("it ends").expect("no panic");
    assert!(why.contains("older revision"), "{why}");
    assert!(engine.read().await.expect("an answer").0.revision < now.revision);
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn watch_that_falls_silent_is_replaced_without_a_gap() {
    let nodes = Nodes::start(1).await;
    let proxy = Proxy::to(&nodes.url(0)).await;
    let mut settings = nodes.settings("keeper-a");
    settings.etcd = vec![proxy.url.parse().expect("a URL")];
    let engine = engine(&settings);
    let at = write(&engine, put(0, "a")).await;
    let (mut changes, _watch) = watch(&engine, at);
    write(&engine, put(0, "b")).await;
    next(&mut changes).await;
    proxy.silence_watches();
    // All other requests are answered, so that only the revision shows it.
    let silent = Stopwatch::start();
    for expected in 2..5 {
        write(&engine, put(0, "c")).await;
        assert_eq!(next(&mut changes).await[0].revision, at.revision + expected);
    }
    let silent = silent.elapsed();
    assert!(seconds(2) < silent && silent < seconds(5), "{silent:?}");
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn user_needs_rights_for_the_whole_prefix() {
    let mut nodes = Nodes::start(1).await;
    nodes.create_users(node::PREFIX).await;
    let anonymous = nodes.engine("keeper-a");
    let why = refused(anonymous.read().await);
    assert!(why.contains("set `user` and `password`"), "{why}");
    let wrong = engine(&nodes.settings_of("keeper", "wr0ng"));
    for why in [refused(wrong.read().await), refused(wrong.commit(take(1)).await)] {
        assert!(why.contains("user keeper") && !why.contains("wr0ng"), "{why}");
    }
    let settings = nodes.settings_of("keeper", "S3CR3T");
    let right = engine(&settings);
    let at = write(&right, take(1)).await;
    assert!(right.beat(Some((member(), 0))).await.expect("an answer").1);
    let (mut changes, _watch) = watch(&right, at);
    assert_eq!(next(&mut changes).await[0].key, Key::Member("keeper-a".into()));
    // A restart of etcd makes the tokens for requests void.
    nodes.kill(0).await;
    nodes.restart(0).await;
    let version = right.reachable().await.remove(0).state.expect("it is reachable").0;
    assert!(version.starts_with("3."), "{version}");
    write(&right, put(3, "a")).await;
    assert_eq!(next(&mut changes).await[0].key, Key::Value(token(3)));
    // Other keys are not this user's, in none of the operations.
    let elsewhere =
        engine(&tokenkeep::settings::Cluster { prefix: "/other".to_owned(), ..settings.clone() });
    let (_changes, watching) = watch(&elsewhere, at);
    for why in [
        refused(elsewhere.read().await),
        refused(elsewhere.commit(take(1)).await),
        refused(elsewhere.beat(Some((member(), 0))).await),
        watching.await.expect("no panic").to_string(),
    ] {
        assert!(why.contains("user keeper") && why.contains("/other/"), "{why}");
    }
    // A reload with the right password.
    wrong.reconfigure(Access::open(&nodes.settings_of("keeper", "S3CR3T"), &|_| None).unwrap());
    write(&wrong, put(4, "a")).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn private_authority_must_be_configured() {
    let authority = Authority::new("etcd-authority");
    let nodes = Nodes::start_with(1, Some(&authority.issue())).await;
    let path = nodes.folder.path().join("ca.pem");
    std::fs::write(&path, authority.pem()).expect("a file");
    let mut settings = nodes.settings("keeper-a");
    let Err(StoreError::Unanswered(why)) = engine(&settings).read().await else {
        panic!("the authority is not known");
    };
    assert!(why.text().contains("`ca_file` of [cluster]"), "{why}");
    settings.ca_file = Some(path);
    let engine = engine(&settings);
    let at = write(&engine, take(1)).await;
    let (mut changes, _watch) = watch(&engine, at);
    write(&engine, put(3, "a")).await;
    assert_eq!(next(&mut changes).await.len(), 1);
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn stopped_endpoint_is_given_up_after_a_second() {
    let nodes = Nodes::start(3).await;
    let engine = nodes.engine("keeper-a");
    let at = write(&engine, put(0, "a")).await;
    let (mut changes, _watch) = watch(&engine, at);
    write(&engine, put(0, "b")).await;
    next(&mut changes).await;
    nodes.signal(0, Signal::STOP);
    // It may be executed once the node continues: it is not repeated elsewhere.
    let started = Stopwatch::start();
    let unanswered = engine.commit(put(1, "lost")).await;
    assert!(matches!(&unanswered, Err(StoreError::Unanswered(_))), "{unanswered:?}");
    assert!(millis(900) < started.elapsed() && started.elapsed() < seconds(4));
    // The next endpoint is the first one now. Its node may have to elect a leader before.
    let settled = async {
        while engine.commit(put(2, "c")).await.is_err() {}
        // The fastest of some, as the machine may be busy.
        let mut fastest = PATIENCE;
        for _ in 0..5 {
            let started = Stopwatch::start();
            write(&engine, put(2, "d")).await;
            fastest = fastest.min(started.elapsed());
        }
        fastest
    };
    let took = timeout(PATIENCE, settled).await.expect("the others have a quorum");
    assert!(took < millis(900), "{took:?}");
    // The watch was on the stopped node, and continues on another one.
    loop {
        let changed = next(&mut changes).await;
        if changed.iter().any(|entry| entry.record == Some(value("d"))) {
            break;
        }
    }
    let states = engine.reachable().await;
    assert_eq!(states.iter().filter(|state| state.state.is_ok()).count(), 2, "{states:?}");
    nodes.signal(0, Signal::CONT);
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn read_asks_the_next_endpoint_if_one_is_stopped() {
    let nodes = Nodes::start(3).await;
    let engine = nodes.engine("keeper-a");
    write(&engine, put(0, "a")).await;
    // Not the leader, so that no election adds to the time.
    let status = nodes.post("/v3/maintenance/status", json!({}), None).await;
    let is_leader = status["leader"] == status["header"]["member_id"];
    if is_leader {
        println!("profiles: etcd: the first node is the leader");
    }
    nodes.signal(0, Signal::STOP);
    let started = Stopwatch::start();
    let entries = engine.read().await.map(|(_, entries)| entries);
    let limit = if is_leader { seconds(8) } else { seconds(4) };
    assert!(started.elapsed() < limit, "{:?}", started.elapsed());
    if !is_leader {
        assert_eq!(entries.expect("an answer").len(), 1);
    }
    nodes.signal(0, Signal::CONT);
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn link_reads_watches_and_commits_in_order() {
    let nodes = Nodes::start(1).await;
    let engine = nodes.engine("keeper-a");
    write(&engine, put(0, "a")).await;
    let mut link = Link::new(Arc::clone(&engine));
    let seen = OperationId(1);
    assert_eq!(link.execute(Output::SlotsChanged), Some(Output::SlotsChanged));
    assert_eq!(link.execute(Output::Read), None);
    let entries = loop {
        match event(&mut link).await {
            Some(LinkEvent::ReadContinues) => {}
            Some(LinkEvent::Read(Ok((_, entries)))) => break entries,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(entries.len(), 1);
    let before = clock::now();
    assert_eq!(link.execute(Output::Beat { put: Some((member(), 0)) }), None);
    let meta = Record::Meta(Meta { format: 1, key: KeyId(1) });
    let puts = vec![(Key::Meta, meta)];
    let _ = link.execute(Output::Commit(seen, Transaction { puts, ..Transaction::default() }));
    let (mut changed, mut beat, mut committed) = (0, false, false);
    while changed < 2 || !beat || !committed {
        match event(&mut link).await.expect("an event") {
            LinkEvent::Changed(_, entries) => changed += entries.len(),
            LinkEvent::BeatFinished { sent, result } => {
                assert!(sent >= before && result.expect("an answer").1);
                beat = true;
            }
            LinkEvent::Committed(id, result) => {
                assert!(id == seen && result.expect("an answer").succeeded);
                committed = true;
            }
            other => panic!("{other:?}"),
        }
    }
    link.leave().await;
    let (_, entries) = engine.read().await.expect("an answer");
    assert!(entries.iter().all(|entry| !matches!(entry.key, Key::Member(_))), "it has left");
}

async fn event(link: &mut Link<Etcd>) -> Option<LinkEvent> {
    timeout(PATIENCE, link.next_event()).await.ok()
}
