//! Tunnels through an HTTP proxy (`CONNECT`, RFC 9110, 9.3.6) that the proxy refuses.
//!
//! The HTTP library opens the tunnels, but does not expose the status of a refusal. This module
//! learns it with a second attempt.

use std::error::Error;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use super::materials::Materials;
use super::status::{ResponseError, StatusSource, kind_of};
use crate::outcome::CallError;
use crate::settings::Server;

/// Time-out of the second attempt.
const LIMIT: Duration = Duration::from_secs(2);

/// Maximum size of a response head in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// A tunnel through an HTTP proxy.
pub(super) struct Tunnel {
    proxy: Url,
    /// The server's host and port.
    target: String,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Zeroizing<String>>,
}

impl Tunnel {
    /// The tunnel to `server`, if its connections go through one.
    pub(super) fn to(server: &Server, materials: &Materials) -> Option<Self> {
        let proxy = server.proxy.clone().filter(|_| server.url.scheme() == "https")?;
        let port = server.url.port_or_known_default()?;
        let authorization = materials.proxy.as_ref().map(|(user, password)| {
            let pair = Zeroizing::new(format!("{user}:{}", &**password));
            Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        });
        Some(Self { proxy, target: format!("{}:{port}", server.url.host_str()?), authorization })
    }

    /// Why the proxy refused the tunnel, if `error` is such a refusal.
    pub(super) async fn refusal(
        &self,
        error: &reqwest::Error,
        server: &str,
    ) -> Option<ResponseError> {
        let status = match refused(error)? {
            Refused::Authorization => 407,
            Refused::Otherwise => {
                timeout(LIMIT, self.status()).await.ok().flatten().unwrap_or_default()
            }
        };
        Some(ResponseError {
            kind: kind_of(status, StatusSource::Http, None),
            fault: match status {
                0 => CallError {
                    no_response: Some("refused by the proxy"),
                    ..CallError::new(self.sentence(status, server))
                },
                _ => CallError::new(self.sentence(status, server)).with_status(status),
            },
        })
    }

    fn sentence(&self, status: u16, server: &str) -> String {
        let Self { target, authorization, .. } = self;
        match (status, authorization) {
            (407, None) => format!(
                "the proxy requires credentials (407): set `proxy_credentials_file` of \
                 [server.{server}]"
            ),
            (407, Some(_)) => format!(
                "the proxy does not accept the credentials (407): check the content of \
                 `proxy_credentials_file` or `proxy_credential` of [server.{server}]"
            ),
            (403, _) => format!(
                "the proxy forbids connections to {target} (403): check that it permits \
                 [server.{server}] for this machine and these credentials"
            ),
            (500.., _) => format!(
                "the proxy cannot connect to {target} ({status}): check `url` of \
                 [server.{server}], and the proxy's network and name service"
            ),
            (0, _) => format!(
                "the proxy refuses to connect to {target}: check `proxy` of [server.{server}]"
            ),
            _ => format!(
                "the proxy refuses to connect to {target} ({status}): check `proxy` of \
                 [server.{server}]"
            ),
        }
    }

    /// The status of the proxy's response to `CONNECT`, if it can be learned.
    async fn status(&self) -> Option<u16> {
        // An encrypted proxy would require a TLS client here.
        let host = self.proxy.host_str().filter(|_| self.proxy.scheme() == "http")?;
        let host = host.trim_matches(['[', ']']);
        let mut proxy =
            TcpStream::connect((host, self.proxy.port_or_known_default()?)).await.ok()?;
        let target = &self.target;
        let authorization = self.authorization.as_ref().map_or_else(String::new, |value| {
            format!("Proxy-Authorization: {}\r\n", value.as_str())
        });
        let request = Zeroizing::new(format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n"
        ));
        proxy.write_all(request.as_bytes()).await.ok()?;
        let mut head = Vec::new();
        while !head.contains(&b'\n') && head.len() < MAX_HEAD_BYTES {
            if proxy.read_buf(&mut head).await.ok()? == 0 {
                break;
            }
        }
        let line = std::str::from_utf8(head.split(|byte| *byte == b'\n').next()?).ok()?;
        let status = line.strip_prefix("HTTP/1.")?.split_ascii_whitespace().nth(1)?;
        status.parse().ok().filter(|status| (300..600).contains(status))
    }
}

/// What the HTTP library reports about a refused tunnel.
enum Refused {
    Authorization,
    Otherwise,
}

fn refused(error: &reqwest::Error) -> Option<Refused> {
    let mut cause = error.source();
    while let Some(error) = cause {
        // The library does not export the type.
        match error.to_string().as_str() {
            "tunnel error: proxy authorization required" => return Some(Refused::Authorization),
            "tunnel error: unsuccessful" => return Some(Refused::Otherwise),
            _ => cause = error.source(),
        }
    }
    None
}
