//! Webhooks: posts JSON to a URL of the configuration, on a fresh connection for each request.
//!
//! Uses the TLS and proxy settings of all other requests, and nothing of the session API. Errors
//! contain neither the URL nor the header, because both may be secret.

use std::fmt;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use reqwest::{Method, Request};
use tokio::time::timeout;

use super::client_error::ClientError;
use super::http_client::HttpClientFactory;
use super::materials::Materials;
use super::transport_error::{is_out_of_descriptors, reason, timed_out};
use crate::outcome::CallError;
use crate::process;
use crate::settings::{Server, Webhook, ad_hoc_server};

/// The client of one webhook.
pub struct WebhookClient {
    http: reqwest::Client,
    webhook: Webhook,
    /// The `[notify.NAME]`, for messages.
    name: String,
}

/// A header line, such as `Authorization: Bearer …`.
pub struct HeaderLine(HeaderName, HeaderValue);

impl HeaderLine {
    /// Parses `NAME: VALUE`; `None` if it is not one header line, or a header that the request
    /// sets itself.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, value) = line.trim().split_once(':')?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        (name != CONTENT_LENGTH && name != TRANSFER_ENCODING).then_some(Self(name, value))
    }
}

impl fmt::Debug for HeaderLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderLine")
    }
}

impl WebhookClient {
    /// A client for the `webhook` of `[notify.NAME]`. Reads its files: blocks.
    ///
    /// # Errors
    ///
    /// A sentence with a remedy.
    pub fn new(name: &str, webhook: &Webhook, timeout: Duration) -> Result<Self, String> {
        let server = Server {
            ca_file: webhook.ca_file.clone(),
            proxy: webhook.proxy.clone(),
            timeout,
            connect_timeout: timeout,
            ..ad_hoc_server(name, webhook.url.as_str(), false, None)?
        };
        let http = Materials::read(&server, &|name| std::env::var_os(name))
            .and_then(|materials| HttpClientFactory::new(&server, materials)?.fresh())
            .map_err(|error| unusable(name, &error))?;
        Ok(Self { http, webhook: webhook.clone(), name: name.to_owned() })
    }

    /// Posts `body`, which is JSON. Only a status of 200 to 299 is a success. Redirects are not
    /// followed.
    ///
    /// # Errors
    ///
    /// A sentence with a remedy, and the HTTP status if there was a response.
    pub async fn post(
        &self,
        header: Option<&HeaderLine>,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<(), CallError> {
        let mut request = Request::new(Method::POST, self.webhook.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(HeaderLine(name, value)) = header {
            headers.insert(name, value.clone());
        }
        *request.body_mut() = Some(body.into());
        let status = match timeout(limit, self.http.execute(request)).await {
            Err(_) => return Err(timed_out(limit)),
            Ok(Err(error)) => return Err(self.no_answer(&error)),
            Ok(Ok(response)) => response.status().as_u16(),
        };
        let name = &self.name;
        let error = match status {
            200..=299 => return Ok(()),
            300..=399 => format!(
                "the webhook answered with a redirect ({status}), which is not followed: write the \
                 final URL into `webhook` of [notify.{name}]"
            ),
            401 | 403 => format!(
                "the webhook refused the request ({status}): check the credential that \
                 `webhook_header_credential` of [notify.{name}] names"
            ),
            _ => format!("the webhook answered with status {status}, not 200 to 299"),
        };
        Err(CallError::new(error).with_status(status))
    }

    fn no_answer(&self, error: &reqwest::Error) -> CallError {
        if is_out_of_descriptors(error) {
            return CallError::new(process::out_of_descriptors_message());
        }
        let keys = match self.webhook.proxy {
            Some(_) => "`webhook`, `ca_file` and `proxy`",
            None => "`webhook` and `ca_file`",
        };
        CallError::new(format!(
            "no response from {} ({}): check {keys} of [notify.{}]",
            self.webhook.origin(),
            reason(error),
            self.name
        ))
    }
}

impl fmt::Debug for WebhookClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookClient").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The sentence for a client that cannot be built. A `[server.NAME]` has more keys, and so other
/// sentences.
fn unusable(name: &str, error: &ClientError) -> String {
    match error {
        ClientError::Unreadable { path, .. } | ClientError::CaFileInvalid { path, .. } => format!(
            "`ca_file` of [notify.{name}], {}, cannot be used: it must be readable, and contain the \
             authority's certificate in PEM form (BEGIN CERTIFICATE)",
            path.display()
        ),
        ClientError::Proxy { reason, .. } => format!(
            "`proxy` of [notify.{name}] cannot be used ({reason}): write it as http://HOST:PORT"
        ),
        // A webhook has no parameters, and its files have a timeout of their own.
        ClientError::Parameter { source, .. } => source.to_string(),
        ClientError::TimedOut { .. } => error.to_string(),
        ClientError::Invalid { reason, .. } | ClientError::Unusable { reason, .. } => format!(
            "no connection can be made ({reason}): install this system's certificate authorities \
             (the package is usually `ca-certificates`), or set `ca_file` of [notify.{name}]"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_line_has_a_name_and_a_value() {
        let HeaderLine(name, value) = HeaderLine::parse("Authorization: Bearer a:b \n").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer a:b"));
        assert!(value.is_sensitive());
    }

    #[test]
    fn other_text_is_no_header_line() {
        for line in ["", "Bearer abc", ": abc", "A B: c", "A: b\nC: d", "Content-Length: 3"] {
            assert!(HeaderLine::parse(line).is_none(), "{line:?}");
        }
    }
}
