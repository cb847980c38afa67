//! The profile `vault` with `OpenBao`: a life of 12 s, which renewals cannot prolong beyond 40 s.

use crate::observe::{is_alive, takes};
use crate::scenario::{TOKEN, assert_learned_renew, assert_secret, count, story, survives};
use crate::servers::{OpenBao, Server as _};
use crate::support::{Stage, seconds};

/// The configuration of a token with a login; `keys` are more of the login's keys.
fn configuration(server: &OpenBao, keys: &str) -> String {
    format!(
        r#"
[server.vault]
url = "{}"
profile = "vault"

[reauth.approle]
login = true
with = {{ role_id = "{}", secret_id = {{ file = "$DIR/secret-id" }} }}
{keys}

[token.app]
server = "vault"
file = "$DIR/app.token"
reauth = "approle"
"#,
        server.url(),
        server.role_id,
    )
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn token_outlives_its_max_ttl_a_restart_and_a_kill() {
    let mut server = OpenBao::start().await;
    let stage = Stage::new(&configuration(&server, "reauth_before = \"8s\""));
    stage.write("secret-id", &server.secret_id);
    let first = server.log_in().await;
    stage.write("app.token", &first);

    let lines = survives(&mut server, &stage, seconds(85)).await;
    assert_learned_renew(&lines);
    // Two values of 40 s at most do not last for 85 s.
    let logins = count(&lines, "reauth_succeeded");
    assert!((2..=5).contains(&logins), "{logins} logins\n{}", story(&lines));
    assert_eq!(count(&lines, "reauth_failed"), 0, "{}", story(&lines));
    let current = stage.read("app.token");
    assert_secret(&lines, [first.as_str(), current.trim(), &server.secret_id]);
    println!("profiles: openbao: 85 s, {logins} logins, {} checks", count(&lines, "token_checked"));
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn without_reauth_before_a_token_dies_at_its_max_ttl_and_is_replaced_at_once() {
    let server = OpenBao::start().await;
    let stage = Stage::new(&configuration(&server, ""));
    stage.write("secret-id", &server.secret_id);
    let first = server.log_in().await;
    stage.write("app.token", &first);
    let daemon = stage.start();
    let replaced = || stage.read("app.token").trim() != first && is_alive(&daemon, TOKEN);
    takes(&daemon, seconds(50), "a login replaces the value", replaced).await;
    assert_eq!(server.is_alive(&first).await, Some(false), "40 s have passed");
    assert_eq!(server.is_alive(stage.read("app.token").trim()).await, Some(true));
    let lines = daemon.stop().await.lines;
    let deaths = count(&lines, "token_rejected") + count(&lines, "token_expired");
    assert_eq!(deaths, 1, "{}", story(&lines));
    assert_eq!(count(&lines, "reauth_succeeded"), 1, "{}", story(&lines));
}
