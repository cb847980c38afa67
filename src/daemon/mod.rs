//! The daemon: one loop over the timer, answers, hooks, files and signals.
//!
//! The only place where effects meet the world. It owns the token values and the clock's
//! readings; every decision is the keeper's. There is no task for each token: a future for
//! each effect under way, and those are limited by the keeper's gates.

mod apply;
mod deeds;
mod farewell;
mod memory;
mod quiet;
mod report;
mod roster;
mod sources;
mod status;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::task::JoinSet;

use self::deeds::{Done, Obtained, Stored};
use self::memory::Memory;
use self::roster::{LastWords, Remote, Roster};
use self::status::StatusLine;
use crate::api::ClientError;
use crate::clock::{self, Alarm};
use crate::events::{Fields, Guard, Journal, Name, Severity};
use crate::keeper::{Keeper, Output, ServerNotice, Ticket};
use crate::lifecycle::{Effect, Method, Notice, ReauthEnd, ReauthFault, Reauthenticated};
use crate::settings::{Faults, Loaded, Settings, Source};
use crate::store::Writer;
use crate::systemd;
use crate::time::Moment;
use crate::token_file::{StoreFault, Watcher};

/// How long after a signal to stop the daemon waits for what must not be lost: a value that
/// is being obtained, renewed or written. Well within the unit's `TimeoutStopSec`.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long the last write to the store may take then.
const LAST_WRITE: Duration = Duration::from_secs(2);

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
    settings: Settings,
    loader: Arc<Loader>,
    log: Option<Guard>,
    keeper: Keeper,
    roster: Roster,
    store: Option<Writer>,
    watcher: Watcher,
    journal: Journal,
    status: StatusLine,
    memory: Memory,
    /// Calls that lose nothing when they are dropped.
    queries: JoinSet<Done>,
    /// What may bring or keep a value, and must be waited for at the end.
    deeds: JoinSet<Done>,
    outputs: Vec<Output>,
    reloading: bool,
    reload_again: bool,
    stopping: bool,
}

impl Daemon {
    /// A daemon that is ready to keep what `settings` say. To be called within a runtime.
    ///
    /// `log` lets a reload change the filter.
    ///
    /// # Errors
    ///
    /// When a server's client cannot be built, or another daemon has the state directory.
    pub fn new(
        settings: Settings,
        loader: Arc<Loader>,
        log: Option<Guard>,
    ) -> Result<Self, DaemonError> {
        let mut daemon = Self {
            keeper: Keeper::new(settings.max_hooks, fastrand::u64(..)),
            roster: Roster::default(),
            store: None,
            watcher: Watcher::new(),
            journal: Journal::new(),
            status: StatusLine::new(),
            memory: Memory::default(),
            queries: JoinSet::new(),
            deeds: JoinSet::new(),
            outputs: Vec::new(),
            reloading: false,
            reload_again: false,
            stopping: false,
            loader,
            log,
            settings,
        };
        let store = daemon.open_store().map_err(DaemonError::Locked)?;
        let settings = daemon.settings.clone();
        let clients = apply::clients(&settings, None)?;
        daemon.apply_first(settings, clients, store);
        Ok(daemon)
    }

    /// Runs until SIGTERM or SIGINT, or until `until` comes true, and then winds down.
    ///
    /// # Errors
    ///
    /// When the system refuses signals or timers.
    pub async fn run(mut self, until: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let system = |doing| move |error| DaemonError::System { doing, error };
        let mut signals =
            Signals::new([SIGHUP, SIGTERM, SIGINT]).map_err(system("catching signals"))?;
        let mut alarm = Alarm::new().map_err(system("creating a timer"))?;
        let mut until = std::pin::pin!(until);
        self.say(
            Name::DaemonStarted,
            Severity::Info,
            "tokenkeep has started",
            Fields {
                version: Some(env!("CARGO_PKG_VERSION")),
                tokens: u64::try_from(self.roster.len()).ok(),
                ..Fields::default()
            },
        );
        self.wake();
        self.ready();
        loop {
            alarm.set(self.next_wake()).map_err(system("setting a timer"))?;
            tokio::select! {
                biased;
                signal = signals.next() => match signal {
                    Some(SIGHUP) => self.reload(),
                    Some(_) | None => break,
                },
                () = &mut until => break,
                Some(Ok(done)) = self.queries.join_next() => self.done(done),
                Some(Ok(done)) = self.deeds.join_next() => self.done(done),
                changed = self.watcher.changed() => self.look_at(changed),
                report = memory::report(&mut self.store) => self.reported(report),
                _ = alarm.rings() => {}
            }
            self.wake();
        }
        self.wind_down(&mut signals).await;
        Ok(())
    }

