//! `probe`: what it says of one token at one server, and with which status it ends.

use std::time::Duration;

use tokenkeep::simulator::{Behaviour, Endpoint, RenewsBy, Reports, Simulator};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{
    ISSUED, MARK, PATIENCE, Stage, calls, millis, mortal_simulator, seconds, served, simulator,
    simulator_with,
};

const ALIVE: i32 = 0;
const DEAD: i32 = 1;
const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;
const CONFIGURATION: i32 = 78;

/// A stage with a token that lives for `life` on `server`.
fn staged(server: &Simulator, life: Duration) -> Stage {
    let stage = Stage::new("");
    server.add_token(&stage.token("quotes"), life);
    stage
}

/// The status that a probe ends with, and all that it says: no secret, in any case.
async fn probe(stage: &Stage, url: &str, options: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.args(["probe", "--url", url, "--token-file"]).arg(stage.path("quotes.token"));
    command.args(options).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("UTF-8");
    assert!(!said.contains(MARK) && !said.contains(ISSUED), "a secret in:\n{said}");
    (output.status.code().expect("a status"), said)
}

#[tokio::test]
async fn probe_of_an_alive_token_sends_one_query_and_prints_its_remaining_life() {
    let server = simulator().await;
    let stage = staged(&server, seconds(1_800));
    let (status, said) = probe(&stage, &server.url(), &[]).await;
    assert_eq!(status, ALIVE, "{said}");
    assert!(said.starts_with("alive: 30 min left, until 20"), "{said}");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(calls(&server, Endpoint::Query), 1);
}

#[tokio::test]
async fn probe_of_an_expired_token_exits_1() {
    let server = simulator().await;
    let stage = staged(&server, seconds(60));
    server.expire(&stage.token("quotes"));
    let (status, said) = probe(&stage, &server.url(), &[]).await;
    assert_eq!(status, DEAD, "{said}");
    assert!(said.starts_with("expired: the server reports that the token has expired"), "{said}");
}

#[tokio::test]
async fn probe_reports_a_rejection_only_after_a_second_query() {
    let server = simulator().await;
    let stage = staged(&server, seconds(60));
    server.forget(&stage.token("quotes"));
    let (status, said) = probe(&stage, &server.url(), &[]).await;
    assert_eq!(status, DEAD, "{said}");
    assert!(said.starts_with("rejected: the server does not know the token"), "{said}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn probe_of_an_unavailable_server_is_inconclusive() {
    let mut server = simulator_with(Behaviour { maintenance: true, ..Behaviour::default() }).await;
    let stage = staged(&server, seconds(60));
    let (status, said) = probe(&stage, &server.url(), &[]).await;
    assert_eq!(status, UNAVAILABLE, "{said}");
    assert!(said.contains("maintenance"), "{said}");
    server.go_down().await;
    let (status, said) = probe(&stage, &server.url(), &["--prove-renewal"]).await;
    assert_eq!(status, UNAVAILABLE, "{said}");
    assert!(said.contains("connection failed"), "{said}");
}

#[tokio::test]
async fn probe_has_a_separate_exit_status_for_a_misconfiguration() {
    let server = simulator().await;
    let stage = staged(&server, seconds(60));
    let elsewhere = format!("{}/elsewhere", server.url());
    for (url, options, expected, words) in [
        ("api.example.net", &[][..], USAGE, "--url is not a URL"),
        ("http://api.example.net", &[], USAGE, "--allow-http"),
        ("https://h/?SessionToken=S3CR3T", &[], USAGE, "--url contains a query"),
        (&server.url(), &["--timeout", "5"], USAGE, "write --timeout \"5s\""),
        (&server.url(), &["--renewal", "renw"], USAGE, "possible values: auto, query, renew"),
        (&server.url(), &["--ca-file", "/none"], CONFIGURATION, "/none"),
        (&elsewhere, &[], CONFIGURATION, "check `url` of the server"),
    ] {
        let (status, said) = probe(&stage, url, options).await;
        assert_eq!(status, expected, "{url} {options:?}: {said}");
        assert!(said.contains(words), "{url} {options:?} should say {words}: {said}");
    }
    stage.write("quotes.token", "");
    let (status, said) = probe(&stage, &server.url(), &[]).await;
    assert_eq!(status, CONFIGURATION, "{said}");
    assert!(said.contains("quotes.token"), "{said}");
}

#[tokio::test]
async fn queries_that_renew_are_proven_without_a_renewal() {
    let server = simulator().await;
    let stage = staged(&server, seconds(3));
    let (status, said) = probe(&stage, &server.url(), &["--prove-renewal"]).await;
    assert_eq!(status, ALIVE, "{said}");
    assert!(said.contains("\nqueries renew tokens on this server"), "{said}");
    assert!(said.contains("query: alive, 3 s left\nnext query in "), "{said}");
    assert_eq!((calls(&server, Endpoint::Query), calls(&server, Endpoint::Renew)), (2, 0));
}

/// What a probe finds out of a server that behaves so, with a token that lives for `life`.
async fn finding(behaviour: Behaviour, life: Duration) -> &'static str {
    let server = simulator_with(behaviour.clone()).await;
    let stage = staged(&server, life);
    let (status, said) = probe(&stage, &server.url(), &["--prove-renewal"]).await;
    assert_eq!(status, ALIVE, "{behaviour:?}, {life:?}:\n{said}");
    let verdict = said.lines().last().unwrap_or_default();
    let verdicts = [
        "queries renew tokens on this server",
        "queries do not renew tokens on this server, RenewSessionToken does",
        "neither queries nor RenewSessionToken renew tokens on this server",
    ];
    let found = verdicts.into_iter().find(|begins| verdict.starts_with(begins));
    found.unwrap_or_else(|| panic!("{behaviour:?}, {life:?}:\n{said}"))
}

