//! `doctor` of a replica, on real nodes of etcd.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::etcd_engine::node::{Nodes, PREFIX};
use crate::support::Stage;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A replica, with `more` in its `[cluster]`.
fn stage(nodes: &Nodes, more: &str) -> Stage {
    let endpoints: Vec<_> = (0..2).map(|node| format!("{:?}", nodes.url(node))).collect();
    let stage = Stage::new(&format!(
        "[cluster]\netcd = [{}]\nname = \"keeper-a\"\nkey = {{ file = \"$DIR/key\" }}\n{more}\n",
        endpoints.join(", ")
    ));
    fs::write(stage.path("key"), KEY).expect("written");
    fs::write(stage.path("right"), "S3CR3T").expect("written");
    fs::write(stage.path("wrong"), "S3CR3T-2").expect("written");
    stage
}

async fn doctor(nodes: &Nodes, more: &str) -> (Option<i32>, String) {
    let output = stage(nodes, more).command("doctor").output().await.expect("it starts");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    assert!(!text.contains("S3CR3T") && !text.contains(&KEY[..8]), "a secret in:\n{text}");
    (output.status.code(), text)
}

async fn assert_error(nodes: &Nodes, more: &str, wanted: &str) {
    let (status, said) = doctor(nodes, more).await;
    assert_eq!(status, Some(2), "{said}");
    let is_error = |line: &str| line.starts_with("error: ") && line.contains(wanted);
    assert!(said.lines().any(is_error), "{wanted}\n{said}");
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn doctor_finds_what_keeps_a_replica_from_using_etcd_and_writes_nothing() {
    let mut nodes = Nodes::start(2).await;
    let prefix = format!("prefix = {PREFIX:?}\n");
    let (status, said) = doctor(&nodes, &prefix).await;
    assert_eq!(status, Some(1), "only that there are no tokens: {said}");
    for wanted in [" responds", "/ is empty; the first replica", "/ can be read and written"] {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }

    nodes.create_users(PREFIX).await;
    let root = json!({ "name": "root", "password": "root" });
    let token = nodes.post("/v3/auth/authenticate", root, None).await;
    let token = token["token"].as_str().expect("a token").to_owned();
    let [key, end] = ["/", "0"].map(|end| STANDARD.encode(format!("{PREFIX}{end}")));
    let permission = json!({ "permType": "READ", "key": key, "range_end": end });
    for (path, body) in [
        ("/v3/auth/user/add", json!({ "name": "reader", "password": "S3CR3T" })),
        ("/v3/auth/role/add", json!({ "name": "reader" })),
        ("/v3/auth/role/grant", json!({ "name": "reader", "perm": permission })),
        ("/v3/auth/user/grant", json!({ "user": "reader", "role": "reader" })),
    ] {
        nodes.post(path, body, Some(&token)).await;
    }
    let user = |name: &str, password: &str| {
        format!("user = {name:?}\npassword = {{ file = \"$DIR/{password}\" }}\n")
    };
    let keeper = user("keeper", "right");
    assert_error(&nodes, &prefix, "set `user` and `password`").await;
    assert_error(&nodes, &(user("keeper", "wrong") + &prefix), "the user keeper with its").await;
    assert_error(&nodes, &keeper, "the user keeper of etcd may not read").await;
    assert_error(&nodes, &(user("reader", "right") + &prefix), "cannot write to etcd").await;
    let (status, said) = doctor(&nodes, &(keeper.clone() + &prefix)).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&format!("keeper may read and write {PREFIX}/")), "{said}");

    let count = json!({ "key": "AA==", "range_end": "AA==", "count_only": true });
    let after = nodes.post("/v3/kv/range", count, Some(&token)).await;
    assert_eq!(after["header"]["revision"], "1", "nothing was written: {after}");

    // With one of two nodes there is no quorum, which that node may have noticed or not.
    nodes.kill(1).await;
    let (status, said) = doctor(&nodes, &(keeper + &prefix)).await;
    let is_named = ["check its nodes with", "the quorum is lost"].map(|it| said.contains(it));
    assert!(status == Some(2) && is_named.contains(&true), "{said}");
}
