//! The way from a replica to etcd and back: requests and responses that are lost or late, several
//! endpoints one after the other, and the watch.

use std::sync::Arc;
use std::time::Duration;

use tokenkeep::cluster::replica::{
    Entry, Key, Member, OperationId, Output, Record, StoreError, StoreRevision, Transaction,
    TransactionResult,
};
use tokenkeep::time::Moment;

use crate::chance::{MINUTE, Ms, SECOND};
use crate::etcd::{CONSISTENCY, LeaseId};
use crate::host::EtcdWatch;
use crate::invariants::Violation;
use crate::world::{Happening, World};

/// How long each endpoint gets.
const ENDPOINT_TIMEOUT: Ms = SECOND;

/// The number of endpoints.
const ENDPOINTS: u8 = 3;

/// The longest time that a request without a response spends before it is executed.
const LATEST_EXECUTION: Ms = 2 * MINUTE;

/// A request to etcd, repeated at the next endpoint if there is no response.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) host: usize,
    pub(crate) incarnation: u64,
    sent: Moment,
    request: Request,
    attempt: u8,
    answer: Option<Answer>,
    is_over: bool,
}

#[derive(Debug, Clone)]
enum Request {
    Read,
    /// Renews the lease; writes the record.
    Beat(Option<(Record, u64)>),
    Commit(OperationId, Transaction),
}

#[derive(Debug, Clone)]
enum Answer {
    Read(StoreRevision, Vec<Entry>),
    Beat(StoreRevision, bool, Option<LeaseId>),
    Commit(TransactionResult),
}

impl World {
    /// Sends an operation.
    pub(crate) fn send(&mut self, host: usize, output: Output) {
        let request = match output {
            Output::Read => Request::Read,
            Output::Beat { put } => Request::Beat(put.map(|(member, expected)| {
                let wall_ms = self.hosts[host].wall(self.now);
                let member = Member { wall_ms, ..(*member).clone() };
                (Record::Member(Arc::new(member)), expected)
            })),
            Output::Commit(id, transaction) => Request::Commit(id, transaction),
            _ => return,
        };
        let sender = &mut self.hosts[host];
        let Some(daemon) = &mut sender.daemon else { return };
        self.last_operation += 1;
        let number = self.last_operation;
        let mut is_waiting = false;
        match &request {
            Request::Read => (daemon.watch, daemon.reading) = (None, number),
            Request::Beat(_) => {
                is_waiting = !daemon.beats.is_empty();
                daemon.beats.push_back(number);
            }
            Request::Commit(..) => {}
        }
        self.tally.operations += 1;
        self.watch.calm.operation(host, matches!(request, Request::Beat(_)));
        let operation = Operation {
            host,
            incarnation: sender.incarnation,
            sent: sender.moment(self.now),
            request,
            attempt: 0,
            answer: None,
            is_over: false,
        };
        self.operations.insert(number, operation);
        if !is_waiting {
            self.attempt(number);
        }
    }

    /// One beat is over: the next one is sent.
    fn next_beat(&mut self, host: usize) {
        let sender = &mut self.hosts[host];
        let sent = sender.moment(self.now);
        let Some(daemon) = &mut sender.daemon else { return };
        daemon.beats.pop_front();
        let Some(next) = daemon.beats.front().copied() else { return };
        if let Some(operation) = self.operations.get_mut(&next) {
            operation.sent = sent;
        }
        self.attempt(next);
    }

    /// Sends an operation to the next endpoint.
    fn attempt(&mut self, number: u64) {
        let Some(operation) = self.operations.get(&number) else { return };
        let (host, attempt) = (operation.host, operation.attempt);
        let wait = Duration::from_millis(ENDPOINT_TIMEOUT);
        let wait = self.hosts[host].true_time(wait, self.now);
        self.at(self.now + wait, Happening::TimedOut(number, attempt));
        if !self.is_lost(host) {
            let delay = self.delay(host);
            self.at(self.now + delay, Happening::Arrives(number, attempt));
        }
    }

    /// Whether a message between this replica and etcd is lost.
    fn is_lost(&mut self, host: usize) -> bool {
        let host = &self.hosts[host];
        let losses = if self.now < host.bad_until { 0.4 } else { self.plan.losses };
        self.now < host.cut_until || self.net_chance.odds(losses)
    }

