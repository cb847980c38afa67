//! Spending while responses are lost, and news come late, twice or in another order.

use super::*;

#[test]
fn a_claim_whose_response_was_lost_is_found_by_its_nonce() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.watching = false;
    a.deaf = true;
    a.request(1, "t", &mut etcd);
    assert_eq!(a.spendings(), Vec::<String>::new());
    assert!(etcd.claim("t").is_some());
    a.deaf = false;
    a.pass(seconds(1), &mut etcd);
    assert_eq!(a.spendings(), ["granted 1"]);
}

#[test]
fn a_claim_whose_response_was_lost_is_found_by_the_watch() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    a.request(1, "t", &mut etcd);
    let (id, transaction) = a.unsent.remove(0);
    etcd.commit(&transaction);
    a.settle(&mut etcd);
    a.replica.committed(id, Err(StoreError::Unanswered("timeout".into())), a.now);
    a.settle(&mut etcd);
    assert_eq!(a.spendings(), ["granted 1"]);
}

#[test]
fn a_claim_that_never_reached_etcd_is_sent_again() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.cut = true;
    a.request(1, "t", &mut etcd);
    a.cut = false;
    a.pass(seconds(1), &mut etcd);
    assert_eq!(a.spendings(), ["granted 1"]);
    assert!(etcd.claim("t").is_some());
}

#[test]
fn a_store_whose_response_was_lost_is_recognized() {
    for watching in [false, true] {
        let mut etcd = Etcd::new();
        let mut a = Peer::joined("a", &mut etcd);
        a.request(1, "t", &mut etcd);
        a.watching = watching;
        a.deaf = true;
        a.spent(1, Some("V1"), &mut etcd);
        a.deaf = false;
        a.pass(seconds(1), &mut etcd);
        assert_eq!(a.values(), ["published s/t"], "watching: {watching}");
        assert_eq!(a.replica.claim_counts().lost, 0);
        assert!(a.replica.claims.is_idle(false));
    }
}

#[test]
fn a_release_whose_response_was_lost_is_repeated_in_vain() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    a.deaf = true;
    a.spent(1, None, &mut etcd);
    assert_eq!(etcd.claim("t"), None);
    a.spendings();
    a.deaf = false;
    a.pass(seconds(1), &mut etcd);
    assert_eq!(a.spendings(), ["released"]);
    assert_eq!(a.replica.claim_counts().lost, 0);
    assert!(a.replica.claims.is_idle(false));
}

#[test]
fn an_old_claim_in_the_watch_does_not_bring_back_a_released_one() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.watching = false;
    a.request(1, "t", &mut etcd);
    a.spent(1, None, &mut etcd);
    let claim = etcd.log.iter().position(|e| e.key == Key::Claim(key("t"))).expect("was put");
    let revision = etcd.at.revision;
    a.replica.changed(etcd.at, etcd.log[..=claim].to_vec(), 0, a.now);
    assert_eq!(a.replica.claim_of(key("t").hash()), None);
    a.watching = true;
    a.settle(&mut etcd);
    assert_eq!(a.replica.claim_of(key("t").hash()), None);
    assert_eq!(etcd.at.revision, revision, "something was written");
}

#[test]
fn a_claim_that_was_executed_after_it_was_given_up_is_released() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    a.request(1, "t", &mut etcd);
    let (id, late) = a.unsent.remove(0);
    a.slow = false;
    a.replica.committed(id, Err(StoreError::Unanswered("timeout".into())), a.now);
    etcd.set(&Key::Claim(key("t")), Some(Record::Claim(foreign_claim())));
    a.watching = false;
    a.pass(seconds(1), &mut etcd);
    assert_eq!(a.spendings(), ["held 1: claimed by x"]);
    a.watching = true;
    etcd.set(&Key::Claim(key("t")), None);
    assert!(etcd.commit(&late).succeeded);
    a.settle(&mut etcd);
    assert_eq!(etcd.claim("t"), None);
}

