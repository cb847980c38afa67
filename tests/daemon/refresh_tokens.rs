//! Refresh tokens: each is spent once, its successor is never lost, and a token lives as long as
//! its session can be renewed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use rustix::process::Signal;

use crate::reboot::reboot;
use crate::support::{Daemon, MARK, OAuthRequest, OAuthServer, Stage, mode, seconds, until};

/// The shortest life that whole seconds permit a renewal in.
pub(crate) const LIFE: Duration = Duration::from_secs(3);

/// Long enough that no renewal is due during a test.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A token `feed` of this server; `keys` are more of its keys.
pub(crate) fn configuration(server: &OAuthServer, keys: &str) -> String {
    format!(
        r#"
[server.idp]
url = "{}"
profile = "oauth2"
timeout = "5s"
with = {{ client_id = "keeper", client_secret = {{ file = "$DIR/client.secret" }} }}

[token.feed]
server = "idp"
file = "$DIR/feed.token"
{keys}
"#,
        server.url()
    )
}

const REFRESH_FILE: &str = "refresh = { file = \"$DIR/refresh/feed\" }";

pub(crate) const LOGIN: &str =
    "reauth = \"login\"\n[reauth.login]\nlogin = true\ndelay = \"100ms\"";

/// A stage with this configuration, and the first refresh token of a session in its file.
pub(crate) fn stage_with(configuration: &str, refresh: &str) -> Stage {
    let stage = Stage::new(configuration);
    stage.write("client.secret", &format!("{MARK}-client\n"));
    stage.write("refresh/feed", &format!("{refresh}\n"));
    stage
}

/// A server, and a stage with a session on it: its access token and its refresh token in files.
pub(crate) async fn session(life: Duration, keys: &str) -> (OAuthServer, Stage) {
    let server = OAuthServer::start(life).await;
    let (access, refresh) = server.session();
    let stage = stage_with(&configuration(&server, &format!("{REFRESH_FILE}\n{keys}")), &refresh);
    stage.write("feed.token", &access);
    (server, stage)
}

pub(crate) fn refresh_in_file(stage: &Stage) -> String {
    stage.read("refresh/feed").trim().to_owned()
}

pub(crate) async fn renewals(server: &OAuthServer, count: usize) {
    until("enough renewals", || server.renewals() >= count).await;
}

/// How many times the life of a value was asked for.
fn queries(server: &OAuthServer) -> usize {
    let is_query = |request: &OAuthRequest| matches!(request, OAuthRequest::Introspected { .. });
    server.requests().iter().filter(|request| is_query(request)).count()
}

async fn reload(daemon: &Daemon) {
    let count = daemon.count("config_reloaded", "");
    daemon.signal(Signal::HUP);
    daemon.nth(count + 1, "config_reloaded", "").await;
}

#[tokio::test]
async fn token_lives_by_renewals_that_spend_each_refresh_token_once() {
    let (server, stage) = session(LIFE, "").await;
    let leftover = stage.write("refresh/.tokenkeep-aB3dEf", &format!("{MARK}-left\n"));
    let daemon = stage.start();
    renewals(&server, 5).await;
    assert!(!leftover.exists());
    assert!(server.is_alive(stage.read("feed.token").trim()));
    let ended = daemon.stop().await;
    assert!(server.is_usable(&refresh_in_file(&stage)));
    assert_eq!(mode(&stage.path("refresh/feed")), 0o600);
    assert_eq!(server.reuses(), 0);
    for event in ["token_expired", "token_rejected", "token_unverified", "store_failed"] {
        assert_eq!(ended.count(event, "feed"), 0, "{event}");
    }
}

#[tokio::test]
async fn token_with_a_refresh_token_only_begins_with_a_renewal() {
    let (server, stage) = session(LONG, LOGIN).await;
    fs::remove_file(stage.path("feed.token")).unwrap();
    let daemon = stage.start();
    until("a value", || server.is_alive(stage.read("feed.token").trim())).await;
    daemon.event("token_replaced", "feed").await;
    daemon.stop().await;
    assert_eq!((server.renewals(), server.logins(), server.reuses()), (1, 0, 0));
}

#[tokio::test]
async fn refresh_token_that_every_user_may_read_is_warned_of_once() {
    let (server, stage) = session(LIFE, "").await;
    fs::set_permissions(stage.path("refresh/feed"), Permissions::from_mode(0o644)).unwrap();
    let daemon = stage.start();
    let warning = daemon.event("config_warning", "feed").await;
    assert!(warning.text("path").ends_with("refresh/feed"), "{warning:?}");
    renewals(&server, 3).await;
    assert_eq!(mode(&stage.path("refresh/feed")), 0o644, "it is the operator's");
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_warning", "feed"), 1);
}

