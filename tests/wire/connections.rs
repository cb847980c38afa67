//! Which connection a request uses, and which connections stay open.

use std::time::Duration;

use futures_util::future::join_all;
use tokenkeep::api::{Client, ConnectionLimits, LoginErrorKind};
use tokenkeep::clock;
use tokenkeep::outcome::{Connection, Outcome};
use tokenkeep::settings;

use super::server::{DENIED, Protocol, Reaction, Server, Visit};
use super::{AMPLE, SHORT, VALUE, server, unavailable, value};

const LIFE: Duration = Duration::from_secs(3600);
const ALIVE: Outcome = Outcome::Alive { remaining: LIFE };

async fn started(
    protocol: Protocol,
    react: impl Fn(&Visit) -> Reaction + Send + Sync + 'static,
) -> (Server, Client) {
    let (server, settings) = started_with_settings(protocol, react).await;
    (server, Client::new(&settings).expect("a client"))
}

async fn started_with_settings(
    protocol: Protocol,
    react: impl Fn(&Visit) -> Reaction + Send + Sync + 'static,
) -> (Server, settings::Server) {
    let scripted = Server::start(protocol, react).await;
    scripted.add_token(VALUE, LIFE);
    let ca_file = scripted.ca_file().map(ToOwned::to_owned);
    let settings = settings::Server { ca_file, ..server(scripted.url()) };
    (scripted, settings)
}

