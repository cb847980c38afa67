//! Meaning of a status, and its error message.
//!
//! Owns the table from statuses to kinds of errors, and a sentence with a remedy for each. Never
//! sees a body, and quotes only numbers and configured names.

use std::time::Duration;

use super::context::RequestContext;
use super::endpoint::Endpoint;
use crate::outcome::{CallError, Outcome};

/// The shortest and the longest pause that a server can ask for. Less would ignore it; more would
/// let tokens die because of its wrong clock.
const PAUSE_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResponseError {
    pub(super) kind: ResponseErrorKind,
    pub(super) fault: CallError,
}

/// Kind of an error; later ones are more final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ResponseErrorKind {
    /// The server asks for a pause of this duration: 1 s to 15 min.
    Throttled(Duration),
    /// Inconclusive.
    Unavailable,
    /// The request was rejected as such.
    Misconfigured,
    /// The API does not know the secret.
    Rejected,
    /// The API reports that the token has expired.
    Expired,
}

impl ResponseError {
    pub(super) fn unavailable(error: impl Into<Box<str>>) -> Self {
        CallError::new(error).into()
    }

    /// The same error with the decisive status.
    pub(super) fn with_status(self, status: u16) -> Self {
        Self { fault: self.fault.with_status(status), ..self }
    }
}

impl From<CallError> for ResponseError {
    /// An inconclusive error.
    fn from(fault: CallError) -> Self {
        Self { kind: ResponseErrorKind::Unavailable, fault }
    }
}

impl From<ResponseError> for Outcome {
    fn from(ResponseError { kind, fault }: ResponseError) -> Self {
        match kind {
            ResponseErrorKind::Throttled(retry_after) => Self::Throttled { retry_after, fault },
            ResponseErrorKind::Unavailable => Self::Unavailable(fault),
            ResponseErrorKind::Misconfigured => Self::Misconfigured(fault),
            ResponseErrorKind::Rejected => Self::Rejected(fault),
            ResponseErrorKind::Expired => Self::Expired(fault),
        }
    }
}

/// Where an error status comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusSource {
    /// The API's own `Errors`.
    Api,
    /// Only the HTTP status, which may be a proxy's or a gateway's.
    Http,
}

/// The meaning of `status` from `source`; `retry_after` is that of the header.
pub(super) fn kind_of(
    status: u16,
    source: StatusSource,
    retry_after: Option<Duration>,
) -> ResponseErrorKind {
    let throttled =
        |asked: Duration| ResponseErrorKind::Throttled(asked.clamp(PAUSE_RANGE.0, PAUSE_RANGE.1));
    match (status, source, retry_after) {
        (410, StatusSource::Api, _) => ResponseErrorKind::Expired,
        (401, StatusSource::Api, _) => ResponseErrorKind::Rejected,
        (429, ..) => throttled(retry_after.unwrap_or_default()),
        (503, _, Some(asked)) => throttled(asked),
        (401 | 410, StatusSource::Http, _) | (408 | 421 | 425, ..) => {
            ResponseErrorKind::Unavailable
        }
        (300..=499, ..) => ResponseErrorKind::Misconfigured,
        _ => ResponseErrorKind::Unavailable,
    }
}

/// The error message for `status`, with a remedy where there is one.
pub(super) fn sentence(status: u16, source: StatusSource, context: &RequestContext<'_>) -> String {
    let RequestContext { server, endpoint, profile, .. } = *context;
    let call = context.call();
    if profile.is_some()
        && let Some(sentence) = sentence_for_profile(status, &call, server)
    {
        return sentence;
    }
    match (status, source) {
        (410, StatusSource::Api) => "the server reports that the token has expired".to_owned(),
        (401, StatusSource::Api) if endpoint == Endpoint::Login => {
            "the server does not accept the API key: check the file or credential that contains \
             it"
            .to_owned()
        }
        (401, StatusSource::Api) => "the server does not know the token".to_owned(),
        (401 | 410, StatusSource::Http) => format!(
            "HTTP status {status} without the API's envelope says nothing about the token: check \
             whether a proxy or a gateway answers instead of [server.{server}]"
        ),
        (407, _) => {
            format!(
                "the proxy requires credentials, or does not accept those that were sent (407): set or \
                 check `proxy_credentials_file` of [server.{server}]"
            )
        }
        (400, _) => format!(
            "the server reports a missing parameter in {call} (400): check that `url` of \
             [server.{server}] is the API's base URL, and that no proxy drops the query"
        ),
        (403, _) => format!(
            "the server forbids {call} (403): check that this machine and account may use \
             [server.{server}]"
        ),
        (404, _) => {
            format!("the server does not know this address (404): check `url` of [server.{server}]")
        }
        (405, _) => format!(
            "the server does not allow GET at this address (405): check `url` of \
             [server.{server}]"
        ),
        (300..=399, _) => format!(
            "the server redirects ({status}), and redirects are not followed: set `url` of \
             [server.{server}] to the API's real address"
        ),
        (421, _) => format!(
            "the server does not serve this address on this connection (421): if this persists, \
             check `url` and `proxy` of [server.{server}]"
        ),
        (429, _) => "the server asks for fewer requests (429)".to_owned(),
        (503, _) => "the server is temporarily unavailable (503)".to_owned(),
        (500, StatusSource::Api) => {
            "the server reports maintenance or an internal error (500)".to_owned()
        }
        (408 | 425 | 500..=599, _) => format!("the server failed to answer {call} ({status})"),
        (400..=499, _) => format!(
            "the server refuses {call} ({status}): check `url` of [server.{server}] and any proxy \
             in front of it"
        ),
        _ => format!("the server answered {call} with an unexpected status ({status})"),
    }
}

