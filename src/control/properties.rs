//! Properties of the control API for arbitrary requests. See `crate::fuzzing`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;
use tower_service::Service as _;

use super::connection_activity::ConnectionActivity;
use super::error::ErrorEnvelope;
use super::host_check::AllowedHosts;
use super::{Caller, Command, IssuedValue, ListParams, channel, dashboard, routes};
use crate::daemon::check_filter;
use crate::secret::TokenValue;
use crate::text::printable;

/// The token value that the test server returns.
const VALUE: &str = "0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77";

/// The configured name of the public address, besides `127.0.0.1` and `localhost`.
const HOST: &str = "keep.example";

/// A command that a request has sent to the main loop.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Recorded {
    /// A command that reveals nothing about a single token.
    Overview,
    Tokens(ListParams),
    /// One token's state.
    Token(String),
    Value(String),
    Act(String),
    Reload,
}

thread_local! {
    static TEST_SERVER: TestServer = TestServer::new();
}

/// Both routers, and a main loop that records its commands.
struct TestServer {
    runtime: Runtime,
    socket: Router,
    public: Router,
    recorded: Arc<Mutex<Vec<Recorded>>>,
}

/// For every `input`, parsed as a request line, headers and a body: the socket responds with a
/// documented status and error; only `POST` changes state, only the path of a value returns one,
/// and a token name arrives as it was sent. The public address changes nothing, returns no values,
/// and responds only to its own host names.
///
/// # Panics
///
/// If the property does not hold.
pub fn control(input: &[u8]) {
    let Some((request, again)) = request(input).zip(request(input)) else { return };
    TEST_SERVER.with(|server| {
        server.check_socket(request);
        server.check_public(again);
    });
}

fn request(input: &[u8]) -> Option<Request<Body>> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    let body: Vec<&[u8]> = lines.collect();
    *request.body_mut() = Body::from(body.join(&b'\n'));
    request.extensions_mut().insert(Caller { uid: 0, gid: 0 });
    request.extensions_mut().insert(ConnectionActivity::new());
    Some(request)
}

