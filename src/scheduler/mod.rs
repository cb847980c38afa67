//! Scheduler: decides what to do for all tokens, and limits the requests to each server.
//!
//! Pure like [`crate::lifecycle`]: no I/O, no clock, no runtime; random numbers come from a seed.
//! The scheduler takes events and the time, and adds [`SchedulerOutput`]s to its
//! [`outputs`](Scheduler::outputs): actions to run and notices to report. Between two calls it must be woken only at [`Scheduler::next_wake`]. No token
//! has a task or a timer of its own.
//!
//! From top to bottom; a file calls only files below it:
//!
//! ```text
//! completions  operator_requests  restore  replicas
//! server_health                     an outage, a recovery, a pause of a server
//! admission                         starts what is due, most urgent first
//! transitions                       applies an event to one token, queues it
//! read_model                        queries
//! server_gate  reauth_limiter       limits of one server, of one `reauth` method
//! token_table                       all tokens
//! token_slot  extra_table  spec_table
//! wait_queue  rate_limiter  circuit_breaker  spot_checks  timer_queue
//! types
//! ```

mod admission;
mod circuit_breaker;
mod completions;
mod extra_table;
mod operator_requests;
mod rate_limiter;
mod read_model;
mod reauth_limiter;
mod replicas;
mod restore;
mod server_gate;
mod server_health;
mod spec_table;
mod spot_checks;
mod timer_queue;
mod token_slot;
mod token_table;
mod transitions;
mod types;
mod wait_queue;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::num::NonZeroU32;

pub use self::reauth_limiter::{ReauthFailures, ReauthRoute, ReauthSpec};
pub use self::server_gate::ServerLimits;
pub use self::types::{
    ReauthId, SchedulerOutput, ServerId, ServerNotice, StateCounts, Ticket, TokenId, TokenSpec,
};

use self::reauth_limiter::ReauthLimiter;
use self::server_gate::ServerGate;
use self::spot_checks::SpotChecks;
use self::timer_queue::TimerQueue;
use self::token_table::TokenTable;
use self::types::Permit;
use crate::lifecycle::{Event, Method, Notice, Token};
use crate::time::Moment;

#[derive(Debug)]
struct Server {
    gate: ServerGate,
    counts: StateCounts,
    renews_by: Option<Method>,
    spot_checks: SpotChecks,
    /// Tokens whose re-auth command is delayed until the server is back, with the latest start.
    delayed_reauths: BTreeSet<(Moment, u32)>,
    /// The server is no longer configured; its last request has not finished.
    is_removed: bool,
}

impl Server {
    fn new(limits: ServerLimits) -> Self {
        Self {
            gate: ServerGate::new(limits),
            counts: StateCounts::default(),
            renews_by: None,
            spot_checks: SpotChecks::default(),
            delayed_reauths: BTreeSet::new(),
            is_removed: false,
        }
    }
}

/// All tokens, their timers, and a gate for each server.
#[derive(Debug)]
pub struct Scheduler {
    servers: Vec<Server>,
    table: TokenTable,
    timers: TimerQueue,
    max_hooks: NonZeroU32,
    running_hooks: u32,
    reauths: Vec<ReauthLimiter>,
    /// The `reauth` method that is considered first for the next command (round-robin).
    next_reauth: usize,
    /// Free ids of servers and of `reauth` methods.
    free_servers: Vec<ServerId>,
    free_reauths: Vec<ReauthId>,
    last_serial: u64,
    /// What the calls since the last look want done and report, in order. The caller takes it.
    pub outputs: Vec<SchedulerOutput>,
    chance: fastrand::Rng,
    notices: Vec<Notice>,
    /// No re-auth attempt starts any more.
    is_reauth_stopped: bool,
    /// No action starts any more.
    is_admission_stopped: bool,
}

