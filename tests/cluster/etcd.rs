//! A real etcd cluster: its nodes, and a client of the tests.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{DistinguishedName, DnType, ExtendedKeyUsagePurpose};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenkeep::clock;
use tokio::process::Command;

use crate::network::{Cut, address, join_pair};
use crate::servers::installed;
use crate::servers::process::{Process, folder};
use crate::support::tls::{Authority, Pair};
use crate::support::{PATIENCE, millis, seconds};

/// The users: the tests' own, and the replicas'.
pub(crate) const ROOT: (&str, &str) = ("root", "root-S3CR3T");
pub(crate) const KEEPER: (&str, &str) = ("keeper", "keeper-S3CR3T");

/// The replicas' prefix.
pub(crate) const PREFIX: &str = "/tokenkeep/test";

/// Another address of the first node. Its certificate does not name it.
pub(crate) const UNCERTIFIED: &str = "127.0.9.1";

/// The time for one request to one node.
const REQUEST: Duration = seconds(5);

/// What clients of a node must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Plain HTTP, and a user.
    Password,
    /// TLS, and a user.
    TlsPassword,
    /// TLS with a client certificate, and a user.
    CertificatePassword,
    /// TLS with a client certificate. etcd has no users.
    Certificate,
}

/// A running cluster. Its nodes are killed when this is dropped.
pub(crate) struct Etcd {
    access: Access,
    /// The authority of the nodes, which the nodes and the replicas trust.
    pub(crate) authority: Authority,
    nodes: Vec<Process>,
    /// The port for clients, and the one for the other nodes; the same at each node.
    ports: (u16, u16),
    http: reqwest::Client,
    token: std::sync::Mutex<String>,
    folder: TempDir,
}

impl Etcd {
    /// Starts this many nodes. If they have users, [`KEEPER`] has all rights below [`PREFIX`]. Their
    /// certificates may be used for `usages`.
    pub(crate) async fn start(
        nodes: usize,
        access: Access,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Self {
        let (folder, ports) = (folder(), (free_port(nodes), free_port(nodes)));
        let authority = Authority::new("etcd");
        for node in (0..nodes).filter(|_| access != Access::Password) {
            let pair = authority.issue_with(&[&address(node)], |params| {
                params.distinguished_name.push(DnType::CommonName, format!("node-{node}"));
                params.extended_key_usages = usages.to_vec();
            });
            write_pair(folder.path(), &format!("node-{node}"), &pair);
        }
        std::fs::write(folder.path().join("trusted.pem"), authority.pem()).expect("written");
        let http = client(&authority, access).pool_max_idle_per_host(0).timeout(REQUEST);
        let http = http.build().expect("a client");
        let started = (0..nodes).map(|node| {
            let (log, data) = paths(&folder, node);
            Process::start(&log, move || command(node, nodes, ports, access, &data))
        });
        let nodes = started.collect();
        let token = std::sync::Mutex::default();
        let mut etcd = Self { access, authority, nodes, ports, http, token, folder };
        etcd.healthy().await;
        etcd.set_up_users().await;
        etcd
    }

    /// What clients must have.
    pub(crate) const fn access(&self) -> Access {
        self.access
    }

    /// Trusts client certificates of these authorities, besides its own one. Restarts all nodes.
    pub(crate) async fn trust(&mut self, others: &[&Authority]) {
        let others = others.iter().map(|authority| authority.pem());
        let trusted = self.authority.pem() + &others.collect::<String>();
        std::fs::write(self.folder.path().join("trusted.pem"), trusted).expect("written");
        for node in 0..self.nodes.len() {
            self.kill(node).await;
            self.restart(node);
        }
        self.healthy().await;
    }

    /// The endpoints, as in TOML.
    pub(crate) fn endpoints(&self) -> String {
        let urls: Vec<_> = (0..self.nodes.len()).map(|node| self.url(node)).collect();
        format!("{urls:?}")
    }

    pub(crate) fn url(&self, node: usize) -> String {
        client_url(self.access, &address(node), self.ports.0)
    }

    /// Kills a node.
    pub(crate) async fn kill(&mut self, node: usize) {
        self.nodes[node].kill().await;
    }

    /// Starts a killed node again.
    pub(crate) fn restart(&mut self, node: usize) {
        self.nodes[node].start_again();
    }

    /// Sends a signal to a node.
    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        self.nodes[node].signal(signal);
    }

