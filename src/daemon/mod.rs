//! The daemon: one loop over the timer, answers, hooks, files and signals.
//!
//! The only place where effects meet the world. It owns the token values and the clock's
//! readings; every decision is the keeper's. There is no task for each token: a future for
//! each effect under way, and those are limited by the keeper's gates.

mod config;
pub(crate) mod control;
mod inventories;
mod main_loop;
mod metrics;
mod notices;
mod queries;
mod restore;
mod service_manager;
mod service_manager_watchdog;
mod shutdown;
mod state;
mod tasks;
mod tokens;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

use self::config::Backlog;
use self::config::loader::ConfigLoader;
use self::config::reload_queue::ReloadQueue;
use self::config::unread_files::UnreadFiles;
use self::control::queue::ControlQueue;
use self::inventories::Inventories;
use self::inventories::death_checks::Deaths;
use self::metrics::Metrics;
use self::restore::deferred::DeferredRestore;
use self::service_manager::StatusNotifier;
pub(crate) use self::service_manager::grouped;
use self::service_manager_watchdog::Watchdog;
use self::state::recorder::StateRecorder;
use self::tasks::keyed_lock::KeyedLocks;
use self::tasks::task_set::TaskSet;
use self::tokens::file_retries::Unwritten;
use self::tokens::server_client::ClientRetries;
use self::tokens::{ServerHandle, Tokens};
use crate::api::ClientError;
use crate::clock::{self, Alarm};
use crate::control::ConfigRejection;
use crate::events::{self, Fields, Given, Guard, Journal, Name, Severity};
use crate::keeper::{Output, ServerNotice, Ticket};
use crate::lifecycle::{Effect, Method, Notice};
use crate::process;
use crate::secret::{TokenValue, ValueRef};
use crate::settings::{Faults, Loaded, Settings};
use crate::store::{Store, Writer};
use crate::time::Moment;
use crate::token_file::{StoreFault, Watcher};

/// How long after a signal to stop the daemon waits for what must not be lost: a value that
/// is being obtained, renewed or written. Well within the unit's `TimeoutStopSec`.
pub const GRACE: Duration = Duration::from_secs(10);

/// Passes over what the scheduler hands out in one go. What cancelled actions lead to is done in
/// the next pass, and what is left after the last one in the next round.
const PASSES: usize = 8;

/// How a round of the loop ended.
enum Round {
    /// Something happened and was handled.
    Worked,
    /// A signal came; `None` if no more can come.
    Signal(Option<i32>),
    /// The loop is to end.
    Over,
}

/// Reads the configuration again, for a reload.
pub type Loader = dyn Fn() -> Result<Loaded, Faults> + Send + Sync;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A server cannot be spoken to as it is configured.
    #[error("[server.{name}]: {error}")]
    Client {
        /// The server's name.
        name: String,
        /// Why.
        #[source]
        error: ClientError,
    },
    /// Another daemon keeps the same state directory.
    #[error(transparent)]
    Locked(StoreFault),
    /// The system refused something that nothing works without.
    #[error("{doing}: {error}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// The daemon and all that it holds.
pub struct Daemon {
    settings: Arc<Settings>,
    reader: ConfigLoader,
    log: Option<Guard>,
    tokens: Tokens,
    store: Option<Writer>,
    watcher: Watcher,
    stocks: Inventories,
    journal: Journal,
    /// Warnings about the configuration that were given.
    given: Given,
    status: StatusNotifier,
    watchdog: Watchdog,
    memory: StateRecorder,
    control: ControlQueue,
    figures: Metrics,
    late: DeferredRestore,
    signals: Signals,
    /// TaskSet that lose nothing when they are dropped: queries, and looks at files.
    queries: TaskSet,
    /// Renewing calls: the response may name another value, so they are not dropped.
    renewals: TaskSet,
    /// TaskSet that can produce or persist a token value. Shutdown waits for them.
    deeds: TaskSet,
    /// Actions that the scheduler has handed out and that have not ended.
    open_actions: usize,
    /// Attempts at new values, by token.
    logins: KeyedLocks,
    /// Writes of token files, by path, with the value of one that was given up.
    writes: KeyedLocks<Option<TokenValue>>,
    unwritten: Unwritten,
    deaths: Deaths,
    client_retries: ClientRetries,
    unread: UnreadFiles,
    /// The last round of the loop.
    woke: Moment,
    reloads: ReloadQueue,
    /// Why the daemon does not run by the configuration on disk, if it does not.
    config_rejected: Option<ConfigRejection>,
    backlog: Backlog,
    stopping: bool,
}

impl Daemon {
    /// A daemon that is ready to keep what `settings` say. To be called within a runtime.
    ///
    /// `log` lets a reload change the filter.
    ///
    /// # Errors
    ///
    /// When a server's client cannot be built, another daemon has the state directory, or the
    /// system refuses signals.
    pub fn new(
        settings: Settings,
        loader: Arc<Loader>,
        log: Option<Guard>,
    ) -> Result<Self, DaemonError> {
        match Self::build(settings, loader) {
            Ok(daemon) => Ok(Self { log, ..daemon }),
            Err(error) => {
                events::emit_failed_start(&error.to_string());
                Err(error)
            }
        }
    }