#[tokio::test]
async fn probe_finds_the_renewing_request_however_the_server_reports_lives() {
    let mut probes = JoinSet::new();
    for (renews_by, expected) in [
        (RenewsBy::Query, "queries renew tokens on this server"),
        (RenewsBy::Renew, "queries do not renew tokens on this server, RenewSessionToken does"),
        (RenewsBy::Neither, "neither queries nor RenewSessionToken renew tokens on this server"),
    ] {
        for (reports, whole_seconds, latency, life) in [
            (Reports::After, false, 0, 6_000),
            (Reports::After, true, 0, 9_000),
            (Reports::After, false, 300, 9_000),
            (Reports::Before, false, 0, 7_000),
            (Reports::Before, true, 0, 12_000),
        ] {
            let latency = millis(latency);
            let behaviour =
                Behaviour { renews_by, reports, whole_seconds, latency, ..Behaviour::default() };
            probes.spawn(async move {
                assert_eq!(
                    finding(behaviour.clone(), millis(life)).await,
                    expected,
                    "{behaviour:?}"
                );
            });
        }
    }
    probes.join_all().await;
}

#[tokio::test]
async fn probe_tries_permitted_requests_only() {
    let renews_by = RenewsBy::Renew;
    for (renewal, untried, words) in [
        ("query", Endpoint::Renew, "RenewSessionToken was not permitted"),
        ("renew", Endpoint::Query, "RenewSessionToken renews tokens on this server"),
    ] {
        let server = simulator_with(Behaviour { renews_by, ..Behaviour::default() }).await;
        let stage = staged(&server, seconds(3));
        let options = ["--prove-renewal", "--renewal", renewal];
        let (status, said) = probe(&stage, &server.url(), &options).await;
        assert_eq!(status, ALIVE, "{said}");
        assert!(said.contains(words), "{said}");
        assert_eq!(calls(&server, untried), 0, "{said}");
    }
}

#[tokio::test]
async fn probe_reports_a_rejected_renewal() {
    let server = mortal_simulator().await;
    server.plan_fault(Plan::always(Trouble::Html { status: 405 }).at(Endpoint::Renew));
    let stage = staged(&server, seconds(3));
    let (status, said) = probe(&stage, &server.url(), &["--prove-renewal"]).await;
    assert_eq!(status, ALIVE, "{said}");
    assert!(said.contains("and RenewSessionToken is refused: "), "{said}");
}

#[tokio::test]
async fn probe_writes_a_renewed_value_to_the_token_file() {
    let behaviour = Behaviour { renews_by: RenewsBy::Renew, rotates: true, ..Behaviour::default() };
    let server = simulator_with(behaviour).await;
    let stage = staged(&server, seconds(3));
    let (status, said) = probe(&stage, &server.url(), &["--prove-renewal"]).await;
    assert_eq!(status, ALIVE, "{said}");
    let value = stage.read("quotes.token");
    assert!(value.starts_with(ISSUED), "the new value is kept");
    assert!(server.remaining(value.trim()).is_some_and(|left| left > millis(0)), "and lives");
}

#[tokio::test]
async fn probe_reports_a_token_that_expires_during_the_probe() {
    let server = mortal_simulator().await;
    let stage = staged(&server, seconds(3));
    let value = stage.token("quotes");
    let options = ["--prove-renewal", "--renewal", "query"];
    let url = server.url();
    let probe = probe(&stage, &url, &options);
    let kill = async {
        served(&server, |requests| requests.len() == 1).await;
        server.expire(&value);
    };
    let ((status, said), ()) = tokio::join!(probe, kill);
    assert_eq!(status, DEAD, "{said}");
    assert!(said.contains("\nexpired: "), "{said}");
}
