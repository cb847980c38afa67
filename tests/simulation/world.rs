//! The world: virtual time, and everything in it but the scheduler.
//!
//! It jumps from event to event, the scheduler's next wake-up or whatever comes next around it.
//! There is no runtime and no sleep, and the same seed is the same run. The world plays the
//! daemon too: it hands effects out and their ends back, and keeps the values.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use tokenkeep::scheduler::{ReauthId, Scheduler, ServerId, Ticket, TokenId, TokenSpec};
use tokenkeep::time::Moment;

use crate::api::{Server, Session, SessionId};
use crate::chance::{Chance, DAY, HOUR, Ms, whole};
use crate::connections::Connections;
use crate::families::Family;
use crate::faults::{Climate, Incident, Incidents};
use crate::invariants::{Invariant, Tally, Violation, Watch};
use crate::plan::Plan;
use crate::restarts::Saved;
use crate::subject::{Flight, Subject};
use crate::trace::Trace;
use crate::watching::Heard;

/// When every world begins. Far enough from zero that nothing can hide in saturation.
const START: Ms = 10 * DAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// A server does what a flight asks it for.
    Acts(usize),
    /// A flight comes back.
    Ends(usize),
    /// The next incident.
    Incident,
    /// Somebody puts a value where none is: an operator who has read the log.
    Mend(usize),
    /// The daemon's time to go on with checks is over: it winds down.
    Close,
    /// The daemon's time to wind down is over.
    Stop,
    /// The daemon starts.
    Start,
}

/// A world and the scheduler in it.
pub(crate) struct World {
    pub(crate) now: Ms,
    pub(crate) plan: Plan,
    pub(crate) chance: Chance,
    pub(crate) hook_chance: Chance,
    /// `None` while the daemon is down.
    pub(crate) scheduler: Option<Scheduler>,
    /// Counts the daemon's starts.
    pub(crate) run: u32,
    /// The daemon is about to stop: it begins no logins, and goes on with checks.
    pub(crate) ending: bool,
    /// Since when the daemon winds down, while it does.
    pub(crate) stopping: Option<Ms>,
    pub(crate) server_ids: Vec<ServerId>,
    pub(crate) way_ids: Vec<ReauthId>,
    /// Whose number each of the scheduler's is.
    pub(crate) by_id: Vec<Option<usize>>,
    /// The same for servers, old numbers included.
    pub(crate) servers_by_id: Vec<Option<usize>>,
    /// Actions that were not begun, and are to be handed back.
    pub(crate) cancelled: Vec<Ticket>,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) servers: Vec<Server>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) families: Vec<Family>,
    pub(crate) flights: Vec<Option<Flight>>,
    free_flights: Vec<usize>,
    queue: BinaryHeap<Reverse<(Ms, u64, Happening)>>,
    queued: u64,
    pub(crate) incidents: Incidents,
    pub(crate) next_incident: Option<Incident>,
    pub(crate) asleep_until: Ms,
    pub(crate) disk_full_until: Ms,
    /// How long the daemon stays down, once it has stopped.
    pub(crate) restart_after: Ms,
    /// What its state directory holds meanwhile.
    pub(crate) saved: Saved,
    /// Until when nothing logs in, by way.
    pub(crate) closed: Vec<Ms>,
    /// Until when commands hang, by way.
    pub(crate) hooks_hang_until: Vec<Ms>,
    /// Until when logins come to no conclusion, by way.
    pub(crate) logins_down_until: Vec<Ms>,
    /// The next start is that of another boot, whose clock is off by so much.
    pub(crate) boot: Option<i64>,
    /// Counts the occasions to look at all tokens.
    pub(crate) looks: u64,
    /// What the scheduler wants now, it wanted while it heard of a batch of events.
    pub(crate) in_batch: bool,
    /// What sources held that are empty now.
    pub(crate) lost_sources: Vec<(usize, Option<SessionId>)>,
    /// When the length of lives last changed.
    pub(crate) cut_since: Ms,
    pub(crate) watch: Watch,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
}

/// Within this, twenty lives and a budget's window some token is asked about, or logs in: whatever
/// is broken is mended, every budget is full again, and probes go on all the while.
const LONGEST_LULL: Ms = 2 * DAY;

