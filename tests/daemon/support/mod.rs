//! What all tests of the daemon share: a stage to set, and the program on it.

mod browser;
mod control;
mod daemon;
mod hung;
mod line;
mod mounts;
mod oauth;
mod processes;
mod relogin;
mod stage;
mod terminal;
pub(crate) mod tls;
mod vault;
mod webhook;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokenkeep::clock;
use tokenkeep::secret::TokenValue;
use tokenkeep::simulator::{Behaviour, Endpoint, Recorded, RenewsBy, Simulator};

pub(crate) use self::browser::{Browser, DOWN, END, ENTER, ESCAPE};
pub(crate) use self::control::{Answer, get, metric, post, read, until_metric};
pub(crate) use self::daemon::{Daemon, Ended};
pub(crate) use self::hung::Hung;
pub(crate) use self::line::Line;
pub(crate) use self::mounts::{in_user_namespace, with_mounts};
pub(crate) use self::oauth::{OAuthServer, Request as OAuthRequest};
pub(crate) use self::processes::{
    anonymous_memory, context_switches, descriptors, of_process, running, threads,
};
pub(crate) use self::relogin::{configuration, expired, prints_new};
pub(crate) use self::stage::{Stage, mode, server_table, token_table};
pub(crate) use self::terminal::{Terminal, on_a_terminal};
pub(crate) use self::vault::VaultServer;
pub(crate) use self::webhook::WebhookServer;

/// Long enough for the slowest machine that runs the tests; reached only on failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Stands in every secret, so that one search finds them all. It survives percent-encoding.
pub(crate) const MARK: &str = "S3CR3T";

/// With this begins what the simulator gives out itself.
pub(crate) const ISSUED: &str = "issued-";

/// A secret of that name, with characters that must be percent-encoded.
pub(crate) fn secret(name: &str) -> String {
    format!("{MARK}/{name}+=")
}

/// A server whose tokens are renewed by every query.
pub(crate) async fn simulator() -> Simulator {
    simulator_with(Behaviour::default()).await
}

/// A server whose tokens nothing renews.
pub(crate) async fn mortal_simulator() -> Simulator {
    simulator_with(Behaviour { renews_by: RenewsBy::Neither, ..Behaviour::default() }).await
}

/// A server whose tokens nothing renews, and that gives out tokens of a minute for
/// [`secret`] `key`.
pub(crate) async fn login_simulator() -> Simulator {
    simulator_with(Behaviour {
        renews_by: RenewsBy::Neither,
        api_key: Some(secret("key").into()),
        login_life: Some(seconds(60)),
        ..Behaviour::default()
    })
    .await
}

pub(crate) async fn simulator_with(behaviour: Behaviour) -> Simulator {
    Simulator::start(behaviour).await.expect("a port")
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A port without a listener, outside the system's range of automatic ports. Two calls never return
/// the same one, because a server may bind its port seconds later.
pub(crate) fn free_port() -> u16 {
    static FIRST: LazyLock<u16> = LazyLock::new(|| fastrand::u16(..));
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let next = || 20_000 + FIRST.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % 12_000;
    let mut tried = std::iter::repeat_with(next).take(100);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    tried.find(is_free).expect("a free port")
}

/// The requests about `value`.
pub(crate) fn about(server: &Simulator, value: &str) -> Vec<Recorded> {
    let wanted = TokenValue::parse(value).expect("a value");
    let requests = server.requests().into_iter();
    requests.filter(|request| request.value.as_ref() == Some(&wanted)).collect()
}

/// How many requests there were for `endpoint`.
pub(crate) fn calls(server: &Simulator, endpoint: Endpoint) -> usize {
    server.requests().iter().filter(|request| request.endpoint == Some(endpoint)).count()
}

/// Waits until the requests to `server` so far satisfy `condition`.
pub(crate) async fn served(server: &Simulator, condition: impl FnMut(&[Recorded]) -> bool) {
    let met = tokio::time::timeout(PATIENCE, server.until(condition)).await;
    assert!(met.is_ok(), "not so in time: {} requests came", server.requests().len());
}

/// Waits until `condition` holds of the world outside the daemon.
pub(crate) async fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(PATIENCE, millis(10), what, condition).await;
}

/// The same where much has to happen, and a look each `pause` costs something.
pub(crate) async fn until_within(
    patience: Duration,
    pause: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) {
    let deadline = clock::now() + patience;
    while !condition() {
        assert!(clock::now() < deadline, "not so in time: {what}");
        tokio::time::sleep(pause).await;
    }
}
