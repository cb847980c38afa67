//! Executes control commands: reads the daemon, or asks the scheduler for something.

use tokio::task::JoinSet;

use super::listeners::report_socket;
use crate::clock;
use crate::control::{
    ApiError, ApiErrorKind, Caller, Command, Health, IssuedValue, Reply, TokenDetail,
};
use crate::daemon::cluster::{Cluster, Pause};
use crate::daemon::config::Config;
use crate::daemon::inventories::Inventories;
use crate::daemon::metrics::Metrics;
use crate::daemon::notices;
use crate::daemon::queries::{
    DashboardQuery, Disclosure, ListQuery, MetricsQuery, Query, ScanQueue, View, cluster_detail,
    scan_events, token_summary,
};
use crate::daemon::tasks::blocking::{USERS, blocking_among};
use crate::daemon::tokens::Tokens;
use crate::event_log::{EventName, Fields};
use crate::lifecycle::{OperatorRequest, Validity};
use crate::secret::ValueRef;
use crate::settings::Reader;
use crate::time::{Moment, whole_millis};

/// The parts of the daemon that commands read and change.
pub(crate) struct Parts<'a> {
    pub(crate) tokens: &'a mut Tokens,
    pub(crate) inventories: &'a Inventories,
    pub(crate) config: &'a mut Config,
    pub(crate) metrics: &'a Metrics,
    /// The cluster, if this daemon is a replica.
    pub(crate) cluster: Option<&'a mut Cluster>,
}

/// A client requests a token's value, and it is known whether it may read it.
#[derive(Debug)]
pub(crate) struct ValueRequest {
    name: String,
    caller: Caller,
    is_permitted: bool,
    reply: Reply<IssuedValue>,
}

/// Commands that cannot be answered at once.
#[derive(Debug)]
pub(super) struct PendingCommands {
    pub(super) queries: ScanQueue,
    /// Look-ups in the user database for requests of values.
    pub(super) lookups: JoinSet<ValueRequest>,
    /// When the daemon started.
    since: Moment,
}

impl PendingCommands {
    pub(super) fn new() -> Self {
        let queries = ScanQueue::default();
        Self { queries, lookups: JoinSet::new(), since: clock::now() }
    }

    /// Executes a command. A client that is gone is not answered.
    pub(super) fn handle_command(&mut self, command: Command, parts: &mut Parts<'_>) {
        match command {
            Command::Act { request: OperatorRequest::Reauth, reply, .. }
                if parts.config.is_stopping() =>
            {
                drop(reply.send(Err(stopping())));
            }
            Command::Reload { reply, .. } if parts.config.is_stopping() => {
                drop(reply.send(Err(stopping())));
            }
            Command::Health(reply) => drop(reply.send(Ok(parts.health(self.since)))),
            Command::List(listing, reply) => {
                if let Some(list) = ListQuery::begin(&listing, reply) {
                    self.queries.add(Query::List(list));
                }
            }
            Command::Socket(report) => report_socket(&mut parts.tokens.log, &report),
            Command::Ping(reply) => drop(reply.send(Ok(()))),
            Command::Metrics { names, reply } => {
                self.queries.add(Query::Metrics(MetricsQuery::new(names, reply)));
            }
            Command::Dashboard { names, reply } => {
                self.queries.add(Query::Dashboard(DashboardQuery::new(names, reply)));
            }
            Command::Token(name, reply) => {
                let id = parts.tokens.registry.id_of(&name);
                let view = parts.view();
                let detail = id.and_then(|id| {
                    let summary = token_summary(&view, id, Disclosure::EVERYTHING);
                    Some(TokenDetail { summary, ..view.token_detail(id)? })
                });
                drop(reply.send(detail.ok_or_else(|| ApiError::no_token(&name))));
            }
            Command::Events(scan, reply) => {
                drop(reply.send(Ok(scan_events(&parts.tokens.log, &scan))));
            }
            Command::Act { name, request, caller, reply }
                if parts.pauses_replicas(&name, request, caller) =>
            {
                parts.pause_replicas(Pause { name, request, caller, reply });
            }
            Command::Act { name, request, caller, reply } => {
                let result = parts.act(&name, request, caller);
                let action = (Some(&*name), request.as_str());
                parts.log_action(action, caller, result.as_ref().err());
                drop(reply.send(result));
            }
            Command::Value { name, caller, reply } => {
                self.request_value(name, caller, reply, parts);
            }
            Command::Cluster(reply) => drop(reply.send(cluster_detail(&parts.view()))),
            Command::AskEndpoints(reply) => match &mut parts.cluster {
                Some(cluster) => cluster.ask_endpoints(reply),
                None => drop(reply.send(Err(ApiError::no_cluster()))),
            },
            Command::Rekey { caller, reply } => {
                let result = parts.rekey(caller);
                parts.log_action((None, "rekey"), caller, result.as_ref().err());
                drop(reply.send(result));
            }
            Command::Reload { caller, reply } => {
                let error = (!caller.may_act()).then(forbidden);
                parts.log_action((None, "reload"), caller, error.as_ref());
                let result = match error {
                    None => Ok(parts.config.request_reload(parts.tokens)),
                    Some(error) => Err(error),
                };
                drop(reply.send(result));
            }
            // A client that may not reload must not occupy a connection for the length of one.
            Command::ReloadOutcome { caller, reply, .. } if !caller.may_act() => {
                drop(reply.send(Err(forbidden())));
            }
            Command::ReloadOutcome { number, reply, .. } => {
                parts.config.wait_for_reload(number, reply);
            }
        }
    }

