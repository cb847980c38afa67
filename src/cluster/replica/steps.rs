//! The steps that follow an input of a replica: what changed goes to the parts that it concerns, and
//! what is due is sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::claims::{Claims, Parts};
use super::join::{Membership, Phase, Trouble, meta_error};
use super::mirror::Change;
use super::operations::Purpose;
use super::reasons::Reasons;
use super::token_key::TokenKey;
use super::types::{
    ClusterNotice, Entry, HeldReason, Key, Meta, OperationId, Output, Reason, Record,
    StoreRevision, Transaction,
};
use super::{CLOCK_TOLERANCE_MS, FORMAT, Replica, SEEN_EVERY};
use crate::time::Moment;

impl Replica {
    /// Notes that time has passed, and whether etcd is silent.
    pub(super) fn observe(&mut self, now: Moment) {
        if self.membership.observe(now) {
            self.enter(Trouble::Silent, self.membership.error.clone(), now);
        }
    }

    /// Sends what is due.
    pub(super) fn advance(&mut self, now: Moment) {
        let floor = self.floor();
        let Self { membership, view, mirror, settings, outputs, .. } = self;
        membership.send(settings, view, mirror, floor, outputs, now);
        if self.membership.trouble.is_none() && self.membership.phase != Phase::Left {
            self.operations.resend(floor, now, &mut self.outputs);
            let why = self.membership.error.text().clone();
            let owns_name = self.membership.phase == Phase::Joined;
            let (claims, mut parts) = self.claims_with_parts(now);
            claims.hold_late(&why, &mut parts);
            if owns_name {
                claims.release_unused(&mut parts);
            }
        }
        self.send_publications(now);
        if self.view.refresh(now) {
            self.outputs.push(Output::SlotsChanged);
        }
        self.leave_if_idle(now);
        if let Some(seen) = self.seen.filter(|_| self.seen_unreported && self.seen_report_at <= now)
        {
            self.seen_unreported = false;
            self.seen_report_at = now + SEEN_EVERY;
            self.outputs.push(Output::Seen(seen));
        }
    }

    /// The claims, and what they need of the rest.
    pub(super) fn claims_with_parts(&mut self, now: Moment) -> (&mut Claims, Parts<'_>) {
        let floor = self.floor();
        let Self { claims, settings, mirror, operations, outputs, .. } = self;
        (claims, Parts { settings, mirror, operations, out: outputs, floor, now })
    }

    /// Publishes what can be published.
    pub(super) fn send_publications(&mut self, now: Moment) {
        // While this replica leaves, values of spendings whose claim was lost are still published.
        if self.membership.trouble.is_none() && self.membership.phase == Phase::Joined {
            let floor = self.floor();
            let Self { claims, settings, mirror, operations, outputs, publications, .. } = self;
            let mut parts = Parts { settings, mirror, operations, out: outputs, floor, now };
            publications.send(claims, &mut parts);
        }
    }

    /// Sends a transaction for an operator, or answers that it is impossible.
    pub(super) fn operate(&mut self, purpose: Purpose, transaction: Transaction) -> OperationId {
        let error: Arc<str> = match self.membership.hold_reason() {
            None => {
                let floor = self.floor();
                return self.operations.start(purpose, transaction, floor, &mut self.outputs);
            }
            Some(HeldReason::Unreachable(why)) => why,
            Some(_) => "this replica is not a member of the cluster".into(),
        };
        let id = self.operations.next_id();
        self.outputs.push(Output::Answered(id, Err(error)));
        id
    }

    /// The transaction that pauses a token, or resumes it.
    pub(super) fn pause(&self, token: &TokenKey, paused: bool) -> Transaction {
        let key = Key::Paused(token.clone());
        let mut transaction = Transaction {
            // A repetition that is executed late must not undo what came after it.
            expected: vec![(key.clone(), self.mirror.revision(&key))],
            reads: vec![key.clone()],
            ..Transaction::default()
        };
        if paused {
            transaction.puts.push((key, Record::Paused));
        } else {
            transaction.deletes.push(key);
        }
        transaction
    }

    /// etcd cannot be used from now on.
    pub(super) fn enter(&mut self, trouble: Trouble, reason: Reason, now: Moment) {
        let is_foreign = trouble == Trouble::Foreign;
        if self.membership.phase == Phase::Left || (self.membership.is_foreign() && !is_foreign) {
            return;
        }
        let why = reason.text().clone();
        (self.membership.trouble, self.membership.error) = (Some(trouble), reason);
        self.report_reason(Duration::ZERO, now);
        self.operations.answer_operators(&why, &mut self.outputs);
        let (claims, mut parts) = self.claims_with_parts(now);
        claims.hold_all(&HeldReason::Unreachable(why), &mut parts);
        if self.membership.is_suspended() {
            self.membership.suspend(now);
            if self.view.clear() {
                self.outputs.push(Output::SlotsChanged);
            }
        }
        if is_foreign {
            self.claims.clear();
            self.operations.clear();
            self.publications.clear(&mut self.outputs);
        }
    }

