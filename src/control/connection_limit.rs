//! Connection limit of one listener, with eviction of idle connections.
//!
//! Every connection is accepted and served at once. If the limit is reached, the connection that
//! has been idle longest is closed. A connection is idle unless its request is in progress or it
//! receives an event stream. Incomplete requests count as idle, so a client cannot keep its
//! connection by sending single bytes.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tower_service::Service as _;

use super::connection_activity::{ConnectionActivity, TrackedStream};
use super::peer::Caller;
use crate::clock;
use crate::process;

/// Limits on the number and the duration of connections.
#[derive(Debug, Clone, Copy)]
struct ConnectionLimits {
    /// Maximum number of concurrent connections.
    connections: usize,
    /// The longest duration of a connection, however many requests it makes. Event streams are
    /// exempt.
    duration: Duration,
    /// A connection is not evicted before this time has passed since its last activity: a client
    /// that has just connected gets time to send its request.
    grace: Duration,
    /// An event stream whose client has read nothing for this time is closed. The stream sends
    /// something each second.
    stalled: Duration,
}

impl ConnectionLimits {
    /// A flood of idle connections is evicted at a rate of `connections` in each `grace`: 12,800 a
    /// second, so a new client waits for a fraction of a second behind thousands of them.
    fn new() -> Self {
        // Two listeners together leave most descriptors to requests, and room for event streams.
        let share = usize::try_from(process::descriptor_limit() / 16).unwrap_or(usize::MAX);
        Self {
            connections: share.clamp(16, 256),
            duration: Duration::from_secs(5),
            grace: Duration::from_millis(20),
            stalled: Duration::from_secs(30),
        }
    }
}

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    limits: ConnectionLimits,
    connections: Vec<(AbortHandle, ConnectionActivity)>,
    tasks: JoinSet<()>,
}

impl ConnectionLimit {
    pub(super) fn new() -> Self {
        Self { limits: ConnectionLimits::new(), connections: Vec::new(), tasks: JoinSet::new() }
    }

    /// Waits until there is room for another connection. If the limit is reached, evicts the one
    /// that has been idle for the longest time, as soon as its grace is over.
    pub(super) async fn make_room(&mut self) {
        loop {
            self.forget_closed();
            if self.connections.len() < self.limits.connections {
                return;
            }
            let wait = self.evict();
            let _ = timeout(wait.max(Duration::from_millis(1)), self.tasks.join_next()).await;
        }
    }

    /// Closes the connection that has been idle for the longest time, if its grace is over; returns
    /// how long that will take otherwise.
    pub(super) fn evict(&mut self) -> Duration {
        self.forget_closed();
        let idle = self
            .connections
            .iter()
            .filter_map(|(task, activity)| activity.idle_since().map(|since| (since, task)));
        let Some((since, task)) = idle.min_by_key(|(since, _)| *since) else {
            return self.limits.grace;
        };
        let wait = (since + self.limits.grace).since(clock::now());
        if wait.is_zero() {
            task.abort();
        }
        wait
    }

    fn forget_closed(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.connections.retain(|(task, _)| !task.is_finished());
    }

