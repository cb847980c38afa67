//! The listening address as a plain HTTP client meets it.

use tokenkeep::simulator::Behaviour;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{
    Daemon, ISSUED, MARK, PATIENCE, Stage, free_port, login_simulator, seconds, server_table,
    simulator, token_table,
};

/// The lines of `[control]` for that port.
pub(crate) fn control(port: u16, keys: &str) -> String {
    format!("[control]\nsocket = \"$DIR/control.sock\"\nlisten = \"127.0.0.1:{port}\"\n{keys}\n")
}

/// A daemon with one living token, called `quotes`, that listens on the port.
async fn listening(keys: &str) -> (Stage, Daemon, u16) {
    let server = simulator().await;
    let port = free_port();
    let tables = server_table("sarus", &server, "") + &token_table("quotes", "sarus", "");
    let stage = Stage::new(&(tables + &control(port, keys)));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    (stage, daemon, port)
}

/// What comes back for a request with this first line and these headers, until `enough` is in it
/// or the daemon ends the connection.
pub(crate) async fn exchange(port: u16, request: &str, enough: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
        let text = format!("{request}\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.expect("a reader");
        let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
        loop {
            let length = stream.read(&mut part).await.expect("text");
            answer.extend_from_slice(&part[..length]);
            let text = String::from_utf8_lossy(&answer);
            if length == 0 || (!enough.is_empty() && text.contains(enough)) {
                return text.into_owned();
            }
        }
    };
    timeout(PATIENCE, exchange).await.expect("an answer in time")
}

async fn get(port: u16, path: &str) -> String {
    exchange(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}"), "").await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).expect("a status")
}

