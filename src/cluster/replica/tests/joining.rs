//! Joining, leaving, and when etcd can be used.

use super::*;

#[test]
fn the_first_replica_creates_meta_before_anything_else() {
    let mut etcd = Etcd::new();
    let mut a = Peer::new("a");
    a.settle(&mut etcd);
    assert_eq!(etcd.log[0].key, Key::Meta);
    assert_eq!(a.replica.seal_key(), Some(KEY));
    assert_eq!(a.notices(), [ClusterNotice::Joined { members: 1 }]);
}

#[test]
fn two_replicas_that_create_meta_at_once_agree_on_one() {
    let mut etcd = Etcd::new();
    let mut a = Peer::new("a");
    let mut b = Peer::with(ReplicaSettings { keys: vec![KeyId(8), KEY], ..settings("b") });
    b.slow = true;
    b.settle(&mut etcd);
    a.settle(&mut etcd);
    b.slow = false;
    let (id, transaction) = b.unsent.remove(0);
    b.commit(id, &transaction, &mut etcd);
    b.settle(&mut etcd);
    assert_eq!(b.replica.seal_key(), Some(KEY));
    assert!(b.replica.is_joined());
}

#[test]
fn a_lost_response_to_the_creation_of_meta_is_read_again() {
    let mut etcd = Etcd::new();
    let mut a = Peer::new("a");
    a.slow = true;
    a.settle(&mut etcd);
    let (id, transaction) = a.unsent.remove(0);
    etcd.commit(&transaction);
    a.slow = false;
    a.replica.committed(id, Err(StoreError::Unanswered("timeout".into())), a.now);
    a.pass(seconds(1), &mut etcd);
    assert!(a.replica.is_joined());
}

#[test]
fn a_lost_response_to_the_first_beat_is_repeated() {
    let mut etcd = Etcd::new();
    Peer::joined("x", &mut etcd);
    let mut a = Peer::new("a");
    a.watching = false;
    let read = a.replica.outputs.remove(0);
    assert_eq!(read, Output::Read);
    a.replica.read_finished(Ok((etcd.at, etcd.all())), a.now);
    a.deaf = true;
    a.settle(&mut etcd);
    a.deaf = false;
    a.pass(seconds(4), &mut etcd);
    assert!(a.replica.is_joined());
}

#[test]
fn replicas_report_who_joins_and_who_leaves() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.settle(&mut etcd);
    assert_eq!(a.notices(), [ClusterNotice::ReplicaJoined("b".into())]);
    assert_eq!(a.replica.members(), ["a".into(), "b".into()]);
    b.replica.leave(b.now);
    b.settle(&mut etcd);
    assert!(b.reports.contains(&Output::Left));
    a.settle(&mut etcd);
    assert_eq!(a.notices(), [ClusterNotice::ReplicaLeft("b".into())]);
}

#[test]
fn a_replica_beats_three_times_in_each_failover_and_writes_nothing() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let revision = etcd.at.revision;
    let mut beats = 0;
    for _ in 0..900 {
        a.now = a.now + Duration::from_millis(100);
        if a.replica.next_wake().is_some_and(|wake| wake <= a.now) {
            a.replica.wake(a.now);
        }
        beats += a.replica.outputs.iter().filter(|o| matches!(o, Output::Beat { .. })).count();
        a.settle(&mut etcd);
    }
    assert_eq!(beats, 30);
    assert_eq!(etcd.at.revision, revision);
}

#[test]
fn an_own_record_that_was_deleted_is_written_at_once() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let name = Key::Member("a".into());
    etcd.set(&name, None);
    a.replica.changed(etcd.at, etcd.log[a.watched..].to_vec(), 0, a.now);
    assert!(a.replica.is_joined(), "spending needs no lease");
    a.settle(&mut etcd);
    assert!(etcd.keys.contains_key(&name));
    assert!(a.replica.is_joined());
    assert_eq!(a.notices(), []);
}

#[test]
fn an_own_record_that_was_deleted_before_its_beat_was_answered_is_written_at_once() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let name = Key::Member("a".into());
    etcd.set(&name, None);
    a.replica.changed(etcd.at, etcd.log[a.watched..].to_vec(), 0, a.now);
    a.watched = etcd.log.len();
    let [Output::Beat { put }] = &a.replica.outputs[..] else { panic!("{:?}", a.replica.outputs) };
    etcd.beat(&"a".into(), put.clone());
    a.replica.outputs.clear();
    let at = etcd.at;
    etcd.set(&name, None);
    a.replica.changed(etcd.at, etcd.log[a.watched..].to_vec(), 0, a.now);
    a.watched = etcd.log.len();
    a.replica.beat_finished(a.now, Ok((at, true)), a.now);
    a.settle(&mut etcd);
    assert!(etcd.keys.contains_key(&name));
}

#[test]
fn a_lease_that_ended_without_a_word_is_replaced_with_the_next_beat() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.watching = false;
    etcd.set(&Key::Member("a".into()), None);
    a.pass(seconds(6), &mut etcd);
    assert!(etcd.keys.contains_key(&Key::Member("a".into())));
}

