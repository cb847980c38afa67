//! A server below HTTP: says given bytes, or misbehaves, to whoever connects.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The longest request that is read, in bytes: longer than any that is sent here.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// What is done with each request. Every connection serves one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Script {
    /// These bytes, then an orderly end.
    Say(Vec<u8>),
    /// These bytes, then a reset.
    SayAndReset(Vec<u8>),
    /// The first bytes once, the second ones for ever.
    SayForEver(Vec<u8>, Vec<u8>),
    /// These bytes, then nothing more on a connection that stays open.
    SayAndHold(Vec<u8>),
}

/// A running raw server. It stops, and its connections with it, when this is dropped.
pub(crate) struct RawServer {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
    bytes_said: usize,
}

impl RawServer {
    /// Starts a server on a free loopback port.
    pub(crate) async fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let accepting = tokio::spawn(accept(listener, script, Arc::clone(&seen)));
        Ok(Self { address, seen, accepting })
    }

    /// The base URL, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.seen).connections
    }

    /// The requests so far, as they came.
    pub(crate) fn requests(&self) -> Vec<String> {
        lock(&self.seen).requests.clone()
    }

    /// How many bytes it could send in all.
    pub(crate) fn bytes_said(&self) -> usize {
        lock(&self.seen).bytes_said
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, script: Script, seen: Arc<Mutex<Seen>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // No socket for this one: the next may fare better.
                let Ok((stream, _)) = accepted else { continue };
                lock(&seen).connections += 1;
                let (script, seen) = (script.clone(), Arc::clone(&seen));
                // A peer that goes away ends its connection, and nothing else.
                connections.spawn(async move { perform(stream, &script, &seen).await.ok() });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn perform(mut stream: TcpStream, script: &Script, seen: &Mutex<Seen>) -> io::Result<()> {
    let request = request(&mut stream).await?;
    lock(seen).requests.push(request);
    match script {
        Script::Say(bytes) => {
            stream.write_all(bytes).await?;
            stream.shutdown().await
        }
        Script::SayAndReset(bytes) => {
            stream.write_all(bytes).await?;
            stream.set_zero_linger()
        }
        Script::SayForEver(first, again) => {
            stream.write_all(first).await?;
            loop {
                stream.write_all(again).await?;
                lock(seen).bytes_said += again.len();
            }
        }
        Script::SayAndHold(bytes) => {
            stream.write_all(bytes).await?;
            std::future::pending().await
        }
    }
}

/// Reads a request to the end of its body, if its `Content-Length` is known.
async fn request(stream: &mut TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    while request.len() < MAX_REQUEST_BYTES {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let length = length.next_back().and_then(|(_, length)| length.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(text.into_owned());
            }
        }
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Err(io::ErrorKind::FileTooLarge.into())
}
