//! Who asks.

use super::*;

fn token(number: u32) -> TokenHash {
    key(&number.to_string()).hash()
}

/// Tokens of the first thousand that the replica asks about.
fn asked(peer: &Peer) -> Vec<u32> {
    (0..1_000).filter(|number| peer.replica.asks(token(*number))).collect()
}

/// Lists a thousand tokens, as all replicas with the same configuration do.
fn list(peer: &mut Peer) {
    (0..1_000).for_each(|number| peer.replica.list(token(number), peer.now));
}

/// `names` as replicas with the same tokens, long after they have joined.
fn replicas(names: &[&str], etcd: &mut Etcd) -> Vec<Peer> {
    let mut peers: Vec<Peer> = names.iter().map(|name| Peer::new(name)).collect();
    for peer in &mut peers {
        list(peer);
        peer.settle(etcd);
    }
    for peer in &mut peers {
        peer.pass(FAILOVER + seconds(1), etcd);
        peer.reports.clear();
    }
    peers
}

#[test]
fn each_token_is_asked_about_by_exactly_one_replica() {
    let mut etcd = Etcd::new();
    let peers = replicas(&["a", "b", "c"], &mut etcd);
    for number in 0..1_000 {
        let askers: Vec<_> = peers.iter().filter(|peer| peer.replica.asks(token(number))).collect();
        assert_eq!(askers.len(), 1, "token {number}");
        let computed = peers[0].replica.asker(token(number));
        assert_eq!(computed, Some(&askers[0].replica.settings.name));
    }
    for peer in &peers {
        assert!((200..470).contains(&asked(peer).len()), "{}", asked(peer).len());
    }
}

#[test]
fn a_replica_without_a_view_asks_about_everything() {
    let mut etcd = Etcd::new();
    let mut a = Peer::new("a");
    assert!(!a.replica.has_view());
    assert_eq!(asked(&a).len(), 1_000);
    a.settle(&mut etcd);
    assert!(a.replica.has_view());
    assert!(a.reports.contains(&Output::SlotsChanged));
}

#[test]
fn a_new_replica_takes_its_slots_at_once_and_the_others_leave_them_late() {
    let mut etcd = Etcd::new();
    let mut peers = replicas(&["a", "b"], &mut etcd);
    let before = asked(&peers[0]);
    let mut c = Peer::new("c");
    list(&mut c);
    c.settle(&mut etcd);
    let gained = asked(&c);
    let a = &mut peers[0];
    a.settle(&mut etcd);
    assert_eq!(asked(a), before);
    a.pass(FAILOVER.saturating_sub(seconds(1)), &mut etcd);
    assert_eq!(asked(a), before);
    a.reports.clear();
    a.pass(seconds(1), &mut etcd);
    let after: Vec<u32> = before.iter().copied().filter(|n| !gained.contains(n)).collect();
    assert_eq!(asked(a), after);
    assert!(a.reports.contains(&Output::SlotsChanged));
}

#[test]
fn only_slots_of_a_lost_replica_change_hands_and_at_once() {
    let mut etcd = Etcd::new();
    let mut peers = replicas(&["a", "b", "c"], &mut etcd);
    let [a, b] = [asked(&peers[0]), asked(&peers[1])];
    etcd.set(&Key::Member("c".into()), None);
    let mut all = Vec::new();
    for (peer, before) in peers.iter_mut().zip([a, b]) {
        peer.settle(&mut etcd);
        let now = asked(peer);
        assert!(before.iter().all(|number| now.contains(number)));
        all.extend(now);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..1_000));
}

#[test]
fn where_digests_differ_each_replica_asks_about_all_that_it_lists() {
    let mut etcd = Etcd::new();
    let mut peers = replicas(&["a", "b"], &mut etcd);
    let new =
        (1_000..9_000).find(|n| peers[0].replica.asker(token(*n)).is_some_and(|r| **r == *"b"));
    let new = token(new.expect("b owns half of all slots"));
    assert!(!peers[0].replica.asks(new));
    let now = peers[0].now;
    peers[0].replica.list(new, now);
    assert!(peers[0].replica.asks(new), "b does not list it");
    peers[0].settle(&mut etcd);
    assert!(peers[0].reports.contains(&Output::SlotsChanged));
    peers[1].settle(&mut etcd);
    peers[1].replica.list(new, now);
    peers[1].pass(seconds(2), &mut etcd);
    peers[0].settle(&mut etcd);
    assert!(peers[1].replica.asks(new), "b lists it now");
    assert!(peers[0].replica.asks(new), "left late");
    for _ in 0..12 {
        for peer in &mut peers {
            peer.pass(FAILOVER / 10, &mut etcd);
        }
    }
    assert!(!peers[0].replica.asks(new) && peers[1].replica.asks(new));
}

#[test]
fn digests_are_written_at_most_once_a_second() {
    let mut etcd = Etcd::new();
    let mut a = Peer::joined("a", &mut etcd);
    a.pass(seconds(1), &mut etcd);
    let revision = etcd.at.revision;
    for number in 0..1_000 {
        a.replica.list(token(number), a.now);
        a.pass(Duration::from_millis(10), &mut etcd);
    }
    let writes = etcd.at.revision - revision;
    assert!((9..=11).contains(&writes), "{writes} writes in 10 s");
    a.pass(seconds(1), &mut etcd);
    let (_, member) = a.replica.member_records().next().expect("joined");
    assert_eq!(*member.digests, *a.replica.view.digests());
}

#[test]
fn a_replica_that_is_cut_off_asks_about_its_part_indefinitely() {
    let mut etcd = Etcd::new();
    let mut peers = replicas(&["a", "b"], &mut etcd);
    let a = &mut peers[0];
    let before = asked(a);
    a.cut = true;
    a.pass(seconds(1_000), &mut etcd);
    assert_eq!(asked(a), before);
    assert_eq!(a.notices(), [ClusterNotice::Unreachable("timeout".into())]);
}

#[test]
fn a_suspended_replica_asks_about_everything() {
    let mut etcd = Etcd::new();
    let mut peers = replicas(&["a", "b"], &mut etcd);
    let meta = Meta { format: FORMAT, key: KeyId(99) };
    etcd.set(&Key::Meta, Some(Record::Meta(meta)));
    peers[0].settle(&mut etcd);
    assert_eq!(asked(&peers[0]).len(), 1_000);
    assert!(peers[0].reports.contains(&Output::SlotsChanged));
}

#[test]
fn token_hashes_and_owners_are_stable_across_versions() {
    assert_eq!(key("quotes").hash(), TokenHash(PINNED_HASH));
    let mut etcd = Etcd::new();
    let peers = replicas(&["keeper-a", "keeper-b"], &mut etcd);
    let first: Vec<&str> =
        (0..8).filter_map(|n| peers[0].replica.asker(token(n)).map(|name| &**name)).collect();
    assert_eq!(first, PINNED_OWNERS);
}

/// What all versions compute: replicas of different versions must agree.
const PINNED_HASH: u64 = 10_714_804_280_293_858_772;
const PINNED_OWNERS: [&str; 8] = [
    "keeper-b", "keeper-a", "keeper-a", "keeper-b", "keeper-b", "keeper-a", "keeper-b", "keeper-b",
];
