//! `probe --profile` with each built-in profile on a real server.

use tokio::process::Command;

use crate::servers::{CLIENT, Etcd, Oidc, OpenBao, Server, USER, Zabbix};
use crate::support::Stage;

const ALIVE: i32 = 0;
const DEAD: i32 = 1;

/// Probes a value, and returns the exit status and all output. `with` are parameters of the profile;
/// each is read from a file.
async fn probe(
    server: &impl Server,
    profile: &str,
    with: &[(&str, &str)],
    value: &str,
) -> (i32, String) {
    let stage = Stage::new("");
    let file = stage.write("value", value);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.args(["probe", "--profile", profile, "--url", &server.url(), "--token-file"]).arg(file);
    for (name, content) in with {
        let path = stage.write(name, content);
        command.arg("--with").arg(format!("{name}=@{}", path.display()));
    }
    let output = command.kill_on_drop(true).output().await.expect("it starts");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    assert!(!text.contains(value), "the value is printed: {text}");
    (output.status.code().expect("a status"), text)
}

/// Fails unless a probe tells the alive value from an unknown one.
async fn tells(
    server: &impl Server,
    profile: &str,
    with: &[(&str, &str)],
    alive: &str,
    unknown: &str,
) {
    let (status, text) = probe(server, profile, with, alive).await;
    assert_eq!(status, ALIVE, "{text}");
    assert!(text.lines().any(|line| line.starts_with("alive: ")), "{text}");
    let (status, text) = probe(server, profile, with, unknown).await;
    assert_eq!(status, DEAD, "{text}");
    let dead = |line: &str| line.starts_with("rejected: ") || line.starts_with("expired: ");
    assert!(text.lines().any(dead), "{text}");
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn probe_tells_an_alive_token_of_openbao_from_an_unknown_one() {
    let server = OpenBao::start().await;
    tells(&server, "vault", &[], &server.log_in().await, "s.unknown").await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn probe_of_an_openbao_token_whose_policy_forbids_the_query_is_not_a_death() {
    let server = OpenBao::start().await;
    let (status, text) = probe(&server, "vault", &[], &server.forbidden().await).await;
    assert!(![ALIVE, DEAD].contains(&status), "{status}: {text}");
    assert!(text.contains("403"), "{text}");
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn probe_tells_an_alive_lease_of_etcd_from_an_unknown_one() {
    let server = Etcd::start().await;
    tells(&server, "etcd-lease", &[], &server.grant().await, "471147114711").await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn probe_tells_an_alive_access_token_of_oidc_from_an_unknown_one() {
    let server = Oidc::start().await;
    let (name, secret) = CLIENT;
    let with = [("client_id", name), ("client_secret", secret)];
    let pair = server.refresh(&server.first().await).await.expect("a new family");
    tells(&server, "oauth2", &with, &pair.access, "unknown-token").await;

    let with = [("client_id", name), ("client_secret", "wrong")];
    let (status, text) = probe(&server, "oauth2", &with, &pair.access).await;
    assert!(![ALIVE, DEAD].contains(&status), "{status}: {text}");
    assert!(text.contains("client authentication failed"), "{text}");
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn probe_tells_an_alive_session_of_zabbix_from_an_unknown_one() {
    let server = Zabbix::start().await;
    let (user, password) = USER;
    let with = [("user", user), ("password", password)];
    tells(&server, "zabbix", &with, &server.log_in().await, "unknown-session").await;
}
