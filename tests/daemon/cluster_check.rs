//! `check-config` and `doctor` of a replica.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use tokio::time::timeout;

use crate::support::{PATIENCE, Stage, free_port};

/// Keys in Base64: 32 bytes each.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

const CLUSTER: &str = r#"
[cluster]
etcd = ["https://10.0.0.1:2379"]
name = "keeper-a"
key = { file = "$DIR/key" }
old_key = { file = "$DIR/old-key" }
[server.sarus]
url = "https://api.example.net"
rate_limit = 50
[reauth.relogin]
command = ["/bin/true"]
timeout = "50s"
[inventory.many]
server = "sarus"
file = "$DIR/many"
reauth = "relogin"
"#;

/// A replica with 2,000 tokens and these keys.
fn replica(key: &str, old_key: &str) -> Stage {
    let stage = Stage::new(CLUSTER);
    let line = |n| format!("{{\"name\":\"t{n}\",\"token\":\"v{n}\"}}\n");
    let many = (0..2_000).map(line).collect::<Vec<_>>().concat();
    for (name, content) in [("key", key), ("old-key", old_key), ("many", &many)] {
        fs::write(stage.path(name), content).expect("written");
        fs::set_permissions(stage.path(name), Permissions::from_mode(0o600)).expect("permitted");
    }
    stage
}

/// The exit status, standard output and standard error. No key is ever in it.
async fn run(stage: &Stage, arguments: &[&str]) -> (i32, String, String) {
    let mut command = stage.command(arguments[0]);
    command.args(&arguments[1..]);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    for key in [KEY, OTHER_KEY] {
        assert!(!out.contains(&key[..8]) && !err.contains(&key[..8]), "a key in:\n{out}{err}");
    }
    (output.status.code().expect("a status"), out, err)
}

#[tokio::test]
async fn check_config_says_with_which_life_the_rate_limit_suffices_for_a_take_over() {
    let (status, out, err) = run(&replica(KEY, OTHER_KEY), &["check-config"]).await;
    assert_eq!(status, 0, "{err}");
    for wanted in [
        "cluster: this is replica keeper-a; 1 endpoint of etcd, prefix /tokenkeep; a replica that \
         is silent for 10 s loses its tokens to the others",
        "server sarus: rate_limit = 50 is enough for a take-over if tokens live at least 2 min 4 s \
         with 2 replicas, 1 min 44 s with 3 or more",
        "if a replica dies while it logs in, another one logs in 1 min 30 s later",
    ] {
        assert!(out.contains(wanted), "{wanted}\n{out}");
    }
}

#[tokio::test]
async fn check_config_says_nothing_of_take_overs_without_a_cluster() {
    let stage = replica(KEY, OTHER_KEY);
    let text = fs::read_to_string(stage.path("tokenkeep.toml")).expect("readable");
    let alone = text.find("[server.").expect("a server");
    fs::write(stage.path("tokenkeep.toml"), &text[alone..]).expect("written");
    let (status, out, _) = run(&stage, &["check-config"]).await;
    assert_eq!(status, 0);
    assert!(!out.contains("take-over") && !out.contains("replica"), "{out}");
}

#[tokio::test]
async fn key_that_cannot_be_used_is_an_error_of_the_configuration() {
    for (key, old_key, wanted) in [
        ("not Base64!", OTHER_KEY, "`cluster.key`: it is not a key"),
        ("c2hvcnQ=", OTHER_KEY, "`cluster.key`: it is not a key"),
        (KEY, "c2hvcnQ=", "`cluster.old_key`: it is not a key"),
        (KEY, KEY, "`old_key` is the same key as `key`"),
    ] {
        let stage = replica(key, old_key);
        let (status, out, err) = run(&stage, &["check-config"]).await;
        assert_eq!(status, 78, "{out}{err}");
        assert!(err.contains(wanted), "{wanted}\n{err}");
        let (status, out, _) = run(&stage, &["doctor", "--offline"]).await;
        assert_eq!(status, 2, "{out}");
        assert!(out.contains(wanted), "{wanted}\n{out}");
    }
}

