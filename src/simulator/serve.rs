//! The simulated server's connections: one task accepts, and holds a task for each.
//!
//! Owns the sockets. All of them go when the accepting task goes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::behaviour::{Behaviour, Endpoint};
use super::envelope;
use super::shared::Shared;
use super::trouble::Trouble;
use super::world::Call;

/// The pause after a failed accept (no free file descriptors, mostly): long enough not to
/// spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// An answer, or the wish to reset the connection in place of one.
type Answered = Result<Response<Body>, io::Error>;

/// Accepts connections until it is aborted.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shared.count_connection();
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // A failure to switch delays off only costs time.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        Box::pin(answer(request, Arc::clone(&shared)))
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if poll_fn(|context| connection.poll_without_shutdown(context)).await.is_err() {
        // An answer that fails is one that was to be reset: closing must not look orderly.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Answered {
    let arrived = shared.now();
    let behaviour = shared.behaviour();
    let parameters = parameters(request.uri());
    let call = Call {
        endpoint: endpoint(request.uri(), &behaviour),
        is_get: request.method() == Method::GET,
        parameters: &parameters,
        server_time: shared.server_time(),
    };
    let trouble = shared.trouble(&call);
    tokio::time::sleep(behaviour.latency / 2).await;
    let answer = match trouble {
        None => Ok(obey(&call, &shared, &behaviour, arrived)),
        Some(trouble) => misbehave(trouble, &call, &shared, &behaviour, arrived).await,
    };
    shared.record(&call, arrived, answer.as_ref().ok().map(|answer| answer.status().as_u16()));
    tokio::time::sleep(behaviour.latency / 2).await;
    answer
}

/// The answer of a server that is well.
fn obey(
    call: &Call<'_>,
    shared: &Shared,
    behaviour: &Behaviour,
    arrived: Duration,
) -> Response<Body> {
    let answer = shared.with_world(|world, now| world.answer(call, now));
    let took = shared.now().saturating_sub(arrived);
    envelope::enveloped(answer, behaviour.errors, shared.server_time(), took)
}

async fn misbehave(
    trouble: Trouble,
    call: &Call<'_>,
    shared: &Shared,
    behaviour: &Behaviour,
    arrived: Duration,
) -> Answered {
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    match trouble {
        Trouble::Error { status, detail } => {
            let complaint = super::world::Complaint { status, detail };
            let took = shared.now().saturating_sub(arrived);
            let server_time = shared.server_time();
            Ok(envelope::enveloped(Err(complaint), behaviour.errors, server_time, took))
        }
        Trouble::Quiet { status, retry_after } => {
            Ok(envelope::quiet(status, retry_after, shared.server_time()))
        }
        Trouble::Html { status } => Ok(envelope::html(status)),
        Trouble::Body { status, body } => Ok(envelope::with_body(status, "application/json", body)),
        Trouble::Redirect { to } => Ok(envelope::redirect(&to)),
        Trouble::EndlessBody => Ok(envelope::endless()),
        Trouble::ResetAfterHeaders => Ok(envelope::broken_off()),
        Trouble::Silence => {
            shared.record(call, arrived, None);
            std::future::pending().await
        }
        Trouble::Reset => Err(reset()),
        Trouble::AnswerLost => {
            obey(call, shared, behaviour, arrived);
            Err(reset())
        }
    }
}

fn endpoint(uri: &Uri, behaviour: &Behaviour) -> Option<Endpoint> {
    let name = uri.path().strip_prefix(behaviour.path_prefix.as_str())?.strip_prefix('/')?;
    Endpoint::named(name)
}

fn parameters(uri: &Uri) -> HashMap<String, String> {
    Query::try_from_uri(uri).map(|Query(parameters)| parameters).unwrap_or_default()
}
