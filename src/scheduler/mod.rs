//! All tokens together: who is asked when, and what each server is spared.
//!
//! Pure like [`crate::lifecycle`]: no I/O, no clock, no runtime; chance comes from a seed.
//! The scheduler takes what happened and the time, and hands out [`SchedulerOutput`]s. Between two
//! calls it needs to be woken at [`Scheduler::next_wake`] only; there is no task and no timer
//! for a single token.

mod admission;
mod circuit_breaker;
mod extra_table;
mod operator_requests;
mod read_model;
mod reauth_limiter;
mod restore;
mod server_gate;
mod server_health;
mod spec_table;
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
use self::restore::SpotChecks;
use self::server_gate::ServerGate;
use self::timer_queue::TimerQueue;
use self::token_slot::ActiveToken;
use self::token_table::TokenTable;
use self::types::{HealthSignal, Permit};
use crate::lifecycle::{
    CheckResult, Event, Method, Notice, ReauthAttempts, ReauthOutcome, ReauthResult, Resource,
    Slot, SourceChange, Token,
};
use crate::outcome::{CallError, Outcome};
use crate::time::Moment;

#[derive(Debug)]
struct Server {
    gate: ServerGate,
    counts: StateCounts,
    renews_by: Option<Method>,
    spot_checks: SpotChecks,
    /// Tokens whose re-auth command waits for the server to be back, and until when at the most.
    delayed_reauths: BTreeSet<(Moment, u32)>,
    /// It is not configured any more, and waits for its last request to end.
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

/// All tokens, their schedule, and a gate for each server.
#[derive(Debug)]
pub struct Scheduler {
    servers: Vec<Server>,
    table: TokenTable,
    timers: TimerQueue,
    max_hooks: NonZeroU32,
    running_hooks: u32,
    reauths: Vec<ReauthLimiter>,
    /// Whose turn it is among them to start a command.
    next_reauth: usize,
    /// Numbers of servers and of `reauth` methods to be given again.
    free_servers: Vec<ServerId>,
    free_reauths: Vec<ReauthId>,
    last_serial: u64,
    chance: fastrand::Rng,
    notices: Vec<Notice>,
    /// No re-auth attempt is begun any more.
    is_reauth_stopped: bool,
    /// Nothing is begun any more.
    is_admission_stopped: bool,
}

impl Scheduler {
    /// A scheduler of nothing yet, that runs at most `max_hooks` re-auth commands at once.
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

    /// Changes a server's limits; what is known of it stays.
    pub fn set_limits(&mut self, server: ServerId, limits: ServerLimits) {
        self.servers[server.index()].gate.set_limits(limits);
    }

    /// Removes a server that no token uses any more. Its number is given again once the last
    /// request to it has ended.
    pub fn remove_server(&mut self, server: ServerId) {
        let removed = &mut self.servers[server.index()];
        if !std::mem::replace(&mut removed.is_removed, true) {
            self.release_server(server);
        }
    }

    /// Gives the number of a removed server free once nothing is under way there.
    fn release_server(&mut self, server: ServerId) {
        if self.servers[server.index()].gate.in_flight() == 0 {
            self.free_servers.push(server);
        }
    }

    /// Removes a `reauth` method that no token uses any more. Its number is given again once the
    /// last attempt by it has ended.
    pub fn remove_reauth(&mut self, reauth: ReauthId) {
        let removed = &mut self.reauths[reauth.index()];
        if !std::mem::replace(&mut removed.is_removed, true) {
            self.release_reauth(reauth);
        }
    }

    /// Gives the number of a removed method free once none of its commands is under way.
    fn release_reauth(&mut self, reauth: ReauthId) {
        if self.reauths[reauth.index()].running == 0 {
            self.free_reauths.push(reauth);
        }
    }

    /// Servers that are known, by what they are known for: configured, or with something under
    /// way only.
    pub fn server_count(&self) -> usize {
        self.servers.len() - self.free_servers.len()
    }

