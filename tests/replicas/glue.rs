//! The daemon between its scheduler and its replica: hands actions and grants over, and keeps the
//! values. What it does is what `daemon::cluster` does, in the same order.

use std::time::Duration;

use tokenkeep::cluster::replica::{
    ClusterNotice, Count, HeldReason, Output, SpendId, SpendRequest, TokenHash,
};
use tokenkeep::lifecycle::{Action, Method, Notice, ReplacedBy, Slot, SourceChange, Validity};
use tokenkeep::scheduler::{SchedulerOutput, Ticket};
use tokenkeep::time::Moment;

use crate::api::Value;
use crate::chance::Ms;
use crate::host::{Daemon, Newest, Origin, key_of, token_of};
use crate::invariants::{Invariant, Violation};
use crate::world::{Happening, World};

/// A spending must begin within this time: a login, and anything else.
const LOGIN_BEGINS: Duration = Duration::from_secs(10);
const OTHER_BEGINS: Duration = Duration::from_secs(5);

/// The longest that a daemon needs to look at all of its tokens.
const SLOWEST_WALK: Ms = 2_000;

/// The most outputs of one turn, and the most rounds of passing them on.
const MOST_OUTPUTS: usize = 400;
const MOST_ROUNDS: usize = 50;

impl World {
    /// A daemon hears of something, and does everything that follows.
    pub(crate) fn turn(
        &mut self,
        host: usize,
        event: impl FnOnce(&mut Daemon, Moment),
    ) -> Result<(), Violation> {
        let now = self.hosts[host].moment(self.now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
        event(daemon, now);
        daemon.tell_servers(now, self.now);
        for _ in 0..MOST_ROUNDS {
            let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
            if daemon.replica.next_wake().is_some_and(|wake| wake <= now) {
                daemon.replica.wake(now);
            }
            if daemon.scheduler.next_wake().is_some_and(|wake| wake <= now) {
                daemon.scheduler.wake(now);
            }
            let of_replica = std::mem::take(&mut daemon.replica.outputs);
            let of_scheduler = std::mem::take(&mut daemon.scheduler.outputs);
            let count = of_replica.len() + of_scheduler.len();
            if count > MOST_OUTPUTS {
                let what = format!("{count} outputs in one turn of host {host}");
                return Err(self.violation(Invariant::SteadyState, what));
            }
            if count == 0 {
                let wakes = [daemon.replica.next_wake(), daemon.scheduler.next_wake()];
                let wakes = wakes.into_iter().flatten().min();
                self.hosts[host].wakes = wakes;
                if wakes.is_none_or(|wake| wake > now) {
                    return Ok(());
                }
                continue;
            }
            for output in of_replica {
                self.do_for_replica(host, output)?;
            }
            for output in of_scheduler {
                self.do_for_scheduler(host, output)?;
            }
        }
        Err(self.violation(Invariant::SteadyState, format!("host {host} never comes to rest")))
    }

    fn do_for_replica(&mut self, host: usize, output: Output) -> Result<(), Violation> {
        self.trace.replica(self.now, host, &output);
        let now = self.hosts[host].moment(self.now);
        match output {
            Output::Read | Output::Beat { .. } | Output::Commit(..) => self.send(host, output),
            Output::SlotsChanged => self.slots_changed(host),
            Output::Granted { id, .. } => {
                self.tally.granted += 1;
                self.granted(host, id)?;
            }
            Output::Held { id, reason, retry_at } => {
                self.tally.held += 1;
                let unreachable = matches!(reason, HeldReason::Unreachable(_));
                let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
                if let Some((ticket, _)) = daemon.requested.remove(&id) {
                    let token = daemon.token_of(ticket.token);
                    daemon.scheduler.defer(ticket, retry_at, now);
                    self.take_up(host, token);
                    self.watch.spending.held(token, host, unreachable, self.now);
                }
            }
            Output::Released(hash) => self.released(host, hash),
            Output::NewValue { token, value, revision } => {
                let (token, value) = (token_of(&token), Value::open(&value));
                let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
                if let Some(value) = value {
                    daemon.cluster[token] = Some(Newest { value, revision, is_dead: false });
                    if let Some((_, is_late)) = &mut daemon.publishing[token] {
                        *is_late = true;
                    }
                    self.offer(host, token);
                }
            }
            Output::Published { token, revision, value } => {
                let (token, value) = (token_of(&token), Value::open(&value));
                let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
                if let Some(value) = value {
                    if daemon.publishing[token].is_some_and(|(own, _)| own == value) {
                        daemon.publishing[token] = None;
                    }
                    daemon.note_origin(token, value.session);
                    let newest = daemon.cluster[token].map_or(0, |newest| newest.revision);
                    if revision > newest {
                        daemon.cluster[token] = Some(Newest { value, revision, is_dead: false });
                    }
                    self.offer(host, token);
                    // One that was verified meanwhile may have been dropped for this one.
                    self.publish_if_new(host, token);
                }
            }
            Output::Dropped(token) => {
                if let Some(daemon) = &mut self.hosts[host].daemon {
                    daemon.publishing[token_of(&token)] = None;
                }
            }
            Output::Counted(token, count) => {
                let token = token_of(&token);
                let attempts = self.hosts[host].attempts(count, &self.plan, self.now);
                let there = &mut self.hosts[host];
                there.disk.attempts[token] = Some(count).filter(|count| count.counted > 0);
                if let Some(daemon) = &mut there.daemon
                    && let Some(id) = daemon.ids[token]
                    && let Some(attempts) = attempts
                {
                    daemon.scheduler.restore_reauth_attempts(id, attempts, now);
                }
            }
            Output::Seen(seen) => self.hosts[host].disk.seen = Some(seen),
            Output::Notice(notice) => {
                if let ClusterNotice::Unreachable(_) = notice {
                    self.tally.unreachable += 1;
                }
            }
            Output::NameTaken => {
                self.tally.names_taken += 1;
                self.stop_daemon(host, 10_000);
            }
            Output::Left => {
                let lease = self.hosts[host].daemon.as_ref().and_then(|daemon| daemon.lease);
                let is_reached = self.now >= self.hosts[host].cut_until.max(self.etcd.down_until);
                if let Some(lease) = lease.filter(|_| is_reached) {
                    self.etcd.end_lease(lease, self.now);
                }
                let pause = self.chance.spread(500, 60_000);
                self.stop_daemon(host, pause);
                self.etcd_changed()?;
            }
            // What is newer was offered.
            Output::Paused(..) | Output::Answered(..) => {}
        }
        Ok(())
    }

    /// The slots of a replica have changed, or it stops to wait for a view. A daemon with many tokens
    /// needs time to look at all of them.
    pub(crate) fn slots_changed(&mut self, host: usize) {
        if self.chance.odds(0.3) {
            let takes = self.chance.spread(1, SLOWEST_WALK.min(self.beat_time()));
            self.at(self.now + takes, Happening::AppliesSlots(host));
        } else {
            self.apply_slots(host);
        }
    }

    /// Tells the scheduler which tokens it asks about.
    pub(crate) fn apply_slots(&mut self, host: usize) {
        let moment = self.hosts[host].moment(self.now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        let waits = !daemon.replica.has_view() && daemon.patient_until.is_some();
        for token in 0..daemon.ids.len() {
            let Some(id) = daemon.ids[token] else { continue };
            let asks = !waits && daemon.replica.asks(&key_of(token));
            if std::mem::replace(&mut daemon.asked[token], asks) != asks {
                daemon.scheduler.set_asked(id, asks, moment);
                self.trace.asks(self.now, host, token, asks);
            }
        }
        self.must_look_at_coverage = true;
    }

    fn released(&mut self, host: usize, hash: Option<TokenHash>) {
        let moment = self.hosts[host].moment(self.now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        for token in 0..daemon.ids.len() {
            if hash.is_none_or(|hash| hash == key_of(token).hash())
                && let Some(id) = daemon.ids[token]
            {
                daemon.scheduler.release_deferred(id, moment);
            }
        }
    }

    /// Offers the value of the cluster to the scheduler, now or later.
    pub(crate) fn offer(&mut self, host: usize, token: usize) {
        let now = self.hosts[host].moment(self.now);
        let there = &mut self.hosts[host];
        let Some(daemon) = &mut there.daemon else { return };
        let (Some(id), Some(Newest { value, .. })) = (daemon.ids[token], daemon.cluster[token])
        else {
            return;
        };
        daemon.note_origin(token, value.session);
        // There is one spare slot, and a candidate of this host is verified first: if it lives, it
        // is newer. Where renewing spends the refresh token, the newest one counts at once.
        let spare = daemon.scheduler.spare_slot(id);
        let state = daemon.scheduler.token(id);
        let has_candidate = state.is_some_and(|token| token.has_candidate());
        let origin = daemon.slot(token, spare).map(|(_, origin)| origin).filter(|_| has_candidate);
        let is_own =
            matches!(origin, Some(Origin::Here | Origin::Spent)) && !self.plan.policy.rotates;
        let is_busy = state.is_some_and(|token| token.is_reauthenticating());
        let is_replaced = daemon.publishing[token].is_some_and(|(_, is_late)| !is_late);
        daemon.offer_again[token] = is_own || is_busy || is_replaced;
        if daemon.offer_again[token] {
            return;
        }
        let current = daemon.current(token).map(|(current, _)| current.session);
        // The newest one takes the place of an older one that was offered before.
        if current == Some(value.session) && origin != Some(Origin::Cluster) {
            return;
        }
        daemon.slots[token][spare as usize] = Some((value, Origin::Cluster));
        if value.refresh.is_some() {
            there.disk.companions[token] = Some(value);
        }
        daemon.scheduler.source_changed(id, SourceChange::Obtained(ReplacedBy::Replica), now);
        daemon.update_listing(token, now);
    }

    /// A login or a check is over: what came meanwhile is taken up.
    pub(crate) fn take_up(&mut self, host: usize, token: usize) {
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        if daemon.ids[token].is_none() {
            return;
        }
        if daemon.offer_again[token] {
            self.offer(host, token);
        }
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        if std::mem::take(&mut daemon.look_again[token]) {
            self.reads_source(host, token);
        }
    }

    /// The source of a token has changed.
    pub(crate) fn reads_source(&mut self, host: usize, token: usize) {
        let now = self.hosts[host].moment(self.now);
        let there = &mut self.hosts[host];
        let found = there.disk.values[token];
        let Some(daemon) = &mut there.daemon else { return };
        let (Some(id), Some(found)) = (daemon.ids[token], found) else { return };
        if daemon.scheduler.token(id).is_some_and(|token| token.is_reauthenticating()) {
            daemon.look_again[token] = true;
            return;
        }
        if daemon.in_source[token].replace(found) == Some(found) {
            return;
        }
        if daemon.current(token).is_some_and(|(current, _)| current.session == found.session) {
            return daemon.scheduler.source_changed(id, SourceChange::Reverted, now);
        }
        let spare = daemon.scheduler.spare_slot(id);
        let has_candidate = daemon.scheduler.token(id).is_some_and(|token| token.has_candidate());
        let in_spare = daemon.slot(token, spare).filter(|_| has_candidate);
        daemon.offer_again[token] |= in_spare.is_some_and(|(_, origin)| origin == Origin::Cluster);
        daemon.slots[token][spare as usize] = Some((found, Origin::Here));
        if found.refresh.is_some() {
            there.disk.companions[token] = Some(found);
            daemon.scheduler.source_changed(id, SourceChange::NewRefreshToken, now);
        }
        daemon.scheduler.source_changed(id, SourceChange::NewValue, now);
        daemon.update_listing(token, now);
    }

    fn do_for_scheduler(&mut self, host: usize, output: SchedulerOutput) -> Result<(), Violation> {
        match output {
            SchedulerOutput::Action(ticket, action) => self.start_action(host, ticket, action),
            SchedulerOutput::TokenNotice(id, notice) => {
                let token = self.hosts[host].daemon.as_ref().map_or(0, |d| d.token_of(id));
                self.trace.notice(self.now, host, token, &notice);
                self.said(host, token, &notice);
                Ok(())
            }
            SchedulerOutput::ServerNotice(..) | SchedulerOutput::ReauthExhausted { .. } => Ok(()),
        }
    }

    fn start_action(
        &mut self,
        host: usize,
        ticket: Ticket,
        action: Action,
    ) -> Result<(), Violation> {
        let now = self.hosts[host].moment(self.now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
        let token = daemon.token_of(ticket.token);
        if !daemon.scheduler.expects(ticket) {
            daemon.scheduler.cancel(ticket, now);
            return Ok(());
        }
        self.trace.action(self.now, host, token, action);
        let timeout = match action {
            Action::Reauth { .. } => None,
            Action::Check { method: Method::Renew, timeout, .. } if self.plan.policy.rotates => {
                Some(timeout)
            }
            Action::Revoke { timeout, .. } => Some(timeout),
            Action::Check { method, slot, timeout, .. } => {
                return self.ask(host, ticket, (method, slot, timeout));
            }
            Action::Persist { slot } => {
                self.persist(host, ticket, slot);
                return Ok(());
            }
        };
        let (limit, begin_within) = match timeout {
            None => (self.plan.login_timeout + LOGIN_BEGINS, LOGIN_BEGINS),
            Some(timeout) => (timeout + OTHER_BEGINS, OTHER_BEGINS),
        };
        let count = if timeout.is_none() { self.count(host, ticket) } else { None };
        let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
        daemon.last_spend += 1;
        let id = SpendId(daemon.last_spend);
        daemon.requested.insert(id, (ticket, action));
        let token = key_of(token);
        daemon.replica.request(SpendRequest { id, token, limit, begin_within, count }, now);
        Ok(())
    }

    /// The attempts of a token, as they are shared and persisted. `None`: it is not configured any
    /// more, and what counts is not known.
    pub(crate) fn count(&mut self, host: usize, ticket: Ticket) -> Option<Count> {
        let there = &mut self.hosts[host];
        let daemon = there.daemon.as_ref()?;
        let token = daemon.token_of(ticket.token);
        let state = daemon.scheduler.token(ticket.token).filter(|_| daemon.ids[token].is_some())?;
        let count = there.count(state.attempts(), self.now);
        there.disk.attempts[token] = Some(count).filter(|count| count.counted > 0);
        Some(count)
    }

    /// A claim was granted: the spending is begun.
    fn granted(&mut self, host: usize, id: SpendId) -> Result<(), Violation> {
        let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
        let Some((ticket, action)) = daemon.requested.remove(&id) else {
            let what = format!("host {host} is granted {id:?}, which it does not want");
            return Err(self.violation(Invariant::SteadyState, what));
        };
        self.start_spending(host, id, ticket, action);
        Ok(())
    }

    /// The value of a check was confirmed: the cluster gets it if it does not have it.
    pub(crate) fn publish_if_new(&mut self, host: usize, token: usize) {
        let nonce = self.chance.seed();
        let now = self.hosts[host].moment(self.now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        let Some(id) = daemon.ids[token] else { return };
        let is_alive =
            |token: tokenkeep::lifecycle::Token| matches!(token.validity(), Validity::Alive(_));
        let Some((value, origin)) = daemon.current(token) else { return };
        if !daemon.scheduler.token(id).is_some_and(is_alive)
            || daemon.publishing[token] == Some((value, false))
        {
            return;
        }
        let replaces_dead = daemon.cluster[token]
            .is_some_and(|newest| newest.is_dead && newest.value.session != value.session);
        if origin == Origin::Here || replaces_dead {
            daemon.publishing[token] = Some((value, false));
            let base = daemon.cluster[token].map_or(0, |newest| newest.revision);
            daemon.replica.publish(base, key_of(token), value.seal(nonce), now);
        }
    }

    /// What the scheduler reports.
    fn said(&mut self, host: usize, token: usize, notice: &Notice) {
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        if let Notice::Expired { candidate, .. } | Notice::Rejected { candidate, .. } = notice {
            let Some(id) = daemon.ids[token] else { return };
            let spare = daemon.scheduler.spare_slot(id);
            let slot = if *candidate { spare } else { spare.other() };
            let dead = daemon.slot(token, slot).map(|(value, _)| value.session);
            if let Some(newest) = &mut daemon.cluster[token] {
                newest.is_dead |= Some(newest.value.session) == dead;
            }
        }
    }
}

impl Daemon {
    /// The cluster has this value.
    pub(crate) fn note_origin(&mut self, token: usize, session: usize) {
        for (value, origin) in self.slots[token].iter_mut().flatten() {
            if value.session == session {
                *origin = Origin::Cluster;
            }
        }
    }

    /// The slot that a login's value is put into.
    pub(crate) fn spare(&self, token: usize) -> Option<Slot> {
        self.ids[token].map(|id| self.scheduler.spare_slot(id))
    }
}
