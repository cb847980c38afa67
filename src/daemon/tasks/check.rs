//! Checks and revocations: one request to the server about one value.

use std::time::Duration;

use super::{Completion, Grant};
use crate::clock;
use crate::daemon::tokens::{ReplacedValue, ServerClient};
use crate::lifecycle::{CheckResult, Method, Slot};
use crate::outcome::{Connection, Outcome};
use crate::scheduler::Ticket;
use crate::secret::TokenValue;

/// Checks a value.
pub(super) async fn check(
    ticket: Ticket,
    client: ServerClient,
    method: Method,
    (slot, value): (Slot, TokenValue),
    (timeout, connection): (Duration, Connection),
) -> Completion {
    let sent = clock::now();
    let (outcome, new_value) = match (client, method) {
        (Ok(client), Method::Query) => (client.query(&value, timeout, connection).await, None),
        (Ok(client), Method::Renew) => {
            let renewed = client.renew(&value, timeout, connection).await;
            (renewed.outcome, renewed.new_value)
        }
        (Err(fault), _) => (Outcome::Unavailable(fault), None),
    };
    let replaced = new_value.is_some();
    let answer =
        CheckResult { sent, received: clock::now_ceil(), outcome, replaced, cannot_renew: false };
    let replaced = new_value.map(|to| ReplacedValue { slot, from: Some(value), to });
    Completion::Checked(ticket, answer, replaced)
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