impl World {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut chance = Chance::new(seed, 0);
        let plan = Plan::new(seed, &mut chance);
        let servers: Vec<_> = (1..)
            .zip(&plan.servers)
            .map(|(stream, server)| {
                let climate = Climate::new(Chance::new(seed, 100 + stream), plan.life, START);
                let connections = Connections::new(Chance::new(seed, 300 + stream));
                let chance = Chance::new(seed, 200 + stream);
                Server::new(server.traits.clone(), climate, connections, chance)
            })
            .collect();
        let incidents = Incidents::new(Chance::new(seed, 1), plan.life, plan.tokens.len());
        let subjects: Vec<_> = plan
            .tokens
            .iter()
            .map(|token| Subject {
                server: token.server,
                life: token.life,
                policy: Arc::clone(&token.policy),
                way: token.way,
                id: None,
                configured: true,
                slots: [None, None],
                using: None,
                source: None,
                refresh: None,
                is_refresh_new: false,
                renewal_outdated_at: None,
                refresh_locked_until: 0,
                nothing: None,
                seen: None,
                look_again: false,
                poisoned: Vec::new(),
                spoilt: Vec::new(),
                unconfirmed: false,
            })
            .collect();
        let watch = Watch::new(&plan, &subjects);
        let mut world = Self {
            now: START,
            hook_chance: Chance::new(seed, 2),
            scheduler: None,
            run: 0,
            ending: false,
            stopping: None,
            server_ids: Vec::new(),
            way_ids: Vec::new(),
            by_id: Vec::new(),
            servers_by_id: Vec::new(),
            cancelled: Vec::new(),
            subjects,
            servers,
            sessions: Vec::new(),
            families: Vec::new(),
            flights: Vec::new(),
            free_flights: Vec::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            incidents,
            next_incident: None,
            asleep_until: 0,
            disk_full_until: 0,
            restart_after: 0,
            saved: Saved::default(),
            closed: vec![0; plan.ways.len()],
            hooks_hang_until: vec![0; plan.ways.len()],
            logins_down_until: vec![0; plan.ways.len()],
            boot: None,
            looks: 0,
            in_batch: false,
            lost_sources: Vec::new(),
            cut_since: 0,
            watch,
            tally: Tally::new(plan.short),
            trace,
            chance,
            plan,
        };
        world.trace.world(&world.plan);
        for number in 0..world.subjects.len() {
            let value = world.first_value(number);
            let there = &mut world.subjects[number];
            // The first start of many a token finds a refresh token only.
            let without = there.refresh.is_some() && number % 4 == 3;
            there.source = Some(value).filter(|_| !without);
        }
        world.at(START, Happening::Start);
        world.plan_incident();
        world
    }

    /// Runs until the scheduler has made so many checks, or something is wrong.
    pub(crate) fn run(&mut self, checks: u64) -> Result<(), Violation> {
        let windows = self.plan.ways.iter().map(|way| whole(way.window));
        let longest_lull = LONGEST_LULL + 20 * self.plan.life + windows.max().unwrap_or(0);
        let (mut last, mut last_call) = (0, self.now);
        while self.tally.checks < checks {
            self.next()?;
            let calls = self.tally.checks + self.tally.logins;
            if calls > last || self.subjects.iter().all(|there| !there.configured) {
                (last, last_call) = (calls, self.now);
            } else if self.now > last_call + longest_lull {
                return Err(self.violation(Invariant::NeverStalls, "nothing is asked any more"));
            }
        }
        self.finish()
    }

    /// Jumps to what comes next, and lets it happen.
    fn next(&mut self) -> Result<(), Violation> {
        let around = self.queue.peek().map(|Reverse((at, _, _))| *at);
        let wake = self.wakes_at();
        let Some(next) = [around, wake].into_iter().flatten().min() else {
            return Err(self.violation(Invariant::NeverStalls, "nothing will ever happen again"));
        };
        self.now = self.now.max(next);
        if around != Some(next) {
            return self.tell(None, None, Scheduler::wake);
        }
        let Some(Reverse((_, _, happening))) = self.queue.pop() else { return Ok(()) };
        if self.now < self.asleep_until && !matches!(happening, Happening::Acts(_)) {
            self.at(self.asleep_until, happening);
            return Ok(());
        }
        match happening {
            Happening::Acts(flight) => {
                self.acts(flight);
                Ok(())
            }
            Happening::Ends(flight) => self.ends(flight),
            Happening::Incident => self.incident(),
            Happening::Mend(subject) => self.mend(subject),
            Happening::Close => self.close(),
            Happening::Stop => self.stop(),
            Happening::Start => self.start(),
        }
    }

    /// When the scheduler is woken; the timer is only so precise, and stands still in a suspend.
    fn wakes_at(&mut self) -> Option<Ms> {
        let scheduler = self.scheduler.as_ref().filter(|_| self.stopping.is_none())?;
        let at = scheduler.next_wake()?.as_millis();
        Some(at.next_multiple_of(self.plan.tick).max(self.asleep_until))
    }

    pub(crate) fn at(&mut self, at: Ms, happening: Happening) {
        self.queued += 1;
        self.queue.push(Reverse((at, self.queued, happening)));
    }

    /// The scheduler hears of something, and what it wants is done; `about` is the token that
    /// it concerns, `reading` what was heard of its life.
    pub(crate) fn tell(
        &mut self,
        about: Option<usize>,
        reading: Option<Heard>,
        event: impl FnOnce(&mut Scheduler, Moment),
    ) -> Result<(), Violation> {
        self.hear(event);
        self.act(about.as_slice(), reading)?;
        while let Some(ticket) = self.cancelled.pop() {
            self.watch.permits.cancelled();
            self.tally.cancelled += 1;
            self.hear(|scheduler, now| scheduler.cancel(ticket, now));
            self.act(&[], None)?;
        }
        Ok(())
    }

    /// The scheduler hears of something. What it wants waits until the daemon comes to
    /// [act](Self::act) upon it.
    pub(crate) fn hear(&mut self, event: impl FnOnce(&mut Scheduler, Moment)) {
        if let Some(scheduler) = &mut self.scheduler {
            event(scheduler, Moment::from_millis(self.now));
        }
    }

    /// The scheduler has heard of all that has happened, and what it wants is done.
    fn act(&mut self, about: &[usize], reading: Option<Heard>) -> Result<(), Violation> {
        let now = Moment::from_millis(self.now);
        let Some(scheduler) = self.scheduler.as_mut() else { return Ok(()) };
        if self.stopping.is_none() {
            scheduler.wake(now);
            if scheduler.next_wake().is_some_and(|next| next <= now) {
                scheduler.wake(now);
            }
        }
        let outputs = std::mem::take(&mut scheduler.outputs);
        for subject in about {
            self.look_at_value_in_use(*subject, reading)?;
        }
        let mut later = outputs.as_slice();
        while let Some((output, rest)) = later.split_first() {
            later = rest;
            self.perform(output.clone(), later, reading)?;
        }
        self.watch_step(about)
    }

    /// The same for a batch of events, which the scheduler has [heard](Self::hear) of.
    pub(crate) fn act_on_batch(&mut self, about: &[usize]) -> Result<(), Violation> {
        self.in_batch = true;
        self.act(about, None)?;
        self.in_batch = false;
        self.tell(None, None, |_, _| {})
    }

    pub(crate) fn whose(&self, id: TokenId) -> Option<usize> {
        self.by_id.get(id.index()).copied().flatten()
    }

    pub(crate) fn add_flight(&mut self, flight: Flight) -> usize {
        if let Some(index) = self.free_flights.pop() {
            self.flights[index] = Some(flight);
            return index;
        }
        self.flights.push(Some(flight));
        self.flights.len() - 1
    }

    /// One of a flight's events has come; after the last one it is over.
    pub(crate) fn land(&mut self, index: usize) -> Option<Flight> {
        let flight = self.flights[index].as_mut()?;
        flight.events -= 1;
        if flight.events > 0 {
            return None;
        }
        self.free_flights.push(index);
        self.flights[index].take()
    }

    pub(crate) fn spec(&self, subject: usize) -> TokenSpec {
        let Subject { server, policy, way, .. } = &self.subjects[subject];
        TokenSpec {
            server: self.server_ids[*server],
            policy: Arc::clone(policy),
            reauth: way.map(|way| self.way_ids[way]),
        }
    }

    /// A new session for a token, of which some part may have passed.
    pub(crate) fn new_session(&mut self, subject: usize, life: Ms, used: Ms) -> SessionId {
        let server = self.subjects[subject].server;
        self.sessions.push(self.servers[server].log_in(server, life, used, self.now));
        self.sessions.len() - 1
    }

    fn first_value(&mut self, subject: usize) -> SessionId {
        let life = self.subjects[subject].life;
        let used = if self.chance.odds(0.5) { 0 } else { self.chance.between(0, life) };
        self.given_session(subject, life, used)
    }

    pub(crate) fn plan_incident(&mut self) {
        if let Some((wait, incident)) = self.incidents.next() {
            self.next_incident = Some(incident);
            self.at(self.now + wait, Happening::Incident);
        }
    }

    pub(crate) fn violation(&self, invariant: Invariant, what: impl Into<String>) -> Violation {
        Violation { invariant, at: self.now, what: what.into() }
    }

    /// The world is at its end: what has died unnoticed, and what it all was.
    fn finish(&mut self) -> Result<(), Violation> {
        self.tally.close((self.now - START) / HOUR, self.subjects.len());
        self.check_deaths()
    }
}
