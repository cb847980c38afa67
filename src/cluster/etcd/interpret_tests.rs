//! Responses of etcd 3.4.23, as they were captured.

use super::*;
use crate::cluster::replica::{Key, Record, TokenKey};

const CONTEXT: Context<'_> = Context { prefix: "/p", user: Some("keeper") };
const ANONYMOUS: Context<'_> = Context { prefix: "/p", user: None };
const CLUSTER: u64 = 14_841_639_068_965_178_418;

const fn at(revision: u64) -> StoreRevision {
    StoreRevision { cluster: CLUSTER, revision }
}

/// The text with the header of the captured responses in place of `HEADER`.
fn response(text: &str, revision: u64) -> Vec<u8> {
    let header = format!(
        r#""header":{{"cluster_id":"{CLUSTER}","member_id":"10276657743932975437","revision":"{revision}","raft_term":"2"}}"#
    );
    text.replace("HEADER", &header).into_bytes()
}

fn value(content: &[u8], revision: u64) -> Entry {
    let key = Key::Value(TokenKey::new("s", "t"));
    Entry { key, record: Some(Record::Value(content.into())), revision }
}

fn refusal(failure: Failure) -> String {
    match failure {
        Failure::Refused(text) | Failure::Denied(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lease_is_granted_kept_alive_and_lost() {
    let body = response(r#"{HEADER,"ID":"7587899251247963911","TTL":"10"}"#, 1);
    assert_eq!(granted(&body), Ok(7_587_899_251_247_963_911));
    let line = response(r#"{"result":{HEADER,"ID":"7587899251247963911","TTL":"10"}}"#, 1);
    assert_eq!(kept_alive(&line, CONTEXT), Ok(true));
    let line = response("{\"result\":{HEADER,\"ID\":\"77\"}}\n", 1);
    assert_eq!(kept_alive(&line, CONTEXT), Ok(false));
}

#[test]
fn transaction_succeeds_or_returns_the_keys_that_exist() {
    let body = response(
        r#"{HEADER,"succeeded":true,"responses":[{"response_put":{"header":{"revision":"2"}}},{"response_delete_range":{"header":{"revision":"2"},"deleted":"1"}}]}"#,
        2,
    );
    let expected = Executed { succeeded: true, at: at(2), found: Vec::new() };
    assert_eq!(executed(&body, CONTEXT), Ok(expected));
    // "/p/value/s/t" and "hello".
    let body = response(
        r#"{HEADER,"responses":[{"response_range":{"header":{"revision":"2"},"kvs":[{"key":"L3AvdmFsdWUvcy90","create_revision":"2","mod_revision":"2","version":"1","value":"aGVsbG8=","lease":"7587899251247963911"}],"count":"1"}},{"response_range":{"header":{"revision":"2"}}}]}"#,
        2,
    );
    let found = Found { entry: value(b"hello", 2), lease: 7_587_899_251_247_963_911 };
    let expected = Executed { succeeded: false, at: at(2), found: vec![found] };
    assert_eq!(executed(&body, CONTEXT), Ok(expected));
}

#[test]
fn page_has_its_first_and_last_key_and_says_whether_there_are_more() {
    let body = |more| {
        let text = r#"{HEADER,"kvs":[{"key":"L3AvdmFsdWUvcy90","mod_revision":"2","value":"aGVsbG8="},{"key":"L3AvbGF0ZXIvYQ==","mod_revision":"1"}],MORE"count":"3"}"#;
        response(&text.replace("MORE", more), 5)
    };
    // The second key is of a later version, and is ignored.
    let found = vec![Found { entry: value(b"hello", 2), lease: 0 }];
    let keys = Some((b"/p/value/s/t".to_vec(), b"/p/later/a".to_vec()));
    let expected = Page { at: at(5), found, keys, more: true, count: 3 };
    assert_eq!(page(&body(r#""more":true,"#), CONTEXT).as_ref(), Ok(&expected));
    assert_eq!(page(&body(""), CONTEXT), Ok(Page { more: false, ..expected }));
    let empty = Page { at: at(5), found: Vec::new(), keys: None, more: false, count: 0 };
    assert_eq!(page(&response("{HEADER}", 5), CONTEXT), Ok(empty));
}

#[test]
fn numbers_are_strings_or_numbers() {
    let body = br#"{"header":{"cluster_id":14841639068965178418,"revision":5},"kvs":[{"key":"L3AvdmFsdWUvcy90","mod_revision":2,"value":"aGVsbG8="}]}"#;
    assert_eq!(page(body, CONTEXT).unwrap().found[0].entry, value(b"hello", 2));
    for number in ["-1", "\"-1\"", "1.5", "\"\"", "\"1e3\"", "9223372036854775808", "true", "[]"] {
        let body = format!(r#"{{"header":{{"cluster_id":"1","revision":{number}}}}}"#);
        page(body.as_bytes(), CONTEXT).expect_err(number);
    }
}

#[test]
fn watch_is_created_and_reports_changes_up_to_the_last_one() {
    let line = response(r#"{"result":{HEADER,"created":true}}"#, 5);
    assert_eq!(watch_line(&line, CONTEXT), Ok(WatchLine::Created(at(5))));
    // etcd is at revision 9 already.
    let line = response(
        r#"{"result":{HEADER,"events":[{"kv":{"key":"L3AvdmFsdWUvcy90","create_revision":"3","mod_revision":"5","version":"3","value":"Mw=="}},{"type":"DELETE","kv":{"key":"L3AvdmFsdWUvcy90","mod_revision":"6"}}]}}"#,
        9,
    );
    let deleted = Entry { record: None, ..value(b"", 6) };
    let expected = WatchLine::Changed(at(6), vec![value(b"3", 5), deleted]);
    assert_eq!(watch_line(&line, CONTEXT), Ok(expected));
    let line = response(r#"{"result":{HEADER}}"#, 12);
    assert_eq!(watch_line(&line, CONTEXT), Ok(WatchLine::Progress(at(12))));
}

#[test]
fn watch_is_canceled_for_a_reason() {
    let line = br#"{"result":{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","raft_term":"2"},"canceled":true,"compact_revision":"4"}}"#;
    assert_eq!(watch_line(line, CONTEXT), Err(Failure::Compacted));
    let canceled = |code: &str, words: &str| {
        let text = r#"{"result":{HEADER,"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"rpc error: code = CODE desc = etcdserver: WORDS"}}"#;
        watch_line(&response(&text.replace("CODE", code).replace("WORDS", words), 27), CONTEXT)
    };
    let token = canceled("Unauthenticated", "invalid auth token");
    assert_eq!(token, Err(Failure::LogIn));
    let rights = canceled("PermissionDenied", "permission denied").unwrap_err();
    assert!(refusal(rights).contains("below /p/"));
    let other = canceled("Unavailable", "no leader").unwrap_err();
    let words = "etcd has ended the watch: etcdserver: no leader";
    assert_eq!(other, Failure::Unavailable(Reason::silence(words)));
    let line = br#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: server stopped","http_status":"Service Unavailable"}}"#;
    assert!(matches!(watch_line(line, CONTEXT), Err(Failure::Unavailable(_))));
}

#[test]
fn errors_are_told_apart_by_code_and_words() {
    let unary = |status, code: u32, words: &str, context| {
        let text = format!(r#"{{"error":"{words}","message":"{words}","code":{code}}}"#);
        error(status, text.as_bytes(), context)
    };
    for (status, code, words, expected) in [
        (401, 16, "etcdserver: invalid auth token", Failure::LogIn),
        (400, 3, "etcdserver: revision of auth store is old", Failure::LogIn),
        (400, 3, "etcdserver: user name is empty", Failure::LogIn),
        (404, 5, "etcdserver: requested lease not found", Failure::NoLease),
        (400, 11, "etcdserver: mvcc: required revision has been compacted", Failure::Compacted),
        (412, 9, "etcdserver: authentication is not enabled", Failure::NoUsers),
    ] {
        assert_eq!(unary(status, code, words, CONTEXT), expected, "{words}");
    }
    for (status, code, words, remedy) in [
        (403, 7, "etcdserver: permission denied", "role grant-permission ROLE readwrite"),
        (400, 3, "etcdserver: authentication failed, invalid user ID or password", "user keeper"),
        (429, 8, "etcdserver: mvcc: database space exceeded", "etcdctl alarm disarm"),
        (400, 3, "etcdserver: duplicate key given in txn request", "duplicate key"),
    ] {
        let text = refusal(unary(status, code, words, CONTEXT));
        assert!(text.contains(remedy), "{text}");
    }
    let text = refusal(unary(400, 3, "etcdserver: user name is empty", ANONYMOUS));
    assert!(text.contains("set `user` and `password`"), "{text}");
    for (status, code, words) in [
        (503, 14, "etcdserver: request timed out, possibly due to previous leader failure"),
        (503, 14, "etcdserver: no leader"),
        (429, 8, "etcdserver: too many requests"),
        (504, 4, "context deadline exceeded"),
    ] {
        let failure = unary(status, code, words, CONTEXT);
        assert!(matches!(failure, Failure::Unavailable(_)), "{words}: {failure:?}");
    }
}

/// Responses of etcd 3.5.30, whose gateway has other fields and statuses.
#[test]
fn errors_of_the_second_version_of_the_gateway_are_the_same() {
    let unary = |status, text: &str| error(status, text.as_bytes(), CONTEXT);
    let text = r#"{"code":9, "message":"etcdserver: authentication is not enabled"}"#;
    assert_eq!(unary(400, text), Failure::NoUsers);
    let text = r#"{"code":16, "message":"etcdserver: invalid auth token"}"#;
    assert_eq!(unary(401, text), Failure::LogIn);
    let line = br#"{"error":{"code":16,"message":"etcdserver: invalid auth token"}}"#;
    assert_eq!(kept_alive(line, CONTEXT), Err(Failure::LogIn));
    assert_eq!(unary(401, str::from_utf8(line).unwrap()), Failure::LogIn);
}

#[test]
fn client_certificate_with_a_common_name_is_named() {
    let body = b"CommonName of client sending a request against gateway will be ignored and not used as expected\n";
    assert!(refusal(error(400, body, CONTEXT)).contains("issue one without a CN"));
}

#[test]
fn gateway_without_a_connection_to_its_etcd_is_told_from_etcd_without_a_leader() {
    let body = br#"{"error":"connection closed","message":"connection closed","code":14}"#;
    let Failure::Unavailable(reason) = error(503, body, CONTEXT) else { panic!() };
    assert!(reason.text().contains("serverAuth and clientAuth"), "{reason:?}");
    let body = br#"{"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14}"#;
    let words = "etcd cannot answer (code 14: etcdserver: no leader); check its nodes with `etcdctl \
                 endpoint status --endpoints=URLS`";
    assert_eq!(error(503, body, CONTEXT), Failure::Unavailable(Reason::silence(words)));
}

#[test]
fn other_servers_are_recognized() {
    // Only this endpoint is wrong.
    let failure = error(404, b"404 page not found\n", CONTEXT);
    assert!(matches!(&failure, Failure::Unavailable(it) if it.text().contains("JSON gateway")));
    let failure = error(502, b"<html>S3CR3T</html>", CONTEXT);
    let words = "status 502, and no answer of etcd's: check `etcd` of [cluster]";
    assert_eq!(failure, Failure::Unavailable(words.into()));
    for body in [&b""[..], b"{}", b"null", b"[]", b"<html>", br#"{"header":{}}"#, b"{\"a\":1}"] {
        assert!(matches!(page(body, CONTEXT), Err(Failure::Unavailable(_))));
        assert!(matches!(executed(body, CONTEXT), Err(Failure::Unavailable(_))));
        assert!(matches!(watch_line(body, CONTEXT), Err(Failure::Unavailable(_))));
        assert!(matches!(status(body), Err(Failure::Unavailable(_))));
        assert!(matches!(granted(body), Err(Failure::Unavailable(_))));
        assert!(matches!(token(body), Err(Failure::Unavailable(_))));
    }
}

#[test]
fn only_fixed_messages_of_etcd_are_quoted() {
    for words in ["S3CR3T", "etcdserver: S3CR3T\\u001b[2J", "invalid character 'S3CR3T'"] {
        let text = format!(r#"{{"error":"S3CR3T","message":"{words}","code":3}}"#);
        let text = refusal(error(400, text.as_bytes(), CONTEXT));
        assert_eq!(text, "etcd refuses the request (code 3)");
    }
}

#[test]
fn token_is_one_word() {
    let body = response(r#"{HEADER,"token":"kkNkaCVXodRDXdbv.47"}"#, 27);
    assert_eq!(token(&body).as_deref(), Ok("kkNkaCVXodRDXdbv.47"));
    let body = response(r#"{HEADER,"token":"a\r\nX: b"}"#, 27);
    token(&body).expect_err("a header of its own");
}

#[test]
fn version_is_read() {
    let body = br#"{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#;
    assert_eq!(version(body).as_deref(), Ok("3.5.30"));
    version(b"{}").expect_err("no version");
}

#[test]
fn status_needs_a_leader_and_room() {
    let text = r#"{HEADER,"version":"3.4.23","dbSize":"20480","leader":"10276657743932975437","raftIndex":"4"MORE}"#;
    let body = response(&text.replace("MORE", ""), 1);
    assert_eq!(status(&body), Ok(Status { version: "3.4.23".to_owned(), at: at(1) }));
    let body = response(&text.replace("10276657743932975437\",\"raft", "0\",\"raft"), 1);
    assert!(matches!(status(&body), Err(Failure::Unavailable(_))));
    let errors = r#","errors":["memberID:10276657743932975437 alarm:NOSPACE "]"#;
    let body = response(&text.replace("MORE", errors), 1);
    assert!(refusal(status(&body).unwrap_err()).contains("quota"));
}
