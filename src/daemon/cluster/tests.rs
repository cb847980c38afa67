use std::fs;

use super::asking::FIRST_VIEW_TIMEOUT;
use super::*;
use crate::api::Client;
use crate::cluster::etcd::tests::member;
use crate::cluster::link::Engine as _;
use crate::cluster::record::path;
use crate::cluster::replica::{
    Claim, Entry, FORMAT, Key, Meta, Record, SpendId, SpendRequest, Spent, StoreError,
    TransactionResult,
};
use crate::cluster::seal::{Plain, Refresh};
use crate::daemon::tokens::{TokenConfig, TokenOrigin};
use crate::event_log::{EventName, Fields, LoggedEvent, Severity};
use crate::lifecycle::{Action, Slot, SourceChange};
use crate::scheduler::{SchedulerOutput, Ticket, TokenSpec};
use crate::secret::TokenValue;
use crate::settings::load;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A replica whose etcd never responds, with the tokens `quotes` and `orders`, which are not added
/// yet.
struct World {
    folder: tempfile::TempDir,
    cluster: Cluster,
    tokens: Tokens,
    tasks: Tasks,
    configs: Vec<(&'static str, Arc<TokenConfig>, TokenSpec)>,
}

fn at(revision: u64) -> StoreRevision {
    StoreRevision { cluster: 1, revision }
}

fn value(text: &str) -> TokenValue {
    TokenValue::parse(text).unwrap()
}

impl World {
    fn new() -> Self {
        Self::with_etcd("http://127.0.0.1:1")
    }

    fn with_etcd(etcd: &str) -> Self {
        Self::with_cluster(&format!("etcd = [\"{etcd}\"]\n"))
    }

    /// With these keys of `[cluster]`, in which `FOLDER` stands for a folder with a file `password`.
    fn with_cluster(keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::write(dir.join("key"), KEY).unwrap();
        fs::write(dir.join("password"), "ha").unwrap();
        let keys = keys.replace("FOLDER", dir.to_str().unwrap());
        let text = format!(
            "[cluster]\n{keys}name = \"keeper-a\"\n\
             key = {{ file = \"{0}/key\" }}\n[server.sarus]\nurl = \"http://127.0.0.1:1\"\n\
             [token.quotes]\nserver = \"sarus\"\nfile = \"{0}/quotes.token\"\n\
             [token.orders]\nserver = \"sarus\"\nfile = \"{0}/orders.token\"\n",
            dir.display()
        );
        let file = dir.join("tokenkeep.toml");
        fs::write(&file, text).unwrap();
        let settings = load(&file, std::iter::empty()).unwrap().settings;
        let mut tokens = Tokens::new(settings.max_hooks, Duration::from_secs(60), 1);
        let server = settings.servers[0].clone();
        let client = Ok(Client::new(&server).unwrap());
        tokens.put_server(server, client);
        let config = |token: &settings::Token| {
            let origin = TokenOrigin::Own(token.source.clone());
            let config = tokens.config_for(&token.keep_alive, origin, false, &mut Vec::new());
            let (config, spec) = config.unwrap();
            let name = if token.name == "quotes" { "quotes" } else { "orders" };
            (name, Arc::new(config), spec)
        };
        let configs = settings.tokens.iter().map(config).collect();
        let cluster = settings.cluster.unwrap();
        let opened = Opened::read(&cluster).unwrap();
        let cluster = Cluster::new(cluster, opened, RecalledCluster::default(), &mut tokens);
        let tasks = Tasks::default();
        Self { folder, cluster, tokens, tasks, configs }
    }

    /// Adds a token with a value.
    fn add(&mut self, name: &str, text: &str) -> TokenId {
        let (_, config, spec) = self.configs.iter().find(|(other, ..)| *other == name).unwrap();
        let id = self.tokens.add(name, config, spec.clone(), 0);
        let slot = self.tokens.scheduler.spare_slot(id);
        self.tokens.registry.put(id, slot, value(text).by_ref());
        self.tokens.registry.set_in_source(id, Some(value(text).by_ref()));
        self.tokens.scheduler.source_changed(id, SourceChange::NewValue, clock::now());
        id
    }

