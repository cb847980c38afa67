//! The language: rules, places and units, beyond what the built-in profiles use.

use serde_json::json;

use super::*;
use crate::outcome::ENDLESS;

/// A profile `p` whose query has these keys, beside those that it needs.
fn api(query: &str) -> Api {
    Api::written(&format!("[profile.p.query]\nrequest = \"GET x/{{token}}\"\n{query}"))
}

#[test]
fn less_final_rule_counts_if_several_match() {
    let api = api(r#"
        life = "life"
        unit = "s"
        dead = [
          { at = "e", is = "first", means = "expired" },
          { at = "e", has = "s", means = "rejected" },
        ]
        later = [
          { at = "e", is = "account", means = "misconfigured" },
          { at = "e", is = "busy", means = "unavailable" },
          { at = "e", is = "slow", means = "throttled" },
        ]
    "#);
    for (errors, expected) in [
        (json!(["first"]), "expired"),
        (json!(["lost"]), "rejected"),
        (json!(["lost", "first"]), "expired"),
        (json!(["first", "account"]), "misconfigured"),
        (json!(["account", "busy", "first"]), "unavailable"),
        (json!(["busy", "slow", "account"]), "throttled"),
        (json!([]), "unavailable"),
    ] {
        for status in [200, 400, 404] {
            let outcome = api.query(status, json!({ "e": errors }));
            if errors != json!([]) {
                assert_eq!(kind(&outcome), expected, "{status} {errors}");
            }
            let outcome = api.query(status, json!({ "e": errors, "life": 7 }));
            assert_ne!(kind(&outcome) == "alive", errors != json!([]) || status != 200, "{errors}");
        }
    }
}

#[test]
fn rule_with_a_status_needs_that_status() {
    let api = api(r#"
        life = "life"
        unit = "s"
        dead = [{ status = 409, at = "e", is = "gone", means = "expired" }]
    "#);
    assert_eq!(kind(&api.query(409, json!({ "e": "gone" }))), "expired");
    for status in [200, 400, 408, 410, 500] {
        let kind = kind(&api.query(status, json!({ "e": "gone" })));
        assert_ne!(kind, "expired", "{status}");
    }
}

#[test]
fn rule_about_a_header_or_a_cookie_needs_no_body() {
    let api = api(r#"
        life = "life"
        unit = "s"
        dead = [
          { at = "header X-Session", is = "Expired", means = "rejected" },
          { at = "cookie session", has = "deleted", means = "rejected" },
        ]
    "#);
    let with =
        |name, value| kind(&api.queried(with_headers(response(401, "<html>"), &[(name, value)])));
    assert_eq!(with("x-session", " Expired "), "rejected");
    assert_eq!(with("x-session", "Active"), "unavailable");
    assert_eq!(with("set-cookie", "session=\"deleted\"; Path=/"), "rejected");
    assert_eq!(with("set-cookie", "other=deleted; session=deleted"), "unavailable");
}

#[test]
fn absence_of_a_value_is_seen_in_complete_json_only() {
    let api = api(r#"
        life = "life"
        unit = "s"
        dead = [{ status = 404, at = "header X-Api", is = "1", without = "id", means = "expired" }]
    "#);
    let query =
        |body: &str| kind(&api.queried(with_headers(response(404, body), &[("x-api", "1")])));
    assert_eq!(query("{}"), "expired");
    assert_eq!(query(r#"{"id":null}"#), "expired");
    for body in ["", "<html>", "{\"i", "{} x", r#"{"id":7}"#, r#"{"id":""}"#, r#"[{"Id":7}]"#] {
        assert_eq!(query(body), "misconfigured", "{body}");
    }
}

#[test]
fn success_with_an_empty_error_beside_it_is_alive() {
    let api = api(r#"
        life = "life"
        unit = "s"
        alive = { at = "life", has = "", without = "error" }
    "#);
    for error in [json!(null), json!(""), json!({}), json!([]), json!({ "code": null })] {
        assert_eq!(api.query(200, json!({ "life": 7, "error": error })), alive(7), "{error}");
    }
    for error in [json!("x"), json!(0), json!(false), json!({ "code": 1 }), json!([{ "a": 1 }])] {
        let outcome = api.query(200, json!({ "life": 7, "error": error }));
        assert_eq!(kind(&outcome), "unavailable", "{error}");
    }
}

#[test]
fn earliest_of_several_lives_counts_and_missing_ones_do_not() {
    let api = api("life = [\"idle\", \"session.left\"]\nunit = \"s\"");
    let query = |idle: serde_json::Value, left: serde_json::Value| {
        api.query(200, json!({ "idle": idle, "Session": { "left": left } }))
    };
    assert_eq!(query(json!(7), json!(8)), alive(7));
    assert_eq!(query(json!(9), json!("8")), alive(8));
    assert_eq!(query(json!(null), json!(8)), alive(8));
    assert_eq!(query(json!(9), json!([7, 5, 6])), alive(5));
    for (idle, left) in
        [(json!(null), json!(null)), (json!(9), json!("soon")), (json!(-1), json!(8))]
    {
        assert_eq!(kind(&query(idle.clone(), left)), "unavailable", "{idle}");
    }
    let nothing = fault(query(json!(null), json!(null))).error;
    assert!(nothing.contains("`idle` or `session.left`"), "{nothing}");
}

#[test]
fn each_unit_means_a_life() {
    // A second before the expiry below, less the second that the clock may have gained.
    let date = ("date", "Sun, 29 Nov 2026 11:05:15 GMT");
    for (unit, value, expected) in [
        ("ms", json!(7_000), 7),
        ("s", json!(7), 7),
        ("s", json!("7.0"), 7),
        ("epoch", json!(1_795_950_323), 7),
        ("epoch_ms", json!(1_795_950_323_000_u64), 7),
        ("rfc3339", json!("2026-11-29T11:05:23Z"), 7),
        ("rfc3339", json!("2026-11-29T13:05:23.000+02:00"), 7),
        ("rfc3339", json!("2026-11-29T11:05:00Z"), 0),
        ("epoch", json!(1_795_950_300), 0),
    ] {
        let api = api(&format!("life = \"life\"\nunit = \"{unit}\""));
        let response = with_headers(response(200, json!({ "life": value })), &[date]);
        assert_eq!(api.queried(response), alive(expected), "{unit} {value}");
    }
}

#[test]
fn life_in_the_wrong_unit_is_unexpected() {
    for (unit, value) in [
        ("ms", json!(1_795_950_323_000_u64)),
        ("s", json!(1_795_950_323)),
        ("s", json!(-1)),
        ("s", json!(1e308)),
        ("epoch", json!(3_600)),
        ("epoch", json!(1_795_950_323_000_u64)),
        ("epoch_ms", json!(1_795_950_323)),
        ("rfc3339", json!(1_795_950_323)),
        ("rfc3339", json!("2026-11-29 11:05:23")),
        ("rfc3339", json!("never")),
    ] {
        let api = api(&format!("life = \"life\"\nunit = \"{unit}\""));
        let outcome = api.query(200, json!({ "life": value }));
        assert_eq!(kind(&outcome), "unavailable", "{unit} {value}: {outcome:?}");
    }
}

#[test]
fn only_a_sentinel_for_never_is_endless() {
    let outcome = |unit: &str, value: serde_json::Value| {
        api(&format!("life = \"life\"\nunit = \"{unit}\"")).query(200, json!({ "life": value }))
    };
    let endless = Outcome::Alive { remaining: ENDLESS };
    for never in
        ["9999-12-31T23:59:59.9999999Z", "9999-12-31T00:00:00+00:00", "3000-01-01T00:00:00Z"]
    {
        assert_eq!(outcome("rfc3339", json!(never)), endless, "{never}");
    }
    assert_eq!(outcome("epoch", json!(253_402_300_799_u64)), endless);
    let longest = Outcome::Alive { remaining: ENDLESS.saturating_sub(Duration::from_millis(1)) };
    assert_eq!(outcome("rfc3339", json!("2100-01-01T00:00:00Z")), longest);
    assert_eq!(outcome("epoch", json!(4_102_444_800_u64)), longest);
    for seconds in [366 * 86_400, 87_600 * 3_600, 999_999_999] {
        assert_eq!(outcome("s", json!(seconds)), longest, "{seconds}");
    }
}

#[test]
fn page_without_the_cookie_of_a_session_is_no_login() {
    let api = Api::written(
        r#"
        [profile.p]
        unit = "s"
        query = { request = "GET x/{token}", life = "life" }
        login = { request = "POST login", value = "cookie api" }
        "#,
    );
    assert_eq!(api.login_fails(200, "<html>Welcome</html>"), LoginErrorKind::Unavailable);
    assert_eq!(api.login_fails(200, ""), LoginErrorKind::Unavailable);
    assert_eq!(api.login_fails(200, json!({ "user": "ann" })), LoginErrorKind::Useless);
}

#[test]
fn assumed_life_needs_a_response_with_content_or_none_at_all() {
    let api = Api::written(
        r#"
        [profile.p]
        assume = "20m"
        [profile.p.query]
        request = "GET keepAlive/{token}"
        alive = { at = "header X-Api", has = "1" }
        "#,
    );
    let query =
        |status, body: &str| api.queried(with_headers(response(status, body), &[("x-api", "1")]));
    assert_eq!(query(200, r#"{"status":"SUCCESS"}"#), alive(1200));
    assert_eq!(query(200, r#"[{"ID":"a"}]"#), alive(1200));
    assert_eq!(query(204, ""), alive(1200));
    for body in ["{}", "[]", "null", "<html>", "{\"status\":", "{\"a\":1} x"] {
        assert_eq!(kind(&query(200, body)), "unavailable", "{body}");
    }
    assert_eq!(kind(&query(404, r#"{"status":"SUCCESS"}"#)), "misconfigured");
}

#[test]
fn declared_outage_with_a_pause_is_throttled() {
    let api = api(r#"
        life = "life"
        unit = "s"
        later = [{ at = "e", is = "busy", means = "unavailable" }, { at = "e", is = "slow", means = "throttled" }]
    "#);
    let pause: &[_] = &[("retry-after", "7")];
    for (text, pause, expected) in [
        ("busy", pause, Some(7)),
        ("busy", &[], None),
        ("slow", pause, Some(7)),
        ("slow", &[], Some(1)),
    ] {
        let response = with_headers(response(200, json!({ "e": text })), pause);
        let asked = match api.queried(response) {
            Outcome::Throttled { retry_after, .. } => Some(retry_after.as_secs()),
            _ => None,
        };
        assert_eq!(asked, expected, "{text} {pause:?}");
    }
}

#[test]
fn body_that_is_too_long_says_nothing() {
    for (status, expected) in [(200, "unavailable"), (403, "misconfigured"), (503, "unavailable")] {
        let response = RawResponse { body: Body::TooLong, ..response(status, "") };
        let outcome = Api::builtin("vault").queried(response);
        assert_eq!(kind(&outcome), expected, "{status}");
    }
    let response = RawResponse { body: Body::TooLong, ..response(200, "") };
    let error = fault(Api::builtin("vault").queried(response)).error;
    assert!(error.contains("64 KiB"), "{error}");
}
