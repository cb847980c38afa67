#![expect(clippy::needless_pass_by_value, reason = "hand-made answers read better unborrowed")]

use hyper::http::{HeaderName, HeaderValue};
use serde_json::json;

use super::super::endpoint::Endpoint;
use super::super::profile::sarus;
use super::*;
use crate::outcome::testing::{fault, kind};

const SECRET: &str = "s3cret+token";

fn context(endpoint: Endpoint) -> RequestContext<'static> {
    RequestContext { server: "sarus", endpoint, profile: None, secrets: &[SECRET] }
}

fn response(status: u16, body: impl ToString) -> RawResponse {
    RawResponse::plain(status, Body::Whole(body.to_string().into()))
}

/// A header that asks for a pause of 7 s.
const PAUSE: (&str, &str) = ("retry-after", "7");

fn with_headers(response: RawResponse, headers: &[(&'static str, &'static str)]) -> RawResponse {
    let headers = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    RawResponse { headers: headers.collect(), ..response }
}

/// Reads a response by the native interpreter, and asserts that the profile `sarus` agrees.
fn queried(status: u16, body: impl ToString) -> Outcome {
    outcome_of(&response(status, body))
}

fn outcome_of(response: &RawResponse) -> Outcome {
    let outcome = query(&context(Endpoint::Query), response);
    let by_profile = sarus::query(SECRET, response);
    assert_eq!(sarus::essence(&by_profile), sarus::essence(&outcome), "{by_profile:?} {outcome:?}");
    outcome
}

fn renewed(body: impl ToString) -> Renewed {
    let (sent, response) = (TokenValue::parse(SECRET).expect("a value"), response(200, body));
    let renewed = renew(&context(Endpoint::Renew), &response, &sent);
    let by_profile = sarus::renew(SECRET, &response);
    assert_eq!(sarus::essence(&by_profile.outcome), sarus::essence(&renewed.outcome));
    assert_eq!(by_profile.new_value, renewed.new_value);
    renewed
}

fn logged_in(status: u16, body: impl ToString) -> Result<TokenValue, LoginError> {
    let response = response(status, body);
    let login = login(&context(Endpoint::Login), &response);
    let by_profile = sarus::login(SECRET, &response);
    let essence = |login: &Result<TokenValue, LoginError>| match login {
        Ok(value) => Ok(value.clone()),
        Err(error) => Err(error.kind),
    };
    assert_eq!(essence(&by_profile), essence(&login), "{status} {by_profile:?} {login:?}");
    login
}

fn revoked(result: serde_json::Value) -> Result<(), CallError> {
    let response = response(200, json!({ "Result": result }));
    let revoked = revoke(&context(Endpoint::Revoke), &response);
    let by_profile = sarus::revoke(SECRET, &response);
    assert_eq!(by_profile.is_ok(), revoked.is_ok(), "{by_profile:?} {revoked:?}");
    revoked
}

#[test]
fn a_full_envelope_with_a_remaining_life_is_alive() {
    let body = json!({
        "ServerDateTime": "2024-05-01T12:00:00Z",
        "TimeStamp": 2_460_432.0,
        "ExecutionTime": 1.25,
        "Result": { "Remaining": 1_800_000, "Unknown": [1, 2] },
    });
    assert_eq!(queried(200, body), Outcome::Alive { remaining: Duration::from_secs(1800) });
}

#[test]
fn empty_errors_beside_a_result_are_none() {
    for errors in [json!(null), json!([]), json!({}), json!("")] {
        let body = json!({ "Errors": errors, "Result": { "Remaining": 1 } });
        assert_eq!(kind(&queried(200, body)), "alive", "{errors}");
    }
}

#[test]
fn status_in_the_body_has_priority_over_the_http_status() {
    for http in [200, 401, 410, 404, 429, 500, 503] {
        let outcome = queried(http, json!({ "Errors": { "Status": 410, "Detail": "over" } }));
        assert_eq!(kind(&outcome), "expired", "{http}");
        assert_eq!(fault(outcome).status, Some(410), "{http}");
    }
}

#[test]
fn errors_win_over_a_result_beside_them() {
    let body = json!({ "Errors": { "Status": 401 }, "Result": { "Remaining": 1000 } });
    assert_eq!(kind(&queried(200, body)), "rejected");
}