    /// Works off the backlog.
    fn settle(&mut self) {
        while self.cluster.step(&mut self.tokens, &mut self.tasks) {}
    }

    fn turn(&mut self, now: Moment) {
        let starts = self.cluster.turn(now, &mut self.tokens, &mut self.tasks);
        assert!(starts.is_empty());
    }

    /// etcd has this value for `name`, sealed for the key of `sealed_for`.
    fn new_value(&mut self, name: &str, sealed_for: &str, text: &str, revision: u64) {
        self.new_value_with(name, (sealed_for, text, Refresh::Unknown), revision);
    }

    fn new_value_with(
        &mut self,
        name: &str,
        (sealed_for, text, refresh): (&str, &str, Refresh),
        revision: u64,
    ) {
        let key = Key::Value(TokenKey::new("sarus", sealed_for));
        let path = path(&self.cluster.settings.prefix, &key);
        let plain = Plain { value: value(text), refresh };
        let with = self.cluster.keys.ids()[0];
        let sealed = self.cluster.keys.seal(with, &plain, &path).unwrap();
        let Self { cluster, tokens, tasks, .. } = self;
        cluster.on_new_value(TokenKey::new("sarus", name), revision, sealed, tokens, tasks);
    }

    /// The replica joins, as far as it knows.
    fn join(&mut self) {
        let now = clock::now();
        let meta = Meta { format: FORMAT, key: self.cluster.keys.ids()[0] };
        let meta = Entry { key: Key::Meta, record: Some(Record::Meta(meta)), revision: 1 };
        let read = Ok((at(1), vec![meta]));
        self.cluster.on_link_event(LinkEvent::Read(read), now);
        self.cluster
            .on_link_event(LinkEvent::BeatFinished { sent: now, result: Ok((at(2), true)) }, now);
        assert!(self.cluster.replica.is_joined());
        self.cluster.replica.outputs.clear();
    }

    /// The ticket of an action that the scheduler awaits.
    fn ticket(&mut self, id: TokenId) -> Ticket {
        let now = clock::now();
        self.tokens.scheduler.set_asked(id, true, now);
        self.tokens.scheduler.wake(now);
        let outputs = self.tokens.scheduler.outputs.drain(..);
        let mut ticket = outputs.filter_map(|output| match output {
            SchedulerOutput::Action(ticket, _) => Some(ticket),
            _ => None,
        });
        ticket.next_back().unwrap()
    }

