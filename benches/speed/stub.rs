//! Stub server for all measurements: responds to every request with an API envelope, over plain
//! HTTP/1.1 and over TLS with or without HTTP/2, on one thread.
//!
//! It reports a remaining life of a day, or spreads the checks: with a period, each token has its own
//! time in the period, and gets a life of which two thirds end at that time. By the default schedule
//! without jitter, all tokens are then checked once in every period, evenly spread.
//!
//! It runs as a separate process. Its first line of output is its three ports (plain, TLS, and TLS
//! without HTTP/2). For each line of input it prints the number of requests so far. A line with a
//! number sets the period in milliseconds; 0 means lives of a day. It exits when its input ends.

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::io::{BufRead, Write};
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
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::process::since_epoch;

/// The response with a remaining life of a day, so that no check becomes due because of the expiry.
const ENVELOPE: &[u8] = br#"{"ServerDateTime":"2026-01-05T09:30:00.000Z","TimeStamp":2461045.8958333335,"ExecutionTime":0.0625,"Result":{"Remaining":86400000}}"#;

/// Start of every other response.
const BEGINNING: &str = r#"{"ServerDateTime":"2026-01-05T09:30:00.000Z","TimeStamp":2461045.8958333335,"ExecutionTime":0.0625,"Result":{"Remaining":"#;

/// The default of `check_after`, in hundredths.
const CHECK_AFTER: u64 = 67;

/// Minimum time to a token's next check, in milliseconds; a quarter of the period if that is shorter.
/// So a token that is checked a little early is not checked again at once.
const AHEAD: u64 = 2_000;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// The period in milliseconds; 0 for lives of a day.
static PERIOD: AtomicU64 = AtomicU64::new(0);

/// Serves until standard input ends. The certificate goes to `certificate`.
pub(super) fn run(certificate: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let plain = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let secure = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let older = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        println!("{} {} {}", port(&plain), port(&secure), port(&older));
        let both = acceptor(certificate);
        tokio::spawn(serve_plain(plain));
        tokio::spawn(serve_secure(older, only_http1(&both)));
        tokio::spawn(serve_secure(secure, TlsAcceptor::from(Arc::new(both))));
        let told = tokio::task::spawn_blocking(tell);
        told.await.expect("told");
    });
}

fn tell() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if let Ok(period) = line.trim().parse() {
            PERIOD.store(period, Ordering::Relaxed);
        }
        println!("{}", REQUESTS.load(Ordering::Relaxed));
        std::io::stdout().flush().expect("a reader");
    }
    std::process::exit(0);
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    REQUESTS.fetch_add(1, Ordering::Relaxed);
    let body = match PERIOD.load(Ordering::Relaxed) {
        0 => Bytes::from_static(ENVELOPE),
        period => {
            let life = life(request.uri().query().unwrap_or_default(), period);
            format!("{BEGINNING}{life}}}}}").into()
        }
    };
    let mut response = Response::new(Full::new(body));
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

async fn accepted(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    stream
}

async fn serve_plain(listener: TcpListener) {
    loop {
        let stream = TokioIo::new(accepted(&listener).await);
        tokio::spawn(http1::Builder::new().serve_connection(stream, service_fn(answer)));
    }
}

async fn serve_secure(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let stream = accepted(&listener).await;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let (stream, service) = (TokioIo::new(stream), service_fn(answer));
            // A client that disconnects may or may not cause an error here.
            if is_http2 {
                let server = http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(stream, service).await;
            } else {
                let _ = http1::Builder::new().serve_connection(stream, service).await;
            }
        });
    }
}

fn only_http1(both: &ServerConfig) -> TlsAcceptor {
    let mut config = both.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn acceptor(certificate: &Path) -> ServerConfig {
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
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