async fn query(client: &Client, connection: Connection) -> Outcome {
    client.query(&value(), AMPLE, connection).await
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = clock::now() + AMPLE;
    while !condition() {
        assert!(clock::now() < deadline, "not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `reaction` to every request on connection 1 but the first; all is well otherwise.
fn first_connection_turns(reaction: Reaction) -> impl Fn(&Visit) -> Reaction {
    move |visit| match (visit.connection, visit.request) {
        (1, 2..) => reaction.clone(),
        _ => Reaction::Api,
    }
}

#[tokio::test]
async fn fifty_checks_in_a_row_use_one_connection() {
    for protocol in Protocol::ALL {
        let (server, client) = started(protocol, |_| Reaction::Api).await;
        for _ in 0..50 {
            assert_eq!(query(&client, Connection::Pooled).await, ALIVE, "{protocol:?}");
        }
        assert_eq!(server.connections(), 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn each_fresh_request_opens_a_connection_that_is_closed_afterwards() {
    for protocol in Protocol::ALL {
        let (server, client) = started(protocol, |_| Reaction::Api).await;
        query(&client, Connection::Pooled).await;
        for _ in 0..3 {
            assert_eq!(query(&client, Connection::Fresh).await, ALIVE, "{protocol:?}");
        }
        query(&client, Connection::Pooled).await;
        assert_eq!(server.connections_used(), [1, 2, 3, 4, 1], "{protocol:?}");
        until("the pooled connection is left", || server.open() == 1).await;
    }
}

#[tokio::test]
async fn concurrent_fresh_requests_do_not_share_a_connection() {
    for protocol in Protocol::ALL {
        let (server, client) = started(protocol, |_| Reaction::Api).await;
        let outcomes = join_all((0..8).map(|_| query(&client, Connection::Fresh))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == ALIVE), "{protocol:?}: {outcomes:?}");
        let mut used = server.connections_used();
        used.sort_unstable();
        assert_eq!(used, [1, 2, 3, 4, 5, 6, 7, 8], "{protocol:?}");
    }
}

#[tokio::test]
async fn a_fresh_connection_resumes_the_tls_session_of_a_pooled_one() {
    for protocol in [Protocol::Tls, Protocol::Http2] {
        let (server, client) = started(protocol, |_| Reaction::Api).await;
        query(&client, Connection::Pooled).await;
        query(&client, Connection::Fresh).await;
        let resumed: Vec<_> = server.visits().iter().map(|visit| visit.resumed).collect();
        assert_eq!(resumed, [false, true], "{protocol:?}");
    }
}

#[tokio::test]
async fn as_many_sessions_are_resumed_at_once_as_were_opened_at_once() {
    const AT_ONCE: usize = 32;
    // The first response tells that this server has no HTTP/2; then each needs a connection.
    let react = |visit: &Visit| match (visit.connection, visit.request) {
        (1, 1) => Reaction::Api,
        _ => Reaction::ApiAfter(1 + AT_ONCE),
    };
    let (server, client) = started(Protocol::Tls, react).await;
    query(&client, Connection::Pooled).await;
    join_all((0..AT_ONCE).map(|_| query(&client, Connection::Pooled))).await;
    assert_eq!(server.connections(), AT_ONCE);
    join_all((0..AT_ONCE).map(|_| query(&client, Connection::Fresh))).await;
    let visits = server.visits();
    let [before, after] = [&visits[..=AT_ONCE], &visits[1 + AT_ONCE..]];
    assert!(before.iter().filter(|visit| visit.resumed).count() < AT_ONCE / 2, "{before:#?}");
    assert!(after.iter().all(|visit| visit.resumed), "{after:#?}");
}

#[tokio::test]
async fn concurrent_requests_open_one_http2_connection() {
    let (server, client) = started(Protocol::Http2, |_| Reaction::Api).await;
    let outcomes = join_all((0..32).map(|_| query(&client, Connection::Pooled))).await;
    assert!(outcomes.iter().all(|outcome| *outcome == ALIVE), "{outcomes:?}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_first_request_without_a_response_does_not_hold_the_others() {
    let (server, client) = started(Protocol::Tls, |visit| match visit.connection {
        1 => Reaction::Swallow,
        _ => Reaction::Api,
    })
    .await;
    let (value, timeout) = (value(), Duration::from_secs(2));
    let queries = (0..8).map(|_| client.query(&value, timeout, Connection::Pooled));
    let outcomes = join_all(queries).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == ALIVE).count(), 7, "{outcomes:?}");
    assert_eq!(server.visits().len(), 8);
}

#[tokio::test]
async fn request_for_a_newer_connection_uses_the_pool_only_if_that_is_newer() {
    for protocol in Protocol::ALL {
        let before = clock::now();
        until("the clock has advanced", || clock::now() > before).await;
        let (server, client) = started(protocol, |_| Reaction::Api).await;
        query(&client, Connection::Pooled).await;
        query(&client, Connection::OpenedAfter(clock::now())).await;
        query(&client, Connection::OpenedAfter(before)).await;
        assert_eq!(server.connections_used(), [1, 2, 1], "{protocol:?}");
    }
}

#[tokio::test]
async fn query_on_a_reused_connection_that_ends_is_resent_once_on_a_fresh_one() {
    for protocol in Protocol::ALL {
        for end in [Reaction::Close, Reaction::Reset] {
            let (server, client) = started(protocol, first_connection_turns(end.clone())).await;
            assert_eq!(query(&client, Connection::Pooled).await, ALIVE);
            let outcome = query(&client, Connection::Pooled).await;
            assert_eq!(outcome, ALIVE, "{protocol:?}, {end:?}");
            assert_eq!(server.connections_used(), [1, 1, 2], "{protocol:?}, {end:?}");
        }
    }
}

#[tokio::test]
async fn query_is_never_resent_twice() {
    for protocol in Protocol::ALL {
        for end in [Reaction::Close, Reaction::Reset] {
            let first_only = end.clone();
            let react = move |visit: &Visit| match (visit.connection, visit.request) {
                (1, 1) => Reaction::Api,
                _ => first_only.clone(),
            };
            let (server, client) = started(protocol, react).await;
            query(&client, Connection::Pooled).await;
            unavailable(query(&client, Connection::Pooled).await);
            assert_eq!(server.connections_used(), [1, 1, 2], "{protocol:?}, {end:?}");
        }
    }
}

#[tokio::test]
async fn query_on_a_new_connection_that_ends_is_not_resent() {
    for protocol in Protocol::ALL {
        for connection in [Connection::Pooled, Connection::Fresh] {
            let (server, client) = started(protocol, |_| Reaction::Reset).await;
            unavailable(query(&client, connection).await);
            assert_eq!(server.connections_used(), [1], "{protocol:?}, {connection:?}");
        }
    }
}

#[tokio::test]
async fn resent_query_keeps_to_the_time_out_of_the_first() {
    let react = |visit: &Visit| match (visit.connection, visit.request) {
        (1, 1) => Reaction::Api,
        (1, _) => Reaction::Reset,
        _ => Reaction::Swallow,
    };
    let (server, client) = started(Protocol::Http1, react).await;
    query(&client, Connection::Pooled).await;
    let outcome = client.query(&value(), 4 * SHORT, Connection::Pooled).await;
    assert_eq!(&*unavailable(outcome).error, "no response within 1 s");
    assert_eq!(server.connections_used(), [1, 1, 2]);
}

#[tokio::test]
async fn each_of_many_reused_connections_that_end_costs_no_check() {
    for protocol in Protocol::ALL {
        let react = |visit: &Visit| match (visit.connection, visit.request) {
            (1..=10, 2..) => Reaction::Reset,
            _ => Reaction::Api,
        };
        let (_server, client) = started(protocol, react).await;
        let ten = || join_all((0..10).map(|_| query(&client, Connection::Pooled)));
        ten().await;
        let outcomes = ten().await;
        assert!(outcomes.iter().all(|outcome| *outcome == ALIVE), "{protocol:?}: {outcomes:?}");
    }
}

#[tokio::test]
async fn login_uses_a_fresh_connection_and_is_sent_once() {
    for protocol in Protocol::ALL {
        for end in [Reaction::Close, Reaction::Reset, Reaction::ApiThenReset] {
            let react = move |visit: &Visit| match &*visit.endpoint {
                "GetSessionToken" => end.clone(),
                _ => Reaction::Api,
            };
            let (server, client) = started(protocol, react).await;
            query(&client, Connection::Pooled).await;
            let fault = client.login(&"key".into(), 60, AMPLE).await.expect_err("no response");
            assert_eq!(fault.kind, LoginErrorKind::Unavailable);
            assert_eq!(server.connections_used(), [1, 2], "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn revocation_uses_a_fresh_connection() {
    let (server, client) =
        started(Protocol::Http1, |_| Reaction::Say(200, "{\"Result\":{}}")).await;
    query(&client, Connection::Pooled).await;
    client.revoke(&value(), AMPLE).await.expect("revoked");
    assert_eq!(server.connections_used(), [1, 2]);
}

#[tokio::test]
async fn renewal_on_a_reused_connection_that_ends_is_resent_unless_the_server_replaces_values() {
    const REPLACED: &str = r#"{"Result":{"Remaining":60000,"SessionToken":"another-value"}}"#;
    for (replaces, used) in [(false, [1, 1, 2].as_slice()), (true, &[1, 1])] {
        let react = move |visit: &Visit| match (visit.connection, visit.request) {
            (1, 2) => Reaction::Reset,
            _ if replaces => Reaction::Say(200, REPLACED),
            _ => Reaction::Api,
        };
        let (server, client) = started(Protocol::Http1, react).await;
        let first = client.renew(&value(), AMPLE, Connection::Pooled).await;
        assert_eq!(first.new_value.is_some(), replaces);
        let second = client.renew(&value(), AMPLE, Connection::Pooled).await;
        assert_eq!(matches!(second.outcome, Outcome::Alive { .. }), !replaces, "{second:?}");
        assert_eq!(server.connections_used(), used);
    }
}

/// What a connection may answer for ever that is no conclusion.
fn bad_responses() -> Vec<Reaction> {
    vec![
        Reaction::Say(503, ""),
        Reaction::Say(502, "<html>Bad gateway</html>"),
        Reaction::Say(421, "<html>Misdirected request</html>"),
        Reaction::Say(404, "<html>Not here</html>"),
        Reaction::Say(200, "<html>Welcome</html>"),
        Reaction::Say(200, r#"{"Errors":{"Status":500,"Detail":"maintenance"}}"#),
        Reaction::Say(401, "<html>Log in</html>"),
        Reaction::Swallow,
    ]
}

#[tokio::test]
async fn pool_is_retired_once_a_fresh_connection_succeeds_where_it_failed() {
    for protocol in Protocol::ALL {
        for bad in bad_responses() {
            let (server, client) = started(protocol, first_connection_turns(bad.clone())).await;
            assert_eq!(query(&client, Connection::Pooled).await, ALIVE);
            let failed = client.query(&value(), SHORT, Connection::Pooled).await;
            let inconclusive =
                matches!(failed, Outcome::Unavailable(_) | Outcome::Misconfigured(_));
            assert!(inconclusive, "{protocol:?}, {bad:?}: {failed:?}");
            assert_eq!(query(&client, Connection::Fresh).await, ALIVE);
            for _ in 0..2 {
                assert_eq!(query(&client, Connection::Pooled).await, ALIVE, "{bad:?}");
            }
            let used = server.connections_used();
            assert_eq!(used, [1, 1, 2, 3, 3], "{protocol:?}, {bad:?}");
            until("the connections of the retired pool are closed", || server.open() == 1).await;
        }
    }
}

#[tokio::test]
async fn pool_is_retired_once_a_fresh_connection_contradicts_its_401() {
    for protocol in Protocol::ALL {
        let denies = first_connection_turns(Reaction::Say(401, DENIED));
        let (server, client) = started(protocol, denies).await;
        query(&client, Connection::Pooled).await;
        let denied = query(&client, Connection::Pooled).await;
        assert!(matches!(denied, Outcome::Rejected(_)), "{denied:?}");
        assert_eq!(query(&client, Connection::Fresh).await, ALIVE);
        assert_eq!(query(&client, Connection::Pooled).await, ALIVE);
        assert_eq!(server.connections_used(), [1, 1, 2, 3], "{protocol:?}");
    }
}

#[tokio::test]
async fn pool_is_kept_while_fresh_connections_agree_with_it() {
    for protocol in Protocol::ALL {
        for bad in [Reaction::Say(401, DENIED), Reaction::Say(503, "")] {
            let react = move |visit: &Visit| match (visit.connection, visit.request) {
                (1, 1) => Reaction::Api,
                _ => bad.clone(),
            };
            let (server, client) = started(protocol, react).await;
            for connection in [Connection::Pooled, Connection::Fresh, Connection::Pooled] {
                query(&client, connection).await;
            }
            query(&client, Connection::Pooled).await;
            assert_eq!(server.connections_used(), [1, 2, 1, 1], "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn idle_connections_are_closed_without_another_request() {
    for protocol in Protocol::ALL {
        let (server, settings) = started_with_settings(protocol, |_| Reaction::Api).await;
        let limits = ConnectionLimits { idle: SHORT, ..ConnectionLimits::default() };
        let client = Client::with_limits(&settings, limits).expect("a client");
        join_all((0..5).map(|_| query(&client, Connection::Pooled))).await;
        until("all connections are closed", || server.open() == 0).await;
        assert_eq!(query(&client, Connection::Pooled).await, ALIVE, "{protocol:?}");
    }
}

#[tokio::test]
async fn concurrent_requests_after_an_idle_time_open_one_http2_connection() {
    let (server, settings) = started_with_settings(Protocol::Http2, |_| Reaction::Api).await;
    let limits = ConnectionLimits { idle: 4 * SHORT, ..ConnectionLimits::default() };
    let client = Client::with_limits(&settings, limits).expect("a client");
    query(&client, Connection::Pooled).await;
    let idle_since = clock::now();
    until("it is not used again", || clock::now() >= idle_since + limits.idle / 2).await;
    let outcomes = join_all((0..32).map(|_| query(&client, Connection::Pooled))).await;
    assert!(outcomes.iter().all(|outcome| *outcome == ALIVE), "{outcomes:?}");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn busy_connection_is_left_when_it_reaches_the_age_limit() {
    for protocol in Protocol::ALL {
        let (server, settings) = started_with_settings(protocol, |_| Reaction::Api).await;
        let limits = ConnectionLimits { idle: AMPLE, age: AMPLE + 2 * SHORT };
        let client = Client::with_limits(&settings, limits).expect("a client");
        let deadline = clock::now() + AMPLE;
        while server.connections() < 3 {
            assert_eq!(query(&client, Connection::Pooled).await, ALIVE, "{protocol:?}");
            assert!(clock::now() < deadline, "{protocol:?}: the connection is not left");
        }
        let used = server.connections_used();
        assert!(used.is_sorted(), "{protocol:?}: {used:?}");
        assert!(used.windows(2).any(|pair| pair[0] == pair[1]), "{protocol:?}: {used:?}");
        until("the old connections are closed", || server.open() == 1).await;
    }
}

#[tokio::test]
async fn pool_that_was_not_used_for_the_idle_limit_is_left() {
    let (server, settings) = started_with_settings(Protocol::Http1, |_| Reaction::Api).await;
    let limits = ConnectionLimits { idle: SHORT, ..ConnectionLimits::default() };
    let client = Client::with_limits(&settings, limits).expect("a client");
    query(&client, Connection::Pooled).await;
    // Blocks the runtime, as the sleep of a machine does: no timer of the library can run.
    std::thread::sleep(SHORT * 2);
    query(&client, Connection::Pooled).await;
    assert_eq!(server.connections_used(), [1, 2]);
}

#[tokio::test]
async fn reused_connection_of_a_proxy_that_ends_is_replaced_as_well() {
    let proxy = Server::start(Protocol::Http1, first_connection_turns(Reaction::Reset)).await;
    proxy.add_token(VALUE, LIFE);
    let url = proxy.url().parse().expect("a URL");
    let settings = settings::Server { proxy: Some(url), ..server("http://192.0.2.1:9") };
    let client = Client::new(&settings).expect("a client");
    for _ in 0..2 {
        assert_eq!(query(&client, Connection::Pooled).await, ALIVE);
    }
    assert_eq!(proxy.connections_used(), [1, 1, 2]);
}

/// Where the child of `fresh_connection_looks_the_name_up_again` finds its `/etc/hosts`.
const HOSTS: &str = "WIRE_TEST_HOSTS";

#[tokio::test]
async fn fresh_connection_looks_the_name_up_again() {
    const IN_NAMESPACE: &str = "mount --bind \"$WIRE_TEST_HOSTS\" /etc/hosts && exec \"$0\" \"$@\"";
    let hosts = tempfile::NamedTempFile::new().expect("a file");
    let isolated = |program: &str, arguments: &[&str]| {
        let mut command = tokio::process::Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", IN_NAMESPACE, program]);
        command.args(arguments).env(HOSTS, hosts.path());
        command
    };
    let permitted = isolated("true", &[]).output().await;
    if !permitted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this machine does not permit mount namespaces");
        return;
    }
    let this_test = std::env::current_exe().expect("this test");
    let child = ["--exact", "connections::queries_while_a_name_moves", "--ignored"];
    let output = isolated(this_test.to_str().expect("UTF-8"), &child).output().await.expect("run");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
#[ignore = "the child of `fresh_connection_looks_the_name_up_again`, with its own /etc/hosts"]
async fn queries_while_a_name_moves() {
    let hosts = std::env::var(HOSTS).expect("the file");
    let resolve_to = |address: &str| {
        std::fs::write(&hosts, format!("{address} moving.test\n")).expect("written");
    };
    let old = Server::start_on("127.0.0.2:0", Protocol::Http1, |_| Reaction::Api).await;
    let port = old.url().rsplit_once(':').expect("a port").1.to_owned();
    let new =
        Server::start_on(&format!("127.0.0.3:{port}"), Protocol::Http1, |_| Reaction::Api).await;
    old.add_token(VALUE, LIFE);
    new.add_token(VALUE, LIFE);
    let client = Client::new(&server(&format!("http://moving.test:{port}"))).expect("a client");

    resolve_to("127.0.0.2");
    assert_eq!(query(&client, Connection::Pooled).await, ALIVE);
    resolve_to("127.0.0.3");
    assert_eq!(query(&client, Connection::Pooled).await, ALIVE);
    assert_eq!((old.visits().len(), new.visits().len()), (2, 0));
    assert_eq!(query(&client, Connection::Fresh).await, ALIVE);
    assert_eq!((old.visits().len(), new.visits().len()), (2, 1));
}
