//! A machine: its clocks, what its disk keeps, and the daemon that runs on it.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep::cluster::replica::{
    Count, KeyId, Replica, ReplicaSettings, SpendId, StoreRevision, TokenKey,
};
use tokenkeep::lifecycle::{Action, ReauthAttempts, Slot, SourceChange};
use tokenkeep::scheduler::{ReauthId, Scheduler, ServerId, Ticket, TokenId, TokenSpec};
use tokenkeep::time::Moment;

use crate::api::Value;
use crate::chance::Ms;
use crate::etcd::LeaseId;
use crate::plan::{HostPlan, Plan};

/// Without a view of the cluster, a daemon waits so long before it asks about everything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The name of the API.
const API: &str = "api";

const MILLION: i64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: Arc<str>,
    pub(crate) plan: HostPlan,
    /// Id of the boot, and when it was.
    pub(crate) boot: u64,
    booted: Ms,
    pub(crate) wall_ahead: i64,
    /// Its processes are stopped until this moment.
    pub(crate) stopped_until: Ms,
    /// It is cut off from etcd until this moment.
    pub(crate) cut_until: Ms,
    /// It is cut off from the API until this moment.
    pub(crate) api_cut_until: Ms,
    /// Most of its messages to and from etcd are lost or late until this moment.
    pub(crate) bad_until: Ms,
    /// The tokens of its configuration.
    pub(crate) configured: Vec<bool>,
    pub(crate) disk: Disk,
    pub(crate) daemon: Option<Daemon>,
    /// When its daemon has something to do, by its clock.
    pub(crate) wakes: Option<Moment>,
    /// Counts the starts of its daemon.
    pub(crate) incarnation: u64,
}

/// What survives the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    /// The source of each token.
    pub(crate) values: Vec<Option<Value>>,
    /// The refresh token of each token, with the value that it came with. Written before the value
    /// is used.
    pub(crate) companions: Vec<Option<Value>>,
    /// The attempts of each token; their windows end by the wall clock.
    pub(crate) attempts: Vec<Option<Count>>,
    pub(crate) seen: Option<StoreRevision>,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was there at the start.
    Start,
    /// From the cluster, or given to it.
    Cluster,
    /// From an operator of this host.
    Here,
    /// From a spending of this host: its replica puts it into etcd by itself.
    Spent,
}

/// The newest value of a token in etcd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newest {
    pub(crate) value: Value,
    pub(crate) revision: u64,
    /// A check of this replica has found it dead.
    pub(crate) is_dead: bool,
}

/// A watch of etcd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EtcdWatch {
    pub(crate) generation: u64,
    /// The next revision that it delivers.
    pub(crate) next: u64,
    /// Delivers nothing before this moment.
    pub(crate) silent_until: Ms,
}

#[derive(Debug)]
pub(crate) struct Daemon {
    /// The random number of this start.
    pub(crate) incarnation: u64,
    pub(crate) scheduler: Scheduler,
    pub(crate) replica: Replica,
    pub(crate) server: ServerId,
    /// Since when its scheduler takes the API for reached; `None` while it does not.
    pub(crate) reached_since: Option<Ms>,
    pub(crate) reauth: Option<ReauthId>,
    pub(crate) ids: Vec<Option<TokenId>>,
    /// Whose id each of the scheduler's is.
    pub(crate) by_id: Vec<usize>,
    pub(crate) slots: Vec<[Option<(Value, Origin)>; 2]>,
    /// The value that the source of each token is known to hold: a second look at it says nothing.
    pub(crate) in_source: Vec<Option<Value>>,
    /// The newest value that the cluster is known to have, also of tokens that are not configured,
    pub(crate) cluster: Vec<Option<Newest>>,
    /// Values of this replica that are on their way to etcd, and whether a newer one has come
    /// meanwhile.
    pub(crate) publishing: Vec<Option<(Value, bool)>>,
    /// The value of the cluster could not be taken at once.
    pub(crate) offer_again: Vec<bool>,
    /// An operator has changed the source during a login.
    pub(crate) look_again: Vec<bool>,
    pub(crate) asked: Vec<bool>,
    /// The tokens that the replica is told to list.
    listed: Vec<bool>,
    /// What waits for a claim.
    pub(crate) requested: BTreeMap<SpendId, (Ticket, Action)>,
    pub(crate) last_spend: u64,
    pub(crate) lease: Option<LeaseId>,
    /// Number of the newest read.
    pub(crate) reading: u64,
    /// The beat that was sent, and those that wait for its end.
    pub(crate) beats: VecDeque<u64>,
    pub(crate) watch: Option<EtcdWatch>,
    pub(crate) watches: u64,
    /// When it stops to wait for a view.
    pub(crate) patient_until: Option<Ms>,
    pub(crate) is_leaving: bool,
}

