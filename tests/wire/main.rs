//! The client on real sockets: against the simulator, and against servers that misbehave.

mod answers;
mod connections;
#[path = "../doubles/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part")]
mod doubles;
mod frames;
mod profiles;
#[expect(dead_code, reason = "what tests/daemon needs beyond these tests")]
mod server;
mod troubles;
mod trust;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tokenkeep::api::Client;
use tokenkeep::lifecycle::Renewal;
use tokenkeep::outcome::{CallError, Outcome};
use tokenkeep::secret::TokenValue;
use tokenkeep::settings::Server;

/// Holds characters that must be percent-encoded.
const VALUE: &str = "t0ken/Value+with=odd&characters%20";

/// Longer than any answer here takes; a test that waits for it is a test that fails.
const AMPLE: Duration = Duration::from_secs(20);

/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(250);

fn value() -> TokenValue {
    TokenValue::parse(VALUE).expect("a usable value")
}

fn server(url: &str) -> Server {
    let many = NonZeroU32::new(64).expect("not zero");
    Server {
        name: "sarus".to_owned(),
        url: url.parse().expect("a URL"),
        renewal: Renewal::Auto,
        timeout: AMPLE,
        connect_timeout: AMPLE,
        max_in_flight: many,
        rate_limit: many,
        ca_file: None,
        client_certificate: None,
        proxy: None,
        proxy_credentials: None,
        profile: None,
        with: BTreeMap::new(),
    }
}

fn client(url: &str) -> Client {
    Client::new(&server(url)).expect("a client")
}

fn unavailable(outcome: Outcome) -> CallError {
    match outcome {
        Outcome::Unavailable(fault) => fault,
        other => panic!("not unavailable: {other:?}"),
    }
}

fn misconfigured(outcome: Outcome) -> CallError {
    match outcome {
        Outcome::Misconfigured(fault) => fault,
        other => panic!("not misconfigured: {other:?}"),
    }
}

/// A whole HTTP answer that says that the token lives for a minute.
fn alive_for_a_minute() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\nConnection: close\r\n\r\n{\"Result\":{\"Remaining\":60000}}"
        .to_vec()
}