impl Scheduler {
    /// Creates a scheduler without tokens that runs at most `max_hooks` re-auth commands at once.
    pub fn new(max_hooks: NonZeroU32, seed: u64) -> Self {
        Self {
            servers: Vec::new(),
            table: TokenTable::default(),
            timers: TimerQueue::default(),
            max_hooks,
            running_hooks: 0,
            reauths: Vec::new(),
            next_reauth: 0,
            free_servers: Vec::new(),
            free_reauths: Vec::new(),
            last_serial: 0,
            outputs: Vec::new(),
            chance: fastrand::Rng::with_seed(seed),
            notices: Vec::new(),
            is_reauth_stopped: false,
            is_admission_stopped: false,
        }
    }

    /// Changes how many re-auth commands run at once.
    pub fn set_max_hooks(&mut self, max_hooks: NonZeroU32) {
        self.max_hooks = max_hooks;
    }

    /// Adds a server.
    pub fn add_server(&mut self, limits: ServerLimits) -> ServerId {
        if let Some(id) = self.free_servers.pop() {
            self.servers[id.index()] = Server::new(limits);
            return id;
        }
        let id = u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        self.servers.push(Server::new(limits));
        ServerId(id)
    }

    /// Changes a server's limits and keeps its state.
    pub fn set_limits(&mut self, server: ServerId, limits: ServerLimits) {
        self.servers[server.index()].gate.set_limits(limits);
    }

    /// Removes a server that no token uses any more. Its id is reused once its last request has
    /// finished.
    pub fn remove_server(&mut self, server: ServerId) {
        let removed = &mut self.servers[server.index()];
        if !std::mem::replace(&mut removed.is_removed, true) {
            self.release_server(server);
        }
    }

    /// Frees the id of a removed server once no request is in flight.
    fn release_server(&mut self, server: ServerId) {
        if self.servers[server.index()].gate.in_flight() == 0 {
            self.free_servers.push(server);
        }
    }

    /// Removes a `reauth` method that no token uses any more. Its id is reused once its last
    /// command has finished.
    pub fn remove_reauth(&mut self, reauth: ReauthId) {
        let removed = &mut self.reauths[reauth.index()];
        if !std::mem::replace(&mut removed.is_removed, true) {
            self.release_reauth(reauth);
        }
    }

    /// Frees the id of a removed method once none of its commands is running.
    fn release_reauth(&mut self, reauth: ReauthId) {
        if self.reauths[reauth.index()].running == 0 {
            self.free_reauths.push(reauth);
        }
    }

    /// Number of servers that are configured or have a request in flight.
    pub fn server_count(&self) -> usize {
        self.servers.len() - self.free_servers.len()
    }

    /// Number of `reauth` methods that are configured or have a running command.
    pub fn reauth_count(&self) -> usize {
        self.reauths.len() - self.free_reauths.len()
    }

    /// Requests in flight to a server.
    pub fn in_flight(&self, server: ServerId) -> u32 {
        self.servers[server.index()].gate.in_flight()
    }

    /// Running re-auth commands.
    pub const fn running_hooks(&self) -> u32 {
        self.running_hooks
    }

    /// Releases the slot of a command.
    fn release_hook(&mut self, permit: Permit) {
        let Permit::Hook(reauth) = permit else { return };
        self.running_hooks -= 1;
        let method = &mut self.reauths[reauth.index()];
        method.running -= 1;
        if method.is_removed {
            self.release_reauth(reauth);
        }
    }

    /// Adds a `reauth` method.
    pub fn add_reauth(&mut self, spec: ReauthSpec) -> ReauthId {
        if let Some(id) = self.free_reauths.pop() {
            self.reauths[id.index()] = ReauthLimiter::new(spec);
            return id;
        }
        let id = u32::try_from(self.reauths.len()).unwrap_or(u32::MAX);
        self.reauths.push(ReauthLimiter::new(spec));
        ReauthId(id)
    }

    /// Changes a `reauth` method and keeps its failures.
    pub fn set_reauth(&mut self, reauth: ReauthId, spec: ReauthSpec) {
        self.reauths[reauth.index()].set_spec(spec);
    }

