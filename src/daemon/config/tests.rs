use std::fs;
use std::path::Path;

use tokio::sync::oneshot;

use super::*;
use crate::clock::Stopwatch;
use crate::daemon::cluster::Opened;
use crate::daemon::inventories::Inventories;
use crate::daemon::metrics::Metrics;
use crate::outcome::CallError;
use crate::settings::{Loaded, load};

const TOKENS: usize = 4_000;

/// A configuration, with the parts that a reload changes.
struct World {
    config: Config,
    tokens: Tokens,
    inventories: Inventories,
    metrics: Metrics,
}

impl World {
    /// A configuration that is applied.
    fn new(loaded: Loaded) -> Self {
        let Loaded { settings, .. } = loaded;
        let mut tokens = Tokens::new(settings.max_hooks, settings.keep_removed, 1);
        let (clients, _) = first_clients(&settings.servers).unwrap();
        let config = Config::new(settings, None, Arc::new(|| unreachable!()));
        let mut inventories = Inventories::new();
        let (old, new) = (Arc::clone(&config.settings), Arc::clone(&config.settings));
        let mut application = Application::new(old, new, clients, &mut tokens);
        while application.step(&mut tokens, &mut inventories) {}
        Self { config, tokens, inventories, metrics: Metrics::new() }
    }

    /// Begins a reload of a configuration that was read.
    fn begin_reload(&mut self, loaded: Loaded) {
        self.config.reloads.request();
        let loaded = LoadedConfig::new(loaded, &self.config.servers(&self.tokens), Opened::read);
        self.config.on_loaded(loaded, &mut self.tokens);
    }

    fn step(&mut self) -> bool {
        let Self { config, tokens, inventories, metrics } = self;
        config.reload_step(tokens, inventories, metrics)
    }

    /// How many tokens have names of the old configuration, and of the new one.
    fn names(&self) -> [usize; 2] {
        let ids = || self.tokens.registry.ids();
        ["a", "b"].map(|prefix| ids().filter(|(_, entry)| entry.name().starts_with(prefix)).count())
    }

    fn has_servers(&self) -> [bool; 2] {
        ["a", "b"].map(|name| self.tokens.servers.id_of(name).is_some())
    }
}

/// A configuration of this number of tokens without a value, named by this prefix.
fn configured(folder: &Path, prefix: char, count: usize) -> Loaded {
    let path = folder.join("tokenkeep.toml");
    let state = folder.join("state");
    let mut text =
        format!("state_dir = {state:?}\n[server.{prefix}]\nurl = \"http://127.0.0.1:1\"\n");
    for n in 0..count {
        text += &format!("[token.{prefix}{n}]\nserver = \"{prefix}\"\nenv = \"NOWHERE\"\n");
    }
    fs::write(&path, text).unwrap();
    load(&path, std::iter::empty()).unwrap()
}

/// A reload that renames all tokens and their server.
fn renaming(folder: &Path) -> World {
    let mut world = World::new(configured(folder, 'a', TOKENS));
    world.begin_reload(configured(folder, 'b', TOKENS));
    world
}

#[tokio::test]
async fn large_reload_is_applied_in_steps_and_removes_tokens_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = renaming(folder.path());
    let (reply, mut outcome) = oneshot::channel();
    world.config.wait_for_reload(1, reply);
    for _ in 0..TOKENS / 2 {
        assert!(world.step());
    }
    assert_eq!(world.names(), [TOKENS / 2, 0]);
    assert_eq!(world.has_servers(), [true, true]);
    while world.config.is_reloading() {
        assert!(outcome.try_recv().is_err(), "it is not complete");
        let step = Stopwatch::start();
        world.step();
        assert!(step.elapsed() < Duration::from_secs(1), "a step is short");
    }
    assert_eq!(world.names(), [0, TOKENS]);
    assert_eq!(world.has_servers(), [false, true]);
    assert!(outcome.try_recv().unwrap().unwrap().applied);
    assert_eq!(world.tokens.scheduler.server_count(), 1);
}

#[tokio::test]
async fn reload_that_is_requested_during_another_begins_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = renaming(folder.path());
    assert_eq!(world.config.reloads.request(), (2, false));
}

