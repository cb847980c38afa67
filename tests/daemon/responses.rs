//! Answers that are not as the reference has them: what is read all the same, and what must
//! never be taken for a verdict on a token.

use tokenkeep::simulator::Simulator;

use crate::doubles::{Plan, PlanFaults as _, RawServer, Script, Trouble};
use crate::support::{Daemon, Line, Stage, seconds, secret, server_table, simulator, token_table};

/// Tokens named after what happens to them, each on a server of its own.
struct Fleet {
    servers: Vec<(String, Simulator)>,
    stage: Stage,
}

impl Fleet {
    async fn new(names: impl Iterator<Item = String>, life: u64) -> Self {
        let mut configuration = String::new();
        let mut servers = Vec::new();
        for name in names {
            let server = simulator().await;
            configuration += &server_table(&name, &server, "");
            configuration += &token_table(&name, &name, "");
            servers.push((name, server));
        }
        let stage = Stage::new(&configuration);
        for (name, server) in &servers {
            server.add_token(&stage.token(name), seconds(life));
        }
        Self { servers, stage }
    }
}

fn body(status: u16, body: impl Into<Vec<u8>>) -> Trouble {
    Trouble::Body { status, body: body.into() }
}

fn named<T>(cases: Vec<T>) -> Vec<(String, T)> {
    cases.into_iter().enumerate().map(|(i, case)| (format!("case{i}"), case)).collect()
}

/// What a token goes through whose second check goes wrong in one of these ways, in so many
/// requests.
async fn survives(times: u32, troubles: Vec<Trouble>) {
    let cases = named(troubles);
    let fleet = Fleet::new(cases.iter().map(|(name, _)| name.clone()), 3).await;
    let daemon = fleet.stage.start();
    daemon.nth(cases.len(), "token_checked", "").await;
    for ((_, server), (name, trouble)) in fleet.servers.iter().zip(&cases) {
        let plan = Plan::once(trouble.clone()).for_token(&secret(name));
        server.plan_fault(Plan { times: Some(times), ..plan });
    }
    for (name, trouble) in &cases {
        let failed = daemon.event("check_failed", name).await;
        assert!(!failed.text("error").is_empty(), "{trouble:?}: {failed:?}");
        assert!(failed.number("retry_in_ms") > 0 && failed.number("attempt") == 1, "{failed:?}");
        daemon.event("token_recovered", name).await;
    }
    let ended = daemon.stop().await;
    for (name, trouble) in &cases {
        let story = ended.story(name);
        let verdict = |event: &&str| matches!(*event, "token_expired" | "token_rejected");
        assert!(!story.iter().any(verdict), "{trouble:?}: {story:?}");
    }
}

#[tokio::test]
async fn malformed_responses_are_inconclusive() {
    let texts = [
        "",
        "{",
        "null",
        "[]",
        "true",
        "{}",
        r#"{"Result":null}"#,
        r#"{"Result":{}}"#,
        r#"{"Result":{"Remaining":null}}"#,
        r#"{"Result":{"Remaining":"soon"}}"#,
        r#"{"Result":{"Remaining":-1}}"#,
        r#"{"Result":{"Remaining":1e400}}"#,
        r#"{"Result":{"Remaining":{"ms":1}}}"#,
        r#"{"Result":{"Remaining":60000"#,
        r#"{"Errors":"401"}"#,
        r#"{"Errors":{"Detail":"nobody knows"}}"#,
        "<html>401 410</html>",
        "\u{0}\u{1}\u{2}",
    ];
    survives(1, texts.into_iter().map(|text| body(200, text)).collect()).await;
}