    /// Starts no attempt by this method before `until`.
    pub fn pause_reauth(&mut self, reauth: ReauthId, until: Moment) {
        self.reauths[reauth.index()].pause_until(until);
    }

    /// The failures of a method that are persisted; `None` if there are none.
    pub fn reauth_failures(&self, reauth: ReauthId) -> Option<ReauthFailures> {
        self.reauths[reauth.index()].failures()
    }

    /// Restores the failures of a method that an earlier run has counted.
    pub fn restore_reauth_failures(&mut self, reauth: ReauthId, failures: ReauthFailures) {
        self.reauths[reauth.index()].restore(failures);
    }

    /// Reserves memory for `more` tokens at once, so that the table is not copied while it grows.
    pub fn reserve(&mut self, more: usize) {
        self.table.reserve(more);
    }

    /// Adds a token. Its value is in `Slot::A`, or it has none yet; then `SourceChange::Lost`
    /// must follow with the reason.
    pub fn add_token(&mut self, spec: TokenSpec, has_value: bool, now: Moment) -> TokenId {
        let token = if has_value { Token::with_value(now) } else { Token::without_value(now) };
        self.servers[spec.server.index()].counts.add(&token);
        if !has_value {
            // A missing token is idle until the next event.
            return TokenId(self.table.add_missing(now, spec));
        }
        let id = TokenId(self.table.add(&token, spec));
        self.schedule_wake(id, now);
        id
    }

    /// Removes a token. The results of its actions in flight are dropped.
    pub fn remove_token(&mut self, id: TokenId) {
        self.leave_queue(id);
        let (token, server) = (self.token(id), self.spec(id).map(|spec| spec.server));
        if let (Some(token), Some(server)) = (token, server) {
            let server = &mut self.servers[server.index()];
            server.counts.remove(&token);
            server.gate.breaker.forget(id.0);
            self.table.remove(id.0);
        }
    }

    /// Changes a token's configuration and keeps its state. On another server it is checked again,
    /// whatever the previous one reported. What is due starts at the next [`wake`](Self::wake), so
    /// that all changed tokens have their new configuration first.
    pub fn change_token(&mut self, id: TokenId, spec: TokenSpec, now: Moment) {
        self.leave_queue(id);
        let Some((active, earlier)) = self.table.activate(id.0) else { return };
        active.waits_for_reauth = false;
        let moved = earlier.server != spec.server;
        let server = &mut self.servers[earlier.server.index()];
        server.counts.remove(&active.token);
        if moved {
            server.gate.breaker.forget(id.0);
        }
        self.servers[spec.server.index()].counts.add(&active.token);
        self.table.set_spec(id.0, spec);
        if moved {
            self.apply_event(id, Event::ServerChanged, now);
        }
        self.apply_event(id, Event::PolicyChanged, now);
        self.enqueue(id, now);
    }

    /// Starts no re-auth attempt from now on. Checks continue.
    pub fn stop_reauth(&mut self) {
        self.is_reauth_stopped = true;
    }

    /// Starts no action from now on. Actions in flight may finish, and new values are still
    /// verified and persisted.
    pub fn stop_admitting(&mut self) {
        self.is_admission_stopped = true;
    }

    /// When [`Scheduler::wake`] has something to do; `None` while only a completion can cause an
    /// action.
    pub fn next_wake(&self) -> Option<Moment> {
        let gates = self.servers.iter().filter_map(|server| server.gate.opens_at());
        let delayed_reauths =
            self.servers.iter().filter_map(|server| Some(server.delayed_reauths.first()?.0));
        // Without a free slot, a running command must finish first.
        let reauths = self.reauths.iter().filter(|reauth| {
            reauth.has_waiting() && (reauth.route() == ReauthRoute::Server || self.has_slot(reauth))
        });
        let reauths = reauths.map(ReauthLimiter::opens_at).chain(delayed_reauths);
        let reauths = reauths.filter(|_| !self.is_reauth_stopped);
        gates.chain(reauths).chain(self.timers.next()).min()
    }
}
