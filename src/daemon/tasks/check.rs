//! Checks and revocations: one request to the server about one value.

use std::time::Duration;

use super::{Completion, Grant};
use crate::clock;
use crate::daemon::tokens::{ReplacedValue, ServerClient, ValueOwner};
use crate::lifecycle::{CheckResult, Slot};
use crate::outcome::{Connection, Outcome};
use crate::scheduler::Ticket;
use crate::secret::TokenValue;
use crate::time::Moment;

/// Checks a value by a query.
pub(super) async fn query(
    ticket: Ticket,
    client: ServerClient,
    value: TokenValue,
    (timeout, connection): (Duration, Connection),
) -> Completion {
    let sent = clock::now();
    let outcome = match client {
        Ok(client) => client.query(&value, timeout, connection).await,
        Err(fault) => Outcome::Unavailable(fault),
    };
    checked(ticket, sent, outcome, None)
}

/// Checks a value by a renewal, whose response may name a new one.
pub(super) async fn renew(
    ticket: Ticket,
    owner: ValueOwner,
    client: ServerClient,
    (slot, value): (Slot, TokenValue),
    (timeout, connection): (Duration, Connection),
) -> Completion {
    let sent = clock::now();
    let (outcome, new_value) = match client {
        Ok(client) => {
            let renewed = client.renew(&value, timeout, connection).await;
            (renewed.outcome, renewed.new_value)
        }
        Err(fault) => (Outcome::Unavailable(fault), None),
    };
    let replaced = new_value.map(|to| ReplacedValue { owner, slot, from: Some(value), to });
    checked(ticket, sent, outcome, replaced)
}

fn checked(
    ticket: Ticket,
    sent: Moment,
    outcome: Outcome,
    new_value: Option<ReplacedValue>,
) -> Completion {
    let (received, replaced) = (clock::now_ceil(), new_value.is_some());
    let answer = CheckResult { sent, received, outcome, replaced, cannot_renew: false };
    Completion::Checked(ticket, answer, new_value)
}

/// Revokes a value, unless it is too late for that.
pub(super) async fn revoke_if_in_time(
    ticket: Ticket,
    grant: Grant,
    revoke: impl Future<Output = Completion>,
) -> Completion {
    if grant.is_over() { Completion::NotBegun(ticket) } else { revoke.await }
}

/// Revokes a value.
pub(super) async fn revoke(
    ticket: Ticket,
    client: ServerClient,
    value: TokenValue,
    timeout: Duration,
) -> Completion {
    let result = match client {
        Ok(client) => client.revoke(&value, timeout).await,
        Err(fault) => Err(fault),
    };
    Completion::Revoked(ticket, result)
}
