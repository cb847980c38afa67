//! The listeners: what is served where.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::connection_limit::ConnectionLimit;
use super::host::Hosts;
use super::socket::{Bound, Inherited, SocketFile, bind};
use super::socket_watch::SocketWatch;
use super::{Command, Problem, ProblemKind, page, routes};
use crate::settings::Control;

/// Milliseconds after which whoever has not acknowledged what it was sent is gone.
const VANISHED: u32 = 30_000;

/// The pause after an accept that failed, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a daemon that cannot start answers clients. systemd starts the service again as long
/// as connections wait on its socket, and gives the socket up after 20 starts in 2 s by default.
const LINGER: Duration = Duration::from_secs(1);

/// What a daemon that cannot start answers.
const CANNOT_START: &str = "the daemon cannot start";

/// What happened to the file of the control socket, for the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketReport {
    /// The file.
    pub path: PathBuf,
    /// What happened.
    pub state: SocketState,
}

/// See [`SocketReport`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketState {
    /// It could not be made at first, and is there now.
    Made,
    /// It was removed or replaced, and was made again.
    MadeAgain,
    /// It was removed or replaced, and cannot be made again for this reason. It is tried again.
    Lost(String),
}

/// The socket that is served at present; shared with the task that serves it, so that the file is
/// removed as soon as the interface is dropped.
type Served = Arc<Mutex<Option<Bound>>>;

/// The interface at work; it ends when this is dropped, and with it the socket.
#[derive(Debug)]
pub struct Interface {
    tasks: Vec<JoinHandle<()>>,
    socket: Served,
}

impl Drop for Interface {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        drop(self.socket.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Serves a socket; requests go to `commands`. If its file is removed or replaced, it is made
/// again, for `group`, and reported. To be called within a runtime.
///
/// # Errors
///
/// When the runtime cannot take the socket.
pub fn serve(
    bound: Bound,
    group: &'static str,
    commands: mpsc::Sender<Command>,
) -> io::Result<Interface> {
    let listener = of_runtime(&bound)?;
    let path = bound.file.as_ref().map(|file| file.path.clone());
    let served: Served = Arc::new(Mutex::new(Some(bound)));
    let routes = routes::socket(commands.clone());
    let task = match path {
        Some(path) => {
            let place = Place { path, group, served: Arc::clone(&served), commands };
            tokio::spawn(accept_and_keep(Some(listener), place, routes))
        }
        None => tokio::spawn(accept(listener, routes)),
    };
    Ok(Interface { tasks: vec![task], socket: served })
}

/// Serves the socket at `path` as soon as it can be made, and reports that. To be called within a
/// runtime.
pub fn serve_later(path: &Path, group: &'static str, commands: mpsc::Sender<Command>) -> Interface {
    let served = Served::default();
    let routes = routes::socket(commands.clone());
    let place = Place { path: path.to_owned(), group, served: Arc::clone(&served), commands };
    let task = tokio::spawn(accept_and_keep(None, place, routes));
    Interface { tasks: vec![task], socket: served }
}

/// Listens on `listen`, for [`serve_public`].
///
/// # Errors
///
/// When the address cannot be listened on.
pub fn listen(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(listen)
}

/// Serves page, metrics and health to any client that can connect to `listener`.
///
/// # Errors
///
/// When the runtime cannot take the listener.
pub fn serve_public(
    listener: std::net::TcpListener,
    control: &Control,
    commands: mpsc::Sender<Command>,
) -> io::Result<Interface> {
    listener.set_nonblocking(true)?;
    let hosts = Hosts::new(listener.local_addr()?, control.listen_hosts.iter().cloned());
    let listener = TcpListener::from_std(listener)?;
    let (page, looking) = page::routes(control.listen_names, commands.clone());
    let routes = routes::public(commands, control.listen_names).merge(page);
    let routes = page::guarded(routes, hosts);
    let task = tokio::spawn(accept_public(listener, routes));
    Ok(Interface { tasks: vec![task, looking], socket: Served::default() })
}

/// Answers the clients of handed-over sockets for [`LINGER`] that the daemon cannot start: clients
/// of control sockets with `cause`, others without. A client that is left waiting would make
/// systemd start the service over and over. To be called within a runtime.
pub async fn refuse(inherited: Inherited, cause: &str) {
    let mut tasks = Vec::new();
    for bound in &inherited.sockets {
        // What cannot be taken is not answered; the daemon ends in any case.
        let Ok(listener) = of_runtime(bound) else { continue };
        tasks.push(tokio::spawn(accept(listener, refusal(&format!("{CANNOT_START}: {cause}")))));
    }
    for listener in inherited.listeners {
        let Ok(listener) =
            listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener))
        else {
            continue;
        };
        tasks.push(tokio::spawn(accept_public(listener, refusal(CANNOT_START))));
    }
    if !tasks.is_empty() {
        sleep(LINGER).await;
    }
    tasks.iter().for_each(JoinHandle::abort);
}