/// The error message for an HTTP status that a profile has no rule for, where it differs from that
/// for the native API.
fn sentence_for_profile(status: u16, call: &str, server: &str) -> Option<String> {
    Some(match status {
        400 | 422 => format!(
            "the server does not accept {call} ({status}): check `with` of [server.{server}], and \
             that the profile is for this server"
        ),
        401 | 410 => format!(
            "HTTP status {status} says nothing about the token, because no rule of {call} matches \
             the response: check whether a proxy or a gateway answers instead of \
             [server.{server}], and `with` of it"
        ),
        403 => format!(
            "the server forbids {call} (403), and no rule of it matches the response: check that \
             this machine, this account and this token may use it on [server.{server}]"
        ),
        405 => format!(
            "the server does not allow the method of {call} (405): check `url` of \
             [server.{server}] and the profile"
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn only_the_apis_own_errors_are_final() {
        assert_eq!(kind_of(410, StatusSource::Api, None), ResponseErrorKind::Expired);
        assert_eq!(kind_of(401, StatusSource::Api, None), ResponseErrorKind::Rejected);
        assert_eq!(kind_of(410, StatusSource::Http, None), ResponseErrorKind::Unavailable);
        assert_eq!(kind_of(401, StatusSource::Http, None), ResponseErrorKind::Unavailable);
    }

    #[test]
    fn each_rejection_of_the_request_itself_is_a_misconfiguration() {
        for status in [300, 301, 302, 307, 308, 400, 403, 404, 405, 407, 418, 451, 499] {
            for source in [StatusSource::Api, StatusSource::Http] {
                assert_eq!(
                    kind_of(status, source, None),
                    ResponseErrorKind::Misconfigured,
                    "{status}"
                );
            }
        }
    }

    #[test]
    fn transient_status_is_unavailable() {
        for status in [0, 100, 200, 204, 299, 408, 421, 425, 500, 502, 503, 504, 599, 600, 999] {
            for source in [StatusSource::Api, StatusSource::Http] {
                assert_eq!(
                    kind_of(status, source, None),
                    ResponseErrorKind::Unavailable,
                    "{status}"
                );
            }
        }
    }

    #[test]
    fn status_429_pauses_for_the_requested_time_or_a_second() {
        assert_eq!(
            kind_of(429, StatusSource::Http, Some(MINUTE)),
            ResponseErrorKind::Throttled(MINUTE)
        );
        assert_eq!(
            kind_of(429, StatusSource::Http, None),
            ResponseErrorKind::Throttled(PAUSE_RANGE.0)
        );
    }

    #[test]
    fn status_503_pauses_only_with_retry_after_and_500_never() {
        assert_eq!(
            kind_of(503, StatusSource::Api, Some(MINUTE)),
            ResponseErrorKind::Throttled(MINUTE)
        );
        assert_eq!(kind_of(503, StatusSource::Api, None), ResponseErrorKind::Unavailable);
        assert_eq!(kind_of(500, StatusSource::Api, Some(MINUTE)), ResponseErrorKind::Unavailable);
    }

    #[test]
    fn pause_is_limited_to_1_s_to_15_min() {
        let asked = |secs| kind_of(429, StatusSource::Http, Some(Duration::from_secs(secs)));
        assert_eq!(asked(0), ResponseErrorKind::Throttled(Duration::from_secs(1)));
        assert_eq!(asked(u64::MAX), ResponseErrorKind::Throttled(Duration::from_secs(900)));
    }

    #[test]
    fn redirect_is_reported_with_a_remedy() {
        let context = RequestContext {
            server: "sarus",
            endpoint: Endpoint::Query,
            profile: None,
            secrets: &[],
        };
        let error_for_status = sentence(302, StatusSource::Http, &context);
        assert!(
            error_for_status.contains("(302)")
                && error_for_status.contains("`url` of [server.sarus]"),
            "{error_for_status}"
        );
    }
}
