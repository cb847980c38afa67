//! OAuth 2.0: access tokens that are renewed with a refresh token.

use serde_json::json;

use super::*;

fn oauth2() -> Api {
    Api { refresh: Some(REFRESH), ..Api::builtin("oauth2") }
}

/// `Date` is 11:05:15, `exp` is 6 s later.
const DATE: (&str, &str) = ("date", "Sun, 29 Nov 2026 11:05:15 GMT");

fn introspected(exp: impl Into<serde_json::Value>) -> RawResponse {
    let body = json!({
        "active": true, "sub": "keeper", "client_id": "keeper", "exp": exp.into(),
        "iat": 1_795_950_313, "iss": "http://127.0.0.1:18300", "token_type": "Bearer",
    });
    with_headers(response(200, body), &[DATE])
}

#[test]
fn expiry_is_measured_against_the_date_of_the_response_less_a_second() {
    for (exp, left) in [(1_795_950_321, 5), (1_795_950_317, 1), (1_795_950_316, 0)] {
        assert_eq!(oauth2().queried(introspected(exp)), alive(left));
        assert_eq!(oauth2().queried(introspected(exp.to_string())), alive(left));
    }
    assert_eq!(oauth2().queried(introspected(1_795_950_000)), alive(0), "it has passed");
}

#[test]
fn implausible_expiry_is_unexpected() {
    for exp in
        [json!(0), json!(8), json!(-1), json!(1_795_950_321_000_u64), json!("soon"), json!({})]
    {
        let outcome = oauth2().queried(introspected(exp.clone()));
        assert_eq!(kind(&outcome), "unavailable", "{exp}");
        let error = fault(outcome).error;
        assert!(error.contains("`exp`"), "{error}");
    }
    assert_eq!(kind(&oauth2().queried(introspected(json!(null)))), "unavailable");
}

#[test]
fn inactive_token_is_rejected_and_nothing_like_it() {
    assert_eq!(kind(&oauth2().query(200, json!({ "active": false }))), "rejected");
    for body in [
        json!({ "active": null }),
        json!({ "active": 0 }),
        json!({ "active": "no" }),
        json!({ "inactive": false }),
        json!({ "result": { "active": false } }),
        json!({ "active": true }),
    ] {
        assert_eq!(kind(&oauth2().query(200, &body)), "unavailable", "{body}");
    }
    for status in [400, 401, 403, 500] {
        let kind = kind(&oauth2().query(status, json!({ "active": false })));
        assert_ne!(kind, "rejected", "{status}");
    }
}

#[test]
fn renewal_returns_a_new_value_and_a_new_refresh_token() {
    let body = json!({
        "access_token": "NivY6esLW4hCNfOgXOcxLdh", "expires_in": 8, "id_token": "eyJhbGciOi",
        "refresh_token": "GoT1HVP61WzedpJkUwNRPJe6", "token_type": "Bearer",
    });
    let renewed = oauth2().renew(200, body);
    assert_eq!(renewed.outcome, alive(8));
    assert_eq!(renewed.new_value.expect("a value").expose(), "NivY6esLW4hCNfOgXOcxLdh");
    assert_eq!(renewed.new_refresh.expect("a refresh token").expose(), "GoT1HVP61WzedpJkUwNRPJe6");
}

#[test]
fn server_that_does_not_rotate_names_no_new_refresh_token() {
    for refresh in [json!(REFRESH), json!(null)] {
        let body = json!({ "access_token": "next", "expires_in": 8, "refresh_token": refresh });
        let renewed = oauth2().renew(200, &body);
        assert!(renewed.new_value.is_some());
        assert_eq!(renewed.new_refresh, None, "{body}");
    }
}

#[test]
fn new_refresh_token_is_kept_even_if_the_rest_of_the_response_is_invalid() {
    for (value, expires_in) in
        [(json!(null), json!(8)), (json!("two words"), json!(8)), (json!("next"), json!("soon"))]
    {
        let body = json!({
            "access_token": value, "expires_in": expires_in, "refresh_token": "next-refresh",
        });
        let renewed = oauth2().renew(200, &body);
        assert_eq!(kind(&renewed.outcome), "unavailable", "{body}");
        assert_eq!(renewed.new_refresh.expect("kept").expose(), "next-refresh");
        assert!(!fault(renewed.outcome).may_have_acted, "nothing is lost: {body}");
    }
    let body = json!({ "access_token": "next", "expires_in": 8, "refresh_token": "next-refresh" });
    let renewed = oauth2().renew(200, format!("{body}\nX-Trailer: 1"));
    assert_eq!(kind(&renewed.outcome), "unavailable");
    assert_eq!(renewed.new_refresh.expect("kept").expose(), "next-refresh");
    assert_eq!(oauth2().renew(400, &body).new_refresh, None, "an error names none");
}

