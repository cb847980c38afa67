//! Login and revocation with each built-in profile on a real server.

use crate::observe::{is_alive, takes};
use crate::scenario::{TOKEN, assert_secret, count, story};
use crate::servers::{CLIENT, Etcd, Oidc, OpenBao, Server, USER, Zabbix};
use crate::support::{Stage, seconds};

/// Starts the daemon without a value, and stops it once it has logged in. Fails unless the server knows
/// the value until then, and not any more after that. `profile` and `with` are the server's, `login`
/// is the login's `with`, which may read `$DIR/secret`.
async fn opens_and_ends(
    server: &impl Server,
    (profile, with): (&str, &str),
    login: &str,
    secret: &str,
) {
    let stage = Stage::new(&format!(
        r#"
[server.real]
url = "{}"
profile = "{profile}"
with = {{ {with} }}

[reauth.login]
login = true
with = {{ {login} }}

[token.app]
server = "real"
file = "$DIR/app.token"
reauth = "login"
revoke_on_shutdown = true
"#,
        server.url()
    ));
    stage.write("secret", secret);
    let daemon = stage.start();
    takes(&daemon, seconds(20), "a login opens a session", || is_alive(&daemon, TOKEN)).await;
    let value = stage.read("app.token");
    assert_eq!(server.is_alive(value.trim()).await, Some(true));
    let lines = daemon.stop().await.lines;
    assert_eq!(server.is_alive(value.trim()).await, Some(false), "{}", story(&lines));
    let revoked = lines.iter().find(|line| line.is("token_revoked", TOKEN));
    assert_eq!(revoked.map(|line| line.text("level")), Some("info"), "{}", story(&lines));
    assert_eq!(count(&lines, "reauth_succeeded"), 1, "{}", story(&lines));
    // Zabbix' first password is its name.
    let secrets = [value.trim(), secret];
    assert_secret(&lines, secrets.into_iter().filter(|secret| *secret != profile));
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn login_opens_an_openbao_token_and_a_stop_revokes_it() {
    let server = OpenBao::start().await;
    let login =
        format!("role_id = \"{}\", secret_id = {{ file = \"$DIR/secret\" }}", server.role_id);
    opens_and_ends(&server, ("vault", ""), &login, &server.secret_id).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn login_grants_an_etcd_lease_and_a_stop_revokes_it() {
    let server = Etcd::start().await;
    opens_and_ends(&server, ("etcd-lease", ""), "ttl = \"10\"", "not used").await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn login_gets_an_oidc_access_token_and_a_stop_revokes_it() {
    let server = Oidc::start().await;
    let (name, secret) = CLIENT;
    let with = format!("client_id = \"{name}\", client_secret = {{ file = \"$DIR/secret\" }}");
    opens_and_ends(&server, ("oauth2", &with), "", secret).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn login_opens_a_zabbix_session_and_a_stop_logs_out() {
    let server = Zabbix::start().await;
    let (user, password) = USER;
    let login = format!("user = \"{user}\", password = {{ file = \"$DIR/secret\" }}");
    opens_and_ends(&server, ("zabbix", ""), &login, password).await;
}
