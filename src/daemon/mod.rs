//! The daemon: the only place where the scheduler's actions meet the world.
//!
//! One loop over tasks, files, signals and the clock. There is no task and no timer for each
//! token: a task for each action in flight, which the scheduler's server gates limit. Each part
//! owns its state, and takes the parts below it as arguments:
//!
//! - `main_loop`: the next event and its handler
//! - `executor`: executes the scheduler's actions and notices
//! - `completions`: handles the results of tasks
//! - `control`: commands of clients
//! - `cluster`: the replica of a cluster
//! - `config`: reads, applies and reloads the configuration
//! - `queries`, `inventories`, `restore`, `shutdown`
//! - `tasks`: actions being executed
//! - `notify`: events being delivered
//! - `companions`: refresh tokens
//! - `tokens`: the aggregate of scheduler, registry and pending actions
//! - `state`, `service_manager`, `notices`, `metrics`

mod cluster;
mod companions;
mod completions;
mod config;
pub(crate) mod control;
mod error;
mod executor;
mod inventories;
mod main_loop;
mod metrics;
mod notices;
mod notify;
mod queries;
mod restore;
mod service_manager;
mod shutdown;
mod state;
mod tasks;
mod tokens;

use std::collections::VecDeque;
use std::sync::Arc;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

pub use self::config::{Loader, needed_descriptors};
pub use self::error::DaemonError;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::queries::check_filter;
pub use self::shutdown::GRACE;
pub(crate) use self::tokens::Effective;

use self::cluster::{Cluster, Opened};
use self::config::{Application, Config, certificate_warning, certificate_warnings, first_clients};
use self::control::ControlQueue;
use self::error::system;
use self::inventories::Inventories;
use self::metrics::Metrics;
use self::notify::Notifier;
use self::restore::{DeferredRestore, Restore};
use self::service_manager::ServiceManager;
use self::shutdown::Revocations;
use self::tasks::Tasks;
use self::tokens::{ServerClients, SourceRead, Tokens};
use crate::control::InheritedSockets;
use crate::event_log::{self, EventName, Fields, Guard};
use crate::process;
use crate::scheduler::TokenId;
use crate::settings::{ConfigError, Settings, Warning};
use crate::store::Store;
use crate::time::Moment;
use crate::token_source::PersistError;

/// The daemon: its parts, and where its loop is.
pub struct Daemon {
    tokens: Tokens,
    tasks: Tasks,
    inventories: Inventories,
    restore: DeferredRestore,
    config: Config,
    control: ControlQueue,
    revocations: Revocations,
    /// `None` for a daemon alone.
    cluster: Option<Box<Cluster>>,
    notifier: Notifier,
    metrics: Metrics,
    service_manager: ServiceManager,
    signals: Signals,
    /// Sources that were read, and are handled in slices, in order.
    source_reads: VecDeque<SourceRead>,
    /// When readiness is reported at the latest; `None` before the first turn and afterwards.
    ready_by: Option<Moment>,
    /// The last turn of the loop.
    woke: Moment,
    /// The main loop has waited for events since the last slice of the backlog.
    is_slice_due: bool,
    /// The main loop has waited for events since the last turn of control commands.
    is_control_due: bool,
}

impl Daemon {
    /// A daemon that is ready to run with these settings. To be called within a runtime.
    ///
    /// `filter` lets a reload change the log level.
    ///
    /// # Errors
    ///
    /// When a server's client cannot be built, another daemon has the state directory, or the
    /// system refuses signals.
    pub fn new(
        settings: Settings,
        loader: Arc<Loader>,
        filter: Option<Guard>,
    ) -> Result<Self, DaemonError> {
        // The guard is alive when a failed start is logged: dropping it ends the log.
        let mut daemon = Self::build(settings, loader)
            .inspect_err(|error| event_log::emit_failed_start(&error.to_string()))?;
        daemon.config.set_filter(filter);
        Ok(daemon)
    }