impl TestServer {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let (commands, mut inbox) = channel();
        let (dashboard, _) = {
            let _entered = runtime.enter();
            dashboard::routes(true, commands.clone())
        };
        let log = Arc::clone(&recorded);
        runtime.spawn(async move {
            while let Some(command) = inbox.recv().await {
                let recorded = answer(command);
                log.lock().unwrap_or_else(PoisonError::into_inner).push(recorded);
            }
        });
        let listen = "127.0.0.1:9464".parse().expect("an address");
        let public = routes::public(commands.clone(), true).merge(dashboard);
        let public =
            dashboard::with_host_check(public, AllowedHosts::new(listen, [HOST.to_owned()]));
        Self { runtime, socket: routes::socket(commands), public, recorded }
    }

    /// The response, its body (except for a stream), and the recorded commands.
    fn call(
        &self,
        router: &Router,
        request: Request<Body>,
    ) -> (Response<()>, Vec<u8>, Vec<Recorded>) {
        self.runtime.block_on(async {
            let answered = router.clone().call(request).await;
            let (parts, body) = answered.expect("a router always answers").into_parts();
            let kind = parts.headers.get(header::CONTENT_TYPE);
            let is_stream = kind.is_some_and(|kind| kind == "text/event-stream");
            let body = if is_stream {
                Vec::new()
            } else {
                body.collect().await.expect("a body in memory").to_bytes().to_vec()
            };
            let recorded =
                std::mem::take(&mut *self.recorded.lock().expect("nothing has panicked"));
            (Response::from_parts(parts, ()), body, recorded)
        })
    }

    fn check_socket(&self, request: Request<Body>) {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let (response, body, recorded) = self.call(&self.socket, request);
        let status = response.status();
        let is_known = matches!(status.as_u16(), 200 | 202 | 400 | 403 | 404 | 405 | 409 | 503);
        assert!(is_known, "{method} {path}: {status}");
        if !status.is_success() && method != Method::HEAD {
            let error: ErrorEnvelope = serde_json::from_slice(&body).expect("an error envelope");
            let message = error.error.message;
            assert_eq!(printable(&message), message, "not fit for a terminal");
        }
        for recorded in &recorded {
            match recorded {
                Recorded::Overview => {}
                Recorded::Tokens(params) => check_filter(params),
                Recorded::Token(name) => check_path(&path, &["tokens", name]),
                Recorded::Value(name) => {
                    check_path(&path, &["tokens", name, "value"]);
                    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
                }
                Recorded::Act(name) => {
                    assert_eq!(method, Method::POST);
                    let action = path.rsplit('/').next().unwrap_or_default();
                    check_path(&path, &["tokens", name, &decoded(action)]);
                }
                Recorded::Reload => assert_eq!(method, Method::POST),
            }
        }
        let has_value = String::from_utf8_lossy(&body).contains(VALUE);
        let may_have = recorded.iter().any(|recorded| matches!(recorded, Recorded::Value(_)));
        assert!(!has_value || may_have || path.contains(VALUE), "{method} {path} has the value");
    }

    fn check_public(&self, request: Request<Body>) {
        let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().cloned().collect();
        let authority = request.uri().authority().map(ToString::to_string);
        let (response, _, recorded) = self.call(&self.public, request);
        let status = response.status();
        let is_known = matches!(status.as_u16(), 200 | 400 | 403 | 404 | 405 | 421 | 503);
        assert!(is_known, "{status}");
        let kept = response.headers().get_all(header::CACHE_CONTROL);
        assert!(kept.iter().any(|kept| kept == "no-store"), "{kept:?}");
        let acts =
            |recorded: &Recorded| !matches!(recorded, Recorded::Overview | Recorded::Token(_));
        assert!(!recorded.iter().any(acts), "{recorded:?}");
        if status != StatusCode::MISDIRECTED_REQUEST {
            let hosts = hosts.iter().map(|host| host.to_str().expect("a host's name").to_owned());
            let names: Vec<_> = hosts.chain(authority).collect();
            assert!(!names.is_empty() && names.iter().all(|name| is_allowed(name)), "{names:?}");
        }
    }
}

/// Whether `host` is one of the names of the public address, whatever the port.
fn is_allowed(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    ["127.0.0.1", "[127.0.0.1]", "localhost", HOST].contains(&&*name)
}

/// Records a command, and responds if that needs no daemon. A command without a response means that
/// the daemon is stopping.
fn answer(command: Command) -> Recorded {
    match command {
        Command::List(params, _) => Recorded::Tokens(params),
        Command::Token(name, _) => Recorded::Token(name),
        Command::Value { name, reply, .. } => {
            let value = TokenValue::parse(VALUE).expect("a value");
            // The client may have disconnected.
            let _ = reply.send(Ok(IssuedValue { value, state: crate::lifecycle::State::Alive }));
            Recorded::Value(name)
        }
        Command::Act { name, reply, .. } => {
            let _ = reply.send(Ok(()));
            Recorded::Act(name)
        }
        Command::Reload { .. } | Command::Rekey { .. } => Recorded::Reload,
        Command::Ping(reply) => {
            let _ = reply.send(Ok(()));
            Recorded::Overview
        }
        Command::Metrics { reply, .. } => {
            let _ = reply.send(Ok(prometheus_client::registry::Registry::default()));
            Recorded::Overview
        }
        Command::Socket(_)
        | Command::Health(_)
        | Command::AskEndpoints(_)
        | Command::Cluster(_)
        | Command::Events(..)
        | Command::Dashboard { .. }
        | Command::ReloadOutcome { .. } => Recorded::Overview,
    }
}

/// Checks that a path has these segments after the version, percent-decoded.
fn check_path(path: &str, parts: &[&str]) {
    let known: Vec<String> = path.split('/').skip(2).map(decoded).collect();
    assert_eq!(known, parts, "{path}");
}

fn decoded(part: &str) -> String {
    let mut rest = part.as_bytes();
    let mut bytes = Vec::new();
    while let Some(first) = rest.split_off_first() {
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &rest[2..];
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