    /// `reauth` methods that are configured, or have a command under way.
    pub fn reauth_count(&self) -> usize {
        self.reauths.len() - self.free_reauths.len()
    }

    /// Requests to a server that are under way.
    pub fn in_flight(&self, server: ServerId) -> u32 {
        self.servers[server.index()].gate.in_flight()
    }

    /// Re-auth commands that are under way.
    pub const fn running_hooks(&self) -> u32 {
        self.running_hooks
    }

    /// Ends the use of a command's slot.
    fn release_hook(&mut self, permit: Permit) {
        let Permit::Hook(reauth) = permit else { return };
        self.running_hooks -= 1;
        let method = &mut self.reauths[reauth.index()];
        method.running -= 1;
        if method.is_removed {
            self.release_reauth(reauth);
        }
    }

    /// Adds a way to new values.
    pub fn add_reauth(&mut self, spec: ReauthSpec) -> ReauthId {
        if let Some(id) = self.free_reauths.pop() {
            self.reauths[id.index()] = ReauthLimiter::new(spec);
            return id;
        }
        let id = u32::try_from(self.reauths.len()).unwrap_or(u32::MAX);
        self.reauths.push(ReauthLimiter::new(spec));
        ReauthId(id)
    }

    /// Changes a way to new values; its failures stay.
    pub fn set_reauth(&mut self, reauth: ReauthId, spec: ReauthSpec) {
        self.reauths[reauth.index()].set_spec(spec);
    }

    /// Nothing logs in by this way before `until`.
    pub fn pause_reauth(&mut self, reauth: ReauthId, until: Moment) {
        self.reauths[reauth.index()].pause_until(until);
    }

    /// The failures of a way that must outlive a restart; `None` if there are none.
    pub fn reauth_failures(&self, reauth: ReauthId) -> Option<ReauthFailures> {
        self.reauths[reauth.index()].failures()
    }

    /// Takes over the failures that an earlier run has seen.
    pub fn restore_reauth_failures(&mut self, reauth: ReauthId, failures: ReauthFailures) {
        self.reauths[reauth.index()].restore(failures);
    }

    /// Takes over the re-auth attempts that an earlier run has made for a token.
    pub fn restore_reauth_attempts(&mut self, id: TokenId, attempts: ReauthAttempts) {
        if let Some((active, _)) = self.table.activate(id.0) {
            active.token.restore_attempts(attempts);
            self.table.compact(id.0);
        }
    }

    /// So many more tokens are about to come: room is made for all of them at once, as a table
    /// that grows bit by bit is copied again and again.
    pub fn reserve(&mut self, more: usize) {
        self.table.reserve(more);
    }

    /// Adds a token whose value has been put into [`Slot::A`], or that has none yet (then
    /// [`SourceChange::Lost`] is to follow with the reason).
    pub fn add_token(&mut self, spec: TokenSpec, has_value: bool, now: Moment) -> TokenId {
        let token = if has_value { Token::with_value(now) } else { Token::without_value(now) };
        self.servers[spec.server.index()].counts.add(&token);
        if !has_value {
            // It wants nothing until it is told more.
            return TokenId(self.table.add_missing(now, spec));
        }
        let id = TokenId(self.table.add(&token, spec));
        self.schedule_wake(id, now);
        id
    }

    /// Forgets a token. What is under way for it ends unheard.
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

    /// Gives a token other rules; its state stays. On another server it is asked about anew,
    /// whatever the one before said of it. What is due starts with the next
    /// [`wake`](Self::wake), when every token that changes has its new rules.
    pub fn change_token(
        &mut self,
        id: TokenId,
        spec: TokenSpec,
        now: Moment,
        out: &mut Vec<SchedulerOutput>,
    ) {
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
            self.apply_event(id, Event::ServerChanged, now, out);
        }
        self.apply_event(id, Event::PolicyChanged, now, out);
        self.enqueue(id, now, out);
    }

    /// What is known of a token; `None` for one that was removed.
    pub fn token(&self, id: TokenId) -> Option<Token> {
        self.table.inspect(id.0, |active| active.token)
    }

