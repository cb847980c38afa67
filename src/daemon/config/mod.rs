//! Reloading the configuration while the daemon runs. It is read on a thread, and applied in
//! slices between checks; a configuration that is refused changes nothing.

pub(crate) mod apply;
mod descriptor_limit;
pub(crate) mod loader;
mod maintenance_windows;
pub(crate) mod objects;
pub(crate) mod reload_queue;
pub(crate) mod unread_files;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{spawn_blocking, yield_now};

use crate::clock::{self, Stopwatch};
use crate::control::{ConfigRejection, Reloaded};
use crate::daemon::Daemon;
use crate::daemon::config::apply::Application;
use crate::daemon::config::loader::LoadedConfig;
use crate::daemon::tasks::blocking::blocking;
use crate::daemon::tasks::{Completion, SourceRead};
use crate::daemon::tokens::ServerHandle;
use crate::events::{self, Fields, Name, Severity};
use crate::settings::{Loaded, Settings, Warning};
use crate::systemd;

/// How long the loop works on what has no due time before it does what is due.
const SLICE: Duration = Duration::from_millis(2);

/// Sources that are read in one go.
const CHUNK: usize = 256;

/// Sources that are taken over at once, as this takes no time to speak of.
const FEW: usize = 16;

/// How many names a log line lists before it only counts.
const NAMES_IN_A_LINE: usize = 20;

/// A reload that is being applied.
#[derive(Debug)]
struct Reload {
    application: Application,
    /// What has become of the reload once it is applied.
    needs_restart: Option<String>,
    level: Option<String>,
    warnings: Vec<Warning>,
    /// It says what the one before said.
    unchanged: bool,
    /// All is applied, and the sources from this token on are to be read.
    sources: Option<usize>,
}

/// What the loop does in slices.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    reload: Option<Box<Reload>>,
    /// Sources that were read, in the order in which that was done.
    looks: VecDeque<SourceRead>,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.reload.is_none() && self.looks.is_empty()
    }

    /// Comes when there is something to do, once everything else that is ready has had its turn.
    pub(crate) async fn wants_a_turn(&self) {
        if self.is_empty() {
            std::future::pending::<()>().await;
        } else {
            yield_now().await;
        }
    }
}

impl Daemon {
    /// SIGHUP: the configuration is read again while the daemon continues. Returns the reload's
    /// number.
    pub(crate) fn reload(&mut self) -> u64 {
        let (number, now) = self.reloads.ask();
        if now {
            self.told(systemd::reloading());
            self.read_configuration();
        }
        number
    }

    /// The configured servers with their clients.
    fn remotes(&self) -> Vec<ServerHandle> {
        let known =
            self.settings.servers.iter().filter_map(|it| self.tokens.registry.server_of(&it.name));
        known.map(|id| self.tokens.registry.remote(id).clone()).collect()
    }

    pub(crate) fn read_configuration(&mut self) {
        let reading = self.reader.read(self.remotes());
        let old = Arc::clone(&self.settings);
        self.queries.spawn(async {
            let mut fresh = reading.await;
            let compared = blocking(move || {
                if let Ok(fresh) = &mut fresh {
                    fresh.compare_with(&old);
                }
                fresh
            });
            Completion::Loaded(Box::new(compared.await))
        });
    }

    /// The configuration was read. A small one is applied at once.
    pub(crate) fn loaded(&mut self, fresh: Result<LoadedConfig, String>) {
        if self.stopping {
            return self.give_up_reload();
        }
        let is_retry = self.unread.take_attempt();
        let refused = match fresh {
            Ok(fresh) => self.begin_reload(fresh),
            Err(error) => Some(error),
        };
        match refused {
            // What was left out at the start was reported then.
            Some(error) if is_retry => {
                self.end_reload(Reloaded { error: Some(error), ..Reloaded::default() });
            }
            Some(error) => {
                let outcome = self.reject(&error);
                self.end_reload(outcome);
            }
            None => self.work(),
        }
    }

    /// Begins to apply a configuration; says why it is refused.
    fn begin_reload(&mut self, fresh: LoadedConfig) -> Option<String> {
        let LoadedConfig { loaded, clients, unchanged } = fresh;
        let Loaded { settings, warnings, files } = loaded;
        if takes_all_away(&self.settings, &settings) {
            let file = files.first().map(|file| file.display().to_string()).unwrap_or_default();
            return Some(format!(
                "{file}: no server and no token is left in it, as if it had been cut short; \
                 write it anew, or stop the service if nothing is to be kept alive"
            ));
        }
        let level =
            (settings.log.level != self.settings.log.level).then(|| settings.log.level.clone());
        let needs_restart = needs_restart(&self.settings, &settings);
        let old = std::mem::replace(&mut self.settings, Arc::new(settings));
        self.warn_of_limits();
        let application = Application::new(self, old, clients);
        let sources = None;
        let reload = Reload { application, needs_restart, level, warnings, unchanged, sources };
        self.backlog.reload = Some(Box::new(reload));
        None
    }

