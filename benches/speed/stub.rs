//! Stub server for all measurements: responds to every request with an API envelope, over plain
//! HTTP/1.1 and over TLS with or without HTTP/2, on one thread.
//!
//! It reports a remaining life of a day, or spreads the checks: with a period, each token has its own
//! time in the period, and gets a life of which two thirds end at that time. By the default schedule
//! without jitter, all tokens are then checked once in every period, evenly spread.
//!
//! It runs as a separate process. Its first line of output is its three ports (plain, TLS, and TLS
//! without HTTP/2). It executes each line of input, and prints the number of requests, full TLS
//! handshakes and resumed ones so far. It exits when its input ends.
//!
//! | line | effect |
//! |---|---|
//! | (empty) | none |
//! | `period MS` | sets the period; 0 means lives of a day |
//! | `life MS` | sets the life of each token |
//! | `down` | closes the listeners and all connections, as when the process is killed |
//! | `up` | listens on the same ports, with the same certificate and session tickets |
//! | `up forgetful` | the same with new keys of the session tickets, like a restarted process |

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::error::Error;
use std::hash::{Hash, Hasher};
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};

use super::process::since_epoch;

/// Start of every response; the remaining life follows.
const BEGINNING: &str = r#"{"ServerDateTime":"2026-01-05T09:30:00.000Z","TimeStamp":2461045.8958333335,"ExecutionTime":0.0625,"Result":{"Remaining":"#;

/// The default of `check_after`, in hundredths.
pub(super) const CHECK_AFTER: u64 = 67;

/// Minimum time to a token's next check, in milliseconds; a quarter of the period if that is shorter.
/// So a token that is checked a little early is not checked again at once.
const AHEAD: u64 = 2_000;

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static FULL_HANDSHAKES: AtomicU64 = AtomicU64::new(0);
static RESUMED_HANDSHAKES: AtomicU64 = AtomicU64::new(0);

/// The period in milliseconds; 0 if each token has the same life.
static PERIOD: AtomicU64 = AtomicU64::new(0);

/// The life of each token in milliseconds. By default a day, so that no check becomes due because of
/// the expiry.
static LIFE: AtomicU64 = AtomicU64::new(86_400_000);

/// Serves until standard input ends. The certificate goes to `certificate`.
pub(super) fn run(certificate: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut stub = Stub::new(certificate);
        stub.listen().await;
        let [plain, secure, older] = stub.ports;
        println!("{plain} {secure} {older}");
        let (lines, mut commands) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                lines.send(line).expect("a stub that runs");
            }
        });
        while let Some(line) = commands.recv().await {
            stub.execute(&line).await;
            let counts = [&REQUESTS, &FULL_HANDSHAKES, &RESUMED_HANDSHAKES];
            let [requests, full, resumed] = counts.map(|count| count.load(Ordering::Relaxed));
            println!("{requests} {full} {resumed}");
        }
    });
}

/// The listeners, each a task that owns its connections.
struct Stub {
    /// Plain, TLS, and TLS without HTTP/2; 0 before the first start.
    ports: [u16; 3],
    tls: ServerConfig,
    listeners: JoinSet<()>,
}

impl Stub {
    fn new(certificate: &Path) -> Self {
        Self { ports: [0; 3], tls: tls(certificate), listeners: JoinSet::new() }
    }

    async fn execute(&mut self, line: &str) {
        let number = |text: &str| text.parse().expect("a number");
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["period", millis] => PERIOD.store(number(millis), Ordering::Relaxed),
            ["life", millis] => LIFE.store(number(millis), Ordering::Relaxed),
            ["down"] => self.listeners.shutdown().await,
            ["up"] => self.listen().await,
            ["up", "forgetful"] => {
                self.tls.ticketer = Ticketer::new().expect("keys");
                self.listen().await;
            }
            _ => {}
        }
    }

    async fn listen(&mut self) {
        let mut older = self.tls.clone();
        older.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptors = [None, Some(self.tls.clone()), Some(older)]
            .map(|config| config.map(|config| TlsAcceptor::from(Arc::new(config))));
        for (port, acceptor) in self.ports.iter_mut().zip(acceptors) {
            let listener = TcpListener::bind(("127.0.0.1", *port)).await.expect("a port");
            *port = listener.local_addr().expect("an address").port();
            self.listeners.spawn(serve(listener, acceptor));
        }
    }
}

async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        // A client that disconnects may or may not cause an error here.
        match acceptor.clone() {
            Some(acceptor) => connections.spawn(async move {
                let _ = serve_secure(stream, acceptor).await;
            }),
            None => connections.spawn(async move {
                let stream = TokioIo::new(stream);
                let _ = http1::Builder::new().serve_connection(stream, service_fn(answer)).await;
            }),
        };
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_secure(stream: TcpStream, acceptor: TlsAcceptor) -> Result<(), Box<dyn Error>> {
    let stream = acceptor.accept(stream).await?;
    let tls = stream.get_ref().1;
    let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
    let count = if resumed { &RESUMED_HANDSHAKES } else { &FULL_HANDSHAKES };
    count.fetch_add(1, Ordering::Relaxed);
    let is_http2 = tls.alpn_protocol() == Some(b"h2");
    let (stream, service) = (TokioIo::new(stream), service_fn(answer));
    if is_http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await?;
    } else {
        http1::Builder::new().serve_connection(stream, service).await?;
    }
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    REQUESTS.fetch_add(1, Ordering::Relaxed);
    let life = match PERIOD.load(Ordering::Relaxed) {
        0 => LIFE.load(Ordering::Relaxed),
        period => life(request.uri().query().unwrap_or_default(), period),
    };
    let mut response = Response::new(Full::new(format!("{BEGINNING}{life}}}}}").into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The life of the token in this query; two thirds of it end at the token's time in the period.
fn life(query: &str, period: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    query.hash(&mut hasher);
    let now = u64::try_from(since_epoch().as_millis()).expect("a clock of this age");
    let ahead = (hasher.finish() % period + period - now % period) % period;
    let ahead = if ahead < AHEAD.min(period / 4) { ahead + period } else { ahead };
    ahead * 100 / CHECK_AFTER + 1
}

/// TLS with a certificate of its own, which goes to `certificate`. Session tickets are stateless, as
/// those of nginx: keys that survive a restart keep them valid.
fn tls(certificate: &Path) -> ServerConfig {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])
        .expect("a certificate");
    std::fs::write(certificate, made.cert.pem()).expect("a writable folder");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a usable certificate");
    config.ticketer = Ticketer::new().expect("keys");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
