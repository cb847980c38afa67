//! Who spends.

use super::*;

#[test]
fn only_one_of_two_replicas_that_request_at_once_is_granted() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    b.watching = false;
    a.request(1, "t", &mut etcd);
    b.request(2, "t", &mut etcd);
    assert_eq!(a.spendings(), ["granted 1"]);
    assert_eq!(b.spendings(), ["held 2: claimed by a"]);
}

#[test]
fn the_new_value_is_stored_and_the_claim_released_in_one_transaction() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    b.request(2, "t", &mut etcd);
    assert_eq!(b.spendings(), ["held 2: claimed by a"]);
    let revision = etcd.at.revision;
    a.spent(1, Some("V1"), &mut etcd);
    assert_eq!(etcd.at.revision, revision + 1);
    assert_eq!(etcd.claim("t"), None);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"V1"[..]));
    assert_eq!(a.values(), ["published s/t"]);
    b.settle(&mut etcd);
    let last: Vec<_> = b.reports.drain(..).filter(|r| !matches!(r, Output::Seen(_))).collect();
    assert!(matches!(last[..], [Output::NewValue { .. }, Output::Released(Some(_))]), "{last:?}");
}

#[test]
fn a_claim_counts_the_attempt_in_the_same_transaction() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    assert_eq!(etcd.keys[&Key::Count(key("t"))].0, Record::Count(count(1)));
    b.settle(&mut etcd);
    assert!(b.reports.contains(&Output::Counted(key("t"), count(1))), "{:?}", b.reports);
    assert!(!a.reports.iter().any(|report| matches!(report, Output::Counted(..))));
}

#[test]
fn an_attempt_that_does_not_count_any_more_is_taken_from_all_replicas() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    a.replica.refund(&key("t"), count(0));
    a.settle(&mut etcd);
    assert_eq!(a.replica.counted(key("t").hash()), 1, "the end of the spending writes it");
    a.spent(1, Some("V1"), &mut etcd);
    a.replica.refund(&key("t"), count(0));
    a.settle(&mut etcd);
    b.settle(&mut etcd);
    assert!(b.reports.contains(&Output::Counted(key("t"), count(0))), "{:?}", b.reports);
    assert_eq!([&a, &b].map(|peer| peer.replica.counted(key("t").hash())), [0, 0]);
}

#[test]
fn a_claim_is_not_taken_if_attempts_were_counted_meanwhile() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.watching = false;
    etcd.set(&Key::Count(key("t")), Some(Record::Count(count(4))));
    a.request(1, "t", &mut etcd);
    assert!(a.reports.contains(&Output::Counted(key("t"), count(4))));
    assert_eq!(a.spendings(), ["held 1: outdated"]);
    assert_eq!(etcd.claim("t"), None);
}

#[test]
fn a_claim_is_not_taken_if_a_newer_value_exists() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.watching = false;
    etcd.set(&Key::Value(key("t")), Some(Record::Value(b"V2"[..].into())));
    a.request(1, "t", &mut etcd);
    assert_eq!(a.values(), ["new s/t: V2"]);
    assert_eq!(etcd.claim("t"), None);
}

#[test]
fn a_claim_that_is_granted_too_late_is_given_up_and_its_attempt_not_counted() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    a.request(1, "t", &mut etcd);
    let (id, transaction) = a.unsent.remove(0);
    let result = etcd.commit(&transaction);
    a.slow = false;
    a.stop(seconds(3_600));
    a.replica.committed(id, Ok(result), a.now);
    a.settle(&mut etcd);
    assert!(!a.spendings().iter().any(|report| report.starts_with("granted")));
    assert_eq!(etcd.claim("t"), None);
    assert_eq!(etcd.keys[&Key::Count(key("t"))].0, Record::Count(count(0)));
}

#[test]
fn a_spending_may_not_begin_after_its_time() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    let sent = a.now;
    assert!(a.replica.may_begin(SpendId(1), sent + BEGIN_WITHIN));
    assert!(!a.replica.may_begin(SpendId(1), sent + BEGIN_WITHIN + Duration::from_millis(1)));
    a.spent(1, None, &mut etcd);
    assert!(!a.replica.may_begin(SpendId(1), sent));
    assert_eq!(etcd.claim("t"), None);
}

#[test]
fn a_spending_may_not_begin_once_its_claim_is_seen_to_be_gone() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    etcd.set(&Key::Claim(key("t")), None);
    a.settle(&mut etcd);
    assert!(!a.replica.may_begin(SpendId(1), a.now));
}

