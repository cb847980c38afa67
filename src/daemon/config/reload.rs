//! Reloads: the configuration is read on a thread, and applied in slices between checks. A
//! configuration that is rejected changes nothing.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::apply::{Application, release_unused};
use super::loader::LoadedConfig;
use super::{Config, ConfigEvent};
use crate::clock;
use crate::control::{ConfigRejection, Reloaded};
use crate::daemon::cluster::Opened;
use crate::daemon::inventories::Inventories;
use crate::daemon::metrics::Metrics;
use crate::daemon::service_manager;
use crate::daemon::tasks::blocking::blocking;
use crate::daemon::tokens::{ServerHandle, Tokens};
use crate::event_log::{self, EventName, Fields};
use crate::settings::{Cluster, Loaded, Settings, Warning};
use crate::systemd;
use crate::text::one_line;

/// Sources that are read by one task.
const CHUNK: usize = 256;

/// How many names a log line lists before it only counts.
const NAMES_IN_A_LINE: usize = 20;

/// A reload that is being applied.
#[derive(Debug)]
pub(super) struct Reload {
    application: Application,
    stage: Stage,
    needs_restart: Option<String>,
    level: Option<String>,
    warnings: Vec<Warning>,
    /// The configuration equals the one before.
    is_unchanged: bool,
    /// No operator asked for it.
    is_retry: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Apply,
    /// Servers and methods that no token uses are released.
    Release,
    /// The sources of the tokens from this one on are read.
    ReadSources(usize),
}

impl Config {
    /// Reads the configuration again while the daemon continues (SIGHUP). Returns the reload's
    /// number.
    pub(crate) fn request_reload(&mut self, tokens: &mut Tokens) -> u64 {
        let (number, begins) = self.reloads.request();
        if begins && !self.is_stopping {
            self.begin_reload(tokens);
        }
        number
    }

    fn begin_reload(&mut self, tokens: &mut Tokens) {
        service_manager::report_error(systemd::reloading(), &mut tokens.log);
        self.read(tokens);
    }

    /// The configured servers with their clients.
    pub(super) fn servers(&self, tokens: &Tokens) -> Vec<ServerHandle> {
        let configured = self.settings.servers.iter();
        let ids = configured.filter_map(|server| tokens.servers.id_of(&server.name));
        ids.map(|id| tokens.servers[id].clone()).collect()
    }

    /// Reads the configuration, beside the loop.
    pub(super) fn read(&mut self, tokens: &Tokens) {
        // While a file of etcd cannot be used, changes to tokens must still be accepted.
        let is_without = self.settings.cluster.is_some() && self.cluster_files.is_none();
        let open = if is_without { Opened::read_without_connection } else { Opened::read };
        let read = self.loader.read(self.servers(tokens), open);
        let (current, cluster_files) = (Arc::clone(&self.settings), self.cluster_files);
        self.tasks.spawn(async move {
            let mut loaded = read.await;
            let compared = blocking(move || {
                if let Ok(loaded) = &mut loaded {
                    loaded.compare_with(&current, cluster_files);
                }
                loaded
            });
            ConfigEvent::Loaded(Box::new(compared.await))
        });
    }

    /// The configuration was read.
    pub(super) fn on_loaded(&mut self, loaded: Result<LoadedConfig, String>, tokens: &mut Tokens) {
        let is_retry = self.unread.end_attempt();
        let accepted = loaded.and_then(|loaded| self.accept(loaded, is_retry, tokens));
        let Err(error) = accepted else { return };
        // The files that were left out at startup were logged then.
        if !is_retry {
            let message = "configuration reload failed; the previous configuration stays active";
            let fields = Fields { error: Some(&one_line(&error)), ..Fields::default() };
            tokens.log.event(EventName::ConfigRejected, message, fields);
            let at = clock::wall_clock();
            self.rejected = Some(ConfigRejection { at, error: error.clone() });
        }
        let outcome = Reloaded { error: Some(error), ..Reloaded::default() };
        self.end_reload(outcome, tokens);
    }

