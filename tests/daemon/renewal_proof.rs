//! Nothing dies that could have lived: the proof of renewal, and trouble, on real sockets.

use std::time::Duration;

use tokenkeep::api::Client;
use tokenkeep::clock;
use tokenkeep::secret::TokenValue;
use tokenkeep::settings;
use tokenkeep::simulator::{Behaviour, Endpoint, RenewsBy, Reports, Simulator};

use crate::doubles::{Plan, PlanFaults as _, RetryAfter, Trouble};
use crate::support::{
    Daemon, Line, Stage, calls, login_simulator, millis, seconds, secret, served, simulator,
    simulator_with,
};

/// One token of 3 s life on a server that behaves so.
async fn staged(behaviour: Behaviour) -> (Simulator, Stage) {
    let server = simulator_with(behaviour).await;
    let stage = Stage::new(&format!(
        "[server.sarus]\nurl = \"{}\"\n\
         [token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\n",
        server.url()
    ));
    server.add_token(&stage.token("quotes"), seconds(3));
    (server, stage)
}

/// A configuration with `count` tokens that live `life`, each in its file.
fn crowd(server: &Simulator, keys: &str, count: usize, life: Duration) -> Stage {
    let mut text = format!("[server.sarus]\nurl = \"{}\"\n{keys}\n", server.url());
    for i in 0..count {
        text += &format!("[token.t{i}]\nserver = \"sarus\"\nfile = \"$DIR/t{i}.token\"\n");
    }
    let stage = Stage::new(&text);
    for i in 0..count {
        server.add_token(&stage.token(&format!("t{i}")), life);
    }
    stage
}

/// How many requests there were between two numbers of checks.
async fn requests_for_checks(server: &Simulator, daemon: &Daemon, checks: usize) -> usize {
    let before = server.requests().len();
    daemon.more(checks, "token_checked", "quotes").await;
    server.requests().len() - before
}

#[tokio::test]
async fn token_that_only_a_renewal_renews_costs_one_request_a_check() {
    let renews = Behaviour { renews_by: RenewsBy::Renew, ..Behaviour::default() };
    let (server, stage) = staged(renews).await;
    let daemon = stage.start();
    assert_eq!(daemon.event("renewal_learned", "").await.text("renews_by"), "renew");
    daemon.more(1, "token_checked", "quotes").await;
    assert_eq!(requests_for_checks(&server, &daemon, 5).await, 5);
    let ended = daemon.stop().await;
    assert!(ended.story("quotes").is_empty(), "{:?}", ended.story("quotes"));
}

#[tokio::test]
async fn token_whose_server_reports_the_previous_life_costs_one_request_a_check() {
    let (server, stage) =
        staged(Behaviour { reports: Reports::Before, ..Behaviour::default() }).await;
    let daemon = stage.start();
    assert_eq!(daemon.event("renewal_learned", "").await.text("renews_by"), "query");
    daemon.more(3, "token_checked", "quotes").await;
    assert_eq!(requests_for_checks(&server, &daemon, 6).await, 6);
    assert_eq!(calls(&server, Endpoint::Renew), 0);
    let ended = daemon.stop().await;
    assert!(ended.story("quotes").is_empty(), "{:?}", ended.story("quotes"));
}

/// Renews the token every 300 ms, as another program with the same token might.
async fn another_client(url: String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokenkeep.toml");
    std::fs::write(&path, format!("[server.sarus]\nurl = \"{url}\"\n")).expect("room");
    let loaded = settings::load(&path, std::iter::empty()).expect("it is correct");
    let client = Client::new(&loaded.settings.servers[0]).expect("a client");
    let value = TokenValue::parse(&secret("quotes")).expect("a value");
    let mut pace = tokio::time::interval(millis(300));
    loop {
        pace.tick().await;
        client.renew(&value, seconds(5), tokenkeep::outcome::Connection::Pooled).await;
    }
}