    /// Sources were read: what they hold is taken over now if they are few, otherwise in slices.
    pub(crate) fn take_looks(&mut self, looks: Vec<SourceRead>) {
        let few = looks.len() <= FEW && self.backlog.looks.is_empty();
        self.backlog.looks.extend(looks);
        if few {
            self.work();
        }
    }

    /// A source was read at a moment that counts: what it held before, and is still to be taken
    /// over, is read again.
    pub(crate) fn take_look_now(&mut self, look: SourceRead) {
        let id = look.id;
        self.looked(look);
        if !self.backlog.looks.is_empty() {
            self.tokens.registry.outdate_looks(id);
        }
        self.tell_of_stocks();
    }

    /// Works on the backlog until nothing is left of it.
    #[cfg(test)]
    pub(crate) fn work_off(&mut self) {
        while !self.backlog.is_empty() {
            self.work();
        }
    }

    /// Works on the backlog for a slice of time.
    pub(crate) fn work(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        let slice = Stopwatch::start();
        let mut looked = false;
        while slice.elapsed() < SLICE {
            if let Some(look) = self.backlog.looks.pop_front() {
                self.looked(look);
                looked = true;
            } else if let Some(mut reload) = self.backlog.reload.take() {
                if self.reload_some(&mut reload) {
                    self.backlog.reload = Some(reload);
                } else {
                    self.finish_reload(*reload);
                }
            } else {
                break;
            }
        }
        if looked {
            self.tell_of_stocks();
        }
        self.perform();
    }

    /// Goes on with a reload; false once it is complete.
    fn reload_some(&mut self, reload: &mut Reload) -> bool {
        let Some(next) = reload.sources else {
            if !self.apply_some(&mut reload.application) {
                reload.sources = Some(0);
            }
            return true;
        };
        let settings = Arc::clone(&self.settings);
        let Some(tokens) = settings.tokens.get(next..).filter(|tokens| !tokens.is_empty()) else {
            return false;
        };
        let chunk = tokens.iter().take(CHUNK);
        let ids: Vec<_> =
            chunk.filter_map(|token| self.tokens.registry.id_of(&token.name)).collect();
        self.look_at_tokens(ids);
        reload.sources = Some(next + CHUNK);
        true
    }

    /// A reload is applied.
    fn finish_reload(&mut self, reload: Reload) {
        let Reload { application, needs_restart, level, warnings, unchanged, .. } = reload;
        self.unread.clear();
        self.config_rejected = None;
        self.warn(&warnings);
        self.read_all();
        let changes = &application.changes;
        let [added, removed, changed] =
            [&changes.added, &changes.removed, &changes.changed].map(|names| list(names));
        // The old configuration may be large.
        drop(spawn_blocking(move || drop(application)));
        let fields = Fields {
            added: added.as_deref(),
            removed: removed.as_deref(),
            changed: changed.as_deref(),
            needs_restart: needs_restart.as_deref(),
            ..Fields::default()
        };
        let (name, severity) = (Name::ConfigReloaded, Severity::Info);
        let message =
            if unchanged { "configuration reloaded: unchanged" } else { "configuration reloaded" };
        // Whoever waits for this line sees it, if the old level or the new one lets it through.
        let visible = events::enabled(severity);
        if visible {
            self.say(name, severity, message, fields);
        }
        if let (Some(level), Some(log)) = (level, &self.log)
            && let Err(error) = log.reload_filter(&level)
        {
            let error = error.to_string();
            let fields = Fields { error: Some(&error), ..Fields::default() };
            self.say(Name::ConfigWarning, Severity::Warn, "the old log level goes on", fields);
        }
        if !visible {
            self.say(name, severity, message, fields);
        }
        self.end_reload(Reloaded {
            applied: true,
            error: None,
            added,
            removed,
            changed,
            needs_restart,
            unchanged,
        });
    }

    /// A reload has ended, and the next one begins if another one was asked for.
    fn end_reload(&mut self, outcome: Reloaded) {
        // First of all: `ExecReload=` ends with the answer, and systemd must know the end by then.
        self.told(systemd::ready(&self.status_line()));
        let next = self.reloads.end(outcome);
        if next {
            self.told(systemd::reloading());
            self.read_configuration();
        }
    }

    /// The daemon stops in the middle of a reload.
    fn give_up_reload(&mut self) {
        let error = Some("tokenkeep is stopping".to_owned());
        while self.reloads.end(Reloaded { error: error.clone(), ..Reloaded::default() }) {}
    }

    /// The daemon stops: what was not applied yet stays as it was.
    pub(crate) fn stop_reload(&mut self) {
        if self.backlog.reload.take().is_some() {
            self.give_up_reload();
        }
    }

