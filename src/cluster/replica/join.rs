//! Membership: reading etcd, joining with a name of its own, beats, and whether etcd can be used.

use std::sync::Arc;
use std::time::Duration;

use super::FORMAT;
use super::mirror::Mirror;
use super::types::{HeldReason, Key, Member, Meta, Output, Reason, ReplicaSettings};
use super::view::View;
use crate::time::Moment;

/// Pause before an attempt is repeated.
const RETRY: Duration = Duration::from_secs(1);
/// A record with other content is written at most once in this time.
const CHANGES_EVERY: Duration = Duration::from_secs(1);
/// How much longer than `failover` etcd may take to end the lease of a dead replica.
const LEASE_MARGIN: Duration = Duration::from_secs(3);

/// How far this replica has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing usable has been read.
    Reading,
    /// `meta` is being created.
    CreatingMeta,
    /// Another replica has the name; it must be gone by then.
    Waiting(Moment),
    /// The record of this replica is being written.
    Joining,
    /// The record of this replica was written.
    Joined,
    /// The record of this replica is being deleted.
    Leaving,
    /// The end: left, or the name is taken.
    Left,
}

/// How etcd cannot be used. Why is [`Membership::error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No beat was answered for one `failover`.
    Silent,
    /// It answers, but nothing may be taken from it.
    Suspended,
    /// It is not the etcd of before. An operator must accept it.
    Foreign,
}

/// Where reading everything stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It is read again then.
    Due(Moment),
    /// It is being read; this revision had been seen before.
    UnderWay(u64),
    /// The watch continues.
    Watching,
}

/// A beat under way.
#[derive(Debug)]
struct Beat {
    /// The record that it writes.
    put: Option<Arc<Member>>,
    /// The newest revision seen when it was sent.
    floor: u64,
}

/// The membership of one replica.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) phase: Phase,
    pub(super) trouble: Option<Trouble>,
    pub(super) leaving: bool,
    /// The replica has reported that it has joined.
    pub(super) announced: bool,
    interval: Duration,
    failover: Duration,
    reading: Reading,
    read_from: Moment,
    /// The time without an answered beat counts from here.
    silent_from: Moment,
    answered_at: Moment,
    last_call: Moment,
    /// Why etcd could not be used last.
    pub(super) error: Reason,
    beat_due: Moment,
    put_from: Moment,
    beat: Option<Beat>,
    /// The record in etcd; `None`: it must be written.
    written: Option<Arc<Member>>,
    refused_puts: u32,
}

impl Membership {
    pub(super) fn new(failover: Duration, now: Moment) -> Self {
        Self {
            phase: Phase::Reading,
            trouble: None,
            leaving: false,
            announced: false,
            interval: failover / 3,
            failover,
            reading: Reading::Due(now),
            read_from: now,
            silent_from: now,
            answered_at: now,
            last_call: now,
            error: Reason::silence("no response"),
            beat_due: now,
            put_from: now,
            beat: None,
            written: None,
            refused_puts: 0,
        }
    }

    /// Why nothing may be spent; `None` if it may.
    pub(super) fn hold_reason(&self) -> Option<HeldReason> {
        match self.trouble {
            Some(_) => Some(HeldReason::Unreachable(self.error.text().clone())),
            None => (self.phase != Phase::Joined || self.leaving).then_some(HeldReason::NotJoined),
        }
    }

    /// There was no response. If it was missing on a foreign etcd, that does not matter.
    fn note_error(&mut self, error: &Reason) {
        if !self.is_foreign() {
            self.error = error.clone();
        }
    }

    /// How often this replica beats.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether what etcd says is ignored.
    pub(super) fn is_suspended(&self) -> bool {
        matches!(self.trouble, Some(Trouble::Suspended | Trouble::Foreign))
    }

    /// Whether what the watch shows is taken. A suspension ends with the first beat, but what changes
    /// after the read before it is seen by this watch only.
    pub(super) fn takes_changes(&self) -> bool {
        match self.trouble {
            None | Some(Trouble::Silent) => true,
            Some(Trouble::Suspended) => self.reading == Reading::Watching,
            Some(Trouble::Foreign) => false,
        }
    }

    /// Whether this is another etcd than before.
    pub(super) fn is_foreign(&self) -> bool {
        self.trouble == Some(Trouble::Foreign)
    }

    /// The record of this replica in etcd, as far as it is known.
    pub(super) fn written_record(&self) -> Option<Arc<Member>> {
        self.written.clone()
    }

