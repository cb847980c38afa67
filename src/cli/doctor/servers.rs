//! Each server: its certificate authorities, name lookup, and one query, TLS included.

use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use url::Url;

use super::diagnosis::Diagnosis;
use super::files::Value;
use crate::api::{Client, ClientError};
use crate::cli::unit::variable;
use crate::outcome::{CallError, Connection, ENDLESS, Outcome};
use crate::secret::TokenValue;
use crate::settings::{Server, Settings, Source};
use crate::text::format_duration;

/// Timeout of a name lookup.
const LOOKUP: Duration = Duration::from_secs(10);

/// Token value for the query if no token of a server is readable. The server rejects it.
const PLACEHOLDER: &str = "tokenkeep-doctor";

/// Checks all servers, one after the other. `offline`: contacts none.
pub(super) async fn check(
    settings: &Settings,
    values: &[Value],
    offline: bool,
    diagnosis: &Diagnosis,
) {
    for server in &settings.servers {
        let client = match Client::with_variables(server, &variable) {
            Ok(client) => client,
            // Reported for the parameter itself.
            Err(ClientError::Parameter { .. }) => continue,
            Err(error) => {
                diagnosis.error(format!("[server.{}] {error}", server.name));
                continue;
            }
        };
        if offline {
            continue;
        }
        let contacted = server.proxy.as_ref().unwrap_or(&server.url);
        if !resolves(server, contacted, diagnosis).await {
            continue;
        }
        if server.profile.as_ref().is_some_and(|profile| profile.query.is_none()) {
            diagnosis.ok(format!(
                "[server.{}] not queried: its profile has no `query`, and a renewal would change \
                 the token",
                server.name
            ));
            continue;
        }
        let value = values.iter().find(|value| value.token.keep_alive.server == server.name);
        query(&client, server, value, diagnosis).await;
    }
}

/// Looks up the host of `url`, the server or its proxy.
async fn resolves(server: &Server, url: &Url, diagnosis: &Diagnosis) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return true;
    };
    // An IPv6 address stands in brackets in a URL.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let key = if server.proxy.is_some() { "proxy" } else { "url" };
    let reason = match timeout(LOOKUP, lookup_host((bare, port))).await {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(_) => return true,
            None => "it has no address".to_owned(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no response within {}", format_duration(LOOKUP)),
    };
    diagnosis.error(format!(
        "[server.{}] the name {host} cannot be resolved ({reason}); check `{key}` and this \
         machine's name service",
        server.name
    ));
    false
}

async fn query(client: &Client, server: &Server, value: Option<&Value>, diagnosis: &Diagnosis) {
    let Ok(placeholder) = TokenValue::parse(PLACEHOLDER) else { return };
    let sent = value.map_or(&placeholder, |value| &value.value);
    let outcome = client.query(sent, server.timeout, Connection::Fresh).await;
    let name = &server.name;
    let fault = match (outcome, value) {
        (Outcome::Alive { remaining }, Some(value)) => {
            let query = server.profile.as_ref().and_then(|profile| profile.query.as_ref());
            let assumed = query.is_some_and(|query| query.life.is_empty());
            let assumed = if assumed { "assumed " } else { "" };
            let life = if remaining >= ENDLESS {
                " and does not expire".to_owned()
            } else {
                format!(", {assumed}{} left", format_duration(remaining))
            };
            diagnosis.ok(format!("[server.{name}] token {} is alive{life}", value.token.name));
            return;
        }
        (Outcome::Alive { .. }, None) => return,
        (Outcome::Rejected(_) | Outcome::Expired(_), None) => {
            diagnosis.ok(format!(
                "[server.{name}] the server responds; there is no token value to send, so a random \
                 value was sent"
            ));
            return;
        }
        (Outcome::Rejected(fault) | Outcome::Expired(fault), Some(value)) => {
            report_dead(name, value, &fault, diagnosis);
            return;
        }
        (Outcome::Throttled { retry_after, fault }, _) => {
            diagnosis.warning(format!(
                "[server.{name}] {}; it asks for a pause of {}: try again later",
                error_text(&fault),
                format_duration(retry_after)
            ));
            return;
        }
        (Outcome::Misconfigured(fault), None) if server.profile.is_some() => {
            diagnosis.warning(format!(
                "[server.{name}] {}; there is no token value to send, so a random value was sent, \
                 which the API may refuse for its form",
                error_text(&fault)
            ));
            return;
        }
        (Outcome::Misconfigured(fault) | Outcome::Unavailable(fault), _) => fault,
    };
    diagnosis.error(format!("[server.{name}] {}", error_text(&fault)));
}

/// Reports a token that the server does not accept.
fn report_dead(server: &str, value: &Value, fault: &CallError, diagnosis: &Diagnosis) {
    let (token, keep_alive) = (&value.token.name, &value.token.keep_alive);
    let text = format!("[server.{server}] token {token}: {}", error_text(fault));
    match (&value.token.source, &keep_alive.reauth) {
        (_, Some(reauth)) => diagnosis.warning(format!(
            "{text}; the daemon will get a new value from [reauth.{reauth}], or already has one: \
             see `tokenkeep status {token}`"
        )),
        (Source::File(_), None) => {
            diagnosis
                .error(format!("{text}; put a new value into its file, or configure `reauth`"));
        }
        (_, None) => {
            diagnosis.error(format!("{text}; give the service a new value, or configure `reauth`"));
        }
    }
}

/// The error, with the text of the server if there is one.
fn error_text(fault: &CallError) -> String {
    let detail = fault.detail.as_ref().map(|detail| format!(" (server: {detail})"));
    format!("{}{}", fault.error, detail.unwrap_or_default())
}
