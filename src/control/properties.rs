//! Properties of what control requests lead to, for arbitrary input. See `crate::fuzzing`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;
use tower_service::Service as _;

use super::connection_activity::Activity;
use super::host::Hosts;
use super::problem::Enveloped;
use super::{Caller, Command, Handed, Listing, channel, page, routes};
use crate::daemon::check_filter;
use crate::secret::TokenValue;
use crate::text::printable;

/// The value that is handed out.
const VALUE: &str = "0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77";

/// What the public address is called, besides `127.0.0.1` and `localhost`.
const HOST: &str = "keep.example";

/// What a request has asked the daemon's loop for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// Something that tells nothing of a single token.
    Overview,
    Tokens(Listing),
    /// One token's state.
    Token(String),
    Value(String),
    Act(String),
    Reload,
}

thread_local! {
    static DOUBLE: Double = Double::new();
}

/// Both routers in front of a loop that notes what it is asked for.
struct Double {
    runtime: Runtime,
    socket: Router,
    public: Router,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// For every `input`, read as a request line, headers and a body: the socket answers with a status
/// and an error of its contract; only `POST` changes anything, only the path of a value hands one
/// out, and a name arrives as it was sent. The public address changes nothing, hands nothing out,
/// and answers only under its own names.
pub(crate) fn control(input: &[u8]) {
    let Some((request, again)) = request(input).zip(request(input)) else { return };
    DOUBLE.with(|double| {
        double.check_socket(request);
        double.check_public(again);
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
    request.extensions_mut().insert(Activity::new());
    Some(request)
}

impl Double {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (commands, mut inbox) = channel();
        let (page, _) = {
            let _entered = runtime.enter();
            page::routes(true, commands.clone())
        };
        let noted = Arc::clone(&asked);
        runtime.spawn(async move {
            while let Some(command) = inbox.recv().await {
                let asked = answer(command);
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            }
        });
        let listen = "127.0.0.1:9464".parse().expect("an address");
        let public = routes::public(commands.clone(), true).merge(page);
        let public = page::guarded(public, Hosts::new(listen, [HOST.to_owned()]));
        Self { runtime, socket: routes::socket(commands), public, asked }
    }

    /// The response, its body (not of a stream), and what the loop was asked for.
    fn call(&self, router: &Router, request: Request<Body>) -> (Response<()>, Vec<u8>, Vec<Asked>) {
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
            let asked = std::mem::take(&mut *self.asked.lock().expect("nothing has panicked"));
            (Response::from_parts(parts, ()), body, asked)
        })
    }

    fn check_socket(&self, request: Request<Body>) {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let (response, body, asked) = self.call(&self.socket, request);
        let status = response.status();
        let is_known = matches!(status.as_u16(), 200 | 202 | 400 | 403 | 404 | 405 | 409 | 503);
        assert!(is_known, "{method} {path}: {status}");
        if !status.is_success() && method != Method::HEAD {
            let problem: Enveloped = serde_json::from_slice(&body).expect("an error envelope");
            let message = problem.error.message;
            assert_eq!(printable(&message), message, "not fit for a terminal");
        }
        for asked in &asked {
            match asked {
                Asked::Overview => {}
                Asked::Tokens(listing) => check_filter(listing),
                Asked::Token(name) => check_path(&path, &["tokens", name]),
                Asked::Value(name) => {
                    check_path(&path, &["tokens", name, "value"]);
                    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
                }
                Asked::Act(name) => {
                    assert_eq!(method, Method::POST);
                    let action = path.rsplit('/').next().unwrap_or_default();
                    check_path(&path, &["tokens", name, &decoded(action)]);
                }
                Asked::Reload => assert_eq!(method, Method::POST),
            }
        }
        let has_value = String::from_utf8_lossy(&body).contains(VALUE);
        let may_have = asked.iter().any(|asked| matches!(asked, Asked::Value(_)));
        assert!(!has_value || may_have || path.contains(VALUE), "{method} {path} has the value");
    }

    fn check_public(&self, request: Request<Body>) {
        let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().cloned().collect();
        let authority = request.uri().authority().map(ToString::to_string);
        let (response, _, asked) = self.call(&self.public, request);
        let status = response.status();
        let is_known = matches!(status.as_u16(), 200 | 400 | 403 | 404 | 405 | 421 | 503);
        assert!(is_known, "{status}");
        let kept = response.headers().get_all(header::CACHE_CONTROL);
        assert!(kept.iter().any(|kept| kept == "no-store"), "{kept:?}");
        let acts = |asked: &Asked| !matches!(asked, Asked::Overview | Asked::Token(_));
        assert!(!asked.iter().any(acts), "{asked:?}");
        if status != StatusCode::MISDIRECTED_REQUEST {
            let hosts = hosts.iter().map(|host| host.to_str().expect("a host's name").to_owned());
            let names: Vec<_> = hosts.chain(authority).collect();
            assert!(!names.is_empty() && names.iter().all(|name| is_ours(name)), "{names:?}");
        }
    }
}

/// Whether `host` is one of the names of the public address, whatever the port.
fn is_ours(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    ["127.0.0.1", "[127.0.0.1]", "localhost", HOST].contains(&&*name)
}

/// Notes what a command asks for, and answers where that needs no daemon. What is not answered is
/// a daemon that is stopping.
fn answer(command: Command) -> Asked {
    match command {
        Command::List(listing, _) => Asked::Tokens(listing),
        Command::Token(name, _) => Asked::Token(name),
        Command::Value { name, reply, .. } => {
            let value = TokenValue::parse(VALUE).expect("a value");
            // The one who asks may have gone.
            let _ = reply.send(Ok(Handed { value, verified: true }));
            Asked::Value(name)
        }
        Command::Act { name, reply, .. } => {
            let _ = reply.send(Ok(()));
            Asked::Act(name)
        }
        Command::Reload { .. } => Asked::Reload,
        Command::Alive(reply) => {
            let _ = reply.send(Ok(()));
            Asked::Overview
        }
        Command::Metrics { reply, .. } => {
            let _ = reply.send(Ok(prometheus_client::registry::Registry::default()));
            Asked::Overview
        }
        Command::Socket(_)
        | Command::Health(_)
        | Command::Look { .. }
        | Command::Outcome { .. } => Asked::Overview,
    }
}

/// Whether a path has these parts behind the version, percent-decoded.
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