#[test]
fn an_error_without_a_status_takes_the_http_status() {
    let body = json!({ "Errors": { "Detail": "no" } });
    for (http, expected) in [(410, "expired"), (401, "rejected"), (404, "misconfigured")] {
        assert_eq!(kind(&queried(http, &body)), expected, "{http}");
    }
}

#[test]
fn an_error_without_any_status_in_a_200_is_a_protocol_error() {
    let outcome = queried(200, json!({ "Errors": { "Detail": "no" }, "Result": {} }));
    assert_eq!(kind(&outcome), "unavailable");
    assert_eq!(fault(outcome).detail.as_deref(), Some("no"));
}

#[test]
fn an_unreadable_status_is_never_final() {
    for http in [200, 401, 410] {
        let outcome = queried(http, json!({ "Errors": { "Status": "gone" } }));
        assert_eq!(kind(&outcome), "unavailable", "{http}");
    }
}

#[test]
fn least_final_error_of_a_contradictory_list_counts() {
    let cases = [
        (json!([{ "Status": 410 }, { "Status": 410 }]), "expired"),
        (json!([{ "Status": 410 }, { "Status": 401 }]), "rejected"),
        (json!([{ "Status": 410 }, { "Status": 404 }]), "misconfigured"),
        (json!([{ "Status": 401 }, { "Status": 500 }]), "unavailable"),
        (json!([{ "Status": 410 }, { "Status": 429 }]), "throttled"),
    ];
    for (errors, expected) in cases {
        assert_eq!(kind(&queried(200, json!({ "Errors": errors }))), expected, "{errors}");
    }
    // A profile has no rule for one element of a list that lacks what another one has.
    let response = response(200, json!({ "Errors": [{ "Status": 410 }, { "Detail": "?" }] }));
    assert_eq!(kind(&query(&context(Endpoint::Query), &response)), "unavailable");
}

#[test]
fn status_401_or_410_without_the_apis_errors_is_inconclusive() {
    let bodies = [
        "<html>Unauthorized</html>".to_owned(),
        String::new(),
        json!({}).to_string(),
        json!({ "Errors": {} }).to_string(),
        json!({ "error": "unauthorized" }).to_string(),
        json!({ "Result": { "Remaining": 1000 } }).to_string(),
    ];
    for body in bodies {
        for http in [401, 410] {
            assert_eq!(kind(&queried(http, &body)), "unavailable", "{http} {body}");
        }
    }
}

#[test]
fn status_401_from_a_proxy_names_what_is_missing() {
    let error = fault(queried(401, "<html>")).error;
    assert!(error.contains("without the API's envelope"), "{error}");
}

#[test]
fn only_a_200_can_be_alive() {
    let body = json!({ "Result": { "Remaining": 1000 } });
    for http in [201, 202, 203, 204, 206, 301, 400, 404, 500] {
        assert_ne!(kind(&queried(http, &body)), "alive", "{http}");
    }
}

#[test]
fn status_200_that_is_not_the_apis_is_unavailable() {
    let bodies = [
        "",
        "<html>Welcome</html>",
        "{\"Result\":{\"Rema",
        "[]",
        "null",
        "{}",
        "{\"Result\":null}",
        "{\"Result\":[]}",
        "{\"Result\":{}}",
        "{\"Result\":{\"Remaining\":null}}",
        "{\"Result\":{\"Remaining\":-1}}",
        "{\"Result\":{\"Remaining\":\"soon\"}}",
        "{\"Result\":{\"Remaining\":1e400}}",
        "{\"Result\":{\"Remaining\":99999999999999}}",
        "{\"Remaining\":1000}",
    ];
    for body in bodies {
        let outcome = queried(200, body);
        assert_eq!(kind(&outcome), "unavailable", "{body}");
        assert!(fault(outcome).error.contains("unexpected response"), "{body}");
    }
}

#[test]
fn http_status_decides_if_the_body_is_too_long() {
    for (status, expected) in [(200, "unavailable"), (410, "unavailable"), (404, "misconfigured")] {
        let response = RawResponse { body: Body::TooLong, ..response(status, "") };
        let outcome = outcome_of(&response);
        assert_eq!(kind(&outcome), expected, "{status}");
    }
}

#[test]
fn status_429_in_the_body_pauses_for_the_time_in_the_header() {
    let response = response(200, json!({ "Errors": { "Status": 429 } }));
    let Outcome::Throttled { retry_after, .. } = outcome_of(&with_headers(response, &[PAUSE]))
    else {
        panic!("not throttled");
    };
    assert_eq!(retry_after, Duration::from_secs(7));
}