    /// Begins to apply a configuration. The error says why it is rejected.
    fn accept(
        &mut self,
        loaded: LoadedConfig,
        is_retry: bool,
        tokens: &mut Tokens,
    ) -> Result<(), String> {
        let LoadedConfig { loaded, clients, cluster_files, is_unchanged } = loaded;
        let Loaded { settings, warnings, files } = loaded;
        if removes_everything(&self.settings, &settings) {
            let file = files.first().map(|file| file.display().to_string()).unwrap_or_default();
            return Err(format!(
                "{file}: contains no server and no token, as if it had been truncated; restore it, \
                 or stop the service if no token is to be kept alive"
            ));
        }
        let level =
            (settings.log.level != self.settings.log.level).then(|| settings.log.level.clone());
        let needs_restart = needs_restart(&self.settings, &settings);
        let new = Arc::new(settings);
        let old = std::mem::replace(&mut self.settings, Arc::clone(&new));
        self.cluster_files = cluster_files;
        self.warn_of_descriptor_limit(&mut tokens.log);
        let application = Application::new(old, new, clients, tokens);
        let stage = Stage::Apply;
        let reload =
            Reload { application, stage, needs_restart, level, warnings, is_unchanged, is_retry };
        self.reload = Some(Box::new(reload));
        Ok(())
    }

    /// Whether a reload is being applied.
    pub(crate) const fn is_reloading(&self) -> bool {
        self.reload.is_some()
    }

    /// Applies a little more of a reload. Returns false if there is nothing to do in this slice.
    pub(crate) fn reload_step(
        &mut self,
        tokens: &mut Tokens,
        inventories: &mut Inventories,
        metrics: &mut Metrics,
    ) -> bool {
        let Some(reload) = &mut self.reload else { return false };
        match reload.stage {
            // They were handed out under the configuration before.
            Stage::Apply if tokens.has_pending_tasks() => return false,
            Stage::Apply => {
                if !reload.application.step(tokens, inventories) {
                    reload.stage = Stage::Release;
                }
            }
            // Actions and notices of these servers are executed first.
            Stage::Release if !tokens.scheduler.outputs.is_empty() => return false,
            Stage::Release => {
                release_unused(&self.settings, tokens, metrics);
                reload.stage = Stage::ReadSources(0);
            }
            Stage::ReadSources(next) => {
                let rest = self.settings.tokens.get(next..).unwrap_or_default();
                let chunk = rest.iter().take(CHUNK);
                let ids: Vec<_> =
                    chunk.filter_map(|token| tokens.registry.id_of(&token.name)).collect();
                let is_complete = rest.is_empty();
                tokens.request_reads(ids);
                reload.stage = Stage::ReadSources(next + CHUNK);
                if is_complete && let Some(reload) = self.reload.take() {
                    self.finish_reload(*reload, tokens, inventories);
                }
            }
        }
        true
    }

    /// A reload is applied.
    fn finish_reload(
        &mut self,
        reload: Reload,
        tokens: &mut Tokens,
        inventories: &mut Inventories,
    ) {
        let Reload { application, needs_restart, level, warnings, is_unchanged, is_retry, .. } =
            reload;
        self.unread.clear();
        self.has_reloaded |= !is_retry;
        self.rejected = None;
        self.warn(&warnings, &mut tokens.log);
        self.warn_of_watches(tokens, inventories);
        inventories.read_all();
        let diff = &application.diff;
        let [added, removed, changed] =
            [&diff.added, &diff.removed, &diff.changed].map(|names| list(names));
        // The old configuration may be large.
        drop(spawn_blocking(move || drop(application)));
        let fields = Fields {
            added: added.as_deref(),
            removed: removed.as_deref(),
            changed: changed.as_deref(),
            needs_restart: needs_restart.as_deref(),
            ..Fields::default()
        };
        let name = EventName::ConfigReloaded;
        let message = if is_unchanged {
            "configuration reloaded: unchanged"
        } else {
            "configuration reloaded"
        };
        // This line is written if the old level or the new one lets it through: scripts wait for it.
        let is_visible = event_log::enabled(name.severity());
        if is_visible {
            tokens.log.event(name, message, fields);
        }
        if let (Some(level), Some(filter)) = (level, &self.filter)
            && let Err(error) = filter.reload_filter(&level)
        {
            let message = "the previous log level stays active";
            tokens.log.config_warning(message, None, &error.to_string());
        }
        if !is_visible {
            tokens.log.event(name, message, fields);
        }
        let (applied, unchanged) = (true, is_unchanged);
        let outcome =
            Reloaded { applied, error: None, added, removed, changed, needs_restart, unchanged };
        self.end_reload(outcome, tokens);
    }