impl Disk {
    /// What an operator has put there.
    pub(crate) fn new(values: Vec<Option<Value>>) -> Self {
        let attempts = vec![None; values.len()];
        Self { companions: values.clone(), values, attempts, seen: None }
    }
}

impl Host {
    pub(crate) fn new(index: usize, plan: HostPlan, now: Ms, values: Vec<Option<Value>>) -> Self {
        let tokens = values.len();
        Self {
            name: format!("keeper-{index}").into(),
            plan,
            boot: 1 + index as u64,
            booted: now - 60_000,
            wall_ahead: plan.wall_ahead,
            stopped_until: 0,
            cut_until: 0,
            api_cut_until: 0,
            bad_until: 0,
            configured: vec![true; tokens],
            disk: Disk::new(values),
            daemon: None,
            wakes: None,
            incarnation: 0,
        }
    }

    /// The machine boots again.
    pub(crate) fn reboot(&mut self, now: Ms) {
        self.boot += 1_000;
        self.booted = now;
    }

    /// What its clock shows.
    pub(crate) fn moment(&self, now: Ms) -> Moment {
        let passed = i64::try_from(now - self.booted).unwrap_or(i64::MAX);
        let shown = i128::from(passed) * i128::from(MILLION + self.plan.drift_ppm);
        Moment::from_millis(u64::try_from(shown / i128::from(MILLION)).unwrap_or(u64::MAX))
    }

