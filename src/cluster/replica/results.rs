//! What follows the result of a transaction.

use std::sync::Arc;

use super::claims::Parts;
use super::join::Trouble;
use super::mirror::Change;
use super::operations::{Operation, Purpose};
use super::types::{Key, OperationId, Output, Record, TransactionResult};
use super::{RETRY, Replica};
use crate::time::Moment;

impl Replica {
    /// A transaction has a definite result.
    pub(super) fn finish(
        &mut self,
        id: OperationId,
        operation: Operation,
        result: TransactionResult,
        now: Moment,
    ) {
        let Operation { purpose, transaction, .. } = operation;
        let revision = result.at.revision;
        let done = result.succeeded.then_some(revision);
        // A repetition fails if the first execution succeeded.
        let has = |(key, record): &(Key, Record)| {
            result.read.iter().any(|e| e.key == *key && e.record.as_ref() == Some(record))
        };
        let is_done = result.succeeded || transaction.puts.iter().all(has);
        let changes = if result.succeeded {
            let mut changes = self.mirror.written(&transaction, revision, now);
            changes.retain(|c| !matches!(c, Change::Value(..) | Change::Counted(..)));
            changes
        } else {
            self.mirror.read(result.read, revision, now)
        };
        self.take_changes(changes, now);
        let floor = self.floor();
        match purpose {
            Purpose::CreateMeta if self.mirror.meta.is_some() => self.join(now),
            Purpose::CreateMeta => self.membership.read_again(now),
            Purpose::Take(hash) => {
                let (claims, mut parts) = self.claims_with_parts(now);
                claims.taken(hash, &transaction, result.succeeded, &mut parts);
            }
            Purpose::End(hash) => {
                let (claims, mut parts) = self.claims_with_parts(now);
                if let Some(unstored) = claims.ended(hash, done, &mut parts) {
                    let base = self.mirror.revision(&Key::Value(unstored.token.clone()));
                    self.publish(base, unstored.token, unstored.value, now);
                }
            }
            Purpose::Publish(hash) => {
                let Self { settings, mirror, operations, outputs, publications, .. } = self;
                let mut parts = Parts { settings, mirror, operations, out: outputs, floor, now };
                publications.published(hash, done, &mut parts);
            }
            Purpose::Release(_) | Purpose::Refund(_) => {}
            Purpose::Pause(token, paused) => {
                if result.succeeded || self.mirror.is_paused(token.hash()) == paused {
                    self.outputs.push(Output::Answered(id, Ok(())));
                } else {
                    let transaction = self.pause(&token, paused);
                    let purpose = Purpose::Pause(token, paused);
                    self.operations.retry(id, Operation::new(purpose, transaction), now);
                }
            }
            Purpose::Rekey => {
                // Others see a new value. Only its revision is new to this replica.
                if let (Some(revision), [(Key::Value(token), Record::Value(value))]) =
                    (done, &*transaction.puts)
                {
                    let (token, value) = (token.clone(), value.clone());
                    self.outputs.push(Output::Published { token, revision, value });
                }
                let result = if is_done { Ok(()) } else { Err("it has changed meanwhile".into()) };
                self.outputs.push(Output::Answered(id, result));
            }
            Purpose::Leave => self.left(),
        }
    }

    /// A transaction was executed or not, or will be.
    pub(super) fn finish_unanswered(&mut self, id: OperationId, operation: Operation, now: Moment) {
        match operation.purpose {
            Purpose::CreateMeta => self.membership.read_again(now),
            Purpose::Leave => self.left(),
            // The next check tries it again.
            Purpose::Refund(_) => {}
            Purpose::Take(hash) if self.claims.shows_own(hash, &self.mirror) => {
                let (claims, mut parts) = self.claims_with_parts(now);
                claims.taken(hash, &operation.transaction, false, &mut parts);
            }
            _ => self.operations.retry(id, operation, now + RETRY),
        }
    }

    /// A transaction was not executed.
    pub(super) fn finish_refused(
        &mut self,
        id: OperationId,
        operation: Operation,
        why: &Arc<str>,
        now: Moment,
    ) {
        match operation.purpose {
            Purpose::CreateMeta => self.enter(Trouble::Suspended, why.clone().into(), now),
            Purpose::Leave => self.left(),
            Purpose::Take(hash) => {
                let (claims, mut parts) = self.claims_with_parts(now);
                claims.refused(hash, why, &mut parts);
            }
            Purpose::Pause(..) | Purpose::Rekey => {
                self.outputs.push(Output::Answered(id, Err(why.clone())));
            }
            Purpose::Refund(_) => {}
            Purpose::End(_) | Purpose::Publish(_) | Purpose::Release(_) => {
                let at = now + self.membership.interval();
                self.operations.retry(id, operation, at);
            }
        }
    }
}
