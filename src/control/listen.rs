//! What is served on the listening address: the page, to look and never to act.
//!
//! Everybody who can reach the address sees it. So it tells of tokens their names (unless they
//! are to be hidden), states and times, and of events neither messages nor details.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as Bound};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response, Sse};
use axum::routing::get;
use axum::{Extension, Json, Router};
use futures_util::StreamExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tower_service::Service as _;

use super::Command;
use super::host::{Hosts, is_from_elsewhere};
use super::page::{Document, Feed, Frame, Greeting, stream};

/// Connections at once; more of them wait to be accepted.
const CONNECTIONS: usize = 16;

/// So many of them may be browsers that watch: others have a place even then.
const WATCHERS: usize = 12;

/// How long a connection may last on which nobody watches.
const TIME: Duration = Duration::from_secs(5);

/// The pause after an accept that failed, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// What every answer says: it is nothing to be kept, guessed at, or used by other pages.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The address that is listened on; it ends when this is dropped.
#[derive(Debug)]
pub struct Listening([JoinHandle<()>; 2]);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Listens on `address`, and tells tokens by their names if `names`. To be called within a
/// runtime.
///
/// # Errors
///
/// When the address is taken or not this machine's.
pub fn listen(
    address: SocketAddr,
    names: bool,
    commands: mpsc::Sender<Command>,
) -> std::io::Result<Listening> {
    let listener = Bound::bind(address)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let shown = Shown {
        feed: Arc::new(Feed::new()),
        document: Arc::new(Document::new()),
        greeting: Greeting { version: env!("CARGO_PKG_VERSION"), names },
        watchers: Arc::new(Semaphore::new(WATCHERS)),
        commands: commands.clone(),
    };
    let feed = Arc::clone(&shown.feed);
    let producing = tokio::spawn(async move {
        feed.produce(|| look(commands.clone(), names)).await;
    });
    let hosts = Arc::new(Hosts::new(address, []));
    Ok(Listening([tokio::spawn(accept(listener, hosts, routes(shown))), producing]))
}

/// Asks the daemon's loop for what the page shows; `None` when there is no loop any more.
async fn look(commands: mpsc::Sender<Command>, names: bool) -> Option<Frame> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Look { names, reply }).await.ok()?;
    answer.await.ok()?.ok()
}

async fn accept(listener: TcpListener, hosts: Arc<Hosts>, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let (hosts, routes) = (Arc::clone(&hosts), routes.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection(stream, hosts, routes).await;
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Somebody watches on this connection: it is not cut off.
#[derive(Debug, Clone, Default)]
struct Watched(Arc<AtomicBool>);

async fn connection(stream: TcpStream, hosts: Arc<Hosts>, routes: Router) {
    let watched = Watched::default();
    let mark = watched.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (hosts, mut routes) = (Arc::clone(&hosts), routes.clone());
        request.extensions_mut().insert(mark.clone());
        async move {
            let mut response = if hosts.admit(request.uri(), request.headers()) {
                routes.call(request).await?
            } else {
                let message = "this is not the name of what you have reached\n";
                (StatusCode::MISDIRECTED_REQUEST, message).into_response()
            };
            for (name, value) in HEADERS {
                response.headers_mut().insert(name, header::HeaderValue::from_static(value));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks off, or takes too long, has nobody left to tell.
    if timeout(TIME, &mut connection).await.is_err() && watched.0.load(Ordering::Relaxed) {
        let _ = connection.await;
    }
}

/// What requests are answered from.
#[derive(Clone)]
struct Shown {
    feed: Arc<Feed>,
    document: Arc<Document>,
    greeting: Greeting,
    watchers: Arc<Semaphore>,
    commands: mpsc::Sender<Command>,
}

fn routes(shown: Shown) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/page/stream", get(watch))
        .route("/page/story", get(story))
        .with_state(shown)
}

async fn page(State(shown): State<Shown>) -> Response {
    let policy = [(header::CONTENT_SECURITY_POLICY, shown.document.policy())];
    (policy, Html(Document::text())).into_response()
}

async fn watch(
    State(shown): State<Shown>,
    Extension(watched): Extension<Watched>,
    headers: HeaderMap,
) -> Response {
    if is_from_elsewhere(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let Ok(place) = Arc::clone(&shown.watchers).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many watch already\n").into_response();
    };
    watched.0.store(true, Ordering::Relaxed);
    let events = stream(&shown.feed, &shown.greeting).map(move |event| {
        let _held = &place;
        Ok::<_, Infallible>(event)
    });
    Sse::new(events).into_response()
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
}

/// An event of a token, as the page tells it.
#[derive(Serialize)]
struct Told {
    at: String,
    event: String,
    level: String,
}

async fn story(
    State(shown): State<Shown>,
    headers: HeaderMap,
    Query(Wanted { name }): Query<Wanted>,
) -> Result<Json<Vec<Told>>, StatusCode> {
    if is_from_elsewhere(&headers) {
        return Err(StatusCode::FORBIDDEN);
    }
    if !shown.greeting.names {
        return Err(StatusCode::NOT_FOUND);
    }
    let (reply, answer) = oneshot::channel();
    let gone = StatusCode::SERVICE_UNAVAILABLE;
    shown.commands.send(Command::Token(name, reply)).await.map_err(|_| gone)?;
    let story = answer.await.map_err(|_| gone)?.map_err(|_| StatusCode::NOT_FOUND)?;
    let told =
        |event: super::EventView| Told { at: event.at, event: event.event, level: event.level };
    Ok(Json(story.events.into_iter().map(told).collect()))
}
