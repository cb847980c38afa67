//! The replica of a cluster: which tokens this daemon asks about, and when it may spend.
//!
//! Owns the replica, its connection to etcd, the keys that seal values, and what waits for an answer
//! of etcd. Decides nothing about a token: the replica decides who asks and who spends, the scheduler
//! what is due.
//!
//! ```text
//! commands    pause and resume for all replicas
//! rekey       encrypts all values with another key
//! values      values of other replicas, which this one uses
//! publishing  values of this replica, for the others
//! queue       what the replica reports about tokens, until it is handled
//! asking      lists tokens, and tells the scheduler which ones are asked about here
//! claiming    requests a claim for an action, and ends it
//! spendings   actions that wait for a claim or have one
//! unended     spendings whose end may not be in etcd
//! leaving     what happens when the daemon stops
//! notices     events
//! setup       keys, connection and random numbers
//! ```

mod asking;
mod claiming;
mod commands;
mod leaving;
mod notices;
mod publishing;
mod queue;
mod rekey;
mod setup;
mod spendings;
mod unended;
mod values;

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{AbortHandle, JoinSet};

pub(crate) use self::claiming::is_spending;
pub(crate) use self::commands::Pause;
pub(crate) use self::leaving::LONGEST_LEAVE;
pub(crate) use self::publishing::obtained;
pub(crate) use self::setup::Opened;
pub(crate) use self::spendings::Spending;

use self::asking::Asking;
use self::commands::Answers;
use self::queue::Queue;
use self::rekey::Rekey;
use self::setup::{boot_id, random};
use self::spendings::Spendings;
use self::values::Values;
use super::queries::ClusterView;
use super::restore::RecalledCluster;
use super::tasks::Tasks;
use super::tokens::{Listing, Tokens};
use crate::clock::{self, Stopwatch};
use crate::cluster::etcd::{Access, Etcd};
use crate::cluster::link::{EndpointState, Link, LinkEvent, ReadResult};
use crate::cluster::replica::{ClusterNotice, Output, Replica, ReplicaSettings};
use crate::cluster::replica::{StoreRevision, TokenKey};
use crate::cluster::seal::Keys;
use crate::control::{EndpointView, Reply};
use crate::event_log::EventLog;
use crate::lifecycle::{Notice, OperatorRequest, State};
use crate::scheduler::TokenId;
use crate::settings;
use crate::store::ClusterSeen;
use crate::time::Moment;

/// Time between two looks at which servers are reached: a third of the shortest `failover`.
const REACH_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two writes of the newest revision to the state database.
const SEEN_INTERVAL: Duration = Duration::from_secs(5);

/// How long a turn works on what the replica reports about single tokens. The rest is backlog.
const SLICE: Duration = Duration::from_millis(1);

/// Environment variable of debug builds: claims end with the lease, which is not safe. Tests set it to
/// see that they would notice two spendings at once.
const CLAIM_ON_LEASE: &str = "TOKENKEEP_TEST_CLAIM_ON_LEASE";

/// Something that the main loop hands to [`Cluster::on_event`].
#[derive(Debug)]
pub(crate) enum ClusterEvent {
    /// A result of the connection.
    Link(LinkEvent),
    /// The connection and the keys of these settings were opened, or why not.
    Reopened(Box<(settings::Cluster, Result<Opened, String>)>),
    /// What etcd has rejected was read again for these settings, or why it cannot be used.
    Reread(Box<(settings::Cluster, Result<Access, String>)>),
    /// All keys were read, for a rotation of the key.
    RekeyRead(ReadResult),
    /// The endpoints were asked for their state.
    Endpoints(Vec<EndpointState>),
}

/// A spending that may begin.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) spending: Spending,
    /// The latest moment for that.
    pub(crate) begin_by: Moment,
}

/// The replica.
#[derive(Debug)]
pub(crate) struct Cluster {
    settings: settings::Cluster,
    replica: Replica,
    link: Link<Etcd>,
    keys: Keys,
    spendings: Spendings,
    values: Values,
    queue: Queue,
    asking: Asking,
    answers: Answers,
    /// Tokens with attempts in etcd.
    counted: HashSet<TokenId>,
    /// Work beside the loop.
    work: JoinSet<ClusterEvent>,
    /// Reads the files that the settings name.
    reopening: Option<AbortHandle>,
    rekey: Option<Rekey>,
    /// What the endpoints said when they were asked last.
    endpoints: Vec<EndpointView>,
    /// Clients that wait for the endpoints to be asked.
    endpoint_replies: Vec<Reply<()>>,
    /// When the replica was told last which servers are reached.
    reach_taken: Moment,
    /// The newest state of etcd, and when it is persisted, if it is not.
    seen: Option<StoreRevision>,
    seen_due: Option<Moment>,
    /// Since when etcd cannot be used.
    unreachable_since: Option<Timestamp>,
    is_name_taken: bool,
    is_stopping: bool,
    has_left: bool,
}

