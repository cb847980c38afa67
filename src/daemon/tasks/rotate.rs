//! Renewals that send a refresh token.

use std::time::Duration;

use super::companion::{CompanionAccess, patience};
use super::{Completion, Grant};
use crate::api::{Client, Renewed};
use crate::clock;
use crate::daemon::companions::{CompanionEvent, CompanionReport, HeldCompanion};
use crate::daemon::tokens::{ReplacedValue, ServerClient, ValueOwner};
use crate::lifecycle::{CheckResult, Slot};
use crate::outcome::{CallError, Connection, Outcome};
use crate::scheduler::Ticket;
use crate::secret::TokenValue;
use crate::token_source::DISK_TIMEOUT;

/// A renewal that is to be sent.
#[derive(Debug)]
pub(super) struct Rotation {
    pub(super) ticket: Ticket,
    pub(super) owner: ValueOwner,
    pub(super) grant: Option<Grant>,
    pub(super) client: ServerClient,
    /// `None`: the token has no refresh token.
    pub(super) access: Option<CompanionAccess>,
    pub(super) slot: Slot,
    /// `None`: the token has no value yet.
    pub(super) value: Option<TokenValue>,
    /// Whether the API can report the life of the value without renewing it.
    pub(super) has_query: bool,
    /// Whether a login can replace the value.
    pub(super) has_reauth: bool,
    /// No response of this boot is about the value, and it may live.
    pub(super) is_unknown: bool,
    /// Time-out of the renewal.
    pub(super) timeout: Duration,
    /// Time-out and connection of a query in its place.
    pub(super) query: (Duration, Connection),
}

/// What was found, and when it was asked for.
struct Answer {
    result: CheckResult,
    new_value: Option<TokenValue>,
    report: Option<CompanionReport>,
}

impl Answer {
    fn unsent(outcome: Outcome) -> Self {
        let (sent, received) = (clock::now(), clock::now_ceil());
        let result = CheckResult { sent, received, outcome, replaced: false, cannot_renew: false };
        Self { result, new_value: None, report: None }
    }
}

/// Renews with the refresh token, and stores the new one. Without one, queries the value.
pub(super) async fn rotate(rotation: Rotation) -> Completion {
    let answer = match &rotation.client {
        Ok(client) => rotation.answer(client).await,
        Err(fault) => Some(Answer::unsent(Outcome::Unavailable(fault.clone()))),
    };
    let Rotation { ticket, owner, slot, value, .. } = rotation;
    let Some(answer) = answer else { return Completion::NotBegun(ticket) };
    let Answer { mut result, new_value, report } = answer;
    result.replaced = new_value.is_some();
    let replaced = new_value.map(|to| ReplacedValue { owner, slot, from: value, to });
    let checked = Completion::Checked(ticket, result, replaced);
    match report {
        Some(report) => Completion::Companion(Some(report), Some(Box::new(checked))),
        None => checked,
    }
}

impl Rotation {
    /// `None`: it is too late to spend the refresh token.
    async fn answer(&self, client: &Client) -> Option<Answer> {
        // The life of a value that lives decides when, and how urgently, it is renewed. So a restart
        // spends no refresh token.
        if self.is_unknown
            && let Some(answer) = self.query(client).await
        {
            match answer.result.outcome {
                Outcome::Alive { .. } | Outcome::Unavailable(_) | Outcome::Throttled { .. } => {
                    return Some(answer);
                }
                Outcome::Expired(_) | Outcome::Rejected(_) | Outcome::Misconfigured(_) => {}
            }
        }
        let Some(access) = &self.access else {
            let fault = CallError {
                local: true,
                no_refresh_token: true,
                ..CallError::new("no refresh token")
            };
            return Some(self.query_instead(client, Outcome::Misconfigured(fault)).await);
        };
        let mut held = access.hold().await;
        let has_login = self.has_reauth && self.value.is_some();
        match access.current(&mut held, has_login).await {
            Ok(_) if self.grant.is_some_and(Grant::is_over) => None,
            Ok(refresh) => Some(self.renew(client, access, held, &refresh).await),
            Err(mut outcome) => {
                drop(held);
                if let Outcome::Misconfigured(fault) = &mut outcome {
                    fault.no_refresh_token = true;
                }
                Some(self.query_instead(client, outcome).await)
            }
        }
    }