#[tokio::test]
async fn key_that_is_missing_or_readable_by_all_is_a_warning() {
    let stage = replica(KEY, OTHER_KEY);
    fs::remove_file(stage.path("old-key")).expect("removed");
    fs::set_permissions(stage.path("key"), Permissions::from_mode(0o644)).expect("permitted");
    let (status, _, err) = run(&stage, &["check-config"]).await;
    assert_eq!(status, 0, "{err}");
    for wanted in ["`cluster.old_key`, ", "there is no such file", "`cluster.key`, ", "chmod 600"] {
        assert!(err.contains(wanted), "{wanted}\n{err}");
    }
    let (status, out, _) = run(&stage, &["doctor", "--offline"]).await;
    assert_eq!(status, 2, "the daemon cannot start without it: {out}");
}

#[tokio::test]
async fn assumed_life_without_room_for_a_take_over_is_a_warning() {
    let stage = replica(KEY, OTHER_KEY);
    let path = stage.path("tokenkeep.toml");
    let text = fs::read_to_string(&path).expect("readable");
    let profile = "[profile.desk]\nassume = \"2m\"\nquery = { request = \"GET x\", headers = { A = \
                   \"{token}\" }, alive = { at = \"ok\", is = true } }\n[reauth.";
    let text = text
        .replace("rate_limit = 50", "rate_limit = 50\nprofile = \"desk\"")
        .replacen("[reauth.", profile, 1);
    fs::write(&path, text).expect("written");
    let (status, _, err) = run(&stage, &["check-config"]).await;
    assert_eq!(status, 0, "{err}");
    let wanted = "`server.sarus.rate_limit` = 50 has no room for a take-over: 2000 tokens with an \
                  assumed life of 2 min need 52 requests a second with 2 replicas, 44 with 3 or more";
    assert!(err.contains(wanted), "{err}");
}

#[tokio::test]
async fn doctor_reports_each_endpoint_that_does_not_respond() {
    let ports = [free_port(), free_port()];
    let stage = replica(KEY, OTHER_KEY);
    let path = stage.path("tokenkeep.toml");
    let text = fs::read_to_string(&path).expect("readable");
    let endpoints = ports.map(|port| format!("\"http://127.0.0.1:{port}\"")).join(", ");
    fs::write(&path, text.replace("\"https://10.0.0.1:2379\"", &endpoints)).expect("written");
    let (status, out, _) = run(&stage, &["doctor"]).await;
    assert_eq!(status, 2, "{out}");
    for port in ports {
        let wanted = format!("error: [cluster] etcd at 127.0.0.1:{port} cannot be used: ");
        assert!(out.contains(&wanted), "{wanted}\n{out}");
    }
    let (_, out, _) = run(&stage, &["doctor", "--offline"]).await;
    assert!(!out.contains("etcd at"), "{out}");
}

#[tokio::test]
async fn key_that_cannot_be_used_rejects_a_reload_and_a_start() {
    let stage = replica(KEY, OTHER_KEY);
    let path = stage.path("tokenkeep.toml");
    let text = fs::read_to_string(&path).expect("readable");
    let endpoint = format!("\"http://127.0.0.1:{}\"", free_port());
    fs::write(&path, text.replace("\"https://10.0.0.1:2379\"", &endpoint)).expect("written");
    fs::write(stage.path("many"), "").expect("written");
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    fs::write(stage.path("key"), "c2hvcnQ=").expect("written");
    daemon.signal(Signal::HUP);
    let rejected = daemon.event("config_rejected", "").await;
    assert!(rejected.text("error").contains("`key` of [cluster]: it is not a key"), "{rejected:?}");
    fs::write(stage.path("key"), KEY).expect("written");
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.stop().await;
    fs::write(stage.path("key"), OTHER_KEY).expect("written");
    let (status, out, err) = run(&stage, &["run"]).await;
    assert_eq!(status, 78, "{out}{err}");
    assert!(err.contains("[cluster]: `old_key` is the same key as `key`"), "{err}");
}