#[tokio::test]
async fn renewal_by_another_client_is_not_mistaken_for_our_own() {
    let renews = Behaviour { renews_by: RenewsBy::Renew, ..Behaviour::default() };
    let (server, stage) = staged(renews).await;
    let other = tokio::spawn(another_client(server.url()));
    let daemon = stage.start();
    assert_eq!(daemon.event("renewal_learned", "").await.text("renews_by"), "query");
    other.abort();
    let learned = daemon.nth(2, "renewal_learned", "").await;
    assert_eq!(learned.text("renews_by"), "renew");
    daemon.more(4, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert!(ended.story("quotes").is_empty(), "{:?}", ended.story("quotes"));
}

#[tokio::test]
async fn renewal_not_observed_is_logged_once_another_client_stops() {
    let renews = Behaviour { renews_by: RenewsBy::Renew, ..Behaviour::default() };
    let (server, stage) = staged(renews).await;
    let other = tokio::spawn(another_client(server.url()));
    let daemon = stage.start();
    daemon.nth(4, "token_checked", "quotes").await;
    assert_eq!(daemon.count("renewal_not_observed", ""), 0);
    other.abort();
    server.set_behaviour(Behaviour { renews_by: RenewsBy::Neither, ..Behaviour::default() });
    let said = daemon.event("renewal_not_observed", "quotes").await;
    assert!(said.number("dies_in_ms") < 1_500, "{said:?}");
    daemon.event("token_expired", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.story("quotes"), ["renewal_not_observed", "token_expired"]);
}

#[tokio::test]
async fn fifty_tokens_of_eight_seconds_survive_an_outage_of_six_without_a_storm() {
    let server = simulator().await;
    let stage = crowd(&server, "", 50, seconds(8));
    let daemon = stage.start();
    daemon.nth(50, "token_checked", "").await;
    server.plan_fault(Plan::always(Trouble::Reset));
    let began = clock::now();
    let down = daemon.event("server_unavailable", "").await;
    assert_eq!(down.number("tokens"), 50);
    let opened = server.requests().len();
    // Requests that were in flight when it opened are still resent on a fresh connection.
    let opened_at = server.requests()[opened - 1].at + millis(300);
    tokio::time::sleep(seconds(6).saturating_sub(clock::now().since(began))).await;
    let requests = server.requests();
    let last = requests[requests.len() - 1].at;
    server.clear_faults();
    daemon.event("server_recovered", "").await;
    let checked = |lines: &[Line]| {
        let after = lines.iter().skip_while(|line| line.event() != "server_recovered");
        after.filter(|line| line.event() == "token_checked").count() >= 50
    };
    daemon.until("all are checked again", checked).await;

    let open = last.saturating_sub(opened_at);
    let probes = requests.iter().filter(|request| request.at > opened_at).count();
    let probes = u128::try_from(probes).expect("few");
    assert!(probes <= 1 + open.as_millis() / 200, "{probes} probes in {open:?}");
    let ended = daemon.stop().await;
    for event in ["token_expired", "token_unverified", "token_rejected"] {
        assert_eq!(ended.count(event, ""), 0, "{event}");
    }
    assert_eq!(ended.count("server_unavailable", ""), 1);
    assert_eq!(ended.count("server_recovered", ""), 1);
}

#[tokio::test]
async fn twenty_tokens_of_a_throttled_server_respect_the_pause() {
    let server = simulator().await;
    let stage = crowd(&server, "max_in_flight = 3", 20, seconds(20));
    let retry_after = RetryAfter::Seconds(3);
    server.plan_fault(Plan::always(Trouble::Quiet { status: 429, retry_after }));
    let daemon = stage.start();
    daemon.event("check_failed", "").await;
    served(&server, |requests| !requests.is_empty()).await;
    let first = server.requests()[0].at;
    served(&server, |requests| requests.iter().any(|r| r.at >= first + millis(2_950))).await;
    server.clear_faults();
    let within = |at: Duration| at < first + millis(2_950);
    let early = server.requests().iter().filter(|request| within(request.at)).count();
    assert!(early <= 3 + 1, "{early} requests within the quiet, with 3 in flight at most");
    daemon.nth(20, "token_checked", "").await;
    daemon.stop().await;
}

#[tokio::test]
async fn reauth_before_replaces_a_token_that_no_request_renews() {
    let server = login_simulator().await;
    let stage = Stage::new(&format!(
        "[server.sarus]\nurl = \"{}\"\n[reauth.key]\napi_key_file = \"$DIR/key.token\"\n\
         [token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\nreauth = \"key\"\n\
         reauth_before = \"1s\"\n",
        server.url()
    ));
    stage.token("key");
    server.add_token(&stage.token("quotes"), seconds(6));
    let daemon = stage.start();
    let started = daemon.event("reauth_started", "quotes").await;
    assert_eq!(started.text("reason"), "expiring");
    daemon.event("reauth_succeeded", "quotes").await;
    assert!(server.remaining(&secret("quotes")).is_some(), "the old value still lives");
    let ended = daemon.stop().await;
    let story = ["renewal_not_observed", "reauth_started", "reauth_succeeded"];
    assert_eq!(ended.story("quotes"), story);
    let kept = stage.read("quotes.token");
    assert!(server.remaining(kept.trim()).is_some_and(|left| left > seconds(30)));
}

#[tokio::test]
async fn attempts_are_restored_after_a_restart() {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        "[server.sarus]\nurl = \"{}\"\n\
         [reauth.hook]\ncommand = [\"$DIR/hook\"]\nmax_attempts = 3\ndelay = \"10ms\"\n\
         [token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\nreauth = \"hook\"\n",
        server.url()
    ));
    stage.script("hook", "echo tried >> \"${0%/*}/tries\"; exit 1");
    server.add_token(&stage.token("quotes"), seconds(60));
    server.expire(&secret("quotes"));
    let first = stage.start();
    first.event("reauth_exhausted", "quotes").await;
    first.stop().await;
    let second = stage.start();
    second.event("reauth_exhausted", "quotes").await;
    second.stop().await;
    assert_eq!(stage.lines_in("tries"), 3);
}

