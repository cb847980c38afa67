//! When nothing may be taken from etcd, or it cannot be used.

use super::*;

#[test]
fn etcd_is_unreachable_after_one_failover_without_an_answered_beat() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.cut = true;
    a.pass(FAILOVER.saturating_sub(seconds(1)), &mut etcd);
    assert_eq!(a.replica.unreachable(), None);
    a.pass(seconds(1), &mut etcd);
    assert_eq!(a.replica.unreachable(), Some("timeout"));
    a.pass(seconds(100), &mut etcd);
    assert_eq!(a.notices(), [ClusterNotice::Unreachable("timeout".into())]);
    a.cut = false;
    a.pass(seconds(3), &mut etcd);
    assert_eq!(a.replica.unreachable(), None);
    assert!(a.reports.contains(&Output::Released(None)));
    assert_eq!(a.notices(), [ClusterNotice::Recovered]);
}

#[test]
fn etcd_is_unreachable_even_if_requests_hang_and_the_machine_is_busy() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut wakes = 0;
    while a.replica.unreachable().is_none() && wakes < 3 {
        a.replica.outputs.clear(); // The beat has no end.
        a.now = a.replica.next_wake().expect("watches the silence") + Duration::from_millis(50);
        a.replica.wake(a.now);
        wakes += 1;
    }
    assert_eq!(a.replica.unreachable(), Some("no response"));
}

#[test]
fn etcd_that_is_away_at_the_start_is_reported_after_one_failover() {
    let mut etcd = Etcd::new();
    let mut a = Peer::new("a");
    a.cut = true;
    a.pass(FAILOVER, &mut etcd);
    assert_eq!(a.notices(), [ClusterNotice::Unreachable("timeout".into())]);
    a.cut = false;
    a.pass(seconds(2), &mut etcd);
    let notices = a.notices();
    assert_eq!(notices, [ClusterNotice::Recovered, ClusterNotice::Joined { members: 1 }]);
}

#[test]
fn a_process_that_was_stopped_for_hours_does_not_report_etcd() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.settle(&mut etcd);
    a.reports.clear();
    a.stop(seconds(7_200));
    etcd.set(&Key::Member("a".into()), None);
    a.watching = false;
    a.replica.wake(a.now);
    a.pass(seconds(1), &mut etcd);
    a.watching = true;
    a.pass(seconds(5), &mut etcd);
    assert_eq!(a.notices(), []);
    assert!(a.replica.is_joined());
    b.settle(&mut etcd);
    assert_eq!(b.replica.members(), ["a".into(), "b".into()]);
}

#[test]
fn another_key_or_format_suspends_until_it_is_mended() {
    let mut etcd = Etcd::new();
    for meta in [
        Record::Meta(Meta { format: FORMAT, key: KeyId(1) }),
        Record::Meta(Meta { format: FORMAT + 1, key: KEY }),
        Record::Unreadable("no JSON".into()),
    ] {
        etcd.set(&Key::Meta, Some(meta));
        etcd.set(&Key::Value(key("t")), Some(Record::Value(b"V"[..].into())));
        let revision = etcd.at.revision;
        let mut a = Peer::new("a");
        a.pass(seconds(30), &mut etcd);
        assert_eq!(etcd.at.revision, revision, "something was written");
        assert!(!a.replica.has_view());
        assert!(matches!(a.notices()[..], [ClusterNotice::Unreachable(_)]));
        a.request(1, "t", &mut etcd);
        assert!(a.spendings()[0].starts_with("held 1: "));
        let good = Record::Meta(Meta { format: FORMAT, key: KEY });
        etcd.set(&Key::Meta, Some(good));
        a.pass(seconds(3), &mut etcd);
        assert!(a.replica.is_joined());
        let notices = a.notices();
        assert_eq!(notices, [ClusterNotice::Recovered, ClusterNotice::Joined { members: 1 }]);
        etcd.set(&Key::Member("a".into()), None);
    }
}

#[test]
fn a_reload_with_the_right_key_ends_a_suspension() {
    let mut etcd = Etcd::new();
    Peer::joined("x", &mut etcd);
    let mut a = Peer::with(ReplicaSettings { keys: vec![KeyId(1)], ..settings("a") });
    a.settle(&mut etcd);
    assert!(a.replica.unreachable().is_some());
    a.pass(seconds(1), &mut etcd);
    a.replica.set_keys(vec![KeyId(1), KEY], a.now);
    a.settle(&mut etcd);
    assert!(a.replica.is_joined());
}

#[test]
fn a_reload_with_other_keys_writes_the_record_again() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.replica.set_keys(vec![KEY, KeyId(8)], a.now);
    a.settle(&mut etcd);
    let (_, member) = a.replica.member_records().next().expect("joined");
    assert_eq!(member.keys, [KEY, KeyId(8)]);
    a.replica.set_keys(vec![KeyId(8)], a.now);
    assert!(a.replica.unreachable().is_some(), "it cannot open the values");
}

