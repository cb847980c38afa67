//! Checks and revocations: one request to the server about one value.

use std::time::Duration;

use super::Completion;
use crate::clock;
use crate::daemon::tokens::{ReplacedValue, ServerClient};
use crate::lifecycle::{CheckResult, Method, Slot};
use crate::outcome::Connection;
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
    let (outcome, new_value) = match method {
        Method::Query => (client.query(&value, timeout, connection).await, None),
        Method::Renew => {
            let renewed = client.renew(&value, timeout, connection).await;
            (renewed.outcome, renewed.new_value)
        }
    };
    let replaced = new_value.is_some();
    let answer = CheckResult { sent, received: clock::now_ceil(), outcome, replaced };
    let replaced = new_value.map(|to| ReplacedValue { slot, from: value, to });
    Completion::Checked(ticket, answer, replaced)
}

/// Revokes a value.
pub(super) async fn revoke(
    ticket: Ticket,
    client: ServerClient,
    value: TokenValue,
    timeout: Duration,
) -> Completion {
    Completion::Revoked(ticket, client.revoke(&value, timeout).await)
}
