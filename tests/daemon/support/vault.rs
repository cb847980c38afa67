//! A server like Vault: tokens with a longest life, and logins with a role.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokenkeep::clock;
use tokenkeep::time::Moment;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::MARK;
use super::oauth::read_request;

/// The server. It stops when this is dropped; connections to it stay open.
pub(crate) struct VaultServer {
    port: u16,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

struct State {
    life: Duration,
    longest: Duration,
    secret_id: String,
    issued: usize,
    /// Tokens: their expiry, and the latest one that a renewal can give them.
    tokens: HashMap<String, [Moment; 2]>,
    logins: usize,
    refused_logins: usize,
}

impl VaultServer {
    /// A server whose tokens live for `life`, and with renewals for `longest`.
    pub(crate) async fn start(life: Duration, longest: Duration, secret_id: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State {
            life,
            longest,
            secret_id: secret_id.to_owned(),
            issued: 0,
            tokens: HashMap::new(),
            logins: 0,
            refused_logins: 0,
        }));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { port, state, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A new token.
    pub(crate) fn token(&self) -> String {
        lock(&self.state).issue()
    }

    pub(crate) fn is_alive(&self, token: &str) -> bool {
        lock(&self.state).left(token).is_some()
    }

    /// Logins that succeeded, and logins that were refused.
    pub(crate) fn logins(&self) -> [usize; 2] {
        let state = lock(&self.state);
        [state.logins, state.refused_logins]
    }
}

impl Drop for VaultServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    fn issue(&mut self) -> String {
        self.issued += 1;
        let token = format!("hvs.{MARK}-{}", self.issued);
        let now = clock::now();
        self.tokens.insert(token.clone(), [now + self.life, now + self.longest]);
        token
    }

    /// The remaining life of a token in whole seconds.
    fn left(&self, token: &str) -> Option<u64> {
        let [expiry, _] = self.tokens.get(token)?;
        let left = expiry.since(clock::now());
        (!left.is_zero()).then_some(left.as_secs())
    }

    fn answer(&mut self, request: &str, token: &str, body: &Value) -> (u16, Value) {
        let denied = (403, json!({"errors": ["permission denied"]}));
        match request {
            "POST /v1/auth/approle/login" if body["secret_id"] == self.secret_id => {
                self.logins += 1;
                let auth =
                    json!({"client_token": self.issue(), "lease_duration": self.life.as_secs()});
                (200, json!({"auth": auth}))
            }
            "POST /v1/auth/approle/login" => {
                self.refused_logins += 1;
                (400, json!({"errors": ["invalid role or secret ID"]}))
            }
            _ if self.left(token).is_none() => denied,
            "GET /v1/auth/token/lookup-self" => {
                let left = self.left(token).unwrap_or_default();
                (200, json!({"data": {"ttl": left, "expire_time": "2026-11-29T11:05:13Z"}}))
            }
            "POST /v1/auth/token/renew-self" => {
                let life = self.life;
                if let Some([expiry, latest]) = self.tokens.get_mut(token) {
                    *expiry = (clock::now() + life).min(*latest);
                }
                let left = self.left(token).unwrap_or_default();
                (200, json!({"auth": {"client_token": token, "lease_duration": left}}))
            }
            _ => denied,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(serve(stream, Arc::clone(&state)));
    }
}

/// Serves the requests of one connection until its end.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    loop {
        let (head, body) = read_request(&mut stream).await?;
        let request = head.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("x-vault-token").then(|| value.to_owned())
        };
        let token = head.lines().find_map(header).unwrap_or_default();
        let body = serde_json::from_str(&body).unwrap_or_default();
        let (status, body) = lock(&state).answer(&request, &token, &body);
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} S\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + &body).as_bytes()).await.ok()?;
    }
}