impl Cluster {
    /// A replica that has not joined. To be called within a runtime. From now on `tokens` tells the
    /// cluster what it lists, so no token must have been added yet.
    pub(crate) fn new(
        settings: settings::Cluster,
        opened: Opened,
        recalled: RecalledCluster,
        tokens: &mut Tokens,
    ) -> Self {
        let RecalledCluster { seen, values, spendings } = recalled;
        let Opened { access, keys } = opened;
        let now = clock::now();
        let replica = ReplicaSettings {
            name: settings.name.as_str().into(),
            failover: settings.failover,
            incarnation: random(),
            boot: boot_id(),
            seen: seen.map(|ClusterSeen { cluster, revision }| StoreRevision { cluster, revision }),
            keys: keys.ids(),
            seed: random(),
            claim_on_lease: cfg!(debug_assertions) && std::env::var_os(CLAIM_ON_LEASE).is_some(),
        };
        let endpoints = setup::unasked(&settings);
        tokens.listing = Some(Box::new(Listing::default()));
        let mut cluster = Self {
            settings,
            replica: Replica::new(replica, now),
            link: Link::new(Arc::new(Etcd::new(access))),
            keys,
            spendings: Spendings::default(),
            values: Values::new(values, &spendings),
            queue: Queue::default(),
            asking: Asking::new(now),
            answers: Answers::default(),
            counted: HashSet::new(),
            work: JoinSet::new(),
            reopening: None,
            rekey: None,
            endpoints,
            endpoint_replies: Vec::new(),
            reach_taken: Moment::default(),
            seen: None,
            seen_due: None,
            unreachable_since: None,
            is_name_taken: false,
            is_stopping: false,
            has_left: false,
        };
        if cluster.link.engine().is_unusable() {
            cluster.reopen(cluster.settings.clone(), Duration::ZERO);
        }
        cluster
    }

    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn next(cluster: Option<&mut Self>) -> ClusterEvent {
        let Some(Self { link, work, .. }) = cluster else { return pending().await };
        let worked = async {
            loop {
                match work.join_next().await {
                    Some(Ok(event)) => return event,
                    // Aborted.
                    Some(Err(_)) => {}
                    None => return pending().await,
                }
            }
        };
        tokio::select! {
            biased;
            event = link.next_event() => ClusterEvent::Link(event),
            event = worked => event,
        }
    }

    /// Handles an event.
    pub(crate) fn on_event(&mut self, event: ClusterEvent, log: &mut EventLog) {
        let now = clock::now();
        match event {
            ClusterEvent::Link(event) => self.on_link_event(event, now),
            ClusterEvent::Reopened(reopened) => self.on_reopened(reopened.0, reopened.1, log),
            ClusterEvent::Reread(reread) => self.on_reread(&reread.0, reread.1),
            ClusterEvent::RekeyRead(read) => self.on_rekey_read(read),
            ClusterEvent::Endpoints(endpoints) => self.on_endpoints(endpoints),
        }
    }

    fn on_link_event(&mut self, event: LinkEvent, now: Moment) {
        let replica = &mut self.replica;
        match event {
            LinkEvent::ReadContinues => replica.read_continues(now),
            LinkEvent::Read(result) => replica.read_finished(result, now),
            LinkEvent::Changed(at, entries) => {
                let wall_ms = clock::wall_clock().as_millisecond();
                replica.changed(at, entries, wall_ms, now);
            }
            LinkEvent::WatchEnded(error) => replica.watch_ended(&error, now),
            LinkEvent::BeatFinished { sent, result } => replica.beat_finished(sent, result, now),
            LinkEvent::Committed(id, result) => replica.committed(id, result, now),
        }
        if self.replica.unreachable().is_some() && self.link.engine().is_rejected() {
            self.reread();
        }
    }

    /// When [`turn`](Self::turn) has something to do.
    pub(crate) fn due(&self) -> Option<Moment> {
        let replica = self.asking.has_listed().then(|| self.replica.next_wake()).flatten();
        let due = [
            replica,
            self.seen_due,
            self.asking.due(),
            self.values.due(),
            self.answers.due(),
            self.spendings.due(),
            // Outputs of the last turn.
            (self.asking.has_listed() && !self.replica.outputs.is_empty()).then(Moment::default),
        ];
        due.into_iter().flatten().min()
    }