#[tokio::test]
async fn refresh_token_that_its_source_cannot_hold_survives_a_kill() {
    let server = OAuthServer::start(LIFE).await;
    let (_, refresh) = server.session();
    let stage =
        stage_with(&configuration(&server, "refresh = { env = \"FEED_REFRESH\" }"), "unused");
    let start = || stage.start_with(&[("FEED_REFRESH", &refresh)]);
    for _ in 0..3 {
        let daemon = start();
        daemon.nth(2, "token_replaced", "feed").await;
        daemon.signal(Signal::KILL);
        daemon.ended().await;
    }
    let daemon = start();
    renewals(&server, 7).await;
    daemon.stop().await;
    assert_eq!(server.reuses(), 0);
}

/// A kill at any point leaves a session that lives, or has lost its refresh token for certain: then
/// a new one in the file is used at once.
#[tokio::test]
async fn session_survives_a_kill_at_any_point_after_the_first_write() {
    let (server, stage) = session(LIFE, "").await;
    let (mut lost, mut reuses) = (0, 0);
    for run in 0..12 {
        server.hold_responses(true);
        let count = server.renewals();
        let daemon = stage.start();
        renewals(&server, count + 1).await;
        server.hold_responses(false);
        tokio::time::sleep(Duration::from_micros(run * 600)).await;
        daemon.signal(Signal::KILL);
        daemon.ended().await;

        let survives = server.is_usable(&refresh_in_file(&stage));
        let count = server.renewals();
        let daemon = stage.start();
        if survives {
            renewals(&server, count + 1).await;
        } else {
            lost += 1;
            daemon.event("token_rejected", "feed").await;
            reuses += 1;
            let (_, refresh) = server.session();
            stage.replace("refresh/feed", &refresh);
            daemon.event("token_recovered", "feed").await;
        }
        assert_eq!(server.reuses(), reuses, "run {run}");
        daemon.stop().await;
    }
    assert!(lost < 12, "no kill came after the first write");
}

#[tokio::test]
async fn renewal_ends_before_the_daemon_stops() {
    let (server, stage) = session(LIFE, "").await;
    server.hold_responses(true);
    let daemon = stage.start();
    renewals(&server, 1).await;
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    server.hold_responses(false);
    daemon.ended().await;
    assert!(server.is_usable(&refresh_in_file(&stage)));
    assert!(server.is_alive(stage.read("feed.token").trim()));
}

#[tokio::test]
async fn renewal_of_a_token_that_a_reload_removes_stores_its_refresh_token() {
    let (server, stage) = session(LIFE, "").await;
    let with_token = stage.read("tokenkeep.toml");
    server.hold_responses(true);
    let daemon = stage.start();
    renewals(&server, 1).await;
    let (without, _) = with_token.split_once("[token.feed]").unwrap();
    let socket = "[control]\nsocket = \"$DIR/control.sock\"\n";
    stage.configure(&format!("{without}{socket}"));
    reload(&daemon).await;
    stage.replace("tokenkeep.toml", &with_token);
    reload(&daemon).await;
    server.hold_responses(false);
    renewals(&server, 3).await;
    daemon.stop().await;
    assert_eq!(server.reuses(), 0);
    assert!(server.is_usable(&refresh_in_file(&stage)));
}

#[tokio::test]
async fn token_that_is_renamed_keeps_its_session() {
    let (server, stage) = session(LIFE, "").await;
    let configuration = stage.read("tokenkeep.toml");
    server.hold_responses(true);
    let daemon = stage.start();
    renewals(&server, 1).await;
    stage.replace("tokenkeep.toml", &configuration.replace("[token.feed]", "[token.other]"));
    reload(&daemon).await;
    server.hold_responses(false);
    renewals(&server, 3).await;
    daemon.stop().await;
    assert_eq!(server.reuses(), 0);
}

#[tokio::test]
async fn refresh_token_of_two_tokens_is_spent_by_one_of_them() {
    let (server, stage) = session(LIFE, "").await;
    symlink("feed", stage.path("refresh/link")).unwrap();
    let second = "[token.second]\nserver = \"idp\"\nfile = \"$DIR/second.token\"\n\
                  refresh = { file = \"$DIR/refresh/link\" }\n";
    stage.configure(&format!("{}\n{second}", stage.read("tokenkeep.toml")));
    let daemon = stage.start();
    renewals(&server, 4).await;
    let owners = ["feed", "second"].map(|name| daemon.count("token_replaced", name));
    assert!(owners.contains(&0), "{owners:?}");
    daemon.stop().await;
    assert_eq!(server.reuses(), 0);
}