    fn reject(&mut self, error: &str) -> Reloaded {
        self.say(
            Name::ConfigRejected,
            Severity::Error,
            "configuration reload failed; the previous configuration stays active",
            Fields { error: Some(error), ..Fields::default() },
        );
        let rejection = ConfigRejection { at: clock::wall_clock(), error: error.to_owned() };
        self.config_rejected = Some(rejection);
        Reloaded { error: Some(error.to_owned()), ..Reloaded::default() }
    }
}

/// Whether nothing is left of what there was: a file that is being written or was cut short is
/// as valid as an empty one, and nobody needs a daemon that keeps nothing.
fn takes_all_away(old: &Settings, new: &Settings) -> bool {
    let kept_some = !old.tokens.is_empty() || !old.inventories.is_empty();
    kept_some && new.servers.is_empty()
}

/// The settings that only a restart can change, where they differ.
fn needs_restart(old: &Settings, new: &Settings) -> Option<String> {
    let settings = [
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

/// Names for a log line; `None` for none.
fn list(names: &[String]) -> Option<String> {
    let told = names.iter().take(NAMES_IN_A_LINE).map(String::as_str).collect::<Vec<_>>().join(",");
    match names.len() {
        0 => None,
        len if len <= NAMES_IN_A_LINE => Some(told),
        len => Some(format!("{told} and {} more", len - NAMES_IN_A_LINE)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tokio::sync::oneshot;

    use super::*;
    use crate::settings::load;

    const TOKENS: usize = 4_000;

    /// A configuration of so many tokens without a value, with this before their numbers.
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

    fn fresh(daemon: &Daemon, loaded: Loaded) -> Result<LoadedConfig, String> {
        LoadedConfig::new(loaded, &daemon.remotes())
    }

    /// A daemon in the middle of a reload that renames all tokens and their server.
    fn in_the_middle(folder: &Path) -> Daemon {
        let Loaded { settings, .. } = configured(folder, 'a', TOKENS);
        let mut daemon = Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap();
        daemon.reloads.ask();
        let fresh = fresh(&daemon, configured(folder, 'b', TOKENS));
        daemon.loaded(fresh);
        daemon
    }

    /// How many tokens have names of the old configuration, and of the new one.
    fn names(daemon: &Daemon) -> [usize; 2] {
        let of = |prefix| {
            daemon.tokens.registry.ids().filter(move |(_, kept)| kept.name().starts_with(prefix))
        };
        [of('a').count(), of('b').count()]
    }

    #[tokio::test]
    async fn large_reload_is_applied_in_slices_and_old_tokens_stay_until_their_turn() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = in_the_middle(folder.path());
        let (reply, mut outcome) = oneshot::channel();
        daemon.reloads.wait(1, reply);
        let [old, new] = names(&daemon);
        assert!(old > 0 && old < TOKENS && new == 0, "removed first: {old} {new}");
        assert!(
            daemon.tokens.registry.server_of("a").is_some()
                && daemon.tokens.registry.server_of("b").is_some()
        );
        let mut slices = 1;
        while !daemon.backlog.is_empty() {
            assert!(outcome.try_recv().is_err(), "it is not complete");
            daemon.work();
            slices += 1;
        }
        assert!(slices > 3, "{slices}");
        assert_eq!(names(&daemon), [0, TOKENS]);
        assert!(outcome.try_recv().unwrap().unwrap().applied);
        assert_eq!(
            (daemon.tokens.registry.server_of("a"), daemon.tokens.scheduler.servers_known()),
            (None, 1)
        );
    }

    #[tokio::test]
    async fn reload_that_is_asked_for_in_the_middle_of_another_begins_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = in_the_middle(folder.path());
        assert_eq!(daemon.reloads.ask(), (2, false));
    }

    #[tokio::test]
    async fn shutdown_in_the_middle_of_a_reload_answers_those_who_wait_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = in_the_middle(folder.path());
        let (reply, mut outcome) = oneshot::channel();
        daemon.reloads.wait(1, reply);
        daemon.stop_reload();
        assert!(!outcome.try_recv().unwrap().unwrap().applied);
        assert!(daemon.backlog.is_empty());
    }

    #[tokio::test]
    async fn servers_and_reauth_entries_known_are_the_configured_ones() {
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
        let Loaded { settings, .. } = configured(0);
        let mut daemon = Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap();
        for n in 1..20 {
            daemon.reloads.ask();
            let fresh = fresh(&daemon, configured(n));
            daemon.loaded(fresh);
            while !daemon.backlog.is_empty() {
                daemon.work();
            }
            assert_eq!(daemon.tokens.scheduler.servers_known(), 1);
            assert_eq!(daemon.tokens.registry.reauths().count(), 1);
            // A command that was begun by the one before may still be under way.
            assert!(
                daemon.tokens.scheduler.reauths_known() <= 2,
                "{}",
                daemon.tokens.scheduler.reauths_known()
            );
        }
    }
}