    async fn renew(
        &self,
        client: &Client,
        access: &CompanionAccess,
        mut held: HeldCompanion,
        refresh: &TokenValue,
    ) -> Answer {
        let sent = clock::now();
        let renewed = client.rotate(refresh, self.value.as_ref(), self.timeout).await;
        let received = clock::now_ceil();
        let Renewed { outcome, new_value, new_refresh, refresh_error } = renewed;
        let result = CheckResult { sent, received, outcome, replaced: false, cannot_renew: false };
        let new_refresh = new_refresh.filter(|new| new != refresh);
        if let Some(owner) = new_refresh.as_ref().and_then(|new| held.owner_of(new)) {
            let error = format!(
                "the response contains the refresh token of another token, {owner}, and was refused; \
                 the server, or a proxy or cache in front of it, mixes up responses"
            );
            let fault =
                CallError { is_alarming: true, may_have_acted: true, ..CallError::new(error) };
            let outcome = Outcome::Unavailable(fault);
            let result = CheckResult { outcome, ..result };
            return Answer { result, new_value: None, report: None };
        }
        if let Some(error) = refresh_error {
            held.replace(Some(refresh), None);
            access.store(&mut held, DISK_TIMEOUT).await;
            let report = Some(access.report(CompanionEvent::Unusable { error }));
            let result = CheckResult { cannot_renew: true, ..result };
            return Answer { result, new_value, report };
        }
        if let Some(new) = new_refresh {
            held.replace(Some(refresh), Some(new));
            let patience = match &result.outcome {
                Outcome::Alive { remaining } => patience(*remaining),
                _ => DISK_TIMEOUT,
            };
            let report = access.store(&mut held, patience).await;
            return Answer { result, new_value, report };
        }
        match result.outcome {
            Outcome::Rejected(_) | Outcome::Expired(_) if new_value.is_none() => {
                self.after_refusal(client, access, held, refresh, result).await
            }
            _ => Answer { result, new_value, report: None },
        }
    }

    /// The server refuses the refresh token. That says nothing about a value that can be queried.
    async fn after_refusal(
        &self,
        client: &Client,
        access: &CompanionAccess,
        mut held: HeldCompanion,
        refresh: &TokenValue,
        refused: CheckResult,
    ) -> Answer {
        let is_news = held.refuse(refresh);
        drop(held);
        let unknown = Answer { result: refused.clone(), new_value: None, report: None };
        let answer = self.query_instead(client, refused.outcome.clone()).await;
        match answer.result.outcome {
            Outcome::Alive { .. } => {
                let (Outcome::Rejected(fault) | Outcome::Expired(fault)) = refused.outcome else {
                    return answer;
                };
                let report = is_news.then(|| access.report(CompanionEvent::Refused(fault)));
                Answer { report, ..answer }
            }
            // The value may live: the next check tells.
            Outcome::Unavailable(_) | Outcome::Throttled { .. } => answer,
            Outcome::Expired(_) | Outcome::Rejected(_) | Outcome::Misconfigured(_) => unknown,
        }
    }

    /// Queries the value if that is possible, because no refresh token renews it. Otherwise this is
    /// the outcome.
    async fn query_instead(&self, client: &Client, outcome: Outcome) -> Answer {
        // A disk that does not respond now may do so in time.
        let cannot_renew = !matches!(outcome, Outcome::Unavailable(_));
        let Some(answer) = self.query(client).await else { return Answer::unsent(outcome) };
        Answer { result: CheckResult { cannot_renew, ..answer.result }, ..answer }
    }

    /// Queries the value; `None` if that is not possible.
    async fn query(&self, client: &Client) -> Option<Answer> {
        let value = self.value.as_ref().filter(|_| self.has_query)?;
        let sent = clock::now();
        let (timeout, connection) = self.query;
        let outcome = client.query(value, timeout, connection).await;
        let received = clock::now_ceil();
        let result = CheckResult { sent, received, outcome, replaced: false, cannot_renew: false };
        Some(Answer { result, new_value: None, report: None })
    }
}