    /// Cuts off a replica from all nodes.
    pub(crate) fn cut_replica(&self, replica: usize) -> Cut {
        Cut::new((0..self.nodes.len()).map(|node| (replica, node)), self.ports.0)
    }

    /// Cuts off a node from the other ones.
    pub(crate) fn cut_node(&self, node: usize) -> Cut {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        Cut::new(others.flat_map(|other| [(node, other), (other, node)]), self.ports.1)
    }

    /// Waits until each node serves linearizable requests.
    pub(crate) async fn healthy(&mut self) {
        for node in 0..self.nodes.len() {
            let (http, url) = (self.http.clone(), self.url(node) + "/health");
            let ready = async || {
                let Ok(response) = http.get(&url).send().await else { return false };
                let text = response.text().await.unwrap_or_default();
                text.contains("\"health\":\"true\"") || text.contains("\"health\": \"true\"")
            };
            self.nodes[node].until(ready).await;
        }
    }

    /// The leader, as one of `asked` knows it.
    pub(crate) async fn leader(&self, asked: &[usize]) -> usize {
        let deadline = clock::now() + PATIENCE;
        loop {
            for node in asked {
                let status = self.post(*node, "/v3/maintenance/status", &json!({})).await;
                let Some(leader) = status.as_ref().and_then(|status| status["leader"].as_str())
                else {
                    self.log_in(*node).await;
                    continue;
                };
                for node in asked {
                    let status = self.post(*node, "/v3/maintenance/status", &json!({})).await;
                    let own = status.map(|status| status["header"]["member_id"].clone());
                    if own.as_ref().and_then(Value::as_str) == Some(leader) {
                        return *node;
                    }
                }
            }
            assert!(clock::now() < deadline, "etcd has no leader");
            tokio::time::sleep(millis(50)).await;
        }
    }

    /// Makes a node the leader.
    pub(crate) async fn lead(&self, node: usize) {
        let all: Vec<_> = (0..self.nodes.len()).collect();
        let status = self.post(node, "/v3/maintenance/status", &json!({})).await;
        let id = status.expect("a status")["header"]["member_id"].clone();
        let deadline = clock::now() + PATIENCE;
        loop {
            let leader = self.leader(&all).await;
            if leader == node {
                return;
            }
            assert!(clock::now() < deadline, "the leader stays");
            let body = json!({ "targetID": id });
            self.post(leader, "/v3/maintenance/transfer-leadership", &body).await;
        }
    }

    /// Calls a method at the first node that answers. Panics unless one does within the patience.
    pub(crate) async fn call(&self, path: &str, body: &Value) -> Value {
        let deadline = clock::now() + PATIENCE;
        loop {
            for node in 0..self.nodes.len() {
                match self.post(node, path, body).await {
                    Some(reply) if reply.get("code").is_none() => return reply,
                    Some(reply) => {
                        let text = reply["message"].as_str().unwrap_or_default();
                        let is_stale = text.contains("auth token") || text.contains("user name is");
                        assert!(
                            is_stale || text.contains("leader") || text.contains("timed out"),
                            "{path}: {reply}"
                        );
                        self.log_in(node).await;
                    }
                    None => {}
                }
            }
            assert!(clock::now() < deadline, "etcd does not answer {path}");
            tokio::time::sleep(millis(50)).await;
        }
    }