    /// Serves a connection of `caller`, for which there is room.
    pub(super) fn serve(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        routes: Router,
        caller: Option<Caller>,
    ) {
        let activity = ConnectionActivity::new();
        let task =
            self.tasks.spawn(connection(stream, routes, caller, activity.clone(), self.limits));
        self.connections.push((task, activity));
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    caller: Option<Caller>,
    activity: ConnectionActivity,
    limits: ConnectionLimits,
) {
    let request_activity = activity.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let guard = request_activity.begin_request();
        request.extensions_mut().insert(request_activity.clone());
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let answer = routes.clone().call(request);
        async move {
            let answer = answer.await;
            drop(guard);
            answer
        }
    });
    let stream = TokioIo::new(TrackedStream::new(stream, activity.clone()));
    let mut connection = std::pin::pin!(http1::Builder::new().serve_connection(stream, service));
    // A connection that ends with an error has no client left to report it to.
    let mut duration = limits.duration;
    while timeout(duration, &mut connection).await.is_err() && activity.is_streaming() {
        duration = (activity.last_activity() + limits.stalled).since(clock::now());
        if duration.is_zero() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use axum::Extension;
    use axum::body::Body;
    use axum::routing::get;
    use futures_util::stream::repeat;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Two connections, and no grace.
    const FEW: ConnectionLimits = ConnectionLimits {
        connections: 2,
        duration: Duration::from_secs(60),
        grace: Duration::ZERO,
        stalled: Duration::from_millis(20),
    };

    fn limited(limits: ConnectionLimits) -> ConnectionLimit {
        ConnectionLimit { limits, ..ConnectionLimit::new() }
    }

    fn routes() -> Router {
        let for_ever = |Extension(activity): Extension<ConnectionActivity>| async move {
            activity.mark_streaming();
            Body::from_stream(repeat(Ok::<_, Infallible>("more\n")))
        };
        Router::new()
            .route("/", get("well"))
            .route("/slow", get(pending::<()>))
            .route("/for-ever", get(for_ever))
    }

    /// A connection that has requested `path`, if any.
    async fn connect(limit: &mut ConnectionLimit, path: Option<&str>) -> DuplexStream {
        let (mut ours, theirs) = duplex(1_024);
        limit.serve(theirs, routes(), None);
        if let Some(path) = path {
            let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
            ours.write_all(request.as_bytes()).await.expect("a reader");
        }
        ours
    }

    /// Waits until `count` requests are being answered.
    async fn answering(limit: &ConnectionLimit, count: usize) {
        while limit.connections.iter().filter(|(_, one)| one.idle_since().is_none()).count() < count
        {
            tokio::task::yield_now().await;
        }
    }

    async fn is_closed(stream: &mut DuplexStream) -> bool {
        let mut rest = Vec::new();
        timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.is_ok()
    }

    #[tokio::test]
    async fn the_connection_that_is_idle_for_the_longest_time_is_evicted() {
        let mut limit = limited(FEW);
        let mut first = connect(&mut limit, None).await;
        while clock::now() == limit.connections[0].1.last_activity() {
            tokio::task::yield_now().await;
        }
        let mut second = connect(&mut limit, Some("/")).await;
        let mut answer = [0; 12];
        second.read_exact(&mut answer).await.expect("an answer");
        limit.make_room().await;
        assert!(is_closed(&mut first).await);
        assert_eq!((&answer, limit.connections.len()), (b"HTTP/1.1 200", 1));
    }

    #[tokio::test]
    async fn a_connection_is_not_evicted_while_its_request_is_being_answered() {
        let mut limit = limited(FEW);
        let _slow = connect(&mut limit, Some("/slow")).await;
        let _lasting = connect(&mut limit, Some("/for-ever")).await;
        answering(&limit, 2).await;
        assert!(timeout(Duration::from_millis(50), limit.make_room()).await.is_err());
        assert_eq!(limit.connections.len(), 2);
    }

    #[tokio::test]
    async fn a_connection_with_half_a_request_is_evicted() {
        let mut limit = limited(FEW);
        let _slow = connect(&mut limit, Some("/slow")).await;
        let mut half = connect(&mut limit, None).await;
        half.write_all(b"GET / HTTP/1.1\r\nHost:").await.expect("a reader");
        answering(&limit, 1).await;
        limit.make_room().await;
        assert!(is_closed(&mut half).await);
    }

    #[tokio::test]
    async fn an_event_stream_whose_client_reads_nothing_is_closed() {
        let mut limit = limited(ConnectionLimits { duration: Duration::from_millis(1), ..FEW });
        let mut stalled = connect(&mut limit, Some("/for-ever")).await;
        assert!(limit.tasks.join_next().await.is_some_and(|ended| ended.is_ok()));
        assert!(is_closed(&mut stalled).await);
    }

    #[tokio::test]
    async fn an_event_stream_whose_client_reads_stays_open() {
        let mut limit = limited(ConnectionLimits { duration: Duration::from_millis(1), ..FEW });
        let mut listening = connect(&mut limit, Some("/for-ever")).await;
        let end = clock::now() + FEW.stalled * 5;
        let mut some = [0; 256];
        while clock::now() < end {
            assert_ne!(listening.read(&mut some).await.expect("more"), 0);
            tokio::task::yield_now().await;
        }
    }
}
