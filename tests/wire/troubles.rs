//! Servers and connections that misbehave.

use std::time::Duration;

use tokenkeep::outcome::{Connection, Outcome};
use tokenkeep::simulator::{Behaviour, Endpoint, Simulator};

use super::{AMPLE, SHORT, VALUE, alive_for_a_minute, client, misconfigured, unavailable, value};
use crate::doubles::{Plan, PlanFaults as _, RawServer, RetryAfter, Script, Trouble};

const LIFE: Duration = Duration::from_secs(3600);

async fn raw(script: Script) -> RawServer {
    RawServer::start(script).await.expect("a port")
}

async fn queried_raw(script: Script, timeout: Duration) -> Outcome {
    client(&raw(script).await.url()).query(&value(), timeout, Connection::Pooled).await
}

#[tokio::test]
async fn response_with_a_content_encoding_is_named_in_the_error() {
    for (status, encoding) in [(200, "gzip"), (200, "br"), (401, "gzip"), (503, "deflate")] {
        let mut response = format!(
            "HTTP/1.1 {status} Said\r\nContent-Encoding: {encoding}\r\nContent-Length: 4\r\n\r\n"
        )
        .into_bytes();
        response.extend_from_slice(&[0x1f, 0x8b, 0x08, 0x00]);
        let fault = unavailable(queried_raw(Script::Say(response), AMPLE).await);
        assert!(fault.error.contains(encoding), "{status}: {}", fault.error);
        assert!(fault.error.contains("identity"), "{status}: {}", fault.error);
    }
    for harmless in ["identity", "Identity", ""] {
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {harmless}\r\nContent-Length: 1\r\n\r\n{{"
        );
        let fault = unavailable(queried_raw(Script::Say(response.into_bytes()), AMPLE).await);
        assert!(!fault.error.contains("encoded"), "{harmless:?}: {}", fault.error);
    }
}

#[tokio::test]
async fn life_in_a_response_of_a_cache_is_not_believed() {
    let body = r#"{"Result":{"Remaining":3600000}}"#;
    for (age, is_believed) in [("0", true), ("60", false)] {
        let head =
            format!("HTTP/1.1 200 OK\r\nAge: {age}\r\nContent-Length: {}\r\n\r\n", body.len());
        let outcome = queried_raw(Script::Say((head + body).into_bytes()), AMPLE).await;
        assert_eq!(matches!(outcome, Outcome::Alive { .. }), is_believed, "{outcome:?}");
        assert!(is_believed || unavailable(outcome).error.contains("60 s old"));
    }
}

#[tokio::test]
async fn pause_of_a_429_is_read_from_each_header_that_servers_use() {
    let reset = tokenkeep::clock::wall_clock().as_second() + 300;
    for (header, seconds) in [
        ("Retry-After: 20".to_owned(), 20..=20),
        ("Retry-After-Ms: 20500".to_owned(), 20..=20),
        ("RateLimit-Reset: 30".to_owned(), 30..=30),
        ("RateLimit: \"burst\";r=0;t=40".to_owned(), 40..=40),
        ("X-RateLimit-Reset: 50".to_owned(), 50..=50),
        (format!("X-RateLimit-Reset: {reset}"), 200..=300),
        (format!("X-RateLimit-Reset: {reset}000"), 200..=300),
        ("X-RateLimit-Remaining: 0".to_owned(), 1..=1),
    ] {
        let response = format!(
            "HTTP/1.1 429 Slow\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let outcome = queried_raw(Script::Say(response.into_bytes()), AMPLE).await;
        let Outcome::Throttled { retry_after, .. } = outcome else {
            panic!("{header}: {outcome:?}")
        };
        assert!(seconds.contains(&retry_after.as_secs()), "{header}: {retry_after:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_misconfigured_and_the_other_host_is_never_asked() {
    let stranger = raw(Script::Say(alive_for_a_minute())).await;
    let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    let to = format!("{}/QuerySessionToken", stranger.url());
    simulator.plan_fault(Plan::always(Trouble::Redirect { to }));
    let fault =
        misconfigured(client(&simulator.url()).query(&value(), AMPLE, Connection::Pooled).await);
    assert_eq!(fault.status, Some(302));
    assert_eq!(stranger.connections(), 0);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let silent = queried_raw(Script::SayAndHold(Vec::new()), SHORT);
    let outcome = tokio::time::timeout(AMPLE, silent).await.expect("given up");
    assert_eq!(&*unavailable(outcome).error, "no response within 250 ms");
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up_at_the_deadline() {
    let beginning = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"Result\":".to_vec();
    let outcome = queried_raw(Script::SayAndHold(beginning), SHORT).await;
    assert_eq!(&*unavailable(outcome).error, "no response within 250 ms");
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    simulator.plan_fault(Plan::once(Trouble::EndlessBody));
    let fault =
        unavailable(client(&simulator.url()).query(&value(), AMPLE, Connection::Pooled).await);
    assert!(fault.error.contains("longer than 64 KiB"), "{}", fault.error);
}

#[tokio::test]
async fn an_endless_body_in_one_piece_is_cut() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec();
    let outcome = queried_raw(Script::SayForEver(head, vec![b' '; 4096]), AMPLE).await;
    let fault = unavailable(outcome);
    assert!(fault.error.contains("longer than 64 KiB"), "{}", fault.error);
}

#[tokio::test]
async fn endless_headers_are_cut() {
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let outcome = queried_raw(Script::SayForEver(head, b"X-More: 1\r\n".to_vec()), AMPLE).await;
    let fault = unavailable(outcome);
    assert!(!fault.error.contains("no answer within"), "{}", fault.error);
}

#[tokio::test]
async fn what_is_not_http_is_unavailable() {
    let outcome = queried_raw(Script::Say(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), AMPLE).await;
    assert_eq!(unavailable(outcome).status, None);
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_is_unavailable() {
    let outcome = queried_raw(Script::Say(Vec::new()), AMPLE).await;
    assert_eq!(unavailable(outcome).status, None);
}

#[tokio::test]
async fn a_reset_is_unavailable_before_and_after_the_headers() {
    for trouble in [Trouble::Reset, Trouble::ResetAfterHeaders] {
        let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
        simulator.plan_fault(Plan::always(trouble.clone()));
        let fault =
            unavailable(client(&simulator.url()).query(&value(), AMPLE, Connection::Pooled).await);
        assert!(fault.error.contains("no complete response"), "{trouble:?}: {}", fault.error);
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_has_taken_effect() {
    let behaviour = Behaviour { rotates: true, ..Behaviour::default() };
    let simulator = Simulator::start(behaviour).await.expect("a port");
    simulator.add_token(VALUE, LIFE);
    simulator.plan_fault(Plan::once(Trouble::AnswerLost));
    let renewed = client(&simulator.url()).renew(&value(), AMPLE, Connection::Pooled).await;
    unavailable(renewed.outcome);
    assert_eq!(simulator.remaining(VALUE), None);
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_and_is_reached_again_when_it_is_back() {
    let mut simulator = Simulator::start_lasting(Behaviour::default()).await.expect("a port");
    simulator.add_token(VALUE, LIFE);
    let client = client(&simulator.url());
    client.query(&value(), AMPLE, Connection::Pooled).await;
    simulator.go_down().await;
    unavailable(client.query(&value(), AMPLE, Connection::Pooled).await);
    simulator.come_back().await.expect("the same port");
    assert_eq!(
        client.query(&value(), AMPLE, Connection::Pooled).await,
        Outcome::Alive { remaining: LIFE }
    );
}

#[tokio::test]
async fn a_refused_connection_says_what_to_check() {
    let mut simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    simulator.go_down().await;
    let error =
        unavailable(client(&simulator.url()).query(&value(), AMPLE, Connection::Pooled).await)
            .error;
    assert!(error.contains("Connection refused"), "{error}");
    assert!(error.contains("[server.sarus]"), "{error}");
}

#[tokio::test]
async fn class_of_an_error_is_a_status_or_fixed_words() {
    let mut down = Simulator::start(Behaviour::default()).await.expect("a port");
    down.go_down().await;
    let refused = client(&down.url()).query(&value(), AMPLE, Connection::Pooled).await;
    assert_eq!(unavailable(refused).class(), "connection refused");
    let unknown = client("http://no-such-host.invalid");
    let unknown = unknown.query(&value(), AMPLE, Connection::Pooled).await;
    assert_eq!(unavailable(unknown).class(), "name cannot be resolved");
    for (script, class) in [
        (Script::Say(Vec::new()), "connection lost"),
        (Script::SayAndHold(Vec::new()), "no response in time"),
        (Script::Say(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec()), "status 503"),
        (
            Script::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{".to_vec()),
            "unexpected response",
        ),
    ] {
        assert_eq!(unavailable(queried_raw(script, SHORT).await).class(), class);
    }
}

#[tokio::test]
async fn one_connection_serves_one_call_after_the_other() {
    let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    simulator.add_token(VALUE, LIFE);
    let client = client(&simulator.url());
    for _ in 0..5 {
        client.query(&value(), AMPLE, Connection::Pooled).await;
    }
    assert_eq!(simulator.connections(), 1);
}

#[tokio::test]
async fn a_dropped_simulator_is_gone() {
    let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    let address = simulator.address();
    drop(simulator);
    let bound = async {
        while tokio::net::TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(AMPLE, bound).await.expect("the port is free again");
}

#[tokio::test]
async fn no_fault_holds_the_value_that_was_sent() {
    let echo = format!("no session {VALUE} here");
    let troubles = [
        Trouble::Error { status: 401, detail: echo.clone() },
        Trouble::Error { status: 410, detail: format!("gone: {VALUE}") },
        Trouble::Error {
            status: 400,
            detail: "t0ken%2FValue%2Bwith%3Dodd%26characters%2520".into(),
        },
        Trouble::Error { status: 299, detail: echo.clone() },
        Trouble::Body { status: 200, body: echo.clone().into_bytes() },
        Trouble::Body { status: 404, body: echo.into_bytes() },
        Trouble::Quiet { status: 429, retry_after: RetryAfter::Seconds(1) },
        Trouble::Html { status: 401 },
        Trouble::Redirect { to: format!("http://127.0.0.1:9/?SessionToken={VALUE}") },
        Trouble::EndlessBody,
        Trouble::Silence,
        Trouble::Reset,
        Trouble::ResetAfterHeaders,
    ];
    for trouble in troubles {
        let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
        simulator.plan_fault(Plan::always(trouble.clone()));
        let client = client(&simulator.url());
        let told = [
            format!("{:?}", client.query(&value(), SHORT, Connection::Pooled).await),
            format!("{:?}", client.renew(&value(), SHORT, Connection::Pooled).await),
            format!("{:?}", client.login(&VALUE.into(), 60, SHORT).await),
            format!("{:?}", client.revoke(&value(), SHORT).await),
        ];
        for told in told {
            assert!(!told.contains("t0ken"), "{trouble:?}: {told}");
            assert!(!told.contains("SessionToken="), "{trouble:?}: {told}");
        }
    }
}

#[tokio::test]
async fn no_fault_of_a_dead_address_holds_the_value() {
    let mut simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    simulator.go_down().await;
    for url in [simulator.url(), "http://no-such-host.invalid/".to_owned()] {
        let told = format!("{:?}", client(&url).query(&value(), AMPLE, Connection::Pooled).await);
        assert!(!told.contains("t0ken") && !told.contains("SessionToken="), "{told}");
    }
}

#[test]
fn plan_for_one_call_applies_to_one_call() {
    let mut plan = Plan::once(Trouble::Reset);
    assert!(plan.take(Some(Endpoint::Query), None));
    assert!(!plan.take(Some(Endpoint::Query), None));
}

#[test]
fn plan_without_an_end_applies_to_every_call() {
    let mut plan = Plan::always(Trouble::Silence);
    assert!((0..3).all(|_| plan.take(None, None)));
}

#[test]
fn plan_leaves_other_tokens_and_endpoints_alone() {
    let mut plan = Plan::once(Trouble::Reset).for_token("a").at(Endpoint::Renew);
    assert!(!plan.take(Some(Endpoint::Renew), Some("b")));
    assert!(!plan.take(Some(Endpoint::Query), Some("a")));
    assert!(plan.take(Some(Endpoint::Renew), Some("a")));
}