#[tokio::test]
async fn errors_outside_the_envelope_are_inconclusive() {
    let elsewhere =
        RawServer::start(Script::Say(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await.expect("a port");
    let mut troubles: Vec<_> =
        [401, 410, 403, 404, 500, 502, 503].map(|status| Trouble::Html { status }).into();
    troubles.extend([401, 410].map(|status| body(status, "")));
    troubles.extend([401, 410].map(|status| body(status, "{}")));
    troubles.extend([401, 410].map(|status| body(status, r#"{"error":{"status":410}}"#)));
    troubles.push(body(410, r#"{"Errors":{"Status":500,"Detail":"maintenance"}}"#));
    troubles.push(Trouble::Redirect { to: format!("{}/QuerySessionToken", elsewhere.url()) });
    troubles.push(Trouble::Error { status: 500, detail: "maintenance".to_owned() });
    survives(1, troubles).await;
    assert_eq!(elsewhere.connections(), 0, "a redirect is not followed");
}

#[tokio::test]
async fn broken_connections_are_inconclusive() {
    survives(1, vec![Trouble::EndlessBody, Trouble::Silence, Trouble::ResetAfterHeaders]).await;
}

#[tokio::test]
async fn second_reset_after_a_resend_is_inconclusive() {
    survives(2, vec![Trouble::Reset, Trouble::AnswerLost]).await;
}

#[tokio::test]
async fn remaining_life_is_read_in_every_known_shape() {
    let texts = [
        r#"{"Result":{"Remaining":60000}}"#,
        r#"{"Result":{"Remaining":60000.0}}"#,
        r#"{"Result":{"Remaining":"60000"}}"#,
        r#"{"result":{"remaining":60000}}"#,
        "\u{feff}{\"Result\":{\"Remaining\":60000}}",
        r#"{"Result":{"Remaining":60000,"New":[1,{"a":2}]},"Also":null}"#,
        r#"{"Result":{"Remaining":60000},"Errors":null}"#,
        r#"{"Result":{"Remaining":60000},"Errors":{}}"#,
        r#"{"Result":{"Remaining":60000},"Errors":[]}"#,
    ];
    for (name, line) in first_events(&texts, 200, "token_checked").await {
        assert_eq!(line.number("remaining_ms"), 60_000, "{name}");
    }
}

#[tokio::test]
async fn error_is_read_in_every_known_shape() {
    let texts = [
        r#"{"Errors":{"Status":410,"Detail":"over"}}"#,
        r#"{"Errors":[{"Status":410,"Detail":"over"}]}"#,
        r#"{"errors":{"status":410,"detail":"over"}}"#,
        "\u{feff}{\"Errors\":{\"Status\":410,\"Detail\":\"over\"}}",
        r#"{"Result":null,"Errors":{"Status":410,"Detail":"over"}}"#,
    ];
    for status in [200, 500] {
        for (name, line) in first_events(&texts, status, "token_expired").await {
            assert_eq!((line.number("status"), line.text("detail")), (410, "over"), "{name}");
        }
    }
}

#[tokio::test]
async fn expiry_is_concluded_whatever_bytes_its_detail_contains() {
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let details: [&[u8]; 8] = [
        b"\"caf\xe9 closed\"",
        b"\"\xff\xfe\xe2\x82\"",
        b"\"lone \\ud83d surrogate\"",
        b"\"\\udc00\"",
        b"\"raw \x01 control \x00 and\n\tmore\"",
        b"\"C:\\path \\x41\"",
        b"1e999",
        deep.as_bytes(),
    ];
    let cases: Vec<(String, (u16, u64))> =
        named((0..details.len() as u64).flat_map(|case| [(200, case), (410, case)]).collect());
    let fleet = Fleet::new(cases.iter().map(|(name, _)| name.clone()), 60).await;
    for ((_, server), (_, (http, case))) in fleet.servers.iter().zip(&cases) {
        let detail = details[usize::try_from(*case).expect("few")];
        let text = [b"{\"Errors\":{\"Status\":410,\"Detail\":", detail, b"}}"].concat();
        server.plan_fault(Plan::once(body(*http, text)));
    }
    let daemon = fleet.stage.start();
    for (name, case) in cases {
        let line = daemon.event("token_expired", &name).await;
        assert_eq!(line.number("status"), 410, "{case:?}");
    }
    let ended = daemon.stop().await;
    assert_eq!(ended.count("check_failed", ""), 0);
}

/// The first lines with `event` of tokens whose first answers are these.
async fn first_events(texts: &[&str], status: u16, event: &str) -> Vec<(String, Line)> {
    let cases = named(texts.to_vec());
    let fleet = Fleet::new(cases.iter().map(|(name, _)| name.clone()), 60).await;
    for ((_, server), (_, text)) in fleet.servers.iter().zip(&cases) {
        server.plan_fault(Plan::once(body(status, *text)));
    }
    let daemon = fleet.stage.start();
    let mut lines = Vec::new();
    for (name, text) in cases {
        lines.push((text.to_owned(), daemon.event(event, &name).await));
    }
    daemon.stop().await;
    lines
}

#[tokio::test]
async fn proxies_in_the_environment_are_never_used() {
    let proxy =
        RawServer::start(Script::Say(b"HTTP/1.1 502 No\r\n\r\n".to_vec())).await.expect("a port");
    let fleet = Fleet::new(std::iter::once("quotes".to_owned()), 60).await;
    let url = proxy.url();
    let names =
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let daemon: Daemon = fleet.stage.start_with(&names.map(|name| (name, url.as_str())));
    daemon.event("token_checked", "quotes").await;
    daemon.stop().await;
    assert_eq!(proxy.connections(), 0);
}
