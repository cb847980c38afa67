//! Listeners of the control socket and of the public address.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::future::OptionFuture;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::connection_limit::ConnectionLimit;
use super::host_check::AllowedHosts;
use super::socket::{BoundSocket, InheritedSockets, SocketFile, bind};
use super::socket_watch::SocketWatch;
use super::{ApiError, ApiErrorKind, Command, dashboard, routes};
use crate::settings::Control;

/// TCP user timeout in milliseconds: after this time without acknowledgements, a client is gone.
const TCP_USER_TIMEOUT_MS: u32 = 30_000;

/// Pause after a failed accept, usually because no file descriptor is free.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long a daemon that cannot start responds to clients. systemd restarts the service while
/// connections wait on its socket, and gives up after 20 starts in 2 s by default.
const STARTUP_ERROR_DURATION: Duration = Duration::from_secs(1);

/// The error that a daemon responds with if it cannot start.
const CANNOT_START: &str = "the daemon cannot start";

/// A change of the socket file, for the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketReport {
    /// The socket file.
    pub path: PathBuf,
    /// The change.
    pub state: SocketState,
}

/// State of the socket file after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketState {
    /// The socket could not be created at startup, and was created now.
    Created,
    /// The socket was removed or replaced, and was created again.
    Recreated,
    /// The socket was removed or replaced, and cannot be created for this reason. The server
    /// retries.
    Lost(String),
}

/// The served socket. Shared with the task that serves it, so that dropping [`ControlServer`]
/// removes the file at once.
type ActiveSocket = Arc<Mutex<Option<BoundSocket>>>;

/// A running server. Dropping it stops the server and removes the socket.
#[derive(Debug)]
pub struct ControlServer {
    tasks: Vec<JoinHandle<()>>,
    socket: ActiveSocket,
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        drop(self.socket.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Serves a socket; requests go to `commands`. If the socket file is removed or replaced, it is
/// created again for `group`, and the change is reported. Must be called within a runtime.
///
/// # Errors
///
/// If the socket cannot be registered with the runtime.
pub fn serve(
    bound: BoundSocket,
    group: &'static str,
    commands: mpsc::Sender<Command>,
) -> io::Result<ControlServer> {
    let listener = to_tokio(&bound)?;
    let path = bound.file.as_ref().map(|file| file.path.clone());
    let socket: ActiveSocket = Arc::new(Mutex::new(Some(bound)));
    let routes = routes::socket(commands.clone());
    let task = match path {
        Some(path) => {
            let owner = SocketOwner { path, group, socket: Arc::clone(&socket), commands };
            tokio::spawn(accept_and_recreate(Some(listener), owner, routes))
        }
        None => tokio::spawn(accept(listener, routes)),
    };
    Ok(ControlServer { tasks: vec![task], socket })
}

/// Serves the socket at `path` as soon as it can be created, and reports that. Must be called
/// within a runtime.
pub fn serve_when_available(
    path: &Path,
    group: &'static str,
    commands: mpsc::Sender<Command>,
) -> ControlServer {
    let socket = ActiveSocket::default();
    let routes = routes::socket(commands.clone());
    let owner = SocketOwner { path: path.to_owned(), group, socket: Arc::clone(&socket), commands };
    let task = tokio::spawn(accept_and_recreate(None, owner, routes));
    ControlServer { tasks: vec![task], socket }
}

/// Listens on `listen`, for [`serve_public`].
///
/// # Errors
///
/// If the address cannot be bound.
pub fn listen(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(listen)
}

/// Serves dashboard, metrics and health to any client that can connect to `listener`.
///
/// # Errors
///
/// If the listener cannot be registered with the runtime.
pub fn serve_public(
    listener: std::net::TcpListener,
    control: &Control,
    commands: mpsc::Sender<Command>,
) -> io::Result<ControlServer> {
    listener.set_nonblocking(true)?;
    let hosts = AllowedHosts::new(listener.local_addr()?, control.listen_hosts.iter().cloned());
    let listener = TcpListener::from_std(listener)?;
    let (dashboard, snapshots) = dashboard::routes(control.listen_names, commands.clone());
    let routes = routes::public(commands, control.listen_names).merge(dashboard);
    let routes = dashboard::with_host_check(routes, hosts);
    let task = tokio::spawn(accept_public(listener, routes));
    Ok(ControlServer { tasks: vec![task, snapshots], socket: ActiveSocket::default() })
}

/// Responds to clients of inherited sockets that the daemon cannot start, for
/// `STARTUP_ERROR_DURATION`: with `cause` on control sockets, without it on others. A waiting
/// client would make systemd restart the service repeatedly. Must be called within a runtime.
pub async fn serve_startup_error(inherited: InheritedSockets, cause: &str) {
    let mut tasks = Vec::new();
    for bound in &inherited.sockets {
        // A socket that cannot be registered gets no response; the daemon exits anyway.
        let Ok(listener) = to_tokio(bound) else { continue };
        tasks.push(tokio::spawn(accept(
            listener,
            error_router(&format!("{CANNOT_START}: {cause}")),
        )));
    }
    for listener in inherited.listeners {
        let Ok(listener) =
            listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener))
        else {
            continue;
        };
        tasks.push(tokio::spawn(accept_public(listener, error_router(CANNOT_START))));
    }
    if !tasks.is_empty() {
        sleep(STARTUP_ERROR_DURATION).await;
    }
    tasks.iter().for_each(JoinHandle::abort);
}