    /// Reports why etcd cannot be used, if that has not been reported and has been so for `least`.
    pub(super) fn report_reason(&mut self, least: Duration, now: Moment) {
        let Membership { trouble, error, .. } = &self.membership;
        if trouble.is_some() && self.reasons.is_news(error.kind(), least, now) {
            let notice = ClusterNotice::Unreachable(error.text().clone());
            self.outputs.push(Output::Notice(notice));
        }
    }

    /// A beat has ended well if it has ended: etcd can be used, and `wrote` is the revision of this
    /// replica's record if that was written.
    pub(super) fn recover(&mut self, wrote: Option<u64>, answered: bool, now: Moment) {
        if let Some(revision) = wrote {
            self.own_record_written(revision, now);
        }
        let over = match self.membership.trouble {
            Some(Trouble::Silent) => answered,
            Some(Trouble::Suspended) => wrote.is_some(),
            Some(Trouble::Foreign) | None => false,
        };
        if over {
            self.membership.trouble = None;
            self.reasons = Reasons::new(self.settings.failover);
            self.outputs.push(Output::Notice(ClusterNotice::Recovered));
        }
        if self.is_joined() && !self.membership.announced {
            self.membership.announced = true;
            let members = self.view.members().len();
            self.outputs.push(Output::Notice(ClusterNotice::Joined { members }));
        }
    }

    /// Whether a response comes from the etcd of before; `floor` was seen before it was asked for.
    pub(super) fn accepts(&mut self, at: StoreRevision, floor: u64, now: Moment) -> bool {
        if let Some(seen) = self.seen {
            let why = if seen.cluster != at.cluster {
                "this is another etcd cluster than before; if it is the right one, run `tokenkeep \
                 reload` on each replica"
            } else if at.revision < floor {
                "etcd has an older state than before; if it was restored from a backup, run \
                 `tokenkeep reload` on each replica"
            } else {
                ""
            };
            if !why.is_empty() {
                self.enter(Trouble::Foreign, why.into(), now);
            }
        }
        if self.membership.is_foreign() {
            return false;
        }
        if self.seen.is_none_or(|seen| seen.revision < at.revision) {
            self.seen = Some(at);
            self.seen_unreported = true;
        }
        true
    }

    /// Takes everything that exists, if `meta` allows it.
    pub(super) fn take_snapshot(&mut self, at: StoreRevision, entries: Vec<Entry>, now: Moment) {
        let meta = entries.iter().find(|entry| entry.key == Key::Meta && entry.record.is_some());
        let error = match meta.and_then(|entry| entry.record.as_ref()) {
            Some(Record::Meta(meta)) => meta_error(&Ok(meta.clone()), &self.settings),
            Some(Record::Unreadable(why)) => meta_error(&Err(why.clone()), &self.settings),
            _ => None,
        };
        if let Some(error) = error {
            return self.enter(Trouble::Suspended, error.into(), now);
        }
        let changes = self.mirror.snapshot(entries, at.revision, now);
        self.members_changed(now);
        self.take_changes(changes, now);
        if self.mirror.meta.is_some() {
            self.join(now);
        } else {
            self.create_meta(now);
        }
    }

    /// Takes what has changed to the parts that it concerns. The end of a claim comes last, so that
    /// the value that it led to is known by then.
    pub(super) fn take_changes(&mut self, changes: Vec<Change>, now: Moment) {
        let mut released = BTreeSet::new();
        let mut members_changed = false;
        let mut own_changed = false;
        for change in changes {
            match change {
                Change::Meta => self.check_meta(now),
                Change::Member(name) => {
                    members_changed = true;
                    own_changed |= name == self.settings.name;
                }
                Change::Value(token, revision, value) => {
                    let hash = token.hash();
                    let own = self.claims.recognize(hash, &value, revision)
                        || self.publications.recognize(hash, &value, revision);
                    if !own {
                        self.outputs.push(Output::NewValue { token, revision, value });
                    }
                }
                Change::ClaimGone(hash) => {
                    released.insert(hash);
                }
                Change::Counted(token, count) => {
                    if !self.claims.has_counted(token.hash(), count) {
                        self.outputs.push(Output::Counted(token, count));
                    }
                }
                Change::Paused(token, paused) => self.outputs.push(Output::Paused(token, paused)),
            }
        }
        if members_changed && self.view.exists() {
            self.members_changed(now);
        }
        if own_changed {
            self.join(now);
        }
        // The end of an own spending releases the token once its result is known.
        let released = released.into_iter().filter(|hash| !self.claims.is_spending(*hash));
        self.outputs.extend(released.map(|hash| Output::Released(Some(hash))));
    }