    /// When its clock shows this at the earliest.
    pub(crate) fn when(&self, moment: Moment) -> Ms {
        let rate = u128::try_from(MILLION + self.plan.drift_ppm).unwrap_or(1);
        let passed = (u128::from(moment.as_millis()) * 1_000_000).div_ceil(rate);
        self.booted.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// How long something takes that takes so long by its clock.
    pub(crate) fn true_time(&self, duration: Duration, now: Ms) -> Ms {
        self.when(self.moment(now) + duration).saturating_sub(now)
    }

    /// What its wall clock shows, in milliseconds.
    pub(crate) fn wall(&self, now: Ms) -> i64 {
        i64::try_from(now).unwrap_or(i64::MAX) + self.wall_ahead
    }

    pub(crate) fn is_running(&self, now: Ms) -> bool {
        self.daemon.is_some() && self.stopped_until <= now
    }

    /// The count of attempts as a record of the cluster.
    pub(crate) fn count(&self, attempts: Option<ReauthAttempts>, now: Ms) -> Count {
        let Some(ReauthAttempts { window_end, counted, in_a_row }) = attempts else {
            return Count { window_end_ms: 0, counted: 0, in_a_row: 0 };
        };
        let signed = |moment: Moment| i64::try_from(moment.as_millis()).unwrap_or(i64::MAX);
        let until_end = signed(window_end).saturating_sub(signed(self.moment(now)));
        let window_end_ms = self.wall(now).saturating_add(until_end);
        Count { window_end_ms, counted, in_a_row }
    }

    /// The attempts that a record of the cluster counts; `None` if their window has ended. By a
    /// wrong wall clock a window may seem to end late, but not later than a whole window from now.
    pub(crate) fn attempts(&self, count: Count, plan: &Plan, now: Ms) -> Option<ReauthAttempts> {
        let window = plan.policy.reauth?.window;
        let left = u64::try_from(count.window_end_ms.saturating_sub(self.wall(now))).ok()?;
        let window_end = self.moment(now) + Duration::from_millis(left).min(window);
        let attempts =
            ReauthAttempts { window_end, counted: count.counted, in_a_row: count.in_a_row };
        Some(attempts).filter(|_| left > 0)
    }

    /// Starts the daemon.
    pub(crate) fn start(&mut self, plan: &Plan, seed: u64, now: Ms) {
        self.incarnation += 1;
        let moment = self.moment(now);
        let settings = ReplicaSettings {
            name: Arc::clone(&self.name),
            failover: plan.failover,
            incarnation: seed,
            boot: self.boot,
            seen: self.disk.seen,
            keys: vec![KeyId(1)],
            seed,
            claim_on_lease: false,
        };
        let mut scheduler = Scheduler::new(NonZeroU32::new(4).unwrap_or(NonZeroU32::MIN), seed);
        let server = scheduler.add_server(plan.limits);
        let reauth = plan.policy.reauth.map(|_| scheduler.add_reauth(plan.reauth));
        let tokens = self.configured.len();
        let mut daemon = Daemon {
            incarnation: seed,
            scheduler,
            replica: Replica::new(settings, moment),
            server,
            reached_since: Some(now),
            reauth,
            ids: vec![None; tokens],
            by_id: Vec::new(),
            slots: vec![[None; 2]; tokens],
            in_source: vec![None; tokens],
            cluster: vec![None; tokens],
            publishing: vec![None; tokens],
            offer_again: vec![false; tokens],
            look_again: vec![false; tokens],
            asked: vec![false; tokens],
            listed: vec![false; tokens],
            requested: BTreeMap::new(),
            last_spend: 0,
            lease: None,
            reading: 0,
            beats: VecDeque::new(),
            watch: None,
            watches: 0,
            patient_until: Some(self.when(moment + PATIENCE)),
            is_leaving: false,
        };
        for token in 0..tokens {
            if self.configured[token] {
                self.add_token(&mut daemon, plan, token, now);
            }
        }
        daemon.tell_servers(moment, now);
        self.daemon = Some(daemon);
    }

    /// Adds a token of the configuration.
    pub(crate) fn add_token(&self, daemon: &mut Daemon, plan: &Plan, token: usize, now: Ms) {
        let moment = self.moment(now);
        let value = self.disk.values[token];
        let spec = TokenSpec {
            server: daemon.server,
            policy: Arc::clone(&plan.policy),
            reauth: daemon.reauth,
        };
        let id = daemon.scheduler.add_token(spec, value.is_some(), moment);
        daemon.scheduler.set_asked(id, false, moment);
        daemon.in_source[token] = value;
        daemon.slots[token] = [value.map(|value| (value, Origin::Start)), None];
        daemon.ids[token] = Some(id);
        daemon.asked[token] = false;
        if id.index() >= daemon.by_id.len() {
            daemon.by_id.resize(id.index() + 1, 0);
        }
        daemon.by_id[id.index()] = token;
        let count = self.disk.attempts[token];
        if let Some(attempts) = count.and_then(|count| self.attempts(count, plan, now)) {
            daemon.scheduler.restore_reauth_attempts(id, attempts, moment);
        }
        if value.is_none() {
            let lost = SourceChange::Lost("there is no such file".into());
            daemon.scheduler.source_changed(id, lost, moment);
        }
        daemon.update_listing(token, moment);
    }
}

impl Daemon {
    /// The current value of a token, and where it came from.
    pub(crate) fn current(&self, token: usize) -> Option<(Value, Origin)> {
        let id = self.ids[token]?;
        self.slots[token][self.scheduler.spare_slot(id).other() as usize]
    }

    /// A value in one of a token's slots.
    pub(crate) fn slot(&self, token: usize, slot: Slot) -> Option<(Value, Origin)> {
        self.slots[token][slot as usize]
    }

    /// Tells the replica whether the token has a value.
    pub(crate) fn update_listing(&mut self, token: usize, now: Moment) {
        let is_listed = self.ids[token].is_some_and(|id| !self.scheduler.is_missing(id));
        if std::mem::replace(&mut self.listed[token], is_listed) != is_listed {
            let hash = key_of(token).hash();
            if is_listed { self.replica.list(hash, now) } else { self.replica.unlist(hash, now) }
        }
    }

    /// Tells the replica whether the API is reached.
    pub(crate) fn tell_servers(&mut self, moment: Moment, now: Ms) {
        let is_reached = self.scheduler.is_reached(self.server);
        self.reached_since = is_reached.then(|| self.reached_since.unwrap_or(now));
        self.replica.set_servers(vec![(API, is_reached)], moment);
    }

    pub(crate) fn token_of(&self, id: TokenId) -> usize {
        self.by_id[id.index()]
    }
}

/// The key of a token.
pub(crate) fn key_of(token: usize) -> TokenKey {
    TokenKey::new(API, &format!("t{token}"))
}

/// The token of a key.
pub(crate) fn token_of(key: &TokenKey) -> usize {
    key.as_str().trim_start_matches("api/t").parse().unwrap_or(usize::MAX)
}
