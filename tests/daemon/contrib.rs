//! What `contrib` and docs/monitoring.md have for Prometheus and Grafana, against the metrics that
//! there are.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tokio::net::UnixStream;

use crate::support::{
    Stage, free_port, prints_new, read, seconds, secret, server_table, simulator, token_table,
};

const ALERTS: &str = include_str!("../../contrib/prometheus/alerts.yml");
const MONITORING: &str = include_str!("../../docs/monitoring.md");
const DASHBOARD: &str = include_str!("../../contrib/grafana/dashboard.json");

/// The metrics that a text names, without what a histogram adds to its name.
fn named(text: &str) -> BTreeSet<&str> {
    let starts = text.match_indices("tokenkeep_").map(|(start, _)| &text[start..]);
    let names = starts.map(|rest| {
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let name = &rest[..end];
        let suffix = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        suffix.unwrap_or(name)
    });
    names.collect()
}

/// The queries of docs/monitoring.md.
fn queries() -> Vec<&'static str> {
    let blocks = MONITORING.split("```promql\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("an end").trim()).collect()
}

#[tokio::test]
async fn alerts_queries_and_dashboard_use_existing_metrics_only() {
    let server = simulator().await;
    let token = token_table("quotes", "sarus", "metrics = true\nreauth = \"relogin\"");
    let commands = "[reauth.relogin]\ncommand = [\"$DIR/hook\"]\n\
                    [notify.app]\ncommand = [\"/bin/true\"]\n";
    let stage = Stage::new(&(server_table("sarus", &server, "") + commands + &token));
    server.add_token(&stage.token("quotes"), seconds(0));
    server.add_token(&secret("new"), seconds(3_600));
    stage.script("hook", &prints_new());
    let daemon = stage.start();
    // What nothing was counted of is left out: something of each kind has to have happened.
    daemon.event("reauth_succeeded", "quotes").await;
    let replica = replica_without_etcd();
    let other_daemon = replica.start();
    other_daemon.event("cluster_unreachable", "").await;
    let pages = [exported(&stage).await, exported(&replica).await];
    let there: BTreeSet<_> = pages.iter().flatten().map(String::as_str).collect();
    let queries = queries().join("\n");
    let texts =
        [("alerts.yml", ALERTS), ("dashboard.json", DASHBOARD), ("monitoring.md", &queries)];
    for (file, text) in texts {
        let unknown: Vec<_> = named(text).difference(&there).copied().collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, of {there:?}");
    }
    let of_cluster: Vec<_> = there.iter().filter(|name| name.contains("cluster")).collect();
    assert_eq!(of_cluster.len(), 3, "{of_cluster:?}");
    daemon.stop().await;
    other_daemon.stop().await;
}

/// The metrics of a replica exist from the start, whether etcd can be used or not.
fn replica_without_etcd() -> Stage {
    let stage = Stage::new(&format!(
        "[cluster]\netcd = [\"http://127.0.0.1:{}\"]\nname = \"keeper-a\"\nfailover = \"3s\"\n\
         key = {{ file = \"$DIR/key\" }}\n",
        free_port()
    ));
    let key = stage.path("key");
    fs::write(&key, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").expect("written");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("permitted");
    stage
}

/// The names of the metrics that a daemon exports.
async fn exported(stage: &Stage) -> Vec<String> {
    let socket = UnixStream::connect(stage.path("control.sock")).await.expect("a socket");
    let page = read(socket, "GET", "/metrics", "").await.body;
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn dashboard_panels_use_the_selected_data_source() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(!panels.is_empty());
    for panel in panels {
        assert_eq!(panel["datasource"]["uid"], "${source}", "{}", panel["title"]);
    }
}

#[test]
fn each_alert_is_explained_with_its_severity() {
    let rules = ALERTS.split("- alert: ").skip(1).map(|rule| {
        let severity = rule.split("severity: ").nth(1).and_then(|rest| rest.lines().next());
        (rule.lines().next().expect("a name"), severity.expect("a severity"))
    });
    let explained = MONITORING.lines().filter(|line| line.starts_with("| Tokenkeep"));
    let explained = explained.map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        (cells[1], cells[2])
    });
    assert_eq!(explained.collect::<BTreeSet<_>>(), rules.collect::<BTreeSet<_>>());
}

#[test]
fn promtool_accepts_the_queries_of_the_monitoring_page() {
    let queries = queries();
    assert_eq!(queries.len(), 5);
    let rule = |query: &&str| {
        let indented = query.replace('\n', "\n        ");
        format!("  - record: x\n    expr: |\n        {indented}\n")
    };
    let rules: String = queries.iter().map(rule).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rules.yml");
    fs::write(&path, format!("groups:\n- name: x\n  rules:\n{rules}")).expect("room");
    let Ok(output) = Command::new("promtool").args(["check", "rules"]).arg(path).output() else {
        return eprintln!("skipped: promtool is not installed (Debian: prometheus)");
    };
    assert!(output.status.success(), "{output:?}");
}