#[tokio::test]
async fn command_that_fails_for_many_tokens_is_suspended() {
    let server = simulator().await;
    let mut text = format!(
        "[server.sarus]\nurl = \"{}\"\n\
         [reauth.hook]\ncommand = [\"$DIR/hook\"]\nmax_failures_all = 6\ndelay = \"10ms\"\n",
        server.url()
    );
    for i in 0..20 {
        text += &format!(
            "[token.t{i}]\nserver = \"sarus\"\nfile = \"$DIR/t{i}.token\"\nreauth = \"hook\"\n"
        );
    }
    let stage = Stage::new(&text);
    stage.script("hook", "echo tried >> \"${0%/*}/tries\"; exit 1");
    for i in 0..20 {
        let value = stage.token(&format!("t{i}"));
        server.add_token(&value, seconds(60));
        server.expire(&value);
    }
    let daemon = stage.start();
    let given_up = daemon.event("reauth_exhausted", "").await;
    assert_eq!(given_up.text("reauth"), "hook");
    assert_eq!(given_up.number("attempt"), 6);
    daemon.nth(20, "token_expired", "").await;
    daemon.stop().await;
    // Up to three more were under way when the sixth failed.
    assert!((6..=9).contains(&stage.lines_in("tries")), "{}", stage.lines_in("tries"));
}

#[tokio::test]
async fn revoke_on_shutdown_revokes_the_token() {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        "[server.sarus]\nurl = \"{}\"\n[reauth.hook]\ncommand = [\"/bin/false\"]\n\
         [token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\nreauth = \"hook\"\n\
         revoke_on_shutdown = true\n\
         [token.orders]\nserver = \"sarus\"\nfile = \"$DIR/orders.token\"\n",
        server.url()
    ));
    for name in ["quotes", "orders"] {
        server.add_token(&stage.token(name), seconds(60));
    }
    let daemon = stage.start();
    daemon.nth(2, "token_checked", "").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_revoked", "quotes"), 1);
    assert_eq!(calls(&server, Endpoint::Revoke), 1);
    assert!(server.remaining(&secret("quotes")).is_none());
    assert!(server.remaining(&secret("orders")).is_some());
}
