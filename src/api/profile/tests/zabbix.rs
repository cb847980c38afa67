//! Sessions of Zabbix, whose errors are HTTP 200, and whose lives are assumed.

use serde_json::json;

use super::*;

const SESSION: &str = "5549fc3bf35cb78d4cdd540f76c95025";

fn zabbix() -> Api {
    Api { token: SESSION, ..Api::builtin("zabbix") }
}

fn result(result: impl Into<serde_json::Value>) -> serde_json::Value {
    json!({ "jsonrpc": "2.0", "result": result.into(), "id": 1 })
}

fn error(code: i32, data: &str) -> serde_json::Value {
    let error = json!({ "code": code, "message": "Application error.", "data": data });
    json!({ "jsonrpc": "2.0", "error": error, "id": 1 })
}

#[test]
fn session_that_the_server_names_lives_for_the_assumed_time() {
    let body = result(json!({ "userid": "1", "autologout": "90s", "sessionid": SESSION }));
    assert_eq!(zabbix().query(200, &body), alive(90));
    assert_eq!(zabbix().renew(200, &body), Renewed::failed(alive(90)));
}

#[test]
fn success_that_does_not_name_the_session_is_unexpected() {
    for body in [
        result(json!({ "userid": "1", "sessionid": "5549fc3bf35cb78d4cdd540f76c95026" })),
        result(json!({ "userid": "1" })),
        result(true),
        json!({ "sessionid": SESSION }),
    ] {
        let outcome = zabbix().query(200, &body);
        assert_eq!(kind(&outcome), "unavailable", "{body}");
        assert!(fault(outcome).error.contains("`alive`"), "{body}");
    }
}

#[test]
fn terminated_session_is_rejected() {
    let outcome = zabbix().query(200, error(-32602, "Session terminated, re-login, please."));
    assert_eq!(kind(&outcome), "rejected");
    assert_eq!(fault(outcome).detail.as_deref(), Some("Session terminated, re-login, please."));
}

#[test]
fn other_errors_are_no_death() {
    for (code, data) in [
        (-32602, "Session ID or token is expected."),
        (-32500, "No permissions to call \"user.checkAuthentication\"."),
        (1, ""),
    ] {
        assert_eq!(kind(&zabbix().query(200, error(code, data))), "unavailable", "{data}");
    }
    let html = "<html><h1>Database error</h1> re-login</html>";
    assert_eq!(kind(&zabbix().query(200, html)), "unavailable");
}

#[test]
fn wrong_password_is_a_refused_login_and_a_broken_database_is_none() {
    let wrong = "Incorrect user name or password or account is temporarily blocked.";
    assert_eq!(zabbix().login_fails(200, error(-32500, wrong)), LoginErrorKind::Refused);
    let broken = error(1, "Error connecting to database.");
    assert_eq!(zabbix().login_fails(200, broken), LoginErrorKind::Unavailable);
    let session = zabbix().login(200, result("b952bfbcfb4bf2aa3e28173a9859d068"));
    assert_eq!(session.expect("a session").value.expose(), "b952bfbcfb4bf2aa3e28173a9859d068");
}

#[test]
fn revocation_is_confirmed_by_the_result() {
    assert_eq!(zabbix().revoke(200, result(true)), Ok(()));
    let dead = error(-32602, "Session terminated, re-login, please.");
    assert_eq!(zabbix().revoke(200, dead).expect_err("dead").status, Some(401));
    assert!(zabbix().revoke(200, result(false)).is_err());
}

#[test]
fn foreign_responses_are_inconclusive() {
    assert_foreign_is_inconclusive(&zabbix());
}