#[test]
fn a_request_is_held_before_its_time_to_begin_passes_in_doubt() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    a.request(1, "t", &mut etcd);
    a.pass(BEGIN_WITHIN + seconds(1), &mut etcd);
    assert_eq!(a.spendings().first().map(String::as_str), Some("held 1: no response"));
}

#[test]
fn a_claim_that_cannot_be_read_is_respected() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    etcd.set(&Key::Claim(key("t")), Some(Record::Unreadable("new format".into())));
    a.request(1, "t", &mut etcd);
    a.spendings();
    a.request(2, "t", &mut etcd);
    assert_eq!(a.spendings(), ["held 2: claimed by unknown"]);
}

#[test]
fn reading_everything_again_keeps_a_claim_and_since_when_it_stands() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    b.settle(&mut etcd);
    let seen = b.replica.claim_of(key("t").hash()).map(|(_, since)| since);
    b.pass(seconds(5), &mut etcd);
    b.replica.watch_ended("closed", b.now);
    b.settle(&mut etcd);
    assert_eq!(b.replica.claim_of(key("t").hash()).map(|(_, since)| since), seen);
    // Released while the watch was away.
    a.spent(1, None, &mut etcd);
    b.watching = false;
    b.spendings();
    b.replica.watch_ended("closed", b.now);
    b.pass(seconds(1), &mut etcd);
    assert_eq!(b.replica.claim_of(key("t").hash()), None);
    assert_eq!(b.spendings(), ["released"]);
}

#[test]
fn a_read_that_is_older_than_an_own_claim_does_not_remove_it() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.watching = false;
    let old = (etcd.at, etcd.all());
    a.request(1, "t", &mut etcd);
    a.replica.read_finished(Ok(old), a.now);
    assert!(a.replica.may_begin(SpendId(1), a.now));
}

#[test]
fn a_response_that_is_older_than_the_watch_does_not_bring_back_a_claim() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    b.watching = false;
    a.request(1, "t", &mut etcd);
    b.slow = true;
    b.request(2, "t", &mut etcd);
    let (id, transaction) = b.unsent.remove(0);
    let failed = etcd.commit(&transaction);
    a.spent(1, None, &mut etcd);
    b.watching = true;
    b.settle(&mut etcd);
    b.replica.committed(id, Ok(failed), b.now);
    assert_eq!(b.replica.claim_of(key("t").hash()), None);
}

#[test]
fn a_read_that_is_older_than_an_own_store_does_not_forget_the_value() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.watching = false;
    let old = (etcd.at, etcd.all());
    a.request(1, "t", &mut etcd);
    a.spent(1, Some("V1"), &mut etcd);
    a.replica.read_finished(Ok(old), a.now);
    a.spendings();
    a.request(2, "t", &mut etcd);
    assert_eq!(a.spendings(), ["granted 2"]);
}

#[test]
fn an_own_claim_that_is_gone_before_its_response_comes_is_not_granted() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    a.request(1, "t", &mut etcd);
    let (id, transaction) = a.unsent.remove(0);
    let done = etcd.commit(&transaction);
    etcd.set(&Key::Claim(key("t")), None);
    a.settle(&mut etcd);
    a.replica.committed(id, Ok(done), a.now);
    a.settle(&mut etcd);
    assert_eq!(a.spendings().last().map(String::as_str), Some("held 1: outdated"));
    assert_eq!(a.replica.claim_of(key("t").hash()), None);
}

#[test]
fn an_earlier_watch_does_not_bring_back_a_claim() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    a.spent(1, None, &mut etcd);
    b.settle(&mut etcd);
    let claim = etcd.log.iter().position(|e| e.key == Key::Claim(key("t"))).expect("was put");
    b.replica.changed(etcd.at, etcd.log[..=claim].to_vec(), 0, b.now);
    assert_eq!(b.replica.claim_of(key("t").hash()), None);
}