/// A router that responds to every request with this error.
fn error_router(message: &str) -> Router {
    let error = ApiError::new(ApiErrorKind::Unavailable, message);
    Router::new().fallback(move || async move { error })
}

fn to_tokio(bound: &BoundSocket) -> io::Result<UnixListener> {
    let listener = bound.listener.try_clone()?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn accept(listener: UnixListener, routes: Router) {
    let mut limit = ConnectionLimit::new();
    loop {
        let accepted = listener.accept().await;
        serve_accepted(accepted, &mut limit, &routes).await;
    }
}

async fn accept_public(listener: TcpListener, routes: Router) {
    let mut limit = ConnectionLimit::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without a timeout, a lost connection stays open for a quarter of an hour.
                let _ = set_tcp_user_timeout(&stream, TCP_USER_TIMEOUT_MS);
                limit.make_room().await;
                limit.serve(stream, routes.clone(), None);
            }
            Err(_) => on_accept_error(&mut limit).await,
        }
    }
}

/// Serves an accepted connection of the control socket.
async fn serve_accepted(
    accepted: io::Result<(UnixStream, tokio::net::unix::SocketAddr)>,
    limit: &mut ConnectionLimit,
    routes: &Router,
) {
    let Ok((stream, _)) = accepted else { return on_accept_error(limit).await };
    // The kernel knows the client of every open connection.
    let Ok(peer) = stream.peer_cred() else { return };
    limit.make_room().await;
    limit.serve(stream, routes.clone(), Some(peer.into()));
}

/// Evicts an idle connection, which frees a descriptor, and pauses.
async fn on_accept_error(limit: &mut ConnectionLimit) {
    limit.evict();
    sleep(ACCEPT_RETRY_PAUSE).await;
}

/// Path, group and current socket: what is needed to create the socket again.
struct SocketOwner {
    path: PathBuf,
    group: &'static str,
    socket: ActiveSocket,
    commands: mpsc::Sender<Command>,
}

impl SocketOwner {
    fn exists(&self) -> bool {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let file = socket.as_ref().and_then(|bound| bound.file.as_ref());
        file.is_some_and(SocketFile::exists)
    }

    fn recreate(&self) -> Result<UnixListener, String> {
        let (bound, _) = bind(&self.path, self.group).map_err(|error| error.to_string())?;
        let listener = to_tokio(&bound).map_err(|error| error.to_string())?;
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(bound);
        Ok(listener)
    }

    async fn report(&self, state: SocketState) {
        let report = SocketReport { path: self.path.clone(), state };
        // If the main loop is gone, the daemon is stopping.
        let _ = self.commands.send(Command::Socket(report)).await;
    }
}

/// Accepts connections, and creates the socket again if its file was removed or replaced.
/// `listener` is `None` if the socket could not be created at startup.
async fn accept_and_recreate(
    mut listener: Option<UnixListener>,
    owner: SocketOwner,
    routes: Router,
) {
    let mut limit = ConnectionLimit::new();
    let mut is_lost = listener.is_none();
    let mut watch = if is_lost { SocketWatch::polling() } else { SocketWatch::new(&owner.path) };
    loop {
        let accepting = OptionFuture::from(listener.as_ref().map(UnixListener::accept));
        tokio::select! {
            Some(accepted) = accepting => serve_accepted(accepted, &mut limit, &routes).await,
            () = watch.maybe_changed() => {
                watch = SocketWatch::new(&owner.path);
                if owner.exists() {
                    is_lost = false;
                    continue;
                }
                match owner.recreate() {
                    Ok(new) => {
                        let is_first = listener.replace(new).is_none();
                        is_lost = false;
                        // The new file.
                        watch = SocketWatch::new(&owner.path);
                        let state = if is_first { SocketState::Created } else { SocketState::Recreated };
                        owner.report(state).await;
                    }
                    Err(error) => {
                        watch = SocketWatch::polling();
                        if !std::mem::replace(&mut is_lost, true) {
                            owner.report(SocketState::Lost(error)).await;
                        }
                    }
                }
            }
        }
    }
}