    fn build(settings: Settings, loader: Arc<Loader>) -> Result<Self, DaemonError> {
        // First of all: reading many sources takes its time, and a SIGHUP that nobody catches kills.
        let mut caught = vec![SIGHUP, SIGTERM, SIGINT];
        if process::is_init() {
            caught.push(SIGCHLD);
        }
        let signals = Signals::new(caught).map_err(system("catching signals"))?;
        let mut daemon = Self {
            tokens: Tokens::new(settings.max_hooks, fastrand::u64(..)),
            store: None,
            watcher: Watcher::new(),
            stocks: Inventories::new(),
            journal: Journal::new(),
            given: Given::default(),
            status: StatusNotifier::new(),
            watchdog: Watchdog::new(),
            memory: StateRecorder::default(),
            control: ControlQueue::new(),
            figures: Metrics::new(),
            late: DeferredRestore::default(),
            signals,
            queries: TaskSet::default(),
            renewals: TaskSet::default(),
            deeds: TaskSet::default(),
            open_actions: 0,
            logins: KeyedLocks::default(),
            writes: KeyedLocks::default(),
            unwritten: Unwritten::default(),
            deaths: Deaths::default(),
            client_retries: ClientRetries::default(),
            unread: UnreadFiles::default(),
            woke: Moment::default(),
            reloads: ReloadQueue::default(),
            config_rejected: None,
            backlog: Backlog::default(),
            stopping: false,
            reader: ConfigLoader::new(loader),
            log: None,
            settings: Arc::new(settings),
        };
        let settings = Arc::clone(&daemon.settings);
        let (clients, unusable) = tokens::server_client::first_clients(&settings.servers)?;
        let store = match Store::open(&settings.state_dir) {
            Err(fault @ StoreFault::Locked { .. }) => return Err(DaemonError::Locked(fault)),
            store => store,
        };
        let tokens = u64::try_from(settings.tokens.len()).ok();
        let version = Some(env!("CARGO_PKG_VERSION"));
        let fields = Fields { tokens, version, ..Fields::default() };
        daemon.say(Name::DaemonStarted, Severity::Info, "tokenkeep has started", fields);
        for (server, error) in &unusable {
            daemon.report_unusable_server(server, error);
        }
        daemon.warn_of_limits();
        let store = daemon.opened(store);
        daemon.warn(&config::objects::certificate_warnings(&clients));
        daemon.apply_first(clients, store);
        Ok(daemon)
    }

    /// Runs until SIGTERM or SIGINT, or until `until` comes true, and then winds down.
    ///
    /// # Errors
    ///
    /// When the system refuses timers.
    pub async fn run(mut self, until: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let mut alarm = Alarm::new().map_err(system("creating a timer"))?;
        let mut until = std::pin::pin!(until);
        self.wake();
        self.ready();
        self.remove_leftovers();
        if process::take_early_hangup() {
            self.reload();
        }
        loop {
            match self.round(&mut alarm, &mut until).await? {
                Round::Worked => {}
                Round::Signal(Some(SIGHUP)) => drop(self.reload()),
                Round::Signal(Some(SIGCHLD)) => process::reap_orphans(),
                Round::Signal(_) | Round::Over => break,
            }
        }
        Box::pin(self.wind_down(alarm)).await;
        Ok(())
    }

    /// Waits for something to happen, and does what comes of it.
    async fn round(
        &mut self,
        alarm: &mut Alarm,
        until: impl Future<Output = ()>,
    ) -> Result<Round, DaemonError> {
        alarm.set_by(self.next_wake()).map_err(system("setting a timer"))?;
        tokio::select! {
            biased;
            signal = self.signals.next() => return Ok(Round::Signal(signal)),
            () = until => return Ok(Round::Over),
            Some(ended) = self.queries.next() => self.queries_ended(ended),
            Some(ended) = self.renewals.next() => self.ended_task(ended),
            Some(ended) = self.deeds.next() => self.ended_task(ended),
            changed = self.watcher.changed() => self.look_at(changed),
            report = state::recorder::report(&mut self.store) => self.reported(report),
            news = self.stocks.news(), if !self.stopping => self.restock(news),
            _ = alarm.rings() => {}
            () = self.backlog.wants_a_turn() => {}
            command = self.control.next() => self.attend(command),
        }
        self.wake();
        self.attend_in_turn();
        self.work();
        Ok(Round::Worked)
    }

    /// Starts the actions and writes the notices that the scheduler has handed out. Each action is
    /// started, or cancelled if it cannot be; what the scheduler hands out for a cancelled one is
    /// performed as well.
    fn perform(&mut self) {
        for _ in 0..PASSES {
            if self.tokens.actions.is_empty() {
                break;
            }
            let now = clock::now();
            for output in std::mem::take(&mut self.tokens.actions) {
                self.perform_one(output, now);
            }
        }
        debug_assert_eq!(
            self.open_actions,
            self.queries.actions() + self.renewals.actions() + self.deeds.actions(),
            "in flight = started - ended"
        );
    }

