//! The configuration: read, applied, reloaded.
//!
//! Owns the current settings and everything that is known about reloads. A configuration that
//! cannot be applied whole is not applied at all.

mod apply;
mod clients;
mod descriptor_limit;
mod loader;
pub(crate) mod maintenance_windows;
mod reload;
mod reload_queue;
mod unread_files;

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

pub(crate) use self::apply::Application;
pub(crate) use self::clients::{certificate_warning, certificate_warnings, first_clients};
pub use self::descriptor_limit::needed as needed_descriptors;
pub use self::loader::Loader;

use self::clients::BuiltClient;
use self::loader::{ConfigLoader, LoadedConfig};
use self::reload::Reload;
use self::reload_queue::ReloadQueue;
use self::unread_files::UnreadFiles;
use super::inventories::Inventories;
use super::tokens::{ServerHandle, Tokens, error_text};
use crate::api::ClientError;
use crate::clock;
use crate::control::{ConfigRejection, Reloaded, Reply};
use crate::event_log::{EventLog, EventName, Fields, Guard, ReportedWarnings, Severity};
use crate::scheduler::ServerId;
use crate::settings::{ConfigError, Server, Settings, Token, Warning, WarningKind};
use crate::time::{Moment, whole_millis};
use crate::token_source::InotifyError;

/// Time between two attempts to build the clients that are missing.
const CLIENT_RETRY: Duration = Duration::from_secs(2);

/// The result of work beside the loop.
#[derive(Debug)]
pub(crate) enum ConfigEvent {
    /// The configuration was read, or why it was not.
    Loaded(Box<Result<LoadedConfig, String>>),
    /// The client of a server without one was built, or not.
    ClientBuilt(Box<BuiltClient>),
}

/// The current configuration, and its reloads.
pub(crate) struct Config {
    pub(crate) settings: Arc<Settings>,
    /// Fingerprint of the files that `[cluster]` names; `None` if one could not be used.
    cluster_files: Option<u64>,
    /// Why the configuration on disk is not the current one, if it is not.
    pub(crate) rejected: Option<ConfigRejection>,
    loader: ConfigLoader,
    tasks: JoinSet<ConfigEvent>,
    reloads: ReloadQueue,
    /// The reload that is being applied.
    reload: Option<Box<Reload>>,
    unread: UnreadFiles,
    /// When the clients that are missing are built again.
    client_retry: Option<Moment>,
    /// Servers whose client is being built: a read that hangs is not started again.
    building: HashSet<ServerId>,
    /// Warnings that were logged.
    given: ReportedWarnings,
    /// The number of descriptors that a warning was logged for.
    warned_descriptors: Option<u64>,
    /// Why files cannot be watched, if a warning was logged.
    warned_inotify_error: Option<InotifyError>,
    /// Sets the log level.
    filter: Option<Guard>,
    is_stopping: bool,
    /// A reload that an operator asked for was applied since the last
    /// [`take_reloaded`](Self::take_reloaded).
    has_reloaded: bool,
}

impl Config {
    /// A configuration that is not applied yet. To be called within a runtime.
    /// `cluster_files`: the fingerprint of the files that its `[cluster]` names.
    pub(crate) fn new(settings: Settings, cluster_files: Option<u64>, loader: Arc<Loader>) -> Self {
        Self {
            settings: Arc::new(settings),
            cluster_files,
            rejected: None,
            loader: ConfigLoader::new(loader),
            tasks: JoinSet::new(),
            reloads: ReloadQueue::default(),
            reload: None,
            unread: UnreadFiles::default(),
            client_retry: None,
            building: HashSet::new(),
            given: ReportedWarnings::default(),
            warned_descriptors: None,
            warned_inotify_error: None,
            filter: None,
            is_stopping: false,
            has_reloaded: false,
        }
    }

