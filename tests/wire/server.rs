//! A server whose reaction to each request is scripted, over HTTP/1.1, TLS or HTTP/2.
//!
//! It plays the API for the tokens that it was given, and counts connections and requests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::net::sockopt::set_socket_linger;
use tempfile::NamedTempFile;
use tokenkeep::clock;
use tokenkeep::time::Moment;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// How the server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Tls,
    Http2,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Tls, Self::Http2];
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visit {
    /// The number of its connection, from 1.
    pub(crate) connection: usize,
    /// Its number on this connection, from 1.
    pub(crate) request: usize,
    /// The last part of its path.
    pub(crate) endpoint: String,
    /// The token value or API key.
    pub(crate) value: String,
    /// Whether the server's TLS session was resumed.
    pub(crate) resumed: bool,
}

/// What the server does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// What the API does: a query or a renewal renews.
    Api,
    /// The same once so many requests have come: over HTTP/1.1 they need a connection each.
    ApiAfter(usize),
    /// This status and body.
    Say(u16, &'static str),
    /// A reset after the API has done its part.
    ApiThenReset,
    /// Nothing, while the connection stays open.
    Swallow,
    /// The connection is closed (FIN) without a response.
    Close,
    /// The connection is reset (RST) without a response.
    Reset,
}

type React = dyn Fn(&Visit) -> Reaction + Send + Sync;

/// A running server. It stops, and its connections with it, when this is dropped.
pub(crate) struct Server {
    url: String,
    ca_file: Option<NamedTempFile>,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    react: Box<React>,
    seen: Mutex<Seen>,
    /// Changes with each request.
    requests: watch::Sender<usize>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    open: usize,
    visits: Vec<Visit>,
    /// Each token's life, and when it ends.
    tokens: HashMap<String, (Duration, Moment)>,
    issued: usize,
}

impl Server {
    pub(crate) async fn start(
        protocol: Protocol,
        react: impl Fn(&Visit) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::start_on("127.0.0.1:0", protocol, react).await
    }