#[test]
fn missing_rights_suspend_and_are_reported_once() {
    let mut etcd = Etcd::new();
    let mut a = Peer::new("a");
    for _ in 0..5 {
        let outputs = std::mem::take(&mut a.replica.outputs);
        assert!(outputs.contains(&Output::Read), "{outputs:?}");
        a.reports.extend(outputs);
        a.replica.read_finished(Err(StoreError::Refused("permission denied".into())), a.now);
        a.reports.append(&mut a.replica.outputs);
        a.now = a.replica.next_wake().expect("reads again");
        a.replica.wake(a.now);
    }
    assert_eq!(a.notices(), [ClusterNotice::Unreachable("permission denied".into())]);
    a.pass(seconds(3), &mut etcd);
    assert!(a.replica.is_joined());
}

/// A replica `b` with a claim for `t`, and a replica `a` that was suspended and has just read this.
fn read_after_a_suspension(etcd: &mut Etcd) -> (Peer, Peer) {
    let mut b = Peer::joined("b", etcd);
    let mut a = Peer::new("a");
    a.replica.outputs.clear();
    a.replica.read_finished(Err(StoreError::Refused("permission denied".into())), a.now);
    a.now = a.replica.next_wake().expect("reads again");
    a.replica.wake(a.now);
    b.request(1, "t", etcd);
    let outputs = std::mem::take(&mut a.replica.outputs);
    assert!(outputs.contains(&Output::Read), "{outputs:?}");
    a.watched = etcd.log.len();
    a.replica.read_finished(Ok((etcd.at, etcd.all())), a.now);
    assert!(a.replica.claim_of(key("t").hash()).is_some() && !a.replica.is_joined());
    b.spent(1, Some("V"), etcd);
    (a, b)
}

#[test]
fn change_between_the_read_after_a_suspension_and_the_first_beat_is_taken() {
    let mut etcd = Etcd::new();
    let (mut a, _) = read_after_a_suspension(&mut etcd);
    let news = etcd.log[a.watched..].to_vec();
    a.watched = etcd.log.len();
    a.replica.changed(etcd.at, news, 0, a.now);
    a.settle(&mut etcd);
    assert!(a.replica.is_joined());
    assert!(a.replica.claim_of(key("t").hash()).is_none());
    assert_eq!(a.values(), ["new s/t: V"]);
}

#[test]
fn watch_that_ends_between_the_read_after_a_suspension_and_the_first_beat_is_begun_again() {
    let mut etcd = Etcd::new();
    let (mut a, _) = read_after_a_suspension(&mut etcd);
    a.replica.watch_ended("lost", a.now);
    a.watching = false;
    a.pass(seconds(2), &mut etcd);
    assert!(a.replica.is_joined());
    assert_eq!(a.values(), ["new s/t: V"]);
}

#[test]
fn nothing_is_taken_from_an_etcd_that_was_restored_until_it_is_accepted() {
    let mut etcd = Etcd::new();
    let seen = Some(StoreRevision { cluster: 1, revision: 500 });
    let mut a = Peer::with(ReplicaSettings { seen, ..settings("a") });
    etcd.set(&Key::Value(key("t")), Some(Record::Value(b"old"[..].into())));
    a.pass(seconds(100), &mut etcd);
    etcd.at.revision = 1_000;
    a.pass(seconds(100), &mut etcd);
    let restored = "etcd has an older state than before; if it was restored from a backup, run \
                    `tokenkeep reload` on each replica";
    assert_eq!(a.notices(), [ClusterNotice::Unreachable(restored.into())]);
    assert_eq!(etcd.log.len(), 1, "something was written");
    a.replica.accept_store(a.now);
    a.settle(&mut etcd);
    assert!(a.replica.is_joined());
    assert_eq!(a.values(), ["new s/t: old"]);
}

#[test]
fn a_restored_etcd_is_noticed_by_the_first_transaction() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.watching = false;
    a.request(1, "t", &mut etcd);
    a.spent(1, Some("V1"), &mut etcd);
    a.request(2, "u", &mut etcd);
    let at = StoreRevision { revision: 3, ..etcd.at };
    let backup = Etcd { at, keys: BTreeMap::new(), log: Vec::new() };
    etcd = backup;
    a.spendings();
    a.request(3, "t", &mut etcd);
    assert!(a.spendings()[0].starts_with("held 3: etcd has an older state"));
    assert!(!a.replica.may_begin(SpendId(2), a.now));
}

#[test]
fn a_restored_etcd_is_noticed_by_a_repeated_transaction() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.cut = true;
    a.request(1, "t", &mut etcd);
    etcd.at.revision = 100;
    a.replica.changed(etcd.at, Vec::new(), 0, a.now);
    etcd.at.revision = 50;
    a.cut = false;
    a.pass(seconds(1), &mut etcd);
    let spendings = a.spendings();
    assert!(spendings[0].starts_with("held 1: etcd has an older state"), "{spendings:?}");
}