    /// The token with this [key](TokenId::key), if there still is one.
    pub fn id_of(&self, key: u32) -> Option<TokenId> {
        self.table.spec(key).map(|_| TokenId(key))
    }

    /// One more than the highest [key](TokenId::key) that a token has or had.
    pub fn key_limit(&self) -> u32 {
        u32::try_from(self.table.len()).unwrap_or(u32::MAX)
    }

    /// What the scheduler was told of a token.
    pub fn spec(&self, id: TokenId) -> Option<&TokenSpec> {
        self.table.spec(id.0)
    }

    /// The slot that a newcomer among a token's values is to be put into.
    pub fn spare_slot(&self, id: TokenId) -> Slot {
        self.table.active_slot(id.0).map_or(Slot::B, Slot::other)
    }

    /// Whether the token has no value, nor had one that it was told of.
    pub fn is_missing(&self, id: TokenId) -> bool {
        self.table.is_missing(id.0)
    }

    /// Which call is known to extend lives on a server.
    pub fn renews_by(&self, server: ServerId) -> Option<Method> {
        self.servers[server.index()].renews_by
    }

    /// Until when a server has asked to be left alone, past or ahead.
    pub fn throttled_until(&self, server: ServerId) -> Moment {
        self.servers[server.index()].gate.throttled_until()
    }

    /// Whether a probe of a server's open circuit breaker is in flight.
    pub fn is_probing(&self, server: ServerId) -> bool {
        self.servers[server.index()].gate.breaker.is_probing()
    }

    /// How many tokens there are in each state.
    pub fn state_counts(&self) -> StateCounts {
        self.servers.iter().map(|server| server.counts).sum()
    }

    /// The same, of one server.
    pub fn state_counts_of(&self, server: ServerId) -> StateCounts {
        self.servers[server.index()].counts
    }

    /// Bytes that the tokens, their schedule and those who wait take up, unused ones included.
    pub fn footprint(&self) -> usize {
        let waiting: usize = self.servers.iter().map(|server| server.gate.footprint()).sum();
        self.table.footprint() + self.timers.footprint() + waiting
    }

    /// Begins no re-auth attempt from now on; checks continue.
    pub fn stop_reauth(&mut self) {
        self.is_reauth_stopped = true;
    }

    /// An action was not begun, or will never complete: gives back what it occupies, and the
    /// token may start it again.
    pub fn cancel(&mut self, ticket: Ticket, now: Moment, out: &mut Vec<SchedulerOutput>) {
        self.release_hook(ticket.permit);
        self.report_health(ticket, HealthSignal::Unknown, None, now, out);
        self.finish_action(ticket, Event::Cancelled, now, out);
    }

    /// Begins nothing from now on, and so says of nothing that it has begun. What is under way
    /// may end, and values that it brings are still verified and stored.
    pub fn stop_admitting(&mut self) {
        self.is_admission_stopped = true;
    }

    /// When [`Scheduler::wake`] has something to do; `None` while only an answer can bring
    /// anything.
    pub fn next_wake(&self) -> Option<Moment> {
        let gates = self.servers.iter().filter_map(|server| server.gate.opens_at());
        let delayed_reauths =
            self.servers.iter().filter_map(|server| Some(server.delayed_reauths.first()?.0));
        // With no slot free for a command, the end of one comes first.
        let reauths = self.reauths.iter().filter(|reauth| {
            reauth.has_waiting() && (reauth.route() == ReauthRoute::Server || self.has_slot(reauth))
        });
        let reauths = reauths.map(ReauthLimiter::opens_at).chain(delayed_reauths);
        let reauths = reauths.filter(|_| !self.is_reauth_stopped);
        gates.chain(reauths).chain(self.timers.next()).min()
    }

