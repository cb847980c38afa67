//! The native API by its profile, for the tests and the fuzzer that compare the two interpreters.

use std::sync::LazyLock;

use super::super::endpoint::Endpoint;
use super::super::interpret::RawResponse;
use super::super::session::{LoginError, Renewed};
use super::{Exchange, ProfileApi, verdict};
use crate::outcome::{CallError, Outcome};
use crate::profile::builtin;
use crate::secret::TokenValue;

static SARUS: LazyLock<ProfileApi> = LazyLock::new(|| ProfileApi {
    profile: builtin("sarus").expect("a built-in profile"),
    base: "http://127.0.0.1/".parse().expect("a URL"),
    parameters: [("api_key".to_owned(), "s3cret+key".into())].into(),
});

fn read<T>(
    endpoint: Endpoint,
    sent: &str,
    response: &RawResponse,
    read: fn(&Exchange<'_>, &RawResponse) -> T,
) -> T {
    let values = SARUS.values(Some(sent));
    let secrets = values.secrets();
    let exchange = SARUS.exchange(endpoint, &values, "sarus", &secrets).expect("the call");
    read(&exchange, response)
}

pub(in crate::api) fn query(sent: &str, response: &RawResponse) -> Outcome {
    read(Endpoint::Query, sent, response, verdict::query)
}

pub(in crate::api) fn renew(sent: &str, response: &RawResponse) -> Renewed {
    read(Endpoint::Renew, sent, response, verdict::renew)
}

pub(in crate::api) fn login(sent: &str, response: &RawResponse) -> Result<TokenValue, LoginError> {
    read(Endpoint::Login, sent, response, verdict::login).map(|session| session.value)
}

pub(in crate::api) fn revoke(sent: &str, response: &RawResponse) -> Result<(), CallError> {
    read(Endpoint::Revoke, sent, response, verdict::revoke)
}

/// What is compared of an outcome: all but the words.
pub(in crate::api) fn essence(outcome: &Outcome) -> (&'static str, Option<std::time::Duration>) {
    match outcome {
        Outcome::Alive { remaining } => ("alive", Some(*remaining)),
        Outcome::Expired(_) => ("expired", None),
        Outcome::Rejected(_) => ("rejected", None),
        Outcome::Throttled { retry_after, .. } => ("throttled", Some(*retry_after)),
        Outcome::Misconfigured(_) => ("misconfigured", None),
        Outcome::Unavailable(_) => ("unavailable", None),
    }
}