#[test]
fn refresh_token_that_cannot_be_used_is_reported_without_its_text() {
    let long = "r".repeat(5_000);
    for refresh in [json!(long), json!("two words"), json!(12), json!({ "of": "objects" })] {
        let body = json!({ "access_token": "next", "expires_in": 8, "refresh_token": refresh });
        let renewed = oauth2().renew(200, &body);
        assert_eq!((renewed.outcome, renewed.new_refresh), (alive(8), None));
        let error = renewed.refresh_error.expect("an error");
        assert!(error.contains("`refresh`") && !error.contains("rrr"), "{error}");
        assert!(!error.contains("two words"), "{error}");
    }
    for refresh in [json!(null), json!(""), json!(REFRESH)] {
        let body = json!({ "access_token": "next", "expires_in": 8, "refresh_token": refresh });
        assert_eq!(oauth2().renew(200, &body).refresh_error, None, "{body}");
    }
}

#[test]
fn renewal_without_its_values_may_have_acted() {
    for body in [json!({ "access_token": "next" }), json!({ "expires_in": 8 }), json!({})] {
        let outcome = oauth2().renew(200, &body).outcome;
        assert_eq!(kind(&outcome), "unavailable", "{body}");
        assert!(fault(outcome).may_have_acted, "{body}");
    }
}

#[test]
fn refused_refresh_token_is_a_rejection() {
    let body = json!({ "error": "invalid_grant", "error_description": "grant request is invalid" });
    let outcome = oauth2().renew(400, body).outcome;
    assert_eq!(kind(&outcome), "rejected");
    let fault = fault(outcome);
    assert!(fault.error.contains("refresh token"), "{}", fault.error);
    assert_eq!(fault.detail.as_deref(), Some("grant request is invalid"));
    assert!(!fault.may_have_acted);
}

#[test]
fn wrong_client_credentials_say_nothing_about_the_token() {
    let body =
        json!({ "error": "invalid_client", "error_description": "client authentication failed" });
    for status in [400, 401] {
        let queried = oauth2().query(status, &body);
        let renewed = oauth2().renew(status, &body).outcome;
        for outcome in [queried, renewed] {
            assert_eq!(kind(&outcome), "misconfigured", "{status}");
            let fault = fault(outcome);
            assert!(fault.error.contains("`with` of [server.main]"), "{}", fault.error);
            assert!(!fault.may_have_acted);
        }
        assert_eq!(oauth2().login_fails(status, &body), LoginErrorKind::Misconfigured);
    }
    // Even if a text behind it makes the rest unreadable.
    let trailing = format!("{body} trailing");
    assert_eq!(kind(&oauth2().query(401, trailing)), "misconfigured");
}

#[test]
fn other_errors_of_a_renewal_are_no_death() {
    for error in
        ["invalid_request", "unauthorized_client", "unsupported_grant_type", "server_error"]
    {
        let outcome = oauth2().renew(400, json!({ "error": error })).outcome;
        assert_eq!(kind(&outcome), "misconfigured", "{error}");
    }
}

#[test]
fn renewal_may_have_acted_unless_the_server_refused_the_request() {
    let may_have_acted = |status| {
        let outcome = oauth2().renew(status, "<html>").outcome;
        fault(outcome).may_have_acted
    };
    for status in [200, 201, 204, 408, 500, 502, 503, 504] {
        assert!(may_have_acted(status), "{status}");
    }
    for status in [301, 400, 401, 403, 404, 429] {
        assert!(!may_have_acted(status), "{status}");
    }
    // A query spends nothing.
    assert!(!fault(oauth2().query(500, "<html>")).may_have_acted);
}

#[test]
fn unavailable_server_refused_a_renewal_only_if_it_says_so_itself() {
    let may_have_acted = |response| {
        fault(oauth2().read(Endpoint::Renew, response, verdict::renew).outcome).may_have_acted
    };
    let reset = "upstream connect error or disconnect/reset before headers. reset reason: \
                 connection termination";
    for body in [reset, "<html>", "", "{}", "{\"error\":\"temp"] {
        assert!(may_have_acted(response(503, body)), "{body}");
        let paused = with_headers(response(503, body), &[("retry-after", "7")]);
        assert!(!may_have_acted(paused), "{body}");
    }
    assert!(!may_have_acted(response(503, json!({ "error": "temporarily_unavailable" }))));
}

#[test]
fn login_returns_the_access_token() {
    let body = json!({ "access_token": "KCyUxcGre2HK", "expires_in": 8, "token_type": "Bearer" });
    assert_eq!(oauth2().login(200, body).expect("a session").value.expose(), "KCyUxcGre2HK");
    let body = json!({ "error": "invalid_scope" });
    assert_eq!(oauth2().login_fails(400, body), LoginErrorKind::Refused);
}

#[test]
fn revocation_succeeds_with_an_empty_body() {
    assert_eq!(oauth2().revoke(200, ""), Ok(()));
    assert!(oauth2().revoke(401, json!({ "error": "invalid_client" })).is_err());
}

#[test]
fn foreign_responses_are_inconclusive() {
    assert_foreign_is_inconclusive(&oauth2());
}
