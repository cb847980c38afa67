//! What clients see of a replica that cannot use etcd, and of a daemon without a cluster.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use tokenkeep::simulator::Simulator;
use tokio::time::timeout;

use crate::support::{
    Daemon, PATIENCE, Stage, free_port, get, post, seconds, server_table, simulator, token_table,
};

/// A replica whose etcd does not exist, with an alive token.
async fn replica() -> (Simulator, Stage, Daemon) {
    let server = simulator().await;
    let cluster = format!(
        "[cluster]\netcd = [\"http://127.0.0.1:{}\"]\nname = \"keeper-a\"\nfailover = \"3s\"\n\
         key = {{ file = \"$DIR/key\" }}\n[reauth.apikey]\napi_key_file = \"$DIR/apikey\"\n",
        free_port()
    );
    let token = token_table("quotes", "sarus", "reauth = \"apikey\"");
    let stage = Stage::new(&(cluster + &server_table("sarus", &server, "") + &token));
    for (name, content) in
        [("key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="), ("apikey", "KEY-abcdefgh")]
    {
        fs::write(stage.path(name), content).expect("written");
        fs::set_permissions(stage.path(name), Permissions::from_mode(0o600)).expect("permitted");
    }
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("cluster_unreachable", "").await;
    daemon.event("token_checked", "quotes").await;
    (server, stage, daemon)
}

/// The exit status, and what the command prints.
async fn run(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let mut command = stage.command(arguments[0]);
    command.args(&arguments[1..]);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code().expect("a status"), out + &err)
}

#[tokio::test]
async fn replica_without_etcd_says_since_when_and_why_in_each_response() {
    let (_server, stage, daemon) = replica().await;
    for path in ["/v1/tokens", "/v1/health", "/v1/cluster"] {
        let page = get(&stage, path).await.json();
        let cluster = page.get("cluster").unwrap_or(&page);
        assert_eq!(cluster["name"], "keeper-a", "{page}");
        assert_eq!(cluster["members"][0], "keeper-a");
        assert_eq!(cluster["reachable"], false);
        assert_eq!([&cluster["asked"], &cluster["elsewhere"]], [1, 0]);
        assert!(cluster["error"].as_str().is_some_and(|error| error.contains("127.0.0.1")));
        assert!(cluster["unreachable_since"].is_string());
    }
    let detail = get(&stage, "/v1/cluster").await.json();
    assert!(detail["endpoints"][0]["error"].is_string(), "{detail}");
    let page = get(&stage, "/v1/tokens").await.json();
    assert_eq!(page["counts"]["elsewhere"], 0);
    let (status, shown) = run(&stage, &["status"]).await;
    assert_eq!(status, 0, "{shown}");
    assert!(shown.starts_with("etcd cannot be used since "), "{shown}");
    let line = "cluster: keeper-a; etcd cannot be used since ";
    assert!(shown.lines().any(|known| known.starts_with(line)), "{shown}");
    assert!(shown.contains("1 of 1 token asked here (keeper-a)"), "{shown}");
    let (status, shown) = run(&stage, &["status", "--monitor"]).await;
    assert_eq!(status, 1, "{shown}");
    assert!(shown.starts_with("TOKENKEEP WARNING - 1 token: 1 alive; etcd cannot"), "{shown}");
    daemon.stop().await;
}

#[tokio::test]
async fn commands_that_need_etcd_are_refused_with_69_and_checks_are_not() {
    let (_server, stage, daemon) = replica().await;
    for path in ["tokens/quotes/pause", "tokens/quotes/reauth", "cluster/rekey"] {
        let answer = post(&stage, &format!("/v1/{path}")).await;
        assert_eq!((answer.status, &*answer.problem()), (503, "unavailable"), "{path}");
    }
    for arguments in [
        &["pause", "quotes"][..],
        &["resume", "quotes"],
        &["reauth", "quotes"],
        &["revoke", "quotes"],
        &["cluster", "rekey"],
    ] {
        let (status, shown) = run(&stage, arguments).await;
        assert_eq!(status, 69, "{arguments:?}: {shown}");
        assert!(shown.contains(" needs etcd, which cannot be used: "), "{shown}");
    }
    let (status, shown) = run(&stage, &["cluster", "status"]).await;
    assert_eq!(status, 69, "{shown}");
    assert!(shown.contains("replica     keeper-a: checks 1 token"), "{shown}");
    let (status, shown) = run(&stage, &["check", "quotes"]).await;
    assert_eq!(status, 0, "{shown}");
    daemon.stop().await;
}

#[tokio::test]
async fn daemon_without_a_cluster_shows_nothing_of_one() {
    let server = simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    for path in ["/v1/tokens", "/v1/health", "/v1/tokens/quotes", "/metrics"] {
        let body = get(&stage, path).await.body;
        for word in ["cluster", "replica", "elsewhere", "claim"] {
            assert!(!body.contains(word), "{path}: {body}");
        }
    }
    assert_eq!(get(&stage, "/v1/cluster").await.status, 404);
    assert_eq!(post(&stage, "/v1/cluster/rekey").await.status, 404);
    for command in ["status", "rekey"] {
        let (status, shown) = run(&stage, &["cluster", command]).await;
        assert_eq!(status, 1, "{shown}");
        assert!(shown.contains("this daemon is not in a cluster"), "{shown}");
    }
    daemon.stop().await;
}