#[test]
fn a_claim_is_stolen_only_after_its_limit_and_30_seconds_on_the_own_clock() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    b.pass(seconds(0), &mut etcd);
    b.pass(LIMIT + seconds(29), &mut etcd);
    b.spendings();
    b.request(2, "t", &mut etcd);
    assert_eq!(b.spendings(), ["held 2: claimed by a"]);
    b.pass(seconds(1), &mut etcd);
    b.request(3, "t", &mut etcd);
    assert_eq!(b.spendings().last().map(String::as_str), Some("granted 3"));
    assert_eq!(etcd.claim("t").map(|claim| claim.replica), Some("b".into()));
    let counts = ClaimCounts { granted: 1, held: 1, stolen: 1, lost: 0 };
    assert_eq!(b.replica.claim_counts(), counts);
}

#[test]
fn a_claim_that_was_renewed_meanwhile_is_not_stolen() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    b.settle(&mut etcd);
    b.watching = false;
    a.spent(1, None, &mut etcd);
    a.request(2, "t", &mut etcd);
    b.pass(LIMIT + seconds(30), &mut etcd);
    b.spendings();
    b.request(3, "t", &mut etcd);
    assert_eq!(b.spendings(), ["held 3: claimed by a"]);
    assert_eq!(etcd.claim("t").map(|claim| claim.replica), Some("a".into()));
}

#[test]
fn a_claim_with_a_long_limit_is_stolen_later_as_clocks_differ_in_rate() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    let limit = seconds(1_000);
    a.replica.request(SpendRequest { limit, ..spend_request(1, "t") }, a.now);
    a.settle(&mut etcd);
    b.settle(&mut etcd);
    b.pass(limit + seconds(101), &mut etcd);
    b.spendings();
    b.request(2, "t", &mut etcd);
    assert_eq!(b.spendings(), ["held 2: claimed by a"]);
}

#[test]
fn a_value_whose_claim_was_stolen_replaces_nothing() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    b.settle(&mut etcd);
    b.stop(LIMIT + seconds(30));
    b.request(2, "t", &mut etcd);
    b.spent(2, Some("VB"), &mut etcd);
    a.watching = false;
    a.spent(1, Some("VA"), &mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"VB"[..]));
    assert_eq!(a.values(), ["new s/t: VB"]);
    assert_eq!(a.replica.claim_counts().lost, 1);
    assert!(a.replica.claims.is_idle(false));
}

#[test]
fn a_value_whose_claim_was_stolen_in_vain_is_published_once_the_claim_is_gone() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    b.settle(&mut etcd);
    b.stop(LIMIT + seconds(30));
    b.request(2, "t", &mut etcd);
    a.spent(1, Some("VA"), &mut etcd);
    assert_eq!(etcd.value("t"), None);
    b.spent(2, None, &mut etcd);
    a.settle(&mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"VA"[..]));
    assert_eq!(a.values(), ["published s/t"]);
}

#[test]
fn a_value_that_has_changed_during_the_spending_is_not_replaced() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    etcd.set(&Key::Value(key("t")), Some(Record::Value(b"V2"[..].into())));
    a.spent(1, Some("V1"), &mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"V2"[..]));
    assert_eq!(etcd.claim("t"), None);
    assert!(a.replica.claims.is_idle(false));
}

#[test]
fn a_second_request_for_a_token_waits_for_the_first() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    a.request(2, "t", &mut etcd);
    assert_eq!(a.spendings(), ["granted 1", "held 2: claimed by a"]);
    a.spent(1, None, &mut etcd);
    assert_eq!(a.spendings(), ["released"]);
}

#[test]
fn an_own_claim_of_an_earlier_start_is_released_after_its_limit() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    etcd.set(&Key::Member("a".into()), None);
    let sent = a.now;
    let mut again = Peer::with(ReplicaSettings { incarnation: 5, ..settings("a") });
    again.stop(seconds(10));
    again.settle(&mut etcd);
    again.request(2, "t", &mut etcd);
    assert_eq!(again.spendings().last().map(String::as_str), Some("held 2: claimed by a"));
    again.pass(LIMIT.saturating_sub(seconds(11)), &mut etcd);
    assert!(etcd.claim("t").is_some(), "released {:?} after it was sent", again.now.since(sent));
    again.pass(seconds(1), &mut etcd);
    assert_eq!(etcd.claim("t"), None);
    assert!(again.spendings().contains(&"released".to_owned()));
}

#[test]
fn an_own_claim_of_another_boot_stands_as_long_as_one_of_another_replica() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    etcd.set(&Key::Member("a".into()), None);
    let mut again = Peer::with(ReplicaSettings { incarnation: 5, boot: 5, ..settings("a") });
    again.stop(seconds(10));
    again.settle(&mut etcd);
    again.pass(LIMIT + seconds(29), &mut etcd);
    assert!(etcd.claim("t").is_some());
    again.request(2, "t", &mut etcd);
    assert_eq!(again.spendings().last().map(String::as_str), Some("held 2: claimed by a"));
    again.pass(seconds(1), &mut etcd);
    assert_eq!(etcd.claim("t"), None);
}

