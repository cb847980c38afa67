//! Leases of etcd.

use serde_json::json;

use super::*;

const LEASE: &str = "166811474504456455";

fn etcd() -> Api {
    Api { token: LEASE, ..Api::builtin("etcd-lease") }
}

fn header() -> serde_json::Value {
    json!({ "cluster_id": "14089571842301612623", "revision": "1", "raft_term": "2" })
}

#[test]
fn life_is_a_number_of_seconds_as_text() {
    let queried = json!({ "header": header(), "ID": LEASE, "TTL": "4", "grantedTTL": "5" });
    assert_eq!(etcd().query(200, queried), alive(4));
    let renewed = json!({ "result": { "header": header(), "ID": LEASE, "TTL": "5" } });
    assert_eq!(etcd().renew(200, format!("{renewed}\n")), Renewed::failed(alive(5)));
}

#[test]
fn expired_revoked_and_unknown_leases_are_expired() {
    for ttl in [json!("-1"), json!(-1), json!("-1.0")] {
        let body = json!({ "header": header(), "ID": LEASE, "TTL": ttl });
        assert_eq!(kind(&etcd().query(200, &body)), "expired", "{body}");
    }
    for id in [json!(LEASE), json!(166_811_474_504_456_455_u64)] {
        let body = json!({ "result": { "header": header(), "ID": id } });
        assert_eq!(kind(&etcd().renew(200, &body).outcome), "expired", "{body}");
    }
}

#[test]
fn renewal_of_another_lease_is_no_death() {
    // It differs by one, and is equal as a float.
    for id in ["166811474504456456", "12345", ""] {
        let body = json!({ "result": { "header": header(), "ID": id } });
        assert_eq!(kind(&etcd().renew(200, &body).outcome), "unavailable", "{id}");
    }
    let truncated = format!("{{\"result\":{{\"ID\":\"{LEASE}\"");
    assert_eq!(kind(&etcd().renew(200, truncated).outcome), "unavailable");
    let trailing = format!("{{\"result\":{{\"ID\":\"{LEASE}\"}}}}Grpc-Trailer");
    assert_eq!(kind(&etcd().renew(200, trailing).outcome), "unavailable");
}

#[test]
fn trailer_behind_the_json_kills_nothing_and_leaves_the_detail() {
    let text = "etcdserver: requested lease not found";
    let body = json!({ "error": text, "message": text, "code": 5 }).to_string()
        + "Grpc-Trailer-Content-Type: application/grpc\r\n";
    for (outcome, expected) in
        [(etcd().query(404, &body), "misconfigured"), (etcd().query(200, &body), "unavailable")]
    {
        assert_eq!(kind(&outcome), expected);
        assert_eq!(fault(outcome).detail.as_deref(), Some(text));
    }
    let alive = json!({ "ID": LEASE, "TTL": "4" }).to_string() + "Grpc-Trailer: x";
    assert_eq!(kind(&etcd().query(200, alive)), "unavailable");
    let fault = etcd().revoke(404, &body).expect_err("not found");
    assert_eq!((fault.status, fault.detail.as_deref()), (Some(404), Some(text)));
}

#[test]
fn malformed_request_is_no_death() {
    let text = "invalid character 'a' looking for beginning of value";
    let body = json!({ "error": text, "message": text, "code": 3 });
    assert_eq!(kind(&etcd().query(400, body)), "misconfigured");
}

#[test]
fn login_is_a_new_lease() {
    let body = json!({ "header": header(), "ID": LEASE, "TTL": "5" });
    assert_eq!(etcd().login(200, body).expect("a session").value.expose(), LEASE);
}

#[test]
fn login_is_refused_by_an_error_with_a_trailer_behind_it() {
    let text = "etcdserver: user name is empty";
    let body = json!({ "error": text, "message": text, "code": 3 }).to_string();
    for end in ["", "Grpc-Trailer-Content-Type: application/grpc\r\n"] {
        for status in [400, 401, 403] {
            let kind = etcd().login_fails(status, format!("{body}{end}"));
            assert_eq!(kind, LoginErrorKind::Refused, "{status} {end}");
        }
        let kind = etcd().login_fails(500, format!("{body}{end}"));
        assert_eq!(kind, LoginErrorKind::Unavailable, "{end}");
    }
}

#[test]
fn revocation_is_confirmed_by_the_status() {
    assert_eq!(etcd().revoke(200, json!({ "header": header() })), Ok(()));
}

#[test]
fn foreign_responses_are_inconclusive() {
    assert_foreign_is_inconclusive(&etcd());
}