    /// How long a message takes.
    fn delay(&mut self, host: usize) -> Ms {
        let Self { net_chance: chance, hosts, now, .. } = self;
        let host = &hosts[host];
        let is_bad = *now < host.bad_until;
        match chance.between(0, 99) {
            0..=19 if is_bad => chance.spread(100, LATEST_EXECUTION),
            20..=69 if is_bad => chance.spread(10, 3 * SECOND),
            0 => chance.spread(1, 2 * SECOND),
            _ => host.plan.distance + chance.between(0, host.plan.distance),
        }
    }

    /// An operation arrives at etcd. It is executed whether or not its replica still waits.
    pub(crate) fn arrives(&mut self, number: u64, attempt: u8) -> Result<(), Violation> {
        let Some(operation) = self.operations.get(&number).cloned() else { return Ok(()) };
        if self.now < self.etcd.down_until {
            // It is refused, or it waits in the log of the leader.
            if self.net_chance.odds(0.5) {
                let later = self.etcd.down_until + self.net_chance.spread(1, 100);
                self.at(later, Happening::Arrives(number, attempt));
            }
            return Ok(());
        }
        let host = operation.host;
        let is_here = self.hosts[host].incarnation == operation.incarnation;
        let lease = self.hosts[host].daemon.as_ref().filter(|_| is_here).and_then(|d| d.lease);
        let answer = match &operation.request {
            Request::Read => {
                let (at, entries) = self.etcd.read_all(CONSISTENCY, self.now);
                Answer::Read(at, entries)
            }
            Request::Beat(put) => self.beat(host, lease, put.as_ref()),
            Request::Commit(_, transaction) => {
                match self.etcd.commit(transaction, lease, self.now) {
                    Some(result) => Answer::Commit(result),
                    None => return Ok(()),
                }
            }
        };
        self.etcd_changed()?;
        if !self.is_lost(host) {
            if let Some(operation) = self.operations.get_mut(&number) {
                operation.answer.get_or_insert(answer);
            }
            let delay = self.delay(host);
            self.at(self.now + delay, Happening::Answered(number, attempt));
        }
        Ok(())
    }

    fn beat(&mut self, host: usize, lease: Option<LeaseId>, put: Option<&(Record, u64)>) -> Answer {
        let renewed = lease.is_some_and(|lease| self.etcd.renew(lease, self.now));
        let Some((record, expected)) = put else {
            return Answer::Beat(self.etcd.at(), renewed, lease.filter(|_| renewed));
        };
        let lease = match lease.filter(|_| renewed) {
            Some(lease) => lease,
            None => self.etcd.grant(self.plan.failover, self.now),
        };
        let key = Key::Member(self.hosts[host].name.clone());
        let transaction = Transaction {
            expected: vec![(key.clone(), *expected)],
            puts: vec![(key, record.clone())],
            ..Transaction::default()
        };
        let result = self.etcd.commit(&transaction, Some(lease), self.now);
        let succeeded = result.is_some_and(|result| result.succeeded);
        Answer::Beat(self.etcd.at(), succeeded, Some(lease))
    }

    /// An endpoint has not answered in time.
    pub(crate) fn timed_out(&mut self, number: u64, attempt: u8) -> Result<(), Violation> {
        let Some(operation) = self.operations.get_mut(&number) else { return Ok(()) };
        if operation.is_over || operation.attempt != attempt {
            return Ok(());
        }
        operation.attempt += 1;
        if operation.attempt < ENDPOINTS {
            self.attempt(number);
            return Ok(());
        }
        operation.is_over = true;
        let operation = operation.clone();
        self.at(self.now + 2 * LATEST_EXECUTION, Happening::Forgotten(number));
        self.deliver(number, &operation, None)
    }

    /// A response arrives.
    pub(crate) fn answered(&mut self, number: u64, attempt: u8) -> Result<(), Violation> {
        let Some(operation) = self.operations.get_mut(&number) else { return Ok(()) };
        if operation.is_over || operation.attempt != attempt {
            return Ok(());
        }
        operation.is_over = true;
        let (operation, answer) = (operation.clone(), operation.answer.take());
        self.at(self.now + 2 * LATEST_EXECUTION, Happening::Forgotten(number));
        self.deliver(number, &operation, answer)
    }

