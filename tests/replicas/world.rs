//! The world: virtual time, and everything in it but schedulers and replicas.
//!
//! It jumps from event to event. The same seed is the same run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::api::{Api, Value};
use crate::chance::{Chance, DAY, HOUR, Ms, whole};
use crate::etcd::Etcd;
use crate::faults::Incident;
use crate::flights::Flight;
use crate::host::Host;
use crate::invariants::{Invariant, Tally, Violation, Watch};
use crate::link::Operation;
use crate::plan::Plan;
use crate::trace::Trace;

/// When every world begins. Far enough from zero that nothing can hide in saturation.
pub(crate) const START: Ms = 10 * DAY;

/// So many steps for each check, and a world ends: nearly all of them were beats.
const MOST_STEPS: u64 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// The next incident.
    Incident(Incident),
    /// The daemon of a host starts.
    Starts(usize),
    /// Its processes continue.
    Resumes(usize),
    /// An operator reloads it, so that it accepts the restored etcd.
    Accepts(usize),
    /// Its daemon has looked at all tokens after its slots had changed.
    AppliesSlots(usize),
    /// It notices that the source of a token has changed.
    ReadsSource { host: usize, token: usize },
    /// An operation arrives at etcd.
    Arrives(u64, u8),
    /// Its response arrives.
    Answered(u64, u8),
    /// An endpoint has not answered in time.
    TimedOut(u64, u8),
    /// An operation can have no consequences any more.
    Forgotten(u64),
    /// A watch delivers.
    Watched { host: usize, generation: u64, revision: u64 },
    /// A watch ends.
    WatchEnds { host: usize, generation: u64 },
    /// A spending looks at the clock.
    Looks(u64),
    /// The API does what a request asks for.
    Acts(u64),
    /// The daemon hears of it.
    Ends(u64),
    /// A spending is over for the API.
    IsOver { token: usize, host: usize },
    /// A configuration changes on one host.
    Configures { host: usize, token: usize, is_added: bool },
    /// The invariants are checked that depend on time alone.
    Sample,
}

