use std::fs;

use super::asking::FIRST_VIEW_TIMEOUT;
use super::*;
use crate::api::Client;
use crate::cluster::record::path;
use crate::cluster::replica::{Entry, Key, Record};
use crate::cluster::seal::{Plain, Refresh};
use crate::daemon::tokens::{TokenConfig, TokenOrigin};
use crate::lifecycle::SourceChange;
use crate::scheduler::TokenSpec;
use crate::secret::TokenValue;
use crate::settings::load;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A replica whose etcd never responds, with the tokens `quotes` and `orders`, which are not added
/// yet.
struct World {
    _folder: tempfile::TempDir,
    cluster: Cluster,
    tokens: Tokens,
    tasks: Tasks,
    configs: Vec<(&'static str, Arc<TokenConfig>, TokenSpec)>,
}

fn value(text: &str) -> TokenValue {
    TokenValue::parse(text).unwrap()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::write(dir.join("key"), KEY).unwrap();
        let text = format!(
            "[cluster]\netcd = [\"http://127.0.0.1:1\"]\nname = \"keeper-a\"\n\
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
        Self { _folder: folder, cluster, tokens, tasks, configs }
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
    world.turn(began + FIRST_VIEW_TIMEOUT);
    world.settle();
    assert!(world.tokens.scheduler.is_asked(id), "without etcd this replica asks about all");
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

#[path = "unended_tests.rs"]
mod unended_tests;
