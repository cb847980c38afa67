//! Connections: few at once, and none of them for long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tower_service::Service as _;

use super::host::Hosts;
use super::peer::Caller;
use super::socket::Bound;
use super::{Command, page, routes};
use crate::settings::Control;

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
    tasks: Vec<JoinHandle<()>>,
    _socket: Option<Bound>,
}

impl Drop for Interface {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
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
    Ok(Interface { tasks: vec![task], _socket: Some(bound) })
}

/// Serves page, metrics and health at `listen`, to anybody who can connect there.
///
/// # Errors
///
/// When the address cannot be listened on.
pub fn serve_public(
    listen: SocketAddr,
    control: &Control,
    commands: mpsc::Sender<Command>,
) -> std::io::Result<Interface> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let hosts = Hosts::new(listen, control.listen_hosts.iter().cloned());
    let (page, looking) = page::routes(hosts, control.listen_names, commands.clone());
    let routes = routes::public(commands, control.listen_names).merge(page);
    let task = tokio::spawn(accept_public(listener, routes));
    Ok(Interface { tasks: vec![task, looking], _socket: None })
}

async fn accept_public(listener: TcpListener, routes: Router) {
    let mut connections = Connections::default();
    loop {
        let Some(place) = connections.place().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => connections.serve(place, stream, routes.clone(), None),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn accept(listener: UnixListener, routes: Router) {
    let mut connections = Connections::default();
    loop {
        let Some(place) = connections.place().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Who it is can always be told of a connection that is there.
                let Ok(peer) = stream.peer_cred() else { continue };
                connections.serve(place, stream, routes.clone(), Some(peer.into()));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Marks a connection that is meant to last, and so is not cut off.
#[derive(Debug, Clone, Default)]
pub(super) struct Lasting(Arc<AtomicBool>);

impl Lasting {
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections of one listener.
struct Connections {
    places: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(CONNECTIONS)), tasks: JoinSet::new() }
    }
}

impl Connections {
    /// Waits until there is room for one more.
    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        while self.tasks.try_join_next().is_some() {}
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    fn serve(
        &mut self,
        place: OwnedSemaphorePermit,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        routes: Router,
        caller: Option<Caller>,
    ) {
        let lasting = Lasting::default();
        let mark = lasting.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(mark.clone());
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            routes.clone().call(request)
        });
        self.tasks.spawn(async move {
            let _place = place;
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            // Whoever takes longer is cut off, and whoever breaks off has nobody left to tell.
            if timeout(TIME, &mut connection).await.is_err() && lasting.is_marked() {
                let _ = connection.await;
            }
        });
    }
}
