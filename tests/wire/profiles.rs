//! Requests of profiles, as a server sees them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep::api::{Client, LoginErrorKind, Renewed};
use tokenkeep::outcome::{CallError, Connection, Outcome};
use tokenkeep::profile::{builtin, parse};
use tokenkeep::secret::TokenValue;
use tokenkeep::settings::{Parameter, Server};

use super::server::{Protocol, Reaction, Server as Scripted};
use super::{AMPLE, SHORT, VALUE, misconfigured, server, unavailable, value};
use crate::doubles::{RawServer, Script};

const REFRESH: &str = "r3fresh/Token+with=odd&characters%20";
const PASSWORD: &str = "pässword with \"quotes\" & more";

/// Sends each kind of value in each part of a request.
const EVERYTHING: &str = r#"
unit = "s"
[query]
request = "GET a/{token}/b"
query = { t = "{token}", p = "{password}" }
headers = { Authorization = "Bearer {token}", X-Name = "{name}" }
life = "ttl"
[renew]
request = "PUT renew"
form = { token = "{token}", "a b" = "{password}" }
life = "ttl"
[login]
request = "POST login"
basic = ["{name}", "{password}"]
json = { p = "{password}", list = ["{name}", 1, true], minutes = "{minutes}", "k\"" = {} }
headers = { Content-Type = "application/json-rpc" }
value = "cookie session"
[revoke]
request = "DELETE sessions/{token}"
"#;

fn profiled(url: &str, toml: &str, with: &[(&str, &str)]) -> Server {
    let profile = match builtin(toml) {
        Some(profile) => profile,
        None => Arc::new(parse("p", &toml.parse().expect("TOML")).expect("a profile")),
    };
    let text = |(name, text): &(&str, &str)| ((*name).to_owned(), Parameter::Text((*text).into()));
    Server {
        profile: Some(profile),
        with: with.iter().map(text).collect(),
        ..server(&format!("{url}/base/"))
    }
}

/// A server that responds with this, and a client for it.
struct Stage {
    server: RawServer,
    client: Client,
}

impl Stage {
    async fn new(toml: &str, with: &[(&str, &str)], script: Script) -> Self {
        let server = RawServer::start(script).await.expect("a port");
        let client = Client::new(&profiled(&server.url(), toml, with)).expect("a client");
        Self { server, client }
    }

    async fn saying(toml: &str, with: &[(&str, &str)], response: &str) -> Self {
        Self::new(toml, with, Script::Say(said(response).into())).await
    }

    async fn query(&self) -> Outcome {
        self.client.query(&value(), AMPLE, Connection::Pooled).await
    }

    async fn rotate(&self, timeout: Duration) -> Renewed {
        self.client.rotate(&refresh(), Some(&value()), timeout).await
    }

    /// The only request: its first line, its headers in lower case, its body.
    fn request(&self) -> (String, BTreeMap<String, String>, String) {
        let requests = self.server.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        let (head, body) = requests[0].split_once("\r\n\r\n").expect("a head");
        let (line, headers) = head.split_once("\r\n").expect("a line");
        let headers = headers.lines().filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        (line.to_owned(), headers.collect(), body.to_owned())
    }
}

/// A response from its status, headers and body, which are separated by `|`.
fn said(response: &str) -> String {
    let parts: Vec<_> = response.splitn(3, '|').collect();
    let [status, headers, body] = parts[..] else { panic!("three parts") };
    let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Said\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n\
         {body}"
    )
}

fn refresh() -> TokenValue {
    TokenValue::parse(REFRESH).expect("a value")
}

#[tokio::test]
async fn values_in_path_and_query_are_percent_encoded_and_in_headers_are_not() {
    let with = [("name", "a b:c"), ("password", PASSWORD)];
    let stage = Stage::saying(EVERYTHING, &with, "200||{\"ttl\":7}").await;
    assert_eq!(stage.query().await, Outcome::Alive { remaining: Duration::from_secs(7) });
    let (line, headers, body) = stage.request();
    assert_eq!(
        line,
        "GET /base/a/t0ken%2FValue%2Bwith%3Dodd%26characters%2520/b\
         ?p=p%C3%A4ssword+with+%22quotes%22+%26+more\
         &t=t0ken%2FValue%2Bwith%3Dodd%26characters%2520 HTTP/1.1"
    );
    assert_eq!(headers["authorization"], format!("Bearer {VALUE}"));
    assert_eq!(headers["x-name"], "a b:c");
    assert_eq!(
        (&*headers["accept"], &*headers["accept-encoding"]),
        ("application/json", "identity")
    );
    assert_eq!(body, "");
}