#[tokio::test]
async fn lost_response_is_followed_by_a_login_and_not_by_a_second_renewal() {
    let (server, stage) = session(seconds(8), LOGIN).await;
    server.lose_responses(1);
    let daemon = stage.start();
    let replaced = daemon.event("token_replaced", "feed").await;
    assert_eq!(replaced.text("by"), "reauth");
    assert_eq!(daemon.count("token_expired", "feed") + daemon.count("token_rejected", "feed"), 0);
    daemon.stop().await;
    assert_eq!((server.renewals(), server.reuses()), (1, 0));
}

#[tokio::test]
async fn restart_spends_no_refresh_token_of_a_token_that_lives() {
    let (server, stage) = session(LONG, "").await;
    for state in ["state", "another-state"] {
        let configuration = stage.read("tokenkeep.toml");
        let rest = configuration.split_once('\n').unwrap().1;
        stage.replace("tokenkeep.toml", &format!("state_dir = \"$DIR/{state}\"\n{rest}"));
        let count = queries(&server);
        let daemon = stage.start();
        until("a query", || queries(&server) > count).await;
        daemon.stop().await;
    }
    assert_eq!(server.renewals(), 0);
}

#[tokio::test]
async fn reboot_spends_no_refresh_token_of_a_token_that_lives() {
    let (server, stage) = session(LONG, "").await;
    for rebooted in [false, true] {
        if rebooted {
            reboot(&stage);
        }
        let daemon = stage.start();
        daemon.event("token_checked", "feed").await;
        daemon.stop().await;
    }
    assert_eq!(server.renewals(), 0);
}

#[tokio::test]
async fn rejected_refresh_token_does_not_end_a_token_that_lives() {
    let (server, stage) = session(seconds(6), "").await;
    server.forget(&refresh_in_file(&stage));
    let daemon = stage.start();
    let rejected = daemon.event("refresh_token_rejected", "feed").await;
    assert_eq!(rejected.number("status"), 400);
    let count = queries(&server);
    until("two more checks", || queries(&server) > count + 1).await;
    assert_eq!(daemon.count("refresh_token_rejected", "feed"), 1);
    assert_eq!(daemon.count("token_rejected", "feed"), 0);

    let (_, refresh) = server.session();
    stage.replace("refresh/feed", &refresh);
    until("a new value", || server.renewals() > 0).await;
    daemon.event("token_replaced", "feed").await;
    daemon.stop().await;
}

#[tokio::test]
async fn new_refresh_token_in_the_file_revives_a_dead_token_at_once() {
    let (server, stage) = session(LONG, "").await;
    server.forget(&refresh_in_file(&stage));
    server.expire(stage.read("feed.token").trim());
    let daemon = stage.start();
    daemon.event("token_rejected", "feed").await;
    let (_, refresh) = server.session();
    stage.replace("refresh/feed", &refresh);
    daemon.event("token_recovered", "feed").await;
    daemon.stop().await;
    assert_eq!((server.renewals(), server.reuses()), (1, 0));
}

#[tokio::test]
async fn old_refresh_token_that_is_put_back_is_replaced_and_not_sent_again() {
    let (server, stage) = session(seconds(6), "").await;
    let first = refresh_in_file(&stage);
    let daemon = stage.start();
    renewals(&server, 2).await;
    daemon.nth(2, "token_replaced", "feed").await;
    stage.replace("refresh/feed", &first);
    until("it is replaced", || server.is_usable(&refresh_in_file(&stage))).await;
    assert_eq!(server.renewals(), 2);
    daemon.signal(Signal::KILL);
    daemon.ended().await;
    let daemon = stage.start();
    renewals(&server, 3).await;
    daemon.stop().await;
    assert_eq!(server.reuses(), 0);
}

#[tokio::test]
async fn line_of_an_inventory_may_have_a_refresh_token() {
    let server = OAuthServer::start(LIFE).await;
    let (access, refresh) = server.session();
    let head = configuration(&server, "").split_once("[token.feed]").unwrap().0.to_owned();
    let inventory = "[inventory.all]\nserver = \"idp\"\nfile = \"$DIR/tokens.jsonl\"\n";
    let stage = stage_with(&format!("{head}{inventory}"), "unused");
    let line = |refresh: &str| {
        format!("{{\"name\": \"feed\", \"token\": \"{access}\", \"refresh\": \"{refresh}\"}}\n")
    };
    stage.write("tokens.jsonl", &line(&refresh));
    for run in 1..=2 {
        let daemon = stage.start();
        renewals(&server, 2 * run).await;
        daemon.stop().await;
    }
    assert_eq!(server.reuses(), 0);
    server.session();
    let (_, refresh) = server.session();
    let daemon = stage.start();
    stage.replace("tokens.jsonl", &line(&refresh));
    let sent = |server: &OAuthServer| {
        server
            .requests()
            .iter()
            .any(|request| matches!(request, OAuthRequest::Renewed { sent } if *sent == refresh))
    };
    until("the new one is used", || sent(&server)).await;
    daemon.stop().await;
    assert_eq!(server.reuses(), 0);
}