    /// Notes that this replica runs. Returns whether etcd counts as silent from now on.
    pub(super) fn observe(&mut self, now: Moment) -> bool {
        if now.since(self.last_call) > self.failover + RETRY {
            // This process was stopped: silence in this time proves nothing.
            self.silent_from = now;
        }
        self.last_call = self.last_call.max(now);
        self.silent_at().is_some_and(|at| at <= now)
    }

    /// When etcd counts as silent unless it answers.
    fn silent_at(&self) -> Option<Moment> {
        if self.trouble.is_some() {
            return None;
        }
        match self.phase {
            Phase::Leaving | Phase::Left => None,
            // No beats are sent, but etcd is read at the end.
            Phase::Waiting(until) => Some(self.silent_from.max(until) + self.failover),
            _ => Some(self.silent_from + self.failover),
        }
    }

    /// etcd cannot be used from now on.
    pub(super) fn suspend(&mut self, now: Moment) {
        self.phase = Phase::Reading;
        self.written = None;
        if !matches!(self.reading, Reading::UnderWay(_)) {
            self.reading = Reading::Due(now + self.interval);
        }
    }

    /// Reads everything as soon as that is allowed: reads are one second apart.
    pub(super) fn read_again(&mut self, now: Moment) {
        if !matches!(self.reading, Reading::UnderWay(_)) {
            self.reading = Reading::Due(now.max(self.read_from + RETRY));
        }
    }

    /// A part of everything was read. Counts where no beats are sent that could be answered.
    pub(super) fn read_answered(&mut self, now: Moment) {
        let has_no_beats = matches!(self.phase, Phase::Reading | Phase::Waiting(_));
        if has_no_beats && matches!(self.reading, Reading::UnderWay(_)) {
            self.silent_from = now;
        }
    }

    /// Reading everything has ended. Returns the revision that had been seen when it began.
    pub(super) fn read_ended(&mut self, error: Option<&Reason>, now: Moment) -> u64 {
        let Reading::UnderWay(floor) = self.reading else { return 0 };
        self.reading = Reading::Watching;
        if let Some(error) = error {
            self.note_error(error);
            let pause = if self.is_suspended() { self.interval } else { RETRY };
            self.reading = Reading::Due(now + pause);
        }
        floor
    }

    /// Continues after `meta` is known to be good. Returns whether the name is taken for good.
    pub(super) fn continue_joining(
        &mut self,
        mirror: &Mirror,
        settings: &ReplicaSettings,
        now: Moment,
    ) -> bool {
        if matches!(self.phase, Phase::Leaving | Phase::Left) {
            return false;
        }
        let own = mirror.members.get(&settings.name);
        let is_mine = |member: &Option<Arc<Member>>| {
            member.as_ref().is_some_and(|member| member.incarnation == settings.incarnation)
        };
        match (own, self.phase) {
            (Some((_, member)), phase) if !is_mine(member) => {
                self.written = None;
                match phase {
                    Phase::Waiting(until) if until <= now => {
                        self.phase = Phase::Left;
                        return true;
                    }
                    Phase::Waiting(_) => {}
                    _ => self.phase = Phase::Waiting(now + self.failover + LEASE_MARGIN),
                }
            }
            (Some(_), Phase::Joined) => {}
            (None, Phase::Joined) => {
                // The lease has ended early, or an operator has deleted the key.
                self.written = None;
                self.beat_due = now;
            }
            _ => {
                if matches!(self.phase, Phase::Waiting(_)) {
                    self.silent_from = now; // There were no beats that could be answered.
                }
                self.phase = Phase::Joining;
                self.written = None;
                self.beat_due = now;
            }
        }
        false
    }

    /// Sends what is due: reading everything, a beat.
    pub(super) fn send(
        &mut self,
        settings: &ReplicaSettings,
        view: &View,
        mirror: &Mirror,
        floor: u64,
        out: &mut Vec<Output>,
        now: Moment,
    ) {
        if self.read_at().is_some_and(|at| at <= now) {
            self.reading = Reading::UnderWay(floor);
            self.read_from = now;
            out.push(Output::Read);
        }
        if self.next_beat(view).is_none_or(|at| at > now) {
            return;
        }
        let changed = self.written.as_ref().is_none_or(|written| !is_current(written, view));
        let put = changed.then(|| {
            self.put_from = now;
            let member = Arc::new(Member {
                incarnation: settings.incarnation,
                format: FORMAT,
                keys: settings.keys.clone(),
                digests: Box::new(*view.digests()),
                unreachable: view.unreachable().to_vec(),
                wall_ms: 0,
            });
            (member, mirror.revision(&Key::Member(settings.name.clone())))
        });
        self.beat = Some(Beat { put: put.as_ref().map(|(member, _)| member.clone()), floor });
        out.push(Output::Beat { put });
    }