    fn current(&self, id: TokenId) -> Option<TokenValue> {
        self.tokens.current_value(id)
    }
}

#[tokio::test]
async fn no_token_is_asked_about_before_it_is_known_who_asks_or_two_seconds_have_passed() {
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.settle();
    let began = clock::now();
    world.turn(began);
    assert!(!world.tokens.scheduler.is_asked(id) && !world.cluster.replica.has_view());
    assert_eq!(world.tokens.value_state(id, began), State::Elsewhere);
    world.turn(began + FIRST_VIEW_TIMEOUT);
    world.settle();
    assert!(world.tokens.scheduler.is_asked(id), "without etcd this replica asks about all");
    assert_eq!(world.tokens.value_state(id, began), State::Unverified);
}

#[tokio::test]
async fn nothing_is_sent_to_etcd_before_the_tokens_of_the_start_are_listed() {
    let mut world = World::new();
    world.add("quotes", "quotes-1");
    let read = |world: &World| world.cluster.replica.outputs.contains(&Output::Read);
    world.turn(clock::now());
    assert!(read(&world) && world.cluster.has_backlog(&world.tokens));
    world.settle();
    world.turn(clock::now());
    assert!(!read(&world));
}

#[tokio::test]
async fn value_that_comes_before_its_token_is_used_once_the_token_is_added() {
    let mut world = World::new();
    world.settle();
    world.new_value("quotes", "quotes", "quotes-2", 7);
    let id = world.add("quotes", "quotes-1");
    world.settle();
    assert_eq!(world.current(id), Some(value("quotes-2")));
    assert!(world.cluster.values.due().is_none());
}

#[tokio::test]
async fn value_of_another_token_and_one_that_was_moved_are_refused() {
    let mut world = World::new();
    let quotes = world.add("quotes", "quotes-1");
    let orders = world.add("orders", "orders-1");
    world.settle();
    world.new_value("quotes", "quotes", "orders-1", 7);
    world.new_value("orders", "quotes", "orders-2", 8);
    assert_eq!(world.current(quotes), Some(value("quotes-1")));
    assert_eq!(world.current(orders), Some(value("orders-1")));
}

#[tokio::test]
async fn replica_lists_each_token_with_a_value_exactly_once() {
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.tokens.note_listing(id);
    world.settle();
    world.tokens.note_listing(id);
    world.settle();
    let digests = |world: &World| -> usize {
        let shares = world.cluster.replica.shares();
        shares.iter().map(|(_, tokens)| tokens).sum()
    };
    let at = StoreRevision { cluster: 1, revision: 1 };
    let now = clock::now();
    let meta = crate::cluster::replica::Meta { format: 1, key: world.cluster.keys.ids()[0] };
    let meta = Entry { key: Key::Meta, record: Some(Record::Meta(meta)), revision: 1 };
    world.turn(now);
    world.cluster.on_link_event(LinkEvent::Read(Ok((at, vec![meta]))), now);
    assert_eq!(digests(&world), 1);
    world.tokens.remove(id);
    world.settle();
    assert_eq!(digests(&world), 0);
}

#[tokio::test]
async fn command_that_needs_etcd_is_refused_while_etcd_cannot_be_used() {
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.settle();
    let began = clock::now();
    world.turn(began);
    let refusal = |world: &World, request: OperatorRequest| {
        let error = world.cluster.refusal(id, request, &world.tokens);
        error.map(|error| error.kind)
    };
    assert_eq!(refusal(&world, OperatorRequest::Reauth), None);
    // A gap of one `failover` would mean that this process was stopped.
    (1..=15).for_each(|second| world.turn(began + Duration::from_secs(second)));
    let unavailable = Some(crate::control::ApiErrorKind::Unavailable);
    assert_eq!(refusal(&world, OperatorRequest::Reauth), unavailable);
    assert_eq!(refusal(&world, OperatorRequest::Check), None, "a check needs no etcd");
}

#[tokio::test]
async fn value_of_a_spending_is_sent_again_while_the_replica_leaves() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::with_etcd(&format!("http://{}", listener.local_addr().unwrap()));
    world.settle();
    world.join();
    let now = clock::now();
    let replica = &mut world.cluster.replica;
    let (id, token) = (SpendId(1), TokenKey::new("sarus", "quotes"));
    let [limit, begin_within] = [40, 10].map(Duration::from_secs);
    replica.request(SpendRequest { id, token, limit, begin_within, count: None }, now);
    let take = replica.outputs.drain(..).find_map(|output| match output {
        Output::Commit(id, _) => Some(id),
        _ => None,
    });
    let taken = TransactionResult { succeeded: true, at: at(3), read: Vec::new() };
    replica.committed(take.unwrap(), Ok(taken), now);
    replica.spent(id, Spent { value: Some(b"sealed"[..].into()), count: None }, now);
    world.cluster.stop(&mut world.tokens);
    assert!(world.cluster.is_storing());
    // etcd takes each request and never responds.
    let sent_twice = async {
        let (mut connections, mut sent) = (Vec::new(), 0);
        while sent < 2 {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = [0; 64];
            let size = tokio::io::AsyncReadExt::read(&mut connection, &mut head).await.unwrap();
            sent += usize::from(head[..size].starts_with(b"POST /v3/kv/txn "));
            connections.push(connection);
        }
    };
    tokio::select! {
        () = world.cluster.finish(&mut world.tokens, &mut world.tasks) => {
            panic!("it has given up");
        }
        () = sent_twice => {}
    }
}