    /// Does what is due, and what the replica wants done. Returns the spendings that may begin: each
    /// must end in [`ended`](Self::ended).
    #[must_use]
    pub(crate) fn turn(
        &mut self,
        now: Moment,
        tokens: &mut Tokens,
        tasks: &mut Tasks,
    ) -> Vec<Start> {
        // Others would ask about the tokens that are not listed yet.
        if !self.asking.has_listed() {
            return Vec::new();
        }
        // There is a turn for each beat at least.
        if now.since(self.reach_taken) >= REACH_INTERVAL {
            self.reach_taken = now;
            self.replica.set_servers(tokens.reach(), now);
        }
        if self.replica.next_wake().is_some_and(|due| due <= now) {
            self.replica.wake(now);
        }
        let mut starts = Vec::new();
        let slice = Stopwatch::start();
        loop {
            for output in std::mem::take(&mut self.replica.outputs) {
                let Some(output) = self.link.execute(output) else { continue };
                starts.extend(self.on_output(output, now, tokens));
            }
            let next = (slice.elapsed() < SLICE).then(|| self.queue.pop()).flatten();
            let Some(output) = next else { break };
            self.on_queued(output, now, tokens, tasks);
        }
        self.asking.end_wait_if_due(now, &self.replica);
        self.report_overdue(now, tokens);
        self.publish_first_values(tokens, tasks);
        self.retry_values(now, tokens, tasks);
        self.answers.expire(now, &mut tokens.log);
        if self.seen_due.is_some_and(|due| due <= now) {
            self.persist_seen(tokens);
        }
        starts
    }

    /// Handles what must not wait. The rest is queued.
    fn on_output(&mut self, output: Output, now: Moment, tokens: &mut Tokens) -> Option<Start> {
        match output {
            Output::SlotsChanged => self.asking.begin_walk(),
            Output::Granted { id, begin_by } => return self.on_granted(id, begin_by, now, tokens),
            Output::Held { id, reason, retry_at } => {
                if let Some(spending) = self.spendings.take(id) {
                    self.on_held(spending, &reason, retry_at, now, tokens);
                }
            }
            Output::Released(None) => self.release(None, now, tokens),
            Output::Seen(at) => {
                self.seen = Some(at);
                self.seen_due.get_or_insert(now + SEEN_INTERVAL);
            }
            Output::Notice(notice) => self.on_notice_of_replica(&notice, tokens),
            Output::NameTaken => {
                (self.is_name_taken, self.has_left) = (true, true);
                notices::name_taken(&mut tokens.log, &self.settings.name);
            }
            Output::Left => self.has_left = true,
            Output::NewValue { .. }
            | Output::Published { .. }
            | Output::Dropped(_)
            | Output::Counted(..)
            | Output::Paused(..)
            | Output::Released(Some(_))
            | Output::Answered(..) => self.queue.push(output),
            // Executed by the link.
            Output::Read | Output::Beat { .. } | Output::Commit(..) => {}
        }
        None
    }

    fn on_queued(&mut self, output: Output, now: Moment, tokens: &mut Tokens, tasks: &mut Tasks) {
        match output {
            Output::NewValue { token, revision, value } => {
                self.on_new_value(token, revision, value, tokens, tasks);
            }
            Output::Counted(key, count) => self.on_counted(&key, count, tokens),
            Output::Paused(key, is_paused) => self.on_paused(key, is_paused, now, tokens),
            Output::Released(token) => self.release(token, now, tokens),
            Output::Answered(id, result) if self.on_rekey_answer(id, &result) => {}
            Output::Answered(id, result) => self.answers.end(id, result, now, tokens),
            Output::Published { token, revision, value } => {
                self.unmark(&token, tokens);
                self.on_published(&token, revision, &value, tokens);
                self.publish_after(&token, now, tokens);
            }
            Output::Dropped(token) => self.on_dropped(&token, tokens),
            // Nothing else is queued.
            _ => {}
        }
    }

    fn on_notice_of_replica(&mut self, notice: &ClusterNotice, tokens: &mut Tokens) {
        match notice {
            // Again, if the reason has changed.
            ClusterNotice::Unreachable(_) => {
                self.unreachable_since.get_or_insert_with(clock::wall_clock);
            }
            ClusterNotice::Recovered | ClusterNotice::Joined { .. } => {
                self.unreachable_since = None;
            }
            ClusterNotice::ReplicaJoined(_)
            | ClusterNotice::ReplicaLeft(_)
            | ClusterNotice::ClockDiffers(..) => {}
        }
        notices::replica(&mut tokens.log, &self.settings.name, notice);
    }