#[test]
fn a_replica_whose_name_is_taken_does_not_release_the_claims_of_the_other() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let limit = seconds(5);
    let request = SpendRequest { limit, begin_within: seconds(2), ..spend_request(1, "t") };
    a.replica.request(request, a.now);
    a.settle(&mut etcd);
    // Even on the same boot, where the limit is known exactly to have passed.
    let mut second = Peer::with(ReplicaSettings { incarnation: 5, ..settings("a") });
    second.pass(FAILOVER + seconds(2), &mut etcd);
    assert!(!second.replica.is_joined());
    assert!(etcd.claim("t").is_some());
    // The name is free: the claim is this replica's.
    etcd.set(&Key::Member("a".into()), None);
    second.settle(&mut etcd);
    assert!(second.replica.is_joined());
    assert_eq!(etcd.claim("t"), None);
}

#[test]
fn an_unreachable_etcd_holds_what_was_requested_and_gives_up_its_claim() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.deaf = true;
    a.watching = false;
    a.pass(FAILOVER.saturating_sub(seconds(3)), &mut etcd);
    a.request(1, "t", &mut etcd);
    a.pass(seconds(3), &mut etcd);
    assert_eq!(a.spendings(), ["held 1: timeout"]);
    a.request(2, "u", &mut etcd);
    assert_eq!(a.spendings(), ["held 2: timeout"]);
    assert_eq!(etcd.claim("u"), None);
    assert!(etcd.claim("t").is_some());
    a.deaf = false;
    a.pass(seconds(4), &mut etcd);
    assert_eq!(etcd.claim("t"), None);
    let spendings = a.spendings();
    assert!(spendings.contains(&"released all".to_owned()), "{spendings:?}");
    assert!(!spendings.iter().any(|report| report.starts_with("granted")), "{spendings:?}");
}

#[test]
fn a_refused_claim_is_held_with_the_reason() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    a.request(1, "t", &mut etcd);
    let (id, _) = a.unsent.remove(0);
    a.replica.committed(id, Err(StoreError::Refused("permission denied".into())), a.now);
    a.settle(&mut etcd);
    assert_eq!(a.spendings(), ["held 1: permission denied"]);
    assert!(a.replica.is_joined());
}

#[test]
fn claims_on_a_lease_need_only_that_no_claim_exists() {
    let mut etcd = Etcd::new();
    let mut a = Peer::with(ReplicaSettings { claim_on_lease: true, ..settings("a") });
    a.settle(&mut etcd);
    a.slow = true;
    a.request(1, "t", &mut etcd);
    let (_, transaction) = a.unsent.remove(0);
    assert!(transaction.leased);
    assert_eq!(transaction.expected, [(Key::Claim(key("t")), 0)]);
}

#[test]
fn an_attempt_that_does_not_begin_does_not_count() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    assert_eq!(etcd.entry(&Key::Count(key("t"))).record, Some(Record::Count(count(1))));
    a.replica.not_begun(SpendId(1), a.now);
    a.settle(&mut etcd);
    assert_eq!(etcd.entry(&Key::Count(key("t"))).record, Some(Record::Count(count(0))));
    assert_eq!(etcd.claim("t"), None);
}

#[test]
fn a_value_without_a_response_is_unstored_until_a_repetition_has_stored_it() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    assert!(!a.replica.has_unstored_values());
    a.cut = true;
    a.spent(1, Some("V1"), &mut etcd);
    a.replica.leave(a.now);
    assert!(a.replica.has_unstored_values());
    a.cut = false;
    a.pass(seconds(2), &mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"V1"[..]));
    assert!(!a.replica.has_unstored_values() && a.reports.contains(&Output::Left));
}

#[test]
fn a_replica_that_has_left_does_not_wake_for_claims_with_its_name() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let claim = Claim { replica: "a".into(), ..foreign_claim() };
    etcd.set(&Key::Claim(key("t")), Some(Record::Claim(claim)));
    a.settle(&mut etcd);
    a.replica.leave(a.now);
    a.pass(LIMIT * 2, &mut etcd);
    assert!(a.reports.contains(&Output::Left));
    assert_eq!(a.replica.next_wake(), None);
}

#[test]
fn claim_of_another_replica_is_overdue_after_its_limit_and_before_it_may_be_stolen() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    b.settle(&mut etcd);
    assert_eq!(a.replica.overdue(key("t").hash()), None, "it is its own");
    let overdue = b.replica.overdue(key("t").hash()).expect("a claim");
    let (_, seen) = b.replica.claim_of(key("t").hash()).expect("a claim");
    assert_eq!((&*overdue.replica, overdue.since), ("a", seen + LIMIT));
    assert!(overdue.free_at >= overdue.since + Duration::from_secs(30));
    a.spent(1, Some("V1"), &mut etcd);
    b.settle(&mut etcd);
    assert_eq!(b.replica.overdue(key("t").hash()), None, "it has ended");
}
