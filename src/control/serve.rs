//! Connections: few at once, and none of them for long.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tower_service::Service as _;

use super::peer::Caller;
use super::socket::Bound;
use super::{Command, routes};

/// Connections at once; more of them wait to be accepted. Whoever hangs on to one costs the
/// others 5 s, and the daemon nothing.
const CONNECTIONS: usize = 16;

/// How long a connection may last, however many requests it makes.
const TIME: Duration = Duration::from_secs(5);

/// The pause after an accept that failed, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// The interface at work; it ends when this is dropped, and with it the socket.
#[derive(Debug)]
pub struct Interface {
    task: JoinHandle<()>,
    _socket: Option<Bound>,
}

impl Drop for Interface {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves the socket; requests go to `commands`. To be called within a runtime.
///
/// # Errors
///
/// When the runtime cannot take the socket.
pub fn serve(bound: Bound, commands: mpsc::Sender<Command>) -> std::io::Result<Interface> {
    let listener = bound.listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let task = tokio::spawn(accept(listener, routes::socket(commands)));
    Ok(Interface { task, _socket: Some(bound) })
}

async fn accept(listener: UnixListener, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                connections.spawn(async move {
                    let _place = place;
                    // Whoever takes longer is cut off; nothing is owed to it.
                    let _ = timeout(TIME, connection(stream, routes)).await;
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn connection(stream: UnixStream, routes: Router) {
    let Ok(peer) = stream.peer_cred() else { return };
    let caller = Caller::from(peer);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        routes.clone().call(request)
    });
    // A connection that breaks off has nobody left to tell.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