    /// A beat was answered. `done`: the lease is alive and, if there was a put, it was written.
    /// Returns whether this replica has written its record.
    pub(super) fn beat_answered(&mut self, sent: Moment, done: bool, now: Moment) -> bool {
        self.silent_from = now;
        self.answered_at = now;
        let put = self.beat.take().and_then(|beat| beat.put);
        let wrote = put.is_some();
        if done {
            self.refused_puts = 0;
            self.beat_due = now.max(sent + self.interval);
            if wrote && matches!(self.phase, Phase::Joining | Phase::Joined) {
                self.written = put;
                self.phase = Phase::Joined;
                return true;
            }
            return false;
        }
        self.written = None;
        self.beat_due = now;
        if wrote {
            // The key has changed, and the watch will say how. If it does not, reading will.
            self.refused_puts += 1;
            self.beat_due = now + RETRY;
            if self.refused_puts > 1 {
                self.read_again(now);
            }
        }
        false
    }

    /// A beat has no answer: it may have been executed or not.
    pub(super) fn beat_unanswered(&mut self, error: &Reason, now: Moment) {
        if self.beat.take().is_some_and(|beat| beat.put.is_some()) {
            self.written = None;
        }
        self.note_error(error);
        self.beat_due = now + RETRY.min(self.interval);
    }

    /// The record of this replica has other content by now.
    pub(super) fn write_again(&mut self, now: Moment) {
        self.written = None;
        self.beat_due = now;
    }

    /// The newest revision seen when the beat under way was sent.
    pub(super) fn beat_floor(&self) -> u64 {
        self.beat.as_ref().map_or(0, |beat| beat.floor)
    }

    /// Whether what the watch shows has just happened: etcd answers, and this process runs.
    pub(super) fn is_current(&self, now: Moment) -> bool {
        now.since(self.answered_at) <= self.interval * 2
    }

    /// Whether a beat is under way.
    pub(super) fn is_beating(&self) -> bool {
        self.beat.is_some()
    }

    /// When there is something to do.
    pub(super) fn next_wake(&self, view: &View) -> Option<Moment> {
        [self.silent_at(), self.read_at(), self.next_beat(view)].into_iter().flatten().min()
    }

    /// When everything is read next.
    fn read_at(&self) -> Option<Moment> {
        let foreign = self.is_foreign();
        match (self.reading, self.phase) {
            (_, Phase::Left | Phase::Leaving) | (Reading::UnderWay(_), _) => None,
            (Reading::Due(at), _) => (!foreign).then_some(at),
            (Reading::Watching, Phase::Waiting(until)) => Some(until.max(self.read_from + RETRY)),
            (Reading::Watching, _) => None,
        }
    }

    /// When the next beat is sent.
    fn next_beat(&self, view: &View) -> Option<Moment> {
        if self.beat.is_some() || !matches!(self.phase, Phase::Joining | Phase::Joined) {
            return None;
        }
        match &self.written {
            Some(written) if !is_current(written, view) => {
                Some(self.beat_due.min(self.put_from + CHANGES_EVERY))
            }
            _ => Some(self.beat_due),
        }
    }
}

/// Whether the record says what is true now.
fn is_current(written: &Member, view: &View) -> bool {
    *written.digests == *view.digests() && written.unreachable == view.unreachable()
}

/// Why this replica must not use an etcd with this `meta`; `None` if it may.
pub(super) fn meta_error(
    meta: &Result<Meta, Arc<str>>,
    settings: &ReplicaSettings,
) -> Option<Arc<str>> {
    match meta {
        Err(why) => Some(format!("the key `meta` in etcd cannot be read: {why}").into()),
        Ok(meta) if meta.format != FORMAT => Some(
            format!("the records in etcd have format {}; this version knows {FORMAT}", meta.format)
                .into(),
        ),
        Ok(meta) if !settings.keys.contains(&meta.key) => Some(
            "the values in etcd are sealed with another key; set `cluster.key` to the key of the \
             other replicas"
                .into(),
        ),
        Ok(_) => None,
    }
}
