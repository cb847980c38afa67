//! Properties of how the responses of profiles are read, for arbitrary input. See
//! `crate::fuzzing`.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::http::{HeaderMap, HeaderName, HeaderValue};

use super::super::endpoint::Endpoint;
use super::super::interpret::{Body, RawResponse};
use super::super::properties::{check_fault, check_pause};
use super::super::session::LoginErrorKind;
use super::reply::Reply;
use super::{Exchange, ProfileApi, Values, verdict};
use crate::outcome::{CallError, ENDLESS, Outcome};
use crate::profile::{BUILTIN, builtin};
use crate::secret::TokenValue;

/// A token value that inputs may echo. It is a number, so that it can be a lease.
const TOKEN: &str = "166811474504456455";
const REFRESH: &str = "0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77";

static APIS: LazyLock<Vec<ProfileApi>> = LazyLock::new(|| {
    let api = |name| ProfileApi {
        profile: builtin(name).expect("a built-in profile"),
        base: "http://127.0.0.1/".parse().expect("a URL"),
        parameters: [("client_secret".to_owned(), REFRESH.into())].into(),
    };
    BUILTIN.iter().map(|builtin| api(builtin.name)).collect()
});

/// For `input` as the name of a built-in profile and a status, header lines, an empty line and a
/// body:
///
/// - A token is declared dead or alive only by a body that is complete. With text behind it, or
///   without its end, it is neither.
/// - A new value comes from a 2xx only. A life is at most 366 days, a pause 1 s to 15 min.
/// - A login is refused only by an API, and no text shows a secret.
///
/// # Panics
///
/// If a property does not hold.
pub fn response(input: &[u8]) {
    let (line, rest) = split(input, b"\n");
    let (name, status) = split(line, b" ");
    let name = str::from_utf8(name).unwrap_or_default();
    let api = APIS.iter().find(|api| api.profile.name == name).unwrap_or(&APIS[1]);
    let status = str::from_utf8(status).ok().and_then(|status| status.trim().parse().ok());
    let status = status.filter(|status| (100..1000).contains(status)).unwrap_or(200);
    let (headers, body) =
        if rest.starts_with(b"\n") { (&rest[..0], &rest[1..]) } else { split(rest, b"\n\n") };
    let response = |body: &[u8]| read(status, headers, body);
    let whole = response(body);
    check_all(api, &whole);
    let trimmed = body.trim_ascii_end();
    let with_trailer = [trimmed, b" trailer"].concat();
    let cut = trimmed.split_last().map(|(_, cut)| cut).unwrap_or_default();
    // Without its last byte, an object or a list is incomplete.
    let is_closed =
        Reply::of(&whole).whole().is_some_and(|json| json.is_object() || json.is_array());
    for (body, is_incomplete) in [(&*with_trailer, true), (cut, is_closed)] {
        let changed = response(body);
        check_all(api, &changed);
        if is_incomplete {
            for outcome in outcomes(api, &changed) {
                let is_final = matches!(
                    outcome,
                    Outcome::Expired(_) | Outcome::Rejected(_) | Outcome::Alive { .. }
                );
                assert!(!is_final, "{outcome:?} from an incomplete body");
            }
        }
    }
}

fn split<'a>(text: &'a [u8], separator: &[u8]) -> (&'a [u8], &'a [u8]) {
    match memchr::memmem::find(text, separator) {
        Some(at) => (&text[..at], &text[at + separator.len()..]),
        None => (text, &[]),
    }
}

fn read(status: u16, lines: &[u8], body: &[u8]) -> RawResponse {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let (name, value) = split(line, b":");
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_950_000);
    RawResponse {
        arrived: noon,
        headers,
        ..RawResponse::plain(status, Body::Whole(Bytes::copy_from_slice(body)))
    }
}

fn with<T>(
    api: &ProfileApi,
    endpoint: Endpoint,
    response: &RawResponse,
    read: fn(&Exchange<'_>, &RawResponse) -> T,
) -> T {
    let values = Values { refresh: Some(REFRESH), ..api.values(Some(TOKEN)) };
    let secrets = values.secrets();
    let exchange = api.exchange(endpoint, &values, "main", &secrets).expect("the call");
    read(&exchange, response)
}

fn outcomes(api: &ProfileApi, response: &RawResponse) -> [Outcome; 2] {
    let renewed = with(api, Endpoint::Renew, response, verdict::renew);
    [with(api, Endpoint::Query, response, verdict::query), renewed.outcome]
}

fn check_all(api: &ProfileApi, response: &RawResponse) {
    let is_success = response.status / 100 == 2;
    for outcome in outcomes(api, response) {
        match outcome {
            Outcome::Alive { remaining } => {
                assert!(is_success && remaining <= ENDLESS, "{}: {remaining:?}", response.status);
            }
            Outcome::Throttled { retry_after, fault } => {
                check_pause(retry_after);
                check(&fault);
            }
            Outcome::Expired(fault)
            | Outcome::Rejected(fault)
            | Outcome::Misconfigured(fault)
            | Outcome::Unavailable(fault) => check(&fault),
        }
    }
    let renewed = with(api, Endpoint::Renew, response, verdict::renew);
    let is_new = renewed.new_value.is_some() || renewed.new_refresh.is_some();
    assert!(is_success || !is_new, "a new value from {}", response.status);
    assert_ne!(renewed.new_value.as_ref().map(TokenValue::expose), Some(TOKEN));
    match with(api, Endpoint::Login, response, verdict::login) {
        Ok(_) => assert!(is_success, "a session from {}", response.status),
        Err(error) => {
            check(&error.fault);
            let is_refusal = error.kind == LoginErrorKind::Refused;
            let Body::Whole(body) = &response.body else { return };
            let is_of_api = memchr::memchr2(b'{', b'[', body).is_some();
            assert!(!is_refusal || is_of_api, "refused by neither an object nor a list");
        }
    }
    if let Err(fault) = with(api, Endpoint::Revoke, response, verdict::revoke) {
        check(&fault);
    }
}

fn check(fault: &CallError) {
    check_fault(fault, TOKEN);
    check_fault(fault, REFRESH);
}