    /// Lets reloads change the log level.
    pub(crate) fn set_filter(&mut self, filter: Option<Guard>) {
        self.filter = filter;
    }

    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn next(&mut self) -> ConfigEvent {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(event)) => return event,
                Some(Err(_)) => {}
                None => return pending().await,
            }
        }
    }

    /// Handles an event.
    pub(crate) fn on_event(&mut self, event: ConfigEvent, tokens: &mut Tokens) {
        // Clients that wait for a reload were answered when the stop began.
        if self.is_stopping {
            return;
        }
        match event {
            ConfigEvent::Loaded(loaded) => self.on_loaded(*loaded, tokens),
            ConfigEvent::ClientBuilt(built) => self.on_client_built(*built, tokens),
        }
    }

    /// When [`retry`](Self::retry) has something to do.
    pub(crate) fn next_retry(&self) -> Option<Moment> {
        let log = self.filter.as_ref().and_then(Guard::due);
        [self.client_retry, self.unread.due(), log].into_iter().flatten().min()
    }

    /// Repeats what has failed: writing the log, and at startup building clients and reading files
    /// of `conf.d`.
    pub(crate) fn retry(&mut self, now: Moment, tokens: &Tokens) {
        if let Some(filter) = &self.filter {
            filter.retry();
        }
        if self.is_stopping {
            return;
        }
        if self.client_retry.is_some_and(|due| due <= now) {
            self.client_retry = None;
            self.build_missing_clients(tokens);
        }
        if self.unread.take_due(now) && self.reloads.begin_if_idle() {
            self.unread.begin_attempt();
            self.read(tokens);
        }
    }

    fn build_missing_clients(&mut self, tokens: &Tokens) {
        let missing = tokens.servers.iter().filter(|(_, server)| server.client.is_err());
        for (id, server) in missing {
            if self.building.insert(id) {
                self.tasks.spawn(clients::build_missing(id, server.settings.clone()));
            }
        }
    }

    fn on_client_built(&mut self, built: BuiltClient, tokens: &mut Tokens) {
        let (id, settings, client) = built;
        self.building.remove(&id);
        if let Ok(client) = client {
            // A reload may have replaced the server meanwhile.
            let server = tokens.servers.get(id);
            let is_missing =
                |server: &ServerHandle| server.client.is_err() && server.settings == settings;
            if server.is_some_and(is_missing) {
                tokens.set_client(id, settings, Ok(client));
            }
        }
        if tokens.servers.iter().any(|(_, server)| server.client.is_err()) {
            self.client_retry.get_or_insert(clock::now() + CLIENT_RETRY);
        }
    }

    /// Logs that a server has no client at startup, and schedules the next attempt to build it.
    pub(crate) fn report_unusable_server(
        &mut self,
        server: &Server,
        error: &ClientError,
        log: &mut EventLog,
    ) {
        let on_it = |token: &&Token| token.keep_alive.server == server.name;
        let tokens = self.settings.tokens.iter().filter(on_it).count();
        let text = error_text(error);
        let path = error.path().map(|path| path.display().to_string());
        let message = format!(
            "{}: no requests can be sent and no token of this server is checked: {text}; retrying \
             every {} s",
            server.name,
            CLIENT_RETRY.as_secs(),
        );
        let fields = Fields {
            server: Some(&server.name),
            error: Some(&text),
            path: path.as_deref(),
            tokens: u64::try_from(tokens).ok(),
            retry_in_ms: Some(whole_millis(CLIENT_RETRY)),
            ..Fields::default()
        };
        log.event(EventName::ServerUnavailable, &message, fields);
        self.client_retry = Some(clock::now() + CLIENT_RETRY);
    }

    /// Logs the files that the configuration is incomplete without, and schedules the next
    /// attempt to read them.
    pub(crate) fn report_unread(&mut self, unread: &[ConfigError], log: &mut EventLog) {
        for fault in unread {
            let path = fault.location.to_string();
            let error = format!("{}; {}", fault.message, fault.remedy);
            let message = format!(
                "{path} could not be read at start, so its tokens are not checked: {error}; \
                 retrying every {} s",
                unread_files::RETRY.as_secs()
            );
            let fields = Fields {
                path: Some(&path),
                error: Some(&error),
                retry_in_ms: Some(whole_millis(unread_files::RETRY)),
                ..Fields::default()
            };
            log.event(EventName::ConfigRejected, &message, fields);
        }
        if let Some(fault) = unread.first() {
            let error = format!("{}: {}", fault.location, fault.message);
            self.rejected = Some(ConfigRejection { at: clock::wall_clock(), error });
            self.unread.schedule(clock::now());
        }
    }

    /// Logs the warnings about a configuration, except those that the one before had too.
    pub(crate) fn warn(&mut self, warnings: &[Warning], log: &mut EventLog) {
        self.given.begin();
        for warning in warnings {
            // The configuration of a new package is empty, and nothing is wrong yet.
            let is_fresh =
                warning.kind == WarningKind::NoTokens && self.settings.servers.is_empty();
            let severity = if is_fresh { Severity::Info } else { Severity::Warn };
            let (place, error) = (warning.location.to_string(), &warning.remedy);
            if self.given.add((&place, &warning.message, error)) {
                let fields = Fields { path: Some(&place), error: Some(error), ..Fields::default() };
                log.event_at(severity, EventName::ConfigWarning, &warning.message, fields);
            }
        }
    }

    /// Warns if the kernel refuses to watch files, once for each limit.
    pub(crate) fn warn_of_watches(&mut self, tokens: &mut Tokens, inventories: &Inventories) {
        let inotify_error = tokens.watcher.inotify_error().or_else(|| inventories.inotify_error());
        if std::mem::replace(&mut self.warned_inotify_error, inotify_error) == inotify_error {
            return;
        }
        if let Some(inotify_error) = inotify_error {
            let message = "files cannot be watched, so that they are compared every 2 s";
            tokens.log.config_warning(message, None, &inotify_error.to_string());
        }
    }

    /// Warns if the limit of descriptors does not fit the configuration, once for each need.
    pub(crate) fn warn_of_descriptor_limit(&mut self, log: &mut EventLog) {
        let Some((needed, error)) = descriptor_limit::exceeded(&self.settings) else { return };
        if self.warned_descriptors.replace(needed) != Some(needed) {
            log.config_warning("the limit on open files is too low", None, &error);
        }
    }

    /// A client waits for the end of a reload.
    pub(crate) fn wait_for_reload(&mut self, number: u64, reply: Reply<Reloaded>) {
        self.reloads.wait(number, reply);
    }

    /// The daemon stops: a reload that is not complete ends, and no other begins.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
        self.reload = None;
        self.tasks.abort_all();
        let error = Some("tokenkeep is stopping".to_owned());
        while self.reloads.is_running() {
            self.reloads.end(Reloaded { error: error.clone(), ..Reloaded::default() });
        }
    }

    /// Whether a reload that an operator asked for was applied since the last call.
    pub(crate) const fn take_reloaded(&mut self) -> bool {
        std::mem::replace(&mut self.has_reloaded, false)
    }

    /// Whether the daemon is stopping.
    pub(crate) const fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Lines that the log has dropped.
    pub(crate) fn dropped_lines(&self) -> u64 {
        self.filter.as_ref().map_or(0, Guard::dropped_lines)
    }
}

#[cfg(test)]
mod tests;
