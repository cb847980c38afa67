//! The listeners: what is served where.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::connection_limit::ConnectionLimit;
use super::host::Hosts;
use super::socket::Bound;
use super::{Command, page, routes};
use crate::settings::Control;

/// Milliseconds after which whoever has not acknowledged what it was sent is gone.
const VANISHED: u32 = 30_000;

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
    let (page, looking) = page::routes(control.listen_names, commands.clone());
    let routes = routes::public(commands, control.listen_names).merge(page);
    let routes = page::guarded(routes, hosts);
    let task = tokio::spawn(accept_public(listener, routes));
    Ok(Interface { tasks: vec![task, looking], _socket: None })
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

async fn accept(listener: UnixListener, routes: Router) {
    let mut limit = ConnectionLimit::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Who it is can always be told of a connection that is there.
                let Ok(peer) = stream.peer_cred() else { continue };
                limit.make_room().await;
                limit.serve(stream, routes.clone(), Some(peer.into()));
            }
            Err(_) => cannot_accept(&mut limit).await,
        }
    }
}

/// The descriptor of an idle connection may be the one that is missing.
async fn cannot_accept(limit: &mut ConnectionLimit) {
    limit.evict();
    sleep(PAUSE).await;
}