#[tokio::test]
async fn pending_action_is_started_before_its_token_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(configured(folder.path(), 'a', 1));
    let id = world.tokens.registry.id_of("a0").unwrap();
    let now = crate::clock::now();
    let value = crate::secret::ValueRef::parse("a0-value-1").unwrap();
    world.tokens.on_value_found(id, value, &[]);
    world.tokens.scheduler.wake(now);
    assert!(world.tokens.has_pending_tasks());
    let mut loaded = configured(folder.path(), 'a', 1);
    loaded.settings.tokens[0].keep_alive.revoke_on_shutdown = true;
    world.begin_reload(loaded);
    let pending = world.tokens.scheduler.outputs.clone();
    assert!(!world.step());
    assert_eq!(world.tokens.scheduler.outputs, pending);
}

#[tokio::test]
async fn servers_are_released_only_when_no_action_is_pending() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = renaming(folder.path());
    let server = world.tokens.servers.id_of("a").unwrap();
    let notice = crate::scheduler::ServerNotice::Recovered { tokens: 1 };
    world
        .tokens
        .scheduler
        .outputs
        .push(crate::scheduler::SchedulerOutput::ServerNotice(server, notice));
    while world.step() {}
    assert_eq!(world.has_servers(), [true, true]);
    world.tokens.scheduler.outputs.clear();
    while world.step() {}
    assert_eq!(world.has_servers(), [false, true]);
}

#[tokio::test]
async fn shutdown_during_a_reload_answers_the_clients_that_wait_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = renaming(folder.path());
    let (reply, mut outcome) = oneshot::channel();
    world.config.wait_for_reload(1, reply);
    world.config.stop();
    assert!(!outcome.try_recv().unwrap().unwrap().applied);
    assert!(!world.config.is_reloading());
}

#[tokio::test]
async fn servers_and_reauth_methods_known_are_the_configured_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenkeep.toml");
    let configured = |n: usize| {
        let text = format!(
            "state_dir = {:?}\n[server.s{n}]\nurl = \"http://127.0.0.1:1\"\n[reauth.r{n}]\n\
             command = [\"/bin/true\"]\n[token.t]\nserver = \"s{n}\"\nenv = \"NOWHERE\"\n\
             reauth = \"r{n}\"\n",
            folder.path().join("state")
        );
        fs::write(&path, text).unwrap();
        load(&path, std::iter::empty()).unwrap()
    };
    let mut world = World::new(configured(0));
    for n in 1..20 {
        world.begin_reload(configured(n));
        while world.config.is_reloading() {
            world.step();
            world.tokens.scheduler.outputs.clear();
        }
        assert_eq!(world.tokens.scheduler.server_count(), 1);
        assert_eq!(world.tokens.reauths.iter().count(), 1);
        // A command of the configuration before may still be running.
        assert!(world.tokens.scheduler.reauth_count() <= 2);
    }
}

#[tokio::test]
async fn client_whose_build_has_not_ended_is_not_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(configured(folder.path(), 'a', 1));
    let server = world.tokens.servers.iter().next().unwrap().1.settings.clone();
    let error = CallError::new("its file is missing".to_owned());
    world.tokens.put_server(server, Err(error));
    for _ in 0..2 {
        world.config.client_retry = Some(clock::now());
        world.config.retry(clock::now(), &world.tokens);
        assert_eq!(world.config.tasks.len(), 1);
    }
    let built = world.config.next().await;
    world.config.on_event(built, &mut world.tokens);
    assert!(world.tokens.servers.iter().all(|(_, server)| server.client.is_ok()));
    assert!(world.config.building.is_empty() && world.config.client_retry.is_none());
}

#[tokio::test]
async fn retry_of_files_that_could_not_be_read_is_not_a_reload_of_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    for is_retry in [true, false] {
        let mut world = World::new(configured(folder.path(), 'a', 1));
        if is_retry {
            world.config.unread.begin_attempt();
        }
        world.begin_reload(configured(folder.path(), 'b', 1));
        while world.step() {}
        assert_eq!(world.names(), [0, 1]);
        assert_eq!(world.config.take_reloaded(), !is_retry);
    }
}