    /// The end of a call on a token.
    pub fn check_finished(
        &mut self,
        ticket: Ticket,
        answer: CheckResult,
        now: Moment,
        out: &mut Vec<SchedulerOutput>,
    ) {
        let signal = match &answer.outcome {
            Outcome::Unavailable(fault) if fault.local => HealthSignal::Unknown,
            Outcome::Unavailable(fault) => HealthSignal::Unavailable(fault.clone()),
            _ => HealthSignal::Available,
        };
        let wish = match answer.outcome {
            Outcome::Throttled { retry_after, .. } => Some(retry_after),
            _ => None,
        };
        self.report_health(ticket, signal, wish, now, out);
        self.finish_action(ticket, Event::CheckFinished(answer), now, out);
    }

    /// The end of a re-auth attempt.
    pub fn reauth_finished(
        &mut self,
        ticket: Ticket,
        end: ReauthResult,
        now: Moment,
        out: &mut Vec<SchedulerOutput>,
    ) {
        self.release_hook(ticket.permit);
        let (signal, wish) = match &end.result {
            ReauthOutcome::NewValue { .. } | ReauthOutcome::SameValue => {
                (HealthSignal::Available, None)
            }
            ReauthOutcome::Failed(fault) if fault.unavailable => {
                let failure =
                    CallError { status: fault.status, ..CallError::new(fault.error.clone()) };
                (HealthSignal::Unavailable(failure), None)
            }
            ReauthOutcome::Failed(fault) if fault.status.is_some() => {
                (HealthSignal::Available, fault.retry_after)
            }
            ReauthOutcome::Failed(_) => (HealthSignal::Unknown, None),
        };
        self.report_health(ticket, signal, wish, now, out);
        if !matches!(end.result, ReauthOutcome::Failed(_)) {
            self.repeat_logins(ticket.token, now, out);
        }
        self.finish_action(ticket, Event::ReauthFinished(end), now, out);
    }

    /// A login succeeded: those of the same method that wait because one came to no conclusion
    /// start now.
    fn repeat_logins(&mut self, id: TokenId, now: Moment, out: &mut Vec<SchedulerOutput>) {
        let Some(reauth) = self.spec(id).and_then(|spec| spec.reauth) else { return };
        if !std::mem::take(&mut self.reauths[reauth.index()].is_repeated) {
            return;
        }
        let waits =
            |active: &ActiveToken| active.id != id.0 && active.token.is_reauth_inconclusive();
        for id in
            self.table.active_where(|active, spec| spec.reauth == Some(reauth) && waits(active))
        {
            self.apply_event(TokenId(id), Event::ServerRecovered, now, out);
            self.enqueue(TokenId(id), now, out);
        }
    }

    /// The end of writing a value to its store; the sentence says why it failed.
    pub fn persist_finished(
        &mut self,
        ticket: Ticket,
        result: Result<(), Box<str>>,
        now: Moment,
        out: &mut Vec<SchedulerOutput>,
    ) {
        self.finish_action(ticket, Event::PersistFinished(result), now, out);
    }

    /// A token's source was read again.
    pub fn source_changed(
        &mut self,
        id: TokenId,
        change: SourceChange,
        now: Moment,
        out: &mut Vec<SchedulerOutput>,
    ) {
        self.apply_event(id, Event::SourceChanged(change), now, out);
        self.requeue(id, now, out);
        self.wake(now, out);
    }

    /// Nobody will be there later: what could not be stored is written once more.
    pub fn flush_pending_writes(&mut self, now: Moment, out: &mut Vec<SchedulerOutput>) {
        for id in
            self.table.active_where(|active, _| active.token.due_for(Resource::None).is_some())
        {
            self.apply_event(TokenId(id), Event::ShuttingDown, now, out);
            self.enqueue(TokenId(id), now, out);
        }
    }

    /// Whether a value that re-auth has brought is yet to be verified, and kept nowhere else.
    pub fn has_unpersisted_candidates(&self) -> bool {
        !self.table.active_where(|active, _| active.token.has_unpersisted_candidate()).is_empty()
    }

    /// Whether the effect behind `ticket` is still waited for.
    pub fn expects(&self, ticket: Ticket) -> bool {
        self.table.serial(ticket.token.0) == ticket.serial
    }
}
