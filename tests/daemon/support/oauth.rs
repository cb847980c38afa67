//! An OAuth 2.0 server that rotates refresh tokens, and ends a session if a spent one comes again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokenkeep::clock;
use tokenkeep::time::Moment;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::form_urlencoded;

use super::MARK;

/// The server. It stops when this is dropped; connections to it stay open.
pub(crate) struct OAuthServer {
    port: u16,
    state: Arc<Mutex<State>>,
    /// Whether responses are held back.
    held: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    life: Duration,
    issued: usize,
    /// Access tokens: their session and their expiry.
    access: HashMap<String, (usize, Moment)>,
    /// Refresh tokens: their session, and whether they are spent.
    refresh: HashMap<String, (usize, bool)>,
    ended: HashSet<usize>,
    login_refresh: bool,
    /// Refresh tokens are longer than any that a client accepts.
    long_refresh: bool,
    /// How many responses of the token endpoint are lost after they were processed.
    lost: usize,
    requests: Vec<Request>,
}

/// A request that was processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Renewed {
        sent: String,
    },
    /// A spent refresh token came again: the session has ended.
    Reused {
        sent: String,
    },
    /// An unknown refresh token, or one of a session that has ended.
    Refused {
        sent: String,
    },
    LoggedIn,
    Introspected {
        sent: String,
        active: bool,
    },
    Revoked {
        sent: String,
    },
}

