//! A server that receives webhooks.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Records the requests. It stops when this is dropped.
pub(crate) struct WebhookServer {
    port: u16,
    requests: Arc<Mutex<Vec<(String, String)>>>,
    accepting: JoinHandle<()>,
}

impl WebhookServer {
    /// Answers each request with this status line and these headers, each with its end. An empty
    /// answer never comes.
    pub(crate) async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::default();
        let accepting = tokio::spawn(accept(listener, answer, Arc::clone(&requests)));
        Self { port, requests, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/events", self.port)
    }

    /// Head and body of each request so far.
    pub(crate) fn requests(&self) -> Vec<(String, String)> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for WebhookServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    answer: &'static str,
    requests: Arc<Mutex<Vec<(String, String)>>>,
) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(serve(stream, answer, Arc::clone(&requests)));
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &'static str,
    requests: Arc<Mutex<Vec<(String, String)>>>,
) {
    let mut text = String::new();
    let (head, body) = loop {
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk).await {
            Ok(length) if length > 0 => text += str::from_utf8(&chunk[..length]).expect("text"),
            _ => return,
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    requests.lock().unwrap_or_else(PoisonError::into_inner).push((head, body));
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
    // The client may be gone.
    let _ =
        stream.write_all(format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n").as_bytes()).await;
}