    /// Lets the keeper do what is due, and everything that comes of it.
    fn wake(&mut self) {
        let now = clock::now();
        self.close_for_quiet(now);
        self.keeper.wake(now, &mut self.outputs);
        self.perform();
        if self.journal.due().is_some_and(|due| due <= now) {
            self.journal.flush();
        }
        self.status.tell(now, &self.keeper);
    }

    fn next_wake(&self) -> Option<Moment> {
        let wishes = [self.keeper.next_wake(), self.journal.due(), self.status.due()];
        wishes.into_iter().flatten().min()
    }

    /// Starts the effects and writes the notices that the keeper has handed out.
    fn perform(&mut self) {
        let now = clock::now();
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Effect(ticket, effect) => self.start(ticket, effect),
                Output::ReauthExhausted { reauth, failures, retry_in_ms } => {
                    let name = &self.roster.reauth(reauth).name;
                    report::reauth(&mut self.journal, now, name, failures, retry_in_ms);
                }
                Output::Server(id, notice) => {
                    let Remote { settings: server, .. } = self.roster.remote(id);
                    let name = &server.name;
                    if let (ServerNotice::RenewalLearned(method), Some(store)) =
                        (notice, &self.store)
                    {
                        store.keep_lesson(name, server.url.as_str(), method == Method::Renew);
                    }
                    report::server(&mut self.journal, now, name, notice);
                }
                Output::Token(id, notice) => {
                    self.note(id, &notice);
                    let Some(kept) = self.roster.token_mut(id) else { continue };
                    if let Notice::Expired { fault, candidate: false }
                    | Notice::Rejected { fault, candidate: false } = &notice
                    {
                        kept.last_words =
                            Some(LastWords { status: fault.status, detail: fault.detail.clone() });
                    }
                    let hook_succeeded =
                        matches!(notice, Notice::ReauthSucceeded { .. }) && kept.has_hook();
                    let fields = Fields {
                        token: Some(&kept.settings.name),
                        server: Some(&kept.settings.server),
                        exit_status: hook_succeeded.then_some(0),
                        ..Fields::default()
                    };
                    report::token(&mut self.journal, now, &fields, &notice);
                }
            }
        }
    }

    fn start(&mut self, ticket: Ticket, effect: Effect) {
        if self.stopping && !matches!(effect, Effect::Store { .. }) {
            return;
        }
        let Some(kept) = self.roster.token(ticket.token) else { return };
        let remote = self.roster.remote(kept.server);
        let client = remote.client.clone();
        match effect {
            Effect::Ask { method, slot, timeout } => {
                let Some(value) = kept.value(slot).cloned() else { return };
                let set = match method {
                    Method::Query => &mut self.queries,
                    Method::Renew => &mut self.deeds,
                };
                set.spawn(deeds::ask(ticket, client, method, (slot, value), timeout));
            }
            Effect::Reauth { reason, attempt } => {
                let Some(reauth) = kept.reauth.clone() else { return };
                let need = deeds::Need::of(kept, remote, reason, attempt);
                let method = reauth.method.clone();
                let timeout = reauth.timeout;
                let counted = self.count_attempts_now(ticket.token);
                self.deeds.spawn(deeds::reauth(ticket, client, method, timeout, need, counted));
            }
            Effect::Store { slot } => {
                let Some(value) = kept.value(slot).cloned() else { return };
                let in_source = kept.in_source.clone();
                match (&kept.settings.source, &self.store) {
                    (Source::File(path), _) => {
                        let path = path.clone();
                        self.deeds.spawn(deeds::store_in_file(ticket, path, value, in_source));
                    }
                    (Source::Credential(_) | Source::Env(_), store) => {
                        let name = &kept.settings.name;
                        let kept = store
                            .as_ref()
                            .map(|store| store.keep_value(name, value.clone(), in_source));
                        self.deeds.spawn(deeds::store_by_name(ticket, value, kept));
                    }
                }
            }
        }
    }

    fn done(&mut self, done: Done) {
        let now = clock::now();
        self.close_for_quiet(now);
        match done {
            Done::Answered(ticket, answer, new_value) => {
                if let Some((slot, value)) = new_value
                    && self.keeper.expects(ticket)
                    && let Some(kept) = self.roster.token_mut(ticket.token)
                {
                    kept.put(slot, value);
                }
                self.keeper.answered(ticket, answer, now, &mut self.outputs);
            }
            Done::Reauthenticated { ticket, duration, obtained } => {
                let result = self.weigh(ticket, obtained);
                let end = ReauthEnd { result, duration };
                self.keeper.reauthenticated(ticket, end, now, &mut self.outputs);
                self.look_once_more(ticket.token);
            }
            Done::Stored(ticket, result) => self.stored(ticket, result),
            Done::Looked(looks) => looks.into_iter().for_each(|look| self.looked(look)),
            Done::Revoked(revoked) => self.revoked(revoked),
            Done::Loaded(loaded) => self.loaded(*loaded),
        }
        self.perform();
    }

    /// What a re-auth attempt has brought, measured by the value that it was to replace.
    fn weigh(&mut self, ticket: Ticket, obtained: Obtained) -> Reauthenticated {
        let (value, stored) = match obtained {
            Obtained::Value(value) => (value, false),
            Obtained::InSource(Ok(found)) => (found.value, true),
            Obtained::InSource(Err(fault)) => {
                let error = format!("it says that it wrote the token's file, but {fault}").into();
                let fault = ReauthFault { error, exit_status: Some(0), ..ReauthFault::default() };
                return Reauthenticated::Failed(fault);
            }
            Obtained::Nothing(fault) => return Reauthenticated::Failed(fault),
        };
        let spare = self.keeper.spare_slot(ticket.token);
        let Some(kept) = self.roster.token_mut(ticket.token) else {
            return Reauthenticated::SameValue;
        };
        if kept.value(spare.other()) == Some(&value) {
            return Reauthenticated::SameValue;
        }
        if stored {
            kept.in_source = Some(value.clone());
            kept.epoch += 1;
        }
        if self.keeper.expects(ticket) {
            kept.put(spare, value);
        }
        Reauthenticated::NewValue { stored }
    }

    fn stored(&mut self, ticket: Ticket, result: Result<Stored, StoreFault>) {
        let now = clock::now();
        match result {
            Ok(Stored::Written(value)) => {
                if let Some(kept) = self.roster.token_mut(ticket.token)
                    && kept.file().is_some()
                {
                    kept.in_source = Some(value);
                    kept.epoch += 1;
                }
                self.keeper.stored(ticket, Ok(()), now, &mut self.outputs);
            }
            Ok(Stored::SourceChanged(value)) => {
                self.keeper.stored(ticket, Ok(()), now, &mut self.outputs);
                self.offer(ticket.token, value);
            }
            Err(fault) => {
                let error = fault.to_string().into();
                self.keeper.stored(ticket, Err(error), now, &mut self.outputs);
            }
        }
    }

    /// Stops: nothing new is begun, and what may bring or keep a value gets until [`GRACE`].
    async fn wind_down(mut self, signals: &mut Signals) {
        self.say(Name::DaemonStopping, Severity::Info, "stopping", Fields::default());
        self.told(systemd::stopping());
        self.told(systemd::extend_timeout(GRACE + Duration::from_secs(1)));
        self.stopping = true;
        self.queries.abort_all();
        self.revoke_all();
        let deadline = tokio::time::sleep(GRACE);
        let mut deadline = std::pin::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                () = &mut deadline => break,
                signal = signals.next() => if signal != Some(SIGHUP) { break },
                done = self.deeds.join_next() => match done {
                    Some(Ok(Done::Looked(_) | Done::Loaded(_)) | Err(_)) => {}
                    Some(Ok(done)) => self.done(done),
                    None => break,
                },
            }
        }
        self.deeds.shutdown().await;
        if let Some(store) = self.store.take() {
            let closed = tokio::time::timeout(LAST_WRITE, store.close()).await;
            if let Ok(Err(fault)) = closed {
                let error = fault.to_string();
                let fields = Fields { error: Some(&error), ..Fields::default() };
                self.say(Name::StoreFailed, Severity::Error, "the last write failed", fields);
            }
        }
        self.say(Name::DaemonStopped, Severity::Info, "stopped", Fields::default());
    }

    #[expect(
        clippy::large_types_passed_by_value,
        reason = "most callers build the fields in place"
    )]
    fn say(&mut self, name: Name, severity: Severity, message: &str, fields: Fields<'_>) {
        self.journal.write(clock::now(), name, severity, message, fields);
    }

    fn ready(&mut self) {
        let line = status::sentence(clock::now(), &self.keeper);
        self.told(systemd::ready(&line));
        self.say(
            Name::DaemonReady,
            Severity::Info,
            "the first checks are under way",
            Fields { tokens: u64::try_from(self.roster.len()).ok(), ..Fields::default() },
        );
    }

    /// systemd cannot be told something: it will notice; people are told once.
    fn told(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            let error = error.to_string();
            let fields = Fields { error: Some(&error), ..Fields::default() };
            self.say(Name::ConfigWarning, Severity::Warn, "systemd cannot be told", fields);
        }
    }
}
