//! Who asks.

use super::*;

fn token(number: u32) -> TokenHash {
    key(&number.to_string()).hash()
}

/// Whether the replica asks about this token.
fn asks(peer: &Peer, number: u32) -> bool {
    peer.replica.asks(&key(&number.to_string()))
}

/// Tokens of the first thousand that the replica asks about.
fn asked(peer: &Peer) -> Vec<u32> {
    (0..1_000).filter(|number| asks(peer, *number)).collect()
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
        let askers: Vec<_> = peers.iter().filter(|peer| asks(peer, number)).collect();
        assert_eq!(askers.len(), 1, "token {number}");
        let computed = peers[0].replica.asker(&key(&number.to_string()));
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
    let new = (1_000..9_000)
        .find(|n| peers[0].replica.asker(&key(&n.to_string())).is_some_and(|r| **r == *"b"));
    let new = new.expect("b owns half of all slots");
    assert!(!asks(&peers[0], new));
    let now = peers[0].now;
    peers[0].replica.list(token(new), now);
    assert!(asks(&peers[0], new), "b does not list it");
    peers[0].settle(&mut etcd);
    assert!(peers[0].reports.contains(&Output::SlotsChanged));
    peers[1].settle(&mut etcd);
    peers[1].replica.list(token(new), now);
    peers[1].pass(seconds(2), &mut etcd);
    peers[0].settle(&mut etcd);
    assert!(asks(&peers[1], new), "b lists it now");
    assert!(asks(&peers[0], new), "left late");
    for _ in 0..12 {
        for peer in &mut peers {
            peer.pass(FAILOVER / 10, &mut etcd);
        }
    }
    assert!(!asks(&peers[0], new) && asks(&peers[1], new));
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
    let first: Vec<&str> = (0..8)
        .filter_map(|n| peers[0].replica.asker(&key(&n.to_string())).map(|name| &**name))
        .collect();
    assert_eq!(first, PINNED_OWNERS);
}

/// What all versions compute: replicas of different versions must agree.
const PINNED_HASH: u64 = 10_714_804_280_293_858_772;
const PINNED_OWNERS: [&str; 8] = [
    "keeper-b", "keeper-a", "keeper-a", "keeper-b", "keeper-b", "keeper-a", "keeper-b", "keeper-b",
];

/// The replicas that check a token, by index.
fn askers(peers: &[Peer], number: u32) -> Vec<usize> {
    (0..peers.len()).filter(|peer| asks(&peers[*peer], number)).collect()
}

/// Passes time for all replicas, a beat at a time.
fn pass(peers: &mut [Peer], time: Duration, etcd: &mut Etcd) {
    let steps = time.as_millis() / seconds(1).as_millis();
    for _ in 0..steps {
        for peer in &mut *peers {
            peer.pass(seconds(1), etcd);
        }
    }
}

/// A replica reaches the server of all tokens, or does not.
fn set_reached(peer: &mut Peer, is_reached: bool) {
    peer.replica.set_servers(vec![("s", is_reached), ("other", true)], peer.now);
}

/// Three replicas that have reached their servers for long.
fn that_reach_all(etcd: &mut Etcd) -> Vec<Peer> {
    let mut peers = replicas(&["a", "b", "c"], etcd);
    for peer in &mut peers {
        set_reached(peer, true);
    }
    pass(&mut peers, FAILOVER * 3, etcd);
    peers
}

/// The same, and the first one cannot reach the server any more, which the others know; with the
/// tokens of its slots.
fn with_a_cut_off(etcd: &mut Etcd) -> (Vec<Peer>, Vec<u32>) {
    let mut peers = that_reach_all(etcd);
    let of_a = asked(&peers[0]);
    set_reached(&mut peers[0], false);
    pass(&mut peers, FAILOVER / 3 + seconds(3), etcd);
    (peers, of_a)
}

#[test]
fn tokens_of_a_replica_that_cannot_reach_their_server_are_asked_about_by_the_next_one_as_well() {
    let mut etcd = Etcd::new();
    let mut peers = that_reach_all(&mut etcd);
    let of_a: Vec<u32> = asked(&peers[0]);
    set_reached(&mut peers[0], false);
    pass(&mut peers, seconds(2), &mut etcd);
    assert!(of_a.iter().all(|number| askers(&peers, *number) == [0]), "a short outage");
    pass(&mut peers, FAILOVER / 3 + seconds(2), &mut etcd);
    for number in 0..1_000 {
        let asking = askers(&peers, number);
        if of_a.contains(&number) {
            assert!(asking == [0, 1] || asking == [0, 2], "token {number}: {asking:?}");
            let name = if asking[1] == 1 { "b" } else { "c" };
            let key = key(&number.to_string());
            assert!(peers.iter().all(|peer| peer.replica.asker(&key).unwrap().as_ref() == name));
        } else {
            assert_eq!(asking.len(), 1, "token {number}");
        }
        let on_another_server = TokenKey::new("other", &number.to_string());
        let asking = peers.iter().filter(|peer| peer.replica.asks(&on_another_server));
        assert_eq!(asking.count(), 1, "token {number} of the other server");
    }
}

