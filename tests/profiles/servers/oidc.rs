//! npm's `oidc-provider`: access tokens of 8 s, and refresh tokens that each can be used once.
//! Using one twice kills the whole family.

use std::collections::HashSet;

use base64::Engine as _;
use tempfile::TempDir;
use tokio::process::Command;

use super::process::{Process, folder};
use super::{Http, Reply, Server, installed, text};
use crate::support::free_port;

/// The name of the client, and its secret.
pub(crate) const CLIENT: (&str, &str) = ("keeper", "keeper-secret");

/// A running server.
pub(crate) struct Oidc {
    http: Http,
    port: u16,
    process: Process,
    _folder: TempDir,
}

/// What a refresh returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

/// A use of a refresh token, as the server logged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refresh {
    pub(crate) token: String,
    pub(crate) status: u16,
}

impl Oidc {
    pub(crate) async fn start() -> Self {
        let (folder, port) = (folder(), free_port());
        let store = folder.path().join("store.json");
        let library = installed("oidc").join("node_modules/oidc-provider/lib/index.js");
        let process = Process::start(&folder.path().join("log"), move || {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/profiles/servers/oidc.mjs");
            let mut command = Command::new("node");
            command.arg(script).arg(port.to_string()).arg(&store).arg(&library);
            command
        });
        let mut server = Self { http: Http::new(), port, process, _folder: folder };
        server.serves().await;
        server
    }

    async fn serves(&mut self) {
        let url = self.url() + "/.well-known/openid-configuration";
        let Self { http, process, .. } = self;
        process.until(async || http.send(&url, &[], None).await.is_some()).await;
    }

    /// The first refresh token of a new family, as a person's login in a browser returns it.
    pub(crate) async fn first(&self) -> String {
        self.http.must(&(self.url() + "/first"), &[], Some(String::new())).await.text
    }

    /// Uses a refresh token. `None`: the server refuses it.
    pub(crate) async fn refresh(&self, token: &str) -> Option<Pair> {
        let body = format!("grant_type=refresh_token&refresh_token={token}");
        let json = self.post("/token", body).await?.json;
        json["access_token"].is_string().then(|| Pair {
            access: text(&json, "/access_token"),
            refresh: text(&json, "/refresh_token"),
        })
    }

    /// Posts a form as the client.
    async fn post(&self, path: &str, form: String) -> Option<Reply> {
        let (name, secret) = CLIENT;
        let code = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{secret}"));
        let headers = [
            ("Authorization", &*format!("Basic {code}")),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        self.http.send(&(self.url() + path), &headers, Some(form)).await
    }

    /// All uses of refresh tokens so far, accepted and refused ones.
    pub(crate) fn refreshes(&self) -> Vec<Refresh> {
        let log = self.process.log();
        let uses = log.lines().filter_map(|line| line.strip_prefix("refresh ")?.split_once(' '));
        let parsed = uses.map(|(token, status)| Refresh {
            token: token.to_owned(),
            status: status.parse().expect("a status"),
        });
        parsed.collect()
    }

    /// Fails if a refresh token was used more than once, or was refused.
    pub(crate) fn assert_each_used_once(&self) {
        let (uses, mut seen) = (self.refreshes(), HashSet::new());
        assert!(uses.iter().all(|used| seen.insert(&used.token)), "used twice: {uses:#?}");
        assert!(uses.iter().all(|used| used.status == 200), "refused: {uses:#?}");
    }
}

impl Server for Oidc {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn is_alive(&self, value: &str) -> Option<bool> {
        let reply = self.post("/token/introspection", format!("token={value}")).await?;
        reply.json["active"].as_bool()
    }

    async fn restart(&mut self) {
        self.process.restart().await;
        self.serves().await;
    }
}
