//! Vault and `OpenBao`.

use serde_json::json;

use super::*;
use crate::outcome::ENDLESS;

fn vault() -> Api {
    Api::builtin("vault")
}

/// A response to `lookup-self`.
fn looked_up(ttl: impl Into<serde_json::Value>) -> serde_json::Value {
    let expire_time = "2026-11-29T11:04:04.51321143Z";
    json!({
        "request_id": "48fe167f-b8a8-cded-c9dc-876b713f9251", "lease_id": "", "renewable": false,
        "lease_duration": 0, "wrap_info": null, "warnings": null, "auth": null,
        "data": {
            "accessor": "2orISzGNsKOTBq4YXOL6VRTG", "creation_ttl": 8, "id": TOKEN, "num_uses": 0,
            "expire_time": expire_time, "policies": ["default"], "renewable": true,
            "ttl": ttl.into(), "type": "service",
        },
    })
}

fn authorized(lease_duration: u64) -> serde_json::Value {
    json!({
        "lease_id": "", "lease_duration": 0, "data": null,
        "warnings": ["TTL of \"8s\" exceeded the effective max_ttl of \"3s\""],
        "auth": { "client_token": TOKEN, "lease_duration": lease_duration, "renewable": true },
    })
}

#[test]
fn life_is_the_ttl_in_seconds() {
    for ttl in [0, 1, 7, 2_764_800] {
        assert_eq!(vault().query(200, looked_up(ttl)), alive(ttl));
    }
    assert_eq!(vault().query(200, looked_up("7")), alive(7));
}

#[test]
fn life_of_a_renewal_is_its_lease_duration_even_if_it_is_capped() {
    for duration in [8, 3, 0] {
        let renewed = vault().renew(200, authorized(duration));
        assert_eq!(renewed, Renewed::failed(alive(duration)));
    }
}

#[test]
fn root_token_does_not_expire() {
    let mut body = looked_up(0);
    body["data"]["expire_time"] = json!(null);
    assert_eq!(vault().query(200, &body), Outcome::Alive { remaining: ENDLESS });
}

#[test]
fn response_without_an_expire_time_is_not_endless() {
    for body in [json!({}), json!({ "data": {} }), json!({ "data": null }), json!(null)] {
        assert_eq!(kind(&vault().query(200, &body)), "unavailable", "{body}");
    }
}

#[test]
fn denied_token_is_rejected_whatever_the_reason() {
    for text in ["permission denied"] {
        for body in [json!({ "errors": [text] }), json!({ "errors": ["x", text] })] {
            assert_eq!(kind(&vault().query(403, &body)), "rejected", "{body}");
            assert_eq!(kind(&vault().renew(403, &body).outcome), "rejected", "{body}");
        }
    }
    let newer =
        json!({ "errors": ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"] });
    let outcome = vault().query(403, &newer);
    assert_eq!(kind(&outcome), "rejected");
    let fault = fault(outcome);
    assert_eq!(fault.status, Some(403));
    assert_eq!(
        fault.detail.as_deref(),
        Some("2 errors occurred:* permission denied* invalid token")
    );
}

#[test]
fn denial_by_a_policy_is_no_death() {
    let body = json!({ "errors": ["1 error occurred:\n\t* permission denied\n\n"] });
    let outcome = vault().query(403, &body);
    assert_eq!(kind(&outcome), "misconfigured");
    let error = fault(outcome).error;
    assert!(error.contains("`query` of profile vault (403)"), "{error}");
    assert!(error.contains("[server.main]"), "{error}");
}

#[test]
fn denial_counts_only_with_its_status_and_as_the_whole_body() {
    let denial = r#"{"errors":["permission denied"]}"#;
    for status in [200, 400, 401, 404, 500, 503] {
        let kind = kind(&vault().query(status, denial));
        assert!(!matches!(kind, "rejected" | "expired" | "alive"), "{status}: {kind}");
    }
    for body in [
        format!("{denial}{denial}"),
        format!("{denial} <!-- proxy -->"),
        denial[..denial.len() - 1].to_owned(),
        r#"{"error":"permission denied"}"#.to_owned(),
        r#"{"errors":"permission denied by the proxy"}"#.to_owned(),
        r#"{"errors":[{"message":"permission denied"}]}"#.to_owned(),
    ] {
        assert_eq!(kind(&vault().query(403, &body)), "misconfigured", "{body}");
    }
    let spaced = format!("\u{feff}\n {denial}\r\n");
    assert_eq!(kind(&vault().query(403, spaced)), "rejected");
}

#[test]
fn sealed_vault_is_unavailable() {
    for (status, text) in
        [(503, "Vault is sealed"), (500, "local node not active but active cluster node not found")]
    {
        let outcome = vault().query(status, json!({ "errors": [text] }));
        assert_eq!(kind(&outcome), "unavailable", "{text}");
        assert_eq!(fault(outcome).detail.as_deref(), Some(text));
        assert_eq!(
            vault().login_fails(status, json!({ "errors": [text] })),
            LoginErrorKind::Unavailable
        );
    }
}

#[test]
fn foreign_responses_are_inconclusive() {
    assert_foreign_is_inconclusive(&vault());
}

#[test]
fn login_returns_the_client_token() {
    let session = vault().login(200, authorized(8)).expect("a session");
    assert_eq!(session.value.expose(), TOKEN);
    assert_eq!(session.refresh, None);
}

#[test]
fn refused_login_counts_and_does_not_show_the_secret() {
    for (status, text) in [
        (400, "invalid username or password"),
        (400, "invalid role or secret ID"),
        (403, "permission denied"),
        (400, PASSWORD),
    ] {
        let refused = vault().login(status, json!({ "errors": [text] })).expect_err("refused");
        assert_eq!(refused.kind, LoginErrorKind::Refused, "{text}");
        assert!(
            refused.fault.error.contains("`login` of profile vault"),
            "{}",
            refused.fault.error
        );
        let detail = if text == PASSWORD { "[redacted]" } else { text };
        assert_eq!(refused.fault.detail.as_deref(), Some(detail));
    }
}

#[test]
fn login_without_a_usable_token_is_useless() {
    for token in [json!(null), json!(""), json!("two words"), json!("null"), json!(7)] {
        let body = json!({ "auth": { "client_token": token } });
        assert_eq!(vault().login_fails(200, &body), LoginErrorKind::Useless, "{body}");
    }
    assert_eq!(vault().login_fails(200, json!({ "auth": null })), LoginErrorKind::Useless);
}

#[test]
fn revocation_needs_no_body_and_tells_a_dead_token() {
    assert_eq!(vault().revoke(204, ""), Ok(()));
    let fault = vault().revoke(403, json!({ "errors": ["permission denied"] })).expect_err("dead");
    assert_eq!(fault.status, Some(401));
    assert_eq!(vault().revoke(403, "<html>").expect_err("a proxy").status, Some(403));
}
