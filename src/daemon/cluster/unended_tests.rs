//! A replica that starts again after a spending whose end did not reach etcd.

use std::collections::HashMap;

use super::*;
use crate::cluster::replica::Meta;
use crate::cluster::seal::Refresh;
use crate::daemon::companions::CompanionSource;
use crate::daemon::tasks::{AdoptedRefresh, AdoptedValue, RefreshState};
use crate::lifecycle::{Action, CheckResult};
use crate::outcome::{CallError, Outcome};
use crate::scheduler::SchedulerOutput;
use crate::settings::Source;

const BASE: u64 = 7;

fn key() -> TokenKey {
    TokenKey::new("sarus", "quotes")
}

impl World {
    /// An earlier run has obtained `text` for `quotes` over revision `base`. etcd has been read.
    fn restarted(text: &str, base: u64) -> (Self, TokenId) {
        let mut world = Self::new();
        let spendings = HashMap::from([(key().as_str().to_owned(), base)]);
        world.cluster.values = Values::new(HashMap::new(), &spendings);
        let id = world.add("quotes", text);
        world.settle();
        let now = clock::now();
        let meta = Meta { format: 1, key: world.cluster.keys.ids()[0] };
        let meta = Entry { key: Key::Meta, record: Some(Record::Meta(meta)), revision: 1 };
        let at = StoreRevision { cluster: 1, revision: base.max(1) };
        let record = Some(Record::Value(b"sealed"[..].into()));
        let value = Entry { key: Key::Value(key()), record, revision: base };
        let entries = if base > 0 { vec![meta, value] } else { vec![meta] };
        world.turn(now);
        world.cluster.on_link_event(LinkEvent::Read(Ok((at, entries))), now);
        world.cluster.replica.outputs.clear();
        (world, id)
    }

    /// The check of the token ends with this outcome.
    fn checked(&mut self, outcome: Outcome) {
        let now = clock::now();
        self.tokens.scheduler.wake(now);
        let outputs = std::mem::take(&mut self.tokens.scheduler.outputs);
        let ticket = outputs.iter().find_map(|output| match output {
            SchedulerOutput::Action(ticket, Action::Check { .. }) => Some(*ticket),
            _ => None,
        });
        let (sent, received) = (now, clock::now_ceil());
        let result = CheckResult { sent, received, outcome, replaced: false, cannot_renew: false };
        self.tokens.scheduler.check_finished(ticket.expect("a check"), result, received);
    }

    fn retry(&mut self) {
        let later = self.cluster.values.due().unwrap_or_default().max(clock::now());
        self.cluster.retry_values(later, &mut self.tokens, &mut self.tasks);
    }

    fn is_marked(&self) -> bool {
        self.cluster.values.unended.contains_key(&key())
    }

    /// Whether the current value is being put into etcd.
    fn publishes(&self) -> bool {
        self.cluster.replica.is_publishing(key().hash())
    }
}

#[tokio::test]
async fn value_whose_spending_has_not_ended_in_etcd_stays_and_is_published_once_it_lives() {
    let (mut world, id) = World::restarted("quotes-2", BASE);
    world.new_value("quotes", "quotes", "quotes-1", BASE);
    assert_eq!(world.current(id), Some(value("quotes-2")));
    assert!(world.tokens.scheduler.is_asked(id), "whichever replica asks about it");
    assert!(world.cluster.values.has_unused(&key()), "no login meanwhile");
    world.retry();
    assert!(!world.publishes(), "not before it is verified");
    world.checked(Outcome::Alive { remaining: Duration::from_secs(600) });
    world.retry();
    assert!(world.publishes() && !world.cluster.values.has_unused(&key()));
    assert_eq!(world.current(id), Some(value("quotes-2")));
    assert!(world.is_marked(), "until it is in etcd");
    let published = Output::Published { token: key(), revision: BASE + 1, value: b"x"[..].into() };
    let World { cluster, tokens, tasks, .. } = &mut world;
    cluster.on_queued(published, clock::now(), tokens, tasks);
    assert!(!world.is_marked());
}

#[tokio::test]
async fn value_whose_spending_has_not_ended_is_replaced_by_that_of_etcd_if_it_is_dead() {
    let (mut world, id) = World::restarted("quotes-2", BASE);
    world.new_value("quotes", "quotes", "quotes-1", BASE);
    world.checked(Outcome::Expired(CallError::new("expired")));
    world.retry();
    let offered = [world.current(id), world.tokens.candidate_value(id)];
    assert!(offered.contains(&Some(value("quotes-1"))));
    assert!(!world.is_marked() && !world.publishes());
}

#[tokio::test]
async fn later_value_of_etcd_replaces_one_whose_spending_has_not_ended() {
    let (mut world, id) = World::restarted("quotes-2", BASE);
    world.new_value("quotes", "quotes", "quotes-3", BASE + 1);
    assert_eq!(world.current(id), Some(value("quotes-3")));
    assert!(!world.is_marked());
}

#[tokio::test]
async fn same_value_in_etcd_ends_the_spending() {
    let (mut world, id) = World::restarted("quotes-2", BASE);
    world.new_value("quotes", "quotes", "quotes-2", BASE);
    assert_eq!(world.current(id), Some(value("quotes-2")));
    assert!(!world.is_marked() && !world.cluster.values.has_unused(&key()));
}

#[tokio::test]
async fn refresh_token_that_is_newer_than_that_of_etcd_is_published_without_spending_it() {
    // The crash came between the refresh token and its value. With a first value, etcd has none.
    for base in [BASE, 0] {
        let (mut world, id) = World::restarted("quotes-1", base);
        let source = CompanionSource::Own(Source::Env("QUOTES_REFRESH".to_owned()));
        world.tokens.companions.set_source("quotes", source);
        if base > 0 {
            let refresh = Refresh::Token(value("r-1"));
            world.new_value_with("quotes", ("quotes", "quotes-1", refresh), base);
        } else {
            world.cluster.publish_first_values(&mut world.tokens, &mut world.tasks);
        }
        assert!(world.cluster.values.has_unused(&key()), "the refresh token is compared first");
        let adopted = AdoptedValue { key: key(), value: value("quotes-1"), revision: base };
        let World { cluster, tokens, tasks, .. } = &mut world;
        cluster.on_adopted((adopted, AdoptedRefresh::OwnKept), tokens, tasks);
        assert!(world.publishes() && world.is_marked());
        assert!(!world.cluster.values.has_unused(&key()));
        assert!(!world.tokens.scheduler.is_asked(id), "a check would spend it");
    }
}

#[tokio::test]
async fn new_refresh_token_is_stored_whatever_became_of_the_value() {
    let (mut world, id) = World::restarted("quotes-1", BASE);
    let mut stored = |refresh: Refresh, is_new| {
        let World { cluster, tokens, .. } = &mut world;
        let refresh = RefreshState { current: refresh, is_new };
        let sealed = cluster.value_to_store(&key(), Some(id), None, refresh, tokens)?;
        let path = path(&cluster.settings.prefix, &Key::Value(key()));
        Some(cluster.keys.open_value(&sealed, &path).unwrap())
    };
    let plain = |refresh| Some(Plain { value: value("quotes-1"), refresh });
    let token = || Refresh::Token(value("r-2"));
    assert_eq!(stored(token(), true), plain(token()));
    assert_eq!(stored(Refresh::None, true), plain(Refresh::None), "it was spent");
    assert_eq!(stored(token(), false), None);
}