#[tokio::test]
async fn refresh_token_that_is_added_to_a_line_revives_a_dead_token_at_once() {
    let server = OAuthServer::start(LONG).await;
    let (access, _) = server.session();
    let head = configuration(&server, "").split_once("[token.feed]").unwrap().0.to_owned();
    let inventory = "[inventory.all]\nserver = \"idp\"\nfile = \"$DIR/tokens.jsonl\"\n";
    let stage = stage_with(&format!("{head}{inventory}"), "unused");
    server.expire(&access);
    stage.write("tokens.jsonl", &format!("{{\"name\": \"feed\", \"token\": \"{access}\"}}\n"));
    let daemon = stage.start();
    daemon.event("token_rejected", "feed").await;
    let (_, refresh) = server.session();
    let line =
        format!("{{\"name\": \"feed\", \"token\": \"{access}\", \"refresh\": \"{refresh}\"}}\n");
    stage.replace("tokens.jsonl", &line);
    daemon.event("token_recovered", "feed").await;
    daemon.stop().await;
    assert_eq!((server.renewals(), server.reuses()), (1, 0));
}

#[tokio::test]
async fn login_of_a_token_leaves_the_session_of_another_one_alone() {
    let (server, stage) = session(LIFE, "").await;
    symlink("feed", stage.path("refresh/link")).unwrap();
    let second = format!(
        "[token.second]\nserver = \"idp\"\nfile = \"$DIR/second.token\"\n\
         refresh = {{ file = \"$DIR/refresh/link\" }}\n{LOGIN}\n"
    );
    let daemon = stage.start();
    renewals(&server, 1).await;
    stage.configure(&format!("{}\n{second}", stage.read("tokenkeep.toml")));
    reload(&daemon).await;
    daemon.event("reauth_succeeded", "second").await;
    let count = server.renewals();
    renewals(&server, count + 2).await;
    let ended = daemon.stop().await;
    for replaced in ended.all("token_replaced", "second") {
        assert_eq!(replaced.text("by"), "reauth", "the second token never renews");
    }
    assert_eq!(server.reuses(), 0);
    for event in ["token_expired", "token_rejected"] {
        assert_eq!(ended.count(event, "feed"), 0, "{event}");
    }
}

#[tokio::test]
async fn token_without_a_refresh_token_is_queried_until_it_dies() {
    let server = OAuthServer::start(seconds(4)).await;
    let (access, _) = server.session();
    let stage = stage_with(&configuration(&server, LOGIN), "unused");
    stage.write("feed.token", &access);
    let daemon = stage.start();
    let replaced = daemon.event("token_replaced", "feed").await;
    assert_eq!(replaced.text("by"), "reauth");
    daemon.stop().await;
    assert_eq!(server.renewals(), 0);
}

/// The built-in profile, whose login returns a refresh token.
pub(crate) fn own_profile() -> String {
    let own = "[profile.own.login]\nrequest = \"POST token\"\n\
               form = { grant_type = \"client_credentials\" }\nvalue = \"access_token\"\n\
               refresh = \"refresh_token\"\nlife = \"expires_in\"\nunit = \"s\"\n";
    let oauth = include_str!("../../src/profile/builtin/oauth2.toml").replace("oauth2", "own");
    oauth.split("[profile.own.login]").next().unwrap().to_owned() + own
}

pub(crate) fn use_profile(stage: &Stage, profile: &str) {
    let configuration = stage.read("tokenkeep.toml").replace("\"oauth2\"", "\"own\"");
    stage.replace("tokenkeep.toml", &(configuration + profile));
}

#[tokio::test]
async fn login_that_returns_a_refresh_token_replaces_the_one_before() {
    let (server, stage) = session(seconds(6), LOGIN).await;
    use_profile(&stage, &own_profile());
    server.return_refresh_tokens();
    server.forget(&refresh_in_file(&stage));
    server.expire(stage.read("feed.token").trim());
    let daemon = stage.start();
    daemon.event("reauth_succeeded", "feed").await;
    renewals(&server, 2).await;
    daemon.stop().await;
    assert_eq!((server.logins(), server.reuses()), (1, 0));
    assert!(server.is_usable(&refresh_in_file(&stage)));
}
