//! A client is answered at once, however many connections do nothing or are slow.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokenkeep::clock;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::listen::control;
use crate::support::{
    Daemon, Stage, descriptors, free_port, millis, read, seconds, server_table, simulator,
    token_table,
};

/// Connections of each kind.
const MANY: usize = 1_000;

/// What "at once" means: less than a client waits for silent connections to be closed, which the
/// daemon does after 5 s, and more than a busy machine needs to accept and close a thousand of them.
const AT_ONCE: Duration = seconds(3);

/// What a connection sends, and never more than that but single bytes.
const KINDS: [&[u8]; 4] = [
    b"",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    b"GET",
    b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx",
];

async fn staged() -> (Stage, Daemon, u16) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("more descriptors");
    let server = simulator().await;
    let port = free_port();
    let tables = server_table("sarus", &server, "") + &token_table("quotes", "sarus", "");
    let stage = Stage::new(&(tables + &control(port, "")));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    (stage, daemon, port)
}

/// Sends a part of a request, and then a byte now and then until the connection is closed.
fn trickle(mut stream: impl AsyncWrite + Send + Unpin + 'static, first: &'static [u8]) {
    tokio::spawn(async move {
        let mut written = stream.write_all(first).await;
        while written.is_ok() {
            tokio::time::sleep(millis(500)).await;
            written = if first.is_empty() { Ok(()) } else { stream.write_all(b"x").await };
        }
    });
}

/// How long a request takes from the connection to the end of the response.
async fn time_of<S: AsyncRead + AsyncWrite + Unpin>(
    connection: impl Future<Output = std::io::Result<S>>,
) -> Duration {
    let begun = clock::now();
    let stream = connection.await.expect("a listener");
    let answer = read(stream, "GET", "/healthz", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    clock::now().since(begun)
}

#[tokio::test]
async fn control_client_does_not_wait_for_a_thousand_slow_connections() {
    let (stage, daemon, _) = staged().await;
    let socket = stage.path("control.sock");
    for kind in KINDS {
        for _ in 0..MANY {
            trickle(UnixStream::connect(&socket).await.expect("a socket"), kind);
        }
        for _ in 0..3 {
            let time = time_of(UnixStream::connect(&socket)).await;
            assert!(time < AT_ONCE, "{time:?} beside {:?}", String::from_utf8_lossy(kind));
        }
    }
    assert!(descriptors(daemon.pid()) < 600, "the connections are bounded");
    daemon.stop().await;
}

#[tokio::test]
async fn http_client_does_not_wait_for_a_thousand_slow_connections() {
    let (_stage, daemon, port) = staged().await;
    for kind in KINDS {
        for _ in 0..MANY {
            trickle(TcpStream::connect(("127.0.0.1", port)).await.expect("a listener"), kind);
        }
        for _ in 0..3 {
            let time = time_of(TcpStream::connect(("127.0.0.1", port))).await;
            assert!(time < AT_ONCE, "{time:?} beside {:?}", String::from_utf8_lossy(kind));
        }
    }
    assert!(descriptors(daemon.pid()) < 600, "the connections are bounded");
    daemon.stop().await;
}
