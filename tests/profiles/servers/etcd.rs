//! etcd: a value is the number of a lease of 10 s.

use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::process::{Process, folder};
use super::{Http, Server, installed, text};
use crate::support::free_port;

/// The shortest life that etcd does not prolong by itself is its election time-out of about 2 s.
const LEASE_SECONDS: u32 = 10;

/// A running server.
pub(crate) struct Etcd {
    http: Http,
    port: u16,
    process: Process,
    _folder: TempDir,
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        let (folder, port) = (folder(), free_port());
        let (program, data) = (installed("etcd").join("etcd"), folder.path().join("data"));
        let process = Process::start(&folder.path().join("log"), move || {
            let url = format!("http://127.0.0.1:{port}");
            let mut command = Command::new(&program);
            command.arg("--data-dir").arg(&data);
            command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
            command.args(["--listen-peer-urls", "http://127.0.0.1:0", "--log-outputs", "stderr"]);
            command
        });
        let mut server = Self { http: Http::new(), port, process, _folder: folder };
        server.serves().await;
        server
    }

    async fn serves(&mut self) {
        let url = self.url() + "/health";
        let Self { http, process, .. } = self;
        let healthy = async || {
            let reply = http.send(&url, &[], None).await;
            reply.is_some_and(|reply| reply.json["health"] == "true")
        };
        process.until(healthy).await;
    }

    /// A new lease.
    pub(crate) async fn grant(&self) -> String {
        let body = json!({ "TTL": LEASE_SECONDS }).to_string();
        let url = self.url() + "/v3/lease/grant";
        text(&self.http.must(&url, &[], Some(body)).await.json, "/ID")
    }
}

impl Server for Etcd {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn is_alive(&self, value: &str) -> Option<bool> {
        let url = self.url() + "/v3/lease/timetolive";
        let reply = self.http.send(&url, &[], Some(json!({ "ID": value }).to_string())).await?;
        Some(reply.json["TTL"].as_str()? != "-1")
    }

    async fn restart(&mut self) {
        self.process.restart().await;
        self.serves().await;
    }
}
