//! Values that no refresh token renews: a login replaces them before they die, and each reason is
//! reported.

use std::fs;

use crate::refresh_tokens::{
    LOGIN, LONG, configuration, own_profile, refresh_in_file, session, stage_with, use_profile,
};
use crate::support::{OAuthServer, seconds, until};

/// The profile without its `query`.
fn without_query(profile: &str) -> String {
    let (head, tail) = profile.split_once("[profile.own.query]").unwrap();
    head.to_owned() + &tail[tail.find("[profile.own.renew]").unwrap()..]
}

#[tokio::test]
async fn value_without_a_refresh_token_that_cannot_be_queried_is_replaced_by_another_login() {
    let often = format!("{LOGIN}\nmax_attempts = 8\nwindow = \"8s\"");
    let (server, stage) = session(seconds(6), &often).await;
    use_profile(&stage, &without_query(&own_profile()));
    server.forget(&refresh_in_file(&stage));
    server.expire(stage.read("feed.token").trim());
    let daemon = stage.start();
    for count in 1..=4 {
        until("a login", || server.logins() >= count).await;
        until("its value", || server.is_alive(stage.read("feed.token").trim())).await;
    }
    daemon.stop().await;
    assert_eq!((server.renewals(), server.reuses()), (0, 0));
}

#[tokio::test]
async fn value_of_a_login_takes_the_place_of_a_living_one_that_cannot_be_renewed() {
    let (server, stage) = session(LONG, LOGIN).await;
    use_profile(&stage, &without_query(&own_profile()));
    fs::remove_file(stage.path("refresh/feed")).unwrap();
    let first = stage.read("feed.token");
    let daemon = stage.start();
    let failed = daemon.event("check_failed", "feed").await;
    assert!(failed.text("error").contains("no refresh token"), "{failed:?}");
    daemon.event("token_replaced", "feed").await;
    until("the new value", || stage.read("feed.token") != first).await;
    daemon.stop().await;
    assert_eq!(server.logins(), 1);
}

#[tokio::test]
async fn rejected_refresh_token_leads_to_a_login_before_the_token_dies() {
    let (server, stage) = session(seconds(6), LOGIN).await;
    server.forget(&refresh_in_file(&stage));
    let daemon = stage.start();
    daemon.event("reauth_succeeded", "feed").await;
    let ended = daemon.stop().await;
    for event in ["token_rejected", "token_expired", "token_unverified"] {
        assert_eq!(ended.count(event, "feed"), 0, "{event}");
    }
    assert_eq!(ended.count("refresh_token_rejected", "feed"), 1);
}

#[tokio::test]
async fn refresh_token_that_cannot_be_used_is_reported_and_the_spent_one_is_not_sent_again() {
    let (server, stage) = session(seconds(6), "").await;
    server.lengthen_refresh_tokens();
    let daemon = stage.start();
    let failed = daemon.event("store_failed", "feed").await;
    assert!(failed.text("error").contains("longer than 4096 bytes"), "{failed:?}");
    let renewed = stage.read("feed.token");
    daemon.event("token_replaced", "feed").await;
    daemon.stop().await;
    let daemon = stage.start();
    until("the value dies", || !server.is_alive(renewed.trim())).await;
    daemon.event("token_rejected", "feed").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("store_failed", "feed"), 0);
    assert_eq!((server.renewals(), server.reuses()), (1, 0));
}

#[tokio::test]
async fn renewal_that_cannot_be_sent_says_why() {
    let (server, stage) = session(LONG, "").await;
    let header = "headers = { X-Client = \"{client_secret}\" }\nform = { grant_type = \"refresh";
    use_profile(&stage, &own_profile().replace("form = { grant_type = \"refresh", header));
    stage.replace("client.secret", "\u{e4}");
    fs::remove_file(stage.path("feed.token")).unwrap();
    let daemon = stage.start();
    let failed = daemon.event("check_failed", "feed").await;
    assert!(failed.text("error").contains("x-client"), "{failed:?}");
    assert!(failed.has("retry_in_ms"), "{failed:?}");
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_missing", "feed"), 0);
    assert_eq!(server.requests(), []);
}

#[tokio::test]
async fn refresh_token_that_is_not_used_up_obtains_the_first_value_too() {
    let (server, stage) = session(LONG, "").await;
    let reusable = own_profile().replace("once = true", "once = false");
    use_profile(&stage, &reusable.replace("renewal = \"renew\"", ""));
    fs::remove_file(stage.path("feed.token")).unwrap();
    let daemon = stage.start();
    daemon.event("token_replaced", "feed").await;
    until("a value", || server.is_alive(stage.read("feed.token").trim())).await;
    daemon.stop().await;
    assert_eq!(server.renewals(), 1);
}

#[tokio::test]
async fn inventory_lines_without_a_refresh_token_are_counted_if_nothing_else_renews_them() {
    let server = OAuthServer::start(LONG).await;
    let (access, refresh) = server.session();
    let head = configuration(&server, "").split_once("[token.feed]").unwrap().0.to_owned();
    let inventory = "[inventory.all]\nserver = \"idp\"\nfile = \"$DIR/tokens.jsonl\"\n";
    let stage = stage_with(&format!("{head}{inventory}"), "unused");
    let line =
        format!("{{\"name\": \"a\", \"token\": \"{access}\", \"refresh\": \"{refresh}\"}}\n");
    let without = "{\"name\": \"b\", \"token\": \"other\"}\n";
    stage.write("tokens.jsonl", &format!("{line}{without}"));
    let daemon = stage.start();
    daemon.event("inventory_loaded", "").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_warning", ""), 0, "they can be queried");
    use_profile(&stage, &without_query(&own_profile()));
    let daemon = stage.start();
    let warning = daemon.event("config_warning", "").await;
    assert!(warning.text("error").contains("1 without \"refresh\""), "{warning:?}");
    daemon.stop().await;
}