    fn build(settings: Settings, loader: Arc<Loader>) -> Result<Self, DaemonError> {
        // First: reading many sources takes time, and a SIGHUP without a handler kills.
        let mut caught = vec![SIGHUP, SIGTERM, SIGINT];
        if process::is_init() {
            caught.push(SIGCHLD);
        }
        let signals = Signals::new(caught).map_err(system("catching signals"))?;
        let (clients, unusable) = first_clients(&settings.servers)?;
        let opened = match &settings.cluster {
            Some(cluster) => {
                Some(Opened::read_without_connection(cluster).map_err(DaemonError::Cluster)?)
            }
            None => None,
        };
        let store = match Store::open(&settings.state_dir) {
            Err(error @ PersistError::Locked { .. }) => return Err(DaemonError::Locked(error)),
            store => store,
        };
        let seed = fastrand::u64(..);
        let mut daemon = Self {
            tokens: Tokens::new(settings.max_hooks, settings.keep_removed, seed),
            tasks: Tasks::default(),
            inventories: Inventories::new(),
            restore: DeferredRestore::default(),
            config: Config::new(settings, opened.as_ref().and_then(Opened::fingerprint), loader),
            control: ControlQueue::new(),
            revocations: Revocations::default(),
            cluster: None,
            notifier: Notifier::default(),
            metrics: Metrics::new(),
            service_manager: ServiceManager::new(),
            signals,
            source_reads: VecDeque::new(),
            ready_by: None,
            woke: Moment::default(),
            is_slice_due: false,
            is_control_due: false,
        };
        let Self { config, notifier, metrics, tokens: Tokens { log, .. }, .. } = &mut daemon;
        // First, as the next line is an event.
        notifier.configure(&config.settings, metrics, log);
        let tokens = u64::try_from(config.settings.tokens.len()).ok();
        let version = Some(env!("CARGO_PKG_VERSION"));
        let fields = Fields { tokens, version, ..Fields::default() };
        log.event(EventName::DaemonStarted, "tokenkeep has started", fields);
        for (server, error) in &unusable {
            config.report_unusable_server(server, error, log);
        }
        config.warn_of_descriptor_limit(log);
        let settings = Arc::clone(&config.settings);
        let restore = Restore::new(store, &settings.state_dir, log);
        let mut warnings = certificate_warnings(&clients);
        let own = opened.as_ref().and_then(Opened::certificate_warning);
        warnings.extend(own.map(certificate_warning));
        config.warn(&warnings, log);
        if let (Some(cluster), Some(opened)) = (settings.cluster.clone(), opened) {
            let recalled = restore.cluster(log);
            let cluster = Cluster::new(cluster, opened, recalled, &mut daemon.tokens);
            daemon.cluster = Some(Box::new(cluster));
        }
        daemon.apply_first(&settings, clients, restore);
        Ok(daemon)
    }

    /// Applies the first configuration, reads every source, and restores persisted state.
    fn apply_first(
        &mut self,
        settings: &Arc<Settings>,
        clients: ServerClients,
        mut restore: Restore<'_>,
    ) {
        let Self { tokens, tasks, inventories, config, .. } = self;
        restore.load_values(tokens);
        inventories.find_hung(&settings.inventories);
        let (old, new) = (Arc::clone(settings), Arc::clone(settings));
        let mut application = Application::new(old, new, clients, tokens);
        while application.step(tokens, inventories) {}
        restore.restore_counts(tokens);
        tokens.deferred.begin_startup();
        let mut ids: Vec<TokenId> = tokens.registry.ids().map(|(id, _)| id).collect();
        ids.sort_unstable();
        let requests = ids.into_iter().filter_map(|id| tokens.read_request(id)).collect();
        tasks.read_at_startup(requests, |read| tokens.on_source_read(read));
        inventories.read_at_startup(tokens);
        restore.finish(tokens);
        if inventories.are_all_read() {
            tokens.expire_orphans();
        }
        config.warn_of_watches(tokens, inventories);
    }

    /// Opens the control interface: on the sockets that systemd has handed over, or on one of its
    /// own, and on the address that is configured. Those that cannot be opened are tried again.
    pub fn open_control(&mut self, inherited: InheritedSockets) {
        self.control.open(&self.config.settings.control, inherited, &mut self.tokens.log);
    }

    /// Logs the warnings about a configuration.
    pub fn warn(&mut self, warnings: &[Warning]) {
        self.config.warn(warnings, &mut self.tokens.log);
    }

    /// Logs the files that the configuration is incomplete without. They are read again until
    /// that succeeds.
    pub fn report_unread(&mut self, unread: &[ConfigError]) {
        self.config.report_unread(unread, &mut self.tokens.log);
    }
}
