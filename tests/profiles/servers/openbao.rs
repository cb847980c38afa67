//! `OpenBao` with the login method `AppRole`. Values live for 12 s, and for 40 s at most.

use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::process::{Process, folder};
use super::{Http, Server, installed, text};
use crate::support::free_port;

const HEADER: &str = "X-Vault-Token";

/// A running server.
pub(crate) struct OpenBao {
    http: Http,
    port: u16,
    process: Process,
    _folder: TempDir,
    unseal: String,
    root: String,
    /// What a login sends.
    pub(crate) role_id: String,
    pub(crate) secret_id: String,
}

impl OpenBao {
    pub(crate) async fn start() -> Self {
        let (folder, port, cluster_port) = (folder(), free_port(), free_port());
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        let configuration = json!({
            "storage": {"raft": {"path": data, "node_id": "one", "performance_multiplier": 1}},
            "listener": {"tcp": {"address": format!("127.0.0.1:{port}"), "tls_disable": true}},
            "api_addr": format!("http://127.0.0.1:{port}"),
            "cluster_addr": format!("http://127.0.0.1:{cluster_port}"),
        });
        let path = folder.path().join("configuration.json");
        std::fs::write(&path, configuration.to_string()).expect("a file");
        let program = installed("openbao").join("bao");
        let process = Process::start(&folder.path().join("log"), move || {
            let mut command = Command::new(&program);
            command.arg("server").arg("-config").arg(&path);
            command
        });
        let mut server = Self {
            http: Http::new(),
            port,
            process,
            _folder: folder,
            unseal: String::new(),
            root: String::new(),
            role_id: String::new(),
            secret_id: String::new(),
        };
        server.set_up().await;
        server
    }

    async fn set_up(&mut self) {
        self.listens().await;
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let keys = self.call("sys/init", "", Some(shares)).await;
        self.unseal = text(&keys, "/keys_base64/0");
        self.root = text(&keys, "/root_token");
        self.serves().await;
        let root = self.root.clone();
        self.call("sys/auth/approle", &root, Some(json!({"type": "approle"}))).await;
        let role = json!({"token_ttl": "12s", "token_max_ttl": "40s"});
        self.call("auth/approle/role/keeper", &root, Some(role)).await;
        let id = self.call("auth/approle/role/keeper/role-id", &root, None).await;
        self.role_id = text(&id, "/data/role_id");
        let id = self.call("auth/approle/role/keeper/secret-id", &root, Some(json!({}))).await;
        self.secret_id = text(&id, "/data/secret_id");
    }

    /// Calls the server, which must respond with success.
    async fn call(
        &self,
        path: &str,
        token: &str,
        body: Option<serde_json::Value>,
    ) -> serde_json::Value {
        let url = format!("{}/v1/{path}", self.url());
        let headers = [(HEADER, token)];
        self.http.must(&url, &headers, body.map(|body| body.to_string())).await.json
    }

    async fn listens(&mut self) {
        let url = self.url() + "/v1/sys/seal-status";
        let Self { http, process, .. } = self;
        process.until(async || http.send(&url, &[], None).await.is_some()).await;
    }

    /// Unseals the server, and waits until it has loaded its tokens.
    async fn serves(&mut self) {
        self.call("sys/unseal", "", Some(json!({ "key": self.unseal }))).await;
        let url = self.url() + "/v1/sys/health";
        let Self { http, process, .. } = self;
        let active = async || {
            let reply = http.send(&url, &[], None).await;
            reply.is_some_and(|reply| reply.status == 200)
        };
        process.until(active).await;
    }

    /// A new value.
    pub(crate) async fn log_in(&self) -> String {
        let body = json!({"role_id": self.role_id, "secret_id": self.secret_id});
        text(&self.call("auth/approle/login", "", Some(body)).await, "/auth/client_token")
    }

    /// An alive value that may not even be looked up.
    pub(crate) async fn forbidden(&self) -> String {
        let rights = json!({"no_default_policy": true, "policies": ["none"]});
        text(&self.call("auth/token/create", &self.root, Some(rights)).await, "/auth/client_token")
    }
}

impl Server for OpenBao {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn is_alive(&self, value: &str) -> Option<bool> {
        let url = self.url() + "/v1/auth/token/lookup-self";
        let reply = self.http.send(&url, &[(HEADER, value)], None).await?;
        match reply.status {
            200 => Some(true),
            403 => Some(false),
            _ => None,
        }
    }

    async fn restart(&mut self) {
        self.process.restart().await;
        self.listens().await;
        self.serves().await;
    }
}
