//! Applying a configuration, step by step: at a reload the loop does what is due in between.
//!
//! Servers come first, then the tokens that are removed, and then those that are added or changed:
//! a token that is renamed keeps its file to itself, and a token that was not reached yet stays as
//! it was. At the end, servers and methods that no token uses any more are released.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock;
use crate::daemon::Daemon;
use crate::daemon::inventories::events::Following;
use crate::daemon::tokens::server_client::ServerClient;
use crate::daemon::tokens::{TokenEntry, TokenOrigin};
use crate::lifecycle::Policy;
use crate::settings::Settings;

/// What a reload did, by name.
#[derive(Debug, Default)]
pub(crate) struct ConfigDiff {
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) changed: Vec<String>,
}

/// Where an application is.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Next comes this token of the old configuration, which may be gone from the new one.
    Remove(usize),
    /// Next comes this token of the new configuration.
    Put(usize),
    /// Tokens follow their inventories.
    Follow,
}

/// A configuration that is being applied.
#[derive(Debug)]
pub(crate) struct Application {
    old: Arc<Settings>,
    new: Arc<Settings>,
    step: Step,
    /// Tokens with the same rules share them.
    policies: Vec<Arc<Policy>>,
    following: Vec<Following>,
    pub(crate) changes: ConfigDiff,
}

impl Application {
    /// Begins to apply what the daemon's settings are from now on, in place of the `old` ones;
    /// `clients` are those of servers that are new or changed.
    pub(crate) fn new(
        daemon: &mut Daemon,
        old: Arc<Settings>,
        mut clients: BTreeMap<String, ServerClient>,
    ) -> Self {
        let new = Arc::clone(&daemon.settings);
        daemon.tokens.scheduler.set_max_hooks(new.max_hooks);
        daemon.watcher.read_mounts();
        for server in &new.servers {
            if let Some(client) = clients.remove(&server.name) {
                daemon.put_server(server.clone(), client);
            }
        }
        let (policies, following, changes) = (Vec::new(), Vec::new(), ConfigDiff::default());
        Self { old, new, step: Step::Remove(0), policies, following, changes }
    }
}

impl Daemon {
    /// Applies a little more of a configuration; false once all of it is applied.
    pub(crate) fn apply_some(&mut self, application: &mut Application) -> bool {
        let Application { old, new, step, policies, following, changes } = application;
        match *step {
            Step::Remove(next) => {
                if let Some(token) = old.tokens.get(next) {
                    *step = Step::Remove(next + 1);
                    let name = &token.name;
                    if new.tokens.binary_search_by(|token| token.name.cmp(name)).is_err() {
                        self.remove_own(name, changes);
                    }
                } else {
                    new.reauths.iter().for_each(|reauth| self.put_reauth(reauth));
                    self.close_for_quiet(clock::now());
                    *step = Step::Put(0);
                }
            }
            Step::Put(next) => {
                if let Some(token) = new.tokens.get(next) {
                    *step = Step::Put(next + 1);
                    let origin = TokenOrigin::Own(token.source.clone());
                    if let Some((terms, spec)) = self.terms(&token.upkeep, origin, policies) {
                        self.put_token(&token.name, terms, spec, changes);
                    }
                } else {
                    *following = self.put_inventories(&new.inventories, policies, changes);
                    *step = Step::Follow;
                }
            }
            Step::Follow => {
                if !self.follow(following) {
                    self.remove_stale();
                    return false;
                }
            }
        }
        true
    }

    /// A `[token.NAME]` is not configured any more.
    fn remove_own(&mut self, name: &str, changes: &mut ConfigDiff) {
        let own = |kept: TokenEntry<'_>| kept.stock().is_none();
        if let Some(id) = self.tokens.registry.id_of(name)
            && self.tokens.registry.token(id).is_some_and(own)
        {
            changes.removed.push(name.to_owned());
            self.let_go(id);
        }
    }
}