impl OAuthServer {
    /// A server whose access tokens live for `life`.
    pub(crate) async fn start(life: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State { life, ..State::default() }));
        let held = watch::Sender::new(false);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state), held.subscribe()));
        Self { port, state, held, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Opens a session: its access token and its refresh token.
    pub(crate) fn session(&self) -> (String, String) {
        let mut state = lock(&self.state);
        let session = state.issued;
        state.issue(session)
    }

    /// A login returns a refresh token from now on.
    pub(crate) fn return_refresh_tokens(&self) {
        lock(&self.state).login_refresh = true;
    }

    /// New refresh tokens have more than 5,000 bytes from now on.
    pub(crate) fn lengthen_refresh_tokens(&self) {
        lock(&self.state).long_refresh = true;
    }

    /// The next renewals or logins are processed, and their responses are lost.
    pub(crate) fn lose_responses(&self, count: usize) {
        lock(&self.state).lost = count;
    }

    /// Holds responses of the token endpoint back, after the requests were processed, or sends them.
    pub(crate) fn hold_responses(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// Ends the life of an access token.
    pub(crate) fn expire(&self, access: &str) {
        if let Some((_, expiry)) = lock(&self.state).access.get_mut(access) {
            *expiry = Moment::default();
        }
    }

    /// Makes a refresh token unknown. Its access tokens live on.
    pub(crate) fn forget(&self, refresh: &str) {
        lock(&self.state).refresh.remove(refresh);
    }

    pub(crate) fn is_alive(&self, access: &str) -> bool {
        lock(&self.state).is_alive(access)
    }

    /// Whether this refresh token can renew.
    pub(crate) fn is_usable(&self, refresh: &str) -> bool {
        let state = lock(&self.state);
        let found = state.refresh.get(refresh);
        found.is_some_and(|(session, spent)| !spent && !state.ended.contains(session))
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }

    pub(crate) fn renewals(&self) -> usize {
        self.count(|request| matches!(request, Request::Renewed { .. }))
    }

    pub(crate) fn logins(&self) -> usize {
        self.count(|request| matches!(request, Request::LoggedIn))
    }

    /// How many times a spent refresh token came again.
    pub(crate) fn reuses(&self) -> usize {
        self.count(|request| matches!(request, Request::Reused { .. }))
    }

    fn count(&self, wanted: impl Fn(&Request) -> bool) -> usize {
        lock(&self.state).requests.iter().filter(|request| wanted(request)).count()
    }
}

impl Drop for OAuthServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    fn issue(&mut self, session: usize) -> (String, String) {
        self.issued += 1;
        let access = format!("{MARK}-access-{}", self.issued);
        let mut refresh = format!("{MARK}-refresh-{}", self.issued);
        if self.long_refresh {
            refresh.push_str(&"x".repeat(5_000));
        }
        self.access.insert(access.clone(), (session, clock::now() + self.life));
        self.refresh.insert(refresh.clone(), (session, false));
        (access, refresh)
    }

    fn is_alive(&self, access: &str) -> bool {
        let found = self.access.get(access);
        found.is_some_and(|(session, expiry)| {
            !self.ended.contains(session) && *expiry > clock::now()
        })
    }

    /// Status and body of the response.
    fn answer(&mut self, path: &str, form: &HashMap<String, String>) -> (u16, Value) {
        let of = |name: &str| form.get(name).cloned().unwrap_or_default();
        match (path, &*of("grant_type")) {
            ("/token", "refresh_token") => self.renew(of("refresh_token")),
            ("/token", "client_credentials") => {
                self.requests.push(Request::LoggedIn);
                let session = self.issued;
                let (access, refresh) = self.issue(session);
                let mut body = json!({"access_token": access, "expires_in": self.life.as_secs()});
                if self.login_refresh {
                    body["refresh_token"] = refresh.into();
                } else {
                    self.refresh.remove(&refresh);
                }
                (200, body)
            }
            ("/token/introspection", _) => {
                let sent = of("token");
                let active = self.is_alive(&sent);
                let left = self.access.get(&sent).map(|(_, expiry)| expiry.since(clock::now()));
                self.requests.push(Request::Introspected { sent, active });
                if !active {
                    return (200, json!({"active": false}));
                }
                let left = left.expect("it is known").as_secs();
                let now = clock::wall_clock().as_second().unsigned_abs();
                (200, json!({"active": true, "exp": now + left}))
            }
            ("/token/revocation", _) => {
                let sent = of("token");
                self.access.remove(&sent);
                self.requests.push(Request::Revoked { sent });
                (200, Value::Null)
            }
            _ => (404, json!({"error": "not_found"})),
        }
    }

    fn renew(&mut self, sent: String) -> (u16, Value) {
        let refused = (400, json!({"error": "invalid_grant", "error_description": "no"}));
        match self.refresh.get_mut(&sent) {
            Some((session, spent)) if !self.ended.contains(session) => {
                let session = *session;
                if std::mem::replace(spent, true) {
                    self.ended.insert(session);
                    self.requests.push(Request::Reused { sent });
                    return refused;
                }
                self.requests.push(Request::Renewed { sent });
                let (access, refresh) = self.issue(session);
                let life = self.life.as_secs();
                let body = json!({
                    "access_token": access, "refresh_token": refresh, "expires_in": life
                });
                (200, body)
            }
            Some(_) | None => {
                self.requests.push(Request::Refused { sent });
                refused
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, held: watch::Receiver<bool>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(serve(stream, Arc::clone(&state), held.clone()));
    }
}

/// Serves the requests of one connection until its end.
async fn serve(
    mut stream: TcpStream,
    state: Arc<Mutex<State>>,
    mut held: watch::Receiver<bool>,
) -> Option<()> {
    loop {
        let (head, body) = read_request(&mut stream).await?;
        let path = head.split(' ').nth(1).expect("a path").to_owned();
        let form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let (status, body, is_lost) = {
            let mut state = lock(&state);
            let (status, body) = state.answer(&path, &form);
            let is_lost = path == "/token" && state.lost > 0;
            state.lost -= usize::from(is_lost);
            (status, body, is_lost)
        };
        if is_lost {
            return None;
        }
        if path == "/token" {
            held.wait_for(|held| !held).await.ok()?;
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} S\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + &body).as_bytes()).await.ok()?;
    }
}

/// Head and body of the next request; `None` at the end of the connection.
pub(super) async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut text = String::new();
    loop {
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk).await {
            Ok(length) if length > 0 => text += str::from_utf8(&chunk[..length]).expect("text"),
            _ => return None,
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}