    /// All keys below [`PREFIX`] now, with their content.
    pub(crate) async fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let reply = self.call("/v3/kv/range", &range()).await;
        let kvs = reply["kvs"].as_array().cloned().unwrap_or_default();
        kvs.iter().map(|kv| (utf8(&decoded(&kv["key"])), decoded(&kv["value"]))).collect()
    }

    /// Writes a key, relative to [`PREFIX`].
    pub(crate) async fn put(&self, key: &str, content: &[u8]) {
        let key = STANDARD.encode(format!("{PREFIX}/{key}"));
        self.call("/v3/kv/put", &json!({ "key": key, "value": STANDARD.encode(content) })).await;
    }

    /// A streamed response.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> reqwest::Response {
        let client = client(&self.authority, self.access).build().expect("a client");
        let token = self.token.lock().expect("no panic").clone();
        let request = client.post(self.url(0) + path).body(body.to_string());
        request.header("Authorization", token).send().await.expect("a response")
    }

    async fn post(&self, node: usize, path: &str, body: &Value) -> Option<Value> {
        let token = self.token.lock().expect("no panic").clone();
        let mut request = self.http.post(self.url(node) + path).body(body.to_string());
        if !token.is_empty() {
            request = request.header("Authorization", token);
        }
        serde_json::from_str(&request.send().await.ok()?.text().await.ok()?).ok()
    }

    async fn log_in(&self, node: usize) {
        let body = json!({ "name": ROOT.0, "password": ROOT.1 });
        self.token.lock().expect("no panic").clear();
        let reply = self.post(node, "/v3/auth/authenticate", &body).await;
        if let Some(token) = reply.as_ref().and_then(|reply| reply["token"].as_str()) {
            token.clone_into(&mut self.token.lock().expect("no panic"));
        }
    }

    async fn set_up_users(&self) {
        if self.access == Access::Certificate {
            return;
        }
        for (name, password) in [ROOT, KEEPER] {
            self.call("/v3/auth/user/add", &json!({ "name": name, "password": password })).await;
            self.call("/v3/auth/role/add", &json!({ "name": name })).await;
            self.call("/v3/auth/user/grant", &json!({ "user": name, "role": name })).await;
        }
        self.grant(PREFIX).await;
        self.call("/v3/auth/enable", &json!({})).await;
        self.log_in(0).await;
    }

    /// Gives [`KEEPER`] all rights below a prefix.
    pub(crate) async fn grant(&self, prefix: &str) {
        let (key, end) = (prefix.to_owned() + "/", prefix.to_owned() + "0");
        let permission = json!({
            "permType": "READWRITE", "key": STANDARD.encode(key), "range_end": STANDARD.encode(end),
        });
        self.call("/v3/auth/role/grant", &json!({ "name": KEEPER.0, "perm": permission })).await;
    }

    /// Takes all rights below [`PREFIX`] from [`KEEPER`].
    pub(crate) async fn revoke(&self) {
        let (key, end) = (PREFIX.to_owned() + "/", PREFIX.to_owned() + "0");
        let body = json!({
            "role": KEEPER.0, "key": STANDARD.encode(key), "range_end": STANDARD.encode(end),
        });
        self.call("/v3/auth/role/revoke", &body).await;
    }

    /// Replaces the data of all nodes by nothing: another cluster at the same addresses.
    pub(crate) async fn replace(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill(node).await;
            std::fs::remove_dir_all(paths(&self.folder, node).1).expect("removed");
        }
        self.token.lock().expect("no panic").clear();
        (0..self.nodes.len()).for_each(|node| self.restart(node));
        self.healthy().await;
        self.set_up_users().await;
    }

    /// Copies the data of the single node, to be restored later.
    pub(crate) async fn back_up(&mut self) -> TempDir {
        let backup = folder();
        self.kill(0).await;
        copy(&paths(&self.folder, 0).1, backup.path());
        self.restart(0);
        self.healthy().await;
        backup
    }

    /// Replaces the data of the single node by that copy.
    pub(crate) async fn restore(&mut self, backup: &TempDir) {
        self.kill(0).await;
        let data = paths(&self.folder, 0).1;
        std::fs::remove_dir_all(&data).expect("removed");
        copy(&backup.path().join("data-0"), &data);
        self.restart(0);
        self.healthy().await;
        self.log_in(0).await;
    }
}