#[tokio::test]
async fn login_that_waits_for_a_replica_which_does_not_finish_is_reported_once() {
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.settle();
    let (began, token) = (clock::now(), TokenKey::new("sarus", "quotes"));
    let claim = Claim {
        replica: "keeper-b".into(),
        incarnation: 2,
        nonce: 3,
        limit: Duration::from_secs(40),
        taken: (2, began),
    };
    let entries = [
        (Key::Meta, Record::Meta(Meta { format: FORMAT, key: world.cluster.keys.ids()[0] })),
        (Key::Claim(token.clone()), Record::Claim(claim)),
    ];
    let entry = |(key, record)| Entry { key, record: Some(record), revision: 5 };
    world.cluster.replica.read_finished(Ok((at(5), entries.map(entry).to_vec())), began);
    world.turn(began);
    world.settle();
    assert!(world.tokens.scheduler.is_asked(id));
    let overdue = world.cluster.replica.overdue(token.hash()).unwrap();
    world.cluster.spendings.hold(token.hash(), id, false, Some(overdue.since));
    let held = |world: &World| {
        let events = world.tokens.log.history().latest(100);
        let is_held = |(_, event): &(u64, &LoggedEvent)| event.name == EventName::ReauthHeld;
        events.filter(is_held).map(|(_, event)| event.text.to_string()).collect::<Vec<_>>()
    };
    let limit = Duration::from_secs(40);
    for (after, reports) in [(limit / 2, 0), (limit, 1), (limit + limit / 8, 1)] {
        world.cluster.report_overdue(began + after, &mut world.tokens);
        assert_eq!(held(&world).len(), reports, "{after:?}");
    }
    assert_eq!(
        held(&world),
        ["a new value is needed, but keeper-b has started to obtain one and has not finished in \
          time; this replica can take over in 30 s"]
    );
}

#[tokio::test]
async fn dead_candidate_of_another_replica_is_not_reported_as_one_of_the_source() {
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.settle();
    let fault = crate::outcome::CallError::default();
    let expired = Notice::Expired { fault, candidate: true };
    let spare = world.tokens.scheduler.spare_slot(id);
    world.tokens.registry.put(id, spare, value("quotes-2").by_ref());
    assert_eq!(world.tokens.origin_of_dead_candidate(id, &expired), Some("replica"));
    let fields = Fields { token: Some("quotes"), by: Some("replica"), ..Fields::default() };
    crate::daemon::notices::token(&mut world.tokens.log, clock::now(), &fields, &expired);
    let (_, event) = world.tokens.log.history().latest(1).next().unwrap();
    let text = "the value of another replica has expired; the current value stays in service";
    assert!(event.text.starts_with(text), "{event:?}");
    assert_eq!(event.severity, Severity::Warn);
    world.tokens.registry.set_in_source(id, Some(value("quotes-2").by_ref()));
    assert_eq!(world.tokens.origin_of_dead_candidate(id, &expired), None);
    let Notice::Expired { fault, .. } = expired else { unreachable!() };
    let expired = Notice::Expired { fault, candidate: false };
    assert_eq!(world.tokens.origin_of_dead_candidate(id, &expired), None);
}