#[tokio::test]
async fn page_has_a_content_security_policy_for_itself_only() {
    let (_stage, daemon, port) = listening("").await;
    let answer = get(port, "/").await;
    let head = answer.split("\r\n\r\n").next().expect("a head").to_lowercase();
    assert_eq!(status(&answer), "200");
    assert!(head.contains("content-security-policy: default-src 'none'; "), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    daemon.stop().await;
}

#[tokio::test]
async fn request_for_another_host_is_rejected() {
    let (_stage, daemon, port) = listening("").await;
    let page = ["/", "/page/stream", "/page/story?name=quotes"];
    for path in page.into_iter().chain(["/metrics", "/healthz", "/readyz", "/nowhere"]) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: attacker.example:{port}");
        assert_eq!(status(&exchange(port, &request, "").await), "421", "{path}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn event_stream_rejects_other_origins() {
    let (_stage, daemon, port) = listening("").await;
    for path in ["/page/stream", "/page/story?name=quotes"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nSec-Fetch-Site: cross-site");
        assert_eq!(status(&exchange(port, &request, "").await), "403", "{path}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn listening_address_is_read_only() {
    let (_stage, daemon, port) = listening("").await;
    for path in ["/", "/page/stream", "/v1/tokens/quotes/revoke", "/v1/reload"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost:{port}");
        let answer = exchange(port, &request, "").await;
        assert!(["404", "405"].contains(&status(&answer)), "{path}: {answer}");
    }
    for path in ["/v1/tokens", "/v1/tokens/quotes", "/v1/tokens/quotes/value", "/v1/health"] {
        assert_eq!(status(&get(port, path).await), "404", "{path}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn event_stream_has_names_states_and_times_but_no_value() {
    let server = login_simulator().await;
    let port = free_port();
    let reauth = "[reauth.login]\napi_key_file = \"$DIR/api.key\"\n";
    let tables = server_table("sarus", &server, "")
        + reauth
        + &token_table("quotes", "sarus", "reauth = \"login\"");
    let stage = Stage::new(&(tables + &control(port, "")));
    stage.write("api.key", &crate::support::secret("key"));
    server.add_token(&stage.token("quotes"), seconds(2));
    let daemon = stage.start();
    daemon.event("reauth_succeeded", "quotes").await;
    let request = format!("GET /page/stream HTTP/1.1\r\nHost: localhost:{port}");
    let stream =
        exchange(port, &request, "event: snapshot\ndata: {\"rows\":[[0,\"quotes\",0,").await;
    let story = get(port, "/page/story?name=quotes").await;
    assert!(stream.contains("\"event\":\"token_expired\""), "{stream}");
    assert!(story.contains("\"event\":\"reauth_succeeded\""), "{story}");
    for text in [stream, story] {
        assert!(!text.contains(MARK) && !text.contains(ISSUED), "{text}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn event_stream_shows_deaths_and_outages_without_paths_and_messages() {
    let (server, down) = (simulator().await, simulator().await);
    let port = free_port();
    let tables = server_table("sarus", &server, "")
        + &server_table("archive", &down, "")
        + &token_table("quotes", "sarus", "")
        + &token_table("history", "archive", "");
    let stage = Stage::new(&(tables + &control(port, "")));
    stage.token("quotes");
    down.add_token(&stage.token("history"), seconds(3_600));
    down.set_behaviour(Behaviour { maintenance: true, ..Behaviour::default() });
    let daemon = stage.start();
    daemon.event("token_rejected", "quotes").await;
    daemon.event("server_unavailable", "").await;
    let request = format!("GET /page/stream HTTP/1.1\r\nHost: localhost:{port}");
    let stream = exchange(port, &request, "event: snapshot\ndata: {\"rows\":[[").await;
    assert!(stream.contains(" was rejected"), "{stream}");
    assert!(stream.contains("\"reason\":\"status 500\""), "{stream}");
    let folder = stage.path("");
    for hidden in [folder.to_str().expect("UTF-8"), ".token", "maintenance", "127.0.0.1"] {
        assert!(!stream.contains(hidden), "{hidden}: {stream}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn listen_names_false_hides_names_and_token_details() {
    let (_stage, daemon, port) = listening("listen_names = false").await;
    let request = format!("GET /page/stream HTTP/1.1\r\nHost: localhost:{port}");
    let stream = exchange(port, &request, "event: snapshot\ndata: {\"rows\":[[0,null,0,").await;
    assert!(!stream.contains("quotes"), "{stream}");
    assert_eq!(status(&get(port, "/page/story?name=quotes").await), "404");
    daemon.stop().await;
}

#[tokio::test]
async fn many_watchers_leave_connections_for_other_clients() {
    let (_stage, daemon, port) = listening("").await;
    let mut watching = Vec::new();
    let refused = loop {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
        let request = format!("GET /page/stream HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a reader");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("a status");
        if &status != b"HTTP/1.1 200" {
            break status;
        }
        watching.push(stream);
    };
    assert_eq!(&refused, b"HTTP/1.1 503");
    assert_eq!(watching.len(), 12);
    assert_eq!(status(&get(port, "/").await), "200");
    daemon.stop().await;
}

#[tokio::test]
async fn watchers_and_silent_clients_leave_connections_for_monitors() {
    let (_stage, daemon, port) = listening("").await;
    let mut held = Vec::new();
    for number in 0..16 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
        if number < 12 {
            let request = format!("GET /page/stream HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("a reader");
            stream.read_exact(&mut [0; 12]).await.expect("a status");
        }
        held.push(stream);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/"] {
        assert_eq!(status(&get(port, path).await), "200", "{path}");
    }
    let open = held.iter().filter(|stream| match stream.try_read(&mut [0; 4_096]) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    });
    assert!(open.count() >= 12, "nobody was waited for to be cut off");
    daemon.stop().await;
}

#[tokio::test]
async fn head_request_on_the_event_stream_releases_its_connection() {
    let (_stage, daemon, port) = listening("").await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
        let request = format!("HEAD /page/stream HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a reader");
        let mut answer = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an answer").expect("text");
        assert_eq!(&answer, b"HTTP/1.1 405");
        held.push(stream);
    }
    assert_eq!(status(&get(port, "/healthz").await), "200");
    daemon.stop().await;
}

#[tokio::test]
async fn event_stream_lists_the_worst_ten_thousand_tokens_and_counts_the_rest() {
    const MANY: usize = 10_050;
    let server = simulator().await;
    let port = free_port();
    let inventory = "[inventory.crowd]\nserver = \"sarus\"\nfile = \"$DIR/crowd.jsonl\"\n";
    let tables = server_table("sarus", &server, "") + &token_table("quotes", "sarus", "");
    let stage = Stage::new(&(tables + inventory + &control(port, "")));
    let line = |index| format!("{{\"name\": \"unknown-{index}\", \"token\": \"v-{index}\"}}\n");
    stage.write("crowd.jsonl", &(0..MANY).map(line).collect::<String>());
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("inventory_loaded", "").await;
    daemon.event("token_checked", "quotes").await;
    let request = format!("GET /page/stream HTTP/1.1\r\nHost: localhost:{port}");
    let stream = exchange(port, &request, "\"more\":false").await;
    assert!(stream.contains("\"rest\":51,"), "{}", &stream[..1_000]);
    assert_eq!(stream.matches(",\"unknown-").count(), 10_000);
    assert!(!stream.contains("\"quotes\",0,\"alive\""), "a living token is not among the worst");
    daemon.stop().await;
}