#[test]
fn nothing_is_taken_from_another_etcd() {
    let mut etcd = Etcd::new();
    let seen = Some(StoreRevision { cluster: 2, revision: 1 });
    let mut a = Peer::with(ReplicaSettings { seen, ..settings("a") });
    a.pass(seconds(10), &mut etcd);
    assert_eq!(etcd.log.len(), 0, "something was written");
    let notice = ClusterNotice::Unreachable(
        "this is another etcd cluster than before; if it is the right one, run `tokenkeep reload` on \
         each replica"
            .into(),
    );
    assert_eq!(a.notices(), [notice]);
}

#[test]
fn the_newest_revision_is_reported_to_be_persisted() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    for _ in 0..100 {
        etcd.set(&Key::Value(key("t")), Some(Record::Value(b"V"[..].into())));
        a.pass(Duration::from_millis(100), &mut etcd);
    }
    a.pass(seconds(1), &mut etcd);
    let seen = a.reports.iter().filter_map(|report| match report {
        Output::Seen(seen) => Some(*seen),
        _ => None,
    });
    assert_eq!(seen.clone().next_back(), Some(etcd.at));
    assert!((9..=12).contains(&seen.count()));
}

/// Reads or beats fail for this reason, for a time.
fn fail(a: &mut Peer, error: &StoreError, time: Duration) {
    let end = a.now + time;
    while a.now < end {
        for output in std::mem::take(&mut a.replica.outputs) {
            match output {
                Output::Read => a.replica.read_finished(Err(error.clone()), a.now),
                Output::Beat { .. } => {
                    a.replica.beat_finished(a.now, Err(error.clone()), a.now);
                }
                report => a.reports.push(report),
            }
        }
        a.now = a.replica.next_wake().unwrap_or(end).clamp(a.now, end);
        a.replica.wake(a.now);
    }
    a.reports.extend(a.replica.outputs.extract_if(.., |it| matches!(it, Output::Notice(_))));
}

fn silence(text: &str) -> StoreError {
    StoreError::Unanswered(Reason::silence(text))
}

fn unanswered(text: &str) -> StoreError {
    StoreError::Unanswered(text.into())
}

fn unreachable(reasons: &[&str]) -> Vec<ClusterNotice> {
    reasons.iter().map(|reason| ClusterNotice::Unreachable((*reason).into())).collect()
}

#[test]
fn another_reason_is_reported_once_when_it_has_lasted_for_one_failover() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    fail(&mut a, &unanswered("connection refused"), FAILOVER * 3);
    let expired = unanswered("expired at 12:00:00");
    fail(&mut a, &expired, FAILOVER.saturating_sub(seconds(2)));
    assert_eq!(a.notices(), unreachable(&["connection refused"]));
    assert_eq!(a.replica.unreachable(), Some("expired at 12:00:00"));
    fail(&mut a, &expired, FAILOVER);
    assert_eq!(a.notices(), unreachable(&["expired at 12:00:00"]));
    // The time of the attempt is no other reason.
    fail(&mut a, &unanswered("expired at 12:00:30"), FAILOVER * 10);
    assert_eq!(a.notices(), []);
    a.settle(&mut etcd);
    a.pass(seconds(5), &mut etcd);
    assert_eq!(a.notices(), [ClusterNotice::Recovered]);
    // Another outage is reported from its beginning.
    fail(&mut a, &unanswered("expired at 13:00:00"), FAILOVER + seconds(2));
    assert_eq!(a.notices(), unreachable(&["expired at 13:00:00"]));
}

#[test]
fn refusal_after_another_reason_is_reported_at_once() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    fail(&mut a, &unanswered("connection refused"), FAILOVER * 2);
    fail(&mut a, &StoreError::Refused("password denied".into()), seconds(2));
    assert_eq!(a.notices(), unreachable(&["connection refused", "password denied"]));
    // The certificate expires while the replica is suspended.
    fail(&mut a, &unanswered("expired"), FAILOVER * 3);
    assert_eq!(a.notices(), unreachable(&["expired"]));
    assert_eq!(a.replica.unreachable(), Some("expired"));
}

#[test]
fn silence_with_changing_texts_is_reported_once() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    for text in ["no response", "no leader", "request timed out"] {
        fail(&mut a, &silence(text), FAILOVER * 3);
    }
    assert_eq!(a.notices(), unreachable(&["no response"]));
}

#[test]
fn reasons_that_alternate_are_reported_ever_less() {
    for (pause, at_most) in [(seconds(1), 2), (FAILOVER * 4, 8)] {
        let mut etcd = Etcd::new();
        let mut a = Peer::joined("a", &mut etcd);
        for _ in 0..200 {
            fail(&mut a, &StoreError::Refused("password denied".into()), pause);
            fail(&mut a, &unanswered("connection refused"), pause);
        }
        let notices = a.notices().len();
        assert!((1..=at_most).contains(&notices), "{notices} lines with a change each {pause:?}");
    }
}
