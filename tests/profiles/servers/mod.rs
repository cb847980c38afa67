//! The real servers, each on loopback with a folder of its own. They are killed when dropped.

mod etcd;
mod oidc;
mod openbao;
pub(crate) mod process;
mod zabbix;

use std::path::PathBuf;

use serde_json::Value;

pub(crate) use self::etcd::Etcd;
pub(crate) use self::oidc::{CLIENT, Oidc};
pub(crate) use self::openbao::OpenBao;
pub(crate) use self::zabbix::{USER, Zabbix};
use crate::support::seconds;

/// A server whose values a scenario keeps alive.
pub(crate) trait Server {
    /// The base URL, without a slash at its end.
    fn url(&self) -> String;

    /// Whether the server accepts this value, asked in a way that does not renew it. `None`: the
    /// server did not respond.
    async fn is_alive(&self, value: &str) -> Option<bool>;

    /// Kills the server, and starts it with the same data. Returns once it serves.
    async fn restart(&mut self);
}

/// What `tests/profiles/install` has put there.
pub(crate) fn installed(name: &str) -> PathBuf {
    let folder = std::env::var_os("TOKENKEEP_SERVERS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers")),
        PathBuf::from,
    );
    let folder = folder.join(name);
    assert!(folder.join("installed").exists(), "tests/profiles/install installs {name}");
    folder
}

/// An HTTP client of the tests, and its responses.
struct Http(reqwest::Client);

/// A status, and a body that is JSON (else `null`).
struct Reply {
    status: u16,
    json: Value,
    text: String,
}

impl Http {
    fn new() -> Self {
        // A server that was restarted would reset a connection kept from before.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        Self(client.timeout(seconds(5)).build().expect("a client"))
    }

    /// A GET, or with a body a POST. `None`: there was no response.
    async fn send(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Option<Reply> {
        let request = match body {
            None => self.0.get(url),
            Some(body) => self.0.post(url).body(body),
        };
        let request =
            headers.iter().fold(request, |request, (name, text)| request.header(*name, *text));
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        let json = serde_json::from_str(&text).unwrap_or_default();
        Some(Reply { status, json, text })
    }

    /// The same where the server must respond with success.
    async fn must(&self, url: &str, headers: &[(&str, &str)], body: Option<String>) -> Reply {
        let reply = self.send(url, headers, body).await.expect("a response");
        assert!((200..300).contains(&reply.status), "{url}: {}: {}", reply.status, reply.text);
        reply
    }
}

/// The text at this JSON pointer.
fn text(json: &Value, pointer: &str) -> String {
    let found = json.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no text at {pointer} of {json}")).to_owned()
}