#[test]
fn a_replica_whose_name_is_taken_waits_and_joins_once_the_other_is_gone() {
    let mut etcd = Etcd::new();
    Peer::joined("a", &mut etcd);
    let mut again = Peer::with(ReplicaSettings { incarnation: 5, ..settings("a") });
    again.settle(&mut etcd);
    again.request(1, "t", &mut etcd);
    assert!(again.spendings().contains(&"held 1: not joined".to_owned()));
    again.pass(FAILOVER, &mut etcd);
    assert!(!again.replica.is_joined());
    assert!(again.replica.unreachable().is_none());
    etcd.set(&Key::Member("a".into()), None);
    again.settle(&mut etcd);
    assert!(again.replica.is_joined());
    assert_eq!(again.notices(), [ClusterNotice::Joined { members: 1 }]);
}

#[test]
fn a_replica_ends_if_the_other_one_with_its_name_still_beats() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut second = Peer::with(ReplicaSettings { incarnation: 5, ..settings("a") });
    second.pass(FAILOVER + seconds(2), &mut etcd);
    assert!(!second.reports.contains(&Output::NameTaken));
    second.pass(seconds(2), &mut etcd);
    assert!(second.reports.contains(&Output::NameTaken));
    a.pass(seconds(20), &mut etcd);
    assert!(a.replica.is_joined());
}

#[test]
fn of_two_replicas_with_one_name_that_join_at_once_one_waits() {
    let mut etcd = Etcd::new();
    Peer::joined("x", &mut etcd);
    let mut a = Peer::new("a");
    let mut second = Peer::with(ReplicaSettings { incarnation: 5, ..settings("a") });
    let read = (etcd.at, etcd.all());
    second.replica.outputs.clear();
    second.replica.read_finished(Ok(read), second.now);
    a.settle(&mut etcd);
    second.watched = 0;
    second.pass(seconds(5), &mut etcd);
    assert!(a.replica.is_joined());
    assert!(!second.replica.is_joined());
}

#[test]
fn a_watch_that_ends_at_once_is_begun_again_once_a_second() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut reads = 0;
    for _ in 0..100 {
        a.replica.watch_ended("closed", a.now);
        reads += a.replica.outputs.iter().filter(|o| matches!(o, Output::Read)).count();
        a.settle(&mut etcd);
        a.now = a.now + Duration::from_millis(100);
    }
    assert!((9..=11).contains(&reads), "{reads} reads in 10 s");
}

#[test]
fn leaving_waits_for_the_spending_under_way_and_begins_no_other() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    a.replica.leave(a.now);
    a.settle(&mut etcd);
    a.request(2, "u", &mut etcd);
    assert!(!a.reports.contains(&Output::Left));
    assert_eq!(a.spendings(), ["granted 1", "held 2: not joined"]);
    a.spent(1, Some("V1"), &mut etcd);
    a.pass(seconds(1), &mut etcd);
    assert!(a.reports.contains(&Output::Left));
    assert!(etcd.value("t").is_some());
    assert_eq!(etcd.claim("t"), None);
    assert!(!etcd.keys.contains_key(&Key::Member("a".into())));
    let revision = etcd.at.revision;
    a.pass(seconds(60), &mut etcd);
    assert_eq!(etcd.at.revision, revision, "something was written");
}

#[test]
fn leaving_ends_once_even_if_etcd_is_refused_meanwhile() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    a.replica.leave(a.now);
    a.settle(&mut etcd);
    let meta = Meta { format: FORMAT, key: KeyId(99) };
    etcd.set(&Key::Meta, Some(Record::Meta(meta)));
    a.settle(&mut etcd);
    let (id, transaction) = a.unsent.remove(0);
    a.commit(id, &transaction, &mut etcd);
    a.settle(&mut etcd);
    assert_eq!(a.reports.iter().filter(|report| **report == Output::Left).count(), 1);
}

#[test]
fn leaving_without_etcd_ends_at_once() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.cut = true;
    a.pass(FAILOVER, &mut etcd);
    a.replica.leave(a.now);
    assert!(a.replica.outputs.contains(&Output::Left));
}

#[test]
fn a_wall_clock_that_differs_is_reported_once() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    for wall_ms in [11_000, 11_000, 9_000, -12_000] {
        let member = Member {
            incarnation: 1,
            format: FORMAT,
            keys: vec![KEY],
            digests: Box::new([0; SLOTS]),
            unreachable: Vec::new(),
            wall_ms,
        };
        etcd.set(&Key::Member("b".into()), Some(Record::Member(Arc::new(member))));
        a.settle(&mut etcd);
    }
    let differs = |notice: &ClusterNotice| matches!(notice, ClusterNotice::ClockDiffers(..));
    let notices: Vec<_> = a.notices().into_iter().filter(differs).collect();
    let expected = [11_000, -12_000].map(|ms| ClusterNotice::ClockDiffers("b".into(), ms));
    assert_eq!(notices, expected);
}

#[test]
fn a_long_read_that_makes_progress_is_not_silence_and_one_that_hangs_is() {
    let etcd = Etcd::new();
    let mut a = Peer::new("a");
    assert_eq!(a.replica.outputs, [Output::Read]);
    for _ in 0..10 {
        a.now = a.now + FAILOVER.saturating_sub(seconds(1));
        a.replica.wake(a.now);
        a.replica.read_continues(a.now);
    }
    assert_eq!(a.replica.unreachable(), None);
    a.replica.wake(a.now + FAILOVER);
    assert_eq!(a.replica.unreachable(), Some("no response"));
    // The read continues, and its result is used.
    a.replica.read_finished(Ok((etcd.at, etcd.all())), a.now + FAILOVER);
    assert!(a.replica.has_view());
}
