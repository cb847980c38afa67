//! What `contrib` holds for Prometheus and Grafana, against the metrics that there are.

use std::collections::BTreeSet;

use tokio::net::UnixStream;

use crate::support::{
    Stage, prints_new, read, seconds, secret, server_table, simulator, token_table,
};

const ALERTS: &str = include_str!("../../contrib/prometheus/alerts.yml");
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

#[tokio::test]
async fn alerts_and_dashboard_use_existing_metrics_only() {
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
    let socket = UnixStream::connect(stage.path("control.sock")).await.expect("a socket");
    let page = read(socket, "GET", "/metrics", "").await.body;
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let there: BTreeSet<_> = types.filter_map(|line| line.split(' ').next()).collect();
    for (file, text) in [("alerts.yml", ALERTS), ("dashboard.json", DASHBOARD)] {
        let unknown: Vec<_> = named(text).difference(&there).copied().collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, of {there:?}");
    }
    daemon.stop().await;
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