#[tokio::test]
async fn value_waits_until_the_source_was_read_and_a_newer_one_takes_its_place() {
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.settle();
    let stored = crate::store::StoredValue { value: value("quotes-0"), replaces: None };
    world.tokens.registry.keep_restored_value(id, stored);
    world.new_value("quotes", "quotes", "quotes-2", 7);
    let key = TokenKey::new("sarus", "quotes");
    assert_eq!(world.current(id), Some(value("quotes-1")));
    assert!(world.cluster.values.has_unused(&key), "no login meanwhile");
    world.tokens.registry.take_restored_value(id);
    world.new_value("quotes", "quotes", "quotes-3", 8);
    let later = clock::now() + Duration::from_secs(1);
    world.cluster.retry_values(later, &mut world.tokens, &mut world.tasks);
    assert_eq!(world.current(id), Some(value("quotes-3")));
    assert!(!world.cluster.values.has_unused(&key));
}

#[tokio::test]
async fn a_turn_does_not_handle_a_value_for_each_of_very_many_tokens_and_urgent_outputs_come_first()
{
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.settle();
    world.turn(clock::now());
    let quotes = TokenKey::new("sarus", "quotes");
    for number in 0..50_000 {
        let token = TokenKey::new("other", &number.to_string());
        let value = Output::NewValue { token, revision: 7, value: b"x"[..].into() };
        world.cluster.replica.outputs.push(value);
    }
    world.cluster.replica.outputs.push(Output::Paused(quotes.clone(), true));
    world.cluster.replica.outputs.push(Output::Left);
    world.turn(clock::now());
    assert!(world.cluster.has_left);
    assert!(
        world.cluster.queue.has_news(quotes.hash()),
        "no spending and no publication meanwhile"
    );
    assert!(world.cluster.has_backlog(&world.tokens));
    let is_paused = |world: &World| {
        world.tokens.scheduler.token(id).is_some_and(|token| token.state() == State::Paused)
    };
    assert!(!is_paused(&world));
    world.settle();
    assert!(is_paused(&world) && !world.cluster.queue.has_news(quotes.hash()));
}

#[tokio::test]
async fn nothing_is_spent_for_a_token_whose_value_in_etcd_cannot_be_opened() {
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.settle();
    world.join();
    let key = TokenKey::new("sarus", "quotes");
    // As if it was sealed with another key.
    let prefix = std::mem::replace(&mut world.cluster.settings.prefix, "/other/".to_owned());
    let path = path(&prefix, &Key::Value(key.clone()));
    let with = world.cluster.keys.ids()[0];
    let plain = Plain { value: value("quotes-2"), refresh: Refresh::None };
    let sealed = world.cluster.keys.seal(with, &plain, &path).unwrap();
    let World { cluster, tokens, tasks, .. } = &mut world;
    cluster.on_new_value(key.clone(), 7, sealed, tokens, tasks);
    let held = |world: &mut World| {
        let ticket = world.ticket(id);
        let action = Action::Revoke { slot: Slot::A, timeout: Duration::from_secs(1) };
        world.cluster.request(ticket, action, clock::now(), &mut world.tokens);
        !world.tokens.scheduler.expects(ticket)
    };
    assert!(held(&mut world), "it was deferred");
    assert!(!world.cluster.replica.outputs.iter().any(|it| matches!(it, Output::Commit(..))));
    let events = world.tokens.log.history().latest(100);
    let reports = events.filter(|(_, event)| event.name == EventName::ReauthHeld).count();
    assert_eq!(reports, 1);
    // The key is there now.
    world.cluster.settings.prefix = prefix;
    let now = clock::now();
    world.cluster.values.reopen(now);
    let World { cluster, tokens, tasks, .. } = &mut world;
    cluster.retry_values(now, tokens, tasks);
    assert_eq!(cluster.values.unopened(&key), None);
    let values = [world.current(id), world.tokens.candidate_value(id)];
    assert!(values.contains(&Some(value("quotes-2"))));
}