/// Answers every request with this message.
fn refusal(message: &str) -> Router {
    let problem = Problem::new(ProblemKind::Unavailable, message);
    Router::new().fallback(move || async move { problem })
}

fn of_runtime(bound: &Bound) -> io::Result<UnixListener> {
    let listener = bound.listener.try_clone()?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn accept(listener: UnixListener, routes: Router) {
    let mut limit = ConnectionLimit::new();
    loop {
        let accepted = listener.accept().await;
        take(accepted, &mut limit, &routes).await;
    }
}

async fn accept_public(listener: TcpListener, routes: Router) {
    let mut limit = ConnectionLimit::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it a browser that has vanished keeps its place for a quarter of an hour.
                let _ = set_tcp_user_timeout(&stream, VANISHED);
                limit.make_room().await;
                limit.serve(stream, routes.clone(), None);
            }
            Err(_) => cannot_accept(&mut limit).await,
        }
    }
}

/// Serves a connection of the socket.
async fn take(
    accepted: io::Result<(UnixStream, tokio::net::unix::SocketAddr)>,
    limit: &mut ConnectionLimit,
    routes: &Router,
) {
    let Ok((stream, _)) = accepted else { return cannot_accept(limit).await };
    // The kernel knows the client of every open connection.
    let Ok(peer) = stream.peer_cred() else { return };
    limit.make_room().await;
    limit.serve(stream, routes.clone(), Some(peer.into()));
}

/// The descriptor of an idle connection may be the one that is missing.
async fn cannot_accept(limit: &mut ConnectionLimit) {
    limit.evict();
    sleep(PAUSE).await;
}

/// Where the socket is, and what is needed to make it again.
struct Place {
    path: PathBuf,
    group: &'static str,
    served: Served,
    commands: mpsc::Sender<Command>,
}

impl Place {
    fn is_there(&self) -> bool {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let file = served.as_ref().and_then(|bound| bound.file.as_ref());
        file.is_some_and(SocketFile::is_there)
    }

    fn make(&self) -> Result<UnixListener, String> {
        let (bound, _) = bind(&self.path, self.group).map_err(|fault| fault.to_string())?;
        let listener = of_runtime(&bound).map_err(|error| error.to_string())?;
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(bound);
        Ok(listener)
    }

    async fn report(&self, state: SocketState) {
        let report = SocketReport { path: self.path.clone(), state };
        // Without a loop the daemon is stopping.
        let _ = self.commands.send(Command::Socket(report)).await;
    }
}

/// Accepts connections, and makes the socket again if its file was removed or replaced. Without a
/// listener the socket could not be made at the start.
async fn accept_and_keep(mut listener: Option<UnixListener>, place: Place, routes: Router) {
    let mut limit = ConnectionLimit::new();
    let mut is_lost = listener.is_none();
    let mut watch = if is_lost { SocketWatch::polling() } else { SocketWatch::new(&place.path) };
    loop {
        let accepting = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            accepted = accepting => take(accepted, &mut limit, &routes).await,
            () = watch.suspicion() => {
                watch = SocketWatch::new(&place.path);
                if place.is_there() {
                    is_lost = false;
                    continue;
                }
                match place.make() {
                    Ok(new) => {
                        let is_first = listener.replace(new).is_none();
                        is_lost = false;
                        // The new file.
                        watch = SocketWatch::new(&place.path);
                        let state = if is_first { SocketState::Made } else { SocketState::MadeAgain };
                        place.report(state).await;
                    }
                    Err(error) => {
                        watch = SocketWatch::polling();
                        if !std::mem::replace(&mut is_lost, true) {
                            place.report(SocketState::Lost(error)).await;
                        }
                    }
                }
            }
        }
    }
}
