//! Interpretation of responses by the built-in profiles. The bodies are those of real servers,
//! shortened: `OpenBao` 2.7, oidc-provider 9.13, etcd 3.4 and Zabbix 6.0.

#![expect(clippy::needless_pass_by_value, reason = "hand-made answers read better unborrowed")]

mod etcd;
mod oauth2;
mod openbao;
mod rules;
mod zabbix;

use std::sync::Arc;
use std::time::Duration;

use hyper::http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;

use super::super::endpoint::Endpoint;
use super::super::interpret::{Body, RawResponse};
use super::super::session::{LoginError, LoginErrorKind, NewSession, Renewed};
use super::{Exchange, ProfileApi, Values, verdict};
use crate::outcome::testing::{fault, kind};
use crate::outcome::{CallError, Outcome};
use crate::profile::{Profile, builtin, parse};

/// What was sent, so that responses may echo it.
const TOKEN: &str = "s.QYZ7ux335LtwhFA52n3tuqCl";
const REFRESH: &str = "yZp6CYJl3O-ijawZPyEf58vhdhRn_55j";
const PASSWORD: &str = "33effaeb-b856-141e-49dc-92e1ef3876ad";

/// Responses of proxies and portals, which say nothing about a token.
const FOREIGN: [&str; 8] = [
    "",
    " \n",
    "<html><h1>Forbidden</h1></html>",
    "permission denied",
    "{}",
    "[]",
    "null",
    "{\"data\":{\"tt",
];

/// An API, and the values that its requests are sent with.
struct Api {
    described: ProfileApi,
    token: &'static str,
    refresh: Option<&'static str>,
}

impl Api {
    fn builtin(name: &str) -> Self {
        Self::of(builtin(name).expect("a built-in profile"))
    }

    /// The profile `p` in `toml`.
    fn written(toml: &str) -> Self {
        let file: toml::Table = toml.parse().expect("TOML");
        let table = file["profile"]["p"].as_table().expect("a table");
        Self::of(Arc::new(parse("p", table).expect("a profile")))
    }

    fn of(profile: Arc<Profile>) -> Self {
        let parameters = ["secret_id", "client_secret", "password", "api_key"];
        let parameters = parameters.map(|name| (name.to_owned(), SecretString::from(PASSWORD)));
        let base = "http://127.0.0.1/".parse().expect("a URL");
        let described = ProfileApi { profile, base, parameters: parameters.into() };
        Self { described, token: TOKEN, refresh: None }
    }

    fn read<T>(
        &self,
        endpoint: Endpoint,
        response: RawResponse,
        read: fn(&Exchange<'_>, &RawResponse) -> T,
    ) -> T {
        let token = (endpoint != Endpoint::Login).then_some(self.token);
        let values = Values { refresh: self.refresh, ..self.described.values(token) };
        let secrets = values.secrets();
        let exchange =
            self.described.exchange(endpoint, &values, "main", &secrets).expect("a call");
        read(&exchange, &response)
    }

    fn query(&self, status: u16, body: impl ToString) -> Outcome {
        self.queried(response(status, body))
    }

    fn queried(&self, response: RawResponse) -> Outcome {
        self.read(Endpoint::Query, response, verdict::query)
    }

    fn renew(&self, status: u16, body: impl ToString) -> Renewed {
        self.read(Endpoint::Renew, response(status, body), verdict::renew)
    }

    fn login(&self, status: u16, body: impl ToString) -> Result<NewSession, LoginError> {
        self.read(Endpoint::Login, response(status, body), verdict::login)
    }

    fn login_fails(&self, status: u16, body: impl ToString) -> LoginErrorKind {
        self.login(status, body).expect_err("no session").kind
    }

    fn revoke(&self, status: u16, body: impl ToString) -> Result<(), CallError> {
        self.read(Endpoint::Revoke, response(status, body), verdict::revoke)
    }
}

fn response(status: u16, body: impl ToString) -> RawResponse {
    RawResponse::plain(status, Body::Whole(body.to_string().into()))
}

/// The response with these headers.
fn with_headers(response: RawResponse, headers: &[(&'static str, &'static str)]) -> RawResponse {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    RawResponse { headers: map, ..response }
}

fn alive(seconds: u64) -> Outcome {
    Outcome::Alive { remaining: Duration::from_secs(seconds) }
}

/// Whatever a proxy responds with is neither alive nor dead.
fn assert_foreign_is_inconclusive(api: &Api) {
    for body in FOREIGN {
        for status in [200, 204, 302, 400, 401, 403, 404, 410, 429, 500, 502, 503] {
            let queried = api.query(status, body);
            let renewed = api.renew(status, body).outcome;
            for outcome in [queried, renewed] {
                let kind = kind(&outcome);
                assert!(
                    matches!(kind, "unavailable" | "misconfigured" | "throttled"),
                    "{status} {body}: {kind}"
                );
            }
            // An empty 2xx is a success, and so is JSON in case the call demands nothing of it.
            if status / 100 != 2
                || !body.trim().is_empty()
                    && serde_json::from_str::<serde_json::Value>(body).is_err()
            {
                assert!(api.revoke(status, body).is_err(), "{status} {body}");
            }
            let kind = api.login_fails(status, body);
            assert!(kind.is_inconclusive(), "{status} {body}: {kind:?}");
        }
    }
}