#[tokio::test]
async fn value_counts_as_known_once_etcd_has_it_and_is_tried_again_if_it_was_dropped() {
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.settle();
    world.join();
    let (key, current) = (TokenKey::new("sarus", "quotes"), value("quotes-1"));
    let sealed = world.cluster.seal(&key, current.clone(), Refresh::None).unwrap();
    let World { cluster, tokens, .. } = &mut world;
    assert!(!cluster.values.is_known(&key, &current));
    cluster.on_dropped(&key, tokens);
    assert!(cluster.values.is_unpublished(id));
    cluster.on_published(&key, 9, &sealed, tokens);
    assert!(cluster.values.is_known(&key, &current));
    world.new_value("quotes", "quotes", "quotes-2", 11);
    world.cluster.on_published(&key, 10, &sealed, &world.tokens);
    assert!(!world.cluster.values.is_known(&key, &current), "the newer one counts");
}

#[tokio::test]
async fn check_of_an_operators_value_ends_when_another_value_comes_or_cannot_be_opened() {
    let mut world = World::new();
    let id = world.add("quotes", "quotes-1");
    world.settle();
    let key = TokenKey::new("sarus", "quotes");
    let hash = key.hash();
    for (sealed_for, revision) in [("quotes", 7), ("orders", 8)] {
        world.cluster.asking.check_once(hash);
        world.tokens.scheduler.set_asked(id, true, clock::now());
        world.new_value("quotes", sealed_for, "quotes-2", revision);
        assert!(!world.cluster.asking.is_checked_once(hash), "{sealed_for}");
        let asks = world.cluster.replica.asks(&key);
        assert_eq!(world.tokens.scheduler.is_asked(id), asks, "{sealed_for}");
    }
}

/// A replica with the password `ha` at an etcd whose password is `half`.
async fn denied() -> World {
    let (etcd, _) = member(|_, request| {
        let body = if request.contains(r#""password":"ha""#) {
            r#"{"code":3, "message":"etcdserver: authentication failed, invalid user ID or password"}"#
        } else if request.contains(r#""password":"half""#) {
            r#"{"token":"t"}"#
        } else {
            r#"{"header":{"cluster_id":"1", "revision":"10"}}"#
        };
        Some(body.to_owned())
    })
    .await;
    World::with_cluster(&format!(
        "etcd = [\"{etcd}\"]\nuser = \"keeper\"\npassword = {{ file = \"FOLDER/password\" }}\n"
    ))
}

#[tokio::test]
async fn password_that_etcd_denies_is_read_again_before_the_next_login() {
    let mut world = denied().await;
    let engine = Arc::clone(world.cluster.link.engine());
    let denied = engine.read().await;
    assert!(matches!(denied, Err(StoreError::Refused(_))), "{denied:?}");
    // Two rejections lead to one reading.
    for _ in 0..2 {
        world.cluster.on_link_event(LinkEvent::Read(denied.clone()), clock::now());
        assert_eq!(world.cluster.work.len(), 1);
    }
    fs::write(world.folder.path().join("password"), "half").unwrap();
    // Skips the pause.
    tokio::time::pause();
    let event = Cluster::next(Some(&mut world.cluster)).await;
    tokio::time::resume();
    world.cluster.on_event(event, &mut world.tokens.log);
    let read = engine.read().await;
    assert!(read.is_ok(), "{read:?}");
    world.cluster.on_link_event(LinkEvent::WatchEnded("lost".into()), clock::now());
    assert_eq!(world.cluster.work.len(), 0, "it is read again only after a rejection");
}

#[tokio::test]
async fn password_that_was_read_for_earlier_settings_is_not_used() {
    let mut world = denied().await;
    let engine = Arc::clone(world.cluster.link.engine());
    fs::write(world.folder.path().join("password"), "half").unwrap();
    let earlier = world.cluster.settings.clone();
    let read = || Access::open(&earlier, &|name| std::env::var_os(name));
    world.cluster.settings.old_key = Some(earlier.key.clone());
    world.cluster.on_reread(&earlier, read());
    assert!(engine.read().await.is_err(), "the password is still the one before");
    world.cluster.settings = earlier.clone();
    world.cluster.on_reread(&earlier, read());
    assert!(engine.read().await.is_ok());
}

#[path = "unended_tests.rs"]
mod unended_tests;
