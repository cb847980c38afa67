//! Transactions whose result is awaited. Each is repeated until it has a definite result.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::token_key::{TokenHash, TokenKey};
use super::types::{OperationId, Output, Transaction};
use crate::time::Moment;

/// What a transaction is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Creates `meta`.
    CreateMeta,
    /// Takes a claim.
    Take(TokenHash),
    /// Ends a spending: stores the value, releases the claim.
    End(TokenHash),
    /// Releases an own claim that no spending uses.
    Release(TokenHash),
    /// Publishes a value.
    Publish(TokenHash),
    /// Lowers the attempts of a token.
    Refund(TokenHash),
    /// Pauses a token, or resumes it.
    Pause(TokenKey, bool),
    /// A step of a key rotation.
    Rekey,
    /// Deletes the record of this replica.
    Leave,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) purpose: Purpose,
    pub(super) transaction: Transaction,
    /// The newest revision seen when it was sent: its result cannot be older.
    pub(super) floor: u64,
    /// When it is sent again; `None` while it is under way.
    retry_at: Option<Moment>,
}

impl Operation {
    /// One that is not under way.
    pub(super) fn new(purpose: Purpose, transaction: Transaction) -> Self {
        Self { purpose, transaction, floor: 0, retry_at: None }
    }
}

/// All transactions without a definite result.
#[derive(Debug, Default)]
pub(super) struct Operations {
    last: u64,
    open: BTreeMap<OperationId, Operation>,
}

impl Operations {
    /// Sends a transaction.
    pub(super) fn start(
        &mut self,
        purpose: Purpose,
        transaction: Transaction,
        floor: u64,
        out: &mut Vec<Output>,
    ) -> OperationId {
        let id = self.next_id();
        out.push(Output::Commit(id, transaction.clone()));
        self.open.insert(id, Operation { floor, ..Operation::new(purpose, transaction) });
        id
    }

    /// A number that no other operation has.
    pub(super) fn next_id(&mut self) -> OperationId {
        self.last += 1;
        OperationId(self.last)
    }

    /// The operation, if it is under way. It must be [kept](Operations::retry) if it has no result.
    pub(super) fn take(&mut self, id: OperationId) -> Option<Operation> {
        self.open.remove(&id)
    }

    /// Sends the operation again at `at`.
    pub(super) fn retry(&mut self, id: OperationId, mut operation: Operation, at: Moment) {
        operation.retry_at = Some(at);
        self.open.insert(id, operation);
    }

    /// Sends again what is due at `now`.
    pub(super) fn resend(&mut self, floor: u64, now: Moment, out: &mut Vec<Output>) {
        for (id, operation) in &mut self.open {
            if operation.retry_at.is_some_and(|at| at <= now) {
                operation.retry_at = None;
                operation.floor = floor;
                out.push(Output::Commit(*id, operation.transaction.clone()));
            }
        }
    }

    /// When [`Operations::resend`] has something to do.
    pub(super) fn next_wake(&self) -> Option<Moment> {
        self.open.values().filter_map(|operation| operation.retry_at).min()
    }

    /// Whether an operation with this purpose has no result yet.
    pub(super) fn has(&self, purpose: &Purpose) -> bool {
        self.open.values().any(|operation| operation.purpose == *purpose)
    }

    /// Gives up the requests of operators.
    pub(super) fn answer_operators(&mut self, error: &Arc<str>, out: &mut Vec<Output>) {
        self.open.retain(|id, operation| {
            let asked = matches!(operation.purpose, Purpose::Pause(..) | Purpose::Rekey);
            if asked {
                out.push(Output::Answered(*id, Err(error.clone())));
            }
            !asked
        });
    }

    /// Forgets all operations: their revisions mean nothing to another etcd.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}
