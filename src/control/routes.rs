//! Routes of the control API: parses requests and forwards them to the main loop.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::cluster::ClusterDetail;
use super::events::{EventPage, EventParams, read_page};
use super::metrics_format::MetricsFormat;
use super::types::{Health, ListParams, Reloading, TokenDetail, TokenPage};
use super::{ApiError, ApiErrorKind, Caller, Command, IssuedValue, Reply, process_metrics};
use crate::clock;
use crate::lifecycle::OperatorRequest;
use crate::time::Moment;

/// How long a request waits for a reload: less than the maximum duration of a connection.
const RELOAD_TIMEOUT: Duration = Duration::from_millis(4_500);

/// How long a request waits for the endpoints of etcd: longer than their own timeout.
const ENDPOINTS_TIMEOUT: Duration = Duration::from_secs(2);

/// If the main loop does not respond within this time, it is stalled.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

type ApiResult<T> = Result<T, ApiError>;

/// The routes of the control socket.
pub(super) fn socket(commands: mpsc::Sender<Command>) -> Router {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/tokens", get(list))
        .route("/v1/tokens/{name}", get(token))
        .route("/v1/tokens/{name}/value", get(value))
        .route("/v1/tokens/{name}/{action}", post(act))
        .route("/v1/events", get(events))
        .route("/v1/cluster", get(cluster))
        .route("/v1/cluster/rekey", post(rekey))
        .route("/v1/reload", post(reload).get(reloaded))
        .merge(health_and_metrics(true))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(MainLoop::new(commands))
}

/// The routes of `control.listen`, for any client.
pub(super) fn public(commands: mpsc::Sender<Command>, names: bool) -> Router {
    health_and_metrics(names)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(MainLoop::new(commands))
}

fn health_and_metrics(names: bool) -> Router<MainLoop> {
    let metrics = move |main_loop, headers| metrics(main_loop, headers, names);
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health_check))
        .route("/readyz", get(health_check))
}

/// Liveness and readiness: the main loop responds from the first checks until shutdown.
async fn health_check(State(main_loop): State<MainLoop>) -> ApiResult<&'static str> {
    let reply = timeout(PING_TIMEOUT, main_loop.ask(Command::Ping)).await;
    let stalled = |_| ApiError::new(ApiErrorKind::Unavailable, "the daemon's loop is stalled");
    reply.map_err(stalled)?.map(|()| "ok\n")
}

async fn metrics(
    State(main_loop): State<MainLoop>,
    headers: HeaderMap,
    names: bool,
) -> ApiResult<Response> {
    let registry = main_loop.scan(|reply| Command::Metrics { names, reply }).await?;
    let unavailable = || ApiError::new(ApiErrorKind::Unavailable, "the metrics cannot be written");
    // With many descriptors, counting them takes milliseconds.
    let process = spawn_blocking(process_metrics::read).await.map_err(|_| unavailable())?;
    let format = MetricsFormat::negotiate(&headers);
    let text = format.write(&[registry, process]).map_err(|_| unavailable())?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()))], text)
        .into_response())
}

/// Maximum number of concurrent scans of all tokens, for each listener. Each scan makes the steps
/// longer, which delays checks.
const MAX_SCANS: usize = 16;

/// Handle on the main loop.
#[derive(Clone)]
struct MainLoop {
    commands: mpsc::Sender<Command>,
    scans: Arc<Semaphore>,
}

impl MainLoop {
    fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands, scans: Arc::new(Semaphore::new(MAX_SCANS)) }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> ApiResult<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| ApiError::stopping())?;
        answer.await.map_err(|_| ApiError::stopping())?
    }

    /// As [`Self::ask`], for a command that scans all tokens.
    async fn scan<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> ApiResult<T> {
        // The semaphore is never closed.
        let _permit = self.scans.acquire().await;
        self.ask(command).await
    }
}

async fn health(State(main_loop): State<MainLoop>) -> ApiResult<Json<Health>> {
    main_loop.ask(Command::Health).await.map(Json)
}

async fn list(
    State(main_loop): State<MainLoop>,
    query: Result<Query<ListParams>, QueryRejection>,
) -> ApiResult<Json<TokenPage>> {
    let Query(params) = query.map_err(|error| bad_request(&error.body_text()))?;
    main_loop.scan(|reply| Command::List(params, reply)).await.map(Json)
}