#[tokio::test]
async fn form_is_urlencoded() {
    let with = [("name", "n"), ("password", PASSWORD)];
    let stage = Stage::saying(EVERYTHING, &with, "200||{\"ttl\":7}").await;
    stage.client.renew(&value(), AMPLE, Connection::Pooled).await;
    let (line, headers, body) = stage.request();
    assert_eq!(line, "PUT /base/renew HTTP/1.1");
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(
        body,
        "a+b=p%C3%A4ssword+with+%22quotes%22+%26+more\
         &token=t0ken%2FValue%2Bwith%3Dodd%26characters%2520"
    );
}

#[tokio::test]
async fn json_is_escaped_and_basic_is_base64_and_the_own_content_type_is_kept() {
    let with = [("name", "keeper"), ("password", PASSWORD)];
    let response = "200|Set-Cookie: other=1; Path=/\r\nSet-Cookie: session=n3w-value; HttpOnly|{}";
    let stage = Stage::saying(EVERYTHING, &with, response).await;
    let session = stage.client.login_with(&BTreeMap::new(), 90, AMPLE).await.expect("a session");
    assert_eq!(session.value.expose(), "n3w-value");
    let (line, headers, body) = stage.request();
    assert_eq!(line, "POST /base/login HTTP/1.1");
    let pair = "a2VlcGVyOnDDpHNzd29yZCB3aXRoICJxdW90ZXMiICYgbW9yZQ==";
    assert_eq!(headers["authorization"], format!("Basic {pair}"));
    assert_eq!(headers["content-type"], "application/json-rpc");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let expected = serde_json::json!({
        "p": PASSWORD, "list": ["keeper", 1, true], "minutes": "90", "k\"": {},
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn parameters_of_a_call_override_those_of_the_server() {
    let with = [("role_id", "server-role"), ("secret_id", "server-secret")];
    let response = "200||{\"auth\":{\"client_token\":\"n3w\",\"lease_duration\":8}}";
    let stage = Stage::saying("vault", &with, response).await;
    let own = BTreeMap::from([("secret_id".to_owned(), "own-secret".into())]);
    stage.client.login_with(&own, 30, AMPLE).await.expect("a session");
    let (line, headers, body) = stage.request();
    assert_eq!(line, "POST /base/v1/auth/approle/login HTTP/1.1");
    assert_eq!(headers.get("x-vault-token"), None);
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body, serde_json::json!({ "role_id": "server-role", "secret_id": "own-secret" }));
}

#[tokio::test]
async fn post_without_a_body_has_a_length_of_zero() {
    let response = "200||{\"auth\":{\"lease_duration\":8}}";
    let stage = Stage::saying("vault", &[], response).await;
    let renewed = stage.client.renew(&value(), AMPLE, Connection::Pooled).await;
    assert_eq!(renewed.outcome, Outcome::Alive { remaining: Duration::from_secs(8) });
    let (line, headers, body) = stage.request();
    assert_eq!(line, "POST /base/v1/auth/token/renew-self HTTP/1.1");
    assert_eq!(headers["x-vault-token"], VALUE);
    assert_eq!((&*headers["content-length"], &*body), ("0", ""));
}

#[tokio::test]
async fn rotation_sends_the_refresh_token_and_returns_the_new_ones() {
    let with = [("client_id", "keeper"), ("client_secret", "keeper-secret")];
    let response =
        "200||{\"access_token\":\"n3w\",\"expires_in\":8,\"refresh_token\":\"n3w-refresh\"}";
    let stage = Stage::saying("oauth2", &with, response).await;
    let renewed = stage.client.rotate(&refresh(), None, AMPLE).await;
    assert_eq!(renewed.outcome, Outcome::Alive { remaining: Duration::from_secs(8) });
    assert_eq!(renewed.new_value.expect("a value").expose(), "n3w");
    assert_eq!(renewed.new_refresh.expect("a refresh token").expose(), "n3w-refresh");
    let (line, headers, body) = stage.request();
    assert_eq!(line, "POST /base/token HTTP/1.1");
    assert_eq!(headers["authorization"], "Basic a2VlcGVyOmtlZXBlci1zZWNyZXQ=");
    let encoded = "r3fresh%2FToken%2Bwith%3Dodd%26characters%2520";
    assert_eq!(body, format!("grant_type=refresh_token&refresh_token={encoded}"));
}

#[tokio::test]
async fn lost_response_of_a_rotation_is_reported_and_the_request_is_not_repeated() {
    let with = [("client_id", "keeper"), ("client_secret", "keeper-secret")];
    for (script, timeout) in [
        (Script::Say(Vec::new()), AMPLE),
        (Script::SayAndReset(Vec::new()), AMPLE),
        (Script::SayAndReset(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec()), AMPLE),
        (Script::SayAndHold(Vec::new()), SHORT),
        (Script::Say(said("502||").into()), AMPLE),
        (Script::Say(said("503||upstream connect error").into()), AMPLE),
    ] {
        let stage = Stage::new("oauth2", &with, script.clone()).await;
        let error = unavailable(stage.rotate(timeout).await.outcome);
        assert!(error.may_have_acted, "{script:?}: {error:?}");
        assert_eq!(stage.server.requests().len(), 1, "{script:?}");
    }
}

#[tokio::test]
async fn rotation_that_was_not_processed_may_be_repeated() {
    let with = [("client_id", "keeper"), ("client_secret", "keeper-secret")];
    let overloaded = "503||{\"error\":\"temporarily_unavailable\"}";
    let stage = Stage::saying("oauth2", &with, overloaded).await;
    assert!(!unavailable(stage.rotate(AMPLE).await.outcome).may_have_acted);
    let gone = profiled("http://127.0.0.1:1", "oauth2", &with);
    let client = Client::new(&gone).expect("a client");
    let error = unavailable(client.rotate(&refresh(), None, AMPLE).await.outcome);
    assert_eq!(error.no_response, Some("connection refused"));
    assert!(!error.may_have_acted);
}

#[tokio::test]
async fn post_on_a_reused_connection_that_ends_is_resent_and_a_rotation_never_reuses_one() {
    const RESPONSE: &str = r#"{"exp":4102444800,"access_token":"n3w","expires_in":8}"#;
    let with = [("client_id", "keeper"), ("client_secret", "keeper-secret")];
    for protocol in Protocol::ALL {
        let scripted = Scripted::start(protocol, |visit| match (visit.connection, visit.request) {
            (1, 2) => Reaction::Reset,
            _ => Reaction::Say(200, RESPONSE),
        });
        let scripted = scripted.await;
        let settings = profiled(scripted.url(), "oauth2", &with);
        let ca_file = scripted.ca_file().map(ToOwned::to_owned);
        let client = Client::new(&Server { ca_file, ..settings }).expect("a client");
        for _ in 0..2 {
            let queried = client.query(&value(), AMPLE, Connection::Pooled).await;
            assert!(matches!(queried, Outcome::Alive { .. }), "{protocol:?}: {queried:?}");
        }
        assert_eq!(scripted.connections_used(), [1, 1, 2], "{protocol:?}");
        for _ in 0..2 {
            let renewed = client.rotate(&refresh(), None, AMPLE).await;
            assert!(matches!(renewed.outcome, Outcome::Alive { .. }), "{protocol:?}: {renewed:?}");
        }
        assert_eq!(scripted.connections_used(), [1, 1, 2, 3, 4], "{protocol:?}");
    }
}

#[tokio::test]
async fn request_that_cannot_be_built_is_not_sent_and_says_why() {
    let not_sent = |error: &CallError, stage: &Stage, expected: &[&str]| {
        for part in expected {
            assert!(error.error.contains(part), "{part}: {}", error.error);
        }
        assert!(error.local && error.error.contains("[server.sarus]"), "{error:?}");
        assert!(stage.server.requests().is_empty());
    };
    let query = async |name: &str| {
        let with = [("name", name), ("password", "x")];
        let stage = Stage::saying(EVERYTHING, &with, "200||{\"ttl\":7}").await;
        let error = misconfigured(stage.query().await);
        (error, stage)
    };
    for name in ["a\r\nX-Injected: 1", "a\0", "pässword"] {
        let (error, stage) = query(name).await;
        not_sent(&error, &stage, &["header `x-name`", "`query` of profile p"]);
        assert!(!format!("{error:?}").contains("Injected"), "{error:?}");
    }
    let stage = Stage::saying(EVERYTHING, &[("name", "n")], "200||{\"ttl\":7}").await;
    let error = misconfigured(stage.query().await);
    not_sent(&error, &stage, &["`{password}`", "`with` of [server.sarus]"]);
    let with = [("name", "a:b"), ("password", "x")];
    let stage = Stage::saying(EVERYTHING, &with, "200||{}").await;
    let error = stage.client.login_with(&BTreeMap::new(), 30, AMPLE).await.expect_err("not sent");
    assert_eq!(error.kind, LoginErrorKind::Misconfigured);
    not_sent(&error.fault, &stage, &["colon", "`basic`"]);
    let with = [("client_id", "keeper"), ("client_secret", "x")];
    let stage = Stage::saying("oauth2", &with, "200||{}").await;
    let renewed = stage.client.renew(&value(), AMPLE, Connection::Pooled).await;
    not_sent(&misconfigured(renewed.outcome), &stage, &["`{refresh}`", "`refresh` of it"]);
    let stage = Stage::saying("etcd-lease", &[], "200||{}").await;
    let error = stage.client.login_with(&BTreeMap::new(), 30, AMPLE).await.expect_err("not sent");
    not_sent(&error.fault, &stage, &["`{ttl}`"]);
}

#[tokio::test]
async fn value_cannot_leave_the_path() {
    for segment in [".", ".."] {
        let stage = Stage::saying(EVERYTHING, &[], "200||{}").await;
        let value = TokenValue::parse(segment).expect("a value");
        let error = stage.client.revoke(&value, AMPLE).await.expect_err("not sent");
        assert!(error.error.contains("segment"), "{}", error.error);
        assert!(stage.server.requests().is_empty());
    }
    for (value, path) in [
        ("../../x", "..%2F..%2Fx"),
        ("%2e%2e", "%252e%252e"),
        ("a?b#c", "a%3Fb%23c"),
        ("\\..\\", "%5C..%5C"),
        ("...", "..."),
    ] {
        let stage = Stage::saying(EVERYTHING, &[], "200||{}").await;
        let value = TokenValue::parse(value).expect("a value");
        stage.client.revoke(&value, AMPLE).await.expect("revoked");
        assert_eq!(stage.request().0, format!("DELETE /base/sessions/{path} HTTP/1.1"));
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let stage = Stage::saying("vault", &[], "307|Location: /v1/auth/token/lookup-self|").await;
    let error = misconfigured(stage.query().await);
    assert!(error.error.contains("(307)"), "{}", error.error);
    assert_eq!(stage.server.requests().len(), 1);
}

#[tokio::test]
async fn no_error_shows_a_secret_that_was_sent() {
    const TOKEN: &str = "t0ken";
    const REFRESH_TOKEN: &str = "r3fresh";
    const CLIENT: [&str; 2] = ["k33per-s3cret", "azMzcGVyLXMzY3JldA"];
    let with = [("client_id", "keeper"), ("client_secret", "k33per-s3cret")];
    let echoes = [
        format!("no {VALUE} here"),
        format!("no {REFRESH} here"),
        "no k33per-s3cret here".to_owned(),
        "Basic a2VlcGVyOmszM3Blci1zM2NyZXQ= is wrong".to_owned(),
        "refresh_token=r3fresh%2FToken%2Bwith%3Dodd%26characters%2520".to_owned(),
    ];
    let mut responses: Vec<Vec<u8>> = Vec::new();
    for echo in echoes {
        for status in [200, 301, 400, 401, 403, 500] {
            for body in [
                serde_json::json!({ "error": "x", "error_description": echo }),
                serde_json::json!({ "error": "invalid_client", "error_description": [echo] }),
                serde_json::json!({ "error": "invalid_grant", "error_description": echo }),
                serde_json::json!({ "exp": echo, "expires_in": echo }),
                serde_json::json!({ "access_token": format!("{echo} x"), "expires_in": 8 }),
                echo.as_str().into(),
            ] {
                let header = format!("Content-Encoding: {echo}\r\nLocation: /{echo}");
                responses.push(said(&format!("{status}|{header}|{body}")).into());
            }
        }
        responses.push(format!("{echo}\r\n\r\n").into());
        responses.push(format!("HTTP/1.1 200 OK\r\nContent-Length: {echo}\r\n\r\n").into());
    }
    responses.push(Vec::new());
    for response in responses {
        let script = Script::Say(response.clone());
        let stage = Stage::new("oauth2", &with, script).await;
        let (client, none) = (&stage.client, BTreeMap::new());
        let shown = [
            (format!("{:?}", stage.query().await), vec![TOKEN]),
            (format!("{:?}", stage.rotate(AMPLE).await), vec![TOKEN, REFRESH_TOKEN]),
            (format!("{:?}", client.login_with(&none, 30, AMPLE).await), vec![]),
            (format!("{:?}", client.revoke(&value(), AMPLE).await), vec![TOKEN]),
        ];
        for (shown, sent) in shown {
            let found = sent.iter().chain(&CLIENT).find(|secret| shown.contains(*secret));
            let response = String::from_utf8_lossy(&response);
            assert_eq!(found, None, "{shown} for {response}");
        }
    }
}

#[tokio::test]
async fn changed_parameter_file_makes_a_new_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    let file = || Parameter::File(path.clone());
    let mut server = profiled("http://127.0.0.1:1", "oauth2", &[("client_id", "keeper")]);
    server.with.insert("client_secret".to_owned(), file());
    let error = Client::new(&server).expect_err("no file");
    assert!(error.may_pass());
    let error = error.to_string();
    assert!(error.contains("`with.client_secret` of [server.sarus]"), "{error}");
    std::fs::write(&path, "first\n").expect("written");
    let client = Client::new(&server).expect("a client");
    assert!(client.reread(&server).expect("read").is_none());
    std::fs::write(&path, "second\n").expect("written");
    assert!(client.reread(&server).expect("read").is_some());
}
