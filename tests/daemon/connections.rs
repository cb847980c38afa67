//! Connections that fail while new ones work: no token may die, and no alarm may be false.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[expect(dead_code, reason = "what tests/wire needs beyond these tests")]
#[path = "../wire/server.rs"]
mod server;

use self::server::{DENIED, Protocol, Reaction, Server, Visit};
use crate::support::{Daemon, Ended, PATIENCE, Stage, seconds, secret, token_table};

/// One token on a server of its own, both of this name.
struct Case {
    name: String,
    server: Server,
    life: Duration,
}

impl Case {
    async fn new(
        name: String,
        protocol: Protocol,
        life: Duration,
        react: impl Fn(&Visit) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let server = Server::start(protocol, react).await;
        Self { name, server, life }
    }

    fn table(&self) -> String {
        // With a life of 40 s the default schedule would take this test too long.
        let schedule = match self.life {
            life if life > seconds(30) => "schedule = { check_after = 0.33 }",
            _ => "",
        };
        server_table(&self.name, &self.server) + &token_table(&self.name, &self.name, schedule)
    }
}

fn server_table(name: &str, server: &Server) -> String {
    let ca_file = server.ca_file().map(|path| format!("ca_file = \"{}\"\n", path.display()));
    format!("[server.{name}]\nurl = \"{}\"\n{}", server.url(), ca_file.unwrap_or_default())
}

/// `reaction` to every request on connection 1 but the first; all is well otherwise.
fn first_connection_turns(reaction: Reaction) -> impl Fn(&Visit) -> Reaction {
    move |visit| match (visit.connection, visit.request) {
        (1, 2..) => reaction.clone(),
        _ => Reaction::Api,
    }
}

/// Runs the daemon until each case's server was asked on a second connection, found the token
/// alive there, and `further` more requests came.
async fn run(cases: &[Case], further: usize) -> Ended {
    let stage = Stage::new(&cases.iter().map(Case::table).collect::<String>());
    for case in cases {
        case.server.add_token(&stage.token(&case.name), case.life);
    }
    let daemon = stage.start();
    for Case { name, server, .. } in cases {
        let enough =
            |visits: &[Visit]| visits.iter().filter(|visit| visit.connection > 1).count() > further;
        server.until(PATIENCE, name, enough).await;
    }
    let ended = daemon.stop().await;
    for Case { name, server, .. } in cases {
        assert!(server.is_alive(&secret(name)), "{name} died: {:#?}", server.visits());
    }
    ended
}

/// Events after which a user of the token has to act, or would think so.
const DEATHS: [&str; 4] = ["token_expired", "token_rejected", "token_unverified", "reauth_started"];

fn no_token_died(ended: &Ended) {
    for event in DEATHS {
        assert_eq!(ended.count(event, ""), 0, "{event}: {:#?}", ended.all(event, ""));
    }
}

fn lives() -> [Duration; 3] {
    [seconds(10), seconds(30), seconds(40)]
}

#[tokio::test]
async fn http2_connection_that_swallows_requests_is_closed_after_one_timeout() {
    let mut cases = Vec::new();
    for life in lives() {
        let name = format!("life-{}", life.as_secs());
        let react = first_connection_turns(Reaction::Swallow);
        cases.push(Case::new(name, Protocol::Http2, life, react).await);
    }
    let ended = run(&cases, 0).await;
    no_token_died(&ended);
    for Case { name, server, .. } in &cases {
        let lost = server.visits().iter().filter(|visit| visit.connection == 1).count() - 1;
        assert_eq!(lost, 1, "{name}: {:#?}", server.visits());
    }
}