/// All keys below [`PREFIX`].
pub(crate) fn range() -> Value {
    json!({
        "key": STANDARD.encode(PREFIX.to_owned() + "/"),
        "range_end": STANDARD.encode(PREFIX.to_owned() + "0"),
    })
}

/// The bytes of a field of a response.
pub(crate) fn decoded(field: &Value) -> Vec<u8> {
    STANDARD.decode(field.as_str().unwrap_or_default()).expect("Base64")
}

/// Text of bytes.
pub(crate) fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn paths(folder: &TempDir, node: usize) -> (PathBuf, PathBuf) {
    (folder.path().join(format!("log-{node}")), folder.path().join(format!("data-{node}")))
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp").success());
}

/// What a certificate of a node is used for: it is a client of itself, too.
pub(crate) const USAGES: [ExtendedKeyUsagePurpose; 2] =
    [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

/// A client certificate without a common name, which etcd with users does not accept.
pub(crate) fn client_certificate(authority: &Authority) -> Pair {
    authority.issue_with(&[], |params| params.distinguished_name = DistinguishedName::new())
}

/// Writes a certificate and its key as `NAME.pem` and `NAME.key`.
pub(crate) fn write_pair(folder: &Path, name: &str, pair: &Pair) {
    std::fs::write(folder.join(name.to_owned() + ".pem"), &pair.cert).expect("written");
    std::fs::write(folder.join(name.to_owned() + ".key"), &pair.key).expect("written");
}

/// A client of the tests.
fn client(authority: &Authority, access: Access) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder().no_proxy();
    if access == Access::Password {
        return builder;
    }
    let Pair { cert, key } = client_certificate(authority);
    let trusted = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("an authority");
    let identity = reqwest::Identity::from_pem((cert + &key).as_bytes()).expect("an identity");
    builder.tls_certs_only([trusted]).identity(identity)
}

fn client_url(access: Access, address: &str, port: u16) -> String {
    let scheme = if access == Access::Password { "http" } else { "https" };
    format!("{scheme}://{address}:{port}")
}

fn command(node: usize, nodes: usize, ports: (u16, u16), access: Access, data: &Path) -> Command {
    let peer = |node: usize| format!("http://{}:{}", address(node), ports.1);
    let cluster = (0..nodes).map(|node| format!("node-{node}={}", peer(node)));
    let (own, peer) = (client_url(access, &address(node), ports.0), peer(node));
    // An address for which there is no certificate.
    let other = client_url(access, UNCERTIFIED, ports.0);
    let listen = if node == 0 { format!("{own},{other}") } else { own.clone() };
    let folder = data.parent().expect("a folder");
    // `TOKENKEEP_ETCD` names another version that `tests/profiles/install` has installed.
    let version = std::env::var("TOKENKEEP_ETCD").unwrap_or_else(|_| "etcd".to_owned());
    let mut command = Command::new(installed(&version).join("etcd"));
    command.arg("--data-dir").arg(data).arg("--name").arg(format!("node-{node}"));
    command.args(["--listen-client-urls", &listen, "--advertise-client-urls", &own]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &cluster.collect::<Vec<_>>().join(",")]);
    // Passwords cost no time, and the log is short.
    command.args(["--bcrypt-cost", "4", "--log-level", "warn", "--log-outputs", "stderr"]);
    if access != Access::Password {
        command.arg("--cert-file").arg(folder.join(format!("node-{node}.pem")));
        command.arg("--key-file").arg(folder.join(format!("node-{node}.key")));
    }
    if matches!(access, Access::Certificate | Access::CertificatePassword) {
        command.arg("--client-cert-auth");
        command.arg("--trusted-ca-file").arg(folder.join("trusted.pem"));
    }
    join_pair(&mut command, node);
    command
}

/// A port that is free at the address of each node.
fn free_port(nodes: usize) -> u16 {
    let is_free =
        |port: &u16| (0..nodes).all(|node| TcpListener::bind((address(node), *port)).is_ok());
    (0..100).map(|_| fastrand::u16(20_000..32_000)).find(is_free).expect("a free port")
}
