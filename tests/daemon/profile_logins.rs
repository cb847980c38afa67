//! Tokens of a server like Vault: renewals up to a longest life, and logins by the profile.

use std::fs;

use crate::support::{MARK, Stage, VaultServer, seconds, until};

/// A stage with a token `app`, whose value is `token`; `keys` are more keys of its login.
fn stage_with(server: &VaultServer, token: &str, keys: &str) -> Stage {
    let stage = Stage::new(&format!(
        r#"
[server.vault]
url = "{}"
profile = "vault"

[reauth.approle]
login = true
with = {{ role_id = "7387", secret_id = {{ file = "$DIR/secret.id" }} }}
delay = "100ms"
{keys}

[token.app]
server = "vault"
file = "$DIR/app.token"
reauth = "approle"
"#,
        server.url()
    ));
    stage.write("secret.id", &format!("{MARK}-id\n"));
    stage.write("app.token", token);
    stage
}

#[tokio::test]
async fn token_is_renewed_and_replaced_by_a_login_before_its_longest_life_ends() {
    let server = VaultServer::start(seconds(4), seconds(9), &format!("{MARK}-id")).await;
    let stage = stage_with(&server, &server.token(), "");
    let configuration = stage.read("tokenkeep.toml");
    let early = "reauth = \"approle\"\nreauth_before = \"2s\"";
    stage.replace("tokenkeep.toml", &configuration.replace("reauth = \"approle\"", early));
    let daemon = stage.start();
    until("three values", || {
        assert!(server.is_alive(stage.read("app.token").trim()), "{:#?}", daemon.lines());
        server.logins()[0] >= 2
    })
    .await;
    let ended = daemon.stop().await;
    assert!(ended.count("token_checked", "app") > 5);
    for event in ["token_expired", "token_rejected", "token_unverified", "reauth_failed"] {
        assert_eq!(ended.count(event, "app"), 0, "{event}");
    }
}

#[tokio::test]
async fn parameter_of_a_login_is_read_at_each_attempt() {
    let server = VaultServer::start(seconds(600), seconds(900), &format!("{MARK}-new")).await;
    let stage = stage_with(&server, &format!("{MARK}-dead"), "");
    let daemon = stage.start();
    let failed = daemon.event("reauth_failed", "app").await;
    assert_eq!(failed.number("status"), 400);
    stage.replace("secret.id", &format!("{MARK}-new\n"));
    daemon.event("reauth_succeeded", "app").await;
    assert!(server.is_alive(stage.read("app.token").trim()));
    daemon.stop().await;
}

#[tokio::test]
async fn unreadable_parameter_of_a_login_does_not_stop_the_other_calls_of_the_server() {
    let server = VaultServer::start(seconds(3), seconds(8), &format!("{MARK}-id")).await;
    let stage = stage_with(&server, &server.token(), "");
    let with = "with = { role_id = \"7387\", secret_id = { file = \"$DIR/secret.id\" } }\n";
    let with = with.replace("$DIR", stage.path("").to_str().unwrap().trim_end_matches('/'));
    let text = stage.read("tokenkeep.toml");
    assert!(text.contains(&with), "{text}");
    let text = text.replace(&with, "");
    let profile = "profile = \"vault\"\n";
    stage.replace("tokenkeep.toml", &text.replace(profile, &format!("{profile}{with}")));
    fs::remove_file(stage.path("secret.id")).unwrap();
    let daemon = stage.start();
    daemon.nth(3, "token_checked", "app").await;
    let failed = daemon.event("reauth_failed", "app").await;
    let error = failed.text("error");
    assert!(error.contains("`with.secret_id`") && error.contains("secret.id"), "{error}");
    stage.write("secret.id", &format!("{MARK}-id\n"));
    daemon.event("reauth_succeeded", "app").await;
    daemon.stop().await;
}

#[tokio::test]
async fn login_with_an_unreadable_parameter_is_not_sent_and_costs_no_attempt() {
    let server = VaultServer::start(seconds(600), seconds(900), &format!("{MARK}-id")).await;
    let stage = stage_with(&server, &format!("{MARK}-dead"), "max_attempts = 1");
    fs::remove_file(stage.path("secret.id")).unwrap();
    let daemon = stage.start();
    let failed = daemon.nth(3, "reauth_failed", "app").await;
    let error = failed.text("error");
    assert!(error.contains("`with.secret_id`") && error.contains("secret.id"), "{error}");
    assert_eq!(server.logins(), [0, 0]);
    stage.write("secret.id", &format!("{MARK}-id\n"));
    daemon.event("reauth_succeeded", "app").await;
    daemon.stop().await;
    assert_eq!(server.logins(), [1, 0]);
}