    /// A notice about a token: what it means for the other replicas.
    pub(crate) fn on_notice(
        &mut self,
        id: TokenId,
        notice: &Notice,
        now: Moment,
        tokens: &mut Tokens,
    ) {
        if let Notice::Missing { .. } | Notice::Replaced(_) | Notice::ReauthSucceeded { .. } =
            notice
        {
            tokens.note_listing(id);
        }
        if let Notice::Replaced(_) | Notice::Checked { .. } = notice {
            self.end_wait(id, tokens);
        }
        self.publish_if_due(id, notice, now, tokens);
        if let Notice::Checked { .. } = notice {
            self.refund_if_due(id, tokens);
        }
        if let Notice::Checked { remaining_ms, .. } = notice {
            let least = self.settings.failover * 4;
            if Duration::from_millis(*remaining_ms) < least
                && let Some(token) = tokens.scheduler.token(id)
                && (1..u64::try_from(least.as_millis()).unwrap_or(u64::MAX))
                    .contains(&token.life_ms())
                && tokens
                    .cluster_key(id)
                    .is_some_and(|key| self.asking.is_first_short_life(key.hash()))
            {
                notices::short_life(id, token.life_ms(), self.settings.failover, tokens);
            }
        }
    }

    /// Whether [`step`](Self::step) has something to do.
    pub(crate) fn has_backlog(&self, tokens: &Tokens) -> bool {
        !self.asking.has_listed()
            || self.asking.is_walking()
            || tokens.listing.as_ref().is_some_and(|it| !it.is_empty())
            || !self.queue.is_empty()
    }

    /// Works off a little more of the backlog. Returns false if there is nothing to do.
    pub(crate) fn step(&mut self, tokens: &mut Tokens, tasks: &mut Tasks) -> bool {
        let now = clock::now();
        if let Some((id, key)) = self.asking.step(&mut self.replica, tokens, now) {
            // The token is new, or something of it has changed.
            self.on_token_seen(id, key, now, tokens, tasks);
        } else if let Some(output) = self.queue.pop() {
            self.on_queued(output, now, tokens, tasks);
        }
        self.has_backlog(tokens)
    }

    fn persist_seen(&mut self, tokens: &Tokens) {
        self.seen_due = None;
        if let (Some(StoreRevision { cluster, revision }), Some(writer)) =
            (self.seen, tokens.recorder.shared_writer())
        {
            writer.persist_cluster_seen(ClusterSeen { cluster, revision });
        }
    }

    /// The name of this replica, if another one has it, so that the daemon must end.
    pub(crate) fn name_taken(&self) -> Option<String> {
        self.is_name_taken.then(|| self.settings.name.clone())
    }

    /// What queries read.
    pub(crate) fn view(&self) -> ClusterView<'_> {
        ClusterView {
            replica: &self.replica,
            settings: &self.settings,
            unreachable_since: self.unreachable_since,
            held: self.spendings.held_count(),
            endpoints: &self.endpoints,
            revision: self.replica.seen().map_or(0, |at| at.revision),
            rekey: self.rekey.as_ref().map(|rekey| &rekey.view),
        }
    }

    /// The replica that asks about a token, if that is another one.
    pub(crate) fn other_asker(&self, token: &TokenKey) -> Option<&str> {
        if self.replica.asks(token) {
            return None;
        }
        self.replica.asker(token).map(|name| &**name).filter(|name| *name != self.settings.name)
    }

    fn on_paused(&mut self, key: TokenKey, is_paused: bool, now: Moment, tokens: &mut Tokens) {
        if let Some(id) = tokens.of_cluster_key(&key) {
            set_paused(id, is_paused, now, tokens);
        }
        self.answers.set_paused(key, is_paused);
    }
}

/// Pauses or resumes a token here, unless it is so already.
fn set_paused(id: TokenId, is_paused: bool, now: Moment, tokens: &mut Tokens) {
    let Some(token) = tokens.scheduler.token(id) else { return };
    if (token.state() == State::Paused) == is_paused {
        return;
    }
    let request = if is_paused { OperatorRequest::Pause } else { OperatorRequest::Resume };
    // Never refused.
    let _ = tokens.scheduler.request(id, request, now);
}

#[cfg(test)]
mod tests;