    /// A reload has ended, and the next one begins if another was requested.
    fn end_reload(&mut self, outcome: Reloaded, tokens: &mut Tokens) {
        // First: `ExecReload=` ends with the response, and systemd must know the end by then.
        service_manager::ready(&tokens.scheduler, self.rejected.as_ref(), &mut tokens.log);
        if self.reloads.end(outcome) {
            self.begin_reload(tokens);
        }
    }
}

/// Whether no server is left of a configuration that had tokens. A file that is being written or
/// was cut short is as valid as an empty one, and a daemon without tokens has no use.
fn removes_everything(old: &Settings, new: &Settings) -> bool {
    let had_tokens = !old.tokens.is_empty() || !old.inventories.is_empty();
    had_tokens && new.servers.is_empty()
}

/// The settings that only a restart can change, if they differ.
fn needs_restart(old: &Settings, new: &Settings) -> Option<String> {
    let clusters = old.cluster.as_ref().zip(new.cluster.as_ref());
    let differs = |differ: fn(&Cluster, &Cluster) -> bool| {
        clusters.is_some_and(|(old, new)| differ(old, new))
    };
    let settings = [
        ("cluster", old.cluster.is_some() != new.cluster.is_some()),
        ("cluster.name", differs(|old, new| old.name != new.name)),
        ("cluster.prefix", differs(|old, new| old.prefix != new.prefix)),
        ("cluster.failover", differs(|old, new| old.failover != new.failover)),
        ("state_dir", old.state_dir != new.state_dir),
        ("log.format", old.log.format != new.log.format),
        ("control.socket", old.control.socket != new.control.socket),
        ("control.listen", old.control.listen != new.control.listen),
        ("control.listen_hosts", old.control.listen_hosts != new.control.listen_hosts),
        ("control.listen_names", old.control.listen_names != new.control.listen_names),
    ];
    let named: Vec<_> =
        settings.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    (!named.is_empty()).then(|| named.join(","))
}

/// Names for a log line; `None` if there are none.
fn list(names: &[String]) -> Option<String> {
    let first =
        names.iter().take(NAMES_IN_A_LINE).map(String::as_str).collect::<Vec<_>>().join(",");
    match names.len() {
        0 => None,
        len if len <= NAMES_IN_A_LINE => Some(first),
        len => Some(format!("{first} and {} more", len - NAMES_IN_A_LINE)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::settings::load;

    fn settings(cluster: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenkeep.toml");
        fs::write(&path, cluster).unwrap();
        load(&path, std::iter::empty()).unwrap().settings
    }

    fn cluster(changed: &str) -> Settings {
        let lines = [
            "etcd = [\"https://10.0.0.1:2379\"]",
            "name = \"a\"",
            "prefix = \"/p\"",
            "failover = \"10s\"",
            "key = { file = \"/k\" }",
        ];
        let name = |line: &str| line.split(' ').next().map(str::to_owned);
        let lines = lines.map(|line| if name(line) == name(changed) { changed } else { line });
        settings(&format!("[cluster]\n{}\n", lines.join("\n")))
    }

    #[test]
    fn name_prefix_and_failover_of_a_replica_need_a_restart() {
        let restart = |changed| needs_restart(&cluster(""), &cluster(changed));
        assert_eq!(restart("name = \"b\"").as_deref(), Some("cluster.name"));
        assert_eq!(restart("prefix = \"/q\"").as_deref(), Some("cluster.prefix"));
        assert_eq!(restart("failover = \"9s\"").as_deref(), Some("cluster.failover"));
        assert_eq!(restart("etcd = [\"https://10.0.0.2:2379\"]"), None);
        assert_eq!(restart("key = { file = \"/l\" }"), None);
    }

    #[test]
    fn adding_or_removing_a_cluster_needs_a_restart() {
        let [alone, replica] = [settings(""), cluster("")];
        assert_eq!(needs_restart(&alone, &replica).as_deref(), Some("cluster"));
        assert_eq!(needs_restart(&replica, &alone).as_deref(), Some("cluster"));
        assert_eq!(needs_restart(&replica, &replica), None);
    }
}