    /// The same on this address.
    pub(crate) async fn start_on(
        address: &str,
        protocol: Protocol,
        react: impl Fn(&Visit) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            react: Box::new(react),
            seen: Mutex::default(),
            requests: watch::Sender::new(0),
        });
        let (acceptor, ca_file) = match protocol {
            Protocol::Http1 => (None, None),
            Protocol::Tls | Protocol::Http2 => {
                let (config, authority) = tls(protocol);
                (Some(TlsAcceptor::from(Arc::new(config))), Some(authority))
            }
        };
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        let accepting = tokio::spawn(accept(listener, acceptor, protocol, Arc::clone(&state)));
        Self { url, ca_file, state, accepting }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The authority of its certificate, if it speaks TLS.
    pub(crate) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_ref().map(NamedTempFile::path)
    }

    /// Makes a token known, with its full life from now on.
    pub(crate) fn add_token(&self, value: &str, life: Duration) {
        let end = clock::now() + life;
        self.seen().tokens.insert(value.to_owned(), (life, end));
    }

    /// Whether a token is alive.
    pub(crate) fn is_alive(&self, value: &str) -> bool {
        self.seen().tokens.get(value).is_some_and(|(_, end)| clock::now() < *end)
    }

    /// The connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen().connections
    }

    /// The connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.seen().open
    }

    /// The requests so far.
    pub(crate) fn visits(&self) -> Vec<Visit> {
        self.seen().visits.clone()
    }

    /// The numbers of the connections that the requests so far came on.
    pub(crate) fn connections_used(&self) -> Vec<usize> {
        self.seen().visits.iter().map(|visit| visit.connection).collect()
    }

    /// Waits until the requests so far satisfy `condition`.
    pub(crate) async fn until(
        &self,
        patience: Duration,
        what: &str,
        condition: impl Fn(&[Visit]) -> bool,
    ) {
        let mut requests = self.state.requests.subscribe();
        let met = requests.wait_for(|_| condition(&self.seen().visits));
        let met = tokio::time::timeout(patience, met).await;
        assert!(matches!(met, Ok(Ok(_))), "not so in time: {what}: {:#?}", self.visits());
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.seen()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self, visit: &Visit) -> (u16, String) {
        let now = clock::now();
        let mut seen = self.seen();
        if visit.endpoint == "GetSessionToken" {
            seen.issued += 1;
            let (value, life) = (format!("issued-{}", seen.issued), Duration::from_secs(60));
            seen.tokens.insert(value.clone(), (life, now + life));
            let body = format!(r#"{{"Result":{{"SessionToken":"{value}","Remaining":60000}}}}"#);
            return (200, body);
        }
        match seen.tokens.get_mut(&visit.value) {
            None => (401, DENIED.to_owned()),
            Some((_, end)) if *end <= now => (410, r#"{"Errors":{"Status":410}}"#.to_owned()),
            Some((life, end)) => {
                *end = now + *life;
                (200, format!(r#"{{"Result":{{"Remaining":{}}}}}"#, life.as_millis()))
            }
        }
    }
}

/// The body of the API's own 401.
pub(crate) const DENIED: &str = r#"{"Errors":{"Status":401,"Detail":"Unknown token"}}"#;

pub(crate) fn tls(protocol: Protocol) -> (ServerConfig, NamedTempFile) {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)
        .and_then(|params| params.signed_by(&key, &authority))
        .expect("a certificate");
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a private key"),
        )
        .expect("a TLS configuration");
    if protocol == Protocol::Http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(authority.pem().as_bytes()).expect("written");
    (config, file)
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    protocol: Protocol,
    state: Arc<State>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let number = {
                    let mut seen = state.seen();
                    seen.connections += 1;
                    seen.open += 1;
                    seen.connections
                };
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
                connections.spawn(async move {
                    connection(stream, acceptor, protocol, number, &state).await;
                    state.seen().open -= 1;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    protocol: Protocol,
    number: usize,
    state: &Arc<State>,
) {
    // A failure to switch delays off only costs time.
    let _ = stream.set_nodelay(true);
    let socket = stream.as_fd().try_clone_to_owned().expect("a descriptor");
    match acceptor {
        None => serve(stream, socket, protocol, (number, false), state).await,
        Some(acceptor) => {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let kind = stream.get_ref().1.handshake_kind();
            let resumed = kind == Some(tokio_rustls::rustls::HandshakeKind::Resumed);
            serve(stream, socket, protocol, (number, resumed), state).await;
        }
    }
}

/// How a connection is ended by its server.
#[derive(Clone, Copy)]
enum End {
    Close,
    Reset,
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    socket: OwnedFd,
    protocol: Protocol,
    (connection, resumed): (usize, bool),
    state: &Arc<State>,
) {
    let requests = Arc::new(Mutex::new(0));
    let (end, mut ended) = watch::channel(None);
    let service = {
        let state = Arc::clone(state);
        service_fn(move |request: Request<Incoming>| {
            let request_number = {
                let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
                *requests += 1;
                *requests
            };
            let uri = request.uri();
            let query = uri.query().unwrap_or_default();
            let value = url::form_urlencoded::parse(query.as_bytes()).next();
            let visit = Visit {
                connection,
                request: request_number,
                endpoint: uri.path().rsplit('/').next().unwrap_or_default().to_owned(),
                value: value.map(|(_, value)| value.into_owned()).unwrap_or_default(),
                resumed,
            };
            let (state, end) = (Arc::clone(&state), end.clone());
            async move { Ok::<_, Infallible>(respond(visit, &state, &end).await) }
        })
    };
    let io = TokioIo::new(stream);
    let ended = async {
        match ended.wait_for(Option::is_some).await.map(|end| *end) {
            Ok(Some(end)) => end,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    };
    let end = match protocol {
        Protocol::Http1 | Protocol::Tls => {
            let serving = pin!(http1::Builder::new().serve_connection(io, service));
            tokio::select! { _ = serving => None, end = ended => Some(end) }
        }
        Protocol::Http2 => {
            let serving =
                pin!(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
            tokio::select! { _ = serving => None, end = ended => Some(end) }
        }
    };
    if let Some(End::Reset) = end {
        set_socket_linger(&socket, Some(Duration::ZERO)).expect("a socket");
    }
}

async fn respond(
    visit: Visit,
    state: &State,
    end: &watch::Sender<Option<End>>,
) -> Response<Full<Bytes>> {
    let reaction = (state.react)(&visit);
    state.seen().visits.push(visit.clone());
    let ending = match reaction {
        Reaction::Api => {
            let (status, body) = state.api(&visit);
            state.requests.send_modify(|requests| *requests += 1);
            return response(status, body);
        }
        Reaction::ApiAfter(count) => {
            state.requests.send_modify(|requests| *requests += 1);
            let mut requests = state.requests.subscribe();
            // The sender lives as long as the state, so this cannot fail.
            let _ = requests.wait_for(|_| state.seen().visits.len() >= count).await;
            let (status, body) = state.api(&visit);
            return response(status, body);
        }
        Reaction::Say(status, body) => {
            state.requests.send_modify(|requests| *requests += 1);
            return response(status, body.to_owned());
        }
        Reaction::ApiThenReset => {
            state.api(&visit);
            Some(End::Reset)
        }
        Reaction::Swallow => None,
        Reaction::Close => Some(End::Close),
        Reaction::Reset => Some(End::Reset),
    };
    state.requests.send_modify(|requests| *requests += 1);
    if ending.is_some() {
        end.send_replace(ending);
    }
    std::future::pending().await
}

fn response(status: u16, body: String) -> Response<Full<Bytes>> {
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Full::new(Bytes::from(body)))
        .expect("a response")
}