    fn perform_one(&mut self, output: Output, now: Moment) {
        match output {
            Output::Effect(ticket, effect) => {
                self.open_actions += 1;
                // The token may have been removed since, and its number given to another one.
                if !self.tokens.scheduler.expects(ticket) || self.start(ticket, effect).is_none() {
                    self.cancel(ticket);
                }
            }
            Output::ReauthExhausted { reauth, failures, retry_in_ms } => {
                if let Some(reauth) = self.tokens.registry.reauth(reauth) {
                    notices::reauth(&mut self.journal, now, &reauth.name, failures, retry_in_ms);
                }
            }
            Output::Server(id, notice) => {
                let Some(ServerHandle { settings: server, client }) =
                    self.tokens.registry.find_remote(id)
                else {
                    return;
                };
                let name = &server.name;
                // Reported when its client could not be built.
                if matches!(notice, ServerNotice::Unavailable { .. }) && !client.is_built() {
                    return;
                }
                if let (ServerNotice::RenewalLearned(method), Some(store)) = (&notice, &self.store)
                {
                    store.keep_lesson(name, server.url.as_str(), *method == Method::Renew);
                }
                notices::server(&mut self.journal, now, name, &notice);
            }
            Output::Token(id, notice) if self.waits_for_file(id, &notice) => {}
            Output::Token(id, notice) => {
                self.note(id, &notice);
                self.heed(id, &notice);
                self.count_notice(id, &notice);
                let Some(kept) = self.tokens.registry.token(id) else { return };
                let hook_succeeded =
                    matches!(notice, Notice::ReauthSucceeded { .. }) && kept.has_hook();
                let fields = Fields {
                    token: Some(kept.name()),
                    server: Some(&self.tokens.registry.remote(kept.terms().server).settings.name),
                    exit_status: hook_succeeded.then_some(0),
                    ..Fields::default()
                };
                notices::token(&mut self.journal, now, &fields, &notice);
            }
        }
    }

    /// An action was not begun, or will never complete: the scheduler gets back what it occupies.
    fn cancel(&mut self, ticket: Ticket) {
        self.open_actions -= 1;
        self.tokens.scheduler.cancel(ticket, clock::now(), &mut self.tokens.actions);
    }

    /// Starts an action; `None` if what it needs is not there.
    fn start(&mut self, ticket: Ticket, effect: Effect) -> Option<()> {
        let kept = self.tokens.registry.token(ticket.token)?;
        let remote = self.tokens.registry.remote(kept.terms().server);
        let client = remote.client.clone();
        match effect {
            Effect::Ask { method, slot, timeout, connection } => {
                let value = kept.value(slot).map(ValueRef::to_value)?;
                if kept.stock().is_none() {
                    self.watcher.check(ticket.token.key());
                }
                let set = match method {
                    Method::Query => &mut self.queries,
                    Method::Renew => &mut self.renewals,
                };
                let about = ((slot, value), (timeout, connection));
                set.start(ticket, tasks::ask(ticket, client, method, about.0, about.1));
            }
            Effect::Reauth { reason, attempt } => {
                let reauth = kept.terms().reauth.clone()?;
                let need = tasks::reauth::ReauthRequest::of(kept, remote, reason, attempt);
                let (method, timeout) = (reauth.method.clone(), reauth.timeout);
                let counted = self.count_attempts_now(ticket.token);
                let turn = self.logins.take(&*need.name);
                let first = (turn, counted);
                let login = tasks::reauth::reauth(ticket, client, method, timeout, need, first);
                self.deeds.start(ticket, login);
            }
            Effect::Revoke { slot, timeout } => {
                let value = kept.value(slot).map(ValueRef::to_value)?;
                self.deeds.start(ticket, tasks::revoke(ticket, client, value, timeout));
            }
            Effect::Store { slot } => {
                let value = kept.value(slot).map(ValueRef::to_value)?;
                let in_source = kept.in_source().map(ValueRef::to_value);
                match (kept.file(), &mut self.store) {
                    (Some(path), _) => {
                        let turn = self.writes.take(&path);
                        let write =
                            tasks::write_back::store_in_file(ticket, turn, path, value, in_source);
                        self.deeds.start(ticket, write);
                    }
                    (None, store) => {
                        let kept = store
                            .as_mut()
                            .map(|store| store.keep_value(kept.name(), value.clone(), in_source));
                        self.deeds
                            .start(ticket, tasks::write_back::store_by_name(ticket, value, kept));
                    }
                }
            }
        }
        Some(())
    }

    #[expect(
        clippy::large_types_passed_by_value,
        reason = "most callers build the fields in place"
    )]
    fn say(&mut self, name: Name, severity: Severity, message: &str, fields: Fields<'_>) {
        self.journal.write(clock::now(), name, severity, message, fields);
    }
}

/// The error of a system that refuses to do this.
const fn system(doing: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |error| DaemonError::System { doing, error }
}
