//! Values, pauses and steps of a key rotation.

use super::*;

fn publish(peer: &mut Peer, token: &str, value: &str, etcd: &mut Etcd) {
    let base = peer.replica.mirror.revision(&Key::Value(key(token)));
    peer.replica.publish(base, key(token), value.as_bytes().into(), peer.now);
    peer.settle(etcd);
}

#[test]
fn a_published_value_reaches_the_other_replicas_and_not_its_own() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    publish(&mut a, "t", "V1", &mut etcd);
    b.settle(&mut etcd);
    assert_eq!(a.values(), ["published s/t"]);
    assert_eq!(b.values(), ["new s/t: V1"]);
}

#[test]
fn a_value_is_not_published_over_a_newer_one() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.watching = false;
    publish(&mut b, "t", "VB", &mut etcd);
    publish(&mut a, "t", "VA", &mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"VB"[..]));
    assert_eq!(a.values(), ["new s/t: VB"]);
}

#[test]
fn a_value_that_was_verified_without_etcd_is_published_after_joining() {
    let mut etcd = Etcd::new();
    let mut a = Peer::new("a");
    a.replica.publish(0, key("t"), b"VA"[..].into(), a.now);
    a.settle(&mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"VA"[..]));
}

#[test]
fn a_value_that_was_verified_without_etcd_does_not_replace_one_in_etcd() {
    let mut etcd = Etcd::new();
    etcd.set(&Key::Value(key("t")), Some(Record::Value(b"V0"[..].into())));
    let mut a = Peer::new("a");
    a.replica.publish(0, key("t"), b"VA"[..].into(), a.now);
    a.settle(&mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"V0"[..]));
    assert_eq!(a.values(), ["new s/t: V0"]);
}

#[test]
fn a_value_waits_while_a_replica_spends_for_its_token() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    publish(&mut b, "t", "VB", &mut etcd);
    assert_eq!(etcd.value("t"), None);
    a.spent(1, None, &mut etcd);
    b.settle(&mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"VB"[..]));
}

#[test]
fn a_value_that_waited_for_a_spending_is_dropped_if_that_has_brought_a_newer_one() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    publish(&mut b, "t", "VB", &mut etcd);
    a.spent(1, Some("VA"), &mut etcd);
    b.settle(&mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"VA"[..]));
    assert_eq!(b.values(), ["new s/t: VA"]);
}

#[test]
fn a_value_is_published_once_the_claim_of_a_dead_replica_is_free() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    a.request(1, "t", &mut etcd);
    publish(&mut b, "t", "VB", &mut etcd);
    b.pass(LIMIT + seconds(29), &mut etcd);
    assert_eq!(etcd.value("t"), None);
    b.pass(seconds(1), &mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"VB"[..]));
    assert_eq!(etcd.claim("t"), None);
}

#[test]
fn a_publication_whose_response_was_lost_is_recognized() {
    for watching in [false, true] {
        let mut etcd = Etcd::new();
        let mut a = Peer::joined("a", &mut etcd);
        a.deaf = true;
        a.watching = watching;
        publish(&mut a, "t", "V1", &mut etcd);
        a.deaf = false;
        a.pass(seconds(1), &mut etcd);
        assert_eq!(a.values(), ["published s/t"], "watching: {watching}");
    }
}

#[test]
fn a_request_waits_for_a_publication_under_way() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    publish(&mut a, "t", "V1", &mut etcd);
    a.request(1, "t", &mut etcd);
    assert_eq!(a.spendings(), ["held 1: outdated"]);
    a.slow = false;
    let (id, transaction) = a.unsent.remove(0);
    a.commit(id, &transaction, &mut etcd);
    a.settle(&mut etcd);
    assert_eq!(a.spendings(), ["released"]);
}

#[test]
fn a_value_verified_while_an_older_one_is_under_way_follows_it() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    publish(&mut a, "t", "V1", &mut etcd);
    publish(&mut a, "t", "V2", &mut etcd);
    a.slow = false;
    let (id, transaction) = a.unsent.remove(0);
    a.commit(id, &transaction, &mut etcd);
    a.settle(&mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"V2"[..]));
    assert_eq!(a.values(), ["published s/t", "published s/t"]);
}

#[test]
fn a_value_waits_for_the_end_of_an_own_spending_without_being_woken() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.request(1, "t", &mut etcd);
    a.slow = true;
    a.spent(1, None, &mut etcd);
    publish(&mut a, "t", "V1", &mut etcd);
    assert!(a.replica.next_wake().is_some_and(|wake| wake > a.now));
    a.slow = false;
    let (id, transaction) = a.unsent.remove(0);
    a.commit(id, &transaction, &mut etcd);
    a.settle(&mut etcd);
    assert_eq!(a.values(), ["published s/t"]);
}

#[test]
fn thousands_of_values_are_published_32_at_once() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.slow = true;
    for token in 0..1_000 {
        publish(&mut a, &format!("t{token}"), "V", &mut etcd);
    }
    assert_eq!(a.unsent.len(), 32);
    while let Some((id, transaction)) = a.unsent.pop() {
        a.commit(id, &transaction, &mut etcd);
        a.settle(&mut etcd);
        assert!(a.unsent.len() <= 32);
    }
    assert_eq!(a.values().len(), 1_000);
}