#[test]
fn quota_reset_counts_with_a_429_only() {
    let quota_reset = ("ratelimit-reset", "40");
    for (status, expected) in [(429, Some(40)), (503, None), (500, None), (200, None)] {
        for (http, body) in [(status, json!({})), (200, json!({ "Errors": { "Status": status } }))]
        {
            let response = with_headers(response(http, body), &[quota_reset]);
            let pause = match outcome_of(&response) {
                Outcome::Throttled { retry_after, .. } => Some(retry_after.as_secs()),
                _ => None,
            };
            assert_eq!(pause, expected, "{http} {status}");
        }
    }
    let both = with_headers(response(429, ""), &[quota_reset, PAUSE]);
    let Outcome::Throttled { retry_after, .. } = outcome_of(&both) else {
        panic!("not throttled");
    };
    assert_eq!(retry_after.as_secs(), 7);
}

#[test]
fn detail_is_the_servers_without_the_secret() {
    let detail = "token s3cret+token (s3cret%2Btoken)\r\n is unknown";
    let outcome = queried(401, json!({ "Errors": { "Status": 401, "Detail": detail } }));
    assert_eq!(fault(outcome).detail.as_deref(), Some("token [redacted] ([redacted]) is unknown"));
}

#[test]
fn response_that_a_cache_has_sent_is_inconclusive() {
    let alive = json!({ "Result": { "Remaining": 240_000 } });
    let expired = json!({ "Errors": [{ "Status": 410 }] });
    let aged = |status, body: &serde_json::Value, age| {
        outcome_of(&with_headers(response(status, body), &[("age", age)]))
    };
    for (status, body) in [(200, &alive), (410, &expired)] {
        let outcome = aged(status, body, "160");
        let error = fault(outcome.clone()).error;
        assert!(matches!(outcome, Outcome::Unavailable(_)) && error.contains("160 s"), "{error}");
    }
    let paused = with_headers(response(429, ""), &[("age", "160"), PAUSE]);
    let is_paused = matches!(outcome_of(&paused), Outcome::Throttled { .. });
    assert!(is_paused, "whoever asks for a pause gets it");
    // Fetched for this request, or no age at all.
    for age in ["0", "-1", "old"] {
        assert_eq!(
            aged(200, &alive, age),
            Outcome::Alive { remaining: Duration::from_secs(240) },
            "{age}"
        );
    }
}

#[test]
fn renewal_that_a_cache_has_sent_is_inconclusive_and_keeps_its_new_value() {
    let body = json!({ "Result": { "Remaining": 240_000, "SessionToken": "new+value" } });
    let response = with_headers(response(200, body), &[("age", "9")]);
    let sent = TokenValue::parse(SECRET).expect("a value");
    for renewed in
        [renew(&context(Endpoint::Renew), &response, &sent), sarus::renew(SECRET, &response)]
    {
        assert!(matches!(renewed.outcome, Outcome::Unavailable(_)));
        assert_eq!(renewed.new_value.as_ref().map(TokenValue::expose), Some("new+value"));
    }
}

#[test]
fn renewal_that_names_the_same_value_returns_no_new_one() {
    let same = renewed(json!({ "Result": { "Remaining": 5, "SessionToken": SECRET } }));
    assert_eq!(same.new_value, None);
    let none = renewed(json!({ "Result": { "Remaining": 5 } }));
    assert_eq!(none.new_value, None);
    assert_eq!(kind(&none.outcome), "alive");
}

#[test]
fn renewal_that_names_another_value_returns_it() {
    let renewed = renewed(json!({ "result": { "remaining": 5, "sessionToken": "next" } }));
    assert_eq!(renewed.new_value.expect("a value").expose(), "next");
    assert_eq!(kind(&renewed.outcome), "alive");
}

#[test]
fn new_value_is_kept_even_if_the_life_beside_it_is_invalid() {
    let renewed = renewed(json!({ "Result": { "Remaining": -1, "SessionToken": "next" } }));
    assert_eq!(renewed.new_value.expect("a value").expose(), "next");
    assert_eq!(kind(&renewed.outcome), "unavailable");
}