    fn members_changed(&mut self, now: Moment) {
        let before: Vec<Arc<str>> = self.view.members().cloned().collect();
        if self.view.set_members(&self.mirror.members, now) {
            self.outputs.push(Output::SlotsChanged);
        }
        if before.is_empty() {
            return;
        }
        for name in self.view.members().filter(|name| !before.contains(name)) {
            self.outputs.push(Output::Notice(ClusterNotice::ReplicaJoined(name.clone())));
        }
        let gone = before.iter().filter(|name| !self.view.members().any(|now| now == *name));
        for name in gone {
            self.outputs.push(Output::Notice(ClusterNotice::ReplicaLeft(name.clone())));
            self.clocks_reported.remove(name);
        }
    }

    /// `meta` has changed.
    pub(super) fn check_meta(&mut self, now: Moment) {
        match self.mirror.meta.as_ref().map(|(meta, _)| meta_error(meta, &self.settings)) {
            Some(Some(error)) => self.enter(Trouble::Suspended, error.into(), now),
            Some(None) => {}
            None => self.membership.read_again(now),
        }
    }

    fn create_meta(&mut self, now: Moment) {
        let Some(key) = self.settings.keys.first().copied() else { return };
        if self.operations.has(&Purpose::CreateMeta) {
            return;
        }
        if self.membership.phase == Phase::Reading {
            self.membership.phase = Phase::CreatingMeta;
        }
        let transaction = Transaction {
            expected: vec![(Key::Meta, 0)],
            puts: vec![(Key::Meta, Record::Meta(Meta { format: FORMAT, key }))],
            reads: vec![Key::Meta],
            ..Transaction::default()
        };
        let floor = self.floor();
        self.operations.start(Purpose::CreateMeta, transaction, floor, &mut self.outputs);
        self.advance(now);
    }

    /// Continues to join, or to be a member.
    pub(super) fn join(&mut self, now: Moment) {
        if self.mirror.meta.is_none() || self.membership.is_foreign() {
            return;
        }
        if self.membership.continue_joining(&self.mirror, &self.settings, now) {
            let (claims, mut parts) = self.claims_with_parts(now);
            claims.hold_all(&HeldReason::NotJoined, &mut parts);
            self.outputs.push(Output::NameTaken);
        }
    }

    fn own_record_written(&mut self, revision: u64, now: Moment) {
        let Some(member) = self.membership.written_record() else { return };
        let key = Key::Member(self.settings.name.clone());
        let written =
            Transaction { puts: vec![(key, Record::Member(member))], ..Transaction::default() };
        let changes = self.mirror.written(&written, revision, now);
        self.take_changes(changes, now);
        self.join(now); // It may have been deleted since.
    }

    /// Deletes the record of this replica once nothing is under way.
    fn leave_if_idle(&mut self, now: Moment) {
        let phase = self.membership.phase;
        let is_silent = self.membership.trouble.is_some();
        let busy = !self.claims.is_idle(is_silent) || !(self.publications.is_idle() || is_silent);
        if !self.membership.leaving
            || matches!(phase, Phase::Leaving | Phase::Left)
            || busy
            || (self.membership.is_beating() && !is_silent)
        {
            return;
        }
        let key = Key::Member(self.settings.name.clone());
        let revision = self.mirror.revision(&key);
        let joined = phase == Phase::Joined && !is_silent;
        if !joined || revision == 0 {
            return self.left();
        }
        self.membership.phase = Phase::Leaving;
        let transaction = Transaction {
            expected: vec![(key.clone(), revision)],
            deletes: vec![key],
            ..Transaction::default()
        };
        let (_, parts) = self.claims_with_parts(now);
        parts.operations.start(Purpose::Leave, transaction, parts.floor, parts.out);
    }

    pub(super) fn left(&mut self) {
        if self.membership.phase != Phase::Left {
            self.membership.phase = Phase::Left;
            self.outputs.push(Output::Left);
        }
    }

    /// Reports replicas whose wall clock is wrong, or this one's.
    pub(super) fn compare_clocks(&mut self, entries: &[Entry], wall_ms: i64) {
        for entry in entries {
            let (Key::Member(name), Some(Record::Member(member))) = (&entry.key, &entry.record)
            else {
                continue;
            };
            let ahead = member.wall_ms.saturating_sub(wall_ms);
            if *name == self.settings.name || ahead.unsigned_abs() <= CLOCK_TOLERANCE_MS {
                self.clocks_reported.remove(name);
            } else if self.clocks_reported.insert(name.clone()) {
                let notice = ClusterNotice::ClockDiffers(name.clone(), ahead);
                self.outputs.push(Output::Notice(notice));
            }
        }
    }

    /// The newest revision seen; no response can be older.
    pub(super) fn floor(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.revision)
    }
}
