//! Connections of the simulated server: one task accepts, and owns a task for each connection.
//!
//! Aborting the accepting task closes all sockets.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
use super::fault::Fault;
use super::shared::Shared;
use super::world::{Call, Complaint};

/// Pause after a failed accept, usually because no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A response, or an error to reset the connection.
type Answered = Result<Response<Body>, io::Error>;

/// Accepts connections until it is aborted.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // An error only costs latency.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        Box::pin(answer(request, Arc::clone(&shared)))
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if poll_fn(|context| connection.poll_without_shutdown(context)).await.is_err() {
        // A failed response is an injected reset: send RST instead of FIN.
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
    let fault = shared.fault(&call);
    tokio::time::sleep(behaviour.latency / 2).await;
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    let enveloped = |answer| {
        let took = shared.now().saturating_sub(arrived);
        envelope::enveloped(answer, behaviour.errors, shared.server_time(), took)
    };
    let obey = || enveloped(shared.with_world(|world, now| world.answer(&call, now)));
    let answer = match fault {
        None => Ok(obey()),
        Some(Fault::Error { status, detail }) => Ok(enveloped(Err(Complaint { status, detail }))),
        Some(Fault::Response(response)) => Ok(response),
        Some(Fault::Silence) => {
            shared.record(&call, arrived, None);
            std::future::pending().await
        }
        Some(Fault::Reset) => Err(reset()),
        Some(Fault::AnswerLost) => {
            obey();
            Err(reset())
        }
    };
    shared.record(&call, arrived, answer.as_ref().ok().map(|answer| answer.status().as_u16()));
    tokio::time::sleep(behaviour.latency / 2).await;
    answer
}

fn endpoint(uri: &Uri, behaviour: &Behaviour) -> Option<Endpoint> {
    let name = uri.path().strip_prefix(behaviour.path_prefix.as_str())?.strip_prefix('/')?;
    Endpoint::named(name)
}

fn parameters(uri: &Uri) -> HashMap<String, String> {
    Query::try_from_uri(uri).map(|Query(parameters)| parameters).unwrap_or_default()
}
