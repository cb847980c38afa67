//! An HTTP/2 server that writes its frames itself: it refuses streams and says goodbye, which a
//! library would only do on its own terms.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokenkeep::api::{Client, LoginErrorKind};
use tokenkeep::outcome::{Connection, Outcome};
use tokenkeep::settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::server::{Protocol, tls};
use super::{AMPLE, server, unavailable, value};

/// What a client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The entry `:status 200` of HPACK's static table.
const STATUS_200: &[u8] = &[0x88];

/// What is done with a request.
#[derive(Debug, Clone, Copy)]
enum Reaction {
    Alive,
    /// `RST_STREAM` with `REFUSED_STREAM`: it was not processed.
    Refuse,
    /// `RST_STREAM` with `INTERNAL_ERROR`.
    Break,
    /// `GOAWAY` with `NO_ERROR` that leaves the request out: it was not processed.
    Leave,
    /// `GOAWAY` with `INTERNAL_ERROR`: it may have been processed.
    Crash,
}

/// The connection of each request, in their order.
type Requests = Arc<Mutex<Vec<usize>>>;

/// A server that does with a request what `react` says of its connection and its number there,
/// both from 1.
async fn started(react: fn(usize, usize) -> Reaction) -> (Client, Requests, JoinHandle<()>) {
    let (config, authority) = tls(Protocol::Http2);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("bound"));
    let ca_file = Some(authority.path().to_owned());
    let client = Client::new(&settings::Server { ca_file, ..server(&url) }).expect("a client");
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let accepting = tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((stream, _)) = listener.accept().await {
            connections += 1;
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            // A connection that ends is not the server's end.
            tokio::spawn(async move {
                serve(stream, acceptor, connections, react, &seen).await.ok();
            });
        }
    });
    (client, requests, accepting)
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    connection: usize,
    react: fn(usize, usize) -> Reaction,
    seen: &Requests,
) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    assert_eq!(preface, *PREFACE);
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    let (mut requests, mut last) = (0, 0);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let id = u32::from_be_bytes([s0, s1, s2, s3]);
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]).try_into().expect("small")];
        stream.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            HEADERS => {
                requests += 1;
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                let (text, ends) = reply(react(connection, requests), id, last);
                stream.write_all(&text).await?;
                if ends {
                    return stream.shutdown().await;
                }
                last = id;
            }
            _ => {}
        }
    }
}

/// The frames of a reaction to the request on stream `id`, and whether the connection ends;
/// `last` is the stream before.
fn reply(reaction: Reaction, id: u32, last: u32) -> (Vec<u8>, bool) {
    let goaway = |last: u32, error: u32| {
        frame(GOAWAY, 0, 0, &[last.to_be_bytes(), error.to_be_bytes()].concat())
    };
    match reaction {
        Reaction::Alive => {
            let head = frame(HEADERS, END_HEADERS, id, STATUS_200);
            let body = frame(DATA, END_STREAM, id, br#"{"Result":{"Remaining":60000}}"#);
            ([head, body].concat(), false)
        }
        Reaction::Refuse => (frame(RST_STREAM, 0, id, &7_u32.to_be_bytes()), false),
        Reaction::Break => (frame(RST_STREAM, 0, id, &2_u32.to_be_bytes()), false),
        Reaction::Leave => (goaway(last, 0), true),
        Reaction::Crash => (goaway(id, 2), true),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn seen(requests: &Requests) -> Vec<usize> {
    requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn second_query(react: fn(usize, usize) -> Reaction) -> (Outcome, Vec<usize>) {
    let (client, requests, _accepting) = started(react).await;
    let first = client.query(&value(), AMPLE, Connection::Pooled).await;
    assert!(matches!(first, Outcome::Alive { .. }), "{first:?}");
    let second = client.query(&value(), AMPLE, Connection::Pooled).await;
    (second, seen(&requests))
}

#[tokio::test]
async fn query_that_a_reused_connection_leaves_out_of_its_goaway_is_resent() {
    let (outcome, requests) = second_query(|connection, request| match (connection, request) {
        (1, 2..) => Reaction::Leave,
        _ => Reaction::Alive,
    })
    .await;
    assert!(matches!(outcome, Outcome::Alive { .. }), "{outcome:?}");
    assert_eq!(requests, [1, 1, 2]);
}

#[tokio::test]
async fn query_on_a_reused_connection_that_crashes_is_resent() {
    for react in [
        |connection, request| match (connection, request) {
            (1, 2..) => Reaction::Crash,
            _ => Reaction::Alive,
        },
        |connection, request| match (connection, request) {
            (1, 2..) => Reaction::Break,
            _ => Reaction::Alive,
        },
    ] {
        let (outcome, requests) = second_query(react).await;
        assert!(matches!(outcome, Outcome::Alive { .. }), "{outcome:?}");
        assert_eq!(requests, [1, 1, 2]);
    }
}

#[tokio::test]
async fn query_that_a_reused_connection_keeps_refusing_ends_up_on_a_fresh_one() {
    let (outcome, requests) = second_query(|connection, request| match (connection, request) {
        (1, 2..) => Reaction::Refuse,
        _ => Reaction::Alive,
    })
    .await;
    assert!(matches!(outcome, Outcome::Alive { .. }), "{outcome:?}");
    // The library repeats a refused request twice on the connection that it has.
    assert_eq!(requests, [1, 1, 1, 1, 2]);
}

#[tokio::test]
async fn login_and_fresh_query_are_sent_once_whatever_the_server_does_with_them() {
    for react in [
        |_, _| Reaction::Refuse,
        |_, _| Reaction::Break,
        |_, _| Reaction::Leave,
        |_, _| Reaction::Crash,
    ] {
        let (client, requests, _accepting) = started(react).await;
        let fault = client.login(&"key".into(), 60, AMPLE).await.expect_err("no response");
        assert_eq!(fault.kind, LoginErrorKind::Unavailable);
        unavailable(client.query(&value(), AMPLE, Connection::Fresh).await);
        assert_eq!(seen(&requests), [1, 2]);
    }
}