    /// A replica hears how its operation has ended.
    fn deliver(
        &mut self,
        number: u64,
        operation: &Operation,
        answer: Option<Answer>,
    ) -> Result<(), Violation> {
        let host = operation.host;
        match &operation.request {
            Request::Read => {
                let daemon = self.hosts[host].daemon.as_ref();
                if daemon.is_none_or(|daemon| daemon.reading != number) {
                    return Ok(());
                }
            }
            Request::Beat(_) => self.next_beat(host),
            Request::Commit(..) => {}
        }
        let unanswered = || StoreError::Unanswered("no endpoint answers".into());
        match (&operation.request, answer) {
            (Request::Read, Some(Answer::Read(at, entries))) => {
                if let Some(daemon) = &mut self.hosts[host].daemon {
                    daemon.watches += 1;
                    let (generation, next) = (daemon.watches, at.revision + 1);
                    daemon.watch = Some(EtcdWatch { generation, next, silent_until: 0 });
                }
                self.turn(host, |daemon, now| {
                    daemon.replica.read_finished(Ok((at, entries)), now);
                })?;
                self.notify_watch(host);
                Ok(())
            }
            (Request::Read, _) => self.turn(host, |daemon, now| {
                daemon.replica.read_finished(Err(unanswered()), now);
            }),
            (Request::Beat(_), Some(Answer::Beat(at, is_alive, lease))) => {
                let sent = operation.sent;
                self.turn(host, |daemon, now| {
                    daemon.lease = lease;
                    daemon.replica.beat_finished(sent, Ok((at, is_alive)), now);
                })
            }
            (Request::Beat(_), _) => {
                let sent = operation.sent;
                self.turn(host, |daemon, now| {
                    daemon.replica.beat_finished(sent, Err(unanswered()), now);
                })
            }
            (Request::Commit(id, _), Some(Answer::Commit(result))) => {
                let id = *id;
                self.turn(host, |daemon, now| daemon.replica.committed(id, Ok(result), now))
            }
            (Request::Commit(id, _), _) => {
                let id = *id;
                self.turn(host, |daemon, now| daemon.replica.committed(id, Err(unanswered()), now))
            }
        }
    }

    /// Etcd has changed: the invariants are told, and the watches are fed.
    pub(crate) fn etcd_changed(&mut self) -> Result<(), Violation> {
        let first = self.told_changes.min(self.etcd.changes().len());
        self.told_changes = self.etcd.changes().len();
        if first == self.told_changes {
            return Ok(());
        }
        for index in first..self.told_changes {
            let change = self.etcd.changes()[index].clone();
            self.trace.change(self.now, &change);
            self.watch_change(&change)?;
        }
        (0..self.hosts.len()).for_each(|host| self.notify_watch(host));
        Ok(())
    }

    /// Sends what a watch has not delivered.
    fn notify_watch(&mut self, host: usize) {
        let Some(watch) = self.hosts[host].daemon.as_ref().and_then(|daemon| daemon.watch) else {
            return;
        };
        if watch.next > self.etcd.at().revision {
            return;
        }
        let delay = self.delay(host).min(5 * SECOND);
        let from = self.now.max(watch.silent_until).max(self.hosts[host].cut_until);
        let (generation, revision) = (watch.generation, self.etcd.at().revision);
        self.at(from + delay, Happening::Watched { host, generation, revision });
    }

    /// A watch delivers the changes up to a revision, or ends.
    pub(crate) fn watched(
        &mut self,
        host: usize,
        generation: u64,
        revision: u64,
    ) -> Result<(), Violation> {
        let cluster = self.etcd.cluster;
        let wall = self.hosts[host].wall(self.now);
        let (cut_until, now) = (self.hosts[host].cut_until, self.now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
        let Some(watch) = daemon.watch.as_mut().filter(|watch| watch.generation == generation)
        else {
            return Ok(());
        };
        let silent_until = watch.silent_until.max(cut_until);
        if silent_until > now {
            self.at(silent_until, Happening::Watched { host, generation, revision });
            return Ok(());
        }
        if watch.next > revision {
            return Ok(());
        }
        let entries = self.etcd.changes_from(watch.next, revision);
        watch.next = revision + 1;
        if entries.is_empty() {
            return Ok(());
        }
        let at = StoreRevision { cluster, revision };
        self.turn(host, |daemon, now| daemon.replica.changed(at, entries, wall, now))
    }

    /// A watch ends.
    pub(crate) fn end_watch(&mut self, host: usize, generation: u64) -> Result<(), Violation> {
        let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
        if daemon.watch.is_none_or(|watch| watch.generation != generation) {
            return Ok(());
        }
        daemon.watch = None;
        self.turn(host, |daemon, now| daemon.replica.watch_ended("connection reset", now))
    }

    /// An operation is forgotten: nothing refers to it any more.
    pub(crate) fn forgotten(&mut self, number: u64) {
        self.operations.remove(&number);
    }
}
