//! The calls of a client whose server has a profile.

use std::time::Duration;

use super::super::Client;
use super::super::connections::Verdict;
use super::super::endpoint::Endpoint;
use super::super::interpret::RawResponse;
use super::super::request::{OnEnd, Sending};
use super::super::session::{LoginError, LoginErrorKind, NewSession, Renewed};
use super::super::status::{ResponseError, ResponseErrorKind};
use super::{Exchange, Parameters, ProfileApi, Values, verdict};
use crate::outcome::{CallError, Connection, Outcome};
use crate::secret::TokenValue;

/// What becomes of a call.
struct Reading<T> {
    /// Interprets a response.
    read: fn(&Exchange<'_>, &RawResponse) -> T,
    /// Converts the error of a request without a response.
    failed: fn(ResponseError) -> T,
    /// What the result says about the connection.
    judge: fn(&T) -> Verdict,
}

impl ProfileApi {
    pub(in crate::api) async fn query(
        &self,
        client: &Client,
        token: &TokenValue,
        timeout: Duration,
        connection: Connection,
    ) -> Outcome {
        let values = self.values(Some(token.expose()));
        let sending = Sending { timeout, connection, on_end: OnEnd::Resend };
        let reading = Reading {
            read: verdict::query,
            failed: Outcome::from,
            judge: |outcome| outcome.into(),
        };
        self.send(client, Endpoint::Query, &values, sending, reading).await
    }

    /// Sends `renew` with a value, a refresh token, or both. It is resent like a query, unless the
    /// second request might do more than the first.
    pub(in crate::api) async fn renew(
        &self,
        client: &Client,
        token: Option<&TokenValue>,
        refresh: Option<&TokenValue>,
        timeout: Duration,
        connection: Connection,
    ) -> Renewed {
        let values = Values {
            refresh: refresh.map(TokenValue::expose),
            ..self.values(token.map(TokenValue::expose))
        };
        let (connection, on_end) = if self.profile.once {
            (Connection::Fresh, OnEnd::FailAsUnknown)
        } else if refresh.is_some() || client.has_replaced_values() {
            (connection, OnEnd::Fail)
        } else {
            (connection, OnEnd::Resend)
        };
        let reading = Reading {
            read: verdict::renew,
            failed: |error| Renewed::failed(error.into()),
            judge: |renewed| (&renewed.outcome).into(),
        };
        let sending = Sending { timeout, connection, on_end };
        self.send(client, Endpoint::Renew, &values, sending, reading).await
    }

    pub(in crate::api) async fn login(
        &self,
        client: &Client,
        parameters: &Parameters,
        minutes: u16,
        timeout: Duration,
    ) -> Result<NewSession, LoginError> {
        let minutes = minutes.to_string();
        let values = Values {
            minutes: Some(&minutes),
            parameters: [Some(parameters), Some(&self.parameters)],
            ..self.values(None)
        };
        let reading = Reading {
            read: verdict::login,
            failed: |ResponseError { kind, fault }| {
                let kind = match kind {
                    ResponseErrorKind::Misconfigured if fault.local => {
                        LoginErrorKind::Misconfigured
                    }
                    _ => LoginErrorKind::Unavailable,
                };
                Err(LoginError { kind, fault })
            },
            judge: |login| match login {
                Err(error) if error.kind != LoginErrorKind::Refused => Verdict::Inconclusive,
                _ => Verdict::Conclusive,
            },
        };
        let sending = Sending { timeout, connection: Connection::Fresh, on_end: OnEnd::Fail };
        self.send(client, Endpoint::Login, &values, sending, reading).await
    }

    pub(in crate::api) async fn revoke(
        &self,
        client: &Client,
        token: &TokenValue,
        timeout: Duration,
    ) -> Result<(), CallError> {
        let values = self.values(Some(token.expose()));
        let reading = Reading {
            read: verdict::revoke,
            failed: |error| Err(error.fault),
            judge: |revoked| match revoked {
                Ok(()) => Verdict::Conclusive,
                Err(_) => Verdict::Inconclusive,
            },
        };
        let sending = Sending { timeout, connection: Connection::Fresh, on_end: OnEnd::Fail };
        self.send(client, Endpoint::Revoke, &values, sending, reading).await
    }

    async fn send<T>(
        &self,
        client: &Client,
        endpoint: Endpoint,
        values: &Values<'_>,
        sending: Sending,
        reading: Reading<T>,
    ) -> T {
        let secrets = values.secrets();
        let exchange = match self.exchange(endpoint, values, client.server(), &secrets) {
            Ok(exchange) => exchange,
            Err(error) => return (reading.failed)(error),
        };
        let request = || exchange.request();
        let (response, lease) = client.send(&exchange.context, request, sending).await;
        if let (Some(explain), Ok(response)) = (client.explain(), &response) {
            explain(endpoint.call(), &super::explain::explain(&exchange, response));
        }
        let result = match response {
            Ok(response) => (reading.read)(&exchange, &response),
            Err(error) => (reading.failed)(error),
        };
        client.judge(&lease, (reading.judge)(&result));
        result
    }
}