#[test]
fn a_pause_reaches_all_replicas_and_is_answered() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    let mut b = Peer::joined("b", &mut etcd);
    let id = a.replica.set_paused(key("t"), true, a.now);
    a.settle(&mut etcd);
    b.settle(&mut etcd);
    assert!(a.reports.contains(&Output::Paused(key("t"), true)));
    assert!(a.reports.contains(&Output::Answered(id, Ok(()))));
    assert!(b.reports.contains(&Output::Paused(key("t"), true)));
    let id = b.replica.set_paused(key("t"), false, b.now);
    b.settle(&mut etcd);
    a.settle(&mut etcd);
    assert!(a.reports.contains(&Output::Paused(key("t"), false)));
    assert!(b.reports.contains(&Output::Answered(id, Ok(()))));
}

#[test]
fn a_pause_over_a_change_that_the_watch_has_not_shown_is_repeated() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.watching = false;
    etcd.set(&Key::Paused(key("t")), Some(Record::Paused));
    let paused = a.replica.set_paused(key("t"), true, a.now);
    a.settle(&mut etcd);
    assert!(a.reports.contains(&Output::Answered(paused, Ok(()))));
    etcd.set(&Key::Paused(key("t")), Some(Record::Paused));
    let resumed = a.replica.set_paused(key("t"), false, a.now);
    a.settle(&mut etcd);
    assert!(a.reports.contains(&Output::Answered(resumed, Ok(()))), "{:?}", a.reports);
    assert!(!etcd.keys.contains_key(&Key::Paused(key("t"))));
}

#[test]
fn a_pause_without_etcd_is_answered_with_an_error() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.cut = true;
    let early = a.replica.set_paused(key("t"), true, a.now);
    a.pass(FAILOVER, &mut etcd);
    assert!(a.reports.contains(&Output::Answered(early, Err("timeout".into()))));
    let late = a.replica.set_paused(key("t"), true, a.now);
    a.settle(&mut etcd);
    assert!(a.reports.contains(&Output::Answered(late, Err("timeout".into()))));
}

#[test]
fn a_value_is_sealed_again_unless_it_has_changed_or_a_replica_spends() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    publish(&mut a, "t", "V1", &mut etcd);
    let revision = etcd.keys[&Key::Value(key("t"))].1;
    let rekey = |a: &mut Peer, etcd: &mut Etcd, revision| {
        let id = a.replica.rekey_value(key("t"), revision, b"again"[..].into());
        a.settle(etcd);
        a.reports.drain(..).find_map(|report| match report {
            Output::Answered(answered, result) if answered == id => Some(result.is_ok()),
            _ => None,
        })
    };
    assert_eq!(rekey(&mut a, &mut etcd, revision - 1), Some(false));
    a.request(1, "t", &mut etcd);
    assert_eq!(rekey(&mut a, &mut etcd, revision), Some(false));
    a.spent(1, None, &mut etcd);
    assert_eq!(rekey(&mut a, &mut etcd, revision), Some(true));
    assert_eq!(etcd.value("t").as_deref(), Some(&b"again"[..]));
}

#[test]
fn a_key_rotation_ends_with_the_key_in_meta_even_if_the_response_is_lost() {
    let mut etcd = Etcd::new();
    let mut a = Peer::with(ReplicaSettings { keys: vec![KEY, KeyId(8)], ..settings("a") });
    a.settle(&mut etcd);
    a.deaf = true;
    a.watching = false;
    let id = a.replica.set_meta_key(KeyId(8));
    a.settle(&mut etcd);
    a.deaf = false;
    a.pass(seconds(1), &mut etcd);
    assert!(a.reports.contains(&Output::Answered(id, Ok(()))), "{:?}", a.reports);
    assert_eq!(a.replica.seal_key(), Some(KeyId(8)));
}

#[test]
fn a_value_is_not_published_over_one_that_the_caller_has_not_handled() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    etcd.set(&Key::Value(key("t")), Some(Record::Value(b"V0"[..].into())));
    let handled = etcd.at.revision;
    etcd.set(&Key::Value(key("t")), Some(Record::Value(b"V1"[..].into())));
    a.settle(&mut etcd);
    let dropped = Output::Dropped(key("t"));
    a.replica.publish(handled, key("t"), b"VA"[..].into(), a.now);
    a.settle(&mut etcd);
    assert!(a.reports.contains(&dropped));
    assert_eq!(etcd.value("t").as_deref(), Some(&b"V1"[..]));
    a.reports.clear();
    a.replica.publish(handled + 1, key("t"), b"VA"[..].into(), a.now);
    a.settle(&mut etcd);
    assert!(!a.reports.contains(&dropped));
    assert_eq!(etcd.value("t").as_deref(), Some(&b"VA"[..]));
}

#[test]
fn a_value_is_published_again_after_an_operator_has_deleted_it() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    publish(&mut a, "t", "V1", &mut etcd);
    let handled = etcd.at.revision;
    etcd.set(&Key::Value(key("t")), None);
    a.settle(&mut etcd);
    a.replica.publish(handled, key("t"), b"V1"[..].into(), a.now);
    a.settle(&mut etcd);
    assert_eq!(etcd.value("t").as_deref(), Some(&b"V1"[..]));
}
