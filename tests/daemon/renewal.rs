//! Which call is the check, and what is said where it does not extend a life.

use tokenkeep::simulator::{Behaviour, Endpoint, RenewsBy, Simulator};

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{
    Line, Stage, about, calls, get, seconds, secret, server_table, simulator_with, token_table,
};

async fn staged(renewal: &str, behaviour: Behaviour) -> (Simulator, Stage) {
    let server = simulator_with(behaviour).await;
    let keys = format!("renewal = \"{renewal}\"");
    let stage = Stage::new(
        &[server_table("sarus", &server, &keys), token_table("quotes", "sarus", "")].concat(),
    );
    server.add_token(&stage.token("quotes"), seconds(4));
    (server, stage)
}

fn renewing_by(renews_by: RenewsBy) -> Behaviour {
    Behaviour { renews_by, ..Behaviour::default() }
}

#[tokio::test]
async fn renewal_query_sends_queries_only() {
    let (server, stage) = staged("query", renewing_by(RenewsBy::Renew)).await;
    let daemon = stage.start();
    let warned = daemon.event("renewal_not_observed", "quotes").await;
    assert_eq!(warned.text("level"), "warn");
    assert!(warned.number("dies_in_ms") <= 2_000);
    daemon.event("token_expired", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("renewal_not_observed", "quotes"), 1);
    assert_eq!(calls(&server, Endpoint::Query), server.requests().len());
    assert!(ended.all("token_checked", "quotes").iter().all(|line| line.0["renewed"] != true));
}

#[tokio::test]
async fn renewal_renew_sends_renewals_only() {
    let (server, stage) = staged("renew", renewing_by(RenewsBy::Renew)).await;
    let daemon = stage.start();
    daemon.nth(4, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(calls(&server, Endpoint::Renew), server.requests().len());
    assert!(ended.story("quotes").is_empty(), "{:?}", ended.story("quotes"));
    let renewed = ended.all("token_checked", "quotes");
    assert!(renewed[1..].iter().all(|line| line.0["renewed"] == true), "{renewed:?}");
}

#[tokio::test]
async fn renewal_that_returns_another_value_is_used_and_stored() {
    let behaviour = Behaviour { rotates: true, ..renewing_by(RenewsBy::Renew) };
    let (server, stage) = staged("renew", behaviour).await;
    let daemon = stage.start();
    daemon.nth(4, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert!(ended.story("quotes").is_empty(), "{:?}", ended.story("quotes"));
    assert_eq!(about(&server, &secret("quotes")).len(), 1);
    let kept = stage.read("quotes.token");
    assert!(server.remaining(kept.trim()).is_some_and(|left| !left.is_zero()));
}

#[tokio::test]
async fn token_that_queries_do_not_renew_is_renewed_before_its_expiry() {
    let (server, stage) = staged("auto", renewing_by(RenewsBy::Renew)).await;
    let daemon = stage.start();
    daemon.nth(8, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert!(ended.story("quotes").is_empty(), "{:?}", ended.story("quotes"));
    assert!(calls(&server, Endpoint::Renew) > 0);
    assert_eq!(ended.all("renewal_learned", "")[0].text("renews_by"), "renew");
}

#[tokio::test]
async fn remaining_life_of_zero_is_never_a_renewal() {
    let (server, stage) = staged("auto", renewing_by(RenewsBy::Neither)).await;
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let nothing = br#"{"Result":{"Remaining":0}}"#.to_vec();
    server.plan_fault(Plan::always(Trouble::Body { status: 200, body: nothing }));
    let long_after_its_life = |lines: &[Line]| {
        lines
            .iter()
            .any(|line| line.is("token_checked", "") && line.number("next_check_ms") > 3_000)
    };
    daemon.until("pauses longer than the life", long_after_its_life).await;
    let ended = daemon.stop().await;
    let checked = ended.all("token_checked", "quotes");
    assert!(checked.iter().all(|line| line.0["renewed"] != true), "{checked:#?}");
    assert_eq!(ended.count("renewal_learned", ""), 0);
    assert_eq!(ended.count("renewal_not_observed", "quotes"), 1);
}

#[tokio::test]
async fn token_with_no_life_left_is_unverified_and_its_renewal_is_tried() {
    let (server, stage) = staged("auto", renewing_by(RenewsBy::Query)).await;
    let nothing = br#"{"Result":{"Remaining":0}}"#.to_vec();
    server.plan_fault(Plan::always(Trouble::Body { status: 200, body: nothing }));
    let daemon = stage.start();
    let line = daemon.event("renewal_not_observed", "quotes").await;
    assert_eq!(line.number("dies_in_ms"), 0);
    assert!(calls(&server, Endpoint::Renew) > 0);
    let status = get(&stage, "/v1/tokens/quotes").await.json();
    assert_eq!(status["state"], "unverified", "{status}");
    let output = stage.command("status").output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    server.clear_faults();
    daemon
        .until("a life again", |lines| {
            lines
                .iter()
                .any(|line| line.is("token_checked", "quotes") && line.number("remaining_ms") > 0)
        })
        .await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("renewal_not_observed", "quotes"), 1);
}
