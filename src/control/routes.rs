//! The paths, and what each asks the daemon's loop for.

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
use tokio::time::timeout;

use super::metrics::Format;
use super::view::{Health, Listing, Page, Reloading, Story};
use super::{Caller, Command, Handed, Problem, ProblemKind, Reply};
use crate::clock;
use crate::lifecycle;
use crate::time::Moment;

/// How long a request waits for the end of a reload: within the time of its connection.
const RELOAD: Duration = Duration::from_millis(4_500);

/// A loop that does not answer by then is stalled: it does nothing that takes so long.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

type Answer<T> = Result<T, Problem>;

/// What is served on the socket.
pub(super) fn socket(commands: mpsc::Sender<Command>) -> Router {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/tokens", get(list))
        .route("/v1/tokens/{name}", get(token))
        .route("/v1/tokens/{name}/value", get(value))
        .route("/v1/tokens/{name}/{action}", post(act))
        .route("/v1/reload", post(reload).get(reloaded))
        .merge(health_and_metrics(true))
        .fallback(nowhere)
        .method_not_allowed_fallback(no_method)
        .with_state(Loop::new(commands))
}

/// What is served on `control.listen`, for anybody who can connect.
pub(super) fn public(commands: mpsc::Sender<Command>, names: bool) -> Router {
    health_and_metrics(names)
        .fallback(nowhere)
        .method_not_allowed_fallback(no_method)
        .with_state(Loop::new(commands))
}

fn health_and_metrics(names: bool) -> Router<Loop> {
    let metrics = move |the_loop, headers| metrics(the_loop, headers, names);
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(alive))
        .route("/readyz", get(alive))
}

/// The loop makes progress; and it only goes round once the first checks are under way, and
/// until the daemon stops.
async fn alive(State(the_loop): State<Loop>) -> Answer<&'static str> {
    let sign = timeout(SIGN_OF_LIFE, the_loop.ask(Command::Alive)).await;
    let stalled = |_| Problem::new(ProblemKind::Unavailable, "the daemon's loop is stalled");
    sign.map_err(stalled)?.map(|()| "ok\n")
}

async fn metrics(
    State(the_loop): State<Loop>,
    headers: HeaderMap,
    names: bool,
) -> Answer<Response> {
    let registry = the_loop.scan(|reply| Command::Metrics { names, reply }).await?;
    let format = Format::wanted_by(&headers);
    let text = format
        .write(&registry)
        .map_err(|_| Problem::new(ProblemKind::Unavailable, "the metrics cannot be written"))?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()))], text)
        .into_response())
}

/// Requests about all tokens that the daemon's loop works on at once, for each listener. Each makes
/// every step of the scan longer, which delays checks.
const SCANS: usize = 16;

/// The daemon's loop, as requests know it.
#[derive(Clone)]
struct Loop {
    commands: mpsc::Sender<Command>,
    scans: Arc<Semaphore>,
}

impl Loop {
    fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands, scans: Arc::new(Semaphore::new(SCANS)) }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Problem::stopping())?;
        answer.await.map_err(|_| Problem::stopping())?
    }

    /// As [`Self::ask`], for what takes a scan of all tokens.
    async fn scan<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Answer<T> {
        // It is never closed.
        let _permit = self.scans.acquire().await;
        self.ask(command).await
    }
}

async fn health(State(the_loop): State<Loop>) -> Answer<Json<Health>> {
    the_loop.ask(Command::Health).await.map(Json)
}

async fn list(
    State(the_loop): State<Loop>,
    query: Result<Query<Listing>, QueryRejection>,
) -> Answer<Json<Page>> {
    let Query(listing) = query.map_err(|error| bad(&error.body_text()))?;
    the_loop.scan(|reply| Command::List(listing, reply)).await.map(Json)
}

async fn token(
    State(the_loop): State<Loop>,
    name: Result<Path<String>, PathRejection>,
) -> Answer<Json<Story>> {
    let Path(name) = name.map_err(|error| bad(&error.body_text()))?;
    the_loop.ask(|reply| Command::Token(name, reply)).await.map(Json)
}

/// Tells of a value whether an answer says that it lives.
pub(super) const STATE: HeaderName = HeaderName::from_static("tokenkeep-state");

/// What that says where no answer does.
pub(super) const UNVERIFIED: &str = "unverified";

/// The value as plain text with a line break: what a file of it would hold.
async fn value(
    State(the_loop): State<Loop>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
) -> Answer<Response> {
    let Path(name) = name.map_err(|error| bad(&error.body_text()))?;
    let Handed { value, verified } =
        the_loop.ask(|reply| Command::Value { name, caller, reply }).await?;
    let state = HeaderValue::from_static(if verified { "alive" } else { UNVERIFIED });
    let headers = [
        (STATE, state),
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, format!("{}\n", value.expose())).into_response())
}

async fn act(
    State(the_loop): State<Loop>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Answer<Response> {
    let Path((name, action)) = path.map_err(|error| bad(&error.body_text()))?;
    let request = match action.as_str() {
        "check" => lifecycle::OperatorRequest::Check,
        "reauth" => lifecycle::OperatorRequest::Reauth,
        "pause" => lifecycle::OperatorRequest::Pause,
        "resume" => lifecycle::OperatorRequest::Resume,
        "revoke" => lifecycle::OperatorRequest::Revoke,
        _ => return Err(Problem::new(ProblemKind::NotFound, "there is no such action")),
    };
    the_loop.ask(|reply| Command::Act { name, request, caller, reply }).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    #[serde(default = "patient")]
    wait: bool,
}

const fn patient() -> bool {
    true
}

async fn reload(
    State(the_loop): State<Loop>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Waiting>, QueryRejection>,
) -> Answer<Response> {
    let Query(Waiting { wait }) = query.map_err(|error| bad(&error.body_text()))?;
    let until = clock::now() + if wait { RELOAD } else { Duration::from_millis(100) };
    let number = the_loop.ask(|reply| Command::Reload { caller, reply }).await?;
    end_of_reload(&the_loop, number, caller, until).await
}

async fn reloaded(
    State(the_loop): State<Loop>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Reloading>, QueryRejection>,
) -> Answer<Response> {
    let Query(Reloading { number }) = query.map_err(|error| bad(&error.body_text()))?;
    end_of_reload(&the_loop, number, caller, clock::now() + RELOAD).await
}

async fn end_of_reload(
    the_loop: &Loop,
    number: u64,
    caller: Caller,
    until: Moment,
) -> Answer<Response> {
    let asked = the_loop.ask(|reply| Command::Outcome { number, caller, reply });
    match timeout(until.since(clock::now()), asked).await {
        Ok(outcome) => Ok(Json(outcome?).into_response()),
        Err(_) => Ok((StatusCode::ACCEPTED, Json(Reloading { number })).into_response()),
    }
}

async fn nowhere(request: Request) -> Problem {
    let message = format!("there is nothing at {}", request.uri().path());
    Problem::new(ProblemKind::NotFound, message)
}

async fn no_method(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(ProblemKind::MethodNotAllowed, format!("{path} knows no {method}"))
}

fn bad(message: &str) -> Problem {
    Problem::new(ProblemKind::BadRequest, message)
}