async fn token(
    State(main_loop): State<MainLoop>,
    name: Result<Path<String>, PathRejection>,
) -> ApiResult<Json<TokenDetail>> {
    let Path(name) = name.map_err(|error| bad_request(&error.body_text()))?;
    main_loop.ask(|reply| Command::Token(name, reply)).await.map(Json)
}

async fn events(
    State(main_loop): State<MainLoop>,
    query: Result<Query<EventParams>, QueryRejection>,
) -> ApiResult<Json<EventPage>> {
    let Query(params) = query.map_err(|error| bad_request(&error.body_text()))?;
    // The semaphore is never closed.
    let _permit = main_loop.scans.acquire().await;
    let step = |scan| main_loop.ask(|reply| Command::Events(scan, reply));
    read_page(params, step).await.map(Json)
}

/// Response header: whether the token of a value is known to be alive.
pub(super) const STATE_HEADER: HeaderName = HeaderName::from_static("tokenkeep-state");

/// The token value as plain text with a line break, like a token file.
async fn value(
    State(main_loop): State<MainLoop>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
) -> ApiResult<Response> {
    let Path(name) = name.map_err(|error| bad_request(&error.body_text()))?;
    let IssuedValue { value, state } =
        main_loop.ask(|reply| Command::Value { name, caller, reply }).await?;
    let headers = [
        (STATE_HEADER, HeaderValue::from_static(state.as_str())),
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, format!("{}\n", value.expose())).into_response())
}

async fn act(
    State(main_loop): State<MainLoop>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> ApiResult<Response> {
    let Path((name, action)) = path.map_err(|error| bad_request(&error.body_text()))?;
    let request = OperatorRequest::ALL.into_iter().find(|request| request.as_str() == action);
    let no_action = || ApiError::new(ApiErrorKind::NotFound, "there is no such action");
    let request = request.ok_or_else(no_action)?;
    main_loop.ask(|reply| Command::Act { name, request, caller, reply }).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn cluster(State(main_loop): State<MainLoop>) -> ApiResult<Json<ClusterDetail>> {
    // An endpoint that hangs is given up; then what is known is shown.
    if let Ok(asked) = timeout(ENDPOINTS_TIMEOUT, main_loop.ask(Command::AskEndpoints)).await {
        asked?;
    }
    main_loop.ask(Command::Cluster).await.map(Json)
}

async fn rekey(
    State(main_loop): State<MainLoop>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<StatusCode> {
    main_loop.ask(|reply| Command::Rekey { caller, reply }).await?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadParams {
    #[serde(default = "wait_by_default")]
    wait: bool,
}

const fn wait_by_default() -> bool {
    true
}

async fn reload(
    State(main_loop): State<MainLoop>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ReloadParams>, QueryRejection>,
) -> ApiResult<Response> {
    let Query(ReloadParams { wait }) = query.map_err(|error| bad_request(&error.body_text()))?;
    let until = clock::now() + if wait { RELOAD_TIMEOUT } else { Duration::from_millis(100) };
    let number = main_loop.ask(|reply| Command::Reload { caller, reply }).await?;
    wait_for_reload(&main_loop, number, caller, until).await
}

async fn reloaded(
    State(main_loop): State<MainLoop>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Reloading>, QueryRejection>,
) -> ApiResult<Response> {
    let Query(Reloading { number }) = query.map_err(|error| bad_request(&error.body_text()))?;
    wait_for_reload(&main_loop, number, caller, clock::now() + RELOAD_TIMEOUT).await
}

async fn wait_for_reload(
    main_loop: &MainLoop,
    number: u64,
    caller: Caller,
    until: Moment,
) -> ApiResult<Response> {
    let asked = main_loop.ask(|reply| Command::ReloadOutcome { number, caller, reply });
    match timeout(until.since(clock::now()), asked).await {
        Ok(outcome) => Ok(Json(outcome?).into_response()),
        Err(_) => Ok((StatusCode::ACCEPTED, Json(Reloading { number })).into_response()),
    }
}

async fn not_found(request: Request) -> ApiError {
    let message = format!("there is nothing at {}", request.uri().path());
    ApiError::new(ApiErrorKind::NotFound, message)
}

async fn method_not_allowed(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::new(ApiErrorKind::MethodNotAllowed, format!("{path} does not support {method}"))
}

fn bad_request(message: &str) -> ApiError {
    ApiError::new(ApiErrorKind::BadRequest, message)
}