#[test]
fn replica_that_reaches_its_server_again_is_relieved_after_one_failover() {
    let mut etcd = Etcd::new();
    let (mut peers, of_a) = with_a_cut_off(&mut etcd);
    assert!(of_a.iter().all(|number| askers(&peers, *number).len() == 2));
    set_reached(&mut peers[0], true);
    pass(&mut peers, FAILOVER.saturating_sub(seconds(1)), &mut etcd);
    assert!(of_a.iter().all(|number| askers(&peers, *number).len() == 2), "left late");
    pass(&mut peers, seconds(4), &mut etcd);
    assert!(of_a.iter().all(|number| askers(&peers, *number) == [0]));
}

#[test]
fn helper_that_loses_the_server_and_gets_it_back_is_replaced_without_a_gap() {
    let mut etcd = Etcd::new();
    let (mut peers, of_a) = with_a_cut_off(&mut etcd);
    set_reached(&mut peers[1], false);
    pass(&mut peers, FAILOVER / 3 + seconds(3), &mut etcd);
    let by_c = |peers: &[Peer]| of_a.iter().all(|number| askers(peers, *number).contains(&2));
    assert!(by_c(&peers));
    set_reached(&mut peers[1], true);
    let mut helpers = Vec::new();
    for _ in 0..40 {
        pass(&mut peers, seconds(1), &mut etcd);
        assert!(of_a.iter().all(|number| askers(&peers, *number).len() > 1), "a gap");
        helpers.push(by_c(&peers));
    }
    assert!(!helpers.last().unwrap(), "b helps again");
}

#[test]
fn a_helper_that_has_just_started_helps_at_once() {
    let mut etcd = Etcd::new();
    let (mut peers, of_a) = with_a_cut_off(&mut etcd);
    let mut d = Peer::new("d");
    list(&mut d);
    set_reached(&mut d, true);
    d.settle(&mut etcd);
    peers.push(d);
    for _ in 0..20 {
        pass(&mut peers, seconds(1), &mut etcd);
        assert!(of_a.iter().all(|number| askers(&peers, *number).iter().any(|by| *by != 0)));
    }
}

#[test]
fn no_replica_asks_in_place_of_another_while_it_does_not_reach_the_server_itself() {
    let mut etcd = Etcd::new();
    let mut peers = that_reach_all(&mut etcd);
    let before: Vec<_> = (0..1_000).map(|number| askers(&peers, number)).collect();
    for peer in &mut peers {
        set_reached(peer, false);
    }
    for _ in 0..12 {
        pass(&mut peers, seconds(3), &mut etcd);
        let now: Vec<_> = (0..1_000).map(|number| askers(&peers, number)).collect();
        assert_eq!(now, before);
    }
    // The server recovers for all: each replica notices within the pause between two probes.
    for index in 0..peers.len() {
        set_reached(&mut peers[index], true);
        pass(&mut peers, seconds(2), &mut etcd);
    }
    for _ in 0..12 {
        let now: Vec<_> = (0..1_000).map(|number| askers(&peers, number)).collect();
        assert_eq!(now, before);
        pass(&mut peers, seconds(3), &mut etcd);
    }
}

#[test]
fn if_two_of_three_replicas_cannot_reach_the_server_the_third_asks_about_everything() {
    let mut etcd = Etcd::new();
    let mut peers = that_reach_all(&mut etcd);
    set_reached(&mut peers[0], false);
    set_reached(&mut peers[2], false);
    pass(&mut peers, FAILOVER / 3 + seconds(3), &mut etcd);
    assert_eq!(asked(&peers[1]).len(), 1_000);
    // A replica that dies leaves nothing behind.
    etcd.set(&Key::Member("c".into()), None);
    let mut alive = peers;
    alive.truncate(2);
    pass(&mut alive, FAILOVER + seconds(2), &mut etcd);
    assert_eq!(asked(&alive[1]).len(), 1_000);
    set_reached(&mut alive[0], true);
    pass(&mut alive, FAILOVER + seconds(4), &mut etcd);
    assert!((0..1_000).all(|number| askers(&alive, number).len() == 1));
}