/// A world.
pub(crate) struct World {
    pub(crate) now: Ms,
    pub(crate) plan: Plan,
    pub(crate) chance: Chance,
    pub(crate) net_chance: Chance,
    pub(crate) fault_chance: Chance,
    pub(crate) etcd: Etcd,
    pub(crate) api: Api,
    pub(crate) hosts: Vec<Host>,
    /// The values that every host was set up with.
    pub(crate) first_values: Vec<Option<Value>>,
    pub(crate) operations: BTreeMap<u64, Operation>,
    pub(crate) last_operation: u64,
    pub(crate) flights: BTreeMap<u64, Flight>,
    pub(crate) last_flight: u64,
    queue: BinaryHeap<Reverse<(Ms, u64, Happening)>>,
    queued: u64,
    /// How many of the changes of etcd the invariants know.
    pub(crate) told_changes: usize,
    pub(crate) must_look_at_coverage: bool,
    pub(crate) watch: Watch,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut chance = Chance::new(seed, 0);
        let plan = Plan::new(&mut chance);
        trace.world(&plan);
        let mut api = Api::new(plan.renews, plan.single_session, plan.lives.clone());
        let without = chance.odds(0.1);
        let first_values: Vec<_> = (0..plan.lives.len())
            .map(|token| {
                let value = api.log_in(token, START);
                let used = chance.between(0, plan.lives[token]);
                api.sessions[value.session].end -= if chance.odds(0.5) { used } else { 0 };
                Some(value).filter(|_| !without || chance.odds(0.5))
            })
            .collect();
        let hosts: Vec<_> = (0..)
            .zip(&plan.hosts)
            .map(|(index, host)| Host::new(index, *host, START, first_values.clone()))
            .collect();
        let watch = Watch::new(&plan);
        let mut world = Self {
            now: START,
            net_chance: Chance::new(seed, 1),
            fault_chance: Chance::new(seed, 2),
            etcd: Etcd::new(chance.seed()),
            api,
            hosts,
            first_values,
            operations: BTreeMap::new(),
            last_operation: 0,
            flights: BTreeMap::new(),
            last_flight: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            told_changes: 0,
            must_look_at_coverage: false,
            watch,
            tally: Tally { worlds: 1, ..Tally::default() },
            trace,
            chance,
            plan,
        };
        for host in 0..world.hosts.len() {
            let wait = world.chance.spread(1, 10_000);
            world.at(START + wait, Happening::Starts(host));
        }
        world.at(START + 1, Happening::Sample);
        world.plan_incident();
        world
    }

    /// Runs until so many checks were made, or something is wrong.
    pub(crate) fn run(&mut self, checks: u64) -> Result<(), Violation> {
        for _ in 0..checks * MOST_STEPS {
            if self.tally.checks + self.tally.rotations + self.tally.logins >= checks {
                break;
            }
            self.next()?;
        }
        self.tally.hours += (self.now - START) / HOUR;
        Ok(())
    }

    /// Jumps to what comes next, and lets it happen.
    fn next(&mut self) -> Result<(), Violation> {
        let around = self.queue.peek().map(|Reverse((at, _, _))| *at);
        let lease = self.etcd.next_end();
        let wake =
            (0..self.hosts.len()).filter_map(|host| Some((self.wakes_at(host)?, host))).min();
        let wakes_at = wake.map(|(at, _)| at);
        let Some(next) = [around, lease, wakes_at].into_iter().flatten().min() else {
            return Err(self.violation(Invariant::SteadyState, "nothing will ever happen again"));
        };
        self.now = self.now.max(next);
        if lease == Some(next) {
            self.etcd.end_leases(self.now);
            return self.etcd_changed();
        }
        if let Some((_, host)) = wake.filter(|(at, _)| *at == next) {
            if self.hosts[host].daemon.as_ref().is_some_and(|daemon| daemon.patient_until.is_some())
            {
                self.stops_waiting(host);
            }
            self.turn(host, |_, _| {})?;
            return self.look_at_coverage();
        }
        let Some(Reverse((_, _, happening))) = self.queue.pop() else { return Ok(()) };
        self.happens(happening)?;
        self.look_at_coverage()
    }

    fn happens(&mut self, happening: Happening) -> Result<(), Violation> {
        if let Some(host) = self.process_of(happening) {
            let there = &self.hosts[host];
            if there.stopped_until > self.now {
                self.at(there.stopped_until, happening);
                return Ok(());
            }
        }
        match happening {
            Happening::Incident(incident) => self.incident(incident),
            Happening::Starts(host) => self.start_daemon(host),
            Happening::Resumes(host) => self.resumed(host),
            Happening::Accepts(host) => {
                self.turn(host, |daemon, now| daemon.replica.accept_store(now))
            }
            Happening::AppliesSlots(host) => {
                self.apply_slots(host);
                self.turn(host, |_, _| {})
            }
            Happening::ReadsSource { host, token } => {
                self.reads_source(host, token);
                self.turn(host, |_, _| {})
            }
            Happening::Arrives(number, attempt) => self.arrives(number, attempt),
            Happening::Answered(number, attempt) if self.is_awaited(number) => {
                self.answered(number, attempt)
            }
            Happening::TimedOut(number, attempt) if self.is_awaited(number) => {
                self.timed_out(number, attempt)
            }
            Happening::Answered(..) | Happening::TimedOut(..) => Ok(()),
            Happening::Forgotten(number) => {
                self.forgotten(number);
                Ok(())
            }
            Happening::Watched { host, generation, revision } => {
                self.watched(host, generation, revision)
            }
            Happening::WatchEnds { host, generation } => self.end_watch(host, generation),
            Happening::Looks(number) if self.is_flight_of_a_running_daemon(number) => {
                self.looks(number)
            }
            Happening::Ends(number) if self.is_flight_of_a_running_daemon(number) => {
                self.ends(number)
            }
            Happening::Looks(number) | Happening::Ends(number) => {
                self.flights.remove(&number);
                Ok(())
            }
            Happening::Acts(number) => self.acts(number),
            Happening::IsOver { token, host } => {
                self.api.end(token, host);
                Ok(())
            }
            Happening::Configures { host, token, is_added } => {
                self.configures(host, token, is_added)
            }
            Happening::Sample => self.sample(),
        }
    }

    /// The host whose process must run for this to happen.
    fn process_of(&self, happening: Happening) -> Option<usize> {
        match happening {
            Happening::Starts(host)
            | Happening::Accepts(host)
            | Happening::AppliesSlots(host)
            | Happening::ReadsSource { host, .. }
            | Happening::Watched { host, .. }
            | Happening::WatchEnds { host, .. }
            | Happening::Configures { host, .. } => Some(host),
            Happening::Answered(number, _) | Happening::TimedOut(number, _) => {
                self.operations.get(&number).map(|operation| operation.host)
            }
            Happening::Looks(number) | Happening::Ends(number) => {
                self.flights.get(&number).map(|flight| flight.host)
            }
            Happening::Incident(_)
            | Happening::Resumes(_)
            | Happening::Arrives(..)
            | Happening::Forgotten(_)
            | Happening::Acts(_)
            | Happening::IsOver { .. }
            | Happening::Sample => None,
        }
    }

    fn is_awaited(&self, number: u64) -> bool {
        self.operations.get(&number).is_some_and(|operation| {
            let there = &self.hosts[operation.host];
            there.daemon.is_some() && there.incarnation == operation.incarnation
        })
    }

    /// When the daemon of a host has something to do.
    fn wakes_at(&self, host: usize) -> Option<Ms> {
        let there = &self.hosts[host];
        let daemon = there.daemon.as_ref()?;
        let wakes = there.wakes.map(|wake| there.when(wake));
        let at = [wakes, daemon.patient_until].into_iter().flatten().min()?;
        Some(at.max(there.stopped_until))
    }

    pub(crate) fn at(&mut self, at: Ms, happening: Happening) {
        self.queued += 1;
        self.queue.push(Reverse((at, self.queued, happening)));
    }

    /// A daemon has a view of the cluster, or has waited long enough for one.
    fn stops_waiting(&mut self, host: usize) {
        let now = self.now;
        let Some(daemon) = &mut self.hosts[host].daemon else { return };
        if daemon.replica.has_view() || daemon.patient_until.is_some_and(|until| until <= now) {
            daemon.patient_until = None;
            self.slots_changed(host);
        }
    }

    fn start_daemon(&mut self, host: usize) -> Result<(), Violation> {
        if self.hosts[host].daemon.is_some() {
            return Ok(());
        }
        let seed = self.chance.seed();
        self.trace.event(self.now, || format!("host {host} starts"));
        self.hosts[host].start(&self.plan, seed, self.now);
        self.tally.starts += 1;
        self.must_look_at_coverage = true;
        self.turn(host, |_, _| {})
    }

    /// The daemon of a host is gone, and starts again after a while.
    pub(crate) fn stop_daemon(&mut self, host: usize, pause: Ms) {
        self.trace.event(self.now, || format!("host {host}: its daemon is gone"));
        if self.hosts[host].daemon.take().is_some() {
            self.departed(host);
            self.at(self.now + pause, Happening::Starts(host));
        }
    }

    fn resumed(&mut self, host: usize) -> Result<(), Violation> {
        self.must_look_at_coverage = true;
        if self.hosts[host].is_running(self.now) { self.turn(host, |_, _| {}) } else { Ok(()) }
    }

    fn configures(&mut self, host: usize, token: usize, is_added: bool) -> Result<(), Violation> {
        self.trace.event(self.now, || format!("host {host}: token {token} listed: {is_added}"));
        let was = std::mem::replace(&mut self.hosts[host].configured[token], is_added);
        let Some(mut daemon) = self.hosts[host].daemon.take() else { return Ok(()) };
        if was != is_added {
            if is_added {
                self.hosts[host].add_token(&mut daemon, &self.plan, token, self.now);
            } else if let Some(id) = daemon.ids[token].take() {
                let now = self.hosts[host].moment(self.now);
                daemon.scheduler.remove_token(id);
                daemon.update_listing(token, now);
                daemon.asked[token] = false;
                self.departed(host);
            }
        }
        self.hosts[host].daemon = Some(daemon);
        if is_added && !was {
            self.offer(host, token);
        }
        self.apply_slots(host);
        self.turn(host, |_, _| {})
    }

    pub(crate) fn violation(&self, invariant: Invariant, what: impl Into<String>) -> Violation {
        Violation { invariant, at: self.now, what: what.into() }
    }

    /// One third of the failover time.
    pub(crate) fn beat_time(&self) -> Ms {
        whole(self.plan.failover) / 3
    }
}
