//! Read-only routes of the dashboard.
//!
//! Every client that can reach the address sees them. They reveal names (unless hidden), states and
//! times of tokens, but no messages or details of events.

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

use super::{Broadcaster, DashboardHtml, Hello, Snapshot, stream};
use crate::control::connection_activity::ConnectionActivity;
use crate::control::host_check::{AllowedHosts, is_cross_site};
use crate::control::{Command, EventView};

/// Maximum number of event streams: less than the minimum of 16 connections, so that other clients
/// can always connect.
const MAX_STREAMS: usize = 12;

/// Headers of every response: no caching, no content sniffing, no use by other sites.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Shared state of the request handlers.
#[derive(Clone)]
struct DashboardState {
    broadcaster: Arc<Broadcaster>,
    html: Arc<DashboardHtml>,
    hello: Hello,
    streams: Arc<Semaphore>,
    commands: mpsc::Sender<Command>,
}

/// The routes, with token names if `names`, and the task of the broadcaster. Must be called within a
/// runtime.
pub(in crate::control) fn routes(
    names: bool,
    commands: mpsc::Sender<Command>,
) -> (Router, JoinHandle<()>) {
    let state = DashboardState {
        broadcaster: Arc::new(Broadcaster::new()),
        html: Arc::new(DashboardHtml::new()),
        hello: Hello { version: env!("CARGO_PKG_VERSION"), names },
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        commands: commands.clone(),
    };
    let broadcaster = Arc::clone(&state.broadcaster);
    let snapshots = tokio::spawn(async move {
        broadcaster.run(|| query_snapshot(commands.clone(), names)).await;
    });
    let routes = Router::new()
        .route("/", get(dashboard))
        .route("/page/stream", get(event_stream))
        .route("/page/story", get(token_events))
        .with_state(state);
    (routes, snapshots)
}

/// Queries the main loop for a snapshot; `None` if the main loop is gone.
async fn query_snapshot(commands: mpsc::Sender<Command>, names: bool) -> Option<Snapshot> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Dashboard { names, reply }).await.ok()?;
    answer.await.ok()?.ok()
}

/// Adds the host check to `routes`.
pub(in crate::control) fn with_host_check(routes: Router, hosts: AllowedHosts) -> Router {
    routes.layer(from_fn_with_state(Arc::new(hosts), check_host))
}

/// Rejects requests for another host, and adds [`HEADERS`] to every response.
async fn check_host(
    State(hosts): State<Arc<AllowedHosts>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = if hosts.allow(request.uri(), request.headers()) {
        next.run(request).await
    } else {
        let message = "the Host header names another host; see listen_hosts in [control]\n";
        (StatusCode::MISDIRECTED_REQUEST, message).into_response()
    };
    response.headers_mut().extend(HEADERS);
    response
}

async fn dashboard(State(state): State<DashboardState>) -> Response {
    let csp = [(header::CONTENT_SECURITY_POLICY, state.html.csp())];
    (csp, Html(DashboardHtml::text())).into_response()
}

async fn event_stream(
    State(state): State<DashboardState>,
    Extension(activity): Extension<ConnectionActivity>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if is_cross_site(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    // A HEAD request gets no stream, and its connection keeps the maximum duration.
    if method != Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Ok(permit) = Arc::clone(&state.streams).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many open event streams; close one\n")
            .into_response();
    };
    activity.mark_streaming();
    let events = stream(&state.broadcaster, &state.hello).map(move |event| {
        let _held = &permit;
        Ok::<_, Infallible>(event)
    });
    Sse::new(events).into_response()
}

#[derive(Deserialize)]
struct EventsParams {
    name: String,
}

/// An event of a token, in the wire format.
#[derive(Serialize)]
struct EventSummary {
    at: String,
    event: String,
    level: String,
}

async fn token_events(
    State(state): State<DashboardState>,
    headers: HeaderMap,
    Query(EventsParams { name }): Query<EventsParams>,
) -> Result<Json<Vec<EventSummary>>, StatusCode> {
    if is_cross_site(&headers) {
        return Err(StatusCode::FORBIDDEN);
    }
    if !state.hello.names {
        return Err(StatusCode::NOT_FOUND);
    }
    let (reply, answer) = oneshot::channel();
    let gone = StatusCode::SERVICE_UNAVAILABLE;
    state.commands.send(Command::Token(name, reply)).await.map_err(|_| gone)?;
    let token = answer.await.map_err(|_| gone)?.map_err(|_| StatusCode::NOT_FOUND)?;
    let rendered =
        |event: EventView| EventSummary { at: event.at, event: event.event, level: event.level };
    Ok(Json(token.events.into_iter().map(rendered).collect()))
}