    /// A value is issued to root, the daemon's user and the token's readers. Whether a client is
    /// a reader is looked up beside the loop.
    fn request_value(
        &mut self,
        name: String,
        caller: Caller,
        reply: Reply<IssuedValue>,
        parts: &mut Parts<'_>,
    ) {
        if parts.tokens.registry.id_of(&name).is_none() {
            // A client that may not act is not told by this path which names there are.
            return drop(reply.send(Err(ApiError::no_token(&name))));
        }
        if caller.may_act() {
            return parts.issue_value(ValueRequest { name, caller, is_permitted: true, reply });
        }
        let readers = parts.readers(&name);
        self.lookups.spawn(async move {
            let is_permitted = blocking_among(&USERS, move || caller.is_among(&readers)).await;
            ValueRequest { name, caller, is_permitted, reply }
        });
    }
}

impl Parts<'_> {
    /// A read-only view.
    pub(super) fn view(&self) -> View<'_> {
        View {
            tokens: self.tokens,
            inventories: self.inventories,
            settings: &self.config.settings,
            config_rejected: self.config.rejected.as_ref(),
            metrics: self.metrics,
            cluster: self.cluster.as_deref().map(Cluster::view),
            dropped_lines: self.config.dropped_lines(),
        }
    }

    /// Whether a command pauses or resumes a token for all replicas of a cluster.
    fn pauses_replicas(&self, name: &str, request: OperatorRequest, caller: Caller) -> bool {
        self.cluster.is_some()
            && matches!(request, OperatorRequest::Pause | OperatorRequest::Resume)
            && caller.may_act()
            && self.tokens.registry.id_of(name).is_some()
    }

    fn pause_replicas(&mut self, pause: Pause) {
        if let Some(cluster) = &mut self.cluster
            && let Some(id) = self.tokens.registry.id_of(&pause.name)
        {
            cluster.pause(pause, id, self.tokens);
        }
    }

    fn rekey(&mut self, caller: Caller) -> Result<(), ApiError> {
        if !caller.may_act() {
            return Err(forbidden());
        }
        self.cluster.as_mut().ok_or_else(ApiError::no_cluster)?.begin_rekey()
    }

    fn act(
        &mut self,
        name: &str,
        request: OperatorRequest,
        caller: Caller,
    ) -> Result<(), ApiError> {
        if !caller.may_act() {
            return Err(forbidden());
        }
        let id = self.tokens.registry.id_of(name).ok_or_else(|| ApiError::no_token(name))?;
        if let Some(cluster) = &self.cluster
            && let Some(error) = cluster.refusal(id, request, self.tokens)
        {
            return Err(error);
        }
        let Tokens { scheduler, .. } = self.tokens;
        let result = scheduler.request(id, request, clock::now());
        result.map_err(|error| ApiError::new(ApiErrorKind::Conflict, error.to_string()))
    }

    /// Sends a token's value to a client, if that is permitted.
    pub(super) fn issue_value(&mut self, request: ValueRequest) {
        let ValueRequest { name, caller, is_permitted, reply } = request;
        let result = if is_permitted { self.value_of(&name) } else { Err(forbidden()) };
        match &result {
            Ok(_) => {
                let fields =
                    Fields { token: Some(&name), uid: Some(caller.uid), ..Fields::default() };
                self.tokens.log.event(EventName::ValueRead, "token value read", fields);
            }
            Err(error) => self.log_action((Some(&name), "value"), caller, Some(error)),
        }
        drop(reply.send(result));
    }

    /// The current value, unless it is known to be dead: the server would refuse it.
    fn value_of(&self, name: &str) -> Result<IssuedValue, ApiError> {
        let Tokens { scheduler, registry, .. } = &*self.tokens;
        let known = registry.id_of(name).and_then(|id| {
            let (token, entry) = (scheduler.token(id)?, registry.token(id)?);
            Some((id, token, entry.value(token.active_slot()).map(ValueRef::to_value)))
        });
        let (id, token, value) = known.ok_or_else(|| ApiError::no_token(name))?;
        let lack = match (token.validity(), value) {
            (Validity::Expired, _) => "the token has expired",
            (Validity::Rejected, _) => "the server has rejected the token, or it was revoked",
            (_, None) => "the token has no value",
            (_, Some(value)) => {
                let state = self.tokens.value_state(id, clock::now());
                return Ok(IssuedValue { value, state });
            }
        };
        let is_coming = token.is_reauthenticating() || token.has_candidate();
        let next = if is_coming { "; a new value is being obtained" } else { "" };
        Err(ApiError::new(ApiErrorKind::Conflict, format!("{lack}{next}")))
    }

    fn readers(&self, name: &str) -> Vec<Reader> {
        let registry = &self.tokens.registry;
        let entry = registry.id_of(name).and_then(|id| registry.token(id));
        let Some(entry) = entry else { return Vec::new() };
        let keep_alive = if let Some(inventory) = entry.inventory() {
            self.inventories.get(inventory).map(|inventory| &inventory.settings.keep_alive)
        } else {
            let tokens = &self.config.settings.tokens;
            let found = tokens.binary_search_by(|token| token.name.as_str().cmp(name));
            found.ok().map(|index| &tokens[index].keep_alive)
        };
        keep_alive.map(|keep_alive| keep_alive.readers.clone()).unwrap_or_default()
    }

    fn health(&self, since: Moment) -> Health {
        let view = self.view();
        Health {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: whole_millis(clock::now().since(since)),
            counts: view.counts(),
            servers: view.servers(),
            config_rejected: view.config_rejected.cloned(),
            cluster: view.cluster_status(Disclosure::EVERYTHING),
        }
    }

    fn log_action(
        &mut self,
        action: (Option<&str>, &str),
        caller: Caller,
        error: Option<&ApiError>,
    ) {
        notices::operator_action(&mut self.tokens.log, action, caller, error);
    }
}

fn forbidden() -> ApiError {
    let message = "only root and the daemon's user may do this; users named in a token's `readers` \
    may read its value";
    ApiError::new(ApiErrorKind::Forbidden, message)
}

fn stopping() -> ApiError {
    ApiError::new(ApiErrorKind::Conflict, "tokenkeep is stopping")
}
