//! The places of one listener: few connections at once, none of them for long, and none kept
//! from whoever has something to say by those who have not.

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

use super::activity::{Activity, Watched};
use super::peer::Caller;
use crate::clock;

/// How many, and for how long.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at once. One more is accepted, and waits for its place.
    places: usize,
    /// How long a connection may last, however many requests it makes.
    time: Duration,
    /// How long one on which nothing goes on keeps its place while another waits: who has just
    /// connected gets the time to say what for.
    grace: Duration,
    /// How long one that lasts may take nothing of what it is sent, which is something each
    /// second.
    stalled: Duration,
}

const LIMITS: Limits = Limits {
    places: 16,
    time: Duration::from_secs(5),
    grace: Duration::from_millis(250),
    stalled: Duration::from_secs(30),
};

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    taken: Vec<(AbortHandle, Activity)>,
    tasks: JoinSet<()>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { limits: LIMITS, taken: Vec::new(), tasks: JoinSet::new() }
    }

    /// Waits until there is room for one more. Where all places are taken, the connection that
    /// has been idle for longest gives its own up.
    pub(super) async fn room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.taken.retain(|(task, _)| !task.is_finished());
            if self.taken.len() < self.limits.places {
                return;
            }
            let idle = self
                .taken
                .iter()
                .filter_map(|(task, activity)| activity.idle_since().map(|since| (since, task)));
            let wait = match idle.min_by_key(|(since, _)| *since) {
                Some((since, task)) => {
                    let wait = (since + self.limits.grace).since(clock::now());
                    if wait.is_zero() {
                        task.abort();
                    }
                    wait.max(Duration::from_millis(1))
                }
                None => self.limits.grace,
            };
            let _ = timeout(wait, self.tasks.join_next()).await;
        }
    }

    /// Serves a connection of `caller`, for which there is room.
    pub(super) fn serve(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        routes: Router,
        caller: Option<Caller>,
    ) {
        let activity = Activity::new();
        let task =
            self.tasks.spawn(connection(stream, routes, caller, activity.clone(), self.limits));
        self.taken.push((task, activity));
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    caller: Option<Caller>,
    activity: Activity,
    limits: Limits,
) {
    let answering = activity.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let under_way = answering.answering();
        request.extensions_mut().insert(answering.clone());
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let answer = routes.clone().call(request);
        async move {
            let answer = answer.await;
            drop(under_way);
            answer
        }
    });
    let stream = TokioIo::new(Watched::new(stream, activity.clone()));
    let mut connection = std::pin::pin!(http1::Builder::new().serve_connection(stream, service));
    // Whoever takes longer is cut off, and whoever breaks off has nobody left to tell.
    let mut time = limits.time;
    while timeout(time, &mut connection).await.is_err() && activity.is_lasting() {
        time = (activity.last() + limits.stalled).since(clock::now());
        if time.is_zero() {
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

    /// Two places, and no time for who has nothing to say.
    const FEW: Limits = Limits {
        places: 2,
        time: Duration::from_secs(60),
        grace: Duration::ZERO,
        stalled: Duration::from_millis(20),
    };

    fn places(limits: Limits) -> Places {
        Places { limits, ..Places::new() }
    }

    fn routes() -> Router {
        let for_ever = |Extension(activity): Extension<Activity>| async move {
            activity.lasts();
            Body::from_stream(repeat(Ok::<_, Infallible>("more\n")))
        };
        Router::new()
            .route("/", get("well"))
            .route("/slow", get(pending::<()>))
            .route("/for-ever", get(for_ever))
    }

    /// A connection that has asked for `path`, if for anything.
    async fn connect(places: &mut Places, path: Option<&str>) -> DuplexStream {
        let (mut ours, theirs) = duplex(1_024);
        places.serve(theirs, routes(), None);
        if let Some(path) = path {
            let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
            ours.write_all(request.as_bytes()).await.expect("a reader");
        }
        ours
    }

    /// Waits until so many requests are being answered.
    async fn answering(places: &Places, count: usize) {
        while places.taken.iter().filter(|(_, one)| one.idle_since().is_none()).count() < count {
            tokio::task::yield_now().await;
        }
    }

    async fn is_cut_off(stream: &mut DuplexStream) -> bool {
        let mut rest = Vec::new();
        timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.is_ok()
    }

    #[tokio::test]
    async fn the_connection_that_is_idle_for_longest_gives_way_to_who_comes() {
        let mut places = places(FEW);
        let mut first = connect(&mut places, None).await;
        while clock::now() == places.taken[0].1.last() {
            tokio::task::yield_now().await;
        }
        let mut second = connect(&mut places, Some("/")).await;
        let mut answer = [0; 12];
        second.read_exact(&mut answer).await.expect("an answer");
        places.room().await;
        assert!(is_cut_off(&mut first).await);
        assert_eq!((&answer, places.taken.len()), (b"HTTP/1.1 200", 1));
    }

    #[tokio::test]
    async fn one_that_is_being_answered_keeps_its_place() {
        let mut places = places(FEW);
        let _slow = connect(&mut places, Some("/slow")).await;
        let _lasting = connect(&mut places, Some("/for-ever")).await;
        answering(&places, 2).await;
        assert!(timeout(Duration::from_millis(50), places.room()).await.is_err());
        assert_eq!(places.taken.len(), 2);
    }

    #[tokio::test]
    async fn half_a_request_keeps_no_place() {
        let mut places = places(FEW);
        let _slow = connect(&mut places, Some("/slow")).await;
        let mut half = connect(&mut places, None).await;
        half.write_all(b"GET / HTTP/1.1\r\nHost:").await.expect("a reader");
        answering(&places, 1).await;
        places.room().await;
        assert!(is_cut_off(&mut half).await);
    }

    #[tokio::test]
    async fn one_that_takes_nothing_of_an_answer_that_lasts_is_cut_off() {
        let mut places = places(Limits { time: Duration::from_millis(1), ..FEW });
        let mut stalled = connect(&mut places, Some("/for-ever")).await;
        assert!(places.tasks.join_next().await.is_some_and(|ended| ended.is_ok()));
        assert!(is_cut_off(&mut stalled).await);
    }

    #[tokio::test]
    async fn one_that_listens_to_an_answer_that_lasts_is_not_cut_off() {
        let mut places = places(Limits { time: Duration::from_millis(1), ..FEW });
        let mut listening = connect(&mut places, Some("/for-ever")).await;
        let end = clock::now() + FEW.stalled * 5;
        let mut some = [0; 256];
        while clock::now() < end {
            assert_ne!(listening.read(&mut some).await.expect("more"), 0);
            tokio::task::yield_now().await;
        }
    }
}
