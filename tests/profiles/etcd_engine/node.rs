//! Nodes of etcd for the engine, which can be stopped, killed, encrypted and restored.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenkeep::clock;
use tokenkeep::cluster::etcd::{Access, Etcd};
use tokenkeep::settings::{Cluster, KeySource};
use tokio::process::{Child, Command};

use crate::support::tls::Pair;
use crate::support::{PATIENCE, free_port, millis, seconds};

/// Where the keys of the tests are.
pub(crate) const PREFIX: &str = "/tokenkeep/test";

/// Some nodes of one etcd cluster.
pub(crate) struct Nodes {
    all: Vec<Node>,
    http: reqwest::Client,
    scheme: &'static str,
    pub(crate) folder: TempDir,
}

struct Node {
    child: Option<Child>,
    client: u16,
    arguments: Vec<String>,
    data: PathBuf,
}

impl Nodes {
    /// Starts this many nodes.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, None).await
    }

    /// The same, encrypted with a certificate if there is one.
    pub(crate) async fn start_with(count: usize, tls: Option<&Pair>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let peers: Vec<_> = (0..count).map(|_| free_port()).collect();
        let initial: Vec<_> =
            peers.iter().map(|port| format!("n{port}=http://127.0.0.1:{port}")).collect();
        let nodes = peers.iter().map(|peer| {
            let client = free_port();
            let (url, peer_url) =
                (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
            let mut arguments: Vec<String> = [
                "--name",
                &format!("n{peer}"),
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
                "--initial-cluster",
                &initial.join(","),
                "--log-outputs",
                "stderr",
            ]
            .map(str::to_owned)
            .into();
            if let Some(Pair { cert, key }) = tls {
                for (option, text) in [("--cert-file", cert), ("--key-file", key)] {
                    let path = folder.path().join(&option[2..]);
                    std::fs::write(&path, text).expect("a file");
                    arguments.extend([option.to_owned(), path.display().to_string()]);
                }
            }
            let data = folder.path().join(format!("data-{peer}"));
            let mut node = Node { child: None, client, arguments, data };
            node.start();
            node
        });
        let nodes: Vec<_> = nodes.collect();
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let http = http.tls_danger_accept_invalid_certs(true).timeout(seconds(5));
        let mut nodes = Self { all: nodes, http: http.build().expect("a client"), scheme, folder };
        nodes.healthy().await;
        nodes
    }

    /// Waits until each node serves.
    pub(crate) async fn healthy(&mut self) {
        for node in 0..self.all.len() {
            let deadline = clock::now() + PATIENCE;
            let url = self.url(node) + "/health";
            loop {
                let sent = self.http.get(&url).send().await;
                let healthy = match sent {
                    Ok(response) => response.text().await.unwrap_or_default().contains("true"),
                    Err(_) => false,
                };
                if healthy {
                    break;
                }
                assert!(clock::now() < deadline, "etcd does not start");
                tokio::time::sleep(millis(20)).await;
            }
        }
    }

    pub(crate) fn url(&self, node: usize) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.all[node].client)
    }

    /// What a configuration says about these nodes.
    pub(crate) fn settings(&self, name: &str) -> Cluster {
        Cluster {
            etcd: (0..self.all.len()).map(|at| self.url(at).parse().expect("a URL")).collect(),
            name: name.to_owned(),
            prefix: PREFIX.to_owned(),
            user: None,
            ca_file: None,
            client_certificate: None,
            key: KeySource::File("/nonexistent".into()),
            old_key: None,
            failover: seconds(3),
        }
    }

    /// An engine without a user.
    pub(crate) fn engine(&self, name: &str) -> Arc<Etcd> {
        engine(&self.settings(name))
    }

    /// The settings of a user with this password.
    pub(crate) fn settings_of(&self, user: &str, password: &str) -> Cluster {
        let path = self.folder.path().join("password");
        std::fs::write(&path, password).expect("a file");
        let user = Some((user.to_owned(), KeySource::File(path)));
        Cluster { user, ..self.settings("keeper-a") }
    }

    /// Sends a request to the first node, as `token` if there is one.
    pub(crate) async fn post(&self, path: &str, body: Value, token: Option<&str>) -> Value {
        let mut request = self.http.post(self.url(0) + path).body(body.to_string());
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        let response = request.send().await.expect("a response");
        let text = response.text().await.expect("a body");
        assert!(!text.contains("\"error\""), "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Creates `root`, and the user `keeper` with the password `S3CR3T` and rights below `prefix`.
    pub(crate) async fn create_users(&self, prefix: &str) {
        let (key, end) =
            (STANDARD.encode(format!("{prefix}/")), STANDARD.encode(format!("{prefix}0")));
        let permission = json!({ "permType": "READWRITE", "key": key, "range_end": end });
        for (path, body) in [
            ("/v3/auth/user/add", json!({ "name": "root", "password": "root" })),
            ("/v3/auth/role/add", json!({ "name": "root" })),
            ("/v3/auth/user/grant", json!({ "user": "root", "role": "root" })),
            ("/v3/auth/user/add", json!({ "name": "keeper", "password": "S3CR3T" })),
            ("/v3/auth/role/add", json!({ "name": "keeper" })),
            ("/v3/auth/role/grant", json!({ "name": "keeper", "perm": permission })),
            ("/v3/auth/user/grant", json!({ "user": "keeper", "role": "keeper" })),
            ("/v3/auth/enable", json!({})),
        ] {
            self.post(path, body, None).await;
        }
    }

    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        let pid = self.all[node].child.as_ref().and_then(Child::id).expect("it runs");
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it runs");
    }

    pub(crate) async fn kill(&mut self, node: usize) {
        let mut child = self.all[node].child.take().expect("it runs");
        child.kill().await.expect("it runs");
    }

    /// Starts a killed node.
    pub(crate) async fn restart(&mut self, node: usize) {
        self.all[node].start();
        self.healthy().await;
    }

    /// Deletes the data of a killed node.
    pub(crate) fn erase(&self, node: usize) {
        std::fs::remove_dir_all(&self.all[node].data).expect("a folder");
    }
}

impl Node {
    fn start(&mut self) {
        let servers = std::env::var_os("TOKENKEEP_SERVERS").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers")),
            PathBuf::from,
        );
        let program = servers.join("etcd/etcd");
        assert!(program.exists(), "tests/profiles/install installs etcd");
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(&self.data).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.kill_on_drop(true).spawn().expect("etcd starts"));
    }
}

/// An engine with these settings.
pub(crate) fn engine(settings: &Cluster) -> Arc<Etcd> {
    let access = Access::open(settings, &|name| std::env::var_os(name)).expect("usable settings");
    Arc::new(Etcd::new(access))
}