#[tokio::test]
async fn connection_that_keeps_returning_errors_is_closed_after_one_response() {
    let bad = [
        ("busy", Reaction::Say(503, "")),
        ("gateway", Reaction::Say(502, "<html>Bad gateway</html>")),
        ("misdirected", Reaction::Say(421, "<html>Misdirected request</html>")),
        ("page", Reaction::Say(200, "<html>Welcome</html>")),
        ("missing", Reaction::Say(404, "<html>Not here</html>")),
        ("fault", Reaction::Say(200, r#"{"Errors":{"Status":500,"Detail":"maintenance"}}"#)),
        ("login", Reaction::Say(401, "<html>Log in</html>")),
    ];
    let mut cases = Vec::new();
    for (kind, reaction) in bad {
        for (protocol, life) in [
            (Protocol::Http1, 10),
            (Protocol::Tls, 4),
            (Protocol::Http2, 10),
            (Protocol::Http1, 30),
        ] {
            let name = format!("{kind}-{protocol:?}-{life}").to_lowercase();
            let react = first_connection_turns(reaction.clone());
            cases.push(Case::new(name, protocol, seconds(life), react).await);
        }
    }
    let ended = run(&cases, 0).await;
    no_token_died(&ended);
    for Case { name, server, .. } in &cases {
        let visits = server.visits();
        let bad = visits.iter().filter(|visit| visit.connection == 1 && visit.request > 1).count();
        assert_eq!(bad, 1, "{name}: {visits:#?}");
        assert!(ended.count("check_failed", name) <= 1, "{name}: {:?}", ended.story(name));
    }
}

#[tokio::test]
async fn token_is_not_rejected_by_one_bad_connection() {
    let mut cases = Vec::new();
    for protocol in Protocol::ALL {
        for life in [4, 10] {
            let name = format!("{protocol:?}-{life}").to_lowercase();
            let react = first_connection_turns(Reaction::Say(401, DENIED));
            cases.push(Case::new(name, protocol, seconds(life), react).await);
        }
    }
    let ended = run(&cases, 1).await;
    no_token_died(&ended);
    for Case { name, server, .. } in &cases {
        let visits = server.visits();
        let denied = visits.iter().filter(|visit| visit.connection == 1).count() - 1;
        assert_eq!(denied, 1, "{name}: {visits:#?}");
    }
}

#[tokio::test]
async fn reused_connection_that_ends_during_a_request_raises_no_alarm() {
    let mut cases = Vec::new();
    for protocol in Protocol::ALL {
        for (kind, end) in [("fin", Reaction::Close), ("rst", Reaction::Reset)] {
            let name = format!("{protocol:?}-{kind}").to_lowercase();
            // Each connection serves one request, and ends with the second.
            let react = move |visit: &Visit| match visit.request {
                1 => Reaction::Api,
                _ => end.clone(),
            };
            cases.push(Case::new(name, protocol, seconds(4), react).await);
        }
    }
    let ended = run(&cases, 4).await;
    no_token_died(&ended);
    for event in ["check_failed", "server_unavailable", "server_recovered", "token_recovered"] {
        assert_eq!(ended.count(event, ""), 0, "{event}: {:#?}", ended.all(event, ""));
    }
    for Case { name, server, .. } in &cases {
        let visits = server.visits();
        assert!(visits.iter().any(|visit| visit.request > 1), "{name}: {visits:#?}");
    }
}

#[tokio::test]
async fn login_after_a_connection_ended_counts_as_one_attempt() {
    for protocol in Protocol::ALL {
        for end in [Reaction::Close, Reaction::Reset] {
            // The token is expired at the first check; each connection ends with its second
            // request, which would be the login.
            let react = move |visit: &Visit| match visit.request {
                1 => Reaction::Api,
                _ => end.clone(),
            };
            let server = Server::start(protocol, react).await;
            let reauth = "[reauth.login]\napi_key_file = \"$DIR/api.key\"\n";
            let stage = Stage::new(
                &[
                    server_table("main", &server),
                    reauth.to_owned(),
                    token_table("quotes", "main", "reauth = \"login\""),
                ]
                .concat(),
            );
            stage.write("api.key", &format!("{}\n", secret("key")));
            server.add_token(&stage.token("quotes"), Duration::ZERO);
            let daemon = stage.start();
            daemon.event("reauth_succeeded", "quotes").await;
            let ended = daemon.stop().await;
            assert_eq!(ended.count("reauth_failed", ""), 0, "{protocol:?}");
            let succeeded = ended.all("reauth_succeeded", "quotes")[0];
            assert_eq!(succeeded.number("attempt"), 1, "{protocol:?}");
            let logins =
                server.visits().iter().filter(|visit| visit.endpoint == "GetSessionToken").count();
            assert_eq!(logins, 1, "{protocol:?}: {:#?}", server.visits());
        }
    }
}

/// Tokens of 24 h beside one of a short life.
const LONG_LIVED: usize = 20;

/// Each of many connections has served a request when all of them go dead; new ones work.
async fn short_life_among_dead_connections(protocol: Protocol, life: u64) {
    let dead = Arc::new(AtomicUsize::new(0));
    let are_dead = Arc::clone(&dead);
    let react = move |visit: &Visit| match are_dead.load(Ordering::SeqCst) {
        dead if visit.connection <= dead => Reaction::Swallow,
        // The first responses come together, so that no connection serves two requests.
        0 => Reaction::ApiAfter(LONG_LIVED + 1),
        _ => Reaction::Api,
    };
    let server = Server::start(protocol, react).await;
    let names: Vec<_> =
        (0..LONG_LIVED).map(|n| format!("day-{n}")).chain(["short".to_owned()]).collect();
    let tables = names.iter().map(|name| token_table(name, "main", ""));
    let stage = Stage::new(&(server_table("main", &server) + &tables.collect::<String>()));
    for name in &names {
        let life = if name == "short" { seconds(life) } else { seconds(24 * 3600) };
        server.add_token(&stage.token(name), life);
    }
    let daemon: Daemon = stage.start();
    for name in &names {
        daemon.event("token_checked", name).await;
    }
    let before = server.connections();
    if protocol != Protocol::Http2 {
        assert!(before > LONG_LIVED, "{before} connections");
    }
    dead.store(before, Ordering::SeqCst);
    let on_new =
        |visits: &[Visit]| visits.iter().filter(|visit| visit.connection > before).count() >= 2;
    server.until(PATIENCE, "two requests on new connections", on_new).await;
    let ended = daemon.stop().await;
    no_token_died(&ended);
    assert!(server.is_alive(&secret("short")));
}

#[tokio::test]
async fn retry_replaces_an_http1_pool_of_dead_connections() {
    short_life_among_dead_connections(Protocol::Http1, 10).await;
}

#[tokio::test]
async fn retry_replaces_a_tls_pool_of_dead_connections() {
    short_life_among_dead_connections(Protocol::Tls, 4).await;
}

#[tokio::test]
async fn retry_replaces_an_http2_pool_with_a_dead_connection() {
    short_life_among_dead_connections(Protocol::Http2, 10).await;
}
