//! The page's paths: to look, and never to act.
//!
//! Everybody who can reach the address sees them. So they tell of tokens their names (unless
//! these are to be hidden), states and times, and of events neither messages nor details.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::header::HeaderValue;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse as _, Response, Sse};
use axum::routing::get;
use axum::{Extension, Json, Router};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Document, Feed, Frame, Greeting, stream};
use crate::control::connection_activity::Activity;
use crate::control::host::{Hosts, is_from_elsewhere};
use crate::control::{Command, EventView};

/// So many may watch, of the connections that there are, at least 16: others can connect even then.
const WATCHERS: usize = 12;

/// What every answer says: it is nothing to be kept, guessed at, or used by other pages.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// What requests are answered from.
#[derive(Clone)]
struct Shown {
    feed: Arc<Feed>,
    document: Arc<Document>,
    greeting: Greeting,
    watchers: Arc<Semaphore>,
    commands: mpsc::Sender<Command>,
}

/// The page, with the tokens' names if `names`; and the task that looks at the daemon for it. To
/// be called within a runtime.
pub(in crate::control) fn routes(
    names: bool,
    commands: mpsc::Sender<Command>,
) -> (Router, JoinHandle<()>) {
    let shown = Shown {
        feed: Arc::new(Feed::new()),
        document: Arc::new(Document::new()),
        greeting: Greeting { version: env!("CARGO_PKG_VERSION"), names },
        watchers: Arc::new(Semaphore::new(WATCHERS)),
        commands: commands.clone(),
    };
    let feed = Arc::clone(&shown.feed);
    let looking = tokio::spawn(async move {
        feed.produce(|| look(commands.clone(), names)).await;
    });
    let routes = Router::new()
        .route("/", get(page))
        .route("/page/stream", get(watch))
        .route("/page/story", get(story))
        .with_state(shown);
    (routes, looking)
}

/// Asks the daemon's loop for what the page shows; `None` when there is no loop any more.
async fn look(commands: mpsc::Sender<Command>, names: bool) -> Option<Frame> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Look { names, reply }).await.ok()?;
    answer.await.ok()?.ok()
}

/// `routes` for requests that are meant for this machine alone.
pub(in crate::control) fn guarded(routes: Router, hosts: Hosts) -> Router {
    routes.layer(from_fn_with_state(Arc::new(hosts), guard))
}

/// Refuses what is meant for another host.
async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let mut response = if hosts.admit(request.uri(), request.headers()) {
        next.run(request).await
    } else {
        let message = "what you have reached is not called so; see listen_hosts in [control]\n";
        (StatusCode::MISDIRECTED_REQUEST, message).into_response()
    };
    response.headers_mut().extend(HEADERS);
    response
}

async fn page(State(shown): State<Shown>) -> Response {
    let policy = [(header::CONTENT_SECURITY_POLICY, shown.document.policy())];
    (policy, Html(Document::text())).into_response()
}

async fn watch(
    State(shown): State<Shown>,
    Extension(activity): Extension<Activity>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if is_from_elsewhere(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    // Nothing is streamed to who asks for the head alone, and the connection is one of those
    // that are to end.
    if method != Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Ok(place) = Arc::clone(&shown.watchers).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many watch already\n").into_response();
    };
    activity.lasts();
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
    let told = |event: EventView| Told { at: event.at, event: event.event, level: event.level };
    Ok(Json(story.events.into_iter().map(told).collect()))
}
