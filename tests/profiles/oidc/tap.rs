//! A proxy in front of the server, which can keep responses to refreshes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longer than any body here, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A running proxy. It stops when this is dropped.
pub(super) struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    gate: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    http: reqwest::Client,
    /// Whether responses to refreshes pass.
    open: watch::Receiver<bool>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// The newest values that the server has issued for a refresh token.
    pub(super) access: String,
    pub(super) refresh: String,
    /// How many refreshes the server has answered, and how many other logins.
    pub(super) refreshes: usize,
    pub(super) logins: usize,
}

impl Tap {
    /// Starts a proxy for the server with this base URL. It keeps nothing.
    pub(super) async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (gate, open) = watch::channel(true);
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let (upstream, seen) = (upstream.to_owned(), Mutex::default());
        let shared = Arc::new(Shared { upstream, http, open, seen });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let serving =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, shared, gate, serving }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, keeps the responses to refreshes. The server has processed these requests.
    pub(super) fn hold(&self) {
        self.gate.send_replace(false);
    }

    /// Lets all responses pass.
    pub(super) fn release(&self) {
        self.gate.send_replace(true);
    }

    pub(super) fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.expect("a body");
    let form = String::from_utf8_lossy(&body).into_owned();
    let is_refresh = form.contains("grant_type=refresh_token");
    let url = format!("{}{}", shared.upstream, head.uri);
    let sent = shared.http.request(head.method, url).headers(head.headers).body(body).send().await;
    let response = sent.expect("the server responds");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.expect("a body");
    {
        let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if is_refresh {
            seen.refreshes += 1;
            if status == StatusCode::OK {
                json["access_token"].as_str().expect("a text").clone_into(&mut seen.access);
                json["refresh_token"].as_str().expect("a text").clone_into(&mut seen.refresh);
            }
        } else if form.contains("grant_type=client_credentials") {
            seen.logins += 1;
        }
    }
    if is_refresh {
        // The proxy ends while it waits.
        let _ = shared.open.clone().wait_for(|open| *open).await;
    }
    let mut forwarded = Response::new(Body::from(bytes));
    *forwarded.status_mut() = status;
    let kept = headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
    forwarded.headers_mut().extend(kept.filter(|(name, _)| name != "transfer-encoding"));
    forwarded
}