#[test]
fn a_renewal_with_an_unusable_value_is_a_protocol_error() {
    for value in [json!(""), json!("two words"), json!(7)] {
        let renewed = renewed(json!({ "Result": { "Remaining": 5, "SessionToken": value } }));
        assert_eq!(kind(&renewed.outcome), "unavailable", "{value}");
        assert_eq!(renewed.new_value, None, "{value}");
    }
}

#[test]
fn login_returns_the_token() {
    let body = json!({ "Result": { "SessionToken": "fresh", "Remaining": 1000 } });
    assert_eq!(logged_in(200, body).expect("a token").expose(), "fresh");
}

#[test]
fn login_with_a_bad_key_is_rejected_with_a_remedy() {
    let refused = logged_in(401, json!({ "Errors": { "Status": 401 } })).expect_err("refused");
    assert_eq!(refused.kind, LoginErrorKind::Refused);
    assert!(refused.fault.error.contains("API key"), "{}", refused.fault.error);
}

#[test]
fn throttled_login_returns_the_pause() {
    let throttled = logged_in(429, "").expect_err("throttled");
    assert_eq!(throttled.kind, LoginErrorKind::Throttled { retry_after: Duration::from_secs(1) });
}

#[test]
fn only_a_rejection_in_the_apis_envelope_is_conclusive_for_a_login() {
    for status in [400, 401, 403, 404, 405, 410, 422] {
        let body = json!({ "Errors": { "Status": status, "Detail": "no" } });
        for http in [200, status] {
            let fault = logged_in(http, body.clone()).expect_err("refused");
            assert!(!fault.kind.is_inconclusive(), "{http}: {fault:?}");
            assert_eq!(fault.fault.status, Some(status));
        }
        // The same status from a proxy, a gateway or a captive portal.
        for body in ["", "<html>Forbidden</html>", "{}"] {
            let fault = logged_in(status, body).expect_err("refused");
            assert_eq!(fault.kind, LoginErrorKind::Unavailable, "{status} {body}");
        }
        // A profile cannot tell a foreign JSON object from the API's: for it, that is a refusal.
        let response = response(status, json!({ "errors": [{ "message": "no" }] }));
        let fault = login(&context(Endpoint::Login), &response).expect_err("refused");
        assert_eq!(fault.kind, LoginErrorKind::Unavailable, "{status}");
    }
}

#[test]
fn outage_is_never_conclusive_for_a_login() {
    for status in [408, 425, 500, 502, 503, 504] {
        let own = json!({ "Errors": { "Status": status } }).to_string();
        for body in [own.as_str(), "", "<html>Maintenance</html>"] {
            let fault = logged_in(status, body).expect_err("no token");
            assert!(fault.kind.is_inconclusive(), "{status} {body}: {fault:?}");
        }
        assert!(logged_in(200, own.as_str()).expect_err("no token").kind.is_inconclusive());
    }
    for status in [302, 307, 429] {
        assert!(logged_in(status, "").expect_err("no token").kind.is_inconclusive(), "{status}");
    }
    for body in ["", "<html>Maintenance</html>", "{}", "{\"Result\":{\"SessionTok", "[]"] {
        let fault = logged_in(200, body).expect_err("no token");
        assert_eq!(fault.kind, LoginErrorKind::Unavailable, "{body}");
    }
}

#[test]
fn success_without_a_usable_token_is_conclusive() {
    for token in
        [json!(null), json!(""), json!("a\nb"), json!(7), json!("null"), json!("{\"a\":1}")]
    {
        let body = json!({ "Result": { "SessionToken": token } });
        let fault = logged_in(200, body).expect_err("no token");
        assert_eq!(fault.kind, LoginErrorKind::Useless, "{token}");
        assert!(!fault.fault.error.contains('\n'));
    }
    assert_eq!(
        logged_in(200, json!({ "Result": {} })).expect_err("no token").kind,
        LoginErrorKind::Useless
    );
}

#[test]
fn revocation_succeeds_unless_its_own_status_is_an_error() {
    assert_eq!(revoked(json!({ "Status": 200, "Detail": "revoked" })), Ok(()));
    assert_eq!(revoked(json!({ "Status": "OK" })), Ok(()));
    // A profile has no rule for each status from 300 on.
    let response = response(200, json!({ "Result": { "Status": 500, "Detail": "later" } }));
    let fault = revoke(&context(Endpoint::Revoke), &response).expect_err("not revoked");
    assert_eq!((fault.status, fault.detail.as_deref()), (Some(500), Some("later")));
}
